/* What amx_split and amx_int8 share: the geometry of a problem, where its packed weights lie, units. */
#ifndef FC_AMX_SPLIT_H
#define FC_AMX_SPLIT_H

#include "residue.h"

enum { SIDE = FC_AMX_SIDE, PAIR = 2 * FC_AMX_SIDE, SUMS = 4 * SIDE * SIDE, LINE = 64, MOST_RESIDUES = 64 };

typedef struct {
    float safe;   /* samples this large lose nothing; INFINITY where weights do */
    double total; /* of the sizes of its weights */
} amx_statistics;

/* Positions are outputs or, with input dilation, as many neighbours of them as they have residues (residue.h), whose sums are
 * stored in turn. */
typedef struct {
    const fc_problem *p;
    fc_problem joined;                                   /* p, where taps along columns count as channels ... */
    const fc_problem *of;                                /* ... of this, whose x and w they are of; else NULL */
    const fc_kernels *kernels;
    const fc_amx *tiles;
    int64_t row, column, outer;                          /* axes, the first -1 if there is one; number of those before */
    int64_t rows, height, in_rows, u, l, pad_rows;       /* positions, kernel, x; stride, dilation */
    int64_t columns, width, in_columns, v, m, pad_columns;
    int64_t outers, outer_taps, taps;                    /* positions and taps of the axes before; of the last two */
    int64_t row_phases, column_phases, reach_rows, reach_columns; /* samples beyond the first of a phase */
    int64_t row_residues, column_residues;               /* of outputs */
    int64_t first[MOST_RESIDUES + 1], most_taps;         /* taps of the residues before; most of one */
    int64_t products, parts;
    int64_t channel_tiles, layers, depth;                /* a layer is a tile of channels under a tap of the axes before */
    int64_t filter_tiles;
    int64_t unit_rows, unit_columns, row_units, column_units, filter_parts, part; /* pairs of tiles of filters */
    int64_t pitch, plane, x_part, x_row;                 /* columns; positions of a plane; bytes */
    int across;                                          /* of tiles (kernels/amx.c) */
    int64_t runs;                                        /* of a residue of rows, at most */
    int64_t join_bytes;                                  /* of a row of samples that are joined */
    int64_t x_bytes, run_bytes, limit_bytes, slot_bytes, offset_bytes, raw_at, tiles_at, filter_bytes;
} amx_geometry;

/* The geometry but for raw_at and tiles_at: `products` of parts, lines of `channels`, at most `most` products of tiles in one go
 * and `bytes` of samples in a unit; all layers in one go where most is 0, which may then take more. Whether tiles of one tap
 * lie across. */
void fc_amx_lay_out(const fc_problem *p, const fc_kernels *kernels, int64_t threads, int64_t products, int64_t channels,
                    int64_t most, int64_t bytes, int across, amx_geometry *s);
void fc_amx_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads, amx_geometry *s);
int64_t fc_amx_packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels);
void fc_amx_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads);

/* Offset in w of a tap: one of those of the axes before, and one of the last two. */
int64_t fc_amx_tap(const amx_geometry *s, int64_t outer_tap, int64_t tap);

/* Offset in w of a channel, which may be a tap along columns and a channel under that. */
static inline int64_t channel_at(const amx_geometry *s, int64_t c)
{
    if (!s->of) return c * s->p->w_c;
    return c / s->of->c * s->of->w_s[s->column] + c % s->of->c * s->of->w_c;
}

/* Where taps along an axis, those of a residue, read positions of the padded samples. */
static inline fc_residue taps_of(const fc_problem *p, int64_t d, int64_t residue)
{
    if (d < 0) return (fc_residue){1, 0, 1, 0, 1};
    if (p->input_dilation[d] == 1) return (fc_residue){p->ker[d], 0, 1, 0, p->dilation[d]};
    fc_residue t = fc_residue_of(p, d, residue);
    t.at -= fc_first_sample(p, d, 0);
    return t;
}

static inline fc_residue row_taps(const amx_geometry *s, int64_t residue)
{
    return taps_of(s->p, s->row, residue / s->column_residues);
}

static inline fc_residue column_taps(const amx_geometry *s, int64_t residue)
{
    return taps_of(s->p, s->column, residue % s->column_residues);
}

static inline int64_t taps_in(const amx_geometry *s, int64_t residue) { return s->first[residue + 1] - s->first[residue]; }

/* Weights of a pair of tiles of filters and a residue in a layer; those of the next layer follow. */
static inline int64_t place_of(const amx_geometry *s, int64_t g, int64_t pair, int64_t residue, int64_t layer)
{
    const int64_t tiles = fc_min(2, s->filter_tiles - 2 * pair), tile = s->filter_bytes / s->taps;
    return s->tiles_at + (g * s->filter_tiles + 2 * pair) * s->layers * s->filter_bytes
           + (s->layers * s->first[residue] + layer * taps_in(s, residue)) * tiles * tile;
}

/* Positions that are computed together, their outputs, and which part of the filters. */
typedef struct {
    int64_t n, g, outer, top, left, rows, columns, part;
    int64_t y_top, y_left, y_rows, y_columns;
} amx_unit;

static inline int64_t units_of(const amx_geometry *s)
{
    return s->p->n * s->p->g * s->outers * s->row_units * s->column_units * s->filter_parts;
}

static inline amx_unit unit_at(const amx_geometry *s, int64_t index)
{
    amx_unit u = {.part = index % s->filter_parts};
    u.left = (index /= s->filter_parts) % s->column_units * s->unit_columns;
    u.top = (index /= s->column_units) % s->row_units * s->unit_rows;
    u.outer = (index /= s->row_units) % s->outers;
    u.g = (index /= s->outers) % s->p->g;
    u.n = index / s->p->g;
    u.rows = fc_min(s->unit_rows, s->rows - u.top);
    u.columns = fc_min(s->unit_columns, s->columns - u.left);
    const int64_t height = s->row < 0 ? 1 : s->p->out[s->row], width = s->p->out[s->column];
    u.y_top = u.top * s->row_residues, u.y_left = u.left * s->column_residues;
    u.y_rows = fc_min(u.rows * s->row_residues, height - u.y_top);
    u.y_columns = fc_min(u.columns * s->column_residues, width - u.y_left);
    return u;
}

/* Element of y that a unit's first output of a filter of its group is. */
static inline int64_t output_at(const amx_geometry *s, const amx_unit *u, int64_t filter)
{
    const fc_problem *p = s->p;
    const int64_t y_row = s->row < 0 ? 0 : p->y_s[s->row];
    int64_t at = u->n * p->y_n + u->y_top * y_row + u->y_left * p->y_s[s->column] + (u->g * p->k + filter) * p->y_k;
    for (int64_t d = s->outer - 1, o = u->outer; d >= 0; o /= p->out[d], d--) at += o % p->out[d] * p->y_s[d];
    return at;
}

/* Where in x the taps `tap` of the axes before the last two meet a sample; whether they do. */
static inline int outer_at(const amx_geometry *s, int64_t outer, int64_t tap, int64_t *x_at)
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

/* A plane of samples, a phase of rows and columns: its row i and column j are row origin + i u and column left + j v of x,
 * which has rows from `top` to `bottom` and columns from `from` to `end`. */
typedef struct {
    int64_t origin, top, bottom, left, from, end;
} amx_plane;

/* Of `count` samples `step` apart, the first at `at` of `size`, those that are there: from *from to *end. */
static inline void inside(int64_t count, int64_t at, int64_t step, int64_t size, int64_t *from, int64_t *end)
{
    *from = at >= 0 ? 0 : fc_min(count, fc_ceil_div(-at, step));
    *end = at >= size ? *from : fc_max(*from, fc_min(count, fc_ceil_div(size - at, step)));
}

static inline amx_plane plane_of(const amx_geometry *s, const amx_unit *u, int64_t row_phase, int64_t column_phase)
{
    amx_plane in = {.origin = u->top * s->u + row_phase * s->l % s->u - s->pad_rows,
                    .left = u->left * s->v + column_phase * s->m % s->v - s->pad_columns};
    inside(u->rows + s->reach_rows, in.origin, s->u, s->in_rows, &in.top, &in.bottom);
    inside(u->columns + s->reach_columns, in.left, s->v, s->in_columns, &in.from, &in.end);
    return in;
}

/* A layer of a unit, the `index`th of a block, whose samples begin x_at elements on in x; `row` is room for a row that is joined. */
void fc_amx_fill(const amx_geometry *s, const amx_unit *at, const void *x, int64_t layer, int64_t index, int64_t x_at,
                 char *samples, char *row, fc_amx_range *seen);

/* Offsets of the steps of a block: of each residue layers, and taps in each. */
static inline void find_offsets(const amx_geometry *s, int64_t *offset)
{
    for (int64_t f = 0; f < s->row_residues * s->column_residues; f++) {
        const fc_residue rows = row_taps(s, f), columns = column_taps(s, f);
        for (int64_t i = 0; i < s->depth * rows.count * columns.count; i++) {
            const int64_t layer = i / (rows.count * columns.count), r = i / columns.count % rows.count, c = i % columns.count;
            /* a tap's phase repeats after as many taps */
            const int64_t phase = r % s->row_phases * s->column_phases + c % s->column_phases;
            const int64_t row = (rows.at + r * rows.jump) / s->u, column = (columns.at + c * columns.jump) / s->v;
            *offset++ = ((phase * s->depth + layer) * s->plane + row * s->pitch + column) * LINE;
        }
    }
}

/* Runs of outputs of a residue of rows in tiles of `side` of their sums, in order, and after these one of no tile. Rows without
 * gaps, in y and between them, are one. */
static inline void find_runs(const amx_geometry *s, const amx_unit *u, int64_t residue, int64_t side, fc_amx_run *runs)
{
    const fc_problem *p = s->p;
    const int64_t y_row = s->row < 0 ? 0 : p->y_s[s->row], pitch = s->pitch * s->column_residues;
    int64_t rows = u->y_rows, columns = u->y_columns;
    if (s->row_residues == 1 && columns == pitch && y_row == columns * p->y_s[s->column]) columns *= rows, rows = 1;
    for (int64_t r = residue; r < rows; r += s->row_residues)
        for (int64_t c = 0, some; c < columns; c += some) {
            const int64_t at = r / s->row_residues * pitch + c, first = at % side;
            some = fc_min(side - first, columns - c);
            *runs++ = (fc_amx_run){.to = r * y_row + c * p->y_s[s->column], .tile = (int32_t)(at / side),
                                   .row = (int32_t)r, .column = (int32_t)c, .first = (int16_t)first,
                                   .count = (int16_t)some};
        }
    runs->tile = -1;
}

#endif
