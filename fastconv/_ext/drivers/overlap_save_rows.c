/* overlap_save: where a block and its rows lie, in x, in y, or in copies of their ends. */
#include <string.h>

#include "overlap_save.h"

place fc_overlap_save_block(const fc_problem *p, const overlap_save *s, int64_t i)
{
    place at;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        at.first[d] = i % s->count[d] * s->kept[d];
        at.kept[d] = fc_min(s->kept[d], p->out[d] - at.first[d]);
        i /= s->count[d];
    }
    at.image = i;
    return at;
}

void fc_overlap_save_split(const overlap_save *s, place *at)
{
    const int64_t d = s->halved;
    at[1] = at[0];
    at[1].first[d] += s->half;
    at[1].kept[d] = fc_max(0, at[0].kept[d] - s->half);
    at[0].kept[d] -= at[1].kept[d];
}

void fc_overlap_save_rows_in(const overlap_save_call *c, const place *at, int64_t channel, int64_t i,
                             char *copies, const char *beyond, const void **rows)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t item = s->parts * s->size, last = s->axis[COLUMNS];
    for (int64_t j = 0; j < s->n[ROWS]; j++) {
        const char *row = c->x + (at->image * p->x_n + channel * p->x_c) * item;
        int64_t t = at->first[last] * p->stride[last];
        int outside = 0;
        for (int64_t d = 0; d < p->dims; d++) {
            if (d == last) continue;
            const int64_t td = at->first[d] * p->stride[d]
                               + (d == s->axis[ROWS] ? j : d == s->axis[PLANES] ? i : 0);
            outside |= td >= fc_overlap_save_padded(p, d);
            const int64_t source = outside || !row ? -1 : fc_source(p, d, td);
            row = source < 0 ? NULL : row + source * p->x_s[d] * item;
        }
        if (s->one_axis) t += j * s->n[COLUMNS];
        outside |= t >= fc_overlap_save_padded(p, last);
        const int64_t from = t - p->pad[last];
        const int inside = from >= 0 && from + s->n[COLUMNS] <= p->in[last];
        if (outside || (!row && p->boundary == FC_ZEROS))
            rows[j] = beyond;
        else if (row && inside && p->x_s[last] == 1)
            rows[j] = row + from * item;
        else {
            fc_overlap_save_fill(p, last, item, row, t, s->n[COLUMNS], copies + j * s->row_bytes);
            rows[j] = copies + j * s->row_bytes;
        }
    }
}

void fc_overlap_save_rows_out(const overlap_save_call *c, const place *at, int64_t filter, int64_t i,
                              char *copies, void **rows, int64_t *counts)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t item = s->parts * s->size, last = s->axis[COLUMNS];
    const int direct = p->stride[last] == 1 && p->y_s[last] == 1;
    int64_t y = at->image * p->y_n + filter * p->y_k;
    for (int64_t d = 0; d < p->dims; d++) y += at->first[d] * p->y_s[d];
    const int64_t plane = s->axis[PLANES], across = s->axis[ROWS];
    if (plane >= 0) y += i / p->stride[plane] * p->y_s[plane];
    const int64_t reach = (at->kept[last] - 1) * p->stride[last] + 1;
    for (int64_t j = 0; j < s->n[ROWS]; j++) {
        int64_t at_row = y;
        if (s->one_axis) {
            counts[j] = fc_max(0, fc_min(s->n[COLUMNS], reach - j * s->n[COLUMNS]));
            at_row += j * s->n[COLUMNS];
        } else {
            const int64_t u = p->stride[across];
            counts[j] = j % u || j / u >= at->kept[across] ? 0 : reach;
            at_row += j / u * p->y_s[across];
        }
        rows[j] = direct ? c->y + at_row * item : copies + j * s->row_bytes;
    }
}

void fc_overlap_save_finish(const overlap_save_call *c, const place *at, int64_t filter, int64_t i,
                            char *copies, const int64_t *counts)
{
    const fc_problem *const p = c->p;
    const overlap_save *const s = &c->s;
    const int64_t item = s->parts * s->size, last = s->axis[COLUMNS], u = p->stride[last];
    const int direct = u == 1 && p->y_s[last] == 1;
    const fc_epilogue *const e = c->epilogue;
    if (direct && !e->bias && !e->residual && !e->activation) return;
    int64_t y = at->image * p->y_n + filter * p->y_k;
    for (int64_t d = 0; d < p->dims; d++) y += at->first[d] * p->y_s[d];
    if (s->axis[PLANES] >= 0) y += i / p->stride[s->axis[PLANES]] * p->y_s[s->axis[PLANES]];
    for (int64_t j = 0; j < s->n[ROWS]; j++) {
        if (!counts[j]) continue;
        /* the first sample of the row that is an output, and which it is */
        const int64_t before = s->one_axis ? j * s->n[COLUMNS] : 0, skip = (u - before % u) % u;
        const int64_t count = fc_ceil_div(counts[j] - skip, u);
        if (count <= 0) continue;
        int64_t to = y + fc_ceil_div(before, u) * p->y_s[last];
        if (!s->one_axis) to += j / p->stride[s->axis[ROWS]] * p->y_s[s->axis[ROWS]];
        if (!direct)
            for (int64_t o = 0; o < count; o++)
                memcpy(c->y + (to + o * p->y_s[last]) * item,
                       copies + j * s->row_bytes + (skip + o * u) * item, (size_t)item);
        if (e->bias)
            for (int64_t o = 0; o < count; o++)
                for (int64_t b = 0; b < s->parts; b++) {
                    const int64_t v = (to + o * p->y_s[last]) * s->parts + b, w = filter * s->parts + b;
                    if (s->size == 4) ((float *)c->y)[v] += ((const float *)e->bias)[w];
                    else ((double *)c->y)[v] += ((const double *)e->bias)[w];
                }
        for (int64_t b = 0; b < s->parts; b++)
            fc_finish(p, c->kernels, e, c->y, to * s->parts + b, count, p->y_s[last] * s->parts);
    }
}
