"""`run`, the door from the front ends: geometry, memory, the cache of plans, what it refuses."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MIXING, Array, check, mixed_magnitude, oracle
from strategies import FORMS, cases, in_form, options

from fastconv import _engine, _planner
from fastconv._accuracy import allowed_error, epsilon
from fastconv._engine import layout_of, run
from fastconv._problem import Problem, numpy_dtype
from fastconv.solvers import SOLVERS

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 9, 10))
W = RNG.standard_normal((6, 4, 3, 3))
#: Methods that solve a layer of several channels.
LAYER = Problem.parse("conv2d f64 n2 c4 h9 w10 k6 r3 s3")
NAMES = [s.name for s in SOLVERS if s.device == "cpu" and s.why_not(LAYER) is None]


def operands(method: str) -> tuple[Array, Array, dict[str, Any]]:
    """x, w and options that a method accepts, with an output of shape (2, 6, 7, 8)."""
    if method == "depthwise":
        return X[:, :3].copy(), W[:, :1].copy(), {"method": method, "groups": 3}
    return X, W, {"method": method}


@given(case=cases())
@settings(max_examples=150)
def test_run(case: tuple[Problem, Array, Array]) -> None:
    """Whatever is chosen keeps the promise of the accuracy asked."""
    problem, x, w = case
    y = run(x, w, **{**options(problem), "out_dtype": numpy_dtype(problem.y_dtype)})
    assert y.dtype == numpy_dtype(problem.y_dtype) and y.flags.c_contiguous
    check(problem, y, oracle(problem, x, w), allowed_error(problem), mixed_magnitude(problem, x, w))


@pytest.mark.parametrize("x_form", FORMS)
@pytest.mark.parametrize("w_form", FORMS)
def test_forms_of_memory(x_form: str, w_form: str) -> None:
    x, w = in_form(X, x_form), in_form(W, w_form)
    kept = x.tobytes(), w.tobytes()
    y = run(x, w, padding=((1, 1), (1, 1)), flip=True)
    expected = run(np.array(x, float, order="C"), np.array(w, float, order="C"),
                   padding=((1, 1), (1, 1)), flip=True)  # fmt: skip
    assert y.dtype == np.float64 and y.dtype.isnative
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    assert kept == (x.tobytes(), w.tobytes())


def test_memmap(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(run(x, W), run(X, W))


@given(
    size=st.integers(1, 9), kernel=st.integers(1, 4), e=st.integers(1, 4), stride=st.integers(1, 3),
    low=st.integers(-12, 5), high=st.integers(-12, 5),
)  # fmt: skip
@settings(max_examples=400)
def test_negative_padding_cuts(
    size: int, kernel: int, e: int, stride: int, low: int, high: int
) -> None:
    """As if the dilated, padded input had been cut: the oracle knows no other meaning."""
    x, w = np.arange(1.0, 2 * size + 1).reshape(2, 1, size), np.arange(1.0, kernel + 1)[None, None]
    geometry: dict[str, Any] = {
        "stride": (stride,),
        "input_dilation": (e,),
        "padding": ((low, high),),
    }
    if (size - 1) * e + 1 + low + high < kernel:
        with pytest.raises(ValueError, match="expected"):
            run(x, w, **geometry)
        return
    # whole numbers; whichever method is chosen may yet transform them
    expected = np.asarray(reference.conv(x, w, **geometry)[0], float)
    np.testing.assert_allclose(run(x, w, **geometry), expected, rtol=0, atol=1e-11)


def test_negative_padding_of_two_axes() -> None:
    geometry: dict[str, Any] = {"padding": ((-2, 3), (1, -3)), "boundary": "constant", "cval": 5.0}
    y = run(X, W, **geometry)
    np.testing.assert_allclose(y, reference.conv(X, W, **geometry)[0].astype(float), atol=1e-13)


@pytest.mark.parametrize("method", NAMES)
def test_out(method: str) -> None:
    """Any strides; the same object comes back; nothing beside it is touched."""
    x, w, same = operands(method)
    expected = run(x, w, **same)
    for order in ("C", "F"):
        out = np.empty(expected.shape, order=order)
        assert run(x, w, out=out, **same) is out
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)
    buffer = np.full((2, 6, 7, 20), 7.0)
    run(x, w, out=buffer[..., 16:0:-2], **same)
    np.testing.assert_allclose(buffer[..., 16:0:-2], expected, rtol=0, atol=1e-12)
    assert (buffer[..., 1::2] == 7).all() and (buffer[..., [0, 18]] == 7).all()
    single = np.empty(expected.shape, np.float32)
    np.testing.assert_array_equal(run(x, w, out=single, **same), expected.astype("f4"))


@pytest.mark.parametrize("method", NAMES)
def test_out_may_be_the_input(method: str) -> None:
    groups = 4 if method == "depthwise" else 1
    w = RNG.standard_normal((4, 4 // groups, 3, 3))
    same: dict[str, Any] = {"padding": ((1, 1), (1, 1)), "method": method, "groups": groups}
    expected = run(X, w, **same)
    for index in (np.s_[:], np.s_[::-1], np.s_[..., ::-1]):
        x = X.copy()
        out = x[index]
        assert run(x, w, out=out, **same) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("method", [n for n in NAMES if n not in ("winograd", "col2im")])
def test_out_may_be_the_kernel(method: str) -> None:
    x, w = RNG.standard_normal((1, 1, 30)), RNG.standard_normal((1, 1, 11))
    expected = run(x, w, stride=(2,), method=method)
    shared = w.copy()
    run(x, shared, stride=(2,), out=shared[..., :10], method=method)
    np.testing.assert_array_equal(shared[..., :10], expected)
    assert shared[0, 0, 10] == w[0, 0, 10]


def test_out_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"expected out of shape \(2, 6, 7, 8\), got \(2, 6, 7, 7\)"
    ):
        run(X, W, out=np.empty((2, 6, 7, 7)))
    fixed = np.zeros((2, 6, 7, 8))
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only|writ"):
        run(X, W, out=fixed)
    assert not fixed.any()


def test_bias() -> None:
    bias = RNG.standard_normal(12)[::2]
    for method in NAMES:
        x, w, same = operands(method)
        y, plain = run(x, w, bias=bias, **same), run(x, w, **same)
        np.testing.assert_allclose(y, plain + bias[:, None, None], rtol=0, atol=1e-12)
    wrongs: list[Any] = [np.ones(1), np.ones(5), np.ones(7), np.ones((6, 1)), np.float64(1)]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="bias"):
            run(X, W, bias=wrong)


@pytest.mark.parametrize("x_shape, w_shape, options", [
    ((0, 4, 9, 10), (6, 4, 3, 3), {}),
    ((2, 4, 9, 10), (0, 4, 3, 3), {}),
    ((2, 0, 9, 10), (6, 0, 3, 3), {}),
    ((2, 4, 0, 10), (6, 4, 3, 3), {"padding": ((2, 2), (0, 0))}),
    ((2, 4, 0, 10), (6, 4, 3, 3),
     {"padding": ((2, 2), (0, 0)), "boundary": "constant", "cval": 2.0}),
])  # fmt: skip
def test_empty(x_shape: Any, w_shape: Any, options: Any) -> None:
    x, w, bias = np.ones(x_shape), np.ones(w_shape), np.arange(w_shape[0]) + 0.5
    right, _ = reference.conv(x, w, bias=bias, **options)
    for method in ("auto", "naive"):
        y = run(x, w, bias=bias, method=method, **options)
        assert y.shape == right.shape
        np.testing.assert_array_equal(y, right.astype(float))


@pytest.mark.parametrize("changes, error, message", [
    ({"x": X[0, 0]}, ValueError, "expected x and w of one rank"),
    ({"x": X[0]}, ValueError, "expected x and w of one rank"),
    ({"x": X[:, :3]}, ValueError, r"expected x of 4 \* 1 channels"),
    ({"groups": 2}, ValueError, r"expected x of 4 \* 2 channels"),
    ({"groups": 0}, ValueError, "expected at least one group"),
    ({"groups": -1}, ValueError, "expected at least one group"),
    ({"stride": (0, 1)}, ValueError, "expected a stride of at least 1"),
    ({"stride": (1,)}, ValueError, "expected 2 values for stride"),
    ({"dilation": (-1, 1)}, ValueError, "expected a dilation of at least 1"),
    ({"input_dilation": (1, 0)}, ValueError, "expected an input dilation of at least 1"),
    ({"padding": ((0, 0),)}, ValueError, "expected 2 values for padding"),
    ({"padding": ((-5, -3), (0, 0))}, ValueError, "expected a kernel no larger than the padded"),
    ({"padding": ((-9, -9), (0, 0))}, ValueError, "expected padding that leaves some input"),
    ({"dilation": (5, 1)}, ValueError, "expected a kernel no larger than the padded input"),
    ({"boundary": "symm"}, ValueError, "expected a boundary out of"),
    ({"boundary": "wrap", "input_dilation": (2, 2)}, ValueError, "expected no input dilation"),
    ({"threads": 0}, ValueError, "expected at least one thread, got 0"),
    ({"threads": -2}, ValueError, "expected at least one thread, got -2"),
    ({"accuracy": "exact"}, ValueError, "expected an accuracy out of"),
    ({"method": "fftw"}, ValueError, "expected a method out of auto, "),
    ({"config": {}}, ValueError, "config= needs method="),
    ({"method": "naive", "config": {"tile": 3}}, ValueError, "expected a config of naive out of"),
    ({"x": X.astype(object)}, TypeError, "unsupported dtype"),
    ({"w": W.astype(object)}, TypeError, "unsupported dtype"),
    ({"x": X.astype("U8")}, TypeError, "unsupported dtype"),
    ({"dtype": "M8[s]"}, TypeError, "unsupported dtype"),
    ({"out_dtype": object}, TypeError, "unsupported dtype"),
])  # fmt: skip
def test_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"x": X, "w": W, **changes}
    with pytest.raises(error, match=message):
        run(arguments.pop("x"), arguments.pop("w"), **arguments)


@pytest.mark.parametrize("x_shape, w_shape, options", [
    ((1, 1, 2**40), (1, 1, 2**41), {}),
    ((1, 1, 2**40), (1, 1, 3), {"padding": ((2**62, 0),)}),
    ((1, 1, 2**40), (1, 1, 3), {"input_dilation": (2**30,)}),
    ((2**17, 1, 2**40), (1, 1, 3), {"padding": ((2**42, 0),)}),
    ((1, 1, 2**40), (2**30, 1, 1), {}),
    ((1, 3, 2**40), (1, 2, 3), {}),
])  # fmt: skip
def test_refused_before_memory_is_allocated(x_shape: Any, w_shape: Any, options: Any) -> None:
    """Terabytes by shape, one number in memory."""
    x, w = np.broadcast_to(1.0, x_shape), np.broadcast_to(1.0, w_shape)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected"):
            run(x, w, **options)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cval, dtype", [(np.nan, "i4"), (np.inf, "u1"), (1j, "i4"), (1j, "f4")])
def test_constant_that_the_dtype_cannot_hold(cval: complex, dtype: str) -> None:
    x, w = np.ones((1, 1, 4), dtype), np.ones((1, 1, 2), dtype)
    with pytest.raises(ValueError, match=r"(?i)cval|constant|fill"):
        run(x, w, padding=((1, 0),), boundary="constant", cval=cval)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, fresh_plans: None) -> list[Problem]:
    """The problems that the planner is asked about, as they come."""
    asked: list[Problem] = []
    choose = _planner.choose

    def counted(problem: Problem, **options: Any) -> Any:
        asked.append(problem)
        return choose(problem, **options)

    monkeypatch.setattr(_planner, "choose", counted)
    return asked


def test_plans_are_kept(chosen: list[Problem]) -> None:
    for _ in range(3):
        run(RNG.standard_normal(X.shape), RNG.standard_normal(W.shape),
            padding=((1, 1), (1, 1)))  # fmt: skip
    assert len(chosen) == 1


@pytest.mark.parametrize("changes", [
    {"x": X[:, :, :8]}, {"x": X.astype("f4")}, {"x": X.astype(">f8")}, {"w": W[:5]},
    {"w": W.astype("f4")}, {"x": np.asfortranarray(X)}, {"stride": (2, 1)}, {"dilation": (1, 2)},
    {"input_dilation": (2, 1)}, {"padding": ((0, 1), (0, 0))}, {"boundary": "wrap"},
    {"boundary": "constant", "cval": 3.0}, {"flip": True}, {"dtype": "c16"}, {"out_dtype": "f4"},
    {"method": "naive"}, {"accuracy": "strict"}, {"threads": 3}, {"workspace_limit": 1 << 30},
    {"method": "naive", "config": {}}, {"x": X[:, :2], "w": W[:, :1], "groups": 2},
])  # fmt: skip
def test_every_option_is_part_of_the_key(changes: dict[str, Any], chosen: list[Problem]) -> None:
    run(X, W)
    arguments: dict[str, Any] = {"x": X, "w": W, **changes}
    x, w = arguments.pop("x"), arguments.pop("w")
    y = run(x, w, **arguments)
    assert len(chosen) == 2
    np.testing.assert_array_equal(run(x, w, **arguments), y)
    assert len(chosen) == 2


def test_the_cache_is_bounded(chosen: list[Problem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engine, "_CACHE_SIZE", 4)
    for n in range(1, 10):
        run(np.ones((1, 1, n)), np.ones((1, 1, 1)))
        assert len(_engine._cache) <= 4
    run(np.ones((1, 1, 9)), np.ones((1, 1, 1)))
    assert len(chosen) == 9
    run(np.ones((1, 1, 1)), np.ones((1, 1, 1)))
    assert len(chosen) == 10, "the oldest went"
    _engine.forget_plans()
    assert not _engine._cache


def test_a_failed_call_is_not_kept(chosen: list[Problem]) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="expected a method"):
            run(X, W, method="fftw")
    assert len(chosen) == 2 and not _engine._cache


def test_layouts() -> None:
    assert layout_of(X) == "NC*"
    assert layout_of(np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)) == "N*C"
    assert layout_of(X[..., ::2]) == layout_of(X[..., ::-1]) == "strided"


def test_contract_at_each_accuracy(fresh_plans: None) -> None:
    for accuracy in ("strict", "balanced", "fast"):
        problem = Problem.parse("conv1d f32 n1 c1 w600 k1 s90 p89").replace(accuracy=accuracy)
        x, w = RNG.standard_normal((1, 1, 600), "f4"), RNG.standard_normal((1, 1, 90), "f4")
        y = run(x, w, padding=((89, 89),), accuracy=accuracy)
        mixed = None if accuracy == "strict" else mixed_magnitude(problem, x, w)
        check(problem, y, oracle(problem, x, w), allowed_error(problem) + epsilon(problem), mixed)
        (choice,) = [c for c in _engine._cache.values() if c.plan.problem.accuracy == accuracy]
        assert accuracy != "strict" or choice.plan.solver.name not in MIXING


@pytest.mark.parametrize("boundary", ["reflect", "mirror", "nearest", "wrap"])
def test_what_is_cut_cannot_be_extended(boundary: str) -> None:
    with pytest.raises(ValueError, match="expected padding of at least 0 with"):
        run(X, W, padding=((-1, 1), (0, 0)), boundary=boundary)


def test_threads_are_a_whole_number() -> None:
    with pytest.raises(TypeError):
        run(X, W, threads=1.5)  # type: ignore[arg-type]
