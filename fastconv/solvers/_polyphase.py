"""Input dilation (transposed convolution) as several dense problems, one a phase of the output.

With input dilation e, output o only meets the taps r for which o*u + r*l - pad is a multiple of e.
Outputs of one residue share those taps, which form an arithmetic progression: each residue is a
problem without input dilation on a sub-sampled kernel, written to every e'-th output. No zero is
ever multiplied. (Crochiere and Rabiner, Multirate Digital Signal Processing, 1983, section 3.3.)
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
import math
from typing import Any, ClassVar

from fastconv._epilogue import NOTHING, Epilogue
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config, Solver


@dataclasses.dataclass(frozen=True)
class Phase:
    """A dense problem and the slices of x, w and y it works on; no problem where no tap meets."""

    problem: Problem | None
    x: tuple[slice, ...]
    w: tuple[slice, ...]
    y: tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One residue along one axis."""

    size: int
    kernel: int
    stride: int
    dilation: int
    padding: tuple[int, int]
    x: slice
    w: slice
    y: slice


_ALL = slice(None)


def _axis_phases(
    size: int, kernel: int, out: int, u: int, l: int, e: int, pad: int
) -> list[_Axis | slice]:
    """Residues along an axis; a bare slice of y where no tap meets the input."""
    period = e // math.gcd(u, e)
    found: list[_Axis | slice] = []
    for rho in range(min(period, out)):
        outputs = -(-(out - rho) // period)
        y = slice(rho, None, period)
        step = e // math.gcd(l, e)
        first = next((r for r in range(min(step, kernel)) if (rho * u + r * l - pad) % e == 0), -1)
        if first < 0:
            found.append(y)
            continue
        taps = -(-(kernel - first) // step)
        stride, dilation = u * period // e, step * l // e
        low = -((rho * u + first * l - pad) // e)
        high = (outputs - 1) * stride + (taps - 1) * dilation + 1 - size - low
        begin, end = max(0, -low), size - max(0, -high)
        if begin >= end:
            found.append(y)
            continue
        pads = (max(0, low), max(0, high))
        found.append(
            _Axis(end - begin, taps, stride, dilation, pads, slice(begin, end),
                  slice(first, None, step), y)
        )  # fmt: skip
    return found


@functools.lru_cache(maxsize=256)
def phases(problem: Problem) -> tuple[Phase, ...]:
    """The dense problems that `problem` splits into; together they write every output once."""
    per_axis = [
        _axis_phases(*axis)
        for axis in zip(
            problem.size, problem.kernel, problem.out, problem.stride, problem.dilation,
            problem.input_dilation, (lo for lo, _ in problem.padding),
        )
    ]  # fmt: skip
    result = []
    for combination in itertools.product(*per_axis):
        y = (_ALL, _ALL, *(a if isinstance(a, slice) else a.y for a in combination))
        axes = [a for a in combination if isinstance(a, _Axis)]
        if len(axes) < len(combination):
            result.append(Phase(None, (), (), y))
            continue
        dense = problem.replace(
            size=tuple(a.size for a in axes),
            kernel=tuple(a.kernel for a in axes),
            stride=tuple(a.stride for a in axes),
            dilation=tuple(a.dilation for a in axes),
            input_dilation=(),
            padding=tuple(a.padding for a in axes),
            flip=False,  # the whole kernel has been flipped before it is split
            x_dtype="", w_dtype="", y_dtype="", layout="strided",
        )  # fmt: skip
        x = (_ALL, _ALL, *(a.x for a in axes))
        w = (_ALL, _ALL, *(a.w for a in axes))
        result.append(Phase(dense, x, w, y))
    return tuple(result)


class PolyphasePlan(Plan):
    """Plans of the phases, run one after the other."""

    def __init__(
        self, problem: Problem, solver: Polyphase, config: Config, machine: Machine
    ) -> None:
        super().__init__(problem, solver, config)
        self._parts = [
            (p, solver.plan_dense(p.problem, config, machine) if p.problem else None)
            for p in phases(problem)
        ]

    def pack(self, w: Array) -> Any:
        return [plan.pack(w[part.w]) if plan else None for part, plan in self._parts]

    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        for (part, plan), weights in zip(self._parts, packed):
            own = None if epilogue is None else epilogue.part(part.y)
            if plan is not None:
                plan.execute(x[part.x], weights, own, y[part.y])
            else:
                (own or NOTHING).fill(y[part.y])


#: Seconds that packing a weight of a phase, apart from its neighbours, takes.
_SCATTERED_WEIGHT = 3e-9


class Polyphase(Solver):
    """A solver that need not know of input dilation: it implements the `_dense` methods."""

    #: Seconds that an output apart from its neighbours takes to store beyond those of a dense one.
    scatter: ClassVar[float] = 0.0

    @abc.abstractmethod
    def why_not_dense(self, problem: Problem) -> str | None:
        """`why_not` of a problem without input dilation."""

    def reads_stored_dense(self, problem: Problem) -> bool:
        """`reads_stored` of a problem without input dilation."""
        return False

    @abc.abstractmethod
    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        """`cost` of a problem without input dilation."""

    @abc.abstractmethod
    def workspace_dense(self, problem: Problem, config: Config) -> int:
        """`workspace` of a problem without input dilation."""

    @abc.abstractmethod
    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        """`plan` of a problem without input dilation."""

    #: More phases than this are so many small calls that their overhead is all there is.
    MAX_DENSE = 4096

    def why_not(self, problem: Problem) -> str | None:
        if problem.flops == 0:
            return "there is nothing to multiply"
        if problem.is_dense:
            return self.why_not_dense(problem)
        count = math.prod(problem.input_dilation)
        if count > self.MAX_DENSE:
            return f"input dilation makes {count} phases, more than {self.MAX_DENSE}"
        parts = [p.problem for p in phases(problem) if p.problem]
        if not parts:  # every tap falls between samples, or on padding
            return "there is nothing to multiply"
        return next((r for p in parts if (r := self.why_not_dense(p)) is not None), None)

    def reads_stored(self, problem: Problem) -> bool:
        # the phases of x are views that have no name in a problem's text
        return problem.is_dense and self.reads_stored_dense(problem)

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        if problem.is_dense:
            return self.cost_dense(problem, config, machine)
        parts = [p.problem for p in phases(problem) if p.problem]
        scattered = math.prod(problem.y_shape) * self.scatter / min(problem.threads, machine.cores)
        if not problem.prepared:
            scattered += math.prod(problem.w_shape) * _SCATTERED_WEIGHT
        return 1e-6 + sum(self.cost_dense(p, config, machine) for p in parts) + scattered

    def workspace(self, problem: Problem, config: Config) -> int:
        if problem.is_dense:
            return self.workspace_dense(problem, config)
        # packed weights of every phase live at once; adding whole workspaces bounds that
        return sum(self.workspace_dense(p.problem, config) for p in phases(problem) if p.problem)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        if problem.is_dense:
            return self.plan_dense(problem, config, machine)
        return PolyphasePlan(problem, self, config, machine)
