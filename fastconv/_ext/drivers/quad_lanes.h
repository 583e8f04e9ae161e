/* Depthwise layers of small planes, of quad_rows: see quad_lanes.c. */
#ifndef FC_QUAD_LANES_H
#define FC_QUAD_LANES_H

#include "joined.h"

/* Whether that is how a problem is solved. */
int fc_quad_lanes_fit(const fc_problem *p);

int64_t fc_quad_lanes_workspace_bytes(const fc_problem *p, const fc_kernels *kernels, int64_t threads);
int64_t fc_quad_lanes_packed_bytes(const fc_problem *p, const fc_kernels *kernels);
void fc_quad_lanes_pack(const fc_problem *p, const fc_kernels *kernels, int w_signed, const void *w, void *packed);

/* x is or'ed exclusively with `flip`, as `beyond` is already, which pads; and `factor` times the sums of weights are added. */
void fc_quad_lanes_run(const fc_problem *p, const fc_kernels *kernels, int w_signed, uint8_t flip, uint8_t beyond,
                       uint32_t factor, const void *x, const void *packed, const fc_epilogue *epilogue, void *y,
                       void *workspace, int64_t threads);

#endif
