"""Fourier methods on libraries of transforms: layouts, spectra, and the plan of `fft`.

`overlap_save` has its own transforms, in C, and takes this plan for blocks that its guard leaves.

Correlation with w is multiplication of spectra: ``y = F^-1(F(x) * F(h))`` with h the kernel
reversed in a circle of n samples. The product is circular, so n need only be long enough that no
kept output sees a sample twice; how the problem is laid on circles is a `Layout`. Transforms are
those of `_transforms.py`: real input has half the spectrum, float32 stays float32.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import scipy.fft

from fastconv._accuracy import epsilon
from fastconv._epilogue import NOTHING, Epilogue
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem
from fastconv._solver import Config, Solver
from fastconv.solvers import _guard
from fastconv.solvers._blas import single_threaded_blas
from fastconv.solvers._transforms import Transforms, transforms

PAPER = (
    "Stockham, High-speed convolution and correlation (1966);"
    " error: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed.), theorem 24.2,"
    " and Schatzman, Accuracy of the discrete Fourier transform (1996)"
)

#: Bytes of data in flight at once where the problem can be cut: the L2 cache of one core of current
#: x86 servers. Arrays of this size also come back from malloc without page faults, which cost as
#: much as the transform itself.
CHUNK_BYTES = 1 << 20

#: Frequencies times products above which a matrix product for each frequency beats a loop over
#: channels: 0.35 ns against 1.3 ns a multiply-add at 16 x 16 channels, 1.5 ns against 0.5 at 4 x 4.
_MATMUL_PRODUCTS = 64


def refuse(problem: Problem) -> str | None:
    """The first condition of a Fourier method that `problem` fails, in words."""
    if problem.device != "cpu":
        return "it runs on the CPU only"
    if problem.is_exact:
        return f"{problem.dtype} must be exact, and Fourier transforms round"
    if problem.accuracy == "strict":
        return "its error grows with the largest input, not with each window's, as strict asks"
    if not problem.is_dense:
        return "input dilation would have it transform the zeros between samples"
    return None


def error_bound(problem: Problem, length: int) -> float:
    """Bound on abs(error) / B of a transform of `length` samples a channel.

    A transform's rms error is at most eta * log2(n) of the rms of its data, eta about 3 eps in the
    worst case (Higham, theorem 24.2) and 0.3 eps * sqrt(log2(n)) / log2(n) when roundings are
    independent (Schatzman 1996). The rms of the data is at most max|x|, and a spectrum's largest
    modulus at most sum|w|. With the constant 1 the largest of tests/test_fourier.py uses 0.3.
    Sums over channels add an error of their own, up to 0.03 eps a channel on one constant.
    """
    channels = max(1, problem.channels // problem.groups)
    return epsilon(problem) * (math.log2(2 + length * channels) + channels / 16)


def good_length(n: int, problem: Problem) -> int:
    """The least length of at least `n` that is a product of small primes."""
    return scipy.fft.next_fast_len(max(1, n), real=not problem.is_complex)


# ---- layout ----------------------------------------------------------------------------------


class Axis(NamedTuple):
    """How one axis is cut into circles of `n` samples, each giving up to `kept` outputs.

    A `circular` axis is one circle that holds x itself: what lies beyond the ends of x is the
    circle's own zeros or, for ``wrap``, the circle. On the others block b starts at sample
    ``b * kept * stride - before`` of x extended by the boundary rule. A `plain` axis, along which
    the kernel has one tap, is not transformed: its blocks hold n samples.
    """

    n: int
    kept: int
    circular: bool = False
    plain: bool = False


Layout = tuple[Axis, ...]


def whole_axis(problem: Problem, axis: int) -> Axis:
    """One circle for the complete axis, as short as keeps the wrapped part out of the outputs."""
    size, (before, after) = problem.size[axis], problem.padding[axis]
    span, kept = problem.span[axis], problem.out[axis]
    if span == 1 and max(problem.span) > 1:
        return Axis(problem.padded[axis], kept, plain=True)
    if problem.boundary == "zeros":
        # an output reaches at most max(before, after) beyond x: one run of zeros serves both ends
        n = max(size + max(before, after), span, problem.padded[axis] - span + 1)
        return Axis(good_length(n, problem), kept, circular=True)
    if problem.boundary == "wrap" and span <= size and kept * problem.stride[axis] <= size:
        if good_length(size, problem) == size:
            return Axis(size, kept, circular=True)
    return Axis(good_length(problem.padded[axis], problem), kept)


def cut_plain(problem: Problem, layout: Layout) -> Layout:
    """The same with plain axes but the last cut so that a circle's rows fill a chunk."""
    axes = list(layout)
    row = circle(layout) * problem.itemsize * (problem.channels // problem.groups)
    if axes[-1].plain:
        row *= axes[-1].n
    together = max(1, CHUNK_BYTES // max(1, row))
    for i in reversed(range(len(axes) - 1)):
        if axes[i].plain:
            kept = min(axes[i].kept, together)
            axes[i] = Axis((kept - 1) * problem.stride[i] + 1, kept, plain=True)
            together = max(1, together // axes[i].n)
    return tuple(axes)


def lengths(layout: Layout) -> tuple[int, ...]:
    """Length of the transform along each axis, 0 for none."""
    return tuple(0 if a.plain else a.n for a in layout)


def circle(layout: Layout) -> int:
    """Samples of one transform."""
    return math.prod(a.n for a in layout if not a.plain)


def extend(x: Array, ranges: list[tuple[int, int]], boundary: str, cval: complex) -> Array:
    """Samples start to stop of each trailing axis of x, extended by the boundary rule.

    A view of x where nothing sticks out.
    """
    lead = x.ndim - len(ranges)
    if boundary in ("zeros", "constant"):
        inside = [(max(0, a), max(0, min(b, n))) for (a, b), n in zip(ranges, x.shape[lead:])]
        part = x
        for axis, (a, b) in enumerate(inside, lead):
            part = part[(slice(None),) * axis + (slice(a, b),)]
        if inside == ranges:
            return part
        shape = x.shape[:lead] + tuple(b - a for a, b in ranges)
        y = np.full(shape, cval if boundary == "constant" else 0, dtype=x.dtype)
        if part.size:
            where = [slice(c - a, c - a + n)
                     for (c, _), (a, _), n in zip(inside, ranges, part.shape[lead:])]  # fmt: skip
            y[(slice(None),) * lead + tuple(where)] = part
        return y
    for axis, (a, b) in enumerate(ranges, lead):
        size = x.shape[axis]
        if a >= 0 and b <= size:
            x = x[(slice(None),) * axis + (slice(a, b),)]
        else:
            x = x.take(source_index(np.arange(a, b), size, boundary), axis=axis)
    return x


def source_index(t: Array, size: int, boundary: str) -> Array:
    """Samples of x that positions `t` of the extended axis stand for."""
    if boundary == "nearest" or size == 1:
        return t.clip(0, size - 1)
    if boundary == "wrap":
        return t % size
    period = 2 * size if boundary == "reflect" else 2 * size - 2
    t = t % period
    return np.where(t < size, t, period - t - (1 if boundary == "reflect" else 0))


# ---- spectra ---------------------------------------------------------------------------------


def forward(x: Array, n: tuple[int, ...], first: int, workers: int, by: Transforms) -> Array:
    """Transform of axes `first` on of x, zero-extended to `n`; 0 leaves an axis as it is.

    The last axis goes first, so that rows of zeros are added, not transformed.
    """
    real = not np.iscomplexobj(x)
    own = False  # x itself belongs to the caller
    for axis, m in reversed(list(enumerate(n, first))):
        if m:
            if real:
                x = by.rfft(x, m, axis=axis, workers=workers)
            else:
                x = by.fft(x, m, axis=axis, overwrite_x=own, workers=workers)
            real, own = False, True
    return x


def inverse(
    z: Array,
    n: tuple[int, ...],
    kept: tuple[slice, ...],
    first: int,
    real: bool,
    workers: int,
    by: Transforms,
) -> Array:
    """The `kept` part of the inverse transform of z, which is overwritten.

    Rows that are not kept are dropped before the next axis is transformed.
    """
    last = max(axis for axis, m in enumerate(n) if m)
    for i, m in enumerate(n):
        if m and real and i == last:
            z = by.irfft(z, m, axis=first + i, workers=workers)
        elif m:
            z = by.ifft(z, m, axis=first + i, overwrite_x=True, workers=workers)
        z = z[(slice(None),) * (first + i) + (kept[i],)]
    return z


@dataclasses.dataclass
class Spectrum:
    """Packed weights: the spectrum of w (g, k, c, *kernel), and what the guard needs of it.

    `values` is (g, k, c, *frequencies), or (g, *frequencies, c, k) where channels are summed `by
    matrix` products. `peak` (g, k) is the largest modulus of each filter's spectra, summed over
    channels: the filter multiplies its input's rms by no more. `exponent` (g, k) are the powers of
    two taken out of w, each filter's own: small filters beside large ones lose nothing.
    """

    values: Array
    by_matrix: bool
    peak: Array
    w: Array
    exponent: Array
    extras: dict[str, Any]

    def part(self, groups: slice) -> Spectrum:
        return Spectrum(
            self.values[groups], self.by_matrix, self.peak[groups], self.w[groups],
            self.exponent[groups], {},
        )  # fmt: skip

    def largest_taps(self, groups: slice) -> Array:
        """Flat positions (g, k, up to 32) of the largest taps of each filter, largest first."""
        if "taps" not in self.extras:
            flat = abs(self.w).reshape(*self.w.shape[:2], -1)
            m = min(32, flat.shape[-1])
            top = np.argpartition(flat, flat.shape[-1] - m, axis=-1)[..., -m:]
            order = np.argsort(np.take_along_axis(flat, top, -1), axis=-1)[..., ::-1]
            self.extras["taps"] = np.take_along_axis(top, order, -1)
        taps: Array = self.extras["taps"][groups]
        return taps

    def in_double(self, layout: Layout, problem: Problem, by: Transforms) -> Spectrum:
        """The spectrum of the same weights in double precision, made when first needed."""
        if "double" not in self.extras:
            w = self.w.astype(np.complex128 if problem.is_complex else np.float64)
            self.extras["double"] = spectrum(w, layout, problem, 1, by)
        double: Spectrum = self.extras["double"]
        return double


def exponents(peak: Array) -> Array:
    """Powers of two to take out so that products neither overflow nor vanish; mostly 0."""
    limit = np.finfo(peak.dtype).maxexp // 4
    e = np.frexp(peak)[1]
    return np.where(abs(e) > limit, e, 0)


def scaled(a: Array, exponent: Any) -> Array:
    """a * 2**exponent, in two steps so that neither factor overflows."""
    half = np.asarray(exponent) // 2
    real = a.real.dtype.type
    return a * np.ldexp(real(1), half) * np.ldexp(real(1), exponent - half)


def by_matrix(problem: Problem) -> bool:
    """Whether spectra are multiplied by a matrix product for each frequency."""
    k, c = problem.filters // problem.groups, problem.channels // problem.groups
    return min(k, c) > 1 and k * c >= _MATMUL_PRODUCTS


def _peak(z: Array, matrix: bool) -> Array:
    """Largest modulus of each filter's spectra, summed over channels: (g, k)."""
    if matrix:
        flat = z.reshape(z.shape[0], -1, *z.shape[-2:])
        step = max(1, (1 << 16) // math.prod(z.shape[-2:]))  # moduli stay in cache
        return np.max(
            [abs(flat[:, i : i + step]).sum(2).max(1) for i in range(0, flat.shape[1], step)],
            axis=0,
        )
    each = [[abs(zk).sum(0).max() if len(zk) > 1 else abs(zk).max() for zk in zg] for zg in z]
    return np.array(each, z.real.dtype)


def spectrum(w: Array, layout: Layout, problem: Problem, workers: int, by: Transforms) -> Spectrum:
    """Transform of w (g, k, c, *kernel), reversed and laid so that y[o] is sample o of a circle."""
    each = tuple(range(2, w.ndim))
    largest = np.maximum(abs(w.real).max(axis=each), abs(w.imag).max(axis=each))
    exponent = exponents(largest)
    tail = (1,) * (w.ndim - 2)
    z = scaled(w, -exponent.reshape(*exponent.shape, *tail)) if exponent.any() else w
    matrix = by_matrix(problem)
    first = 1 if matrix else 3
    if matrix:  # transforms write in C order whatever they read: they transpose for nothing
        z = z.transpose(0, *range(3, z.ndim), 2, 1)
    real = not problem.is_complex
    for axis in reversed(range(len(layout))):
        n, at = layout[axis].n, axis + first
        if layout[axis].plain:
            continue
        offset = problem.padding[axis][0] if layout[axis].circular else 0
        taps = (offset - np.arange(problem.kernel[axis]) * problem.dilation[axis]) % n
        laid = np.zeros((*z.shape[:at], n, *z.shape[at + 1 :]), z.dtype)
        laid[(slice(None),) * at + (taps,)] = z
        if real:
            z = by.rfft(laid, n, axis=at, workers=workers)
        else:
            z = by.fft(laid, n, axis=at, overwrite_x=True, workers=workers)
        real = False
    peak = _peak(z, matrix)
    return Spectrum(z, matrix, peak, w, exponent, {})


def multiply(x: Array, s: Spectrum, filters: slice) -> Array:
    """Sum over channels of x (n, g, c, *f) times the spectra of some filters: (n, g, k, *f).

    x may be overwritten when the spectrum has one filter.
    """
    values = s.values[:, filters]
    if s.values.shape[1:3] == (1, 1):
        x *= values[:, 0]
        return x
    z = x[:, :, None, 0] * values[:, :, 0]
    term = np.empty_like(z) if x.shape[2] > 1 else z
    for c in range(1, x.shape[2]):
        np.multiply(x[:, :, None, c], values[:, :, c], out=term)
        z += term
    return z


# ---- the plan --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Piece:
    """What is transformed together: images, groups, and outputs start to stop of each axis."""

    images: slice
    groups: slice
    kept: tuple[tuple[int, int], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Outputs along each axis."""
        return tuple(stop - start for start, stop in self.kept)


class Cut(NamedTuple):
    """How many images and groups make a piece of about CHUNK_BYTES."""

    images: int
    groups: int

    @classmethod
    def of(cls, problem: Problem, layout: Layout) -> Cut:
        channels = max(1, problem.channels // problem.groups)
        row = channels * math.prod(a.n for a in layout) * problem.itemsize
        together = max(1, CHUNK_BYTES // max(1, row))
        groups = max(1, min(problem.groups, together))
        return cls(max(1, min(problem.batch, together // groups)), groups)

    def pieces(self, problem: Problem, layout: Layout) -> int:
        """Pieces of a problem."""
        blocks = math.prod(-(-out // a.kept) for out, a in zip(problem.out, layout))
        return -(-problem.batch // self.images) * -(-problem.groups // self.groups) * blocks


def pieces(problem: Problem, layout: Layout) -> Iterator[Piece]:
    """Every piece of a problem, in order."""
    cut = Cut.of(problem, layout)
    blocks = [
        [(a, min(a + axis.kept, out)) for a in range(0, out, axis.kept)]
        for axis, out in zip(layout, problem.out)
    ]
    for i in range(0, problem.batch, cut.images):
        images = slice(i, min(i + cut.images, problem.batch))
        for g in range(0, problem.groups, cut.groups):
            groups = slice(g, min(g + cut.groups, problem.groups))
            for kept in itertools.product(*blocks):
                yield Piece(images, groups, kept)


def pool_threads(problem: Problem, layout: Layout, threads: int) -> int:
    """Threads among which pieces are shared; each should have a chunk or more to do."""
    blocks = math.prod(-(-out // a.kept) for out, a in zip(problem.out, layout))
    samples = problem.batch * problem.channels * blocks * math.prod(a.n for a in layout)
    chunks = samples * problem.itemsize // CHUNK_BYTES
    return max(1, min(threads, chunks, Cut.of(problem, layout).pieces(problem, layout)))


def filters_together(problem: Problem, layout: Layout) -> int:
    """Filters of a group whose products with a piece are held at once."""
    row = math.prod(a.n for a in layout) * problem.itemsize
    return max(1, min(problem.filters // problem.groups, CHUNK_BYTES // max(1, row)))


class FourierPlan(Plan):
    """A layout bound to a problem."""

    def __init__(
        self, problem: Problem, solver: Solver, config: Config, layout: Layout, machine: Machine
    ) -> None:
        super().__init__(problem, solver, config)
        self.layout = layout
        self._n = lengths(layout)
        self._channels = problem.channels // problem.groups
        self._filters = problem.filters // problem.groups
        self._threads = min(problem.threads, machine.cores)
        self._together = filters_together(problem, layout)
        self.transforms = transforms(str(config.get("library", "scipy")))

    def pack(self, w: Array) -> Any:
        if not np.isfinite(w).all():
            plan = _guard.direct_plan(self.problem)
            return plan, plan.pack(w)
        p = self.problem
        w = w.copy().reshape(p.groups, self._filters, self._channels, *p.kernel)
        workers = 1 if p.deterministic else self._threads
        return self, spectrum(w, self.layout, p, workers, self.transforms)

    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        plan, weights = packed
        if plan is not self and not isinstance(weights, Spectrum):
            plan.execute(x, weights, epilogue, y)
            return
        if weights.by_matrix:  # BLAS: products too small to share out
            with single_threaded_blas():
                self._run_all(x, weights, epilogue, y)
        else:
            self._run_all(x, weights, epilogue, y)

    def _run_all(self, x: Array, weights: Spectrum, epilogue: Epilogue | None, y: Array) -> None:
        work = pieces(self.problem, self.layout)
        side_by_side = pool_threads(self.problem, self.layout, self._threads)
        flushes = core.flushes()
        if side_by_side == 1:
            # threads of a library's, which might round otherwise, and know of no flushing
            workers = 1 if flushes or self.problem.deterministic else self._threads
            for piece in work:
                self._run(piece, x, weights, epilogue, y, workers)
            return
        with ThreadPoolExecutor(side_by_side, initializer=core.flush, initargs=(flushes,)) as pool:
            for done in [pool.submit(self._run, p, x, weights, epilogue, y, 1) for p in work]:
                done.result()

    def _run(
        self, piece: Piece, x: Array, s: Spectrum, epilogue: Epilogue | None, y: Array, workers: int
    ) -> None:
        p = self.problem
        x = x.reshape(p.batch, p.groups, self._channels, *p.size)[piece.images, piece.groups]
        rows = self._rows(piece, x, whole=False)
        peak = _guard.peak(rows)
        bad = not np.isfinite(peak).all()
        if bad:
            rows = np.where(np.isfinite(rows), rows, 0)
            peak = _guard.peak(rows)
        part = s.part(piece.groups)
        for k in range(0, self._filters, self._together):
            filters = slice(k, min(k + self._together, self._filters))
            z = self.apply(rows, peak, part, filters, piece.sizes, workers)
            suspects = limit = None
            if p.accuracy != "fast":
                limit = self.limit(peak, part, filters)
                suspects = _guard.suspects(z, limit)
            if suspects is not None or bad:
                windows = self._rows(piece, x, whole=True)
                guard = _guard.Guard(self, s, piece.groups, filters, piece.sizes)
                guard.mend(rows, windows, z, suspects, limit, bad)
            self._store(piece, z, filters, epilogue, y)

    def apply(
        self, rows: Array, peak: Array, s: Spectrum, filters: slice, sizes: tuple[int, ...],
        workers: int,
    ) -> Array:  # fmt: skip
        """Outputs (n, g, k, *sizes) of data (n, g, c, *samples) by Fourier transforms."""
        p = self.problem
        tail = (1,) * p.ndim
        down = exponents(peak).reshape(*peak.shape, 1, *tail)
        shift = down.any()
        if shift:
            rows = scaled(rows, -down)
        kept = tuple(slice(0, (m - 1) * u + 1, u) for m, u in zip(sizes, p.stride))
        real = not p.is_complex
        if s.by_matrix:
            rows = rows.transpose(1, *range(3, rows.ndim), 0, 2)
            z = forward(rows, self._n, 1, workers, self.transforms) @ s.values[..., filters]
            y = inverse(z, self._n, kept, 1, real, workers, self.transforms)
            y = y.transpose(-2, 0, -1, *range(1, y.ndim - 2))
        else:
            z = multiply(forward(rows, self._n, 3, workers, self.transforms), s, filters)
            y = inverse(z, self._n, kept, 3, real, workers, self.transforms)
        back = s.exponent[:, filters]
        if shift or back.any():
            with np.errstate(over="ignore", under="ignore"):
                y = scaled(y, down + back.reshape(*back.shape, *tail))
        return y

    def limit(self, peak: Array, s: Spectrum, filters: slice) -> Array:
        """Largest error of the outputs of each image and filter (n, g, k)."""
        unit = error_bound(self.problem, circle(self.layout))
        if s.peak.dtype != self._dtype.type(0).real.dtype:  # in double
            unit *= float(np.finfo(s.peak.dtype).eps) / epsilon(self.problem)
        with np.errstate(over="ignore", under="ignore"):
            wide = np.result_type(peak.dtype, np.float64)
            w = scaled(s.peak[:, filters].astype(wide), s.exponent[:, filters])
            return unit * peak.astype(wide)[:, :, None] * w

    def _rows(self, piece: Piece, x: Array, whole: bool) -> Array:
        """Samples (n, g, c, *samples) of a piece; `whole`: circular axes in padded positions."""
        p = self.problem
        ranges = []
        for axis, (start, stop) in enumerate(piece.kept):
            u, before = p.stride[axis], p.padding[axis][0]
            first = start * u - before
            ranges.append(
                (0, p.size[axis])
                if self.layout[axis].circular and not whole
                else (first, first + (stop - 1 - start) * u + p.span[axis])
            )
        return extend(x, ranges, p.boundary, p.cval)

    def _store(
        self, piece: Piece, z: Array, filters: slice, epilogue: Epilogue | None, y: Array
    ) -> None:
        p = self.problem

        def part(a: Array) -> Array:
            a = a.reshape(p.batch, p.groups, self._filters, *p.out)
            return a[(piece.images, piece.groups, filters, *(slice(*k) for k in piece.kept))]

        bias, residual, activation = epilogue or NOTHING
        y = part(y)
        if bias is None:
            y[...] = z
        else:
            b = bias.reshape(p.groups, self._filters)[piece.groups, filters]
            np.add(z, b.reshape(*b.shape, *(1,) * p.ndim), out=y)
        Epilogue(None, None if residual is None else part(residual), activation).finish(y)


# ---- estimates -------------------------------------------------------------------------------


def half(problem: Problem, layout: Layout) -> int:
    """Frequencies kept of one transform."""
    n = [m for m in lengths(layout) if m]
    return math.prod(n) if problem.is_complex else math.prod(n[:-1]) * (n[-1] // 2 + 1)


#: What pieces take of memory, of the bytes of their arrays: these are made and freed in turn, of
#: sizes that differ, and malloc keeps holes that nothing fits: 44.5 MB for 36 in 2 threads with 32
#: channels of 200 x 200.
_WITH_HOLES = 1.25


def workspace(problem: Problem, layout: Layout, alone: bool = False) -> int:
    """Bytes of the weights' spectra and of what each thread's piece holds at once.

    `alone`: one image at a time, in one thread.
    """
    item = problem.itemsize
    wide = item if problem.is_complex else 2 * item
    channels = problem.channels // problem.groups
    weights = (
        problem.filters
        * channels
        * (half(problem, layout) * wide + math.prod(problem.kernel) * item)
    )
    cut = Cut.of(problem, layout)
    rows = (1 if alone else cut.images) * cut.groups
    threads = 1 if alone else pool_threads(problem, layout, problem.threads)
    samples = math.prod(a.n for a in layout)
    frequencies = samples // circle(layout) * half(problem, layout)
    data = channels * (samples * item + 2 * frequencies * wide)
    result = filters_together(problem, layout) * (2 * frequencies * wide + samples * (item + 1))
    return weights + int(_WITH_HOLES * (rows * (data + result) * threads))


#: ns a sample and factor of log2(length) of one scipy.fft transform of real data along one axis, by
#: bytes of a real: lines of 256 to 16384 samples, 64 Ki samples at a time (0.12 to 0.14 in float32,
#: 0.19 to 0.22 in float64), and lines beyond the L2 cache (2**16 to 2**20 samples). Long double
#: runs on the x87 unit. All constants here are of one core of a 3 GHz AMD EPYC, 1 MiB L2.
_NS_A_BUTTERFLY = {4: (0.11, 0.19), 8: (0.16, 0.2), 12: (3.0, 3.0), 16: (3.0, 3.0)}

#: Strided lines of an inner axis against the same work on the last one: 1125 x 1944 float32.
_INNER_AXIS = 1.2

#: ns a byte of input and spectrum, a transform: lines within the cache, and lines beyond it with
#: the page faults of new arrays (float32 of 3e6 samples 0.3, float64 of 1e6 and 2e6 0.45).
_NS_A_BYTE = (0.05, 0.28)

#: ns a complex multiply-add of spectra, by bytes of a real: elementwise with a sum over channels,
#: and as a matrix product a frequency.
_NS_A_PRODUCT = {4: (1.0, 0.3), 8: (1.5, 0.5), 12: (20.0, 20.0), 16: (20.0, 20.0)}

#: ns a sample of extending, comparing with the peak and storing: 2000 rows of 4096 float32.
_NS_A_SAMPLE = {4: 1.0, 8: 1.4, 12: 6.0, 16: 6.0}

#: ns a byte of weights' spectra read from memory: 8 GB/s.
_NS_A_SPECTRUM_BYTE = 0.125

#: ns a frequency of the weights' peak and of writing their spectra to new memory: 64 x 64 filters
#: of 72 x 37.
_NS_A_WEIGHT = 4.0

#: seconds of Python for each piece and for each call: 4096 float64 with 512 taps.
_SECONDS_A_PIECE = 90e-6
_SECONDS_A_CALL = 90e-6


def floor(problem: Problem, machine: Machine) -> float:
    """Seconds that `seconds` is not below, whatever the layout.

    One piece: transforms of x, in cache, along the axes of the kernel, and the products of half as
    many frequencies.
    """
    if problem.is_exact:
        return 0.0
    real = problem.itemsize // (2 if problem.is_complex else 1)
    total = core.fourier_floor(
        problem.geometry, _NS_A_BUTTERFLY[real][0], _NS_A_BYTE[0], _NS_A_SAMPLE[real],
        min(_NS_A_PRODUCT[real]),
    )  # fmt: skip
    threads = max(1, min(problem.threads, machine.cores))
    return _SECONDS_A_CALL + (total * 1e-9 + _SECONDS_A_PIECE) / (1 + 0.45 * (threads - 1))


_ESTIMATES = {
    real: core.FourierCost(
        butterfly=_NS_A_BUTTERFLY[real], byte=_NS_A_BYTE, product=_NS_A_PRODUCT[real],
        inner_axis=_INNER_AXIS, sample=_NS_A_SAMPLE[real], spectrum_byte=_NS_A_SPECTRUM_BYTE,
        weight=_NS_A_WEIGHT, piece=_SECONDS_A_PIECE, call=_SECONDS_A_CALL,
        matmul_products=_MATMUL_PRODUCTS,
    )
    for real in _NS_A_BUTTERFLY
}  # fmt: skip


def seconds(problem: Problem, layout: Layout, machine: Machine) -> float:
    """Estimated time of a call; the constants above say how they were measured."""
    real = problem.itemsize // (2 if problem.is_complex else 1)
    threads = min(problem.threads, machine.cores)
    return _ESTIMATES[real].seconds(problem.geometry, layout, machine, threads, CHUNK_BYTES)
