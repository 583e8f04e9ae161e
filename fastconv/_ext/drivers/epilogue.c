/* y = activation(y + residual) for finished sums that are still in cache: kernels/finish.c.
 *
 * Floating-point dtypes and, for the residual alone, complex ones; Python does the others. */
#include "../fc.h"

void fc_finish_run(const fc_problem *p, const fc_kernels *kernels, const fc_epilogue *e, void *y,
                   int64_t at, int64_t count, int64_t step)
{
    const int wide = p->dtype == FC_F64 || p->dtype == FC_C128;
    const int64_t offset = at * (wide ? 8 : 4);
    const char *residual = e->residual;
    if (residual) residual += offset;
    (wide ? kernels->finish_f64 : kernels->finish_f32)->run((char *)y + offset, residual, count, step, e);
}
