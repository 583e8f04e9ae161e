/* halves: floats of 16 bits made float, and float rounded to them, to nearest, ties to even.
 *
 * widen[0], narrow[0]: float16 (float16.h); [1]: bfloat16, the upper half of a float. NaN stays one, with its sign.
 */
#include "float16.h"

static void widen_f16(const void *x, int64_t count, void *y)
{
    const uint16_t *restrict const from = x;
    float *restrict const to = y;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) fc_widen_16(from + i, to + i);
    for (; i < count; i++) to[i] = fc_widen_one(from[i]);
}

static void narrow_f16(const void *x, int64_t count, void *y)
{
    const float *restrict const from = x;
    uint16_t *restrict const to = y;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) fc_narrow_16(from + i, to + i);
    for (; i < count; i++) to[i] = fc_narrow_one(from[i]);
}

static void widen_bf16(const void *x, int64_t count, void *y)
{
    const uint16_t *restrict const from = x;
    uint32_t *restrict const to = y;
    for (int64_t i = 0; i < count; i++) to[i] = (uint32_t)from[i] << 16;
}

static void narrow_bf16(const void *x, int64_t count, void *y)
{
    const uint32_t *restrict const from = x;
    uint16_t *restrict const to = y;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = from[i], nan = bits >> 16 | 0x40;
        const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : nearest);
    }
}

const fc_halves FC_NAME(fc_halves_f32) = {{widen_f16, widen_bf16}, {narrow_f16, narrow_bf16}};
