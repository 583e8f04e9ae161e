"""amx_gradient: gradients of weights on tiles of AMX, operands split into parts of bfloat16."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from fastconv._accuracy import allowed_error, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config, Solver
from fastconv.solvers._amx import LEFT_OUT, SIDE, SIZES, SPLIT_IN, why_no_tiles
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._gradient import PAIR, STEP, Block, block_of, steps_of

#: Additions that a product goes through in a tile: 16 of every other sample, 1 of both halves.
_IN_TILE = SIDE + 1

#: Most steps whose sums are added to others: sums are then blocked ones of some SUM_BLOCK.
_MOST_STEPS = 64

#: Fewest samples of a row, filters and images that are worth tiles.
_LEAST = 8

#: Measured seconds, one core of an Emerald Rapids at 2.3 GHz that its neighbours leave alone: a
#: product of two tiles, adding a block of four tiles of sums, a sample of w and of x in a part, an
#: output.
_PRODUCT, _ADD, _W_PART, _X_PART, _OUTPUT = 7.6e-9, 200e-9, 0.18e-9, 0.36e-9, 1.2e-9

#: Bytes a second that x and w come at from beyond L2, and y goes at, whose lines are fetched first.
_MEMORY = 15e9


class AmxGradient(Solver):
    name = "amx_gradient"
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
            return "it takes no input dilation"
        if self.emulated:
            return None
        outputs = math.prod(problem.out[-2:])
        if outputs > math.prod(problem.kernel[-2:]):
            return f"it has fewer outputs of an image than taps, not {outputs}"
        for what, count in (
            ("filters", problem.filters // problem.groups), ("images", problem.batch),
            ("samples under a kernel", problem.kernel[-1] * (1, *problem.kernel)[-2]),
        ):  # fmt: skip
            if count < _LEAST:
                return f"tiles are for {_LEAST} {what} or more, not {count}"
        return core.amx_absent()

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        """Fewest products first, of those whose bound the accuracy admits; six for strict."""
        found: list[Config] = []
        for products in (6,) if problem.accuracy == "strict" else (3, 4, 6):
            block = block_of(problem, products, machine.l2 // 2)
            found.append({"products": products, "steps": _MOST_STEPS, **block._asdict()})
        allowed = allowed_error(problem)
        found = [c for c in found if c["products"] == 6 or self.error_bound(problem, c) <= allowed]
        return [{"isa": core.isa(), **c} for c in found] if self.emulated else found

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        products, parts = int(config["products"]), SPLIT_IN[int(config["products"])]
        filters, images = problem.filters // problem.groups, problem.batch
        steps, sums = steps_of(problem, config)
        units = problem.groups * math.prod(problem.out[:-2])
        taps = math.prod(problem.out[-2:])
        pairs = -(-filters // PAIR) * -(-images // PAIR) * taps
        tiles = -(-filters // SIDE) * -(-images // SIDE) * taps
        seconds = steps * tiles * products * _PRODUCT + sums * pairs * _ADD
        samples = steps * STEP * parts
        seconds += samples * filters * _W_PART * -(-images // int(config["images"]))
        seconds += samples * images * _X_PART * -(-filters // int(config["filters"]))
        seconds += filters * images * taps * _OUTPUT
        moved = math.prod(problem.x_shape) + math.prod(problem.w_shape)
        moved = 4 * (moved + 2 * math.prod(problem.y_shape))
        seconds = units * seconds + (moved / _MEMORY if moved > machine.l2 else 0.0)
        threads = min(useful_threads(problem), machine.cores, units * pairs // taps)
        return 2e-6 + seconds / threads + (4e-6 if threads > 1 else 0.0)

    def workspace(self, problem: Problem, config: Config) -> int:
        weights = 4 * math.prod(problem.w_shape)  # copied where rows are not dense
        isa = str(config.get("isa", core.isa()))
        values = self._values(config)
        return weights + driver_bytes(problem, self, "amx_gradient", isa, values)

    def error_bound(self, problem: Problem, config: Config) -> float:
        """What is left out, and roundings of blocked sums: Higham, sections 3.1 and 4.2."""
        products = int(config["products"])
        steps, sums = steps_of(problem, config)
        additions = _IN_TILE + -(-steps // sums) * products + sums
        # and 1 for what may have been flushed beside an output above the limit (amx_split.c)
        return LEFT_OUT[products] + (additions * SIZES[products] + 1) * epsilon(problem) / 2

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return GradientPlan(problem, self, config, "amx_gradient", self._values(config))

    def _values(self, config: Config) -> tuple[int, ...]:
        names = ("products", "steps", *Block._fields)
        return (*(int(config[name]) for name in names), int(self.emulated))


class GradientPlan(DriverPlan):
    """Weights are read where they lie, and those that are not finite by the driver itself.

    They are as large as x: what is prepared is copied, as its array may change.
    """

    def pack(self, w: Array) -> Any:
        dense = w.strides[-1] == w.itemsize
        return self._call, w if dense and not self.problem.prepared else w.copy()
