/* quad_rows: y[k][p][q] = bias[k] + sum over c, r, s of w[k][c][r][s] . x[c][p + r][q + s], exactly.
 *
 * Bytes of pictures, summed in 32 bits: four neighbours of a row are multiplied at once (kernels/quad_rows.c), where quads.c
 * takes four channels, which a picture has not. One operand has signs and the other none: x takes the part that w leaves, as in
 * quads.c, in a copy that has its padding and ends with what whole tiles read beyond a row, and below the last one.
 *
 * Settings: v[0] whether weights have a sign. Packed: [g*k][c][r + 2 (rows - 1)][quads], four bytes of w each; the sum of
 * each filter's weights. Workspace: x, [n*g*c][rows of whole tiles][pitch]; a tile of sums a thread.
 *
 * Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018.
 */
#include <string.h>

#include "joined.h"

typedef struct {
    int64_t quads, lines;       /* elements of a row of weights; rows of weights, with those of zeros */
    int64_t rows, pitch, plane; /* of a plane of the copy of x */
    int64_t strips, filter;     /* of tiles of a plane; elements of a filter */
    int64_t tile_bytes;
} cut;

static cut cut_of(const fc_problem *p, const fc_kernels *kernels)
{
    const fc_quad_rows *const tile = kernels->quad_rows_i32;
    cut s;
    s.quads = fc_ceil_div(p->ker[1], 4);
    s.lines = p->ker[0] + 2 * (tile->rows - 1);
    s.strips = fc_ceil_div(p->out[0], tile->rows);
    s.rows = s.strips * tile->rows + p->ker[0] - 1;
    s.pitch = fc_round_up(fc_round_up(p->out[1], tile->columns) + 4 * s.quads, FC_ALIGN);
    s.plane = s.rows * s.pitch;
    s.filter = p->c * s.lines * s.quads;
    s.tile_bytes = fc_round_up(tile->rows * tile->columns * 4, FC_ALIGN);
    return s;
}

static int64_t x_bytes(const fc_problem *p, const cut *s) { return p->n * p->g * p->c * s->plane; }

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    (void)config;
    const cut s = cut_of(p, kernels);
    return x_bytes(p, &s) + threads * s.tile_bytes;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    (void)config;
    const cut s = cut_of(p, kernels);
    return p->g * p->k * (s.filter + 1) * 4;
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w, void *packed,
                 int64_t threads)
{
    (void)threads;
    const cut s = cut_of(p, kernels);
    const int64_t before = kernels->quad_rows_i32->rows - 1, bytes = fc_dtype_bytes(p->dtype);
    uint8_t *const to = packed;
    uint32_t *const sums = (uint32_t *)packed + p->g * p->k * s.filter;
    memset(packed, 0, (size_t)packed_bytes(p, config, kernels));
    for (int64_t k = 0; k < p->g * p->k; k++)
        for (int64_t c = 0; c < p->c; c++)
            for (int64_t i = 0; i < p->ker[0] * p->ker[1]; i++) {
                const int64_t row = i / p->ker[1], column = i % p->ker[1];
                const uint8_t low = (uint8_t)fc_integer(w, bytes, fc_weight_at(p, k, c, i));
                to[4 * ((k * p->c + c) * s.lines + before + row) * s.quads + column] = low;
                sums[k] += config->v[0] ? (uint32_t)(int8_t)low : low;
            }
}

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    cut s;
    const uint8_t *x, *packed;
    const fc_epilogue *epilogue;
    uint8_t *copy, *tiles, flip; /* 128 where the highest bit of x is turned round, or 0 */
    uint32_t *y, factor;         /* of the sums of weights, for what that adds */
    int64_t w_signed;
} call;

/* Copies a row of a plane of x, its padding and what lies beyond. */
static void copy_row(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const call *const a = context;
    const fc_problem *const p = a->p;
    const int64_t row = index % a->s.rows, plane = index / a->s.rows, step = p->x_s[1];
    uint8_t *const to = a->copy + index * a->s.pitch, flip = a->flip;
    const int64_t source = row < p->out[0] + p->ker[0] - 1 ? fc_source(p, 0, row) : -1;
    const int64_t count = source < 0 ? 0 : fc_min(p->in[1], p->out[1] + p->ker[1] - 1 - p->pad[1]);
    uint8_t *const first = to + p->pad[1], *const end = first + count;
    const uint8_t *const from = a->x + plane / (p->g * p->c) * p->x_n + plane % (p->g * p->c) * p->x_c + fc_max(source, 0) * p->x_s[0];
    memset(to, flip, (size_t)(first - to));
    if (step == 1)
        for (int64_t i = 0; i < count; i++) first[i] = from[i] ^ flip;
    else
        for (int64_t i = 0; i < count; i++) first[i] = from[i * step] ^ flip;
    memset(end, flip, (size_t)(to + a->s.pitch - end));
}

/* Outputs of a strip of tiles of one filter. */
static void strip(void *context, int64_t index, int64_t slot)
{
    const call *const a = context;
    const fc_problem *const p = a->p;
    const cut *const s = &a->s;
    const fc_quad_rows *const tile = a->kernels->quad_rows_i32;
    const int64_t row = index % s->strips * tile->rows, filter = index / s->strips % (p->g * p->k);
    const int64_t image = index / s->strips / (p->g * p->k), rows = fc_min(tile->rows, p->out[0] - row);
    const uint32_t *const sums = (const uint32_t *)a->packed + p->g * p->k * s->filter;
    uint32_t *const out = (uint32_t *)(a->tiles + slot * s->tile_bytes);
    uint32_t start = a->factor * sums[filter];
    if (a->epilogue->bias) start += ((const uint32_t *)a->epilogue->bias)[filter];
    const uint8_t *const x = a->copy + (image * p->g + filter / p->k) * p->c * s->plane + row * s->pitch;
    uint32_t *const y = a->y + image * p->y_n + filter * p->y_k + row * p->y_s[0];
    for (int64_t column = 0; column < p->out[1]; column += tile->columns) {
        const fc_quad_rows_block block = {
            p->c, p->ker[0], s->quads, x + column, s->plane, s->pitch,
            (const uint32_t *)a->packed + filter * s->filter, start, out};
        tile->run[a->w_signed](&block);
        const int64_t count = fc_min(tile->columns, p->out[1] - column);
        for (int64_t j = 0; j < rows; j++) {
            uint32_t *const to = y + j * p->y_s[0] + column * p->y_s[1];
            if (p->y_s[1] == 1) memcpy(to, out + j * tile->columns, (size_t)count * 4);
            else
                for (int64_t i = 0; i < count; i++) to[i * p->y_s[1]] = out[j * tile->columns + i];
        }
    }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    const int w_signed = config->v[0] != 0, flips = (p->x_dtype == FC_I8) == w_signed;
    call a = {.p = p, .kernels = kernels, .s = cut_of(p, kernels), .x = x, .packed = packed, .epilogue = epilogue,
              .copy = workspace, .flip = flips ? 128 : 0, .y = y, .w_signed = w_signed};
    a.tiles = a.copy + x_bytes(p, &a.s);
    a.factor = !flips ? 0 : w_signed ? (uint32_t)-128 : 128;
    fc_parallel(p->n * p->g * p->c * a.s.rows, threads, copy_row, &a);
    fc_parallel(p->n * p->g * p->k * a.s.strips, threads, strip, &a);
}

const fc_driver fc_driver_quad_rows = {"quad_rows", workspace_bytes, packed_bytes, pack, run};
