/* Phase-split, padded copy of an input block: the operand layout of direct and winograd.
 *
 * Along axis d, output o reads padded position o*u + r*l. Writing r*l = f + u*s with f = r*l mod u,
 * that is element o + s of phase f, the samples f, f+u, f+2u, ... of the padded input. Each phase
 * that some tap uses becomes a dense plane of lengths L_d = out_d + max s; then every tap is a
 * constant offset from the flattened output position sum o_d * pitch_d, whatever the stride,
 * dilation, boundary or number of axes, and consecutive outputs read consecutive elements. Between two
 * rows of outputs lie L - out positions whose sums are computed and dropped.
 */
#ifndef FC_PHASE_H
#define FC_PHASE_H

#include "../fc.h"

/* Most phases of all axes together; solvers refuse problems that use more. */
#define FC_PHASES 256

typedef struct {
    int64_t axes;                 /* axes of x that are not of extent 1 throughout; at least 1 */
    int64_t axis[FC_DIMS];        /* their numbers in the problem */
    int64_t length[FC_DIMS];      /* L_d of one phase plane */
    int64_t pitch[FC_DIMS];
    int64_t phases[FC_DIMS];      /* phases used along the axis ... */
    int64_t *phase[FC_DIMS];      /* ... and which, in order of first use; points into storage */
    int64_t plane, planes;        /* elements of one plane; planes of one channel */
    int64_t tail, unit;           /* axes before those that outputs run across without a gap, and
                                   * the outputs of these; see fc_phase_merge */
    int64_t band;                 /* outputs along the first axis that the planes serve */
    int64_t storage[FC_PHASES];
} fc_phase;

/* Lays out planes that serve `band` outputs along the first axis. */
void fc_phase_layout(const fc_problem *p, int64_t band, fc_phase *l);

/* offset[channel * taps + tap] of every kernel tap (in C order over the kernel) of every channel. */
void fc_phase_offsets(const fc_problem *p, const fc_phase *l, int64_t channels, int64_t *offset);

/* One row along axis d: `length` elements, the j-th of them padded position (start + j)*u + f, each
 * a run of `unit` dense elements. `scale` is 2 for a component of interleaved complex x. */
void fc_phase_row(const fc_problem *p, int64_t d, int64_t f, int64_t start, int64_t length,
                  const char *x, int64_t scale, int64_t unit, const void *value, int64_t bytes,
                  char *to);

/* The value beyond the ends as an element of `bytes` bytes; `part` 1 is the imaginary part. */
void fc_phase_value(const fc_problem *p, int64_t part, int64_t bytes, void *value);

void fc_phase_fill_value(char *to, int64_t count, const void *value, int64_t bytes);

/* Fills the planes of `channels` channels, from `first`, of image n, for `count` <= band outputs
 * from `start` along the first axis, and `slack` zeros after them. `parts` is 2 for interleaved
 * complex x, whose real and imaginary parts become channels 2c and 2c + 1; `bytes` is the size of
 * one (real) element. */
void fc_phase_fill(const fc_problem *p, const fc_phase *l, const void *x, int64_t n, int64_t first,
                   int64_t channels, int64_t start, int64_t count, int64_t slack, int64_t parts,
                   int64_t bytes, void *planes);

/* Merges trailing axes without gaps in the planes, whose outputs also lie evenly in this call's y,
 * into the axis before them, so that runs are long. */
void fc_phase_merge(const fc_problem *p, fc_phase *l);

/* Outputs covered by positions [from, from + columns): runs of consecutive ones. */
typedef struct {
    int64_t column, count; /* first column of the tile and length of the run */
    int64_t o[FC_DIMS];    /* its first output, per axis before the merged ones ... */
    int64_t rest;          /* ... and outputs further along these */
} fc_run;

/* Splits a tile into runs; returns their number. `count` bounds the first axis. */
int64_t fc_phase_runs(const fc_problem *p, const fc_phase *l, int64_t count, int64_t from,
                      int64_t columns, fc_run *runs);

/* First position >= from that is an output, or -1 when there is none. */
int64_t fc_phase_next(const fc_problem *p, const fc_phase *l, int64_t count, int64_t from);

#endif
