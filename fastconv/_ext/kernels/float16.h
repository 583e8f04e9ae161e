/* float16, 5 bits of exponent and 10 of fraction, made float and back, to nearest, ties to even: one in integers, 16 of them as the
 * processor does it (F16C, AVX-512, aarch64), else in integers too.
 *
 * Every float16 is a float; subnormal ones are normal floats, and are made without subnormal ones in between, which a thread
 * may flush. Adding 0.5, whose last place is 2^-24, rounds to subnormal results. NaN stays one, with its sign.
 */
#ifndef FC_FLOAT16_H
#define FC_FLOAT16_H

#include <string.h>

#include "vec.h"

FC_INLINE float fc_widen_one(uint16_t x)
{
    const uint32_t size = x & 0x7fff, sign = (uint32_t)(x & 0x8000) << 16;
    const float small = (float)(int32_t)size * 0x1p-24f;
    /* 112 more of exponent, and as much again for Inf and NaN */
    uint32_t bits = (size << 13) + ((112u + (size >= 0x7c00 ? 112 : 0)) << 23);
    if (size < 0x400) memcpy(&bits, &small, 4);
    bits |= sign;
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

FC_INLINE uint16_t fc_narrow_one(float v)
{
    uint32_t bits, small;
    memcpy(&bits, &v, 4);
    const uint32_t size = bits & 0x7fffffff, normal = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
    memcpy(&v, &size, 4);
    v += 0.5f;
    memcpy(&small, &v, 4);
    const uint32_t beyond = size > 0x7f800000 ? 0x7e00 : 0x7c00;
    return (uint16_t)((bits >> 16 & 0x8000)
                      | (size >= 0x47800000 ? beyond : size < 0x38800000 ? small - (126u << 23) : normal));
}

FC_INLINE void fc_widen_16(const uint16_t *x, float *y)
{
#if defined(FC_ISA_avx512)
    _mm512_storeu_ps(y, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x)));
#elif defined(FC_ISA_avx2)
    for (int i = 0; i < 16; i += 8) _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
#elif defined(__aarch64__)
    const __fp16 *const halves = (const void *)x;
    for (int i = 0; i < 16; i++) y[i] = halves[i];
#else
    for (int i = 0; i < 16; i++) y[i] = fc_widen_one(x[i]);
#endif
}

FC_INLINE void fc_narrow_16(const float *x, uint16_t *y)
{
#if defined(FC_ISA_avx512)
    _mm256_storeu_si256((__m256i *)y, _mm512_cvtps_ph(_mm512_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
#elif defined(FC_ISA_avx2)
    for (int i = 0; i < 16; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
    __fp16 *const halves = (void *)y;
    for (int i = 0; i < 16; i++) halves[i] = (__fp16)x[i];
#else
    for (int i = 0; i < 16; i++) y[i] = fc_narrow_one(x[i]);
#endif
}

#endif
