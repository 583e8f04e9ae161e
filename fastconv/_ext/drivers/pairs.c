/* pairs: y[k][pixel] = bias[k] + sum over pairs of channels, taps of w[k][tap] . panel[tap][pixel], exactly.
 *
 * Integers of 8 and 16 bits, two neighbouring channels in one element of 32 bits: two products and their sum are one
 * instruction, and that never overflows but as sums of 32 bits do, which wrap. x is copied once, less its zero point, as
 * such elements; the rest is panels.c, whose products, biases and sums are 32 bits as floats are. Sums that wrap
 * to fewer bits, or are quantised, are so where panels.c finishes a unit.
 *
 * A boundary of a constant is a zero point: the sum of w * x with c beyond the ends is that of w * (x - c) with zeros there,
 * and c times the sum of the weights, which is packed and goes to the bias.
 *
 * Settings: those of panels.
 * Packed: that of panels, of pairs; the sum of each filter's weights; room for the pairs while they are packed.
 *
 * Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018: products of 16 bits summed in pairs.
 */
#include <string.h>

#include "../fc.h"

static int64_t pairs_of(const fc_problem *p) { return fc_ceil_div(p->c, 2); }

/* The problem that panels solves: of pairs of channels, as they lie in a copy of x. */
static fc_problem joined(const fc_problem *p)
{
    fc_problem q = *p;
    const int same = fc_dtype_bytes(p->y_dtype) == 4;
    q.c = pairs_of(p);
    q.dtype = q.x_dtype = FC_PAIRS;
    q.y_dtype = same ? FC_PAIRS : p->y_dtype;
    q.boundary = FC_ZEROS;
    q.x_c = q.w_c = 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        q.x_s[d] = q.x_c, q.x_c *= p->in[d];
        q.w_s[d] = q.w_c, q.w_c *= p->ker[d];
    }
    q.x_n = p->g * q.c * q.x_c;
    q.w_k = q.c * q.w_c;
    return q;
}

static int64_t bytes_of_x(const fc_problem *q) { return fc_round_up(q->n * q->x_n * 4, FC_ALIGN); }
static int64_t bytes_of_bias(const fc_problem *q) { return fc_round_up(q->g * q->k * 4, FC_ALIGN); }

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                               int64_t threads)
{
    const fc_problem q = joined(p);
    return bytes_of_x(&q) + bytes_of_bias(&q) + fc_driver_panels.workspace_bytes(&q, config, kernels, threads);
}

static int64_t bytes_of_panels(const fc_problem *q, const fc_config *config, const fc_kernels *kernels)
{
    return fc_round_up(fc_driver_panels.packed_bytes(q, config, kernels), FC_ALIGN);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    const fc_problem q = joined(p);
    return bytes_of_panels(&q, config, kernels) + bytes_of_bias(&q) + q.g * q.k * q.w_k * 4;
}

/* The low 16 bits of an integer of any width. */
static uint32_t low_bits(const void *a, int64_t bytes, int64_t at)
{
    if (bytes == 1) return ((const uint8_t *)a)[at];
    return bytes == 2 ? ((const uint16_t *)a)[at] : ((const uint32_t *)a)[at] & 0xffff;
}

typedef struct {
    const fc_problem *p, *q;
    const char *w;
    char *sums, *room;
} packing;

/* Joins the channels of a filter, and sums its weights. */
static void join_filter(void *context, int64_t k, int64_t slot)
{
    (void)slot;
    const packing *const a = context;
    const fc_problem *const p = a->p, *const q = a->q;
    const int64_t bytes = fc_dtype_bytes(p->dtype);
    uint32_t *to = (uint32_t *)a->room + k * q->w_k, sum = 0;
    for (int64_t c = 0; c < p->c; c += 2)
        for (int64_t tap = 0; tap < q->w_c; tap++) {
            int64_t at = k * p->w_k + c * p->w_c;
            for (int64_t d = p->dims - 1, rest = tap; d >= 0; rest /= p->ker[d], d--) at += rest % p->ker[d] * p->w_s[d];
            const uint32_t first = low_bits(a->w, bytes, at), next = c + 1 < p->c ? low_bits(a->w, bytes, at + p->w_c) : 0;
            *to++ = first | next << 16;
            sum += (uint32_t)(int16_t)first + (uint32_t)(int16_t)next;
        }
    memcpy(a->sums + k * 4, &sum, 4);
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w,
                 void *packed, int64_t threads)
{
    const fc_problem q = joined(p);
    char *const sums = (char *)packed + bytes_of_panels(&q, config, kernels);
    packing a = {p, &q, w, sums, sums + bytes_of_bias(&q)};
    fc_parallel(p->g * p->k, fc_pack_threads(q.g * q.k * q.w_k * 4, threads), join_filter, &a);
    fc_driver_panels.pack(&q, config, kernels, a.room, packed, threads);
}

typedef struct {
    const fc_problem *p, *q;
    const fc_kernels *kernels;
    const char *x;
    char *to;
    int64_t zero, rows, parts; /* rows of a channel, and the parts that they are shared out in */
} joining;

/* Joins a part of the rows of two channels. */
static void join_rows(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const joining *const a = context;
    const fc_problem *const p = a->p, *const q = a->q;
    const int64_t part = index % a->parts, pair = index / a->parts % q->c, image = index / a->parts / q->c;
    const int64_t bytes = fc_dtype_bytes(p->x_dtype), last = p->dims - 1, c = 2 * pair;
    const int64_t from = image / p->g * p->x_n + (image % p->g * p->c + c) * p->x_c;
    char *const to = a->to + (image * q->c + pair) * q->x_c * 4;
    const int64_t begin = a->rows * part / a->parts, end = a->rows * (part + 1) / a->parts;
    const int64_t width = q->x_c / a->rows;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = from;
        for (int64_t d = last - 1, rest = i; d >= 0 && a->rows > 1; rest /= p->in[d], d--) at += rest % p->in[d] * p->x_s[d];
        const char *const x = a->x + at * bytes;
        a->kernels->pairs_i32->join(p->x_dtype, x, c + 1 < p->c ? x + p->x_c * bytes : NULL, p->x_s[last], width,
                                a->zero, to + i * width * 4);
    }
}

/* Rows of a channel: one where they follow each other. */
static int64_t rows_of(const fc_problem *p)
{
    int64_t rows = 1, expected = 1, in_a_row = 1;
    for (int64_t d = p->dims - 1; d >= 0; expected *= p->in[d], d--) {
        in_a_row &= p->x_s[d] == expected;
        if (d < p->dims - 1) rows *= p->in[d];
    }
    return in_a_row ? 1 : rows;
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    const fc_problem q = joined(p);
    const int64_t zero = p->boundary == FC_CONSTANT ? p->cval_i : 0, filters = q.g * q.k;
    const int64_t rows = rows_of(p), units = q.n * q.g * q.c;
    const int64_t parts = units < 4 * threads ? fc_min(rows, fc_ceil_div(4 * threads, fc_max(1, units))) : 1;
    joining a = {p, &q, kernels, x, workspace, zero, rows, parts};
    fc_parallel(units * parts, threads, join_rows, &a);

    uint32_t *const bias = (uint32_t *)((char *)workspace + bytes_of_x(&q));
    const uint32_t *const sums = (const uint32_t *)((const char *)packed + bytes_of_panels(&q, config, kernels));
    const int64_t bytes = fc_dtype_bytes(p->dtype);
    for (int64_t k = 0; k < filters; k++) {
        bias[k] = (uint32_t)zero * sums[k];
        if (epilogue->bias)
            bias[k] += bytes == 4 ? ((const uint32_t *)epilogue->bias)[k] : low_bits(epilogue->bias, bytes, k);
    }
    fc_epilogue own = *epilogue;
    own.bias = bias;
    fc_driver_panels.run(&q, config, kernels, workspace, packed, &own, y, (char *)bias + bytes_of_bias(&q), threads);
}

const fc_driver fc_driver_pairs = {"pairs", workspace_bytes, packed_bytes, pack, run};
