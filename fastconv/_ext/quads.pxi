"""Part of core.pyx: whether the processor multiplies bytes four by four (kernels/quads.c)."""

cdef extern from "fc.h" nogil:
    int fc_has_vnni()
    int fc_allow_vnni(int)


def quads_absent():
    """None where quads of bytes are one instruction of the instruction set in use, else why not."""
    if _isa != "avx512":
        return f"quads of bytes are multiplied beside avx512, not {_isa}"
    return None if fc_has_vnni() else "this processor has no AVX-512 VNNI"


def allow_vnni(bint allowed):
    """Whether AVX-512 VNNI is used where there is some, for tests of what runs elsewhere; what was before."""
    return bool(fc_allow_vnni(allowed))
