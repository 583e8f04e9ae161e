/* Whether this process may use tiles of AMX: asked once, when a problem could use them, not at import.
 *
 * Processor and operating system must have them (CPUID leaf 7, XGETBV: Intel, Software Developer's Manual, volume 1,
 * chapter 18), the kernel must grant this process the 8 KB of their state (Linux 5.16, Documentation/arch/x86/xstate.rst),
 * and one block must come out as by the emulation, bit for bit: it is of whole numbers whose sums are exact in any order. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <string.h>

#include "../fc.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static const fc_kernels *with_hardware(void)
{
    for (int64_t i = 0; i < fc_isa_count; i++)
        if (fc_isas[i].kernels->amx_bf16->hardware) return fc_isas[i].usable() ? fc_isas[i].kernels : NULL;
    return NULL;
}

static int processor_has_tiles(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 24) || !(d & 1u << 22)) return 0; /* AMX-TILE, AMX-BF16 */
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & 1u << 5; /* AVX512-BF16, which no processor with tiles lacks */
}

static int system_keeps_tiles(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0; /* OSXSAVE: there is XGETBV */
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 3u << 17) == 3u << 17; /* XTILECFG, XTILEDATA */
}

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

/* Whole numbers of up to 2^7: 384 products of them are below 2^23, exact in any order. */
static uint16_t whole(uint32_t i)
{
    const float v = (float)((int32_t)(i * 2654435761u >> 24) - 128);
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* Two steps of six products, all tiles in use. */
static int multiplies_as_documented(const fc_amx *kernels)
{
    enum { STEPS = 2, X_PART = 40 * 64, TILES = STEPS * FC_AMX_PARTS * 2, SUMS = 4 * 256 };
    static const int64_t offset[STEPS] = {0, 7 * 64};
    uint16_t x[FC_AMX_PARTS * X_PART / 2], w[TILES * FC_AMX_TILE / 2];
    float sums[2][SUMS];
    for (uint32_t i = 0; i < sizeof x / 2; i++) x[i] = whole(i);
    for (uint32_t i = 0; i < sizeof w / 2; i++) w[i] = whole(i + 7777);
    fc_amx_block b = {.pixels = 2, .filters = 2, .products = 6, .steps = STEPS, .offset = offset, .x = (char *)x,
                      .w = (char *)w, .x_part = X_PART, .sums = sums[0], .sum_row = 64};
    kernels->emulated(&b);
    b.sums = sums[1];
    fc_amx_state before;
    kernels->enter(&before);
    kernels->hardware(&b);
    kernels->leave(&before);
    return memcmp(sums[0], sums[1], sizeof sums[0]) == 0;
}

/* Blocks of the four pairs of signs, of bytes of any value: sums are exact. */
static int multiplies_bytes_as_documented(const fc_kernels *kernels)
{
    enum { STEPS = 2, SUMS = 4 * 256 };
    static const int64_t offset[STEPS] = {0, 7 * 64};
    uint8_t x[40 * 64], w[STEPS * 2 * FC_AMX_TILE];
    int32_t sums[2][SUMS];
    for (uint32_t i = 0; i < sizeof x; i++) x[i] = (uint8_t)(i * 2654435761u >> 24);
    for (uint32_t i = 0; i < sizeof w; i++) w[i] = (uint8_t)((i + 7777) * 2654435761u >> 24);
    int same = 1;
    for (int signs = 0; signs < 4; signs++) {
        fc_amx_block b = {.pixels = 2, .filters = 2, .products = 1, .steps = STEPS, .offset = offset, .x = (char *)x,
                          .w = (char *)w, .sums = sums[0], .sum_row = 64};
        kernels->amx_int8_i32->emulated[signs / 2][signs % 2](&b);
        b.sums = sums[1];
        fc_amx_state before;
        kernels->amx_bf16->enter(&before);
        kernels->amx_int8_i32->hardware[signs / 2][signs % 2](&b);
        kernels->amx_bf16->leave(&before);
        same &= memcmp(sums[0], sums[1], sizeof sums[0]) == 0;
    }
    return same;
}

static const char *find_out(void)
{
    if (!processor_has_tiles()) return "this processor has no AMX tiles for bfloat16";
    if (!system_keeps_tiles()) return "the operating system does not keep AMX tiles";
    const fc_kernels *const kernels = with_hardware();
    if (!kernels) return "this build has no code for AMX";
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA))
        return "the kernel did not grant AMX tiles to this process";
    return multiplies_as_documented(kernels->amx_bf16) ? NULL : "AMX tiles of this processor do not multiply as documented";
}

/* Every processor that has them has tiles for bfloat16 too. */
static const char *find_out_of_bytes(void)
{
    const char *const reason = fc_amx_absent();
    if (reason) return reason;
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 25)) return "this processor has no AMX tiles for integers";
    return multiplies_bytes_as_documented(with_hardware()) ? NULL : "AMX tiles of this processor do not multiply as documented";
}
#else
static const char *find_out(void) { return "AMX tiles are used on x86-64 with Linux alone"; }
#define find_out_of_bytes find_out
#endif

static const char unknown[] = "";

static const char *once(const char *_Atomic *known, const char *(*find)(void))
{
    const char *reason = atomic_load(known);
    if (reason == unknown) {
        reason = find(); /* of several threads each finds the same */
        atomic_store(known, reason);
    }
    return reason;
}

const char *fc_amx_absent(void)
{
    static const char *_Atomic known = unknown;
    return once(&known, find_out);
}

const char *fc_amx_int8_absent(void)
{
    static const char *_Atomic known = unknown;
    return once(&known, find_out_of_bytes);
}
