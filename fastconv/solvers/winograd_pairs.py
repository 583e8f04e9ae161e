"""winograd_pairs: F(2x2, 3x3) of bytes, exactly: transformed they are pairs of 16 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv._epilogue import Epilogue
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem, numpy_dtype
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, call_of, driver_bytes, useful_threads

_BYTES = ("i8", "u8")

#: Largest size of a weight. Those of 16 bits, as bytes less a zero point, are looked at when they
#: are packed.
_LARGEST = {"i8": 128, "u8": 255, "i16": 255}

#: Size that a sum stays below: four times it, the transformed one, fits 32 bits.
_MOST = 2**29

#: Measured 1e9 products a second of one core (Zen 3; with AVX-512 VNNI, Emerald Rapids), and
#: filters of a register tile, tiles of one.
_RATE = {"vnni": 110, "avx512": 80, "avx2": 80, "neon": 20, "baseline": 22}
_TILE = {"avx512": (8, 48), "avx2": (6, 16), "neon": (8, 12)}

#: Seconds (Zen 3): transforming two channels of a tile of samples, and a tile of sums with its
#: store; a register tile.
_INPUT, _OUTPUT, _CALL = 9e-9, 2e-9, 3e-9

#: Bytes a second of weights that L2 does not hold.
_STREAMED = 30e9


class WinogradPairs(Solver):
    name = "winograd_pairs"
    exact = True
    paper = (
        "Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4.1;"
        " of integers: Meng and Brothers, Efficient Winograd Convolution via Integer Arithmetic,"
        " 2019, section 3"
    )

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("i32", "u32"):
            return f"it sums in 32 bits, not {problem.dtype}"
        if problem.x_dtype not in _BYTES or problem.w_dtype not in _LARGEST:
            return f"it multiplies bytes, not {problem.x_dtype} by {problem.w_dtype}"
        if problem.y_dtype[0] not in "iu" or problem.y_dtype[1:] == "64":
            return f"it stores integers of up to 32 bits, not {problem.y_dtype}"
        if problem.kernel != (3, 3):
            return f"it has kernels of 3 x 3, not {' x '.join(map(str, problem.kernel))}"
        if max(*problem.stride, *problem.dilation, *problem.input_dilation) > 1:
            return "it takes neither strides nor dilation"
        if problem.boundary == "constant" and not _is_zero_point(problem):
            return f"{problem.cval} is no zero point of {problem.x_dtype}"
        if problem.boundary not in ("zeros", "constant") and any(map(any, problem.padding)):
            return f"its tiles are padded with one number, not {problem.boundary}"
        if problem.layout == "N*C":
            return "it stores rows of pixels, not of channels"
        if 9 * _channels(problem) * 255 * _LARGEST[problem.w_dtype] >= _MOST:
            return f"sums over {_channels(problem)} channels may not fit 30 bits"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        whole = machine.l2 if _weight_bytes(problem) > machine.l2 // 2 else machine.l2 // 4
        return [
            {"isa": isa, "tile_bytes": whole, "sum_bytes": machine.l2 // 4}
            for isa in core.offered_isas()
        ]

    def reads_stored(self, problem: Problem) -> bool:
        return problem.is_exact

    def writes_stored(self, problem: Problem) -> bool:
        return problem.is_exact

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        isa = str(config["isa"])
        rows, columns = _TILE.get(isa, (6, 8))
        pairs, filters = -(-_channels(problem) // 2), problem.filters // problem.groups
        tiles = math.prod(-(-n // 2) for n in problem.out)
        calls = 16 * -(-tiles // columns) * max(1, -(-filters // rows))
        rate = _RATE["vnni" if isa == "avx512" and not core.quads_absent() else isa]
        work = 16 * 2e-9 / rate * tiles * pairs * max(2, filters) + calls * _CALL
        work += tiles * (pairs * _INPUT + filters * _OUTPUT)
        blocks = max(1, 64 * pairs * tiles // int(config["tile_bytes"]))
        if _weight_bytes(problem) > machine.l2 // 2:
            work += blocks * _weight_bytes(problem) / problem.groups / _STREAMED
        work *= problem.batch * problem.groups
        threads = min(useful_threads(problem), machine.cores)
        pack = 0.0 if problem.prepared else 1e-6 + 6e-9 * math.prod(problem.w_shape)
        return 3e-6 + (work + pack) / threads + (4e-6 if threads > 1 else 0.0)

    def workspace(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "winograd_pairs", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return 0.0

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return WinogradPairsPlan(problem, self, config, machine)


class WinogradPairsPlan(DriverPlan):
    """Weights of 16 bits that are larger than a byte's differences go to the driver of `pairs`."""

    def __init__(self, problem: Problem, solver: Solver, config: Config, machine: Machine) -> None:
        super().__init__(problem, solver, config, "winograd_pairs", _values(config))
        # its panels, of 24 KB and less, and weights in L2
        self._of_pairs = machine.l2 // 4, 128, machine.l2 // 2, 0

    def pack(self, w: Array) -> Any:
        call, largest = self._call, _LARGEST[self.problem.w_dtype]
        if self.problem.w_dtype not in _BYTES and not (-largest <= w.min() <= w.max() <= largest):
            call = call_of(self.problem, self.solver, "pairs", self._isa, self._of_pairs)
        return call, call.pack(w)

    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        call, weights = packed
        call.run(x, weights, epilogue, y)


def _values(config: Config) -> tuple[int, ...]:
    return int(config["tile_bytes"]), int(config["sum_bytes"])


def _channels(problem: Problem) -> int:
    """Channels of a group."""
    return problem.channels // problem.groups


def _weight_bytes(problem: Problem) -> int:
    """Of the transformed weights."""
    return 64 * -(-_channels(problem) // 2) * problem.filters


def _is_zero_point(problem: Problem) -> bool:
    """Whether x less the constant is of at most 255."""
    info = np.iinfo(numpy_dtype(problem.x_dtype))
    return bool(info.min <= problem.cval.real <= info.max)
