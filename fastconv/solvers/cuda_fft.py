"""cuda_fft: cuFFT's transforms of whole signals and images, or of blocks that overlap; guarded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import scipy.fft

from fastconv._accuracy import epsilon
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.cuda import cufft, fourier
from fastconv.cuda.launch import Gpu
from fastconv.solvers._cuda import LAUNCH, PART, STORED, CudaPlan, CudaSolver, are_parts
from fastconv.solvers._cuda_fft import (
    FftPlan,
    Layout,
    as_reals,
    fits,
    sizes_of,
    unit_of,
)

#: Lengths of blocks that are offered, in spans of the kernel: of m spans 1 - 1 / m is kept.
_SPANS = (16, 4, 2)

#: Samples of a transform that cuFFT makes in one pass over memory, as far as shared memory goes.
_ONE_PASS = 1 << 13


class CudaFft(CudaSolver):
    name = "cuda_fft"
    mixed_dtypes = True
    stored: ClassVar[dict[str, str]] = {**STORED, **{kind: kind for kind in PART}}
    mixes_windows = True
    paper = (
        "Stockham, High-speed convolution and correlation (1966); transforms: cuFFT; error: Higham,"
        " Accuracy and Stability of Numerical Algorithms (2nd ed.), theorem 24.2"
    )

    def why_not_stored(self, problem: Problem) -> str | None:
        if problem.is_complex and are_parts(problem):
            return None
        return super().why_not_stored(problem)

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.is_complex and (problem.channels, problem.filters) != (1, 1):
            return "its complex numbers are of one channel and one filter"
        if problem.is_complex and problem.boundary == "constant":
            return "it extends complex numbers by zeros only, where by a constant"
        if problem.ndim > 3:
            return "it transforms one to three dimensions"
        if problem.accuracy == "strict":
            return "its error grows with the largest input, not with each window's, as strict asks"
        if problem.channels == 0 or math.prod(problem.y_shape) == 0:
            return "there is nothing to multiply"
        if not self.configs(problem, None):
            return "its blocks have more samples than 31 bits count"
        return cufft.why_not()

    def configs(self, problem: Problem, machine: Any) -> Sequence[Config]:
        """Blocks of a few spans of the kernel, longest first, and then one for all."""
        problem = as_reals(problem)
        along = [s > 1 for s in problem.span]
        along[-1] |= not any(along)  # of one tap, the last axis
        whole = tuple(_good(n) if a else 1 for n, a in zip(problem.padded, along))
        found: dict[str, None] = {}
        for spans in _SPANS:
            cut = (1 << max(3, (spans * s - 1).bit_length()) for s in problem.span)
            found["x".join(map(str, map(min, zip(cut, whole))))] = None
        found["x".join(map(str, whole))] = None
        return [{"circle": text} for text in found if fits(problem, Layout.of(problem, text))]

    def cost_dense(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        problem = as_reals(problem)
        at = Layout.of(problem, str(config["circle"]))
        size, passes = problem.itemsize, 1 + (at.samples > _ONE_PASS)
        sizes = sizes_of(problem, at)
        x, y = math.prod(problem.x_shape), math.prod(problem.y_shape)
        # each buffer is written and read, by each pass of its transform too
        moved = x + y + 2 * passes * at.rounds * sum(sizes.worked[:-1])
        own = problem.channels // problem.groups
        pairs = at.rows * problem.filters * own * at.bins
        seconds = moved * size / gpu.bandwidth + 8 * pairs / gpu.flops
        # spectra are read from L2, some 2.5 times as fast as memory
        seconds += 4 * pairs * size / (2.5 * gpu.bandwidth)
        launches = at.rounds * (6 if at.chunks(problem) > 1 else 5)
        if not problem.prepared:
            moved = math.prod(problem.w_shape) * 3 + 2 * passes * sum(sizes.made[1:])
            seconds += moved * size / gpu.bandwidth
            launches += 3
        return launches * LAUNCH + seconds * (2 if problem.dtype == "f64" else 1)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        """cuFFT's own work areas are taken to be as large as the largest that it transforms."""
        problem = as_reals(problem)
        sizes = sizes_of(problem, Layout.of(problem, str(config["circle"])))
        return (sum(sizes.made) + sum(sizes.worked) + max(sizes.worked)) * problem.itemsize

    def bound_dense(self, problem: Problem, config: Config) -> float:
        # as on the CPU (_fourier.py); what the guard sums from the definition is in B as in S
        # of complex numbers: |w'| and |w''| are at most sqrt(2) |w|, and errors are at right angles
        factor, problem = 1.0 + problem.is_complex, as_reals(problem)
        at = Layout.of(problem, str(config["circle"]))
        taps = problem.taps
        again = (min(taps, fourier.CHUNK) + taps / min(problem.kernel[-1], fourier.CHUNK) + 1) / 2
        return factor * max(unit_of(problem, at), again * epsilon(problem))

    def plan_dense(self, problem: Problem, config: Config) -> CudaPlan:
        return FftPlan(problem, self, config)


def _good(n: int) -> int:
    """The least length of at least n that is a product of small primes, and none of 1."""
    return int(scipy.fft.next_fast_len(max(2, n), real=True))
