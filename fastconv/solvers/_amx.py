"""Positions and blocks of amx_split as its driver lays them out: what bounds and costs need."""

from __future__ import annotations

from fastconv._problem import Problem

#: Rows and columns of a tile of sums, channels of a step, bytes of a pixel's channels, least
#: columns of a unit (drivers/amx_split_plan.c).
SIDE, CHANNELS, LINE, LEAST_COLUMNS = 16, 32, 64, 128

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
