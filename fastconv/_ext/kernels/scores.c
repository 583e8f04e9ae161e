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
#include <string.h>

#include "inverse_root.h"

typedef vec_f64 vec;

#define LANES ((int64_t)(VEC_BYTES / 8))
#define SUMS 8 /* that are made side by side */
#define STRIP 512
#define APART 16 /* doubles: a page apart, a load of one would wait for the store to the other */

/* s and q grow by x and x^2; then they go to sums and squares, or are added there, where these are given. A row is asked for
 * from `next` on. */
FC_INLINE void row(int64_t count, const double *x, int64_t next, double *s, double *q, double *sums, int add_sums,
                   double *squares, int add_squares)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        __builtin_prefetch(x + i + next, 0, 2);
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
    double both[2 * STRIP + APART], *const s = both, *const q = both + STRIP + APART;
    for (int64_t at = 0; at < count; at += STRIP, x += STRIP, sums += STRIP, squares += STRIP) {
        const int64_t n = fc_min(STRIP, count - at);
        memset(both, 0, sizeof both);
        int64_t t = taps - 1;
        for (; t >= outputs; t--) row(n, x + t * ldx, -2 * ldx, s, q, NULL, 0, NULL, 0);
        for (; t >= 0; t--)
            if (add) row(n, x + t * ldx, -2 * ldx, s, q, sums + t * ldy, 0, squares + t * ldy, 1);
            else row(n, x + t * ldx, -2 * ldx, s, q, sums + t * ldy, 0, squares + t * ldy, 0);
        memset(both, 0, sizeof both);
        for (t = 1; t < outputs; t++)
            row(n, x + (taps + t - 1) * ldx, 2 * ldx, s, q, sums + t * ldy, 1, squares + t * ldy, 1);
    }
}

#define T double
#define NAME(x) x##_f64
#include "along_windows.inc"

/* The scores of a vector of windows, or of its first `count`; whether any is doubtful. */
FC_INLINE int scores(int narrow, int64_t count, int64_t channels, const double *const *sums, int64_t at,
                     const double *products, fc_score_rule rule, double by, void *y)
{
    const fc_mask mask = fc_lanes(8, 0, count);
    const int whole = count == LANES;
    const vec q = whole ? *(const vec *)(sums[channels] + at) : (vec)fc_load_part(8, mask, sums[channels] + at);
    const vec top = whole ? *(const vec *)(products + at) : (vec)fc_load_part(8, mask, products + at);
    vec spread = q * (1 - rule.share);
    for (int64_t c = 0; c < channels; c++) {
        const vec s = whole ? *(const vec *)(sums[c] + at) : (vec)fc_load_part(8, mask, sums[c] + at);
        spread -= s * s * rule.each;
    }
    const vec inverse = inverse_root(narrow, spread + rule.share * q);
    const bits_f64 constant = spread <= rule.least - (vec){0};
    vec score = top;
    if (by != 0) score = top * inverse * by; /* else a template of one value */
    store_scores(narrow, score, constant, count, y);
    const bits_f64 doubtful = (rule.norm - (vec){0} < rule.limit * inverse) & ~constant;
    return fc_any(&doubtful);
}

FC_INLINE int all_scores(int narrow, int64_t count, int64_t channels, const double *const *sums, const double *products,
                         fc_score_rule rule, char *y)
{
    const double by = rule.norm != 0 ? 1 / rule.norm : 0;
    int doubtful = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        doubtful |= scores(narrow, LANES, channels, sums, i, products, rule, by, y + i * (narrow ? 4 : 8));
    if (i < count) doubtful |= scores(narrow, count - i, channels, sums, i, products, rule, by, y + i * (narrow ? 4 : 8));
    return doubtful;
}

static int score(int64_t count, int64_t channels, const double *const *sums, const double *products,
                 const fc_score_rule *rule, int narrow, void *y)
{
    return narrow ? all_scores(1, count, channels, sums, products, *rule, y)
                  : all_scores(0, count, channels, sums, products, *rule, y);
}

/* Of bytes sums are whole, below 2^32 for up to 2^24 of them, and the 256 differences are looked up: 0.14 and 1.5 ms of a picture
 * of 1080p, one thread of a Zen 3, where conversions took 1.1 and 2.3. */
static double total_u8(int64_t count, const uint8_t *x)
{
    uint32_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i];
    return sum;
}

static double centre_u8(int64_t count, const uint8_t *restrict x, double mean, double *restrict y)
{
    double less[256];
    uint8_t least = 255, most = 0;
    for (int i = 0; i < 256; i++) less[i] = i - mean;
    for (int64_t i = 0; i < count; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    for (int64_t i = 0; i < count; i++) y[i] = less[x[i]];
    return fmax(fabs(less[least]), fabs(less[most]));
}

#define X float
#define NAME(x) x##_f32
#include "centre.inc"
#define X double
#define NAME(x) x##_f64
#include "centre.inc"

static double total(fc_dtype of, int64_t count, const void *x)
{
    return of == FC_U8 ? total_u8(count, x) : of == FC_F32 ? total_f32(count, x) : total_f64(count, x);
}

static double centre(fc_dtype of, int64_t count, const void *x, double mean, double *y)
{
    return of == FC_U8    ? centre_u8(count, x, mean, y)
           : of == FC_F32 ? centre_f32(count, x, mean, y)
                          : centre_f64(count, x, mean, y);
}

const fc_scores FC_NAME(fc_scores_f64) = {down, along_f64, score, total, centre};
