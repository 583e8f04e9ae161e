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

/* Parts of two samples, beside each other. `nans`: there may be large ones. */
typedef struct {
    uint32_t first, second, third;
} pair;

FC_INLINE pair pair_of(float v, float z, int nans, uint32_t *least, uint32_t *most)
{
    const uint32_t of_v = bits_of(v) & INT32_MAX, of_z = bits_of(z) & INT32_MAX;
    *most = *most > of_v ? *most : of_v;
    *most = *most > of_z ? *most : of_z;
    *least = *least < of_v - 1 ? *least : of_v - 1;
    *least = *least < of_z - 1 ? *least : of_z - 1;
    if (nans && of_v > INFINITE) v = float_of(INFINITE + 1);
    if (nans && of_z > INFINITE) z = float_of(INFINITE + 1);
    pair p;
    uint32_t part = part_of(v), part_z = part_of(z);
    p.first = part >> 16 | part_z;
    v -= float_of(part), z -= float_of(part_z);
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

static void take_in(const ranges *r, fc_amx_range *seen)
{
    for (int i = 0; i < SIDE; i++) {
        seen->least = seen->least < r->least[i] ? seen->least : r->least[i];
        seen->most = seen->most > r->most[i] ? seen->most : r->most[i];
    }
}

/* y[part][i] = the parts of a[i] and b[i]. */
FC_INLINE void split_into(const float *a, const float *b, int64_t parts, int nans, char *y, int64_t y_part, ranges *seen)
{
    uint32_t *restrict const first = (uint32_t *)y, *restrict const second = (uint32_t *)(y + y_part),
             *restrict const third = (uint32_t *)(y + 2 * y_part);
    for (int i = 0; i < SIDE; i++) {
        const pair p = pair_of(a[i], b[i], nans, seen->least + i, seen->most + i);
        first[i] = p.first;
        if (parts > 1) second[i] = p.second;
        if (parts > 2) third[i] = p.third;
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
            if (2 * pair < channels) take_floats(some, from, step, a);
            if (2 * pair + 1 < channels) take_floats(some, from + x_c, step, b);
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

/* Pairs of samples that stay as they lie: `odd` masks those of b. */
FC_INLINE void split_run(int64_t count, const float *a, const float *b, uint32_t odd, int64_t step, int64_t parts, int nans,
                         char *y, int64_t y_part, fc_amx_range *seen)
{
    uint32_t *restrict const first = (uint32_t *)y, *restrict const second = (uint32_t *)(y + y_part),
             *restrict const third = (uint32_t *)(y + 2 * y_part);
    uint32_t least = seen->least, most = seen->most;
    for (int64_t i = 0; i < count; i++) {
        const pair p = pair_of(a[i * step], float_of(bits_of(b[i * step]) & odd), nans, &least, &most);
        first[i] = p.first;
        if (parts > 1) second[i] = p.second;
        if (parts > 2) third[i] = p.third;
    }
    *seen = (fc_amx_range){least, most};
}

static void split_across(int64_t count, const float *a, const float *b, int64_t step, int64_t parts, char *y, int64_t y_part,
                         fc_amx_range *seen)
{
    const uint32_t odd = b ? UINT32_MAX : 0;
    if (!b) b = a;
    if (step == 1 && parts == 3) split_run(count, a, b, odd, 1, 3, 0, y, y_part, seen);
    else if (step == 1 && parts == 2) split_run(count, a, b, odd, 1, 2, 0, y, y_part, seen);
    else split_run(count, a, b, odd, step, parts, 0, y, y_part, seen);
    if (seen->most >= LARGE_NAN) split_run(count, a, b, odd, step, parts, 1, y, y_part, seen);
}

/* ---- samples that are bfloat16 ---------------------------------------------------------------*/

typedef uint16_t halves __attribute__((vector_size(ROW), aligned(4), may_alias));

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
            const halves size = (halves)pair & INT16_MAX, less = ~(size - 1);
            enlarge(&seen->most, &size);
            enlarge(&seen->above, &less);
            pairs[c / 2] = pair;
        }
        turn(pairs, rows);
        if (some == SIDE) memcpy(y + at * ROW, rows, TILE);
        else memcpy(y + at * ROW, rows, (size_t)(some * ROW));
    }
}

static void join(int64_t count, const uint16_t *x, int64_t step, int64_t channels, int64_t x_c, char *y,
                 fc_amx_range *seen)
{
    half_ranges of_lanes = {{0}, {0}};
    if (step == 1) join_rows(count, x, 1, channels, x_c, y, &of_lanes);
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
FC_INLINE int store_whole(const fc_amx_tile *t, float *y, int across)
{
    typedef float floats __attribute__((vector_size(ROW), aligned(4), may_alias));
    line r[SIDE];
    if (across) memcpy(r, t->sums, sizeof r);
    else turn(t->sums, r);
    floats products[4] = {{0}}; /* with 0: NaN where a sum is not finite */
    for (int i = 0; i < SIDE; i++) products[i % 4] += *(const floats *)(t->sums + i * SIDE) * 0;
    products[0] += products[1] + (products[2] + products[3]);
    uint32_t doubt = 0;
    for (int64_t v = 0; v < VECTORS; v++) {
        vec_f32 some;
        memcpy(&some, (const char *)products + v * VEC_BYTES, VEC_BYTES);
        doubt |= vec_outside_f32(some, (vec_f32){0} - 1, FLT_MAX);
    }
    const int64_t y_k = t->y_k;
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
                fc_store_part(4, mask, to + k * y_k, part);
            }
        }
    return t->last && doubt;
}

static int store(const fc_amx_tile *t, float *y)
{
    if (t->filters == SIDE && t->step == 1 && !t->accumulate && !t->limit)
        return t->across ? store_whole(t, y, 1) : store_whole(t, y, 0);
    line lines[SIDE] ALIGNED;
    if (t->across) memcpy(lines, t->sums, sizeof lines);
    else turn(t->sums, lines);
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

/* ---- sums that become bfloat16 ---------------------------------------------------------------*/

typedef uint16_t half_line __attribute__((vector_size(ROW / 2), aligned(2), may_alias));
typedef float vec_row __attribute__((vector_size(ROW), aligned(4), may_alias)); /* a pixel's filters */

/* The upper half is v rounded to bfloat16, to nearest even; NaN stays one, where there may be any. */
FC_INLINE void to_nearest(line *v, int nans)
{
    const line even = *v + 0x7fff + (*v >> 16 & 1), is = (line)((*v & INT32_MAX) > INFINITE);
    if (nans) *v = ((*v | 0x400000) & is) | (even & ~is);
    else *v = even;
}

/* Rows of sums are rounded before they are turned, while filters' biases and limits are vectors, and turned in pairs. */
FC_INLINE void narrow_rows(const fc_amx_tile *t, int64_t filters, int nans, const vec_row *bias, uint16_t *y)
{
    line r[SIDE / 2];
    for (int i = 0; i < SIDE / 2; i++) {
        line even = (line)(((const vec_row *)t->sums)[2 * i] + *bias);
        line odd = (line)(((const vec_row *)t->sums)[2 * i + 1] + *bias);
        to_nearest(&even, nans);
        to_nearest(&odd, nans);
        r[i] = even >> 16 | (odd & 0xffff0000);
    }
    EXCHANGED
    EXCHANGE_4(0, 1, high_1, low_1)
    EXCHANGE_4(0, 2, high_2, low_2)
    EXCHANGE_4(0, 4, high_4, low_4)
    const int64_t y_k = t->y_k, step = t->step; /* row k of r is filter k, and beside it 8 + k */
    for (const fc_amx_run *run = t->runs; run < t->runs + t->count; run++) {
        const int64_t first = run->first, end = first + run->count;
        uint16_t *const to = y + run->to - first * step;
        for (int64_t k = 0; k < filters; k++) {
            const half_line of = *((const half_line *)(r + k % 8) + k / 8);
#if defined(FC_ISA_avx512)
            if (step == 1) {
                _mm256_mask_storeu_epi16(to + k * y_k, fc_lanes(4, first, end), (__m256i)of);
                continue;
            }
#endif
            for (int64_t i = first; i < end; i++) to[k * y_k + i * step] = of[i];
        }
    }
}

FC_INLINE int narrow_filters(const fc_amx_tile *t, int64_t filters, uint16_t *y)
{
    const vec_row *const sums = (const vec_row *)t->sums;
    vec_row bias = -(vec_row){0}, limit = {0}; /* -0 leaves a sum of -0 as it is */
    if (t->bias && t->last) memcpy(&bias, t->bias, (size_t)filters * sizeof(float));
    if (t->limit) memcpy(&limit, t->limit, (size_t)filters * sizeof(float));
    vec_row others[4] = {{0}}; /* products with 0: NaN where a sum, or a bias, is not finite */
    line small = {0};
    for (int i = 0; i < SIDE; i++) {
        others[i % 4] += sums[i] * 0;
        if (t->limit) small |= (line)((vec_row)((line)sums[i] & INT32_MAX) <= limit);
    }
    others[0] += others[1] + (others[2] + others[3]);
    float sum = 0, of_bias = 0;
    uint32_t doubt = 0;
    for (int64_t k = 0; k < filters; k++) sum += others[0][k], of_bias += bias[k] * 0, doubt |= small[k];
    if (t->last && (sum != 0 || doubt)) return 1;
    if (sum != 0 || of_bias != 0) narrow_rows(t, filters, 1, &bias, y);
    else narrow_rows(t, filters, 0, &bias, y);
    return 0;
}

/* Sums that lie as y does: a row a filter. */
static int narrow_across(const fc_amx_tile *t, uint16_t *y)
{
    const vec_row *const sums = (const vec_row *)t->sums;
    vec_row others = {0};
    int doubt = 0, nans = 0;
    for (int64_t k = 0; k < t->filters; k++) {
        others += sums[k] * 0;
        for (int i = 0; i < SIDE && t->limit; i++) doubt |= fabsf(sums[k][i]) <= t->limit[k];
    }
    for (int i = 0; i < SIDE; i++) nans |= others[i] != 0;
    if (t->last && (nans || doubt)) return 1;
    const float *const bias = t->last ? t->bias : NULL;
    for (int64_t k = 0; k < t->filters && bias; k++) nans |= bias[k] * 0 != 0;
    for (const fc_amx_run *run = t->runs; run < t->runs + t->count; run++) {
        const int64_t first = run->first, end = first + run->count;
        for (int64_t k = 0; k < t->filters; k++) {
            uint16_t *const to = y + run->to - first * t->step + k * t->y_k;
            const vec_row sum = sums[k] + (bias ? bias[k] : -0.0f); /* -0 leaves a sum of -0 as it is */
            line near = (line)sum;
            to_nearest(&near, nans);
            near >>= 16;
#if defined(FC_ISA_avx512)
            if (t->step == 1) {
                _mm256_mask_storeu_epi16(to, fc_lanes(4, first, end), _mm512_cvtepi32_epi16((__m512i)near));
                continue;
            }
#endif
            for (int64_t i = first; i < end; i++) to[i * t->step] = (uint16_t)near[i];
        }
    }
    return 0;
}

static int narrow(const fc_amx_tile *t, uint16_t *y)
{
    if (t->across) return narrow_across(t, y);
    return t->filters == SIDE ? narrow_filters(t, SIDE, y) : narrow_filters(t, t->filters, y);
}

const fc_amx FC_NAME(fc_amx_bf16) = {sum_emulated, sum_hardware, enter, leave, split_pairs, split, split_across,
                                     join, join_across, store, narrow};
