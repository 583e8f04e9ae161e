"""Commands of wisdom's file: what is in it, what goes to and from others, pins, forgetting."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Sequence

import click

from fastconv import _environment, _machine, _wisdom
from fastconv._cli_common import (
    FOUND,
    OK,
    db_option,
    json_option,
    new_table,
    out,
    print_json,
    say,
    time_text,
    words,
)
from fastconv._rows import Decision, Environment, Pin, Quarantine, Row, Trial, Wanted


@click.command("wisdom", short_help="List what is remembered.")
@click.argument("pattern", default="*")
@db_option
@json_option
def wisdom(pattern: str, as_json: bool) -> None:
    """List what is remembered of problems whose text matches PATTERN, of all environments."""
    rows = [row for row in _wisdom.rows() if fnmatch.fnmatchcase(row.problem, pattern)]
    if as_json:
        found = [{**vars(row), "stale": row.stale} for row in rows]
        print_json({"path": _wisdom.path(), "rows": found})
        return
    console = out()
    console.print(f"{_wisdom.path()}, rows: {len(rows)}", soft_wrap=True)
    here = _environment.environment(_machine.this_machine())
    machines = {e.id: str(e.identity.get("machine")) for e in _wisdom.rows(Environment)}
    table = new_table("problem", "solver", "config", "time:", "gap:", "effort:", "how", "created",
                      "machine")  # fmt: skip
    for row in rows:
        known = machines.get(row.environment, row.environment)
        table.add_row(
            row.problem, row.solver, words(row.config), time_text(row.seconds),
            f"{row.margin:.2f}x" if row.margin else "-", str(row.effort),
            row.how if row.stale is None else f"unused: {row.stale}", row.created,
            "this" if row.environment == here else known,
        )  # fmt: skip
    if rows:
        console.print(table)


@click.command("export", short_help="Write wisdom as lines of JSON, or as a database to ship.")
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--min-effort", type=click.IntRange(0, 3), default=0, show_default=True,
              help="2 leaves out what `auto` found, 3 what was not thorough.")  # fmt: skip
@db_option
@json_option
def export(file: str, min_effort: int, as_json: bool) -> None:
    """Write all rows but pins to FILE ("-": standard output).

    A FILE.db is a database for FASTCONV_TUNE_RO, anything else lines of JSON.
    """
    count = _wisdom.export(sys.stdout if file == "-" else file, min_effort)
    if as_json and file != "-":
        print_json({"file": file, "rows": count})
    else:
        say(f"rows written: {count}")


def _take(files: Sequence[str], imported: bool, as_json: bool) -> int:
    _wisdom.be_patient()
    accepted = 0
    skipped: list[tuple[str, int, str]] = []
    for file in files:
        done = _wisdom.import_(sys.stdin if file == "-" else file, imported=imported)
        accepted += done.accepted
        skipped += [(file, line, reason) for line, reason in done.skipped]
    if as_json:
        print_json({"accepted": accepted, "skipped": [
            {"file": file, "line": line, "reason": reason} for file, line, reason in skipped
        ]})  # fmt: skip
        return OK
    print(f"rows taken: {accepted}, lines skipped: {len(skipped)}")
    for file, line, reason in skipped:
        print(f"{file}, line {line}: {reason}")
    return OK


@click.command("import", short_help="Take the rows that `export` wrote.")
@click.argument("file", type=click.Path(allow_dash=True))
@db_option
@json_option
def import_(file: str, as_json: bool) -> int:
    """Take the rows of FILE ("-": standard input), lines of JSON or a database.

    Rows serve environments equal to the one they were timed in, and never replace rows timed
    here. Lines that are not valid rows are skipped.
    """
    return _take([file], True, as_json)


@click.command(short_help="Take rows of this machine's other files: spools, databases.")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@db_option
@json_option
def merge(files: Sequence[str], as_json: bool) -> int:
    """Take the rows of FILES as this machine's own: of two decisions the more thorough stays."""
    return _take(files, False, as_json)


@click.command(short_help="Decide what is chosen for problems of a pattern.")
@click.argument("pin", metavar='"PATTERN=METHOD [setting=value ...]"')
@click.option("--reason", default="")
@db_option
@json_option
def pin(pin: str, reason: str, as_json: bool) -> int:
    """Let problems whose text matches PATTERN (as of files: * ? []) be solved by METHOD.

    It is passed over where it is not legal, and below what a call asks for.
    """
    row = _wisdom.parse_pin(pin, reason)
    kept = _wisdom.pin(row)
    if as_json:
        print_json({**vars(row), "kept": kept})
    elif kept:
        print(f"pinned {row.pattern!r} to {row.solver} {words(row.config)}".rstrip())
    if not kept:
        say(f"{_wisdom.path()} could not be written")
    return OK if kept else FOUND


@click.command(short_help="Undo pins.")
@click.argument("pattern")
@db_option
@json_option
def unpin(pattern: str, as_json: bool) -> int:
    """Undo the pin with exactly this PATTERN; 1 if there is none."""
    rows = [row for row in _wisdom.rows(Pin) if row.pattern == pattern]
    return _forget(rows, "pins undone", as_json, bool(rows))


def _forget(rows: Sequence[Row], what: str, as_json: bool, found: bool = True) -> int:
    if not _wisdom.delete(rows):
        say(f"{_wisdom.path()} could not be written")
        return FOUND
    if as_json:
        print_json({what: len(rows)})
    else:
        print(f"{what}: {len(rows)}")
    return OK if found else FOUND


@click.command(short_help="Forget what is remembered of some problems, or of all.")
@click.argument("pattern", required=False)
@click.option("--all", "everything", is_flag=True, help="All rows of all tables.")
@db_option
@json_option
def forget(pattern: str | None, everything: bool, as_json: bool) -> int:
    """Forget decisions, trials, wishes and quarantine of problems that match PATTERN."""
    if (pattern is None) != everything:
        raise click.UsageError("expected either a PATTERN or --all")
    if everything:
        count = len(_wisdom.rows())
        if not _wisdom.clear():
            say(f"{_wisdom.path()} could not be emptied")
            return FOUND
        return _forget([], "rows forgotten", as_json) if not count else _told(count, as_json)
    assert pattern is not None
    kinds = (Decision, Trial, Wanted, Quarantine)
    rows = [
        row for kind in kinds for row in _wisdom.rows(kind)
        if fnmatch.fnmatchcase(row.problem, pattern)
    ]  # fmt: skip
    return _forget(rows, "rows forgotten", as_json)


def _told(count: int, as_json: bool) -> int:
    if as_json:
        print_json({"rows forgotten": count})
    else:
        print(f"rows forgotten: {count}")
    return OK


@click.command(short_help="Forget what no version in use can serve; give space back.")
@db_option
@json_option
def gc(as_json: bool) -> None:
    """Forget rows of other revisions and of unknown solvers, and give the file's space back."""
    rows, freed = _wisdom.collect()
    if as_json:
        print_json({"rows forgotten": rows, "bytes freed": freed})
    else:
        print(f"rows forgotten: {rows}, bytes freed: {freed}")
