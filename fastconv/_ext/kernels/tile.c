/* tile: y[i][j] (+)= sum over t < taps of w[t][i] * x[offset[t] + j].
 *
 * The one inner loop of every direct method. The caller has laid x out so that each tap of a
 * convolution, whatever its stride, dilation or number of dimensions, is a constant offset from the output
 * position (see drivers/direct.c); a matrix product is the case offset[t] = t * ld.
 *
 * x    any address, `columns` elements readable from each offset (no tails: the caller's buffer is
 *      long enough)
 * w    packed [tap][row], any alignment
 * y    row stride ldy, `columns` elements written in each row
 * Sums of `taps` products are kept in registers and in order of taps; integers wrap.
 *
 * Register tiles: rows x vectors accumulators plus `vectors` of x plus one broadcast of w must fit
 * the registers: 8 x 3 of 32, 6 x 2 of 16. At 8 x 3 a tap costs 11 loads for 24 multiply-adds, so
 * that two load ports feed two multiply-add units, and it asks half as much x of the L2 cache as
 * 4 x 6. Tiles of fewer rows, for the last filters, are wider. Goto and van de Geijn, Anatomy of
 * High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008, section 4.
 */
#include "vec.h"

#if VEC_REGISTERS >= 32
#define ROWS_0 8
#define VECTORS_0 3
#define VECTORS_4 6
#define VECTORS_2 8
#define VECTORS_1 8
#else
#define ROWS_0 6
#define VECTORS_0 2
#define VECTORS_4 3
#define VECTORS_2 4
#define VECTORS_1 8
#endif

#define T float
#define NAME(x) x##_f32
#include "tile.inc"
#define T double
#define NAME(x) x##_f64
#include "tile.inc"
#define T uint8_t
#define NAME(x) x##_u8
#include "tile.inc"
#define T uint16_t
#define NAME(x) x##_u16
#include "tile.inc"
#define T uint32_t
#define NAME(x) x##_u32
#include "tile.inc"
#define T uint64_t
#define NAME(x) x##_u64
#include "tile.inc"
