/* Vectors of whole numbers: widened from what is stored, summed across lanes, stored again. What is more than a lane
 * holds is dropped, as C's unsigned types do. */
#ifndef FC_WHOLE_H
#define FC_WHOLE_H

#include "vec.h"

/* Integers in lanes of 32 bits: a vector of them, and the low halves of two. */
#if defined(FC_ISA_avx512)
#define VEC_WIDE(name, x_type, widen) \
    FC_INLINE vec_ints name(const x_type *x) { return (vec_ints)_mm512_##widen; }
VEC_WIDE(vec_ints_u8, uint8_t, cvtepu8_epi32(_mm_loadu_si128((const __m128i *)x)))
VEC_WIDE(vec_ints_i8, int8_t, cvtepi8_epi32(_mm_loadu_si128((const __m128i *)x)))
VEC_WIDE(vec_ints_u16, uint16_t, cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x)))
VEC_WIDE(vec_ints_i16, int16_t, cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)x)))
#elif defined(FC_ISA_avx2)
#define VEC_WIDE(name, x_type, widen) \
    FC_INLINE vec_ints name(const x_type *x) { return (vec_ints)_mm256_##widen; }
VEC_WIDE(vec_ints_u8, uint8_t, cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)x)))
VEC_WIDE(vec_ints_i8, int8_t, cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)x)))
VEC_WIDE(vec_ints_u16, uint16_t, cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x)))
VEC_WIDE(vec_ints_i16, int16_t, cvtepi16_epi32(_mm_loadu_si128((const __m128i *)x)))
#else
#define VEC_WIDE(name, x_type, widen) \
    FC_INLINE vec_ints name(const x_type *x) \
    { \
        vec_ints y; \
        for (int i = 0; i < VEC_BYTES / 4; i++) y[i] = x[i]; \
        return y; \
    }
VEC_WIDE(vec_ints_u8, uint8_t, )
VEC_WIDE(vec_ints_i8, int8_t, )
VEC_WIDE(vec_ints_u16, uint16_t, )
VEC_WIDE(vec_ints_i16, int16_t, )
#endif
FC_INLINE void vec_store_ints_u16(uint16_t *y, vec_ints low, vec_ints high)
{
#if defined(FC_ISA_avx512)
    _mm256_storeu_si256((__m256i *)y, _mm512_cvtepi32_epi16((__m512i)low));
    _mm256_storeu_si256((__m256i *)(y + 16), _mm512_cvtepi32_epi16((__m512i)high));
#elif defined(FC_ISA_avx2)
    const __m256i halves = _mm256_packus_epi32((__m256i)(low & 0xffff), (__m256i)(high & 0xffff));
    _mm256_storeu_si256((__m256i *)y, _mm256_permute4x64_epi64(halves, 0xd8));
#else
    for (int i = 0; i < VEC_BYTES / 4; i++) {
        y[i] = (uint16_t)low[i];
        y[i + VEC_BYTES / 4] = (uint16_t)high[i];
    }
#endif
}

/* Sums of each lane and those before it; and the last lane in all. */
typedef uint32_t vec_words __attribute__((vector_size(VEC_BYTES), aligned(1), may_alias));
#if defined(FC_ISA_avx2)
FC_INLINE vec_words vec_scan_words(vec_words lanes)
{
    __m256i v = (__m256i)lanes;
    v = _mm256_add_epi32(v, _mm256_slli_si256(v, 4));
    v = _mm256_add_epi32(v, _mm256_slli_si256(v, 8));
    const __m256i low = _mm256_shuffle_epi32(_mm256_permute2x128_si256(v, v, 0x08), 0xff);
    return (vec_words)_mm256_add_epi32(v, low);
}
FC_INLINE vec_words vec_last_words(vec_words v)
{
    return (vec_words)_mm256_permutevar8x32_epi32((__m256i)v, _mm256_set1_epi32(7));
}
FC_INLINE vec_shorts vec_scan_shorts(vec_shorts lanes)
{
    __m256i v = (__m256i)lanes;
    v = _mm256_add_epi16(v, _mm256_slli_si256(v, 2));
    v = _mm256_add_epi16(v, _mm256_slli_si256(v, 4));
    v = _mm256_add_epi16(v, _mm256_slli_si256(v, 8));
    const __m256i low = _mm256_permute2x128_si256(v, v, 0x08);
    return (vec_shorts)_mm256_add_epi16(v, _mm256_shuffle_epi8(low, _mm256_set1_epi16(0x0f0e)));
}
FC_INLINE vec_shorts vec_last_shorts(vec_shorts v)
{
    const __m256i high = _mm256_permute4x64_epi64((__m256i)v, 0xff);
    return (vec_shorts)_mm256_shuffle_epi8(high, _mm256_set1_epi16(0x0f0e));
}
#elif defined(FC_ISA_avx512)
#define VEC_SCAN(scan, last, vec, count) \
    FC_INLINE vec scan(vec v) \
    { \
        for (int k = 1; k < count; k *= 2) { \
            vec from; \
            for (int i = 0; i < count; i++) from[i] = (__typeof__(v[0] + 0))(i < k ? 0 : count + i - k); \
            v += FC_SHUFFLE((vec){0}, v, from); \
        } \
        return v; \
    } \
    FC_INLINE vec last(vec v) { return (vec){0} + v[count - 1]; }
#else
#define VEC_SCAN(scan, last, vec, count) \
    FC_INLINE vec scan(vec v) \
    { \
        for (int i = 1; i < count; i++) v[i] += v[i - 1]; \
        return v; \
    } \
    FC_INLINE vec last(vec v) { return (vec){0} + v[count - 1]; }
#endif
#ifdef VEC_SCAN
VEC_SCAN(vec_scan_words, vec_last_words, vec_words, VEC_BYTES / 4)
VEC_SCAN(vec_scan_shorts, vec_last_shorts, vec_shorts, VEC_BYTES / 2)
#endif

#endif
