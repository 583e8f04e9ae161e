"""Sums that blocks of a GPU share: what each of them writes, and what joins it."""

from __future__ import annotations

import math

import numpy as np

from fastconv._epilogue import Activation
from fastconv._problem import Problem, numpy_dtype
from fastconv.cuda import gemm
from fastconv.cuda.interop import DeviceArray, packed_steps
from fastconv.cuda.launch import Gpu, Launch
from fastconv.solvers._cuda import (
    LAUNCH,
    activation_name,
    check_reach,
    divisors,
    launch_of,
    limits,
    planes,
)

#: Blocks that share a sum at most: what joins them reads a number of each.
MOST_SPLITS = 64

#: Seconds of 1 / bandwidth that a number takes which lies in L2.
_L2 = 0.4


def pixels_of(problem: Problem) -> int:
    """Outputs of a filter, of all images."""
    return problem.batch * math.prod(problem.out)


def sums_of(problem: Problem, splits: int) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and dtype of what blocks write."""
    return (splits, problem.filters, pixels_of(problem)), numpy_dtype(problem.dtype)


def own_sums(problem: Problem) -> DeviceArray:
    """How one block's lie, as (batch, filters, *out): pixels of all images side by side."""
    shape = problem.batch, problem.filters, *problem.out
    plane = packed_steps(problem.out, (0,) * problem.ndim)
    steps = math.prod(problem.out), pixels_of(problem), *plane
    return DeviceArray(0, shape, steps, numpy_dtype(problem.dtype), None, 0, 0)


def joining_cost(problem: Problem, splits: int, gpu: Gpu) -> float:
    """Seconds of writing sums, and of joining them; of one block's, nothing."""
    if splits == 1:
        return 0.0
    moved = 2 * splits * math.prod(problem.y_shape) * numpy_dtype(problem.dtype).itemsize
    return LAUNCH + _L2 * moved / gpu.bandwidth


def joining(
    problem: Problem, splits: int, bias: DeviceArray | None, y: DeviceArray,
    residual: DeviceArray | None, activation: Activation | None,
) -> Launch:  # fmt: skip
    """What adds them up and finishes."""
    p, pixels, plane = problem, pixels_of(problem), math.prod(problem.out)
    for a in (y, residual):
        check_reach(p, a)
    ys, rs = planes(y), planes(residual)
    low, high = limits(activation)
    items = p.filters * pixels
    given = {
        "items": items, "pixels": pixels, "plane": plane, "q_count": p.out[-1], "splits": splits,
        "y_cut": items, "y_n": ys[0], "y_k": ys[1], "y_h": ys[2], "y_w": ys[3],
        "r_n": rs[0], "r_k": rs[1], "r_h": rs[2], "r_w": rs[3],
        "b_k": bias.steps[0] if bias is not None else 0, "low": low, "high": high,
        **divisors(pixels=pixels, plane=plane, q=p.out[-1]),
    }  # fmt: skip
    if p.ndim == 3:
        y_d, r_d = (a.steps[2] if a is not None else 0 for a in (y, residual))
        given |= {"p_count": p.out[1], "y_d": y_d, "r_d": r_d, **divisors(p=p.out[1])}
    kernel = gemm.joined(p.x_dtype, activation_name(activation), p.ndim == 3)
    return launch_of(kernel, (-(-items // kernel.threads), 1, 1), given)
