"""Convolution of blocks as they come in, the kernel cut into partitions of growing length.

    y[n] = sum over i < 2 size - block of w[i] x[n - i]                            direct
         + sum over levels, j < count of  F^-1(F(x, period k - j) F(w, partition j))[n]

A level has partitions of `size` taps, from tap ``2 * size - block`` on. Its input is complete once
a period of `size` samples is, and its first output is due ``size - block`` samples later: the work
of a period, one transform a channel forward, the products of all partitions, one transform a
channel back, is dealt out evenly over the ``size / block`` blocks until then (its *slots*). No
block has to wait for a long transform, and no thread is needed.

The spectra of past periods are the *line* of a level: its newest ``count`` periods, the newest
first, each stored twice so that any ``count`` in a row lie side by side.

Gardner, Efficient convolution without input-output delay, J. Audio Eng. Soc. 43(3), 1995;
Battenberg and Avizienis, Implementing real-time partitioned convolution algorithms on conventional
operating systems, DAFx 2011, from which the offset of ``2 * size - block``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import scipy.fft

from fastconv._engine import plan
from fastconv._ext import core
from fastconv._problem import Array
from fastconv.signal import convolve

# What the choice of partitions and the dealing out of work go by, in ns of one thread of a Zen 3
# with AVX2, measured one step at a time. They are fixed, so that a kernel
# has the same partitions, and a stream the same bits, on every machine.
#: A product in the direct head, float32.
_PRODUCT = 0.04
#: A complex product of spectra, added up, complex64.
_SPECTRAL = 0.7
#: A sample of a real float32 transform of n, over log2(n).
_TRANSFORM = 0.55
#: A step, whatever its size: the call of numpy.fft, and what is around it.
_STEP = 5000

#: Longest transform, in samples: beyond, the buffer that numpy.fft makes is mapped and unmapped by
#: every call (from 128 KB on, by glibc), and 16384 float32 samples take 290 us where 8192 take 60.
_LONGEST = 8192

#: Most taps that are summed in one call. `depthwise`, whose one running sum a strict bound allows
#: for some 1000, takes 12 us for 896 taps, 2 rows, 128 samples, where `direct` takes 28 for 1920.
_TOGETHER = 1024

#: What is done to a period: a method of `Level`, and the rows or bins that it is done for.
Step = tuple[Callable[[int, slice], None], slice]


#: Size in taps, the first tap, and how many there are of a level's partitions.
Partition = tuple[int, int, int]


def transform_length(size: int) -> int:
    """Samples of the circle in which partitions of `size` taps meet as many new samples."""
    n: int = scipy.fft.next_fast_len(2 * size - 1, real=True)
    return n


def partition(
    taps: int, block: int, rows: int, dtype: np.dtype[Any]
) -> tuple[int, list[Partition]]:
    """Taps of the direct head, and the partitions of the others.

    The least of the estimated time of a block, to which the longest single step is added: that is
    by how much one block may take longer than the others. Sizes are the block times powers of two.
    """
    if dtype.kind not in "fc":
        return taps, []
    wide = dtype.itemsize / 4  # a complex number is two real ones, a product of them four
    product = _PRODUCT * (wide if dtype.kind == "f" else 2 * wide) * rows * block
    best = (product * taps, taps, list[Partition]())
    for sizes in _chains(taps, block):
        head, parts = cut(sizes, taps, block)
        cost, longest = product * head, 0.0
        for size, _, count in parts:
            n = transform_length(size)
            each = wide * _TRANSFORM * n * math.log2(n)
            work = rows * (2 * (each + _STEP) + wide * _SPECTRAL * count * (n // 2 + 1))
            cost += work * block / size + _STEP
            longest = max(longest, each)
        if cost + longest < best[0]:
            best = cost + longest, head, parts
    return best[1], best[2]


def cut(sizes: Sequence[int], taps: int, block: int) -> tuple[int, list[Partition]]:
    """Taps of the head, and the partitions, when levels have these sizes."""
    offsets = [2 * size - block for size in sizes]
    ends = [*offsets[1:], taps]
    return offsets[0], [
        (size, offset, -(-(end - offset) // size))
        for size, offset, end in zip(sizes, offsets, ends)
    ]


def _chains(taps: int, block: int) -> Iterator[tuple[int, ...]]:
    """Increasing sizes of one to three levels that kernels of `taps` taps can have."""
    sizes = []
    size = block
    while 2 * size - block < taps and (size == block or 2 * size <= _LONGEST):
        sizes.append(size)
        size *= 2
    for levels in (1, 2, 3):
        yield from itertools.combinations(sizes, levels)


# The only transforms: of the last axis, written to `out`. Input is scaled by n**-0.5 both ways, the
# kernel not at all. With no factor, numpy.fft (2.4) transforms float32 in double, in new buffers:
# 8192 samples take 80 us instead of 47.


def _forward(x: Array, out: Array, norm: Literal["ortho", "backward"] = "ortho") -> None:
    if x.dtype.kind == "c":
        np.fft.fft(x, norm=norm, out=out)
    else:
        np.fft.rfft(x, norm=norm, out=out)


def _inverse(z: Array, out: Array) -> None:
    if out.dtype.kind == "c":
        np.fft.ifft(z, norm="ortho", out=out)
    else:
        np.fft.irfft(z, n=out.shape[-1], norm="ortho", out=out)


class Middle:
    """Direct taps that meet no sample of the block itself: summed once, before it comes in.

    Parameters
    ----------
    kernel : array, (1 or rows, taps)
        Those from `first` on, which is at least a block.
    past : array
        As `Level` has it.
    """

    def __init__(self, kernel: Array, first: int, block: int, past: Array, memory: int) -> None:
        rows, taps = past.shape[0], kernel.shape[1]
        self._past, self._memory, self._block = past, memory, block
        self._behind = first + taps - 1
        self._x = np.zeros((rows, taps - 1 + block), past.dtype)
        self._y = np.zeros((rows, block), past.dtype)
        self._sum = plan(
            convolve, self._x, kernel, mode="valid", axes=-1, accuracy="strict", threads=1,
            deterministic=True,
        )  # fmt: skip

    @property
    def error_bound(self) -> float:
        return max(candidate.error_bound for candidate in self._sum.candidates)

    def tail(self, blocks: int) -> Array:
        """What they add to the outputs of the block after so many: (rows, block)."""
        begin = (blocks * self._block - self._behind) % self._memory
        np.copyto(self._x, self._past[:, begin : begin + self._x.shape[1]])
        tail: Array = self._sum(self._x, out=self._y)
        return tail


class Level:
    """The partitions of one size.

    Parameters
    ----------
    kernel : array, (1 or rows, taps)
        What its sums are to be multiplied by is `scale` (1 or rows, 1), unless that is None.
    past : array, (rows, `memory` and as much again of its beginning as a window holds)
        The input, as `Partitioned` keeps it.
    """

    def __init__(
        self,
        kernel: Array,
        scale: Array | None,
        part: Partition,
        block: int,
        past: Array,
        memory: int,
    ) -> None:
        self.size, offset, self.count = part
        self.slots = self.size // block
        self._block, self._memory, self._past, self._scale = block, memory, past, scale
        rows, dtype = past.shape[0], past.dtype
        self.n = n = transform_length(self.size)
        bins = n if dtype.kind == "c" else n // 2 + 1
        spectral = np.result_type(dtype, np.complex64)
        taps = np.zeros((len(kernel), self.count * self.size), dtype)
        own = kernel[:, offset : offset + taps.shape[1]]
        taps[:, : own.shape[1]] = own
        self._spectra = np.empty((len(kernel), self.count, bins), spectral)
        circles = np.zeros((len(kernel), self.count, n), dtype)
        circles[:, :, : self.size] = taps.reshape(len(kernel), self.count, self.size)
        _forward(circles, self._spectra, "backward")
        self._line = np.zeros((2 * self.count, rows, bins), spectral)
        self._sums = np.zeros((rows, bins), spectral)
        self._circle = np.zeros((rows, n), dtype)
        self._out = np.zeros((self.slots, rows, block), dtype)
        self._steps = self._deal(rows, bins)

    def _deal(self, rows: int, bins: int) -> list[list[Step]]:
        """The steps of each slot, in order: about the same work for each."""
        transform = _TRANSFORM * self.n * math.log2(self.n) + _STEP / rows
        products = _SPECTRAL * rows * self.count * bins
        share = (2 * rows * transform + products) / self.slots
        steps: list[list[Step]] = [[] for _ in range(self.slots)]

        def deal_rows(step: Callable[[int, slice], None], begin: float) -> None:
            slots = [int((begin + (r + 0.5) * transform) / share) for r in range(rows)]
            for slot, group in itertools.groupby(range(rows), slots.__getitem__):
                members = list(group)
                steps[slot].append((step, slice(members[0], members[-1] + 1)))

        deal_rows(self._transform, 0.0)
        begin = rows * transform
        first, last = int(begin / share), min(self.slots - 1, int((begin + products) / share))
        edges = [
            round(bins * min(1.0, max(0.0, (slot * share - begin) / products)))
            for slot in range(first, last + 1)
        ]
        edges.append(bins)
        for slot, (a, b) in enumerate(itertools.pairwise(edges), first):
            if a < b:
                steps[slot].append((self._multiply, slice(a, b)))
        deal_rows(self._back, begin + products)
        return steps

    def advance(self, blocks: int) -> None:
        """Do what falls to the slot after so many blocks."""
        period, slot = divmod(blocks, self.slots)
        self._run(period - 1, slot)

    def tail(self, blocks: int) -> Array:
        """What the level adds to the outputs of the block after so many: (rows, block)."""
        tail: Array = self._out[(blocks + 1) % self.slots]
        return tail

    def rebuild(self, blocks: int, like: Level | None = None) -> None:
        """Be as `blocks` calls of `advance` would have left it, from the past input alone.

        `like` has met the same input in partitions of the same lengths: its line is copied.
        """
        self._line[...] = 0 if like is None else like._line
        self._sums[...] = 0
        self._circle[...] = 0
        self._out[...] = 0
        if blocks == 0:
            return
        period, slot = divmod(blocks, self.slots)
        period -= 1
        everyone = slice(0, len(self._past))
        # the newest period has taken the place of the oldest in a line that is copied
        missing = range(period - self.count, period if like is None else period - self.count + 1)
        for earlier in missing:
            if earlier >= 0:
                self._transform(earlier, everyone)
            elif like is not None:
                self._line[-earlier % self.count :: self.count] = 0
        for done in range(self.slots):
            self._run(period - 1, done, transform=False)
        for done in range(slot + 1):
            self._run(period, done)

    def _run(self, period: int, slot: int, transform: bool = True) -> None:
        if period < 0:
            return
        for step, what in self._steps[slot]:
            if transform or step != self._transform:
                step(period, what)
        if slot == self.slots - 1:
            new = self._circle[:, self.n - self.size :].reshape(-1, self.slots, self._block)
            np.copyto(self._out.transpose(1, 0, 2), new)
            if self._scale is not None:
                np.multiply(self._out, self._scale, out=self._out)

    def _transform(self, period: int, rows: slice) -> None:
        begin = ((period + 1) * self.size - self.n) % self._memory
        at = -period % self.count
        to = self._line[at, rows]
        _forward(self._past[rows, begin : begin + self.n], to)
        np.copyto(self._line[at + self.count, rows], to)

    def _multiply(self, period: int, bins: slice) -> None:
        first = -period % self.count
        core.multiply_spectra(self._line, self._spectra, self._sums, first, bins.start, bins.stop)

    def _back(self, period: int, rows: slice) -> None:
        _inverse(self._sums[rows], self._circle[rows])


def _scaled(kernel: Array) -> tuple[Array, Array | None]:
    """The kernel without powers of two (1 or rows, 1) that are very large or small, and these."""
    sums = np.abs(kernel).astype(np.float64).sum(axis=1, keepdims=True)
    info = np.finfo(kernel.dtype)
    exponent = np.frexp(sums)[1]
    exponent = np.where(abs(exponent) > info.maxexp // 4, exponent, 0)
    if not exponent.any():
        return kernel, None
    one = np.ones((), kernel.real.dtype)
    half = exponent // 2  # in two steps: 2**-exponent itself may not be a number
    return kernel * np.ldexp(one, -half) * np.ldexp(one, half - exponent), np.ldexp(one, exponent)


class Partitioned:
    """A kernel, the blocks that it has met, and the outputs of the one that is coming in.

    Parameters
    ----------
    kernel : array, (1 or rows, taps)
        Of the dtype that is computed in; one for all rows, or one a row.
    block : int
        Samples of a block.
    rows : int
        Channels.
    whole : bool
        One planned call a block does it all, by whatever method is quickest: outputs are then only
        asked for once a block is complete, and blocks are long.
    threads : int, optional
        The most that such a call may use.
    """

    def __init__(
        self, kernel: Array, block: int, rows: int, whole: bool, threads: int | None
    ) -> None:
        self.kernel, self._block = kernel, block
        dtype = kernel.dtype
        self.taps = taps = kernel.shape[1]
        self.head, self.parts = taps, list[Partition]()
        if not whole:
            self.head, self.parts = partition(taps, block, rows, dtype)
        # taps that meet no sample of the block that is coming in are summed before it
        direct = self.head
        pieces = -(-direct // _TOGETHER) if self.parts else 1
        if pieces > 1 and -(-direct // pieces) >= block:
            self.head = -(-direct // pieces)
        self._windows = [np.zeros((rows, self.head - 1 + block), dtype) for _ in range(2)]
        self._currents = [window[:, self.head - 1 :] for window in self._windows]
        self._y = np.empty((rows, block), dtype)
        self._tail = np.zeros((rows, block), dtype)
        self._head = plan(
            convolve, self._windows[0], kernel[:, : self.head], mode="valid", axes=-1,
            accuracy="balanced" if whole else "strict", threads=threads if whole else 1,
            deterministic=True,
        )  # fmt: skip
        # an oldest period that a line still holds, with its window, until two periods later; and
        # in whole periods, so that none runs across the end
        longest = max((size for size, _, _ in self.parts), default=block)
        window = max((transform_length(size) for size, _, _ in self.parts), default=0)
        needed = [size * (count + 3) + transform_length(size) for size, _, count in self.parts]
        needed.append(taps + block)
        self.memory = -(-max(needed) // longest) * longest
        self._window = window
        self._past = np.zeros((rows, self.memory + window), dtype)
        self.blocks = 0
        self.levels: list[Level] = []
        self._middles = [
            Middle(kernel[:, a : min(direct, a + self.head)], a, block, self._past, self.memory)
            for a in range(self.head, direct, self.head)
        ]
        self._aside = Aside(kernel, self.head)
        if self.parts:
            scaled, scale = _scaled(kernel)
            self.levels = [
                Level(scaled, scale, part, block, self._past, self.memory) for part in self.parts
            ]
            real = self._tail.real.dtype
            # no transform, product or sum of smaller samples overflows: both transforms together
            # make them n times as large, the kernel 2**(maxexp / 4), a complex product twice
            info = np.finfo(real)
            self._limit = float(info.max) / (4.0 * window * 2.0 ** (info.maxexp // 4))

    @property
    def error_bound(self) -> float:
        """Bound on abs(error) over max(abs(x)) * sum(abs(w)); 0 for exact dtypes."""
        bound = max(candidate.error_bound for candidate in self._head.candidates)
        if not self.parts:
            return bound
        bound = max([bound, *(middle.error_bound for middle in self._middles)])
        eps = float(np.finfo(self._tail.dtype).eps)
        for size, _, count in self.parts:  # that of docs/accuracy.md, partitions being channels
            n = transform_length(size)
            bound = max(bound, eps * (math.log2(2 + n * count) + count / 16))
        return bound + eps * (len(self._middles) + len(self.parts))

    @property
    def current(self) -> Array:
        """Where samples of the block that is coming in belong: (rows, block)."""
        return self._currents[self.blocks & 1]

    def outputs(self) -> Array:
        """Outputs of the current block (rows, block): good as far as its samples have come."""
        y: Array = self._head(self._windows[self.blocks & 1], out=self._y)
        if self.levels:
            np.add(y, self._tail, out=y)
        return y

    def advance(self) -> None:
        """The current block is complete: begin the next one."""
        block, here = self._block, self._windows[self.blocks & 1]
        self._remember(self.current)
        self.blocks += 1
        np.copyto(self._windows[self.blocks & 1][:, : self.head - 1], here[:, block:])
        for level in self.levels:
            level.advance(self.blocks)
        self._add_up()

    def _remember(self, x: Array) -> None:
        """Write a block to the past; samples that no transform may meet are set aside."""
        at = self.blocks * self._block % self.memory
        end = at + self._block
        past = self._past[:, at:end]
        if not self.levels:
            np.copyto(past, x)
        elif not core.copy_within(x, past, self._limit):
            self._aside.take(past, self.blocks * self._block, self._limit)
        if at < self._window:
            stop = min(end, self._window)
            again = self._past[:, self.memory + at : self.memory + stop]
            core.copy_within(past[:, : stop - at], again, self._limit)  # np.copyto buffers these

    def _add_up(self) -> None:
        """The tail of the block to come, from all levels."""
        if not self.levels:
            return
        np.copyto(self._tail, self.levels[0].tail(self.blocks))
        others: list[Level | Middle] = [*self.levels[1:], *self._middles]
        for part in others:
            np.add(self._tail, part.tail(self.blocks), out=self._tail)
        if self._aside:
            self._aside.add(self._tail, self.blocks * self._block)

    def history(self) -> Array:
        """The last `memory` samples before the current block (rows, memory), 0 before the first."""
        at = self.blocks * self._block % self.memory
        past = np.roll(self._past[:, : self.memory], -at, axis=1)
        self._aside.put_back(past, self.blocks * self._block - self.memory)
        return past

    def follow(self, other: Partitioned) -> None:
        """Be as if it had met what `other` has, the unfinished block too."""
        if (self.parts, self.head, self.memory) != (other.parts, other.head, other.memory):
            self.load(other.blocks, other.history())
        else:
            self.blocks = other.blocks
            np.copyto(self._past, other._past)
            for window, source in zip(self._windows, other._windows):
                np.copyto(window, source)
            self._aside = other._aside.copy(self.kernel)
            for level, like in zip(self.levels, other.levels):
                level.rebuild(self.blocks, like)
            self._add_up()
        np.copyto(self.current, other.current)

    def load(self, blocks: int, history: Array) -> None:
        """Be as after `blocks` blocks whose last samples are `history` (rows, any)."""
        self._past[...] = 0
        self._aside = Aside(self.kernel, self.head)
        known = min(history.shape[1], self.memory, blocks * self._block)
        known -= known % self._block
        source = history[:, history.shape[1] - known :]
        for i in range(0, known, self._block):
            self.blocks = blocks - (known - i) // self._block
            self._remember(source[:, i : i + self._block])
        self.blocks = blocks
        for window in self._windows:
            window[...] = 0
            recent = min(self.head - 1, known)
            window[:, self.head - 1 - recent : self.head - 1] = source[:, known - recent :]
        for level in self.levels:
            level.rebuild(blocks)
        self._add_up()


class Aside:
    """Samples that are not finite, or so large that a transform might overflow.

    They are 0 in transforms, and multiplied by taps from `head` on as the definition has it: so
    they reach the outputs whose windows hold them, and no others.
    """

    #: Products made at once: 2 MB of positions.
    _TOGETHER = 1 << 18

    def __init__(self, kernel: Array, head: int) -> None:
        self._kernel, self._head = kernel, head
        self._row = np.zeros(0, np.int64)
        self._at = np.zeros(0, np.int64)
        self._values = np.zeros(0, kernel.dtype)

    def __bool__(self) -> bool:
        return self._at.size > 0

    def copy(self, kernel: Array) -> Aside:
        """The same samples, to be multiplied by another kernel."""
        made = Aside(kernel, self._head)
        made._row, made._at, made._values = self._row, self._at, self._values
        return made

    def take(self, x: Array, begin: int, limit: float) -> None:
        """Keep what is over the limit in x (rows, block), from sample `begin` on; leave 0."""
        row, at = np.nonzero(~((abs(x.real) <= limit) & (abs(x.imag) <= limit)))
        self._row = np.concatenate([self._row, row])
        self._at = np.concatenate([self._at, at + begin])
        self._values = np.concatenate([self._values, x[row, at]])
        x[row, at] = 0

    def put_back(self, x: Array, begin: int) -> None:
        """Write them to x (rows, samples), whose first sample is `begin`."""
        here = self._at >= begin
        x[self._row[here], self._at[here] - begin] = self._values[here]

    def add(self, tail: Array, begin: int) -> None:
        """Add their products to the outputs of the block from sample `begin` on."""
        self._forget(begin)
        n = begin + np.arange(tail.shape[1])[:, None]
        together = max(1, self._TOGETHER // len(n))
        for i in range(0, self._at.size, together):
            row, at, values = (a[i : i + together] for a in (self._row, self._at, self._values))
            tap = n - at
            met = (tap >= self._head) & (tap < self._kernel.shape[1])
            w = self._kernel[row if len(self._kernel) > 1 else 0, np.where(met, tap, 0)]
            np.add.at(tail, (row, n - begin), np.where(met, values * w, 0))

    def _forget(self, begin: int) -> None:
        """Drop what no window from sample `begin` on holds, or a later NaN makes irrelevant."""
        newest = np.full(self._row.max() + 1, -1)
        nan = np.isnan(self._values)
        np.maximum.at(newest, self._row[nan], self._at[nan])
        keep = (self._at > begin - self._kernel.shape[1]) & (self._at >= newest[self._row])
        self._row, self._at, self._values = self._row[keep], self._at[keep], self._values[keep]
