"""Regret of the planner on recorded trials: the table and the picture of cost_model.md.

``python docs/cost_model.py [FILE]`` reads bench/trials/held.jsonl.gz, whose problems no tree was
fitted to, prints the table and draws ``pictures/regret.png``, which takes matplotlib.
"""

from __future__ import annotations

import itertools
import math
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np

from fastconv import _model, _trials
from fastconv._problem import Problem, numpy_dtype
from fastconv._training import timed
from fastconv._trials import Trial

ROOT = pathlib.Path(__file__).parent

#: (method, config, estimate, seconds).
Row = tuple[str, dict[str, "int | str"], float, float]
Chooser = Callable[[Trial, list[Row]], "Row | None"]


def by_estimate(trial: Trial, rows: list[Row]) -> Row:
    return min(rows, key=lambda row: row[2])


def corrected(trial: Trial, rows: list[Row]) -> Row:
    seconds = _model.correct(
        trial.problem, trial.machine, [row[:3] for row in rows], _model.model()
    )
    return rows[min(range(len(rows)), key=seconds.__getitem__)]


def always(*methods: str) -> Chooser:
    """The first of some methods that the trial has, at its own best guess of settings."""

    def choose(trial: Trial, rows: list[Row]) -> Row | None:
        for method in methods:
            of = [row for row in rows if row[0] == method and "threads" not in row[1]]
            if of:
                return by_estimate(trial, of)
        return None

    return choose


def scipys(trial: Trial, rows: list[Row]) -> Row | None:
    """`direct` or `fft`, as scipy.signal.choose_conv_method has it for two arrays."""
    import scipy.signal

    mode = mode_of(trial.problem)
    if mode is None:
        return None
    p = trial.problem
    a, b = (np.ones(shape, numpy_dtype(p.dtype)) for shape in (p.size, p.kernel))
    method = scipy.signal.choose_conv_method(a, b, mode)
    return always(method)(trial, rows)


def mode_of(p: Problem) -> str | None:
    """The mode of scipy.signal.convolve that a problem is, of arrays small enough to make."""
    if p.channels * p.filters * p.batch != 1 or p.boundary != "zeros" or p.is_exact:
        return None
    if max(*p.stride, *p.dilation, *p.input_dilation) > 1 or p.dtype in ("f80", "c160"):
        return None
    pads = {(lo + hi) / (r - 1) for (lo, hi), r in zip(p.padding, p.kernel) if r > 1}
    return {(2.0,): "full", (1.0,): "same", (0.0,): "valid"}.get(tuple(pads))


CHOOSERS: dict[str, Chooser] = {
    "fastconv": corrected,
    "estimates alone": by_estimate,
    "always direct": always("direct"),
    "always im2col": always("im2col"),
}


def regrets(trials: Sequence[Trial], choose: Chooser) -> list[float]:
    """Time of the choice over the least; where it was not timed, being slow, is left out."""
    found = []
    for trial in trials:
        rows = timed(trial)
        chosen = choose(trial, rows) if rows else None
        if chosen is not None:
            found.append(chosen[3] / min(row[3] for row in rows))
    return found


def row(name: str, at: tuple[str, int], found: list[float]) -> str:
    mean = math.exp(np.log(found).mean())
    p95 = np.percentile(found, 95)
    isa, threads = at
    return (
        f"| {name}, {isa} | {threads} | {len(found)} | {mean:.3f} | {p95:.2f} | {max(found):.2f} |"
    )


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "bench/trials/held.jsonl.gz"
    trials = _trials.load(path)
    print("| choice | threads | problems | geometric mean | 95th percentile | worst |")
    curves = {}
    for at in sorted({(t.machine.isa, t.problem.threads) for t in trials}):
        some = [t for t in trials if (t.machine.isa, t.problem.threads) == at]
        for name, choose in CHOOSERS.items():
            curves[(*at, name)] = regrets(some, choose)
            print(row(name, at, curves[(*at, name)]))
        ours = [t for t in some if scipys(t, timed(t)) is not None]
        print(row("choose_conv_method", at, regrets(ours, scipys)))
        print(row("fastconv on the same", at, regrets(ours, corrected)))
    draw(curves)


def draw(curves: dict[tuple[str, int, str], list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    isas = sorted({isa for isa, *_ in curves})
    numbers = sorted({threads for _, threads, _ in curves})
    figure, axes = plt.subplots(
        len(isas), len(numbers), figsize=(9, 3.3 * len(isas)), sharey=True, squeeze=False
    )
    for (isa, threads), axis in zip(itertools.product(isas, numbers), axes.flat):
        for name in CHOOSERS:
            found = sorted(curves.get((isa, threads, name), []))
            axis.plot(np.linspace(0, 100, len(found)), found, label=name)
        axis.set_yscale("log")
        axis.set_yticks([1, 1.5, 2, 3, 5, 10, 20], ["1", "1.5", "2", "3", "5", "10", "20"])
        axis.set_ylim(1, 20)
        axis.minorticks_off()
        axis.set_title(f"{isa}, threads: {threads}")
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("% of problems not seen in training")
    for axis in axes[:, 0]:
        axis.set_ylabel("time of the choice / least time")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(ROOT / "pictures" / "regret.png", dpi=110)


if __name__ == "__main__":
    main()
