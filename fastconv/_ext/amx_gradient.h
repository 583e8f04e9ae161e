/* What kernels/amx_gradient.c does for drivers/amx_gradient.c.
 *
 * Operands are parts of bfloat16 as in kernels/amx.c. A step is of 32 samples in a row; a word holds the parts of samples i and
 * i + 16, which is all that tiles ask of an order, and lets any sample begin a step.
 *
 * rows: the row of a step, samples x[32 s .. 32 s + 31], part j: y + s*y_step + j*y_part, for s < steps.
 * lines: the words of samples i and i + 16 of 16 channels x_c apart, a line of 64 bytes, part j: y + i*y_line + j*y_part, for
 *     i < 16*groups; x is read up to 16 further. With `every` 2 only the 16 lines that begin each step are written, one
 *     after the other. seen[c] takes the samples of channel c in.
 * add: to[i] += sums[i] of four tiles.
 * outputs: y[n*y_n + o] = sums[o*1024 + n] + bias for n < count <= 16 and o < taps; returns whether these sums are finite. */
#ifndef FC_AMX_GRADIENT_H
#define FC_AMX_GRADIENT_H

#include "fc.h"

struct fc_amx_gradient {
    void (*rows)(int64_t steps, const float *x, int64_t parts, char *y, int64_t y_step, int64_t y_part, fc_amx_range *seen);
    void (*lines)(int64_t groups, const float *x, int64_t x_c, int64_t every, int64_t parts, char *y, int64_t y_line,
                  int64_t y_part, fc_amx_range *seen);
    void (*add)(const float *sums, float *to);
    int (*outputs)(const float *sums, int64_t taps, int64_t count, float bias, float *y, int64_t y_n);
};

#endif
