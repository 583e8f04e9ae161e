"""implicit_gemm's tiles of pixels, as its driver cuts them: what its cost is made of."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastconv._problem import Problem, once

#: Pixels of a tile (kernels/implicit_gemm.c); 6 elsewhere.
PIXELS = {"avx512": 14, "neon": 14}


def one_tap(problem: Problem) -> Problem | None:
    """The dense problem whose filters are the phases of the outputs, of as many pixels, where each
    output has one tap along every dilated axis; None where not."""
    return None if problem.is_dense else _one_tap(problem)


@once
def _one_tap(problem: Problem) -> Problem | None:
    axes = list(zip(problem.input_dilation, problem.kernel, problem.stride, problem.dilation))
    if problem.is_complex:
        return None
    if any(e > 1 and (r, u, l) != (e, 1, 1) for e, r, u, l in axes):
        return None
    sizes, pads = [], []
    for size, out, pad, (e, *_) in zip(problem.size, problem.out, problem.padding, axes):
        pixels = -(-out // e)
        sizes.append(size if e == 1 else min(size, pixels))
        pads.append(pad if e == 1 else (0, max(0, pixels - size)))
    return problem.replace(
        size=tuple(sizes), kernel=tuple(1 if e > 1 else r for e, r, _, _ in axes),
        filters=problem.filters * math.prod(problem.input_dilation), input_dilation=(),
        padding=tuple(pads),
    )  # fmt: skip


class Tiles(NamedTuple):
    """Tiles of a group, pixels and runs of pixels of each, the share of them that is copied, and
    the share of their taps that are not all padding."""

    tiles: int
    pixels: float
    runs: float
    copied: float
    live: float


@once
def tiles(problem: Problem, most: int, across: bool, copy: int) -> Tiles:
    """Of up to `most` pixels."""
    outputs, row = math.prod(problem.out), problem.out[-1]
    if across:
        sets = -(-problem.batch // most)
        return Tiles(sets * outputs, problem.batch / sets, 1.0, 0.0, 1.0)
    of_row = -(-row // most)
    wide = problem.padding[-1][0] >= most * problem.stride[-1]
    # as in plan_tiles of the driver
    whole = copy == 2 or (row * 9 >= of_row * most * 7 and (not copy or wide))
    # rows of outputs whose windows lie inside x along all axes but the last
    inside = math.prod(
        max(0, 1 - (lo + hi) / u / out)
        for (lo, hi), u, out in zip(problem.padding[:-1], problem.stride, problem.out)
    )
    if whole:
        # pixels beyond the first and the last of a row meet padding
        span = most * problem.stride[-1]
        ends = sum(-(-side // span) for side in problem.padding[-1])
        count, runs = problem.batch * outputs // row * of_row, 1.0
        broken = 1 - max(0.0, 1 - ends / of_row) * inside
    else:
        count = -(-problem.batch * outputs // most)
        runs = 1 + most / row
        broken = min(1.0, runs - inside)
    pixels = problem.batch * outputs / count
    live = _live(problem, pixels) if problem.boundary == "zeros" else 1.0
    return Tiles(count, pixels, runs, {0: broken, 1: 1.0, 2: 0.0}[copy], live)


@once
def _live(problem: Problem, pixels: float) -> float:
    """The share of taps and tiles of `pixels` that are not all padding."""
    share = 1.0
    for axis, padding in enumerate(problem.padding):
        if padding == (0, 0):
            continue
        out, u, size = problem.out[axis], problem.stride[axis], problem.size[axis]
        wide = pixels if axis == problem.ndim - 1 else 1.0
        kernel, l, found = problem.kernel[axis], problem.dilation[axis], 0.0
        taps = range(0, kernel, max(1, kernel // 32))
        before = padding[0]
        for r in taps:
            at = r * l - before  # of the first output
            low = -(at // u) if at < 0 else 0
            high = -((at - size) // u)
            if high > out:
                high = out
            if high > low:
                met = high - low + wide - 1
                found += met / out if met < out else 1.0
        share *= found / len(taps)
    return share


def band_rows(problem: Problem, channels: int, target: int) -> float:
    """Rows that bands of about `target` bytes copy, as a multiple of those there are: windows of
    blocks of outputs overlap."""
    if problem.ndim < 2:
        return 1.0
    out, u, span = problem.out[-2], problem.stride[-2], problem.span[-2]
    row = channels * problem.padded[-1] * problem.itemsize
    rows = out
    while rows > 1 and ((rows - 1) * u + span) * row > target:
        rows = -(-rows // 2)
    return -(-out // max(1, rows)) * ((rows - 1) * u + span) / problem.padded[-2]
