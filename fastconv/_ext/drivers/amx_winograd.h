/* What the parts of amx_winograd share: amx_winograd.c tells what it computes, and how. */
#ifndef FC_AMX_WINOGRAD_H
#define FC_AMX_WINOGRAD_H

#include "../fc.h"

enum { SIDE = FC_AMX_SIDE, PAIR = 2 * FC_AMX_SIDE, CHANNELS = FC_AMX_CHANNELS, TILE = FC_AMX_TILE, PARTS = FC_AMX_PARTS,
       R = 3, TAPS = R * R, MOST = 4, POINTS = FC_LINE_POINTS * FC_LINE_POINTS, LINE = 64, LARGE = 256 };

typedef struct {
    float scale[SIDE], limit[SIDE];
} levels; /* of a tile of filters */

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    const fc_amx_winograd *transforms;
    int64_t line, m, a, points;
    int64_t phases[2], rows, columns; /* outputs between those of a tile; rows of tiles of an image, and tiles of a row */
    int64_t tiles, block, blocks;
    int64_t steps, filter_tiles, pairs, at_once, parts, part; /* pairs of tiles of filters */
    int64_t u_pair, u_point, v_pair, v_point;                 /* bytes of a pair of tiles of tiles, and to the next point */
    int64_t x_row, z_row, width;                              /* floats; columns of a segment */
    int64_t raw_at, tiles_at, group_bytes;
    int64_t u_bytes, v_bytes, x_bytes, z_bytes, peak_bytes, tile_peak_bytes, segment_bytes, slot_bytes;
} geometry;

typedef struct {
    int64_t first, count, n, tile; /* in the block; the first in its row */
    int64_t row, column, across;   /* its first output; columns from there to the last tile's first */
    int64_t peak;                  /* of that column */
} segment;

void fc_amx_winograd_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads, geometry *s);
int64_t fc_amx_winograd_packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels);
void fc_amx_winograd_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                          int64_t threads);

/* First output along an axis of a tile in its row, or of a row of tiles. */
static inline int64_t begin_of(const geometry *s, int64_t axis, int64_t i)
{
    if (s->phases[axis] == 1) return i * s->m * s->p->dilation[axis]; /* no division */
    return i / s->phases[axis] * s->m * s->p->dilation[axis] + i % s->phases[axis];
}

/* Weights of a point and a pair of tiles of filters. */
static inline int64_t place_of(const geometry *s, int64_t pair, int64_t point)
{
    const int64_t tiles = fc_min(2, s->filter_tiles - 2 * pair);
    return s->tiles_at + (2 * pair * s->points + tiles * point) * s->steps * PARTS * TILE;
}

#endif
