"""Filters of signals and images on a GPU: each mode and boundary, on odd shapes, as on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_gpu import Tensor, ndarray

import fastconv
from fastconv import ndimage, signal

RNG = np.random.default_rng(0)


def noise(*shape: int, dtype: str = "f4") -> Any:
    made = RNG.standard_normal(shape)
    return (made + 1j * RNG.standard_normal(shape) if dtype[0] == "c" else made).astype(dtype)


def compare(function: Any, *args: Any, library: Any = Tensor, **options: Any) -> Any:
    """A call of arrays there gives what it gives here, to 2**6 roundings of the largest."""

    def moved(a: Any) -> Any:
        return library.holding(a) if isinstance(a, np.ndarray) else a

    y = function(*map(moved, args), **{k: moved(v) for k, v in options.items()})
    expected = function(*args, **options)
    assert type(y) is library and y.shape == expected.shape and y.numpy_dtype == expected.dtype
    eps = np.finfo(expected.dtype).eps
    most = 64 * eps * max(1.0, float(abs(expected).max(initial=0)))
    np.testing.assert_allclose(y.host(), expected, rtol=0, atol=most)
    return y


BOUNDARIES = ("reflect", "mirror", "nearest", "wrap", "constant")


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("mode", BOUNDARIES)
class TestBoundaries:
    """Windows that reach beyond both ends of 5 samples, and windows that end within 13."""

    def test_gaussian(self, mode: str) -> None:
        compare(ndimage.gaussian_filter, noise(5, 13), 1.0, mode=mode)  # 9 x 9: an axis at a time
        compare(ndimage.gaussian_filter1d, noise(13, 5, dtype="f8"), 2, axis=0, mode=mode)

    def test_one_kernel(self, mode: str) -> None:
        fill = {"cval": 1.5} if mode == "constant" else {}
        compare(ndimage.correlate, noise(5, 13), noise(3, 4), mode=mode, origin=(0, -1), **fill)
        fill = {"cval": 1.5 - 2j} if fill else {}
        a, w = noise(5, 3, dtype="c8"), noise(3, 2, dtype="c8")
        compare(ndimage.convolve, a, w, mode=mode, library=ndarray, **fill)
        compare(ndimage.correlate, noise(3, 4, 5), noise(2, 3, 2), mode=mode)

    def test_one_axis(self, mode: str) -> None:
        compare(ndimage.correlate1d, noise(3, 5, 13), [0.5, -2, 1, 3], axis=2, mode=mode)
        compare(ndimage.convolve1d, noise(3, 5, 2), noise(4), axis=1, mode=mode)
        compare(ndimage.uniform_filter, noise(4, 9), (3, 4), mode=mode, origin=(1, -1))


def bytes_of(*shape: int, dtype: str = "u1") -> Any:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)


def same(function: Any, *args: Any, **options: Any) -> None:
    """A call of arrays there gives the very integers that it gives here."""

    def moved(a: Any) -> Any:
        return Tensor.holding(a) if isinstance(a, np.ndarray) else a

    y, expected = function(*map(moved, args), **options), function(*args, **options)
    assert y.numpy_dtype == expected.dtype
    np.testing.assert_array_equal(y.host(), expected)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("mode", BOUNDARIES)
def test_integers(mode: str) -> None:
    """Exact by whole weights, which wrap; by others those of sums in float64, cut towards zero."""
    image, deep = bytes_of(6, 11), bytes_of(5, 7, dtype="i2")
    fill = {"cval": 3.0} if mode == "constant" else {}
    same(ndimage.correlate, image, bytes_of(3, 4, dtype="i1"), mode=mode, **fill)
    same(ndimage.convolve, deep, bytes_of(2, 3, dtype="i2"), mode=mode, output="i4", **fill)
    same(ndimage.correlate1d, image, [1.0, -2, 1], mode=mode, output="i2")
    same(ndimage.gaussian_filter, image, 1.0, mode=mode)
    same(ndimage.uniform_filter, image, 3, mode=mode)
    same(ndimage.uniform_filter, deep, (2, 3), mode=mode)
    same(ndimage.correlate, image, noise(2, 3) / 4, mode=mode)  # weights that nobody looks at
    same(ndimage.sobel, deep, mode=mode)


@pytest.mark.usefixtures("emulated")
def test_plans_of_integers_by_floats() -> None:
    """What weights are made to be is made when the plan is, and again where it cannot be used."""
    image, w = bytes_of(6, 11), noise(2, 3) / 4
    plan = fastconv.plan(ndimage.correlate, Tensor.holding(image), Tensor.holding(w))
    for turn in range(3):
        a = np.roll(image, turn, 1)
        np.testing.assert_array_equal(plan(Tensor.holding(a)).host(), ndimage.correlate(a, w))
    strided = bytes_of(12, 22)[::2, ::2]
    y = plan(Tensor.holding(strided)).host()
    np.testing.assert_array_equal(y, ndimage.correlate(strided, w))


@pytest.mark.usefixtures("emulated")
def test_other_integers() -> None:
    wide = bytes_of(4, 5, dtype="i8")
    same(ndimage.correlate, wide, bytes_of(2, 2, dtype="i8"))
    same(ndimage.uniform_filter, wide // 2**32, 3)
    same(ndimage.uniform_filter, noise(4, 5) * 100, 2, output="i2")
    same(ndimage.convolve, bytes_of(4, 5) > 99, [[1, 2], [3, -4]], output="u4")
    same(ndimage.correlate, noise(5, 6) * 100, noise(2, 2), output="u1")  # negative ones wrap
    bad = noise(4, 4)
    bad[0, 0], bad[2, 3], bad[3, 0] = np.nan, np.inf, 1e30
    same(ndimage.correlate, bad, [[1.5]], output="i4")
    compare(ndimage.correlate, bytes_of(4, 5), noise(2, 3), output="f4")
    compare(ndimage.gaussian_filter, bytes_of(4, 5, dtype="u2"), 0.7, output="f8")
    compare(ndimage.correlate, noise(4, 5), noise(2, 3), output="f8")
    same(fastconv.conv2d, bytes_of(1, 3, 5, 6), bytes_of(2, 3, 2, 2), padding=1)
    same(signal.convolve, bytes_of(30, dtype="i4"), bytes_of(7, dtype="i4"))
    again = bytes_of(5, 6)
    there = Tensor.holding(again)
    assert ndimage.uniform_filter(there, 3, output=there) is there
    np.testing.assert_array_equal(there.host(), ndimage.uniform_filter(again, 3))
    with pytest.raises(TypeError, match="bool output"):
        ndimage.correlate(there, [[1]], output=bool)
    image, w = Tensor.holding(bytes_of(1, 3, 5, 6)), Tensor.holding(bytes_of(2, 3, 2, 2))
    with pytest.raises(TypeError, match="no activation of u8"):
        fastconv.conv2d(image, w, activation="relu")


@pytest.mark.usefixtures("emulated")
def test_other_filters() -> None:
    compare(ndimage.sobel, noise(5, 7), mode="nearest")
    compare(ndimage.prewitt, noise(5, 7), 0)
    compare(ndimage.gaussian_filter, noise(3, 4), 0)
    compare(ndimage.gaussian_filter, noise(3, 4, 5), 0.7, axes=(1, 2), order=(0, 1))
    compare(ndimage.uniform_filter1d, noise(3, 41), 40)  # more taps than a launch writes
    compare(ndimage.gaussian_filter, noise(5, 6, dtype="c16"), 0.5)


@pytest.mark.usefixtures("emulated")
def test_halves_have_float32_weights() -> None:
    x = noise(6, 9, dtype="f2")
    for sigma in (0.6, 1.2):  # rounded once: what is between two passes is float32
        y = ndimage.gaussian_filter(Tensor.holding(x), sigma, mode="wrap")
        right = ndimage.gaussian_filter(x.astype("f8"), sigma, mode="wrap")
        most = 2.0**-11 * abs(right) + 2.0**-20 * abs(x).max() + 2.0**-25
        assert (abs(y.host().astype("f8") - right) <= most).all()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("function", [signal.convolve, signal.correlate])
def test_signals(function: Any, mode: str) -> None:
    compare(function, noise(37), noise(8), mode)
    compare(function, noise(8, dtype="c8"), noise(37, dtype="c8"), mode)  # swapped
    compare(function, noise(7, 9, dtype="c16"), noise(3, 4, dtype="c16"), mode, library=ndarray)
    compare(function, noise(3, 17), noise(1, 5), mode, axes=1)
    compare(function, noise(5, 3, dtype="c8"), noise(2, 3, dtype="c8"), mode, axes=0)
    compare(function, noise(2, 9, 5), noise(1, 3, 1), mode, axes=1)  # batches on both sides


@pytest.mark.usefixtures("emulated")
def test_resampling() -> None:
    for up, down in ((1, 1), (3, 2), (2, 5)):  # a launch for each phase, taps that some lack
        compare(signal.upfirdn, noise(7), noise(23), up, down)
    compare(signal.upfirdn, noise(5, dtype="c8"), noise(9, 3, dtype="c8"), 2, 3, axis=0)
    compare(signal.upfirdn, noise(4), noise(3, 11), 1, 2, mode="symmetric")
    compare(signal.upfirdn, noise(2), noise(6), 5)  # phases without a tap
    for call in (
        lambda: signal.upfirdn(Tensor.holding(noise(4)), Tensor.holding(noise(9)), 2, mode="wrap"),
        lambda: signal.upfirdn(Tensor.holding(noise(4)), Tensor.holding(noise(9)), mode="smooth"),
        lambda: signal.upfirdn(Tensor.holding(noise(4)), Tensor.holding(noise(0)), 2),
    ):
        with pytest.raises(ValueError, match="expected on a GPU samples"):
            call()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
def test_planes(boundary: str) -> None:
    compare(signal.convolve2d, noise(5, 7), noise(3, 4), "same", boundary)
    a, w = noise(4, 3, dtype="c8"), noise(3, 3, dtype="c8")
    compare(signal.correlate2d, a, w, "full", boundary, 2 if boundary == "fill" else 0)


def test_layers_of_complex_numbers(emulated: Any) -> None:
    """Bias, residual, groups and phases of them."""
    x, w = noise(2, 4, 5, 6, dtype="c8"), noise(6, 2, 3, 3, dtype="c8")
    bias, residual = noise(6, dtype="c8"), noise(2, 6, 5, 6, dtype="c8")
    options = {"groups": 2, "padding": 1}
    compare(fastconv.conv2d, x, w, bias, **options)
    compare(fastconv.conv_transpose2d, x, noise(4, 3, 3, 2, dtype="c8"), stride=2)
    y = fastconv.conv2d(
        *map(Tensor.holding, (x, w, bias)), residual=Tensor.holding(residual), **options
    )
    right = fastconv.conv2d(x, w, bias, **options) + residual
    np.testing.assert_allclose(y.host(), right, rtol=0, atol=1e-4)


def test_a_plan_writes_its_weights_once(emulated: Any) -> None:
    x = noise(9, 12)
    there = Tensor.holding(x)
    plan = fastconv.plan(ndimage.gaussian_filter, there, 1.5)
    assert [name for name, *_ in emulated.launches] == ["taps", "taps"]
    y = Tensor.empty((9, 12), "f4")
    for call in range(3):
        plan(there, out=y)
        launched = [name for name, *_ in emulated.launches[2 + 2 * call :]]
        assert len(launched) == 2 and "taps" not in launched
        right = ndimage.gaussian_filter(x, 1.5)
        np.testing.assert_allclose(y.host(), right, rtol=0, atol=1e-5)
        y.host()[...] = np.nan


def test_what_is_given_decides(emulated: Any) -> None:
    x = noise(6, 7)
    there = Tensor.holding(x)
    y = Tensor.empty((6, 7), "f4")
    assert ndimage.gaussian_filter(there, 1, output=y) is y
    np.testing.assert_allclose(y.host(), ndimage.gaussian_filter(x, 1), rtol=0, atol=1e-5)
    for call, what in (
        (lambda: ndimage.correlate(there, noise(3, 3)), "nothing is copied"),
        (lambda: ndimage.correlate(x, Tensor.holding(noise(3, 3))), "nothing is copied"),
        (lambda: ndimage.gaussian_filter(there, 1, output=np.empty((6, 7), "f4")), "copied"),
        (lambda: ndimage.gaussian_filter(x, 1, output=y), "nothing is copied"),
        (lambda: ndimage.laplace(there), "nothing is copied"),
        (lambda: signal.fftconvolve(there, x), "nothing is copied"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=what):
            call()
    for sigma in (0.5, 1.5):  # one pass, and two
        again = Tensor.holding(x)
        assert ndimage.gaussian_filter(again, sigma, output=again) is again
        right = ndimage.gaussian_filter(x, sigma)
        np.testing.assert_allclose(again.host(), right, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="one to three dimensions"):
        ndimage.correlate(Tensor.holding(noise(2, 2, 2, 2)), Tensor.holding(noise(2, 2, 2, 2)))
    compare(signal.fftconvolve, x, noise(3, 3))  # by sums of products
