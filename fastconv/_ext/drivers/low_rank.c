/* Kernels that are sums of a few outer products: w[i][j] = sum over t < terms of u[t][i] v[t][j].
 *
 * Gaussian elimination with complete pivoting: of what is left, R, the row and the column of the largest
 * element make the next term, which leaves zeros there. Factors are rounded as they are made, and what
 * is left is taken from w anew each time, so that it holds all that the terms miss.
 *
 * An output is off by at most sum over (|R| + c eps A) |x|, where A = sum over t of |u[t]||v[t]| and c stands
 * for the roundings of the passes (error_bound in solvers/separable.py). Terms cancel where w is small
 * beside A, so that this is stated against B = max|x| sum|w|, not S: A may be FC_LOW_RANK_GROWTH times w in
 * sum (1.1 of differences of Gaussians), and 2^10 times the error at most w in every element, which leaves each
 * output three digits of its own S. R counts as rounding where it is FC_LOW_RANK_REST eps A at most in every
 * element. Else it may be FC_LOW_RANK_DROP of w in sum, if the caller allows that.
 *
 * Golub, Van Loan, Matrix Computations, 4th ed., section 3.4.8; Treitel, Shanks, The design of multistage
 * separable planar filters, IEEE Trans. Geoscience Electronics 9(1), 1971. */
#include <float.h>
#include <math.h>

#include "separable.h"

/* The two axes that the kernel has more than one sample on; 0 when these are not all. */
static int two_axes(const fc_problem *p, int64_t *first, int64_t *last)
{
    int64_t count = 0;
    for (int64_t d = 0; d < p->dims; d++) {
        if (p->ker[d] == 1) continue;
        *(count ? last : first) = d;
        count++;
    }
    return count == 2;
}

/* A power of two makes the sum of sizes of u 1/2 to 1, so that no row between passes overflows where the
 * result does not. Whether what such rows lose when they are subnormal stays below the smallest normal number
 * after v multiplied it. */
static int balance(double *u, int64_t rows, double *v, int64_t columns, fc_dtype dtype)
{
    int exponent = 0;
    double size = 0;
    for (int64_t i = 0; i < rows; i++) size += fabs(u[i]);
    frexp(size, &exponent);
    size = 0;
    for (int64_t i = 0; i < rows; i++) u[i] = fc_separable_rounded(ldexp(u[i], -exponent), dtype);
    for (int64_t j = 0; j < columns; j++) size += fabs(v[j] = fc_separable_rounded(ldexp(v[j], exponent), dtype));
    return size * (double)rows * (dtype == FC_F32 ? FLT_EPSILON : DBL_EPSILON) <= 1;
}

int64_t fc_low_rank(const fc_problem *p, const void *w, int64_t most, int dropping, double *u, double *v)
{
    int64_t a = 0, h = 0;
    if (!two_axes(p, &a, &h)) return 0;
    const int64_t rows = p->ker[a], columns = p->ker[h];
    const double eps = p->dtype == FC_F32 ? FLT_EPSILON : DBL_EPSILON;
    for (int64_t terms = 0;; terms++) {
        double all = 0, grown = 0, left = 0, largest = 0;
        int64_t row = 0, column = 0;
        int exact = terms > 1, digits = 1; /* one product is fc_factorize's */
        const double rounded = FC_LOW_RANK_REST(terms) * eps;
        const double roundings = 0x1p10 * (FC_LOW_RANK_ROUNDINGS(rows, columns, terms) * eps + rounded);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) {
                const double value = fc_separable_get(w, i * p->w_s[a] + j * p->w_s[h], p->dtype);
                double rest = value, sizes = 0;
                for (int64_t t = 0; t < terms; t++) {
                    const double product = u[t * rows + i] * v[t * columns + j];
                    rest -= product;
                    sizes += fabs(product);
                }
                if (!isfinite(value)) return 0;
                all += fabs(value);
                grown += sizes;
                left += fabs(rest);
                exact &= fabs(rest) <= rounded * sizes;
                digits &= roundings * sizes <= fabs(value);
                if (fabs(rest) > largest) largest = fabs(rest), row = i, column = j;
            }
        if (terms && grown > FC_LOW_RANK_GROWTH * all) return 0;
        if ((exact && digits) || (terms > 1 && dropping && left <= FC_LOW_RANK_DROP * all)) return terms;
        if (terms == most || !(largest > 0)) return 0;
        double *const down = u + terms * rows, *const along = v + terms * columns;
        for (int64_t i = 0; i < rows; i++) down[i] = fc_separable_get(w, i * p->w_s[a] + column * p->w_s[h], p->dtype);
        for (int64_t j = 0; j < columns; j++) along[j] = fc_separable_get(w, row * p->w_s[a] + j * p->w_s[h], p->dtype);
        for (int64_t t = 0; t < terms; t++) {
            const double at_row = u[t * rows + row], at_column = v[t * columns + column];
            for (int64_t i = 0; i < rows; i++) down[i] -= u[t * rows + i] * at_column;
            for (int64_t j = 0; j < columns; j++) along[j] -= at_row * v[t * columns + j];
        }
        const double pivot = down[row];
        for (int64_t j = 0; j < columns; j++) along[j] /= pivot;
        if (!balance(down, rows, along, columns, p->dtype)) return 0;
    }
}
