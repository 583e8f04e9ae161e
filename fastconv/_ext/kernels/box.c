/* box: y[j] = (sum over t < taps of x[t][j]) / q, towards zero: means of whole numbers.
 *
 * Sums of whole numbers are exact, so that what leaves a window is subtracted again, which sums of floats may not
 * do. Along a row a window is the difference of two sums from the row's beginning, which may wrap; where neighbours lie
 * `step` apart, windows of 2^k samples are sums of two of 2^(k - 1): taps = 101 takes 6 such sums and 3 more.
 *
 * Bytes whose sum fits are summed in 16 bits. The quotient is the high half of sum * multiplier, shifted down. All else is
 * summed in 32 bits. There, for sums n below FC_BOX_PLAIN, the quotient is the whole part of (n + 1/2) / q in float: that is
 * 1 / 2q or more from any whole number, and three roundings of 2^-24 move it by less, as 3 n 2^-24 < 1/2. Beyond, and of
 * multipliers that leave a rest, what is found is no more than one too small, and one more where the remainder says so.
 * separable_means.c of the drivers proves it of the multipliers.
 *
 * Granlund and Montgomery, Division by invariant integers using multiplication, PLDI 1994, section 4; prefix sums in
 * registers: Hillis and Steele, Data parallel algorithms, CACM 29(12), 1986.
 */
#include "whole.h"

FC_INLINE vec_shorts mean_16(vec_shorts sum, fc_quotient q, const int mends)
{
    const vec_shorts multiplier = (vec_shorts){0} + q.multiplier, mean = vec_high(sum, multiplier) >> (q.shift & 15);
    if (!mends) return mean;
    typedef int16_t rest __attribute__((vector_size(VEC_BYTES)));
    const int16_t divisor = (int16_t)q.divisor;
    return mean - (vec_shorts)((rest)(sum - mean * (uint16_t)divisor) >= divisor);
}

FC_INLINE vec_ints mean_32(vec_ints sum, fc_quotient q, const int mends)
{
    /* below the quotient by more than roundings of the sum, the product and this constant may add, 2^-24 each */
    const float inverse = (float)((mends ? 1 - 0x1p-22 : 1) / q.divisor);
    const vec_f32 product = __builtin_convertvector(sum, vec_f32) * inverse;
    if (!mends) return __builtin_convertvector(product + inverse / 2, vec_ints);
    const vec_ints mean = __builtin_convertvector(product, vec_ints);
    return mean - (sum - mean * q.divisor >= q.divisor);
}

FC_INLINE vec_ints mean_signed(vec_ints sum, fc_quotient q, const int mends)
{
    typedef uint32_t bits __attribute__((vector_size(VEC_BYTES)));
    const vec_ints sign = sum >> 31;
    const bits size = (bits)(sum ^ sign) - (bits)sign;
    return (mean_32((vec_ints)size, q, mends) ^ sign) - sign;
}

FC_INLINE void store_bytes(uint8_t *y, const vec_ints *mean)
{
    enum { LANES = VEC_BYTES / 4 };
    vec_store_ints_u8(y, mean[0] & 255, mean[1] & 255, y + 2 * LANES, mean[2] & 255, mean[3] & 255);
}

FC_INLINE void store_shorts(uint16_t *y, const vec_ints *mean)
{
    enum { LANES = VEC_BYTES / 4 };
    vec_store_ints_u16(y, mean[0], mean[1]);
    vec_store_ints_u16(y + 2 * LANES, mean[2], mean[3]);
}

FC_INLINE void store_16(uint8_t *y, const vec_shorts *mean)
{
    enum { LANES = VEC_BYTES / 2 };
    vec_store_u8(y, mean[0], mean[1]);
    vec_store_u8(y + 2 * LANES, mean[2], mean[3]);
}

#define X uint8_t
#define S uint16_t
#define N uint16_t
#define LOAD(p) vec_wide_u8(p)
#define MEAN mean_16
#define SCAN vec_scan_shorts
#define LAST vec_last_shorts
#define STORE(y, mean) store_16(y, mean)
#define NAME(x) x##_u8
#include "box.inc"
#define X uint8_t
#define S uint32_t
#define N int32_t
#define LOAD(p) vec_ints_u8(p)
#define MEAN(v, q, mends) mean_32((vec_ints)(v), q, mends)
#define SCAN vec_scan_words
#define LAST vec_last_words
#define STORE(y, mean) store_bytes(y, mean)
#define NAME(x) x##_u8_i32
#include "box.inc"
#define X uint16_t
#define S uint32_t
#define N int32_t
#define LOAD(p) vec_ints_u16(p)
#define MEAN(v, q, mends) mean_32((vec_ints)(v), q, mends)
#define SCAN vec_scan_words
#define LAST vec_last_words
#define STORE(y, mean) store_shorts(y, mean)
#define NAME(x) x##_u16_i32
#include "box.inc"
#define X int8_t
#define S uint32_t
#define N int32_t
#define LOAD(p) vec_ints_i8(p)
#define MEAN(v, q, mends) mean_signed((vec_ints)(v), q, mends)
#define SCAN vec_scan_words
#define LAST vec_last_words
#define STORE(y, mean) store_bytes((uint8_t *)(y), mean)
#define NAME(x) x##_i8_i32
#include "box.inc"
#define X int16_t
#define S uint32_t
#define N int32_t
#define LOAD(p) vec_ints_i16(p)
#define MEAN(v, q, mends) mean_signed((vec_ints)(v), q, mends)
#define SCAN vec_scan_words
#define LAST vec_last_words
#define STORE(y, mean) store_shorts((uint16_t *)(y), mean)
#define NAME(x) x##_i16_i32
#include "box.inc"
