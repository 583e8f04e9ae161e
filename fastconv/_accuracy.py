"""What each accuracy level promises, as numbers; docs/accuracy.md derives them."""

from __future__ import annotations

import functools
import math

import numpy as np

from fastconv._problem import Problem, numpy_dtype, once

#: Taps that direct methods sum before adding to the running total: the error of a sum of T terms
#: grows with BLOCK + T / BLOCK instead of T (Higham, Accuracy and Stability, 2nd ed., section 4.2).
#: 512 float32 taps of 4 filters are 8 KB of packed weights, a quarter of a 32 KB L1 cache.
SUM_BLOCK = 512


@functools.cache
def _epsilon(dtype: str) -> float:
    return float(np.finfo(numpy_dtype(dtype)).eps)


def epsilon(problem: Problem) -> float:
    """eps of the dtype that sums are computed in; 0 for exact dtypes."""
    return 0.0 if problem.is_exact else _epsilon(problem.dtype)


def blocked_sum_bound(problem: Problem) -> float:
    """Bound on abs(error) / S of a sum of products in blocks of SUM_BLOCK taps."""
    taps = problem.taps * (2 if problem.is_complex else 1)
    return (min(taps, SUM_BLOCK) + math.ceil(taps / SUM_BLOCK)) * epsilon(problem) / 2


@once
def allowed_error(problem: Problem) -> float:
    """The largest published bound that `problem.accuracy` admits."""
    strict = 2 * blocked_sum_bound(problem)
    if problem.accuracy == "strict" or problem.is_exact:
        return strict
    length = math.prod(problem.padded) * max(1, problem.channels // problem.groups)
    balanced = max(strict, epsilon(problem) * max(32.0, 16 * math.log2(2 + length)))
    if problem.accuracy == "balanced":
        return balanced
    # two operands rounded to TF32 take the whole of 2**-10: their sum has what a strict one has
    return max(balanced, 2.0**-10 + strict)
