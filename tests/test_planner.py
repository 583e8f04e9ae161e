"""The planner: what it offers, refuses and chooses; wisdom as a hint; when it times."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from problems import MIXING, PROBLEMS
from strategies import problems

import fastconv
from fastconv import _planner, _tuner, _wisdom
from fastconv._accuracy import allowed_error
from fastconv._engine import run
from fastconv._ext import core
from fastconv._machine import Machine, this_machine
from fastconv._plan import Plan
from fastconv._planner import Candidate, autotune, choose
from fastconv._planner import candidates as all_candidates
from fastconv._problem import ACCURACIES, Problem
from fastconv._solver import Config, Solver, on_threads
from fastconv.solvers import BY_NAME, SOLVERS
from fastconv.solvers._panels import in_runs

LAYER = Problem.parse("conv2d f32 n1 c8 h14 w14 k8 r3 s3 p1")
SIGNAL = Problem.parse("conv1d f64 n1 c1 w900 k1 s200 p199 flip")
EXACT = Problem.parse("conv1d i32 n1 c1 w90 k1 s20")


def test_passes_over_floats_of_16_bits_take_time(estimates: None) -> None:
    """Those of solvers that read or write float32, on as many threads as there are."""
    text = f"{LAYER} deterministic"
    found: Any = [(BY_NAME["amx_split"], {}, 1.0), (BY_NAME["direct"], {}, 1.0)]
    for stored, samples in (
        ("", (0, 0)), ("x:f16 w:f16 y:f16", (0, 16 * 14**2)), ("x:f16 w:f16", (0, 8 * 14**2)),
        ("x:bf16", (8 * 14**2,) * 2), ("y:f16 threads2", (4 * 14**2,) * 2),
    ):  # fmt: skip
        problem = Problem.parse(f"{text} {stored}")
        seconds = _planner._expected(problem, this_machine(), found)
        assert seconds == pytest.approx([1 + n * _planner._CONVERTED for n in samples], rel=1e-12)


@pytest.mark.parametrize("problem", [LAYER, SIGNAL, EXACT], ids=str)
def test_candidates_are_complete(problem: Problem) -> None:
    """Every solver is there, with every config or with the reason against it."""
    found = all_candidates(problem)
    assert {c.method for c in found} == set(BY_NAME)
    legal = [c for c in found if c.refused is None]
    leading = [(s.name, c) for s, c, _ in _planner._leading(problem, this_machine(), SOLVERS)]
    assert legal == sorted(legal, key=lambda c: ((c.method, c.config) not in leading, c.seconds))
    assert found[: len(legal)] == legal
    for solver in SOLVERS:
        ours = [c for c in found if c.method == solver.name]
        reason = solver.why_not(problem)
        if reason is not None:
            assert [c.refused for c in ours] == [reason]
        else:
            configs = [dict(c) for c in solver.configs(problem, this_machine())]
            assert len(ours) == len(configs) and all(dict(c.config) in configs for c in ours)
    for c in legal:
        assert c.problem == problem and c.seconds > 0 and c.workspace_bytes >= 0
        assert c.error_bound <= allowed_error(problem) and c.source == "model"
        assert c.method in str(c) and "ms" in str(c)


def test_every_listed_candidate_can_be_forced() -> None:
    x = np.random.default_rng(0).standard_normal((1, 8, 14, 14), "f4")
    w = np.random.default_rng(1).standard_normal((8, 8, 3, 3), "f4")
    padding = ((1, 1), (1, 1))
    expected = run(x, w, padding=padding, method="naive")
    for c in all_candidates(LAYER):
        if c.refused is None:
            y = run(x, w, padding=padding, method=c.method, config=c.config)
            np.testing.assert_allclose(y, expected, rtol=0, atol=2e-4)
        else:
            with pytest.raises(ValueError, match=re.escape(c.refused)):
                run(x, w, padding=padding, method=c.method)


@given(problem=problems(dtypes=("f32", "f64", "c64")))
def test_strict_admits_no_mixing_method(problem: Problem) -> None:
    for c in all_candidates(problem.replace(accuracy="strict")):
        assert c.refused is not None or c.method not in MIXING
    assert choose(problem.replace(accuracy="strict")).plan.solver.name not in MIXING


def test_levels_of_accuracy_are_nested() -> None:
    for text in PROBLEMS:
        allowed = [allowed_error(Problem.parse(text).replace(accuracy=a)) for a in ACCURACIES]
        assert allowed == sorted(allowed)
        found = [all_candidates(Problem.parse(text).replace(accuracy=a)) for a in ACCURACIES]
        legal = [{(c.method, str(c.config)) for c in f if c.refused is None} for f in found]
        assert legal[0] <= legal[1] <= legal[2], text


@pytest.mark.parametrize("accuracy", ACCURACIES)
@pytest.mark.parametrize("text", PROBLEMS[::4])
def test_what_is_chosen_is_the_best_candidate(text: str, accuracy: str) -> None:
    problem = Problem.parse(text).replace(accuracy=accuracy)
    choice = choose(problem)
    best = all_candidates(problem)[0]
    assert choice.candidate == best
    assert choice.plan.problem == on_threads(problem, best.config)[0]
    assert (
        choice.plan.solver is BY_NAME[best.method]
        and choice.plan.config == on_threads(problem, best.config)[1]
    )
    on_one = " on one thread" if problem.deterministic else ""
    assert choice.reason.startswith(f"least estimated time{on_one}: {best.method}")


@pytest.mark.parametrize("problem", [LAYER, SIGNAL, EXACT], ids=str)
def test_a_limit_makes_another_choice(problem: Problem) -> None:
    """The quickest that fits is chosen, down to the smallest; then the error names them all."""
    legal = [c for c in all_candidates(problem) if c.refused is None]
    sizes = sorted({c.workspace_bytes for c in legal})
    for limit in sizes:
        choice = choose(problem, workspace_limit=limit)
        assert choice.candidate.workspace_bytes <= limit
        assert choice.plan.workspace_bytes == choice.candidate.workspace_bytes
        assert choice.candidate.seconds == all_candidates(problem, limit)[0].seconds
    with pytest.raises(ValueError, match="no method can solve") as error:
        choose(problem, workspace_limit=sizes[0] - 1)
    assert all(f"{c.method}: refused, its workspace of" in str(error.value) for c in legal)
    assert all(c.refused for c in all_candidates(problem, sizes[0] - 1))


def test_a_huge_im2col_matrix_is_no_memory_error() -> None:
    """The window matrix would be 2**48 bytes: something that fits is chosen instead."""
    problem = Problem.parse("conv2d f32 n1 c1 h70000 w70000 k1 r127 s127")
    choice = choose(problem, workspace_limit=1 << 28)
    assert choice.candidate.workspace_bytes <= 1 << 28


def test_the_default_limit_is_a_quarter_of_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    smallest = min(c.workspace_bytes for c in all_candidates(SIGNAL) if c.refused is None)
    monkeypatch.setattr(_planner, "free_memory", lambda: 4 * smallest + 3)
    assert choose(SIGNAL).candidate.workspace_bytes == smallest
    monkeypatch.setattr(_planner, "free_memory", lambda: 4 * smallest - 1)
    with pytest.raises(ValueError, match="over the limit of"):
        choose(SIGNAL)


def test_forcing() -> None:
    assert choose(LAYER, method="naive").plan.solver.name == "naive"
    assert choose(LAYER, method="naive").reason.startswith("forced: naive")
    assert choose(EXACT, method=("fft", "naive")).plan.solver.name == "naive"
    assert choose(SIGNAL, method=("fft", "naive")).plan.solver.name == "fft"
    assert choose(LAYER, method="naive", config={}).plan.config == {}
    legal = ", ".join(("auto", *BY_NAME))
    with pytest.raises(ValueError, match=re.escape(f"method out of {legal}, got 'FFT'")):
        choose(LAYER, method="FFT")
    with pytest.raises(ValueError, match="expected a method out of"):
        choose(LAYER, method=("naive", "fast"))
    with pytest.raises(ValueError, match=re.escape(f"cannot solve {EXACT} with fft: ")):
        choose(EXACT, method="fft")
    with pytest.raises(ValueError, match="fft: .*; overlap_save: "):
        choose(EXACT, method=("fft", "overlap_save"))
    with pytest.raises(ValueError, match=r"expected a config of naive out of \[{}\], got"):
        choose(LAYER, method="naive", config={"unroll": 4})
    with pytest.raises(ValueError, match="config= needs method="):
        choose(LAYER, config={"unroll": 4})
    with pytest.raises(
        ValueError, match=r"naive: its workspace of \d+ bytes is over the limit of 5"
    ):
        choose(LAYER, method="naive", workspace_limit=5)
    with pytest.raises(ValueError, match="with fft: its error .*strict"):
        choose(SIGNAL.replace(accuracy="strict"), method="fft")


class Sloppy(Solver):
    """Quick, small and imprecise."""

    name = "sloppy"
    paper = "none"

    def why_not(self, problem: Problem) -> str | None:
        return None

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        return 1e-12

    def workspace(self, problem: Problem, config: Config) -> int:
        return 1000

    def error_bound(self, problem: Problem, config: Config) -> float:
        return 2.0**-12

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        raise NotImplementedError


def test_a_bound_over_what_is_admitted_is_refused() -> None:
    for accuracy, admitted in (("strict", False), ("balanced", False), ("fast", True)):
        problem = LAYER.replace(accuracy=accuracy)
        (found,) = all_candidates(problem, None, (Sloppy(),))
        assert (found.refused is None) == admitted
        if not admitted:
            assert found.refused.startswith("its error bound 0.00024 is over the ")
            assert found.refused.endswith(f" that accuracy='{accuracy}' admits")
    (found,) = all_candidates(LAYER.replace(accuracy="fast"), 999, (Sloppy(),))
    assert found.refused == "its workspace of 1000 bytes is over the limit of 999"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_solvers_of_another_device_refuse(device: str) -> None:
    """Choosing passes over them without asking."""
    for c in all_candidates(LAYER.replace(device=device)):
        assert BY_NAME[c.method].device == device or c.refused is not None


def known(**fields: Any) -> _wisdom.Known:
    return _wisdom.Known(**{"method": "naive", "config": {}, "seconds": 1.5e-3, **fields})


def with_wisdom(monkeypatch: pytest.MonkeyPatch, hint: _wisdom.Known | None) -> None:
    monkeypatch.setattr(_wisdom, "lookup", lambda problem, machine, stores: hint)


def test_wisdom_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    with_wisdom(monkeypatch, known())
    choice = choose(SIGNAL)
    assert choice.plan.solver.name == "naive" and choice.reason.startswith("wisdom: naive")
    assert choice.candidate.source == "wisdom" and choice.candidate.seconds == 1.5e-3
    with autotune("off"):
        assert choose(SIGNAL).candidate.source == "model"
    assert choose(SIGNAL, method="fft").plan.solver.name == "fft", "a caller's word is above it"


@pytest.mark.parametrize(
    "problem, hint, limit",
    [
        (LAYER, known(method="cuda_direct_of_another_version"), None),
        (LAYER, known(config={"unroll": 4}), None),
        (EXACT, known(method="fft"), None),
        (SIGNAL.replace(accuracy="strict"), known(method="fft"), None),
        (Problem.parse("conv2d f32 n1 c64 h1 w1 k64 r1 s1"), known(), 1000),
    ],
    ids=["unknown method", "unknown config", "not applicable", "not accurate enough", "too large"],
)
def test_wisdom_is_only_a_hint(
    problem: Problem, hint: _wisdom.Known, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it names must be legal here and now; otherwise it is as if it said nothing."""
    if hint.method == "fft":
        solver = BY_NAME["fft"]
        config = solver.configs(SIGNAL, this_machine())[0]
        hint = dataclasses.replace(hint, config=dict(config))
    with_wisdom(monkeypatch, None)
    try:
        without: Any = choose(problem, workspace_limit=limit).candidate
    except ValueError as error:
        without = str(error)
    with_wisdom(monkeypatch, hint)
    try:
        found: Any = choose(problem, workspace_limit=limit).candidate
    except ValueError as error:
        found = str(error)
    assert found == without


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch, fresh_plans: None) -> Iterator[list[dict[str, Any]]]:
    """A tuner that times nothing and finds the slowest by the model fastest."""
    held: list[dict[str, Any]] = []

    def race(
        found: list[Candidate], machine: Any, budget: float, progress: Any, **options: Any
    ) -> _tuner.Race:
        held.append({"problem": found[0].problem, "budget": budget, **options})
        legal = [c for c in found if c.refused is None]
        timed = [dataclasses.replace(c, source="timed", seconds=1e-3) for c in legal[::-1]]
        return _tuner.Race((*timed, *(c for c in found if c.refused is not None)), complete=True)

    monkeypatch.setattr(_tuner, "race", race)
    _wisdom.clear()
    yield held
    _wisdom.clear()


def test_modes(races: list[dict[str, Any]]) -> None:
    slowest = [c for c in all_candidates(LAYER) if c.refused is None][-1]
    for mode in ("cached", "off"):
        with autotune(mode):
            assert choose(LAYER).candidate.source == "model"
    assert not races
    with autotune("measure", budget=0.25):
        choice = choose(LAYER)
        assert choice.candidate.source == "timed"
        assert choice.reason.startswith("fastest when timed: " + slowest.method)
        assert (choice.plan.solver.name, choice.plan.config) == (slowest.method, slowest.config)
        assert races == [{"problem": LAYER, "budget": 0.25}]
        assert choose(LAYER).candidate.source == "wisdom", "what was timed is remembered"
        assert len(races) == 1
    assert choose(LAYER).candidate.source == "wisdom"
    with autotune("off"):
        assert choose(LAYER).candidate.source == "model"


def test_measure_at_first_sight(races: list[dict[str, Any]]) -> None:
    """A plan made without timing does not stand in its way, nor the other way round."""
    x, w = np.ones((1, 2, 8)), np.ones((2, 2, 3))
    run(x, w)
    with autotune("measure"):
        for _ in range(3):
            run(x, w)
        assert len(races) == 1
        run(x, w[..., :2])
        assert len(races) == 2
    run(x, w)
    assert len(races) == 2


def test_tune_reports_and_remembers(races: list[dict[str, Any]]) -> None:
    timed = _planner.tune(LAYER, budget=0.5)
    assert timed[0].source == "timed" and races[0]["budget"] == 0.5
    (row,) = _wisdom.rows()
    assert row.problem == str(LAYER) and row.solver == timed[0].method


def test_nothing_timed_is_not_remembered(
    races: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tuner, "race", lambda found, *rest, **options: _tuner.Race(tuple(found)))
    _planner.tune(LAYER)
    assert _wisdom.rows() == []


def test_autotune_is_scoped() -> None:
    assert _planner.mode() == "cached"
    with pytest.raises(KeyError), autotune("off"):
        with autotune("measure", budget=0.1):
            assert _planner.mode() == "measure"
        assert _planner.mode() == "off"
        raise KeyError
    assert _planner.mode() == "cached"


@pytest.mark.parametrize("mode, budget, message", [
    ("full", 1.0, "expected a mode out of"), ("", 1.0, "expected a mode out of"),
    ("measure", 0.0, "expected a budget of more than 0 seconds, got 0"),
    ("measure", -1.0, "expected a budget"), ("measure", float("nan"), "expected a budget"),
])  # fmt: skip
def test_autotune_refuses(mode: str, budget: float, message: str) -> None:
    with pytest.raises(ValueError, match=message), autotune(mode, budget=budget):
        pass


def test_public_names() -> None:
    assert fastconv.autotune is autotune and fastconv.Candidate is Candidate


def test_threads_are_part_of_a_config(every_thread: None) -> None:
    """All that the problem grants, or one; by cost, by force, and as remembered."""
    problem = Problem.parse("conv2d f32 n1 c8 h16 w16 k8 r3 s3 p1 threads4")
    found = {c.config.get("threads") for c in all_candidates(problem) if c.refused is None}
    assert found == {None, 1}
    assert all("threads" not in c.config for c in all_candidates(problem.replace(threads=1)))
    for method in ("direct", "im2col", "fft"):
        config = next(
            c.config
            for c in all_candidates(problem)
            if c.method == method and "threads" in c.config
        )
        choice = choose(problem, method=method, config=config)
        assert choice.plan.problem.threads == 1 and choice.candidate.problem == problem
        assert choice.candidate.config == config
        best = choose(problem, method=method).candidate
        others = [c.seconds for c in all_candidates(problem) if c.method == method]
        assert best.seconds == min(others)
        for threads in (0, 2, 5):
            with pytest.raises(ValueError, match="expected a config of"):
                choose(problem, method=method, config={**config, "threads": threads})
        alone = dataclasses.replace(best, config=config, seconds=1e-9, source="timed")
        _wisdom.remember([alone], this_machine())
        try:
            known = choose(problem)
            assert known.candidate.config == config and known.plan.problem.threads == 1
        finally:
            _wisdom.clear()


def test_the_cap_on_instruction_sets_holds_for_what_is_offered() -> None:
    """FASTCONV_ISA is read at import: in a process of its own."""
    script = (
        "import numpy as np, fastconv\n"
        "x, w = np.ones((1, 32, 28, 28), 'f4'), np.ones((32, 32, 3, 3), 'f4')\n"
        "found = fastconv.candidates(fastconv.conv2d, x, w)\n"
        "found += fastconv.candidates(fastconv.conv2d, x, w[:, :1], groups=32)\n"
        "print(*{c.config['isa'] for c in found if c.config and 'isa' in c.config})"
    )
    environment = {**os.environ, "FASTCONV_ISA": "baseline"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["baseline"]


@pytest.mark.parametrize(
    "text",
    [
        "conv3d f32 n1 c1 d0 h1 w1 k1 t1 r1 s1 p1:0,0,0",
        "conv2d f32 n1 c0 h5 w6 k2 r3 s3",
        "conv2d f64 n0 c2 h5 w6 k2 r3 s3 p1",
        "conv1d f32 n1 c2 w9 k0 s3",
    ],
)
def test_every_solver_reckons_with_nothing(text: str) -> None:
    """Plans are made of problems with nothing in them; no estimate divides by their sizes."""
    problem, machine = Problem.parse(text), this_machine()
    for solver in SOLVERS:
        if solver.device != "cpu" or solver.why_not(problem) is not None:
            continue
        for config in solver.configs(problem, machine):
            assert 0 <= solver.cost(problem, config, machine) < 1, solver.name
            assert solver.workspace(problem, config) >= 0
            assert solver.error_bound(problem, config) >= 0


def test_winograd_leaves_windows_that_lie_in_the_padding() -> None:
    """All of their digits would be summed again: 200 times the time of the others."""
    solver = BY_NAME["winograd"]
    refused = "conv2d f32 n1 c2 h8 w8 k16 r3 s3 p3"
    assert "padding" in str(solver.why_not(Problem.parse(refused)))
    for text in ("conv2d f32 n1 c2 h8 w8 k16 r3 s3 p2", refused + " wrap"):
        assert solver.why_not(Problem.parse(text)) is None


def test_panels_write_in_runs_what_l2_does_not_hold() -> None:
    machine = Machine("avx512", 1, 48 << 10, 2 << 20, 32 << 20)
    assert in_runs("avx512", True, 0, False)
    assert not in_runs("avx512", False, 0, True)
    assert in_runs("avx512", True, 1, True)  # bands
    assert not in_runs("avx512", True, 1, False)
    assert not in_runs("avx2", True, 0, True)
    problem = Problem.parse("conv2d f32 n1 c24 h75 w75 k144 r1 s1")
    small = problem.replace(filters=8)
    held = Problem.parse("conv2d f32 n1 c24 h64 w64 k128 r1 s1")  # 2 MB, and then more
    for isa in core.offered_isas():
        blocks = [
            {c["weight_bytes"] for c in BY_NAME["panels"].configs(p, machine) if c["isa"] == isa}
            for p in (problem, small, held, held.replace(filters=129))
        ]
        runs = {1 if isa == "avx512" else 1 << 20}
        assert blocks == [runs, {1 << 20}, {1 << 20}, runs]


@pytest.mark.parametrize("width, bands", [(1000, 1), (60, 1 << 20)])
def test_panels_write_bands_in_runs_where_rows_are_long(width: int, bands: int) -> None:
    machine = Machine("avx512", 1, 48 << 10, 2 << 20, 32 << 20)
    p = Problem.parse(f"conv2d f32 n1 c1 h40 w{width} k400 r3 s3")
    found = [c for c in BY_NAME["panels"].configs(p, machine) if c["isa"] == "avx512"]
    if found:
        assert {c["band"]: c["weight_bytes"] for c in found} == {1: bands, 0: 1}
