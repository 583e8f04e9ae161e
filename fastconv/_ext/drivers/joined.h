/* What pairs and quads share: integers of neighbouring channels joined in elements of 32 bits, which panels multiplies.
 *
 * Packed: that of panels; the sum of each filter's weights; room for the elements while they are packed.
 * Workspace: x joined; biases, with what the sums of weights add to them; that of panels. */
#ifndef FC_JOINED_H
#define FC_JOINED_H

#include "../fc.h"

/* The problem that panels solves: p's on elements of `channels`, side by side in a copy of x; q->in and q->pad are set. */
static inline void fc_join_problem(const fc_problem *p, int64_t channels, fc_dtype dtype, fc_problem *q)
{
    q->c = fc_ceil_div(p->c, channels);
    q->dtype = q->x_dtype = dtype;
    q->y_dtype = fc_dtype_bytes(p->y_dtype) == 4 ? dtype : p->y_dtype;
    q->boundary = FC_ZEROS;
    q->x_c = q->w_c = 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        q->x_s[d] = q->x_c, q->x_c *= q->in[d];
        q->w_s[d] = q->w_c, q->w_c *= p->ker[d];
    }
    q->x_n = p->g * q->c * q->x_c;
    q->w_k = q->c * q->w_c;
}

static inline int64_t fc_joined_x_bytes(const fc_problem *q) { return fc_round_up(q->n * q->x_n * 4, FC_ALIGN); }
static inline int64_t fc_joined_bias_bytes(const fc_problem *q) { return fc_round_up(q->g * q->k * 4, FC_ALIGN); }

static inline int64_t fc_joined_panel_bytes(const fc_problem *q, const fc_config *config, const fc_kernels *kernels)
{
    return fc_round_up(fc_driver_panels.packed_bytes(q, config, kernels), FC_ALIGN);
}

static inline int64_t fc_joined_workspace_bytes(const fc_problem *q, const fc_config *config, const fc_kernels *kernels,
                                                int64_t threads)
{
    return fc_joined_x_bytes(q) + fc_joined_bias_bytes(q) + fc_driver_panels.workspace_bytes(q, config, kernels, threads);
}

static inline int64_t fc_joined_packed_bytes(const fc_problem *q, const fc_config *config, const fc_kernels *kernels)
{
    return fc_joined_panel_bytes(q, config, kernels) + fc_joined_bias_bytes(q) + q->g * q->k * q->w_k * 4;
}

/* An integer of up to 32 bits, its upper ones 0. */
static inline uint32_t fc_integer(const void *a, int64_t bytes, int64_t at)
{
    if (bytes == 1) return ((const uint8_t *)a)[at];
    return bytes == 2 ? ((const uint16_t *)a)[at] : ((const uint32_t *)a)[at];
}

typedef struct {
    const fc_problem *p, *q;
    const char *w;
    char *sums, *room;
} fc_joining;

/* Element of w that a filter's channel is at a tap. */
static inline int64_t fc_weight_at(const fc_problem *p, int64_t filter, int64_t channel, int64_t tap)
{
    int64_t at = filter * p->w_k + channel * p->w_c;
    for (int64_t d = p->dims - 1; d >= 0; tap /= p->ker[d], d--) at += tap % p->ker[d] * p->w_s[d];
    return at;
}

/* `join` makes a filter's elements, in the room, and the sum of its weights. */
static inline void fc_joined_pack(const fc_problem *p, const fc_problem *q, const fc_config *config, const fc_kernels *kernels,
                                  const void *w, void *packed, int64_t threads, void (*join)(void *, int64_t, int64_t))
{
    char *const sums = (char *)packed + fc_joined_panel_bytes(q, config, kernels);
    fc_joining a = {p, q, w, sums, sums + fc_joined_bias_bytes(q)};
    fc_parallel(p->g * p->k, fc_pack_threads(q->g * q->k * q->w_k * 4, threads), join, &a);
    fc_driver_panels.pack(q, config, kernels, a.room, packed, threads);
}

/* Parts that `count` rows of each of so many units are shared out in. */
static inline int64_t fc_parts(int64_t units, int64_t count, int64_t threads)
{
    return units < 4 * threads ? fc_min(count, fc_ceil_div(4 * threads, fc_max(1, units))) : 1;
}

/* y, when x is joined: biases take `factor` times the sums of weights. */
static inline void fc_joined_run(const fc_problem *p, const fc_problem *q, const fc_config *config, const fc_kernels *kernels,
                                 const void *packed, uint32_t factor, const fc_epilogue *epilogue, void *y, void *workspace,
                                 int64_t threads)
{
    uint32_t *const bias = (uint32_t *)((char *)workspace + fc_joined_x_bytes(q));
    const uint32_t *const sums = (const uint32_t *)((const char *)packed + fc_joined_panel_bytes(q, config, kernels));
    for (int64_t k = 0; k < q->g * q->k; k++) {
        bias[k] = factor * sums[k];
        if (epilogue->bias) bias[k] += fc_integer(epilogue->bias, fc_dtype_bytes(p->dtype), k);
    }
    fc_epilogue own = *epilogue;
    own.bias = bias;
    fc_driver_panels.run(q, config, kernels, workspace, packed, &own, y, (char *)bias + fc_joined_bias_bytes(q), threads);
}

#endif
