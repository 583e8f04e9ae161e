"""amx_split: float32 on tiles of AMX, operands split into parts of bfloat16."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from fastconv._accuracy import SUM_BLOCK, allowed_error, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Rows and columns of a tile of sums, channels of a step, least steps of a slice
#: (drivers/amx_split_plan.c).
_SIDE, _CHANNELS, _LEAST_STEPS = 16, 32, 4

#: By number of products of parts: what is left out, relative to abs(w) * abs(x), and the sum of the
#: sizes of what is multiplied. Parts are at most 1 + 2^-8, 2^-8 and 2^-17 of the operand.
_LEFT_OUT = {3: 2.0**-15 + 2.0**-33, 4: 2.0**-16 + 2.0**-33, 6: 2.0**-24 + 2.0**-33}
_PARTS = (1 + 2.0**-8, 2.0**-8, 2.0**-17)
_SIZES = {
    3: _PARTS[0] ** 2 + 2 * _PARTS[0] * _PARTS[1],
    4: (_PARTS[0] + _PARTS[1]) ** 2,
    6: (_PARTS[0] + _PARTS[1]) ** 2 + 2 * _PARTS[0] * _PARTS[2],
}

#: Additions that a product goes through in a tile: 16 of every other channel, 1 of both halves.
_IN_TILE = _SIDE + 1

#: Of tiles, to a sum before it is added to others: sums are then blocked ones of SUM_BLOCK.
_MOST = SUM_BLOCK - _IN_TILE

#: GFLOP/s of products of tiles on one core. Not measured with this code. A sketch without cache
#: blocks made 860 to 1780 of 3135 (3x3, 64 @ 224x224, 128 @ 28x28), splitting included.
_GFLOPS = 1200.0

#: Seconds that splitting a sample takes, an output to store, and an image. Reckoned, not measured:
#: some 60 instructions for 32 samples; a line of y for a line of sums.
_SPLIT, _STORE, _UNIT = 0.3e-9, 0.2e-9, 1e-6

#: Seconds that a weight takes to pack from channels that lie apart; a guess.
_PACK = 3e-9


class AmxSplit(Polyphase):
    name = "amx_split"
    paper = (
        "Henry, Tang, Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype For"
        " Higher-Precision Computations, ARITH 2019"
    )
    #: Whether tiles are multiplied by C that does as the processor is documented to: for tests.
    emulated: ClassVar[bool] = False

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype != "f32":
            return f"its tiles sum in f32, not {problem.dtype}"
        if problem.boundary != "zeros" and any(map(any, problem.padding)):
            return f"it pads with zeros, not {problem.boundary}"
        if problem.layout == "N*C":
            return "it stores rows of pixels, not of channels"
        if self.emulated:
            return None
        channels = problem.channels // problem.groups
        if channels < _CHANNELS:
            return f"a tile has {_CHANNELS} channels, a group of this problem {channels}"
        return core.amx_absent()

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        """Fewest products first, of those whose bound the accuracy admits; six for strict."""
        products = [6]
        if problem.accuracy != "strict":
            allowed = allowed_error(problem)
            products = [n for n in (3, 4) if _bound(problem, n) <= allowed] + products
        found: list[Config] = [
            {"products": n, "most": _MOST, "cache_bytes": machine.l2 // 2} for n in products
        ]
        return [{"isa": core.isa(), **c} for c in found] if self.emulated else found

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        filters, channels = (n // problem.groups for n in (problem.filters, problem.channels))
        rows = math.prod(problem.out[:-1])
        across = (problem.kernel[-1] - 1) * problem.dilation[-1] // problem.stride[-1]
        # positions between rows are computed too; filters and channels fill whole tiles
        pixels = -(-rows * (problem.out[-1] + across) // _SIDE) * _SIDE
        whole = -(-filters // _SIDE) * _SIDE * -(-channels // _CHANNELS) * _CHANNELS
        kernel, images = math.prod(problem.kernel), problem.batch * problem.groups
        flops = 2.0 * images * pixels * whole * kernel
        seconds = flops * int(config["products"]) / (_GFLOPS * 1e9)
        read = images * channels * math.prod(problem.padded)
        seconds += read * _SPLIT + math.prod(problem.y_shape) * _STORE
        threads = min(useful_threads(problem), machine.cores)
        seconds = 2e-6 + images * _UNIT + seconds / threads + (4e-6 if threads > 1 else 0.0)
        return seconds + (0.0 if problem.prepared else 1e-6 + math.prod(problem.w_shape) * _PACK)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        isa = str(config.get("isa", core.isa()))
        return driver_bytes(problem, self, "amx_split", isa, self._values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return _bound(problem, int(config["products"]), int(config["most"]))

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "amx_split", self._values(config))

    def _values(self, config: Config) -> tuple[int, ...]:
        own = (int(config[name]) for name in ("products", "most", "cache_bytes"))
        return (*own, int(self.emulated))


def _bound(problem: Problem, products: int, most: int = _MOST) -> float:
    """What is left out, and roundings of blocked sums of tiles: Higham, sections 3.1 and 4.2."""
    taps = math.prod(problem.kernel[-2:])
    tiles = max(1, -(-(problem.channels // problem.groups) // _CHANNELS))
    depth = min(tiles, -(-_LEAST_STEPS // taps))
    slices = -(-tiles // depth)
    block = min(slices, max(1, most // (depth * taps * products)))
    blocks = -(-slices // block) * math.prod(problem.kernel[:-2])
    additions = _IN_TILE + min(block * depth, tiles) * taps * products + blocks
    # and 1 for what may have been flushed beside an output above the limit (drivers/amx_split.c)
    return _LEFT_OUT[products] + (additions * _SIZES[products] + 1) * epsilon(problem) / 2
