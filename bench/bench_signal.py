"""Signals: plain calls by every method, and plans.

``python -m bench.bench_signal`` prints the time a sample of signals of 1e4 to 1e8 samples;
``--precision`` what plans and plain calls take in double precision over single, timed in turn in
one process, for the rows of `shapes.SIGNAL` and others, on ``--threads``; ``--files`` what
`convolve_blockwise` takes from file to file, and of memory, beside calls on arrays in memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from typing import Any

import numpy as np

from . import common, libraries, shapes

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


#: Besides `shapes.SIGNAL`: more comparable sizes, a picture's short and a signal's long kernels.
OTHERS = [
    "convolve f32 a20000 b20000", "convolve f32 a100000 b100000", "convolve f32 a300000 b7000",
    "convolve f32 a1000000 b1000", "convolve f32 a4000 b500", "convolve f32 a512,512 b31,31 same",
]  # fmt: skip

#: Of single precision, and the same in double.
DOUBLE = {"f32": "f64", "c64": "c128"}


def in_both(text: str) -> tuple[str, str] | None:
    """A case in single and in double precision; None where its numbers are whole."""
    function, dtype, rest = text.split(maxsplit=2)
    for single, double in DOUBLE.items():
        if dtype in (single, double):
            return f"{function} {single} {rest}", f"{function} {double} {rest}"
    return None


def precision(text: str, threads: int, budget: float) -> dict[str, Any] | None:
    """Methods, seconds of plans and of plain calls, in single and in double precision."""
    from fastconv._timer import compare

    both = in_both(text)
    if both is None:
        return None
    cases = [shapes.case(t) for t in both]
    plans = [libraries.fastconv_plan(c, threads=threads) for c in cases]
    calls = [libraries.fastconv_call(c, threads=threads) for c in cases]
    works = [work.run for work, _ in plans] + [work.run for work in calls]
    found = [t.seconds for t in compare(works, budget=budget)]
    return {
        "methods": [str(plan.method) for _, plan in plans], "plan": found[:2], "call": found[2:],
    }  # fmt: skip


class Precision:
    """A plan's time in single precision over that in double: the smaller the better."""

    params = ([text for text in (*shapes.SIGNAL.values(), *OTHERS) if in_both(text)],)
    param_names = ("signal",)
    version = "1"
    unit = "ratio"
    timeout = 300

    def setup(self, text: str) -> None:
        common.pin(1)
        common.without_wisdom()

    def track_single_over_double(self, text: str) -> float:
        found = precision(text, 1, common.BUDGET)
        assert found is not None
        return found["plan"][0] / found["plan"][1]


def print_precision(threads: int, only: str, budget: float) -> None:
    common.pin(threads)
    common.without_wisdom()
    print(
        f"{'case':34} {'plan f4':>9} {'f8':>9} {'ratio':>5} {'call f4':>9} {'f8':>9} {'ratio':>5}"
    )
    for text in dict.fromkeys((in_both(t) or ("",))[0] for t in (*shapes.SIGNAL.values(), *OTHERS)):
        found = precision(text, threads, budget) if text and only in text else None
        if found is not None:
            figures = ""
            for way in "plan", "call":
                single, double = found[way]
                figures += f" {1e3 * single:9.3f} {1e3 * double:9.3f} {double / single:5.2f}"
            print(f"{text:34}{figures}  {', '.join(dict.fromkeys(found['methods']))}", flush=True)


#: Samples, taps and dtype of files, and the bytes that their blocks may take.
FILES = [(10**7, 4095, "float32", 8 << 20), (10**7, 63, "float64", 8 << 20)]


def from_files(
    samples: int, taps: int, dtype: str, limit: int, budget: float
) -> tuple[list[float], int]:
    """Seconds of blocks from file to file, of one call on arrays, of `oaconvolve` of all of a file
    to the other, and of writing that alone; and the most bytes that the first one had allocated.

    Results are on the disk when a way is done, but for that of the call, which stays in memory.
    """
    import scipy.signal

    import fastconv
    from fastconv._timer import compare

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal(taps, dtype=dtype)
    with tempfile.TemporaryDirectory() as folder:
        x = np.lib.format.open_memmap(f"{folder}/x.npy", "w+", dtype, (samples,))
        y = np.lib.format.open_memmap(f"{folder}/y.npy", "w+", dtype, (samples,))
        x[:] = rng.standard_normal(samples, dtype=dtype)
        array = np.array(x)

        def blocks() -> None:
            fastconv.convolve_blockwise(x, kernel, y, "same", workspace_limit=limit, threads=1)

        tracemalloc.start()
        blocks()
        allocated = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        right = scipy.signal.oaconvolve(array, kernel, "same")
        assert np.abs(y - right).max() <= 1e3 * np.finfo(dtype).eps * np.abs(right).max()

        def write(result: Any) -> None:
            y[:] = result
            y.flush()

        works = [
            blocks,
            lambda: fastconv.convolve(array, kernel, "same", threads=1),
            lambda: write(scipy.signal.oaconvolve(x, kernel, "same")),
            lambda: write(array),
        ]
        return [t.seconds for t in compare(works, budget=budget)], allocated


class Files:
    """Time from file to file over that of scipy.signal.oaconvolve; below 1 is faster."""

    params = (FILES,)
    param_names = ("file",)
    version = "1"
    unit = "x"
    timeout = 300

    def setup(self, file: tuple[int, int, str, int]) -> None:
        common.pin(1)
        common.without_wisdom()

    def track_time_ratio(self, file: tuple[int, int, str, int]) -> float:
        seconds, _ = from_files(*file, common.BUDGET)
        return seconds[0] / seconds[2]


def print_files(budget: float) -> None:
    columns = f"{'oaconvolve':>10} {'ratio':>6} {'write':>6} {'call':>6} {'of limit':>9}"
    print(f"{'file':30} {'blocks ms':>10} {columns}")
    for samples, taps, dtype, limit in FILES:
        seconds, allocated = from_files(samples, taps, dtype, limit, budget)
        blocks, call, peer, write = (1e3 * t for t in seconds)
        print(
            f"{f'{samples:.0e} {dtype}, {taps} taps':30} {blocks:10.1f} {peer:10.1f}"
            f" {peer / blocks:6.2f} {write:6.1f} {call:6.1f} {allocated / limit:9.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", action="store_true", help="double precision over single")
    parser.add_argument("--files", action="store_true", help="from file to file, block by block")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", metavar="PART", help="of a case's text")
    parser.add_argument("--budget", type=float, default=common.BUDGET, help="seconds a case")
    arguments = parser.parse_args()
    if arguments.precision:
        print_precision(arguments.threads, arguments.only, arguments.budget)
        return
    common.pin(1)
    if arguments.files:
        common.without_wisdom()
        print_files(arguments.budget)
        return
    print("| filter | " + " | ".join(f"{n:.0e}" for n in LENGTHS) + " | longest / shortest |")
    print("|---" * (len(LENGTHS) + 2) + "|")
    for dtype, taps in FILTERS:
        each = per_sample(dtype, taps, LENGTHS, 5)
        ratio = max(each.values()) / min(each.values())
        row = " | ".join(f"{ns:.2f}" for ns in each.values())
        print(f"| {dtype}, {taps} taps | {row} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
