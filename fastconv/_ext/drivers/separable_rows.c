/* Rows of the separable driver: x to where it can be summed, sums along a row, sums to y. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "separable.h"

int fc_separable_slides(const fc_separable_unit *u)
{
    const fc_separable *s = u->s;
    return s->b < 0 && u->p->stride[s->a] == 1 && u->p->dilation[s->a] == 1;
}

int fc_separable_is_box(const fc_separable_unit *u, int64_t axis)
{
    const fc_separable *s = u->s;
    const char *const w = fc_separable_factor(u, axis);
    const int64_t taps = fc_separable_taps(u->p, axis);
    if (s->whole || s->doubtful) return 0;
    return s->terms == 1 && taps >= FC_SEPARABLE_BOX && !memcmp(w, w + s->bytes, (size_t)((taps - 1) * s->bytes));
}

static void copy_spread(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t count,
                        int64_t bytes)
{
    if (bytes == 4)
        for (int64_t i = 0; i < count; i++)
            ((uint32_t *)to)[i * to_step] = ((const uint32_t *)from)[i * from_step];
    else if (bytes == 8)
        for (int64_t i = 0; i < count; i++)
            ((uint64_t *)to)[i * to_step] = ((const uint64_t *)from)[i * from_step];
    else
        for (int64_t i = 0; i < count; i++)
            memcpy(to + i * to_step * bytes, from + i * from_step * bytes, (size_t)bytes);
}

void fc_separable_copy(const fc_separable *s, char *dense, char *spread, const int64_t *stride, int64_t count,
                       int64_t bytes, int to_dense)
{
    const fc_problem *p = s->p;
    int64_t at[FC_DIMS] = {0};
    const int64_t last = p->dims - 1, run = last == s->h ? count : p->in[last], by = stride[last];
    for (int64_t d = s->h;; dense += run * bytes) {
        char *from = spread;
        for (d = s->h; d < last; d++) from += at[d] * stride[d] * bytes;
        if (to_dense)
            copy_spread(dense, 1, from, by, run, bytes);
        else
            copy_spread(from, by, dense, 1, run, bytes);
        for (d = last - 1; d >= s->h; d--) {
            if (++at[d] < (d == s->h ? count : p->in[d])) break;
            at[d] = 0;
        }
        if (d < s->h) return;
    }
}

int64_t fc_separable_source(const fc_separable_unit *u, int64_t ta, int64_t tb)
{
    const fc_separable *s = u->s;
    const fc_problem *p = s->p;
    const int64_t a = s->a < 0 ? 0 : fc_source(p, s->a, ta), b = s->b < 0 ? 0 : fc_source(p, s->b, tb);
    if (!u->inside || a < 0 || b < 0) return FC_BEYOND;
    return u->x_at + (s->a < 0 ? 0 : a * p->x_s[s->a]) + (s->b < 0 ? 0 : b * p->x_s[s->b]);
}

const char *fc_separable_row(const fc_separable_unit *u, int64_t ta, int64_t tb)
{
    const fc_separable *s = u->s;
    const int64_t at = fc_separable_source(u, ta, tb);
    if (at == FC_BEYOND) return s->p->boundary == FC_CONSTANT ? fc_separable_work(u, s->fixed_at, 0) : NULL;
    if (u->j->in_place) return u->j->x + at * u->j->bytes;
    return fc_separable_work(u, s->ring_at, ta % s->ring_rows * s->b_rows + tb - u->first_b);
}

/* Copies the chunk of a row of x to where it lies dense, in what is summed in. */
static void load_row(const fc_separable_unit *u, int64_t at, char *to)
{
    const fc_separable *s = u->s;
    const int64_t count = (u->high - u->low) * s->unit;
    const char *from = u->j->x + at * s->x_bytes;
    if (count <= 0) return;
    if (!u->j->x_dense) {
        char *const dense = s->from ? fc_separable_work(u, s->spread_at, 0) : to;
        fc_separable_copy(s, dense, (char *)from, s->p->x_s, u->high - u->low, s->x_bytes, 1);
        from = dense;
    }
    if (s->from)
        s->from->widen(from, count, to);
    else if (from != to)
        memcpy(to, from, (size_t)(count * s->bytes));
}

void fc_separable_hold(fc_separable_unit *u, int64_t end)
{
    const fc_separable *s = u->s;
    if (u->j->in_place) return;
    for (; u->held < end; u->held++)
        for (int64_t i = 0; i < s->b_rows; i++) {
            const int64_t at = fc_separable_source(u, u->held, u->first_b + i);
            if (at != FC_BEYOND) load_row(u, at, fc_separable_work(u, s->ring_at, u->held % s->ring_rows * s->b_rows + i));
        }
}

void fc_separable_load(const fc_separable_unit *u, int64_t ta, int64_t i)
{
    const fc_separable *s = u->s;
    char *const row = fc_separable_work(u, s->padded_at, i) + u->shift * s->unit * s->bytes;
    const int64_t at = fc_separable_source(u, ta, 0);
    if (at != FC_BEYOND)
        load_row(u, at, row);
    else
        fc_separable_fill(row, (u->high - u->low) * s->unit, u->edge[0], s->dtype);
}

void fc_separable_borders(fc_separable_unit *u)
{
    const fc_separable *s = u->s;
    const int64_t all = u->count + s->span_h - 1;
    int64_t *const border = (int64_t *)(u->work + s->border_at);
    u->borders = 0;
    for (int64_t i = 0; i < all; i++) {
        if (i == u->shift) i += u->high - u->low;
        if (i == all) break;
        const int64_t source = fc_source(u->p, s->h, u->begin + i);
        border[u->borders++] = i;
        border[u->borders++] = source < 0 ? FC_BEYOND : u->shift + source - u->low;
    }
}

/* Extends a filtered row beyond the samples it has. */
static void extend(const fc_separable_unit *u, double edge, char *row)
{
    const fc_separable *s = u->s;
    const int64_t sample = s->unit * s->bytes;
    const int64_t *const border = (const int64_t *)(u->work + s->border_at);
    for (int64_t b = 0; b < u->borders; b += 2) {
        const int64_t to = border[b], from = border[b + 1];
        if (from == FC_BEYOND)
            fc_separable_fill(row + to * sample, s->unit, edge, s->dtype);
        else if (sample == 4)
            ((uint32_t *)row)[to] = ((const uint32_t *)row)[from];
        else
            memcpy(row + to * sample, row + from * sample, (size_t)sample);
    }
}

/* Points to the samples of the taps along extended row i, of all terms. */
static void list_samples(const fc_separable_unit *u, int64_t i, const void **pointers)
{
    const fc_separable *s = u->s;
    const int64_t taps = u->p->ker[s->h], step = u->p->dilation[s->h] * s->unit;
    for (int64_t t = 0; t < s->terms * taps; t++)
        pointers[t] = fc_separable_work(u, s->padded_at, t / taps * s->padded + i) + t % taps * step * s->bytes;
}

/* Sums along extended row i, of all terms; `pointers` become those to samples where there are several terms,
 * sums may be in doubt, or whole numbers are summed. */
static void filter_along(const fc_separable_unit *u, int64_t i, const void **pointers, char *y)
{
    const fc_separable *s = u->s;
    const int64_t taps = u->p->ker[s->h], step = u->p->dilation[s->h] * s->unit, count = u->count * s->unit;
    const void *const w = fc_separable_factor(u, s->h), *const row = fc_separable_work(u, s->padded_at, i);
    if (s->doubtful || s->whole || s->terms > 1) list_samples(u, i, pointers);
    if (s->terms > 1 || s->whole)
        s->kernel->run(s->terms * taps, 1, w, pointers, count, u->bias, (void *[]){y});
    else
        s->kernel->along(taps, w, row, step, count, u->bias, y);
}

/* The sum of output j of row o of a, from the filter itself. */
static double dense_sum(const fc_separable_unit *u, int64_t o, int64_t j)
{
    const fc_separable *s = u->s;
    const fc_problem *p = s->p;
    const char *const w = u->factors + s->dense_at;
    const int64_t q = u->begin + j / s->unit, sample = j % s->unit, columns = p->ker[s->h];
    double sum = u->bias;
    for (int64_t tap = 0; tap < p->ker[s->a] * columns && sum == sum; tap++) {
        const int64_t a = fc_source(p, s->a, o * p->stride[s->a] + tap / columns * p->dilation[s->a]);
        const int64_t h = fc_source(p, s->h, q + tap % columns * p->dilation[s->h]);
        const int beyond = !u->inside || a < 0 || h < 0;
        if (beyond && p->boundary == FC_ZEROS) continue;
        int64_t at = u->x_at - u->low * p->x_s[s->h] + a * p->x_s[s->a] + h * p->x_s[s->h];
        for (int64_t d = p->dims - 1, rest = sample; d > s->h; rest /= p->in[d], d--) at += rest % p->in[d] * p->x_s[d];
        const double x = beyond ? p->cval[0] : fc_separable_get(u->j->x, at, p->dtype);
        sum += fc_separable_get(w, tap, p->dtype) * x;
    }
    return sum;
}

/* Terms of both signs make NaN of what the filter makes Inf, and of sums that only they let overflow. */
static void mend(const fc_separable_unit *u, int64_t o, char *sums)
{
    const int64_t count = u->count * u->s->unit;
    int64_t j = 0;
    for (; j < count; j++) {
        const double sum = fc_separable_get(sums, j, u->s->dtype);
        if (!(fabs(sum) <= DBL_MAX)) fc_separable_put(sums, j, u->s->dtype, dense_sum(u, o, j));
    }
}

/* Whether all of a row is finite. */
static int is_finite(const fc_separable_unit *u, const char *sums)
{
    const int64_t count = u->count * u->s->unit;
    uint64_t bad = 0;
    if (u->s->dtype == FC_F32)
        for (int64_t j = 0; j < count; j++) bad |= (((const uint32_t *)sums)[j] & 0x7f800000) == 0x7f800000;
    else
        for (int64_t j = 0; j < count; j++) bad |= (~((const uint64_t *)sums)[j] & 0x7ff0000000000000) == 0;
    return !bad;
}

/* Whether sums go straight to y. */
static int in_y(const fc_separable_unit *u) { return u->j->y_dense && !u->s->to; }

/* The epilogue of one row of y. */
static void finish(const fc_separable_unit *u, int64_t at)
{
    const fc_separable *s = u->s;
    const fc_problem *p = s->p;
    const fc_separable_job *j = u->j;
    if (j->y_dense) {
        fc_finish(p, j->kernels, j->epilogue, j->y, at, u->count * s->unit, 1);
        return;
    }
    const int64_t last = p->dims - 1, run = last == s->h ? u->count : p->in[last];
    const int64_t runs = u->count * s->unit / run;
    for (int64_t i = 0; i < runs; i++) {
        int64_t from = at;
        for (int64_t d = last - 1, rest = i; d >= s->h; d--) {
            const int64_t size = d == s->h ? u->count : p->in[d];
            from += rest % size * p->y_s[d];
            rest /= size;
        }
        fc_finish(p, j->kernels, j->epilogue, j->y, from, run, p->y_s[last]);
    }
}

/* Stores a row of sums whose products were those of `rows` with the weights of `axis`. */
static void store_row(const fc_separable_unit *u, int64_t axis, const void *const *rows, char *sums, int64_t at)
{
    const fc_separable *s = u->s;
    const fc_problem *p = s->p;
    const fc_separable_job *j = u->j;
    char *const y = j->y + at * s->y_bytes;
    char *dense = sums;
    if (s->to) {
        const int64_t count = u->count * s->unit;
        const double *const w = fc_separable_factors(u);
        const double near = !s->doubtful ? -1 : j->epilogue->bias ? INFINITY : fc_separable_exactly(u).near;
        dense = j->y_dense ? y : fc_separable_work(u, s->spread_at, 0);
        for (int64_t i = 0; (i = s->to->cut(sums, i, count, near, dense)) < count;) {
            if (near < 0) continue;
            const int64_t some = fc_min(s->to->lanes, count - i);
            s->to->exact(p->ker[axis], w + s->first[axis], rows, j->bytes == s->x_bytes && !s->along, i,
                         some, u->bias, dense);
            i += some;
        }
    }
    if (!j->y_dense)
        fc_separable_copy(s, dense, y, p->y_s, u->count, s->y_bytes, 0);
    else if (!s->to && sums != y)
        memcpy(y, sums, (size_t)(u->count * s->unit * s->bytes));
    if (!s->to) finish(u, at);
}

/* Whether rows of y are bytes that are cut where they are summed, of samples that follow each other in x or in a row. */
static int cuts(const fc_separable_unit *u, fc_cut_filter *filter, fc_suspects *found)
{
    const fc_separable *s = u->s;
    const fc_separable_job *j = u->j;
    const int64_t axis = s->along ? s->h : s->a, room = s->pitch * s->bytes;
    if (!s->doubtful || !j->y_dense || !(s->along || j->in_place) || j->epilogue->bias) return 0;
    if (u->count * s->unit < j->kernels->rows_cut->least) return 0;
    const fc_separable_exact exact = fc_separable_exactly(u);
    *filter = (fc_cut_filter){u->p->ker[axis], fc_separable_factor(u, axis), (float)(exact.near * 1.001), exact.total};
    /* vectors of 4 rows and of tiles that overlap, at most: a sum's row has room for one in 4 bytes an output */
    *found = (fc_suspects){0, (int32_t *)(u->work + s->store_at), (int32_t *)(u->work + s->store_at + 2 * room)};
    return exact.total > 0;
}

/* Makes anew, from products in double, what float sums left in doubt. */
static void settle(const fc_separable_unit *u, const fc_cut_filter *f, fc_suspects *found, const void *const *rows,
                   int in_x, void *const *y)
{
    const double *const w = fc_separable_factors(u) + u->s->first[u->s->along ? u->s->h : u->s->a];
    for (int64_t i = found->count; i-- > 0; found->count = i)
        u->s->to->exact(f->taps, w, rows + found->row[i], in_x, found->column[i], u->s->to->lanes, 0, y[found->row[i]]);
}

/* Sums along as many extended rows as a vector has lanes, from `first` on, with equal weights. */
static void box_along(const fc_separable_unit *u, int64_t first, char *y, int64_t y_step)
{
    const fc_separable *s = u->s;
    const int64_t lanes = s->turn->lanes, step = u->p->dilation[s->h] * s->unit, taps = u->p->ker[s->h];
    const int64_t halo = (taps - 1) * step, count = u->count * s->unit;
    const double w = fc_separable_get(fc_separable_factor(u, s->h), 0, s->dtype);
    const char *const rows = fc_separable_work(u, s->padded_at, first);
    char *const x = u->work + s->box_at, *const sums = x + (s->turned + halo) * lanes * s->bytes;
    char *const ends = sums + s->turned * lanes * s->bytes;
    for (int64_t j = 0, some; j < count; j += some) {
        some = fc_min(s->turned, count - j);
        s->turn->transpose(rows + j * s->bytes, s->pitch, lanes, some + halo, x, lanes);
        s->kernel->box_along(taps, w, x, step, some, u->bias, sums, ends);
        s->turn->transpose(sums, lanes, some, lanes, y + j * s->bytes, y_step);
    }
}

/* Groups of rows: the last overlaps the one before, or goes by way of rows of its own. */
static void along_boxes(const fc_separable_unit *u, int64_t outputs, int64_t y_at, int64_t y_step)
{
    const fc_separable *s = u->s;
    const int64_t lanes = s->turn->lanes;
    for (int64_t i = 0; i < outputs; i += lanes) {
        const int64_t first = fc_max(0, fc_min(i, outputs - lanes)), last = fc_min(outputs, first + lanes);
        const int direct = in_y(u) && last - first == lanes;
        const int64_t at = y_at + first * y_step;
        if (direct)
            box_along(u, first, u->j->y + at * s->bytes, y_step);
        else
            box_along(u, first, fc_separable_work(u, s->store_at, 0), s->pitch);
        for (int64_t k = 0; k < last - first; k++) {
            char *const sums = direct ? u->j->y + (at + k * y_step) * s->bytes : fc_separable_work(u, s->store_at, k);
            store_row(u, s->h, NULL, sums, at + k * y_step);
        }
    }
}

void fc_separable_along(const fc_separable_unit *u, int64_t o, int64_t outputs, const void **pointers,
                        int64_t y_at, int64_t y_step)
{
    const fc_separable *s = u->s;
    for (int64_t t = 0; t < s->terms; t++)
        for (int64_t i = 0; i < outputs; i++)
            extend(u, u->edge[t], fc_separable_work(u, s->padded_at, t * s->padded + i));
    if (fc_separable_is_box(u, s->h)) {
        along_boxes(u, outputs, y_at, y_step);
        return;
    }
    fc_cut_filter filter;
    fc_suspects found;
    const int cut = cuts(u, &filter, &found);
    for (int64_t i = 0; i < outputs; i++) {
        const int64_t at = y_at + i * y_step;
        if (cut) {
            u->j->kernels->rows_cut->along(&filter, fc_separable_work(u, s->padded_at, i), u->p->dilation[s->h] * s->unit,
                                           u->count * s->unit, u->j->y + at, &found);
            if (found.count) list_samples(u, i, pointers);
            settle(u, &filter, &found, pointers, 0, (void *[]){u->j->y + at});
            continue;
        }
        char *const to = in_y(u) ? u->j->y + at * s->bytes : fc_separable_work(u, s->store_at, 0);
        filter_along(u, i, pointers, to);
        if (s->terms > 1 && !is_finite(u, to)) mend(u, o + i, to);
        store_row(u, s->h, pointers, to, at);
    }
}

void fc_separable_emit(const fc_separable_unit *u, int64_t axis, const void **rows, int64_t o,
                       int64_t outputs, int64_t y_at, int64_t y_step)
{
    const fc_separable *s = u->s;
    const int64_t taps = fc_separable_taps(u->p, axis), count = (s->along ? u->high - u->low : u->count) * s->unit;
    const char *const w = fc_separable_factor(u, axis);
    const void **const scratch = rows + taps + outputs;
    void **const to = (void **)(scratch + s->terms * fc_separable_taps(u->p, s->h));
    const double bias = s->along ? -0.0 : u->bias;
    fc_cut_filter filter;
    fc_suspects found;
    if (!s->along && cuts(u, &filter, &found)) {
        const fc_cut *const kernel = u->j->kernels->rows_cut;
        for (int64_t i = 0; i < outputs; i++) to[i] = u->j->y + y_at + i * y_step;
        for (int64_t i = 0, some; i < outputs; i += some) {
            some = outputs - i < kernel->rows ? 1 : kernel->rows;
            kernel->down(&filter, some, rows + i, count, to + i, &found);
            settle(u, &filter, &found, rows + i, 1, to + i);
        }
        return;
    }
    for (int64_t i = 0; i < outputs; i++)
        to[i] = s->along  ? fc_separable_work(u, s->padded_at, i) + u->shift * s->unit * s->bytes
                : in_y(u) ? u->j->y + (y_at + i * y_step) * s->bytes
                          : fc_separable_work(u, s->store_at, i);
    const fc_rows *const kernel = s->b < 0 ? u->j->kernel : s->kernel;
    if (fc_separable_slides(u) && fc_separable_is_box(u, axis))
        kernel->box(taps, outputs, fc_separable_get(w, 0, s->dtype), rows, count, bias, to, u->work + s->box_at);
    else
        for (int64_t t = 0; t < s->terms; t++) {
            for (int64_t i = 0; i < outputs && t; i++)
                to[i] = fc_separable_work(u, s->padded_at, t * s->padded + i) + u->shift * s->unit * s->bytes;
            for (int64_t i = 0; i < outputs; i += kernel->rows)
                kernel->run(taps, fc_min(kernel->rows, outputs - i), w + t * taps * s->bytes, rows + i, count, bias, to + i);
        }
    if (s->along)
        fc_separable_along(u, o, outputs, scratch, y_at, y_step);
    else
        for (int64_t i = 0; i < outputs; i++) store_row(u, axis, rows + i, to[i], y_at + i * y_step);
}
