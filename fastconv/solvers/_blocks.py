"""How `overlap_save` cuts a problem into blocks, and what that costs."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import math
from collections.abc import Iterator

import numpy as np

from fastconv._problem import Array, Problem
from fastconv.solvers._fourier import Axis, Layout, Piece

#: Settings that are offered: the best by the cost model, for the planner to time.
_OFFERED = 4

#: Lengths that are tried along an axis of several, from the shortest that holds a window on.
_LENGTHS = 9

#: Samples of the longest block: beyond it one transform of scipy.fft, of real data, takes less time
#: than ours of complex ones: 1e6 by 1e6 doubles 69 ms, in one block of 1440 x 1440 106.
_LONGEST = 1 << 20


def _smooth(multiple: int, most: int) -> list[int]:
    """Products of 2, 3 and 5 up to `most` that are a multiple of `multiple`."""
    found = {
        multiple * 2**a * 3**b * 5**c
        for a in range(14) for b in range(4) for c in range(3)
        if multiple * 2**a * 3**b * 5**c <= most
    }  # fmt: skip
    return sorted(found)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How a problem is cut: samples of a block's planes, rows and columns, and the layout."""

    shape: tuple[int, int, int]
    layout: Layout
    problem: Problem

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return tuple(-(-out // a.kept) for out, a in zip(self.problem.out, self.layout))

    @property
    def blocks(self) -> int:
        return self.problem.batch * math.prod(self.counts)

    @property
    def together(self) -> int:
        """Blocks that are one transform: real ones are its real and imaginary parts."""
        return 1 if self.problem.is_complex else 2

    @property
    def pairs(self) -> int:
        return -(-self.blocks // self.together)

    @property
    def values(self) -> tuple[int, ...]:
        """The driver's settings."""
        kept = [a.kept for a, r in zip(self.layout, self.problem.kernel) if r > 1]
        guard = self.problem.accuracy != "fast"
        return (*self.shape, *[1] * (3 - len(kept)), *kept, int(guard))

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


def _enough(problem: Problem, axis: int) -> int:
    """Samples that hold the whole axis."""
    before, after = problem.padding[axis]
    if problem.boundary == "zeros":  # one run of zeros serves both ends, as in _fourier.whole_axis
        last = (problem.out[axis] - 1) * problem.stride[axis]
        return max(problem.size[axis] + max(before, after), problem.span[axis], last + 1)
    return problem.padded[axis]


def _shapes(problem: Problem) -> Iterator[tuple[tuple[int, int, int], dict[int, int]]]:
    """Blocks that may be worth it: their samples, and the length along each axis transformed."""
    axes = [d for d, r in enumerate(problem.kernel) if r > 1]
    real = problem.itemsize // (2 if problem.is_complex else 1)
    lanes = 64 // real  # of the widest vectors
    least = {d: problem.span[d] + problem.stride[d] - 1 for d in axes}
    if len(axes) == 1:
        (d,) = axes
        whole = _enough(problem, d)
        sides = _smooth(lanes, 4096)
        found: dict[int, tuple[int, int]] = {}
        for n1 in sides:
            for n2 in sides:
                if n1 <= n2 <= 3 * n1 and n1 * n2 >= least[d]:
                    found.setdefault(n1 * n2, (n1, n2))
        lengths = sorted(found)
        end = next((i for i, n in enumerate(lengths) if n >= whole), len(lengths) - 1)
        for n in lengths[: end + 1]:
            if n <= _LONGEST and (n <= 64 * least[d] or n <= 1 << 13):
                yield (1, *found[n]), {d: n}
        return
    each = []
    for i, d in enumerate(axes):
        whole = _enough(problem, d)
        multiple = lanes if i == len(axes) - 1 else 8 if i == len(axes) - 2 else 1
        lengths = [n for n in _smooth(multiple, 8192) if n >= least[d]]
        end = next((j for j, n in enumerate(lengths) if n >= whole), len(lengths) - 1)
        lengths = lengths[: end + 1]
        step = max(1, -(-len(lengths) // _LENGTHS))
        each.append(lengths[::-1][::step])  # the whole axis among them
    for chosen in itertools.product(*each):
        if math.prod(chosen) > _LONGEST:
            continue
        shape = (1,) * (3 - len(axes)) + chosen
        yield shape, dict(zip(axes, chosen))  # type: ignore[misc]


def offered(problem: Problem) -> dict[str, Blocks]:
    """The cuts that cost least, best first; by their names."""
    # what is offered depends on the shape alone, so that a plan's config is legal for a plain call
    found = _offered(problem.replace(prepared=True, threads=1, accuracy="balanced"))
    return {name: dataclasses.replace(b, problem=problem) for name, b in found.items()}


@functools.lru_cache(64)
def _offered(problem: Problem) -> dict[str, Blocks]:
    found = {}
    for shape, n in _shapes(problem):
        layout = tuple(_axis(problem, d, n.get(d, 1)) for d in range(problem.ndim))
        found["x".join(map(str, shape[1:] if shape[0] == 1 else shape))] = Blocks(
            shape, layout, problem
        )
    best = heapq.nsmallest(_OFFERED, found, key=lambda name: seconds(found[name]))
    return {name: found[name] for name in best}


#: Transforms' nominal operations, 5 n log2(n) a block, in 1e9 a second, by bytes of a real: what is
#: around them included. 16384 doubles 16, float32 of 4096 to 2**18 samples 23 to 26.
_RATE = {4: 25.0, 8: 16.5}

#: Share of that where a block is out of a cache of 512 KB, and of one of 16 MB: 2**18 floats, and
#: 1440 x 1440 doubles.
_OUT_OF_CACHE = ((1 << 19, 0.95), (1 << 24, 0.5))

#: ns a pair of blocks, and a row of each: 2000 signals of 4096 samples in blocks of 16 x 32.
_NS_A_PAIR = 500.0
_NS_A_ROW = 60.0

#: ns a byte of a spectrum that is multiplied: from L3, 20 GB/s.
_NS_A_PRODUCT_BYTE = 0.05

#: ns to pack a sample of a filter's channel and one of the tables, and one call of Python.
_NS_A_WEIGHT = 6.5
_NS_A_FACTOR = 4.0
_SECONDS_A_CALL = 12e-6


def seconds(b: Blocks) -> float:
    """Estimated time of a call on one thread; the constants above say how they were measured."""
    p = b.problem
    n = math.prod(b.shape)
    c, k = p.channels // p.groups, p.filters // p.groups
    real = p.itemsize // (2 if p.is_complex else 1)
    rate = _RATE[real]
    for size, share in _OUT_OF_CACHE:
        if n * 2 * real > size:
            rate = _RATE[real] * share
    transforms = (c + k) * (5 * n * math.log2(n) / rate + b.shape[0] * b.shape[1] * _NS_A_ROW)
    products = c * k * n * 2 * real * _NS_A_PRODUCT_BYTE
    total = p.groups * b.pairs * (_NS_A_PAIR + transforms + products)
    if not p.prepared:
        total += p.filters * c * n * _NS_A_WEIGHT + n * _NS_A_FACTOR
    return _SECONDS_A_CALL + total * 1e-9
