"""winograd: fewer products for kernels of 3 or 5 along one or two axes, guarded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._accuracy import epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Channels that the driver sums at a time (FC_WINOGRAD_CHANNELS of fc.h).
_CHANNELS = 32

#: By m, the bound on abs(error) / B in eps of the transforms, and what each addition in a sum over
#: channels adds to it; B is the largest abs(x) of a tile times sum(abs(w)). The largest seen were
#: 3.4 and 20.2 for one channel, and 0.014 and 0.022 an addition for data of one sign, whose
#: roundings have one sign too (docs/accuracy.md).
_BOUND = {2: (6, 0.03), 4: (26, 0.06)}

#: An output this many times its error has a correct decimal digit: abs(y) > 11 e leaves S > 10 e.
_DIGIT = 11


def bound(problem: Problem, m: int) -> float:
    """Bound on abs(error) / B, in eps."""
    channels = problem.channels // problem.groups
    additions = min(channels, _CHANNELS) + channels / _CHANNELS
    transform, addition = _BOUND[m]
    return transform + addition * additions


#: Measured GFLOP/s of one core in the products (EPYC 9004): only ratios matter to the planner.
_GFLOPS = {"avx512": 105, "avx2": 80, "neon": 45, "baseline": 26}


#: Measured seconds that transforming one 3x3 filter of one channel takes, by m.
_PACK = {2: 55e-9, 4: 190e-9}


def transformed(problem: Problem) -> tuple[int, ...]:
    """The axes that are transformed: the innermost and the one before it, where they can be."""
    can = [d for d in range(problem.ndim) if problem.kernel[d] in (3, 5) and problem.stride[d] == 1]
    last = problem.ndim - 1
    return tuple(can[-2:] if last in can else can[-1:])


class Winograd(Polyphase):
    name = "winograd"
    paper = (
        "Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; error analysis"
        " after Barabasz et al., ACM TOMS 46(4), 2020"
    )
    revision = 2

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64"):
            return f"its transforms are for f32 and f64, not {problem.dtype}"
        if not transformed(problem):
            return "no axis has a kernel of 3 or 5 and stride 1"
        if problem.accuracy == "strict":
            return "its error is relative to a tile of the input, not to an output's own window"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [
            {"isa": isa, "m": m, "cache_bytes": machine.l2 // 2}
            for isa in core.isas()
            for m in (4, 2)
        ]

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        m, isa = int(config["m"]), str(config["isa"])
        size = problem.itemsize
        channels = problem.channels // problem.groups
        filters = -(-problem.filters // problem.groups // 8) * 8
        images = problem.batch * problem.groups
        tiles = math.prod(problem.out) / m ** len(transformed(problem))
        points = (m + 2) ** len(transformed(problem))
        rate = _GFLOPS[isa] * 1e9 * 4 / size
        products = 2 * points * channels * filters * tiles / rate
        lanes = min(useful_threads(problem), machine.cores)
        transforms = 0 if problem.prepared else problem.filters * channels
        return 3e-6 + images * products * 1.3 / lanes + transforms * _PACK[m]

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "winograd", str(config["isa"]), _values(problem, config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return bound(problem, int(config["m"])) * epsilon(problem)

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "winograd", _values(problem, config))


def _values(problem: Problem, config: Config) -> tuple[int, ...]:
    m = int(config["m"])
    lines = sum((m if problem.kernel[d] == 3 else 2) << 8 * d for d in transformed(problem))
    return int(config["cache_bytes"]), math.ceil(_DIGIT * bound(problem, m)), lines
