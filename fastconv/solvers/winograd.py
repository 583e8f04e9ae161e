"""winograd: 3x3 kernels with 2.25 (m = 2) or 4 (m = 4) times fewer products, guarded."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv._accuracy import epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes
from fastconv.solvers._polyphase import Polyphase

#: Bound on abs(error) / B in eps, by m: B is the largest abs(x) of a tile times sum(abs(w)). The
#: largest seen on random, two-valued and near-sparse data were 3.4 and 20.2 (docs/accuracy.md).
BOUND = {2: 8, 4: 32}


class Winograd(Polyphase):
    name = "winograd"
    paper = (
        "Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; error analysis"
        " after Barabasz et al., ACM TOMS 46(4), 2020"
    )

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64"):
            return f"its transforms are for f32 and f64, not {problem.dtype}"
        if problem.kernel != (3, 3):
            return "the kernel is not 3x3"
        if set(problem.stride) != {1} or set(problem.dilation) != {1}:
            return "stride and dilation are not 1"
        if problem.accuracy == "strict":
            return "its error is relative to a tile of the input, not to an output's own window"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [
            {"isa": isa, "m": m, "plane_bytes": machine.l2 // 4}
            for isa in core.isas()
            for m in (4, 2)
        ]

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        return 1e-4

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, "winograd", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return BOUND[int(config["m"])] * epsilon(problem)

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "winograd", _values(config))


def _values(config: Config) -> tuple[int, ...]:
    m = int(config["m"])
    # twice the bound: what is left above it has at least one correct digit
    return int(config["plane_bytes"]), 2 * BOUND[m], m
