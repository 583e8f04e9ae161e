"""depthwise: one input channel a filter, vectorised along rows, x in place or copied amid zeros."""

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

#: Measured: bytes a second that x and y are read and written with in place, in cache, in memory,
#: and by several filters of a channel; seconds that copying a sample to a strip takes, a row of a
#: strip, and an image.
_IN_PLACE, _MEMORY, _APART = 60e9, 12e9, 30e9
_SAMPLE, _ROW, _IMAGE = 0.4e-9, 25e-9, 30e-9

#: Share of the products' time that volumes take whose planes are taps of one tile.
_DEEP = 0.6

#: Seconds that woven phases take beside products (Zen 3, one thread): a vector of outputs, a call
#: of the kernel, and a row of x to copy.
_WEAVE, _CALL, _COPY = 0.8e-9, 15e-9, 3e-9

#: Strides up to which rows are taken apart by shuffles (FC_DEPTHWISE_APART of the driver), and
#: seconds that a byte takes then beside the rest.
_APART_STRIDE, _SPLIT = 4, 0.015e-9

#: Most phases of rows that are woven: 8 is the most that upsampling layers are known to have.
_ROW_PHASES = 16


class Depthwise(Polyphase):
    name = "depthwise"
    paper = (
        "Zhang, Lo, Lu, High Performance Depthwise and Pointwise Convolutions on Mobile Devices,"
        " AAAI 2020"
    )
    revision = 3

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.channels != problem.groups:
            return "filters see more than one input channel"
        if problem.accumulator not in _SUMS:
            return f"it has no kernels for {problem.dtype}"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [{"isa": isa, "strip_bytes": machine.l1 // 2} for isa in core.offered_isas()]

    def reads_stored_dense(self, problem: Problem) -> bool:
        return problem.x_dtype in _STORED.get(problem.dtype, ())

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        isa, size = str(config["isa"]), problem.itemsize
        rows = problem.kernel[-2] if problem.ndim > 1 else 1
        rate = _GFLOPS[isa][rows == 1] * 1e9 * 4 / size
        lanes = _VECTOR_BYTES.get(isa, 16) // size
        x, y = math.prod(problem.x_shape), math.prod(problem.y_shape)
        columns = problem.out[-1] * (1 if problem.kernel[-1] > 1 else math.prod(problem.out[:-1]))
        vectors = -(-columns // lanes) / (2 if _paired(problem, lanes) else 1)
        products = problem.flops / rate * (vectors * lanes / columns)
        if rows == 1 and problem.kernel[-1] > 1:
            # a load that straddles cache lines takes the time of 3 products, and serves one of
            # every `lanes` taps, up to 4
            served = problem.kernel[-1] / problem.stride[-1] / lanes
            products *= min(1.5, max(1.0, 3 / max(served, 1.0)))
        if problem.ndim == 3 and problem.dtype in ("f32", "f64") and _stacked(problem):
            products *= _DEEP
        moved = x * numpy_dtype(problem.x_dtype).itemsize + y * size
        seconds = products + moved / (_IN_PLACE if moved < machine.l3 else _MEMORY)
        seconds += moved * _SPLIT * (2 < problem.stride[-1] <= _APART_STRIDE)
        if problem.filters > problem.channels:  # each filter's outputs apart from the others'
            seconds += y * size / _APART
        if problem.stride[-1] > 1 and columns < 16 and not _pictured(problem):
            # neither whole vectors nor dense loads
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
        elif problem.boundary != "zeros" or (rows == 1 < problem.ndim and any(problem.padding[-1])):
            seconds += 2 * x_rows * _ROW  # both ends of each row
        threads = min(useful_threads(problem), machine.cores)
        return 2e-6 + seconds / threads + (4e-6 if threads > 1 else 0.0)

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        if not _woven(problem):
            return super().cost(problem, config, machine)
        isa, size = str(config["isa"]), problem.itemsize
        lanes = _VECTOR_BYTES.get(isa, 16) // size
        columns = problem.out[-1]
        wide = -(-columns // (2 * lanes)) * 2 * lanes / columns  # of vectors, to outputs
        x, y = math.prod(problem.x_shape), math.prod(problem.y_shape)
        products = problem.flops / math.prod(problem.input_dilation)  # those that are there
        seconds = products / (_GFLOPS[isa][0] * 1e9 * 4 / size) * wide + y / lanes * wide * _WEAVE
        seconds += problem.batch * problem.filters * math.prod(problem.input_dilation[:-1]) * _CALL
        plain = problem.layout != "N*C"
        seconds += math.prod(problem.x_shape[:-1]) * _COPY + (0.0 if plain else (x + y) * _SAMPLE)
        moved = (x + y) * size
        seconds = max(seconds, moved / _MEMORY) if moved >= machine.l2 else seconds
        threads = min(useful_threads(problem), machine.cores)
        return 2e-6 + seconds / threads + (4e-6 if threads > 1 else 0.0)

    def workspace(self, problem: Problem, config: Config) -> int:
        if not _woven(problem):
            return super().workspace(problem, config)
        return self.workspace_dense(problem, config)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        if not _woven(problem):
            return super().plan(problem, config, machine)
        return self.plan_dense(problem, config, machine)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "depthwise", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        # one running sum; Higham, section 3.1
        return (problem.taps + 1) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "depthwise", _values(config))


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
    return (int(config["strip_bytes"]),)


def _copied(problem: Problem) -> bool:
    """Whether rows of x are copied to strips rather than read where they are."""
    narrow = problem.boundary != "zeros" and problem.out[-1] < 256
    strided = problem.stride[-1] > _APART_STRIDE or problem.layout == "N*C"
    return narrow or strided or problem.x_dtype != problem.dtype


def _pictured(problem: Problem) -> bool:
    """Whether narrow channels are copied amid zeros, each of them one call."""
    floats = problem.accumulator in ("f32", "f64") and not _copied(problem)
    return floats and problem.ndim == 2 and problem.boundary == "zeros" and problem.kernel[0] > 1


def _paired(problem: Problem, lanes: int) -> bool:
    """Whether two channels share vectors: `find_beside` of the driver."""
    u, pad = problem.stride[-1], problem.padding[-1][0]
    beyond = max(0, (problem.span[-1] - 1) // u - pad // u)
    apart = max(problem.out[-1] + beyond, -(-(pad + problem.size[-1]) // u))
    fits = lanes * problem.itemsize >= 64 and apart + problem.out[-1] <= lanes
    return fits and _pictured(problem)


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
