"""``python -m bench.trials NAME [--seconds S]`` times the problems of NAME.txt into NAME.jsonl.gz.

Problems that the file has trials of, by this machine's instruction set and the solvers' current
revisions, are left out, so that it can be run in parts, on a machine that has nothing else to do,
until it says that none are left; after a kernel has changed, that times again what it had to do
with. Trials of other instruction sets stay. docs/cost_model.md says how the model is then fitted
to train and layers.
"""

from __future__ import annotations

import argparse
import gzip
import pathlib

from fastconv import _timer, _trials
from fastconv._machine import this_machine
from fastconv._problem import Problem
from fastconv._trials import Trial
from fastconv.solvers import BY_NAME

HERE = pathlib.Path(__file__).parent


def is_current(trial: Trial) -> bool:
    """Whether every candidate is one of today's."""
    return all(
        method in BY_NAME and BY_NAME[method].revision == revision
        for method, _, revision, _ in trial.timed
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.trials", description=__doc__)
    parser.add_argument("name", choices=("train", "layers", "held"))
    parser.add_argument("--seconds", type=float, help="to stop after, about")
    parser.add_argument("--budget", type=float, default=0.35, help="seconds a problem, about")
    parser.add_argument(
        "--anew", action="store_true", help="time again what is there, as far as time goes"
    )
    arguments = parser.parse_args()
    path = HERE / f"{arguments.name}.jsonl.gz"
    here = this_machine().isa
    old = _trials.load(path) if path.exists() else []
    others = [t for t in old if t.machine.isa != here]
    kept = {t.problem: t for t in old if t.machine.isa == here and is_current(t)}
    known = set() if arguments.anew else set(kept)
    problems = [Problem.parse(line) for line in (HERE / f"{arguments.name}.txt").open()]
    deadline, left = _timer.Deadline(arguments.seconds), 0
    for problem in problems:
        if problem in known or problem.replace(threads=2) in known:
            continue
        trials = _trials.record(problem, (1, 2), arguments.budget) if deadline.left > 0 else []
        kept.update({t.problem: t for t in trials})
        left += not trials
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        for trial in (*others, *kept.values()):
            file.write((trial.line() + "\n").encode())
    print(f"trials: {len(kept)}, problems left: {left}")
    return 0 if left == 0 else 3


if __name__ == "__main__":
    raise SystemExit(main())
