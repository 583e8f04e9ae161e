/* im2col: y[k][column] = bias[k] + sum over taps of w[k][tap] * x[tap][column], a matrix product.
 *
 * Column (n, o) of the im2col matrix holds the window of output o of image n; it is made a tile of
 * nc columns by kc taps at a time, and each tile is one call of BLAS. Columns run on across images,
 * so that many small outputs (gradients of weights) still make large products. A 1x1 kernel on
 * dense x needs no tile: x is the matrix. Where the kernel is wider than the outputs (gradients
 * again) the transpose of the tile is made, whose rows are runs along the kernel.
 *
 * One unit of work is a group's tile, on one thread, whose calls of BLAS must be single-threaded: the
 * caller sees to that. Two pools that take turns wait for each other; a 3x3 layer took 16 to 200
 * times as long on two threads when BLAS brought its own.
 *
 * Settings: v[0] bytes of a tile aimed at, v[1] taps kc of a block, v[2] tiles that an image is cut into
 * at least, or 0: one a thread. BLAS rounds otherwise in tiles of other widths.
 * Packed: per group and block of kc taps, weights [filter][tap].
 *
 * Chellapilla, Puri and Simard, High Performance Convolutional Neural Networks for Document
 * Processing, IWFHR 2006, section 3 (unrolling into a matrix product).
 */
#include <string.h>

#include "phase.h"

typedef struct {
    const fc_problem *p;
    fc_problem swapped; /* stride and dilation of the last axis exchanged */
    int64_t bytes, taps, kernel, outputs; /* outputs of one image */
    int64_t kc, nc, tiles; /* tiles of a group */
    int in_place;  /* x is the matrix */
    int by_column; /* a tile is filled column by column, along the taps */
    int into_y;    /* BLAS writes y, a tile stays within one image */
    int64_t tile_bytes, sum_bytes;
} geometry;

/* Whether the spatial axes of an array lie dense and in C order. */
static int dense(const int64_t *strides, const int64_t *sizes, int64_t dims)
{
    int64_t expected = 1;
    for (int64_t d = dims - 1; d >= 0; d--) {
        if (sizes[d] != 1 && strides[d] != expected) return 0;
        expected *= sizes[d];
    }
    return 1;
}

/* Leading dimensions are BLAS's 32-bit integers. */
static int fits_blas(int64_t stride, int64_t columns) { return stride >= columns && stride <= INT32_MAX; }

static void plan_geometry(const fc_problem *p, const fc_config *config, int64_t threads,
                          geometry *s)
{
    s->p = p;
    s->swapped = *p;
    s->swapped.stride[p->dims - 1] = p->dilation[p->dims - 1];
    s->swapped.dilation[p->dims - 1] = p->stride[p->dims - 1];
    s->bytes = fc_dtype_bytes(p->dtype);
    s->kernel = fc_volume(p->ker, p->dims);
    s->taps = p->c * s->kernel;
    s->outputs = fc_volume(p->out, p->dims);
    s->kc = fc_min(s->taps, config->v[1]);
    s->into_y = s->outputs >= 64 && dense(p->y_s, p->out, p->dims) && fits_blas(p->y_k, s->outputs);
    s->in_place = s->into_y && s->kernel == 1 && dense(p->x_s, p->in, p->dims) &&
                  fits_blas(p->x_c, s->outputs);
    for (int64_t d = 0; d < p->dims; d++)
        s->in_place &= p->in[d] == p->out[d] && p->stride[d] == 1 && p->pad[d] == 0;
    /* runs of consecutive elements are as long as the last axis of the outputs, or of the kernel */
    s->by_column = !s->in_place && p->ker[p->dims - 1] > p->out[p->dims - 1];
    /* columns that one tile may have: of an image, or of all; a tile for every thread if possible;
     * multiples of 16 keep BLAS's own register tiles full */
    const int64_t images = s->into_y ? p->n : 1, columns = p->n * s->outputs / images;
    const int64_t parts = config->v[2] ? config->v[2] : threads;
    const int64_t share = fc_ceil_div(columns, fc_ceil_div(parts, p->g * images));
    const int64_t aimed = fc_max(config->v[0] / (s->kc * s->bytes), 16);
    s->nc = fc_min(fc_round_up(fc_min(aimed, share), 16), columns);
    s->tiles = fc_ceil_div(columns, s->nc) * images;
    s->tile_bytes = fc_round_up(s->kc * s->nc * s->bytes, FC_ALIGN);
    s->sum_bytes = fc_round_up(p->k * s->nc * s->bytes, FC_ALIGN);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    (void)kernels;
    geometry s;
    /* strides are not known yet, and zero ones here: tiles of all images, the larger way */
    plan_geometry(p, config, threads, &s);
    return threads * (s.tile_bytes + s.sum_bytes);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    (void)config, (void)kernels;
    return p->g * p->k * p->c * fc_volume(p->ker, p->dims) * fc_dtype_bytes(p->dtype);
}

typedef struct {
    const geometry *s;
    const char *w;
    char *packed;
} packing;

/* A filter of all groups. */
static void pack_filter(void *context, int64_t filter, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const geometry *const s = a->s;
    const fc_problem *const p = s->p;
    const int whole = dense(p->w_s, p->ker, p->dims) && (p->w_c == s->kernel || p->c == 1);
    const int64_t g = filter / p->k, k = filter % p->k;
    for (int64_t first = 0; first < s->taps; first += s->kc) {
        const int64_t count = fc_min(s->kc, s->taps - first);
        char *to = a->packed + ((g * s->taps + first) * p->k + k * count) * s->bytes;
        if (whole) {
            memcpy(to, a->w + (filter * p->w_k + first) * s->bytes, (size_t)(count * s->bytes));
            continue;
        }
        for (int64_t tap = first; tap < first + count; tap++, to += s->bytes) {
            int64_t rest = tap % s->kernel;
            int64_t at = filter * p->w_k + tap / s->kernel * p->w_c;
            for (int64_t d = p->dims - 1; d >= 0; d--) {
                at += rest % p->ker[d] * p->w_s[d];
                rest /= p->ker[d];
            }
            memcpy(to, a->w + at * s->bytes, (size_t)s->bytes);
        }
    }
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, 1, &s);
    packing a = {&s, w, packed};
    const int64_t bytes = packed_bytes(p, config, kernels);
    fc_parallel(p->g * p->k, fc_pack_threads(bytes, threads), pack_filter, &a);
}

/* An output run of one image: its columns, and where it lies. */
static int64_t next_run(const geometry *s, int64_t column, int64_t end, int64_t *n, int64_t *o)
{
    const fc_problem *p = s->p;
    int64_t rest = column % s->outputs;
    *n = column / s->outputs;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        o[d] = rest % p->out[d];
        rest /= p->out[d];
    }
    return fc_min(end - column, p->out[p->dims - 1] - o[p->dims - 1]);
}

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const void *x, *packed;
    const fc_epilogue *epilogue;
    void *y;
    char *workspace;
} job;

/* One tile: columns [column, column + columns) of group g, and its buffer. */
typedef struct {
    int64_t g, column, columns;
    char *matrix;
} tile;

/* Row `row` of a tile: one tap of every column. */
static void fill_tap(const job *j, const tile *t, int64_t tap, int64_t row)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1;
    int64_t r[FC_DIMS];
    for (int64_t d = last, rest = tap % s->kernel; d >= 0; d--) {
        r[d] = rest % p->ker[d];
        rest /= p->ker[d];
    }
    const int64_t c = t->g * p->c + tap / s->kernel;
    char value[16], *to = t->matrix + row * t->columns * s->bytes;
    const int complex_x = p->dtype == FC_C64 || p->dtype == FC_C128;
    const int64_t real = complex_x ? s->bytes / 2 : s->bytes;
    fc_phase_value(p, 0, real, value);
    if (complex_x) fc_phase_value(p, 1, real, value + real);
    const int64_t end = t->column + t->columns;
    int64_t n, o[FC_DIMS], count = next_run(s, t->column, end, &n, o);
    for (int64_t column = t->column;;) {
        int64_t inside = 1;
        const char *from = (const char *)j->x + (n * p->x_n + c * p->x_c) * s->bytes;
        for (int64_t d = 0; d < last; d++) {
            const int64_t source = fc_source(p, d, o[d] * p->stride[d] + r[d] * p->dilation[d]);
            inside &= source >= 0;
            from += source * p->x_s[d] * s->bytes;
        }
        if (inside)
            fc_phase_row(p, last, r[last] * p->dilation[last], o[last], count, from, 1, 1, value,
                         s->bytes, to);
        else
            fc_phase_fill_value(to, count, value, s->bytes);
        column += count;
        if (column >= end) return;
        to += count * s->bytes;
        /* the next run begins a row: counting up is several times quicker than dividing */
        o[last] = 0;
        int64_t d = last - 1;
        while (d >= 0 && ++o[d] == p->out[d]) o[d--] = 0;
        n += d < 0;
        count = fc_min(end - column, p->out[last]);
    }
}

/* Column `column` of a tile, as a row of its transpose: `taps` taps from the first. Along the last
 * axis of the kernel, outputs and taps have changed places, and so have stride and dilation. */
static void fill_column(const job *j, int64_t g, int64_t column, int64_t tap, int64_t taps, char *to)
{
    const geometry *s = j->s;
    const fc_problem *p = &s->swapped;
    const int64_t last = p->dims - 1, end = tap + taps;
    int64_t n, o[FC_DIMS], r[FC_DIMS];
    next_run(s, column, column + 1, &n, o);
    char value[16];
    const int complex_x = p->dtype == FC_C64 || p->dtype == FC_C128;
    const int64_t real = complex_x ? s->bytes / 2 : s->bytes;
    fc_phase_value(p, 0, real, value);
    if (complex_x) fc_phase_value(p, 1, real, value + real);
    for (int64_t count; tap < end; tap += count, to += count * s->bytes) {
        for (int64_t d = last, rest = tap % s->kernel; d >= 0; d--) {
            r[d] = rest % p->ker[d];
            rest /= p->ker[d];
        }
        count = fc_min(end - tap, p->ker[last] - r[last]);
        int64_t inside = 1;
        const char *from =
            (const char *)j->x + (n * p->x_n + (g * p->c + tap / s->kernel) * p->x_c) * s->bytes;
        for (int64_t d = 0; d < last; d++) {
            const int64_t source = fc_source(p, d, o[d] * p->stride[d] + r[d] * p->dilation[d]);
            inside &= source >= 0;
            from += source * p->x_s[d] * s->bytes;
        }
        if (inside)
            fc_phase_row(p, last, o[last] * p->dilation[last], r[last], count, from, 1, 1, value,
                         s->bytes, to);
        else
            fc_phase_fill_value(to, count, value, s->bytes);
    }
}

/* c[k][column] (+)= sum over tap of w[k][tap] * matrix[tap][column], all row-major: BLAS, which is
 * column-major, sees the transposes and the factors in the other order. */
static void multiply(fc_dtype dtype, int64_t rows, int64_t columns, int64_t taps, const void *w,
                     const void *matrix, int transposed, int64_t ld, void *c, int64_t ld_c, int add)
{
    float one_f[2] = {1, 0}, beta_f[2] = {(float)add, 0};
    double one_d[2] = {1, 0}, beta_d[2] = {(double)add, 0};
    int m = (int)columns, n = (int)rows, k = (int)taps, lda = (int)ld, ldc = (int)ld_c;
    char no = 'N', *of = transposed ? "T" : "N";
    void *a = (void *)matrix, *b = (void *)w;
    switch (dtype) {
    case FC_F32: fc_blas_table.sgemm(of, &no, &m, &n, &k, one_f, a, &lda, b, &k, beta_f, c, &ldc); break;
    case FC_F64: fc_blas_table.dgemm(of, &no, &m, &n, &k, one_d, a, &lda, b, &k, beta_d, c, &ldc); break;
    case FC_C64: fc_blas_table.cgemm(of, &no, &m, &n, &k, one_f, a, &lda, b, &k, beta_f, c, &ldc); break;
    default: fc_blas_table.zgemm(of, &no, &m, &n, &k, one_d, a, &lda, b, &k, beta_d, c, &ldc); break;
    }
}

/* Writes one element plus bias; complex elements are two real ones. */
static void store_run(const fc_problem *p, const char *from, int64_t count, const char *bias, char *to,
                      int64_t step)
{
    const int64_t bytes = fc_dtype_bytes(p->dtype);
    const int64_t parts = p->dtype == FC_C64 || p->dtype == FC_C128 ? 2 : 1;
    for (int64_t j = 0; j < count; j++, from += bytes, to += step * bytes)
        for (int64_t part = 0; part < parts; part++) {
            if (bytes / parts == 4)
                ((float *)to)[part] = ((const float *)from)[part] + (bias ? ((const float *)bias)[part] : 0);
            else
                ((double *)to)[part] = ((const double *)from)[part] + (bias ? ((const double *)bias)[part] : 0);
        }
}

/* fc_finish of a run at y[at], in elements of y. */
static void finish(const job *j, int64_t at, int64_t count, int64_t step)
{
    const int64_t parts = j->s->p->dtype == FC_C64 || j->s->p->dtype == FC_C128 ? 2 : 1;
    for (int64_t part = 0; part < parts; part++)
        fc_finish(j->s->p, j->kernels, j->epilogue, j->y, at * parts + part, count, step * parts);
}

static void store_tile(const job *j, const tile *t, const char *sums)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t end = t->column + t->columns;
    for (int64_t k = 0; k < p->k; k++) {
        const int64_t filter = t->g * p->k + k;
        const char *bias = j->epilogue->bias;
        if (bias) bias += filter * s->bytes;
        for (int64_t column = t->column, count; column < end; column += count) {
            int64_t n, o[FC_DIMS];
            count = next_run(s, column, end, &n, o);
            int64_t at = n * p->y_n + filter * p->y_k;
            for (int64_t d = 0; d < p->dims; d++) at += o[d] * p->y_s[d];
            store_run(p, sums + (k * t->columns + column - t->column) * s->bytes, count, bias,
                      (char *)j->y + at * s->bytes, p->y_s[p->dims - 1]);
            finish(j, at, count, p->y_s[p->dims - 1]);
        }
    }
}

static void run_tile(void *context, int64_t index, int64_t slot)
{
    const job *j = context;
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t g = index / s->tiles, all = s->into_y ? s->outputs : p->n * s->outputs;
    const int64_t per_image = fc_ceil_div(all, s->nc), place = index % s->tiles;
    const int64_t n = place / per_image, at = place % per_image * s->nc; /* n is 0 across images */
    char *const matrix = j->workspace + slot * (s->tile_bytes + s->sum_bytes);
    const tile t = {g, n * s->outputs + at, fc_min(s->nc, all - at), matrix};
    const char *const bias = j->epilogue->bias;
    char *c = matrix + s->tile_bytes;
    int64_t ldc = t.columns;
    if (s->into_y) {
        c = (char *)j->y + (n * p->y_n + g * p->k * p->y_k + at) * s->bytes;
        ldc = p->y_k;
        const char zero[16] = {0};
        for (int64_t k = 0; bias && k < p->k; k++) /* products are added to the bias */
            for (int64_t i = 0; i < t.columns; i++)
                store_run(p, zero, 1, bias + (g * p->k + k) * s->bytes,
                          c + (k * p->y_k + i) * s->bytes, 1);
    }
    for (int64_t tap = 0; tap < s->taps; tap += s->kc) {
        const int64_t taps = fc_min(s->kc, s->taps - tap);
        const char *const w = (const char *)j->packed + (g * s->taps + tap) * p->k * s->bytes;
        const int add = tap > 0 || (s->into_y && bias);
        if (s->in_place) {
            const int64_t from = n * p->x_n + (g * p->c + tap) * p->x_c + at;
            multiply(p->dtype, p->k, t.columns, taps, w, (const char *)j->x + from * s->bytes,
                     0, p->x_c, c, ldc, add);
            continue;
        }
        if (s->by_column)
            for (int64_t i = 0; i < t.columns; i++)
                fill_column(j, g, t.column + i, tap, taps, matrix + i * taps * s->bytes);
        else
            for (int64_t i = 0; i < taps; i++) fill_tap(j, &t, tap + i, i);
        multiply(p->dtype, p->k, t.columns, taps, w, matrix, s->by_column,
                 s->by_column ? taps : t.columns, c, ldc, add);
    }
    if (!s->into_y) {
        store_tile(j, &t, c);
        return;
    }
    for (int64_t k = 0; k < p->k; k++)
        finish(j, n * p->y_n + (g * p->k + k) * p->y_k + at, t.columns, 1);
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, threads, &s);
    job j = {&s, kernels, x, packed, epilogue, y, workspace};
    fc_parallel(p->g * s.tiles, threads, run_tile, &j);
}

const fc_driver fc_driver_im2col = {"im2col", workspace_bytes, packed_bytes, pack, run};
