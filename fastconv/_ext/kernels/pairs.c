/* pairs: integers of 8 and 16 bits two by two, and their sums of 32 bits made narrow again.
 *
 * join       to[j] = (x[j*step] - zero, y[j*step] - zero) as two int16, y that of the next channel
 * cut        y[j] = sums[j] modulo 2^(8 bytes)
 * quantize   y[j] = round(sums[j] * scale) + zero, ties to even, at least and at most what y holds
 *
 * quantize multiplies in float, as onnxruntime does: a sum beyond 2^24 is rounded first. What is rounded has been cut to
 * below 2^9, where adding 1.5 * 2^23 leaves the whole number in the low bits.
 */
#include <string.h>

#include "vec.h"

#define X uint8_t
#define NAME(x) x##_u8
#include "pairs.inc"
#define X int8_t
#define NAME(x) x##_i8
#include "pairs.inc"
#define X int16_t
#define NAME(x) x##_i16
#include "pairs.inc"

static void join(fc_dtype of, const void *x, const void *y, int64_t step, int64_t count, int64_t zero, void *to)
{
    if (of == FC_U8)
        join_u8(x, y, step, count, (int32_t)zero, to);
    else if (of == FC_I8)
        join_i8(x, y, step, count, (int32_t)zero, to);
    else
        join_i16(x, y, step, count, (int32_t)zero, to);
}

static void cut(int64_t bytes, const void *sums, int64_t count, void *y)
{
    const uint32_t *restrict const from = sums;
    if (bytes == 1) {
        uint8_t *restrict const to = y;
        for (int64_t j = 0; j < count; j++) to[j] = (uint8_t)from[j];
    } else {
        uint16_t *restrict const to = y;
        for (int64_t j = 0; j < count; j++) to[j] = (uint16_t)from[j];
    }
}

static void quantize(fc_dtype of, const void *sums, int64_t count, float scale, int64_t zero, void *y)
{
    const int32_t *restrict const from = sums;
    uint8_t *restrict const to = y;
    const float low = (float)((of == FC_I8 ? -128 : 0) - zero), high = low + 255, shift = 0x1.8p23f;
    const int32_t back = 0x4b400000 - (int32_t)zero;
    for (int64_t j = 0; j < count; j++) {
        float v = (float)from[j] * scale;
        v = v > low ? v : low;
        v = (v < high ? v : high) + shift;
        int32_t bits;
        memcpy(&bits, &v, 4);
        to[j] = (uint8_t)(bits - back);
    }
}

const fc_pairs FC_NAME(fc_pairs_i32) = {join, cut, quantize};
