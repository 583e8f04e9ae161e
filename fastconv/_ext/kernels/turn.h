/* 16 rows of 16 words of 32 bits that become columns. */
#ifndef FC_TURN_H
#define FC_TURN_H

#include <string.h>

#include "vec.h"

typedef enum { SIDE = 16, ROW = 64 } turn_size; /* words of a row, and its bytes */

typedef uint32_t line __attribute__((vector_size(ROW), aligned(4), may_alias));

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
        const char *const upper = rows + i * ROW, *const lower = upper + SIDE * ROW / 2;
        beside(upper, lower, r + i);
        beside(upper + ROW / 2, lower + ROW / 2, r + i + SIDE / 2);
    }
    EXCHANGED
    EXCHANGE_8(1, high_1, low_1)
    EXCHANGE_8(2, high_2, low_2)
    EXCHANGE_8(4, high_4, low_4)
}

#endif
