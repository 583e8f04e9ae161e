/* panels: y[k][pixel] = bias[k] + sum over taps of w[k][tap] * panel[tap][pixel].
 *
 * A matrix product whose rows are filters and whose columns are the outputs of an image, numbered across the
 * ends of rows: as they lie in y. A tile is nr of them, as wide as a register tile (kernels/panels.c); its
 * panel holds what each tap reads of x, 0 where that is padding, and stays in L1 while the filters pass by.
 * Tiles store whole vectors into y. Only the last of an image, and those of a y whose rows do not follow each
 * other, go through a buffer. Taps of which a tile reads nothing but padding are left out.
 *
 * One unit of work is (image, group, block of tiles, part of the filters), on one thread:
 *     for block of taps: whole channels
 *         for tile of the block: its panel
 *         for block of filters, for tile, for mr of the filters: y (+)= tile
 * Settings: v[0] bytes of the panels of a block, v[1] most taps of a block, v[2] bytes of weights of a block
 * of filters.
 * Packed: per group, block of taps and mr filters, weights [tap of the kernel][channel][filter].
 *
 * Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008; Van Zee
 * and van de Geijn, BLIS, ACM TOMS 41(3), 2015. Windows copied as panels are filled: Chetlur et al., cuDNN,
 * 2014, section 3.
 */
#include <string.h>

#include "../fc.h"

/* Taps on padding that are multiplied rather than left out: a call of the tile takes as long. */
enum { BRIDGE = 16 };

typedef struct {
    const fc_problem *p;
    const fc_panels *kernels;
    int64_t bytes, nr;
    int64_t kernel, row_taps;             /* taps of a channel; of those along the last axis */
    int64_t channel_block, tap_blocks;    /* channels of a block of taps */
    int64_t outputs, tile_block, blocks;  /* of an image */
    int64_t register_tiles, filter_parts; /* of a group's filters */
    int64_t tiles_a_part, tiles_at_once;
    int64_t panel, most_spans;            /* elements of a panel */
    int64_t panel_bytes, span_bytes, slot_bytes, bias_bytes;
} geometry;

/* Taps [first, first + count) of a block. */
typedef struct {
    int64_t first, count;
} span;

/* Outputs [at, at + count) of a tile that lie in a row, the first of them o. */
typedef struct {
    int64_t at, count, o[FC_DIMS];
} run_of_pixels;

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const char *x;
    const fc_epilogue *epilogue;
    const char *packed, *bias;
    char *y;
    char *workspace;
    int64_t flat, even; /* 1x1 whose pixels lie side by side in x; all outputs of an image do in y */
} job;

static void plan_geometry(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    s->p = p;
    s->kernels = p->dtype == FC_F64 ? kernels->panels_f64 : kernels->panels_f32;
    s->bytes = fc_dtype_bytes(p->dtype);
    s->nr = s->kernels->lanes * s->kernels->vectors;
    s->kernel = fc_volume(p->ker, p->dims);
    s->row_taps = p->ker[p->dims - 1];
    const int64_t most = fc_max(1, config->v[1] / s->kernel);
    s->channel_block = fc_ceil_div(p->c, fc_ceil_div(p->c, most));
    s->tap_blocks = fc_ceil_div(p->c, s->channel_block);
    const int64_t taps = s->channel_block * s->kernel;
    /* an odd number of cache lines: panels start in all sets of a cache */
    s->panel = fc_round_up(taps * s->nr, FC_ALIGN / s->bytes) | FC_ALIGN / s->bytes;
    s->register_tiles = fc_ceil_div(p->k, s->kernels->rows);

    s->outputs = fc_volume(p->out, p->dims);
    const int64_t tiles = fc_ceil_div(s->outputs, s->nr), images = p->n * p->g;
    int64_t block = fc_max(1, fc_min(tiles, config->v[0] / (s->panel * s->bytes)));
    s->filter_parts = 1;
    if (threads > 1 && images * fc_ceil_div(tiles, block) < 4 * threads) {
        /* weights that caches do not hold are read once if threads share them out */
        if (p->k * p->c * s->kernel * s->bytes > tiles * 65536 && s->register_tiles >= threads)
            s->filter_parts = fc_ceil_div(threads, images * fc_ceil_div(tiles, block));
        else
            block = fc_max(1, fc_min(block, images * tiles / (tiles > 16 * threads ? 4 * threads : threads)));
    }
    s->tile_block = fc_ceil_div(tiles, fc_ceil_div(tiles, block));
    s->blocks = fc_ceil_div(tiles, s->tile_block);
    s->tiles_a_part = fc_ceil_div(s->register_tiles, s->filter_parts);
    s->filter_parts = fc_ceil_div(s->register_tiles, s->tiles_a_part);
    s->tiles_at_once = fc_max(1, config->v[2] / (taps * s->kernels->rows * s->bytes));

    s->most_spans = taps / (BRIDGE + 2) + 2;
    s->panel_bytes = s->tile_block * s->panel * s->bytes;
    s->span_bytes = s->tile_block * (s->most_spans * (int64_t)sizeof(span) + 8);
    s->slot_bytes = fc_round_up(s->panel_bytes + s->span_bytes, FC_ALIGN);
    s->bias_bytes = fc_round_up(p->g * p->k * s->bytes, FC_ALIGN);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                               int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.bias_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    return p->g * p->k * p->c * s.kernel * s.bytes;
}

/* Filters of register tile i begin here: tiles are as even as can be. */
static int64_t filter_of(const geometry *s, int64_t i) { return s->p->k * i / s->register_tiles; }

static int64_t channels_of(const geometry *s, int64_t block)
{
    return fc_min(s->channel_block, s->p->c - block * s->channel_block);
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
        char *to = a->packed + (g * p->k * p->c + p->k * first + k * channels) * s->kernel * s->bytes;
        for (int64_t tap = 0; tap < s->kernel; tap++) {
            int64_t at = (g * p->k + k) * p->w_k + first * p->w_c;
            for (int64_t d = p->dims - 1, rest = tap; d >= 0; rest /= p->ker[d], d--) at += rest % p->ker[d] * p->w_s[d];
            for (int64_t c = 0; c < channels; c++, at += p->w_c)
                for (int64_t i = 0; i < rows; i++, to += s->bytes)
                    if (s->bytes == 4)
                        memcpy(to, a->w + (at + i * p->w_k) * 4, 4);
                    else
                        memcpy(to, a->w + (at + i * p->w_k) * 8, 8);
        }
    }
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w,
                 void *packed, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    packing a = {&s, w, packed};
    const int64_t bytes = p->g * p->k * p->c * s.kernel * s.bytes;
    fc_parallel(p->g * s.register_tiles, fc_pack_threads(bytes, threads), pack_unit, &a);
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
    for (int64_t tap = 0; tap < s->kernel; tap++) {
        fc_panel_piece pieces[FC_PANEL_PIXELS + FC_PANEL_VECTORS];
        const int64_t r = tap % s->row_taps;
        if (r == 0)
            for (int64_t i = 0; i < of_tile; i++) rows[i] = row_at(p, runs[i].o, tap / s->row_taps);
        const int64_t origin = runs->o[last] * p->stride[last] + r * p->dilation[last] - p->pad[last];
        const int whole = in_row && rows[0] != NO_ROW && origin >= 0 && origin + reach < p->in[last];
        const int64_t some = whole ? 0 : find_pieces(s, runs, rows, of_tile, r, pieces);
        if (!whole && !some) continue;
        if (!found || (tap - end) * channels > BRIDGE) {
            spans[found++] = (span){tap * channels, 0};
            end = tap;
        }
        for (; end < tap; end++) s->kernels->gather(x, 0, 1, pieces, 0, channels, panel + end * row);
        if (whole)
            s->kernels->copy(x + (rows[0] + origin * p->x_s[last]) * s->bytes, p->x_c, step, channels, panel + tap * row);
        else
            s->kernels->gather(x, p->x_c, step, pieces, some, channels, panel + tap * row);
        end = tap + 1;
        spans[found - 1].count = end * channels - spans[found - 1].first;
    }
    return found;
}

/* A unit's tiles: outputs [first, end) of an image. */
typedef struct {
    int64_t n, g, first, end;
    char *panels;
    span *spans;
    int64_t *found;
} unit;

static int64_t tiles_of(const geometry *s, const unit *u) { return fc_ceil_div(u->end - u->first, s->nr); }

static void fill(const job *j, const unit *u, int64_t block)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t channels = channels_of(s, block), c = u->g * p->c + block * s->channel_block;
    const char *x = j->x + (u->n * p->x_n + c * p->x_c) * s->bytes;
    const int64_t tiles = tiles_of(s, u);
    if (j->flat) {
        /* a channel of all tiles at a time, so that a cache line is read once */
        for (int64_t i = 0; i < channels; i++)
            s->kernels->spread(x + (i * p->x_c + u->first) * s->bytes, u->end - u->first,
                               u->panels + i * s->nr * s->bytes, s->panel);
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

/* Elements from the first output of a filter to those of a tile. */
static void find_places(const fc_problem *p, int64_t first, int64_t count, int64_t *places)
{
    for (int64_t i = 0; i < count; i++) {
        places[i] = 0;
        for (int64_t d = p->dims - 1, rest = first + i; d >= 0; rest /= p->out[d], d--)
            places[i] += rest % p->out[d] * p->y_s[d];
    }
}

/* Copies `rows` filters of a tile from y to a buffer, or back. */
static void move(const geometry *s, char *y, const int64_t *places, int64_t count, int64_t rows, char *buffer,
                 int back)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t t = 0; t < count; t++) {
            char *const in_y = y + (i * s->p->y_k + places[t]) * s->bytes, *const own = buffer + (i * s->nr + t) * s->bytes;
            memcpy(back ? in_y : own, back ? own : in_y, (size_t)s->bytes);
        }
}

/* y of filters from register tile `from` to `to` and tile t, of a block of taps. */
static void multiply(const job *j, const unit *u, int64_t t, int64_t from, int64_t to, int64_t taps, int64_t block,
                     const char *w)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t first = u->first + t * s->nr, count = fc_min(s->nr, u->end - first);
    const int64_t vectors = fc_ceil_div(count, s->kernels->lanes);
    const int whole = j->even && count == vectors * s->kernels->lanes;
    char buffer[FC_PANEL_ROWS * FC_PANEL_PIXELS * sizeof(double)] __attribute__((aligned(FC_ALIGN)));
    int64_t places[FC_PANEL_PIXELS];
    if (!whole) find_places(p, first, count, places);
    const char *const panel = u->panels + t * s->panel * s->bytes;
    const span *const spans = u->spans + t * s->most_spans;
    for (int64_t i = from; i < to; i++) {
        const int64_t k = filter_of(s, i), rows = filter_of(s, i + 1) - k;
        fc_panel_fn *const run = s->kernels->tile[vectors - 1][rows - 1];
        char *const y = j->y + (u->n * p->y_n + (u->g * p->k + k) * p->y_k + (whole ? first : 0)) * s->bytes;
        char *const sums = whole ? y : buffer;
        const int64_t ld = whole ? p->y_k : s->nr;
        if (!whole && block) move(s, y, places, count, rows, buffer, 0);
        const char *const bias = j->bias + (u->g * p->k + k) * s->bytes, *const own = w + k * taps * s->bytes;
        for (int64_t n = 0; n < u->found[t]; n++)
            run(spans[n].count, panel + spans[n].first * s->nr * s->bytes, own + spans[n].first * rows * s->bytes,
                bias, block || n, sums, ld);
        if (!u->found[t] && !block) run(0, panel, own, bias, 0, sums, ld); /* sets the sums */
        if (!whole) move(s, y, places, count, rows, buffer, 1);
    }
}

/* The rest of what becomes of finished sums of filters from k to `end`. */
static void finish(const job *j, const unit *u, int64_t k, int64_t end)
{
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t last = p->dims - 1;
    if (!j->epilogue->residual && !j->epilogue->activation) return;
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

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const geometry *const s = j->s;
    const fc_problem *const p = s->p;
    const int64_t part = index % s->filter_parts, block = index / s->filter_parts % s->blocks;
    const int64_t image = index / s->filter_parts / s->blocks;
    char *const workspace = j->workspace + slot * s->slot_bytes;
    int64_t *const found = (int64_t *)(workspace + s->panel_bytes);
    const unit u = {image / p->g, image % p->g, block * s->tile_block * s->nr,
                    fc_min(s->outputs, (block + 1) * s->tile_block * s->nr), workspace,
                    (span *)(found + s->tile_block), found};
    const int64_t from = part * s->tiles_a_part, end = fc_min(s->register_tiles, from + s->tiles_a_part);
    for (int64_t b = 0; b < s->tap_blocks; b++) {
        const int64_t taps = channels_of(s, b) * s->kernel;
        const char *const w =
            j->packed + (u.g * p->k * p->c + p->k * b * s->channel_block) * s->kernel * s->bytes;
        fill(j, &u, b);
        for (int64_t at = from, next; at < end; at = next) {
            next = fc_min(end, at + s->tiles_at_once);
            for (int64_t t = 0; t < tiles_of(s, &u); t++) multiply(j, &u, t, at, next, taps, b, w);
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
    int flat = s.kernel == 1 && is_even(p, p->x_s);
    for (int64_t d = 0; d < p->dims; d++) flat &= p->in[d] == p->out[d] && p->pad[d] == 0;
    job j = {&s, kernels, x, epilogue, packed, bias, y, workspace, flat, is_even(p, p->y_s)};
    fc_parallel(p->n * p->g * s.blocks * s.filter_parts, threads, run_unit, &j);
}

const fc_driver fc_driver_panels = {"panels", workspace_bytes, packed_bytes, pack, run};
