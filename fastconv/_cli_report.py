"""``fastconv report``: what was tuned, as a page to look at, a table or JSON."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import click

from fastconv import _report
from fastconv._cli_common import db_option, json_option, new_table, out, print_json
from fastconv._report import Report, Tuned


@click.command(short_help="Show all that was tuned: a page of HTML, or a summary.")
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="Write one page that needs no other file and no network.")  # fmt: skip
@db_option
@json_option
def report(html: pathlib.Path | None, as_json: bool) -> None:
    """Show which method wins what, by how much, and what the cost model would have lost.

    The page has the machine's roofline with every tuned problem on it, a map of winners over kernel
    size and channels, and a table to sort and filter, with all trials.
    """
    found = _report.gather()
    if html is not None:
        html.write_text(_report.page(found), encoding="utf-8")
        if as_json:
            print_json({"file": str(html), "problems": len(found.problems)})
        else:
            out().print(f"{html}, problems: {len(found.problems)}", soft_wrap=True)
    elif as_json:
        print_json(dataclasses.asdict(found))
    else:
        _print_summary(found)


def _print_summary(found: Report) -> None:
    console = out()
    console.print(f"{found.path}, problems: {len(found.problems)}", soft_wrap=True)
    if not found.problems:
        console.print("nothing is tuned yet: fastconv tune --suite resnet50, for one")
    for i, machine in enumerate(found.machines):
        own = [p for p in found.problems if p.machine == i]
        console.print(f"\n{machine.name}{', here' if machine.here else ''}", soft_wrap=True)
        table = new_table("method", "wins:", "margin:", "model's regret:")
        for method in sorted({p.method for p in own}, key=lambda m: -_wins(own, m)):
            won = [p for p in own if p.method == method]
            margins = [p.margin for p in won if p.margin]
            lost = _report.regret(won)
            table.add_row(
                method, str(len(won)), f"{_mean(margins):.2f}x" if margins else "-",
                f"{lost.mean:.3f}" if lost else "-",
            )  # fmt: skip
        console.print(table)
        regret = _report.regret(own)
        if regret is not None:
            worst = max(own, key=lambda p: p.regret)
            console.print(
                f"regret of the model: mean {regret.mean:.3f}, p95 {regret.p95:.2f}, worst"
                f" {regret.worst:.2f}, of {regret.count}; worst of all: {worst.text}",
                soft_wrap=True,
            )
    if found.unused:
        console.print(f"of other versions, not shown: {found.unused}")


def _wins(problems: Sequence[Tuned], method: str) -> int:
    return sum(p.method == method for p in problems)


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
