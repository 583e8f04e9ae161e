/* What kernels of AMX share: sizes, whether this build has the hardware's, and samples of a channel. */
#ifndef FC_AMX_H
#define FC_AMX_H

#include "turn.h"

#if defined(FC_ISA_avx512) && defined(__x86_64__) && defined(__linux__) && \
    (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define HARDWARE
#endif

typedef enum { TILE = FC_AMX_TILE } amx_size; /* bytes of a tile */

#define ALIGNED __attribute__((aligned(ROW)))

/* A tile in memory, its rows `step` bytes apart. */
FC_INLINE void put_rows(const void *tile, char *to, int64_t step)
{
    for (int64_t i = 0; i < SIDE; i++) memcpy(to + i * step, (const char *)tile + i * ROW, ROW);
}

/* Samples of a channel are asked for so many before they are split: hardware does not for 32 channels at once, from L3 0.40
 * instead of 0.53 ns a sample. */
typedef enum { LANES = VEC_BYTES / 4, VECTORS = SIDE / LANES, AHEAD = 64 } amx_lanes;

/* Samples of a channel, 0 beyond them. */
FC_INLINE void take_floats(int64_t count, const float *x, int64_t step, float *to)
{
    if (step == 1)
        for (int64_t v = 0; v < SIDE; v += LANES) {
            const fc_raw part = (fc_raw)fc_load_part(4, fc_lanes(4, 0, count - v), x + v);
            memcpy(to + v, &part, VEC_BYTES);
        }
    else if (step == 2)
        for (int64_t v = 0; v < SIDE; v += LANES) {
            /* of two vectors the even samples, and no more than the last of these is read */
            const int64_t left = 2 * (count - v) - 1;
            const vec_words low = (vec_words)fc_load_part(4, fc_lanes(4, 0, left), x + 2 * v),
                            high = (vec_words)fc_load_part(4, fc_lanes(4, 0, left - LANES), x + 2 * v + LANES);
            static const uint32_t even[16] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
            const vec_words some = FC_SHUFFLE(low, high, *(const vec_words *)even);
            memcpy(to + v, &some, VEC_BYTES);
        }
    else
        for (int64_t i = 0; i < SIDE; i++) to[i] = i < count ? x[i * step] : 0;
}

#endif
