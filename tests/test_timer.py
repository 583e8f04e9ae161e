"""The timer on a clock that only moves when a function says so: no test here waits."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fastconv import _timer


class FakeClock:
    """Nanoseconds that functions spend; `drift` makes everything slower as time goes by."""

    def __init__(self, step: int = 1, drift: float = 0.0) -> None:
        self.now = 0.0
        self.step = step
        self.drift = drift

    def __call__(self) -> int:
        return int(self.now) // self.step * self.step

    def spend(self, nanoseconds: float) -> None:
        self.now += nanoseconds * (1 + self.drift * self.now * 1e-9)


class Work:
    """A function that takes `ns`, now and then interrupted; the first call may be slow."""

    def __init__(
        self, clock: FakeClock, ns: float, noise: float = 0.0, seed: int = 0, spikes: float = 0.0
    ) -> None:
        self.clock, self.ns, self.noise, self.spikes = clock, ns, noise, spikes
        self.random = random.Random(seed)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        ns = self.ns * (1 + self.noise * self.random.random())
        if self.random.random() < self.spikes:
            ns *= 20
        self.clock.spend(ns)


def seconds(timing: _timer.Timing | None) -> float:
    assert timing is not None
    return timing.seconds


def test_the_clock_is_monotonic() -> None:
    times = [_timer.clock() for _ in range(100)]
    assert times == sorted(times)
    assert 1 <= _timer.tick() < 1_000_000_000


def test_tick_finds_the_step_of_a_coarse_clock() -> None:
    clock = FakeClock(step=1000)

    def reading() -> int:
        clock.now += 300
        return clock()

    assert _timer.tick(reading) == 1000
    assert _timer.tick(lambda: 5) == 1  # a clock that stands still


def test_deadline() -> None:
    clock = FakeClock()
    deadline = _timer.Deadline(1.0, clock)
    assert deadline.left == 1.0 and not deadline.passed
    clock.now = 1e9
    assert deadline.passed and deadline.spent == 1.0
    clock.now = 1e18
    assert not _timer.Deadline(None, clock).passed


@pytest.mark.parametrize(
    ("values", "quarters"),
    [([5.0], (5.0, 5.0, 5.0)), ([2.0, 1.0], (1.0, 1.0, 1.0)),
     ([5.0, 1.0, 4.0, 2.0, 3.0], (2.0, 3.0, 4.0))],
)  # fmt: skip
def test_quartile(values: list[float], quarters: tuple[float, ...]) -> None:
    assert tuple(_timer.quartile(values, q) for q in (1, 2, 3)) == quarters


def test_short_calls_are_repeated_until_a_sample_is_long_enough() -> None:
    clock = FakeClock()
    short, long = Work(clock, 7_000), Work(clock, 6_000_000)
    of_short, of_long = _timer.compare([short, long], rounds=4, clock=clock)
    assert of_short.calls * 7_000 >= _timer.SAMPLE_NS
    assert of_short.calls * 7_000 < 2 * _timer.SAMPLE_NS
    assert of_short.seconds == pytest.approx(7e-6)
    assert of_long.calls == 1
    assert long.calls == 1 + 1 + 4  # to warm up, to calibrate (a sample too), a round each
    assert of_long.samples == 5


def test_samples_last_many_ticks_of_a_coarse_clock() -> None:
    clock = FakeClock(step=1_000_000)  # a millisecond

    def reading() -> int:  # reading takes time, or no step would ever be seen
        clock.now += 50_000
        return clock()

    (timing,) = _timer.compare([Work(clock, 100_000)], rounds=2, clock=reading)
    assert timing.calls * 100_000 >= 0.9 * _timer.SAMPLE_TICKS * 1_000_000
    assert timing.seconds == pytest.approx(1e-4, rel=0.05)


def test_a_clock_that_stands_still_ends() -> None:
    (timing,) = _timer.compare([lambda: None], rounds=1, clock=lambda: 0)
    assert timing.seconds == 0


def test_one_interruption_in_eight_does_not_show() -> None:
    clock = FakeClock()
    functions = [Work(clock, 300_000, spikes=1 / 8, seed=i) for i in range(3)]
    for timing in _timer.compare(functions, rounds=25, clock=clock):
        assert timing.seconds == pytest.approx(3e-4)
        assert timing.lowest <= timing.seconds <= timing.median <= timing.upper


def test_interleaving_cancels_drift() -> None:
    # time grows by half over the test; blocks one after another would see about a third of that
    clock = FakeClock(drift=25.0)
    a, b = _timer.compare([Work(clock, 300_000), Work(clock, 300_000)], rounds=31, clock=clock)
    assert clock.now > 0.02e9
    assert a.median == pytest.approx(b.median, rel=0.03)


def test_compare_is_deterministic() -> None:
    def once() -> list[_timer.Timing]:
        clock = FakeClock()
        return _timer.compare(
            [Work(clock, 1e5, noise=0.5, seed=i) for i in range(4)], rounds=9, clock=clock
        )

    assert once() == once()


def test_compare_keeps_to_its_budget_but_times_everything_once() -> None:
    clock = FakeClock()
    functions = [Work(clock, 1e9) for _ in range(3)]
    timings = _timer.compare(functions, rounds=100, budget=8.0, clock=clock)
    assert [t.samples >= 1 for t in timings] == [True] * 3
    assert clock.now <= 9e9
    timings = _timer.compare(functions, rounds=100, budget=0.0, clock=clock)
    assert [t.samples for t in timings] == [1] * 3


def test_compare_settles_before_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a function's first call after a rest costs more is in no sample but the first."""
    clock = FakeClock()
    rests: list[float] = []
    monkeypatch.setattr(_timer.time, "sleep", rests.append)

    class Sleepy(Work):
        def __call__(self) -> None:
            self.calls += 1
            clock.spend(9e6 if len(rests) != getattr(self, "seen", 0) else 1e6)
            self.seen = len(rests)

    work = Sleepy(clock, 0)
    (timing,) = _timer.compare([work], rounds=5, clock=clock, settle=0.25)
    assert rests == [0.25] * 5 and work.calls == 1 + 1 + 2 * 5
    assert timing.upper == pytest.approx(1e-3)
    (timing,) = _timer.compare([work], rounds=5, clock=clock)
    assert len(rests) == 5


def ranked(
    nanoseconds: list[float], noise: float = 0.0, budget: float | None = None,
    prefer: Callable[[int], object] | None = None,
) -> tuple[_timer.Ranking, list[Work], FakeClock]:  # fmt: skip
    clock = FakeClock()
    works = [Work(clock, ns, noise, seed=i) for i, ns in enumerate(nanoseconds)]
    result = _timer.rank(works, budget=budget, clock=clock, prefer=prefer or (lambda i: i))
    return result, works, clock


def test_rank_finds_the_fastest() -> None:
    result, _, _ = ranked([5e5, 3e5, 9e5, 4e5], noise=0.02)
    assert result.order[:2] == (1, 3)
    assert seconds(result.timings[1]) == pytest.approx(3e-4, rel=0.03)
    assert result.noise < 0.03


def test_rank_spends_little_on_the_slow() -> None:
    _, works, _ = ranked([1e6, 1.01e6, 2e6, 5e6, 50e6, 500e6], noise=0.05)
    calls = [work.calls for work in works]
    assert calls[5] == 1  # over ten times the leader: once, never again
    assert calls[4] == 3  # the same, but that might have been an interruption
    assert calls[3] <= 3  # screened out
    assert calls[2] <= 1 + 2 + _timer.STAGES[0]  # leaves at the first decision


def test_an_interruption_does_not_cost_the_fastest_its_place() -> None:
    clock = FakeClock()
    slow = Work(clock, 30e3)
    fast = Work(clock, 20e3)

    def interrupted_once() -> None:
        fast()
        if fast.calls == 1:
            clock.spend(5e6)

    assert _timer.rank([slow, interrupted_once], clock=clock).order == (1, 0)
    assert _timer.rank([slow, fast], seen=[30e-6, 5e-3], clock=clock).order == (1, 0)


@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_who_was_left_behind_does_not_win_when_the_machine_changes_pace(factor: float) -> None:
    """Those who stay are timed at another pace than those who left."""

    class Changing(FakeClock):
        def spend(self, nanoseconds: float) -> None:
            self.now += nanoseconds * (1 if self.now < 40e6 else factor)

    clock = Changing()
    works = [Work(clock, ns, 0.01, seed=i) for i, ns in enumerate((1.1e6, 1.014e6, 1e6))]
    result = _timer.rank(works, clock=clock, prefer=lambda i: -i)
    assert clock.now > 45e6, "the pace has changed"
    assert result.order == (2, 1, 0) and result.finalists <= {1, 2}
    fast, slow = seconds(result.timings[2]), seconds(result.timings[0])
    assert slow / fast == pytest.approx(1.1, rel=0.02)


def test_uncertainty_is_twice_the_error_of_a_median() -> None:
    rng = random.Random(0)
    medians = []
    told = []
    for _ in range(400):
        values = [rng.gauss(0, 1) for _ in range(64)]
        medians.append(_timer.quartile(values, 2))
        told.append(_timer.uncertainty(values))
    actual = 2 * (sum(m * m for m in medians) / len(medians)) ** 0.5
    assert sum(told) / len(told) == pytest.approx(actual, rel=0.1)
    assert _timer.uncertainty([1.0, 2.0]) == 0 == _timer.uncertainty([1.0] * 9)


def test_a_slow_first_function_does_not_hide_a_fast_one() -> None:
    result, _, _ = ranked([50e6, 1e6])
    assert result.order == (1, 0)


def test_ties_are_broken_by_preference_not_by_noise() -> None:
    for seed in range(5):
        times = [1e6 * (1 + 0.002 * ((i * 7 + seed) % 3)) for i in range(4)]
        result, _, _ = ranked(times, noise=0.02, prefer=lambda i: (i != 2, i))
        assert result.order[0] == 2


def test_a_preferred_function_that_is_slower_does_not_win() -> None:
    result, _, _ = ranked([1e6, 1.2e6], noise=0.02, prefer=lambda i: -i)
    assert result.order == (0, 1)


def test_noise_floor_is_seen() -> None:
    quiet, _, _ = ranked([1e6, 1.001e6], noise=0.0)
    noisy, _, _ = ranked([1e6, 1.001e6], noise=1.0)
    assert quiet.noise == 0.0
    assert noisy.noise > 0.05


def test_rank_keeps_to_its_budget() -> None:
    result, works, clock = ranked([1e9] * 10, budget=3.5)
    assert clock.now <= 4.0e9
    assert len(result.order) == 4
    assert result.timings[9] is None and works[9].calls == 0
    result, _, _ = ranked([1e9, 1e9], budget=0.0)
    assert result.order == (0,)


def test_rank_does_not_call_what_was_seen_to_be_hopeless() -> None:
    clock = FakeClock()
    works = [Work(clock, 1e6), Work(clock, 500e6), Work(clock, 1.5e6)]
    result = _timer.rank(works, seen=[1e-3, 0.5, 1e-3], clock=clock)
    assert result.order == (0, 2, 1)
    assert works[1].calls == 0 and seconds(result.timings[1]) == 0.5


def test_a_disturbed_machine_gets_as_many_passes_again() -> None:
    def calls(disturbed: bool, noise: float) -> int:
        clock = FakeClock()
        works = [Work(clock, 1e6, noise, seed=i) for i in range(2)]
        result = _timer.rank(works, clock=clock, disturbed=lambda: disturbed)
        assert result.complete and result.finalists == {0, 1}
        return works[0].calls + works[1].calls

    quiet = calls(False, 0.0)
    assert calls(True, 0.0) > 1.8 * quiet
    asked: list[bool] = []
    clock = FakeClock()
    noisy = [Work(clock, 1e6, 2.0, seed=i) for i in range(2)]
    result = _timer.rank(noisy, clock=clock, disturbed=lambda: asked.append(True) or False)
    assert result.noise > _timer.NOISY and not asked, "noise alone is reason enough"


def test_what_was_left_behind_is_no_finalist() -> None:
    result, _, _ = ranked([1e6, 1.005e6, 5e6])
    assert result.finalists == {0, 1} and result.complete
    result, _, _ = ranked([1e9] * 10, budget=3.5)
    assert not result.complete


def test_no_sample_ends_further_from_the_deadline_than_it_began() -> None:
    for budget in (4.1, 4.6, 5.0, 7.3, 12.9):
        _, _, clock = ranked([1e9, 1.01e9], budget=budget)
        assert abs(clock.now * 1e-9 - budget) <= 0.51


def test_rank_of_one_and_of_none() -> None:
    assert ranked([1e6])[0].order == (0,)
    assert ranked([])[0] == _timer.Ranking((), (), 0.0)


def test_progress_grows_to_at_most_one() -> None:
    clock = FakeClock()
    seen: list[float] = []
    works = [Work(clock, 1e6 * (1 + 0.01 * i)) for i in range(3)]
    _timer.rank(works, clock=clock, progress=seen.append)
    _timer.compare(works, rounds=5, clock=clock, progress=seen.append)
    assert seen and all(0 <= done <= 1 for done in seen)
    assert seen[-1] == 1


def test_date_sorts_as_time_does() -> None:
    assert len(_timer.date()) == len("2000-01-01 00:00:00")
    assert "2020" < _timer.date()
