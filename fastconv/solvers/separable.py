"""separable: kernels that are outer products, one axis after the other, in cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv._accuracy import SUM_BLOCK, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads

#: Elements behind the last axis with a kernel from which that axis is summed across rows, not along
#: them (SHORT_ROW of drivers/separable.c).
_SHORT_ROW = 32

#: Axes with a kernel that the driver takes.
_MOST_AXES = 3

#: Measured GFLOP/s of one core, products and additions of the passes (EPYC 9004).
_GFLOPS = {"avx512": 75, "avx2": 60, "neon": 30, "baseline": 20}

#: FC_LOW_RANK_GROWTH and FC_LOW_RANK_DROP of drivers/separable.h.
_GROWTH, _DROP = 2, 2.0**-12

#: Equal weights on an axis from which they are summed in blocks (FC_SEPARABLE_BOX), and products
#: that take as long as one such sum.
_BOX, _BOX_TAPS = 8, 6

#: Integers that are summed modulo 2^16.
_WHOLE = ("u8", "i8", "u16", "i16")

_VECTOR_BYTES = {"avx512": 64, "avx2": 32}

#: Rows of whole numbers whose mean is taken down a column are met twice, not once a window: pieces
#: of a row this much wider. 250 rows of 1920 int16: 2.9 ms, by 2 1.8, by 4 1.15, by 8 0.87, by 16
#: 0.84, one thread of a Zen 3 with AVX2.
_MEANS_WIDER = 8

_ESTIMATES = {
    isa: core.SeparableCost(
        gflops=gflops, vector_bytes=_VECTOR_BYTES.get(isa, 16), box=_BOX, box_taps=_BOX_TAPS
    )
    for isa, gflops in _GFLOPS.items()
}


class SeparablePlan(DriverPlan):
    """Weights that turn out not to be as many outer products go to the direct driver."""

    def __init__(self, problem: Problem, solver: Solver, config: Config, machine: Machine) -> None:
        super().__init__(problem, solver, config, "separable", _values(problem, config))
        self._terms, self._dropping = problem.rank, problem.accuracy == "fast"
        self._dense: core.Call | None = None
        if len(_axes(problem)) > 1:
            values = (machine.l2 // 2, SUM_BLOCK, 64)
            threads = useful_threads(problem)
            self._dense = core.Call("direct", str(config["isa"]), problem, values, threads)

    def pack(self, w: Array) -> Any:
        if self._dense is not None and not self._fits(w) and np.isfinite(w).all():
            return self._dense, self._dense.pack(w)
        return super().pack(w)

    def _fits(self, w: Array) -> bool:
        if self._terms > 1:
            return core.low_rank(w, self._dropping) == self._terms
        return core.is_rank_one(w)


class Separable(Solver):
    name = "separable"
    revision = 3
    paper = (
        "Treitel, Shanks, The design of multistage separable planar filters, IEEE Trans. Geoscience"
        " Electronics 9(1), 1971; equal weights: van Herk, Pattern Recognition Letters 13(7), 1992"
    )

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.flops == 0:
            return "there is nothing to multiply"
        if problem.dtype not in ("f32", "f64", *_WHOLE):
            return (
                f"its kernels are for f32, f64 and integers of 8 and 16 bits, not {problem.dtype}"
            )
        if problem.channels != problem.groups:
            return "it takes one channel a group"
        axes = _axes(problem)
        if not axes:
            return "the kernel is a single sample"
        if len(axes) > 1 and problem.rank == 0:
            return "the kernel is not known to be an outer product of vectors, or a sum of a few"
        if len(axes) > _MOST_AXES:
            return f"it takes kernels along {_MOST_AXES} axes at most"
        if max(problem.input_dilation) > 1:
            return "it takes no input dilation"
        row = _row(problem)
        if set(problem.stride[row:]) != {1}:
            return "the stride along a row is not 1"
        if problem.rank > 1 and problem.dtype in _WHOLE:
            return "it takes one outer product of whole numbers"
        if problem.rank > 1 and (len(axes) != 2 or row != axes[-1]):
            return "it sums outer products along two axes only, the last of them along rows"
        if any(map(any, problem.padding[axes[-1] + 1 :])):
            return "there is padding behind the last axis with a kernel"
        return None

    def reads_stored(self, problem: Problem) -> bool:
        return _stored(problem, problem.x_dtype)

    def writes_stored(self, problem: Problem) -> bool:
        return _stored(problem, problem.y_dtype)

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [{"isa": isa, "row_bytes": machine.l2 // 4} for isa in core.offered_isas()]

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        stored = problem.x_dtype == problem.y_dtype == "u8"
        estimate = _ESTIMATES[str(config["isa"])]
        return estimate.seconds(problem.geometry, threads, _row(problem), stored)

    def workspace(self, problem: Problem, config: Config) -> int:
        return driver_bytes(
            problem, self, "separable", str(config["isa"]), _values(problem, config)
        )

    def error_bound(self, problem: Problem, config: Config) -> float:
        # a sum an axis of as many terms as it has taps; the product of the factors is w to
        # 2 eps an axis, and w itself when there is one axis only
        axes = _axes(problem)
        if problem.dtype in _WHOLE:
            return 0.0
        if problem.rank > 1:
            down, along = (problem.kernel[a] for a in axes)
            # FC_LOW_RANK_ROUNDINGS and FC_LOW_RANK_REST
            roundings = (down + problem.rank * along + 2) / 2 + 4 + 2 * problem.rank + 2
            dropped = _DROP if problem.accuracy == "fast" else 0.0
            return roundings * _GROWTH * epsilon(problem) + dropped
        taps = sum(problem.kernel[a] + 1 for a in axes)
        return (taps / 2 + (2 * len(axes) if len(axes) > 1 else 0)) * epsilon(problem)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return SeparablePlan(problem, self, config, machine)


def _stored(problem: Problem, dtype: str) -> bool:
    if problem.dtype in _WHOLE:
        return dtype == "u8"
    return problem.rank <= 1 and problem.dtype == "f64" and dtype in _WHOLE


def _values(problem: Problem, config: Config) -> tuple[int, ...]:
    terms = problem.rank if len(_axes(problem)) > 1 else 1
    means = problem.box and problem.dtype == "f64" and problem.x_dtype in _WHOLE
    row_bytes = int(config["row_bytes"]) * (_MEANS_WIDER if means else 1)
    return row_bytes, terms, int(problem.accuracy == "fast")


def _axes(problem: Problem) -> list[int]:
    """Axes that the kernel has more than one sample on."""
    return [axis for axis, taps in enumerate(problem.kernel) if taps > 1]


def _row(problem: Problem) -> int:
    """The axis that the driver's rows begin with."""
    axes = _axes(problem)
    behind = axes[-1] + 1
    long = math.prod(problem.size[behind:]) >= _SHORT_ROW
    return behind if behind < problem.ndim and long and len(axes) < _MOST_AXES else axes[-1]
