/* Vectors of this instruction set, and how kernel names are made.
 *
 * Vectors are GNU vector types: plain operators, any element type, lowered by the compiler where
 * the hardware lacks one. Everything a kernel file defines besides its table entry must be static, or the
 * copy of another instruction set could be linked in its place. */
#ifndef FC_VEC_H
#define FC_VEC_H

#include "../fc.h"

#if defined(FC_ISA_avx512)
#define VEC_BYTES 64
#define VEC_REGISTERS 32
#elif defined(FC_ISA_avx2)
#define VEC_BYTES 32
#define VEC_REGISTERS 16
#elif defined(FC_ISA_neon)
#define VEC_BYTES 16
#define VEC_REGISTERS 32
#else /* baseline: whatever the compiler targets unasked */
#define VEC_BYTES 16
#define VEC_REGISTERS 16
#endif

#define FC_JOIN_(a, b) a##__##b
#define FC_JOIN(a, b) FC_JOIN_(a, b)
/* fc_tile_f32 -> fc_tile_f32__avx2 */
#define FC_NAME(name) FC_JOIN(name, FC_ISA)

#define FC_INLINE static inline __attribute__((always_inline))

/* Parts of vectors: lanes low <= i < high of a 4- or 8-byte type, which is all that is read or
 * written; other lanes read as 0. FC_MASKS is 0 where there is no instruction for that. */
#if defined(FC_ISA_avx512)
#include <immintrin.h>
#define FC_MASKS 1
typedef __mmask16 fc_mask;
FC_INLINE fc_mask fc_lanes(int64_t bytes, int64_t low, int64_t high)
{
    const int64_t lanes = VEC_BYTES / bytes;
    low = fc_max(low, 0), high = fc_min(high, lanes);
    return high > low ? (fc_mask)((1u << high) - (1u << low)) : 0;
}
FC_INLINE __m512i fc_load_part(int64_t bytes, fc_mask mask, const void *from)
{
    return bytes == 4 ? _mm512_maskz_loadu_epi32(mask, from)
                      : _mm512_maskz_loadu_epi64((__mmask8)mask, from);
}
FC_INLINE void fc_store_part(int64_t bytes, fc_mask mask, void *to, __m512i v)
{
    if (bytes == 4)
        _mm512_mask_storeu_epi32(to, mask, v);
    else
        _mm512_mask_storeu_epi64(to, (__mmask8)mask, v);
}
#elif defined(FC_ISA_avx2)
#include <immintrin.h>
#define FC_MASKS 1
typedef __m256i fc_mask;
FC_INLINE fc_mask fc_lanes(int64_t bytes, int64_t low, int64_t high)
{
    low = fc_min(fc_max(low, 0), 8), high = fc_min(fc_max(high, 0), 8);
    if (bytes == 8) {
        const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
        return _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_set1_epi64x(low), lane),
                                   _mm256_cmpgt_epi64(_mm256_set1_epi64x(high), lane));
    }
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)low), lane),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32((int)high), lane));
}
FC_INLINE __m256i fc_load_part(int64_t bytes, fc_mask mask, const void *from)
{
    return bytes == 4 ? _mm256_maskload_epi32(from, mask) : _mm256_maskload_epi64(from, mask);
}
FC_INLINE void fc_store_part(int64_t bytes, fc_mask mask, void *to, __m256i v)
{
    if (bytes == 4)
        _mm256_maskstore_epi32(to, mask, v);
    else
        _mm256_maskstore_epi64(to, mask, v);
}
#else
#define FC_MASKS 0
#endif

#endif
