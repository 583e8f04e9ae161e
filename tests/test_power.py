"""`convolve_power` against exact integers, and what `nonnegative` and `strict` promise of tails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from reference import wrap

import fastconv
from fastconv import signal

Array = np.ndarray[Any, Any]

U = 2.0**-53


def multinomial(a: list[int], n: int) -> list[int]:
    """Coefficients of the n-th power of a polynomial, by Miller's recurrence; a[0] is not 0.

    With c the power, c' a = n a' c: k a[0] c[k] = sum over i of (i n - k + i) a[i] c[k - i]
    (Knuth, The Art of Computer Programming, vol. 2, section 4.7).
    """
    c = [a[0] ** n]
    for k in range(1, n * (len(a) - 1) + 1):
        terms = range(1, min(k, len(a) - 1) + 1)
        c.append(sum((i * n - k + i) * a[i] * c[k - i] for i in terms) // (k * a[0]))
    return c


def exact_power(p: Array, n: int) -> Array:
    """The n-fold convolution of floats, each rounded once."""
    bits = [float(v).as_integer_ratio() for v in p]
    scale = max(below for _, below in bits)  # a power of two, as all are
    c = multinomial([above * (scale // below) for above, below in bits], n)
    return np.array([v / scale**n for v in c])


def strict_bound(m: int, n: int) -> float:
    """Relative error of the n-th power of m numbers without a negative, to first order.

    A factor's error is a product's, and a product of T terms adds what `strict` allows it.
    """
    power, length, error = 1, m, 0.0
    for bit in bin(n)[3:]:
        for add in (power, 1) if bit == "1" else (power,):
            terms = min(length, add * (m - 1) + 1)
            error = error * (2 if add == power else 1)
            error += 2 * (min(terms, 512) + math.ceil(terms / 512)) * U
            power, length = power + add, length + add * (m - 1)
    return error


@pytest.mark.parametrize(
    "p",
    [
        np.full(6, 1 / 6),
        np.random.default_rng(0).dirichlet(np.ones(6)),
        np.array([0.9, 1e-9, 0, 1e-3, 0.05, 1e-30]),
    ],
    ids=["fair", "unfair", "rare"],
)
def test_tails_of_a_thousand_dice(p: Array) -> None:
    """Every probability down to 1e-300 is right relative to itself."""
    want = exact_power(p, 1000)
    got = fastconv.convolve_power(p, 1000, accuracy="strict", nonnegative=True)
    seen = want >= 1e-300
    assert got.shape == want.shape and seen.sum() > 1700 and want[seen].min() < 1e-299
    assert (abs(got - want)[seen] <= strict_bound(6, 1000) * want[seen]).all()
    # below, what is smaller than 2**-1022 rounds to multiples of 2**-1074, once a product
    assert (abs(got - want)[~seen] <= 5001 * 4 * 2.0**-1022).all() and (got >= 0).all()


@pytest.mark.parametrize("accuracy", ["balanced", "strict", "fast"])
@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
def test_error_against_the_sum(accuracy: str, method: str) -> None:
    """Whatever the method, errors are small beside the largest number."""
    if accuracy == "strict" and method == "fft":
        with pytest.raises(ValueError, match="strict"):
            fastconv.convolve_power(np.ones(3), 5, method=method, accuracy=accuracy)
        return
    p = np.random.default_rng(1).dirichlet(np.ones(40))
    got = fastconv.convolve_power(p, 100, method=method, accuracy=accuracy)
    want = exact_power(p, 100)
    assert abs(got - want).max() <= 100 * 32 * 2 * U * want.max()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("m, n", [(6, 1000), (40, 100), (300, 2), (129, 3)])
def test_long_powers_keep_their_bound(m: int, n: int, dtype: str) -> None:
    """Those of more than 256 numbers, transformed once: float32 is rounded once, at the end."""
    p = np.random.default_rng(m).dirichlet(np.ones(m)).astype(dtype)
    p[::3] *= -1
    want, total = exact_power(p, n), math.fsum(abs(p)) ** n
    got = fastconv.convolve_power(p, n)
    assert got.dtype == p.dtype and got.shape == want.shape
    bound = (n + 1) * math.log2(2 * len(want)) * 2 * U * total
    rounding = np.finfo(dtype).eps * abs(want) if dtype == "f4" else 0
    assert (abs(got - want) <= bound + rounding).all()


def test_long_powers_where_memory_is_short() -> None:
    p = np.random.default_rng(4).dirichlet(np.ones(40))
    got = fastconv.convolve_power(p, 100, workspace_limit=120_000)
    assert abs(got - fastconv.convolve_power(p, 100, method="direct")).max() <= 1e-13 * got.max()


def test_long_powers_of_any_rank() -> None:
    rng = np.random.default_rng(5)
    p = rng.standard_normal((9, 4, 7)) + 1j * rng.standard_normal((9, 4, 7))
    want = p
    for _ in range(3):
        want = signal.convolve(want, p, method="direct")
    for x, y in ((p, want), (p.astype("c8"), want)):
        got = fastconv.convolve_power(x, 4)
        assert got.dtype == x.dtype
        assert abs(got - y).max() <= 100 * np.finfo(x.dtype).eps * abs(p).sum() ** 4
    real = fastconv.convolve_power(p.real, 4, nonnegative=False)
    np.testing.assert_allclose(real, fastconv.convolve_power(p.real, 4, method="direct"),
                               atol=1e-10 * abs(p.real).sum() ** 4)  # fmt: skip


@pytest.mark.parametrize("scale", [1e-140, 1e-110, 1e110, 1e300])
def test_long_powers_of_very_large_and_very_small_numbers(scale: float) -> None:
    """What a transform would lose or overflow goes step by step."""
    p = np.random.default_rng(6).random(200)
    got = fastconv.convolve_power(p * scale, 3)
    want = fastconv.convolve_power(p * scale, 3, method="direct")
    assert (np.isinf(got) == np.isinf(want)).all() and not np.isnan(got).any()
    finite = np.isfinite(want)
    error = abs(got[finite] - want[finite]).max(initial=0)
    assert error <= 1e-14 * abs(want[finite]).max(initial=0) + 2.0**-1060


def test_a_nan_in_a_long_power_stays_where_it_belongs() -> None:
    p = np.random.default_rng(7).random(300)
    p[290] = math.nan
    got = fastconv.convolve_power(p, 2)
    assert np.isnan(got[290:]).sum() == 300 and not np.isnan(got[:290]).any()


def test_powers_beyond_float32_are_infinite_and_nothing_warns() -> None:
    p = np.random.default_rng(8).standard_normal(300).astype("f4")
    for options in ({}, {"method": "fft"}):
        got = fastconv.convolve_power(p, 64, **options)
        assert got.dtype == np.float32 and not np.isfinite(got).all()


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", "i8"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 64])
def test_integers_are_exact_and_wrap(dtype: str, n: int) -> None:
    p = np.array([3, 100, 0, 7], dtype)
    want = wrap(np.array(multinomial([3, 100, 0, 7], n), object), p.dtype)
    for method in ("auto", "fft"):
        got = fastconv.convolve_power(p, n, method=method)
        assert got.dtype == p.dtype
        np.testing.assert_array_equal(got, want)


def test_bools() -> None:
    got = fastconv.convolve_power([True, False, False, True], 2)
    np.testing.assert_array_equal(got, np.array([1, 0, 0, 1, 0, 0, 1], bool))
    np.testing.assert_array_equal(fastconv.convolve_power([False], 0), [True])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16", "g"])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 1, 3)])
def test_any_rank_and_dtype(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    p = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype[0] == "c" else 0)
    p = p.astype(dtype)
    wide = p.astype("c16" if dtype[0] == "c" else "f8")
    size = [5 * (m - 1) + 1 for m in shape]
    axes = range(p.ndim)
    want = np.fft.ifftn(np.fft.fftn(wide, size, axes) ** 5, axes=axes)
    want = want if dtype[0] == "c" else want.real
    got = fastconv.convolve_power(p, 5)
    assert got.dtype == p.dtype and got.shape == tuple(size)
    # five factors, each sum of few products; float16 is rounded once, so to its own last place
    eps = max(np.finfo(p.dtype).eps, 2.0**-48)
    assert abs(got - want).max() <= 40 * eps * abs(wide).sum() ** 5


def test_no_factor_and_one() -> None:
    p = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(fastconv.convolve_power(p, 0), [[1.0]])
    once = fastconv.convolve_power(p, np.int64(1))
    np.testing.assert_array_equal(once, p)
    once[:] = 9
    assert p[0, 0] == 0, "a copy"


def test_out_and_strides() -> None:
    p = np.arange(1.0, 9)
    want = fastconv.convolve_power(p, 3)
    out = np.zeros(22)
    assert fastconv.convolve_power(p, 3, out=out) is out
    np.testing.assert_array_equal(out, want)
    both = np.stack([p, -p], axis=1)
    np.testing.assert_allclose(fastconv.convolve_power(both[:, 0], 3), want, rtol=1e-14)
    np.testing.assert_array_equal(fastconv.convolve_power(p.astype(">f8"), 3), want)
    assert fastconv.convolve_power(p, 1, out=p) is p
    with pytest.raises(ValueError, match="shape"):
        fastconv.convolve_power(p, 3, out=np.zeros(21))
    with pytest.raises(TypeError, match="holds"):
        fastconv.convolve_power(p, 3, out=np.zeros(22, "f4"))


def test_plan() -> None:
    p = np.random.default_rng(3).random(50)
    # left to choose, a plan may take another method or config than a call
    options = {"nonnegative": True, "method": "naive"}
    prepared = fastconv.plan(fastconv.convolve_power, p, n=6, **options)
    assert len(prepared.problems) == 3
    for _ in range(2):
        np.testing.assert_array_equal(prepared(p), fastconv.convolve_power(p, 6, **options))
        with pytest.raises(ValueError, match="negative"):
            prepared(-p)


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        fastconv.convolve_power([1.0], -1)
    with pytest.raises(TypeError):
        fastconv.convolve_power([1.0], 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        fastconv.convolve_power([], 2)
    with pytest.raises(TypeError, match="dimension"):
        fastconv.convolve_power(3.0, 2)
    with pytest.raises(ValueError, match="nonsense"):
        fastconv.convolve_power([1.0, 2], 2, method="nonsense")
    with pytest.raises(ValueError, match="thread"):
        fastconv.convolve_power(np.ones(400), 2, threads=0)
    with pytest.raises(ValueError, match="accuracy"):
        fastconv.convolve_power(np.ones(400), 2, accuracy="nonsense")
    for n in (0, 1, 2):
        with pytest.raises(ValueError, match="negative"):
            fastconv.convolve_power([1.0, -2], n, nonnegative=True)
    with pytest.raises(TypeError, match="mask"):
        fastconv.convolve_power(np.ma.masked_array([1.0]), 2)


# ---- non-negative data through the signal front end


def steep(n: int, rate: float) -> Array:
    """Probabilities that fall to 1e-300."""
    p = np.exp(-rate * np.arange(n))
    return p / p.sum()


@pytest.mark.parametrize("n, m", [(600, 500), (3000, 40), (5, 2000)])
def test_strict_is_relative_on_what_is_not_negative(n: int, m: int) -> None:
    a, b = steep(n, 660 / n), steep(m, 20 / m)
    want = np.convolve(a.astype(np.longdouble), b.astype(np.longdouble))
    terms = min(n, m)
    bound = 2 * (min(terms, 512) + math.ceil(terms / 512)) * U
    for function in (signal.convolve, signal.fftconvolve, signal.oaconvolve):
        got = function(a, b, accuracy="strict")
        seen = want > 1e-290
        assert (abs(got - want)[seen] <= bound * want[seen]).all()


FUNCTIONS = ("convolve", "fftconvolve", "oaconvolve", "convolve2d", "correlate", "correlate2d")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
def test_nonnegative(name: str, mode: str, dtype: str) -> None:
    function = getattr(signal, name)
    two = name.endswith("2d")
    a, b = steep(900, 0.1).astype(dtype), steep(300, 0.1).astype(dtype)
    if two:
        a, b = a.reshape(30, 30), b.reshape(15, 20)
    plain = function(a, b, mode)
    got = function(a, b, mode, nonnegative=True)
    assert got.dtype == plain.dtype and (got >= 0).all()
    np.testing.assert_array_equal(got, np.maximum(plain, 0))
    for first, second in ((-a, b), (a, -b)):
        with pytest.raises(ValueError, match="negative"):
            function(first, second, mode, nonnegative=True)


def test_nonnegative_removes_what_transforms_leave() -> None:
    a, b = steep(4000, 0.1), steep(3000, 0.1)
    options = {"method": "fft", "accuracy": "fast"}
    assert signal.convolve(a, b, **options).min() < 0
    for _ in range(2):  # the second call of a shape takes a shorter way
        assert signal.convolve(a, b, nonnegative=True, **options).min() >= 0
    prepared = fastconv.plan(signal.convolve, a, b, nonnegative=True, **options)
    for _ in range(3):
        assert prepared(a).min() >= 0
        with pytest.raises(ValueError, match="negative"):
            prepared(-a)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("method", ["fft", "overlap_save", "direct"])
@pytest.mark.parametrize("accuracy", ["fast", "balanced"])
def test_never_a_negative_number(accuracy: str, method: str, dtype: str) -> None:
    """Of every function that has the option, on tails that transforms leave negative."""
    a, b = steep(900, 0.1).astype(dtype), steep(700, 0.1).astype(dtype)
    two, three = np.outer(a[:90], a[:80]), np.outer(b[:30], b[:40])
    options: dict[str, Any] = {"accuracy": accuracy, "method": method, "nonnegative": True}
    sink = np.full(1599, -1, dtype)
    fastconv.convolve_blockwise(a, b, sink, block=(500,), **options)
    found = [sink, fastconv.convolve_power(a, 3, **options)]
    for name in FUNCTIONS:
        function = getattr(signal, name)
        x, w = (two, three) if name.endswith("2d") else (a, b)
        found.append(function(x, w, **options))
        found.append(function(x, w, out=np.empty(found[-1].shape, "f8"), **options))
    if method != "overlap_save":  # it takes no zeros between samples
        found.append(signal.upfirdn(b, a, 1, 2, nonnegative=True, accuracy=accuracy))
    for y in found:
        assert (y >= 0).all() and y.max() > 0


def test_nonnegative_of_other_data() -> None:
    a, b = np.array([1.0, np.nan, 2, np.inf]), np.array([1.0, 2])
    got = signal.convolve(a, b, nonnegative=True)
    np.testing.assert_array_equal(got, signal.convolve(a, b))
    assert np.isnan(got[1])
    with pytest.raises(TypeError, match="real"):
        signal.convolve(a + 1j, b, nonnegative=True)
    with pytest.raises(ValueError, match="negative"):
        signal.convolve(np.array([np.nan, -1]), b, nonnegative=True)
    with pytest.raises(ValueError, match="negative"):
        signal.convolve(np.array(-1.0), np.array(1.0), nonnegative=True)
    with pytest.raises(ValueError, match="negative"):
        signal.convolve2d(np.ones((3, 3)), np.ones((2, 2)), fillvalue=-1, nonnegative=True)
    with pytest.raises(ValueError, match="negative"):
        signal.upfirdn([1.0, -1], a, nonnegative=True)
    assert signal.upfirdn([1.0, 1], [3.0, 1], 2, nonnegative=True).min() == 1
    whole = signal.convolve(np.array([100, 1], "i1"), np.array([1, 1], "i1"), nonnegative=True)
    np.testing.assert_array_equal(whole, [100, 101, 1])
    # integers wrap, as ever
    assert signal.convolve(np.array([100], "i1"), np.array([2], "i1"), nonnegative=True)[0] == -56


def test_nonnegative_where_out_is_an_input() -> None:
    a = steep(500, 0.1)
    want = signal.convolve(a, a, "same", nonnegative=True)
    assert signal.convolve(a, a.copy(), "same", nonnegative=True, out=a) is a
    np.testing.assert_array_equal(a, want)
