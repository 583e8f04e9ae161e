/* finish: y[i*step] = activation(y[i*step] + residual[i*step]).
 *
 *   clamp   min(max(y, low), high); NaN stays
 *   silu    y S(y),    S(y) = 1 / (1 + e^-y)
 *   gelu    y Phi(y),  Phi(y) = (1 + erf(y / sqrt 2)) / 2
 *
 * S and Phi are computed where they are at most 1/2, at -a = -abs(y), as m 2^k. For y < 0 the power is
 * multiplied last, in two steps, so that results keep their digits down to where they underflow; for
 * y > 0 the factor is 1 less that. a stops at FAR_*, where the result is 0 below and y above: Inf
 * gives 0 and Inf, and NaN, which no comparison holds for, passes through.
 *
 * Phi(-a) = e^(-a^2/2) P(t) / (a + c), P a polynomial of t = (a - c) / (a + c), which maps all a to
 * [-1, 1): Shepherd and Laframboise, Chebyshev Approximation of (1 + 2x) exp(x^2) erfc x, Math. Comp.
 * 36, 1981. t is computed as 2 a / (a + c) - 1, where an error is largest where P changes least. a^2
 * is split in an exact part and a small rest. P and the polynomial of e^r were interpolated in
 * Chebyshev nodes with 50 digits: relative errors with the rounded coefficients 2.9e-8 and 2e-9 in
 * float, 5.4e-17 and 1.6e-17 in double. Errors of results: docs/accuracy.md.
 *
 * Strided runs go through a vector in memory.
 */
#include "vec.h"

#define T float
#define BITS uint32_t
#define NAME(x) x##_f32
#define MANTISSA 23
#define BIAS 127
#define ROUND 0x1.8p23f      /* adding it rounds to whole numbers, which are its low bits */
#define KEPT 0xfffff000u     /* 12 of 24 digits: their square is exact */
#define LOG2_E 1.44269504f
#define LN2_HIGH 0x1.62e4p-1f /* 15 digits: products with k are exact */
#define LN2_LOW 1.42860677e-6f
#define FAR_SILU 112.0f
#define FAR_GELU 14.5f
#define CENTRE 4
#define EXPONENTIAL 0.5f, 0.166666672f, 0.0416663103f, 0.00833329372f, 0.00139485323f, 0.000199075163f
#define TAIL \
    0.755285144f, -0.607896626f, 0.387136668f, -0.186523005f, 0.0604064688f, -0.00752721308f, \
    -0.00352357398f, 0.0015693137f, 0.000194801847f, -0.000122983154f
#include "finish.inc"

#define T double
#define BITS uint64_t
#define NAME(x) x##_f64
#define MANTISSA 52
#define BIAS 1023
#define ROUND 0x1.8p52
#define KEPT 0xfffffffff8000000u /* 26 of 53 digits */
#define LOG2_E 1.4426950408889634
#define LN2_HIGH 0x1.62e42fefa2p-1 /* 40 digits */
#define LN2_LOW 7.3710025651677990e-13
#define FAR_SILU 760.0
#define FAR_GELU 39.0
#define CENTRE 5
#define EXPONENTIAL \
    0.50000000000000011, 0.16666666666666669, 0.041666666666624039, 0.0083333333333300546, \
    0.0013888888917258759, 0.00019841269863088255, 2.4801521225986432e-05, 2.7557268406190795e-06, \
    2.7620121717381933e-07, 2.51004110820149e-08
#define TAIL \
    0.76919304975006297, -0.66538250289005674, 0.49530561596997641, -0.31353315667130455, \
    0.16502036617038471, -0.069118638706310159, 0.020795066799883178, -0.0029933767705085422, \
    -0.00079786939846607013, 0.00054489906477312984, -5.937572800991586e-05, \
    -4.9762814270585802e-05, 1.6681213742042063e-05, 3.9809021578680414e-06, \
    -2.7692670959974288e-06, -3.3661536810124679e-07, 4.3314103568625643e-07, \
    4.2274993740064036e-08, -6.5942216624770693e-08, -9.3135609943244447e-09, \
    7.6630718007598153e-09, 1.7530484014075168e-09, -1.5877468827494993e-10
#include "finish.inc"
