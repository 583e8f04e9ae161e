/* fft: complex transforms of n samples, one in each lane of a vector, and what lies around them.
 *
 *   Z[k] = sum over j < n of z[j] w^(jk),  w = e^(-2 pi i / n)
 *
 * z is [n][2][lanes]: a vector of real parts, then one of imaginary parts, for each sample, so that
 * nothing is ever shuffled. Stages are decimations in frequency (Gentleman and Sande, Fast Fourier
 * transforms for fun and profit, 1966): a block of m = radix q samples becomes, for i < radix,
 *
 *   z'[j + i q] = w_m^(ij) sum over s < radix of z[j + s q] w_radix^(is),  j < q,
 *
 * radix blocks of q. Frequencies stay where they fall: products do not mind their order, and the
 * inverse undoes the stages one by one, in place, with conjugate factors. It leaves n times z.
 * The inverse of a butterfly is the same one with real and imaginary parts exchanged.
 *
 * turn and turn_back are the step between the two factors of n = n1 n2 (Bailey, FFTs in external or
 * hierarchical memory, 1990), twiddles included, as transpositions in registers.
 */
#include <math.h>

#include "vec.h"

#define WIDEST 5 /* radix */

#define T float
#define I int32_t
#define NAME(x) x##_f32
#include "fft.inc"

#define T double
#define I int64_t
#define NAME(x) x##_f64
#include "fft.inc"
