"""What `fft` and `overlap_save` share: transforms, spectra, and the plan that runs both.

Correlation with w is multiplication of spectra: ``y = F^-1(F(x) * F(h))`` with h the kernel reversed in
the circle of n samples. The product is circular, so n need only be long enough that no kept output
sees a sample twice; how the problem is laid on circles is a `Layout`, and the two solvers differ in
nothing else. Transforms are scipy.fft's (pocketfft): real input has half the spectrum, float32 stays
float32.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.fft

from fastconv._accuracy import epsilon
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem, numpy_dtype
from fastconv._solver import Config, Solver
from fastconv.solvers import _guard

PAPER = (
    "Stockham, High-speed convolution and correlation (1966);"
    " error: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed.), theorem 24.2,"
    " and Schatzman, Accuracy of the discrete Fourier transform (1996)"
)

#: Bytes of spectra that are in flight at once where the problem can be cut: the L2 cache of one core
#: of current x86 servers. Arrays of this size also come back from malloc without page faults, which
#: at 0.25 ns a byte cost as much as the transform itself.
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
    if max(problem.input_dilation) > 1:
        return "input dilation would have it transform the zeros between samples"
    return None


def error_bound(problem: Problem, length: int) -> float:
    """Bound on abs(error) / B of a transform of `length` samples a channel.

    A transform's rms error is at most eta * log2(n) of the rms of its data, eta about 3 eps in the
    worst case (Higham, theorem 24.2) and 0.3 eps * sqrt(log2(n)) / log2(n) when roundings are
    independent (Schatzman 1996). The rms of the data is at most max|x|, and a spectrum's largest
    modulus at most sum|w|. With the constant 1 the largest of tests/test_fourier.py uses 0.3.
    """
    length *= max(1, problem.channels // problem.groups)
    return epsilon(problem) * math.log2(2 + length)


def good_length(n: int, problem: Problem) -> int:
    """The least length of at least `n` that is a product of small primes."""
    return scipy.fft.next_fast_len(max(1, n), real=not problem.is_complex)


# ---- layout ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Axis:
    """How one axis is cut into circles of `n` samples, each giving `kept` outputs.

    A `circular` axis is one circle that holds x itself: what lies beyond the ends of x is the circle's
    own zeros or, for ``wrap``, the circle. On the others block b starts at sample
    ``b * step - before`` of x extended by the boundary rule.
    """

    n: int
    kept: int
    circular: bool = False


Layout = tuple[Axis, ...]


def whole_axis(problem: Problem, axis: int) -> Axis:
    """One circle for the complete axis, as short as keeps the wrapped part out of the outputs."""
    size, (before, after) = problem.size[axis], problem.padding[axis]
    span, kept = problem.span[axis], problem.out[axis]
    if problem.boundary == "zeros":
        # an output reaches at most max(before, after) beyond x: one run of zeros serves both ends
        return Axis(good_length(max(size + max(before, after), span), problem), kept, True)
    if problem.boundary == "wrap" and span <= size and kept * problem.stride[axis] <= size:
        if good_length(size, problem) == size:
            return Axis(size, kept, True)
    return Axis(good_length(problem.padded[axis], problem), kept)


def block_axis(problem: Problem, axis: int, n: int) -> Axis:
    """Circles of `n` samples, overlapping by what a window spans."""
    return Axis(n, (n - problem.span[axis]) // problem.stride[axis] + 1)


def spectrum_shape(layout: Layout, problem: Problem) -> tuple[int, ...]:
    n = tuple(a.n for a in layout)
    return n if problem.is_complex else (*n[:-1], n[-1] // 2 + 1)


def extend(x: Array, ranges: list[tuple[int, int]], boundary: str, cval: complex) -> Array:
    """Samples start to stop of each trailing axis of x, extended by the boundary rule.

    A view of x where nothing sticks out.
    """
    lead = x.ndim - len(ranges)
    if boundary in ("zeros", "constant"):
        inner = tuple(slice(max(0, a), max(0, min(b, s))) for (a, b), s in zip(ranges, x.shape[lead:]))
        if all(s.start == a and s.stop == b for s, (a, b) in zip(inner, ranges)):
            return x[(..., *inner)]
        y = np.full(
            (*x.shape[:lead], *(b - a for a, b in ranges)),
            cval if boundary == "constant" else 0, dtype=x.dtype,
        )  # fmt: skip
        part = x[(..., *inner)]
        where = (slice(s.start - a, s.start - a + e)
                 for s, (a, _), e in zip(inner, ranges, part.shape[lead:]))  # fmt: skip
        if part.size:
            y[(..., *where)] = part
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


def forward(x: Array, n: tuple[int, ...], workers: int) -> Array:
    """Transform of the trailing axes of x, zero-extended to `n`; rows of zeros are not transformed."""
    if np.iscomplexobj(x):
        z = scipy.fft.fft(x, n[-1], workers=workers)
    else:
        z = scipy.fft.rfft(x, n[-1], workers=workers)
    for axis in range(-2, -1 - len(n), -1):
        z = scipy.fft.fft(z, n[axis], axis=axis, overwrite_x=True, workers=workers)
    return z


def inverse(
    z: Array, n: tuple[int, ...], kept: tuple[slice, ...], real: bool, workers: int
) -> Array:
    """The `kept` part of the inverse transform of z, which is overwritten; rows that are not kept
    are dropped before the next axis."""
    for axis in range(-len(n), -1):
        z = scipy.fft.ifft(z, axis=axis, overwrite_x=True, workers=workers)
        z = z[(..., kept[axis], *(slice(None),) * (-1 - axis))]
    if real:
        z = scipy.fft.irfft(z, n[-1], workers=workers)
    else:
        z = scipy.fft.ifft(z, n[-1], overwrite_x=True, workers=workers)
    return z[..., kept[-1]]


@dataclasses.dataclass
class Spectrum:
    """Packed weights: `values` (g, k, c, 1, *frequencies), and what the guard needs of them.

    `peak` (g, k) is the largest modulus of the spectrum, summed over channels: no output can be
    larger than it times the input's rms, and no rms error larger than that times eps. `w`
    (g, k, c, *kernel) is the kernel itself and `exponent` the power of two taken out of it.
    """

    values: Array
    peak: Array
    w: Array
    exponent: int
    wide: Spectrum | None = None  # in double precision, made when first needed

    @property
    def by_frequency(self) -> bool:
        """Whether `values` is stored (g, frequencies, c, k), for a matrix product."""
        return self.values.ndim == 4 and self.values.shape[2:] == self.w.shape[2:0:-1]


def exponent_of(peak: float, dtype: np.dtype[Any]) -> int:
    """Power of two to take out of data so that its products neither overflow nor vanish; 0 mostly."""
    limit = np.finfo(dtype).maxexp // 4
    e = math.frexp(peak)[1] if 0 < peak < math.inf else 0
    return e if abs(e) > limit else 0


def scaled(a: Array, exponent: Any) -> Array:
    """a * 2**exponent, in two steps so that neither factor overflows."""
    half = np.asarray(exponent) // 2
    real = a.real.dtype.type
    return a * np.ldexp(real(1), half) * np.ldexp(real(1), exponent - half)


def spectrum(w: Array, layout: Layout, problem: Problem, workers: int) -> Spectrum:
    """Transform of the kernel, reversed and laid so that output o of the circle is output o kept."""
    groups = problem.groups
    w = np.array(w, order="C").reshape(groups, -1, *w.shape[1:])
    largest = max(float(abs(part).max()) for part in (w.real, w.imag))
    exponent = exponent_of(largest, w.dtype)
    z = scaled(w, -exponent) if exponent else w
    n = tuple(a.n for a in layout)
    for axis in reversed(range(len(n))):
        offset = problem.padding[axis][0] if layout[axis].circular else 0
        taps = (offset - np.arange(problem.kernel[axis]) * problem.dilation[axis]) % n[axis]
        at = axis + 3
        laid = np.zeros((*z.shape[:at], n[axis], *z.shape[at + 1 :]), z.dtype)
        laid[(slice(None),) * at + (taps,)] = z
        if axis == len(n) - 1:
            z = forward(laid, n[-1:], workers)
        else:
            z = scipy.fft.fft(laid, axis=at, overwrite_x=True, workers=workers)
    modulus = abs(z).sum(2) if z.shape[2] > 1 else abs(z[:, :, 0])
    peak = modulus.reshape(*z.shape[:2], -1).max(-1).astype(w.real.dtype)
    if z.shape[1] * z.shape[2] >= _MATMUL_PRODUCTS and min(z.shape[1:3]) > 1:
        flat = z.reshape(*z.shape[:3], -1)
        values = np.ascontiguousarray(flat.transpose(0, 3, 2, 1))
    else:
        values = np.expand_dims(z, 3)
    return Spectrum(values, peak, w, exponent)


def multiply(x: Array, s: Spectrum, filters: slice) -> Array:
    """Sum over channels of x (n, g, c, b, *f) times the spectra of some filters: (n, g, k, b, *f)."""
    if s.by_frequency:
        n, g, c, b = x.shape[:4]
        rows = x.reshape(n, g, c, b, -1).transpose(1, 4, 0, 3, 2).reshape(g, -1, n * b, c)
        z = rows @ s.values[..., filters]
        z = z.reshape(g, -1, n, b, z.shape[-1]).transpose(2, 0, 4, 3, 1)
        return np.ascontiguousarray(z).reshape(n, g, -1, b, *x.shape[4:])
    values = s.values[:, filters]
    if values.shape[1:3] == (1, 1):
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
    """What is transformed together: images, groups, and outputs start to stop of each axis.

    The last axis may be `blocks` full blocks; all others are one block or less.
    """

    images: slice
    groups: slice
    kept: tuple[tuple[int, int], ...]
    blocks: int


def pieces(problem: Problem, layout: Layout) -> Iterator[Piece]:
    """Cut a problem into pieces of about CHUNK_BYTES."""
    channels = problem.channels // problem.groups
    row = channels * math.prod(a.n for a in layout) * problem.itemsize
    together = max(1, CHUNK_BYTES // row)
    full, rest = divmod(problem.out[-1], layout[-1].kept)
    runs = [(b, min(together, full - b)) for b in range(0, full, together)]
    last = [((b * layout[-1].kept, (b + m) * layout[-1].kept), m) for b, m in runs]
    if rest:
        last.append(((full * layout[-1].kept, problem.out[-1]), 1))
    lead = [
        [(a, min(a + axis.kept, out)) for a in range(0, out, axis.kept)]
        for axis, out in zip(layout[:-1], problem.out)
    ]
    together = max(1, together // (last[0][1]))
    groups = min(problem.groups, together)
    images = max(1, together // groups)
    for i in range(0, problem.batch, images):
        for g in range(0, problem.groups, groups):
            for block in itertools.product(*lead):
                for end, m in last:
                    yield Piece(
                        slice(i, min(i + images, problem.batch)),
                        slice(g, min(g + groups, problem.groups)), (*block, end), m,
                    )  # fmt: skip


class FourierPlan(Plan):
    """A layout bound to a problem."""

    def __init__(
        self, problem: Problem, solver: Solver, config: Config, layout: Layout, machine: Machine
    ) -> None:
        super().__init__(problem, solver, config)
        self._layout = layout
        self._n = tuple(a.n for a in layout)
        self._channels = problem.channels // problem.groups
        self._filters = problem.filters // problem.groups
        self._threads = min(problem.threads, machine.cores)
        #: filters whose products are held at once
        row = math.prod(self._n) * problem.itemsize * self._channels
        self._together = max(1, min(self._filters, CHUNK_BYTES // max(1, row)))
        #: a unit of error is this times max|x| times the spectrum's peak
        self._error = error_bound(problem, math.prod(self._n))

    def pack(self, w: Array) -> Any:
        if not np.isfinite(w).all():
            plan = _guard.direct_plan(self.problem)
            return plan, plan.pack(w)
        return self, spectrum(w, self._layout, self.problem, self._threads)

    def execute(self, x: Array, packed: Any, bias: Array | None, y: Array) -> None:
        plan, weights = packed
        if plan is not self:
            plan.execute(x, weights, bias, y)
            return
        work = list(pieces(self.problem, self._layout))
        if self._threads == 1 or len(work) == 1:
            for piece in work:
                self._run(piece, x, weights, bias, y, self._threads)
            return
        with ThreadPoolExecutor(min(self._threads, len(work))) as pool:
            for done in [pool.submit(self._run, p, x, weights, bias, y, 1) for p in work]:
                done.result()

    def _run(
        self, piece: Piece, x: Array, s: Spectrum, bias: Array | None, y: Array, workers: int
    ) -> None:
        p = self.problem
        x = x.reshape(p.batch, p.groups, self._channels, *p.size)[piece.images, piece.groups]
        y = y.reshape(p.batch, p.groups, self._filters, *p.out)[piece.images, piece.groups]
        s = dataclasses.replace(s, values=s.values[piece.groups], peak=s.peak[piece.groups],
                                w=s.w[piece.groups], wide=None)  # fmt: skip
        rows = self._rows(piece, x, all_padded=False)
        peak, bad = _guard.peak(rows)
        if bad:
            rows = np.where(np.isfinite(rows), rows, 0)
            peak, _ = _guard.peak(rows)
        for k in range(0, self._filters, self._together):
            filters = slice(k, k + self._together)
            z = self.apply(rows, peak, s, filters, workers)
            limit = self.limit(peak, s, filters)
            suspects = _guard.suspects(z, limit) if p.accuracy != "fast" else None
            if suspects is not None or bad:
                part = dataclasses.replace(s, w=s.w[:, filters], peak=s.peak[:, filters])
                windows = self._rows(piece, x, all_padded=True)
                _guard.Guard(self, part, filters, s).mend(rows, windows, peak, z, suspects)
            self._store(piece, z, filters, bias, y)

    def apply(
        self, rows: Array, peak: Array, s: Spectrum, filters: slice, workers: int
    ) -> Array:
        """Kept outputs (n, g, k, b, *kept) of data (n, g, c, b, *samples) by Fourier transforms."""
        p = self.problem
        dtype = rows.real.dtype
        exponents = np.array([exponent_of(float(v), dtype) for v in peak.flat]).reshape(peak.shape)
        shift = exponents.any()
        tail = (1,) * p.ndim
        if shift:
            rows = scaled(rows, -exponents[:, :, None].reshape(*peak.shape[:2], 1, -1, *tail))
        z = multiply(forward(rows, self._n, workers), s, filters)
        kept = tuple(
            slice(0, (out - 1) * u + 1, u)
            for out, u in zip((a.kept for a in self._layout), p.stride)
        )
        y = inverse(z, self._n, kept, not p.is_complex, workers)
        if shift or s.exponent:
            up = exponents[:, :, None] + s.exponent
            with np.errstate(over="ignore"):
                y = scaled(y, up.reshape(*peak.shape[:2], 1, -1, *tail))
        return y

    def limit(self, peak: Array, s: Spectrum, filters: slice) -> Array:
        """Largest error of each row's outputs (n, g, k, b): DIGIT times it must be seen in an output."""
        with np.errstate(over="ignore"):
            w = s.peak[:, filters].astype(np.float64) * 2.0**s.exponent
            return self._error * peak.astype(np.float64)[:, :, None] * w[:, :, None]
