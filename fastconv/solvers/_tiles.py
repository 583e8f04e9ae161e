"""Tiles of winograd: axes that are transformed, sections of their taps, and errors."""

from __future__ import annotations

import functools
from typing import NamedTuple

from fastconv._problem import Problem

#: Taps r of an axis and config m -> outputs of a tile along it (fc_lines of fc.h).
_OUTPUTS = {
    2: {4: 4, 3: 4, 2: 4}, 3: {4: 4, 3: 3, 2: 2}, 4: {4: 3, 3: 3, 2: 3}, 5: {4: 2, 3: 2, 2: 2}
}  # fmt: skip

#: Longest kernel, in taps a phase. Products are a quarter of direct's at best, in one dimension
#: half, whatever the length; Fourier's grow with its logarithm.
LONGEST = 32

#: Outputs and taps -> how much the transforms along one axis can make of a rounding error, K of
#: docs/accuracy.md.
_GROWTH = {(4, 2): 7.7, (2, 3): 4.0, (3, 3): 8.2, (4, 3): 14.3, (3, 4): 15.3, (2, 5): 16.7}

#: Channels that the driver sums at a time (FC_WINOGRAD_CHANNELS of fc.h), and what each addition
#: adds to the error, in eps B: the largest seen was 0.022, for data of one sign.
_CHANNELS, _ADDITION = 32, 0.06


@functools.lru_cache(maxsize=64)
def _taps(longest: int) -> int:
    """Taps r of the sections of a phase of `longest` taps; 1 where there is no transform."""
    if longest > LONGEST:
        return 1
    if longest <= max(_OUTPUTS):
        return longest
    # the fewest products an output
    return min((3, 4), key=lambda r: -(-longest // r) * (_OUTPUTS[r][4] + r - 1) / _OUTPUTS[r][4])


class Tile(NamedTuple):
    """Outputs along each axis, 1 where it is not transformed; what is summed of a point for each
    channel, taps of the axes that are not transformed and sections of those that are; points of
    all axes; the share of the products, as sections that are not full have none at infinity; how
    much the transforms can make of a rounding error; and the driver's number for it."""

    outputs: tuple[int, ...]
    sections: int
    points: int
    share: float
    growth: float
    code: int


class _Axes(NamedTuple):
    """What kernel, stride and dilation say: of a network's layers few differ."""

    transformed: tuple[int, ...]
    tiles: dict[int, Tile]


@functools.lru_cache(maxsize=256)
def _axes(kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> _Axes:
    taps = tuple(
        _taps(-(-k // u)) if u == 1 or l == 1 else 1 for k, u, l in zip(kernel, stride, dilation)
    )
    can = [d for d, r in enumerate(taps) if r > 1]
    along = tuple(can[-2:] if len(kernel) - 1 in can else can[-1:])
    tiles = {}
    for m in (2, 3, 4):
        outputs = tuple(_OUTPUTS[r][m] if d in along else 1 for d, r in enumerate(taps))
        summed, points, share, growth, code = 1, 1, 1.0, 1.0, 0
        for d, (k, u, r, o) in enumerate(zip(kernel, stride, taps, outputs)):
            if o == 1:
                summed *= k
                continue
            sections, full = _sections(k, u, r)
            summed, points = summed * sections, points * (o + r - 1)
            share *= 1 - (sections - full) / (sections * (o + r - 1))
            growth *= _GROWTH[o, r]
            code += (o + (r << 4)) << 8 * d
        tiles[m] = Tile(outputs, summed, points, share, growth, code)
    return _Axes(along, tiles)


def tile_of(problem: Problem, m: int) -> Tile:
    """The tile of a config."""
    return _axes(problem.kernel, problem.stride, problem.dilation).tiles[m]


def transformed(problem: Problem) -> tuple[int, ...]:
    """The axes that are transformed: the innermost and the one before it, where they can be."""
    return _axes(problem.kernel, problem.stride, problem.dilation).transformed


def _sections(k: int, u: int, r: int) -> tuple[int, int]:
    """Sections of r taps, u apart, of k taps, and how many of them are full."""
    before, rest = (k - 1) // (r * u) * u, (k - 1) % (r * u) + 1
    return before + min(u, rest), before + max(0, rest - (r - 1) * u)


def error_parts(problem: Problem, m: int) -> tuple[float, float, float]:
    """Errors, in eps: of the transforms, relative to what they can make of one rounding error for
    any filter, and for the filter at hand; and of sums over channels, relative to B."""
    tile = tile_of(problem, m)
    channels = problem.channels // problem.groups * tile.sections
    additions = min(channels, _CHANNELS) + channels / _CHANNELS
    # a quarter more than the largest found by climbing: docs/accuracy.md
    any_filter, this_filter = 1.0, 1.6
    if len(transformed(problem)) == 1:
        any_filter, this_filter = 1.4, 2.0
    elif tile.points == 6 * 6:
        any_filter, this_filter = 0.6, 1.0
    return any_filter, this_filter, _ADDITION * additions


def bound(problem: Problem, m: int) -> float:
    """Bound on abs(error) / B, in eps; B is the largest abs(x) of a tile times sum(abs(w))."""
    transform, _, addition = error_parts(problem, m)
    return transform * tile_of(problem, m).growth + addition
