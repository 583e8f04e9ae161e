"""implicit_gemm's pixels: how many a tile has, and those of outputs with one tap each."""

from __future__ import annotations

import math

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
