"""`convolve_blockwise`: every boundary and mode, what is read and kept, interruption."""

from __future__ import annotations

import itertools
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _blockwise

Array = np.ndarray[Any, Any]

BOUNDARIES = {
    "zeros": "constant", "constant": "constant", "reflect": "symmetric", "mirror": "reflect",
    "nearest": "edge", "wrap": "wrap",
}  # fmt: skip


class Store:
    """What h5py and zarr have in common; notes what is asked for, and gives copies."""

    def __init__(self, array: Array, chunks: tuple[int, ...] | None = None) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.chunks = chunks
        self.read: list[int] = []
        self.written: list[tuple[slice, ...]] = []
        self.flushed = 0

    def _check(self, index: Any) -> None:
        assert isinstance(index, tuple) and len(index) == len(self.shape)
        for s, n in zip(index, self.shape):
            assert isinstance(s, slice) and s.step is None
            assert type(s.start) is type(s.stop) is int and 0 <= s.start < s.stop <= n

    def __getitem__(self, index: Any) -> Array:
        self._check(index)
        part = self._array[index].copy()
        self.read.append(part.size)
        return part

    def __setitem__(self, index: Any, value: Array) -> None:
        self._check(index)
        assert value.shape == tuple(s.stop - s.start for s in index)
        self._array[index] = value
        self.written.append(index)

    def flush(self) -> None:
        self.flushed += 1


def expected(x: Array, w: Array, mode: str, boundary: str, cval: complex = 0) -> Array:
    """Products summed tap by tap, of the extended array."""
    pads = [(0, 0)] * x.ndim
    if mode != "valid":
        pads = [(m - 1, m - 1) if mode == "full" else (m // 2, (m - 1) // 2) for m in w.shape]
    dtype = np.result_type(x, w)
    value = {"constant_values": cval} if BOUNDARIES[boundary] == "constant" else {}
    wide = np.pad(x.astype(dtype), pads, BOUNDARIES[boundary], **value)  # type: ignore[call-overload]
    y = np.zeros([n - m + 1 for n, m in zip(wide.shape, w.shape)], dtype)
    for tap in np.ndindex(*w.shape):
        window = tuple(slice(t, t + n) for t, n in zip(tap, y.shape))
        y += wide[window] * w[tuple(m - 1 - t for t, m in zip(tap, w.shape))]
    return y


CASES = [
    ((60,), (7,), (9,)),
    ((5,), (23,), (4,)),  # a kernel that is longer: boundaries turn around many times
    ((1,), (4,), (2,)),
    ((20, 17), (4, 3), (6, 5)),
    ((9, 30), (5, 1), (4, 7)),
    ((3, 4), (8, 9), (2, 3)),
    ((6, 5, 7), (2, 3, 2), (3, 2, 4)),
    ((2, 40, 3), (1, 6, 1), (1, 11, 2)),
]


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_modes_and_boundaries(case: Any, boundary: str, mode: str) -> None:
    shape, kernel, block = case
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(shape), rng.standard_normal(kernel)
    if mode == "valid" and any(n < m for n, m in zip(shape, kernel)):
        return
    want = expected(x, w, mode, boundary, 0.7 if boundary == "constant" else 0)
    out = Store(np.full(want.shape, 99.0))
    got = fastconv.convolve_blockwise(Store(x), w, out, mode, boundary, 0.7, block=block)
    assert got is out and out.flushed == 1
    np.testing.assert_allclose(out._array, want, atol=1e-12)
    written = np.zeros(want.shape, int)
    for index in out.written:
        written[index] += 1
    assert (written == 1).all()


@pytest.mark.parametrize("dtypes", [("f4", "f4"), ("u1", "f4"), ("i2", "i2"), (">f8", "f4"),
                                    ("c8", "f8"), ("?", "?"), ("f2", "f2")], ids=str)  # fmt: skip
def test_dtypes(dtypes: tuple[str, str]) -> None:
    rng = np.random.default_rng(1)
    x, w = (rng.integers(0, 4, n).astype(d) for n, d in zip((90, 8), dtypes))
    want = fastconv.convolve(x, w)
    for sink in (want.dtype, np.result_type(want.dtype, "c16")):
        out = np.zeros(want.shape, sink)
        fastconv.convolve_blockwise(x, w, out, block=(20,))
        np.testing.assert_allclose(out, want.astype(sink), rtol=1e-6, atol=1e-5)


def test_what_is_read_is_bounded() -> None:
    """Each block reads its samples once and its halo; none more than the limit has room for."""
    rng = np.random.default_rng(2)
    for shape, kernel in (((300, 200), (9, 7)), ((50_000,), (301,)), ((20, 30, 40), (3, 5, 1))):
        x, w = rng.standard_normal(shape), rng.standard_normal(kernel)
        limit = 120_000
        for boundary in BOUNDARIES:
            source, out = Store(x), Store(np.zeros(shape))
            fastconv.convolve_blockwise(source, w, out, "same", boundary, workspace_limit=limit)
            np.testing.assert_allclose(out._array, expected(x, w, "same", boundary), atol=1e-11)
            assert max(source.read) * 8 <= limit / 2
            assert sum(source.read) <= 3 * x.size
            assert len(out.written) > 1


def test_blocks_are_whole_chunks() -> None:
    x, w = np.ones((100, 90)), np.ones((3, 3))
    out = Store(np.zeros((100, 90)), chunks=(7, 8))
    fastconv.convolve_blockwise(x, w, out, "same", workspace_limit=60_000)
    for index in out.written:
        assert all(s.start % c == 0 for s, c in zip(index, (7, 8)))
    assert len(out.written) > 1
    np.testing.assert_array_equal(out._array, expected(x, w, "same", "zeros"))
    small = Store(np.zeros((100, 90)), chunks=(100, 90))  # larger than a block
    fastconv.convolve_blockwise(x, w, small, "same", workspace_limit=60_000)
    np.testing.assert_array_equal(small._array, out._array)


def test_what_is_not_finite_stays_in_its_windows() -> None:
    x = np.ones(1000)
    x[500] = np.inf
    w = np.ones(9)
    w[4] = np.inf
    for boundary in ("zeros", "wrap"):
        out = np.zeros(1000)
        fastconv.convolve_blockwise(x, w, out, "same", boundary, block=(37,))
        np.testing.assert_array_equal(out, np.inf)
    w[4] = 1
    out = np.zeros(1000)
    fastconv.convolve_blockwise(x, w, out, "same", block=(37,), method="direct")
    assert np.isinf(out).sum() == 9


def test_interruption_says_where_to_go_on() -> None:
    x, w = np.random.default_rng(3).standard_normal((90, 10)), np.ones((5, 1))
    want = expected(x, w, "same", "reflect")

    class Stopped(Store):
        def __setitem__(self, index: Any, value: Array) -> None:
            if len(self.written) == 3:
                raise KeyboardInterrupt
            super().__setitem__(index, value)

    out = Stopped(np.zeros_like(want))
    with pytest.raises(KeyboardInterrupt, match="3 of 9 blocks .* start=3, block=") as caught:
        fastconv.convolve_blockwise(x, w, out, "same", "reflect", block=(10, 10))
    stop = caught.value
    assert isinstance(stop, _blockwise.Interrupted) and out.flushed == 1
    rest = Store(out._array)
    np.testing.assert_allclose(out._array[: stop.block[0] * 3], want[: stop.block[0] * 3])
    assert (out._array[stop.block[0] * 3 :] == 0).all()
    fastconv.convolve_blockwise(x, w, rest, "same", "reflect", start=stop.start, block=stop.block)
    np.testing.assert_allclose(out._array, want, atol=1e-13)
    assert len(rest.written) == 6
    fastconv.convolve_blockwise(x, w, rest, "same", start=9, block=stop.block)
    assert len(rest.written) == 6, "nothing was left"


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    x, w, out = np.ones(100), np.ones(3), np.zeros(102)
    calls: list[tuple[float, str]] = []
    fastconv.convolve_blockwise(
        x, w, out, block=(40,), progress=lambda done, text: calls.append((done, text))
    )
    assert calls == [(i / 3, f"{i} of 3 blocks") for i in range(4)]
    fastconv.convolve_blockwise(x, w, out, block=(40,), progress=True)
    assert capsys.readouterr() == ("", ""), "no bar where there is no terminal"

    def interrupt(done: float, text: str) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="start=2"):
        fastconv.convolve_blockwise(x, w, out, block=(40,), progress=interrupt)


def test_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    fastconv.convolve_blockwise(np.ones(9), np.ones(2), np.zeros(10), progress=True)
    captured = capsys.readouterr()
    assert "1 of 1 blocks" in captured.err and captured.out == ""


def test_memmap(tmp_path: pathlib.Path) -> None:
    """64 MB in and 64 MB out, within 8 MB and a little: the system refuses more."""
    program = """
import resource, sys
import numpy as np
import fastconv

source = np.memmap(sys.argv[1], np.float32, "w+", shape=(4096, 4096))
for rows in range(0, 4096, 128):
    source[rows : rows + 128] = np.arange(4096) % 251
sink = np.memmap(sys.argv[2], np.float32, "w+", shape=source.shape)
w = np.ones((9, 5), np.float32)
options = {"workspace_limit": 8 << 20, "threads": 1}
fastconv.convolve_blockwise(source[:99], w, np.zeros((99, 4096), "f4"), "same", **options)
with open("/proc/self/status") as file:
    data = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (data + (12 << 20),) * 2)
try:
    np.ones(20 << 20, np.uint8)
except MemoryError:
    pass
else:
    sys.exit("the limit does not hold")
fastconv.convolve_blockwise(source, w, sink, "same", "reflect", **options)
# the plain call reads and writes files in place too
fastconv.convolve(source, w[:3, :3].copy(), "same", out=sink[:], **options)
fastconv.convolve_blockwise(source, w, sink, "same", "reflect", **options)
print(float(sink[0, 1000]), float(sink[4095, 4095]))
"""
    if not sys.platform.startswith("linux"):
        program = program.replace("resource.setrlimit", "0 and resource.setrlimit")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = np.arange(4096) % 251
    ends = 9 * (row[4093] + row[4094] + row[4095] + row[4095] + row[4094])
    assert done.stdout.split() == [str(9.0 * row[998:1003].sum()), str(float(ends))]


def _h5py(folder: pathlib.Path, name: str, shape: tuple[int, ...], chunks: Any) -> Any:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    return h5py.File(folder / name, "w").create_dataset(
        "data", shape, "f4", chunks=chunks, compression="gzip" if chunks else None
    )


def _zarr(folder: pathlib.Path, name: str, shape: tuple[int, ...], chunks: Any) -> Any:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    return zarr.create_array(folder / name, shape=shape, dtype="f4", chunks=chunks or shape)


@pytest.mark.parametrize("make", [_h5py, _zarr])
@pytest.mark.parametrize("chunks", [None, (50, 64)], ids=["whole", "chunks"])
@pytest.mark.parametrize("boundary", ["zeros", "reflect", "wrap"])
def test_stores(make: Any, chunks: Any, boundary: str, tmp_path: pathlib.Path) -> None:
    """Datasets of the libraries that the documentation names, read and written."""
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((190, 230)).astype("f4"), rng.standard_normal((5, 9)).astype("f4")
    source, sink = (make(tmp_path, name, x.shape, chunks) for name in ("in", "out"))
    source[...] = x
    blocks: list[str] = []
    got = fastconv.convolve_blockwise(
        source, w, sink, "same", boundary, workspace_limit=300_000,
        progress=lambda done, text: blocks.append(text),
    )  # fmt: skip
    assert got is sink and len(blocks) > 2
    np.testing.assert_allclose(sink[...], expected(x, w, "same", boundary), atol=1e-4)


@pytest.mark.parametrize(
    "change, error, text",
    [
        ({"in2": np.ones((2, 2))}, ValueError, "dimensionality"),
        ({"in2": np.ones(0)}, ValueError, "non-empty"),
        ({"in1": np.ones(0)}, ValueError, "non-empty"),
        ({"in1": [1.0, 2]}, TypeError, "shape"),
        ({"in1": np.ma.masked_array(np.ones(9))}, TypeError, "mask"),
        ({"in1": np.array(["a"] * 9)}, TypeError, "dtype"),
        ({"out": np.ones(10)}, ValueError, "shape"),
        ({"out": Store(np.ones(10))}, ValueError, "shape"),
        ({"out": np.ones(11, "f4")}, TypeError, "holds"),
        ({"out": Store(np.ones(11, "f4"))}, TypeError, "holds"),
        ({"out": (1.0,) * 11}, TypeError, "__setitem__"),
        ({"mode": "inner"}, ValueError, "mode"),
        ({"mode": "valid", "in2": np.ones(12)}, ValueError, "no larger"),
        ({"boundary": "fill"}, ValueError, "boundary"),
        ({"boundary": "constant", "cval": "a"}, ValueError, "cval"),
        ({"block": (3, 3)}, ValueError, "sides"),
        ({"block": (0,)}, ValueError, "sides"),
        ({"start": 2}, ValueError, "start"),
        ({"start": -1}, ValueError, "start"),
        ({"workspace_limit": 20}, ValueError, "workspace_limit"),
        ({"method": "nonsense"}, ValueError, "nonsense"),
        ({"in2": np.array([1.0, -1, 1]), "nonnegative": True}, ValueError, "negative"),
        ({"in1": -np.ones(9), "nonnegative": True}, ValueError, "negative"),
    ],
)  # fmt: skip
def test_errors(change: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = {"in1": np.ones(9), "in2": np.ones(3), "out": np.ones(11), **change}
    with pytest.raises(error, match=text):
        fastconv.convolve_blockwise(**arguments)


def test_memory_that_is_still_read_is_not_written() -> None:
    x = np.ones(20)
    for out in (x[:18], x[2:]):
        with pytest.raises(ValueError, match="still read"):
            fastconv.convolve_blockwise(x[:18], np.ones(3), out, "same")
    store = Store(np.ones(9))
    with pytest.raises(ValueError, match="still read"):
        fastconv.convolve_blockwise(store, np.ones(3), store, "same")


def test_pieces_cover_each_position_once() -> None:
    for boundary, n in itertools.product(BOUNDARIES, (1, 2, 3, 5)):
        if boundary == "zeros":
            continue
        for a, b in itertools.product(range(-9, 9), range(-9, 9)):
            if a < b and not (boundary == "constant" and (b <= 0 or a >= n)):
                value = {"constant_values": -1} if boundary == "constant" else {}
                wide = np.pad(np.arange(n), (20, 20), BOUNDARIES[boundary], **value)
                got = np.full(b - a, -1)
                for to, low, high, back in _blockwise.pieces(a, b, n, boundary):
                    assert (got[to] == -1).all() and 0 <= low < high <= n
                    got[to] = np.arange(low, high)[:: -1 if back else 1]
                np.testing.assert_array_equal(got, wide[20 + a : 20 + b])
