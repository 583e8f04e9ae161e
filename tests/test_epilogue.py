"""`residual=` and `activation=`: what is added to a finished sum, and what becomes of it."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import CPU, Array, arrays, stored
from strategies import EXACT, FLOATS, FORMS, NARROW, cases, in_form
from strategies import problems as random_problems

import fastconv
from fastconv._engine import run
from fastconv._epilogue import Activation, activation_of
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem, numpy_dtype

pytestmark = pytest.mark.usefixtures("every_thread")

RNG = np.random.default_rng(0)
ACTIVATIONS: tuple[Any, ...] = (
    None, "relu", "relu6", ("clamp", -0.75, 0.5), ("clamp", None, 1), "silu", "gelu",
)  # fmt: skip
CLAMPS = ACTIVATIONS[:3]

#: Units in the last place that silu and gelu may be off; fastconv.nn.conv2d states it.
ULPS = 6


def normal(a: Array) -> Array:
    """Phi of float64, to about an ulp: libm's erfc put right for the rounding of z = -a / sqrt(2),
    and beyond 10, where that underflows early, the asymptotic series."""
    pi, wide = np.longdouble(math.pi) + np.longdouble(1.2246467991473532e-16), np.longdouble
    z = -a.astype(wide) / np.sqrt(wide(2))
    near = z.astype(np.float64)
    erfc = np.array([math.erfc(v) for v in near.ravel()], wide).reshape(z.shape)
    erfc -= 2 / np.sqrt(pi) * np.exp(-(z**2)) * (z - near)
    large = np.maximum(z, 10)
    term = series = np.ones_like(z)
    for k in range(1, 20):
        term = term * -(2 * k - 1) / (2 * large**2)
        series = series + term
    result: Array = np.where(z < 10, erfc, np.exp(-(large**2)) / (large * np.sqrt(pi)) * series) / 2
    return result


def activated(s: Array, activation: Any) -> Array:
    """The definition, in a wider type."""
    if activation is None:
        return s
    if isinstance(activation, tuple) or activation.startswith("relu"):
        low, high = activation[1:] if isinstance(activation, tuple) else (0, None)
        y: Array = np.clip(s, low, 6 if activation == "relu6" else high)
        return y
    with np.errstate(all="ignore"):
        wide = s.astype(np.longdouble)
        if activation == "gelu":
            factor = normal(np.clip(s.astype(np.float64), -60, 60))
        else:
            e = np.exp(-abs(wide))
            factor = np.where(wide < 0, e, 1) / (1 + e)
        return np.where(np.isneginf(wide), 0, wide * factor)


def check(y: Array, s: Array, activation: Any) -> None:
    """y is the activation of s, in y's dtype."""
    right = activated(s, activation)
    if activation is None or not isinstance(activation, str) or activation.startswith("relu"):
        np.testing.assert_array_equal(y, right)
        return
    np.testing.assert_array_equal(np.isnan(y), np.isnan(s))
    with np.errstate(all="ignore"):
        narrow = right.astype(y.dtype)
        finite = np.isfinite(narrow)
        np.testing.assert_array_equal(y[~finite], narrow[~finite])
        error = abs(y[finite] - right[finite]) / np.spacing(abs(narrow[finite]))
    assert (error <= ULPS).all(), (error.max(), s[finite][error.argmax()])


@pytest.mark.parametrize("isa", core.isas())
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_kernel(isa: str, dtype: str, activation: Any) -> None:
    """Every size of number there is, around every limit."""
    bits = np.uint32 if dtype == "f4" else np.uint64
    info = np.finfo(dtype)
    far = 105.0 if dtype == "f4" else 746.0
    parts = (
        RNG.integers(0, 2**info.bits, 20_000, bits).view(dtype),
        RNG.standard_normal(20_000) * 3, RNG.uniform(-far, 20, 20_000), RNG.uniform(-40, 0, 20_000),
        [0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny, -info.tiny,
         info.smallest_subnormal, -info.smallest_subnormal],
    )  # fmt: skip
    x = np.concatenate([np.asarray(part, dtype) for part in parts])
    y = x.copy()
    core.finish(y, None, activation_of(activation, x.dtype), isa)
    check(y, x, activation)
    y, residual = x.copy(), RNG.permutation(x)
    core.finish(y, residual, activation_of(activation, x.dtype), isa)
    with np.errstate(all="ignore"):
        check(y, x + residual, activation)


@pytest.mark.parametrize("isa", core.isas())
def test_kernel_tails(isa: str) -> None:
    """Every count and step, in arrays whose rest keeps its pattern."""
    for dtype in ("f4", "f8", "c8", "c16"):
        for step in (1, 2, -3):
            for n in (*range(40), 64, 65):
                buffer = np.full((2, 3, 3 * n + 8), 77, dtype)
                y = buffer[:, 1, 4 : 4 + n] if step == 1 else buffer[:, 1, 4:][:, ::step][:, :n]
                y[...] = RNG.standard_normal(y.shape)
                relu = Activation(1, 0, np.inf) if dtype[0] == "f" else None
                rest = buffer.copy()
                residual = buffer.copy()[:, 1, 4:][:, ::step][:, :n]
                expected = y + residual if relu is None else np.maximum(y + residual, 0)
                core.finish(y, residual, relu, isa)
                np.testing.assert_array_equal(y, expected)
                y[...] = rest[:, 1, 4:][:, ::step][:, :n]
                np.testing.assert_array_equal(buffer, rest)


def residual_for(problem: Problem, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, problem.y_shape)
    if problem.is_exact:
        return stored(values, problem.y_dtype)
    return stored(values - 2 + rng.random(problem.y_shape), problem.y_dtype)


def try_solver(
    solver: Any, problem: Problem, x: Array, w: Array, bias: Array, activation: Any
) -> None:
    """Each config gives what its own sums do, finished by definition."""
    finish = activation_of(activation, numpy_dtype(problem.dtype))
    residual = residual_for(problem)
    for config in solver.configs(problem, this_machine()):
        plan = solver.plan(problem, config, this_machine())
        packed = plan.pack_stored(w)
        sums, y, alone = (stored(np.full(problem.y_shape, 7), problem.y_dtype) for _ in range(3))
        plan(x, packed, bias, sums)
        plan(x, packed, bias, y, residual, finish)
        plan(x, packed, bias, alone, None, finish)
        in_place = residual.copy()
        plan(x, packed, bias, in_place, in_place, finish)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(in_place, y, f"{solver.name} {config} {problem}")
            check(alone, sums, activation)
            check(y, sums + residual, activation)


def applies(problem: Problem, activation: Any) -> bool:
    if activation is None:
        return True
    return problem.dtype in ("f32", "f64") or (
        problem.dtype[0] in "iu" and activation in ("relu", "relu6")
    )


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_solver(solver: Any, activation: Any) -> None:
    tried = 0
    for text in (
        "conv2d f32 n2 c5 h13 w14 k9 r3 s3 p1 threads2", "conv2d f64 n1 c3 h9 w11 k4 r3 s3 p1",
        "conv1d f32 n1 c1 w700 k1 s40 p39 flip", "conv2d f32 n1 c9 h9 w9 k9 r1 s1",
        "conv2d f32 n2 c4 h9 w8 k6 r3 s3 g2 p2 u2 l2", "conv2d f32 n1 c5 h7 w6 k4 r3 s3 p2 e2 flip",
        "conv1d f32 n1 c2 w9 k3 s2 p1 e5", "conv2d c64 n1 c2 h8 w9 k3 r3 s3 p1",
        "conv1d i16 n2 c3 w50 k4 s7 p3", "conv1d bool n1 c3 w30 k2 s5",
        "conv1d f80 n1 c2 w20 k2 s3", "conv1d i32 n1 c1 w3000 k1 s1000 p30",
        "conv1d f64 n1 c1 w3000 k1 s2000 p1999 flip strict nonnegative",
        "conv3d f64 n1 c2 d4 h5 w6 k3 t3 r3 s3 p1 wrap", "conv2d f32 n1 c16 h30 w31 k8 r9 s9 p4",
        "conv2d i32 n1 c3 h9 w8 k4 r3 s3 p1 x:u8 w:i8", "conv2d f32 n1 c33 h5 w9 k17 r3 s3 p1",
        "conv2d i32 n1 c33 h5 w9 k17 r3 s3 p1 x:u8 w:i8", "conv2d f32 n9 c2 h5 w6 k9 r5 s6 p1",
    ):  # fmt: skip
        problem = Problem.parse(text)
        if solver.why_not(problem) is None and applies(problem, activation):
            try_solver(solver, problem, *arrays(problem), activation)
            tried += 1
    of_integers = (
        "limbs", "pairs", "quads", "quad_rows", "winograd_pairs", "amx_int8", "amx_int8_emulated",
    )  # fmt: skip
    assert tried or (solver.name in of_integers and activation not in (None, "relu", "relu6"))


@given(
    case=cases(random_problems(dtypes=FLOATS + EXACT), kinds=("normal", "nan", "inf")),
    activation=st.sampled_from(ACTIVATIONS), which=st.sampled_from(CPU),
)  # fmt: skip
@settings(max_examples=150)
def test_random(case: tuple[Problem, Array, Array], activation: Any, which: Any) -> None:
    problem, x, w = case
    if problem.y_dtype != problem.dtype or not applies(problem, activation):
        return
    for solver in (which, CPU[0]):
        if solver.why_not(problem) is None:
            bias = arrays(problem)[2]
            try_solver(solver, problem, x, w, bias, activation)


# ---- fastconv.nn --------------------------------------------------------------------------------

X = RNG.standard_normal((2, 6, 9, 10)).astype("f4")
W = RNG.standard_normal((4, 6, 3, 3)).astype("f4")
B = RNG.standard_normal(4).astype("f4")
R = RNG.standard_normal((2, 4, 9, 10)).astype("f4")

#: One algorithm, whatever other tests have made the planner remember.
conv2d = functools.partial(fastconv.conv2d, method="direct")


def sums() -> np.ndarray:
    """What residuals are added to: by the config that is chosen now, as any call's."""
    return conv2d(X, W, B, padding=1)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_functions(activation: Any) -> None:
    """All six, batched or not, in both layouts."""
    for n in (1, 2, 3):
        x = RNG.standard_normal((2, 4, *(6, 7, 5)[:n]))
        w = RNG.standard_normal((6, 4, *(3, 2, 3)[:n]))
        v = RNG.standard_normal((4, 6, *(3, 2, 3)[:n]))
        for function, kernel, options in (
            (getattr(fastconv.nn, f"conv{n}d"), w, {"padding": 1, "method": "direct"}),
            (getattr(fastconv.nn, f"conv_transpose{n}d"), v, {"stride": 2, "method": "direct"}),
        ):
            sums = function(x, kernel, **options)
            r = RNG.standard_normal(sums.shape)
            how = {**options, "activation": activation}
            check(function(x, kernel, residual=r, **how), sums + r, activation)
            one = function(x[0], kernel, **options)
            check(function(x[0], kernel, residual=r[0], **how), one + r[0], activation)
            np.testing.assert_allclose(one, sums[0], atol=1e-12)
            last = [np.moveaxis(a, 1, -1).copy() for a in (x, r)]
            y = function(last[0], kernel, residual=last[1], layout="N*C", **how)
            own = function(last[0], kernel, layout="N*C", **options)
            check(y, own + last[1], activation)
            np.testing.assert_allclose(own, np.moveaxis(sums, 1, -1), atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("out_form", ["none", "plain", "negative", "padded", "transposed"])
def test_forms_of_residual(form: str, out_form: str) -> None:
    r = in_form(R, form)
    out = None if out_form == "none" else in_form(np.zeros_like(R), out_form)
    y = conv2d(X, W, B, padding=1, residual=r, activation="relu", out=out)
    assert out is None or y is out
    np.testing.assert_array_equal(y, np.maximum(sums() + np.asarray(r, "f4"), 0))


def test_residual_and_out_in_one_memory() -> None:
    expected = np.maximum(sums() + R, 0)
    y = R.copy()
    assert conv2d(X, W, B, padding=1, residual=y, activation="relu", out=y) is y
    np.testing.assert_array_equal(y, expected)
    both = np.zeros((3, 4, 9, 10), "f4")  # one image apart
    both[:2] = R
    conv2d(X, W, B, padding=1, residual=both[:2], activation="relu", out=both[1:])
    np.testing.assert_array_equal(both[1:], expected)
    reverse = R.copy()
    conv2d(X, W, B, padding=1, residual=reverse, activation="relu", out=reverse[::-1])
    np.testing.assert_array_equal(reverse[::-1], expected)
    # x, residual and out at once
    square = RNG.standard_normal((6, 6, 3, 3)).astype("f4")
    x = X.copy()
    right = np.maximum(conv2d(X, square, padding=1) + X, 0)
    conv2d(x, square, padding=1, residual=x, activation="relu", out=x)
    # weights packed beforehand or not: maybe by another config
    np.testing.assert_allclose(x, right, rtol=0, atol=1e-5)
    y = conv2d(X, square, padding=1, residual=X, activation="relu")
    np.testing.assert_allclose(y, right, rtol=0, atol=1e-5)


def test_residual_broadcasts() -> None:
    for shape in ((), (10,), (4, 1, 1), (9, 1), (1, 4, 9, 10), (2, 1, 1, 1)):
        r = RNG.standard_normal(shape).astype("f4")
        np.testing.assert_array_equal(conv2d(X, W, B, padding=1, residual=r), sums() + r)


@pytest.mark.parametrize("name", NARROW)
def test_narrow_storage_is_finished_before_it_is_rounded(name: str) -> None:
    if name == "bf16":
        pytest.importorskip("ml_dtypes")
    dtype = numpy_dtype(name)
    x, w, b, r = (a.astype(dtype) for a in (X, W, B, R))
    wide = conv2d(*(a.astype("f4") for a in (x, w, b)), padding=1) + r.astype("f4")
    for activation in ACTIVATIONS:
        y = conv2d(x, w, b, padding=1, residual=r, activation=activation)
        assert y.dtype == dtype
        right = activated(wide, activation).astype("f4").astype(dtype).astype("f4")
        np.testing.assert_allclose(y.astype("f4"), right, rtol=2.0**-7, atol=1e-4)
    overflow = conv2d(
        np.full((1, 1, 1, 1), 300, dtype), np.full((1, 1, 1, 1), 300, dtype),
        activation=("clamp", None, 1000),
    )  # fmt: skip
    assert overflow == np.float32(1000).astype(dtype)


def test_integers() -> None:
    x = np.arange(-5, 6, dtype=np.int8).reshape(1, 1, -1)
    w = np.full((1, 1, 1), 3, np.int8)
    assert (fastconv.conv1d(x, w, activation="relu") == np.maximum(3 * x, 0)).all()
    assert (fastconv.conv1d(x, w, activation="relu6") == np.clip(3 * x, 0, 6)).all()
    limited = fastconv.conv1d(x, w, residual=x, activation=("clamp", -300, 7))
    assert (limited == np.minimum(4 * x, 7)).all()
    big = np.full((1, 1, 1), 2**62 + 1)
    assert fastconv.conv1d(big, np.ones_like(big), activation="relu") == 2**62 + 1
    unsigned = fastconv.conv1d(x.view("u1"), w.view("u1"), activation=("clamp", -1, 200))
    assert (unsigned == np.minimum(3 * x.view("u1"), 200)).all()


def test_sums_of_nothing() -> None:
    x, w = np.ones((1, 0, 4)), np.ones((2, 0, 3))
    y = fastconv.conv1d(x, w, np.array([-1.0, 2.0]), residual=np.ones((1, 2, 2)), activation="relu")
    np.testing.assert_array_equal(y, [[[0, 0], [3, 3]]])
    assert fastconv.conv1d(np.ones((0, 2, 4)), np.ones((3, 2, 2)), activation="gelu").size == 0


def test_plans() -> None:
    """A residual is the call's; what the plan was made with is the default."""
    options: dict[str, Any] = {"padding": 1, "bias": B, "activation": "silu", "method": "direct"}
    plan = fastconv.plan(fastconv.conv2d, X, W, **options)
    check(plan(X), plan_sums(), "silu")
    for r in (R, 2 * R):
        check(plan(X, residual=r), plan_sums() + r, "silu")
        out = r.copy()
        assert plan(X, out, out) is out
        check(out, plan_sums() + r, "silu")
    kept = fastconv.plan(fastconv.conv2d, X, W, residual=R, **options)
    check(kept(X), plan_sums() + R, "silu")
    check(kept(X, residual=-R), plan_sums() - R, "silu")
    with pytest.raises(TypeError, match="convolve takes no residual"):
        fastconv.plan(fastconv.convolve, np.ones(9), np.ones(3))(np.ones(9), residual=np.ones(11))
    with pytest.raises(ValueError, match="broadcasts"):
        plan(X, residual=R[0, 0, :5])


def plan_sums() -> Array:
    y: Array = fastconv.plan(fastconv.conv2d, X, W, padding=1, bias=B, method="direct")(X)
    return y


@pytest.mark.parametrize("options, error, message", [
    ({"activation": "tanh"}, ValueError, "expected an activation out of"),
    ({"activation": ("clamp", 1)}, ValueError, "expected an activation out of"),
    ({"activation": 3}, ValueError, "expected an activation out of"),
    ({"activation": ("clamp", 2, 1)}, ValueError, "low first"),
    ({"activation": ("clamp", np.nan, 1)}, ValueError, "low first"),
    ({"activation": ("clamp", "0", 1)}, TypeError, "real numbers"),
    ({"residual": R[..., 1:]}, ValueError, r"broadcasts to \(2, 4, 9, 10\), got \(2, 4, 9, 9\)"),
    ({"residual": np.ones((1, 2, 4, 9, 10), "f4")}, ValueError, "broadcasts"),
    ({"residual": R.astype("f8")}, TypeError, "expected residual of one dtype"),
    ({"residual": np.ma.array(R)}, TypeError, "without a mask"),
])  # fmt: skip
def test_refused(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        conv2d(X, W, padding=1, **options)


@pytest.mark.parametrize("dtype, activation, error", [
    ("c8", "relu", TypeError), ("?", "relu", TypeError), ("i4", "gelu", TypeError),
    ("g", "silu", TypeError), ("i4", ("clamp", 0, 1.5), ValueError),
])  # fmt: skip
def test_refused_of_a_dtype(dtype: str, activation: Any, error: Any) -> None:
    with pytest.raises(error, match="expected"):
        fastconv.conv1d(np.ones((1, 1, 4), dtype), np.ones((1, 1, 2), dtype), activation=activation)


def test_beside_torch() -> None:
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x, w, b, r = map(torch.from_numpy, (X, W, B, R))
    sums = f.conv2d(x, w, b, padding=1) + r
    for activation, right in (
        ("relu", f.relu(sums)), ("relu6", f.relu6(sums)), ("silu", f.silu(sums)),
        ("gelu", f.gelu(sums)), (("clamp", -1, 2), sums.clamp(-1, 2)),
    ):  # fmt: skip
        y = conv2d(X, W, B, padding=1, residual=R, activation=activation)
        np.testing.assert_allclose(y, right.numpy(), rtol=1e-4, atol=1e-4)
    special = np.array([[[np.nan, np.inf, 0.0, -0.0, 1e30, -1e30]]], "f4")
    one = np.ones((1, 1, 1), "f4")
    for name in ("relu", "relu6", "silu"):  # its gelu of infinity is NaN
        right = getattr(f, name)(torch.from_numpy(special)).numpy()
        np.testing.assert_array_equal(fastconv.conv1d(special, one, activation=name), right)


def test_run_keeps_residual_when_out_overlaps_x() -> None:
    x = RNG.standard_normal((1, 2, 8))
    w = RNG.standard_normal((2, 2, 1))
    right = run(x, w) + 1
    np.testing.assert_array_equal(run(x, w, residual=np.ones_like(x), out=x), right)
