/* Where the pixels of implicit_gemm.c's tiles are, tap by tap: in x, in a panel, or in planes of images. */
#include <string.h>

#include "implicit_gemm.h"

tile fc_pixels_tile(const geometry *s, int64_t index)
{
    const int64_t set = s->across ? index / s->outputs : index % s->row_tiles;
    const int64_t from = s->row * set / s->row_tiles, to = s->row * (set + 1) / s->row_tiles;
    if (s->across) return (tile){from, to - from, index % s->outputs};
    if (s->flat) {
        const int64_t at = set * s->kernels->pixels;
        return (tile){index / s->row_tiles * s->row + at, fc_min(s->kernels->pixels, s->row - at), 0};
    }
    return (tile){index / s->row_tiles * s->row + from, to - from, 0};
}

int64_t fc_pixels_unravel(const fc_problem *p, int64_t pixel, int64_t *o)
{
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        o[d] = pixel % p->out[d];
        pixel /= p->out[d];
    }
    return pixel;
}

static int64_t source(const fc_problem *p, int64_t d, int64_t t)
{
    const int64_t inside = t - p->pad[d];
    return inside >= 0 && inside < p->in[d] ? inside : fc_source(p, d, t);
}

/* Pixels [at, at + count) of a tile that lie `step` apart, the first at `from`, under one tap. */
typedef struct {
    int64_t at, count, from;
} segment;

/* Adds to `found` segments the inside part of `count` pixels from o along the last axis. */
static int64_t add_run(const geometry *s, int64_t at, int64_t count, int64_t from, int64_t t,
                       segment *segments, int64_t found)
{
    const fc_problem *p = s->p;
    const int64_t d = p->dims - 1, u = p->stride[d], origin = t - p->pad[d];
    const int64_t low = fc_min(count, origin >= 0 ? 0 : fc_ceil_div(-origin, u));
    const int64_t end = p->in[d] - origin;
    const int64_t high = fc_max(low, fc_min(count, end <= 0 ? 0 : fc_ceil_div(end, u)));
    const int64_t outside = p->boundary != FC_ZEROS && p->boundary != FC_CONSTANT;
    for (int64_t i = outside ? 0 : low, n; i < (outside ? count : high); i += n) {
        const int64_t place = i >= low && i < high ? origin + i * u : fc_source(p, d, t + i * u);
        const segment next = {at + i, n = i == low && high > low ? high - low : 1,
                              from + place * p->x_s[d] * s->parts};
        segment *const last = &segments[found - 1];
        if (found && last->at + last->count == next.at && last->from + last->count * s->step == next.from)
            last->count += n;
        else
            segments[found++] = next;
    }
    return found;
}

/* A run of a tile along the last axis: pixels [at, at + count), the first of them output o of image n. */
typedef struct {
    int64_t at, count, n, o[FC_DIMS];
} run_of_pixels;

static int64_t find_runs(const geometry *s, tile t, run_of_pixels *runs)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1;
    run_of_pixels next = {0};
    next.n = fc_pixels_unravel(p, t.first, next.o);
    int64_t found = 0;
    while (next.at < t.count) {
        next.count = fc_min(t.count - next.at, p->out[last] - next.o[last]);
        runs[found++] = next;
        next.at += next.count;
        next.o[last] = 0;
        int64_t d = last - 1;
        while (d >= 0 && ++next.o[d] == p->out[d]) next.o[d--] = 0;
        next.n += d < 0;
    }
    return found;
}

/* Elements from x to the first sample under a run, when no sample under it is beyond the ends; else -1
 * in *inside. */
static int64_t run_inside(const geometry *s, const run_of_pixels *run, int *inside)
{
    const fc_problem *p = s->p;
    int64_t from = run->n * p->x_n;
    *inside = 1;
    for (int64_t d = 0; d < p->dims; d++) {
        const int64_t first = run->o[d] * p->stride[d] - p->pad[d];
        const int64_t more = d == p->dims - 1 ? (run->count - 1) * p->stride[d] : 0;
        *inside &= first >= 0 && first + more + (p->ker[d] - 1) * p->dilation[d] < p->in[d];
        from += first * p->x_s[d];
    }
    return from * s->parts;
}

/* The segments of a tile's runs under tap r of the kernel. */
static int64_t find_segments(const geometry *s, const run_of_pixels *runs, int64_t count, const int64_t *r,
                             segment *segments)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1;
    int64_t found = 0;
    for (const run_of_pixels *run = runs; run < runs + count; run++) {
        int64_t from = run->n * p->x_n, inside = 1;
        for (int64_t d = 0; d < last; d++) {
            const int64_t place = source(p, d, run->o[d] * p->stride[d] + r[d] * p->dilation[d]);
            inside &= place >= 0;
            from += place * p->x_s[d];
        }
        if (inside)
            found = add_run(s, run->at, run->count, from * s->parts,
                            run->o[last] * p->stride[last] + r[last] * p->dilation[last], segments, found);
    }
    return found;
}

static void next_tap(const fc_problem *p, int64_t *r)
{
    for (int64_t d = p->dims - 1; d >= 0 && ++r[d] == p->ker[d]; d--) r[d] = 0;
}

static void first_tap(const fc_problem *p, int64_t tap, int64_t *r)
{
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        r[d] = tap % p->ker[d];
        tap /= p->ker[d];
    }
}

/* Where real channel c of a group begins, in real elements. */
static int64_t channel_at(const geometry *s, int64_t c)
{
    return c / s->parts * s->p->x_c * s->parts + c % s->parts;
}

/* Copies `count` pixels, `step` apart, of all channels of a block to rows of a panel, from x or what
 * stands for padding: x_c may be 0 in both. */
static void copy_channels(const geometry *s, const tap_block *b, const char *x, int padding, int64_t step,
                          int64_t count, char *to)
{
    const int64_t x_c = padding ? 0 : s->p->x_c;
    for (int64_t part = 0; part < s->parts; part++) {
        const int64_t first = (b->channel + part) % s->parts; /* the part of channel b->channel + part */
        const int64_t rows = (b->channels - part + s->parts - 1) / s->parts;
        const int64_t at = padding ? first * VALUES : channel_at(s, b->channel + part);
        s->kernels->copy(x + at * s->bytes, x_c * s->parts, step, rows, count,
                         to + part * s->panel_row * s->bytes, s->panel_row * s->parts);
    }
}

/* Copies one tap of a tile to `to`; what lies between segments, and behind them, is padding. */
static void copy_tap(const job *j, const tap_block *b, const segment *segments, int64_t found,
                     int64_t pixels, char *to)
{
    const geometry *s = j->s;
    const char *const x = j->x + b->g * s->p->c * s->p->x_c * s->parts * s->bytes;
    for (int64_t i = 0, at = 0; i <= found; i++) {
        const int64_t end = i < found ? segments[i].at : pixels;
        if (at < end) copy_channels(s, b, j->value, 1, 1, end - at, to + at * s->bytes);
        if (i == found) break;
        copy_channels(s, b, x + segments[i].from * s->bytes, 0, s->step, segments[i].count,
                      to + end * s->bytes);
        at = end + segments[i].count;
    }
}

/* Copies a tile to its panel, and finds its spans. */
static int64_t copy_tile(const job *j, const tap_block *b, const run_of_pixels *runs, int64_t count, tile t,
                         char *panel, span *spans)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t row = b->channels * s->panel_row * s->bytes;
    int64_t r[FC_DIMS], found = 0, left_out = 0;
    first_tap(p, b->tap, r);
    for (int64_t tap = 0; tap < b->taps; tap++, next_tap(p, r)) {
        segment segments[PIXELS];
        const int64_t pieces = find_segments(s, runs, count, r, segments);
        if (!pieces && p->boundary == FC_ZEROS) {
            left_out++;
            continue;
        }
        if (!found || left_out * b->channels > BRIDGE) {
            spans[found++] = (span){tap * b->channels, 0};
            left_out = 0;
        }
        for (; left_out; left_out--) copy_tap(j, b, NULL, 0, t.count, panel + (tap - left_out) * row);
        copy_tap(j, b, segments, pieces, t.count, panel + tap * row);
        spans[found - 1].count = (tap + 1) * b->channels - spans[found - 1].first;
    }
    return found;
}

/* Transposes a row of x, positions `at` of a plane's last axis, for `images` images from x. */
static void fill_row(const job *j, const tap_block *b, int64_t channel, const char *x, int64_t images,
                     char *to)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, row = s->panel_row * s->bytes, length = s->extent[last];
    const char *const value = j->value + (b->channel + channel) % s->parts * VALUES * s->bytes;
    const int64_t low = x ? fc_min(length, p->pad[last]) : length;
    const int64_t high = fc_max(low, fc_min(length, p->pad[last] + p->in[last]));
    if (low < high && p->x_s[last] == 1 && s->parts == 1)
        s->kernels->transpose(x + (low - p->pad[last]) * s->bytes, p->x_n, images, high - low,
                              to + low * row, s->panel_row);
    for (int64_t i = 0; i < length; i++) {
        if (i == low && p->x_s[last] == 1 && s->parts == 1) i = high;
        if (i == length) break;
        const int64_t inside = i - p->pad[last];
        const int64_t at = !x ? -1 : inside >= 0 && inside < p->in[last] ? inside : fc_source(p, last, i);
        if (at < 0)
            memcpy(to + i * row, value, (size_t)row);
        else
            s->kernels->copy(x + at * p->x_s[last] * s->parts * s->bytes, 0, p->x_n * s->parts, 1, images,
                             to + i * row, 0);
    }
}

/* Transposes the block's images to planes [channel][position][image], padding and all. */
static void fill_planes(const job *j, const tap_block *b, const tile *images, char *planes)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, rows = fc_volume(s->extent, last);
    const char *const x = j->x + (images->first * p->x_n + b->g * p->c * p->x_c) * s->parts * s->bytes;
    for (int64_t c = 0; c < b->channels; c++)
        for (int64_t i = 0; i < rows; i++) {
            int64_t at = 0, inside = 1;
            for (int64_t d = last - 1, rest = i; d >= 0; d--) {
                const int64_t place = source(p, d, rest % s->extent[d]);
                inside &= place >= 0;
                at += place * p->x_s[d];
                rest /= s->extent[d];
            }
            at = at * s->parts + channel_at(s, b->channel + c);
            fill_row(j, b, c, inside ? x + at * s->bytes : NULL, images->count, planes);
            planes += s->extent[last] * s->panel_row * s->bytes;
        }
}

/* Bytes from a tile's first sample to that under each tap of a block, [tap][channel], in x or in planes;
 * and in panels. */
static void find_offsets(const job *j, const unit *u, const tap_block *b)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    int64_t r[FC_DIMS], *in_x = u->in_x;
    first_tap(p, b->tap, r);
    for (int64_t tap = 0; tap < b->taps; tap++, next_tap(p, r)) {
        int64_t at = 0;
        for (int64_t d = 0; d < p->dims; d++) {
            const int64_t position = r[d] * p->dilation[d];
            at = s->across ? at * s->extent[d] + position : at + position * p->x_s[d] * s->parts;
        }
        for (int64_t c = 0; c < b->channels; c++)
            *in_x++ = s->bytes * (s->across ? (at + c * s->volume) * s->panel_row
                                            : at + channel_at(s, b->channel + c));
    }
    for (int64_t tap = 0; tap < b->taps * b->channels; tap++) u->in_panel[tap] = tap * s->panel_row * s->bytes;
}

/* The place of a tile that runs across images, in their planes. */
static place place_across(const geometry *s, tile t, const int64_t *offset, const char *planes)
{
    int64_t o[FC_DIMS], at = 0;
    fc_pixels_unravel(s->p, t.output, o);
    for (int64_t d = 0; d < s->p->dims; d++) at = at * s->extent[d] + o[d] * s->p->stride[d];
    return (place){t, planes + at * s->panel_row * s->bytes, offset, 1, 1};
}

int fc_pixels_plan_flat(geometry *s)
{
    const fc_problem *p = s->p;
    int64_t size = 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        if (p->ker[d] != 1 || p->stride[d] != 1 || p->pad[d] || p->in[d] != p->out[d] ||
            p->x_s[d] != size * p->x_s[p->dims - 1] || p->y_s[d] != size * p->y_s[p->dims - 1])
            return 0;
        size *= p->in[d];
    }
    s->dense = *p;
    s->dense.in[0] = s->dense.out[0] = size;
    s->dense.x_s[0] = p->x_s[p->dims - 1];
    s->dense.y_s[0] = p->y_s[p->dims - 1];
    s->dense.dims = 1;
    s->p = &s->dense;
    return 1;
}

/* Panels of runs: a channel of all tiles of an image at a time, so that a cache line is read once. */
static void prepare_flat(const job *j, const unit *u, const tap_block *b)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t most = s->kernels->pixels;
    for (int64_t i = u->first, count; i < u->end; i += count) {
        const int64_t image = i / s->row_tiles, first = i % s->row_tiles * most;
        count = fc_min(u->end - i, s->row_tiles - i % s->row_tiles);
        const int64_t whole = fc_min(count, (s->row - first) / most);
        char *const own = u->panels + (i - u->first) * s->panel;
        const char *x = j->x + (image * p->x_n + (b->g * p->c + b->channel) * p->x_c + first * p->x_s[0]) * s->bytes;
        for (int64_t c = 0; c < b->channels; c++, x += p->x_c * s->bytes) {
            char *const to = own + c * s->panel_row * s->bytes;
            s->kernels->copy(x, most * s->step, s->step, whole, most, to, s->panel / s->bytes);
            if (whole < count)
                s->kernels->copy(x + whole * most * s->step * s->bytes, 0, s->step, 1, s->row - first - whole * most,
                                 to + whole * s->panel, 0);
        }
        for (int64_t t = 0; t < count; t++) {
            const int64_t at = i - u->first + t;
            u->spans[at * s->most_spans] = (span){0, b->channels};
            u->places[at] = (place){fc_pixels_tile(s, i + t), own + t * s->panel, u->in_panel, 1, 1};
        }
    }
}

void fc_pixels_prepare(const job *j, const unit *u, const tap_block *b)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t set = s->across ? s->outputs : 1;
    const int64_t panel = s->across ? s->channel_block * s->volume * s->panel_row * s->bytes : s->panel;
    const char *const x = j->x + b->g * p->c * p->x_c * s->parts * s->bytes;
    find_offsets(j, u, b);
    if (s->flat) {
        prepare_flat(j, u, b);
        return;
    }
    for (int64_t i = u->first; i < u->end; i++) {
        const int64_t at = i - u->first;
        char *const own = u->panels + at / set * panel;
        span *const spans = u->spans + at * s->most_spans;
        const tile t = fc_pixels_tile(s, i);
        spans[0] = (span){0, b->channels * b->taps};
        if (s->across) {
            if (at % set == 0 && b->tap == 0) fill_planes(j, b, &t, own);
            u->places[at] = place_across(s, t, u->in_x, own);
            continue;
        }
        run_of_pixels runs[PIXELS];
        const int64_t count = find_runs(s, t, runs);
        int inside;
        const int64_t from = run_inside(s, runs, &inside);
        if (count == 1 && inside && !s->copy)
            u->places[at] = (place){t, x + from * s->bytes, u->in_x, s->step, 1};
        else
            u->places[at] = (place){t, own, u->in_panel, 1, copy_tile(j, b, runs, count, t, own, spans)};
    }
}
