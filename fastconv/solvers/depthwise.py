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


#: Measured GFLOP/s of one core (EPYC 9004, 3 GHz class), of 4-byte elements, in kernels of several
#: rows and of one; and bytes of a vector.
_GFLOPS = {"avx512": (92, 110), "avx2": (60, 100), "neon": (45, 45), "baseline": (25, 25)}
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}

#: Measured: bytes a second that x and y are read and written with in place, in cache, in
#: memory, and by several filters of a channel; seconds that copying a
#: sample to a strip takes, a row of a strip, and an image.
_IN_PLACE, _MEMORY, _APART = 60e9, 12e9, 30e9
_SAMPLE, _ROW, _IMAGE = 0.4e-9, 25e-9, 30e-9


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
        return [{"isa": isa, "strip_bytes": machine.l1 * 3 // 4} for isa in core.offered_isas()]

    def reads_stored_dense(self, problem: Problem) -> bool:
        return problem.x_dtype in _STORED.get(problem.dtype, ())

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        isa, size = str(config["isa"]), problem.itemsize
        rows = problem.kernel[-2] if problem.ndim > 1 else 1
        rate = _GFLOPS[isa][rows == 1] * 1e9 * 4 / size
        lanes = _VECTOR_BYTES.get(isa, 16) // size
        x, y = math.prod(problem.x_shape), math.prod(problem.y_shape)
        columns = problem.out[-1] * (1 if problem.kernel[-1] > 1 else math.prod(problem.out[:-1]))
        products = problem.flops / rate * (-(-columns // lanes) * lanes / columns)
        if rows == 1 and problem.kernel[-1] > 1:
            # a load that straddles cache lines takes the time of 3 products, and serves one of
            # every `lanes` taps, up to 4
            served = problem.kernel[-1] / problem.stride[-1] / lanes
            products *= min(1.5, max(1.0, 3 / max(served, 1.0)))
        stored = numpy_dtype(problem.x_dtype).itemsize
        moved = x * stored + y * size
        seconds = products + moved / (_IN_PLACE if moved < machine.l3 else _MEMORY)
        if problem.filters > problem.channels:  # each filter's outputs apart from the others'
            seconds += y * size / _APART
        if problem.stride[-1] > 1 and columns < 16:  # neither whole vectors nor dense loads
            seconds += math.prod(problem.y_shape[:-1]) * _ROW
        seconds += problem.batch * problem.filters * _IMAGE
        x_rows, outer = math.prod(problem.x_shape[:-1]), 1.0
        if not _stacked(problem):
            for r, i, o in zip(problem.kernel[:-2], problem.size, problem.out):
                outer *= r * min(1.0, o / max(1, i))
        if _copied(problem) or math.prod(problem.kernel[:-2]) > 1:
            # once for each tap of the axes before the last two, unless planes are copied together
            halo = 1 + (rows - 1) / max(8, problem.out[0])
            seconds += outer * halo * (x * _SAMPLE + x_rows * _ROW)
        elif problem.boundary != "zeros" or (rows == 1 and any(problem.padding[-1])):
            seconds += 2 * x_rows * _ROW  # both ends of each row
        threads = min(useful_threads(problem), machine.cores)
        return 2e-6 + seconds / threads + (4e-6 if threads > 1 else 0.0)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "depthwise", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        # one running sum; Higham, section 3.1
        return (problem.taps + 1) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "depthwise", _values(config))


def _values(config: Config) -> tuple[int, ...]:
    return (int(config["strip_bytes"]),)


def _copied(problem: Problem) -> bool:
    """Whether rows of x are copied to strips rather than read where they are."""
    narrow = problem.boundary != "zeros" and problem.out[-1] < 256
    strided = problem.stride[-1] > 2 or problem.layout == "N*C"
    return narrow or strided or problem.x_dtype != problem.dtype


def _stacked(problem: Problem) -> bool:
    """Whether the planes of a volume are copied once for all taps that meet them.

    `cut_columns` of the driver, VOLUME_BYTES and VOLUME_ROWS, but for vectors of padding.
    """
    if problem.ndim < 3 or problem.boundary != "zeros" or _copied(problem):
        return False
    *outer, height, width = problem.size
    rows = (8 - 1) * problem.stride[-2] + problem.span[-2]
    columns = width + sum(problem.padding[-1])
    return math.prod(outer) * columns * min(rows, height) * problem.itemsize <= 1 << 18
