/* winograd: y = A' [ sum over c of (G w G') . (B' d B) ] A on m x m output tiles, 3 x 3 kernels.
 *
 * A convolution in tiles of m outputs reads the input with stride m: the phase planes (phase.h) of
 * that strided problem hold point (i, j) of consecutive tiles consecutively, so that the transforms
 * (kernels/winograd.c) load plain vectors and the products are the register tiles of a matrix
 * product (kernels/tile.c) with offset[c] = c * columns.
 *
 * One unit of work is (image, group, band of tile rows), on one thread:
 *     fill planes
 *     for `columns` consecutive tiles
 *         u[point][c] = input transform, for every channel
 *         v[point][k] = sum over c of w[point][k][c] * u[point][c], for every point
 *         z = output transform, guarded, plus bias, for every filter
 *
 * Guard. The error of every output of a tile is relative to peak * sum(abs(w[k])), with peak the
 * largest abs(x) the tile reads, and not to S, the sum of abs(x) * abs(w) in the output's own
 * window. An output no larger than v[1] eps times that is suspect: its products are summed from
 * the definition, in double, until they show S to be large, or else to the end, which then is the
 * result. So are those that are not finite, and all of a tile that reads a NaN or an Inf.
 *
 * Settings: v[0] bytes of planes aimed at, v[1] the guard's factor, v[2] m.
 * Packed: per group, w[point][block of mr filters][c][row], the 9 taps of each filter as given, and
 * sum(abs(w)) of each filter.
 *
 * Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; error analysis:
 * Barabasz, Anderson, Soodhalter and Gregg, Error Analysis and Improving the Accuracy of Winograd
 * Convolution for Deep Neural Networks, ACM TOMS 46(4), 2020.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "phase.h"

/* Products are summed over this many channels at a time: the error of a sum of C of one sign grows
 * with CHANNELS + C / CHANNELS instead of C. */
enum { MAX_POINTS = 36, TAPS = 9, CHANNELS = 32 };

typedef struct {
    fc_problem p;       /* as given */
    fc_problem strided; /* tiles as outputs: kernel m + 2, stride m */
    const fc_winograd *transform;
    const fc_tiles *tiles;
    int64_t bytes, m, points, columns;
    int64_t k;        /* filters of a group, rounded up to whole register tiles */
    int64_t ldu, ldv; /* elements from one point of u and v to the next */
    int64_t bands, band;
    int64_t raw_at, sum_at, filter_bytes; /* taps and sums in a group's packed weights; their size */
    int64_t plane_bytes, u_bytes, v_bytes, z_bytes, slot_bytes;
    fc_phase layout;
} geometry;

static void plan_geometry(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    const int f32 = p->dtype == FC_F32;
    s->p = *p;
    s->bytes = fc_dtype_bytes(p->dtype);
    s->tiles = f32 ? kernels->tile_f32 : kernels->tile_f64;
    s->m = config->v[2];
    if (s->m == 2)
        s->transform = f32 ? kernels->winograd2_f32 : kernels->winograd2_f64;
    else
        s->transform = f32 ? kernels->winograd4_f32 : kernels->winograd4_f64;
    s->points = (s->m + 2) * (s->m + 2);
    s->strided = *p;
    for (int64_t d = 0; d < 2; d++) {
        s->strided.ker[d] = s->m + 2;
        s->strided.stride[d] = s->m;
        s->strided.out[d] = fc_ceil_div(p->out[d], s->m);
    }
    s->columns = s->tiles->by_rows[0].columns;
    s->k = fc_round_up(p->k, s->tiles->by_rows[0].rows);

    fc_phase_layout(&s->strided, 1, &s->layout);
    const int64_t rows = s->strided.out[0];
    const int64_t unit = p->c * s->layout.planes * s->layout.pitch[0] * s->bytes;
    int64_t band = fc_max(config->v[0] / unit - 1, 1);
    if (p->n * p->g < threads) band = fc_min(band, fc_ceil_div(rows, fc_ceil_div(threads, p->n * p->g)));
    s->bands = fc_ceil_div(rows, fc_min(band, rows));
    s->band = fc_ceil_div(rows, s->bands);
    s->bands = fc_ceil_div(rows, s->band);
    fc_phase_layout(&s->strided, s->band, &s->layout);

    s->raw_at = s->k * p->c * s->points * s->bytes;
    s->sum_at = fc_round_up(s->raw_at + p->k * p->c * TAPS * s->bytes, FC_ALIGN);
    s->filter_bytes = fc_round_up(s->sum_at + p->k * (int64_t)sizeof(double), FC_ALIGN);
    s->plane_bytes = fc_round_up((p->c * s->layout.planes * s->layout.plane + s->columns) * s->bytes,
                                 FC_ALIGN);
    /* one line more than the data: 36 points a multiple of 4 KB apart would share 8 ways of L1 */
    s->ldu = p->c * s->columns + FC_ALIGN / s->bytes;
    s->ldv = s->k * s->columns + FC_ALIGN / s->bytes;
    s->u_bytes = s->points * s->ldu * s->bytes;
    s->v_bytes = s->points * s->ldv * s->bytes;
    s->z_bytes = fc_round_up((s->m * s->m + 1) * s->columns * s->bytes, FC_ALIGN); /* and peaks */
    s->slot_bytes = s->plane_bytes + s->u_bytes + s->v_bytes + s->z_bytes +
                    fc_round_up(s->columns * (int64_t)sizeof(fc_run), FC_ALIGN);
}

static int64_t offsets_bytes(const geometry *s)
{
    return (s->p.c * s->points + s->p.c) * (int64_t)sizeof(int64_t);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + offsets_bytes(&s);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    return p->g * s.filter_bytes;
}

/* One line of G: 3 taps every `step` to m + 2 points every `to`. */
static void filter_line(int64_t m, const double *w, int64_t step, double *u, int64_t to)
{
    const double w0 = w[0], w1 = w[step], w2 = w[2 * step];
    if (m == 2) {
        u[0] = w0;
        u[to] = (w0 + w1 + w2) / 2;
        u[2 * to] = (w0 - w1 + w2) / 2;
        u[3 * to] = w2;
    } else {
        const double p = FC_WINOGRAD_P, q = FC_WINOGRAD_Q, pp = p * p, qq = q * q;
        const double scale_p = 1 / (2 * pp * (pp - qq)), scale_q = 1 / (2 * qq * (qq - pp));
        u[0] = w0 / (pp * qq);
        u[to] = (w0 + p * w1 + pp * w2) * scale_p;
        u[2 * to] = (w0 - p * w1 + pp * w2) * scale_p;
        u[3 * to] = (w0 + q * w1 + qq * w2) * scale_q;
        u[4 * to] = (w0 - q * w1 + qq * w2) * scale_q;
        u[5 * to] = w2;
    }
}

static double load(const void *a, int64_t i, int64_t bytes)
{
    return bytes == 4 ? (double)((const float *)a)[i] : ((const double *)a)[i];
}

static void save(void *a, int64_t i, int64_t bytes, double value)
{
    if (bytes == 4)
        ((float *)a)[i] = (float)value;
    else
        ((double *)a)[i] = value;
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    const int64_t a = s.m + 2;
    for (int64_t g = 0; g < p->g; g++) {
        char *const group = (char *)packed + g * s.filter_bytes;
        double *const sums = (double *)(group + s.sum_at);
        const int64_t mr = s.tiles->by_rows[0].rows;
        memset(group, 0, (size_t)s.raw_at); /* filters that only fill up a register tile */
        for (int64_t k = 0; k < p->k; k++) sums[k] = 0;
        /* a register tile's filters together: each point of theirs is one short row of the result */
        for (int64_t block = 0; block < p->k; block += mr)
            for (int64_t c = 0; c < p->c; c++)
                for (int64_t k = block; k < fc_min(block + mr, p->k); k++) {
                    double taps[TAPS], half[18], u[MAX_POINTS];
                    for (int64_t t = 0; t < TAPS; t++) {
                        taps[t] = load(w, (g * p->k + k) * p->w_k + c * p->w_c + t / 3 * p->w_s[0] +
                                              t % 3 * p->w_s[1], s.bytes);
                        sums[k] += fabs(taps[t]);
                        save(group + s.raw_at, (k * p->c + c) * TAPS + t, s.bytes, taps[t]);
                    }
                    for (int64_t column = 0; column < 3; column++)
                        filter_line(s.m, taps + column, 3, half + column, 3);
                    for (int64_t row = 0; row < a; row++)
                        filter_line(s.m, half + row * 3, 1, u + row * a, 1);
                    for (int64_t point = 0; point < s.points; point++)
                        save(group, (point * s.k + block) * p->c + c * mr + k - block, s.bytes,
                             u[point]);
                }
    }
}

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const void *x;
    const fc_epilogue *epilogue;
    const char *packed;
    const int64_t *points, *rows; /* offsets of the transform's points and of the product's rows */
    double guard;                 /* v[1] * eps */
    void *y;
    char *workspace;
} job;

/* v[point][k] for every point and filter of one run of tiles. */
static void multiply(const job *j, const char *group, const char *u, char *v)
{
    const geometry *s = j->s;
    const fc_tile *tile = s->tiles->by_rows;
    for (int64_t point = 0; point < s->points; point++) {
        const char *const from = u + point * s->ldu * s->bytes;
        for (int64_t k = 0; k < s->k; k += tile->rows) {
            const char *const w = group + (point * s->k + k) * s->p.c * s->bytes;
            char *const sums = v + (point * s->ldv + k * s->columns) * s->bytes;
            for (int64_t c = 0; c < s->p.c; c += CHANNELS)
                tile->run(fc_min(CHANNELS, s->p.c - c), j->rows + c, from,
                          w + c * tile->rows * s->bytes, sums, s->columns, c > 0);
        }
    }
}

/* Where the tiles of one run and one filter go, and what their guard needs. */
typedef struct {
    int64_t rows, columns;    /* outputs that exist, at most m rows and count * m columns */
    int64_t position, count;  /* of the first tile in the planes; tiles */
    const char *taps, *planes;
    double bias, floor;       /* outputs up to floor * peak are computed again */
    char *y;                  /* of the first output */
} target;

/* Whether output (i, column) of tile t must be taken from the definition, which is then in *sum:
 * its products, a channel after the other, never exceed `floor` in total. */
static int is_small(const job *j, const target *to, int64_t i, int64_t column, int64_t t,
                    double floor, double *sum)
{
    const geometry *s = j->s;
    const int64_t a = s->m + 2;
    double size = 0;
    *sum = 0;
    for (int64_t c = 0; c < s->p.c; c++) {
        for (int64_t tap = 0; tap < TAPS; tap++) {
            const int64_t point = (i + tap / 3) * a + column + tap % 3;
            const int64_t at = j->points[c * s->points + point] + to->position + t;
            const double product = load(to->planes, at, s->bytes) *
                                   load(to->taps, c * TAPS + tap, s->bytes);
            *sum += product;
            size += fabs(product);
        }
        if (size > floor) return 0; /* never for NaN */
    }
    return 1;
}

#define T float
#define NAME(x) x##_f32
#include "winograd_store.inc"
#define T double
#define NAME(x) x##_f64
#include "winograd_store.inc"

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *j = context;
    const geometry *s = j->s;
    const fc_problem *p = &s->p;
    const int64_t band = index % s->bands, image = index / s->bands;
    const int64_t n = image / p->g, g = image % p->g, start = band * s->band;
    const int64_t count = fc_min(s->band, s->strided.out[0] - start);
    const char *const group = j->packed + g * s->filter_bytes;
    char *const planes = j->workspace + slot * s->slot_bytes;
    char *const u = planes + s->plane_bytes, *const v = u + s->u_bytes, *const z = v + s->v_bytes;
    char *const peak = z + s->m * s->m * s->columns * s->bytes;
    fc_run *const runs = (fc_run *)(z + s->z_bytes);
    fc_phase_fill(&s->strided, &s->layout, j->x, n, g * p->c, p->c, start, count, s->columns, 1,
                  s->bytes, planes);
    const double *const sums = (const double *)(group + s->sum_at);
    for (int64_t position = 0;
         (position = fc_phase_next(&s->strided, &s->layout, count, position)) >= 0;
         position += s->columns) {
        const int64_t found =
            fc_phase_runs(&s->strided, &s->layout, count, position, s->columns, runs);
        memset(peak, 0, (size_t)(s->columns * s->bytes));
        for (int64_t c = 0; c < p->c; c++)
            s->transform->input(planes + position * s->bytes, j->points + c * s->points, s->columns,
                                u + c * s->columns * s->bytes, s->ldu, peak);
        multiply(j, group, u, v);
        for (int64_t k = 0; k < p->k; k++) {
            const double scale = j->guard * sums[k];
            const int suspect = s->transform->output(v + k * s->columns * s->bytes, s->ldv, s->columns,
                                                     peak, scale, z);
            for (int64_t i = 0; i < found; i++) {
                const fc_run *run = &runs[i];
                const int64_t row = (run->o[0] + start) * s->m, column = run->o[1] * s->m;
                const int64_t filter = g * p->k + k;
                const int64_t at = n * p->y_n + filter * p->y_k + row * p->y_s[0] + column * p->y_s[1];
                const target to = {
                    .rows = fc_min(s->m, p->out[0] - row), .columns = p->out[1] - column,
                    .position = position + run->column, .count = run->count,
                    .taps = group + s->raw_at + k * p->c * TAPS * s->bytes, .planes = planes,
                    .bias = j->epilogue->bias ? load(j->epilogue->bias, filter, s->bytes) : 0, .floor = scale,
                    .y = (char *)j->y + at * s->bytes,
                };
                (p->dtype == FC_F32 ? store_f32 : store_f64)(
                    j, &to, z + run->column * s->bytes, suspect ? peak + run->column * s->bytes : NULL);
                for (int64_t r = 0; r < to.rows; r++)
                    fc_finish(p, j->kernels, j->epilogue, j->y, at + r * p->y_s[0],
                              fc_min(run->count * s->m, to.columns), p->y_s[1]);
            }
        }
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    int64_t *const points = (int64_t *)((char *)workspace + threads * s.slot_bytes);
    int64_t *const rows = points + p->c * s.points;
    fc_phase_offsets(&s.strided, &s.layout, p->c, points);
    for (int64_t c = 0; c < p->c; c++) rows[c] = c * s.columns;
    const double eps = p->dtype == FC_F32 ? FLT_EPSILON : DBL_EPSILON;
    job j = {&s, kernels, x, epilogue, packed, points, rows, (double)config->v[1] * eps, y, workspace};
    fc_parallel(p->n * p->g * s.bands, threads, run_unit, &j);
}

const fc_driver fc_driver_winograd = {"winograd", workspace_bytes, packed_bytes, pack, run};
