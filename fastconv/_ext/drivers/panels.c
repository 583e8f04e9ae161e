/* panels: y[k][pixel] = bias[k] + sum over taps of w[k][tap] * panel[tap][pixel].
 *
 * A matrix product whose rows are filters and whose columns are the outputs of an image, numbered across the
 * ends of rows: as they lie in y. A tile is nr of them, as wide as a register tile (kernels/panels.c); its
 * panel holds what each tap reads of x, 0 where that is padding, and stays in L1 while the filters pass by.
 * Tiles store whole vectors into y. Only the last of an image, and those of a y whose rows do not follow each
 * other, go through a buffer. A last tile of one pixel, as of 7x7 outputs, has vectors of filters. Taps of which a
 * tile reads nothing but padding are left out.
 *
 * 1x1 layers whose x is at hand read it in place, but for the last tile of a block.
 *
 * Bands (v[3]), for windows of few channels, where filling panels tap by tap takes longer than the products: what is
 * under some rows of outputs, or a part of one, is copied once, with its padding, taken apart by strides. A tap is then
 * an offset, and tiles, within a row, read the band in place; the last of a row overlaps the one before. Where
 * windows do not overlap along rows, as those of patches, rows of samples follow each other as rows of outputs do: tiles
 * run on from one to the next. Of rows that are shorter than a tile, or end far from the end of one, they run on, too, over
 * the sums between, which nobody wants: a unit's sums are copied to y from where they lie together.
 *
 * One unit of work is (image, group, block of tiles, part of the filters), on one thread:
 *     for block of taps: whole channels
 *         for tile of the block: its panel
 *         for block of filters, for tile, for mr of the filters: y (+)= tile
 * With input dilation (panels_phases.c) a tile has sums of its own for each phase of the outputs.
 *
 * A y of fewer bits than sums have (pairs.c) is made from the sums of a unit, which stay in cache.
 *
 * Settings: v[0] bytes of the panels of a block, v[1] most taps of a block, v[2] bytes of weights of a block
 * of filters, v[3] whether bands are read instead of panels.
 * Packed: per group, block of taps and mr filters, weights [phase][tap of the kernel][channel][filter].
 *
 * Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008; Van Zee
 * and van de Geijn, BLIS, ACM TOMS 41(3), 2015. Windows copied as panels are filled: Chetlur et al., cuDNN,
 * 2014, section 3.
 */
#include <string.h>

#include "panels.h"

/* 1x1 layers of dense pixels read x in place where channels lie at most NEAR_PLANE bytes apart, and a tile of a block of
 * taps is of NEAR_TILE at most: each line is asked for while taps before it are multiplied. Farther apart they share pages
 * and sets of a cache with each other too often for that, and only FEW register tiles are multiplied sooner than copied
 * (measured: docs/decisions.md). */
enum { NEAR_PLANE = 32 << 10, NEAR_TILE = 64 << 10, FEW = 4 };

static void plan_geometry(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    fc_panels_plan_phases(p, s);
    p = s->p;
    s->kernels = p->dtype == FC_F64 ? kernels->panels_f64 : p->dtype == FC_F32 ? kernels->panels_f32 : kernels->panels_pairs;
    s->tiles = p->dtype == FC_QUADS     ? kernels->quads_i8
               : p->dtype == FC_QUADS_U ? kernels->quads_u8
                                        : fc_tiles_of(s->kernels);
    s->bytes = fc_dtype_bytes(p->dtype);
    s->nr = s->kernels->lanes * s->kernels->vectors;
    /* plans are made of problems with nothing in them too, and never run */
    const int64_t channels = fc_max(1, p->c);
    s->kernel = fc_volume(p->ker, p->dims);
    s->row_taps = p->ker[p->dims - 1];
    const int64_t most = fc_max(1, config->v[1] / s->kernel);
    s->channel_block = fc_ceil_div(channels, fc_ceil_div(channels, most));
    s->tap_blocks = fc_ceil_div(channels, s->channel_block);
    const int64_t taps = s->channel_block * s->kernel;
    s->panel = fc_panels_spread_out(s, taps * s->nr);
    s->register_tiles = fc_max(1, fc_ceil_div(p->k, s->kernels->rows));
    s->tile_filters = p->k / s->register_tiles;
    s->larger = p->k % s->register_tiles;

    s->outputs = fc_volume(p->out, p->dims);
    const int64_t tiles = fc_max(1, fc_ceil_div(s->outputs, s->nr)), images = p->n * p->g;
    int64_t block = fc_max(1, fc_min(tiles, config->v[0] / (s->panel * s->bytes)));
    s->narrow = p->y_dtype != p->dtype;
    if (s->narrow) block = fc_max(1, fc_min(block, config->v[0] / (fc_max(1, p->k) * s->nr * s->bytes)));
    s->filter_parts = 1;
    if (threads > 1 && images * fc_ceil_div(tiles, block) < 4 * threads) {
        /* weights that caches do not hold are read once if threads share them out */
        if (p->k * p->c * s->weights * s->bytes > tiles * 65536 && s->register_tiles >= threads)
            s->filter_parts = fc_ceil_div(threads, images * fc_ceil_div(tiles, block));
        else
            block = fc_max(1, fc_min(block, images * tiles / (tiles > 16 * threads ? 4 * threads : threads)));
    }
    s->tile_block = fc_ceil_div(tiles, fc_ceil_div(tiles, block));
    s->blocks = fc_ceil_div(tiles, s->tile_block);
    s->tiles_a_part = fc_ceil_div(s->register_tiles, s->filter_parts);
    s->filter_parts = fc_ceil_div(s->register_tiles, s->tiles_a_part);
    s->tiles_at_once = fc_max(1, config->v[2] / (s->channel_block * s->weights * s->kernels->rows * s->bytes));

    s->band = config->v[3] && s->phases == 1 && s->tap_blocks == 1 && p->dims <= 2;
    s->gaps = s->band && fc_panels_gaps(p, s);
    s->band &= s->gaps || p->out[p->dims - 1] >= s->nr;
    s->apart = s->narrow || s->gaps;
    if (s->band) fc_panels_plan_bands(p, config->v[0], threads, s);
    s->most_spans = fc_panels_most_spans(taps);
    s->panel_bytes = s->band ? fc_round_up((p->c * s->plane + s->nr) * s->bytes, FC_ALIGN) /* the last tile reads beyond */
                             : s->tile_block * s->panel * s->bytes;
    s->span_bytes = s->tile_block * (s->most_spans * (int64_t)sizeof(span) + 8);
    s->sum_bytes = s->phases > 1 ? fc_round_up(s->inner * s->kernels->rows * s->nr * s->bytes, FC_ALIGN) : 0;
    s->unit_outputs = s->gaps   ? fc_round_up(positions(s, s->rows), s->kernels->lanes)
                      : s->band ? s->rows * p->out[p->dims - 1]
                                : s->tile_block * s->nr;
    if (s->apart) s->sum_bytes = fc_round_up(p->k * s->unit_outputs * s->bytes, FC_ALIGN);
    s->slot_bytes = fc_round_up(s->panel_bytes + s->span_bytes, FC_ALIGN) + s->sum_bytes;
    s->bias_bytes = fc_round_up(p->g * p->k * s->bytes, FC_ALIGN);
}

/* Bytes of offsets, in panels and in place, and of phases, where there are some. */
static int64_t table_bytes(const geometry *s)
{
    if (s->phases == 1) return (s->kernel == 1 ? 2 : 1) * s->channel_block * s->kernel * 8;
    return 2 * s->channel_block * s->weights * 8 + s->phases * (int64_t)sizeof(fc_panels_phase);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                               int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.bias_bytes + table_bytes(&s);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    return p->g * p->k * p->c * s.weights * s.bytes;
}

typedef struct {
    const geometry *s;
    const char *w;
    char *packed;
} packing;

static void pack_unit(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const geometry *const s = a->s;
    const fc_problem *const p = s->p;
    const int64_t g = index / s->register_tiles, tile = index % s->register_tiles;
    const int64_t k = filter_of(s, tile), rows = filter_of(s, tile + 1) - k;
    for (int64_t b = 0; b < s->tap_blocks; b++) {
        const int64_t first = b * s->channel_block, channels = channels_of(s, b);
        char *const to = a->packed + (g * p->k * p->c + p->k * first + k * channels) * s->weights * s->bytes;
        fc_panels_pack(s, a->w + ((g * p->k + k) * p->w_k + first * p->w_c) * s->bytes, channels, rows, to);
    }
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w,
                 void *packed, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    packing a = {&s, w, packed};
    const int64_t bytes = p->g * p->k * p->c * s.weights * s.bytes;
    fc_parallel(p->g * s.register_tiles, fc_pack_threads(bytes, threads), pack_unit, &a);
}

/* Elements from the first output of a filter to those of a tile. */
static void find_places(const fc_problem *p, int64_t first, int64_t count, int64_t *places)
{
    for (int64_t i = 0; i < count; i++) {
        places[i] = 0;
        for (int64_t d = p->dims - 1, rest = first + i; d >= 0; rest /= p->out[d], d--)
            places[i] += rest % p->out[d] * p->y_s[d];
    }
}

/* Copies `rows` filters of a tile from y to a buffer, or back, runs of outputs at a time. */
static void move(const geometry *s, char *y, const int64_t *places, int64_t count, int64_t rows, char *buffer,
                 int back)
{
    for (int64_t t = 0, run; t < count; t += run) {
        for (run = 1; t + run < count && places[t + run] == places[t] + run; run++) continue;
        char *in_y = y + places[t] * s->bytes, *own = buffer + t * s->bytes;
        for (int64_t i = 0; i < rows; i++, in_y += s->p->y_k * s->bytes, own += s->nr * s->bytes)
            memcpy(back ? in_y : own, back ? own : in_y, (size_t)(run * s->bytes));
    }
}

/* y of filters from register tile `from` to `to` and a tile, of a block of taps. */
static void multiply(const job *j, const unit *u, const tile *t, int64_t from, int64_t to, int64_t taps,
                     int64_t block, const char *w)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t vectors = t->count == s->nr ? s->kernels->vectors : fc_ceil_div(t->count, s->kernels->lanes);
    /* tiles of bands lie in a row, unless these are joined */
    const int in_row = j->even || (s->band && !s->joined && p->y_s[p->dims - 1] == 1), one = t->count == 1;
    const int whole = s->apart || one || (in_row && t->count == vectors * s->kernels->lanes);
    char buffer[FC_PANEL_ROWS * FC_PANEL_PIXELS * sizeof(double)] __attribute__((aligned(FC_ALIGN)));
    int64_t places[FC_PANEL_PIXELS];
    for (int64_t i = 0; j->even && i < t->count; i++) places[i] = t->first + i;
    if (!j->even && !s->apart) find_places(p, t->first, whole ? 1 : t->count, places);
    for (int64_t i = from, tiles; i < to; i += tiles) {
        const int64_t k = filter_of(s, i), rows = filter_of(s, i + 1) - k;
        tiles = whole && t->along == 1 ? (i < s->larger ? fc_min(s->larger, to) : to) - i : 1;
        fc_panel_fn *const run = one ? s->tiles->pixel[rows - 1] : s->tiles->tile[vectors - 1][rows - 1];
        char *const y = j->y + (u->n * p->y_n + (u->g * p->k + k) * p->y_k) * s->bytes;
        char *sums = buffer;
        int64_t ld = s->nr;
        if (s->apart) {
            ld = s->unit_outputs;
            sums = u->sums + ((k - u->k) * ld + t->first - u->first) * s->bytes;
        } else if (whole) {
            ld = p->y_k;
            sums = y + places[0] * s->bytes;
        }
        if (!whole && block) move(s, y, places, t->count, rows, buffer, 0);
        const char *const bias = j->bias + (u->g * p->k + k) * s->bytes, *const own = w + k * taps * s->bytes;
        const int64_t turns = tiles * t->along, ldw = t->along > 1 ? 0 : taps * rows, ldx = t->along > 1 ? t->apart : 0;
        if (t->near) s->tiles->near[rows - 1](taps, t->x, p->x_c, own, bias, block, sums, ld, turns, ldw, ldx);
        for (int64_t n = 0; n < t->found && !t->near; n++) {
            const span *const next = &t->spans[n];
            run(next->count, t->x, t->offset + next->first, own + next->first * rows * s->bytes, bias, block || n,
                sums, ld, turns, ldw, ldx);
        }
        if (!t->found && !block) run(0, t->x, t->offset, own, bias, 0, sums, ld, tiles, 0, 0); /* sets the sums */
        if (!whole) move(s, y, places, t->count, rows, buffer, 1);
    }
}

/* Filters from k to `end` of a unit's sums, [filter][output], to a y of fewer bits. */
static void store_narrow(const job *j, const unit *u, int64_t k, int64_t end)
{
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const fc_epilogue *const e = j->epilogue;
    const int64_t last = p->dims - 1, size = fc_dtype_bytes(p->y_dtype);
    const char *sums = u->sums;
    for (; k < end; k++, sums += s->unit_outputs * s->bytes) {
        char *const y = j->y + (u->n * p->y_n + (u->g * p->k + k) * p->y_k) * size;
        for (int64_t at = u->first, count; at < u->end; at += count) {
            int64_t place = at;
            count = u->end - at;
            if (!j->even) {
                find_places(p, at, 1, &place);
                count = p->y_s[last] == 1 ? fc_min(count, p->out[last] - at % p->out[last]) : 1;
            }
            const char *const from = sums + (at - u->first) * s->bytes;
            char *const to = y + place * size;
            if (e->scale)
                j->kernels->pairs_i32->quantize(p->y_dtype, from, count, e->scale[u->g * p->k + k], e->zero, to);
            else
                j->kernels->pairs_i32->cut(size, from, count, to);
        }
    }
}

/* The rest of what becomes of finished sums of filters from k to `end`. */
static void finish(const job *j, const unit *u, int64_t k, int64_t end)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1;
    if (s->narrow) store_narrow(j, u, k, end);
    if (s->gaps) fc_panels_store_gaps(j, u, k, end);
    if (!j->epilogue->residual && !j->epilogue->activation) return;
    if (s->phases > 1) {
        fc_panels_finish_phases(j, u, k, end);
        return;
    }
    for (; k < end; k++) {
        const int64_t y = u->n * p->y_n + (u->g * p->k + k) * p->y_k;
        if (j->even) {
            fc_finish(p, j->kernels, j->epilogue, j->y, y + u->first, u->end - u->first, 1);
            continue;
        }
        for (int64_t at = u->first, count; at < u->end; at += count) {
            int64_t place;
            find_places(p, at, 1, &place);
            count = fc_min(u->end - at, p->out[last] - at % p->out[last]);
            fc_finish(p, j->kernels, j->epilogue, j->y, y + place, count, p->y_s[last]);
        }
    }
}

/* A block of rows of outputs, from a band. */
static void run_band(const job *j, unit *u, int64_t block)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1, down = last - 1, width = p->out[last], taps = p->c * s->kernel;
    const int64_t first = block / s->column_blocks * s->rows, at_column = block % s->column_blocks;
    const int64_t rows = fc_min(s->rows, (down < 0 ? 1 : p->out[down]) - first);
    const int64_t column = column_of(s, at_column), end = column_of(s, at_column + 1);
    const int64_t runs = s->joined || s->gaps ? 1 : rows, run = s->gaps ? s->unit_outputs : (end - column) * (rows / runs);
    const char *const w = j->packed + u->g * p->k * taps * s->bytes;
    const span all = {0, taps};
    u->first = first * width + column;
    u->end = (first + rows - 1) * width + end; /* there are blocks along a row where there is one row */
    fc_panels_fill_band(j, u, first, rows, column, end);
    for (int64_t at = 0, next; at < s->register_tiles; at = next) {
        next = fc_min(s->register_tiles, at + s->tiles_at_once);
        for (int64_t i = 0; i < runs; i++)
            for (int64_t q = 0, along; q < run; q += along * s->nr) {
                const int64_t begin = s->gaps ? q : fc_min(q, run - s->nr), count = fc_min(s->nr, run - begin);
                along = next - at == 1 && !s->apart && j->even ? fc_max(1, (run - q) / s->nr) : 1;
                const char *const x = u->panels + (i * s->phase + begin) * s->bytes;
                const tile t = {(first + i) * width + column + begin, count, x, j->offset, &all, 1, 0, along, s->nr * s->bytes};
                multiply(j, u, &t, at, next, taps, 0, w);
            }
    }
    finish(j, u, 0, p->k);
}

/* Tiles from `i` on that a register tile of filters passes in one call: whole ones, side by side in y, that have all taps, and
 * are all read in place or none. */
static int64_t tiles_along(const job *j, const unit *u, int64_t i, int64_t taps)
{
    const geometry *const s = j->s;
    const int64_t whole = (u->end - u->first) / s->nr;
    int64_t end = i;
    if (!j->even || s->narrow) return 1;
    while (end < whole && u->found[end] == 1 && u->spans[end * s->most_spans].count == taps) end++;
    return fc_max(1, end - i);
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t part = index % s->filter_parts, rest = index / s->filter_parts, block = rest % s->blocks, image = rest / s->blocks;
    char *const workspace = j->workspace + slot * s->slot_bytes;
    int64_t *const found = (int64_t *)(workspace + s->panel_bytes);
    unit u = {image / p->g, image % p->g, block * s->tile_block * s->nr,
                    fc_min(s->outputs, (block + 1) * s->tile_block * s->nr), workspace,
                    (span *)(found + s->tile_block), found, workspace + s->slot_bytes - s->sum_bytes, 0};
    if (s->band) {
        run_band(j, &u, block);
        return;
    }
    const int64_t from = part * s->tiles_a_part, end = fc_min(s->register_tiles, from + s->tiles_a_part);
    u.k = filter_of(s, from);
    for (int64_t b = 0; b < s->tap_blocks; b++) {
        const int64_t taps = channels_of(s, b) * s->kernel;
        const char *const w = j->packed + (u.g * p->k * p->c + p->k * b * s->channel_block) * s->weights * s->bytes;
        fc_panels_fill(j, &u, b);
        const char *const x = j->x + (u.n * p->x_n + (u.g * p->c + b * s->channel_block) * p->x_c) * s->bytes;
        for (int64_t at = from, next; at < end; at = next) {
            next = fc_min(end, at + s->tiles_at_once);
            for (int64_t i = 0, along; i < tiles_of(s, &u); i += along) {
                const int64_t first = u.first + i * s->nr;
                const int in_place = j->in_place && first + s->nr <= u.end;
                along = s->phases == 1 && next - at == 1 ? tiles_along(j, &u, i, taps) : 1;
                const tile t = {first, fc_min(s->nr, u.end - first),
                                in_place ? x + first * s->bytes : u.panels + i * s->panel * s->bytes,
                                in_place ? j->offset + s->channel_block : j->offset,
                                u.spans + i * s->most_spans, u.found[i], in_place && j->near,
                                along, (in_place ? s->nr : s->panel) * s->bytes};
                if (s->phases > 1)
                    fc_panels_multiply_phases(j, &u, &t, at, next, b, w);
                else
                    multiply(j, &u, &t, at, next, taps, b, w);
            }
        }
    }
    finish(j, &u, filter_of(s, from), filter_of(s, end));
}

/* Whether outputs of an image, or samples of x where `steps` are x_s, lie side by side. */
static int is_even(const fc_problem *p, const int64_t *steps)
{
    int64_t expected = 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        if (p->out[d] > 1 && steps[d] != expected) return 0;
        expected *= p->out[d];
    }
    return 1;
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    char *const bias = (char *)workspace + threads * s.slot_bytes;
    if (epilogue->bias)
        memcpy(bias, epilogue->bias, (size_t)(p->g * p->k * s.bytes));
    else
        memset(bias, 0, (size_t)s.bias_bytes);
    p = s.p;
    int flat = s.kernel == 1 && is_even(p, p->x_s);
    for (int64_t d = 0; d < p->dims; d++) flat &= p->in[d] == p->out[d] && p->pad[d] == 0 && p->stride[d] == 1;
    int64_t *const offset = (int64_t *)(bias + s.bias_bytes);
    fc_panels_phase *const phases = (fc_panels_phase *)(offset + 2 * s.channel_block * s.weights);
    if (s.phases > 1)
        fc_panels_phase_offsets(&s, phases, offset);
    else
        fc_panels_offsets(&s, offset);
    const int even = s.phases == 1 && is_even(p, p->y_s);
    const int near = p->x_c * s.bytes <= NEAR_PLANE && s.channel_block * s.nr * s.bytes <= NEAR_TILE;
    const int in_place = flat && s.phases == 1 && (near || s.register_tiles <= FEW);
    for (int64_t c = 0; in_place && c < s.channel_block; c++) offset[s.channel_block + c] = c * p->x_c * s.bytes;
    job j = {&s, kernels, x, epilogue, packed, bias, offset, phases, y, workspace, flat, in_place, near, even};
    fc_parallel(p->n * p->g * s.blocks * s.filter_parts, threads, run_unit, &j);
}

const fc_driver fc_driver_panels = {"panels", workspace_bytes, packed_bytes, pack, run};
