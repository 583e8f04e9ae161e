/* Depthwise layers of float16 and bfloat16: some channels of an image at a time are widened, convolved and rounded,
 * while a cache holds them in float. y may be in float, too: it is then written where it lies.
 *
 * One unit of work is a part, on one thread; fewer parts than threads are done one after the other by all threads.
 * Settings: those of depthwise.c, and v[1] bytes of a part's x and y in float.
 */
#include "depthwise.h"

typedef struct {
    int64_t channels, parts;         /* of a part, but for the last of an image; of an image */
    int64_t at_once, threads;        /* parts, and threads of one */
    int64_t x_bytes, y_bytes, slot_bytes;
} cut;

/* `channels` of p in float, of x and y side by side. */
static fc_problem part_of(const fc_problem *p, int64_t channels)
{
    fc_problem q = *p;
    q.n = 1, q.g = channels;
    q.x_dtype = q.y_dtype = p->dtype;
    q.x_c = q.y_k = 1;
    for (int64_t d = p->dims - 1; d >= 0; d--) {
        q.x_s[d] = q.x_c, q.x_c *= p->in[d];
        q.y_s[d] = q.y_k, q.y_k *= p->out[d];
    }
    q.x_n = channels * q.x_c, q.y_n = channels * p->k * q.y_k;
    return q;
}

static void plan(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads, cut *s)
{
    const fc_problem one = part_of(p, 1);
    const int64_t all = fc_max(1, p->n * p->g);
    int64_t most = fc_max(1, fc_min(p->g, config->v[1] / (4 * fc_max(1, one.x_n + one.y_n))));
    if (threads > 1) most = fc_max(1, fc_min(most, all / (4 * threads)));
    s->parts = fc_max(1, fc_ceil_div(p->g, most));
    s->channels = fc_max(1, fc_ceil_div(p->g, s->parts));
    s->parts = fc_max(1, fc_ceil_div(p->g, s->channels));
    s->at_once = all < threads ? 1 : fc_min(threads, p->n * s->parts);
    s->threads = all < threads ? threads : 1;
    const fc_problem part = part_of(p, s->channels), last = part_of(p, p->g - (s->parts - 1) * s->channels);
    s->x_bytes = fc_round_up(4 * part.x_n, FC_ALIGN);
    s->y_bytes = p->y_dtype == p->dtype ? 0 : fc_round_up(4 * part.y_n, FC_ALIGN);
    s->slot_bytes = s->x_bytes + s->y_bytes +
                    fc_round_up(fc_max(fc_driver_depthwise.workspace_bytes(&part, config, kernels, s->threads),
                                       fc_driver_depthwise.workspace_bytes(&last, config, kernels, s->threads)), FC_ALIGN);
}

int64_t fc_depthwise_halves_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, int64_t threads)
{
    cut s;
    plan(p, config, kernels, threads, &s);
    return s.at_once * s.slot_bytes;
}

/* Converts `count` images of `sizes`, dense in float and with `steps` in 16 bits, `step` from one to the next. */
static void convert(void (*how)(const void *, int64_t, void *), int narrows, int64_t count, int64_t step, int64_t dims,
                    const int64_t *sizes, const int64_t *steps, uint16_t *halves, float *floats)
{
    enum { SOME = 64 };
    uint16_t some[SOME];
    int64_t run = 1, apart = steps[dims - 1], d = dims;
    for (; d > 0 && (sizes[d - 1] == 1 || steps[d - 1] == run * apart); d--) run *= sizes[d - 1];
    if (d == 0 && step == run * apart) run *= count, count = 1;
    const int64_t outer = count * fc_volume(sizes, d);
    for (int64_t i = 0; i < outer; i++, floats += run) {
        int64_t at = 0, rest = i;
        for (int64_t e = d - 1; e >= 0; rest /= sizes[e], e--) at += rest % sizes[e] * steps[e];
        uint16_t *own = halves + at + rest * step;
        if (apart == 1) {
            narrows ? how(floats, run, own) : how(own, run, floats);
            continue;
        }
        for (int64_t first = 0; first < run; first += SOME) {
            const int64_t n = fc_min(SOME, run - first);
            if (narrows) how(floats + first, n, some);
            for (int64_t k = 0; k < n; k++, own += apart)
                if (narrows)
                    *own = some[k];
                else
                    some[k] = *own;
            if (!narrows) how(some, n, floats + first);
        }
    }
}

typedef struct {
    const cut *s;
    const fc_problem *p;
    const fc_config *config;
    const fc_kernels *kernels;
    const uint16_t *x;
    const char *packed;
    const fc_epilogue *epilogue;
    char *y, *workspace;
} job;

static void run_part(void *context, int64_t index, int64_t slot)
{
    const job *const j = context;
    const cut *const s = j->s;
    const fc_problem *const p = j->p;
    const fc_halves *const halves = j->kernels->halves_f32;
    const int64_t n = index / s->parts, c = index % s->parts * s->channels, kind = p->x_dtype == FC_BF16;
    fc_problem part = part_of(p, fc_min(s->channels, p->g - c));
    float *const x = (float *)(j->workspace + slot * s->slot_bytes), *sums = (float *)((char *)x + s->x_bytes);
    fc_epilogue own = *j->epilogue;
    const int64_t first = n * p->y_n + c * p->k * p->y_k; /* of y */
    if (own.bias) own.bias = (const float *)own.bias + c * p->k;
    if (own.residual) own.residual = (const float *)own.residual + first;
    convert(halves->widen[kind], 0, part.g, p->x_c, p->dims, p->in, p->x_s,
            (uint16_t *)(uintptr_t)(j->x + n * p->x_n + c * p->x_c), x);
    const int narrows = p->y_dtype != p->dtype;
    if (!narrows) {
        part.y_k = p->y_k;
        for (int64_t d = 0; d < p->dims; d++) part.y_s[d] = p->y_s[d];
        sums = (float *)j->y + first;
    }
    fc_driver_depthwise.run(&part, j->config, j->kernels, x, j->packed + c * p->k * fc_volume(p->ker, p->dims) * 4, &own, sums,
                            (char *)x + s->x_bytes + s->y_bytes, s->threads);
    if (narrows)
        convert(halves->narrow[kind], 1, part.g * p->k, p->y_k, p->dims, p->out, p->y_s, (uint16_t *)j->y + first, sums);
}

void fc_depthwise_halves_run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels, const void *x,
                             const void *packed, const fc_epilogue *epilogue, void *y, void *workspace, int64_t threads)
{
    cut s;
    plan(p, config, kernels, threads, &s);
    job j = {&s, p, config, kernels, x, packed, epilogue, y, workspace};
    fc_parallel(p->n * s.parts, s.at_once, run_part, &j);
}
