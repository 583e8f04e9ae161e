"""fastconv.signal against scipy.signal, and against exact sums where SciPy is known to be wrong."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import wrap
from strategies import FORMS, in_form

import fastconv._engine as engine
from fastconv import signal
from fastconv._engine import plan

Array = np.ndarray[Any, Any]

MODES = ("full", "same", "valid")
INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
FLOATS = ("f4", "f8", "c8", "c16")
FUNCTIONS = ("convolve", "correlate", "fftconvolve", "oaconvolve", "convolve2d", "correlate2d")
EXTENSIONS = (
    "constant", "symmetric", "reflect", "edge", "wrap", "smooth", "antisymmetric", "antireflect",
    "line",
)  # fmt: skip

modest = settings(max_examples=80, deadline=None)


def random(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    """Noise of a dtype; integers over their whole range, so that products wrap."""
    d = np.dtype(dtype)
    if d.kind == "b":
        return rng.random(shape) < 0.3
    if d.kind in "iu":
        info = np.iinfo(d)
        return rng.integers(info.min, info.max, shape, d, endpoint=True)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape)).astype(d) if d.kind == "c" else a.astype(d)


def exact(a: Array, b: Array, mode: str, correlation: bool = False) -> Array:
    """Sums of products of Python integers: the full convolution, then the part `mode` names."""
    a, b = a.astype(object) * 1, b.astype(object) * 1
    if correlation:
        b = b[(slice(None, None, -1),) * b.ndim]
    full = np.zeros([n + m - 1 for n, m in zip(a.shape, b.shape)], object)
    for at in np.ndindex(b.shape):
        full[tuple(slice(i, i + n) for i, n in zip(at, a.shape))] += a * b[at]
    parts = {
        "full": [slice(None)] * a.ndim,
        "same": [slice((m - 1) // 2, (m - 1) // 2 + n) for n, m in zip(a.shape, b.shape)],
        "valid": [slice(min(n, m) - 1, max(n, m)) for n, m in zip(a.shape, b.shape)],
    }
    return full[tuple(parts[mode])]


def assert_within(got: Array, a: Array, b: Array, want: Array, sums: Array, fourier: bool) -> None:
    """The errors of a sum of T products, in a dtype of unit eps: below (T + 4) eps sum|a||b|.

    The constant holds for real and, by Higham's lemma 3.5, a factor of 2 * sqrt(2) for complex
    products; what is stored in 16 bits is rounded once more. Fourier methods may be off by
    16 eps log2(length) max|a| sum|b|.
    """
    assert got.shape == want.shape
    unit = np.dtype(np.float32) if got.dtype == np.float16 else got.dtype
    eps = float(np.finfo(unit).eps)
    terms = min(a.size, b.size)
    bound = (terms + 4) * 2 * math.sqrt(2) * eps * sums
    if fourier:
        small, large = sorted((a, b), key=np.size)
        bound = bound + 16 * eps * math.log2(2 + a.size + b.size) * (
            np.abs(large * 1.0).max() * np.abs(small * 1.0).sum()
        )
    if got.dtype == np.float16:
        bound = bound + np.finfo(np.float16).eps * sums
    assert (np.abs(got.astype(want.dtype) - want) <= bound).all()


def wide(a: Array) -> Array:
    """`a` in a dtype whose rounding does not matter beside its own."""
    return a.astype(np.clongdouble if a.dtype.kind == "c" else np.longdouble)


@st.composite
def shapes(draw: st.DrawFn, ndims: tuple[int, ...] = (1, 1, 2, 3)) -> tuple[Any, Any]:
    ndim = draw(st.sampled_from(ndims))
    limit = {1: 60, 2: 11, 3: 5}[ndim]
    sides = st.tuples(*[st.integers(1, limit)] * ndim)
    return draw(sides), draw(sides)


def admits(mode: str, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    pairs = list(zip(a, b))
    return mode != "valid" or all(n >= m for n, m in pairs) or all(n <= m for n, m in pairs)


@pytest.mark.filterwarnings("ignore:dtype=:DeprecationWarning")  # long doubles, SciPy 1.15, 1.16
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # inside SciPy's correlate
@modest
@given(
    shapes(), st.sampled_from(MODES), st.sampled_from(FLOATS), st.sampled_from(FLOATS),
    st.sampled_from(("auto", "direct", "fft")), st.booleans(), st.integers(0, 999),
)  # fmt: skip
def test_floating(
    sizes: Any, mode: str, d1: str, d2: str, method: str, correlation: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = random(rng, d1, sizes[0]), random(rng, d2, sizes[1])
    ours = signal.correlate if correlation else signal.convolve
    theirs = scipy.signal.correlate if correlation else scipy.signal.convolve
    if not admits(mode, *sizes):
        for fn in (ours, theirs):
            with pytest.raises(ValueError):
                fn(a, b, mode, method)
        return
    got = ours(a, b, mode, method)
    assert got.dtype == theirs(a, b, mode, method).dtype == np.result_type(a, b)
    want = theirs(wide(a), wide(b), mode, "direct")
    sums = theirs(wide(abs(a)), wide(abs(b)), mode, "direct").astype(np.float64)
    assert_within(got, a, b, want, sums, fourier=method != "direct")


@modest
@given(
    shapes(), st.sampled_from(MODES), st.sampled_from((*INTEGERS, "?")),
    st.sampled_from((*INTEGERS, "?")), st.sampled_from(("auto", "direct", "fft")), st.booleans(),
    st.integers(0, 999),
)  # fmt: skip
def test_integers_are_exact_and_wrap(
    sizes: Any, mode: str, d1: str, d2: str, method: str, correlation: bool, seed: int
) -> None:
    assume(admits(mode, *sizes))
    rng = np.random.default_rng(seed)
    a, b = random(rng, d1, sizes[0]), random(rng, d2, sizes[1])
    dtype = np.result_type(a, b)
    fn = signal.correlate if correlation else signal.convolve
    got = fn(a, b, mode, method)
    assert got.dtype == dtype
    if dtype.kind == "f":  # uint64 with a signed one: float64, as NumPy has it
        want = exact(a, b, mode, correlation).astype(np.float64)
        sums = exact(abs(a.astype(object)), abs(b.astype(object)), mode, correlation)
        assert_within(got, a, b, want, sums.astype(np.float64), fourier=method != "direct")
    else:
        assert np.array_equal(got, wrap(exact(a, b, mode, correlation), dtype))


@pytest.mark.parametrize("n, m", [*itertools.product(range(1, 7), range(1, 9))])
def test_every_small_length(n: int, m: int) -> None:
    """Centres, lags and swaps, where being off by one hides: against SciPy on integers."""
    a, b = np.arange(1, n + 1) ** 2, 3 - np.arange(m) ** 3
    for mode in MODES:
        for name in ("convolve", "correlate"):
            want = getattr(scipy.signal, name)(a, b, mode, "direct")
            assert np.array_equal(getattr(signal, name)(a, b, mode), want)
        for name in ("fftconvolve", "oaconvolve"):
            got, want = getattr(signal, name)(a, b, mode), getattr(scipy.signal, name)(a, b, mode)
            assert got.dtype == np.float64
            assert np.abs(got - want).max() <= 1e-12 * np.abs(a).max() * np.abs(b).sum()
        z = (a + 1j * a[::-1], b * 1j + 2)
        want = scipy.signal.correlate(*z, mode, "direct")
        assert np.array_equal(signal.correlate(*z, mode, "direct"), want)


@pytest.mark.parametrize("boundary", ["fill", "pad", "wrap", "circular", "symm", "symmetric"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
def test_two_dimensions(name: str, mode: str, boundary: str) -> None:
    """Integers, so that equality decides; kernels longer than the data bounce more than once."""
    rng = np.random.default_rng(1)
    ours, theirs = getattr(signal, name), getattr(scipy.signal, name)
    for sizes in [((5, 6), (3, 2)), ((4, 4), (2, 4)), ((2, 3), (7, 9)), ((1, 1), (1, 3)),
                  ((6, 1), (1, 1))]:  # fmt: skip
        a, b = (rng.integers(-9, 9, s) for s in sizes)
        got = ours(a, b, mode, boundary, 7)
        assert np.array_equal(got, theirs(a, b, mode, boundary, 7))
        assert got.dtype == a.dtype and got.flags.c_contiguous
    z = rng.integers(-9, 9, (2, 5, 6)) @ np.ones((6, 6))
    a, b = z[0] + 1j * z[1], (z[1] - 2j * z[0])[:3, :2]
    want = theirs(a, b, mode, boundary, 2 - 1j)
    assert np.array_equal(ours(a, b, mode, boundary, 2 - 1j, method="direct"), want)


def test_two_dimensions_errors() -> None:
    a, b = np.ones((3, 4)), np.ones((2, 2))
    for fn in (signal.convolve2d, signal.correlate2d):
        for bad in [
            lambda f: f(a[0], b), lambda f: f(a, b[0]), lambda f: f(a, b, "some"),
            lambda f: f(a, b, 2), lambda f: f(a, b, boundary="reflect"),
            lambda f: f(a, b, boundary=0), lambda f: f(a, b, fillvalue=[1, 2]),
            lambda f: f(a, b, fillvalue="a"), lambda f: f(a, b, fillvalue=1j),
            lambda f: f(a, b, fillvalue=None), lambda f: f(a[:, :1], b, "valid"),
            lambda f: f(a.astype("u1"), b.astype("u1"), fillvalue=300),
            lambda f: f(a.astype("u1"), b.astype("u1"), fillvalue=-1),
            lambda f: f(a.astype("u1"), b.astype("u1"), fillvalue=1.5),
            lambda f: f(a.astype("i4"), b.astype("i4"), fillvalue=math.nan),
            lambda f: f(np.ones((0, 4)), np.ones((0, 2))),
            lambda f: f(np.ones((0, 4)), b, boundary="wrap"), lambda f: f(a, b, method="none"),
        ]:  # fmt: skip
            with pytest.raises(ValueError, match=r"expected|cannot"):
                bad(fn)
        assert np.array_equal(fn(a, b, fillvalue=[2]), fn(a, b, fillvalue=2 + 0j))
        assert np.array_equal(fn(np.ones((0, 4)), b), np.zeros((1, 5)))
        assert fn(np.ones((0, 4)), b, "same").shape == (0, 4)
        assert np.array_equal(fn(np.ones((0, 1)), b, "valid"), np.zeros((3, 2)))
    big = signal.convolve2d(np.ones((1, 1), "i8"), np.ones((3, 1), "i8"), "same", "fill", 2**60 + 1)
    assert big[0, 0] == 2**61 + 3  # more bits than a float64 has


def test_bool_and_float16_in_two_dimensions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((6, 7)) < 0.2, rng.random((3, 2)) < 0.4
    want = scipy.signal.convolve2d(a.astype(int), b.astype(int), boundary="symm") != 0
    got = signal.convolve2d(a, b, boundary="symm")
    assert got.dtype == bool and np.array_equal(got, want)
    halves = signal.convolve2d(a.astype("f2"), b.astype("f2"))
    assert halves.dtype == np.float16


def broadcasting(a: Array, b: Array, mode: str, axes: tuple[int, ...], correlation: bool) -> Array:
    """Convolution over `axes`, one slice of the others at a time, by sums of Python integers."""
    rest = [d for d in range(a.ndim) if d not in axes]
    shape = np.broadcast_shapes(*(tuple(x.shape[d] for d in rest) for x in (a, b)))
    results = {}
    for at in np.ndindex(*shape):
        slices = []
        for x in (a, b):
            index: list[Any] = [slice(None)] * a.ndim
            for d, i in zip(rest, at):
                index[d] = i if x.shape[d] > 1 else 0
            slices.append(x[tuple(index)])
        results[at] = exact(slices[0], slices[1], mode, correlation)
    sample = results[(0,) * len(rest)]
    full = np.empty((*shape, *sample.shape), object)
    for at, value in results.items():
        full[at] = value
    return np.moveaxis(full, range(a.ndim), [*rest, *axes])


@modest
@given(st.data(), st.sampled_from(MODES), st.sampled_from(FUNCTIONS[:4]))
def test_axes(data: st.DataObject, mode: str, name: str) -> None:
    """Batches, groups and several filters in any order of the axes, against a loop over slices."""
    ndim = data.draw(st.integers(1, 4))
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, ndim - 1), min_size=1))))
    s1, s2 = [], []
    for d in range(ndim):
        n, m = (data.draw(st.integers(2, 6)) for _ in range(2))
        if d not in axes:
            n, m = data.draw(st.sampled_from(((n, n), (n, 1), (1, n), (1, 1), (20, 1))))
        s1.append(n)
        s2.append(m)
    assume(admits(mode, tuple(s1[d] for d in axes), tuple(s2[d] for d in axes)))
    rng = np.random.default_rng(3)
    a, b = rng.integers(-9, 9, s1), rng.integers(-9, 9, s2)
    given_axes = tuple(
        data.draw(st.permutations([d - ndim * data.draw(st.booleans()) for d in axes]))
    )
    got = getattr(signal, name)(a, b, mode, axes=given_axes)
    want = broadcasting(a, b, mode, axes, name == "correlate")
    assert got.shape == want.shape and got.flags.c_contiguous
    assert np.abs(got - want.astype(got.dtype)).max() <= (0 if name[0] == "c" else 1e-10)
    if mode != "same" and name[0] != "c":  # SciPy is wrong there
        assert np.abs(got - getattr(scipy.signal, name)(a, b, mode, axes=given_axes)).max() < 1e-10
    out = np.empty(got.shape[::-1], got.dtype).T
    assert getattr(signal, name)(a, b, mode, axes=given_axes, out=out) is out
    assert np.array_equal(out, got)


def test_same_mode_with_broadcasting_axes_keeps_them() -> None:
    """SciPy cuts the broadcast axis to in1's length (scipy issue 21876)."""
    a, b = np.ones((1, 100)), np.ones((7, 5))
    for fn in (signal.fftconvolve, signal.oaconvolve, signal.convolve):
        assert fn(a, b, mode="same", axes=1).shape == (7, 100)
        assert fn(a, b, mode="same").shape == (1, 100)


def test_length_one_axes_broadcast_in_valid_mode() -> None:
    rng = np.random.default_rng(0)
    for s1, s2 in [((10, 1), (3, 5)), ((1, 5), (7, 1)), ((1, 1), (3, 5)), ((1, 4), (1, 4)),
                   ((3, 1), (10, 5)), ((1,), (5,)), ((2, 1, 6), (4, 5, 3))]:  # fmt: skip
        a, b = rng.standard_normal(s1), rng.standard_normal(s2)
        if s1 == (2, 1, 6):
            with pytest.raises(ValueError, match="valid"):
                signal.fftconvolve(a, b, "valid")
            continue
        want = scipy.signal.fftconvolve(a, b, "valid")
        for fn in (signal.fftconvolve, signal.oaconvolve):
            assert np.allclose(fn(a, b, "valid"), want, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="valid"):
        signal.convolve(np.ones((10, 1)), np.ones((3, 5)), "valid")


def test_axes_errors() -> None:
    a, b = np.ones((4, 5)), np.ones((4, 2))
    for fn in (signal.fftconvolve, signal.oaconvolve, signal.convolve, signal.correlate):
        for axes in ([], [0, 0], [1, -1], 2, -3, 0.5, "a", [0.5], "12", [None]):
            with pytest.raises(ValueError, match=r"axes|axis"):
                fn(a, b, axes=axes)
        with pytest.raises(ValueError, match="equal lengths"):
            fn(a, np.ones((3, 2)), axes=1)
        assert fn(a, b, axes=-1).shape == fn(a, b, axes=np.array([1])).shape == (4, 6)
        nothing = fn(np.ones((4, 5)), np.ones((1, 2)), axes=[1])
        assert nothing.shape == (4, 6)
    assert signal.convolve(np.ones((0, 5)), b[:1], axes=1).shape == (0, 6)


def test_result_dtypes() -> None:
    kinds = ("?", "i1", "u1", "i4", "i8", "f2", "f4", "f8", "g", "c8", "c16", "G")
    for d1, d2 in itertools.product(kinds, kinds):
        a, b = np.ones(5, d1), np.ones(3, d2)
        assert signal.convolve(a, b).dtype == np.result_type(a, b)
        assert signal.correlate(a, b).dtype == np.result_type(a, b)
        for name in ("fftconvolve", "oaconvolve"):
            got = getattr(signal, name)(a, b)
            assert got.dtype == getattr(scipy.signal, name)(a, b).dtype
            assert np.allclose(got, [1, 2, 3, 3, 3, 2, 1], rtol=0, atol=1e-5)
        if "g" not in (d1.lower(), d2.lower()):
            assert signal.upfirdn(b, a).dtype == scipy.signal.upfirdn(b, a).dtype
    assert signal.fftconvolve(np.ones((1, 5), "i4"), np.ones((1, 1), "i4")).dtype == np.float64


def test_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    a = np.arange(6).astype(ml_dtypes.bfloat16)
    for got in (signal.convolve(a, a[:3]), signal.correlate(a, a[2::-1])):
        assert got.dtype == ml_dtypes.bfloat16
        assert np.array_equal(got.astype(int), np.convolve(np.arange(6), np.arange(3)))
    assert signal.convolve(a, np.ones(2, "f4")).dtype == np.float32
    assert signal.fftconvolve(a, a).dtype == signal.upfirdn(a, a).dtype == np.float32


def test_float16_is_summed_in_float32() -> None:
    a = np.full(3000, 0.1, "f2")
    want = np.convolve(a.astype("f8"), a.astype("f8"))
    got = signal.convolve(a, a, method="direct")
    assert got.dtype == np.float16
    assert (np.abs(got - want) <= np.finfo("f2").eps * want).all()


def test_numbers() -> None:
    for fn in (signal.convolve, signal.fftconvolve, signal.oaconvolve):
        assert fn(2, 3) == 6 and fn(2, 3).dtype == np.int64
        assert fn(2, 3, "any mode") == 6
    assert signal.correlate(2, 1j) == -2j
    assert signal.convolve(True, True).dtype == bool
    out = np.empty((), np.float64)
    assert signal.convolve(1.5, 2, out=out) is out and out == 3
    assert signal.choose_conv_method(2, 3) == "direct"


def test_matrices_are_arrays_and_masks_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        m = np.matrix([[1, 2], [3, 4]])
    for name in FUNCTIONS:
        got = getattr(signal, name)(m, m)
        assert type(got) is np.ndarray and got.shape == (3, 3)
    masked = np.ma.masked_array([[1.0, 2.0]], [[False, True]])
    for name in (*FUNCTIONS, "choose_conv_method"):
        for pair in ((masked, m), (m, masked)):
            with pytest.raises(TypeError, match="mask"):
                getattr(signal, name)(*pair)
    with pytest.raises(TypeError, match="mask"):
        signal.upfirdn([1], masked)


@pytest.mark.parametrize("bad", [
    np.array([["a", "b"]]), np.array([[1, None]]), np.zeros((1, 2), "M8[s]"),
    np.zeros((1, 2), "m8[s]"), np.zeros((1, 2), "i4,f8"), np.array([[b"a"]]),
])  # fmt: skip
def test_what_is_not_a_number_is_refused(bad: Array) -> None:
    good = np.ones((1, 2))
    for name in (*FUNCTIONS, "choose_conv_method"):
        for pair in ((bad, good), (good, bad)):
            with pytest.raises(TypeError, match="dtype"):
                getattr(signal, name)(*pair)
    with pytest.raises(TypeError, match="dtype"):
        signal.upfirdn([1], bad)


def test_errors() -> None:
    for name in ("convolve", "correlate", "fftconvolve", "oaconvolve"):
        fn = getattr(signal, name)
        for arguments in [([1, 2], [[1]]), (1, [1]), ([[1, 2], [3]], [1])]:
            with pytest.raises(ValueError):
                fn(*arguments)
        for mode in ("some", "Full", 2, None):
            with pytest.raises(ValueError, match="mode"):
                fn([1, 2], [1], mode)
        with pytest.raises(ValueError, match="valid"):
            fn(np.ones((3, 5)), np.ones((5, 3)), "valid")
        for method in ("none", None, 3):
            with pytest.raises(ValueError, match="method"):
                fn([1.0, 2.0], [1.0], method=method)
        with pytest.raises(ValueError, match="accuracy"):
            fn([1.0, 2.0], [1.0], accuracy="perfect")
        with pytest.raises(ValueError, match="thread"):
            fn([1.0, 2.0], [1.0], threads=0)
        with pytest.raises(ValueError):
            fn(np.ones((1,) * 9 + (2,)), np.ones((1,) * 9 + (2,)))
    with pytest.raises(ValueError, match="config"):
        signal.convolve([1.0, 2.0], [1.0], config={})


def test_empty() -> None:
    for name in ("convolve", "correlate"):
        fn = getattr(signal, name)
        for s1, s2 in [((0,), (2,)), ((2,), (0,)), ((0, 2), (2, 2)), ((0, 2), (0, 2))]:
            with pytest.raises(ValueError, match="empty"):
                fn(np.ones(s1), np.ones(s2))
        assert fn(np.ones((0, 2), "f4"), np.ones((2, 2), "f4"), "same").shape == (0, 2)
    for name in ("fftconvolve", "oaconvolve"):
        fn = getattr(signal, name)
        for s1, s2 in [((0,), (2,)), ((2, 2), (0, 2))]:
            got = fn(np.ones(s1, "c8"), np.ones(s2, "i4"))
            assert got.shape == (0,) and got.dtype == np.float64


def test_bool_through_fft_is_the_or_of_ands() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(400) < 0.02, rng.random(20) < 0.1
    want = np.convolve(a, b)
    assert not want.all()
    for method in ("auto", "direct", "fft"):
        got = signal.convolve(a, b, method=method)
        assert got.dtype == bool and np.array_equal(got, want)


def test_integers_through_fft_beyond_2_to_the_53() -> None:
    a = np.array([2**40 + 1, 3, -(2**41) + 7] * 20)
    b = np.array([2**20 - 1, 5, 2**21 + 1] * 9)
    want = exact(a, b, "full")
    assert np.abs(want).max() > 2**63  # some even wrap
    want = wrap(want, np.dtype(np.int64))
    for method in ("auto", "direct", "fft"):
        assert np.array_equal(signal.convolve(a, b, method=method), want)


def test_a_range_that_fourier_destroys() -> None:
    """Small samples beside large ones keep their digits; of SciPy's transform none is left."""
    a = np.concatenate([np.full(300, 1e-12), np.full(300, 1e12)])
    b = np.linspace(1, 2, 64)
    want = np.convolve(a, b)
    assert np.abs(scipy.signal.convolve(a, b, method="fft")[:300] / want[:300] - 1).max() > 1
    for method in ("auto", "fft"):
        got = signal.convolve(a, b, method=method)
        assert np.abs(got / want - 1).max() < 1e-9
    assert np.abs(signal.oaconvolve(a, b) / want - 1).max() < 1e-9


def test_nan_stays_in_its_window() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(500), rng.standard_normal(60)
    want = np.convolve(a, b)
    a[200] = math.nan
    reached = np.isnan(np.convolve(a, b))
    assert reached.sum() == 60
    for got in (signal.convolve(a, b), signal.convolve(a, b, method="fft"),
                signal.fftconvolve(a, b), signal.oaconvolve(a, b)):  # fmt: skip
        assert np.array_equal(np.isnan(got), reached)
        assert np.abs(got - want)[~reached].max() < 1e-12


def test_correlate2d_conjugates_after_swapping() -> None:
    """SciPy conjugates the wrong operand when in2 is the larger one in 'valid' mode."""
    a, b = np.array([[1, 2j]]), np.array([[1, 2, 3 + 1j]])
    want = scipy.signal.correlate(a, b, "valid", "direct")
    assert np.array_equal(signal.correlate2d(a, b, "valid", method="direct"), want)
    assert not np.array_equal(scipy.signal.correlate2d(a, b, "valid"), want)


@pytest.mark.parametrize("n, m", [*itertools.product(range(1, 8), range(1, 8))])
def test_lags_are_those_of_correlate(n: int, m: int) -> None:
    """A pulse at sample i against one at sample j: the peak is at lag i - j, in every mode."""
    for mode, i, j in itertools.product(MODES, range(n), range(m)):
        lags = signal.correlation_lags(n, m, mode)
        peak = signal.correlate(np.arange(n) == i, np.arange(m) == j, mode)
        assert lags.shape == peak.shape and lags.dtype == np.int64
        assert lags[peak].tolist() == [lag for lag in lags if lag == i - j]
        if mode != "same" or n % 2 == 0 or m % 2 == 1:  # else SciPy's are off by one
            assert np.array_equal(lags, scipy.signal.correlation_lags(n, m, mode))


def test_lags_errors() -> None:
    with pytest.raises(ValueError, match="mode"):
        signal.correlation_lags(3, 2, "some")
    with pytest.raises(ValueError, match="at least 0"):
        signal.correlation_lags(-1, 2)
    with pytest.raises(TypeError):
        signal.correlation_lags(3.5, 2)


@modest
@given(
    st.sampled_from(("convolve", "correlate", "fftconvolve", "convolve2d")), st.sampled_from(MODES),
    st.sampled_from(FORMS), st.sampled_from(FORMS),
    st.sampled_from((*FLOATS, "i4", "u8", "?", "f2")),
)  # fmt: skip
def test_how_inputs_lie_in_memory(name: str, mode: str, f1: str, f2: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    a, b = random(rng, dtype, (9, 7)), random(rng, dtype, (3, 4))
    a, b = in_form(a, f1), in_form(b, f2)
    plain = np.array(a, np.dtype(dtype), order="C"), np.array(b, np.dtype(dtype), order="C")
    fn = getattr(signal, name)
    got, want = fn(a, b, mode), fn(*plain, mode)
    assert got.dtype == want.dtype and got.dtype.isnative and got.flags.c_contiguous
    # transforms of whole numbers round, by a way that may depend on how they lie
    tolerance = 0 if got.dtype.kind in "iub" else 100 * np.finfo(got.dtype).eps
    assert np.allclose(got, want, rtol=tolerance, atol=tolerance)
    assert np.array_equal(a, plain[0]) and np.array_equal(b, plain[1])


def test_out() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 99, (8, 9)), rng.integers(0, 99, (3, 4))
    for name, mode in itertools.product(FUNCTIONS, MODES):
        fn = getattr(signal, name)
        want = fn(a, b, mode)
        for out in (np.empty_like(want), np.empty(want.shape[::-1], want.dtype).T,
                    np.empty(want.shape, want.dtype.newbyteorder()),
                    np.empty(want.shape, "c16" if want.dtype.kind == "f" else "f8")):  # fmt: skip
            assert fn(a, b, mode, out=out) is out
            assert np.abs(out - want).max() <= (0 if want.dtype.kind == "i" else 1e-9)
        with pytest.raises(ValueError, match="shape"):
            fn(a, b, mode, out=np.empty((1, 1), want.dtype))
        with pytest.raises(TypeError, match="dtype"):
            fn(a, b, mode, out=np.empty(want.shape, "f4"))
        with pytest.raises(TypeError, match="array"):
            fn(a, b, mode, out=[1])
        out = np.empty_like(want)
        out.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            fn(a, b, mode, out=out)
    same = a.copy()
    assert np.array_equal(signal.convolve(same, b, "same", out=same), signal.convolve(a, b, "same"))
    h = rng.standard_normal(4)
    out = np.empty((8, 12))
    assert signal.upfirdn(h, a, out=out) is out
    assert np.array_equal(out, signal.upfirdn(h, a))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("sizes", [((20, 12), (3, 4)), ((3, 4), (20, 12)), ((5, 5), (5, 5))])
def test_plan_gives_what_the_call_gives(name: str, mode: str, sizes: Any) -> None:
    rng = np.random.default_rng(0)
    fn = getattr(signal, name)
    for dtype in ("f8", "c16", "i4"):
        a, b = random(rng, dtype, sizes[0]), random(rng, dtype, sizes[1])
        kept = b.copy()
        prepared = plan(fn, (a.shape, a.dtype), b, mode=mode)
        b[...] = 0  # a plan keeps its own kernel
        for x in (a, random(rng, dtype, sizes[0])):
            want = fn(x, kept, mode)
            got = prepared(x)
            tolerance = 0 if got.dtype.kind == "i" else 1e-11 * np.abs(want).max()
            assert got.dtype == want.dtype and np.abs(got - want).max() <= tolerance
            out = np.empty_like(want)
            assert prepared(x, out=out) is out and np.array_equal(out, got)
        assert len(prepared.problems) == 1


def test_plan_of_upfirdn_and_of_axes() -> None:
    rng = np.random.default_rng(0)
    x, h = rng.standard_normal((4, 30)), rng.standard_normal(7)
    for mode in EXTENSIONS:
        prepared = plan(signal.upfirdn, x, h, up=3, down=2, mode=mode)
        want = signal.upfirdn(h, x, 3, 2, mode=mode)
        assert np.allclose(prepared(x), want, rtol=0, atol=1e-12)
    prepared = plan(signal.convolve, x, h[None], axes=1, mode="same")
    assert np.allclose(prepared(x), signal.convolve(x, h[None], "same", axes=1), rtol=0, atol=1e-12)


def test_the_smaller_input_is_the_kernel() -> None:
    a, b = np.ones((3, 30)), np.ones((3, 4))
    for pair, mode in itertools.product([(a, b), (b, a)], ("full", "same")):
        assert plan(signal.convolve, *pair, mode=mode).problems[0].kernel == (3, 4)
    # in2 kept as the kernel where in1 is what gets extended
    assert plan(signal.convolve2d, b, a, boundary="wrap").problems[0].kernel == (3, 30)


def test_forced_methods_and_configs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(300), rng.standard_normal(9)
    want = np.convolve(a, b)
    for c in engine.candidates(signal.convolve, a, b):
        if c.refused is not None:
            with pytest.raises(ValueError, match=c.method):
                signal.convolve(a, b, method=c.method)
            continue
        got = signal.convolve(a, b, method=c.method, config=c.config)
        assert np.abs(got - want).max() < 1e-11
        assert plan(signal.convolve, a, b, method=c.method, config=c.config).method == c.method
    assert plan(signal.convolve, a, b, method="fft").method == "fft"
    assert plan(signal.fftconvolve, a, b, method="fft").method == "fft"
    assert plan(signal.oaconvolve, a, b, method="overlap_save").method in ("overlap_save", "fft")
    assert plan(signal.convolve, a, b, method="direct").method in signal._DIRECT
    with pytest.raises(ValueError, match="strict"):
        signal.fftconvolve(a, b, method="fft", accuracy="strict")
    assert np.abs(signal.fftconvolve(a, b, accuracy="strict") - want).max() < 1e-12
    assert np.abs(signal.convolve(a, b, accuracy="strict") - want).max() < 1e-12


def test_choose_conv_method() -> None:
    short, long = np.ones(3), np.ones(20_000)
    assert signal.choose_conv_method(long, short) == "direct"
    assert signal.choose_conv_method(long, long) == "fft"
    assert signal.choose_conv_method(long.astype(int), long.astype(int)) == "direct"
    assert signal.choose_conv_method(long > 0, long > 0) == "direct"
    with pytest.raises(ValueError, match="mode"):
        signal.choose_conv_method(short, short, "some")
    with pytest.raises(ValueError, match="valid"):
        signal.choose_conv_method(np.ones((3, 5)), np.ones((5, 3)), "valid")


def test_choose_conv_method_measures() -> None:
    for a in (np.ones(200), np.ones(200, int)):
        method, times = signal.choose_conv_method(a, a[:50], "same", measure=True)
        assert set(times) == {"direct", "fft"}
        assert method == min(times, key=times.__getitem__)
        assert (times["fft"] == math.inf) == (a.dtype.kind == "i")


@pytest.mark.parametrize("mode", EXTENSIONS)
@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12), st.integers(2, 30), st.integers(1, 5), st.integers(1, 5),
    st.sampled_from(("f4", "f8", "c8", "c16", "i4", "u1", "?")), st.integers(0, 2),
    st.sampled_from((0, 1.5)),
)  # fmt: skip
def test_upfirdn(
    mode: str, k: int, n: int, up: int, down: int, dtype: str, axis: int, cval: float
) -> None:
    rng = np.random.default_rng(k)
    h = rng.standard_normal(k).astype("f4" if dtype == "f4" else "f8")
    shape = [2, 3, 17]
    shape[axis] = n
    x = rng.integers(0, 2, shape) if dtype == "?" else 10 * rng.random(shape)
    x = x.astype(dtype) * (1 if dtype[0] != "c" else np.dtype(dtype).type(1 + 2j))
    got = signal.upfirdn(h, x, up, down, axis, mode, cval)
    want = scipy.signal.upfirdn(h, x, up, down, axis, mode, cval)
    assert got.dtype == want.dtype and got.shape == want.shape
    # slopes reach k samples beyond the ends: no value is above (k + 3) times the largest
    size = np.abs(x).max() * (k + 3) * np.abs(h).sum() + abs(cval) * np.abs(h).sum()
    assert (np.abs(got - want) <= 8 * (k + 4) * np.finfo(got.dtype).eps * (size + 1e-30)).all()


@pytest.mark.parametrize("mode", EXTENSIONS)
def test_upfirdn_of_one_sample(mode: str) -> None:
    """SciPy reads beyond the array, divides by zero or crashes in four of these."""
    outside = 7 if mode == "constant" else 3
    line = [3, -3, 3, -3, 3] if mode == "antisymmetric" else [outside, outside, 3, outside, outside]
    for up in (1, 2):
        spread = np.zeros(4 * up + 1)
        spread[::up] = line
        want = np.convolve(spread, [1, 2, 4])[2 * up : 2 * up + 3]
        got = signal.upfirdn([1, 2, 4], [3.0], up, mode=mode, cval=7, method="direct")
        assert np.array_equal(got, want)


def test_upfirdn_edge_cases() -> None:
    assert signal.upfirdn([1, 2], []).tolist() == [0]
    assert signal.upfirdn([1], []).shape == (0,)
    assert signal.upfirdn([1], [], up=3).shape == (0,)
    assert signal.upfirdn([1, 2], np.ones((0, 2)), axis=0).tolist() == [[0, 0]]
    assert signal.upfirdn([1, 2], np.ones((0, 2))).shape == (0, 3)
    assert signal.upfirdn([1], [1, 2], mode="EDGE").tolist() == [1, 2]
    assert signal.upfirdn([1.0], [1, 2], up=2.0, down=np.int8(1)).tolist() == [1, 0, 2]
    assert np.array_equal(signal.upfirdn([1, 1], [1.0, 2.0], cval=math.nan)[1:2], [3.0])
    got = signal.upfirdn(np.ones(2, "g"), np.ones(3, "g"))
    assert got.dtype == np.longdouble and got.tolist() == [1, 2, 2, 1]
    with np.errstate(all="raise"):
        signal.upfirdn(np.ones(5), [math.inf, 1.0, -math.inf], 1, mode="line")


def test_upfirdn_errors() -> None:
    for h in ([], [[1.0]], 1.0):
        with pytest.raises(ValueError, match="h"):
            signal.upfirdn(h, [1, 2])
    for rate in (0, -1, 1.5, "a", None, math.nan, math.inf, np.array([2, 3])):
        with pytest.raises(ValueError, match="up"):
            signal.upfirdn([1], [1, 2], rate)
        with pytest.raises(ValueError, match="down"):
            signal.upfirdn([1], [1, 2], 1, rate)
    for axis in (1, -2):
        with pytest.raises(IndexError):
            signal.upfirdn([1], [1, 2], axis=axis)
    with pytest.raises(IndexError):
        signal.upfirdn([1], 5.0)
    with pytest.raises(TypeError):
        signal.upfirdn([1], [1, 2], axis=0.5)
    for mode in ("some", 0, None):
        with pytest.raises(ValueError, match="mode"):
            signal.upfirdn([1], [1, 2], mode=mode)
    for cval in (1j, "a", [1, 2]):
        with pytest.raises(TypeError, match="cval"):
            signal.upfirdn([1.0, 2.0], [1, 2], cval=cval)
    with pytest.raises(ValueError, match="extend"):
        signal.upfirdn([1, 2], [], mode="wrap")


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize("mode", MODES)
def test_complex_samples_by_real_weights(dtype: str, mode: str) -> None:
    """Pairs of real numbers; the second call of a kind takes the short way."""
    rng = np.random.default_rng(5)
    real = np.dtype(dtype).char.lower()
    for shape, taps, axes in (
        ((301,), (7,), None), ((301,), (1,), None), ((20, 33), (3, 4), None),
        ((9, 40), (1, 5), (1,)), ((40, 9), (5, 1), (0,)), ((9, 40), (9, 5), (1,)),
    ):  # fmt: skip
        x = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
        w = rng.standard_normal(taps).astype(real)
        function = signal.oaconvolve if axes else signal.convolve
        options = {"axes": axes} if axes else {}
        want = [
            getattr(scipy.signal, function.__name__)(
                part.astype("f8"), w.astype("f8"), mode, **options
            )
            for part in (x.real, x.imag)
        ]
        for data in (x, x.copy(), x[..., ::-1][..., ::-1], np.asfortranarray(x)):
            got = function(data, w, mode, **options)
            assert got.dtype == x.dtype
            bound = 40 * np.finfo(dtype).eps * abs(x).max() * abs(w).sum()
            np.testing.assert_allclose(got, want[0] + 1j * want[1], rtol=0, atol=bound)
        out = np.zeros(got.shape, dtype)
        for _ in range(3):
            if axes is None:
                assert signal.convolve(x, w, mode, out=out) is out
                np.testing.assert_allclose(out, want[0] + 1j * want[1], rtol=0, atol=bound)
                prepared = plan(signal.convolve, x, w, mode=mode)
                again = prepared(x)  # maybe by another method than the call's
                np.testing.assert_allclose(again, want[0] + 1j * want[1], rtol=0, atol=bound)
                assert np.array_equal(prepared(x), again)
    x = np.ones(50, dtype)
    x[20] = complex(np.inf, 1)
    y = signal.convolve(x, np.ones(3, real))
    assert np.isinf(y.real).sum() == 3 and np.isfinite(y.imag).all()
