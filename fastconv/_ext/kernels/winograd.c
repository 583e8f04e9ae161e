/* winograd: the transforms of F(2x2, 3x3) and F(4x4, 3x3), vectorised across tiles.
 *
 * y = A' [ (G w G') . (B' d B) ] A, with interpolation points 0, 1, -1, inf for m = 2 and
 * 0, P, -P, Q, -Q, inf for m = 4 (fc.h says why). Lane t of every vector is one tile, so that a transform is plain
 * arithmetic on vectors: no shuffles, and no tails since buffers are whole vectors.
 *
 * Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4.
 */
#include <float.h>

#include "vec.h"

#define T float
#define LARGEST FLT_MAX
#define BITS int32_t
#define NAME(x) x##_f32
#include "winograd.inc"
#define T double
#define LARGEST DBL_MAX
#define BITS int64_t
#define NAME(x) x##_f64
#include "winograd.inc"
