/* quad_rows: y[k][p][q] = bias[k] + sum over c, r, s of w[k][c][r][s] . x[c][u p + r][v q + s], exactly.
 *
 * Bytes of pictures, and of layers of few channels a group, summed in 32 bits: four neighbours of a row are multiplied at
 * once (kernels/quad_rows.c), where quads.c takes four channels, which a picture has not. One operand has signs and the other
 * none: x takes the part that w leaves, as in quads.c, in a copy that has its padding and what whole tiles read below the
 * last row; beyond the end of one they read the next, for outputs that nobody wants. Narrow channels of depthwise layers
 * lie side by side in the copy's rows. A y of fewer bits is made of a tile's sums, cut or quantised, while they are in cache.
 *
 * Settings: v[0] whether weights have a sign. Packed: [g*k][c][r + 2 u (rows - 1)][quads], four bytes of w each, or vectors of
 * those of channels side by side; the sum of each filter's weights. Workspace: x, [n*g*c][rows of whole tiles][pitch].
 *
 * Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018.
 */
#include <string.h>

#include "joined.h"

/* Most outputs of a tile; bytes that rows of the copy are rounded up to, and that are filled before they are copied to. */
enum { TILE = 4 * 64, PITCH = 16, KEPT = 16 << 10 };

typedef struct {
    int64_t quads, lines;       /* elements of a row of weights; rows of weights, with those of zeros */
    int64_t beside, width;      /* channels side by side in a row of the copy of x, and bytes of each there */
    int64_t rows, pitch, plane; /* of a plane of the copy */
    int64_t strips, filters, filter; /* of tiles of a plane; filters, of channels side by side together; elements of such */
    int64_t columns;            /* outputs of a tile's row */
} cut;

static cut cut_of(const fc_problem *p, const fc_kernels *kernels)
{
    const fc_quad_rows *const tile = kernels->quad_rows_i32;
    cut s;
    s.quads = fc_ceil_div(p->ker[1], 4);
    s.lines = p->ker[0] + 2 * p->stride[0] * (tile->rows - 1);
    s.strips = fc_ceil_div(p->out[0], tile->rows);
    s.rows = (s.strips * tile->rows - 1) * p->stride[0] + p->ker[0];
    s.columns = tile->line / p->stride[1];
    s.pitch = s.width = fc_round_up((p->out[1] - 1) * p->stride[1] + p->ker[1], PITCH);
    s.beside = 1;
    while (p->c == 1 && p->k == 1 && s.beside < p->g && 2 * s.beside * s.width <= tile->line) s.beside *= 2;
    if (s.beside > 1) s.pitch = tile->line, s.width = tile->line / s.beside;
    s.plane = s.rows * s.pitch;
    s.filters = fc_ceil_div(p->g * p->k, s.beside);
    s.filter = p->c * s.lines * s.quads * (s.beside > 1 ? tile->lanes : 1);
    return s;
}

/* Planes of an image. */
static int64_t planes_of(const fc_problem *p, const cut *s) { return fc_ceil_div(p->g * p->c, s->beside); }

/* With what the last tile reads beyond its row. */
static int64_t x_bytes(const fc_problem *p, const cut *s, const fc_kernels *kernels)
{
    return fc_round_up(p->n * planes_of(p, s) * s->plane + kernels->quad_rows_i32->line + 4 * s->quads, FC_ALIGN);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    (void)config, (void)threads;
    const cut s = cut_of(p, kernels);
    return x_bytes(p, &s, kernels);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    (void)config;
    const cut s = cut_of(p, kernels);
    return (s.filters * s.filter + p->g * p->k) * 4;
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads)
{
    (void)threads;
    const cut s = cut_of(p, kernels);
    const int64_t before = p->stride[0] * (kernels->quad_rows_i32->rows - 1), bytes = fc_dtype_bytes(p->dtype);
    const int64_t lanes = s.beside > 1 ? kernels->quad_rows_i32->lanes : 1, own = fc_ceil_div(lanes, s.beside);
    uint8_t *const to = packed;
    uint32_t *const sums = (uint32_t *)packed + s.filters * s.filter;
    memset(packed, 0, (size_t)packed_bytes(p, config, kernels));
    for (int64_t k = 0; k < p->g * p->k; k++)
        for (int64_t c = 0; c < p->c; c++)
            for (int64_t i = 0; i < p->ker[0] * p->ker[1]; i++) {
                const int64_t row = i / p->ker[1], column = i % p->ker[1];
                const int64_t at = ((k / s.beside * p->c + c) * s.lines + before + row) * s.quads + column / 4;
                const uint8_t low = (uint8_t)fc_integer(w, bytes, fc_weight_at(p, k, c, i));
                for (int64_t lane = 0; lane < own; lane++)
                    to[4 * (at * lanes + k % s.beside * own + lane) + column % 4] = low;
                sums[k] += config->v[0] ? (uint32_t)(int8_t)low : low;
            }
}

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    cut s;
    const uint8_t *x, *packed;
    const fc_epilogue *epilogue;
    uint8_t *copy, flip, beyond; /* 128 where the highest bit of x is turned round, or 0; padding */
    char *y;
    uint32_t factor; /* of the sums of weights, for what that adds */
    int64_t w_signed, x_parts, y_parts; /* that rows of a plane, and strips of a filter, are shared out in */
} call;

/* Without the call where rows are short. */
static void copy_row(void *to, const void *from, int64_t bytes)
{
    const char *const end = (const char *)from + bytes;
    if (bytes < 4 || bytes > 16) {
        memcpy(to, from, (size_t)bytes);
    } else if (bytes < 8) {
        uint32_t first, last;
        memcpy(&first, from, 4), memcpy(&last, end - 4, 4);
        memcpy(to, &first, 4), memcpy((char *)to + bytes - 4, &last, 4);
    } else {
        uint64_t first, last;
        memcpy(&first, from, 8), memcpy(&last, end - 8, 8);
        memcpy(to, &first, 8), memcpy((char *)to + bytes - 8, &last, 8);
    }
}

/* Copies some rows of a plane, amid their padding: as many at a time as a cache keeps. */
static void copy_rows(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const call *const a = context;
    const fc_problem *const p = a->p;
    const cut *const s = &a->s;
    const int64_t part = index % a->x_parts, planes = planes_of(p, s), plane = index / a->x_parts % planes, step = p->x_s[1];
    const int64_t channel = plane * s->beside, end = s->rows * (part + 1) / a->x_parts, most = fc_max(1, KEPT / s->pitch);
    /* rows and samples of x that windows see */
    const int64_t last = fc_min(p->pad[0] + p->in[0], (p->out[0] - 1) * p->stride[0] + p->ker[0]);
    const int64_t count = fc_max(0, fc_min(p->in[1], (p->out[1] - 1) * p->stride[1] + p->ker[1] - p->pad[1]));
    const uint8_t *const x = a->x + index / a->x_parts / planes * p->x_n + channel * p->x_c, flip = a->flip;
    uint8_t *const copy = a->copy + index / a->x_parts * s->plane;
    for (int64_t first = s->rows * part / a->x_parts, stop; first < end; first = stop) {
        stop = fc_min(end, first + most);
        memset(copy + first * s->pitch, a->beyond, (size_t)((stop - first) * s->pitch));
        for (int64_t b = 0; b < fc_min(s->beside, p->g * p->c - channel); b++)
            for (int64_t row = fc_max(first, p->pad[0]); row < fc_min(stop, last); row++) {
                uint8_t *const to = copy + row * s->pitch + b * s->width + p->pad[1];
                const uint8_t *const from = x + b * p->x_c + (row - p->pad[0]) * p->x_s[0];
                if (step == 1 && !flip)
                    copy_row(to, from, count);
                else if (step == 1)
                    for (int64_t i = 0; i < count; i++) to[i] = from[i] ^ flip;
                else
                    for (int64_t i = 0; i < count; i++) to[i] = from[i * step] ^ flip;
            }
    }
}

/* `rows` rows of a tile's sums to y from an output's row and column on, `count` outputs of each channel; `scale` is of each
 * column where channels lie side by side. */
static void store(const call *a, int64_t image, int64_t filter, const uint32_t *sums, const float *scale, int64_t row,
                  int64_t rows, int64_t column, int64_t count)
{
    const fc_problem *const p = a->p;
    const cut *const s = &a->s;
    const int64_t bytes = fc_dtype_bytes(p->y_dtype), all = rows * s->columns, zero = a->epilogue->zero;
    const int64_t own = s->columns / s->beside, last = fc_min(s->beside, p->g * p->k - filter);
    char narrow[2 * TILE];
    const char *from = narrow;
    if (a->epilogue->scale && s->beside == 1)
        a->kernels->pairs_i32->quantize(p->y_dtype, sums, all, *scale, zero, narrow);
    else if (a->epilogue->scale)
        for (int64_t j = 0; j < all; j += s->columns)
            a->kernels->pairs_i32->quantize_each(p->y_dtype, sums + j, s->columns, scale, zero, narrow + j);
    else if (bytes < 4)
        a->kernels->pairs_i32->cut(bytes, sums, all, narrow);
    else
        from = (const char *)sums;
    for (int64_t b = 0; b < last; b++) {
        char *y = a->y + (image * p->y_n + (filter + b) * p->y_k + row * p->y_s[0] + column * p->y_s[1]) * bytes;
        const char *at = from + b * own * bytes;
        for (int64_t j = 0; j < rows; j++, at += s->columns * bytes, y += p->y_s[0] * bytes) {
            if (p->y_s[1] == 1) copy_row(y, at, count * bytes);
            else
                for (int64_t i = 0; i < count; i++) memcpy(y + i * p->y_s[1] * bytes, at + i * bytes, (size_t)bytes);
        }
    }
}

/* Outputs of some strips of tiles of a filter, or of those of channels side by side. */
static void strips(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const call *const a = context;
    const fc_problem *const p = a->p;
    const cut *const s = &a->s;
    const fc_quad_rows *const tile = a->kernels->quad_rows_i32;
    const int64_t part = index % a->y_parts, set = index / a->y_parts % s->filters, image = index / a->y_parts / s->filters;
    const int64_t filter = set * s->beside, plane = s->beside > 1 ? set : filter / p->k * p->c;
    const uint32_t *const sums = (const uint32_t *)a->packed + s->filters * s->filter;
    const uint8_t *const x = a->copy + (image * planes_of(p, s) + plane) * s->plane;
    uint32_t out[TILE] __attribute__((aligned(FC_ALIGN))), start[TILE / 4] = {0};
    float scale[TILE / 4] = {0};
    const int64_t lanes = tile->lanes / s->beside, columns = s->columns / s->beside;
    for (int64_t b = 0; b < fc_min(s->beside, p->g * p->k - filter); b++) {
        uint32_t first = a->factor * sums[filter + b];
        if (a->epilogue->bias) first += fc_integer(a->epilogue->bias, fc_dtype_bytes(p->dtype), filter + b);
        for (int64_t i = b * lanes; i < (b + 1) * lanes; i++) start[i] = first;
        for (int64_t i = b * columns; a->epilogue->scale && i < (b + 1) * columns; i++)
            scale[i] = a->epilogue->scale[filter + b];
    }
    const int64_t end = s->strips * (part + 1) / a->y_parts;
    for (int64_t i = s->strips * part / a->y_parts; i < end; i++) {
        const int64_t row = i * tile->rows, rows = fc_min(tile->rows, p->out[0] - row);
        for (int64_t column = 0; column < p->out[1]; column += s->columns) {
            const fc_quad_rows_block block = {
                p->c, p->ker[0], s->quads, p->stride[0], x + row * p->stride[0] * s->pitch + column * p->stride[1], s->plane,
                s->pitch, (const uint32_t *)a->packed + set * s->filter, start, out};
            tile->run[s->beside > 1][p->stride[1] - 1][a->w_signed](&block);
            store(a, image, filter, out, scale, row, rows, column, fc_min(s->columns, p->out[1] - column));
        }
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    const int w_signed = config->v[0] != 0, flips = (p->x_dtype == FC_I8) == w_signed;
    call a = {.p = p, .kernels = kernels, .s = cut_of(p, kernels), .x = x, .packed = packed, .epilogue = epilogue,
              .copy = workspace, .flip = flips ? 128 : 0, .y = y, .w_signed = w_signed};
    a.beyond = (p->boundary == FC_CONSTANT ? (uint8_t)p->cval_i : 0) ^ a.flip;
    a.factor = !flips ? 0 : w_signed ? (uint32_t)-128 : 128;
    a.x_parts = fc_parts(p->n * planes_of(p, &a.s), a.s.rows, threads);
    a.y_parts = fc_parts(p->n * a.s.filters, a.s.strips, threads);
    fc_parallel(p->n * planes_of(p, &a.s) * a.x_parts, threads, copy_rows, &a);
    fc_parallel(p->n * a.s.filters * a.y_parts, threads, strips, &a);
}

const fc_driver fc_driver_quad_rows = {"quad_rows", workspace_bytes, packed_bytes, pack, run};
