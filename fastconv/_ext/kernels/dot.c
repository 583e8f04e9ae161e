/* dot: sums[q][s] += sum over i, j of w[i - q*step][j] * x[i][offset[s] + j], lane by lane.
 *
 * What is summed lies along vectors, and a tile of outputs, rows q by columns s, stays in registers for a whole
 * picture. A vector of x is loaded once for all rows of the tile, one of w for all its columns: a tile of
 * 3 by 3 takes 6 loads for 9 multiply-adds, one of 2 by 7 takes 9 for 14. Sums wait four cycles for the
 * last product while two a cycle are begun: a tile of fewer than 8 is bound by that.
 *
 * 16 registers hold 3 by 4 sums, 3 weights and a vector of x, or 2 by 6 and 3 more. Compilers rather read x with
 * each multiply-add, which for 2 by 7 sums are 16 loads for 14 products, half of them across cache lines:
 * 44 GFLOP/s of 98.
 *
 * narrow: 3 by 3 outputs of pictures whose rows are no longer than a vector, read as they lie: each row of w is loaded
 * once, and one of x for each column of outputs, under a mask of what is x's.
 *
 * Tails: w is read under a mask, so that what x has beyond its columns is multiplied by zero.
 */
#include "vec.h"

#define T float
#define NAME(x) x##_f32
#include "dot.inc"
#define T double
#define NAME(x) x##_f64
#include "dot.inc"
