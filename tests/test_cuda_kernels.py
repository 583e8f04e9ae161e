"""Every kernel of the GPU, run in the emulator on small odd problems, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from problems import PROBLEMS, arrays, check, oracle, solved, values

from fastconv._epilogue import activation_of
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Solver
from fastconv.cuda import launch
from fastconv.solvers import SOLVERS

pytest.importorskip("greenlet", reason="the emulator of GPUs needs greenlet")
from fake_gpu import execute

CUDA = [solver for solver in SOLVERS if solver.device == "cuda"]

#: Floating-point operations of a problem that the emulator, at some 2e6 a second, has time for.
MOST_FLOPS = 60_000

#: Problems for the edges of these kernels alone; the rest are those of every solver.
OWN = (
    "conv2d f32 n2 c3 h9 w13 k6 r3 s3 g3 p1 u2",
    "conv2d f32 n1 c2 h20 w5 k2 r13 s3 g2 p6,1",  # rows of a kernel in chunks, and a rest
    "conv2d f64 n1 c1 h19 w7 k1 r16 s4 p3,0 l1,2 wrap",  # whole chunks alone
    "conv2d f32 n1 c1 h12 w11 k2 r9 s2 p9:4,1 u2,1 l2,1",
    "conv1d f32 n2 c3 w37 k3 s31 g3 p30:0",
    "conv2d f32 n1 c6 h5 w6 k9 r3 s3 g3 p1 x:f16 w:f16 y:f16",
    "conv2d f32 n1 c2 h7 w6 k2 r5 s5 g2 p2 u2 x:bf16 w:bf16 y:bf16",
    "conv1d f32 n1 c4 w40 k4 s7 g4 p3 reflect x:f16 w:f16 y:f16",
)


def on_gpu(text: str) -> Problem:
    return Problem.parse(text).replace(device="cuda", threads=1)


def cases() -> list[Any]:
    found = []
    for solver in CUDA:
        for text in dict.fromkeys((*OWN, *PROBLEMS)):
            problem = on_gpu(text)
            if problem.flops <= MOST_FLOPS and solver.why_not(problem) is None:
                found.append(pytest.param(solver, text, id=f"{solver.name}-{text}"))
    return found


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("solver, text", cases())
def test_published_bound(solver: Solver, text: str) -> None:
    problem = on_gpu(text)
    x, w, _ = arrays(Problem.parse(text))
    configs = solver.configs(problem, launch.gpu())  # type: ignore[arg-type]
    for config in configs if problem.flops < MOST_FLOPS // 8 else configs[:1]:
        y = execute(solver, problem, config, x, w)
        bound = solver.error_bound(problem, config)
        check(problem, y, solved(text), bound, None, f"{solver.name} {config}")


@pytest.mark.parametrize("solver", CUDA, ids=lambda s: s.name)
def test_accepts_enough(solver: Solver) -> None:
    assert sum(solver is case.values[0] for case in cases()) >= 10


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("solver", CUDA, ids=lambda s: s.name)
@pytest.mark.parametrize("activation", [None, "relu", "relu6", ("clamp", -1, 0.5), "silu", "gelu"])
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16"])
def test_bias_residual_and_activation(solver: Solver, activation: Any, dtype: str) -> None:
    """In the kernel, one rounding each; silu and gelu add 6 units in the last place at most."""
    kept = "" if dtype != "f16" else " x:f16 w:f16 y:f16"
    wide = "f64" if dtype == "f64" else "f32"
    text = f"conv2d {wide} n2 c4 h5 w6 k4 r3 s3 g2 p1{kept}"
    problem = on_gpu(text)
    if (reason := solver.why_not(problem)) is not None:
        pytest.skip(reason)
    x, w, bias = arrays(Problem.parse(text))
    rng = np.random.default_rng(3)
    bias = bias.astype(x.dtype)
    residual = values(rng, problem.y_dtype, problem.y_shape)
    sums, s = oracle(problem, x, w, bias)
    z = sums + residual
    if activation in ("silu", "gelu"):
        import math

        flat = [float(v) for v in z.ravel()]
        if activation == "silu":
            right = [v / (1 + math.exp(-v)) for v in flat]
        else:
            right = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in flat]
        expected = np.array(right).reshape(z.shape)
    else:
        low, high = {None: (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}.get(
            activation, (-1, 0.5)
        )
        expected = np.clip(z, low, high)
    config = solver.configs(problem, launch.gpu())[0]  # type: ignore[arg-type]
    y = execute(solver, problem, config, x, w, bias, residual, activation_of(activation, x.dtype))
    eps = float(np.finfo(numpy_dtype(problem.dtype)).eps)
    kept_eps = float(np.finfo(numpy_dtype(problem.y_dtype)).eps)
    # no activation is steeper than 1.13, gelu's largest slope
    bound = 1.13 * (solver.error_bound(problem, config) + eps) * (s + abs(residual)) + eps
    bound += (6 * eps + kept_eps) * abs(expected)
    assert (abs(y.astype(z.dtype) - expected) <= bound).all()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("solver", CUDA, ids=lambda s: s.name)
def test_non_finite_samples_stay_in_their_windows(solver: Solver) -> None:
    text = "conv2d f32 n2 c2 h7 w9 k3 r3 s3 p1"
    problem = on_gpu(text)
    if (reason := solver.why_not(problem)) is not None:
        pytest.skip(reason)
    x, w, _ = arrays(problem)
    x = x.copy()
    x[0, 1, 2, 3], x[1, 0, 6, 8], x[1, 1, 0, 4] = np.nan, np.inf, -np.inf
    for config in solver.configs(problem, launch.gpu()):  # type: ignore[arg-type]
        y = execute(solver, problem, config, x, w)
        check(problem, y, oracle(problem, x, w), solver.error_bound(problem, config))
