"""Blocks of amx_gradient as its driver lays them out: what settings, bounds and costs need."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._amx import SIDE, SPLIT_IN

#: Samples of a step, filters or images of a pair of tiles.
STEP = PAIR = 2 * SIDE

#: Most filters and images of a unit; splitting a sample of x takes some twice what one of w does.
_MOST_FILTERS, _MOST_IMAGES = 512, 256


class Block(NamedTuple):
    """Pictures of w, rows and columns that are split at once; filters and images of a unit."""

    pictures: int
    rows: int
    columns: int
    filters: int
    images: int


class _Axis(NamedTuple):
    """The driver's: samples beyond those under the kernel's, from a picture to the next, planes."""

    width: int
    reach: int
    pitch: int
    phases: int


def _axis(problem: Problem, d: int) -> _Axis:
    if problem.ndim + d < 0:
        return _Axis(1, 0, 1, 1)
    width, size, out = problem.kernel[d], problem.size[d], problem.out[d]
    u, l, pad = problem.stride[d], problem.dilation[d], problem.padding[d][0]
    phases, reach = min(out, l // math.gcd(u, l)), (out - 1) * u // l
    first = [pad - o * u % l for o in range(phases)]  # where x begins, in its own samples
    lead = min(width + reach, *(-(-max(f, 0) // l) for f in (*first, first[0])))
    used = min(width + reach, max(-(-max(f + size, 0) // l) for f in first))
    return _Axis(width, reach, max(width, width + reach - lead, used), phases)


def block_of(problem: Problem, products: int, cache: int) -> Block:
    """As much as fits `cache` bytes when split, and sums of a unit half of them."""
    rows, columns = _axis(problem, -2), _axis(problem, -1)
    taps = math.prod(problem.out[-2:])
    filters = _whole(problem.filters // problem.groups, _MOST_FILTERS)
    images = _whole(problem.batch, _MOST_IMAGES)
    while filters * images * taps * 4 > cache // 2 and max(filters, images) > PAIR:
        if filters >= 2 * images or images == PAIR:
            filters = _whole(filters, filters // 2)
        else:
            images = _whole(images, images // 2)
    shifts = rows.reach + columns.reach > 0
    bytes_of_sample = 2 * SPLIT_IN[products] * (
        filters + images * rows.phases * columns.phases * (2 if shifts else 1)
    )  # fmt: skip
    room = max(STEP, cache // bytes_of_sample)
    reach = rows.reach * columns.pitch
    picture = rows.pitch * columns.pitch
    pictures = math.prod(problem.kernel[:-2]) * (problem.channels // problem.groups)
    if picture + reach <= room:
        at_once = _even(pictures, (room - reach) // picture)
        return Block(at_once, rows.width, columns.width, filters, images)
    most = (room - reach) // columns.pitch
    if most >= 1 + rows.reach or columns.pitch <= 8 * STEP:
        return Block(1, _even(rows.width, max(1, most)), columns.width, filters, images)
    piece = max(1, room // (1 + rows.reach) // STEP * STEP - columns.reach)
    return Block(1, 1, min(columns.width, piece), filters, images)


def _even(count: int, most: int) -> int:
    """The size, at most `most`, of the fewest equal parts."""
    return -(-count // -(-count // most))


def _whole(count: int, most: int) -> int:
    """The same in pairs of tiles."""
    pairs = max(1, -(-count // PAIR))
    return _even(pairs, max(1, most // PAIR)) * PAIR


def steps_of(problem: Problem, config: Config) -> tuple[int, int]:
    """Steps of all blocks, and how often their sums are added to others; at least."""
    rows, columns = _axis(problem, -2), _axis(problem, -1)
    at_once, band, piece = (int(config[name]) for name in ("pictures", "rows", "columns"))
    pitch = columns.pitch if piece == columns.width else piece + columns.reach
    steps = -(-((at_once - 1) * rows.pitch + band) * pitch // STEP)
    pictures = math.prod(problem.kernel[:-2]) * (problem.channels // problem.groups)
    blocks = -(-pictures // at_once) * -(-rows.width // band) * -(-columns.width // piece)
    return blocks * steps, blocks * -(-steps // int(config["steps"]))
