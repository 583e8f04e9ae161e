/* Tiles of pixels and their tables of pointers: what implicit_gemm.c and implicit_gemm_pixels.c share. */
#ifndef FC_IMPLICIT_GEMM_H
#define FC_IMPLICIT_GEMM_H

#include "phase.h"

enum { PIXELS = FC_TILE_PIXELS, MAX_STEP = 4 };

typedef struct {
    const fc_problem *p;
    const fc_implicit_gemm *kernels;
    int64_t parts, bytes;               /* 2 for complex; bytes of a real element */
    int64_t channels, filters, padded;  /* real ones of a group; filters in whole vectors */
    int64_t kernel, taps;               /* taps of one channel, of all */
    int64_t channel_block, kernel_block, block_taps;
    int64_t across;                     /* tiles run across images */
    int64_t outputs;                    /* of an image */
    int64_t row, row_tiles, tiles;      /* pixels that share tiles evenly; tiles of a row and in all */
    int64_t tile_block, blocks, filter_parts, part_filters;
    int64_t step, panel_step;           /* between pixels in x and in panels, in real elements */
    int64_t panel_row;                  /* elements of a panel for one tap */
    int64_t pointer_bytes, panel_bytes, sum_bytes, slot_bytes, bias_bytes;
} geometry;

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const char *x;
    const fc_epilogue *epilogue;
    const char *packed, *bias, *value;
    const int64_t *offsets; /* bytes from a window's first sample to that under each tap of a channel */
    void *y;
    char *workspace;
} job;

/* A unit's block of taps: channels [channel, channel + channels) of group g, where each of them begins
 * in x, and taps of each. */
typedef struct {
    int64_t g, channel, channels, tap, taps;
    const char **base;
} tap_block;

/* Pixels [first, first + count); across images, images from `first` of output `output`. */
typedef struct {
    int64_t first, count, output;
} tile;

/* What goes with a tile's table: the step between its pixels, and the taps [first, first + taps) of a
 * block that are not all padding. */
typedef struct {
    int64_t step, first, taps;
} extent;

/* A unit's tiles [first, end), filters [from, to) of its group, and where its pointers, extents, panels and
 * sums are. */
typedef struct {
    int64_t g, first, end, from, to;
    const void **pointers;
    extent *extents;
    char *panels, *sums;
} unit;

tile fc_pixels_tile(const geometry *s, int64_t index);

/* Position of an output along each axis; what is left is the image. */
int64_t fc_pixels_unravel(const fc_problem *p, int64_t pixel, int64_t *o);

/* Bytes from a window's first sample to that under each tap of a channel. */
void fc_pixels_offsets(const geometry *s, int64_t *offsets);

/* Makes the tables of pointers, [channel][tap], and extents of a unit's tiles. */
void fc_pixels_prepare(const job *j, const unit *u, const tap_block *b);

#endif
