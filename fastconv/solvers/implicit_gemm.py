"""implicit_gemm: register tiles with vectors of filters, pixels broadcast from x as it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._accuracy import SUM_BLOCK, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Measured GFLOP/s of one core (EPYC 9004) in full tiles of float32; float64 has half.
_GFLOPS = {"avx512": 106, "avx2": 100, "neon": 45, "baseline": 24}

#: Bytes of a vector, pixels of a tile (kernels/implicit_gemm.c).
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}
_PIXELS = {"avx512": 14, "neon": 14}


class ImplicitGemm(Polyphase):
    name = "implicit_gemm"
    paper = (
        "Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3),"
        " 2008; Dukhan, The Indirect Convolution Algorithm, 2019"
    )

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64", "c64", "c128"):
            return f"it has no kernels for {problem.dtype}"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [
            {"isa": isa, "block_bytes": machine.l2 // 2, "taps": SUM_BLOCK, "across": across}
            for isa in core.isas()
            for across in ((1, 0) if problem.batch >= 8 else (0,))
        ]

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        isa = str(config["isa"])
        parts = 2 if problem.is_complex else 1
        size = problem.itemsize // parts
        lanes = _VECTOR_BYTES.get(isa, 16) // size
        filters = parts * problem.filters // problem.groups
        padded = -(-filters // lanes) * lanes
        taps = parts * problem.taps
        pixels = problem.batch * math.prod(problem.out) * problem.groups
        seconds = 2 * pixels * padded * taps / (_GFLOPS[isa] * 1e9 * 4 / size)
        threads = min(useful_threads(problem), machine.cores)
        return 2e-6 + seconds / threads

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "implicit_gemm", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        taps = problem.taps * (2 if problem.is_complex else 1)
        block = max(1, min(taps, int(config["taps"])))
        return (block + 2 * math.ceil(taps / block)) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "implicit_gemm", _values(config))


def _values(config: Config) -> tuple[int, ...]:
    return int(config["block_bytes"]), int(config["taps"]), int(config["across"])
