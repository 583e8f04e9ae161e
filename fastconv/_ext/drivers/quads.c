/* quads: y[k][pixel] = bias[k] + sum over quads of channels, taps of w[k][tap] . panel[tap][pixel], exactly.
 *
 * Bytes, of four neighbouring channels in one element of 32 bits: four products and their sum are one instruction
 * (kernels/quads.c), which takes one operand with signs and one without. w is stored as it is; x takes the other part, by 128
 * added to or taken off each sample, which turns its highest bit round, where it is of w's kind. What that adds, 128
 * times the sum of a filter's weights, goes off with the bias. The copy of x has its padding, as samples less 128 are no zeros
 * there. The rest is panels.c; narrow sums are finished there as those of pairs.c are.
 *
 * Settings: those of panels; v[4] whether weights have a sign. Packed: joined.h.
 *
 * Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018.
 */
#include <string.h>

#include "joined.h"

enum { CHANNELS = 4 };

/* The copy of x has its padding. */
static fc_problem joined(const fc_problem *p, const fc_config *config)
{
    fc_problem q = *p;
    for (int64_t d = 0; d < p->dims; d++) {
        q.in[d] = fc_max(0, (p->out[d] - 1) * p->stride[d] + (p->ker[d] - 1) * p->dilation[d] + 1);
        q.pad[d] = 0;
    }
    fc_join_problem(p, CHANNELS, config->v[4] ? FC_QUADS : FC_QUADS_U, &q);
    return q;
}

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                               int64_t threads)
{
    const fc_problem q = joined(p, config);
    return fc_joined_workspace_bytes(&q, config, kernels, threads);
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    const fc_problem q = joined(p, config);
    return fc_joined_packed_bytes(&q, config, kernels);
}

/* Joins the channels of a filter, low 8 bits of each, and sums its weights. */
static void join_filter(void *context, int64_t k, int64_t slot)
{
    (void)slot;
    const fc_joining *const a = context;
    const fc_problem *const p = a->p, *const q = a->q;
    const int64_t bytes = fc_dtype_bytes(p->dtype);
    const int has_sign = q->dtype == FC_QUADS;
    uint32_t *to = (uint32_t *)a->room + k * q->w_k, sum = 0;
    for (int64_t c = 0; c < p->c; c += CHANNELS)
        for (int64_t tap = 0; tap < q->w_c; tap++, to++) {
            const int64_t at = fc_weight_at(p, k, c, tap);
            *to = 0;
            for (int64_t i = 0; i < fc_min(CHANNELS, p->c - c); i++) {
                const uint8_t low = (uint8_t)fc_integer(a->w, bytes, at + i * p->w_c);
                *to |= (uint32_t)low << 8 * i;
                sum += has_sign ? (uint32_t)(int8_t)low : low;
            }
        }
    memcpy(a->sums + k * 4, &sum, 4);
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *w,
                 void *packed, int64_t threads)
{
    const fc_problem q = joined(p, config);
    fc_joined_pack(p, &q, config, kernels, w, packed, threads, join_filter);
}

typedef struct {
    const fc_problem *p, *q;
    const fc_kernels *kernels;
    const char *x;
    char *to;
    uint32_t flip, beyond; /* 128 in each byte, or 0; an element of padding */
    int64_t rows, parts;   /* rows of a channel, and the parts that they are shared out in */
    int64_t samples;       /* of a row, without padding */
    int in_a_row;          /* whether all samples of a channel are one row, and no padding */
} joining;

static void fill(uint32_t *to, int64_t count, uint32_t value)
{
    for (int64_t i = 0; i < count; i++) to[i] = value;
}

/* Joins a part of the rows of four channels. */
static void join_rows(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const joining *const a = context;
    const fc_problem *const p = a->p, *const q = a->q;
    const int64_t part = index % a->parts, quad = index / a->parts % q->c, image = index / a->parts / q->c;
    const int64_t last = p->dims - 1, width = q->x_c / a->rows, low = p->pad[last];
    const int64_t high = fc_max(low, fc_min(width, low + a->samples));
    const char *x[CHANNELS];
    for (int64_t i = 0; i < CHANNELS; i++) /* those that lack have weights of 0 */
        x[i] = a->x + image / p->g * p->x_n + (image % p->g * p->c + fc_min(CHANNELS * quad + i, p->c - 1)) * p->x_c;
    uint32_t *const to = (uint32_t *)a->to + (image * q->c + quad) * q->x_c;
    for (int64_t i = a->rows * part / a->parts; i < a->rows * (part + 1) / a->parts; i++) {
        int64_t at = 0, is_x = 1;
        for (int64_t d = last - 1, rest = i; d >= 0 && !a->in_a_row; rest /= q->in[d], d--) {
            const int64_t place = rest % q->in[d] - p->pad[d];
            is_x &= place >= 0 && place < p->in[d];
            at += place * p->x_s[d];
        }
        uint32_t *const row = to + i * width;
        if (!is_x) {
            fill(row, width, a->beyond);
            continue;
        }
        const void *const from[CHANNELS] = {x[0] + at, x[1] + at, x[2] + at, x[3] + at};
        fill(row, fc_min(low, width), a->beyond);
        a->kernels->pairs_i32->quads(from, p->x_s[last], high - low, a->flip, row + low);
        fill(row + high, width - high, a->beyond);
    }
}

/* Whether x has no padding, and its rows follow each other. */
static int is_in_a_row(const fc_problem *p, const fc_problem *q)
{
    int64_t expected = 1;
    int found = 1;
    for (int64_t d = p->dims - 1; d >= 0; expected *= p->in[d], d--)
        found &= p->x_s[d] == expected && q->in[d] == p->in[d] && p->pad[d] == 0;
    return found;
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    const fc_problem q = joined(p, config);
    const uint32_t flip = (p->x_dtype == FC_I8) == (config->v[4] != 0) ? 0x80808080 : 0;
    const uint32_t beyond = (p->boundary == FC_CONSTANT ? (uint32_t)p->cval_i & 255 : 0) * 0x01010101 ^ flip;
    const int in_a_row = is_in_a_row(p, &q);
    const int64_t width = in_a_row ? q.x_c : q.in[p->dims - 1], rows = width ? q.x_c / width : 0;
    const int64_t parts = fc_parts(q.n * q.g * q.c, rows, threads);
    joining a = {p, &q, kernels, x, workspace, flip, beyond, rows, parts, in_a_row ? width : p->in[p->dims - 1], in_a_row};
    fc_parallel(q.n * q.g * q.c * parts, threads, join_rows, &a);
    const uint32_t off = !flip ? 0 : config->v[4] ? (uint32_t)-128 : 128;
    fc_joined_run(p, &q, config, kernels, packed, off, epilogue, y, workspace, threads);
}

const fc_driver fc_driver_quads = {"quads", workspace_bytes, packed_bytes, pack, run};
