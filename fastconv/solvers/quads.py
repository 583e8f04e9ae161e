"""quads: integers of 8 bits, four channels an instruction, summed exactly in 32 bits."""

from __future__ import annotations

import math
from typing import ClassVar

from fastconv._ext import core
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._joined import Joined, why_no_bytes, why_no_panels

#: Measured 1e9 products a second of one core in full tiles (Emerald Rapids).
_RATE = 275.0


class Quads(Joined):
    name = "quads"
    exact = True
    paper = "Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018"
    channels: ClassVar[int] = 4

    def why_not(self, problem: Problem) -> str | None:
        return why_no_bytes(problem) or why_no_panels(problem) or core.quads_absent()

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
