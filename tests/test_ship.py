"""Wisdom in use: recorded, tuned, shipped and replayed by processes; shared by many; killed."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastconv import _environment, _store, _wisdom
from fastconv._machine import Machine
from fastconv._problem import Problem
from fastconv._rows import Decision, Trial, Wanted

SERVICE = """
import json, sys
import numpy as np, fastconv
x, w = np.ones((1, 4, 12, 12), 'f4'), np.ones((4, 4, 3, 3), 'f4')
layer = fastconv.plan(fastconv.conv2d, x, w, padding=1, threads=1)
for _ in range(3):
    y = layer(x)
fastconv.convolve(np.ones(300), np.ones(20))
if len(sys.argv) > 1:
    fastconv.convolve(np.ones(int(sys.argv[1])), np.ones(20))
print(json.dumps([layer.method, layer.config, [str(p) for p in layer.problems], layer.explain()]))
"""


def run(argv: list[str], folder: pathlib.Path, code: int = 0, **variables: str) -> tuple[str, str]:
    """Output of a process whose wisdom lies in a folder of its own."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("FASTCONV_TUNE")}
    given |= {"FASTCONV_WISDOM": str(folder / "wisdom.db"), "COLUMNS": "200", **variables}
    done = subprocess.run(argv, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "fastconv", *argv]


def test_record_tune_ship_replay(tmp_path: pathlib.Path) -> None:
    """The recipe of docs/autotuning.md."""
    service, twin, target = (tmp_path / name for name in ("service", "twin", "target"))
    for folder in (service, twin, target):
        folder.mkdir()
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    log, site = tmp_path / "log.jsonl", tmp_path / "site" / "wisdom.db"

    # 1. the service, recorded
    shown, _ = run(
        command("record", "--log", str(log), "--json", "--", sys.executable, str(script)), service
    )
    lines = shown[shown.index("\n[\n") :]
    wanted = {row["problem"]: row["hits"] for row in json.loads(lines)}
    (layer,) = json.loads(shown.splitlines()[0])[2]
    assert wanted[layer] == 3 and len(wanted) == 2
    rows = [_wisdom.parse_line(line) for line in log.read_text().splitlines()]
    assert {row.problem for row in rows if isinstance(row, Wanted)} == set(wanted)

    # 2. a machine like it tunes what is in the log, looks again, and exports
    run(command("tune", "--from-log", str(log), "--force-noisy", "--budget", "10"), twin)
    verified, _ = run(command("verify", "--tolerance", "1000", "--json"), twin)
    assert {row["problem"] for row in json.loads(verified)} == set(wanted)
    run(command("export", str(site)), twin)

    # 3. a service that has it, read only, and nothing else
    site.chmod(0o444)
    site.parent.chmod(0o555)
    given = {"FASTCONV_TUNE": "replay", "FASTCONV_TUNE_RO": str(site)}
    shown, errors = run([sys.executable, str(script)], target, **given)
    method, config, (problem,), explained = json.loads(shown)
    store = _store.Store(site, read_only=True)
    decided = {row.problem: row for row in store.rows(Decision)}
    assert (method, config) == (decided[layer].solver, decided[layer].config)
    assert problem == layer and "wisdom: " in explained and errors == ""
    assert list(target.iterdir()) == [] and os.listdir(site.parent) == [site.name]

    # and what was never recorded is an error that says what to do
    _, errors = run([sys.executable, str(script), "5000"], target, code=1, **given)
    last = errors.splitlines()[-1]
    assert "TuningMissError: conv1d f64 n1 c1 w5000" in last and "fastconv tune" in last
    assert "FASTCONV_TUNE" in last
    site.parent.chmod(0o755)


def test_record_tells_how_the_command_ended(tmp_path: pathlib.Path) -> None:
    failing = [sys.executable, "-c", "raise SystemExit(7)"]
    _, errors = run(command("record", "--", *failing), tmp_path, code=1)
    assert "ended with 7" in errors
    _, errors = run(command("record", "--", "/no/such/program"), tmp_path, code=2)
    assert errors.count("\n") == 1 and "No such file" in errors


# Many at once

#: Tunes the problems of batches 1 to N in an order of its own, with a tuner that takes no time.
TUNES = """
import dataclasses, random, sys
from fastconv import _planner, _tuner, _wisdom
from fastconv._planner import Candidate
from fastconv._problem import Problem
number, count = map(int, sys.argv[1:])

def candidates(problem, limit=None):
    return [Candidate(problem, name, {}, 1e-3, 0, 1e-6) for name in ("naive", "direct", "fft")]

def race(found, machine, budget, progress, **options):
    timed = (dataclasses.replace(c, source="timed", status="timed", seconds=1e-3 + number * 1e-6,
             timing=_tuner._timer.Timing(1e-3, 1e-3, 1e-3, 1e-3, 9, 1)) for c in found)
    return _tuner.Race(tuple(timed), complete=True)

_planner.candidates, _tuner.race = candidates, race
_wisdom.be_patient()
batches = list(range(1, count + 1))
random.Random(number).shuffle(batches)
for batch in batches:
    _planner.tune(Problem.parse(f"conv1d f32 n{batch} c1 w40 k1 s3"), workspace_limit=2**30)
_wisdom.want({Problem.parse("conv1d f32 n1 c1 w40 k1 s3"): (1, 0.5)}, _planner.this_machine())
"""


@pytest.fixture
def memory_path(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder whose files need not reach a disk, where there is such a place: it is quicker."""
    if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            yield pathlib.Path(folder)
    else:
        yield tmp_path


def test_eight_processes_tune_into_one_file(memory_path: pathlib.Path) -> None:
    """Nothing is lost, nobody fails, nobody waits for ever."""
    path, count = memory_path / "wisdom.db", 200
    given = {**os.environ, "FASTCONV_WISDOM": str(path), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", TUNES, str(i), str(count)], env=given,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for i in range(8)
    ]  # fmt: skip
    for process in running:
        told, _ = process.communicate(timeout=300)
        assert (process.returncode, told) == (0, "")
    store = _store.Store(path)
    assert len(store.rows(Decision)) == count
    assert len(store.rows(Trial)) == 3 * count
    (wanted,) = store.rows(Wanted)
    assert (wanted.hits, wanted.seconds) == (8, 4.0)


HERE = Machine(isa="avx2", cores=4, l1=32768, l2=1 << 20, l3=8 << 20)


def _decision(batch: int) -> Decision:
    problem = Problem(size=(40,), kernel=(3,), batch=batch)
    return Decision(
        environment=_environment.environment(HERE), problem=str(problem), solver="naive",
        config={}, revision=1, seconds=1e-3, median=1e-3, upper=1e-3, lowest=1e-3, first=0.0,
        samples=9, runner_up="", margin=0.0, noise=0.0, pressure=0.0, effort=2, budget=2.0,
        complete=1, candidates="", error_bound=0.0, workspace=0, how="timed", version="",
        created="2026-01-01 00:00:00",
    )  # fmt: skip


def _write_until_killed(path: pathlib.Path, first: int, told: int) -> None:
    """Store one row after another, and report each that the store says it has."""
    store = _store.Store(path)
    store.busy = _store.PATIENT
    batch = first
    while True:
        if store.put([_decision(batch)]):
            os.write(told, f"{batch}\n".encode())
        batch += 1


def kill_writers(path: pathlib.Path, times: int, longest: float = 0.1) -> int:
    """Kill so many writers at random moments; how many rows they had reported in all."""
    rng = random.Random(1)
    reported: set[int] = set()
    for _ in range(times):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                _write_until_killed(path, 1 + max(reported, default=0), writing)
            finally:
                os._exit(1)
        os.close(writing)
        time.sleep(rng.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with open(reading) as stream:
            lines = stream.read().split("\n")[:-1]  # what was not ended was not said
        reported |= {int(line) for line in lines}
        found = {row.problem for row in _store.Store(path).rows(Decision)}
        assert {str(Problem(size=(40,), kernel=(3,), batch=n)) for n in reported} <= found
    return len(reported)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads, from 3.12 on
def test_killed_writers_lose_nothing_that_was_stored(
    memory_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert kill_writers(memory_path / "wisdom.db", 20) > 0
    assert not caplog.records
    assert not (memory_path / "wisdom.db.corrupt").exists()


def test_a_full_disk_is_no_error(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that has no room: what was there stays, what is new is held."""
    import sqlite3

    path = tmp_path / "wisdom.db"
    first = _store.Store(path)
    assert first.put([_decision(1)])
    connect = sqlite3.connect

    def full(*given: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*given, **options)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", full)
    store = _store.Store(path)
    assert not store.put(_decision(n) for n in range(2, 2000))
    assert store.decision(_environment.environment(HERE), _decision(1999).problem) is not None
    monkeypatch.setattr(sqlite3, "connect", connect)
    assert len(_store.Store(path).rows(Decision)) == 1
    assert store.flush() and len(_store.Store(path).rows(Decision)) == 1999
    assert len([r for r in caplog.records if "full" in r.getMessage()]) == 1
