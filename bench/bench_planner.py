"""How good the choices are: time(chosen) / time(fastest candidate), 1 at best.

``python -m bench.bench_planner [FILE.toml ...]`` prints it for the problems of workloads files, by
default workloads.toml and others.toml here: what the cost model chooses, cold, and what was fastest
of all candidates that it thinks at most ten times slower, with their milliseconds.
"""

from __future__ import annotations

import argparse
import math
import pathlib
from collections.abc import Iterator
from typing import Any

from . import common, shapes
from .peers import FILES

CASES = [
    text
    for text in (*shapes.NN.values(), *shapes.SIGNAL.values())
    if text.split()[0] in ("conv1d", "conv2d", "conv3d", "convolve")
]

BUDGET = 20.0


def problem_of(text: str) -> Any:
    """The Problem of a line of shapes.py."""
    import fastconv

    if text.startswith("convolve"):
        c = shapes.case(text)
        x, w = shapes.arrays(c)
        return fastconv.candidates(fastconv.convolve, x, w, **c.options)[0].problem
    return fastconv.Problem.parse(text)


def race(problem: Any, budget: float) -> tuple[Any, Any] | None:
    """(what the model chooses, the fastest candidate), timed; None when time was too short."""
    from fastconv import _planner, _tuner
    from fastconv._machine import this_machine

    found = _planner.candidates(problem)
    timed = [c for c in _tuner.race(found, this_machine(), budget) if c.source == "timed"]
    same = (found[0].method, found[0].config)
    chosen = [c for c in timed if (c.method, c.config) == same]
    return (chosen[0], min(timed, key=lambda c: c.seconds)) if chosen else None


def regret(text: str) -> float:
    """time(what the model chooses) / time(fastest), packing included."""
    both = race(problem_of(text), BUDGET)
    return math.nan if both is None else both[0].seconds / both[1].seconds


class Regret:
    params = (CASES,)
    param_names = ("problem",)
    version = "2"
    unit = "x"
    timeout = 300

    def setup(self, text: str) -> None:
        common.without_wisdom()

    def track_regret(self, text: str) -> float:
        return regret(text)


class Latency(common.Timed):
    """Seconds to choose for a problem never seen, by the cost model."""

    params = (list(shapes.NN.values())[:4],)
    param_names = ("problem",)

    def setup(self, text: str) -> None:
        from fastconv import _planner
        from fastconv._problem import Problem

        common.pin(1)
        common.without_wisdom()
        self.choose = _planner.choose
        self.problem = Problem.parse(text)

    def time_choose(self, text: str) -> None:
        self.choose(self.problem)


def problems(paths: list[pathlib.Path], threads: int, prepared: bool) -> Iterator[tuple[str, Any]]:
    """Names and problems of workloads files."""
    from fastconv._workloads import load

    for workload in (w for path in paths for w in load(path)):
        for number, problem in enumerate(workload.problems(), 1):
            name = workload.name if number == 1 else f"{workload.name}#{number}"
            yield name, problem.replace(threads=threads, prepared=prepared)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_planner", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("files", nargs="*", type=pathlib.Path, default=FILES, metavar="FILE.toml")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART", help="of a case's name")
    parser.add_argument("--call", action="store_true", help="packing included, as in a plain call")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds a case")
    arguments = parser.parse_args()
    common.without_wisdom()
    regrets = []
    for name, problem in problems(arguments.files, arguments.threads, not arguments.call):
        if not any(part in name for part in arguments.only):
            continue
        both = race(problem, arguments.budget)
        if both is None:
            print(f"     -  {name:32} too little time to tell")
            continue
        chosen, best = both
        regrets.append(chosen.seconds / best.seconds)
        told = "; ".join(
            f"{c.method} {' '.join(f'{k}={v}' for k, v in c.config.items())}: {c.seconds * 1e3:.3g}"
            for c in ((chosen,) if regrets[-1] < 1.05 else (chosen, best))
        )
        print(f"{regrets[-1]:6.2f}  {name:32} {told}", flush=True)
    if regrets:
        mean = math.exp(sum(map(math.log, regrets)) / len(regrets))
        print(f"{mean:6.2f}  geometric mean of {len(regrets)}; worst {max(regrets):.2f}")


if __name__ == "__main__":
    main()
