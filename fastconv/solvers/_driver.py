"""Plans of solvers whose loops are a C driver."""

from __future__ import annotations

from typing import Any

from fastconv._epilogue import Epilogue
from fastconv._ext import core
from fastconv._plan import Plan, store
from fastconv._problem import Array, Problem, once
from fastconv._solver import Config, Solver

#: Floating-point operations a thread must find before it is worth waking: about 20 us of work at
#: 50 GFLOP/s, some four times what waking and waiting for it costs.
FLOPS_A_THREAD = 1_000_000

#: What a depthwise channel takes beside its products, in operations: 30 ns. 5x5 stride 2, 672 @
#: 14x14, 1.6 MFLOP, 0.08 ms, is worth two threads.
FLOPS_A_CHANNEL = 1_500


def useful_threads(problem: Problem) -> int:
    """Threads that have enough to do, at most what the problem grants."""
    if problem.threads == 1:
        return 1
    work = problem.flops
    if problem.channels == problem.groups:
        work += problem.batch * problem.filters * FLOPS_A_CHANNEL
    return max(1, min(problem.threads, work // FLOPS_A_THREAD))


class DriverPlan(Plan):
    """A C driver bound to a problem. `values` are the driver's settings, in its own order.

    Weights that are not all finite go to the naive driver: it multiplies only what is there, while
    blocked ones also multiply padding, and 0 * inf is NaN.
    """

    def __init__(
        self, problem: Problem, solver: Solver, config: Config, driver: str, values: tuple[int, ...]
    ) -> None:
        super().__init__(problem, solver, config)
        self._isa = str(config.get("isa", core.isa()))
        self._call = call_of(problem, solver, driver, self._isa, values)
        self._is_blocked = driver != "naive" and not problem.is_exact

    def pack(self, w: Array) -> Any:
        if self._is_blocked and not core.is_finite(w):
            naive = core.Call("naive", self._isa, self.problem)
            return naive, naive.pack(w)
        return self._call, self._call.pack(w)

    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        call, weights = packed
        if call is self._call:
            call.run(x, weights, epilogue, y)
            return
        if x.dtype != self._dtype:  # others read and write no stored dtypes
            x = x.astype(self._dtype)
        wide = y if y.dtype == self._dtype else core.empty(y.shape, self._dtype)
        call.run(x, weights, epilogue, wide)
        if wide is not y:
            store(wide, y)


class HalvesPlan(DriverPlan):
    """A driver that writes y in 16 bits if it `rounds`, and in float32 where sums are not final."""

    finishes_wide = True

    def __init__(
        self, problem: Problem, solver: Solver, config: Config, driver: str,
        values: tuple[int, ...], rounds: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(problem, solver, config, driver, values)
        x, _ = _stored(problem, solver)
        threads, own = useful_threads(problem), problem.accumulator
        self._wide = _call(problem, driver, self._isa, values, threads, x, own)
        self._rounds = rounds

    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        call, weights = packed
        is_own = call is self._call
        if is_own and self._rounds and y.dtype == self._y_dtype:
            call.run(x, weights, epilogue, y)
            return
        wide = y if y.dtype == self._dtype else core.empty(y.shape, self._dtype)
        if is_own:
            self._wide.run(x, weights, epilogue, wide)
        else:
            super().execute(x, packed, epilogue, wide)
        if wide is not y:
            core.narrow(wide, y, self.problem.threads)


def _stored(problem: Problem, solver: Solver) -> tuple[str, str]:
    """The dtypes that a driver sees x and y in."""
    return (
        problem.x_dtype if solver.reads_stored(problem) else problem.accumulator,
        problem.y_dtype if solver.writes_stored(problem) else problem.accumulator,
    )


def call_of(
    problem: Problem, solver: Solver, driver: str, isa: str, values: tuple[int, ...]
) -> core.Call:
    """A driver's call for a problem: that of the candidate whose memory was asked for, and then the
    plan's."""
    return _call(problem, driver, isa, values, useful_threads(problem), *_stored(problem, solver))


@once
def _call(
    problem: Problem, driver: str, isa: str, values: tuple[int, ...], threads: int, x: str, y: str
) -> core.Call:
    return core.Call(driver, isa, problem, values, threads, x, y)


def driver_bytes(
    problem: Problem, solver: Solver, driver: str, isa: str, values: tuple[int, ...]
) -> int:
    """Workspace and packed weights of a driver's call."""
    call = call_of(problem, solver, driver, isa, values)
    return int(call.workspace_bytes + call.packed_bytes)
