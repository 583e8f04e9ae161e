/* amx_winograd: y = A' [ sum over c of (G w) . (B' x) ] of kernels of 3 x 3, products on tiles of AMX.
 *
 * As in winograd.c, tiles of m by m outputs take (m + 2)^2 products of a channel and a filter instead of 9 m^2, outputs
 * `dilation` apart make up a tile, and outputs that may be all error are summed from the definition. But lanes are channels:
 * samples are turned once, before they are transformed, and the transform of a tile is stored in parts of bfloat16, as rows
 * that tiles of AMX multiply (kernels/amx.c). Six products leave out 2^-24 of each.
 *
 * Tiles of all images are numbered, the innermost axis fastest; a segment is a run of them in a row. One unit of work is
 * (group, block of tiles, part of the filters):
 *     for segment, for 32 channels: samples, channels beside each other; for tile: u[point][channels][part][tile]
 *     for some pairs of tiles of filters
 *         v[point][tile][filter] = sums of products of parts
 *         for tile of filters, for segment: z = output transforms of v, guarded; stored to y
 * Where L2 holds the weights it holds u of a block and v of a pair of tiles of filters beside them. Else blocks are large, and
 * all filters of a point follow each other: weights are then read seldom.
 *
 * Guard: that of winograd.c, but an output is suspect up to scale peak + limit, in which is what tiles may have flushed to 0:
 * 2^-126 in each operation, and in an operand that times the other, times what transforms make of it, times 2^24.
 *
 * Settings: v[0] bytes of L2 that a block may take, v[1] and v[2] thousandths of eps: the error of a transform relative to its
 * growth, and that of sums over channels relative to sum(abs(w)); v[3] outputs m of a tile, v[4] whether the emulation is used.
 * Packed: per group, `levels` of each tile of filters, weights as they are [filter][channel][tap], and per pair of tiles of
 * filters [point][32 channels][part][tile].
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "amx_winograd.h"

typedef struct {
    const geometry *s;
    const float *x;
    const char *packed;
    const fc_epilogue *epilogue;
    float *y;
    char *workspace;
    const int64_t *offset; /* of channels in u */
    int emulated;
} job;

typedef struct {
    int64_t g, first, end, found; /* tiles of the block, segments */
    char *u, *v;
    float *x, *z, *peak, *tile_peak;
    segment *segments;
} unit;

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    fc_amx_winograd_plan(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + fc_round_up(s.steps * (int64_t)sizeof(int64_t), FC_ALIGN);
}

/* ---- samples ---------------------------------------------------------------------------------*/

static void find_segments(const geometry *s, unit *q)
{
    for (int64_t tile = q->first, peak = 0; tile < q->end; tile += q->segments[q->found++].count) {
        segment *const g = q->segments + q->found;
        const int64_t row = tile / s->columns, at = tile % s->columns, count = fc_min(s->columns - at, q->end - tile);
        *g = (segment){.first = tile - q->first, .count = count, .n = row / s->rows, .tile = at,
                       .row = begin_of(s, 0, row % s->rows), .column = begin_of(s, 1, at), .peak = peak};
        g->across = begin_of(s, 1, at + count - 1) - g->column;
        peak += s->width;
    }
}

/* Samples under a segment, of the 32 channels that x is the first of; those of padding are 0. */
static void lift(const job *j, const unit *q, const segment *g, const float *x, int64_t channels)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t left = g->column - p->pad[1], width = g->across + p->dilation[1] * (s->a - 1) + 1;
    const int64_t from = fc_min(width, fc_max(0, -left)), end = fc_max(from, fc_min(width, p->in[1] - left));
    for (int64_t i = 0; i < s->a; i++) {
        float *const to = q->x + i * s->x_row;
        const int64_t row = g->row + i * p->dilation[0] - p->pad[0];
        const int there = row >= 0 && row < p->in[0];
        const int64_t begin = there ? from : width, stop = there ? end : width;
        memset(to, 0, (size_t)(begin * CHANNELS) * sizeof(float));
        if (stop > begin)
            s->transforms->lift(stop - begin, x + row * p->x_s[0] + (left + begin) * p->x_s[1], p->x_s[1], channels, p->x_c,
                                to + begin * CHANNELS, q->peak + g->peak + begin);
        memset(to + stop * CHANNELS, 0, (size_t)((width - stop) * CHANNELS) * sizeof(float));
    }
}

static void transform_samples(const job *j, unit *q)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    memset(q->peak, 0, (size_t)s->peak_bytes);
    for (const segment *g = q->segments; g < q->segments + q->found; g++) {
        for (int64_t step = 0; step < s->steps; step++) {
            const int64_t c = step * CHANNELS;
            lift(j, q, g, j->x + g->n * p->x_n + (q->g * p->c + c) * p->x_c, fc_min(CHANNELS, p->c - c));
            for (int64_t t = 0; t < g->count; t++) {
                const int64_t at = g->first + t, column = begin_of(s, 1, g->tile + t) - g->column;
                s->transforms->input[s->m - R](q->x + column * CHANNELS, s->x_row, p->dilation[1] * CHANNELS,
                                               q->u + at / PAIR * s->u_pair + step * PARTS * 2 * TILE + at % PAIR * LINE,
                                               s->u_point, 2 * TILE);
            }
        }
        for (int64_t t = 0; t < g->count; t++) {
            const float *const peak = q->peak + g->peak + begin_of(s, 1, g->tile + t) - g->column;
            float most = 0;
            for (int64_t i = 0; i < s->a; i++) {
                const float next = peak[i * p->dilation[1]];
                if (!(next <= most)) most = next;
                if (!(next <= FLT_MAX)) most = INFINITY;
            }
            q->tile_peak[g->first + t] = most > 0 ? most : -1; /* of zeros alone nothing is suspect */
        }
    }
}

/* ---- products --------------------------------------------------------------------------------*/

/* v of pairs [from, to) of tiles of filters. */
static void multiply(const job *j, const unit *q, int64_t from, int64_t to)
{
    const geometry *const s = j->s;
    const int64_t tiles = fc_ceil_div(q->end - q->first, SIDE), pixel_pairs = fc_ceil_div(s->block, PAIR);
    const char *const packed = j->packed + q->g * s->group_bytes;
    const fc_amx *const of = s->kernels->amx_bf16;
    fc_amx_block b = {.products = 6, .steps = s->steps, .offset = j->offset, .x_part = 2 * TILE, .sum_row = TILE / SIDE};
    fc_amx_state before;
    if (!j->emulated) of->enter(&before);
    for (int64_t point = 0; point < s->points; point++)
        for (int64_t t = 0; t < tiles; t += 2)
            for (int64_t pair = from; pair < to; pair++) {
                b.pixels = fc_min(2, tiles - t);
                b.filters = fc_min(2, s->filter_tiles - 2 * pair);
                b.x = q->u + point * s->u_point + t / 2 * s->u_pair;
                b.w = packed + place_of(s, pair, point);
                b.sums = q->v + point * s->v_point + ((pair - from) * pixel_pairs + t / 2) * s->v_pair;
                (j->emulated ? of->emulated : of->hardware)(&b);
            }
    if (!j->emulated) of->leave(&before);
}

/* ---- outputs ---------------------------------------------------------------------------------*/

/* One output from the definition: 1 if its products' sizes do not exceed `floor` in total. */
static int is_small(const job *j, const unit *q, int64_t n, int64_t k, int64_t row, int64_t column, double floor, double *sum)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const float *w = (const float *)(j->packed + q->g * s->group_bytes + s->raw_at) + k * p->c * TAPS;
    double size = 0;
    *sum = 0;
    for (int64_t c = 0; c < p->c; c++, w += TAPS)
        for (int64_t t = 0; t < TAPS; t++) {
            const int64_t i = row + t / R * p->dilation[0] - p->pad[0], l = column + t % R * p->dilation[1] - p->pad[1];
            if (i < 0 || i >= p->in[0] || l < 0 || l >= p->in[1]) continue;
            const double x = j->x[n * p->x_n + (q->g * p->c + c) * p->x_c + i * p->x_s[0] + l * p->x_s[1]];
            *sum += x * w[t];
            size += fabs(x * w[t]);
            if (size > floor) return 0; /* never for NaN */
        }
    return 1;
}

/* Looks at the outputs of a tile that are suspect. */
static void mend(const job *j, const unit *q, const segment *g, int64_t t, int64_t tile, const levels *of,
                 const uint16_t *suspect, float *z)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    for (int64_t i = 0; i < s->m * s->m; i++) {
        const int64_t row = g->row + i / s->m * p->dilation[0];
        const int64_t column = begin_of(s, 1, g->tile + t) + i % s->m * p->dilation[1];
        if (row >= p->out[0] || column >= p->out[1]) continue;
        for (uint32_t left = suspect[i]; left; left &= left - 1) {
            const int64_t k = __builtin_ctz(left);
            if (tile * SIDE + k >= p->k) break;
            float *const v = z + i / s->m * s->z_row + i % s->m * p->dilation[1] * SIDE + k;
            const double floor = (double)of->scale[k] * q->tile_peak[g->first + t] + of->limit[k];
            double sum;
            if (is_small(j, q, g->n, tile * SIDE + k, row, column, fabsf(*v) <= FLT_MAX ? floor : INFINITY, &sum))
                *v = (float)sum;
        }
    }
}

/* Outputs of a row of a segment that are next to each other, from column `begin` to `end`. */
static void store_run(const job *j, const unit *q, const segment *g, int64_t tile, int64_t i, int64_t begin, int64_t end)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t row = g->row + i * p->dilation[0], first = q->g * p->k + tile * SIDE, count = fc_min(SIDE, p->k - tile * SIDE);
    const float *const bias = j->epilogue->bias ? (const float *)j->epilogue->bias + first : NULL;
    end = fc_min(end, p->out[1]);
    for (int64_t c = begin; c < end; c += SIDE) {
        const fc_amx_run run = {.count = (int16_t)fc_min(SIDE, end - c)};
        const int64_t at = g->n * p->y_n + first * p->y_k + row * p->y_s[0] + c * p->y_s[1];
        float copy[SIDE * SIDE] __attribute__((aligned(FC_ALIGN)));
        fc_amx_sums_f32 of = {.sums = q->z + i * s->z_row + (c - g->column) * SIDE, .tiles = 1, .filters = count, .count = 1,
                              .runs = &run, .step = p->y_s[1], .y_k = p->y_k, .bias = bias, .last = 1};
        if (of.step != 1) of.sums = memcpy(copy, of.sums, sizeof copy); /* sums that are not next to each other are turned in place */
        s->kernels->amx_bf16->store(&of, j->y + at);
        for (int64_t k = 0; k < count; k++) fc_finish(p, s->kernels, j->epilogue, j->y, at + k * p->y_k, run.count, p->y_s[1]);
    }
}

/* All outputs of a segment: neighbours are those of a phase of a tile, and where phases follow each other more. */
static void store(const job *j, const unit *q, const segment *g, int64_t tile)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t phases = s->phases[1];
    for (int64_t i = 0; i < s->m && g->row + i * p->dilation[0] < p->out[0]; i++) {
        int64_t begin = 0, end = 0;
        for (int64_t t = g->tile, count; t < g->tile + g->count; t += count) {
            count = fc_min(phases - t % phases, g->tile + g->count - t);
            for (int64_t l = 0; l < s->m; l++) {
                const int64_t next = begin_of(s, 1, t) + l * p->dilation[1];
                if (next != end) {
                    store_run(j, q, g, tile, i, begin, end);
                    begin = next;
                }
                end = next + count;
            }
        }
        store_run(j, q, g, tile, i, begin, end);
    }
}

/* Outputs of a tile of filters, the `at`th in v. */
static void make_outputs(const job *j, const unit *q, int64_t tile, int64_t at)
{
    const geometry *const s = j->s;
    const levels *const of = (const levels *)(j->packed + q->g * s->group_bytes) + tile;
    const char *const v = q->v + at / 2 * fc_ceil_div(s->block, PAIR) * s->v_pair + at % 2 * TILE;
    uint16_t suspect[MOST * MOST];
    for (const segment *g = q->segments; g < q->segments + q->found; g++) {
        for (int64_t t = 0; t < g->count; t++) {
            const int64_t pixel = g->first + t;
            float *const z = q->z + (begin_of(s, 1, g->tile + t) - g->column) * SIDE;
            const char *const sums = v + pixel / PAIR * s->v_pair + pixel / SIDE % 2 * 2 * TILE + pixel % SIDE * LINE;
            if (s->transforms->output[s->m - R]((const float *)sums, s->v_point / (int64_t)sizeof(float), of->scale, of->limit,
                                                q->tile_peak[pixel], z, s->z_row, s->p->dilation[1] * SIDE, suspect))
                mend(j, q, g, t, tile, of, suspect, z);
        }
        store(j, q, g, tile);
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const geometry *const s = j->s;
    const int64_t part = index % s->parts, block = index / s->parts % s->blocks;
    unit q = {.g = index / s->parts / s->blocks, .first = block * s->block};
    q.end = fc_min(s->tiles, q.first + s->block);
    q.u = j->workspace + slot * s->slot_bytes;
    q.v = q.u + s->u_bytes;
    q.x = (float *)(q.v + s->v_bytes);
    q.z = (float *)((char *)q.x + s->x_bytes);
    q.peak = (float *)((char *)q.z + s->z_bytes);
    q.tile_peak = (float *)((char *)q.peak + s->peak_bytes);
    q.segments = (segment *)((char *)q.tile_peak + s->tile_peak_bytes);
    find_segments(s, &q);
    transform_samples(j, &q);
    const int64_t end = fc_min(s->pairs, (part + 1) * s->part);
    for (int64_t from = part * s->part, to; from < end; from = to) {
        to = fc_min(end, from + s->at_once);
        multiply(j, &q, from, to);
        for (int64_t tile = 2 * from; tile < fc_min(2 * to, s->filter_tiles); tile++) make_outputs(j, &q, tile, tile - 2 * from);
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x, const void *packed,
                const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    geometry s;
    fc_amx_winograd_plan(p, config, kernels, threads, &s);
    int64_t *const offset = (int64_t *)((char *)workspace + threads * s.slot_bytes);
    for (int64_t i = 0; i < s.steps; i++) offset[i] = i * PARTS * 2 * TILE;
    job j = {&s, x, packed, epilogue, y, workspace, offset, config->v[4] || !kernels->amx_bf16->hardware};
    fc_parallel(p->g * s.blocks * s.parts, threads, run_unit, &j);
}

const fc_driver fc_driver_amx_winograd = {"amx_winograd", workspace_bytes, fc_amx_winograd_packed_bytes,
                                             fc_amx_winograd_pack, run};
