"""Tiles of AMX, emulated beside exact arithmetic and in hardware beside that; amx_split, amx_int8
and amx_winograd on them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import reference
from problems import (
    EMULATED,
    EMULATED_INT8,
    EMULATED_WINOGRAD,
    Array,
    arrays,
    check,
    in_layout,
    mixed_magnitude,
    oracle,
    solved,
    values,
)
from strategies import KINDS, special

import fastconv
from fastconv import nn
from fastconv._accuracy import allowed_error, blocked_sum_bound, epsilon
from fastconv._epilogue import Activation
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config, Solver
from fastconv.solvers import BY_NAME

#: (part of w, part of x) in the order that kernels/amx.inc multiplies them in.
ORDER = {
    1: ((0, 0),),
    3: ((1, 0), (0, 0), (0, 1)),
    4: ((1, 0), (1, 1), (0, 1), (0, 0)),
    6: ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0)),
}
LAYER = "conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1 prepared"
BF16 = "x:bf16 w:bf16 y:bf16"


def bfloat16(v: Array) -> Array:
    """The bits of numbers that bfloat16 holds: the rest is cut off."""
    return (v.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def widened(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def operands(kind: str, filters: int, pixels: int) -> tuple[Array, Array, Array]:
    """Parts of x (3, pixels, 32) and of w (3, 32, filters), and what sums hold before."""
    rng = np.random.default_rng([filters, pixels, len(kind)])
    x, w = rng.standard_normal((3, pixels, 32)), rng.standard_normal((3, 32, filters))
    if kind == "whole":
        x, w = np.rint(20 * x), np.rint(20 * w)
    elif kind == "subnormal":  # operands, products and sums on both sides of 2^-126
        w *= 2.0 ** rng.integers(-134, -120, w.shape)
        w[:, :, ::2] *= 2.0**-12  # columns of nothing
        x *= 2.0 ** rng.integers(-3, 4, x.shape)
    elif kind == "far apart":
        w *= 2.0 ** rng.integers(-40, 40, w.shape)
        x *= 2.0 ** rng.integers(-40, 40, x.shape)
    return bfloat16(x), bfloat16(w), np.full((pixels // 16, 2, 16, 16), 77, np.float32)


def multiply(x: Array, w: Array, sums: Array, products: int, isa: str, emulated: bool) -> None:
    """One step of a block: as many parts as there are, w's in tiles of pairs of channels."""
    parts = {1: 1, 6: 3}.get(products, 2)
    tiles = w[:parts].reshape(parts, 16, 2, -1, 16).transpose(0, 3, 1, 4, 2)
    core.multiply_tiles(
        x[:parts].copy(), np.ascontiguousarray(tiles), sums, products, isa, emulated
    )


def rounded(v: Fraction) -> Fraction:
    """To 24 bits, to nearest even; 0 where that is below the smallest normal number."""
    if not v:
        return v
    size = abs(v)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - 23)
    near = round(v / unit) * unit
    return near if abs(near) >= Fraction(2) ** -126 else Fraction(0)


def kept(v: Any) -> Fraction:
    """What an operand counts as: 0 where it is subnormal."""
    return Fraction(float(v)) if abs(v) >= 2.0**-126 else Fraction(0)


def one_sum(x: Array, w: Array, products: int) -> Fraction:
    """A sum of TDPBF16PS's of x and w (3, 32), as Intel's manual has it."""
    total = Fraction(0)
    for i, j in ORDER[products]:
        halves = [Fraction(0), Fraction(0)]
        for pair, half in itertools.product(range(16), range(2)):
            product = kept(w[i, 2 * pair + half]) * kept(x[j, 2 * pair + half])
            halves[half] = rounded(halves[half] + product)
        total = rounded(kept(total) + rounded(sum(halves, Fraction(0))))
    return total


@pytest.mark.parametrize("kind", ["normal", "whole", "subnormal", "far apart"])
@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("products", ORDER)
def test_emulation_is_bit_for_bit_that_of_the_manual(kind: str, isa: str, products: int) -> None:
    """Every tile of every shape of a block, at random places."""
    rng = np.random.default_rng(products)
    seen_zero = False
    for filters, pixels in itertools.product((16, 32), repeat=2):
        x, w, sums = operands(kind, filters, pixels)
        multiply(x, w, sums, products, isa, True)
        wide_x, wide_w = widened(x), widened(w)
        for _ in range(5):
            k, j = int(rng.integers(filters)), int(rng.integers(pixels))
            at = (j // 16, k // 16, j % 16, k % 16)
            right = one_sum(wide_x[:, j], wide_w[:, :, k], products)
            assert Fraction(float(sums[at])) == right, (at, sums[at], float(right))
            seen_zero |= right == 0
        if filters == 16:
            assert (sums[:, 1] == 77).all(), "a tile that is not there"
    assert seen_zero == (kind == "subnormal")


@pytest.mark.parametrize("isa", core.isas())
def test_infinities_and_nans_of_tiles(isa: str) -> None:
    x, w, sums = operands("whole", 16, 16)
    w[0, 4, 3] = bfloat16(np.array(np.inf))
    x[1, 5, 4] = bfloat16(np.array(np.nan))
    w[1, :, 6] = bfloat16(np.array(2.0**127))
    multiply(x, w, sums, 3, isa, True)
    assert not np.isfinite(sums[0, 0, :, 3]).any() and not np.isfinite(sums[0, 0, :, 6]).any()
    assert np.isnan(sums[0, 0, 5]).all()
    rest = np.delete(np.delete(sums[0, 0], (3, 6), 1), 5, 0)
    assert np.isfinite(rest).all()


def on_hardware() -> None:
    if reason := core.amx_absent():
        pytest.skip(f"no tiles: {reason}")


@pytest.mark.parametrize("kind", ["normal", "whole", "far apart"])
@pytest.mark.parametrize("products", ORDER)
def test_hardware_beside_the_emulation(kind: str, products: int) -> None:
    """Bit for bit where sums are exact, within their bound whatever the order elsewhere."""
    on_hardware()
    for filters, pixels in itertools.product((16, 32), repeat=2):
        x, w, start = operands(kind, filters, pixels)
        results = []
        for emulated in (True, False):
            sums = start.copy()
            multiply(x, w, sums, products, core.isa(), emulated)
            results.append(sums[:, : filters // 16])
        if kind == "whole":
            np.testing.assert_array_equal(*results)
            continue
        sizes = np.zeros_like(results[0], np.float64)
        for i, j in ORDER[products]:
            one = abs(widened(x[j]).astype(np.float64)) @ abs(widened(w[i]).astype(np.float64))
            sizes += one.reshape(-1, 16, filters // 16, 16).swapaxes(1, 2)
        bound = 2 * (17 + products) * 2.0**-24 * sizes
        assert (abs(results[0].astype(np.float64) - results[1]) <= bound).all()


def test_other_libraries_tiles_are_left_alone() -> None:
    """oneDNN's bfloat16 matrix products, in the same thread, before and after ours."""
    on_hardware()
    torch = pytest.importorskip("torch", reason="no other library that uses tiles")
    a = torch.randn(256, 256).to(torch.bfloat16)
    before = a @ a
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 64, 20, 20)).astype(np.float32)
    w = rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
    y = fastconv.conv2d(x, w, method="amx_split")
    assert torch.equal(a @ a, before)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, method="amx_split"), y)


def test_what_is_absent_is_said() -> None:
    reason = core.amx_absent()
    assert reason is None or (reason and reason == reason.strip())
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(core.amx_absent())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [reason] * 4
    solver = BY_NAME["amx_split"]
    assert solver.why_not(Problem.parse(LAYER)) == reason
    few = solver.why_not(Problem.parse("conv2d f32 n1 c31 h9 w9 k9 r3 s3"))
    assert few is not None and "32 channels" in few
    if reason:
        with pytest.raises(ValueError, match=reason):
            fastconv.conv2d(np.ones((1, 32, 5, 5), np.float32), np.ones((4, 32, 3, 3), np.float32),
                            method="amx_split")  # fmt: skip


# ---- amx_split, by emulation


def execute(problem: Problem, config: Config, x: Array, w: Array, **more: Any) -> Array:
    plan = EMULATED.plan(problem, {**config, **more}, this_machine())
    y = np.full(problem.y_shape, 77, np.float32)
    plan(x, plan.pack_stored(w), None, y)
    return y


def offered(text: str) -> tuple[Problem, list[Config]]:
    problem = Problem.parse(text)
    return problem, list(EMULATED.configs(problem, this_machine()))


def test_products_that_each_accuracy_admits() -> None:
    for accuracy, products in (("strict", [6]), ("balanced", [3, 4, 6]), ("fast", [3, 4, 6])):
        problem, configs = offered(f"{LAYER} {accuracy}".replace(" balanced", ""))
        assert [c["products"] for c in configs] == products
        for config in configs:
            assert EMULATED.error_bound(problem, config) <= allowed_error(problem)
    # a short sum has no room for what three products leave out, 512 u S
    assert [c["products"] for c in offered("conv2d f32 n1 c64 h7 w7 k64 r1 s1")[1]] == [4, 6]


@pytest.mark.parametrize("channels", [32, 64, 512, 4096])
@pytest.mark.parametrize("kernel", ["r1 s1", "r3 s3 p1"])
def test_six_products_are_a_blocked_sum(channels: int, kernel: str) -> None:
    """So that strict admits them, however many channels there are."""
    problem, (config,) = offered(f"conv2d f32 n1 c{channels} h14 w14 k64 {kernel} strict")
    assert EMULATED.error_bound(problem, config) <= 2 * blocked_sum_bound(problem)


def test_six_products_keep_every_bit_of_a_sample() -> None:
    """Three parts are the number: one tap of 1 gives x back."""
    problem, configs = offered("conv2d f32 n1 c32 h9 w9 k32 r1 s1 strict")
    x = special(np.random.default_rng(0), "huge range", "f32", problem.x_shape)
    w = np.eye(32, dtype=np.float32).reshape(problem.w_shape)
    np.testing.assert_array_equal(execute(problem, configs[0], x, w), x)


@pytest.mark.parametrize("products", [3, 4, 6])
def test_bounds_are_met_by_data_made_for_them(products: int) -> None:
    """Operands whose parts are as large as they can be: half of the bound, and no more than it."""
    problem, configs = offered("conv2d f32 n1 c64 h6 w6 k16 r3 s3 p1 fast")
    config = next(c for c in configs if c["products"] == products)
    worst = np.float32(1 + 2.0**-8 - 2.0**-17 - 2.0**-23)
    x, w = (np.full(shape, worst, np.float32) for shape in (problem.x_shape, problem.w_shape))
    y = execute(problem, config, x, w)
    bound = EMULATED.error_bound(problem, config)
    check(problem, y, oracle(problem, x, w), bound)
    right, s = oracle(problem, x, w)
    if products < 6:
        assert (abs(y - right) / s).max() > bound / 2


#: On both sides of the smallest normal number, for parts, products and sums; and near the largest.
POWERS = ((-126, 0), (0, -126), (-140, -3), (-70, -60), (-20, -100), (-103, 0), (-110, 30),
          (100, -120), (64, 63))  # fmt: skip


@pytest.mark.parametrize("products", [3, 4, 6])
@pytest.mark.parametrize("x_power, w_power", POWERS)
def test_nothing_is_flushed(x_power: int, w_power: int, products: int) -> None:
    problem, configs = offered("conv2d f32 n1 c40 h5 w6 k9 r3 s3 p1 fast")
    config = next(c for c in configs if c["products"] == products)
    rng = np.random.default_rng(x_power % 99)
    x = np.ldexp(rng.uniform(-1, 1, problem.x_shape), x_power).astype(np.float32)
    w = np.ldexp(rng.uniform(-1, 1, problem.w_shape), w_power).astype(np.float32)
    x[:, :, 3:] = 0  # and windows of nothing
    y = execute(problem, config, x, w)
    check(problem, y, oracle(problem, x, w), EMULATED.error_bound(problem, config))
    assert not y[:, :, 4:].any()


def test_what_is_not_finite_stays_in_its_window() -> None:
    """Inf less Inf in a split, what bfloat16 rounds to Inf, and Inf beside the window."""
    problem, configs = offered("conv2d f32 n1 c33 h8 w9 k17 r3 s3 p1 fast")
    rng = np.random.default_rng(0)
    x = rng.standard_normal(problem.x_shape).astype(np.float32)
    w = (rng.uniform(0.5, 1, problem.w_shape) / 1e4).astype(np.float32)
    x[0, 3, 0, 0], x[0, 32, 4, 8], x[0, 0, 7, 0] = np.inf, -np.inf, np.nan
    x[0, 5, 0, 6] = np.finfo(np.float32).max
    x[0, 7, 2, 5] = np.array(0xFFFFFFFF, np.uint32).view(
        np.float32
    )  # a NaN that rounding overflows
    expected = oracle(problem, x, w)
    assert np.isposinf(expected[0][0, :, 0, 0]).all()
    for config in configs:
        check(
            problem, execute(problem, config, x, w), expected, EMULATED.error_bound(problem, config)
        )


def test_sums_that_overflow_on_the_way_are_made_anew() -> None:
    problem, configs = offered("conv2d f32 n1 c32 h3 w3 k2 r1 s1 fast")
    x, w = (np.zeros(shape, np.float32) for shape in (problem.x_shape, problem.w_shape))
    x[:, :6] = 2.0**127
    w[:, 0], w[:, 2], w[:, 4] = 1, 1, -1  # one after the other in a tile
    for config in configs:
        np.testing.assert_array_equal(execute(problem, config, x, w), 2.0**127)


@pytest.mark.parametrize("text", [
    "conv2d f32 n1 c70 h9 w12 k40 r3 s3 p1", "conv2d f32 n2 c130 h5 w7 k33 r1 s1",
    "conv2d f32 n1 c64 h9 w11 k20 r3 s3 p1 u2", "conv1d f32 n1 c40 w200 k18 s3 p1",
])  # fmt: skip
def test_blocks_do_not_change_a_bit(text: str, every_thread: None) -> None:
    """Units are of any size; what is summed in one go depends on settings alone, and is right."""
    problem, configs = offered(text)
    x, w, _ = arrays(problem)
    for config, more in itertools.product(
        configs,
        ({"cache_bytes": 1}, {"cache_bytes": 20000}, {"cache_bytes": 100000}, {"most": 20}, {}),
    ):
        ys = [execute(problem.on(threads), config, x, w, **more) for threads in (1, 3, 16)]
        np.testing.assert_array_equal(ys[1], ys[0])
        np.testing.assert_array_equal(ys[2], ys[0])
        check(problem, ys[0], solved(text), EMULATED.error_bound(problem, {**config, **more}))


#: With input dilation: residues of one tap and of none, axes with and without it, rows cut short.
RESIDUES = (
    "conv2d f32 n1 c40 h5 w17 k20 r2 s2 p1 e2", "conv1d f32 n1 c40 w30 k18 s16 p11 e8 flip",
    "conv2d f32 n2 c33 h4 w7 k17 r4 s3 p2:3,1 e2,3 flip",
    "conv2d f32 n1 c34 h6 w9 k5 r1 s2 p0:1,1 e3,2",
    "conv2d f32 n1 c32 h9 w8 k18 r3 s3 p1:0,2 l1,2 e1,2",
    "conv2d f32 n1 c66 h13 w5 k10 r3 s2 p1 u2,1 e1,2 g2",
    "conv3d f32 n1 c33 d3 h3 w4 k4 t3 r2 s3 p1 e2",
    "conv2d f32 n1 c32 h3 w3 k33 r5 s5 p5:6 l1,3 e4,2",
)  # fmt: skip


def differ_in_no_bit(text: str, configs: list[Config], settings: Sequence[dict[str, int]]) -> None:
    """Units and blocks of any size, numbers of threads, instruction sets; and results are right."""
    problem = Problem.parse(text)
    x, w, _ = arrays(problem)
    for config, more in itertools.product(configs, settings):
        first = execute(problem, config, x, w, **more)
        check(problem, first, solved(text), EMULATED.error_bound(problem, {**config, **more}))
        for threads, isa in itertools.product((1, 3), core.isas()):
            y = execute(problem.on(threads), config, x, w, isa=isa, **more)
            np.testing.assert_array_equal(y, first)


def are_made_anew(problem: Problem, configs: Sequence[Config], kind: str) -> None:
    """Sums of data that leave some of them in doubt."""
    rng = np.random.default_rng(len(str(problem)))
    x, w = (special(rng, kind, "f32", shape) for shape in (problem.x_shape, problem.w_shape))
    if kind in ("nan", "inf"):  # weights that are not finite go elsewhere
        w = special(rng, "normal", "f32", problem.w_shape)
    bias = rng.standard_normal(problem.filters).astype(np.float32)
    for config in configs:
        plan = EMULATED.plan(problem, config, this_machine())
        y = np.full(problem.y_shape, 77, np.float32)
        plan(x, plan.pack_stored(w), bias, y)
        bound = EMULATED.error_bound(problem, config) + epsilon(problem)
        check(problem, y, oracle(problem, x, w, bias), bound)


@pytest.mark.parametrize("text", RESIDUES)
def test_residues_are_woven(text: str, every_thread: None) -> None:
    _, configs = offered(text)
    settings = ({"cache_bytes": 1}, {"cache_bytes": 20000}, {"most": 5}, {})
    differ_in_no_bit(text, configs, settings)


@pytest.mark.parametrize("kind", ["huge range", "denormal", "nan", "inf", "zeros"])
@pytest.mark.parametrize("text", RESIDUES)
def test_residues_in_doubt_are_made_anew(text: str, kind: str) -> None:
    problem, (config, *_) = offered(f"{text} fast")
    are_made_anew(problem, (config, {**config, "cache_bytes": 1}), kind)


def test_residues_meet_part_of_the_taps() -> None:
    """And share positions, whose taps reach two samples on here; and what is refused."""
    up = Problem.parse("conv2d f32 n1 c64 h16 w16 k32 r4 s4 p2 e2 flip")
    assert core.amx_axes(up.geometry) == ((16, 2, 1, 2),) * 2
    assert core.amx_axes(Problem.parse(LAYER).geometry) == ((56, 2, 1, 3),) * 2
    assert core.amx_axes(Problem.parse(f"{LAYER} u2").geometry) == ((28, 1, 2, 3),) * 2
    assert BY_NAME["amx_split"].why_not(Problem.parse("conv1d f32 n1 c32 w9 k9 s3 e2 u2")) == (
        "it takes input dilation, or a stride, not both along an axis"
    )
    many = BY_NAME["amx_split"].why_not(Problem.parse("conv1d f32 n1 c32 w9 k9 s3 e65"))
    assert many is not None and "65 residues" in many


# ---- amx_split of few channels, which are channels under each tap of a row

#: Odd channels, and those of two lines; strides, padding wider than x, groups, residues of rows.
JOINED = (
    "conv2d f32 n2 c3 h11 w20 k17 r7 s7 p3 u2", "conv2d f32 n1 c1 h9 w40 k20 r3 s11 p1",
    "conv1d f32 n1 c4 w90 k33 s9 p4 u4", "conv2d f32 n1 c20 h5 w12 k18 r2 s3 p0:1,2 g2",
    "conv2d f32 n1 c31 h4 w9 k5 r2 s2", "conv2d f32 n1 c12 h8 w8 k16 r4 s4 u4",
    "conv2d f32 n1 c5 h2 w1 k3 r3 s5 p2,4", "conv3d f32 n1 c3 d3 h4 w7 k4 t2 r3 s3 p1",
    "conv2d f32 n1 c6 h5 w17 k18 r3 s4 p1:2 e2,1 flip", "conv2d f32 n1 c17 h6 w20 k16 r3 s2 l2,1",
    "conv2d f32 n1 c16 h3 w34 k2 r1 s2 p0,1 u1,3",
)  # fmt: skip


def joined(text: str) -> tuple[Problem, list[Config]]:
    problem, configs = offered(text)
    return problem, [config for config in configs if "join" in config]


@pytest.mark.parametrize("text", JOINED)
def test_taps_of_a_row_are_channels(text: str, every_thread: None) -> None:
    _, configs = joined(text)
    assert configs
    settings = ({"cache_bytes": 1}, {"cache_bytes": 9000}, {"most": 5}, {})
    differ_in_no_bit(text, configs, settings)


@pytest.mark.parametrize("kind", ["huge range", "denormal", "nan", "inf", "zeros"])
@pytest.mark.parametrize("text", JOINED)
def test_sums_of_few_channels_in_doubt_are_made_anew(text: str, kind: str) -> None:
    problem, (config, *_) = joined(f"{text} fast")
    are_made_anew(problem, (config,), kind)


def test_which_layers_of_few_channels_tiles_take() -> None:
    """Those in 16 bits; their taps become channels where that halves the tiles."""
    solver, machine = BY_NAME["amx_split"], this_machine()
    first = "conv2d f32 n1 c3 h224 w224 k64 r7 s7 p3 u2"
    narrow = Problem.parse(f"{first} {BF16}")
    assert "3" in (solver.why_not(Problem.parse(first)) or "")
    assert solver.why_not(narrow) == core.amx_absent()
    assert all("join" in config for config in solver.configs(narrow, machine))
    for text in ("c16 h20 w20 k16 r3 s3 p1", "c3 h20 w20 k16 r3 s1", "c3 h20 w20 k16 r3 s3 l2"):
        other = Problem.parse(f"conv2d f32 n1 {text} {BF16}")
        assert not any("join" in config for config in solver.configs(other, machine))


# ---- amx_split of what is stored in 16 bits

STORED = (
    f"conv2d f32 n1 c64 h9 w12 k40 r3 s3 p1 {BF16}", f"conv2d f32 n2 c33 h5 w7 k17 r1 s1 {BF16}",
    f"conv2d f32 n1 c64 h13 w39 k20 r3 s3 p1 u2 {BF16}",
    f"conv2d f32 n1 c40 h7 w40 k5 r3 s3 p2 u3 l2 {BF16}",
    f"conv1d f32 n1 c34 w200 k16 s3 p1 g2 {BF16}", f"conv2d f32 n1 c32 h1 w1 k16 r3 s3 p1 {BF16}",
    f"conv2d f32 n1 c40 h6 w19 k18 r3 s4 p1:2 e2 flip {BF16}",
    f"conv2d f32 n2 c3 h17 w23 k20 r5 s5 p2 u2 {BF16}", f"conv2d f32 n1 c18 h6 w9 k6 r1 s1 {BF16}",
)  # fmt: skip
FLOAT16 = tuple(text.replace("bf16", "f16") for text in STORED)


def bits(a: Array) -> Array:
    """Of bfloat16 or float16; every NaN as one."""
    return np.where(np.isnan(a.astype(np.float32)), 0x7FC0, a.view(np.uint16) & 0xFFFF)


def as_bits(a: Array) -> Array:
    """Of floats of 16 or 32 bits; every NaN as one."""
    return bits(a) if a.itemsize == 2 else np.where(np.isnan(a), 0x7FC00000, a.view(np.uint32))


def rounded_to(name: str, y: Array) -> Array:
    with np.errstate(over="ignore"):
        return y.astype(numpy_dtype(name))


def both_ways(
    problem: Problem, config: Config, x: Array, w: Array, bias: Array | None,
    layout: str = "NC*", solver: Solver = EMULATED, flush: bool = False,
) -> list[Array]:  # fmt: skip
    """y rounded as tiles are stored, and y rounded from that in float32 of x in float32."""
    ys = []
    for stored in (problem, problem.replace(x_dtype="f32", y_dtype="f32")):
        plan = solver.plan(stored, config, this_machine())
        y = in_layout(np.full(problem.y_shape, 77, numpy_dtype(stored.y_dtype)), layout)
        given = in_layout(x.astype(numpy_dtype(stored.x_dtype)), layout)
        plan(given, plan.pack_stored(w), bias, y, flush=flush)
        ys.append(rounded_to(problem.y_dtype, y.copy(order="C")))
    return ys


@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("kind", ["normal", "huge range", "denormal", "nan", "inf", "zeros"])
@pytest.mark.parametrize("text", STORED + FLOAT16)
def test_16_bits_are_read_and_written_in_tiles(text: str, kind: str, isa: str) -> None:
    """Bit for bit what conversions of whole arrays give, and right."""
    problem, configs = offered(text)
    assert EMULATED.reads_stored(problem) and EMULATED.writes_stored(problem)
    rng = np.random.default_rng(len(text))
    shapes = problem.x_shape, problem.w_shape
    x, w = (special(rng, kind, problem.x_dtype, shape) for shape in shapes)
    if kind in ("nan", "inf"):  # weights that are not finite go elsewhere
        w = special(rng, "normal", problem.w_dtype, problem.w_shape)
    for bias in (None, rng.standard_normal(problem.filters).astype(np.float32)):
        config = {**configs[rng.integers(len(configs))], "isa": isa}
        got, expected = both_ways(problem, config, x, w, bias)
        np.testing.assert_array_equal(bits(got), bits(expected))
        bound = EMULATED.error_bound(problem, config) + (bias is not None) * epsilon(problem)
        check(problem, got, oracle(problem, x, w, bias), bound)


@pytest.mark.parametrize("text", STORED + FLOAT16)
def test_blocks_of_16_bits_do_not_change_a_bit(text: str, every_thread: None) -> None:
    """Nor do several blocks of layers, whose sums are kept in float32."""
    problem, (config, *_) = offered(text)
    x, w, _ = arrays(problem)
    for more in ({"cache_bytes": 1}, {"cache_bytes": 9000}, {"most": 9}, {}):
        ys = [both_ways(problem.on(t), {**config, **more}, x, w, None) for t in (1, 3)]
        np.testing.assert_array_equal(bits(ys[0][0]), bits(ys[0][1]))
        np.testing.assert_array_equal(bits(ys[0][0]), bits(ys[1][0]))


@pytest.mark.parametrize("layout", ["NC*", "N*C"])
@pytest.mark.parametrize(
    "text",
    [t for t in STORED + FLOAT16 if any(c in t for c in (" c64 ", " c33 ", " c3 ", " c18 "))],
)
@pytest.mark.parametrize("kind", ["normal", "huge range", "denormal", "zeros", "inf"])
def test_hardware_rounds_as_conversions_do(text: str, kind: str, layout: str) -> None:
    """Bit for bit, biases that are subnormal or not finite too."""
    on_hardware()
    solver = BY_NAME["amx_split"]
    problem = Problem.parse(text).replace(layout=layout)
    rng = np.random.default_rng(len(text))
    shapes = problem.x_shape, problem.w_shape
    x, w = (special(rng, kind, problem.x_dtype, shape) for shape in shapes)
    if kind == "inf":
        w = special(rng, "normal", problem.w_dtype, problem.w_shape)
    odd = rng.standard_normal(problem.filters).astype(np.float32)
    odd[:4] = 2.0**-130, np.nan, -np.inf, -0.0
    for config in solver.configs(problem, this_machine()):
        for bias in (None, odd[4:].repeat(2)[: problem.filters], odd):
            got, expected = both_ways(problem, config, x, w, bias, layout, solver)
            np.testing.assert_array_equal(bits(got), bits(expected))


@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("layout", ["NC*", "N*C"])
@pytest.mark.parametrize("flush", [False, True])
def test_every_float16_goes_through_tiles(flush: bool, layout: str, isa: str) -> None:
    """Subnormal ones are normal floats, which no mode flushes; sums beyond the largest are Inf."""
    problem = Problem.parse("conv2d f32 n1 c32 h32 w64 k34 r1 s1 x:f16 w:f16 y:f16")
    x = np.arange(2**16, dtype=np.uint16).reshape(1, 32, 32, 64).view(np.float16)
    finite = np.where(np.isfinite(x), x, 0)
    w = np.eye(34, 32, dtype=np.float16)[:, :, None, None].copy()
    w[32, 15] = w[33, 31] = 2  # of the largest of both signs
    for config in EMULATED.configs(problem, this_machine()):
        config = {**config, "isa": isa}
        got, expected = both_ways(problem, config, finite, w, None, layout, flush=flush)
        np.testing.assert_array_equal(bits(got), bits(expected))
        np.testing.assert_array_equal(got[:, :32], finite)
        assert np.isinf(got[0, 32:]).any(axis=(1, 2)).all() and not np.isinf(got[0, :32]).any()
        got, expected = both_ways(problem, config, x, w, None, layout, flush=flush)
        np.testing.assert_array_equal(bits(got), bits(expected))
        assert np.isnan(got[0, :, ~np.isfinite(x[0]).all(axis=0)]).all()


def test_four_products_of_float16_leave_nothing_out() -> None:
    """So that strict ones need no six; of weights in float32 they do."""
    text = "conv2d f32 n1 c64 h5 w20 k16 r1 s1 strict x:f16"
    problem, (config,) = offered(f"{text} w:f16 y:f32")
    assert config["products"] == 4
    assert [c["products"] for c in offered(f"{text} w:f32 y:f32")[1]] == [6]
    x, w = (np.full(s, 1 + 2.0**-10, np.float16) for s in (problem.x_shape, problem.w_shape))
    y = execute(problem, config, x, w)
    assert (y == np.float32(64 * (1 + 2.0**-10) ** 2)).all()
    bound = EMULATED.error_bound(problem, config)
    assert bound <= allowed_error(problem)
    assert bound < EMULATED.error_bound(problem.replace(w_dtype="f32"), {**config, "products": 6})


def test_weights_that_are_not_finite_beside_sums_that_float16_does_not_hold() -> None:
    """They go elsewhere, and are rounded without a warning."""
    problem, (config, *_) = offered("conv2d f32 n1 c32 h5 w6 k16 r1 s1 x:f16 w:f16 y:f16")
    x, w = (np.full(s, 300, np.float16) for s in (problem.x_shape, problem.w_shape))
    w[3] = np.nan
    got, expected = both_ways(problem, config, x, w, None)
    np.testing.assert_array_equal(bits(got), bits(expected))
    assert np.isnan(got[:, 3]).all() and np.isinf(got[:, 4]).all()


# ---- amx_split of channels that lie side by side

LAST = (
    "conv2d f32 n1 c64 h9 w12 k40 r3 s3 p1 N*C", "conv2d f32 n2 c70 h5 w7 k17 r1 s1 N*C",
    "conv2d f32 n1 c33 h13 w39 k20 r3 s3 p1 u2 N*C", "conv2d f32 n1 c96 h3 w50 k64 r1 s1 u2 N*C",
    "conv2d f32 n1 c40 h3 w90 k5 r1 s3 p0,40 l40 N*C", "conv1d f32 n1 c34 w300 k48 s3 p1 g2 N*C",
    "conv3d f32 n1 c32 d3 h4 w5 k16 t3 r3 s3 p1 N*C", "conv2d f32 n1 c32 h1 w1 k16 r3 s3 p1 N*C",
    "conv2d f32 n1 c7 h6 w40 k18 r3 s4 p1:2 u1,2 N*C",
)  # fmt: skip


STORED_AS = ("f32", "bf16", "f16")
SPECIAL = ("normal", "huge range", "denormal", "nan", "inf", "zeros")

#: Each text with each dtype and kind on one instruction set, each dtype and kind on all of them.
SIDE_BY_SIDE = [
    (text, stored_as, kind, core.isas()[(i + j + k) % len(core.isas())])
    for i, text in enumerate(LAST)
    for j, stored_as in enumerate(STORED_AS)
    for k, kind in enumerate(SPECIAL)
]


@pytest.mark.parametrize("text, stored_as, kind, isa", SIDE_BY_SIDE)
def test_channels_side_by_side_change_no_bit(
    text: str, stored_as: str, kind: str, isa: str
) -> None:
    """Of x or y or both, with and without a bias: what other layouts give, and right."""
    problem = Problem.parse(text).replace(x_dtype=stored_as, w_dtype=stored_as, y_dtype=stored_as)
    planar = problem.replace(layout="NC*")
    rng = np.random.default_rng([len(text), SPECIAL.index(kind)])
    x, w = (special(rng, kind, stored_as, shape) for shape in (problem.x_shape, problem.w_shape))
    if kind in ("nan", "inf"):  # weights that are not finite go elsewhere
        w = special(rng, "normal", stored_as, problem.w_shape)
    if kind == "nan" and stored_as == "f32":  # those that rounding to bfloat16 would make 0
        x[np.isnan(x)] = np.array(0x7FFFFFFF, np.uint32).view(np.float32)
    bias = rng.standard_normal(problem.filters).astype(np.float32)
    configs = EMULATED.configs(problem, this_machine())
    config = {**configs[rng.integers(len(configs))], "isa": isa}
    ys = []
    for given, x_layout, y_layout, b in (
        (planar, "NC*", "NC*", None), (problem, "N*C", "N*C", None), (problem, "NC*", "N*C", None),
        (problem, "N*C", "NC*", None), (planar, "N*C", "N*C", None), (planar, "NC*", "NC*", bias),
        (problem, "N*C", "N*C", bias),
    ):  # fmt: skip
        plan = EMULATED.plan(given, config, this_machine())
        y = in_layout(np.full(problem.y_shape, 77, plan.y_dtype), y_layout)
        plan(in_layout(x, x_layout), plan.pack_stored(w), b, y)
        ys.append(y.copy(order="C"))
    for y in ys[1:5]:
        np.testing.assert_array_equal(as_bits(y), as_bits(ys[0]))
    np.testing.assert_array_equal(as_bits(ys[6]), as_bits(ys[5]))
    bound = EMULATED.error_bound(problem, config)
    expected = oracle(problem, x, w)
    check(problem, ys[0], expected, bound)
    check(problem, ys[5], reference.plus(*expected, bias), bound + epsilon(problem))


@pytest.mark.parametrize("text", [LAST[0], LAST[1], LAST[5]])
def test_blocks_of_channels_side_by_side_do_not_change_a_bit(text: str, every_thread: None) -> None:
    problem, configs = offered(text)
    x, w, bias = arrays(problem)
    residual = in_layout(values(np.random.default_rng(1), "f32", problem.y_shape), "N*C")
    for config, more in itertools.product(
        configs[:1], ({"cache_bytes": 1}, {"cache_bytes": 20000}, {"most": 20}, {})
    ):
        ys = []
        for threads, layout in itertools.product((1, 3), ("NC*", "N*C")):
            plan = EMULATED.plan(
                problem.replace(layout=layout).on(threads), {**config, **more}, this_machine()
            )
            y = in_layout(np.full(problem.y_shape, 77, np.float32), layout)
            added = in_layout(residual, layout)
            plan(in_layout(x, layout), plan.pack_stored(w), bias, y, added, Activation(1, 0.0, 3.0))
            ys.append(y)
        for y in ys[1:]:
            np.testing.assert_array_equal(y, ys[0])


@pytest.mark.parametrize("text", [STORED[0], FLOAT16[0]])
def test_a_residual_and_an_activation_are_of_sums_in_float32(text: str) -> None:
    """However x and y lie, and of weights that another driver takes."""
    problem, (config, *_) = offered(text)
    x, w, bias = arrays(problem)
    residual = values(np.random.default_rng(1), problem.y_dtype, problem.y_shape)
    swapped = np.empty(problem.y_shape[::-1], residual.dtype).T
    for kernel in (w, np.where(np.arange(w.size).reshape(w.shape) == 5, np.inf, w).astype(w.dtype)):
        plan = EMULATED.plan(problem, config, this_machine())
        packed = plan.pack_stored(kernel)
        sums = np.empty(problem.y_shape, np.float32)
        wide = problem.replace(x_dtype="f32", w_dtype="f32", y_dtype="f32")
        whole = EMULATED.plan(wide, config, this_machine())
        whole(x.astype(np.float32), whole.pack_stored(kernel.astype(np.float32)), bias, sums)
        for added, activation in itertools.product(
            (None, residual), (None, Activation(1, 0.0, 3.0))
        ):
            right = sums if added is None else sums + added.astype(np.float32)
            right = right if activation is None else np.clip(right, 0, 3)
            for y in (np.empty(problem.y_shape, residual.dtype), swapped):
                plan(x, packed, bias, y, added, activation)
                np.testing.assert_array_equal(bits(y.copy()), bits(right.astype(y.dtype)))


def test_estimates_are_in_order() -> None:
    """Fewer products cost less, and tiles that are not filled as much as full ones."""
    machine = this_machine()
    problem, configs = offered(LAYER)
    costs = [EMULATED.cost(problem, c, machine) for c in configs]
    assert costs == sorted(costs) and costs[-1] < 3 * costs[0]
    narrow, (config, *_) = offered(LAYER.replace("k64", "k49"))
    assert EMULATED.cost(narrow, config, machine) >= 0.9 * EMULATED.cost(problem, config, machine)
    assert epsilon(problem) == 2.0**-23


# ---- integers

SIGNS = list(itertools.product((np.uint8, np.int8), repeat=2))


def bytes_of(signs: tuple[Any, Any], filters: int, pixels: int) -> tuple[Array, Array, Array]:
    """x (pixels, 64), w (64, filters) of extreme values too, and what sums hold before."""
    rng = np.random.default_rng([filters, pixels])
    x, w = rng.integers(0, 256, (pixels, 64)), rng.integers(0, 256, (64, filters))
    x[0], x[1], w[:, 0], w[:, 1] = 255, 128, 255, 128
    sums = np.full((pixels // 16, 2, 16, 16), 77, np.int32)
    return x.astype(np.uint8).view(signs[0]), w.astype(np.uint8).view(signs[1]), sums


def multiply_bytes(x: Array, w: Array, sums: Array, isa: str, emulated: bool) -> None:
    tiles = w.reshape(16, 4, -1, 16).transpose(2, 0, 3, 1)
    core.multiply_bytes(x, np.ascontiguousarray(tiles), sums, isa, emulated)


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("isa", core.isas())
def test_tiles_of_integers_are_exact(signs: tuple[Any, Any], isa: str) -> None:
    for filters, pixels in itertools.product((16, 32), repeat=2):
        x, w, sums = bytes_of(signs, filters, pixels)
        multiply_bytes(x, w, sums, isa, True)
        got = sums[:, : filters // 16].swapaxes(1, 2).reshape(pixels, filters)
        np.testing.assert_array_equal(got, x.astype(np.int32) @ w.astype(np.int32))
        if filters == 16:
            assert (sums[:, 1] == 77).all(), "a tile that is not there"


@pytest.mark.parametrize("signs", SIGNS)
def test_hardware_of_integers_beside_the_emulation(signs: tuple[Any, Any]) -> None:
    if reason := core.amx_int8_absent():
        pytest.skip(f"no tiles: {reason}")
    for filters, pixels in itertools.product((16, 32), repeat=2):
        x, w, sums = bytes_of(signs, filters, pixels)
        other = sums.copy()
        multiply_bytes(x, w, sums, core.isa(), False)
        multiply_bytes(x, w, other, core.isa(), True)
        np.testing.assert_array_equal(sums, other)


@pytest.mark.parametrize("text", [
    "conv2d i32 n1 c70 h9 w12 k40 r3 s3 p1 constant=255 x:u8 w:i8",
    "conv2d i32 n2 c130 h5 w7 k33 r1 s1 x:i8 w:u8 y:u8",
    "conv2d i32 n1 c64 h9 w70 k20 r3 s3 p1 u2 constant=-3 x:i8 w:i8 y:i16",
    "conv1d u32 n1 c40 w200 k18 s3 p1 x:u8 w:u8",
])  # fmt: skip
@pytest.mark.parametrize("isa", core.isas())
def test_units_of_any_size(text: str, isa: str, every_thread: None) -> None:
    problem = Problem.parse(text)
    x, w, _ = arrays(problem)
    (config,) = EMULATED_INT8.configs(problem, this_machine())
    for size, threads in itertools.product((1, 20_000, 100_000), (1, 3, 16)):
        plan = EMULATED_INT8.plan(
            problem.on(threads), {**config, "isa": isa, "cache_bytes": size}, this_machine()
        )
        y = np.full(problem.y_shape, 77, plan.y_dtype)
        plan(x, plan.pack_stored(w), None, y)
        check(problem, y, solved(text), 0.0)


@pytest.mark.parametrize("text, reason", [
    ("conv2d i32 n1 c64 h9 w9 k9 r3 s3 x:u8 w:i16", "8 bits"),
    ("conv2d i16 n1 c64 h9 w9 k9 r3 s3 x:u8 w:i8", "32 bits"),
    ("conv2d i32 n1 c64 h9 w9 k9 r3 s3 p1 constant=256 x:u8 w:i8", "does not hold"),
    ("conv2d i32 n1 c64 h9 w9 k9 r3 s3 p1 constant=-129 x:i8 w:i8", "does not hold"),
    ("conv2d i32 n1 c64 h9 w9 k9 r3 s3 p1 reflect x:u8 w:i8", "one number"),
    ("conv2d i32 n1 c31 h9 w9 k9 r3 s3 x:u8 w:i8", "64 channels"),
    ("conv2d i32 n1 c64 h9 w9 k9 r3 s3 e2 x:u8 w:i8", "input dilation"),
    ("conv2d i32 n1 c64 h9 w9 k9 r3 s3 N*C x:u8 w:i8", "rows of pixels"),
    ("conv2d i32 n1 c64 h9 w9 k9 r3 s3 x:u8 w:i8 y:f32", "stores integers"),
])  # fmt: skip
def test_integers_that_tiles_are_not_for(text: str, reason: str) -> None:
    said = BY_NAME["amx_int8"].why_not(Problem.parse(text))
    assert said is not None and reason in said


@pytest.mark.parametrize("dtype, middle", [(np.uint8, 128), (np.int8, -128)])
def test_weights_less_the_middle_of_their_range_keep_8_bits(dtype: Any, middle: int) -> None:
    """Of either kind; less another zero point they have more, and tiles of AMX are not for them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1, 64, 5, 6)).astype(np.uint8)
    w = rng.integers(0, 256, (20, 64, 3, 3)).astype(np.uint8).view(dtype)
    for zero in (middle, np.full(20, middle, dtype)):
        plan = fastconv.plan(nn.conv_integer, x, w, x_zero_point=9, w_zero_point=zero, padding=1)
        assert plan.problems[0].w_dtype == ("i8" if dtype == np.uint8 else "u8")
        right = nn.conv_integer(x, w, 9, zero, padding=1, method="naive")
        np.testing.assert_array_equal(plan(x), right)
        wide = np.pad(x.astype(np.int64) - 9, ((0, 0), (0, 0), (1, 1), (1, 1)))
        corner = (wide[0, :, :3, :3] * (w[7].astype(np.int64) - middle)).sum()
        assert right[0, 7, 0, 0] == corner
    plan = fastconv.plan(nn.conv_integer, x, w, x_zero_point=9, w_zero_point=middle // 2)
    assert plan.problems[0].w_dtype == "i16"


# ---- amx_winograd, by emulation

TILED = (
    "conv2d f32 n2 c34 h9 w11 k21 r3 s3 p1", "conv2d f32 n1 c33 h26 w38 k40 r3 s3 p2:1,0",
    "conv2d f32 n2 c5 h17 w40 k6 r3 s3 p5,2 l4,3", "conv2d f32 n1 c70 h5 w6 k72 r3 s3 g2 p1",
    "conv2d f32 n1 c3 h8 w70 k18 r3 s3 p1,9 l1,12", "conv2d f32 n3 c2 h3 w3 k1 r3 s3",
)  # fmt: skip


def transformed(problem: Problem, x: Array, w: Array, **config: Any) -> Array:
    config = {"m": 4, "cache_bytes": 1 << 20, **config}
    plan = EMULATED_WINOGRAD.plan(problem, config, this_machine())
    y = np.full(problem.y_shape, 77, np.float32)
    plan(x, plan.pack_stored(w), None, y)
    return y


def right_transform(problem: Problem, y: Array, x: Array, w: Array, **config: Any) -> None:
    bound = EMULATED_WINOGRAD.error_bound(problem, {"m": 4, **config})
    check(problem, y, oracle(problem, x, w), bound, mixed_magnitude(problem, x, w), str(config))


@pytest.mark.parametrize("text", TILED)
@pytest.mark.parametrize("m", [3, 4])
def test_blocks_of_tiles_do_not_change_a_bit(text: str, m: int, every_thread: None) -> None:
    """Whether weights stay in L2 or pass by once, and however tiles and filters are shared out."""
    problem = Problem.parse(text)
    x, w, _ = arrays(problem)
    y = transformed(problem, x, w, m=m)
    right_transform(problem, y, x, w, m=m)
    for size, threads in itertools.product((1, 1 << 20, 1 << 30), (1, 3, 16)):
        other = transformed(problem.on(threads), x, w, m=m, cache_bytes=size)
        np.testing.assert_array_equal(other, y)


@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("kind", KINDS)
def test_hard_data_of_tiles(kind: str, isa: str) -> None:
    """Quiet parts beside loud ones, NaN, Inf and huge samples: no output is all error."""
    problem = Problem.parse("conv2d f32 n1 c33 h13 w14 k17 r3 s3 p1")
    rng = np.random.default_rng(5)
    x = special(rng, kind, "f32", problem.x_shape)
    w = rng.standard_normal(problem.w_shape).astype(np.float32)
    w[3] = 0
    for m in (3, 4):
        right_transform(problem, transformed(problem, x, w, m=m, isa=isa), x, w, m=m)


@pytest.mark.parametrize("x_power, w_power", POWERS)
def test_nothing_is_flushed_in_transforms(x_power: int, w_power: int) -> None:
    problem = Problem.parse("conv2d f32 n1 c40 h6 w13 k9 r3 s3 p1 fast")
    rng = np.random.default_rng(x_power % 99)
    x = np.ldexp(rng.uniform(-1, 1, problem.x_shape), x_power).astype(np.float32)
    w = np.ldexp(rng.uniform(-1, 1, problem.w_shape), w_power).astype(np.float32)
    x[:, :, :, 5:] = 0  # and tiles of nothing
    y = transformed(problem, x, w)
    right_transform(problem, y, x, w)
    assert not y[:, :, :, 6:].any()


def test_nans_of_any_payload_reach_their_windows() -> None:
    """Those that rounding to bfloat16 would make 0."""
    problem = Problem.parse("conv2d f32 n1 c32 h11 w12 k16 r3 s3 p1")
    x, w, _ = arrays(problem)
    x = x.copy()
    x[0, 4, 6, 6] = np.array(0x7FFFFFFF, np.uint32).view(np.float32)
    x[0, 9, 0, 0] = np.array(0xFFFFFFFF, np.uint32).view(np.float32)
    y = transformed(problem, x, w)
    right_transform(problem, y, x, w)
    assert np.isnan(y).sum() == 16 * (9 + 4)


@pytest.mark.parametrize("channels", [256, 2048])
def test_transforms_summed_over_many_channels_of_one_sign(channels: int) -> None:
    problem = Problem.parse(f"conv2d f32 n1 c{channels} h6 w6 k16 r3 s3")
    for value, m in itertools.product((1 / 3, 0.95), (3, 4)):
        x, w = (np.full(s, value, np.float32) for s in (problem.x_shape, problem.w_shape))
        exact = float(x[0, 0, 0, 0]) * float(w[0, 0, 0, 0]) * problem.taps  # also B
        error = abs(transformed(problem, x, w, m=m) - exact).max()
        assert error <= EMULATED_WINOGRAD.error_bound(problem, {"m": m}) * exact


@pytest.mark.parametrize("text, reason", [
    ("conv2d f64 n1 c64 h9 w9 k9 r3 s3", "sum in f32"),
    ("conv2d f32 n1 c64 h9 w9 k9 r3 s2", "3 x 3"),
    ("conv1d f32 n1 c64 w9 k9 s3", "3 x 3"),
    ("conv2d f32 n1 c64 h9 w9 k9 r3 s3 u2", "strides"),
    ("conv2d f32 n1 c64 h9 w9 k9 r3 s3 e2", "strides"),
    ("conv2d f32 n1 c64 h9 w9 k9 r3 s3 p3", "padding"),
    ("conv2d f32 n1 c64 h9 w9 k9 r3 s3 p1 wrap", "zeros"),
    ("conv2d f32 n1 c31 h9 w9 k9 r3 s3", "32 channels"),
    ("conv2d f32 n1 c64 h9 w9 k9 r3 s3 strict", "relative"),
    ("conv2d f32 n1 c64 h9 w9 k9 r3 s3 N*C", "rows of pixels"),
    ("conv2d f32 n1 c4096 h9 w9 k9 r3 s3", "at most"),
])  # fmt: skip
def test_layers_that_transforms_on_tiles_are_not_for(text: str, reason: str) -> None:
    said = BY_NAME["amx_winograd"].why_not(Problem.parse(text))
    assert said is not None and reason in said
