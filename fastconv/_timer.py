"""The only clock of the package: interleaved timing of functions that do the same work.

A function timed in a block of its own measures the machine's drift as much as itself, and one
interruption ruins a mean. So samples of all functions interleave in shuffled passes, what is
reported of each is its lower quartile, and the leader runs twice a pass: how far it is from itself
is the noise floor, below which no difference is believed.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

#: Nanoseconds from any origin, never running backwards.
Clock = Callable[[], int]

clock: Clock = time.perf_counter_ns

#: A sample lasts at least this long and this many steps of the clock: reading the clock twice costs
#: about 0.1 us, and one step more or less is then at most 2 %.
SAMPLE_NS = 200_000
SAMPLE_TICKS = 50

#: A function whose call takes this many times the leader's leaves at once.
HOPELESS = 10.0

#: Unless its call was shorter than this: then it has two more chances, for a process that the
#: system sets aside misses some milliseconds.
CHANCE_SECONDS = 0.1

#: After two samples each, those this many times slower than the leader leave.
SCREEN = 3.0

#: Passes before each decision on who leaves; they add up.
STAGES = (3, 5, 9, 17)

#: Differences below this are ties even where the noise is lower.
TIE = 0.02

#: A function leaves when it is slower by more than this and by more than twice the noise.
MARGIN = 0.03

#: Where the leader is further than this from itself, passes are made once more, and when that does
#: not help the result is not believed. Also the share of time that tasks may wait for a core.
NOISY = 0.05
PRESSED = 0.20

_MOST_CALLS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call, as seen in several samples.

    Attributes
    ----------
    seconds : float
        Lower quartile over the samples: the time of an undisturbed call.
    median, upper, lowest : float
        Median, upper quartile and minimum.
    samples, calls : int
        How many samples there were, and calls in each.
    """

    seconds: float
    median: float
    upper: float
    lowest: float
    samples: int
    calls: int


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What `rank` found.

    Attributes
    ----------
    order : tuple of int
        Indices of the functions that were timed, fastest first.
    timings : tuple of Timing or None
        Of every function; None when the budget ended before its turn.
    noise : float
        How far the leader was from itself, relative; 0 when it was never tried.
    finalists : frozenset of int
        Those that were timed to the end, not left behind as slower.
    complete : bool
        Whether the passes came to their end, and not the budget.
    """

    order: tuple[int, ...]
    timings: tuple[Timing | None, ...]
    noise: float
    finalists: frozenset[int] = frozenset()
    complete: bool = True


def date() -> str:
    """Date and time, UTC, for the record; never to take differences of."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())


def after_rest(function: Callable[[], Any], seconds: float, clock: Clock = clock) -> float:
    """Seconds of one call after so long a rest, in which threads fall asleep."""
    time.sleep(seconds)
    start = clock()
    function()
    return (clock() - start) * 1e-9


class Deadline:
    """A number of seconds from now on; None is for ever."""

    def __init__(self, seconds: float | None, clock: Clock = clock) -> None:
        self._clock = clock
        self._start = clock()
        self.seconds = math.inf if seconds is None else seconds

    @property
    def spent(self) -> float:
        return (self._clock() - self._start) * 1e-9

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    @property
    def passed(self) -> bool:
        return self.left <= 0


def tick(clock: Clock = clock) -> int:
    """Nanoseconds of the smallest step that the clock is seen to make."""
    best, last = 0, clock()
    for _ in range(200):
        now = clock()
        if now > last:
            best = min(best or now - last, now - last)
        last = now
    return max(best, 1)


def quartile(values: Sequence[float], quarter: int) -> float:
    """The value below which `quarter` quarters of the others lie, never interpolated."""
    return sorted(values)[(len(values) - 1) * quarter // 4]


class _Runner:
    """One function and its samples, in seconds a call, by the pass they were taken in."""

    def __init__(self, function: Callable[[], Any], clock: Clock) -> None:
        self._function = function
        self._clock = clock
        self.calls = 1
        self.samples: list[float] = []
        self.passes: dict[int, float] = {}

    def _run(self, calls: int) -> int:
        function = self._function
        start = self._clock()
        for _ in range(calls):
            function()
        return self._clock() - start

    def calibrate(self, sample_ns: int, hopeless: float = math.inf) -> bool:
        """Find the calls per sample; False when a call takes more than `hopeless` seconds.

        The last trial is the first sample: a slow function is not called once more for nothing.
        """
        chances = 2
        while True:
            elapsed = self._run(self.calls)
            seconds = elapsed * 1e-9 / self.calls
            if seconds > hopeless and chances and elapsed * 1e-9 < CHANCE_SECONDS:
                chances -= 1
                continue
            if elapsed >= sample_ns or seconds > hopeless or self.calls >= _MOST_CALLS:
                self.samples.append(seconds)
                return seconds <= hopeless
            wanted = math.ceil(1.2 * self.calls * sample_ns / max(elapsed, 1))
            # a first guess is from a call or two: approach in steps
            self.calls = min(max(self.calls + 1, min(wanted, 10 * self.calls)), _MOST_CALLS)

    def sample(self, number: int, settle: float | None = None) -> None:
        if settle is not None:
            time.sleep(settle)
            self._function()
        seconds = self._run(self.calls) * 1e-9 / self.calls
        self.samples.append(seconds)
        self.passes[number] = seconds

    @property
    def seconds(self) -> float:
        return quartile(self.samples, 1)

    @property
    def sample_seconds(self) -> float:
        """What one more sample is expected to take; 0 when there was none."""
        return self.seconds * self.calls if self.samples else 0.0

    def timing(self) -> Timing | None:
        if not self.samples:
            return None
        return Timing(
            seconds=self.seconds,
            median=quartile(self.samples, 2),
            upper=quartile(self.samples, 3),
            lowest=min(self.samples),
            samples=len(self.samples),
            calls=self.calls,
        )

    def log_ratios(self, other: _Runner) -> list[float]:
        """log(self / other) of each pass both were in; where the clock stood still, 1 ns passed."""
        return [
            math.log(max(s, 1e-9) / max(other.passes[n], 1e-9))
            for n, s in self.passes.items()
            if n in other.passes
        ]


def _sample_ns(clock: Clock) -> int:
    return max(SAMPLE_NS, SAMPLE_TICKS * tick(clock))


def compare(
    functions: Sequence[Callable[[], Any]],
    *,
    rounds: int = 15,
    budget: float | None = None,
    settle: float | None = None,
    seed: int = 0,
    clock: Clock = clock,
    progress: Callable[[float], None] | None = None,
) -> list[Timing]:
    """Time all of several functions to the end, interleaved.

    Parameters
    ----------
    functions : sequence of callables without arguments
        Each is called once before it is timed.
    rounds : int
        Passes; every pass takes one sample of each function in a new shuffled order.
    budget : float, optional
        Seconds after which no further sample is taken; each function has at least one.
    settle : float, optional
        Seconds to sleep before each sample, after which the function is called once untimed: its
        data are in cache again and its threads awake. The sleep is for functions of different
        thread pools, whose idle workers spin for a while on a core that the next function needs.
    seed : int
        Of the shuffling.
    clock : callable
        Nanoseconds; tests pass their own.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    list of Timing
        In the order of `functions`.

    Examples
    --------
    >>> from fastconv._timer import compare
    >>> by_sum, by_len = compare([lambda: sum([1] * 3000), lambda: len([1] * 3000)], rounds=3)
    >>> by_sum.samples == by_len.samples
    True
    """
    deadline = Deadline(budget, clock)
    sample_ns = _sample_ns(clock)
    runners = [_Runner(f, clock) for f in functions]
    for function, runner in zip(functions, runners):
        function()
        runner.calibrate(sample_ns)
    shuffle = random.Random(seed).shuffle
    for number in range(rounds):
        order = runners.copy()
        shuffle(order)
        for runner in order:
            if deadline.passed:
                break
            runner.sample(number, settle)
        if progress is not None:
            progress(min(1.0, max((number + 1) / rounds, deadline.spent / deadline.seconds)))
    timings = [runner.timing() for runner in runners]
    return [t for t in timings if t is not None]


def rank(
    functions: Sequence[Callable[[], Any]],
    *,
    seen: Sequence[float] | None = None,
    budget: float | None = None,
    prefer: Callable[[int], Any] = lambda index: index,
    disturbed: Callable[[], bool] = lambda: False,
    seed: int = 0,
    clock: Clock = clock,
    progress: Callable[[float], None] | None = None,
) -> Ranking:
    """Find the fastest of several functions, spending little on those that are not.

    Parameters
    ----------
    functions : sequence of callables without arguments
        The likeliest winner first; all called before, so that nothing is built in a timed call.
    seen : sequence of float, optional
        Seconds that this first call of each took. One that took long and is hopeless by it is not
        called again.
    budget : float, optional
        Seconds after which no further sample is taken. The first function has at least one.
    prefer : callable
        Key of an index by which ties are broken, least first.
    disturbed : callable
        Whether others want the machine; then, as where the leader is far from itself, all passes
        are made once more.
    seed, clock, progress
        As in `compare`.

    Returns
    -------
    Ranking
    """
    deadline = Deadline(budget, clock)
    sample_ns = _sample_ns(clock)
    runners = [_Runner(f, clock) for f in functions]
    live: list[_Runner] = []
    leader_seconds = math.inf
    for runner, first in zip(runners, seen or [0.0] * len(runners)):
        if first > max(CHANCE_SECONDS, HOPELESS * leader_seconds):
            runner.samples.append(first)
            continue
        if live and deadline.left < first / 2:
            break
        if runner.calibrate(sample_ns, HOPELESS * leader_seconds):
            live.append(runner)
        leader_seconds = min(leader_seconds, runner.samples[0])
    number = 0
    shuffle = random.Random(seed).shuffle
    twins: list[float] = []

    def one_pass(twin: _Runner | None) -> bool:
        nonlocal number
        order = live if twin is None else [*live, twin]
        order = order.copy()
        shuffle(order)
        for runner in order:
            if deadline.left < runner.sample_seconds / 2:
                return False  # it would end further from the deadline than we are now
            runner.sample(number)
        number += 1
        if progress is not None:
            total = 2 + sum(STAGES)
            progress(min(1.0, max(number / total, deadline.spent / deadline.seconds)))
        return True

    in_time = all(one_pass(None) for _ in range(2)) if len(live) > 1 else True
    leader_seconds = min((r.seconds for r in live), default=math.inf)
    live = [r for r in live if r.seconds <= SCREEN * leader_seconds]
    noise = 0.0

    def stage(passes: int) -> None:
        """Some passes with the leader's twin among them; then the slower leave."""
        nonlocal live, noise, in_time
        leader = min(live, key=lambda r: r.seconds)
        twin = _Runner(leader._function, clock)
        twin.calls = leader.calls
        in_time = all(one_pass(twin) for _ in range(passes))
        twins.extend(map(abs, twin.log_ratios(leader)))
        noise = quartile(twins, 2) if twins else 0.0
        leader = min(live, key=lambda r: r.seconds)
        live = [
            r
            for r in live
            if r is leader
            or quartile(r.log_ratios(leader) or [0.0], 1) <= max(math.log1p(MARGIN), 2 * noise)
        ]

    for passes in STAGES:
        if not in_time or len(live) < 2:
            break
        stage(passes)
        leader_seconds = min(r.seconds for r in live)
        if all(r.seconds <= leader_seconds * (1 + max(TIE, noise)) for r in live):
            break
    if in_time and len(live) > 1 and (noise > NOISY or disturbed()):
        twins.clear()
        stage(number)
    timed = [i for i, r in enumerate(runners) if r.samples]
    timed.sort(key=lambda i: (runners[i].seconds, i))
    if timed:
        # those still running that cannot be told from the fastest
        limit = runners[timed[0]].seconds * (1 + max(TIE, noise))
        tied = [i for i in timed if runners[i] in live and runners[i].seconds <= limit]
        tied.sort(key=lambda i: (prefer(i), i))
        timed = tied + [i for i in timed if i not in tied]
    finalists = frozenset(i for i in timed if runners[i] in live)
    timings = tuple(r.timing() for r in runners)
    return Ranking(tuple(timed), timings, noise, finalists, in_time and None not in timings)
