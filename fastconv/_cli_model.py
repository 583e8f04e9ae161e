"""``fastconv calibrate`` and ``fastconv train``: what the cost model of this machine is made of."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import sys
from collections.abc import Sequence

import click

from fastconv import _calibration, _model, _timer, _training, _trials
from fastconv._calibration import Calibration
from fastconv._cli_common import db_option, json_option
from fastconv._trials import Trial

#: One problem in so many is left out of the fit that the regret is told of.
_FOLDS = 4

#: Fitted to 160 problems, trees made the choices of others worse; fitted to 600, better.
_FEWEST = 300


def calibrate_once() -> None:
    """Probe the machine if that has not been done, and if what is found can be kept."""
    if _calibration.known() is None and _calibration.path() is not None:
        print("measuring this machine, once, in 2 s", file=sys.stderr)
        _calibration.remember(_calibration.measure())


def _lines(c: Calibration) -> list[str]:
    lines = [f"matrix products  {dtype}  {rate * 1e-9:.3g} GFLOP/s" for dtype, rate in
             c.products.items()]  # fmt: skip
    lines += [f"copies of {size >> 10} KiB  {rate * 1e-9:.3g} GB/s" for size, rate in
              c.copies.items()]  # fmt: skip
    lines.append(f"transforms  {c.transforms * 1e-9:.3g} GFLOP/s")
    lines.append(f"waking a thread  {c.waking * 1e6:.3g} us")
    lines += [f"{name}  {ratio:.2f} of its estimates" for name, ratio in c.solvers.items()]
    return lines


@click.command(short_help="Measure what this machine does in a second.")
@db_option
@json_option
def calibrate(as_json: bool) -> int:
    """Measure, in 1 to 2 s, what this machine does in a second; estimates are scaled by it.

    The machine should have nothing else to do. What is found is kept beside wisdom, in place of
    what was found before.
    """
    found = _calibration.measure()
    kept = _calibration.remember(found)
    where = str(_calibration.path())
    if as_json:
        print(json.dumps({"path": where, "kept": kept, **found.as_json()}, indent=2))
    else:
        print(*_lines(found), sep="\n")
        print(f"kept in {where}" if kept else "not kept: there is no place for it")
    return 0 if kept else 1


def _summary(regrets: Sequence[float]) -> dict[str, float]:
    logs = [math.log(r) for r in regrets]
    return {
        "trials": len(regrets),
        "geometric mean": math.exp(sum(logs) / len(logs)),
        "p95": sorted(regrets)[math.ceil(0.95 * len(regrets)) - 1],
        "worst": max(regrets),
    }


def left_out(trials: Sequence[Trial]) -> list[float]:
    """Regret of each trial by a model that no trial of its problem was shown to."""
    problems = sorted({str(t.problem.on(1)) for t in trials})
    fold = {text: i % _FOLDS for i, text in enumerate(problems)}
    found = []
    for n in range(_FOLDS):
        inside = [t for t in trials if fold[str(t.problem.on(1))] != n]
        outside = [t for t in trials if fold[str(t.problem.on(1))] == n]
        if inside and outside:
            found += _training.regrets(outside, _model.read(_training.fit(inside)))
    return found


@click.command(short_help="Fit the cost model to recorded trials.")
@click.argument("files", nargs=-1, type=click.Path(path_type=pathlib.Path))
@click.option("--wisdom", is_flag=True, help="Learn from what tuning has timed here, too.")
@click.option(
    "--record",
    type=click.IntRange(min=1),
    metavar="N",
    help="First time N random problems on one thread and on all, and add them to FILE.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random problems.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    default=0.35,
    show_default=True,
    metavar="SECONDS",
    help="Of each random problem, about.",
)
@click.option(
    "--out",
    type=click.Path(path_type=pathlib.Path),
    help="Where the model is written; by default beside wisdom, for this user.",
)
@db_option
@json_option
def train(
    files: tuple[pathlib.Path, ...], wisdom: bool, record: int | None, seed: int, budget: float,
    out: pathlib.Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Fit the trees that correct estimates to the trials in FILES, and say what regret is left.

    A line of a file is a problem and the time of each candidate. The regret is that of problems
    left out of the fit, a quarter at a time, without the correction and with it. A package's own
    model is made so, with --out fastconv/model.json.
    """
    if not files and (record is not None or not wisdom):
        raise click.UsageError("expected FILES of trials, or --wisdom")
    if record is not None:
        _record(files[0], record, seed, budget)
    trials = [trial for file in files for trial in _trials.load(file)]
    trials += _trials.of_wisdom() if wisdom else []
    if len({t.problem.on(1) for t in trials}) < _FEWEST:
        print(f"trees fitted to fewer than {_FEWEST} problems make choices worse", file=sys.stderr)
    model = _training.fit(trials, _calibration.known())
    regrets = {"estimates": _training.regrets(trials, None), "corrected": left_out(trials)}
    where = out or _model.own_path()
    if where is not None:
        where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        where.write_text(json.dumps(model, separators=(",", ":")) + "\n")
        _model.model.cache_clear()
    told = {name: _summary(found) for name, found in regrets.items() if found}
    if as_json:
        print(json.dumps({"path": str(where), "regret": told}, indent=2))
    else:
        for name, values in told.items():
            print(f"regret, {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items()))
        print(f"written to {where}" if where else "not kept: there is no place for it")
    return 0 if where is not None else 1


def _record(file: pathlib.Path, count: int, seed: int, budget: float) -> None:
    """Add trials of random problems to a file; each line is whole as soon as it is there."""
    from fastconv._machine import usable_cores

    if file.suffix == ".gz":
        raise ValueError(f"expected a file that lines can be added to, got {file}")
    threads = sorted({1, usable_cores()})
    watch = _timer.Deadline(None)
    with file.open("a") as to:
        for number, problem in enumerate(itertools.islice(_trials.random_problems(seed), count), 1):
            for trial in _trials.record(problem, threads, budget):
                to.write(trial.line() + "\n")
            to.flush()
            if number % 20 == 0:
                print(f"{number} of {count}, {watch.spent:.0f} s", file=sys.stderr)
