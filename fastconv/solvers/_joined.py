"""Solvers of integers that panels solves: some channels in an element of 32 bits."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fastconv._accuracy import SUM_BLOCK
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem, numpy_dtype, once
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._panels import MOST_PHASES, TILE, VECTOR_BYTES, block_taps, with_bands

#: Dtypes whose sums have 16 bits or fewer: whatever has the same low bits is multiplied.
NARROW = ("i8", "u8", "i16", "u16")

BYTES = ("i8", "u8")

#: Seconds (Zen 3, one thread): a call of a tile; joining a pair of samples; filling a vector of a
#: panel from a row, or where rows end in it; making a sum narrow.
_CALL, _JOIN, _WHOLE_ROW, _BROKEN, _CUT = 9e-9, 0.15e-9, 0.9e-9, 2e-9, 0.15e-9

#: Bytes a second, of x and of y, that do not hide behind products.
_MOVED = 40e9


class Joined(Solver):
    """Each names the driver that joins its elements: `channels` of them in one."""

    channels: ClassVar[int]

    @abc.abstractmethod
    def products_a_second(self, isa: str) -> float:
        """1e9 of one core in full tiles."""

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        taps = self._elements(problem) * math.prod(problem.kernel)
        bands = with_bands(problem, taps, 4, machine, gaps=False)
        return [
            {
                "isa": isa,
                "panel_bytes": machine.l2 // 4,
                "taps": block_taps(isa, machine),
                "weight_bytes": machine.l2 // 2 if problem.is_dense else 1,
                "band": band,
            }
            for isa in self.isas()
            for band in ((0, 1) if isa in bands else (0,))
        ]

    def reads_stored(self, problem: Problem) -> bool:
        return problem.is_exact and problem.x_dtype in NARROW

    def writes_stored(self, problem: Problem) -> bool:
        return problem.is_exact

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        isa = str(config["isa"])
        rows, vectors = TILE.get(isa, (6, 2))
        lanes = VECTOR_BYTES.get(isa, 16) // 4
        elements, filters = self._elements(problem), problem.filters // problem.groups
        outputs, kernel = math.prod(problem.out), math.prod(problem.kernel)
        phases = math.prod(problem.input_dilation)
        tiles = self.tiles(problem, config, lanes * vectors)
        register_tiles = max(1, -(-filters // rows))
        blocks = max(1, -(-elements * kernel // int(config["taps"])))
        # a tile of few filters takes as long as one of two: loads of x, and sums to wait for
        full = register_tiles * max(filters / register_tiles, 2.0) * tiles * vectors * lanes
        work = (
            full * elements * kernel / phases * self.channels * 1e-9 / self.products_a_second(isa)
        )
        work += tiles * register_tiles * blocks * _CALL
        if config["band"]:
            work += elements * math.prod(problem.padded) * 0.4e-9
        else:
            whole = max(0.0, 1 - lanes * vectors / max(1, problem.out[-1]))
            flat = kernel == 1 and problem.out == problem.size
            each = 0.5e-9 if flat else whole * _WHOLE_ROW + (1 - whole) * 2 * _BROKEN
            work += tiles * vectors * elements * kernel * each
        work += elements * math.prod(problem.size) * _JOIN
        if problem.y_dtype[1:] != "32":
            work += filters * outputs * _CUT
        work *= problem.batch * problem.groups
        size = numpy_dtype(problem.y_dtype).itemsize
        work += (2 * math.prod(problem.x_shape) + size * math.prod(problem.y_shape)) / _MOVED
        threads = min(useful_threads(problem), machine.cores)
        pack = 0.0 if problem.prepared else 1e-6 + 3e-9 * math.prod(problem.w_shape)
        return 3e-6 + (work + pack) / threads + (4e-6 if threads > 1 else 0.0)

    def workspace(self, problem: Problem, config: Config) -> int:
        return driver_bytes(
            problem, self, self.name, str(config["isa"]), self.values(problem, config)
        )

    def error_bound(self, problem: Problem, config: Config) -> float:
        return 0.0

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, self.name, self.values(problem, config))

    def isas(self) -> tuple[str, ...]:
        return core.offered_isas()

    def values(self, problem: Problem, config: Config) -> tuple[int, ...]:
        return tuple(int(config[name]) for name in ("panel_bytes", "taps", "weight_bytes", "band"))

    def tiles(self, problem: Problem, config: Config, pixels: int) -> int:
        """Tiles of an image, of so many pixels."""
        return -(-math.prod(problem.out) // pixels)

    def _elements(self, problem: Problem) -> int:
        """Elements that the channels of a group make."""
        return -(-(problem.channels // problem.groups) // self.channels)


def why_no_result(problem: Problem) -> str | None:
    """What is made of sums in 32 bits."""
    if problem.y_dtype[0] not in "iu" or problem.y_dtype[1:] == "64":
        return f"it stores integers of up to 32 bits, not {problem.y_dtype}"
    if problem.dtype[1:] not in (problem.y_dtype[1:], "32"):
        return f"it stores what it sums in, not {problem.y_dtype} of {problem.dtype}"
    return None


def why_no_bytes(problem: Problem) -> str | None:
    """What products of bytes, four an instruction, take."""
    if problem.device != "cpu":
        return "it runs on the CPU only"
    if problem.dtype not in ("i32", "u32", *NARROW):
        return f"it sums in 32 bits, not {problem.dtype}"
    if problem.x_dtype not in BYTES or problem.w_dtype not in BYTES:
        return f"it multiplies bytes, not {problem.x_dtype} by {problem.w_dtype}"
    if not problem.is_dense:
        return "it takes no input dilation"
    if problem.boundary == "constant":
        of_x = np.iinfo(numpy_dtype(problem.x_dtype))
        if not of_x.min <= problem.cval.real <= of_x.max:
            return f"{problem.cval} is no zero point of {problem.x_dtype}"
    return why_no_result(problem)


@once
def why_no_panels(problem: Problem) -> str | None:
    """What panels take of any integers."""
    if (reason := why_no_result(problem)) is not None:
        return reason
    if problem.boundary not in ("zeros", "constant") and any(map(any, problem.padding)):
        return f"its panels are padded with one number, not {problem.boundary}"
    if problem.layout == "N*C":
        return "it stores rows of pixels, not of channels"
    if any(e > 1 and u > 1 for e, u in zip(problem.input_dilation, problem.stride)):
        return "it takes input dilation, or a stride, not both along an axis"
    if not problem.is_dense and problem.y_dtype[1:] != "32":
        return "with input dilation it stores sums of 32 bits only"
    if (phases := math.prod(problem.input_dilation)) > MOST_PHASES:
        return f"input dilation makes {phases} phases, more than {MOST_PHASES}"
    if math.prod(problem.kernel) > SUM_BLOCK:
        return f"a kernel of more than {SUM_BLOCK} taps a channel fills no panel in L1"
    return None
