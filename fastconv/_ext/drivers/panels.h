/* Panels, bands and the tiles that read them: shared by the files panels*.c. */
#ifndef FC_PANELS_H
#define FC_PANELS_H

#include "../fc.h"

typedef struct {
    const fc_problem *p;     /* what is multiplied ... */
    const fc_problem *whole; /* ... and whose outputs are written */
    fc_problem dense;        /* where these differ, p */
    /* phases of the outputs, in all and along the last axis: 1 but with input dilation, as in panels_phases.c */
    int64_t phases, inner, lead[FC_DIMS];
    const fc_panels *kernels;
    const fc_panel_tiles *tiles;
    int64_t bytes, nr;
    int64_t weights;                      /* of a filter's channel */
    int64_t kernel, row_taps;             /* taps of a channel in a panel; of those along the last axis */
    int64_t channel_block, tap_blocks;    /* channels of a block of taps */
    int64_t outputs, tile_block, blocks;  /* of an image */
    int64_t register_tiles, filter_parts; /* of a group's filters */
    int64_t tile_filters, larger;         /* of a register tile; how many have one more */
    int64_t tiles_a_part, tiles_at_once;
    int64_t panel, most_spans;            /* elements of a panel */
    /* of bands: rows of outputs of a block, blocks along a row and tiles of a row that these share; elements of a phase
     * of a row, of all rows that share a phase, and of a channel; whether one row's tiles run on in the next */
    int64_t band, rows, column_blocks, row_tiles, phase, grid, plane, joined;
    int64_t gaps; /* whether they run on over the gaps between two rows of outputs, where samples under no window end */
    int64_t panel_bytes, span_bytes, sum_bytes, slot_bytes, bias_bytes;
    /* whether y has fewer bits than sums; whether these lie by unit, for that or for gaps; how far apart filters are there */
    int64_t narrow, apart, unit_outputs;
} geometry;

/* Taps [first, first + count) of a block. */
typedef struct {
    int64_t first, count;
} span;

/* Weights of a phase of the outputs, of a channel: so many, and those before. */
typedef struct {
    int64_t first, taps;
} fc_panels_phase;

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const char *x;
    const fc_epilogue *epilogue;
    const char *packed, *bias;
    /* bytes from a tile's first sample to that of each tap of a block, in a panel, and behind them those in place */
    const int64_t *offset;
    const fc_panels_phase *phases;
    char *y;
    char *workspace;
    /* 1x1 whose pixels lie side by side in x, and are read there, asked for in time; all outputs of an image do in y */
    int64_t flat, in_place, near, even;
} job;

/* A unit's tiles: outputs [first, end) of an image. */
typedef struct {
    int64_t n, g, first, end;
    char *panels;
    span *spans;
    int64_t *found;
    char *sums; /* of the phases of a tile along the last axis, or of filters from k on, to be made narrow */
    int64_t k;
} unit;

/* What a tile multiplies: outputs [first, first + count) of an image, and the runs of its taps; or whether these lie as
 * far apart as channels do. */
typedef struct {
    int64_t first, count;
    const char *x;
    const int64_t *offset;
    const span *spans;
    int64_t found, near;
    int64_t along, apart; /* so many tiles side by side in y, if more than one, whose x lie so many bytes apart */
} tile;

static inline int64_t tiles_of(const geometry *s, const unit *u) { return fc_ceil_div(u->end - u->first, s->nr); }

static inline int64_t channels_of(const geometry *s, int64_t block)
{
    return fc_min(s->channel_block, s->p->c - block * s->channel_block);
}

/* Filters of register tile i begin here: tiles are as even as can be, the first `larger` have one more. */
static inline int64_t filter_of(const geometry *s, int64_t i) { return i * s->tile_filters + fc_min(i, s->larger); }

/* An odd number of cache lines: what lies so far apart is spread over all sets of a cache. */
static inline int64_t fc_panels_spread_out(const geometry *s, int64_t elements)
{
    return fc_round_up(elements, FC_ALIGN / s->bytes) | FC_ALIGN / s->bytes;
}

/* Spans that a tile of `taps` taps has at most. */
int64_t fc_panels_most_spans(int64_t taps);

/* Lays out the bands of blocks of about `target` bytes, on `threads`. */
void fc_panels_plan_bands(const fc_problem *p, int64_t target, int64_t threads, geometry *s);

/* Whether bands of rows that are shorter than tiles, or end far from the end of one, are to run on over gaps. */
int fc_panels_gaps(const fc_problem *p, const geometry *s);

/* From a band's first output to behind its last, gaps between. */
static inline int64_t positions(const geometry *s, int64_t rows)
{
    return (rows - 1) * s->phase + s->p->out[s->p->dims - 1];
}

/* Fills the panels of a unit for a block of taps, and finds the spans of its tiles. */
void fc_panels_fill(const job *j, const unit *u, int64_t block);

/* Columns of outputs of block i along a row begin here. */
static inline int64_t column_of(const geometry *s, int64_t i)
{
    return i == s->column_blocks ? s->p->out[s->p->dims - 1] : s->row_tiles * i / s->column_blocks * s->nr;
}

/* Copies what is under `rows` rows of outputs from row `first`, and columns [begin, end) of these, to a band:
 * [channel][phase down][phase along][row][sample]. */
void fc_panels_fill_band(const job *j, const unit *u, int64_t first, int64_t rows, int64_t begin, int64_t end);

/* Filters from k to `end` of the sums of a band in gaps to y. */
void fc_panels_store_gaps(const job *j, const unit *u, int64_t k, int64_t end);

/* Bytes from a tile's first sample to that under each tap of a block, [tap][channel]. */
void fc_panels_offsets(const geometry *s, int64_t *offset);

/* Finds the phases of p's outputs, and the problem without input dilation that has panels for them. */
void fc_panels_plan_phases(const fc_problem *p, geometry *s);

/* Packs the weights of `rows` filters for a block of taps: [phase][tap][channel][filter]. */
void fc_panels_pack(const geometry *s, const char *w, int64_t channels, int64_t rows, char *to);

/* The phases, and fc_panels_offsets for them: of blocks of taps, then of the last, which may be smaller. */
void fc_panels_phase_offsets(const geometry *s, fc_panels_phase *phases, int64_t *offset);

/* y (+)= sums of filters from register tile `from` to `to`, of a block of taps, at all phases of a tile. */
void fc_panels_multiply_phases(const job *j, const unit *u, const tile *t, int64_t from, int64_t to, int64_t block,
                               const char *w);

/* The rest of what becomes of finished sums of filters from k to `end`. */
void fc_panels_finish_phases(const job *j, const unit *u, int64_t k, int64_t end);

#endif
