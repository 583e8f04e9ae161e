/* What every driver shares: the table of drivers, BLAS's pointers, the boundary rules. */
#include <string.h>

#include "../fc.h"

fc_blas fc_blas_table;

static const fc_driver *const drivers[] = {
#define FC_DRIVER(name) &fc_driver_##name,
#include "../drivers.inc"
#undef FC_DRIVER
};

const fc_driver *fc_find_driver(const char *name)
{
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++)
        if (!strcmp(drivers[i]->name, name)) return drivers[i];
    return NULL;
}

static int64_t modulo(int64_t a, int64_t b)
{
    int64_t m = a % b;
    return m < 0 ? m + b : m;
}

int64_t fc_source(const fc_problem *p, int64_t axis, int64_t t)
{
    const int64_t size = p->in[axis], e = p->input_dilation[axis];
    t -= p->pad[axis];
    if (e > 1) {
        if (t < 0 || t % e) return -1;
        t /= e;
    }
    if (t >= 0 && t < size) return t;
    switch (p->boundary) {
    case FC_REFLECT:
        t = modulo(t, 2 * size);
        return t < size ? t : 2 * size - 1 - t;
    case FC_MIRROR:
        if (size == 1) return 0;
        t = modulo(t, 2 * size - 2);
        return t < size ? t : 2 * size - 2 - t;
    case FC_NEAREST:
        return t < 0 ? 0 : size - 1;
    case FC_WRAP:
        return modulo(t, size);
    default:
        return -1;
    }
}
