/* winograd: which axes are transformed, how tiles are numbered, and the transformed weights. */
#include <math.h>
#include <string.h>

#include "winograd.h"

static int line_of(int64_t m, int64_t r)
{
    int line = 1;
    while (fc_lines[line].m != m || fc_lines[line].r != r) line++;
    return line;
}

/* Which axes are transformed, and how tiles are numbered. */
static void plan_axes(geometry *s, int64_t m)
{
    const fc_problem *p = &s->p;
    s->last = p->dims - 1;
    for (int64_t i = 0; i < 2; i++) s->line[i] = (transform){-1, 0, 1, 1, 1, 1, 1};
    s->taps = 1;
    for (int64_t d = 0, found = 0; d < p->dims; d++) {
        if (p->ker[d] == 1 || !(m >> (8 * d) & 255)) {
            s->taps *= p->ker[d];
            continue;
        }
        /* a lone innermost axis is transformed along itself, unless its phases are what lies dense */
        const int64_t at = d == s->last && !(p->dilation[d] > 1 && !found) ? COLUMN : ROW;
        transform *const t = &s->line[at];
        t->axis = d;
        t->m = m >> (8 * d) & 255;
        t->r = p->ker[d];
        t->line = line_of(t->m, t->r);
        t->points = t->m + t->r - 1;
        t->dilation = p->dilation[d];
        t->tiles = fc_ceil_div(fc_ceil_div(p->out[d], t->dilation), t->m);
        found = 1;
    }
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    s->points = row->points * column->points;
    s->depths = p->c * s->taps;
    s->dense = column->axis >= 0 && column->dilation == 1;
    s->step = s->dense ? column->m : 1;
    s->shift = s->dense ? column->m : column->dilation;
    s->halo = s->dense ? column->points - column->m : (column->points - 1) * column->dilation;
    s->stride = column->axis < 0 && row->axis != s->last ? p->stride[s->last] : 1;

    s->digits = 0;
    s->digit[s->digits++] = (digit){-1, p->n, 1};
    for (int64_t d = 0; d < p->dims; d++) {
        const transform *const t = d == row->axis ? row : d == column->axis ? column : NULL;
        if (!t) {
            s->digit[s->digits++] = (digit){d, p->out[d], 1};
            continue;
        }
        s->digit[s->digits++] = (digit){d, t->tiles, t->m * t->dilation};
        if (t->dilation > 1) s->digit[s->digits++] = (digit){d, fc_min(t->dilation, p->out[d]), 1};
    }
    s->tiles = 1;
    for (int64_t i = 0; i < s->digits; i++) s->tiles *= s->digit[i].size;
}

void fc_winograd_plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    s->p = *p;
    s->kernels = p->dtype == FC_F32 ? kernels->winograd_f32 : kernels->winograd_f64;
    s->bytes = fc_dtype_bytes(p->dtype);
    plan_axes(s, config->v[2]);
    const int64_t lanes = s->kernels->lanes, mr = s->kernels->mr;
    const int64_t row_points = s->line[ROW].points, row_m = s->line[ROW].m;
    const int64_t column_m = s->line[COLUMN].m;

    /* blocks of equal length, of at most as many vectors as a register tile has or u has room for */
    const int64_t vectors = fc_ceil_div(s->tiles, lanes);
    const int64_t room = config->v[0] / (s->points * s->depths * lanes * s->bytes);
    int64_t block = fc_max(1, fc_min(s->kernels->vectors, room));
    block = fc_ceil_div(vectors, fc_ceil_div(vectors, block));
    s->columns = block * lanes;
    s->blocks = fc_ceil_div(vectors, block);

    s->k = fc_round_up(p->k, mr);
    const int64_t some = config->v[0] / 2 / (s->points * s->columns * s->bytes) / mr * mr;
    s->at_once = fc_min(s->k, fc_max(mr, some));
    const int64_t units = s->blocks * p->g;
    s->parts = fc_min(s->k / mr, units < threads ? fc_ceil_div(threads, units) : 1);
    s->filters_a_part = fc_round_up(fc_ceil_div(s->k, s->parts), mr);
    s->parts = fc_ceil_div(s->k, s->filters_a_part);

    int64_t ldw;
    const int64_t filled = fc_winograd_weights(s, (s->k - 1) / s->at_once * s->at_once, &ldw);
    s->raw_at = fc_round_up((filled + s->points * ldw) * s->bytes, FC_ALIGN);
    const int64_t taps = fc_volume(p->ker, p->dims);
    s->sum_at = fc_round_up(s->raw_at + p->k * p->c * taps * s->bytes, FC_ALIGN);
    s->group_bytes = fc_round_up(s->sum_at + (s->k + FC_WINOGRAD_ROWS) * (int64_t)sizeof(double), FC_ALIGN);

    const int64_t run = s->digit[s->digits - 1].size;
    const int64_t segments = fc_min(s->columns, s->columns / run + 2);
    s->pixels = s->columns * s->step + segments * (s->halo + lanes) + lanes;
    s->pixels = fc_round_up(s->pixels, lanes);
    /* one line more than the data: 36 points a multiple of 4 KB apart would share 8 ways of L1 */
    s->ldu = s->depths * s->columns + FC_ALIGN / s->bytes;
    s->ldv = s->at_once * s->columns + FC_ALIGN / s->bytes;
    const int64_t sets = fc_ceil_div(s->line[COLUMN].points, s->step);
    s->u_bytes = s->points * s->ldu * s->bytes;
    s->v_bytes = s->points * s->ldv * s->bytes;
    s->line_bytes = row_points * s->pixels * s->bytes;
    s->peak_bytes = s->pixels * s->bytes;
    s->tile_bytes = s->columns * s->bytes;
    s->gathered_bytes = row_points * (sets * s->step + 1) * lanes * s->bytes;
    s->half_bytes = row_m * s->line[COLUMN].points * s->columns * s->bytes;
    s->z_bytes = row_m * column_m * s->columns * s->bytes;
    s->suspect_bytes = fc_round_up(row_m * column_m * block * 2, FC_ALIGN);
    s->segment_bytes = fc_round_up(segments * (int64_t)sizeof(segment), FC_ALIGN);
    s->source_bytes = fc_round_up(segments * row_points * (int64_t)sizeof(source), FC_ALIGN);
    s->piece_bytes = fc_round_up(sets * lanes * (int64_t)sizeof(fc_piece), FC_ALIGN);
    s->slot_bytes = s->u_bytes + s->v_bytes + 2 * s->line_bytes + s->peak_bytes + s->tile_bytes +
                    s->gathered_bytes + s->half_bytes + s->z_bytes + s->suspect_bytes +
                    s->segment_bytes + s->source_bytes + s->piece_bytes;
    s->slot_bytes = fc_round_up(s->slot_bytes, FC_ALIGN);
}

/* G of a line, a x r: kernels/winograd.c has its formula. */
static void filter_matrix(int64_t line, double *g)
{
    const int64_t r = fc_lines[line].r, pairs = fc_lines[line].pairs;
    const double *const points = fc_points[fc_max(pairs - 1, 0)];
    if (!pairs) {
        g[0] = 1;
        return;
    }
    memset(g, 0, (size_t)((2 * pairs + 2) * r) * sizeof *g);
    g[0] = 1;
    for (int64_t i = 0; i < pairs; i++) g[0] /= -points[i] * points[i];
    for (int64_t i = 0; i < pairs; i++) {
        double slope = 2 * points[i] * points[i]; /* M' at +-point */
        for (int64_t j = 0; j < pairs; j++)
            if (j != i) slope *= points[i] * points[i] - points[j] * points[j];
        double power = 1 / slope;
        for (int64_t k = 0; k < r; k++, power *= points[i]) {
            g[(2 * i + 1) * r + k] = power;
            g[(2 * i + 2) * r + k] = k % 2 ? -power : power;
        }
    }
    g[(2 * pairs + 2) * r - 1] = 1;
}

/* Offset under `strides` of tap `tap` of the axes that are not transformed. */
static int64_t tap_offset(const geometry *s, int64_t tap, const int64_t *strides)
{
    int64_t at = 0;
    for (int64_t d = s->p.dims - 1; d >= 0; d--) {
        if (d == s->line[ROW].axis || d == s->line[COLUMN].axis) continue;
        at += tap % s->p.ker[d] * strides[d];
        tap /= s->p.ker[d];
    }
    return at;
}

int64_t fc_winograd_weights(const geometry *s, int64_t k, int64_t *ldw)
{
    const int64_t first = k / s->at_once * s->at_once, pad = FC_ALIGN / s->bytes;
    *ldw = fc_min(s->at_once, s->k - first) * s->depths + pad;
    return (first * s->depths + first / s->at_once * pad) * s->points + (k - first) * s->depths;
}

void fc_winograd_pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                      const void *w, void *packed)
{
    enum { LONGEST = 5 };
    geometry s;
    fc_winograd_plan(p, config, kernels, 1, &s);
    const transform *const row = &s.line[ROW], *const column = &s.line[COLUMN];
    double g0[FC_LINE_POINTS * LONGEST], g1[FC_LINE_POINTS * LONGEST];
    filter_matrix(row->line, g0);
    filter_matrix(column->line, g1);
    const int64_t mr = s.kernels->mr, taps = row->r * column->r;
    int64_t at[LONGEST * LONGEST];
    for (int64_t tap = 0; tap < taps; tap++)
        at[tap] = (row->axis < 0 ? 0 : tap / column->r * p->w_s[row->axis]) +
                  (column->axis < 0 ? 0 : tap % column->r * p->w_s[column->axis]);
    for (int64_t g = 0; g < p->g; g++) {
        char *const group = (char *)packed + g * s.group_bytes;
        double *const sums = (double *)(group + s.sum_at);
        memset(sums, 0, (size_t)(s.group_bytes - s.sum_at));
        for (int64_t k = 0; k < s.k; k += mr) {
            int64_t ldw;
            char *const to = group + fc_winograd_weights(&s, k, &ldw) * s.bytes;
            for (int64_t depth = 0; depth < s.depths; depth++) {
                const int64_t from = (g * p->k + k) * p->w_k + depth % p->c * p->w_c +
                                     tap_offset(&s, depth / p->c, p->w_s);
                s.kernels->filters(g0, row->points, row->r, g1, column->points, column->r,
                                   (const char *)w + from * s.bytes, p->w_k, at, fc_min(mr, p->k - k),
                                   group + s.raw_at + (depth * p->k + k) * taps * s.bytes, sums + k,
                                   to + depth * mr * s.bytes, ldw);
            }
        }
    }
}
