"""winograd: fewer products for kernels along one or two axes, guarded."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from fastconv._accuracy import epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase
from fastconv.solvers._tiles import (
    LONGEST,
    bound,
    error_parts,
    tile_of,
    transformed,
)

#: Measured GFLOP/s of one core in the products (EPYC 9004; avx2: EPYC 7003), bytes of a vector, and
#: nanoseconds that a vector of a point takes in the transform of the input, and of the output.
_RATES = {
    "avx512": (104, 64, 5.3, 4.6),
    "avx2": (96, 32, 3.5, 3.0),
    "neon": (50, 16, 4.0, 3.0),
    "baseline": (38, 16, 4.0, 3.0),
}

#: Bytes of weights a second that come from L3 beside the products, 90e9 elsewhere: 3x3 stride 2,
#: 128 to 256 @ 52x52, reads 13 MB four times and takes 5.1 to 7.6 ms on a Zen 3, products 2.7.
_FROM_L3 = {"avx2": 35e9}

#: Filters of a register tile, fewest and most vectors of tiles of a block, and blocks that larger
#: ones leave (winograd_plan.c).
_ROWS, _FEWEST_AND_MOST, _BLOCKS = {"avx512": 8, "neon": 8}, {8: (1, 3), 6: (2, 2)}, 16

_ESTIMATES = {
    isa: core.WinogradCost(
        gflops=gflops, in_ns=in_ns, out_ns=out_ns, from_l3=_FROM_L3.get(isa, 90e9),
        vector_bytes=vector, rows=(rows := _ROWS.get(isa, 6)), fewest=_FEWEST_AND_MOST[rows][0],
        most=_FEWEST_AND_MOST[rows][1], blocks=_BLOCKS,
    )
    for isa, (gflops, vector, in_ns, out_ns) in _RATES.items()
}  # fmt: skip


class Winograd(Polyphase):
    name = "winograd"
    exact = False
    mixes_windows = True
    paper = (
        "Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; error analysis"
        " after Barabasz et al., ACM TOMS 46(4), 2020"
    )
    revision = 4
    scatter = 1.5e-9

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64"):
            return f"its transforms are for f32 and f64, not {problem.dtype}"
        if not transformed(problem):
            return f"no axis has 2 to {LONGEST} taps a phase, and stride or dilation 1"
        if problem.boundary == "zeros":
            for pads, span in zip(problem.padding, problem.span):
                if max(pads) >= span:
                    # each such output has no correct digit and is summed again: 24 pictures of
                    # 8x8, 256 filters of 8x8, padding 9 took 130 ms instead of 0.6
                    return "windows lie wholly in the padding"
        if problem.accuracy == "strict":
            return "its error is relative to a tile of the input, not to an output's own window"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        sizes = (4, 2) if tile_of(problem, 4) != tile_of(problem, 2) else (2,)
        # tiles of 3 where they need fewer products than those of 4: 3, 5, 6 or 9 outputs a phase
        if problem.is_dense and _products(problem, 3) < _products(problem, 4):
            sizes = (3, *sizes)
        return _configs(sizes, machine.l2 // 2)

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        tile = tile_of(problem, int(config["m"]))
        estimate = _ESTIMATES[str(config["isa"])]
        return estimate.seconds(problem.geometry, config, machine, threads, tile)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "winograd", str(config["isa"]), _values(problem, config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return bound(problem, int(config["m"])) * epsilon(problem)

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "winograd", _values(problem, config))


@functools.cache
def _configs(sizes: tuple[int, ...], cache: int) -> Sequence[Config]:
    return [
        {"isa": isa, "m": m, "cache_bytes": cache} for isa in core.offered_isas() for m in sizes
    ]


def _products(problem: Problem, m: int) -> int:
    """Products of a channel and a filter, for each of what is summed."""
    tile = tile_of(problem, m)
    return core.winograd_tiles(problem.geometry, tile.outputs) * tile.points


def _values(problem: Problem, config: Config) -> tuple[int, ...]:
    m = int(config["m"])
    _, transform, addition = (math.ceil(1000 * e) for e in error_parts(problem, m))
    return int(config["cache_bytes"]), transform, tile_of(problem, m).code, addition
