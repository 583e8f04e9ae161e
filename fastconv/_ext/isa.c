/* Which instruction sets this build holds and which of them run here. */
#include "fc.h"

/* __builtin_cpu_supports also asks whether the operating system saves the registers (XGETBV). */
#ifdef FC_HAVE_avx512
static int usable_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
}
#endif
#ifdef FC_HAVE_avx2
static int usable_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
#ifdef FC_HAVE_neon
static int usable_neon(void) { return 1; /* part of every aarch64 */ }
#endif

static int vnni_allowed = 1;
int fc_allow_vnni(int allowed)
{
    const int before = vnni_allowed;
    vnni_allowed = allowed;
    return before;
}
#ifdef FC_HAVE_avx512
int fc_has_vnni(void) { return vnni_allowed && __builtin_cpu_supports("avx512vnni"); }
#else
int fc_has_vnni(void) { return 0; }
#endif

static int usable_baseline(void) { return 1; }

#define FC_ISA(isa) extern const fc_kernels fc_kernels__##isa;
#include "isas.inc"
#undef FC_ISA

const fc_isa fc_isas[] = {
#define FC_ISA(isa) {&fc_kernels__##isa, usable_##isa},
#include "isas.inc"
#undef FC_ISA
};
const int64_t fc_isa_count = sizeof fc_isas / sizeof fc_isas[0];
