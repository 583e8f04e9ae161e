/* Arrays of floats of 16 bits, of a kind: 0 float16, 1 bfloat16; `count` elements side by side. */
#ifndef FC_HALVES_H
#define FC_HALVES_H

#include "../fc.h"

/* float y[i] = x[i] */
void fc_widen(const fc_kernels *kernels, int64_t kind, const void *x, int64_t count, int64_t threads, void *y);

/* y[i] = float x[i], to nearest, ties to even */
void fc_narrow(const fc_kernels *kernels, int64_t kind, const void *x, int64_t count, int64_t threads, void *y);

#endif
