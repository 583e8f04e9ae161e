/* amx_int8: sums[k][pixel] = sum over steps, channels c of w[k][c] * x[c][pixel], integers of 8 bits, exact modulo 2^32.
 *
 * x     a tile of 16 pixels, each 64 channels side by side: a line of cache, so that any pixel begins a tile
 * w     a tile of 16 groups of 4 channels, each 16 filters of 4
 * sums  16 pixels by 16 filters
 *
 * amx.inc is compiled for each pair of signs: TDPBSSD and its like (Intel, Software Developer's Manual, volume 2) and, in
 * memory, `dot` below.
 *
 * gather   64 pixels of 4 channels at a time: bytes and then pairs of them are woven, which leaves 4 pixels of each 16 in a
 *          vector; 16 groups of channels of those are turned, and rows stored where their pixels belong.
 * store    turned, with its bias, made narrow in registers.
 */
#include "amx.h"

typedef union {
    uint32_t sums[SIDE][SIDE];
    uint8_t bytes[SIDE][ROW];
} tile;

#define ONE_PRODUCT

/* ---- products -------------------------------------------------------------------------*/

/* What an instruction does. */
FC_INLINE void dot(tile *sums, const tile *x, const tile *w, int x_signed, int w_signed)
{
    for (int i = 0; i < SIDE; i++)
        for (int c = 0; c < ROW; c++) {
            const uint8_t a = x->bytes[i][c];
            const uint32_t v = x_signed ? (uint32_t)(int8_t)a : a;
            for (int k = 0; k < SIDE; k++) {
                const uint8_t b = w->bytes[c / 4][4 * k + c % 4];
                sums->sums[i][k] += v * (w_signed ? (uint32_t)(int8_t)b : b);
            }
        }
}

#define X_SIGNED 0
#define W_SIGNED 0
#define SIGNS(x) x##_uu
#define INSTRUCTION _tile_dpbuud
#include "amx_int8.inc"
#define X_SIGNED 0
#define W_SIGNED 1
#define SIGNS(x) x##_us
#define INSTRUCTION _tile_dpbusd
#include "amx_int8.inc"
#define X_SIGNED 1
#define W_SIGNED 0
#define SIGNS(x) x##_su
#define INSTRUCTION _tile_dpbsud
#include "amx_int8.inc"
#define X_SIGNED 1
#define W_SIGNED 1
#define SIGNS(x) x##_ss
#define INSTRUCTION _tile_dpbssd
#include "amx_int8.inc"

#ifndef HARDWARE
#define sum_hardware_uu NULL
#define sum_hardware_us NULL
#define sum_hardware_su NULL
#define sum_hardware_ss NULL
#endif

/* ---- samples ---------------------------------------------------------------------------------*/

typedef enum { GROUPS = 16, AT_ONCE = 64 } amx_groups; /* groups of 4 channels; pixels */

typedef uint8_t bytes __attribute__((vector_size(ROW), aligned(1), may_alias));

/* Samples of a channel, 0 beyond them. */
FC_INLINE void take(int64_t count, const char *x, int64_t step, bytes *v)
{
    if (step == 1 && count == AT_ONCE) {
        *v = *(const bytes *)x;
        return;
    }
#if defined(FC_ISA_avx512)
    if (step == 1) {
        *v = (bytes)_mm512_maskz_loadu_epi8(((__mmask64)1 << count) - 1, x);
        return;
    }
#endif
    for (int64_t i = 0; i < AT_ONCE; i++) (*v)[i] = i < count ? (uint8_t)x[i * step] : 0;
}

/* to[j][4 l + i] = pixel 16 l + 4 j + i of each channel. */
FC_INLINE void weave(const bytes *c, line (*to)[GROUPS])
{
#if defined(FC_ISA_avx512)
    const __m512i a = (__m512i)c[0], b = (__m512i)c[1], d = (__m512i)c[2], e = (__m512i)c[3];
    const __m512i low = _mm512_unpacklo_epi8(a, b), low_next = _mm512_unpacklo_epi8(d, e);
    const __m512i high = _mm512_unpackhi_epi8(a, b), high_next = _mm512_unpackhi_epi8(d, e);
    to[0][0] = (line)_mm512_unpacklo_epi16(low, low_next);
    to[1][0] = (line)_mm512_unpackhi_epi16(low, low_next);
    to[2][0] = (line)_mm512_unpacklo_epi16(high, high_next);
    to[3][0] = (line)_mm512_unpackhi_epi16(high, high_next);
#else
    for (int pixel = 0; pixel < AT_ONCE; pixel++) {
        uint32_t word = 0;
        for (int i = 0; i < 4; i++) word |= (uint32_t)c[i][pixel] << (8 * i);
        to[pixel % 16 / 4][0][pixel / 16 * 4 + pixel % 4] = word;
    }
#endif
}

static void gather(int64_t count, const char *x, int64_t step, int64_t channels, int64_t x_c, int64_t width, int64_t gap,
                   char *y)
{
    int64_t column = 0;
    for (int64_t at = 0; at < count; at += AT_ONCE) {
        const int64_t some = fc_min(AT_ONCE, count - at);
        line woven[4][GROUPS] ALIGNED;
        for (int64_t group = 0; group < GROUPS; group++) {
            bytes c[4] = {{0}};
            const char *const from = x + 4 * group * x_c + at * step;
            for (int64_t i = 0; i < 4 && 4 * group + i < channels; i++) {
                __builtin_prefetch(from + i * x_c + 2 * AT_ONCE * step);
                take(some, from + i * x_c, step, c + i);
            }
            weave(c, (line(*)[GROUPS])&woven[0][group]);
        }
        char *to[AT_ONCE];
        for (int64_t i = 0; i < some; i++) {
            to[i] = y;
            y += ROW;
            if (++column == width) column = 0, y += gap * ROW;
        }
        for (int64_t j = 0; j < 4; j++) {
            line rows[SIDE];
            turn(woven[j], rows);
            for (int64_t i = 0; i < SIDE; i++) {
                const int64_t pixel = i / 4 * 16 + 4 * j + i % 4;
                if (pixel < some) memcpy(to[pixel], rows + i, ROW);
            }
        }
    }
}

/* ---- sums ------------------------------------------------------------------------------------*/

/* `count` elements of `size` bytes from the `first` of 16. */
FC_INLINE void store_run(int64_t size, const void *from, int64_t first, int64_t count, char *y, int64_t step)
{
    const char *const a = from;
    if (step != 1) {
        for (int64_t i = 0; i < count; i++) memcpy(y + i * step * size, a + (first + i) * size, (size_t)size);
        return;
    }
#if defined(FC_ISA_avx512)
    const __mmask16 mask = (__mmask16)(((1u << count) - 1) << first);
    char *const to = y - first * size;
    if (size == 4) _mm512_mask_storeu_epi32(to, mask, _mm512_loadu_si512(a));
    else if (size == 2) _mm256_mask_storeu_epi16(to, mask, _mm256_loadu_si256((const __m256i *)a));
    else _mm_mask_storeu_epi8(to, mask, _mm_loadu_si128((const __m128i *)a));
#else
    memcpy(y, a + first * size, (size_t)(count * size));
#endif
}

FC_INLINE void store_runs(const fc_amx_sums *t, int64_t size, const void *narrow, char *y)
{
    if (t->filters == SIDE && t->runs->count == SIDE && t->step == 1) {
        y += t->runs->to * size;
        for (int64_t k = 0; k < SIDE; k++) memcpy(y + k * t->y_k * size, (const char *)narrow + k * SIDE * size, SIDE * (size_t)size);
        return;
    }
    for (const fc_amx_run *run = t->runs; run < t->runs + t->count; run++)
        for (int64_t k = 0; k < t->filters; k++)
            store_run(size, (const char *)narrow + k * SIDE * size, run->first, run->count, y + (k * t->y_k + run->to) * size,
                      t->step);
}

/* fc_pairs.quantize of 16 sums. */
FC_INLINE void quantize(const line *sums, float scale, float low, int32_t back, uint8_t *y)
{
    const float high = low + 255, shift = 0x1.8p23f;
#if defined(FC_ISA_avx512)
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)*sums), _mm512_set1_ps(scale));
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(low)), _mm512_set1_ps(high));
    const __m512i bits = _mm512_castps_si512(_mm512_add_ps(v, _mm512_set1_ps(shift)));
    _mm_storeu_si128((__m128i *)y, _mm512_cvtepi32_epi8(_mm512_sub_epi32(bits, _mm512_set1_epi32(back))));
#else
    for (int i = 0; i < SIDE; i++) {
        float v = (float)(int32_t)(*sums)[i] * scale;
        v = v > low ? v : low;
        v = (v < high ? v : high) + shift;
        int32_t bits;
        memcpy(&bits, &v, 4);
        y[i] = (uint8_t)(bits - back);
    }
#endif
}

static void store(const fc_amx_sums *t, void *y)
{
    line r[SIDE] ALIGNED;
    turn(t->sums, r);
    for (int k = 0; k < SIDE; k++) r[k] += (uint32_t)t->bias[k];
    const int64_t size = fc_dtype_bytes(t->to);
    uint16_t narrow[SIDE][SIDE] ALIGNED; /* or bytes, twice as many */
    uint8_t(*const bytes_of)[SIDE] = (uint8_t(*)[SIDE])narrow;
    if (t->scale) {
        const float low = (float)((t->to == FC_I8 ? -128 : 0) - t->zero);
        for (int k = 0; k < SIDE; k++) quantize(r + k, t->scale[k], low, 0x4b400000 - (int32_t)t->zero, bytes_of[k]);
    } else if (size == 2) {
        for (int k = 0; k < SIDE; k++)
            for (int i = 0; i < SIDE; i++) narrow[k][i] = (uint16_t)r[k][i];
    } else if (size == 1) {
        for (int k = 0; k < SIDE; k++)
            for (int i = 0; i < SIDE; i++) bytes_of[k][i] = (uint8_t)r[k][i];
    }
    if (size == 4) store_runs(t, 4, r, y);
    else if (size == 2) store_runs(t, 2, narrow, y);
    else store_runs(t, 1, narrow, y);
}

const fc_amx_int8 FC_NAME(fc_amx_int8_i32) = {
    {{sum_emulated_uu, sum_emulated_us}, {sum_emulated_su, sum_emulated_ss}},
    {{sum_hardware_uu, sum_hardware_us}, {sum_hardware_su, sum_hardware_ss}},
    gather,
    store,
};
