"""`fastconv.plan`, `candidates` and `tune`: a front-end call prepared once and run many times."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import scipy.signal

import fastconv
from fastconv import _engine, _planner, _tuner
from fastconv._engine import front_end, run
from fastconv._machine import this_machine
from fastconv.solvers import BY_NAME, SOLVERS

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 12, 13)).astype("f4")
W = RNG.standard_normal((5, 3, 3, 3)).astype("f4")
METHODS = [s.name for s in SOLVERS if s.device == "cpu"]


@front_end(data="x", kernel="w")
def filter_rows(x: Any, w: Any, *, stride: int = 1, out: Any = None, **options: Any) -> Any:
    """A front end of one step."""
    y = run(np.asarray(x)[:, None], np.asarray(w)[None, None], stride=(stride,),
            out=None if out is None else out[:, None], **options)  # fmt: skip
    return y[:, 0] if out is None else out


@front_end(data="x", kernel=None)
def smooth_twice(x: Any, *, out: Any = None, **options: Any) -> Any:
    """A front end of two steps and no kernel."""
    w = np.full((1, 1, 3), 1 / 3)
    once = run(np.asarray(x)[None, None], w, boundary="reflect", padding=((1, 1),), **options)
    twice = run(once, w, boundary="reflect", padding=((1, 1),), **options)[0, 0]
    if out is None:
        return twice
    out[...] = twice
    return out


CALLS: list[tuple[Any, Any, Any, dict[str, Any]]] = [
    (filter_rows, RNG.standard_normal((4, 60)), RNG.standard_normal(9), {"stride": 2}),
    (smooth_twice, RNG.standard_normal(40), None, {}),
    (fastconv.conv2d, X, W, {"padding": 1, "stride": 2}),
    (fastconv.conv2d, X, W, {"padding": "same", "padding_mode": "circular"}),
    (fastconv.conv_transpose2d, X, RNG.standard_normal((3, 2, 3, 3)).astype("f4"), {"stride": 2}),
    (fastconv.convolve, RNG.standard_normal(80), RNG.standard_normal(12), {}),
    (
        fastconv.correlate,
        RNG.standard_normal((9, 8)),
        RNG.standard_normal((3, 4)),
        {"mode": "same"},
    ),
    (fastconv.signal.convolve2d, np.eye(9), np.ones((2, 3)), {"boundary": "symm"}),
    (fastconv.ndimage.gaussian_filter, RNG.standard_normal((20, 21)), 1.5, {"mode": "wrap"}),
    (fastconv.ndimage.correlate, RNG.standard_normal((9, 8)), np.ones((3, 3)), {}),
]
IDS = [f"{fn.__name__}{i}" for i, (fn, *_) in enumerate(CALLS)]


@pytest.mark.parametrize("fn, x, w, options", CALLS, ids=IDS)
def test_a_plan_gives_what_the_call_gives(fn: Any, x: Any, w: Any, options: Any) -> None:
    plan = fastconv.plan(fn, x, w, **options)
    kernel = () if w is None else (w,)
    expected = fn(x, *kernel, **options)
    y = plan(x)
    assert y.dtype == expected.dtype and type(y) is type(expected)
    # the same algorithm, or another that a prepared kernel makes the quicker one
    tolerance = 64 * np.finfo(expected.dtype).eps * np.abs(expected).max()
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(plan(x.copy()), y)
    out = np.empty_like(expected)
    assert plan(x, out=out) is out
    np.testing.assert_array_equal(out, y)
    other = x[::-1].copy()
    np.testing.assert_allclose(plan(other), fn(other, *kernel, **options), rtol=0, atol=tolerance)


@pytest.mark.parametrize("fn, x, w, options", CALLS, ids=IDS)
def test_a_plan_of_a_shape(fn: Any, x: Any, w: Any, options: Any) -> None:
    """Nothing is computed and no data are needed; the shape may be a tuple or a list."""
    plan = fastconv.plan(fn, (x.shape, x.dtype), w, **options)
    again = fastconv.plan(fn, (list(x.shape), x.dtype.str), w, **options)
    assert plan.problems == again.problems
    np.testing.assert_array_equal(plan(x), fastconv.plan(fn, x, w, **options)(x))


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_by_each_method(method: str) -> None:
    options: dict[str, Any] = {"method": method, "padding": 1}
    try:
        plan = fastconv.plan(fastconv.conv2d, X, W, **options)
    except ValueError as error:
        pytest.skip(str(error))
    assert plan.method == method
    y = plan(X)
    np.testing.assert_array_equal(y, plan(X))
    np.testing.assert_allclose(y, fastconv.conv2d(X, W, padding=1, method="naive"), atol=1e-4)
    with_bias = fastconv.plan(fastconv.conv2d, X, W, bias=np.arange(5, dtype="f4"), **options)
    np.testing.assert_allclose(with_bias(X), y + np.arange(5)[:, None, None], atol=1e-4)


def test_attributes() -> None:
    plan = fastconv.plan(filter_rows, np.ones((2, 50)), np.ones(5), method="naive")
    assert plan.method == "naive" and plan.config == {}
    assert [str(p) for p in plan.problems] == [
        str(fastconv.Problem.parse("conv1d f64 n2 c1 w50 k1 s5 prepared").replace(
            threads=plan.problems[0].threads))
    ]  # fmt: skip
    assert plan.workspace_bytes == 5 * 8
    text = plan.explain()
    assert text.startswith(str(plan.problems[0])) and "chosen   forced: naive" in text
    assert "paper    " + BY_NAME["naive"].paper in text
    for name in BY_NAME:
        assert name in text
    assert repr(plan) == f"<Plan filter_rows by naive: {plan.problems[0]}>"
    two = fastconv.plan(smooth_twice, np.ones(20))
    assert len(two.problems) == 2 and isinstance(two.config, tuple) and "+" not in two.method


def test_the_kernel_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = fastconv.plan(filter_rows, np.ones((2, 50)), np.ones(5), method="naive")
    step = type(BY_NAME["naive"].plan(plan.problems[0], {}, this_machine()))
    packs = []
    pack = step.pack

    def counted(self: Any, w: Any) -> Any:
        packs.append(w.shape)
        return pack(self, w)

    monkeypatch.setattr(step, "pack", counted)
    plan(np.ones((2, 50)))
    plan(np.zeros((2, 50)))
    assert not packs
    filter_rows(np.ones((2, 50)), np.ones(5), method="naive")
    assert len(packs) == 1


def test_the_kernel_is_copied() -> None:
    w = np.ones(5)
    plan = fastconv.plan(filter_rows, np.ones((2, 50)), w)
    w[...] = np.nan
    assert (plan(np.ones((2, 50))) == 5).all()
    # in other memory order, whose plan packs for itself
    assert (plan(np.ones((50, 2)).T) == 5).all()


def test_swapped_operands_are_not_packed() -> None:
    """valid mode with a longer second operand: what the engine calls kernel is then the data."""
    x, w = RNG.standard_normal(6), RNG.standard_normal(40)
    plan = fastconv.plan(fastconv.convolve, x, w, mode="valid")
    for data in (x, x + 1):
        expected = scipy.signal.convolve(data, w, mode="valid", method="direct")
        np.testing.assert_allclose(plan(data), expected, atol=1e-12)


def test_another_shape_or_dtype_is_refused() -> None:
    plan = fastconv.plan(fastconv.conv2d, X, W)
    with pytest.raises(ValueError, match=r"planned shape \(2, 3, 12, 13\), got \(2, 3, 12, 12\)"):
        plan(X[..., :-1])
    with pytest.raises(ValueError, match="planned shape"):
        plan(X[0])
    with pytest.raises(TypeError, match="planned dtype float32, got float64"):
        plan(X.astype("f8"))
    with pytest.raises(ValueError, match="expected out of shape|out"):
        plan(X, out=np.empty((2, 5, 10, 10), "f4"))


@pytest.mark.parametrize("method", METHODS)
def test_one_plan_in_eight_threads(method: str) -> None:
    try:
        plan = fastconv.plan(fastconv.conv2d, X, W, padding=1, method=method)
    except ValueError as error:
        pytest.skip(str(error))
    inputs = [RNG.standard_normal(X.shape).astype("f4") for _ in range(8)]
    expected = [plan(x) for x in inputs]
    wrong: list[Any] = []
    begin = threading.Barrier(8)

    def work(i: int) -> None:
        begin.wait()
        for repeat in range(20):
            y = plan(inputs[i])
            if not np.array_equal(y, expected[i]):
                wrong.append((i, repeat, np.abs(y - expected[i]).max()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_planning_computes_nothing(monkeypatch: pytest.MonkeyPatch, fresh_plans: None) -> None:
    def execute(*arguments: Any) -> None:
        raise AssertionError("it computed")

    for solver in SOLVERS:
        if solver.why_not(fastconv.Problem.parse("conv2d f32 n2 c3 h12 w13 k5 r3 s3")) is None:
            choice = _planner.choose(fastconv.Problem.parse("conv2d f32 n2 c3 h12 w13 k5 r3 s3"),
                                     method=solver.name)  # fmt: skip
            monkeypatch.setattr(type(choice.plan), "execute", execute)
    fastconv.plan(fastconv.conv2d, X, W)
    fastconv.candidates(fastconv.conv2d, X, W)
    out = np.full((2, 5, 10, 11), 7, "f4")
    fastconv.candidates(fastconv.conv2d, X, W, out=out)
    assert (out == 7).all()


def test_candidates() -> None:
    found = fastconv.candidates(fastconv.conv2d, X, W, padding=1)
    assert {c.method for c in found} == set(BY_NAME)
    for c in found:
        if c.refused is None:
            assert c.seconds > 0 and c.workspace_bytes > 0 and c.error_bound > 0
            y = fastconv.conv2d(X, W, padding=1, method=c.method, config=c.config)
            assert y.shape == (2, 5, 12, 13)
        else:
            assert c.refused
    smallest = min(c.workspace_bytes for c in found if c.refused is None)
    limited = fastconv.candidates(fastconv.conv2d, X, W, padding=1, workspace_limit=smallest)
    assert len(limited) == len(found)
    for c in limited:
        assert (c.refused is None) == (0 < c.workspace_bytes <= smallest)
    with pytest.raises(ValueError, match="no method can solve"):
        fastconv.candidates(fastconv.conv2d, X, W, padding=1, workspace_limit=smallest - 1)


def test_steps_of_a_call() -> None:
    """Equal problems of a call are listed once."""
    found = fastconv.candidates(smooth_twice, np.ones(20))
    assert len({c.problem for c in found}) == len({str(c.problem) for c in found}) == 1


def test_tune(monkeypatch: pytest.MonkeyPatch, fresh_plans: None) -> None:
    """The winner is used from then on, prepared or not."""
    raced = []

    def race(found: Any, machine: Any, budget: float, progress: Any, **options: Any) -> Any:
        import dataclasses

        raced.append((found[0].problem.prepared, budget))
        naive = next(c for c in found if c.method == "naive")
        timed = dataclasses.replace(naive, source="timed", seconds=1e-9)
        return _tuner.Race((timed,), complete=True)

    monkeypatch.setattr(_tuner, "race", race)
    x, w = np.ones((1, 1, 77)), np.ones((1, 1, 5))
    try:
        found = fastconv.tune(fastconv.conv1d, x, w, budget=0.5)
        assert [c.method for c in found] == ["naive"]
        assert sorted(prepared for prepared, _ in raced) == [False, True]
        assert sum(budget for _, budget in raced) == 0.5
        fastconv.conv1d(x, w)
        (choice,) = _engine._cache.values()
        assert choice.plan.solver.name == "naive" and choice.reason.startswith("wisdom")
        assert fastconv.plan(fastconv.conv1d, x, w).method == "naive"
    finally:
        from fastconv import _wisdom

        _wisdom.clear()


@pytest.mark.parametrize("fn, x, w, options, error, message", [
    (np.convolve, np.ones(4), np.ones(2), {}, TypeError, "expected a fastconv function"),
    (smooth_twice, np.ones(9), np.ones(3), {}, TypeError, "takes no kernel: pass w=None"),
    (fastconv.conv2d, X, W, {"colour": "red"}, TypeError, "conv2d: .*colour"),
    (fastconv.conv2d, X, W[:, :2], {}, ValueError, "channels"),
    (fastconv.conv2d, X, W, {"method": "nope"}, ValueError, "expected a method out of"),
])  # fmt: skip
def test_refused(fn: Any, x: Any, w: Any, options: Any, error: Any, message: str) -> None:
    for prepare in (fastconv.plan, fastconv.candidates, fastconv.tune):
        with pytest.raises(error, match=message):
            prepare(fn, x, w, **options)


def test_a_failed_plan_leaves_no_recorder() -> None:
    with pytest.raises(ValueError):
        fastconv.plan(fastconv.conv2d, X, W, stride=0)
    y = run(X, W, method="naive")
    np.testing.assert_array_equal(fastconv.conv2d(X, W, method="naive"), y)


def test_a_plan_keeps_its_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the planner would say by now, a plan runs what it was made of, packed once."""
    x, w = np.ones((1, 4, 9, 9), "f4"), np.ones((8, 4, 3, 3), "f4")
    planned = fastconv.plan(fastconv.conv2d, x, w, method="direct")
    _engine.forget_plans()

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a plan was chosen or packed anew")

    monkeypatch.setattr(_engine._planner, "choose", never)
    monkeypatch.setattr("fastconv._plan.Plan.pack_stored", never)
    assert (planned(x) == 36).all()
