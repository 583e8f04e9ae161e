/* Means of whole numbers for the separable driver: y[o] = (sum over r < taps of x[o + r - a]) / q, towards zero.
 *
 * That is what equal weights 1 / q give when sums in double are cut, wherever their roundings do not matter. Down a
 * column one row of sums is kept, to which a row of x is added and from which one is subtracted for each row of y: x and
 * y are streamed. Along a row, samples are widened once, and summed by kernels/box.c. Bytes whose sum fits are summed in
 * 16 bits, all else in 32.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "separable.h"

/* n / q for n <= most: n m / 2^(16 + s) is too large by n e / (q 2^(16 + s)), e = m q - 2^(16 + s), which changes no
 * whole part while it is less than 1 / q. */
static fc_quotient in_16_bits(fc_quotient quotient, double q, double most)
{
    for (int s = 15; s >= 0 && most < 0x1p16; s--) {
        const double power = ldexp(1, 16 + s), m = ceil(power / q);
        if (m < 0x1p16 && most * (m * q - power) < power) {
            quotient.multiplier = (uint16_t)m, quotient.shift = (uint16_t)s;
            break;
        }
    }
    return quotient;
}

fc_quotient fc_separable_quotient(const fc_separable *s, const double *factors)
{
    const fc_problem *p = s->p;
    const fc_quotient none = {0, 0, 0};
    const int64_t axis = s->along ? s->h : s->a, taps = fc_separable_taps(p, axis);
    const double *const w = factors + s->first[axis], q = rint(1 / w[0]);
    const double c = p->boundary == FC_CONSTANT ? p->cval[0] : 0;
    const int is_signed = p->x_dtype == FC_I8 || p->x_dtype == FC_I16;
    const double all = s->x_bytes == 1 ? 0x1p8 : 0x1p16, least = is_signed ? -all / 2 : 0;
    /* quotients below 2^21 are off by less than 1 in float */
    if (!s->means || taps > FC_BOX_TAPS_I32 || !(32 * q >= (double)taps && q < 0x1p31)) return none;
    if (!(c == rint(c) && c >= least && c < least + all)) return none;
    /* made larger as ndimage.py does: sums in double reach no further whole number, as
     * 2^16 taps (2 taps + 2) eps < 1 */
    if (!(w[0] * q >= 1 && w[0] * q <= 1 + (2 * (double)taps + 2) * DBL_EPSILON)) return none;
    for (int64_t r = 1; r < taps; r++)
        if (w[r] != w[0]) return none;
    const fc_quotient quotient = {0, 0, (int32_t)q};
    return p->x_dtype == FC_U8 && taps <= FC_BOX_TAPS ? in_16_bits(quotient, q, 255 * (double)taps) : quotient;
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

/* The row of x at padded position t of a as it is stored, dense: where it lies, or copied to `dense`. */
static const char *stored_row(const fc_separable_unit *u, int64_t t, const char *edge, char *dense)
{
    const fc_separable *s = u->s;
    const int64_t at = fc_separable_source(u, t, 0);
    if (at == FC_BEYOND) return edge;
    const char *const from = u->j->x + at * s->x_bytes;
    if (u->j->x_dense) return from;
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
        box->slide(count, stored_row(u, o + taps - 1, edge, dense[0]), stored_row(u, o, edge, dense[1]), sums, q,
                   row_of_y(u, o, dense[2]));
        store(u, o, dense[2]);
    }
}

static void means_along(const fc_separable_unit *u, fc_quotient q, const char *edge, char *const dense[3])
{
    const fc_separable *s = u->s;
    const fc_problem *p = s->p;
    const fc_box *const box = box_of(u, q);
    const int64_t count = (u->high - u->low) * s->unit, stride = s->a < 0 ? 1 : p->stride[s->a];
    const int64_t *const border = (const int64_t *)(u->work + s->border_at), sample = s->unit * box->bytes;
    char *const row = fc_separable_work(u, s->padded_at, 0), *const beyond = fc_separable_work(u, s->padded_at, 1);
    box->widen(s->unit, edge, beyond);
    for (int64_t o = u->begin_a; o < u->end_a; o++) {
        box->widen(count, stored_row(u, o * stride, edge, dense[0]), row + u->shift * sample);
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
        box->along(p->ker[s->h], p->dilation[s->h] * s->unit, u->count * s->unit, row,
                   fc_separable_work(u, s->store_at, 0), q, row_of_y(u, o, dense[2]));
        store(u, o, dense[2]);
    }
}

int fc_separable_means(const fc_separable_unit *u)
{
    const fc_separable *s = u->s;
    if (u->j->epilogue->bias || (!s->along && !fc_separable_slides(u))) return 0;
    const fc_quotient q = fc_separable_exactly(u).quotient;
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
    if (s->along)
        means_along(u, q, fixed, dense);
    else
        means_down(u, q, fixed, dense);
    return 1;
}
