"""naive: the definition, written as loops in C. Solves everything; the baseline of every plot."""

from __future__ import annotations

import math

from fastconv._accuracy import epsilon
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, driver_bytes


class Naive(Solver):
    name = "naive"
    paper = "the definition; sums in the next wider type"

    #: Measured seconds a kernel tap takes (index arithmetic over all axes) and one product takes.
    _TAP, _PRODUCT = 6.5e-9, 0.9e-9

    def why_not(self, problem: Problem) -> str | None:
        return None if problem.device == "cpu" else "it runs on the CPU only"

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        outputs = math.prod(problem.y_shape)
        taps = outputs * math.prod(problem.kernel) * self._TAP
        products = outputs * problem.taps * self._PRODUCT * (3 if problem.is_complex else 1)
        lanes = max(1, min(problem.threads, machine.cores, problem.batch * problem.filters))
        return 1e-6 + (taps + products) / lanes

    def workspace(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "naive", "baseline", ())

    def error_bound(self, problem: Problem, config: Config) -> float:
        if problem.dtype in ("f80", "c160"):  # nothing wider to sum in
            return problem.taps * epsilon(problem)
        # one rounding at the end; the wider sum's own error is far below it, except where long
        # double is no wider than double
        return epsilon(problem) * (1 if problem.taps < 2**20 else 2)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "naive", ())
