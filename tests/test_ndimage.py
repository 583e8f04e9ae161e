"""fastconv.ndimage against scipy.ndimage, and against the oracle where SciPy does not go."""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as peer
from strategies import FORMS, in_form

import fastconv
from fastconv import _engine, ndimage
from fastconv.ndimage import FilterError, FilterTypeError

Array = npt.NDArray[Any]

MODES = ("reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap",
         "grid-constant")  # fmt: skip
BOUNDARY = {"grid-mirror": "reflect", "grid-wrap": "wrap", "grid-constant": "constant"}
FLOATS = ("f4", "f8", "c8", "c16")
SMALL_INTEGERS = ("i1", "u1", "i2", "u2")
INTEGERS = (*SMALL_INTEGERS, "i4", "u4", "i8", "u8")
FUNCTIONS = [name for name in ndimage.__all__ if name[0].islower()]

#: A call of every function that takes any real image, by name.
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "correlate": ([[1, -2, 3], [0, 1, 1]], {"origin": (-1, 1)}),
    "convolve": ([[1, -2, 3], [0, 1, 1]], {"origin": (0, 1), "mode": "wrap"}),
    "correlate1d": ([1, -2, 4, 1], {"axis": 0, "origin": 1}),
    "convolve1d": ([1, -2, 4, 1], {"axis": 0, "origin": 1, "mode": "constant", "cval": 2}),
    "gaussian_filter": (0.8, {"order": (1, 0), "mode": ("wrap", "mirror")}),
    "gaussian_filter1d": (0.7, {"order": 2, "axis": 0}),
    "uniform_filter": (3, {"mode": "nearest"}),
    "uniform_filter1d": (4, {"origin": 1}),
    "sobel": (None, {"axis": 0}),
    "prewitt": (None, {"mode": "mirror"}),
    "laplace": (None, {"mode": ("wrap", "constant")}),
    "gaussian_laplace": ((0.5, 0.8), {"truncate": 3.0}),
    "gaussian_gradient_magnitude": (0.8, {"radius": 2}),
    "generic_laplace": (peer.sobel, {}),
    "generic_gradient_magnitude": (peer.prewitt, {}),
}


def call(module: Any, name: str, x: Array, **options: Any) -> Any:
    kernel, preset = CALLS[name]
    arguments = () if kernel is None else (kernel,)
    return getattr(module, name)(x, *arguments, **{**preset, **options})


def eps(*dtypes: Any) -> float:
    """Rounding unit of what sums are computed in: float32 when nothing is wider."""
    wide = np.result_type(*dtypes, np.float32)
    return float(np.finfo(wide).eps) if wide.kind in "fc" else float(np.finfo(np.float64).eps)


def numbers(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    """Samples of a dtype: integers of its whole range (of 2**40 at most), floats about 1."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind in "iu":
        high = min(np.iinfo(kind).max, 2**40)
        return rng.integers(max(np.iinfo(kind).min, -high), high, shape, endpoint=True, dtype=kind)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if kind.kind == "c" else values).astype(kind)


def magnitude(x: Array) -> Array:
    return np.abs(x.astype(np.result_type(x.dtype, np.float64)))


@st.composite
def images(
    draw: st.DrawFn, dtypes: tuple[str, ...] = FLOATS, low: int = 1, high: int = 3
) -> tuple[Array, np.random.Generator]:
    """A small image in any memory layout, and the generator that made it."""
    ndim = draw(st.integers(low, high))
    shape = tuple(draw(st.integers(1, 9 if ndim < 3 else 5)) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = numbers(rng, draw(st.sampled_from(dtypes)), shape)
    return (in_form(x, draw(st.sampled_from(FORMS))) if ndim else x), rng


def some_axes(draw: st.DrawFn, ndim: int, least: int = 0) -> tuple[int, ...] | None:
    """None, or some of the axes in the image's order, some counted from the end."""
    if draw(st.booleans()):
        return None
    chosen = draw(st.sets(st.integers(0, ndim - 1), min_size=least)) if ndim else set()
    return tuple(a - ndim * draw(st.booleans()) for a in sorted(chosen))


def origins(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(draw(st.integers(-(k // 2), (k - 1) // 2)) for k in shape)


def outputs(draw: st.DrawFn, x: Array, is_complex: bool) -> tuple[Any, Any]:
    """Two equal `output` arguments, one for each library."""
    dtype = draw(st.sampled_from(("c8", "c16") if is_complex else ("f4", "f8", ">f8")))
    form = draw(st.sampled_from(("none", "dtype", "str", "array", "strided", "class")))
    if form == "none":
        return None, None
    if form == "array":
        return np.full(x.shape, 7, dtype), np.full(x.shape, 7, dtype)
    if form == "strided":
        wide = np.full((*x.shape, 2), 7, dtype)
        return wide[..., 1][::-1] if x.ndim else wide[..., 1], np.full(x.shape, 7, dtype)
    if form == "class":
        return (np.dtype(dtype).type,) * 2
    return (dtype if form == "str" else np.dtype(dtype),) * 2


def rounding(x: Array, w: Array, got: Array) -> float:
    """What one pass and SciPy's may err by, for a scale of 1: weights, products, sum and result."""
    terms = (4 if got.dtype.kind == "c" else 1) * w.size + 4
    # SciPy keeps parts of complex sums in the input's dtype, however wide its output is
    theirs = eps(x.dtype) if x.dtype.kind == w.dtype.kind == "c" else eps("f8")
    # both round to the output's dtype; of complex sums SciPy rounds three parts
    return terms * (eps(x.dtype, got.dtype) + theirs) + 4 * eps(got.dtype)


def assert_close(got: Array, expected: Array, bound: Array, result: Any = None) -> None:
    """Every element within its own bound; both arrays of one shape and dtype."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    wide = np.result_type(got.dtype, np.float64)
    error = np.abs(got.astype(wide) - expected.astype(wide))
    assert np.all(error <= bound), f"{(error / np.maximum(bound, 1e-300)).max()} times the bound"
    if isinstance(result, np.ndarray):
        assert got is result


# ---- correlate and convolve ----------------------------------------------------------------------


@given(st.data())
def test_n_dimensional_as_scipy(data: st.DataObject) -> None:
    draw = data.draw
    x, rng = draw(images(low=0))
    before = x.copy()
    axes = some_axes(draw, x.ndim)
    count = x.ndim if axes is None else len(axes)
    shape = tuple(draw(st.integers(1, 4)) for _ in range(count))
    w = numbers(rng, draw(st.sampled_from(("f4", "f8", "c16", "i4"))), shape)
    w = in_form(w, draw(st.sampled_from(FORMS[:4]))) if count else w
    is_complex = "c" in (x.dtype.kind, w.dtype.kind)
    name = draw(st.sampled_from(("correlate", "convolve")))
    if w.dtype.kind == "i" and name == "correlate":  # one origin for all, weights as a list
        w = w % 6 + 1  # SciPy skips zeros, also beside NaN
        options: dict[str, Any] = {"origin": 0 if count == 0 else -draw(st.integers(0, 1)) *
                                   (min(shape) > 1)}  # fmt: skip
    else:
        options = {"origin": origins(draw, shape)}
    options |= {"mode": draw(st.sampled_from(MODES)), "axes": axes,
                "cval": draw(st.sampled_from((0.0, 1.5, -2, math.nan)))}  # fmt: skip
    if x.dtype.kind == "c" and draw(st.booleans()):
        options["cval"] = 1 - 2j
    ours, theirs = outputs(draw, x, is_complex)
    got = getattr(ndimage, name)(x, w, ours, accuracy="strict", **options)
    expected = getattr(peer, name)(before, w, theirs, **options)  # SciPy misreads zero strides
    scale = getattr(peer, name)(
        magnitude(x), magnitude(w), **{**options, "cval": abs(options["cval"])}
    )
    if math.isnan(abs(options["cval"])):
        assert np.array_equal(np.isnan(got), np.isnan(expected))
        scale, got, expected = (np.where(np.isnan(expected), 0, a).astype(a.dtype)
                                for a in (scale, got, expected))  # fmt: skip
        ours = None
    assert_close(got, expected, rounding(x, w, got) * scale, ours)
    assert np.array_equal(x, before)


@given(st.data())
def test_one_dimensional_as_scipy(data: st.DataObject) -> None:
    draw = data.draw
    x, rng = draw(images())
    w = numbers(rng, draw(st.sampled_from(("f4", "f8", "c16"))), (draw(st.integers(1, 13)),))
    is_complex = "c" in (x.dtype.kind, w.dtype.kind)
    name = draw(st.sampled_from(("correlate1d", "convolve1d")))
    options: dict[str, Any] = {
        "axis": draw(st.integers(-x.ndim, x.ndim - 1)), "mode": draw(st.sampled_from(MODES)),
        "cval": draw(st.sampled_from((0.0, 0.25))), "origin": origins(draw, w.shape)[0],
    }  # fmt: skip
    ours, theirs = outputs(draw, x, is_complex)
    got = getattr(ndimage, name)(x, w, output=ours, accuracy="strict", **options)
    expected = getattr(peer, name)(x.copy(), w, output=theirs, **options)
    scale = getattr(peer, name)(magnitude(x), magnitude(w), **options)
    assert_close(got, expected, rounding(x, w, got) * scale, ours)


@pytest.mark.parametrize("name", ["correlate", "convolve"])
@pytest.mark.parametrize("taps", range(1, 8))
def test_every_origin(name: str, taps: int) -> None:
    x, w = 2 ** np.arange(5), np.arange(1, taps + 1)
    for mode in MODES:
        for origin in range(-(taps // 2), (taps - 1) // 2 + 1):
            expected = getattr(peer, name)(x, w, mode=mode, cval=3, origin=origin)
            for function in (name, name + "1d"):
                got = getattr(ndimage, function)(x, w, mode=mode, cval=3, origin=origin)
                assert np.array_equal(got, expected)
        for origin in (-(taps // 2) - 1, (taps - 1) // 2 + 1):
            with pytest.raises(ValueError, match="origin"):
                getattr(ndimage, name)(x, w, mode=mode, origin=origin)


@pytest.mark.parametrize("accuracy", ["balanced", "fast"])
def test_looser_accuracy_keeps_its_promise(accuracy: str) -> None:
    rng = np.random.default_rng(4)
    x, w = numbers(rng, "f4", (24, 25)), numbers(rng, "f4", (3, 3))
    got = ndimage.convolve(x, w, accuracy=accuracy)
    expected = peer.convolve(x.astype("f8"), w)
    own = peer.convolve(abs(x).astype("f8"), abs(w))
    worst = abs(x).max() * abs(w).sum()
    levels = {"balanced": np.maximum(32 * own, 16 * np.log2(2 + 26 * 27) * worst) * 2.0**-23,
              "fast": np.maximum(own, worst) * 2.0**-10}  # fmt: skip
    assert np.all(abs(got - expected) <= levels[accuracy])


@pytest.mark.parametrize("dtype", ["f4", "u1", "i8"])
@pytest.mark.parametrize("cval", [math.nan, math.inf, 0.5, 300, -1])
def test_cval_of_every_kind(dtype: str, cval: float) -> None:
    x = np.arange(6, dtype=dtype)
    for w in ([1, 2, 1], [0.25, 0.5, 0.25], [1e3, 0, 1]):
        for mode in ("reflect", "constant"):
            got = ndimage.correlate1d(x, w, mode=mode, cval=cval)
            if np.isfinite(cval) or dtype == "f4" or mode == "reflect":
                assert np.array_equal(got, peer.correlate1d(x, w, mode=mode, cval=cval),
                                      equal_nan=dtype == "f4")  # fmt: skip
            else:  # what is not finite is no integer
                assert got[0] == got[-1] == 0


def test_unsorted_axes() -> None:
    """Weights follow the image's axes, origins follow `axes`."""
    x, w = np.arange(24.0).reshape(2, 3, 4), np.arange(6.0).reshape(3, 2)
    got = ndimage.correlate(x, w, axes=(2, 0), origin=(-1, 1))
    assert np.array_equal(got, peer.correlate(x, w, axes=(2, 0), origin=(-1, 1)))
    square = np.arange(12.0).reshape(3, 4)
    got = ndimage.convolve(square, w, axes=(1, 0), origin=(-1, 1))
    assert np.array_equal(got, peer.convolve(square, w, origin=(1, -1)))


# ---- integers ------------------------------------------------------------------------------------


@given(st.data())
def test_whole_weights_on_integers_are_exact(data: st.DataObject) -> None:
    """Any integers wrap modulo 2**bits, at any size; small ones are what SciPy gives too."""
    draw = data.draw
    x, rng = draw(images((*INTEGERS, "?"), high=2))
    shape = tuple(draw(st.integers(1, 4)) for _ in range(x.ndim))
    mode = draw(st.sampled_from(MODES[:5]))
    cval = draw(st.sampled_from((0, 3, -3, 255)))
    # with a negative cval sums are computed in float64: keep them below 2**53
    factors = (1, 1000003) if mode != "constant" or cval >= 0 else (1,)
    w = rng.integers(-5, 6, shape) * draw(st.sampled_from(factors))
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    weights = w.astype(draw(st.sampled_from(("i4", "f8"))))
    got = ndimage.correlate(x, weights, dtype, mode, cval)
    assert got.dtype == dtype
    exact, _ = reference.conv(
        x.astype("i8")[None, None], w[None, None], boundary=mode, cval=cval,
        padding=[(k // 2, (k - 1) // 2) for k in shape],
    )  # fmt: skip
    if x.dtype != np.uint64 or x.max() < 2**40:
        assert np.array_equal(got, exact[0, 0].astype(dtype))


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_integers_beyond_doubles(dtype: str) -> None:
    top = np.iinfo(dtype).max
    x = np.array([top, top - 1, 1, top], dtype)
    got = ndimage.correlate(x, [1, 0, 0])
    assert np.array_equal(got, [top, top, top - 1, 1])


@given(st.data())
def test_fractional_weights_on_integers_are_cut(data: st.DataObject) -> None:
    """The result is what C makes of some number within the rounding error of the exact sum."""
    draw = data.draw
    x, rng = draw(images(("f4", "f8", *INTEGERS[:6], "i8"), high=2))
    dtype = np.dtype(draw(st.sampled_from(SMALL_INTEGERS)))
    shape = tuple(draw(st.integers(1, 4)) for _ in range(x.ndim))
    w = rng.choice([0.1, 0.25, 1 / 3, 0.7, 1.9, -0.6], shape)
    mode, cval = draw(st.sampled_from(MODES[:5])), draw(st.sampled_from((0, 0.3, -20.5)))
    got = ndimage.correlate(x, w, dtype, mode, cval, accuracy="strict")
    assert got.dtype == dtype
    padding = [(k // 2, (k - 1) // 2) for k in shape]
    wide = np.longdouble
    exact, scale = (a[0, 0] for a in reference.conv(
        x.astype(wide)[None, None], w.astype(wide)[None, None], boundary=mode, cval=cval,
        padding=padding))  # fmt: skip
    bound = (4 * w.size + 4) * 2.0**-52 * scale
    low, high = np.trunc(exact - bound), np.trunc(exact + bound)
    above = (got.astype(object) - low.astype(object)) % 2 ** (8 * dtype.itemsize)
    assert np.all(above.astype("f8") <= (high - low).astype("f8"))


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([200.0, 256.0, 1.8, -1.0, -0.9, -1.7], "u1", [200, 0, 1, 255, 0, 255]),
        ([-1.7, 127.9, 128.0, -129.0], "i1", [-1, 127, -128, 127]),
        ([3e9, -3e9, 2.0**32], "i4", [3_000_000_000 - 2**32, 2**32 - 3_000_000_000, 0]),
        ([1e19, -1.0, 2.0**64, 2.0**63], "u8", [10**19, 2**64 - 1, 0, 2**63]),
        ([2.0**63, -(2.0**63), -(2.0**65) + 2.0**13], "i8", [-(2**63), -(2**63), 2**13]),
        ([math.nan, math.inf, -math.inf, 7.9], "i8", [0, 0, 0, 7]),
        ([math.nan, math.inf, -math.inf, 7.9], "u1", [0, 0, 0, 7]),
        ([0.9, -0.9, 1.0, -3.5, 256.0], "?", [False, False, True, True, True]),
    ],
)
def test_floats_stored_in_integers(values: list[float], dtype: str, expected: list[Any]) -> None:
    x = np.array(values)
    for got in (
        ndimage.correlate(x, [1.0], dtype),
        ndimage.gaussian_filter(x, 0, output=dtype),
        ndimage.correlate(x, [1.0], np.empty(x.shape, np.dtype(dtype).newbyteorder())),
    ):
        assert np.array_equal(got, np.array(expected, dtype))


@pytest.mark.parametrize("dtype", [*SMALL_INTEGERS, "i4", "u4", "i8"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["sobel", "prewitt", "laplace", "uniform_filter"])
def test_passes_wrap_as_scipy(name: str, dtype: str, mode: str) -> None:
    rng = np.random.default_rng(1)
    x = numbers(rng, dtype, (7, 6)) // (1 if dtype in SMALL_INTEGERS else 2**12)
    got = getattr(ndimage, name)(x, mode=mode, cval=3)
    expected = getattr(peer, name)(x, mode=mode, cval=3)
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected)


@given(st.data())
def test_uniform_integers_as_scipy(data: st.DataObject) -> None:
    draw = data.draw
    x, _ = draw(images((*SMALL_INTEGERS, "i4", "u4", "i8")))
    sizes = tuple(draw(st.integers(0, 9)) for _ in range(x.ndim))
    options = {"mode": draw(st.sampled_from(MODES)), "cval": draw(st.integers(-3, 9)),
               "origin": origins(draw, tuple(max(k, 1) for k in sizes))}  # fmt: skip
    got = ndimage.uniform_filter(x, sizes, **options)
    expected = peer.uniform_filter(x, sizes, **options)
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("sigma", np.arange(0.3, 4, 0.37))
@pytest.mark.parametrize("value", [1, 7, 100, 255])
def test_constant_image_stays_constant(sigma: float, value: int) -> None:
    """Rounding must not make 99 of 100 when sums are cut."""
    x = np.full((9, 8), value, np.uint8)
    assert np.array_equal(ndimage.gaussian_filter(x, sigma), x)
    assert np.array_equal(ndimage.gaussian_filter(x.astype("f8"), sigma, output="i8"), x)
    assert ndimage.gaussian_filter(x > 0, sigma).all()
    assert np.array_equal(ndimage.correlate(x, np.full((3, 3), 1 / 9)), x)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_gaussian_integers(dtype: str) -> None:
    """Axis by axis in the output's dtype; from SciPy's by at most one a pass."""
    rng = np.random.default_rng(2)
    x = numbers(rng, dtype, (9, 10)) % 100
    got = ndimage.gaussian_filter(x, (0.7, 1.2))
    one = ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(x, 0.7, 0), 1.2, 1)
    assert got.dtype == x.dtype
    assert np.array_equal(got, one)
    expected = peer.gaussian_filter(x, (0.7, 1.2))
    assert abs(got.astype("i8") - expected.astype("i8")).max() <= 2


# ---- gaussian ------------------------------------------------------------------------------------


def gaussian_weights(sigma: float, order: int, radius: int) -> tuple[Array, Array]:
    """Derivative weights in the order correlation wants, and what their rounding is measured by."""
    t = np.arange(-radius, radius + 1).astype(np.longdouble)
    phi = np.exp(-0.5 * (t / sigma) ** 2)
    phi /= phi.sum()
    q = {0: np.longdouble(1)}  # coefficients of q: the n-th derivative is q(t) * phi(t)
    for _ in range(order):
        step: dict[int, Any] = {}
        for power, factor in q.items():
            step[power + 1] = step.get(power + 1, 0) - factor / np.longdouble(sigma) ** 2
            if power:
                step[power - 1] = step.get(power - 1, 0) + power * factor
        q = step
    value = sum(c * t**p for p, c in q.items()) * phi
    size = sum(abs(c) * abs(t) ** p for p, c in q.items()) * phi
    return np.atleast_1d(value)[::-1], np.atleast_1d(size)[::-1]


def along(axis: int, w: Array, ndim: int) -> Array:
    return w.reshape([-1 if a == axis else 1 for a in range(ndim)])


def oracle(
    x: Array, steps: list[tuple[int, Array, Array, str]], cval: float
) -> tuple[Array, Array]:
    """Passes (axis, weights, their scale, mode) in long double; the result and its scale."""
    y, scale = x.astype(np.longdouble), abs(x.astype(np.longdouble))
    for axis, w, size, mode in steps:
        padding = [(0, 0)] * x.ndim
        padding[axis] = (len(w) // 2, (len(w) - 1) // 2)
        boundary = BOUNDARY.get(mode, mode)
        y, scale = (
            reference.conv(a[None, None], along(axis, v, x.ndim)[None, None], padding=padding,
                           boundary=boundary, cval=c)[0][0, 0]
            for a, v, c in ((y, w, cval), (scale, size, abs(cval)))
        )  # fmt: skip
    return y, scale


@given(st.data())
def test_gaussian(data: st.DataObject) -> None:
    draw = data.draw
    x, _ = draw(images(("f4", "f8", "u1", "i4")))
    axes = some_axes(draw, x.ndim, 1)
    which = tuple(range(x.ndim)) if axes is None else tuple(a % x.ndim for a in axes)
    count = len(which)
    sigmas = [draw(st.sampled_from((0, 0.4, 1, 1.7, 2.5))) for _ in which]
    orders = [draw(st.integers(0, 3)) for _ in which]
    modes = [draw(st.sampled_from(MODES)) for _ in which]
    truncate = draw(st.sampled_from((2.0, 4.0, 5)))
    radii = [draw(st.integers(0, 5)) for _ in which] if draw(st.booleans()) else None
    cval = draw(st.sampled_from((0.0, -1.25)))
    output = draw(st.sampled_from(("f4", "f8"))) if x.dtype.kind in "iu" else None
    options = {"axes": axes, "radius": radii, "output": output}
    got = ndimage.gaussian_filter(x, sigmas, orders, mode=modes, cval=cval, truncate=truncate,
                                  accuracy="strict", **options)  # fmt: skip
    steps, factor = [], 4.0
    for i in range(count):
        if sigmas[i] == 0:
            continue
        radius = int(truncate * sigmas[i] + 0.5) if radii is None else radii[i]
        steps.append((which[i], *gaussian_weights(sigmas[i], orders[i], radius), modes[i]))
        # exp's argument is rounded to a few eps; so are the polynomial's terms and their sum
        factor += 2 * (radius / sigmas[i]) ** 2 + 2 * radius + 6 * orders[i] + 16
    expected, scale = oracle(x, steps, cval)
    bound = factor * eps(x.dtype, got.dtype) * scale + eps(got.dtype) * abs(expected)
    assert_close(got.astype("f8"), expected.astype("f8"), bound.astype("f8"))
    theirs = peer.gaussian_filter(x.copy(), sigmas, orders, mode=modes, cval=cval,
                                  truncate=truncate, **options)  # fmt: skip
    # SciPy rounds to the output's dtype after every pass
    bound = 2 * bound + len(steps) * eps(got.dtype) * scale
    assert_close(got, theirs, bound.astype("f8"))


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("sigma", [0.3, 1, 2.5])
def test_gaussian_derivatives(order: int, sigma: float) -> None:
    x = np.random.default_rng(3).standard_normal((4, 19))
    got = ndimage.gaussian_filter1d(x, sigma, order=order, mode="mirror")
    radius = int(4 * sigma + 0.5)
    expected, scale = oracle(x, [(1, *gaussian_weights(sigma, order, radius), "mirror")], 0)
    assert np.all(abs(got - expected) <= (2 * radius + 6 * order + 64) * 2.0**-52 * scale)
    theirs = peer.gaussian_filter1d(x, sigma, order=order, mode="mirror")
    assert np.all(abs(got - theirs) <= (2 * radius + 6 * order + 64) * 2.0**-51 * scale)


def test_gaussian_without_passes_copies() -> None:
    x = np.arange(6.0).reshape(2, 3)
    for got in (
        ndimage.gaussian_filter(x, 0),
        ndimage.gaussian_filter(x, (1e-15, 0.0), order=2),
        ndimage.gaussian_filter(x, 1, axes=()),
        ndimage.gaussian_filter1d(x, 0.0),
        ndimage.uniform_filter(x, 1),
        ndimage.uniform_filter(x, 5, axes=()),
        ndimage.laplace(x, axes=()),
        ndimage.gaussian_gradient_magnitude(x, 1, axes=()),
    ):
        assert np.array_equal(got, x)
        assert not np.shares_memory(got, x)


@given(st.data())
def test_gaussian_combinations_as_scipy(data: st.DataObject) -> None:
    draw = data.draw
    x, _ = draw(images(("f4", "f8")))
    axes = some_axes(draw, x.ndim, 1)
    which = tuple(range(x.ndim)) if axes is None else tuple(a % x.ndim for a in axes)
    sigmas = [draw(st.sampled_from((0.4, 1, 1.7))) for _ in which]
    modes = [draw(st.sampled_from(MODES)) for _ in which]
    options = {"mode": modes, "cval": draw(st.sampled_from((0.0, 2.0))), "truncate": 3.0}
    name = draw(st.sampled_from(("gaussian_laplace", "gaussian_gradient_magnitude")))
    got = getattr(ndimage, name)(x, sigmas, axes=axes, accuracy="strict", **options)
    order = 2 if name == "gaussian_laplace" else 1
    if order == 2:
        expected = peer.gaussian_laplace(x, sigmas, axes=axes, **options)
    else:  # SciPy wants sigma for all axes, whatever axes says: leave the others by a zero
        every = [0.0] * x.ndim
        for a, s in zip(which, sigmas):
            every[a] = s
        expected = peer.gaussian_gradient_magnitude(x, every, axes=axes, **options)
    scales = []
    for axis, mode in zip(which, modes):
        steps = []
        for a, s in zip(which, sigmas):
            n = order if a == axis else 0
            steps.append((a, *gaussian_weights(s, n, int(3.0 * s + 0.5)), mode))
        scales.append(oracle(x, steps, options["cval"])[1])
    total = sum(scales) if order == 2 else np.sqrt(sum(s * s for s in scales))
    factor = sum(4 + 2 * 3.5**2 + 6 * s + 28 for s in sigmas)
    bound = 2 * factor * eps(x.dtype) * total + math.sqrt(np.finfo(x.dtype).tiny) * x.ndim
    assert_close(got, expected, bound.astype("f8"))


def test_gradient_magnitude_along_some_axes() -> None:
    """Slice by slice along the others, which one sigma for all does not smooth."""
    x = np.random.default_rng(5).standard_normal((3, 8, 7))
    got = ndimage.gaussian_gradient_magnitude(x, 1.0, axes=(1, 2))
    for plane, expected in zip(x, got):
        assert np.allclose(peer.gaussian_gradient_magnitude(plane, 1.0), expected, rtol=1e-12)


# ---- uniform -------------------------------------------------------------------------------------


@given(st.data())
def test_uniform_floats(data: st.DataObject) -> None:
    draw = data.draw
    x, _ = draw(images(("f4", "f8", "u1")))
    axes = some_axes(draw, x.ndim, 1)
    which = tuple(range(x.ndim)) if axes is None else tuple(a % x.ndim for a in axes)
    sizes = [draw(st.integers(0, 11)) for _ in which]
    modes = [draw(st.sampled_from(MODES)) for _ in which]
    output = draw(st.sampled_from(("f4", "f8"))) if x.dtype.kind == "u" else None
    got = ndimage.uniform_filter(x, sizes, output, modes, 0.75, axes=axes, accuracy="strict")
    steps = [
        (a, np.full(k, 1 / np.longdouble(k)), np.full(k, 1 / np.longdouble(k)), m)
        for a, k, m in zip(which, sizes, modes) if k > 1
    ]  # fmt: skip
    expected, scale = oracle(x, steps, 0.75)
    bound = (sum(sizes) + 4 * len(steps) + 1) * eps(x.dtype, got.dtype) * scale
    assert_close(got.astype("f8"), expected.astype("f8"), bound.astype("f8"))
    theirs = peer.uniform_filter(x, sizes, output, modes, 0.75, axes=axes)
    # SciPy's running sum errs with all that went through it
    running = 64 * 2.0**-52 * scale.max(initial=0)
    assert_close(got, theirs, (2 * bound + running).astype("f8"))


def test_uniform_1d_and_origins() -> None:
    x = np.arange(10.0) ** 2
    for size in range(1, 12):
        for origin in range(-(size // 2), (size - 1) // 2 + 1):
            got = ndimage.uniform_filter1d(x, size, mode="mirror", origin=origin)
            expected = peer.uniform_filter1d(x, size, mode="mirror", origin=origin)
            assert np.allclose(got, expected, rtol=1e-14, atol=0)
    assert np.array_equal(ndimage.uniform_filter(x, 3.0), ndimage.uniform_filter(x))


# ---- other dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_function_on_floats(name: str, dtype: str) -> None:
    x = numbers(np.random.default_rng(6), dtype, (6, 5))
    got, expected = call(ndimage, name, x), call(peer, name, x)
    assert got.dtype == expected.dtype
    # every weight here is below 4 and every sum below 40 of them, of samples below 4
    assert np.allclose(got, expected, rtol=0, atol=40 * 4 * 4 * eps(dtype))


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if not n.startswith("generic")])
def test_dtypes_that_scipy_refuses(name: str) -> None:
    """float16 is computed in float32 and rounded once; long double in itself."""
    x = numbers(np.random.default_rng(7), "f8", (6, 5)).astype(np.float16)
    wide = call(ndimage, name, x.astype("f4"))
    half = call(ndimage, name, x)
    assert half.dtype == np.float16
    steps = 2 * x.ndim if "laplace" in name or "magnitude" in name else 1
    scale = abs(wide).max() + (4 * abs(x).max() if steps > 1 else 0)
    assert np.allclose(half, wide, rtol=0, atol=steps * 2.0**-10 * float(scale))
    with pytest.raises(RuntimeError):
        call(peer, name, x)
    long = call(ndimage, name, x.astype(np.longdouble))
    assert long.dtype == np.longdouble
    assert np.allclose(long.astype("f8"), call(peer, name, x.astype("f8")), rtol=0, atol=1e-13)


def test_long_double_is_not_narrowed() -> None:
    tiny = np.finfo(np.longdouble).eps
    x = np.array([0, 1 + tiny, 0], np.longdouble)
    assert ndimage.correlate(x, [1])[1] == 1 + tiny
    third = ndimage.uniform_filter(x, 3)[1]
    assert abs(3 * third - 1 - tiny) <= 8 * tiny


def test_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([1, 2, 4, 8], ml_dtypes.bfloat16)
    got = ndimage.correlate1d(x, [1, 1], mode="constant")
    assert got.dtype == x.dtype
    assert got.astype("f4").tolist() == [1, 3, 6, 12]


def test_wider_output_is_computed_in_it() -> None:
    x = np.array([1, 2.0**-30, 0], np.float32)
    assert ndimage.correlate(x, [1, 1, 0], np.float64)[1] == 1 + 2.0**-30
    third = ndimage.correlate(np.ones(3, np.uint8), [1 / 3], "f8")
    assert third.tolist() == [1 / 3] * 3


def test_complex() -> None:
    x, w = np.array([1, 2j, 3]), np.array([1j, 2])
    for name in ("correlate", "convolve", "correlate1d", "convolve1d"):
        for data in (x, x.real.astype("f4"), np.arange(3, dtype="i1"), np.arange(3)):
            got, expected = getattr(ndimage, name)(data, w), getattr(peer, name)(data, w)
            assert got.dtype == expected.dtype
            assert np.array_equal(got, expected)
    with pytest.warns(UserWarning, match="promoted to complex"):
        got = ndimage.convolve(x, w, np.float32)
    assert got.dtype == np.complex64
    got = ndimage.correlate(x, [1, 1], mode="constant", cval=5 + 1j)
    assert np.array_equal(got, peer.correlate(x, [1, 1], mode="constant", cval=5 + 1j))


def test_bool() -> None:
    x = np.array([0, 1, 1, 1, 0, 0, 1], bool)
    for got in (ndimage.correlate(x, [1, 1, 1]), ndimage.uniform_filter(x, 3),
                ndimage.gaussian_filter(x, 0.4), ndimage.sobel(x)):  # fmt: skip
        assert got.dtype == bool
        assert set(got.view("u1")) <= {0, 1}
    assert np.array_equal(ndimage.correlate(x, [1, 1, 1]), [1, 1, 1, 1, 1, 1, 1])
    assert np.array_equal(ndimage.uniform_filter(x, 3), [0, 0, 1, 0, 0, 0, 0])
    assert np.array_equal(ndimage.sobel(x), peer.sobel(x).view("u1") != 0)


# ---- output --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i4"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_output_may_be_the_input(name: str, dtype: str) -> None:
    x = (9 * numbers(np.random.default_rng(8), "f8", (6, 5))).astype("i8").astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # roots of wrapped, negative squares
        expected = call(ndimage, name, x.copy())
        same = x.copy()
        assert call(ndimage, name, same, output=same) is same
        buffer = np.zeros((7, 5), dtype)
        buffer[:-1] = x
        part = buffer[1:]
        call(ndimage, name, buffer[:-1], output=part)
    assert np.array_equal(same, expected)
    assert np.array_equal(part, expected)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", [f for f in FORMS if f != "read-only" and f != "broadcast"])
def test_output_of_any_form(name: str, form: str) -> None:
    x = numbers(np.random.default_rng(9), "f8", (6, 5))
    out = in_form(np.full(x.shape, 3.0), form)
    result = call(ndimage, name, x, output=out)
    assert result is out
    assert np.array_equal(out, call(ndimage, name, x))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_output_of_the_wrong_kind(name: str) -> None:
    x = np.ones((6, 5))
    with pytest.raises(FilterError, match=r"\(6, 5\).*\(5, 6\)"):
        call(ndimage, name, x, output=np.empty((5, 6)))
    fixed = np.zeros((6, 5))
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        call(ndimage, name, x, output=fixed)
    for dtype in (object, "S3", "M8[s]"):
        with pytest.raises(FilterTypeError, match="unsupported dtype"):
            call(ndimage, name, x, output=dtype)
        with pytest.raises(FilterTypeError, match="unsupported dtype"):
            call(ndimage, name, x, output=np.zeros(x.shape, dtype))
    real = np.full(x.shape, 3.0)
    with pytest.raises(FilterTypeError, match="complex"):
        call(ndimage, name, x + 1j, output=real)
    assert np.all(real == 3)


# ---- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (1, 1), (1, 6), (2, 1)])
@pytest.mark.parametrize("dtype", ["f8", "u1"])
def test_empty_and_tiny(name: str, shape: tuple[int, int], dtype: str) -> None:
    x = np.full(shape, 3, dtype)
    got = call(ndimage, name, x)
    assert got.shape == shape
    assert got.dtype == x.dtype
    if x.size and not (dtype == "u1" and name.endswith("magnitude")):
        expected = call(peer, name, x)
        if dtype == "u1" and name.startswith("gaussian"):  # a sum a hair below 3 counts as 3
            assert ((got.astype("i8") - expected + 1) % 256).max() <= 2
        else:
            assert np.allclose(got, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_one_sample_and_long_kernels(mode: str) -> None:
    for size in (1, 2, 3):
        x = np.arange(1.0, size + 1)
        for taps in (9, 14):
            w = np.arange(1.0, taps + 1)
            assert np.array_equal(ndimage.convolve(x, w, mode=mode, cval=2),
                                  peer.convolve(x, w, mode=mode, cval=2))  # fmt: skip
        assert np.allclose(ndimage.gaussian_filter(x, 5, mode=mode),
                           peer.gaussian_filter(x, 5, mode=mode), rtol=1e-14)  # fmt: skip


def test_no_dimensions() -> None:
    x = np.float64(3)
    assert ndimage.correlate(x, 2.0) == ndimage.convolve(x, 2.0) == 6
    assert ndimage.correlate(x, 2.0).shape == ()
    assert ndimage.gaussian_filter(x, 1) == ndimage.uniform_filter(x) == ndimage.laplace(x) == 3
    for name in ("sobel", "prewitt", "correlate1d", "gaussian_filter1d", "uniform_filter1d"):
        arguments = {"sobel": (), "prewitt": (), "correlate1d": ([1],)}.get(name, (1,))
        with pytest.raises(np.exceptions.AxisError):
            getattr(ndimage, name)(x, *arguments)


def test_more_dimensions_than_the_engine() -> None:
    x = numbers(np.random.default_rng(10), "f8", (2, 3, 1, 2, 1, 2, 1, 2, 3, 2))
    got = ndimage.correlate1d(x, [1, 2, 4], 8, mode="wrap")
    assert np.allclose(got, peer.correlate1d(x, [1, 2, 4], 8, mode="wrap"), rtol=1e-14)
    assert np.allclose(ndimage.gaussian_filter(x, 0.5), peer.gaussian_filter(x, 0.5), rtol=1e-12)
    w = np.array([[1.0, 2], [3, 4]])
    got = ndimage.convolve(x, w, axes=(1, 9), origin=(0, -1))
    assert np.allclose(got, peer.convolve(x, w, axes=(1, 9), origin=(0, -1)), rtol=1e-14)
    whole = (8 * x).astype("u1")
    assert np.array_equal(ndimage.laplace(whole), peer.laplace(whole))
    with pytest.raises(ValueError, match="fewer than 8 axes"):
        ndimage.correlate(np.zeros((2,) * 9), np.ones((2,) * 9))


def test_not_a_number_reaches_its_windows_only() -> None:
    x = np.arange(40.0).reshape(5, 8)
    x[2, 3] = math.nan
    seen = np.isnan(ndimage.correlate(x, np.ones((3, 2))))
    expected = np.zeros_like(seen)
    expected[1:4, 3:5] = True
    assert np.array_equal(seen, expected)
    assert np.isnan(ndimage.uniform_filter(x, 3)).sum() == 9  # SciPy's running sum loses the row
    assert np.isnan(ndimage.laplace(x)).sum() == 5
    x[2, 3] = math.inf
    assert np.isinf(ndimage.correlate(x, np.ones((3, 2)))).sum() == 6


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_inputs_of_any_form_are_only_read(name: str, form: str) -> None:
    x = in_form(numbers(np.random.default_rng(11), "f8", (6, 5)), form)
    before = x.copy()
    plain = np.array(x, dtype="f8", order="C")
    expected = call(ndimage, name, plain)
    # the quickest for arrays of another form, or that came again, may be another method
    np.testing.assert_allclose(call(ndimage, name, x), expected, rtol=1e-12, atol=1e-12)
    assert np.array_equal(x, before)
    y = call(ndimage, name, plain.tolist())
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_whole_sums_are_cut_right_by_every_candidate() -> None:
    """Winograd F(4,3) made 3 of (2 + 2 + 8) / 3: right to eps of the largest sample, then cut."""
    rng = np.random.default_rng(5)
    line = np.array([2, 8, 0, 4, 1, 9, 9, 0])
    flat = np.repeat(rng.integers(1, 255, (1, 3)), 40, axis=1)  # regions, one beside another
    for x, function, kernel, right in (
        (line, ndimage.uniform_filter1d, (3,), np.array([4, 3, 4, 1, 4, 6, 6, 3])),
        (flat.astype("i8"), ndimage.uniform_filter, ((1, 5),), None),
        (flat.astype("u2"), ndimage.correlate1d, (np.full(7, 1 / 7),), None),
        (flat.astype("u1"), ndimage.correlate, (np.full((3, 5), 1 / 15),), None),
        (
            np.vstack([flat] * 40).astype("u1"),
            ndimage.correlate,
            (np.full((25, 25), 0.04**2),),
            None,
        ),
    ):
        found = [c for c in fastconv.candidates(function, x, *kernel) if c.refused is None]
        assert len({c.method for c in found}) > 3
        for c in found:
            y = function(x, *kernel, method=c.method, config=c.config)
            if right is not None:
                np.testing.assert_array_equal(y, right)
            else:  # amid a region
                np.testing.assert_array_equal(y[:, 13:27], x[:, 13:27])


# ---- errors --------------------------------------------------------------------------------------


def squared(x: Array, axis: int, output: Any, mode: str, cval: float) -> Any:
    return peer.sobel(x, axis, output, mode, cval)


X, LINE = np.ones((4, 5)), np.ones(4)


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("correlate", (X, np.ones(3)), {}),
        ("correlate", (X, np.ones((3, 3))), {"axes": 1}),
        ("correlate", (X, np.ones((3, 0))), {}),
        ("correlate", (X, [1, 2]), {"axes": (5,)}),
        ("correlate", (X, [1, 2]), {"axes": (-3,)}),
        ("correlate", (X, np.ones((1, 1))), {"axes": (0, 0)}),
        ("correlate", (X, np.ones((1, 1))), {"axes": (0, -2)}),
        ("correlate", (X, [1, 2]), {"axes": "a"}),
        ("correlate", (X, [1, 2]), {"axes": 0.5}),
        ("correlate", (LINE, [1, 2]), {"mode": "bogus"}),
        ("correlate", (LINE, [1, 2]), {"mode": ["reflect"]}),
        ("correlate", (LINE, [1, 2]), {"mode": None}),
        ("correlate", (LINE, [1, 2]), {"cval": 1j}),
        ("correlate", (LINE, [1, 2j]), {"cval": 1j}),
        ("correlate", (LINE, [1, 2]), {"cval": "a"}),
        ("correlate", (LINE, [1, 2]), {"cval": None}),
        ("correlate", (LINE, [1, 2]), {"origin": 1}),
        ("convolve", (LINE, [1, 2]), {"origin": 1}),
        ("convolve", (LINE, [1, 2]), {"origin": (0, 0)}),
        ("convolve", (LINE, [1, 2, 3]), {"origin": 0.5}),
        ("convolve", (LINE.astype(object), [1, 2]), {}),
        ("convolve", (np.array(["a", "b"]), [1, 2]), {}),
        ("convolve", (LINE + 0j, [1]), {"output": "f4"}),
        ("correlate1d", (X, []), {}),
        ("correlate1d", (X, [[1, 2]]), {}),
        ("convolve1d", (X, []), {}),
        ("correlate1d", (X, [1, 2]), {"axis": 2}),
        ("correlate1d", (X, [1, 2]), {"axis": -3}),
        ("correlate1d", (X, [1, 2, 3]), {"origin": 2}),
        ("correlate1d", (X, [1, 2, 3]), {"mode": ["reflect", "wrap"]}),
        ("gaussian_filter1d", (X, -1.0), {}),
        ("gaussian_filter1d", (X, 1.0), {"order": -1}),
        ("gaussian_filter1d", (X, 1.0), {"radius": -1}),
        ("gaussian_filter1d", (X, 1.0), {"radius": 1.5}),
        ("gaussian_filter1d", (X, 1.0), {"truncate": -2}),
        ("gaussian_filter1d", (X, 1.0), {"axis": 7}),
        ("gaussian_filter1d", (X, 1.0), {"mode": "edge"}),
        ("gaussian_filter", (X, (1, 2, 3)), {}),
        ("gaussian_filter", (X, 1), {"order": (1,)}),
        ("gaussian_filter", (X, 1), {"mode": ("wrap",)}),
        ("gaussian_filter", (X, 1), {"radius": (1, 2), "axes": 0}),
        ("gaussian_filter", (X, 1), {"mode": ("wrap", "edge")}),
        ("gaussian_filter", (X, 1), {"axes": (0, 2)}),
        ("uniform_filter1d", (X, 0), {}),
        ("uniform_filter1d", (X, 2.5), {}),
        ("uniform_filter1d", (X, 3), {"origin": 2}),
        ("uniform_filter1d", (X, 3), {"mode": "edge"}),
        ("uniform_filter", (X, (3, 3, 3)), {}),
        ("uniform_filter", (X, 3), {"origin": (2, 0)}),
        ("uniform_filter", (X, 3), {"axes": (1, 1)}),
        ("sobel", (X,), {"axis": 2}),
        ("sobel", (X,), {"mode": ("wrap",)}),
        ("prewitt", (X,), {"mode": "edge"}),
        ("laplace", (X,), {"mode": ("wrap",)}),
        ("laplace", (X,), {"mode": "edge"}),
        ("laplace", (X,), {"axes": 2}),
        ("gaussian_laplace", (X, (1, 2, 3)), {}),
        ("gaussian_gradient_magnitude", (X, (1, 2, 3)), {}),
        ("generic_laplace", (X, squared), {"mode": ("wrap",)}),
        ("generic_gradient_magnitude", (X, squared), {"axes": (0, 0)}),
    ],
)
def test_errors_as_scipy(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """What is raised is (also) of the type that SciPy raises, and the output is left alone."""
    with pytest.raises(Exception) as theirs:
        getattr(peer, name)(*arguments, **options)
    out = options.get("output", np.full(np.shape(arguments[0]), 3.0))
    with pytest.raises(theirs.type) as ours:
        getattr(ndimage, name)(*arguments, **{"output": out, **options})
    assert isinstance(ours.value, ValueError | TypeError)
    assert not isinstance(out, np.ndarray) or np.all(out == 3)


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("gaussian_filter", (X, -1), {}),
        ("gaussian_filter", (X, math.nan), {}),
        ("gaussian_filter", (X, math.inf), {}),
        ("gaussian_filter1d", (X, 1.0), {"truncate": 1e300}),
        ("gaussian_filter1d", (X, 1.0), {"radius": 2**70}),
        ("uniform_filter", (X, -1), {}),
        ("uniform_filter", (X, 2.5), {}),
        ("correlate", (X, X), {"method": "bogus"}),
        ("correlate", (X, X), {"threads": 0}),
        ("correlate", (X, X), {"accuracy": "bogus"}),
    ],
)
def test_values_refused(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|method"):
        getattr(ndimage, name)(*arguments, **options)


# ---- the functions given, and the engine ---------------------------------------------------------


def test_generic_functions() -> None:
    seen = []

    def second(
        input: Array, axis: int, output: Any, mode: str, cval: float, a: int, b: int = 0
    ) -> Any:
        seen.append((axis, mode, cval, a, b, isinstance(output, np.ndarray)))
        return peer.correlate1d(input, [1, -2, a + b], axis, output, mode, cval)

    x = numbers(np.random.default_rng(12), "f8", (4, 3, 5))
    arguments = (second, None, ("wrap", "constant"), 2.0, (3,), {"b": 4})
    for name in ("generic_laplace", "generic_gradient_magnitude"):
        seen.clear()
        got = getattr(ndimage, name)(x, *arguments, axes=(2, 0))
        assert seen == [(2, "wrap", 2.0, 3, 4, True), (0, "constant", 2.0, 3, 4, False)]
        assert np.array_equal(got, getattr(peer, name)(x, *arguments, axes=(2, 0)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_is_scipys(name: str) -> None:
    ours = inspect.signature(getattr(ndimage, name)).parameters
    theirs = inspect.signature(getattr(peer, name)).parameters
    shared = [p for p in ours.values() if p.name in theirs]
    assert [p.name for p in shared] == list(theirs)
    for p in shared:
        assert (p.kind, p.default) == (theirs[p.name].kind, theirs[p.name].default)
    extra = set(ours) - set(theirs)
    assert extra <= {"method", "config", "accuracy", "threads", "workspace_limit",
                     "flush_denormals", "deterministic"}  # fmt: skip
    assert all(ours[p].kind is inspect.Parameter.KEYWORD_ONLY for p in extra)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_reference_page(name: str) -> None:
    text = getattr(ndimage, name).__doc__
    assert "<" not in text.replace("<=", "")
    for title in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{title}\n{'-' * len(title)}\n" in text


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_plan_equals_call(name: str, dtype: str) -> None:
    x = (9 * numbers(np.random.default_rng(13), "f8", (6, 5))).astype("i8").astype(dtype)
    function = getattr(ndimage, name)
    kernel, options = CALLS[name]
    if name.startswith("generic"):
        kernel = ndimage.sobel
    if not name.startswith("generic"):
        options = {
            **options,
            "method": "naive",
        }  # left to choose, a plan may take another than a call
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # roots of wrapped, negative squares
        expected = function(x, **options) if kernel is None else function(x, kernel, **options)
        plan = _engine.plan(function, (x.shape, dtype), kernel, **options)
        out = np.empty_like(x)
        assert np.array_equal(plan(x), expected)
        assert plan(x, out=out) is out
    assert np.array_equal(out, expected)
    assert plan.problems


@pytest.mark.parametrize("name", ["gaussian_filter", "laplace", "correlate"])
@pytest.mark.parametrize("dtype", ["f8", "u1"])
def test_planning_leaves_the_output_alone(name: str, dtype: str) -> None:
    x = np.arange(30).reshape(6, 5).astype(dtype)
    kernel, options = CALLS[name]
    before = x.copy()
    plan = _engine.plan(getattr(ndimage, name), x, kernel, output=x, method="naive", **options)
    assert np.array_equal(x, before)
    plan(x)
    assert np.array_equal(x, call(ndimage, name, before, method="naive"))


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if not n.startswith("generic")])
def test_options_reach_the_engine(name: str) -> None:
    x = numbers(np.random.default_rng(14), "f8", (6, 5))
    got = call(ndimage, name, x, method="naive", accuracy="strict", threads=1)
    assert np.allclose(got, call(ndimage, name, x), rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match="bogus"):
        call(ndimage, name, x, method="bogus")


def test_masks_are_not_dropped() -> None:
    masked = np.ma.masked_less(np.arange(6.0), 2)
    for call in (
        lambda: ndimage.correlate(masked, [1, 1]),
        lambda: ndimage.gaussian_filter(masked, 1),
    ):
        with pytest.raises(TypeError, match="expected input without a mask"):
            call()
