/* What the files of amx_split share: the geometry of a problem, and where its packed weights lie. */
#ifndef FC_AMX_SPLIT_H
#define FC_AMX_SPLIT_H

#include "../fc.h"

enum { SIDE = FC_AMX_SIDE, PAIR = 2 * FC_AMX_SIDE, SUMS = 4 * SIDE * SIDE, LINE = 64 };

typedef struct {
    float safe;   /* samples this large lose nothing; INFINITY where weights do */
    double total; /* of the sizes of its weights */
} amx_statistics;

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    const fc_amx *tiles;
    int64_t row, column, outer;                          /* axes, the first -1 if there is one; number of those before */
    int64_t rows, height, in_rows, u, l, pad_rows;       /* outputs, kernel, x; stride, dilation */
    int64_t columns, width, in_columns, v, m, pad_columns;
    int64_t outers, outer_taps, taps;                    /* positions and taps of the axes before; of the last two */
    int64_t row_phases, column_phases, reach_rows, reach_columns; /* samples beyond the first of a phase */
    int64_t products, parts;
    int64_t channel_tiles, layers, depth;                /* a layer is a tile of channels under a tap of the axes before */
    int64_t filter_tiles;
    int64_t unit_rows, unit_columns, row_units, column_units, filter_parts, part; /* pairs of tiles of filters */
    int64_t pitch, plane, x_part, x_row;                 /* columns; positions of a plane; bytes */
    int across;                                          /* of tiles (kernels/amx.c): where there is one tap */
    int64_t x_bytes, run_bytes, slot_bytes, offset_bytes, raw_at, tiles_at, filter_bytes;
} amx_geometry;

void fc_amx_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads, amx_geometry *s);
int64_t fc_amx_packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels);
void fc_amx_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads);

/* Weights of a pair of tiles of filters in a layer; those of the next layer follow. */
static inline int64_t place_of(const amx_geometry *s, int64_t g, int64_t pair, int64_t layer)
{
    const int64_t tiles = fc_min(2, s->filter_tiles - 2 * pair);
    return s->tiles_at + ((g * s->filter_tiles + 2 * pair) * s->layers + tiles * layer) * s->filter_bytes;
}

#endif
