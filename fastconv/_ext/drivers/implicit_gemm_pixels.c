/* The tables of pointers of implicit_gemm.c: where the pixels of each tile are, tap by tap. */
#include <string.h>

#include "implicit_gemm.h"

tile fc_pixels_tile(const geometry *s, int64_t index)
{
    const int64_t set = s->across ? index / s->outputs : index % s->row_tiles;
    const int64_t from = s->row * set / s->row_tiles, to = s->row * (set + 1) / s->row_tiles;
    if (s->across) return (tile){from, to - from, index % s->outputs};
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

/* The row of padding of real channel c. */
static const char *value_of(const job *j, int64_t c)
{
    return j->value + (j->s->parts == 2 && c % 2) * PIXELS * MAX_STEP * j->s->bytes;
}

#define T float
#define NAME(x) x##_f32
#include "implicit_gemm_pixels.inc"
#define T double
#define NAME(x) x##_f64
#include "implicit_gemm_pixels.inc"

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

void fc_pixels_offsets(const geometry *s, int64_t *offsets)
{
    const fc_problem *p = s->p;
    int64_t r[FC_DIMS] = {0};
    for (int64_t tap = 0; tap < s->kernel; tap++, next_tap(p, r)) {
        offsets[tap] = 0;
        for (int64_t d = 0; d < p->dims; d++)
            offsets[tap] += r[d] * p->dilation[d] * p->x_s[d] * s->parts * s->bytes;
    }
}

/* Makes the table of pointers of a tile: [channel][tap]. Returns the step between its pixels. */
static int64_t point(const job *j, const tap_block *b, tile t, const void **pointers, char *panel)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t row = s->panel_row * s->bytes;
    run_of_pixels runs[PIXELS];
    const int64_t count = find_runs(s, t, runs);
    int inside;
    const int64_t from = run_inside(s, runs, &inside);
    if (count == 1 && inside) {
        for (int64_t c = 0; c < b->channels; c++, pointers += b->taps) {
            const char *const x = b->base[c] + from * s->bytes;
            for (int64_t tap = 0; tap < b->taps; tap++) pointers[tap] = x + j->offsets[b->tap + tap];
        }
        return s->step;
    }
    /* a table has one step: where panels cannot have that of x, all taps are copied, or none */
    const int64_t mixed = s->step == s->panel_step;
    int64_t step = s->step, r[FC_DIMS];
    first_tap(p, b->tap, r);
    for (int64_t tap = 0; tap < b->taps; tap++, next_tap(p, r)) {
        segment segments[PIXELS];
        const int64_t found = find_segments(s, runs, count, r, segments);
        const int64_t whole = found == 1 && segments[0].count == t.count;
        const void **const to = pointers + tap;
        if (whole && step == s->step) {
            for (int64_t c = 0; c < b->channels; c++)
                to[c * b->taps] = b->base[c] + segments[0].from * s->bytes;
        } else if (!mixed && step == s->step) {
            step = s->panel_step; /* begin again, copying */
            tap = -1;
            first_tap(p, (b->tap + s->kernel - 1) % s->kernel, r);
        } else if (!found) {
            for (int64_t c = 0; c < b->channels; c++) to[c * b->taps] = value_of(j, b->channel + c);
        } else {
            char *const at = panel + tap * b->channels * row;
            if (s->bytes == 4)
                copy_tap_f32(j, b, segments, found, t.count, at);
            else
                copy_tap_f64(j, b, segments, found, t.count, at);
            for (int64_t c = 0; c < b->channels; c++) to[c * b->taps] = at + c * row;
        }
    }
    return step;
}

/* Transposes the block's images to planes [channel][position][image], the positions in C order. */
static void fill_planes(const job *j, const tap_block *b, const tile *images, char *planes)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t volume = fc_volume(p->in, p->dims);
    int64_t expected = 1, dense = s->parts == 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        dense &= p->in[d] == 1 || p->x_s[d] == expected;
        expected *= p->in[d];
    }
    for (int64_t c = 0; c < b->channels; c++, planes += volume * s->panel_row * s->bytes) {
        const char *const x = b->base[c] + images->first * p->x_n * s->parts * s->bytes;
        if (dense) {
            s->kernels->transpose(x, p->x_n, images->count, volume, planes,
                                  s->panel_row);
            continue;
        }
        for (int64_t position = 0; position < volume; position++) {
            int64_t at = 0, rest = position;
            for (int64_t d = p->dims - 1; d >= 0; d--) {
                at += rest % p->in[d] * p->x_s[d];
                rest /= p->in[d];
            }
            const char *from = x + at * s->parts * s->bytes;
            char *to = planes + position * s->panel_row * s->bytes;
            for (int64_t i = 0; i < images->count; i++)
                memcpy(to + i * s->bytes, from + i * p->x_n * s->parts * s->bytes, (size_t)s->bytes);
        }
    }
}

/* `point` for a tile that runs across images. */
static void point_planes(const job *j, const tap_block *b, tile t, const void **pointers,
                         const char *planes)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t row = s->panel_row * s->bytes, plane = fc_volume(p->in, p->dims) * row;
    const int64_t last = p->dims - 1, l = p->dilation[last];
    int64_t o[FC_DIMS], r[FC_DIMS];
    fc_pixels_unravel(p, t.output, o);
    first_tap(p, b->tap, r);
    for (int64_t tap = 0, count; tap < b->taps; tap += count) { /* a row of the kernel, or part of one */
        count = fc_min(b->taps - tap, p->ker[last] - r[last]);
        int64_t at = 0, inside = 1;
        for (int64_t d = 0; d < last; d++) {
            const int64_t place = source(p, d, o[d] * p->stride[d] + r[d] * p->dilation[d]);
            inside &= place >= 0;
            at = at * p->in[d] + place;
        }
        const int64_t first = o[last] * p->stride[last] + r[last] * l - p->pad[last];
        for (int64_t c = 0; c < b->channels; c++) {
            const void **const to = pointers + c * b->taps + tap, *const beyond = value_of(j, b->channel + c);
            const char *const from = planes + c * plane + at * p->in[last] * row;
            for (int64_t i = 0, place = first; i < count; i++, place += l) {
                const int64_t own = place >= 0 && place < p->in[last];
                const int64_t there = own ? place : fc_source(p, last, place + p->pad[last]);
                to[i] = inside && there >= 0 ? from + there * row : beyond;
            }
        }
        r[last] += count - 1;
        next_tap(p, r);
    }
}

/* Leaves out taps on padding at either end of a table. */
static void trim(const job *j, const void *const *pointers, extent *e)
{
    while (e->taps && pointers[e->first] == j->value) e->first++, e->taps--;
    while (e->taps && pointers[e->first + e->taps - 1] == j->value) e->taps--;
}

void fc_pixels_prepare(const job *j, const unit *u, const tap_block *b)
{
    const geometry *s = j->s;
    const int64_t set = s->across ? s->outputs : 1;
    const int64_t panel = s->across ? s->channel_block * fc_volume(s->p->in, s->p->dims) : s->block_taps;
    for (int64_t i = u->first; i < u->end; i++) {
        const int64_t at = i - u->first;
        const void **const pointers = u->pointers + at * s->block_taps;
        char *const own = u->panels + at / set * panel * s->panel_row * s->bytes;
        const tile t = fc_pixels_tile(s, i);
        if (s->across) {
            if (at % set == 0 && b->tap == 0) fill_planes(j, b, &t, own);
            point_planes(j, b, t, pointers, own);
        }
        extent *const e = &u->extents[at];
        *e = (extent){s->across ? 1 : point(j, b, t, pointers, own), 0, b->channels * b->taps};
        if (s->p->boundary == FC_ZEROS) trim(j, pointers, e);
    }
}

