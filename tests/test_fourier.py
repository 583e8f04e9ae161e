"""fft and overlap_save: layouts, the guard of small outputs, NaN and Inf, extremes, memory."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
import scipy.signal
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from problems import arrays, oracle

from fastconv._accuracy import allowed_error
from fastconv._engine import run
from fastconv._machine import this_machine
from fastconv._problem import BOUNDARIES, Problem, numpy_dtype
from fastconv._solver import Config, Solver
from fastconv.solvers import BY_NAME, _fourier, _guard
from fastconv.solvers._blocks import named

Array = npt.NDArray[Any]

FFT, OVERLAP_SAVE = BY_NAME["fft"], BY_NAME["overlap_save"]


def ways(problem: Problem, most: int = 2) -> list[tuple[Solver, Config]]:
    """Both solvers with the configs they offer first."""
    return [
        (solver, config)
        for solver in (FFT, OVERLAP_SAVE)
        if solver.why_not(problem) is None
        for config in list(solver.configs(problem, this_machine()))[:most]
    ]


def solve(problem: Problem, way: tuple[Solver, Config], x: Array, w: Array) -> Array:
    solver, config = way
    plan = solver.plan(problem, config, this_machine())
    y = np.full(problem.y_shape, 7, numpy_dtype(problem.dtype))
    plan(x, plan.pack_stored(w), None, y)
    return y


def promised(problem: Problem, way: tuple[Solver, Config], x: Array, w: Array) -> None:
    """Solve and hold the result to the contract of "balanced"."""
    y = solve(problem, way, x, w)
    finite = np.isfinite(x)
    right, s = oracle(problem, np.where(finite, x, 0), w)
    spoilt = oracle(problem, (~finite).astype(x.dtype), np.ones_like(w))[0] != 0
    assert np.isfinite(y[~spoilt]).all()
    assert not np.isfinite(y[spoilt]).any()
    y, right, s = y[~spoilt], right[~spoilt], s[~spoilt]
    info = np.finfo(x.dtype)
    error = abs(y - right) - info.smallest_subnormal * 4 * problem.taps  # what underflow may take
    # B, and the digit, are of moduli; the reference's own error is far below either
    peak = np.longdouble(abs(np.where(finite, x, 0)).max())  # B may pass float32's range
    b = peak * abs(w).reshape(len(w), -1).sum(1).max()
    assert (y[s == 0] == 0).all()
    assert (error <= way[0].error_bound(problem, way[1]) * b.astype(s.dtype)).all()
    assert (error <= s / 10).all()


# ---- what applies ----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [FFT, OVERLAP_SAVE])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conv1d i32 n1 c1 w99 k1 s9", "exact"),
        ("conv1d bool n1 c1 w99 k1 s9", "exact"),
        ("conv1d f64 n1 c1 w99 k1 s9 strict", "strict"),
        ("conv1d f64 n1 c1 w99 k1 s9 e2", "input dilation"),
        ("conv1d f64 n1 c1 w99 k1 s9 cuda", "CPU"),
    ],
)
def test_refused(solver: Solver, text: str, words: str) -> None:
    assert words in (solver.why_not(Problem.parse(text)) or "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conv1d f80 n1 c1 w300 k1 s20", "f80"),
        ("conv2d f64 n1 c3 h30 w30 k1 r1 s1", "0 of more than one tap"),
        ("conv4d f64 n1 c1 i9,9,9,9 k1 f2,2,2,2", "4 of more than one tap"),
        ("conv1d f64 n1 c1 w12000000 k1 s9000000", "no block"),
    ],
)
def test_refused_by_overlap_save(text: str, words: str) -> None:
    assert words in (OVERLAP_SAVE.why_not(Problem.parse(text)) or "")


@pytest.mark.parametrize(
    "text", ["conv1d f32 n1 c1 w9 k1 s2", "conv2d c128 n1 c8 h99 w99 k4 r9 s9"]
)
@pytest.mark.parametrize("accuracy", ["balanced", "fast"])
def test_bound_is_admitted(text: str, accuracy: str) -> None:
    problem = Problem.parse(text).replace(accuracy=accuracy)
    for solver, config in ways(problem):
        assert 0 < solver.error_bound(problem, config) <= allowed_error(problem)


def test_offered_blocks_do_not_depend_on_threads_or_packing() -> None:
    problem = Problem.parse("conv1d f32 n1 c1 w100000 k1 s300")
    offered = OVERLAP_SAVE.configs(problem, this_machine())
    for other in (problem.replace(threads=2), problem.replace(prepared=True)):
        assert OVERLAP_SAVE.configs(other, this_machine()) == offered


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("conv1d f64 n1 c1 w1000 k1 s25 p24", (1024,)),  # full: not 1000 + 2 * 24
        ("conv1d f64 n1 c1 w100 k1 s25 p12", (112,)),  # same: half the kernel is enough
        ("conv1d f64 n1 c1 w1000 k1 s25 p12 wrap", (1000,)),  # the circle is the boundary
        ("conv1d f64 n1 c1 w1000 k1 s25 p12 nearest", (1024,)),
        ("conv2d f64 n1 c1 h50 w64 k1 r1 s5", (0, 64)),  # nothing to transform along rows
    ],
)
def test_circles_are_no_longer_than_needed(text: str, lengths: tuple[int, ...]) -> None:
    problem = Problem.parse(text)
    layout = tuple(_fourier.whole_axis(problem, axis) for axis in range(problem.ndim))
    got = _fourier.lengths(layout)
    assert all(n <= _fourier.good_length(m, problem) if m else n == 0 for n, m in zip(got, lengths))
    x, w, _ = arrays(problem)
    promised(problem, (FFT, {}), x, w)


# ---- right answers ---------------------------------------------------------------------------


@st.composite
def geometry(draw: st.DrawFn) -> Problem:
    ndim = draw(st.integers(1, 3))
    widest = (40, 7, 3)[ndim - 1]

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    kernel, dilation = each(1, widest), each(1, 2)
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    size = each(1, (300, 40, 12)[ndim - 1])
    padding = tuple(
        (draw(st.integers(0, s)) + max(0, s - n), draw(st.integers(0, s + 3)))
        for s, n in zip(span, size)
    )
    groups = draw(st.sampled_from([1, 1, 2]))
    return Problem(
        size=size, kernel=kernel, dilation=dilation, stride=each(1, 3), padding=padding,
        batch=draw(st.integers(1, 2)), groups=groups,
        channels=groups * draw(st.sampled_from([1, 1, 3, 9])),
        filters=groups * draw(st.sampled_from([1, 1, 2, 8])),
        boundary=draw(st.sampled_from(BOUNDARIES)),
        cval=draw(st.sampled_from([0.0, 2.5])), flip=draw(st.booleans()),
        dtype=draw(st.sampled_from(["f32", "f64", "c64", "c128", "f80"])),
        threads=draw(st.integers(1, 2)), layout=draw(st.sampled_from(["NC*", "N*C", "strided"])),
        accuracy=draw(st.sampled_from(["balanced", "fast"])),
    )  # fmt: skip


@given(geometry(), st.sampled_from([None, 1 << 12]))
def test_any_geometry(problem: Problem, chunk: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if chunk:  # several pieces, and several threads, even of small problems
            patch.setattr(_fourier, "CHUNK_BYTES", chunk)
        x, w, bias = arrays(problem)
        right, _ = oracle(problem, x, w, bias)
        b = max(abs(x).max(), problem.cval) * abs(w).reshape(len(w), -1).sum(1).max()
        for solver, config in ways(problem):
            plan = solver.plan(problem, config, this_machine())
            y = np.full(problem.y_shape, 7, x.dtype)
            plan(x, plan.pack_stored(w), bias, y)
            bound = solver.error_bound(problem, config) * b
            rounding = np.finfo(x.dtype).eps * abs(right)  # of adding the bias
            assert (abs(y - right) <= bound + rounding).all()


@pytest.mark.parametrize("dtype", ["f4", "f8", "F"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(("size", "kernel"), [((40000,), (700,)), ((130, 211), (40, 23))])
def test_like_scipy(dtype: str, mode: str, size: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    x, w = (rng.standard_normal((1, 1, *shape)).astype(dtype) for shape in (size, kernel))
    ends = {"full": [(k - 1, k - 1) for k in kernel], "valid": [(0, 0)] * len(kernel),
            "same": [(k // 2, (k - 1) // 2) for k in kernel]}[mode]  # fmt: skip
    problem = Problem(
        size=size, kernel=kernel, padding=tuple(ends), flip=True,
        dtype={"f4": "f32", "f8": "f64", "F": "c64"}[dtype],
    )  # fmt: skip
    wide = np.result_type(dtype, "f8")
    right = scipy.signal.fftconvolve(x[0, 0].astype(wide), w[0, 0].astype(wide), mode)
    scale = abs(x).max() * abs(w).sum()
    for way in ways(problem, most=4):
        error = abs(solve(problem, way, x, w)[0, 0] - right).max()
        assert error <= 2 * way[0].error_bound(problem, way[1]) * scale


# ---- the promise -----------------------------------------------------------------------------

RANGE = {"f32": 2.0**60, "c64": 2.0**60, "f64": 2.0**400, "c128": 2.0**400}


def shaped(rng: np.random.Generator, shape: tuple[int, ...], name: str, kind: str) -> Array:
    """Data that Fourier transforms find hard."""
    x = rng.standard_normal(shape)
    big, n = RANGE[name], shape[-1]
    if name[0] == "c":
        x = x + 1j * rng.standard_normal(shape)
    if kind == "any magnitude":
        x = x * big ** rng.uniform(-1, 1, shape)
    elif kind == "decay":
        x = x * big ** -np.linspace(0, 1, n)
    elif kind == "silence":
        x[..., n // 3 :] = 0
    elif kind == "quiet":
        x[..., n // 3 :] *= big**-0.5
    elif kind == "spike":
        x[..., n // 2] = big**0.5
    elif kind == "few":
        x = x * (rng.random(shape) < 0.05)
    elif kind == "large":
        x = x * big
    elif kind == "small":
        x = x / big
    elif kind == "positive":
        x = abs(x)
    return x.astype(numpy_dtype(name))


KINDS = ["plain", "any magnitude", "decay", "silence", "quiet", "spike", "few", "large", "small",
         "positive"]  # fmt: skip


@given(
    st.sampled_from(sorted(RANGE)), st.sampled_from(KINDS), st.sampled_from(KINDS),
    st.sampled_from([0, 1, 100]), st.booleans(), st.sampled_from([0, 500, 1 << 21]),
    st.sampled_from([0, 64]), st.integers(0, 2**32),
)  # fmt: skip
def test_every_output_has_a_digit(
    name: str, data: str, taps: str, bad: int, plane: bool, gathered: int, scattered: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    stride, dilation = (int(rng.integers(1, 3)) for _ in range(2))
    problem = Problem(
        size=(35, 47) if plane else (700,), kernel=(4, 6) if plane else (37,),
        channels=2, filters=4, groups=2, batch=2, dtype=name, stride=(stride,) * (1 + plane),
        dilation=(dilation,) * (1 + plane), padding=((3, 11),) * (1 + plane),
        boundary=str(rng.choice(["zeros", "reflect"])),
    )  # fmt: skip
    x = shaped(rng, problem.x_shape, name, data)
    w = shaped(rng, problem.w_shape, name, taps)
    at = rng.integers(0, x.size, bad)
    x.reshape(-1)[at] = rng.choice([np.nan, np.inf, -np.inf], bad)
    with pytest.MonkeyPatch.context() as patch:  # so that every way of mending is taken
        patch.setattr(_guard, "GATHERED", gathered)
        patch.setattr(_guard, "_GATHERED_A_SAMPLE", 0)
        patch.setattr(_guard, "_SCATTERED", scattered)
        for way in ways(problem):
            promised(problem, way, x, w)


@pytest.mark.parametrize("name", ["f32", "f64"])
@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_bad_samples_give_what_the_definition_gives(name: str, value: float, words: str) -> None:
    problem = Problem.parse(f"conv1d {name} n1 c2 w900 k3 s40 p20 u2")
    x, w, _ = (a.copy() for a in arrays(problem))
    w[0, 0, 3] = 0  # 0 * inf is NaN
    x[0, 0, [0, 17, 300, 301]] = value
    x[0, 1, 305] = np.inf
    with np.errstate(invalid="ignore"):
        right, _ = oracle(problem, x, w)
    for way in ways(problem):
        y = solve(problem, way, x, w)
        bad = ~np.isfinite(right)
        assert 0 < bad.sum() < bad.size / 2
        np.testing.assert_array_equal(y[bad], right[bad].astype(y.dtype))
        assert np.isfinite(y[~bad]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_weights(value: float) -> None:
    problem = Problem.parse("conv1d f64 n1 c1 w300 k2 s20 p5")
    x, w, _ = (a.copy() for a in arrays(problem))
    w[0, 0, 19] = value
    right, _ = oracle(problem, x, w)
    for way in ways(problem):
        y = solve(problem, way, x, w)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(right))
        np.testing.assert_array_equal(np.isinf(y), np.isinf(right))
        good = np.isfinite(right)
        np.testing.assert_allclose(y[good], right[good].astype(float), atol=1e-12, rtol=0)


def test_ends_of_long_signals_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The few outputs at both ends that a guard doubts cost no transform in double of all."""
    again = []
    monkeypatch.setattr(_guard.Guard, "_again_in_double", lambda *_: again.append(1))
    monkeypatch.setattr(_guard, "GATHERED", 0)
    monkeypatch.setattr(_guard, "_GATHERED_A_SAMPLE", 0)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 20_000), dtype=np.float32)
    problem = Problem.parse("conv1d f32 n1 c1 w20000 k1 s20000 p19999 flip")
    y = solve(problem, ways(problem)[0], x[None, None], w[None, None])[0, 0]
    assert not again
    for end in (slice(300), slice(-300, None)):
        a, b = x[end].astype(float), w[end].astype(float)
        right, size = np.convolve(a, b)[end], np.convolve(abs(a), abs(b))[end]
        assert (abs(y[end] - right) <= size / 10).all()


def test_doubtful_outputs_near_the_ends_are_summed_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few of many taps meet the signal there: a search for these takes longer than transforms."""
    problem = Problem.parse("conv1d f32 n1 c1 w1000000 k1 s1000000 p999999 flip prepared")
    solver = BY_NAME["overlap_save"]
    config = solver.configs(problem, this_machine())[0]
    assert config["halves"] == 1
    monkeypatch.setattr(_fourier.FourierPlan, "_run", lambda *_: pytest.fail("left by the driver"))
    x, w = np.random.default_rng(7).standard_normal((2, 1_000_000), dtype=np.float32)
    y = solve(problem, (solver, config), x[None, None], w[None, None])[0, 0]
    for end in (slice(300), slice(-300, None)):
        a, b = x[end].astype(float), w[end].astype(float)
        right, size = np.convolve(a, b)[end], np.convolve(abs(a), abs(b))[end]
        assert (abs(y[end] - right) <= size / 10).all()


def test_tail_of_a_distribution() -> None:
    """A thousand coins: the ends are 2**-1000, next to a middle of 0.025."""
    half = scipy.stats.binom.pmf(np.arange(501), 500, 0.5)
    problem = Problem(size=(501,), kernel=(501,), padding=((500, 500),), dtype="f64", flip=True)
    right, _ = oracle(problem, half[None, None], half[None, None])
    for way in ways(problem):
        y = solve(problem, way, half[None, None], half[None, None])
        assert (abs(y - right) <= right / 10).all()
        assert y[0, 0, 0] == half[0] ** 2


@pytest.mark.parametrize("name", ["f32", "f64", "c64"])
def test_silence_is_silent(name: str) -> None:
    problem = Problem.parse(f"conv1d {name} n1 c1 w60000 k1 s900 p450")
    x, w, _ = (a.copy() for a in arrays(problem))
    x[..., 10000:50000] = 0
    for way in ways(problem, most=4):
        y = solve(problem, way, x, w)
        assert (y[..., 10000 + 450 : 50000 - 449] == 0).all()
        assert (y[..., :10000] != 0).all()


@pytest.mark.parametrize(("name", "exponent"), [("f32", -130), ("f64", -1040), ("f80", -1100)])
def test_silence_next_to_the_smallest_numbers(name: str, exponent: int) -> None:
    problem = Problem.parse(f"conv1d {name} n1 c1 w200 k1 s9")
    x, w, _ = (a.copy() for a in arrays(problem))
    x = np.ldexp(x, exponent)
    x[..., 50:150] = 0
    for way in ways(problem):
        y = solve(problem, way, x, w)
        assert (y[..., 50 : 150 - 8] == 0).all()
        assert (y[..., :42] != 0).all()


@pytest.mark.parametrize("name", ["f32", "f64", "c128"])
def test_constant_is_not_optimistic(name: str) -> None:
    """Data whose roundings agree: worse for a transform than random data."""
    problem = Problem.parse(f"conv1d {name} n1 c1 w4000 k1 s500 p499")
    t, k = np.arange(4000), np.arange(500)
    dtype = numpy_dtype(name)
    pairs = [
        (np.ones(4000), np.ones(500)), (t == 1234, k == 77), (t % 16 == 0, k % 16 == 0),
        (t / 7, k / 3), (np.cos(t * np.pi / 5), np.ones(500)), ((-1.0) ** (t // 8), (-1.0) ** k),
        (np.exp(-t / 200), np.exp(-k / 30)),
    ]  # fmt: skip
    for data, taps in pairs:
        x, w = (np.asarray(1.1 * a, dtype)[None, None] for a in (data, taps))
        wide = reference.wider(dtype)
        right = np.convolve(x[0, 0].astype(wide), w[0, 0, ::-1].astype(wide))
        b = abs(x).max() * abs(w).sum()
        for way in ways(problem):
            error = abs(solve(problem, way, x, w)[0, 0] - right).max()
            assert error <= way[0].error_bound(problem, way[1]) * b


def test_fast_skips_the_digit_but_confines_nan() -> None:
    problem = Problem.parse("conv1d f64 n1 c1 w5000 k1 s99 fast")
    x, w, _ = (a.copy() for a in arrays(problem))
    x[..., 2000] = np.nan
    x[..., 3000:] *= 1e-200
    right, _ = oracle(problem, x, w)
    for way in ways(problem):
        y = solve(problem, way, x, w)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(right))


# ---- inputs are only read, memory is bounded -------------------------------------------------


@pytest.mark.parametrize(
    "text", ["conv1d c128 n1 c1 w512 k1 s30", "conv2d c64 n2 c2 h32 w1 k3 r5 s1"]
)
def test_operands_are_left_alone(text: str) -> None:
    problem = Problem.parse(text)
    x, w, _ = (a.copy() for a in arrays(problem))
    before = x.copy(), w.copy()
    for way in ways(problem):
        plan = way[0].plan(problem, way[1], this_machine())
        packed = plan.pack_stored(w)
        w[...] = 0  # a plan keeps its own
        y = np.empty(problem.y_shape, x.dtype)
        plan(x, packed, None, y)
        again = np.empty_like(y)
        plan(x, packed, None, again)
        np.testing.assert_array_equal(y, again)
        w[...] = before[1]
        np.testing.assert_array_equal(solve(problem, way, x, w), y)
    np.testing.assert_array_equal(x, before[0])


@pytest.mark.parametrize(
    "text",
    [
        "conv1d f32 n1 c1 w4000000 k1 s2000 p1999",
        "conv1d f64 n1 c1 w2000000 k1 s300 p150 reflect threads2",
        "conv2d f32 n1 c1 h1500 w1600 k1 r15 s21 p7,10 mirror",
    ],
)
def test_memory_of_blocks_does_not_grow_with_the_input(text: str) -> None:
    problem = Problem.parse(text)
    solver, config = (
        OVERLAP_SAVE,
        min(
            OVERLAP_SAVE.configs(problem, this_machine()),
            key=lambda c: OVERLAP_SAVE.workspace(problem, c),
        ),
    )
    plan = solver.plan(problem, config, this_machine())
    x, w, _ = arrays(problem)
    y = np.empty(problem.y_shape, x.dtype)
    tracemalloc.start()
    try:
        plan(x, plan.pack_stored(w), None, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= solver.workspace(problem, config)
    assert peak < x.nbytes


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("conv1d f32 n1 c1 w40000 k1 s40000 p39999 flip", 1),
        ("conv1d f64 n1 c2 w70000 k2 s30000 u2", 1),
        ("conv1d c64 n1 c1 w50000 k1 s30000 p29999 flip reflect", 1),
        ("conv2d f32 n3 c1 h300 w400 k1 r200 s301 p10", 3),
        ("conv1d f32 n3 c1 w40000 k1 s40000 p39999 flip", 3),
    ],
)
def test_threads_that_share_a_block_change_no_bit(
    text: str, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns, slabs and the outputs that the guard sums fall to whoever comes first."""
    problem = Problem.parse(text)
    x, w, _ = arrays(problem)
    x = np.array(x)
    if problem.ndim == 1:  # outputs that meet these alone are summed from the definition
        x[..., -300:] *= 1e-9
    wide = np.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    config = OVERLAP_SAVE.configs(problem, this_machine())[0]
    assert named(problem, config).shared
    assert named(problem, config).pairs == blocks
    monkeypatch.setattr(_fourier.FourierPlan, "_run", lambda *_: pytest.fail("left by the driver"))
    made = []
    for threads in 1, 2, 3:
        some = dataclasses.replace(problem, threads=threads)
        plan = OVERLAP_SAVE.plan(some, config, this_machine())
        for data in x, wide[..., 0]:
            y = np.full(problem.y_shape, 7, x.dtype)
            plan(data, plan.pack_stored(w), None, y)
            made.append(y)
    assert all(np.array_equal(made[0], y) for y in made[1:])


def test_nan_in_a_block_that_threads_share() -> None:
    problem = Problem.parse("conv1d f32 n1 c1 w40000 k1 s40000 p39999 flip")
    some = dataclasses.replace(problem, threads=3)
    config = OVERLAP_SAVE.configs(problem, this_machine())[0]
    plan = OVERLAP_SAVE.plan(some, config, this_machine())
    x, w, _ = arrays(problem)
    packed = plan.pack_stored(w)
    for at in range(3, 40000, 8000):
        spoilt = np.array(x)
        spoilt[..., at] = np.nan
        y = np.zeros(problem.y_shape, x.dtype)
        plan(spoilt, packed, None, y)
        assert np.isnan(y[..., at : at + 40000]).all()
        assert np.isfinite(y[..., :at]).all()
        assert np.isfinite(y[..., at + 40000 :]).all()


@pytest.mark.parametrize("method", ["fft", "overlap_save"])
def test_small_filters_beside_large_ones(method: str) -> None:
    """Each filter has its own power of two taken out: one 1e43 times another must not eat it."""
    rng = np.random.default_rng(0)
    x = (1e9 * rng.standard_normal((1, 1, 400))).astype("f4")
    w = rng.standard_normal((3, 1, 25)) * np.array([1e-28, 1.0, 1e15]).reshape(3, 1, 1)
    y = run(x, w.astype("f4"), method=method)
    for k in range(3):
        right = np.correlate(x[0, 0].astype("f8"), w[k, 0].astype("f4").astype("f8"), "valid")
        worst = abs(x).max() * abs(w[k]).sum()
        assert abs(y[0, k] - right).max() <= 20 * np.finfo("f4").eps * worst
