"""amx_int8: integers of 8 bits on tiles of AMX, summed exactly in 32 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads

#: Rows and columns of a tile of sums, channels of a step.
_SIDE, _CHANNELS = 16, 64

#: Fewest channels of a group: with fewer, most of a tile is nothing.
_LEAST_CHANNELS = 32

#: Measured seconds, one core of an Emerald Rapids at 2.3 GHz that its neighbours leave alone: a
#: product of two tiles, gathering a pixel of 64 channels, storing a tile of sums, a call, reading a
#: weight.
_PRODUCT, _PIXEL, _TILE, _CALL, _READ = 7.6e-9, 5e-9, 65e-9, 3e-6, 0.03e-9

#: Seconds that a weight takes to pack; a guess.
_PACK = 3e-9


class AmxInt8(Solver):
    name = "amx_int8"
    exact = True
    paper = (
        "Intel, Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18"
    )
    #: Whether tiles are multiplied by C that does as the processor is documented to: for tests.
    emulated: ClassVar[bool] = False

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.flops == 0:
            return "there is nothing to multiply"
        if problem.dtype not in ("i32", "u32"):
            return f"its tiles sum in 32 bits, not {problem.dtype}"
        if problem.x_dtype not in ("i8", "u8") or problem.w_dtype not in ("i8", "u8"):
            return f"it multiplies 8 bits, not {problem.x_dtype} by {problem.w_dtype}"
        if problem.y_dtype[0] not in "iu" or problem.y_dtype[1:] == "64":
            return f"it stores integers of up to 32 bits, not {problem.y_dtype}"
        if problem.boundary == "constant" and not _holds(problem.x_dtype, problem.cval.real):
            return f"{problem.x_dtype} does not hold {problem.cval}"
        if problem.boundary not in ("zeros", "constant") and any(map(any, problem.padding)):
            return f"it pads with one number, not {problem.boundary}"
        if problem.layout == "N*C":
            return "it stores rows of pixels, not of channels"
        if not problem.is_dense:
            return "it takes no input dilation"
        if self.emulated:
            return None
        channels = problem.channels // problem.groups
        if channels < _LEAST_CHANNELS:
            return f"a tile has {_CHANNELS} channels, a group of this problem {channels}"
        return core.amx_int8_absent()

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        config: Config = {"cache_bytes": machine.l2 // 2}
        return [{"isa": core.isa(), **config} if self.emulated else config]

    def reads_stored(self, problem: Problem) -> bool:
        return problem.is_dense

    def writes_stored(self, problem: Problem) -> bool:
        return problem.is_dense

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        filters, channels = (n // problem.groups for n in (problem.filters, problem.channels))
        across = (problem.kernel[-1] - 1) * problem.dilation[-1] // problem.stride[-1]
        # positions between rows are computed too; filters and channels fill whole tiles
        positions = math.prod(problem.out[:-1]) * (problem.out[-1] + across)
        tiles, layers = -(-positions // _SIDE) * -(-filters // _SIDE), -(-channels // _CHANNELS)
        seconds = tiles * (layers * math.prod(problem.kernel) * _PRODUCT + _TILE)
        seconds += layers * math.prod(problem.padded) * _PIXEL
        seconds = seconds * problem.batch * problem.groups + math.prod(problem.w_shape) * _READ
        threads = min(useful_threads(problem), machine.cores)
        seconds = _CALL + seconds / threads + (4e-6 if threads > 1 else 0.0)
        return seconds + (0.0 if problem.prepared else 1e-6 + math.prod(problem.w_shape) * _PACK)

    def workspace(self, problem: Problem, config: Config) -> int:
        isa = str(config.get("isa", core.isa()))
        return driver_bytes(problem, self, "amx_int8", isa, self._values(problem, config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return 0.0

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "amx_int8", self._values(problem, config))

    def _values(self, problem: Problem, config: Config) -> tuple[int, ...]:
        return int(config["cache_bytes"]), int(problem.w_dtype == "i8"), int(self.emulated)


def _holds(dtype: str, v: float) -> bool:
    """Whether integers of a dtype include v."""
    low = -128 if numpy_dtype(dtype).kind == "i" else 0
    return low <= v <= low + 255
