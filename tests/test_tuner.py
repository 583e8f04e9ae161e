"""The tuner with made-up solvers on a clock of their own, and on the real ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastconv import _environment, _machine, _planner, _tuner
from fastconv._machine import Machine, this_machine
from fastconv._planner import Candidate
from fastconv._problem import Problem, numpy_dtype
from fastconv.solvers import BY_NAME
from fastconv.solvers.naive import Naive

PROBLEM = Problem.parse("conv2d f32 n2 c4 h7 w9 k6 r3 s3 g2 p1")


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> int:
        return int(self.now)


class FakePlan:
    """Gives naive's result, spends what it is told to, and may spoil it."""

    def __init__(self, solver: Fake, problem: Problem) -> None:
        self.solver = solver
        self.plan = BY_NAME["naive"].plan(problem, {}, this_machine())

    def pack_stored(self, w: Any) -> Any:
        self.solver.packs += 1
        self.solver.clock.now += self.solver.pack_ns
        return self.plan.pack_stored(w)

    def __call__(self, x: Any, packed: Any, bias: Any, y: Any) -> None:
        self.solver.calls += 1
        self.solver.clock.now += self.solver.ns
        self.plan(x, packed, bias, y)
        if self.solver.spoil is not None:
            self.solver.spoil(y)


class Fake(Naive):
    def __init__(
        self, clock: FakeClock, ns: float, pack_ns: float = 0,
        spoil: Callable[[Any], None] | None = None,
    ) -> None:  # fmt: skip
        self.clock, self.ns, self.pack_ns, self.spoil = clock, ns, pack_ns, spoil
        self.calls = self.packs = 0

    def plan(self, problem: Problem, config: Any, machine: Machine) -> Any:
        return FakePlan(self, problem)


class Stage:
    """Solvers a, b, c, ... and a candidate of each."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.solvers: dict[str, Fake] = {}
        self.found: list[Candidate] = []

    def add(
        self, name: str, ns: float, estimate: float | None = None, problem: Problem = PROBLEM,
        bound: float = 1e-6, workspace: int = 0, **how: Any,
    ) -> Fake:  # fmt: skip
        solver = self.solvers[name] = Fake(self.clock, ns, **how)
        seconds = ns * 1e-9 if estimate is None else estimate
        self.found.append(Candidate(problem, name, {}, seconds, workspace, bound))
        return solver

    def race(self, budget: float = 10.0, progress: Any = None) -> list[Candidate]:
        found = sorted(self.found, key=lambda c: (c.refused is not None, c.seconds))
        self.held = _tuner.race(found, this_machine(), budget, progress, clock=self.clock)
        return list(self.held)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage()
    monkeypatch.setattr(_tuner, "BY_NAME", made.solvers)
    yield made


def names(found: list[Candidate]) -> str:
    return "".join(c.method for c in found)


def test_the_fastest_wins_whatever_was_estimated(stage: Stage) -> None:
    stage.add("a", 3e6, estimate=1e-3)
    stage.add("b", 1e6, estimate=2e-3)
    stage.add("c", 2e6, estimate=3e-3)
    timed = stage.race()
    assert names(timed) == "bca"
    assert [c.source for c in timed] == ["timed"] * 3
    assert timed[0].seconds == pytest.approx(1e-3)
    assert timed[0].problem == PROBLEM and timed[0].error_bound == 1e-6


def test_ties_go_to_the_tighter_bound_then_the_smaller_workspace(stage: Stage) -> None:
    stage.add("a", 1.000e6, bound=1e-5)
    stage.add("b", 1.001e6, bound=1e-6, workspace=2)
    stage.add("c", 1.002e6, bound=1e-6, workspace=1)
    assert names(stage.race()) == "cba"


def test_ties_in_all_go_to_the_smaller_estimate(stage: Stage) -> None:
    stage.add("a", 1.002e6, estimate=1e-3)
    stage.add("b", 1.001e6, estimate=2e-3)
    stage.add("c", 1.000e6, estimate=3e-3)
    assert names(stage.race()) == "abc"


def test_the_incumbent_wins_ties_but_no_race(stage: Stage) -> None:
    for incumbent, ns, expected in (("b", 1.001e6, "b"), ("b", 1.2e6, "a"), ("x", 1.001e6, "a")):
        stage.found.clear()
        stage.add("a", 1.000e6, bound=1e-7)
        stage.add("b", ns, bound=1e-6)
        found = _tuner.race(
            stage.found, this_machine(), 10.0, incumbent=(incumbent, {}), clock=stage.clock
        )
        assert found[0].method == expected


def test_each_candidate_says_how_it_ended(stage: Stage) -> None:
    stage.add("a", 1e6)
    stage.add("b", 1.001e6)
    stage.add("c", 2e6)
    stage.add("d", 90e6)
    stage.add("w", 1e5, spoil=lambda y: y.fill(0))
    stage.race()
    assert {c.method: c.status for c in stage.held} == {
        "a": "timed", "b": "timed", "c": "dropped", "d": "untried", "w": "wrong"
    }  # fmt: skip
    for c in stage.held[:3]:
        assert c.timing is not None and c.timing.seconds == c.seconds
        assert c.first > 0 and c.estimate == pytest.approx(c.seconds)
    assert stage.held.complete


def test_a_race_cut_short_says_so(stage: Stage) -> None:
    stage.add("a", 0.3e9)
    stage.add("b", 0.31e9)
    stage.race(budget=2.0)
    assert not stage.held.complete and stage.held[0].source == "timed"


def test_hopeless_is_whatever_is_said(stage: Stage) -> None:
    for hopeless, calls in ((3.0, 0), (float("inf"), 1)):
        stage.found.clear()
        stage.add("a", 1e6)
        stage.add("b", 2e6)
        third = stage.add("c", 9e6)
        _tuner.race(stage.found, this_machine(), 10.0, hopeless=hopeless, clock=stage.clock)
        assert (third.calls > 0) == (calls > 0)


def test_pressure_is_that_of_the_race(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in which tasks waited, over the time that the race took."""
    monkeypatch.setattr(_environment, "stalled", lambda: 1000.0 + 0.3e-9 * stage.clock.now)
    stage.add("a", 1e6)
    stage.add("b", 2e6)
    stage.race()
    assert stage.held.pressure == pytest.approx(0.3)
    assert "30% of the time" in str(stage.held.why_doubted)
    monkeypatch.setattr(_environment, "stalled", lambda: None)
    stage.race()
    assert stage.held.pressure == 0.0 and stage.held.why_doubted is None


def test_what_the_system_says_about_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/pressure/cpu": "some avg10=1.00 avg60=0 avg300=0 total=2500000\nfull total=1"}
    monkeypatch.setattr(_machine, "read", lambda path: files.get(path, ""))
    assert _environment.stalled() == 2.5
    files["/proc/self/cgroup"] = "0::/a"
    files["/sys/fs/cgroup/a/cpu.pressure"] = "some avg10=0.00 avg60=0 avg300=0 total=1000000"
    assert _environment.stalled() == 1.0, "the group's own account"
    files.clear()
    assert _environment.stalled() is None


def test_a_file_system_and_whether_it_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = "d / ext4 rw 0 0\nh:/x /home nfs4 rw 0 0\nt /home/a\\040b tmpfs rw 0 0\n"
    monkeypatch.setattr(_machine, "read", lambda path: mounts)
    for path, expected in (
        ("/var/x", ("ext4", True)), ("/home/u", ("nfs4", False)), ("/homes", ("ext4", True)),
        ("/home/a b/c", ("tmpfs", True)),
    ):  # fmt: skip
        assert _environment.filesystem(path) == expected
    monkeypatch.setattr(_machine, "read", lambda path: "")
    assert _environment.filesystem("/x") == ("unknown", False)


def test_cold_calls_go_round_copies() -> None:
    """So many that a round leaves nothing of one in the last level of cache."""
    machine = this_machine()._replace(l3=20 * _tuner.scratch_bytes(PROBLEM))
    scratch = _tuner.Scratch(PROBLEM)
    rotation = scratch.rotation(machine)
    assert len(rotation) >= 40 and scratch.rotation(machine) is rotation
    assert len({x.ctypes.data for x, _, _ in rotation}) == len(rotation)
    for x, w, y in rotation[1:3]:
        np.testing.assert_array_equal(x, scratch.x)
        np.testing.assert_array_equal(w, scratch.w)
        assert x.strides == scratch.x.strides and y.shape == scratch.y.shape
    found = [c for c in _planner.candidates(PROBLEM) if c.refused is None][:2]
    assert _tuner.race(found, machine, 10.0, cold=True)[0].source == "timed"


def test_packing_counts_unless_prepared(stage: Stage) -> None:
    prepared = PROBLEM.replace(prepared=True)
    for problem, expected in ((PROBLEM, "ba"), (prepared, "ab")):
        stage.found.clear()
        a = stage.add("a", 1e6, pack_ns=5e6, problem=problem)
        b = stage.add("b", 2e6, pack_ns=1e6, problem=problem)
        assert names(stage.race()) == expected
        if problem.prepared:
            assert a.packs == b.packs == 1


def test_hopeless_estimates_are_not_tried_but_the_second_is(stage: Stage) -> None:
    stage.add("a", 1e6)
    second = stage.add("b", 40e6)
    third = stage.add("c", 41e6)
    timed = stage.race()
    assert names(timed) == "abc"
    assert second.calls > 0 and third.calls == 0
    assert [c.source for c in timed] == ["timed", "timed", "model"]
    assert timed[2].seconds == pytest.approx(41e-3)  # its estimate


@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: y.__setitem__((0, 0, 0, 0), y[0, 0, 0, 0] + 1e-3),
        lambda y: y.__setitem__((-1, -1, -1, -1), y[-1, -1, -1, -1] + 1e-3),
        lambda y: y.__setitem__(..., y * (1 + 1e-3)),
        lambda y: y.__setitem__(..., 0),
        lambda y: y.__setitem__((0, 1, 3, 4), np.nan),
        lambda y: y.__setitem__((1, 2, 5), np.inf),
        lambda y: np.lib.stride_tricks.as_strided(y, (y.size + 1,), (4,)).__setitem__(-1, 5),
    ],
    ids=["first", "last", "all a little", "zeros", "NaN", "Inf", "beyond the end"],
)
def test_the_wrong_are_dropped(stage: Stage, spoil: Any, caplog: pytest.LogCaptureFixture) -> None:
    wrong = stage.add("w", 1e5, spoil=spoil)
    stage.add("a", 1e6)
    stage.add("b", 2e6)
    found = stage.race()
    assert names(found) == "abw"
    assert found[2].refused is not None and found[2].source == "model"
    assert wrong.calls == 1
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def test_an_output_that_is_not_written_is_wrong(stage: Stage) -> None:
    y = _tuner.Scratch(PROBLEM)
    why, _ = y.why_wrong(lambda: None, 1e-6)
    assert why is not None and "not written" in why


def test_rounding_within_the_bound_is_right(stage: Stage) -> None:
    solver = stage.add("a", 1e6, bound=1e-2, spoil=lambda y: y.__imul__(1 + 1e-4))
    assert stage.race()[0].source == "timed"
    assert solver.calls > 1


def test_the_crashing_are_dropped(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def crash(y: Any) -> None:
        raise MemoryError("no room")

    stage.add("w", 1e5, spoil=crash)
    stage.add("a", 1e6)
    found = stage.race()
    assert names(found) == "aw"
    assert "MemoryError: no room" in str(found[1].refused)
    assert "no room" in caplog.text


def test_interrupting_is_not_crashing(stage: Stage) -> None:
    def interrupt(y: Any) -> None:
        raise KeyboardInterrupt

    stage.add("a", 1e6, spoil=interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.race()


def test_refused_stay_refused_and_last(stage: Stage) -> None:
    stage.add("a", 1e6)
    stage.found.append(Candidate(PROBLEM, "r", {}, 0.0, 0, 0.0, refused="because"))
    found = stage.race()
    assert names(found) == "ar" and found[1].refused == "because"
    stage.found = stage.found[1:]
    assert stage.race() == stage.found


def test_nothing_is_tried_when_one_call_is_over_budget(stage: Stage) -> None:
    solvers = [stage.add(n, 1e12) for n in "ab"]
    found = stage.race(budget=2.0)
    assert names(found) == "ab" and [s.calls for s in solvers] == [0, 0]
    assert all(c.source == "model" for c in found)


def test_budget_is_kept(stage: Stage) -> None:
    for i in range(20):
        stage.add(chr(ord("a") + i), 0.2e9 + i)
    found = stage.race(budget=2.0)
    assert len(found) == 20
    assert stage.clock.now <= 2.5e9
    timed = [c for c in found if c.source == "timed"]
    assert len(timed) >= 2 and found[: len(timed)] == timed


def test_who_would_spend_the_budget_on_memory_or_packing_is_not_begun(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spectra of 256 x 256 filters: 855 MB, 3 s to pack, and nothing was timed in 2 s."""
    problem = PROBLEM.replace(prepared=True)
    stage.add("a", ns=2e5, problem=problem)
    stage.add("b", ns=3e5, problem=problem)
    large = stage.add("c", ns=3e5, problem=problem, workspace=1 << 30)
    assert names([c for c in stage.race(2.0) if c.source == "timed"]) == "ab"
    assert large.packs == 0
    solver = BY_NAME["direct"]
    machine = this_machine()
    config = solver.configs(problem, machine)[0]
    monkeypatch.setattr(_tuner, "BY_NAME", BY_NAME)
    c = Candidate(problem, "direct", config, 1e-4, 1000, 0.0)
    whole = solver.cost(PROBLEM, config, machine) - solver.cost(problem, config, machine)
    assert _tuner._before(c, machine) == pytest.approx(whole + 1000 * _tuner._FRESH)
    unprepared = Candidate(PROBLEM, "direct", config, 1e-4, 1000, 0.0)
    assert _tuner._before(unprepared, machine) == 1000 * _tuner._FRESH


def test_a_machine_slower_than_the_model_thinks_does_not_break_the_budget(stage: Stage) -> None:
    """The last of them would take ten times what is left, as those before took ten times theirs."""
    stage.add("a", 10e6, estimate=1e-3)
    stage.add("b", 20e6, estimate=2e-3)
    last = stage.add("c", 400e6, estimate=25e-3)
    stage.race(budget=0.5)
    assert last.calls == 0 and stage.clock.now <= 0.55e9
    assert stage.held[0].source == "timed"


def test_one_of_several_is_no_comparison(stage: Stage) -> None:
    stage.add("a", 1.9e9, estimate=0.5)  # slower than was thought
    stage.add("b", 0.6e9)
    found = stage.race(budget=2.0)
    assert names(found) == "ab"
    assert [c.source for c in found] == ["model", "model"]


def test_a_winner_is_none_while_another_method_is_expected_to_be_faster(stage: Stage) -> None:
    stage.add("a", 0.6e9, estimate=0.1)
    stage.add("b", 0.7e9, estimate=0.2)
    stage.add("c", 0.3e9, estimate=0.3)  # no time is left for it
    found = stage.race(budget=1.0)
    assert names(found) == "abc"
    assert [c.source for c in found] == ["model"] * 3


def test_what_was_seen_to_be_slow_is_not_run_again(stage: Stage) -> None:
    slow = stage.add("a", 200e6, estimate=1e-4)
    stage.add("b", 1e6, estimate=2e-4)
    found = stage.race()
    assert names(found) == "ba" and slow.calls == 1
    assert found[1].source == "timed" and found[1].seconds == pytest.approx(0.2)


def test_each_method_has_a_turn_before_settings_do() -> None:
    found = [
        Candidate(PROBLEM, method, {"i": i}, 1e-3 * n, 0, 0.0)
        for n, (method, i) in enumerate([("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1)])
    ]
    order = [(c.method, c.config["i"]) for c in _tuner._by_turns(found)]
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]


def test_huge_problems_come_back_at_once() -> None:
    problem = Problem.parse("conv2d f32 n64 c4096 h8192 w8192 k4096 r3 s3 p1")
    found = [Candidate(problem, "naive", {}, 1e-3, 0, 1e-6)]  # a model that is very wrong
    assert list(_tuner.race(found, this_machine(), 1.0)) == found


@pytest.mark.parametrize("sizes", ["n0 c1 w5 k1 s3", "n1 c0 w5 k2 s3", "n1 c1 w0 k1 s1 p1"])
def test_empty_problems_are_not_timed(sizes: str) -> None:
    problem = Problem.parse(f"conv1d f32 {sizes}")
    assert all(c.source == "model" for c in _planner.tune(problem, budget=0.1))


def test_progress(stage: Stage) -> None:
    seen: list[tuple[float, str]] = []
    for name in "abc":
        stage.add(name, 1e6)
    stage.race(progress=lambda done, text: seen.append((done, text)))
    fractions = [done for done, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert seen[0][1] == "checking a" and any(text == "timing 3 candidates" for _, text in seen)


def test_bench_times_everything(stage: Stage) -> None:
    stage.add("a", 1e6)
    stage.add("b", 100e6)
    stage.add("z", 1e3, spoil=lambda y: y.fill(0))
    found = _tuner.bench(stage.found, this_machine(), 10.0, clock=stage.clock)
    assert [(c.method, t is not None) for c, t in found] == [("a", True), ("b", True), ("z", False)]
    assert found[1][1] is not None and found[1][1].seconds == pytest.approx(0.1)


# The scratch arrays and the reference, on the real solvers

PROBLEMS = (
    "conv1d f32 n1 c1 w50 k1 s3",
    "conv1d f32 n3 c4 w50 k6 s5 g2 p2:1 u2 l3 flip",
    "conv2d f64 n2 c3 h9 w8 k4 r3 s2 p4,3 e3,2 u2,1 flip",
    "conv2d c64 n2 c4 h9 w12 k4 r3 s3 g2 p3 u2 l2 mirror N*C prepared",
    "conv2d c128 n1 c2 h5 w6 k3 r2 s2 p1 constant=1.5-2j strided",
    "conv3d f32 n1 c2 d5 h6 w7 k2 t3 r2 s3 p2 wrap",
    "conv2d f32 n1 c1 h1 w5 k1 r3 s3 p4 mirror",
    "conv2d f32 n1 c1 h2 w5 k1 r3 s3 p7 reflect",
    "conv4d f32 n1 c2 i3,4,5,3 k2 f2,3,1,2 p1 nearest",
    "conv1d f32 n1 c3 w50 k2 s5 x:bf16 w:bf16 y:bf16",
    "conv1d f32 n1 c3 w50 k2 s5 x:f16 w:f16 y:f16 strided",
    "conv1d f64 n1 c3 w50 k2 s5 x:u8 y:u8",
    "conv1d f80 n1 c2 w30 k1 s4 p2",
    "conv1d i64 n1 c1 w90 k1 s7 flip",
    "conv1d u8 n2 c2 w40 k2 s3 p3 constant=200",
    "conv1d i8 n1 c2 w40 k2 s9 y:i32",
    "conv2d bool n1 c2 h9 w9 k2 r2 s2 p1 nearest",
)


@pytest.mark.parametrize("text", PROBLEMS)
def test_reference_agrees_with_naive_and_notices_one_wrong_output(text: str) -> None:
    problem = Problem.parse(text)
    scratch = _tuner.Scratch(problem)
    assert scratch.x.shape == problem.x_shape and scratch.w.shape == problem.w_shape
    assert scratch.y.shape == problem.y_shape
    assert scratch.x.dtype == numpy_dtype(problem.x_dtype)
    for a in (scratch.x, scratch.w):
        assert np.isfinite(a).all() and len(np.unique(a)) > 1
    solver = BY_NAME["naive"]
    plan = solver.plan(problem, {}, this_machine())
    bound = solver.error_bound(problem, {})

    def run() -> None:
        plan(scratch.x, plan.pack_stored(scratch.w), None, scratch.y)

    assert scratch.why_wrong(run, bound)[0] is None
    last = tuple(s - 1 for s in problem.y_shape)

    def run_and_spoil() -> None:
        run()
        value = scratch.y[last]
        wrong = ~value if problem.y_dtype == "bool" else value + scratch.y.dtype.type(3)
        scratch.y[last] = wrong

    assert scratch.why_wrong(run_and_spoil, bound)[0] is not None


@pytest.mark.parametrize(("layout", "flag"), [("NC*", True), ("N*C", False), ("strided", False)])
def test_scratch_has_the_layout(layout: str, flag: bool) -> None:
    from fastconv._engine import layout_of

    problem = PROBLEM.replace(layout=layout)
    scratch = _tuner.Scratch(problem)
    assert layout_of(scratch.x) == layout
    assert scratch.x.flags.c_contiguous is flag


def test_scratch_is_the_same_each_time_and_nowhere_repeats_by_row() -> None:
    a, b = _tuner.Scratch(PROBLEM), _tuner.Scratch(PROBLEM)
    np.testing.assert_array_equal(a.x, b.x)
    big = _tuner.Scratch(Problem.parse("conv1d f32 n2 c3 w70000 k1 s1"))
    rows = big.x.reshape(6, -1)
    assert len({row.tobytes() for row in rows}) == 6


def test_scratch_bytes() -> None:
    problem = Problem.parse("conv1d f32 n2 c3 w10 k4 s1 x:f16 w:f16 y:f64")
    scratch = _tuner.Scratch(problem)
    assert _tuner.scratch_bytes(problem) == (scratch.x.nbytes + scratch.w.nbytes + scratch.y.nbytes)


def test_every_solver_passes_the_gate() -> None:
    for text in ("conv2d f32 n1 c8 h12 w12 k8 r3 s3 p1", "conv1d f64 n1 c1 w500 k1 s40 flip"):
        problem = Problem.parse(text)
        found = _planner.candidates(problem)
        legal = {(c.method, str(c.config)) for c in found if c.refused is None}
        after = _tuner.race(found, this_machine(), 10.0)
        assert {(c.method, str(c.config)) for c in after if c.refused is None} == legal
        assert after[0].source == "timed"
