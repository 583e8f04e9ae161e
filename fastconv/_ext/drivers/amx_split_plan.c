/* Blocks of amx_split and amx_int8, and amx_split's weights: packing them. */
#include <math.h>
#include <string.h>

#include "amx_split.h"

/* Columns that a unit has at least, where there are as many. */
enum { LEAST_COLUMNS = 128 };

/* Layers that are summed in one go: all, if units with no more rows around them than in them fit beside them, and if sums
 * are not too long. They depend on the problem and the settings alone, not on units. */
static int64_t depth_of(const amx_geometry *s, int64_t line, int64_t bytes, int64_t most)
{
    if (!most) return s->layers;
    const int64_t height = fc_min(s->rows, fc_max(1, s->reach_rows)) + s->reach_rows;
    const int64_t width = fc_min(s->columns, fc_max(LEAST_COLUMNS, s->reach_columns)) + s->reach_columns;
    const int64_t room = bytes / (height * width * line), allowed = most / fc_max(1, s->most_taps * s->products);
    return fc_max(1, fc_min(s->layers, fc_min(room, allowed)));
}

/* What a thread does that has most to do, in products of two tiles, if units have so many rows: samples are converted
 * unit by unit, some 12 products' time a tile of 16 by 32 of them and part (_PART and _PRODUCT of amx_split.py). */
static int64_t longest(const amx_geometry *s, int64_t images, int64_t threads, int64_t rows)
{
    const int64_t tiles = fc_ceil_div((rows - 1) * (s->columns + s->reach_columns) + s->columns, SIDE);
    const int64_t rounds = fc_ceil_div(images * fc_ceil_div(s->rows, rows), threads);
    return rounds * tiles * (s->filter_tiles * s->taps * s->products + 12 * s->parts);
}

/* Rows and columns of a unit, whose samples are at most so many bytes. */
static void plan_units(const fc_problem *p, int64_t bytes, int64_t line, int64_t threads, amx_geometry *s)
{
    const int64_t pairs = fc_ceil_div(s->filter_tiles, 2), room = bytes / (s->depth * line);
    const int64_t weights = s->layers * s->filter_tiles * s->taps * s->parts * FC_AMX_TILE;
    s->unit_columns = s->columns;
    s->unit_rows = fc_min(s->rows, room / (s->columns + s->reach_columns) - s->reach_rows);
    if (s->unit_rows < 1) {
        s->unit_rows = 1;
        const int64_t width = room / (1 + s->reach_rows) - s->reach_columns;
        s->unit_columns = fc_min(s->columns, fc_max(PAIR, width / PAIR * PAIR));
    }
    const int64_t images = fc_max(1, p->n * p->g * s->outers * fc_ceil_div(s->columns, s->unit_columns));
    /* two units a thread, or as many as there are rows, unless one fills tiles better by a twentieth; but each fetches
     * all weights, so that of those that no cache keeps a thread has its share, and splits all samples */
    if (threads > 1 && s->rows > 0 && !(weights > bytes && pairs >= threads)) {
        const int64_t one = fc_min(s->unit_rows, fc_max(1, fc_ceil_div(images * s->rows, threads)));
        const int64_t two = fc_min(s->unit_rows, fc_max(1, images * s->rows / (2 * threads)));
        s->unit_rows = longest(s, images, threads, one) < 0.95 * longest(s, images, threads, two) ? one : two;
    }
    s->row_units = fc_ceil_div(s->rows, fc_max(1, s->unit_rows));
    s->unit_rows = fc_ceil_div(s->rows, fc_max(1, s->row_units));
    s->column_units = fc_ceil_div(s->columns, fc_max(1, s->unit_columns));
    s->filter_parts = fc_max(1, fc_min(pairs, threads / fc_max(1, images * s->row_units)));
    s->part = fc_ceil_div(pairs, s->filter_parts);
    s->filter_parts = fc_ceil_div(pairs, fc_max(1, s->part));
}

/* Positions along an axis, what pads them, and how far their taps reach; of how many residues their outputs are. */
static int64_t plan_axis(const fc_problem *p, int64_t d, int64_t *positions, int64_t *pad, int64_t *reach)
{
    const int64_t e = p->input_dilation[d], first = fc_first_sample(p, d, 0);
    *positions = fc_ceil_div(p->out[d], e);
    *pad = e == 1 ? p->pad[d] : -first;
    *reach = e == 1 ? (p->ker[d] - 1) * p->dilation[d] / p->stride[d] : fc_last_sample(p, d, 0) - first;
    return e;
}

void fc_amx_lay_out(const fc_problem *p, const fc_kernels *kernels, int64_t threads, int64_t products, int64_t channels,
                    int64_t most, int64_t bytes, int across, amx_geometry *s)
{
    memset(s, 0, sizeof *s);
    s->p = p;
    s->kernels = kernels;
    s->tiles = kernels->amx_bf16;
    const int64_t d = s->column = p->dims - 1;
    s->width = p->ker[d], s->in_columns = p->in[d], s->v = p->stride[d], s->m = p->dilation[d];
    s->column_residues = plan_axis(p, d, &s->columns, &s->pad_columns, &s->reach_columns);
    s->rows = s->height = s->in_rows = s->u = s->l = s->row_residues = 1;
    s->row = d - 1;
    if (d > 0) {
        s->height = p->ker[d - 1], s->in_rows = p->in[d - 1], s->u = p->stride[d - 1], s->l = p->dilation[d - 1];
        s->row_residues = plan_axis(p, d - 1, &s->rows, &s->pad_rows, &s->reach_rows);
    }
    s->outer = fc_max(s->row, 0);
    s->outers = fc_volume(p->out, s->outer);
    s->outer_taps = fc_volume(p->ker, s->outer);
    s->taps = s->height * s->width;
    /* a tap's phase repeats after as many taps */
    s->row_phases = fc_min(s->height, s->u / fc_common_divisor(s->u, s->l));
    s->column_phases = fc_min(s->width, s->v / fc_common_divisor(s->v, s->m));
    for (int64_t f = 0; f < s->row_residues * s->column_residues; f++) {
        const int64_t taps = row_taps(s, f).count * column_taps(s, f).count;
        s->first[f + 1] = s->first[f] + taps;
        s->most_taps = fc_max(s->most_taps, taps);
    }

    s->products = products;
    s->parts = s->products == 6 ? 3 : s->products == 1 ? 1 : 2;
    s->channel_tiles = fc_max(1, fc_ceil_div(p->c, channels));
    s->layers = s->outer_taps * s->channel_tiles;
    s->filter_tiles = fc_max(1, fc_ceil_div(p->k, SIDE));
    const int64_t phases = s->row_phases * s->column_phases, line = phases * s->parts * LINE;
    s->depth = depth_of(s, line, bytes, most);
    plan_units(p, bytes, line, threads, s);

    s->pitch = s->unit_columns + s->reach_columns;
    const int64_t positions = fc_max(0, s->unit_rows - 1) * s->pitch + s->unit_columns;
    /* the last tile reads beyond the last position; across, pairs lie an odd number of lines apart, in different sets of L1 */
    s->plane = (s->unit_rows + s->reach_rows) * s->pitch + fc_round_up(positions, SIDE) - positions;
    s->across = across && s->taps == 1 && s->row_residues * s->column_residues == 1;
    if (s->across) s->plane = (fc_ceil_div(s->plane, SIDE) | 1) * SIDE;
    s->x_row = s->plane * 4;
    s->x_part = phases * s->depth * s->plane * LINE;
    s->x_bytes = s->parts * s->x_part;
    s->runs = s->unit_rows + fc_ceil_div(positions * s->column_residues, SIDE) + 1;
    s->run_bytes = fc_round_up(s->row_residues * s->runs * (int64_t)sizeof(fc_amx_run), FC_ALIGN);
    s->limit_bytes = fc_round_up(s->part * PAIR * (int64_t)sizeof(float), FC_ALIGN);
    s->slot_bytes = s->x_bytes + s->run_bytes + s->limit_bytes + s->column_residues * SUMS * (int64_t)sizeof(float);
    s->offset_bytes = fc_round_up(s->depth * s->taps * (int64_t)sizeof(int64_t), FC_ALIGN);
    s->filter_bytes = s->taps * s->parts * FC_AMX_TILE; /* of a tile of filters in a layer */
}

/* Samples under the taps of a row become channels of the output that they meet. */
static fc_problem join_columns(const fc_problem *p)
{
    fc_problem q = *p;
    const int64_t d = p->dims - 1;
    q.c = p->c * p->ker[d];
    q.in[d] = p->out[d];
    q.ker[d] = q.stride[d] = q.dilation[d] = 1;
    q.pad[d] = 0;
    return q;
}

void fc_amx_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads, amx_geometry *s)
{
    const fc_problem joined = join_columns(p), *const q = config->v[5] ? &joined : p;
    const int across = !config->v[4] && !config->v[5];
    fc_amx_lay_out(q, kernels, threads, config->v[0], FC_AMX_CHANNELS, config->v[1], config->v[2], across, s);
    if (config->v[5]) {
        s->joined = joined;
        s->p = &s->joined, s->of = p;
        const int64_t columns = (s->unit_columns - 1) * p->stride[s->column] + p->ker[s->column];
        s->join_bytes = fc_round_up(columns * p->c * fc_dtype_bytes(p->x_dtype), FC_ALIGN) + 2 * LINE; /* woven by lines */
        s->slot_bytes += s->join_bytes;
    }
    p = s->p;
    s->raw_at = fc_round_up(p->g * p->k * (int64_t)sizeof(amx_statistics), FC_ALIGN);
    const int64_t raw = p->g * p->k * p->c * s->outer_taps * s->taps * (int64_t)sizeof(float);
    s->tiles_at = s->raw_at + fc_round_up(raw, FC_ALIGN);
}

int64_t fc_amx_packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    amx_geometry s;
    fc_amx_plan(p, config, kernels, 1, &s);
    return s.tiles_at + p->g * s.layers * s.filter_tiles * s.filter_bytes;
}

typedef struct {
    const amx_geometry *s;
    const float *w;
    char *packed;
} packing;

int64_t fc_amx_tap(const amx_geometry *s, int64_t outer_tap, int64_t tap)
{
    const fc_problem *p = s->p;
    int64_t at = tap % s->width * p->w_s[s->column];
    if (s->row >= 0) at += tap / s->width * p->w_s[s->row];
    for (int64_t d = s->outer - 1; d >= 0; outer_tap /= p->ker[d], d--) at += outer_tap % p->ker[d] * p->w_s[d];
    return at;
}

/* Weights of a filter as they are, and what its sums may lose. */
static void describe(const packing *a, int64_t filter)
{
    const amx_geometry *s = a->s;
    const fc_problem *p = s->p;
    float *raw = (float *)(a->packed + s->raw_at) + filter * p->c * s->outer_taps * s->taps;
    double total = 0, least = INFINITY;
    for (int64_t c = 0; c < p->c; c++)
        for (int64_t o = 0; o < s->outer_taps; o++)
            for (int64_t t = 0; t < s->taps; t++) {
                const float v = a->w[filter * p->w_k + channel_at(s, c) + fc_amx_tap(s, o, t)];
                *raw++ = v;
                total += fabsf(v);
                if (v != 0) least = fmin(least, fabsf(v));
            }
    /* the last bit of v is 2^23 below its first: 2^-103 is the least whose parts are normal, and for the product of last
     * bits first bits must be 2^-80 together */
    float safe = 0;
    if (least < 0x1p-103) safe = INFINITY;
    else if (least < INFINITY) safe = (float)fmax(0x1p-103, ldexp(1, -80 - ilogb(least)));
    ((amx_statistics *)a->packed)[filter] = (amx_statistics){safe, total};
}

/* Tiles of a pair of them under a tap in a layer, 0 where there are no filters or channels. */
static void pack_tap(const packing *a, int64_t g, int64_t pair, int64_t layer, int64_t tap, char *to)
{
    const amx_geometry *const s = a->s;
    const fc_problem *const p = s->p;
    const int64_t first = pair * PAIR, count = fc_min(PAIR, p->k - first), tiles = fc_min(2, s->filter_tiles - 2 * pair);
    const int64_t from = layer % s->channel_tiles * FC_AMX_CHANNELS, some = fc_min(FC_AMX_CHANNELS, p->c - from);
    const float *const w = a->w + fc_amx_tap(s, layer / s->channel_tiles, tap) + (g * p->k + first) * p->w_k;
    for (int64_t i = 0; i < tiles * SIDE; i++) { /* rows are pairs of channels; across, filters */
        float even[SIDE] = {0}, odd[SIDE] = {0};
        for (int64_t n = 0; n < SIDE; n++) {
            const int64_t k = s->across ? i : i / SIDE * SIDE + n, c = 2 * (s->across ? n : i % SIDE);
            if (k < count && c < some) even[n] = w[k * p->w_k + channel_at(s, from + c)];
            if (k < count && c + 1 < some) odd[n] = w[k * p->w_k + channel_at(s, from + c + 1)];
        }
        s->tiles->split_pairs(even, odd, s->parts, to + i * LINE, tiles * FC_AMX_TILE);
    }
}

static void pack_unit(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const amx_geometry *const s = a->s;
    const fc_problem *const p = s->p;
    const int64_t pairs = fc_ceil_div(s->filter_tiles, 2), g = index / pairs, pair = index % pairs;
    for (int64_t k = pair * PAIR; k < fc_min(p->k, (pair + 1) * PAIR); k++) describe(a, g * p->k + k);
    const int64_t bytes = fc_min(2, s->filter_tiles - 2 * pair) * s->parts * FC_AMX_TILE;
    for (int64_t f = 0; f < s->row_residues * s->column_residues; f++) {
        const fc_residue rows = row_taps(s, f), columns = column_taps(s, f);
        for (int64_t layer = 0; layer < s->layers; layer++) {
            char *to = a->packed + place_of(s, g, pair, f, layer);
            for (int64_t r = 0; r < rows.count; r++)
                for (int64_t c = 0; c < columns.count; c++, to += bytes)
                    pack_tap(a, g, pair, layer, (rows.r + r * rows.step) * s->width + columns.r + c * columns.step, to);
        }
    }
}

void fc_amx_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads)
{
    amx_geometry s;
    fc_amx_plan(p, config, kernels, 1, &s);
    packing a = {&s, w, packed};
    const int64_t units = p->g * fc_ceil_div(s.filter_tiles, 2);
    fc_parallel(units, fc_pack_threads(fc_amx_packed_bytes(p, config, kernels), threads), pack_unit, &a);
}
