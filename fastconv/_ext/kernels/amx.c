/* amx: sums[pixel][k] = sum over steps, products (i, j), channels c of w_i[k][c] * x_j[c][pixel].
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
 * Across, x and w change roles, and sums are 16 filters by 16 pixels, as y is: neither samples nor sums are turned, but a
 * tile that begins amid a line straddles lines. That suits 1x1 layers, whose tiles begin where lines do.
 *
 * Products come in an order in which each takes over one operand of the one before: 14, 10, 8 and 4 tiles are read for 24,
 * 16, 12 and 4 products. (Emerald Rapids, ns a product: 6.9 without loads, 7.6 of three, 10.4 of three with tiles of 3x3
 * that straddle lines.)
 *
 * amx.inc is compiled twice: for tiles of AMX, and for tiles in memory multiplied by `dot` below. TDPBF16PS (Intel, Software
 * Developer's Manual, volume 2): even and odd channels have a sum each, of fused products in order, from 0; their sum is
 * added to the tile's. All that is rounded is rounded to nearest even; subnormal numbers are 0, read and written.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "amx.h"
#include "float16.h"

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

static void load(tile *t, const void *from, int64_t step)
{
    for (int64_t i = 0; i < SIDE; i++) memcpy(t->sums[i], (const char *)from + i * step, ROW);
}

#define NAME(x) x##_emulated
#define TARGET
#define TILES tile t[8];
#define TILE_ZERO(i) memset(t + i, 0, TILE)
#define TILE_LOAD(i, from, step) load(t + i, from, step)
#define TILE_STORE(i, to, step) put_rows(t + i, to, step)
#define TILE_DOT(i, a, b) dot(t + i, t + a, t + b)
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
#define TILE_DOT(i, a, b) _tile_dpbf16ps(i, a, b)
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

/* Parts of two samples, beside each other. `nans`: there may be large ones. Samples that were float16 (`half`) have two parts at
 * most, of which the second is NaN where the sample is; the least of them is not looked for. */
typedef struct {
    uint32_t first, second, third;
} pair;

FC_INLINE pair pair_of(float v, float z, int half, int nans, uint32_t *least, uint32_t *most)
{
    const uint32_t of_v = bits_of(v) & INT32_MAX, of_z = bits_of(z) & INT32_MAX;
    *most = *most > of_v ? *most : of_v;
    *most = *most > of_z ? *most : of_z;
    if (!half) {
        *least = *least < of_v - 1 ? *least : of_v - 1;
        *least = *least < of_z - 1 ? *least : of_z - 1;
    }
    if (nans && of_v > INFINITE) v = float_of(INFINITE + 1);
    if (nans && of_z > INFINITE) z = float_of(INFINITE + 1);
    pair p;
    uint32_t part = part_of(v), part_z = part_of(z);
    p.first = part >> 16 | part_z;
    v -= float_of(part), z -= float_of(part_z);
    if (half) {
        p.second = bits_of(v) >> 16 | (bits_of(z) & 0xffff0000), p.third = 0;
        return p;
    }
    part = part_of(v), part_z = part_of(z);
    p.second = part >> 16 | part_z;
    v -= float_of(part), z -= float_of(part_z);
    p.third = part_of(v) >> 16 | part_of(z);
    return p;
}

/* fc_amx_range of each lane: their minimum and maximum are found in the end. */
typedef struct {
    uint32_t least[SIDE], most[SIDE];
} ranges;

static void take_in(const ranges *r, int half, fc_amx_range *seen)
{
    for (int i = 0; i < SIDE; i++) {
        seen->least = seen->least < r->least[i] ? seen->least : r->least[i];
        seen->most = seen->most > r->most[i] ? seen->most : r->most[i];
    }
    if (half && seen->most) seen->least = bits_of(0x1p-24f) - 1;
}

/* y[part][i] = the parts of a[i] and b[i]. */
FC_INLINE void split_into(const float *a, const float *b, int half, int64_t parts, int nans, char *y, int64_t y_part, ranges *seen)
{
    uint32_t *restrict const first = (uint32_t *)y, *restrict const second = (uint32_t *)(y + y_part),
             *restrict const third = (uint32_t *)(y + 2 * y_part);
    for (int i = 0; i < SIDE; i++) {
        const pair p = pair_of(a[i], b[i], half, nans, seen->least + i, seen->most + i);
        first[i] = p.first;
        if (parts > 1) second[i] = p.second;
        if (parts > 2) third[i] = p.third;
    }
}

static void split_pairs(const float *a, const float *b, int64_t parts, char *y, int64_t y_part)
{
    ranges ignored = {{0}, {0}};
    if (parts == 3) split_into(a, b, 0, 3, 0, y, y_part, &ignored);
    else if (parts == 2) split_into(a, b, 0, 2, 0, y, y_part, &ignored);
    else split_into(a, b, 0, 1, 0, y, y_part, &ignored);
}

/* ---- samples ---------------------------------------------------------------------------------*/

typedef uint16_t halves __attribute__((vector_size(ROW), aligned(4), may_alias));

/* The upper halves of the words of a, then those of b. */
FC_INLINE void upper_halves(const line *a, const line *b, line *both)
{
#if defined(FC_ISA_avx512)
    static const uint16_t odd[2 * SIDE] ALIGNED = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                   33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    *both = (line)FC_SHUFFLE(*(const halves *)a, *(const halves *)b, *(const halves *)odd);
#else
    uint16_t halves[2 * SIDE] ALIGNED;
    for (int i = 0; i < SIDE; i++) halves[i] = (uint16_t)((*a)[i] >> 16), halves[SIDE + i] = (uint16_t)((*b)[i] >> 16);
    memcpy(both, halves, ROW);
#endif
}

/* Samples of float16, made float; 0 beyond them. */
FC_INLINE void take_halves(int64_t count, const uint16_t *x, int64_t step, float *to)
{
#if defined(FC_ISA_avx512)
    if (step == 1) {
        _mm512_store_ps(to, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(fc_lanes(4, 0, count), x)));
        return;
    }
    if (step == 2) { /* the last of these is a word's lower half, and what is above it is not read */
        const __mmask32 mask = (__mmask32)((((uint64_t)1 << 2 * fc_min(count, SIDE)) - 1) >> 1);
        _mm512_store_ps(to, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_maskz_loadu_epi16(mask, x))));
        return;
    }
#endif
    uint16_t some[SIDE] = {0};
    for (int64_t i = 0; i < fc_min(count, SIDE); i++) some[i] = x[i * step];
    fc_widen_16(some, to);
}

/* Samples of either kind, `at` elements on. */
FC_INLINE void take(int half, int64_t count, const void *x, int64_t at, int64_t step, float *to)
{
    if (half) take_halves(count, (const uint16_t *)x + at, step, to);
    else take_floats(count, (const float *)x + at, step, to);
}

FC_INLINE void split_rows(int64_t count, const void *x, int half, int64_t step, int64_t channels, int64_t x_c, int64_t parts,
                          int nans, char *y, int64_t y_part, fc_amx_range *seen)
{
    static const float none[SIDE];
    const int64_t bytes = half ? 2 : 4;
    ranges of_lanes;
    for (int i = 0; i < SIDE; i++) of_lanes.least[i] = UINT32_MAX, of_lanes.most[i] = 0;
    for (int64_t at = 0; at < count; at += SIDE) {
        const int64_t some = fc_min(SIDE, count - at);
        line pairs[FC_AMX_PARTS][SIDE] ALIGNED;
        for (int64_t pair = 0; pair < SIDE; pair++) {
            float a[SIDE] ALIGNED, b[SIDE] ALIGNED;
            const int64_t from = 2 * pair * x_c + at * step;
            __builtin_prefetch((const char *)x + (from + AHEAD * step) * bytes);
            __builtin_prefetch((const char *)x + (from + x_c + AHEAD * step) * bytes);
            if (2 * pair < channels) take(half, some, x, from, step, a);
            if (2 * pair + 1 < channels) take(half, some, x, from + x_c, step, b);
            split_into(2 * pair < channels ? a : none, 2 * pair + 1 < channels ? b : none, half, parts, nans,
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
    take_in(&of_lanes, half, seen);
}

/* Of channels that lie side by side, 16 words: their parts in the upper halves. */
FC_INLINE void part_words(int64_t channels, const void *x, int64_t at, int half, int64_t parts, int nans, line *of, ranges *seen)
{
    float v[SIDE] ALIGNED;
    take(half, channels, x, at, 1, v);
    for (int i = 0; i < SIDE; i++) {
        const uint32_t size = bits_of(v[i]) & INT32_MAX;
        seen->most[i] = seen->most[i] > size ? seen->most[i] : size;
        if (!half) seen->least[i] = seen->least[i] < size - 1 ? seen->least[i] : size - 1;
        float rest = nans && size > INFINITE ? float_of(INFINITE + 1) : v[i];
        for (int64_t part = 0; part < parts; part++) {
            const uint32_t bits = half && part ? bits_of(rest) : part_of(rest);
            of[part][i] = bits;
            rest -= float_of(bits);
        }
    }
}

FC_INLINE void split_lines(int64_t count, const void *x, int half, int64_t step, int64_t channels, int64_t parts, int nans,
                           char *y, int64_t y_part, fc_amx_range *seen)
{
    ranges of_lanes;
    for (int i = 0; i < SIDE; i++) of_lanes.least[i] = UINT32_MAX, of_lanes.most[i] = 0;
    for (int64_t at = 0; at < count; at++) {
        line low[FC_AMX_PARTS] ALIGNED, high[FC_AMX_PARTS] ALIGNED;
        part_words(channels, x, at * step, half, parts, nans, low, &of_lanes);
        part_words(channels - SIDE, x, at * step + SIDE, half, parts, nans, high, &of_lanes);
        for (int64_t part = 0; part < parts; part++)
            upper_halves(low + part, high + part, (line *)(y + part * y_part + at * ROW));
    }
    take_in(&of_lanes, half, seen);
}

FC_INLINE void split_lines_in(int64_t count, const void *x, int half, int64_t step, int64_t channels, int64_t parts, char *y,
                              int64_t y_part, fc_amx_range *seen)
{
    if (parts == 3) split_lines(count, x, half, step, channels, 3, 0, y, y_part, seen);
    else if (parts == 2) split_lines(count, x, half, step, channels, 2, 0, y, y_part, seen);
    else split_lines(count, x, half, step, channels, 1, 0, y, y_part, seen);
    if (!half && seen->most >= LARGE_NAN) split_lines(count, x, 0, step, channels, parts, 1, y, y_part, seen);
}

FC_INLINE void split_rows_in(int64_t count, const void *x, int half, int64_t step, int64_t channels, int64_t x_c,
                             int64_t parts, char *y, int64_t y_part, fc_amx_range *seen)
{
    if (parts == 3) split_rows(count, x, half, step, channels, x_c, 3, 0, y, y_part, seen);
    else if (parts == 2) split_rows(count, x, half, step, channels, x_c, 2, 0, y, y_part, seen);
    else split_rows(count, x, half, step, channels, x_c, 1, 0, y, y_part, seen);
    if (!half && seen->most >= LARGE_NAN) split_rows(count, x, 0, step, channels, x_c, parts, 1, y, y_part, seen);
}

static void split_floats(int64_t count, const void *x, int64_t step, int64_t channels, int64_t x_c, int64_t parts, char *y,
                         int64_t y_part, fc_amx_range *seen)
{
    if (x_c == 1) split_lines_in(count, x, 0, step, channels, parts, y, y_part, seen);
    else split_rows_in(count, x, 0, step, channels, x_c, parts, y, y_part, seen);
}

static void split_halves(int64_t count, const void *x, int64_t step, int64_t channels, int64_t x_c, int64_t parts, char *y,
                         int64_t y_part, fc_amx_range *seen)
{
    if (x_c == 1) split_lines_in(count, x, 1, step, channels, parts, y, y_part, seen);
    else if (step == 1) split_rows_in(count, x, 1, 1, channels, x_c, parts, y, y_part, seen);
    else split_rows_in(count, x, 1, step, channels, x_c, parts, y, y_part, seen);
}

/* Pairs of samples that stay as they lie: `odd` masks those of b. */
FC_INLINE void split_run(int64_t count, const float *a, const float *b, uint32_t odd, int64_t step, int64_t parts, int nans,
                         char *y, int64_t y_part, fc_amx_range *seen)
{
    uint32_t *restrict const first = (uint32_t *)y, *restrict const second = (uint32_t *)(y + y_part),
             *restrict const third = (uint32_t *)(y + 2 * y_part);
    uint32_t least = seen->least, most = seen->most;
    for (int64_t i = 0; i < count; i++) {
        const pair p = pair_of(a[i * step], float_of(bits_of(b[i * step]) & odd), 0, nans, &least, &most);
        first[i] = p.first;
        if (parts > 1) second[i] = p.second;
        if (parts > 2) third[i] = p.third;
    }
    *seen = (fc_amx_range){least, most};
}

static void split_floats_across(int64_t count, const void *of_even, const void *of_odd, int64_t step, int64_t parts, char *y,
                                int64_t y_part, fc_amx_range *seen)
{
    const uint32_t odd = of_odd ? UINT32_MAX : 0;
    const float *const a = of_even, *const b = of_odd ? of_odd : of_even;
    if (step == 1 && parts == 3) split_run(count, a, b, odd, 1, 3, 0, y, y_part, seen);
    else if (step == 1 && parts == 2) split_run(count, a, b, odd, 1, 2, 0, y, y_part, seen);
    else split_run(count, a, b, odd, step, parts, 0, y, y_part, seen);
    if (seen->most >= LARGE_NAN) split_run(count, a, b, odd, step, parts, 1, y, y_part, seen);
}

FC_INLINE void split_half_pairs(int64_t count, const uint16_t *a, const uint16_t *b, int64_t step, int64_t parts, char *y,
                                int64_t y_part, ranges *seen)
{
    float even[SIDE] ALIGNED, odd[SIDE] ALIGNED;
    line pairs[FC_AMX_PARTS] ALIGNED;
    take_halves(count, a, step, even);
    take_halves(b ? count : 0, b ? b : a, step, odd);
    if (count == SIDE) {
        split_into(even, odd, 1, parts, 0, y, y_part, seen);
        return;
    }
    split_into(even, odd, 1, parts, 0, (char *)pairs, ROW, seen);
    for (int64_t part = 0; part < parts; part++) memcpy(y + part * y_part, pairs + part, (size_t)count * 4);
}

FC_INLINE void split_half_run(int64_t count, const uint16_t *a, const uint16_t *b, int64_t step, int64_t parts, char *y,
                              int64_t y_part, fc_amx_range *seen)
{
    ranges of_lanes;
    int64_t at = 0;
    for (int i = 0; i < SIDE; i++) of_lanes.least[i] = UINT32_MAX, of_lanes.most[i] = 0;
    for (; at + SIDE <= count; at += SIDE)
        split_half_pairs(SIDE, a + at * step, b ? b + at * step : NULL, step, parts, y + at * 4, y_part, &of_lanes);
    if (at < count)
        split_half_pairs(count - at, a + at * step, b ? b + at * step : NULL, step, parts, y + at * 4, y_part, &of_lanes);
    take_in(&of_lanes, 1, seen);
}

static void split_halves_across(int64_t count, const void *a, const void *b, int64_t step, int64_t parts, char *y,
                                int64_t y_part, fc_amx_range *seen)
{
    if (b && step == 1 && parts == 2) split_half_run(count, a, b, 1, 2, y, y_part, seen);
    else split_half_run(count, a, b, step, parts, y, y_part, seen);
}

/* ---- samples that are bfloat16 ---------------------------------------------------------------*/

/* Of each lane all ones less the least size but 0 less 1, and the largest size, of 16 bits. */
typedef struct {
    halves above, most;
} half_ranges;

FC_INLINE void enlarge(halves *a, const halves *b)
{
#if defined(FC_ISA_avx512)
    *a = (halves)_mm512_max_epu16((__m512i)*a, (__m512i)*b);
#else
    const halves is = (halves)(*a > *b);
    *a = (*a & is) | (*b & ~is);
#endif
}

FC_INLINE void take_in_halves(const halves *v, half_ranges *seen)
{
    const halves size = *v & INT16_MAX, less = ~(size - 1);
    enlarge(&seen->most, &size);
    enlarge(&seen->above, &less);
}

/* Samples of channels a and b beside each other, 0 from `count` > 0 on; b is not there if NULL. */
FC_INLINE void join_pair(int64_t count, const uint16_t *a, const uint16_t *b, int64_t step, line *pair)
{
#if defined(FC_ISA_avx512)
    if (step == 1) {
        const __mmask16 mask = fc_lanes(4, 0, count);
        const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, a));
        const __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(b ? mask : 0, b ? b : a));
        *pair = (line)even | (line)odd << 16;
        return;
    }
    if (step == 2) {
        const __mmask32 mask = (__mmask32)(UINT32_MAX >> (33 - 2 * fc_min(count, SIDE)));
        const line even = (line)_mm512_maskz_loadu_epi16(mask, a);
        const line odd = (line)_mm512_maskz_loadu_epi16(b ? mask : 0, b ? b : a);
        *pair = (even & 0xffff) | odd << 16;
        return;
    }
#endif
    uint32_t pairs[SIDE] ALIGNED = {0};
    for (int64_t i = 0; i < fc_min(count, SIDE); i++) pairs[i] = a[i * step] | (b ? (uint32_t)b[i * step] << 16 : 0);
    *pair = *(const line *)pairs;
}

FC_INLINE void join_rows(int64_t count, const uint16_t *x, int64_t step, int64_t channels, int64_t x_c, char *y,
                         half_ranges *seen)
{
    for (int64_t at = 0; at < count; at += SIDE) {
        const int64_t some = fc_min(SIDE, count - at);
        line pairs[SIDE] ALIGNED, rows[SIDE] ALIGNED;
        for (int64_t c = 0; c < 2 * SIDE; c += 2) {
            const uint16_t *const from = x + c * x_c + at * step;
            __builtin_prefetch(from + AHEAD * step);
            __builtin_prefetch(from + x_c + AHEAD * step);
            line pair = {0};
            if (c < channels) join_pair(some, from, c + 1 < channels ? from + x_c : NULL, step, &pair);
            take_in_halves((const halves *)&pair, seen);
            pairs[c / 2] = pair;
        }
        turn(pairs, rows);
        if (some == SIDE) memcpy(y + at * ROW, rows, TILE);
        else memcpy(y + at * ROW, rows, (size_t)(some * ROW));
    }
}

/* Channels that lie side by side are a row as they are. */
FC_INLINE void join_lines(int64_t count, const uint16_t *x, int64_t step, int64_t channels, char *y, half_ranges *seen)
{
    for (int64_t at = 0; at < count; at++) {
        halves v = {0};
#if defined(FC_ISA_avx512)
        v = (halves)_mm512_maskz_loadu_epi16((__mmask32)(UINT32_MAX >> (2 * SIDE - channels)), x + at * step);
#else
        memcpy(&v, x + at * step, (size_t)channels * 2);
#endif
        take_in_halves(&v, seen);
        memcpy(y + at * ROW, &v, ROW);
    }
}

static void join(int64_t count, const uint16_t *x, int64_t step, int64_t channels, int64_t x_c, char *y,
                 fc_amx_range *seen)
{
    half_ranges of_lanes = {{0}, {0}};
    if (x_c == 1 && channels == 2 * SIDE) join_lines(count, x, step, 2 * SIDE, y, &of_lanes);
    else if (x_c == 1) join_lines(count, x, step, channels, y, &of_lanes);
    else if (step == 1) join_rows(count, x, 1, channels, x_c, y, &of_lanes);
    else if (step == 2) join_rows(count, x, 2, channels, x_c, y, &of_lanes);
    else join_rows(count, x, step, channels, x_c, y, &of_lanes);
    for (int i = 0; i < 2 * SIDE; i++) {
        const uint32_t most = (uint32_t)of_lanes.most[i] << 16;
        seen->most = seen->most > most ? seen->most : most;
        if (!of_lanes.above[i]) continue; /* zeros */
        const uint32_t least = ((UINT16_MAX - of_lanes.above[i] + 1u) << 16) - 1;
        seen->least = seen->least < least ? seen->least : least;
    }
}

static void join_across(int64_t count, const uint16_t *a, const uint16_t *b, int64_t step, char *y, fc_amx_range *seen)
{
    uint32_t *restrict const to = (uint32_t *)y;
    const uint32_t odd = b ? UINT32_MAX : 0;
    uint32_t least = seen->least, most = seen->most;
    if (!b) b = a;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t even_bits = (uint32_t)a[i * step] << 16, odd_bits = (uint32_t)b[i * step] << 16 & odd;
        const uint32_t of_even = even_bits & INT32_MAX, of_odd = odd_bits & INT32_MAX;
        most = most > of_even ? most : of_even;
        most = most > of_odd ? most : of_odd;
        least = least < of_even - 1 ? least : of_even - 1;
        least = least < of_odd - 1 ? least : of_odd - 1;
        to[i] = even_bits >> 16 | odd_bits;
    }
    *seen = (fc_amx_range){least, most};
}

/* ---- sums ------------------------------------------------------------------------------------*/

typedef float vec_row __attribute__((vector_size(ROW), aligned(4), may_alias));

FC_INLINE float *tile_of(const fc_amx_sums_f32 *t, int64_t pixels, int64_t filters)
{
    return t->sums + pixels * t->pixel_step + filters * t->filter_step;
}

/* Sums of positions from `at` on, where filters are rows, and of a position where pixels are. */
FC_INLINE float *line_of(const fc_amx_sums_f32 *t, uint64_t filter, uint64_t at)
{
    return tile_of(t, at / SIDE, filter / SIDE) + filter % SIDE * SIDE + at % SIDE;
}
FC_INLINE float *pixel_of(const fc_amx_sums_f32 *t, uint64_t at, int64_t filters)
{
    return tile_of(t, at / SIDE, filters) + at % SIDE * SIDE;
}

/* Whether a sum is not finite, or not above its filter's limit. */
static int in_doubt(const fc_amx_sums_f32 *t, int filters_are_rows)
{
    line right = ~(line){0};
    for (int64_t i = 0; i < t->tiles; i++)
        for (int64_t f = 0; f * SIDE < t->filters; f++)
            for (int r = 0; r < SIDE; r++) {
                const vec_row size = (vec_row)(*(const line *)(tile_of(t, i, f) + r * SIDE) & INT32_MAX);
                vec_row limit = t->limit[f * SIDE + r] - (vec_row){0};
                if (!filters_are_rows) limit = *(const vec_row *)(t->limit + f * SIDE);
                right &= (line)((size > limit) & (size <= FLT_MAX));
            }
    uint32_t all = UINT32_MAX;
    for (int i = 0; i < SIDE; i++) all &= right[i];
    return all != UINT32_MAX;
}

/* Runs of filters that are rows: y becomes sums, plus biases, or is added to them. */
FC_INLINE void move_lines(const fc_amx_sums_f32 *t, const float *bias, int to_y, float *y)
{
    for (int64_t k = 0; k < t->filters; k++)
        for (const fc_amx_run *run = t->runs; run < t->runs + t->count; run++) {
            const int64_t first = run->first, end = first + run->count;
            float *const at = y + k * t->y_k + run->to - first * t->step;
            if (t->step == 1)
                for (int64_t v = 0; v < 2 * SIDE; v += LANES) {
                    const fc_mask mask = fc_lanes(4, first - v, end - v);
                    vec_f32 *const of = (vec_f32 *)line_of(t, (uint64_t)k, (uint64_t) v);
                    if (to_y) fc_store_part(4, mask, at + v, (__typeof__(fc_load_part(4, mask, y)))(*of + bias[k]));
                    else *of += (vec_f32)fc_load_part(4, mask, at + v);
                }
            else
                for (int64_t i = first; i < end; i++) {
                    if (to_y) at[i * t->step] = *line_of(t, (uint64_t)k, (uint64_t) i) + bias[k];
                    else *line_of(t, (uint64_t)k, (uint64_t) i) += at[i * t->step];
                }
        }
}

/* Runs of pixels that are rows, in y too: its filters lie side by side. */
FC_INLINE void move_pixels(const fc_amx_sums_f32 *t, const float *bias, int to_y, float *y)
{
    for (const fc_amx_run *run = t->runs; run < t->runs + t->count; run++)
        for (int64_t i = 0; i < run->count; i++)
            for (int64_t v = 0; v < t->filters; v += LANES) {
                const fc_mask mask = fc_lanes(4, 0, t->filters - v);
                vec_f32 *const of = (vec_f32 *)(pixel_of(t, (uint64_t)(run->first + i), v / SIDE) + v % SIDE);
                float *const at = y + run->to + i * t->step + v;
                if (to_y) fc_store_part(4, mask, at, (__typeof__(fc_load_part(4, mask, y)))(*of + *(const vec_f32 *)(bias + v)));
                else *of += (vec_f32)fc_load_part(4, mask, at);
            }
}

/* Biases of 32 filters; -0, which leaves a sum of -0 as it is, where there are none. */
FC_INLINE void take_bias(const fc_amx_sums_f32 *t, float *bias)
{
    for (int k = 0; k < 2 * SIDE; k++) bias[k] = -0.0f;
    if (t->bias && t->last) memcpy(bias, t->bias, (size_t)t->filters * sizeof *bias);
}

/* Sums that are neither added to others nor in doubt are turned and stored from registers. */
FC_INLINE void store_turned(const fc_amx_sums_f32 *t, int64_t pixels, int64_t filters, int64_t count, const float *bias, float *y)
{
    const int64_t y_k = t->y_k, before = pixels * SIDE;
    const fc_amx_run *const runs = t->runs, *const end = runs + t->count;
    line r[SIDE];
    turn(tile_of(t, pixels, filters), r);
    for (int k = 0; k < SIDE; k++) r[k] = (line)((vec_row)r[k] + bias[k]);
    for (const fc_amx_run *run = runs; run < end; run++)
        for (int64_t v = 0; v < VECTORS; v++) {
            const int64_t first = run->first - before - v * LANES;
            const fc_mask mask = fc_lanes(4, first, first + run->count);
            float *const to = y + run->to - first;
#pragma GCC unroll 16
            for (int k = 0; k < count; k++) {
                __typeof__(fc_load_part(4, mask, to)) part;
                memcpy(&part, (const char *)(r + k) + v * VEC_BYTES, VEC_BYTES);
                fc_store_part(4, mask, to + k * y_k, part);
            }
        }
}

static int store(const fc_amx_sums_f32 *t, float *y)
{
    float bias[2 * SIDE] ALIGNED;
    take_bias(t, bias);
    const int pixels_are_rows = !t->across && t->y_k == 1;
    if (!pixels_are_rows && !t->across && t->step == 1 && !t->accumulate && !(t->last && t->limit)) {
        for (int64_t i = 0; i < t->tiles; i++)
            for (int64_t k = 0; k < t->filters; k += SIDE) {
                if (t->filters - k >= SIDE) store_turned(t, i, k / SIDE, SIDE, bias + k, y + k * t->y_k);
                else store_turned(t, i, k / SIDE, t->filters - k, bias + k, y + k * t->y_k);
            }
        return 0;
    }
    for (int64_t i = 0; i < t->tiles && !t->across && !pixels_are_rows; i++)
        for (int64_t f = 0; f * SIDE < t->filters; f++) {
            line r[SIDE];
            turn(tile_of(t, i, f), r);
            memcpy(tile_of(t, i, f), r, sizeof r);
        }
    if (t->accumulate && pixels_are_rows) move_pixels(t, bias, 0, y);
    else if (t->accumulate) move_lines(t, bias, 0, y);
    const int doubt = t->last && t->limit && in_doubt(t, !pixels_are_rows);
    for (int k = 0; k < 2 * SIDE && doubt; k++) bias[k] = -0.0f;
    if (pixels_are_rows) move_pixels(t, bias, 1, y);
    else move_lines(t, bias, 1, y);
    return doubt;
}

/* ---- sums that become floats of 16 bits ------------------------------------------------------*/

/* How sums are rounded to nearest even: to bfloat16 in integers, with NaNs among them, or by VCVTNE2PS2BF16, which takes a third
 * of the time, and subnormal numbers for 0; or to float16. */
typedef enum { FINITE, WITH_NANS, IN_HARDWARE, TO_FLOAT16 } amx_rounding;

/* The upper half is v rounded; NaN stays one, where there may be any. */
FC_INLINE line nearest(vec_row v, int nans)
{
    const line bits = (line)v, even = bits + 0x7fff + (bits >> 16 & 1);
    if (!nans) return even;
    const line is = (line)((bits & INT32_MAX) > INFINITE);
    return ((bits | 0x400000) & is) | (even & ~is);
}

/* Both rounded, those of `low` first. */
FC_INLINE line both_nearest(vec_row low, vec_row high, amx_rounding how)
{
    line both;
    if (how == TO_FLOAT16) {
#if defined(FC_ISA_avx512)
        const __m256i of_low = _mm512_cvtps_ph((__m512)low, _MM_FROUND_TO_NEAREST_INT);
        const __m256i of_high = _mm512_cvtps_ph((__m512)high, _MM_FROUND_TO_NEAREST_INT);
        return (line)_mm512_inserti64x4(_mm512_castsi256_si512(of_low), of_high, 1);
#else
        fc_narrow_16((const float *)&low, (uint16_t *)&both);
        fc_narrow_16((const float *)&high, (uint16_t *)&both + SIDE);
        return both;
#endif
    }
#ifdef HARDWARE
    if (how == IN_HARDWARE) {
        __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(high), "v"(low));
        return both;
    }
#endif
    const line of_low = nearest(low, how == WITH_NANS), of_high = nearest(high, how == WITH_NANS);
    upper_halves(&of_low, &of_high, &both);
    return both;
}

/* Both rounded, each of `even` beside its neighbour of `odd`. */
FC_INLINE line woven_nearest(vec_row even, vec_row odd, amx_rounding how)
{
    if (how == IN_HARDWARE || how == TO_FLOAT16) {
        const halves both = (halves)both_nearest(even, odd, how), woven = {
            0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
        return (line)FC_SHUFFLE(both, both, woven);
    }
    return nearest(even, how == WITH_NANS) >> 16 | (nearest(odd, how == WITH_NANS) & 0xffff0000);
}

/* Lines of 32 pixels of each filter. Where pixels are rows, they are rounded before they are turned, two in a word. */
FC_INLINE void narrow_lines(const fc_amx_sums_f32 *t, const float *bias, amx_rounding how, int across, uint16_t *y)
{
    line lines[2][SIDE] ALIGNED;
    const int64_t filters = t->filters, y_k = t->y_k, step = t->step;
    for (int64_t f = 0; f * SIDE < filters; f++) {
        const vec_row *const a = (const vec_row *)tile_of(t, 0, f), *const b = (const vec_row *)tile_of(t, 1, f);
        if (across) {
            for (int k = 0; k < SIDE; k++) {
                const float of = bias[f * SIDE + k];
                lines[f][k] = both_nearest(a[k] + of, b[k] + of, how);
            }
            continue;
        }
        const vec_row of = *(const vec_row *)(bias + f * SIDE);
        line words[SIDE] ALIGNED, r[SIDE];
        for (int p = 0; p < SIDE; p++) {
            const vec_row *const pixels = p < SIDE / 2 ? a + 2 * p : b + 2 * p - SIDE;
            words[p] = woven_nearest(pixels[0] + of, pixels[1] + of, how);
        }
        turn(words, r);
        memcpy(lines[f], r, sizeof r);
    }
    const fc_amx_run *const runs = t->runs, *const runs_end = runs + t->count;
    for (int64_t k = 0; k < filters; k++)
        for (const fc_amx_run *run = runs; run < runs_end; run++) {
            const line *const from = &lines[0][k];
            const int64_t first = run->first, end = first + run->count;
            uint16_t *const to = y + k * y_k + run->to - first * step;
#if defined(FC_ISA_avx512)
            if (step == 1) {
                const uint64_t mask = ((uint64_t)1 << end) - ((uint64_t)1 << first);
                _mm512_mask_storeu_epi16(to, (__mmask32)mask, (__m512i)*from);
                continue;
            }
#endif
            for (int64_t i = first; i < end; i++) to[i * step] = ((const uint16_t *)from)[i];
        }
}

/* Lines of 32 filters of each pixel, as they lie in y. */
FC_INLINE void narrow_pixels(const fc_amx_sums_f32 *t, const float *bias, amx_rounding how, uint16_t *y)
{
    const vec_row low = *(const vec_row *)bias, high = *(const vec_row *)(bias + SIDE);
    const int64_t filters = t->filters, step = t->step;
    const fc_amx_run *const runs = t->runs, *const runs_end = runs + t->count;
    for (const fc_amx_run *run = runs; run < runs_end; run++) {
        const uint32_t first = (uint32_t)run->first, end = first + (uint32_t)run->count;
        uint16_t *to = y + run->to;
        for (uint32_t i = first; i < end; i++, to += step) {
            const float *const of = pixel_of(t, i, 0);
            const line both = both_nearest(*(const vec_row *)of + low, *(const vec_row *)(of + t->filter_step) + high, how);
#if defined(FC_ISA_avx512)
            _mm512_mask_storeu_epi16(to, (__mmask32)(((uint64_t)1 << filters) - 1), (__m512i)both);
#else
            memcpy(to, &both, (size_t)filters * sizeof *to);
#endif
        }
    }
}

FC_INLINE void narrow_block(const fc_amx_sums_f32 *t, const float *bias, amx_rounding how, uint16_t *y)
{
    if (t->y_k == 1 && !t->across) narrow_pixels(t, bias, how, y);
    else if (t->across) narrow_lines(t, bias, how, 1, y);
    else narrow_lines(t, bias, how, 0, y);
}

/* Sums that are not in doubt are multiples of the smallest normal number (drivers/amx_split.c), and so are biases from
 * 2^-103 on and what comes of both, which is then not subnormal. */
static int narrow_bf16(const fc_amx_sums_f32 *t, uint16_t *y)
{
    if (t->last && t->limit && in_doubt(t, t->across)) return 1;
    float bias[2 * SIDE] ALIGNED;
    take_bias(t, bias);
    int nans = !t->last, hardware = t->hardware && t->last && !t->limit; /* the last of sums that were settled */
    for (int k = 0; k < 2 * SIDE; k++) {
        nans |= bias[k] * 0 != 0;
        hardware &= bias[k] == 0 || fabsf(bias[k]) >= 0x1p-103f;
    }
    if (hardware) narrow_block(t, bias, IN_HARDWARE, y);
    else if (nans) narrow_block(t, bias, WITH_NANS, y);
    else narrow_block(t, bias, FINITE, y);
    return 0;
}

static int narrow_f16(const fc_amx_sums_f32 *t, uint16_t *y)
{
    if (t->last && t->limit && in_doubt(t, t->across)) return 1;
    float bias[2 * SIDE] ALIGNED;
    take_bias(t, bias);
    narrow_block(t, bias, TO_FLOAT16, y);
    return 0;
}

/* ---- channels side by side -------------------------------------------------------------------*/

/* A few channels, one by one. */
FC_INLINE void weave_words(int64_t count, const int64_t channels, const uint32_t *x, int64_t step, int64_t x_c, uint32_t *restrict y)
{
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < channels; c++) y[i * channels + c] = x[i * step + c * x_c];
}

FC_INLINE void weave_halves(int64_t count, const int64_t channels, const uint16_t *x, int64_t step, int64_t x_c,
                            uint16_t *restrict y)
{
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < channels; c++) y[i * channels + c] = x[i * step + c * x_c];
}

/* Up to 32 channels of each sample, written as one or two whole lines: the next sample's write over what is not the sample's. */
FC_INLINE void weave_turned(int64_t count, int64_t channels, const char *x, int64_t step, int64_t x_c, int64_t bytes, char *y)
{
    const int64_t each = 4 / bytes, lines = channels > SIDE * each ? 2 : 1; /* channels of a word */
    for (int64_t at = 0; at < count; at += SIDE) {
        const int64_t some = fc_min(SIDE, count - at);
        line words[2 * SIDE] ALIGNED = {{0}}, rows[2][SIDE] ALIGNED;
        for (int64_t c = 0; c < channels; c += each) {
            const char *const from = x + (c * x_c + at * step) * bytes;
            if (each == 1) take_floats(some, (const float *)from, step, (float *)&words[c]);
            else join_pair(some, (const uint16_t *)from, c + 1 < channels ? (const uint16_t *)from + x_c : NULL, step, &words[c / 2]);
        }
        for (int64_t n = 0; n < lines; n++) turn(words + n * SIDE, rows[n]);
        for (int64_t i = 0; i < some; i++)
            for (int64_t n = 0; n < lines; n++) memcpy(y + (at + i) * channels * bytes + n * ROW, rows[n] + i, ROW);
    }
}

static void weave(int64_t count, int64_t channels, const void *x, int64_t step, int64_t x_c, int64_t bytes, void *y)
{
    enum { FEW = 4 }; /* a turn takes some 5 cycles a sample, whatever the channels: 12 of 6x6 in half the time of one by one */
    if (step == channels && (x_c == 1 || channels == 1)) memcpy(y, x, (size_t)(count * channels * bytes));
    else if (bytes == 4 && step == 1 && channels == 3) weave_words(count, 3, x, 1, x_c, y);
    else if (bytes == 2 && step == 1 && channels == 3) weave_halves(count, 3, x, 1, x_c, y);
    else if (bytes == 4 && channels <= FEW) weave_words(count, channels, x, step, x_c, y);
    else if (bytes == 2 && channels <= FEW) weave_halves(count, channels, x, step, x_c, y);
    else if (bytes == 4 && step == 1) weave_turned(count, channels, x, 1, x_c, 4, y);
    else if (bytes == 4) weave_turned(count, channels, x, step, x_c, 4, y);
    else if (step == 1) weave_turned(count, channels, x, 1, x_c, 2, y);
    else weave_turned(count, channels, x, step, x_c, 2, y);
}

const fc_amx FC_NAME(fc_amx_bf16) = {
    sum_emulated, sum_hardware, enter, leave, split_pairs, {split_floats, split_halves},
    {split_floats_across, split_halves_across}, join, weave, join_across, store, {narrow_f16, narrow_bf16},
};
