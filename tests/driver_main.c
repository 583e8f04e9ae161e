/* Runs drivers outside Python: under an emulator of another processor, or with sanitizers.
 *
 * Standard input holds records: one line of numbers in the order in which read_problem asks for
 * them, then x, w and, when the line says so, bias, as dense arrays. Standard output gets y of each.
 * Buffers are of exactly the size that the driver asked for, so that a sanitizer sees its bounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fc.h"

static int64_t number(void)
{
    long long value;
    if (scanf("%lld", &value) != 1) exit(2);
    return value;
}

static void numbers(int64_t *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++) to[i] = number();
}

static void *buffer(int64_t bytes)
{
    void *p = aligned_alloc(FC_ALIGN, (size_t)fc_round_up(fc_max(bytes, 1), FC_ALIGN));
    if (!p) exit(3);
    return p;
}

/* Bytes of an array, read into a buffer of just that size. */
static void *array(int64_t bytes)
{
    void *p = malloc((size_t)fc_max(bytes, 1));
    if (!p || fread(p, 1, (size_t)bytes, stdin) != (size_t)bytes) exit(3);
    return p;
}

static int64_t dense(int64_t *strides, const int64_t *sizes, int64_t dims)
{
    int64_t step = 1;
    for (int64_t d = dims - 1; d >= 0; step *= sizes[d--]) strides[d] = step;
    return step;
}

static const fc_kernels *kernels_of(const char *isa)
{
    for (int64_t i = 0; i < fc_isa_count; i++)
        if (!strcmp(fc_isas[i].kernels->isa, isa) && fc_isas[i].usable()) return fc_isas[i].kernels;
    fprintf(stderr, "no instruction set is called %s here\n", isa);
    exit(4);
}

static void read_problem(fc_problem *p, fc_config *config, int64_t *threads, int64_t *has_bias)
{
    memset(p, 0, sizeof *p);
    p->dims = number();
    p->n = number(), p->c = number(), p->k = number(), p->g = number();
    int64_t *const per_axis[] = {p->in, p->ker, p->out, p->stride, p->dilation, p->input_dilation, p->pad};
    for (size_t i = 0; i < sizeof per_axis / sizeof *per_axis; i++) numbers(per_axis[i], p->dims);
    p->dtype = (fc_dtype)number(), p->x_dtype = (fc_dtype)number(), p->y_dtype = (fc_dtype)number();
    p->boundary = (fc_boundary)number();
    if (scanf("%lf %lf", &p->cval[0], &p->cval[1]) != 2) exit(2);
    p->cval_i = number();
    numbers(config->v, FC_CONFIGS);
    *threads = number(), *has_bias = number();
    if (getchar() != '\n') exit(2);
    p->x_c = dense(p->x_s, p->in, p->dims), p->x_n = p->x_c * p->c * p->g;
    p->w_c = dense(p->w_s, p->ker, p->dims), p->w_k = p->w_c * p->c;
    p->y_k = dense(p->y_s, p->out, p->dims), p->y_n = p->y_k * p->k * p->g;
}

int main(void)
{
    char driver_name[32], isa[32];
    while (scanf("%31s %31s", driver_name, isa) == 2) {
        const fc_driver *const driver = fc_find_driver(driver_name);
        const fc_kernels *const kernels = kernels_of(isa);
        fc_problem p;
        fc_config config;
        int64_t threads, has_bias;
        read_problem(&p, &config, &threads, &has_bias);
        const int64_t bytes = fc_dtype_bytes(p.dtype), y_bytes = p.n * p.y_n * fc_dtype_bytes(p.y_dtype);
        void *const x = array(p.n * p.x_n * fc_dtype_bytes(p.x_dtype));
        void *const w = array(p.g * p.k * p.w_k * bytes);
        void *const bias = has_bias ? array(p.g * p.k * bytes) : NULL;
        void *const packed = buffer(driver->packed_bytes(&p, &config, kernels));
        void *const workspace = buffer(driver->workspace_bytes(&p, &config, kernels, threads));
        void *const y = malloc((size_t)fc_max(y_bytes, 1));
        if (!y) exit(3);
        const fc_epilogue epilogue = {.bias = bias};
        driver->pack(&p, &config, kernels, w, packed, threads);
        /* a driver that packs nothing reads w itself */
        const void *const weights = driver->packed_bytes(&p, &config, kernels) ? packed : w;
        driver->run(&p, &config, kernels, x, weights, &epilogue, y, workspace, threads);
        fwrite(y, 1, (size_t)y_bytes, stdout);
        free(x), free(w), free(bias), free(packed), free(workspace), free(y);
    }
    return 0;
}
