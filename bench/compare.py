"""Is this tree slower than another commit? Both timed on this machine, interleaved.

``python -m bench.compare --base main`` builds the base beside this tree (once a commit) and this
tree in place, times both by `bench.interleave` and prints a line for each row: milliseconds of both
and their ratio, above 1 where this tree is slower. Rows are those of tracked.py, or with ``--bench
REGEX`` all timed benchmarks of the suites whose name, parameters included, matches.

A row above the threshold is timed again in fresh processes, and counts only when it is above once
more. Where a process lies in memory decides over a tenth and more of some rows; so each look at a
row starts several pairs of processes, and takes the best of each side.

Exit status: 0 nothing is slower, 1 something is, 2 nothing could be said: a benchmark raised, or a
side has no times.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from . import builds, interleave, tracked
from .interleave import Row

#: Above this a row is slower; see docs/benchmarking.md for the comparisons of a commit with itself
#: that it comes from.
THRESHOLD = 1.25

#: Pairs of processes a look, and samples of each side in a pair.
PAIRS, ROUNDS = 4, 9

SIDES = ("base", "head")


class Verdict(NamedTuple):
    """Seconds of a call on each side, by row; rows that the base has not; what went wrong."""

    seconds: dict[Row, dict[str, float]]
    skipped: dict[Row, str]
    wrong: list[str]

    def slower(self, threshold: float) -> list[Row]:
        return [row for row in self.seconds if self.ratio(row) > threshold]

    def ratio(self, row: Row) -> float:
        base, head = (self.seconds[row][side] for side in SIDES)
        return head / base if base else (1.0 if head == base else math.inf)


Look = Callable[[Sequence[Row]], Verdict]


def look(trees: dict[str, pathlib.Path], rows: Sequence[Row], pairs: int = PAIRS) -> Verdict:
    """Time rows on both sides."""
    taken: dict[Row, dict[str, list[float]]] = {}
    skipped: dict[Row, str] = {}
    wrong: list[str] = []
    for number in range(pairs):
        sides = dict(reversed(trees.items())) if number % 2 else trees
        with interleave.workers(sides) as both:
            for row in rows:
                if row in skipped or (row.tracks and row in taken):
                    continue
                found = interleave.measure(both, row, ROUNDS, seed=number)
                wrong += [f"{row}, {side}: {why}" for side, why in found.failed.items()]
                if found.skipped:
                    skipped[row] = "; ".join(f"{s}: {w}" for s, w in found.skipped.items())
                for side, samples in found.samples.items():
                    best = taken.setdefault(row, {}).setdefault(side, [])
                    best.append(interleave.undisturbed(samples))
    seconds = {
        row: {side: min(values) for side, values in sides.items()}
        for row, sides in taken.items() if row not in skipped and len(sides) == len(SIDES)
    }  # fmt: skip
    return Verdict(seconds, skipped, wrong)


def judge(rows: Sequence[Row], look: Look, threshold: float) -> tuple[int, list[str]]:
    """(exit status, lines to print) after one look at all rows, and another at slow ones."""
    first = look(rows)
    wrong = [*first.wrong, *missing(rows, first)]
    lines = [line(row, first, threshold) for row in first.seconds]
    lines += [f"{'-':>10}{'-':>10}{'-':>8}  {row}: {why}" for row, why in first.skipped.items()]
    suspects = first.slower(threshold)
    slow: list[Row] = []
    if suspects:
        again = look(suspects)
        wrong += [*again.wrong, *missing(suspects, again)]
        lines += ["", "once more:", *(line(row, again, threshold) for row in again.seconds)]
        slow = again.slower(threshold)
    lines.append("")
    if wrong:
        return 2, [*lines, *wrong, "nothing can be said"]
    if slow:
        lines += [f"SLOWER: {row} takes {again.ratio(row):.2f} of the base's time" for row in slow]
        return 1, lines
    return 0, [*lines, f"{len(first.seconds)} rows, none slower by more than {threshold:g}"]


def missing(rows: Iterable[Row], verdict: Verdict) -> list[str]:
    """What keeps a verdict from being one: rows without times, or none with them."""
    known = [r for r in rows if r not in verdict.seconds and r not in verdict.skipped]
    lines = [f"{row}: a side has no times" for row in known]
    return lines if verdict.seconds else [*lines, "no row has times of both sides"]


def line(row: Row, verdict: Verdict, threshold: float) -> str:
    base, head = (verdict.seconds[row][side] for side in SIDES)
    unit = 1 if row.tracks else 1e3
    ratio = verdict.ratio(row)
    mark = "*" if ratio > threshold else " "
    return f"{base * unit:10.4g}{head * unit:10.4g}{ratio:8.3f}{mark} {row}"


def timed_rows(pattern: str) -> list[Row]:
    """All timed benchmarks of the suites whose names, parameters included, match."""
    from .suites import benchmarks

    return [
        row for row in benchmarks() if ".time_" in row.benchmark and re.search(pattern, str(row))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--base", default="main", metavar="COMMIT")
    parser.add_argument("--bench", metavar="REGEX", help="other rows than those of tracked.py")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="for the record")
    arguments = parser.parse_args()
    rows = timed_rows(arguments.bench) if arguments.bench else tracked.TRACKED
    trees = {"base": builds.tree(arguments.base), "head": builds.ROOT}
    builds.build(builds.ROOT)
    looks: list[Any] = []

    def both(some: Sequence[Row]) -> Verdict:
        verdict = look(trees, some, arguments.pairs)
        looks.append({str(row): seconds for row, seconds in verdict.seconds.items()})
        return verdict

    print(
        f"base {arguments.base}, {len(rows)} rows; ms or bytes of base and head, ratio", flush=True
    )
    status, lines = judge(rows, both, arguments.threshold)
    print("\n".join(lines))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"status": status, "looks": looks}, indent=1) + "\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
