"""The only clock of the package: interleaved timing of functions that do the same work.

A function timed in a block of its own measures the machine's drift as much as itself, and one
interruption ruins a mean. So samples of all functions interleave in shuffled passes, and functions
are compared within passes: what slows a whole pass slows all of them. The leader runs twice a pass:
how far it is from itself is the noise floor, below which no difference is believed.
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

#: Passes before each decision on who leaves, beside the two of the screening; they add up. Of 8
#: passes 7 must speak against a function: of 5, 4 did by chance.
STAGES = (6, 9, 17)

#: As long as it is open who is within MARGIN of the leader, there are more, up to so many in all.
MOST_PASSES = 2 * sum(STAGES)

#: Passes from which the spread of differences is known well enough to go by.
_KNOWN = 16

#: Differences below this are ties; and those that are sure to be there, but do not matter.
TIE = 0.02
_SURELY_SLOWER = 0.01

#: A function leaves when it is slower by more than this in three quarters of the passes, and by
#: more than twice what the leader is from its twin.
MARGIN = 0.03

#: Where the noise is above this, passes are made once more, and when that does
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
        Lower quartile over the samples: the time of an undisturbed call. `rank` has that of the
        fastest, and of others what they took in the same passes in proportion.
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
        How well two equal functions can be told from each other, relative: twice the standard error
        of the leader's distance from itself; 0 when it was never tried.
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


def uncertainty(values: Sequence[float]) -> float:
    """Twice the standard error of the median of values, by their median distance from it.

    1.4826 times that is the deviation of normal ones, and the error of their median 1.2533 times
    that of their mean (Huber and Ronchetti, Robust Statistics, 2nd ed., 2009). 0 for less than 3.
    """
    if len(values) < 3:
        return 0.0
    middle = quartile(values, 2)
    spread = 1.4826 * quartile([abs(v - middle) for v in values], 2)
    return 2 * 1.2533 * spread / math.sqrt(len(values))


def _levels(runners: Sequence[_Runner]) -> dict[_Runner, float]:
    """Logarithm of the seconds of each that was sampled, less what slowed whole passes.

    Passes and functions are told apart by medians in turn (Tukey, Exploratory Data Analysis, 1977,
    chapter 11), so that functions compare that were in different passes.
    """
    logs = {
        r: {n: math.log(max(s, 1e-9)) for n, s in r.passes.items()} for r in runners if r.samples
    }
    levels = {
        r: quartile(list(log.values()), 2) if log else math.log(max(r.seconds, 1e-9))
        for r, log in logs.items()
    }
    for _ in range(3):
        by_pass: dict[int, list[float]] = {}
        for r, log in logs.items():
            for n, value in log.items():
                by_pass.setdefault(n, []).append(value - levels[r])
        slower = {n: quartile(values, 2) for n, values in by_pass.items()}
        for r, log in logs.items():
            if log:
                levels[r] = quartile([value - slower[n] for n, value in log.items()], 2)
    return levels


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
            total = 2 + MOST_PASSES
            progress(min(1.0, max(number / total, deadline.spent / deadline.seconds)))
        return True

    in_time = all(one_pass(None) for _ in range(2)) if len(live) > 1 else True
    leader_seconds = min((r.seconds for r in live), default=math.inf)
    live = [r for r in live if r.seconds <= SCREEN * leader_seconds]
    noise = 0.0
    is_open = len(live) > 1

    def stage(passes: int) -> None:
        """Some passes with the leader's twin among them; then the slower leave."""
        nonlocal live, noise, in_time, is_open
        levels = _levels(live)
        leader = min(live, key=levels.__getitem__)
        twin = _Runner(leader._function, clock)
        twin.calls = leader.calls
        in_time = all(one_pass(twin) for _ in range(passes))
        twins.extend(twin.log_ratios(leader))
        noise = uncertainty(twins)
        spread = quartile([abs(d) for d in twins], 2) if twins else 0.0
        for n in twin.passes.keys() & leader.passes.keys():  # of its two samples the mean
            leader.passes[n] = math.sqrt(leader.passes[n] * twin.passes[n])
        levels = _levels(live)
        leader = min(live, key=levels.__getitem__)
        left, is_open = [leader], False
        for r in live:
            behind = r.log_ratios(leader) or [0.0]
            sure, known = uncertainty(behind), len(behind) >= _KNOWN
            middle = quartile(behind, 2)
            slow = quartile(behind, 1) > max(math.log1p(MARGIN), 2 * spread)
            if r is leader or slow or (known and middle - sure > _SURELY_SLOWER):
                continue
            left.append(r)
            is_open |= not known or middle + sure > math.log1p(MARGIN)
        live = [r for r in live if r in left]

    for passes in STAGES:
        if in_time and is_open:
            stage(passes)
    while in_time and is_open and number < MOST_PASSES:
        stage(STAGES[-1])
    if in_time and len(live) > 1 and (noise > NOISY or disturbed()):
        twins.clear()
        stage(min(number, sum(STAGES)))
    levels = _levels(runners)
    timings = [r.timing() for r in runners]
    timed = [i for i, r in enumerate(runners) if r.samples]
    # who was left behind was so beside the others: its own seconds may be of a faster minute
    timed.sort(key=lambda i: (runners[i] not in live, levels[runners[i]], i))
    if timed:
        best = runners[timed[0]]
        for i in timed:
            if runners[i].passes and (timing := timings[i]) is not None:
                seconds = best.seconds * math.exp(levels[runners[i]] - levels[best])
                timings[i] = dataclasses.replace(timing, seconds=seconds)
        # those still running that cannot be told from the fastest
        limit = levels[best] + math.log1p(TIE)
        tied = [i for i in timed if runners[i] in live and levels[runners[i]] <= limit]
        tied.sort(key=lambda i: (prefer(i), i))
        timed = tied + [i for i in timed if i not in tied]
    finalists = frozenset(i for i in timed if runners[i] in live)
    return Ranking(tuple(timed), tuple(timings), noise, finalists, in_time and None not in timings)
