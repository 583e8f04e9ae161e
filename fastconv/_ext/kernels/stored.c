/* stored: images of integers to floats and back, a row at a time.
 *
 * widen is a conversion. cut is one too, towards zero and modulo 2^bits, as a cast in C does, but for
 * sums so near a whole number that an error in them could change the result: it stops there, and the
 * caller has `exact` make that vector anew from its products, in double. Where all rows hold the same
 * in every column, as they do in flat parts of a picture, all sums are near whole numbers; there the
 * sum of the weights times that is taken instead of the products.
 *
 * x, y  any alignment, no tails are touched
 */
#include <math.h>
#include <string.h>

#include "vec.h"

/* Cuts one sum of any size. */
static int64_t cut_one(double v)
{
    if (fabs(v) < 0x1p62) return (int64_t)v;
    return isfinite(v) ? (int64_t)fmod(v, 0x1p62) : 0;
}

#define X uint8_t
#define T float
#define NAME(x) x##_u8_f32
#include "stored.inc"
#define X uint8_t
#define T double
#define NAME(x) x##_u8_f64
#include "stored.inc"
#define X int8_t
#define T double
#define NAME(x) x##_i8_f64
#include "stored.inc"
#define X uint16_t
#define T double
#define NAME(x) x##_u16_f64
#include "stored.inc"
#define X int16_t
#define T double
#define NAME(x) x##_i16_f64
#include "stored.inc"

/* Sums of whole numbers are exact: nothing is ever in doubt. */
static void widen_u8_u16(const void *x, int64_t count, void *y)
{
    const uint8_t *restrict const from = x;
    uint16_t *restrict const to = y;
    for (int64_t j = 0; j < count; j++) to[j] = from[j];
}

static int64_t cut_u8_u16(const void *sums, int64_t begin, int64_t count, double near, void *y)
{
    (void)near;
    const uint16_t *restrict const from = sums;
    uint8_t *restrict const to = y;
    for (int64_t j = begin; j < count; j++) to[j] = (uint8_t)from[j];
    return count;
}

const fc_stored FC_NAME(fc_stored_u8_u16) = {VEC_BYTES / 2, widen_u8_u16, cut_u8_u16, NULL};
