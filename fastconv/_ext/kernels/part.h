/* The first `count` elements of a vector, fewer than it has: nothing behind them is read or written. */
#ifndef FC_PART_H
#define FC_PART_H

#include "vec.h"

#if defined(FC_ISA_avx512)
#include <immintrin.h>
typedef __m512 vec_part_f32;
typedef __m512d vec_part_f64;
FC_INLINE vec_part_f32 vec_load_part_f32(const float *p, int64_t count)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}
FC_INLINE vec_part_f64 vec_load_part_f64(const double *p, int64_t count)
{
    return _mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), p);
}
FC_INLINE void vec_store_part_f32(float *p, int64_t count, vec_part_f32 v)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), v);
}
FC_INLINE void vec_store_part_f64(double *p, int64_t count, vec_part_f64 v)
{
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1), v);
}
#elif defined(FC_ISA_avx2)
#include <immintrin.h>
typedef __m256 vec_part_f32;
typedef __m256d vec_part_f64;
FC_INLINE __m256i vec_part_mask(int64_t bytes)
{
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(ones + 8 - bytes / 4));
}
FC_INLINE vec_part_f32 vec_load_part_f32(const float *p, int64_t count)
{
    return _mm256_maskload_ps(p, vec_part_mask(4 * count));
}
FC_INLINE vec_part_f64 vec_load_part_f64(const double *p, int64_t count)
{
    return _mm256_maskload_pd(p, vec_part_mask(8 * count));
}
FC_INLINE void vec_store_part_f32(float *p, int64_t count, vec_part_f32 v)
{
    _mm256_maskstore_ps(p, vec_part_mask(4 * count), v);
}
FC_INLINE void vec_store_part_f64(double *p, int64_t count, vec_part_f64 v)
{
    _mm256_maskstore_pd(p, vec_part_mask(8 * count), v);
}
#else /* vectors of 16 bytes */
typedef float vec_part_f32 __attribute__((vector_size(VEC_BYTES)));
typedef double vec_part_f64 __attribute__((vector_size(VEC_BYTES)));
FC_INLINE vec_part_f32 vec_load_part_f32(const float *p, int64_t count)
{
    return (vec_part_f32){p[0], count > 1 ? p[1] : 0, count > 2 ? p[2] : 0};
}
FC_INLINE vec_part_f64 vec_load_part_f64(const double *p, int64_t count)
{
    (void)count; /* it is 1 */
    return (vec_part_f64){p[0]};
}
FC_INLINE void vec_store_part_f32(float *p, int64_t count, vec_part_f32 v)
{
    for (int64_t i = 0; i < count; i++) p[i] = v[i];
}
FC_INLINE void vec_store_part_f64(double *p, int64_t count, vec_part_f64 v)
{
    for (int64_t i = 0; i < count; i++) p[i] = v[i];
}
#endif

#endif
