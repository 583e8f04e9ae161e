"""Commands of the autotuner: record, tune, explain, verify, compare, and the care of wisdom.

Exit codes of all: 0 ok, 1 a problem was found, 2 usage, 3 time was over with a part of it done.
"""

from __future__ import annotations

import fnmatch
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip

from fastconv import (
    _cli_model,
    _environment,
    _machine,
    _planner,
    _settings,
    _suites,
    _timer,
    _tuner,
    _wisdom,
)
from fastconv._cli_common import (
    Target,
    as_dict,
    db_option,
    finite,
    json_option,
    memory,
    new_table,
    out,
    print_json,
    print_refused,
    read,
    time_text,
    words,
)  # fmt: skip
from fastconv._environment import text_of
from fastconv._planner import Candidate
from fastconv._problem import ACCURACIES, Problem
from fastconv._rows import Decision, Environment, Pin, Quarantine, Row, Trial, Wanted
from fastconv._store import Store, why_untrusted

OK, FOUND, USAGE, PARTIAL = 0, 1, 2, 3

#: Regret above which `verify` says that a decision does not hold any more.
_TOLERANCE = 0.10


def _say(text: str) -> None:
    """A line for people, beside what standard output is for."""
    print(text, file=sys.stderr)


class Shown:
    """Progress on standard error: a bar with the time left, or a line a problem if no terminal."""

    def __init__(self, total: int, lines: bool = False) -> None:
        self._console = Console(stderr=True)
        self._total = total
        self._lines = lines and not self._console.is_terminal
        self._bar = Progress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
            TimeRemainingColumn(), TextColumn("{task.description}", markup=False),
            console=self._console, transient=True, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Shown:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def part(self, index: int, name: str) -> _wisdom.Progress:
        """What a task tells its progress to."""

        def report(done: float, text: str) -> None:
            self._bar.update(self._task, completed=index + done, description=f"{name}: {text}")

        return report

    def done(self, index: int, text: str) -> None:
        """A problem is finished."""
        self._bar.update(self._task, completed=index + 1)
        if self._lines:
            _say(f"{index + 1}/{self._total} {text}")


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
                _say(f"{path}, line {number}: {error}")
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
@click.argument("problems", nargs=-1, metavar="[PROBLEM|FILE.toml[:NAME]]...")
@click.option("--from-log", multiple=True, metavar="FILE",
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
        for i, target in enumerate(targets):
            name = target.name or str(target.problem)
            if deadline.passed:
                ended = f"the {total:g} s are over"
                break
            try:
                model = _planner.candidates(target.problem)[0]
                found = _planner.tune(
                    target.problem, budget=min(seconds, deadline.left), mode=mode,
                    keep_doubted=force_noisy, progress=shown.part(i, name),
                )  # fmt: skip
            except KeyboardInterrupt:
                ended = "interrupted"
                break
            results.append((target, model, found))
            best = found[0]
            told = (
                f"{best.method}, {time_text(best.seconds)}"
                if best.source == "timed" else "nothing timed: raise --budget"
            )  # fmt: skip
            shown.done(i, f"{name}: {told}")
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
        _say(f"not kept: {_wisdom.path()} is no file that can be written")
    elif unkept:
        _say(f"not kept: {len(unkept)}, for others wanted the machine (--force-noisy keeps them)")
    for c in harmful:
        _say(f"{c.status}: {c.method} {words(c.config)}: {c.refused}, in {c.problem}")
    if ended:
        _say(f"{ended}: {len(results)} of {total} problems are done, and kept")
        return PARTIAL
    if harmful or unkept:
        return FOUND
    return OK if len(timed) == len(results) else PARTIAL


# ---- record --------------------------------------------------------------------------------------


@click.command(
    short_help="Run a command and note the problems that it solves.",
    context_settings={"ignore_unknown_options": True},
)
@click.option("--log", metavar="FILE", help="Write them there too, for `tune --from-log`.")
@db_option
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def record(command: Sequence[str], log: str | None, as_json: bool) -> int:
    """Run COMMAND in mode `record`, and list the problems that it solved, costliest first.

    Its own processes count, too. They are noted as wanted, for `tune --wanted`.
    """
    with tempfile.TemporaryDirectory(prefix="fastconv-") as folder:
        given = {**os.environ, "FASTCONV_TUNE": "record", "FASTCONV_TUNE_SPOOL": folder}
        try:
            code = subprocess.run(command, env=given, check=False).returncode
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
        _say(f"{command[0]} ended with {code}")
    return FOUND if code else OK


# ---- explain -------------------------------------------------------------------------------------


@click.command(short_help="Show what would be chosen and why, and all that was tried.")
@click.argument("problem", metavar="PROBLEM|FILE.toml[:NAME]")
@db_option
@json_option
def explain(problem: str, as_json: bool) -> None:
    """Show what would be chosen, by whose word, what each method would cost, and what each took.

    Of several calls of a file only the choices.
    """
    targets = read(problem)
    if as_json:
        print_json([_explained(t) for t in targets])
        return
    if len(targets) > 1:
        table = new_table("name", "method", "config", "time:", "why")
        for target in targets:
            choice = _planner.choose(target.problem)
            c = choice.candidate
            reason = choice.reason.partition(":")[0]
            table.add_row(target.name, c.method, words(c.config), time_text(c.seconds), reason)
        out().print(table)
        return
    for target in targets:
        _print_explained(target)


def _layer(problem: Problem, reason: str) -> str:
    known = _wisdom.lookup(problem, _machine.this_machine())
    if reason.startswith("wisdom") and known is not None:
        return known.layer
    return reason.partition(":")[0]


def _other_accuracies(problem: Problem) -> dict[str, str]:
    found = {}
    for accuracy in ACCURACIES:
        c = _planner.choose(problem.replace(accuracy=accuracy)).candidate
        found[accuracy] = f"{c.method} {words(c.config)}".rstrip() + f": {time_text(c.seconds)}"
    return found


def _explained(target: Target) -> dict[str, Any]:
    problem, machine = target.problem, _machine.this_machine()
    choice = _planner.choose(problem)
    found = _planner.candidates(problem)
    known = _wisdom.lookup(problem, machine)
    return {
        "name": target.name,
        "problem": str(problem),
        "environment": _wisdom.environment_of(problem, machine),
        "chosen": as_dict(choice.candidate),
        "reason": choice.reason,
        "layer": _layer(problem, choice.reason),
        "decision": vars(known.decision) if known is not None else None,
        "candidates": [as_dict(c) for c in found if c.refused is None],
        "refused": [as_dict(c) for c in found if c.refused is not None],
        "trials": [vars(t) for t in _wisdom.trials(problem, machine)],
        "by accuracy": _other_accuracies(problem),
    }


def _print_explained(target: Target) -> None:
    problem, machine = target.problem, _machine.this_machine()
    choice, found = _planner.choose(problem), _planner.candidates(problem)
    known, trials = _wisdom.lookup(problem, machine), _wisdom.trials(problem, machine)
    console = out()

    def say(name: str, value: object) -> None:
        console.print(f"{name:8} {value}", soft_wrap=True)

    if target.name:
        console.print(target.name, soft_wrap=True)
    console.print(str(problem), soft_wrap=True)
    say("chosen", choice.reason)
    say("paper", choice.plan.solver.paper)
    say("said by", _layer(problem, choice.reason))
    say("here", _wisdom.environment_of(problem, machine))
    if known is not None and known.decision is not None:
        d = known.decision
        say("margin", f"{d.margin:.2f}x before {d.runner_up}" if d.runner_up else "no rival")
        say("noise", f"{d.noise:.1%}, pressure {d.pressure:.0%}, {d.samples} samples")
        say("effort", f"{d.effort} of 3, {'complete' if d.complete else 'cut short'}, {d.created}")
    console.print()
    measured = {(t.solver, tuple(sorted(t.config.items()))): t for t in trials}
    chosen = (choice.candidate.method, dict(choice.candidate.config))
    table = new_table("", "method", "config", "estimate:", "measured:", "trial", "workspace:",
                      "error bound:")  # fmt: skip
    legal = [c for c in found if c.refused is None]

    def measured_first(c: Candidate) -> tuple[bool, float]:
        t = measured.get((c.method, tuple(sorted(c.config.items()))))
        return (t is None or not t.seconds, t.seconds if t is not None else 0.0)

    for c in sorted(legal, key=measured_first):
        t = measured.get((c.method, tuple(sorted(c.config.items()))))
        table.add_row(
            "->" if (c.method, dict(c.config)) == chosen else "", c.method, words(c.config),
            time_text(c.seconds), time_text(t.seconds) if t is not None and t.seconds else "",
            t.status if t is not None else "", memory(c.workspace_bytes), f"{c.error_bound:.2g}",
        )  # fmt: skip
    console.print(table)
    print_refused(console, [c for c in found if c.refused is not None])
    for t in trials:
        if t.note:
            console.print(f"{t.status:8} {t.solver} {words(t.config)}: {t.note}", soft_wrap=True)
    console.print()
    for accuracy, told in _other_accuracies(problem).items():
        say(accuracy, told)


# ---- verify, compare -----------------------------------------------------------------------------


@click.command(short_help="Time remembered winners and their rivals again.")
@click.option("--sample", type=click.IntRange(min=1), help="So many, spread over the file.")
@click.option("--tolerance", type=click.FloatRange(min=0), default=_TOLERANCE, show_default=True,
              callback=finite, help="Regret that is still accepted.")  # fmt: skip
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), default=1.0,
              show_default=True, callback=finite, metavar="SECONDS")  # fmt: skip
@db_option
@json_option
def verify(sample: int | None, tolerance: float, budget: float, as_json: bool) -> int:
    """Time each remembered winner beside the three that came next; 1 if any has a better rival.

    Decisions of all layers count that are in force on this machine.
    """
    machine = _machine.this_machine()
    texts = {
        row.problem: None for store in _wisdom.layers() for row in store.rows(Decision)
        if row.stale is None
        and row.environment == _wisdom.environment_of(Problem.parse(row.problem), machine)
    }  # fmt: skip
    chosen = list(texts)
    if sample is not None and sample < len(chosen):
        chosen = [chosen[i * len(chosen) // sample] for i in range(sample)]
    found: list[dict[str, Any]] = []
    with Shown(len(chosen), lines=True) as shown:
        for i, text in enumerate(chosen):
            try:
                result = _verified(Problem.parse(text), machine, budget, shown.part(i, text))
            except KeyboardInterrupt:
                _say(f"interrupted: {len(found)} of {len(chosen)} were verified")
                break
            found.append(result)
            shown.done(i, f"{text}: {result['regret']:.2f}x")
    bad = [f for f in found if not f["regret"] <= 1 + tolerance]
    if as_json:
        print_json(found)
    else:
        table = new_table("problem", "winner", "before:", "now:", "fastest now", "regret:")
        for f in found:
            table.add_row(
                f["problem"], f["winner"], time_text(f["before"]),
                time_text(f["now"]) if f["now"] else "-", f["best"], f"{f['regret']:.2f}x",
            )  # fmt: skip
        out().print(table)
        regrets = [f["regret"] for f in found if math.isfinite(f["regret"])]
        if regrets:
            mean = math.exp(sum(map(math.log, regrets)) / len(regrets))
            out().print(f"regret: mean {mean:.3f}, worst {max(regrets):.2f}, of {len(regrets)}")
    if len(found) < len(chosen):
        return PARTIAL
    return FOUND if bad else OK


def _verified(
    problem: Problem, machine: Any, budget: float, progress: _wisdom.Progress
) -> dict[str, Any]:
    known = _wisdom.lookup(problem, machine)
    assert known is not None
    names = [(known.method, dict(known.config))]
    names += [(t.solver, dict(t.config)) for t in _wisdom.trials(problem, machine) if t.seconds]
    first = list({text_of(n): n for n in names}.values())[:4]
    found = [c for c in _planner.candidates(problem) if (c.method, dict(c.config)) in first]
    race = _tuner.race(found, machine, budget, progress, incumbent=names[0])
    timed = {text_of((c.method, dict(c.config))): c for c in race if c.source == "timed"}
    now = timed.get(text_of(names[0]))
    best = race[0] if len(race) else None
    return {
        "problem": str(problem),
        "winner": f"{known.method} {words(known.config)}".rstrip(),
        "before": known.seconds,
        "now": now.seconds if now is not None else 0.0,
        "best": f"{best.method} {words(best.config)}".rstrip() if best is not None else "",
        "regret": now.seconds / best.seconds if now and best and best.seconds else math.inf,
    }


def _decisions_of(path: str) -> dict[tuple[str, str], Decision]:
    if path.endswith(".db"):
        with open(path, "rb"):
            pass
        rows = Store(pathlib.Path(path), read_only=True).rows(Decision)
    else:
        rows = []
        with open(path, encoding="utf-8", errors="replace") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    row = _wisdom.parse_line(line)
                except ValueError as error:
                    _say(f"{path}, line {number}: {error}")
                    continue
                if isinstance(row, Decision):
                    rows.append(row)
    return {(row.environment, row.problem): row for row in rows}


@click.command(short_help="Compare the winners of two files.")
@click.argument("a", type=click.Path(exists=True, dir_okay=False))
@click.argument("b", type=click.Path(exists=True, dir_okay=False))
@json_option
def compare(a: str, b: str, as_json: bool) -> int:
    """Compare the decisions of two files, databases or exports; 1 where a winner changed."""
    one, two = _decisions_of(a), _decisions_of(b)
    both = sorted(one.keys() & two.keys())

    def name(row: Decision) -> str:
        return f"{row.solver} {words(row.config)}".rstrip()

    changed = [key for key in both if name(one[key]) != name(two[key])]
    sides = {
        "only in a": sorted(key[1] for key in one.keys() - two.keys()),
        "only in b": sorted(key[1] for key in two.keys() - one.keys()),
    }
    rows = [
        (key[1], name(one[key]), name(two[key]), two[key].seconds / one[key].seconds)
        for key in changed
    ]
    if as_json:
        told = [dict(zip(("problem", "a", "b", "ratio"), row)) for row in rows]
        print_json({**sides, "same winner": len(both) - len(changed), "changed": told})
        return FOUND if changed else OK
    for side, texts in sides.items():
        for text in texts:
            out().print(f"{side}  {text}", soft_wrap=True)
    table = new_table("problem", "a", "b", "b / a:")
    for problem, before, after, ratio in rows:
        table.add_row(problem, before, after, f"{ratio:.2f}")
    if rows:
        out().print(table)
    out().print(f"same winner: {len(both) - len(changed)}, changed: {len(changed)}")
    return FOUND if changed else OK


# ---- the files -----------------------------------------------------------------------------------


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
        _say(f"rows written: {count}")


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
        _say(f"{_wisdom.path()} could not be written")
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
        _say(f"{_wisdom.path()} could not be written")
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
            _say(f"{_wisdom.path()} could not be emptied")
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


# ---- info, doctor --------------------------------------------------------------------------------


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

COMMANDS = (
    info, tune, record, explain, verify, compare, wisdom, export, import_, merge, pin, unpin,
    forget, gc, doctor,
)  # fmt: skip
