"""Kernels that are outer products: how they are seen, and bytes without a copy in floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Array, arrays, check, oracle, outer_product, stored
from strategies import in_form

import fastconv
from fastconv import _engine, ndimage
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._plan import store
from fastconv._problem import BOUNDARIES, Problem, numpy_dtype
from fastconv._solver import Solver
from fastconv.solvers import BY_NAME

RNG = np.random.default_rng(0)
SEPARABLE, DEPTHWISE = BY_NAME["separable"], BY_NAME["depthwise"]
INTEGERS = ("u8", "i8", "u16", "i16")


def seen(w: Array) -> bool:
    return core.is_rank_one(w[None, None])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_outer_products_are_seen(dtype: str) -> None:
    u, v, t = (RNG.standard_normal(k) for k in (7, 5, 3))
    product = np.multiply.outer(u, v)
    assert seen(product.astype(dtype))
    assert seen(np.multiply.outer(product, t).astype(dtype))
    assert seen(product.astype(dtype)[::-1, ::2]) and seen(product.astype(dtype).T)
    assert seen(np.multiply.outer([1, 2, 1], [-1, 0, 1]).astype(dtype))
    assert seen(np.full((31, 31), 1 / 961, dtype))
    off = product.astype(dtype)
    off[3, 2] *= 1 + 40 * np.finfo(dtype).eps
    assert not seen(off)
    off[3, 2] = 0
    assert not seen(off)
    assert not seen(np.eye(3, dtype=dtype)) and not seen(np.zeros((3, 3), dtype))
    assert not seen(np.array([[1, np.inf], [1, 1]], dtype))


def test_every_filter_counts() -> None:
    w = outer_product(RNG.standard_normal((4, 1, 3, 5)).astype("f4"))
    assert core.is_rank_one(w)
    w[3, 0, 1, 1] += 1
    assert not core.is_rank_one(w)


def test_kernels_beyond_the_range_are_not_taken() -> None:
    """Rows between passes would lose digits that the last pass brings back into sight."""
    w = np.multiply.outer(np.ones(3), [1e14, 1e14, 1e-9]).astype("f4")
    assert not seen(w) and seen((w * 1e-14).astype("f4"))


def test_no_filter_is_no_box() -> None:
    x, none = np.ones((1, 1, 300, 400), "f4"), np.ones((0, 1, 9, 9), "f4")
    assert _engine.run(x, none).shape == (1, 0, 292, 392)


def test_the_engine_looks_at_the_kernel() -> None:
    x = RNG.standard_normal((1, 1, 300, 400)).astype("f4")
    blur = outer_product(RNG.standard_normal((1, 1, 9, 9)).astype("f4"))
    found = []
    for w in (blur, blur + np.eye(9, dtype="f4"), blur):
        token = _engine._recorder.set(lambda step, w: found.append(step.choice.plan.problem))
        try:
            _engine.run(x, w)
        finally:
            _engine._recorder.reset(token)
    assert [p.rank for p in found] == [1, 0, 1]
    y = _engine.run(x, blur)
    right, s = oracle(found[0], x, blur)
    check(found[0], y, (right, s), SEPARABLE.error_bound(found[0], {}))
    # values decide, not the shape: the same call with a kernel that is none
    other = blur + np.eye(9, dtype="f4")
    check(found[1], _engine.run(x, other), oracle(found[1], x, other), 200 * 6e-8)


def test_weights_that_are_no_product_are_solved_all_the_same() -> None:
    problem = Problem.parse("conv2d f32 n1 c1 h20 w21 k1 r3 s5 p1 rank1")
    x, _, _ = arrays(problem)
    w = RNG.standard_normal(problem.w_shape).astype("f4")
    plan = SEPARABLE.plan(problem, SEPARABLE.configs(problem, this_machine())[0], this_machine())
    y = np.empty(problem.y_shape, "f4")
    plan(x, plan.pack_stored(w), None, y)
    check(problem, y, oracle(problem, x, w), SEPARABLE.error_bound(problem, {}))


def test_sobel_of_whole_numbers_is_exact() -> None:
    x = RNG.integers(-1000, 1000, (60, 70)).astype("f4")
    y = ndimage.sobel(x, 0, method="separable")
    np.testing.assert_array_equal(y, ndimage.sobel(x.astype("i8"), 0))


def test_one_pass_of_a_filter_is_one_problem() -> None:
    for function, w in ((ndimage.gaussian_filter, 2.0), (ndimage.uniform_filter, 5)):
        plan = fastconv.plan(function, ((190, 180), "f4"), w)
        assert [p.rank for p in plan.problems] == [1], function
        assert len(fastconv.plan(function, ((190, 180), "u1"), w).problems) == 2
        # beyond the ends lies what the first pass makes of the constant
        assert (
            len(fastconv.plan(function, ((190, 180), "f4"), w, mode="constant", cval=3).problems)
            > 1
        )
        assert (
            len(fastconv.plan(function, ((190, 180), "f4"), w, mode=["wrap", "mirror"]).problems)
            > 1
        )


def bytes_of(problem: Problem, x: Array, w: Array) -> tuple[Array, Array]:
    """What `store` makes of float64 sums, and which of them lie too near a whole number to tell."""
    wide = problem.replace(x_dtype="f64", y_dtype="f64")
    sums = np.asarray(oracle(wide, x.astype("f8"), w)[0], "f8")
    right = np.empty(sums.shape, numpy_dtype(problem.y_dtype))
    store(sums, right)
    return right, abs(sums - np.rint(sums)) < 1e-9 * (1 + abs(sums))


TEXTS = (
    "conv2d f64 n1 c1 h40 w90 k1 r9 s1 p4,0 x:u8 y:u8",
    "conv2d f64 n1 c1 h9 w300 k1 r1 s9 p0,4 x:u8 y:u8",
    "conv3d f64 n1 c1 d9 h70 w3 k1 t1 r25 s1 p0,12,0 x:u8 y:u8",
    "conv3d f64 n1 c1 d40 h50 w3 k1 t25 r1 s1 p12,0,0 x:u8 y:u8",
    "conv2d f64 n1 c1 h30 w40 k1 r5 s7 p2,3 rank1 x:u8 y:u8",
    "conv1d f64 n2 c3 w77 k6 s5 g3 p2 x:u8 y:u8 threads2",
    *(f"conv2d f64 n1 c1 h20 w41 k1 r9 s1 p4,0 x:{d} y:{d}" for d in INTEGERS[1:]),
    *(f"conv2d f64 n1 c1 h20 w41 k1 r3 s5 p1,2 rank1 x:{d} y:{d}" for d in INTEGERS[1:]),
    "conv2d f64 n1 c1 h20 w41 k1 r1 s12 p0,6 x:u8 y:i16",
    "conv2d f64 n1 c1 h20 w41 k1 r1 s12 p0,6 x:i16 y:f64",
)


#: Windows that are no outer products: columns apart, pieces of a row, filters of a channel.
DENSE = (
    "conv2d f64 n1 c1 h12 w41 k1 r3 s4 p1,2 x:u8 y:u8",
    "conv2d f64 n1 c1 h5 w4500 k1 r3 s3 p1 x:i16 y:i8 strided threads2",
    "conv2d f64 n2 c2 h11 w30 k4 r4 s3 g2 p1 u2,1 l1,2 x:u8 y:u16",
    "conv2d f64 n1 c1 h9 w150 k1 r2 s3 p0,1 x:f64 y:i16",
    "conv1d f64 n1 c1 w9000 k1 s7 p3 x:i8 y:u8 threads2",
)


def parsed(text: str) -> Problem:
    """The words of a text in any order."""
    words = text.split()
    late = [w for w in words if w.startswith(("rank", "threads"))]
    return Problem.parse(" ".join([w for w in words if w not in late] + late))


@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    ("text", "solver"), [*((t, SEPARABLE) for t in TEXTS), *((t, DEPTHWISE) for t in DENSE)]
)
def test_integers_are_those_of_double_sums(
    text: str, solver: Solver, boundary: str, isa: str
) -> None:
    for cval in (3.0, 0.1) if boundary == "constant" else (0.0,):
        problem = parsed(text).replace(boundary=boundary, cval=cval)
        info = np.iinfo("i2" if problem.x_dtype == "f64" else numpy_dtype(problem.x_dtype))
        for kind in ("noise", "flat", "smooth"):
            x = RNG.integers(info.min, info.max, problem.x_shape, endpoint=True)
            if kind == "flat":
                x[...] = np.minimum(x.ravel()[0], 250)
                x[..., -x.shape[-1] // 3 :] = 7
            w = RNG.standard_normal(problem.w_shape)
            if kind != "noise":  # sums that are near whole numbers everywhere
                w = abs(w) / abs(w).sum(axis=tuple(range(1, w.ndim)), keepdims=True)
            w = outer_product(w) if problem.rank else w
            x = stored(x, problem.x_dtype)
            right, near = bytes_of(problem, x, w)
            config = {**solver.configs(problem, this_machine())[0], "isa": isa}
            plan = solver.plan(problem, config, this_machine())
            y = np.empty(problem.y_shape, right.dtype)
            plan(x, plan.pack_stored(w), None, y)
            if problem.y_dtype == "f64":
                np.testing.assert_allclose(y, oracle(problem, x, w)[0].astype("f8"), rtol=1e-9)
                continue
            off = abs(y.astype("i8") - right.astype("i8"))
            assert (off[~near] == 0).all(), (kind, np.argwhere(off * ~near)[:3])
            # 255 and 0 are neighbours: what is beyond a byte wraps
            assert np.isin(off, (0, 1, 2 ** (8 * right.itemsize) - 1)).all(), kind


@given(
    value=st.integers(0, 255), sigma=st.floats(0.3, 6), mode=st.sampled_from(["reflect", "wrap"])
)
def test_flat_bytes_stay_flat(value: int, sigma: float, mode: str) -> None:
    x = np.full((30, 40), value, np.uint8)
    np.testing.assert_array_equal(ndimage.gaussian_filter(x, sigma, mode=mode), x)


@pytest.mark.parametrize("form", ["plain", "negative", "padded", "transposed", "unaligned"])
def test_bytes_of_any_strides(form: str) -> None:
    x = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    right = ndimage.gaussian_filter(x, (2, 2, 0), method="naive")
    out = in_form(np.zeros_like(x), form)
    got = ndimage.gaussian_filter(in_form(x, form), (2, 2, 0), output=out, method="separable")
    np.testing.assert_array_equal(got, right)
    w = RNG.random((3, 4, 1))
    right = ndimage.correlate(x, w, method="naive")
    got = ndimage.correlate(in_form(x, form), w, output=out, method="depthwise")
    np.testing.assert_array_equal(got, right)


def test_bytes_have_no_copy_in_floats() -> None:
    plan = fastconv.plan(ndimage.gaussian_filter, ((1080, 1920, 3), "u1"), (3, 3, 0), threads=1)
    assert plan.method == "separable" and plan.workspace_bytes < 2**21


def test_nan_and_inf_stay_in_windows_of_boxes() -> None:
    x: Any = np.ones((200, 300), "f4")
    x[100, 150], x[20, 30] = np.inf, np.nan
    y = ndimage.uniform_filter(x, 31, method="separable")
    finite = np.isfinite(y)
    assert (~finite).sum() == 2 * 31 * 31 and np.allclose(y[finite], 1)
    assert np.isinf(y[85:116, 135:166]).all() and np.isnan(y[5:36, 15:46]).all()


def test_boxes_do_not_drift() -> None:
    """A large sample leaves nothing behind, and sums of many are as good as those of few."""
    x = np.full((3000, 40), 0.1, "f4")
    x[5, :] = 1e8
    y = ndimage.uniform_filter(x, 31, method="separable")
    np.testing.assert_allclose(y[40:], 0.1, rtol=1e-6)


def means(x: Array, size: int, axis: int, mode: str, cval: int) -> Array:
    """Sums over windows of exact integers, divided towards zero."""
    pads = [(size // 2, (size - 1) // 2) if d == axis else (0, 0) for d in range(x.ndim)]
    more = {"constant_values": cval} if mode == "constant" else {}
    wide = np.pad(x.astype(np.int64), pads, NUMPY_MODES.get(mode, mode), **more)  # type: ignore[call-overload]
    sums = np.lib.stride_tricks.sliding_window_view(wide, size, axis).sum(-1)
    return np.asarray(np.sign(sums) * (abs(sums) // size))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("kind", ["random", "near", "least", "most"])
def test_means_of_whole_numbers_are_quotients(kind: str, dtype: str) -> None:
    """Never the whole number above or below: of sums in 16 bits and in 32, of both signs."""
    limits = np.iinfo(dtype)
    low, high = {
        "random": (limits.min, limits.max), "near": (-2 if limits.min else 0, 2),
        "least": (limits.min, limits.min), "most": (limits.max, limits.max),
    }[kind]  # fmt: skip
    x = RNG.integers(low, high + 1, (3, 301), dtype)
    # beyond 128 some divisors have no multiplier of 16 bits, beyond 257 sums do not fit
    for size in (2, 3, 7, 8, 9, 31, 100, 128, 129, 150, 181, 187, 254, 255, 257, 258, 300, 599):
        right = means(x, size, 1, "constant", 7)
        options: Any = {"mode": "constant", "cval": 7}
        y = ndimage.uniform_filter1d(x, size, 1, **options)
        np.testing.assert_array_equal(y, right, str(size))
        turned = ndimage.uniform_filter1d(np.ascontiguousarray(x.T), size, 0, **options)
        np.testing.assert_array_equal(turned.T, right, str(size))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_means_of_many(dtype: str) -> None:
    limits = np.iinfo(dtype)
    x = np.full(70_000, limits.max, dtype)
    x[30_000:], x[30_000::7] = limits.min, limits.min // 2
    for size in (ndimage._MOST_MEANS, ndimage._MOST_MEANS + 1, 2**15, 2**15 + 1):
        total = np.concatenate([[0], np.cumsum(x, dtype=np.int64)])
        sums = total[size:] - total[:-size]
        y = ndimage.uniform_filter1d(x, size)[size // 2 :][: len(sums)]
        np.testing.assert_array_equal(y, np.sign(sums) * (abs(sums) // size))


def test_equal_weights_that_are_no_means_wrap() -> None:
    x = RNG.integers(0, 256, (5, 300), "u1")
    for weight, taps in ((0.5, 9), (1.0, 3), (0.5, 65), (0.25, 300)):
        wide = np.pad(x.astype(int), ((0, 0), (taps // 2, (taps - 1) // 2)), "symmetric")
        right = np.lib.stride_tricks.sliding_window_view(wide, taps, 1).sum(-1) * weight
        y = ndimage.correlate1d(x, [weight] * taps, 1)
        np.testing.assert_array_equal(y, right.astype(int).astype("u1"), f"{weight} {taps}")


#: Whole numbers and what they are over: sums that reach 2^16, divisors that have no multiplier.
WHOLE = [
    ([1, 4, 6, 4, 1], 16), ([1, 2, 4, 2, 1], 10), ([0, 1, 0, 2], 3), ([200, 57], 257),
    ([3, 7], 11), ([1, 1, 2], 1000), ([*range(1, 20)], 190), ([250, 3, 4], 250), ([1, 0], 1),
    ([200, 58], 258),
]  # fmt: skip


@pytest.mark.parametrize("numbers, over", WHOLE)
def test_bytes_by_weights_that_are_whole_numbers_over_another(
    numbers: list[int], over: int
) -> None:
    """What sums of integers give, divided; where no float sum leaves no doubt."""
    taps = len(numbers)
    for shape in ((37, 130), (70, 9), (6, 50, 3), (1, 1)):
        x = RNG.integers(0, 256, shape).astype("u1")
        for axis, mode, part in ((0, "wrap", x), (1, "reflect", x), (1, "constant", x[::-1])):
            pads = [(taps // 2, (taps - 1) // 2) if d == axis else (0, 0) for d in range(x.ndim)]
            more = {"constant_values": 7} if mode == "constant" else {}
            numpys = NUMPY_MODES.get(mode, mode)
            wide = np.pad(part.astype(int), pads, numpys, **more)  # type: ignore[call-overload]
            view = np.lib.stride_tricks.sliding_window_view(wide, taps, axis)
            right = ((view * np.array(numbers)).sum(-1) // over).astype("u1")
            y = ndimage.correlate1d(part, np.array(numbers) / over, axis, mode=mode, cval=7)
            np.testing.assert_array_equal(y, right, f"{shape} {axis} {mode}")


@pytest.mark.parametrize("dtype", ["u1", "i2"])
def test_means_of_strided_pictures(dtype: str) -> None:
    limits = np.iinfo(dtype)
    x = RNG.integers(limits.min, limits.max, (60, 70, 6)).astype(dtype)
    for part in (x[::2, ::-1], x.transpose(1, 0, 2), x[..., ::3], in_form(x, "byteswapped")):
        out = np.zeros((*part.shape, 2), dtype)[..., 1]
        for axis in (0, 1):
            for size in (9, 150):
                ndimage.uniform_filter1d(part, size, axis, out)
                right = means(part, size, axis, "reflect", 0)
                np.testing.assert_array_equal(out, right, f"{part.strides} {axis} {size}")


@pytest.mark.parametrize("value", [0, 1, 100, 255])
def test_bytes_in_flat_parts_of_a_picture(value: int) -> None:
    """All of their sums are whole numbers, which float cannot tell from the next below."""
    x = RNG.integers(0, 256, (90, 400), "u1")
    x[20:70, 90:310] = value
    for axis in (0, 1):
        for sigma in (1, 3):
            y = ndimage.gaussian_filter1d(x, sigma, axis, method="separable")
            np.testing.assert_array_equal(y[32:58, 102:298], value)
            wide = ndimage.gaussian_filter1d(x.astype("f8"), sigma, axis, method="direct")
            clear = abs(wide - np.rint(wide)) > 1e-9
            np.testing.assert_array_equal(y[clear], np.floor(wide[clear]))


def test_bytes_just_below_whole_numbers() -> None:
    """Nearer than float sums are right: all are in doubt."""
    x = RNG.integers(1, 256, (90, 400), "u1")
    x[20:70, 90:310] = 200
    for axis in (0, 1):
        y = ndimage.correlate1d(x, [0, 1 - 1e-7, 1e-12], axis, method="separable")
        np.testing.assert_array_equal(y, x - 1)


NUMPY_MODES = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}


@pytest.mark.parametrize("dtype", ["u1", "i2"])
@pytest.mark.parametrize("mode", [*NUMPY_MODES, "constant"])
@pytest.mark.parametrize("shape", [(3, 5), (70, 99), (33, 40, 3), (2, 131, 7)])
def test_means_of_pictures(shape: tuple[int, ...], mode: str, dtype: str) -> None:
    """Rows of pixels, bands of several threads, padding longer than the picture."""
    limits = np.iinfo(dtype)
    x = RNG.integers(limits.min, limits.max, shape).astype(dtype)
    for axis in (0, 1):
        for size in (2, 5, 9, 31, 64, 190):
            right = means(x, size, axis, mode, 0)
            y = ndimage.uniform_filter1d(x, size, axis, mode=mode, method="separable", threads=2)
            np.testing.assert_array_equal(y, right, f"{axis} {size}")


@pytest.mark.parametrize("output", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i8", "?"])
def test_passes_of_whole_numbers_wrap(dtype: str, output: str) -> None:
    """One kernel gives what pass after pass does, each modulo 2**bits, where these are one."""
    for shape in ((1, 1), (40, 133), (300, 257), (9, 20, 31)):
        x = RNG.integers(-(2**20), 2**20, shape).astype(dtype)
        for mode, cval in (("reflect", 0), ("wrap", 0), ("constant", 0), ("constant", 7)):
            for axis in range(x.ndim):
                right = x.astype(np.int64)
                for a in (axis, *(a for a in range(x.ndim) if a != axis)):
                    pads = [(1, 1) if d == a else (0, 0) for d in range(x.ndim)]
                    more = {"constant_values": cval} if mode == "constant" else {}
                    wide = np.pad(right, pads, NUMPY_MODES.get(mode, mode), **more)  # type: ignore[call-overload]
                    window = np.lib.stride_tricks.sliding_window_view(wide, 3, a)
                    weights = [-1, 0, 1] if a == axis else [1, 2, 1]
                    right = (window @ weights).astype(output).astype(np.int64)
                y = ndimage.sobel(x, axis, output, mode, cval)
                np.testing.assert_array_equal(y, right, f"{shape} {mode} {cval} {axis}")


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_outer_products_of_whole_numbers_are_seen(dtype: str) -> None:
    assert seen(np.multiply.outer([1, 2, 1], [-1, 0, 1]).astype(dtype))
    assert seen(np.multiply.outer([3, -7, 5], [2, 1, 0, 1]).astype(dtype))
    assert not seen(np.multiply.outer([2, 3], [2, 3]).astype(dtype))  # its factors are fractions
    assert not seen(np.eye(3, dtype=dtype)) and not seen(np.zeros((3, 3), dtype))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_bits_of_boxes_do_not_depend_on_threads(dtype: str) -> None:
    x = RNG.standard_normal((501, 203)).astype(dtype)
    config = SEPARABLE.configs(Problem.parse("conv1d f64 n501 c1 w203 k1 s33"), this_machine())[0]
    how: dict[str, Any] = {"method": "separable", "config": config}
    one = ndimage.uniform_filter(x, (17, 33), threads=1, **how)
    for threads in (2, 3):
        many = ndimage.uniform_filter(x, (17, 33), threads=threads, **how)
        np.testing.assert_array_equal(one, many)
