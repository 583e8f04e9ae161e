/* How col2im cuts a problem: shared by its files. */
#ifndef FC_COL2IM_H
#define FC_COL2IM_H

#include "../fc.h"

/* Outputs of an axis: positions from 0 on, of e phases, of which `lead` are before the first; they meet the samples from
 * position + low on. `samples` from low on, and zeros, are `pitch` elements apart. */
typedef struct {
    int64_t lead, low, window, positions, samples, pitch;
} axis;

/* Taps of a phase of the outputs: so many, and those before. */
typedef struct {
    int64_t first, count;
} fc_col2im_phase;

typedef struct {
    const fc_problem *p;
    const fc_panels *kernels;
    const fc_panel_tiles *tiles;
    int64_t bytes, nr, taps, phases, inner; /* inner: phases along the last axis */
    axis axes[FC_DIMS];
    int64_t few;   /* whether register tiles are, so that x may be read in place */
    int64_t row;   /* elements of a sample of the first axis */
    int64_t reach; /* elements that the other axes' taps reach beyond */
    int64_t channel_block, filters, filter_blocks, parts, positions, blocks;
    int64_t ld, plane; /* elements of a row of products, and of a channel of a band */
    int64_t some, sum_ld; /* positions whose sums are woven at once, and elements of those of a phase */
    int64_t product_bytes, band_bytes, panel_bytes, sum_bytes, slot_bytes, zero_bytes, table_bytes;
} geometry;

/* Elements of the first `positions` positions of the first axis, and what their taps meet beyond. */
static inline int64_t elements_of(const geometry *s, int64_t positions)
{
    return (positions + s->axes[0].window - 1) * s->row + s->reach;
}

/* Taps of a block's filters, and the register tiles that share them evenly: the first `larger` have one more. */
typedef struct {
    int64_t rows, count, each, larger;
} tiling;

static inline tiling tiling_of(const geometry *s, int64_t block)
{
    tiling t = {fc_min(s->filters, s->p->k - block * s->filters) * s->taps, 0, 0, 0};
    t.count = fc_ceil_div(t.rows, s->kernels->rows);
    t.each = t.rows / t.count;
    t.larger = t.rows % t.count;
    return t;
}

static inline int64_t row_of(const tiling *t, int64_t tile) { return tile * t->each + fc_min(tile, t->larger); }

void fc_col2im_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads, geometry *s);

/* Packs a group's block of filters, index group * filter_blocks + block. */
void fc_col2im_pack(const geometry *s, const char *w, int64_t index, char *packed);

/* The taps of each phase, and how far their products lie behind those of a position. */
void fc_col2im_shifts(const geometry *s, fc_col2im_phase *phases, int64_t *shift);

#endif
