/* Arrays of floats of 16 bits from and to float, on as many threads as have enough to do.
 *
 * A chunk of each is 48 KB, in L2: less would wake threads for nothing, more leaves them idle at the end.
 */
#include "halves.h"

enum { CHUNK = 8192 };

typedef struct {
    void (*convert)(const void *, int64_t, void *);
    const char *x;
    char *y;
    int64_t count, x_bytes, y_bytes;
} halves;

static void convert_chunk(void *context, int64_t index, int64_t slot)
{
    (void)slot;
    const halves *const h = context;
    const int64_t first = index * CHUNK;
    h->convert(h->x + first * h->x_bytes, fc_min(CHUNK, h->count - first), h->y + first * h->y_bytes);
}

static void convert(void (*how)(const void *, int64_t, void *), const void *x, int64_t x_bytes, int64_t count,
                    int64_t threads, void *y)
{
    halves h = {how, x, y, count, x_bytes, 6 - x_bytes};
    /* 8 chunks are some 10 us of work, as long as waking a thread takes */
    fc_parallel(fc_ceil_div(count, CHUNK), count < 8 * CHUNK ? 1 : threads, convert_chunk, &h);
}

void fc_widen(const fc_kernels *kernels, int64_t kind, const void *x, int64_t count, int64_t threads, void *y)
{
    convert(kernels->halves_f32->widen[kind], x, 2, count, threads, y);
}

void fc_narrow(const fc_kernels *kernels, int64_t kind, const void *x, int64_t count, int64_t threads, void *y)
{
    convert(kernels->halves_f32->narrow[kind], x, 4, count, threads, y);
}
