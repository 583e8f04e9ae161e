/* picture: y[j][o] = bias + sum over t, r, s of w[t][r][s] * x[t][j*u + r*l][offset[s] + o], in registers.
 *
 * Pictures that were copied amid zeros, so that nothing has to be cut off and one call does all of them. A tile is a column of up to 10 output rows, one vector wide. For each
 * column tap the weights of up to 5 kernel rows are held in registers (10 sums, 5 weights and a vector of x
 * are the 16 that there are) and each vector of x is loaded once for all the sums it belongs to: 19 loads
 * for 50 multiply-adds, where 3 rows by 4 vectors and 5 rows of weights take 43 for 60. A sum takes as many
 * products in a row as there are such weights, four cycles each, while two a cycle are begun: of 8 sums
 * and 7 weights none may wait (56x56, GFLOP/s: 7x7 71, 15x15 86; 10 and 5: 88, 82; peak 98). With 32 registers it is
 * 14 rows and 7 weights: 27 loads for 98.
 *
 * Two pictures may lie side by side in rows of x: where both are less than a vector of 64 bytes, one tile makes both, each
 * in its lanes, with weights put together from those of either.
 *
 * Kernel rows come in runs whose samples are as far apart as those of neighbouring outputs: with stride 2
 * rows 0 2 4 .. and 1 3 5 ..; with dilation l outputs of l phases are by themselves; with both, each row is, unless the
 * stride is a multiple of the dilation.
 *
 * Tails: the last tile of a column and the last column overlap those before; rows shorter than a vector are
 * stored as two overlapping halves. x is read up to a vector beyond the columns.
 *
 * weave: the same of transposed layers of stride 2, a row of both phases at once; see picture_woven.inc.
 */
#include <string.h>

#include "vec.h"

/* Rows of a tile and of weights at a time; whether parts of vectors are stored by masks, which takes one instruction
 * with AVX-512; whether two pictures may share vectors: shorter ones have no room, and asking takes 5 % of 5x5, 1152@7. */
#if VEC_REGISTERS >= 32
#define HIGH 14
#define DEEP 7
#else
#define HIGH 10
#define DEEP 5
#endif
#if defined(FC_ISA_avx512)
#define SHORT_STORES 1
#else
#define SHORT_STORES 0
#endif
#define TWO (VEC_BYTES >= 64)

#define T float
#define INDEX int32_t
#define NAME(x) x##_f32
#include "picture.inc"
#define T double
#define INDEX int64_t
#define NAME(x) x##_f64
#include "picture.inc"
