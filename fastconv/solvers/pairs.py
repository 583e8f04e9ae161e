"""pairs: integers of 8 and 16 bits, two channels an instruction, summed exactly in 32 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._accuracy import SUM_BLOCK
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem, numpy_dtype, once
from fastconv._solver import Config, Solver
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads

#: What x and w may be stored in: as int16 less a zero point of their own kind, or, where sums have
#: 16 bits or fewer, whatever has the same low bits.
_WHOLE, _NARROW = ("i8", "u8", "i16"), ("i8", "u8", "i16", "u16")

#: Measured 1e9 products a second of one core in full tiles (Zen 3: 3x3 layers reach 69 in all), and
#: as `panels` has them: filters and vectors of a register tile, bytes of a vector.
_RATE = {"avx512": 140, "avx2": 74, "neon": 20, "baseline": 22}
_TILE = {"avx512": (8, 3), "neon": (8, 3)}
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}

#: Seconds (Zen 3, one thread): a call of a tile; joining a pair of samples; filling a vector of a
#: panel from a row, or where rows end in it; making a sum narrow.
_CALL, _JOIN, _WHOLE_ROW, _BROKEN, _CUT = 9e-9, 0.15e-9, 0.9e-9, 2e-9, 0.15e-9

#: Bytes a second, of x and of y, that do not hide behind products.
_MOVED = 40e9

#: Most phases of the outputs (panels).
_MOST_PHASES = 64


class Pairs(Solver):
    name = "pairs"
    paper = (
        "Intel, Lower Numerical Precision Deep Learning Inference and Training, 2018; Goto, van de"
        " Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008"
    )

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype in ("i32", "u32"):
            if problem.x_dtype not in _WHOLE or problem.w_dtype not in _WHOLE:
                return f"it multiplies 16 bits, not {problem.x_dtype} by {problem.w_dtype}"
        elif problem.dtype not in _NARROW:
            return f"it sums in 32 bits, not {problem.dtype}"
        if problem.y_dtype[0] not in "iu" or problem.y_dtype[1:] == "64":
            return f"it stores integers of up to 32 bits, not {problem.y_dtype}"
        if problem.dtype[1:] not in (problem.y_dtype[1:], "32"):
            return f"it stores what it sums in, not {problem.y_dtype} of {problem.dtype}"
        if problem.boundary == "constant" and not _is_zero_point(problem):
            return f"x less {problem.cval} has more than 16 bits"
        if problem.boundary not in ("zeros", "constant") and any(map(any, problem.padding)):
            return f"its panels are padded with one number, not {problem.boundary}"
        if problem.layout == "N*C":
            return "it stores rows of pixels, not of channels"
        return _why_no_panels(problem)

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        bands = problem.is_dense and math.prod(problem.kernel) > 1 and problem.ndim <= 2
        return [
            {
                "isa": isa,
                "panel_bytes": machine.l2 // 4,
                "taps": _block_taps(isa, machine),
                "weight_bytes": machine.l2 // 2 if problem.is_dense else 1,
                "band": band,
            }
            for isa in core.offered_isas()
            for band in ((0, 1) if bands and _fits_bands(problem, isa, machine) else (0,))
        ]

    def reads_stored(self, problem: Problem) -> bool:
        return problem.is_exact and problem.x_dtype in _NARROW

    def writes_stored(self, problem: Problem) -> bool:
        return problem.is_exact

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        isa = str(config["isa"])
        rows, vectors = _TILE.get(isa, (6, 2))
        lanes = _VECTOR_BYTES.get(isa, 16) // 4
        pairs, filters = _pairs(problem), problem.filters // problem.groups
        outputs, kernel = math.prod(problem.out), math.prod(problem.kernel)
        phases = math.prod(problem.input_dilation)
        tiles, register_tiles = -(-outputs // (lanes * vectors)), max(1, -(-filters // rows))
        blocks = max(1, -(-pairs * kernel // int(config["taps"])))
        # a tile of few filters takes as long as one of two: loads of x, and sums to wait for
        full = register_tiles * max(filters / register_tiles, 2.0) * tiles * vectors * lanes
        work = full * pairs * kernel / phases * 2e-9 / _RATE[isa]
        work += tiles * register_tiles * blocks * _CALL
        if config["band"]:
            work += pairs * math.prod(problem.padded) * 0.4e-9
        else:
            whole = max(0.0, 1 - lanes * vectors / max(1, problem.out[-1]))
            flat = kernel == 1 and problem.out == problem.size
            each = 0.5e-9 if flat else whole * _WHOLE_ROW + (1 - whole) * 2 * _BROKEN
            work += tiles * vectors * pairs * kernel * each
        work += pairs * math.prod(problem.size) * _JOIN
        if problem.y_dtype[1:] != "32":
            work += filters * outputs * _CUT
        work *= problem.batch * problem.groups
        size = numpy_dtype(problem.y_dtype).itemsize
        work += (2 * math.prod(problem.x_shape) + size * math.prod(problem.y_shape)) / _MOVED
        threads = min(useful_threads(problem), machine.cores)
        pack = 0.0 if problem.prepared else 1e-6 + 3e-9 * math.prod(problem.w_shape)
        return 3e-6 + (work + pack) / threads + (4e-6 if threads > 1 else 0.0)

    def workspace(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "pairs", str(config["isa"]), _values(config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return 0.0

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "pairs", _values(config))


def _values(config: Config) -> tuple[int, ...]:
    return tuple(int(config[name]) for name in ("panel_bytes", "taps", "weight_bytes", "band"))


def _pairs(problem: Problem) -> int:
    """Pairs of channels of a group."""
    return -(-(problem.channels // problem.groups) // 2)


def _block_taps(isa: str, machine: Machine) -> int:
    """Taps of a block: the panel of a tile stays in three quarters of L1."""
    wide = _TILE.get(isa, (6, 2))[1] * _VECTOR_BYTES.get(isa, 16)
    return min(SUM_BLOCK, machine.l1 * 3 // 4 // wide)


def _fits_bands(problem: Problem, isa: str, machine: Machine) -> bool:
    """Whether all taps are one block, and rows at least a tile long: panels' plan_geometry."""
    most = _TILE.get(isa, (6, 2))[1] * _VECTOR_BYTES.get(isa, 16) // 4
    taps = _pairs(problem) * math.prod(problem.kernel)
    return taps <= _block_taps(isa, machine) and problem.out[-1] >= most


@once
def _why_no_panels(problem: Problem) -> str | None:
    """What panels take of any dtype."""
    if any(e > 1 and u > 1 for e, u in zip(problem.input_dilation, problem.stride)):
        return "it takes input dilation, or a stride, not both along an axis"
    if not problem.is_dense and problem.y_dtype[1:] != "32":
        return "with input dilation it stores sums of 32 bits only"
    if (phases := math.prod(problem.input_dilation)) > _MOST_PHASES:
        return f"input dilation makes {phases} phases, more than {_MOST_PHASES}"
    if math.prod(problem.kernel) > SUM_BLOCK:
        return f"a kernel of more than {SUM_BLOCK} taps a channel fills no panel in L1"
    return None


def _is_zero_point(problem: Problem) -> bool:
    """Whether x less the constant fits 16 bits, or sums have no more."""
    if problem.dtype[1:] != "32":
        return True
    return numpy_dtype(problem.x_dtype).itemsize == 1 and abs(problem.cval.real) < 2**14
