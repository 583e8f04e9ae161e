"""How good the choices are: time(chosen) / time(fastest candidate), 1 at best.

``python -m bench.bench_planner [FILE.toml ...]`` prints it for the problems of workloads files, by
default those of peers.py: what the cost model chooses, cold, and what was fastest of all candidates
that it thinks at most ten times slower, with their milliseconds; then what choosing
took, of a problem that is new and of one met before. With ``--budget 0`` the latter alone.
"""

from __future__ import annotations

import argparse
import math
import pathlib
from collections.abc import Callable, Iterator
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


class Choosing:
    """Microseconds that the planner takes for a problem, new or known, and that a plain call takes
    beside its plan; of tuning, seconds."""

    params = (CASES,)
    param_names = ("problem",)
    version = "2"
    timeout = 300

    def setup(self, text: str) -> None:
        common.without_wisdom()
        self.problem = problem_of(text)

    def track_miss(self, text: str) -> float:
        return 1e6 * median([sum(took) for took in miss([self.problem] * 20)])

    def track_hit(self, text: str) -> float:
        return 1e6 * hit()

    def track_plain(self, text: str) -> float:
        return 1e6 * plain()

    def track_tuning(self, text: str) -> float:
        from fastconv import _timer

        watch = _timer.Deadline(None)
        race(self.problem, min(2.0, BUDGET))
        return watch.spent

    track_miss.unit = track_hit.unit = track_plain.unit = "us"  # type: ignore[attr-defined]
    track_tuning.unit = "s"  # type: ignore[attr-defined]


def miss(found: list[Any]) -> list[tuple[float, float, float]]:
    """Seconds that choosing took, by problem: estimates, trees, and the rest with the plan.

    As if no problem had been met before.
    """
    from fastconv import _planner, _timer
    from fastconv._machine import this_machine
    from fastconv.solvers import SOLVERS, _polyphase

    def fresh(problem: Any) -> Any:
        _polyphase.phases.cache_clear()
        return problem.replace()  # nothing derived yet

    took = []
    for problem in found:
        one, two = fresh(problem), fresh(problem)
        watch = _timer.Deadline(None)
        leading = _planner._leading(one, this_machine(), SOLVERS)
        estimates = watch.spent
        _planner._expected(one, this_machine(), leading)
        trees = watch.spent - estimates
        _polyphase.phases.cache_clear()
        watch = _timer.Deadline(None)
        _planner.choose(two)
        took.append((estimates, trees, watch.spent - estimates - trees))
    return took


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def per_call(*functions: Callable[[], Any]) -> list[float]:
    """Seconds of one call of each, many in a row."""
    from fastconv import _timer

    def often(function: Callable[[], Any]) -> Callable[[], None]:
        def calls() -> None:
            for _ in range(100):
                function()

        return calls

    timings = _timer.compare([often(f) for f in functions], rounds=15)
    return [timing.lowest / 100 for timing in timings]


def hit() -> float:
    """Seconds that finding what a known call is done by takes."""
    import numpy as np

    from fastconv._ext import core

    arrays = np.ones((1, 2, 9)), np.ones((2, 2, 3))
    options = {"stride": 2, "padding": 1}
    known = core.Recent(1)
    known.keep(hit, "off", arrays, options, lambda given: given[0])
    return per_call(lambda: known.call(hit, "off", arrays, options))[0]


def plain() -> float:
    """Seconds that a plain call of conv2d, met before, takes longer than what its plan executes."""
    import numpy as np

    import fastconv
    from fastconv import _planner

    x, w = np.ones((1, 8, 16, 16), np.float32), np.ones((8, 8, 3, 3), np.float32)
    for _ in range(8):  # watched, then its packed weights kept
        y = fastconv.conv2d(x, w, padding=1)
    (problem,) = {c.problem for c in fastconv.candidates(fastconv.conv2d, x, w, padding=1)}
    plan = _planner.choose(problem).plan
    packed = plan.pack_stored(w)
    call, own = per_call(
        lambda: fastconv.conv2d(x, w, padding=1), lambda: plan.execute(x, packed, None, y)
    )
    return call - own


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
    regrets: list[float] = []
    met: list[Any] = []
    for name, problem in problems(arguments.files, arguments.threads, not arguments.call):
        if not any(part in name for part in arguments.only):
            continue
        met.append(problem)
        if not arguments.budget:
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
    if met:
        took = miss(met)
        estimates, trees, rest = (1e6 * median(list(part)) for part in zip(*took))
        every = sorted(1e6 * sum(t) for t in took)
        print(f"choosing: {every[len(every) // 2]:.0f} us in the median, {every[-1]:.0f} at most"
              f" (estimates {estimates:.0f}, trees {trees:.0f}, checks and plan {rest:.0f});"
              f" what was met before is found in {1e6 * hit():.2f} us,"
              f" a plain conv2d takes {1e6 * plain():.1f} us beside its plan")  # fmt: skip


if __name__ == "__main__":
    main()
