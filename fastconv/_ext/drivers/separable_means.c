/* Means of whole numbers for the separable driver: y[o] = (sum over r < taps of n[r] x[o + r - a]) / q, towards zero.
 *
 * That is what weights n[r] / q give when sums in double are cut, wherever their roundings do not matter. Weights that differ
 * are taken where x is bytes and the sum fits 16 bits: 1 4 6 4 1 over 16, or .1 .2 .4 .2 .1. Of those that are equal, down a
 * column one row of sums is kept, to which a row of x is added and from which one is subtracted for each row of y: x and
 * y are streamed. Along a row, samples are widened once, and summed by kernels/box.c. Bytes whose sum fits are summed in
 * 16 bits, all else in 32.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "separable.h"

/* n / q for n <= most, with e = m q - 2^(16 + s): n m / 2^(16 + s) is too large by n e / (q 2^(16 + s)), which changes no
 * whole part while it is less than 1 / q. With m too small by less than 1, and 2^s <= q, it is too small by less than
 * n / 2^(16 + s) < 1; the remainder is then below 2 q, which 16 bits hold with their sign. */
static fc_quotient in_16_bits(fc_quotient quotient, double q, double most)
{
    for (int s = 15; s >= 0 && most < 0x1p16; s--) {
        const double power = ldexp(1, 16 + s), m = ceil(power / q);
        if (m < 0x1p16 && most * (m * q - power) < power) return (fc_quotient){(uint16_t)m, (uint16_t)s, (int32_t)q};
    }
    if (!(most < 0x1p16 && q < 0x1p14)) return quotient;
    const int s = ilogb(q);
    return (fc_quotient){(uint16_t)fmin(floor(ldexp(1, 16 + s) / q), 0xffff), (uint16_t)(s + FC_MENDS), (int32_t)q};
}

/* Whether w q is n, made larger as ndimage.py does: sums in double reach no further whole number, as 2^16 taps (2 taps + 2)
 * eps < 1. */
static int is_over(double w, double q, double n, double taps)
{
    return w * q >= n && w * q <= n * (1 + (2 * taps + 2) * DBL_EPSILON);
}

/* Most that weights are tried over: 10 us of packing, where their sum is that small. */
enum { WHOLE_OVER = 1024 };

/* The least q by which all weights are whole numbers that sum to FC_BOX_TAPS or less, 0 if there is none. */
static double whole_over(const double *w, int64_t taps)
{
    double sum = 0;
    for (int64_t r = 0; r < taps; r++) {
        if (!(w[r] >= 0)) return 0;
        sum += w[r];
    }
    for (double q = 1; taps <= FC_BOX_TAPS && q <= WHOLE_OVER && q * sum <= FC_BOX_TAPS + 1e-9; q++) {
        int64_t r = 0;
        while (r < taps && is_over(w[r], q, rint(w[r] * q), (double)taps)) r++;
        if (r == taps) return sum > 0 ? q : 0;
    }
    return 0;
}

void fc_separable_quotient(const fc_separable *s, const double *factors, fc_separable_exact *exact)
{
    const fc_problem *p = s->p;
    const int64_t axis = s->along ? s->h : s->a, taps = fc_separable_taps(p, axis);
    const double *const w = factors + s->first[axis], c = p->boundary == FC_CONSTANT ? p->cval[0] : 0;
    const int is_signed = p->x_dtype == FC_I8 || p->x_dtype == FC_I16;
    const double all = s->x_bytes == 1 ? 0x1p8 : 0x1p16, least = is_signed ? -all / 2 : 0;
    if (!s->means || !(c == rint(c) && c >= least && c < least + all)) return;
    int equal = taps <= FC_BOX_TAPS_I32;
    for (int64_t r = 1; r < taps; r++) equal &= w[r] == w[0];
    double q = equal ? rint(1 / w[0]) : 0, total = (double)taps;
    /* quotients below 2^21 are off by less than 1 in float */
    equal = equal && 32 * q >= (double)taps && q < 0x1p31 && is_over(w[0], q, 1, (double)taps);
    if (!equal) {
        q = p->x_dtype == FC_U8 ? whole_over(w, taps) : 0;
        total = 0;
        for (int64_t r = 0; r < taps; r++) total += rint(w[r] * q);
    }
    if (q == 0) return;
    const double most = total * (is_signed ? all / 2 : all - 1);
    const fc_quotient quotient = {0, most < FC_BOX_PLAIN ? 0 : FC_MENDS, (int32_t)q};
    exact->quotient = p->x_dtype == FC_U8 && total <= FC_BOX_TAPS ? in_16_bits(quotient, q, most) : quotient;
    exact->weighted = !equal;
}

static const fc_box *box_of(const fc_separable_unit *u, fc_quotient q)
{
    const fc_kernels *const kernels = u->j->kernels;
    switch (u->p->x_dtype) {
    case FC_U8: return q.multiplier ? kernels->box_u8 : kernels->box_u8_i32;
    case FC_U16: return kernels->box_u16_i32;
    case FC_I8: return kernels->box_i8_i32;
    default: return kernels->box_i16_i32;
    }
}

/* Where the row of x at padded position t of a begins. */
static const char *stored_row_at(const fc_separable_unit *u, int64_t t, const char *edge)
{
    const int64_t at = fc_separable_source(u, t, 0);
    return at == FC_BEYOND ? edge : u->j->x + at * u->s->x_bytes;
}

static void fetch(const char *row, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += FC_ALIGN) __builtin_prefetch(row + i);
}

/* The row of x at padded position t of a as it is stored, dense: where it lies, or copied to `dense`. */
static const char *stored_row(const fc_separable_unit *u, int64_t t, const char *edge, char *dense)
{
    const fc_separable *s = u->s;
    const char *const from = stored_row_at(u, t, edge);
    if (from == edge || u->j->x_dense) return from;
    fc_separable_copy(s, dense, (char *)from, s->p->x_s, u->high - u->low, s->x_bytes, 1);
    return dense;
}

/* Where to make row o of y, and its way from there. */
static char *row_of_y(const fc_separable_unit *u, int64_t o, char *dense)
{
    return u->j->y_dense ? u->j->y + (u->y_at + o * (u->s->a < 0 ? 0 : u->p->y_s[u->s->a])) * u->s->y_bytes : dense;
}

static void store(const fc_separable_unit *u, int64_t o, char *dense)
{
    if (u->j->y_dense) return;
    char *const y = u->j->y + (u->y_at + o * (u->s->a < 0 ? 0 : u->p->y_s[u->s->a])) * u->s->y_bytes;
    fc_separable_copy(u->s, dense, y, u->p->y_s, u->count, u->s->y_bytes, 0);
}

static void means_down(const fc_separable_unit *u, fc_quotient q, const char *edge, char *const dense[3])
{
    const fc_separable *s = u->s;
    const fc_box *const box = box_of(u, q);
    const int64_t count = u->count * s->unit, taps = u->p->ker[s->a];
    void *const sums = fc_separable_work(u, s->padded_at, 0);
    memset(sums, 0, (size_t)(count * box->bytes));
    for (int64_t t = u->begin_a; t < u->begin_a + taps - 1; t++)
        box->add(count, stored_row(u, t, edge, dense[0]), sums);
    for (int64_t o = u->begin_a; o < u->end_a; o++) {
        /* each row is another page: left to itself, the hardware begins anew with each */
        if (o + 1 < u->end_a) {
            fetch(stored_row_at(u, o + taps, edge), count * s->x_bytes);
            fetch(stored_row_at(u, o + 1, edge), count * s->x_bytes);
        }
        box->slide(count, stored_row(u, o + taps - 1, edge, dense[0]), stored_row(u, o, edge, dense[1]), sums, q,
                   row_of_y(u, o, dense[2]));
        store(u, o, dense[2]);
    }
}

/* Samples of row o of x widened, with what lies beyond its ends, which is widened already. */
static void widen(const fc_separable_unit *u, const fc_box *box, int64_t o, const char *edge, char *dense, char *row,
                  const char *beyond)
{
    const fc_separable *s = u->s;
    const int64_t stride = s->a < 0 ? 1 : s->p->stride[s->a], sample = s->unit * box->bytes;
    const int64_t *const border = (const int64_t *)(u->work + s->border_at);
    box->widen((u->high - u->low) * s->unit, stored_row(u, o * stride, edge, dense), row + u->shift * sample);
    for (int64_t b = 0; b < u->borders; b += 2) {
        char *const to = row + border[b] * sample;
        const char *const from = border[b + 1] == FC_BEYOND ? beyond : row + border[b + 1] * sample;
        if (sample == 2)
            memcpy(to, from, 2);
        else if (sample == 4)
            memcpy(to, from, 4);
        else
            memcpy(to, from, (size_t)sample);
    }
}

static void means_along(const fc_separable_unit *u, fc_quotient q, const char *edge, char *const dense[3])
{
    const fc_separable *s = u->s;
    const fc_box *const box = box_of(u, q);
    char *const row = fc_separable_work(u, s->padded_at, 0), *const beyond = fc_separable_work(u, s->padded_at, 1);
    box->widen(s->unit, edge, beyond);
    for (int64_t o = u->begin_a; o < u->end_a; o++) {
        widen(u, box, o, edge, dense[0], row, beyond);
        box->along(s->p->ker[s->h], s->p->dilation[s->h] * s->unit, u->count * s->unit, row,
                   fc_separable_work(u, s->store_at, 0), q, row_of_y(u, o, dense[2]));
        store(u, o, dense[2]);
    }
}

/* Weights that differ: rows of sums of 16 bits, then their quotients, which are those of means of one sample, the next of
 * which may lie anywhere but beside it. */
static int weighted(const fc_separable_unit *u, fc_quotient q, const char *edge, char *const dense[3], const void **pointers)
{
    const fc_separable *s = u->s;
    const fc_problem *p = s->p;
    const fc_kernels *const kernels = u->j->kernels;
    const fc_box *const box = kernels->box_u8;
    const int64_t axis = s->along ? s->h : s->a, taps = p->ker[axis], count = u->count * s->unit;
    const double *const w = fc_separable_factors(u) + s->first[axis];
    uint16_t whole[FC_BOX_TAPS];
    for (int64_t r = 0; r < taps; r++) whole[r] = (uint16_t)rint(w[r] * q.divisor);
    if (s->along) {
        char *const row = fc_separable_work(u, s->padded_at, 0), *const beyond = fc_separable_work(u, s->padded_at, 1);
        void *const sums = fc_separable_work(u, s->store_at, 0);
        box->widen(s->unit, edge, beyond);
        for (int64_t r = 0; r < taps; r++) pointers[r] = row + r * p->dilation[s->h] * s->unit * box->bytes;
        for (int64_t o = u->begin_a; o < u->end_a; o++) {
            widen(u, box, o, edge, dense[0], row, beyond);
            kernels->rows_u16->run(taps, 1, whole, pointers, count, 0, &sums);
            box->along(1, 2, count, sums, NULL, q, row_of_y(u, o, dense[2]));
            store(u, o, dense[2]);
        }
        return 1;
    }
    if (!u->j->x_dense) return 0;
    const fc_rows *const kernel = kernels->rows_u8_u16;
    for (int64_t o = u->begin_a, outputs; o < u->end_a; o += outputs) {
        void *sums[8];
        outputs = fc_min(kernel->rows, u->end_a - o);
        for (int64_t t = 0; t < taps + outputs - 1; t++) pointers[t] = stored_row_at(u, o + t, edge);
        for (int64_t i = 0; i < outputs; i++) sums[i] = fc_separable_work(u, s->padded_at, i);
        kernel->run(taps, outputs, whole, pointers, count, 0, sums);
        for (int64_t i = 0; i < outputs; i++) {
            box->along(1, 2, count, sums[i], NULL, q, row_of_y(u, o + i, dense[2]));
            store(u, o + i, dense[2]);
        }
    }
    return 1;
}

int fc_separable_means(const fc_separable_unit *u, const void **pointers)
{
    const fc_separable *s = u->s;
    if (u->j->epilogue->bias || (!s->along && !fc_separable_slides(u))) return 0;
    const fc_separable_exact exact = fc_separable_exactly(u);
    const fc_quotient q = exact.quotient;
    if (q.divisor == 0) return 0;
    /* rows as they are stored take half of one as they are summed, or less */
    char *const spread = fc_separable_work(u, s->spread_at, 0), *const fixed = fc_separable_work(u, s->fixed_at, 0);
    char *const dense[3] = {spread, spread + s->pitch * s->bytes / 2, fixed + s->pitch * s->bytes / 2};
    const int64_t value = u->p->boundary == FC_CONSTANT ? (int64_t)u->p->cval[0] : 0;
    const int64_t count = fc_max(u->high - u->low, u->count) * s->unit;
    for (int64_t i = 0; i < count; i++) {
        if (s->x_bytes == 1)
            ((uint8_t *)fixed)[i] = (uint8_t)value;
        else
            ((uint16_t *)fixed)[i] = (uint16_t)value;
    }
    if (exact.weighted) return weighted(u, q, fixed, dense, pointers);
    if (s->along)
        means_along(u, q, fixed, dense);
    else
        means_down(u, q, fixed, dense);
    return 1;
}
