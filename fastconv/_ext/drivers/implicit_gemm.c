/* implicit_gemm: y[pixel][k] = bias[k] + sum over taps of w[tap][k] * x[address(pixel) + offset(tap)].
 *
 * A matrix product of windows and filters whose windows are never written out. Register tiles
 * (kernels/implicit_gemm.c) have vectors of filters, and broadcast single pixels of x from where they
 * are, by a table of pointers: one a tap, to the tile's first pixel, the others following `step`
 * elements apart. Where a tap's pixels do not follow each other (an end of a row, padding), they
 * are copied to a panel and the pointer goes there; where all are padding it goes to a row of zeros. So
 * padding costs a copy of the few taps that touch it, and no tile is cut short by the end of a row.
 *
 * When images are many and outputs few (gradients of weights), tiles run across images: x is then
 * transposed, a block of channels at a time, to planes [channel][position][image].
 *
 * Complex data are two real channels and two real filters, as in direct.c.
 *
 * One unit of work is (group, block of tiles, part of the filters), on one thread:
 *     for block of taps
 *         for tile of the block: table of pointers, copying what must be
 *         for 2 vectors of filters, for tile: sums (+)= tile
 *             after the last taps: transpose the sums into y
 * Settings: v[0] bytes of sums and pointers a block of tiles aims at, v[1] most taps of a block,
 * v[2] whether tiles run across images.
 * Packed: per group, block of taps and 2 (at the end, maybe 1) vectors of filters, weights
 * [tap][filter], zeros for the filters missing in the last vector.
 *
 * Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008;
 * Dukhan, The Indirect Convolution Algorithm, 2019, section 3 (the table of pointers).
 */
#include <string.h>

#include "phase.h"

enum { PIXELS = FC_TILE_PIXELS, MAX_STEP = 4 };

typedef struct {
    const fc_problem *p;
    const fc_implicit_gemm *kernels;
    int64_t parts, bytes;               /* 2 for complex; bytes of a real element */
    int64_t channels, filters, padded;  /* real ones of a group; filters in whole vectors */
    int64_t kernel, taps;               /* taps of one channel, of all */
    int64_t channel_block, kernel_block, block_taps;
    int64_t across;                     /* tiles run across images */
    int64_t outputs;                    /* of an image */
    int64_t row, row_tiles, tiles;      /* pixels that share tiles evenly; tiles of a row and in all */
    int64_t tile_block, blocks, filter_parts, part_filters;
    int64_t step, panel_step;           /* between pixels in x and in panels, in real elements */
    int64_t panel_row;                  /* elements of a panel for one tap */
    int64_t pointer_bytes, panel_bytes, sum_bytes, slot_bytes, bias_bytes;
} geometry;

static void plan_taps(geometry *s, int64_t most)
{
    if (s->kernel <= most) { /* whole channels, as even as can be */
        const int64_t blocks = fc_ceil_div(s->channels, most / s->kernel);
        s->channel_block = fc_ceil_div(s->channels, blocks);
        s->kernel_block = s->kernel;
    } else {
        s->channel_block = 1;
        s->kernel_block = fc_ceil_div(s->kernel, fc_ceil_div(s->kernel, most));
    }
    s->block_taps = s->channel_block * s->kernel_block;
}

/* Tiles of at most `most` pixels: along rows where these divide well, else across their ends. */
static void plan_tiles(geometry *s, int64_t most)
{
    const fc_problem *p = s->p;
    const int64_t row = p->out[p->dims - 1], tiles = fc_ceil_div(row, most);
    if (s->across) {
        s->row = p->n;
        s->row_tiles = fc_ceil_div(p->n, most);
        s->tiles = s->row_tiles * s->outputs;
    } else if (row * 9 >= tiles * most * 7) {
        s->row = row;
        s->row_tiles = tiles;
        s->tiles = p->n * s->outputs / row * tiles;
    } else {
        s->row = p->n * s->outputs;
        s->row_tiles = s->tiles = fc_ceil_div(s->row, most);
    }
}

/* Bytes that a tile adds to a block, but for its panel, which few taps need. */
static int64_t tile_bytes(const geometry *s)
{
    const int64_t filters = s->block_taps < s->taps ? s->padded : 2 * s->kernels->lanes;
    const fc_problem *p = s->p;
    /* samples that a pixel has for itself */
    const int64_t samples = s->channel_block * (s->across ? fc_volume(p->in, p->dims) / s->outputs
                                                          : fc_volume(p->stride, p->dims));
    return s->block_taps * (int64_t)sizeof(void *) + (filters + samples) * s->kernels->pixels * s->bytes;
}

static void plan_geometry(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    const int wide = p->dtype == FC_F64 || p->dtype == FC_C128;
    s->p = p;
    s->kernels = wide ? kernels->implicit_gemm_f64 : kernels->implicit_gemm_f32;
    s->parts = p->dtype == FC_C64 || p->dtype == FC_C128 ? 2 : 1;
    s->bytes = wide ? 8 : 4;
    s->channels = s->parts * p->c;
    s->filters = s->parts * p->k;
    const int64_t lanes = s->kernels->lanes, most = s->kernels->pixels;
    s->padded = fc_round_up(s->filters, lanes);
    s->kernel = fc_volume(p->ker, p->dims);
    s->taps = s->channels * s->kernel;
    s->across = config->v[2];
    s->outputs = fc_volume(p->out, p->dims);
    plan_taps(s, config->v[1]);
    plan_tiles(s, most);

    /* blocks of tiles, of whole sets of images where tiles run across them */
    const int64_t set = s->across ? s->outputs : 1, sets = s->tiles / set;
    int64_t block = fc_max(1, fc_min(sets, config->v[0] / (tile_bytes(s) * set)));
    s->filter_parts = 1;
    if (threads > 1 && p->g * fc_ceil_div(sets, block) < 4 * threads) {
        /* weights that caches do not hold are read once if threads share them out */
        const int64_t weights = s->padded * s->taps * s->bytes, vectors = fc_ceil_div(s->padded, 2 * lanes);
        if (weights > sets * set * 32768 && vectors >= threads)
            s->filter_parts = fc_ceil_div(threads, p->g * fc_ceil_div(sets, block));
        else
            block = fc_max(1, fc_min(block, p->g * sets / (sets > 16 * threads ? 4 * threads : threads)));
    }
    s->blocks = fc_ceil_div(sets, block);
    s->tile_block = fc_ceil_div(sets, s->blocks) * set;
    s->blocks = fc_ceil_div(s->tiles, s->tile_block);
    s->part_filters = fc_round_up(fc_ceil_div(s->padded, s->filter_parts), 2 * lanes);
    s->filter_parts = fc_ceil_div(s->padded, s->part_filters);

    const int64_t last = p->dims - 1;
    s->step = p->stride[last] * p->x_s[last] * s->parts;
    s->panel_step = p->stride[last] * s->parts <= MAX_STEP && !s->across ? p->stride[last] * s->parts : 1;
    s->panel_row = PIXELS * s->panel_step;
    if (s->across) {
        s->panel_row = fc_round_up(most, lanes);
        s->panel_bytes = s->tile_block / s->outputs * s->channel_block * fc_volume(p->in, p->dims) *
                         s->panel_row * s->bytes;
    } else {
        s->panel_bytes = s->tile_block * s->block_taps * s->panel_row * s->bytes;
    }
    const int64_t kept = s->block_taps < s->taps ? fc_min(s->part_filters, s->padded) : 2 * lanes;
    const int64_t pointers = s->tile_block * (s->block_taps + 3) + s->channel_block;
    s->pointer_bytes = fc_round_up(pointers * 8, FC_ALIGN);
    s->panel_bytes = fc_round_up(s->panel_bytes, FC_ALIGN);
    s->sum_bytes = fc_round_up(s->tile_block * most * kept * s->bytes, FC_ALIGN);
    s->slot_bytes = s->pointer_bytes + s->panel_bytes + s->sum_bytes;
    s->bias_bytes = fc_round_up(p->g * s->padded * s->bytes, FC_ALIGN);
}

/* What stands for padding: a row of the value of either part, behind bias. */
static int64_t value_bytes(const geometry *s)
{
    return fc_round_up(2 * PIXELS * MAX_STEP * s->bytes, FC_ALIGN);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.bias_bytes + value_bytes(&s) + s.kernel * (int64_t)sizeof(int64_t);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    return p->g * s.padded * s.taps * s.bytes;
}

/* Whether the taps of a channel lie dense in w. */
static int dense_taps(const fc_problem *p)
{
    int64_t expected = 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        if (p->ker[d] != 1 && p->w_s[d] != expected) return 0;
        expected *= p->ker[d];
    }
    return 1;
}

/* Filters [row, row + count) of one tap, element by element. */
static void pack_tap(const geometry *s, const char *w, int64_t row, int64_t count, int64_t channel,
                     int64_t tap, char *to)
{
    const fc_problem *p = s->p;
    int64_t at = channel / s->parts * p->w_c;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        at += tap % p->ker[d] * p->w_s[d];
        tap /= p->ker[d];
    }
    for (int64_t i = 0; i < count; i++, to += s->bytes) {
        /* filters 2k and 2k + 1 are the parts of k: [wr -wi; wi wr] */
        const int64_t k = (row + i) / s->parts, part = s->parts == 2 && (row + i) % 2 ^ channel % 2;
        memcpy(to, w + ((at + k * p->w_k) * s->parts + part) * s->bytes, (size_t)s->bytes);
        if (s->parts == 2 && channel % 2 && (row + i) % 2 == 0) to[s->bytes - 1] ^= (char)0x80; /* sign */
    }
}

/* `width` filters from `row`, for `channels` channels and `taps` taps of each. */
static void pack_block(const geometry *s, const char *w, int64_t row, int64_t width, int64_t channel,
                       int64_t channels, int64_t tap, int64_t taps, char *to)
{
    const fc_problem *p = s->p;
    const int64_t count = fc_min(width, s->filters - row), step = width * s->bytes;
    if (count < width) memset(to, 0, (size_t)(channels * taps * step));
    if (s->parts == 1 && dense_taps(p)) {
        const int together = taps == s->kernel && (p->w_c == taps || channels == 1);
        const int64_t columns = together ? channels * taps : taps;
        for (int64_t c = channel; c < channel + channels; c += together ? channels : 1) {
            const int64_t at = row * p->w_k + c * p->w_c + tap;
            s->kernels->transpose(w + at * s->bytes, p->w_k, count, columns,
                                  to + (c - channel) * taps * step, width);
        }
    } else {
        for (int64_t c = channel; c < channel + channels; c++)
            for (int64_t t = tap; t < tap + taps; t++, to += step) pack_tap(s, w, row, count, c, t, to);
    }
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    char *to = packed;
    for (int64_t g = 0; g < p->g; g++)
        for (int64_t c = 0; c < s.channels; c += s.channel_block)
            for (int64_t tap = 0; tap < s.kernel; tap += s.kernel_block) {
                const int64_t channels = fc_min(s.channel_block, s.channels - c);
                const int64_t taps = fc_min(s.kernel_block, s.kernel - tap);
                const char *const group = (const char *)w + g * p->k * p->w_k * s.parts * s.bytes;
                for (int64_t row = 0, width; row < s.padded; row += width) {
                    width = fc_min(2 * s.kernels->lanes, s.padded - row);
                    pack_block(&s, group, row, width, c, channels, tap, taps, to);
                    to += channels * taps * width * s.bytes;
                }
            }
}

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const char *x;
    const fc_epilogue *epilogue;
    const char *packed, *bias, *value;
    const int64_t *offsets; /* bytes from a window's first sample to that under each tap of a channel */
    void *y;
    char *workspace;
} job;

/* A unit's block of taps: channels [channel, channel + channels) of group g, where each of them begins
 * in x, and taps of each. */
typedef struct {
    int64_t g, channel, channels, tap, taps;
    const char **base;
} tap_block;

/* Pixels [first, first + count); across images, images from `first` of output `output`. */
typedef struct {
    int64_t first, count, output;
} tile;

static tile tile_at(const geometry *s, int64_t index)
{
    const int64_t set = s->across ? index / s->outputs : index % s->row_tiles;
    const int64_t from = s->row * set / s->row_tiles, to = s->row * (set + 1) / s->row_tiles;
    if (s->across) return (tile){from, to - from, index % s->outputs};
    return (tile){index / s->row_tiles * s->row + from, to - from, 0};
}

/* Position of an output along each axis; what is left is the image. */
static int64_t unravel(const fc_problem *p, int64_t pixel, int64_t *o)
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
    next.n = unravel(p, t.first, next.o);
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
#include "implicit_gemm.inc"
#define T double
#define NAME(x) x##_f64
#include "implicit_gemm.inc"

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
    unravel(p, t.output, o);
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

/* Sums [pixel][filter] of `pixels` outputs that lie `step` apart from y[at], and filters from `k`. */
static void store_run(const job *j, const char *sums, int64_t width, int64_t pixels, int64_t g, int64_t k,
                      int64_t at, int64_t step)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t filters = fc_min(width, s->filters - k), parts = s->parts;
    at += ((g * p->k + k / parts) * p->y_k) * parts;
    char *const y = (char *)j->y + at * s->bytes;
    if (step == 1 && parts == 1)
        s->kernels->transpose(sums, width, pixels, filters, y, p->y_k);
    else if (p->y_k == 1)
        for (int64_t i = 0; i < pixels; i++)
            memcpy(y + i * step * s->bytes, sums + i * width * s->bytes, (size_t)(filters * s->bytes));
    else if (s->bytes == 4)
        scatter_f32(sums, width, pixels, filters, y, step, p->y_k * parts, parts);
    else
        scatter_f64(sums, width, pixels, filters, y, step, p->y_k * parts, parts);
    for (int64_t f = 0; f < filters; f++)
        fc_finish(p, j->kernels, j->epilogue, j->y, at + f / parts * p->y_k * parts + f % parts, pixels,
                  step);
}

/* Stores the sums of `width` filters from k of tiles [first, end). */
static void store(const job *j, const char *sums, int64_t width, int64_t first, int64_t end, int64_t g,
                  int64_t k)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    int64_t o[FC_DIMS];
    if (s->across) {
        for (int64_t i = first; i < end; i++, sums += s->kernels->pixels * width * s->bytes) {
            const tile t = tile_at(s, i);
            unravel(p, t.output, o);
            int64_t at = t.first * p->y_n;
            for (int64_t d = 0; d < p->dims; d++) at += o[d] * p->y_s[d];
            store_run(j, sums, width, t.count, g, k, at * s->parts, p->y_n * s->parts);
        }
        return;
    }
    /* axes that follow each other in y without a gap make longer runs */
    int64_t last = p->dims - 1;
    int64_t run = p->out[last];
    const int64_t step = p->y_s[last];
    while (last > 0 && p->y_s[last - 1] == step * run) run *= p->out[--last];
    const tile from = tile_at(s, first), to = tile_at(s, end - 1);
    for (int64_t pixel = from.first, count; pixel < to.first + to.count; pixel += count) {
        count = fc_min(to.first + to.count - pixel, run - pixel % run);
        int64_t at = unravel(p, pixel, o) * p->y_n;
        for (int64_t d = 0; d < p->dims; d++) at += o[d] * p->y_s[d];
        store_run(j, sums, width, count, g, k, at * s->parts, step * s->parts);
        sums += count * width * s->bytes;
    }
}

/* What goes with a tile's table: the step between its pixels, and the taps [first, first + taps) of a
 * block that are not all padding. */
typedef struct {
    int64_t step, first, taps;
} extent;

/* A unit's tiles [first, end), filters [from, to) of its group, and where its pointers, extents, panels and
 * sums are. */
typedef struct {
    int64_t g, first, end, from, to;
    const void **pointers;
    extent *extents;
    char *panels, *sums;
} unit;

/* Leaves out taps on padding at either end of a table. */
static void trim(const job *j, const void *const *pointers, extent *e)
{
    while (e->taps && pointers[e->first] == j->value) e->first++, e->taps--;
    while (e->taps && pointers[e->first + e->taps - 1] == j->value) e->taps--;
}

/* Tables of pointers of all tiles. */
static void prepare(const job *j, const unit *u, const tap_block *b)
{
    const geometry *s = j->s;
    const int64_t set = s->across ? s->outputs : 1;
    const int64_t panel = s->across ? s->channel_block * fc_volume(s->p->in, s->p->dims) : s->block_taps;
    for (int64_t i = u->first; i < u->end; i++) {
        const int64_t at = i - u->first;
        const void **const pointers = u->pointers + at * s->block_taps;
        char *const own = u->panels + at / set * panel * s->panel_row * s->bytes;
        const tile t = tile_at(s, i);
        if (s->across) {
            if (at % set == 0 && b->tap == 0) fill_planes(j, b, &t, own);
            point_planes(j, b, t, pointers, own);
        }
        extent *const e = &u->extents[at];
        *e = (extent){s->across ? 1 : point(j, b, t, pointers, own), 0, b->channels * b->taps};
        if (s->p->boundary == FC_ZEROS) trim(j, pointers, e);
    }
}

/* All tiles of one or two vectors of filters: `sums` (+)= tile. */
static void multiply(const job *j, const unit *u, const tap_block *b, int64_t k, int64_t width,
                     const char *w, char *sums)
{
    const geometry *s = j->s;
    const int64_t vectors = width / s->kernels->lanes, begun = b->channel + b->tap > 0;
    const char *const bias = j->bias + (u->g * s->padded + k) * s->bytes;
    const int64_t first = tile_at(s, u->first).first;
    for (int64_t i = u->first; i < u->end; i++) {
        const tile t = tile_at(s, i);
        const int64_t at = i - u->first, pixel = s->across ? at * s->kernels->pixels : t.first - first;
        char *const y = sums + pixel * width * s->bytes;
        const extent e = u->extents[at];
        s->kernels->tile[vectors - 1][t.count - 1](
            e.taps, u->pointers + at * s->block_taps + e.first, e.step, w + e.first * width * s->bytes,
            begun ? y : bias, begun ? width : 0, y);
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *j = context;
    const geometry *s = j->s;
    const int64_t part = index % s->filter_parts, place = index / s->filter_parts;
    const int64_t first = place % s->blocks * s->tile_block, from = part * s->part_filters;
    char *const workspace = j->workspace + slot * s->slot_bytes, *panels = workspace + s->pointer_bytes;
    const unit u = {place / s->blocks, first, fc_min(s->tiles, first + s->tile_block), from,
                    fc_min(s->padded, from + s->part_filters), (const void **)workspace,
                    (extent *)(workspace + s->tile_block * s->block_taps * 8), panels,
                    panels + s->panel_bytes};
    const fc_problem *p = s->p;
    const char **const base = (const char **)(u.extents + s->tile_block);
    const int64_t pixels = s->tile_block * s->kernels->pixels;
    for (int64_t c = 0; c < s->channels; c += s->channel_block)
        for (int64_t tap = 0; tap < s->kernel; tap += s->kernel_block) {
            const tap_block b = {u.g, c, fc_min(s->channel_block, s->channels - c), tap,
                                 fc_min(s->kernel_block, s->kernel - tap), base};
            for (int64_t i = 0; i < b.channels; i++) {
                const int64_t channel = u.g * p->c + (c + i) / s->parts;
                base[i] = j->x + (channel * p->x_c * s->parts + (c + i) % s->parts) * s->bytes;
            }
            const int64_t taps = b.channels * b.taps, before = c * s->kernel + b.channels * tap;
            const int last = c + b.channels == s->channels && tap + b.taps == s->kernel;
            const int begun = before > 0;
            const char *const w = j->packed + (u.g * s->taps + before) * s->padded * s->bytes;
            prepare(j, &u, &b);
            for (int64_t k = u.from, width; k < u.to; k += width) {
                width = fc_min(2 * s->kernels->lanes, u.to - k);
                char *const sums = u.sums + (last && !begun ? 0 : pixels * (k - u.from) * s->bytes);
                multiply(j, &u, &b, k, width, w + k * taps * s->bytes, sums);
                if (last) store(j, sums, width, u.first, u.end, u.g, k);
            }
        }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    char *const bias = (char *)workspace + threads * s.slot_bytes, *value = bias + s.bias_bytes;
    memset(bias, 0, (size_t)s.bias_bytes);
    for (int64_t g = 0; g < p->g && epilogue->bias; g++)
        memcpy(bias + g * s.padded * s.bytes, (const char *)epilogue->bias + g * s.filters * s.bytes,
               (size_t)(s.filters * s.bytes));
    for (int64_t part = 0; part < s.parts; part++) {
        char one[8];
        fc_phase_value(p, part, s.bytes, one);
        fc_phase_fill_value(value + part * PIXELS * MAX_STEP * s.bytes, PIXELS * MAX_STEP, one, s.bytes);
    }
    int64_t *const offsets = (int64_t *)(value + value_bytes(&s)), r[FC_DIMS] = {0};
    for (int64_t tap = 0; tap < s.kernel; tap++, next_tap(p, r)) {
        offsets[tap] = 0;
        for (int64_t d = 0; d < p->dims; d++)
            offsets[tap] += r[d] * p->dilation[d] * p->x_s[d] * s.parts * s.bytes;
    }
    job j = {&s, kernels, x, epilogue, packed, bias, value, offsets, y, workspace};
    fc_parallel(p->g * s.blocks * s.filter_parts, threads, run_unit, &j);
}

const fc_driver fc_driver_implicit_gemm = {"implicit_gemm", workspace_bytes, packed_bytes, pack, run};
