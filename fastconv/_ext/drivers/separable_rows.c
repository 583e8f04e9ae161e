/* Rows of the separable driver: x to where it can be summed, sums along a row, sums to y. */
#include <math.h>
#include <string.h>

#include "separable.h"

int fc_separable_is_box(const fc_separable_unit *u, int64_t axis)
{
    const char *const w = fc_separable_factor(u, axis);
    const int64_t bytes = u->s->bytes, taps = fc_separable_taps(u->p, axis);
    return !u->s->doubtful && taps >= FC_SEPARABLE_BOX && !memcmp(w, w + bytes, (size_t)((taps - 1) * bytes));
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

/* Copies `count` samples of h, with all axes behind it, between a dense row and a spread one. */
static void copy_row(const fc_separable *s, char *dense, char *spread, const int64_t *stride, int64_t count,
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

/* Where the chunk begins in the row of x at padded positions of a and b: elements, or FC_BEYOND. */
static int64_t source_of(const fc_separable_unit *u, int64_t ta, int64_t tb)
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
    const int64_t at = source_of(u, ta, tb);
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
        copy_row(s, dense, (char *)from, s->p->x_s, u->high - u->low, s->x_bytes, 1);
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
            const int64_t at = source_of(u, u->held, u->first_b + i);
            if (at != FC_BEYOND) load_row(u, at, fc_separable_work(u, s->ring_at, u->held % s->ring_rows * s->b_rows + i));
        }
}

void fc_separable_load(const fc_separable_unit *u, int64_t ta)
{
    const fc_separable *s = u->s;
    char *const row = fc_separable_work(u, s->padded_at, 0) + u->shift * s->unit * s->bytes;
    const int64_t at = source_of(u, ta, 0);
    if (at != FC_BEYOND)
        load_row(u, at, row);
    else
        fc_separable_fill(row, (u->high - u->low) * s->unit, u->edge, s->dtype);
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
static void extend(const fc_separable_unit *u, char *row)
{
    const fc_separable *s = u->s;
    const int64_t sample = s->unit * s->bytes;
    const int64_t *const border = (const int64_t *)(u->work + s->border_at);
    for (int64_t b = 0; b < u->borders; b += 2) {
        const int64_t to = border[b], from = border[b + 1];
        if (from == FC_BEYOND)
            fc_separable_fill(row + to * sample, s->unit, u->edge, s->dtype);
        else if (sample == 4)
            ((uint32_t *)row)[to] = ((const uint32_t *)row)[from];
        else
            memcpy(row + to * sample, row + from * sample, (size_t)sample);
    }
}

/* Sums along an extended row; `pointers` and `weights` are scratch. */
static void filter_along(const fc_separable_unit *u, const char *row, const void **pointers, char *weights, char *y)
{
    const fc_separable *s = u->s;
    const int64_t taps = u->p->ker[s->h], step = u->p->dilation[s->h] * s->unit * s->bytes;
    const char *const w = fc_separable_factor(u, s->h);
    if (!fc_separable_is_box(u, s->h)) {
        if (s->doubtful)
            for (int64_t t = 0; t < taps; t++) pointers[t] = row + t * step;
        s->kernel->along(taps, w, row, step / s->bytes, u->count * s->unit, u->bias, y);
        return;
    }
    /* sums of q neighbours, then of taps / q such sums and of what is left */
    int64_t q = 1;
    for (int64_t i = 2; i <= taps; i++)
        if (i + taps / i + taps % i < q + taps / q + taps % q) q = i;
    const int64_t sums = taps / q, rest = taps % q;
    char *const level = fc_separable_work(u, s->level_at, 0);
    s->kernel->along(q, w, row, step / s->bytes, u->count * s->unit + (sums - 1) * q * step / s->bytes,
                     -0.0, level);
    fc_separable_fill(weights, sums, 1, s->dtype);
    memcpy(weights + sums * s->bytes, w, (size_t)(rest * s->bytes));
    for (int64_t t = 0; t < sums; t++) pointers[t] = level + t * q * step;
    for (int64_t t = 0; t < rest; t++) pointers[sums + t] = row + (sums * q + t) * step;
    s->kernel->run(sums + rest, 1, weights, pointers, u->count * s->unit, u->bias, (void *[]){y});
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
        const double *const w = (const double *)(u->factors + s->exact_at);
        const double near = !s->doubtful ? -1 : j->epilogue->bias ? INFINITY : w[s->weights];
        dense = j->y_dense ? y : fc_separable_work(u, s->spread_at, 0);
        for (int64_t i = 0; (i = s->to->cut(sums, i, count, near, dense)) < count;) {
            if (near < 0) continue;
            const int64_t some = fc_min(s->to->lanes, count - i);
            s->to->exact(p->ker[axis], w + s->first[axis], rows, j->bytes == s->x_bytes && !s->along, i,
                         some, u->bias, dense);
            i += some;
        }
    }
    if (!j->y_dense) copy_row(s, dense, y, p->y_s, u->count, s->y_bytes, 0);
    if (!s->to) finish(u, at);
}

/* Sums along row i of those extended, and stores. */
void fc_separable_along(const fc_separable_unit *u, int64_t i, const void **pointers, int64_t y_at)
{
    const fc_separable *s = u->s;
    char *const row = fc_separable_work(u, s->padded_at, i);
    char *const to = in_y(u) ? u->j->y + y_at * s->bytes : fc_separable_work(u, s->store_at, 0);
    extend(u, row);
    filter_along(u, row, pointers, u->work + s->weights_at, to);
    store_row(u, s->h, pointers, to, y_at);
}

/* Sums `outputs` neighbouring rows down, and each along, to rows of y that are y_step apart. */
void fc_separable_emit(const fc_separable_unit *u, int64_t taps, const void *w, const void **rows, int64_t outputs,
                 int64_t y_at, int64_t y_step)
{
    const fc_separable *s = u->s;
    void *to[8] = {0};
    for (int64_t i = 0; i < outputs; i++)
        to[i] = s->along  ? fc_separable_work(u, s->padded_at, i) + u->shift * s->unit * s->bytes
                : in_y(u) ? u->j->y + (y_at + i * y_step) * s->bytes
                          : fc_separable_work(u, s->store_at, i);
    const int64_t count = s->along ? u->high - u->low : u->count;
    const fc_rows *const kernel = s->b < 0 ? u->j->kernel : s->kernel;
    kernel->run(taps, outputs, w, rows, count * s->unit, s->along ? -0.0 : u->bias, to);
    for (int64_t i = 0; i < outputs; i++)
        if (s->along)
            fc_separable_along(u, i, rows + taps + outputs, y_at + i * y_step);
        else
            store_row(u, s->a, rows + i, to[i], y_at + i * y_step);
}
