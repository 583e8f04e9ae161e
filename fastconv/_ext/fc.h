/* The C contract of fastconv: what a problem, a driver and a kernel are, and the letters.
 *
 * Letters, the same in every file:
 *   n c h w   batch, input channels, rows and columns     k      filters (output channels)
 *   r s       kernel rows and columns                     p q    output rows and columns
 *   g         groups                                      u v    stride in rows and columns
 *   mr nr     rows (filters) and columns (positions) of a register tile
 *   mc kc nc  cache blocks of filters, taps and positions
 *   e         input dilation                              l      kernel dilation
 *
 * Sizes, strides and offsets are in elements and 64 bits wide; sizes in memory are in bytes. Drivers get
 * valid input from Python, return nothing and never allocate: the workspace belongs to the caller,
 * so that one plan runs from many threads.
 */
#ifndef FC_H
#define FC_H

#include <stddef.h>
#include <stdint.h>

#define FC_DIMS 8

/* Weights and workspace are aligned to a cache line, which is also the widest vector. */
#define FC_ALIGN 64

typedef enum {
    FC_F32, FC_F64, FC_C64, FC_C128, FC_U8, FC_U16, FC_U32, FC_U64, FC_F80, FC_C160,
    FC_I8, FC_I16, FC_I32, FC_I64, /* of x and y only: sums of integers are kept in unsigned ones */
    FC_BF16, FC_F16, /* of x and y only: bfloat16 and float16, summed in float */
    FC_PAIRS, /* two int16, of neighbouring channels, whose products are summed in 32 bits: of panels, for pairs */
    FC_QUADS, FC_QUADS_U, /* four bytes likewise, for quads: of w signed and of x not, and the reverse */
    FC_DTYPES
} fc_dtype;

typedef enum {
    FC_ZEROS, FC_CONSTANT, FC_REFLECT, FC_MIRROR, FC_NEAREST, FC_WRAP
} fc_boundary;

/* One problem: shapes, geometry and the strides of this call's arrays. c and k are per group.
 * w is already flipped by its strides where the problem is a convolution. */
typedef struct {
    int64_t dims, n, c, k, g;
    int64_t in[FC_DIMS], ker[FC_DIMS], out[FC_DIMS];
    int64_t stride[FC_DIMS], dilation[FC_DIMS], input_dilation[FC_DIMS], pad[FC_DIMS];
    int64_t x_n, x_c, x_s[FC_DIMS];
    int64_t w_k, w_c, w_s[FC_DIMS];
    int64_t y_n, y_k, y_s[FC_DIMS];
    fc_dtype dtype;            /* what is computed in ... */
    fc_dtype x_dtype, y_dtype; /* ... and what x and y hold: the same, but for solvers that read or write
                                * what is stored (reads_stored, writes_stored in _solver.py) */
    fc_boundary boundary;
    double cval[2]; /* real and imaginary part of the constant beyond the ends */
    int64_t cval_i; /* the same for integers, which doubles cannot all hold */
} fc_problem;

#define FC_CONFIGS 8

/* Settings of a driver, in the order that its file states. */
typedef struct {
    int64_t v[FC_CONFIGS];
} fc_config;

typedef enum { FC_IDENTITY, FC_CLAMP, FC_SILU, FC_GELU } fc_activation;

/* What becomes of a finished sum: activation(sum + bias[k] + residual). Drivers add the bias
 * themselves, where it costs nothing; fc_finish does the rest on outputs still in cache. */
typedef struct {
    const void *bias;     /* an element for each filter of all groups, or NULL */
    const void *residual; /* of y's strides, or NULL */
    fc_activation activation;
    double low, high;     /* of FC_CLAMP */
    uint8_t *left;        /* becomes 1 for parts of the work that overlap_save leaves to its caller */
    const float *scale;   /* of each filter of all groups, or NULL: sums of 32 bits become quantised ones of y_dtype ... */
    int64_t zero;         /* ... for which this stands for 0 */
} fc_epilogue;

struct fc_kernels;

typedef struct {
    const char *name;
    int64_t (*workspace_bytes)(const fc_problem *, const fc_config *, const struct fc_kernels *,
                               int64_t threads);
    int64_t (*packed_bytes)(const fc_problem *, const fc_config *, const struct fc_kernels *);
    void (*pack)(const fc_problem *, const fc_config *, const struct fc_kernels *, const void *w,
                 void *packed, int64_t threads);
    void (*run)(const fc_problem *, const fc_config *, const struct fc_kernels *, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace,
                int64_t threads);
} fc_driver;

/* BLAS, set once at import from scipy's, with Fortran's conventions. Threads of ours may call it at
 * once: whoever runs a driver that does has limited it to one thread of its own. */
typedef void fc_gemm(char *transa, char *transb, int *m, int *n, int *k, void *alpha, void *a,
                     int *lda, void *b, int *ldb, void *beta, void *c, int *ldc);
typedef struct {
    fc_gemm *sgemm, *dgemm, *cgemm, *zgemm;
} fc_blas;
extern fc_blas fc_blas_table;

/* ---- drivers ---------------------------------------------------------------------------------*/
#define FC_DRIVER(name) extern const fc_driver fc_driver_##name;
#include "drivers.inc"
#undef FC_DRIVER

const fc_driver *fc_find_driver(const char *name);

/* Calls work(context, i, slot) for every i below count from up to `threads` threads, the caller's
 * among them; slot < threads is the same for calls that never overlap. */
void fc_parallel(int64_t count, int64_t threads, void (*work)(void *, int64_t, int64_t),
                 void *context);

/* Whether `bytes` bytes at a and b are the same. */
int fc_same(const void *a, const void *b, int64_t bytes, int64_t threads);

/* This thread's mode for subnormal numbers, 0 when they keep their value, and setting it: 1 takes them
 * for zeros, reading and writing (FTZ and DAZ of x86, FZ of aarch64). fc_parallel's workers take over
 * their caller's. */
int fc_flushes(void);
void fc_flush(int mode);

/* ---- geometry shared by drivers --------------------------------------------------------------*/

/* Index into an axis of x of padded, dilated position t (0 is the first padding sample), or -1
 * where the constant or a dilation zero stands. */
int64_t fc_source(const fc_problem *p, int64_t axis, int64_t t);

/* Factors, one vector an axis and each after the other, whose outer product is the kernel w of p->dtype
 * (f32 or f64) and strides p->w_s to 2 eps an axis in every element; whether there are any. */
int fc_factorize(const fc_problem *p, const void *w, double *factors);

static inline int64_t fc_dtype_bytes(fc_dtype t)
{
    static const int8_t bytes[FC_DTYPES] = {
        4, 8, 8, 16, 1, 2, 4, 8, (int8_t)sizeof(long double), (int8_t)(2 * sizeof(long double)),
        1, 2, 4, 8, 2, 2, 4, 4, 4};
    return bytes[t];
}

static inline int64_t fc_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t fc_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t fc_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t fc_round_up(int64_t a, int64_t b) { return fc_ceil_div(a, b) * b; }
static inline int64_t fc_common_divisor(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

/* Threads of `threads` that packing `bytes` of weights keeps busy: 64 KB each, some 20 us. */
static inline int64_t fc_pack_threads(int64_t bytes, int64_t threads)
{
    return fc_max(1, fc_min(threads, bytes >> 16));
}

/* Product of the sizes of `dims` axes. */
static inline int64_t fc_volume(const int64_t *sizes, int64_t dims)
{
    int64_t v = 1;
    for (int64_t d = 0; d < dims; d++) v *= sizes[d];
    return v;
}

/* ---- the epilogue ----------------------------------------------------------------------------*/

/* Finishes `count` outputs `step` elements apart, the first of them y[at], that hold sum + bias.
 * Elements are real ones: a complex y holds two for each of its own. */
void fc_finish_run(const fc_problem *p, const struct fc_kernels *kernels, const fc_epilogue *e, void *y,
                   int64_t at, int64_t count, int64_t step);

static inline void fc_finish(const fc_problem *p, const struct fc_kernels *kernels,
                             const fc_epilogue *e, void *y, int64_t at, int64_t count, int64_t step)
{
    if (e->residual || e->activation) fc_finish_run(p, kernels, e, y, at, count, step);
}

/* ---- kernels ---------------------------------------------------------------------------------*/

/* y[i][j] (+)= sum over t < taps of w[t][i] * x[offset[t] + j] for i < rows, j < columns.
 * w is packed rows-fastest, y has row stride ldy; `accumulate` adds to what y holds. */
typedef void fc_tile_fn(int64_t taps, const int64_t *offset, const void *x, const void *w, void *y,
                        int64_t ldy, int64_t accumulate);
typedef struct {
    int64_t rows, columns;
    fc_tile_fn *run;
} fc_tile;

#define FC_TILE_SIZES 4

/* Register tiles of one dtype, most rows first; the last has one row. */
typedef struct {
    fc_tile by_rows[FC_TILE_SIZES];
} fc_tiles;

/* Winograd's F(m, r) along one axis: m outputs of r taps from m + r - 1 products, at the points inf,
 * `pairs` pairs +-pair[..], and, when that is one too few, 0. Line 0 is an axis left as it is.
 *
 * Rounding errors grow at most by K, the maximum over rows of |A'| of sum |A'| |B'|1 max|G|: for
 * F(4, 3) that is 29.3 at the usual points 1 and 2, 13.4 at the best, 5/8 and 8/5, and 14.3 here, where
 * every entry of A' and B' is exact in float; for F(4, 2) it is 7.6, for F(3, 3) 8.2,
 * for F(3, 4) 15.2 (14.7 at the best, 5/8 and 13/8). */
typedef struct {
    int64_t m, r, pairs;
    double pair[2];
} fc_line;

enum { FC_LINES = 7, FC_LINE_POINTS = 6 };
static const fc_line fc_lines[FC_LINES] = {
    {1, 1, 0, {0}}, {2, 3, 1, {1}}, {4, 3, 2, {0.625, 1.5}}, {2, 5, 2, {0.625, 1.5}}, {4, 2, 2, {0.375, 1.375}},
    {3, 4, 2, {0.625, 1.5}}, {3, 3, 2, {0.375, 1.375}},
};

/* G of a line, points x r, and how much rounding errors of the points grow on their way to the outputs, m x points. */
void fc_winograd_matrices(int64_t line, double *g, double *growth);

/* Channels whose products are summed before they are added to the sums so far: the error of a sum
 * of C of one sign grows with CHANNELS + C / CHANNELS instead of C. */
enum { FC_WINOGRAD_CHANNELS = 32 };

/* `count` elements that lie together in one buffer and go to another. */
typedef struct {
    int64_t from, to, count;
} fc_piece;

/* Winograd on vectors whose lanes are tiles. Kernels are listed by their line; a is its points.
 *
 * input_rows: to[i*ldto + t] = (B' x)[i] for i < a and t < count, which is rounded up to whole vectors.
 *     Of x[i] only low <= t < high is read, the rest is 0; what is `next` elements on is fetched to
 *     cache. peak[t] becomes the larger of itself and abs(x[i][t]).
 * input_columns: u[(i*a + j)*ldu + t] = (B' x)[j] for a vector of tiles t and `rows` rows i, where
 *     x[j] of lane t is x[i*ldx + t*m + j] for j < m, and j - m further from x + shift for the rest,
 *     when `dense`; else x[i*ldx + j*shift + t].
 * copy: pieces of `rows` rows; may write beyond a piece up to a whole vector.
 * move: to[i*ldto + t] = from[i*ldfrom + t] for i < rows and t < count, and touches nothing else.
 * pick: the same of from[i*ldfrom + t*step], and reads nothing else; that `ahead` further is next.
 * output_rows: z[(i*columns + j)*count + t] = (A' v)[i] of v[i] at v[(i*columns + j)*ldv + t], i < m.
 * output_columns: outputs j < m of `rows` rows i from v[(i*a + j)*ldv + t], plus bias, to
 *     z[(i*count + t)*m + j] when `dense`, else to z[(i*m + j)*count + t]. Bit t % lanes of
 *     suspect[((i*m + j)*count + t) / lanes] tells whether the output, without bias, is at most
 *     scale * peak[t], or not finite; returns whether any is.
 * product: v[k*ldv + t] = sum over c of w[c*mr + k] * u[c*ldu + t] for k < mr and t < lanes times 1,
 *     2 ... vectors. product_half: for t < lanes/2; NULL where that takes as long as a whole vector.
 * filters: to[(i*a1 + j)*ldto + k] = (G0 w G1')[i][j] of the taps at w[k*w_k + at[r*r1 + s]], and 0 for
 *     count <= k < mr; the taps go to raw, a filter after the other; sums[k] grows by their sizes.
 * sizes: sums[k] = sum over c of abs(w[c*mr + k]).
 * Both write FC_WINOGRAD_ROWS sums. */
enum { FC_WINOGRAD_ROWS = 8 };
#define FC_NO_TAP INT64_MIN
typedef struct {
    int64_t lanes, mr, vectors;
    void (*input_rows[FC_LINES])(const void *const *x, int64_t next, int64_t low, int64_t high,
                                 int64_t count, void *to, int64_t ldto, void *peak);
    void (*input_columns[2][FC_LINES])(const void *x, int64_t ldx, int64_t shift, int64_t rows,
                                       void *u, int64_t ldu);
    void (*copy)(const void *from, int64_t ldfrom, int64_t rows, const fc_piece *pieces, int64_t count,
                 void *to, int64_t ldto);
    void (*move)(const void *from, int64_t ldfrom, int64_t rows, int64_t count, void *to, int64_t ldto);
    void (*pick)(const void *from, int64_t ldfrom, int64_t step, int64_t ahead, int64_t rows,
                 int64_t count, void *to, int64_t ldto);
    void (*output_rows[FC_LINES])(const void *v, int64_t ldv, int64_t columns, int64_t count, void *z);
    int (*output_columns[2][FC_LINES])(const void *v, int64_t ldv, int64_t rows, int64_t count,
                                       const void *peak, double scale, double bias, void *z,
                                       uint16_t *suspect);
    void (*product[3])(int64_t channels, const void *u, int64_t ldu, const void *w, void *v,
                       int64_t ldv);
    void (*product_half)(int64_t channels, const void *u, int64_t ldu, const void *w, void *v,
                         int64_t ldv);
    void (*filters)(const double *g0, int64_t a0, int64_t r0, const double *g1, int64_t a1, int64_t r1,
                    const void *w, int64_t w_k, const int64_t *at, int64_t count, void *raw,
                    double *sums, void *to, int64_t ldto);
    void (*sizes)(int64_t channels, const void *w, double *sums);
} fc_winograd;

/* y[i*step] = activation(y[i*step] + residual[i*step]) for i < count; residual may be NULL. */
typedef struct {
    void (*run)(void *y, const void *residual, int64_t count, int64_t step, const fc_epilogue *e);
} fc_finisher;

/* Rows of a register tile. */
#define FC_DEPTHWISE_ROWS 4

/* y[j][o] = sum over t, i, s of w[t][i - j u][s] * x[t][i][offset[s] + o] for j < rows, o < columns,
 * where 0 <= i - j u < r; plus the bias. Input rows that are NULL are zeros. With `edges`, a
 * tap reads offset[s] + o * stride (1 or 2); only positions in [low, high) are x's, and those beyond,
 * not more than a vector at each end of a row, are zeros; a row may have any number of columns. */
typedef struct {
    int64_t taps, r, s, u;  /* taps of the axes before; kernel rows, columns; stride of rows */
    int64_t rows, columns;  /* of outputs; the latter at least `least` */
    const void *const *x;   /* input row i of tap t begins at x[t * ldx + i * step] */
    int64_t ldx, step;
    const int64_t *offset;  /* of the column taps */
    int64_t edges, stride, low, high;
    const void *w, *bias;   /* bias may be NULL */
    void *y;
    int64_t ldy;
} fc_depthwise_block;

/* rows takes any block. line takes those of one row and one kernel row, at least `lanes` wide, whose
 * taps are `step` apart, a divisor of `lanes`: it loads a vector of x once for several taps.
 * pad copies `rows` rows of `count` elements: element i*stride + f of each (stride 1 to 4) becomes to[f][i],
 * and what follows up to a whole vector 0. to[f] may be NULL.
 * copy makes `count` elements of another dtype, `step` apart, elements of this one side by side. */
typedef struct {
    int64_t lanes, least, edges; /* the last: most column taps of a block with edges, 0 for none */
    int64_t edge_columns;        /* fewest columns for which such a block is worth it */
    void (*rows)(const fc_depthwise_block *);
    void (*line)(const fc_depthwise_block *, int64_t step);
    void (*pad)(int64_t rows, int64_t count, int64_t stride, const void *x, int64_t ldx, void *const *to,
                int64_t ldto);
    void (*copy)(fc_dtype from, int64_t count, const void *x, int64_t step, void *to);
} fc_depthwise;

/* y[j][o] = bias + sum over t, r, s of w[t][r][s] * x[t*plane + (j*u + r*l)*ldx + offset[s] + o] for j < rows,
 * o < columns; a vector of x beyond those may be read. A second picture may lie in the same rows of x, `beside` elements
 * on, if beside + columns are a vector at most: what belongs to it lies so many elements behind what is the first one's. */
typedef struct {
    int64_t t, plane;       /* planes of the kernel; from one to the next in x */
    int64_t r, s, u, l;     /* kernel rows, columns; stride and dilation of rows */
    int64_t rows, columns;  /* of outputs */
    const void *x;
    int64_t ldx;
    const int64_t *offset;  /* of the column taps */
    const void *w, *bias;   /* bias may be NULL */
    void *y;
    int64_t ldy;
    int64_t beside, next_w, next_bias, next_y; /* the first 0 for no second picture */
} fc_picture;

/* y[j][2*i + f] = bias + sum over r, t of w[r*ldw + 2*t + 1 - f - shift] * x[(j + r)*ldx + i + t], f 0 or 1, of the
 * column taps 0 .. s - 1 alone, for j < rows, 2*i + f < columns; shift is 0 or 1. A vector of x beyond may be read. */
enum { FC_WOVEN_ROWS = 4, FC_WOVEN_TAPS = 3 };
typedef struct {
    int64_t r, s, shift;
    int64_t rows, columns; /* of outputs */
    int64_t high, deep;    /* output rows and kernel rows at a time: up to FC_WOVEN_ROWS and rows, FC_WOVEN_TAPS */
    const void *x;
    int64_t ldx;
    const void *w;
    int64_t ldw;
    const void *bias; /* may be NULL */
    void *y;
    int64_t ldy;
} fc_woven;

/* copy: to[i*ldto + t] = x[i*ldx + t] for i < rows, t < count, and touches nothing else. */
typedef struct {
    int two; /* whether there may be a second picture */
    void (*run)(const fc_picture *);
    void (*copy)(int64_t rows, int64_t count, const void *x, int64_t ldx, void *to, int64_t ldto);
    void (*weave)(const fc_woven *);
} fc_pictures;

/* sums[q*ld + s][lane] += sum over i < height, j < columns, j % lanes == lane, of
 * w[i - q*step][j] * x[i*ldx + offset[s] + j]: partial sums of the dot products of a tile, q rows by s columns
 * of outputs. Of w nothing else is read; of x up to a vector beyond. */
typedef struct {
    int64_t height, columns;
    const void *x;
    int64_t ldx;
    const int64_t *offset;
    const void *const *w; /* rows of weights, from -q*step on */
    int64_t step;
    void *sums;
    int64_t ld;
} fc_dot_block;

/* sums[q*3 + s][j] += sum over i < height of w[i][j] * x[i + q - pad_rows][j + s - pad_columns], for q, s < 3 and
 * j < width, which is at most `lanes`; nothing is read beyond x. */
typedef struct {
    int64_t height, width;
    int64_t in_rows, in_columns, pad_rows, pad_columns;
    const void *x, *w;
    int64_t ldx, ldw;
    void *sums;
} fc_dot_narrow;

/* run[q - 1][s - 1] has q rows and s columns, NULL where that is more than registers hold; narrow is NULL where
 * parts of vectors are no instruction.
 * total: y[i] = sum over lanes of sums[i], for i < count. */
enum { FC_DOT_ROWS = 3, FC_DOT_COLUMNS = 7 };
typedef struct {
    int64_t lanes;
    void (*run[FC_DOT_ROWS][FC_DOT_COLUMNS])(const fc_dot_block *);
    void (*narrow)(const fc_dot_narrow *);
    void (*total)(int64_t count, const void *sums, void *y);
} fc_dot;

#define FC_TILE_PIXELS 14

/* Tiles of up to `pixels` pixels by one or two vectors of `lanes` filters, copies of short rows and
 * transposition; the formulas are in kernels/implicit_gemm.c. tile[v - 1][n - 1] has v vectors and n
 * pixels. */
typedef void fc_pixels_fn(int64_t taps, const void *x, const int64_t *offset, int64_t step, const void *w,
                          const void *add, int64_t add_step, void *y);
typedef struct {
    int64_t lanes, pixels;
    fc_pixels_fn *tile[2][FC_TILE_PIXELS];
    void (*copy)(const void *from, int64_t ld_from, int64_t step, int64_t rows, int64_t count, void *to,
                 int64_t ld_to);
    void (*transpose)(const void *from, int64_t ld_from, int64_t rows, int64_t columns, void *to,
                      int64_t ld_to);
} fc_implicit_gemm;

/* Register tiles of filters by vectors of pixels, and panels; the formulas are in kernels/panels.c.
 * tile[v - 1][n - 1] has n filters and v vectors, pixel[n - 1] one pixel, near[n - 1] all vectors, of x in place; they do
 * `tiles` in a row. The rows of a panel are `vectors` vectors apart. */
enum { FC_PANEL_ROWS = 8, FC_PANEL_VECTORS = 3, FC_PANEL_PIXELS = 48 };
typedef struct {
    int64_t vector, low, high, from;
} fc_panel_piece;
/* Where a tile's pixels are, so many: elements from x, and places along the last axis. */
typedef struct {
    int64_t count;
    int32_t index[FC_PANEL_PIXELS], place[FC_PANEL_PIXELS];
} fc_panel_lanes;
typedef void fc_panel_fn(int64_t taps, const void *x, const int64_t *offset, const void *w, const void *add,
                         int64_t more, void *y, int64_t ldy, int64_t tiles, int64_t ldw, int64_t ldx);
typedef void fc_panel_near_fn(int64_t taps, const void *x, int64_t x_c, const void *w, const void *add, int64_t more,
                              void *y, int64_t ldy, int64_t tiles, int64_t ldw, int64_t ldx);
typedef struct {
    fc_panel_fn *tile[FC_PANEL_VECTORS][FC_PANEL_ROWS], *pixel[FC_PANEL_ROWS];
    fc_panel_near_fn *near[FC_PANEL_ROWS];
} fc_panel_tiles;
typedef struct {
    int64_t lanes, rows, vectors, most_step; /* the largest with which `copy` takes samples from vectors */
    fc_panel_tiles tiles;
    void (*spread)(const void *x, int64_t count, void *to, int64_t ld);
    void (*copy)(const void *x, int64_t x_c, int64_t step, int64_t rows, void *to);
    void (*gather)(const void *x, int64_t x_c, int64_t step, const fc_panel_piece *pieces, int64_t count,
                   int64_t rows, void *to);
    int64_t (*pixels)(const void *x, int64_t x_c, const fc_panel_lanes *lanes, int64_t shift, int64_t limit, uint64_t live,
                    int64_t rows, void *to);
    int64_t (*fours)(const void *x, int64_t x_c, const fc_panel_lanes *lanes, int64_t shift, int64_t limit, uint64_t live,
                     int64_t rows, void *to); /* NULL where it does not pay */
    void (*line)(const void *x, int64_t step, int64_t low, int64_t high, int64_t count, void *to);
    void (*weave)(int64_t phases, int64_t rows, const void *sums, int64_t ld, int64_t row, int64_t begin, int64_t end,
                  int64_t more, void *y, int64_t step, int64_t ldy);
    const fc_panel_tiles *vnni; /* other tiles, where fc_has_vnni, or NULL */
} fc_panels;

/* sum: to[j] = add[0] + sum over t < taps of from[offset[t] + j] for j < count, which is rounded up to whole vectors. */
typedef struct {
    int64_t lanes;
    void (*sum)(int64_t taps, const int64_t *offset, const void *from, const void *add, int64_t count, void *to);
} fc_col2im;

/* Whether this processor has AVX-512 VNNI, and may use it: that is allowed, but for tests of what others do. */
int fc_has_vnni(void);
int fc_allow_vnni(int allowed);

static inline const fc_panel_tiles *fc_tiles_of(const fc_panels *panels)
{
    return panels->vnni && fc_has_vnni() ? panels->vnni : &panels->tiles;
}

/* y[i][j] = bias + sum over t < taps of w[t] * x[i + t][j] for i < outputs <= rows, j < count. Rows of
 * x may lie anywhere and overlap; one that is NULL is left out. No y overlaps an x.
 * along: y[j] = bias + sum over t < taps of w[t] * x[j + t*step] for j < count, and a vector of x may be
 * read behind the last sample used.
 * Where x and y are of one floating type:
 * box: the same as run for equal weights w and outputs <= taps; ends is scratch, FC_BOX_VECTORS vectors a tap.
 * box_along: along for equal weights, of as many rows as a vector has lanes, whose samples x[j] lie side by
 * side; ends is scratch, 2 * taps * step vectors. */
enum { FC_BOX_VECTORS = 4 };
typedef struct {
    int64_t rows;
    void (*run)(int64_t taps, int64_t outputs, const void *w, const void *const *x, int64_t count,
                double bias, void *const *y);
    void (*along)(int64_t taps, const void *w, const void *x, int64_t step, int64_t count, double bias,
                  void *y);
    void (*box)(int64_t taps, int64_t outputs, double w, const void *const *x, int64_t count, double bias,
                void *const *y, void *ends);
    void (*box_along)(int64_t taps, double w, const void *x, int64_t step, int64_t count, double bias,
                      void *y, void *ends);
} fc_rows;

/* A filter of bytes with weights that have no sign, in float, and their sum. Sums, of less than 2^16, are off by
 * `near` at most. */
typedef struct {
    int64_t taps;
    const float *w;
    float near;
    double total;
} fc_cut_filter;

/* Vectors of outputs, each by its row and its first column; found->count is how many. */
typedef struct {
    int64_t count;
    int32_t *row, *column;
} fc_suspects;

/* Such filters, cut to bytes: y[i][j] = the whole part of sum over t < taps of w[t] * x[i + t][j], modulo 256, for
 * j < count, at least `least`. Vectors (of floats) of outputs of which float sums leave that in doubt are appended to `found`, for
 * the caller to make anew; some twice.
 * down: of 1 or `rows` outputs i. A row of x that is NULL is left out.
 * along: x[i + t][j] is x[j + t*step], in float, and a vector of x may be read behind the last sample used. */
typedef struct {
    int64_t rows, least;
    void (*down)(const fc_cut_filter *f, int64_t outputs, const void *const *x, int64_t count, void *const *y,
                 fc_suspects *found);
    void (*along)(const fc_cut_filter *f, const void *x, int64_t step, int64_t count, void *y, fc_suspects *found);
} fc_cut;

/* n / q towards zero. Of n that fits 16 bits it is (n * multiplier >> 16) >> shift, unless multiplier is 0, where q has no
 * such form. divisor 0: there is no quotient. */
typedef struct {
    uint16_t multiplier, shift;
    int32_t divisor;
} fc_quotient;

/* Added to the shift of a quotient that may be one too small, which the remainder shows: of sums of 32 bits from
 * FC_BOX_PLAIN on, and of multipliers that leave a rest. */
enum { FC_MENDS = 1 << 8, FC_BOX_PLAIN = 1 << 21 };

/* Means of `taps` whole numbers, in sums of `bytes` bytes that hold any of them: up to FC_BOX_TAPS of bytes in 16 bits,
 * FC_BOX_TAPS_I32 of up to 16 bits in 32. y[j] is of x's type, modulo 2^bits.
 * widen: sums[j] = x[j] for j < count.
 * add: sums[j] += x[j].
 * slide: the same of `enters`; y[j] = sums[j] / q; then sums[j] -= leaves[j].
 * along: y[j] = (sum over t < taps of row[j + t*step]) / q for j < count; row is widened. It is overwritten, and so is up to
 *     a vector behind it and behind count elements of sums, which is scratch; up to 4 vectors behind are read. */
enum { FC_BOX_TAPS = 257, FC_BOX_TAPS_I32 = 32768 };
typedef struct {
    int64_t bytes;
    void (*widen)(int64_t count, const void *x, void *sums);
    void (*add)(int64_t count, const void *x, void *sums);
    void (*slide)(int64_t count, const void *enters, const void *leaves, void *sums, fc_quotient q, void *y);
    void (*along)(int64_t taps, int64_t step, int64_t count, void *row, void *sums, fc_quotient q, void *y);
} fc_box;

/* What is stored in integers and summed in floats of `T`, float or double.
 * widen: y[j] = x[j] for j < count.
 * cut:   y[j] = sums[j] cut towards zero, modulo 2^bits, NaN and Inf as 0, from j = begin on. Stops
 *        before the first vector with a sum that lies within `near` of a whole number, and returns its
 *        beginning, or that of the tail. Negative: cuts them all, some at a time, and returns
 *        where to go on.
 * exact: one such vector from its products: y[j] = sum over t < taps of w[t] * x[t][j], in double, cut,
 *        for at most `lanes` j; x is what is stored if in_x, else T. */
typedef struct {
    int64_t lanes;
    void (*widen)(const void *x, int64_t count, void *y);
    int64_t (*cut)(const void *sums, int64_t begin, int64_t count, double near, void *y);
    void (*exact)(int64_t taps, const double *w, const void *const *x, int in_x, int64_t begin,
                  int64_t count, double bias, void *y);
} fc_stored;

/* Integers of 8 and 16 bits, and sums of 32. `of` is U8, I8, U16 or I16.
 * join: to[j] = x[j*step] - zero, and in the upper half y[j*step] - zero, or 0 where y is NULL, for j < count.
 * quads: byte i of to[j] is x[i][j*step], for j < count; then `flip` is exclusively or'ed to to[j].
 * cut: y[j] = sums[j] modulo 2^(8 bytes), for j < count.
 * quantize: y[j] = sums[j] * scale, in float, rounded to even, plus zero, at least and at most what `to`, U8 or I8, holds.
 * quantize_lanes: the same, with a scale of each of so many lanes as a vector of 32-bit words has, in turn. */
typedef struct {
    void (*join)(fc_dtype of, const void *x, const void *y, int64_t step, int64_t count, int64_t zero, void *to);
    void (*quads)(const void *const *x, int64_t step, int64_t count, uint32_t flip, void *to);
    void (*cut)(int64_t bytes, const void *sums, int64_t count, void *y);
    void (*quantize)(fc_dtype to, const void *sums, int64_t count, float scale, int64_t zero, void *y);
    void (*quantize_lanes)(fc_dtype to, const void *sums, int64_t count, const float *scale, int64_t zero, void *y);
} fc_pairs;

/* Winograd's F(2x2, 3x3) of integers two by two, as fc_pairs joins them: lanes are tiles, points i*4 + j lie `ld` apart.
 * split: even[t] = x[2t], odd[t] = x[2t + 1] for t < count.
 * input: to[(i*4 + j)*ld + t] = (B' d B)[i][j] for t < count, d[r][0 .. 3] = even[r][t], odd[r][t], even[r][t + 1], odd[r][t + 1].
 * output: y[r][2t + s] = (A' v A)[r][s] / 4 + bias for t < count, of v[(i*4 + j)*ld + t].
 * They read and write up to a whole vector. */
typedef struct {
    int64_t lanes;
    void (*split)(const void *x, int64_t count, void *even, void *odd);
    void (*input)(void *const *even, void *const *odd, int64_t count, void *to, int64_t ld);
    void (*output)(const void *v, int64_t ld, int64_t count, uint32_t bias, void *const *y);
} fc_winograd_pairs;

/* How a circle of n samples is transformed: stages of radix[s] = 2, 3, 4 or 5, whose product is n. The
 * factors of a stage on blocks of m = radix q are w_m^(ij), [q - 1][radix - 1][2], for 0 < j < q and
 * 0 < i < radix; those of all stages follow each other, factor_count complex numbers. */
enum { FC_FFT_STAGES = 16 };
typedef struct {
    int64_t n, stages, factor_count;
    int32_t radix[FC_FFT_STAGES];
    const void *factors;
} fc_fft_line;

/* Transforms on vectors of `lanes` lanes; the formulas are in kernels/fft.c. Samples are complex, a vector
 * of real parts and one of imaginary parts, unless another form is said.
 *
 * forward, inverse: of z[n], in place; the inverse is n times that.
 * across: forward of `count` neighbouring samples, along an axis whose steps are `pitch` elements; buffer
 *     holds n samples. across_back: inverse.
 * load: z[i] = (a[i][at + lane], b[i][at + lane]) for i < n, or, where b is NULL, complex numbers of a;
 *     times weights[i], a complex number each, where these are not NULL. peak[0] becomes the larger of itself and the size of each part, peak[1] NaN if one is not finite.
 * turn: sample l of z + k/lanes*pitch, lane k % lanes, is buffer[k] of lane l times near[k] times
 *     far[k], a vector and a number a line, where these are not NULL, for k < n. turn_back: the reverse,
 *     with conjugate factors.
 * store: part 0 or 1 of z[i], times the conjugate of weights[i] where these are not NULL, or 2 for both as a
 *     complex number, to rows[i] from column `at` on, as far as counts[i] columns reach. Those of size at most `limit`, in either part, are appended to suspects as
 *     i * width + column, as far as `most` reaches; returns found, and how many more these are.
 * multiply: sum[i] = z[i] h[i] for i < count, plus sum[i] when `accumulate`. */
typedef struct {
    int64_t lanes;
    void (*forward)(const fc_fft_line *line, void *z);
    void (*inverse)(const fc_fft_line *line, void *z);
    void (*across)(const fc_fft_line *line, void *z, int64_t pitch, int64_t count, void *buffer);
    void (*across_back)(const fc_fft_line *line, void *z, int64_t pitch, int64_t count, void *buffer);
    void (*load)(int64_t n, const void *const *a, const void *const *b, const void *weights, int64_t at,
                 void *z, void *peak);
    void (*turn)(int64_t n, const void *buffer, const void *near, const void *far, void *z,
                 int64_t pitch);
    void (*turn_back)(int64_t n, const void *z, int64_t pitch, const void *near, const void *far,
                      void *buffer);
    int64_t (*store)(int64_t n, const void *z, const void *weights, int64_t part, void *const *rows,
                     const int64_t *counts, int64_t at, double limit, int64_t width, int32_t *suspects,
                     int64_t found, int64_t most);
    void (*multiply)(int64_t count, const void *z, const void *h, int64_t accumulate, void *sum);
} fc_fft;
/* y[f] = sum over j < count of x[j*ldx + 2f] * w[j*ldw + 2f] for f < bins, complex numbers of two elements
 * each; nothing else is read or written. */
typedef struct {
    void (*run)(int64_t count, int64_t bins, const void *x, int64_t ldx, const void *w, int64_t ldw, void *y);
} fc_spectra;

/* Scores of windows; the formulas are in kernels/scores.c.
 *
 * down: sums[t*ldy + i] = sum over r < taps of x[(t + r)*ldx + i] for t < outputs <= taps, i < count, and
 *     squares likewise of x^2, or these added to what is there.
 * along: y[i] = sum over s < taps of x[i + s] for i < count; x is overwritten.
 * score: y[i] of products[i] and of sums[c][i], the last of them those of squares; float when `narrow`. A
 *     spread of at most `share` of q, or `least`, is none, and scores 0. Whether any other product is to be
 *     divided by less than `limit`.
 * total: the sum of samples, bytes, floats or doubles, in an order that is every instruction set's.
 * centre: y = x - mean; the largest of abs(y), NaN left out. */
typedef struct {
    double each, norm; /* 1 / N; root of the sum of the template's squares */
    double share, least, limit;
} fc_score_rule;
typedef struct {
    void (*down)(int64_t count, int64_t taps, int64_t outputs, const double *x, int64_t ldx, int add,
                 double *sums, double *squares, int64_t ldy);
    void (*along)(int64_t taps, int64_t count, double *x, double *y);
    int (*score)(int64_t count, int64_t channels, const double *const *sums, const double *products,
                 const fc_score_rule *rule, int narrow, void *y);
    double (*total)(fc_dtype of, int64_t count, const void *x);
    double (*centre)(fc_dtype of, int64_t count, const void *x, double mean, double *y);
} fc_scores;

/* The same of bytes, in whole numbers; sums have less than 2^31.
 *
 * slide: sums[i] += x[i] - before[i] and squares[i] += x[i]^2 - before[i]^2 for i < count; before may be NULL.
 * along: as above.
 * score: y[i] = (n products[i] - sum over c of total[c] sums[c][i]) / (norm root of (n squares[i] - sum over c of
 *     sums[c][i]^2)), 0 where that root is, for i < count; sums[channels] are squares. */
typedef struct {
    double n, norm;      /* samples of a window; root of n times the template's squares less those of its sums */
    const double *total; /* the template's sum of each channel */
} fc_byte_rule;
typedef struct {
    void (*slide)(int64_t count, const uint8_t *x, const uint8_t *before, int32_t *sums, int32_t *squares);
    void (*along)(int64_t taps, int64_t count, int32_t *x, int32_t *y);
    void (*score)(int64_t count, int64_t channels, const int32_t *const *sums, const int32_t *products,
                  const fc_byte_rule *rule, float *y);
} fc_byte_scores;

/* Bytes of a row four by four; the formula is in kernels/quad_rows.c. Of outputs `down` rows of x apart, whose windows begin
 * 1 or 2 samples apart: strides[0] and [1]. A tile has rows of x of `line` + 4 quads samples; w has down (rows - 1) rows of
 * zeros before and after the r of each plane. */
typedef struct {
    int64_t planes, r, quads, down;
    const uint8_t *x;
    int64_t plane, ldx;
    const uint32_t *w;
    uint32_t start;
    uint32_t *y; /* [rows][line / stride] */
} fc_quad_rows_block;
typedef struct {
    int64_t rows, line;
    void (*run[2][2])(const fc_quad_rows_block *); /* by stride less 1; [1]: w has signs and x has none; [0] the reverse */
} fc_quad_rows;

/* The same of `lanes` channels at once, whose bytes of a sample lie side by side; the formula is in kernels/quad_lanes.c. `run` makes
 * `rows` rows of outputs.
 * turn_in: to[place[i] + c] = x[c*x_c + i], or'ed exclusively with flip, for i < count and c < channels, and more for other c < lanes.
 * turn_out: y[c*y_k + i] = x[i*lanes + c], elements of 1, 2 or 4 bytes; 64 samples beyond the last may be read. */
typedef struct {
    int64_t r, quads, u, v, columns; /* kernel rows, quads of its columns; strides; outputs of a row */
    const uint8_t *x;
    int64_t ldx;
    const uint32_t *w, *start;
    uint32_t *y;
} fc_quad_lanes_block;
typedef struct {
    int64_t lanes, rows;
    void (*turn_in)(int64_t channels, int64_t count, const uint8_t *x, int64_t x_c, uint8_t flip, const int32_t *place,
                    uint8_t *to);
    void (*run[2])(const fc_quad_lanes_block *); /* [1]: w has signs and x has none; [0] the reverse */
    void (*turn_out)(int64_t bytes, int64_t channels, int64_t count, const void *x, void *y, int64_t y_k);
} fc_quad_lanes;

/* Sums of products of tiles by AMX, or by C that does what it is documented to do; the formulas are in kernels/amx.c. A
 * tile is 16 rows of 64 bytes: x has a row a pixel, 32 channels of it; w a row a pair of channels, those of 16 filters;
 * sums a row a pixel, 16 filters. `across` it is the other way round: x has a row a pair of channels, those of 16 pixels; w a
 * row a filter, sums a row a filter. Steps, rows and parts are in bytes.
 *
 * A block sums `steps` steps of 32 channels at a tap: x + offset[step] is the first pixel, the others follow (across: the
 * next pair of channels lies x_row on), the next part of the operands lies x_part on; w is [step][part][tile of filters];
 * sums are [tile of pixels][2 tiles of filters], of tiles whose rows lie sum_row apart.
 *
 * split_pairs: y[part][i] = the parts of a[i] and b[i] as a pair of bfloat16, for i < 16; what parts are not finite are NaN.
 * split: the same of `channels` <= 32 channels x_c apart, 0 beyond: y[part][i] is the row of pixel x[i*step], for i < count.
 *     `seen` takes the samples in. Channels side by side (x_c 1) are not turned.
 * split_across: y[part][i] = the parts of a[i*step] and b[i*step], 0 where b is NULL, as a pair, for i < count.
 *     Both [0] of float, and [1] of float16, of whose samples other than 0 none counts as larger than the least there is.
 * join, join_across: these of samples that are bfloat16, in one part, as they are.
 * weave: y[i*channels + c] = x[i*step + c*x_c], elements of 2 or 4 bytes, for i < count and c < channels < 32. Up to 128 bytes
 *     beyond the last may be written.
 * store: y[filter*y_k + run.to + i*step] = sum of filter and pixel run.first + i of a block for i < run.count, plus what is
 *     there where `accumulate`. If there are limits and any sum is not finite, or not above its filter's limit in size, 1 is
 *     returned, else the bias is added. Sums may be turned in place.
 * narrow: store, where nothing is accumulated, of sums rounded to [0] float16 or [1] bfloat16, to nearest even.
 * enter: this thread's tiles become 8 of full size; leave: what they were before. */
enum { FC_AMX_SIDE = 16, FC_AMX_CHANNELS = 32, FC_AMX_TILE = 1024, FC_AMX_PARTS = 3 };
typedef struct {
    int64_t pixels, filters, products, steps; /* tiles, 1 or 2, of pixels and filters; 1, 3, 4 or 6 products */
    const int64_t *offset;
    const char *x, *w;
    int64_t x_part, x_row;
    void *sums; /* float, or int32 */
    int64_t sum_row;
    int across;
} fc_amx_block;
typedef struct {
    uint32_t least, most; /* bits of the smallest size but 0, less 1, and of the largest */
} fc_amx_range;
typedef struct {
    int64_t to;
    int32_t tile, row, column; /* of the first pixel; of tiles, or of pairs of them */
    int16_t first, count;      /* pixels of these */
} fc_amx_run;
typedef struct {
    float *sums;
    int64_t pixel_step, filter_step; /* from a tile of pixels, or filters, to the next */
    int64_t tiles, filters, count;   /* tiles of pixels, up to 2; filters, up to 32; runs */
    const fc_amx_run *runs;
    int64_t step, y_k;
    const float *bias, *limit; /* of the filters, or NULL; limits are 32, and none: all sums are right */
    int across, accumulate, last; /* not the last: sums are stored as they are */
    int hardware;                 /* tiles are the processor's, which then rounds to bfloat16, too */
} fc_amx_sums_f32;
typedef struct {
    uint8_t config[64];
} fc_amx_state;
typedef struct {
    void (*emulated)(const fc_amx_block *);
    void (*hardware)(const fc_amx_block *); /* NULL where this build has none, as are the next two */
    void (*enter)(fc_amx_state *before);
    void (*leave)(const fc_amx_state *before);
    void (*split_pairs)(const float *a, const float *b, int64_t parts, char *y, int64_t y_part);
    void (*split[2])(int64_t count, const void *x, int64_t step, int64_t channels, int64_t x_c, int64_t parts, char *y,
                     int64_t y_part, fc_amx_range *seen);
    void (*split_across[2])(int64_t count, const void *a, const void *b, int64_t step, int64_t parts, char *y, int64_t y_part,
                            fc_amx_range *seen);
    void (*join)(int64_t count, const uint16_t *x, int64_t step, int64_t channels, int64_t x_c, char *y, fc_amx_range *seen);
    void (*weave)(int64_t count, int64_t channels, const void *x, int64_t step, int64_t x_c, int64_t bytes, void *y);
    void (*join_across)(int64_t count, const uint16_t *a, const uint16_t *b, int64_t step, char *y, fc_amx_range *seen);
    int (*store)(const fc_amx_sums_f32 *sums, float *y);
    int (*narrow[2])(const fc_amx_sums_f32 *sums, uint16_t *y);
} fc_amx;

/* The same of integers of 8 bits, [whether x is signed][whether w is], whose sums of 32 bits wrap. A row of x is 64 channels
 * of a pixel, one of w 4 channels of 16 filters; blocks are of one product, and of hardware or NULL as amx_bf16 has them.
 *
 * gather: the rows of x of pixels i < count, y[i + i / width * gap], from x[i*step] of `channels` <= 64 channels x_c apart,
 *     0 beyond.
 * store: y[filter*y_k + run.to + i*step] = sum of filter and pixel run.first + i, plus bias, for i < run.count, as fc_pairs
 *     cuts or, with `scale`, quantizes it. */
enum { FC_AMX_BYTES = 64 };
typedef struct {
    const int32_t *sums;
    int64_t filters, count;
    const fc_amx_run *runs;
    int64_t step, y_k;
    const int32_t *bias; /* of 16 filters, as is scale, or that is NULL */
    const float *scale;
    int64_t zero;
    fc_dtype to;
} fc_amx_sums;
typedef struct {
    void (*emulated[2][2])(const fc_amx_block *);
    void (*hardware[2][2])(const fc_amx_block *);
    void (*gather)(int64_t count, const char *x, int64_t step, int64_t channels, int64_t x_c, int64_t width, int64_t gap,
                   char *y);
    void (*store)(const fc_amx_sums *tile, void *y);
} fc_amx_int8;

/* Winograd's transforms of tiles of m by m outputs, [m - 3], whose products are sums of fc_amx. Steps are in elements but for
 * those of u, in bytes. x has the 32 channels of a sample beside each other, v and z the 16 filters of a sum.
 *
 * lift: to[i*32 + c] = x[i*step + c*x_c] for i < count and c < channels <= 32, 0 for other c; peak[i] becomes the larger of
 *     itself and these in size, NaN the largest, and is read to a multiple of 16.
 * input: the row of part j, channels c and c + 16 a pair, of each point of the transform of the samples of a tile, to
 *     u + point*u_point + j*u_part.
 * output: z[i*z_row + j*z_column + k] = outputs of v[point*v_point + k]. Bit k of suspect[i*m + j] tells whether it is at most
 *     scale[k]*peak + limit[k] in size, or not finite; returns whether any is. */
typedef struct {
    void (*lift)(int64_t count, const float *x, int64_t step, int64_t channels, int64_t x_c, float *to, float *peak);
    void (*input[2])(const float *x, int64_t x_row, int64_t x_column, char *u, int64_t u_point, int64_t u_part);
    int (*output[2])(const float *v, int64_t v_point, const float *scale, const float *limit, float peak, float *z,
                     int64_t z_row, int64_t z_column, uint16_t *suspect);
} fc_amx_winograd;

/* NULL where tiles of AMX can be used, else why not. The first call asks the operating system for them and tries them. */
const char *fc_amx_absent(void);
const char *fc_amx_int8_absent(void);

/* Floats of 16 bits, [0] float16 and [1] bfloat16, from and to float: y[i] = x[i] for i < count, rounded to even. */
typedef struct {
    void (*widen[2])(const void *x, int64_t count, void *y);
    void (*narrow[2])(const void *x, int64_t count, void *y);
} fc_halves;

/* One table per ISA: FC_KERNEL(type, name) is a field here and a definition in kernels/. */
typedef struct fc_kernels {
    const char *isa;
#define FC_KERNEL(type, name) const type *name;
#include "kernels.inc"
#undef FC_KERNEL
} fc_kernels;

/* ISAs compiled in, best first; `usable` asks the processor and the operating system. */
typedef struct {
    const fc_kernels *kernels;
    int (*usable)(void);
} fc_isa;
extern const fc_isa fc_isas[];
extern const int64_t fc_isa_count;

#endif
