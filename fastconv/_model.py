"""What the planner expects of a candidate: a solver's estimate, scaled and corrected.

    seconds = cost(problem, config, machine) * scale(solver, machine) * exp(sum of trees(features))

The estimate is the solver's own. The scale says how this machine differs from the one that the
solvers' constants were measured on, and is 1 until `fastconv calibrate` has run
(`_calibration.py`). The trees are fitted to log(time / estimate) of recorded trials
(`_training.py`); they are symmetric: all nodes of a level ask the same question, so that the
answers are the bits of a leaf's number, and all trees of all candidates are evaluated by a dozen
NumPy operations (Prokhorenkova et al., CatBoost, NeurIPS 2018). Machines whose instruction set no
trial was recorded with are not corrected at all: there every candidate has the solver's estimate,
and no choice is made worse by trees that never saw its like.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv import _calibration
from fastconv._calibration import Calibration
from fastconv._machine import Machine
from fastconv._problem import BOUNDARIES, LAYOUTS, Problem, numpy_dtype
from fastconv._solver import Config

_log = logging.getLogger("fastconv")

Floats = npt.NDArray[np.float64]

#: "version" of the file: what features mean.
VERSION = 1

#: Bytes of a vector, as a number that orders instruction sets.
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}

PROBLEM_FEATURES = (
    "flops", "taps", "channels", "filters", "groups", "batch", "columns", "rows", "kernel",
    "last kernel", "axes", "stride", "last stride", "dilation", "input dilation", "padding",
    "boundary", "itemsize", "parts", "exact", "x itemsize", "y itemsize", "layout", "flip", "rank",
    "prepared", "x", "w", "y", "size",
)  # fmt: skip

CANDIDATE_FEATURES = (
    "cost", "threads", "vector", "m", "across", "copy", "tile_bytes", "plane_bytes", "row_bytes",
    "block", "rate",
)  # fmt: skip

FEATURES = PROBLEM_FEATURES + CANDIDATE_FEATURES


def _log2(value: float) -> float:
    return math.log2(value) if value > 1 else 0.0


def problem_features(p: Problem) -> list[float]:
    """Of a problem, in the order of PROBLEM_FEATURES; counts by their logarithms."""
    out = p.out
    last = out[-1]
    kernel = math.prod(p.kernel)
    groups = p.groups
    log2 = _log2
    return [
        log2(p.flops), log2(p.taps), log2(p.channels // groups), log2(p.filters // groups),
        log2(groups), log2(p.batch), log2(last), log2(math.prod(out[:-1])), log2(kernel),
        log2(p.kernel[-1]), sum([r > 1 for r in p.kernel]), log2(math.prod(p.stride)),
        p.stride[-1], p.dilation[-1], log2(math.prod(p.input_dilation)),
        log2(1 + p.padding[-1][0]), BOUNDARIES.index(p.boundary), p.itemsize,
        1 + p.is_complex, p.is_exact, numpy_dtype(p.x_dtype).itemsize,
        numpy_dtype(p.y_dtype).itemsize, LAYOUTS.index(p.layout), p.flip, p.rank, p.prepared,
        log2(math.prod(p.x_shape)), log2(math.prod(p.w_shape)), log2(math.prod(p.y_shape)),
        log2(p.size[-1]),
    ]  # fmt: skip


@functools.lru_cache(256)
def _block(name: str) -> float:
    """Samples of a block like 16x32."""
    return sum(_log2(int(n)) for n in name.split("x") if n.isdecimal())


def candidate_features(p: Problem, config: Config, cost: float) -> list[float]:
    """Of a candidate, in the order of CANDIDATE_FEATURES; a setting that it lacks is 0."""
    get: Any = config.get
    return [
        math.log2(max(cost, 1e-9)), get("threads", p.threads),
        _VECTOR_BYTES.get(get("isa"), 16) if "isa" in config else 0,
        get("m", 0), get("across", 0), get("copy", 0), _log2(get("tile_bytes", 0)),
        _log2(get("plane_bytes", 0)), _log2(get("row_bytes", 0)), _block(get("block", "")),
        math.log2(max(1, p.flops) / max(cost, 1e-9)),
    ]  # fmt: skip


class Trees(NamedTuple):
    """The trees of all solvers, of one shape; leaves of those that a solver lacks are 0."""

    solvers: Mapping[str, int]
    isas: frozenset[str]
    levels: int
    feature: npt.NDArray[np.intp]  # (solvers, levels * trees)
    threshold: Floats  # (solvers, levels * trees)
    leaves: Floats  # (solvers * trees * 2**levels,)
    first_leaf: npt.NDArray[np.intp]  # (solvers, trees)
    trained: str
    #: Of the machine that the trials were recorded on.
    calibration: Calibration | None

    @classmethod
    def of(cls, found: Any) -> Trees:
        """From the file's JSON; ValueError, KeyError or TypeError for anything else."""
        if found["version"] != VERSION or tuple(found["features"]) != FEATURES:
            raise ValueError("its features are not those of this version")
        names = sorted(found["solvers"])
        levels = int(found["levels"])
        most = max((len(found["solvers"][name]) for name in names), default=0)
        feature = np.zeros((len(names), most, levels), np.intp)
        threshold = np.zeros((len(names), most, levels))
        leaves = np.zeros((len(names), most, 2**levels))
        for s, name in enumerate(names):
            for t, (features, thresholds, values) in enumerate(found["solvers"][name]):
                feature[s, t], threshold[s, t], leaves[s, t] = features, thresholds, values
        if not (np.isfinite(leaves).all() and 0 <= feature.min(initial=0)):
            raise ValueError("a leaf is not finite, or a feature unknown")
        if feature.max(initial=0) >= len(FEATURES):
            raise ValueError("a feature is unknown")
        by_level = (len(names), levels * most)
        return cls(
            {name: s for s, name in enumerate(names)}, frozenset(map(str, found["isas"])), levels,
            feature.swapaxes(1, 2).reshape(by_level), threshold.swapaxes(1, 2).reshape(by_level),
            leaves.ravel(), np.arange(len(names) * most).reshape(len(names), most) * 2**levels,
            str(found.get("trained", "")),
            Calibration.of(found["calibration"]) if found.get("calibration") else None,
        )  # fmt: skip

    def log_corrections(self, x: Floats, solvers: Sequence[int]) -> Floats:
        """Sum of the trees of each row of x, (candidates, features), by the row's solver."""
        s = np.array(solvers)
        at = self.feature.take(s, 0) + np.arange(0, x.size, x.shape[1])[:, None]
        asked = (x.take(at) > self.threshold.take(s, 0)).reshape(len(s), self.levels, -1)
        leaf = asked[:, 0].astype(np.intp)
        for level in range(1, self.levels):
            leaf += leaf
            leaf += asked[:, level]
        leaf += self.first_leaf.take(s, 0)
        total: Floats = self.leaves.take(leaf).sum(1)
        return total


def own_path() -> pathlib.Path | None:
    """Where `fastconv train` puts what it has learnt here; None where there is no such place."""
    return _calibration.beside_wisdom("model.json")


@functools.cache
def trees() -> Trees:
    """What `fastconv train` has learnt on this machine, else what is shipped; read once."""
    own = own_path()
    if own is not None and os.path.lexists(own):
        try:
            return Trees.of(json.loads(own.read_text()))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _log.warning("model %s: %s; going on with the shipped one", own, error)
    return Trees.of(json.loads(pathlib.Path(__file__).with_name("model.json").read_text()))


def expected(
    problem: Problem, machine: Machine, found: Sequence[tuple[str, Config, float]]
) -> Sequence[float]:
    """Expected seconds of candidates (method, config, estimate) of a problem."""
    learnt, here = trees(), _calibration.known()
    seconds = correct(problem, machine, found, learnt)
    if here is None:
        return seconds
    return [
        value * _calibration.scale(problem, method, config, cost, machine, here, learnt.calibration)
        for (method, config, cost), value in zip(found, seconds)
    ]


def correct(
    problem: Problem, machine: Machine, found: Sequence[tuple[str, Config, float]],
    trees: Trees,
) -> Sequence[float]:  # fmt: skip
    """`expected`, by the trees given."""
    known = [i for i, (method, _, _) in enumerate(found) if method in trees.solvers]
    costs = [cost for _, _, cost in found]
    if machine.isa not in trees.isas or not known:
        return costs
    of_problem = problem_features(problem)
    x = np.empty((len(known), len(FEATURES)))
    x[:, : len(of_problem)] = of_problem
    x[:, len(of_problem) :] = [candidate_features(problem, found[i][1], found[i][2]) for i in known]
    logs = trees.log_corrections(x, [trees.solvers[found[i][0]] for i in known])
    factors = dict(zip(known, np.exp(logs).tolist()))
    # what no trial is of is as far off as the others: else it would win by that alone
    others = sorted(factors.values())[len(factors) // 2]
    return [cost * factors.get(i, others) for i, cost in enumerate(costs)]
