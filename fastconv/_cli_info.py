"""``fastconv info`` and ``fastconv doctor``: this machine, and what spoils timings on it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import click

from fastconv import _environment, _machine, _settings, _timer, _wisdom
from fastconv._cli_common import FOUND, OK, db_option, json_option, new_table, out, print_json
from fastconv._rows import Decision, Quarantine
from fastconv._store import why_untrusted


@click.command(short_help="Show versions, instruction set, caches, BLAS, GPU and wisdom.")
@db_option
@json_option
def info(as_json: bool) -> None:
    """Show versions, instruction set, caches, BLAS, GPU, environment, wisdom and settings."""
    rows = _wisdom.rows()
    machine = _machine.this_machine()
    environment = _environment.environment(machine)
    settings = _settings.current()
    found: dict[str, Any] = {
        **_machine.info(),
        "wisdom": {
            "path": _wisdom.path(),
            "rows": len(rows),
            "of this machine": sum(r.environment == environment for r in rows),
            "writable": _wisdom.writable(),
        },
        "site wisdom": [
            {"path": str(store.path), "rows": len(store.rows(Decision))}
            for store in _wisdom.layers()[1:]
        ],
        "environment": {"id": environment, **_environment.identity(machine)},
        "provenance": _environment.provenance(),
        "tuning": settings.mode,
        "tuning set by": settings.origin,
    }
    if as_json:
        print_json(found)
        return
    table = new_table("", "")
    for name, value in found.items():
        values = value if isinstance(value, list) else [value]
        for i, each in enumerate(values):
            if isinstance(each, dict):
                each = ", ".join(
                    f"{k} {' '.join(v) if isinstance(v, list) else v}" for k, v in each.items()
                )
            table.add_row(name if i == 0 else "", str(each))
    out().print(table)


#: A line of `doctor`: pass, warn or fail; what was looked at; what was seen.
_Finding = tuple[str, str, str]


@click.command(short_help="Look for what spoils timings or keeps wisdom from its file.")
@db_option
@json_option
def doctor(as_json: bool) -> int:
    """Look at the clock, other processes, the governor, cores, BLAS, the files and the noise floor.

    1 when something fails; warnings alone are 0.
    """
    found = [finding for check in _CHECKS for finding in check()]
    if as_json:
        print_json([{"result": r, "what": w, "seen": s} for r, w, s in found])
    else:
        table = new_table("", "", "")
        for finding in found:
            table.add_row(*finding)
        out().print(table)
    return FOUND if any(result == "fail" for result, _, _ in found) else OK


def _judge(fine: bool, what: str, seen: str, otherwise: str = "warn") -> _Finding:
    return ("pass" if fine else otherwise), what, seen


def _check_clock() -> Iterator[_Finding]:
    tick = _timer.tick()
    yield _judge(tick <= 1000, "clock", f"steps of {tick} ns")


def _check_noise() -> Iterator[_Finding]:
    """A function against its own twin, for a fifth of a second."""

    def work() -> None:
        sum(range(20_000))

    before, watch = _environment.stalled(), _timer.Deadline(None)
    ranking = _timer.rank([work, work], budget=0.5)
    after, spent = _environment.stalled(), watch.spent
    yield _judge(ranking.noise <= _timer.NOISY, "noise floor", f"{ranking.noise:.1%}")
    if before is None or after is None:
        yield "warn", "pressure", "the system does not say"
    else:
        share = (after - before) / spent
        yield _judge(share <= _timer.PRESSED, "pressure", f"tasks wait {share:.0%} of the time")


def _check_machine() -> Iterator[_Finding]:
    governor = _environment.provenance().get("governor", "")
    told = governor or "the system does not say"
    yield _judge(governor in ("", "performance", "schedutil"), "governor", told)
    machine = _machine.this_machine()
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:
        affinity = os.cpu_count() or 1
    yield _judge(machine.cores == affinity, "cores", f"{machine.cores} of {affinity} by quota")
    believed = 0 < machine.l1 <= machine.l2 <= max(machine.l3, machine.l2)
    yield _judge(believed, "caches", f"{machine.l1} {machine.l2} {machine.l3} bytes")
    for library in _machine.info()["blas"]:
        threads = library.get("num_threads", 1)
        told = f"{library.get('internal_api')} {library.get('version')}, {threads} threads"
        yield _judge(threads <= machine.cores, "BLAS", told)
    yield "pass", "GPU", str(_machine.info()["gpu"])


def _check_files() -> Iterator[_Finding]:
    path = _wisdom.path()
    kind, local = _environment.filesystem(str(pathlib.Path(path).absolute().parent))
    if path == ":memory:":
        yield "warn", "wisdom", "in memory: nothing is kept"
    else:
        yield _judge(_wisdom.writable(), "wisdom", f"{path} can be written", "fail")
        told = f"{kind}{'' if local else ': not surely local, see FASTCONV_TUNE_SPOOL'}"
        yield _judge(local, "file system", told)
        folder = pathlib.Path(path).absolute().parent
        if folder.is_dir():
            mode = folder.stat().st_mode & 0o777
            yield _judge(not mode & 0o022, "folder", f"mode {mode:o}")
    for store in _wisdom.layers()[1:]:
        assert store.path is not None
        if not store.path.is_file():
            yield "fail", "site wisdom", f"{store.path} is missing"
            continue
        reason = why_untrusted(store.path, owned=False)
        count = len(store.rows(Decision))
        told = f"{store.path}, rows: {count}" if reason is None else f"{store.path}: {reason}"
        yield _judge(reason is None and count > 0, "site wisdom", told, "fail")
    here = _environment.environment(_machine.this_machine())
    rows = [row for store in _wisdom.layers() for row in store.rows(Decision)]
    mine = [row for row in rows if row.environment == here]
    yield _judge(
        bool(mine) or not rows, "environment",
        f"{here}: rows {len(mine)}, of other environments {len(rows) - len(mine)}",
    )  # fmt: skip
    stale = [row for row in mine if row.stale]
    yield _judge(not stale, "revisions", f"rows of other revisions: {len(stale)}")
    locked = [row for store in _wisdom.layers() for row in store.rows(Quarantine)]
    yield _judge(not locked, "quarantine", f"candidates: {len(locked)}")
    settings = _settings.current()
    yield "pass", "mode", f"{settings.mode}, set by {settings.origin}"


_CHECKS: tuple[Callable[[], Iterator[_Finding]], ...] = (
    _check_clock, _check_noise, _check_machine, _check_files,
)  # fmt: skip
