"""`Wisdom`: what was measured, and where: the user's file above read-only ones of the site.

    problem + environment -> the fastest candidate, with everything that was tried beside it

Wisdom is a cache: whatever happens to its files costs time, never an exception and never a wrong
result, for the planner checks again that what a row names is legal (`_store.py` has the how).
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import json
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from fastconv import _environment, _machine, _settings, _timer
from fastconv._environment import text_of
from fastconv._problem import Problem
from fastconv._rows import (
    BY_TABLE,
    MEASURED,
    Decision,
    Environment,
    Pin,
    Quarantine,
    Row,
    Trial,
    Wanted,
    fields,
    make,
)  # fmt: skip
from fastconv._store import SCHEMA, Store
from fastconv.solvers import BY_NAME

if TYPE_CHECKING:
    from fastconv._machine import Machine
    from fastconv._planner import Candidate

_log = logging.getLogger("fastconv")


class Progress(Protocol):
    """Told the fraction done, 0 to 1, and what is being done."""

    def __call__(self, done: float, text: str) -> None: ...


@dataclasses.dataclass(frozen=True)
class Known:
    """What wisdom knows of a problem on this machine; `layer` is the file that says so, `foreign`
    that it was timed elsewhere, for all that is known."""

    method: str
    config: dict[str, int | str]
    seconds: float
    layer: str = dataclasses.field(default="", compare=False)
    decision: Decision | None = dataclasses.field(default=None, compare=False)
    foreign: bool = dataclasses.field(default=False, compare=False)


# ---- files ---------------------------------------------------------------------------------------

_stores: dict[str, Store] = {}


def path() -> str:
    """Where wisdom is kept: ``FASTCONV_WISDOM``, else a file in the user's cache directory."""
    named = os.environ.get("FASTCONV_WISDOM") or _settings.base().wisdom
    return named or _default_path()


@functools.cache
def _default_path() -> str:
    try:
        import platformdirs

        # the schema is in the name: another version's file stays, for going back to it
        where = platformdirs.user_cache_path("fastconv") / f"wisdom-{SCHEMA}.db"
        if not where.is_absolute():
            raise OSError(f"{where} is not absolute")
    except Exception as error:  # having no home directory is no reason to fail
        _log.warning("wisdom has no cache directory: %s; going on in memory", error)
        return ":memory:"
    return str(where)


def _open(where: str, read_only: bool = False) -> Store:
    store = _stores.get(where)
    if store is None:
        file = None if where == ":memory:" else pathlib.Path(where)
        store = _stores.setdefault(where, Store(file, read_only))
    return store


def _store() -> Store:
    return _open(path())


def layers() -> list[Store]:
    """The user's file, then the site's, in the order in which they are asked."""
    return [_store(), *(_open(where, True) for where in _settings.base().read_only)]


def writable() -> bool:
    """Whether what is timed now can be there for the next process."""
    return _store().writable


def be_patient() -> None:
    """Wait for other processes' writes: a command has nothing better to do."""
    from fastconv import _store as module

    _store().busy = module.PATIENT


def environment_of(problem: Problem, machine: Machine) -> str:
    """Id of the environment in which `problem` is measured here."""
    return _environment.environment(machine, problem.device, _settings.current().cache)


# ---- asking --------------------------------------------------------------------------------------


def lookup(
    problem: Problem, machine: Machine, stores: Sequence[Store] | None = None
) -> Known | None:
    """What is known of `problem` on `machine`; None when nothing that can be used is.

    `stores` are the `layers`, for who asks them several things.
    """
    environment, text = environment_of(problem, machine), ""
    for store in layers() if stores is None else stores:
        if store.is_blank(environment):
            continue
        text = text or str(problem)
        row = store.decision(environment, text)
        if row is not None and row.stale is None:
            where = str(store.path or ":memory:")
            foreign = row.how == "imported" or store.read_only
            return Known(row.solver, dict(row.config), row.seconds, where, row, foreign)
    return None


def pinned(problem: Problem, stores: Sequence[Store] | None = None) -> Pin | None:
    """The pin for a problem: the environment's variable first, then the files'."""
    pins = _pins(layers() if stores is None else stores)
    if not pins:
        return None
    text = str(problem)
    return next((pin for pin in pins if fnmatch.fnmatchcase(text, pin.pattern)), None)


@functools.lru_cache(maxsize=8)
def _told_pins(texts: tuple[str, ...]) -> tuple[Pin, ...]:
    return tuple(parse_pin(text, "told by FASTCONV_TUNE_PIN or fastconv.toml") for text in texts)


_file_pins: dict[str, tuple[Pin, ...]] = {}


def _pins(stores: Sequence[Store]) -> tuple[Pin, ...]:
    found = _told_pins(_settings.base().pins)
    for store in stores:
        where = str(store.path or ":memory:")
        if where not in _file_pins:
            _file_pins[where] = tuple(store.rows(Pin))
        found += _file_pins[where]
    return found


def parse_pin(text: str, reason: str = "") -> Pin:
    """``PATTERN=METHOD [setting=value ...]``; ValueError when it is not that."""
    match = re.fullmatch(rf"(.+?)=({'|'.join(BY_NAME)})((?: +\w+=\S+)*) *", text)
    if match is None:
        raise ValueError(
            f"expected PATTERN=METHOD [setting=value ...] with a method out of"
            f" {', '.join(BY_NAME)} for a pin, got {text!r}"
        )
    config: dict[str, int | str] = {}
    for word in match[3].split():
        name, _, value = word.partition("=")
        config[name] = int(value) if value.lstrip("-").isdecimal() else value
    return Pin(match[1].strip(), match[2], config, reason, _timer.date())


def quarantined(
    problem: Problem, machine: Machine, stores: Sequence[Store] | None = None
) -> dict[tuple[str, str], str]:
    """Reasons, by solver and config as text, against candidates that did harm here before."""
    found = {}
    for store in layers() if stores is None else stores:
        rows = _file_quarantine.get(store)
        if rows is None:
            rows = _file_quarantine[store] = store.rows(Quarantine)
        for row in rows:
            if (
                row.stale is None
                and row.problem in ("", str(problem))
                and row.environment == environment_of(problem, machine)
            ):
                found[row.solver, text_of(row.config)] = row.reason
    return found


_file_quarantine: dict[Store, list[Quarantine]] = {}


def trials(problem: Problem, machine: Machine) -> list[Trial]:
    """Every candidate of `problem` that was tried here, fastest first, of the current revisions."""
    key = environment_of(problem, machine), str(problem)
    best: dict[tuple[Any, ...], Trial] = {}
    for store in reversed(layers()):
        for row in store.rows(Trial, "environment = ? AND problem = ?", key):
            if row.stale is None:
                best[row.place] = row
    return sorted(best.values(), key=lambda t: (t.seconds == 0, t.seconds, t.place))


# ---- telling -------------------------------------------------------------------------------------


def set_hash(found: Iterable[Candidate]) -> str:
    """What tells one set of candidates, with their solvers' revisions, from another.

    Those over a limit count: how much memory is free changes from call to call.
    """
    told = sorted(
        f"{c.method} {_revision(c.method)} {text_of(dict(c.config))}"
        for c in found
        if c.refused is None or c.seconds > 0
    )
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]


def remember(
    found: Sequence[Candidate],
    machine: Machine,
    *,
    effort: int = MEASURED,
    budget: float = 0.0,
    complete: bool = True,
    noise: float = 0.0,
    pressure: float = 0.0,
    keep: bool = True,
) -> bool:
    """Keep the first of the candidates, a timed one, as the answer to its problem; and the others.

    Parameters
    ----------
    found : list of Candidate
        As `_tuner.race` returns them.
    machine : Machine
    effort, budget, complete, noise, pressure
        As in `_rows.Decision`.
    keep : bool
        False to hold the decision in this process only: it was not timed well enough for others.

    Returns
    -------
    bool
        Whether the file has it.
    """
    best = found[0]
    problem, environment = best.problem, environment_of(best.problem, machine)
    rivals = [c for c in found[1:] if c.source == "timed"]
    rows: list[Row] = []
    now = _timer.date()
    try:
        timing = best.timing
        decision = Decision(
            environment=environment, problem=str(problem), solver=best.method,
            config=dict(best.config), revision=_revision(best.method), seconds=best.seconds,
            median=timing.median if timing else best.seconds,
            upper=timing.upper if timing else best.seconds,
            lowest=timing.lowest if timing else best.seconds,
            first=best.first, samples=timing.samples if timing else 1,
            runner_up=f"{rivals[0].method} {_settings_of(rivals[0].config)}".rstrip()
            if rivals else "",
            margin=rivals[0].seconds / best.seconds if rivals else 0.0,
            noise=noise, pressure=pressure, effort=effort, budget=budget, complete=int(complete),
            candidates=set_hash(found), error_bound=best.error_bound,
            workspace=best.workspace_bytes, how="timed",
            version=_machine.version("fastconv") or "", created=now,
        )  # fmt: skip
        rows = [_trial(c, environment, now) for c in found if c.status]
    except ValueError as error:
        _log.debug("wisdom: not remembered: %s", error)
        return False
    store = _store()
    if not keep:
        store.hold(decision)
        return False
    return _put(store, [decision, *rows, _environment_row(problem, machine, now)])


def confirm(known: Known, timed: Candidate, machine: Machine, keep: bool = True) -> bool:
    """Keep a foreign row as this machine's own: its winner has held here, and took `timed`.

    False where the file does not have it, as when `keep` says that it is for this process only.
    """
    t, row = timed.timing, known.decision
    assert t is not None and row is not None
    now = _timer.date()
    own = dataclasses.replace(
        row, how="confirmed", seconds=timed.seconds, median=t.median, upper=t.upper,
        lowest=t.lowest, first=timed.first, samples=t.samples, created=now,
    )  # fmt: skip
    if not keep:
        _store().hold(own)
        return False
    return _put(_store(), [own, _environment_row(timed.problem, machine, now)])


def _revision(method: str) -> int:
    solver = BY_NAME.get(method)
    return 0 if solver is None else solver.revision


def _settings_of(config: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in config.items())


def _trial(c: Candidate, environment: str, now: str) -> Trial:
    t = c.timing
    return Trial(
        environment=environment, problem=str(c.problem), solver=c.method, config=dict(c.config),
        revision=_revision(c.method), status=c.status, seconds=t.seconds if t else 0.0,
        median=t.median if t else 0.0, upper=t.upper if t else 0.0, lowest=t.lowest if t else 0.0,
        first=c.first, samples=t.samples if t else 0, estimate=c.estimate or c.seconds,
        error_bound=c.error_bound, workspace=c.workspace_bytes, note=c.refused or "", created=now,
    )  # fmt: skip


def _environment_row(problem: Problem, machine: Machine, now: str) -> Environment:
    identity = _environment.identity(machine, problem.device, _settings.current().cache)
    provenance: dict[str, int | str] = dict(_environment.provenance())
    return Environment(_environment.id_of(identity), identity, provenance, now, now)


def _put(store: Store, rows: Sequence[Row]) -> bool:
    spool = _settings.base().spool
    if not spool:
        return store.put(rows)
    for row in rows:
        if isinstance(row, Decision):
            store.hold(row)
    return _to_spool(spool, rows)


_spool_logged = False


def _to_spool(folder: str, rows: Iterable[Row]) -> bool:
    """Append rows to this process's file in `folder`, for `fastconv merge`."""
    global _spool_logged
    name = f"{_environment.provenance().get('host', 'host')}-{os.getpid()}.jsonl"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(os.path.join(folder, name), "a", encoding="utf-8") as stream:
            stream.write("".join(line_of(row) for row in rows))
    except OSError as error:
        log = _log.debug if _spool_logged else _log.warning
        log("wisdom %s: %s; going on without it", folder, error)
        _spool_logged = True
        return False
    return True


def want(met: dict[Problem, tuple[int, float]], machine: Machine) -> bool:
    """Note problems as wanted: how often they were met since the last note, and for how long."""
    if not met:
        return True
    now = _timer.date()
    rows: list[Row] = [
        Wanted(environment_of(p, machine), str(p), hits, seconds, now)
        for p, (hits, seconds) in met.items()
    ]
    some = next(iter(met))
    return _put(_store(), [*rows, _environment_row(some, machine, now)])


def quarantine(c: Candidate, machine: Machine, reason: str, everywhere: bool) -> None:
    """Offer a candidate no more: for its problem, or `everywhere`."""
    environment = environment_of(c.problem, machine)
    problem = "" if everywhere else str(c.problem)
    try:
        row = Quarantine(
            environment, problem, c.method, dict(c.config), _revision(c.method),
            reason, _timer.date(),
        )  # fmt: skip
    except ValueError as error:
        _log.debug("wisdom: not remembered: %s", error)
        return
    _put(_store(), [row])
    _file_quarantine.clear()


def pin(row: Pin) -> bool:
    """Add a pin; True when the file has it."""
    done = _store().put([row])
    _file_pins.clear()
    return done


def delete(rows: Iterable[Row]) -> bool:
    """Forget rows of the user's file."""
    done = _store().delete(rows)
    _file_pins.clear()
    _file_quarantine.clear()
    return done


def rows(kind: type[Row] = Decision, held: bool = True) -> list[Any]:
    """Every row of the user's file as it is now, of all environments and revisions.

    With those that this process only holds, unless `held` is False.
    """
    return _store().rows(kind, held=held)


def clear() -> bool:
    """Forget everything, of all environments; False when the file could not be emptied."""
    _file_pins.clear()
    _file_quarantine.clear()
    return _store().clear()


def collect() -> tuple[int, int]:
    """Forget what cannot be used any more; how many rows, and bytes, that were."""
    store = _store()
    doomed: list[Row] = [
        row for kind in (Decision, Trial, Quarantine) for row in store.rows(kind) if row.stale
    ]
    used = {
        row.environment
        for kind in (Decision, Trial, Wanted, Quarantine)
        for row in store.rows(kind)
        if row not in doomed
    }
    doomed += [row for row in store.rows(Environment) if row.id not in used]
    delete(doomed)
    return len(doomed), store.compact()


# ---- lines of JSON -------------------------------------------------------------------------------

#: Tables that leave the machine. Pins are their owner's own decision.
_EXPORTED = (Environment, Decision, Trial, Wanted, Quarantine)


def line_of(row: Row) -> str:
    """A row as one line of JSON."""
    values = {name: getattr(row, name) for name in fields(type(row))}
    return text_of({"schema": SCHEMA, "row": row.table, **values}) + "\n"


@dataclasses.dataclass(frozen=True)
class Imported:
    """What `import_` did: how many rows were taken, and (line number, reason) of each other one."""

    accepted: int
    skipped: tuple[tuple[int, str], ...]


def export(file: str | os.PathLike[str] | TextIO, min_effort: int = 0) -> int:
    """Write rows as lines of JSON, or to a database where the name ends in ``.db``.

    Parameters
    ----------
    file : path or text stream
    min_effort : int
        Decisions found with less effort stay, with their trials.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    if isinstance(file, str | os.PathLike):
        if os.fspath(file).endswith(".db"):
            return _export_database(pathlib.Path(file), min_effort)
        with open(file, "w", encoding="utf-8") as stream:
            return export(stream, min_effort)
    count = 0
    for row in _exported(min_effort):
        file.write(line_of(row))
        count += 1
    return count


def _exported(min_effort: int) -> Iterator[Row]:
    store = _store()
    low = {row.place for row in store.rows(Decision) if row.effort < min_effort}
    for kind in _EXPORTED:
        for row in store.rows(kind):
            if kind not in (Decision, Trial) or (row.environment, row.problem) not in low:
                yield row


def _export_database(path: pathlib.Path, min_effort: int) -> int:
    """A file for ``FASTCONV_TUNE_RO``: new, complete before it takes its name."""
    found = list(_exported(min_effort))
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    if not Store(part).put(found or [_environment_row_here()]):
        raise OSError(f"{path} could not be written")
    os.replace(part, path)
    return len(found)


def _environment_row_here() -> Environment:
    problem = Problem(size=(1,), kernel=(1,))
    return _environment_row(problem, _machine.this_machine(), _timer.date())


def import_(file: str | os.PathLike[str] | TextIO, *, imported: bool = True) -> Imported:
    """Take rows that `export` wrote, here or on another machine; they serve equal ones only.

    A decision that was timed here is not replaced by one from elsewhere. Nothing in the file is
    run: a line that is not a row of a known solver is skipped, with its reason.

    Parameters
    ----------
    file : path or text stream
    imported : bool
        False for what is this machine's own, such as spooled rows: they stay ``"timed"``, and of
        two decisions that with more effort is kept.

    Returns
    -------
    Imported

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    if isinstance(file, str | os.PathLike):
        if os.fspath(file).endswith(".db"):
            return _import_rows(_rows_of_database(pathlib.Path(file)), imported)
        with open(file, encoding="utf-8", errors="replace") as stream:
            return import_(stream, imported=imported)
    return _import_rows(
        ((number, line) for number, line in enumerate(file, 1) if line.strip()), imported
    )


def _rows_of_database(path: pathlib.Path) -> Iterator[tuple[int, Row]]:
    with open(path, "rb"):  # OSError here, not one line of the log
        pass
    store = Store(path, read_only=True)
    number = 0
    for kind in _EXPORTED:
        for row in store.rows(kind):
            number += 1
            yield number, row


def _import_rows(found: Iterable[tuple[int, str | Row]], imported: bool) -> Imported:
    store = _store()
    own = {row.place: row for row in store.rows(Decision)}
    taken: dict[tuple[Any, ...], Row] = {}
    skipped = []
    for number, what in found:
        try:
            row = parse_line(what) if isinstance(what, str) else what
            stale = getattr(row, "stale", None)
            if stale is not None:
                raise ValueError(stale)
            if isinstance(row, Decision):
                if imported:
                    row = dataclasses.replace(row, how="imported")
                mine = own.get(row.place)
                if mine is not None and row.over(mine) is mine:
                    raise ValueError("this problem was timed here")
            key = (row.table, *row.place)
            taken[key] = row.over(taken[key]) if key in taken else row
        except (ValueError, TypeError, RecursionError) as error:
            skipped.append((number, str(error)))
    if taken:
        store.put(taken.values())
        _file_quarantine.clear()
    return Imported(len(taken), tuple(skipped))


def parse_line(line: str) -> Row:
    """The inverse of `line_of`; ValueError for anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    if found.get("schema") != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA}, got {found.get('schema')!r}")
    kind = BY_TABLE.get(found.get("row", "")) if isinstance(found.get("row"), str) else None
    if kind not in _EXPORTED:
        raise ValueError(
            f"expected a row of {[k.table for k in _EXPORTED]}, got {found.get('row')!r}"
        )
    unknown = sorted(set(found) - {"schema", "row", *fields(kind)})
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}")
    row: Row = make(kind, {k: v for k, v in found.items() if k not in ("schema", "row")})
    return row
