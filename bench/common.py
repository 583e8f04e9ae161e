"""What every suite shares. Its classes hold no benchmark: asv would collect it here too."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from . import libraries, peers, shapes

#: Products that a method which makes them all may have to make: some ten seconds of them.
MOST = 20_000_000_000
MOST_NAIVE = 200_000_000

#: Seconds that a ratio to a peer is timed for.
BUDGET = 10.0

_off: Any = None
_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def without_wisdom() -> None:
    """Plan by the cost model alone from here on.

    Otherwise what this machine once measured would look like a change of the code.
    """
    import fastconv

    global _off
    if _off is None and hasattr(fastconv, "autotune"):
        _off = fastconv.autotune("off")  # in force until collected: for the life of the process
        _off.__enter__()


def turn(places: int) -> None:
    """Let `pin` take other cores than a process beside this one, which turned by another number."""
    if _cores:
        _cores[:] = _cores[places % len(_cores) :] + _cores[: places % len(_cores)]


def pin(threads: int) -> None:
    """Run on that many cores: fastconv takes as many threads as its process has cores."""
    if threads > len(_cores or range(os.cpu_count() or 1)):
        raise NotImplementedError(f"this machine has fewer than {threads} cores")
    if _cores:
        os.sched_setaffinity(0, _cores[-threads:])  # the first one serves most interrupts


def products(c: shapes.Case) -> int:
    """Products of the definition, at most: strides and margins make them fewer."""
    count = 1
    for n in c.x_shape:
        count *= n
    if c.kind == "layer":
        count //= c.x_shape[1]
    for n in c.size or c.w_shape or (1,):
        count *= n
    return count


def operations(c: shapes.Case, result: Any) -> int:
    """Floating-point operations of the definition."""
    from .ceilings import operations

    return operations(c, result)


def peak(dtype: str, rounds: int = 20_000) -> tuple[Callable[[], None], int]:
    """Fused multiply-adds and nothing else, compiled for this processor, and how many flops."""
    import numpy as np

    from .ceilings import compiled_peak

    run, length = compiled_peak(dtype)
    data = np.full(2 + length, 0.5, dtype)
    return lambda: run(rounds, data), 2 * length * rounds


class Timed:
    """How asv times: short samples, spread over several processes."""

    version = "1"
    rounds = 4
    repeat = (3, 20, 2.0)
    sample_time = 0.02
    warmup_time = 0.2
    timeout = 120

    def prepare(self, text: str, method: str = "auto", threads: int = 1) -> None:
        """Set `self.call`; a method that refuses the case skips the benchmark."""
        c = shapes.case(text)
        limit = {"auto": None, "naive": MOST_NAIVE, "fft": None, "overlap_save": None}
        most = limit.get(method, MOST)
        if most is not None and products(c) > most:
            raise NotImplementedError("takes minutes")
        if method != "auto" and threads != 1:
            raise NotImplementedError("methods are compared on one thread")
        pin(threads)
        without_wisdom()
        try:
            self.call = peers.ours(c, method).run
            self.call()
        except (AttributeError, TypeError, ValueError) as refused:  # or of later commits than this
            raise NotImplementedError(str(refused)) from None

    def prepare_plan(self, text: str, threads: int) -> Any:
        """Set `self.call` to a prepared plan that writes to an array which is there."""
        pin(threads)
        without_wisdom()
        try:
            work, plan = libraries.fastconv_plan(shapes.case(text))
        except (AttributeError, TypeError, ValueError) as refused:
            raise NotImplementedError(str(refused)) from None
        self.call = work.run
        return plan


class Against:
    """time(fastconv's plan) / time(peer), in one process and interleaved; below 1 is faster."""

    version = "1"
    unit = "x"
    timeout = 300

    def setup(self, text: str, peer: str, threads: int) -> None:
        pin(threads)
        without_wisdom()
        notes: dict[str, str] = {}
        if not peers.peers(shapes.case(text), threads, notes, only=peer):
            raise NotImplementedError(f"{peer}: {notes[peer]}")

    def track_time_ratio(self, text: str, peer: str, threads: int) -> float:
        found = peers.ratios(shapes.case(text), threads, peer, BUDGET)
        if peer not in found:
            raise RuntimeError(f"{peer} computes something else")
        mine, theirs = found[peer]
        return mine / theirs
