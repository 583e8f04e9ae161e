"""What this machine does in a second, measured once: what the solvers' estimates are scaled by.

The solvers' constants are those of the machines they were measured on. A probe of 1 to 2 s finds
how far this one is from them: rates of matrix products and transforms, bandwidths of copies by
size, what waking a thread costs, and for each solver and instruction set the time over the estimate
of a few problems that stay in cache. It runs when somebody asks for it, `fastconv calibrate` or the
first `fastconv tune`, never inside a call. What it finds is a file beside wisdom, keyed by the
machine; any damage to it costs time, never correctness.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastconv import _settings, _timer
from fastconv._environment import environment
from fastconv._machine import Machine, this_machine
from fastconv._problem import Array, Problem, numpy_dtype
from fastconv._solver import Solver, bind
from fastconv.solvers import SOLVERS
from fastconv.solvers._blas import single_threaded_blas

_log = logging.getLogger("fastconv")

#: "version" of a file's entries: what its numbers mean.
VERSION = 1

#: Bytes that a copy reads and writes: in L2, in L3, in memory.
COPIES = (1 << 17, 1 << 22, 1 << 27)

#: A timed copy moves at least this much, over and over.
_COPIED = 1 << 25

#: Problems whose operands stay in L2 or L3: between them, every solver has two of 50 us to 2 ms.
PROBES = (
    "conv2d f32 n1 c64 h28 w28 k64 r3 s3 p1 prepared",
    "conv2d f32 n1 c128 h14 w14 k128 r1 s1 prepared",
    "conv2d f32 n1 c64 h56 w56 k64 r3 s3 g64 p1 prepared",
    "conv1d f64 n1 c1 w65536 k1 s33 prepared",
    "conv2d f32 n1 c1 h256 w256 k1 r9 s9 p4 reflect rank1 prepared",
    "conv1d f32 n1 c1 w65536 k1 s1024 prepared",
    "conv2d f64 n1 c1 h256 w256 k1 r31 s31 prepared",
)

#: Seconds that one probe may take, and the times and estimates that are believed: shorter ones are
#: overhead, and what is this far off is no property of the machine.
_SECONDS, _SHORTEST, _FURTHEST = 0.12, 2e-5, 4.0


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What a machine does.

    Attributes
    ----------
    products : mapping
        Floating-point operations a second that one core does in BLAS, by dtype (``f32``).
    copies : mapping
        Bytes a second of a copy by one core, by the bytes that it reads and writes.
    transforms : float
        Nominal operations, 5 n log2 n, a second of `scipy.fft` in float32.
    waking : float
        Seconds that a second thread, asleep, costs; 0 where there is none.
    solvers : mapping
        Time over estimate by ``solver`` or ``solver isa``.
    """

    products: Mapping[str, float]
    copies: Mapping[int, float]
    transforms: float
    waking: float
    solvers: Mapping[str, float]

    @classmethod
    def of(cls, found: Any) -> Calibration:
        """From JSON; ValueError, TypeError or KeyError for anything that this did not write."""
        if found["version"] != VERSION:
            raise ValueError(f"expected version {VERSION}, got {found['version']!r}")

        def positive(value: Any, least: float = 1e-30) -> float:
            if isinstance(value, bool) or not (math.isfinite(value) and value >= least):
                raise ValueError(f"expected a number above 0, got {value!r}")
            return float(value)

        return cls(
            {str(k): positive(v) for k, v in found["products"].items()},
            {int(k): positive(v) for k, v in found["copies"].items()},
            positive(found["transforms"]),
            positive(found["waking"], 0.0),
            {str(k): positive(v) for k, v in found["solvers"].items()},
        )

    def as_json(self) -> dict[str, Any]:
        return {"version": VERSION, **dataclasses.asdict(self)}


def beside_wisdom(name: str) -> pathlib.Path | None:
    """A file of the directory that wisdom is in; None where it is in memory only."""
    wisdom = os.environ.get("FASTCONV_WISDOM") or _settings.base().wisdom
    if wisdom:
        return None if wisdom == ":memory:" else pathlib.Path(wisdom).absolute().parent / name
    try:
        import platformdirs

        path = platformdirs.user_cache_path("fastconv") / name
        return path if path.is_absolute() else None
    except Exception:  # having no home directory is no reason to fail
        return None


def path() -> pathlib.Path | None:
    """The file of calibrations."""
    return beside_wisdom("calibration.json")


def _entries() -> dict[str, Any]:
    where = path()
    if where is None or not os.path.isfile(where):
        return {}
    found = json.loads(where.read_text())
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    return found


@functools.cache
def known() -> Calibration | None:
    """What was measured on this machine, read once; None when nothing was, or it is damaged."""
    try:
        found = _entries()
        if not found:
            return None
        entry = found.get(environment(this_machine()))
        return None if entry is None else Calibration.of(entry)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _log.warning("calibration %s: %s; going on without it", path(), error)
        return None


def everywhere() -> dict[str, Calibration]:
    """What was measured on each machine whose entry is here and whole, by environment."""
    found = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        for name, entry in _entries().items():
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                found[name] = Calibration.of(entry)
    return found


def remember(calibration: Calibration) -> bool:
    """Write an entry beside those of other machines, whole or not at all; whether that was done."""
    where = path()
    if where is None:
        return False
    try:
        try:
            found = _entries()
        except (ValueError, UnicodeDecodeError, RecursionError):
            found = {}  # damaged: what other machines have measured is lost
        found[environment(this_machine())] = calibration.as_json()
        where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=where.parent, prefix=where.name)
        with os.fdopen(handle, "w") as file:
            json.dump(found, file, indent=1)
        os.replace(name, where)
    except OSError as error:
        _log.warning("calibration %s: %s; it is not kept", where, error)
        return False
    known.cache_clear()
    return True


# ---- measuring -----------------------------------------------------------------------------------


def _lowest(function: Callable[[], Any], budget: float = _SECONDS) -> float:
    (timing,) = _timer.compare([function], rounds=9, budget=budget)
    return max(timing.lowest, 1e-9)


def product_rate(dtype: str) -> float:
    """Operations a second of a matrix product of 384 by 384 in one thread."""
    n = 384
    a = np.full((n, n), 0.5, numpy_dtype(dtype))
    out = np.empty_like(a)
    with single_threaded_blas():
        return 2 * n**3 / _lowest(lambda: np.matmul(a, a, out=out))


def copied(size: int) -> tuple[Array, Array, int]:
    """Operands of `np.copyto` that read and write `size` bytes in all many times; and how often.

    One row many times: small copies need no Python call each.
    """
    each = size // 2
    times = max(1, _COPIED // size)

    def repeated(a: Array) -> Array:
        return np.lib.stride_tricks.as_strided(a, (times, each // 8), (0, 8))

    return repeated(np.ones(each // 8)), repeated(np.ones(each // 8)), times


def copy_rate(size: int) -> float:
    """Bytes a second of a copy by one thread that reads and writes `size` bytes in all."""
    to, of, times = copied(size)
    return size * times / _lowest(lambda: np.copyto(to, of))


def transform_rate() -> float:
    """Nominal operations a second of scipy.fft, 64 lines of 1024 float32."""
    import scipy.fft

    x = np.ones((64, 1024), np.float32)
    return x.size * 5 / 2 * 10 / _lowest(lambda: scipy.fft.rfft(x, axis=1, workers=1))


def _call(solver: Solver, problem: Problem, config: Any, machine: Machine) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    x, w = (
        rng.uniform(-1, 1, shape).astype(numpy_dtype(problem.dtype))
        for shape in (problem.x_shape, problem.w_shape)
    )
    if problem.rank:
        w[...] = 1.0
    plan = bind(solver, problem, config, machine)
    y = np.empty(plan.y_shape, plan.y_dtype)
    packed = plan.pack_stored(w)
    return lambda: plan(x, packed, None, y)


def waking(machine: Machine) -> float:
    """Seconds that a call of two threads takes longer after a rest than without one."""
    if machine.cores < 2:
        return 0.0
    (direct,) = (s for s in SOLVERS if s.name == "direct")
    problem = Problem.parse("conv2d f32 n1 c32 h28 w28 k32 r3 s3 p1 prepared threads2")
    call = _call(direct, problem, direct.configs(problem, machine)[0], machine)
    rested = [_timer.after_rest(call, 0.004) for _ in range(15)]
    return max(0.0, _timer.quartile(rested, 2) - _lowest(call))


def key_of(method: str, config: Mapping[str, int | str]) -> str:
    """What a candidate's scale is found by."""
    return f"{method} {config['isa']}" if "isa" in config else method


def _scales(machine: Machine, progress: Callable[[float], None]) -> dict[str, float]:
    ratios: dict[str, list[float]] = {}
    for number, text in enumerate(PROBES):
        problem = Problem.parse(text)
        found: dict[str, tuple[Solver, Mapping[str, int | str], float]] = {}
        for solver in SOLVERS:
            if solver.why_not(problem) is None:
                for config in solver.configs(problem, machine):
                    cost = solver.cost(problem, config, machine)
                    found.setdefault(key_of(solver.name, config), (solver, config, cost))
        least = min(cost for *_, cost in found.values())
        found = {k: v for k, v in found.items() if _SHORTEST < v[2] < 10 * least}
        calls = [_call(solver, problem, config, machine) for solver, config, _ in found.values()]
        timings = _timer.compare(calls, rounds=5, budget=_SECONDS)
        for (key, (*_, cost)), timing in zip(found.items(), timings):
            ratio = timing.lowest / cost
            if 1 / _FURTHEST < ratio < _FURTHEST:
                ratios.setdefault(key, []).append(math.log(ratio))
        progress((number + 1) / len(PROBES))
    return {key: math.exp(sum(logs) / len(logs)) for key, logs in sorted(ratios.items())}


def measure(progress: Callable[[float], None] = lambda done: None) -> Calibration:
    """Probe this machine, in one to two seconds; it should have nothing else to do."""
    machine = this_machine()
    return Calibration(
        products={dtype: product_rate(dtype) for dtype in ("f32", "f64")},
        copies={size: copy_rate(size) for size in COPIES},
        transforms=transform_rate(),
        waking=waking(machine),
        solvers=_scales(machine, progress),
    )


# ---- scaling -------------------------------------------------------------------------------------


def scale(
    problem: Problem, method: str, config: Mapping[str, int | str], cost: float, machine: Machine,
    here: Calibration, there: Calibration | None,
) -> float:  # fmt: skip
    """What an estimate, made for another machine, is multiplied by for this one.

    The part that is moving operands too large for L3 goes by the bandwidth of memory, the rest by
    the solver's own scale; the part of a thread's waking that is not in the estimate is added. The
    constants of an instruction set that `there` has not, are taken at their word.
    """
    key = key_of(method, config)
    own = here.solvers.get(key, 1.0) / (there.solvers.get(key, 1.0) if there else 1.0)
    cost = max(cost, 1e-9)
    moved = problem.itemsize * (math.prod(problem.x_shape) + math.prod(problem.y_shape))
    factor = own
    if there is not None and moved > machine.l3:
        size = max(COPIES)
        memory = min(1.0, moved / there.copies[size] / cost)
        factor = own * (1 - memory) + memory * there.copies[size] / here.copies[size]
    if int(config.get("threads", problem.threads)) > 1:
        factor += max(0.0, here.waking - (there.waking if there else 0.0)) / cost
    return factor
