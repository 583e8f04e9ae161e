"""fft: one Fourier transform over the whole extent of each image."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem, once
from fastconv._solver import Config, Solver
from fastconv.solvers import _fourier, _transforms
from fastconv.solvers._fourier import FourierPlan, Layout

#: Products of one core in direct tiles, of 4- and 8-byte elements.
_PRODUCTS_A_SECOND = (25e9, 12e9)


@once
def layout(problem: Problem) -> Layout:
    whole = tuple(_fourier.whole_axis(problem, axis) for axis in range(problem.ndim))
    return _fourier.cut_plain(problem, whole)


def _ends(problem: Problem) -> float:
    """Seconds that the guard takes at the ends of signals padded for a long kernel: a few products
    there are nothing to the largest of the whole signal, and one tile an end is done directly."""
    if problem.taps <= 4096 or problem.boundary != "zeros" or not any(map(any, problem.padding)):
        return 0.0
    tiles = 2 * problem.batch * problem.filters
    return tiles * 4096 * problem.taps / _PRODUCTS_A_SECOND[problem.itemsize >= 8]


class Fft(Solver):
    name = "fft"
    exact = False
    mixes_windows = True
    paper = _fourier.PAPER

    def why_not(self, problem: Problem) -> str | None:
        return _fourier.refuse(problem)

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        single = problem.dtype in ("f32", "f64", "c64", "c128")  # no long double but SciPy's
        return [{}, *({"library": name} for name in _transforms.installed() if single)]

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        seconds = _fourier.seconds(problem, layout(problem), machine)
        # of SciPy's transforms: only timing tells its libraries apart
        return seconds + min(_ends(problem), seconds / 2)

    def floor(self, problem: Problem, machine: Machine) -> float:
        return _fourier.floor(problem, machine)

    def workspace(self, problem: Problem, config: Config) -> int:
        return _fourier.workspace(problem, layout(problem))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return _fourier.error_bound(problem, _fourier.circle(layout(problem)))

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return FourierPlan(problem, self, config, layout(problem), machine)
