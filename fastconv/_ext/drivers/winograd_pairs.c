/* winograd_pairs: y[k][tile] = bias[k] + A' (sum over pairs of channels of (4 G w G')[k] . (B' x B)[tile]) A / 4, exactly.
 *
 * F(2x2, 3x3): 16 products for the 36 of 2 x 2 outputs. Bytes less their zero point are at most 255 in size, tiles of
 * them after B' at most 1020, weights of at most 255 after 2 G, which is whole, at most 9 * 255: all fit 16 bits, and two
 * channels are multiplied and added in one instruction, as by pairs.c. Sums wrap in 32 bits, and may: A' makes them four
 * times an output, which is right if it fits 32 bits, that is if 9 * channels * 255 * max|w| < 2^29. The solver sees to it.
 *
 * Tiles of an image are numbered across the ends of rows. One unit of work is (image, group, block of tiles), on one thread:
 *     for pair of channels: the samples under a row of the block's tiles, less the zero point; their tiles
 *     for block of filters
 *         for point, for nr of the tiles: sums of products, by panels' register tiles
 *         for filter: outputs of two rows; narrow ones, where y has fewer bits; the pieces of rows that they are in y
 *
 * A boundary of a constant is a zero point, as in pairs.c: c times the sum of a filter's weights goes to the bias.
 *
 * Settings: v[0] bytes of the samples' tiles of a block, v[1] bytes of the sums of a block of filters.
 * Packed: per group and point, and register tile: [pair of channels][filter][2]; the sum of each filter's weights.
 *
 * Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4.1; of integers: Meng and Brothers,
 * Efficient Winograd Convolution via Integer Arithmetic, 2019, section 3.
 */
#include <string.h>

#include "../fc.h"

enum { POINTS = 16 };

typedef struct {
    int64_t pairs, nr, register_tiles, tile_filters, larger;
    int64_t across, tiles, tile_block, blocks; /* tiles of a row of them, and of an image */
    int64_t filter_tiles, filters;             /* register tiles of a block, and their filters at most */
    int64_t ldu, u_point, ldv, v_point;        /* elements: of a row of tiles or sums, and of a point */
    int64_t row;                               /* elements of a row of samples, joined */
    int64_t u_bytes, v_bytes, row_bytes, out_bytes, slot_bytes, shared_bytes;
} geometry;

/* An odd number of cache lines, so that rows that far apart take turns with the sets of a cache. */
static int64_t spread_out(int64_t elements) { return fc_round_up(elements, 16) | 16; }

static void plan_geometry(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads,
                          geometry *s)
{
    const fc_panels *const tile = kernels->panels_pairs;
    s->pairs = fc_ceil_div(p->c, 2);
    s->nr = tile->lanes * tile->vectors;
    s->register_tiles = fc_max(1, fc_ceil_div(p->k, tile->rows));
    s->tile_filters = p->k / s->register_tiles;
    s->larger = p->k % s->register_tiles;
    s->across = fc_ceil_div(p->out[1], 2);
    s->tiles = fc_ceil_div(p->out[0], 2) * s->across;
    int64_t block = config->v[0] / (POINTS * 4 * fc_max(1, s->pairs));
    const int64_t images = fc_max(1, p->n * p->g);
    if (threads > 1 && images < 4 * threads) block = fc_min(block, fc_ceil_div(images * s->tiles, threads));
    block = fc_max(1, fc_min(fc_round_up(fc_max(1, block), s->nr), s->tiles));
    s->blocks = fc_ceil_div(s->tiles, block);
    s->tile_block = fc_min(block, fc_round_up(fc_ceil_div(fc_max(1, s->tiles), fc_max(1, s->blocks)), s->nr));
    s->blocks = fc_ceil_div(s->tiles, s->tile_block);
    s->ldu = spread_out(s->tile_block + tile->lanes);
    s->u_point = spread_out(s->pairs * s->ldu);
    s->ldv = fc_round_up(s->tile_block, s->nr);
    s->filter_tiles = fc_max(1, config->v[1] / (POINTS * 4 * s->ldv * tile->rows));
    s->filter_tiles = fc_ceil_div(s->register_tiles, fc_ceil_div(s->register_tiles, s->filter_tiles));
    s->filters = s->filter_tiles * tile->rows;
    s->v_point = spread_out(s->filters * s->ldv);
    const int64_t most = fc_min(s->tile_block, s->across);
    s->row = fc_round_up(2 * most + 2, 2 * tile->lanes) + 2 * tile->lanes;
    s->u_bytes = fc_round_up(POINTS * s->u_point * 4, FC_ALIGN);
    s->v_bytes = fc_round_up(POINTS * s->v_point * 4, FC_ALIGN);
    s->row_bytes = fc_round_up(s->row * 4, FC_ALIGN);
    s->out_bytes = fc_round_up((2 * s->ldv) * 4, FC_ALIGN);
    s->slot_bytes = s->u_bytes + s->v_bytes + 9 * s->row_bytes + 4 * s->out_bytes;
    s->shared_bytes = fc_round_up(s->pairs * 8 + fc_max(1, p->k) * 4, FC_ALIGN);
}

static int64_t filter_of(const geometry *s, int64_t tile) { return tile * s->tile_filters + fc_min(tile, s->larger); }

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    return s.shared_bytes + threads * s.slot_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    return p->g * p->k * (POINTS * s.pairs + 1) * 4;
}

typedef struct {
    const geometry *s;
    const fc_problem *p;
    const int32_t *w;
    uint32_t *packed, *sums;
} packing;

/* to[s] = (2 G x)[s], of x[0], x[step] and x[2 step]. */
static void transform(const int32_t *x, int64_t step, int32_t *to, int64_t to_step)
{
    to[0] = 2 * x[0];
    to[to_step] = x[0] + x[step] + x[2 * step];
    to[2 * to_step] = x[0] - x[step] + x[2 * step];
    to[3 * to_step] = 2 * x[2 * step];
}

static void pack_filter(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const geometry *const s = a->s;
    const fc_problem *const p = a->p;
    const int64_t g = index / p->k, k = index % p->k;
    int64_t tile = 0;
    while (filter_of(s, tile + 1) <= k) tile++;
    const int64_t begin = filter_of(s, tile), rows = filter_of(s, tile + 1) - begin;
    uint32_t sum = 0;
    for (int64_t c = 0; c < s->pairs; c++) {
        int32_t points[2][POINTS] = {0};
        for (int64_t half = 0; half < fc_min(2, p->c - 2 * c); half++) {
            const int32_t *const w = a->w + index * p->w_k + (2 * c + half) * p->w_c;
            int32_t taps[9], lines[12];
            for (int64_t i = 0; i < 9; i++) taps[i] = w[i / 3 * p->w_s[0] + i % 3 * p->w_s[1]];
            for (int64_t i = 0; i < 9; i++) sum += (uint32_t)taps[i];
            for (int64_t j = 0; j < 3; j++) transform(taps + j, 3, lines + j, 3);
            for (int64_t i = 0; i < 4; i++) transform(lines + 3 * i, 1, points[half] + 4 * i, 1);
        }
        for (int64_t e = 0; e < POINTS; e++)
            a->packed[((g * POINTS + e) * p->k + begin) * s->pairs + c * rows + k - begin] =
                (uint16_t)points[0][e] | (uint32_t)points[1][e] << 16;
    }
    a->sums[index] = sum;
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    packing a = {&s, p, w, packed, (uint32_t *)packed + p->g * p->k * POINTS * s.pairs};
    fc_parallel(p->g * p->k, fc_pack_threads(packed_bytes(p, config, kernels), threads), pack_filter, &a);
}

typedef struct {
    const geometry *s;
    const fc_problem *p;
    const fc_kernels *kernels;
    const char *x;
    const uint32_t *packed, *sums; /* of weights */
    const fc_epilogue *epilogue;
    char *y, *slots;
    const int64_t *offset; /* bytes between pairs of channels of the samples' tiles */
    const uint32_t *zeros;
    int64_t zero;
} job;

/* Tiles of a block that lie in a row: `count` from column `column` on, the first of them tile `at` of the block. */
typedef struct {
    int64_t row, column, at, count;
} piece;

static piece piece_at(const geometry *s, int64_t first, int64_t end, int64_t at)
{
    const int64_t tile = first + at, column = tile % s->across;
    return (piece){tile / s->across, column, at, fc_min(s->across - column, end - tile)};
}

/* Samples under a piece's tiles in padded row `i` of x, taken apart by the parity of their columns. */
static void line(const job *j, const char *x, const char *next, int64_t i, const piece *t, char *room, void *even, void *odd)
{
    const fc_problem *const p = j->p;
    const int64_t bytes = fc_dtype_bytes(p->x_dtype), row = i - p->pad[0], begin = 2 * t->column - p->pad[1];
    const int64_t count = 2 * t->count + 2, inside = row >= 0 && row < p->in[0];
    const int64_t low = inside ? fc_min(count, fc_max(0, -begin)) : count;
    const int64_t high = fc_max(low, fc_min(count, p->in[1] - begin));
    memset(room, 0, (size_t)low * 4);
    if (high > low) {
        const int64_t at = (row * p->x_s[0] + (begin + low) * p->x_s[1]) * bytes;
        j->kernels->pairs_i32->join(p->x_dtype, x + at, next ? next + at : NULL, p->x_s[1], high - low, j->zero, room + low * 4);
    }
    memset(room + high * 4, 0, (size_t)(count - high) * 4);
    j->kernels->winograd_pairs_i32->split(room, t->count + 1, even, odd);
}

/* The block's tiles [first, end) of all channels, transformed. */
static void transform_input(const job *j, const char *x, int64_t first, int64_t end, char *rows, uint32_t *u)
{
    const geometry *const s = j->s;
    const fc_problem *const p = j->p;
    const int64_t bytes = fc_dtype_bytes(p->x_dtype);
    for (int64_t c = 0; c < s->pairs; c++, u += s->ldu) {
        const char *const own = x + 2 * c * p->x_c * bytes, *const next = 2 * c + 1 < p->c ? own + p->x_c * bytes : NULL;
        piece before = {-1, -1, 0, 0};
        for (int64_t at = 0; at < end - first;) {
            const piece t = piece_at(s, first, end, at);
            /* the lower two rows of samples under the tiles above are the upper two */
            const int shared = t.row == before.row + 1 && t.column == before.column && t.count == before.count;
            void *even[4], *odd[4];
            for (int64_t i = 0; i < 4; i++) {
                char *const lines = rows + ((2 * t.row + i) % 4 * 2 + 1) * s->row_bytes;
                even[i] = lines, odd[i] = lines + s->row_bytes;
                if (i >= 2 || !shared) line(j, own, next, 2 * t.row + i, &t, rows, even[i], odd[i]);
            }
            j->kernels->winograd_pairs_i32->input(even, odd, t.count, u + at, s->u_point);
            at += t.count, before = t;
        }
    }
}

/* v[point][filter][tile] of register tiles [from, to). */
static void multiply(const job *j, int64_t g, int64_t from, int64_t to, int64_t count, const uint32_t *u, uint32_t *v)
{
    const geometry *const s = j->s;
    const fc_panels *const tile = j->kernels->panels_pairs;
    const fc_panel_tiles *const tiles = fc_tiles_of(tile);
    const int64_t first = filter_of(s, from);
    for (int64_t e = 0; e < POINTS; e++)
        for (int64_t at = 0; at < count; at += s->nr) {
            const int64_t vectors = fc_ceil_div(fc_min(s->nr, count - at), tile->lanes);
            const uint32_t *const w = j->packed + (g * POINTS + e) * j->p->k * s->pairs;
            for (int64_t i = from, at_once; i < to; i += at_once) {
                const int64_t k = filter_of(s, i), rows = filter_of(s, i + 1) - k;
                at_once = (i < s->larger ? fc_min(s->larger, to) : to) - i;
                fc_panel_fn *const run = count - at == 1 ? tiles->pixel[rows - 1] : tiles->tile[vectors - 1][rows - 1];
                run(s->pairs, u + e * s->u_point + at, j->offset, w + k * s->pairs, j->zeros, 0,
                    v + e * s->v_point + (k - first) * s->ldv + at, s->ldv, at_once, s->pairs * rows, 0);
            }
        }
}

/* Outputs of filter k of all groups, in rows of y_bytes each at `out`, to the rows of y that they are. */
static void store(const job *j, char *y, int64_t first, int64_t end, int64_t size, char *const *out)
{
    const geometry *const s = j->s;
    const fc_problem *const p = j->p;
    for (int64_t at = 0; at < end - first;) {
        const piece t = piece_at(s, first, end, at);
        const int64_t count = fc_min(2 * t.count, p->out[1] - 2 * t.column);
        for (int64_t r = 0; r < fc_min(2, p->out[0] - 2 * t.row); r++) {
            char *const to = y + ((2 * t.row + r) * p->y_s[0] + 2 * t.column * p->y_s[1]) * size;
            const char *const from = out[r] + 2 * at * size;
            if (p->y_s[1] == 1)
                memcpy(to, from, (size_t)(count * size));
            else
                for (int64_t i = 0; i < count; i++) memcpy(to + i * p->y_s[1] * size, from + i * size, (size_t)size);
        }
        at += t.count;
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const geometry *const s = j->s;
    const fc_problem *const p = j->p;
    const fc_epilogue *const e = j->epilogue;
    const int64_t block = index % s->blocks, g = index / s->blocks % p->g, n = index / s->blocks / p->g;
    const int64_t first = block * s->tile_block, end = fc_min(s->tiles, first + s->tile_block), count = end - first;
    char *const own = j->slots + slot * s->slot_bytes, *const rows = own + s->u_bytes + s->v_bytes;
    uint32_t *const u = (uint32_t *)own, *const v = (uint32_t *)(own + s->u_bytes);
    char *const sums = rows + 9 * s->row_bytes;
    void *const wide[2] = {sums, sums + s->out_bytes};
    char *const narrow[2] = {sums + 2 * s->out_bytes, sums + 3 * s->out_bytes};
    const int64_t size = fc_dtype_bytes(p->y_dtype);

    transform_input(j, j->x + (n * p->x_n + g * p->c * p->x_c) * fc_dtype_bytes(p->x_dtype), first, end, rows, u);
    for (int64_t from = 0; from < s->register_tiles; from += s->filter_tiles) {
        const int64_t to = fc_min(s->register_tiles, from + s->filter_tiles), k = filter_of(s, from);
        multiply(j, g, from, to, count, u, v);
        for (int64_t i = 0; i < filter_of(s, to) - k; i++) {
            const int64_t filter = g * p->k + k + i;
            const uint32_t bias = (uint32_t)j->zero * j->sums[filter] + (e->bias ? ((const uint32_t *)e->bias)[filter] : 0);
            j->kernels->winograd_pairs_i32->output(v + i * s->ldv, s->v_point, count, bias, wide);
            for (int64_t r = 0; r < 2 && size < 4; r++)
                if (e->scale)
                    j->kernels->pairs_i32->quantize(p->y_dtype, wide[r], 2 * count, e->scale[filter], e->zero, narrow[r]);
                else
                    j->kernels->pairs_i32->cut(size, wide[r], 2 * count, narrow[r]);
            store(j, j->y + (n * p->y_n + filter * p->y_k) * size, first, end, size, size < 4 ? narrow : (char *const *)wide);
        }
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x, const void *packed,
                const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    int64_t *const offset = workspace;
    for (int64_t c = 0; c < s.pairs; c++) offset[c] = c * s.ldu * 4;
    uint32_t *const zeros = memset(offset + s.pairs, 0, (size_t)p->k * 4);
    const job j = {
        &s, p, kernels, x, packed, (const uint32_t *)packed + p->g * p->k * POINTS * s.pairs, epilogue, y, (char *)workspace + s.shared_bytes, offset, zeros,
        p->boundary == FC_CONSTANT ? p->cval_i : 0,
    };
    fc_parallel(p->n * p->g * s.blocks, threads, run_unit, (void *)&j);
}

const fc_driver fc_driver_winograd_pairs = {"winograd_pairs", workspace_bytes, packed_bytes, pack, run};
