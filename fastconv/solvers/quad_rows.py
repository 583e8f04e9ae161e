"""quad_rows: pictures of bytes, four neighbours of a row an instruction, exact in 32 bits.

Of depthwise layers whose planes are small, vectors are of channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._joined import BYTES, why_no_bytes

#: Rows of a tile of outputs, and samples that each begins at.
_ROWS, _LINE = 4, 64

#: Measured 1e9 products a second of one core in full tiles (Emerald Rapids).
_RATE = 250.0

#: Most samples under a row of outputs for that: MOST of drivers/quad_lanes.c; seconds that a sample
#: takes to turn, an output to be stored, a vector of four taps, and a channel (3x3 and 5x5 layers).
_MOST = 64
_TURN, _OUTPUT, _QUAD, _CHANNEL = 0.12e-9, 0.18e-9, 0.032e-9, 7e-9

#: Seconds: a tile's sums made what is stored; a row of a filter's stored; a row and a byte copied;
#: a weight packed.
_TILE, _STORED, _ROW, _BYTE, _PACK = 40e-9, 4e-9, 2e-9, 0.02e-9, 5e-9


class QuadRows(Solver):
    name = "quad_rows"
    revision = 3
    exact = True
    paper = "Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018"

    def why_not(self, problem: Problem) -> str | None:
        if problem.ndim != 2:
            return "it sums along the rows of pictures, of two axes"
        if (reason := why_no_bytes(problem)) is not None:
            return reason
        if max(problem.dilation) > 1 or problem.stride[1] > 2:
            return "it takes no dilation, and strides along rows of 1 or 2"
        if problem.boundary not in ("zeros", "constant") and any(map(any, problem.padding)):
            return f"it pads with one number, not by {problem.boundary!r}"
        return core.quads_absent()

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [{"isa": "avx512"}]

    def reads_stored(self, problem: Problem) -> bool:
        return problem.is_exact and problem.x_dtype in BYTES

    def writes_stored(self, problem: Problem) -> bool:
        return problem.is_exact

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        (rows, columns), (r, s), (u, v) = problem.out, problem.kernel, problem.stride
        channels, wide = problem.channels // problem.groups, _LINE // v
        if _lanes_are_channels(problem):
            each = rows * columns * (_OUTPUT + r * -(-s // 4) * _QUAD)
            work = problem.channels * (math.prod(problem.size) * _TURN + each + _CHANNEL)
        else:
            tiles = problem.filters * -(-rows // _ROWS) * -(-columns // wide)
            products = channels * (r + u * (_ROWS - 1)) * -(-s // 4) * 4 * _ROWS * wide
            work = tiles * (products * 1e-9 / _RATE + _TILE) + problem.filters * rows * _STORED
            padded = problem.padded
            work += problem.channels * (padded[0] * _ROW + math.prod(padded) * _BYTE)
        work *= problem.batch
        threads = min(useful_threads(problem), machine.cores)
        pack = 0.0 if problem.prepared else 1e-6 + math.prod(problem.w_shape) * _PACK
        return 3e-6 + work / threads + pack + (4e-6 if threads > 1 else 0.0)

    def workspace(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, self.name, str(config["isa"]), self._values(problem))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return 0.0

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, self.name, self._values(problem))

    def _values(self, problem: Problem) -> tuple[int, ...]:
        return (int(problem.w_dtype == "i8"),)


def _lanes_are_channels(problem: Problem) -> bool:
    """`fc_quad_lanes_fit` of the driver."""
    wide = (problem.out[1] - 1) * problem.stride[1] + problem.kernel[1]
    return problem.channels == problem.filters == problem.groups > 1 and wide <= _MOST
