/* rows: y[i][j] = bias + sum over t < taps of w[t] * x[i + t][j]: neighbouring rows summed.
 *
 * The one inner loop of separable filters. Down a column, x[t] are consecutive rows and `outputs` of
 * them are made at once, so that a row is loaded once for all of them; along a row, x[t] is one
 * buffer, each time a sample further on.
 *
 * x    taps + outputs - 1 pointers, any alignment; NULL: a row of nothing, not multiplied
 * w    in order of taps
 * y    `outputs` pointers; the last vector of a row may be stored twice, so nothing may be read there
 *
 * Register tiles: rows x vectors accumulators, `vectors` of x and one broadcast of w: 4 x 4 of 32
 * registers, 4 x 2 of 16; a single row takes 8 vectors, enough to hide the latency of two
 * multiply-add units. Columns that do not fill a tile are made by the last tile that does, moved
 * back over finished ones.
 */
#include "vec.h"

#define ROWS 4
#define VECTORS (VEC_REGISTERS >= 32 ? 4 : 2)
#define VECTORS_1 8

#define T float
#define NAME(x) x##_f32
#include "rows.inc"
#define T double
#define NAME(x) x##_f64
#include "rows.inc"
