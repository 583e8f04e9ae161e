"""direct: register tiles that read the input in place, blocked for cache, vectorised per ISA."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from fastconv._accuracy import SUM_BLOCK, blocked_sum_bound
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: FC_PHASES of drivers/phase.h.
MAX_PHASES = 256


#: Measured GFLOP/s of one core (EPYC 9004, 3 GHz class) in 3x3 layers, by ISA and element: floats
#: by size, unsigned integers by name. Only ratios between candidates matter to the planner.
_GFLOPS: dict[str, dict[int | str, float]] = {
    "avx512": {4: 108, 8: 54, "u8": 80, "u16": 150, "u32": 80, "u64": 41},
    "avx2": {4: 85, 8: 44, "u8": 95, "u16": 110, "u32": 60, "u64": 11},
    "neon": {4: 50, 8: 25, "u8": 60, "u16": 60, "u32": 30, "u64": 6},
    "baseline": {4: 28, 8: 14, "u8": 38, "u16": 48, "u32": 12, "u64": 5.5},
}

#: Register tiles, filters x vectors, of kernels/tile.c; and the share of the rate that tiles of few
#: filters reach, by filters: they load more than they multiply.
_TILES = {32: ((8, 3), (4, 6), (2, 8), (1, 8)), 16: ((6, 2), (4, 3), (2, 4), (1, 8))}
_SHARE = {8: 1.0, 6: 1.0, 4: 0.95, 2: 0.9, 1: 0.54}
_REGISTERS = {"avx512": 32, "neon": 32}
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}


class Direct(Polyphase):
    name = "direct"
    paper = (
        "Zhang, Franchetti, Low, High Performance Zero-Memory Overhead Direct Convolutions,"
        " ICML 2018; Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication,"
        " ACM TOMS 34(3), 2008"
    )

    scatter = 0.3e-9

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype in ("f80", "c160"):
            return "it has no kernels for long double"
        if phases(problem) > MAX_PHASES:
            return f"strides and kernel make more than {MAX_PHASES} phases"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        # planes of half of L2 leave the other half to weights and sums; longer bands copy less halo
        return _configs(machine.l2 // 2)

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        estimate = _estimate(str(config["isa"]), problem.accumulator)
        threads = min(useful_threads(problem), machine.cores)
        return estimate.seconds(problem.geometry, config, machine, threads)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "direct", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return blocked_sum_bound(problem)

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "direct", _values(config))


@functools.cache
def _configs(half: int) -> Sequence[Config]:
    return [
        {"isa": isa, "plane_bytes": size, "taps": SUM_BLOCK, "filters": 64}
        for isa in core.offered_isas()
        for size in (half * 8, half)
    ]


def _values(config: Config) -> tuple[int, ...]:
    return int(config["plane_bytes"]), int(config["taps"]), int(config["filters"])


@functools.cache
def _estimate(isa: str, dtype: str) -> core.DirectCost:
    size = numpy_dtype(dtype).itemsize // (2 if dtype[0] == "c" else 1)
    filters, vectors = zip(*_TILES[_REGISTERS.get(isa, 16)])
    return core.DirectCost(
        gflops=_GFLOPS[isa][size if dtype[0] in "fc" else dtype.replace("i", "u")],
        vector_bytes=_VECTOR_BYTES.get(isa, 16), filters=filters, vectors=vectors,
        share=[_SHARE[tile] for tile in filters],
    )  # fmt: skip


def phases(problem: Problem) -> int:
    """Stride phases that the driver keeps a plane for, over all axes."""
    return sum(_phases(problem.kernel, problem.stride, problem.dilation))


@functools.lru_cache(maxsize=256)
def _phases(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """Those of each axis: of a network's layers few differ."""
    return tuple([min(r, u // math.gcd(u, l)) for r, u, l in zip(kernel, stride, dilation)])
