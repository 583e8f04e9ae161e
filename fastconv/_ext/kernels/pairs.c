/* pairs: integers of 8 and 16 bits two by two, bytes four by four, and their sums of 32 bits made narrow again.
 *
 * join       to[j] = (x[j*step] - zero, y[j*step] - zero) as two int16, y that of the next channel
 * quads      to[j] = (x[0][j*step], x[1][j*step], x[2][j*step], x[3][j*step]) as bytes, whose highest bits `flip` may turn round
 * cut        y[j] = sums[j] modulo 2^(8 bytes)
 * quantize   y[j] = round(sums[j] * scale) + zero, ties to even, at least and at most what y holds
 *
 * quantize multiplies in float, as onnxruntime does: a sum beyond 2^24 is rounded first. What is rounded has been cut to
 * below 2^9, where adding 1.5 * 2^23 leaves the whole number in the low bits.
 */
#include <string.h>

#include "vec.h"

#define X uint8_t
#define NAME(x) x##_u8
#include "pairs.inc"
#define X int8_t
#define NAME(x) x##_i8
#include "pairs.inc"
#define X int16_t
#define NAME(x) x##_i16
#include "pairs.inc"

static void join(fc_dtype of, const void *x, const void *y, int64_t step, int64_t count, int64_t zero, void *to)
{
    if (of == FC_U8)
        join_u8(x, y, step, count, (int32_t)zero, to);
    else if (of == FC_I8)
        join_i8(x, y, step, count, (int32_t)zero, to);
    else
        join_i16(x, y, step, count, (int32_t)zero, to);
}

static void quads(const void *const *x, int64_t step, int64_t count, uint32_t flip, void *to)
{
    const uint8_t *restrict const a = x[0], *restrict const b = x[1], *restrict const c = x[2], *restrict const d = x[3];
    uint32_t *restrict const y = to;
    int64_t i = 0;
#if defined(FC_ISA_avx512)
    /* 16 bytes of each row in a quarter of a vector: their words are exchanged, then the bytes of these */
    const __m512i words = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i turned = _mm512_set1_epi32((int)flip);
#define QUARTER(row) _mm_loadu_si128((const __m128i *)(row + i))
    for (; step == 1 && i + 16 <= count; i += 16) {
        __m512i v = _mm512_castsi128_si512(QUARTER(a));
        v = _mm512_inserti32x4(v, QUARTER(b), 1);
        v = _mm512_inserti32x4(v, QUARTER(c), 2);
        v = _mm512_inserti32x4(v, QUARTER(d), 3);
        v = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(words, v), bytes);
        _mm512_storeu_si512(y + i, _mm512_xor_si512(v, turned));
    }
#endif
    if (step == 1)
        for (int64_t j = i; j < count; j++)
            y[j] = (a[j] | (uint32_t)b[j] << 8 | (uint32_t)c[j] << 16 | (uint32_t)d[j] << 24) ^ flip;
    else
        for (int64_t j = 0, at = 0; j < count; j++, at += step)
            y[j] = (a[at] | (uint32_t)b[at] << 8 | (uint32_t)c[at] << 16 | (uint32_t)d[at] << 24) ^ flip;
}

static void cut(int64_t bytes, const void *sums, int64_t count, void *y)
{
    const uint32_t *restrict const from = sums;
    if (bytes == 1) {
        uint8_t *restrict const to = y;
        for (int64_t j = 0; j < count; j++) to[j] = (uint8_t)from[j];
    } else {
        uint16_t *restrict const to = y;
        for (int64_t j = 0; j < count; j++) to[j] = (uint16_t)from[j];
    }
}

typedef struct {
    float low, high;
    int32_t back;
} range;

static range range_of(fc_dtype of, int64_t zero)
{
    const float low = (float)((of == FC_I8 ? -128 : 0) - zero);
    return (range){low, low + 255, 0x4b400000 - (int32_t)zero};
}

FC_INLINE uint8_t quantized(int32_t sum, float scale, range r)
{
    float v = (float)sum * scale;
    v = v > r.low ? v : r.low;
    v = (v < r.high ? v : r.high) + 0x1.8p23f;
    int32_t bits;
    memcpy(&bits, &v, 4);
    return (uint8_t)(bits - r.back);
}

static void quantize(fc_dtype of, const void *sums, int64_t count, float scale, int64_t zero, void *y)
{
    const int32_t *restrict const from = sums;
    uint8_t *restrict const to = y;
    const range r = range_of(of, zero);
    for (int64_t j = 0; j < count; j++) to[j] = quantized(from[j], scale, r);
}

typedef int32_t vec_sums __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
typedef float vec_scales __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
typedef uint8_t vec_narrow __attribute__((vector_size(VEC_BYTES / 4), aligned(1), may_alias));

FC_INLINE vec_scales either(vec_sums is, vec_scales a, vec_scales b)
{
    return (vec_scales)((is & (vec_sums)a) | (~is & (vec_sums)b));
}

/* As `quantized`, which GCC does not see to be the same for all lanes of a vector. */
static void quantize_lanes(fc_dtype of, const void *sums, int64_t count, const float *scale, int64_t zero, void *y)
{
    enum { LANES = VEC_BYTES / 4 };
    const range r = range_of(of, zero);
    const vec_scales each = *(const vec_scales *)scale, low = r.low - (vec_scales){0}, high = r.high - (vec_scales){0};
    const int32_t *from = sums;
    uint8_t *to = y;
    for (int64_t j = 0; j < count; j += LANES) {
        vec_scales v = __builtin_convertvector(*(const vec_sums *)(from + j), vec_scales) * each;
        v = either(v > low, v, low);
        v = either(v < high, v, high) + 0x1.8p23f;
        *(vec_narrow *)(to + j) = __builtin_convertvector((vec_sums)v - r.back, vec_narrow);
    }
}

const fc_pairs FC_NAME(fc_pairs_i32) = {join, quads, cut, quantize, quantize_lanes};
