"""Convolution of a stream: samples come in chunks, outputs leave as they become known.

`Convolver` gives, chunk by chunk, what ``fastconv.convolve(x, kernel)`` gives of all samples at
once: the same samples in the same places.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv._partitions import Partitioned
from fastconv._problem import Array
from fastconv.cuda.interop import on_host

__all__ = ["Convolver"]

#: Samples of a block where nobody says: what audio interfaces use, 2.7 ms at 48 kHz.
_BLOCK = 128

#: With latency="throughput": kernels that a block holds, of whose outputs one is computed twice,
#: and the least samples, below which the time of a call is felt.
_KERNELS_A_BLOCK = 4
_LEAST_BLOCK = 1 << 14


class _Fade(NamedTuple):
    """From one kernel to the next: weights of the latter, and how many outputs are done."""

    ramp: Array
    done: int


class Prepared:
    """A transformed kernel: what `Convolver.prepare` returns, for `Convolver.set_kernel`."""

    def __init__(self, settings: tuple[Any, ...], run: Partitioned) -> None:
        self._settings = settings
        self._run: Partitioned | None = run


class Convolver:
    """Convolve a stream, chunk by chunk, with a kernel that may be exchanged.

    All outputs together, those of `process` and then of `flush`, are ``fastconv.convolve(x,
    kernel)`` of all samples together, however they were cut into chunks.

    Parameters
    ----------
    kernel : array_like
        Taps: of shape (taps,), for all channels; or with the taps along `axis` and, beside it,
        sizes that are 1 or those of `channels`: a kernel a channel. At least one tap, all finite.
        It is copied.
    block_size : int, optional
        Samples whose work is done together; 128 by default. With ``latency="throughput"`` the
        power of two that holds four kernels, and at least 16384.
    latency : {"low", "throughput"}
        ``"low"``: `process` returns as many outputs as it is given samples, whatever their number:
        no sample is delayed. ``"throughput"``: outputs come in whole blocks, as soon as one is
        complete, for the least time a sample.
    axis : int
        Along which samples follow each other in a chunk; its other axes are channels.
    channels : int or sequence of int, optional
        Sizes of a chunk's other axes; by default those of the kernel, none for one of shape
        (taps,).
    dtype : dtype, optional
        What is computed in and returned: float32, float64, complex64, complex128, an integer or
        bool; by default the kernel's. Chunks of any dtype that it holds all values of are
        accepted.
    threads : int, optional
        The most threads to use for ``latency="throughput"``; by default as many as this process
        may. ``"low"`` takes one.

    Attributes
    ----------
    block_size, axis, channels, dtype, latency
        As above, filled in.
    taps : int
        Length of the kernel, the longest while one fades into another.
    latency_samples : int
        The most samples whose outputs `process` has not returned: 0, or ``block_size - 1``.
    position : int
        Samples that came in since the start, or the last `reset`.
    memory : int
        Samples that are remembered, those of the unfinished block aside: what a new kernel meets.
    partitions : tuple of (int, int, int)
        Size, first tap and number of the partitions that are transformed; taps before the first
        are summed directly.
    error_bound : float
        See Notes.

    Raises
    ------
    ValueError
        For shapes and values, before anything is computed.
    TypeError
        For dtypes that are not among the above, or would lose something.

    Notes
    -----
    *Accuracy.* ``abs(error) <= error_bound * max(abs(x)) * sum(abs(kernel))``, the maximum taken
    over the finite ones of the channel's last ``memory + block_size`` samples: some 1e-6 in
    float32, 3e-15 in float64. The one-shot result keeps to its own bound, and both differ by no
    more than their sum. An output that is far smaller than that may have no correct digit with
    ``latency="low"``: nothing looks for it, as ``accuracy="balanced"`` does, and as
    ``"throughput"`` does. Where all these samples are 0, so is the output. Integers and bools are
    exact, and wrap as NumPy's do: all products are made.

    *Reproducible.* For one `block_size` the bits of the outputs do not depend on how samples are
    cut into chunks, on `reset`, or on having been pickled.

    *NaN, Inf* and samples near the largest float reach only the outputs whose windows hold them.
    Each costs some time in every block, as long as it is remembered.

    *Time.* ``"low"`` cuts the kernel into partitions of growing length [1]_, each begun so early
    that its work can be spread over all blocks until it is due [2]_: no block takes much longer
    than the others. `process` with `out` allocates no array then. Calls of one object must not
    overlap in time.

    References
    ----------
    .. [1] Gardner, Efficient convolution without input-output delay, J. Audio Eng. Soc. 43(3),
       1995.
    .. [2] Battenberg and Avizienis, Implementing real-time partitioned convolution algorithms on
       conventional operating systems, Proc. DAFx, 2011.
    .. [3] Wefers, Partitioned convolution algorithms for real-time auralization, RWTH Aachen,
       2015.

    Examples
    --------
    >>> import fastconv, numpy as np
    >>> stream = fastconv.Convolver(np.array([1.0, 0.5, 0.25]))
    >>> stream.process(np.array([1.0, 0, 0, 8]))
    array([1.  , 0.5 , 0.25, 8.  ])
    >>> stream.process(np.array([0.0]))
    array([4.])
    >>> stream.flush()
    array([2., 0.])
    """

    def __init__(
        self,
        kernel: npt.ArrayLike,
        block_size: int | None = None,
        latency: str = "low",
        axis: int = -1,
        channels: int | Sequence[int] | None = None,
        dtype: npt.DTypeLike | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        if not isinstance(latency, str) or latency not in ("low", "throughput"):
            raise ValueError(f"expected latency 'low' or 'throughput', got {latency!r}")
        w = _numbers("kernel", kernel)
        self.dtype = _computed(w.dtype if dtype is None else np.dtype(dtype))
        self.channels = _sizes(channels, w, axis)
        ndim = len(self.channels) + 1
        if not -ndim <= operator.index(axis) < ndim:
            raise ValueError(f"expected an axis of chunks of {ndim} dimensions, got {axis}")
        self.axis = operator.index(axis)
        self.latency = latency
        self._rows = math.prod(self.channels)
        rows_of_taps = self._taps(w)
        if block_size is None:
            block_size = _BLOCK
            if latency == "throughput":
                block_size = _KERNELS_A_BLOCK << (rows_of_taps.shape[1] - 1).bit_length()
                block_size = max(_LEAST_BLOCK, block_size)
        self.block_size = operator.index(block_size)
        if self.block_size < 1:
            raise ValueError(f"expected a block_size of at least 1, got {block_size}")
        if threads is not None and operator.index(threads) < 1:
            raise ValueError(f"expected at least one thread, got {threads}")
        self._threads = threads
        self._start(rows_of_taps)

    def _start(self, kernel: Array) -> None:
        """Begin with silence before the first sample."""
        at = self.axis % (len(self.channels) + 1)
        self._beside = self.channels[:at], self.channels[at:]
        self._order = (*range(at), *range(at + 1, len(self.channels) + 1), at)  # samples last
        self._runs = [self._run(kernel)]
        self._fades: list[_Fade] = []
        self._mixed = np.empty((self._rows, self.block_size), self.dtype)
        self._fill = 0  # samples of the current block

    def _run(self, kernel: Array) -> Partitioned:
        whole = self.latency == "throughput"
        return Partitioned(kernel, self.block_size, self._rows, whole, self._threads)

    # ---- what can be read
    # ------------------------------------------------------------------------

    @property
    def taps(self) -> int:
        return max(run.taps for run in self._runs)

    @property
    def position(self) -> int:
        return self._runs[-1].blocks * self.block_size + self._fill

    @property
    def latency_samples(self) -> int:
        return 0 if self.latency == "low" else self.block_size - 1

    @property
    def memory(self) -> int:
        return max(run.memory for run in self._runs)

    @property
    def partitions(self) -> tuple[tuple[int, int, int], ...]:
        return tuple((size, offset, count) for size, offset, count in self._runs[-1].parts)

    @property
    def error_bound(self) -> float:
        return max(run.error_bound for run in self._runs)

    def __repr__(self) -> str:
        return (
            f"<Convolver {self.dtype} {self.taps} taps, channels {self.channels}, axis {self.axis},"
            f" {self.latency} latency, blocks of {self.block_size}, at sample {self.position}>"
        )

    # ---- samples
    # ---------------------------------------------------------------------------------

    def process(self, chunk: npt.ArrayLike, out: Array | None = None) -> Array:
        """Take the next samples; return the outputs that they complete.

        Parameters
        ----------
        chunk : array_like
            Any number of samples along `axis`, 0 too, and `channels` beside it. Not written to,
            and not kept.
        out : array, optional
            Where outputs are stored: of the result's shape, and a dtype that holds `dtype`. It may
            be the chunk itself. By default a new array.

        Returns
        -------
        array
            With ``latency="low"`` of the chunk's shape. With ``"throughput"`` as many samples
            along `axis` as there are in the blocks that are now complete, 0 mostly.
        """
        x = _numbers("chunk", chunk)
        self._check(x)
        n = x.shape[self.axis]
        block = self.block_size
        count = n if self.latency == "low" else (self._fill + n) // block * block
        y = self._room(out, count, x)
        samples, outputs = x.transpose(self._order), y.transpose(self._order)
        with np.errstate(all="ignore"):  # Inf, NaN and overflow go where they belong
            self._take(samples, outputs)
        return y

    def _take(self, samples: Array, outputs: Array) -> None:
        """`process` of (*channels, n) samples."""
        n, block, low = samples.shape[-1], self.block_size, self.latency == "low"
        i = o = 0
        while i < n:
            begin, m = self._fill, min(block - self._fill, n - i)
            end = begin + m
            for run in self._runs:
                self._in_channels(run.current)[..., begin:end] = samples[..., i : i + m]
            if not low:
                begin = 0
            if low or end == block:
                made = self._in_channels(self._outputs(begin, end))
                outputs[..., o : o + end - begin] = made[..., begin:end]
                o += end - begin
            self._fill = end
            if end == block:
                for run in self._runs:
                    run.advance()
                self._fill = 0
            i += m

    def flush(self) -> Array:
        """The outputs that the end of the stream leaves to come; begin anew, as `reset` does.

        Returns
        -------
        array
            ``taps - 1`` samples along `axis`, and the outputs that blocks held back; none if no
            sample came.
        """
        held = 0 if self.latency == "low" else self._fill
        count = self.taps - 1 + held if self.position else 0
        zeros = (
            self.taps - 1
            if self.latency == "low"
            else -(-count // self.block_size) * self.block_size
        )
        silence = np.broadcast_to(np.zeros((), self.dtype), self._shape(zeros if count else 0))
        y = np.moveaxis(self.process(silence), self.axis, -1)[..., :count]
        self.reset()
        return np.moveaxis(y, -1, self.axis)

    def reset(self) -> None:
        """Forget all samples; keep the kernel, the latest while one fades into another."""
        self._fades.clear()
        del self._runs[:-1]
        self._fill = 0
        self._runs[0].load(0, self._mixed[:, :0])

    def set_kernel(self, kernel: npt.ArrayLike | Prepared, crossfade: int = 0) -> None:
        """Exchange the kernel from the next output on.

        From there on outputs are those that the new kernel would have given all along, as far as
        samples are remembered (`memory`, at least as many as the old kernel has taps; 0 before).
        Blocks take twice their time while two kernels sound.

        *Time.* An array is transformed by this call, which takes longer than a block: 20 ms for two
        channels of 2 seconds at 48 kHz. What `prepare` returned has been: for a kernel that is cut
        into the same partitions, as one of the same length is, what is left is to copy the spectra
        of past samples, about 1 ms. For other lengths these are made anew, several ms.

        Parameters
        ----------
        kernel : array_like, or what `prepare` returned
            Of any length, and a shape that the constructor takes for these channels.
        crossfade : int
            Outputs over which the old kernel's are faded into the new one's: the i-th of c is
            ``old + (new - old) * (i + 1) / (c + 1)``. Kernels may fade into a third one meanwhile.
        """
        c = operator.index(crossfade)
        if c < 0:
            raise ValueError(f"expected a crossfade of at least 0 samples, got {crossfade}")
        if c and self.dtype.kind not in "fc":
            raise TypeError(f"expected a floating or complex dtype to crossfade, got {self.dtype}")
        run = self._prepared(kernel) if isinstance(kernel, Prepared) else self._new_run(kernel)
        with np.errstate(all="ignore"):
            run.follow(max(self._runs, key=lambda run: run.memory))
        if c == 0:
            self._runs, self._fades = [run], []
            return
        self._runs.append(run)
        ramp = np.arange(1, c + 1) / (c + 1)
        self._fades.append(_Fade(ramp.astype(self._mixed.real.dtype), 0))
        self._other = np.empty_like(self._mixed)

    def prepare(self, kernel: npt.ArrayLike) -> Prepared:
        """Transform a kernel for `set_kernel`; in any thread, while others call `process`.

        Parameters
        ----------
        kernel : array_like
            As for `set_kernel`.

        Returns
        -------
        Prepared
            To be passed to `set_kernel` of this stream, once.

        Examples
        --------
        >>> import fastconv, numpy as np
        >>> stream = fastconv.Convolver(np.ones(300))
        >>> softer = stream.prepare(np.full(300, 0.5))
        >>> stream.set_kernel(softer, crossfade=64)
        """
        run = self._new_run(kernel)
        run.load(0, self._mixed[:, :0])  # takes pages that set_kernel would fault in
        return Prepared(self._settings, run)

    @property
    def _settings(self) -> tuple[Any, ...]:
        return (
            self.block_size, self.latency, self.axis, self.channels, self.dtype.str, self._threads
        )  # fmt: skip

    def _new_run(self, kernel: npt.ArrayLike) -> Partitioned:
        return self._run(self._taps(_numbers("kernel", kernel)))

    def _prepared(self, kernel: Prepared) -> Partitioned:
        if kernel._settings != self._settings:
            raise ValueError("expected a kernel that this stream prepared, or one like it")
        if kernel._run is None:
            raise ValueError("expected a prepared kernel that has not been set before")
        run, kernel._run = kernel._run, None
        return run

    def _outputs(self, begin: int, end: int) -> Array:
        """Outputs `begin` to `end` of the current block (rows, block), kernels faded."""
        y = self._runs[0].outputs()
        if not self._fades:
            return y
        mixed = self._mixed[:, begin:end]
        np.copyto(mixed, y[:, begin:end])
        for i, ((ramp, done), run) in enumerate(zip(self._fades, self._runs[1:])):
            new = run.outputs()[:, begin:end]
            g = ramp[done : done + end - begin]
            part, other = mixed[:, : len(g)], self._other[:, : len(g)]
            np.subtract(new[:, : len(g)], part, out=other)
            np.multiply(other, g, out=other)
            np.add(part, other, out=part)
            np.copyto(mixed[:, len(g) :], new[:, len(g) :])
            self._fades[i] = _Fade(ramp, done + end - begin)
        over = [i for i, fade in enumerate(self._fades, 1) if fade.done >= len(fade.ramp)]
        if over:
            del self._runs[: over[-1]], self._fades[: over[-1]]
        return self._mixed

    # ---- state
    # -----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {
            "settings": self._settings,
            "blocks": self._runs[-1].blocks,
            "current": self._runs[-1].current[:, : self._fill].copy(),
            "kernels": [run.kernel for run in self._runs],
            "histories": [run.history() for run in self._runs],
            "fades": [tuple(fade) for fade in self._fades],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.block_size, self.latency, self.axis, self.channels, name, self._threads = state[
            "settings"
        ]
        self.dtype = np.dtype(name)
        self._rows = math.prod(self.channels)
        self._start(state["kernels"][-1])
        self._runs = [self._run(kernel) for kernel in state["kernels"]]
        self._fades = [_Fade(*fade) for fade in state["fades"]]
        self._other = np.empty_like(self._mixed)
        self._fill = state["current"].shape[1]
        for run, history in zip(self._runs, state["histories"]):
            with np.errstate(all="ignore"):
                run.load(state["blocks"], history)
            run.current[:, : self._fill] = state["current"]

    # ---- arguments
    # -------------------------------------------------------------------------------

    def _taps(self, w: Array) -> Array:
        """A kernel as rows of taps: one for all rows, or one a row; checked and copied."""
        if w.dtype != self.dtype and not np.can_cast(w.dtype, self.dtype, "same_kind"):
            raise TypeError(f"expected a kernel that {self.dtype} holds, got {w.dtype}")
        if w.ndim > 1:
            if w.ndim != len(self.channels) + 1:
                raise ValueError(
                    f"expected a kernel of shape (taps,), or of {len(self.channels) + 1} dimensions"
                    f" for channels {self.channels}, got shape {w.shape}"
                )
            w = np.moveaxis(w, self.axis, -1)
            if any(size not in (1, want) for size, want in zip(w.shape, self.channels)):
                raise ValueError(
                    f"expected a kernel of sizes 1 or {self.channels} beside axis {self.axis}, got"
                    f" {w.shape[:-1]}"
                )
        if w.shape[-1] < 1:
            raise ValueError(f"expected a kernel of at least one tap, got shape {w.shape}")
        if w.size > w.shape[-1]:
            w = np.broadcast_to(w, (*self.channels, w.shape[-1]))
        taps = np.array(w, self.dtype).reshape(-1, w.shape[-1])
        if self.dtype.kind in "fc" and not np.isfinite(taps).all():
            raise ValueError(f"expected a kernel of finite numbers that {self.dtype} holds")
        return taps

    def _shape(self, n: int) -> tuple[int, ...]:
        """Shape of a chunk of n samples."""
        before, behind = self._beside
        return (*before, n, *behind)

    def _check(self, x: Array) -> None:
        shape = x.shape
        if x.ndim != len(self.channels) + 1 or shape != self._shape(shape[self.axis]):
            like = str(self._shape(-1)).replace("-1", "any")
            raise ValueError(f"expected a chunk of shape {like}, got {shape}")
        if x.dtype != self.dtype and not np.can_cast(x.dtype, self.dtype):
            raise TypeError(
                f"expected a chunk of a dtype that {self.dtype} holds, got {x.dtype}: pass dtype="
            )

    def _room(self, out: Array | None, count: int, x: Array) -> Array:
        shape = self._shape(count)
        if out is None:
            return np.empty(shape, self.dtype)
        if not isinstance(out, np.ndarray):
            raise TypeError(f"expected out to be an array, got {type(out).__name__}")
        if out.shape != shape:
            raise ValueError(f"expected out of shape {shape}, got {out.shape}")
        if out.dtype != self.dtype and not np.can_cast(self.dtype, out.dtype):
            raise TypeError(f"expected out of a dtype that holds {self.dtype}, got {out.dtype}")
        if not out.flags.writeable:
            raise ValueError("expected out to be writeable, got a read-only array")
        return out

    def _in_channels(self, rows: Array) -> Array:
        """Rows (rows, samples) as (*channels, samples): a view."""
        return rows if len(self.channels) == 1 else rows.reshape(*self.channels, rows.shape[1])


def _numbers(name: str, a: npt.ArrayLike) -> Array:
    """`a` as a plain array of at least one dimension."""
    if type(a) is not np.ndarray:
        if isinstance(a, np.ma.MaskedArray):
            raise TypeError(f"expected {name} without a mask, which would be lost: fill it")
        a = on_host(name, a)
    if a.ndim == 0:
        raise ValueError(f"expected {name} of at least one dimension, got a number")
    return a


def _computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """`dtype` in native byte order, if streams can be computed in it."""
    if dtype.kind in "iub" or dtype.char in "fdFD":
        return dtype.newbyteorder("=")
    raise TypeError(
        "expected float32, float64, complex64, complex128, an integer or bool dtype to compute in,"
        f" got {dtype}"
    )


def _sizes(channels: int | Sequence[int] | None, w: Array, axis: int) -> tuple[int, ...]:
    """Sizes of a chunk's axes beside `axis`."""
    if channels is None:
        if not -w.ndim <= axis < w.ndim:
            raise ValueError(f"expected an axis of a kernel of {w.ndim} dimensions, got {axis}")
        at = axis % w.ndim
        sizes = (*w.shape[:at], *w.shape[at + 1 :])
    elif isinstance(channels, Sequence):
        sizes = tuple(operator.index(c) for c in channels)
    else:
        sizes = (operator.index(channels),)
    if any(size < 1 for size in sizes):
        raise ValueError(f"expected at least one channel, got channels {sizes}")
    return sizes
