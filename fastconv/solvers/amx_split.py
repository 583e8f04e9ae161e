"""amx_split: float32 on tiles of AMX, operands split into parts of bfloat16."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import ClassVar

from fastconv._accuracy import SUM_BLOCK, allowed_error, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import HALVES, Plan
from fastconv._problem import Problem, once
from fastconv._solver import Config, Solver
from fastconv.solvers._amx import (
    CHANNELS,
    LEAST_COLUMNS,
    LEFT_OUT,
    LINE,
    MOST_RESIDUES,
    SIDE,
    SIZES,
    SPLIT_IN,
    why_no_tiles,
)
from fastconv.solvers._driver import DriverPlan, HalvesPlan, driver_bytes, useful_threads

#: Additions that a product goes through in a tile: 16 of every other channel, 1 of both halves.
_IN_TILE = SIDE + 1

#: Of tiles, to a sum before it is added to others: sums are then blocked ones of SUM_BLOCK.
_MOST = SUM_BLOCK - _IN_TILE

#: Measured seconds, one core of an Emerald Rapids at 2.3 GHz that its neighbours leave alone: a
#: product of two tiles, by number of products (the fewer, the more loads beside each; 6.9e-9
#: without any), splitting a sample into a part, storing a tile of sums, and what does not hide of
#: its outputs' way to memory, starting a unit.
_PRODUCT = {1: 8.5e-9, 3: 7.6e-9, 4: 7.5e-9, 6: 7.4e-9}
_PART, _TILE, _OUTPUT, _UNIT = 0.18e-9, 45e-9, 0.1e-9, 1e-6

#: Bytes a second that weights come at from beyond L2.
_WEIGHT_BYTES = 13e9

#: Seconds that a weight takes to pack from channels that lie apart; a guess.
_PACK = 3e-9

_ESTIMATES = {
    products: core.AmxSplitCost(
        product=seconds, part=_PART, tile=_TILE, output=_OUTPUT, unit=_UNIT,
        weight_bytes=_WEIGHT_BYTES, pack=_PACK, products=products, parts=SPLIT_IN[products],
        side=SIDE, channels=CHANNELS, line=LINE, least_columns=LEAST_COLUMNS, in_tile=_IN_TILE,
        left_out=LEFT_OUT[products], sizes=SIZES[products],
    )
    for products, seconds in _PRODUCT.items()
}  # fmt: skip


class AmxSplit(Solver):
    name = "amx_split"
    exact = False
    paper = (
        "Henry, Tang, Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype For"
        " Higher-Precision Computations, ARITH 2019"
    )
    #: Whether tiles are multiplied by C that does as the processor is documented to: for tests.
    emulated: ClassVar[bool] = False

    def why_not(self, problem: Problem) -> str | None:
        if (said := why_no_tiles(problem)) is not None:
            return said
        if not problem.is_dense:
            if any(e > 1 and u > 1 for e, u in zip(problem.input_dilation, problem.stride)):
                return "it takes input dilation, or a stride, not both along an axis"
            if (residues := math.prod(problem.input_dilation[-2:])) > MOST_RESIDUES:
                return f"outputs of {residues} residues, more than {MOST_RESIDUES}, are not woven"
        if self.emulated:
            return None
        channels = problem.channels // problem.groups
        if channels < CHANNELS and _stored(problem) not in HALVES:
            return f"a tile has {CHANNELS} channels, a group of this problem {channels}"
        return core.amx_absent()

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        """Fewest products first, of those whose bound the accuracy admits; six for strict."""
        products = {"bf16": [1], "f16": [3, 4]}.get(_stored(problem), [3, 4, 6])
        if problem.accuracy == "strict":
            products = products[-1:]
        # samples of 1x1 layers that lie as tiles have them are not worth more of a cache
        lies = problem.layout == "N*C" and math.prod(problem.kernel) == 1
        size = machine.l2 // (8 if lies else 2)
        if not self.emulated:
            return self._allowed(problem, _configs(tuple(products), size, _joins(problem)))
        found = self._allowed(problem, _configs(tuple(products), size, False))
        if _may_join(problem):
            found = [*found, *self._allowed(problem, _configs(tuple(products), size, True))]
        return [{"isa": core.isa(), **c} for c in found]

    def _allowed(self, problem: Problem, found: Sequence[Config]) -> Sequence[Config]:
        if len(found) == 1:
            return found
        allowed = allowed_error(problem)
        most = [c for c in found[:-1] if self.error_bound(problem, c) <= allowed]
        return [*most, found[-1]]

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        of = _ESTIMATES[int(config["products"])]
        return of.seconds(_laid_out(problem, config).geometry, machine, threads)

    def workspace(self, problem: Problem, config: Config) -> int:
        isa = str(config.get("isa", core.isa()))
        # a residual, an activation or several blocks of layers want y in float32
        wide = 4 * math.prod(problem.y_shape) if self.writes_stored(problem) else 0
        return wide + driver_bytes(problem, self, "amx_split", isa, self._values(problem, config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        products = int(config["products"])
        exact = (products, _stored(problem)) == (4, "f16")
        of = _ESTIMATES[products]
        geometry = _laid_out(problem, config).geometry
        return of.error_bound(geometry, config, epsilon(problem), exact)

    def reads_stored(self, problem: Problem) -> bool:
        return problem.x_dtype == "f16" or _stored(problem) == "bf16"

    def writes_stored(self, problem: Problem) -> bool:
        if problem.ndim > 2:  # y sums the taps of other axes
            return False
        return problem.y_dtype == problem.x_dtype and self.reads_stored(problem)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        values = self._values(problem, config)
        if not self.writes_stored(problem):
            return DriverPlan(problem, self, config, "amx_split", values)
        # between blocks of layers sums lie in y
        of = _ESTIMATES[int(config["products"])]
        rounds = of.is_one_block(_laid_out(problem, config).geometry, config)
        return HalvesPlan(problem, self, config, "amx_split", values, rounds)

    def _values(self, problem: Problem, config: Config) -> tuple[int, ...]:
        own = (int(config[name]) for name in ("products", "most", "cache_bytes"))
        return (*own, int(self.emulated), int(problem.layout == "N*C"), int("join" in config))


@functools.cache
def _configs(products: tuple[int, ...], size: int, join: bool) -> Sequence[Config]:
    way: Config = {"join": 1} if join else {}
    return [{"products": n, "most": _MOST, "cache_bytes": size, **way} for n in products]


def _may_join(problem: Problem) -> bool:
    """Whether few channels' samples under a row of the kernel can be the channels of a tile."""
    dense = problem.dilation[-1] == problem.input_dilation[-1] == 1
    return dense and problem.kernel[-1] > 1 and problem.channels // problem.groups < CHANNELS


def _joins(problem: Problem) -> bool:
    """Whether they are, as that takes half of the tiles or less."""
    channels, taps = problem.channels // problem.groups, problem.kernel[-1]
    return _may_join(problem) and 2 * -(-channels * taps // CHANNELS) <= taps


@once
def _joined(problem: Problem) -> Problem:
    return problem.replace(
        channels=problem.channels * problem.kernel[-1], kernel=(*problem.kernel[:-1], 1),
        size=(*problem.size[:-1], problem.out[-1]), padding=(*problem.padding[:-1], (0, 0)),
        stride=(*problem.stride[:-1], 1), layout="strided",
    )  # fmt: skip


def _laid_out(problem: Problem, config: Config) -> Problem:
    """The problem that tiles solve."""
    return _joined(problem) if "join" in config else problem


def _stored(problem: Problem) -> str:
    """What both x and w are stored in, or nothing."""
    return problem.x_dtype if problem.x_dtype == problem.w_dtype else ""
