/* What scores are divided by, and the interval that they are in. */
#ifndef FC_INVERSE_ROOT_H
#define FC_INVERSE_ROOT_H

#include <math.h>

#include "vec.h"

/* 1 / root of a; to 2^-27 where what it is for is stored as float, which spares the divider: an estimate of 14 bits and one
 * step of Newton's. */
FC_INLINE vec_f64 inverse_root(int narrow, vec_f64 a)
{
#if defined(FC_ISA_avx512) && !defined(FC_LOWERED)
    if (narrow) {
        const vec_f64 r = (vec_f64)_mm512_rsqrt14_pd((__m512d)a);
        return r * (1.5 - 0.5 * (a * r) * r);
    }
    return 1 / (vec_f64)_mm512_sqrt_pd((__m512d)a);
#elif defined(FC_ISA_avx2) && !defined(FC_LOWERED)
    (void)narrow;
    return 1 / (vec_f64)_mm256_sqrt_pd((__m256d)a);
#else
    (void)narrow;
    vec_f64 root;
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) root[i] = sqrt(a[i]);
    return 1 / root;
#endif
}

/* a where `from` has bits, else b. */
FC_INLINE vec_f64 either(bits_f64 from, vec_f64 a, vec_f64 b)
{
    return (vec_f64)(((bits_f64)a & from) | ((bits_f64)b & ~from));
}

/* a, NaN too, in -1 .. 1, or 0 where `constant` has bits, as float or as double. */
FC_INLINE void store_scores(int narrow, vec_f64 a, bits_f64 constant, int64_t count, void *y)
{
    typedef float floats __attribute__((vector_size(VEC_BYTES / 2)));
    const vec_f64 one = 1 - (vec_f64){0};
    a = either(a > one, one, a);
    a = either(a < -one, -one, a);
    a = (vec_f64)((bits_f64)a & ~constant);
    const floats f = __builtin_convertvector(a, floats);
    if (narrow && count * 8 == VEC_BYTES) __builtin_memcpy(y, &f, sizeof f);
    else if (count * 8 == VEC_BYTES) __builtin_memcpy(y, &a, sizeof a);
    else __builtin_memcpy(y, narrow ? (const void *)&f : &a, (size_t)(count * (narrow ? 4 : 8)));
}

#endif
