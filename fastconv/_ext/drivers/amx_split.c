/* amx_split: y[k][pixel] = bias[k] + sum over taps, channels of w[k][c][tap] * x[c][pixel, tap], operands split in bfloat16.
 *
 * A matrix product on tiles of AMX (kernels/amx.c) whose rows are positions and whose columns are filters: outputs of some
 * rows, numbered on across the padding between rows. The samples under these are split into parts and stored with their
 * padding, 32 channels beside each other, apart by stride: part, phase of rows and columns, tile of channels, row, column. A
 * tap is an offset into that, any position begins a tile, and no window is written out. Sums of positions between rows
 * are dropped.
 *
 * One unit of work is (image, group, position of the axes before the last two, rows, columns, part of the filters):
 *     for block of layers, a tile of channels under a tap of those axes each:
 *         split their samples
 *         for pair of tiles of filters, for pair of tiles of positions: y (+)= sums of the block's steps
 *
 * Of few channels a line is the samples of all channels under all taps of a row of the kernel: with channels side by side, a
 * row of x has these side by side, too.
 *
 * x and y may be stored in 16 bits: x in bfloat16 is one part as it is, and in float16 two; y has one block of layers, and
 * neither a residual nor an activation.
 *
 * What a sum is made of, and in which order, depends on the settings alone, not on units.
 *
 * Outputs that are not finite are summed anew from their definition, in double: parts of an Inf are NaN. So are those as
 * small as what tiles may have flushed to 0, where something may have been. Parts of v are whole multiples of v's last
 * bit. So are sums of their products, of the last bits' product; if that is no less than the smallest normal number, 2^-126,
 * nothing is subnormal and nothing is flushed. Samples from `safe` on are such, for a filter's smallest weight.
 * Else at most 2^-126 is lost by each operation, and by each operand times the other; limit is 2^24 times all that.
 *
 * Settings: v[0] products of parts, v[1] most products of tiles in a sum before it is added to y, v[2] bytes of samples of a
 * unit, v[3] whether the emulation is used, v[4] whether channels lie side by side, v[5] whether columns are joined.
 * Packed: amx_statistics of filters; weights [filter][channel][tap] as they are; per group, pair of tiles of filters, layer
 * and tap, tiles [part][tile].
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
    const void *x;
    const char *packed;
    const fc_epilogue *epilogue;
    void *y;
    char *workspace;
    const int64_t *offset;
    int emulated;
} job;

typedef struct {
    amx_unit at;
    int64_t tiles; /* of positions */
    char *samples;
    fc_amx_run *runs;
    char *row;            /* of joined samples */
    float *sums, *limits; /* limits of its filters, if any sum may be wrong */
    int limited;
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

/* ---- sums in doubt ---------------------------------------------------------------------------*/

static double sample(const job *j, int64_t at)
{
    if (j->s->p->x_dtype == FC_BF16) return float_of((uint32_t)((const uint16_t *)j->x)[at] << 16);
    if (j->s->p->x_dtype == FC_F32) return ((const float *)j->x)[at];
    float v;
    j->s->kernels->halves_f32->widen[0]((const uint16_t *)j->x + at, 1, &v);
    return v;
}

/* Where channel c of a column lies in a row of x, if it does: a joined one is a tap of that output. */
static int channel_of(const amx_geometry *s, int64_t column, int64_t c, int64_t *at)
{
    const fc_problem *p = s->of ? s->of : s->p;
    const int64_t channel = s->of ? c % p->c : c;
    const int64_t source = s->of ? fc_source(p, s->column, column * p->stride[s->column] + c / p->c) : column;
    *at = source * p->x_s[s->column] + channel * p->x_c;
    return source >= 0;
}

/* One output, in row r and column c of y, from the products that are there. */
static double exactly(const job *j, const unit *q, int64_t filter, int64_t r, int64_t c)
{
    const amx_geometry *s = j->s;
    const fc_problem *p = s->p;
    const float *const w = (const float *)(j->packed + s->raw_at) + filter * p->c * s->outer_taps * s->taps;
    const int64_t x_row = s->row < 0 ? 0 : p->x_s[s->row];
    double sum = 0;
    for (int64_t o = 0; o < s->outer_taps; o++) {
        int64_t x_at;
        if (!outer_at(s, q->at.outer, o, &x_at)) continue;
        x_at += q->at.n * p->x_n + q->at.g * (s->of ? s->of->c : p->c) * p->x_c;
        for (int64_t t = 0; t < s->taps; t++) {
            const int64_t row = s->row < 0 ? 0 : fc_source(p, s->row, r * s->u + t / s->width * s->l);
            const int64_t column = fc_source(p, s->column, c * s->v + t % s->width * s->m);
            if (row < 0 || column < 0) continue;
            const int64_t at = x_at + row * x_row;
            for (int64_t h = 0, from; h < p->c; h++)
                if (channel_of(s, column, h, &from)) sum += sample(j, at + from) * w[(h * s->outer_taps + o) * s->taps + t];
        }
    }
    return sum;
}

/* Up to this an output of a filter is not known to be right; less than 0 where nothing can have been flushed. */
static float limit_of(const job *j, const unit *q, int64_t filter)
{
    const amx_geometry *s = j->s;
    const amx_statistics of = ((const amx_statistics *)j->packed)[filter];
    if (q->seen.least == UINT32_MAX || smallest(&q->seen) >= of.safe) return -1;
    const double steps = (double)(s->layers * s->most_taps * s->products);
    /* a tile has 32 products and 2 sums for each output */
    double lost = of.total + (FC_AMX_CHANNELS + 2) * steps;
    if (isinf(of.safe)) lost += (double)(s->p->c * s->outer_taps * s->taps) * float_of(q->seen.most);
    return (float)ldexp(lost, 24 - 126);
}

/* Limits of the filters of a unit's part. None are needed where nothing can have been flushed and no sum overflows. */
static void find_limits(const job *j, unit *q)
{
    const amx_geometry *s = j->s;
    const int64_t first = q->at.part * s->part * PAIR, end = fc_min(s->p->k, first + s->part * PAIR);
    const double most = float_of(q->seen.most);
    q->limited = 0;
    for (int64_t k = 0; k < s->part * PAIR; k++) q->limits[k] = -1;
    for (int64_t k = first; k < end; k++) {
        const int64_t filter = q->at.g * s->p->k + k;
        const double total = ((const amx_statistics *)j->packed)[filter].total;
        q->limits[k - first] = limit_of(j, q, filter);
        q->limited |= q->limits[k - first] >= 0;
        q->limited |= !(most < 0x1p126 && total < 0x1p126 && most * total < 0x1p126);
    }
}

/* What a block left in doubt, and then its biases: in y or, where y is narrow, in sums. */
static void settle(const job *j, const unit *q, const fc_amx_sums_f32 *t, int64_t filter, float *y)
{
    for (int64_t k = 0; k < t->filters; k++)
        for (const fc_amx_run *run = t->runs; run < t->runs + t->count; run++)
            for (int64_t i = 0; i < run->count; i++) {
                const int64_t pixel = run->first + i;
                const int64_t in_tile = t->across ? k % SIDE * SIDE + pixel % SIDE : pixel % SIDE * SIDE + k % SIDE;
                const int64_t tile = pixel / SIDE * t->pixel_step + k / SIDE * t->filter_step;
                float *const v = y ? y + k * t->y_k + run->to + i * t->step : t->sums + tile + in_tile;
                if (!(fabsf(*v) > t->limit[k] && fabsf(*v) <= FLT_MAX))
                    *v = (float)exactly(j, q, filter + k, q->at.y_top + run->row + (run->column + i) / q->at.y_columns,
                                         q->at.y_left + (run->column + i) % q->at.y_columns);
                if (t->bias) *v += t->bias[k];
            }
}

static void store_narrow(const job *j, const unit *q, fc_amx_sums_f32 *t, int64_t filter, uint16_t *y)
{
    int (*const narrow)(const fc_amx_sums_f32 *, uint16_t *) = j->s->tiles->narrow[j->s->p->y_dtype == FC_BF16];
    if (!narrow(t, y)) return;
    settle(j, q, t, filter, NULL);
    t->last = 0; /* nothing is in doubt any more, and biases are added */
    narrow(t, y);
}

/* Sums of a pair of tiles of filters, `count` layers, from tile t of positions: of all residues of columns, in turn. */
static void sum_tiles(const job *j, const unit *q, int64_t pair, int64_t row_residue, int64_t layer, int64_t count, int64_t t,
                      int64_t pixels)
{
    const amx_geometry *s = j->s;
    fc_amx_block b = {.products = s->products, .pixels = pixels, .filters = fc_min(2, s->filter_tiles - 2 * pair),
                      .x = q->samples + t * (s->across ? LINE : FC_AMX_TILE), .x_part = s->x_part, .x_row = s->x_row,
                      .across = s->across, .sum_row = s->column_residues * LINE};
    for (int64_t i = 0; i < s->column_residues; i++) {
        const int64_t residue = row_residue * s->column_residues + i;
        b.steps = count * taps_in(s, residue);
        b.offset = j->offset + s->depth * s->first[residue];
        b.w = j->packed + place_of(s, q->at.g, pair, residue, layer);
        b.sums = q->sums + i * SIDE;
        (j->emulated ? s->tiles->emulated : s->tiles->hardware)(&b);
    }
}

/* y of a pair of tiles of filters, the `pair`th of the group, becomes sums of `count` layers, or these are added. */
static void sum_pair(const job *j, const unit *q, int64_t pair, int64_t layer, int64_t count, int stored, int last)
{
    const amx_geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t filter = q->at.g * p->k + pair * PAIR, at = output_at(s, &q->at, pair * PAIR), n = s->column_residues;
    const float *const bias = j->epilogue->bias;
    for (int64_t residue = 0; residue < s->row_residues; residue++) {
        const fc_amx_run *from = q->runs + residue * s->runs;
        for (int64_t t = 0; t < q->tiles; t += 2) {
            const int64_t pixels = fc_min(2, q->tiles - t);
            sum_tiles(j, q, pair, residue, layer, count, t, pixels);
            for (int64_t i = 0; i < pixels * n; i += 2) {
                const fc_amx_run *to = from;
                while (to->tile == (t * n + i) / 2) to++;
                /* the second tile's sums come after those of the first one's other filters */
                const int64_t first = i + i / n * n, second = i + 1 + (i + 1) / n * n;
                fc_amx_sums_f32 sums = {.sums = q->sums + first * SIDE * SIDE, .tiles = fc_min(2, pixels * n - i),
                                        .pixel_step = (second - first) * SIDE * SIDE, .filter_step = n * SIDE * SIDE,
                                        .filters = fc_min(PAIR, p->k - pair * PAIR), .count = to - from, .runs = from,
                                        .step = p->y_s[s->column], .y_k = p->y_k, .bias = bias ? bias + filter : NULL,
                                        .limit = q->limited ? q->limits + (pair - q->at.part * s->part) * PAIR : NULL,
                                        .across = s->across, .accumulate = stored, .last = last, .hardware = !j->emulated};
                from = to;
                if (p->y_dtype != FC_F32)
                    store_narrow(j, q, &sums, filter, (uint16_t *)j->y + at);
                else if (s->tiles->store(&sums, (float *)j->y + at))
                    settle(j, q, &sums, filter, (float *)j->y + at);
            }
        }
    }
}

/* A residual and an activation: of rows of filters or, where filters lie side by side, of pixels. */
static void finish(const job *j, const unit *q, int64_t filter, int64_t filters)
{
    const fc_problem *p = j->s->p;
    const int64_t at = output_at(j->s, &q->at, filter), y_row = j->s->row < 0 ? 0 : p->y_s[j->s->row];
    const int64_t step = p->y_s[j->s->column];
    for (int64_t r = 0; r < q->at.y_rows; r++)
        if (p->y_k == 1 && step == filters)
            fc_finish(p, j->s->kernels, j->epilogue, j->y, at + r * y_row, q->at.y_columns * filters, 1);
        else if (p->y_k == 1)
            for (int64_t c = 0; c < q->at.y_columns; c++)
                fc_finish(p, j->s->kernels, j->epilogue, j->y, at + r * y_row + c * step, filters, 1);
        else
            for (int64_t k = 0; k < filters; k++)
                fc_finish(p, j->s->kernels, j->epilogue, j->y, at + k * p->y_k + r * y_row, q->at.y_columns, step);
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const amx_geometry *const s = j->s;
    unit q = {.at = unit_at(s, index), .samples = j->workspace + slot * s->slot_bytes, .seen = {UINT32_MAX, 0}};
    const int64_t outer = q.at.outer, first = q.at.part * s->part;
    const int64_t pairs = fc_min(fc_ceil_div(s->filter_tiles, 2) - first, s->part);
    q.runs = (fc_amx_run *)(q.samples + s->x_bytes);
    q.limits = (float *)(q.samples + s->x_bytes + s->run_bytes);
    q.row = q.samples + s->x_bytes + s->run_bytes + s->limit_bytes;
    q.sums = (float *)(q.row + s->join_bytes);
    q.tiles = fc_ceil_div((q.at.rows - 1) * s->pitch + q.at.columns, SIDE);
    for (int64_t f = 0; f < s->row_residues; f++) find_runs(s, &q.at, f, PAIR, q.runs + f * s->runs);
    int64_t x_at, end = 0; /* of the layers that meet samples */
    for (int64_t o = 0; o < s->outer_taps; o++)
        if (outer_at(s, outer, o, &x_at)) end = (o + 1) * s->channel_tiles;
    fc_amx_state before;
    if (!j->emulated) s->tiles->enter(&before);
    int stored = 0;
    for (int64_t layer = 0, count; layer < fc_max(end, 1); layer += fc_max(count, 1)) {
        for (count = 0; count < s->depth && layer + count < end; count++) {
            if (!outer_at(s, outer, (layer + count) / s->channel_tiles, &x_at)) break;
            fc_amx_fill(s, &q.at, j->x, layer + count, count, x_at, q.samples, q.row, &q.seen);
        }
        if (!count && end) continue;
        const int last = layer + count >= end;
        if (last) find_limits(j, &q);
        for (int64_t pair = first; pair < first + pairs; pair++) sum_pair(j, &q, pair, layer, count, stored, last);
        stored = 1;
    }
    if (!j->emulated) s->tiles->leave(&before);
    finish(j, &q, first * PAIR, fc_min(pairs * PAIR, s->p->k - first * PAIR));
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x, const void *packed,
                const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    amx_geometry s;
    fc_amx_plan(p, config, kernels, threads, &s);
    int64_t *const offset = (int64_t *)((char *)workspace + threads * s.slot_bytes);
    find_offsets(&s, offset);
    job j = {&s, x, packed, epilogue, y, workspace, offset, config->v[3] || !s.tiles->hardware};
    fc_parallel(units_of(&s), threads, run_unit, &j);
}

const fc_driver fc_driver_amx_split = {"amx_split", workspace_bytes, fc_amx_packed_bytes, fc_amx_pack, run};
