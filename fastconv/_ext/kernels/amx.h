/* What kernels of AMX share: sizes, whether this build has the hardware's, and 16 rows of 16 words that become columns. */
#ifndef FC_AMX_H
#define FC_AMX_H

#include <string.h>

#include "vec.h"

#if defined(FC_ISA_avx512) && defined(__x86_64__) && defined(__linux__) && \
    (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define HARDWARE
#endif

typedef enum { SIDE = FC_AMX_SIDE, TILE = FC_AMX_TILE, ROW = 64 } amx_size; /* pixels; bytes of a tile, and of a row */

typedef uint32_t line __attribute__((vector_size(ROW), aligned(4), may_alias));
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

/* Two halves, put beside each other as they are loaded: a shuffle less for the one port that shuffles. */
FC_INLINE void beside(const char *a, const char *b, line *r)
{
#if defined(FC_ISA_avx512)
    const __m256i upper = _mm256_loadu_si256((const __m256i *)b);
    *r = (line)_mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)a)), upper, 1);
#else
    memcpy(r, a, ROW / 2);
    memcpy((char *)r + ROW / 2, b, ROW / 2);
#endif
}

/* Which words of two rows the upper and the lower one have after an exchange of blocks of 1, 2 and 4. */
#define EXCHANGED \
    const line low_1 = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30}, high_1 = low_1 + 1, \
               low_2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29}, high_2 = low_2 + 2, \
               low_4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}, high_4 = low_4 + 4;

/* Of blocks of d by d, those above the diagonal change places with those below it. */
#define EXCHANGE(i, d, high, low) { \
    const line a_ = r[i], b_ = r[(i) + (d)]; \
    r[i] = FC_SHUFFLE(a_, b_, low), r[(i) + (d)] = FC_SHUFFLE(a_, b_, high); }
#define EXCHANGE_2(i, d, high, low) EXCHANGE(i, d, high, low) EXCHANGE((i) + (d == 1 ? 2 : 1), d, high, low)
#define EXCHANGE_4(i, d, high, low) EXCHANGE_2(i, d, high, low) EXCHANGE_2((i) + (d <= 2 ? 4 : 2), d, high, low)
#define EXCHANGE_8(d, high, low) EXCHANGE_4(0, d, high, low) EXCHANGE_4(8, d, high, low)

/* r[i][j] = from[j][i]. */
FC_INLINE void turn(const void *from, line *r)
{
    const char *const rows = from;
    for (int i = 0; i < SIDE / 2; i++) {
        const char *const upper = rows + i * ROW, *const lower = upper + TILE / 2;
        beside(upper, lower, r + i);
        beside(upper + ROW / 2, lower + ROW / 2, r + i + SIDE / 2);
    }
    EXCHANGED
    EXCHANGE_8(1, high_1, low_1)
    EXCHANGE_8(2, high_2, low_2)
    EXCHANGE_8(4, high_4, low_4)
}

#endif
