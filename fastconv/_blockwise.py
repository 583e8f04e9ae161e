"""`convolve_blockwise`: arrays that do not fit into memory, a block at a time.

A block of outputs o to o + b along an axis needs b + k - 1 samples of the extended input, k that of
the kernel, so that neighbours share k - 1. They are read as a few slices: the part within the
array, and beyond its ends those slices that the boundary rule takes its samples from.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import _planner, signal
from fastconv._engine import Pads, check_nonnegative
from fastconv._problem import Array

#: Called with the part done, 0 to 1, and what is being done.
Progress = Callable[[float, str], None]

_BOUNDARIES = ("zeros", "constant", "reflect", "mirror", "nearest", "wrap")

#: The part of a block that may be read again so that it lies in one piece in a C-ordered file: an
#: eighth more to read and to compute, at most, against reading every page once a block across it.
_ALIKE = 0.125

#: The part of a limit that a block's input and result may take; the rest is the solver's.
_SHARE = 0.5


class Source(Protocol):
    """What is read: an array, `numpy.memmap`, h5py or zarr dataset, or anything alike."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, index: tuple[slice, ...], /) -> Any: ...


class Sink(Source, Protocol):
    """What is written."""

    def __setitem__(self, index: tuple[slice, ...], value: Any, /) -> None: ...


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in `convolve_blockwise`; the result is complete up to block `start`.

    Attributes
    ----------
    start : int
        The first block that is not written.
    block : tuple of int
        The shape of blocks; with the same `block=` and this `start=` a call goes on.
    """

    def __init__(self, start: int, count: int, block: tuple[int, ...]) -> None:
        super().__init__(
            f"{start} of {count} blocks are written; to go on, pass start={start}, block={block}"
        )
        self.start = start
        self.block = block


def convolve_blockwise(
    in1: Source,
    in2: npt.ArrayLike,
    out: Sink,
    mode: str = "full",
    boundary: str = "zeros",
    cval: complex = 0,
    *,
    block: Sequence[SupportsIndex] | None = None,
    start: SupportsIndex = 0,
    progress: Progress | bool = False,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
) -> Any:
    """Convolve what does not fit into memory: files, and stores that are read by slices.

    Memory is bounded by `workspace_limit`, whatever the size of in1 and out, which are read and
    written a block at a time. Of a `numpy.memmap`, pages that the system keeps of the file come on
    top; it takes them back when it needs them.

    Parameters
    ----------
    in1 : array, memmap, or any object with ``shape``, ``dtype`` and ``__getitem__``
        Such as a dataset of h5py or zarr. It is asked for tuples of slices with a start, a stop
        and no step.
    in2 : array_like
        The kernel, of in1's rank, in memory. An axis along which it has length 1 is not convolved.
    out : array, memmap, or any object with ``shape``, ``dtype`` and ``__setitem__``
        Of the result's shape, and a dtype that holds ``np.result_type(in1, in2)``. It must share
        no memory with in1. Where it has ``chunks``, as those of h5py and zarr do, blocks
        are cut between chunks, as far as these fit into a block.
    mode : {"full", "same", "valid"}
        As for `fastconv.convolve`, in1 being the longer one in mode ``valid``.
    boundary : {"zeros", "constant", "reflect", "mirror", "nearest", "wrap"}
        What extends in1 in modes ``full`` and ``same``, named as in `fastconv.ndimage`.
    cval : scalar, default 0
        What ``constant`` extends by; a number of the result's dtype.
    block : sequence of int, optional
        The shape of a block of the result; by default as large as half of the limit admits, cut
        along the axis on which that repeats least, or an earlier one on which it does nearly.
    start : int, default 0
        The block to begin with: those before it were written by an earlier call with this `block`.
    progress : callable or bool, default False
        Called with the part done, from 0 to 1, and a text, before the first block and after each.
        True shows a bar on standard error, if that is a terminal.
    method, accuracy, threads, flush_denormals, deterministic, nonnegative
        As for `fastconv.convolve`.
    workspace_limit : int, optional
        Bytes that blocks and the work on them may take, beside in2; by default a quarter of what
        is free.

    Returns
    -------
    object
        `out`.

    Raises
    ------
    ValueError
        For ranks and shapes that do not match, an unknown mode, boundary or method, a `block` or
        `start` that is not there, and a limit that is too low for a block of one output.
    TypeError
        For dtypes that are not numbers, an `out` that would lose values, and objects that cannot
        be read or written so.
    KeyboardInterrupt
        At Ctrl-C: its text says how many blocks are written and how to go on, as do its attributes
        `start` and `block`, the arguments to go on with.

    Notes
    -----
    A block is convolved as `fastconv.convolve` does it: in docs/accuracy.md, B is that of a block.

    References
    ----------
    .. [1] A. V. Oppenheim and R. W. Schafer, Discrete-Time Signal Processing, 3rd ed., section
       8.7.3: blocks by overlap-save.

    Examples
    --------
    A recording on disk, filtered within four megabytes:

    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastconv
    >>> folder = tempfile.TemporaryDirectory()
    >>> name = os.path.join(folder.name, "recording.npy")
    >>> recording = np.lib.format.open_memmap(name, "w+", "f4", (1_000_000, 2))
    >>> recording[::1000] = 1
    >>> filtered = np.lib.format.open_memmap(name + "2", "w+", "f4", (1_000_000, 2))
    >>> taps = np.hanning(99).astype("f4")[:, None]
    >>> y = fastconv.convolve_blockwise(recording, taps, filtered, "same", workspace_limit=1 << 22)
    >>> y is filtered, round(float(y[1000, 1]), 6)
    (True, 1.0)
    >>> del recording, filtered, y
    >>> folder.cleanup()
    """
    w = signal._array("in2", in2)
    shape, dtype = _described("in1", in1)
    if w.ndim != len(shape) or w.ndim == 0:
        raise ValueError(
            f"expected in1 and in2 of the same dimensionality, got shapes {shape} and {w.shape}"
        )
    if not w.size or 0 in shape:
        raise ValueError(f"expected non-empty inputs, got shapes {shape} and {w.shape}")
    pads = _pads(mode, shape, w.shape)
    if boundary not in _BOUNDARIES:
        raise ValueError(f"expected a boundary out of {_BOUNDARIES}, got {boundary!r}")
    result = signal._promoted(np.empty(0, dtype), w)
    cval = signal._number("cval", cval, result)
    size = tuple(n + lo + hi - m + 1 for n, m, (lo, hi) in zip(shape, w.shape, pads))
    _check_sink(in1, out, size, result)
    if nonnegative:
        check_nonnegative(in2=w, cval=np.asarray(cval))
    limit = _planner.default_workspace_limit() if workspace_limit is None else workspace_limit
    reader = Reader(in1, shape, dtype, boundary, cval, result)
    solvers = signal._solvers(method, None, result)
    axes = [d for d, m in enumerate(w.shape) if m > 1] or [0]

    def needed(sides: Sequence[int]) -> int:
        """Bytes of a block's input and of its result."""
        samples = math.prod(b + m - 1 for b, m in zip(sides, w.shape))
        merged = len(shape) - len(axes) > 1  # into one batch axis, perhaps by a copy
        extended = boundary != "zeros"  # a slice, and where it is put
        inputs = samples * (1 + merged + extended) * reader.itemsize
        return inputs + math.prod(sides) * (1 + merged) * result.itemsize

    cut = _cut(size, w.shape, getattr(out, "chunks", None), needed, limit) if block is None else (
        _given(block, size)
    )  # fmt: skip
    if needed(cut) >= limit:
        raise ValueError(
            f"expected a workspace_limit of more than {needed(cut)} bytes, what a block of"
            f" {cut} outputs and the kernel's reach take; got {limit}"
        )
    blocks = list(itertools.product(*(range(0, n, b) for n, b in zip(size, cut))))
    first = operator.index(start)
    if not 0 <= first <= len(blocks):
        raise ValueError(f"expected start from 0 to {len(blocks)} blocks, got {first}")
    options = signal._options(
        accuracy, threads, limit - needed(cut), None, flush_denormals, deterministic, nonnegative
    )
    done = first
    try:
        with _reporting(progress) as report:
            report(done / len(blocks), f"{done} of {len(blocks)} blocks")
            for corner in blocks[first:]:
                ends = [min(o + b, n) for o, b, n in zip(corner, cut, size)]
                want = [
                    (o - lo, e - lo + m - 1)
                    for o, e, m, (lo, _) in zip(corner, ends, w.shape, pads)
                ]
                x, beyond = reader.read(want)
                y = _convolved(x, w, axes, beyond, result, method=solvers, **options)
                out[tuple(map(slice, corner, ends))] = y
                done += 1
                report(done / len(blocks), f"{done} of {len(blocks)} blocks")
    except KeyboardInterrupt:
        _flush(out)
        raise Interrupted(done, len(blocks), cut) from None
    _flush(out)
    return out


def _convolved(
    x: Array, w: Array, axes: Sequence[int], beyond: Pads, dtype: np.dtype[Any], **options: Any
) -> Array:
    """Convolve x, which has `beyond` zeros at its ends, where its windows lie within them."""
    size = tuple(n + a + b - m + 1 for n, m, (a, b) in zip(x.shape, w.shape, beyond))
    return signal._run(
        x, w, axes, [beyond[d] for d in axes], size, None, dtype=signal._summed(dtype),
        out_dtype=dtype, flip=True, **options,
    )  # fmt: skip


class Reader:
    """Blocks of an array that is extended beyond its ends."""

    def __init__(
        self, source: Source, shape: tuple[int, ...], dtype: np.dtype[Any], boundary: str,
        cval: complex, result: np.dtype[Any],
    ) -> None:  # fmt: skip
        self.source = source
        self.shape = shape
        self.boundary = boundary
        self.cval = cval
        # cval is a number of the result's dtype, which may be none of in1's
        self.dtype = result if boundary == "constant" else dtype
        self.itemsize = max(self.dtype.itemsize, dtype.itemsize)

    def read(self, want: Sequence[tuple[int, int]]) -> tuple[Array, list[tuple[int, int]]]:
        """Samples of the ranges, and how many zeros at each end were left out."""
        if self.boundary == "zeros":
            inside = [(max(a, 0), min(b, n)) for (a, b), n in zip(want, self.shape)]
            return self._slice(inside), [(c - a, b - d) for (a, b), (c, d) in zip(want, inside)]
        if all(a >= 0 and b <= n for (a, b), n in zip(want, self.shape)):
            return self._slice(want), [(0, 0)] * len(want)
        x = np.full([b - a for a, b in want], self.cval, self.dtype)
        runs = [list(pieces(a, b, n, self.boundary)) for (a, b), n in zip(want, self.shape)]
        for parts in itertools.product(*runs):
            piece = self._slice([(low, high) for _, low, high, _ in parts])
            turned = tuple(slice(None, None, -1 if back else 1) for *_, back in parts)
            to = tuple(slice(t.start, t.stop) for t, *_ in parts)
            x[to] = piece[turned]
        return x, [(0, 0)] * len(want)

    def _slice(self, ranges: Sequence[tuple[int, int]]) -> Array:
        return np.asarray(self.source[tuple(slice(a, b) for a, b in ranges)])


def pieces(a: int, b: int, n: int, boundary: str) -> Iterator[tuple[slice, int, int, bool]]:
    """Cut positions a to b of an axis of n samples, extended, into runs that follow each other.

    Yields where a run goes in the block, the samples from low to high that it is, and whether it
    runs backwards; of ``nearest``, one sample stands for all of the run, and of ``constant``
    nothing does.
    """
    if boundary in ("constant", "nearest"):
        if boundary == "nearest" and a < 0:
            yield slice(0, min(b, 0) - a), 0, 1, False
        low, high = max(a, 0), min(b, n)
        if low < high:
            yield slice(low - a, high - a), low, high, False
        if boundary == "nearest" and b > n:
            yield slice(max(a, n) - a, b - a), n - 1, n, False
        return
    period = n - 1 if boundary == "mirror" and n > 1 else n
    t = a
    while t < b:
        turn, phase = divmod(t, period)
        stop = min(b, (turn + 1) * period)
        last = phase + stop - t
        to = slice(t - a, stop - a)
        if boundary == "wrap" or turn % 2 == 0:
            yield to, phase, last, False
        else:
            yield to, n - last, n - phase, True
        t = stop


def _described(name: str, a: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of what is read or written by slices."""
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(f"expected {name} without a mask, which would be lost; got a masked array")
    wanted = ("shape", "dtype", "__getitem__")
    if not all(hasattr(a, attribute) for attribute in wanted):
        raise TypeError(f"expected {name} with {', '.join(wanted)}, got {type(a).__name__}")
    shape = tuple(operator.index(n) for n in a.shape)
    return shape, signal._array(name, np.empty(0, a.dtype)).dtype


def _check_sink(in1: Any, out: Any, size: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not hasattr(out, "__setitem__"):
        raise TypeError(f"expected out with __setitem__, got {type(out).__name__}")
    shape, stored = _described("out", out)
    if isinstance(out, np.ndarray):
        signal._check_out(out, size, dtype)
        if isinstance(in1, np.ndarray) and np.may_share_memory(in1, out):
            raise ValueError("expected out that shares no memory with in1, which is still read")
    elif shape != size:
        raise ValueError(f"expected out of shape {size}, got {shape}")
    elif not np.can_cast(dtype, stored):
        raise TypeError(f"expected out of a dtype that holds {dtype}, got {stored}")
    if out is in1:
        raise ValueError("expected out that is not in1, which is still read")


def _pads(mode: str, shape: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    signal._check_mode(mode)
    if mode == "valid":
        if any(n < m for n, m in zip(shape, kernel)):
            raise ValueError(
                "expected, for mode 'valid', in2 no larger than in1, got shapes"
                f" {tuple(shape)} and {tuple(kernel)}"
            )
        return [(0, 0)] * len(kernel)
    if mode == "full":
        return [(m - 1, m - 1) for m in kernel]
    return [(m // 2, (m - 1) // 2) for m in kernel]


def _cut(
    size: tuple[int, ...], kernel: tuple[int, ...], chunks: Any,
    needed: Callable[[Sequence[int]], int], limit: int,
) -> tuple[int, ...]:  # fmt: skip
    """The largest blocks that fit: halved along the axis on which overlap then repeats least."""
    sides = list(size)
    while needed(sides) > _SHARE * limit and max(sides) > 1:
        # what is read again for a cut, as a part of a block
        repeats = [(m - 1) / b if b > 1 else math.inf for b, m in zip(sides, kernel)]
        # of axes nearly alike the first, whose blocks lie together in a file
        axis = next(d for d, r in enumerate(repeats) if r <= min(repeats) + _ALIKE)
        sides[axis] = -(-sides[axis] // 2)
    if chunks is not None and len(chunks) == len(sides):
        for d, c in enumerate(chunks):
            if sides[d] < size[d] and sides[d] > c:
                sides[d] -= sides[d] % c
    return tuple(sides)


def _given(block: Sequence[SupportsIndex], size: tuple[int, ...]) -> tuple[int, ...]:
    sides = tuple(operator.index(b) for b in block)
    if len(sides) != len(size) or min(sides) < 1:
        raise ValueError(f"expected a block of {len(size)} sides of at least 1, got {sides}")
    return sides


def _flush(out: Any) -> None:
    if hasattr(out, "flush"):
        out.flush()


@contextlib.contextmanager
def _reporting(progress: Progress | bool) -> Iterator[Progress]:
    """What to call: the caller's own, a bar, or nothing."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, text: None
    else:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        disable = not console.is_terminal
        with Bar(*columns, console=console, transient=True, disable=disable) as bar:
            task = bar.add_task("", total=1.0)
            yield lambda done, text: bar.update(task, completed=done, description=text)
