"""limbs: integers as digits that fit into doubles, convolved by transforms and rounded to integers.

With x = sum over a of x_a 2^(a width) and w likewise, digits between -2^(width - 1) and that,

    y = sum over p of 2^(p width) y_p,    y_p = sum over a + b = p of x_a * w_b    (mod 2^bits)

is one problem of float64 for the driver of `overlap_save`: a channel for each digit of x, a filter
for each p that 2^bits does not swallow. The y_p are integers, and a proven bound on the transforms'
error (`_digits.error`) is below 1/2, so that rounding makes them exact. How many digits there are
is seen from the data: small numbers have one. Arrays are cut into chunks, so that memory does not
grow with them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastconv._epilogue import Epilogue
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config, Solver
from fastconv.solvers import _digits, _fourier
from fastconv.solvers._blocks import Blocks
from fastconv.solvers._digits import (
    Chunks,
    Digits,
    digits,
    offered,
    seconds,
    signed,
    size_of,
    split,
    transformed,
)
from fastconv.solvers._driver import useful_threads

#: Adding it makes the low bits of a double below 2^51 in size those of the integer nearest to it.
_MAGIC = 1.5 * 2.0**52
_MAGIC_BITS = int(np.float64(_MAGIC).view(np.int64))


class Inner:
    """Digits bound to a problem: the plan of a chunk, and the weights' digits, packed."""

    def __init__(self, problem: Problem, d: Digits, blocks: Blocks, w: Array) -> None:
        self.digits = d
        self.chunks = Chunks.of(problem, d, blocks)
        self.workers = self.chunks.workers(problem)
        p = self.chunks.problem.replace(threads=1 if self.workers > 1 else problem.threads)
        values = self.chunks.blocks.values
        self.call = core.Call("overlap_save", core.isa(), p, values, useful_threads(p))
        parts = [*split(w, d.width, d.w)]
        k, c, *kernel = w.shape
        laid = np.zeros((k, d.powers, c, d.x, *kernel))
        for power, a in itertools.product(range(d.powers), range(d.x)):
            if 0 <= power - a < d.w:
                laid[:, power, :, a] = parts[power - a]
        self.packed = self.call.pack(laid.reshape(k * d.powers, c * d.x, *kernel))


@dataclasses.dataclass
class Packed:
    """The weights as they are, and what was made of them for data of each size."""

    w: Array
    largest: int
    inner: dict[Digits, Inner]


class LimbsPlan(Plan):
    def __init__(self, problem: Problem, solver: Solver, config: Config, blocks: Blocks) -> None:
        super().__init__(problem, solver, config)
        self._blocks = blocks
        self._beyond: Any = np.array(problem.cval).astype(self._dtype)

    def pack(self, w: Array) -> Packed:
        w = signed(w).copy()
        return Packed(w, size_of(w), {})

    def _inner(self, x: Array, packed: Packed) -> Inner:
        p = self.problem
        largest = max(size_of(a.view(f"i{a.itemsize}")) for a in (x, self._beyond))
        d = digits(p, math.prod(self._blocks.shape), largest, packed.largest)
        assert d is not None, "what is exact for the largest numbers is so for these"
        if d not in packed.inner:
            packed.inner[d] = Inner(p, d, self._blocks, packed.w)
        return packed.inner[d]

    def execute(self, x: Array, packed: Packed, epilogue: Epilogue | None, y: Array) -> None:
        inner = self._inner(x, packed)
        corners = inner.chunks.corners(self.problem)
        if inner.workers == 1:
            self._run(inner, corners, x, y)
        else:
            with ThreadPoolExecutor(inner.workers) as pool:
                shares = [corners[i :: inner.workers] for i in range(inner.workers)]
                for done in [pool.submit(self._run, inner, share, x, y) for share in shares]:
                    done.result()
        if epilogue is not None and epilogue.bias is not None:
            y += epilogue.bias.reshape(-1, *(1,) * self.problem.ndim)

    def _run(self, inner: Inner, corners: Sequence[tuple[int, int]], x: Array, y: Array) -> None:
        p, d, c = self.problem, inner.digits, inner.chunks
        x_parts = np.empty((c.images, p.channels, d.x, *c.problem.size))
        y_parts = np.empty((c.images, p.filters, d.powers, *c.problem.out))
        shapes = c.problem.x_shape, c.problem.y_shape
        total = np.empty((c.images, p.filters, *c.problem.out), np.int64)
        # digits are finite and small: the driver leaves no block
        left = np.zeros(p.groups * c.blocks.pairs, np.uint8)
        magic = sum(_MAGIC_BITS << (i * d.width) for i in range(d.powers)) % 2**64
        ranges = [(-lo, m + hi) for (lo, hi), m in zip(p.padding, p.size)]
        for image, first in corners:
            start = first * p.stride[c.axis] - p.padding[c.axis][0]
            ranges[c.axis] = start, start + c.problem.size[c.axis]
            window = _fourier.extend(x[image : image + c.images], ranges, p.boundary, self._beyond)
            for a, digit in enumerate(split(signed(window), d.width, d.x)):
                x_parts[:, :, a] = digit
            inner.call.run(
                x_parts.reshape(shapes[0]), inner.packed, None, y_parts.reshape(shapes[1]), left
            )
            assert not left.any()
            y_parts += _MAGIC
            whole = y_parts.view(np.int64)
            total[...] = whole[:, :, 0]
            for power in range(1, d.powers):
                part = whole[:, :, power]
                part <<= power * d.width
                total += part
            total -= np.uint64(magic).astype(np.int64)
            along = (slice(None),) * c.axis + (slice(first, first + c.outputs),)
            y[(slice(image, image + c.images), slice(None), *along)] = total


class Limbs(Solver):
    name = "limbs"
    exact = True
    paper = (
        "Knuth, The Art of Computer Programming, vol. 2 (3rd ed.), section 4.3.3.C (digits); error:"
        " Higham, Accuracy and Stability of Numerical Algorithms (2nd ed.), section 24.1; Brent,"
        " Percival and Zimmermann, Error bounds on complex floating-point multiplication, 2007"
    )

    def why_not(self, problem: Problem) -> str | None:
        if not problem.is_exact:
            return f"it is for integers, not {problem.dtype}"
        reason = _fourier.refuse(transformed(problem, Digits(16, 1, 1, 1)))
        if reason is not None:
            return reason
        if not 1 <= sum(r > 1 for r in problem.kernel) <= 3:
            return "it transforms one to three axes of more than one tap"
        return None if offered(problem) else "no block holds a window, or no digit is small enough"

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        return [{"block": name} for name in offered(problem)]

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        blocks, d = offered(problem)[str(config["block"])]
        return seconds(problem, d, Chunks.of(problem, d, blocks), machine)

    def floor(self, problem: Problem, machine: Machine) -> float:
        return _digits.floor(problem, machine)

    def workspace(self, problem: Problem, config: Config) -> int:
        blocks, d = offered(problem)[str(config["block"])]
        chunks = Chunks.of(problem, d, blocks)
        p = chunks.problem
        workers = chunks.workers(problem)
        threads = useful_threads(p) if workers == 1 else 1
        call = core.Call("overlap_save", core.isa(), p, chunks.blocks.values, threads)
        # digits as they are split, the window they are split from, and what is added up
        each = math.prod(p.x_shape) * 8 * 2 + math.prod(p.x_shape) // d.x * 8 * 3
        each += math.prod(p.y_shape) * 8 + math.prod(p.y_shape) // d.powers * 8 * 2
        weights = math.prod(p.w_shape) * 8 * 3 + math.prod(problem.w_shape) * 8
        extra = _digits.CHUNK_BYTES  # fewer digits may have a longer chunk
        return (
            weights + workers * (each + extra + int(call.workspace_bytes)) + int(call.packed_bytes)
        )

    def error_bound(self, problem: Problem, config: Config) -> float:
        return 0.0

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return LimbsPlan(problem, self, config, offered(problem)[str(config["block"])][0])
