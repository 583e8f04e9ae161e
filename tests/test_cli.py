"""The command: what it prints, and that bad input gets one line and exit code 2."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import types

import pytest

from fastconv import _cli, _planner, _wisdom, _workloads
from fastconv._problem import Problem

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
    [(), ("--help",), ("-h",), ("info", "-h"), ("demo", "-h"), ("plan", "-h"), ("tune", "-h"),
     ("bench", "-h"), ("wisdom",), ("wisdom", "-h"), ("wisdom", "show", "-h"),
     ("wisdom", "export", "-h"), ("wisdom", "import", "-h"), ("wisdom", "clear", "-h")],
)  # fmt: skip
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
        (("nonsense",), "nonsense"), (("--nonsense",), "--nonsense"), (("plan",), "PROBLEM"),
        (("plan", ""), "conv1d to conv8d"), (("plan", "hello world"), "conv1d to conv8d"),
        (("plan", "conv2d f32 n1 c4 h12 w13 k4 r3 s3 q9"), "'q9'"),
        (("plan", "conv2d f32 n1 c4 h12 k4 r3 s3"), "lacks w"),
        (("plan", "conv2d f33 n1 c4 h12 w12 k4 r3 s3"), "'f33'"),
        (("plan", "conv2d f32 n1 c4 h2 w13 k4 r3 s3"), "kernel no larger"),
        (("plan", "conv2d f32 n1 c3 h9 w13 k4 r3 s3 g2"), "divisible"),
        (("plan", f"conv1d f32 n1 c1 w{10**30} k1 s3"), "padded sizes"),
        (("plan", f"conv1d f32 n1 c1 w{'9' * 5000} k1 s3"), ""),
        (("plan", TEXT, "extra"), "extra"), (("plan", TEXT, "--nope"), "--nope"),
        (("tune", "conv0d"), "conv1d"), (("bench", "conv0d"), "conv1d"),
        (("tune", TEXT, "--budget", "0"), "--budget"), (("tune", TEXT, "--budget", "x"), "x"),
        (("tune", TEXT, "--budget", "nan"), "--budget"), (("bench", TEXT, "--budget", "-1"), "-1"),
        (("plan", "/no/such/file.toml"), "/no/such/file.toml: No such file"),
        (("wisdom", "import", "/no/such/file"), "/no/such/file: No such file"),
        (("wisdom", "export", "/no/such/folder/file"), "No such file"),
        (("wisdom", "export", "/"), "irectory"), (("wisdom", "import", "/"), "irectory"),
        (("wisdom", "forget"), "forget"), (("demo", "--out", __file__), "--out"),
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
    line = run.refused("plan", str(path))
    assert what in line and "bad.toml" in line


def test_a_file_of_bytes_is_one_line(run: Run, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(bytes(range(256)))
    run.refused("plan", str(path))


def test_an_unknown_name_in_a_file(run: Run, toml: str) -> None:
    assert "no call named 'x'" in run.refused("plan", f"{toml}:x")


# Commands


def test_info(run: Run) -> None:
    found = json.loads(run("info", "--json"))
    assert found["tuning"] == "cached"
    assert found["wisdom"]["rows"] == 0 and found["wisdom"]["writable"] is True
    assert found["wisdom"]["path"] == _wisdom.path()
    assert {"versions", "isa", "caches", "cores", "blas", "gpu"} <= set(found)
    text = run("info")
    assert found["isa"]["in use"] in text and found["versions"]["numpy"] in text


def test_plan(run: Run) -> None:
    text = run("plan", TEXT)
    choice = _planner.choose(Problem.parse(TEXT))
    assert TEXT in text and choice.reason in text and choice.plan.solver.paper in text
    for c in _planner.candidates(Problem.parse(TEXT)):
        assert c.method in text
    ((found,)) = json.loads(run("plan", TEXT, "--json"))
    assert found["problem"] == TEXT
    assert found["chosen"]["method"] == choice.candidate.method
    assert {c["method"] for c in found["candidates"]} >= {"naive", "direct"}
    assert all("seconds" in c and "error_bound" in c for c in found["candidates"])


def test_plan_gives_the_reason_of_each_refusal(run: Run) -> None:
    text = run("plan", "conv1d i64 n1 c1 w50 k1 s3")
    refused = [c for c in _planner.candidates(Problem.parse("conv1d i64 n1 c1 w50 k1 s3"))
               if c.refused is not None]  # fmt: skip
    assert refused
    for c in refused:
        assert f"refused  {c.method}" in text and str(c.refused) in text


def test_plan_of_a_file(run: Run, toml: str) -> None:
    lines = run("plan", toml).splitlines()
    assert [line.split()[0] for line in lines] == [
        "name", "layer", "up", "layer.grad_input", "layer.grad_weight",
    ]  # fmt: skip
    assert len(json.loads(run("plan", toml, "--json"))) == 4
    (one,) = json.loads(run("plan", f"{toml}:up", "--json"))
    assert one["name"] == "up" and one["problem"].startswith("conv2d f64 n2 c4")
    assert run("plan", f"{toml}:up").startswith("up\n")


def test_tune_is_remembered(run: Run, wisdom_file: pathlib.Path) -> None:
    text = run("tune", TEXT, "--budget", "10")
    assert f"remembered in {wisdom_file}" in text
    (row,) = _wisdom.rows()
    assert row.problem == TEXT and row.solver in text
    assert "wisdom: " in run("plan", TEXT)
    (found,) = json.loads(run("tune", TEXT, "--budget", "10", "--json"))
    seconds = [c["seconds"] for c in found["timed"]]
    assert len(seconds) >= 2 and all(s > 0 for s in seconds)


def test_tune_of_a_file_tunes_plain_and_prepared(run: Run, toml: str) -> None:
    text = run("tune", f"{toml}:layer", "--budget", "10")
    assert "layer prepared" in text
    assert sorted("prepared" in row.problem for row in _wisdom.rows()) == [False, True]


def test_tune_without_time(run: Run) -> None:
    huge = "conv2d f32 n64 c512 h512 w512 k512 r3 s3"
    assert "raise --budget" in run("tune", huge, "--budget", "0.1")
    assert _wisdom.rows() == []


def test_tune_when_nothing_can_be_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_WISDOM", ":memory:")
    assert "not kept" in run("tune", TEXT, "--budget", "10")


def test_bench(run: Run) -> None:
    text = run("bench", TEXT, "--budget", "10")
    assert "GFLOP/s" in text and "1.00x" in text and "naive" in text
    assert _wisdom.rows() == []
    (found,) = json.loads(run("bench", TEXT, "--budget", "10", "--json"))
    timed = [c for c in found["candidates"] if c.get("samples")]
    assert timed and found["flops"] == Problem.parse(TEXT).flops
    assert [c["seconds"] for c in timed] == sorted(c["seconds"] for c in timed)


def test_wisdom(run: Run, tmp_path: pathlib.Path) -> None:
    assert "rows: 0" in run("wisdom", "show")
    run("tune", TEXT, "--budget", "10")
    assert TEXT in run("wisdom", "show")
    shown = json.loads(run("wisdom", "show", "--json"))
    assert shown["rows"][0]["problem"] == TEXT and shown["rows"][0]["stale"] is None
    file = str(tmp_path / "rows.jsonl")
    run("wisdom", "export", file)
    lines = [json.loads(line) for line in run("wisdom", "export", "-").splitlines()]
    assert [line["problem"] for line in lines if line["row"] == "decisions"] == [TEXT]
    assert run("wisdom", "clear") == "rows forgotten: 1\n"
    with open(file, "a") as stream:
        stream.write("nonsense\n")
    text = run("wisdom", "import", file)
    bad = len(lines) + 1
    assert f"rows taken: {len(lines)}, lines skipped: 1" in text and f"line {bad}: not JSON" in text
    found = json.loads(run("wisdom", "import", file, "--json"))
    assert (found["accepted"], len(found["skipped"])) == (len(lines), 1)


def test_wisdom_that_cannot_be_cleared(
    run: Run, wisdom_file: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wisdom_file.mkdir()
    assert _cli.main(["wisdom", "clear"]) == 1
    assert "could not be emptied" in capsys.readouterr().err


def test_damaged_wisdom_does_not_stop_a_command(run: Run, wisdom_file: pathlib.Path) -> None:
    wisdom_file.write_bytes(b"x" * 5000)
    run("plan", TEXT)
    run("info")


def test_demo(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    seen: list[pathlib.Path] = []
    stub = types.ModuleType("fastconv._demo")
    stub.main = lambda out: seen.append(out) or 7  # type: ignore[attr-defined]
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
    assert "no function 'os'" in run.refused("plan", str(path))


# The process


def fastconv(*argv: str) -> list[str]:
    return [sys.executable, "-m", "fastconv", *argv]


def test_the_module_runs() -> None:
    done = subprocess.run(fastconv("plan", "x"), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == ""


def test_a_closed_pipe_is_no_traceback() -> None:
    command = subprocess.Popen(
        fastconv("wisdom", "-h"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
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
    assert _cli.main(["plan", TEXT]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_importing_fastconv_imports_no_command_line() -> None:
    code = (
        "import sys, fastconv;"
        "sys.exit(any(m in sys.modules for m in ('click', 'typer', 'rich', 'sqlite3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
