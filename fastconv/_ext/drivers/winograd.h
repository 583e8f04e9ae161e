/* What the parts of the winograd driver share: winograd.c tells what it computes, and how. */
#ifndef FC_WINOGRAD_H
#define FC_WINOGRAD_H

#include "../fc.h"

/* A transformed axis, or axis -1 and line 0. Section q of its taps begins at tap q % u + q / u * r u,
 * and has r of them, u apart, of which the last are 0 in all but the first `full` sections. */
typedef struct {
    int64_t axis, line, m, r, points, dilation, tiles, u, sections, full;
} transform;

/* One digit of a tile's number. */
typedef struct {
    int64_t axis, size, step; /* axis -1: the image; outputs along the axis from one to the next */
} digit;

/* Of a point's number. */
enum { ROW, COLUMN };

typedef struct {
    fc_problem p;
    const fc_winograd *kernels;
    int64_t bytes;
    transform line[2];  /* across rows, and along the innermost axis (or line 0) */
    int64_t points;
    /* sections, and taps of axes that are not transformed, are summed like channels: their number; times
     * channels; and the first of each class (classes of winograd_plan.c) */
    int64_t taps, depths, class[5];
    int dense;            /* lanes are tiles side by side: samples m apart in a line */
    int64_t apart;        /* outputs of such a line along the innermost axis */
    int64_t step;         /* samples from one lane to the next in `lines` */
    int64_t shift;        /* and between its first m (dense), or its points (else) */
    int64_t sets;         /* of these in a tile: its first m samples are one */
    int64_t halo;         /* samples of a segment beyond step * lanes */
    int64_t pieces;       /* room for those of a vector */
    int64_t last, stride; /* the innermost axis; samples of x from one of a line to the next */
    int64_t digits, tiles;
    digit digit[2 * FC_DIMS + 1];
    int64_t columns, blocks; /* tiles of a block */
    int64_t k, at_once;      /* filters, whole register tiles; those between two output transforms */
    int64_t parts, filters_a_part;
    int64_t pixels, ldu, ldv; /* samples of a line; elements from a point to the next */
    int64_t raw_at, level_at, group_bytes;
    double transform_error, sum_error; /* in eps: what error_level is made of */
    int64_t u_bytes, v_bytes, line_bytes, peak_bytes, tile_bytes, gathered_bytes, half_bytes, z_bytes,
        suspect_bytes, segment_bytes, stage_bytes, source_bytes, piece_bytes, slot_bytes;
} geometry;

/* A run of tiles of a block along the innermost axis. */
typedef struct {
    int64_t lane, count;   /* in the block */
    int64_t n, o[FC_DIMS]; /* image and first output */
    int64_t at, samples;   /* of a line: the first, and how many the tiles read */
    /* what of its rows lies in x: `inside` samples of each of `rows` from `top`, the first of them
     * element `start` of a channel, `ld` apart; those `before` and after, and other rows, are constant */
    int64_t top, rows, start, ld, before, inside;
    int in_place; /* it is read there: what is not in x is 0 */
    int alike;    /* it is so: rows have the same samples in x, and lie evenly */
    int64_t y_at, y_rows; /* element of y of the first output of filter 0; rows that there are */
    int64_t y_count;      /* outputs of a row that there are, where lanes are tiles side by side */
} segment;

/* A row of x that a segment reads: sample i is element base + (origin + i * stride) * x_s[last]. */
typedef struct {
    int64_t base, origin, before, inside; /* samples before x, and then in it */
    int outside;                          /* all of it is */
} source;

void fc_winograd_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                      int64_t threads, geometry *s);
void fc_winograd_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                      const void *w, void *packed, int64_t threads);

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const char *x;
    const fc_epilogue *epilogue;
    const char *packed;
    double digit; /* 11 eps: an output above this times level times peak has a correct digit */
    char *y;
    char *workspace;
} job;

/* A thread's part of the workspace. */
typedef struct {
    char *u, *v, *stage, *zeros, *lines, *peak, *tile_peak, *gathered, *half, *z;
    uint16_t *suspect, *wanted; /* a bit a tile, of each output and vector: looked at, and one that there is */
    segment *segments;
    source *sources; /* of each segment's rows */
    fc_piece *pieces;
    int64_t found, tiles, columns; /* segments; tiles of this block; the same in whole vectors */
} slot;

/* Elements from the start of a group's weights to those of the register tile from filter k, of its
 * first point; *ldw becomes those from a point to the next. They are a line more than the data, as
 * points a multiple of 4 KB apart would share 8 ways of L1 while they are packed. */
int64_t fc_winograd_weights(const geometry *s, int64_t k, int64_t *ldw);

/* The first tap, along each axis of the kernel, of those that are `tap`: of a section, or itself. */
void fc_winograd_tap(const geometry *s, int64_t tap, int64_t *first);

/* Whether the kernel has tap `tap` of a depth's, which begin at `first`. */
static inline int fc_winograd_has(const geometry *s, const int64_t *first, int64_t tap)
{
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    const int64_t i = tap / column->r * row->u, j = tap % column->r * column->u;
    return (row->axis < 0 || first[row->axis] + i < s->p.ker[row->axis]) &&
           (column->axis < 0 || first[column->axis] + j < s->p.ker[column->axis]);
}

/* The depths [*from, *to) that have weights other than 0 at a point. */
void fc_winograd_range(const geometry *s, int64_t point, int64_t *from, int64_t *to);

/* The segments of the block of tiles that starts with `from`, and where their outputs lie. */
void fc_winograd_segments(const geometry *s, int64_t from, slot *l);

/* u of a block, and the peaks of its tiles. */
void fc_winograd_input(const job *j, int64_t group, slot *l);

static inline double fc_load(const void *a, int64_t i, int64_t bytes)
{
    return bytes == 4 ? (double)((const float *)a)[i] : ((const double *)a)[i];
}

static inline void fc_save(void *a, int64_t i, int64_t bytes, double value)
{
    if (bytes == 4)
        ((float *)a)[i] = (float)value;
    else
        ((double *)a)[i] = value;
}

#endif
