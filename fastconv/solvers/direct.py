"""direct: register tiles that read the input in place, blocked for cache, vectorised per ISA."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._accuracy import SUM_BLOCK, blocked_sum_bound
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes
from fastconv.solvers._polyphase import Polyphase

#: FC_PHASES of drivers/phase.h.
MAX_PHASES = 256


class Direct(Polyphase):
    name = "direct"
    paper = (
        "Zhang, Franchetti, Low, High Performance Zero-Memory Overhead Direct Convolutions,"
        " ICML 2018; Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication,"
        " ACM TOMS 34(3), 2008"
    )

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype in ("f80", "c160"):
            return "it has no kernels for long double"
        if phases(problem) > MAX_PHASES:
            return f"strides and kernel make more than {MAX_PHASES} phases"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        # planes of half of L2 leave the other half to weights and sums; longer bands copy less halo
        half = machine.l2 // 2
        return [
            {"isa": isa, "plane_bytes": size, "taps": SUM_BLOCK, "filters": 64}
            for isa in core.isas()
            for size in (half * 8, half)
        ]

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        return 1e-5

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, "direct", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return blocked_sum_bound(problem)

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "direct", _values(config))


def _values(config: Config) -> tuple[int, ...]:
    return int(config["plane_bytes"]), int(config["taps"]), int(config["filters"])


def phases(problem: Problem) -> int:
    """Stride phases that the driver keeps a plane for, over all axes."""
    return sum(
        min(r, u // math.gcd(u, l))
        for r, u, l in zip(problem.kernel, problem.stride, problem.dilation)
    )
