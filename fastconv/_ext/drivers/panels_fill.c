/* Where panels.c's tiles read: panels filled tap by tap, and bands; where those in gaps write. */
#include <string.h>

#include "panels.h"

/* Taps on padding that are multiplied rather than left out: a call of the tile takes as long. */
enum { BRIDGE = 16 };

/* Outputs [at, at + count) of a tile that lie in a row, the first of them o. */
typedef struct {
    int64_t at, count, o[FC_DIMS];
} run_of_pixels;

int64_t fc_panels_most_spans(int64_t taps) { return taps / (BRIDGE + 2) + 2; }

/* Samples under the windows of `outputs` outputs along an axis. */
static int64_t along(const fc_problem *p, int64_t d, int64_t outputs)
{
    return d < 0 ? 1 : (outputs - 1) * p->stride[d] + (p->ker[d] - 1) * p->dilation[d] + 1;
}

/* Lays out the samples of a channel under a block. */
static void plan_plane(const fc_problem *p, geometry *s)
{
    const int64_t last = p->dims - 1, down = last - 1, u = p->stride[last], v = down < 0 ? 1 : p->stride[down];
    const int64_t reach = (p->ker[last] - 1) * p->dilation[last] / u;
    const int64_t tiles = s->gaps ? 0 : fc_ceil_div(s->row_tiles, s->column_blocks);
    s->phase = (s->gaps ? p->out[last] : tiles * s->nr + p->out[last] % s->nr) + reach;
    s->grid = fc_ceil_div(along(p, down, s->rows), v) * s->phase;
    s->plane = fc_panels_spread_out(s, u * v * s->grid);
    s->joined = reach == 0 && s->column_blocks == 1 && !s->gaps;
}

int fc_panels_gaps(const fc_problem *p, const geometry *s)
{
    const int64_t last = p->dims - 1, row = p->out[last], reach = (p->ker[last] - 1) * p->dilation[last] / p->stride[last];
    /* in tenths: sums that lie by unit are copied once more */
    return !s->narrow && (row < s->nr || (reach && (row + reach) * 10 <= fc_round_up(row, s->nr) * 9));
}

void fc_panels_plan_bands(const fc_problem *p, int64_t target, int64_t threads, geometry *s)
{
    const int64_t down = p->dims - 2, all = down < 0 ? 1 : p->out[down], units = threads > 1 ? 4 * threads : 1;
    s->rows = all;
    s->row_tiles = s->gaps ? 1 : p->out[p->dims - 1] / s->nr;
    s->column_blocks = 1;
    plan_plane(p, s);
    while (s->rows > 1 && (p->c * s->plane * s->bytes > target || p->n * p->g * fc_ceil_div(all, s->rows) < units ||
                           (s->apart && p->k * s->rows * p->out[p->dims - 1] * s->bytes > target))) {
        s->rows = fc_ceil_div(s->rows, 2);
        plan_plane(p, s);
    }
    while (s->rows == 1 && 2 * s->column_blocks <= s->row_tiles &&
           (p->c * s->plane * s->bytes > target || p->n * p->g * all * s->column_blocks < units)) {
        s->column_blocks *= 2;
        plan_plane(p, s);
    }
    s->tile_block = 1;
    s->blocks = fc_ceil_div(all, s->rows) * s->column_blocks;
    s->filter_parts = 1;
    s->tiles_a_part = s->register_tiles;
}

/* Runs of the outputs [first, first + count) of an image. */
static int64_t find_runs(const fc_problem *p, int64_t first, int64_t count, run_of_pixels *runs)
{
    const int64_t last = p->dims - 1;
    run_of_pixels next = {0};
    int64_t found = 0;
    for (int64_t d = last; d >= 0; first /= p->out[d], d--) next.o[d] = first % p->out[d];
    while (next.at < count) {
        next.count = fc_min(count - next.at, p->out[last] - next.o[last]);
        runs[found++] = next;
        next.at += next.count;
        next.o[last] = 0;
        for (int64_t d = last - 1; d >= 0 && ++next.o[d] == p->out[d]; d--) next.o[d] = 0;
    }
    return found;
}

/* What stands for the element of a row that is padding: strides may be negative. */
#define NO_ROW INT64_MIN

/* Element of a channel that a run's row begins with under a tap of the axes before the last, or NO_ROW. */
static int64_t row_at(const fc_problem *p, const int64_t *o, int64_t tap)
{
    int64_t at = 0;
    for (int64_t d = p->dims - 2; d >= 0; tap /= p->ker[d], d--) {
        const int64_t place = o[d] * p->stride[d] + tap % p->ker[d] * p->dilation[d] - p->pad[d];
        if (place < 0 || place >= p->in[d]) return NO_ROW;
        at += place * p->x_s[d];
    }
    return at;
}

/* The pieces of a tile's panel under tap r of the last axis. */
static int64_t find_pieces(const geometry *s, const run_of_pixels *runs, const int64_t *rows, int64_t count,
                           int64_t r, fc_panel_piece *pieces)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, u = p->stride[last], lanes = s->kernels->lanes;
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        if (rows[i] == NO_ROW) continue;
        const run_of_pixels *const run = &runs[i];
        const int64_t origin = run->o[last] * u + r * p->dilation[last] - p->pad[last];
        const int64_t end = p->in[last] - origin;
        const int64_t low = run->at + (origin >= 0 ? 0 : u == 1 ? -origin : fc_ceil_div(-origin, u));
        const int64_t reach = end <= 0 ? 0 : u == 1 ? end : fc_ceil_div(end, u);
        const int64_t high = run->at + fc_min(run->count, reach);
        for (int64_t at = low; at < high;) {
            const int64_t vector = at / lanes, begin = vector * lanes, stop = fc_min(high, begin + lanes);
            pieces[found++] = (fc_panel_piece){
                vector, at - begin, stop - begin,
                rows[i] + (origin + (begin - run->at) * u) * p->x_s[last],
            };
            at = stop;
        }
    }
    return found;
}

/* Elements and places beyond it have no 32 bits for sums; of fewer channels, strided samples are picked where tiles end in
 * another row: pieces take longer to find than to copy. */
enum { LARGEST = 1 << 30, FEW = 8 };

/* A tile's pixels, picked one by one: elements from x to a row of taps, and which pixels' rows are inside there. */
typedef struct {
    fc_panel_lanes lanes;
    int64_t first, row;
    uint64_t live;
} picked;

/* Finds pixels as elements from x's first under the first row of taps of the first of them; whether all are near enough. */
static int find_lanes(const fc_problem *p, const run_of_pixels *runs, int64_t count, picked *found)
{
    const int64_t last = p->dims - 1, u = p->stride[last];
    int fits = p->in[last] < LARGEST && (p->ker[last] - 1) * p->dilation[last] < LARGEST;
    fc_panel_lanes *const lanes = &found->lanes;
    *lanes = (fc_panel_lanes){0};
    for (int64_t i = 0; i < count; lanes->count += runs[i++].count) {
        int64_t row = 0;
        for (int64_t d = 0; d < last; d++) row += (runs[i].o[d] * p->stride[d] - p->pad[d]) * p->x_s[d];
        if (i == 0) found->first = row;
        for (int64_t t = 0; t < runs[i].count; t++) {
            const int64_t place = (runs[i].o[last] + t) * u - p->pad[last];
            const int64_t index = row - found->first + place * p->x_s[last];
            fits &= place > -LARGEST && place < LARGEST && index > -LARGEST && index < LARGEST;
            lanes->place[runs[i].at + t] = (int32_t)place;
            lanes->index[runs[i].at + t] = (int32_t)index;
        }
    }
    return fits;
}

/* Goes on to a row of taps, of which pixels have `rows`. */
static void pick_row(const fc_problem *p, const run_of_pixels *runs, int64_t count, const int64_t *rows, int64_t tap,
                     picked *at)
{
    at->live = 0;
    for (int64_t i = 0; i < count; i++)
        if (rows[i] != NO_ROW) at->live |= (((uint64_t)1 << runs[i].count) - 1) << runs[i].at;
    at->row = at->first;
    for (int64_t d = p->dims - 2; d >= 0; tap /= p->ker[d], d--) at->row += tap % p->ker[d] * p->dilation[d] * p->x_s[d];
}

/* Whether taps of a row lie side by side in x, to be picked four at a time. */
static int has_fours(const geometry *s)
{
    const int64_t last = s->p->dims - 1;
    return s->kernels->fours && s->row_taps >= 4 && s->p->dilation[last] == 1 && s->p->x_s[last] == 1;
}

/* Picks tap r of a row, whose panel is `to`, or as many from it on as there are of four; how many, 0 if all is padding. */
static int64_t pick(const geometry *s, const picked *at, const char *x, int64_t channels, int64_t r, char *to)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, shift = r * p->dilation[last];
    /* the last four with some of those before */
    const int64_t begin = fc_min(r, s->row_taps - 4);
    if (has_fours(s) && s->kernels->fours(x + (at->row + begin) * s->bytes, p->x_c, &at->lanes, begin, p->in[last], at->live,
                                          channels, to - (r - begin) * channels * s->nr * s->bytes))
        return begin + 4 - r;
    return s->kernels->pixels(x + (at->row + shift * p->x_s[last]) * s->bytes, p->x_c, &at->lanes, shift, p->in[last], at->live,
                              channels, to);
}

/* Fills the panel of a tile for channels of x, and finds its spans; returns how many these are. */
static int64_t fill_panel(const geometry *s, const char *x, int64_t channels, int64_t first, int64_t count,
                          char *panel, span *spans)
{
    const fc_problem *p = s->p;
    const int64_t step = p->stride[p->dims - 1] * p->x_s[p->dims - 1], row = channels * s->nr * s->bytes;
    run_of_pixels runs[FC_PANEL_PIXELS];
    int64_t rows[FC_PANEL_PIXELS], found = 0, end = 0; /* of the last span */
    const int64_t of_tile = find_runs(p, first, count, runs), last = p->dims - 1;
    const int64_t in_row = of_tile == 1 && count == s->nr, reach = (count - 1) * p->stride[last];
    /* phases read what they need of a panel, which has no taps left out */
    const int64_t bridge = s->phases > 1 ? INT64_MAX : BRIDGE;
    /* samples side by side, or every other, are taken from vectors of x; so are others that lie in a row, if not too far apart */
    const int copied = in_row && step >= 1 && step <= s->kernels->most_step;
    picked at;
    const int picks = (step < 1 || step > 2 || (step == 2 && !in_row && channels < FEW && has_fours(s))) &&
                      find_lanes(p, runs, of_tile, &at);
    if (s->phases > 1) spans[found++] = (span){0, 0};
    for (int64_t tap = 0, r = 0, taken = 1; tap < s->kernel; tap += taken, r = r + taken < s->row_taps ? r + taken : 0) {
        fc_panel_piece pieces[FC_PANEL_PIXELS + FC_PANEL_VECTORS];
        if (r == 0) {
            for (int64_t i = 0; i < of_tile; i++) rows[i] = row_at(p, runs[i].o, tap / s->row_taps);
            if (picks) pick_row(p, runs, of_tile, rows, tap / s->row_taps, &at);
        }
        const int64_t origin = runs->o[last] * p->stride[last] + r * p->dilation[last] - p->pad[last];
        const int whole = copied && rows[0] != NO_ROW && origin >= 0 && origin + reach < p->in[last];
        const int64_t some = whole   ? 1
                             : picks ? pick(s, &at, x, channels, r, panel + tap * row)
                                     : find_pieces(s, runs, rows, of_tile, r, pieces);
        taken = picks && !whole ? fc_max(1, some) : 1;
        if (!some) continue;
        if (!found || (tap - end) * channels > bridge) {
            spans[found++] = (span){tap * channels, 0};
            end = tap;
        }
        for (; end < tap; end++) s->kernels->gather(x, 0, 1, NULL, 0, channels, panel + end * row);
        if (whole)
            s->kernels->copy(x + (rows[0] + origin * p->x_s[last]) * s->bytes, p->x_c, step, channels, panel + tap * row);
        else if (!picks)
            s->kernels->gather(x, p->x_c, step, pieces, some, channels, panel + tap * row);
        end = tap + taken;
        spans[found - 1].count = end * channels - spans[found - 1].first;
    }
    for (; s->phases > 1 && end < s->kernel; end++) s->kernels->gather(x, 0, 1, NULL, 0, channels, panel + end * row);
    return found;
}

void fc_panels_fill(const job *j, const unit *u, int64_t block)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t channels = channels_of(s, block), c = u->g * p->c + block * s->channel_block;
    const char *x = j->x + (u->n * p->x_n + c * p->x_c) * s->bytes;
    const int64_t tiles = tiles_of(s, u);
    if (j->flat) {
        /* a channel of all tiles at a time, so that a cache line is read once */
        const int64_t in_place = j->in_place ? (u->end - u->first) / s->nr : 0; /* tiles */
        const int64_t first = u->first + in_place * s->nr;
        for (int64_t i = 0; i < channels && first < u->end; i++)
            s->kernels->spread(x + (i * p->x_c + first) * s->bytes, u->end - first,
                               u->panels + (in_place * s->panel + i * s->nr) * s->bytes, s->panel);
        for (int64_t t = 0; t < tiles; t++) {
            u->found[t] = 1;
            u->spans[t * s->most_spans] = (span){0, channels};
        }
        return;
    }
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t first = u->first + t * s->nr;
        u->found[t] = fill_panel(s, x, channels, first, fc_min(s->nr, u->end - first),
                                 u->panels + t * s->panel * s->bytes, u->spans + t * s->most_spans);
    }
}

static const fc_implicit_gemm *copies_of(const job *j)
{
    return j->s->bytes == 8 ? j->kernels->implicit_gemm_f64 : j->kernels->implicit_gemm_f32;
}

/* Rows `start`, a stride apart, of a phase of a band in gaps: `count` samples each, of which those of [low, high) are x's,
 * `from` being where the first is in row 0. */
static void fill_rows(const job *j, int64_t start, int64_t rows, int64_t from, int64_t low, int64_t high, int64_t count, char *to)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, down = last - 1, v = down < 0 ? 1 : p->stride[down], in = down < 0 ? 1 : p->in[down];
    const int64_t x_row = down < 0 ? 0 : p->x_s[down];
    const int64_t begun = fc_min(rows, start < 0 ? fc_ceil_div(-start, v) : 0);
    const int64_t own = fc_min(rows, fc_ceil_div(fc_max(0, in - start), v)) - begun;
    const int64_t filled = own < rows || high - low < count ? 0 : fc_max(0, rows) * s->phase;
    memset(to + filled * s->bytes, 0, (size_t)((s->grid - filled) * s->bytes));
    if (own > 0 && low < high)
        copies_of(j)->copy(j->x + (from + (start + begun * v) * x_row) * s->bytes, v * x_row, p->stride[last] * p->x_s[last],
                           own, high - low, to + (begun * s->phase + low) * s->bytes, s->phase);
}

void fc_panels_fill_band(const job *j, const unit *u, int64_t first, int64_t rows, int64_t begin, int64_t end)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, down = last - 1, step = p->stride[last], v = down < 0 ? 1 : p->stride[down];
    const int64_t top = down < 0 ? 0 : first * v - p->pad[down], high_row = down < 0 ? 1 : p->in[down];
    const int64_t count = end - begin + (p->ker[last] - 1) * p->dilation[last] / step;
    for (int64_t c = 0; c < p->c; c++) {
        /* the last tile reads on: subnormal numbers there would take it several times as long */
        const int64_t used = v * step * s->grid, rest = s->gaps ? s->plane - used + (c == p->c - 1 ? s->nr : 0) : 0;
        memset(u->panels + (c * s->plane + used) * s->bytes, 0, (size_t)(rest * s->bytes));
        for (int64_t f = 0; f < v * step; f++) {
            const int64_t origin = begin * step + f % step - p->pad[last];
            const int64_t low = fc_min(count, origin < 0 ? fc_ceil_div(-origin, step) : 0);
            const int64_t high = fc_max(low, fc_min(count, fc_ceil_div(fc_max(0, p->in[last] - origin), step)));
            const int64_t from = u->n * p->x_n + (u->g * p->c + c) * p->x_c + origin * p->x_s[last];
            char *to = u->panels + (c * s->plane + f * s->grid) * s->bytes;
            if (s->gaps) {
                const int64_t start = top + f / step, at = from + low * step * p->x_s[last];
                fill_rows(j, start, fc_ceil_div(along(p, down, rows) - f / step, v), at, low, high, count, to);
                continue;
            }
            for (int64_t i = f / step; i < along(p, down, rows); i += v, to += s->phase * s->bytes) {
                const int64_t at = top + i, row = down < 0 ? 0 : at * p->x_s[down];
                s->kernels->line(j->x + (from + row) * s->bytes, step * p->x_s[last], low,
                                 at >= 0 && at < high_row ? high : low, count, to);
            }
        }
    }
}

/* The sums are [filter][row][output], with a gap behind each row. */
void fc_panels_store_gaps(const job *j, const unit *u, int64_t k, int64_t end)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t last = p->dims - 1, down = last - 1, width = p->out[last], y_row = down < 0 ? 0 : p->y_s[down];
    const int64_t rows = (u->end - u->first) / width, first = u->first / width * y_row;
    const char *sums = u->sums;
    for (; k < end; k++, sums += s->unit_outputs * s->bytes) {
        char *const y = j->y + (u->n * p->y_n + (u->g * p->k + k) * p->y_k + first) * s->bytes;
        if (p->y_s[last] == 1)
            copies_of(j)->copy(sums, s->phase, 1, rows, width, y, y_row);
        else
            for (int64_t i = 0; i < rows * width; i++)
                memcpy(y + (i / width * y_row + i % width * p->y_s[last]) * s->bytes,
                       sums + (i / width * s->phase + i % width) * s->bytes, (size_t)s->bytes);
    }
}

void fc_panels_offsets(const geometry *s, int64_t *offset)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, u = p->stride[last], v = last > 0 ? p->stride[last - 1] : 1;
    for (int64_t t = 0; t < s->channel_block * s->kernel; t++) {
        const int64_t tap = t / s->channel_block, c = t % s->channel_block;
        const int64_t r = tap / s->row_taps * (last > 0 ? p->dilation[last - 1] : 1);
        const int64_t at = tap % s->row_taps * p->dilation[last];
        const int64_t in_band = c * s->plane + (r % v * u + at % u) * s->grid + r / v * s->phase + at / u;
        offset[t] = s->bytes * (s->band ? in_band : t * s->nr);
    }
}
