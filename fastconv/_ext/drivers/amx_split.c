/* amx_split: y[k][pixel] = bias[k] + sum over taps, channels of w[k][c][tap] * x[c][pixel, tap], operands split in bfloat16.
 *
 * A matrix product on tiles of AMX (kernels/amx.c) whose rows are filters and whose columns are positions: outputs of some
 * rows, numbered on across the padding between rows. The samples under these are split into parts a slice of channels at a
 * time and stored with their padding, two channels beside each other, apart by stride: part, phase of rows and columns, pair
 * of channels, row, column. A tap is an offset into that, any position begins a tile, and no window is written out. Sums
 * stay in a workspace of tiles; those of positions between rows are left there.
 *
 * One unit of work is (image, group, position of the axes before the last two, rows, columns, part of the filters):
 *     for tap of those axes, block of slices:
 *         for slice: split it; for pair of tiles of positions, for pair of tiles of filters: sums += their steps
 *         y (+)= sums
 * What a sum is made of, and in which order, depends on the settings alone, not on units.
 *
 * Outputs that are not finite are summed anew from their definition, in double: parts of an Inf are NaN. So are those as
 * small as what tiles may have flushed to 0, where something may have been. Parts of v are whole multiples of v's last
 * bit. So are sums of their products, of the last bits' product; if that is no less than the smallest normal number, 2^-126,
 * nothing is subnormal and nothing is flushed. Samples from `safe` on are such, for a filter's smallest weight.
 * Else at most 2^-126 is lost by each operation, and by each operand times the other; limit is 2^24 times all that.
 *
 * Settings: v[0] products of parts, v[1] most products of tiles in a sum before it is added to y, v[2] bytes of samples and
 * sums of a unit, v[3] whether the emulation is used.
 * Packed: amx_statistics of filters; weights [filter][channel][tap] as they are; per group, tap of the axes before the last two,
 * slice and pair of tiles of filters, tiles [32 channels][tap][part][tile].
 *
 * Henry, Tang, Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations, ARITH
 * 2019.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "amx_split.h"

typedef struct {
    const amx_geometry *s;
    const float *x;
    const char *packed;
    const fc_epilogue *epilogue;
    float *y;
    char *workspace;
    const int64_t *offset;
    int emulated;
} job;

typedef struct {
    int64_t n, g, outer, top, left, rows, columns, first, filters; /* of outputs; of filters, in the group */
    char *samples;
    float *sums;
    fc_amx_range seen;
} unit;

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    amx_geometry s;
    fc_amx_plan(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.offset_bytes;
}

static float float_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static float smallest(const fc_amx_range *seen) { return float_of(seen->least + 1); }

/* ---- samples ---------------------------------------------------------------------------------*/

/* Where in x the taps `tap` of the axes before the last two meet a sample; whether they do. */
static int outer_at(const amx_geometry *s, int64_t outer, int64_t tap, int64_t *x_at)
{
    const fc_problem *p = s->p;
    *x_at = 0;
    for (int64_t d = s->outer - 1; d >= 0; outer /= p->out[d], tap /= p->ker[d], d--) {
        const int64_t at = fc_source(p, d, outer % p->out[d] * p->stride[d] + tap % p->ker[d] * p->dilation[d]);
        if (at < 0) return 0;
        *x_at += at * p->x_s[d];
    }
    return 1;
}

static void clear(const amx_geometry *s, char *to, int64_t count)
{
    for (int64_t part = 0; part < s->parts && count > 0; part++) memset(to + part * s->x_part, 0, (size_t)count * 4);
}

/* A plane: two channels (b NULL: one; a NULL: none) in a phase of rows and columns. */
static void fill_plane(const amx_geometry *s, unit *q, const float *a, const float *b, int64_t row_phase, int64_t column_phase,
                       char *to)
{
    const fc_problem *p = s->p;
    const int64_t step = s->v * p->x_s[s->column], width = q->columns + s->reach_columns;
    const int64_t x_row = s->row < 0 ? 0 : p->x_s[s->row];
    /* row i and column j of the plane are row origin + i u and column left + j v of x */
    const int64_t origin = q->top * s->u + row_phase * s->l % s->u - s->pad_rows;
    const int64_t left = q->left * s->v + column_phase * s->m % s->v - s->pad_columns;
    const int64_t from = left >= 0 ? 0 : fc_min(width, fc_ceil_div(-left, s->v)), inside = s->in_columns - left;
    const int64_t end = inside <= 0 ? from : fc_max(from, fc_min(width, fc_ceil_div(inside, s->v)));
    int64_t i = 0;
    for (; i < q->rows + s->reach_rows; i++) {
        char *const line = to + i * s->pitch * 4;
        const int64_t row = origin + i * s->u;
        if (!a || row < 0 || row >= s->in_rows || from == end) {
            clear(s, line, s->pitch);
            continue;
        }
        clear(s, line, from);
        const int64_t at = row * x_row + (left + from * s->v) * p->x_s[s->column];
        s->tiles->split(end - from, a + at, b ? b + at : NULL, step, s->parts, line + from * 4, s->x_part, &q->seen);
        clear(s, line + end * 4, s->pitch - end);
    }
    clear(s, to + i * s->pitch * 4, s->plane - i * s->pitch);
}

static void fill_slice(const job *j, unit *q, int64_t slice, int64_t x_at)
{
    const amx_geometry *s = j->s;
    const fc_problem *p = s->p;
    const float *const x = j->x + q->n * p->x_n + q->g * p->c * p->x_c + x_at;
    for (int64_t f = 0; f < s->row_phases * s->column_phases; f++)
        for (int64_t pair = 0; pair < depth_of(s, slice) * SIDE; pair++) {
            const int64_t c = slice * s->depth * FC_AMX_CHANNELS + 2 * pair;
            fill_plane(s, q, c < p->c ? x + c * p->x_c : NULL, c + 1 < p->c ? x + (c + 1) * p->x_c : NULL,
                       f / s->column_phases, f % s->column_phases, q->samples + (f * s->depth * SIDE + pair) * s->plane * 4);
        }
}

/* ---- sums ------------------------------------------------------------------------------------*/

static void multiply(const job *j, const unit *q, int64_t outer_tap, int64_t slice, int accumulate)
{
    const amx_geometry *s = j->s;
    const int64_t positions = (q->rows - 1) * s->pitch + q->columns, tiles = fc_ceil_div(positions, SIDE);
    fc_amx_block b = {.products = s->products, .steps = depth_of(s, slice) * s->taps, .offset = j->offset,
                      .x_part = s->x_part, .x_row = s->plane * 4, .accumulate = accumulate};
    void (*const run)(const fc_amx_block *) = j->emulated ? s->tiles->emulated : s->tiles->hardware;
    for (int64_t t = 0; t < tiles; t += 2)
        for (int64_t f = 0; f < fc_ceil_div(q->filters, PAIR); f++) {
            const int64_t pair = q->first / PAIR + f;
            b.filters = fc_min(2, s->filter_tiles - 2 * pair);
            b.pixels = fc_min(2, tiles - t);
            b.x = q->samples + t * SIDE * 4;
            b.w = j->packed + place_of(s, q->g, outer_tap, slice, pair);
            b.sums = q->sums + (t / 2 * s->part + f) * SUMS;
            run(&b);
        }
}

/* One output from the products that are there. */
static double exactly(const job *j, const unit *q, int64_t filter, int64_t r, int64_t c)
{
    const amx_geometry *s = j->s;
    const fc_problem *p = s->p;
    const float *const w = (const float *)(j->packed + s->raw_at) + filter * p->c * s->outer_taps * s->taps;
    const int64_t x_row = s->row < 0 ? 0 : p->x_s[s->row];
    double sum = 0;
    for (int64_t o = 0; o < s->outer_taps; o++) {
        int64_t x_at;
        if (!outer_at(s, q->outer, o, &x_at)) continue;
        const float *const x = j->x + q->n * p->x_n + q->g * p->c * p->x_c + x_at;
        for (int64_t t = 0; t < s->taps; t++) {
            const int64_t row = r * s->u + t / s->width * s->l - s->pad_rows;
            const int64_t column = c * s->v + t % s->width * s->m - s->pad_columns;
            if (row < 0 || row >= s->in_rows || column < 0 || column >= s->in_columns) continue;
            const int64_t at = row * x_row + column * p->x_s[s->column];
            for (int64_t h = 0; h < p->c; h++)
                sum += (double)x[at + h * p->x_c] * w[(h * s->outer_taps + o) * s->taps + t];
        }
    }
    return sum;
}

/* Below this an output of a filter is not known to be right; 0 where nothing can have been flushed. */
static float limit_of(const job *j, const unit *q, int64_t filter)
{
    const amx_geometry *s = j->s;
    const amx_statistics of = ((const amx_statistics *)j->packed)[filter];
    if (q->seen.least == UINT32_MAX || smallest(&q->seen) >= of.safe) return 0;
    const double steps = (double)(s->outer_taps * s->channel_tiles * s->taps * s->products);
    /* a tile has 32 products and 2 sums for each output */
    double lost = of.total + (FC_AMX_CHANNELS + 2) * steps;
    if (isinf(of.safe)) lost += (double)(s->p->c * s->outer_taps * s->taps) * float_of(q->seen.most);
    return (float)ldexp(lost, 24 - 126);
}

/* y of a unit becomes, or is added to, sums; the last of them are finished. `stored`: whether y holds some already. */
static void store(const job *j, const unit *q, int stored, int last)
{
    const amx_geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t y_row = s->row < 0 ? 0 : p->y_s[s->row], step = p->y_s[s->column];
    int64_t at = q->n * p->y_n + q->top * y_row + q->left * step;
    for (int64_t d = s->outer - 1, o = q->outer; d >= 0; o /= p->out[d], d--) at += o % p->out[d] * p->y_s[d];
    for (int64_t k = 0; k < q->filters; k++) {
        const int64_t filter = q->g * p->k + q->first + k;
        const float limit = last ? limit_of(j, q, filter) : 0;
        const float *const sums = q->sums + k / PAIR * SUMS + k % PAIR / SIDE * 2 * SIDE * SIDE + k % SIDE * SIDE;
        for (int64_t r = 0; r < q->rows; r++) {
            const int64_t y_at = at + filter * p->y_k + r * y_row;
            float *const y = j->y + y_at;
            const int doubt = s->tiles->add(q->columns, sums, r * s->pitch, s->part * SUMS, y, step, stored, limit);
            if (!last) continue;
            for (int64_t c = 0; doubt && c < q->columns; c++)
                if (!(fabsf(y[c * step]) >= limit && fabsf(y[c * step]) <= FLT_MAX))
                    y[c * step] = (float)exactly(j, q, filter, q->top + r, q->left + c);
            if (j->epilogue->bias) s->tiles->bias(q->columns, y, step, ((const float *)j->epilogue->bias)[filter]);
            fc_finish(p, s->kernels, j->epilogue, j->y, y_at, q->columns, step);
        }
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const amx_geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t part = index % s->filter_parts, left = (index /= s->filter_parts) % s->column_units * s->unit_columns;
    const int64_t top = (index /= s->column_units) % s->row_units * s->unit_rows, outer = (index /= s->row_units) % s->outers;
    const int64_t g = (index /= s->outers) % p->g, first = part * s->part * PAIR;
    unit q = {.n = index / p->g, .g = g, .outer = outer, .top = top, .left = left,
              .rows = fc_min(s->unit_rows, s->rows - top), .columns = fc_min(s->unit_columns, s->columns - left),
              .first = first, .filters = fc_min(s->part * PAIR, p->k - first), .samples = j->workspace + slot * s->slot_bytes,
              .seen = {UINT32_MAX, 0}};
    q.sums = (float *)(q.samples + s->x_bytes);
    int64_t x_at, end = 0; /* of the taps that meet samples */
    for (int64_t o = 0; o < s->outer_taps; o++)
        if (outer_at(s, outer, o, &x_at)) end = o + 1;
    fc_amx_state before;
    if (!j->emulated) s->tiles->enter(&before);
    int stored = 0;
    for (int64_t o = 0; o < end; o++) {
        if (!outer_at(s, outer, o, &x_at)) continue;
        for (int64_t slice = 0; slice < s->slices; slice++) {
            fill_slice(j, &q, slice, x_at);
            multiply(j, &q, o, slice, slice % s->block > 0);
            const int last = slice + 1 == s->slices;
            if (!last && (slice + 1) % s->block) continue;
            store(j, &q, stored, last && o + 1 == end);
            stored = 1;
        }
    }
    if (!j->emulated) s->tiles->leave(&before);
    if (end) return;
    memset(q.sums, 0, (size_t)s->sum_bytes);
    store(j, &q, 0, 1);
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x, const void *packed,
                const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    amx_geometry s;
    fc_amx_plan(p, config, kernels, threads, &s);
    int64_t *const offset = (int64_t *)((char *)workspace + threads * s.slot_bytes);
    for (int64_t i = 0; i < s.depth * s.taps; i++) {
        const int64_t tile = i / s.taps, r = i % s.taps / s.width, c = i % s.width;
        const int64_t phase = r % s.row_phases * s.column_phases + c % s.column_phases;
        offset[i] = ((phase * s.depth + tile) * SIDE * s.plane + r * s.l / s.u * s.pitch + c * s.m / s.v) * 4;
    }
    job j = {&s, x, packed, epilogue, y, workspace, offset, config->v[3] || !s.tiles->hardware};
    fc_parallel(p->n * p->g * s.outers * s.row_units * s.column_units * s.filter_parts, threads, run_unit, &j);
}

const fc_driver fc_driver_amx_split = {"amx_split", workspace_bytes, fc_amx_packed_bytes, fc_amx_pack, run};
