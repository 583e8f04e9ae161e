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
    FC_F32, FC_F64, FC_C64, FC_C128, FC_U8, FC_U16, FC_U32, FC_U64, FC_F80, FC_C160, FC_DTYPES
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
    fc_dtype dtype;
    fc_boundary boundary;
    double cval[2]; /* real and imaginary part of the constant beyond the ends */
    int64_t cval_i; /* the same for integers, which doubles cannot all hold */
} fc_problem;

#define FC_CONFIGS 6

/* Settings of a driver, in the order that its file states. */
typedef struct {
    int64_t v[FC_CONFIGS];
} fc_config;

struct fc_kernels;

typedef struct {
    const char *name;
    int64_t (*workspace_bytes)(const fc_problem *, const fc_config *, const struct fc_kernels *,
                               int64_t threads);
    int64_t (*packed_bytes)(const fc_problem *, const fc_config *, const struct fc_kernels *);
    void (*pack)(const fc_problem *, const fc_config *, const struct fc_kernels *, const void *w,
                 void *packed);
    void (*run)(const fc_problem *, const fc_config *, const struct fc_kernels *, const void *x,
                const void *packed, const void *bias, void *y, void *workspace, int64_t threads);
} fc_driver;

/* BLAS, set once at import from scipy's. Fortran conventions; never called in a parallel region. */
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

/* ---- geometry shared by drivers --------------------------------------------------------------*/

/* Index into an axis of x of padded, dilated position t (0 is the first padding sample), or -1
 * where the constant or a dilation zero stands. */
int64_t fc_source(const fc_problem *p, int64_t axis, int64_t t);

static inline int64_t fc_dtype_bytes(fc_dtype t)
{
    static const int8_t bytes[FC_DTYPES] = {
        4, 8, 8, 16, 1, 2, 4, 8, (int8_t)sizeof(long double), (int8_t)(2 * sizeof(long double))};
    return bytes[t];
}

static inline int64_t fc_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t fc_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t fc_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t fc_round_up(int64_t a, int64_t b) { return fc_ceil_div(a, b) * b; }

/* Product of the sizes of `dims` axes. */
static inline int64_t fc_volume(const int64_t *sizes, int64_t dims)
{
    int64_t v = 1;
    for (int64_t d = 0; d < dims; d++) v *= sizes[d];
    return v;
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

#define FC_TILE_SIZES 3

/* Register tiles of one dtype, most rows first; the last has one row. */
typedef struct {
    fc_tile by_rows[FC_TILE_SIZES];
} fc_tiles;

/* Winograd F(m x m, 3 x 3) on `columns` tiles at once; a = m + 2 points a side.
 * input:  u[(i*a + j)][t] = (B' d B)[i][j] of the tile at position t, d[i][j] at
 *         x[offset[i*a + j] + t]; u has row stride ldu.
 *         peak[t] = max(peak[t], abs(d)) and NaN when any d is not finite.
 * output: z[(i*m + j)][t] = (A' v A)[i][j]; v has row stride ldv, z row stride `columns`. */
typedef struct {
    int64_t m, columns;
    void (*input)(const void *x, const int64_t *offset, void *u, int64_t ldu, void *peak);
    void (*output)(const void *v, int64_t ldv, void *z);
    /* w[r][s] of one filter and channel, contiguous -> (G w G')[i][j], in double precision */
    void (*filter)(const double *w, double *u);
} fc_winograd;

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
