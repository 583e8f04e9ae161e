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

#include "implicit_gemm.h"

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

typedef struct {
    const geometry *s;
    const char *w;
    char *packed;
    int64_t units; /* of a group: two vectors of filters each, of all blocks of taps */
} packing;

static void pack_unit(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const geometry *const s = a->s;
    const int64_t g = index / a->units, row = index % a->units * 2 * s->kernels->lanes;
    const int64_t width = fc_min(2 * s->kernels->lanes, s->padded - row);
    const char *const group = a->w + g * s->p->k * s->p->w_k * s->parts * s->bytes;
    char *block = a->packed + g * s->taps * s->padded * s->bytes;
    for (int64_t c = 0; c < s->channels; c += s->channel_block)
        for (int64_t tap = 0; tap < s->kernel; tap += s->kernel_block) {
            const int64_t channels = fc_min(s->channel_block, s->channels - c);
            const int64_t taps = fc_min(s->kernel_block, s->kernel - tap);
            pack_block(s, group, row, width, c, channels, tap, taps,
                       block + channels * taps * row * s->bytes);
            block += channels * taps * s->padded * s->bytes;
        }
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    packing a = {&s, w, packed, fc_ceil_div(s.padded, 2 * s.kernels->lanes)};
    const int64_t bytes = p->g * s.taps * s.padded * s.bytes;
    fc_parallel(p->g * a.units, fc_pack_threads(bytes, threads), pack_unit, &a);
}

#define T float
#define NAME(x) x##_f32
#include "implicit_gemm_store.inc"
#define T double
#define NAME(x) x##_f64
#include "implicit_gemm_store.inc"

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
            const tile t = fc_pixels_tile(s, i);
            fc_pixels_unravel(p, t.output, o);
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
    const tile from = fc_pixels_tile(s, first), to = fc_pixels_tile(s, end - 1);
    for (int64_t pixel = from.first, count; pixel < to.first + to.count; pixel += count) {
        count = fc_min(to.first + to.count - pixel, run - pixel % run);
        int64_t at = fc_pixels_unravel(p, pixel, o) * p->y_n;
        for (int64_t d = 0; d < p->dims; d++) at += o[d] * p->y_s[d];
        store_run(j, sums, width, count, g, k, at * s->parts, step * s->parts);
        sums += count * width * s->bytes;
    }
}

/* All tiles of one or two vectors of filters: `sums` (+)= tile. */
static void multiply(const job *j, const unit *u, const tap_block *b, int64_t k, int64_t width,
                     const char *w, char *sums)
{
    const geometry *s = j->s;
    const int64_t vectors = width / s->kernels->lanes, begun = b->channel + b->tap > 0;
    const char *const bias = j->bias + (u->g * s->padded + k) * s->bytes;
    const int64_t first = fc_pixels_tile(s, u->first).first;
    for (int64_t i = u->first; i < u->end; i++) {
        const tile t = fc_pixels_tile(s, i);
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
            fc_pixels_prepare(j, &u, &b);
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
    int64_t *const offsets = (int64_t *)(value + value_bytes(&s));
    fc_pixels_offsets(&s, offsets);
    job j = {&s, kernels, x, epilogue, packed, bias, value, offsets, y, workspace};
    fc_parallel(p->g * s.blocks * s.filter_parts, threads, run_unit, &j);
}

const fc_driver fc_driver_implicit_gemm = {"implicit_gemm", workspace_bytes, packed_bytes, pack, run};
