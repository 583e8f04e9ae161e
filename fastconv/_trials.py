"""Trials: random problems, and the time of every candidate of each, as lines of JSON.

What `fastconv train` learns from, and what the regret of the untuned planner is measured on. A
line holds a problem, the machine, and a list of [method, config, revision, seconds].
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastconv import _planner, _timer, _tuner, _wisdom, _workloads
from fastconv._environment import environment
from fastconv._machine import Machine, this_machine
from fastconv._planner import Candidate
from fastconv._problem import Problem, numpy_dtype
from fastconv._rows import Trial as Tried
from fastconv._solver import bind
from fastconv.solvers import BY_NAME

#: Estimated seconds of the best candidate up to which a random problem is kept: longer ones cost
#: the machine more and are made of the same loops.
_LONGEST = 0.02

#: Bytes of a random problem's arrays at most.
_LARGEST = 256 << 20

#: Candidates estimated, or seen, at this many times the best are not timed again.
_HOPELESS = 12.0


#: How well candidates must be told apart (`Ranking.noise`): 0.5 to 3 % on an idle machine.
_NOISE = 0.08


@dataclasses.dataclass(frozen=True)
class Trial:
    """Seconds of each candidate of a problem that was timed on a machine."""

    problem: Problem
    machine: Machine
    timed: tuple[tuple[str, dict[str, int | str], int, float], ...]

    def line(self) -> str:
        return json.dumps(
            {"problem": str(self.problem), "machine": self.machine._asdict(),
             "timed": [[m, c, r, float(f"{s:.4g}")] for m, c, r, s in self.timed]},
            separators=(",", ":"),
        )  # fmt: skip


def load(path: str | os.PathLike[str]) -> list[Trial]:
    """The trials of a file, which may be compressed (``.gz``)."""
    opened = gzip.open if str(path).endswith(".gz") else open
    with opened(path, "rt") as file:
        try:
            return list(read(file))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None


def read(lines: Iterable[str]) -> Iterator[Trial]:
    """The trials of a file's lines; ValueError names the first line that is none."""
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            yield Trial(
                Problem.parse(row["problem"]), Machine(**row["machine"]),
                tuple((str(m), dict(c), int(r), float(s)) for m, c, r, s in row["timed"]),
            )  # fmt: skip
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"line {number} is no trial: {error}") from None


def of_wisdom() -> list[Trial]:
    """What tuning has timed on this machine, of problems with two candidates or more."""
    here, machine = environment(this_machine()), this_machine()
    found: dict[str, list[tuple[str, dict[str, int | str], int, float]]] = {}
    for row in _wisdom.rows(Tried):
        if row.environment == here and row.seconds > 0:
            seconds = row.solver, row.config, row.revision, row.seconds
            found.setdefault(row.problem, []).append(seconds)
    return [
        Trial(Problem.parse(text), machine, tuple(sorted(timed, key=lambda row: row[3])))
        for text, timed in sorted(found.items())
        if len(timed) > 1
    ]


# ---- random problems -----------------------------------------------------------------------------

_CHANNELS = (1, 2, 3, 4, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)
_FLOATS = ("float32",) * 8 + ("float64",) * 2


def _between(rng: random.Random, low: float, high: float) -> int:
    """A whole number whose logarithm is uniform."""
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def _layer(rng: random.Random) -> dict[str, Any]:
    dims = rng.choice((1, 2, 2, 2, 2, 3))
    high = {1: 16000, 2: 256, 3: 48}[dims]
    size = _between(rng, 7 if dims > 1 else 32, high)
    square = rng.random() < 0.8
    sizes = [size if square else max(5, _between(rng, size / 2, size * 2)) for _ in range(dims)]
    taps = rng.choice((1,) * 5 + (2,) + (3,) * 10 + (4,) + (5,) * 3 + (7, 7, 9, 11, 15))
    kernel = [taps] * dims
    if dims > 1 and rng.random() < 0.1:
        kernel[rng.randrange(dims)] = 1
    c, k = rng.choice(_CHANNELS), rng.choice(_CHANNELS)
    kind = rng.random()
    if kind < 0.2:  # depthwise, some with several filters a channel
        groups, k = c, c * rng.choice((1, 1, 1, 1, 2, 4))
        kernel = [rng.choice((3, 3, 3, 5, 5, 7, 9, 15, 31))] * dims
    elif kind < 0.3:
        groups = rng.choice((2, 4, 8, 32))
        c, k = (max(groups, n // groups * groups) for n in (c, k))
    else:
        groups = 1
    op = rng.choice(
        ("conv",) * 7 + ("conv_transpose", "conv_transpose", "grad_input", "grad_weight")
    )
    stride = (
        rng.choice((1, 1, 1, 1, 2, 2, 2, 3, 4))
        if op != "conv_transpose"
        else rng.choice((1, 2, 2, 4))
    )
    dilation = rng.choice((1,) * 9 + (2, 3, 8))
    padding = [rng.choice((0, dilation * (r - 1) // 2, dilation * (r - 1) // 2)) for r in kernel]
    if op == "conv_transpose":
        padding = [min(p, dilation * (r - 1)) for p, r in zip(padding, kernel)]
        if stride > 1 and rng.random() < 0.5:
            kernel, padding, dilation = [stride] * dims, [0] * dims, 1
    n = rng.choice((1, 1, 1, 1, 2, 4, 8, 16, 32))
    shape = [k, c // groups] if op != "conv_transpose" else [c, k // groups]
    return {
        "kind": "conv", "op": op, "x": [n, c, *sizes], "w": [*shape, *kernel], "stride": stride,
        "padding": padding, "dilation": dilation, "groups": groups, "dtype": rng.choice(_FLOATS),
    }  # fmt: skip


def _signal(rng: random.Random) -> dict[str, Any]:
    dtype = rng.choice(("float32",) * 4 + ("float64",) * 4 + ("complex64", "complex128", "int64"))
    mode = rng.choice(("full", "same", "valid"))
    dims = rng.choice((1, 1, 1, 2, 3))
    if dims == 1 and rng.random() < 0.2:
        rows = _between(rng, 2, 2000)
        length = _between(rng, 64, max(65, 4e6 / rows))
        return {"kind": "signal", "a": [rows, length], "b": [1, _between(rng, 3, length)],
                "axes": [1], "mode": mode, "dtype": dtype}  # fmt: skip
    high, taps = {1: (2e6, 1e5), 2: (2000, 200), 3: (128, 20)}[dims]
    a = [_between(rng, high ** (1 / 3), high) for _ in range(dims)]
    b = _between(rng, 2, taps)
    return {"kind": "signal", "a": a, "b": [min(b, n) for n in a], "mode": mode, "dtype": dtype}


def _image(rng: random.Random) -> dict[str, Any]:
    dims = rng.choice((1, 2, 2, 2, 2, 3))
    high = {1: 1e6, 2: 2000, 3: 160}[dims]
    a = [_between(rng, high ** (1 / 2), high) for _ in range(dims)]
    op = rng.choice(("correlate", "correlate", "convolve", "gaussian_filter", "uniform_filter",
                     "sobel"))  # fmt: skip
    row: dict[str, Any] = {"kind": "image", "op": op, "a": a}
    row["mode"] = rng.choice(("reflect", "reflect", "constant", "nearest", "mirror", "wrap"))
    row["dtype"] = rng.choice((*_FLOATS, "uint8", "uint8", "int32"))
    if row["dtype"] == "uint8" and rng.random() < 0.7:
        row["output"] = "float32"
    if op in ("correlate", "convolve"):
        taps = rng.choice((3, 3, 5, 7, 9, 15, 25, 31))
        row["b"] = [min(taps, n) for n in a]
    elif op == "gaussian_filter":
        row["sigma"] = rng.choice((0.7, 1.0, 2.0, 3.0, 6.0))
    elif op == "uniform_filter":
        row["size"] = rng.choice((3, 5, 9, 15, 31))
    return row


def random_problems(seed: int) -> Iterator[Problem]:
    """Problems of random calls of the front ends, the same for a seed, without end."""
    rng = random.Random(seed)
    makers: Sequence[Callable[[random.Random], dict[str, Any]]] = (_layer, _layer, _layer, _signal,
                                                                    _image)  # fmt: skip
    seen: set[Problem] = set()
    while True:
        row = rng.choice(makers)(rng)
        prepared = rng.random() < 0.5
        kind = row.pop("kind")
        try:
            problems = _workloads.KINDS[kind](kind, row).problems()
        except (ValueError, TypeError, MemoryError):
            continue  # a call that is none: kernels larger than their input
        for problem in problems:
            problem = problem.replace(threads=1, prepared=prepared)
            if problem in seen or problem.flops == 0 or _tuner.scratch_bytes(problem) > _LARGEST:
                continue
            best = _planner.candidates(problem)[0]
            if best.refused is None and best.seconds <= _LONGEST:
                seen.add(problem)
                yield problem


# ---- timing --------------------------------------------------------------------------------------


def record(problem: Problem, threads: Sequence[int], budget: float) -> list[Trial]:
    """Time the candidates of a problem on each number of threads, all of them interleaved.

    No trials where the machine has other work to do.
    """
    machine = this_machine()
    found: dict[tuple[str, str, int], list[tuple[int, Candidate]]] = {}
    for count in threads:
        asked = problem.replace(threads=count)
        legal = [c for c in _planner.candidates(asked) if c.refused is None]
        for c in legal:
            if c.seconds <= _HOPELESS * max(legal[0].seconds, 2e-6):
                own = {k: v for k, v in c.config.items() if k != "threads"}
                used = int(c.config.get("threads", count))
                found.setdefault((c.method, json.dumps(own), used), []).append((count, c))
    x = _tuner._strided(problem.x_shape, numpy_dtype(problem.x_dtype), problem.layout)
    w = np.empty(problem.w_shape, numpy_dtype(problem.w_dtype))
    rng = np.random.default_rng(0)
    _tuner._fill(x, rng)
    _tuner._fill(w, rng)
    if problem.rank:
        w[...] = _tuner._outer_product(w)
    y = np.empty(problem.y_shape, numpy_dtype(problem.y_dtype))

    def call_of(c: Candidate) -> Callable[[], Any]:
        plan = bind(BY_NAME[c.method], c.problem, c.config, machine)
        if problem.prepared:
            packed = plan.pack_stored(w)
            return lambda: plan(x, packed, None, y)
        return lambda: plan(x, plan.pack_stored(w), None, y)

    calls: list[Callable[[], Any]] = []
    first: list[float] = []
    owners = []
    for same in sorted(found.values(), key=lambda same: same[0][1].seconds):
        call = call_of(same[0][1])
        watch = _timer.Deadline(None)
        call()
        seconds = watch.spent
        if seconds < 20 * min(first, default=seconds):
            calls.append(call)
            first.append(seconds)
            owners.append(same)
    ranking = _timer.rank(calls, seen=first, budget=budget)
    if ranking.noise > _NOISE:
        return []
    timed: dict[int, list[tuple[str, dict[str, int | str], int, float]]] = {n: [] for n in threads}
    for same, timing in zip(owners, ranking.timings):
        if timing is not None:
            for count, c in same:
                revision = BY_NAME[c.method].revision
                timed[count].append((c.method, dict(c.config), revision, timing.seconds))
    return [
        Trial(problem.replace(threads=count), machine, tuple(sorted(rows, key=lambda row: row[3])))
        for count, rows in timed.items()
        if rows
    ]
