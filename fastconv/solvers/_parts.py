"""Layers of 16-bit floats and many groups, a part of them at a time: in float32, L2 holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastconv._epilogue import NOTHING, Epilogue
from fastconv._ext import core
from fastconv._plan import Plan
from fastconv._problem import Array, Problem, once
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan


class Part(NamedTuple):
    """Some images, or some groups of one, in float32."""

    problem: Problem
    images: slice
    groups: slice
    filters: slice


@once
def _parts(problem: Problem, most: int, threads: int) -> Sequence[Part]:
    """As few as there can be whose x and y, in float32, are of about `most` bytes."""
    g, n, m = problem.groups, problem.batch, problem.filters // problem.groups
    image = 4 * (math.prod(problem.x_shape[1:]) + math.prod(problem.y_shape[1:]))
    several = max(1, min(n, most // max(1, image)))
    some = g if image <= most else max(1, g * most // image)
    some = -(-g // -(-g // some))  # the first as large as each other
    found = []
    for i in range(0, n, several):
        for c in range(0, g, some):
            images, groups = slice(i, min(n, i + several)), slice(c, min(g, c + some))
            count = groups.stop - c
            part = problem.replace(
                batch=images.stop - i, channels=count, filters=count * m, groups=count,
                x_dtype="", w_dtype="", y_dtype="", layout="strided", threads=threads,
            )  # fmt: skip
            found.append(Part(part, images, groups, slice(c * m, groups.stop * m)))
    return found


def parts_of(problem: Problem, config: Config) -> Sequence[Part]:
    """Those of a config, which says how large they are."""
    return _parts(problem, int(config["part_bytes"]), problem.threads)


class PartsPlan(Plan):
    """Parts one after the other, whose conversions L2 holds. y may be in float32, too."""

    finishes_wide = True

    def __init__(
        self, problem: Problem, solver: Solver, config: Config, driver: str, values: tuple[int, ...]
    ) -> None:
        super().__init__(problem, solver, config)
        self._parts = parts_of(problem, config)
        plans = {
            part: DriverPlan(part, solver, config, driver, values)
            for part in {part.problem for part in self._parts}
        }
        self._plans = [plans[part.problem] for part in self._parts]

    def pack(self, w: Array) -> Any:
        packed = {}  # images share their weights
        for part, plan in zip(self._parts, self._plans):
            key = part.groups.start, plan
            if key not in packed:
                packed[key] = plan.pack(w[part.filters])
        return [packed[part.groups.start, plan] for part, plan in zip(self._parts, self._plans)]

    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        bias, residual, activation = epilogue or NOTHING
        threads = self.problem.threads
        for part, plan, weights in zip(self._parts, self._plans, packed):
            at = part.images, part.filters
            wide = y[at] if y.dtype == self._dtype else core.empty(plan.y_shape, self._dtype)
            own = Epilogue(
                None if bias is None else bias[part.filters],
                None if residual is None else residual[at], activation,
            )  # fmt: skip
            from_x = x[part.images, part.groups]
            if x.dtype != self._dtype:
                from_x = core.widen(from_x, threads)
            plan.execute(from_x, weights, own, wide)
            if y.dtype != self._dtype:
                core.narrow(wide, y[at], threads)
