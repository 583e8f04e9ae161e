"""Timing the candidates of one problem, each of which must be right before it is timed."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from fastconv import _environment, _timer
from fastconv._machine import Machine, free_memory
from fastconv._problem import Array, Problem, numpy_dtype
from fastconv._solver import bind, on_threads
from fastconv.cuda import launch
from fastconv.cuda import scratch as gpu
from fastconv.solvers import BY_NAME

if TYPE_CHECKING:
    from fastconv._planner import Candidate
    from fastconv._wisdom import Progress

_log = logging.getLogger("fastconv")

#: Copies of a problem's arrays take this many times the last level of cache, so that a cold call
#: finds nothing of its own there; and no more copies than this, where arrays are small.
_COLD = 2
_MOST_COPIES = 256

#: A winner is believed in spite of noise when it is ahead by this many times as much.
AHEAD = 4.0

#: Candidates expected to take this many times the best expectation are not tried: of 3412 recorded
#: trials the fastest was expected at up to 4.3 times, by estimates alone at over 10 in 0.3 %. The
#: best of two methods always are.
HOPELESS_ESTIMATE = 10.0

#: Scratch data repeats after this many elements: a prime, so that no row or channel equals another.
_PERIOD = 65521

#: Elements of y's dtype on either side of y that no candidate may touch.
_GUARD = 64

#: Seconds a byte that memory takes which a process has not had before: packed weights of 855 MB
#: took 3.04 s the first time and 0.45 after that (a virtual machine, whose host maps pages, too).
_FRESH = 3e-9

#: Products that checking one problem's outputs may take, and those multiplied at once.
_CHECK_PRODUCTS = 1 << 22


class Scratch:
    """Arrays of a problem's shapes, dtypes and memory order, filled with seeded finite noise."""

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.problem = problem
        self.x = _strided(problem.x_shape, numpy_dtype(problem.x_dtype), problem.layout)
        self.w = np.empty(problem.w_shape, numpy_dtype(problem.w_dtype))
        largest = _fill(self.x, rng)
        _fill(self.w, rng)
        if problem.nonnegative:
            np.abs(self.x, out=self.x)
            np.abs(self.w, out=self.w)
        if problem.rank:
            self.w[...] = 1 if problem.box else _outer_product(self.w)
        if problem.rank > 1:  # terms of one sign, which cannot cancel
            rows = abs(self.w) * rng.uniform(0.5, 1, (problem.rank, *self.w.shape))
            self.w[...] = sum(map(_outer_product, rows))
        if problem.y_dtype[0] in "iu" and self.w.dtype.kind == "f":
            # a weighted mean of x, which fits where x does
            self.w[...] = np.abs(self.w) / max(1, problem.taps)
        dtype = numpy_dtype(problem.y_dtype)
        size = math.prod(problem.y_shape)
        self._guarded = np.empty(size + 2 * _GUARD, dtype)
        self.y = self._guarded[_GUARD:-_GUARD].reshape(problem.y_shape)
        self._poison = np.ones(1, dtype)
        if problem.y_dtype != "bool":
            self._poison = np.frombuffer(b"\xa5" * dtype.itemsize, dtype)
        self._reference = _Reference(problem, self.x, self.w, largest, rng)
        self._rotation: list[tuple[Array, Array, Array]] = []

    def rotation(self, machine: Machine) -> list[tuple[Array, Array, Array]]:
        """Copies of x, w and y, so many that a round through them leaves nothing in cache."""
        if not self._rotation:
            size = scratch_bytes(self.problem)
            count = min(_MOST_COPIES, 1 + _COLD * machine.l3 // max(1, size))
            count = max(1, min(count, free_memory() // 4 // max(1, size)))
            self._rotation = [(self.x, self.w, self.y)] + [
                (self.x.copy("K"), self.w.copy(), self.y.copy()) for _ in range(count)
            ]
        return self._rotation

    @property
    def given(self) -> tuple[Any, Any, Any]:
        """What a plan is called with: x, w and y."""
        return self.x, self.w, self.y

    def settle(self) -> None:
        """Until what was started is done: on the CPU it is."""

    def why_wrong(
        self, run: Callable[[], Any], bound: float, clock: _timer.Clock = _timer.clock
    ) -> tuple[str | None, float]:
        """Run once; None when what it wrote to `y` is right within `bound`, else what is not.

        Also the seconds that the run took.
        """
        self._guarded[...] = self._poison
        if self.y.dtype.kind not in "biu":
            self.y[...] = np.nan
        edges = (self._guarded[:_GUARD], self._guarded[-_GUARD:])
        before = [edge.tobytes() for edge in edges]
        watch = _timer.Deadline(None, clock)
        run()
        seconds = watch.spent
        if [edge.tobytes() for edge in edges] != before:
            return "it wrote beyond its output", seconds
        return self._reference.why_wrong(self.y, bound), seconds


class GpuScratch(Scratch):
    """The same on a GPU: results come back to be checked, and a call ends when the GPU is done."""

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        super().__init__(problem, seed)
        self._x, self._w = gpu.Scratch.holding(self.x), gpu.Scratch.holding(self.w)
        self._whole = gpu.Scratch.holding(self._guarded)
        self._y = self._whole[_GUARD:-_GUARD].reshape(problem.y_shape)

    @property
    def given(self) -> tuple[Any, Any, Any]:
        return self._x, self._w, self._y

    def rotation(self, machine: Machine) -> list[tuple[Array, Array, Array]]:
        return []  # one set of arrays: what is small is timed from the L2 cache

    def settle(self) -> None:
        launch.driver().wait(self._x.stream)

    def why_wrong(
        self, run: Callable[[], Any], bound: float, clock: _timer.Clock = _timer.clock
    ) -> tuple[str | None, float]:
        def there_and_back() -> None:
            self._whole.upload(self._guarded)
            run()
            self._whole.download(self._guarded)

        return super().why_wrong(there_and_back, bound, clock)


def _outer_product(w: Array) -> Array:
    """The outer product, for each filter, of its lines through its first sample."""
    spatial = range(2, w.ndim)
    lines = [w[tuple(slice(None if d in (0, 1, axis) else 1) for d in range(w.ndim))]
             for axis in spatial]  # fmt: skip
    product: Array = math.prod(lines[1:], start=lines[0])
    return product


def scratch_bytes(problem: Problem) -> int:
    """Memory that `Scratch` takes."""
    shapes = (
        (problem.x_shape, problem.x_dtype),
        (problem.w_shape, problem.w_dtype),
        (problem.y_shape, problem.y_dtype),
    )
    return sum(math.prod(shape) * numpy_dtype(dtype).itemsize for shape, dtype in shapes)


def _strided(shape: tuple[int, ...], dtype: np.dtype[Any], layout: str) -> Array:
    if layout == "N*C":
        return np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)
    if layout == "strided":  # the commonest kind: a crop of something wider
        return np.empty((*shape[:-1], shape[-1] + 16), dtype)[..., : shape[-1]]
    return np.empty(shape, dtype)


def _fill(a: Array, rng: np.random.Generator) -> float:
    """Noise of unit range, signed where the dtype is; integers up to 1000, to look like data.

    Returns the largest magnitude.
    """
    count = min(_PERIOD, max(1, a.size))
    kind = a.dtype.kind
    noise: Array
    if kind == "b":
        noise = rng.integers(0, 2, count).astype(a.dtype)
    elif kind in "iu":
        info = np.iinfo(a.dtype)
        noise = rng.integers(max(info.min, -1000), min(info.max, 1000) + 1, count).astype(a.dtype)
    else:
        noise = rng.uniform(-1, 1, count)
        if kind == "c":
            noise = noise + 1j * rng.uniform(-1, 1, count)
        noise = noise.astype(a.dtype)
    # row by row: no temporary of a's size
    position = 0
    flat = a.reshape(-1) if a.flags.c_contiguous else None
    rows = [flat] if flat is not None else (a[i] for i in np.ndindex(a.shape[:-1]))
    for row in rows:
        done = 0
        while done < row.shape[0]:
            some = min(row.shape[0] - done, count - position)
            row[done : done + some] = noise[position : position + some]
            done += some
            position = (position + some) % count
    return float(np.abs(noise).max())


def _sources(problem: Problem, axis: int, o: int) -> Array:
    """Index into x along an axis of each tap of output o; -1 where x is not read."""
    n, e = problem.size[axis], problem.input_dilation[axis]
    t = np.arange(problem.kernel[axis], dtype=np.int64) * problem.dilation[axis]
    t += o * problem.stride[axis] - problem.padding[axis][0]
    if problem.boundary in ("zeros", "constant"):
        inside = (t >= 0) & (t <= (n - 1) * e)
        return np.where(inside & (t % e == 0), t // e, -1)
    if problem.boundary == "nearest":
        return np.clip(t, 0, n - 1)
    if problem.boundary == "wrap":
        return t % n
    if problem.boundary == "reflect":
        t %= 2 * n
        return np.where(t < n, t, 2 * n - 1 - t)
    if n == 1:
        return np.zeros_like(t)
    t %= 2 * n - 2
    return np.where(t < n, t, 2 * n - 2 - t)


class _Reference:
    """Some outputs of a problem by the definition, in a dtype at least twice as precise."""

    def __init__(
        self, problem: Problem, x: Array, w: Array, largest: float, rng: np.random.Generator
    ) -> None:
        self._problem = problem
        wide = {"f32": "f64", "f64": "f80", "c64": "c128", "c128": "c160"}
        name = wide.get(problem.dtype, problem.accumulator)
        self._dtype = numpy_dtype(name)
        if problem.is_exact:
            self._eps = 0.0
        else:
            self._eps = float(np.finfo(self._dtype).eps)
        self._positions = self._choose(rng)
        self._values = np.array(
            [self._output(x, w, position) for position in self._positions], self._dtype
        )
        if problem.boundary == "constant":
            largest = max(largest, abs(problem.cval))
        # B of docs/accuracy.md, by output
        self._scale = np.array(
            [largest * float(np.abs(w[p[1]].astype(self._dtype)).sum()) for p in self._positions]
        )

    def _choose(self, rng: np.random.Generator) -> list[tuple[int, ...]]:
        """The first and the last output, and others at ends, where mistakes live, and within."""
        shape = self._problem.y_shape
        count = max(2, min(64, _CHECK_PRODUCTS // self._problem.taps))
        chosen = [(0,) * len(shape), tuple(s - 1 for s in shape)]
        while len(chosen) < count:
            where = [(0, s - 1, int(rng.integers(s)), int(rng.integers(s))) for s in shape]
            chosen.append(tuple(w[int(rng.integers(4))] for w in where))
        return list(dict.fromkeys(chosen))

    def _output(self, x: Array, w: Array, position: tuple[int, ...]) -> Any:
        p = self._problem
        n, k, *where = position
        channels = p.channels // p.groups
        first = k // (p.filters // p.groups) * channels
        taps = w[k]
        if p.flip:
            taps = np.flip(taps, tuple(range(1, taps.ndim)))
        sources = [_sources(p, axis, o) for axis, o in enumerate(where)]
        total = self._dtype.type(0)
        beyond = _cast(p.cval if p.boundary == "constant" else 0, self._dtype)
        # in slices of the first kernel axis: a window may be as large as x
        step = max(1, _CHECK_PRODUCTS // max(1, p.taps // p.kernel[0]))
        for start in range(0, p.kernel[0], step):
            part = [sources[0][start : start + step], *sources[1:]]
            index = np.ix_(np.arange(first, first + channels), *part)
            window = x[n][index].astype(self._dtype)
            outside = functools.reduce(np.logical_or, (i < 0 for i in index))
            window = np.where(outside, beyond, window)
            products = window * taps[:, start : start + step].astype(self._dtype)
            total = total + products.sum(dtype=self._dtype)
        return total

    def why_wrong(self, y: Array, bound: float) -> str | None:
        p = self._problem
        if y.dtype.kind not in "biu" and not np.isfinite(y).all():
            return "an output is not finite or was not written"
        got: Array = y[tuple(np.array(self._positions).T)]
        if p.dtype == "bool":
            ok = got.astype(bool) == (self._values != 0)
        elif p.is_exact:
            ok = got == self._values.astype(y.dtype)
        else:
            slack = 2.0 * p.taps * self._eps
            size = np.abs(self._values).astype(float)
            allowed = (bound + slack) * self._scale
            values = self._values
            if p.y_dtype[0] in "iu":
                # truncated when stored, and undefined out of range
                info = np.iinfo(y.dtype)
                fits = (values.real >= info.min) & (values.real <= info.max)
                got, values = got[fits], values[fits]
                allowed = allowed[fits] + 1
            else:
                narrow = _finfo(y.dtype)
                allowed = allowed + float(narrow.eps) * size + float(narrow.smallest_subnormal)
            ok = np.abs(got.astype(self._dtype) - values) <= allowed
        if ok.all():
            return None
        index = int(np.argmin(ok))
        return f"output {self._positions[index]} is {got[index]}, expected {self._values[index]}"


def _cast(value: Any, dtype: np.dtype[Any]) -> Any:
    """A constant as the engine stores it: integers wrap."""
    if dtype.kind in "iu":
        return np.array(int(value) & (2 ** (8 * dtype.itemsize) - 1), np.uint64).astype(dtype)
    return dtype.type(value)


def _finfo(dtype: np.dtype[Any]) -> Any:
    if dtype.name == "bfloat16":
        import ml_dtypes

        return ml_dtypes.finfo(dtype)
    return np.finfo(dtype)


@dataclasses.dataclass
class _Entrant:
    candidate: Candidate
    call: Callable[[], Any]
    first: float  # seconds of the checked call, which also builds what later calls find built


@dataclasses.dataclass
class _Field:
    """Candidates sorted into those ready to be timed, those left out, and those refused."""

    entrants: list[_Entrant]
    untimed: list[Candidate]
    refused: list[Candidate]
    short: bool = False  # whether any were left out for want of time


def _enter(
    found: Sequence[Candidate], machine: Machine, deadline: _timer.Deadline, hopeless: float,
    progress: Progress | None, clock: _timer.Clock, cold: bool = False,
) -> _Field:  # fmt: skip
    """Plan and check candidates until half of the time is gone."""
    legal = [c for c in found if c.refused is None]
    field = _Field([], [], [c for c in found if c.refused is not None])
    if not legal:
        return field
    problem = legal[0].problem
    why_none = _why_none(problem, legal[0], deadline)
    try:
        made = Scratch if problem.device == "cpu" else GpuScratch
        scratch = made(problem) if why_none is None else None
    except MemoryError:
        why_none, scratch = "there is no memory for its arrays", None
    if scratch is None:
        _log.info("nothing is timed for %s: %s", problem, why_none)
        field.untimed = legal
        return field
    memory = free_memory() // 2
    methods = len({c.method for c in legal})
    for number, c in enumerate(_by_turns(legal)):
        # a machine that others use is slower than the model thinks by as much for all candidates
        slowdown = min((e.first / e.candidate.seconds for e in field.entrants), default=1.0)
        expected = c.seconds * max(1.0, slowdown) + _before(c, machine)
        late = deadline.left < deadline.seconds / 2 and len(field.entrants) >= 2
        if number < methods and expected < deadline.left / 4:
            late = False  # no method misses its turn for another's having been slow
        # a guess may be wrong by a factor of 4 and end in time, once there is a race without it
        late |= expected > deadline.left / (4 if len(field.entrants) >= 2 else 1)
        # where the model was too hopeful of the first, it may have been of this one's rivals too
        best = max(legal[0].seconds, min((e.first for e in field.entrants), default=0.0))
        slow = c.seconds > hopeless * best and number >= 2
        if late or slow or c.workspace_bytes > memory:
            field.untimed.append(c)
            field.short |= late and not slow
            continue
        if progress is not None:
            progress(0.5 * number / len(legal), checking(c))
        wrong: str | None
        status, first = "wrong", 0.0
        try:
            call = _call(c, scratch, machine)
            wrong, first = scratch.why_wrong(call, c.error_bound, clock)
        except Exception as error:  # whatever an algorithm does, the others can still be timed
            wrong, status = f"it failed when tried: {type(error).__name__}: {error}", "failed"
        if wrong is not None:
            _log.warning("%s %s is dropped: %s, in %s", c.method, dict(c.config), wrong, problem)
            field.refused.insert(
                0, dataclasses.replace(c, refused=wrong, status=status, first=max(0.0, first))
            )
            continue
        if cold:
            call = _call(c, scratch, machine, scratch.rotation(machine))
        field.entrants.append(_Entrant(c, call, first))
        if problem.prepared:
            memory -= c.workspace_bytes  # packed weights of all entrants live side by side
    field.entrants.sort(key=lambda e: e.first)
    return field


def _before(c: Candidate, machine: Machine) -> float:
    """Seconds that a candidate is expected to take before its first call: new memory, and packing
    where calls do without."""
    seconds = c.workspace_bytes * _FRESH
    if c.problem.prepared:
        solver, (on, own) = BY_NAME[c.method], on_threads(c.problem, c.config)
        whole = solver.cost(on.replace(prepared=False), own, machine)
        seconds += max(0.0, whole - solver.cost(on, own, machine))
    return seconds


def checking(c: Candidate) -> str:
    """What is told of a candidate that is about to be run for the first time."""
    settings = " ".join(f"{name}={value}" for name, value in c.config.items())
    return f"checking {c.method} {settings}".rstrip()


def _by_turns(legal: Sequence[Candidate]) -> list[Candidate]:
    """The best guess of each method, then the second of each, and so on.

    A method with many settings must not use up the time before another has had a turn.
    """
    turns: dict[str, int] = {}
    ranks = []
    for c in legal:
        ranks.append(turns.get(c.method, 0))
        turns[c.method] = ranks[-1] + 1
    return [c for _, c in sorted(zip(ranks, legal), key=lambda pair: pair[0])]


def _why_none(problem: Problem, best: Candidate, deadline: _timer.Deadline) -> str | None:
    """Why not even the likeliest candidate can be tried."""
    if math.prod(problem.y_shape) == 0 or problem.taps == 0 or math.prod(problem.x_shape) == 0:
        return "there is nothing to compute"
    if best.seconds * 2 > deadline.seconds:
        return f"one call is estimated at {best.seconds:.3g} s, the budget is {deadline.seconds} s"
    if scratch_bytes(problem) > free_memory() // 2:
        return f"its arrays take {scratch_bytes(problem)} bytes, over half of what is free"
    return None


def _call(
    c: Candidate, scratch: Scratch, machine: Machine,
    rotation: Sequence[tuple[Array, Array, Array]] = (),
) -> Callable[[], Any]:  # fmt: skip
    """A call as the engine makes it, with the weights packed before when the problem says so.

    With a `rotation` each call takes the next of its arrays, which have left the cache since.
    """
    plan = bind(BY_NAME[c.method], c.problem, c.config, machine)
    x, w, y = scratch.given
    if c.problem.device != "cpu":

        def settled() -> None:
            plan(x, packed if c.problem.prepared else plan.pack_stored(w), None, y)
            scratch.settle()

        packed = plan.pack_stored(w)
        return settled
    if rotation:
        turns = itertools.cycle(rotation)
        packed = plan.pack_stored(w) if c.problem.prepared else None

        def call() -> None:
            x, w, y = next(turns)
            plan(x, plan.pack_stored(w) if packed is None else packed, None, y)

        return call
    if c.problem.prepared:
        packed = plan.pack_stored(w)
        return lambda: plan(x, packed, None, y)
    return lambda: plan(x, plan.pack_stored(w), None, y)


@dataclasses.dataclass(frozen=True)
class Race(Sequence["Candidate"]):
    """How the candidates of a problem came out.

    Attributes
    ----------
    candidates : tuple of Candidate
        Those timed (`source` is ``"timed"``, `seconds` as in `_timer.rank`), fastest first, ties by
        the incumbent, the smaller error bound, workspace and estimate; then those not timed, as
        they came; then those refused, among them any that gave a wrong result or failed here. When
        the budget was too small to tell, all that could have been timed are given as not timed.
    noise : float
        How well two equal candidates could be told from each other, relative (`_timer.Ranking`).
    pressure : float
        Share of the time in which tasks waited for a core.
    complete : bool
        Whether the protocol came to its end, and not the budget.
    """

    candidates: tuple[Candidate, ...]
    noise: float = 0.0
    pressure: float = 0.0
    complete: bool = False

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self.candidates[index]

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def why_doubted(self) -> str | None:
        """Why others should not rely on the winner; None when it was timed in peace."""
        if self.pressure > _timer.PRESSED:
            return f"tasks waited for a core in {self.pressure:.0%} of the time"
        timed = [c.seconds for c in self.candidates if c.source == "timed"]
        ahead = timed[1] / timed[0] - 1 if len(timed) > 1 else math.inf
        if self.noise > _timer.NOISY and ahead < AHEAD * self.noise:
            return f"the leader was {self.noise:.0%} from itself, the next {ahead:.0%} behind"
        return None


class _Pressure:
    """Share of the time since it was made in which tasks waited for a core; 0 where unknown."""

    def __init__(self, clock: _timer.Clock) -> None:
        self._watch = _timer.Deadline(None, clock)
        self._start = _environment.stalled()

    def __call__(self) -> float:
        now, spent = _environment.stalled(), self._watch.spent
        if now is None or self._start is None or spent <= 0:
            return 0.0
        return max(0.0, min(1.0, (now - self._start) / spent))


def race(
    found: Sequence[Candidate],
    machine: Machine,
    budget: float,
    progress: Progress | None = None,
    *,
    hopeless: float = HOPELESS_ESTIMATE,
    incumbent: tuple[str, Any] | None = None,
    cold: bool = False,
    clock: _timer.Clock = _timer.clock,
) -> Race:
    """Find the fastest of the candidates of one problem.

    Parameters
    ----------
    found : list of Candidate
        As the planner lists them, the least estimate first. Those refused stay so.
    machine : Machine
        What plans are made for.
    budget : float
        Seconds to take, about: a call that has begun is not interrupted.
    progress : callable, optional
        Told the fraction done and what is being done.
    hopeless : float
        Candidates estimated at this many times the best are not tried.
    incumbent : (method, config), optional
        Who wins ties.
    cold : bool
        Let no call find its arrays in cache.
    clock : callable
        Tests pass their own.

    Returns
    -------
    Race
    """
    deadline = _timer.Deadline(budget, clock)
    pressure = _Pressure(clock)
    field = _enter(found, machine, deadline, hopeless, progress, clock, cold)
    entrants, untimed = field.entrants, field.untimed
    if not entrants:
        tried = [dataclasses.replace(c, status="untried") for c in field.untimed]
        return Race((*tried, *field.refused))

    position = {id(c): i for i, c in enumerate(found)}

    def prefer(index: int) -> tuple[bool, float, int, int]:
        c = entrants[index].candidate
        defends = incumbent is not None and incumbent == (c.method, dict(c.config))
        return not defends, c.error_bound, c.workspace_bytes, position[id(c)]

    def report(done: float) -> None:
        if progress is not None:
            progress(0.5 + done / 2, f"timing {len(entrants)} candidates")

    ranking = _timer.rank(
        [e.call for e in entrants], seen=[e.first for e in entrants],
        budget=max(0.0, deadline.left), prefer=prefer, clock=clock, progress=report,
        disturbed=lambda: pressure() > _timer.PRESSED,
    )  # fmt: skip
    timed = []
    for index in ranking.order:
        timing = ranking.timings[index]
        assert timing is not None
        timing = dataclasses.replace(timing, seconds=max(timing.seconds, 1e-9))
        entrant = entrants[index]
        timed.append(
            dataclasses.replace(
                entrant.candidate, seconds=timing.seconds, source="timed", timing=timing,
                first=entrant.first, estimate=entrant.candidate.seconds,
                status="timed" if index in ranking.finalists else "dropped",
            )
        )  # fmt: skip
    late = [e.candidate for i, e in enumerate(entrants) if ranking.timings[i] is None]
    left = {id(c) for c in (*late, *untimed)}
    if progress is not None:
        progress(1.0, "done")
    if _rivals(timed, [c for c in found if id(c) in left]):
        left |= {id(e.candidate) for e in entrants}
        timed = []
    rest = [dataclasses.replace(c, status="untried") for c in found if id(c) in left]
    return Race(
        (*timed, *rest, *field.refused), ranking.noise, pressure(),
        ranking.complete and not late and not field.short,
    )  # fmt: skip


def _rivals(timed: Sequence[Candidate], untimed: Sequence[Candidate]) -> bool:
    """Whether the best of those timed should not count as the winner.

    It has beaten nobody though others were likely, or another method, not tried for lack of time,
    is estimated to be faster than it is.
    """
    best = timed[0]
    return any(
        c.seconds < best.seconds
        if c.method != best.method
        else len(timed) == 1 and c.seconds < HOPELESS_ESTIMATE * best.seconds
        for c in untimed
    )


def bench(
    found: Sequence[Candidate],
    machine: Machine,
    budget: float,
    progress: Progress | None = None,
    *,
    clock: _timer.Clock = _timer.clock,
) -> list[tuple[Candidate, _timer.Timing | None]]:
    """Time every candidate to the end, interleaved, however slow it is.

    Parameters are those of `race`.

    Returns
    -------
    list of (Candidate, Timing or None)
        Those timed, fastest first; then those there was no time for; then those refused.
    """
    deadline = _timer.Deadline(budget, clock)
    field = _enter(found, machine, deadline, math.inf, progress, clock)

    def report(done: float) -> None:
        if progress is not None:
            progress(0.5 + done / 2, f"timing {len(field.entrants)} candidates")

    timings = _timer.compare(
        [e.call for e in field.entrants], budget=max(0.0, deadline.left), clock=clock,
        progress=report,
    )  # fmt: skip
    timed = sorted(
        zip((e.candidate for e in field.entrants), timings), key=lambda pair: pair[1].seconds
    )
    return [
        *((dataclasses.replace(c, seconds=t.seconds, source="timed"), t) for c, t in timed),
        *((c, None) for c in field.untimed),
        *((c, None) for c in field.refused),
    ]
