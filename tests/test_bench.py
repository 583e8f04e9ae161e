"""The suites in bench/: that they cover what is there, and what a comparison says. Nothing here
asserts on time; that benchmarks run is ``make bench-smoke``'s to find out."""

from __future__ import annotations

import inspect
import os
import pathlib
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import fastconv
from fastconv import _workloads
from fastconv.solvers import SOLVERS

ROOT = pathlib.Path(fastconv.__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "bench").exists(), reason="no source tree")


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT))
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    if cores is not None:
        os.sched_setaffinity(0, cores)


# ---- what the suites cover


def test_every_public_function_has_a_benchmark() -> None:
    from bench import functions

    public = set()
    modules = {"": fastconv, "nn.": fastconv.nn, "signal.": fastconv.signal}
    modules |= {"ndimage.": fastconv.ndimage, "stream.": fastconv.stream}
    for prefix, module in modules.items():
        for name in module.__all__:
            value = getattr(module, name)
            home = getattr(value, "__module__", "").rpartition(".")[2]
            again = prefix == "" and home in ("nn", "signal", "ndimage", "stream")
            error = isinstance(value, type) and issubclass(value, Exception)
            if not (isinstance(value, types.ModuleType) or again or error):
                public.add(prefix + name)
    public -= {"Candidate", "Plan", "Problem"}  # made by other calls, not called for their work
    assert public == set(functions.CALLS), "bench/functions.py: a call of each public function"


def test_public_functions_are_called() -> None:
    from bench import functions

    for name, make in functions.CALLS.items():
        if name != "tune":  # times candidates, which tests of the tuner do
            make()()


def test_every_solver_has_a_benchmark() -> None:
    from bench import shapes

    cpu = {solver.name for solver in SOLVERS if solver.device == "cpu"}
    gpu = {solver.name for solver in SOLVERS if solver.device != "cpu"}
    assert cpu == set(shapes.METHODS) - {"auto"}, "bench/shapes.py: METHODS lists the solvers"
    assert gpu == set(shapes.CUDA_METHODS), "bench/shapes.py: CUDA_METHODS lists the GPU's solvers"


@pytest.mark.parametrize("table", ["workloads.toml", "public.toml"])
def test_shapes_are_the_rows_of_the_table(table: str) -> None:
    """bench/shapes.py has them as strings; public.toml is where the rows were published."""
    from bench import peers, shapes

    path = ROOT / "bench" / table
    if table == "public.toml":
        beside = [ROOT.parent / "shared", *(p / "shared" for p in ROOT.parents)]
        found = [p / "workloads" / table for p in beside]
        path = next((p for p in found if p.exists()), path)
    if not path.exists():
        pytest.skip("public.toml is not at hand")
    rows = {w.name: w for w in _workloads.load(path)}
    texts = {**shapes.NN, **shapes.SIGNAL, **shapes.IMAGE}
    assert list(rows) == list(texts)
    for name, workload in rows.items():
        row, case = peers.case_of(workload), shapes.case(texts[name])
        assert (row.kind, row.function, row.dtype) == (case.kind, case.function, case.dtype), name
        assert (row.x_shape, row.w_shape, row.size) == (case.x_shape, case.w_shape, case.size)
        if case.kind == "layer":
            assert shapes.spatial(row) == shapes.spatial(case), name
            assert row.groups == case.groups
        else:
            options = {k: v for k, v in row.options.items() if v is not None}
            numbers = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
            wanted = {k: list(v) if isinstance(v, tuple) else v for k, v in case.options.items()}
            assert {k: numbers.get(k) for k in wanted} == wanted, name


def test_every_row_of_the_table_is_run() -> None:
    from bench import shapes, suites

    run = {p for row in suites.benchmarks() for p in row.params}
    assert run >= {*shapes.NN.values(), *shapes.SIGNAL.values(), *shapes.IMAGE.values()}


def test_benchmarks_say_their_version_and_parameters() -> None:
    from bench import suites

    found = list(suites.methods())
    assert len(found) > 20
    for name, cls, _ in found:
        assert isinstance(getattr(cls, "version", None), str), f"{name} has no explicit version"
        axes, names = suites.axes(cls), getattr(cls, "param_names", ())
        assert len(axes) == len(names), f"{name} names not each of its parameters"


def test_every_suite_plans_without_wisdom() -> None:
    """A change of what was measured must not look like a change of the code."""
    from bench import suites

    for module in suites.modules():
        if module.__name__ != "bench.bench_planner":
            source = inspect.getsource(module)
            pinned = ("without_wisdom", "self.prepare", "common.Against")
            assert any(word in source for word in pinned), module.__name__


def test_tracked_rows_are_benchmarks() -> None:
    from bench import suites, tracked

    assert set(tracked.TRACKED) <= set(suites.benchmarks())
    assert len(set(tracked.TRACKED)) == len(tracked.TRACKED)


# ---- a comparison


def verdict(**ratios: float) -> Any:
    from bench.compare import Verdict
    from bench.interleave import Row

    return Verdict({Row(n): {"base": 1.0, "head": r} for n, r in ratios.items()}, {}, [])


def judged(*looks: Any) -> tuple[int, list[str], list[list[str]]]:
    """(status, lines that accuse, rows of each look)."""
    from bench.compare import judge

    asked = []
    answers = iter(looks)

    def look(rows: Sequence[Any]) -> Any:
        asked.append([row.benchmark for row in rows])
        return next(answers)

    status, lines = judge(list(looks[0].seconds), look, 1.25)
    return status, [line for line in lines if line.startswith("SLOWER")], asked


def test_nothing_slower() -> None:
    status, accused, asked = judged(verdict(a=1.2, b=0.5))
    assert (status, accused, asked) == (0, [], [["a", "b"]])


def test_flagged_once_is_noise() -> None:
    status, accused, asked = judged(verdict(a=1.6, b=1.0), verdict(a=1.1))
    assert (status, accused, asked) == (0, [], [["a", "b"], ["a"]])


def test_flagged_twice_is_slower() -> None:
    status, accused, _ = judged(verdict(a=1.6, b=1.0, c=1.3), verdict(a=1.5, c=1.2))
    assert status == 1
    assert len(accused) == 1 and "a()" in accused[0] and "1.50" in accused[0]


def test_no_rows_are_no_success() -> None:
    from bench.compare import Verdict, judge
    from bench.interleave import Row

    row = Row("bench_nn.Prepared.time_call", ("x", 1))
    for empty in (
        Verdict({}, {}, []),
        Verdict({}, {row: "base: has no such function"}, []),
        Verdict({row: {"base": 1.0, "head": 1.0}}, {}, [f"{row}, head: ValueError: no"]),
    ):
        status, lines = judge([row], lambda rows, empty=empty: empty, 1.25)
        assert status == 2 and lines[-1] == "nothing can be said"


def test_a_row_that_lost_its_times_is_no_success() -> None:
    from bench.compare import judge
    from bench.interleave import Row

    status, lines = judge([Row("a"), Row("b")], lambda rows: verdict(a=1.0), 1.25)
    assert status == 2 and "b(): a side has no times" in lines


def test_workspace_that_grew_is_slower_too() -> None:
    from bench.compare import Verdict
    from bench.interleave import Row

    row = Row("bench_memory.Workspace.track_workspace", ("x",))
    both = Verdict({row: {"base": 0.0, "head": 8.0}}, {}, [])
    assert both.slower(1.25) == [row]
    assert not Verdict({row: {"base": 0.0, "head": 0.0}}, {}, []).slower(1.25)


def test_two_builds_are_sampled_in_turns() -> None:
    """Both are this tree; what is asserted is that both have samples, not what they say."""
    from bench import interleave, shapes

    row = interleave.Row("bench_nn.Prepared.time_call", (shapes.SMALL, 1))
    later = interleave.Row("bench_nn.Layer.time_call", (shapes.SMALL, "depthwise", 1))
    broken = interleave.Row("bench_nn.Layer.time_call", ("conv9d f32", "auto", 1))
    with interleave.workers({"base": ROOT, "head": ROOT}) as both:
        found = interleave.measure(both, row, rounds=3)
        assert {k: len(v) for k, v in found.samples.items()} == {"base": 3, "head": 3}
        assert all(second > 0 for taken in found.samples.values() for second in taken)
        refused = interleave.measure(both, later, rounds=3)
        assert not refused.samples and set(refused.skipped) == {"base", "head"}
        failed = interleave.measure(both, broken, rounds=3)
        assert set(failed.failed) == {"base", "head"}


def test_a_worker_imports_its_own_tree(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "worker.py"), str(tmp_path)],
        input="", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode and "has no fastconv" in done.stderr


def test_what_is_run_once_covers_every_value() -> None:
    from bench import smoke

    seen = []

    class Suite:
        params = (["a", "b", "c"], [1, 2])
        param_names = ("letter", "number")

        def setup(self, letter: str, number: int) -> None:
            if letter == "c":
                raise NotImplementedError("no c")

        def time_it(self, letter: str, number: int) -> None:
            seen.append((letter, number))
            if letter == "b":
                raise ZeroDivisionError

    runs, skipped, failures = smoke.cover("Suite.time_it", Suite, "time_it", "")
    assert seen == [("a", 1), ("a", 2), ("b", 1)] and runs == 3
    assert skipped == ["letter=c: no c"]
    assert len(failures) == 1 and "ZeroDivisionError" in failures[0]


# ---- what asv makes of them


def test_asv_times_many_calls_of_what_was_prepared_once() -> None:
    time = pytest.importorskip(
        "asv_runner.benchmarks.time", reason="no asv: pip install -e '.[bench]'"
    )
    from bench import common

    class Suite(common.Timed):
        repeat = 2
        sample_time = 1e-4
        warmup_time = 0.0

        def setup(self) -> None:
            pass

        def time_call(self) -> None:
            pass

    suite = Suite()
    benchmark = time.TimeBenchmark("suite.time_call", suite.time_call, [suite.time_call, suite])
    benchmark.do_setup()
    assert benchmark.run()["number"] > 1  # with one, each is the first, cold, after a setup
