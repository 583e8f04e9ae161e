/* How a depthwise problem is cut into bands of rows and pieces of columns; see depthwise.c. */
#ifndef FC_DEPTHWISE_H
#define FC_DEPTHWISE_H

#include "../fc.h"

/* Where input rows are read: all from strips, in place between the strips of their edges, from a copy
 * of the band amid zeros, or in place with vectors that are cut off at the edges. */
typedef enum { FC_STRIPS, FC_BETWEEN, FC_PADDED, FC_EDGES } fc_depthwise_source;

enum { FC_DEPTHWISE_APART = 4 }; /* strides of columns up to which kernels take rows apart */

typedef struct {
    const fc_problem *p;
    const fc_depthwise *kernel;
    const fc_pictures *picture; /* NULL for integers */
    const fc_stored *to;        /* what sums become in y, NULL where they stay what they are */
    int64_t bytes, x_bytes, y_bytes;
    int64_t column, row, outer; /* axes, or -1; number of those before */
    int64_t unit;
    int64_t taps, r, s;      /* of the axes before, of rows, of columns */
    int64_t u, l, v, step;   /* stride and dilation of rows; of columns, the latter in elements */
    int64_t in, out, pad;    /* of columns, in positions of a unit */
    int64_t rows, outers;
    int64_t stacked;         /* planes of x of a band that are copied together, 0 for no volume */
    int64_t planes, extra;   /* strips of a row; positions of one beyond its outputs */
    uint64_t row_phases;     /* bit f: whether a kernel row lies on phase f of the stride, or one 64 further on */
    int64_t gaps;            /* whether some phase has none */
    int64_t apart[FC_DEPTHWISE_APART]; /* of a padded strip: where element h of a row of x lies, or -1 if no tap does there */
    fc_depthwise_source source;
    int64_t channels;        /* of a unit */
    int64_t copies, copy_bytes; /* of channels amid zeros at a time, 1 or 2 */
    int64_t beside;             /* positions from a channel to the next in the same copy, 0 if each has its own */
    int64_t left, right;     /* positions of edges that are strips */
    int64_t ends;            /* whether outputs there are made one by one instead */
    int64_t width, pieces;   /* positions of a piece (between the edges), number of all */
    int64_t plane, strip;    /* elements of a column phase of a strip, and of all */
    int64_t band, bands, in_rows, piece_units;
    int64_t strip_bytes, pointer_bytes, border_bytes, scratch_bytes, slot_bytes;
    int64_t table_bytes, constant_bytes;
} fc_depthwise_cut;

/* Trailing axes that a kernel does not reach, and how many of them lie dense in both x and y. */
int64_t fc_depthwise_mergeable(const fc_problem *p);
int64_t fc_depthwise_dense(const fc_problem *p);

/* Cuts a problem whose last `merged` axes belong to the one before them. What becomes of s->source
 * comes before `source` where the problem does not allow that. */
void fc_depthwise_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                       int64_t threads, int64_t merged, fc_depthwise_source source,
                       fc_depthwise_cut *s);

/* A call. */
typedef struct {
    const fc_depthwise_cut *s;
    const fc_kernels *kernels;
    const char *x, *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace;
    const int64_t *offset, *source; /* of column taps; row of x at each padded position, or -1 */
    const char *constant;
    uint64_t value;                 /* beyond the ends */
    int64_t y_step;                 /* of columns */
} fc_depthwise_job;

/* What one unit works on. */
typedef struct {
    int64_t n, c, outer[FC_DIMS], row, rows; /* output rows [row, row + rows) */
    int64_t in_rows;
    const char **pointers;                   /* [tap][input row] */
    int64_t *border;
    char *strips, *scratch;
} fc_depthwise_band;

/* Writes `count` elements of `bytes` bytes, 4 or 8. */
void fc_depthwise_put(char *to, int64_t count, uint64_t value, int64_t bytes);

/* Sets b->pointers to the input rows of a band, to where outputs from `first` begin; those not in place are
 * copied to strips for `count` outputs. */
void fc_depthwise_point(const fc_depthwise_job *j, fc_depthwise_band *b, int64_t first, int64_t count, int in_place);

/* The same of rows that were copied with all planes, [from, to) of them x's, for output position `outer` of the axes
 * before; where that is in y. */
int64_t fc_depthwise_point_volume(const fc_depthwise_job *j, fc_depthwise_band *b, int64_t outer, int64_t from,
                                  int64_t to);

/* Outputs [first, stop) of filter k of a signal, of which few taps lie on x, one by one; where the first is in y. */
int64_t fc_depthwise_end(const fc_depthwise_job *j, int64_t n, int64_t k, int64_t first, int64_t stop);

/* Copies rows of sums, `count` units each, to a y that is strided, of integers that they are cut to, or too narrow for a
 * vector: rows of `ldy` elements, units `step` apart. */
void fc_depthwise_spread(const fc_depthwise_cut *s, const fc_depthwise_block *b, char *y, int64_t count, int64_t ldy,
                         int64_t step);

/* Workspace and run of problems with input dilation; see depthwise_phases.c. */
int64_t fc_depthwise_phases_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads);
void fc_depthwise_phases_run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                             const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads);

/* The same of floats of 16 bits, without input dilation; see depthwise_halves.c. */
int64_t fc_depthwise_halves_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads);
void fc_depthwise_halves_run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                             const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads);

#endif
