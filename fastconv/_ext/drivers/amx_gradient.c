/* amx_gradient: y[n][k][o] = bias[k] + sum over c, r of w[k][c][r] * x[n][c][o u + r l - pad], of few outputs and large
 * kernels, as gradients of weights are: w is the gradient's pictures, x and y have an image a channel of the layer.
 *
 * A matrix product on tiles of AMX (kernels/amx.c, across) for each output position o: rows are filters, columns images, and
 * what is summed are samples, 32 a step. A block of w, some pictures or rows of one or columns of a row, is numbered on
 * across its rows, amid zeros wherever x has samples under no tap; steps are cut out of that without regard to rows. Samples
 * of x have the same numbers, so that an output is an offset. With l > 1 x is taken apart by phases, planes of which each
 * output reads one. Both operands are split into parts of bfloat16 (kernels/amx_gradient.c), once a block:
 *
 *     w      [pair of tiles of filters][step][part][tile]
 *     x      [pair of tiles of images][plane][part][sample], a line of words (samples i and i + 16) of 16 images a tile
 *     sums   [pair of filters][pair of images][output][four tiles], float32
 *
 * One unit of work is (group, position of the axes before the last two, part of the filters, part of the images):
 *     for block: split w and x
 *         for some steps, for pair of filters, of images, for output: sums += their products
 *
 * What a sum is made of, and in which order, depends on the settings alone, not on units.
 *
 * Outputs that are not finite are summed anew from their definition, in double, and so are those as small as what tiles may have
 * flushed to 0, where something may have been: see amx_split.c. Here the ranges of a filter and of an image tell, and which of
 * them may round to Inf.
 *
 * Settings: v[0] products of parts, v[1] most steps whose sums are added to others, v[2] pictures, v[3] rows and v[4] columns
 * of a block, v[5] filters and v[6] images of a unit at most, v[7] whether the emulation is used. Packed: nothing; w has its
 * strides, and its rows are dense.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "amx_gradient.h"

typedef struct {
    const amx_gradient *s;
    const float *x, *w;
    const fc_epilogue *epilogue;
    float *y;
    char *workspace;
    const int64_t *offset;
    int emulated;
} job;

typedef struct {
    int64_t g, outer, filter, filters, image, images; /* the first of its group, and how many */
    char *a, *x;
    float *stage, *sums, *block_sums;
    fc_amx_range *of_filter, *of_image;
} unit;

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    amx_gradient s;
    fc_amx_gradient_plan(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.offset_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    (void)p, (void)config, (void)kernels;
    return 0;
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads)
{
    (void)p, (void)config, (void)kernels, (void)w, (void)packed, (void)threads;
}

/* Where in w a picture begins, and in x, whether it is there. */
static int picture_at(const job *j, const unit *q, int64_t picture, int64_t *w_at, int64_t *x_at)
{
    const amx_gradient *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t c = picture / s->outer_taps;
    int64_t tap = picture % s->outer_taps, outer = q->outer;
    *w_at = c * p->w_c, *x_at = (q->g * p->c + c) * p->x_c;
    int there = 1;
    for (int64_t d = s->outer - 1; d >= 0; outer /= p->out[d], tap /= p->ker[d], d--) {
        const int64_t at = fc_source(p, d, outer % p->out[d] * p->stride[d] + tap % p->ker[d] * p->dilation[d]);
        there &= at >= 0;
        *w_at += tap % p->ker[d] * p->w_s[d];
        *x_at += at * p->x_s[d];
    }
    return there;
}

static int64_t clamp(int64_t v, int64_t low, int64_t high) { return fc_max(low, fc_min(v, high)); }

/* ---- operands --------------------------------------------------------------------------------*/

/* A filter's rows of a block, amid zeros. */
static void stage_filter(const job *j, const unit *q, const amx_gradient_block *b, int64_t filter)
{
    const amx_gradient *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t w_row = s->rows.axis < 0 ? 0 : p->w_s[s->rows.axis];
    const float *const w = j->w + (q->g * p->k + q->filter + filter) * p->w_k + b->row * w_row + b->column;
    float *to = q->stage, *const end = to + b->steps * STEP;
    for (int64_t i = 0; i < b->pictures; i++) {
        int64_t w_at, x_at;
        picture_at(j, q, b->picture + i, &w_at, &x_at);
        to = q->stage + i * s->rows.pitch * s->pitch;
        for (int64_t r = 0; r < b->rows; r++, to += s->pitch) {
            memcpy(to, w + w_at + r * w_row, (size_t)b->columns * sizeof *to);
            memset(to + b->columns, 0, (size_t)(s->pitch - b->columns) * sizeof *to);
        }
        const int64_t rest = i + 1 < b->pictures ? (s->rows.pitch - b->rows) * s->pitch : end - to;
        memset(to, 0, (size_t)rest * sizeof *to);
    }
}

static void split_filters(const job *j, const unit *q, const amx_gradient_block *b)
{
    const amx_gradient *const s = j->s;
    for (int64_t k = 0; k < q->filters; k++) {
        const int64_t pair = k / PAIR, tiles = fc_min(2, fc_ceil_div(q->filters - pair * PAIR, SIDE));
        char *const to = q->a + pair * s->a_pair + k % PAIR / SIDE * TILE + k % SIDE * LINE;
        stage_filter(j, q, b, k);
        s->turns->rows(b->steps, q->stage, s->parts, to, s->parts * tiles * TILE, tiles * TILE, q->of_filter + k);
    }
}

/* Samples of an image under a block, of a phase of rows and columns, amid zeros. */
static void stage_image(const job *j, const unit *q, const amx_gradient_block *b, int64_t image, int64_t row_phase,
                        int64_t column_phase, float *to)
{
    const amx_gradient *const s = j->s;
    const fc_problem *const p = s->p;
    const amx_axis *const v = &s->rows, *const h = &s->columns;
    const int64_t x_row = v->axis < 0 ? 0 : p->x_s[v->axis], step = h->l * p->x_s[h->axis];
    const int64_t top = b->row * v->l + row_phase * v->u % v->l - v->pad;
    const int64_t left = b->column * h->l + column_phase * h->u % h->l - h->pad;
    const int64_t from = clamp(fc_ceil_div(fc_max(-left, 0), h->l), 0, s->pitch);
    const int64_t end = clamp(fc_ceil_div(fc_max(h->size - left, 0), h->l), from, s->pitch);
    float *const last = to + (b->groups + 1) * SIDE;
    for (int64_t i = 0; i < b->pictures; i++) {
        int64_t w_at, x_at;
        const int there = picture_at(j, q, b->picture + i, &w_at, &x_at);
        const float *const x = j->x + (q->image + image) * p->x_n + x_at + (left + from * h->l) * p->x_s[h->axis];
        const int64_t rows = i + 1 < b->pictures ? v->pitch : b->rows + v->reach;
        for (int64_t r = 0; r < rows; r++, to += s->pitch) {
            const int64_t row = top + r * v->l;
            if (!there || row < 0 || row >= v->size) {
                memset(to, 0, (size_t)s->pitch * sizeof *to);
                continue;
            }
            const float *const at = x + row * x_row;
            memset(to, 0, (size_t)from * sizeof *to);
            if (step == 1) memcpy(to + from, at, (size_t)(end - from) * sizeof *to);
            else
                for (int64_t c = from; c < end; c++) to[c] = at[(c - from) * step];
            memset(to + end, 0, (size_t)(s->pitch - end) * sizeof *to);
        }
    }
    memset(to, 0, (size_t)(last - to) * sizeof *to);
}

static void split_images(const job *j, const unit *q, const amx_gradient_block *b)
{
    const amx_gradient *const s = j->s;
    for (int64_t plane = 0; plane < s->planes; plane++)
        for (int64_t n = 0; n < q->images; n += SIDE) {
            for (int64_t i = 0; i < SIDE; i++) {
                float *const to = q->stage + i * s->stage;
                if (n + i < q->images)
                    stage_image(j, q, b, n + i, plane / s->columns.phases, plane % s->columns.phases, to);
                else
                    memset(to, 0, (size_t)s->stage * sizeof *to);
            }
            s->turns->lines(b->groups, q->stage, s->stage, s->every, s->parts,
                            q->x + n / PAIR * s->x_pair + plane * s->parts * s->x_part + n % PAIR / SIDE * LINE, 2 * LINE,
                            s->x_part, q->of_image + n);
        }
}

/* ---- products --------------------------------------------------------------------------------*/

static void multiply(const job *j, const unit *q, const amx_gradient_block *b)
{
    const amx_gradient *const s = j->s;
    const amx_axis *const v = &s->rows, *const h = &s->columns;
    const int64_t f_pairs = fc_ceil_div(q->filters, PAIR), c_pairs = fc_ceil_div(q->images, PAIR);
    const int64_t some = fc_ceil_div(b->steps, fc_ceil_div(b->steps, s->most_steps));
    fc_amx_block of = {.products = s->products, .offset = j->offset, .x_part = s->x_part, .x_row = 2 * LINE, .across = 1,
                       .sums = q->block_sums, .sum_row = LINE};
    for (int64_t first = 0; first < b->steps; first += some) {
        of.steps = fc_min(some, b->steps - first);
        for (int64_t f = 0; f < f_pairs; f++) {
            of.filters = fc_min(2, fc_ceil_div(q->filters - f * PAIR, SIDE));
            of.w = q->a + f * s->a_pair + first * s->parts * of.filters * TILE;
            for (int64_t c = 0; c < c_pairs; c++) {
                of.pixels = fc_min(2, fc_ceil_div(q->images - c * PAIR, SIDE));
                for (int64_t o = 0; o < s->taps; o++) {
                    const int64_t row = o / h->out, column = o % h->out;
                    const int64_t plane = row % v->phases * h->phases + column % h->phases;
                    const int64_t line = row * v->u / v->l * s->pitch + column * h->u / h->l;
                    of.x = q->x + c * s->x_pair + plane * s->parts * s->x_part + (first * s->step_lines + line) * 2 * LINE;
                    (j->emulated ? s->tiles->emulated : s->tiles->hardware)(&of);
                    s->turns->add(q->block_sums, q->sums + ((f * c_pairs + c) * s->taps + o) * SUMS);
                }
            }
        }
    }
}

/* ---- outputs ---------------------------------------------------------------------------------*/

/* One output from the products that are there. */
static double exactly(const job *j, const unit *q, int64_t filter, int64_t image, int64_t o)
{
    const amx_gradient *const s = j->s;
    const fc_problem *const p = s->p;
    const amx_axis *const v = &s->rows, *const h = &s->columns;
    const int64_t x_row = v->axis < 0 ? 0 : p->x_s[v->axis], w_row = v->axis < 0 ? 0 : p->w_s[v->axis];
    const int64_t top = o / h->out * v->u - v->pad, left = o % h->out * h->u - h->pad;
    double sum = 0;
    for (int64_t i = 0; i < s->pictures; i++) {
        int64_t w_at, x_at;
        if (!picture_at(j, q, i, &w_at, &x_at)) continue;
        const float *const x = j->x + (q->image + image) * p->x_n + x_at;
        const float *const w = j->w + (q->g * p->k + q->filter + filter) * p->w_k + w_at;
        for (int64_t r = 0; r < v->width; r++) {
            const int64_t row = top + r * v->l;
            if (row < 0 || row >= v->size) continue;
            for (int64_t c = 0; c < h->width; c++) {
                const int64_t column = left + c * h->l;
                if (column < 0 || column >= h->size) continue;
                sum += (double)x[row * x_row + column * p->x_s[h->axis]] * w[r * w_row + c];
            }
        }
    }
    return sum;
}

static float float_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Up to this an output is not known to be right; less than 0 where nothing can have been flushed. */
static float limit_of(const amx_gradient *s, const fc_amx_range *a, const fc_amx_range *b)
{
    if (float_of(a->most) >= 0x1p127f || float_of(b->most) >= 0x1p127f) return INFINITY;
    if (a->most > 0x7f800000 || b->most > 0x7f800000) return INFINITY; /* NaN */
    if (a->least == UINT32_MAX || b->least == UINT32_MAX) return -1; /* zeros */
    const float least_a = float_of(a->least + 1), least_b = float_of(b->least + 1);
    if (least_a >= 0x1p-103f && least_b >= 0x1p-103f && ilogb(least_a) + ilogb(least_b) >= -80) return -1;
    double lost = (double)(s->total_steps * STEP) * ((double)float_of(a->most) + float_of(b->most));
    lost += (double)((STEP + 2) * s->total_steps * s->products);
    return (float)ldexp(lost, 24 - 126);
}

/* What all of a unit's are within. */
static fc_amx_range all_of(const fc_amx_range *some, int64_t count)
{
    fc_amx_range all = {UINT32_MAX, 0};
    for (int64_t i = 0; i < count; i++) {
        all.least = all.least < some[i].least ? all.least : some[i].least;
        all.most = all.most > some[i].most ? all.most : some[i].most;
    }
    return all;
}

/* Outputs of a filter and of `count` images from the `image`th on, in a tile: all of an image, then the next one's. */
static void store_images(const job *j, const unit *q, int64_t k, int64_t image, int64_t count, int limited, const float *from,
                         int64_t at)
{
    const amx_gradient *const s = j->s;
    const fc_problem *const p = s->p;
    const amx_axis *const v = &s->rows, *const h = &s->columns;
    const int64_t filter = q->g * p->k + q->filter + k, y_row = v->axis < 0 ? 0 : p->y_s[v->axis], step = p->y_s[h->axis];
    const float bias = j->epilogue->bias ? ((const float *)j->epilogue->bias)[filter] : -0.0f;
    int right;
    if (step == 1 && y_row == h->out) right = s->turns->outputs(from, s->taps, count, bias, j->y + at, p->y_n);
    else
        for (int64_t i = right = 0; i < count * s->taps; i++) {
            const int64_t n = i / s->taps, o = i % s->taps;
            j->y[at + n * p->y_n + o / h->out * y_row + o % h->out * step] = from[o * SUMS + n] + bias;
        }
    for (int64_t n = 0; n < count && !(right && !limited); n++) {
        const float limit = limited ? limit_of(s, q->of_filter + k, q->of_image + image + n) : -1;
        for (int64_t o = 0; o < s->taps; o++) {
            const float sum = from[o * SUMS + n];
            if (fabsf(sum) > limit && fabsf(sum) <= FLT_MAX) continue;
            j->y[at + n * p->y_n + o / h->out * y_row + o % h->out * step] = (float)exactly(j, q, k, image + n, o) + bias;
        }
    }
    for (int64_t n = 0; n < count; n++, at += p->y_n)
        for (int64_t r = 0; r < v->out; r++) fc_finish(p, s->kernels, j->epilogue, j->y, at + r * y_row, h->out, step);
}

static void store(const job *j, const unit *q)
{
    const amx_gradient *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t c_pairs = fc_ceil_div(q->images, PAIR);
    const fc_amx_range filters = all_of(q->of_filter, q->filters), images = all_of(q->of_image, q->images);
    const int limited = limit_of(s, &filters, &images) >= 0;
    int64_t at = q->image * p->y_n + (q->g * p->k + q->filter) * p->y_k;
    for (int64_t d = s->outer - 1, o = q->outer; d >= 0; o /= p->out[d], d--) at += o % p->out[d] * p->y_s[d];
    for (int64_t k = 0; k < q->filters; k++)
        for (int64_t n = 0; n < q->images; n += SIDE) {
            const float *const from = q->sums + (k / PAIR * c_pairs + n / PAIR) * s->taps * SUMS
                                      + (n % PAIR / SIDE * 2 + k % PAIR / SIDE) * SIDE * SIDE + k % SIDE * SIDE;
            store_images(j, q, k, n, fc_min(SIDE, q->images - n), limited, from, at + k * p->y_k + n * p->y_n);
        }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const amx_gradient *const s = j->s;
    const fc_problem *const p = s->p;
    unit q = {.image = index % s->c_units * s->c_pairs * PAIR, .filter = index / s->c_units % s->f_units * s->f_pairs * PAIR};
    index /= s->c_units * s->f_units;
    q.outer = index % s->outers, q.g = index / s->outers;
    q.filters = fc_min(s->f_pairs * PAIR, p->k - q.filter), q.images = fc_min(s->c_pairs * PAIR, p->n - q.image);
    q.a = j->workspace + slot * s->slot_bytes;
    q.x = q.a + s->a_bytes;
    q.stage = (float *)(q.x + s->x_bytes);
    q.sums = (float *)((char *)q.stage + s->stage_bytes);
    q.of_filter = (fc_amx_range *)((char *)q.sums + s->sums_bytes);
    q.of_image = q.of_filter + s->f_pairs * PAIR;
    memset(q.sums, 0, (size_t)s->sums_bytes);
    q.block_sums = q.sums + s->f_pairs * s->c_pairs * s->taps * SUMS;
    for (int64_t i = 0; i < (s->f_pairs + s->c_pairs) * PAIR; i++) q.of_filter[i] = (fc_amx_range){UINT32_MAX, 0};
    if (q.filters % PAIR) memset(q.a, 0, (size_t)s->a_bytes); /* rows of filters that are not there */
    for (int64_t i = 0; i < s->picture_blocks * s->row_blocks * s->column_blocks; i++) {
        amx_gradient_block b = {.column = i % s->column_blocks * s->piece,
                                .row = i / s->column_blocks % s->row_blocks * s->band,
                                .picture = i / s->column_blocks / s->row_blocks * s->at_once};
        b.columns = fc_min(s->piece, s->columns.width - b.column);
        b.rows = fc_min(s->band, s->rows.width - b.row);
        b.pictures = fc_min(s->at_once, s->pictures - b.picture);
        fc_amx_gradient_extent(s, &b);
        split_filters(j, &q, &b);
        split_images(j, &q, &b);
        fc_amx_state before;
        if (!j->emulated) s->tiles->enter(&before);
        multiply(j, &q, &b);
        if (!j->emulated) s->tiles->leave(&before);
    }
    store(j, &q);
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x, const void *w,
                const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    amx_gradient s;
    fc_amx_gradient_plan(p, config, kernels, threads, &s);
    int64_t *const offset = (int64_t *)((char *)workspace + threads * s.slot_bytes);
    for (int64_t i = 0; i < s.offset_bytes / (int64_t)sizeof *offset; i++) offset[i] = i * s.step_lines * 2 * LINE;
    job j = {&s, x, w, epilogue, y, workspace, offset, config->v[7] || !s.tiles->hardware};
    fc_parallel(p->g * s.outers * s.f_units * s.c_units, threads, run_unit, &j);
}

const fc_driver fc_driver_amx_gradient = {"amx_gradient", workspace_bytes, packed_bytes, pack, run};
