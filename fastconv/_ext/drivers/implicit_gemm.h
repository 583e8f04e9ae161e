/* Tiles of pixels, what they read and where they are stored: shared by the files implicit_gemm*.c. */
#ifndef FC_IMPLICIT_GEMM_H
#define FC_IMPLICIT_GEMM_H

#include "phase.h"

/* VALUES: elements of a row of padding, a tile of pixels in whole vectors. */
enum { PIXELS = FC_TILE_PIXELS, VALUES = 16 };

/* What is copied (v[3]): what padding and the ends of rows call for, a panel of each tile, or bands. */
enum { IN_PLACE, PANELS, BANDS };

/* Taps on padding that are multiplied rather than left out: a call of the tile kernel takes as long. */
enum { BRIDGE = 16 };

typedef struct {
    const fc_problem *p;     /* what is multiplied ... */
    const fc_problem *whole; /* ... and whose outputs are written */
    fc_problem dense;        /* where these differ, p */
    /* Phases of an output along each axis and in all, of which filter [outer][k][inner] has one each:
     * output o = pixel * phase_of_axis + phase - lead. All are 1 but with input dilation. */
    int64_t phase[FC_DIMS], lead[FC_DIMS], phases;
    const fc_implicit_gemm *kernels;
    int64_t parts, bytes;               /* 2 for complex; bytes of a real element */
    int64_t channels, filters, padded;  /* real ones of a group; filters in whole vectors */
    int64_t kernel, taps;               /* taps of one channel, of all */
    int64_t channel_block, kernel_block, block_taps;
    int64_t across, copy, band;         /* tiles run across images; all go to panels; blocks have bands */
    int64_t outputs;                    /* of an image */
    int64_t row, row_tiles, tiles;      /* pixels that share tiles evenly; tiles of a row and in all */
    int64_t tile_block, blocks, filter_parts, part_filters;
    int64_t step;                       /* between pixels in x, in real elements */
    int64_t panel_row, panel;           /* elements of a panel for one tap; bytes of a panel */
    int64_t flat;                       /* 1x1 on dense planes, copied: every tile is a run */
    int64_t extent[FC_DIMS], volume;    /* positions under windows, padding too; of all axes */
    /* A block of outputs whose window is a band: rows and columns, and how many there are of each along the
     * last two axes, and of the axes before. In its copy, elements from one output to the next along both,
     * from row to row, and from channel to channel. */
    int64_t band_rows, band_columns, row_blocks, column_blocks, slabs;
    int64_t band_down, band_step, band_row, band_plane;
    int64_t most_spans;
    int64_t table_bytes, panel_bytes, sum_bytes, slot_bytes, bias_bytes;
} geometry;

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const char *x;
    const fc_epilogue *epilogue;
    const char *packed, *bias, *value;
    void *y;
    char *workspace;
} job;

/* A block of taps, [tap][channel]: channels [channel, channel + channels) of group g, and taps of each. */
typedef struct {
    int64_t g, channel, channels, tap, taps;
} tap_block;

/* Pixels [first, first + count); across images, images from `first` of output `output`. */
typedef struct {
    int64_t first, count, output;
} tile;

/* Taps [first, first + count) of a block. */
typedef struct {
    int64_t first, count;
} span;

/* What a tile multiplies: its pixels lie `step` apart, the first of a tap `offset` bytes from x, and
 * `spans` runs of its taps are not all padding. */
typedef struct {
    tile t;
    const char *x;
    const int64_t *offset;
    int64_t step, spans;
} place;

/* A unit's tiles [first, end), filters [from, to) of its group, and where its tables, panels and
 * sums are. Offsets of a block's taps: in x (or the planes of images), and in a panel. */
typedef struct {
    int64_t g, first, end, from, to;
    int64_t rows, columns, n, o[FC_DIMS]; /* of a band's block: outputs, the first of them, its image */
    int64_t *in_x, *in_panel;
    place *places;
    span *spans; /* most_spans of each tile */
    char *panels, *sums;
} unit;

tile fc_pixels_tile(const geometry *s, int64_t index);

/* Position of an output along each axis; what is left is the image. */
int64_t fc_pixels_unravel(const fc_problem *p, int64_t pixel, int64_t *o);

/* Makes the offsets and places of a unit's tiles for a block of taps, copying what must be. */
void fc_pixels_prepare(const job *j, const unit *u, const tap_block *b);

/* Makes 1x1 on dense planes of x and of y a problem of one axis, and says whether it is. */
int fc_pixels_plan_flat(geometry *s);

/* Lays out the bands of blocks of about `target` bytes, on `threads`. */
void fc_pixels_plan_bands(geometry *s, int64_t target, int64_t threads);

/* The outputs of block `index`: of a unit that has a band. */
void fc_pixels_band_block(const geometry *s, int64_t index, unit *u);

/* Copies a unit's band for a block of taps, and makes offsets and places. */
void fc_pixels_prepare_band(const job *j, const unit *u, const tap_block *b);

/* Stores the sums of `width` filters from k of a unit's tiles. */
void fc_pixels_store(const job *j, const unit *u, const char *sums, int64_t width, int64_t k);

#endif
