"""The one door from the front ends to the planner.

A front end turns its call into one or more `run` calls on arrays of shape (N, C, *spatial) and
(K, C/groups, *kernel). `plan` and `candidates` execute the same front end with a recorder in
place, so that what is prepared is by construction what is run.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import math
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fastconv import _planner, _shortcut
from fastconv._epilogue import CLAMP, Activation, Quantization
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Array, Problem, compute_name, dtype_name
from fastconv._solver import Config
from fastconv._timer import Deadline
from fastconv.cuda import interop
from fastconv.cuda.taps import Derived, Taps
from fastconv.cuda.workspace import Workspaces

Pads = Sequence[tuple[int, int]]
_F = TypeVar("_F", bound=Callable[..., Any])

#: Modes in which calls are counted, and none takes the short way.
COUNTED = ("record", "auto")

#: Plans kept by shape; the one not used for longest goes first. A plan is a few KB, so these are a
#: few MB at most.
_CACHE_SIZE = 1024
_cache: dict[Any, _planner.Choice] = {}
_cache_lock = threading.Lock()
_shortcuts = _shortcut.Shortcuts()
_filters = _shortcut.Shortcuts(own_weights=True)


class Step(NamedTuple):
    """One `run` of a front end's call: what it is recognised by, its choice, its packed weights."""

    key: Any
    choice: _planner.Choice
    packed: Any


#: Called by `run` with each step and its weights while a call is walked through, not computed.
_recorder: contextvars.ContextVar[Callable[[Step, Array], None] | None] = contextvars.ContextVar(
    "fastconv recorder", default=None
)


class _Rank(NamedTuple):
    """Outer products that a kernel is a sum of, 0 for not known; whether its weights are equal."""

    terms: int
    box: bool = False


_UNKNOWN = _Rank(0)

#: The steps of a plan that are still to run; none outside a plan's call.
_replay: contextvars.ContextVar[Iterator[Step] | None] = contextvars.ContextVar(
    "fastconv replay", default=None
)


def layout_of(x: Array) -> str:
    """The memory order of (N, C, *spatial) array `x`, out of `LAYOUTS`."""
    if x.flags.c_contiguous:
        return "NC*"
    if x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous:
        return "N*C"
    return "strided"


def run(
    x: Array,
    w: Array,
    *,
    stride: Sequence[int] = (),
    dilation: Sequence[int] = (),
    input_dilation: Sequence[int] = (),
    padding: Pads = (),
    groups: int = 1,
    boundary: str = "zeros",
    cval: complex = 0.0,
    flip: bool = False,
    bias: Array | None = None,
    residual: Array | None = None,
    activation: Activation | Quantization | None = None,
    out: Array | None = None,
    dtype: Any = None,
    out_dtype: Any = None,
    method: str | tuple[str, ...] = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    kernel_repeats: bool = False,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
    derived: bool = False,
) -> Array:
    """Solve one problem on arrays: y[n, k, o] as `Problem` defines it.

    Parameters
    ----------
    x : array, (N, C, *spatial)
        Any strides and any dtype that `Problem` knows.
    w : array, (K, C / groups, *kernel)
    padding : (before, after) pairs
        In samples of the dilated input; negative ones cut it, where zeros or a constant extend it.
    residual : array, optional
        Of the output's shape, added to the sums; may share memory with anything.
    activation : Activation or Quantization, optional
        Applied last.
    dtype : dtype, optional
        What sums are computed in; by default what x and w promote to, float32 for 16-bit floats.
    out : array, optional
        (N, K, *out); may share memory with x or w. By default a new C-ordered array.
    out_dtype : dtype, optional
        What is stored; by default `dtype`.
    kernel_repeats : bool
        Later calls will likely bring the same kernel, whose packed form is kept when they do
        (`_kept.py`): the choice does not weigh the time that packing takes.
    nonnegative : bool
        Refuse x and w with a negative in them, and clamp sums at 0; without an `activation`.
    derived : bool
        `bias` and `activation` are made of the values of the front end's other arguments.

    Other parameters are those of every front end.
    """
    place = interop.place_of(x=x, w=w, bias=bias, residual=residual, out=out)
    if out is not None and (_overlap(out, x) or _overlap(out, w)):
        if place is not None:
            raise ValueError(f"expected out apart from x and w on {place.device}, got one of them")
        out[...] = run(
            x, w, stride=stride, dilation=dilation, input_dilation=input_dilation, padding=padding,
            groups=groups, boundary=boundary, cval=cval, flip=flip, bias=bias, dtype=dtype,
            residual=residual, activation=activation, out_dtype=out.dtype, method=method,
            config=config, accuracy=accuracy, threads=threads, workspace_limit=workspace_limit,
            flush_denormals=flush_denormals, deterministic=deterministic, nonnegative=nonnegative,
        )  # fmt: skip
        return out
    if any(lo < 0 or hi < 0 for lo, hi in padding):
        if boundary not in ("zeros", "constant"):
            raise ValueError(f"expected padding of at least 0 with {boundary!r}, got {padding}")
        x, padding = _cut(x, padding, tuple(input_dilation) or (1,) * (x.ndim - 2))
    recorder = _recorder.get()
    key = (
        x.shape, x.dtype, layout_of(x), w.shape, w.dtype, tuple(stride), tuple(dilation),
        tuple(input_dilation), tuple(padding), groups, boundary, cval, flip, dtype,
        out.dtype if out is not None else out_dtype, method,
        tuple(config.items()) if config is not None else None, accuracy, threads, workspace_limit,
        deterministic, nonnegative, place is not None,
    )  # fmt: skip
    # a step of a plan that finds other arrays than it was made for (strides can differ) plans anew
    look, rank = None, _UNKNOWN
    replay = _replay.get()
    planned = next(replay, None) if replay is not None else None
    if planned is not None and planned.key == key:
        choice, packed = planned.choice, planned.packed
    else:
        packed = None
        look = _look(x, w, dtype, method, accuracy)
        rank = look(w) if look is not None else _UNKNOWN
        choice = _choice(
            key, x, w, stride, dilation, input_dilation, padding, groups, boundary, cval, flip,
            dtype, out.dtype if out is not None else out_dtype, accuracy, threads,
            deterministic, recorder is not None or kernel_repeats, method, config, workspace_limit,
            rank, nonnegative,
        )  # fmt: skip
    step = choice.plan
    if out is None:
        y = interop.empty(x, step.y_shape, step.y_dtype)
    elif out.shape != step.y_shape:
        raise ValueError(f"expected out of shape {step.y_shape}, got {out.shape}")
    elif not out.flags.writeable:
        raise ValueError("expected out that can be written to, got a read-only array")
    else:
        y = out
    if bias is not None and bias.shape != (w.shape[0],):
        raise ValueError(f"expected bias of shape {(w.shape[0],)}, got {bias.shape}")
    if recorder is not None:
        recorder(Step(key, choice, None), w)
        if place is not None:
            return y
        return np.zeros_like(y)  # untouched pages cost nothing, and garbage could overflow
    if nonnegative:
        if place is not None:
            raise TypeError(f"nonnegative=True looks at values, which are on {place.device}")
        check_nonnegative(x=x, w=w, cval=np.asarray(cval))
        activation = None if step.problem.is_exact else Activation(CLAMP, 0, math.inf)
    if y.size == 0:
        return y
    counted = _planner.mode() in COUNTED and method == "auto"
    runs = _shortcut.watched.get()
    if runs is not None:
        plain = not (nonnegative or flush_denormals)
        runs.append(
            _shortcut.Run(
                step, packed, x, w, bias, residual, activation, y, look, rank, plain, derived
            )
        )
    watch = Deadline(None) if counted else None
    if packed is None and not step.is_empty:
        if place is None and w.flags.c_contiguous:
            packed = _shortcut.kept.packed(step, w, step.problem.threads, step.pack_stored, w)
        else:
            packed = step.pack_stored(w)
    step(x, packed, bias, y, residual, activation, bool(flush_denormals))
    if watch is not None and _planner.met.note(choice, watch.spent):
        forget_plans_of(choice.candidate.problem)
    return y


def _choice(
    key: Any, x: Array, w: Array, stride: Sequence[int], dilation: Sequence[int],
    input_dilation: Sequence[int], padding: Pads, groups: int, boundary: str, cval: complex,
    flip: bool, dtype: Any, out_dtype: Any, accuracy: str, threads: int | None,
    deterministic: bool, prepared: bool, method: str | tuple[str, ...], config: Config | None,
    workspace_limit: int | None, rank: _Rank, nonnegative: bool,
) -> _planner.Choice:  # fmt: skip
    """The plan for arrays like these: kept from an earlier call, or the planner's."""
    key = (key, _planner.mode(), prepared, rank)
    with _cache_lock:
        choice = _cache.pop(key, None)
        if choice is not None:
            _cache[key] = choice  # to the end of the queue
    if choice is None:
        problem = _problem(
            x, w, stride, dilation, input_dilation, padding, groups, boundary, cval, flip, dtype,
            out_dtype, accuracy, threads, deterministic, prepared, rank, nonnegative,
        )  # fmt: skip
        choice = _planner.choose(
            problem, method=method, config=config, workspace_limit=workspace_limit
        )
        with _cache_lock:
            while len(_cache) >= _CACHE_SIZE:
                del _cache[next(iter(_cache))]
            _cache[key] = choice
    return choice


def check_nonnegative(**arrays: Array) -> None:
    """ValueError for an array with a negative in it, TypeError for one without an order."""
    for name, a in arrays.items():
        if a.dtype.kind == "c":
            raise TypeError(f"expected {name} that is real where nonnegative, got {a.dtype}")
        least = np.fmin.reduce(a, axis=None) if a.size else 0  # of NaN and a number, the number
        if least < 0:
            raise ValueError(f"expected {name} without a negative number, got {least}")


def granted_threads(threads: int | None) -> int:
    """The most threads that a call may use; ValueError for fewer than one."""
    if threads is None:
        return this_machine().cores
    if operator.index(threads) < 1:
        raise ValueError(f"expected at least one thread, got {threads}")
    return threads


def _overlap(a: Array, b: Array) -> bool:
    return interop.share_memory(a, b)


def _cut(x: Array, padding: Pads, dilation: Sequence[int]) -> tuple[Array, Pads]:
    """Negative padding as a slice of x: cutting dilated samples may leave a phase of zeros."""
    index: list[slice] = [slice(None), slice(None)]
    pads = []
    for size, e, (lo, hi) in zip(x.shape[2:], dilation, padding):
        total = max(0, (size - 1) * e + 1) + lo + hi
        # samples wholly or partly cut: ceil(-lo / e) and ceil(-hi / e)
        start = min(size, -(lo // e)) if lo < 0 else 0
        stop = max(start, size + hi // e) if hi < 0 else size
        if start < stop:
            pads.append((lo + start * e, hi + (size - stop) * e))
        elif total >= 0:  # only padding and the zeros between samples are left
            pads.append((total, 0))
        else:
            raise ValueError(f"expected padding that leaves some input, got {padding}")
        index.append(slice(start, stop))
    return x[tuple(index)], tuple(pads)


def _problem(
    x: Array, w: Array, stride: Sequence[int], dilation: Sequence[int],
    input_dilation: Sequence[int], padding: Pads, groups: int, boundary: str, cval: complex,
    flip: bool, dtype: Any, out_dtype: Any, accuracy: str, threads: int | None,
    deterministic: bool, prepared: bool, rank: _Rank, nonnegative: bool,
) -> Problem:  # fmt: skip
    """The Problem of a `run` call; every mismatch of shapes is a ValueError here."""
    if x.ndim != w.ndim or x.ndim < 3:
        raise ValueError(
            f"expected x and w of one rank with spatial dimensions, got shapes {x.shape}, {w.shape}"
        )
    if groups < 1:
        raise ValueError(f"expected at least one group, got {groups}")
    if x.shape[1] != w.shape[1] * groups:
        raise ValueError(
            f"expected x of {w.shape[1]} * {groups} channels (w's shape is {w.shape}, groups"
            f" {groups}), got x of shape {x.shape}"
        )
    granted = granted_threads(threads)
    x_dtype, w_dtype = dtype_name(x.dtype), dtype_name(w.dtype)
    compute = dtype_name(dtype) if dtype is not None else compute_name(x_dtype, w_dtype)
    return Problem(
        size=x.shape[2:], kernel=w.shape[2:], batch=x.shape[0], channels=x.shape[1],
        filters=w.shape[0], groups=groups, stride=tuple(stride), dilation=tuple(dilation),
        input_dilation=tuple(input_dilation), padding=tuple(padding), boundary=boundary,
        cval=cval if boundary == "constant" else 0.0, flip=flip, dtype=compute, x_dtype=x_dtype,
        w_dtype=w_dtype, y_dtype=dtype_name(out_dtype) if out_dtype is not None else compute,
        layout=layout_of(x), prepared=prepared, device="cuda" if interop.on_gpu(x) else "cpu",
        threads=1 if interop.on_gpu(x) else granted,
        accuracy=accuracy, rank=rank.terms, box=rank.box, deterministic=bool(deterministic),
        # of use where errors are relative to each output: other problems have one text
        nonnegative=bool(nonnegative) and accuracy == "strict" and compute in ("f32", "f64"),
    )  # fmt: skip


def met_before(function: _F) -> _F:
    """Decorator: take the short way where one is known (`_shortcut.py`).

    The function must have nothing to do with its arrays' values, take `out` as a keyword, and be
    told everything that its result depends on.
    """

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if _recorder.get() is not None or _replay.get() is not None:
            return function(*args, **options)
        mode = _planner.mode()
        if mode in COUNTED:
            return anywhere(*args, **options)
        return _shortcuts.call(anywhere, function, mode, args, options)

    def anywhere(*args: Any, **options: Any) -> Any:
        return interop.call(function, args, options)

    return call  # type: ignore[return-value]


def on_any_device(function: _F) -> _F:
    """Decorator: `met_before` where the first argument, `input` or `h`, is on a GPU."""
    met = met_before(function)

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        data = args[0] if args else options.get("input", options.get("h"))
        there = type(data) is not np.ndarray and interop.is_foreign(data)
        return (met if there else function)(*args, **options)

    return call  # type: ignore[return-value]


def makes_weights(function: _F) -> _F:
    """Decorator: take the short way for plain real arrays, the first argument.

    The function must have nothing to do with its array's values, and make its weights of its other
    arguments alone. Its `output` may be a dtype, which calls are told apart by as well, or an
    array. On a GPU it is `on_any_device`.
    """
    anywhere, place = on_any_device(function), _place_of_output(function)

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if not _is_plain_call(args, options):
            return anywhere(*args, **options)
        return _filtered(function, place, args, options, args, options)

    return call  # type: ignore[return-value]


#: Bytes of weights that calls are told apart by: 21 x 21 of float64.
_MOST_WEIGHTS = 1 << 12


def takes_weights(function: _F) -> _F:
    """Decorator: `makes_weights` for functions whose second argument is their weights.

    Few as they are, their values belong to what calls are told apart by.
    """
    anywhere, place = on_any_device(function), _place_of_output(function)

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if not _is_plain_call(args, options) or len(args) < 2:
            return anywhere(*args, **options)
        w = args[1]
        if type(w) is list:
            w = np.asarray(w)
        few = type(w) is np.ndarray and w.dtype.kind in "biuf" and w.nbytes <= _MOST_WEIGHTS
        if not few or not w.flags.c_contiguous:
            return anywhere(*args, **options)
        named = {**options, "weights": w, "values": hash(w.tobytes())}
        return _filtered(function, place, args, options, (args[0], None, *args[2:]), named)

    return call  # type: ignore[return-value]


def _place_of_output(function: Callable[..., Any]) -> int:
    return list(inspect.signature(function).parameters).index("output")


def _is_plain_call(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    if len(args) == 0 or type(args[0]) is not np.ndarray or args[0].dtype.kind == "c":
        return False
    return _recorder.get() is None and _replay.get() is None and "out" not in options


def _filtered(
    function: Callable[..., Any], place: int, args: tuple[Any, ...], options: dict[str, Any],
    told: tuple[Any, ...], by: dict[str, Any],
) -> Any:  # fmt: skip
    """``function(*args, **options)``, a call that is told from others by `told` and `by`.

    Its output is the argument at `place`, or named.
    """
    mode = _planner.mode()
    if mode in COUNTED:
        return function(*args, **options)
    named = len(args) <= place
    output = options.get("output") if named else args[place]
    stands: dict[str, Any] = {}
    if isinstance(output, type | np.dtype):
        if (dtype := np.dtype(output)).isnative:
            stands = {"output": dtype.char}
    elif type(output) is np.ndarray:
        stands = {"output": "out", "out": output}
    if stands:
        by = {**by, **stands}
        if not named:
            told = (*told[:place], None, *told[place + 1 :])
    if by is options:
        return _filters.call(function, function, mode, args, options)

    def given(*_: Any, **__: Any) -> Any:
        return function(*args, **options)

    return _filters.call(given, function, mode, told, by)


#: Products of one channel from which it pays to look whether a kernel is an outer product, which
#: takes 2 to 10 us, and the least weights: 3x3 of 640x480 floats takes 0.17 ms, two passes 0.125.
_WORTH_A_LOOK = 1 << 18
_WEIGHTS_WORTH_A_LOOK = 9

#: The same for a sum of several: 15 us where 15 x 15 weights are two, twice that where they are not
#: a few, and two products of 5 x 5 are 20 of 25 taps.
_WORTH_A_LONG_LOOK = 1 << 24
_WEIGHTS_WORTH_A_LONG_LOOK = 36

#: Of a kernel, from which to compare it with the last takes less time than to look again.
_BYTES_WORTH_KEEPING = 1 << 10


def _look(
    x: Array, w: Array, dtype: Any, method: str | tuple[str, ...], accuracy: str
) -> Callable[[Array], _Rank] | None:
    """What says of kernels like w what they are in the dtype computed in: an outer product of
    vectors, one an axis, or a sum of a few.

    None where nobody looks: then the choice does not depend on w's values.
    """
    if interop.on_gpu(w):
        return None  # to look would be to copy
    if w.ndim < 4 or w.shape[1] != 1 or w.dtype.char not in "fdbBhH" or not w.dtype.isnative:
        return None
    real = w.dtype.char in "fd"  # of integers, those of 8 and 16 bits are summed axis by axis
    weights, products = math.prod(w.shape[2:]), x.shape[0] * math.prod(x.shape[2:])
    products *= weights
    small = weights < _WEIGHTS_WORTH_A_LOOK or products < _WORTH_A_LOOK
    axes = sum(r > 1 for r in w.shape[2:])
    if (small and "separable" not in method) or axes < 1:
        return None
    compute = np.dtype(dtype) if dtype is not None else np.result_type(x.dtype, w.dtype)
    if compute != w.dtype or not w.flags.aligned:
        return None
    small = weights < _WEIGHTS_WORTH_A_LONG_LOOK or products < _WORTH_A_LONG_LOOK
    several = real and (not small or "separable" in method) and axes == 2 and accuracy != "strict"
    return functools.partial(_seen, several=several, dropping=accuracy == "fast")


def _seen(w: Array, several: bool, dropping: bool) -> _Rank:
    if w.nbytes < _BYTES_WORTH_KEEPING or not w.flags.c_contiguous:
        return _rank(w, several, dropping)
    kind = _rank, several, dropping, w.shape, w.dtype
    rank: _Rank = _shortcut.kept.packed(kind, w, 1, _rank, w, several, dropping)
    return rank


def _rank(w: Array, several: bool, dropping: bool) -> _Rank:
    if w.size in w.shape:  # one axis: an outer product as it is, of interest where it is a box
        return _Rank(1, True) if _is_box(w) else _UNKNOWN
    if core.is_rank_one(w):
        return _Rank(1, _is_box(w))
    return _Rank(core.low_rank(w, dropping)) if several else _UNKNOWN


def _is_box(w: Array) -> bool:
    return bool(w.size and (w == w.flat[0]).all())


# ---- preparing calls -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Which parameters of a function are the data, the kernel, the output; has it a residual?

    `packs` where the kernels of its steps do not depend on the data, and can be packed before.
    """

    data: str
    kernel: str | None
    out: str
    residual: bool
    packs: bool


def replays() -> bool:
    """Whether this call is a plan's, whose kernel is what it was when the plan was made."""
    return _replay.get() is not None


def at_once(function: Callable[..., None], *rest: Any) -> Callable[..., None]:
    """`function`, its last arguments given: computed though its call is part of one that is being
    planned, and no step of it."""

    def act(*arguments: Any) -> None:
        recorder, replay = _recorder.set(None), _replay.set(None)
        try:
            function(*arguments, *rest)
        finally:
            _recorder.reset(recorder)
            _replay.reset(replay)

    return act


def copied(a: Any) -> Any:
    """An array on a GPU of up to four axes in C order, which is written when it is asked for."""

    def write(source: Any, target: Any) -> None:
        shape = source.shape[0], 1, *source.shape[1:]
        one: Any = Taps(np.ones((1, 1, *(1,) * (source.ndim - 1)), source.dtype), source)
        run(source.reshape(shape), one, out=target.reshape(shape), method="cuda_direct")

    return Derived(a, a.dtype, at_once(write))


_front_ends: dict[Callable[..., Any], FrontEnd] = {}


def front_end(
    data: str, kernel: str | None, out: str = "out", packs: bool = True
) -> Callable[[_F], _F]:
    """Decorator: let `plan`, `candidates` and `tune` take the function, which stays as it is."""

    def register(function: _F) -> _F:
        residual = "residual" in inspect.signature(function).parameters
        _front_ends[function] = FrontEnd(data, kernel, out, residual, packs)
        return function

    return register


class Plan:
    """A front-end call prepared for one shape: planned, and its kernel packed or transformed once.

    Made by `fastconv.plan`. Immutable; may be called from many threads at once.

    Attributes
    ----------
    method : str
        The algorithm, or those of each step joined by ``+``.
    config : dict
        Its settings; a tuple of them when there are several steps.
    workspace_bytes : int
        The most memory a step takes beyond its arrays.
    problems : tuple of Problem
        What each step solves.
    """

    def __init__(
        self, function: Callable[..., Any], shape: tuple[int, ...], dtype: np.dtype[Any],
        arguments: dict[str, Any], steps: tuple[Step, ...],
    ) -> None:  # fmt: skip
        self._function = function
        self._front = _front_ends[function]
        self._shape = shape
        self._dtype = dtype
        # lists as they are now: calls that are repeated do not look at them again
        self._arguments = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in arguments.items()
        }
        self._steps = steps
        self._workspaces = Workspaces()
        self._shortcuts = _shortcut.Shortcuts(workspaces=self._workspaces)
        # arrays that all calls share, and an `out` may overlap; the kernel is packed
        self._constants = tuple(
            a
            for name, a in arguments.items()
            if isinstance(a, np.ndarray) and name != self._front.kernel
        )

    def __call__(
        self, x: npt.ArrayLike, out: Array | None = None, residual: npt.ArrayLike | None = None
    ) -> Any:
        """Run on data of the planned shape and dtype; ValueError or TypeError on any other.

        A `residual` is that of this call, in place of one given when the plan was made.
        """
        if _planner.mode() in COUNTED:
            return self._long_way(x, out=out, residual=residual)
        options = {"residual": residual, "out": out}
        return self._shortcuts.call(self._long_way, None, None, (x, *self._constants), options)

    def _long_way(
        self, x: Any, *_: Array, out: Array | None, residual: npt.ArrayLike | None
    ) -> Any:
        x = _data(x)
        if x.shape != self._shape:
            raise ValueError(f"expected data of the planned shape {self._shape}, got {x.shape}")
        if x.dtype != self._dtype:
            raise TypeError(f"expected data of the planned dtype {self._dtype}, got {x.dtype}")
        arguments = {**self._arguments, self._front.data: x}
        if out is not None:
            arguments[self._front.out] = out
        if residual is not None:
            if not self._front.residual:
                raise TypeError(f"{self._function.__name__} takes no residual")
            arguments["residual"] = residual
        keep: Any = contextlib.nullcontext()
        if interop.on_gpu(x):
            arguments = interop.wrap_all(arguments)
            keep = self._workspaces.on(x.ordinal, x.stream)
        token = _replay.set(iter(self._steps))
        try:
            with keep:
                return interop.unwrapped(self._function(**arguments))
        finally:
            _replay.reset(token)

    @property
    def _choices(self) -> list[_planner.Choice]:
        return [step.choice for step in self._steps]

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(c.candidate.problem for c in self._choices)

    @property
    def candidates(self) -> list[_planner.Candidate]:
        """What was chosen for each step, with its estimated or measured seconds."""
        return [c.candidate for c in self._choices]

    @property
    def method(self) -> str:
        return "+".join(dict.fromkeys(c.plan.solver.name for c in self._choices))

    @property
    def config(self) -> Any:
        configs = tuple(dict(c.candidate.config) for c in self._choices)
        return configs[0] if len(configs) == 1 else configs

    @property
    def workspace_bytes(self) -> int:
        return max((c.plan.workspace_bytes for c in self._choices), default=0)

    def explain(self) -> str:
        """Each step's problem, the method chosen and why, its paper, and what else there is."""
        lines = []
        for choice in self._choices:
            problem = choice.candidate.problem
            lines += [str(problem), f"  chosen   {choice.reason}",
                      f"  paper    {choice.plan.solver.paper}"]  # fmt: skip
            for other in _planner.candidates(problem):
                same = (other.method, other.config) == (
                    choice.candidate.method,
                    choice.candidate.config,
                )
                if not same:
                    lines.append(f"  {'refused' if other.refused else 'slower '}  {other}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        steps = "; ".join(str(p) for p in self.problems)
        return f"<Plan {self._function.__name__} by {self.method or 'nothing'}: {steps}>"


def _data(x: Any) -> Any:
    """What a plan is made for or called with, as an array."""
    if interop.on_gpu(x):
        return x
    return interop.wrapped(x) if interop.is_foreign(x) else np.asanyarray(x)


def _arguments(fn: Callable[..., Any], x: Any, w: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Named arguments of a front-end call; x may be an array or a (shape, dtype) pair."""
    front = _front_ends.get(fn)
    if front is None:
        names = sorted({f.__name__ for f in _front_ends})
        raise TypeError(f"expected a fastconv function ({', '.join(names)}), got {fn!r}")
    if isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], tuple | list):
        x = np.zeros(tuple(x[0]), dtype=x[1])  # pages are never touched
    arguments = {front.data: _data(x), **interop.wrap_all(options)}
    if front.kernel is not None:
        if w is not None:  # else the function's own default, such as the size of uniform_filter
            arguments[front.kernel] = interop.wrapped(w) if interop.is_foreign(w) else w
    elif w is not None:
        raise TypeError(f"{fn.__name__} takes no kernel: pass w=None")
    try:
        inspect.signature(fn).bind(**arguments)
    except TypeError as error:
        raise TypeError(f"{fn.__name__}: {error}") from None
    return arguments


def _record(fn: Callable[..., Any], arguments: dict[str, Any], pack: bool) -> tuple[Step, ...]:
    """The steps of a call that is walked through without computing."""
    data, out = arguments[_front_ends[fn].data], arguments.get(_front_ends[fn].out)
    if isinstance(out, np.ndarray):  # what the caller's array holds must outlive the planning
        arguments = {**arguments, _front_ends[fn].out: np.zeros_like(out)}
    steps: list[Step] = []

    def record(step: Step, w: Array) -> None:
        # when the front end swaps the operands, what it passes as kernel is the data
        fixed = pack and w.size > 0 and not _overlap(w, data)
        steps.append(step._replace(packed=step.choice.plan.pack_stored(w)) if fixed else step)

    token, planning = _recorder.set(record), interop.planning.set(True)
    try:
        fn(**arguments)
    finally:
        _recorder.reset(token)
        interop.planning.reset(planning)
    return tuple(steps)


def plan(
    fn: Callable[..., Any], x: Any, w: Any = None, *, tuning: str | None = None, **options: Any
) -> Plan:
    """Prepare a call for repeated use: choose the algorithm and pack the kernel once.

    Parameters
    ----------
    fn : function
        Any function of `fastconv.nn`, `fastconv.signal` or `fastconv.ndimage`.
    x : array_like or (shape, dtype)
        Data of the shape, dtype and memory order that the plan is for; values are not read.
    w : array_like, optional
        What the function takes as kernel: weights, taps, sigma, size. It is copied: later
        changes to it do not change the plan. (On a GPU methods that read it as it lies see them.)
    tuning : str, optional
        The mode of tuning for this plan, as `autotune` takes it.
    **options
        The function's other arguments.

    Returns
    -------
    Plan
        ``plan(x)`` and ``plan(x, out=y)`` give what ``fn(x, w, **options)`` gives.

    Examples
    --------
    >>> import fastconv, numpy as np
    >>> blur = fastconv.plan(fastconv.conv2d, ((1, 3, 64, 64), "f4"), np.ones((8, 3, 5, 5), "f4"))
    >>> blur(np.ones((1, 3, 64, 64), "f4")).shape
    (1, 8, 60, 60)
    """
    arguments = _arguments(fn, x, w, options)
    front = _front_ends[fn]
    if isinstance(w, np.ndarray):
        arguments[front.kernel or ""] = w.copy()
    data = arguments.pop(front.data)
    with contextlib.nullcontext() if tuning is None else _planner.autotune(tuning):
        steps = _record(fn, {**arguments, front.data: data}, pack=front.packs)
    if interop.on_gpu(data):  # so that any stream may read what was packed
        interop.settle(data)
    return Plan(fn, data.shape, data.dtype, arguments, steps)


def candidates(fn: Callable[..., Any], x: Any, w: Any = None, **options: Any) -> list[Any]:
    """Every way to run a call: (method, config) with what each costs, and the refused with why.

    Parameters
    ----------
    fn : function
        Any function of `fastconv.nn`, `fastconv.signal` or `fastconv.ndimage`.
    x : array_like or (shape, dtype)
        Data, or what they are like; values are not read.
    w : array_like, optional
        What the function takes as kernel: weights, taps, sigma, size.
    **options
        The function's other arguments.

    Returns
    -------
    list of Candidate
        For each step of the call (one, for a convolution) the quickest estimate first, then
        those refused, whose attribute `refused` is the reason.

    Examples
    --------
    >>> import fastconv, numpy as np
    >>> found = fastconv.candidates(fastconv.convolve, np.arange(9), np.arange(3))
    >>> sorted({c.method for c in found if c.refused is None})
    ['depthwise', 'direct', 'limbs', 'naive']
    >>> next(c for c in found if c.method == "im2col").refused
    'BLAS multiplies no i64'
    """
    arguments = _arguments(fn, x, w, options)
    limit = options.get("workspace_limit")
    problems = dict.fromkeys(s.choice.candidate.problem for s in _record(fn, arguments, pack=False))
    return [c for p in problems for c in _planner.candidates(p, limit)]


def tune(
    fn: Callable[..., Any], x: Any, w: Any = None, *, budget: float = 2.0, **options: Any
) -> list[Any]:
    """Time the candidates of a call on scratch arrays and remember the fastest.

    Parameters
    ----------
    fn : function
        Any function of `fastconv.nn`, `fastconv.signal` or `fastconv.ndimage`.
    x : array_like or (shape, dtype)
        Data, or what they are like; values are not read.
    w : array_like, optional
        What the function takes as kernel: weights, taps, sigma, size.
    budget : float
        Seconds that timing each problem may take, about.
    **options
        The function's other arguments.

    Returns
    -------
    list of Candidate
        Those timed first, fastest first. Later calls of the same problem use the winner.

    Examples
    --------
    >>> import fastconv, numpy as np
    >>> found = fastconv.tune(fastconv.convolve, np.ones(999), np.ones(99))  # doctest: +SKIP
    >>> [c.method for c in found if c.source == "timed"]  # doctest: +SKIP
    ['direct', 'im2col', 'overlap_save']
    """
    arguments = _arguments(fn, x, w, options)
    limit = options.get("workspace_limit")
    found: list[Any] = []
    for problem in dict.fromkeys(
        s.choice.candidate.problem for s in _record(fn, arguments, pack=False)
    ):
        # a plain call and a prepared one weigh packing differently: both are remembered
        for prepared in (False, True):
            timed = _planner.tune(
                problem.replace(prepared=prepared), workspace_limit=limit, budget=budget / 2
            )
            found += timed if not prepared else []
    forget_plans()
    return found


def forget_plans_of(problem: Problem) -> None:
    """Let the next call of a problem plan anew; plans of `plan` stay as they are."""
    with _cache_lock:
        for key in [k for k, choice in _cache.items() if choice.candidate.problem == problem]:
            del _cache[key]
    _shortcuts.clear()
    _filters.clear()


def forget_plans() -> None:
    """Empty the cache of plans; the next call of each shape plans anew."""
    with _cache_lock:
        _cache.clear()
    _shortcuts.clear()
    _filters.clear()
    _shortcut.kept.clear()
    core.drop_kept()
