"""col2im: products of samples by all taps of all filters, added where the taps fall."""

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
from fastconv.solvers._panels import GFLOPS, MOST_PHASES, TILE, VECTOR_BYTES, block_taps

#: Seconds: a multiply-add to the next that needs it; the call of a register tile; a vector of
#: products to be stored, and to be added; an output to be woven, with 1 to 4 or 8 phases along the
#: last axis and with others; a row of samples, and of outputs, beyond those; a sample to be copied.
_LATENCY, _CALL, _STORE, _SUM = 1.2e-9, 9e-9, 1.5e-9, 1e-9
_WEAVE, _APART, _ROW, _END, _COPY = 0.08e-9, 0.4e-9, 10e-9, 20e-9, 0.08e-9

#: FEW and NEAR_PLANE of the driver: register tiles that read samples in place, and bytes between
#: channels that are asked for in time; bytes a second where they are not.
_FEW, _NEAR_PLANE, _FAR = 4, 32 << 10, 15e9

#: Bytes a second, of x and of y, that do not hide behind products: in L3, and in memory or, of a y
#: that L2 does not hold, in either.
_MOVED, _FROM_MEMORY = 40e9, 14e9

_ESTIMATES = {
    isa: core.Col2imCost(
        gflops=gflops, latency=_LATENCY, call=_CALL, store=_STORE, sum=_SUM, weave=_WEAVE,
        apart=_APART, row=_ROW, end=_END, copy=_COPY, far=_FAR, moved=_MOVED,
        from_memory=_FROM_MEMORY, near_plane=_NEAR_PLANE,
        vector_bytes=VECTOR_BYTES.get(isa, 16), rows=TILE.get(isa, (6, 2))[0],
        vectors=TILE.get(isa, (6, 2))[1], few=_FEW,
    )
    for isa, gflops in GFLOPS.items()
}  # fmt: skip


class Col2im(Solver):
    name = "col2im"
    exact = False
    paper = (
        "Vasudevan, Anderson, Gregg, Parallel Multi Channel Convolution using General Matrix"
        " Multiplication, ASAP 2017"
    )

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64"):
            return f"it has no kernels for {problem.dtype}"
        if any(u > 1 for u in problem.stride):
            return "it multiplies every sample by every tap, and takes no stride"
        if (phases := math.prod(problem.input_dilation)) > MOST_PHASES:
            return f"input dilation makes {phases} phases, more than {MOST_PHASES}"
        if problem.boundary != "zeros" and any(map(any, problem.padding)):
            return f"its samples lie amid zeros, not {problem.boundary}"
        if problem.layout == "N*C":
            return "it stores rows of pixels, not of channels"
        if math.prod(problem.kernel) > SUM_BLOCK:
            return f"it sums {SUM_BLOCK} taps at most"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return _configs(machine)

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        estimate = _ESTIMATES[str(config["isa"])]
        return estimate.seconds(problem.geometry, config, machine, threads)

    def workspace(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "col2im", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        # over channels of a tap, in blocks, then over the taps that an output meets at most
        channels = problem.channels // problem.groups
        blocks = max(1, -(-channels // int(config["channels"])))
        steps = [e // math.gcd(e, l) for e, l in zip(problem.input_dilation, problem.dilation)]
        taps = math.prod([-(-r // step) for r, step in zip(problem.kernel, steps)])
        return (-(-channels // blocks) + blocks + taps) * epsilon(problem) / 2

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "col2im", _values(config))


@functools.cache
def _configs(machine: Machine) -> Sequence[Config]:
    return [
        {"isa": isa, "block_bytes": machine.l2 // 4, "channels": block_taps(isa, machine)}
        for isa in core.offered_isas()
    ]


def _values(config: Config) -> tuple[int, ...]:
    return int(config["block_bytes"]), int(config["channels"])
