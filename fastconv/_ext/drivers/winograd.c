/* winograd: y = A' [ sum over c of (G w) . (B' x) ] with up to two axes transformed.
 *
 * Along an axis with a kernel of r taps, tiles of m outputs take m + r - 1 products instead of m r.
 * Taps along the other axes are summed like channels: a depth is a channel and one such tap. So are
 * sections of a kernel that has more taps, or stride u: from tap f every u-th, r of them,
 *     y[o] = sum over f of  sum over s < r of  w[f + s u] * x[(o + s) u + f - a]
 * Taps that the last sections lack are 0, and so are their weights at the point inf: depths are in an
 * order in which those that a point needs are a range. Dilated axes are transformed in phases of the
 * output: outputs l apart make up a tile. Along the innermost axis tiles of a phase are neighbours, or, where l
 * is a vector's length or more, the phases of a tile are.
 *
 * Tiles of all images are numbered, the innermost axis fastest, and each `columns` of them are a
 * block: the lanes of as many vectors as a register tile has (kernels/winograd.c), wherever in x they
 * lie, or of several register tiles, where the weights of all points come from beyond L2. A segment is a
 * run of tiles of a block along the innermost axis. One unit of work, on one thread, is (group, block,
 * part of the filters):
 *     for each depth, for each segment: rows of x transformed across the rows to `lines`; these,
 *         taken apart along the innermost axis, to u[point][depth][tile]
 *     for some filters at a time
 *         v[point][filter] = sum over depths of w[point][filter][depth] * u[point][depth]
 *         z = output transform of v, guarded, plus bias, in the order of y; copied to y
 *
 * Guard. The error of every output of a tile is at most level[k] eps peak, with peak the largest
 * abs(x) the tile reads, and level[k] how much the rounding errors of filter k's transform can grow
 * (winograd_plan.c), and is not relative to S, the sum of abs(x) * abs(w) in the output's own
 * window. An output no larger than 11 times that is suspect: its products are summed from the
 * definition, in double, until they show S to be above ten times that, or else to the end, which
 * then is the result. So are those that are not finite, as are all of a tile that reads a NaN or
 * an Inf.
 *
 * Settings: v[0] bytes of u aimed at, v[1] and v[3] thousandths of eps: the error of a transform
 * relative to its growth, and that of sums over channels relative to sum(abs(w)); v[2] m and
 * r of each transformed axis, 4 bits each.
 * Packed: per group, w[filters at a time][point][mr filters][depth][row], the taps as given
 * [depth][k], and the level of each filter.
 *
 * Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; error analysis:
 * Barabasz, Anderson, Soodhalter and Gregg, Error Analysis and Improving the Accuracy of Winograd
 * Convolution for Deep Neural Networks, ACM TOMS 46(4), 2020.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "winograd.h"

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    fc_winograd_plan(p, config, kernels, threads, &s);
    return threads * s.slot_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    fc_winograd_plan(p, config, kernels, 1, &s);
    return p->g * s.group_bytes;
}

static slot slot_at(const geometry *s, char *at)
{
    slot l = {.u = at};
    l.v = l.u + s->u_bytes;
    l.stage = l.v + s->v_bytes;
    l.zeros = l.stage + s->line_bytes;
    l.lines = l.stage + s->stage_bytes;
    l.gathered = l.lines + s->line_bytes;
    l.half = l.gathered + s->gathered_bytes;
    l.z = l.half + s->half_bytes;
    l.peak = l.z + s->z_bytes;
    l.tile_peak = l.peak + s->peak_bytes;
    l.suspect = (uint16_t *)(l.tile_peak + s->tile_bytes);
    l.wanted = (uint16_t *)((char *)l.suspect + s->suspect_bytes);
    l.segments = (segment *)((char *)l.wanted + s->suspect_bytes);
    l.sources = (source *)((char *)l.segments + s->segment_bytes);
    l.pieces = (fc_piece *)((char *)l.sources + s->source_bytes);
    return l;
}

/* v[point][k] of filters [from, to), which are packed together. */
static void multiply(const job *j, int64_t group, int64_t from, int64_t to, const slot *l)
{
    const geometry *s = j->s;
    const int64_t lanes = s->kernels->lanes, mr = s->kernels->mr, bytes = s->bytes, columns = l->columns;
    const int64_t left = l->tiles - (columns - lanes); /* tiles of the last vector */
    const int64_t most = s->kernels->vectors * lanes; /* of a register tile */
    const int64_t whole = columns - (s->kernels->product_half && 2 * left <= lanes ? lanes : 0);
    int64_t ldw;
    const char *w = j->packed + group * s->group_bytes + fc_winograd_weights(s, from, &ldw) * bytes;
    for (int64_t point = 0; point < s->points; point++, w += ldw * bytes) {
        int64_t first, last;
        fc_winograd_range(s, point, &first, &last);
        const char *const u = l->u + (point * s->ldu + first * columns) * bytes;
        char *const v = l->v + point * s->ldv * bytes;
        for (int64_t at = 0, count; at < columns; at += count) {
            count = at < whole ? fc_min(whole - at, most) : columns - at;
            void (*const run)(int64_t, const void *, int64_t, const void *, void *, int64_t) =
                at < whole ? s->kernels->product[count / lanes - 1] : s->kernels->product_half;
            for (int64_t k = from; k < to; k += mr)
                run(last - first, u + at * bytes, columns, w + ((k - from) * s->depths + first * mr) * bytes,
                    v + ((k - from) * columns + at) * bytes, columns);
        }
    }
}

/* x under tap `tap` of a depth whose taps begin at `first`, for one output. */
static double sample(const job *j, const char *x, const int64_t *o, const int64_t *first, int64_t tap)
{
    const geometry *s = j->s;
    const fc_problem *p = &s->p;
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    int64_t at = 0;
    for (int64_t d = 0; d < p->dims; d++) {
        int64_t r = first[d];
        if (d == row->axis) r += tap / column->r * row->u;
        if (d == column->axis) r += tap % column->r * column->u;
        const int64_t from = fc_source(p, d, o[d] * p->stride[d] + r * p->dilation[d]);
        if (from < 0) return p->boundary == FC_CONSTANT ? p->cval[0] : 0;
        at += from * p->x_s[d];
    }
    return fc_load(x, at, s->bytes);
}

/* Whether output o of filter k must be taken from the definition, which is then in *sum: its
 * products, a channel after the other, never exceed `floor` in total. */
static int is_small(const job *j, int64_t n, int64_t group, int64_t k, const int64_t *o, double floor,
                    double *sum)
{
    const geometry *s = j->s;
    const fc_problem *p = &s->p;
    const int64_t bytes = s->bytes, taps = s->line[ROW].r * s->line[COLUMN].r;
    const char *const raw = j->packed + group * s->group_bytes + s->raw_at;
    double size = 0;
    *sum = 0;
    for (int64_t depth = 0; depth < s->depths; depth++) {
        const char *const x = j->x + (n * p->x_n + (group * p->c + depth % p->c) * p->x_c) * bytes;
        int64_t first[FC_DIMS];
        fc_winograd_tap(s, depth / p->c, first);
        for (int64_t tap = 0; tap < taps; tap++) {
            if (!fc_winograd_has(s, first, tap)) continue;
            const double product = sample(j, x, o, first, tap) *
                                   fc_load(raw, (depth * p->k + k) * taps + tap, bytes);
            *sum += product;
            size += fabs(product);
            if (size > floor) return 0; /* never for NaN */
        }
    }
    return 1;
}

/* Looks at output (i, j) of a tile, and puts what the definition gives in its place in z. */
static void mend(const job *w, const slot *l, int64_t group, int64_t k, int64_t i, int64_t j,
                 int64_t lane, double floor, double bias)
{
    const geometry *s = w->s;
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    const segment *g = l->segments;
    while (g->lane + g->count <= lane) g++;
    int64_t o[FC_DIMS];
    memcpy(o, g->o, sizeof o);
    o[s->last] += (lane - g->lane) * s->step * s->apart;
    if (row->axis >= 0) o[row->axis] += i * row->dilation;
    if (column->axis >= 0) o[column->axis] += j * column->dilation;
    const int64_t at = s->dense ? (i * l->columns + lane) * s->step + j
                                : (i * column->m + j) * l->columns + lane;
    const double size = fabs(fc_load(l->z, at, s->bytes) - bias);
    double sum;
    if (is_small(w, g->n, group, k, o, isfinite(size) ? floor : INFINITY, &sum))
        fc_save(l->z, at, s->bytes, sum + bias);
}

/* Copies `count` outputs to places `step` apart. */
static void spread(const char *z, int64_t count, int64_t bytes, char *y, int64_t step)
{
    if (bytes == 4)
        for (int64_t t = 0; t < count; t++) ((float *)y)[t * step] = ((const float *)z)[t];
    else
        for (int64_t t = 0; t < count; t++) ((double *)y)[t * step] = ((const double *)z)[t];
}

/* Copies z to the outputs that there are; lanes are tiles side by side. */
static void store_dense(const job *w, const slot *l, int64_t filter)
{
    const geometry *s = w->s;
    const fc_problem *p = &s->p;
    const transform *const row = &s->line[ROW];
    const int64_t bytes = s->bytes, step = s->apart * p->y_s[s->last];
    const int64_t ldy = row->axis < 0 ? 0 : row->dilation * p->y_s[row->axis], ldz = l->columns * s->step;
    for (const segment *g = l->segments; g < l->segments + l->found; g++) {
        const int64_t count = g->y_count, at = g->y_at + filter * p->y_k;
        const char *const z = l->z + g->lane * s->step * bytes;
        if (!count) continue;
        if (step == 1) s->kernels->move(z, ldz, g->y_rows, count, w->y + at * bytes, ldy);
        for (int64_t i = 0; i < g->y_rows; i++) {
            if (step != 1) spread(z + i * ldz * bytes, count, bytes, w->y + (at + i * ldy) * bytes, step);
            fc_finish(p, w->kernels, w->epilogue, w->y, at + i * ldy, count, step);
            /* the next filter's */
            for (int64_t t = 0; t < count * bytes; t += FC_ALIGN)
                __builtin_prefetch(w->y + (at + i * ldy + p->y_k) * bytes + t, 1);
        }
    }
}

static void store(const job *w, const slot *l, int64_t filter)
{
    const geometry *s = w->s;
    const fc_problem *p = &s->p;
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    const int64_t bytes = s->bytes, step = p->y_s[s->last], runs = column->m;
    const int64_t ldy = row->axis < 0 ? 0 : row->dilation * p->y_s[row->axis];
    for (const segment *g = l->segments; g < l->segments + l->found; g++)
        for (int64_t i = 0; i < g->y_rows; i++)
            for (int64_t j = 0; j < runs; j++) {
                /* the innermost axis ends here or there for outputs that lie apart along it */
                const int64_t ahead = j * column->dilation * (runs > 1) +
                                      i * row->dilation * (row->axis == s->last);
                const int64_t count = fc_min(g->count, p->out[s->last] - g->o[s->last] - ahead);
                const int64_t at = g->y_at + filter * p->y_k + i * ldy + j * column->dilation * step * (runs > 1);
                const char *const z = l->z + ((i * runs + j) * l->columns + g->lane) * bytes;
                if (count <= 0) break;
                if (step == 1)
                    s->kernels->move(z, 0, 1, count, w->y + at * bytes, 0);
                else
                    spread(z, count, bytes, w->y + at * bytes, step);
                fc_finish(p, w->kernels, w->epilogue, w->y, at, count, step);
            }
}

/* Filter k of a block, whose sums are the k_at-th in v. */
static void output_filter(const job *w, const slot *l, int64_t group, int64_t k, int64_t k_at)
{
    const geometry *s = w->s;
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    const int64_t filter = group * s->p.k + k, lanes = s->kernels->lanes, vectors = l->columns / lanes;
    const double *const levels = (const double *)(w->packed + group * s->group_bytes + s->level_at);
    const double scale = w->digit * levels[k];
    const double bias = w->epilogue->bias ? fc_load(w->epilogue->bias, filter, s->bytes) : 0;
    const char *from = l->v + k_at * l->columns * s->bytes;
    if (row->line) {
        s->kernels->output_rows[row->line](from, s->ldv, column->points, l->columns, l->half);
        from = l->half;
    }
    const int suspect = s->kernels->output_columns[s->dense][column->line](
        from, row->line ? l->columns : s->ldv, row->m, l->columns, l->tile_peak, scale, bias, l->z,
        l->suspect);
    if (suspect && levels[k] > 0)
        for (int64_t i = 0; i < row->m * column->m * vectors; i++)
            for (uint32_t left = l->suspect[i] & l->wanted[i]; left; left &= left - 1) {
                const int64_t lane = i % vectors * lanes + __builtin_ctz(left), at = i / vectors;
                mend(w, l, group, k, at / column->m, at % column->m, lane,
                     scale * fc_load(l->tile_peak, lane, s->bytes), bias);
            }
    (s->dense ? store_dense : store)(w, l, filter);
}

static void run_unit(void *context, int64_t index, int64_t at)
{
    const job *j = context;
    const geometry *s = j->s;
    const int64_t part = index % s->parts, block = index / s->parts % s->blocks;
    const int64_t group = index / s->parts / s->blocks;
    slot l = slot_at(s, j->workspace + at * s->slot_bytes);
    fc_winograd_segments(s, block * s->columns, &l);
    fc_winograd_input(j, group, &l);
    const int64_t end = fc_min(s->k, (part + 1) * s->filters_a_part);
    for (int64_t from = part * s->filters_a_part, to; from < end; from = to) {
        to = fc_min(end, (from / s->at_once + 1) * s->at_once);
        multiply(j, group, from, to, &l);
        for (int64_t k = from; k < fc_min(to, s->p.k); k++) output_filter(j, &l, group, k, k - from);
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    geometry s;
    fc_winograd_plan(p, config, kernels, threads, &s);
    const double eps = p->dtype == FC_F32 ? FLT_EPSILON : DBL_EPSILON;
    job j = {&s, kernels, x, epilogue, packed, 11 * eps, y, workspace};
    fc_parallel(p->g * s.blocks * s.parts, threads, run_unit, &j);
}

const fc_driver fc_driver_winograd = {"winograd", workspace_bytes, packed_bytes, fc_winograd_pack, run};
