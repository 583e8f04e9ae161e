/* What the files of the separable driver share; separable.c says what it does. */
#ifndef FC_SEPARABLE_H
#define FC_SEPARABLE_H

#include <string.h>

#include "../fc.h"

/* Equal weights from which running sums pay. */
enum { FC_SEPARABLE_BOX = 8 };

/* Most outer products that a kernel is a sum of; with 4, passes of 15 taps have half the products of 15 x 15. */
enum { FC_LOW_RANK = 4 };

/* See low_rank.c. The roundings are those of a sum down, of one along all terms, and of the factors; what these
 * leave of the kernel is a rounding of each of them and, in double, of taking each product from it. */
#define FC_LOW_RANK_GROWTH 2
#define FC_LOW_RANK_DROP 0x1p-12
#define FC_LOW_RANK_ROUNDINGS(rows, columns, terms) (0.5 * (double)((rows) + (terms) * (columns) + 2) + 4)

#define FC_LOW_RANK_REST(terms) (2 * (double)(terms) + 2)

/* Factors u[terms][rows], v[terms][columns] of the kernel w, which has two axes, and their number; 0 when
 * more than `most` are needed. `dropping`: a part of w may be left out. */
int64_t fc_low_rank(const fc_problem *p, const void *w, int64_t most, int dropping, double *u, double *v);

/* Position of a sample that is not there. */
#define FC_BEYOND INT64_MIN

/* What a packed filter says of bytes and of whole numbers, behind its factors. */
typedef struct {
    double near;          /* how far from a whole number float sums of bytes must be to be cut without doubt */
    double total;         /* sum of the weights, where these sums are such as fc_cut takes; else 0 */
    fc_quotient quotient; /* by which sums are to be divided where filters are means; and */
    int weighted;         /* whether of weights that differ */
} fc_separable_exact;

/* A problem, a config and a number of threads. */
typedef struct {
    const fc_problem *p;
    const fc_rows *kernel;
    const fc_implicit_gemm *turn;  /* whose transposition turns rows that are filtered along together */
    const fc_stored *from, *to;    /* conversions of x and of y, NULL where there is none */
    fc_dtype dtype;                /* what is summed in */
    int doubtful;                  /* whether that is less than p->dtype */
    int whole;                     /* whether it is 16 bits of whole numbers */
    int means;                     /* whether equal weights may be means of whole numbers */
    int64_t bytes, x_bytes, y_bytes;
    int64_t a, b, h;               /* axes, -1 for none; the row begins at h */
    int64_t unit;                  /* elements of one sample of h */
    int64_t along;                 /* whether there is a filter along the row */
    int64_t terms;                 /* outer products that a filter is a sum of */
    int64_t first[FC_DIMS];        /* of each axis' factors, a term after the other, in a packed filter */
    int64_t dense_at;              /* bytes: of the filter itself, where there are several terms */
    int64_t weights, exact_at, filter_bytes; /* of a packed filter */
    int64_t out_a, out_b, out_h;   /* outputs along each */
    int64_t span_a, span_b, span_h;
    int64_t rows;                  /* outputs of a made at once, but of blocks of equal weights */
    int64_t padded;                /* rows of sums down that are held */
    int64_t turned;                /* outputs along a row that are turned at once */
    int64_t a_bands, a_band, b_bands, b_band, chunks, chunk;
    int64_t outer;                 /* positions of all other axes */
    int64_t ring_rows, b_rows;     /* rows of x held along a, and along b */
    int64_t pitch;                 /* elements from row to row of the workspace */
    int64_t ring_at, spread_at, fixed_at, middle_at, padded_at, box_at, store_at, pointers_at, border_at;
    int64_t slot_bytes;
} fc_separable;

/* A call. */
typedef struct {
    const fc_separable *s;
    const fc_kernels *kernels;
    const char *x, *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace;
    const fc_rows *kernel;          /* that sums rows of x */
    int64_t bytes;                  /* of their elements */
    int in_place, x_dense, y_dense; /* whether x is read in place; rows of x and y lie dense */
} fc_separable_job;

/* One unit of work: an image, a filter, a band of a and of b, a chunk of the row. */
typedef struct {
    const fc_separable_job *j;
    const fc_separable *s;
    const fc_problem *p;
    const char *factors;
    int64_t x_at, y_at;  /* elements: of the outer position and the chunk's beginning */
    int inside;          /* whether the outer position lies on x */
    int64_t begin, count, low, high, shift; /* outputs of h, samples they read, border before those */
    int64_t begin_a, end_a, begin_b, end_b; /* outputs of a and b */
    int64_t first_b;     /* padded position of b that the rows held begin with */
    int64_t held;        /* padded position of a that is copied next */
    int64_t borders;     /* entries of the table of samples beyond the ends */
    double bias, edge[FC_LOW_RANK]; /* what lies beyond the row after filtering down, a term */
    char *work;
} fc_separable_unit;

void fc_separable_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                       int64_t threads, fc_separable *s);

/* ---- rows of x, of sums and of y: separable_rows.c -------------------------------------------*/

/* The row of x at padded positions of a and b, which the ring may hold; NULL for one of zeros. */
const char *fc_separable_row(const fc_separable_unit *u, int64_t ta, int64_t tb);

/* Copies rows of x up to padded position `end` of a into the ring. */
void fc_separable_hold(fc_separable_unit *u, int64_t end);

/* Copies the row of x at padded position ta of a to where it will be filtered along, as row i. */
void fc_separable_load(const fc_separable_unit *u, int64_t ta, int64_t i);

/* Fills the table of which sample of the chunk each sample beyond its ends repeats: once a unit. */
void fc_separable_borders(fc_separable_unit *u);

/* Sums along the first `outputs` of the rows to be filtered along, those of a from o on, and stores them
 * y_step apart. */
void fc_separable_along(const fc_separable_unit *u, int64_t o, int64_t outputs, const void **pointers,
                        int64_t y_at, int64_t y_step);

/* Sums `outputs` neighbouring rows down, from o on, and each along, to rows of y that are y_step apart. Behind the
 * pointers to rows there is room for those of the sums along them. */
void fc_separable_emit(const fc_separable_unit *u, int64_t axis, const void **rows, int64_t o,
                       int64_t outputs, int64_t y_at, int64_t y_step);

/* Whether windows of neighbouring outputs of a are a row apart, and nothing comes between them and rows. */
int fc_separable_slides(const fc_separable_unit *u);

/* Where the chunk begins in the row of x at padded positions of a and b: elements, or FC_BEYOND. */
int64_t fc_separable_source(const fc_separable_unit *u, int64_t ta, int64_t tb);

/* Copies `count` samples of h, with all axes behind it, between a dense row and a spread one. */
void fc_separable_copy(const fc_separable *s, char *dense, char *spread, const int64_t *stride, int64_t count,
                       int64_t bytes, int to_dense);

/* Means of whole numbers: says by what sums are to be divided where the factors in double make these; whether the unit is one
 * of them, and done. */
void fc_separable_quotient(const fc_separable *s, const double *factors, fc_separable_exact *exact);
int fc_separable_means(const fc_separable_unit *u, const void **pointers);

/* Whether an axis has so many equal weights that running sums pay. */
int fc_separable_is_box(const fc_separable_unit *u, int64_t axis);

/* ---- small things ----------------------------------------------------------------------------*/

static inline int64_t fc_separable_span(const fc_problem *p, int64_t axis)
{
    return axis < 0 ? 1 : (p->ker[axis] - 1) * p->dilation[axis] + 1;
}

static inline int64_t fc_separable_taps(const fc_problem *p, int64_t axis) { return axis < 0 ? 1 : p->ker[axis]; }

static inline double fc_separable_get(const void *a, int64_t i, fc_dtype dtype)
{
    switch (dtype) {
    case FC_F32: return (double)((const float *)a)[i];
    case FC_U8: return ((const int8_t *)a)[i]; /* modulo 2^bits: the number of least size */
    case FC_U16: return ((const int16_t *)a)[i];
    default: return ((const double *)a)[i];
    }
}

static inline void fc_separable_put(void *a, int64_t i, fc_dtype dtype, double value)
{
    if (dtype == FC_F32)
        ((float *)a)[i] = (float)value;
    else if (dtype == FC_U16)
        ((uint16_t *)a)[i] = (uint16_t)(int64_t)value;
    else
        ((double *)a)[i] = value;
}

/* `value` as the dtype holds it. */
static inline double fc_separable_rounded(double value, fc_dtype dtype) { return dtype == FC_F32 ? (double)(float)value : value; }

static inline const void *fc_separable_factor(const fc_separable_unit *u, int64_t axis)
{
    return axis < 0 ? NULL : u->factors + u->s->first[axis] * u->s->bytes;
}

static inline const double *fc_separable_factors(const fc_separable_unit *u)
{
    return (const double *)(u->factors + u->s->exact_at);
}

static inline fc_separable_exact fc_separable_exactly(const fc_separable_unit *u)
{
    fc_separable_exact exact;
    memcpy(&exact, fc_separable_factors(u) + u->s->weights, sizeof exact);
    return exact;
}

static inline char *fc_separable_work(const fc_separable_unit *u, int64_t at, int64_t row)
{
    return u->work + at + row * u->s->pitch * u->s->bytes;
}

static inline void fc_separable_fill(char *to, int64_t count, double value, fc_dtype dtype)
{
    for (int64_t i = 0; i < count; i++) fc_separable_put(to, i, dtype, value);
}

#endif
