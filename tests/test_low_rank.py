"""Kernels that are sums of a few outer products: which are seen, and what is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from problems import Array, check, in_layout, mixed_magnitude, oracle

import fastconv
from fastconv import ndimage
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import BOUNDARIES, MOST_TERMS, Problem
from fastconv.solvers import BY_NAME

RNG = np.random.default_rng(5)
SEPARABLE = BY_NAME["separable"]


def gaussian(size: int, sigma: float) -> Array:
    u = np.arange(size) - (size - 1) / 2
    g = np.exp(-0.5 * (u / sigma) ** 2)
    return g / g.sum()


def difference(rows: int = 15, columns: int = 15, dtype: str = "f4") -> Array:
    """A difference of Gaussians, of rank 2."""
    narrow = np.outer(gaussian(rows, 1.5), gaussian(columns, 1.4))
    wide = np.outer(gaussian(rows, 3.1), gaussian(columns, 2.9))
    return (narrow - wide).astype(dtype)


def positive(terms: int, rows: int = 9, columns: int = 11, dtype: str = "f4") -> Array:
    u, v = RNG.uniform(0.1, 1, (terms, rows)), RNG.uniform(0.1, 1, (terms, columns))
    return np.einsum("ti,tj->ij", u, v).astype(dtype)


def terms(w: Array, dropping: bool = False) -> int:
    return core.low_rank(w[None, None], dropping)


def solve(problem: Problem, x: Array, w: Array) -> Array:
    machine = this_machine()
    plan = SEPARABLE.plan(problem, SEPARABLE.configs(problem, machine)[0], machine)
    y = np.empty(problem.y_shape, x.dtype)
    plan(x, plan.pack_stored(w), None, y)
    return y


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_of_a_few_products_are_seen(dtype: str) -> None:
    assert terms(difference(dtype=dtype)) == 2
    assert terms(difference(31, 9, dtype=dtype)[::-1].T) == 2
    assert terms(difference(dtype=dtype)[:, None, :, None]) == 2
    for count in range(2, MOST_TERMS + 1):
        assert terms(positive(count, dtype=dtype)) == count
    assert terms(positive(MOST_TERMS + 1, dtype=dtype)) == 0
    assert terms(RNG.standard_normal((9, 9)).astype(dtype)) == 0
    assert terms(np.zeros((9, 9), dtype)) == 0
    assert terms(np.full((9, 9), np.nan, dtype)) == 0
    assert terms(np.multiply.outer(positive(2, dtype=dtype), np.array([1, 2], dtype))) == 0


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_rounding_does_not_explain_is_not_left_out(dtype: str) -> None:
    w = positive(3, dtype=dtype)
    for where in ((0, 0), (4, 7), (8, 10)):
        off = w.copy()
        off[where] *= 1 + 200 * np.finfo(dtype).eps
        assert terms(off) != 3
        assert terms(off, dropping=True) in (2, 3)


def test_terms_that_cancel_are_refused() -> None:
    ones, slope = np.ones(9), np.linspace(1, 2, 9)
    assert terms(np.outer(slope, ones) + np.outer(ones, slope)) == 2
    turned = np.outer(slope, ones) - np.outer(ones, slope)  # of rank 2, and 0 on the diagonal
    assert terms(turned.astype("f4")) == 0
    w = difference()
    w[3, 3] = 0  # what is there now is not a sum of two products
    assert terms(w) == 0


def test_every_filter_has_as_many() -> None:
    w = np.stack([positive(2), positive(2), positive(3)])[:, None]
    assert core.low_rank(w[:2], False) == 2 and core.low_rank(w, False) == 0


TEXTS = [
    "conv2d f32 n1 c1 h40 w75 k1 r15 s15 p7 {} rank2",
    "conv2d f64 n2 c2 h33 w50 k2 r9 s5 g2 p4,2 {} rank2",
    "conv2d f32 n1 c1 h31 w41 k1 r7 s13 p3:2,5:9 u2,1 l2,2 {} rank2",
    "conv2d f32 n1 c1 h50 w61 k1 r15 s15 p7 {} strided rank2 threads3",
    "conv3d f32 n1 c1 d30 h33 w3 k1 t9 r15 s1 p4,7,0 {} rank2",
    "conv3d f64 n1 c1 d3 h20 w33 k1 t1 r9 s9 p0,4,4 {} rank2",
    "conv2d f32 n1 c1 h6 w7 k1 r15 s9 p14,11 {} rank2",
]


def made(text: str, boundary: str) -> tuple[Problem, Array, Array]:
    word = {"zeros": "", "constant": "constant=-1.5"}.get(boundary, boundary)
    problem = Problem.parse(" ".join(text.format(word).split()))
    shape = [r for r in problem.kernel if r > 1]
    w = np.stack([difference(*shape, dtype="f8") * (k + 1) for k in range(problem.filters)])
    dtype = "f4" if problem.dtype == "f32" else "f8"
    w = w.reshape(problem.w_shape).astype(dtype)
    x = in_layout(RNG.standard_normal(problem.x_shape).astype(dtype), problem.layout)
    assert core.low_rank(w, False) == 2
    return problem, x, w


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("text", TEXTS)
def test_errors_stay_within_the_bound(text: str, boundary: str) -> None:
    problem, x, w = made(text, boundary)
    if SEPARABLE.why_not(problem):
        pytest.fail(f"{problem}: {SEPARABLE.why_not(problem)}")
    bound = SEPARABLE.error_bound(problem, {})
    for scale in (1, 1e-36, 1e36) if problem.dtype == "f32" else (1,):
        data = x * x.dtype.type(scale)
        y = solve(problem, data, w)
        check(problem, y, oracle(problem, data, w), bound, mixed_magnitude(problem, data, w))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("text", TEXTS)
def test_nan_and_inf_stay_what_they_are_where_they_are(text: str, boundary: str) -> None:
    """Terms of both signs would make NaN of Inf."""
    problem, x, w = made(text, boundary)
    x = in_layout(x.copy(), problem.layout)
    x[..., x.shape[-2] // 2, x.shape[-1] // 2] = np.inf
    x[..., 0, -1] = np.nan
    y = solve(problem, x, w)
    right, s = oracle(problem, x, w)
    assert np.isinf(s).any() or np.isnan(s).any()
    bound = SEPARABLE.error_bound(problem, {})
    check(problem, y, (right, s), bound, mixed_magnitude(problem, x, w))


def test_outputs_keep_digits_of_their_own() -> None:
    """B is of the whole window; a sample that is alone leaves its weight to three digits."""
    w = difference()
    x = np.zeros((41, 41), "f4")
    x[20, 20] = 1
    y = ndimage.correlate(x, w, method="separable", mode="constant")
    own = y[20 - 7 : 20 + 8, 20 - 7 : 20 + 8][::-1, ::-1]
    assert (abs(own - w) <= 2.0**-10 * abs(w)).all() and np.count_nonzero(y) == np.count_nonzero(w)


def test_a_part_is_left_out_only_when_asked_to_be_fast() -> None:
    w = difference(dtype="f8")
    w += 1e-5 * abs(w) * RNG.standard_normal(w.shape)
    w = w.astype("f4")
    assert terms(w) == 0 and terms(w, dropping=True) == 2
    x = RNG.standard_normal((300, 301)).astype("f4")
    plans = {
        a: fastconv.plan(ndimage.correlate, x, w, accuracy=a, threads=1)
        for a in ("balanced", "fast")
    }
    assert {a: plan.problems[0].rank for a, plan in plans.items()} == {"balanced": 0, "fast": 2}
    problem = plans["fast"].problems[0]
    bound = SEPARABLE.error_bound(problem, {})
    assert bound <= 2.0**-10
    y = ndimage.correlate(x, w, accuracy="fast", method="separable")
    data, filters = x[None, None], w[None, None]
    check(problem, y[None, None], oracle(problem, data, filters), bound,
          mixed_magnitude(problem, data, filters))  # fmt: skip
    with pytest.raises(ValueError, match="outer product"):
        ndimage.correlate(x, w, method="separable")


def test_the_planner_takes_passes_that_cost_less(estimates: None) -> None:
    x: Any = ((1080, 1920), "f4")
    plan = fastconv.plan(ndimage.correlate, x, difference(), threads=1)
    assert (plan.problems[0].rank, plan.method) == (2, "separable")
    plan = fastconv.plan(
        ndimage.correlate, x, RNG.standard_normal((15, 15)).astype("f4"), threads=1
    )
    assert plan.problems[0].rank == 0 and plan.method != "separable"
    plan = fastconv.plan(ndimage.correlate, x, difference(), threads=1, accuracy="strict")
    assert plan.problems[0].rank == 0


def test_other_weights_of_the_same_shape_are_solved_all_the_same() -> None:
    problem, x, _ = made(TEXTS[0], "reflect")
    w = RNG.standard_normal(problem.w_shape).astype("f4")
    y = solve(problem, x, w)
    check(problem, y, oracle(problem, x, w), SEPARABLE.error_bound(problem, {}))


def test_a_mean_along_one_axis_is_known_as_a_box() -> None:
    """Else the estimate counts every tap, and 101 of them went to another method at 24 ms."""
    x = np.zeros((300, 400), np.uint8)
    plan = fastconv.plan(fastconv.ndimage.uniform_filter, x, 101)
    assert [p.box for p in plan.problems] == [True, True]
    ramp = np.arange(1.0, 12.0)
    plan = fastconv.plan(fastconv.ndimage.correlate1d, x.astype(np.float64), ramp)
    assert [(p.box, p.rank) for p in plan.problems] == [(False, 0)]
