/* The processor's mode for subnormal numbers, which every thread has its own of. */
#include "../fc.h"

#if defined(__SSE2__)
#include <immintrin.h>

enum { FLUSH = 0x8040 }; /* FTZ and DAZ: results and operands */

int fc_flushes(void) { return (int)_mm_getcsr() & FLUSH; }

void fc_flush(int mode)
{
    const unsigned bits = mode == 1 ? FLUSH : (unsigned)mode & FLUSH;
    _mm_setcsr((_mm_getcsr() & ~(unsigned)FLUSH) | bits);
}

#elif defined(__aarch64__)
static const uint64_t FLUSH = 1 << 24; /* FZ */

static uint64_t control(void)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
}

int fc_flushes(void) { return (control() & FLUSH) != 0; }

void fc_flush(int mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode ? control() | FLUSH : control() & ~FLUSH));
}

#else
int fc_flushes(void) { return 0; }

void fc_flush(int mode) { (void)mode; }
#endif
