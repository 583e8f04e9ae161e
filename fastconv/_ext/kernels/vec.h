/* Vectors of this instruction set, and how kernel names are made.
 *
 * Vectors are GNU vector types: plain operators, any element type, lowered by the compiler where
 * the hardware lacks one. Everything a kernel file defines besides its table entry must be static, or the
 * copy of another instruction set could be linked in its place. */
#ifndef FC_VEC_H
#define FC_VEC_H

#include "../fc.h"

#if defined(FC_ISA_avx512) || defined(FC_ISA_avx2)
#include <immintrin.h>
#endif

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

/* Lanes of two vectors by an index vector. */
#ifdef __clang__
#error "see FC_SHUFFLE"
#else
#define FC_SHUFFLE(a, b, index) __builtin_shuffle(a, b, index)
#endif

/* Hides where a loop-invariant integer comes from. */
#define FC_OPAQUE(i) __asm__("" : "+r"(i))

#define FC_INLINE static inline __attribute__((always_inline))

/* Of vectors: vec_larger is max(a, abs(x)); vec_outside has a bit for each lane where
 * low < abs(x) <= high does not hold, as it does not for NaN; vec_move copies a part of one. */
#define T float
#define BITS int32_t
#define NAME(x) x##_f32
#include "vec.inc"
#define T double
#define BITS int64_t
#define NAME(x) x##_f64
#include "vec.inc"

#if defined(FC_ISA_avx512) || defined(FC_ISA_avx2)
#include <immintrin.h>
#endif

/* A vector of floats from as many bytes; what compilers make of conversions of vectors is 5 times as slow. */
typedef float vec_floats __attribute__((vector_size(VEC_BYTES)));
FC_INLINE vec_floats vec_widen_u8(const uint8_t *x)
{
#if defined(FC_ISA_avx512)
    return (vec_floats)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)x)));
#elif defined(FC_ISA_avx2)
    return (vec_floats)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)x)));
#else
    vec_floats y;
    for (int i = 0; i < VEC_BYTES / 4; i++) y[i] = (float)x[i];
    return y;
#endif
}

/* Whether all bits of a vector are set, at any address. */
FC_INLINE int fc_all(const void *vector)
{
#if defined(FC_ISA_avx512)
    return _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(vector), _mm512_set1_epi64(-1)) == 0;
#elif defined(FC_ISA_avx2)
    return _mm256_movemask_epi8(_mm256_loadu_si256((const __m256i *)vector)) == -1;
#else
    uint64_t bits[VEC_BYTES / 8], all = ~(uint64_t)0;
    __builtin_memcpy(bits, vector, VEC_BYTES);
    for (int i = 0; i < VEC_BYTES / 8; i++) all &= bits[i];
    return all == ~(uint64_t)0;
#endif
}

#endif
