/* amx: sums[k][pixel] (+)= sum over steps, products (i, j), channels c of w_i[k][c] * x_j[c][pixel].
 *
 * Operands are sums of parts in bfloat16, v = v_1 + v_2 + .., each the rest rounded to nearest: three have all 24 bits of a
 * float. Products of parts i + j <= 4 are six, and leave out 2^-24 |w||x|; i, j <= 2 are four (2^-16), i + j <= 3 are
 * three (2^-15).
 *
 * x     a tile of 16 pixels, each 32 channels side by side: a line of cache, so that any pixel begins a tile and none
 *       straddles lines (no window is copied)                     tiles 4, 5
 * w     a tile of 16 pairs of channels, each 16 filters of 2      tiles 6, 7
 * sums  16 pixels by 16 filters                                   tiles 0 to 3
 *
 * Products come in an order in which each takes over one operand of the one before: 14, 10, 8 and 4 tiles are read for 24,
 * 16, 12 and 4 products. With pixels across a tile, pairs of channels down it, nothing had to be turned; but a tile that
 * begins amid a line took twice as long to load (Emerald Rapids: 10.4 ns a product instead of 7.6; 6.9 without loads).
 *
 * amx.inc is compiled twice: for tiles of AMX, and for tiles in memory multiplied by `dot` below. TDPBF16PS (Intel, Software
 * Developer's Manual, volume 2): even and odd channels have a sum each, of fused products in order, from 0; their sum is
 * added to the tile's. All that is rounded is rounded to nearest even; subnormal numbers are 0, read and written.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "amx.h"

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
static void dot(tile *sums, const tile *x, const tile *w)
{
    float even[SIDE][SIDE], odd[SIDE][SIDE];
    for (int pair = 0; pair < SIDE; pair++)
        for (int k = 0; k < SIDE; k++) {
            even[pair][k] = widened(w->parts[pair][2 * k]);
            odd[pair][k] = widened(w->parts[pair][2 * k + 1]);
        }
    for (int i = 0; i < SIDE; i++) {
        float sum[SIDE] = {0}, sum_odd[SIDE] = {0};
        for (int pair = 0; pair < SIDE; pair++) {
            const double a = widened(x->parts[i][2 * pair]), b = widened(x->parts[i][2 * pair + 1]);
            for (int k = 0; k < SIDE; k++) {
                sum[k] = rounded(sum[k] + a * even[pair][k]);
                sum_odd[k] = rounded(sum_odd[k] + b * odd[pair][k]);
            }
        }
        for (int k = 0; k < SIDE; k++) {
            const float both = rounded((double)sum[k] + sum_odd[k]);
            sums->sums[i][k] = rounded(rounded(sums->sums[i][k]) + (double)both);
        }
    }
}

#define NAME(x) x##_emulated
#define TARGET
#define TILES tile t[8];
#define TILE_ZERO(i) memset(t + i, 0, TILE)
#define TILE_LOAD(i, from) memcpy(t + i, from, TILE)
#define TILE_STORE(i, to) memcpy(to, t + i, TILE)
#define TILE_DOT(i, x, w) dot(t + i, t + x, t + w)
#include "amx.inc"

/* ---- tiles of AMX ----------------------------------------------------------------------------*/

#ifdef HARDWARE
#define WITH_TILES __attribute__((target("amx-tile,amx-bf16")))
#define NAME(x) x##_hardware
#define TARGET WITH_TILES
#define TILES tile *const t = NULL;
#define TILE_ZERO(i) _tile_zero(i)
#define TILE_LOAD(i, from) _tile_loadd(i, from, ROW)
#define TILE_STORE(i, to) _tile_stored(i, to, ROW)
#define TILE_DOT(i, x, w) _tile_dpbf16ps(i, x, w)
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

/* The upper half is v rounded to bfloat16, to nearest and from the middle away from 0, which is as near as to even and
 * takes two instructions; the lower half is 0. A NaN from LARGE_NAN on would become 0. */
typedef enum { INFINITE = 0x7f800000, LARGE_NAN = 0x7fff8000 } amx_bits;
FC_INLINE uint32_t part_of(float v)
{
    return (bits_of(v) + 0x8000) & 0xffff0000;
}

/* fc_amx_range of each lane: their minimum and maximum are found in the end. */
typedef struct {
    uint32_t least[SIDE], most[SIDE];
} ranges;

static void take_in(const ranges *r, fc_amx_range *seen)
{
    for (int i = 0; i < SIDE; i++) {
        seen->least = seen->least < r->least[i] ? seen->least : r->least[i];
        seen->most = seen->most > r->most[i] ? seen->most : r->most[i];
    }
}

/* y[part][i] = the parts of a[i] and b[i]. `nans`: there may be large ones. */
FC_INLINE void split_into(const float *a, const float *b, int64_t parts, int nans, char *y, int64_t y_part, ranges *seen)
{
    uint32_t *restrict const first = (uint32_t *)y, *restrict const second = (uint32_t *)(y + y_part),
             *restrict const third = (uint32_t *)(y + 2 * y_part);
    for (int i = 0; i < SIDE; i++) {
        float v = a[i], z = b[i];
        uint32_t least = seen->least[i], most = seen->most[i];
        const uint32_t of_v = bits_of(v) & INT32_MAX, of_z = bits_of(z) & INT32_MAX;
        most = most > of_v ? most : of_v;
        most = most > of_z ? most : of_z;
        least = least < of_v - 1 ? least : of_v - 1;
        least = least < of_z - 1 ? least : of_z - 1;
        seen->least[i] = least, seen->most[i] = most;
        if (nans && of_v > INFINITE) v = float_of(INFINITE + 1);
        if (nans && of_z > INFINITE) z = float_of(INFINITE + 1);
        uint32_t part = part_of(v), part_z = part_of(z);
        first[i] = part >> 16 | part_z;
        if (parts == 1) continue;
        v -= float_of(part), z -= float_of(part_z);
        part = part_of(v), part_z = part_of(z);
        second[i] = part >> 16 | part_z;
        if (parts == 2) continue;
        v -= float_of(part), z -= float_of(part_z);
        third[i] = part_of(v) >> 16 | part_of(z);
    }
}

static void split_pairs(const float *a, const float *b, int64_t parts, char *y, int64_t y_part)
{
    ranges ignored = {{0}, {0}};
    if (parts == 3) split_into(a, b, 3, 0, y, y_part, &ignored);
    else if (parts == 2) split_into(a, b, 2, 0, y, y_part, &ignored);
    else split_into(a, b, 1, 0, y, y_part, &ignored);
}

/* ---- samples ---------------------------------------------------------------------------------*/

/* Samples of a channel are asked for so many before they are split: of 32 channels at once, hardware does not. */
typedef enum { LANES = VEC_BYTES / 4, VECTORS = SIDE / LANES, AHEAD = 64 } amx_lanes;

/* Samples of a channel, 0 beyond them. */
FC_INLINE void take(int64_t count, const float *x, int64_t step, float *to)
{
    if (step == 1)
        for (int64_t v = 0; v < SIDE; v += LANES) {
            const fc_raw part = (fc_raw)fc_load_part(4, fc_lanes(4, 0, count - v), x + v);
            memcpy(to + v, &part, VEC_BYTES);
        }
    else
        for (int64_t i = 0; i < SIDE; i++) to[i] = i < count ? x[i * step] : 0;
}

FC_INLINE void split_rows(int64_t count, const float *x, int64_t step, int64_t channels, int64_t x_c, int64_t parts, int nans,
                          char *y, int64_t y_part, fc_amx_range *seen)
{
    static const float none[SIDE];
    ranges of_lanes;
    for (int i = 0; i < SIDE; i++) of_lanes.least[i] = UINT32_MAX, of_lanes.most[i] = 0;
    for (int64_t at = 0; at < count; at += SIDE) {
        const int64_t some = fc_min(SIDE, count - at);
        line pairs[FC_AMX_PARTS][SIDE] ALIGNED;
        for (int64_t pair = 0; pair < SIDE; pair++) {
            float a[SIDE] ALIGNED, b[SIDE] ALIGNED;
            const float *const from = x + 2 * pair * x_c + at * step;
            __builtin_prefetch(from + AHEAD * step);
            __builtin_prefetch(from + x_c + AHEAD * step);
            if (2 * pair < channels) take(some, from, step, a);
            if (2 * pair + 1 < channels) take(some, from + x_c, step, b);
            split_into(2 * pair < channels ? a : none, 2 * pair + 1 < channels ? b : none, parts, nans,
                       (char *)&pairs[0][pair], sizeof pairs[0], &of_lanes);
        }
        for (int64_t part = 0; part < parts; part++) {
            line rows[SIDE] ALIGNED;
            turn(pairs[part], rows);
            char *const to = y + part * y_part + at * ROW;
            if (some == SIDE)
                memcpy(to, rows, TILE);
            else
                for (int64_t i = 0; i < some; i++) memcpy(to + i * ROW, rows + i, ROW);
        }
    }
    take_in(&of_lanes, seen);
}

static void split(int64_t count, const float *x, int64_t step, int64_t channels, int64_t x_c, int64_t parts, char *y,
                  int64_t y_part, fc_amx_range *seen)
{
    if (parts == 3) split_rows(count, x, step, channels, x_c, 3, 0, y, y_part, seen);
    else if (parts == 2) split_rows(count, x, step, channels, x_c, 2, 0, y, y_part, seen);
    else split_rows(count, x, step, channels, x_c, 1, 0, y, y_part, seen);
    if (seen->most >= LARGE_NAN) split_rows(count, x, step, channels, x_c, parts, 1, y, y_part, seen);
}

/* ---- sums ------------------------------------------------------------------------------------*/

typedef vec_f32 row[VECTORS]; /* a filter's pixels */

/* A run of each filter: y becomes sums, or these are added to what is in y. */
FC_INLINE void move_run(const fc_amx_tile *t, const fc_amx_run *run, row *of, float *y, int to_y)
{
    fc_mask mask[VECTORS];
    for (int64_t v = 0; v < VECTORS; v++)
        mask[v] = fc_lanes(4, run->first - v * LANES, run->first + run->count - v * LANES);
    for (int64_t k = 0; k < t->filters; k++) {
        float *const from = y + k * t->y_k + run->to - run->first * t->step;
        if (t->step == 1)
            for (int64_t v = 0; v < VECTORS; v++) {
                if (to_y) fc_store_part(4, mask[v], from + v * LANES, (__typeof__(fc_load_part(4, mask[v], y)))of[k][v]);
                else of[k][v] += (vec_f32)fc_load_part(4, mask[v], from + v * LANES);
            }
        else
            for (int64_t i = run->first; i < run->first + run->count; i++) {
                if (to_y) from[i * t->step] = of[k][i / LANES][i % LANES];
                else of[k][i / LANES][i % LANES] += from[i * t->step];
            }
    }
}

/* `store` of 16 filters, side by side, in registers: sums that are not added to others, and of any size. */
FC_INLINE int store_whole(const fc_amx_tile *t, float *y)
{
    typedef float floats __attribute__((vector_size(ROW), aligned(4), may_alias));
    line r[SIDE];
    turn(t->sums, r);
    floats products[4] = {{0}}; /* with 0: NaN where a sum is not finite */
    for (int i = 0; i < SIDE; i++) products[i % 4] += *(const floats *)(t->sums + i * SIDE) * 0;
    products[0] += products[1] + (products[2] + products[3]);
    float all = 0;
    for (int i = 0; i < SIDE; i++) all += products[0][i];
    const int doubt = all != 0;
    if (t->last && t->bias && !doubt)
        for (int k = 0; k < SIDE; k++) r[k] = (line)((floats)r[k] + t->bias[k]);
    for (const fc_amx_run *run = t->runs; run < t->runs + t->count; run++)
        for (int64_t v = 0; v < VECTORS; v++) {
            const fc_mask mask = fc_lanes(4, run->first - v * LANES, run->first + run->count - v * LANES);
            float *const to = y + run->to - run->first + v * LANES;
#pragma GCC unroll 16
            for (int k = 0; k < SIDE; k++) {
                __typeof__(fc_load_part(4, mask, to)) part;
                memcpy(&part, (const char *)(r + k) + v * VEC_BYTES, VEC_BYTES);
                fc_store_part(4, mask, to + k * t->y_k, part);
            }
        }
    return doubt;
}

static int store(const fc_amx_tile *t, float *y)
{
    if (t->filters == SIDE && t->step == 1 && !t->accumulate && !t->limit) return store_whole(t, y);
    line lines[SIDE] ALIGNED;
    turn(t->sums, lines);
    row *const of = (row *)lines;
    for (int64_t r = 0; r < t->count && t->accumulate; r++) move_run(t, t->runs + r, of, y, 0);
    uint32_t doubt = 0, most[SIDE] = {0}; /* NaN is larger than Inf, as integers are */
    for (int64_t k = 0; k < t->filters && t->last; k++)
        if (t->limit)
            for (int64_t v = 0; v < VECTORS; v++)
                doubt |= vec_outside_f32(of[k][v], t->limit[k] - (vec_f32){0}, FLT_MAX);
        else
            for (int i = 0; i < SIDE; i++) {
                const uint32_t size = lines[k][i] & INT32_MAX;
                most[i] = most[i] > size ? most[i] : size;
            }
    for (int i = 0; i < SIDE; i++) doubt |= most[i] >= INFINITE;
    for (int64_t k = 0; k < t->filters && t->last && t->bias && !doubt; k++)
        for (int64_t v = 0; v < VECTORS; v++) of[k][v] += t->bias[k];
    for (int64_t r = 0; r < t->count; r++) move_run(t, t->runs + r, of, y, 1);
    return doubt != 0;
}

const fc_amx FC_NAME(fc_amx_bf16) = {sum_emulated, sum_hardware, enter, leave, split_pairs, split, store};
