"""implicit_gemm: register tiles with vectors of filters, pixels broadcast from x as it lies."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from fastconv._accuracy import SUM_BLOCK, epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._pixel_tiles import PIXELS, one_tap
from fastconv.solvers._polyphase import Polyphase

#: Measured GFLOP/s of one core in full tiles of float32 (avx512: Emerald Rapids); float64 has half.
_GFLOPS = {"avx512": 130, "avx2": 100, "neon": 45, "baseline": 24}

#: Bytes of a vector (kernels/implicit_gemm.c).
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}

#: Measured seconds: a multiply-add to the next that needs it, a tile, a tap of the kernel whose
#: pixels are looked for.
_LATENCY, _TILE, _SEGMENT = 1.4e-9, 60e-9, 12e-9

#: By pixels of a tile: what loads of weights add to a tap, in pixels (6: 102 GFLOP/s of 104 from
#: L1), and the seconds of a call for each vector.
_LOADS, _CALL = {6: 0.0, 14: 0.5}, {6: 3e-9, 14: 10e-9}

#: Measured seconds (Zen 3, one thread) that a copied tap of a tile takes: for each 16 bytes, by the
#: stride of its pixels; for each pixel at other strides.
_PIECE, _ONE = {1: 0.35e-9, 2: 0.6e-9}, 0.4e-9

#: Seconds that a tap waits for x, when each lies in a page and a cache line of its own: 1x1, 256 to
#: 64 @ 56x56 takes 1.49 ms so, 1.30 copied (avx512: 1.20, 1.06). NEON's are reckoned.
_FAR = {"avx512": 0.8e-9, "avx2": 0.6e-9, "baseline": 0.6e-9, "neon": 0.4e-9}
_PAGE = 4096

#: A line of x, in place by strides of 3 and more: 1x1, 512 to 64 @ 80x120 12.7 ms, copied 6.3.
_SKIPPED = 15e-9

#: What waiting adds to products where channels lie whole pages apart, in the same sets of a cache
#: (3x3, 64 @ 64x64: 4.6 ms in place, 3.6 from bands); seconds that a sample takes to a band, one
#: beyond x that x has, too, and another, which is filled with its plane.
_ALIASED, _BAND, _PADDING, _FILL = 0.6, 0.15e-9, 5e-9, 0.03e-9

_ESTIMATES = {
    isa: core.ImplicitGemmCost(
        gflops=gflops, vector_bytes=_VECTOR_BYTES.get(isa, 16), pixels=PIXELS.get(isa, 6),
        page=_PAGE, loads=_LOADS[PIXELS.get(isa, 6)], call=_CALL[PIXELS.get(isa, 6)],
        latency=_LATENCY, tile=_TILE, segment=_SEGMENT, one=_ONE, far=_FAR[isa], skipped=_SKIPPED,
        aliased=_ALIASED, band=_BAND, padding=_PADDING, fill=_FILL,
        piece=(0.0, _PIECE[1], _PIECE[2]),
    )
    for isa, gflops in _GFLOPS.items()
}  # fmt: skip


class ImplicitGemm(Polyphase):
    name = "implicit_gemm"
    exact = False
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
        kernel = 1 if problem.is_complex else math.prod(problem.kernel)
        across = problem.batch >= 8 and problem.is_dense
        return _configs(min(kernel, SUM_BLOCK + 1), across, machine.l1, machine.l2 // 2)

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        estimate = _ESTIMATES[str(config["isa"])]
        return estimate.seconds(problem.geometry, config, machine, threads)

    def why_not(self, problem: Problem) -> str | None:
        if problem.flops and one_tap(problem) is not None:
            return self.why_not_dense(problem)
        return super().why_not(problem)

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        dense = one_tap(problem)
        if dense is None:
            return super().cost(problem, config, machine)
        # pairs are stored side by side, other phases one by one
        one = 0.1e-9 if problem.input_dilation[-1] == 2 else 0.5e-9
        scatter = math.prod(problem.y_shape) * one
        threads = min(useful_threads(problem), machine.cores)
        return self.cost_dense(dense.on(problem.threads), config, machine) + scatter / threads

    def workspace(self, problem: Problem, config: Config) -> int:
        if one_tap(problem) is not None:
            return self.workspace_dense(problem, config)
        return super().workspace(problem, config)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        if one_tap(problem) is not None:
            return self.plan_dense(problem, config, machine)
        return super().plan(problem, config, machine)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "implicit_gemm", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        problem = one_tap(problem) or problem
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
    return tuple(int(config[name]) for name in ("block_bytes", "taps", "across", "copy"))


@functools.cache
def _configs(kernel: int, across: bool, l1: int, size: int) -> Sequence[Config]:
    ways = [(0, 1), (0, 0), (0, 2)]
    if across:
        ways.insert(0, (1, 0))
    return [
        {"isa": isa, "block_bytes": size, "taps": taps, "across": across, "copy": copy}
        for isa in core.offered_isas()
        for taps in (_block_taps(isa, l1),)
        for across, copy in ways
        if copy != 2 or 1 < kernel <= taps  # bands: of whole kernels
    ]


def _block_taps(isa: str, l1: int) -> int:
    """Taps of a block: weights of two vectors of filters stay in three quarters of L1 between tiles
    of 6 pixels (3x3 stride 2, 128 @ 56x56: 512 taps 3.0 ms, 384 2.64); tiles of 14 need not."""
    if isa in PIXELS:
        return SUM_BLOCK
    return min(SUM_BLOCK, l1 * 3 // 4 // (2 * _VECTOR_BYTES.get(isa, 16)))
