"""The ``fastconv`` command."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fastconv import (
    _cli_model,
    _environment,
    _machine,
    _planner,
    _settings,
    _timer,
    _tuner,
    _wisdom,
)
from fastconv._planner import Candidate
from fastconv._problem import Problem
from fastconv._rows import Environment

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

#: What `bench` and `tune` may take when not told, in seconds.
_BUDGET = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 when something could not be done, 2 on bad input."""
    try:
        result = app.main(
            None if argv is None else list(argv), prog_name="fastconv", standalone_mode=False
        )
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        return _refuse(error.format_message())
    except OSError as error:
        what = error.strerror or str(error)
        return _refuse(f"{error.filename}: {what}" if error.filename else what)
    except (ValueError, TypeError, ImportError, MemoryError, OverflowError) as error:
        return _refuse(str(error) or type(error).__name__)
    return result if isinstance(result, int) else 0


def _refuse(message: str) -> int:
    print("fastconv:", " ".join(message.split()), file=sys.stderr)
    return 2


def _console() -> Console:
    """Standard output; tables are not squeezed when no terminal is there to be narrow."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"expected a finite number, got {value}", context, parameter)
    return value


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
_budget_option = click.option(
    "--budget", type=click.FloatRange(min=0, min_open=True), default=_BUDGET, show_default=True,
    callback=_finite, metavar="SECONDS", help="Time to spend on each problem, about.",
)  # fmt: skip


@click.group(context_settings=_SETTINGS, invoke_without_command=True)
@click.version_option(package_name="fastconv")
@click.pass_context
def app(context: click.Context) -> None:
    """Convolutions by the fastest algorithm for each shape, remembered.

    PROBLEM is one line of text, the same everywhere in fastconv:

    \b
      "conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1"
       conv2d         dimensions: conv1d to conv8d
       f32            dtype: f16 bf16 f32 f64 c64 c128 i8 to i64 u8 to u64 bool
       n1 c64         batch, channels             k64     filters
       h56 w56        size (d h w in 3-D)         r3 s3   kernel (t r s in 3-D)
       p1 u2 l2 e2    padding, stride, dilation, input dilation; p0:1,2 a side and axis
       g8             groups                      flip    convolution, not correlation
       reflect mirror nearest wrap constant=1     what lies beyond the ends, else zeros
       strict fast    accuracy, else balanced     threads2 prepared "N*C"

    FILE.toml lists calls in [[conv]], [[signal]] and [[image]] tables; FILE.toml:NAME is one of
    them.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_cli_model.register(app)


# Reading problems


@dataclasses.dataclass(frozen=True)
class _Target:
    name: str
    problem: Problem


def _targets(text: str) -> list[_Target]:
    """The problems that an argument means: one line of text, or the calls of a file."""
    match = re.fullmatch(r"(.*\.toml)(?::(.*))?", text)
    if match is None:
        return [_Target("", Problem.parse(text))]
    from fastconv import _workloads

    path, name = match.groups()
    workloads = _workloads.load(path)
    if name is not None:
        workloads = [w for w in workloads if w.name == name]
        if not workloads:
            raise ValueError(f"{path} has no call named {name!r}")
    found = []
    for workload in workloads:
        try:
            problems = workload.problems()
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {workload.name}: {error}") from None
        found += [
            _Target(workload.name if i == 1 else f"{workload.name}#{i}", problem)
            for i, problem in enumerate(problems, 1)
        ]
    return found


# Showing candidates


def _time(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _memory(size: int) -> str:
    for scale, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"


def _words(config: Any) -> str:
    return " ".join(f"{k}={v}" for k, v in config.items())


def _as_dict(c: Candidate) -> dict[str, Any]:
    found: dict[str, Any] = {"method": c.method, "config": dict(c.config)}
    if c.refused is not None:
        return {**found, "refused": c.refused}
    return {
        **found,
        "seconds": c.seconds,
        "source": c.source,
        "workspace_bytes": c.workspace_bytes,
        "error_bound": c.error_bound,
    }


def _table(*headers: str) -> Table:
    """Words to the left, numbers (headers that end in ":") to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(
            header.rstrip(":"), justify="right" if header.endswith(":") else "left",
            overflow="fold", no_wrap=header.endswith(":"),
        )  # fmt: skip
    return table


def _print_refused(console: Console, refused: Sequence[Candidate]) -> None:
    for c in refused:
        name = f"{c.method} {_words(c.config)}".rstrip()
        console.print(f"refused  {name}: {c.refused}", soft_wrap=True)


# Commands


@app.command(short_help="Show versions, instruction set, caches, BLAS, GPU and wisdom.")
@_json_option
def info(as_json: bool) -> None:
    """Show versions, instruction set, caches, BLAS, GPU, wisdom and tuning mode."""
    rows = _wisdom.rows()
    environment = _environment.environment(_machine.this_machine())
    settings = _settings.current()
    found: dict[str, Any] = {
        **_machine.info(),
        "wisdom": {
            "path": _wisdom.path(),
            "rows": len(rows),
            "of this machine": sum(r.environment == environment for r in rows),
            "writable": _wisdom.writable(),
        },
        "environment": {"id": environment, **_environment.identity(_machine.this_machine())},
        "provenance": _environment.provenance(),
        "tuning": settings.mode,
        "tuning set by": settings.origin,
    }
    if as_json:
        _print_json(found)
        return
    table = _table("", "")
    for name, value in found.items():
        values = value if isinstance(value, list) else [value]
        for i, each in enumerate(values):
            if isinstance(each, dict):
                each = ", ".join(
                    f"{k} {' '.join(v) if isinstance(v, list) else v}" for k, v in each.items()
                )
            table.add_row(name if i == 0 else "", str(each))
    _console().print(table)


@app.command(short_help="Do real work, checked against SciPy and timed beside it.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=pathlib.Path), metavar="DIR",
    default=pathlib.Path("fastconv-demo"), show_default=True,
    help="Folder to write the pictures to.",
)  # fmt: skip
def demo(out: pathlib.Path) -> int:
    """Filter a photograph, reverberate a minute of sound, run two networks, add a thousand dice.

    Every result is checked against SciPy and timed beside it.
    """
    from fastconv import _demo

    return _demo.main(out)


@app.command(short_help="Show what would be chosen and why.")
@click.argument("problem", metavar="PROBLEM|FILE.toml[:NAME]")
@_json_option
def plan(problem: str, as_json: bool) -> None:
    """Show what would be chosen, why, and what each other method would cost."""
    targets = _targets(problem)
    plans = []
    for target in targets:
        choice = _planner.choose(target.problem)
        plans.append((target, choice, _planner.candidates(target.problem)))
    if as_json:
        _print_json(
            [
                {
                    "name": target.name,
                    "problem": str(target.problem),
                    "chosen": _as_dict(choice.candidate),
                    "reason": choice.reason,
                    "candidates": [_as_dict(c) for c in found if c.refused is None],
                    "refused": [_as_dict(c) for c in found if c.refused is not None],
                }
                for target, choice, found in plans
            ]
        )
        return
    console = _console()
    if len(plans) > 1:
        table = _table("name", "method", "config", "time:", "why")
        for target, choice, _ in plans:
            c = choice.candidate
            reason = choice.reason.partition(":")[0]
            table.add_row(target.name, c.method, _words(c.config), _time(c.seconds), reason)
        console.print(table)
        return
    for target, choice, found in plans:
        if target.name:
            console.print(target.name, soft_wrap=True)
        console.print(str(target.problem), soft_wrap=True)
        console.print(f"chosen   {choice.reason}", soft_wrap=True)
        console.print(f"paper    {choice.plan.solver.paper}", soft_wrap=True)
        console.print()
        table = _table("", "method", "config", "estimate:", "workspace:", "error bound:")
        chosen = (choice.candidate.method, dict(choice.candidate.config))
        for c in found:
            if c.refused is None:
                table.add_row(
                    "->" if (c.method, dict(c.config)) == chosen else "", c.method,
                    _words(c.config), _time(c.seconds), _memory(c.workspace_bytes),
                    f"{c.error_bound:.2g}",
                )  # fmt: skip
        console.print(table)
        _print_refused(console, [c for c in found if c.refused is not None])


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on standard error, absent where that is no terminal; yields a maker of callbacks."""
    console = Console(stderr=True)
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=total)

        def part(index: int, name: str) -> _wisdom.Progress:
            def report(done: float, text: str) -> None:
                progress.update(task, completed=index + done, description=f"{name}: {text}")

            return report

        yield part


@app.command(short_help="Time the candidates and remember the fastest.")
@click.argument("problem", metavar="PROBLEM|FILE.toml[:NAME]")
@_budget_option
@_json_option
def tune(problem: str, budget: float, as_json: bool) -> None:
    """Time the candidates of a problem, or of a file's calls, and remember the fastest.

    The calls of a file are tuned both as plain calls and as prepared ones, whose kernel is packed
    beforehand; they share the budget.
    """
    targets = _targets(problem)
    if targets and targets[0].name:
        targets = [
            _Target(f"{t.name}{' prepared' * p}", t.problem.replace(prepared=p))
            for t in targets
            for p in (False, True)
        ]
        budget /= 2
    _cli_model.calibrate_once()
    results: list[tuple[_Target, Candidate, list[Candidate]]] = []
    with _progress(len(targets)) as part:
        for i, target in enumerate(targets):
            model = _planner.candidates(target.problem)[0]
            found = _planner.tune(
                target.problem, budget=budget,
                progress=part(i, target.name or str(target.problem)),
            )  # fmt: skip
            results.append((target, model, found))
    if as_json:
        _print_json(
            [
                {
                    "name": target.name,
                    "problem": str(target.problem),
                    "timed": [_as_dict(c) for c in found if c.source == "timed"],
                    "not timed": [_as_dict(c) for c in found if c.source != "timed"],
                }
                for target, _, found in results
            ]
        )
        return
    console = _console()
    table = _table("problem", "fastest", "config", "time:", "model's choice:", "timed:")
    for target, model, found in results:
        best, timed = found[0], [c for c in found if c.source == "timed"]
        of_model = [c for c in timed if (c.method, c.config) == (model.method, model.config)]
        table.add_row(
            target.name or str(target.problem),
            best.method if timed else "-",
            _words(best.config) if timed else "nothing timed: raise --budget",
            _time(best.seconds) if timed else "-",
            f"{of_model[0].seconds / best.seconds:.2f}x" if of_model else "-",
            f"{len(timed)} of {len([c for c in found if c.refused is None])}",
        )
    console.print(table)
    if any(found[0].source == "timed" for _, _, found in results):
        where = _wisdom.path()
        kept = (
            f"remembered in {where}" if _wisdom.writable() else f"not kept: {where} is not a file"
        )
        console.print(kept, soft_wrap=True)


@app.command(short_help="Time every candidate and show a table.")
@click.argument("problem", metavar="PROBLEM|FILE.toml:NAME")
@_budget_option
@_json_option
def bench(problem: str, budget: float, as_json: bool) -> None:
    """Time every candidate, interleaved, and show them all; nothing is remembered."""
    machine = _machine.this_machine()
    targets = _targets(problem)
    results = []
    with _progress(len(targets)) as part:
        for i, target in enumerate(targets):
            report = part(i, target.name or str(target.problem))
            found = _planner.candidates(target.problem)
            results.append((target, _tuner.bench(found, machine, budget, report)))
    if as_json:
        _print_json(
            [
                {
                    "name": target.name,
                    "problem": str(target.problem),
                    "flops": target.problem.flops,
                    "candidates": [
                        {**_as_dict(c), **({} if t is None else dataclasses.asdict(t))}
                        for c, t in timed
                    ],
                }
                for target, timed in results
            ]
        )
        return
    console = _console()
    for target, timed in results:
        console.print(f"{target.name}  {target.problem}".strip(), soft_wrap=True)
        console.print(_bench_table(target.problem, timed))
        _print_refused(console, [c for c, _ in timed if c.refused is not None])


def _bench_table(
    problem: Problem, found: Sequence[tuple[Candidate, _timer.Timing | None]]
) -> Table:
    """Lower quartile of each candidate, and how far the upper one is from it."""
    table = _table("method", "config", "time:", "spread:", "vs best:", "GFLOP/s:")
    best = next((t.seconds for _, t in found if t is not None), 1.0)
    for c, t in found:
        if t is not None:
            spread = f"{100 * (t.upper / max(t.seconds, 1e-9) - 1):.0f} %"
            table.add_row(
                c.method, _words(c.config), _time(t.seconds), spread,
                f"{t.seconds / max(best, 1e-9):.2f}x",
                f"{problem.flops / max(t.seconds, 1e-9) * 1e-9:.3g}",
            )  # fmt: skip
        elif c.refused is None:
            estimate = f"({_time(c.seconds)})"
            table.add_row(c.method, _words(c.config), estimate, "", "not timed", "")
    return table


@app.group(invoke_without_command=True)
@click.pass_context
def wisdom(context: click.Context) -> None:
    """Show, save, load or forget what tuning has found."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@wisdom.command()
@_json_option
def show(as_json: bool) -> None:
    """List what is remembered, of all machines."""
    rows = _wisdom.rows()
    if as_json:
        stale = [{**vars(row), "stale": row.stale} for row in rows]
        _print_json({"path": _wisdom.path(), "rows": stale})
        return
    console = _console()
    console.print(f"{_wisdom.path()}, rows: {len(rows)}", soft_wrap=True)
    here = _environment.environment(_machine.this_machine())
    machines = {e.id: str(e.identity.get("machine")) for e in _wisdom.rows(Environment)}
    table = _table("problem", "solver", "config", "time:", "how", "created", "machine")
    for row in rows:
        known = machines.get(row.environment, row.environment)
        machine = "this" if row.environment == here else known
        table.add_row(
            row.problem, row.solver, _words(row.config), _time(row.seconds),
            row.how if row.stale is None else f"unused: {row.stale}", row.created, machine,
        )  # fmt: skip
    if rows:
        console.print(table)


@wisdom.command("export")
@click.argument("file", type=click.Path(allow_dash=True))
def export_wisdom(file: str) -> None:
    """Write all rows to FILE ("-": standard output) as lines of JSON."""
    count = _wisdom.export(sys.stdout if file == "-" else file)
    print(f"rows written: {count}", file=sys.stderr)


@wisdom.command("import", short_help="Take the rows of FILE that `wisdom export` wrote.")
@click.argument("file", type=click.Path(allow_dash=True))
@_json_option
def import_wisdom(file: str, as_json: bool) -> None:
    """Take the rows of FILE ("-": standard input) that `wisdom export` wrote.

    Rows serve machines equal to the one they were timed on, and never replace rows timed here.
    Lines that are not valid rows are skipped.
    """
    done = _wisdom.import_(sys.stdin if file == "-" else file)
    if as_json:
        skipped = [{"line": line, "reason": reason} for line, reason in done.skipped]
        _print_json({"accepted": done.accepted, "skipped": skipped})
        return
    print(f"rows taken: {done.accepted}, lines skipped: {len(done.skipped)}")
    for line, reason in done.skipped:
        print(f"line {line}: {reason}")


@wisdom.command("clear")
def clear_wisdom() -> int:
    """Forget everything, of all machines."""
    count = len(_wisdom.rows())
    if not _wisdom.clear():
        print(f"fastconv: {_wisdom.path()} could not be emptied", file=sys.stderr)
        return 1
    print(f"rows forgotten: {count}")
    return 0
