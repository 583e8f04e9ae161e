"""How `overlap_save` cuts a problem into blocks, and what that costs."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import operator
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Array, Problem, once
from fastconv._solver import Config
from fastconv.solvers._fourier import Axis, Layout, Piece

#: Settings that are offered: so many of the best by the cost model for one thread, and for two that
#: share pairs of blocks. The planner may time them.
_OFFERED = 2

#: Lengths that are tried along an axis of several, from the shortest that holds a window on.
_LENGTHS = 16

#: Samples of the smallest transform that threads share: SHARED of overlap_save.c.
_SHARED = 1 << 15

#: What a pair that is left over then takes of its time, in two threads: 1e6 by 1e6 0.55 to 0.75.
_LEFT_OVER = 0.65

#: Samples of the longest block: beyond it one transform of scipy.fft, of real data, takes less time
#: than ours of complex ones: 1e6 by 1e6 doubles 69 ms, in one block of 1440 x 1440 106.
#: A half of one is as quick as a transform of real data.
_LONGEST = {1: 1 << 20, 2: 1 << 22}


@functools.cache
def _smooth(multiple: int, most: int) -> list[int]:
    """Products of 2, 3 and 5 up to `most` that are a multiple of `multiple`."""
    found = {
        multiple * 2**a * 3**b * 5**c
        for a in range(14) for b in range(4) for c in range(3)
        if multiple * 2**a * 3**b * 5**c <= most
    }  # fmt: skip
    return sorted(found)


@functools.lru_cache(maxsize=64)
def _doubled(multiple: int, most: int, stride: int) -> list[int]:
    """Twice those of `_smooth` that are a multiple of the stride."""
    return [2 * n for n in _smooth(multiple, most) if n % stride == 0]


@functools.cache
def _factored(lanes: int) -> tuple[list[int], list[int]]:
    """Lengths of a block of a signal, ascending, and the rows of each."""
    sides = _smooth(lanes, 4096)
    found: dict[int, int] = {}
    for n1 in sides:
        for n2 in sides:
            if n1 <= n2 <= 3 * n1:
                found.setdefault(n1 * n2, n1)
    lengths = sorted(found)
    return lengths, [found[n] for n in lengths]


def name_of(shape: tuple[int, int, int]) -> str:
    """A block's, by its samples."""
    return "x".join(map(str, shape[1:] if shape[0] == 1 else shape))


class Cut(NamedTuple):
    """Blocks that are offered: their shape and halves, the length along each axis transformed, and
    a group's nanoseconds on one thread."""

    shape: tuple[int, int, int]
    halves: bool
    lengths: dict[int, int]
    ns: float


class Blocks(NamedTuple):
    """How a problem is cut: samples of a block's planes, rows and columns, and the layout.

    Where `halves`, these are samples of a half of one, and the other half has as many rows.
    """

    shape: tuple[int, int, int]
    layout: Layout
    problem: Problem
    halves: bool = False

    @property
    def name(self) -> str:
        return name_of(self.shape)

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return tuple([-(-out // a.kept) for out, a in zip(self.problem.out, self.layout)])

    @property
    def blocks(self) -> int:
        return self.problem.batch * math.prod(self.counts)

    @property
    def together(self) -> int:
        """Blocks that are one transform: real ones are its real and imaginary parts."""
        return 1 if self.problem.is_complex or self.halves else 2

    @property
    def pairs(self) -> int:
        return -(-self.blocks // self.together)

    @property
    def shared(self) -> bool:
        """Whether threads share a pair that is left over."""
        return self.shape[0] == 1 and math.prod(self.shape) >= _SHARED

    @property
    def values(self) -> tuple[int, ...]:
        """The driver's settings."""
        kept = [a.kept for a, r in zip(self.layout, self.problem.kernel) if r > 1]
        guard = self.problem.accuracy != "fast"
        return (*self.shape, *[1] * (3 - len(kept)), *kept, int(guard), int(self.halves))

    def pieces(self, left: Array) -> Iterator[Piece]:
        """The blocks of those pairs that the driver left."""
        p = self.problem
        for at in np.flatnonzero(left):
            g, pair = divmod(int(at), self.pairs)
            for block in range(pair * self.together, min((pair + 1) * self.together, self.blocks)):
                image, *place = np.unravel_index(block, (p.batch, *self.counts))
                kept = tuple(
                    (int(i) * a.kept, min((int(i) + 1) * a.kept, out))
                    for i, a, out in zip(place, self.layout, p.out)
                )
                yield Piece(slice(int(image), int(image) + 1), slice(g, g + 1), kept)


def _axis(problem: Problem, axis: int, n: int) -> Axis:
    """Blocks of n samples, or one, where n holds the whole axis."""
    if problem.kernel[axis] == 1:
        return Axis(1, 1, plain=True)
    if problem.boundary == "zeros" and n >= _enough(problem, axis):
        return Axis(n, problem.out[axis], circular=True)
    kept = (n - problem.span[axis]) // problem.stride[axis] + 1
    return Axis(n, min(kept, problem.out[axis]))


@once
def _enough(problem: Problem, axis: int) -> int:
    """Samples that hold the whole axis."""
    before, after = problem.padding[axis]
    if problem.boundary == "zeros":  # one run of zeros serves both ends, as in _fourier.whole_axis
        last = (problem.out[axis] - 1) * problem.stride[axis]
        return max(problem.size[axis] + max(before, after), problem.span[axis], last + 1)
    return problem.padded[axis]


def _lengths(problem: Problem, parts: int) -> dict[int, list[int]]:
    """Lengths that may be worth it along each axis that is transformed, of several axes."""
    axes = [d for d, r in enumerate(problem.kernel) if r > 1]
    real = problem.itemsize // (2 if problem.is_complex else 1)
    found = {}
    for i, d in enumerate(axes):
        lanes = 64 // real  # of the widest vectors
        multiple = lanes if i == len(axes) - 1 else 8 if i == len(axes) - 2 else 1
        halves = parts == 2 and i == len(axes) - 2
        lengths = _doubled(multiple, 8192, problem.stride[d]) if halves else _smooth(multiple, 8192)
        start = bisect.bisect_left(lengths, problem.span[d] + problem.stride[d] - 1)
        end = min(bisect.bisect_left(lengths, _enough(problem, d), start), len(lengths) - 1) + 1
        step = max(1, -(-(end - start) // _LENGTHS))
        found[d] = lengths[start:end][::-1][::step]  # the whole axis among them
    return found


def _of_signal(problem: Problem, axis: int, parts: int) -> tuple[list[int], list[int]]:
    """Lengths that may be worth it where one axis is transformed, and the rows of each part."""
    real = problem.itemsize // (2 if problem.is_complex else 1)
    lengths, rows = _factored(64 // real)
    least = problem.span[axis] + problem.stride[axis] - 1
    start = bisect.bisect_left(lengths, -(-least // parts))
    end = bisect.bisect_left(lengths, -(-_enough(problem, axis) // parts)) + 1
    end = min(end, bisect.bisect_left(lengths, 1 + max(64 * least, 1 << 13) // parts))
    lengths, rows = lengths[start:end], rows[start:end]
    if parts == 1:
        return lengths, rows
    if (u := problem.stride[axis]) > 1:
        rows = [side for n, side in zip(lengths, rows) if n % u == 0]
        lengths = [n for n in lengths if n % u == 0]
    return [2 * n for n in lengths], rows


def shapes(
    problem: Problem, parts: int = 1
) -> Iterator[tuple[tuple[int, int, int], dict[int, int]]]:
    """Blocks that may be worth it: samples of a part of one, and the length along each axis
    transformed."""
    axes = [d for d, r in enumerate(problem.kernel) if r > 1]
    if len(axes) == 1:
        for n, rows in zip(*_of_signal(problem, axes[0], parts)):
            if n // parts <= _LONGEST[parts]:
                yield (1, rows, n // parts // rows), {axes[0]: n}
        return
    for chosen in itertools.product(*_lengths(problem, parts).values()):
        if math.prod(chosen) // parts <= _LONGEST[parts]:
            yield _part(chosen, parts), dict(zip(axes, chosen))


def _part(lengths: tuple[int, ...], parts: int) -> tuple[int, int, int]:
    """Samples of a part of a block of so many along each of several axes."""
    *planes, rows, columns = lengths
    return (*planes, rows // parts, columns) if planes else (1, rows // parts, columns)  # type: ignore[return-value]


def cut_of(problem: Problem, config: Config) -> Cut:
    """The cut that a config is."""
    return offered(problem)[str(config["block"]), int(config.get("halves", 0))]


def named(problem: Problem, config: Config) -> Blocks:
    """And the blocks that it makes."""
    return _made(problem, str(config["block"]), int(config.get("halves", 0)))


@once
def _made(problem: Problem, name: str, halves: int) -> Blocks:
    cut = offered(problem)[name, halves]
    layout = tuple([_axis(problem, d, cut.lengths.get(d, 1)) for d in range(problem.ndim)])
    return Blocks(cut.shape, layout, problem, cut.halves)


@once
def offered(problem: Problem) -> dict[tuple[str, int], Cut]:
    """The cuts that cost least, by their names, and whether halves are transformed.

    What is offered depends on the shape and on this machine alone, so that a plan's config is
    legal for a plain call.
    """
    p = problem
    axes = [d for d, r in enumerate(p.kernel) if r > 1]
    real = p.itemsize // (2 if p.is_complex else 1)
    zeros = p.boundary == "zeros"
    blocks = p.batch * math.prod([out for out, r in zip(p.out, p.kernel) if r == 1])
    found = []
    for parts in (1,) if p.is_complex else (1, 2):
        rows = None
        if len(axes) == 1:
            lengths, rows = _of_signal(p, axes[0], parts)
            along = {axes[0]: lengths}
        else:
            along = _lengths(p, parts)
        best = core.best_blocks(
            [(n, p.span[d], p.stride[d], p.out[d], _enough(p, d) if zeros else 0)
             for d, n in along.items()],
            rows, blocks,
            parts, not p.is_complex and parts == 1, p.channels // p.groups, p.filters // p.groups,
            real, _rates(real), (_SHARED, _LEFT_OVER),
            (_NS_A_PAIR, _NS_A_ROW, _NS_A_PRODUCT_BYTE, _weights(real, parts)),
            _LONGEST[parts], _OFFERED,
        )  # fmt: skip
        for one, two, places in best:
            chosen = [n[i] for n, i in zip(along.values(), places)]
            found.append((one, two, parts, chosen, rows[places[0]] if rows else 0))
    alone, shared = (sorted(found, key=operator.itemgetter(by))[:_OFFERED] for by in (0, 1))
    offers = {}
    for ns, _, parts, chosen, side in (*alone, *[cut for cut in shared if cut not in alone]):
        shape = (1, side, chosen[0] // parts // side) if side else _part((*chosen,), parts)
        offers[name_of(shape), parts - 1] = Cut(shape, parts == 2, dict(zip(axes, chosen)), ns)
    return offers


#: Transforms' nominal operations, 5 n log2(n) a block, in 1e9 a second, by bytes of a real: what is
#: around them included. 16384 doubles 16, float32 of 4096 to 2**18 samples 23 to 26.
_RATE = {4: 25.0, 8: 16.5}

#: Share of that where a block is out of a cache of 512 KB, and of one of 16 MB: 2**18 floats, and
#: 1440 x 1440 doubles (Zen 3).
_OUT_OF_CACHE = ((1 << 19, 0.95), (1 << 24, 0.5))

#: The same where the next cache is far, as behind an L2 of more than 1 MB: 1080p by 64 x 48 in
#: doubles and by 25 x 25 in floats, blocks of 256 KB to 9.6 MB (Emerald Rapids, 2 MB).
_FAR = ((1 << 19, 0.85), (1 << 20, 0.7), (1 << 21, 0.6), (1 << 24, 0.5))
_NEAR = 1 << 20


@functools.cache
def _rates(real: int) -> tuple[tuple[int, float], ...]:
    """Bytes of a block, and 1e9 nominal operations a second from there on."""
    shares = _FAR if this_machine().l2 > _NEAR else _OUT_OF_CACHE
    return (0, _RATE[real]), *((size, _RATE[real] * share) for size, share in shares)


#: ns a pair of blocks, and a row of each: 2000 signals of 4096 samples in blocks of 16 x 32.
_NS_A_PAIR = 500.0
_NS_A_ROW = 60.0

#: ns a byte of a spectrum that is multiplied: from L3, 20 GB/s.
_NS_A_PRODUCT_BYTE = 0.05

#: ns a real of a half that is multiplied by its weight: 1e6 by 256 float32, 2.85 ms in halves of
#: 48 x 144 where pairs took 2.6.
_NS_A_WEIGHT_REAL = 0.0375

#: ns to pack a sample of a filter's channel and one of the tables, by bytes of a real, and one call
#: of Python: 16 x 16 channels, 13 x 13 taps, 3.3 and 5.9; signals of 20 000 to 100 000 samples.
_NS_A_WEIGHT = {4: 4.0, 8: 6.5}
_NS_A_FACTOR = {4: 4.5, 8: 7.0}
_SECONDS_A_CALL = 12e-6


def floor(problem: Problem) -> float:
    """Seconds that `seconds` is not below, whatever the blocks.

    Each output is in one, which is no shorter than a window, nor than the least number of lanes
    that are transformed side by side, and moves by the stride.
    """
    real = problem.itemsize // (2 if problem.is_complex else 1)
    total = core.blocks_floor(
        problem.geometry, _RATE.get(real, _RATE[8]), _NS_A_PRODUCT_BYTE,
        min(_NS_A_WEIGHT.values()), min(_NS_A_FACTOR.values()),
    )  # fmt: skip
    return _SECONDS_A_CALL + total * 1e-9


def speedup(b: Blocks, threads: int) -> float:
    """What so many threads gain: 13 pairs of 1e6 by 4096 in two, 1.85."""
    pairs = b.problem.groups * b.pairs
    if pairs < threads and b.shared:
        return 1 + (1 / _LEFT_OVER - 1) * (threads - 1)
    return 1 + 0.85 * (max(1, min(threads, pairs)) - 1)


def _weights(real: int, parts: int) -> float:
    """ns a sample of a part."""
    return _NS_A_WEIGHT_REAL * real * (parts - 1)


def _nanoseconds(b: Blocks) -> float:
    """Of a group, packing left out; `core.best_blocks` goes by the same formula."""
    p, n = b.problem, math.prod(b.shape)
    c, k = p.channels // p.groups, p.filters // p.groups
    real = p.itemsize // (2 if p.is_complex else 1)
    rate = max((size, rate) for size, rate in _rates(real) if n * 2 * real > size)[1]
    transforms = (c + k) * (5 * n * math.log2(n) / rate + b.shape[0] * b.shape[1] * _NS_A_ROW)
    transforms += (c + k) * n * _weights(real, 1 + b.halves)
    products = c * k * n * 2 * real * _NS_A_PRODUCT_BYTE
    return b.pairs * (_NS_A_PAIR + transforms + products)


def seconds(b: Blocks) -> float:
    """Estimated time of a call on one thread; the constants above say how they were measured."""
    return seconds_of(b.problem, b.shape, _nanoseconds(b))


def seconds_of(problem: Problem, shape: tuple[int, int, int], ns: float) -> float:
    """`seconds` of blocks that take a group so many nanoseconds."""
    p, n = problem, math.prod(shape)
    total = p.groups * ns
    if not p.prepared:
        real = p.itemsize // (2 if p.is_complex else 1)
        total += p.filters * (p.channels // p.groups) * n * _NS_A_WEIGHT[real]
        total += n * _NS_A_FACTOR[real]
    return float(_SECONDS_A_CALL + total * 1e-9)
