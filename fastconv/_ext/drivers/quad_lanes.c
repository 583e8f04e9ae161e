/* Depthwise layers of bytes whose planes are small: 16 channels are turned as a whole, so that lanes are channels, and their
 * results back (kernels/quad_lanes.c).
 *
 * One unit of work is (image, lanes of channels), on one thread: planes amid their padding; sums of some rows of
 * outputs, made narrow while L1 has them; planes of results.
 * Packed: [lanes of channels][r][quads of columns][lane], four bytes of w each; the sum of each filter's weights.
 */
#include <string.h>

#include "quad_lanes.h"

/* Most samples that the outputs of a row see: 3x3, 128@56 is level with rows of quads, and 32@112 takes 173 us for 150; bytes of sums
 * that are made narrow at once, a third of L1; samples that turn_out may read. */
enum { MOST = 64, SUMS = 16 << 10, BEYOND = 64 };

typedef struct {
    int64_t lanes, blocks, quads;
    int64_t rows, columns;     /* of a plane amid its padding */
    int64_t all_rows, band;    /* rows of outputs in whole tiles; of those, whose sums are made at once */
    int64_t samples, outputs;  /* of a plane of x, and of y */
    int64_t copy_bytes, plane_bytes, sum_bytes, narrow_bytes, slot_bytes;
} cut;

int fc_quad_lanes_fit(const fc_problem *p)
{
    return p->c == 1 && p->k == 1 && p->g > 1 && (p->out[1] - 1) * p->stride[1] + p->ker[1] <= MOST;
}

static cut cut_of(const fc_problem *p, const fc_kernels *kernels)
{
    const fc_quad_lanes *const tile = kernels->quad_lanes_i32;
    const int64_t bytes = fc_dtype_bytes(p->y_dtype);
    cut s = {.lanes = tile->lanes, .blocks = fc_ceil_div(p->g, tile->lanes), .quads = fc_ceil_div(p->ker[1], 4),
             .all_rows = fc_round_up(p->out[0], tile->rows), .samples = p->in[0] * p->in[1], .outputs = p->out[0] * p->out[1]};
    s.rows = (s.all_rows - 1) * p->stride[0] + p->ker[0];
    s.columns = (p->out[1] - 1) * p->stride[1] + 4 * s.quads;
    s.band = fc_min(s.all_rows, tile->rows * fc_max(1, SUMS / (tile->rows * p->out[1] * s.lanes * 4)));
    s.copy_bytes = fc_round_up((s.rows * s.columns + 1) * s.lanes, FC_ALIGN); /* and where samples go that no window sees */
    s.plane_bytes = fc_round_up(fc_max(s.samples, s.outputs * bytes) * s.lanes, FC_ALIGN);
    s.sum_bytes = bytes == 4 ? 0 : fc_round_up(s.band * p->out[1] * s.lanes * 4, FC_ALIGN);
    s.narrow_bytes = fc_round_up((s.all_rows * p->out[1] + BEYOND) * s.lanes * bytes, FC_ALIGN);
    s.slot_bytes = s.copy_bytes + s.plane_bytes + s.sum_bytes + s.narrow_bytes;
    return s;
}

int64_t fc_quad_lanes_workspace_bytes(const fc_problem *p, const fc_kernels *kernels, int64_t threads)
{
    const cut s = cut_of(p, kernels);
    return threads * s.slot_bytes + s.samples * (int64_t)sizeof(int32_t);
}

int64_t fc_quad_lanes_packed_bytes(const fc_problem *p, const fc_kernels *kernels)
{
    const cut s = cut_of(p, kernels);
    return (s.blocks * p->ker[0] * s.quads * s.lanes + p->g) * 4;
}

void fc_quad_lanes_pack(const fc_problem *p, const fc_kernels *kernels, int w_signed, const void *w, void *packed)
{
    const cut s = cut_of(p, kernels);
    uint8_t *const to = packed;
    uint32_t *const sums = (uint32_t *)packed + s.blocks * p->ker[0] * s.quads * s.lanes;
    memset(packed, 0, (size_t)fc_quad_lanes_packed_bytes(p, kernels));
    for (int64_t c = 0; c < p->g; c++)
        for (int64_t i = 0; i < p->ker[0] * p->ker[1]; i++) {
            const int64_t row = i / p->ker[1], column = i % p->ker[1];
            const int64_t at = ((c / s.lanes * p->ker[0] + row) * s.quads + column / 4) * s.lanes + c % s.lanes;
            const uint8_t low = (uint8_t)fc_integer(w, fc_dtype_bytes(p->dtype), fc_weight_at(p, c, 0, i));
            to[4 * at + column % 4] = low;
            sums[c] += w_signed ? (uint32_t)(int8_t)low : low;
        }
}

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    cut s;
    const uint8_t *x;
    const uint32_t *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace;
    const int32_t *place;
    uint8_t flip, beyond;
    uint32_t factor;
    int w_signed;
} call;

/* Whether planes lie without gaps. */
static int is_dense(const int64_t *steps, const int64_t *sizes)
{
    return (sizes[1] == 1 || steps[1] == 1) && (sizes[0] == 1 || steps[0] == sizes[1]);
}

/* Planes of `bytes` an element from where they lie to a buffer without gaps, or back. */
static void move(int64_t channels, const int64_t *sizes, int64_t step, const int64_t *steps, int64_t bytes, char *apart,
                 char *dense, int back)
{
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < sizes[0]; i++)
            for (int64_t j = 0; j < sizes[1]; j++, dense += bytes) {
                char *const own = apart + (c * step + i * steps[0] + j * steps[1]) * bytes;
                memcpy(back ? own : dense, back ? dense : own, (size_t)bytes);
            }
}

/* Sums of all rows of outputs, made narrow. */
static void sum_rows(const call *a, int64_t block, int64_t channels, const uint8_t *copy, char *sums, char *narrow)
{
    const fc_problem *const p = a->p;
    const cut *const s = &a->s;
    const fc_quad_lanes *const tile = a->kernels->quad_lanes_i32;
    const int64_t bytes = fc_dtype_bytes(p->y_dtype), weights = p->ker[0] * s->quads * s->lanes;
    const uint32_t *const of = a->packed + s->blocks * weights + block * s->lanes;
    uint32_t start[FC_ALIGN / 4] = {0};
    float scale[FC_ALIGN / 4] = {0};
    for (int64_t c = 0; c < channels; c++) {
        start[c] = a->factor * of[c];
        if (a->epilogue->bias) start[c] += fc_integer(a->epilogue->bias, fc_dtype_bytes(p->dtype), block * s->lanes + c);
        if (a->epilogue->scale) scale[c] = a->epilogue->scale[block * s->lanes + c];
    }
    for (int64_t row = 0, count; row < s->all_rows; row += count) {
        count = fc_min(s->band, s->all_rows - row);
        char *const to = narrow + row * p->out[1] * s->lanes * bytes, *const own = bytes == 4 ? to : sums;
        for (int64_t i = 0; i < count; i += tile->rows) {
            const fc_quad_lanes_block b = {
                p->ker[0], s->quads, p->stride[0], p->stride[1], p->out[1],
                copy + (row + i) * p->stride[0] * s->columns * s->lanes, s->columns * s->lanes, a->packed + block * weights, start,
                (uint32_t *)own + i * p->out[1] * s->lanes};
            tile->run[a->w_signed](&b);
        }
        const int64_t elements = count * p->out[1] * s->lanes;
        if (a->epilogue->scale)
            a->kernels->pairs_i32->quantize_lanes(p->y_dtype, own, elements, scale, a->epilogue->zero, to);
        else if (bytes < 4)
            a->kernels->pairs_i32->cut(bytes, own, elements, to);
    }
}

static void run_unit(void *context, int64_t index, int64_t slot)
{
    const call *const a = context;
    const fc_problem *const p = a->p;
    const cut *const s = &a->s;
    const fc_quad_lanes *const tile = a->kernels->quad_lanes_i32;
    const int64_t image = index / s->blocks, block = index % s->blocks, first = block * s->lanes;
    const int64_t channels = fc_min(s->lanes, p->g - first), bytes = fc_dtype_bytes(p->y_dtype);
    uint8_t *const copy = (uint8_t *)a->workspace + slot * s->slot_bytes;
    char *const plane = (char *)copy + s->copy_bytes, *const sums = plane + s->plane_bytes, *const narrow = sums + s->sum_bytes;
    const uint8_t *x = a->x + image * p->x_n + first * p->x_c;
    int64_t step = p->x_c;
    if (!is_dense(p->x_s, p->in)) {
        move(channels, p->in, step, p->x_s, 1, (char *)(uintptr_t)x, plane, 0);
        x = (const uint8_t *)plane, step = s->samples;
    }
    memset(copy, a->beyond, (size_t)s->copy_bytes);
    tile->turn_in(channels, s->samples, x, step, a->flip, a->place, copy);
    sum_rows(a, block, channels, copy, sums, narrow);
    char *const y = a->y + (image * p->y_n + first * p->y_k) * bytes;
    if (is_dense(p->y_s, p->out)) {
        tile->turn_out(bytes, channels, s->outputs, narrow, y, p->y_k);
        return;
    }
    tile->turn_out(bytes, channels, s->outputs, narrow, plane, s->outputs);
    move(channels, p->out, p->y_k, p->y_s, bytes, y, plane, 1);
}

void fc_quad_lanes_run(const fc_problem *p, const fc_kernels *kernels, int w_signed, uint8_t flip, uint8_t beyond,
                       uint32_t factor, const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                       void *workspace, int64_t threads)
{
    call a = {.p = p, .kernels = kernels, .s = cut_of(p, kernels), .x = x, .packed = packed, .epilogue = epilogue, .y = y,
              .workspace = workspace, .flip = flip, .beyond = beyond, .factor = factor, .w_signed = w_signed};
    const cut *const s = &a.s;
    int32_t *const place = (int32_t *)(a.workspace + threads * s->slot_bytes);
    for (int64_t i = 0, n = 0; i < p->in[0]; i++)
        for (int64_t j = 0; j < p->in[1]; j++, n++) {
            const int64_t row = i + p->pad[0], column = j + p->pad[1];
            const int seen = row < s->rows && column < s->columns;
            place[n] = (int32_t)((seen ? row * s->columns + column : s->rows * s->columns) * s->lanes);
        }
    a.place = place;
    fc_parallel(p->n * s->blocks, threads, run_unit, &a);
}
