"""Fitting the trees of `_model.py` to recorded trials: gradient boosting, in NumPy.

Each tree is fitted to what those before it leave of log(time / estimate), by squares (Friedman,
Greedy function approximation: a gradient boosting machine, Annals of Statistics 29(5), 2001). A
row weighs the more the nearer its candidate is to the fastest: which of two slow ones is slower is
of no use to anyone. The last trees lessen what is wanted itself, the regret: with each candidate of
a trial chosen in proportion to (expected time)^(-1/T), they follow the gradient of the mean of
log(time / least time), as ranking is learnt by lists (Cao et al., Learning to rank, ICML 2007).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv import _model, _timer
from fastconv._calibration import Calibration
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._model import FEATURES, Floats, Model
from fastconv._planner import estimates
from fastconv._trials import Trial
from fastconv.solvers import BY_NAME

#: Trees fitted to times, trees fitted to regret, and questions of each. By regret on quarters of
#: 600 problems left out in turn: 80 trees of 3 questions are as good as 40 of 6, and better than 40
#: of 4; the trees fitted to regret made 1.064 and 1.105 (one and two threads) 1.062 and 1.098.
TREES, RANKING_TREES, LEVELS = 60, 30, 3

#: Share of a tree's fit that is added, rows' weight that pulls a leaf to 0, and questions asked of
#: a feature at most: of 0.05 to 0.2, 4 to 20 and 24, those with the least regret.
_RATE, _PULL, _QUESTIONS = 0.15, 10.0, 24

#: What a candidate far from the fastest still weighs.
_LEAST_WEIGHT = 0.2

#: Of the trees fitted to regret: T (0.3 is worse), the share of a Newton step that is added, the
#: least curvature, and the logarithm of the regret beyond which more is not worse.
_TEMPERATURE, _STEP, _CURVATURE, _MOST = 0.15, 0.3, 0.02, 1.5


class Rows(NamedTuple):
    """Candidates of many trials, one a row."""

    trial: Any
    solver: Any
    x: Floats
    estimate: Floats
    regret: Floats

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Rows:
        """Estimates and regrets are logarithms; candidates there no longer are, are left out."""
        number, solvers, x, estimate, regret = [], [], [], [], []
        for n, trial in enumerate(trials):
            found = timed(trial)
            best = min((seconds for *_, seconds in found), default=0.0)
            features = core.problem_features(trial.problem)
            for method, config, cost, seconds in found:
                number.append(n)
                solvers.append(method)
                x.append(features + core.candidate_features(trial.problem, config, cost))
                estimate.append(math.log(cost / best))
                regret.append(math.log(seconds / best))
        return cls(
            np.unique(number, return_inverse=True)[1], np.array(solvers), np.array(x, float),
            np.array(estimate), np.array(regret),
        )  # fmt: skip


def timed(trial: Trial) -> list[tuple[str, dict[str, int | str], float, float]]:
    """(method, config, estimate, seconds) of the candidates that there still are."""
    now = [
        (method, config, seconds)
        for method, config, revision, seconds in trial.timed
        if method in BY_NAME
        and BY_NAME[method].revision == revision
        and BY_NAME[method].why_not(trial.problem) is None
    ]
    costs = estimates(trial.problem, trial.machine, [(m, c) for m, c, _ in now])
    return [
        (method, config, cost, seconds)
        for (method, config, seconds), cost in zip(now, costs)
        if cost is not None and cost > 0
    ]


def fit(trials: Sequence[Trial], here: Calibration | None = None) -> dict[str, Any]:
    """The model of some trials, as its file holds it.

    `here` is the calibration of this machine, for trials that were recorded on its like.
    """
    of: dict[str, list[Trial]] = {}
    for trial in trials:
        of.setdefault(trial.machine.isa, []).append(trial)
    own = this_machine().isa
    parts = {isa: _fit(some, here if isa == own else None) for isa, some in sorted(of.items())}
    if not any(part["solvers"] for part in parts.values()):
        raise ValueError("expected trials to learn from, got none of candidates that there are")
    return {"version": _model.VERSION, "features": FEATURES, "isas": parts}


def _fit(trials: Sequence[Trial], calibration: Calibration | None) -> dict[str, Any]:
    """Trees of the trials of one instruction set."""
    rows = Rows.of(trials)
    at = {str(name): np.flatnonzero(rows.solver == name) for name in np.unique(rows.solver)}
    found: dict[str, list[Any]] = {name: [] for name in at}
    boosts = {name: _Boost(rows.x[i]) for name, i in at.items()}
    expected = rows.estimate.copy()
    weight = np.maximum(_LEAST_WEIGHT, np.exp(-2 * rows.regret))
    for number in range(TREES + RANKING_TREES if at else 0):
        if number < TREES:
            left, mass, rate = rows.regret - expected, weight, _RATE
        else:
            left, mass, rate = *_descent(rows, expected), _STEP * _TEMPERATURE
        for name, i in at.items():
            tree, values = boosts[name].tree(left[i], mass[i], rate)
            found[name].append(tree)
            expected[i] += values
    return {
        "trained": f"{_timer.date()}: {len(trials)} trials",
        "levels": LEVELS,
        "calibration": None if calibration is None else calibration.as_json(),
        "solvers": found,
    }


def _descent(rows: Rows, expected: Floats) -> tuple[Floats, Floats]:
    """A Newton step, by T, down the mean regret of choices at random; and its curvature."""
    count = rows.trial.max() + 1
    z = -expected / _TEMPERATURE
    most = np.full(count, -np.inf)
    np.maximum.at(most, rows.trial, z)
    share = np.exp(z - most[rows.trial])
    share /= np.bincount(rows.trial, share, count)[rows.trial]
    regret = np.minimum(rows.regret, _MOST)
    mean = np.bincount(rows.trial, share * regret, count)
    gradient = -share / _TEMPERATURE * (regret - mean[rows.trial])
    curvature = share * (1 - share) / _TEMPERATURE / 2 + _CURVATURE
    return -gradient / curvature, curvature


class _Boost:
    """Rows of one solver, and the questions that may be asked of them."""

    def __init__(self, x: Floats) -> None:
        self.x = x
        self.questions, self.answers = [], []
        for column in x.T:
            values = np.unique(column)
            middles = (values[1:] + values[:-1]) / 2
            if len(middles) > _QUESTIONS:
                ranks = np.linspace(0, len(x) - 1, _QUESTIONS + 2)[1:-1].astype(int)
                middles = np.unique(np.sort(column)[ranks])
            self.questions.append(middles.round(3))
            self.answers.append(np.searchsorted(self.questions[-1], column, side="left"))

    def tree(self, left: Floats, weight: Floats, rate: float) -> tuple[list[Any], Floats]:
        """(features, thresholds, leaves) of a tree fitted to `left`, and its value for each row."""
        leaf = np.zeros(len(left), np.intp)
        features, thresholds = [], []
        for level in range(LEVELS):
            f, q = _best_question(self.questions, self.answers, leaf, 2**level, left, weight)
            features.append(f)
            # of rows that are all alike nothing can be asked
            thresholds.append(float(self.questions[f][q]) if len(self.questions[f]) else 1e30)
            leaf = 2 * leaf + (self.x[:, f] > thresholds[-1])
        sums, mass = (np.bincount(leaf, v, 2**LEVELS) for v in (weight * left, weight))
        values = (rate * sums / (mass + _PULL)).round(4)
        return [features, thresholds, values.tolist()], values[leaf]


def _best_question(
    questions: Sequence[Floats], answers: Sequence[Any], leaf: Any, leaves: int, left: Floats,
    weight: Floats,
) -> tuple[int, int]:  # fmt: skip
    """The feature and the threshold that explain most squares when asked in every leaf."""
    best, where = -1.0, (0, 0)
    for f, (middles, answer) in enumerate(zip(questions, answers)):
        bins = len(middles) + 1
        if bins == 1:
            continue
        at = leaf * bins + answer
        sums = np.bincount(at, weight * left, leaves * bins).reshape(leaves, bins).cumsum(1)
        mass = np.bincount(at, weight, leaves * bins).reshape(leaves, bins).cumsum(1)
        below, above = sums[:, :-1], sums[:, -1:] - sums[:, :-1]
        gain = below**2 / (mass[:, :-1] + _PULL) + above**2 / (mass[:, -1:] - mass[:, :-1] + _PULL)
        total = gain.sum(0)
        q = int(total.argmax())
        if total[q] > best:
            best, where = float(total[q]), (f, q)
    return where


def regrets(trials: Iterable[Trial], model: Model | None) -> list[float]:
    """Time of the chosen candidate over the least, of each trial; without a model, by estimates."""
    found = []
    for trial in trials:
        candidates = timed(trial)
        if not candidates:
            continue
        costs: Sequence[float] = [cost for *_, cost, _ in candidates]
        if model is not None:
            costs = _model.correct(trial.problem, trial.machine, [c[:3] for c in candidates], model)
        chosen = min(range(len(costs)), key=costs.__getitem__)
        found.append(candidates[chosen][3] / min(c[3] for c in candidates))
    return found
