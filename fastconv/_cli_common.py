"""What the commands share: options, exit codes, reading problems, progress, showing candidates.

Exit codes of all: 0 ok, 1 a problem was found, 2 usage, 3 time was over with a part of it done.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.table import Table

from fastconv import _wisdom
from fastconv._planner import Candidate
from fastconv._problem import Problem

OK, FOUND, USAGE, PARTIAL = 0, 1, 2, 3

#: What `bench` may take when not told, in seconds.
_BUDGET = 2.0


def out() -> Console:
    """Standard output; tables are not squeezed when no terminal is there to be narrow."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console


def say(text: str) -> None:
    """A line for people, beside what standard output is for."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"expected a finite number, got {value}", context, parameter)
    return value


def _to_db(_: click.Context, __: click.Parameter, value: str | None) -> None:
    if value is not None:
        os.environ["FASTCONV_WISDOM"] = value


def files(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Lets the shell complete names of files, of an argument that may be something else, too."""
    return [CompletionItem(begun, type="file")]


db_option = click.option(
    "--db", metavar="FILE", callback=_to_db, expose_value=False, is_eager=True,
    shell_complete=files,
    help="The file of wisdom, in place of FASTCONV_WISDOM.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
budget_option = click.option(
    "--budget", type=click.FloatRange(min=0, min_open=True), default=_BUDGET, show_default=True,
    callback=finite, metavar="SECONDS", help="Time to spend on each problem, about.",
)  # fmt: skip


# Reading problems


@dataclasses.dataclass(frozen=True)
class Target:
    name: str
    problem: Problem


def read(text: str) -> list[Target]:
    """The problems that an argument means: one line of text, or the calls of a file."""
    match = re.fullmatch(r"(.*\.toml)(?::(.*))?", text)
    if match is None:
        return [Target("", Problem.parse(text))]
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
            Target(workload.name if i == 1 else f"{workload.name}#{i}", problem)
            for i, problem in enumerate(problems, 1)
        ]
    return found


# Progress


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
            say(f"{index + 1}/{self._total} {text}")


# Showing candidates


def time_text(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def memory(size: int) -> str:
    for scale, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"


def words(config: Any) -> str:
    return " ".join(f"{k}={v}" for k, v in config.items())


def as_dict(c: Candidate) -> dict[str, Any]:
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


def new_table(*headers: str) -> Table:
    """Words to the left, numbers (headers that end in ":") to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(
            header.rstrip(":"), justify="right" if header.endswith(":") else "left",
            overflow="fold", no_wrap=header.endswith(":"),
        )  # fmt: skip
    return table


def print_refused(console: Console, refused: Sequence[Candidate]) -> None:
    for c in refused:
        name = f"{c.method} {words(c.config)}".rstrip()
        console.print(f"refused  {name}: {c.refused}", soft_wrap=True)
