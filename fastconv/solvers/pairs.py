"""pairs: integers of 8 and 16 bits, two channels an instruction, summed exactly in 32 bits."""

from __future__ import annotations

from typing import ClassVar

from fastconv._ext import core
from fastconv._problem import Problem, numpy_dtype
from fastconv.solvers._joined import NARROW, Joined, why_no_panels

#: What x and w of sums of 32 bits may be stored in: as int16 less a zero point of their own kind.
_WHOLE = ("i8", "u8", "i16")

#: Measured 1e9 products a second (Zen 3: 3x3 layers reach 69 in all; Emerald Rapids with AVX-512
#: VNNI, and without).
_RATE = {"vnni": 140, "avx512": 74, "avx2": 74, "neon": 20, "baseline": 22}


class Pairs(Joined):
    name = "pairs"
    exact = True
    paper = (
        "Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018; Goto, van de"
        " Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008"
    )
    channels: ClassVar[int] = 2

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype in ("i32", "u32"):
            if problem.x_dtype not in _WHOLE or problem.w_dtype not in _WHOLE:
                return f"it multiplies 16 bits, not {problem.x_dtype} by {problem.w_dtype}"
        elif problem.dtype not in NARROW:
            return f"it sums in 32 bits, not {problem.dtype}"
        if problem.boundary == "constant" and not _is_zero_point(problem):
            return f"x less {problem.cval} has more than 16 bits"
        return why_no_panels(problem)

    def products_a_second(self, isa: str) -> float:
        return _RATE["vnni" if isa == "avx512" and not core.quads_absent() else isa]


def _is_zero_point(problem: Problem) -> bool:
    """Whether x less the constant fits 16 bits, or sums have no more."""
    if problem.dtype[1:] != "32":
        return True
    return numpy_dtype(problem.x_dtype).itemsize == 1 and abs(problem.cval.real) < 2**14
