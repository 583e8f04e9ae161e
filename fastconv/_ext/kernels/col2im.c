/* col2im: products of taps, added where the taps fall.
 *
 * sum    to[j] = add[0] + sum over t < taps of from[offset[t] + j]. Four vectors at once: additions wait for each other.
 */
#include "vec.h"

#define T float
#define NAME(x) x##_f32
#include "col2im.inc"
#define T double
#define NAME(x) x##_f64
#include "col2im.inc"
