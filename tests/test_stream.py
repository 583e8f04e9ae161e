"""Streams: the same samples in the same places as in one call, however they come."""

from __future__ import annotations

import contextlib
import pickle
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Array, numpy_dtype, values
from strategies import EXACT, FLOATS, FORMS, in_form, special

import fastconv
from fastconv import Convolver, _partitions
from fastconv._ext import core


@contextlib.contextmanager
def levels_of(*sizes: int) -> Iterator[None]:
    """Kernels are cut at these sizes, as far as they are long enough; none: all taps are direct."""

    def partition(taps: int, block: int, rows: int, dtype: Any) -> Any:
        fit = [size for size in sizes if 2 * size - block < taps]
        return _partitions.cut(fit, taps, block) if fit and dtype.kind in "fc" else (taps, [])

    with mock.patch.object(_partitions, "partition", partition):
        yield


def full(x: Array, w: Array) -> tuple[Array, Array]:
    """The whole convolution of rows (rows, n) with rows of taps, in a wider type, and its S."""
    rows, taps = x.shape[0], w.shape[-1]
    kernel = np.broadcast_to(w, (rows, taps))[:, None]
    y, s = reference.conv(
        x[None], kernel, groups=rows, padding=[(taps - 1, taps - 1)], flip=True
    )  # fmt: skip
    return y[0], s[0]


def cut(x: Array, cuts: Sequence[int]) -> list[Array]:
    return np.split(x, sorted(cuts), axis=-1)


def streamed(stream: Convolver, chunks: Sequence[Array]) -> Array:
    return np.concatenate([*map(stream.process, chunks), stream.flush()], axis=stream.axis)


def check(y: Array, x: Array, w: Array, bound: float) -> None:
    """AssertionError unless y is the convolution within bound * max|x| * sum|w|."""
    right, s = full(x, w)
    assert y.shape == right.shape
    if y.dtype.kind in "biu":
        np.testing.assert_array_equal(y, right)
        return
    info = np.finfo(y.dtype)
    with np.errstate(all="ignore"):
        largest = np.where(np.isfinite(x), abs(x), 0).max(axis=1, keepdims=True).astype(s.dtype)
        allowed = bound * largest * abs(w).astype(s.dtype).sum(axis=-1, keepdims=True)
        # sums of subnormal numbers: each of some thousand operations may be off by half the
        # smallest
        allowed = allowed + s.dtype.type(info.smallest_subnormal) * 4096 * (1 + w.shape[-1])
        held = np.isfinite(s)  # no NaN and no Inf in the window
        fits = held & (s < s.dtype.type(info.max) / 4)
        error = np.maximum(abs(y.real.astype(s.dtype) - right.real),
                           abs(y.imag.astype(s.dtype) - right.imag))  # fmt: skip
        bad = fits & ~(error <= allowed)
    assert not bad.any(), (
        f"{bad.sum()} of {bad.size} are off, by {error[bad].max()}, first at {np.argwhere(bad)[0]}"
    )
    if y.dtype.kind == "f":
        np.testing.assert_array_equal(y[~held], right[~held].astype(y.dtype))
    else:
        assert not np.isfinite(y[~held]).any()


@st.composite
def streams(draw: st.DrawFn, dtypes: Sequence[str] = FLOATS) -> tuple[Any, ...]:
    """Sizes of levels, block size, rows of samples, kernel, cuts of the samples."""
    block = draw(st.integers(1, 40))
    sizes = [block << e for e in sorted(draw(st.sets(st.integers(0, 3), max_size=3)))]
    rows = draw(st.integers(1, 3))
    n, taps = draw(st.integers(1, 600)), draw(st.integers(1, 500))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    name = draw(st.sampled_from(dtypes))
    kind = draw(st.sampled_from(
        ("normal", "integers", "zeros", "sparse", "outlier", "denormal", "nan", "inf", "top")
    ))  # fmt: skip
    if kind == "top" and name in FLOATS:  # some samples as large as numbers are
        x = values(rng, name, (rows, n))
        x.real[rng.random(x.shape) < 0.02] = np.finfo(x.dtype).max
    else:
        x = special(rng, "normal" if kind == "top" else kind, name, (rows, n))
    w = values(rng, name, (draw(st.sampled_from((1, rows))), taps))
    cuts = draw(st.lists(st.integers(0, n), max_size=9))
    return sizes, block, x, w, cuts


@given(streams())
def test_is_the_convolution(case: tuple[Any, ...]) -> None:
    """Samples, places and error; and bits that do not depend on the cuts."""
    sizes, block, x, w, cuts = case
    kernel = w if len(w) > 1 else w[0]
    with levels_of(*sizes):
        stream = Convolver(kernel, block, channels=len(x))
        y = streamed(stream, cut(x, cuts))
        assert y.dtype == x.dtype
        check(y, x, w, stream.error_bound)
        assert stream.position == 0
        again = streamed(stream, [x])  # flush was a reset, and one chunk is another cut
        assert again.tobytes() == y.tobytes()


@given(streams(FLOATS + EXACT), st.integers(1, 700))
def test_throughput(case: tuple[Any, ...], block: int) -> None:
    _, _, x, w, cuts = case
    kernel = w if len(w) > 1 else w[0]
    stream = Convolver(kernel, block, "throughput", channels=len(x))
    chunks = cut(x, cuts)
    came = 0
    parts = []
    for chunk in chunks:
        parts.append(stream.process(chunk))
        came += chunk.shape[1]
        assert sum(part.shape[1] for part in parts) == came // block * block
        assert came - sum(part.shape[1] for part in parts) <= stream.latency_samples
    y = np.concatenate([*parts, stream.flush()], axis=1)
    check(y, x, w, stream.error_bound)
    assert streamed(stream, [x]).tobytes() == y.tobytes()


@given(streams(EXACT))
def test_integers_are_exact(case: tuple[Any, ...]) -> None:
    _, block, x, w, cuts = case
    stream = Convolver(w if len(w) > 1 else w[0], block, channels=len(x))
    assert stream.partitions == () and stream.error_bound == 0
    check(streamed(stream, cut(x, cuts)), x, w, 0)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("block, taps", [(128, 20000), (64, 5000), (127, 9001), (1024, 12345),
                                         (16, 9000)])  # fmt: skip
def test_partitions_as_chosen(name: str, block: int, taps: int) -> None:
    """Long kernels, cut as the cost model does, against the one-shot result and the reference."""
    rng = np.random.default_rng(taps)
    x, w = values(rng, name, (2, 9 * block + 2 * taps + 5)), values(rng, name, (taps,))
    stream = Convolver(w, block, channels=2)
    assert stream.partitions
    first = stream.partitions[0][1]
    for size, offset, count in stream.partitions:
        assert offset == first == 2 * size - block and size % block == 0
        first = offset + size * count
    assert first >= taps
    y = streamed(stream, cut(x, [1, block, 3 * block, taps]))
    wide = np.clongdouble if name in ("c64", "c128") else np.longdouble
    at = np.r_[0:5, block - 2 : block + 2, taps - 3 : taps + 3, y.shape[1] - 5 : y.shape[1]]
    for row, line in zip(x, y):
        padded = np.concatenate([np.zeros(taps - 1, wide), row, np.zeros(taps - 1, wide)])
        right = np.array([padded[n : n + taps] @ w[::-1].astype(wide) for n in at])
        scale = abs(x).max() * abs(w.astype(wide)).sum()
        assert abs(line[at] - right).max() <= stream.error_bound * scale
    one = fastconv.convolve(x, w[None], axes=1)
    candidates = fastconv.candidates(fastconv.convolve, x, w[None], axes=1)
    bound = stream.error_bound + max(c.error_bound for c in candidates if c.refused is None)
    assert abs(one - y).max() <= bound * scale


@given(streams(), st.data())
@settings(max_examples=30)
def test_pickled_in_the_middle(case: tuple[Any, ...], data: st.DataObject) -> None:
    """The copy goes on with the same bits, and so does what was copied."""
    sizes, block, x, w, cuts = case
    latency = data.draw(st.sampled_from(("low", "throughput")))
    at = data.draw(st.integers(0, x.shape[1]))
    with levels_of(*sizes):
        stream = Convolver(w[0], block, latency, channels=len(x))
        y = streamed(stream, [x])
        head = stream.process(x[:, :at])
        copy = pickle.loads(pickle.dumps(stream))
        assert copy.position == stream.position == at
        for each in (copy, stream):
            rest = streamed(each, cut(x[:, at:], [c - at for c in cuts if c >= at]))
            assert np.concatenate([head, rest], axis=1).tobytes() == y.tobytes()


@pytest.mark.parametrize("latency", ["low", "throughput"])
def test_reset_forgets(latency: str) -> None:
    rng = np.random.default_rng(0)
    x, w = values(rng, "f32", (2, 700)), values(rng, "f32", (300,))
    with levels_of(16, 64):
        stream = Convolver(w, 16, latency, channels=2)
        first = stream.process(x)
        stream.process(np.full((2, 77), np.nan, np.float32))
        stream.reset()
        assert stream.position == 0
        assert stream.process(x).tobytes() == first.tobytes()
        stream.reset()
        assert stream.flush().shape == (2, 0)


@pytest.mark.parametrize("taps, block", [(1, 1), (1, 32), (2, 32), (31, 32), (32, 32), (33, 32)])
def test_kernels_shorter_than_a_block(taps: int, block: int) -> None:
    rng = np.random.default_rng(taps)
    x, w = values(rng, "f64", (1, 100)), values(rng, "f64", (1, taps))
    stream = Convolver(w[0], block)
    y = np.concatenate([stream.process(x[0, :50]), stream.process(x[0, 50:]), stream.flush()])
    check(y[None], x, w, stream.error_bound)
    assert stream.flush().shape == (0,)


@pytest.mark.parametrize("latency", ["low", "throughput"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_axes_and_channels(axis: int, latency: str) -> None:
    """Chunks of three dimensions along each, with kernels for all, and for some channels."""
    rng = np.random.default_rng(0)
    x = values(rng, "f32", (2, 3, 90))
    for sizes in ((90,), (2, 3, 90), (1, 3, 90), (2, 1, 90)):
        w = values(rng, "f32", sizes)
        right, _ = full(x.reshape(6, 90), np.broadcast_to(w, (2, 3, 90)).reshape(6, 90))
        kernel = w if w.ndim == 1 else np.moveaxis(w, -1, axis)
        with levels_of(8, 16):
            stream = Convolver(kernel, 8, latency, axis, channels=(2, 3))
        chunks = [np.moveaxis(c, -1, axis) for c in cut(x, [7, 8, 60])]
        y = np.moveaxis(streamed(stream, chunks), axis, -1)
        np.testing.assert_allclose(y, right.reshape(2, 3, -1), atol=2e-4)
    assert Convolver(np.ones((2, 3, 9)), axis=1).channels == (2, 9)
    assert Convolver(np.ones(9)).channels == () and Convolver(np.ones(9), channels=2).channels == (
        2,
    )


@pytest.mark.parametrize("form", FORMS)
def test_chunks_of_any_form(form: str) -> None:
    """They are read where they lie, and neither they nor the kernel are written to."""
    rng = np.random.default_rng(0)
    for name in ("f32", "c128"):
        x, w = in_form(values(rng, name, (3, 50)), form), values(rng, name, (40,))
        before = x.copy()
        with levels_of(8):
            stream = Convolver(in_form(w, form), 8, channels=3)
            plain = Convolver(np.array(in_form(w, form)), 8, channels=3)
        assert streamed(stream, [x]).tobytes() == streamed(plain, [before]).tobytes()
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("latency", ["low", "throughput"])
def test_out(latency: str) -> None:
    rng = np.random.default_rng(0)
    x, w = values(rng, "f32", (2, 96)), values(rng, "f32", (40,))
    with levels_of(8):
        stream = Convolver(w, 8, latency, channels=2)
    y = stream.process(x)
    stream.reset()
    wide = np.full((192, 2), 5.0)[::2].T  # another dtype, and strides
    assert stream.process(x, out=wide) is wide
    np.testing.assert_array_equal(wide, y)
    stream.reset()
    assert stream.process(x, out=x) is x  # in place
    np.testing.assert_array_equal(x, y)


def test_chunks_of_a_narrower_dtype() -> None:
    stream = Convolver(np.array([0.5, 0.25], np.float32))
    y = stream.process(np.array([4, -8], np.int16))
    assert y.dtype == np.float32 and y.tolist() == [2, -3]
    assert Convolver([1, 1]).process([True, False]).tolist() == [1, 1]
    assert Convolver([0.1], dtype=np.float32).dtype == np.float32


def faded(old: Array, new: Array, begin: int, length: int) -> Array:
    """From `old` to `new` outputs, from output `begin` on."""
    n = np.arange(old.shape[1]) - begin
    g = np.clip((n + 1) / (length + 1), 0, 1)
    return old + (new - old) * np.where(n < 0, 0, g)


@given(streams(), st.data())
def test_crossfade(case: tuple[Any, ...], data: st.DataObject) -> None:
    """A kernel of another length, from the next output on, as if it had been there all along."""
    sizes, block, x, w, cuts = case
    x = np.where(np.isfinite(x), x, 1).clip(-100, 100) if x.dtype.kind == "f" else x
    if not (np.isfinite(x).all() and abs(x).max() < 1e4):
        return
    rng = np.random.default_rng(0)
    at, length = data.draw(st.integers(0, x.shape[1])), data.draw(st.integers(0, 50))
    v = values(rng, "f64", (1, data.draw(st.integers(1, 500)))).astype(x.dtype)
    latency = data.draw(st.sampled_from(("low", "throughput")))
    with levels_of(*sizes):
        stream = Convolver(w if len(w) > 1 else w[0], block, latency, channels=len(x))
        y = stream.process(x[:, :at])
        begin, memory = y.shape[1], stream.memory
        assert memory >= w.shape[1]
        stream.set_kernel(v[0], crossfade=length)
        rest = [stream.process(c) for c in cut(x[:, at:], [c - at for c in cuts if c >= at])]
        bound = stream.error_bound
    y = np.concatenate([y, *rest], axis=1)
    old = full(x, w)[0]
    known = x.copy()
    known[:, : max(0, at // block * block - memory)] = 0
    new = full(known, v)[0]
    n = y.shape[1]
    right = faded(old[:, :n], new[:, :n], begin, length)
    scale = abs(x).max() * (abs(w).sum(axis=1).max() + abs(v).sum())
    assert abs(y - right).max(initial=0) <= (3 * bound + 9 * np.finfo(x.dtype).eps) * scale


def test_fades_within_fades() -> None:
    """Three kernels at once, pickled in the middle; the last one is left."""
    rng = np.random.default_rng(0)
    x = values(rng, "f64", (1, 400))
    kernels = [values(rng, "f64", (1, taps)) for taps in (90, 200, 50)]
    with levels_of(8, 32):
        stream = Convolver(kernels[0][0], 8)
        parts = [stream.process(x[0, :100])]
        stream.set_kernel(kernels[1][0], crossfade=120)
        parts.append(stream.process(x[0, 100:131]))
        stream.set_kernel(kernels[2][0], crossfade=60)
        assert stream.taps == 200
        parts.append(stream.process(x[0, 131:150]))
        copy = pickle.loads(pickle.dumps(stream))
        parts.append(stream.process(x[0, 150:]))
        assert copy.process(x[0, 150:]).tobytes() == parts[-1].tobytes()
    assert stream.taps == 50 and len(stream._runs) == 1
    a, b, c = (full(x, w)[0][:, :400] for w in kernels)
    right = faded(faded(a, b, 100, 120), c, 131, 60)
    np.testing.assert_allclose(np.concatenate(parts), right[0], rtol=0, atol=1e-11)
    assert stream.flush().shape == (49,)


def test_the_kernel_is_copied() -> None:
    w = np.ones(3)
    stream = Convolver(w)
    w[:] = 7
    assert stream.process(np.array([1.0, 0])).tolist() == [1, 1]


@pytest.mark.parametrize("latency", ["low", "throughput"])
@pytest.mark.parametrize("taps", [300, 77])
def test_a_prepared_kernel_sounds_as_if_it_had_been_there_all_along(
    taps: int, latency: str
) -> None:
    """To the bit where it has the old one's partitions: spectra of the past are copied."""
    rng = np.random.default_rng(0)
    x, w, v = (values(rng, "f32", (2, n)) for n in (1500, 300, taps))
    x[0, 300] = np.nan
    for at in (0, 5, 16, 200, 333, 352, 416, 777, 800, 1023, 1024):
        with levels_of(16, 64):
            stream, want = Convolver(w, 16, latency), Convolver(v, 16, latency)
            prepared = stream.prepare(v)
        head = stream.process(x[:, :at])
        with levels_of(16, 64):
            stream.set_kernel(prepared)
        y = np.concatenate([head, stream.process(x[:, at:]), stream.flush()], axis=1)
        right = np.concatenate([want.process(x), want.flush()], axis=1)
        if taps == 300:
            assert y[:, head.shape[1] :].tobytes() == right[:, head.shape[1] :].tobytes()
        np.testing.assert_allclose(y[:, head.shape[1] :], right[:, head.shape[1] :], atol=1e-3)
    with pytest.raises(ValueError, match="has not been set before"):
        stream.set_kernel(prepared)
    with pytest.raises(ValueError, match="this stream prepared"):
        Convolver(v, 32, latency).set_kernel(stream.prepare(v))


@pytest.mark.parametrize("together", [16, 40, 1024])
@pytest.mark.parametrize("name", FLOATS)
def test_direct_taps_in_pieces(name: str, together: int) -> None:
    """Of 112 direct taps, 16 or 40 a call, those beyond the first meet past samples alone."""
    rng = np.random.default_rng(together)
    x, w = values(rng, name, (2, 900)), values(rng, name, (2, 300))
    x[0, 70] = np.nan
    x[1, [300, 711]] = np.inf, np.finfo(x.dtype).max
    with levels_of(64), mock.patch.object(_partitions, "_TOGETHER", together):
        stream = Convolver(w, 16)
        assert (stream._runs[0].head < 112) == (together < 100)
        assert stream.partitions[0][1] == 112
        cuts = sorted(rng.integers(0, 900, 40))
        y = streamed(stream, cut(x, cuts))
        check(y, x, w, stream.error_bound)
        before, after = x[:, :500], x[:, 500:]
        first = stream.process(before)
        stream = pickle.loads(pickle.dumps(stream))
        again = np.concatenate([first, stream.process(after), stream.flush()], axis=1)
        assert again.tobytes() == y.tobytes()
        stream.process(before)
        stream.set_kernel(stream.prepare(w))  # its spectra copied
        again = np.concatenate([first, stream.process(after), stream.flush()], axis=1)
        assert again.tobytes() == y.tobytes()


@pytest.mark.parametrize("name", FLOATS)
def test_copies_tell_of_what_is_not_within_a_limit(name: str) -> None:
    dtype = numpy_dtype(name)
    for bad in (None, 2.5, -2.5, np.nan, np.inf, -np.inf, *((2.5j,) if dtype.kind == "c" else ())):
        for at in (0, 6, 13):
            x, y = np.full((2, 30), 2, dtype), np.full((2, 20), 7, dtype)
            if bad is not None:
                x[at // 7, 5 + at % 7] = bad
            within = core.copy_within(x[:, 5:12], y[:, 3:10], 2.0)
            assert within == (bad is None)
            np.testing.assert_array_equal(y[:, 3:10], x[:, 5:12])
            assert (y[:, :3] == 7).all() and (y[:, 10:] == 7).all()


@pytest.mark.parametrize("name", FLOATS)
def test_no_arrays_are_made(name: str) -> None:
    """NumPy tells tracemalloc of each array's memory: the peak is less than a row of a block."""
    block = 2048
    rng = np.random.default_rng(0)
    w = values(rng, name, (2, 6 * block))
    with levels_of(block, 2 * block):
        stream = Convolver(w, block)
    x, out = values(rng, name, (2, block)), np.empty((2, block), numpy_dtype(name))
    for _ in range(8):
        stream.process(x, out=out)
    tracemalloc.start()
    try:
        for _ in range(8):
            stream.process(x, out=out)
            stream.process(x[:, :100], out=out[:, :100])
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(20):
            stream.process(x, out=out)
            stream.process(x[:, :100], out=out[:, :100])
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < x.nbytes // 2 and now - before < 1000


def test_work_is_dealt_out_evenly() -> None:
    """By the estimates that it is dealt out by: no slot has more than its share and a transform."""
    level = Convolver(np.ones((2, 96000), np.float32))._runs[0].levels[-1]
    assert level.slots > 1 and all(level._steps)
    transforms = [sum(step != level._multiply for step, _ in steps) for steps in level._steps]
    bins = [sum(what.stop - what.start for step, what in steps if step == level._multiply)
            for steps in level._steps]  # fmt: skip
    assert max(transforms) == 1 and sum(bins) == level.n // 2 + 1
    assert max(bins) <= 2 * sum(bins) / sum(map(bool, bins))


@pytest.mark.parametrize("make, error, text", [
    (lambda: Convolver(np.ones(0)), ValueError, "at least one tap"),
    (lambda: Convolver(3.0), ValueError, "at least one dimension"),
    (lambda: Convolver(np.ones(3), 0), ValueError, "block_size of at least 1"),
    (lambda: Convolver(np.ones(3), 2.5), TypeError, "integer"),
    (lambda: Convolver(np.ones(3), latency="none"), ValueError, "'low' or 'throughput'"),
    (lambda: Convolver(np.ones(3), axis=1), ValueError, "axis"),
    (lambda: Convolver(np.ones(3), axis=2, channels=1), ValueError, "axis of chunks"),
    (lambda: Convolver(np.ones(3), channels=0), ValueError, "at least one channel"),
    (lambda: Convolver(np.ones((2, 3)), channels=3), ValueError, "sizes 1 or"),
    (lambda: Convolver(np.ones((2, 3)), channels=(2, 2)), ValueError, "of 3 dimensions"),
    (lambda: Convolver(np.ones(3), threads=0), ValueError, "at least one thread"),
    (lambda: Convolver([1, np.nan]), ValueError, "finite"),
    (lambda: Convolver([1e300], dtype=np.float32), ValueError, "finite"),
    (lambda: Convolver(np.ones(3, np.float16)), TypeError, "expected float32"),
    (lambda: Convolver(np.ones(3, np.longdouble)), TypeError, "expected float32"),
    (lambda: Convolver(np.array(["a"])), TypeError, "expected float32"),
    (lambda: Convolver([1.5], dtype=int), TypeError, "that int64 holds"),
    (lambda: Convolver([1j], dtype=float), TypeError, "that float64 holds"),
    (lambda: Convolver(np.ma.array([1.0])), TypeError, "without a mask"),
])  # fmt: skip
def test_wrong_streams(make: Any, error: type[Exception], text: str) -> None:
    with np.errstate(over="ignore"), pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("latency", ["low", "throughput"])
def test_wrong_calls(latency: str) -> None:
    """They change nothing."""
    x = np.arange(10.0).reshape(2, 5)
    stream = Convolver(np.ones(3), 4, latency, channels=2)
    frozen = np.zeros((2, 5 if latency == "low" else 4))
    frozen.flags.writeable = False
    for error, text, call in (
        (ValueError, r"chunk of shape \(2, any\)", lambda: stream.process(x.T)),
        (ValueError, "chunk of shape", lambda: stream.process(x[0])),
        (TypeError, "that float64 holds, got complex128", lambda: stream.process(x + 0j)),
        (TypeError, "without a mask", lambda: stream.process(np.ma.array(x))),
        (ValueError, "out of shape", lambda: stream.process(x, out=np.empty((2, 3)))),
        (TypeError, "out to be an array", lambda: stream.process(x, out=[])),
        (TypeError, "out of a dtype", lambda: stream.process(x, out=frozen.astype("f4"))),
        (ValueError, "writeable", lambda: stream.process(x, out=frozen)),
        (ValueError, "crossfade of at least 0", lambda: stream.set_kernel([1.0], crossfade=-1)),
        (TypeError, "integer", lambda: stream.set_kernel([1.0], crossfade=0.5)),
        (ValueError, "at least one tap", lambda: stream.set_kernel(np.ones(0))),
        (TypeError, "that float64 holds", lambda: stream.set_kernel([1j])),
    ):
        with pytest.raises(error, match=text):
            call()
    assert stream.position == 0
    np.testing.assert_array_equal(streamed(stream, [x])[0], [0, 1, 3, 6, 9, 7, 4])
    with pytest.raises(TypeError, match="floating or complex dtype to crossfade"):
        Convolver([1, 2]).set_kernel([3], crossfade=5)
    swapped = Convolver([1, 2])
    swapped.set_kernel([3])
    assert swapped.process([2]).tolist() == [6]
