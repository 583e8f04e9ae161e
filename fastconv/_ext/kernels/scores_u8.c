/* scores_u8: correlation coefficients of windows of bytes, from whole numbers.
 *
 *   score = (N p - sum over c of T[c] s[c]) / (norm root(N q - sum over c of s[c]^2))
 *
 * N samples of a window, p the sum of its products with the template, T and s sums of a channel of the template and of the
 * window, q the sum of all its squares, norm the root likewise of the template. All are whole and below 2^31, what is made of
 * them below 2^53: nothing is rounded before the root, and a window is constant where what is under it is 0. What leaves a
 * window may be taken off its sums, which scores.c may not do.
 */
#include <string.h>

#include "inverse_root.h"

typedef int32_t vec_i32 __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));

#define LANES ((int64_t)(VEC_BYTES / 8))

typedef int32_t ints __attribute__((vector_size(VEC_BYTES / 2)));

static void slide(int64_t count, const uint8_t *restrict x, const uint8_t *restrict before, int32_t *restrict sums,
                  int32_t *restrict squares)
{
    if (!before) {
        for (int64_t i = 0; i < count; i++) sums[i] += x[i], squares[i] += x[i] * x[i];
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        const int32_t more = x[i] - before[i];
        sums[i] += more, squares[i] += more * (x[i] + before[i]);
    }
}

#define T int32_t
#define NAME(x) x##_i32
#include "along_windows.inc"

/* Whole numbers as doubles, `count` of them, or a vector. */
FC_INLINE vec_f64 widened(int64_t count, const int32_t *x)
{
    ints a = {0};
    if (count == LANES) memcpy(&a, x, sizeof a);
    else memcpy(&a, x, (size_t)count * 4);
    return __builtin_convertvector(a, vec_f64);
}

FC_INLINE void scores(int64_t count, int64_t channels, const int32_t *const *sums, int64_t at, const int32_t *products,
                      const fc_byte_rule *rule, double by, float *y)
{
    vec_f64 spread = rule->n * widened(count, sums[channels] + at), top = rule->n * widened(count, products + at);
    for (int64_t c = 0; c < channels; c++) {
        const vec_f64 s = widened(count, sums[c] + at);
        spread -= s * s, top -= rule->total[c] * s;
    }
    store_scores(1, top * inverse_root(1, spread) * by, spread <= (vec_f64){0}, count, y + at);
}

static void score(int64_t count, int64_t channels, const int32_t *const *sums, const int32_t *products,
                  const fc_byte_rule *rule, float *y)
{
    const double by = rule->norm > 0 ? 1 / rule->norm : 0; /* a template of one value scores nothing */
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) scores(LANES, channels, sums, i, products, rule, by, y);
    if (i < count) scores(count - i, channels, sums, i, products, rule, by, y);
}

const fc_byte_scores FC_NAME(fc_scores_u8_i32) = {slide, along_i32, score};
