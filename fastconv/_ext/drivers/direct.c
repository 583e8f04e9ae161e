/* direct: y[k][o] = bias[k] + sum over taps of w[k][tap] * planes[offset[tap] + position(o)].
 *
 * The input block of a band of outputs is copied once into phase planes (phase.h), where a tap is
 * an offset; register tiles (kernels/tile.c) of mr filters by nr consecutive positions then read
 * it in place, so that no im2col matrix is ever made. Complex data become two real channels and two
 * real filters: [re; im] = [[wr, -wi], [wi, wr]] [xr; xi].
 *
 * One unit of work is (image, group, band of outputs, part of the filters), on one thread:
 *     fill planes
 *     for tile of nr positions, for block of `filters` filters
 *         for block of at most `taps` taps, for mr of the filters: sums (+)= tile
 *         write the sums that are outputs, plus bias
 * Settings: v[0] bytes of planes aimed at, v[1] taps and v[2] filters of a block.
 * Packed: per group and block of mr filters, weights [tap][row].
 *
 * Zhang, Franchetti and Low, High Performance Zero-Memory Overhead Direct Convolutions, ICML 2018
 * (blocking without im2col); the phase planes are the polyphase form of Crochiere and Rabiner,
 * Multirate Digital Signal Processing, 1983, section 3.2.
 */
#include <string.h>

#include "phase.h"

typedef struct {
    const fc_problem *p;
    const fc_tiles *tiles;
    int64_t parts;          /* 2 for complex */
    int64_t bytes;          /* of a real element */
    int64_t channels, rows; /* real channels and real filters of a group */
    int64_t kernel, taps;   /* taps of one channel, of all */
    int64_t tap_block, row_block;
    int64_t bands, band, row_parts, rows_a_part;
    int64_t slack, plane_bytes, sum_bytes, slot_bytes;
    fc_phase layout;
} geometry;

static const fc_tiles *tiles_of(fc_dtype dtype, const fc_kernels *kernels)
{
    switch (dtype) {
    case FC_F64: case FC_C128: return kernels->tile_f64;
    case FC_U8: return kernels->tile_u8;
    case FC_U16: return kernels->tile_u16;
    case FC_U32: return kernels->tile_u32;
    case FC_U64: return kernels->tile_u64;
    default: return kernels->tile_f32;
    }
}

static void plan_geometry(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                          int64_t threads, geometry *s)
{
    s->p = p;
    s->tiles = tiles_of(p->dtype, kernels);
    s->parts = p->dtype == FC_C64 || p->dtype == FC_C128 ? 2 : 1;
    s->bytes = fc_dtype_bytes(p->dtype) / s->parts;
    s->channels = s->parts * p->c;
    s->rows = s->parts * p->k;
    s->kernel = fc_volume(p->ker, p->dims);
    s->taps = s->channels * s->kernel;
    s->tap_block = fc_min(s->taps, config->v[1]);
    s->row_block = fc_round_up(config->v[2], s->tiles->by_rows[0].rows);

    /* the band: as many outputs of the first axis as keep the planes within v[0] bytes */
    fc_phase_layout(p, 1, &s->layout);
    const int64_t outputs = p->out[s->layout.axis[0]];
    const int64_t halo = s->layout.length[0] - 1;
    const int64_t unit = s->channels * s->layout.planes * s->layout.pitch[0] * s->bytes;
    int64_t band = fc_max(config->v[0] / unit - halo, 1);
    /* a band shorter than its halo would mostly copy */
    band = fc_min(outputs, fc_max(band, fc_min(outputs, halo)));
    const int64_t images = p->n * p->g;
    if (images < 4 * threads) {
        /* a unit for every thread, and several when they are not mostly halo: a thread that shares
         * its core with other work then takes fewer */
        const int64_t even = fc_ceil_div(outputs, fc_ceil_div(threads, images));
        const int64_t fine = fc_ceil_div(outputs, fc_ceil_div(4 * threads, images));
        if (threads > 1) band = fc_min(band, fc_max(fc_min(even, fc_max(fine, 3 * halo)), 1));
    }
    s->bands = fc_ceil_div(outputs, band);
    s->band = fc_ceil_div(outputs, s->bands);
    s->bands = fc_ceil_div(outputs, s->band);
    fc_phase_layout(p, s->band, &s->layout);

    const int64_t mr = s->tiles->by_rows[0].rows;
    s->row_parts = fc_min(fc_ceil_div(threads, images * s->bands), fc_ceil_div(s->rows, mr));
    s->rows_a_part = fc_round_up(fc_ceil_div(s->rows, s->row_parts), mr);
    s->row_parts = fc_ceil_div(s->rows, s->rows_a_part);

    int64_t widest = 0;
    for (int64_t i = 0; i < FC_TILE_SIZES; i++)
        widest = fc_max(widest, s->tiles->by_rows[i].columns);
    s->slack = widest;
    s->plane_bytes = fc_round_up(
        (s->channels * s->layout.planes * s->layout.plane + s->slack) * s->bytes, FC_ALIGN);
    s->sum_bytes = fc_round_up(fc_min(s->row_block, s->rows_a_part) * widest * s->bytes, FC_ALIGN);
    s->slot_bytes = s->plane_bytes + s->sum_bytes + fc_round_up(widest * sizeof(fc_run), FC_ALIGN);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    return threads * s.slot_bytes + s.taps * (int64_t)sizeof(int64_t);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    return p->g * s.rows * s.taps * s.bytes;
}

/* Rows of the register tile used for row `row` of `rows`: the largest that still fits. */
static const fc_tile *tile_of(const fc_tiles *tiles, int64_t rows)
{
    const fc_tile *tile = tiles->by_rows;
    while (tile->rows > rows) tile++;
    return tile;
}

/* Whether the weights of one filter lie dense, in the order of taps. */
static int dense_filters(const geometry *s)
{
    const fc_problem *p = s->p;
    int64_t expected = 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        if (p->ker[d] != 1 && p->w_s[d] != expected) return 0;
        expected *= p->ker[d];
    }
    return p->c == 1 || p->w_c == expected;
}

/* The common case of pack_rows: 8 real 4-byte filters, each dense; half the time of the other. */
static char *pack_8_dense(const geometry *s, const char *w, int64_t row, char *to)
{
    const uint32_t *const from = (const uint32_t *)w + row * s->p->w_k;
    const int64_t k = s->p->w_k;
    uint32_t *out = (uint32_t *)to;
    for (int64_t tap = 0; tap < s->taps; tap++, out += 8)
        for (int64_t i = 0; i < 8; i++) out[i] = from[tap + i * k];
    return (char *)out;
}

/* Packs `mr` filters from `row` of a group: one element of each filter, tap after tap. */
static char *pack_rows(const geometry *s, const char *w, int64_t row, int64_t mr, char *to)
{
    const fc_problem *p = s->p;
    const int64_t bytes = s->bytes, parts = s->parts;
    for (int64_t channel = 0; channel < s->channels; channel++) {
        int64_t r[FC_DIMS] = {0}, at = row / parts * p->w_k + channel / parts * p->w_c;
        for (int64_t tap = 0; tap < s->kernel; tap++) {
            const char *from = w + at * parts * bytes;
            if (parts == 2) /* filters 2k and 2k + 1 are the parts of k: [wr -wi; wi wr] */
                for (int64_t i = 0; i < mr; i++, to += bytes) {
                    const int64_t k = (row + i) / 2 - row / 2, imaginary = (row + i) % 2 ^ channel % 2;
                    memcpy(to, from + (2 * k * p->w_k + imaginary) * bytes, (size_t)bytes);
                    if (channel % 2 && (row + i) % 2 == 0) to[bytes - 1] ^= (char)0x80; /* sign */
                }
            else if (bytes == 4)
                for (int64_t i = 0; i < mr; i++, to += 4)
                    *(uint32_t *)to = ((const uint32_t *)from)[i * p->w_k];
            else
                for (int64_t i = 0; i < mr; i++, to += bytes)
                    memcpy(to, from + i * p->w_k * bytes, (size_t)bytes);
            for (int64_t d = p->dims - 1; d >= 0; d--) {
                at += p->w_s[d];
                if (++r[d] < p->ker[d]) break;
                at -= p->ker[d] * p->w_s[d];
                r[d] = 0;
            }
        }
    }
    return to;
}

typedef struct {
    const geometry *s;
    const char *w;
    char *packed;
    int64_t largest, units; /* rows of the largest tile; as many or fewer of a group are a unit */
} packing;

static void pack_unit(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const geometry *const s = a->s;
    const int64_t g = index / a->units, first = index % a->units * a->largest;
    const int64_t end = fc_min(first + a->largest, s->rows);
    const int dense = s->parts == 1 && s->bytes == 4 && dense_filters(s);
    const char *const group = a->w + g * s->p->k * s->p->w_k * s->parts * s->bytes;
    char *to = a->packed + (g * s->rows + first) * s->taps * s->bytes;
    for (int64_t row = first, mr; row < end; row += mr) {
        mr = tile_of(s->tiles, s->rows - row)->rows;
        to = dense && mr == 8 ? pack_8_dense(s, group, row, to) : pack_rows(s, group, row, mr, to);
    }
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, 1, &s);
    const int64_t largest = s.tiles->by_rows[0].rows, units = fc_ceil_div(s.rows, largest);
    packing a = {&s, w, packed, largest, units};
    const int64_t bytes = p->g * s.rows * s.taps * s.bytes;
    fc_parallel(p->g * units, fc_pack_threads(bytes, threads), pack_unit, &a);
}

#define T float
#define NAME(x) x##_f32
#include "store.inc"
#define T double
#define NAME(x) x##_f64
#include "store.inc"
#define T uint8_t
#define NAME(x) x##_u8
#include "store.inc"
#define T uint16_t
#define NAME(x) x##_u16
#include "store.inc"
#define T uint32_t
#define NAME(x) x##_u32
#include "store.inc"
#define T uint64_t
#define NAME(x) x##_u64
#include "store.inc"

static void (*const store[FC_DTYPES])(const void *, int64_t, const void *, void *, int64_t) = {
    [FC_F32] = store_f32, [FC_C64] = store_f32, [FC_F64] = store_f64, [FC_C128] = store_f64,
    [FC_U8] = store_u8,   [FC_U16] = store_u16, [FC_U32] = store_u32, [FC_U64] = store_u64,
};

/* Element offset in y of the first output of a run, for real filter k of image n. */
static int64_t target(const geometry *s, const fc_run *run, int64_t start, int64_t n, int64_t k)
{
    const fc_problem *p = s->p;
    int64_t at = n * p->y_n + k / s->parts * p->y_k;
    for (int64_t a = 0; a < s->layout.tail; a++)
        at += (run->o[a] + (a == 0 ? start : 0)) * p->y_s[s->layout.axis[a]];
    at += run->rest * p->y_s[s->layout.axis[s->layout.axes - 1]];
    return at * s->parts + k % s->parts;
}

typedef struct {
    const geometry *s;
    const fc_kernels *kernels;
    const void *x;
    const fc_epilogue *epilogue;
    const char *packed;
    const int64_t *offsets;
    void *y;
    char *workspace;
} job;

/* Taps [*from, *to) that meet x somewhere in `columns` outputs from `o`: in a full convolution of two
 * long signals half of all products are with padding. One channel and one axis only. */
static void taps_inside(const geometry *s, int64_t o, int64_t columns, int64_t *from, int64_t *to)
{
    const fc_problem *p = s->p;
    *from = 0;
    *to = s->taps;
    if (s->layout.axes > 1 || s->channels > 1 || p->boundary != FC_ZEROS) return;
    const int64_t d = s->layout.axis[0], u = p->stride[d], l = p->dilation[d];
    const int64_t first = o * u - p->pad[d], last = (o + columns - 1) * u - p->pad[d];
    if (last < 0) *from = fc_min(s->taps, fc_ceil_div(-last, l));
    *to = fc_max(*from, fc_min(s->taps, fc_ceil_div(fc_max(0, p->in[d] - first), l)));
}

/* fc_finish for runs of `rows` filters from k: later than their stores, which a load in other steps
 * than theirs would have to wait for. */
static void finish_rows(const job *j, const fc_run *runs, int64_t found, int64_t start, int64_t n,
                        int64_t k, int64_t rows, int64_t step)
{
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < found; i++)
            fc_finish(j->s->p, j->kernels, j->epilogue, j->y, target(j->s, &runs[i], start, n, k + row),
                      runs[i].count, step);
}

/* All tiles of one band for filters [from, to) of a group, which share one register tile. */
static void run_rows(const job *j, const fc_tile *tile, int64_t n, int64_t g, int64_t start,
                     int64_t count, int64_t from, int64_t to, char *planes, char *sums,
                     fc_run *runs)
{
    const geometry *s = j->s;
    const int64_t nr = tile->columns, mr = tile->rows;
    const int64_t step = s->p->y_s[s->layout.axis[s->layout.axes - 1]] * s->parts;
    for (int64_t position = 0;
         (position = fc_phase_next(s->p, &s->layout, count, position)) >= 0; position += nr) {
        const int64_t found = fc_phase_runs(s->p, &s->layout, count, position, nr, runs);
        const char *const x = planes + position * s->bytes;
        int64_t first, end;
        taps_inside(s, start + position, nr, &first, &end);
        for (int64_t block = from; block < to; block += s->row_block) {
            const int64_t rows = fc_min(s->row_block, to - block);
            /* at least one call, of no taps if need be: it is what sets the sums */
            for (int64_t tap = first, next; tap == first || tap < end; tap = next) {
                next = (tap / s->tap_block + 1) * s->tap_block; /* the same blocks in every tile */
                const int64_t taps = fc_min(next, end) - tap;
                for (int64_t row = 0; row < rows; row += mr) {
                    const char *const w =
                        j->packed + ((g * s->rows + block + row) * s->taps + tap * mr) * s->bytes;
                    tile->run(taps, j->offsets + tap, x, w, sums + row * nr * s->bytes, nr, tap > first);
                }
            }
            for (int64_t row = 0; row < rows; row++) {
                const int64_t k = g * s->rows + block + row;
                const char *bias = j->epilogue->bias;
                if (bias) bias += k * s->bytes;
                for (int64_t i = 0; i < found; i++) {
                    const int64_t at = target(s, &runs[i], start, n, k), columns = runs[i].count;
                    store[s->p->dtype](sums + (row * nr + runs[i].column) * s->bytes, columns, bias,
                                       (char *)j->y + at * s->bytes, step);
                }
            }
            if (j->epilogue->residual || j->epilogue->activation)
                finish_rows(j, runs, found, start, n, g * s->rows + block, rows, step);
        }
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const job *j = context;
    const geometry *s = j->s;
    const fc_problem *p = s->p;
    const int64_t part = index % s->row_parts, rest = index / s->row_parts;
    const int64_t band = rest % s->bands, image = rest / s->bands;
    const int64_t n = image / p->g, g = image % p->g;
    const int64_t start = band * s->band;
    const int64_t count = fc_min(s->band, p->out[s->layout.axis[0]] - start);
    char *const planes = j->workspace + slot * s->slot_bytes;
    char *const sums = planes + s->plane_bytes;
    fc_run *const runs = (fc_run *)(sums + s->sum_bytes);
    fc_phase_fill(p, &s->layout, j->x, n, g * p->c, s->channels, start, count, s->slack, s->parts,
                  s->bytes, planes);
    int64_t from = part * s->rows_a_part;
    const int64_t end = fc_min(s->rows, from + s->rows_a_part);
    while (from < end) {
        const fc_tile *tile = tile_of(s->tiles, end - from);
        const int64_t to = from + (end - from) / tile->rows * tile->rows;
        run_rows(j, tile, n, g, start, count, from, to, planes, sums, runs);
        from = to;
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    geometry s;
    plan_geometry(p, config, kernels, threads, &s);
    fc_phase_merge(p, &s.layout);
    /* offsets depend on the band, and so on the number of threads: made per call, not packed */
    int64_t *const offsets = (int64_t *)((char *)workspace + threads * s.slot_bytes);
    fc_phase_offsets(p, &s.layout, s.channels, offsets);
    job j = {&s, kernels, x, epilogue, packed, offsets, y, workspace};
    fc_parallel(p->n * p->g * s.bands * s.row_parts, threads, run_unit, &j);
}

const fc_driver fc_driver_direct = {"direct", workspace_bytes, packed_bytes, pack, run};
