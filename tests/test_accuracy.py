"""What the levels of accuracy promise, on data made to break them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MIXING, PROBLEMS, Array, check, mixed_magnitude, oracle
from strategies import FLOATS, KINDS, cases, options, problems, special

from fastconv._accuracy import SUM_BLOCK, allowed_error, blocked_sum_bound, epsilon
from fastconv._engine import run
from fastconv._machine import this_machine
from fastconv._problem import ACCURACIES, Problem
from fastconv.solvers import SOLVERS

SIGNAL = "conv1d f64 n1 c1 w800 k1 s300 p299 flip"


def test_epsilon() -> None:
    for dtype, eps in {"f32": 2.0**-23, "c64": 2.0**-23, "f64": 2.0**-52, "c128": 2.0**-52,
                       "i8": 0, "u64": 0, "bool": 0}.items():  # fmt: skip
        assert epsilon(Problem.parse(f"conv1d {dtype} n1 c1 w9 k1 s3")) == eps


def test_bound_of_a_blocked_sum() -> None:
    """(block + number of blocks) * eps / 2, of twice the products for complex."""

    def bound(dtype: str, taps: int) -> float:
        return blocked_sum_bound(Problem.parse(f"conv1d {dtype} n1 c1 w{taps} k1 s{taps}"))

    assert SUM_BLOCK == 512
    assert bound("f32", 1) == 2 * 2.0**-24
    assert bound("f32", 512) == 513 * 2.0**-24
    assert bound("f32", 513) == 514 * 2.0**-24
    assert bound("f64", 5120) == 522 * 2.0**-53
    assert bound("c64", 100) == 201 * 2.0**-24
    assert bound("i32", 100) == 0


@pytest.mark.parametrize("text", PROBLEMS)
def test_levels(text: str) -> None:
    strict, balanced, fast = (
        allowed_error(Problem.parse(text).replace(accuracy=a)) for a in ACCURACIES
    )
    problem = Problem.parse(text)
    assert strict == 2 * blocked_sum_bound(problem)
    if problem.is_exact:
        assert strict == balanced == fast == 0
    else:
        assert strict <= balanced <= fast
        assert balanced >= 32 * epsilon(problem) and fast >= 2.0**-10
        assert balanced <= max(strict, 16 * 64 * epsilon(problem))


#: Whose sums are blocked ones, which `strict` is defined by.
BLOCKED = ("naive", "direct", "implicit_gemm", "panels", "im2col", "col2im")


@given(problem=problems())
def test_no_published_bound_is_over_what_is_admitted(problem: Problem) -> None:
    """Blocked sums are what strict is defined by; exact results are exact by every method."""
    for solver in SOLVERS:
        if solver.why_not(problem) is None:
            for config in solver.configs(problem, this_machine()):
                bound = solver.error_bound(problem, config)
                if problem.is_exact:
                    assert bound == 0, solver.name
                elif solver.name in BLOCKED:
                    assert bound <= allowed_error(problem.replace(accuracy="strict")), solver.name


def solve(problem: Problem, x: Array, w: Array, **more: Any) -> Array:
    return run(x, w, **{**options(problem), **more})


@given(case=cases(problems(dtypes=FLOATS)), accuracy=st.sampled_from(ACCURACIES))
@settings(max_examples=200)
def test_each_level_keeps_its_promise(case: tuple[Problem, Array, Array], accuracy: str) -> None:
    problem, x, w = case
    problem = problem.replace(accuracy=accuracy)
    mixed = None if accuracy == "strict" else mixed_magnitude(problem, x, w)
    check(problem, solve(problem, x, w), oracle(problem, x, w), allowed_error(problem), mixed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["auto", *MIXING])
@pytest.mark.parametrize("text", [SIGNAL, "conv2d f32 n1 c16 h28 w29 k16 r3 s3 p1"])
def test_fourier_and_winograd_on_hard_data(text: str, method: str, kind: str) -> None:
    """The bound against B, and never an output without a correct digit against its own S."""
    problem = Problem.parse(text)
    rng = np.random.default_rng(3)
    x, w = special(rng, kind, problem.dtype, problem.x_shape), rng.standard_normal(problem.w_shape)
    w = w.astype(x.dtype)
    try:
        y = solve(problem, x, w, method=method)
    except ValueError as error:
        pytest.skip(str(error))
    check(problem, y, oracle(problem, x, w), allowed_error(problem), mixed_magnitude(problem, x, w))


@pytest.mark.parametrize("method", ["auto", "fft", "overlap_save"])
def test_large_values_do_not_destroy_small_ones(method: str) -> None:
    """A Fourier transform of 1e100 beside 1.0 leaves nothing of the 1.0: it must be seen to."""
    x = np.ones((1, 1, 4000))
    x[..., 1900:2000] = 1e100
    w = np.ones((1, 1, 500)) / 500
    y = run(x, w, method=method, boundary="reflect", padding=((250, 249),))
    assert np.abs(y[..., :1600] - 1).max() < 1e-12
    assert np.abs(y[..., 2300:] - 1).max() < 1e-12
    assert np.abs(y[..., 2000] - 1e100 / 5).max() < 1e87 * 5


@pytest.mark.parametrize("method", ["auto", "fft", "overlap_save"])
def test_non_negative_stays_so(method: str) -> None:
    """Distributions are multiplied and their tails kept, down to 1e-300."""
    x = np.exp(-np.linspace(0, 650, 2000))[None, None]
    w = np.exp(-np.linspace(0, 650, 2000)[::-1])[None, None]
    y = run(x, w, method=method, flip=True, padding=((1999, 1999),))
    right, s = oracle(Problem.parse("conv1d f64 n1 c1 w2000 k1 s2000 p1999 flip"), x, w)
    assert (y >= 0).all()
    assert (abs(y - right) <= 0.5 * s).all()


@pytest.mark.parametrize("accuracy", ACCURACIES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_sample_reaches_its_windows_only(accuracy: str, value: float) -> None:
    x, w = np.random.default_rng(0).random((1, 1, 5000)), np.ones((1, 1, 200))
    x[0, 0, 2500] = value
    for method in ("auto", "fft", "overlap_save", "direct"):
        try:
            y = run(x, w, method=method, accuracy=accuracy)[0, 0]
        except ValueError:
            assert accuracy == "strict" and method in MIXING
            continue
        touched = np.zeros(y.size, bool)
        touched[2500 - 199 : 2501] = True
        np.testing.assert_array_equal(np.isfinite(y), ~touched)
        np.testing.assert_array_equal(y[touched], np.full(200, value))


@pytest.mark.parametrize("accuracy", ACCURACIES)
def test_integers_are_exact_beyond_2_53(accuracy: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**62), 2**62, (1, 1, 3000))
    w = rng.integers(-(2**62), 2**62, (1, 1, 200))
    y = run(x, w, accuracy=accuracy)
    right, _ = oracle(Problem.parse("conv1d i64 n1 c1 w3000 k1 s200"), x, w)
    np.testing.assert_array_equal(y, right)


def test_long_sums_of_single_precision() -> None:
    """A running float32 sum of 2**20 ones and a bit loses the bit; blocks of 512 do not."""
    taps = 2**20
    x, w = np.full((1, 1, taps), 1.1, "f4"), np.ones((1, 1, taps), "f4")
    for method in ("naive", "direct", "implicit_gemm", "im2col"):
        y = float(run(x, w, method=method)[0, 0, 0])
        exact = math.fsum([float(np.float32(1.1))] * taps)
        assert abs(y - exact) <= blocked_sum_bound(
            Problem.parse(f"conv1d f32 n1 c1 w{taps} k1 s{taps}")
        ) * exact  # fmt: skip


def test_half_precision_is_summed_in_single() -> None:
    """2049 ones: a float16 running sum stops at 2048."""
    x = np.ones((1, 1, 2050), "f2")
    for method in ("naive", "direct", "implicit_gemm", "im2col", "auto"):
        y = run(x, np.ones((1, 1, 2049), "f2"), method=method, out_dtype="f4")
        np.testing.assert_array_equal(y, [[[2049, 2049]]])


@pytest.mark.parametrize("channels", [256, 2048])
@pytest.mark.parametrize("method", ["winograd", "fft"])
def test_sums_over_many_channels_of_one_sign(method: str, channels: int) -> None:
    """Roundings of one sign add up: a bound that knows nothing of the channels is not one."""
    problem = Problem.parse(f"conv2d f32 n1 c{channels} h12 w12 k8 r3 s3")
    solver, machine = {s.name: s for s in SOLVERS}[method], this_machine()
    for value in (1 / 3, 0.95):
        x = np.full(problem.x_shape, value, "f4")
        w = np.full(problem.w_shape, value, "f4")
        exact = float(x[0, 0, 0, 0]) * float(w[0, 0, 0, 0]) * problem.taps  # also B
        for config in solver.configs(problem, machine):
            y = run(x, w, method=method, config=config)
            error = abs(y - exact).max()
            assert error <= solver.error_bound(problem, config) * exact, (config, error / exact)


def test_cancelling_kernels_over_nearly_constant_data() -> None:
    """Of what a Laplacian leaves, nothing may be all error: S is large, the output is not."""
    rng = np.random.default_rng(0)
    w = np.tile(np.float32([[0, 1, 0], [1, -4, 1], [0, 1, 0]]), (8, 256, 1, 1))
    for m, size in ((2, 28), (4, 28), (3, 11)):
        x = (1 / 3 + 2e-5 * rng.standard_normal((1, 256, size, size))).astype("f4")
        y, s = oracle(Problem.parse(f"conv2d f32 n1 c256 h{size} w{size} k8 r3 s3"), x, w)
        config = {"isa": this_machine().isa, "m": m, "cache_bytes": this_machine().l2 // 2}
        assert (abs(run(x, w, method="winograd", config=config) - y) <= s / 10).all()


def test_finite_results_of_huge_data_are_finite() -> None:
    """Winograd's transforms add up to 100 of the samples: they may overflow where sums do not."""
    rng = np.random.default_rng(0)
    problem = Problem.parse("conv2d f32 n1 c4 h44 w44 k4 r3 s3")  # more tiles than a block
    mixed = rng.standard_normal(problem.x_shape).clip(-3, 3)
    for x, w in (
        (mixed, rng.standard_normal(problem.w_shape)),
        (np.full(problem.x_shape, 1.0), np.ones(problem.w_shape)),  # every output of a tile alike
    ):
        x, w = (1e38 * x).astype("f4"), (1e-3 * w).astype("f4")
        y, s = oracle(problem, x, w)
        for solver in (s for s in SOLVERS if s.why_not(problem) is None):
            for config in solver.configs(problem, this_machine()):
                got = run(x, w, method=solver.name, config=config).astype("f8")
                assert np.isfinite(got).all(), (solver.name, config)
                assert (abs(got - y) <= s / 10).all(), (solver.name, config)
