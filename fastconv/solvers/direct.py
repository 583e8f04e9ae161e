"""direct: register tiles that read the input in place, blocked for cache, vectorised per ISA."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

from fastconv._accuracy import SUM_BLOCK, blocked_sum_bound
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem, once
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: FC_PHASES of drivers/phase.h.
MAX_PHASES = 256


#: Measured GFLOP/s of one core (EPYC 9004, 3 GHz class) in 3x3 layers, by ISA and element: floats
#: by size, unsigned integers by name. Only ratios between candidates matter to the planner.
_GFLOPS: dict[str, dict[int | str, float]] = {
    "avx512": {4: 108, 8: 54, "u8": 80, "u16": 150, "u32": 80, "u64": 41},
    "avx2": {4: 85, 8: 44, "u8": 95, "u16": 110, "u32": 60, "u64": 11},
    "neon": {4: 50, 8: 25, "u8": 60, "u16": 60, "u32": 30, "u64": 6},
    "baseline": {4: 28, 8: 14, "u8": 38, "u16": 48, "u32": 12, "u64": 5.5},
}

#: Register tiles, filters x vectors, of kernels/tile.c; and the share of the rate that tiles of few
#: filters reach, by filters: they load more than they multiply.
_TILES = {32: ((8, 3), (4, 6), (2, 8), (1, 8)), 16: ((6, 2), (4, 3), (2, 4), (1, 8))}
_SHARE = {8: 1.0, 6: 1.0, 4: 0.95, 2: 0.9, 1: 0.54}
_REGISTERS = {"avx512": 32, "neon": 32}
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}


class Direct(Polyphase):
    name = "direct"
    paper = (
        "Zhang, Franchetti, Low, High Performance Zero-Memory Overhead Direct Convolutions,"
        " ICML 2018; Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication,"
        " ACM TOMS 34(3), 2008"
    )

    scatter = 0.3e-9

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype in ("f80", "c160"):
            return "it has no kernels for long double"
        if phases(problem) > MAX_PHASES:
            return f"strides and kernel make more than {MAX_PHASES} phases"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        # planes of half of L2 leave the other half to weights and sums; longer bands copy less halo
        half = machine.l2 // 2
        return [
            {"isa": isa, "plane_bytes": size, "taps": SUM_BLOCK, "filters": 64}
            for isa in core.offered_isas()
            for size in (half * 8, half)
        ]

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        isa = str(config["isa"])
        tiles, copied, weights = _tiled(problem, isa), _copied(problem), _weights(problem)
        images = problem.batch * problem.groups
        # each band of planes but the first copies its halo again
        bands = max(1.0, copied.bytes / float(int(config["plane_bytes"])))
        halo = (problem.span[0] - 1) / problem.padded[0]
        work = images * (tiles + copied.seconds * (1 + (bands - 1) * halo))
        stored = problem.itemsize * math.prod(problem.y_shape)
        work += stored / (40e9 if stored < machine.l3 // 4 else 12e9)
        # weights that L2 does not hold come from L3 at 30 GB/s, once for each set of columns
        if weights > machine.l2 // 2:
            rows, last, *_ = _flattened(problem)
            work += weights / 30e9 * math.ceil(rows * last / 48)
        parts = 2 if problem.is_complex else 1
        size, filters = problem.itemsize // parts, parts * problem.filters // problem.groups
        units = images * bands
        threads = min(useful_threads(problem), machine.cores)
        lanes = threads if units * filters >= threads else 1
        pack = 0.0
        if not problem.prepared:
            vectors = parts == 1 and size == 4 and filters >= 8 and not problem.flip
            pack = 1e-6 + weights / size * (0.22e-9 if vectors else 2.7e-9)
        return 2e-6 + 0.1e-6 * units + work / lanes + pack + (4e-6 if lanes > 1 else 0.0)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "direct", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return blocked_sum_bound(problem)

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "direct", _values(config))


def _values(config: Config) -> tuple[int, ...]:
    return int(config["plane_bytes"]), int(config["taps"]), int(config["filters"])


@once
def _tiled(problem: Problem, isa: str) -> float:
    """Seconds that one thread takes for the tiles of an image of a group."""
    parts = 2 if problem.is_complex else 1
    size = problem.itemsize // parts
    floating = problem.dtype[0] in "fc"
    rate = _GFLOPS[isa][size if floating else problem.accumulator.replace("i", "u")] * 1e9
    left, taps = parts * problem.filters // problem.groups, parts * problem.taps
    rows, last, gap, _ = _flattened(problem)
    seconds = 0.0
    for tile, vectors in _TILES[_REGISTERS.get(isa, 16)]:
        blocks, left = divmod(left, tile)
        if not blocks:
            continue
        columns = vectors * _VECTOR_BYTES.get(isa, 16) // size
        if gap >= columns:
            tiles = rows * -(-last // columns)
        else:
            tiles = -(-(rows * last + (rows - 1) * gap) // columns)
        products = blocks * tile * tiles * columns * taps
        # about 40 ns a tile to set up and store, and 7 ns a run of outputs
        seconds += 2 * products / (rate * _SHARE[tile]) + blocks * tiles * 40e-9
        seconds += blocks * tile * rows * 7e-9
    return seconds


class _Planes(NamedTuple):
    """The planes of an image of a group."""

    bytes: float
    seconds: float


@once
def _copied(problem: Problem) -> _Planes:
    """A copy at 14 GB/s where rows are dense, 1 ns an element where they are strided; 20 ns a row
    either way."""
    parts = 2 if problem.is_complex else 1
    size, channels = problem.itemsize // parts, problem.channels // problem.groups
    fit = math.prod(problem.padded) / math.prod(problem.stride)
    cells = fit * math.prod(_phases(problem.kernel, problem.stride, problem.dilation))
    dense = problem.stride[-1] == 1 and problem.layout != "N*C"
    each = 1e-9 if not dense else size / 14e9 if parts == 1 else 0.3e-9
    copy = cells * parts * channels * each
    copy += cells * parts * channels / _flattened(problem)[3] * 20e-9
    return _Planes(cells * parts * channels * size, copy)


@once
def _weights(problem: Problem) -> int:
    """Bytes of the packed weights."""
    parts = 2 if problem.is_complex else 1
    filters = parts * problem.filters // problem.groups
    return filters * parts * problem.taps * (problem.itemsize // parts) * problem.groups


@once
def _flattened(problem: Problem) -> tuple[int, int, int, int]:
    """Rows of outputs, outputs of a row, the gap that tiles run across between two rows, and
    elements of a padded row; trailing axes without a kernel belong to the row."""
    axis, unit = problem.ndim - 1, 1
    while axis > 0 and problem.kernel[axis] == problem.stride[axis] == 1:
        if any(problem.padding[axis]):
            break
        unit *= problem.out[axis]
        axis -= 1
    gap = (problem.kernel[axis] - 1) * problem.dilation[axis] // problem.stride[axis]
    rows = math.prod(problem.out[:axis])
    return rows, problem.out[axis] * unit, gap * unit, max(1, problem.padded[axis] * unit)


def phases(problem: Problem) -> int:
    """Stride phases that the driver keeps a plane for, over all axes."""
    return sum(_phases(problem.kernel, problem.stride, problem.dilation))


@functools.lru_cache(maxsize=256)
def _phases(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """Those of each axis: of a network's layers few differ."""
    return tuple([min(r, u // math.gcd(u, l)) for r, u, l in zip(kernel, stride, dilation)])
