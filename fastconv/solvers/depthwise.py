"""depthwise: one input channel a filter, vectorised along rows, x read in place."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._accuracy import epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Dtypes that sums are kept in, and those that x is converted from in cache.
_SUMS = ("f32", "f64", "i32", "u32", "i64", "u64")
_STORED = {
    "f32": ("u8", "i8", "u16", "i16"),
    "f64": ("u8", "i8", "u16", "i16", "u32", "i32", "f32"),
    "i32": ("bool", "u8", "i8", "u16", "i16"),
    "i64": ("bool", "u8", "i8", "u16", "i16", "u32", "i32"),
}


#: Measured GFLOP/s of one core (EPYC 9004, 3 GHz class), of 4-byte elements.
_GFLOPS = {"avx512": 95, "avx2": 85, "neon": 45, "baseline": 25}


class Depthwise(Polyphase):
    name = "depthwise"
    paper = (
        "Zhang, Lo, Lu, High Performance Depthwise and Pointwise Convolutions on Mobile Devices,"
        " AAAI 2020"
    )

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.channels != problem.groups:
            return "filters see more than one input channel"
        if problem.accumulator not in _SUMS:
            return f"it has no kernels for {problem.dtype}"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [{"isa": isa, "strip_bytes": machine.l1 * 3 // 4} for isa in core.isas()]

    def reads_stored_dense(self, problem: Problem) -> bool:
        return problem.x_dtype in _STORED.get(problem.dtype, ())

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        rate = _GFLOPS[str(config["isa"])] * 1e9 * 4 / problem.itemsize
        outputs = math.prod(problem.y_shape)
        rows = math.prod(problem.x_shape[:-1]) + math.prod(problem.y_shape[:-1])
        moved = math.prod(problem.x_shape) * numpy_dtype(problem.x_dtype).itemsize
        moved += outputs * problem.itemsize
        seconds = problem.flops / rate + moved / 20e9 + rows * 10e-9
        lanes = min(useful_threads(problem), machine.cores)
        return 2e-6 + seconds / lanes

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "depthwise", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        # one running sum; Higham, section 3.1
        return (problem.taps + 1) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "depthwise", _values(config))


def _values(config: Config) -> tuple[int, ...]:
    return (int(config["strip_bytes"]),)
