"""Positions and blocks of amx_split as its driver lays them out: what bounds and costs need."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastconv._problem import Problem, once
from fastconv._solver import Config

#: Rows and columns of a tile of sums, channels of a step, bytes of a pixel's channels, least
#: columns of a unit (drivers/amx_split_plan.c).
SIDE, CHANNELS, _LINE, _LEAST_COLUMNS = 16, 32, 64, 128

#: Of outputs with input dilation, along both axes together (drivers/amx_split.h).
MOST_RESIDUES = 64

#: Parts of a sample, by number of products.
SPLIT_IN = {1: 1, 3: 2, 4: 2, 6: 3}

#: By number of products of parts: what is left out, relative to abs(w) * abs(x), and the sum of the
#: sizes of what is multiplied. Parts are at most 1 + 2^-8, 2^-8 and 2^-17 of the operand; one
#: product is of operands that are stored as bfloat16, and leaves out nothing; nor do four of those
#: stored as float16, which two parts hold.
LEFT_OUT = {1: 0.0, 3: 2.0**-15 + 2.0**-33, 4: 2.0**-16 + 2.0**-33, 6: 2.0**-24 + 2.0**-33}
_PARTS = (1 + 2.0**-8, 2.0**-8, 2.0**-17)
SIZES = {
    1: 1.0,
    3: _PARTS[0] ** 2 + 2 * _PARTS[0] * _PARTS[1],
    4: (_PARTS[0] + _PARTS[1]) ** 2,
    6: (_PARTS[0] + _PARTS[1]) ** 2 + 2 * _PARTS[0] * _PARTS[2],
}


def why_no_tiles(problem: Problem) -> str | None:
    """What tiles of bfloat16 parts take of no problem, whatever they sum over."""
    if problem.flops == 0:
        return "there is nothing to multiply"
    if problem.device != "cpu":
        return "it runs on the CPU only"
    if problem.dtype != "f32":
        return f"its tiles sum in f32, not {problem.dtype}"
    if problem.boundary != "zeros" and any(map(any, problem.padding)):
        return f"it pads with zeros, not {problem.boundary}"
    return None


class Axis(NamedTuple):
    """plan_axis of the driver: positions and how far the taps of one reach; besides, phases that x
    is taken apart to, and most taps that an output meets."""

    positions: int
    reach: int
    phases: int
    taps: int


@once
def axes_of(problem: Problem) -> tuple[Axis, ...]:
    found = []
    for i, r in enumerate(problem.kernel):
        u, l, e = problem.stride[i], problem.dilation[i], problem.input_dilation[i]
        reach, pad = (r - 1) * l, problem.padding[i][0]
        reach = reach // u if e == 1 else pad // e - (pad - reach) // e
        taps = -(-r // (e // math.gcd(l, e)))
        found.append(Axis(-(-problem.out[i] // e), reach, min(r, u // math.gcd(u, l)), taps))
    return tuple(found)


def depth_of(problem: Problem, config: Config, layers: int) -> int:
    """Tiles of channels that are summed in one go: depth_of of the driver."""
    products, taps, positions = int(config["products"]), 1, 1
    line = _LINE * SPLIT_IN[products]
    for axis, least in zip(axes_of(problem)[-2:], (1, _LEAST_COLUMNS)[-problem.ndim :]):
        line *= axis.phases
        taps *= axis.taps
        positions *= min(axis.positions, max(least, axis.reach)) + axis.reach
    room = int(config["cache_bytes"]) // max(1, positions * line)
    return max(1, min(layers, room, int(config["most"]) // (taps * products)))
