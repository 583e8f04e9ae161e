/* What the parts of amx_gradient share: amx_gradient.c tells what it computes, and how. */
#ifndef FC_AMX_GRADIENT_DRIVER_H
#define FC_AMX_GRADIENT_DRIVER_H

#include "../amx_gradient.h"

enum { SIDE = FC_AMX_SIDE, PAIR = 2 * FC_AMX_SIDE, STEP = 2 * FC_AMX_SIDE, TILE = FC_AMX_TILE, SUMS = 4 * SIDE * SIDE, LINE = 64 };

/* Along an axis: output o reads, beside the kernel's i, sample i + o u / l of phase o u % l, which is x[sample*l + phase - pad].
 * Of any phase, samples before `lead` and from `used` on are zeros. Pictures that lie `pitch` apart share zeros. */
typedef struct {
    int64_t axis, out, width, size, u, l, pad;
    int64_t phases, reach, lead, used, pitch;
} amx_axis;

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    const fc_amx *tiles;
    const struct fc_amx_gradient *turns;
    amx_axis rows, columns;
    int64_t outer, outers, outer_taps;                  /* axes before, positions and taps of these */
    int64_t pictures, taps, planes;                     /* of w; outputs; planes of x */
    int64_t products, parts, most_steps;                /* of a sum before it is added to others */
    int64_t at_once, band, piece;                       /* pictures, rows and columns of a block */
    int64_t picture_blocks, row_blocks, column_blocks;
    int64_t pitch;                                      /* samples from a row to the next */
    int64_t f_pairs, c_pairs, f_units, c_units;         /* pairs of tiles of filters, and of images, in a unit; units */
    int64_t every, total_steps;
    int64_t stage, step_lines;                          /* floats of a channel, lines of a step */
    int64_t a_pair, x_part, x_pair;                     /* bytes */
    int64_t a_bytes, x_bytes, stage_bytes, sums_bytes, seen_bytes, slot_bytes, offset_bytes;
} amx_gradient;

typedef struct {
    int64_t picture, pictures, row, rows, column, columns;
    int64_t steps, groups;
} amx_gradient_block;

void fc_amx_gradient_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads,
                          amx_gradient *s);

/* A block's steps of 32 samples, and groups of 16 lines that its outputs read. */
static inline void fc_amx_gradient_extent(const amx_gradient *s, amx_gradient_block *b)
{
    b->steps = fc_ceil_div(((b->pictures - 1) * s->rows.pitch + b->rows) * s->pitch, STEP);
    const int64_t shift = s->rows.reach * s->pitch + s->columns.reach;
    b->groups = fc_ceil_div(b->steps * STEP - SIDE + shift, SIDE);
}

#endif
