"""Rows of the suites, timed in several builds of fastconv at once.

A machine with two cores and other work on it drifts by more than what is looked for. So every build
has a process of its own, all set up on the same row, and these take turns of some milliseconds in
shuffled order; while one runs the others wait for their next line of input. What drifts, drifts for
all of them.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: Seconds of a sample: enough for the clock, few enough for a drift to meet all builds.
SAMPLE = 0.008


class Row(NamedTuple):
    """A benchmark and its parameters, as asv names them."""

    benchmark: str
    params: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.benchmark}({', '.join(map(repr, self.params))})"

    @property
    def tracks(self) -> bool:
        return ".track_" in self.benchmark


class Failed(RuntimeError):
    """A benchmark raised."""


class Worker:
    """A process of `bench.worker`."""

    def __init__(self, tree: pathlib.Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name("worker.py")), str(tree)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def send(self, **request: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer that is missing says it
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"a worker ended: {self._process.stderr.read()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, **request: Any) -> dict[str, Any]:
        self.send(**request)
        return self.answer()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def workers(trees: Mapping[str, pathlib.Path]) -> Iterator[dict[str, Worker]]:
    """A worker for each build, ended with the block."""
    found = {name: Worker(tree) for name, tree in trees.items()}
    try:
        yield found
    finally:
        for worker in found.values():
            worker.close()


class Measured(NamedTuple):
    """Samples in seconds by build, or one value of a track; why builds have none."""

    samples: dict[str, list[float]]
    skipped: dict[str, str]
    failed: dict[str, str]


def measure(
    builds: Mapping[str, Worker], row: Row, rounds: int = 15,
    peers: Mapping[str, tuple[Worker, list[Any]]] | None = None, seed: int = 0,
) -> Measured:  # fmt: skip
    """Set a row up everywhere and sample it in turns; `peers` take turns, too, if they can."""
    loads = {name: (worker, row.benchmark, list(row.params)) for name, worker in builds.items()}
    for name, (worker, params) in (peers or {}).items():
        loads[name] = (worker, "peer", params)
    for worker, benchmark, params in loads.values():
        worker.send(load=benchmark, params=params)
    answers = {name: worker.answer() for name, (worker, *_) in loads.items()}
    found = Measured(
        {}, {n: a["skip"] for n, a in answers.items() if "skip" in a},
        {n: a["error"] for n, a in answers.items() if "error" in a},
    )  # fmt: skip
    ready = [name for name, answer in answers.items() if not answer]
    if row.tracks:
        for name in ready:
            answer = loads[name][0].ask(track=True)
            if "value" in answer:
                found.samples[name] = [answer["value"]]
            else:
                found.failed[name] = answer.get("error") or answer["skip"]
        return found
    found.samples.update({name: [] for name in ready})
    shuffle = random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(ready)
        for name in ready:
            answer = loads[name][0].ask(sample=SAMPLE)
            if "seconds" not in answer:
                raise Failed(f"{row}, {name}: {answer}")
            found.samples[name].append(answer["seconds"])
    return found


def undisturbed(samples: list[float]) -> float:
    """The time of a call that nothing interrupted: the lower quartile."""
    return samples[0] if len(samples) < 2 else statistics.quantiles(samples, n=4)[0]
