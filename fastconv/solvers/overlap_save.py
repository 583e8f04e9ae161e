"""overlap_save: Fourier transforms of overlapping blocks that suit the kernel and the cache.

Each block gives the outputs whose windows it holds whole; the rest of its circle is discarded.
Memory is bounded by the blocks in flight, whatever the length of the input.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Sequence

from fastconv._machine import Machine, this_machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.solvers import _fourier
from fastconv.solvers._fourier import Axis, FourierPlan, Layout

#: Settings that are offered: the best by the cost model, for the planner to time.
_OFFERED = 4

#: Blocks of about these many spans discard 1/2 to 1/32 of each transform; longer ones would gain
#: less than the longer transform costs.
_SPANS = (2, 3, 4, 6, 8, 16, 32)


def axis_cuts(problem: Problem, axis: int) -> list[Axis]:
    """Ways to cut one axis, the last of which is not to."""
    whole = _fourier.whole_axis(problem, axis)
    span, u = problem.span[axis], problem.stride[axis]
    if whole.plain:
        return [whole]
    lengths = {_fourier.good_length(span * m, problem) for m in _SPANS}
    if problem.ndim == 1:  # short kernels: blocks long enough to outweigh the cost of a call
        lengths |= {1 << e for e in range(8, 17) if 1 << e >= 2 * span}
    cuts = [_fourier.block_axis(problem, axis, n) for n in sorted(lengths) if n >= span + u - 1]
    return [c for c in cuts if c.kept < whole.kept] + [whole]


def layouts(problem: Problem, machine: Machine) -> dict[str, Layout]:
    """The cuts that cost least, best first, without the one that cuts nothing; by their names."""
    # what is offered depends on the shape alone, so that a plan's config is legal for a plain call
    return _layouts(problem.replace(prepared=True, threads=1, accuracy="balanced"), machine)


@functools.lru_cache(64)
def _layouts(problem: Problem, machine: Machine) -> dict[str, Layout]:
    found = {}
    for cut in itertools.product(*(axis_cuts(problem, axis) for axis in range(problem.ndim))):
        cut = _fourier.cut_plain(problem, cut)
        if any(a.kept < out and not a.plain for a, out in zip(cut, problem.out)):
            found["x".join(str(a.n) for a in cut)] = cut
    best = heapq.nsmallest(
        _OFFERED, found, key=lambda name: _fourier.seconds(problem, found[name], machine)
    )
    return {name: found[name] for name in best}


class OverlapSave(Solver):
    name = "overlap_save"
    paper = (
        "Stockham, High-speed convolution and correlation (1966); Oppenheim and Schafer,"
        " Discrete-Time Signal Processing (3rd ed.), section 8.7.3; error as for fft"
    )

    def why_not(self, problem: Problem) -> str | None:
        reason = _fourier.refuse(problem)
        if reason is None and not layouts(problem, this_machine()):
            reason = "the input is not longer than a block of two kernels: that is fft"
        return reason

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [{"block": name} for name in layouts(problem, machine)]

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        return _fourier.seconds(problem, _layout(problem, config, machine), machine)

    def workspace(self, problem: Problem, config: Config) -> int:
        return _fourier.workspace(problem, _layout(problem, config, this_machine()))

    def error_bound(self, problem: Problem, config: Config) -> float:
        layout = _layout(problem, config, this_machine())
        return _fourier.error_bound(problem, _fourier.circle(layout))

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return FourierPlan(problem, self, config, _layout(problem, config, machine), machine)


def _layout(problem: Problem, config: Config, machine: Machine) -> Layout:
    return layouts(problem, machine)[str(config["block"])]
