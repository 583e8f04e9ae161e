"""The command: what it prints, and that bad input gets one line and exit code 2."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import types
from typing import Any

import pytest

from fastconv import (
    _calibration,
    _cli,
    _cli_model,
    _isolated,
    _planner,
    _settings,
    _suites,
    _timer,
    _tuner,
    _wisdom,
    _workloads,
)
from fastconv._environment import environment
from fastconv._machine import this_machine
from fastconv._problem import Problem
from fastconv._rows import Wanted
from fastconv.solvers import BY_NAME

TEXT = "conv2d f32 n1 c4 h12 w13 k4 r3 s3 p1"

FILE = """
[[conv]]
name = "layer"
x = [1, 4, 12, 13]
w = [4, 4, 3, 3]
padding = 1
stride = [2, 1]

[[conv]]
name = "up"
op = "conv_transpose"
x = [2, 4, 6, 6]
w = [4, 2, 2, 2]
stride = 2
dtype = "float64"

[[conv]]
name = "layer.grad_input"
op = "grad_input"
x = [2, 4, 9, 9]
w = [6, 4, 3, 3]
padding = 1

[[conv]]
name = "layer.grad_weight"
op = "grad_weight"
x = [2, 4, 9, 9]
w = [6, 4, 3, 3]
padding = 1
"""


@pytest.fixture(autouse=True)
def wisdom_file(
    calm: None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> pathlib.Path:
    path = tmp_path / "wisdom.db"
    monkeypatch.setenv("FASTCONV_WISDOM", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(_wisdom, "_stores", {})
    monkeypatch.setattr(_wisdom, "_file_pins", {})
    monkeypatch.setattr(_cli_model, "calibrate_once", lambda: None)
    monkeypatch.setattr(_wisdom, "_file_quarantine", {})
    return path


@pytest.fixture
def toml(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "calls.toml"
    path.write_text(FILE)
    return str(path)


class Run:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *argv: str) -> str:
        """Standard output of a command that succeeds."""
        code = _cli.main(argv)
        out, err = self._capsys.readouterr()
        assert code == 0, err
        return out

    def refused(self, *argv: str) -> str:
        """The line of a command given bad input."""
        code = _cli.main(argv)
        out, err = self._capsys.readouterr()
        assert (code, out) == (2, "")
        assert err.startswith("fastconv: ") and err.count("\n") == 1 and err.endswith("\n")
        return err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.mark.parametrize(
    "argv",
    [(), ("--help",), ("-h",), *((name, "-h") for name in _cli.app.commands)],
)
def test_help(run: Run, argv: tuple[str, ...]) -> None:
    text = run(*argv)
    assert text.startswith("Usage: fastconv")
    assert not any(line.endswith("...") for line in text.splitlines()[1:])  # nothing is cut short
    assert max(map(len, text.splitlines())) <= 100


def test_the_problem_in_the_help_is_one() -> None:
    assert _cli.app.help is not None
    text = _cli.app.help.split('"')[1]
    assert str(Problem.parse(text)) == text


def test_version(run: Run) -> None:
    assert run("--version").startswith("fastconv, version ")


# Bad input


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("nonsense",), "nonsense"), (("--nonsense",), "--nonsense"), (("explain",), "PROBLEM"),
        (("explain", ""), "conv1d to conv8d"), (("explain", "hello world"), "conv1d to conv8d"),
        (("explain", "conv2d f32 n1 c4 h12 w13 k4 r3 s3 q9"), "'q9'"),
        (("explain", "conv2d f32 n1 c4 h12 k4 r3 s3"), "lacks w"),
        (("explain", "conv2d f33 n1 c4 h12 w12 k4 r3 s3"), "'f33'"),
        (("explain", "conv2d f32 n1 c4 h2 w13 k4 r3 s3"), "kernel no larger"),
        (("explain", "conv2d f32 n1 c3 h9 w13 k4 r3 s3 g2"), "divisible"),
        (("explain", f"conv1d f32 n1 c1 w{10**30} k1 s3"), "padded sizes"),
        (("explain", f"conv1d f32 n1 c1 w{'9' * 5000} k1 s3"), ""),
        (("explain", TEXT, "extra"), "extra"), (("explain", TEXT, "--nope"), "--nope"),
        (("tune", "conv0d"), "conv1d"), (("bench", "conv0d"), "conv1d"),
        (("tune", TEXT, "--budget", "0"), "--budget"), (("tune", TEXT, "--budget", "x"), "x"),
        (("tune", TEXT, "--budget", "nan"), "--budget"), (("bench", TEXT, "--budget", "-1"), "-1"),
        (("explain", "/no/such/file.toml"), "/no/such/file.toml: No such file"),
        (("import", "/no/such/file"), "/no/such/file: No such file"),
        (("export", "/no/such/folder/file"), "No such file"),
        (("export", "/"), "irectory"), (("import", "/"), "irectory"),
        (("forget",), "--all"), (("demo", "--out", __file__), "--out"),
        (("info", "--jsn"), "--jsn"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(run: Run, argv: tuple[str, ...], what: str) -> None:
    assert what in run.refused(*argv)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[[conv", "is not TOML"), ("\x00", "is not TOML"), ("[[cat]]\nx = 1", "'cat'"),
        ("conv = 3", "'conv'"), ("[conv]\nx = [1]", "'conv'"), ("conv = [1]", "conv"),
        ("[[conv]]\nname = 'a'", "conv a: expected a list of sizes for x"),
        ("[[conv]]\nx = [1, 2, 3]\nw = [1, 2]", "axes"), ("[[conv]]\nx = 'a'", "for x"),
        ("[[conv]]\nx = [1, 1, -3]", "for x"),
        ("[[conv]]\nx = [1, 1, 9]\nw = [1, 1, 3]\ncolor = 1", "unknown key 'color'"),
        ("[[conv]]\nx = [1, 1, 9]\nw = [1, 1, 3]\nop = 'x'", "'x'"),
        ("[[conv]]\nx = [1, 1, 9]\nw = [1, 1, 3]\ndtype = 'float33'", "float33"),
        ("[[conv]]\nx = [1, 1, 9]\nw = [1, 1, 3]\nstride = 0", "conv1: "),
        ("[[conv]]\nx = [1, 2, 9]\nw = [1, 1, 3]", "conv1: "),
        ("[[conv]]\nx = [1, 1, 9]\nw = [1, 1, 30]\nop = 'grad_input'", "conv1: "),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line(run: Run, tmp_path: pathlib.Path, text: str, what: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    line = run.refused("explain", str(path))
    assert what in line and "bad.toml" in line


def test_a_file_of_bytes_is_one_line(run: Run, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(bytes(range(256)))
    run.refused("explain", str(path))


def test_an_unknown_name_in_a_file(run: Run, toml: str) -> None:
    assert "no call named 'x'" in run.refused("explain", f"{toml}:x")


# Commands


def test_info(run: Run) -> None:
    found = json.loads(run("info", "--json"))
    assert found["tuning"] == "cached"
    assert found["wisdom"]["rows"] == 0 and found["wisdom"]["writable"] is True
    assert found["wisdom"]["path"] == _wisdom.path()
    assert {"versions", "isa", "caches", "cores", "blas", "gpu"} <= set(found)
    text = run("info")
    assert found["isa"]["in use"] in text and found["versions"]["numpy"] in text


def test_explain(run: Run) -> None:
    text = run("explain", TEXT)
    choice = _planner.choose(Problem.parse(TEXT))
    assert TEXT in text and choice.reason in text and choice.plan.solver.paper in text
    for c in _planner.candidates(Problem.parse(TEXT)):
        assert c.method in text
    ((found,)) = json.loads(run("explain", TEXT, "--json"))
    assert found["problem"] == TEXT
    assert found["chosen"]["method"] == choice.candidate.method
    assert {c["method"] for c in found["candidates"]} >= {"naive", "direct"}
    assert all("seconds" in c and "error_bound" in c for c in found["candidates"])


def test_explain_gives_the_reason_of_each_refusal(run: Run) -> None:
    text = run("explain", "conv1d i64 n1 c1 w50 k1 s3")
    refused = [c for c in _planner.candidates(Problem.parse("conv1d i64 n1 c1 w50 k1 s3"))
               if c.refused is not None]  # fmt: skip
    assert refused
    for c in refused:
        assert f"refused  {c.method}" in text and str(c.refused) in text


def test_explain_of_a_file(run: Run, toml: str) -> None:
    lines = run("explain", toml).splitlines()
    assert [line.split()[0] for line in lines] == [
        "name", "layer", "up", "layer.grad_input", "layer.grad_weight",
    ]  # fmt: skip
    assert len(json.loads(run("explain", toml, "--json"))) == 4
    (one,) = json.loads(run("explain", f"{toml}:up", "--json"))
    assert one["name"] == "up" and one["problem"].startswith("conv2d f64 n2 c4")
    assert run("explain", f"{toml}:up").startswith("up\n")


def test_tune_is_remembered(run: Run, wisdom_file: pathlib.Path) -> None:
    text = run("tune", TEXT, "--budget", "10")
    assert f"remembered in {wisdom_file}" in text
    (row,) = _wisdom.rows()
    assert row.problem == TEXT and row.solver in text
    assert "wisdom: " in run("explain", TEXT)
    (found,) = json.loads(run("tune", TEXT, "--budget", "10", "--json"))
    seconds = [c["seconds"] for c in found["timed"]]
    assert len(seconds) >= 2 and all(s > 0 for s in seconds)


def test_tune_of_a_file_tunes_plain_and_prepared(run: Run, toml: str) -> None:
    text = run("tune", f"{toml}:layer", "--budget", "10")
    assert "layer prepared" in text
    assert sorted("prepared" in row.problem for row in _wisdom.rows()) == [False, True]


def ended(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command."""
    code = _cli.main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def test_tune_without_time(capsys: pytest.CaptureFixture[str]) -> None:
    huge = "conv2d f32 n64 c512 h512 w512 k512 r3 s3"
    code, out, err = ended(capsys, "tune", huge, "--budget", "0.1")
    assert code == 3 and "raise --budget" in out and "raise --budget" in err
    assert _wisdom.rows() == []


def test_tune_when_nothing_can_be_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTCONV_WISDOM", ":memory:")
    code, _, err = ended(capsys, "tune", TEXT, "--budget", "10")
    assert code == 1 and "not kept: :memory:" in err


# Tuning, on a tuner that takes no time

SMALL = [TEXT, "conv1d f32 n1 c1 w40 k1 s3", "conv1d f64 n1 c1 w50 k1 s5"]


class Tuner:
    """Takes the last candidate of the model for the fastest; may be noisy, wrong, interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.problems: list[str] = []
        self.pressure = 0.0
        self.stop_at = 99
        self.spoil: dict[str, str] = {}
        self.factor = 1.0
        monkeypatch.setattr(_tuner, "race", self)
        monkeypatch.setattr(_isolated, "race", self)

    def __call__(
        self, found: Any, machine: Any, budget: float, progress: Any, **options: Any
    ) -> _tuner.Race:
        if len(self.problems) == self.stop_at:
            raise KeyboardInterrupt
        self.problems.append(str(found[0].problem))
        progress(0.5, "timing")
        legal = [c for c in found if c.refused is None]
        timed = []
        for i, c in enumerate(reversed(legal)):
            seconds = 1e-3 * (1 + i) * (self.factor if i else 1.0)
            timing = _timer.Timing(seconds, seconds, seconds, seconds, 9, 1)
            fields: dict[str, Any] = {"source": "timed", "seconds": seconds, "timing": timing}
            if c.method in self.spoil:
                fields = {"refused": "it was", "status": self.spoil[c.method]}
            timed.append(dataclasses.replace(c, **{"status": "timed", **fields}))
        timed.sort(key=lambda c: (c.refused is not None, c.seconds))
        return _tuner.Race(tuple(timed), pressure=self.pressure, complete=True)


def test_every_command_takes_json_and_db() -> None:
    for name, command in _cli.app.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--db"} <= options, name


@pytest.fixture
def tuner(monkeypatch: pytest.MonkeyPatch) -> Tuner:
    return Tuner(monkeypatch)


def kept() -> set[str]:
    return {row.problem for row in _wisdom.rows(held=False)}


def test_tune_many(tuner: Tuner, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, "tune", *SMALL, *SMALL)
    assert code == 0 and tuner.problems == SMALL and kept() == set(SMALL)
    lines = err.splitlines()
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"], "no terminal: lines"
    assert all(text in out for text in SMALL)
    code, out, err = ended(capsys, "tune", *SMALL, "--missing", "--json")
    assert (code, json.loads(out), err) == (0, [], "")
    code, _, _ = ended(capsys, "tune", *SMALL, "--missing", "--thorough")
    assert code == 0 and len(tuner.problems) == 6


def test_tune_interrupted_keeps_what_was_finished(
    tuner: Tuner, capsys: pytest.CaptureFixture[str]
) -> None:
    tuner.stop_at = 2
    code, out, err = ended(capsys, "tune", *SMALL)
    assert code == 3 and "interrupted: 2 of 3 problems are done, and kept" in err
    assert kept() == set(SMALL[:2]) and SMALL[1] in out


def test_tune_out_of_time(
    tuner: Tuner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr(_timer.Deadline.__init__, "__defaults__", (lambda: next(ticks),))
    code, out, err = ended(capsys, "tune", *SMALL, "--total", "4", "--json")
    assert code == 3 and "the 4 s are over" in err
    assert len(json.loads(out)) == len(kept()) == 2


def test_tune_says_what_it_does_not_keep(tuner: Tuner, capsys: pytest.CaptureFixture[str]) -> None:
    tuner.pressure = 0.9
    code, _, err = ended(capsys, "tune", TEXT)
    assert code == 1 and "not kept: 1, for others wanted the machine" in err and not kept()
    code, _, err = ended(capsys, "tune", TEXT, "--force-noisy")
    assert code == 0 and kept() == {TEXT}


def test_tune_says_what_was_wrong(tuner: Tuner, capsys: pytest.CaptureFixture[str]) -> None:
    tuner.spoil = {"fft": "wrong"}
    code, _, err = ended(capsys, "tune", TEXT)
    assert code == 1 and "wrong: fft" in err
    assert "in quarantine" in ended(capsys, "explain", TEXT)[1]
    assert "candidates: 1" in ended(capsys, "doctor")[1]


@pytest.mark.parametrize("name", ["resnet50", "mobilenet", "unet", "signals", "images"])
def test_suites(tuner: Tuner, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, _, _ = ended(capsys, "tune", "--suite", name, "--threads", "3")
    assert code == 0 and len(tuner.problems) > 10
    assert all("threads3" in text for text in tuner.problems)
    assert tuner.problems == [str(p) for p in _suites.suite(name, 3)]


def test_a_suite_is_the_network() -> None:
    """Ends of the networks as their papers have them."""
    resnet = _suites.suite("resnet50", 1)
    assert str(resnet[0]) == "conv2d f32 n1 c3 h224 w224 k64 r7 s7 p3 u2 prepared"
    wide = {p.filters: p.out for p in resnet if p.kernel == (1, 1) and p.filters >= 1024}
    assert wide == {1024: (14, 14), 2048: (7, 7)}
    unet = _suites.suite("unet", 1)
    assert unet[-1].out == (256, 256) and unet[-1].filters == 2
    depthwise = [p for p in _suites.suite("mobilenet", 1) if p.groups > 1]
    assert {p.out for p in depthwise} == {(112, 112), (56, 56), (28, 28), (14, 14), (7, 7)}


def test_from_log(tuner: Tuner, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    """The costliest first; other lines are told and passed over."""
    _wisdom.want({Problem.parse(SMALL[0]): (9, 0.1), Problem.parse(SMALL[1]): (1, 5.0)},
                 this_machine())  # fmt: skip
    log = tmp_path / "log.jsonl"
    _wisdom.export(log)
    with open(log, "a") as stream:
        stream.write(f"# by hand\n\n{SMALL[2]}\nnonsense\n")
    code, _, err = ended(capsys, "tune", "--from-log", str(log))
    assert code == 0 and tuner.problems == [SMALL[1], SMALL[0], SMALL[2]]
    assert "line 7: expected a problem" in err
    tuner.problems.clear()
    assert ended(capsys, "tune", "--wanted")[0] == 0
    assert tuner.problems == [SMALL[1], SMALL[0]]


def test_tune_needs_a_problem(run: Run) -> None:
    assert "--wanted" in run.refused("tune")


def test_db_names_the_file(
    run: Run, tuner: Tuner, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTCONV_WISDOM", ":memory:")
    other = tmp_path / "other.db"
    run("tune", TEXT, "--db", str(other))
    assert other.is_file()


def test_explain_shows_the_trials(run: Run, tuner: Tuner, wisdom_file: pathlib.Path) -> None:
    tuner.spoil = {"fft": "failed"}
    _cli.main(["tune", TEXT])
    run_text = run("explain", TEXT)
    assert f"said by  {wisdom_file}" in run_text and "failed   fft" in run_text
    assert "strict" in run_text and "effort   2 of 3, complete" in run_text
    (found,) = json.loads(run("explain", TEXT, "--json"))
    assert found["layer"] == str(wisdom_file) and found["decision"]["complete"] == 1
    assert {t["status"] for t in found["trials"]} == {"timed", "failed"}
    assert set(found["by accuracy"]) == {"strict", "balanced", "fast"}


def test_verify(tuner: Tuner, capsys: pytest.CaptureFixture[str]) -> None:
    ended(capsys, "tune", *SMALL)
    code, out, _ = ended(capsys, "verify")
    assert code == 0 and "regret: mean" in out
    code, out, _ = ended(capsys, "verify", "--sample", "2", "--json")
    found = json.loads(out)
    assert code == 0 and len(found) == 2 and all(f["regret"] == 1.0 for f in found)

    def reversed_race(found: Any, *given: Any, **options: Any) -> _tuner.Race:
        return Tuner.__call__(tuner, found[::-1], *given, **options)

    tuner.problems.clear()
    _tuner.race = reversed_race  # type: ignore[assignment]
    code, out, _ = ended(capsys, "verify", "--json")
    assert code == 1 and any(f["regret"] > 1.1 for f in json.loads(out))
    assert ended(capsys, "verify", "--tolerance", "100")[0] == 0


def test_compare(tuner: Tuner, run: Run, capsys: pytest.CaptureFixture[str],
                 tmp_path: pathlib.Path) -> None:  # fmt: skip
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.db")
    ended(capsys, "tune", *SMALL[:2])
    run("export", a)
    ended(capsys, "forget", SMALL[0])
    ended(capsys, "tune", SMALL[2])
    run("export", b)
    code, out, _ = ended(capsys, "compare", a, b)
    assert code == 0 and f"only in a  {SMALL[0]}" in out and f"only in b  {SMALL[2]}" in out
    assert "same winner: 1, changed: 0" in out
    best = _planner.candidates(Problem.parse(SMALL[1]))[0]
    timed = dataclasses.replace(best, source="timed", seconds=5.0)
    _wisdom.remember([timed], this_machine())
    run("export", b)
    code, out, _ = ended(capsys, "compare", a, b, "--json")
    assert code == 1 and json.loads(out)["changed"][0]["problem"] == SMALL[1]
    # without a second file: wisdom's own
    assert ended(capsys, "compare", a)[:2] == ended(capsys, "compare", a, b)[:2]
    other = str(tmp_path / "other.db")
    assert (
        len(json.loads(ended(capsys, "compare", a, "--db", other, "--json")[1])["only in a"]) == 2
    )


def test_merge(tuner: Tuner, run: Run, tmp_path: pathlib.Path) -> None:
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.db")
    run("tune", SMALL[0])
    run("export", a)
    run("forget", "--all")
    run("tune", SMALL[1])
    run("export", b)
    run("forget", "--all")
    run("merge", a, b)
    assert kept() == set(SMALL[:2])
    assert {row.how for row in _wisdom.rows()} == {"timed"}
    run("forget", "--all")
    run("import", b)
    assert {row.how for row in _wisdom.rows()} == {"imported"}


def test_pins(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "pinned 'conv1d *' to naive" in run("pin", "conv1d *=naive", "--reason", "for a test")
    assert "pinned by 'conv1d *'" in run("explain", SMALL[1])
    assert "for a pin" in run.refused("pin", "conv1d *")
    assert run("unpin", "conv1d *") == "pins undone: 1\n"
    assert ended(capsys, "unpin", "conv1d *")[0] == 1
    assert "pinned" not in run("explain", SMALL[1])


def test_forget_and_gc(run: Run, tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    run("tune", *SMALL)
    assert "rows forgotten" in run("forget", "conv2d *")
    assert kept() == set(SMALL[1:])
    assert json.loads(run("gc", "--json"))["rows forgotten"] == 0
    winner = _wisdom.rows()[0].solver
    monkeypatch.setattr(type(BY_NAME[winner]), "revision", 99)
    assert json.loads(run("gc", "--json"))["rows forgotten"] >= 2
    assert "unused" not in run("wisdom")


def test_wisdom_of_a_pattern(run: Run, tuner: Tuner) -> None:
    run("tune", *SMALL)
    assert len(json.loads(run("wisdom", "conv1d *", "--json"))["rows"]) == 2


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = ended(capsys, "doctor")
    assert code == 0 and "noise floor" in out and "file system" in out and "BLAS" in out
    found = {f["what"]: f for f in json.loads(ended(capsys, "doctor", "--json")[1])}
    assert found["wisdom"]["result"] == "pass" and {f["result"] for f in found.values()} <= {
        "pass", "warn"
    }  # fmt: skip
    monkeypatch.setenv("FASTCONV_TUNE_RO", "/no/such.db")
    _settings.reload()
    try:
        code, out, _ = ended(capsys, "doctor")
        assert code == 1 and "/no/such.db is missing" in out
    finally:
        monkeypatch.undo()
        _settings.reload()


def test_completion() -> None:
    """Click's own: ``eval "$(_FASTCONV_COMPLETE=bash_source fastconv)"``."""
    given = {
        **os.environ, "_FASTCONV_COMPLETE": "bash_complete", "COMP_CWORD": "2",
        "COMP_WORDS": "fastconv tune --su",
    }  # fmt: skip
    code = "from fastconv._cli import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=given, capture_output=True, text=True, check=False
    )
    assert "--suite" in done.stdout


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ver", ["plain,verify"]), ("tune --suite m", ["plain,mobilenet"]),
        ("tune ca", ["file,ca"]), ("tune --from-log x", ["file,x"]), ("tune --db x", ["file,x"]),
        ("explain ca", ["file,ca"]), ("bench ca", ["file,ca"]), ("import x", ["file,x"]),
        ("compare x", ["file,x"]), ("merge x y", ["file,y"]), ("record --log x", ["file,x"]),
        ("report --html x", ["file,x"]), ("train x", ["file,x"]), ("demo --out x", ["dir,x"]),
    ],
)  # fmt: skip
def test_what_is_completed(
    line: str, found: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_FASTCONV_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"fastconv {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split())))
    with contextlib.suppress(SystemExit):
        _cli.main([])
    assert capsys.readouterr().out.split() == found


def test_bench(run: Run) -> None:
    text = run("bench", TEXT, "--budget", "10")
    assert "GFLOP/s" in text and "1.00x" in text and "naive" in text
    assert _wisdom.rows() == []
    (found,) = json.loads(run("bench", TEXT, "--budget", "10", "--json"))
    timed = [c for c in found["candidates"] if c.get("samples")]
    assert timed and found["flops"] == Problem.parse(TEXT).flops
    assert [c["seconds"] for c in timed] == sorted(c["seconds"] for c in timed)


def test_wisdom(run: Run, tmp_path: pathlib.Path) -> None:
    assert "rows: 0" in run("wisdom")
    run("tune", TEXT, "--budget", "10")
    assert TEXT in run("wisdom")
    shown = json.loads(run("wisdom", "--json"))
    assert shown["rows"][0]["problem"] == TEXT and shown["rows"][0]["stale"] is None
    file = str(tmp_path / "rows.jsonl")
    run("export", file)
    lines = [json.loads(line) for line in run("export", "-").splitlines()]
    assert [line["problem"] for line in lines if line["row"] == "decisions"] == [TEXT]
    assert run("forget", "--all") == "rows forgotten: 1\n"
    with open(file, "a") as stream:
        stream.write("nonsense\n")
    text = run("import", file)
    bad = len(lines) + 1
    assert f"rows taken: {len(lines)}, lines skipped: 1" in text and f"line {bad}: not JSON" in text
    found = json.loads(run("import", file, "--json"))
    assert (found["accepted"], len(found["skipped"])) == (len(lines), 1)


def test_wisdom_that_cannot_be_cleared(
    run: Run, wisdom_file: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wisdom_file.mkdir()
    assert _cli.main(["forget", "--all"]) == 1
    assert "could not be emptied" in capsys.readouterr().err


def test_damaged_wisdom_does_not_stop_a_command(run: Run, wisdom_file: pathlib.Path) -> None:
    wisdom_file.write_bytes(b"x" * 5000)
    run("explain", TEXT)
    run("info")


def test_demo(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    seen: list[pathlib.Path] = []
    stub = types.ModuleType("fastconv._demo")
    stub.main = lambda out, as_json: seen.append(out) or 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fastconv._demo", stub)
    monkeypatch.setattr("fastconv._demo", stub, raising=False)
    assert _cli.main(["demo", "--out", str(tmp_path)]) == 7
    assert seen == [tmp_path]


# Problems of a file's calls


def test_workloads_are_the_problems_that_calls_solve(toml: str) -> None:
    found = {w.name: w.problems() for w in _workloads.load(toml)}
    (layer,) = found["layer"]
    assert (layer.size, layer.kernel, layer.stride) == ((12, 13), (3, 3), (2, 1))
    assert layer.padding == ((1, 1), (1, 1)) and not layer.prepared
    (up,) = found["up"]
    assert up.out == (12, 12) and up.dtype == "f64" and up.batch == 2
    (grad,) = found["layer.grad_input"]
    assert grad.out == (9, 9) and grad.filters == 4 and grad.channels == 6
    (weight,) = found["layer.grad_weight"]
    assert weight.out == (3, 3)


def test_workloads_of_signals_and_images(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("fastconv.signal")
    pytest.importorskip("fastconv.ndimage")
    path = tmp_path / "calls.toml"
    path.write_text("""
[[signal]]
name = "fir"
a = [1000]
b = [16]
dtype = "float64"
[[signal]]
name = "rows"
a = [20, 400]
b = [1, 30]
axes = [1]
[[signal]]
name = "same"
a = [40, 50]
b = [5, 5]
mode = "same"
[[image]]
name = "correlate"
op = "correlate"
a = [40, 50]
b = [5, 5]
dtype = "uint8"
output = "float32"
[[image]]
name = "blur"
op = "gaussian_filter"
a = [40, 50, 3]
sigma = [3.0, 3.0, 0.0]
[[image]]
name = "mean"
op = "uniform_filter"
a = [40, 50]
size = 7
[[image]]
name = "edges"
op = "sobel"
a = [40, 50]
""")
    found = {w.name: w.problems() for w in _workloads.load(path)}
    (fir,) = found["fir"]
    assert (fir.out, fir.flip, fir.dtype) == ((1015,), True, "f64")
    (same,) = found["same"]
    assert same.out == (40, 50)
    assert all(found.values())
    assert found["correlate"][0].x_dtype == "u8"


def test_unknown_functions_of_a_file(run: Run, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("fastconv.ndimage")
    path = tmp_path / "calls.toml"
    path.write_text("[[image]]\nop = 'os'\na = [3, 3]")
    assert "no function 'os'" in run.refused("explain", str(path))


# The process


def fastconv(*argv: str) -> list[str]:
    return [sys.executable, "-m", "fastconv", *argv]


def test_the_module_runs() -> None:
    done = subprocess.run(fastconv("explain", "x"), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == ""


def interrupted(*argv: str, wisdom: pathlib.Path, after: str) -> tuple[int, str, str]:
    """Exit code and outputs of a command that Ctrl-C is typed to once it has said `after`."""
    given = {**os.environ, "FASTCONV_WISDOM": str(wisdom)}
    with subprocess.Popen(
        fastconv(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given,
        start_new_session=True,
    ) as command:  # fmt: skip
        assert command.stderr is not None
        said = ""
        while after not in said:
            line = command.stderr.readline()
            assert line, said
            said += line
        os.killpg(command.pid, signal.SIGINT)  # a terminal tells all processes of the group
        out, more = command.communicate(timeout=60)
        return command.returncode, out, said + more


def test_ctrl_c_keeps_what_was_tuned(tmp_path: pathlib.Path, wisdom_file: pathlib.Path) -> None:
    measured = _calibration.Calibration({}, {}, 1e10, 0.0, {})  # else `tune` would begin with it
    entries = {environment(this_machine()): measured.as_json()}
    (tmp_path / "calibration.json").write_text(json.dumps(entries))
    long = "conv2d f32 n8 c256 h56 w56 k256 r3 s3 p1"
    code, out, err = interrupted(
        "tune", SMALL[1], long, "--budget", "20", "--force-noisy", wisdom=wisdom_file, after="1/2"
    )
    assert code == 3 and "interrupted: 1 of 2 problems are done, and kept" in err
    assert "Traceback" not in err and SMALL[1] in out
    assert kept() == {SMALL[1]}


def test_ctrl_c_of_what_is_recorded_keeps_what_it_solved(wisdom_file: pathlib.Path) -> None:
    program = (
        "import fastconv, numpy, sys, time; fastconv.convolve(numpy.ones(50), numpy.ones(5));"
        "print('ready', file=sys.stderr, flush=True); time.sleep(60)"
    )
    code, out, err = interrupted(
        "record", "--json", "--", sys.executable, "-c", program, wisdom=wisdom_file, after="ready"
    )
    assert code == 1 and "ended with" in err
    (row,) = json.loads(out)
    assert row["problem"].startswith("conv1d f64") and row["hits"] == 1
    assert [w.problem for w in _wisdom.rows(Wanted)] == [row["problem"]]


def test_a_closed_pipe_is_no_traceback() -> None:
    command = subprocess.Popen(
        fastconv("tune", "-h"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout is not None and command.stderr is not None
    command.stdout.close()
    errors = command.stderr.read()
    command.stderr.close()
    command.wait()
    assert b"Traceback" not in errors


def test_interrupting_in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_planner, "choose", interrupt)
    assert _cli.main(["explain", TEXT]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_importing_fastconv_imports_no_command_line() -> None:
    code = (
        "import sys, fastconv;"
        "sys.exit(any(m in sys.modules for m in ('click', 'typer', 'rich', 'sqlite3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
