/* peak: sum[i] = sum[i] * a + b, `rounds` times over: the most multiply-adds that a core can do.
 *
 * data   a, b, then CHAINS vectors of sums, read before and written after; any alignment
 * Nothing is loaded or stored in between. A chain waits for itself, so there are more chains than the
 * 2 units x 5 cycles of any core's latency, and fewer than registers. It computes nothing of use:
 * speeds are stated as parts of it.
 */
#include "vec.h"

#define CHAINS (VEC_REGISTERS * 3 / 4)

#define T float
#define NAME(x) x##_f32
#include "peak.inc"
#define T double
#define NAME(x) x##_f64
#include "peak.inc"
