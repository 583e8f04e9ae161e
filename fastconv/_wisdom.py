"""`Wisdom`: problem -> (solver, config, seconds, how it was found), on disk, keyed by machine.

Wisdom is a cache: damage, a lock, a full disk, a directory that cannot be written or another
version's file cost time, never an exception and never a wrong result, for the planner checks again
that what a row names is legal. The file is data only: text and numbers, no code.

All rows are read at first use and held; no connection stays open, so threads and forks need no
care. Other processes' later rows are seen by the next process, which also means that a choice does
not change under a process. Rows that could not be written are kept and tried again with the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

from fastconv import _timer
from fastconv._problem import Problem
from fastconv.solvers import BY_NAME

if TYPE_CHECKING:
    import sqlite3

    from fastconv._machine import Machine
    from fastconv._planner import Candidate

_Key = tuple[str, str]
_Result = TypeVar("_Result")

_log = logging.getLogger("fastconv")

#: ``PRAGMA user_version`` of the file, and the "schema" of exported lines.
SCHEMA = 1

#: ``PRAGMA application_id``: "fcnv".
_APPLICATION = 0x66636E76

#: Seconds to wait for another process's write. A library call must not hang longer for a cache.
_BUSY = 0.05

_CREATE = """
CREATE TABLE IF NOT EXISTS wisdom (
    machine TEXT NOT NULL,
    problem TEXT NOT NULL,
    solver TEXT NOT NULL,
    config TEXT NOT NULL,
    seconds REAL NOT NULL,
    how TEXT NOT NULL,
    revision INTEGER NOT NULL,
    versions TEXT NOT NULL,
    created TEXT NOT NULL,
    PRIMARY KEY (machine, problem)
) WITHOUT ROWID
"""


class Progress(Protocol):
    """Told the fraction done, 0 to 1, and what is being done."""

    def __call__(self, done: float, text: str) -> None: ...


@dataclasses.dataclass(frozen=True)
class Known:
    """What wisdom knows of a problem on this machine."""

    method: str
    config: dict[str, int | str]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of wisdom.

    Attributes
    ----------
    machine, problem : str
        Texts of the `Machine` and the `Problem`; together the key.
    solver : str
    config : dict
    seconds : float
        Of one call.
    how : {"timed", "imported"}
    revision : int
        The solver's, when it was timed. Rows of other revisions are not used.
    versions : dict
        Of fastconv, NumPy and SciPy, for the record.
    created : str
        Date and time, UTC.
    """

    machine: str
    problem: str
    solver: str
    config: dict[str, int | str]
    seconds: float
    how: str
    revision: int
    versions: dict[str, str]
    created: str

    def __post_init__(self) -> None:
        """ValueError on anything that this module would not have written itself."""
        for name in ("machine", "problem", "solver", "how", "created"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"expected text for {name}, got {value!r}")
        if str(Problem.parse(self.problem)) != self.problem:
            raise ValueError(f"expected the canonical text of a problem, got {self.problem!r}")
        if not _simple(self.config, int | str):
            raise ValueError(f"expected settings that are numbers or text, got {self.config!r}")
        if not _simple(self.versions, str):
            raise ValueError(f"expected versions that are text, got {self.versions!r}")
        if not isinstance(self.seconds, int | float) or isinstance(self.seconds, bool):
            raise ValueError(f"expected a number for seconds, got {self.seconds!r}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"expected seconds above 0, got {self.seconds}")
        if self.how not in ("timed", "imported"):
            raise ValueError(f"expected timed or imported for how, got {self.how!r}")
        if not isinstance(self.revision, int) or isinstance(self.revision, bool):
            raise ValueError(f"expected a whole number for revision, got {self.revision!r}")

    @property
    def stale(self) -> str | None:
        """Why this version of fastconv cannot use the row; None when it can."""
        solver = BY_NAME.get(self.solver)
        if solver is None:
            return f"no solver is called {self.solver!r}"
        if solver.revision != self.revision:
            return f"revision {self.revision} of {self.solver} is not the current {solver.revision}"
        return None

    @property
    def key(self) -> _Key:
        return self.machine, self.problem

    def values(self) -> tuple[Any, ...]:
        """In the order of the file's columns."""
        return tuple(
            _json(value) if isinstance(value, dict) else value
            for value in (getattr(self, name) for name in _FIELDS)
        )


_FIELDS = tuple(field.name for field in dataclasses.fields(Row))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _simple(value: Any, types: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(k, str) and isinstance(v, types) and not isinstance(v, bool)
        for k, v in value.items()
    )


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for name in ("fastconv", "numpy", "scipy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


class _Store:
    """The rows of one file, in memory and, as far as it can be written, on disk."""

    def __init__(self, path: pathlib.Path | None) -> None:
        self.path = path
        self._logged = False
        self._unwritten: dict[_Key, Row] = {}
        # what the file holds is checked when it is asked for: a first call must not wait for all
        self._stored: dict[_Key, tuple[Any, ...]] = {}
        self._rows: dict[_Key, Row | None] = {}
        self.load()

    def trouble(self, what: object) -> None:
        """Say once what keeps wisdom from its file; it goes on in memory."""
        log = _log.debug if self._logged else _log.warning
        log("wisdom %s: %s; going on without it", self.path or "in memory", what)
        self._logged = True

    def load(self) -> None:
        """Read the file again; rows that are not written yet, or no longer readable, are kept."""
        if self.path is None:
            return
        stored = self._guarded(self._read) if os.path.lexists(self.path) else []
        if stored is not None:
            self._stored = {values[:2]: values for values in stored}
            self._rows = dict(self._unwritten)

    def _read(self) -> list[tuple[Any, ...]]:
        with self._connect("rw") as connection:
            if not self._ours(connection):
                return []
            return connection.execute(f"SELECT {', '.join(_FIELDS)} FROM wisdom").fetchall()

    def get(self, key: _Key) -> Row | None:
        """The row of a machine and a problem, unless it is damaged."""
        try:
            return self._rows[key]
        except KeyError:
            pass
        row = None
        if key in self._stored:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                row = _row_of(dict(zip(_FIELDS, self._stored[key])))
            self._rows[key] = row
        return row

    def all(self) -> list[Row]:
        every = (self.get(key) for key in {**self._stored, **self._rows})
        return sorted((row for row in every if row is not None), key=lambda row: row.key)

    def put(self, rows: Iterable[Row]) -> None:
        """Hold rows, and write them if that can be done."""
        for row in rows:
            self._rows[row.key] = row
            if self.path is not None:
                self._unwritten[row.key] = row
        pending = dict(self._unwritten)
        written = bool(pending) and self._guarded(
            functools.partial(self._write, pending.values()), again=True
        )
        if written:
            for key, row in pending.items():
                if self._unwritten.get(key) is row:
                    self._unwritten.pop(key, None)

    def _write(self, rows: Iterable[Row]) -> bool:
        assert self.path is not None
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._connect("rwc") as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not self._ours(connection):
                return False
            connection.executemany(
                f"INSERT OR REPLACE INTO wisdom ({', '.join(_FIELDS)})"
                f" VALUES ({', '.join('?' * len(_FIELDS))})",
                [row.values() for row in rows],
            )
            connection.execute("COMMIT")
        return True

    def clear(self) -> bool:
        """Forget all rows; False when the file could not be emptied."""
        self._unwritten.clear()
        self._stored, self._rows = {}, {}
        if self.path is None or not os.path.lexists(self.path):
            return True
        return bool(self._guarded(self._erase, again=True))

    def _erase(self) -> bool:
        if not os.path.lexists(self.path or ""):  # a corrupt one has just been set aside
            return True
        with self._connect("rw") as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not self._ours(connection):
                return False
            connection.execute("DELETE FROM wisdom")
            connection.execute("COMMIT")
        return True

    @property
    def writable(self) -> bool:
        """Whether the file, or else one in its directory, may be written; nothing is changed."""
        if self.path is None:
            return False
        if os.path.lexists(self.path):
            return os.path.isfile(self.path) and os.access(self.path, os.W_OK)
        parent = self.path.absolute().parent
        while not os.path.lexists(parent) and parent != parent.parent:
            parent = parent.parent
        return os.path.isdir(parent) and os.access(parent, os.W_OK)

    @contextlib.contextmanager
    def _connect(self, mode: str) -> Iterator[sqlite3.Connection]:
        import sqlite3

        assert self.path is not None
        if os.path.lexists(self.path) and not os.path.isfile(self.path):
            raise OSError("not a regular file")  # opening a pipe would wait for its other end
        # the rollback journal, SQLite's default, also works on network and read-only file systems
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None)
        try:
            # damaged text must not make the other rows unreadable
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            yield connection
        finally:
            connection.close()

    def _ours(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is of this schema; an empty one is made so when it is being written."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if (application, version) == (_APPLICATION, SCHEMA):
            return True
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] or application:
            known = application == _APPLICATION
            self.trouble(f"schema {version}, not {SCHEMA}" if known else "not a file of fastconv")
            return False
        if not connection.in_transaction:
            return False
        connection.execute(_CREATE)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        return True

    def _guarded(self, work: Callable[[], _Result], again: bool = False) -> _Result | None:
        """What `work` returns, or None when the file cannot be used.

        A corrupt file is set aside; then work is tried `again` on an empty one.
        """
        try:
            import sqlite3
        except ImportError as error:  # a Python built without it
            self.trouble(error)
            return None
        for attempt in (1, 2):
            try:
                return work()
            except (sqlite3.Error, sqlite3.Warning, OSError) as error:
                # SQLITE_CORRUPT and SQLITE_NOTADB are DatabaseError itself, all others subclasses
                corrupt = type(error) is sqlite3.DatabaseError
                self.trouble(f"{error}, set aside" if corrupt else error)
                if not (corrupt and self._set_aside() and again and attempt == 1):
                    return None
        return None

    def _set_aside(self) -> bool:
        """Rename the file to one fixed name: a failing disk must not fill up with copies."""
        assert self.path is not None
        try:
            os.replace(self.path, f"{self.path}.corrupt")
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{self.path}-journal")  # it would be rolled back into the next file
        except OSError:
            return False
        return True


def _row_of(fields: dict[str, Any]) -> Row:
    """A row from a database's or a file's values; ValueError when they are not one."""
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    for name in ("config", "versions"):
        if isinstance(fields[name], str):
            fields[name] = json.loads(fields[name])
    return Row(**{name: fields[name] for name in _FIELDS})


_stores: dict[str, _Store] = {}


def path() -> str:
    """Where wisdom is kept: ``FASTCONV_WISDOM``, else a file in the user's cache directory."""
    return os.environ.get("FASTCONV_WISDOM") or _default_path()


@functools.cache
def _default_path() -> str:
    try:
        import platformdirs

        where = platformdirs.user_cache_path("fastconv") / "wisdom.db"
        if not where.is_absolute():
            raise OSError(f"{where} is not absolute")
    except Exception as error:  # having no home directory is no reason to fail
        _log.warning("wisdom has no cache directory: %s; going on in memory", error)
        return ":memory:"
    return str(where)


def _store() -> _Store:
    where = path()
    store = _stores.get(where)
    if store is None:
        file = None if where == ":memory:" else pathlib.Path(where)
        store = _stores.setdefault(where, _Store(file))
    return store


def lookup(problem: Problem, machine: Machine) -> Known | None:
    """What is known of `problem` on `machine`; None when nothing that can be used is."""
    row = _store().get((str(machine), str(problem)))
    if row is None or row.stale is not None:
        return None
    return Known(row.solver, dict(row.config), row.seconds)


def remember(candidate: Candidate, machine: Machine) -> None:
    """Keep a timed candidate as the answer to its problem on `machine`."""
    solver = BY_NAME.get(candidate.method)
    try:
        row = Row(
            machine=str(machine), problem=str(candidate.problem), solver=candidate.method,
            config=dict(candidate.config), seconds=candidate.seconds, how="timed",
            revision=solver.revision if solver is not None else 0,
            versions=_versions(), created=_timer.date(),
        )  # fmt: skip
    except ValueError as error:
        _log.debug("wisdom: not remembered: %s", error)
    else:
        _store().put([row])


def rows() -> list[Row]:
    """Every row of the file as it is now, of all machines and revisions, by machine and problem."""
    store = _store()
    store.load()
    return store.all()


def writable() -> bool:
    """Whether what is timed now can be there for the next process."""
    return _store().writable


def clear() -> bool:
    """Forget everything, of all machines; False when the file could not be emptied."""
    return _store().clear()


@dataclasses.dataclass(frozen=True)
class Imported:
    """What `import_` did: how many rows were taken, and (line number, reason) of each other one."""

    accepted: int
    skipped: tuple[tuple[int, str], ...]


def export(file: str | os.PathLike[str] | TextIO) -> int:
    """Write every row as one line of JSON; returns how many.

    Parameters
    ----------
    file : path or text stream

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    if isinstance(file, str | os.PathLike):
        with open(file, "w", encoding="utf-8") as stream:
            return export(stream)
    every = rows()
    for row in every:
        file.write(_json({"schema": SCHEMA, **dataclasses.asdict(row)}) + "\n")
    return len(every)


def import_(file: str | os.PathLike[str] | TextIO) -> Imported:
    """Take rows that `export` wrote, here or on another machine; they serve equal machines only.

    A row that was timed here is not replaced by one from elsewhere. Nothing in the file is run:
    a line that is not a row of a known solver is skipped, with its reason.

    Parameters
    ----------
    file : path or text stream

    Returns
    -------
    Imported

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    if isinstance(file, str | os.PathLike):
        with open(file, encoding="utf-8", errors="replace") as stream:
            return import_(stream)
    store = _store()
    store.load()
    taken: dict[tuple[str, str], Row] = {}
    skipped = []
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = _parse_line(line)
            mine = store.get(row.key)
            if mine is not None and mine.how == "timed" and mine.stale is None:
                raise ValueError("this problem was timed here")
            taken[row.key] = row
        except (ValueError, TypeError, RecursionError) as error:
            skipped.append((number, str(error)))
    if taken:
        store.put(taken.values())
    return Imported(len(taken), tuple(skipped))


def _parse_line(line: str) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError("expected a JSON object")
    if fields.get("schema") != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA}, got {fields.get('schema')!r}")
    unknown = sorted(set(fields) - {"schema", *_FIELDS})
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}")
    row = dataclasses.replace(_row_of(fields), how="imported")
    if row.stale is not None:
        raise ValueError(row.stale)
    return row
