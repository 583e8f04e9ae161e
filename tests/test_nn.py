"""`fastconv.nn` against the reference, against PyTorch, and its errors; the public names."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import FORMS, in_form

import fastconv
from fastconv import nn

Array = Any

CONV = {1: nn.conv1d, 2: nn.conv2d, 3: nn.conv3d}
TRANSPOSE = {1: nn.conv_transpose1d, 2: nn.conv_transpose2d, 3: nn.conv_transpose3d}
INPUT = {1: nn.conv1d_input, 2: nn.conv2d_input, 3: nn.conv3d_input}
WEIGHT = {1: nn.conv1d_weight, 2: nn.conv2d_weight, 3: nn.conv3d_weight}
FUNCTIONS: tuple[Any, ...] = tuple(getattr(nn, name) for name in nn.__all__)

BOUNDARIES = {"zeros": "zeros", "reflect": "mirror", "symmetric": "reflect",
              "replicate": "nearest", "circular": "wrap"}  # fmt: skip


class Case(NamedTuple):
    """Numbers of a call that is valid by construction; `x_shape` is (N, C, *space)."""

    n: int
    batch: int | None
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    seed: int

    @property
    def symmetric(self) -> tuple[int, ...]:
        return tuple(lo for lo, _ in self.padding)

    def numbers(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation,
                "groups": self.groups}  # fmt: skip


@st.composite
def cases(draw: st.DrawFn, ndims: tuple[int, ...] = (1, 2, 2, 3), even: bool = False) -> Case:
    """`even`: the same padding before and after, all that PyTorch knows."""
    n = draw(st.sampled_from(ndims))
    size_limit, kernel_limit = {1: (20, 6), 2: (9, 4), 3: (5, 3)}[n]

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(n))

    kernel, stride, dilation = axes(1, kernel_limit), axes(1, 4), axes(1, 3)
    size, padding = [], []
    for k, d in zip(kernel, dilation):
        low = draw(st.integers(0, 4))
        high = low if even else draw(st.integers(0, 4))
        span = d * (k - 1) + 1
        size.append(draw(st.integers(max(1, span - low - high), max(size_limit, span))))
        padding.append((low, high))
    groups = draw(st.integers(1, 3))
    batch = draw(st.sampled_from((None, 1, 2, 3)))
    channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return Case(
        n, batch, (batch or 1, groups * channels, *size), (groups * filters, channels, *kernel),
        stride, tuple(padding), dilation, groups, draw(st.integers(0, 2**32 - 1)),
    )  # fmt: skip


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def small(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Integers whose products and sums any floating dtype but the 16-bit ones holds exactly."""
    return rng.integers(-8, 9, shape).astype(dtype)


def told(a: Array, case: Case, last: bool = False) -> Array:
    """(N, C, *space) as the caller passes it: without the batch, or with channels last."""
    if case.batch is None:
        a = a[0]
    return np.moveaxis(a, -case.n - 1, -1) if last else a


def strict_error(taps: int, dtype: Any) -> float:
    """Bound on abs(error) / S of any order of summation, with one rounding more for the bias.

    A sum of m terms that are rounded products errs by at most m * eps / 2 each (Higham, section
    3.1); a complex product is four real ones.
    """
    dtype = np.dtype(dtype)
    terms = taps * (4 if dtype.kind == "c" else 1)
    return (terms + 2) * float(np.finfo(dtype).eps)


def scatter(x: Array, w: Array, case: Case, extra: tuple[int, ...]) -> Array:
    """Transposed convolution from its definition: each sample adds a copy of the kernel."""
    groups = case.groups
    n, c, k = x.shape[0], x.shape[1] // groups, w.shape[1]
    spans = [d * (r - 1) + 1 for r, d in zip(w.shape[2:], case.dilation)]
    full = [(i - 1) * u + s + e
            for i, u, s, e in zip(x.shape[2:], case.stride, spans, extra)]  # fmt: skip
    y = np.zeros((n, groups, k, *full), np.result_type(x, w))
    data = x.reshape(n, groups, c, *x.shape[2:])
    weights = w.reshape(groups, c, k, *w.shape[2:])
    for tap in np.ndindex(*w.shape[2:]):
        at = tuple(slice(t * d, t * d + (i - 1) * u + 1, u)
                   for t, d, i, u in zip(tap, case.dilation, x.shape[2:], case.stride))  # fmt: skip
        y[(slice(None),) * 3 + at] += np.einsum(
            "ngc...,gck->ngk...", data, weights[(slice(None),) * 3 + tap]
        )
    crop = tuple(slice(lo, f - hi) for (lo, hi), f in zip(case.padding, full))
    return y.reshape(n, groups * k, *full)[(slice(None), slice(None), *crop)]


# forward


@given(
    cases(),
    st.sampled_from([np.float32, np.float64, np.complex64, np.complex128]),
    st.sampled_from(sorted(BOUNDARIES)), st.booleans(), st.booleans(),
    st.sampled_from(["strict", "balanced"]),
)  # fmt: skip
def test_conv_is_the_definition(
    case: Case, dtype: Any, mode: str, last: bool, with_bias: bool, accuracy: str
) -> None:
    rng = np.random.default_rng(case.seed)
    x, w = random(rng, case.x_shape, dtype), random(rng, case.w_shape, dtype)
    bias = random(rng, case.w_shape[:1], dtype) if with_bias else None
    expected, total = reference.conv(x, w, boundary=BOUNDARIES[mode], bias=bias, **case.numbers())
    y = CONV[case.n](
        told(x, case, last), w, bias, padding_mode=mode, layout="N*C" if last else "NC*",
        accuracy=accuracy, **case.numbers(),
    )  # fmt: skip
    wanted = told(expected, case, last)
    assert (y.shape, y.dtype) == (wanted.shape, dtype)
    assert y.flags.c_contiguous
    taps = int(np.prod(case.w_shape[1:]))
    allowed = strict_error(taps, dtype) * total
    if accuracy == "balanced":
        eps = np.finfo(dtype).eps
        length = np.prod([s + lo + hi for s, (lo, hi) in zip(x.shape[2:], case.padding)])
        norm = abs(w).sum(axis=tuple(range(1, w.ndim))).reshape(-1, *(1,) * case.n) * abs(x).max()
        allowed = np.maximum(allowed, np.maximum(32 * total, 16 * np.log2(2 + length) * norm) * eps)
    assert (abs(y - wanted) <= told(allowed, case, last)).all()


@given(cases(), st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, bool]))
def test_integers_wrap_and_bools_are_or_of_ands(case: Case, dtype: Any) -> None:
    rng = np.random.default_rng(case.seed)
    if dtype is bool:
        x, w = rng.random(case.x_shape) < 0.3, rng.random(case.w_shape) < 0.3
    else:
        x, w = random(rng, case.x_shape, dtype), random(rng, case.w_shape, dtype)
    bias = w.reshape(w.shape[0], -1)[:, 0]
    expected, _ = reference.conv(x, w, **case.numbers())
    column = bias.reshape(-1, *(1,) * case.n)
    y = CONV[case.n](told(x, case), w, bias, **case.numbers())
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, told(expected + column, case), strict=True)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@given(cases())
def test_16_bit_floats_are_summed_in_float32_and_rounded_once(dtype: Any, case: Case) -> None:
    rng = np.random.default_rng(case.seed)
    x, w = (random(rng, s, np.float32).astype(dtype) for s in (case.x_shape, case.w_shape))
    bias = random(rng, case.w_shape[:1], np.float32).astype(dtype)
    wide = [a.astype(np.float32) for a in (x, w, bias)]
    for method in ("naive", "auto"):
        y = CONV[case.n](x, w, bias, method=method, accuracy="strict", **case.numbers())
        assert y.dtype == dtype
        if method == "naive":
            same = CONV[case.n](*wide, method=method, **case.numbers())
            np.testing.assert_array_equal(y, same.astype(dtype))
        exact, total = reference.conv(wide[0], wide[1], bias=wide[2], **case.numbers())
        info = ml_dtypes.finfo(dtype)
        allowed = float(info.eps) / 2 * abs(exact) + float(info.smallest_subnormal)
        allowed += strict_error(int(np.prod(w.shape[1:])), np.float32) * total
        assert (abs(y.astype(np.float64) - exact) <= allowed).all()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_keeps_the_size_with_the_odd_sample_at_the_end(
    n: int, kernel: int, dilation: int
) -> None:
    rng = np.random.default_rng(n)
    x, w = small(rng, (2, 3, *(6,) * n), np.int64), small(rng, (2, 3, *(kernel,) * n), np.int64)
    total = dilation * (kernel - 1)
    pairs = ((total // 2, total - total // 2),) * n
    y = CONV[n](x, w, padding="same", dilation=dilation)
    assert y.shape == (2, 2, *x.shape[2:])
    np.testing.assert_array_equal(y, CONV[n](x, w, padding=pairs, dilation=dilation))
    np.testing.assert_array_equal(
        CONV[n](x, w, padding="valid", dilation=1), CONV[n](x, w, padding=0, dilation=1)
    )


@pytest.mark.parametrize(
    ("option", "spellings"),
    [
        ("stride", [2, (2, 2), [2, 2], (2,), np.int64(2), np.array(2), np.array([2, 2])]),
        ("dilation", [2, (2, 2), [2, 2], (2,), np.uint8(2), (np.int32(2), 2)]),
        ("padding", [2, (2, 2), [2, 2], (2,), ((2, 2), (2, 2)), [[2, 2], [2, 2]], ((2, 2),),
                     np.int64(2), np.array(2), np.full((2, 2), 2), (2, (2, 2))]),
        ("groups", [2, np.int64(2), np.array(2)]),
        ("layout", ["NC*", "NCHW"]),
    ],
)  # fmt: skip
def test_numbers_may_be_spelled_in_many_ways(option: str, spellings: list[Any]) -> None:
    rng = np.random.default_rng(0)
    x, w = small(rng, (1, 4, 7, 8), np.int32), small(rng, (6, 2, 2, 3), np.int32)
    options = {"groups": 2} | {option: spellings[0]}
    first = nn.conv2d(x, w, **options)
    for spelling in spellings[1:]:
        np.testing.assert_array_equal(nn.conv2d(x, w, **(options | {option: spelling})), first)


@pytest.mark.parametrize(
    ("n", "layouts"),
    [(1, ("N*C", "NWC", "NLC")), (2, ("N*C", "NHWC")), (3, ("N*C", "NDHWC"))],
)
def test_every_function_takes_channels_last(n: int, layouts: tuple[str, ...]) -> None:
    rng = np.random.default_rng(n)
    x, w = small(rng, (2, 4, *(5,) * n), np.int32), small(rng, (6, 2, *(3,) * n), np.int32)
    bias = small(rng, (6,), np.int32)
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    y = CONV[n](x, w, bias, groups=2)
    back = INPUT[n](x.shape, w, y, groups=2)
    grown = TRANSPOSE[n](y, w, groups=2, stride=2)
    gradient = WEIGHT[n](x, w.shape, y, groups=2)
    for layout in layouts:
        to: dict[str, Any] = {"layout": layout, "groups": 2}
        y_last = CONV[n](last, w, bias, **to)
        np.testing.assert_array_equal(y_last, np.moveaxis(y, 1, -1))
        assert y_last.flags.c_contiguous
        found = INPUT[n](last.shape, w, y_last, **to)
        np.testing.assert_array_equal(found, np.moveaxis(back, 1, -1))
        found = TRANSPOSE[n](y_last, w, stride=2, **to)
        np.testing.assert_array_equal(found, np.moveaxis(grown, 1, -1))
        np.testing.assert_array_equal(WEIGHT[n](last, w.shape, y_last, **to), gradient)
        np.testing.assert_array_equal(CONV[n](last[0], w, bias, **to), y_last[0])


# transposed convolution and gradients


@given(
    cases(), st.sampled_from([np.float32, np.float64, np.complex128]), st.booleans(), st.data()
)  # fmt: skip
def test_conv_transpose_is_the_definition(
    case: Case, dtype: Any, with_bias: bool, data: st.DataObject
) -> None:
    rng = np.random.default_rng(case.seed)
    extra = tuple(
        data.draw(st.integers(0, max(u, d) - 1)) for u, d in zip(case.stride, case.dilation)
    )
    w_shape = (case.x_shape[1], case.w_shape[0] // case.groups, *case.w_shape[2:])
    out = [
        (i - 1) * u + d * (k - 1) + 1 + e - lo - hi
        for i, u, d, k, e, (lo, hi) in zip(
            case.x_shape[2:], case.stride, case.dilation, w_shape[2:], extra, case.padding
        )
    ]
    x, w = random(rng, case.x_shape, dtype), random(rng, w_shape, dtype)
    bias = random(rng, case.w_shape[:1], dtype) if with_bias else None
    call: Callable[[], Array] = lambda: TRANSPOSE[case.n](  # noqa: E731
        told(x, case), w, bias, output_padding=extra, accuracy="strict", **case.numbers()
    )
    if min(out) < 1:
        with pytest.raises(ValueError, match="leaves an output"):
            call()
        return
    wide = np.complex128 if np.dtype(dtype).kind == "c" else np.float64
    expected = scatter(x.astype(wide), w.astype(wide), case, extra)
    total = scatter(abs(x).astype(np.float64), abs(w).astype(np.float64), case, extra)
    if bias is not None:
        column = bias.reshape(-1, *(1,) * case.n)
        expected, total = expected + column, total + abs(column)
    y = call()
    wanted = told(expected, case)
    assert (y.shape, y.dtype) == (wanted.shape, dtype)
    assert list(y.shape[-case.n :]) == out
    taps = int(np.prod(w_shape)) // w_shape[1] // case.groups
    # both sides are rounded when they are of one dtype
    assert (abs(y - wanted) <= told(2 * strict_error(taps, dtype) * total, case)).all()


@given(cases())
def test_gradients_are_adjoints_exactly(case: Case) -> None:
    """<conv(x, w), g> = <x, conv_input(g)> = <w, conv_weight(g)>, in integers modulo 2**64."""
    rng = np.random.default_rng(case.seed)
    x, w = random(rng, case.x_shape, np.uint64), random(rng, case.w_shape, np.uint64)
    x = told(x, case)
    y = CONV[case.n](x, w, **case.numbers())
    g = random(rng, y.shape, np.uint64)
    dx = INPUT[case.n](x.shape, w, g, **case.numbers())
    dw = WEIGHT[case.n](x, w.shape, g, **case.numbers())
    assert (dx.shape, dw.shape) == (x.shape, w.shape)
    assert dx.flags.c_contiguous
    assert dw.flags.c_contiguous
    assert (x * dx).sum() == (y * g).sum() == (w * dw).sum()


@given(cases())
def test_complex_gradients_conjugate_what_is_held_fixed(case: Case) -> None:
    rng = np.random.default_rng(case.seed)
    x, w = ((small(rng, s, np.complex128) + 1j * small(rng, s, np.complex128))
            for s in (case.x_shape, case.w_shape))  # fmt: skip
    y, _ = reference.conv(x, w, **case.numbers())
    g = small(rng, y.shape, np.complex128) + 1j * small(rng, y.shape, np.complex128)
    dx = INPUT[case.n](x.shape, w, g, accuracy="strict", **case.numbers())
    dw = WEIGHT[case.n](x, w.shape, g, accuracy="strict", **case.numbers())
    # small integers: every sum is exact
    assert np.vdot(x, dx) == np.vdot(y, g)
    assert np.vdot(w, dw) == np.vdot(y, g)


@pytest.mark.parametrize(
    ("stride", "padding", "extra", "out"), [(3, 1, 2, 1), (3, 2, 2, 2), (4, 3, 3, 2), (2, 1, 1, 4)]
)
def test_conv_transpose_may_cut_every_sample_off(
    stride: int, padding: int, extra: int, out: int
) -> None:
    size = {(3, 1, 2, 1): 1, (3, 2, 2, 2): 2, (4, 3, 3, 2): 2, (2, 1, 1, 4): 3}[
        stride, padding, extra, out
    ]
    x = np.arange(1.0, size + 1)[None]
    y = nn.conv_transpose1d(x, np.ones((1, 1, 1)), None, stride, padding, extra)
    full = np.zeros((size - 1) * stride + 1 + extra)
    full[: (size - 1) * stride + 1 : stride] = x
    np.testing.assert_array_equal(y, full[None, padding : len(full) - padding])
    assert y.shape == (1, out)


# PyTorch


@given(cases(even=True), st.booleans())
def test_conv_and_gradients_are_as_in_torch(case: Case, with_bias: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(case.seed)
    x, w = random(rng, case.x_shape), random(rng, case.w_shape)
    bias = random(rng, case.w_shape[:1]) if with_bias else None
    args = (case.stride, case.symmetric, case.dilation, case.groups)
    tx, tw = torch.from_numpy(x), torch.from_numpy(w)
    tb = None if bias is None else torch.from_numpy(bias)
    name = f"conv{case.n}d"
    one = case.batch is None
    theirs = getattr(torch.nn.functional, name)(tx[0] if one else tx, tw, tb, *args).numpy()
    ours = CONV[case.n](told(x, case), w, bias, *args)
    taps = int(np.prod(case.w_shape[1:]))
    _close(ours, theirs, taps, np.abs(x).max() * np.abs(w).max())
    g = random(rng, (case.x_shape[0], case.w_shape[0], *ours.shape[-case.n :]))
    tg = torch.from_numpy(g)
    theirs = getattr(torch.nn.grad, f"{name}_input")(x.shape, tw, tg, *args).numpy()
    taps = case.w_shape[0] * int(np.prod(case.w_shape[2:]))
    _close(INPUT[case.n](x.shape, w, g, *args), theirs, taps, np.abs(g).max() * np.abs(w).max())
    theirs = getattr(torch.nn.grad, f"{name}_weight")(tx, w.shape, tg, *args).numpy()
    taps = int(np.prod(g.shape)) // g.shape[1]
    _close(WEIGHT[case.n](x, w.shape, g, *args), theirs, taps, np.abs(g).max() * np.abs(x).max())


@given(cases(even=True), st.data())
def test_conv_transpose_is_as_in_torch(case: Case, data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(case.seed)
    extra = tuple(
        data.draw(st.integers(0, max(u, d) - 1)) for u, d in zip(case.stride, case.dilation)
    )
    x = told(random(rng, case.x_shape), case)
    w = random(rng, (case.x_shape[1], case.w_shape[0] // case.groups, *case.w_shape[2:]))
    bias = random(rng, case.w_shape[:1])
    args = (case.stride, case.symmetric, extra, case.groups, case.dilation)
    function = getattr(torch.nn.functional, f"conv_transpose{case.n}d")
    try:
        theirs = function(*map(torch.from_numpy, (x, w, bias)), *args).numpy()
    except RuntimeError as error:
        assert "too small" in str(error)
        with pytest.raises(ValueError, match="leaves an output"):
            TRANSPOSE[case.n](x, w, bias, *args)
        return
    ours = TRANSPOSE[case.n](x, w, bias, *args)
    taps = w.shape[0] * int(np.prod(w.shape[2:]))
    _close(ours, theirs, taps, np.abs(x).max() * np.abs(w).max())


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_padding_modes_are_as_in_torch(n: int, mode: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(n)
    for padding in (1, 3, "same"):
        layer = getattr(torch.nn, f"Conv{n}d")(
            2, 3, 2 if padding == "same" else 3, padding=padding, padding_mode=mode,
            dilation=2 if padding == "same" else 1, dtype=torch.float64,
        )  # fmt: skip
        x = random(rng, (2, 2, *range(5, 5 + n)))
        theirs = layer(torch.from_numpy(x)).detach().numpy()
        w, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        ours = CONV[n](x, w, bias, padding=padding, padding_mode=mode, dilation=layer.dilation)
        _close(ours, theirs, w[0].size, np.abs(x).max() * np.abs(w).max())


def test_complex_gradients_are_those_of_torch_autograd() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, w = random(rng, (2, 4, 9), np.complex128), random(rng, (6, 2, 3), np.complex128)
    tx, tw = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    y = torch.nn.functional.conv1d(tx, tw, stride=2, padding=1, groups=2)
    g = random(rng, tuple(y.shape), np.complex128)
    dx, dw = torch.autograd.grad(y, (tx, tw), torch.from_numpy(g))
    options: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2}
    _close(nn.conv1d_input(x.shape, w, g, **options), dx.numpy(), 40, 20)
    _close(nn.conv1d_weight(x, w.shape, g, **options), dw.numpy(), 40, 20)


def _close(ours: Array, theirs: Array, taps: int, product: float) -> None:
    """Equal but for the rounding of two float64 sums of `taps` products, each up to `product`."""
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    eps = np.finfo(np.float64).eps
    bound = (2 * strict_error(taps, np.float64) + 32 * eps) * taps * max(product, 1.0)
    assert abs(ours - theirs).max(initial=0) <= bound


# arrays of any kind


def calls(dtype: Any) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """A call of every kind, with what it computes on in an order that `in_form` may change."""
    rng = np.random.default_rng(1)
    x, w, g = (small(rng, s, dtype) for s in ((2, 4, 7, 9), (6, 2, 3, 2), (2, 6, 4, 9)))
    options = {"stride": (2, 1), "padding": ((1, 1), (1, 0)), "groups": 2}
    return [
        (nn.conv2d, (x, w, small(rng, (6,), dtype)), options),
        (nn.conv_transpose2d, (g, w, small(rng, (4,), dtype)), options),
        (nn.conv2d_input, (x.shape, w, g), options),
        (nn.conv2d_weight, (x, w.shape, g), options),
    ]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("form", [f for f in FORMS if f != "broadcast"])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.int16])
def test_memory_does_not_matter(kind: int, form: str, dtype: Any) -> None:
    function, arrays, options = calls(dtype)[kind]
    expected = function(*arrays, accuracy="strict", **options)
    formed = [in_form(a, form) if isinstance(a, np.ndarray) else a for a in arrays]
    before = [np.array(a) for a in formed]
    y = function(*formed, accuracy="strict", **options)
    np.testing.assert_array_equal(y, expected, strict=True)
    assert y.dtype.isnative
    for a, b in zip(formed, before):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", range(4))
def test_broadcast_arrays_are_read_as_what_they_say(kind: int) -> None:
    function, arrays, options = calls(np.float32)[kind]
    formed = [in_form(a, "broadcast") if isinstance(a, np.ndarray) else a for a in arrays]
    whole = [a.copy() if isinstance(a, np.ndarray) else a for a in formed]
    np.testing.assert_array_equal(
        function(*formed, accuracy="strict", **options),
        function(*whole, accuracy="strict", **options),
    )


def test_byte_orders_may_be_mixed() -> None:
    x, w = np.arange(12.0).reshape(1, 12).astype(">f4"), np.ones((1, 1, 3), "<f4")
    y = nn.conv1d(x, w, np.ones(1, ">f4"))
    np.testing.assert_array_equal(y, (3 * np.arange(1, 11, dtype="f4") + 1)[None], strict=True)


def test_lists_and_subclasses_are_arrays() -> None:
    y = nn.conv1d([[1, 2, 3]], [[[1, 1]]])
    np.testing.assert_array_equal(y, np.array([[3, 5]]), strict=True)
    x = np.arange(4.0)[None].view(np.recarray)
    assert type(nn.conv1d(x, np.ones((1, 1, 2)))) is np.ndarray


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("form", ["plain", "negative", "padded", "transposed", "byteswapped",
                                  "unaligned"])  # fmt: skip
def test_out_is_written_and_returned(kind: int, form: str) -> None:
    function, arrays, options = calls(np.float32)[kind]
    expected = function(*arrays, **options)
    out = in_form(np.full_like(expected, np.nan), form)
    assert function(*arrays, out=out, **options) is out
    np.testing.assert_array_equal(out, expected)


def test_out_of_channels_last_and_of_one_item() -> None:
    rng = np.random.default_rng(0)
    x, w = small(rng, (3, 6, 5, 2), np.float32), small(rng, (4, 2, 3, 3), np.float32)
    out = np.full((3, 4, 3, 4), np.nan, np.float32)
    assert nn.conv2d(x, w, layout="NHWC", out=out) is out
    np.testing.assert_array_equal(out, nn.conv2d(x, w, layout="NHWC"))
    one = np.full((4, 3, 4), np.nan, np.float32)[::-1]
    assert nn.conv2d(x[1], w, layout="NHWC", out=one[::-1]).base is one.base
    np.testing.assert_array_equal(one[::-1], out[1])


def test_out_may_be_the_input_the_weights_or_the_bias() -> None:
    rng = np.random.default_rng(0)
    x, w = small(rng, (2, 3, 8), np.int64), small(rng, (3, 3, 3), np.int64)
    expected = nn.conv1d(x, w, padding="same")
    shared = x.copy()
    assert nn.conv1d(shared, w, padding="same", out=shared) is shared
    np.testing.assert_array_equal(shared, expected)
    pool = np.concatenate([x.ravel(), np.zeros(5, int)])
    late = pool[5:].reshape(x.shape)
    nn.conv1d(pool[:-5].reshape(x.shape), w, padding="same", out=late)
    np.testing.assert_array_equal(late, expected)
    gradient = nn.conv1d_weight(x, w.shape, expected, padding=1)
    shared = w.copy()
    nn.conv1d_weight(x, w.shape, expected, padding=1, out=shared)
    np.testing.assert_array_equal(shared, gradient)
    square = x[:, :, :3].copy()
    nn.conv1d_input((2, 3, 3), w, square, padding=1, out=square)
    np.testing.assert_array_equal(square, nn.conv1d_input((2, 3, 3), w, x[:, :, :3], padding=1))
    y = np.array([[1, 2, 3]])
    nn.conv1d(np.array([[10, 20, 30]]), np.ones((1, 1, 1), int), y[0, 1:2], out=y)
    np.testing.assert_array_equal(y, [[12, 22, 32]])


def test_empty_batches_and_channels() -> None:
    w = np.ones((4, 3, 2, 2))
    none = nn.conv2d(np.ones((0, 3, 5, 5)), w)
    assert none.shape == (0, 4, 4, 4)
    assert nn.conv_transpose2d(none, w).shape == (0, 3, 5, 5)
    assert nn.conv2d_input((0, 3, 5, 5), w, none).shape == (0, 3, 5, 5)
    gradient = nn.conv2d_weight(np.ones((0, 3, 5, 5)), w.shape, none)
    np.testing.assert_array_equal(gradient, np.zeros_like(w), strict=True)
    bias = np.arange(4.0)
    y = nn.conv2d(np.ones((2, 0, 5, 5)), np.ones((4, 0, 2, 2)), bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None, None], (2, 4, 4, 4)))
    assert nn.conv2d(np.ones((2, 3, 5, 5)), w[:0]).shape == (2, 0, 4, 4)
    assert nn.conv2d(np.ones((2, 0, 5, 5)), w[:, :0], layout="NC*").shape == (2, 4, 4, 4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_one_element(n: int) -> None:
    x, w = np.full((1,) * (n + 2), 3.0), np.full((1,) * (n + 2), 2.0)
    for y in (CONV[n](x, w), TRANSPOSE[n](x, w), INPUT[n](x.shape, w, x), WEIGHT[n](x, w.shape, w)):
        np.testing.assert_array_equal(y, np.full((1,) * (n + 2), 6.0), strict=True)
    np.testing.assert_array_equal(CONV[n](x[0], w), np.full((1,) * (n + 1), 6.0), strict=True)


def test_padding_may_be_many_times_the_data() -> None:
    x, w = np.arange(3)[None], np.ones((1, 1, 1), int)
    for mode, pad in (("reflect", "reflect"), ("symmetric", "symmetric"), ("replicate", "edge"),
                      ("circular", "wrap"), ("zeros", "constant")):  # fmt: skip
        y = nn.conv1d(x, w, padding=((10, 7),), padding_mode=mode)
        np.testing.assert_array_equal(y[0], np.pad(x[0], (10, 7), mode=pad))  # type: ignore[call-overload]


def test_nan_reaches_the_windows_that_hold_it() -> None:
    x = np.ones((1, 2, 30))
    x[0, 1, 11] = np.nan
    y = nn.conv1d(x, np.ones((3, 2, 4)), padding=2)
    assert (np.isnan(y).any(axis=1)[0].nonzero()[0] == np.arange(10, 14)).all()
    assert np.isnan(y).all(axis=1).sum() == 4


# plans


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("dtype", [np.float32, np.complex128, np.int32])
def test_a_plan_gives_what_the_call_gives(kind: int, dtype: Any) -> None:
    function, arrays, options = calls(dtype)[kind]
    names = list(inspect.signature(function).parameters)
    arguments = dict(zip(names, arrays)) | options
    data, kernel = {0: ("x", "w"), 1: ("x", "w"), 2: ("grad_output", "w"),
                    3: ("x", "grad_output")}[kind]  # fmt: skip
    x, w = arguments.pop(data), arguments.pop(kernel)
    expected = function(*arrays, accuracy="strict", **options)
    plan = fastconv.plan(function, x, w, accuracy="strict", **arguments)
    assert len(plan.problems) == 1
    np.testing.assert_array_equal(plan(x), expected, strict=True)
    shape_only = fastconv.plan(function, (x.shape, x.dtype), w, accuracy="strict", **arguments)
    np.testing.assert_array_equal(shape_only(x), expected, strict=True)
    out = np.empty_like(expected)
    assert plan(x, out=out) is out
    np.testing.assert_array_equal(out, expected)
    for c in fastconv.candidates(function, x, w, **arguments):
        if c.refused is None:
            forced = function(*arrays, method=c.method, config=c.config, **options)
            wide = np.maximum(abs(expected), 1).astype(float)
            assert (abs(forced - expected) <= 1e-3 * wide.max()).all()


def test_a_plan_of_channels_last_without_a_batch() -> None:
    rng = np.random.default_rng(0)
    x, w = small(rng, (6, 5, 2), np.float32), small(rng, (4, 2, 3, 3), np.float32)
    options: dict[str, Any] = {
        "layout": "NHWC", "padding": "same", "padding_mode": "circular", "accuracy": "strict",
    }  # fmt: skip
    plan = fastconv.plan(nn.conv2d, x, w, **options)
    expected = nn.conv2d(x, w, **options)
    np.testing.assert_array_equal(plan(x), expected, strict=True)


# errors

X, W = np.ones((2, 4, 8, 9)), np.ones((6, 2, 3, 3))
G = np.ones((2, 6, 6, 7))
BAD_CONV: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": np.ones((8, 9))}, ValueError, r"x of shape .* got \(8, 9\)"),
    ({"x": np.ones((1, 2, 4, 8, 9))}, ValueError, r"got \(1, 2, 4, 8, 9\)"),
    ({"x": np.float64(3)}, ValueError, r"got \(\)"),
    ({"x": np.ones((2, 5, 8, 9))}, ValueError, r"2 \* 2 channels .* got 5"),
    ({"x": np.ones((2, 4, 0, 9))}, ValueError, "spatial sizes of at least 1"),
    ({"x": np.ones((2, 4, 2, 9))}, ValueError, r"kernel \(3, 3\) spanning \(3, 3\) over \(2, 9\)"),
    ({"dilation": 5}, ValueError, r"spanning \(11, 11\) over \(8, 9\)"),
    ({"w": np.ones((6, 2, 3))}, ValueError, r"w of 4 dimensions, got shape \(6, 2, 3\)"),
    ({"w": np.ones((6, 2, 0, 3))}, ValueError, r"kernel sizes of at least 1, got shape"),
    ({"w": np.ones((5, 2, 3, 3))}, ValueError, r"divisible by 2 groups, got w \(5, 2, 3, 3\)"),
    ({"groups": 0}, ValueError, r"groups from 1 to \d+, got \(0,\)"),
    ({"groups": -2}, ValueError, "groups from 1"),
    ({"groups": 1}, ValueError, r"2 \* 1 channels"),
    ({"groups": 2.0}, TypeError, "groups of integers, got 2.0"),
    ({"groups": True}, TypeError, "groups of integers, got True"),
    ({"groups": (2, 2)}, TypeError, "groups of integers"),
    ({"padding": -1}, ValueError, "padding of at least 0"),
    ({"padding": ((1, -1), (0, 0))}, ValueError, "padding of at least 0"),
    ({"padding": 1.5}, TypeError, "padding of integers, got 1.5"),
    ({"padding": (1, 1.0)}, TypeError, "padding of integers, got 1.0"),
    ({"padding": True}, TypeError, "padding of integers, got True"),
    ({"padding": None}, TypeError, "padding of integers, got None"),
    ({"padding": (1, 2, 3)}, ValueError, r"padding of one .* got \(1, 2, 3\)"),
    ({"padding": ()}, ValueError, "padding of one"),
    ({"padding": ((1, 2, 3), (1, 2, 3))}, ValueError, r"padding .* got \(1, 2, 3\)"),
    ({"padding": "full"}, ValueError, "'same', 'valid' or integers, got 'full'"),
    ({"padding": "same", "stride": 2}, ValueError, r"stride of 1 with padding='same', got \(2, 2"),
    ({"padding": "same", "stride": (1, 2)}, ValueError, "stride of 1 with padding='same'"),
    ({"padding": 2**62}, ValueError, "at most"),
    ({"padding": 2**28}, ValueError, "at most"),
    ({"padding": 10**30}, ValueError, "at most"),
    ({"padding_mode": "constant"}, ValueError, "padding_mode out of .* got 'constant'"),
    ({"layout": "CNHW"}, ValueError, "layout out of .* got 'CNHW'"),
    ({"layout": "NWC"}, ValueError, "layout out of .* got 'NWC'"),
    ({"bias": np.ones(5)}, ValueError, r"bias of shape \(6,\), got \(5,\)"),
    ({"bias": np.ones((6, 1))}, ValueError, r"bias of shape \(6,\), got \(6, 1\)"),
    ({"bias": np.ones(6, np.float32)}, TypeError, "bias of one dtype .* float64, got float32"),
    ({"w": W.astype(np.float32)}, TypeError, "w of one dtype .* float64, got float32"),
    ({"w": W.astype(complex)}, TypeError, "float64, got complex128"),
    ({"x": X.astype(np.int64)}, TypeError, "int64, got float64"),
    ({"x": X.astype(object), "w": W.astype(object)}, TypeError, "object"),
    ({"x": X.astype(str), "w": W.astype(X.astype(str).dtype)}, TypeError, "unsupported dtype"),
    ({"x": X.astype("M8[s]"), "w": W.astype("M8[s]")}, TypeError, "unsupported dtype"),
    ({"x": np.ma.masked_equal(X, 0)}, TypeError, "masked array"),
    ({"out": np.empty((2, 6, 6, 8))}, ValueError, r"out of shape \(2, 6, 6, 7\), got \(2, 6, 6, 8"),
    ({"out": np.empty((6, 6, 7))}, ValueError, "out of shape"),
    ({"out": np.empty((2, 6, 6, 7), "f4")}, TypeError, "out of one dtype"),
    ({"out": [1, 2]}, TypeError, "out to be an array, got list"),
    ({"out": np.broadcast_to(0.0, (2, 6, 6, 7))}, ValueError, "out to be writeable"),
    ({"method": "magic"}, ValueError, "magic"),
    ({"config": {"tile": 3}}, ValueError, "method="),
    ({"accuracy": "perfect"}, ValueError, "accuracy"),
    ({"threads": 0}, ValueError, "at least one thread"),
    ({"workspace_limit": 0, "method": "naive", "x": X[:, ::-1]}, ValueError, "limit"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "message"), BAD_CONV)
def test_bad_conv(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    if "workspace_limit" in changes:
        changes = changes | {"x": X.astype(np.float16), "w": W.astype(np.float16)}
    with pytest.raises(error, match=message):
        nn.conv2d(**({"x": X, "w": W, "groups": 2} | changes))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ["stride", "dilation", "output_padding"])
def test_bad_sizes(function: Any, name: str) -> None:
    if name not in inspect.signature(function).parameters:
        return
    whole = function in (nn.conv_integer, nn.qlinear_conv)
    n = 2 if whole else int(next(c for c in function.__name__ if c.isdigit()))
    arguments: dict[str, Any] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if key in ("x", "w", "grad_output"):
            arguments[key] = np.ones((1, 1, *(1,) * n), np.uint8 if whole else np.float64)
        elif key.endswith("scale"):
            arguments[key] = np.float32(1)
        elif key.endswith("zero_point") and parameter.default is parameter.empty:
            arguments[key] = np.uint8(0)
        elif key in ("input_size", "weight_size"):
            arguments[key] = (1, 1, *(1,) * n)
    function(**arguments)
    function(**arguments, **{name: 0 if name == "output_padding" else 1})
    for bad in (1.0, float("nan"), True, "1", None, (1.0,) * n, (True,) * n, [float("nan")] * n,
                np.float64(1), np.array([1.0])):  # fmt: skip
        with pytest.raises(TypeError, match=f"expected {name} of integers, got"):
            function(**arguments, **{name: bad})
    for bad in ((1,) * (n + 1), (), np.ones(n + 1, int)):
        with pytest.raises(ValueError, match=f"expected {name} of one integer or {n}, got"):
            function(**arguments, **{name: bad})
    for bad in (-1, (-1,) * n, 2**62, 10**30, *(() if name == "output_padding" else (0,))):
        with pytest.raises(ValueError, match=f"expected {name} (from|of at least)"):
            function(**arguments, **{name: bad})


BAD_TRANSPOSE: list[tuple[dict[str, Any], str]] = [
    ({"x": np.ones((2, 4, 6, 7))}, r"x of 6 channels \(w of shape .* got 4"),
    ({"x": np.ones((6, 7))}, "x of shape"),
    ({"x": np.ones((2, 6, 0, 7))}, "spatial sizes of at least 1"),
    ({"groups": 4}, "channels divisible by 4 groups, got 6"),
    ({"w": np.ones((6, 2, 3))}, "w of 4 dimensions"),
    ({"output_padding": 1}, r"output_padding of at least 0 and below .* got \(1, 1\)"),
    ({"output_padding": (0, 3), "stride": 2, "dilation": 3}, "output_padding"),
    ({"padding": 5}, "leaves an output"),
    ({"padding": -1}, "padding of at least 0"),
    ({"padding": "same"}, "padding of integers, got 'same'"),
    ({"stride": 2**40}, "at most"),
    ({"bias": np.ones(3)}, r"bias of shape \(4,\), got \(3,\)"),
    ({"out": np.empty((2, 4, 8, 8))}, r"out of shape \(2, 4, 8, 9\), got \(2, 4, 8, 8\)"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_TRANSPOSE)
def test_bad_conv_transpose(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nn.conv_transpose2d(**({"x": G, "w": W, "groups": 2} | changes))


INPUT_2D, WEIGHT_2D = nn.conv2d_input, nn.conv2d_weight
BAD_GRADIENT: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (INPUT_2D, {"input_size": (2, 4, 8, 10)}, ValueError, r"grad_output of shape \(2, 6, 6, 8"),
    (INPUT_2D, {"input_size": (4, 8, 9)}, ValueError, r"grad_output of shape \(6, 6, 7\)"),
    (INPUT_2D, {"input_size": (8, 9)}, ValueError, "input_size of shape"),
    (INPUT_2D, {"input_size": (2, 5, 8, 9)}, ValueError, "input_size of 2 \\* 2 channels"),
    (INPUT_2D, {"input_size": (2, 4, -8, 9)}, ValueError, "input_size of sizes of at least 0"),
    (INPUT_2D, {"input_size": (2, 4, 2, 9)}, ValueError, "kernel no larger"),
    (INPUT_2D, {"input_size": (2, 4, 8.0, 9)}, TypeError, "input_size of integers, got 8.0"),
    (INPUT_2D, {"input_size": 8}, TypeError, "input_size of integers, got 8"),
    (INPUT_2D, {"input_size": (2**40, 4, 2**30, 9)}, ValueError, "at most"),
    (INPUT_2D, {"w": W.astype("f4")}, TypeError, "float64, got float32"),
    (INPUT_2D, {"padding": -1}, ValueError, "padding of at least 0"),
    (INPUT_2D, {"out": np.empty((2, 4, 8, 8))}, ValueError, r"out of shape \(2, 4, 8, 9\)"),
    (WEIGHT_2D, {"weight_size": (6, 2, 3, 4)}, ValueError, r"shape \(2, 6, 6, 6\)"),
    (WEIGHT_2D, {"weight_size": (6, 3, 3, 3)}, ValueError, r"3 \* 2 channels \(weight_size"),
    (WEIGHT_2D, {"weight_size": (6, 2, 3)}, ValueError, "weight_size of 4 dimensions"),
    (WEIGHT_2D, {"weight_size": (6, 2, 3, None)}, TypeError, "weight_size of integers"),
    (WEIGHT_2D, {"weight_size": (5, 2, 3, 3)}, ValueError, "divisible by 2 groups"),
    (WEIGHT_2D, {"x": X[:1]}, ValueError, "grad_output of shape"),
    (WEIGHT_2D, {"x": X.astype(int)}, TypeError, "grad_output of one dtype .* int64"),
    (WEIGHT_2D, {"out": W.astype("f4")}, TypeError, "out of one dtype"),
    (WEIGHT_2D, {"out": W[:, :1]}, ValueError, r"out of shape \(6, 2, 3, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "changes", "error", "message"), BAD_GRADIENT)
def test_bad_gradients(
    function: Any, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    right: dict[str, Any] = {"grad_output": G, "groups": 2}
    if function is nn.conv2d_input:
        right |= {"input_size": X.shape, "w": W}
    else:
        right |= {"x": X, "weight_size": W.shape}
    function(**right)
    with pytest.raises(error, match=message):
        function(**(right | changes))


def test_what_was_right_once_does_not_let_its_equal_pass() -> None:
    """1, 1.0 and True hash alike; a cache of checked numbers must tell them apart."""
    nn.conv2d(X, W, None, (1, 1), ((0, 0), (0, 0)), groups=2)
    for bad in ((1.0, 1), (True, 1)):
        with pytest.raises(TypeError):
            nn.conv2d(X, W, None, bad, groups=2)  # type: ignore[arg-type]
    for bad_padding in (((0.0, 0), (0, 0)), (False, 0)):
        with pytest.raises(TypeError):
            nn.conv2d(X, W, None, 1, bad_padding, groups=2)  # type: ignore[arg-type]


# the package


@pytest.mark.parametrize("function", FUNCTIONS)
def test_docstrings_name_every_parameter(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    listed = text.split("\nReturns\n")[0]
    for name in inspect.signature(function).parameters:
        assert any(
            name in line.split(" : ")[0].split(", ")
            for line in listed.splitlines() if not line.startswith(" ")
        ), name  # fmt: skip


def test_public_names() -> None:
    for name in fastconv.__all__:
        assert getattr(fastconv, name) is not None
    assert fastconv.conv2d is nn.conv2d
    assert fastconv.__version__.count(".") >= 2
    with pytest.raises(AttributeError, match="no attribute 'convolution'"):
        _ = fastconv.convolution  # type: ignore[attr-defined]


def test_import_brings_nothing_that_a_call_does_not_need() -> None:
    heavy = ("rich", "typer", "numba", "torch", "dask", "matplotlib", "threadpoolctl",
             "scipy.signal", "scipy.ndimage", "scipy.stats", "ml_dtypes")  # fmt: skip
    code = f"import sys, fastconv; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == "[]"
