"""panels: register tiles with vectors of pixels, copied to panels and stored as they lie in y."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from fastconv._accuracy import SUM_BLOCK, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._panels import (
    GFLOPS,
    LONG,
    MOST_PHASES,
    TILE,
    VECTOR_BYTES,
    block_taps,
    in_runs,
    pixels_of,
    with_bands,
)

#: Measured seconds (Zen 3, one thread): a multiply-add to the next that needs it; a register tile
#: beyond its products (20 cycles in L1), and the call of one; a tap of a panel that
#: is looked for where the tile lies within a row of x, and where rows end or padding begins.
_LATENCY, _NEXT, _CALL, _WHOLE, _BROKEN = 1.2e-9, 2e-9, 9e-9, 15e-9, 35e-9

#: Seconds that a vector of a panel takes: of pixels side by side, and of windows by the stride of
#: its pixels (3 and 4 are reckoned).
_SPREAD, _COPY = 0.5e-9, {1: 0.9e-9, 2: 1.4e-9, 3: 2.5e-9, 4: 3e-9}

#: Seconds that a pixel takes which is picked, where there is an instruction for it and by four taps
#: at a time (Emerald Rapids); 0.5 ns elsewhere.
_ONE, _FOUR = {"avx512": 0.27e-9}, {"avx512": 0.1e-9}

#: Pixels side by side are read in place: FEW, NEAR_PLANE and NEAR_TILE of panels.c.
_FEW, _NEAR_PLANE, _NEAR_TILE = 4, 32 << 10, 64 << 10

#: Share of what copies take, here and to bands: Emerald Rapids, 62 layers.
_COPIES = {"avx512": 0.2}

#: Seconds that a sample takes to a band; a tap of one pixel, for each vector of filters of a tile.
_SAMPLE, _PIXEL = 0.4e-9, 0.35e-9

#: Seconds that an element takes to a band whose rows are copied at once, and an output from sums
#: that run on over gaps (Emerald Rapids: 3x3, 32 groups of 8 @ 28x28).
_GAP = 0.1e-9

#: Seconds that an output of phases takes to store beyond that, with 2, 3, 4 or 8 phases along the
#: last axis and with others.
_WEAVE, _APART = 0.1e-9, 0.4e-9

#: Bytes a second, of x and of y, that do not hide behind products: in L3, and in memory. A register
#: tile stores no more than the latter where L2 does not hold y: 1x1, 3 to 64 @ 200x200, 1.3 ms; in
#: long runs (in_runs) into L3 more (1 to 512, 10 taps, y 6.6 MB).
_MOVED, _FROM_MEMORY, _RUNS = 40e9, 14e9, 20e9

_ESTIMATES = {
    isa: core.PanelsCost(
        gflops=gflops, latency=_LATENCY, next=_NEXT, call=_CALL, whole=_WHOLE, broken=_BROKEN,
        spread=_SPREAD, one=_ONE.get(isa, 0.5e-9), four=_FOUR.get(isa, 0.0),
        copies=_COPIES.get(isa, 1.0), sample=_SAMPLE, pixel=_PIXEL,
        weave=_WEAVE, apart=_APART, moved=_MOVED, runs=_RUNS, from_memory=_FROM_MEMORY,
        copy=(0.0, *_COPY.values()), vector_bytes=VECTOR_BYTES.get(isa, 16),
        rows=TILE.get(isa, (6, 2))[0], vectors=TILE.get(isa, (6, 2))[1], few=_FEW,
        near_plane=_NEAR_PLANE, near_tile=_NEAR_TILE, gap=_GAP,
    )
    for isa, gflops in GFLOPS.items()
}  # fmt: skip


class Panels(Solver):
    name = "panels"
    exact = False
    revision = 2
    paper = (
        "Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3),"
        " 2008; Van Zee, van de Geijn, BLIS, ACM TOMS 41(3), 2015"
    )

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64"):
            return f"it has no kernels for {problem.dtype}"
        if not problem.is_dense:
            if any(e > 1 and u > 1 for e, u in zip(problem.input_dilation, problem.stride)):
                return "it takes input dilation, or a stride, not both along an axis"
            if (phases := math.prod(problem.input_dilation)) > MOST_PHASES:
                return f"input dilation makes {phases} phases, more than {MOST_PHASES}"
        if problem.boundary != "zeros" and any(map(any, problem.padding)):
            return f"its panels are padded with zeros, not {problem.boundary}"
        if problem.layout == "N*C":
            return "it stores rows of pixels, not of channels"
        if math.prod(pixels_of(problem)[1]) > SUM_BLOCK:
            return f"a kernel of more than {SUM_BLOCK} taps a channel fills no panel in L1"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        # y that no cache holds is written in long runs: a block of filters is one register tile
        # (3x3, 1 to 64 @ 572x572: 12.0 ms instead of 18.7; where L3 holds y 8 to 15 % are lost).
        # Phases share a panel, which may thus be in L2, as their weights are in L1 in that order:
        # gradient of x, 3x3 stride 2, 64 @ 56x56 5.1 to 4.5 ms; 128 @ 56x56 3.1 to 2.8.
        # With AVX-512 long runs win as soon as L2 does not hold y (in_runs).
        size, dense = problem.itemsize, problem.is_dense
        y_bytes = math.prod(problem.y_shape) * size
        weights = 1 if y_bytes > machine.l3 or not dense else machine.l2 // 2
        bands = with_bands(problem, problem.taps, size, machine, gaps=True)
        long = problem.out[-1] >= LONG
        return _configs(bands, weights, y_bytes > machine.l2, long, dense, machine)

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        estimate = _ESTIMATES[str(config["isa"])]
        return estimate.seconds(problem.geometry, config, machine, threads, *pixels_of(problem))

    def workspace(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "panels", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        kernel = math.prod(pixels_of(problem)[1])
        channels = problem.channels // problem.groups
        blocks = max(1, -(-channels // max(1, int(config["taps"]) // kernel)))
        return (-(-channels // blocks) * kernel + blocks) * epsilon(problem) / 2

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "panels", _values(config))


@functools.cache
def _configs(
    bands: tuple[str, ...], weights: int, far: bool, long: bool, dense: bool, machine: Machine
) -> Sequence[Config]:
    return [
        {
            "isa": isa,
            "panel_bytes": machine.l2 // 4,
            "taps": block_taps(isa, machine) if dense else SUM_BLOCK,
            "weight_bytes": 1 if in_runs(isa, far, band, long) else weights,
            "band": band,
        }
        for isa in core.offered_isas()
        for band in ((1, 0) if isa in bands else (0,))
    ]


def _values(config: Config) -> tuple[int, ...]:
    return tuple(int(config[name]) for name in ("panel_bytes", "taps", "weight_bytes", "band"))
