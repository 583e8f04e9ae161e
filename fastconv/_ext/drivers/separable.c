/* separable: y[o] = bias + sum over r of wa[r0] wb[r1] wh[r2] x[o*u + r*l - a]: one axis after the other.
 *
 * For kernels of one channel that are the outer product of a vector an axis, up to three of them
 * longer than 1. A *row* is the last such axis, h, with all axes behind it; where those alone are
 * long enough to fill vectors, a row is they and h is one of the others. At most two axes come
 * before the row: b, and a before b. Rows are summed down a, then down b, into a buffer that is as
 * long as the window needs, then along the row:
 *
 *     for `rows` neighbouring outputs of a, one band of b, one chunk of the row
 *         t[i][b']  = sum over r of wa[r] * x[a + i + r][b']      for the band and its halo (if b)
 *         for `rows` neighbouring outputs of b
 *             s[i]  = sum over r of wb[r] * t[.][b + i + r]       (wa and x itself, if no b)
 *             y     = sum over r of wh[r] * s[i][h + r]
 *
 * All three are one kernel (kernels/rows.c). Extending x beyond its ends and filtering down a column
 * commute, so that borders of s are copied from s, not computed. x is read in place where its rows
 * lie dense, else by way of a ring of copied rows. y is written once, and no buffer is as large as
 * an image: v[0] bytes hold the rows of x that one group of outputs meets.
 *
 * Equal weights, FC_SEPARABLE_BOX or more of them, take van Herk's sums: with blocks of as many rows as the
 * window has, every window is the end of one block and the beginning of the next, two running sums
 * that start anew with each block. Nothing is ever subtracted, so nothing drifts, and NaN and Inf
 * stay in their windows. Along a row, as many rows as a vector has lanes are turned, so that each
 * lane runs along its own.
 *
 * A filter of two axes may be a sum of `terms` such products (low_rank.c): there are as many rows s[i] for
 * each output row, summed down one after the other, and one sum along all of them. Where that is not finite the
 * output is made anew from the filter itself, also packed then.
 *
 * Whole numbers of up to 16 bits are summed in 16, modulo 2^16, and means of such numbers in 16 or 32 (separable_means.c).
 *
 * Settings: v[0] bytes of rows of x aimed at; v[1] terms, v[2] whether a part of the filter may be left out.
 * Packed: per filter, the factors of each axis.
 *
 * van Herk, A fast algorithm for local minimum and maximum filters on rectangular and octagonal
 * kernels, Pattern Recognition Letters 13(7), 1992; Gil and Werman, Computing 2-D min, median and
 * max filters, IEEE PAMI 15(5), 1993.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "separable.h"

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    fc_separable s;
    fc_separable_plan(p, config, kernels, threads, &s);
    return threads * s.slot_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    fc_separable s;
    fc_separable_plan(p, config, kernels, 1, &s);
    return p->g * p->k * s.filter_bytes;
}

/* Sums whose rounding errors fc_cut_filter.near leaves room for beside those of its own. */
enum { CUT_TAPS = 4096 };

/* What float sums of bytes are known to be off by: a rounding u of each sum so far, of the weights, and one to spare;
 * beyond 2^21 `cut` of fc_stored has no digits to tell by. */
static fc_separable_exact exact_of(const fc_separable *s, const fc_problem *p, const double *factors)
{
    const int64_t axis = s->along ? s->h : s->a;
    const double *const w = factors + s->first[axis], c = p->boundary == FC_CONSTANT ? p->cval[0] : 0;
    double size = 0, sizes = 0, total = 0;
    for (int64_t r = 0; r < p->ker[axis]; r++) {
        sizes += size += fabs(w[r]);
        total += w[r];
    }
    const double largest = fmax(255, fabs(c)) * 1.001;
    const int fits = total == size && c >= 0 && size * largest < 0x1p16 && p->ker[axis] <= CUT_TAPS;
    fc_separable_exact exact = {
        .near = size * largest < 0x1p21 ? (sizes + 2 * size) * largest * FLT_EPSILON / 2 : INFINITY,
        .total = s->doubtful && fits ? total : 0,
    };
    fc_separable_quotient(s, factors, &exact);
    return exact;
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed, int64_t threads)
{
    (void)threads;
    fc_separable s;
    fc_separable_plan(p, config, kernels, 1, &s);
    for (int64_t k = 0; k < p->g * p->k; k++) {
        char *const to = (char *)packed + k * s.filter_bytes;
        double *const factors = (double *)(to + s.exact_at);
        const char *const from = (const char *)w + k * p->w_k * fc_dtype_bytes(p->dtype);
        if (s.terms == 1)
            fc_factorize(p, from, factors);
        else
            fc_low_rank(p, from, s.terms, (int)config->v[2], factors + s.first[s.a], factors + s.first[s.h]);
        const int64_t dense = s.terms > 1 ? p->ker[s.a] * p->ker[s.h] : 0;
        for (int64_t i = 0; i < dense; i++) {
            const int64_t at = i / p->ker[s.h] * p->w_s[s.a] + i % p->ker[s.h] * p->w_s[s.h];
            fc_separable_put(to + s.dense_at, i, p->dtype, fc_separable_get(from, at, p->dtype));
        }
        for (int64_t i = 0; i < s.weights; i++) fc_separable_put(to, i, s.dtype, factors[i]);
        const fc_separable_exact exact = exact_of(&s, p, factors);
        memcpy(factors + s.weights, &exact, sizeof exact);
    }
}

/* Rows of x of `outputs` windows of a, the first at output o; the windows of neighbours overlap. */
static void list_rows(const fc_separable_unit *u, int64_t o, int64_t outputs, int64_t tb, const void **rows)
{
    const fc_separable *s = u->s;
    const int64_t taps = fc_separable_taps(u->p, s->a), stride = s->a < 0 ? 1 : u->p->stride[s->a];
    const int64_t dilation = taps == 1 ? stride : u->p->dilation[s->a];
    for (int64_t t = 0; t < taps + outputs - 1; t++) rows[t] = fc_separable_row(u, o * stride + t * dilation, tb);
}

/* Two axes down: rows of t for the whole band of b, then the rows of y from them. */
static void run_two(fc_separable_unit *u, const void **pointers)
{
    const fc_separable *s = u->s;
    const fc_problem *p = s->p;
    const int64_t taps = p->ker[s->b], stride = p->stride[s->b], dilation = p->dilation[s->b];
    const int64_t together = stride == 1 && dilation == 1 ? s->kernel->rows : 1;
    const int64_t held = (u->end_b - u->begin_b - 1) * stride + s->span_b;
    for (int64_t o = u->begin_a, outputs; o < u->end_a; o += outputs) {
        outputs = fc_min(s->rows, u->end_a - o);
        fc_separable_hold(u, (o + outputs - 1) * p->stride[s->a] + s->span_a);
        for (int64_t i = 0; i < held; i++) {
            void *to[8] = {0};
            for (int64_t k = 0; k < outputs; k++) to[k] = fc_separable_work(u, s->middle_at, k * s->b_rows + i);
            list_rows(u, o, outputs, u->first_b + i, pointers);
            u->j->kernel->run(p->ker[s->a], outputs, fc_separable_factor(u, s->a), pointers,
                           (u->high - u->low) * s->unit, -0.0, to);
        }
        for (int64_t k = 0; k < outputs; k++)
            for (int64_t b = u->begin_b, count; b < u->end_b; b += count) {
                count = fc_min(together, u->end_b - b);
                for (int64_t t = 0; t < taps + count - 1; t++) {
                    const int64_t i = (b - u->begin_b) * stride + t * dilation;
                    const int zero = p->boundary == FC_ZEROS && fc_source(p, s->b, u->first_b + i) < 0;
                    pointers[t] = zero ? NULL : fc_separable_work(u, s->middle_at, k * s->b_rows + i);
                }
                fc_separable_emit(u, s->b, pointers, b, count,
                     u->y_at + (o + k) * p->y_s[s->a] + b * p->y_s[s->b], p->y_s[s->b]);
            }
    }
}

/* No axis down. */
static void run_none(const fc_separable_unit *u, const void **pointers)
{
    const fc_separable *s = u->s;
    const int64_t stride = s->a < 0 ? 1 : u->p->stride[s->a], y_step = s->a < 0 ? 0 : u->p->y_s[s->a];
    for (int64_t o = u->begin_a, outputs; o < u->end_a; o += outputs) {
        outputs = fc_min(fc_separable_is_box(u, s->h) ? s->turn->lanes : 1, u->end_a - o);
        for (int64_t i = 0; i < outputs; i++) fc_separable_load(u, (o + i) * stride, i);
        fc_separable_along(u, o, outputs, pointers, u->y_at + o * y_step, y_step);
    }
}

/* One axis down. Of equal weights, a block of windows at a time. */
static void run_one(fc_separable_unit *u, const void **pointers)
{
    const fc_separable *s = u->s;
    const int64_t stride = u->p->stride[s->a], y_step = u->p->y_s[s->a];
    const int box = fc_separable_slides(u) && fc_separable_is_box(u, s->a);
    const int along = s->along && fc_separable_is_box(u, s->h);
    const int64_t most = box ? u->p->ker[s->a] : along ? s->rows : fc_min(s->rows, s->kernel->rows);
    for (int64_t o = u->begin_a, outputs; o < u->end_a; o += outputs) {
        outputs = fc_min(most, u->end_a - o);
        fc_separable_hold(u, (o + outputs - 1) * stride + s->span_a);
        list_rows(u, o, outputs, 0, pointers);
        fc_separable_emit(u, s->a, pointers, o, outputs, u->y_at + o * y_step, y_step);
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const fc_separable_job *j = context;
    const fc_separable *s = j->s;
    const fc_problem *p = s->p;
    const int64_t chunk = index % s->chunks, b_band = index / s->chunks % s->b_bands;
    const int64_t a_band = index / (s->chunks * s->b_bands) % s->a_bands;
    int64_t rest = index / (s->chunks * s->b_bands * s->a_bands);
    fc_separable_unit u = {.j = j, .s = s, .p = p, .inside = 1, .work = j->workspace + slot * s->slot_bytes};
    for (int64_t d = s->h - 1; d >= 0; d--) {
        if (d == s->a || d == s->b) continue;
        const int64_t o = rest % p->out[d], source = fc_source(p, d, o * p->stride[d]);
        rest /= p->out[d];
        u.inside &= source >= 0;
        u.x_at += fc_max(source, 0) * p->x_s[d];
        u.y_at += o * p->y_s[d];
    }
    const int64_t filter = rest % (p->g * p->k), n = rest / (p->g * p->k);
    u.begin = chunk * s->chunk;
    u.count = fc_min(s->chunk, s->out_h - u.begin);
    u.low = fc_max(0, u.begin - p->pad[s->h]);
    u.high = fc_max(u.low, fc_min(p->in[s->h], u.begin + u.count + s->span_h - 1 - p->pad[s->h]));
    u.shift = fc_min(u.low - u.begin + p->pad[s->h], u.count + s->span_h - 1);
    u.x_at += n * p->x_n + filter / p->k * p->x_c + u.low * p->x_s[s->h];
    u.y_at += n * p->y_n + filter * p->y_k + u.begin * p->y_s[s->h];
    u.begin_a = a_band * s->a_band;
    u.end_a = fc_min(u.begin_a + s->a_band, s->out_a);
    u.begin_b = b_band * s->b_band;
    u.end_b = fc_min(u.begin_b + s->b_band, s->out_b);
    u.held = s->a < 0 ? 0 : u.begin_a * p->stride[s->a];
    u.first_b = s->b < 0 ? 0 : u.begin_b * p->stride[s->b];
    u.factors = j->packed + filter * s->filter_bytes;
    u.bias = !j->epilogue->bias ? -0.0 : fc_separable_get(j->epilogue->bias, filter, p->dtype);
    if (s->whole) u.bias = (uint16_t)(int64_t)u.bias;
    if (p->boundary == FC_CONSTANT) {
        const double value = s->whole ? (int16_t)p->cval_i : fc_separable_rounded(p->cval[0], s->dtype);
        const int64_t count = (u.high - u.low) * s->unit;
        if (j->bytes == s->bytes)
            fc_separable_fill(u.work + s->fixed_at, count, value, s->dtype);
        else
            memset(u.work + s->fixed_at, (int)value, (size_t)count);
        for (int64_t t = 0; t < s->terms; t++) {
            u.edge[t] = value;
            for (int64_t d = 0; d < 2; d++) {
                const int64_t axis = d ? s->b : s->a;
                double sum = 0;
                if (axis < 0) continue;
                for (int64_t r = 0; r < p->ker[axis]; r++)
                    sum += fc_separable_get(fc_separable_factor(&u, axis), t * p->ker[axis] + r, s->dtype) * u.edge[t];
                u.edge[t] = sum;
            }
        }
    }
    if (s->along) fc_separable_borders(&u);
    const void **const pointers = (const void **)(u.work + s->pointers_at);
    if (fc_separable_means(&u, pointers)) return;
    if (fc_separable_taps(p, s->a) == 1)
        run_none(&u, pointers);
    else if (s->b >= 0)
        run_two(&u, pointers);
    else
        run_one(&u, pointers);
}

/* Whether a row, from h on, lies dense. */
static int is_dense(const fc_separable *s, const int64_t *stride)
{
    int64_t expected = 1;
    for (int64_t d = s->p->dims - 1; d >= s->h; d--) {
        if ((s->p->in[d] != 1 || s->p->out[d] != 1) && stride[d] != expected) return 0;
        expected *= s->p->in[d];
    }
    return 1;
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    fc_separable s;
    fc_separable_plan(p, config, kernels, threads, &s);
    const int x_dense = is_dense(&s, p->x_s), y_dense = is_dense(&s, p->y_s);
    fc_separable_job j = {&s, kernels, x, packed, epilogue, y, workspace, s.kernel, s.bytes,
                          x_dense && !s.from, x_dense, y_dense};
    /* bytes that are summed down alone need not be floats before, if the constant is one too */
    const double c = p->boundary == FC_CONSTANT ? p->cval[0] : 0;
    const int bytes = s.whole ? s.x_bytes == 1 : s.doubtful && !s.along;
    if (bytes && x_dense && c >= 0 && c <= 255 && c == (double)(uint8_t)c) {
        j.kernel = s.whole ? kernels->rows_u8_u16 : kernels->rows_u8;
        j.bytes = 1;
        j.in_place = 1;
    }
    fc_parallel(p->n * p->g * p->k * s.outer * s.a_bands * s.b_bands * s.chunks, threads, run_unit, &j);
}

const fc_driver fc_driver_separable = {"separable", workspace_bytes, packed_bytes, pack, run};
