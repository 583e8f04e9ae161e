"""Integers of long kernels, tails of distributions, powers and blocks.

``python -m bench.bench_exact`` prints milliseconds on one thread, interleaved in one process:
fastconv's choice, its direct sums, and SciPy's direct and Fourier methods, with what the latter
get wrong.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from . import common

#: name -> shapes of both operands, dtype, and the largest number; None for the whole dtype.
INTEGERS = {
    "int.1e5x1e4.i8": ((100_000,), (10_000,), "i8", None),
    "int.1e5x1e4.small.i8": ((100_000,), (10_000,), "i8", 100),
    "int.512x512.31x31.i4": ((512, 512), (31, 31), "i4", None),
}

#: name -> numbers of a normal distribution whose outputs span what a double holds.
TAILS = {"tails.1e5": 100_000, "tails.3e4": 30_000}

POWERS = {"power.die.1000": (6, 1000), "power.1e4.8": (10_000, 8)}

#: Seconds that one row is timed for.
BUDGET = 6.0


def integers(name: str) -> tuple[Any, Any]:
    shape, kernel, dtype, largest = INTEGERS[name]
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if largest is None else (0, largest)
    rng = np.random.default_rng(0)
    return tuple(rng.integers(low, high, s, dtype) for s in (shape, kernel))  # type: ignore[return-value]


def normal(n: int) -> Any:
    p = np.exp(-0.5 * ((np.arange(n) - n / 2) / (n / 72)) ** 2)
    return p / p.sum()


class Integers:
    version = "1"
    params = (list(INTEGERS), ["auto", "direct"])
    param_names = ("case", "method")
    timeout = 120

    def setup(self, name: str, method: str) -> None:
        common.without_wisdom()
        self.operands = integers(name)

    def time_call(self, name: str, method: str) -> None:
        from fastconv import signal

        signal.convolve(*self.operands, method=method, threads=1)


class Tails:
    version = "1"
    params = (list(TAILS), ["auto", "direct"])
    param_names = ("case", "method")
    timeout = 120

    def setup(self, name: str, method: str) -> None:
        common.without_wisdom()
        self.p = normal(TAILS[name])

    def time_call(self, name: str, method: str) -> None:
        from fastconv import signal

        options: dict[str, Any] = {"accuracy": "strict", "nonnegative": True, "threads": 1}
        signal.convolve(self.p, self.p, method=method, **options)


class Power:
    version = "1"
    params = (list(POWERS), ["balanced", "strict"])
    param_names = ("case", "accuracy")
    timeout = 120

    def setup(self, name: str, accuracy: str) -> None:
        common.without_wisdom()
        n, self.times = POWERS[name]
        self.p = np.full(n, 1 / n)

    def time_call(self, name: str, accuracy: str) -> None:
        import fastconv

        fastconv.convolve_power(self.p, self.times, accuracy=accuracy, nonnegative=True, threads=1)


class Blockwise:
    """4e6 samples within 8 MB, as a file would be read."""

    version = "1"
    timeout = 120

    def setup(self) -> None:
        common.without_wisdom()
        self.x = np.ones(4_000_000, np.float32)
        self.w, self.y = np.ones(4096, np.float32), np.empty_like(self.x)

    def time_blocks(self) -> None:
        import fastconv

        fastconv.convolve_blockwise(
            self.x, self.w, self.y, "same", workspace_limit=8 << 20, threads=1
        )


def row(name: str, budget: float) -> str:
    """What was measured of a case, as a line."""
    import scipy.signal

    import fastconv
    from fastconv._timer import Deadline, compare

    whole = name in INTEGERS
    a, b = integers(name) if whole else (normal(TAILS[name]),) * 2
    options: dict[str, Any] = {} if whole else {"accuracy": "strict", "nonnegative": True}
    prepared = fastconv.plan(fastconv.convolve, a, b, threads=1, **options)
    works = [
        lambda: prepared(a), lambda: fastconv.convolve(a, b, threads=1, **options),
        lambda: fastconv.convolve(a, b, threads=1, method="direct", **options),
        lambda: scipy.signal.fftconvolve(a, b),
    ]  # fmt: skip
    found = [t.median * 1e3 for t in compare(works, budget=budget)]
    once = Deadline(None)
    right = scipy.signal.convolve(a, b, method="direct")
    slow = once.spent * 1e3
    same = "equal" if whole and (right == works[0]()).all() else ""
    fourier = works[3]()
    wrong = int((np.rint(fourier) != right).sum()) if whole else int((fourier <= 0).sum())
    return (
        f"{name:22} {prepared.method:7} plan {found[0]:8.2f} call {found[1]:8.2f} direct"
        f" {found[2]:8.2f} fftconvolve {found[3]:8.2f} ({wrong} of {right.size} wrong)"
        f" scipy direct {slow:8.0f} {same}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_exact", description=__doc__)
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds a row")
    arguments = parser.parse_args()
    common.pin(1)
    common.without_wisdom()

    for name in [*INTEGERS, *TAILS]:
        if arguments.only in name:
            print(row(name, arguments.budget), flush=True)


if __name__ == "__main__":
    main()
