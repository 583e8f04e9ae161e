"""``fastconv tune`` and ``fastconv record``: what is timed, and what there is to time."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

import click

from fastconv import (
    _cli_model,
    _machine,
    _planner,
    _settings,
    _suites,
    _timer,
    _wisdom,
)
from fastconv._cli_common import (
    FOUND,
    OK,
    PARTIAL,
    Shown,
    Target,
    as_dict,
    db_option,
    files,
    finite,
    json_option,
    new_table,
    out,
    print_json,
    read,
    say,
    time_text,
    words,
)
from fastconv._planner import Candidate
from fastconv._problem import Problem
from fastconv._rows import Row, Wanted

# ---- tune ----------------------------------------------------------------------------------------


def _of_log(path: str) -> list[Target]:
    """Problems of a file: lines of JSON that `export` or a spool wrote, or a problem a line."""
    found: dict[Problem, float] = {}
    with open(path, encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            try:
                row = _wisdom.parse_line(text) if text.startswith("{") else None
                if isinstance(row, Wanted):
                    problem, seconds = Problem.parse(row.problem), row.seconds
                elif row is None:
                    problem, seconds = Problem.parse(text), 0.0
                else:
                    continue
            except ValueError as error:
                say(f"{path}, line {number}: {error}")
                continue
            found[problem] = found.get(problem, 0.0) + seconds
    # what takes most of the time first: a budget that ends early has then done most
    return [Target("", p) for p in sorted(found, key=lambda p: -found[p])]


def _wanted_here() -> list[Wanted]:
    machine = _machine.this_machine()
    return sorted(
        (
            row for row in _wisdom.rows(Wanted)
            if row.environment == _wisdom.environment_of(Problem.parse(row.problem), machine)
        ),
        key=lambda row: -row.seconds,
    )  # fmt: skip


def _collect(
    problems: Sequence[str], from_log: Sequence[str], wanted: bool, suite: Sequence[str],
    threads: int | None,
) -> list[Target]:  # fmt: skip
    found: list[Target] = []
    for text in problems:
        targets = read(text)
        if targets and targets[0].name:  # calls of a file: packing counts in the plain ones
            targets = [
                Target(f"{t.name}{' prepared' * p}", t.problem.replace(prepared=p))
                for t in targets
                for p in (False, True)
            ]
        found += targets
    for path in from_log:
        found += _of_log(path)
    if wanted:
        found += [Target("", Problem.parse(row.problem)) for row in _wanted_here()]
    for name in suite:
        cores = threads or _machine.this_machine().cores
        found += [Target("", problem) for problem in _suites.suite(name, cores)]
    if threads is not None:
        found = [Target(t.name, t.problem.replace(threads=threads)) for t in found]
    return list({t.problem: t for t in reversed(found)}.values())[::-1]


@click.command(short_help="Time the candidates and remember the fastest.")
@click.argument("problems", nargs=-1, metavar="[PROBLEM|FILE.toml[:NAME]]...",
                shell_complete=files)  # fmt: skip
@click.option("--from-log", multiple=True, metavar="FILE", shell_complete=files,
              help="Problems that `record --log` or a spool wrote, or one a line.")  # fmt: skip
@click.option("--wanted", is_flag=True, help="What was recorded here, the costliest first.")
@click.option("--suite", multiple=True, type=click.Choice(list(_suites.SUITES)))
@click.option("--threads", type=click.IntRange(min=1), help="In place of each problem's own.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), callback=finite,
              metavar="SECONDS", help="For each problem, about; else the mode's own.")  # fmt: skip
@click.option("--total", type=click.FloatRange(min=0, min_open=True), callback=finite,
              metavar="SECONDS", help="For all of them.")  # fmt: skip
@click.option("--thorough", is_flag=True, help="All settings of all methods, for 30 s each.")
@click.option("--missing", is_flag=True, help="Only what wisdom does not know well enough.")
@click.option("--force-noisy", is_flag=True,
              help="Keep also what was timed while others wanted the machine.")  # fmt: skip
@db_option
@json_option
def tune(
    problems: Sequence[str], from_log: Sequence[str], wanted: bool, suite: Sequence[str],
    threads: int | None, budget: float | None, total: float | None, thorough: bool, missing: bool,
    force_noisy: bool, as_json: bool,
) -> int:  # fmt: skip
    """Time the candidates of problems and remember the fastest.

    The calls of a file are tuned both as plain calls and as prepared ones, whose kernel is packed
    beforehand. Interrupted, or out of time, it keeps what was finished.
    """
    if not (problems or from_log or wanted or suite):
        raise click.UsageError("expected a problem, --from-log, --wanted or --suite")
    _wisdom.be_patient()
    mode = "thorough" if thorough else "measure"
    seconds = budget or _settings.BUDGETS[mode]
    targets = _collect(problems, from_log, wanted, suite, threads)
    if missing:
        targets = [t for t in targets if not _is_known(t.problem, mode, seconds)]
    if targets:
        _cli_model.calibrate_once()
    deadline = _timer.Deadline(total)
    results: list[tuple[Target, Candidate, list[Candidate]]] = []
    ended = ""
    with Shown(len(targets), lines=True) as shown:
        try:
            for i, target in enumerate(targets):
                name = target.name or str(target.problem)
                if deadline.passed:
                    ended = f"the {total:g} s are over"
                    break
                model = _planner.candidates(target.problem)[0]
                found = _planner.tune(
                    target.problem, budget=min(seconds, deadline.left), mode=mode,
                    keep_doubted=force_noisy, progress=shown.part(i, name),
                )  # fmt: skip
                results.append((target, model, found))
                best = found[0]
                told = (
                    f"{best.method}, {time_text(best.seconds)}"
                    if best.source == "timed" else "nothing timed: raise --budget"
                )  # fmt: skip
                shown.done(i, f"{name}: {told}")
        except KeyboardInterrupt:  # wherever it comes, between two problems too
            ended = "interrupted"
    return _report_tuned(results, len(targets), ended, as_json)


def _is_known(problem: Problem, mode: str, seconds: float) -> bool:
    known = _wisdom.lookup(problem, _machine.this_machine())
    effort = _planner.EFFORTS[mode]
    return (
        known is not None and known.decision is not None and known.decision.serves(effort, seconds)
    )


def _report_tuned(
    results: Sequence[tuple[Target, Candidate, list[Candidate]]], total: int, ended: str,
    as_json: bool,
) -> int:  # fmt: skip
    timed = [found for _, _, found in results if found[0].source == "timed"]
    kept = {row.problem for row in _wisdom.rows(held=False)}
    unkept = [f for f in timed if str(f[0].problem) not in kept]
    harmful = [c for _, _, found in results for c in found if c.status in ("wrong", "crashed")]
    if as_json:
        print_json(
            [
                {
                    "name": target.name,
                    "problem": str(target.problem),
                    "kept": str(target.problem) in kept,
                    "timed": [as_dict(c) for c in found if c.source == "timed"],
                    "not timed": [as_dict(c) for c in found if c.source != "timed"],
                }
                for target, _, found in results
            ]
        )
    else:
        table = new_table("problem", "fastest", "config", "time:", "model's choice:", "timed:")
        for target, model, found in results:
            best, ours = found[0], [c for c in found if c.source == "timed"]
            of_model = [c for c in ours if (c.method, c.config) == (model.method, model.config)]
            table.add_row(
                target.name or str(target.problem),
                best.method if ours else "-",
                words(best.config) if ours else "nothing timed: raise --budget",
                time_text(best.seconds) if ours else "-",
                f"{of_model[0].seconds / best.seconds:.2f}x" if of_model else "-",
                f"{len(ours)} of {len([c for c in found if c.refused is None or c.status])}",
            )
        out().print(table)
        if len(timed) > len(unkept):
            out().print(f"remembered in {_wisdom.path()}", soft_wrap=True)
    if unkept and not _wisdom.writable():
        say(f"not kept: {_wisdom.path()} is no file that can be written")
    elif unkept:
        say(f"not kept: {len(unkept)}, for others wanted the machine (--force-noisy keeps them)")
    for c in harmful:
        say(f"{c.status}: {c.method} {words(c.config)}: {c.refused}, in {c.problem}")
    if ended:
        say(f"{ended}: {len(results)} of {total} problems are done{', and kept' * (not unkept)}")
        return PARTIAL
    if harmful or unkept:
        return FOUND
    return OK if len(timed) == len(results) else PARTIAL


# ---- record --------------------------------------------------------------------------------------


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Its exit code. Ctrl-C is the command's, and ends this one no sooner: it has rows to take."""
    with subprocess.Popen(command, env=environment) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


@click.command(
    short_help="Run a command and note the problems that it solves.",
    context_settings={"ignore_unknown_options": True},
)
@click.option(
    "--log",
    metavar="FILE",
    shell_complete=files,
    help="Write them there too, for `tune --from-log`.",
)
@db_option
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def record(command: Sequence[str], log: str | None, as_json: bool) -> int:
    """Run COMMAND in mode `record`, and list the problems that it solved, costliest first.

    Its own processes count, too. They are noted as wanted, for `tune --wanted`. Ctrl-C is left to
    the command; what it had solved until then counts.
    """
    with tempfile.TemporaryDirectory(prefix="fastconv-") as folder:
        given = {**os.environ, "FASTCONV_TUNE": "record", "FASTCONV_TUNE_SPOOL": folder}
        try:
            code = _run(command, given)
        except OSError as error:
            raise click.UsageError(f"{command[0]}: {error.strerror}") from None
        spooled = sorted(pathlib.Path(folder).glob("*.jsonl"))
        found: dict[tuple[Any, ...], Row] = {}
        for path in spooled:
            _wisdom.import_(path, imported=False)
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = _wisdom.parse_line(line)
                except ValueError:
                    continue  # the process was killed while it wrote
                key = (row.table, *row.place)
                found[key] = row.over(found[key]) if key in found else row
    if log is not None:
        with open(log, "w", encoding="utf-8") as stream:
            stream.writelines(_wisdom.line_of(row) for row in found.values())
    wanted = sorted(
        (row for row in found.values() if isinstance(row, Wanted)), key=lambda row: -row.seconds
    )
    if as_json:
        print_json([{"problem": w.problem, "hits": w.hits, "seconds": w.seconds} for w in wanted])
    else:
        table = new_table("problem", "calls:", "time:")
        for row in wanted:
            table.add_row(row.problem, str(row.hits), time_text(row.seconds))
        out().print(table)
    if code:
        say(f"{command[0]} ended with {code}")
    return FOUND if code else OK
