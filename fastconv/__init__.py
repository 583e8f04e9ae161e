"""Convolutions on NumPy arrays: one engine, the fastest algorithm for each shape, remembered.

Three front ends speak the languages that are in use: `fastconv.nn` PyTorch's, `fastconv.signal`
SciPy's and `fastconv.ndimage` that of `scipy.ndimage`; `Convolver` takes a stream, chunk by chunk.
The common functions stand here as well::

    fastconv.conv2d(x, w, stride=2)       what the caller means: shapes, modes, dtypes, errors
                |
             Problem                      what is to be computed, as one line of text:
                |                           conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1
             Planner  <--  Wisdom         which algorithm: what was measured here before,
                |     <--  Solvers          else the least estimated cost within the accuracy asked
              Plan                        the algorithm bound to the shape, its weights packed
                |
              core                        C loops of this processor's instruction set, BLAS, FFT

A front end knows about users, the planner about choice, a solver about one algorithm, the core
about caches and registers. Plans are kept by shape, so that a repeated call goes from the top to
the bottom at once. `plan` holds on to one, `candidates` shows what the planner saw, `tune` and
`autotune` measure instead of estimating, and ``method=`` overrules them all.

Examples
--------
>>> import fastconv
>>> import numpy as np
>>> fastconv.convolve(np.array([1.0, 2, 3]), np.array([0, 1, 0.5]))
array([0. , 1. , 2.5, 4. , 1.5])
>>> x = np.ones((1, 3, 32, 32), np.float32)
>>> w = np.ones((8, 3, 3, 3), np.float32)
>>> fastconv.conv2d(x, w, padding=1).shape
(1, 8, 32, 32)
>>> layer = fastconv.plan(fastconv.conv2d, x, w, padding=1)
>>> np.array_equal(layer(x), fastconv.conv2d(x, w, padding=1))
True
"""

from __future__ import annotations

from fastconv import ndimage, nn, signal, stream
from fastconv._blockwise import convolve_blockwise
from fastconv._engine import Plan, candidates, plan, tune
from fastconv._match import find_delay, match_template, peak_position
from fastconv._planner import Candidate, TuningMissError, autotune
from fastconv._power import convolve_power
from fastconv._problem import Problem
from fastconv.nn import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from fastconv.signal import convolve, correlate
from fastconv.stream import Convolver

__version__: str

__all__ = [
    "Candidate",
    "Convolver",
    "Plan",
    "Problem",
    "TuningMissError",
    "autotune",
    "candidates",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolve",
    "convolve_blockwise",
    "convolve_power",
    "correlate",
    "find_delay",
    "match_template",
    "ndimage",
    "nn",
    "peak_position",
    "plan",
    "signal",
    "stream",
    "tune",
]


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when asked for: importlib.metadata takes longer than all above
        from importlib.metadata import version

        return version("fastconv")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
