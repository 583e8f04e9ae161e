"""What the planner expects of a candidate: a solver's estimate, scaled and corrected.

    seconds = cost(problem, config, machine) * scale(solver, machine) * exp(sum of trees(features))

The estimate is the solver's own. The scale says how this machine differs from the one that the
solvers' constants were measured on, and is 1 until `fastconv calibrate` has run
(`_calibration.py`). The trees are fitted to log(time / estimate) of recorded trials
(`_training.py`), of each instruction set its own; they are symmetric: all nodes of a level ask the
same question, so that the answers are the bits of a leaf's number (Prokhorenkova et al., CatBoost,
NeurIPS 2018); `_ext/trees.pxi` walks them. Machines whose instruction set no
trial was recorded with are not corrected at all: there every candidate has the solver's estimate,
and no choice is made worse by trees that never saw its like.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv import _calibration
from fastconv._calibration import Calibration
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._problem import Problem
from fastconv._solver import Config

_log = logging.getLogger("fastconv")

Floats = npt.NDArray[np.float64]

#: "version" of the file: what it holds, and what features mean.
VERSION = 2

FEATURES = core.PROBLEM_FEATURES + core.CANDIDATE_FEATURES


class Trees(NamedTuple):
    """The trees of all solvers, of one shape; leaves of those that a solver lacks are 0."""

    solvers: dict[str, int]
    levels: int
    forest: core.Forest
    trained: str
    #: Of the machine that the trials were recorded on.
    calibration: Calibration | None

    @classmethod
    def of(cls, found: Any) -> Trees:
        """From a part of the file; ValueError, KeyError or TypeError for anything else."""
        names = sorted(found["solvers"])
        levels = int(found["levels"])
        most = max((len(found["solvers"][name]) for name in names), default=0)
        feature = np.zeros((len(names), levels, most), np.int32)
        threshold = np.zeros((len(names), levels, most))
        leaves = np.zeros((len(names), most, 2**levels))
        for s, name in enumerate(names):
            for t, (features, thresholds, values) in enumerate(found["solvers"][name]):
                feature[s, :, t], threshold[s, :, t], leaves[s, t] = features, thresholds, values
        if not (np.isfinite(leaves).all() and 0 <= feature.min(initial=0)):
            raise ValueError("a leaf is not finite, or a feature unknown")
        if feature.max(initial=0) >= len(FEATURES):
            raise ValueError("a feature is unknown")
        return cls(
            {name: s for s, name in enumerate(names)}, levels,
            core.Forest(feature, threshold, leaves), str(found.get("trained", "")),
            Calibration.of(found["calibration"]) if found.get("calibration") else None,
        )  # fmt: skip


#: Trees by instruction set.
Model = Mapping[str, Trees]


def read(found: Any) -> Model:
    """From the file's JSON; ValueError, KeyError or TypeError for anything else."""
    if found["version"] != VERSION or tuple(found["features"]) != FEATURES:
        raise ValueError("its features are not those of this version")
    return {str(isa): Trees.of(part) for isa, part in dict(found["isas"]).items()}


def own_path() -> pathlib.Path | None:
    """Where `fastconv train` puts what it has learnt here; None where there is no such place."""
    return _calibration.beside_wisdom("model.json")


@functools.cache
def model() -> Model:
    """What `fastconv train` has learnt on this machine, else what is shipped; read once."""
    own = own_path()
    if own is not None and os.path.lexists(own):
        try:
            return read(json.loads(own.read_text()))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _log.warning("model %s: %s; going on with the shipped one", own, error)
    return read(json.loads(pathlib.Path(__file__).with_name("model.json").read_text()))


def expected(
    problem: Problem, machine: Machine, found: Sequence[tuple[str, Config, float]]
) -> Sequence[float]:
    """Expected seconds of candidates (method, config, estimate) of a problem."""
    learnt, here = model(), _calibration.known()
    seconds = correct(problem, machine, found, learnt)
    if here is None:
        return seconds
    there = learnt[machine.isa].calibration if machine.isa in learnt else None
    return [
        value * _calibration.scale(problem, method, config, cost, machine, here, there)
        for (method, config, cost), value in zip(found, seconds)
    ]


def correct(
    problem: Problem, machine: Machine, found: Sequence[tuple[str, Config, float]],
    model: Model,
) -> Sequence[float]:  # fmt: skip
    """`expected`, by the model given."""
    trees = model.get(machine.isa)
    if trees is None:
        return [cost for *_, cost in found]
    return trees.forest.expected(problem, found, trees.solvers)
