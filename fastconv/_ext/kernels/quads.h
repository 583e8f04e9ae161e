/* Four bytes of each lane of 32 bits, those of one operand with a sign: what quads.c and quad_rows.c multiply by. */
#ifndef FC_QUADS_H
#define FC_QUADS_H

#include "vec.h"

/* sum + the product of `plain`, without signs, and `sign`. */
FC_INLINE vec_words add_products(vec_words sum, vec_words plain, vec_words sign)
{
#if defined(FC_ISA_avx512) && !defined(FC_LOWERED)
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(plain), "v"(sign));
#else
    typedef int32_t ints __attribute__((vector_size(VEC_BYTES)));
    for (int at = 0; at < 32; at += 8) sum += (plain >> at & 255) * (vec_words)((ints)(sign << (24 - at)) >> 24);
#endif
    return sum;
}

#endif
