"""Bits that repeat: from run to run, from thread count to thread count; and subnormal numbers."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import CPU, Array, arrays
from strategies import FLOATS, cases
from strategies import problems as random_problems

import fastconv
from fastconv import _planner
from fastconv._engine import run
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config, Solver

pytestmark = pytest.mark.usefixtures("every_thread", "fresh_plans")

THREADS = (1, 2, 3, 5)
RNG = np.random.default_rng(0)

TEXTS = (
    "conv2d f32 n1 c16 h20 w21 k16 r3 s3 p1", "conv2d f64 n3 c9 h9 w9 k7 r3 s3",
    "conv1d f32 n1 c1 w3000 k1 s65 p64 flip", "conv1d f64 n1 c1 w4096 k1 s1001 p1000 flip",
    "conv1d f64 n1 c3 w5000 k4 s400",
    "conv2d f32 n1 c24 h14 w15 k24 r3 s3 g24 p1", "conv2d f32 n1 c640 h3 w3 k24 r1 s1",
    "conv2d f32 n2 c33 h24 w25 k20 r5 s5 p2", "conv2d c64 n1 c5 h20 w11 k7 r3 s3 p1",
    "conv2d f32 n2 c5 h9 w8 k6 r3 s3 p2 e2 flip", "conv2d f32 n1 c4 h60 w61 k4 r13 s13 p6 reflect",
    "conv1d f64 n1 c1 w3000 k1 s2000 p1999 flip strict nonnegative",
    "conv2d f32 n1 c33 h24 w25 k20 r3 s3 p1", "conv2d f32 n40 c3 h6 w7 k35 r6 s7 p1",
)  # fmt: skip

#: Of a solver that takes integers alone.
INTEGERS = (
    "conv1d i32 n1 c1 w3000 k1 s1000 p30", "conv2d i16 n2 c5 h40 w41 k9 r3 s3 p1",
    "conv2d i32 n2 c5 h40 w41 k9 r3 s3 p1 x:u8 w:i8 y:u8",
    "conv2d i32 n2 c37 h40 w41 k9 r3 s3 p1 x:u8 w:i8",
)  # fmt: skip


def execute(
    solver: Solver, problem: Problem, config: Config, x: Array, w: Array, bias: Array
) -> Array:
    plan = solver.plan(problem, config, this_machine())
    y = np.empty(problem.y_shape, numpy_dtype(problem.y_dtype))
    plan(x, plan.pack_stored(w), bias, y)
    return y


def same_on_any_threads(solver: Solver, problem: Problem, x: Array, w: Array) -> bool:
    if solver.why_not(problem) is not None:
        return False
    bias = arrays(problem)[2]
    problem = problem.replace(deterministic=True)
    for config in solver.configs(problem, this_machine()):
        results = [
            execute(solver, problem.replace(threads=t), config, x, w, bias).tobytes()
            for t in (*THREADS, 3)
        ]
        assert len(set(results)) == 1, f"{solver.name} {config} {problem}"
    return True


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
def test_deterministic(solver: Solver) -> None:
    problems = map(Problem.parse, TEXTS + INTEGERS)
    tried = [same_on_any_threads(solver, p, *arrays(p)[:2]) for p in problems]
    assert any(tried)


@given(case=cases(random_problems(dtypes=FLOATS)), solver=st.sampled_from(CPU))
@settings(max_examples=150)
def test_deterministic_at_random(case: tuple[Problem, Array, Array], solver: Solver) -> None:
    problem, x, w = case
    if problem.y_dtype == problem.x_dtype:
        same_on_any_threads(solver, problem, x, w)


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
@pytest.mark.parametrize("threads", THREADS)
def test_the_same_from_run_to_run(solver: Solver, threads: int) -> None:
    """On a fixed number of threads nothing need be asked for."""
    for text in TEXTS:
        problem = Problem.parse(text).replace(threads=threads)
        if solver.why_not(problem) is None:
            x, w, bias = arrays(problem)
            config = solver.configs(problem, this_machine())[0]
            runs = {execute(solver, problem, config, x, w, bias).tobytes() for _ in range(4)}
            assert len(runs) == 1, f"{solver.name} {problem}"


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_chosen_depends_on_the_problem_alone(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither threads, nor what was measured, nor the memory that is free."""
    problem = Problem.parse(text).replace(deterministic=True)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("wisdom was asked, or something timed")

    monkeypatch.setattr(_planner._wisdom, "lookup", never)
    monkeypatch.setattr(_planner, "tune", never)
    found = set()
    for free in (1 << 20, 1 << 40):
        monkeypatch.setattr(_planner, "free_memory", lambda free=free: free)
        for threads in THREADS:
            for mode in ("off", "cached", "measure"):
                with fastconv.autotune(mode):
                    plan = _planner.choose(problem.replace(threads=threads)).plan
                assert plan.problem.threads == threads
                found.add((plan.solver.name, *plan.config.items()))
    assert len(found) == 1
    for name in ("im2col", "direct"):
        forced = {
            tuple(_planner.choose(problem.replace(threads=t), method=name).plan.config.items())
            for t in THREADS
        }
        assert len(forced) == 1


def test_an_explicit_limit_still_holds() -> None:
    problem = Problem.parse(TEXTS[0]).replace(deterministic=True)
    with pytest.raises(ValueError, match="no method can solve"):
        _planner.choose(problem, workspace_limit=1)


def test_front_ends() -> None:
    x, w = RNG.standard_normal((2, 6, 30, 31)), RNG.standard_normal((8, 6, 3, 3))
    image, taps = RNG.standard_normal((60, 61)), RNG.standard_normal(9)
    for call in (
        lambda **o: fastconv.conv2d(x, w, padding=1, **o),
        lambda **o: fastconv.plan(fastconv.conv2d, x, w, padding=1, **o)(x),
        lambda **o: fastconv.nn.conv2d_weight(x, w.shape, x[:, :1, 2:, 2:].repeat(8, 1), **o),
        lambda **o: fastconv.conv_transpose2d(x, w.swapaxes(0, 1), stride=2, **o),
        lambda **o: fastconv.convolve(image.ravel(), taps, **o),
        lambda **o: fastconv.signal.convolve2d(image, taps.reshape(3, 3), **o),
        lambda **o: fastconv.signal.fftconvolve(image, image[:20, :20], **o),
        lambda **o: fastconv.signal.upfirdn(taps, image, 2, 3, **o),
        lambda **o: fastconv.ndimage.gaussian_filter(image, 2.0, **o),
        lambda **o: fastconv.ndimage.correlate(image, taps.reshape(3, 3), **o),
    ):
        results = {call(threads=t, deterministic=True).tobytes() for t in THREADS}
        assert len(results) == 1
        call(flush_denormals=True)
    plan = fastconv.plan(fastconv.conv2d, x, w, deterministic=True)
    assert str(plan.problems[0]).endswith(" deterministic")
    assert Problem.parse(str(plan.problems[0])) == plan.problems[0]


# ---- subnormal numbers ---------------------------------------------------------------------------


def tiny(problem: Problem) -> tuple[Array, Array]:
    """Data of subnormal numbers, and weights of ones: sums stay subnormal or nearly so."""
    x, w, _ = arrays(problem)
    info = np.finfo(x.dtype)
    whole = np.rint(4 * x.real) + 8
    return (whole * info.smallest_subnormal * 64).astype(x.dtype), np.ones_like(w)


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
@pytest.mark.parametrize("threads", (1, 3))
def test_subnormal_numbers_keep_their_value(solver: Solver, threads: int) -> None:
    """Unless asked not to; and the caller's mode is as it was in either case."""
    for text in TEXTS:
        problem = Problem.parse(text).replace(threads=threads)
        if solver.why_not(problem) is not None:
            continue
        if solver.name == "naive" and problem.flops > 2_000_000:  # at some 100 cycles each
            continue
        x, w = tiny(problem)
        scale = x.dtype.type(2.0) ** (100 if problem.dtype in ("f32", "c64") else 1000)
        config = solver.configs(problem, this_machine())[0]
        plan = solver.plan(problem, config, this_machine())
        packed = plan.pack_stored(w)
        y, scaled, flushed = (np.full(problem.y_shape, 7, x.dtype) for _ in range(3))
        plan(x, packed, None, y)
        plan(x * scale, packed, None, scaled)
        # a rounding of each product, which Winograd's transforms amplify 204 times at most
        least = np.finfo(x.dtype).smallest_subnormal * scale * problem.taps
        least *= 204 if solver.name == "winograd" else 1
        bound = solver.error_bound(problem, config) * abs(scaled).max() + least
        assert abs(y).min() > 0 and (abs(y * scale - scaled) <= bound).all(), text
        plan(x, packed, None, flushed, flush=True)
        # naive's sums of float64 are long doubles, which the x87 unit does not flush
        if solver.name != "naive" or x.real.itemsize == 4:
            assert not flushed.any(), f"{solver.name} {text}"
        assert not core.flushes()
        plan(x, packed, None, flushed)
        np.testing.assert_array_equal(flushed, y)


@pytest.mark.parametrize("method", ["direct", "im2col", "fft", "naive"])
def test_flushing_is_the_call_s_alone(method: str) -> None:
    x = np.full((1, 4, 30, 30), 1e-40, "f4")
    w = np.ones((4, 4, 3, 3), "f4")

    def both() -> None:
        for threads in (1, 3):
            kept = run(x, w, method=method, threads=threads)
            assert kept.all()
            assert not run(x, w, method=method, threads=threads, flush_denormals=True).any()
            np.testing.assert_array_equal(run(x, w, method=method, threads=threads), kept)
            assert not core.flushes() and np.float32(1e-40) * np.float32(1) != 0

    both()
    plan = fastconv.plan(fastconv.conv2d, x, w, method=method, flush_denormals=True)
    for _ in range(3):
        assert not plan(x).any()
        both()
    other = threading.Thread(target=both)  # the pool's threads have worked for both kinds of call
    other.start()
    other.join()


def test_the_mode_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        assert core.flushes()
        raise RuntimeError("on purpose")

    problem = Problem.parse("conv1d f32 n1 c1 w9 k1 s3")
    plan = _planner.choose(problem, method="direct").plan
    monkeypatch.setattr(type(plan), "execute", fail)
    x, w, _ = arrays(problem)
    with pytest.raises(RuntimeError, match="on purpose"):
        plan(x, plan.pack_stored(w), None, np.empty(problem.y_shape, "f4"), flush=True)
    assert not core.flushes()
    core.flush(1)
    both = core.flushes()
    core.flush(both & 0x8000 or both)  # of x86, only one of the two
    mode = core.flushes()
    assert mode
    try:
        with pytest.raises(RuntimeError, match="on purpose"):
            plan(x, plan.pack_stored(w), None, np.empty(problem.y_shape, "f4"), flush=True)
        assert core.flushes() == mode  # as the caller had it
    finally:
        core.flush(0)
    assert not core.flushes()
