"""What this machine can do at most, measured, and how much of it a case asks for.

A case has two limits: its operations at the peak of multiply-adds (peak.c, compiled for this
processor), and its bytes at the speed of a copy as large. Operations are those of
the definition (of each pass, where a filter is separable by definition), so that an algorithm with
fewer products, such as Winograd's or Fourier's, may take less than the first. Bytes are those of
all operands, each once.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import dataclasses
import math
import os
import pathlib
import queue
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .shapes import Case, spatial

#: Bytes that the threads read and write in one copy: from the caches of a core to memory.
COPIES = tuple(1 << bits for bits in (16, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28))

AtOnce = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], float]


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """`flops` by dtype, a second; `copy`: (bytes, bytes a second), small copies first."""

    threads: int
    flops: dict[str, float]
    copy: tuple[tuple[int, float], ...]

    def bandwidth(self, size: float) -> float:
        """Bytes a second of a copy that reads and writes `size` bytes in all."""
        sizes, speeds = np.log(np.array(self.copy)).T
        return float(np.exp(np.interp(math.log(max(size, 1)), sizes, speeds)))

    def least(self, c: Case, operations: int, size: int) -> dict[str, float]:
        """The least seconds of a case: of its operations, ``"fma"``, and of its bytes, ``"copy"``.

        There is no peak for whole numbers.
        """
        dtype = {"complex64": "float32", "complex128": "float64"}.get(c.dtype, c.dtype)
        if c.kind == "image" and c.dtype[0] == "u":
            dtype = "float32"
        found = {"copy": size / self.bandwidth(size)}
        if dtype in self.flops:
            found["fma"] = operations / self.flops[dtype]
        return found


def measure(threads: int, budget: float = 1.0) -> Ceilings:
    """The ceilings of `threads` cores, in about `budget` seconds each."""
    from fastconv._timer import compare

    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    if hasattr(os, "sched_getaffinity"):
        for core in sorted(os.sched_getaffinity(0))[:threads]:
            cores.put(core)

    def pin() -> None:  # two threads that wake on one core would stay there for a while
        if not cores.empty():
            os.sched_setaffinity(0, [cores.get()])

    with concurrent.futures.ThreadPoolExecutor(threads, initializer=pin) as pool:

        def at_once(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> float:
            """Seconds that calls of a function with these arguments, a thread each, take."""

            def work() -> None:
                for future in [pool.submit(function, *each) for each in arguments]:
                    future.result()

            (timing,) = compare([work], rounds=40, budget=budget)
            return timing.lowest

        flops = {dtype: _peak(at_once, threads, dtype) for dtype in ("float32", "float64")}
        copy = tuple((size, _copy(at_once, threads, size)) for size in COPIES)
    return Ceilings(threads, flops, copy)


def compiled_peak(dtype: str) -> tuple[Callable[[int, Any], None], int]:
    """`peak` of peak.c for this processor, and the number of its sums."""
    name = {"float32": "float", "float64": "double"}[dtype]
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, f"{name}.so")
        subprocess.run(
            [*shlex.split(os.environ.get("CC", "cc")), "-O3", "-march=native", "-shared", "-fPIC",
             f"-DT={name}", "-o", library, str(pathlib.Path(__file__).with_name("peak.c"))],
            check=True,
        )  # fmt: skip
        loaded = ctypes.CDLL(library)  # stays in memory when the file goes

    def peak(rounds: int, data: Any) -> None:
        loaded.peak(ctypes.c_int64(rounds), ctypes.c_void_p(data.ctypes.data))

    return peak, ctypes.c_int64.in_dll(loaded, "length").value


def _peak(at_once: AtOnce, threads: int, dtype: str) -> float:
    peak, length = compiled_peak(dtype)
    rounds = 1_000_000
    data = [(rounds, np.full(2 + length, 0.5, dtype)) for _ in range(threads)]
    return 2 * length * rounds * threads / at_once(peak, data)


def _copy(at_once: AtOnce, threads: int, size: int) -> float:
    from fastconv._calibration import copied

    each = [copied(size // threads) for _ in range(threads)]
    moved = sum(times * (size // threads) for *_, times in each)
    return moved / at_once(np.copyto, [(to, of) for to, of, _ in each])


def operations(c: Case, result: Any) -> int:
    """Floating-point operations of the definition: two a real product, eight a complex one."""
    each = 8 if c.dtype[0] == "c" else 2
    x, w = math.prod(c.x_shape), math.prod(c.w_shape or ())
    if c.kind == "layer":
        assert c.w_shape is not None
        taps = math.prod(spatial(c).kernel)
        if c.function.endswith("_weight"):
            assert c.size is not None
            return each * w * c.size[1] * taps
        scattered = c.size is not None or c.function.startswith("conv_transpose")
        return each * (x if scattered else result.size) * c.w_shape[1] * taps
    if c.kind == "match":
        return each * int(result.size) * w
    if c.kind == "power":  # one factor more at a time
        return each * x * x * (c.options["n"] - 1)
    if c.kind == "signal":
        return each * (result.size if c.options.get("mode") == "valid" else x) * w
    if c.function == "gaussian_filter":
        return each * x * sum(2 * int(4 * s + 0.5) + 1 for s in c.options["sigma"] if s)
    if c.function == "uniform_filter":
        return 2 * x * len(c.x_shape)  # a sample in and one out an axis
    if c.function == "sobel":
        return each * x * (2 + 3 * (len(c.x_shape) - 1))
    return each * x * w


def size_in_bytes(c: Case, result: Any) -> int:
    """Bytes of all operands."""
    w = math.prod(c.w_shape) * np.dtype(c.w_dtype or c.dtype).itemsize if c.w_shape else 0
    return int(math.prod(c.x_shape) * np.dtype(c.dtype).itemsize + w + result.nbytes)
