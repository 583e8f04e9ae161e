"""`Planner`: problem -> plan, from wisdom, else the cost model, else (when asked) by timing."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence

from fastconv import _model, _wisdom
from fastconv._accuracy import allowed_error
from fastconv._machine import Machine, free_memory, this_machine
from fastconv._plan import Plan, conversion_bytes
from fastconv._problem import Problem
from fastconv._solver import Config, Solver, bind, on_threads
from fastconv.solvers import BY_NAME, SOLVERS
from fastconv.solvers._driver import FLOPS_A_THREAD

#: What happens when a problem is met that wisdom does not know: ``off`` does not even look,
#: ``cached`` asks the cost model, ``measure`` times the candidates and remembers.
MODES = ("off", "cached", "measure")

_mode: contextvars.ContextVar[tuple[str, float]] = contextvars.ContextVar(
    "fastconv tuning mode", default=("cached", 2.0)
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A solver and a config that may solve a problem, and what is expected of it.

    Attributes
    ----------
    problem : Problem
        The convolution it solves.
    method : str
        Name of the solver; pass it as ``method=``.
    config : dict
        Settings of the solver; pass it as ``config=``.
    seconds : float
        Estimated time of one call, or the measured one when `source` is ``"timed"``.
    workspace_bytes : int
        Memory one call takes beyond its arrays.
    error_bound : float
        Published bound on the error, relative as docs/accuracy.md says.
    source : str
        ``"model"``, ``"wisdom"`` or ``"timed"``.
    """

    problem: Problem
    method: str
    config: Config
    seconds: float
    workspace_bytes: int
    error_bound: float
    source: str = "model"
    refused: str | None = None

    def __str__(self) -> str:
        if self.refused is not None:
            return f"{self.method}: refused, {self.refused}"
        settings = " ".join(f"{k}={v}" for k, v in self.config.items())
        return (
            f"{self.method} {settings}".rstrip()
            + f": {self.seconds * 1e3:.3g} ms ({self.source}),"
            + f" workspace {self.workspace_bytes / 2**20:.3g} MiB,"
            + f" error bound {self.error_bound:.2g}"
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """A plan and why it was chosen."""

    plan: Plan
    reason: str
    candidate: Candidate


def default_workspace_limit() -> int:
    """Bytes a plan may take when the caller does not say: a quarter of what is free."""
    return free_memory() // 4


def _check_one(
    problem: Problem, solver: Solver, config: Config, machine: Machine, limit: int,
    seconds: float | None = None,
) -> Candidate:  # fmt: skip
    on, own = on_threads(problem, config)
    bound = solver.error_bound(on, own)
    memory = solver.workspace(on, own) + conversion_bytes(problem, solver)
    refused = None
    if bound > allowed_error(problem):
        refused = (
            f"its error bound {bound:.2g} is over the {allowed_error(problem):.2g}"
            f" that accuracy={problem.accuracy!r} admits"
        )
    elif memory > limit:
        refused = f"its workspace of {memory} bytes is over the limit of {limit}"
    if seconds is None:
        (seconds,) = _expected(problem, machine, [(solver, config, solver.cost(on, own, machine))])
    return Candidate(problem, solver.name, config, seconds, memory, bound, refused=refused)


#: Floating-point operations up to which one thread may be the best: 2 ms of a core at 100 GFLOP/s,
#: several hundred times what waking another takes.
_ALONE = 200_000_000

#: Those from which a second thread has something to do.
_SHARED = 2 * FLOPS_A_THREAD


def _configs(problem: Problem, solver: Solver, machine: Machine) -> list[Config]:
    """A solver's configs, on all threads that the problem grants and, if it is small, on one."""
    found: list[Config] = list(solver.configs(problem, machine))
    if problem.threads > 1 and problem.flops <= _ALONE and not problem.deterministic:
        found += [{**config, "threads": 1} for config in found]
    return found


_Estimate = tuple[Solver, Config, float]

#: A solver is passed over where its best guess is estimated at this many times the least estimate:
#: over 1200 recorded trials, looking no further cost 0.2 % in the geometric mean.
_PASSED_OVER = 4.0


def _leading(problem: Problem, machine: Machine, solvers: Sequence[Solver]) -> list[_Estimate]:
    """(solver, config, estimate) of the candidates that may be the fastest."""
    first: list[tuple[Solver, Sequence[Config], float]] = []
    most = math.inf
    for solver in solvers:
        if solver.floor(problem, machine) > most or solver.why_not(problem) is not None:
            continue
        configs = solver.configs(problem, machine)
        cost = solver.cost(problem, configs[0], machine)
        first.append((solver, configs, cost))
        most = min(most, _PASSED_OVER * cost)
    alone = None
    # of less, drivers take one thread by themselves: the two are the same plan
    if problem.threads > 1 and _SHARED <= problem.flops <= _ALONE and not problem.deterministic:
        alone = problem.on(1)
    found: list[_Estimate] = []
    for solver, configs, cost in first:
        if cost > most:
            continue
        found.append((solver, configs[0], cost))
        found += [(solver, c, solver.cost(problem, c, machine)) for c in configs[1:]]
        if alone is not None:
            found += [
                (solver, {**c, "threads": 1}, solver.cost(alone, c, machine)) for c in configs
            ]
    return found


def _expected(problem: Problem, machine: Machine, found: Sequence[_Estimate]) -> Sequence[float]:
    """Seconds that candidates are expected to take, by their estimates and `_model.py`."""
    return _model.expected(problem, machine, [(s.name, config, cost) for s, config, cost in found])


def candidates(
    problem: Problem, workspace_limit: int | None = None, solvers: Sequence[Solver] = SOLVERS
) -> list[Candidate]:
    """Every candidate, quickest first, then every refused one with its reason.

    Those of solvers that are passed over keep their own estimates, and come after the others.
    """
    limit = default_workspace_limit() if workspace_limit is None else workspace_limit
    machine = this_machine()
    leading = _leading(problem, machine, solvers)
    expected = {
        (solver.name, tuple(config.items())): seconds
        for (solver, config, _), seconds in zip(leading, _expected(problem, machine, leading))
    }
    found: list[Candidate] = []
    others: list[Candidate] = []
    for solver in solvers:
        why_not = solver.why_not(problem)
        if why_not is not None:
            found.append(Candidate(problem, solver.name, {}, 0.0, 0, 0.0, refused=why_not))
            continue
        for config in _configs(problem, solver, machine):
            seconds = expected.get((solver.name, tuple(config.items())))
            to = found if seconds is not None else others
            to.append(_check_one(problem, solver, config, machine, limit, seconds))
    # stable sorts: equal estimates keep the order of SOLVERS, then of configs
    found.sort(key=lambda c: c.seconds)
    others.sort(key=lambda c: c.seconds)
    return sorted([*found, *others], key=lambda c: c.refused is not None)


def _best(problem: Problem, limit: int) -> Candidate:
    """``candidates(problem, limit)[0]``, looking only at those that may be it."""
    machine = this_machine()
    leading = _leading(problem, machine, SOLVERS)
    expected = _expected(problem, machine, leading)
    for i in sorted(range(len(leading)), key=expected.__getitem__):
        solver, config, _ = leading[i]
        best = _check_one(problem, solver, config, machine, limit, expected[i])
        if best.refused is None:
            return best
    return candidates(problem, limit)[0]


def estimates(
    problem: Problem, machine: Machine, found: Sequence[tuple[str, Config]]
) -> list[float | None]:
    """Each candidate's own estimate on a machine; None for a config that there no longer is."""
    costs: list[float | None] = []
    for method, config in found:
        on, own = on_threads(problem, config)
        try:
            costs.append(BY_NAME[method].cost(on, own, machine))
        except (KeyError, ValueError):
            costs.append(None)
    return costs


def choose(
    problem: Problem,
    *,
    method: str | tuple[str, ...] = "auto",
    config: Config | None = None,
    workspace_limit: int | None = None,
) -> Choice:
    """The plan for a problem.

    A forced `method` (or the first of several that applies) is used whatever it is expected to
    cost; ValueError gives the reason when it cannot be.
    """
    machine = this_machine()
    if problem.deterministic and workspace_limit is None:
        workspace_limit = sys.maxsize  # what is free differs from run to run
    if method != "auto":
        return _forced(problem, method, config, workspace_limit, machine)
    if config is not None:
        raise ValueError("config= needs method= to say whose settings they are")
    if problem.deterministic:
        assert workspace_limit is not None
        best = _best(problem.on(1), workspace_limit)
        if best.refused is None:
            best = dataclasses.replace(best, problem=problem)
            return Choice(
                _plan_of(best, machine), f"least estimated time on one thread: {best}", best
            )
    mode, budget = _mode.get()
    limit = default_workspace_limit() if workspace_limit is None else workspace_limit
    known = _wisdom.lookup(problem, machine) if mode != "off" else None
    if known is not None:
        solver = BY_NAME.get(known.method)
        # wisdom is only a hint: what it names must still be legal here and now
        if solver is not None and solver.why_not(problem) is None and any(
            known.config == c for c in _configs(problem, solver, machine)
        ):  # fmt: skip
            c = _check_one(problem, solver, known.config, machine, limit)
            if c.refused is None:
                c = dataclasses.replace(c, seconds=known.seconds, source="wisdom")
                return Choice(_plan_of(c, machine), f"wisdom: {c}", c)
    if mode == "measure":
        best = tune(problem, workspace_limit=limit, budget=budget)[0]
    else:
        best = _best(problem, limit)
    if best.refused is not None:
        every = "; ".join(str(c) for c in candidates(problem, limit))
        raise ValueError(f"no method can solve {problem} within its limits: {every}")
    reason = {"model": "least estimated time", "timed": "fastest when timed"}[best.source]
    return Choice(_plan_of(best, machine), f"{reason}: {best}", best)


def _plan_of(c: Candidate, machine: Machine) -> Plan:
    return bind(BY_NAME[c.method], c.problem, c.config, machine)


def _forced(
    problem: Problem,
    method: str | tuple[str, ...],
    config: Config | None,
    workspace_limit: int | None,
    machine: Machine,
) -> Choice:
    names = (method,) if isinstance(method, str) else method
    for name in names:
        if name not in BY_NAME:
            legal = ", ".join(("auto", *BY_NAME))
            raise ValueError(f"expected a method out of {legal}, got {name!r}")
    limit = default_workspace_limit() if workspace_limit is None else workspace_limit
    reasons = []
    for name in names:
        solver = BY_NAME[name]
        reason = solver.why_not(problem)
        if reason is None:
            legal_configs = _configs(problem, solver, machine)
            if config is not None and dict(config) not in [dict(c) for c in legal_configs]:
                raise ValueError(
                    f"expected a config of {name} out of {legal_configs}, got {dict(config)}"
                )
            tried = [dict(config)] if config is not None else legal_configs
            asked = problem.replace(threads=1) if problem.deterministic else problem
            checked = [_check_one(asked, solver, c, machine, limit) for c in tried]
            fitting = [c for c in checked if c.refused is None]
            if fitting:
                best = dataclasses.replace(min(fitting, key=lambda c: c.seconds), problem=problem)
                return Choice(_plan_of(best, machine), f"forced: {best}", best)
            reason = checked[0].refused
        reasons.append(f"{name}: {reason}")
    raise ValueError(f"cannot solve {problem} with {'; '.join(reasons)}")


def tune(
    problem: Problem,
    *,
    workspace_limit: int | None = None,
    budget: float = 2.0,
    progress: _wisdom.Progress | None = None,
) -> list[Candidate]:
    """Time the candidates of a problem for at most about `budget` seconds; remember the fastest.

    Returns the candidates, fastest first; those not timed (too slow by the model or over budget)
    keep their estimate and come after those that were.
    """
    from fastconv import _tuner

    limit = default_workspace_limit() if workspace_limit is None else workspace_limit
    machine = this_machine()
    timed = _tuner.race(candidates(problem, limit), machine, budget, progress)
    if timed[0].source == "timed":
        _wisdom.remember(timed[0], machine)
    return timed


@contextlib.contextmanager
def autotune(mode: str = "measure", *, budget: float = 2.0) -> Iterator[None]:
    """Choose how problems that wisdom does not know are planned inside the ``with`` block.

    Parameters
    ----------
    mode : {"measure", "cached", "off"}
        ``measure`` times the candidates of each new problem at first sight and remembers the
        fastest; ``cached``, the default outside any block, asks wisdom, then the cost model;
        ``off`` asks the cost model alone.
    budget : float
        Seconds that timing one problem may take, about.

    Examples
    --------
    >>> import fastconv, numpy as np
    >>> with fastconv.autotune("off"):
    ...     fastconv.convolve(np.ones(3), np.ones(2))
    array([1., 2., 2., 1.])
    """
    if mode not in MODES:
        raise ValueError(f"expected a mode out of {MODES}, got {mode!r}")
    if not budget > 0:
        raise ValueError(f"expected a budget of more than 0 seconds, got {budget}")
    token = _mode.set((mode, budget))
    try:
        yield
    finally:
        _mode.reset(token)


def mode() -> str:
    """The tuning mode in force here."""
    return _mode.get()[0]
