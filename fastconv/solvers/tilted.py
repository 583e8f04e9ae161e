"""tilted: transforms of non-negative signals that are right in the tails, each output to itself.

    y[o] = 2^(-t o) sum over r of  (x[o + r - a] 2^(t (o + r - a))) (w[r] 2^(-t (r - a)))

`_tilt.py` has the tilts t, and which outputs they are right for; all others are summed directly.
"""

from __future__ import annotations

import math

import numpy as np

from fastconv._accuracy import blocked_sum_bound, epsilon
from fastconv._epilogue import NOTHING, Epilogue
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config, Solver
from fastconv.solvers import _tilt
from fastconv.solvers._driver import useful_threads
from fastconv.solvers._guard import direct_plan

#: Tilts that a distribution takes which spans all that its dtype holds, by bytes of a number: a
#: normal one, whose outputs at 1e-300 are 37 deviations from the middle, 31 of doubles.
_TILTS = {4: 4, 8: 31}

#: Samples of a tilt's transforms, of those of x and w: what is not negligible of a normal one.
_SHARE = 0.25


class TiltedPlan(Plan):
    def pack(self, w: Array) -> Array:
        return w.copy()

    def execute(self, x: Array, packed: Array, epilogue: Epilogue | None, y: Array) -> None:
        p = self.problem
        # NaN and Inf have no tails, and a promise that is not kept must cost nobody else's digits
        if not all(np.isfinite(a).all() and a.min(initial=0) >= 0 for a in (x, packed)):
            plan = direct_plan(p)
            plan.execute(x, plan.pack(packed), epilogue, y)
            return
        each = p.filters // p.groups
        for n, k in np.ndindex(p.batch, p.filters):
            self._one(x[n, k // each], packed[k, 0], y[n, k])
        bias, residual, activation = epilogue or NOTHING
        if bias is not None:
            y += bias.reshape(-1, 1)
        Epilogue(None, residual, activation).finish(y)

    def _one(self, x: Array, w: Array, y: Array) -> None:
        p = self.problem
        h = w[::-1]
        # output o is number o + first of the full convolution with h
        first = len(w) - 1 - p.padding[0][0]

        def direct(start: int, stop: int, z: Array) -> None:
            """Outputs start to stop: of as many taps as meet x."""
            low, high = start + first, stop + first
            taps = min(len(h), high)
            a, b = max(0, low - taps + 1), min(len(x), high)
            padding = ((a - (low - taps + 1), high - b),)
            part = Problem(size=(b - a,), kernel=(taps,), padding=padding, dtype=p.dtype)
            plan = direct_plan(part)
            sums = np.empty((1, 1, stop - start), x.dtype)
            plan.execute(x[a:b][None, None], plan.pack(h[:taps][None, None, ::-1]), None, sums)
            z[...] = sums[0, 0]

        allowed = self.solver.error_bound(p, self.config) - _tilt.TILTING
        if x.itemsize < 8:
            allowed -= epsilon(p) / 2  # rounded once more
        rate = _tilt.PRODUCTS_A_SECOND * 8 / x.itemsize
        z = y if y.dtype == np.float64 else np.empty(y.shape)
        made = _tilt.Convolution(x, h, z, first, allowed, direct, rate)
        made.run(1 if p.deterministic else p.threads)
        if z is not y:
            y[...] = z


class Tilted(Solver):
    name = "tilted"
    exact = False
    paper = (
        "Wilson and Keich, Accurate pairwise convolution of non-negative vectors via FFT,"
        " Computational Statistics & Data Analysis 101, 2016; error: Higham, Accuracy and Stability"
        " of Numerical Algorithms (2nd ed.), section 24.1"
    )

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if not problem.nonnegative:
            return "it is for data known not to be negative, with accuracy='strict'"
        if problem.dtype not in ("f32", "f64"):
            return f"it tilts float and double, not {problem.dtype}"
        if problem.ndim > 1:
            return f"it tilts signals, not arrays of {problem.ndim} dimensions"
        if problem.channels != problem.groups:
            return "it takes one channel a group"
        if max(*problem.stride, *problem.dilation, *problem.input_dilation) > 1:
            return "it takes no stride and no dilation"
        if problem.boundary != "zeros":
            return f"it extends x by zeros only, not by {problem.boundary!r}"
        return None

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        samples = problem.size[0] + problem.kernel[0]
        rows = problem.batch * problem.filters
        one = _tilt.SECONDS_A_TILT + _SHARE * samples * _tilt.SECONDS_A_SAMPLE
        total = rows * (100e-6 + samples * 20e-9 + _TILTS[problem.itemsize] * one)
        return total / (1 + 0.6 * (min(2, useful_threads(problem), machine.cores) - 1))

    def workspace(self, problem: Problem, config: Config) -> int:
        samples = 2 * (problem.size[0] + problem.kernel[0]) + problem.out[0]
        # windows, spectra and what is found: of each thread at most all, with direct sums' arrays
        whole = 8 * (12 * samples + 1024)
        return 2 * whole + problem.itemsize * math.prod(problem.w_shape) + (1 << 20)

    def error_bound(self, problem: Problem, config: Config) -> float:
        return 2 * blocked_sum_bound(problem)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return TiltedPlan(problem, self, config)
