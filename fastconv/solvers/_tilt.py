"""Non-negative signals convolved by transforms with errors relative to each output.

    z[k] = sum over i of x[i] h[k - i]
         = 2^(-t k) sum over i of (x[i] 2^(t i)) (h[k - i] 2^(t (k - i)))

A transform's error is at most e = c |x'| |h'|, x' and h' the tilted signals: nothing to outputs z'
near their peak, all of a tail. With another t another part of the result is the peak, so outputs
are taken where e is a small enough part of them, and others are left to other tilts, or to direct
sums. Where the peak is, the signals' own logarithms tell; and what is far from it is so small that
it is left out, within e.

Wilson and Keich, Accurate pairwise convolution of non-negative vectors via FFT, Computational
Statistics & Data Analysis 101, 2016, check a transform's outputs so and redo the others tilted, of
signals cut in pieces; here each tilt has its own window instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft

from fastconv._problem import Array
from fastconv.solvers._rounding import UNIT, convolution

#: Runs of samples whose maxima stand for a signal: a tilt is looked for among so many numbers.
_RUNS = 512

#: Tilts are multiples of this, so that their products with positions within a window are exact.
_STEP = 2.0**-30

#: What tilting x and h and undoing it costs: for each a power of two, which NumPy promises to 4
#: units in the last place, 8 u, squared by two products.
TILTING = 3 * (2 * 8 + 2) * UNIT

#: Smallest and largest exponent, halved, of a tilt: those of numbers that are not 0 lie within.
_HALF = 1000.0

#: Part of the error that what is left out may add.
_LEFT_OUT = 1 / 32

#: Part of a side of the last tilt's outputs that the next one's peak is away from them.
_AHEAD = 0.8

#: Seconds of a tilt: of Python, and of each sample of its transforms; and products a second of
#: direct sums of doubles on one core: a Zen 3 with AVX2.
SECONDS_A_TILT = 500e-6
SECONDS_A_SAMPLE = 55e-9
PRODUCTS_A_SECOND = 12e9

#: Sums outputs start to stop directly into an array.
Sum = Callable[[int, int, Array], None]


class Signal:
    """A signal that is not all zeros, without the zeros at its ends, and its logarithm in short."""

    def __init__(self, values: Array) -> None:
        there = np.flatnonzero(values)
        self.first = int(there[0])
        self.values = values[self.first : int(there[-1]) + 1]
        self.gaps = len(there) < len(self.values)
        n = len(self.values)
        self.run = -(-n // _RUNS)
        filled = np.zeros(-(-n // self.run) * self.run)
        filled[:n] = self.values
        with np.errstate(divide="ignore"):
            self.top = np.log2(filled.reshape(-1, self.run).max(1))
        self.at = (np.arange(len(self.top)) + 0.5) * self.run - 0.5

    def __len__(self) -> int:
        return len(self.values)

    def runs(self, start: int, stop: int) -> slice:
        """The runs that hold samples start to stop."""
        return slice(max(0, start) // self.run, -(-min(len(self), stop) // self.run))


class Window:
    """The part of a tilted signal that matters, and bounds on what does not."""

    def __init__(self, s: Signal, runs: slice, tilt: float, small: float) -> None:
        at = s.top[runs] + tilt * s.at[runs]
        at += abs(tilt) * s.run / 2  # the largest that a sample of the run can be
        peak = at.max()
        kept = np.flatnonzero(at >= peak + math.log2(small) - abs(tilt) * s.run)
        low, high = int(kept[0]), int(kept[-1]) + 1
        self.start = (runs.start + low) * s.run
        stop = min(len(s), (runs.start + high) * s.run)
        self.exponent = math.ceil(peak - tilt * self.start)
        t = tilt * np.arange(stop - self.start) - self.exponent
        t *= 0.5
        power = np.exp2(np.clip(t, -_HALF, _HALF, out=t), out=t)
        self.values = s.values[self.start : stop] * power
        self.values *= power
        self.norm = math.sqrt(float(np.einsum("i,i->", self.values, self.values)))
        out = np.concatenate([at[:low], at[high:]])
        self.largest_out = 2.0 ** float(max(out.max() - peak, -1000)) if len(out) else 0.0
        samples = len(out) * s.run
        self.total = float(self.values.sum()) + samples * self.largest_out

    def __len__(self) -> int:
        return len(self.values)


def good_length(n: int) -> int:
    """The least length from n on that is 2^a, 3 2^a or 5 2^a."""
    least: int = min(m << max(0, (-(-n // m) - 1).bit_length()) for m in (1, 3, 5))
    return least


def tilt_for(x: Signal, h: Signal, k: int, start: int, stop: int) -> float:
    """The tilt that makes output k, among those from start to stop, as near the peak as it gets.

    It is the slope at k of the least concave function above the logarithm of max x[i] h[k - i],
    whose vertices are the sums of those of log x and log h: between one to the left of k and one
    to the right, the line through both finds another vertex until there is none above it.
    """
    a, b = x.runs(start - len(h) + 1, stop), h.runs(start - len(x) + 1, stop)
    (xt, xa), (ht, ha) = (x.top[a], x.at[a]), (h.top[b], h.at[b])

    def vertex(i: int, j: int) -> tuple[float, float]:
        return float(xa[i] + ha[j]), float(xt[i] + ht[j])

    there = [np.flatnonzero(t > -np.inf) for t in (xt, ht)]
    if not all(map(len, there)):
        return 0.0
    left, right = vertex(there[0][0], there[1][0]), vertex(there[0][-1], there[1][-1])
    slope = 0.0
    while left[0] < right[0]:
        slope = (right[1] - left[1]) / (right[0] - left[0])
        new = vertex(int(np.argmax(xt - slope * xa)), int(np.argmax(ht - slope * ha)))
        above = new[1] - left[1] - slope * (new[0] - left[0])
        if above <= 1e-6 * (1 + abs(new[1])) or not left[0] < new[0] < right[0]:
            break
        if new[0] <= k:
            left = new
        else:
            right = new
    return -round(slope / _STEP) * _STEP


def support(x: Signal, h: Signal) -> Array:
    """Which outputs have a product that is not 0: sums of ones, which a transform tells from 0."""
    n = good_length(len(x) + len(h) - 1)
    spectra = [scipy.fft.rfft((s.values > 0).astype(float), n) for s in (x, h)]
    counts: Array = scipy.fft.irfft(spectra[0] * spectra[1], n)[: len(x) + len(h) - 1]
    assert convolution(n) * math.sqrt(len(x)) * math.sqrt(len(h)) < 0.5
    return counts > 0.5


class Convolution:
    """z = x * h, outputs `first` on, as many as z has, with errors up to `allowed` times each."""

    def __init__(
        self, x: Array, h: Array, z: Array, first: int, allowed: float, direct: Sum, rate: float
    ) -> None:
        self.z, self.allowed, self.direct, self.rate = z, allowed, direct, rate
        z[...] = 0
        if not (x.any() and h.any()):
            return
        self.x, self.h = Signal(x), Signal(h)
        # from here on outputs are counted from the first that is not 0
        self.first = first - self.x.first - self.h.first
        self.there = support(self.x, self.h) if self.x.gaps or self.h.gaps else None
        self.tilts = 0

    def run(self, threads: int) -> None:
        if not hasattr(self, "x"):
            return
        a, b = max(0, self.first), min(len(self.x) + len(self.h) - 1, self.first + len(self.z))
        if a >= b:
            return
        peak = int(self.x.at[self.x.top.argmax()] + self.h.at[self.h.top.argmax()])
        rest = self.step(a, b, min(max(a, peak), b - 1))
        if threads > 1 and len(rest) > 1:
            with ThreadPoolExecutor(2) as pool:
                for done in [pool.submit(self.all, [piece]) for piece in rest]:
                    done.result()
        else:
            self.all(rest)

    def all(self, pieces: list[tuple[int, int, int]]) -> None:
        while pieces:
            pieces += self.step(*pieces.pop())

    def _direct_seconds(self, a: int, b: int) -> float:
        shortest = min(len(self.x), len(self.h), b, len(self.x) + len(self.h) - 1 - a)
        return (b - a) * shortest / self.rate

    def _sum(self, a: int, b: int) -> None:
        self.direct(a - self.first, b - self.first, self.z[a - self.first : b - self.first])

    def step(self, a: int, b: int, target: int) -> list[tuple[int, int, int]]:
        """Outputs a to b: those around target by one tilt; returns what is left, and targets."""
        if self._direct_seconds(a, b) < SECONDS_A_TILT:
            self._sum(a, b)
            return []
        x, h = self.x, self.h
        tilt = tilt_for(x, h, target, a, b)
        unit = convolution(4 * good_length(len(x) + len(h)))
        ranges = x.runs(a - len(h) + 1, b), h.runs(a - len(x) + 1, b)
        p, q = (Window(s, r, tilt, unit * _LEFT_OUT) for s, r in zip((x, h), ranges))
        rest = []
        width = max(2 * x.run, 2 * h.run, min(len(p), len(q)))
        if max(len(p), len(q)) > 4 * width and b - a > 2 * width:
            # a long even signal by a short one: block by block
            c, d = max(a, target - width // 2), min(b, target + width // 2 + 1)
            rest += [(a, c, c - 1)] if a < c else []
            rest += [(d, b, d)] if d < b else []
            a, b = c, d
            ranges = x.runs(a - len(h) + 1, b), h.runs(a - len(x) + 1, b)
            p, q = (Window(s, r, tilt, unit * _LEFT_OUT) for s, r in zip((x, h), ranges))
        n = good_length(len(p) + len(q) - 1)
        if n * SECONDS_A_SAMPLE + SECONDS_A_TILT > self._direct_seconds(a, b):
            self._sum(a, b)
            return rest
        self.tilts += 1
        found = scipy.fft.rfft(p.values, n)
        found *= scipy.fft.rfft(q.values, n)
        z = scipy.fft.irfft(found, n, overwrite_x=True)
        origin = p.start + q.start
        low, high = max(a, origin), min(b, origin + len(p) + len(q) - 1)
        z = z[low - origin : high - origin]
        left_out = p.largest_out * q.total + q.largest_out * p.total
        e = convolution(n) * p.norm * q.norm + left_out
        good = z >= e * (1 + 1 / self.allowed)
        taken = np.flatnonzero(good)
        saved = len(taken) * self._direct_seconds(low, max(high, low + 1)) / max(1, high - low)
        if self.there is not None:
            good |= ~self.there[low:high]
        holes = _holes(good[taken[0] : taken[-1] + 1]) if len(taken) else []
        lost = sum(j - i for i, j in holes)
        if saved < n * SECONDS_A_SAMPLE or 2 * lost > len(taken):
            self._sum(a, b)  # hardly any: this is no place for tilts
            return rest
        start, stop = low + int(taken[0]), low + int(taken[-1]) + 1
        half = 0.5 * (tilt * np.arange(start - origin, stop - origin) - p.exponent - q.exponent)
        power = np.exp2(np.clip(-half, -_HALF, _HALF))
        part = slice(start - low, stop - low)
        y = self.z[start - self.first : stop - self.first]
        with np.errstate(over="ignore", under="ignore"):
            np.multiply(z[part] * power, power, out=y)
        if self.there is not None:
            y[~self.there[start:stop]] = 0
        for i, j in holes:
            self._sum(start + i, start + j)
        before, after = max(1, target - start), max(1, stop - target)
        if a < start:
            rest.append((a, start, max(a, start - int(_AHEAD * before) - 1)))
        if stop < b:
            rest.append((stop, b, min(b - 1, stop + int(_AHEAD * after))))
        return rest


#: Outputs between two holes that are summed again with them: a call takes as long as so many.
_BETWEEN = 64


def _holes(good: Array) -> list[tuple[int, int]]:
    """Runs of what is not good, those near each other as one."""
    bad = np.flatnonzero(~good)
    if not len(bad):
        return []
    cuts = np.flatnonzero(np.diff(bad) > _BETWEEN)
    starts = bad[np.concatenate([[0], cuts + 1])]
    stops = bad[np.concatenate([cuts, [len(bad) - 1]])] + 1
    return [(int(i), int(j)) for i, j in zip(starts, stops)]
