/* winograd: from x to the transforms u of a block of tiles. */
#include <string.h>

#include "winograd.h"

/* Which outputs of the tiles there are: others are of padding alone, small, and need no look. */
static void find_wanted(const geometry *s, const slot *l)
{
    const transform *const row = &s->line[ROW], *const column = &s->line[COLUMN];
    const int64_t lanes = s->kernels->lanes, vectors = l->columns / lanes;
    memset(l->wanted, 0, (size_t)s->suspect_bytes);
    for (const segment *g = l->segments; g < l->segments + l->found; g++)
        for (int64_t t = 0; t < g->count; t++)
            for (int64_t at = 0; at < row->m * column->m; at++) {
                const int64_t lane = g->lane + t, ahead[] = {at / column->m * row->dilation, at % column->m * column->dilation};
                int64_t last = g->o[s->last] + t * s->step * s->apart;
                int there = 1;
                for (int64_t i = ROW; i <= COLUMN; i++) {
                    const int64_t d = s->line[i].axis;
                    if (d == s->last)
                        last += ahead[i];
                    else if (d >= 0)
                        there &= g->o[d] + ahead[i] < s->p.out[d];
                }
                if (there && last < s->p.out[s->last]) l->wanted[at * vectors + lane / lanes] |= (uint16_t)(1u << lane % lanes);
            }
}

/* The segments of the block of tiles that starts with `from`. */
void fc_winograd_segments(const geometry *s, int64_t from, slot *l)
{
    const int64_t end = fc_min(s->tiles, from + s->columns);
    l->tiles = end - from;
    l->columns = fc_round_up(l->tiles, s->kernels->lanes);
    /* lanes without tiles are not stored, but a NaN there would be looked into */
    if (s->kernels->product_half && l->tiles < l->columns) memset(l->v, 0, (size_t)s->v_bytes);
    int64_t at = 0;
    for (int64_t tile = from; tile < end;) {
        segment *const g = &l->segments[l->found++];
        memset(g, 0, sizeof *g);
        for (int64_t i = s->digits - 1, rest = tile; i >= 0; rest /= s->digit[i].size, i--) {
            const digit *d = &s->digit[i];
            if (d->axis < 0)
                g->n = rest % d->size;
            else
                g->o[d->axis] += rest % d->size * d->step;
        }
        const int64_t run = s->digit[s->digits - 1].size;
        g->count = fc_min(end - tile, run - tile % run);
        g->lane = tile - from;
        g->at = at;
        g->samples = g->count * s->step + s->halo;
        at += fc_round_up(g->samples, s->kernels->lanes);
        tile += g->count;

        const transform *const row = &s->line[ROW];
        g->y_at = g->n * s->p.y_n;
        for (int64_t d = 0; d < s->p.dims; d++) g->y_at += g->o[d] * s->p.y_s[d];
        g->y_rows = 1;
        if (row->axis >= 0)
            g->y_rows = fc_min(row->m, fc_ceil_div(fc_max(0, s->p.out[row->axis] - g->o[row->axis]), row->dilation));
        const int64_t left = fc_max(0, s->p.out[s->last] - g->o[s->last]);
        g->y_count = fc_min(g->count * s->step, fc_ceil_div(left, s->apart));
    }
    find_wanted(s, l);
}

/* Where the rows of a segment lie, under tap `tap`. */
static void find_rows(const geometry *s, int64_t tap, segment *g, source *rows)
{
    const fc_problem *p = &s->p;
    const transform *const row = &s->line[ROW];
    int64_t base = g->n * p->x_n, position[FC_DIMS];
    int outside = 0;
    fc_winograd_tap(s, tap, position);
    for (int64_t d = 0; d < p->dims; d++) {
        position[d] = g->o[d] * p->stride[d] + position[d] * p->dilation[d];
        if (d == row->axis || d == s->last) continue;
        const int64_t at = fc_source(p, d, position[d]);
        outside |= at < 0;
        base += at * p->x_s[d];
    }
    for (int64_t i = 0; i < row->points; i++) {
        source *const from = &rows[i];
        *from = (source){base, position[s->last] - p->pad[s->last], 0, 0, outside};
        if (row->axis == s->last) {
            from->origin += i * row->dilation;
        } else if (row->axis >= 0) {
            const int64_t at = fc_source(p, row->axis, position[row->axis] + i * row->dilation * row->u);
            from->outside |= at < 0;
            from->base += at * p->x_s[row->axis];
        }
        const int64_t before = from->origin < 0 ? fc_ceil_div(-from->origin, s->stride) : 0;
        const int64_t room = fc_ceil_div(fc_max(0, p->in[s->last] - from->origin), s->stride);
        from->before = fc_min(g->samples, before);
        from->inside = from->outside ? 0 : fc_max(0, fc_min(g->samples, room) - from->before);
    }
}

/* Sums up the rows of a segment, where they are alike. */
static void find_inside(const geometry *s, segment *g, const source *rows)
{
    const fc_problem *p = &s->p;
    const int64_t step = p->x_s[s->last], count = s->line[ROW].points;
    g->rows = 0;
    g->alike = 1;
    for (int64_t i = 0; i < count; i++) {
        const int64_t start = rows[i].base + (rows[i].origin + rows[i].before * s->stride) * step;
        if (!rows[i].inside) continue;
        if (!g->rows) {
            g->top = i;
            g->start = start;
            g->before = rows[i].before;
            g->inside = rows[i].inside;
        }
        if (g->rows == 1) g->ld = start - g->start;
        g->alike &= i == g->top + g->rows && start == g->start + g->rows * g->ld &&
                    g->before == rows[i].before && g->inside == rows[i].inside;
        g->rows++;
    }
    const int zeros = p->boundary == FC_ZEROS || (p->boundary == FC_CONSTANT && p->cval[0] == 0);
    g->in_place = s->stride * step == 1 && g->alike && (zeros || (g->rows == count && g->inside == g->samples));
}

/* What lies beyond the ends of a row. */
static void fill_ends(const geometry *s, const char *x, const source *from, int64_t samples, char *to)
{
    const fc_problem *p = &s->p;
    const int64_t bytes = s->bytes, step = p->x_s[s->last];
    const double wide = p->boundary == FC_CONSTANT ? p->cval[0] : 0;
    for (int64_t i = 0; i < samples; i++) {
        if (i == from->before) i += from->inside;
        if (i == samples) break;
        const int64_t beyond = from->origin + i * s->stride + p->pad[s->last];
        const int64_t at = from->outside ? -1 : fc_source(p, s->last, beyond);
        if (at < 0)
            fc_save(to, i, bytes, wide);
        else
            memcpy(to + i * bytes, x + (from->base + at * step) * bytes, (size_t)bytes);
    }
}

/* Rows of `count` samples each to lines. */
static void move_rows(const geometry *s, const char *x, int64_t ldx, int64_t rows, int64_t count, char *to)
{
    const int64_t apart = s->stride * s->p.x_s[s->last];
    if (apart == 1)
        s->kernels->move(x, ldx, rows, count, to, s->pixels);
    else
        s->kernels->pick(x, ldx, apart, s->p.x_c, rows, count, to, s->pixels);
}

/* Transforms a segment of one depth across its rows. Ends that are constant are filled the first time. */
static void transform_rows(const geometry *s, const char *x, const segment *g, const source *rows,
                           int first, const slot *l)
{
    const int64_t bytes = s->bytes, pitch = s->pixels, count = s->line[ROW].points;
    const int constant = s->p.boundary == FC_ZEROS || s->p.boundary == FC_CONSTANT;
    char *const stage = l->stage + g->at * bytes;
    if (!g->in_place && (first || !constant))
        for (int64_t r = 0; r < count; r++)
            fill_ends(s, x, rows + r, g->samples, stage + r * pitch * bytes);
    if (!g->in_place && g->alike)
        move_rows(s, x + g->start * bytes, g->ld, g->rows, g->inside,
                  stage + (g->top * pitch + g->before) * bytes);
    else if (!g->in_place)
        for (int64_t r = 0; r < count; r++) {
            const source *const from = rows + r;
            const int64_t at = from->origin + from->before * s->stride;
            move_rows(s, x + (from->base + at * s->p.x_s[s->last]) * bytes, 0, from->inside > 0,
                      from->inside, stage + (r * pitch + from->before) * bytes);
        }
    const void *from[FC_LINE_POINTS];
    for (int64_t r = 0; r < count; r++) {
        from[r] = g->in_place ? l->zeros : stage + r * pitch * bytes;
        if (g->in_place && r >= g->top && r < g->top + g->rows)
            from[r] = x + (g->start - g->before + (r - g->top) * g->ld) * bytes;
    }
    const int64_t low = g->in_place ? g->before : 0, high = g->in_place ? low + g->inside : g->samples;
    s->kernels->input_rows[s->line[ROW].line](from, s->p.x_c, low, high, g->samples, l->lines + g->at * bytes,
                                              pitch, l->peak + g->at * bytes);
}

/* Pieces of a vector: none when all of its tiles lie in one segment. One more before them holds where
 * its first sample is, and their number. */
static fc_piece *pieces_of(const geometry *s, const slot *l, int64_t lane)
{
    return l->pieces + lane / s->kernels->lanes * s->pieces;
}

static void find_pieces(const geometry *s, slot *l)
{
    const int64_t lanes = s->kernels->lanes;
    const segment *g = l->segments, *const end = g + l->found;
    for (int64_t lane = 0; lane < l->columns; lane += lanes) {
        while (g->lane + g->count <= lane) g++;
        fc_piece *const pieces = pieces_of(s, l, lane);
        int64_t count = 0;
        for (int64_t set = 0; set < s->sets && g->lane + g->count < lane + lanes; set++)
            for (const segment *h = g; h < end && h->lane < lane + lanes; h++) {
                const int64_t first = fc_max(lane, h->lane);
                const int64_t last = fc_min(lane + lanes, h->lane + h->count);
                pieces[++count] = (fc_piece){
                    h->at + (first - h->lane) * s->step + set * s->shift,
                    (set * lanes + first - lane) * s->step, (last - first) * s->step,
                };
            }
        pieces[0] = (fc_piece){g->at + (lane - g->lane) * s->step, 0, count};
    }
}

/* u of one depth, from `lines`. */
static void transform_columns(const geometry *s, const slot *l, char *u)
{
    const int64_t lanes = s->kernels->lanes, bytes = s->bytes, rows = s->line[ROW].points;
    const int64_t ldgathered = (s->sets * s->step + 1) * lanes;
    for (int64_t lane = 0; lane < l->columns; lane += lanes) {
        const fc_piece *const pieces = pieces_of(s, l, lane);
        const char *from = l->lines + pieces[0].from * bytes;
        int64_t ld = s->pixels, shift = s->shift;
        if (pieces[0].count) {
            s->kernels->copy(l->lines, s->pixels, rows, pieces + 1, pieces[0].count, l->gathered, ldgathered);
            from = l->gathered;
            ld = ldgathered;
            shift = lanes * s->step;
        }
        s->kernels->input_columns[s->dense][s->line[COLUMN].line](from, ld, shift, rows,
                                                                  u + lane * bytes, s->ldu);
    }
}

/* u of a block, and the peaks of its tiles. */
void fc_winograd_input(const job *j, int64_t group, slot *l)
{
    const geometry *s = j->s;
    const fc_problem *p = &s->p;
    const int64_t bytes = s->bytes, rows = s->line[ROW].points;
    find_pieces(s, l);
    memset(l->stage, 0, (size_t)s->stage_bytes);
    memset(l->lines, 0, (size_t)s->line_bytes);
    memset(l->gathered, 0, (size_t)s->gathered_bytes);
    memset(l->peak, 0, (size_t)s->peak_bytes);
    for (int64_t tap = 0; tap < s->taps; tap++) {
        for (int64_t i = 0; i < l->found; i++) {
            find_rows(s, tap, &l->segments[i], l->sources + i * rows);
            find_inside(s, &l->segments[i], l->sources + i * rows);
        }
        for (int64_t c = 0; c < p->c; c++) {
            const char *const x = j->x + (group * p->c + c) * p->x_c * bytes;
            for (int64_t i = 0; i < l->found; i++)
                transform_rows(s, x, &l->segments[i], l->sources + i * rows, c == 0, l);
            transform_columns(s, l, l->u + (tap * p->c + c) * l->columns * bytes);
        }
    }
    /* the peak of a tile: of the samples that it reads of each row */
    const int64_t count = s->dense ? s->line[COLUMN].points : s->halo + 1;
    for (int64_t t = 0; t < l->columns; t++) fc_save(l->tile_peak, t, bytes, -1);
    for (int64_t i = 0; i < l->found; i++)
        for (int64_t t = 0; t < l->segments[i].count; t++) {
            double highest = 0;
            for (int64_t m = 0; m < count; m += s->dense ? 1 : s->shift) {
                const double next = fc_load(l->peak, l->segments[i].at + t * s->step + m, bytes);
                highest = highest < next ? next : highest;
            }
            /* of zeros alone nothing is suspect */
            fc_save(l->tile_peak, l->segments[i].lane + t, bytes, highest > 0 ? highest : -1);
        }
}

