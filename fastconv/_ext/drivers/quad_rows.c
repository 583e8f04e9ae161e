/* quad_rows: y[k][p][q] = bias[k] + sum over c, r, s of w[k][c][r][s] . x[c][u p + r][v q + s], exactly.
 *
 * Bytes of pictures, and of layers of few channels a group, summed in 32 bits: four neighbours of a row are multiplied at
 * once (kernels/quad_rows.c), where quads.c takes four channels, which a picture has not. One operand has signs and the other
 * none: x takes the part that w leaves, as in quads.c, in a copy that has its padding and what whole tiles read below the
 * last row; beyond the end of one they read the next, for outputs that nobody wants. A y of fewer bits is made of a
 * tile's sums, cut or quantised, while they are in cache. Depthwise layers of small planes have a file of their own, quad_lanes.c.
 *
 * Settings: v[0] whether weights have a sign. Packed: [g*k][c][r + 2 u (rows - 1)][quads], four bytes of w each; the sum of
 * each filter's weights. Workspace: x, [n*g*c][rows of whole tiles][pitch].
 *
 * Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018.
 */
#include <string.h>

#include "quad_lanes.h"

/* Most outputs of a tile; bytes that rows of the copy are rounded up to, and that are filled before they are copied to. */
enum { TILE = 4 * 64, PITCH = 16, KEPT = 16 << 10 };

typedef struct {
    int64_t quads, lines;       /* elements of a row of weights; rows of weights, with those of zeros */
    int64_t rows, pitch, plane; /* of a plane of the copy */
    int64_t strips, filter;     /* of tiles of a plane; elements of the weights of one */
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
    s.pitch = fc_round_up((p->out[1] - 1) * p->stride[1] + p->ker[1], PITCH);
    s.plane = s.rows * s.pitch;
    s.filter = p->c * s.lines * s.quads;
    return s;
}

/* With what the last tile reads beyond its row. */
static int64_t x_bytes(const fc_problem *p, const cut *s, const fc_kernels *kernels)
{
    return fc_round_up(p->n * p->g * p->c * s->plane + kernels->quad_rows_i32->line + 4 * s->quads, FC_ALIGN);
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    (void)config;
    if (fc_quad_lanes_fit(p)) return fc_quad_lanes_workspace_bytes(p, kernels, threads);
    const cut s = cut_of(p, kernels);
    return x_bytes(p, &s, kernels);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    (void)config;
    if (fc_quad_lanes_fit(p)) return fc_quad_lanes_packed_bytes(p, kernels);
    const cut s = cut_of(p, kernels);
    return p->g * p->k * (s.filter + 1) * 4;
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads)
{
    (void)threads;
    if (fc_quad_lanes_fit(p)) {
        fc_quad_lanes_pack(p, kernels, config->v[0] != 0, w, packed);
        return;
    }
    const cut s = cut_of(p, kernels);
    const int64_t before = p->stride[0] * (kernels->quad_rows_i32->rows - 1), bytes = fc_dtype_bytes(p->dtype);
    uint8_t *const to = packed;
    uint32_t *const sums = (uint32_t *)packed + p->g * p->k * s.filter;
    memset(packed, 0, (size_t)packed_bytes(p, config, kernels));
    for (int64_t k = 0; k < p->g * p->k; k++)
        for (int64_t c = 0; c < p->c; c++)
            for (int64_t i = 0; i < p->ker[0] * p->ker[1]; i++) {
                const int64_t row = i / p->ker[1], column = i % p->ker[1];
                const int64_t at = ((k * p->c + c) * s.lines + before + row) * s.quads + column / 4;
                const uint8_t low = (uint8_t)fc_integer(w, bytes, fc_weight_at(p, k, c, i));
                to[4 * at + column % 4] = low;
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
    const int64_t part = index % a->x_parts, planes = p->g * p->c, plane = index / a->x_parts % planes, step = p->x_s[1];
    const int64_t end = s->rows * (part + 1) / a->x_parts, most = fc_max(1, KEPT / s->pitch);
    /* rows and samples of x that windows see */
    const int64_t last = fc_min(p->pad[0] + p->in[0], (p->out[0] - 1) * p->stride[0] + p->ker[0]);
    const int64_t count = fc_max(0, fc_min(p->in[1], (p->out[1] - 1) * p->stride[1] + p->ker[1] - p->pad[1]));
    const uint8_t *const x = a->x + index / a->x_parts / planes * p->x_n + plane * p->x_c, flip = a->flip;
    uint8_t *const copy = a->copy + index / a->x_parts * s->plane;
    for (int64_t first = s->rows * part / a->x_parts, stop; first < end; first = stop) {
        stop = fc_min(end, first + most);
        memset(copy + first * s->pitch, a->beyond, (size_t)((stop - first) * s->pitch));
        for (int64_t row = fc_max(first, p->pad[0]); row < fc_min(stop, last); row++) {
            uint8_t *const to = copy + row * s->pitch + p->pad[1];
            const uint8_t *const from = x + (row - p->pad[0]) * p->x_s[0];
            if (step == 1 && !flip)
                copy_row(to, from, count);
            else if (step == 1)
                for (int64_t i = 0; i < count; i++) to[i] = from[i] ^ flip;
            else
                for (int64_t i = 0; i < count; i++) to[i] = from[i * step] ^ flip;
        }
    }
}

/* `rows` rows of a tile's sums to y from an output's row and column on, `count` outputs of each. */
static void store(const call *a, int64_t image, int64_t filter, const uint32_t *sums, int64_t row, int64_t rows,
                  int64_t column, int64_t count)
{
    const fc_problem *const p = a->p;
    const cut *const s = &a->s;
    const int64_t bytes = fc_dtype_bytes(p->y_dtype), all = rows * s->columns, zero = a->epilogue->zero;
    char narrow[2 * TILE];
    const char *from = narrow;
    if (a->epilogue->scale)
        a->kernels->pairs_i32->quantize(p->y_dtype, sums, all, a->epilogue->scale[filter], zero, narrow);
    else if (bytes < 4)
        a->kernels->pairs_i32->cut(bytes, sums, all, narrow);
    else
        from = (const char *)sums;
    char *y = a->y + (image * p->y_n + filter * p->y_k + row * p->y_s[0] + column * p->y_s[1]) * bytes;
    for (int64_t j = 0; j < rows; j++, from += s->columns * bytes, y += p->y_s[0] * bytes) {
        if (p->y_s[1] == 1) copy_row(y, from, count * bytes);
        else
            for (int64_t i = 0; i < count; i++) memcpy(y + i * p->y_s[1] * bytes, from + i * bytes, (size_t)bytes);
    }
}

/* Outputs of some strips of tiles of a filter. */
static void strips(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const call *const a = context;
    const fc_problem *const p = a->p;
    const cut *const s = &a->s;
    const fc_quad_rows *const tile = a->kernels->quad_rows_i32;
    const int64_t filters = p->g * p->k, part = index % a->y_parts, filter = index / a->y_parts % filters;
    const int64_t image = index / a->y_parts / filters, plane = filter / p->k * p->c;
    const uint32_t *const w = (const uint32_t *)a->packed;
    const uint8_t *const x = a->copy + (image * p->g * p->c + plane) * s->plane;
    uint32_t out[TILE] __attribute__((aligned(FC_ALIGN))), start = a->factor * w[filters * s->filter + filter];
    if (a->epilogue->bias) start += fc_integer(a->epilogue->bias, fc_dtype_bytes(p->dtype), filter);
    const int64_t end = s->strips * (part + 1) / a->y_parts;
    for (int64_t i = s->strips * part / a->y_parts; i < end; i++) {
        const int64_t row = i * tile->rows, rows = fc_min(tile->rows, p->out[0] - row);
        for (int64_t column = 0; column < p->out[1]; column += s->columns) {
            const fc_quad_rows_block block = {
                p->c, p->ker[0], s->quads, p->stride[0], x + row * p->stride[0] * s->pitch + column * p->stride[1], s->plane,
                s->pitch, w + filter * s->filter, start, out};
            tile->run[p->stride[1] - 1][a->w_signed](&block);
            store(a, image, filter, out, row, rows, column, fc_min(s->columns, p->out[1] - column));
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
    if (fc_quad_lanes_fit(p)) {
        fc_quad_lanes_run(p, kernels, w_signed, a.flip, a.beyond, a.factor, x, packed, epilogue, y, workspace, threads);
        return;
    }
    a.x_parts = fc_parts(p->n * p->g * p->c, a.s.rows, threads);
    a.y_parts = fc_parts(p->n * p->g * p->k, a.s.strips, threads);
    fc_parallel(p->n * p->g * p->c * a.x_parts, threads, copy_rows, &a);
    fc_parallel(p->n * p->g * p->k * a.y_parts, threads, strips, &a);
}

const fc_driver fc_driver_quad_rows = {"quad_rows", workspace_bytes, packed_bytes, pack, run};
