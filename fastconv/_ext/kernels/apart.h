/* Strided elements by shuffles, where parts of vectors can be loaded: FC_APART(bytes) is vec_apart (apart.inc) of elements of 4 or
 * 8 bytes. */
#ifndef FC_APART_H
#define FC_APART_H

#include "vec.h"

#if FC_MASKS
#define BITS int32_t
#define NAME(x) x##_f32
#include "apart.inc"
#define BITS int64_t
#define NAME(x) x##_f64
#include "apart.inc"
#define FC_APART(bytes) __builtin_choose_expr((bytes) == 4, vec_apart_f32, vec_apart_f64)
#endif

#endif
