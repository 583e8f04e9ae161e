/* separable: y[o] = bias + sum over r of wa[r0] wb[r1] wh[r2] x[o*u + r*l - a]: one axis after the other.
 *
 * For kernels of one channel that are the outer product of a vector an axis, up to three of them
 * longer than 1. A *row* is the last such axis, h, with all axes behind it; where those alone are
 * long enough to fill vectors, a row is they and h is one of the others. At most two axes come
 * before the row: b, and a before b. Rows are summed down a, then down b, into a buffer that is as
 * long as the window needs, then along the row:
 *
 *     for `rows` neighbouring outputs of a, one band of b, one chunk of the row
 *         t[i][b']  = sum over r of wa[r] * x[a + i + r][b']      for the band and its halo (if b)
 *         for `rows` neighbouring outputs of b
 *             s[i]  = sum over r of wb[r] * t[.][b + i + r]       (wa and x itself, if no b)
 *             y     = sum over r of wh[r] * s[i][h + r]
 *
 * All three are one kernel (kernels/rows.c). Extending x beyond its ends and filtering down a column
 * commute, so that borders of s are copied from s, not computed. x is read in place where its rows
 * lie dense, else by way of a ring of copied rows. y is written once, and no buffer is as large as
 * an image: v[0] bytes hold the rows of x that one group of outputs meets.
 *
 * Equal weights, BOX or more of them, take van Herk's sums: with blocks of as many rows as the
 * window has, every window is the end of one block and the beginning of the next, two running sums
 * that start anew with each block. Nothing is ever subtracted, so nothing drifts, and NaN and Inf
 * stay in their windows. Along a row sums of q neighbours are made first, then sums of those.
 *
 * Settings: v[0] bytes of rows of x aimed at.
 * Packed: per filter, the factor of each axis.
 *
 * van Herk, A fast algorithm for local minimum and maximum filters on rectangular and octagonal
 * kernels, Pattern Recognition Letters 13(7), 1992; Gil and Werman, Computing 2-D min, median and
 * max filters, IEEE PAMI 15(5), 1993.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../fc.h"

enum { BOX = 8, SHORT_ROW = 32 };

#define BEYOND INT64_MIN

typedef struct {
    const fc_problem *p;
    const fc_rows *kernel;
    const fc_stored *from, *to;    /* conversions of x and of y, NULL where there is none */
    fc_dtype dtype;                /* what is summed in */
    int doubtful;                  /* whether that is less than p->dtype */
    int64_t bytes, x_bytes, y_bytes;
    int64_t a, b, h;               /* axes, -1 for none; the row begins at h */
    int64_t unit;                  /* elements of one sample of h */
    int64_t along;                 /* whether there is a filter along the row */
    int64_t first[FC_DIMS];        /* of each axis' factor in a packed filter */
    int64_t weights, exact_at, filter_bytes; /* of a packed filter */
    int64_t out_a, out_b, out_h;   /* outputs along each */
    int64_t span_a, span_b, span_h;
    int64_t rows;                  /* outputs of a made at once */
    int64_t a_bands, a_band, b_bands, b_band, chunks, chunk;
    int64_t outer;                 /* positions of all other axes */
    int64_t ring_rows, b_rows;     /* rows of x held along a, and along b */
    int64_t pitch, long_pitch;     /* elements from row to row without and with borders */
    int64_t ring_at, spread_at, fixed_at, middle_at, padded_at, level_at, end_at, store_at, pointers_at, weights_at, border_at;
    int64_t slot_bytes;
} geometry;

static int64_t span_of(const fc_problem *p, int64_t axis)
{
    return axis < 0 ? 1 : (p->ker[axis] - 1) * p->dilation[axis] + 1;
}

static int64_t taps_of(const fc_problem *p, int64_t axis) { return axis < 0 ? 1 : p->ker[axis]; }

/* Which axis has which part. Python's why_not holds problems to those that fit. */
static void find_axes(const fc_problem *p, geometry *s)
{
    int64_t used[FC_DIMS], count = 0;
    for (int64_t d = 0; d < p->dims; d++)
        if (p->ker[d] > 1) used[count++] = d;
    const int64_t last = count ? used[count - 1] : p->dims - 1;
    s->unit = fc_volume(p->in + last + 1, p->dims - last - 1);
    s->h = last;
    s->along = 1;
    if (last + 1 < p->dims && s->unit >= SHORT_ROW && count < 3) {
        s->h = last + 1;
        s->unit = fc_volume(p->in + last + 2, p->dims - last - 2);
        s->along = 0;
    } else if (count) {
        count--;
    }
    s->a = count ? used[0] : s->h - 1;
    s->b = count > 1 ? used[1] : -1;
}

static const fc_stored *stored_in(fc_dtype stored, fc_dtype summed, const fc_kernels *kernels)
{
    switch (stored) {
    case FC_U8: return summed == FC_F32 ? kernels->stored_u8_f32 : kernels->stored_u8_f64;
    case FC_I8: return kernels->stored_i8_f64;
    case FC_U16: return kernels->stored_u16_f64;
    case FC_I16: return kernels->stored_i16_f64;
    default: return NULL;
    }
}

/* Bytes filtered along one axis are summed in float, though double is asked for: what they become
 * is cut to bytes, and where a float sum leaves doubt which byte that is, it is made anew. */
static void find_dtypes(const fc_problem *p, const fc_kernels *kernels, geometry *s)
{
    int64_t axes = 0;
    for (int64_t d = 0; d < p->dims; d++) axes += p->ker[d] > 1;
    s->doubtful = p->dtype == FC_F64 && p->x_dtype == FC_U8 && p->y_dtype == FC_U8 && axes == 1 &&
                  (p->boundary != FC_CONSTANT || (double)(float)p->cval[0] == p->cval[0]);
    s->dtype = s->doubtful ? FC_F32 : p->dtype;
    s->kernel = s->dtype == FC_F32 ? kernels->rows_f32 : kernels->rows_f64;
    s->from = stored_in(p->x_dtype, s->dtype, kernels);
    s->to = stored_in(p->y_dtype, s->dtype, kernels);
    s->bytes = fc_dtype_bytes(s->dtype);
    s->x_bytes = fc_dtype_bytes(p->x_dtype);
    s->y_bytes = fc_dtype_bytes(p->y_dtype);
}

static void plan_geometry(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    s->p = p;
    find_axes(p, s);
    find_dtypes(p, kernels, s);
    s->weights = 0;
    s->outer = 1;
    for (int64_t d = 0; d < p->dims; d++) {
        s->first[d] = s->weights;
        s->weights += p->ker[d];
        if (d < s->h && d != s->a && d != s->b) s->outer *= p->out[d];
    }
    s->exact_at = fc_round_up(s->weights * s->bytes, FC_ALIGN);
    s->filter_bytes = fc_round_up(s->exact_at + (s->weights + 1) * (int64_t)sizeof(double), FC_ALIGN);
    s->out_a = s->a < 0 ? 1 : p->out[s->a];
    s->out_b = s->b < 0 ? 1 : p->out[s->b];
    s->out_h = p->out[s->h];
    s->span_a = span_of(p, s->a);
    s->span_b = span_of(p, s->b);
    s->span_h = span_of(p, s->h);
    const int sliding = s->a < 0 || p->ker[s->a] == 1 || (p->stride[s->a] == 1 && p->dilation[s->a] == 1);
    s->rows = sliding ? s->kernel->rows : 1;
    const int64_t step_a = s->a < 0 ? 1 : p->stride[s->a], step_b = s->b < 0 ? 1 : p->stride[s->b];

    /* v[0] bytes: first fewer outputs of b, down to a few of its span, then shorter chunks */
    s->ring_rows = s->span_a + (s->rows - 1) * step_a;
    const int64_t sample = s->unit * s->bytes, fit = (s->b < 0 ? 1 : 4) * config->v[0] / s->ring_rows;
    s->b_band = s->out_b;
    if (s->b >= 0) {
        const int64_t rows = fit / ((s->out_h + s->span_h) * sample);
        const int64_t least = fc_max(2 * s->span_b, s->kernel->rows);
        s->b_band = fc_min(s->out_b, fc_max((rows - s->span_b) / step_b, least));
    }
    const int64_t images = p->n * p->g * p->k * s->outer;
    int64_t units = images;
    if (units < 4 * threads && s->b >= 0)
        s->b_band = fc_min(s->b_band, fc_max(fc_ceil_div(s->out_b * units, 4 * threads), s->kernel->rows));
    s->b_bands = fc_ceil_div(s->out_b, s->b_band);
    s->b_band = fc_ceil_div(s->out_b, s->b_bands);
    s->b_bands = fc_ceil_div(s->out_b, s->b_band);
    s->b_rows = (s->b_band - 1) * step_b + s->span_b;

    s->chunk = fc_min(s->out_h, fc_max(fit / (s->b_rows * sample) - s->span_h, 4 * s->span_h));
    /* a border is copied from its own chunk, but for zeros: padding that reaches further needs all */
    const int64_t after = s->out_h + s->span_h - 1 - p->in[s->h] - p->pad[s->h];
    if (p->boundary == FC_WRAP || fc_max(p->pad[s->h], after) > s->span_h) s->chunk = s->out_h;
    s->chunks = fc_max(1, s->out_h / s->chunk);
    s->chunk = fc_ceil_div(s->out_h, s->chunks);
    s->chunks = fc_ceil_div(s->out_h, s->chunk);

    units *= s->b_bands * s->chunks;
    s->a_bands = 1;
    if (threads > 1 && units < 4 * threads)
        s->a_bands = fc_max(1, fc_min(fc_ceil_div(4 * threads, units), s->out_a / (2 * s->span_a)));
    if (threads > 1 && units * s->a_bands < threads)
        s->a_bands = fc_min(s->out_a, fc_ceil_div(threads, units));
    s->a_band = fc_round_up(fc_ceil_div(s->out_a, s->a_bands), s->rows);
    s->a_bands = fc_ceil_div(s->out_a, s->a_band);

    const int64_t line = FC_ALIGN / s->bytes;
    s->long_pitch = fc_round_up((s->chunk + s->span_h) * s->unit, line) + line;
    s->pitch = s->long_pitch;
    const int64_t row = s->long_pitch * s->bytes, taps_a = taps_of(p, s->a), taps_b = taps_of(p, s->b);
    const int64_t box = s->b < 0 && taps_a >= BOX;
    s->ring_at = 0;
    s->spread_at = s->ring_at + s->ring_rows * s->b_rows * row;
    s->fixed_at = s->spread_at + row;
    s->middle_at = s->fixed_at + row;
    s->padded_at = s->middle_at + (s->b >= 0 ? s->rows * s->b_rows : 0) * row;
    s->level_at = s->padded_at + s->kernel->rows * row;
    s->end_at = s->level_at + row;
    s->store_at = s->end_at + (box ? taps_a + 2 : 0) * row;
    s->pointers_at = s->store_at + s->kernel->rows * row;
    const int64_t taps_h = taps_of(p, s->h);
    const int64_t pointers = fc_max(taps_a, taps_b) + taps_h + 4 * s->kernel->rows;
    s->weights_at = s->pointers_at + fc_round_up(pointers * (int64_t)sizeof(void *), FC_ALIGN);
    s->border_at = s->weights_at + fc_round_up(taps_h * s->bytes, FC_ALIGN);
    const int64_t borders = s->along ? 2 * (s->chunk + s->span_h) : 0;
    s->slot_bytes = s->border_at + fc_round_up(borders * (int64_t)sizeof(int64_t), FC_ALIGN);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    return threads * s.slot_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    return p->g * p->k * s.filter_bytes;
}

static double load(const void *a, int64_t i, fc_dtype dtype)
{
    return dtype == FC_F32 ? (double)((const float *)a)[i] : ((const double *)a)[i];
}

static void save(void *a, int64_t i, fc_dtype dtype, double value)
{
    if (dtype == FC_F32)
        ((float *)a)[i] = (float)value;
    else
        ((double *)a)[i] = value;
}

/* `value` as the dtype holds it. */
static double rounded(double value, fc_dtype dtype) { return dtype == FC_F32 ? (double)(float)value : value; }

/* Factors through the element `at` of w, which is not 0; whether their product is w. */
static int factors_through(const fc_problem *p, const void *w, const int64_t *at, double *factors)
{
    int64_t origin = 0, first = -1, last = 0, axes = 0, begin[FC_DIMS], weights = 0;
    for (int64_t d = 0; d < p->dims; d++) {
        origin += at[d] * p->w_s[d];
        begin[d] = weights;
        weights += p->ker[d];
        if (p->ker[d] == 1) continue;
        if (first < 0) first = d;
        last = d;
        axes++;
    }
    const double pivot = load(w, origin, p->dtype);
    int exponent = 0;
    double size = 0;
    for (int64_t d = 0; d < p->dims; d++) {
        double *const f = factors + begin[d];
        int own = 0;
        size = 0;
        for (int64_t r = 0; r < p->ker[d]; r++) {
            f[r] = load(w, origin + (r - at[d]) * p->w_s[d], p->dtype) / (d == first ? 1 : pivot);
            size += fabs(f[r]);
        }
        /* powers of two leave every axis but the last with a sum of sizes of 1/2 to 1, so that no
         * row between passes overflows where the result does not */
        if (p->ker[d] > 1 && d < last) frexp(size, &own);
        exponent += own;
        for (int64_t r = 0; r < p->ker[d]; r++)
            f[r] = rounded(ldexp(f[r], d == last ? exponent : -own), p->dtype);
        if (d == last) break;
    }
    for (int64_t d = last + 1; d < p->dims; d++) factors[begin[d]] = 1;
    /* such rows are whole numbers of the smallest one there is, which the last factor multiplies:
     * together that may not pass the smallest normal number */
    const double smallest = p->dtype == FC_F32 ? FLT_EPSILON : DBL_EPSILON;
    if (axes > 1 && ldexp(size, exponent) * (double)(weights - p->ker[last]) * smallest > 1) return 0;
    const double eps = p->dtype == FC_F32 ? FLT_EPSILON : DBL_EPSILON;
    const int64_t taps = fc_volume(p->ker, p->dims);
    for (int64_t tap = 0; tap < taps; tap++) {
        double product = 1;
        int64_t from = 0;
        for (int64_t d = p->dims - 1, rest = tap; d >= 0; d--) {
            product *= factors[begin[d] + rest % p->ker[d]];
            from += rest % p->ker[d] * p->w_s[d];
            rest /= p->ker[d];
        }
        const double value = load(w, from, p->dtype);
        if (!(fabs(product - value) <= 2 * (double)axes * eps * fabs(value))) return 0;
    }
    return 1;
}

int fc_factorize(const fc_problem *p, const void *w, double *factors)
{
    /* through the smallest weight that is not 0, which leaves multiples of it whole, or the largest */
    const int64_t taps = fc_volume(p->ker, p->dims);
    int64_t least[FC_DIMS] = {0}, most[FC_DIMS] = {0}, at[FC_DIMS] = {0};
    double smallest = INFINITY, largest = 0;
    for (int64_t tap = 0; tap < taps; tap++) {
        int64_t from = 0;
        for (int64_t d = p->dims - 1, rest = tap; d >= 0; d--) {
            at[d] = rest % p->ker[d];
            from += at[d] * p->w_s[d];
            rest /= p->ker[d];
        }
        const double size = fabs(load(w, from, p->dtype));
        if (!isfinite(size)) return 0;
        if (size > 0 && size < smallest) {
            smallest = size;
            memcpy(least, at, sizeof at);
        }
        if (size > largest) {
            largest = size;
            memcpy(most, at, sizeof at);
        }
    }
    if (largest == 0) { /* rank 0 */
        for (int64_t d = 0; d < p->dims; d++)
            for (int64_t r = 0; r < p->ker[d]; r++) *factors++ = 0;
        return 0;
    }
    return factors_through(p, w, least, factors) || factors_through(p, w, most, factors);
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    for (int64_t k = 0; k < p->g * p->k; k++) {
        char *const to = (char *)packed + k * s.filter_bytes;
        double *const factors = (double *)(to + s.exact_at);
        fc_factorize(p, (const char *)w + k * p->w_k * fc_dtype_bytes(p->dtype), factors);
        for (int64_t i = 0; i < s.weights; i++) save(to, i, s.dtype, factors[i]);
        /* what a float sum may be off by: taps + 3 roundings of u each, the axes of one weight adding
         * nothing but 1; beyond 2^21 `cut` has no digits to tell by */
        double sum = 0;
        for (int64_t i = 0; i < s.weights; i++) sum += fabs(factors[i]);
        sum = (sum - (double)(p->dims - 1)) * fmax(255, fabs(p->cval[0]));
        factors[s.weights] = sum < 0x1p21 ? sum * (double)(s.weights + 3) * FLT_EPSILON / 2 : INFINITY;
    }
}

/* A call. */
typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const char *x, *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace;
    int in_place, x_dense, y_dense; /* whether x is read in place; rows of x and y lie dense */
} job;

/* One unit of work: an image, a filter, a band of a and of b, a chunk of the row. */
typedef struct {
    const job *j;
    const geometry *s;
    const fc_problem *p;
    const char *factors;
    int64_t x_at, y_at;  /* elements: of the outer position and the chunk's beginning */
    int inside;          /* whether the outer position lies on x */
    int64_t begin, count, low, high, shift; /* outputs of h, samples they read, border before those */
    int64_t begin_a, end_a, begin_b, end_b; /* outputs of a and b */
    int64_t first_b;     /* padded position of b that the rows held begin with */
    int64_t held;        /* padded position of a that is copied next */
    int64_t borders;     /* entries of the table of samples beyond the ends */
    double bias, edge;   /* what lies beyond the row after filtering down */
    char *work;
} unit;

static const void *factor(const unit *u, int64_t axis)
{
    return axis < 0 ? NULL : u->factors + u->s->first[axis] * u->s->bytes;
}

static void copy_spread(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t count,
                        int64_t bytes)
{
    if (bytes == 4)
        for (int64_t i = 0; i < count; i++)
            ((uint32_t *)to)[i * to_step] = ((const uint32_t *)from)[i * from_step];
    else if (bytes == 8)
        for (int64_t i = 0; i < count; i++)
            ((uint64_t *)to)[i * to_step] = ((const uint64_t *)from)[i * from_step];
    else
        for (int64_t i = 0; i < count; i++)
            memcpy(to + i * to_step * bytes, from + i * from_step * bytes, (size_t)bytes);
}

/* Copies `count` samples of h, with all axes behind it, between a dense row and a spread one. */
static void copy_row(const geometry *s, char *dense, char *spread, const int64_t *stride, int64_t count,
                     int64_t bytes, int to_dense)
{
    const fc_problem *p = s->p;
    int64_t at[FC_DIMS] = {0};
    const int64_t last = p->dims - 1, run = last == s->h ? count : p->in[last], by = stride[last];
    for (int64_t d = s->h;; dense += run * bytes) {
        char *from = spread;
        for (d = s->h; d < last; d++) from += at[d] * stride[d] * bytes;
        if (to_dense)
            copy_spread(dense, 1, from, by, run, bytes);
        else
            copy_spread(from, by, dense, 1, run, bytes);
        for (d = last - 1; d >= s->h; d--) {
            if (++at[d] < (d == s->h ? count : p->in[d])) break;
            at[d] = 0;
        }
        if (d < s->h) return;
    }
}

static char *row_at(const unit *u, int64_t at, int64_t row)
{
    return u->work + at + row * u->s->pitch * u->s->bytes;
}

/* Where the chunk begins in the row of x at padded positions of a and b: elements, or BEYOND. */
static int64_t source_of(const unit *u, int64_t ta, int64_t tb)
{
    const geometry *s = u->s;
    const fc_problem *p = s->p;
    const int64_t a = s->a < 0 ? 0 : fc_source(p, s->a, ta), b = s->b < 0 ? 0 : fc_source(p, s->b, tb);
    if (!u->inside || a < 0 || b < 0) return BEYOND;
    return u->x_at + (s->a < 0 ? 0 : a * p->x_s[s->a]) + (s->b < 0 ? 0 : b * p->x_s[s->b]);
}

/* The row of x at padded positions of a and b: NULL for one of zeros. */
static const char *row_of(const unit *u, int64_t ta, int64_t tb)
{
    const geometry *s = u->s;
    const int64_t at = source_of(u, ta, tb);
    if (at == BEYOND) return s->p->boundary == FC_CONSTANT ? row_at(u, s->fixed_at, 0) : NULL;
    if (u->j->in_place) return u->j->x + at * s->bytes;
    return row_at(u, s->ring_at, ta % s->ring_rows * s->b_rows + tb - u->first_b);
}

/* Copies the chunk of a row of x to where it lies dense, in what is summed in. */
static void load_row(const unit *u, int64_t at, char *to)
{
    const geometry *s = u->s;
    const int64_t count = (u->high - u->low) * s->unit;
    const char *from = u->j->x + at * s->x_bytes;
    if (count <= 0) return;
    if (!u->j->x_dense) {
        char *const dense = s->from ? row_at(u, s->spread_at, 0) : to;
        copy_row(s, dense, (char *)from, s->p->x_s, u->high - u->low, s->x_bytes, 1);
        from = dense;
    }
    if (s->from)
        s->from->widen(from, count, to);
    else if (from != to)
        memcpy(to, from, (size_t)(count * s->bytes));
}

/* Copies rows of x up to padded position `end` of a into the ring. */
static void hold(unit *u, int64_t end)
{
    const geometry *s = u->s;
    if (u->j->in_place) return;
    for (; u->held < end; u->held++)
        for (int64_t i = 0; i < s->b_rows; i++) {
            const int64_t at = source_of(u, u->held, u->first_b + i);
            if (at != BEYOND) load_row(u, at, row_at(u, s->ring_at, u->held % s->ring_rows * s->b_rows + i));
        }
}

static void fill(char *to, int64_t count, double value, fc_dtype dtype)
{
    for (int64_t i = 0; i < count; i++) save(to, i, dtype, value);
}

static int is_box(const unit *u, int64_t axis)
{
    const char *const w = factor(u, axis);
    const int64_t bytes = u->s->bytes, taps = taps_of(u->p, axis);
    return !u->s->doubtful && taps >= BOX && !memcmp(w, w + bytes, (size_t)((taps - 1) * bytes));
}

/* Which sample of the chunk each sample beyond its ends repeats, BEYOND for none: once a unit. */
static void find_borders(unit *u)
{
    const geometry *s = u->s;
    const int64_t all = u->count + s->span_h - 1;
    int64_t *const border = (int64_t *)(u->work + s->border_at);
    u->borders = 0;
    for (int64_t i = 0; i < all; i++) {
        if (i == u->shift) i += u->high - u->low;
        if (i == all) break;
        const int64_t source = fc_source(u->p, s->h, u->begin + i);
        border[u->borders++] = i;
        border[u->borders++] = source < 0 ? BEYOND : u->shift + source - u->low;
    }
}

/* Extends a filtered row beyond the samples it has. */
static void extend(const unit *u, char *row)
{
    const geometry *s = u->s;
    const int64_t sample = s->unit * s->bytes;
    const int64_t *const border = (const int64_t *)(u->work + s->border_at);
    for (int64_t b = 0; b < u->borders; b += 2) {
        const int64_t to = border[b], from = border[b + 1];
        if (from == BEYOND)
            fill(row + to * sample, s->unit, u->edge, s->dtype);
        else if (sample == 4)
            ((uint32_t *)row)[to] = ((const uint32_t *)row)[from];
        else
            memcpy(row + to * sample, row + from * sample, (size_t)sample);
    }
}

/* Sums along an extended row; `pointers` and `weights` are scratch. */
static void filter_along(const unit *u, const char *row, const void **pointers, char *weights, char *y)
{
    const geometry *s = u->s;
    const int64_t taps = u->p->ker[s->h], step = u->p->dilation[s->h] * s->unit * s->bytes;
    const char *const w = factor(u, s->h);
    if (!is_box(u, s->h)) {
        if (s->doubtful)
            for (int64_t t = 0; t < taps; t++) pointers[t] = row + t * step;
        s->kernel->along(taps, w, row, step / s->bytes, u->count * s->unit, u->bias, y);
        return;
    }
    /* sums of q neighbours, then of taps / q such sums and of what is left */
    int64_t q = 1;
    for (int64_t i = 2; i <= taps; i++)
        if (i + taps / i + taps % i < q + taps / q + taps % q) q = i;
    const int64_t sums = taps / q, rest = taps % q;
    char *const level = row_at(u, s->level_at, 0);
    s->kernel->along(q, w, row, step / s->bytes, u->count * s->unit + (sums - 1) * q * step / s->bytes,
                     -0.0, level);
    fill(weights, sums, 1, s->dtype);
    memcpy(weights + sums * s->bytes, w, (size_t)(rest * s->bytes));
    for (int64_t t = 0; t < sums; t++) pointers[t] = level + t * q * step;
    for (int64_t t = 0; t < rest; t++) pointers[sums + t] = row + (sums * q + t) * step;
    s->kernel->run(sums + rest, 1, weights, pointers, u->count * s->unit, u->bias, (void *[]){y});
}

/* Whether sums go straight to y. */
static int in_y(const unit *u) { return u->j->y_dense && !u->s->to; }

/* The epilogue of one row of y. */
static void finish(const unit *u, int64_t at)
{
    const geometry *s = u->s;
    const fc_problem *p = s->p;
    const job *j = u->j;
    if (j->y_dense) {
        fc_finish(p, j->kernels, j->epilogue, j->y, at, u->count * s->unit, 1);
        return;
    }
    const int64_t last = p->dims - 1, run = last == s->h ? u->count : p->in[last];
    const int64_t runs = u->count * s->unit / run;
    for (int64_t i = 0; i < runs; i++) {
        int64_t from = at;
        for (int64_t d = last - 1, rest = i; d >= s->h; d--) {
            const int64_t size = d == s->h ? u->count : p->in[d];
            from += rest % size * p->y_s[d];
            rest /= size;
        }
        fc_finish(p, j->kernels, j->epilogue, j->y, from, run, p->y_s[last]);
    }
}

/* Stores a row of sums whose products were those of `rows` with the weights of `axis`. */
static void store_row(const unit *u, int64_t axis, const void *const *rows, char *sums, int64_t at)
{
    const geometry *s = u->s;
    const fc_problem *p = s->p;
    const job *j = u->j;
    char *const y = j->y + at * s->y_bytes;
    char *dense = sums;
    if (s->to) {
        const int64_t count = u->count * s->unit;
        const double *const w = (const double *)(u->factors + s->exact_at);
        const double near = !s->doubtful ? -1 : j->epilogue->bias ? INFINITY : w[s->weights];
        dense = j->y_dense ? y : row_at(u, s->spread_at, 0);
        for (int64_t i = 0; (i = s->to->cut(sums, i, count, near, dense)) < count; i += s->to->lanes)
            s->to->exact(p->ker[axis], w + s->first[axis], rows, i, fc_min(s->to->lanes, count - i),
                         u->bias, dense);
    }
    if (!j->y_dense) copy_row(s, dense, y, p->y_s, u->count, s->y_bytes, 0);
    if (!s->to) finish(u, at);
}

/* Sums along row i of those extended, and stores. */
static void emit_along(const unit *u, int64_t i, const void **pointers, int64_t y_at)
{
    const geometry *s = u->s;
    char *const row = row_at(u, s->padded_at, i);
    char *const to = in_y(u) ? u->j->y + y_at * s->bytes : row_at(u, s->store_at, 0);
    extend(u, row);
    filter_along(u, row, pointers, u->work + s->weights_at, to);
    store_row(u, s->h, pointers, to, y_at);
}

/* Sums `outputs` neighbouring rows down, and each along, to rows of y that are y_step apart. */
static void emit(const unit *u, int64_t taps, const void *w, const void **rows, int64_t outputs,
                 int64_t y_at, int64_t y_step)
{
    const geometry *s = u->s;
    void *to[8] = {0};
    for (int64_t i = 0; i < outputs; i++)
        to[i] = s->along  ? row_at(u, s->padded_at, i) + u->shift * s->unit * s->bytes
                : in_y(u) ? u->j->y + (y_at + i * y_step) * s->bytes
                          : row_at(u, s->store_at, i);
    const int64_t count = s->along ? u->high - u->low : u->count;
    s->kernel->run(taps, outputs, w, rows, count * s->unit, s->along ? -0.0 : u->bias, to);
    for (int64_t i = 0; i < outputs; i++)
        if (s->along)
            emit_along(u, i, rows + taps + outputs, y_at + i * y_step);
        else
            store_row(u, s->a, rows + i, to[i], y_at + i * y_step);
}

/* Rows of x of `outputs` windows of a, the first at output o; the windows of neighbours overlap. */
static void list_rows(const unit *u, int64_t o, int64_t outputs, int64_t tb, const void **rows)
{
    const geometry *s = u->s;
    const int64_t taps = taps_of(u->p, s->a), stride = s->a < 0 ? 1 : u->p->stride[s->a];
    const int64_t dilation = taps == 1 ? stride : u->p->dilation[s->a];
    for (int64_t t = 0; t < taps + outputs - 1; t++) rows[t] = row_of(u, o * stride + t * dilation, tb);
}

/* Two axes down: rows of t for the whole band of b, then the rows of y from them. */
static void run_two(unit *u, const void **pointers)
{
    const geometry *s = u->s;
    const fc_problem *p = s->p;
    const int64_t taps = p->ker[s->b], stride = p->stride[s->b], dilation = p->dilation[s->b];
    const int64_t together = stride == 1 && dilation == 1 ? s->kernel->rows : 1;
    const int64_t held = (u->end_b - u->begin_b - 1) * stride + s->span_b;
    for (int64_t o = u->begin_a, outputs; o < u->end_a; o += outputs) {
        outputs = fc_min(s->rows, u->end_a - o);
        hold(u, (o + outputs - 1) * p->stride[s->a] + s->span_a);
        for (int64_t i = 0; i < held; i++) {
            void *to[8] = {0};
            for (int64_t k = 0; k < outputs; k++) to[k] = row_at(u, s->middle_at, k * s->b_rows + i);
            list_rows(u, o, outputs, u->first_b + i, pointers);
            s->kernel->run(p->ker[s->a], outputs, factor(u, s->a), pointers,
                           (u->high - u->low) * s->unit, -0.0, to);
        }
        for (int64_t k = 0; k < outputs; k++)
            for (int64_t b = u->begin_b, count; b < u->end_b; b += count) {
                count = fc_min(together, u->end_b - b);
                for (int64_t t = 0; t < taps + count - 1; t++) {
                    const int64_t i = (b - u->begin_b) * stride + t * dilation;
                    const int zero = p->boundary == FC_ZEROS && fc_source(p, s->b, u->first_b + i) < 0;
                    pointers[t] = zero ? NULL : row_at(u, s->middle_at, k * s->b_rows + i);
                }
                emit(u, taps, factor(u, s->b), pointers, count,
                     u->y_at + (o + k) * p->y_s[s->a] + b * p->y_s[s->b], p->y_s[s->b]);
            }
    }
}

/* No axis down. */
static void run_none(const unit *u, const void **pointers)
{
    const geometry *s = u->s;
    const int64_t stride = s->a < 0 ? 1 : u->p->stride[s->a], y_step = s->a < 0 ? 0 : u->p->y_s[s->a];
    char *const row = row_at(u, s->padded_at, 0) + u->shift * s->unit * s->bytes;
    for (int64_t o = u->begin_a; o < u->end_a; o++) {
        const int64_t at = source_of(u, o * stride, 0);
        if (at != BEYOND)
            load_row(u, at, row);
        else
            fill(row, (u->high - u->low) * s->unit, u->edge, s->dtype);
        emit_along(u, 0, pointers, u->y_at + o * y_step);
    }
}

/* One axis down, any weights. */
static void run_one(unit *u, const void **pointers)
{
    const geometry *s = u->s;
    const int64_t stride = u->p->stride[s->a], y_step = u->p->y_s[s->a];
    for (int64_t o = u->begin_a, outputs; o < u->end_a; o += outputs) {
        outputs = fc_min(s->rows, u->end_a - o);
        hold(u, (o + outputs - 1) * stride + s->span_a);
        list_rows(u, o, outputs, 0, pointers);
        emit(u, u->p->ker[s->a], factor(u, s->a), pointers, outputs, u->y_at + o * y_step, y_step);
    }
}

/* One axis down, equal weights: a window is rows `i` to the last of its block, whose sums are
 * made when the block begins, and the rows of the next that it reaches, whose sum grows. */
static void run_box(unit *u, const void **pointers)
{
    const geometry *s = u->s;
    const int64_t taps = u->p->ker[s->a], count = (u->high - u->low) * s->unit;
    const float ones_f32[2] = {1, 1};
    const double ones_f64[2] = {1, 1};
    const void *const ones = s->bytes == 4 ? (const void *)ones_f32 : ones_f64;
    const char *const w = factor(u, s->a);
    char weights[16]; /* of a row and of the sum so far */
    memcpy(weights, w, (size_t)s->bytes);
    memcpy(weights + s->bytes, ones, (size_t)s->bytes);
    const void **const two = pointers, **const ends = pointers + 3 + u->p->ker[s->h]; /* of blocks */
    const void *start = NULL;
    for (int64_t o = u->begin_a; o < u->end_a; o++) {
        const int64_t i = (o - u->begin_a) % taps;
        hold(u, o + taps);
        if (i == 0) {
            start = ends[taps] = NULL;
            for (int64_t t = taps - 1; t >= 0; t--) {
                const void *const from[2] = {row_of(u, o + t, 0), ends[t + 1]};
                void *to = row_at(u, s->end_at, t);
                if (from[0]) s->kernel->run(2, 1, weights, from, count, -0.0, &to);
                ends[t] = from[0] ? to : ends[t + 1];
            }
        } else {
            const void *const from[2] = {row_of(u, o + taps - 1, 0), start};
            void *to = row_at(u, s->end_at, taps + i % 2);
            if (from[0]) s->kernel->run(2, 1, weights, from, count, -0.0, &to);
            start = from[0] ? to : start;
        }
        two[0] = ends[i];
        two[1] = start;
        emit(u, 2, ones, two, 1, u->y_at + o * u->p->y_s[s->a], 0);
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *j = context;
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t chunk = index % s->chunks, b_band = index / s->chunks % s->b_bands;
    const int64_t a_band = index / (s->chunks * s->b_bands) % s->a_bands;
    int64_t rest = index / (s->chunks * s->b_bands * s->a_bands);
    unit u = {.j = j, .s = s, .p = p, .inside = 1, .work = j->workspace + slot * s->slot_bytes};
    for (int64_t d = s->h - 1; d >= 0; d--) {
        if (d == s->a || d == s->b) continue;
        const int64_t o = rest % p->out[d], source = fc_source(p, d, o * p->stride[d]);
        rest /= p->out[d];
        u.inside &= source >= 0;
        u.x_at += fc_max(source, 0) * p->x_s[d];
        u.y_at += o * p->y_s[d];
    }
    const int64_t filter = rest % (p->g * p->k), n = rest / (p->g * p->k);
    u.begin = chunk * s->chunk;
    u.count = fc_min(s->chunk, s->out_h - u.begin);
    u.low = fc_max(0, u.begin - p->pad[s->h]);
    u.high = fc_max(u.low, fc_min(p->in[s->h], u.begin + u.count + s->span_h - 1 - p->pad[s->h]));
    u.shift = fc_min(u.low - u.begin + p->pad[s->h], u.count + s->span_h - 1);
    u.x_at += n * p->x_n + filter / p->k * p->x_c + u.low * p->x_s[s->h];
    u.y_at += n * p->y_n + filter * p->y_k + u.begin * p->y_s[s->h];
    u.begin_a = a_band * s->a_band;
    u.end_a = fc_min(u.begin_a + s->a_band, s->out_a);
    u.begin_b = b_band * s->b_band;
    u.end_b = fc_min(u.begin_b + s->b_band, s->out_b);
    u.held = s->a < 0 ? 0 : u.begin_a * p->stride[s->a];
    u.first_b = s->b < 0 ? 0 : u.begin_b * p->stride[s->b];
    u.factors = j->packed + filter * s->filter_bytes;
    u.bias = j->epilogue->bias ? load(j->epilogue->bias, filter, p->dtype) : -0.0;
    if (p->boundary == FC_CONSTANT) {
        const double value = rounded(p->cval[0], s->dtype);
        fill(u.work + s->fixed_at, (u.high - u.low) * s->unit, value, s->dtype);
        u.edge = value;
        for (int64_t d = 0; d < 2; d++) {
            const int64_t axis = d ? s->b : s->a;
            double sum = 0;
            if (axis < 0) continue;
            for (int64_t r = 0; r < p->ker[axis]; r++) sum += load(factor(&u, axis), r, s->dtype) * u.edge;
            u.edge = sum;
        }
    }
    if (s->along) find_borders(&u);
    const void **const pointers = (const void **)(u.work + s->pointers_at);
    const int sliding = s->a >= 0 && p->stride[s->a] == 1 && p->dilation[s->a] == 1;
    if (taps_of(p, s->a) == 1)
        run_none(&u, pointers);
    else if (s->b >= 0)
        run_two(&u, pointers);
    else if (sliding && is_box(&u, s->a))
        run_box(&u, pointers);
    else
        run_one(&u, pointers);
}

/* Whether a row, from h on, lies dense. */
static int is_dense(const geometry *s, const int64_t *stride)
{
    int64_t expected = 1;
    for (int64_t d = s->p->dims - 1; d >= s->h; d--) {
        if ((s->p->in[d] != 1 || s->p->out[d] != 1) && stride[d] != expected) return 0;
        expected *= s->p->in[d];
    }
    return 1;
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    const int x_dense = is_dense(&s, p->x_s), y_dense = is_dense(&s, p->y_s);
    job j = {&s, kernels, x, packed, epilogue, y, workspace, x_dense && !s.from, x_dense, y_dense};
    fc_parallel(p->n * p->g * p->k * s.outer * s.a_bands * s.b_bands * s.chunks, threads, run_unit, &j);
}

const fc_driver fc_driver_separable = {"separable", workspace_bytes, packed_bytes, pack, run};
