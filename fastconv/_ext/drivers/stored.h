/* What is stored in integers and summed in another type: kernels/stored.c. */
#ifndef FC_STORED_H
#define FC_STORED_H

#include "../fc.h"

/* NULL where nothing is converted, or not in C. */
static inline const fc_stored *fc_stored_in(fc_dtype stored, fc_dtype summed, const fc_kernels *kernels)
{
    if (summed == FC_U16) return stored == FC_U8 ? kernels->stored_u8_u16 : NULL;
    switch (stored) {
    case FC_U8: return summed == FC_F32 ? kernels->stored_u8_f32 : kernels->stored_u8_f64;
    case FC_I8: return kernels->stored_i8_f64;
    case FC_U16: return kernels->stored_u16_f64;
    case FC_I16: return kernels->stored_i16_f64;
    default: return NULL;
    }
}

#endif
