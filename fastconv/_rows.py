"""The rows of wisdom, one class a table: what each holds, when it is valid, how two are merged.

Rows are data only, text and numbers. A row that this module would not have written itself is a
ValueError when it is made, so nothing that was damaged, or forged, gets past here.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, ClassVar

from fastconv._environment import id_of, text_of
from fastconv._problem import Problem
from fastconv.solvers import BY_NAME

#: How much trouble a winner was given: by the way, in `auto`; measured; with all variants.
BY_THE_WAY, MEASURED, THOROUGH = 1, 2, 3

#: How the trial of a candidate ended: timed to the end, timed and left behind, never timed, gave
#: a wrong result, raised an exception, took its process down.
STATUSES = ("timed", "dropped", "untried", "wrong", "failed", "crashed")


def _need(ok: bool, expected: str, came: object) -> None:
    if not ok:
        raise ValueError(f"expected {expected}, got {came!r}")


def _simple(value: Any, types: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(k, str) and isinstance(v, types) and not isinstance(v, bool)
        for k, v in value.items()
    )


def _check_problem(text: str) -> None:
    _need(str(Problem.parse(text)) == text, "the canonical text of a problem", text)


class Row:
    """One line of a table. Fields are text, numbers, or dictionaries of them."""

    table: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    #: Text that may be empty.
    optional: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, kind in fields(type(self)).items():
            value = getattr(self, name)
            if kind == "str":
                _need(isinstance(value, str), f"text for {name}", value)
                _need(bool(value) or name in self.optional, f"text for {name}", value)
            elif kind == "int":
                whole = isinstance(value, int) and not isinstance(value, bool)
                _need(whole and abs(value) < 2**63, f"a whole number for {name}", value)
            elif kind == "float":
                number = isinstance(value, int | float) and not isinstance(value, bool)
                _need(number, f"a number for {name}", value)
                _need(math.isfinite(value), f"a finite number for {name}", value)
            else:
                _need(_simple(value, int | str), f"settings for {name}", value)
        self.check()

    def check(self) -> None:
        """ValueError for fields that do not go together."""

    @property
    def place(self) -> tuple[Any, ...]:
        """What tells the row from the others of its table."""
        return tuple(_stored(getattr(self, name)) for name in self.key)

    def values(self) -> tuple[Any, ...]:
        """As the file has them, in the order of its columns."""
        return tuple(_stored(getattr(self, name)) for name in fields(type(self)))

    def over(self, old: Any) -> Row:
        """What is kept when a row with the same key, `old`, is there already."""
        return self


def _stored(value: Any) -> Any:
    return text_of(value) if isinstance(value, dict) else value


_fields: dict[type[Row], dict[str, str]] = {}


def fields(kind: type[Row]) -> dict[str, str]:
    """Names and types of the columns."""
    if kind not in _fields:
        every = dataclasses.fields(kind)  # type: ignore[arg-type]  # each subclass is one
        _fields[kind] = {f.name: str(f.type).partition("[")[0] for f in every}
    return _fields[kind]


def make(kind: type[Row], found: dict[str, Any]) -> Any:
    """A row of a file's values; ValueError when they are not one."""
    values = {}
    for name, of in fields(kind).items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        value = found[name]
        if of == "dict" and isinstance(value, str):
            value = json.loads(value)
        values[name] = value
    return kind(**values)


class _OfSolver(Row):
    solver: str
    revision: int

    @property
    def stale(self) -> str | None:
        """Why this version of fastconv cannot use the row; None when it can."""
        solver = BY_NAME.get(self.solver)
        if solver is None:
            return f"no solver is called {self.solver!r}"
        if solver.revision != self.revision:
            return f"revision {self.revision} of {self.solver} is not the current {solver.revision}"
        return None


@dataclasses.dataclass(frozen=True)
class Decision(_OfSolver):
    """The fastest candidate of a problem, as it was found.

    Attributes
    ----------
    environment : str
        Id of the `Environment` that it was timed in.
    problem, solver, config, revision
        The problem's text, and the winner with its solver's revision at that time.
    seconds, median, upper, lowest : float
        Of one call: quartiles and minimum. `seconds` is the lower quartile, which ranks.
    first : float
        Seconds of its very first call, which builds what later ones find built.
    samples : int
    runner_up : str
        The next method or setting, as text; empty when there was none.
    margin : float
        Time of the runner-up over that of the winner; 0 when there was none.
    noise : float
        How far the leader was from its own twin, relative.
    pressure : float
        Share of the time in which tasks waited for a core.
    effort : int
        `BY_THE_WAY`, `MEASURED` or `THOROUGH`.
    budget : float
        Seconds that were granted.
    complete : int
        1 when the protocol came to its end, 0 when the budget ended first.
    candidates : str
        Hash of all candidates with their revisions: another set may have another winner.
    error_bound, workspace
        The winner's.
    how : {"timed", "imported", "confirmed"}
        Here; elsewhere, as a file says; elsewhere, and here beside the model's choice.
    version : str
        Of fastconv, for the record.
    created : str
        Date and time, UTC.
    """

    table: ClassVar[str] = "decisions"
    key: ClassVar[tuple[str, ...]] = ("environment", "problem")
    optional: ClassVar[tuple[str, ...]] = ("runner_up", "candidates", "version")

    environment: str
    problem: str
    solver: str
    config: dict[str, int | str]
    revision: int
    seconds: float
    median: float
    upper: float
    lowest: float
    first: float
    samples: int
    runner_up: str
    margin: float
    noise: float
    pressure: float
    effort: int
    budget: float
    complete: int
    candidates: str
    error_bound: float
    workspace: int
    how: str
    version: str
    created: str

    def check(self) -> None:
        _check_problem(self.problem)
        _need(self.seconds > 0, "seconds above 0", self.seconds)
        hows = ("timed", "imported", "confirmed")
        _need(self.how in hows, f"one of {hows} for how", self.how)
        efforts = (BY_THE_WAY, MEASURED, THOROUGH)
        _need(self.effort in efforts, f"an effort out of {efforts}", self.effort)

    def serves(self, effort: int, budget: float) -> bool:
        """Whether a search with this effort and budget need not be made again."""
        return self.effort >= effort and (bool(self.complete) or self.budget >= budget)

    def over(self, old: Any) -> Row:
        """What is of use and was timed here, or with more effort, stays."""
        if old.stale or self == old:
            return self
        foreign = self.how == "imported" and old.how != "imported"
        return old if foreign or self.effort < old.effort else self


@dataclasses.dataclass(frozen=True)
class Trial(_OfSolver):
    """One candidate of a problem, and what became of it.

    Attributes
    ----------
    environment, problem, solver, config, revision
        As in `Decision`.
    status : str
        Out of `STATUSES`.
    seconds, median, upper, lowest : float
        Of one call; 0 where it was never timed.
    first : float
        Seconds of the checked call; 0 when there was none.
    samples : int
    estimate : float
        Seconds by the cost model at that time.
    error_bound, workspace
        The candidate's.
    note : str
        Why it was not timed, or what was wrong.
    created : str
    """

    table: ClassVar[str] = "trials"
    key: ClassVar[tuple[str, ...]] = ("environment", "problem", "solver", "config")
    optional: ClassVar[tuple[str, ...]] = ("note",)

    environment: str
    problem: str
    solver: str
    config: dict[str, int | str]
    revision: int
    status: str
    seconds: float
    median: float
    upper: float
    lowest: float
    first: float
    samples: int
    estimate: float
    error_bound: float
    workspace: int
    note: str
    created: str

    def check(self) -> None:
        _check_problem(self.problem)
        _need(self.status in STATUSES, f"a status out of {STATUSES}", self.status)
        _need(self.seconds >= 0, "seconds of at least 0", self.seconds)
        timed = self.status in ("timed", "dropped")
        _need((self.seconds > 0) == timed, "seconds above 0 if and only if timed", self.seconds)

    def over(self, old: Any) -> Row:
        """What was measured is not forgotten for not having been tried again."""
        keep = self.status == "untried" and old.status != "untried" and not old.stale
        return old if keep else self


@dataclasses.dataclass(frozen=True)
class Wanted(Row):
    """A problem that was met in `record` mode: how often, and the seconds it took in all."""

    table: ClassVar[str] = "wanted"
    key: ClassVar[tuple[str, ...]] = ("environment", "problem")

    environment: str
    problem: str
    hits: int
    seconds: float
    created: str

    def check(self) -> None:
        _check_problem(self.problem)
        _need(self.hits >= 1, "at least one hit", self.hits)
        _need(self.seconds >= 0, "seconds of at least 0", self.seconds)

    def over(self, old: Any) -> Row:
        return dataclasses.replace(
            self, hits=min(self.hits + old.hits, 2**62), seconds=self.seconds + old.seconds
        )


@dataclasses.dataclass(frozen=True)
class Pin(Row):
    """A candidate that somebody has decided on, for problems whose text matches a pattern."""

    table: ClassVar[str] = "pins"
    key: ClassVar[tuple[str, ...]] = ("pattern",)
    optional: ClassVar[tuple[str, ...]] = ("reason",)

    pattern: str
    solver: str
    config: dict[str, int | str]
    reason: str
    created: str


@dataclasses.dataclass(frozen=True)
class Quarantine(_OfSolver):
    """A candidate that is not offered again: wrong, or the end of its process.

    `problem` is empty where it holds for all problems. It ends with the solver's revision.
    """

    table: ClassVar[str] = "quarantine"
    key: ClassVar[tuple[str, ...]] = ("environment", "problem", "solver", "config")
    optional: ClassVar[tuple[str, ...]] = ("problem",)

    environment: str
    problem: str
    solver: str
    config: dict[str, int | str]
    revision: int
    reason: str
    created: str

    def check(self) -> None:
        if self.problem:
            _check_problem(self.problem)


@dataclasses.dataclass(frozen=True)
class Environment(Row):
    """What an environment's id stands for, and where it was first met."""

    table: ClassVar[str] = "environments"
    key: ClassVar[tuple[str, ...]] = ("id",)

    id: str
    identity: dict[str, int | str]
    provenance: dict[str, int | str]
    created: str
    seen: str

    def check(self) -> None:
        _need(self.id == id_of(self.identity), "the id of its identity", self.id)

    def over(self, old: Any) -> Row:
        return dataclasses.replace(self, created=min(self.created, old.created))


KINDS: tuple[type[Row], ...] = (Environment, Decision, Trial, Wanted, Pin, Quarantine)
BY_TABLE = {kind.table: kind for kind in KINDS}
