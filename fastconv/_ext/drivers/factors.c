/* Kernels that are outer products: one vector an axis, found by division. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "separable.h"

/* Factors through the element `at` of w, which is not 0; whether their product is w. */
static int factors_through(const fc_problem *p, const void *w, const int64_t *at, double *factors)
{
    int64_t origin = 0, first = -1, last = 0, axes = 0, begin[FC_DIMS], weights = 0;
    for (int64_t d = 0; d < p->dims; d++) {
        origin += at[d] * p->w_s[d];
        begin[d] = weights;
        weights += p->ker[d];
        if (p->ker[d] == 1) continue;
        if (first < 0) first = d;
        last = d;
        axes++;
    }
    const double pivot = fc_separable_get(w, origin, p->dtype);
    const int whole = p->dtype == FC_U8 || p->dtype == FC_U16;
    int exponent = 0;
    double size = 0;
    for (int64_t d = 0; d < p->dims; d++) {
        double *const f = factors + begin[d];
        int own = 0;
        size = 0;
        for (int64_t r = 0; r < p->ker[d]; r++) {
            f[r] = fc_separable_get(w, origin + (r - at[d]) * p->w_s[d], p->dtype) / (d == first ? 1 : pivot);
            size += fabs(f[r]);
        }
        /* powers of two leave every axis but the last with a sum of sizes of 1/2 to 1, so that no
         * row between passes overflows where the result does not */
        if (p->ker[d] > 1 && d < last && !whole) frexp(size, &own);
        exponent += own;
        for (int64_t r = 0; r < p->ker[d]; r++)
            f[r] = fc_separable_rounded(ldexp(f[r], d == last ? exponent : -own), p->dtype);
        if (d == last) break;
    }
    for (int64_t d = last + 1; d < p->dims; d++) factors[begin[d]] = 1;
    for (int64_t i = 0; i < weights && whole; i++)
        if (factors[i] != rint(factors[i])) return 0;
    /* such rows are whole numbers of the smallest one there is, which the last factor multiplies:
     * together that may not pass the smallest normal number */
    const double smallest = p->dtype == FC_F32 ? FLT_EPSILON : DBL_EPSILON;
    if (axes > 1 && ldexp(size, exponent) * (double)(weights - p->ker[last]) * smallest > 1) return 0;
    const double eps = p->dtype == FC_F32 ? FLT_EPSILON : DBL_EPSILON;
    const int64_t taps = fc_volume(p->ker, p->dims);
    for (int64_t tap = 0; tap < taps; tap++) {
        double product = 1;
        int64_t from = 0;
        for (int64_t d = p->dims - 1, rest = tap; d >= 0; d--) {
            product *= factors[begin[d] + rest % p->ker[d]];
            from += rest % p->ker[d] * p->w_s[d];
            rest /= p->ker[d];
        }
        const double value = fc_separable_get(w, from, p->dtype);
        if (!(fabs(product - value) <= 2 * (double)axes * eps * fabs(value))) return 0;
    }
    return 1;
}

int fc_factorize(const fc_problem *p, const void *w, double *factors)
{
    /* through the smallest weight that is not 0, which leaves multiples of it whole, or the largest */
    const int64_t taps = fc_volume(p->ker, p->dims);
    int64_t least[FC_DIMS] = {0}, most[FC_DIMS] = {0}, at[FC_DIMS] = {0};
    double smallest = INFINITY, largest = 0;
    for (int64_t tap = 0; tap < taps; tap++) {
        int64_t from = 0;
        for (int64_t d = p->dims - 1, rest = tap; d >= 0; d--) {
            at[d] = rest % p->ker[d];
            from += at[d] * p->w_s[d];
            rest /= p->ker[d];
        }
        const double size = fabs(fc_separable_get(w, from, p->dtype));
        if (!isfinite(size)) return 0;
        if (size > 0 && size < smallest) {
            smallest = size;
            memcpy(least, at, sizeof at);
        }
        if (size > largest) {
            largest = size;
            memcpy(most, at, sizeof at);
        }
    }
    if (largest == 0) { /* rank 0 */
        for (int64_t d = 0; d < p->dims; d++)
            for (int64_t r = 0; r < p->ker[d]; r++) *factors++ = 0;
        return 0;
    }
    return factors_through(p, w, least, factors) || factors_through(p, w, most, factors);
}
