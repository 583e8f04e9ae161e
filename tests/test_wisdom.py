"""Wisdom is a cache: whatever happens to its file costs time, never an exception."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import io
import json
import logging
import os
import pathlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fastconv import _environment, _planner, _settings, _store, _timer, _wisdom
from fastconv._machine import Machine
from fastconv._planner import Candidate
from fastconv._problem import Problem
from fastconv._rows import (
    BY_THE_WAY,
    MEASURED,
    THOROUGH,
    Decision,
    Environment,
    Pin,
    Wanted,
)  # fmt: skip
from fastconv.solvers import BY_NAME

HERE = Machine(isa="avx2", cores=4, l1=32768, l2=1 << 20, l3=8 << 20)
ELSEWHERE = Machine(isa="avx512", cores=64, l1=32768, l2=1 << 20, l3=8 << 20)
PROBLEM = Problem.parse("conv2d f32 n1 c8 h9 w9 k4 r3 s3 p1")

REVISION = BY_NAME["naive"].revision
ENVIRONMENT = _environment.environment(HERE)


def timed(problem: Problem = PROBLEM, seconds: float = 1e-3, **config: int | str) -> Candidate:
    return Candidate(problem, "naive", config, seconds, 0, 0.0, "timed")


def texts() -> set[str]:
    return {row.problem for row in _wisdom.rows()}


@pytest.fixture
def file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    path = tmp_path / "deep" / "wisdom.db"
    monkeypatch.setenv("FASTCONV_WISDOM", str(path))
    monkeypatch.setattr(_wisdom, "_stores", {})
    monkeypatch.setattr(_wisdom, "_file_pins", {})
    monkeypatch.setattr(_wisdom, "_file_quarantine", {})
    return path


def restart() -> None:
    """What the next process would see."""
    _wisdom._stores.clear()
    _wisdom._file_pins.clear()
    _wisdom._file_quarantine.clear()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_remembers_across_processes(file: pathlib.Path) -> None:
    assert _wisdom.lookup(PROBLEM, HERE) is None
    assert not file.exists()  # asking writes nothing
    _wisdom.remember([timed(tile=3, isa="avx2")], HERE)
    expected = _wisdom.Known("naive", {"tile": 3, "isa": "avx2"}, 1e-3)
    assert _wisdom.lookup(PROBLEM, HERE) == expected
    restart()
    assert _wisdom.lookup(PROBLEM, HERE) == expected
    assert file.is_file() and file.parent.stat().st_mode & 0o077 == 0
    (row,) = _wisdom.rows()
    assert (row.how, row.revision, row.stale) == ("timed", REVISION, None)
    (where,) = _wisdom.rows(Environment)
    assert where.id == row.environment == ENVIRONMENT
    assert where.identity["machine"] == str(HERE) and "scipy" in where.identity["fft"]
    assert set(where.provenance) >= {"numpy", "scipy", "kernel", "host"}


def test_odd_characters_in_the_path(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a b?mode=ro#%41 é" / "wisdom.db"
    monkeypatch.setenv("FASTCONV_WISDOM", str(path))
    monkeypatch.setattr(_wisdom, "_stores", {})
    _wisdom.remember([timed()], HERE)
    restart()
    assert path.is_file() and _wisdom.lookup(PROBLEM, HERE) is not None


def test_another_process_reads_it(file: pathlib.Path) -> None:
    _wisdom.remember([timed()], HERE)
    code = "from fastconv import _wisdom; print(*[r.problem for r in _wisdom.rows()], sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(PROBLEM)


def test_key_is_problem_and_machine(file: pathlib.Path) -> None:
    _wisdom.remember([timed()], HERE)
    assert _wisdom.lookup(PROBLEM, ELSEWHERE) is None
    for other in (
        PROBLEM.replace(prepared=True), PROBLEM.replace(threads=2), PROBLEM.replace(size=(9, 8)),
        PROBLEM.replace(accuracy="strict"), PROBLEM.replace(layout="N*C"),
    ):  # fmt: skip
        assert _wisdom.lookup(other, HERE) is None


def test_the_last_timing_counts(file: pathlib.Path) -> None:
    _wisdom.remember([timed(seconds=2.0)], HERE)
    _wisdom.remember([timed(seconds=1.0)], HERE)
    restart()
    known = _wisdom.lookup(PROBLEM, HERE)
    assert known is not None and known.seconds == 1.0
    assert len(_wisdom.rows()) == 1


def test_memory_only(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("FASTCONV_WISDOM", ":memory:")
    monkeypatch.setattr(_wisdom, "_stores", {})
    monkeypatch.chdir(tmp_path)
    _wisdom.remember([timed()], HERE)
    assert _wisdom.lookup(PROBLEM, HERE) is not None
    assert len(_wisdom.rows()) == 1 and not _wisdom.writable()
    assert _wisdom.clear() and _wisdom.rows() == []
    assert list(tmp_path.iterdir()) == []


def test_default_path_is_in_the_cache_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.delenv("FASTCONV_WISDOM")
    _wisdom._default_path.cache_clear()
    assert pathlib.Path(_wisdom.path()).is_absolute()
    assert "fastconv" in _wisdom.path()
    monkeypatch.setenv("FASTCONV_WISDOM", "")  # empty is not set
    assert _wisdom.path() == _wisdom._default_path()
    _wisdom._default_path.cache_clear()


def test_no_cache_directory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import platformdirs

    def fails(*_: Any) -> pathlib.Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("FASTCONV_WISDOM")
    for broken in (fails, lambda *_: pathlib.Path("~/.cache")):
        monkeypatch.setattr(platformdirs, "user_cache_path", broken)
        _wisdom._default_path.cache_clear()
        assert _wisdom.path() == ":memory:"
    _wisdom._default_path.cache_clear()
    assert len(warnings(caplog)) == 2


# Damage


def fill(count: int = 200) -> None:
    """Rows for batches of 1 to `count`, in one write."""
    _wisdom.remember([timed()], HERE)
    store = _wisdom._store()
    row = store.decision(ENVIRONMENT, str(PROBLEM))
    assert row is not None
    batches = range(1, count + 1)
    store.put(dataclasses.replace(row, problem=str(PROBLEM.replace(batch=n))) for n in batches)


def use_it() -> None:
    """Everything that reads or writes; none may raise."""
    _wisdom.lookup(PROBLEM, HERE)
    _wisdom.remember([timed()], HERE)
    assert _wisdom.lookup(PROBLEM, HERE) is not None
    _wisdom.remember([timed(PROBLEM.replace(batch=7))], HERE)
    _wisdom.rows()
    _wisdom.writable()
    _wisdom.export(io.StringIO())
    _wisdom.import_(io.StringIO("nonsense\n"))
    assert _wisdom.lookup(PROBLEM, HERE) is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"this is not a database at all" * 100,
        lambda raw: raw[:50],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:100] + os.urandom(len(raw) - 100),
        lambda raw: os.urandom(len(raw)),
        lambda raw: raw[:4096] + b"\xff" * (len(raw) - 4096),
    ],
    ids=["text", "header", "half", "pages", "random", "all ones"],
)
def test_a_corrupt_file_is_set_aside(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    fill()
    raw = file.read_bytes()
    file.write_bytes(damage(raw))
    restart()
    use_it()
    assert len(warnings(caplog)) == 1
    assert file.with_name("wisdom.db.corrupt").is_file()
    restart()
    assert _wisdom.lookup(PROBLEM, HERE) is not None  # the new file works


def test_flipped_bytes_never_raise(file: pathlib.Path) -> None:
    import random

    fill(60)
    raw = file.read_bytes()
    rng = random.Random(1)
    for _ in range(40):
        broken = bytearray(raw)
        for _ in range(rng.choice((1, 5, 50))):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        file.write_bytes(bytes(broken))
        restart()
        use_it()


def test_an_empty_file_is_a_new_one(file: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    file.parent.mkdir()
    file.touch()
    use_it()
    assert warnings(caplog) == []
    restart()
    assert _wisdom.lookup(PROBLEM, HERE) is not None


@pytest.mark.parametrize(
    ("column", "value"),
    [("config", "{"), ("config", '{"a":[1]}'), ("config", "[]"), ("config", '{"a":true}'),
     ("seconds", "soon"), ("seconds", -1.0), ("seconds", 9e999), ("revision", "x"),
     ("revision", 99), ("solver", "guesswork"), ("solver", b"\xff\xfe"), ("how", "dreamt"),
     ("version", b"\xff"), ("config", "[" * 100_000), ("effort", 9), ("complete", "yes"),
     ("noise", "loud"), ("environment", "")],
)  # fmt: skip
def test_a_damaged_row_is_a_miss(file: pathlib.Path, column: str, value: Any) -> None:
    _wisdom.remember([timed()], HERE)
    _wisdom.remember([timed(PROBLEM.replace(batch=2))], HERE)
    with sqlite3.connect(file) as connection:
        where = "WHERE problem = ?"
        connection.execute(f"UPDATE decisions SET {column} = ? {where}", (value, str(PROBLEM)))
    connection.close()
    restart()
    assert _wisdom.lookup(PROBLEM, HERE) is None
    assert _wisdom.lookup(PROBLEM.replace(batch=2), HERE) is not None
    _wisdom.rows()


def test_a_problem_that_does_not_parse_is_no_row(file: pathlib.Path) -> None:
    _wisdom.remember([timed()], HERE)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE decisions SET problem = 'conv9d nonsense'")
    connection.close()
    restart()
    assert _wisdom.rows() == []


def test_another_schema_is_left_alone(file: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    _wisdom.remember([timed()], HERE)
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    raw = file.read_bytes()
    restart()
    assert _wisdom.lookup(PROBLEM, HERE) is None
    use_it()
    assert not _wisdom.clear()
    assert file.read_bytes() == raw
    assert len(warnings(caplog)) == 1 and "schema 99" in warnings(caplog)[0]


def test_someone_elses_database_is_left_alone(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE wisdom (precious TEXT)")
        connection.execute("INSERT INTO wisdom VALUES ('data')")
    connection.close()
    raw = file.read_bytes()
    use_it()
    assert not _wisdom.clear()
    assert file.read_bytes() == raw
    assert "not a file of fastconv" in warnings(caplog)[0]


def test_columns_are_missing(file: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    _wisdom.remember([timed()], HERE)
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE decisions")
        connection.execute("CREATE TABLE decisions (machine TEXT)")
    connection.close()
    restart()
    use_it()
    assert len(warnings(caplog)) == 1


# What cannot be read or written


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "parent is a file", "dangling"])
def test_no_regular_file(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture, kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if kind == "parent is a file":
        file.parent.touch()
    else:
        file.parent.mkdir()
    if kind == "directory":
        file.mkdir()
    elif kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes here")
        os.mkfifo(file)
    elif kind == "device":
        monkeypatch.setenv("FASTCONV_WISDOM", os.devnull)
    elif kind == "dangling":
        file.symlink_to(file.parent / "no" / "such")
    use_it()
    assert len(warnings(caplog)) == 1
    assert not _wisdom.writable()
    assert len(_wisdom.rows()) == 2  # in memory


def test_locked_by_another_writer(file: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    _wisdom.remember([timed()], HERE)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    second = PROBLEM.replace(batch=2)
    try:
        _wisdom.remember([timed(second)], HERE)
        assert _wisdom.lookup(second, HERE) is not None
        assert _wisdom.lookup(PROBLEM, HERE) is not None  # what was read before is not lost
        assert not _wisdom.clear()
        assert len(warnings(caplog)) == 1
        restart()
        assert _wisdom.lookup(PROBLEM, HERE) is None  # locked: a miss
        _wisdom.remember([timed(second)], HERE)
    finally:
        other.execute("ROLLBACK")
        other.close()
    third = PROBLEM.replace(batch=3)
    _wisdom.remember([timed(third)], HERE)  # writes what is pending, too
    restart()
    assert {r.problem for r in _wisdom.rows()} == {str(PROBLEM), str(second), str(third)}


def test_a_full_disk(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(5)
    before = len(_wisdom.rows())
    connect = sqlite3.connect

    def small_disk(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small_disk)
    fill(3000)
    assert len(_wisdom.rows()) == 3000
    monkeypatch.undo()
    assert len(warnings(caplog)) == 1 and "full" in warnings(caplog)[0]
    os.environ["FASTCONV_WISDOM"] = str(file)
    try:
        restart()
        assert len(_wisdom.rows()) == before  # the transaction left nothing half done
    finally:
        os.environ["FASTCONV_WISDOM"] = ":memory:"


def test_python_without_sqlite(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    use_it()
    assert len(warnings(caplog)) == 1


def test_a_candidate_that_is_no_row_is_not_remembered(file: pathlib.Path) -> None:
    for seconds in (0.0, float("nan"), float("inf")):
        _wisdom.remember([timed(seconds=seconds)], HERE)
    assert _wisdom.rows() == []


# Many at once


def test_threads(file: pathlib.Path) -> None:
    def work(i: int) -> None:
        _wisdom.remember([timed(PROBLEM.replace(batch=i + 1))], HERE)
        assert _wisdom.lookup(PROBLEM.replace(batch=i + 1), HERE) is not None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(64)))
    _wisdom.remember([timed(PROBLEM.replace(batch=65))], HERE)
    restart()
    assert len(_wisdom.rows()) == 65


def test_processes(file: pathlib.Path) -> None:
    code = """
import sys
from fastconv import _wisdom
sys.path.insert(0, sys.argv[1])
from test_wisdom import HERE, PROBLEM, timed
for i in range(20):
    _wisdom.remember([timed(PROBLEM.replace(batch=20 * int(sys.argv[2]) + i + 1))], HERE)
_wisdom.be_patient()
_wisdom._store().flush()
"""
    folder = str(pathlib.Path(__file__).parent)
    running = [
        subprocess.Popen([sys.executable, "-c", code, folder, str(i)],
                         stderr=subprocess.PIPE, text=True)
        for i in range(3)
    ]  # fmt: skip
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert len(_wisdom.rows()) == 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads, from 3.12 on
def test_fork(file: pathlib.Path) -> None:
    _wisdom.remember([timed()], HERE)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _wisdom.remember([timed(PROBLEM.replace(batch=2))], HERE)
            status = 0 if _wisdom.lookup(PROBLEM, HERE) is not None else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    _wisdom.remember([timed(PROBLEM.replace(batch=3))], HERE)
    assert len(_wisdom.rows()) == 3


# Rules


def decide(effort: int = MEASURED, seconds: float = 1e-3, how: str = "timed") -> Decision:
    row = _wisdom.parse_line(line(effort=effort, seconds=seconds, how=how))
    assert isinstance(row, Decision)
    return row


def test_less_effort_does_not_replace_more(file: pathlib.Path) -> None:
    for effort in (MEASURED, THOROUGH, MEASURED, BY_THE_WAY):
        _wisdom.remember([timed(seconds=float(effort))], HERE, effort=effort)
    assert _wisdom.rows()[0].effort == THOROUGH
    known = _wisdom.lookup(PROBLEM, HERE)
    assert known is not None and known.seconds == THOROUGH
    restart()
    _wisdom.remember([timed(seconds=9.0)], HERE, effort=BY_THE_WAY)
    assert _wisdom.rows()[0].seconds == THOROUGH


def test_which_decision_stays() -> None:
    old = decide(effort=MEASURED)
    assert decide(effort=BY_THE_WAY).over(old) is old
    assert decide(effort=THOROUGH, how="imported").over(old) is old
    better, stale = decide(effort=THOROUGH), dataclasses.replace(old, effort=3, revision=99)
    assert better.over(old) is better
    assert old.over(stale) is old and decide(how="imported").over(stale).how == "imported"
    assert old.serves(MEASURED, 9.0) and not old.serves(THOROUGH, 0.1)
    unfinished = dataclasses.replace(old, complete=0, budget=2.0)
    assert unfinished.serves(MEASURED, 2.0) and not unfinished.serves(MEASURED, 3.0)


def test_an_upgrade_invalidates_only_what_changed(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PROBLEM.replace(batch=2)
    _wisdom.remember([timed()], HERE)
    direct = dataclasses.replace(timed(other), method="direct")
    _wisdom.remember([direct], HERE)
    restart()
    monkeypatch.setattr(type(BY_NAME["naive"]), "revision", REVISION + 1)
    assert _wisdom.lookup(PROBLEM, HERE) is None
    assert _wisdom.lookup(other, HERE) is not None
    rows, freed = _wisdom.collect()
    assert rows == 1 and freed >= 0 and texts() == {str(other)}


@pytest.mark.parametrize("change", [
    {"isa": "avx512"}, {"cores": 8}, {"l1": 49152}, {"l2": 2 << 20}, {"l3": 1 << 25},
])  # fmt: skip
def test_facts_that_make_another_environment(change: dict[str, Any]) -> None:
    assert _environment.environment(HERE._replace(**change)) != ENVIRONMENT


def test_the_environment_has_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _environment.identity(HERE)
    assert found["tuning"] == _environment.TUNING and str(found["blas"])
    assert str(found["fft"]).startswith("scipy ") and str(found["fft"]).count(".") == 1
    assert _environment.environment(HERE, cache="cold") != ENVIRONMENT
    assert "blas" not in _environment.identity(HERE, "cuda")
    assert _environment.id_of(found) == ENVIRONMENT and len(ENVIRONMENT) == 32


def test_blas_is_that_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    import threadpoolctl

    def library(path: str, version: str) -> dict[str, Any]:
        return {"user_api": "blas", "filepath": path, "internal_api": "openblas",
                "version": version, "threading_layer": "pthreads",
                "architecture": "Zen"}  # fmt: skip

    mine = library("/x/site-packages/scipy.libs/libscipy_openblas.so", "1")
    others = [library("/x/cv2.libs/libopenblas.so", "2"), {"user_api": "openmp", "filepath": "/y"}]
    for loaded, expected in (
        ([mine, *others], "openblas 1 pthreads Zen"), (others, "openblas 2 pthreads Zen")
    ):  # fmt: skip
        monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda loaded=loaded: loaded)
        _environment._blas.cache_clear()
        assert _environment._blas() == expected
    monkeypatch.undo()
    _environment._blas.cache_clear()


def test_all_trials_are_kept(file: pathlib.Path) -> None:
    best = dataclasses.replace(
        timed(), status="timed", timing=_timer.Timing(1e-3, 2e-3, 3e-3, 9e-4, 40, 7)
    )
    slow = dataclasses.replace(
        timed(seconds=5e-3), method="direct", status="dropped", estimate=4e-3,
        timing=_timer.Timing(5e-3, 5e-3, 5e-3, 5e-3, 3, 1),
    )  # fmt: skip
    never = dataclasses.replace(timed(), method="im2col", status="untried", source="model")
    wrong = dataclasses.replace(timed(), method="fft", status="wrong", refused="NaN")
    _wisdom.remember([best, slow, never, wrong], HERE, noise=0.01, pressure=0.1)
    restart()
    (row,) = _wisdom.rows()
    assert (row.runner_up, row.margin, row.noise, row.samples) == ("direct", 5.0, 0.01, 40)
    assert (row.lowest, row.median, row.upper) == (9e-4, 2e-3, 3e-3)
    found = _wisdom.trials(PROBLEM, HERE)
    assert [(t.solver, t.status) for t in found] == [
        ("naive", "timed"), ("direct", "dropped"), ("fft", "wrong"), ("im2col", "untried")
    ]  # fmt: skip
    assert found[1].estimate == 4e-3 and found[2].note == "NaN"
    _wisdom.remember([best, dataclasses.replace(slow, status="untried", timing=None)], HERE)
    assert _wisdom.trials(PROBLEM, HERE)[1].status == "dropped", "what was measured stays"


def test_what_is_not_to_be_kept_is_known_here_only(file: pathlib.Path) -> None:
    assert not _wisdom.remember([timed()], HERE, keep=False)
    assert _wisdom.lookup(PROBLEM, HERE) is not None and not file.exists()
    restart()
    assert _wisdom.lookup(PROBLEM, HERE) is None
    _wisdom.remember([timed()], HERE, keep=False)
    assert _wisdom.remember([timed(seconds=2.0)], HERE)
    restart()
    assert _wisdom.rows()[0].seconds == 2.0


def test_wanted_counts_add_up(file: pathlib.Path) -> None:
    other = PROBLEM.replace(batch=2)
    assert _wisdom.want({PROBLEM: (2, 0.5), other: (1, 0.1)}, HERE)
    assert _wisdom.want({PROBLEM: (3, 0.25)}, HERE) and _wisdom.want({}, HERE)
    restart()
    found = {row.problem: (row.hits, row.seconds) for row in _wisdom.rows(Wanted)}
    assert found == {str(PROBLEM): (5, 0.75), str(other): (1, 0.1)}


def test_quarantine(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = PROBLEM.replace(batch=2)
    _wisdom.quarantine(timed(tile=1), HERE, "it was wrong", everywhere=True)
    _wisdom.quarantine(timed(tile=2), HERE, "it failed", everywhere=False)
    for _ in range(2):
        assert _wisdom.quarantined(PROBLEM, HERE) == {
            ("naive", '{"tile":1}'): "it was wrong", ("naive", '{"tile":2}'): "it failed"
        }  # fmt: skip
        assert _wisdom.quarantined(other, HERE) == {("naive", '{"tile":1}'): "it was wrong"}
        assert _wisdom.quarantined(PROBLEM, ELSEWHERE) == {}
        restart()
    monkeypatch.setattr(type(BY_NAME["naive"]), "revision", REVISION + 1)
    assert _wisdom.quarantined(PROBLEM, HERE) == {}


def test_pins(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _wisdom.pinned(PROBLEM) is None
    assert _wisdom.pin(_wisdom.parse_pin("conv2d * r3 s3 *=winograd m=2 isa=avx2", "for a test"))
    for _ in range(2):
        found = _wisdom.pinned(PROBLEM)
        assert found is not None and (found.solver, found.config) == (
            "winograd", {"m": 2, "isa": "avx2"}
        )  # fmt: skip
        assert _wisdom.pinned(PROBLEM.replace(kernel=(1, 1))) is None
        restart()
    pin = _wisdom.parse_pin("conv1d * constant=1.5=direct")
    assert (pin.pattern, pin.solver) == ("conv1d * constant=1.5", "direct")
    for wrong in ("", "conv2d *", "conv2d *=", "=direct", "conv2d *=magic", "a=direct tile"):
        with pytest.raises(ValueError, match="for a pin"):
            _wisdom.parse_pin(wrong)
    assert _wisdom.delete(_wisdom.rows(Pin)) and _wisdom.pinned(PROBLEM) is None


@pytest.mark.parametrize("method, settings", [
    ("direct", {}), ("winograd", {}), ("winograd", {"m": 2}), ("direct", {"filters": -1}),
])  # fmt: skip
def test_a_pin_may_name_some_settings_or_none(
    file: pathlib.Path, method: str, settings: dict[str, int]
) -> None:
    words = " ".join(f"{name}={value}" for name, value in settings.items())
    assert _wisdom.pin(_wisdom.parse_pin(f"conv2d *={method} {words}".rstrip()))
    choice = _planner.choose(PROBLEM)
    if -1 in settings.values():  # nothing has it: passed over
        assert "pinned" not in choice.why
        return
    assert "pinned" in choice.why and choice.plan.solver.name == method
    assert settings.items() <= dict(choice.plan.config).items()


# Files of a site, below the user's


@pytest.fixture
def site(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A read-only folder with the wisdom of a site, which knows PROBLEM and batch 2."""
    _wisdom.remember([timed(seconds=5.0)], HERE)
    _wisdom.remember([timed(PROBLEM.replace(batch=2), seconds=6.0)], HERE)
    path = file.parent.parent / "site" / "wisdom.db"
    assert _wisdom.export(path) == 3
    assert _wisdom.clear()
    restart()
    path.parent.chmod(0o500)
    path.chmod(0o400)
    monkeypatch.setenv("FASTCONV_TUNE_RO", os.pathsep.join(["/no/such.db", str(path)]))
    _settings.reload()
    yield path
    path.parent.chmod(0o700)
    monkeypatch.undo()
    _settings.reload()


def test_the_users_file_is_above_the_sites(site: pathlib.Path) -> None:
    raw = site.read_bytes()
    _wisdom.remember([timed(seconds=1.0)], HERE)
    for _ in range(2):
        mine, theirs = (_wisdom.lookup(p, HERE) for p in (PROBLEM, PROBLEM.replace(batch=2)))
        assert mine is not None and theirs is not None
        assert (mine.seconds, theirs.seconds) == (1.0, 6.0)
        assert theirs.layer == str(site) and mine.layer == _wisdom.path()
        restart()
    assert texts() == {str(PROBLEM)}
    assert site.read_bytes() == raw and os.listdir(site.parent) == [site.name]


def test_a_damaged_site_is_a_miss(site: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    site.parent.chmod(0o700)
    site.chmod(0o600)
    site.write_bytes(b"x" * 5000)
    assert _wisdom.lookup(PROBLEM, HERE) is None and _wisdom.lookup(PROBLEM, HERE) is None
    assert len(warnings(caplog)) == 1 and site.exists(), "it is not ours to set aside"


def test_a_site_that_anybody_may_write_is_refused(
    site: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.chmod(0o666)
    assert _wisdom.lookup(PROBLEM, HERE) is None
    assert "others may write it" in warnings(caplog)[0]


# Rights


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users here")
@pytest.mark.parametrize("mode", [0o660, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_read(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    _wisdom.remember([timed()], HERE)
    assert file.stat().st_mode & 0o022 == 0
    file.chmod(mode)
    restart()
    assert _wisdom.lookup(PROBLEM, HERE) is None and not _wisdom.writable()
    use_it()
    assert len(warnings(caplog)) == 1 and "others may write it" in warnings(caplog)[0]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users here")
def test_a_foreign_file_is_not_read(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wisdom.remember([timed()], HERE)
    restart()
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:  # root's are trusted: give it away
        os.chown(file, 65534, 65534)
    assert _wisdom.lookup(PROBLEM, HERE) is None
    use_it()
    assert len(warnings(caplog)) == 1 and "belongs to user" in warnings(caplog)[0]


def test_a_directory_that_cannot_be_written(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for root, whom no mode stops: what the system would say is said here."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    use_it()
    assert len(warnings(caplog)) == 1 and "Permission denied" in warnings(caplog)[0]


@pytest.mark.parametrize("message", ["locking protocol", "disk I/O error", "database is locked"])
def test_a_file_system_without_locks(
    file: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    message: str,
) -> None:  # fmt: skip
    """As network file systems answer; what was there before is still there after."""
    _wisdom.remember([timed()], HERE)
    connect = sqlite3.connect

    class Refuses(sqlite3.Connection):
        def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
            if sql.startswith(("BEGIN", "SELECT")):
                raise sqlite3.OperationalError(message)
            return super().execute(sql, *given)

    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, factory=Refuses, **options)
    )
    restart()
    use_it()
    assert len(warnings(caplog)) == 1 and message in warnings(caplog)[0]
    monkeypatch.setattr(sqlite3, "connect", connect)
    _wisdom._store().flush()
    assert str(PROBLEM) in texts() and len(texts()) == 2


def test_what_one_process_set_aside_another_does_not(file: pathlib.Path) -> None:
    """The second to notice damage must not take the first one's new file away."""
    _wisdom.remember([timed()], HERE)
    file.write_bytes(b"x" * 5000)
    restart()
    late = _store.Store(file)
    with pytest.raises(sqlite3.DatabaseError), late._connect("rw") as connection:
        connection.execute("SELECT * FROM decisions")
    _wisdom.remember([timed()], HERE)
    assert late._set_aside()
    restart()
    assert _wisdom.lookup(PROBLEM, HERE) is not None


# A file a process


def test_spool(file: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "spool"
    monkeypatch.setenv("FASTCONV_TUNE_SPOOL", str(folder))
    _settings.reload()
    _wisdom.remember([timed()], HERE)
    _wisdom.want({PROBLEM: (2, 0.5)}, HERE)
    _wisdom.want({PROBLEM: (1, 0.5)}, HERE)
    assert _wisdom.lookup(PROBLEM, HERE) is not None and not file.exists()
    monkeypatch.undo()
    monkeypatch.setenv("FASTCONV_WISDOM", str(file))
    _settings.reload()
    restart()
    (spooled,) = folder.iterdir()
    with open(spooled, "a") as stream:
        stream.write('{"schema": 2, "row": "deci')  # killed while it wrote
    done = _wisdom.import_(spooled, imported=False)
    assert [number for number, _ in done.skipped] == [len(spooled.read_text().splitlines())]
    assert _wisdom.rows()[0].how == "timed"
    (wanted,) = _wisdom.rows(Wanted)
    assert (wanted.hits, wanted.seconds) == (3, 1.0)


def test_a_spool_that_cannot_be_written(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FASTCONV_TUNE_SPOOL", os.devnull)
    monkeypatch.setattr(_wisdom, "_spool_logged", False)
    _settings.reload()
    try:
        use_it()
        assert len(warnings(caplog)) == 1
    finally:
        monkeypatch.undo()
        _settings.reload()


# Lines of JSON


def test_export_and_import(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    fill(5)
    text = tmp_path / "rows.jsonl"
    assert _wisdom.export(text) == 5 + 1  # and the environment
    before = _wisdom.rows()
    assert _wisdom.clear() and _wisdom.rows() == []
    done = _wisdom.import_(text)
    assert (done.accepted, done.skipped) == (6, ())
    restart()
    after = _wisdom.rows()
    assert [r.how for r in after] == ["imported"] * 5
    assert [dataclasses.replace(r, how="timed") for r in after] == before
    assert _wisdom.lookup(PROBLEM, HERE) is not None


def test_import_does_not_replace_what_was_timed_here(file: pathlib.Path) -> None:
    _wisdom.remember([timed(seconds=1.0)], HERE)
    lines = io.StringIO()
    _wisdom.export(lines)
    _wisdom.remember([timed(seconds=2.0)], HERE)
    done = _wisdom.import_(io.StringIO(lines.getvalue()))
    assert done.accepted == 1 and "timed here" in done.skipped[0][1]  # the environment, again
    assert _wisdom.rows()[0].seconds == 2.0


def line(**changes: Any) -> str:
    fields = {
        "schema": _store.SCHEMA, "row": "decisions", "environment": ENVIRONMENT,
        "problem": str(PROBLEM), "solver": "naive", "config": {}, "revision": REVISION,
        "seconds": 1e-3, "median": 1e-3, "upper": 1e-3, "lowest": 1e-3, "first": 0.0, "samples": 5,
        "runner_up": "", "margin": 0, "noise": 0.0, "pressure": 0.0, "effort": 2, "budget": 2.0,
        "complete": 1, "candidates": "", "error_bound": 0.0, "workspace": 0, "how": "timed",
        "version": "", "created": "2026-01-01 00:00:00",
    }  # fmt: skip
    fields.update(changes)
    return json.dumps({k: v for k, v in fields.items() if v is not ...})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "not JSON"), ("[1]", "expected a JSON object"), ("[" * 50_000, "not JSON"),
        (line(schema=1), "expected schema 2, got 1"), (line(schema=...), "got None"),
        (line(row="pins"), "expected a row of"), (line(row=["decisions"]), "expected a row of"),
        (line(row=...), "expected a row of"), (line(row="trials"), "unknown field"),
        (line(problem="conv2d f32"), "lacks"), (line(problem=7), "expected text for problem"),
        (line(problem="conv2d  f32 n1 c8 h9 w9 k4 r3 s3 p1"), "canonical"),
        (line(solver="guess"), "no solver is called 'guess'"),
        (line(revision=REVISION + 1), "of naive is not the current"),
        (line(revision=True), "whole number"), (line(revision="1"), "whole number"),
        (line(config={"a": 1.5}), "settings"), (line(config=[]), "settings"),
        (line(config={"a": {"b": 1}}), "settings"), (line(version=2), "text for version"),
        (line(seconds=0), "above 0"), (line(seconds=float("nan")), "finite"),
        (line(seconds="1"), "number for seconds"), (line(how="x"), "for how"),
        (line(samples=2**70), "whole number"), (line(effort=0), "an effort out of"),
        (line(environment=""), "environment"), (line(created=...), "created is missing"),
        (line(code="import os"), "unknown field 'code'"),
    ],
)  # fmt: skip
def test_bad_lines_are_skipped(file: pathlib.Path, text: str, reason: str) -> None:
    good = line(problem=str(PROBLEM.replace(batch=2)))
    done = _wisdom.import_(io.StringIO(f"{text}\n\n{good}\n"))
    assert done.accepted == 1
    ((number, why),) = done.skipped
    assert number == 1 and reason in why
    assert texts() == {str(PROBLEM.replace(batch=2))}


def test_binary_rubbish_is_no_import(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(os.urandom(10_000))
    assert _wisdom.import_(rubbish).accepted == 0


def test_import_of_a_missing_file(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        _wisdom.import_(tmp_path / "none")


# With the planner


def test_the_planner_uses_it_and_times_nothing(
    file: pathlib.Path, calm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem.parse("conv1d f32 n1 c1 w40 k1 s3")
    best = _planner.tune(problem, budget=10)[0]
    assert best.source == "timed"
    restart()
    monkeypatch.setattr(
        "fastconv._tuner.race", lambda *_: pytest.fail("timed although it is known")
    )
    with _planner.autotune("measure"):
        choice = _planner.choose(problem)
    assert choice.candidate.source == "wisdom"
    assert (choice.candidate.method, choice.candidate.config) == (best.method, best.config)
    with _planner.autotune("off"):
        assert _planner.choose(problem).candidate.source == "model"


def test_a_config_that_is_not_legal_here_is_a_miss(file: pathlib.Path) -> None:
    from fastconv._machine import this_machine

    problem = Problem.parse("conv1d f32 n1 c1 w40 k1 s3")
    _wisdom.remember([timed(problem, nonsense=10**9)], this_machine())
    assert _wisdom.lookup(problem, this_machine()) is not None
    assert _planner.choose(problem).candidate.source == "model"
