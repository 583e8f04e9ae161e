/* Means of bytes for the separable driver: y[o] = (sum over r < taps of x[o + r - a]) / q, its whole part.
 *
 * That is what equal weights 1 / q give when sums in double are cut. Down a column one row of sums is kept, to which a
 * row of x is added and from which one is subtracted for each row of y: x and y are streamed. Along a row, samples are
 * widened to 16 bits once, and summed by kernels/box.c.
 */
#include <string.h>

#include "separable.h"

static void means_down(const fc_separable_unit *u, fc_quotient q)
{
    const fc_separable *s = u->s;
    const fc_box *const box = u->j->kernels->box_u8;
    const int64_t count = u->count * s->unit, taps = u->p->ker[s->a];
    uint16_t *const sums = (uint16_t *)fc_separable_work(u, s->padded_at, 0);
    uint8_t *const zeros = (uint8_t *)fc_separable_work(u, s->spread_at, 0);
    memset(sums, 0, (size_t)count * sizeof *sums);
    memset(zeros, 0, (size_t)count);
    for (int64_t t = u->begin_a; t < u->begin_a + taps - 1; t++) {
        const char *const row = fc_separable_row(u, t, 0);
        if (row) box->add(count, (const uint8_t *)row, sums);
    }
    for (int64_t o = u->begin_a; o < u->end_a; o++) {
        const char *const enters = fc_separable_row(u, o + taps - 1, 0), *const leaves = fc_separable_row(u, o, 0);
        box->slide(count, enters ? (const uint8_t *)enters : zeros, leaves ? (const uint8_t *)leaves : zeros, sums, q,
                   (uint8_t *)u->j->y + u->y_at + o * u->p->y_s[s->a]);
    }
}

static void means_along(const fc_separable_unit *u, fc_quotient q)
{
    const fc_separable *s = u->s;
    const fc_problem *p = s->p;
    const int64_t count = (u->high - u->low) * s->unit, stride = s->a < 0 ? 1 : p->stride[s->a];
    const int64_t *const border = (const int64_t *)(u->work + s->border_at);
    uint16_t *const row = (uint16_t *)fc_separable_work(u, s->padded_at, 0);
    uint16_t *const sums = (uint16_t *)fc_separable_work(u, s->store_at, 0);
    const uint16_t edge = (uint16_t)u->edge[0];
    for (int64_t o = u->begin_a; o < u->end_a; o++) {
        uint16_t *const samples = row + u->shift * s->unit;
        const int64_t at = fc_separable_source(u, o * stride, 0);
        if (at != FC_BEYOND)
            u->j->kernels->stored_u8_u16->widen(u->j->x + at, count, samples);
        else
            for (int64_t i = 0; i < count; i++) samples[i] = edge;
        for (int64_t b = 0; b < u->borders; b += 2)
            for (int64_t i = 0; i < s->unit; i++)
                row[border[b] * s->unit + i] = border[b + 1] == FC_BEYOND ? edge : row[border[b + 1] * s->unit + i];
        const int64_t y_at = u->y_at + (s->a < 0 ? 0 : o * p->y_s[s->a]);
        u->j->kernels->box_u8->along(p->ker[s->h], p->dilation[s->h] * s->unit, u->count * s->unit, row, sums, q,
                                     (uint8_t *)u->j->y + y_at);
    }
}

int fc_separable_means(const fc_separable_unit *u)
{
    const fc_separable *s = u->s;
    if (!s->doubtful || !u->j->x_dense || !u->j->y_dense || u->j->epilogue->bias) return 0;
    if (!s->along && (!u->j->in_place || !fc_separable_slides(u))) return 0;
    fc_quotient q;
    memcpy(&q, (const double *)(u->factors + s->exact_at) + s->weights + 1, sizeof q);
    if (q.multiplier == 0) return 0;
    if (s->along)
        means_along(u, q);
    else
        means_down(u, q);
    return 1;
}
