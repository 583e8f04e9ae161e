/* halves: floats of 16 bits made float, and float rounded to them, to nearest, ties to even.
 *
 * widen[0], narrow[0]: float16 (float16.h); [1]: bfloat16, the upper half of a float. NaN stays one, with its sign.
 */
#include "float16.h"

static void widen_f16(const void *x, int64_t count, void *y)
{
    const uint16_t *restrict const from = x;
    float *restrict const to = y;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) fc_widen_16(from + i, to + i);
    for (; i < count; i++) to[i] = fc_widen_one(from[i]);
}

static void narrow_f16(const void *x, int64_t count, void *y)
{
    const float *restrict const from = x;
    uint16_t *restrict const to = y;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) fc_narrow_16(from + i, to + i);
    for (; i < count; i++) to[i] = fc_narrow_one(from[i]);
}

static void widen_bf16(const void *x, int64_t count, void *y)
{
    const uint16_t *restrict const from = x;
    uint32_t *restrict const to = y;
    for (int64_t i = 0; i < count; i++) to[i] = (uint32_t)from[i] << 16;
}

#if defined(FC_ISA_avx512) && !defined(FC_LOWERED)
/* 16 floats, rounded in their upper halves: half as many instructions as GCC takes. */
typedef uint16_t vec_upper __attribute__((vector_size(64), aligned(2), may_alias));

FC_INLINE vec_upper nearest_16(const uint32_t *x)
{
    const __m512i v = _mm512_loadu_si512(x), most = _mm512_add_epi32(v, _mm512_set1_epi32(0x7fff));
    const __mmask16 odd = _mm512_test_epi32_mask(v, _mm512_set1_epi32(0x10000));
    const __mmask16 nan = _mm512_cmp_ps_mask(_mm512_castsi512_ps(v), _mm512_castsi512_ps(v), _CMP_UNORD_Q);
    const __m512i nearest = _mm512_mask_add_epi32(most, odd, most, _mm512_set1_epi32(1));
    return (vec_upper)_mm512_mask_or_epi32(nearest, nan, v, _mm512_set1_epi32(0x400000));
}
#endif

static void narrow_bf16(const void *x, int64_t count, void *y)
{
    const uint32_t *restrict const from = x;
    uint16_t *restrict const to = y;
    int64_t i = 0;
#if defined(FC_ISA_avx512) && !defined(FC_LOWERED)
    const vec_upper odd = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                           33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    for (; i + 32 <= count; i += 32)
        *(vec_upper *)(to + i) = FC_SHUFFLE(nearest_16(from + i), nearest_16(from + i + 16), odd);
#endif
    for (; i < count; i++) {
        const uint32_t bits = from[i], nan = bits >> 16 | 0x40;
        const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : nearest);
    }
}

const fc_halves FC_NAME(fc_halves_f32) = {{widen_f16, widen_bf16}, {narrow_f16, narrow_bf16}};
