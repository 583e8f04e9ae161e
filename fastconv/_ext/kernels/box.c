/* box: y[j] = (sum over t < taps of x[t][j]) / q, the whole part: means of bytes, summed in 16 bits.
 *
 * Sums of whole numbers are exact, so that what leaves a window is subtracted again, which sums of floats may not
 * do. Along a row windows of 2^k samples are sums of two of 2^(k - 1): taps = 101 takes 6 such sums and 3 more. The
 * quotient is the high half of sum * multiplier, shifted down; fc_quotient_of says when that is exact.
 *
 * Granlund and Montgomery, Division by invariant integers using multiplication, PLDI 1994, section 4.
 */
#include "vec.h"

#define LANES (VEC_BYTES / 2)

FC_INLINE vec_shorts mean(vec_shorts sums, vec_shorts multiplier, int shift)
{
    return vec_high(sums, multiplier) >> shift;
}

FC_INLINE uint8_t mean_of(uint16_t sum, fc_quotient q)
{
    return (uint8_t)(((uint32_t)sum * q.multiplier >> 16) >> q.shift);
}

static void add(int64_t count, const uint8_t *restrict x, uint16_t *restrict sums)
{
    for (int64_t j = 0; j < count; j++) sums[j] = (uint16_t)(sums[j] + x[j]);
}

static void slide(int64_t count, const uint8_t *enters, const uint8_t *leaves, uint16_t *sums, fc_quotient q,
                  uint8_t *y)
{
    const vec_shorts multiplier = (vec_shorts){0} + q.multiplier;
    int64_t j = 0;
    for (; j + 2 * LANES <= count; j += 2 * LANES) {
        vec_shorts *const at = (vec_shorts *)(sums + j);
        const vec_shorts low = at[0] + vec_wide_u8(enters + j), high = at[1] + vec_wide_u8(enters + j + LANES);
        at[0] = low - vec_wide_u8(leaves + j);
        at[1] = high - vec_wide_u8(leaves + j + LANES);
        vec_store_u8(y + j, mean(low, multiplier, q.shift), mean(high, multiplier, q.shift));
    }
    for (; j < count; j++) {
        const uint16_t sum = (uint16_t)(sums[j] + enters[j]);
        sums[j] = (uint16_t)(sum - leaves[j]);
        y[j] = mean_of(sum, q);
    }
}

FC_INLINE vec_shorts few(const int64_t taps, int64_t step, const uint16_t *x)
{
    vec_shorts sum = *(const vec_shorts *)x;
#pragma GCC unroll 8
    for (int64_t t = 1; t < taps; t++) sum += *(const vec_shorts *)(x + t * step);
    return sum;
}

/* Sums of so few samples that they are taken one by one, and of what `sums` holds, divided. */
FC_INLINE void means(const int64_t taps, int64_t step, int64_t count, const uint16_t *x, const uint16_t *sums,
                     fc_quotient q, uint8_t *y)
{
    const vec_shorts multiplier = (vec_shorts){0} + q.multiplier;
    int64_t j = 0;
    for (; j + 2 * LANES <= count; j += 2 * LANES) {
        vec_shorts low = few(taps, step, x + j), high = few(taps, step, x + j + LANES);
        if (sums) low += *(const vec_shorts *)(sums + j), high += *(const vec_shorts *)(sums + j + LANES);
        vec_store_u8(y + j, mean(low, multiplier, q.shift), mean(high, multiplier, q.shift));
    }
    for (; j < count; j++) {
        uint16_t sum = sums ? sums[j] : 0;
        for (int64_t t = 0; t < taps; t++) sum = (uint16_t)(sum + x[j + t * step]);
        y[j] = mean_of(sum, q);
    }
}

static void along(int64_t taps, int64_t step, int64_t count, uint16_t *x, uint16_t *sums, fc_quotient q, uint8_t *y)
{
    switch (taps) {
    case 2: means(2, step, count, x, NULL, q, y); return;
    case 3: means(3, step, count, x, NULL, q, y); return;
    case 4: means(4, step, count, x, NULL, q, y); return;
    case 5: means(5, step, count, x, NULL, q, y); return;
    case 6: means(6, step, count, x, NULL, q, y); return;
    case 7: means(7, step, count, x, NULL, q, y); return;
    default: break;
    }
    /* x[j] is the sum of `width` samples from j on, sums[j] that of the `done` first */
    int64_t width = 1, done = 0;
    for (int64_t held = count + (taps - 1) * step; 2 * width <= taps; width *= 2) {
        for (int64_t j = 0; j < count && (taps & width); j += LANES) {
            vec_shorts *const to = (vec_shorts *)(sums + j);
            *to = *(const vec_shorts *)(x + done * step + j) + (done ? *to : (vec_shorts){0});
        }
        done += taps & width;
        held -= width * step;
        for (int64_t j = 0; j < held; j += LANES)
            *(vec_shorts *)(x + j) += *(const vec_shorts *)(x + j + width * step);
    }
    means(1, step, count, x + done * step, done ? sums : NULL, q, y);
}

const fc_box FC_NAME(fc_box_u8) = {add, slide, along};
