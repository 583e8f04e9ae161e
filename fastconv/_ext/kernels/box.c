/* box: y[j] = (sum over t < taps of x[t][j]) / q, towards zero: means of whole numbers.
 *
 * Sums of whole numbers are exact, so that what leaves a window is subtracted again, which sums of floats may not
 * do. Along a row windows of 2^k samples are sums of two of 2^(k - 1): taps = 101 takes 6 such sums and 3 more.
 *
 * Bytes whose sum fits are summed in 16 bits. The quotient is the high half of sum * multiplier, shifted down;
 * quotient_of of drivers/separable.c says when that is exact. All else is summed in 32 bits. There the quotient is that
 * of floats, made smaller by more than they may be off, and one more where what is left of the sum is q or more.
 *
 * Granlund and Montgomery, Division by invariant integers using multiplication, PLDI 1994, section 4.
 */
#include "vec.h"

FC_INLINE uint8_t mean_u8(uint16_t sum, fc_quotient q)
{
    return (uint8_t)(((uint32_t)sum * q.multiplier >> 16) >> q.shift);
}

FC_INLINE int32_t mean_of(uint32_t sum, fc_quotient q)
{
    /* sum, product and this constant are rounded, each by 2^-24 at most */
    const float inverse = (float)((1 - 0x1p-22) / q.divisor);
    const int32_t size = (int32_t)sum, mean = (int32_t)((float)size * inverse);
    return mean + (size - mean * q.divisor >= q.divisor);
}

FC_INLINE int32_t mean_of_signed(uint32_t sum, fc_quotient q)
{
    const uint32_t sign = 0 - (sum >> 31);
    return (int32_t)(((uint32_t)mean_of((sum ^ sign) - sign, q) ^ sign) - sign);
}

#define X uint8_t
#define S uint16_t
#define MEAN mean_u8
#define NAME(x) x##_u8
#include "box.inc"
#define S uint32_t
#define MEAN mean_of
#define X uint8_t
#define NAME(x) x##_u8_i32
#include "box.inc"
#define S uint32_t
#define MEAN mean_of
#define X uint16_t
#define NAME(x) x##_u16_i32
#include "box.inc"
#define S uint32_t
#define MEAN mean_of_signed
#define X int8_t
#define NAME(x) x##_i8_i32
#include "box.inc"
#define S uint32_t
#define MEAN mean_of_signed
#define X int16_t
#define NAME(x) x##_i16_i32
#include "box.inc"
