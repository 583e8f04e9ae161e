"""quads: integers of 8 bits, four channels an instruction, summed exactly in 32 bits."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from fastconv._ext import core
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.solvers._joined import NARROW, Joined, why_no_panels

_BYTES = ("i8", "u8")

#: Measured 1e9 products a second of one core in full tiles (Emerald Rapids).
_RATE = 275.0


class Quads(Joined):
    name = "quads"
    exact = True
    paper = "Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018"
    channels: ClassVar[int] = 4

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("i32", "u32", *NARROW):
            return f"it sums in 32 bits, not {problem.dtype}"
        if problem.x_dtype not in _BYTES or problem.w_dtype not in _BYTES:
            return f"it multiplies bytes, not {problem.x_dtype} by {problem.w_dtype}"
        if not problem.is_dense:
            return "it takes no input dilation"
        if problem.boundary == "constant":
            of_x = np.iinfo(numpy_dtype(problem.x_dtype))
            if not of_x.min <= problem.cval.real <= of_x.max:
                return f"{problem.cval} is no zero point of {problem.x_dtype}"
        return why_no_panels(problem) or core.quads_absent()

    def products_a_second(self, isa: str) -> float:
        return _RATE

    def isas(self) -> tuple[str, ...]:
        return ("avx512",)

    def tiles(self, problem: Problem, config: Config, pixels: int) -> int:
        """Those of bands end with rows: the last of a row overlaps the one before."""
        if not config["band"]:
            return super().tiles(problem, config, pixels)
        return math.prod(problem.out[:-1]) * -(-problem.out[-1] // pixels)

    def values(self, problem: Problem, config: Config) -> tuple[int, ...]:
        return (*super().values(problem, config), int(problem.w_dtype == "i8"))
