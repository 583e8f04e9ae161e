"""Streams: what a block takes, on average and at worst, beside other ways to do it block by block.

``python -m bench.bench_stream`` prints, for a kernel of 2 seconds at 48 kHz in two channels of
float32, a line for each block size and way:

share     of one core, in percent: mean time of a block over the time that it lasts
median    microseconds of a block
worst     the same of the worst block, whatever else the machine did in the meantime
slot      the worst of the blocks of a period, each at its quickest in many periods, over the median
          of these: what is unevenly dealt out, and not the machine's doing

Two lines follow: blocks with a loop after each that does nothing and is about as long, and these
loops: what they meet is the machine's doing. `over 3x` counts those of 10 000 that took more than
three times their median. Then operations of a block, counted: what of the worst over the median no
other work can disturb. Then milliseconds of `prepare`, and of `set_kernel` of what it returned
and of an array; and, for whole signals, ns a sample and channel of ``latency="throughput"`` in
chunks of 4096 samples, of one call, and of one call of scipy.signal.oaconvolve.

The other ways give the same outputs, as straightforward NumPy and SciPy do them: `overlap_add`
transforms a block as long as kernel and block together, and back; `uniform` has partitions of the
block's length, their spectra multiplied by NumPy. Ways take turns, a part of the blocks each.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft

from . import common

RATE = 48000
TAPS = 2 * RATE
CHANNELS = 2

#: Blocks after which every schedule begins anew: no partition is longer than 64 blocks of 64.
PERIOD = 64

Way = Callable[[Any], Any]


def convolver(w: Any, block: int) -> Way:
    import fastconv

    stream = fastconv.Convolver(w, block)
    out = np.empty((len(w), block), w.dtype)
    return lambda x: stream.process(x, out=out)


def overlap_add(w: Any, block: int) -> Way:
    n = scipy.fft.next_fast_len(w.shape[1] + block - 1, real=True)
    spectrum = scipy.fft.rfft(w, n)
    left = np.zeros((len(w), n), w.dtype)

    def process(x: Any) -> Any:
        y = scipy.fft.irfft(scipy.fft.rfft(x, n) * spectrum, n)
        y += left
        left[:, :-block] = y[:, block:]
        left[:, -block:] = 0
        return y[:, :block]

    return process


def uniform(w: Any, block: int) -> Way:
    count = -(-w.shape[1] // block)
    parts = np.zeros((len(w), count * block), w.dtype)
    parts[:, : w.shape[1]] = w
    spectra = scipy.fft.rfft(parts.reshape(len(w), count, block), 2 * block)
    line = np.zeros((len(w), 2 * count, block + 1), spectra.dtype)
    products = np.empty_like(spectra)
    window = np.zeros((len(w), 2 * block), w.dtype)
    state = {"at": 0}

    def process(x: Any) -> Any:
        window[:, :block] = window[:, block:]
        window[:, block:] = x
        at = state["at"] = (state["at"] - 1) % count
        line[:, at] = line[:, at + count] = scipy.fft.rfft(window)
        np.multiply(line[:, at : at + count], spectra, out=products)
        return scipy.fft.irfft(products.sum(axis=1), 2 * block)[:, block:]

    return process


WAYS = {"fastconv": convolver, "uniform": uniform, "overlap_add": overlap_add}


def inputs(block: int, taps: int = TAPS) -> tuple[Any, list[Any]]:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((CHANNELS, taps), dtype=np.float32)
    w *= np.exp(-5 * np.arange(taps) / taps).astype(np.float32)
    x = rng.standard_normal((PERIOD, CHANNELS, block), dtype=np.float32)
    return w, list(x)


def seconds(way: Way, blocks: list[Any], periods: int) -> Any:
    """Time of each block: (periods, PERIOD)."""
    taken = np.empty((periods, len(blocks)))
    clock = time.perf_counter
    for i in range(periods):
        for j, x in enumerate(blocks):
            begin = clock()
            way(x)
            taken[i, j] = clock() - begin
    return taken


def beside_spin(block: int, periods: int) -> tuple[Any, Any]:
    """Time of each block, and of a loop of the same length after it: (periods, PERIOD) each."""
    w, blocks = inputs(block)
    way = convolver(w, block)
    turns = 1000
    pause = float(np.median(seconds(way, blocks, 8)[4:]))
    begin = time.perf_counter()
    spin(turns)
    turns = round(turns * pause / (time.perf_counter() - begin))
    spun = np.empty((periods, len(blocks)))
    taken = np.empty_like(spun)
    clock = time.perf_counter
    gc.disable()
    try:
        for i in range(periods):
            for j, x in enumerate(blocks):
                begin = clock()
                way(x)
                between = clock()
                spin(turns)
                taken[i, j], spun[i, j] = between - begin, clock() - between
    finally:
        gc.enable()
    return taken, spun


def spin(turns: int) -> None:
    for _ in range(turns):
        pass


def whole(chunk: int = 4096, samples: int = 60 * RATE) -> dict[str, float]:
    """Nanoseconds a sample and channel of long signals."""
    import scipy.signal

    import fastconv
    from fastconv._timer import compare

    w, _ = inputs(chunk)
    x = np.random.default_rng(1).standard_normal((CHANNELS, samples), dtype=np.float32)
    chunks = [np.ascontiguousarray(c) for c in np.split(x, range(chunk, samples, chunk), axis=1)]
    stream = fastconv.Convolver(w, latency="throughput", threads=1)
    ways = {
        "throughput": lambda: [stream.process(c) for c in chunks],
        "one call": lambda: fastconv.convolve(x, w, axes=-1, threads=1),
        "oaconvolve": lambda: scipy.signal.oaconvolve(x, w, axes=-1),
    }
    found = compare(list(ways.values()), budget=12.0)
    return {name: 1e9 * t.median / x.size for name, t in zip(ways, found)}


def exchange(block: int) -> tuple[float, float, float]:
    """Milliseconds of `prepare`, of `set_kernel` with what it returned, and with an array."""
    import fastconv

    w, blocks = inputs(block)
    stream = fastconv.Convolver(w, block)
    out = np.empty((CHANNELS, block), w.dtype)
    best = [np.inf] * 3
    for i in range(12):
        for x in blocks:
            stream.process(x, out=out)
        begin = time.perf_counter()
        prepared = stream.prepare(w * (i + 2))
        made = time.perf_counter()
        stream.set_kernel(prepared, crossfade=block)
        done = time.perf_counter()
        for x in blocks:
            stream.process(x, out=out)
        again = time.perf_counter()
        stream.set_kernel(w)
        spans = made - begin, done - made, time.perf_counter() - again
        best = [min(b, 1e3 * t) for b, t in zip(best, spans)]
    return best[0], best[1], best[2]


def operations(block: int) -> Any:
    """Floating-point operations of each block of a period, as the schedule deals them out."""
    import fastconv

    w, _ = inputs(block)
    run = fastconv.Convolver(w, block)._runs[0]
    direct = run.parts[0][1] if run.parts else run.taps
    counted = np.full(PERIOD, 2.0 * CHANNELS * block * direct)
    for level in run.levels:
        transform = 2.5 * level.n * math.log2(level.n)
        for i in range(PERIOD):
            for step, what in level._steps[i % level.slots]:
                each = 8 * CHANNELS * level.count if step == level._multiply else transform
                counted[i] += each * (what.stop - what.start)
    return counted


def agree(ways: dict[str, Way], blocks: list[Any]) -> None:
    """Outputs of two periods are the same, to float32's precision."""
    made = {
        name: np.concatenate([np.array(way(x)) for x in [*blocks, *blocks]], axis=1)
        for name, way in ways.items()
    }
    first = made["fastconv"]
    for name, y in made.items():
        error = np.abs(y - first).max() / np.abs(first).max()
        assert error < 1e-5, f"{name} differs by {error}"


def measure(block: int, periods: dict[str, int], turns: int = 4) -> dict[str, Any]:
    w, blocks = inputs(block)
    ways = {name: WAYS[name](w, block) for name in periods}
    agree(ways, blocks)
    taken: dict[str, list[Any]] = {name: [] for name in ways}
    gc.collect()
    gc.disable()  # a collection is Python's doing, and 1 ms
    try:
        for _ in range(turns):
            for name, way in ways.items():
                seconds(way, blocks[:8], 1)
                way(blocks[8])
                for x in blocks[9:]:  # every turn begins where a period does
                    way(x)
                taken[name].append(seconds(way, blocks, periods[name]))
    finally:
        gc.enable()
    return {name: np.concatenate(parts) for name, parts in taken.items()}


def figures(taken: Any, block: int) -> dict[str, float]:
    best = taken.min(axis=0)
    return {
        "share": 100 * taken.mean() * RATE / block,
        "median": 1e6 * float(np.median(taken)),
        "worst": 1e6 * float(taken.max()),
        "slot": float(best.max() / np.median(best)),
    }


class Block(common.Timed):
    """A block of a stream, on average over a period: a kernel of 2 s at 48 kHz, two channels."""

    params = ([64, 128, 512, 2048],)
    param_names = ("block",)

    def setup(self, block: int) -> None:
        common.pin(1)
        common.without_wisdom()
        w, self.blocks = inputs(block)
        try:
            self.way = convolver(w, block)
        except AttributeError as missing:
            raise NotImplementedError(f"not in this commit: {missing}") from None

    def time_period(self, block: int) -> None:
        """PERIOD blocks."""
        for x in self.blocks:
            self.way(x)


class Stream:
    """Figures of a stream; percent of a core, or a ratio: the smaller the better."""

    params = ([64, 128, 512, 2048],)
    param_names = ("block",)
    version = "1"
    timeout = 300

    def setup(self, block: int) -> None:
        common.without_wisdom()
        self.figures = figures(measure(block, {"fastconv": 20})["fastconv"], block)

    def track_share(self, block: int) -> float:
        return self.figures["share"]

    def track_worst_over_median(self, block: int) -> float:
        return self.figures["slot"]


class Ratio:
    """Mean time of a block over that of another way; below 1 is faster."""

    params = ([128, 1024], ["uniform", "overlap_add"])
    param_names = ("block", "way")
    version = "1"
    unit = "x"
    timeout = 300

    def setup(self, block: int, way: str) -> None:
        common.without_wisdom()
        self.taken = measure(block, {"fastconv": 8, way: 1})

    def track_time_ratio(self, block: int, way: str) -> float:
        return float(self.taken["fastconv"].mean() / self.taken[way].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--block", type=int, nargs="*", default=[128])
    parser.add_argument("--only", nargs="*", choices=WAYS, default=list(WAYS))
    arguments = parser.parse_args()
    common.without_wisdom()
    print(f"{'block':>6} {'way':12} {'share %':>8} {'median us':>10} {'worst us':>9} {'slot':>5}")
    for block in arguments.block:
        periods = {"fastconv": 25, "uniform": 6, "overlap_add": 1}
        found = measure(block, {name: periods[name] for name in {"fastconv", *arguments.only}})
        for name, taken in sorted(found.items()):
            f = figures(taken, block)
            print(
                f"{block:6} {name:12} {f['share']:8.2f} {f['median']:10.1f} {f['worst']:9.1f}"
                f" {f['slot']:5.2f}"
            )
        for name, taken in zip(("beside spin", "spin"), beside_spin(block, 150)):
            median = float(np.median(taken))
            over = 1e4 * float((taken > 3 * median).mean())
            print(
                f"{block:6} {name:12} {'':8} {1e6 * median:10.1f} {1e6 * taken.max():9.1f}"
                f" over 3x {over:.1f}"
            )
        counted = operations(block)
        median = float(np.median(counted))
        print(
            f"{block:6} operations   {'':8} {median:10.0f} {counted.max():9.0f}"
            f" {counted.max() / median:5.2f}"
        )
        print(
            f"{block:6} prepare %.1f ms, set_kernel %.2f ms, of an array %.1f ms" % exchange(block)
        )
    print(", ".join(f"{name} {ns:.1f} ns" for name, ns in whole().items()))


if __name__ == "__main__":
    main()
