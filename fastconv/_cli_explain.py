"""``fastconv explain``, ``verify``, ``compare``: why a candidate is chosen, and if that holds."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import click

from fastconv import _machine, _planner, _tuner, _wisdom
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
    memory,
    new_table,
    out,
    print_json,
    print_refused,
    read,
    say,
    time_text,
    words,
)
from fastconv._environment import text_of
from fastconv._planner import Candidate
from fastconv._problem import ACCURACIES, Problem
from fastconv._rows import Decision
from fastconv._store import Store

#: Regret above which `verify` says that a decision does not hold any more.
_TOLERANCE = 0.10


@click.command(short_help="Show what would be chosen and why, and all that was tried.")
@click.argument("problem", metavar="PROBLEM|FILE.toml[:NAME]", shell_complete=files)
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
                say(f"interrupted: {len(found)} of {len(chosen)} were verified")
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
                    say(f"{path}, line {number}: {error}")
                    continue
                if isinstance(row, Decision):
                    rows.append(row)
    return _by_key(rows)


def _by_key(rows: Sequence[Decision]) -> dict[tuple[str, str], Decision]:
    return {(row.environment, row.problem): row for row in rows}


@click.command(short_help="Compare the winners of two files, or of one and wisdom's own.")
@click.argument("a", type=click.Path(exists=True, dir_okay=False))
@click.argument("b", type=click.Path(exists=True, dir_okay=False), required=False)
@db_option
@json_option
def compare(a: str, b: str | None, as_json: bool) -> int:
    """Compare the decisions of files A and B, databases or exports; 1 where a winner changed.

    Without B, those of A and of wisdom's own file.
    """
    one = _decisions_of(a)
    two = _by_key(_wisdom.rows()) if b is None else _decisions_of(b)
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
