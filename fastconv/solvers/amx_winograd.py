"""amx_winograd: Winograd of 3 x 3 on tiles of AMX, operands split into parts of bfloat16."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from fastconv._accuracy import SUM_BLOCK, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.solvers._amx import why_no_tiles
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads

#: Rows and columns of a tile of sums, channels of a step, products of parts, tiles of a block whose
#: weights L2 does not hold (drivers/amx_winograd.c).
_SIDE, _CHANNELS, _PRODUCTS, _LARGE = 16, 32, 6, 256

#: By outputs of a tile, along an axis: how much the transforms can make of a rounding error, K of
#: docs/accuracy.md, of both axes; the share of it that errors of transforms and parts reach, in
#: eps, for any filter and for the one at hand.
_GROWTH = {4: 14.3**2, 3: 8.2**2}
_SHARE = {4: (0.8, 1.3), 3: (1.0, 1.6)}

#: What each addition of a sum over channels adds, in eps B, as in `winograd`; additions of a tile.
_ADDITION, _IN_TILE = 0.06, _SIDE + 1

#: Channels whose products make up at most SUM_BLOCK additions.
_MOST_CHANNELS = (SUM_BLOCK - _IN_TILE) // _PRODUCTS * _CHANNELS

#: Measured seconds, one core of an Emerald Rapids at 2.3 GHz that its neighbours leave alone: a
#: product of two tiles, storing a tile of sums, a point of 32 channels of a tile from samples to
#: parts, a point of 16 filters of a tile from sums to y.
_PRODUCT, _STORE, _INPUT, _OUTPUT = 7.0e-9, 10e-9, 15e-9, 7e-9

#: Bytes a second beyond L2, of weights, and of parts and sums.
_WEIGHT_BYTES, _MOVED_BYTES = 20e9, 14e9

#: Seconds that a channel of a filter takes to transform and pack; a guess.
_PACK = 150e-9

_ESTIMATE = core.AmxWinogradCost(
    product=_PRODUCT, store=_STORE, input=_INPUT, output=_OUTPUT, weight_bytes=_WEIGHT_BYTES,
    moved_bytes=_MOVED_BYTES, pack=_PACK, products=_PRODUCTS, side=_SIDE, channels=_CHANNELS,
    large=_LARGE,
)  # fmt: skip


class AmxWinograd(Solver):
    name = "amx_winograd"
    exact = False
    mixes_windows = True
    paper = (
        "Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; Henry, Tang,"
        " Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision"
        " Computations, ARITH 2019"
    )
    #: Whether tiles are multiplied by C that does as the processor is documented to: for tests.
    emulated: ClassVar[bool] = False

    def why_not(self, problem: Problem) -> str | None:
        if (said := why_no_tiles(problem)) is not None:
            return said
        if problem.kernel != (3, 3):
            return f"it has kernels of 3 x 3, not {' x '.join(map(str, problem.kernel))}"
        if max(*problem.stride, *problem.input_dilation, 1) > 1:
            return "it takes no strides"
        for pads, dilation in zip(problem.padding, problem.dilation):
            if max(pads) > 2 * dilation:
                return "windows lie wholly in the padding"
        if problem.layout == "N*C":
            return "it stores rows of pixels, not of channels"
        if problem.accuracy == "strict":
            return "its error is relative to a tile of the input, not to an output's own window"
        if _channels(problem) > _MOST_CHANNELS:
            return f"it sums at most {_MOST_CHANNELS} channels"
        if self.emulated:
            return None
        if _channels(problem) < _CHANNELS:
            return f"a tile has {_CHANNELS} channels, a group of this problem {_channels(problem)}"
        return core.amx_absent()

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        sizes = (4, 3) if _products(problem, 3) < _products(problem, 4) else (4,)
        found: list[Config] = [{"m": m, "cache_bytes": machine.l2 // 2} for m in sizes]
        return [{"isa": core.isa(), **c} for c in found] if self.emulated else found

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        return _ESTIMATE.seconds(problem.geometry, config, machine, threads)

    def workspace(self, problem: Problem, config: Config) -> int:
        isa = str(config.get("isa", core.isa()))
        return driver_bytes(problem, self, "amx_winograd", isa, self._values(problem, config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Of the transforms and of what six products leave out, and of sums over channels."""
        m = int(config["m"])
        return (_SHARE[m][0] * _GROWTH[m] + _sum_error(problem)) * epsilon(problem)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "amx_winograd", self._values(problem, config))

    def _values(self, problem: Problem, config: Config) -> tuple[int, ...]:
        m = int(config["m"])
        errors = (math.ceil(1000 * e) for e in (_SHARE[m][1], _sum_error(problem)))
        return (int(config["cache_bytes"]), *errors, m, int(self.emulated))


def _channels(problem: Problem) -> int:
    """Channels of a group."""
    return problem.channels // problem.groups


def _products(problem: Problem, m: int) -> int:
    return core.amx_winograd_tiles(problem.geometry, m) * (m + 2) ** 2


def _sum_error(problem: Problem) -> float:
    steps = -(-_channels(problem) // _CHANNELS)
    return _ADDITION * (_IN_TILE + _PRODUCTS * steps)
