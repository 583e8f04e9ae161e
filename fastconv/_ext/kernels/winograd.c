/* winograd: one-dimensional transforms across tiles, and the products between them.
 *
 * y = A' [ (G w) . (B' x) ] in each transformed dimension, after Toom and Cook: with M(t) the product
 * of t - q over the points q (fc_lines of fc.h),
 *     row of B' at a point q    the coefficients of M(t) / (t - q); at inf those of M(t)
 *     row of G  at q            1, q, q^2 ... over M'(q);           at inf 0 ... 0, 1
 *     column of A' at q         1, q, q^2 ...;                      at inf 0 ... 0, 1
 * Rows of +p and -p share their even and their odd part. Lane t of every vector is one tile, so
 * that transforms are plain arithmetic on vectors; only along the rows of x, where tiles lie m
 * apart, are vectors taken apart and put together again by shuffles.
 *
 * Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4; Blahut,
 * Fast Algorithms for Signal Processing, 2010, section 5.2.
 */
#include <float.h>

#include "vec.h"

#if VEC_REGISTERS >= 32
#define ROWS 8
#define VECTORS 3
#else
#define ROWS 6
#define VECTORS 2
#endif

#define T float
#define BITS int32_t
#define LARGEST FLT_MAX
#define NAME(x) x##_f32
#include "winograd.inc"
#define T double
#define BITS int64_t
#define LARGEST DBL_MAX
#define NAME(x) x##_f64
#include "winograd.inc"
