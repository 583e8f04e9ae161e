/* Shared by overlap_save's files: how a problem is cut and where things lie. */
#ifndef FC_OVERLAP_SAVE_H
#define FC_OVERLAP_SAVE_H

#include "../fc.h"

enum { PLANES, ROWS, COLUMNS, AXES };

/* A block has n[PLANES] x n[ROWS] x n[COLUMNS] samples, along these axes of the problem (-1: none). With
 * one axis its rows follow each other on one circle. All other axes have one tap and blocks of 1. */
typedef struct {
    const fc_fft *fft;
    int64_t axis[AXES], n[AXES], kept[FC_DIMS], count[FC_DIMS];
    int64_t one_axis, guard;
    int64_t halved, half;        /* axis of the problem along which a block is two halves, -1 for none; its outputs */
    int64_t parts, size;         /* reals of an element, bytes of a real */
    int64_t slabs, slab, block;  /* of `lanes` rows of frequencies; reals of a slab and of a block */
    int64_t blocks, pairs;       /* of all images; what is transformed together */
    int64_t taps, row_bytes;     /* of a filter's channel; of a row of samples */
    /* places in the packed weights */
    int64_t start, bound, w, factors[AXES], weights, near, far, spectra, scratch, packed_bytes;
    int64_t packers, scratch_bytes; /* threads that may pack at once, each with scratch of its own */
    /* places among a thread's tools, and in what a pair in work has */
    int64_t buffer, peak, across, suspects, tools_bytes;
    int64_t edges, beyond, inputs, outputs, counts, blocks_at, pair_bytes;
} overlap_save;

/* Most outputs of a plane of a block that the guard looks at one by one. */
enum { SUSPECTS = 16384 };

/* Ranges of a block's columns for each thread that shares it: one that is held up has the less to do. */
enum { RANGES = 2 };

/* Outputs of a range of columns that the guard looks at, of each block of a pair. */
typedef struct {
    int64_t found[2];
    int32_t at[2][SUSPECTS];
} suspects;

/* One block: its image, and the first of its outputs along each axis. */
typedef struct {
    int64_t image, first[FC_DIMS], kept[FC_DIMS];
} place;

/* A call of the driver. */
typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    overlap_save s;
    fc_fft_line line[AXES];
    const char *x, *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace, *pairs; /* the threads' tools first, then what each pair in work has */
} overlap_save_call;

void fc_overlap_save_layout(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                            overlap_save *s);
/* Radices of n, and how many factors its stages have. */
void fc_overlap_save_stages(int64_t n, fc_fft_line *line);

/* Roots that tables are made of, a sample of a circle. */
int64_t fc_overlap_save_turns(const overlap_save *s);

/* Writes the tables of packed weights; scratch has so many bytes. */
int64_t fc_overlap_save_tables_bytes(const overlap_save *s);
void fc_overlap_save_tables(const overlap_save *s, char *packed, void *scratch);

void fc_overlap_save_line(const overlap_save *s, int axis, const void *packed, fc_fft_line *line);
void fc_overlap_save_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          const void *w, void *packed, int64_t threads);

place fc_overlap_save_block(const fc_problem *p, const overlap_save *s, int64_t i);

/* The halves of a block: those of outputs lie as far apart as those of samples. */
void fc_overlap_save_split(const overlap_save *s, place *at);

/* Rows of plane i of a block: where they are, in x or, at its ends, in copies. */
void fc_overlap_save_rows_in(const overlap_save_call *c, const place *at, int64_t channel, int64_t i,
                             char *copies, const char *beyond, const void **rows);

/* Where rows of outputs of plane i go, in y or in copies, and how many samples of each are wanted. */
void fc_overlap_save_rows_out(const overlap_save_call *c, const place *at, int64_t filter, int64_t i,
                              char *copies, void **rows, int64_t *counts);

/* Bias, residual and activation of a plane's rows, which are moved to y where they are copies. */
void fc_overlap_save_finish(const overlap_save_call *c, const place *at, int64_t filter, int64_t i,
                            char *copies, const int64_t *counts);

/* The definition's value of an output whose block has the error `error`, in to[parts], unless a few of
 * its products show that it is right as it is. Returns whether it was written; takes products from
 * *budget, and is to be called while that is positive. */
int fc_overlap_save_settle(const fc_problem *p, const overlap_save *s, const void *x, int64_t image,
                           int64_t g, int64_t k, const int64_t *o, double error, const void *packed,
                           int64_t *budget, void *to);

/* Samples t to t + n of an extended axis of x, where x is NULL beyond another axis' ends, side by side. */
void fc_overlap_save_fill(const fc_problem *p, int64_t axis, int64_t item, const char *x, int64_t t,
                          int64_t n, char *to);

static inline int64_t fc_overlap_save_padded(const fc_problem *p, int64_t d)
{
    return (p->out[d] - 1) * p->stride[d] + (p->ker[d] - 1) * p->dilation[d] + 1;
}

#endif
