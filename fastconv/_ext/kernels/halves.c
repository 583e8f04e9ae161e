/* halves: floats of 16 bits made float, and float rounded to them, to nearest, ties to even.
 *
 * widen[0], narrow[0]: float16, 5 bits of exponent, 10 of fraction; [1]: bfloat16, the upper half of a float.
 *
 * Every number of 16 bits is a float; subnormal ones of float16 are normal floats, and are made without subnormal ones in
 * between, which a thread may flush. NaN stays one, with its sign. Where the processor converts float16 (F16C,
 * AVX-512, aarch64) it does so; elsewhere it is done in integers, but for subnormal results: adding 0.5, whose last place
 * is 2^-24, rounds to them.
 */
#include <string.h>

#include "vec.h"

static uint32_t bits_of(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits;
}

static float float_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

static float widen_one(uint16_t x)
{
    const uint32_t size = x & 0x7fff, sign = (uint32_t)(x & 0x8000) << 16;
    /* 112 more of exponent, and as much again for Inf and NaN */
    const uint32_t normal = (size << 13) + ((112u + (size >= 0x7c00 ? 112 : 0)) << 23);
    return float_of(sign | (size < 0x400 ? bits_of((float)(int32_t)size * 0x1p-24f) : normal));
}

static uint16_t narrow_one(float v)
{
    const uint32_t bits = bits_of(v), size = bits & 0x7fffffff;
    const uint32_t normal = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
    const uint32_t small = bits_of(float_of(size) + 0.5f) - (126u << 23);
    const uint32_t beyond = size > 0x7f800000 ? 0x7e00 : 0x7c00;
    return (uint16_t)((bits >> 16 & 0x8000) | (size >= 0x47800000 ? beyond : size < 0x38800000 ? small : normal));
}

static void widen_f16(const void *x, int64_t count, void *y)
{
    const uint16_t *restrict const from = x;
    float *restrict const to = y;
    int64_t i = 0;
#if defined(FC_ISA_avx512)
    for (; i + 16 <= count; i += 16)
        _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(from + i))));
#elif defined(FC_ISA_avx2)
    for (; i + 8 <= count; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
#elif defined(__aarch64__)
    const __fp16 *const halves = x;
    for (; i < count; i++) to[i] = halves[i];
#endif
    for (; i < count; i++) to[i] = widen_one(from[i]);
}

static void narrow_f16(const void *x, int64_t count, void *y)
{
    const float *restrict const from = x;
    uint16_t *restrict const to = y;
    int64_t i = 0;
#if defined(FC_ISA_avx512)
    for (; i + 16 <= count; i += 16)
        _mm256_storeu_si256((__m256i *)(to + i), _mm512_cvtps_ph(_mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(FC_ISA_avx2)
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
    __fp16 *const halves = y;
    for (; i < count; i++) halves[i] = (__fp16)from[i];
#endif
    for (; i < count; i++) to[i] = narrow_one(from[i]);
}

static void widen_bf16(const void *x, int64_t count, void *y)
{
    const uint16_t *restrict const from = x;
    uint32_t *restrict const to = y;
    for (int64_t i = 0; i < count; i++) to[i] = (uint32_t)from[i] << 16;
}

static void narrow_bf16(const void *x, int64_t count, void *y)
{
    const uint32_t *restrict const from = x;
    uint16_t *restrict const to = y;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = from[i], nan = bits >> 16 | 0x40;
        const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : nearest);
    }
}

const fc_halves FC_NAME(fc_halves_f32) = {{widen_f16, widen_bf16}, {narrow_f16, narrow_bf16}};
