/* Panels, bands and the tiles that read them: shared by the files panels*.c. */
#ifndef FC_PANELS_H
#define FC_PANELS_H

#include "../fc.h"

typedef struct {
    const fc_problem *p;
    const fc_panels *kernels;
    int64_t bytes, nr;
    int64_t kernel, row_taps;             /* taps of a channel; of those along the last axis */
    int64_t channel_block, tap_blocks;    /* channels of a block of taps */
    int64_t outputs, tile_block, blocks;  /* of an image */
    int64_t register_tiles, filter_parts; /* of a group's filters */
    int64_t tiles_a_part, tiles_at_once;
    int64_t panel, most_spans;            /* elements of a panel */
    /* of bands: rows of outputs of a block, elements of a phase of a row, of a row and of a channel */
    int64_t band, rows, phase, row, plane;
    int64_t panel_bytes, span_bytes, slot_bytes, bias_bytes;
} geometry;

/* Taps [first, first + count) of a block. */
typedef struct {
    int64_t first, count;
} span;

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const char *x;
    const fc_epilogue *epilogue;
    const char *packed, *bias;
    const int64_t *offset; /* bytes from a tile's first sample to that of each tap of a block */
    char *y;
    char *workspace;
    int64_t flat, even; /* 1x1 whose pixels lie side by side in x; all outputs of an image do in y */
} job;

/* A unit's tiles: outputs [first, end) of an image. */
typedef struct {
    int64_t n, g, first, end;
    char *panels;
    span *spans;
    int64_t *found;
} unit;

static inline int64_t tiles_of(const geometry *s, const unit *u) { return fc_ceil_div(u->end - u->first, s->nr); }

static inline int64_t channels_of(const geometry *s, int64_t block)
{
    return fc_min(s->channel_block, s->p->c - block * s->channel_block);
}

/* An odd number of cache lines: what lies so far apart is spread over all sets of a cache. */
static inline int64_t fc_panels_spread_out(const geometry *s, int64_t elements)
{
    return fc_round_up(elements, FC_ALIGN / s->bytes) | FC_ALIGN / s->bytes;
}

/* Spans that a tile of `taps` taps has at most. */
int64_t fc_panels_most_spans(int64_t taps);

/* Lays out the bands of blocks of about `target` bytes, on `threads`. */
void fc_panels_plan_bands(const fc_problem *p, int64_t target, int64_t threads, geometry *s);

/* Fills the panels of a unit for a block of taps, and finds the spans of its tiles. */
void fc_panels_fill(const job *j, const unit *u, int64_t block);

/* Copies the rows under `rows` rows of outputs from row `first` to a band: [channel][row][phase][sample]. */
void fc_panels_fill_band(const job *j, const unit *u, int64_t first, int64_t rows);

/* Bytes from a tile's first sample to that under each tap of a block, [tap][channel]. */
void fc_panels_offsets(const geometry *s, int64_t *offset);

#endif
