"""im2col: windows gathered a tile at a time, multiplied by BLAS."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from fastconv._accuracy import SUM_BLOCK, blocked_sum_bound
from fastconv._epilogue import Epilogue
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config
from fastconv.solvers._blas import single_threaded_blas
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Measured GFLOP/s of one core in scipy's OpenBLAS (EPYC 9004): only ratios matter to the planner.
_GFLOPS = {"f32": 95, "f64": 46, "c64": 95, "c128": 48}

#: The share of these that it reaches with AVX2, and the s that makes it side / (side + s) of a
#: product of few rows: 1x1 layers of 103 MFLOP at 56x56 take 1.45 ms (64 to 256) on one thread of a
#: Zen 3, 32 to 16 @ 112x112 0.42, of 0.13 at the peak.
_SHARE = {"avx2": (0.9, 16)}


class _BlasPlan(DriverPlan):
    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        with single_threaded_blas():  # the driver's tiles are what runs in parallel
            super().execute(x, packed, epilogue, y)


class Im2col(Polyphase):
    name = "im2col"
    exact = False
    paper = (
        "Chellapilla, Puri, Simard, High Performance Convolutional Neural Networks for Document"
        " Processing, IWFHR 2006"
    )

    scatter = 1e-9

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64", "c64", "c128"):
            return f"BLAS multiplies no {problem.dtype}"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        # a tile that stays in L2, or one large enough for BLAS to block as it likes
        return _configs(machine.l2 // 2)

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        share, lost = _SHARE.get(machine.isa, (1.0, 2))
        gflops = _GFLOPS[problem.dtype] * share
        return core.im2col_seconds(problem.geometry, config, machine, threads, gflops, lost)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "im2col", core.isa(), _values(problem, config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return blocked_sum_bound(problem)

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return _BlasPlan(problem, self, config, "im2col", _values(problem, config))


@functools.cache
def _configs(half: int) -> Sequence[Config]:
    return [{"tile_bytes": size, "taps": SUM_BLOCK} for size in (16 << 20, half)]


#: Tiles that results are cut into whatever the number of threads: what deterministic costs is small
#: for up to this many.
_PARTS = 8


def _values(problem: Problem, config: Config) -> tuple[int, ...]:
    parts = _PARTS if problem.deterministic else 0
    return int(config["tile_bytes"]), int(config["taps"]), parts
