"""Panels as their driver cuts them: what configs and costs are made of."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from fastconv._accuracy import SUM_BLOCK
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._problem import Problem, once

#: Measured GFLOP/s of one core in full tiles of float32 (avx512: Emerald Rapids; avx2: 1x1 layers
#: reach 80 to 92 in all on a Zen 3); float64 has half.
GFLOPS = {"avx512": 140, "avx2": 100, "neon": 45, "baseline": 24}

#: Most phases of the outputs.
MOST_PHASES = 64

#: Filters and vectors of a register tile (kernels/panels.c), 6 and 2 elsewhere; bytes of a vector.
TILE = {"avx512": (8, 3), "neon": (8, 3)}
VECTOR_BYTES = {"avx512": 64, "avx2": 32}


#: Outputs of a row, 16 tiles of floats, from which bands, too, are passed by a register tile of
#: filters after the other.
LONG = 768


def in_runs(isa: str, far: bool, band: int, long: bool) -> bool:
    """Whether a block of filters is one register tile because y is `far`: L3 holds it, not L2.

    Such a tile passes all tiles of pixels side by side in one call; bands have many if `long`.

    Emerald Rapids, L2 2 MB, one thread: 1x1, 24 to 144 @ 75x75 0.39 to 0.34 ms, 64 to 256 @ 56x56
    0.74 to 0.70; bands of signals, 8 taps, 4 to 128 @ 1000, eight of them, 0.85 to 0.73. Smaller y
    lose (1x1, 256 to 1024 @ 14x14 0.73 to 0.76; 5x5, 1 to 384 @ 32x32 0.31 to 0.70), and so do
    short rows of bands (3x3, 4 to 320 @ 64x64 1.65 to 1.87).
    """
    return isa == "avx512" and far and (long or not band)


def block_taps(isa: str, machine: Machine) -> int:
    """Taps of a block: the panel of a tile of floats stays in three quarters of L1."""
    wide = TILE.get(isa, (6, 2))[1] * VECTOR_BYTES.get(isa, 16)
    return min(SUM_BLOCK, machine.l1 * 3 // 4 // wide)


@functools.cache
def _limits(size: int, machine: Machine) -> Sequence[tuple[str, int, int]]:
    """Of each instruction set, pixels of a tile and taps of a block."""
    return [
        (
            isa,
            TILE.get(isa, (6, 2))[1] * VECTOR_BYTES.get(isa, 16) // size,
            block_taps(isa, machine),
        )
        for isa in core.isas()
    ]


def with_bands(
    problem: Problem, taps: int, size: int, machine: Machine, gaps: bool
) -> tuple[str, ...]:
    """The instruction sets with which all taps, of so many bytes, are one block, and rows at least
    a tile long, unless tiles run on over gaps: the driver's plan_geometry."""
    if not problem.is_dense or problem.ndim > 2 or math.prod(problem.kernel) == 1:
        return ()
    row = math.inf if gaps else problem.out[-1]
    return tuple([isa for isa, most, fit in _limits(size, machine) if taps <= fit and row >= most])


def pixels_of(problem: Problem) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pixels along each axis, and taps of the kernel that their panels have."""
    return (problem.out, problem.kernel) if problem.is_dense else _of_phases(problem)


@once
def _of_phases(problem: Problem) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """`fc_panels_plan_phases` of the driver: each pixel has an output a phase."""
    pixels, window = [], []
    for axis, e in enumerate(problem.input_dilation):
        out, taps, lead = problem.out[axis], problem.kernel[axis], 0
        if e > 1:
            pad, reach = problem.padding[axis][0], problem.span[axis] - 1
            taps, lead = min(((pad + n) // e - (pad + n - reach) // e + 1, n) for n in range(e))
        pixels.append(-(-(out + lead) // e))
        window.append(taps)
    return tuple(pixels), tuple(window)
