/* Rows of x as the depthwise kernels read them: in place, or copied to strips; and rows of sums that are not y's
 * yet. See depthwise.c. */
#include <string.h>

#include "depthwise.h"

void fc_depthwise_put(char *to, int64_t count, uint64_t value, int64_t bytes)
{
    if (bytes == 4)
        for (int64_t i = 0; i < count; i++) ((uint32_t *)to)[i] = (uint32_t)value;
    else
        for (int64_t i = 0; i < count; i++) ((uint64_t *)to)[i] = value;
}

/* Positions of the strip of column phase f for outputs from `first` that are x's: [*from, *to). */
static void inside(const fc_depthwise_cut *s, int64_t f, int64_t first, int64_t count, int64_t *from,
                   int64_t *to)
{
    const int64_t origin = first * s->v + f - s->pad; /* of position 0, in x */
    *from = fc_min(count, origin >= 0 ? 0 : fc_ceil_div(-origin, s->v));
    *to = fc_max(*from, origin >= s->in ? 0 : fc_min(count, fc_ceil_div(s->in - origin, s->v)));
}

/* The strip of one row of x, all phases, for outputs [first, first + count) of a row. */
static void fill_strip(const fc_depthwise_job *j, const int64_t *border, const char *x, int64_t first,
                       int64_t count, char *to)
{
    const fc_depthwise_cut *s = j->s;
    const fc_dtype dtype = s->p->x_dtype;
    const int64_t step = s->column < 0 ? 1 : s->p->x_s[s->column];
    const int64_t length = count + s->extra, unit = s->unit, bytes = s->bytes;
    for (int64_t f = 0; f < s->planes; f++, to += s->plane * bytes, border += s->plane) {
        if (!x) {
            fc_depthwise_put(to, length * unit, j->value, bytes);
            continue;
        }
        int64_t a, b;
        inside(s, f, first, length, &a, &b);
        const char *const from = x + ((first + a) * s->v + f - s->pad) * step * s->x_bytes;
        if (unit == 1)
            s->kernel->copy(dtype, b - a, from, step * s->v, to + a * bytes);
        else if (step * s->v == unit)
            s->kernel->copy(dtype, (b - a) * unit, from, 1, to + a * unit * bytes);
        else
            for (int64_t i = 0; i < b - a; i++)
                s->kernel->copy(dtype, unit, from + i * step * s->v * s->x_bytes, 1,
                                to + (a + i) * unit * bytes);
        for (int64_t i = a ? 0 : b; i < length; i = i + 1 == a ? b : i + 1) {
            char *const at = to + i * unit * bytes;
            if (border[i] < 0)
                fc_depthwise_put(at, unit, j->value, bytes);
            else
                s->kernel->copy(dtype, unit, x + border[i] * step * s->x_bytes, 1, at);
        }
    }
}

static void fill_border(const fc_depthwise_job *j, int64_t first, int64_t count, int64_t *border)
{
    const fc_depthwise_cut *s = j->s;
    const int64_t length = count + s->extra;
    for (int64_t f = 0; f < s->planes; f++, border += s->plane) {
        int64_t a, b;
        inside(s, f, first, length, &a, &b);
        for (int64_t i = a ? 0 : b; i < length; i = i + 1 == a ? b : i + 1)
            border[i] = fc_source(s->p, s->column, (first + i) * s->v + f);
    }
}

/* Where input row i (of the band) of tap t begins in x, or NULL when it is beyond the ends. */
static const char *row_of(const fc_depthwise_job *j, const fc_depthwise_band *b, int64_t t, int64_t i)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    int64_t at = b->n * p->x_n + b->c * p->x_c;
    for (int64_t d = s->outer - 1; d >= 0; t /= p->ker[d], d--) {
        const int64_t source =
            fc_source(p, d, b->outer[d] * p->stride[d] + t % p->ker[d] * p->dilation[d]);
        if (source < 0) return NULL;
        at += source * p->x_s[d];
    }
    if (s->row >= 0) {
        const int64_t source = j->source[b->row * s->u + i];
        if (source < 0) return NULL;
        at += source * p->x_s[s->row];
    }
    return j->x + at * s->x_bytes;
}

void fc_depthwise_point(const fc_depthwise_job *j, fc_depthwise_band *b, int64_t first, int64_t count, int in_place)
{
    const fc_depthwise_cut *s = j->s;
    if (!in_place && s->column >= 0) fill_border(j, first, count, b->border);
    char *strip = b->strips;
    for (int64_t t = 0; t < s->taps; t++)
        for (int64_t i = 0; i < b->in_rows; i++) {
            const char *const x = row_of(j, b, t, i);
            const char **const to = &b->pointers[t * b->in_rows + i];
            if (in_place) {
                *to = x ? x + (first - s->pad) * s->unit * s->bytes : j->constant;
            } else {
                fill_strip(j, b->border, x, first, count, strip);
                *to = strip;
                strip += s->strip * s->bytes;
            }
        }
}

int64_t fc_depthwise_point_volume(const fc_depthwise_job *j, fc_depthwise_band *b, int64_t outer, int64_t from,
                                  int64_t to)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    int64_t at = 0;
    for (int64_t d = s->outer - 1; d >= 0; outer /= p->out[d], d--) {
        b->outer[d] = outer % p->out[d];
        at += b->outer[d] * p->y_s[d];
    }
    for (int64_t t = 0; t < s->taps; t++) {
        int64_t plane = 0, each = 1, beyond = 0;
        for (int64_t d = s->outer - 1, rest = t; d >= 0; each *= p->in[d], rest /= p->ker[d], d--) {
            const int64_t source = fc_source(p, d, b->outer[d] * p->stride[d] + rest % p->ker[d] * p->dilation[d]);
            beyond |= source < 0;
            plane += source * each;
        }
        for (int64_t i = 0; i < b->in_rows; i++)
            b->pointers[t * b->in_rows + i] =
                beyond || i < from || i >= to ? NULL : b->strips + (plane * s->in_rows + i) * s->strip * s->bytes;
    }
    return at;
}

static double number(const char *x, int64_t i, int64_t bytes)
{
    return bytes == 4 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

int64_t fc_depthwise_end(const fc_depthwise_job *j, int64_t n, int64_t k, int64_t first, int64_t stop)
{
    const fc_depthwise_cut *s = j->s;
    const fc_problem *p = s->p;
    const char *const x = j->x + (n * p->x_n + k / p->k * p->x_c) * s->bytes, *const w = j->packed + k * s->s * s->bytes;
    const int64_t at = n * p->y_n + k * p->y_k + first * j->y_step;
    for (int64_t o = first; o < stop; o++) {
        double sum = 0;
        for (int64_t t = 0, i = o - s->pad; t < s->s; t++, i += s->step)
            if (i >= 0 && i < s->in) sum += number(w, t, s->bytes) * number(x, i, s->bytes);
        if (j->epilogue->bias) sum += number(j->epilogue->bias, k, s->bytes);
        const int64_t to = at + (o - first) * j->y_step;
        if (s->bytes == 4)
            ((float *)j->y)[to] = (float)sum;
        else
            ((double *)j->y)[to] = sum;
    }
    return at;
}

void fc_depthwise_spread(const fc_depthwise_cut *s, const fc_depthwise_block *b, char *y, int64_t count, int64_t ldy,
                         int64_t step)
{
    char *const cut = (char *)b->y + FC_DEPTHWISE_ROWS * b->ldy * s->bytes;
    const int64_t run = s->unit * s->y_bytes;
    for (int64_t r = 0; r < b->rows; r++) {
        const char *from = (const char *)b->y + r * b->ldy * s->bytes;
        char *to = y + r * ldy * s->y_bytes;
        if (s->to) {
            char *const own = step == s->unit ? to : cut;
            for (int64_t at = 0; at < count * s->unit;) at = s->to->cut(from, at, count * s->unit, -1, own);
            if (own == to) continue;
            from = own;
        }
        for (int64_t o = 0; o < count; o++, from += run, to += step * s->y_bytes)
            if (run == 4)
                memcpy(to, from, 4);
            else if (run == 8)
                memcpy(to, from, 8);
            else
                memcpy(to, from, (size_t)run);
    }
}
