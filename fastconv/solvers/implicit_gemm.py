"""implicit_gemm: register tiles with vectors of filters, pixels broadcast from x as it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fastconv._accuracy import SUM_BLOCK, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Measured GFLOP/s of one core (EPYC 9004) in full tiles of float32; float64 has half.
_GFLOPS = {"avx512": 112, "avx2": 100, "neon": 45, "baseline": 24}

#: Bytes of a vector, pixels of a tile (kernels/implicit_gemm.c).
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}
_PIXELS = {"avx512": 14, "neon": 14}

#: Measured seconds: a multiply-add to the next that needs it, a tile, a run of pixels under a tap.
_LATENCY, _TILE, _SEGMENT = 1.4e-9, 60e-9, 10e-9


class ImplicitGemm(Polyphase):
    name = "implicit_gemm"
    paper = (
        "Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3),"
        " 2008; Dukhan, The Indirect Convolution Algorithm, 2019"
    )
    scatter = 3e-9  # one by one, where the tile stores vectors

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64", "c64", "c128"):
            return f"it has no kernels for {problem.dtype}"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [
            {"isa": isa, "block_bytes": machine.l2 // 2, "taps": SUM_BLOCK, "across": across}
            for isa in core.offered_isas()
            for across in ((1, 0) if problem.batch >= 8 else (0,))
        ]

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        isa, across = str(config["isa"]), bool(config["across"])
        parts = 2 if problem.is_complex else 1
        size = problem.itemsize // parts
        lanes = _VECTOR_BYTES.get(isa, 16) // size
        filters = parts * problem.filters // problem.groups
        vectors = -(-filters // lanes)
        kernel, taps = math.prod(problem.kernel), parts * problem.taps
        t = _tiles(problem, isa, across)
        # a tap of a tile loads its weights in the time of half a pixel; less than _LATENCY it does
        # not take, however few its products
        vector = 2 * lanes / (_GFLOPS[isa] * 1e9 * 4 / size)
        pairs, odd = divmod(vectors, 2)
        work = taps * sum(
            count * max((t.pixels + 0.5) * many * vector, _LATENCY)
            for many, count in ((2, pairs), (1, odd))
        )
        # tables: a pointer a tap; where runs of pixels end, each tap looks for its segments and
        # copies rows of panels, slowly where x is not dense
        slow = parts > 1 or problem.stride[-1] > 1 or problem.layout == "N*C"
        row = 0.5e-9 * t.pixels if slow else 1.2e-9 * t.runs
        work += _TILE + taps * 0.3e-9 + vectors * 10e-9
        work += t.broken * kernel * _SEGMENT * t.runs + t.copied * taps * row
        work *= t.tiles
        if across:
            work += problem.batch * problem.channels * math.prod(problem.size) * 0.5e-9
        # stores are transposed by whole vectors of filters, else one by one
        # and so are parts, and images, each of which lies elsewhere
        apart = across or parts > 1
        whole = 0 if apart else filters // lanes * lanes
        one = 2e-9 if apart else 0.8e-9
        work += t.tiles * t.pixels * (whole * 0.3e-9 + (filters - whole) * one)
        # weights that L2 does not hold come from L3 at 90 GB/s, once a block of tiles
        weights = vectors * lanes * taps * size
        if weights > machine.l2 // 2:
            channels = max(1, min(taps // kernel, SUM_BLOCK // kernel))
            share = math.prod(problem.size) / math.prod(problem.out)
            samples = channels * (share if across else math.prod(problem.stride))
            kept = (vectors * lanes + samples) * size * t.pixels + 8 * min(taps, SUM_BLOCK)
            work += weights / 90e9 * max(1.0, t.tiles * kept / int(config["block_bytes"]))
        threads = min(useful_threads(problem), machine.cores)
        # weights are packed by whole vectors of filters and taps, or one by one
        pack = 0.0
        if not problem.prepared:
            by_ones = problem.flip or parts > 1 or filters < lanes
            each = 3e-9 if by_ones else 0.25e-9 if size == 4 else 0.8e-9
            pack = 1e-6 + math.prod(problem.w_shape) * parts * each
        return 2.5e-6 + work * problem.groups / threads + pack + (4e-6 if threads > 1 else 0.0)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "implicit_gemm", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        # blocks of whole channels where several fit, as in plan_taps of the driver
        kernel, most = math.prod(problem.kernel), int(config["taps"])
        channels = problem.channels // problem.groups * (2 if problem.is_complex else 1)
        if kernel <= most:
            blocks = -(-channels // (most // kernel))
            block = -(-channels // blocks) * kernel
        else:
            rows = -(-kernel // most)
            blocks, block = channels * rows, -(-kernel // rows)
        return (block + blocks) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "implicit_gemm", _values(config))


def _values(config: Config) -> tuple[int, ...]:
    return int(config["block_bytes"]), int(config["taps"]), int(config["across"])


class _Tiles(NamedTuple):
    """Tiles of a group, pixels and runs of pixels of each, the share of them whose pixels do not
    all lie in one row and inside x, and the share of their taps that must be copied."""

    tiles: int
    pixels: float
    runs: float
    broken: float
    copied: float


def _tiles(problem: Problem, isa: str, across: bool) -> _Tiles:
    most, outputs = _PIXELS.get(isa, 6), math.prod(problem.out)
    if across:
        sets = -(-problem.batch // most)
        return _Tiles(sets * outputs, problem.batch / sets, 1.0, 0.0, 0.0)
    row = problem.out[-1]
    of_row = -(-row // most)
    padded = any(problem.padding[-1])
    # rows of outputs whose windows lie inside x along all axes but the last
    inside = math.prod(
        max(0, 1 - (lo + hi) / u / out)
        for (lo, hi), u, out in zip(problem.padding[:-1], problem.stride, problem.out)
    )
    if row * 9 >= of_row * most * 7:
        # the first and the last tile of a row meet padding, under all taps of a row but one
        ends = min(1.0, 2 / of_row) if padded else 0.0
        share = ends * (1 - 1 / problem.kernel[-1]) / 2
        count = problem.batch * outputs // row * of_row
        broken = 1 - (1 - ends) * inside
        return _Tiles(count, row / of_row, 1.0, broken, min(1.0, share * 2 / 1.5))
    count = -(-problem.batch * outputs // most)
    runs = 1 + most / row
    broken = min(1.0, runs - inside)
    # a tap that starts where the output's row does goes on where the next row begins
    plain = 1 if problem.size[-1] == row and problem.stride[-1] == 1 else 0
    copied = broken * (1 - plain / problem.kernel[-1])
    return _Tiles(count, problem.batch * outputs / count, runs, broken, copied)
