"""A race in a process of its own, for `thorough`: who takes it down loses, and nobody else.

The parent sends candidates as a line of JSON and is told, a line at a time, what is tried and what
came out. When the process ends without a result, what it tried last has crashed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastconv import _timer, _tuner
from fastconv._machine import Machine
from fastconv._planner import Candidate
from fastconv._problem import Problem

if TYPE_CHECKING:
    from fastconv._wisdom import Progress

#: What is run; its standard input and output are lines of JSON.
COMMAND = [sys.executable, "-c", "from fastconv import _isolated; _isolated.main()"]

#: Crashes after which the rest is not tried any more.
MOST_CRASHES = 3

#: Seconds beyond its budget after which a process is ended: a call that has begun may take long.
GRACE = 10.0


def race(
    found: Sequence[Candidate], machine: Machine, budget: float,
    progress: Progress | None = None, **options: Any,
) -> _tuner.Race:  # fmt: skip
    """`_tuner.race` on as many processes as it takes; those that crashed are refused, last."""
    deadline = _timer.Deadline(budget)
    left: list[Candidate] = list(found)
    crashed: list[Candidate] = []
    while True:
        last, result = _attempt(left, machine, max(deadline.left, 0.1), progress, options)
        if result is not None:
            return dataclasses.replace(result, candidates=(*result.candidates, *crashed))
        guilty = next((c for c in left if _tuner.checking(c) == last), None)
        if guilty is None or len(crashed) == MOST_CRASHES or deadline.passed:
            untried = (dataclasses.replace(c, status="untried") for c in left)
            return _tuner.Race((*untried, *crashed))
        left = [c for c in left if c is not guilty]
        why = "it ended its process when tried"
        crashed.append(dataclasses.replace(guilty, refused=why, status="crashed"))


def _attempt(
    found: Sequence[Candidate], machine: Machine, budget: float, progress: Progress | None,
    options: dict[str, Any],
) -> tuple[str, _tuner.Race | None]:  # fmt: skip
    """What was tried last, and how the race came out if the process lived to say it."""
    legal = [c for c in found if c.refused is None]
    task = {
        "problem": str(legal[0].problem) if legal else "", "machine": machine._asdict(),
        "budget": budget, "options": options,
        "candidates": [
            [c.method, dict(c.config), c.seconds, c.workspace_bytes, c.error_bound] for c in legal
        ],
    }  # fmt: skip
    if not legal:
        return "", _tuner.Race(tuple(found))
    environment = {**os.environ, "FASTCONV_TUNE": "off"}
    process = subprocess.Popen(
        COMMAND, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,  # Ctrl-C is the parent's, which ends this one
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    last, result = "", None
    watchdog = threading.Timer(budget + GRACE, process.kill)
    watchdog.start()
    try:
        with process:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.close()
            for line in process.stdout:
                try:
                    told = json.loads(line)
                except ValueError:  # it ended in the middle of a word
                    continue
                if "result" in told:
                    result = _result(told["result"], found, legal)
                else:
                    last = told["text"]
                    if progress is not None:
                        progress(told["done"], last)
    except OSError:
        pass  # it ended before it had read its task
    except BaseException:
        process.kill()
        raise
    finally:
        watchdog.cancel()
    return last, result


def _result(
    told: dict[str, Any], found: Sequence[Candidate], legal: Sequence[Candidate]
) -> _tuner.Race:
    rows = []
    for row in told["candidates"]:
        timing = row.pop("timing")
        index = row.pop("index")
        rows.append(
            dataclasses.replace(
                legal[index], timing=_timer.Timing(**timing) if timing else None, **row
            )
        )
    refused = (c for c in found if c.refused is not None)
    return _tuner.Race((*rows, *refused), told["noise"], told["pressure"], told["complete"])


def main() -> None:
    """The child: reads a task, tells what it does, tells what came out."""
    task = json.loads(sys.stdin.readline())
    problem = Problem.parse(task["problem"])
    found = [Candidate(problem, *fields) for fields in task["candidates"]]
    options = task["options"]
    if options.get("incumbent"):
        options["incumbent"] = tuple(options["incumbent"])
    if "hopeless" in options:
        options["hopeless"] = float(options["hopeless"])

    def progress(done: float, text: str) -> None:
        print(json.dumps({"done": done, "text": text}), flush=True)

    machine = Machine(**task["machine"])
    came_out = _tuner.race(found, machine, task["budget"], progress, **options)
    places = {(c.method, json.dumps(c.config)): i for i, c in enumerate(found)}
    rows = [
        {
            "index": places[c.method, json.dumps(c.config)], "seconds": c.seconds,
            "source": c.source, "refused": c.refused, "status": c.status, "first": c.first,
            "estimate": c.estimate,
            "timing": dataclasses.asdict(c.timing) if c.timing is not None else None,
        }
        for c in came_out
    ]  # fmt: skip
    result = {
        "candidates": rows, "noise": came_out.noise, "pressure": came_out.pressure,
        "complete": came_out.complete,
    }  # fmt: skip
    print(json.dumps({"result": result}), flush=True)
