"""Integers by digits: exact at the ends of every dtype, and the proof that they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import arrays, oracle, values
from strategies import EXACT, problems

import fastconv
from fastconv import signal
from fastconv._engine import run
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import BOUNDARIES, Problem, numpy_dtype
from fastconv.solvers import BY_NAME, _digits, _rounding

Array = npt.NDArray[Any]

LIMBS = BY_NAME["limbs"]
INTEGERS = tuple(name for name in EXACT if name != "bool")


def solve(problem: Problem, x: Array, w: Array, bias: Array | None = None) -> Array:
    """By each config: all must agree."""
    found = []
    for config in LIMBS.configs(problem, this_machine()):
        plan = LIMBS.plan(problem, config, this_machine())
        y = np.full(problem.y_shape, 1, numpy_dtype(problem.y_dtype))
        plan(x, plan.pack_stored(w), bias, y)
        found.append(y)
    for y in found[1:]:
        np.testing.assert_array_equal(y, found[0])
    return found[0]


def exact(x: Array, w: Array) -> Array:
    """The full convolution of two signals as products of Python integers, wrapped.

    Kronecker's substitution: with room for a sum between them, coefficients are digits of one
    large number.
    """
    bits = 8 * x.itemsize
    room = 2 * bits + min(len(x), len(w)).bit_length() + 1
    mask, product = (1 << room) - 1, 1
    for a in (x, w):
        packed = b"".join(
            (int(v) % 2**bits).to_bytes(room // 8 + 1, "little") for v in a
        )  # non-negative modulo 2^bits
        product *= int.from_bytes(packed, "little")
    room = 8 * (room // 8 + 1)
    mask = (1 << bits) - 1
    count = len(x) + len(w) - 1
    raw = product.to_bytes(count * room // 8 + 8, "little")
    step = room // 8
    low = [int.from_bytes(raw[i * step : i * step + step], "little") & mask for i in range(count)]
    return np.array(low, f"u{x.itemsize}").view(x.dtype)


KINDS = ("random", "least", "largest", "alternating", "halves", "small", "zeros")


def integers(kind: str, name: str, n: int, seed: int = 0) -> Array:
    dtype = numpy_dtype(name)
    info = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    if kind == "least":
        return np.full(n, info.min, dtype)
    if kind == "largest":
        return np.full(n, info.max, dtype)
    if kind == "alternating":
        return np.where(np.arange(n) % 2, info.max, info.min).astype(dtype)
    if kind == "halves":  # the largest digit of every place, of either sign
        every = sum(1 << i for i in range(7, 8 * dtype.itemsize - 1, 8))
        return rng.choice(np.array([every, info.max - every, info.max // 2 + 1], dtype), n)
    if kind == "small":
        return rng.integers(0, 100, n).astype(dtype)
    return values(rng, name, (n,)) if kind == "random" else np.zeros(n, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", INTEGERS)
def test_ends_of_the_dtypes(name: str, kind: str) -> None:
    for n, m in ((2, 2), (3, 2), (101, 33), (4097, 1001), (700, 700)):
        for other in ("random", "least", "largest"):
            x, w = integers(kind, name, n), integers(other, name, m, 1)
            got = signal.convolve(x, w, method="limbs")
            np.testing.assert_array_equal(got, exact(x, w), f"{n} by {m} {other}")


@pytest.mark.parametrize("name", ["i32", "i64", "u64"])
def test_long_kernels(name: str) -> None:
    x, w = integers("random", name, 30_011), integers("random", name, 9_999, 1)
    for a, b in ((x, w), (integers("least", name, 30_011), integers("least", name, 9_999))):
        np.testing.assert_array_equal(signal.convolve(a, b, method="limbs"), exact(a, b))


def test_bools() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.random(5001) < 0.01, rng.random(300) < 0.01
    got = signal.convolve(x, w, method="limbs")
    np.testing.assert_array_equal(got, np.convolve(x.astype(int), w.astype(int)) > 0)
    assert 0 < got.sum() < got.size


@given(problems(dtypes=EXACT), st.integers(1 << 10, 1 << 14))
@settings(max_examples=80)
def test_any_geometry_in_small_chunks(problem: Problem, chunk: int) -> None:
    if LIMBS.why_not(problem) is not None:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_digits, "CHUNK_BYTES", chunk)
        x, w, bias = arrays(problem)
        y = solve(problem, x, w, bias)
    right, _ = oracle(problem, x, w, bias)
    np.testing.assert_array_equal(y, right.astype(y.dtype))


def test_threads(every_thread: None) -> None:
    problem = Problem.parse("conv1d i64 n1 c1 w300001 k1 s701 p700 flip threads3")
    x, w, _ = arrays(problem)
    y = solve(problem, x, w)
    np.testing.assert_array_equal(y, solve(problem.replace(threads=1), x, w))
    part = slice(100_000, 101_000)
    want = exact(x[0, 0, part.start - 700 : part.stop], w[0, 0])[700:1700]
    np.testing.assert_array_equal(y[0, 0, part], want)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_beyond_the_ends(boundary: str) -> None:
    text = f"conv1d u8 n2 c1 w50 k1 s9 p30 {boundary}"
    problem = Problem.parse(text.replace("constant", "constant=255"))
    x, w, _ = arrays(problem)
    np.testing.assert_array_equal(solve(problem, x, w), oracle(problem, x, w)[0])


# ---- the digits ------------------------------------------------------------------------------


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.integers(2, 26),
    st.sampled_from([32, 64]),
)  # fmt: skip
def test_digits_add_up_and_are_small(numbers: list[int], width: int, bits: int) -> None:
    a = np.array(numbers, np.int64).astype(f"i{bits // 8}")
    count = -(-min(bits, _digits.size_of(a).bit_length() + 1) // width)
    parts = [*_digits.split(a.copy(), width, count)]
    assert len(parts) == count
    assert all(_digits.size_of(d) <= 1 << (width - 1) for d in parts)
    for i, v in enumerate(a):
        total = sum(int(d[i]) << (j * width) for j, d in enumerate(parts))
        assert (total - int(v)) % 2**bits == 0


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("taps", [2, 100, 100_000])
def test_the_sum_is_below_half_and_small_numbers_have_one_digit(name: str, taps: int) -> None:
    problem = Problem.parse(f"conv1d {name} n1 c1 w300000 k1 s{taps}")
    for blocks, d in _digits.offered(problem).values():
        largest = 1 << (d.width - 1)
        pairs = min(d.x, d.w, d.powers)
        n = math.prod(blocks.shape)
        if name != "bool":
            assert _digits.error(problem, n, pairs, largest, largest) < 0.5
            assert d.width * d.x >= _digits.bits(problem)
        one = _digits.digits(problem, n, 1, 1)
        assert one is not None and (one.x, one.w, one.powers) == (1, 1, 1)


@pytest.mark.parametrize(
    "text", ["conv1d i64 n1 c1 w60000 k1 s3000", "conv2d i32 n1 c2 h90 w91 k1 r9 s9"]
)
def test_transforms_keep_within_the_proof(text: str) -> None:
    """Digits as large as they get, of one sign and of both, against integers."""
    problem = Problem.parse(text)
    blocks, d = next(iter(_digits.offered(problem).values()))
    chunks = _digits.Chunks.of(problem.replace(channels=1), d, blocks)
    p = chunks.problem.replace(channels=2, filters=1, batch=1)
    call = core.Call("overlap_save", core.isa(), p, chunks.blocks.values, 1)
    h = 1 << (d.width - 1)
    bound = _digits.error(problem.replace(channels=1), math.prod(blocks.shape), 2, h, h)
    rng = np.random.default_rng(0)
    for make in (
        lambda shape: np.full(shape, -h), lambda shape: rng.choice([-h, h], shape),
        lambda shape: rng.integers(-h, h, shape, endpoint=True),
    ):  # fmt: skip
        x, w = make(p.x_shape).astype(float), make(p.w_shape).astype(float)
        y = np.empty(p.y_shape)
        left = np.zeros(chunks.blocks.pairs, np.uint8)
        call.run(x, call.pack(w), None, y, left)
        assert not left.any()
        whole = run(x.astype(np.int64), w.astype(np.int64), method="direct")
        assert abs(y - whole).max() <= bound < 0.5


def test_transform_of_other_factors() -> None:
    assert _rounding.transform(2) < _rounding.transform(64) < _rounding.transform(60)
    with pytest.raises(ValueError, match="2, 3 and 5"):
        _rounding.transform(14)


# ---- what is chosen --------------------------------------------------------------------------


def test_refused() -> None:
    for text, words in (
        ("conv1d f64 n1 c1 w99 k1 s9", "integers"), ("conv1d i64 n1 c1 w99 k1 s9 e2", "dilation"),
        ("conv2d i8 n1 c3 h30 w30 k1 r1 s1", "axes"), ("conv1d i8 n1 c1 w99 k1 s9 cuda", "CPU"),
        ("conv1d i64 n1 c1 w3000000 k1 s2000000", "no block"),
    ):  # fmt: skip
        assert words in (LIMBS.why_not(Problem.parse(text)) or "")


@pytest.mark.parametrize("dtype", ["i8", "u4", "i4", "u2", "u1", "?"])
def test_long_kernels_are_transformed_and_short_ones_summed(dtype: str) -> None:
    with fastconv.autotune("off"):
        x = np.ones(300_000, dtype)
        long, short = np.ones(10_000, dtype), np.ones(8, dtype)
        assert fastconv.plan(signal.convolve, x, long, threads=1).method == "limbs"
        assert fastconv.plan(signal.convolve, x, short, threads=1).method != "limbs"


def test_fft_of_integers_is_exact() -> None:
    x = np.arange(5000) * 10**15
    plan = fastconv.plan(signal.convolve, x, x[:300], method="fft")
    assert plan.method == "limbs"
    np.testing.assert_array_equal(plan(x), exact(x, x[:300]))
