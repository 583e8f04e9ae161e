"""Tilted transforms: every output right relative to itself, on distributions of every shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastconv
from fastconv import signal
from fastconv._accuracy import allowed_error
from fastconv._machine import this_machine
from fastconv._problem import Problem
from fastconv.solvers import BY_NAME, _tilt

Array = npt.NDArray[Any]

TILTED = BY_NAME["tilted"]


def normal(n: int, middle: float, deviation: float) -> Array:
    p = np.exp(-0.5 * ((np.arange(n) - middle) / deviation) ** 2)
    return p / p.sum()


def shapes(n: int) -> dict[str, Array]:
    """Distributions of n numbers; of doubles the tails of many reach 1e-300."""
    rng = np.random.default_rng(n)
    i = np.arange(n)
    steep = normal(n, n / 2, n / 72)
    two = normal(n, n / 5, n / 200) + 1e-30 * normal(n, 4 * n / 5, n / 90)
    return {
        "normal": steep, "even": np.full(n, 1 / n), "noise": rng.random(n),
        "falling": np.exp(-600 * i / n), "rising": np.exp(-300 * i[::-1] / n), "two": two,
        "tail of a power": 1.0 / (1 + i) ** 2.5, "every third": steep * (i % 3 == 0),
        "teeth": steep * np.where(i % 2, 1, 1e-60),
        "sparse": np.where(i % 97 < 2, rng.random(n), 0),
        "early": np.where(i < n // 9, 1.0, 0), "one": (i == n // 3) * 1e-200,
        "tiny": steep * 2.0**-1000, "huge": np.minimum(steep * 2.0**1015, 2.0**1012),
        "any size": 10.0 ** rng.uniform(-300, 0, n), "zeros": np.zeros(n),
    }  # fmt: skip


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tilts are taken though direct sums would be quicker; a list of how many of each call."""
    found: list[int] = []
    run = _tilt.Convolution.run

    def counting(self: _tilt.Convolution, threads: int) -> None:
        run(self, threads)
        found.append(getattr(self, "tilts", 0))

    monkeypatch.setattr(_tilt.Convolution, "run", counting)
    monkeypatch.setattr(_tilt, "PRODUCTS_A_SECOND", 1e8)
    return found


def solve(problem: Problem, x: Array, h: Array) -> Array:
    plan = TILTED.plan(problem, {}, this_machine())
    y = np.full(problem.y_shape, np.nan, x.dtype)
    with np.errstate(over="ignore", under="ignore"):
        plan(x[None, None], plan.pack_stored(h[None, None]), None, y)
    return y[0, 0]


def right(problem: Problem, x: Array, h: Array) -> Array:
    """Sums of long double, whose range is that of products of doubles."""
    y = np.convolve(x.astype(np.longdouble), h.astype(np.longdouble))
    first = len(h) - 1 - problem.padding[0][0]
    return np.pad(y, max(0, -first))[max(0, first) :][: problem.out[0]]


def check(problem: Problem, x: Array, h: Array) -> None:
    y, want = solve(problem, x, h), right(problem, x, h)
    info = np.finfo(x.dtype)
    allowed = TILTED.error_bound(problem, {}) * want
    allowed += info.smallest_subnormal * np.longdouble(2 * problem.taps + 2)
    fits = want < info.max
    bad = fits & ~(abs(y - want) <= allowed)
    assert not bad.any(), (np.flatnonzero(bad)[:5], y[bad][:5], want[bad][:5])
    assert (y[want == 0] == 0).all() and not np.isnan(y).any()


KINDS = tuple(shapes(9))


@pytest.mark.parametrize("other", ["normal", "falling", "even", "tail of a power"])
@pytest.mark.parametrize("kind", KINDS)
def test_within_the_bound(kind: str, other: str, eager: list[int]) -> None:
    text = "conv1d f64 n1 c1 w2600 k1 s1900 p1899 flip strict nonnegative"
    with np.errstate(under="ignore"):
        check(Problem.parse(text), shapes(2600)[kind], shapes(1900)[other])
    if kind in ("normal", "even", "falling", "noise") and other in ("normal", "even"):
        assert max(eager) > 0, "all summed directly"


@pytest.mark.parametrize("kind", ["normal", "even", "falling", "teeth", "two", "any size"])
def test_single_precision(kind: str, eager: list[int]) -> None:
    text = "conv1d f32 n1 c1 w2500 k1 s2000 p1999 flip strict nonnegative"
    with np.errstate(under="ignore", over="ignore"):
        x, h = (shapes(n)[kind].astype("f4") for n in (2500, 2000))
    check(Problem.parse(text), x, h)


@pytest.mark.parametrize(
    "geometry", ["w2000 k1 s1500", "w2000 k1 s1500 p0:900", "w1500 k1 s2400 p2399:1200",
                 "w900 k1 s900 p1500", "w3000 k1 s40 p39"],
)  # fmt: skip
def test_parts_of_the_result(geometry: str, eager: list[int]) -> None:
    problem = Problem.parse(f"conv1d f64 n1 c1 {geometry} flip strict nonnegative")
    x, h = normal(problem.size[0], 700, 40), normal(problem.kernel[0], 20, 55)
    with np.errstate(under="ignore"):
        check(problem, x, h)


def test_threads_do_not_change_a_bit(eager: list[int]) -> None:
    problem = Problem.parse("conv1d f64 n1 c1 w4000 k1 s3000 p2999 flip strict nonnegative")
    x, h = normal(4000, 2000, 60), normal(3000, 1500, 45)
    want = solve(problem, x, h)
    np.testing.assert_array_equal(solve(problem.replace(threads=2), x, h), want)
    assert eager[0] == eager[1] > 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_summed(value: float) -> None:
    x, h = np.ones(4000), np.ones(3000)
    x[2000] = value
    y = signal.convolve(x, h, method="tilted", accuracy="strict", nonnegative=True)
    touched = np.zeros(6999, bool)
    touched[2000:5000] = True
    np.testing.assert_array_equal(np.isfinite(y), ~touched)


def test_support_is_exact() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.where(rng.random(n) < 0.02, 1e-300, 0) for n in (3000, 900))
    got = _tilt.support(_tilt.Signal(a), _tilt.Signal(b))
    want = np.convolve((a > 0).astype(int), (b > 0).astype(int))
    np.testing.assert_array_equal(got, np.trim_zeros(want) > 0)


def test_length() -> None:
    for n in range(1, 3000):
        m = _tilt.good_length(n)
        odd = m >> ((m & -m).bit_length() - 1)
        assert n <= m <= 1.34 * n + 1 and odd in (1, 3, 5)


def test_chosen_where_it_may_be() -> None:
    with fastconv.autotune("off"):

        def method(n: int, **options: Any) -> str:
            a = np.full(n, 1 / n)
            return fastconv.plan(signal.convolve, a, a, threads=1, **options).method

        strict: dict[str, Any] = {"accuracy": "strict"}
        assert method(100_000, nonnegative=True, **strict) == "tilted"
        assert method(1_000, nonnegative=True, **strict) != "tilted"
        assert method(100_000, **strict) in signal._DIRECT
        assert method(100_000, nonnegative=True) in ("fft", "overlap_save")


def test_refused() -> None:
    for text, words in (
        ("conv1d f64 n1 c1 w99 k1 s9 strict", "negative"),
        ("conv1d f64 n1 c2 w99 k1 s9 nonnegative", "one channel"),
        ("conv1d f64 n1 c1 w99 k1 s9 u2 nonnegative", "stride"),
        ("conv2d f64 n1 c1 h9 w99 k1 r1 s9 nonnegative", "dimensions"),
        ("conv1d f64 n1 c1 w99 k1 s9 wrap nonnegative", "zeros only"),
        ("conv1d f80 n1 c1 w99 k1 s9 nonnegative", "f80"),
        ("conv1d f64 n1 c1 w99 k1 s9 cuda nonnegative", "CPU"),
    ):  # fmt: skip
        assert words in (TILTED.why_not(Problem.parse(text)) or "")
    p = Problem.parse("conv1d f64 n1 c1 w999 k1 s900 strict nonnegative")
    assert TILTED.error_bound(p, {}) == allowed_error(p)


def test_power_of_a_long_distribution(eager: list[int]) -> None:
    """Each step within its bound: the fourth power by doubles beside that by long doubles."""
    p = normal(2000, 900, 30)
    got = fastconv.convolve_power(p, 4, method="tilted", accuracy="strict", nonnegative=True)
    wide = p.astype(np.longdouble)
    square = np.convolve(wide, wide)
    want = np.convolve(square, square)
    seen = want > 1e-290
    assert seen.sum() > 2000 and max(eager) > 5
    steps = 2 * 2 * (512 + 4) + 2 * (512 + 8)  # u of a square, twice, and of its square
    assert (abs(got - want)[seen] <= steps * 2.0**-53 * want[seen]).all()
