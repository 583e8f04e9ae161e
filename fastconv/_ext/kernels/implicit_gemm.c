/* implicit_gemm: register tiles of pixels times vectors of filters, their panels, and transposition.
 *
 * tile       y[i][j] = add[i*add_step + j] + sum over t < taps of w[t][j] * x[offset[t] + i*step]
 *            for i < pixels, j < filters. Offsets are in bytes. w is packed [tap][filter], y dense
 *            [pixel][filter].
 * copy       to[i*ld_to + j] = from[i*ld_from + j*step] for i < rows, j < count.
 * transpose  to[j*ld_to + i] = from[i*ld_from + j] for i < rows, j < columns, both of any size.
 *
 * Pixels x 2 accumulators, 2 vectors of w and one broadcast fill the registers: 14 x 2 of 32, 6 x 2 of
 * 16. A tap of 14 x 2 costs 17 loads for 28 multiply-adds, and a prefetch of what mostly is the next
 * tile (1x1, 256 to 64 @ 56: 1.44 ms -> 1.06). There is a tile for every smaller number of pixels, since
 * what it reads must lie inside x, and it costs that much less.
 *
 * Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008,
 * section 4; offsets of taps: Dukhan, The Indirect Convolution Algorithm, 2019, section 3.
 */
#include <string.h>

#include "vec.h"

#if VEC_REGISTERS >= 32
#define PIXELS 14
#else
#define PIXELS 6
#endif

#define PARAMETERS \
    int64_t t, const void *x, const int64_t *o, int64_t u, const void *w, const void *a, int64_t v, void *y

#define T float
#define I int32_t
#define NAME(x) x##_f32
#include "implicit_gemm.inc"
#define T double
#define I int64_t
#define NAME(x) x##_f64
#include "implicit_gemm.inc"
