/* The most multiply-adds that a core can do: each of `length` sums becomes sum * a + b, `rounds` times.
 *
 * data holds a, b and the sums; nothing is loaded or stored between the first round and the last. A
 * sum waits for itself, so there are more vectors of them than the 2 units x 5 cycles of any core's
 * latency, and fewer than the 16 registers of the smallest set. T is float or double. */
#include <stdint.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

enum { VECTORS = 12 };

typedef T vec __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));

const int64_t length = VECTORS * BYTES / sizeof(T);

void peak(int64_t rounds, T *data)
{
    const vec zero = {0}, a = zero + data[0], b = zero + data[1];
    vec *const at = (vec *)(data + 2);
    vec sum[VECTORS];
#pragma GCC unroll 12
    for (int i = 0; i < VECTORS; i++) sum[i] = at[i];
    for (int64_t r = 0; r < rounds; r++)
#pragma GCC unroll 12
        for (int i = 0; i < VECTORS; i++) sum[i] = sum[i] * a + b;
#pragma GCC unroll 12
    for (int i = 0; i < VECTORS; i++) at[i] = sum[i];
}
