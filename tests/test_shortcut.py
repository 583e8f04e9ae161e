"""The short way of calls met before: the same results, errors and arrays as the long one."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Array
from scipy import ndimage as peer
from strategies import FORMS, in_form

import fastconv
from fastconv import _engine, ndimage
from fastconv._ext import core
from fastconv._shortcut import Passes, Shortcut

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 9, 10)).astype("f4")
W = RNG.standard_normal((6, 4, 3, 3)).astype("f4")
B = RNG.standard_normal(6).astype("f4")

pytestmark = pytest.mark.usefixtures("fresh_plans")


def known() -> list[Shortcut | None]:
    return list(_engine._shortcuts._known.values())


@pytest.fixture
def no_front_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Once called, `run` must not be reached again."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the long way was taken")

    def close() -> None:
        for module in (fastconv.nn, fastconv.signal):
            monkeypatch.setattr(module, "run", never)

    yield close


#: Calls that should take the short way, and the arrays that they take.
CALLS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]], dict[str, Any]]] = {
    "conv1d": (fastconv.conv1d, [(2, 4, 20), (6, 4, 3)], {"padding": 1}),
    "conv2d": (fastconv.conv2d, [(2, 4, 9, 10), (6, 4, 3, 3)], {"padding": (1, 2), "stride": 2}),
    "unbatched": (fastconv.conv2d, [(4, 9, 10), (6, 4, 3, 3)], {"padding": "same"}),
    "channels last": (fastconv.conv2d, [(2, 9, 10, 4), (6, 4, 3, 3)], {"layout": "NHWC"}),
    "bias": (fastconv.conv2d, [(2, 4, 9, 10), (6, 2, 3, 3), (6,)], {"groups": 2}),
    "gelu": (fastconv.conv2d, [(2, 4, 9, 10), (6, 4, 3, 3), (6,)], {"activation": "gelu"}),
    "clamp": (fastconv.conv1d, [(2, 4, 20), (6, 4, 3)], {"activation": ("clamp", -0.5, None)}),
    "circular": (fastconv.conv2d, [(2, 4, 9, 10), (6, 4, 3, 3)],
                 {"padding": 1, "padding_mode": "circular"}),
    "conv3d": (fastconv.conv3d, [(1, 2, 5, 6, 7), (3, 2, 2, 2, 3)], {}),
    "transposed": (fastconv.conv_transpose2d, [(2, 4, 5, 6), (4, 3, 3, 3)], {"stride": 2}),
    "convolve": (fastconv.convolve, [(30,), (7,)], {}),
    "convolve same": (fastconv.convolve, [(30, 9), (7, 4)], {"mode": "same"}),
    "convolve swapped": (fastconv.convolve, [(7,), (30,)], {"mode": "valid"}),
    "correlate": (fastconv.correlate, [(30, 9), (7, 4)], {"mode": "full"}),
    "correlate swapped": (fastconv.correlate, [(7,), (30,)], {"mode": "valid"}),
    "convolve2d": (fastconv.signal.convolve2d, [(30, 9), (7, 4)],
                   {"boundary": "fill", "fillvalue": 1.5}),
    "fftconvolve": (fastconv.signal.fftconvolve, [(300,), (70,)], {}),
    "conv2d_input": (lambda w, g, **o: fastconv.nn.conv2d_input((2, 4, 9, 10), w, g, **o),
                     [(6, 4, 3, 3), (2, 6, 7, 8)], {}),
    "conv2d_weight": (lambda x, g, **o: fastconv.nn.conv2d_weight(x, (6, 4, 3, 3), g, **o),
                      [(2, 4, 9, 10), (2, 6, 7, 8)], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "i8", "u1", "?"])
def test_the_short_way_gives_what_the_long_one_gives(
    name: str, dtype: str, no_front_end: Callable[[], None]
) -> None:
    function, shapes, options = CALLS[name]
    if dtype == "c8" and ("activation" in options or name.startswith(("corr", "conv2d_"))):
        pytest.skip("not defined, or conjugated into a new array")
    whole = dtype in ("i8", "u1", "?")
    if whole and ("activation" in options or name in ("convolve2d", "fftconvolve")):
        pytest.skip("not defined, or of floats")
    sets = [
        [(RNG.standard_normal(s) + (1j if dtype == "c8" else 0)).astype(dtype) for s in shapes]
        for _ in range(3)
    ]
    if whole:
        sets = [[RNG.integers(0, 99, s).astype(dtype) for s in shapes] for _ in range(3)]
    else:
        sets[2][1][(0,) * sets[2][1].ndim] = np.inf
    expected = []
    for arrays in sets:
        _engine.forget_plans()
        with np.errstate(invalid="ignore"):
            expected.append(function(*arrays, **options))
    out = np.empty_like(expected[0])
    function(*sets[0], out=out, **options)
    assert [type(d) for d in known()] == [Shortcut, Shortcut]
    no_front_end()
    for arrays, right in zip(sets, expected):
        with np.errstate(invalid="ignore"):
            y = function(*arrays, **options)
            assert function(*arrays, out=out, **options) is out
        assert y.shape == right.shape and y.dtype == right.dtype and y.flags.c_contiguous
        assert not any(np.may_share_memory(y, a) for a in (*arrays, *expected, out))
        np.testing.assert_array_equal(y, right)
        np.testing.assert_array_equal(out, right)


def test_a_kernel_that_is_looked_at_takes_the_short_way_while_it_is_of_one_kind() -> None:
    """A plan made for an outer product is not taken for other kernels, nor the other way round."""
    x = RNG.standard_normal((120, 130))
    full, column = RNG.standard_normal((31, 41)), RNG.standard_normal((31, 1))
    kernels = [full, column * full[3], full + 1, np.ones_like(full), full]
    expected = []
    for w in kernels:
        _engine.forget_plans()
        expected.append(fastconv.convolve(x, w, mode="same"))
    for first, alike in ((0, [0, 2, 4]), (1, [1])):
        _engine.forget_plans()
        fastconv.convolve(x, kernels[first], mode="same")
        (shortcut,) = known()
        assert shortcut is not None
        assert [i for i, w in enumerate(kernels) if shortcut((x, w)) is not None] == alike
        for w, right in zip(kernels, expected):
            np.testing.assert_array_equal(fastconv.convolve(x, w, mode="same"), right)


def test_a_residual_of_each_call(no_front_end: Callable[[], None]) -> None:
    r = RNG.standard_normal((2, 6, 7, 8)).astype("f4")
    sums = fastconv.conv2d(X, W, B)
    fastconv.conv2d(X, W, B, residual=r)
    plan = fastconv.plan(fastconv.conv2d, X, W, bias=B, activation="relu")
    plain = fastconv.plan(fastconv.conv2d, X, W, bias=B)
    own = plain(X)
    for p in (plan, plain):
        p(X), p(X, residual=r), p(X, out=np.empty_like(r), residual=r)
    no_front_end()
    np.testing.assert_array_equal(fastconv.conv2d(X, W, B, residual=2 * r), sums + 2 * r)
    np.testing.assert_array_equal(plan(X), np.maximum(own, 0))
    for residual in (3 * r, -r):
        out = np.empty_like(r)
        assert plan(X, out, residual) is out
        np.testing.assert_array_equal(out, np.maximum(own + residual, 0))


@pytest.mark.parametrize("form", FORMS)
def test_arrays_that_lie_otherwise(form: str) -> None:
    """The plain call that was met first says nothing about strides, byte order or alignment."""
    expected = fastconv.conv2d(X, W, B)
    x, w = in_form(X, form), in_form(W, form)
    for args in ((x, W), (X, w), (x, w)):
        like = fastconv.conv2d(*(a.astype("f4", order="C") for a in args), B)
        np.testing.assert_allclose(fastconv.conv2d(*args, B), like, rtol=0, atol=1e-4)
    out = in_form(np.zeros_like(expected), form)
    if out.flags.writeable and form != "broadcast":
        assert fastconv.conv2d(X, W, B, out=out) is out
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-4)
    elif form == "read-only":
        fastconv.conv2d(X, W, B, out=np.empty_like(expected))
        with pytest.raises(ValueError, match="read-only"):
            fastconv.conv2d(X, W, B, out=out)


@pytest.mark.parametrize("good, bad, error", [
    ({"stride": 1}, {"stride": True}, TypeError),
    ({"stride": 1}, {"stride": 1.0}, TypeError),
    ({"padding": (1, 1)}, {"padding": (1.0, 1)}, TypeError),
    ({"padding": (1, 1)}, {"padding": (True, 1)}, TypeError),
    ({"activation": ("clamp", 0, 1)}, {"activation": ("clamp", 2, 1)}, ValueError),
    ({"threads": 1}, {"threads": 0}, ValueError),
    ({"method": "direct"}, {"method": "nope"}, ValueError),
])  # fmt: skip
def test_what_was_refused_stays_refused(good: Any, bad: Any, error: Any) -> None:
    for _ in range(2):
        fastconv.conv2d(X, W, **good)
        with pytest.raises(error):
            fastconv.conv2d(X, W, **bad)
    with pytest.raises(TypeError, match="one dtype"):
        fastconv.conv2d(X, W.astype("f8"), **good)
    with pytest.raises(TypeError, match="mask"):
        fastconv.conv2d(np.ma.array(X), W, **good)
    with pytest.raises(ValueError):
        fastconv.conv2d(X, W[:, :3].copy(), **good)


def test_out_that_overlaps() -> None:
    w = RNG.standard_normal((4, 4, 3, 3)).astype("f4")
    found = fastconv.candidates(fastconv.conv2d, X, w, padding=1)
    config = next(c.config for c in found if c.method == "direct")
    how: dict[str, Any] = {"padding": 1, "method": "direct", "config": config}
    expected = fastconv.conv2d(X, w, **how)
    fastconv.conv2d(X, w, out=np.empty_like(X), **how)
    x = X.copy()
    assert fastconv.conv2d(x, w, out=x, **how) is x
    np.testing.assert_array_equal(x, expected)
    # a plan's bias, which is no argument of its calls
    memory = RNG.standard_normal(4 + X.size).astype("f4")
    bias = memory[:4]
    plan = fastconv.plan(fastconv.conv2d, X, w, padding=1, bias=bias)
    right = plan(X)
    y = memory[: X.size].reshape(X.shape)
    np.testing.assert_array_equal(plan(X, out=y), right)


def test_a_plan_with_an_out_of_its_own() -> None:
    out = np.empty((2, 6, 7, 8), "f4")
    plan = fastconv.plan(fastconv.conv2d, X, W, out=out)
    for _ in range(3):
        out[...] = 0
        assert plan(X) is out and out.any()
    assert plan(X, out=np.empty_like(out)) is not out


def test_a_plan_whose_data_are_what_the_engine_calls_kernel() -> None:
    plan = fastconv.plan(
        fastconv.convolve, np.ones(7), np.arange(30.0), mode="valid", method="direct"
    )  # whose sums of whole numbers are exact
    for scale in (1, 2, 3):
        np.testing.assert_array_equal(plan(np.full(7, float(scale))), scale * plan(np.ones(7)))


def test_one_array_twice() -> None:
    a = RNG.standard_normal(20)
    both = fastconv.convolve(a, a)
    b = RNG.standard_normal(20)
    np.testing.assert_allclose(fastconv.convolve(a, b), np.convolve(a, b), atol=1e-12)
    np.testing.assert_allclose(fastconv.convolve(b, a), np.convolve(a, b), atol=1e-12)
    np.testing.assert_allclose(both, np.convolve(a, a), atol=1e-12)


def test_modes_of_tuning_and_forgetting() -> None:
    fastconv.conv2d(X, W)
    (first,) = known()
    with fastconv.autotune("off"):
        fastconv.conv2d(X, W)
    assert len(known()) == 2 and known()[0] is first
    _engine.forget_plans()
    assert not known()


def test_planning_passes_through() -> None:
    """What is met already is still planned, listed and recorded."""
    fastconv.conv2d(X, W)
    fastconv.conv2d(X, W)
    assert fastconv.plan(fastconv.conv2d, X, W).problems[0].prepared
    assert {c.method for c in fastconv.candidates(fastconv.conv2d, X, W)} >= {"direct", "naive"}


def test_the_number_of_calls_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv._shortcut.SIZE", 3)
    for n in range(10, 20):
        fastconv.convolve(np.ones(n), np.ones(3))
        fastconv.convolve(np.ones(n), np.ones(3))
    assert len(known()) == 3


def test_from_many_threads() -> None:
    jobs = [(RNG.standard_normal(30 + i % 3), RNG.standard_normal(5)) for i in range(8)]
    wrong = []
    begin = threading.Barrier(len(jobs))

    def work(a: Array, b: Array) -> None:
        begin.wait()
        for _ in range(200):
            if not np.allclose(fastconv.convolve(a, b), np.convolve(a, b)):
                wrong.append(a.shape)

    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@given(a=st.data())
def test_signatures_differ(a: st.DataObject) -> None:
    """Equal keys mean equal types, values and kinds of arrays."""
    simple = st.one_of(
        st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, 1.0, 2.0, "1", "p"]),
        st.builds(np.zeros, st.lists(st.integers(0, 2), max_size=2).map(tuple),
                  st.sampled_from(["f4", "f8", "i4"])),
    )  # fmt: skip
    value = st.one_of(simple, st.tuples(simple), st.tuples(simple, simple), st.just(()))

    def text(v: Any) -> str:
        if isinstance(v, tuple):
            return f"({','.join(map(text, v))},)"
        return f"{v.shape}{v.dtype}" if isinstance(v, np.ndarray) else repr(v)

    calls = [
        (tuple(a.draw(st.lists(value, max_size=3))), a.draw(st.dictionaries(
            st.sampled_from(["p", "q"]), value, max_size=2))) for _ in range(2)
    ]  # fmt: skip
    texts = [(text(args), [(k, text(v)) for k, v in options.items()]) for args, options in calls]
    keys = [core.signature(None, args, options) for args, options in calls]
    assert None not in keys
    assert (keys[0][0] == keys[1][0]) == (texts[0] == texts[1])  # type: ignore[index]
    recent = core.Recent(2)
    recent.keep(None, "off", *calls[0], len)
    assert (recent.call(None, "off", *calls[1]) is not NotImplemented) == (texts[0] == texts[1])
    if texts[0] == texts[1]:
        assert recent.call(None, "off", *calls[1]) == len(keys[1][1])  # type: ignore[index]
    for owner, mode in ((None, "cached"), (len, "off")):
        assert recent.call(owner, mode, *calls[0]) is NotImplemented


def test_signatures_that_are_none() -> None:
    for value in ([1], {}, np.float64(1), np.zeros(4)[::2], np.zeros(2, ">f4"), {1}, 1j):
        assert core.signature(None, (value,), {}) is None
        recent = core.Recent(1)
        recent.keep(None, None, (value,), {}, len)
        assert recent.call(None, None, (value,), {}) is NotImplemented


def test_what_is_found_by_its_words() -> None:
    """Strings that are equal, an `out`, numbers too large for a word, arguments without end."""
    recent = core.Recent(2)
    name = "".join(["va", "lid"])
    recent.keep(known, None, (X, name), {"out": None}, list)
    found = recent.call(known, None, (X, name), {"out": None})
    assert len(found) == 1 and found[0] is X
    assert recent.call(known, None, (X, "".join(["va", "lid"])), {"out": None}) is NotImplemented
    y, read_only = np.empty(3), np.empty(3)
    read_only.setflags(write=False)
    recent.keep(known, None, (B,), {"out": y}, lambda arrays: arrays[-1])
    assert recent.call(known, None, (B,), {"out": y}) is y
    assert recent.call(known, None, (B,), {"out": read_only}) is NotImplemented
    other = np.empty(9)
    recent.keep(known, None, (other[:3],), {"out": y}, lambda arrays: arrays[-1])
    assert recent.call(known, None, (other[:3],), {"out": other[2:5]}) is NotImplemented, (
        "they overlap"
    )
    assert recent.call(known, None, (other[:3],), {"out": other[3:6]}) is not NotImplemented
    for arguments in ((2**80,), tuple(range(200)), ((X,) * 40,)):
        recent.keep(known, None, arguments, {}, len)
        assert recent.call(known, None, arguments, {}) is NotImplemented
    recent.clear()
    assert recent.call(known, None, (B,), {"out": y}) is NotImplemented
    for n in range(9):
        recent.keep(known, None, (n,), {}, lambda arrays: X)
    assert (
        recent.call(known, None, (8,), {}) is X
        and recent.call(known, None, (5,), {}) is NotImplemented
    )


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "c8", "c16", "G"])
def test_is_finite(dtype: str) -> None:
    for form in FORMS:
        for bad in (np.nan, np.inf, -np.inf):
            a = RNG.standard_normal((3, 4, 5)).astype(dtype)
            assert core.is_finite(in_form(a, form)), form
            for place in ((0, 0, 0), (2, 3, 4), (1, 2, 0)):
                b = a.copy()
                b[place] = complex(1, bad) if dtype in ("c8", "c16", "G") else bad
                shown = in_form(b, form)
                assert core.is_finite(shown) == np.isfinite(shown).all(), form
    assert core.is_finite(np.zeros((0, 3), dtype))


@pytest.mark.usefixtures("fresh_plans")
def test_kernels_of_one_shape_are_looked_at_each_time(estimates: None) -> None:
    """A call whose plan depends on the kernel's values has no shortcut."""
    x = RNG.standard_normal((1, 2, 150, 151)).astype("f4")
    product = np.einsum("ki,kj->kij", *RNG.standard_normal((2, 2, 21))).astype("f4")[:, None]
    kernels = [product, RNG.standard_normal((2, 1, 21, 21)).astype("f4")]
    right = [fastconv.conv2d(x, w, groups=2, method="naive") for w in kernels]
    magnitude = max(fastconv.conv2d(abs(x), abs(w), groups=2).max() for w in kernels)
    allowed = 2 * kernels[0][0].size * np.finfo("f4").eps * magnitude  # of sums, and of Fourier's B
    for i in (0, 1, 0, 0, 1, 1, 0):
        y = fastconv.conv2d(x, kernels[i], groups=2)
        np.testing.assert_allclose(y, right[i], rtol=0, atol=allowed)
    methods = [fastconv.plan(fastconv.conv2d, x, w, groups=2).method for w in kernels]
    assert methods[0] == "separable" != methods[1]


FILTERS: dict[str, tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "sobel": ("f4", ndimage.sobel, (), {}),
    "sobel along": ("f8", ndimage.sobel, (0,), {"mode": "constant", "cval": 0.0}),
    "sobel of bytes": ("u1", ndimage.sobel, (), {}),
    "sobel of bytes to int16": ("u1", ndimage.sobel, (), {"output": np.int16}),
    "prewitt to int16": ("u1", ndimage.prewitt, (), {"output": np.dtype("i2")}),
    "uniform": ("f4", ndimage.uniform_filter, (3,), {}),
    "uniform of two modes": ("f4", ndimage.uniform_filter, (5,), {"mode": ("wrap", "nearest")}),
    "uniform of bytes": ("u1", ndimage.uniform_filter, (9,), {"method": "separable"}),
    "uniform of a line": ("u1", ndimage.uniform_filter1d, (9,), {"method": "separable"}),
    "gaussian": ("f4", ndimage.gaussian_filter, (1.5,), {"threads": 2}),
    "gaussian of bytes": ("u1", ndimage.gaussian_filter, (1.5,), {"method": "separable"}),
    "gaussian of lines": ("f8", ndimage.gaussian_filter1d, (1.5,), {"order": 1}),
    "laplace": ("f4", ndimage.laplace, (), {}),
    "laplace of bytes": ("u1", ndimage.laplace, (), {"mode": "wrap"}),
    "correlate": ("f4", ndimage.correlate, (RNG.standard_normal((3, 3)),), {}),
    "convolve": ("f8", ndimage.convolve, ([[1, 2], [3, 5]],), {"mode": "nearest"}),
    "correlate bytes": ("u1", ndimage.correlate, (RNG.integers(-9, 9, (5, 5)),), {}),
    "correlate lines": ("f4", ndimage.correlate1d, (np.array([1, 2, 1]), 0), {}),
    "convolve lines": ("i2", ndimage.convolve1d, ([0.1, 0.7],), {"origin": -1}),
}


@pytest.mark.parametrize("to", [None, "named", "placed"])
@pytest.mark.parametrize("name", FILTERS)
def test_filters_of_few_weights(name: str, to: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that make their own and those that are given them, into new arrays and the caller's."""
    dtype, function, args, options = FILTERS[name]
    if to is not None and "output" in options:
        options = {k: v for k, v in options.items() if k != "output"}
    sets = [(200 * RNG.random((200, 141))).astype(dtype) for _ in range(3)]
    if dtype[0] == "f":
        sets[2][40, 50], sets[2][70, 7] = np.nan, np.inf
    parameters = list(inspect.signature(function).parameters.values())
    place = [p.name for p in parameters].index("output")
    filled = [p.default for p in parameters[1 + len(args) : place]]

    def call(x: Array) -> Array:
        if to is None:
            return function(x, *args, **options)
        out = np.full_like(x, 7)
        if to == "named":
            assert function(x, *args, output=out, **options) is out
        elif filled and "order" in options:
            assert function(x, *args, -1, 1, out) is out
        else:
            assert function(x, *args, *filled, out, **options) is out
        return out

    expected = []
    with np.errstate(invalid="ignore"):
        for x in sets:
            _engine.forget_plans()
            expected.append(call(x))
        assert [type(d) for d in _engine._filters._known.values()] == [Passes]
        run = ndimage.run
        for x, right in zip(sets, expected):
            # not reached again, but by what is made in another way where it is not finite
            again = name == "laplace" and not np.isfinite(right).all()
            monkeypatch.setattr(ndimage, "run", run if again else None)
            for _ in range(2):
                y = call(x)
                assert y.dtype == right.dtype and y.flags.writeable
                assert not np.may_share_memory(y, x)
                np.testing.assert_array_equal(y, right)


@pytest.mark.parametrize("first", ["finite", "not finite"])
def test_what_is_not_finite_is_made_in_another_way(first: str) -> None:
    """One kernel of a Laplacian brings infinities of its corners; sums of two passes do not."""
    x = RNG.random((40, 60))
    bad = x.copy()
    bad[7, 9] = np.inf
    right = {True: peer.laplace(x), False: peer.laplace(bad)}
    plan = fastconv.plan(ndimage.laplace, x)
    for finite in (first == "finite", True, False, True, False):
        for function in (ndimage.laplace, plan):
            y = function(x if finite else bad)
            np.testing.assert_allclose(y, right[finite], rtol=1e-12, atol=1e-12)
    assert [type(d) for d in _engine._filters._known.values()] == [Passes]


def test_filters_are_told_apart_by_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """By values, shapes and dtypes; and where a hash does not tell, by the weights themselves."""
    x = RNG.standard_normal((50, 40))
    kernels = [np.ones((2, 3)), np.ones((3, 2)), np.ones((2, 3), "i8"), -np.ones((2, 3))]
    right = [ndimage.correlate(x, w, method="naive") for w in kernels]
    for alike in (False, True):
        if alike:
            monkeypatch.setattr(_engine, "hash", lambda _: 0, raising=False)
            _engine.forget_plans()
        for _ in range(3):
            for w, y in zip(kernels, right):
                np.testing.assert_allclose(ndimage.correlate(x, w), y, atol=1e-14)
    changed = kernels[0]
    changed[0, 0] = 5
    y = ndimage.correlate(x, changed, method="naive")
    np.testing.assert_allclose(ndimage.correlate(x, changed), y, atol=1e-14)
    out = np.empty_like(x)
    with pytest.raises(TypeError, match="out"):
        ndimage.correlate(x, changed, out=out)  # type: ignore[call-arg]
    for _ in range(2):
        inside = x.copy()
        ndimage.correlate(inside, changed, output=inside)
        np.testing.assert_allclose(inside, y, atol=1e-14)
        with pytest.warns(UserWarning, match="promoted"):
            ndimage.correlate(x, changed * 1j, output=np.float64)


def test_filters_of_other_calls_take_the_long_way() -> None:
    """Those whose results are more than sums, and those that calls of one kind are not told by."""
    x = RNG.integers(0, 256, (90, 80), "u1")
    out = np.empty_like(x)
    right = ndimage.uniform_filter(x, 5)
    for _ in range(3):
        assert ndimage.uniform_filter(x, 5, output=out) is out
        np.testing.assert_array_equal(out, right)
        wide = ndimage.uniform_filter(x.astype("u2"), 5)  # divided
        np.testing.assert_array_equal(wide, right)
        assert ndimage.sobel(x, output="f4").dtype == np.float32
        assert ndimage.sobel(x, output=np.int16).min() < 0
        assert ndimage.sobel(x, output=np.dtype(">i2")).dtype == np.dtype(">i2")
        same = ndimage.gaussian_filter(x, 0)
        assert same is not x and (same == x).all() and not np.may_share_memory(same, x)
        with pytest.warns(UserWarning, match="promoted"):
            ndimage.sobel(x.astype("c8"), output=np.float32)
        with pytest.raises(ValueError, match="mode"):
            ndimage.sobel(x, mode="no such")
    with _engine._planner.autotune("record"):
        np.testing.assert_array_equal(ndimage.uniform_filter(x, 5), right)


def test_plans_of_quantised_layers_take_the_short_way(no_front_end: Callable[[], None]) -> None:
    """What they make of scales, zero points and biases is kept while these hold the same bytes."""
    x, w = RNG.integers(0, 256, (1, 4, 9, 10), np.uint8), RNG.integers(-99, 99, (6, 4, 3, 3), "i1")
    scale, bias = np.full(6, 0.01, np.float32), np.arange(6, dtype=np.int32)
    given: dict[str, Any] = {"x_scale": 0.5, "x_zero_point": 7, "y_scale": 0.9, "padding": 1}
    given |= {"w_scale": scale, "w_zero_point": 0, "y_zero_point": 3, "bias": bias}
    listed = [0.01] * 6
    plans = [
        fastconv.plan(fastconv.nn.qlinear_conv, x, w, **given),
        fastconv.plan(fastconv.nn.qlinear_conv, x, w, **{**given, "w_scale": listed}),
        fastconv.plan(fastconv.nn.conv_integer, x, w, x_zero_point=7, padding=1),
    ]
    before = [plan(x).copy() for plan in plans]
    listed[:] = [9.0] * 6
    later = (x + 1) % 200
    right = [
        fastconv.nn.qlinear_conv(later, w=w, **given),
        fastconv.nn.conv_integer(later, w, 7, padding=1),
    ]
    scale[2], bias[4] = 0.02, 700
    changed = [fastconv.nn.qlinear_conv(later, w=w, **given), plans[0](later)]
    np.testing.assert_array_equal(*changed)
    assert (changed[0] != right[0]).any(axis=(0, 2, 3)).tolist() == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    scale[2], bias[4] = 0.01, 4
    out = np.empty_like(right[0])
    plans[0](x, out=out)  # watched
    no_front_end()
    for plan, y, old in zip(plans, (right[0], right[0], right[1]), before):
        np.testing.assert_array_equal(plan(later), y)
        np.testing.assert_array_equal(plan(x), old)
    assert plans[0](later, out=out) is out
    np.testing.assert_array_equal(out, right[0])
