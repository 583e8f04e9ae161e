/* dot: y[k][o][s] = bias[k] + sum over c, i, j of w[k][c][i][j] * x[c][o u + i l - pad][s v + j m - pad].
 *
 * Few outputs of a large kernel, as in gradients of depthwise weights: vectors run along what is summed, and a
 * tile of outputs is held in registers for a whole picture (kernels/dot.c). Axes before the last two, of
 * outputs and of the kernel, are loops around that.
 *
 * w is read where it lies, rows dense. x is copied to a strip, a band of rows amid zeros, taken apart by
 * the dilation m, so that output s reads a constant offset. With l > 1 output rows o come in runs whose
 * samples are whole steps of l apart; row q of a run reads, beside row i of w, the strip's row i + q d:
 *
 *     u = 1, l = 1    one run of all rows, d = 1
 *     u = 1, l = 2    runs 0 2 4 ..  and 1 3 5 ..,  d = 1
 *
 * Rows of w before the first and behind the last are a row of zeros, so that tiles are never cut off.
 *
 * Multiplying zeros by what is not finite makes sums that are not finite: those are done again, product by
 * product that is there.
 *
 * Pictures of rows that a vector holds are read as they lie, by a kernel of their own.
 *
 * One unit of work is (image, some groups). Settings: v[0] rows and v[1] columns of the kernel at a time,
 * whose sums are added to those so far. Packed: nothing; w has its strides.
 */
#include <math.h>
#include <string.h>

#include "../fc.h"

/* Sums of a unit stay in L1; planes of x and w follow each other as they lie in memory, whose next lines are
 * foreseen then. A guess: what it saves is within the noise of what was measured. */
enum { SUMS_BYTES = 16384 };

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    const fc_dot *kernel;
    const fc_depthwise *strips; /* what copies rows */
    const fc_pictures *pictures;
    int64_t bytes;
    int64_t row, column, outer;             /* axes, the first -1 if there is one; number of those before */
    int64_t rows, height, in_rows, u, l, pad_rows;       /* outputs, kernel, x; stride, dilation */
    int64_t columns, width, in_columns, v, m, pad_columns;
    int64_t runs, step;                     /* of output rows; d */
    int64_t most_rows, across;              /* of a tile, and its columns */
    int64_t outers, taps;                   /* of the axes before: outputs, kernel */
    int64_t band, bands, piece, pieces;     /* rows and columns of the kernel at a time */
    int64_t phases, plane, pitch;           /* of a row of the strip, in elements */
    int64_t strip_rows, strip_bytes, table, table_bytes, sums_bytes, slot_bytes, offset_bytes;
    int64_t groups, each, filter_bytes;     /* of a unit; bytes of the sums of one, and of one filter */
} dot_cut;

typedef struct {
    const dot_cut *s;
    const char *x, *w;
    const fc_epilogue *epilogue;
    char *y, *workspace;
    const int64_t *offset;
} dot_job;

static void cut(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads,
                dot_cut *s)
{
    memset(s, 0, sizeof *s);
    const int f32 = p->dtype == FC_F32;
    s->p = p;
    s->kernels = kernels;
    s->kernel = f32 ? kernels->dot_f32 : kernels->dot_f64;
    s->strips = f32 ? kernels->depthwise_f32 : kernels->depthwise_f64;
    s->pictures = f32 ? kernels->picture_f32 : kernels->picture_f64;
    s->bytes = fc_dtype_bytes(p->dtype);
    const int64_t d = s->column = p->dims - 1;
    s->columns = p->out[d], s->width = p->ker[d], s->in_columns = p->in[d];
    s->v = p->stride[d], s->m = p->dilation[d], s->pad_columns = p->pad[d];
    s->rows = s->height = s->in_rows = s->u = s->l = 1;
    s->row = d - 1;
    if (d > 0) {
        s->rows = p->out[d - 1], s->height = p->ker[d - 1], s->in_rows = p->in[d - 1];
        s->u = p->stride[d - 1], s->l = p->dilation[d - 1], s->pad_rows = p->pad[d - 1];
    }
    s->outer = fc_max(s->row, 0);
    s->outers = fc_volume(p->out, s->outer);
    s->taps = fc_volume(p->ker, s->outer);
    const int64_t divisor = fc_common_divisor(s->u, s->l);
    s->runs = s->l / divisor;
    s->step = s->u / divisor;
    s->most_rows = s->step < s->height ? FC_DOT_ROWS : 1; /* else most rows of w would be zeros */

    int64_t most = FC_DOT_COLUMNS;
    while (!s->kernel->run[fc_min(s->rows, fc_min(s->most_rows, 2)) - 1][most - 1]) most--;
    s->across = fc_ceil_div(s->columns, fc_ceil_div(s->columns, most));

    s->phases = s->m == 2 ? 2 : 1; /* copied together */
    int64_t extra = 0;
    for (int64_t o = 0; o < s->columns; o++) {
        s->phases = fc_max(s->phases, o * s->v % s->m + 1);
        extra = fc_max(extra, o * s->v / s->m);
    }
    s->band = fc_min(s->height, config->v[0]);
    s->bands = fc_ceil_div(s->height, s->band);
    s->piece = fc_min(s->width, config->v[1]);
    s->pieces = fc_ceil_div(s->width, s->piece);
    const int64_t lanes = s->kernel->lanes;
    s->plane = fc_round_up(s->piece + extra, lanes) + lanes; /* rows are written and read as vectors */
    s->pitch = s->phases * s->plane;
    s->strip_rows = (s->band - 1) * s->l + (s->rows - 1) * s->u + 1;
    s->strip_bytes = fc_round_up((s->strip_rows * s->pitch + s->plane) * s->bytes, FC_ALIGN);
    s->table = (s->most_rows - 1) * s->step;
    s->table_bytes = fc_round_up((s->band + 2 * s->table) * (int64_t)sizeof(void *), FC_ALIGN);
    s->filter_bytes = s->rows * s->columns * lanes * s->bytes;
    s->each = p->k * s->filter_bytes;
    s->groups = fc_max(1, fc_min(p->g / (threads == 1 ? 1 : 8 * threads), SUMS_BYTES / s->each));
    s->sums_bytes = fc_round_up(s->groups * s->each + s->rows * s->columns * s->bytes, FC_ALIGN);
    s->slot_bytes = 2 * s->strip_bytes + s->table_bytes + s->sums_bytes;
    s->offset_bytes = fc_round_up(s->columns * (int64_t)sizeof(int64_t), FC_ALIGN);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                               int64_t threads)
{
    dot_cut s;
    cut(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.offset_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    (void)p, (void)config, (void)kernels;
    return 0;
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w,
                 void *packed, int64_t threads)
{
    (void)p, (void)config, (void)kernels, (void)w, (void)packed, (void)threads;
}

/* The samples of x beside kernel rows from i and columns from j on, between zeros that are there. */
static void copy(const dot_job *job, const char *x, int64_t i, int64_t j, char *strip)
{
    const dot_cut *s = job->s;
    const fc_problem *p = s->p;
    const int64_t step = p->x_s[s->column], ld = s->row < 0 ? 0 : p->x_s[s->row];
    /* rows and columns of x under the strip's first */
    const int64_t top = i * s->l - s->pad_rows, left = j * s->m - s->pad_columns;
    const int64_t from = fc_max(0, -top), to = fc_min(s->strip_rows, s->in_rows - top);
    if (from >= to) return;
    x += (top + from) * ld * s->bytes;
    strip += from * s->pitch * s->bytes;
    const int64_t length = s->plane - s->kernel->lanes;
    if (s->m <= 2 && step == 1) {
        const int64_t first = fc_max(0, left), end = fc_min(s->in_columns, left + length * s->m);
        if (first >= end) return;
        void *rows[2];
        for (int64_t h = 0; h < s->m; h++) {
            const int64_t at = first + h - left;
            rows[h] = strip + (at % s->m * s->plane + at / s->m) * s->bytes;
        }
        if (s->m == 1)
            s->pictures->copy(to - from, end - first, x + first * s->bytes, ld, rows[0], s->pitch);
        else
            s->strips->pad(to - from, end - first, 2, x + first * s->bytes, ld, rows, s->pitch);
        return;
    }
    for (int64_t r = from; r < to; r++, x += ld * s->bytes, strip += s->pitch * s->bytes)
        for (int64_t f = 0; f < s->phases; f++) {
            const int64_t first = left + f >= 0 ? 0 : fc_ceil_div(-left - f, s->m);
            const int64_t inside = s->in_columns - left - f;
            const int64_t end = inside <= 0 ? 0 : fc_min(length, fc_ceil_div(inside, s->m));
            if (first < end)
                s->strips->copy(p->dtype, end - first, x + (left + f + first * s->m) * step * s->bytes,
                                step * s->m, strip + (f * s->plane + first) * s->bytes);
        }
}

/* All tiles of outputs of one filter, from `height` rows and `width` columns of its weights. */
static void multiply(const dot_job *job, const char *strip, const void *const *w, int64_t height,
                     int64_t width, char *sums)
{
    const dot_cut *s = job->s;
    const int64_t vector = s->kernel->lanes * s->bytes;
    fc_dot_block b = {.columns = width, .ldx = s->l * s->pitch, .w = w, .step = s->step,
                      .ld = s->runs * s->columns};
    for (int64_t o = 0; o < s->columns; o += s->across) {
        const int64_t columns = fc_min(s->across, s->columns - o);
        int64_t most = s->most_rows;
        while (!s->kernel->run[most - 1][columns - 1]) most--;
        for (int64_t run = 0; run < fc_min(s->runs, s->rows); run++)
            for (int64_t row = run, left = s->runs == 1 ? s->rows : fc_ceil_div(s->rows - run, s->runs); left > 0;) {
                const int64_t rows = left <= most ? left : fc_ceil_div(left, fc_ceil_div(left, most));
                b.height = height + (rows - 1) * s->step;
                b.x = strip + row * s->u * s->pitch * s->bytes;
                b.offset = job->offset + o;
                b.sums = sums + (row * s->columns + o) * vector;
                s->kernel->run[rows - 1][columns - 1](&b);
                left -= rows;
                row += rows * s->runs;
            }
    }
}

static double element(const dot_cut *s, const char *a, int64_t i)
{
    return s->bytes == 4 ? (double)((const float *)a)[i] : ((const double *)a)[i];
}

/* Whether kernel position t of the axes before meets a sample at output position o of these, and where
 * in x and w: before their first element where strides are negative. */
static int outer_at(const dot_cut *s, int64_t o, int64_t t, int64_t *x_at, int64_t *w_at)
{
    const fc_problem *p = s->p;
    *x_at = *w_at = 0;
    for (int64_t d = s->outer - 1; d >= 0; d--) {
        const int64_t i = t % p->ker[d];
        const int64_t source = fc_source(p, d, o % p->out[d] * p->stride[d] + i * p->dilation[d]);
        if (source < 0) return 0;
        *x_at += source * p->x_s[d];
        *w_at += i * p->w_s[d];
        t /= p->ker[d], o /= p->out[d];
    }
    return 1;
}

/* One output from the products that are there. */
static double exactly(const dot_job *job, const char *x, const char *w, int64_t outer, int64_t r, int64_t c)
{
    const dot_cut *s = job->s;
    const fc_problem *p = s->p;
    double sum = 0;
    for (int64_t t = 0; t < s->taps; t++) {
        int64_t x_at, w_at;
        if (!outer_at(s, outer, t, &x_at, &w_at)) continue;
        for (int64_t i = 0; i < s->height; i++) {
            const int64_t row = r * s->u + i * s->l - s->pad_rows;
            if (row < 0 || row >= s->in_rows) continue;
            const int64_t x_row = s->row < 0 ? 0 : row * p->x_s[s->row];
            const int64_t w_row = s->row < 0 ? 0 : i * p->w_s[s->row];
            for (int64_t j = 0; j < s->width; j++) {
                const int64_t column = c * s->v + j * s->m - s->pad_columns;
                if (column < 0 || column >= s->in_columns) continue;
                for (int64_t h = 0; h < p->c; h++)
                    sum += element(s, x, x_at + x_row + column * p->x_s[s->column] + h * p->x_c) *
                           element(s, w, w_at + w_row + j * p->w_s[s->column] + h * p->w_c);
            }
        }
    }
    return sum;
}

static void store(const dot_job *job, int64_t n, int64_t k, int64_t outer, const char *sums, char *totals)
{
    const dot_cut *s = job->s;
    const fc_problem *p = s->p;
    s->kernel->total(s->rows * s->columns, sums, totals);
    int64_t at = n * p->y_n + k * p->y_k;
    for (int64_t d = s->outer - 1, o = outer; d >= 0; o /= p->out[d], d--) at += o % p->out[d] * p->y_s[d];
    const char *const x = job->x + (n * p->x_n + k / p->k * p->c * p->x_c) * s->bytes;
    const char *const w = job->w + k * p->w_k * s->bytes, *const bias = job->epilogue->bias;
    for (int64_t r = 0; r < s->rows; r++) {
        const int64_t y_row = at + (s->row < 0 ? 0 : r * p->y_s[s->row]);
        for (int64_t c = 0; c < s->columns; c++) {
            double sum = element(s, totals, r * s->columns + c);
            if (!isfinite(sum)) sum = exactly(job, x, w, outer, r, c);
            if (bias) sum += element(s, bias, k);
            const int64_t to = y_row + c * p->y_s[s->column];
            if (s->bytes == 4)
                ((float *)job->y)[to] = (float)sum;
            else
                ((double *)job->y)[to] = sum;
        }
        fc_finish(p, s->kernels, job->epilogue, job->y, y_row, s->columns, p->y_s[s->column]);
    }
}

/* Adds what a strip gives to the sums of all filters of its group, whose weights in it begin at w. */
static void add_strip(const dot_job *job, const char *strip, const char *w, int64_t height, int64_t width,
                      const void **table, char *sums)
{
    const dot_cut *s = job->s;
    const int64_t w_row = s->row < 0 ? 0 : s->p->w_s[s->row];
    for (int64_t k = 0; k < s->p->k; k++) {
        const char *row = w + k * s->p->w_k * s->bytes;
        for (int64_t r = 0; r < height; r++, row += w_row * s->bytes) table[r] = row;
        multiply(job, strip, table, height, width, sums + k * s->filter_bytes);
    }
}

/* The same of one plane of x, block by block. */
static void add_plane(const dot_job *job, const char *x, const char *w, char *strip, const void **table,
                      char *sums)
{
    const dot_cut *s = job->s;
    const int64_t w_row = s->row < 0 ? 0 : s->p->w_s[s->row];
    for (int64_t i = 0; i < s->height; i += s->band)
        for (int64_t j = 0; j < s->width; j += s->piece) {
            const int64_t height = fc_min(s->band, s->height - i), width = fc_min(s->piece, s->width - j);
            memset(strip, 0, (size_t)s->strip_bytes);
            copy(job, x, i, j, strip);
            for (int64_t r = height; r < s->band; r++) table[r] = strip + s->strip_rows * s->pitch * s->bytes;
            add_strip(job, strip, w + (i * w_row + j) * s->bytes, height, width, table, sums);
        }
}

/* Whether planes are read as they lie: copying a row of 7 takes longer than its products. */
static int is_narrow(const dot_cut *s)
{
    return s->kernel->narrow && s->rows == 3 && s->columns == 3 && s->width <= s->kernel->lanes && s->u == 1 &&
           s->v == 1 && s->l == 1 && s->m == 1 && s->p->x_s[s->column] == 1;
}

/* Adds what a plane of x as it lies gives to the sums of all filters of its group. */
static void add_narrow(const dot_job *job, const char *x, const char *w, char *sums)
{
    const dot_cut *s = job->s;
    fc_dot_narrow b = {
        .height = s->height, .width = s->width, .in_rows = s->in_rows, .in_columns = s->in_columns,
        .pad_rows = s->pad_rows, .pad_columns = s->pad_columns, .x = x, .w = w, .ldx = s->p->x_s[s->row],
        .ldw = s->p->w_s[s->row], .sums = sums,
    };
    for (int64_t k = 0; k < s->p->k; k++) {
        s->kernel->narrow(&b);
        b.w = (const char *)b.w + s->p->w_k * s->bytes;
        b.sums = (char *)b.sums + s->filter_bytes;
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const dot_job *job = context;
    const dot_cut *s = job->s;
    const fc_problem *p = s->p;
    const int64_t parts = fc_ceil_div(p->g, s->groups), n = index / parts;
    char *const strips = job->workspace + slot * s->slot_bytes;
    const void **table = (const void **)(strips + 2 * s->strip_bytes);
    char *const sums = strips + 2 * s->strip_bytes + s->table_bytes;
    memset(strips, 0, (size_t)(2 * s->strip_bytes)); /* and the rows of zeros behind them */
    for (int64_t r = 0; r < s->band + 2 * s->table; r++) table[r] = strips + s->strip_rows * s->pitch * s->bytes;
    table += s->table;
    const int64_t begin = index % parts * s->groups, end = fc_min(p->g, begin + s->groups);
    const int64_t planes = (end - begin) * p->c, x_c = p->x_c * s->bytes;
    for (int64_t outer = 0; outer < s->outers; outer++) {
        memset(sums, 0, (size_t)((end - begin) * s->each));
        for (int64_t t = 0; t < s->taps; t++) {
            int64_t x_at, w_at;
            if (!outer_at(s, outer, t, &x_at, &w_at)) continue;
            const char *x = job->x + (n * p->x_n + begin * p->c * p->x_c + x_at) * s->bytes;
            /* planes of one block have their zeros in the same places, and the next is copied before one is
             * read: what was just written in other pieces is read late */
            const int narrow = is_narrow(s), whole = s->bands * s->pieces == 1 && !narrow;
            if (whole) copy(job, x, 0, 0, strips);
            for (int64_t q = 0, g = begin, c = 0; q < planes; q++, x += x_c) {
                const char *const w = job->w + (g * p->k * p->w_k + c * p->w_c + w_at) * s->bytes;
                char *const to = sums + (g - begin) * s->each;
                if (narrow) {
                    add_narrow(job, x, w, to);
                } else if (!whole) {
                    add_plane(job, x, w, strips, table, to);
                } else {
                    if (q + 1 < planes) copy(job, x + x_c, 0, 0, strips + (q + 1) % 2 * s->strip_bytes);
                    add_strip(job, strips + q % 2 * s->strip_bytes, w, s->height, s->width, table, to);
                }
                if (++c == p->c) c = 0, g++;
            }
        }
        for (int64_t k = begin * p->k; k < end * p->k; k++)
            store(job, n, k, outer, sums + (k - begin * p->k) * s->filter_bytes, sums + s->groups * s->each);
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    dot_cut s;
    cut(p, config, kernels, threads, &s);
    int64_t *const offset = (int64_t *)((char *)workspace + threads * s.slot_bytes);
    for (int64_t o = 0; o < s.columns; o++) offset[o] = o * s.v % s.m * s.plane + o * s.v / s.m;
    dot_job job = {&s, x, packed, epilogue, y, workspace, offset};
    fc_parallel(p->n * fc_ceil_div(p->g, s.groups), threads, run_unit, &job);
}

const fc_driver fc_driver_dot = {"dot", workspace_bytes, packed_bytes, pack, run};
