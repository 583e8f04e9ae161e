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

/* Lanes of two vectors by an index vector. */
#ifdef __clang__
#error "see FC_SHUFFLE"
#else
#define FC_SHUFFLE(a, b, index) __builtin_shuffle(a, b, index)
#endif

/* Hides where a loop-invariant integer comes from. */
#define FC_OPAQUE(i) __asm__("" : "+r"(i))

#define FC_INLINE static inline __attribute__((always_inline))

#endif
