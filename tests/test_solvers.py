"""Every solver, every problem that it accepts, every config it offers, on every instruction set."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import (
    CPU,
    MIXING,
    PROBLEMS,
    Array,
    arrays,
    check,
    mixed_magnitude,
    oracle,
    parsed,
    solved,
    stored,
)
from strategies import EXACT, FLOATS, KINDS, NARROW, WIDE, cases, special
from strategies import problems as random_problems

from fastconv._accuracy import allowed_error, epsilon
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config, Solver
from fastconv.solvers import BY_NAME, SOLVERS

#: Methods whose sums do not depend on how outputs are shared among threads.
THREAD_INVARIANT = (
    "naive", "direct", "depthwise", "dot", "implicit_gemm", "panels", "col2im",
    "pairs", "quads", "quad_rows", "winograd_pairs", "amx_emulated", "amx_winograd_emulated",
    "amx_gradient_emulated",
)  # fmt: skip


def configs(solver: Solver, problem: Problem) -> Iterator[Config]:
    """What the solver offers, on each instruction set that it may name."""
    seen = []
    for config in solver.configs(problem, this_machine()):
        isas = core.isas() if "isa" in config else ("",)
        for isa in isas:
            one = {**config, "isa": isa} if isa else dict(config)
            if one not in seen:
                seen.append(one)
                yield one


def accepted(solver: Solver, texts: tuple[str, ...] = PROBLEMS) -> list[str]:
    return [text for text in texts if solver.why_not(parsed(text)) is None]


def pairs(*texts: str) -> Any:
    """Mark: each solver with each of the problems that it accepts."""
    return pytest.mark.parametrize(
        "solver, text",
        [pytest.param(s, t, id=f"{s.name}-{t}") for s in CPU for t in accepted(s, texts)],
    )


def mixed(solver: Solver, problem: Problem, x: Array, w: Array) -> Array | None:
    several = solver.name == "separable" and problem.rank > 1  # terms may cancel
    return mixed_magnitude(problem, x, w) if solver.name in MIXING or several else None


def execute(
    solver: Solver, problem: Problem, config: Config, x: Array, w: Array,
    bias: Array | None = None, y: Array | None = None,
) -> Array:  # fmt: skip
    plan = solver.plan(problem, config, this_machine())
    if y is None:
        y = stored(np.full(problem.y_shape, 77), problem.y_dtype)
    plan(x, plan.pack_stored(w), bias, y)
    return y


@pairs(*PROBLEMS)
def test_published_bound(solver: Solver, text: str) -> None:
    problem = parsed(text)
    x, w, bias = arrays(problem)
    magnitude = mixed(solver, problem, x, w)
    for config in configs(solver, problem):
        bound = solver.error_bound(problem, config)
        y = execute(solver, problem, config, x, w)
        check(problem, y, solved(text), bound, magnitude, f"{solver.name} {config}")
    # the last config also adds a bias: one more rounding
    y = execute(solver, problem, config, x, w, bias)
    check(
        problem, y, solved(text, True), bound + epsilon(problem), magnitude, f"{solver.name} bias"
    )


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
def test_accepts_enough(solver: Solver) -> None:
    """A solver that refused everything would pass every other test here."""
    assert len(accepted(solver)) >= 10


def test_naive_accepts_everything() -> None:
    assert accepted(BY_NAME["naive"]) == list(PROBLEMS)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s.name)
@given(problem=random_problems())
def test_contract(solver: Solver, problem: Problem) -> None:
    """What the planner relies on: reasons are text, estimates are numbers, memory is counted."""
    reason = solver.why_not(problem)
    if reason is not None:
        assert isinstance(reason, str) and reason and reason == reason.strip()
        return
    offered = list(solver.configs(problem, this_machine()))
    assert offered, "no config for a problem that it accepts"
    for config in offered:
        assert all(isinstance(k, str) and type(v) in (int, str) for k, v in config.items())
        seconds = solver.cost(problem, config, this_machine())
        assert 0 < seconds < np.inf
        assert solver.workspace(problem, config) >= 0
        bound = solver.error_bound(problem, config)
        assert 0 <= bound < np.inf
        if solver.name == "naive":
            assert bound <= allowed_error(problem.replace(accuracy="strict"))


def one_config(data: st.DataObject, solver: Solver, problem: Problem) -> Config:
    return data.draw(st.sampled_from(list(configs(solver, problem))), label="config")


def try_one(data: st.DataObject, problem: Problem, x: Array, w: Array) -> None:
    """Each solver that accepts the problem, with one of its configs, against the oracle."""
    bias = None
    if data.draw(st.booleans(), label="bias"):
        bias = stored(np.random.default_rng(5).integers(0, 3, problem.filters), problem.dtype)
    expected = oracle(problem, x, w, bias)
    before = x.tobytes(), w.tobytes()
    for solver in CPU:
        if solver.why_not(problem) is not None:
            continue
        config = one_config(data, solver, problem)
        y = execute(solver, problem, config, x, w, bias)
        bound = solver.error_bound(problem, config) + epsilon(problem)
        check(problem, y, expected, bound, mixed(solver, problem, x, w), f"{solver.name} {config}")
        assert (x.tobytes(), w.tobytes()) == before, f"{solver.name} wrote to its input"


@pytest.mark.usefixtures("every_thread")
@given(case=cases(random_problems(dtypes=FLOATS)), data=st.data())
@settings(max_examples=300)
def test_random_floats(case: tuple[Problem, Array, Array], data: st.DataObject) -> None:
    try_one(data, *case)


@given(case=cases(random_problems(dtypes=EXACT + WIDE + NARROW)), data=st.data())
@settings(max_examples=200)
def test_random_other_dtypes(case: tuple[Problem, Array, Array], data: st.DataObject) -> None:
    try_one(data, *case)


def test_axes_of_a_sample_or_two() -> None:
    """Windows that are all padding, axes of one position: too rare among drawn problems."""
    rng = np.random.default_rng(0)
    for _ in range(400):
        n = int(rng.integers(2, 4))
        size, kernel, stride = (tuple(rng.integers(1, most, n).tolist()) for most in (3, 3, 5))
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (n, 2)))
        if any(i + sum(p) < r for i, p, r in zip(size, padding, kernel)):
            continue
        groups = int(rng.integers(1, 3))
        problem = Problem(
            size=size, kernel=kernel, batch=1, channels=2, filters=2, groups=groups, stride=stride,
            padding=padding, dtype="f32", x_dtype="f32", w_dtype="f32", y_dtype="f32",
        )  # fmt: skip
        x, w, bias = arrays(problem)
        expected = oracle(problem, x, w, bias)
        for solver in CPU:
            if solver.why_not(problem) is not None:
                continue
            for config in configs(solver, problem):
                y = execute(solver, problem, config, x, w, bias)
                bound = solver.error_bound(problem, config) + epsilon(problem)
                magnitude = mixed(solver, problem, x, w)
                check(problem, y, expected, bound, magnitude, f"{solver.name} {config}")


@given(case=cases(random_problems(dtypes=FLOATS), kinds=("nan", "inf")), data=st.data())
def test_non_finite_samples_stay_in_their_windows(
    case: tuple[Problem, Array, Array], data: st.DataObject
) -> None:
    try_one(data, *case)


@pytest.mark.parametrize("kind", KINDS)
@pairs(
    "conv1d f32 n1 c1 w700 k1 s40 p39 flip prepared",
    "conv1d f64 n1 c2 w300 k2 s90 p5 wrap",
    "conv2d f32 n1 c4 h20 w21 k5 r3 s3 p1 reflect",
    "conv2d c64 n1 c1 h20 w21 k1 r7 s6 p3",
)
def test_hard_data(solver: Solver, kind: str, text: str) -> None:
    """Larger than what hypothesis makes, so that blocks with and without trouble both occur."""
    problem = parsed(text)
    rng = np.random.default_rng(11)
    x = special(rng, kind, problem.x_dtype, problem.x_shape)
    w = special(rng, "normal", problem.w_dtype, problem.w_shape)
    expected = oracle(problem, x, w)
    for config in configs(solver, problem):
        y = execute(solver, problem, config, x, w)
        check(problem, y, expected, solver.error_bound(problem, config),
              mixed(solver, problem, x, w), f"{solver.name} {config} {kind}")  # fmt: skip


@pytest.mark.parametrize("power", [0, 3, 12, 23, 40])
@pairs(
    "conv2d f32 n1 c3 h12 w13 k5 r3 s3 p1",
    "conv2d f64 n1 c2 h9 w10 k3 r3 s3 p1",
    "conv1d f32 n1 c1 w300 k1 s33 p32",
    "conv4d f32 n1 c1 i1,2,2,3 k1 f1,1,1,2",
)
def test_the_smallest_weights(solver: Solver, power: int, text: str) -> None:
    """Weights that are subnormal, or whose transforms are, on data of very different size."""
    problem = parsed(text)
    rng = np.random.default_rng(power)
    x = special(rng, "huge range", problem.x_dtype, problem.x_shape)
    w = (rng.integers(-3, 4, problem.w_shape) * 2.0**power).astype(x.dtype)
    w *= np.finfo(w.dtype).smallest_subnormal
    expected, magnitude = oracle(problem, x, w), mixed(solver, problem, x, w)
    for config in configs(solver, problem):
        y = execute(solver, problem, config, x, w)
        check(problem, y, expected, solver.error_bound(problem, config), magnitude,
              f"{solver.name} {config}")  # fmt: skip


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights(solver: Solver, value: float) -> None:
    """One bad weight reaches every output whose window has a sample under it, and no other."""
    problem = Problem.parse("conv2d f32 n1 c3 h9 w9 k4 r3 s3 p1")
    if solver.why_not(problem) is not None:
        pytest.skip(f"{solver.name}: {solver.why_not(problem)}")
    x, w, _ = arrays(problem)
    w = w.copy()
    w[2, 1, 0, 2] = value
    y = execute(solver, problem, next(configs(solver, problem)), x, w)
    bound = solver.error_bound(problem, next(configs(solver, problem)))
    finite = np.where(np.isfinite(w), w, 0)
    check(problem, y, oracle(problem, x, w), bound, mixed(solver, problem, x, finite), solver.name)
    assert np.isfinite(y[:, [0, 1, 3]]).all() and np.isfinite(y[0, 2, 0]).all()
    assert not np.isfinite(y[0, 2, 1:, :-1]).any()


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
@pytest.mark.parametrize("ends", [(0, 0), (2, 3)])
def test_what_lies_around_x_is_not_read(solver: Solver, ends: tuple[int, int]) -> None:
    """x is a window of an array of NaN, with and without the first and the last rows of it."""
    problem = Problem.parse("conv2d f32 n2 c3 h17 w22 k5 r3 s3 p1 strided")
    if solver.why_not(problem) is not None:
        pytest.skip(f"{solver.name}: {solver.why_not(problem)}")
    x, w, _ = arrays(problem)
    before, after = ends
    wide = np.full((2, 3, 17 + before + after, 29), np.nan, np.float32)
    window = wide[:, :, before : before + 17, 3:25]
    window[:] = x
    expected = oracle(problem, x, w)
    for config in configs(solver, problem):
        y = execute(solver, problem, config, window, w)
        bound = solver.error_bound(problem, config)
        check(problem, y, expected, bound, mixed(solver, problem, x, w), solver.name)


def guarded(problem: Problem, steps: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """y with the given steps inside a larger buffer of pattern bytes, that buffer, and which of its
    elements are y's."""
    shape = [abs(step) * n + 8 for step, n in zip(steps, problem.y_shape)]
    dtype = numpy_dtype(problem.y_dtype)
    buffer = np.full(int(np.prod(shape)) * dtype.itemsize, 0xA5, np.uint8).view(dtype)
    buffer = buffer.reshape(shape)
    index = tuple(
        slice(4, 4 + step * n, step) if step > 0 else slice(3 - step * n, 3, step)
        for step, n in zip(steps, problem.y_shape)
    )
    inside = np.zeros(shape, bool)
    inside[index] = True
    return buffer[index], buffer, inside


@pytest.mark.parametrize(
    "steps", [(1, 1, 1, 1), (1, 1, 1, 2), (1, 2, 3, 1), (1, -1, 1, -1), (-1, 1, -2, 1)]
)
@pairs(
    "conv2d f32 n2 c3 h9 w21 k7 r3 s3 p1",
    "conv2d f64 n1 c2 h6 w17 k3 r3 s3 p1 u2 wrap",
    "conv2d c64 n1 c2 h6 w19 k3 r3 s3 p1",
    "conv2d c128 n1 c2 h6 w11 k3 r1 s1",
    "conv2d u8 n1 c2 h6 w71 k6 r3 s3 p1",
    "conv2d f32 n1 c1 h30 w31 k1 r9 s9 p4 y:f16",
    "conv2d f64 n1 c2 h6 w7 k3 r3 s3 p1 e2",
)
def test_writes_only_its_output(solver: Solver, steps: tuple[int, ...], text: str) -> None:
    problem = parsed(text)
    x, w, _ = arrays(problem)
    for config in configs(solver, problem):
        y, buffer, inside = guarded(problem, steps)
        outside = buffer[~inside].tobytes()
        execute(solver, problem, config, x, w, y=y)
        assert buffer[~inside].tobytes() == outside, f"{solver.name} {config}"
        check(problem, y, solved(text), solver.error_bound(problem, config),
              mixed(solver, problem, x, w), f"{solver.name} {config}")  # fmt: skip


@pytest.mark.parametrize("pad", ["u1", "u2", "f4", "f8"])
@pairs(*(f"conv2d {d} n1 c2 h5 w7 k3 r3 s3 p1 strided" for d in ("f32", "f64", "c64", "c128")))
def test_fields_of_records(solver: Solver, text: str, pad: str) -> None:
    """Strides that are no multiple of the item size, of x, w and y."""
    problem = parsed(text)
    record = np.dtype([("pad", pad), ("value", numpy_dtype(problem.dtype))])
    plain_x, plain_w, _ = arrays(problem)
    x, w, y = (np.zeros(shape, record)["value"]
               for shape in (problem.x_shape, problem.w_shape, problem.y_shape))  # fmt: skip
    x[...], w[...] = plain_x, plain_w
    expected = oracle(problem, plain_x, plain_w)
    for config in configs(solver, problem):
        execute(solver, problem, config, x, w, y=y)
        check(problem, y, expected, solver.error_bound(problem, config),
              mixed(solver, problem, plain_x, plain_w), f"{solver.name} {config}")  # fmt: skip
        assert not y.base["pad"].any()


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
def test_repeats_bit_for_bit(solver: Solver) -> None:
    for text in accepted(solver)[::3]:
        problem = parsed(text)
        x, w, bias = arrays(problem)
        config = next(configs(solver, problem))
        plan = solver.plan(problem, config, this_machine())
        packed = plan.pack_stored(w)
        first, second = (stored(np.zeros(problem.y_shape), problem.y_dtype) for _ in range(2))
        plan(x, packed, bias, first)
        plan(x, packed, bias, second)
        np.testing.assert_array_equal(first, second, text)
        again = execute(solver, problem, config, x, w, bias)
        np.testing.assert_array_equal(first, again, text)


@pytest.mark.parametrize(
    "solver", [s for s in CPU if s.name in THREAD_INVARIANT], ids=lambda s: s.name
)
def test_threads_do_not_change_a_bit(solver: Solver, every_thread: None) -> None:
    for text in accepted(solver)[::2]:
        x, w, _ = arrays(parsed(text))
        results = []
        for threads in (1, 2, 3, 8):
            problem = parsed(text).replace(threads=threads)
            config = next(configs(solver, problem))
            results.append(execute(solver, problem, config, x, w))
        for y in results[1:]:
            np.testing.assert_array_equal(y, results[0], text)


@pytest.mark.parametrize("solver", CPU, ids=lambda s: s.name)
def test_empty_batch_and_filters_cost_nothing(solver: Solver) -> None:
    """Sizes of zero reach why_not and the cost model, whatever they answer."""
    for text in ("conv2d f32 n0 c3 h9 w9 k4 r3 s3", "conv2d f32 n1 c3 h9 w9 k0 r3 s3",
                 "conv2d f32 n1 c0 h9 w9 k4 r3 s3", "conv1d f64 n1 c1 w0 k1 s1 p3"):  # fmt: skip
        problem = parsed(text)
        if solver.why_not(problem) is None:
            for config in solver.configs(problem, this_machine()):
                values: list[Any] = [solver.cost(problem, config, this_machine()),
                                     solver.error_bound(problem, config)]  # fmt: skip
                assert np.isfinite(values).all()


@pairs(
    "conv2d f32 n2 c16 h40 w41 k16 r3 s3 p1",
    "conv1d f64 n1 c1 w30000 k1 s2000 p1999 flip",
    "conv1d c64 n1 c1 w20000 k1 s500",
    "conv2d f64 n1 c1 h90 w91 k1 r21 s21 p10 reflect",
    "conv2d f32 n1 c8 h20 w20 k8 r3 s3 p2 e2",
    "conv2d f32 n1 c8 h40 w40 k8 r3 s3 x:f16 y:f16",
    "conv2d u8 n1 c4 h60 w60 k4 r3 s3 p1 nearest",
)
def test_no_more_memory_than_was_said(solver: Solver, text: str) -> None:
    """Peak of what NumPy allocates during packing and a call; 64 KiB are for small objects."""
    problem = parsed(text)
    x, w, _ = arrays(problem)
    y = stored(np.zeros(problem.y_shape), problem.y_dtype)
    for config in configs(solver, problem):
        plan = solver.plan(problem, config, this_machine())
        core._local.__dict__.clear()  # the thread's scratch memory counts
        tracemalloc.start()
        try:
            plan(x, plan.pack_stored(w), None, y)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= plan.workspace_bytes + 65536, f"{solver.name} {config}"
