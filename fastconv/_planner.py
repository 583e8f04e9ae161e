"""`Planner`: problem -> plan, from wisdom, else the cost model, else (when asked) by timing.

What is asked in turn: the caller's `method`, a pin, the user's wisdom, the site's, and then what
the mode says (`_settings.py`): the cost model, timing, or an error.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import math
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastconv import _model, _settings, _timer, _wisdom
from fastconv._accuracy import allowed_error
from fastconv._environment import text_of
from fastconv._machine import Machine, this_machine
from fastconv._machine import free_memory_lately as free_memory
from fastconv._plan import HALVES, Plan, conversion_bytes
from fastconv._problem import Problem
from fastconv._rows import BY_THE_WAY, MEASURED, THOROUGH, Pin
from fastconv._solver import Config, Solver, bind, on_threads
from fastconv.cuda import launch
from fastconv.solvers import BY_NAME, SOLVERS, _driver

if TYPE_CHECKING:
    from fastconv._store import Store
    from fastconv._timer import Timing

_log = logging.getLogger("fastconv")

MODES = tuple(_settings.MODES)

#: How much trouble each mode that times takes with a problem.
EFFORTS = {"auto": BY_THE_WAY, "measure": MEASURED, "thorough": THOROUGH}

#: Estimates over the best one beyond which `auto` and `thorough` try no candidate; `measure` has
#: `_tuner.HOPELESS_ESTIMATE`. The model's p95 of regret is far below 8.
_HOPELESS = {"auto": 8.0, "thorough": float("inf")}


class TuningMissError(LookupError):
    """Mode `replay` met a problem that wisdom does not know, or whose winner is not legal here."""


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
    refused : str or None
        Why it may not be used; None when it may.
    status, timing, first, estimate
        After timing: how its trial ended (``"timed"``, ``"dropped"`` as slower, ``"untried"``,
        ``"wrong"``, ``"failed"``, ``"crashed"``; empty before), its quartiles, the seconds of its
        first call, and the model's of before.
    """

    problem: Problem
    method: str
    config: Config
    seconds: float
    workspace_bytes: int
    error_bound: float
    source: str = "model"
    refused: str | None = None
    status: str = dataclasses.field(default="", compare=False)
    timing: Timing | None = dataclasses.field(default=None, compare=False, repr=False)
    first: float = dataclasses.field(default=0.0, compare=False, repr=False)
    estimate: float = dataclasses.field(default=0.0, compare=False, repr=False)

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
    why: str
    candidate: Candidate

    @property
    def reason(self) -> str:
        """`why`, and the candidate in words."""
        return f"{self.why}: {self.candidate}"


def default_workspace_limit() -> int:
    """Bytes a plan may take when the caller does not say: a quarter of what is free."""
    return free_memory() // 4


def _machine(problem: Problem) -> Machine:
    """What runs the problem: this computer, or its GPU, whose facts say what a machine's do."""
    return this_machine() if problem.device == "cpu" else launch.gpu()  # type: ignore[return-value]


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
    own = dict(config)  # solvers share theirs
    return Candidate(problem, solver.name, own, seconds, memory, bound, refused=refused)


#: Floating-point operations up to which one thread may be quicker by itself: of recorded trials on
#: two threads, by a tenth in 3 to 5 % from 2 MFLOP to 32, in 1 % above.
_ALONE = 32_000_000


def _configs(problem: Problem, solver: Solver, machine: Machine) -> list[Config]:
    """A solver's configs, on all threads that the problem grants and, where one may be the best, on
    one; of less, drivers take one by themselves."""
    found: list[Config] = list(solver.configs(problem, machine))
    shared = _driver.useful_threads(problem) > 1
    if shared and problem.flops <= _ALONE and not problem.deterministic:
        found += [{**config, "threads": 1} for config in found]
    return found


_Estimate = tuple[Solver, Config, float]

#: A solver is passed over where its best guess is estimated at this many times the least estimate:
#: over 1200 recorded trials, looking no further cost 0.2 % in the geometric mean.
_PASSED_OVER = 4.0

#: And where its floor, which is below its estimates, is this many times the least estimate: over
#: 1700 trials that cost nothing, half as many times 0.05 %.
_FLOORED = 2.0

#: Of solvers that are left, those whose best guess is expected to take this many times the least
#: such have no further settings estimated. Two of 1395 recorded trials get another choice; regret
#: of those left out of the fit 1.0392 -> 1.0390 on one thread, 1.0528 -> 1.0525 on two. At 2, where
#: 11 change, it is 1.042 and 1.056.
_FAR = 3.0


def _leading(problem: Problem, machine: Machine, solvers: Sequence[Solver]) -> list[_Estimate]:
    """(solver, config, estimate) of the candidates that may be the fastest.

    On all threads that the problem grants: drivers take one by themselves where there is little to
    do, and those that would be quicker alone are not those that are estimated so. Of 1650 trials on
    two threads the regret is 1.092 with them and without.
    """
    first: list[tuple[Solver, Sequence[Config], float]] = []
    least = math.inf
    device, others = problem.device, not problem.is_exact
    for solver in solvers:
        if solver.device != device or solver.exact is others:
            continue
        floor = solver.floor(problem, machine)
        if floor > _FLOORED * least or solver.why_not(problem) is not None:
            continue
        configs = solver.configs(problem, machine)
        cost = solver.cost(problem, configs[0], machine)
        first.append((solver, configs, cost))
        least = min(least, cost)
    first = [guess for guess in first if guess[2] <= _PASSED_OVER * least]
    guesses = [(solver, configs[0], cost) for solver, configs, cost in first]
    expected = _expected(problem, machine, guesses) if len(guesses) > 1 else [least]
    most = _FAR * min(expected, default=0.0)
    found: list[_Estimate] = []
    for (solver, configs, cost), seconds in zip(first, expected):
        if seconds <= most:
            found += _worth_estimating(problem, solver, configs, cost, machine)
    return found


def _worth_estimating(
    problem: Problem, solver: Solver, configs: Sequence[Config], cost: float, machine: Machine
) -> list[_Estimate]:
    """A solver's candidates; of an instruction set whose first config is estimated above `cost`,
    that of the best guess, this one alone.

    Narrow vectors win where wide ones are not filled, whatever the other settings: over 1410
    recorded trials the regret is the same to four digits.
    """
    found = [(solver, configs[0], cost)]
    first = {configs[0].get("isa"): cost}
    for config in configs[1:]:
        isa = config.get("isa")
        if first.get(isa, cost) <= cost:
            seconds = solver.cost(problem, config, machine)
            first.setdefault(isa, seconds)
            found.append((solver, config, seconds))
    return found


#: Seconds that a float of 16 bits takes to become float32 in a pass over its array, or the reverse:
#: 0.23 to 0.33 ns in and out of 1x1 and 3x3 layers, Emerald Rapids (`amx_split` both ways).
_CONVERTED = 0.3e-9


def _conversions(problem: Problem, solver: Solver) -> float:
    """Seconds of the passes over x and y that solvers' estimates are without."""
    samples = 0
    if problem.x_dtype in HALVES and not solver.reads_stored(problem):
        samples += math.prod(problem.x_shape)
    if problem.y_dtype in HALVES and not solver.writes_stored(problem):
        samples += math.prod(problem.y_shape)
    return samples * _CONVERTED / problem.threads


def _expected(problem: Problem, machine: Machine, found: Sequence[_Estimate]) -> Sequence[float]:
    """Seconds that candidates are expected to take, by their estimates and `_model.py`."""
    if problem.device != "cpu":  # there are no trials of others
        return [cost for *_, cost in found]
    seconds: Sequence[float]
    if problem.deterministic:  # depends on no trials
        seconds = [cost for *_, cost in found]
    else:
        named = [(s.name, config, cost) for s, config, cost in found]
        seconds = _model.expected(problem, machine, named)
    if problem.x_dtype in HALVES or problem.y_dtype in HALVES:
        return [cost + _conversions(problem, s) for cost, (s, *_) in zip(seconds, found)]
    return seconds


def candidates(
    problem: Problem, workspace_limit: int | None = None, solvers: Sequence[Solver] = SOLVERS
) -> list[Candidate]:
    """Every candidate, quickest first, then every refused one with its reason.

    Those that are passed over keep their own estimates, and come after the others.
    """
    limit = default_workspace_limit() if workspace_limit is None else workspace_limit
    machine = _machine(problem)
    excluded = _settings.current().exclude
    leading = _leading(problem, machine, [s for s in solvers if s.name not in excluded])
    expected = {
        (solver.name, tuple(config.items())): seconds
        for (solver, config, _), seconds in zip(leading, _expected(problem, machine, leading))
    }
    found: list[Candidate] = []
    others: list[Candidate] = []
    for solver in solvers:
        why_not = solver.why_not(problem)
        if why_not is None and solver.name in excluded:
            why_not = "it is excluded by FASTCONV_TUNE_EXCLUDE or fastconv.toml"
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
    found = _without_quarantined([*found, *others], problem, machine)
    return sorted(found, key=lambda c: c.refused is not None)


def _best(problem: Problem, limit: int, stores: Sequence[Store] | None = None) -> Candidate:
    """``candidates(problem, limit)[0]``, looking only at those that may be it."""
    machine = _machine(problem)
    if _settings.current().exclude or _quarantined(problem, machine, stores):
        return candidates(problem, limit)[0]
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


def _quarantined(
    problem: Problem, machine: Machine, stores: Sequence[Store] | None = None
) -> dict[tuple[str, str], str]:
    if problem.deterministic or _settings.current().mode == "off":
        return {}
    return _wisdom.quarantined(problem, machine, stores)


def _without_quarantined(
    found: list[Candidate], problem: Problem, machine: Machine
) -> list[Candidate]:
    """Those that did harm before are refused, unless nothing else would be left."""
    reasons = _quarantined(problem, machine)
    if not reasons:
        return found
    after = []
    for c in found:
        reason = reasons.get((c.method, text_of(dict(c.config))))
        if reason is not None and c.refused is None:
            c = dataclasses.replace(c, refused=f"it is in quarantine: {reason}")
        after.append(c)
    return after if any(c.refused is None for c in after) else found


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
    if problem.device == "cuda":
        launch.need()
    machine = _machine(problem)
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
            return Choice(_plan_of(best, machine), "least estimated time on one thread", best)
    settings = _settings.current()
    limit = default_workspace_limit() if workspace_limit is None else workspace_limit
    why_miss, stores = "wisdom does not know it", None
    if settings.mode != "off":
        stores = _wisdom.layers()
        pin = _wisdom.pinned(problem, stores)
        if pin is not None:
            c = _pinned(problem, pin, machine, limit)
            if c is not None:
                return Choice(_plan_of(c, machine), f"pinned by {pin.pattern!r}", c)
        known = _wisdom.lookup(problem, machine, stores)
        if known is not None:
            # wisdom is only a hint: what it names must still be legal here and now
            c = _legal(problem, known.method, known.config, machine, limit)
            if c is not None and not _again(known, problem, limit, settings):
                c = dataclasses.replace(c, seconds=known.seconds, source="wisdom")
                return Choice(_plan_of(c, machine), "wisdom", c)
            why_miss = f"{known.method}, which wisdom names, is not legal here and now"
    if settings.mode == "replay" and not _is_empty(problem):
        raise TuningMissError(
            f"{problem}: {why_miss}, and the mode is 'replay' (set by {settings.origin}); time it"
            " with `fastconv tune` on a machine like this, or take mode 'cached'"
        )
    found: Candidate | None = None
    if settings.mode in ("measure", "thorough"):
        found = _tune_in_time(problem, limit, settings)
    if found is None:
        found = _best(problem, limit, stores)
    if found.refused is not None:
        every = "; ".join(str(c) for c in candidates(problem, limit))
        raise ValueError(f"no method can solve {problem} within its limits: {every}")
    why = {"model": "least estimated time", "timed": "fastest when timed"}[found.source]
    return Choice(_plan_of(found, machine), why, found)


def _legal(
    problem: Problem, method: str, config: Config, machine: Machine, limit: int
) -> Candidate | None:
    """The candidate that somebody named, if it is one here and within the limits."""
    solver = BY_NAME.get(method)
    if solver is None or solver.why_not(problem) is not None:
        return None
    if not any(dict(config) == dict(c) for c in _configs(problem, solver, machine)):
        return None
    if (method, text_of(dict(config))) in _quarantined(problem, machine):
        return None
    found = _check_one(problem, solver, config, machine, limit)
    return found if found.refused is None else None


def _pinned(problem: Problem, pin: Pin, machine: Machine, limit: int) -> Candidate | None:
    """The candidate of least estimate, of those that have the settings that a pin names."""
    solver = BY_NAME.get(pin.solver)
    if solver is None or solver.why_not(problem) is not None:
        return None
    named = dict(pin.config).items()
    found = [
        _legal(problem, pin.solver, config, machine, limit)
        for config in _configs(problem, solver, machine)
        if named <= dict(config).items()
    ]
    return min((c for c in found if c is not None), key=lambda c: c.seconds, default=None)


def _again(
    known: _wisdom.Known, problem: Problem, limit: int, settings: _settings.Settings
) -> bool:
    """Whether the mode asks for a better answer: that was found with less effort, or by a version
    that had other candidates."""
    decision = known.decision
    if settings.mode not in ("measure", "thorough") or decision is None:
        return False
    if _spent.left(settings) <= 0:
        return False
    if not decision.serves(EFFORTS[settings.mode], settings.key_seconds):
        return True
    found = candidates(problem, limit)
    if decision.candidates != _wisdom.set_hash(found):
        return True
    return known.foreign and not _holds(known, found, settings)


def _holds(
    known: _wisdom.Known, found: Sequence[Candidate], settings: _settings.Settings
) -> bool:  # fmt: skip
    """Whether a row that was timed elsewhere holds here, at a small part of a search's time."""
    from fastconv import _trust

    with _timing:
        watch = _timer.Deadline(None)
        budget = min(_trust.SHARE * settings.key_seconds, _spent.left(settings))
        cold = settings.cache == "cold"
        try:
            return _trust.holds(known, found, _machine(found[0].problem), budget, cold)
        finally:
            _spent.add(watch.spent)


def _is_empty(problem: Problem) -> bool:
    return 0 in (*problem.y_shape, *problem.x_shape, problem.taps)


class _Spent:
    """Seconds of this process that went into timing, of calls that did not ask for it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.convolving = 0.0
        self._lock = threading.Lock()
        self._said = False

    def add(self, seconds: float) -> None:
        with self._lock:
            self.seconds += seconds

    def left(self, settings: _settings.Settings) -> float:
        total = settings.process_seconds
        if settings.mode == "auto":
            total += _settings.AUTO_SHARE * self.convolving
        return total - self.seconds

    def say_once(self, settings: _settings.Settings) -> None:
        if not self._said:
            self._said = True
            _log.warning(
                "the %g s that this process may spend on timing are over; going on with estimates",
                settings.process_seconds,
            )


_spent = _Spent()

#: One problem is timed at a time: two at once would time each other.
_timing = threading.RLock()


def _tune_in_time(problem: Problem, limit: int, settings: _settings.Settings) -> Candidate | None:
    """The fastest candidate when timed within the budgets; None when there is none left."""
    with _timing:
        budget = min(settings.key_seconds, _spent.left(settings))
        if budget <= 0:
            _spent.say_once(settings)
            return None
        watch = _timer.Deadline(budget)
        try:
            return tune(problem, workspace_limit=limit, budget=budget, mode=settings.mode)[0]
        finally:
            _spent.add(watch.spent)


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
                return Choice(_plan_of(best, machine), "forced", best)
            reason = checked[0].refused
        reasons.append(f"{name}: {reason}")
    raise ValueError(f"cannot solve {problem} with {'; '.join(reasons)}")


def tune(
    problem: Problem,
    *,
    workspace_limit: int | None = None,
    budget: float = 2.0,
    mode: str = "measure",
    keep_doubted: bool = False,
    progress: _wisdom.Progress | None = None,
) -> list[Candidate]:
    """Time the candidates of a problem for at most about `budget` seconds; remember the fastest.

    Returns the candidates, fastest first; those not timed (too slow by the model or over budget)
    keep their estimate and come after those that were. What was timed while others wanted the
    machine is remembered in this process only, unless `keep_doubted`.
    """
    from fastconv import _tuner

    limit = default_workspace_limit() if workspace_limit is None else workspace_limit
    machine = _machine(problem)
    known = _wisdom.lookup(problem, machine)
    options: dict[str, Any] = {}
    if known is not None:
        options["incumbent"] = known.method, known.config
    if mode in _HOPELESS:
        options["hopeless"] = _HOPELESS[mode]
    if _settings.current().cache == "cold":
        options["cold"] = True
    held = _tuner.race
    if mode == "thorough" and problem.device == "cpu":
        from fastconv import _isolated

        held = _isolated.race
    race = held(candidates(problem, limit), machine, budget, progress, **options)
    for c in race:
        if c.status in ("wrong", "crashed"):
            _wisdom.quarantine(c, machine, c.refused or "", everywhere=True)
        elif c.status == "failed" and "MemoryError" not in (c.refused or ""):
            _wisdom.quarantine(c, machine, c.refused or "", everywhere=False)
    if len(race) and race[0].source == "timed":
        doubt = race.why_doubted
        keep = doubt is None or keep_doubted
        if not keep:
            _log.info("%s: not kept for other processes: %s", problem, doubt)
        _wisdom.remember(
            race, machine, effort=EFFORTS[mode], budget=budget, complete=race.complete,
            noise=race.noise, pressure=race.pressure, keep=keep,
        )  # fmt: skip
    return list(race)


@contextlib.contextmanager
def autotune(
    mode: str = "measure", *, budget: float | None = None, total: float | None = None
) -> Iterator[None]:
    """Choose how problems that wisdom does not know are planned inside the ``with`` block.

    Plans that were made before stay as they are: a mode is about problems that are met anew.

    Parameters
    ----------
    mode : {"measure", "thorough", "auto", "cached", "record", "replay", "off"}
        ``measure`` times the candidates of each new problem at first sight and remembers the
        fastest, ``thorough`` tries all settings too; ``auto`` does so for problems that are met
        often enough to pay for it; ``cached``, the default outside any block, asks wisdom, then
        the cost model; ``record`` does the same and notes what was asked; ``replay`` raises
        `TuningMissError` where wisdom has no answer; ``off`` asks the cost model alone.
    budget : float, optional
        Seconds that timing one problem may take, about: 2 (``auto``: 0.25, ``thorough``: 30).
    total : float, optional
        Seconds that timing may take in this process: 60 (``auto``: 0.5, and 5 % of the time of
        all convolutions; ``thorough``: any).

    Examples
    --------
    >>> import fastconv, numpy as np
    >>> with fastconv.autotune("off"):
    ...     fastconv.convolve(np.ones(3), np.ones(2))
    array([1., 2., 2., 1.])
    """
    token = _settings.context.set(_settings.override(mode, budget, total))
    try:
        yield
    finally:
        _settings.context.reset(token)


def mode() -> str:
    """The tuning mode in force here."""
    return _settings.current().mode


# ---- what is met ---------------------------------------------------------------------------------


class _Met:
    """How often, and for how long, problems were solved: what `record` notes and `auto` weighs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Problem, tuple[int, float]] = {}
        self._unsaid: dict[Problem, tuple[int, float]] = {}
        self._settled: set[Problem] = set()

    def note(self, choice: Choice, seconds: float) -> bool:
        """Count a call; True when the problem has just been timed and its plan is out of date."""
        problem = choice.candidate.problem
        if problem.deterministic or _is_empty(problem):
            return False
        settings = _settings.current()
        with self._lock:
            _spent.convolving += seconds
            hits, spent = self._counts.get(problem, (0, 0.0))
            self._counts[problem] = hits + 1, spent + seconds
            if settings.mode == "record":
                more, longer = self._unsaid.get(problem, (0, 0.0))
                self._unsaid[problem] = more + 1, longer + seconds
        if settings.mode == "record":
            if hits == 0:  # the key is safe whatever becomes of the process, the count if it ends
                self.save()
            return False
        return self._pays(problem, choice, hits + 1, spent + seconds, settings)

    def _pays(
        self, problem: Problem, choice: Choice, hits: int, spent: float,
        settings: _settings.Settings,
    ) -> bool:  # fmt: skip
        """Time a problem if what it will gain is more than that takes.

        It is expected to be met as often again as it was, and to gain a tenth: the regret of the
        cost model.
        """
        if hits < 3 or choice.candidate.source != "model" or problem in self._settled:
            return False
        cost = settings.key_seconds
        if 0.1 * spent < cost or _spent.left(settings) < cost:
            return False
        self._settled.add(problem)
        best = _tune_in_time(problem, default_workspace_limit(), settings)
        return best is not None and best.source == "timed"

    def save(self) -> None:
        """Write the counts that `record` took since the last time."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, {}
        for device in {problem.device for problem in unsaid}:
            some = {p: count for p, count in unsaid.items() if p.device == device}
            _wisdom.want(some, _machine(next(iter(some))))

    def forget(self) -> None:
        """As if nothing had been met: for a process that has forked, and for tests."""
        self._lock = threading.Lock()
        self._counts, self._unsaid, self._settled = {}, {}, set()


met = _Met()


def _in_child() -> None:
    """After a fork: what was met, and locks that other threads held, are the parent's."""
    global _timing
    _timing = threading.RLock()
    met.forget()


atexit.register(met.save)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
