"""Does every benchmark run? ``python -m bench.smoke``

Each runs once with every value of every parameter, in a combination that it does not skip: all
shapes and all methods, but not all methods on all shapes, which is what ``make bench`` takes its
time for. A module's BUDGET, the seconds that it times a figure for, is none here, and nothing is
stored. A module is a process, and so is each instruction set, which a process knows one of; there
are as many at once as there are cores, and what runs on one core has another in each.

Exit status 1 when a benchmark raises, or when no combination of a value runs and none says why.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import queue
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import common, suites

#: Parameters that a process can have one value of.
ALONE = ("isa",)


def once(cls: type, method: str, params: tuple[Any, ...]) -> None:
    suite: Any = cls()
    if hasattr(suite, "setup"):
        suite.setup(*params)
    result = getattr(suite, method)(*params)
    if method.startswith("timeraw_"):
        subprocess.run([sys.executable, "-c", result], check=True)
    elif method.startswith("track_"):
        float(result)


def cover(name: str, cls: Any, method: str, alone: str) -> tuple[int, list[str], list[str]]:
    """(runs, values that were skipped and why, failures)."""
    axes = suites.axes(cls)
    names = list(getattr(cls, "param_names", ()))
    if any(n in ALONE for n in names):
        if not alone:
            return 0, [], []
        at = next(i for i, n in enumerate(names) if n in ALONE)
        axes[at] = [v for v in axes[at] if v == alone]
    elif alone:
        return 0, [], []
    covered: list[set[Any]] = [set() for _ in axes]
    reasons: dict[tuple[int, Any], collections.Counter[str]] = {}
    failures: list[str] = []
    runs = 0
    for params in itertools.product(*axes) if axes else [()]:
        if axes and all(value in done for value, done in zip(params, covered)):
            continue
        try:
            once(cls, method, params)
        except NotImplementedError as why:
            for i, value in enumerate(params):
                reasons.setdefault((i, value), collections.Counter())[str(why)] += 1
            continue
        except Exception:  # whatever it is: it is printed, and the run fails
            failures.append(f"{name}{params}:\n{traceback.format_exc()}")
        runs += 1
        for value, done in zip(params, covered):
            done.add(value)
    skipped = []
    for i, (values, done) in enumerate(zip(axes, covered)):
        for value in values:
            if value not in done:
                (why, _), *_ = reasons[i, value].most_common(1)
                skipped.append(f"{names[i]}={value}: {why}")
    return runs, skipped, failures


def run_module(stem: str, alone: str, turn: int) -> int:
    failed = 0
    common.turn(turn)
    for module in (common, *suites.modules()):
        if hasattr(module, "BUDGET"):
            module.BUDGET = 0.0
    for name, cls, method in suites.methods():
        if not name.startswith(f"{stem}."):
            continue
        begin = time.perf_counter()
        runs, skipped, failures = cover(name, cls, method, alone)
        if not runs and not skipped:
            continue
        reasons = collections.Counter(text.partition(": ")[2] for text in skipped)
        said = "".join(f"; {count} skipped: {why}" for why, count in reasons.items())
        print(f"{time.perf_counter() - begin:6.1f} s {runs:4} of {name}{said}", flush=True)
        print("".join(failures), end="", file=sys.stderr, flush=True)
        failed += len(failures)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.smoke", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("module", nargs="*", help="bench_nn ...; by default all")
    parser.add_argument("--here", metavar="ALONE", help=argparse.SUPPRESS)
    parser.add_argument("--turn", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here is not None:
        here, turn = arguments.here, arguments.turn
        sys.exit(min(1, sum(run_module(stem, here, turn) for stem in arguments.module)))
    commands = []
    for stem in arguments.module or [m.__name__.partition(".")[2] for m in suites.modules()]:
        kernels = [cls for name, cls, _ in suites.methods() if name.startswith(f"{stem}.")]
        values = {
            value for cls in kernels for name, axis in zip(
                getattr(cls, "param_names", ()), suites.axes(cls)
            ) if name in ALONE for value in axis
        }  # fmt: skip
        for alone in ["", *sorted(values)]:
            commands.append([sys.executable, "-m", "bench.smoke", stem, "--here", alone])
    turns: queue.SimpleQueue[int] = queue.SimpleQueue()
    for turn in range(os.cpu_count() or 1):
        turns.put(turn)

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        turn = turns.get()
        try:
            return subprocess.run(
                [*command, "--turn", str(turn)], capture_output=True, text=True, check=False
            )
        finally:
            turns.put(turn)

    status = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(run, commands):
            print(done.stdout, end="", flush=True)
            print(done.stderr, end="", file=sys.stderr, flush=True)
            status |= done.returncode != 0
    sys.exit(status)


if __name__ == "__main__":
    main()
