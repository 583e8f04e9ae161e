/* The table of this instruction set: one field a line of kernels.inc. */
#include "vec.h"

#define FC_KERNEL(type, name) extern const type FC_NAME(fc_##name);
#include "../kernels.inc"
#undef FC_KERNEL

#define FC_STRING_(x) #x
#define FC_STRING(x) FC_STRING_(x)

const fc_kernels FC_NAME(fc_kernels) = {
    .isa = FC_STRING(FC_ISA),
#define FC_KERNEL(type, name) .name = &FC_NAME(fc_##name),
#include "../kernels.inc"
#undef FC_KERNEL
};
