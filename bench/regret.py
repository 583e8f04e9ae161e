"""How good the winners of tuning are, timed again afterwards.

``python -m bench.regret [FILE.toml ...]`` tunes each problem of workloads files, by default
workloads.toml here, once or twice (``--tunings 2``) as mode `measure` does, and prints a line:

regret      time of the winner over that of the quickest, both timed again
spread      where the two winners are not one candidate: time of the slower over the quicker's
seconds     that tuning took; ``?`` after it where the race would not be kept, for its noise

What is timed again are the winners, and all that came within 1.3 times a winner while tuning,
whether it was left behind or not; in new arrays, as new plans. ``--random N`` takes N of
`fastconv._trials.random_problems` instead of a file's.
"""

from __future__ import annotations

import argparse
import itertools
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from . import bench_planner, common
from .peers import FILES

#: Seconds a problem that `measure` may take.
BUDGET = 2.0

#: Times a winner's seconds, as tuned, within which candidates are timed again; and the most.
CLOSE, MOST = 1.3, 8

#: Passes and seconds of timing again.
PASSES, AGAIN = 31, 2.0

#: Two winners are as good as one where they differ by less.
SAME = 1.03

Key = tuple[str, tuple[Any, ...]]


def key(candidate: Any) -> Key:
    return candidate.method, tuple(candidate.config.items())


def tuned(problem: Any, budget: float) -> tuple[list[Any], float, bool]:
    """Candidates that were timed, the winner first; the seconds that it took; whether in peace."""
    from fastconv import _planner, _timer, _tuner
    from fastconv._machine import this_machine

    watch = _timer.Deadline(None)
    race = _tuner.race(_planner.candidates(problem), this_machine(), budget)
    return [c for c in race if c.source == "timed"], watch.spent, race.why_doubted is None


def again(problem: Any, found: Sequence[Any], seed: int) -> dict[Key, float]:
    """Seconds of candidates in arrays of their own, all interleaved."""
    from fastconv import _timer, _tuner
    from fastconv._machine import this_machine

    scratch = _tuner.Scratch(problem, seed)
    calls = [_tuner._call(c, scratch, this_machine()) for c in found]
    timings = _timer.compare(calls, rounds=PASSES, budget=AGAIN, seed=seed)
    return {key(c): t.seconds for c, t in zip(found, timings)}


class Found(NamedTuple):
    """What is printed of a problem, and the winners in words."""

    regret: float
    spread: float
    seconds: float
    kept: bool
    names: str


def measure(problem: Any, tunings: int, budget: float) -> Found | None:
    """None where there was no time to tune."""
    races = [tuned(problem, budget) for _ in range(tunings)]
    if not all(found for found, *_ in races):
        return None
    close = {key(found[0]): found[0] for found, *_ in races}
    rest = itertools.chain.from_iterable(
        [c for c in found if c.seconds < CLOSE * found[0].seconds] for found, *_ in races
    )
    for c in sorted(rest, key=lambda c: c.seconds):
        if len(close) < MOST:
            close.setdefault(key(c), c)
    seconds = again(problem, [*close.values()], seed=tunings)
    winners = [key(found[0]) for found, *_ in races]
    own = [seconds[winner] for winner in winners]
    names = " ".join(
        f"{method} {' '.join(f'{k}={v}' for k, v in config)}: {seconds[method, config] * 1e3:.3g}"
        for method, config in dict.fromkeys((*winners, min(seconds, key=seconds.__getitem__)))
    )
    took, kept = max(race[1] for race in races), all(race[2] for race in races)
    return Found(own[0] / min(seconds.values()), max(own) / min(own), took, kept, names)


def random_problems(count: int, threads: int) -> Iterator[tuple[str, Any]]:
    from fastconv import _trials

    # seeds 1 and 3 are what the model was fitted to, 2 what it is judged on: bench/trials
    for problem in itertools.islice(_trials.random_problems(4), count):
        asked = problem.replace(threads=threads)
        yield str(asked), asked


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.regret", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "files", nargs="*", type=pathlib.Path, default=FILES[:1], metavar="FILE.toml"
    )
    parser.add_argument("--random", type=int, default=0, metavar="N", help="problems, not of files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART", help="of a case's name")
    parser.add_argument("--tunings", type=int, choices=(1, 2), default=1)
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds a tuning")
    parser.add_argument("--seconds", type=float, help="to stop after, about")
    arguments = parser.parse_args()
    common.without_wisdom()
    common.pin(arguments.threads)
    from fastconv import _timer

    deadline = _timer.Deadline(arguments.seconds)
    problems = (
        random_problems(arguments.random, arguments.threads)
        if arguments.random
        else bench_planner.problems(arguments.files, arguments.threads, prepared=True)
    )
    rows: list[Found] = []
    left = 0
    for name, problem in problems:
        if not any(part in name for part in arguments.only):
            continue
        if deadline.passed:
            left += 1
            continue
        row = measure(problem, arguments.tunings, arguments.budget)
        if row is None:
            print(f"     -  too little time for {name}", flush=True)
            continue
        rows.append(row)
        told = f" {row.spread:6.3f}" if arguments.tunings > 1 else ""
        doubt = " " if row.kept else "?"
        print(f"{row.regret:6.3f}{told} {row.seconds:5.2f} s{doubt} {name:32} {row.names}",
              flush=True)  # fmt: skip
    if left:
        print(f"time was over: {left} left")
    summary("all", rows)
    summary("kept", [row for row in rows if row.kept])


def summary(which: str, rows: Sequence[Found]) -> None:
    if not rows:
        return
    regrets = [row.regret for row in rows]
    mean = math.exp(sum(map(math.log, regrets)) / len(rows))
    agree = sum(row.spread < SAME for row in rows)
    took = [row.seconds for row in rows]
    print(f"{which}, {len(rows)}: regret {mean:.3f} in the geometric mean, 95th percentile"
          f" {quantile(regrets, 0.95):.3f}, worst {max(regrets):.3f}; tunings agree in"
          f" {agree / len(rows):.0%}; a tuning of all takes {sum(took):.0f} s, of one"
          f" {max(took):.2f} at most")  # fmt: skip


if __name__ == "__main__":
    main()
