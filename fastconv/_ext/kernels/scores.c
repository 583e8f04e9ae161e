/* scores: correlation coefficients from sums over windows, in double.
 *
 *   spread = q - (sum over c of s[c]^2) / N,   score = product / (norm sqrt(spread))
 *
 * s[c] and q are the sums of a window's N samples of channel c and of the squares of all its samples,
 * shifted so that their difference loses little (fastconv/_match.py). Windows are boxes; down and along
 * sum them axis by axis.
 *
 * down    begins anew every `outputs` rows: sums from each row to the last of the first window, upwards,
 *         and from there on, downwards (van Herk, A fast algorithm for local minimum and maximum filters
 *         on rectangular and octagonal kernels, 1992). Nothing is ever taken off a sum, so that none
 *         drifts, a loud window leaves nothing in a quiet one, and NaN stays in its windows.
 * along   sums of 1, 4, 16 .. neighbours; as many of each as the digits of `taps` say lie side by side.
 *
 * Rows are added as they lie, STRIP columns at a time: a strip of a row is a page, which the next one is
 * fetched ahead of, and its sums so far are in L1.
 */
#include <math.h>
#include <string.h>

#include "vec.h"

typedef vec_f64 vec;

#define LANES ((int64_t)(VEC_BYTES / 8))
#define STRIP 512
#define TOGETHER 64

/* s and q grow by x and x^2; then they go to sums and squares, or are added there, where these are given. */
FC_INLINE void row(int64_t count, const double *x, double *s, double *q, double *sums, int add_sums,
                   double *squares, int add_squares)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec a = *(const vec *)(x + i);
        vec b = *(vec *)(s + i) += a, c = *(vec *)(q + i) += a * a;
        if (!sums) continue;
        if (add_sums) b += *(const vec *)(sums + i);
        if (add_squares) c += *(const vec *)(squares + i);
        *(vec *)(sums + i) = b, *(vec *)(squares + i) = c;
    }
    for (; i < count; i++) {
        s[i] += x[i], q[i] += x[i] * x[i];
        if (!sums) continue;
        sums[i] = add_sums ? sums[i] + s[i] : s[i];
        squares[i] = add_squares ? squares[i] + q[i] : q[i];
    }
}

static void down(int64_t count, int64_t taps, int64_t outputs, const double *x, int64_t ldx, int add,
                 double *sums, double *squares, int64_t ldy)
{
    double s[STRIP], q[STRIP];
    for (int64_t at = 0; at < count; at += STRIP, x += STRIP, sums += STRIP, squares += STRIP) {
        const int64_t n = fc_min(STRIP, count - at);
        memset(s, 0, sizeof s);
        memset(q, 0, sizeof q);
        int64_t t = taps - 1;
        for (; t >= outputs; t--) row(n, x + t * ldx, s, q, NULL, 0, NULL, 0);
        for (; t >= 0; t--)
            if (add) row(n, x + t * ldx, s, q, sums + t * ldy, 0, squares + t * ldy, 1);
            else row(n, x + t * ldx, s, q, sums + t * ldy, 0, squares + t * ldy, 0);
        memset(s, 0, sizeof s);
        memset(q, 0, sizeof q);
        for (t = 1; t < outputs; t++)
            row(n, x + (taps + t - 1) * ldx, s, q, sums + t * ldy, 1, squares + t * ldy, 1);
    }
}

/* y[i] = y[i] if `more`, plus sum over k < terms of x[i + k*step], for i < count, upwards: y may be x. */
FC_INLINE void neighbours(const int terms, const int more, int64_t count, const double *x, int64_t step,
                          double *y)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        vec a = *(const vec *)(x + i);
        if (terms == 2) a += *(const vec *)(x + i + step);
        if (terms > 2) {
            a += *(const vec *)(x + i + step);
            vec b = *(const vec *)(x + i + 2 * step);
            if (terms == 4) b += *(const vec *)(x + i + 3 * step);
            a += b;
        }
        if (more) a += *(const vec *)(y + i);
        *(vec *)(y + i) = a;
    }
    for (; i < count; i++) {
        double a = x[i], b = 0;
        if (terms > 1) a += x[i + step];
        if (terms > 2) b = x[i + 2 * step];
        if (terms > 3) b += x[i + 3 * step];
        if (terms > 2) a += b;
        y[i] = more ? a + y[i] : a;
    }
}

static void along(int64_t taps, int64_t count, double *x, double *y)
{
    int64_t begin = 0;
    for (int64_t width = 1;; width *= 4) { /* x[i] is the sum of `width` neighbours */
        const int64_t digit = taps / width % 4;
        switch (digit + (begin > 0 ? 4 : 0)) {
        case 1: memcpy(y, x, (size_t)count * sizeof *y); break;
        case 2: neighbours(2, 0, count, x, width, y); break;
        case 3: neighbours(3, 0, count, x, width, y); break;
        case 5: neighbours(1, 1, count, x + begin, width, y); break;
        case 6: neighbours(2, 1, count, x + begin, width, y); break;
        case 7: neighbours(3, 1, count, x + begin, width, y); break;
        }
        begin += digit * width;
        if (begin == taps) return;
        neighbours(4, 0, count + taps - 4 * width, x, width, x);
    }
}

static int score(int64_t count, int64_t channels, const double *const *sums, const double *products,
                 const fc_score_rule *rule, int narrow, void *y)
{
    double spread[TOGETHER], made[TOGETHER];
    int64_t doubtful = 0;
    for (int64_t begin = 0; begin < count; begin += TOGETHER) {
        const int64_t n = fc_min(TOGETHER, count - begin);
        const double *const q = sums[channels] + begin, *const top = products + begin;
        for (int64_t i = 0; i < n; i++) spread[i] = q[i] * (1 - rule->share);
        for (int64_t c = 0; c < channels; c++) {
            const double *const s = sums[c] + begin;
            for (int64_t i = 0; i < n; i++) spread[i] -= s[i] * s[i] * rule->each;
        }
        const double share = rule->share, least = rule->least, limit = rule->limit;
        const double norm = rule->norm, blank = rule->norm == 0; /* a template of one value */
        for (int64_t i = 0; i < n; i++) {
            const double root = sqrt(spread[i] + share * q[i]) * norm;
            const double scale = blank ? 1.0 : root;
            double a = top[i] / scale;
            a = a > 1 ? 1 : a;
            a = a < -1 ? -1 : a;
            const int constant = spread[i] <= least;
            doubtful += constant ? 0 : scale < limit;
            made[i] = constant ? 0 : a;
        }
        if (narrow)
            for (int64_t i = 0; i < n; i++) ((float *)y)[begin + i] = (float)made[i];
        else
            memcpy((double *)y + begin, made, (size_t)n * sizeof *made);
    }
    return doubtful > 0;
}

const fc_scores FC_NAME(fc_scores_f64) = {down, along, score};
