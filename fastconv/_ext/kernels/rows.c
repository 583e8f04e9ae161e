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
 *
 * box, box_along: van Herk's sums for equal weights, two multiply-adds an output whatever their number. Rows
 * are summed in strips of FC_BOX_VECTORS vectors, whose sums stay in L1; along a row lanes are
 * as many rows, so that nothing is shuffled but the transposes before and after.
 */
#include "vec.h"

#define ROWS 4
#define VECTORS (VEC_REGISTERS >= 32 ? 4 : 2)
#define VECTORS_1 8

#define X float
#define T float
#define NAME(x) x##_f32
#define P float
#define LOAD(p) *(const vec_f32 *)(p)
#include "rows.inc"
#define X double
#define T double
#define NAME(x) x##_f64
#define P double
#define LOAD(p) *(const vec_f64 *)(p)
#include "rows.inc"
#define X uint8_t
#define T float
#define NAME(x) x##_u8
#define P float
#define LOAD(p) (vec_u8)vec_widen_u8(p)
#include "rows.inc"
/* Whole numbers modulo 2^16; products of C's ints would overflow. */
#define X uint16_t
#define T uint16_t
#define P uint32_t
#define NAME(x) x##_u16
#define LOAD(p) *(const vec_u16 *)(p)
#include "rows.inc"
#define X uint8_t
#define T uint16_t
#define P uint32_t
#define NAME(x) x##_u8_u16
#define LOAD(p) (vec_u8_u16)vec_wide_u8(p)
#include "rows.inc"

#define T float
#define NAME(x) x##_f32
#include "along.inc"
#define T double
#define NAME(x) x##_f64
#include "along.inc"

#include "cut.inc"

const fc_rows FC_NAME(fc_rows_f32) = {ROWS, rows_f32, along_f32, box_f32, box_along_f32};
const fc_rows FC_NAME(fc_rows_f64) = {ROWS, rows_f64, along_f64, box_f64, box_along_f64};
const fc_rows FC_NAME(fc_rows_u16) = {ROWS, rows_u16, NULL, NULL, NULL};
const fc_rows FC_NAME(fc_rows_u8_u16) = {ROWS, rows_u8_u16, NULL, NULL, NULL};
const fc_rows FC_NAME(fc_rows_u8) = {ROWS, rows_u8, NULL, NULL, NULL};
