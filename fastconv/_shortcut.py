"""The short way of a call that was met before: arrays to the driver, no front end between them.

A front end turns shapes, dtypes and options into numbers, and looks at no value but the kernel's,
to see whether it is an outer product. So two calls that `core.signature` cannot tell apart (plain
arrays: C order, aligned, native bytes) differ in the data alone. The first of them is watched: when
it was one `run`, on nothing but views of the caller's arrays, into nothing but the result, then
what it did is written down as a `Shortcut` (plan, and the view of each array) and done again,
unless a kernel that was looked at is another kind of kernel now. All else takes the long way:
lists, strided arrays, arrays that `out` overlaps, calls of several steps, calls that are being
planned. Filters of pictures make their weights themselves, of options that calls are told apart by,
or are told apart by weights that are few: all their passes are written down, with the weights
packed, as `Passes`.
Calls on a GPU have a short way of their own, to its driver (`cuda/tape.py`).
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from fastconv._epilogue import Activation, Epilogue, Quantization, same_strides
from fastconv._ext import core
from fastconv._kept import Kept
from fastconv._plan import Plan
from fastconv._problem import Array
from fastconv.cuda import tape
from fastconv.cuda.workspace import Workspaces

#: Calls kept; the oldest goes first.
SIZE = 1024


class Run(NamedTuple):
    """What one `run` of a call was given, and where it wrote."""

    plan: Plan
    packed: Any
    x: Array
    w: Array
    bias: Array | None
    residual: Array | None
    activation: Activation | Quantization | None
    y: Array
    look: Callable[[Array], Any] | None  # at w's values, where the choice of the plan depends on
    seen: Any  # what it saw
    plain: bool  # no values are checked and no mode of the processor is set
    derived: bool  # bias and activation are made of a plan's other arguments
    is_first_try: bool = False  # see `unless_finite`


#: Where `run` notes what it does, while a call is watched.
watched: contextvars.ContextVar[list[Run] | None] = contextvars.ContextVar(
    "fastconv watched call", default=None
)


def unless_finite(result: Array, again: Callable[[], None]) -> None:
    """Call `again`, which makes what the last `run` made in another way, where that is not finite.

    A call that takes the short way does what it did first, and where that is not finite now, takes
    the long one.
    """
    runs = watched.get()
    if runs:
        runs[-1] = runs[-1]._replace(is_first_try=True)
    if core.is_finite(result):
        return
    token = watched.set(None)
    try:
        again()
    finally:
        watched.reset(token)


class Part(NamedTuple):
    """A view of one of a call's arrays."""

    place: int
    view: core.View | None

    @classmethod
    def of(cls, part: Array, arrays: Sequence[Array]) -> Part:
        """LookupError when `part` lies in none of them."""
        for place, whole in enumerate(arrays):
            if part is whole:
                return cls(place, None)
            low, high = byte_bounds(whole)
            alike = part.dtype in (whole.dtype, whole.real.dtype)
            if alike and low <= byte_bounds(part)[0] < high:
                return cls(place, core.View(part, whole))
        raise LookupError

    def __call__(self, arrays: Sequence[Array]) -> Array:
        whole = arrays[self.place]
        return whole if self.view is None else self.view.of(whole)


class Shortcut:
    """What a call does with its arrays, `out` the last of them where it was given."""

    __slots__ = ("_activation", "_bias", "_derived", "_dtype", "_execute", "_finishes", "_given",
                 "_has_out", "_kernel", "_look", "_pack", "_packed", "_residual", "_seen", "_shape",
                 "_threads", "_w", "_x", "_y")  # fmt: skip

    def __init__(self, run: Run, arrays: Sequence[Array], has_out: bool, result: Array) -> None:
        """LookupError when the call was more than its one run."""
        inputs, y = arrays[:-1] if has_out else arrays, run.y

        def need(ok: bool) -> None:
            if not ok:
                raise LookupError

        def part(a: Array | None) -> Part | None:
            return None if a is None else Part.of(a, inputs)

        plan = run.plan
        made = run.packed is not None if run.derived else plan.problem.is_exact
        need(plan.is_plain or plan.is_half or made)
        need(run.plain and not plan.is_empty and not run.is_first_try)
        need(type(result) is np.ndarray and has_out == (bool(arrays) and result is arrays[-1]))
        # of arrays that share memory, `Part.of` could not tell which was meant
        pairs = itertools.combinations([result, *inputs], 2)
        need(not any(np.may_share_memory(a, b) for a, b in pairs))
        need(result.flags.c_contiguous and y.dtype in (result.dtype, result.real.dtype))
        need(byte_bounds(result) == byte_bounds(y) and result.nbytes == y.nbytes)
        bias = None if run.derived else run.bias
        need(bias is None or (bias.dtype == y.dtype and bias.flags.c_contiguous))
        need(run.residual is None or run.residual.dtype == y.dtype)
        need(run.residual is None or same_strides(run.residual, y))
        self._execute, self._pack, self._packed = plan.execute, plan.pack, run.packed
        if not plan.is_plain:
            self._execute, self._pack = plan.execute_stored, plan.pack_flipped
        self._x, self._y = Part.of(run.x, inputs), Part.of(y, (result,)).view
        self._w = part(run.plan.flipped(run.w)) if run.packed is None else None
        self._look, self._seen = run.look, run.seen
        self._kernel = None if run.look is None else part(run.w)
        self._bias, self._residual = part(bias), part(run.residual)
        self._activation = run.activation
        # what they were made of, which the caller may change
        self._derived = run.bias if run.derived else None
        self._given = [
            (place, a.copy())
            for place, a in enumerate(inputs)
            if run.derived and place != self._x.place
        ]
        given = run.bias, run.residual, run.activation
        self._finishes = any(part is not None for part in given)
        self._threads = plan.problem.threads
        self._has_out, self._shape, self._dtype = has_out, result.shape, result.dtype

    def __call__(self, arrays: Sequence[Array]) -> Array | None:
        """The result, or None when the kernel's values ask for another plan, or others have
        changed."""
        for place, values in self._given:
            if not core.same_bytes(arrays[place], values):
                return None
        if self._look is not None:
            assert self._kernel is not None
            if self._look(self._kernel(arrays)) != self._seen:
                return None
        result = arrays[-1] if self._has_out else core.empty(self._shape, self._dtype)
        epilogue = None
        if self._finishes:
            epilogue = Epilogue(
                self._derived if self._bias is None else self._bias(arrays),
                None if self._residual is None else self._residual(arrays),
                self._activation,
            )
        packed = self._packed
        if self._w is not None:
            packed = kept.packed(
                self, arrays[self._w.place], self._threads, self._pack_part, arrays
            )
        place, view = self._x
        x = arrays[place] if view is None else view.of(arrays[place])
        self._execute(x, packed, epilogue, result if self._y is None else self._y.of(result))
        return result

    def _pack_part(self, arrays: Sequence[Array]) -> Any:
        assert self._w is not None
        return self._pack(self._w(arrays))


class Passes:
    """What a call does whose weights are made of its options, or are told apart with them: one run
    after the other, through arrays of its own. The weights stay packed."""

    __slots__ = ("_dtype", "_has_out", "_own", "_shape", "_steps", "_tries", "_weights")

    def __init__(
        self, runs: Sequence[Run], arrays: Sequence[Array], has_out: bool, result: Array
    ) -> None:
        """LookupError when the call was more than its runs.

        `arrays` are the data, the weights if the call brings its own, and `out` if it was given.
        """

        def need(ok: bool) -> None:
            if not ok:
                raise LookupError

        x, weights = arrays[0], arrays[1 : len(arrays) - has_out]
        need(len(weights) <= 1 and type(result) is np.ndarray and result.flags.c_contiguous)
        need(has_out == (result is arrays[-1]))
        need(not np.may_share_memory(x, result))
        need(all(run.plain and not run.plan.is_empty for run in runs))
        need(all((r.bias, r.activation) == (None, None) for r in runs))
        need(byte_bounds(runs[-1].y) == byte_bounds(result) and runs[-1].y.size == result.size)
        pool, self._own, self._steps = [x, result], [], []
        for run in runs:
            source = Part.of(run.x, pool)
            try:
                y = Part.of(run.y, pool)
            except LookupError:
                need(run.y.flags.c_contiguous)
                pool.append(run.y)
                self._own.append((run.y.shape, run.y.dtype))
                y = Part(len(pool) - 1, None)
            need(source.place != y.place and y.place != 0)
            # into sums that are there already
            need(run.residual is None or run.residual is run.y)
            packed = run.packed if run.packed is not None else run.plan.pack_stored(run.w)
            direct = run.plan.is_direct and run.residual is None
            act: Callable[..., None] = run.plan.execute if direct else run.plan
            self._steps.append((act, packed, source, y, run.residual is not None))
        self._shape, self._dtype, self._has_out = result.shape, result.dtype, has_out
        self._tries = any(run.is_first_try for run in runs)
        # two kinds of weights may have one hash
        self._weights = weights[0].copy() if weights else None

    def __call__(self, arrays: Sequence[Array]) -> Array | None:
        """The result, or None when the weights are others, or it is to be made in another way."""
        if self._weights is not None and not core.same_bytes(arrays[1], self._weights):
            return None
        result = arrays[-1] if self._has_out else core.empty(self._shape, self._dtype)
        pool = [arrays[0], result]
        pool.extend(core.empty(shape, dtype) for shape, dtype in self._own)
        for act, packed, x, y, adds in self._steps:
            to = y(pool)
            if adds:
                act(x(pool), packed, None, to, to)
            else:
                act(x(pool), packed, None, to)
        return None if self._tries and not core.is_finite(result) else result


#: Packed weights of the calls that took the short way.
kept = Kept()


class Shortcuts:
    """The calls of functions, or of one plan, that were met before; of functions whose weights are
    made of their options, or told apart with them, if `own_weights`; of a plan, whose packed
    weights stay where they are, with its `workspaces`."""

    def __init__(self, own_weights: bool = False, workspaces: Workspaces | None = None) -> None:
        self._own_weights = own_weights
        self._workspaces = workspaces
        self._known: dict[Any, Shortcut | Passes | None] = {}
        self._recent = core.Recent(SIZE)
        self._lock = threading.Lock()

    def clear(self) -> None:
        with self._lock:
            self._known.clear()
            self._recent.clear()

    def call(
        self, function: Callable[..., Any], owner: Any, mode: str | None, args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:  # fmt: skip
        """`function(*args, **options)`, the short way if there is one.

        `owner` stands for the function, and it and `mode` for whatever else the result depends on.
        """
        result = self._recent.call(owner, mode, args, options)
        if result is not NotImplemented:
            return function(*args, **options) if result is None else result
        found = core.signature((owner, mode), args, options)
        if found is None:
            if tape.on_gpu(args, options):
                return tape.watch(
                    function, args, options, self._workspaces, self._recent, owner, mode
                )
            return function(*args, **options)
        key, arrays = found
        try:
            known = self._known[key]
        except KeyError:
            return self._watch(key, arrays, function, args, options)
        result = None
        if known is not None:
            self._recent.keep(owner, mode, args, options, known)
            result = known(arrays)
        return function(*args, **options) if result is None else result

    def _watch(
        self, key: Any, arrays: Sequence[Array], function: Callable[..., Any],
        args: tuple[Any, ...], options: dict[str, Any],
    ) -> Any:  # fmt: skip
        runs: list[Run] = []
        token = watched.set(runs)
        try:
            result = function(*args, **options)
        finally:
            watched.reset(token)
        shortcut: Shortcut | Passes | None = None
        if runs and self._own_weights:
            with contextlib.suppress(LookupError):
                shortcut = Passes(runs, arrays, options.get("out") is not None, result)
        elif len(runs) == 1:
            with contextlib.suppress(LookupError):
                shortcut = Shortcut(runs[0], arrays, options.get("out") is not None, result)
        with self._lock:
            while len(self._known) >= SIZE:
                del self._known[next(iter(self._known))]
            self._known[key] = shortcut
        return result
