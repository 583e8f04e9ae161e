"""How `limbs` splits integers into digits and a problem into chunks, and what that costs."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import math
from collections.abc import Iterator

import numpy as np

from fastconv._machine import Machine
from fastconv._problem import Array, Problem, numpy_dtype
from fastconv.solvers import _blocks
from fastconv.solvers._blocks import Blocks
from fastconv.solvers._driver import useful_threads
from fastconv.solvers._rounding import convolution

#: Blocks that are offered: the best by the cost model, for the planner to time.
_OFFERED = 4

#: Bytes of digits and sums of one chunk: they are written and read again from L2 or L3.
CHUNK_BYTES = 1 << 21


@dataclasses.dataclass(frozen=True)
class Digits:
    """How x and w are split: bits of a digit, digits of each, and powers that are kept."""

    width: int
    x: int
    w: int
    powers: int


def bits(problem: Problem) -> int:
    return 8 * numpy_dtype(problem.accumulator).itemsize


def error(problem: Problem, samples: int, pairs: int, x: int, w: int) -> float:
    """Bound on abs(error) of a sum of `pairs` convolutions of digits up to x and w.

    The 2-norms are those of a block of the largest digits, and of two that are transformed at once.
    """
    terms = pairs * (problem.channels // problem.groups)
    norms = terms * math.sqrt(2 * samples) * x * math.sqrt(math.prod(problem.kernel)) * w
    return convolution(samples, terms) * norms


def digits(problem: Problem, samples: int, x: int, w: int) -> Digits | None:
    """The fewest digits of numbers up to x and w in size that are exact; None when none are."""
    most = bits(problem)
    x_bits, w_bits = (min(most, max(1, v).bit_length() + 1) for v in (x, w))
    for width in range(min(most, 26), 1, -1):
        nx, nw = -(-x_bits // width), -(-w_bits // width)
        width = max(-(-x_bits // nx), -(-w_bits // nw))
        powers = min(nx + nw - 1, -(-most // width))
        pairs = min(nx, nw, powers)
        largest = [min(v, 1 << (width - 1)) for v in (x, w)]
        products = pairs * problem.taps * largest[0] * largest[1]
        if products < 2**50 and error(problem, samples, pairs, *largest) < 0.5:
            return Digits(width, nx, nw, powers)
    return None


def transformed(problem: Problem, d: Digits) -> Problem:
    """The problem of float64 that digits make, on x extended beforehand."""
    return problem.replace(
        size=problem.padded, padding=(), boundary="zeros", cval=0.0, flip=False, dtype="f64",
        x_dtype="", w_dtype="", y_dtype="", layout="NC*", rank=0, box=False, accuracy="fast",
        channels=problem.channels * d.x, filters=problem.filters * d.powers, deterministic=False,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Chunks:
    """How a problem is cut: images and outputs along an axis, the longest, that make a chunk."""

    axis: int
    images: int
    outputs: int
    problem: Problem
    blocks: Blocks

    @classmethod
    def of(cls, problem: Problem, d: Digits, blocks: Blocks) -> Chunks:
        axis = max(range(problem.ndim), key=lambda i: problem.out[i])
        out, u, span = problem.out[axis], problem.stride[axis], problem.span[axis]
        each = 8 * (problem.channels * d.x + problem.filters * d.powers)
        row = each * math.prod(problem.padded) // problem.padded[axis]
        # whole pairs of blocks, and no more halo than outputs
        kept = 2 * blocks.layout[axis].kept
        some = max(CHUNK_BYTES // max(1, row * u), -(-span // u), 1)
        some = -(-some // kept) * kept
        images, outputs = 1, -(-out // -(-out // some))
        if outputs == out:
            images = max(1, min(problem.batch, CHUNK_BYTES // max(1, row * problem.padded[axis])))
        size = list(problem.padded)
        size[axis] = (outputs - 1) * u + span
        chunk = problem.replace(batch=images, size=tuple(size), padding=(), boundary="zeros")
        chunk = transformed(chunk, d)
        layout = tuple(_blocks._axis(chunk, i, a.n) for i, a in enumerate(blocks.layout))
        return cls(axis, images, outputs, chunk, Blocks(blocks.shape, layout, chunk))

    def corners(self, problem: Problem) -> list[tuple[int, int]]:
        """First image and first output of each; the last ones repeat some of those before."""
        out = problem.out[self.axis]
        return [
            (min(n, problem.batch - self.images), min(o, out - self.outputs))
            for n in range(0, problem.batch, self.images)
            for o in range(0, out, self.outputs)
        ]

    def workers(self, problem: Problem) -> int:
        """Threads that share the chunks; of a single one the transforms' blocks are shared."""
        return min(useful_threads(problem), len(self.corners(problem)))


def signed(a: Array) -> Array:
    """The same bits as signed integers, of 32 or 64 bits: a sum's low bits do not mind."""
    a = a.astype(np.dtype(f"i{a.itemsize}"), copy=False)
    return a if a.itemsize >= 4 else a.astype(np.int32)


def size_of(a: Array) -> int:
    """The largest size of signed integers."""
    return max(int(a.max(initial=0)), -int(a.min(initial=0)))


def split(a: Array, width: int, count: int) -> Iterator[Array]:
    """The digits of signed integers, lowest first; the last one is what is left."""
    half, mask = 1 << (width - 1), (1 << width) - 1
    for _ in range(count - 1):
        digit = a + half
        digit &= mask
        digit -= half
        yield digit
        a = a - digit
        a >>= width
    yield a


@functools.lru_cache(64)
def _offered(problem: Problem) -> dict[str, tuple[Blocks, Digits]]:
    """The blocks that cost least of the largest numbers, by name, and the digits of these."""
    found = {}
    nominal = transformed(problem, Digits(16, 1, 1, 1))
    largest = 1 if problem.dtype == "bool" else 1 << (bits(problem) - 1)
    for shape, n in _blocks.shapes(nominal):
        d = digits(problem, math.prod(shape), largest, largest)
        if d is not None:
            p = transformed(problem, d)
            layout = tuple(_blocks._axis(p, i, n.get(i, 1)) for i in range(p.ndim))
            blocks = Blocks(shape, layout, p)
            found[blocks.name] = blocks, d
    best = heapq.nsmallest(_OFFERED, found, key=lambda name: _blocks.seconds(found[name][0]))
    return {name: found[name] for name in best}


def offered(problem: Problem) -> dict[str, tuple[Blocks, Digits]]:
    return _offered(problem.replace(prepared=True, threads=1, accuracy="balanced"))


#: ns an element of x and y that is looked at, widened and stored, and of a digit that is split off
#: or added up, by bytes of an element: 1e6 by 1024, one thread of a Zen 3 with AVX2.
_NS_AN_ELEMENT = {1: 1.0, 2: 1.0, 4: 1.5, 8: 3.5}
_NS_A_DIGIT = {1: 1.0, 2: 1.0, 4: 1.5, 8: 3.0}

#: Packing of digits against that of weights that are there: they are laid out first.
_PACKING = 1.6

#: seconds of Python for each chunk and each call.
_SECONDS_A_CHUNK = 80e-6
_SECONDS_A_CALL = 80e-6


def floor(problem: Problem, machine: Machine) -> float:
    """Seconds that `seconds` is not below: there is a digit of x, and one of w."""
    if not problem.is_exact:
        return 0.0
    threads = min(useful_threads(problem), machine.cores)
    return _SECONDS_A_CALL + _blocks.floor(problem) / (1 + 0.8 * (threads - 1))


def seconds(problem: Problem, d: Digits, chunks: Chunks, machine: Machine) -> float:
    """Estimated time of a call."""
    size = numpy_dtype(problem.accumulator).itemsize
    x, y = math.prod(problem.x_shape), math.prod(problem.y_shape)
    passes = (x + y) * _NS_AN_ELEMENT[size] + (x * d.x + y * d.powers) * _NS_A_DIGIT[size]
    one, with_packing = (
        _blocks.seconds(
            chunks.blocks._replace(problem=chunks.problem.replace(prepared=prepared))
        )
        for prepared in (True, False)
    )  # fmt: skip
    total = len(chunks.corners(problem)) * (one + _SECONDS_A_CHUNK) + passes * 1e-9
    threads = min(useful_threads(problem), machine.cores)
    packing = 0.0 if problem.prepared else _PACKING * (with_packing - one)
    return _SECONDS_A_CALL + total / (1 + 0.8 * (threads - 1)) + packing
