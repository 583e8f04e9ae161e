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
 * Settings: those of panels. Packed: joined.h.
 *
 * Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018: products of 16 bits summed in pairs.
 */
#include <string.h>

#include "joined.h"

static fc_problem joined(const fc_problem *p)
{
    fc_problem q = *p;
    fc_join_problem(p, 2, FC_PAIRS, &q);
    return q;
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                               int64_t threads)
{
    const fc_problem q = joined(p);
    return fc_joined_workspace_bytes(&q, config, kernels, threads);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    const fc_problem q = joined(p);
    return fc_joined_packed_bytes(&q, config, kernels);
}

/* Joins the channels of a filter, low 16 bits of each, and sums its weights. */
static void join_filter(void *context, int64_t k, int64_t slot)
{
    (void)slot;
    const fc_joining *const a = context;
    const fc_problem *const p = a->p, *const q = a->q;
    const int64_t bytes = fc_dtype_bytes(p->dtype);
    uint32_t *to = (uint32_t *)a->room + k * q->w_k, sum = 0;
    for (int64_t c = 0; c < p->c; c += 2)
        for (int64_t tap = 0; tap < q->w_c; tap++) {
            const int64_t at = fc_weight_at(p, k, c, tap);
            const uint32_t first = fc_integer(a->w, bytes, at) & 0xffff;
            const uint32_t next = c + 1 < p->c ? fc_integer(a->w, bytes, at + p->w_c) & 0xffff : 0;
            *to++ = first | next << 16;
            sum += (uint32_t)(int16_t)first + (uint32_t)(int16_t)next;
        }
    memcpy(a->sums + k * 4, &sum, 4);
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w,
                 void *packed, int64_t threads)
{
    const fc_problem q = joined(p);
    fc_joined_pack(p, &q, config, kernels, w, packed, threads, join_filter);
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
    const int64_t zero = p->boundary == FC_CONSTANT ? p->cval_i : 0, rows = rows_of(p);
    const int64_t parts = fc_parts(q.n * q.g * q.c, rows, threads);
    joining a = {p, &q, kernels, x, workspace, zero, rows, parts};
    fc_parallel(q.n * q.g * q.c * parts, threads, join_rows, &a);
    fc_joined_run(p, &q, config, kernels, packed, (uint32_t)zero, epilogue, y, workspace, threads);
}

const fc_driver fc_driver_pairs = {"pairs", workspace_bytes, packed_bytes, pack, run};
