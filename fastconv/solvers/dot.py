"""dot: few outputs of a large kernel, vectorised along what is summed: gradients of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastconv._accuracy import SUM_BLOCK, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Most outputs of a filter along the last two axes: 31 x 31, and a strip still holds a few rows.
MOST_OUTPUTS = 1024

#: GFLOP/s of one core in tiles of _TILE outputs and more: measured on a Zen 3 for AVX2, the others
#: in proportion to `depthwise`'s; bytes of a vector.
_GFLOPS = {"avx512": 120, "avx2": 80, "neon": 40, "baseline": 20}
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}
_TILE = 9

#: Seconds that copying a sample to a strip takes, next to others or apart, a row of a strip, a
#: plane of x and w, and an output; bytes a second that come from memory. Chosen for the sums to fit
#: the layers of docs/decisions.md, not timed one by one.
#: A plane that is read as it lies took 42 ns instead of 73 (3x3 960@7), of the estimate as much.
_SAMPLE, _STRIDED, _ROW, _PLANE, _OUTPUT = 0.05e-9, 0.6e-9, 4e-9, 60e-9, 4e-9
_NARROW = 40e-9
_MEMORY = 14e9

_ESTIMATES = {
    isa: core.DotCost(
        gflops=gflops, vector_bytes=_VECTOR_BYTES.get(isa, 16), tile=_TILE, sample=_SAMPLE,
        strided=_STRIDED, row=_ROW, plane=_PLANE, output=_OUTPUT, narrow=_NARROW, memory=_MEMORY,
    )
    for isa, gflops in _GFLOPS.items()
}  # fmt: skip


class Dot(Polyphase):
    name = "dot"
    exact = False
    paper = (
        "Zhang, Lo, Lu, High Performance Depthwise and Pointwise Convolutions on Mobile Devices,"
        " AAAI 2020, whose register tiles are turned round: sums along vectors"
    )
    revision = 2

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.accumulator not in ("f32", "f64"):
            return f"it has no kernels for {problem.dtype}"
        if problem.boundary != "zeros":
            return f"it extends x by zeros only, not by {problem.boundary!r}"
        outputs = math.prod(problem.out[-2:])
        if outputs > MOST_OUTPUTS:
            return f"it has up to {MOST_OUTPUTS} outputs along the last two axes, not {outputs}"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        elements = machine.l1 * 3 // 4 // problem.itemsize
        found: list[Config] = []
        for isa in core.offered_isas():
            rows, columns = _block(problem, elements, _lanes(problem, isa))
            found.append({"isa": isa, "rows": rows, "columns": columns})
        return found

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        return _ESTIMATES[str(config["isa"])].seconds(problem.geometry, machine, threads)

    def floor(self, problem: Problem, machine: Machine) -> float:
        if not problem.is_dense or problem.accumulator not in ("f32", "f64"):
            return 0.0
        # blocks, which take longer to find, are not part of the estimate
        return min(self.cost_dense(problem, {"isa": isa}, machine) for isa in core.offered_isas())

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        weights = math.prod(problem.w_shape) * problem.itemsize  # copied where rows are not dense
        values = _values(config)
        return weights + driver_bytes(problem, self, "dot", str(config["isa"]), values)

    def error_bound(self, problem: Problem, config: Config) -> float:
        # a sum a lane and a block, sums of blocks, of lanes, and the bias; Higham, section 4.2
        rows, columns = _values(config)
        lanes = _lanes(problem, str(config["isa"]))
        height, width = _plane(problem)
        each = min(rows, height) * -(-min(columns, width) // lanes)
        planes = problem.taps // (height * width)
        blocks = planes * -(-height // rows) * -(-width // columns)
        return (each + blocks + math.log2(lanes) + 1) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DotPlan(problem, self, config, "dot", _values(config))


class DotPlan(DriverPlan):
    """Weights are read where they lie, and those that are not finite by the driver itself.

    They are as large as x: copying them would take as long as the products. What is prepared is
    copied, as its array may change.
    """

    def pack(self, w: Array) -> Any:
        dense = w.strides[-1] == w.itemsize
        return self._call, w if dense and not self.problem.prepared else w.copy()


def _values(config: Config) -> tuple[int, ...]:
    return int(config["rows"]), int(config["columns"])


def _lanes(problem: Problem, isa: str) -> int:
    return _VECTOR_BYTES.get(isa, 16) // problem.itemsize


def _plane(problem: Problem) -> tuple[int, int]:
    """Rows and columns of a kernel."""
    return (1, *problem.kernel)[-2], problem.kernel[-1]


def _block(problem: Problem, elements: int, lanes: int) -> tuple[int, int]:
    """Rows and columns of the kernel whose strip of x is of about `elements` elements."""
    height, width = _plane(problem)
    rows, columns = (1, *problem.out)[-2], problem.out[-1]
    u, v, l, m = (
        (1, *problem.stride)[-2],
        problem.stride[-1],
        (1, *problem.dilation)[-2],
        problem.dilation[-1],
    )
    halo, phases = (rows - 1) * u, min(m, (columns - 1) * v + 1)
    extra = (columns - 1) * v // m
    most = max(elements // (phases * ((min(height, 8) - 1) * l + halo + 1)) - extra, 8 * lanes)
    piece = _even(width, min(most, SUM_BLOCK * lanes))
    piece = min(width, -(-piece // lanes) * lanes)
    pitch = phases * (piece + extra + lanes)
    # rows that blocks share are copied for each of them
    most = max((elements // pitch - halo - 1) // l + 1, halo // l + 4)
    return _even(height, max(1, min(most, SUM_BLOCK // -(-piece // lanes)))), piece


def _even(count: int, most: int) -> int:
    """The size, at most `most`, of the fewest equal parts."""
    return -(-count // -(-count // most))
