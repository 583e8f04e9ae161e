/* depthwise: y[j][o] = sum over t, i, s of w[t][i - j u][s] * x[t][i][offset[s] + o], in registers.
 *
 * rows: up to 4 rows of up to 4 vectors of outputs. Each vector of an input row is loaded once a
 * column tap, at any alignment, and multiplied into every output row that it lies under: up to 4
 * multiply-adds a load, so that even loads that all straddle two cache lines (half rate) feed the
 * multipliers. Which output rows those are is one of 10 ranges, each with its own unrolled loop.
 * The weights of small kernels stay in registers.
 *
 * line: one row, and a block of vectors side by side. Tap s = f + b * lanes reads the vector that
 * tap f reads b vectors further on: for each f, a vector is loaded once for up to 4 taps.
 *
 * Tails: the last vector of a row ends where the row ends and overlaps the one before it; rows
 * shorter than a vector are done by narrower ones, down to 16 bytes.
 * x may have any alignment; nothing outside the windows is read.
 *
 * Zhang, Lo and Lu, High Performance Depthwise and Pointwise Convolutions on Mobile Devices,
 * AAAI 2020, section 3 (register blocks of output rows).
 */
#include <string.h>

#include "apart.h"
#include "vec.h"

/* Vectors side by side of `line`; with 4 weights and one of x they fit the registers. */
#if VEC_REGISTERS >= 32
#define LINE_VECTORS 16
#else
#define LINE_VECTORS 8
#endif

/* Bytes that `line` asks for ahead: what a processor foresees ends with a page. */
#define AHEAD 4096

/* Most rows of blocks wider than two vectors. */
#define WIDE_ROWS (VEC_REGISTERS >= 32 ? FC_DEPTHWISE_ROWS : 3)

/* Most column taps of blocks with edges, and fewest columns: where a masked load takes the time of two, a mask is a
 * third (AVX2: 7x7, 96@56: 0.88 ms), and where all vectors of a row are masked (3x3, 960@7: 0.118), copies are less (0.049).
 * With AVX-512 masks are as many instructions as loads: copies take 0.12 ms where edges took 0.24 (7x7, 384@14), 0.11 and
 * 0.14 (5x5, 240@28), but 0.30 and 0.25 where rows are long (5x5, 32@112); of 3x3 0.073 and 0.141 at 960@7, where two
 * channels share vectors, 0.090 and 0.162 at 480@14. */
#define EDGE_TAPS 3
#define EDGE_COLUMNS (VEC_REGISTERS >= 32 ? 17 : 33)

#define T float
#define LARGEST_SQUARE 5
#define FLOATING 1
#define LANE_INDEX int32_t
#define NAME(x) x##_f32
#include "depthwise.inc"
#define T double
#define LARGEST_SQUARE 3
#define FLOATING 1
#define LANE_INDEX int64_t
#define NAME(x) x##_f64
#include "depthwise.inc"
#define T uint32_t
#define LARGEST_SQUARE 0
#define FLOATING 0
#define LANE_INDEX int32_t
#define NAME(x) x##_u32
#include "depthwise.inc"
#define T uint64_t
#define LARGEST_SQUARE 0
#define FLOATING 0
#define LANE_INDEX int64_t
#define NAME(x) x##_u64
#include "depthwise.inc"
