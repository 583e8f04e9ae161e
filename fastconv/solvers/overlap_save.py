"""overlap_save: Fourier transforms of overlapping blocks that suit the kernel and the cache.

Each block gives the outputs whose windows it holds whole; the rest of its circle is discarded.
Memory is bounded by the blocks in flight, whatever the length of the input. The transforms are
fastconv's own (`_ext/drivers/overlap_save.c`); pairs of blocks that the driver's guard leaves are
solved again by `FourierPlan`, block by block.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv._epilogue import Epilogue
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config, Solver
from fastconv.solvers import _blocks, _fourier
from fastconv.solvers._blocks import Blocks, cut_of, named, offered, speedup
from fastconv.solvers._driver import call_of, useful_threads
from fastconv.solvers._fourier import FourierPlan, Spectrum

#: Largest exponent of weights that the driver takes: EXPONENT_F32 and _F64 of overlap_save.c.
_EXPONENT = {4: 32, 8: 256}


@dataclasses.dataclass
class Packed:
    """The driver's weights, and the weights as they are, for what the driver leaves."""

    weights: Array
    w: Array
    spectrum: Spectrum | None = None


class BlocksPlan(FourierPlan):
    """Blocks bound to a problem: the driver, and `FourierPlan` for the pairs that it leaves."""

    def __init__(
        self, problem: Problem, solver: Solver, config: Config, blocks: Blocks, machine: Machine
    ) -> None:
        super().__init__(problem, solver, config, blocks.layout, machine)
        self._blocks, self._pairs = blocks, problem.groups * blocks.pairs
        isa = str(config.get("isa", core.isa()))
        self._call = call_of(problem, solver, "overlap_save", isa, blocks.values)

    def pack(self, w: Array) -> Any:
        size = self._dtype.itemsize // (2 if self.problem.is_complex else 1)
        if not core.is_finite(w):
            return super().pack(w)
        parts = (w.real, w.imag) if self.problem.is_complex else (w,)
        largest = max(float(abs(part).max()) for part in parts)
        if largest and abs(math.frexp(largest)[1]) > _EXPONENT[size]:
            return super().pack(w)
        return self, Packed(self._call.pack(w), w.copy())

    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        weights = packed[1]
        if not isinstance(weights, Packed):
            super().execute(x, packed, epilogue, y)
            return
        left = np.zeros(self._pairs, np.uint8)
        self._call.run(x, weights.weights, epilogue, y, left)
        if 1 in left.tobytes():  # left.any() takes 1.5 us
            if weights.spectrum is None:
                weights.spectrum = super().pack(weights.w)[1]
            for piece in self._blocks.pieces(left):
                self._run(piece, x, weights.spectrum, epilogue, y, 1)


class OverlapSave(Solver):
    name = "overlap_save"
    exact = False
    mixes_windows = True
    paper = (
        "Stockham, High-speed convolution and correlation (1966); Oppenheim and Schafer,"
        " Discrete-Time Signal Processing (3rd ed.), section 8.7.3; error as for fft"
    )
    revision = 3

    def why_not(self, problem: Problem) -> str | None:
        reason = _fourier.refuse(problem)
        if reason is not None:
            return reason
        if problem.dtype not in ("f32", "f64", "c64", "c128"):
            return f"it transforms float and double, not {problem.dtype}"
        axes = sum(r > 1 for r in problem.kernel)
        if not 1 <= axes <= 3:
            return (
                f"it transforms one to three axes, and the kernel has {axes} of more than one tap"
            )
        return None if offered(problem) else "no block holds a window"

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [
            {"block": name, "halves": 1} if halves else {"block": name}
            for name, halves in offered(problem)
        ]

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        cut = cut_of(problem, config)
        seconds = _blocks.seconds_of(problem, cut.shape, cut.ns)
        threads = min(useful_threads(problem), machine.cores)
        return seconds if threads == 1 else seconds / speedup(named(problem, config), threads)

    def floor(self, problem: Problem, machine: Machine) -> float:
        threads = min(useful_threads(problem), machine.cores)
        return _blocks.floor(problem) / (1 + 0.85 * (threads - 1))

    def workspace(self, problem: Problem, config: Config) -> int:
        blocks = named(problem, config)
        isa = str(config.get("isa", core.isa()))
        call = call_of(problem, self, "overlap_save", isa, blocks.values)
        left = problem.groups * blocks.pairs
        again = _fourier.workspace(problem, blocks.layout, alone=True)
        return int(call.workspace_bytes + call.packed_bytes) + left + again

    def error_bound(self, problem: Problem, config: Config) -> float:
        blocks = named(problem, config)
        # of a pair, whose moduli are up to sqrt 2 times the largest sample
        # weights of halves are as good as two stages more
        length = math.prod(blocks.shape) * (4 if blocks.halves else 1)
        bound = _fourier.error_bound(problem, length)
        return bound * (1 if problem.is_complex else math.sqrt(2))

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return BlocksPlan(problem, self, config, named(problem, config), machine)
