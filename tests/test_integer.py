"""conv_integer and qlinear_conv: exact sums, ONNX's quantisation, and what they refuse."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import reference
from problems import Array

import fastconv
from fastconv import nn
from fastconv._ext import core
from fastconv._problem import Problem
from fastconv.solvers import BY_NAME

NARROW = (np.uint8, np.int8)

#: stride, padding, dilation, groups.
GEOMETRIES = ((1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (1, 1, 1, 6))


def whole(rng: np.random.Generator, shape: Any, dtype: Any) -> Array:
    """Every number that a dtype holds, alike."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def sums(
    x: Array, w: Array, x_zero: Any, w_zero: Any, stride: int, padding: int, dilation: int,
    groups: int,
) -> Array:  # fmt: skip
    """In int64, padded with what adds nothing."""
    n = x.ndim - 2
    zero = np.asarray(w_zero, np.int64).reshape(-1, *(1,) * (w.ndim - 1))
    return reference.conv(
        x.astype(np.int64) - int(x_zero), w.astype(np.int64) - zero, stride=(stride,) * n,
        dilation=(dilation,) * n, padding=((padding, padding),) * n, groups=groups,
    )[0].astype(np.int64)  # fmt: skip


def quantized(total: Array, factor: Array, zero: int, dtype: Any) -> Array:
    """Of sums, as the docstring says: in float32, halves to even, saturated."""
    factor = factor.reshape(-1, *(1,) * (total.ndim - 2))
    info = np.iinfo(dtype)
    return np.clip(np.rint(total.astype(np.float32) * factor) + zero, info.min, info.max)


@pytest.mark.parametrize("x_type, w_type", [(a, b) for a in NARROW for b in NARROW])
@pytest.mark.parametrize("n", (1, 2, 3))
def test_against_int64(n: int, x_type: Any, w_type: Any) -> None:
    rng = np.random.default_rng(n)
    x_zeros = (0, np.iinfo(x_type).min, np.iinfo(x_type).max)
    space = {1: (37,), 2: (9, 7), 3: (4, 3, 5)}[n]
    for geometry, x_zero in itertools.product(GEOMETRIES, x_zeros):
        groups = geometry[-1]
        x = whole(rng, (2, 6, *space), x_type)
        w = whole(rng, (12, 6 // groups, *(3, 2, 3)[:n]), w_type)
        for w_zero in (0, whole(rng, 12, w_type)):
            expected = sums(x, w, x_zero, w_zero, *geometry)
            y = nn.conv_integer(x, w, x_zero, w_zero, *geometry)
            assert y.dtype == np.int32
            np.testing.assert_array_equal(y, expected)
            scale = rng.uniform(1e-3, 3e-3, 12).astype(np.float32)
            bias = rng.integers(-1000, 1000, 12).astype(np.int32)
            y = nn.qlinear_conv(x, 0.5, x_zero, w, scale, w_zero, 0.75, x_type(3), bias, *geometry)
            factor = np.float32(0.5) * scale / np.float32(0.75)
            total = expected + bias.reshape(-1, *(1,) * n)
            np.testing.assert_array_equal(y, quantized(total, factor, 3, x_type))
            assert y.dtype == x_type


def offered(*methods: str) -> list[str]:
    return [m for m in methods if m != "quads" or not core.quads_absent()]


@pytest.mark.parametrize("method", offered("direct", "naive", "pairs", "quads", "winograd_pairs"))
def test_every_method_gives_the_same(method: str) -> None:
    rng = np.random.default_rng(3)
    x, w = whole(rng, (2, 5, 9, 21), np.uint8), whole(rng, (7, 5, 3, 3), np.int8)
    expected = sums(x, w, 200, 0, 1, 1, 1, 1)
    y = nn.conv_integer(x, w, 200, padding=1, method=method)
    np.testing.assert_array_equal(y, expected)
    y = nn.qlinear_conv(x, 0.25, 200, w, 0.01, 0, 1, np.int8(-5), padding=1, method=method)
    factor = np.float32(0.25) * np.full(7, 0.01, np.float32)
    np.testing.assert_array_equal(y, quantized(expected, factor, -5, np.int8))


def test_nothing_saturates_and_sums_wrap() -> None:
    """Products of the largest size: pairs of them exceed 16 bits, 34 000 of them 31 bits."""
    x, w = np.full((1, 34_000, 2), 255, np.uint8), np.full((1, 34_000, 1), 255, np.uint8)
    y = nn.conv_integer(x, w)
    assert y.tolist() == [[[34_000 * 255 * 255 - 2**32] * 2]]
    x, w = np.full((1, 64, 9), -128, np.int8), np.full((8, 64, 3), -128, np.int8)
    assert (nn.conv_integer(x, w, 127, 127) == 192 * 255 * 255).all()


@pytest.mark.parametrize("method", offered("pairs", "quads"))
@pytest.mark.parametrize("x_type, w_type", [(a, b) for a in NARROW for b in NARROW])
def test_largest_bytes(x_type: Any, w_type: Any, method: str) -> None:
    """Least and largest samples, weights and zero points: four products exceed 16 bits."""
    of_x, of_w = np.iinfo(x_type), np.iinfo(w_type)
    ends = (of_x.min, of_x.max), (of_w.min, of_w.max)
    for x_value, w_value, x_zero in itertools.product(*ends, ends[0]):
        x = np.full((1, 65, 5, 6), x_value, x_type)
        w = np.full((3, 65, 3, 3), w_value, w_type)
        y = nn.conv_integer(x, w, x_zero, padding=1, method=method)
        np.testing.assert_array_equal(y, sums(x, w, x_zero, 0, 1, 1, 1, 1))


def test_weights_that_stay_bytes_less_their_zero_point() -> None:
    rng = np.random.default_rng(8)
    x, w = whole(rng, (1, 6, 9, 9), np.uint8), whole(rng, (5, 6, 3, 3), np.uint8)
    for zero, dtype in (
        (128, np.int8),
        (127, np.int16),
        ([128] * 5, np.int8),
        ([128] * 4 + [129], np.int16),
    ):
        assert (
            nn._centred(w, 0, nn._zero_points("w_zero_point", zero, w.dtype, 5))[0].dtype == dtype
        )
        y = nn.conv_integer(x, w, 3, zero, padding=1)
        np.testing.assert_array_equal(y, sums(x, w, 3, zero, 1, 1, 1, 1))


@pytest.mark.parametrize("zero", [0, 5])
def test_zero_points_of_filters_that_are_alike_are_one(zero: int) -> None:
    """Models whose weights are quantised by filter name as many zeros: bytes stay bytes."""
    points = nn._zero_points("w_zero_point", np.full(5, zero, np.int8), np.dtype(np.int8), 5)
    assert points == zero and isinstance(points, int)
    assert np.shape(nn._zero_points("w_zero_point", [0, 0, 1], np.dtype(np.int8), 3)) == (3,)


@pytest.mark.parametrize("channels, width", [(7, 5), (37, 12), (37, 40), (7, 90)])
@pytest.mark.parametrize("stride", [1, 2])
def test_quantised_depthwise_layers(channels: int, width: int, stride: int) -> None:
    """Each channel by its own scale, those that are lanes of a vector, too."""
    rng = np.random.default_rng(width)
    x, w = whole(rng, (2, channels, 9, width), np.uint8), whole(rng, (channels, 1, 3, 3), np.int8)
    scale = rng.uniform(0.001, 0.02, channels).astype(np.float32)
    bias, zeros = whole(rng, channels, np.int8), np.zeros(channels, np.int8)
    wide = bias.astype(np.int32)
    geometry = {"stride": stride, "padding": 1, "groups": channels}
    for method in ("auto", "naive", *(() if core.quads_absent() else ("quad_rows",))):
        y = nn.qlinear_conv(x, 0.5, 9, w, scale, zeros, 0.25, 3, wide, **geometry, method=method)
        total = nn.conv_integer(x, w, 9, 0, **geometry, method="naive") + wide[:, None, None]
        factor = (np.float32(0.5) * scale / np.float32(0.25)).reshape(channels, 1, 1)
        expected = np.rint(total.astype(np.float32) * factor) + 3
        np.testing.assert_array_equal(y, np.clip(expected, 0, 255), method)


def test_tiles_fit_sixteen_bits_and_sums_thirty() -> None:
    """The largest differences, alike and of changing signs, over most channels."""
    most = 917
    shape = (1, most, 4, 6)
    even = np.indices(shape[1:]).sum(0) % 2 == 0
    for x, x_zero in ((0, 255), (255, 0), (np.where(even, 0, 255), 127), (even * 255, 0)):
        x = np.broadcast_to(x, shape).astype(np.uint8)
        for w, w_zero in ((0, 255), (255, 0), (np.where(even[:, :3, :3], 255, 0), 128)):
            w = np.broadcast_to(w, (2, most, 3, 3)).astype(np.uint8)
            y = nn.conv_integer(x, w, x_zero, w_zero, padding=1, method="winograd_pairs")
            np.testing.assert_array_equal(y, sums(x, w, x_zero, w_zero, 1, 1, 1, 1))
    x, w = np.full((1, 1827, 4, 4), 255, np.uint8), np.full((1, 1827, 3, 3), -128, np.int8)
    y = nn.conv_integer(x, w, method="winograd_pairs")
    assert (y == -1827 * 9 * 255 * 128).all()


def test_halves_round_to_even_and_results_saturate() -> None:
    x, w = np.arange(-8, 9, dtype=np.int8)[None, None], np.ones((1, 1, 1), np.int8)
    y = nn.qlinear_conv(x, 0.5, 0, w, 1.0, 0, 1.0, 0)[0, 0]
    np.testing.assert_array_equal(y, [-4, -4, -3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3, 4, 4])
    y = nn.qlinear_conv(x, 100.0, 0, w, 1.0, 0, 1.0, np.uint8(100))[0, 0]
    np.testing.assert_array_equal(y, [0] * 7 + [0, 100, 200] + [255] * 7)
    y = nn.qlinear_conv(x, 3e38, 0, w, 1.0, 0, 1.0, np.int8(-128))[0, 0]  # beyond float32
    np.testing.assert_array_equal(y, [-128] * 9 + [127] * 8)


@pytest.mark.parametrize("isa", core.isas())
def test_quantize_kernels(isa: str) -> None:
    """Each length around a vector, each type, sums of any size."""
    rng = np.random.default_rng(7)
    for count, dtype in itertools.product((1, 7, 8, 31, 64, 131), NARROW):
        total = rng.integers(-(2**31), 2**31, (2, 3, count)).astype(np.int32)
        total[0] >>= rng.integers(0, 31, (3, count)).astype(np.int32)
        factor = np.array([1.0, 1e-7, 0.5], np.float32)
        y = np.empty(total.shape, dtype)
        core.quantize(total, factor, 3, y, isa)
        np.testing.assert_array_equal(y, quantized(total, factor, 3, dtype))


def test_layouts_batches_strides_and_out() -> None:
    rng = np.random.default_rng(4)
    x, w = whole(rng, (2, 9, 8, 6), np.uint8), whole(rng, (5, 6, 3, 3), np.int8)
    first = np.moveaxis(x, -1, 1)
    for how in ({"x_zero_point": 9}, {"w_zero_point": [1, 2, 3, 4, 5]}):
        expected = nn.conv_integer(first, w, padding=1, **how)  # of strides in any order
        y = nn.conv_integer(x, w, padding=1, layout="N*C", **how)
        np.testing.assert_array_equal(np.moveaxis(y, -1, 1), expected)
        np.testing.assert_array_equal(
            nn.conv_integer(first[0], w, padding="same", **how), expected[0]
        )
        out = np.zeros((2, 5, 9, 16), np.int32)[..., ::2]
        assert nn.conv_integer(first, w, padding=1, out=out, **how) is out
        np.testing.assert_array_equal(out, expected)
    options = {"x_scale": 0.1, "x_zero_point": 9, "w_scale": 0.1, "w_zero_point": 0, "y_scale": 1.0}
    expected = nn.qlinear_conv(first, w=w, y_zero_point=128, padding=1, **options)
    y = nn.qlinear_conv(x, w=w, y_zero_point=128, padding=1, layout="N*C", **options)
    np.testing.assert_array_equal(np.moveaxis(y, -1, 1), expected)
    out = np.zeros((2, 5, 9, 16), np.uint8)[..., ::2]
    nn.qlinear_conv(first, w=w, y_zero_point=128, padding=1, out=out, **options)
    np.testing.assert_array_equal(out, expected)
    nothing = nn.qlinear_conv(first[:0], w=w, y_zero_point=128, padding=1, **options)
    assert nothing.shape == (0, 5, 9, 8) and nothing.dtype == np.uint8
    none = nn.qlinear_conv(first[:, :0], w=w[:, :0], y_zero_point=7, padding=1, **options)
    assert (none == 7).all()


def test_plans_keep_weights_and_take_new_data() -> None:
    rng = np.random.default_rng(5)
    x, w = whole(rng, (1, 8, 12, 12), np.uint8), whole(rng, (6, 8, 3, 3), np.uint8)
    options = {
        "x_scale": 0.1,
        "x_zero_point": 9,
        "w_scale": 0.01,
        "w_zero_point": 128,
        "y_scale": 1.0,
        "y_zero_point": 100,
        "padding": 1,
        "method": "pairs",
    }
    for x_like in (x, (x.shape, x.dtype)):
        plan = fastconv.plan(nn.qlinear_conv, x_like, w, **options)
        for _ in range(4):
            x = whole(rng, x.shape, np.uint8)
            np.testing.assert_array_equal(plan(x), nn.qlinear_conv(x, w=w, **options))
    assert plan.method == "pairs"
    w[:] = whole(rng, w.shape, np.uint8)  # a plain call sees new weights in the same place
    expected = quantized(
        sums(x, w, 9, 128, 1, 1, 1, 1),
        np.full(6, np.float32(0.1) * np.float32(0.01)),
        100,
        np.uint8,
    )
    np.testing.assert_array_equal(nn.qlinear_conv(x, w=w, **options), expected)


@pytest.mark.parametrize("groups, kernel", ((1, 3), (1, 1), (16, 3)))
def test_as_onnxruntime(groups: int, kernel: int) -> None:
    """The same bits; of its int8 weights 7 bits, as it adds pairs of products in 16 here."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx, which makes its models, is not installed")
    rng = np.random.default_rng(6)
    x = whole(rng, (1, 16, 13, 11), np.uint8)
    w = rng.integers(-64, 65, (32, 16 // groups, kernel, kernel)).astype(np.int8)
    scale = rng.uniform(1e-3, 1e-2, 32).astype(np.float32)
    bias = rng.integers(-3000, 3000, 32).astype(np.int32)
    constants = {
        "w": w, "zx": np.uint8(130), "zw": np.zeros(32, np.int8), "sx": np.float32(0.07),
        "sw": scale, "sy": np.float32(0.3), "zy": np.uint8(99), "b": bias,
    }  # fmt: skip

    def run(op: str, names: str, dtype: Any) -> Array:
        of = onnx.helper.np_dtype_to_tensor_dtype
        node = onnx.helper.make_node(
            op, names.split(), ["y"], pads=[1] * 4, strides=[2, 1], group=groups
        )
        graph = onnx.helper.make_graph(
            [node], "g",
            [onnx.helper.make_tensor_value_info("x", of(x.dtype), x.shape)],
            [onnx.helper.make_tensor_value_info("y", of(np.dtype(dtype)), None)],
            [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()
             if n in names.split()],
        )  # fmt: skip
        opset = [onnx.helper.make_opsetid("", 13)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"x": x})[0]

    how: Any = {"stride": (2, 1), "padding": 1, "groups": groups}
    y = nn.conv_integer(x, w, 130, **how)
    np.testing.assert_array_equal(y, run("ConvInteger", "x w zx", np.int32))
    y = nn.qlinear_conv(x, 0.07, 130, w, scale, 0, 0.3, 99, bias, **how)
    expected = run("QLinearConv", "x sx zx w sw zw sy zy b", np.uint8)
    np.testing.assert_array_equal(y, expected)


X, W = np.ones((1, 2, 5), np.uint8), np.ones((3, 2, 2), np.int8)


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"x": X.astype(np.int16)}, TypeError, "x of int8 or uint8"),
        ({"w": W.astype(np.float32)}, TypeError, "w of int8 or uint8"),
        ({"x_zero_point": 256}, ValueError, "x_zero_point that uint8 holds"),
        ({"w_zero_point": -129}, ValueError, "w_zero_point that int8 holds"),
        ({"x_zero_point": 1.0}, TypeError, "x_zero_point of integers"),
        ({"w_zero_point": [1, 2]}, ValueError, "one w_zero_point, or 3"),
        ({"x_zero_point": [1, 2]}, ValueError, "one x_zero_point"),
        ({"w": np.ones((3, 2), np.int8)}, ValueError, "w of 3 to 5 dimensions"),
        ({"w": np.ones((3, 2, 9), np.int8)}, ValueError, "no larger than the padded input"),
        ({"out": np.zeros((1, 3, 4), np.int64)}, TypeError, "out of one dtype"),
    ],
)
def test_what_is_refused(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        nn.conv_integer(**{"x": X, "w": W, **options})


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"x": X.astype(np.float32)}, TypeError, "x of int8 or uint8"),
        ({"x_scale": 0.0}, ValueError, "x_scale that is positive"),
        ({"w_scale": [1.0, np.inf, 1.0]}, ValueError, "w_scale that is positive and finite"),
        ({"w_scale": [1.0, 2.0]}, ValueError, "one w_scale, or 3"),
        ({"x_scale": 1e38, "w_scale": 1e38}, ValueError, "quotient is finite"),
        ({"y_zero_point": -1}, ValueError, "y_zero_point that uint8 holds"),
        ({"bias": np.zeros(3)}, TypeError, "bias of one dtype"),
        ({"bias": np.zeros(4, np.int32)}, ValueError, "bias of shape"),
        ({"w": np.ones(3, np.int8)}, ValueError, "w of 3 to 5 dimensions"),
    ],
)
def test_what_is_refused_of_scales(options: Any, error: type[Exception], text: str) -> None:
    plain: Any = {
        "x": X,
        "x_scale": 1.0,
        "x_zero_point": 0,
        "w": W,
        "w_scale": 1.0,
        "w_zero_point": 0,
        "y_scale": 1.0,
        "y_zero_point": 0,
    }
    with pytest.raises(error, match=text), np.errstate(over="ignore"):
        nn.qlinear_conv(**{**plain, **options})


@pytest.mark.parametrize(
    "text, reason",
    [
        ("conv2d i32 n1 c2 h9 w9 k2 r3 s3 x:i16 w:i8", "it multiplies bytes, not i16 by i8"),
        ("conv2d i16 n1 c2 h9 w9 k2 r3 s3 x:u8 w:i8", "it sums in 32 bits, not i16"),
        ("conv2d i32 n1 c2 h9 w9 k2 r3 s2 x:u8 w:i8", "kernels of 3 x 3, not 3 x 2"),
        ("conv2d i32 n1 c2 h9 w9 k2 r3 s3 u2,1 x:u8 w:i8", "neither strides nor dilation"),
        ("conv2d i32 n1 c918 h9 w9 k2 r3 s3 x:u8 w:u8", "918 channels may not fit 30 bits"),
        ("conv2d i32 n1 c1828 h9 w9 k2 r3 s3 x:u8 w:i8", "1828 channels may not fit 30 bits"),
        ("conv2d i32 n1 c2 h9 w9 k2 r3 s3 p1 mirror x:u8 w:i8", "with one number, not mirror"),
        ("conv2d i32 n1 c2 h9 w9 k2 r3 s3 p1 constant=-1 x:u8 w:i8", "no zero point of u8"),
        ("conv2d i32 n1 c2 h9 w9 k2 r3 s3 x:u8 w:i8 y:f32", "it stores integers"),
        ("conv2d i32 n1 c2 h9 w9 k2 r3 s3 x:u8 w:i8 N*C", "rows of pixels, not of channels"),
    ],
)
def test_winograd_pairs_says_why_not(text: str, reason: str) -> None:
    assert reason in str(BY_NAME["winograd_pairs"].why_not(Problem.parse(text)))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("conv1d i32 n1 c2 w9 k2 s3", "it multiplies 16 bits, not i32 by i32"),
        ("conv1d i32 n1 c2 w9 k2 s3 x:u16 w:i8", "it multiplies 16 bits, not u16 by i8"),
        ("conv1d i64 n1 c2 w9 k2 s3 x:u8 w:i8", "it sums in 32 bits, not i64"),
        ("conv1d i32 n1 c2 w9 k2 s3 p1 constant=9 x:i16 w:i8", "x less 9 has more than 16 bits"),
        ("conv1d i32 n1 c2 w9 k2 s3 p1 e2 x:u8 w:i8 y:u8", "sums of 32 bits only"),
        ("conv1d i32 n1 c2 w9 k2 s3 p1 mirror x:u8 w:i8", "padded with one number, not mirror"),
        ("conv1d i32 n1 c2 w9 k2 s3 x:u8 w:i8 y:f32", "it stores integers"),
        ("conv1d i16 n1 c2 w9 k2 s3 y:i32", "it stores what it sums in"),
    ],
)
def test_pairs_says_why_not(text: str, reason: str) -> None:
    assert reason in str(BY_NAME["pairs"].why_not(Problem.parse(text)))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("conv1d i32 n1 c2 w9 k2 s3 x:i16 w:i8", "it multiplies bytes, not i16 by i8"),
        ("conv1d i32 n1 c2 w9 k2 s3 x:u8 w:i16", "it multiplies bytes, not u8 by i16"),
        ("conv1d i32 n1 c2 w9 k2 s3 p1 e2 x:u8 w:i8", "it takes no input dilation"),
        ("conv1d i32 n1 c2 w9 k2 s3 p1 constant=-1 x:u8 w:i8", "-1 is no zero point of u8"),
        ("conv1d i32 n1 c2 w9 k2 s3 p1 mirror x:u8 w:i8", "padded with one number, not mirror"),
    ],
)
def test_quads_say_why_not(text: str, reason: str) -> None:
    assert reason in str(BY_NAME["quads"].why_not(Problem.parse(text)))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("conv1d i32 n1 c1 w9 k1 s3 x:u8 w:i8", "of two axes"),
        ("conv2d i64 n1 c1 h9 w9 k1 r3 s3 x:u8 w:i8", "it sums in 32 bits, not i64"),
        ("conv2d i32 n1 c1 h9 w9 k1 r3 s3 x:u8 w:i16", "it multiplies bytes, not u8 by i16"),
        ("conv2d i32 n1 c1 h9 w9 k1 r3 s3 x:u8 w:i8 y:i64", "integers of up to 32 bits, not i64"),
        ("conv2d i32 n1 c1 h9 w9 k1 r3 s3 e2 x:u8 w:i8", "it takes no input dilation"),
        ("conv2d i32 n1 c1 h9 w9 k1 r3 s3 u1,3 x:u8 w:i8", "strides along rows of 1 or 2"),
        ("conv2d i32 n1 c1 h9 w9 k1 r3 s3 l1,2 x:u8 w:i8", "it takes no dilation"),
        ("conv2d i32 n1 c1 h9 w9 k1 r3 s3 p1 constant=300 x:u8 w:i8", "300 is no zero point of u8"),
        ("conv2d i32 n1 c1 h9 w9 k1 r3 s3 p1 wrap x:u8 w:i8", "with one number, not by 'wrap'"),
    ],
)
def test_quad_rows_say_why_not(text: str, reason: str) -> None:
    assert reason in str(BY_NAME["quad_rows"].why_not(Problem.parse(text)))


@pytest.mark.parametrize("name", ["quads", "quad_rows"])
def test_quads_are_of_processors_that_have_them(name: str) -> None:
    before = core.allow_vnni(False)
    problem = Problem.parse("conv2d i32 n1 c8 h9 w9 k2 r3 s3 x:u8 w:i8")
    reason = BY_NAME[name].why_not(problem)
    core.allow_vnni(before)
    assert reason in ("this processor has no AVX-512 VNNI", core.quads_absent())


@pytest.mark.parametrize("method", ["auto", "pairs", "winograd_pairs"])
@pytest.mark.parametrize(
    ("data", "weights"), [((1, 2, 8, 8), (0, 2, 3, 3)), ((0, 2, 8, 8), (4, 2, 3, 3)),
                          ((1, 0, 8, 8), (4, 0, 3, 3))],
)  # fmt: skip
def test_nothing_to_multiply(data: Any, weights: Any, method: str) -> None:
    x, w = np.ones(data, np.uint8), np.ones(weights, np.uint8)
    shape = (data[0], weights[0], 6, 6)
    for zero in (0, 3, np.full(weights[0], 3, np.uint8)):
        how = {"x_zero_point": 1, "w_zero_point": zero, "method": method}
        np.testing.assert_array_equal(
            nn.conv_integer(x, w, **how), np.zeros(shape, np.int32), strict=True
        )
        y = nn.qlinear_conv(x, 1.0, 1, w, np.ones(weights[0]), zero, 1.0, 7, method=method)
        np.testing.assert_array_equal(y, np.full(shape, 7, np.uint8), strict=True)
