/* naive: y[n,k,o] = bias[k] + sum over c, r of X[n, c, o*u + r*l - pad] * w[k, c, r], as written.
 *
 * Solves every problem, for any number of dimensions, strides and boundary: the fallback, and what
 * every faster solver is compared with. Sums are kept in a wider type (float in double, double in
 * long double), so that its error is that of one rounding wherever the platform has a wider type.
 * Packed weights are w in C order. No configs, no workspace, one thread per range of outputs.
 */
#include <string.h>

#include "../fc.h"

typedef struct {
    const fc_problem *p;
    const fc_kernels *kernels;
    const void *x, *w;
    const fc_epilogue *epilogue;
    void *y;
} job;

#define T float
#define ACC double
#define NAME(x) x##_f32
#include "naive.inc"
#define T double
#define ACC long double
#define NAME(x) x##_f64
#include "naive.inc"
#define T long double
#define ACC long double
#define NAME(x) x##_f80
#include "naive.inc"
#define T uint8_t
#define ACC uint64_t
#define NAME(x) x##_u8
#include "naive.inc"
#define T uint16_t
#define ACC uint64_t
#define NAME(x) x##_u16
#include "naive.inc"
#define T uint32_t
#define ACC uint64_t
#define NAME(x) x##_u32
#include "naive.inc"
#define T uint64_t
#define ACC uint64_t
#define NAME(x) x##_u64
#include "naive.inc"
#define COMPLEX
#define T float
#define ACC double
#define NAME(x) x##_c64
#include "naive.inc"
#define T double
#define ACC long double
#define NAME(x) x##_c128
#include "naive.inc"
#define T long double
#define ACC long double
#define NAME(x) x##_c160
#include "naive.inc"
#undef COMPLEX

static void (*const one_output[FC_DTYPES])(void *, int64_t, int64_t) = {
    [FC_F32] = output_f32,   [FC_F64] = output_f64, [FC_F80] = output_f80, [FC_U8] = output_u8,
    [FC_U16] = output_u16,   [FC_U32] = output_u32, [FC_U64] = output_u64, [FC_C64] = output_c64,
    [FC_C128] = output_c128, [FC_C160] = output_c160,
};

static int64_t workspace_bytes(const fc_problem *p, const fc_config *config,
                               const fc_kernels *kernels, int64_t threads)
{
    (void)p, (void)config, (void)kernels, (void)threads;
    return 0;
}

static int64_t packed_bytes(const fc_problem *p, const fc_config *config, const fc_kernels *kernels)
{
    (void)config, (void)kernels;
    return p->g * p->k * p->c * fc_volume(p->ker, p->dims) * fc_dtype_bytes(p->dtype);
}

static void pack(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                 const void *w, void *packed, int64_t threads)
{
    (void)config, (void)kernels, (void)threads;
    const int64_t bytes = fc_dtype_bytes(p->dtype), taps = fc_volume(p->ker, p->dims);
    char *to = packed;
    for (int64_t k = 0; k < p->g * p->k; k++)
        for (int64_t c = 0; c < p->c; c++)
            for (int64_t tap = 0; tap < taps; tap++, to += bytes) {
                int64_t rest = tap, at = k * p->w_k + c * p->w_c;
                for (int64_t d = p->dims - 1; d >= 0; d--) {
                    at += rest % p->ker[d] * p->w_s[d];
                    rest /= p->ker[d];
                }
                memcpy(to, (const char *)w + at * bytes, (size_t)bytes);
            }
}

static void run(const fc_problem *p, const fc_config *config, const fc_kernels *kernels,
                const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                void *workspace, int64_t threads)
{
    (void)config, (void)workspace;
    job j = {p, kernels, x, packed, epilogue, y};
    /* one unit of work is one (n, k): a whole output plane */
    fc_parallel(p->n * p->g * p->k, threads, one_output[p->dtype], &j);
}

const fc_driver fc_driver_naive = {"naive", workspace_bytes, packed_bytes, pack, run};
