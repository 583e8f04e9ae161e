"""amx_gradient by emulation, beside exact sums, and on tiles of AMX, where there are any."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from problems import EMULATED_GRADIENT, GRADIENTS, Array, arrays, check, in_layout, oracle, solved
from strategies import KINDS, special

from fastconv import nn
from fastconv._accuracy import allowed_error, blocked_sum_bound
from fastconv._epilogue import Activation
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers import BY_NAME

#: And few of all; phases of which one reads odd samples alone; more padding than a kernel reaches.
TEXTS = (
    *GRADIENTS,
    "conv2d f32 n5 c2 h13 w40 k35 r13 s40 p1", "conv2d f32 n6 c2 h13 w14 k9 r7 s7 p1:0,1 l2",
    "conv2d f32 n3 c2 h9 w9 k4 r9 s9 p2 u2", "conv2d f32 n3 c2 h12 w13 k4 r3 s4 p3,2 l4,3 u2,1",
    "conv3d f32 n3 c1 d4 h6 w7 k8 t4 r6 s7 p0,1,1", "conv2d f32 n3 c1 h5 w5 k2 r2 s2 p7:4",
    "conv1d f32 n1 c1 w1 k1 s1", "conv2d f32 n4 c3 h7 w8 k5 r7 s8 p0:2",
)  # fmt: skip

#: Blocks of every shape: what settings may say of pictures, rows, columns, filters and images.
BLOCKS: tuple[Config, ...] = (
    {}, {"steps": 1}, {"pictures": 1}, {"pictures": 2, "steps": 3}, {"pictures": 1, "rows": 1},
    {"pictures": 1, "rows": 3, "steps": 2}, {"pictures": 1, "rows": 1, "columns": 5},
    {"filters": 32, "images": 32},
)  # fmt: skip

#: On both sides of the smallest normal number, for parts, products and sums; and near the largest.
POWERS = ((-126, 0), (0, -126), (-140, -3), (-70, -60), (-20, -100), (-103, 0), (-110, 30),
          (100, -120), (64, 60))  # fmt: skip


def execute(problem: Problem, config: Config, x: Array, w: Array, **more: Any) -> Array:
    plan = EMULATED_GRADIENT.plan(problem, {**config, **more}, this_machine())
    y = np.full(problem.y_shape, 77, np.float32)
    plan(x, plan.pack_stored(w), None, y)
    return y


def offered(text: str) -> tuple[Problem, list[Config]]:
    problem = Problem.parse(text)
    return problem, list(EMULATED_GRADIENT.configs(problem, this_machine()))


@pytest.mark.parametrize("text", TEXTS)
def test_blocks_of_any_shape_are_right(text: str, every_thread: None) -> None:
    """And the same, bit for bit, however units are shared out."""
    problem = Problem.parse(text).replace(accuracy="fast", threads=1)
    configs = EMULATED_GRADIENT.configs(problem, this_machine())
    x, w, _ = arrays(problem)
    expected = oracle(problem, x, w)
    for i, (config, more) in enumerate(itertools.product(configs, BLOCKS)):
        own = {**config, **more}
        bound = EMULATED_GRADIENT.error_bound(problem, own)
        y = execute(problem, own, x, w)
        check(problem, y, expected, bound, label=str(own))
        threads = (3, 16)[(i + i // len(BLOCKS)) % 2]  # the other number with the next config
        np.testing.assert_array_equal(execute(problem.on(threads), own, x, w), y)


@pytest.mark.parametrize("text", [GRADIENTS[0], GRADIENTS[4], GRADIENTS[7]])
def test_instruction_sets_agree_bit_for_bit(text: str) -> None:
    problem, configs = offered(f"{text} fast")
    x, w, _ = arrays(problem)
    for config in configs:
        ys = [execute(problem, config, x, w, isa=isa) for isa in core.isas()]
        for y in ys[1:]:
            np.testing.assert_array_equal(y, ys[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("isa", core.isas())
def test_hard_data(kind: str, isa: str) -> None:
    """In x and in w: NaN, Inf and huge samples reach their windows and no others."""
    problem, configs = offered("conv2d f32 n6 c2 h9 w10 k5 r9 s10 p1 fast")
    rng = np.random.default_rng(3)
    plain = [rng.standard_normal(s).astype(np.float32) for s in (problem.x_shape, problem.w_shape)]
    for hard, config in itertools.product((0, 1), configs):
        x, w = (special(rng, kind, "f32", a.shape) if i == hard else a for i, a in enumerate(plain))
        bound = EMULATED_GRADIENT.error_bound(problem, config)
        check(problem, execute(problem, config, x, w, isa=isa), oracle(problem, x, w), bound)


@pytest.mark.parametrize("products", [3, 4, 6])
@pytest.mark.parametrize("x_power, w_power", POWERS)
def test_nothing_is_flushed(x_power: int, w_power: int, products: int) -> None:
    problem, configs = offered("conv2d f32 n9 c2 h5 w6 k4 r5 s6 p1 fast")
    config = next(c for c in configs if c["products"] == products)
    rng = np.random.default_rng(x_power % 99)
    x = np.ldexp(rng.uniform(-1, 1, problem.x_shape), x_power).astype(np.float32)
    w = np.ldexp(rng.uniform(-1, 1, problem.w_shape), w_power).astype(np.float32)
    x[2], w[1] = 0, 0  # images and filters of nothing
    y = execute(problem, config, x, w)
    check(problem, y, oracle(problem, x, w), EMULATED_GRADIENT.error_bound(problem, config))
    assert not y[2].any() and not y[:, 1].any()


def test_numbers_that_parts_cannot_hold() -> None:
    """What rounding to bfloat16 makes Inf, or 0 of a NaN, of x and of w."""
    problem, configs = offered("conv2d f32 n4 c2 h6 w7 k5 r6 s7 p1 fast")
    x, w, _ = (a.copy() for a in arrays(problem))
    w /= 1e4
    x[0, 0, 2, 3] = np.finfo(np.float32).max
    x[1, 1, 5, 6] = np.array(0xFFFFFFFF, np.uint32).view(np.float32)
    w[3, 0, 1, 1] = np.array(0x7FFFFFFF, np.uint32).view(np.float32)
    expected = oracle(problem, x, w)
    assert np.isfinite(expected[0]).any()
    for config in configs:
        bound = EMULATED_GRADIENT.error_bound(problem, config)
        check(problem, execute(problem, config, x, w), expected, bound)


def test_sums_that_overflow_on_the_way_are_made_anew() -> None:
    problem, configs = offered("conv1d f32 n2 c1 w32 k2 s32 fast")
    x, w = (np.zeros(shape, np.float32) for shape in (problem.x_shape, problem.w_shape))
    x[..., :5], w[..., :4], w[..., 4] = 2.0**126, 1, -1  # one after the other in a tile
    for config in configs:
        np.testing.assert_array_equal(execute(problem, config, x, w), 3 * 2.0**126)


@pytest.mark.parametrize("products", [3, 4, 6])
def test_bounds_are_met_by_data_made_for_them(products: int) -> None:
    """Operands whose parts are as large as they can be: half of the bound, and no more than it."""
    problem, configs = offered("conv2d f32 n3 c2 h16 w16 k4 r16 s16 p1 fast")
    config = next(c for c in configs if c["products"] == products)
    worst = np.float32(1 + 2.0**-8 - 2.0**-17 - 2.0**-23)
    x, w = (np.full(shape, worst, np.float32) for shape in (problem.x_shape, problem.w_shape))
    y = execute(problem, config, x, w)
    right, s = oracle(problem, x, w)
    bound = EMULATED_GRADIENT.error_bound(problem, config)
    check(problem, y, (right, s), bound)
    if products == 3:
        assert (abs(y - right) / s).max() > bound / 2


def test_products_that_each_accuracy_admits() -> None:
    layer = "conv2d f32 n64 c32 h56 w56 k64 r56 s56 p1"
    for accuracy, products in (("strict", [6]), ("balanced", [3, 4, 6]), ("fast", [3, 4, 6])):
        problem, configs = offered(f"{layer} {accuracy}")
        assert [c["products"] for c in configs] == products
        for config in configs:
            assert EMULATED_GRADIENT.error_bound(problem, config) <= allowed_error(problem)
    # a short sum has no room for what three products leave out, 512 u S
    assert [c["products"] for c in offered("conv2d f32 n64 c1 h7 w7 k64 r7 s7 p1")[1]] == [6]


@pytest.mark.parametrize("images", [1, 8, 256])
@pytest.mark.parametrize("size", [7, 14, 30, 56, 112])
def test_six_products_are_a_blocked_sum(images: int, size: int) -> None:
    """So that strict admits them, however many samples there are."""
    problem, (config,) = offered(
        f"conv2d f32 n64 c{images} h{size} w{size} k64 r{size} s{size} p1 strict"
    )
    assert EMULATED_GRADIENT.error_bound(problem, config) <= 2 * blocked_sum_bound(problem)


def test_an_epilogue_and_other_layouts() -> None:
    problem, configs = offered(GRADIENTS[0])
    x, w, bias = arrays(problem)
    residual = np.random.default_rng(1).standard_normal(problem.y_shape).astype(np.float32)
    for config in configs:
        plan = EMULATED_GRADIENT.plan(problem, config, this_machine())
        ys = []
        for layout in ("NC*", "N*C"):
            y = in_layout(np.full(problem.y_shape, 77, np.float32), layout)
            kernel = in_layout(w, layout)
            plan(in_layout(x, layout), plan.pack_stored(kernel), bias, y,
                 in_layout(residual, layout), Activation(1, -3.0, 3.0))  # fmt: skip
            ys.append(y)
        np.testing.assert_array_equal(ys[1], ys[0])
        right, s = solved(GRADIENTS[0], True)
        error = EMULATED_GRADIENT.error_bound(problem, config) + 4 * 2.0**-23
        assert (abs(ys[0] - np.clip(right + residual, -3, 3)) <= error * (s + 10)).all()


def test_what_is_prepared_does_not_change_with_its_array() -> None:
    problem, (config, *_) = offered(f"{GRADIENTS[1]} prepared")
    x, w, _ = arrays(problem)
    w = w.copy()
    plan = EMULATED_GRADIENT.plan(problem, config, this_machine())
    packed = plan.pack_stored(w)
    y, later = (np.empty(problem.y_shape, np.float32) for _ in range(2))
    plan(x, packed, None, y)
    w[...] = 0
    plan(x, packed, None, later)
    np.testing.assert_array_equal(later, y)


LAYERS: tuple[tuple[int, int, int, int, int, dict[str, Any]], ...] = (
    (3, 40, 35, 20, 3, {"padding": 1}), (2, 33, 20, 28, 3, {"padding": 1, "stride": 2}),
    (2, 64, 32, 15, 3, {"padding": 2, "dilation": 2}), (2, 24, 70, 16, 1, {}),
    (3, 32, 64, 9, 3, {"padding": 1, "groups": 2}), (1, 16, 16, 40, 5, {"padding": 2}),
    (2, 16, 18, 17, 1, {"stride": 2}), (40, 8, 9, 7, 3, {"padding": 1}),
)  # fmt: skip


@pytest.mark.parametrize("accuracy", ["balanced", "strict"])
@pytest.mark.parametrize("images, channels, filters, size, kernel, options", LAYERS)
def test_layers_on_hardware(
    images: int, channels: int, filters: int, size: int, kernel: int, options: dict[str, Any],
    accuracy: str,
) -> None:  # fmt: skip
    if reason := core.amx_absent():
        pytest.skip(f"no tiles: {reason}")
    rng = np.random.default_rng(0)
    groups = options.get("groups", 1)
    x = rng.standard_normal((images, channels, size, size)).astype(np.float32)
    shape = (filters, channels // groups, kernel, kernel)
    pad, u, l = (options.get(n, d) for n, d in (("padding", 0), ("stride", 1), ("dilation", 1)))
    out = (size + 2 * pad - l * (kernel - 1) - 1) // u + 1
    grad = rng.standard_normal((images, filters, out, out)).astype(np.float32)
    how: dict[str, Any] = {**options, "accuracy": accuracy}
    y = nn.conv2d_weight(x, shape, grad, **how, method="amx_gradient", threads=1)
    wide = [a.astype(np.float64) for a in (x, grad)]
    right = nn.conv2d_weight(wide[0], shape, wide[1], **options, method="naive")
    sizes = nn.conv2d_weight(abs(wide[0]), shape, abs(wide[1]), **options, method="naive")
    assert (abs(y - right) <= 1.5e-4 * sizes).all()
    again = nn.conv2d_weight(x, shape, grad, **how, method="amx_gradient", threads=2)
    np.testing.assert_array_equal(again, y)


@pytest.mark.parametrize("text, reason", [
    ("conv2d f64 n64 c8 h9 w9 k16 r9 s9 p1", "sum in f32"),
    ("conv2d f32 n64 c8 h9 w9 k16 r9 s9 p1 wrap", "zeros"),
    ("conv2d f32 n64 c8 h9 w9 k16 r9 s9 p1 e2", "input dilation"),
    ("conv2d f32 n64 c8 h9 w9 k4 r9 s9 p1", "8 filters"),
    ("conv2d f32 n4 c8 h9 w9 k16 r9 s9 p1", "8 images"),
    ("conv2d f32 n64 c8 h9 w9 k16 r3 s3 p1", "fewer outputs"),
    ("conv1d f32 n64 c8 w4 k16 s4", "8 samples"),
])  # fmt: skip
def test_problems_that_it_is_not_for(text: str, reason: str) -> None:
    said = BY_NAME["amx_gradient"].why_not(Problem.parse(text))
    assert said is not None and reason in said
