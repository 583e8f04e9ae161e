/* amx: sums[k][pixel] (+)= sum over steps, products (i, j), channels c of w_i[k][c] * x_j[c][pixel].
 *
 * Operands are sums of parts in bfloat16, v = v_1 + v_2 + .., each the rest rounded to nearest: three have all 24 bits of a
 * float. Products of parts i + j <= 4 are six, and leave out 2^-24 |w||x|; i, j <= 2 are four (2^-16), i + j <= 3 are
 * three (2^-15).
 *
 * w  a tile of 16 filters, each 32 channels                        tiles 4, 5
 * x  a tile of 16 pairs of channels, each 16 pixels of 2           tiles 6, 7: pairs are planes that lie x_row apart, so
 *    that any pixel begins a tile (no window is copied)
 * sums  16 filters by 16 pixels                                    tiles 0 to 3
 *
 * Products come in an order in which each takes over one operand of the one before: 14, 10 and 8 tiles are read for 24, 16
 * and 12 products.
 *
 * amx.inc is compiled twice: for tiles of AMX, and for tiles in memory multiplied by `dot` below. TDPBF16PS (Intel, Software
 * Developer's Manual, volume 2): even and odd channels have a sum each, of fused products in order, from 0; their sum is
 * added to the tile's. All that is rounded is rounded to nearest even; subnormal numbers are 0, read and written.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "vec.h"

#if defined(FC_ISA_avx512) && defined(__x86_64__) && defined(__linux__) && \
    (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define HARDWARE
#endif

typedef enum { SIDE = FC_AMX_SIDE, TILE = FC_AMX_TILE, ROW = 64 } amx_size; /* pixels; bytes of a tile, and of a row */

typedef union {
    float sums[SIDE][SIDE];
    uint16_t parts[SIDE][2 * SIDE];
} tile;

/* ---- tiles in memory -------------------------------------------------------------------------*/

/* Rounded to float, and 0 if that is subnormal: less than half an ulp below the smallest normal number is not. */
FC_INLINE float rounded(double v)
{
    return (float)(fabs(v) < 0x1.ffffffp-127 ? v * 0.0 : v);
}

FC_INLINE float widened(uint16_t part)
{
    const uint32_t bits = (uint32_t)(part & 0x7f80 ? part : part & 0x8000) << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* A product of parts has 16 bits and is exact in double, and a sum that double rounds is of terms 2^29 apart, nowhere near
 * the middle between two floats: rounding to float once more gives what one rounding does. */
static void dot(tile *sums, const tile *w, const tile *x)
{
    float even[SIDE][SIDE], odd[SIDE][SIDE];
    for (int pair = 0; pair < SIDE; pair++)
        for (int j = 0; j < SIDE; j++) {
            even[pair][j] = widened(x->parts[pair][2 * j]);
            odd[pair][j] = widened(x->parts[pair][2 * j + 1]);
        }
    for (int k = 0; k < SIDE; k++) {
        float sum[SIDE] = {0}, sum_odd[SIDE] = {0};
        for (int pair = 0; pair < SIDE; pair++) {
            const double a = widened(w->parts[k][2 * pair]), b = widened(w->parts[k][2 * pair + 1]);
            for (int j = 0; j < SIDE; j++) {
                sum[j] = rounded(sum[j] + a * even[pair][j]);
                sum_odd[j] = rounded(sum_odd[j] + b * odd[pair][j]);
            }
        }
        for (int j = 0; j < SIDE; j++) {
            const float both = rounded((double)sum[j] + sum_odd[j]);
            sums->sums[k][j] = rounded(rounded(sums->sums[k][j]) + (double)both);
        }
    }
}

static void load(tile *t, const void *from, int64_t step)
{
    for (int64_t i = 0; i < SIDE; i++) memcpy(t->sums[i], (const char *)from + i * step, ROW);
}

static void store(const tile *t, void *to, int64_t step)
{
    for (int64_t i = 0; i < SIDE; i++) memcpy((char *)to + i * step, t->sums[i], ROW);
}

#define NAME(x) x##_emulated
#define TARGET
#define TILES tile t[8];
#define TILE_ZERO(i) memset(t + i, 0, TILE)
#define TILE_LOAD(i, from, step) load(t + i, from, step)
#define TILE_STORE(i, to, step) store(t + i, to, step)
#define TILE_DOT(i, w, x) dot(t + i, t + w, t + x)
#include "amx.inc"

/* ---- tiles of AMX ----------------------------------------------------------------------------*/

#ifdef HARDWARE
#define WITH_TILES __attribute__((target("amx-tile,amx-bf16")))
#define NAME(x) x##_hardware
#define TARGET WITH_TILES
#define TILES tile *const t = NULL;
#define TILE_ZERO(i) _tile_zero(i)
#define TILE_LOAD(i, from, step) _tile_loadd(i, from, step)
#define TILE_STORE(i, to, step) _tile_stored(i, to, step)
#define TILE_DOT(i, w, x) _tile_dpbf16ps(i, w, x)
#include "amx.inc"

/* Palette 1: 8 tiles of 16 rows of 64 bytes. */
static const fc_amx_state full = {{
    1, [16] = ROW, [18] = ROW, [20] = ROW, [22] = ROW, [24] = ROW, [26] = ROW, [28] = ROW, [30] = ROW,
    [48] = SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE,
}};

/* Not by intrinsics, which tell GCC of the first 8 bytes alone. */
static WITH_TILES void enter(fc_amx_state *before)
{
    __asm__ volatile("sttilecfg %0" : "=m"(*before));
    __asm__ volatile("ldtilecfg %0" : : "m"(full));
}

static WITH_TILES void leave(const fc_amx_state *before)
{
    if (before->config[0])
        __asm__ volatile("ldtilecfg %0" : : "m"(*before));
    else
        __asm__ volatile("tilerelease");
}
#else
#define sum_hardware NULL
#define enter NULL
#define leave NULL
#endif

/* ---- to parts and from sums ------------------------------------------------------------------*/

FC_INLINE uint32_t bits_of(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

FC_INLINE float float_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The upper half is v rounded to bfloat16, to nearest even, or NaN where v is not finite; the lower half is 0. */
FC_INLINE uint32_t part_of(float v)
{
    const uint32_t bits = bits_of(v), near = bits + 0x7fff + (bits >> 16 & 1);
    return ((bits & 0x7f800000) == 0x7f800000 ? bits | 0x400000 : near) & 0xffff0000;
}

/* b's samples count as far as `odd`, all ones or 0, says. */
FC_INLINE void split_pairs(int64_t count, const float *a, const float *b, uint32_t odd, int64_t step, int64_t parts,
                           char *y, int64_t y_part, fc_amx_range *seen)
{
    uint32_t *restrict const first = (uint32_t *)y, *restrict const second = (uint32_t *)(y + y_part),
             *restrict const third = (uint32_t *)(y + 2 * y_part);
    uint32_t least = seen->least, most = seen->most;
    for (int64_t i = 0; i < count; i++) {
        float v = a[i * step], z = float_of(bits_of(b[i * step]) & odd);
        const uint32_t of_v = bits_of(v) & INT32_MAX, of_z = bits_of(z) & INT32_MAX;
        most = most > of_v ? most : of_v;
        most = most > of_z ? most : of_z;
        least = least < of_v - 1 ? least : of_v - 1;
        least = least < of_z - 1 ? least : of_z - 1;
        uint32_t part = part_of(v), part_z = part_of(z);
        first[i] = part >> 16 | part_z;
        v -= float_of(part), z -= float_of(part_z);
        part = part_of(v), part_z = part_of(z);
        second[i] = part >> 16 | part_z;
        if (parts == 2) continue;
        v -= float_of(part), z -= float_of(part_z);
        third[i] = part_of(v) >> 16 | part_of(z);
    }
    *seen = (fc_amx_range){least, most};
}

static void split(int64_t count, const float *a, const float *b, int64_t step, int64_t parts, char *y, int64_t y_part,
                  fc_amx_range *seen)
{
    const uint32_t odd = b ? UINT32_MAX : 0;
    if (!b) b = a;
    if (step == 1 && parts == 3) split_pairs(count, a, b, odd, 1, 3, y, y_part, seen);
    else if (step == 1) split_pairs(count, a, b, odd, 1, 2, y, y_part, seen);
    else if (step == 2 && parts == 3) split_pairs(count, a, b, odd, 2, 3, y, y_part, seen);
    else if (step == 2) split_pairs(count, a, b, odd, 2, 2, y, y_part, seen);
    else split_pairs(count, a, b, odd, step, parts, y, y_part, seen);
}

/* A run of pixels within a tile. */
FC_INLINE int add_run(int64_t count, const float *sums, float *y, int64_t step, int accumulate, float limit)
{
    int doubt = 0;
    for (int64_t i = 0; i < count; i++) {
        const float v = accumulate ? y[i * step] + sums[i] : sums[i];
        y[i * step] = v;
        doubt |= !(fabsf(v) >= limit && fabsf(v) <= FLT_MAX);
    }
    return doubt;
}

static int add(int64_t count, const float *sums, int64_t at, int64_t next, float *y, int64_t step, int accumulate,
               float limit)
{
    int doubt = 0;
    for (int64_t i = 0, run; i < count; i += run) {
        const int64_t pixel = at + i, in_tile = pixel % SIDE;
        const float *const from = sums + pixel / (2 * SIDE) * next + pixel / SIDE % 2 * SIDE * SIDE + in_tile;
        run = fc_min(count - i, SIDE - in_tile);
        float *const to = y + i * step;
        if (step == 1 && run == SIDE)
            doubt |= add_run(SIDE, from, to, 1, accumulate, limit);
        else
            doubt |= add_run(run, from, to, step, accumulate, limit);
    }
    return doubt;
}

static void bias(int64_t count, float *y, int64_t step, float bias)
{
    for (int64_t i = 0; i < count; i++) y[i * step] += bias;
}

const fc_amx FC_NAME(fc_amx_bf16) = {sum_emulated, sum_hardware, enter, leave, split, add, bias};
