/* implicit_gemm: y[pixel][k] = bias[k] + sum over taps of w[tap][k] * x[address(pixel) + offset(tap)].
 *
 * A matrix product of windows and filters. Register tiles (kernels/implicit_gemm.c) have vectors of filters,
 * and broadcast single pixels: an address a tile, and offsets of taps that tiles share. A tile whose
 * pixels follow each other `step` apart in one row, away from padding, may be read from x where it lies.
 * Others, and all if v[3] says so, are copied to a panel [tap][pixel]. Taps that are all padding are left
 * out: taps are ordered [tap of the kernel][channel], so what remains are few runs, a call each.
 *
 * For bands (v[3]), a block of outputs, rows by columns, has its window of a block of channels copied, with
 * its padding, to planes whose pitch spreads them over the sets of a cache: channels of x that lie a power of
 * two apart, as those of 64x64 do, share one. Its tiles are read from there as from x.
 *
 * When images are many and outputs few (gradients of weights), tiles run across images: x is then
 * transposed, a block of channels at a time, to planes [channel][position][image], padding and all.
 *
 * Input dilation of as many phases as the kernel has taps along an axis (transposed convolution whose
 * stride is its kernel's size): each output has one tap there, so the kernel's taps are so many filters of
 * one tap, numbered [outer phases][k][phase along the last axis], whose outputs are stored interleaved.
 *
 * Complex data are two real channels and two real filters, as in direct.c.
 *
 * One unit of work is (group, block of tiles, part of the filters), on one thread:
 *     for block of taps
 *         for tile of the block: its address, or its panel
 *         for 2 vectors of filters, for tile: sums (+)= tile
 *             after the last taps: transpose the sums into y
 * Settings: v[0] bytes of panels and sums a block of tiles aims at, v[1] most taps of a block,
 * v[2] whether tiles run across images, v[3] what is copied (implicit_gemm.h).
 * Packed: per group, block of taps and 2 (at the end, maybe 1) vectors of filters, weights
 * [tap][filter], zeros for the filters missing in the last vector.
 *
 * Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008;
 * Dukhan, The Indirect Convolution Algorithm, 2019, section 3 (addresses and offsets in place of windows).
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

/* The phases of input dilation as filters of one tap. */
static void plan_phases(const fc_problem *p, geometry *s)
{
    s->whole = s->p = p;
    s->phases = 1;
    for (int64_t d = 0; d < p->dims; d++) {
        s->phase[d] = p->input_dilation[d];
        s->phases *= s->phase[d];
        s->lead[d] = 0;
    }
    if (s->phases == 1) return;
    s->p = &s->dense;
    s->dense = *p;
    s->dense.k = p->k * s->phases;
    for (int64_t d = 0; d < p->dims; d++) {
        const int64_t e = s->phase[d], before = e - 1 - p->pad[d]; /* outputs before x's first sample */
        if (e == 1) continue;
        const int64_t first = before >= 0 ? before / e : -fc_ceil_div(-before, e);
        s->lead[d] = before - first * e;
        s->dense.pad[d] = -first;
        s->dense.out[d] = fc_ceil_div(p->out[d] + s->lead[d], e);
        s->dense.ker[d] = s->dense.input_dilation[d] = 1;
    }
}

/* Tiles of at most `most` pixels: along rows where these divide well, else across their ends, which costs a
 * copy. Copied ones always, but where a tile within a row can lie wholly on padding. */
static void plan_tiles(geometry *s, int64_t most)
{
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, row = p->out[last], tiles = fc_ceil_div(row, most);
    const int wide = p->pad[last] >= most * p->stride[last];
    if (s->across) {
        s->row = p->n;
        s->row_tiles = fc_ceil_div(p->n, most);
        s->tiles = s->row_tiles * s->outputs;
    } else if (s->flat || (row * 9 >= tiles * most * 7 && (!s->copy || wide))) {
        s->row = row;
        s->row_tiles = tiles;
        s->tiles = p->n * s->outputs / row * tiles;
    } else {
        s->row = p->n * s->outputs;
        s->row_tiles = s->tiles = fc_ceil_div(s->row, most);
    }
}

/* Bytes that a tile adds to a block. */
static int64_t tile_bytes(const geometry *s)
{
    const int64_t filters = s->block_taps < s->taps ? s->padded : 2 * s->kernels->lanes;
    const fc_problem *p = s->p;
    /* samples that a pixel has for itself */
    const int64_t samples = s->across ? s->channel_block * fc_volume(p->in, p->dims) / s->outputs
                            : s->copy ? s->block_taps
                                      : s->channel_block * fc_volume(p->stride, p->dims);
    return (filters + samples) * s->kernels->pixels * s->bytes;
}

/* Cuts tiles into blocks of about `target` bytes, of whole sets of images where tiles run across them, and
 * filters into parts. */
static void plan_blocks(geometry *s, int64_t target, int64_t threads)
{
    const fc_problem *p = s->p;
    const int64_t pairs = fc_ceil_div(s->padded, 2 * s->kernels->lanes);
    const int64_t set = s->across ? s->outputs : 1, sets = s->tiles / set;
    int64_t block = fc_max(1, fc_min(sets, target / (tile_bytes(s) * set)));
    if (s->band) fc_pixels_plan_bands(s, target, 1);
    const int64_t units = p->g * (s->band ? s->blocks : fc_ceil_div(sets, block));
    s->filter_parts = 1;
    if (threads > 1 && units < 4 * threads) {
        /* weights that caches do not hold are read once if threads share them out */
        if (s->padded * s->taps * s->bytes > sets * set * 32768 && pairs >= threads)
            s->filter_parts = fc_ceil_div(threads, units);
        else if (s->band)
            fc_pixels_plan_bands(s, target, fc_ceil_div(sets > 16 * threads ? 4 * threads : threads, p->g));
        else
            block = fc_max(1, fc_min(block, p->g * sets / (sets > 16 * threads ? 4 * threads : threads)));
    }
    if (!s->band) {
        s->tile_block = fc_ceil_div(sets, fc_ceil_div(sets, block)) * set;
        s->blocks = fc_ceil_div(s->tiles, s->tile_block);
    }
    s->part_filters = fc_ceil_div(pairs, s->filter_parts) * 2 * s->kernels->lanes;
    s->filter_parts = fc_ceil_div(s->padded, s->part_filters);
}

static void plan_geometry(const fc_problem *problem, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    plan_phases(problem, s);
    const fc_problem *p = s->p;
    const int wide = p->dtype == FC_F64 || p->dtype == FC_C128;
    s->kernels = wide ? kernels->implicit_gemm_f64 : kernels->implicit_gemm_f32;
    s->parts = p->dtype == FC_C64 || p->dtype == FC_C128 ? 2 : 1;
    s->bytes = wide ? 8 : 4;
    s->channels = s->parts * p->c;
    s->filters = s->parts * p->k;
    const int64_t lanes = s->kernels->lanes, most = s->kernels->pixels;
    s->padded = fc_round_up(s->filters, lanes);
    s->kernel = fc_volume(p->ker, p->dims);
    s->taps = s->channels * s->kernel;
    s->across = config->v[2] && s->phases == 1;
    s->copy = config->v[3] == PANELS && !s->across;
    s->band = config->v[3] == BANDS && !s->across && s->parts == 1 && s->kernel <= config->v[1];
    s->flat = s->copy && s->parts == 1 && s->phases == 1 && fc_pixels_plan_flat(s);
    p = s->p;
    s->outputs = fc_volume(p->out, p->dims);
    for (int64_t d = 0; d < p->dims; d++)
        s->extent[d] = (p->out[d] - 1) * p->stride[d] + (p->ker[d] - 1) * p->dilation[d] + 1;
    s->volume = fc_volume(s->extent, p->dims);
    plan_taps(s, config->v[1]);
    plan_tiles(s, most);

    plan_blocks(s, config->v[0], threads);
    s->step = p->stride[p->dims - 1] * p->x_s[p->dims - 1] * s->parts;
    s->panel_row = s->across ? fc_round_up(most, lanes) : most;
    /* an odd number of cache lines: a tap's places in the panels of tiles are spread over a cache */
    s->panel = fc_round_up(s->block_taps * s->panel_row * s->bytes, FC_ALIGN) | FC_ALIGN;
    int64_t panels = s->tile_block * s->panel;
    if (s->across) panels = s->tile_block / s->outputs * s->channel_block * s->volume * s->panel_row * s->bytes;
    if (s->band) panels = fc_volume(p->ker, p->dims - 2) * s->channel_block * s->band_plane * s->bytes;
    const int64_t kept = s->block_taps < s->taps ? fc_min(s->part_filters, s->padded) : 2 * lanes;
    s->most_spans = s->block_taps / (BRIDGE + 2) + 2;
    const int64_t tile_tables = (int64_t)sizeof(place) + s->most_spans * (int64_t)sizeof(span);
    s->table_bytes = fc_round_up(2 * s->block_taps * 8 + s->tile_block * tile_tables, FC_ALIGN);
    s->panel_bytes = fc_round_up(panels, FC_ALIGN);
    s->sum_bytes = fc_round_up(s->tile_block * most * kept * s->bytes, FC_ALIGN);
    s->slot_bytes = s->table_bytes + s->panel_bytes + s->sum_bytes;
    s->bias_bytes = fc_round_up(p->g * s->padded * s->bytes, FC_ALIGN);
}

/* What stands for padding: a row of the value of either part, behind bias. */
static int64_t value_bytes(const geometry *s) { return fc_round_up(2 * VALUES * s->bytes, FC_ALIGN); }

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.bias_bytes + value_bytes(&s);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    return s.p->g * s.padded * s.taps * s.bytes;
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

/* Elements from w's group to weight (filter, channel, tap). */
static int64_t weight_at(const geometry *s, int64_t filter, int64_t channel, int64_t tap)
{
    const fc_problem *p = s->whole;
    const int64_t last = p->dims - 1, inner = s->phase[last], outer = filter / inner / p->k;
    int64_t at = channel * p->w_c;
    for (int64_t d = last, rest = tap, phases = outer; d >= 0; d--) {
        const int64_t phase = d == last ? filter % inner : phases % s->phase[d];
        if (d < last) phases /= s->phase[d];
        /* output phase q meets the last tap but q */
        at += (s->phase[d] > 1 ? s->phase[d] - 1 - phase : rest % p->ker[d]) * p->w_s[d];
        if (s->phase[d] == 1) rest /= p->ker[d];
    }
    return at + filter / inner % p->k * p->w_k;
}

/* Filters [row, row + count) of one tap, element by element. */
static void pack_tap(const geometry *s, const char *w, int64_t row, int64_t count, int64_t channel,
                     int64_t tap, char *to)
{
    for (int64_t i = 0; i < count; i++, to += s->bytes) {
        /* filters 2k and 2k + 1 are the parts of k: [wr -wi; wi wr] */
        const int64_t part = s->parts == 2 && (row + i) % 2 ^ channel % 2;
        const int64_t at = weight_at(s, (row + i) / s->parts, channel / s->parts, tap);
        memcpy(to, w + (at * s->parts + part) * s->bytes, (size_t)s->bytes);
        if (s->parts == 2 && channel % 2 && (row + i) % 2 == 0) to[s->bytes - 1] ^= (char)0x80; /* sign */
    }
}

/* `width` filters from `row`, for the taps of a block. */
static void pack_block(const geometry *s, const char *w, int64_t row, int64_t width, const tap_block *b,
                       char *to)
{
    const fc_problem *p = s->p;
    const int64_t count = fc_min(width, s->filters - row), step = width * s->bytes;
    if (count < width) memset(to, 0, (size_t)(b->channels * b->taps * step));
    if (s->parts == 1 && s->phases == 1 && dense_taps(p)) {
        const int together = s->kernel == 1 && p->w_c == 1; /* channels follow each other as taps do */
        for (int64_t c = 0; c < b->channels; c += together ? b->channels : 1) {
            const int64_t at = row * p->w_k + (b->channel + c) * p->w_c + b->tap;
            s->kernels->transpose(w + at * s->bytes, p->w_k, count, together ? b->channels : b->taps,
                                  to + c * step, together ? width : b->channels * width);
        }
    } else {
        for (int64_t t = b->tap; t < b->tap + b->taps; t++)
            for (int64_t c = b->channel; c < b->channel + b->channels; c++, to += step)
                pack_tap(s, w, row, count, c, t, to);
    }
}

/* Block `index` of taps of a group: [channels][taps of the kernel]. */
static tap_block block_of(const geometry *s, int64_t g, int64_t index)
{
    const int64_t per_channel = fc_ceil_div(s->kernel, s->kernel_block);
    const int64_t c = index / per_channel * s->channel_block, tap = index % per_channel * s->kernel_block;
    return (tap_block){g, c, fc_min(s->channel_block, s->channels - c), tap,
                       fc_min(s->kernel_block, s->kernel - tap)};
}

static int64_t tap_blocks(const geometry *s)
{
    return fc_ceil_div(s->channels, s->channel_block) * fc_ceil_div(s->kernel, s->kernel_block);
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
    const char *const group = a->w + g * s->whole->k * s->whole->w_k * s->parts * s->bytes;
    char *block = a->packed + g * s->taps * s->padded * s->bytes;
    for (int64_t i = 0; i < tap_blocks(s); i++) {
        const tap_block b = block_of(s, g, i);
        const int64_t taps = b.channels * b.taps;
        pack_block(s, group, row, width, &b, block + taps * row * s->bytes);
        block += taps * s->padded * s->bytes;
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

/* All tiles of one or two vectors of filters: `sums` (+)= tile. */
static void multiply(const job *j, const unit *u, int begun, int64_t k, int64_t width, const char *w,
                     char *sums)
{
    const geometry *s = j->s;
    const int64_t vectors = width / s->kernels->lanes, first = u->places->t.first;
    const char *const bias = j->bias + (u->g * s->padded + k) * s->bytes;
    for (int64_t i = 0; i < u->end - u->first; i++) {
        const place *const at = &u->places[i];
        const int64_t pixel = s->across ? i * s->kernels->pixels : at->t.first - first;
        char *const y = sums + pixel * width * s->bytes;
        fc_pixels_fn *const run = s->kernels->tile[vectors - 1][at->t.count - 1];
        const span *const spans = u->spans + i * s->most_spans;
        int add = begun;
        for (int64_t n = 0; n < at->spans; n++, add = 1)
            run(spans[n].count, at->x, at->offset + spans[n].first, at->step,
                w + spans[n].first * width * s->bytes, add ? y : bias, add ? width : 0, y);
        if (!add) run(0, at->x, at->offset, at->step, w, bias, 0, y); /* sets the sums */
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *j = context;
    const geometry *s = j->s;
    const int64_t part = index % s->filter_parts, rest = index / s->filter_parts;
    const int64_t first = rest % s->blocks * s->tile_block, from = part * s->part_filters;
    char *const workspace = j->workspace + slot * s->slot_bytes, *panels = workspace + s->table_bytes;
    int64_t *const offsets = (int64_t *)workspace;
    place *const places = (place *)(offsets + 2 * s->block_taps);
    unit u = {.g = rest / s->blocks, .first = first, .end = fc_min(s->tiles, first + s->tile_block),
              .from = from, .to = fc_min(s->padded, from + s->part_filters), .in_x = offsets,
              .in_panel = offsets + s->block_taps, .places = places, .spans = (span *)(places + s->tile_block),
              .panels = panels, .sums = panels + s->panel_bytes};
    if (s->band) fc_pixels_band_block(s, rest % s->blocks, &u);
    const int64_t pixels = s->tile_block * s->kernels->pixels, blocks = tap_blocks(s);
    const char *w = j->packed + u.g * s->taps * s->padded * s->bytes;
    for (int64_t i = 0; i < blocks; i++) {
        const tap_block b = block_of(s, u.g, i);
        const int64_t taps = b.channels * b.taps;
        (s->band ? fc_pixels_prepare_band : fc_pixels_prepare)(j, &u, &b);
        for (int64_t k = u.from, width; k < u.to; k += width) {
            width = fc_min(2 * s->kernels->lanes, u.to - k);
            char *const sums = u.sums + (blocks == 1 ? 0 : pixels * (k - u.from) * s->bytes);
            multiply(j, &u, i > 0, k, width, w + k * taps * s->bytes, sums);
            if (i == blocks - 1) fc_pixels_store(j, &u, sums, width, k);
        }
        w += taps * s->padded * s->bytes;
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
    const int64_t inner = s.phase[p->dims - 1];
    for (int64_t g = 0; g < p->g && epilogue->bias; g++)
        for (int64_t f = 0; f < s.filters; f++) {
            const int64_t own = g * p->k * s.parts + f / inner % (p->k * s.parts);
            memcpy(bias + (g * s.padded + f) * s.bytes, (const char *)epilogue->bias + own * s.bytes,
                   (size_t)s.bytes);
        }
    for (int64_t part = 0; part < s.parts; part++) {
        char one[8];
        fc_phase_value(p, part, s.bytes, one);
        fc_phase_fill_value(value + part * VALUES * s.bytes, VALUES, one, s.bytes);
    }
    job j = {&s, kernels, x, epilogue, packed, bias, value, y, workspace};
    fc_parallel(p->g * s.blocks * s.filter_parts, threads, run_unit, &j);
}

const fc_driver fc_driver_implicit_gemm = {"implicit_gemm", workspace_bytes, packed_bytes, pack, run};
