"""quad_rows: pictures of bytes, four neighbours of a row an instruction, exact in 32 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads

#: Rows and columns of a tile of outputs.
_ROWS, _COLUMNS = 4, 64

#: Measured 1e9 products a second of one core in full tiles (Emerald Rapids).
_RATE = 250.0

#: Seconds: a tile's sums stored; a byte copied; a weight packed.
_TILE, _BYTE, _PACK = 60e-9, 0.1e-9, 5e-9

_BYTES = ("i8", "u8")


class QuadRows(Solver):
    name = "quad_rows"
    exact = True
    paper = "Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018"

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.ndim != 2:
            return "it sums along the rows of pictures, of two axes"
        if problem.dtype not in ("i32", "u32"):
            return f"it sums in 32 bits, not {problem.dtype}"
        if problem.x_dtype not in _BYTES or problem.w_dtype not in _BYTES:
            return f"it multiplies bytes, not {problem.x_dtype} by {problem.w_dtype}"
        if problem.y_dtype not in ("i32", "u32"):
            return f"it stores what it sums in, not {problem.y_dtype}"
        if max(*problem.stride, *problem.dilation, *problem.input_dilation) > 1:
            return "it takes no stride or dilation"
        if problem.boundary != "zeros" and any(map(any, problem.padding)):
            return f"it pads with zeros, not by {problem.boundary!r}"
        return core.quads_absent()

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [{"isa": "avx512"}]

    def reads_stored(self, problem: Problem) -> bool:
        return problem.is_exact and problem.x_dtype in _BYTES

    def writes_stored(self, problem: Problem) -> bool:
        return problem.is_exact

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        (rows, columns), (r, s) = problem.out, problem.kernel
        channels = problem.channels // problem.groups
        tiles = problem.batch * problem.filters * -(-rows // _ROWS) * -(-columns // _COLUMNS)
        products = channels * (r + _ROWS - 1) * -(-s // 4) * 4 * _ROWS * _COLUMNS
        work = tiles * (products * 1e-9 / _RATE + _TILE)
        work += problem.batch * problem.channels * math.prod(problem.padded) * _BYTE
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
