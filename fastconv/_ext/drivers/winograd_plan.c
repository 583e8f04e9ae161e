/* winograd: which axes are transformed, how tiles are numbered, and the transformed weights. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "winograd.h"

static int line_of(int64_t m, int64_t r)
{
    int line = 1;
    while (fc_lines[line].m != m || fc_lines[line].r != r) line++;
    return line;
}

/* Classes of taps: whether the sections across rows are full, and those along the innermost axis.
 * In this order those of weights other than 0 at the points inf lie together. */
static const int is_full[4][2] = {{0, 1}, {1, 1}, {1, 0}, {0, 0}};

/* Sections of an axis in a class. */
static int64_t sections_of(const transform *t, int64_t class, int64_t at)
{
    return is_full[class][at] ? t->full : t->sections - t->full;
}

/* Which axes are transformed, and how tiles are numbered. */
static void plan_axes(geometry *s, int64_t m)
{
    const fc_problem *p = &s->p;
    s->last = p->dims - 1;
    s->class[0] = 0;
    for (int64_t i = 0; i < 2; i++) s->line[i] = (transform){-1, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    int64_t others = 1;
    for (int64_t d = 0, found = 0; d < p->dims; d++) {
        if (p->ker[d] == 1 || !(m >> (8 * d) & 255)) {
            others *= p->ker[d];
            continue;
        }
        /* a lone innermost axis is transformed along itself, unless its phases are what lies dense */
        const int64_t at = d == s->last && (found || p->dilation[d] < s->kernels->lanes) ? COLUMN : ROW;
        transform *const t = &s->line[at];
        t->axis = d;
        t->m = m >> (8 * d) & 15;
        t->r = m >> (8 * d + 4) & 15;
        t->u = p->stride[d];
        /* u sections begin every r u taps */
        const int64_t before = (p->ker[d] - 1) / (t->r * t->u) * t->u, rest = p->ker[d] - before * t->r;
        t->sections = before + fc_min(t->u, rest);
        t->full = before + fc_max(0, rest - (t->r - 1) * t->u);
        t->line = line_of(t->m, t->r);
        t->points = t->m + t->r - 1;
        t->dilation = p->dilation[d];
        t->tiles = fc_ceil_div(fc_ceil_div(p->out[d], t->dilation), t->m);
        found = 1;
    }
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    s->points = row->points * column->points;
    for (int64_t i = 0; i < 4; i++)
        s->class[i + 1] = s->class[i] + others * sections_of(row, i, ROW) * sections_of(column, i, COLUMN);
    s->taps = s->class[4];
    s->depths = p->c * s->taps;
    /* tiles of a phase are read as those of a stride are, unless phases fill a vector by themselves */
    s->dense = column->axis >= 0 && column->dilation < s->kernels->lanes;
    s->step = s->dense ? column->m : 1;
    s->shift = s->dense ? column->m : column->dilation;
    s->halo = s->dense ? column->points - column->m : (column->points - 1) * column->dilation;
    s->apart = s->dense ? column->dilation : 1;
    s->stride = p->stride[s->last] * s->apart;

    s->digits = 0;
    s->digit[s->digits++] = (digit){-1, p->n, 1};
    for (int64_t d = 0; d < p->dims; d++) {
        const transform *const t = d == row->axis ? row : d == column->axis ? column : NULL;
        if (!t) {
            s->digit[s->digits++] = (digit){d, p->out[d], 1};
            continue;
        }
        const digit tiles = {d, t->tiles, t->m * t->dilation}, phases = {d, fc_min(t->dilation, p->out[d]), 1};
        const int inner = t == column && s->dense; /* tiles are */
        if (t->dilation > 1 && inner) s->digit[s->digits++] = phases;
        s->digit[s->digits++] = tiles;
        if (t->dilation > 1 && !inner) s->digit[s->digits++] = phases;
    }
    s->tiles = 1;
    for (int64_t i = 0; i < s->digits; i++) s->tiles *= s->digit[i].size;
}

/* Blocks that larger ones leave: enough for threads to share out. */
enum { BLOCKS = 16 };

void fc_winograd_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    s->p = *p;
    s->kernels = p->dtype == FC_F32 ? kernels->winograd_f32 : kernels->winograd_f64;
    s->bytes = fc_dtype_bytes(p->dtype);
    plan_axes(s, config->v[2]);
    s->transform_error = 1e-3 * (double)config->v[1];
    s->sum_error = 1e-3 * (double)config->v[3];
    const int64_t lanes = s->kernels->lanes, mr = s->kernels->mr;
    const int64_t row_points = s->line[ROW].points, row_m = s->line[ROW].m;
    const int64_t column_m = s->line[COLUMN].m;

    /* blocks of equal length, of at most as many vectors as a register tile has or u has room for in L2,
     * but of so many that 8 sums hide a multiply-add's latency: 4 cycles, two of them begun in each */
    const int64_t vectors = fc_ceil_div(s->tiles, lanes);
    const int64_t room = fc_max(1, config->v[0] / (s->points * s->depths * lanes * s->bytes));
    int64_t block = fc_max(fc_ceil_div(8, mr), fc_min(s->kernels->vectors, room));
    s->k = fc_round_up(p->k, mr);
    if (s->points * s->depths * s->k * s->bytes > config->v[0]) {
        /* weights that L2 does not hold pass by for several register tiles, as many as u has room for */
        block = fc_max(block, fc_min(room, vectors / BLOCKS) / s->kernels->vectors * s->kernels->vectors);
    }
    block = fc_ceil_div(vectors, fc_ceil_div(vectors, block));
    if (block > s->kernels->vectors) block = fc_round_up(block, s->kernels->vectors);
    s->columns = block * lanes;
    s->blocks = fc_ceil_div(vectors, block);

    /* filters whose v has room in L2 too; a u that has none is read but once, for all of them */
    const int64_t some = config->v[0] / 2 / (s->points * s->columns * s->bytes) / mr * mr;
    s->at_once = block > room ? s->k : fc_min(s->k, fc_max(mr, some));

    /* parts of the filters when blocks alone would leave threads idle, but for what it costs that each
     * part transforms the input by itself: as long as some 15 filters take */
    s->parts = 1;
    double least = 0;
    for (int64_t parts = 1; parts <= fc_min(s->k / mr, 2 * threads); parts++) {
        const int64_t rounds = fc_ceil_div(s->blocks * p->g * parts, threads);
        const double time = (double)rounds * (15 + (double)s->k / (double)parts);
        if (parts == 1 || time < 0.95 * least) {
            s->parts = parts;
            least = time;
        }
    }
    s->filters_a_part = fc_round_up(fc_ceil_div(s->k, s->parts), mr);
    s->parts = fc_ceil_div(s->k, s->filters_a_part);

    int64_t ldw;
    const int64_t filled = fc_winograd_weights(s, (s->k - 1) / s->at_once * s->at_once, &ldw);
    s->raw_at = fc_round_up((filled + s->points * ldw) * s->bytes, FC_ALIGN);
    const int64_t taps = s->line[ROW].r * s->line[COLUMN].r;
    s->level_at = fc_round_up(s->raw_at + p->k * s->depths * taps * s->bytes, FC_ALIGN);
    s->group_bytes = fc_round_up(s->level_at + p->k * (int64_t)sizeof(double), FC_ALIGN);

    const int64_t run = s->digit[s->digits - 1].size;
    const int64_t segments = fc_min(s->columns, s->columns / run + 2);
    s->pixels = s->columns * s->step + segments * (s->halo + lanes) + lanes;
    s->pixels = fc_round_up(s->pixels, lanes);
    /* one line more than the data: 36 points a multiple of 4 KB apart would share 8 ways of L1 */
    s->ldu = s->depths * s->columns + FC_ALIGN / s->bytes;
    s->ldv = s->at_once * s->columns + FC_ALIGN / s->bytes;
    s->sets = fc_ceil_div(s->line[COLUMN].points, s->step);
    s->pieces = s->sets * lanes + 1;
    s->u_bytes = s->points * s->ldu * s->bytes;
    s->v_bytes = s->points * s->ldv * s->bytes;
    s->line_bytes = row_points * s->pixels * s->bytes;
    s->peak_bytes = s->pixels * s->bytes;
    s->stage_bytes = s->line_bytes + s->peak_bytes;
    s->tile_bytes = s->columns * s->bytes;
    s->gathered_bytes = row_points * (s->sets * s->step + 1) * lanes * s->bytes;
    s->half_bytes = row_m * s->line[COLUMN].points * s->columns * s->bytes;
    s->z_bytes = row_m * column_m * s->columns * s->bytes;
    s->suspect_bytes = fc_round_up(row_m * column_m * (block) * 2, FC_ALIGN);
    s->segment_bytes = fc_round_up(segments * (int64_t)sizeof(segment), FC_ALIGN);
    s->source_bytes = fc_round_up(segments * row_points * (int64_t)sizeof(source), FC_ALIGN);
    s->piece_bytes = fc_round_up(block * s->pieces * (int64_t)sizeof(fc_piece), FC_ALIGN);
    s->slot_bytes = s->u_bytes + s->v_bytes + s->stage_bytes + s->line_bytes + s->peak_bytes + s->tile_bytes +
                    s->gathered_bytes + s->half_bytes + s->z_bytes + 2 * s->suspect_bytes +
                    s->segment_bytes + s->source_bytes + s->piece_bytes;
    s->slot_bytes = fc_round_up(s->slot_bytes, FC_ALIGN);
}

/* The points of a line but inf: 0 where it is one, p, -p, q, -q ... */
static int64_t points_of(int64_t line, double *points)
{
    const fc_line *const l = &fc_lines[line];
    int64_t count = 0;
    if (l->pairs && (l->m + l->r) % 2) points[count++] = 0;
    for (int64_t i = 0; i < l->pairs; i++) {
        points[count++] = l->pair[i];
        points[count++] = -l->pair[i];
    }
    return count;
}

/* G of a line, a x r, and how much rounding errors of the points grow on their way to the outputs,
 * m x a: abs(A') times the sums of abs(B')'s rows. kernels/winograd.c has the formulas. */
void fc_winograd_matrices(int64_t line, double *g, double *growth)
{
    const fc_line *const l = &fc_lines[line];
    const int64_t a = l->m + l->r - 1;
    double points[FC_LINE_POINTS];
    const int64_t finite = points_of(line, points);
    memset(g, 0, (size_t)(a * l->r) * sizeof *g);
    memset(growth, 0, (size_t)(l->m * a) * sizeof *growth);
    for (int64_t i = 0; i < a; i++) {
        if (i == finite) { /* inf: the last of each */
            g[i * l->r + l->r - 1] = 1;
        } else {
            double slope = 1; /* M' */
            for (int64_t j = 0; j < finite; j++)
                if (j != i) slope *= points[i] - points[j];
            double power = 1;
            for (int64_t k = 0; k < l->r; k++, power *= points[i]) g[i * l->r + k] = power / slope;
        }
        /* a row of B': the product of t - p over the other points */
        double row[FC_LINE_POINTS + 1] = {1}, size = 0;
        int64_t degree = 0;
        for (int64_t j = 0; j < finite; j++) {
            if (j == i) continue;
            degree++;
            for (int64_t k = degree; k > 0; k--) row[k] = row[k - 1] - points[j] * row[k];
            row[0] *= -points[j];
        }
        for (int64_t k = 0; k <= degree; k++) size += fabs(row[k]);
        double power = 1;
        for (int64_t o = 0; o < l->m; o++) {
            growth[o * a + i] = size * (i == finite ? o == l->m - 1 : power);
            if (i < finite) power *= fabs(points[i]);
        }
    }
}

void fc_winograd_tap(const geometry *s, int64_t tap, int64_t *first)
{
    int64_t class = 0;
    while (s->class[class + 1] <= tap) class++;
    tap -= s->class[class];
    for (int64_t d = s->p.dims - 1; d >= 0; d--) {
        const int64_t at = d == s->line[COLUMN].axis ? COLUMN : ROW;
        const transform *const t = &s->line[at];
        const int64_t count = d == t->axis ? sections_of(t, class, at) : s->p.ker[d];
        first[d] = tap % count;
        tap /= count;
        if (d != t->axis) continue;
        first[d] += is_full[class][at] ? 0 : t->full;
        first[d] = first[d] % t->u + first[d] / t->u * t->r * t->u;
    }
}

void fc_winograd_range(const geometry *s, int64_t point, int64_t *from, int64_t *to)
{
    const int64_t columns = s->line[COLUMN].points;
    const int across = point / columns == s->line[ROW].points - 1, along = point % columns == columns - 1;
    *from = across ? s->class[1] * s->p.c : 0;
    *to = s->class[along ? 2 : across ? 3 : 4] * s->p.c;
}

int64_t fc_winograd_weights(const geometry *s, int64_t k, int64_t *ldw)
{
    const int64_t first = k / s->at_once * s->at_once, pad = FC_ALIGN / s->bytes;
    *ldw = fc_min(s->at_once, s->k - first) * s->depths + pad;
    return (first * s->depths + first / s->at_once * pad) * s->points + (k - first) * s->depths;
}

/* The error level of filter k of a register tile, from the sizes of its transforms: the largest of
 * any output, for data of size 1. Transforms of the smallest weights are subnormal numbers, whose
 * errors are not relative to their size: then every output is suspect. */
static double error_level(const geometry *s, const double *growth0, const double *growth1,
                          const double *sizes, int64_t k)
{
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    const double *const size = sizes + FC_WINOGRAD_ROWS + k;
    const double least = s->bytes == 4 ? FLT_MIN / FLT_EPSILON : DBL_MIN / DBL_EPSILON;
    if (sizes[k] > 0 && sizes[k] < least) return INFINITY;
    double largest = 0;
    for (int64_t p = 0; p < row->m; p++) {
        double across[FC_LINE_POINTS] = {0};
        for (int64_t i = 0; i < row->points; i++)
            for (int64_t j = 0; j < column->points; j++)
                across[j] += growth0[p * row->points + i] *
                             size[(i * column->points + j) * FC_WINOGRAD_ROWS];
        for (int64_t q = 0; q < column->m; q++) {
            double sum = 0;
            for (int64_t j = 0; j < column->points; j++)
                sum += growth1[q * column->points + j] * across[j];
            largest = fmax(largest, sum);
        }
    }
    return s->transform_error * largest + s->sum_error * sizes[k];
}

enum { LONGEST = 5, MOST = 4 }; /* taps and outputs of a line */

typedef struct {
    const geometry *s;
    const char *w;
    char *packed;
    double g0[FC_LINE_POINTS * LONGEST], g1[FC_LINE_POINTS * LONGEST];
    double growth0[FC_LINE_POINTS * MOST], growth1[FC_LINE_POINTS * MOST];
    int64_t taps, across, along; /* of a tile, and elements of w from one to the next */
    int64_t units;                       /* register tiles of a group's filters */
} packing;

static void pack_unit(void *context, int64_t index, int64_t slot)
{
    enum { K = FC_WINOGRAD_ROWS };
    (void)slot;
    const packing *const a = context;
    const geometry *const s = a->s;
    const fc_problem *const p = &s->p;
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    const int64_t mr = s->kernels->mr, g = index / a->units, k = index % a->units * mr;
    char *const group = a->packed + g * s->group_bytes;
    double *const levels = (double *)(group + s->level_at);
    int64_t ldw;
    char *const to = group + fc_winograd_weights(s, k, &ldw) * s->bytes;
    double sizes[(1 + FC_LINE_POINTS * FC_LINE_POINTS) * K] = {0};
    for (int64_t depth = 0; depth < s->depths; depth++) {
        int64_t first[FC_DIMS], at[LONGEST * LONGEST];
        int64_t from = (g * p->k + k) * p->w_k + depth % p->c * p->w_c;
        fc_winograd_tap(s, depth / p->c, first);
        for (int64_t d = 0; d < p->dims; d++) from += first[d] * p->w_s[d];
        for (int64_t tap = 0; tap < a->taps; tap++)
            at[tap] = fc_winograd_has(s, first, tap)
                          ? tap / column->r * a->across + tap % column->r * a->along
                          : FC_NO_TAP;
        s->kernels->filters(a->g0, row->points, row->r, a->g1, column->points, column->r,
                            a->w + from * s->bytes, p->w_k, at, fc_min(mr, p->k - k),
                            group + s->raw_at + (depth * p->k + k) * a->taps * s->bytes, sizes,
                            to + depth * mr * s->bytes, ldw);
    }
    for (int64_t point = 0; point < s->points; point++)
        s->kernels->sizes(s->depths, to + point * ldw * s->bytes, sizes + (1 + point) * K);
    for (int64_t i = 0; i < fc_min(mr, p->k - k); i++)
        levels[k + i] = error_level(s, a->growth0, a->growth1, sizes, i);
}

void fc_winograd_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                      const void *w, void *packed, int64_t threads)
{
    geometry s;
    fc_winograd_plan(p, config, kernels, 1, &s);
    const transform *const row = &s.line[ROW], *const column = &s.line[COLUMN];
    packing a = {.s = &s, .w = w, .packed = packed, .taps = row->r * column->r};
    fc_winograd_matrices(row->line, a.g0, a.growth0);
    fc_winograd_matrices(column->line, a.g1, a.growth1);
    a.across = row->axis < 0 ? 0 : row->u * p->w_s[row->axis];
    a.along = column->axis < 0 ? 0 : column->u * p->w_s[column->axis];
    a.units = fc_ceil_div(s.k, s.kernels->mr);
    fc_parallel(p->g * a.units, fc_pack_threads(p->g * s.group_bytes, threads), pack_unit, &a);
}
