"""fft: one Fourier transform over the whole extent of each image."""

from __future__ import annotations

from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.solvers import _fourier
from fastconv.solvers._fourier import FourierPlan, Layout


def layout(problem: Problem) -> Layout:
    whole = tuple(_fourier.whole_axis(problem, axis) for axis in range(problem.ndim))
    return _fourier.cut_plain(problem, whole)


class Fft(Solver):
    name = "fft"
    paper = _fourier.PAPER

    def why_not(self, problem: Problem) -> str | None:
        return _fourier.refuse(problem)

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        return _fourier.seconds(problem, layout(problem), machine)

    def workspace(self, problem: Problem, config: Config) -> int:
        return _fourier.workspace(problem, layout(problem))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return _fourier.error_bound(problem, _fourier.circle(layout(problem)))

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return FourierPlan(problem, self, config, layout(problem), machine)
