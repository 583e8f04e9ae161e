"""float16 and bfloat16: converted bit for bit as NumPy and ml_dtypes do, and summed in float32."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from problems import Array

import fastconv
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem, numpy_dtype
from fastconv.solvers import BY_NAME

HALVES = (np.float16, ml_dtypes.bfloat16)


def every(dtype: Any) -> Array:
    return np.arange(2**16, dtype=np.uint16).view(dtype)


@pytest.fixture(scope="module")
def floats() -> Array:
    """Halves, what lies around and midway between them, and any bits."""
    near = np.concatenate([every(d).astype(np.float32) for d in HALVES]).view(np.uint32)
    shifts = [-1, 0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001]
    bits = [near + np.uint32(s % 2**32) for s in shifts]
    bits.append(np.random.default_rng(0).integers(0, 2**32, 200_003).astype(np.uint32))
    return np.concatenate(bits).view(np.float32)


@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("dtype", HALVES)
def test_every_half_becomes_its_float(dtype: Any, isa: str) -> None:
    x = every(dtype)
    y = core.widen(x, 2, isa)
    expected = x.astype(np.float32)
    number = ~np.isnan(expected)
    assert (np.isnan(y) == ~number).all()
    assert y[number].tobytes() == expected[number].tobytes()  # zeros with their signs
    assert (np.signbit(y) == np.signbit(expected)).all()


@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("dtype", HALVES)
def test_floats_round_to_even(dtype: Any, isa: str, floats: Array) -> None:
    y = np.empty(floats.shape, dtype)
    core.narrow(floats, y, 2, isa)
    with np.errstate(all="ignore"):
        expected = floats.astype(dtype)
    number = ~np.isnan(floats)
    assert (np.isnan(y.astype(np.float32)) == ~number).all()
    assert y[number].tobytes() == expected[number].tobytes()


@pytest.mark.parametrize("dtype", HALVES)
def test_subnormal_halves_outlive_flushing(dtype: Any) -> None:
    """float16's are normal floats: a mode that takes subnormal floats for zeros leaves them."""
    x = np.arange(1, 1024, dtype=np.uint16).view(dtype)
    before = core.flushes()
    for isa in core.isas():
        core.flush(1)
        try:
            y, z = core.widen(x, 1, isa), np.empty_like(x)
            core.narrow(y, z, 1, isa)
        finally:
            core.flush(before)
        assert y.tobytes() == x.astype(np.float32).tobytes()
        if dtype == np.float16:
            assert z.tobytes() == x.tobytes()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("count", (0, 1, 7, 8, 17, 9000, 70_000))
def test_arrays_however_they_lie(dtype: Any, count: int) -> None:
    """Transposed, reversed, with gaps, broadcast; around a vector, and a chunk of a thread."""
    x = np.random.default_rng(count).standard_normal((count, 2, 3)).astype(dtype)
    for view in (
        x, x.transpose(2, 0, 1), x[::-1], x[:, :, ::2], np.broadcast_to(x[:, :1], x.shape),
        x.swapaxes(0, 1)[:, ::2],
    ):  # fmt: skip
        wide = core.widen(view, 2)
        np.testing.assert_array_equal(wide, view.astype(np.float32))
        for to in (np.zeros(view.shape, dtype), np.zeros(view.shape[::-1], dtype).T):
            core.narrow(wide, to, 2)
            np.testing.assert_array_equal(to, view)


@pytest.mark.parametrize("dtype", HALVES)
def test_layers_are_float32_rounded_once(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 5, 9, 11)).astype(dtype)
    w = rng.standard_normal((6, 5, 3, 3)).astype(dtype)
    bias = rng.standard_normal(6).astype(dtype)
    wide = [a.astype(np.float32) for a in (x, w, bias)]
    how: Any = {"padding": 1, "activation": "silu", "method": "direct"}
    expected = fastconv.conv2d(*wide, **how).astype(dtype)
    assert fastconv.conv2d(x, w, bias, **how).tobytes() == expected.tobytes()
    last = np.moveaxis(x, 1, -1).copy()
    y = fastconv.conv2d(last, w, bias, layout="N*C", **how)
    assert np.moveaxis(y, -1, 1).tobytes() == expected.tobytes()
    out = np.zeros((2, 6, 9, 22), dtype)[..., ::2]
    fastconv.conv2d(x[:, :, ::-1], w, bias, out=out, **how)
    expected = fastconv.conv2d(wide[0][:, :, ::-1], *wide[1:], **how).astype(dtype)
    np.testing.assert_array_equal(out, expected)
    odd = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(x.shape)
    assert not odd.flags.aligned
    assert (
        fastconv.conv2d(odd, w, bias, **how).tobytes()
        == fastconv.conv2d(x, w, bias, **how).tobytes()
    )


@pytest.mark.parametrize("part_bytes", [1, 3000, 9000])
@pytest.mark.parametrize("text", [
    "conv2d f32 n2 c7 h9 w13 k7 r3 s3 g7 p1 x:bf16 w:bf16 y:bf16",
    "conv2d f32 n1 c5 h8 w20 k10 r5 s2 g5 p2:0,1 u2,1 x:f16 w:f16 y:f16",
    "conv1d f32 n3 c4 w300 k4 s9 g4 p4 x:bf16 w:bf16",
    "conv3d f32 n1 c3 d4 h5 w6 k3 t2 r3 s3 g3 p1 x:f16 w:f16 y:f16",
])  # fmt: skip
def test_parts_of_depthwise_layers(text: str, part_bytes: int, every_thread: None) -> None:
    """Of any size, on any number of threads, wherever x and y lie: to the bit what one gives."""
    problem, solver, machine = Problem.parse(text), BY_NAME["depthwise"], this_machine()
    rng = np.random.default_rng(len(text))
    x = rng.standard_normal(problem.x_shape).astype(numpy_dtype(problem.x_dtype))
    w = rng.standard_normal(problem.w_shape).astype(numpy_dtype(problem.w_dtype))
    bias = rng.standard_normal(problem.filters).astype(np.float32)
    for config in solver.configs(problem, machine):
        ys = []
        for threads, size, step in ((1, 2**30, 1), (1, part_bytes, 1), (3, part_bytes, 2)):
            plan = solver.plan(problem.on(threads), {**config, "part_bytes": size}, machine)
            apart = np.zeros((*x.shape[:-1], x.shape[-1] * step), x.dtype)[..., ::step]
            apart[...] = x
            y = np.full((*problem.y_shape[:-1], problem.y_shape[-1] * step), 77, plan.y_dtype)
            y = y[..., ::step]
            plan(apart, plan.pack_stored(w), bias, y)
            ys.append(y.copy())
        assert ys[1].tobytes() == ys[0].tobytes() == ys[2].tobytes()


def test_float16_of_the_other_byte_order() -> None:
    x, w = np.arange(40, dtype=">f2").reshape(1, 2, 20), np.ones((3, 2, 3), ">f2")
    expected = fastconv.conv1d(x.astype(np.float16), w.astype(np.float16))
    np.testing.assert_array_equal(fastconv.conv1d(x, w), expected)
