"""Modes and budgets: who sets them, what each does with a problem that wisdom does not know."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _engine, _isolated, _planner, _settings, _timer, _tuner, _wisdom
from fastconv._machine import this_machine
from fastconv._planner import TuningMissError, autotune, choose
from fastconv._problem import Problem
from fastconv._rows import Wanted

LAYER = Problem.parse("conv2d f32 n1 c8 h14 w14 k8 r3 s3 p1")
OTHER = LAYER.replace(batch=2)
#: What `conv2d` asks for: its kernel is packed once where calls repeat.
CALLED = LAYER.replace(prepared=True)
X, W = np.ones((1, 8, 14, 14), "f4"), np.ones((8, 8, 3, 3), "f4")


class Races:
    """Stands for the tuner: times nothing, and takes the slowest by the model for the fastest."""

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []
        self.complete = True
        self.noise = self.pressure = 0.0
        self.spoil: dict[str, Any] = {}

    def __call__(
        self, found: Any, machine: Any, budget: float, progress: Any, **options: Any
    ) -> _tuner.Race:
        self.held.append({"problem": found[0].problem, "budget": budget, **options})
        timed = [
            dataclasses.replace(c, source="timed", seconds=1e-3, status="dropped",
                                timing=_timer.Timing(1e-3, 1e-3, 1e-3, 1e-3, 9, 1))
            for c in found[::-1] if c.refused is None and c.method not in self.spoil
        ]  # fmt: skip
        bad = [
            dataclasses.replace(c, **self.spoil[c.method]) for c in found if c.method in self.spoil
        ]
        return _tuner.Race((*timed, *bad), self.noise, self.pressure, self.complete)


@pytest.fixture(autouse=True)
def races(monkeypatch: pytest.MonkeyPatch, fresh_plans: None) -> Iterator[Races]:
    made = Races()
    monkeypatch.setattr(_tuner, "race", made)
    monkeypatch.setattr(_isolated, "race", made)
    monkeypatch.setattr(_planner, "_spent", _planner._Spent())
    monkeypatch.setattr(_wisdom, "_stores", {})
    monkeypatch.setattr(_wisdom, "_file_quarantine", {})
    monkeypatch.setattr(_wisdom, "_file_pins", {})
    _planner.met.forget()
    yield made
    _planner.met.forget()
    _wisdom.clear()


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Any]:
    """Set environment variables as if the process had been started with them."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("FASTCONV_TUNE") or name == "FASTCONV_CONFIG":
            monkeypatch.delenv(name)

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        _settings.reload()

    put()
    yield put
    monkeypatch.undo()
    _settings.reload()


# Who says


def test_defaults(variables: Any) -> None:
    found = _settings.current()
    assert (found.mode, found.origin) == ("cached", "default")
    assert (found.key_seconds, found.process_seconds) == (2.0, float("inf"))
    for mode, key, process in (("measure", 2.0, 60.0), ("auto", 0.25, 0.5)):
        with autotune(mode):
            now = _settings.current()
            assert (now.key_seconds, now.process_seconds) == (key, process)


def test_precedence(variables: Any, tmp_path: pathlib.Path) -> None:
    """argument > context manager > variable > file > default, each setting by itself."""
    (tmp_path / "fastconv.toml").write_text(
        '[tuning]\nmode = "off"\nbudget_ms = 100\ntotal_s = 7\nexclude = ["fft"]\n'
        'pins = ["conv1d *=direct"]\nread_only = ["site.db"]\nspool = "spool"\ncache = "cold"\n'
    )
    variables()
    found = _settings.current()
    assert (found.mode, found.budget, found.total) == ("off", pytest.approx(0.1), 7.0)
    assert found.origin == "fastconv.toml" and found.cache == "cold"
    assert found.exclude == ("fft",) and found.pins == ("conv1d *=direct",)
    assert (found.read_only, found.spool) == (("site.db",), "spool")
    variables(
        FASTCONV_TUNE="record", FASTCONV_TUNE_TOTAL_S="9", FASTCONV_TUNE_EXCLUDE="fft, im2col"
    )
    found = _settings.current()
    assert (found.mode, found.budget, found.total) == ("record", pytest.approx(0.1), 9.0)
    assert found.origin == "FASTCONV_TUNE" and found.exclude == ("fft", "im2col")
    with autotune("measure", budget=0.5):
        found = _settings.current()
        assert (found.mode, found.budget, found.total) == ("measure", 0.5, 9.0)
        with autotune("cached"):
            assert _settings.current().budget == 0.5
            made = fastconv.plan(fastconv.conv2d, X, W, padding=1, tuning="measure")
            assert made.candidates[0].source == "timed"
        assert _planner.mode() == "measure"
    assert _planner.mode() == "record"


def test_the_file_may_be_named_or_the_users(
    variables: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_: home)
    (home / "fastconv.toml").write_text('[tuning]\nmode = "off"\nwisdom = "w.db"\n')
    variables()
    assert _planner.mode() == "off" and _settings.base().wisdom == str(home / "w.db")
    named = tmp_path / "other.toml"
    named.write_text('[tuning]\nmode = "record"\n')
    variables(FASTCONV_CONFIG=str(named))
    assert _planner.mode() == "record"


@pytest.mark.parametrize(("text", "what"), [
    ("[[", "fastconv.toml"), ("tuning = 3", "expected a table"), ("[tuning]\nmood = 1", "mood"),
    ("[tuning]\nmode = 'fast'", "mode in .*out of"), ("[tuning]\nbudget_ms = 0", "above 0"),
    ("[tuning]\ntotal_s = true", "above 0"), ("[tuning]\nexclude = 'fft'", "a list"),
    ("[tuning]\nread_only = [1]", "text"), ("[tuning]\ncache = 'hot'", "warm or cold"),
])  # fmt: skip
def test_a_wrong_file_is_an_error(
    variables: Any, tmp_path: pathlib.Path, text: str, what: str
) -> None:
    (tmp_path / "fastconv.toml").write_text(text)
    variables()
    with pytest.raises(ValueError, match=what):
        _planner.mode()


@pytest.mark.parametrize(("name", "value"), [
    ("FASTCONV_TUNE", "fast"), ("FASTCONV_TUNE_BUDGET_MS", "-1"), ("FASTCONV_TUNE_TOTAL_S", "x"),
    ("FASTCONV_TUNE_BUDGET_MS", "nan"), ("FASTCONV_TUNE_CACHE", "hot"),
])  # fmt: skip
def test_a_wrong_variable_is_an_error(variables: Any, name: str, value: str) -> None:
    variables(**{name: value})
    with pytest.raises(ValueError, match=name):
        _planner.mode()


def test_variables_are_read_at_start() -> None:
    code = "from fastconv import _settings as s; print(s.current().mode, s.current().key_seconds)"
    given = {**os.environ, "FASTCONV_TUNE": "auto", "FASTCONV_TUNE_BUDGET_MS": "50"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["auto", "0.05"]


# What each does


def test_measure_times_at_first_sight_and_once(races: Races) -> None:
    with autotune("measure", budget=0.25):
        assert choose(LAYER).candidate.source == "timed"
        assert choose(LAYER).candidate.source == "wisdom"
    assert [race["budget"] for race in races.held] == [0.25]
    assert "hopeless" not in races.held[0]
    assert choose(LAYER).candidate.source == "wisdom"


def test_thorough_does_it_again_with_all(races: Races) -> None:
    with autotune("measure"):
        choose(LAYER)
    with autotune("thorough"):
        choose(LAYER)
        choose(LAYER)
    with autotune("measure"):
        choose(LAYER)
    assert [race.get("hopeless") for race in races.held] == [None, float("inf")]
    assert [race["budget"] for race in races.held] == [2.0, 30.0]
    best = _wisdom.rows()[0]
    assert races.held[1]["incumbent"] == (best.solver, best.config)


def test_a_search_that_ran_out_of_time_goes_on_when_granted_more(races: Races) -> None:
    races.complete = False
    for budget, expected in ((1.0, 1), (1.0, 1), (0.5, 1), (2.0, 2), (2.0, 2)):
        with autotune("measure", budget=budget):
            choose(LAYER)
        assert len(races.held) == expected


def test_other_candidates_are_a_reason_to_measure_again(
    races: Races, monkeypatch: pytest.MonkeyPatch
) -> None:
    with autotune("measure"):
        choose(LAYER)
    monkeypatch.setattr(_wisdom, "set_hash", lambda found: "of another version")
    assert choose(LAYER).candidate.source == "wisdom", "good enough where nothing is timed"
    with autotune("measure"):
        choose(LAYER)
    assert len(races.held) == 2


def test_the_process_budget_ends(
    races: Races, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with autotune("measure", budget=2.0, total=5.0):
        for batch in range(1, 8):
            _planner._spent.seconds = 2.0 * (batch - 1)
            choose(LAYER.replace(batch=batch))
    assert [race["budget"] for race in races.held] == [2.0, 2.0, 1.0]
    said = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1 and "the 5 s" in said[0].getMessage()


def test_what_is_timed_is_booked(races: Races, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**12, 10**8))
    monkeypatch.setattr(_timer.Deadline.__init__, "__defaults__", (lambda: next(clock),))
    with autotune("measure"):
        choose(LAYER)
    assert _planner._spent.seconds == pytest.approx(0.1)


@pytest.mark.parametrize(("noise", "pressure", "kept"), [
    (0.0, 0.0, True), (0.04, 0.1, True), (0.06, 0.0, False), (0.0, 0.3, False),
])  # fmt: skip
def test_what_was_timed_under_contention_is_not_kept(
    races: Races, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, noise: float,
    pressure: float, kept: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("FASTCONV_WISDOM", str(tmp_path / "wisdom.db"))
    races.noise, races.pressure = noise, pressure
    with autotune("measure"):
        choose(LAYER)
        assert choose(LAYER).candidate.source == "wisdom", "in this process it is"
    assert len(races.held) == 1
    _wisdom._stores.clear()
    assert (choose(LAYER).candidate.source == "wisdom") is kept
    _planner.tune(LAYER, keep_doubted=True)
    _wisdom._stores.clear()
    assert choose(LAYER).candidate.source == "wisdom"


def test_noise_does_not_matter_far_ahead() -> None:
    a, b = (
        dataclasses.replace(_planner.candidates(LAYER)[0], source="timed", seconds=s)
        for s in (1.0, 1.5)
    )
    assert _tuner.Race((a, b), noise=0.1).why_doubted is None
    assert "20% from itself, the next 50% behind" in str(_tuner.Race((a, b), noise=0.2).why_doubted)


def test_replay(races: Races) -> None:
    _planner.tune(LAYER)
    _planner.tune(CALLED)
    with autotune("replay"):
        assert choose(LAYER).candidate.source == "wisdom"
        with pytest.raises(TuningMissError) as error:
            choose(OTHER)
        assert str(OTHER) in str(error.value) and "set by autotune" in str(error.value)
        assert "fastconv tune" in str(error.value)
        with pytest.raises(TuningMissError, match="not legal here and now"):
            choose(LAYER, workspace_limit=0)
        assert choose(OTHER, method="naive").plan.solver.name == "naive"
        empty = Problem.parse("conv1d f32 n0 c1 w9 k1 s3")
        assert choose(empty).candidate.source == "model", "there is nothing to time"
        assert choose(OTHER.replace(deterministic=True)).candidate.source == "model"
        with pytest.raises(TuningMissError):
            fastconv.conv2d(np.ones((2, 8, 14, 14), "f4"), W, padding=1, threads=1)
        fastconv.conv2d(X, W, padding=1, threads=1)
    assert issubclass(fastconv.TuningMissError, LookupError)


def test_record(races: Races) -> None:
    with autotune("record"):
        for _ in range(3):
            fastconv.conv2d(X, W, padding=1, threads=1)
        kept = fastconv.plan(fastconv.conv2d, X, W, padding=1, threads=1)
        kept(X)
        kept(X)
        fastconv.conv2d(X, W, padding=1, threads=1, method="direct")
        fastconv.conv2d(X, W, padding=1, threads=1, deterministic=True)
    fastconv.conv2d(X, W, padding=1, threads=1)
    found = {row.problem: row.hits for row in _wisdom.rows(Wanted)}
    assert found == {str(CALLED): 1}, "noted at once"
    _planner.met.save()
    rows = _wisdom.rows(Wanted)
    assert {row.problem: row.hits for row in rows} == {str(CALLED): 5}
    assert all(row.seconds > 0 for row in rows) and not races.held


def test_auto_waits_until_it_pays(races: Races, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third call on, when a tenth of what it took is more than timing costs."""
    note = _planner.met.note
    monkeypatch.setattr(_planner.met, "note", lambda choice, seconds: note(choice, 1.0))
    with autotune("auto"):
        for _ in range(2):
            fastconv.conv2d(X, W, padding=1, threads=1)
        assert not races.held
        fastconv.conv2d(X, W, padding=1, threads=1)
        assert [race["budget"] for race in races.held] == [0.25]
        assert races.held[0]["hopeless"] == 8.0
        before = _engine._cache.copy()
        for _ in range(30):
            fastconv.conv2d(X, W, padding=1, threads=1)
        assert len(races.held) == 1 and len(before) == 0
        ((_, choice),) = _engine._cache.items()
        assert choice.candidate.source == "wisdom"


def test_auto_leaves_what_takes_no_time(races: Races, monkeypatch: pytest.MonkeyPatch) -> None:
    note = _planner.met.note
    monkeypatch.setattr(_planner.met, "note", lambda choice, seconds: note(choice, 1e-3))
    with autotune("auto"):
        for _ in range(50):
            fastconv.conv2d(X, W, padding=1, threads=1)
    assert not races.held


def test_auto_spends_a_share_of_what_convolutions_take(
    races: Races, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = _planner.met.note
    monkeypatch.setattr(_planner.met, "note", lambda choice, seconds: note(choice, 0.85))
    # each problem earns 0.17 s, and would take 0.25: there is not enough for all
    add = _planner._spent.add
    monkeypatch.setattr(
        _planner._spent, "add", lambda seconds: add(0.25)
    )  # whatever it really took
    with autotune("auto"):
        for batch in range(1, 21):
            x = np.ones((batch, 8, 14, 14), "f4")
            for _ in range(4):
                fastconv.conv2d(x, W, padding=1, threads=1)
            allowed = 0.5 + 0.05 * _planner._spent.convolving
            assert _planner._spent.seconds <= allowed
    assert 10 <= len(races.held) < 20


def test_the_wrong_are_not_offered_again(races: Races) -> None:
    races.spoil = {
        "fft": {"status": "wrong", "refused": "output 0 is 1"},
        "im2col": {"status": "failed", "refused": "it failed when tried: ValueError: x"},
        "direct": {"status": "failed", "refused": "it failed when tried: MemoryError: x"},
    }
    _planner.tune(LAYER)

    def refused(problem: Problem) -> set[str]:
        return {c.method for c in _planner.candidates(problem) if "quarantine" in str(c.refused)}

    assert refused(LAYER) == {"fft", "im2col"}
    assert refused(OTHER) == {"fft"}
    assert refused(LAYER.replace(deterministic=True)) == set()
    with autotune("off"):
        assert refused(LAYER) == set()
    assert choose(LAYER, method="fft").plan.solver.name == "fft", "a caller's word is above it"


def test_quarantine_leaves_something(races: Races) -> None:
    for c in _planner.candidates(LAYER):
        if c.refused is None:
            _wisdom.quarantine(c, this_machine(), "for a test", everywhere=True)
    assert choose(LAYER).candidate.refused is None


def test_pins(races: Races, variables: Any) -> None:
    _planner.tune(LAYER)
    variables(FASTCONV_TUNE_PIN="conv2d * n1 *=naive; conv3d *=direct")
    assert choose(LAYER).reason.startswith("pinned by 'conv2d * n1 *': naive")
    assert choose(OTHER).candidate.source == "model"
    with autotune("off"):
        assert not choose(LAYER).reason.startswith("pinned")
    variables(FASTCONV_TUNE_PIN="conv2d *=overlap_save block=nonsense")
    assert choose(LAYER).candidate.source == "wisdom", "a pin that is not legal is passed over"


def test_excluded_methods_are_refused(variables: Any) -> None:
    variables(FASTCONV_TUNE_EXCLUDE="winograd,fft")
    found = {c.method: c.refused for c in _planner.candidates(LAYER)}
    assert "excluded" in str(found["winograd"]) and found["naive"] is None


# Plans stay


def test_a_plan_does_not_change_under_a_process(
    races: Races, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever others write; only who asks for it gets another one."""
    monkeypatch.setenv("FASTCONV_WISDOM", str(tmp_path / "wisdom.db"))
    first = choose(LAYER).candidate
    others = {name: _wisdom._stores.pop(name) for name in list(_wisdom._stores)}
    _planner.tune(LAYER)  # another process's, as far as the first store knows
    (other,) = _wisdom.rows()
    assert (other.solver, other.config) != (first.method, first.config)
    _wisdom._stores.update(others)
    _engine.forget_plans()
    assert choose(LAYER).candidate == first
    _planner.tune(LAYER)
    assert choose(LAYER).candidate.source == "wisdom"


def test_plans_not_used_for_longest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engine, "_CACHE_SIZE", 3)
    ones = {n: np.ones((1, 1, n)) for n in (5, 6, 7, 8)}

    def sizes() -> list[int]:
        return [choice.candidate.problem.size[0] for choice in _engine._cache.values()]

    for n in (5, 6, 7, 5, 8):
        _engine.run(ones[n], np.ones((1, 1, 3)))
    assert sizes() == [7, 5, 8]


# Rows from elsewhere


class Slow(Races):
    """Times candidates as told, by method; else as long as its rank by the model."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}

    def __call__(
        self, found: Any, machine: Any, budget: float, progress: Any, **options: Any
    ) -> _tuner.Race:
        self.held.append({"problem": found[0].problem, "budget": budget, "entrants": len(found)})
        timed = []
        for i, c in enumerate(found):
            if c.refused is None and c.method not in self.spoil:
                s = self.seconds.get(c.method, 1e-3 * (i + 1))
                timing = _timer.Timing(s, s, s, s, 9, 1)
                timed.append(dataclasses.replace(c, source="timed", seconds=s, status="timed",
                                                 timing=timing))  # fmt: skip
        bad = [
            dataclasses.replace(c, **self.spoil[c.method]) for c in found if c.method in self.spoil
        ]
        timed.sort(key=lambda c: c.seconds)
        return _tuner.Race((*timed, *bad), self.noise, self.pressure, self.complete)


@pytest.fixture
def elsewhere(
    races: Races, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> tuple[Slow, pathlib.Path, str]:
    """A file of a machine like this one, where the second method of the model has won."""
    slow = Slow()
    monkeypatch.setattr(_tuner, "race", slow)
    monkeypatch.setenv("FASTCONV_WISDOM", str(tmp_path / "there.db"))
    first, *others = (c.method for c in _planner.candidates(LAYER) if c.refused is None)
    winner = next(name for name in others if name != first)
    slow.seconds = {winner: 1e-4}
    with autotune("measure"):
        assert choose(LAYER).candidate.method == winner
    _wisdom.export(tmp_path / "site.db")
    monkeypatch.setenv("FASTCONV_WISDOM", str(tmp_path / "wisdom.db"))
    slow.held.clear()
    slow.seconds = {winner: 2e-3, first: 1.7e-3}
    return slow, tmp_path / "site.db", winner


def again() -> Any:
    """What a process that begins now would choose."""
    _wisdom._stores.clear()
    _engine.forget_plans()
    with autotune("measure"):
        return choose(LAYER)


def test_an_imported_row_is_timed_once_beside_the_models_choice(elsewhere: Any) -> None:
    slow, file, winner = elsewhere
    _wisdom.import_(file)
    assert _wisdom.rows()[0].how == "imported"
    assert again().candidate.method == winner
    assert [h["entrants"] for h in slow.held] == [2] and slow.held[0]["budget"] == 0.2
    (row,) = _wisdom.rows()
    assert (row.how, row.seconds, row.effort) == ("confirmed", 2e-3, 2)
    assert again().candidate.method == winner and len(slow.held) == 1
    # importing it once more changes nothing
    assert _wisdom.import_(file).skipped
    assert again().reason.startswith("wisdom") and len(slow.held) == 1


def test_an_imported_row_that_is_slower_here_is_tuned(elsewhere: Any) -> None:
    slow, file, winner = elsewhere
    _wisdom.import_(file)
    slow.seconds[winner] = 2.2e-3  # 1.29 times the model's choice
    assert again().candidate.method != winner
    assert slow.held[0]["entrants"] == 2 and len(slow.held) == 2
    assert slow.held[1]["entrants"] > 2 and slow.held[1]["budget"] == 2.0
    assert {row.how for row in _wisdom.rows()} == {"timed"}
    again()
    assert len(slow.held) == 2


@pytest.mark.parametrize("status", ["wrong", "failed"])
def test_an_imported_row_that_does_not_work_here_is_tuned(elsewhere: Any, status: str) -> None:
    slow, file, winner = elsewhere
    _wisdom.import_(file)
    slow.spoil = {winner: {"refused": "it was", "status": status}}
    assert again().candidate.method != winner and len(slow.held) == 2


def test_a_row_of_the_site_is_timed_once_for_the_users_file(
    elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, file, winner = elsewhere
    monkeypatch.setenv("FASTCONV_TUNE_RO", str(file))
    _settings.reload()
    try:
        assert _wisdom.rows() == []
        assert again().candidate.method == winner and again().candidate.method == winner
        assert len(slow.held) == 1 and [row.how for row in _wisdom.rows()] == ["confirmed"]
    finally:
        monkeypatch.undo()
        _settings.reload()


def test_what_was_confirmed_while_others_wanted_the_machine_is_not_written(elsewhere: Any) -> None:
    slow, file, winner = elsewhere
    _wisdom.import_(file)
    slow.pressure = 0.9
    assert again().candidate.method == winner
    assert [row.how for row in _wisdom.rows(held=False)] == ["imported"]
    with autotune("measure"):
        assert choose(LAYER).candidate.method == winner
    assert len(slow.held) == 1, "but this process does not ask again"


@pytest.mark.parametrize("mode", ["cached", "auto", "replay", "record"])
def test_other_modes_take_rows_from_elsewhere_at_their_word(elsewhere: Any, mode: str) -> None:
    slow, file, winner = elsewhere
    _wisdom.import_(file)
    with autotune(mode):
        assert choose(LAYER).candidate.method == winner
    assert slow.held == []
