/* amx_int8: y[k][pixel] = bias[k] + sum over taps, channels of w[k][c][tap] * x[c][pixel, tap], integers of 8 bits, exactly.
 *
 * A matrix product on tiles of AMX as amx_split's (there it is described), of one part: samples are gathered with their
 * padding, 64 channels beside each other, and a tap is an offset into that. All channels and taps are summed in one go, in 32
 * bits that wrap, so that a tile's sums are stored once, with their bias, cut or quantised to what y holds.
 *
 * A boundary of a constant pads with it; channels that are not there have weights of 0.
 *
 * Settings: v[0] bytes of samples of a unit, as far as a row of 32 outputs takes no more, v[1] whether w is signed, v[2]
 * whether the emulation is used.
 * Packed: per group, pair of tiles of filters, layer and tap, their tiles, 16 groups of 4 channels by 16 filters.
 */
#include <string.h>

#include "amx_split.h"

typedef struct {
    const amx_geometry *s;
    const char *x, *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace;
    const int64_t *offset;
    void (*sum)(const fc_amx_block *);
    int emulated;
} job;

typedef struct {
    amx_unit at;
    char *samples;
    fc_amx_run *runs;
    int32_t *sums;
} unit;

static void plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads, amx_geometry *s)
{
    fc_amx_lay_out(p, kernels, threads, 1, FC_AMX_BYTES, 0, config->v[0], 0, s);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    amx_geometry s;
    plan(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.offset_bytes;
}

/* ---- weights ---------------------------------------------------------------------------------*/

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    amx_geometry s;
    plan(p, config, kernels, 1, &s);
    return p->g * s.layers * s.filter_tiles * s.filter_bytes;
}

typedef struct {
    const amx_geometry *s;
    const uint32_t *w;
    char *packed;
} packing;

/* A tile: of filters from w on, 0 where there are no more of them, or channels. */
static void pack_tile(const fc_problem *p, const uint32_t *w, int64_t filters, int64_t channels, char *to)
{
    memset(to, 0, FC_AMX_TILE);
    for (int64_t f = 0; f < fc_min(SIDE, filters); f++)
        for (int64_t c = 0; c < fc_min(FC_AMX_BYTES, channels); c++)
            to[c / 4 * LINE + 4 * f + c % 4] = (char)w[f * p->w_k + c * p->w_c];
}

static void pack_unit(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const amx_geometry *const s = a->s;
    const fc_problem *const p = s->p;
    const int64_t pairs = fc_ceil_div(s->filter_tiles, 2), g = index / pairs, pair = index % pairs;
    const int64_t tiles = fc_min(2, s->filter_tiles - 2 * pair);
    for (int64_t layer = 0; layer < s->layers; layer++)
        for (int64_t t = 0; t < s->taps; t++)
            for (int64_t i = 0; i < tiles; i++) {
                const int64_t k = pair * PAIR + i * SIDE, c = layer % s->channel_tiles * FC_AMX_BYTES;
                const int64_t at = fc_amx_tap(s, layer / s->channel_tiles, t) + (g * p->k + k) * p->w_k + c * p->w_c;
                pack_tile(p, a->w + at, p->k - k, p->c - c,
                          a->packed + place_of(s, g, pair, 0, layer) + (t * tiles + i) * FC_AMX_TILE);
            }
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads)
{
    amx_geometry s;
    plan(p, config, kernels, 1, &s);
    packing a = {&s, w, packed};
    fc_parallel(p->g * fc_ceil_div(s.filter_tiles, 2), fc_pack_threads(packed_bytes(p, config, kernels), threads), pack_unit,
                &a);
}

/* ---- samples ---------------------------------------------------------------------------------*/

static void clear(const amx_geometry *s, char *from, const char *end)
{
    const fc_problem *p = s->p;
    if (from < end) memset(from, p->boundary == FC_CONSTANT ? (int)(p->cval_i & 0xff) : 0, (size_t)(end - from));
}

/* A plane, a phase of rows and columns, of `channels` of x. Rows that follow each other in x are gathered together. */
static void fill_plane(const amx_geometry *s, const unit *q, const char *x, int64_t channels, int64_t row_phase,
                       int64_t column_phase, char *to)
{
    const fc_problem *p = s->p;
    const int64_t step = s->v * p->x_s[s->column], x_row = s->row < 0 ? 0 : p->x_s[s->row];
    const amx_plane in = plane_of(s, &q->at, row_phase, column_phase);
    const int64_t width = in.end - in.from;
    char *done = to; /* what is before it has been written */
    const int64_t together = s->u * x_row == width * step ? in.bottom - in.top : 1;
    for (int64_t i = in.top; i < in.bottom && width; i += together) {
        char *at = to + (i * s->pitch + in.from) * LINE;
        for (int64_t r = 0; r < together; r++, at += s->pitch * LINE) {
            clear(s, done, at);
            done = at + width * LINE;
        }
        const int64_t x_at = (in.origin + i * s->u) * x_row + (in.left + in.from * s->v) * p->x_s[s->column];
        s->kernels->amx_int8_i32->gather(together * width, x + x_at, step, channels, p->x_c, width, s->pitch - width,
                                         to + (i * s->pitch + in.from) * LINE);
    }
    clear(s, done, to + s->plane * LINE);
}

static void fill_layer(const job *j, const unit *q, int64_t layer)
{
    const amx_geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t c = layer % s->channel_tiles * FC_AMX_BYTES, phases = s->row_phases * s->column_phases;
    int64_t x_at;
    const int inside = outer_at(s, q->at.outer, layer / s->channel_tiles, &x_at);
    const char *const x = j->x + q->at.n * p->x_n + (q->at.g * p->c + c) * p->x_c + x_at;
    for (int64_t f = 0; f < phases; f++) {
        char *const to = q->samples + (f * s->depth + layer) * s->plane * LINE;
        if (inside)
            fill_plane(s, q, x, fc_min(FC_AMX_BYTES, p->c - c), f / s->column_phases, f % s->column_phases, to);
        else
            clear(s, to, to + s->plane * LINE);
    }
}

/* ---- sums ------------------------------------------------------------------------------------*/

/* y of a pair of tiles of filters, the `pair`th of the group. */
static void sum_pair(const job *j, const unit *q, int64_t pair, int64_t positions)
{
    const amx_geometry *s = j->s;
    const fc_problem *p = s->p;
    const fc_epilogue *const e = j->epilogue;
    const int64_t tiles = fc_ceil_div(positions, SIDE), filter = q->at.g * p->k + pair * PAIR, size = fc_dtype_bytes(p->y_dtype);
    const int64_t filters = fc_min(PAIR, p->k - pair * PAIR);
    char *const y = j->y + output_at(s, &q->at, pair * PAIR) * size;
    int32_t bias[PAIR] = {0};
    float scale[PAIR] = {0};
    if (e->scale) memcpy(scale, e->scale + filter, (size_t)filters * sizeof *scale);
    if (e->bias) memcpy(bias, (const int32_t *)e->bias + filter, (size_t)filters * sizeof *bias);
    fc_amx_block b = {.products = 1, .steps = s->depth * s->taps, .offset = j->offset,
                      .filters = fc_min(2, s->filter_tiles - 2 * pair), .sums = q->sums, .sum_row = LINE,
                      .w = j->packed + place_of(s, q->at.g, pair, 0, 0)};
    const fc_amx_run *from = q->runs;
    for (int64_t t = 0; t < tiles; t += 2) {
        b.pixels = fc_min(2, tiles - t);
        b.x = q->samples + t * FC_AMX_TILE;
        j->sum(&b);
        for (int64_t i = t; i < t + b.pixels; i++) {
            const fc_amx_run *to = from;
            while (to->tile == i) to++;
            for (int64_t f = 0; f < b.filters && to > from; f++) {
                const int64_t k = f * SIDE;
                const fc_amx_sums sums = {q->sums + ((i - t) * 2 + f) * SIDE * SIDE, fc_min(SIDE, filters - k), to - from, from,
                                          p->y_s[s->column], p->y_k, bias + k, e->scale ? scale + k : NULL, e->zero,
                                          p->y_dtype};
                s->kernels->amx_int8_i32->store(&sums, y + k * p->y_k * size);
            }
            from = to;
        }
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const amx_geometry *const s = j->s;
    unit q = {.at = unit_at(s, index), .samples = j->workspace + slot * s->slot_bytes};
    q.runs = (fc_amx_run *)(q.samples + s->x_bytes);
    q.sums = (int32_t *)(q.samples + s->x_bytes + s->run_bytes);
    for (int64_t layer = 0; layer < s->layers; layer++) fill_layer(j, &q, layer);
    const int64_t positions = (q.at.rows - 1) * s->pitch + q.at.columns;
    find_runs(s, &q.at, 0, SIDE, q.runs);
    const int64_t pairs = fc_ceil_div(s->filter_tiles, 2);
    fc_amx_state before;
    if (!j->emulated) s->tiles->enter(&before);
    for (int64_t pair = q.at.part * s->part; pair < fc_min(pairs, (q.at.part + 1) * s->part); pair++)
        sum_pair(j, &q, pair, positions);
    if (!j->emulated) s->tiles->leave(&before);
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x, const void *packed,
                const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    amx_geometry s;
    plan(p, config, kernels, threads, &s);
    int64_t *const offset = (int64_t *)((char *)workspace + threads * s.slot_bytes);
    find_offsets(&s, offset);
    const fc_amx_int8 *const tiles = kernels->amx_int8_i32;
    const int x_signed = p->x_dtype == FC_I8, w_signed = config->v[1] != 0;
    const int emulated = config->v[2] || !tiles->hardware[0][0];
    job j = {&s, x, packed, epilogue, y, workspace, offset, (emulated ? tiles->emulated : tiles->hardware)[x_signed][w_signed],
             emulated};
    fc_parallel(units_of(&s), threads, run_unit, &j);
}

const fc_driver fc_driver_amx_int8 = {"amx_int8", workspace_bytes, packed_bytes, pack, run};
