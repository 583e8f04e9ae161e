"""depthwise: one input channel a filter, vectorised along rows, x in place or copied amid zeros.

Floats of 16 bits are widened, convolved and rounded again a part of the groups at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._accuracy import epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import HALVES, Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, HalvesPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Dtypes that sums are kept in, and those that x is converted from in cache.
_SUMS = ("f32", "f64", "i32", "u32", "i64", "u64")
_STORED = {
    "f32": ("u8", "i8", "u16", "i16"),
    "f64": ("u8", "i8", "u16", "i16", "u32", "i32", "f32"),
    "i32": ("bool", "u8", "i8", "u16", "i16"),
    "i64": ("bool", "u8", "i8", "u16", "i16", "u32", "i32"),
}

#: Integers that sums become in cache.
_CUT = ("u8", "i8", "u16", "i16")

#: Measured GFLOP/s of one core (EPYC 9004, 3 GHz class), of 4-byte elements, in kernels of several
#: rows and of one; and bytes of a vector.
_GFLOPS = {"avx512": (92, 110), "avx2": (60, 100), "neon": (45, 45), "baseline": (25, 25)}
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}

#: Measured: bytes a second that x and y are read and written with in place, in cache, in memory,
#: and by several filters of a channel; seconds that copying a sample to a strip takes, a row of a
#: strip, and an image.
_IN_PLACE, _MEMORY, _APART = 60e9, 12e9, 30e9
_SAMPLE, _ROW, _IMAGE = 0.4e-9, 25e-9, 30e-9

#: Share of the products' time that volumes take whose planes are taps of one tile: 3x3x3 64@8x28x28
#: 0.50 ms instead of 0.78, 96@16x14x14 0.39 instead of 0.84.
_DEEP = 0.6

#: Seconds that woven phases take beside products (Zen 3, one thread): a vector of outputs, a call
#: of the kernel, and a row of x to copy.
_WEAVE, _CALL, _COPY = 0.8e-9, 15e-9, 3e-9

#: Seconds that a byte takes beside the rest where rows are taken apart by shuffles.
_SPLIT = 0.015e-9

#: Seconds that a sample of 16 bits takes in and out of float32 in L2: 3x3 144@56 of bfloat16.
_HALF = 0.17e-9

#: Most phases of rows that are woven: 8 is the most that upsampling layers are known to have.
_ROW_PHASES = 16

_ESTIMATES = {
    isa: core.DepthwiseCost(
        rows_gflops=rows, row_gflops=row, vector_bytes=_VECTOR_BYTES.get(isa, 16),
        in_place=_IN_PLACE, memory=_MEMORY, apart=_APART, sample=_SAMPLE, row=_ROW, image=_IMAGE,
        deep=_DEEP, weave=_WEAVE, call=_CALL, copy=_COPY, split=_SPLIT,
    )
    for isa, (rows, row) in _GFLOPS.items()
}  # fmt: skip


class Depthwise(Polyphase):
    name = "depthwise"
    paper = (
        "Zhang, Lo, Lu, High Performance Depthwise and Pointwise Convolutions on Mobile Devices,"
        " AAAI 2020"
    )
    revision = 2

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.channels != problem.groups:
            return "filters see more than one input channel"
        if problem.accumulator not in _SUMS:
            return f"it has no kernels for {problem.dtype}"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        more = {"part_bytes": machine.l2 // 4} if _in_parts(problem) else {}
        return [{"isa": isa, "strip_bytes": machine.l1 // 2, **more} for isa in core.offered_isas()]

    def reads_stored_dense(self, problem: Problem) -> bool:
        return problem.x_dtype in _STORED.get(problem.dtype, ()) or _in_parts(problem)

    def writes_stored(self, problem: Problem) -> bool:
        if _rounds(problem):
            return True
        return problem.dtype == "f64" and problem.y_dtype in _CUT and problem.is_dense

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        seconds = _ESTIMATES[str(config["isa"])].seconds(problem.geometry, machine, threads)
        if _in_parts(problem):
            seconds += (math.prod(problem.x_shape) + math.prod(problem.y_shape)) * _HALF / threads
        return float(seconds)

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        if not _woven(problem):
            return super().cost(problem, config, machine)
        threads = min(useful_threads(problem), machine.cores)
        return _ESTIMATES[str(config["isa"])].woven_seconds(problem.geometry, machine, threads)

    def workspace(self, problem: Problem, config: Config) -> int:
        if not _woven(problem):
            return super().workspace(problem, config)
        return self.workspace_dense(problem, config)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        if not _woven(problem):
            return super().plan(problem, config, machine)
        return self.plan_dense(problem, config, machine)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        # a residual or an activation wants y in float32
        wide = 4 * math.prod(problem.y_shape) if _rounds(problem) else 0
        return wide + driver_bytes(problem, self, "depthwise", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        # one running sum; Higham, section 3.1
        return (problem.taps + 1) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        kind = HalvesPlan if _rounds(problem) else DriverPlan
        return kind(problem, self, config, "depthwise", _values(config))


def _in_parts(problem: Problem) -> bool:
    """Whether x is of 16 bits, and conversions are the plan's own."""
    return problem.x_dtype in HALVES and problem.dtype == "f32" and problem.is_dense


def _rounds(problem: Problem) -> bool:
    """Whether y is, too."""
    return problem.y_dtype == problem.x_dtype and _in_parts(problem)


def _woven(problem: Problem) -> bool:
    """Whether all phases of a row of outputs are made together: transposed layers of stride 2."""
    return (
        problem.input_dilation[-1] == 2
        and max(problem.input_dilation) <= _ROW_PHASES
        and problem.ndim <= 2
        and problem.accumulator in ("f32", "f64")
        and problem.boundary == "zeros"
        and max(problem.stride) == max(problem.dilation) == 1
    )


def _values(config: Config) -> tuple[int, ...]:
    return tuple(int(config[name]) for name in ("strip_bytes", "part_bytes") if name in config)
