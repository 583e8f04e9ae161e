"""Signals: plain calls by every method, and plans.

``python -m bench.bench_signal`` prints the time a sample of signals of 1e4 to 1e8 samples.
"""

from __future__ import annotations

import time

import numpy as np

from . import common, shapes

THREADS = [1, 2]


class Signal(common.Timed):
    params = (list(shapes.SIGNAL.values()), shapes.METHODS, THREADS)
    param_names = ("signal", "method", "threads")

    def setup(self, text: str, method: str, threads: int) -> None:
        self.prepare(text, method, threads)

    def time_call(self, text: str, method: str, threads: int) -> None:
        self.call()


class Prepared(common.Timed):
    params = (list(shapes.SIGNAL.values()), THREADS)
    param_names = ("signal", "threads")

    def setup(self, text: str, threads: int) -> None:
        self.prepare_plan(text, threads)

    def time_call(self, text: str, threads: int) -> None:
        self.call()


#: Samples of signals whose time a sample should be the same; asv leaves the longest out.
LENGTHS = (10**4, 10**5, 10**6, 10**7, 10**8)
FILTERS = [("float32", 64), ("float32", 512), ("float64", 64), ("float64", 512)]


def per_sample(dtype: str, taps: int, lengths: tuple[int, ...], turns: int) -> dict[int, float]:
    """ns a sample of plain calls on one thread: lower quartiles, calls of all lengths in turn."""
    import fastconv

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal(taps, dtype=dtype)
    signals = {n: rng.standard_normal(n, dtype=dtype) for n in lengths}
    taken: dict[int, list[float]] = {n: [] for n in lengths}
    for turn in range(turns + 1):
        for n, x in signals.items():
            for _ in range(max(1, 10**6 // n)):
                begin = time.perf_counter()
                fastconv.convolve(x, kernel, threads=1)
                if turn:  # the first one plans
                    taken[n].append(time.perf_counter() - begin)
    return {n: 1e9 * float(np.quantile(t, 0.25)) / n for n, t in taken.items()}


class Growth:
    """The longest time a sample over the shortest, of signals of 1e4 to 1e7 samples."""

    params = (FILTERS,)
    param_names = ("filter",)
    version = "1"
    unit = "ratio"
    timeout = 300

    def setup(self, chosen: tuple[str, int]) -> None:
        common.pin(1)
        common.without_wisdom()

    def track_growth(self, chosen: tuple[str, int]) -> float:
        each = per_sample(*chosen, LENGTHS[:-1], 5)
        return max(each.values()) / min(each.values())


def main() -> None:
    print("| filter | " + " | ".join(f"{n:.0e}" for n in LENGTHS) + " | longest / shortest |")
    print("|---" * (len(LENGTHS) + 2) + "|")
    for dtype, taps in FILTERS:
        each = per_sample(dtype, taps, LENGTHS, 5)
        ratio = max(each.values()) / min(each.values())
        row = " | ".join(f"{ns:.2f}" for ns in each.values())
        print(f"| {dtype}, {taps} taps | {row} | {ratio:.2f} |")


if __name__ == "__main__":
    common.pin(1)
    main()
