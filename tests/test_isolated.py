"""Races in a process of their own: the same result, and a crash costs one candidate."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

from fastconv import _isolated, _planner, _wisdom
from fastconv._machine import this_machine
from fastconv._planner import Candidate
from fastconv._problem import Problem
from fastconv._rows import Quarantine

PROBLEM = Problem.parse("conv1d f32 n1 c1 w400 k1 s5")

#: A child in which the plan of a method ends the process.
CRASHES = """
import os, signal
from fastconv import _isolated, _tuner
call = _tuner._call
def crash(c, *rest):
    if c.method in {methods!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(c, *rest)
_tuner._call = crash
_isolated.main()
"""


def found(*methods: str) -> list[Candidate]:
    """The best candidate of each method, and one that is refused."""
    every = [c for c in _planner.candidates(PROBLEM) if c.refused is None]
    best = {c.method: c for c in reversed(every)}
    return [*(best[m] for m in methods), Candidate(PROBLEM, "r", {}, 0, 0, 0, refused="because")]


def test_it_is_as_in_this_process() -> None:
    seen: list[tuple[float, str]] = []
    given = found("direct", "naive")
    race = _isolated.race(
        given, this_machine(), 10.0, lambda done, text: seen.append((done, text)),
        hopeless=float("inf"), incumbent=("direct", {}), cold=False,
    )  # fmt: skip
    assert {c.method for c in race[:2]} == {"direct", "naive"} and race[2] == given[2]
    assert [c.source for c in race[:2]] == ["timed", "timed"] and race.complete
    for c in race[:2]:
        assert c.timing is not None and c.timing.samples > 0 and c.first > 0 and c.estimate > 0
        assert c.config == next(g.config for g in given if g.method == c.method)
    assert seen[-1][1] == "done" and any(text.startswith("checking direct") for _, text in seen)


def test_a_crash_costs_one_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    code = CRASHES.format(methods={"im2col"})
    monkeypatch.setattr(_isolated, "COMMAND", [sys.executable, "-c", code])
    race = _isolated.race(found("direct", "im2col", "naive"), this_machine(), 20.0)
    assert race[-1].method == "im2col" and race[-1].status == "crashed"
    assert "ended its process" in str(race[-1].refused)
    assert {c.method for c in race if c.source == "timed"} == {"direct", "naive"}


def test_a_process_that_never_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried for ever, and what it was to try is as it was."""
    for code in ("raise SystemExit(3)", "print('nonsense'); print('{')"):
        monkeypatch.setattr(_isolated, "COMMAND", [sys.executable, "-c", code])
        race = _isolated.race(found("direct", "naive"), this_machine(), 5.0)
        assert [(c.method, c.source) for c in race[:2]] == [("direct", "model"), ("naive", "model")]


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_isolated, "GRACE", 0.2)
    monkeypatch.setattr(_isolated, "COMMAND", [sys.executable, "-c", "import time; time.sleep(99)"])
    race = _isolated.race(found("direct"), this_machine(), 0.1)
    assert race[0].source == "model"


def test_thorough_puts_a_crash_in_quarantine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("FASTCONV_WISDOM", str(tmp_path / "wisdom.db"))
    monkeypatch.setattr(_wisdom, "_file_quarantine", {})
    monkeypatch.setattr(_isolated, "COMMAND", [
        sys.executable, "-c", CRASHES.format(methods={"im2col"})
    ])  # fmt: skip
    given = found("direct", "im2col")
    monkeypatch.setattr(_planner, "candidates", lambda *_: given)
    _planner.tune(PROBLEM, budget=20.0, mode="thorough")
    (row,) = _wisdom.rows(Quarantine)
    assert (row.solver, row.problem) == ("im2col", "")
    assert os.path.exists(tmp_path / "wisdom.db")
