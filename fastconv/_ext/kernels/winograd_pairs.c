/* winograd_pairs: F(2x2, 3x3) of integers, two channels in a lane of 32 bits; the formulas are in fc.h.
 *
 *      1  0 -1  0          1  1  1  0
 * B' = 0  1  1  0     A' = 0  1 -1 -1
 *      0 -1  1  0
 *      0  1  0 -1
 *
 * Lanes are tiles. Samples of at most 255 are at most 1020 after B', which adds in 16 bits; A' adds in 32, and wraps: the
 * sum is four times what fits 30 bits, so that it is right again when it is halved twice.
 *
 * Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4.1.
 */
#include "vec.h"

#define LANES (VEC_BYTES / 4)

#define WORDS(x) (*(vec_words *)(x))
#define SHORTS(x) (*(const vec_shorts *)(x))

typedef uint32_t words __attribute__((vector_size(VEC_BYTES)));

#if VEC_BYTES == 64
static const words evens = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
static const words first_woven = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
#elif VEC_BYTES == 32
static const words evens = {0, 2, 4, 6, 8, 10, 12, 14};
static const words first_woven = {0, 8, 1, 9, 2, 10, 3, 11};
#else
static const words evens = {0, 2, 4, 6};
static const words first_woven = {0, 4, 1, 5};
#endif

static void split(const void *x, int64_t count, void *even, void *odd)
{
    const uint32_t *from = x;
    for (int64_t t = 0; t < count; t += LANES, from += 2 * LANES) {
        const words a = (words)WORDS(from), b = (words)WORDS(from + LANES);
        WORDS((uint32_t *)even + t) = (vec_words)FC_SHUFFLE(a, b, evens);
        WORDS((uint32_t *)odd + t) = (vec_words)FC_SHUFFLE(a, b, evens + 1);
    }
}

/* Row i of B' times a column of d. */
FC_INLINE vec_shorts row_of(const int64_t i, void *const *x, int64_t t)
{
    const int64_t first = i == 0 ? 0 : i == 2 ? 2 : 1, second = i == 2 ? 1 : i == 3 ? 3 : 2;
    const vec_shorts a = SHORTS((uint32_t *)x[first] + t), b = SHORTS((uint32_t *)x[second] + t);
    return i == 1 ? a + b : a - b;
}

static void input(void *const *even, void *const *odd, int64_t count, void *to, int64_t ld)
{
    uint32_t *y = to;
    for (int64_t t = 0; t < count; t += LANES, y += LANES)
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++) {
            const vec_shorts d0 = row_of(i, even, t), d1 = row_of(i, odd, t);
            const vec_shorts d2 = row_of(i, even, t + 1), d3 = row_of(i, odd, t + 1);
            WORDS(y + (i * 4 + 0) * ld) = (vec_words)(d0 - d2);
            WORDS(y + (i * 4 + 1) * ld) = (vec_words)(d1 + d2);
            WORDS(y + (i * 4 + 2) * ld) = (vec_words)(d2 - d1);
            WORDS(y + (i * 4 + 3) * ld) = (vec_words)(d1 - d3);
        }
}

static void output(const void *v, int64_t ld, int64_t count, uint32_t bias, void *const *y)
{
    typedef int32_t ints __attribute__((vector_size(VEC_BYTES)));
    const uint32_t *m = v;
    for (int64_t t = 0; t < count; t += LANES, m += LANES) {
        words sums[2][4];
#pragma GCC unroll 4
        for (int64_t j = 0; j < 4; j++) {
            const words m0 = (words)WORDS(m + j * ld), m1 = (words)WORDS(m + (4 + j) * ld);
            const words m2 = (words)WORDS(m + (8 + j) * ld), m3 = (words)WORDS(m + (12 + j) * ld);
            sums[0][j] = m0 + (m1 + m2);
            sums[1][j] = (m1 - m2) - m3;
        }
#pragma GCC unroll 2
        for (int64_t r = 0; r < 2; r++) {
            const words left = sums[r][0] + (sums[r][1] + sums[r][2]), right = (sums[r][1] - sums[r][2]) - sums[r][3];
            const words a = (words)((ints)left >> 2) + bias, b = (words)((ints)right >> 2) + bias;
            uint32_t *const to = (uint32_t *)y[r] + 2 * t;
            WORDS(to) = (vec_words)FC_SHUFFLE(a, b, first_woven);
            WORDS(to + LANES) = (vec_words)FC_SHUFFLE(a, b, first_woven + LANES / 2);
        }
    }
}

const fc_winograd_pairs FC_NAME(fc_winograd_pairs_i32) = {LANES, split, input, output};
