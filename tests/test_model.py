"""The cost model: floors, what is passed over, trees, training, calibration."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import fastconv
from fastconv import _calibration, _cli, _model, _planner, _timer, _training, _trials
from fastconv._calibration import Calibration
from fastconv._ext import core
from fastconv._machine import Machine, this_machine
from fastconv._model import FEATURES
from fastconv._problem import BOUNDARIES, LAYOUTS, Problem, numpy_dtype
from fastconv._trials import Trial
from fastconv.solvers import BY_NAME, SOLVERS, _blocks
from tests.problems import PROBLEMS
from tests.strategies import problems

ROOT = pathlib.Path(fastconv.__file__).parent.parent
LAYER = Problem.parse("conv2d f32 n1 c64 h28 w28 k64 r3 s3 p1")
SIGNALS = [
    "conv1d f32 n1 c1 w65536 k1 s1024",
    "conv1d f64 n3 c2 w999 k2 s40 p7:3 u3 reflect",
    "conv2d f32 n1 c1 h300 w200 k1 r25 s31 p12,15",
    "conv2d c64 n2 c3 h64 w80 k2 r1 s9",
    "conv3d f32 n1 c2 d40 h30 w50 k2 t5 r7 s9 p1",
    "conv2d f64 n1 c1 h120 w90 k1 r9 s1 wrap p4,0",
    "conv3d f64 n1 c1 d9 h20 w24 k1 t2 r3 s3",
    "conv2d f32 n1 c2 h90 w90 k2 r5 s5 u3 prepared",
    "conv1d i32 n1 c1 w9000 k1 s70 u2 prepared",
]


# ---- the planner's short way ---------------------------------------------------------------------


@pytest.mark.parametrize("text", [*PROBLEMS[::5], *SIGNALS])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_floor_is_below_every_estimate(text: str, threads: int) -> None:
    problem, machine = Problem.parse(text).replace(threads=threads), this_machine()
    for solver in SOLVERS:
        floor = solver.floor(problem, machine)
        assert floor >= 0
        if solver.why_not(problem) is None:
            costs = [solver.cost(problem, c, machine) for c in solver.configs(problem, machine)]
            assert floor <= min(costs)


@pytest.mark.parametrize("text", PROBLEMS[::3])
def test_solvers_for_whole_numbers_alone_take_no_others(text: str) -> None:
    """Nor the reverse: `_leading` does not ask them."""
    problem = Problem.parse(text)
    for solver in SOLVERS:
        if solver.device == "cpu" and solver.exact is (not problem.is_exact):
            assert solver.why_not(problem) is not None


@given(problems())
def test_estimates_grow_with_the_problem(problem: Problem) -> None:
    """Twice the images take no less, and little more than twice as long; packing takes time."""
    machine = this_machine()
    twice, packed = problem.replace(batch=2 * problem.batch), problem.replace(prepared=True)
    for solver in SOLVERS:
        if solver.why_not(problem) is not None or "block" in (
            config := solver.configs(problem, machine)[-1]
        ):  # blocks depend on the problem
            continue
        one, two, less = (solver.cost(p, config, machine) for p in (problem, twice, packed))
        assert 0 < one <= two * (1 + 1e-9) and math.isfinite(two), solver.name
        assert two <= 2.5 * one and less <= one * (1 + 1e-9), solver.name


@pytest.mark.parametrize("text", [
    "conv2d f32 n64 c64 h56 w56 k64 r3 s3 p1", "conv2d f32 n64 c64 h28 w28 k32 r4 s4 p2 e2",
    "conv2d f64 n64 c48 h57 w40 k96 r1 s1 u2", "conv2d f32 n64 c96 h30 w30 k96 r3 s3 g96 p1",
    "conv2d f32 n64 c32 h12 w12 k32 r10 s10", "conv2d f32 n64 c3 h90 w80 k3 r5 s5 g3 p2 rank1",
    "conv2d u8 n64 c64 h28 w28 k64 r3 s3 p1", "conv3d f32 n64 c16 d9 h20 w20 k16 t3 r3 s3",
    "conv2d f32 n64 c32 h20 w20 k32 r4 s4 g32 p2 e2", "conv2d c64 n64 c16 h30 w30 k16 r3 s3",
])  # fmt: skip
def test_estimates_are_of_all_images(text: str) -> None:
    problem = Problem.parse(f"{text} prepared")
    machine = this_machine()._replace(l1=32 << 10, l2=1 << 20, l3=2 << 20)  # of no use
    twice = problem.replace(batch=2 * problem.batch)
    for solver in SOLVERS:
        if solver.why_not(problem) is None:
            for config in solver.configs(problem, machine):
                if "block" not in config:
                    one, two = (solver.cost(p, config, machine) for p in (problem, twice))
                    assert 1.6 * one < two < 2.5 * one, (solver.name, config)


@pytest.mark.parametrize("text", [
    "conv2d f32 n1 c96 h112 w112 k96 r3 s3 g96 p1 u2", "conv2d f32 n1 c64 h28 w28 k64 r3 s3 p1",
    "conv1d f32 n2 c64 w900 k64 s4 g64 p3",
])  # fmt: skip
def test_layers_of_16_bits_are_estimated_as_what_they_are_widened_to(text: str) -> None:
    """With their conversions, where these are a solver's own."""
    wide, machine = Problem.parse(f"{text} prepared"), this_machine()
    half = Problem.parse(f"{text} x:f16 w:f16 y:f16 prepared")
    samples = math.prod(wide.x_shape) + math.prod(wide.y_shape)
    for solver in SOLVERS:
        if solver.why_not(half) is None:
            more = samples * _planner._CONVERTED if solver.reads_stored(half) else 0.0
            for config in solver.configs(half, machine):
                both = (solver.cost(p, config, machine) for p in (half, wide))
                assert next(both) <= next(both) + more, solver.name


@pytest.mark.parametrize("text", SIGNALS)
def test_offered_blocks_are_the_best_of_all(text: str) -> None:
    """The arrays agree with the blocks that they stand for, one by one."""
    problem = Problem.parse(text)
    if problem.is_exact:  # its blocks are those of its digits
        problem = problem.replace(dtype="f64", x_dtype="", w_dtype="", y_dtype="")
    cuts = [(shape, n, False) for shape, n in _blocks.shapes(problem)]
    if not problem.is_complex:
        cuts += [(shape, n, True) for shape, n in _blocks.shapes(problem, 2)]
    every = {}
    for shape, n, halves in cuts:
        layout = tuple(_blocks._axis(problem, d, n.get(d, 1)) for d in range(problem.ndim))
        prepared = _blocks.Blocks(shape, layout, problem.replace(prepared=True), halves)
        ns = _blocks._nanoseconds(prepared)
        rest = _blocks._LEFT_OVER if prepared.shared else 1
        in_two = prepared.pairs // 2 + prepared.pairs % 2 * rest
        every[shape, halves] = ns, ns / prepared.pairs * in_two
    found = [every[b.shape, b.halves] for b in _blocks.offered(problem).values()]
    assert 1 <= len(found) <= 4
    for by in 0, 1:  # the time of one thread, and of two that share pairs of blocks
        best = sorted(cost[by] for cost in every.values())[:2]
        assert sorted(cost[by] for cost in found)[: len(best)] == pytest.approx(best, rel=1e-12)


def test_what_is_derived_goes_along_to_other_threads() -> None:
    problem = LAYER.replace()
    assert problem.out == (28, 28) and _blocks.offered(problem)
    other = problem.on(2)
    assert other == LAYER.replace(threads=2) and hash(other) == hash(LAYER.replace(threads=2))
    assert problem.threads == 1 and problem.on(1) is problem
    assert _blocks.offered(other) is _blocks.offered(problem)
    assert str(other) == f"{LAYER} threads2" and other.replace().__dict__.get("_known") is None
    assert pickle.loads(pickle.dumps(other)) == other


def test_candidates_passed_over_come_last() -> None:
    machine = this_machine()
    leading = _planner._leading(LAYER, machine, SOLVERS)
    names = {solver.name for solver, *_ in leading}
    assert 1 < len(names) < len(SOLVERS)
    legal = [(c.method, c.config) for c in _planner.candidates(LAYER) if c.refused is None]
    ours = [(solver.name, config) for solver, config, _ in leading]
    assert len(ours) < len(legal) and all(c in ours for c in legal[: len(ours)])
    assert not any(c in ours for c in legal[len(ours) :])


def test_narrow_vectors_are_passed_over_where_they_are_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One estimate of an instruction set tells, whatever the order of the configs."""
    wide, narrow = {"isa": "avx2"}, {"isa": "baseline"}
    configs = [{**isa, "copy": copy} for copy in (0, 1, 2) for isa in (wide, narrow)]
    solver = BY_NAME["implicit_gemm"]
    monkeypatch.setattr(solver, "configs", lambda problem, machine: configs)
    costs = {"avx2": 1.0}
    monkeypatch.setattr(solver, "cost", lambda problem, config, machine: costs[config["isa"]])
    for costs["baseline"], expected in ((2.0, 4), (1.0, 6), (0.5, 6)):
        leading = _planner._leading(LAYER, this_machine(), [solver])
        assert len(leading) == expected and leading[0] == (solver, configs[0], 1.0)
        assert {c["copy"] for _, c, _ in leading if c["isa"] == "avx2"} == {0, 1, 2}


def test_solvers_whose_best_guess_is_expected_far_off_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what is expected, not by the estimate; their other settings are not estimated."""
    near, far = BY_NAME["direct"], BY_NAME["implicit_gemm"]
    asked: list[Any] = []

    def costs(name: str) -> Any:
        return lambda problem, config, machine: asked.append((name, config)) or 1.0

    for solver in near, far:
        monkeypatch.setattr(solver, "cost", costs(solver.name))
        monkeypatch.setattr(solver, "floor", lambda problem, machine: 0.0)
    times = {near.name: 1.0}
    monkeypatch.setattr(
        _planner, "_expected", lambda problem, machine, found: [times[s.name] for s, *_ in found]
    )
    guess = far.configs(LAYER, this_machine())[0]
    for times[far.name], stays in ((2.9, True), (3.1, False)):
        asked.clear()
        leading = _planner._leading(LAYER, this_machine(), [far, near])
        assert near in [solver for solver, *_ in leading]
        assert (far in [solver for solver, *_ in leading]) == stays
        assert ([c for name, c in asked if name == far.name] == [guess]) == (not stays)


# ---- trees ---------------------------------------------------------------------------------------


def walked(model: dict[str, Any], method: str, features: list[float]) -> float:
    """A correction by walking each tree."""
    total = 0.0
    for of, thresholds, leaves in model["solvers"][method]:
        leaf = 0
        for f, threshold in zip(of, thresholds):
            leaf = 2 * leaf + (features[f] > threshold)
        total += leaves[leaf]
    return total


def log2(value: float) -> float:
    return math.log2(value) if value > 1 else 0.0


@pytest.mark.parametrize("text", [*PROBLEMS, "conv2d f16 n0 c6 h9 w8 k4 r3 s2 g2 e2,3 N*C"])
def test_features_are_what_they_are_called(text: str) -> None:
    p = Problem.parse(text)
    found = dict(zip(core.PROBLEM_FEATURES, core.problem_features(p), strict=True))
    assert found == pytest.approx({
        "flops": log2(p.flops), "taps": log2(p.taps), "channels": log2(p.channels / p.groups),
        "filters": log2(p.filters / p.groups), "groups": log2(p.groups), "batch": log2(p.batch),
        "columns": log2(p.out[-1]), "rows": log2(math.prod(p.out[:-1])),
        "kernel": log2(math.prod(p.kernel)), "last kernel": log2(p.kernel[-1]),
        "axes": len([r for r in p.kernel if r > 1]), "stride": log2(math.prod(p.stride)),
        "last stride": p.stride[-1], "dilation": p.dilation[-1],
        "input dilation": log2(math.prod(p.input_dilation)),
        "padding": log2(1 + p.padding[-1][0]), "boundary": BOUNDARIES.index(p.boundary),
        "itemsize": p.itemsize, "parts": 2 if p.is_complex else 1, "exact": float(p.is_exact),
        "x itemsize": numpy_dtype(p.x_dtype).itemsize,
        "y itemsize": numpy_dtype(p.y_dtype).itemsize, "layout": LAYOUTS.index(p.layout),
        "flip": float(p.flip), "rank": p.rank, "prepared": float(p.prepared),
        "x": log2(math.prod(p.x_shape)), "w": log2(math.prod(p.w_shape)),
        "y": log2(math.prod(p.y_shape)), "size": log2(p.size[-1]),
    })  # fmt: skip


@pytest.mark.parametrize("isa", sorted(_model.model()))
def test_trees_are_walked_all_at_once(isa: str) -> None:
    model = json.loads((ROOT / "fastconv" / "model.json").read_text())["isas"][isa]
    machine = this_machine()._replace(isa=isa)
    found = [
        (s.name, config, s.cost(LAYER, config, machine))
        for s in SOLVERS
        if s.name in model["solvers"] and s.why_not(LAYER) is None
        for config in s.configs(LAYER, machine)
    ]
    of_problem = core.problem_features(LAYER)
    assert len(of_problem) == len(core.PROBLEM_FEATURES)
    corrected = _model.correct(LAYER, machine, found, _model.model())
    for (method, config, cost), seconds in zip(found, corrected):
        features = of_problem + core.candidate_features(LAYER, config, cost)
        assert len(features) == len(FEATURES)
        assert seconds == pytest.approx(cost * math.exp(walked(model, method, features)))
    assert any(seconds != cost for (*_, cost), seconds in zip(found, corrected))


def test_other_instruction_sets_are_not_corrected() -> None:
    """Trees that no trial of an instruction set went into say nothing about it."""
    found = [("direct", {"isa": "avx512"}, 1e-3), ("im2col", {}, 2e-3), ("unknown", {}, 3e-3)]
    model = _model.model()
    for isa in {"avx512", "neon", "baseline"} - set(model):
        machine = this_machine()._replace(isa=isa)
        assert _model.correct(LAYER, machine, found, model) == [1e-3, 2e-3, 3e-3]


def test_a_solver_without_trials_is_corrected_as_the_others_are() -> None:
    machine = this_machine()._replace(isa="avx2")
    found = [("direct", {"isa": "avx2"}, 1e-3), ("im2col", {}, 2e-3), ("im2col", {}, 3e-3)]
    *known, new = _model.correct(LAYER, machine, [*found, ("new", {}, 1e-3)], _model.model())
    factors = sorted(seconds / cost for (*_, cost), seconds in zip(found, known))
    assert factors[0] <= new / 1e-3 <= factors[-1]


@pytest.mark.parametrize(
    "change",
    [{"solvers": {"direct": [[[999], [0.0], [0, 0]]]}}, {"levels": "three"},
     {"solvers": {"direct": [[[0], [0.0], [math.nan, 0.0]]]}}, {"solvers": 7}],
)  # fmt: skip
def test_a_damaged_model_is_refused(change: dict[str, Any]) -> None:
    part = {"levels": 1, "solvers": {"direct": [[[0], [0.0], [0.0, 0.0]]]}}
    model = {"version": _model.VERSION, "features": list(FEATURES), "isas": {"avx2": part}}
    assert _model.read(model)["avx2"].levels == 1
    bad = [{**model, "isas": {"avx2": {**part, **change}}}, {**model, "version": 0}]
    for damaged in (*bad, {**model, "features": ["flops"]}, {**model, "isas": ["avx2"]}):
        with pytest.raises((ValueError, TypeError, KeyError)):
            _model.read(damaged)


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A directory of wisdom, and nothing remembered of another."""
    monkeypatch.setenv("FASTCONV_WISDOM", str(tmp_path / "wisdom.db"))
    _model.model.cache_clear()
    _calibration.known.cache_clear()
    yield tmp_path
    _model.model.cache_clear()
    _calibration.known.cache_clear()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 7}', "[" * 5000, "\x00"])
def test_damage_costs_time_only(place: pathlib.Path, text: str) -> None:
    before = _planner.candidates(LAYER)
    for name in ("model.json", "calibration.json"):
        (place / name).write_text(text)
    _model.model.cache_clear()
    _calibration.known.cache_clear()
    assert _planner.candidates(LAYER) == before


# ---- training ------------------------------------------------------------------------------------


def made_up(seed: int, count: int) -> list[Trial]:
    """Trials of a machine on which im2col takes a tenth of its estimate, and fft ten times."""
    machine = this_machine()._replace(isa="avx2")
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        c, k, size = (int(n) for n in rng.integers(4, 65, 3))
        p = Problem.parse(f"conv2d f32 n1 c{c} h{size} w{size} k{k} r3 s3 p1")
        rows = []
        for method, factor in (("im2col", 0.1), ("fft", 10.0), ("direct", 1.0)):
            solver = BY_NAME[method]
            config = dict(solver.configs(p, this_machine())[0])
            seconds = factor * solver.cost(p, config, machine) * math.exp(rng.normal(0, 0.02))
            rows.append((method, config, solver.revision, seconds))
        found.append(Trial(p, machine, tuple(rows)))
    return found


def test_training_lessens_the_regret_of_what_it_has_not_seen() -> None:
    trials, others = made_up(0, 60), made_up(1, 30)
    model = _training.fit(trials)
    (part,), (again,) = (m["isas"].values() for m in (model, _training.fit(trials)))
    assert part == {**again, "trained": part["trained"]}, "the same each time"
    read = _model.read(json.loads(json.dumps(model)))
    before, after = (_training.regrets(others, m) for m in (None, read))
    assert np.mean(np.log(before)) > 0.5 and np.mean(np.log(after)) < 0.01
    with pytest.raises(ValueError, match="got none"):
        _training.fit([])


def test_candidates_there_no_longer_are_teach_nothing() -> None:
    (trial,) = made_up(0, 1)
    rows = [("im2col", {}, 999, 1.0), ("gone", {}, 1, 1.0), ("direct", {"isa": "z80"}, 1, 1.0)]
    assert _training.timed(dataclasses.replace(trial, timed=tuple(rows))) == []
    assert _training.regrets([dataclasses.replace(trial, timed=tuple(rows))], None) == []


def test_trials_are_lines_that_read_back(tmp_path: pathlib.Path) -> None:
    trials = made_up(3, 2)
    path = tmp_path / "trials.jsonl"
    path.write_text("".join(t.line() + "\n" for t in trials))
    for written, found in zip(trials, _trials.load(path), strict=True):
        assert (found.problem, found.machine) == (written.problem, written.machine)
        for mine, theirs in zip(written.timed, found.timed):
            assert mine[:3] == theirs[:3] and mine[3] == pytest.approx(theirs[3], rel=1e-3)
    path.write_text(trials[0].line() + "\n{}\n")
    with pytest.raises(ValueError, match="line 2 is no trial"):
        _trials.load(path)


def test_random_problems_are_the_same_for_a_seed() -> None:
    one, two = _trials.random_problems(5), _trials.random_problems(5)
    found = [next(one) for _ in range(12)]
    assert found == [next(two) for _ in range(12)] and len(set(found)) == 12
    assert {p.threads for p in found} == {1}


def test_a_trial_is_recorded() -> None:
    problem = Problem.parse("conv1d f32 n1 c2 w200 k4 s5 prepared")
    for trial in _trials.record(problem, (1, 2), 0.02):  # none where the machine is busy
        assert trial.problem in (problem, problem.replace(threads=2))
        assert all(seconds > 0 for *_, seconds in trial.timed)


def test_shipped_trials_are_read() -> None:
    trials = _trials.load(ROOT / "bench" / "trials" / "held.jsonl.gz")
    assert len({t.problem.on(1) for t in trials}) >= 150
    learnt = _trials.load(ROOT / "bench" / "trials" / "train.jsonl.gz")
    assert len({t.problem.on(1) for t in learnt}) >= 300
    assert not {t.problem.on(1) for t in trials} & {t.problem.on(1) for t in learnt}


@pytest.mark.parametrize("isa", sorted(_model.model()))
@pytest.mark.parametrize("threads", [1, 2])
def test_regret_over_recorded_trials(threads: int, isa: str) -> None:
    """An estimate was changed, or a solver added? `fastconv train`: docs/cost_model.md."""
    if isa not in core.isas() or (isa == "avx512" and core.amx_absent()):
        pytest.skip(f"not all candidates of the trials with {isa} are candidates here")
    trials = _trials.load(ROOT / "bench" / "trials" / "held.jsonl.gz")
    trials = [t for t in trials if (t.problem.threads, t.machine.isa) == (threads, isa)]
    found = _training.regrets(trials, _model.model())
    assert len(found) >= 150
    assert np.exp(np.mean(np.log(found))) <= 1.10 and np.percentile(found, 95) <= 1.5


# ---- calibration ---------------------------------------------------------------------------------

NOMINAL = Calibration(
    {"f32": 1e11}, dict.fromkeys(_calibration.COPIES, 1e10), 1e10, 5e-6, {"im2col": 1.0}
)


def test_a_calibration_reads_back(place: pathlib.Path) -> None:
    assert _calibration.known() is None
    assert _calibration.remember(NOMINAL) and _calibration.known() == NOMINAL
    entry = json.loads((place / "calibration.json").read_text())
    other = {"of another machine": 1, **entry}
    (place / "calibration.json").write_text(json.dumps(other))
    assert _calibration.remember(NOMINAL)
    assert "of another machine" in json.loads((place / "calibration.json").read_text())
    for bad in ({"transforms": 0}, {"copies": {"x": 1}}, {"version": 0}, {"waking": -2.0}):
        with pytest.raises((ValueError, TypeError)):
            Calibration.of({**NOMINAL.as_json(), **bad})


def test_a_place_that_cannot_be_written_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(_calibration, "path", lambda: tmp_path / "file" / "calibration.json")
    assert not _calibration.remember(NOMINAL)
    monkeypatch.setattr(_calibration, "path", lambda: None)
    assert not _calibration.remember(NOMINAL)


def test_estimates_are_scaled_by_what_the_machine_does() -> None:
    machine = Machine("avx2", 2, 1 << 15, 1 << 19, 1 << 20)
    slow = dataclasses.replace(
        NOMINAL, solvers={"im2col": 3.0}, waking=25e-6,
        copies=dict.fromkeys(_calibration.COPIES, 2e9),
    )  # fmt: skip

    def scale(text: str, here: Calibration, there: Calibration | None) -> float:
        return _calibration.scale(Problem.parse(text), "im2col", {}, 1e-3, machine, here, there)

    small = "conv2d f32 n1 c8 h16 w16 k8 r3 s3"
    assert scale(small, NOMINAL, NOMINAL) == 1
    assert scale(small, slow, NOMINAL) == pytest.approx(3)
    assert scale(small, slow, None) == pytest.approx(3)
    assert scale(f"{small} threads2", slow, NOMINAL) == pytest.approx(3 + 20e-6 / 1e-3)
    # 2 * 512 * 512 * 4 bytes at 1e10 a second are 0.21 of a millisecond, and take five times that
    moved = 2 * 512 * 512 * 4 / 1e10 / 1e-3
    assert scale("conv2d f32 n1 c1 h512 w512 k1 r1 s1", slow, NOMINAL) == pytest.approx(
        3 * (1 - moved) + 5 * moved
    )


def test_the_planner_scales(place: pathlib.Path) -> None:
    before = {(c.method, str(c.config)): c.seconds for c in _planner.candidates(LAYER)}
    _calibration.remember(dataclasses.replace(NOMINAL, solvers={"im2col": 2.0}))
    model = _model.model()
    there = model[this_machine().isa].calibration if this_machine().isa in model else None
    factor = 2.0 / (there.solvers.get("im2col", 1.0) if there else 1.0)
    for c in _planner.candidates(LAYER):
        if c.method == "im2col":
            expected = factor * before[c.method, str(c.config)]
            assert c.seconds == pytest.approx(expected)


def test_what_is_deterministic_depends_on_no_measurement(place: pathlib.Path) -> None:
    problem = LAYER.replace(deterministic=True)
    before = _planner.choose(problem).candidate
    _calibration.remember(dataclasses.replace(NOMINAL, solvers={before.method: 1e3}))
    model = _training.fit(made_up(0, 24))
    (place / "model.json").write_text(json.dumps(model))
    _model.model.cache_clear()
    assert _model.model()["avx2"].trained == model["isas"]["avx2"]["trained"]
    assert _planner.choose(problem).candidate == before


def test_the_machine_is_probed_by_command_only(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    calm: None,
) -> None:  # fmt: skip
    calls = []

    def measure() -> Calibration:
        calls.append(1)
        return NOMINAL

    monkeypatch.setattr(_calibration, "measure", measure)
    fastconv.convolve(np.ones(30), np.ones(3))
    with fastconv.autotune("measure", budget=0.05):
        fastconv.convolve(np.ones(31), np.ones(3))
    assert not calls
    text = "conv1d f32 n1 c1 w64 k1 s3"
    for _ in range(2):
        assert _cli.main(["tune", text, "--budget", "1"]) == 0
        assert len(calls) == 1, "once a machine"
    assert _cli.main(["calibrate", "--json"]) == 0 and len(calls) == 2


def test_train_by_command(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "trials.jsonl"
    path.write_text("".join(t.line() + "\n" for t in made_up(0, 24)))
    assert _cli.main(["train", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["regret"]
    assert told["corrected"]["geometric mean"] < told["estimates"]["geometric mean"]
    assert _model.model()["avx2"].trained.endswith("24 trials"), "what was learnt here is in use"
    assert _cli.main(["train", str(place / "none.jsonl")]) == 2 == _cli.main(["train"])


def test_what_tuning_has_timed_is_learnt_from(place: pathlib.Path, calm: None) -> None:
    assert _trials.of_wisdom() == []
    problem = Problem.parse("conv1d f32 n1 c4 w512 k8 s5")
    timed = [c for c in _planner.tune(problem, budget=0.2) if c.source == "timed"]
    (trial,) = _trials.of_wisdom()
    assert trial.problem == problem and trial.machine == this_machine()
    assert {method for method, *_ in trial.timed} == {c.method for c in timed}


def test_the_probe_takes_its_two_seconds() -> None:
    """What it measures is told of in the units that it promises; and a rest is a rest."""
    found = _calibration.measure()
    assert 1e8 < found.products["f32"] < 1e13 and 1e8 < found.copies[1 << 27] < 1e13
    assert {key.partition(" ")[0] for key in found.solvers} <= set(BY_NAME)
    assert Calibration.of(json.loads(json.dumps(found.as_json()))) == found
    ticks = iter([0, 5_000])
    assert _timer.after_rest(lambda: None, 0.0, lambda: next(ticks)) == 5e-6
