"""One file of wisdom: rows in memory and, as far as it can be written, on disk.

A store is a cache: damage, a lock, a full disk, a directory that cannot be written, rights that
are too wide or another version's file cost time, never an exception, and one line of the log.

Decisions are read once, for an environment at a time, and held, so that what another process
writes later does not change a choice under this one. No connection stays open: threads and forks
need no care. Rows that could not be written are held and tried again with the next, and at exit.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import pathlib
import stat
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fastconv._rows import KINDS, Decision, Row, Wanted, fields, make

if TYPE_CHECKING:
    import sqlite3

_Result = TypeVar("_Result")
_Place = tuple[type[Row], tuple[Any, ...]]

_log = logging.getLogger("fastconv")

#: ``PRAGMA user_version`` of the file, and the "schema" of exported lines.
SCHEMA = 2

#: ``PRAGMA application_id``: "fcnv".
APPLICATION = 0x66636E76

#: Seconds to wait for another process's write. A library call must not hang longer for a cache;
#: who has nothing else to do may: a command, and a process that ends.
BUSY = 0.05
PATIENT = 10.0

#: Times that a file which could not be read is tried again, in the life of a process.
_TRIES = 3

_SQL_TYPES = {"str": "TEXT", "dict": "TEXT", "int": "INTEGER", "float": "REAL"}


def _create(kind: type[Row]) -> str:
    columns = [f"{name} {_SQL_TYPES[of]} NOT NULL" for name, of in fields(kind).items()]
    return (
        f"CREATE TABLE IF NOT EXISTS {kind.table} ({', '.join(columns)},"
        f" PRIMARY KEY ({', '.join(kind.key)})) WITHOUT ROWID"
    )


def _select(kind: type[Row]) -> str:
    return f"SELECT {', '.join(fields(kind))} FROM {kind.table}"


def _where(kind: type[Row]) -> str:
    return " WHERE " + " AND ".join(f"{name} = ?" for name in kind.key)


class Store:
    """The rows of one file; of none when `path` is None."""

    def __init__(self, path: pathlib.Path | None, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.busy = BUSY
        self._logged = False
        self._lock = threading.Lock()
        #: What the file does not have, or not yet; of `Wanted` what is to be added to its hits.
        self._unwritten: dict[_Place, Row] = {}
        #: Decisions in force here that are not to be written.
        self._held: dict[_Place, Row] = {}
        self._stored: dict[str, dict[str, tuple[Any, ...]]] = {}
        self._known: dict[tuple[str, str], Decision | None] = {}
        self._tries = _TRIES
        self._file: tuple[int, int] | None = None
        _stores.add(self)

    def trouble(self, what: object) -> None:
        """Say once what keeps wisdom from its file; it goes on in memory."""
        log = _log.debug if self._logged else _log.warning
        log("wisdom %s: %s; going on without it", self.path or "in memory", what)
        self._logged = True

    # ---- reading -----------------------------------------------------------------------------
    def decision(self, environment: str, problem: str) -> Decision | None:
        """The decision as it was first read, or made here since; None too when it is damaged."""
        key = environment, problem
        try:
            return self._known[key]
        except KeyError:
            pass
        found = None
        snapshot = self._snapshot(environment)
        if snapshot is None:
            return None
        values = snapshot.get(problem)
        if values is not None:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                found = make(Decision, dict(zip(fields(Decision), values)))
        self._known[key] = found
        return found

    def is_blank(self, environment: str) -> bool:
        """Whether there is no decision, of an environment in the file nor any made here."""
        return not self._known and self._snapshot(environment) == {}

    def _snapshot(self, environment: str) -> dict[str, tuple[Any, ...]] | None:
        """Decisions by problem, not checked yet; None when they may be readable the next time."""
        stored = self._stored.get(environment)
        if stored is None:
            rows = self._fetch(Decision, "environment = ?", (environment,))
            if rows is None:
                self._tries -= 1
                if self._tries > 0:
                    return None
            problem = list(fields(Decision)).index("problem")
            stored = self._stored[environment] = {values[problem]: values for values in rows or ()}
        return stored

    def rows(
        self, kind: type[Row], condition: str = "", given: Sequence[Any] = (), held: bool = True
    ) -> list[Any]:
        """Rows of the file as it is now and those held here, by their keys; the damaged left out.

        A `condition` is SQL over the columns: names and ``=``, joined by ``AND``.
        """
        names = list(fields(kind))
        found: dict[tuple[Any, ...], Row] = {}
        for values in self._fetch(kind, condition, given) or ():
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                row = make(kind, dict(zip(names, values)))
                found[row.place] = row
        wanted = [part.split()[0] for part in condition.split(" AND ")] if condition else []
        more = [*self._unwritten.items(), *self._held.items()] if held else []
        for (of, place), row in more:
            if of is kind and all(getattr(row, n) == g for n, g in zip(wanted, given)):
                found[place] = row.over(found[place]) if place in found else row
        return sorted(found.values(), key=lambda row: row.place)

    def _fetch(
        self, kind: type[Row], condition: str, given: Sequence[Any]
    ) -> list[tuple[Any, ...]] | None:
        if self.path is None or not os.path.lexists(self.path):
            return []

        def fetch() -> list[tuple[Any, ...]]:
            with self._connect("ro" if self.read_only else "rw") as connection:
                if not self._ours(connection):
                    return []
                sql = _select(kind) + (f" WHERE {condition}" if condition else "")
                return connection.execute(sql, given).fetchall()

        return self._guarded(fetch)

    # ---- writing -----------------------------------------------------------------------------
    def put(self, rows: Iterable[Row]) -> bool:
        """Hold rows, and write them if that can be done; True when the file has all of them."""
        with self._lock:
            for row in rows:
                kind, place = type(row), row.place
                old: Row | None = self._unwritten.get((kind, place))
                if isinstance(row, Decision):
                    self._held.pop((kind, place), None)
                    old = old or self.decision(*place)
                kept = row if old is None else row.over(old)
                if isinstance(row, Decision):
                    self._known[row.environment, row.problem] = kept  # type: ignore[assignment]
                self._unwritten[kind, place] = kept
        return self.flush()

    def hold(self, row: Decision) -> None:
        """Let a decision be in force in this process only."""
        with self._lock:
            self._held[Decision, row.place] = row
            self._known[row.environment, row.problem] = row

    def flush(self) -> bool:
        """Write what is held for writing; True when nothing is left."""
        if self.path is None or self.read_only:
            return False
        with self._lock:
            pending = dict(self._unwritten)
            if not pending:
                return True
            if not self._guarded(functools.partial(self._write, list(pending.values())), True):
                return False
            for key, row in pending.items():
                if self._unwritten.get(key) is row:
                    del self._unwritten[key]
            return True

    def _write(self, rows: Sequence[Row]) -> bool:
        assert self.path is not None
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._connect("rwc") as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not self._ours(connection):
                return False
            for row in rows:
                kind = type(row)
                names = list(fields(kind))
                sql = _select(kind) + _where(kind)
                for values in connection.execute(sql, row.place).fetchall():
                    with contextlib.suppress(ValueError, TypeError, RecursionError):
                        row = row.over(make(kind, dict(zip(names, values))))
                connection.execute(
                    f"INSERT OR REPLACE INTO {kind.table} ({', '.join(names)})"
                    f" VALUES ({', '.join('?' * len(names))})",
                    row.values(),
                )
            connection.execute("COMMIT")
        return True

    def delete(self, rows: Iterable[Row]) -> bool:
        """Forget rows; False when they could not be taken from the file."""
        doomed = [(type(row), row.place) for row in rows]
        with self._lock:
            for kind, place in doomed:
                self._unwritten.pop((kind, place), None)
                self._held.pop((kind, place), None)
                if kind is Decision:
                    self._known[place] = None
            if self.path is None or not os.path.lexists(self.path):
                return True
            if self.read_only:
                return False

            def erase() -> bool:
                if not os.path.lexists(self.path or ""):  # a corrupt one has just been set aside
                    return True
                with self._connect("rw") as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    if not self._ours(connection):
                        return False
                    for kind, place in doomed:
                        connection.execute(f"DELETE FROM {kind.table}{_where(kind)}", place)
                    connection.execute("COMMIT")
                return True

            return bool(self._guarded(erase, True))

    def clear(self) -> bool:
        """Forget all rows, readable or not; False when the file could not be emptied."""
        with self._lock:
            self._unwritten.clear()
            self._held.clear()
            self._stored.clear()
            self._known.clear()
            if self.path is None or not os.path.lexists(self.path):
                return True

            def erase() -> bool:
                if not os.path.lexists(self.path or ""):
                    return True
                with self._connect("rw") as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    if not self._ours(connection):
                        return False
                    for kind in KINDS:
                        connection.execute(f"DELETE FROM {kind.table}")
                    connection.execute("COMMIT")
                return True

            return not self.read_only and bool(self._guarded(erase, True))

    def compact(self) -> int:
        """Give the file's unused space back; bytes freed."""
        if self.path is None or self.read_only or not os.path.isfile(self.path):
            return 0
        before = self.path.stat().st_size

        def vacuum() -> bool:
            with self._connect("rw") as connection:
                if self._ours(connection):
                    connection.execute("VACUUM")
            return True

        self._guarded(vacuum)
        return max(0, before - self.path.stat().st_size)

    @property
    def writable(self) -> bool:
        """Whether the file, or else one in its directory, may be written; nothing is changed."""
        if self.path is None or self.read_only:
            return False
        if os.path.lexists(self.path):
            return (
                os.path.isfile(self.path)
                and os.access(self.path, os.W_OK)
                and why_untrusted(self.path) is None
            )
        parent = self.path.absolute().parent
        while not os.path.lexists(parent) and parent != parent.parent:
            parent = parent.parent
        return os.path.isdir(parent) and os.access(parent, os.W_OK)

    # ---- the file ----------------------------------------------------------------------------
    @contextlib.contextmanager
    def _connect(self, mode: str) -> Iterator[sqlite3.Connection]:
        import sqlite3

        assert self.path is not None
        self._file = None
        if os.path.lexists(self.path):
            if not os.path.isfile(self.path):
                raise OSError("not a regular file")  # opening a pipe would wait for its other end
            reason = why_untrusted(self.path, owned=not self.read_only)
            if reason is not None:
                raise OSError(reason)
            found = os.stat(self.path)
            self._file = found.st_dev, found.st_ino
        # The rollback journal, SQLite's default, works on network file systems, and its files can
        # be read in a directory that cannot be written. A row is written every few seconds at
        # most, and takes 0.2 ms: a write-ahead log would gain nothing.
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        if self.read_only:
            uri += "&immutable=1"  # no lock is taken, no journal looked for
        connection = sqlite3.connect(uri, uri=True, timeout=self.busy, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            # damaged text must not make the other rows unreadable
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            yield connection
        finally:
            connection.close()

    def _ours(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is of this schema; an empty one is made so when it is being written."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if (application, version) == (APPLICATION, SCHEMA):
            return True
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] or application:
            known = application == APPLICATION
            self.trouble(f"schema {version}, not {SCHEMA}" if known else "not a file of fastconv")
            return False
        if not connection.in_transaction:
            return False
        for kind in KINDS:
            connection.execute(_create(kind))
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
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
                corrupt = type(error) is sqlite3.DatabaseError and not self.read_only
                self.trouble(f"{error}, set aside" if corrupt else error)
                if not (corrupt and self._set_aside() and again and attempt == 1):
                    return None
        return None

    def _set_aside(self) -> bool:
        """Rename the file to one fixed name: a failing disk must not fill up with copies."""
        assert self.path is not None
        try:
            found = os.stat(self.path)
            if self._file is not None and self._file != (found.st_dev, found.st_ino):
                return True  # another process has done it, and this is its new one
            os.replace(self.path, f"{self.path}.corrupt")
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{self.path}-journal")  # it would be rolled back into the next file
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def why_untrusted(path: pathlib.Path, owned: bool = True) -> str | None:
    """Why somebody else may have written a file; None when only this user or root can have."""
    if not hasattr(os, "geteuid"):
        return None
    found = os.stat(path)
    if owned and found.st_uid not in (os.geteuid(), 0):
        return f"it belongs to user {found.st_uid}, not to user {os.geteuid()}"
    if found.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if owned else 0)):
        return f"others may write it (mode {stat.S_IMODE(found.st_mode):o})"
    return None


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


@atexit.register
def _last_try() -> None:
    for store in list(_stores):
        if store._unwritten and store.path is not None:
            store.busy = PATIENT
            store.flush()


def _in_child() -> None:
    """After a fork: no lock of the parent's threads is held here, and its rows are its own."""
    for store in list(_stores):
        store._lock = threading.Lock()
        if store.path is not None:
            store._unwritten = {k: r for k, r in store._unwritten.items() if k[0] is not Wanted}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
