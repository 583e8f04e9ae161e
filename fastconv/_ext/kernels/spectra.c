/* spectra: y[f] = sum over j < count of x[j][f] * w[j][f], complex numbers.
 *
 * The products of a line of input spectra with those of a kernel's partitions (Wefers, Partitioned
 * convolution algorithms for real-time auralization, 2015, section 5.2): one pass over both, which are
 * larger than L2 where kernels are long, so nothing is written but the sums.
 *
 * x w y   real and imaginary parts in turn, any alignment; x[j] begins at x + j*ldx, w[j] at w + j*ldw
 *
 * A vector holds whole complex numbers. Two sums of it, x times the real and x times the imaginary
 * parts of w, need no lane of x moved; their halves are put together at the end. Tiles of 4 vectors, 8
 * sums: enough to hide the latency of two multiply-add units, and two cache lines at a time with AVX2.
 * What does not fill a vector is loaded and stored in part.
 */
#include "vec.h"

#define VECTORS 4

#define T float
#define BITS int32_t
#define NAME(x) x##_f32
#include "spectra.inc"
#define T double
#define BITS int64_t
#define NAME(x) x##_f64
#include "spectra.inc"
