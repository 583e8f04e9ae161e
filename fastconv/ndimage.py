"""Linear filters of N-dimensional images with the signatures and the meaning of `scipy.ndimage`.

Every function turns its window and origin into padding and makes one engine call a pass: the
N-dimensional ones make one, the separable ones (gaussian, uniform, sobel, prewitt) one an axis. On
axes that a pass does not reach its kernel is one sample, so that no axis is ever moved.

Sums are computed in float32 when input and output are at most that wide, else in float64. What is
stored in integers is computed in float64, cut towards zero and wrapped modulo 2**bits as C does; or
in those integers themselves, which gives the same, where input and weights are whole numbers.

The input of filters of one kernel and of separable ones may be an array on a GPU (docs/gpu.md):
weights are then an array there, or a list.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from fastconv import _shortcut
from fastconv._engine import at_once, front_end, makes_weights, run, takes_weights
from fastconv._ext import core
from fastconv._plan import store
from fastconv._problem import MAX_DIMS, MAX_SIZE, Array, compute_name, dtype_name, numpy_dtype
from fastconv._solver import Config
from fastconv.cuda.interop import borrow, empty, on_gpu, on_host, share_memory
from fastconv.cuda.taps import Derived, Taps

__all__ = [
    "convolve", "correlate", "convolve1d", "correlate1d", "gaussian_filter", "gaussian_filter1d",
    "uniform_filter", "uniform_filter1d", "sobel", "prewitt", "laplace", "gaussian_laplace",
    "gaussian_gradient_magnitude", "generic_laplace", "generic_gradient_magnitude", "FilterError",
    "FilterTypeError",
]  # fmt: skip

Output = Array | npt.DTypeLike | None
Axes = int | Sequence[int] | None
_Method = str | tuple[str, ...]
_F = TypeVar("_F", bound=Callable[..., Any])


class FilterError(ValueError, RuntimeError):
    """A wrong shape or value where `scipy.ndimage` raises RuntimeError; it is a ValueError too."""


class FilterTypeError(TypeError, RuntimeError):
    """A wrong dtype where `scipy.ndimage` raises RuntimeError; it is a TypeError too."""


#: The engine's name of every mode: for filters the grid- ones are no different.
_BOUNDARIES = {
    "reflect": "reflect", "grid-mirror": "reflect", "constant": "constant",
    "grid-constant": "constant", "nearest": "nearest", "mirror": "mirror", "wrap": "wrap",
    "grid-wrap": "wrap",
}  # fmt: skip

#: Gaussians narrower than this are a single sample: their axes are left as they are.
_NARROWEST = 1e-15

_EPS = float(np.finfo(np.float64).eps)

#: `method` and `accuracy` of a call that leaves both to us.
_BY_DEFAULT = ("auto", "balanced")

#: Weights from which 2 * taps * eps of a byte is over 4 * eps of 255, some times the error of
#: Fourier methods.
_MANY_WEIGHTS = 512

_DIFFERENCE = np.array([-1, 0, 1])
_SECOND_DIFFERENCE = np.array([1, -2, 1])

_DOCUMENTED = {
    "input": """input : array_like
    Any shape, strides and byte order; bool, integer, floating or complex. It is only read.""",
    "output": """output : array or dtype, optional
    Where the result goes, or its dtype; by default a new array of the input's dtype (complex when
    the input or the weights are). An array must have the input's shape; it may be the input.""",
    "mode": """mode : {"reflect", "constant", "nearest", "mirror", "wrap"}, optional
    How the input goes on beyond its ends: ``reflect`` repeats the edge sample
    (d c b a | a b c d | d c b a), ``mirror`` does not (d c b | a b c d | c b a), ``nearest`` is
    (a a a | a b c d | d d d), ``wrap`` is (b c d | a b c d | a b c) and ``constant`` fills with
    `cval`. ``grid-mirror`` is reflect, ``grid-constant`` constant and ``grid-wrap`` wrap.""",
    "modes": """    A sequence has one mode an axis filtered.""",
    "cval": """cval : scalar, optional
    What lies beyond the ends when `mode` is ``constant``.""",
    "axes": """axes : int or sequence of int, optional
    The axes to filter; by default all. Sequences given for other parameters have one value for
    each, in the same order.""",
    "engine": """method, config : str and dict, optional
    The algorithm and its settings, out of `fastconv.candidates`; by default the planner's choice.
accuracy : {"strict", "balanced", "fast"}, optional
    How much rounding error is accepted.
threads : int, optional
    How many threads may work; by default one a core.
workspace_limit : int, optional
    Bytes that may be taken beyond the arrays; by default a quarter of what is free.
flush_denormals : bool, default False
    Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
deterministic : bool, default False
    Give the same bits whatever the number of threads and whatever was measured before.""",
    "returns": """array
    Of the input's shape: `output`, or a new array.""",
    "accuracy": """The error of a pass is at most c * eps * sum(abs(x) * abs(w)) over an output's
window, weights being rounded to the dtype computed in; docs/accuracy.md states c, and where Fourier
methods differ, for each level of `accuracy`. Integer results are cut towards zero and wrap; a sum
that lies below an integer by its own rounding error counts as that integer.""",
    "raises": """FilterError
    A ValueError and a RuntimeError: an unknown mode, a sequence or an output of the wrong size.
FilterTypeError
    A TypeError and a RuntimeError: a dtype that is not supported, complex results for a real
    output array.
ValueError
    An axis or origin out of range, an output that is read-only.""",
}


def _documented(function: _F) -> _F:
    """Put the paragraphs that functions share where their docstrings name them."""
    if function.__doc__:
        text = inspect.cleandoc(function.__doc__)
        for name, paragraph in _DOCUMENTED.items():
            text = text.replace(f"<{name}>", paragraph)
        function.__doc__ = text
    return function


def _options(
    method: _Method, config: Config | None, accuracy: str, threads: int | None,
    workspace_limit: int | None, flush_denormals: bool, deterministic: bool,
) -> dict[str, Any]:  # fmt: skip
    return {"method": method, "config": config, "accuracy": accuracy, "threads": threads,
            "workspace_limit": workspace_limit, "flush_denormals": flush_denormals,
            "deterministic": deterministic}  # fmt: skip


def _as_input(input: npt.ArrayLike) -> Array:
    if isinstance(input, np.ma.MaskedArray):
        raise FilterTypeError("expected input without a mask, got a masked array: fill it first")
    if on_gpu(input):
        return input  # type: ignore[return-value]
    x = on_host("input", input)
    _check_dtype(x.dtype)
    return x


def _as_weights(weights: npt.ArrayLike, x: Array) -> Array:
    """Weights where x is; a list is where it is needed."""
    if on_gpu(x):
        if on_gpu(weights):
            return weights  # type: ignore[return-value]
        if isinstance(weights, np.ndarray):
            raise TypeError(
                "expected weights where input is, on a GPU, or as a list, got an array on the host:"
                " nothing is copied between devices unasked"
            )
    w = on_host("weights", weights)
    _check_dtype(w.dtype)
    return w


def _check_dtype(dtype: np.dtype[Any]) -> str:
    try:
        return dtype_name(dtype)
    except TypeError as error:
        raise FilterTypeError(str(error)) from None


def _as_output(
    output: Output, x: Array, is_complex: bool, allocate: Callable[..., Array] = core.empty
) -> Array:
    """The array that an `output` argument stands for."""
    if output is None or isinstance(output, str | type | np.dtype):
        dtype = x.dtype.newbyteorder("=") if output is None else np.dtype(output)
        name = _check_dtype(dtype)
        if is_complex and name[0] != "c":
            if isinstance(output, str):
                raise FilterTypeError(f"expected a complex output dtype, got {output!r}")
            if output is not None:
                warnings.warn(f"output dtype {dtype} is promoted to complex", stacklevel=4)
            dtype = numpy_dtype(compute_name(name, "c64"))
        return empty(x, x.shape, dtype) if on_gpu(x) else allocate(x.shape, dtype)
    array: Any = output if on_gpu(output) and on_gpu(x) else on_host("output", output)
    if array.shape != x.shape:
        raise FilterError(f"expected an output of the input's shape {x.shape}, got {array.shape}")
    if _check_dtype(array.dtype)[0] != "c" and is_complex:
        raise FilterTypeError(f"expected a complex output array, got one of {array.dtype}")
    if not array.flags.writeable:
        raise ValueError("expected an output that can be written, got a read-only array")
    return array


def _boundary(mode: object) -> str:
    name = _BOUNDARIES.get(mode) if isinstance(mode, str) else None
    if name is None:
        raise FilterError(f"expected a mode out of {tuple(_BOUNDARIES)}, got {mode!r}")
    return name


def _fill(cval: Any, is_complex: bool) -> complex:
    kind = np.asarray(cval).dtype.kind
    if kind not in "biufc":
        raise TypeError(f"expected a number for cval, got {cval!r}")
    if kind == "c" and not is_complex:
        raise TypeError(f"expected a real cval for real input and weights, got {cval!r}")
    value = complex(cval) if is_complex else float(cval)
    return value if value == value else math.nan  # one object: equal calls have equal plans


def _axes(axes: Axes, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axes is None else normalize_axis_tuple(axes, ndim, "axes")


def _each(value: Any, count: int, name: str) -> list[Any]:
    """One value an axis: a sequence of that many, or one for all."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise FilterError(f"expected one {name} or {count}, one an axis; got {len(values)}")
    return values


def _before(size: int, origin: Any, flip: bool) -> int:
    """Samples of a window that come before the output's own place."""
    if not -(size // 2) <= origin <= (size - 1) // 2:
        raise ValueError(
            f"expected an origin of {-(size // 2)} to {(size - 1) // 2} for {size} weights,"
            f" got {origin}"
        )
    # turned round, an even window has its middle one sample further on
    return (size - 1) // 2 - operator.index(origin) if flip else size // 2 + operator.index(origin)


def _is_whole(values: Array) -> bool:
    """Whether all are integers that int64 and float64 both hold."""
    if values.dtype.kind in "biu":
        return True
    return bool(((values == np.rint(values)) & (np.abs(values) < 2.0**53)).all())


def _integer_sums(
    x: Array, w: Array, out: Array, cval: complex, divisor: int
) -> np.dtype[Any] | None:
    """The integers that sums of whole weights are the same in as in float64, if any."""
    value = cval.real
    if x.dtype.kind not in "biu" or not abs(value) < 2**53 or value % 1:
        return None
    if divisor == 1:  # wrapping before the sum or after it is the same
        return out.dtype.newbyteorder("=") if out.dtype.kind != "b" else None
    limits = np.iinfo(x.dtype) if x.dtype.kind != "b" else np.iinfo(np.uint8)
    most = w.size * max(limits.max, -limits.min, int(abs(value)))
    if most >= 2**63:
        return None
    return np.min_scalar_type(-most if x.dtype.kind == "i" or value < 0 else most)


def _window(
    x: Array, w: Array, before: Sequence[int], out: Array, mode: str, cval: complex,
    options: dict[str, Any], flip: bool = False, divisor: int = 1, adds: bool = False,
) -> None:  # fmt: skip
    """Write the sums over windows that start `before` ahead of each output, over `divisor`.

    With `adds` they are added to `out`, floats of the dtype computed in.
    """
    boundary = _boundary(mode)
    if out.size == 0:
        return
    if x.ndim == 0:
        x, w, out, before = x.reshape(1), w.reshape(1), out.reshape(1), (0,)
    elif x.ndim > MAX_DIMS and not on_gpu(x):
        _window_of_many(x, w, before, out, mode, cval, options, flip, divisor)
        return
    if boundary == "constant" and cval == 0:
        boundary = "zeros"
    elif boundary != "constant":
        cval = 0.0
    arguments = {
        **options, "padding": tuple((b, k - 1 - b) for b, k in zip(before, w.shape)),
        "boundary": boundary, "flip": flip,
    }  # fmt: skip
    if on_gpu(x):
        _window_on_gpu(x, w, out, cval, arguments, divisor)
        return
    data = x[None, None]
    if out.dtype.kind not in "biu":
        dtype = numpy_dtype(compute_name(dtype_name(x.dtype), dtype_name(out.dtype)))
        w = w.astype(dtype, copy=False)[None, None]
        to = out[None, None]
        residual = to if adds else None
        run(data, w, dtype=dtype, cval=cval, out=to, residual=residual, **arguments)
        return
    is_whole = _is_whole(w)
    whole = _integer_sums(x, w, out, cval, divisor) if is_whole else None
    if whole is not None:
        w = w if w.dtype.kind in "biu" else w.astype(np.int64)
        arguments |= {"dtype": whole, "cval": int(cval.real)}
        w = w.astype(whole, copy=False)[None, None]
        if divisor == 1:
            run(data, w, out=out[None, None], **arguments)
            return
        y = run(data, w, **arguments)
        if whole.kind == "i":  # towards zero, where // is towards minus infinity
            np.add(y, divisor - 1, out=y, where=y < 0)
        y //= divisor
        store(y[0, 0], out)
        return
    dtype = numpy_dtype("f80" if dtype_name(x.dtype) == "f80" else "f64")
    if x.dtype.kind in "biu" and (arguments["method"], arguments["accuracy"]) == _BY_DEFAULT:
        # What is cut must be right to its own size: Winograd and Fourier are to that of the largest
        # sample. With that many weights the factor below makes up for them, for bytes.
        if is_whole or x.dtype.itemsize > 1 or w.size < _MANY_WEIGHTS:
            arguments["accuracy"] = "strict"
    if not is_whole:
        # Rounding may leave a sum just below the integer that it is, which cutting would turn into
        # the next lower one: 99 of an even 100. This factor is above 1 by more than that error.
        w = w * (1 + 2 * w.size * _EPS)
    w = w.astype(dtype, copy=False)[None, None]
    if divisor == 1:
        run(data, w, dtype=dtype, cval=cval, out=out[None, None], **arguments)
        return
    y = run(data, w, dtype=dtype, cval=cval, **arguments)
    store(y[0, 0] / divisor, out)


def _window_on_gpu(
    x: Array, w: Array, out: Array, cval: complex, arguments: dict[str, Any], divisor: int = 1
) -> None:
    """`_window` in the dimensions that there are kernels of: axes with one weight are images where
    they come first, and one axis where they come last."""
    if share_memory(x, out):
        apart = borrow(x, out.shape, out.dtype)
        _window_on_gpu(x, w, apart, cval, arguments, divisor)
        _scaled_on_gpu(apart, out, 1, arguments)
        return
    if out.dtype.kind in "biu":
        _integers_on_gpu(x, w, out, cval, arguments, divisor)
        return
    dtype = numpy_dtype(compute_name(dtype_name(x.dtype), dtype_name(out.dtype)))
    _pass_on_gpu(x, w, out, cval, arguments, dtype)


def _scaled_on_gpu(x: Any, out: Any, factor: float, arguments: dict[str, Any]) -> None:
    """out = factor * x: a filter of one weight, in float64 or, of 1, in out's own dtype."""
    dtype = out.dtype if factor == 1 else np.dtype("f8")
    none = ((0, 0),) * x.ndim
    one = np.full((1,) * x.ndim, factor)
    alone = arguments | {"padding": none, "boundary": "zeros", "flip": False, "method": "auto",
                         "config": None}  # fmt: skip
    _pass_on_gpu(x, one, out, 0.0, alone, dtype)


def _integers_on_gpu(
    x: Array, w: Array, out: Array, cval: complex, arguments: dict[str, Any], divisor: int
) -> None:
    """`_window` with an output of integers: in integers, or in float64 and cut towards zero.

    Values on a GPU are not looked at: weights there are whole numbers if their dtype is.
    """
    if out.dtype.kind == "b":
        raise FilterTypeError("expected no bool output on a GPU, got one")
    is_whole = w.dtype.kind in "biu" or (not on_gpu(w) and _is_whole(w))
    whole = _integer_sums(x, w, out, cval, divisor) if is_whole else None
    if whole is not None and divisor == 1:
        _pass_on_gpu(x, w, out, int(cval.real), arguments, whole)
        return
    if is_whole and divisor > 1:
        kind = np.dtype("f8") if whole is None else whole
        sums = borrow(x, x.shape, kind)
        _pass_on_gpu(x, w, sums, cval if whole is None else int(cval.real), arguments, kind)
        # a quotient is a whole number, or 1 / divisor and more below one: above its errors, three
        # roundings, and below what lacks, where sums are below 2**53 / 8
        _scaled_on_gpu(sums, out, (1 + 4 * _EPS) / divisor, arguments)
        return
    # as on the host: above 1 by more than sums' own error, so that 99.99 of an even 100 is that
    grown = (1 + 2 * w.size * _EPS) / divisor
    if on_gpu(w):
        w = Derived(w, np.dtype("f8"), at_once(_scaled_on_gpu, grown, arguments))  # type: ignore
    else:
        w = w * grown
    _pass_on_gpu(x, w, out, cval, arguments, np.dtype("f8"))


def _pass_on_gpu(
    x: Array, w: Array, out: Array, cval: complex, arguments: dict[str, Any], dtype: Any
) -> None:
    """One engine call of a window, summed in `dtype`."""
    reach = [a for a, k in enumerate(w.shape) if k > 1] or [x.ndim - 1]
    first, last = reach[0], reach[-1] + 1
    taps: Any = w if on_gpu(w) else Taps(w.astype(dtype), x)  # type: ignore[arg-type]

    def seen(a: Any, batch: int) -> Any:
        after = (math.prod(a.shape[last:]),) if last < x.ndim else ()
        return a.reshape((batch, 1, *a.shape[first:last], *after))

    images, pads = math.prod(x.shape[:first]), list(arguments["padding"])
    if last < x.ndim:
        pads[last] = (0, 0)
    arguments = arguments | {"padding": tuple(pads[first : last + 1])}
    run(seen(x, images), seen(taps, 1), dtype=dtype, cval=cval, out=seen(out, images), **arguments)


def _window_of_many(
    x: Array, w: Array, before: Sequence[int], out: Array, mode: str, cval: complex,
    options: dict[str, Any], flip: bool, divisor: int,
) -> None:  # fmt: skip
    """`_window` in more dimensions than the engine's: those with one weight become a single one."""
    reach = [a for a, k in enumerate(w.shape) if k > 1]
    if len(reach) >= MAX_DIMS:
        raise ValueError(
            f"expected fewer than {MAX_DIMS} axes with several weights, got weights {w.shape}"
        )
    order = [a for a in range(x.ndim) if a not in reach] + reach
    shape = tuple(x.shape[a] for a in order)
    flat = (math.prod(shape[: x.ndim - len(reach)]), *(x.shape[a] for a in reach))
    y = np.empty(shape, out.dtype)
    _window(
        x.transpose(order).reshape(flat), w.reshape(1, *(k for k in w.shape if k > 1)),
        (0, *(before[a] for a in reach)), y.reshape(flat), mode, cval, options, flip, divisor,
    )  # fmt: skip
    out.transpose(order)[...] = y


class _Pass(NamedTuple):
    """A filter of one axis: 1-D weights, `before` of them ahead of the output's place."""

    axis: int
    weights: Array
    before: int
    mode: str
    divisor: int = 1
    method: _Method | None = None  # in place of the call's


def _separable(
    x: Array, passes: Sequence[_Pass], out: Array, cval: complex, options: dict[str, Any]
) -> None:
    """Filter axis by axis. What lies between passes is of the dtype computed in, or, as in SciPy,
    of the output's when that is an integer."""
    if not passes and not on_gpu(x):
        store(x, out)
        return
    passes = passes or [_Pass(0, np.ones(1), 0, "nearest")]
    for step in passes:
        _boundary(step.mode)  # before anything is written
    middle = out.dtype
    if middle.kind not in "biu":
        middle = numpy_dtype(compute_name(dtype_name(x.dtype), dtype_name(middle)))
    if (kernel := _outer_product(x, passes, middle, cval, options)) is not None:
        before = [0] * x.ndim
        for step in passes:
            before[step.axis] = step.before
        _window(x, kernel, before, out, passes[0].mode, cval, options)
        return
    # two arrays take turns, so that no pass reads what it writes; out is one of them when it can be
    turns: list[Array | None] = [out if middle == out.dtype else None, None]
    for left, step in zip(range(len(passes) - 1, -1, -1), passes):
        target = turns[left % 2] if left else out
        if target is None:
            target = turns[left % 2] = borrow(x, x.shape, middle)
        ones = (1,) * x.ndim
        shape, before = list(ones), [0] * x.ndim
        shape[step.axis], before[step.axis] = step.weights.size, step.before
        chosen = options if step.method is None else options | {"method": step.method}
        _window(x, step.weights.reshape(shape), before, target, step.mode, cval, chosen,
                divisor=step.divisor)  # fmt: skip
        x = target


#: Weights of an outer product that are worth making, for one call instead of one an axis.
_MOST_WEIGHTS = 1 << 14

#: The same on a GPU, where nothing sees through it: 5 x 5 taps are 10 loads from L1 an output
#: (`cost` of cuda_direct), by data sheets as long as it takes to write and read it once more.
_MOST_ON_GPU = 25


def _outer_product(
    x: Array, passes: Sequence[_Pass], dtype: np.dtype[Any], cval: complex, options: dict[str, Any]
) -> Array | None:
    """The one kernel that all passes together are, if they are one that the engine sees through."""
    names = options["method"]
    if len(passes) < 2 or len(passes) > 3 or x.ndim > MAX_DIMS:
        return None
    if dtype.char not in "fd" and not _wraps(x, passes, dtype):
        return None
    if not ("auto" in names or "separable" in names) or x.dtype.kind == "c":
        return None
    boundaries = {_boundary(step.mode) for step in passes}
    shape = [1] * x.ndim
    for step in passes:
        shape[step.axis] *= step.weights.size
    # beyond the ends lies a constant that the first pass changes and the second does not
    if len(boundaries) > 1 or ("constant" in boundaries and cval != 0):
        return None
    most = _MOST_ON_GPU if on_gpu(x) else _MOST_WEIGHTS
    if math.prod(shape) > most or len({step.axis for step in passes}) < len(passes):
        return None
    factors = tuple((s.axis, s.weights.dtype.char, s.weights.tobytes()) for s in passes)
    return _product_of(x.ndim, factors, dtype.char)


def _wraps(x: Array, passes: Sequence[_Pass], dtype: np.dtype[Any]) -> bool:
    """Whether passes in integers are sums modulo 2**bits, which one kernel gives as well."""
    if dtype.kind not in "iu" or dtype.itemsize > 2 or x.dtype.kind not in "biu":
        return False
    return all(step.divisor == 1 and step.weights.dtype.kind == "i" for step in passes)


@functools.lru_cache(maxsize=64)
def _product_of(ndim: int, factors: tuple[tuple[int, str, bytes], ...], char: str) -> Array | None:
    """The outer product of factors (axis, dtype, values); None where it has subnormals."""
    dtype = np.dtype(char)
    kernel = np.ones((1,) * ndim, np.int64 if dtype.kind in "iu" else np.float64)
    for axis, kind, values in factors:
        weights = np.frombuffer(values, kind)
        along = [1] * ndim
        along[axis] = weights.size
        kernel = kernel * weights.reshape(along)
    kernel = kernel.astype(dtype)
    kernel.flags.writeable = False
    if dtype.kind in "iu":
        return kernel
    smallest = np.abs(kernel, where=kernel != 0, out=np.ones_like(kernel)).min()
    return kernel if smallest >= np.finfo(dtype).smallest_normal else None


def _weights1d(weights: npt.ArrayLike, x: Array) -> Array:
    w = _as_weights(weights, x)
    if w.ndim != 1 or w.size == 0:
        raise FilterError(f"expected 1-D weights, at least one; got shape {w.shape}")
    return w


def _filter(
    input: npt.ArrayLike, weights: npt.ArrayLike, output: Output, mode: str, cval: complex,
    origin: int | Sequence[int], axes: Axes, flip: bool, options: dict[str, Any],
) -> Array:  # fmt: skip
    x = _as_input(input)
    return _filtered(x, _as_weights(weights, x), output, mode, cval, origin, axes, flip, options)


def _filtered(
    x: Array, w: Array, output: Output, mode: str, cval: complex, origin: int | Sequence[int],
    axes: Axes, flip: bool, options: dict[str, Any],
) -> Array:  # fmt: skip
    axes = _axes(axes, x.ndim)
    if w.ndim != len(axes):
        raise FilterError(f"expected weights with {len(axes)} axes, those filtered; got {w.shape}")
    if w.size == 0:
        raise FilterError(f"expected at least one weight on each axis, got shape {w.shape}")
    # as in SciPy, weights follow the order of the image's axes, whatever that of `axes`
    kept = sorted(axes)
    w = w[tuple(slice(None) if a in kept else None for a in range(x.ndim))]
    before = [0] * x.ndim
    for axis, place in zip(axes, _each(origin, len(axes), "origin")):
        before[axis] = _before(w.shape[axis], place, flip)
    is_complex = "c" in (x.dtype.kind, w.dtype.kind)
    if np.iscomplexobj(cval) and w.dtype.kind == "c" != x.dtype.kind:
        raise ValueError(f"expected a real cval for real input, got {cval!r}")
    fill = _fill(cval, is_complex)
    _boundary(mode)
    out = _as_output(output, x, is_complex)
    if w.dtype.kind == "c" and not flip:
        w = w.conj()
    _window(x, w, before, out, mode, fill, options, flip)
    return out


def _filter1d(
    input: npt.ArrayLike, weights: npt.ArrayLike, axis: int, output: Output, mode: str,
    cval: complex, origin: int, flip: bool, options: dict[str, Any],
) -> Array:  # fmt: skip
    x = _as_input(input)
    axis = normalize_axis_index(axis, x.ndim)
    w = _weights1d(weights, x)
    return _filtered(x, w, output, mode, cval, origin, axis, flip, options)


@front_end(data="input", kernel="weights", out="output")
@takes_weights
@_documented
def correlate(
    input: npt.ArrayLike, weights: npt.ArrayLike, output: Output = None, mode: str = "reflect",
    cval: complex = 0.0, origin: int | Sequence[int] = 0, *, axes: Axes = None,
    method: _Method = "auto", config: Config | None = None, accuracy: str = "balanced",
    threads: int | None = None, workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """N-dimensional correlation: ``out[i] = sum over r of x[i + r - size // 2 - origin] * w[r]``.

    Parameters
    ----------
    <input>
    weights : array_like
        As many axes as are filtered, in the input's order; at least one weight on each. Complex
        weights are conjugated.
    <output>
    <mode>
    <cval>
    origin : int or sequence of int, optional
        Shift of the window, ``-(size // 2) <= origin <= (size - 1) // 2``; a positive one reaches
        further to the left.
    <axes>
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    convolve : the same with the weights turned round.
    scipy.ndimage.correlate

    Notes
    -----
    <accuracy>

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import correlate
    >>> correlate(np.array([0, 0, 1, 0, 0]), [1, 2, 3])
    array([0, 3, 2, 1, 0])
    """
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    return _filter(input, weights, output, mode, cval, origin, axes, False, options)


@front_end(data="input", kernel="weights", out="output")
@takes_weights
@_documented
def convolve(
    input: npt.ArrayLike, weights: npt.ArrayLike, output: Output = None, mode: str = "reflect",
    cval: complex = 0.0, origin: int | Sequence[int] = 0, *, axes: Axes = None,
    method: _Method = "auto", config: Config | None = None, accuracy: str = "balanced",
    threads: int | None = None, workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """N-dimensional convolution: ``out[i] = sum over r of x[i - r + size // 2 + origin] * w[r]``.

    Parameters
    ----------
    <input>
    weights : array_like
        As many axes as are filtered, in the input's order; at least one weight on each.
    <output>
    <mode>
    <cval>
    origin : int or sequence of int, optional
        Shift of the window, ``-(size // 2) <= origin <= (size - 1) // 2``; a positive one reaches
        further to the right.
    <axes>
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    correlate : the same without turning the weights round.
    scipy.ndimage.convolve

    Notes
    -----
    <accuracy>

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import convolve
    >>> convolve(np.array([0, 0, 1, 0, 0]), [1, 2, 3])
    array([0, 1, 2, 3, 0])
    >>> convolve(np.eye(3), np.ones((3, 3)) / 9, mode="constant").round(2)
    array([[0.22, 0.22, 0.11],
           [0.22, 0.33, 0.22],
           [0.11, 0.22, 0.22]])
    """
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    return _filter(input, weights, output, mode, cval, origin, axes, True, options)


@front_end(data="input", kernel="weights", out="output")
@takes_weights
@_documented
def correlate1d(
    input: npt.ArrayLike, weights: npt.ArrayLike, axis: int = -1, output: Output = None,
    mode: str = "reflect", cval: complex = 0.0, origin: int = 0, *, method: _Method = "auto",
    config: Config | None = None, accuracy: str = "balanced", threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Correlation along one axis; see `correlate`.

    Parameters
    ----------
    <input>
    weights : array_like, 1-D
        At least one weight. Complex weights are conjugated.
    axis : int, optional
        The axis filtered; by default the last.
    <output>
    <mode>
    <cval>
    origin : int, optional
        Shift of the window, ``-(size // 2) <= origin <= (size - 1) // 2``.
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.correlate1d

    Notes
    -----
    <accuracy>

    Examples
    --------
    >>> from fastconv.ndimage import correlate1d
    >>> correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    return _filter1d(input, weights, axis, output, mode, cval, origin, False, options)


@front_end(data="input", kernel="weights", out="output")
@takes_weights
@_documented
def convolve1d(
    input: npt.ArrayLike, weights: npt.ArrayLike, axis: int = -1, output: Output = None,
    mode: str = "reflect", cval: complex = 0.0, origin: int = 0, *, method: _Method = "auto",
    config: Config | None = None, accuracy: str = "balanced", threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Convolution along one axis; see `convolve`.

    Parameters
    ----------
    <input>
    weights : array_like, 1-D
        At least one weight.
    axis : int, optional
        The axis filtered; by default the last.
    <output>
    <mode>
    <cval>
    origin : int, optional
        Shift of the window, ``-(size // 2) <= origin <= (size - 1) // 2``.
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.convolve1d

    Notes
    -----
    <accuracy>

    Examples
    --------
    >>> from fastconv.ndimage import convolve1d
    >>> convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    return _filter1d(input, weights, axis, output, mode, cval, origin, True, options)


def _gaussian_pass(
    axis: int, sigma: Any, order: Any, mode: str, truncate: float, radius: Any
) -> _Pass | None:
    """The pass of a sampled Gaussian or its derivative; None when it is a single sample."""
    sigma, order = float(sigma), operator.index(order)
    if not sigma >= 0:
        raise ValueError(f"expected a sigma of at least 0, got {sigma}")
    if order < 0:
        raise ValueError(f"expected an order of at least 0, got {order}")
    if sigma <= _NARROWEST:
        return None
    if radius is None:
        reach = truncate * sigma + 0.5
        if not 0 <= reach < MAX_SIZE:
            raise ValueError(f"expected truncate * sigma to be a size, got {reach - 0.5}")
        radius = int(reach)
    try:
        radius = operator.index(radius)
    except TypeError:
        raise ValueError(f"expected an integer radius, got {radius!r}") from None
    if not 0 <= radius < MAX_SIZE:
        raise ValueError(f"expected a radius of at least 0, got {radius}")
    u = np.arange(-radius, radius + 1) / sigma
    weights = np.exp(-0.5 * u * u)
    weights /= weights.sum()
    if order:
        # the n-th derivative of exp(-u*u/2) is (-1)**n He_n(u) exp(-u*u/2); correlation turns the
        # kernel round, which takes the sign away
        hermite = np.polynomial.hermite_e.hermeval(u, [0] * order + [1])
        weights *= hermite / sigma**order
    return _Pass(axis, weights, radius, mode)


@front_end(data="input", kernel="sigma", out="output")
@makes_weights
@_documented
def gaussian_filter1d(
    input: npt.ArrayLike, sigma: float, axis: int = -1, order: int = 0, output: Output = None,
    mode: str = "reflect", cval: complex = 0.0, truncate: float = 4.0, *,
    radius: int | None = None, method: _Method = "auto", config: Config | None = None,
    accuracy: str = "balanced", threads: int | None = None, workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Convolve one axis with a Gaussian or one of its derivatives.

    Parameters
    ----------
    <input>
    sigma : float
        Standard deviation in samples; up to 1e-15 the axis is left as it is.
    axis : int, optional
        The axis filtered; by default the last.
    order : int, optional
        0 for the Gaussian itself, n for its n-th derivative.
    <output>
    <mode>
    <cval>
    truncate : float, optional
        The kernel reaches this many standard deviations to each side, rounded to whole samples.
    radius : int, optional
        The kernel reaches this many samples to each side, whatever `truncate` is.
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>
        Also a negative sigma, order or radius.

    See Also
    --------
    scipy.ndimage.gaussian_filter1d

    Notes
    -----
    Weights are the sampled Gaussian divided by its sum, in float64.
    <accuracy>

    Examples
    --------
    >>> from fastconv.ndimage import gaussian_filter1d
    >>> gaussian_filter1d([1.0, 2.0, 3.0, 4.0, 5.0], 1).round(4)
    array([1.427 , 2.0678, 3.    , 3.9322, 4.573 ])
    """
    x = _as_input(input)
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    axis = normalize_axis_index(axis, x.ndim)
    step = _gaussian_pass(axis, sigma, order, mode, truncate, radius)
    _boundary(mode)
    is_complex = x.dtype.kind == "c"
    fill = _fill(cval, is_complex)
    out = _as_output(output, x, is_complex)
    _separable(x, [step] if step else [], out, fill, options)
    return out


@front_end(data="input", kernel="sigma", out="output")
@makes_weights
@_documented
def gaussian_filter(
    input: npt.ArrayLike, sigma: float | Sequence[float], order: int | Sequence[int] = 0,
    output: Output = None, mode: str | Sequence[str] = "reflect", cval: complex = 0.0,
    truncate: float = 4.0, *, radius: int | Sequence[int] | None = None, axes: Axes = None,
    method: _Method = "auto", config: Config | None = None, accuracy: str = "balanced",
    threads: int | None = None, workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Convolve with a Gaussian or its derivatives, axis by axis.

    Parameters
    ----------
    <input>
    sigma : float or sequence of float
        Standard deviation in samples, on each axis; axes where it is 1e-15 or less are left as they
        are.
    order : int or sequence of int, optional
        0 for the Gaussian itself, n for its n-th derivative on an axis.
    <output>
    <mode>
    <modes>
    <cval>
    truncate : float, optional
        The kernel reaches this many standard deviations to each side, rounded to whole samples.
    radius : int or sequence of int, optional
        The kernel reaches this many samples to each side, whatever `truncate` is.
    <axes>
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>
        Also a negative sigma, order or radius.

    See Also
    --------
    scipy.ndimage.gaussian_filter

    Notes
    -----
    Weights are sampled Gaussians divided by their sum, in float64.
    <accuracy>

    Between axes integers are stored in the output's dtype, so ask for a floating-point one where
    fractions matter.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import gaussian_filter
    >>> x = np.zeros((3, 5), np.float32)
    >>> x[1, 2] = 1
    >>> gaussian_filter(x, 0.6, mode="constant").round(3)
    array([[0.   , 0.027, 0.11 , 0.027, 0.   ],
           [0.002, 0.11 , 0.441, 0.11 , 0.002],
           [0.   , 0.027, 0.11 , 0.027, 0.   ]], dtype=float32)
    """
    x = _as_input(input)
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    axes = _axes(axes, x.ndim)
    values = [_each(value, len(axes), name) for value, name in
              ((sigma, "sigma"), (order, "order"), (mode, "mode"), (radius, "radius"))]  # fmt: skip
    steps = [_gaussian_pass(axis, s, o, m, truncate, r) for axis, s, o, m, r in zip(axes, *values)]
    is_complex = x.dtype.kind == "c"
    fill = _fill(cval, is_complex)
    out = _as_output(output, x, is_complex)
    _separable(x, [step for step in steps if step], out, fill, options)
    return out


#: Most integers whose mean `separable` is asked for: its published bound, which is that of a sum in
#: floating point, admits 1028 at every accuracy.
_MOST_MEANS = 1024


def _uniform_pass(
    axis: int, size: int, origin: int, mode: str, x: Array, out: Array, cval: complex,
    options: dict[str, Any],
) -> _Pass:  # fmt: skip
    before = _before(size, origin, False)
    if out.dtype.kind not in "biu":
        return _Pass(axis, np.full(size, 1 / np.longdouble(size)), before, mode)
    # A sum of integers is exact, and so is its quotient's integer part. `separable` makes both at
    # once; other solvers would sum weighted samples in floating point, whose errors show where
    # those of both signs cancel.
    limited = options["workspace_limit"] is not None or options["config"] is not None
    taken = options["method"] == "separable" or (options["method"] == "auto" and not limited)
    taken = taken and not on_gpu(x)
    same = x.dtype.newbyteorder("=") == out.dtype.newbyteorder("=")
    if taken and same and x.dtype.char in "bBhH" and 1 < size <= _MOST_MEANS:
        limits = np.iinfo(x.dtype)
        if _boundary(mode) != "constant" or cval in range(limits.min, limits.max + 1):
            return _Pass(axis, np.full(size, 1 / size), before, mode, method="separable")
    return _Pass(axis, np.ones(size, np.int64), before, mode, size)


@front_end(data="input", kernel="size", out="output")
@makes_weights
@_documented
def uniform_filter1d(
    input: npt.ArrayLike, size: int, axis: int = -1, output: Output = None, mode: str = "reflect",
    cval: complex = 0.0, origin: int = 0, *, method: _Method = "auto",
    config: Config | None = None, accuracy: str = "balanced", threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Mean of `size` neighbours along one axis.

    Parameters
    ----------
    <input>
    size : int
        Samples averaged, at least 1.
    axis : int, optional
        The axis filtered; by default the last.
    <output>
    <mode>
    <cval>
    origin : int, optional
        Shift of the window, ``-(size // 2) <= origin <= (size - 1) // 2``.
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>
        Also a size below 1.

    See Also
    --------
    scipy.ndimage.uniform_filter1d

    Notes
    -----
    <accuracy>

    Examples
    --------
    >>> from fastconv.ndimage import uniform_filter1d
    >>> uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    x = _as_input(input)
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    axis = normalize_axis_index(axis, x.ndim)
    size = operator.index(size)
    if size < 1:
        raise FilterError(f"expected a size of at least 1, got {size}")
    _before(size, origin, False)
    _boundary(mode)
    is_complex = x.dtype.kind == "c"
    fill = _fill(cval, is_complex)
    out = _as_output(output, x, is_complex)
    step = _uniform_pass(axis, size, origin, mode, x, out, fill, options)
    _separable(x, [step], out, fill, options)
    return out


@front_end(data="input", kernel="size", out="output")
@makes_weights
@_documented
def uniform_filter(
    input: npt.ArrayLike, size: int | Sequence[int] = 3, output: Output = None,
    mode: str | Sequence[str] = "reflect", cval: complex = 0.0, origin: int | Sequence[int] = 0, *,
    axes: Axes = None, method: _Method = "auto", config: Config | None = None,
    accuracy: str = "balanced", threads: int | None = None, workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Mean of a box of neighbours, axis by axis.

    Parameters
    ----------
    <input>
    size : int or sequence of int, optional
        Samples averaged on each axis; axes where it is 0 or 1 are left as they are.
    <output>
    <mode>
    <modes>
    <cval>
    origin : int or sequence of int, optional
        Shift of the window, ``-(size // 2) <= origin <= (size - 1) // 2``.
    <axes>
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>
        Also a negative size.

    See Also
    --------
    scipy.ndimage.uniform_filter

    Notes
    -----
    <accuracy>

    Between axes integers are stored in the output's dtype, so ask for a floating-point one where
    fractions matter.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import uniform_filter
    >>> uniform_filter(np.arange(12.0).reshape(3, 4), size=(1, 3), mode="nearest").round(2)
    array([[ 0.33,  1.  ,  2.  ,  2.67],
           [ 4.33,  5.  ,  6.  ,  6.67],
           [ 8.33,  9.  , 10.  , 10.67]])
    """
    x = _as_input(input)
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    axes = _axes(axes, x.ndim)
    sizes = []
    for value in _each(size, len(axes), "size"):
        if not (value >= 0 and int(value) == value):
            raise FilterError(f"expected sizes that are integers of at least 0, got {value!r}")
        sizes.append(int(value))
    origins, modes = _each(origin, len(axes), "origin"), _each(mode, len(axes), "mode")
    steps = [step for step in zip(axes, sizes, origins, modes) if step[1] > 1]
    for _, length, place, _ in steps:
        _before(length, place, False)
    is_complex = x.dtype.kind == "c"
    fill = _fill(cval, is_complex)
    out = _as_output(output, x, is_complex)
    passes = [_uniform_pass(*step, x, out, fill, options) for step in steps]
    _separable(x, passes, out, fill, options)
    return out


def _gradient(
    input: npt.ArrayLike, axis: int, output: Output, mode: str | Sequence[str], cval: complex,
    smoothing: Sequence[int], options: dict[str, Any],
) -> Array:  # fmt: skip
    """Difference of both neighbours along one axis, smoothed along all others."""
    x = _as_input(input)
    axis = normalize_axis_index(axis, x.ndim)
    modes = _each(mode, x.ndim, "mode")
    is_complex = x.dtype.kind == "c"
    fill = _fill(cval, is_complex)
    out = _as_output(output, x, is_complex)
    others = [a for a in range(x.ndim) if a != axis]
    passes = [_Pass(axis, _DIFFERENCE, 1, modes[axis])]
    passes += [_Pass(a, np.array(smoothing), 1, modes[a]) for a in others]
    _separable(x, passes, out, fill, options)
    return out


@front_end(data="input", kernel=None, out="output")
@makes_weights
@_documented
def sobel(
    input: npt.ArrayLike, axis: int = -1, output: Output = None,
    mode: str | Sequence[str] = "reflect", cval: complex = 0.0, *, method: _Method = "auto",
    config: Config | None = None, accuracy: str = "balanced", threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Sobel derivative: [-1, 0, 1] along one axis, [1, 2, 1] along all others.

    Parameters
    ----------
    <input>
    axis : int, optional
        The axis differentiated; by default the last.
    <output>
    <mode>
        A sequence has one mode an axis of the input.
    <cval>
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.sobel

    Notes
    -----
    <accuracy>

    Unsigned results wrap: ask for a signed or floating-point output of unsigned input.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import sobel
    >>> edge = np.array([[0, 0, 9, 9]] * 3, np.uint8)
    >>> sobel(edge, output=np.int16)[0]
    array([ 0, 36, 36,  0], dtype=int16)
    """
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    return _gradient(input, axis, output, mode, cval, (1, 2, 1), options)


@front_end(data="input", kernel=None, out="output")
@makes_weights
@_documented
def prewitt(
    input: npt.ArrayLike, axis: int = -1, output: Output = None,
    mode: str | Sequence[str] = "reflect", cval: complex = 0.0, *, method: _Method = "auto",
    config: Config | None = None, accuracy: str = "balanced", threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Prewitt derivative: [-1, 0, 1] along one axis, [1, 1, 1] along all others.

    Parameters
    ----------
    <input>
    axis : int, optional
        The axis differentiated; by default the last.
    <output>
    <mode>
        A sequence has one mode an axis of the input.
    <cval>
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.prewitt

    Notes
    -----
    <accuracy>

    Unsigned results wrap: ask for a signed or floating-point output of unsigned input.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import prewitt
    >>> edge = np.array([[0, 0, 9, 9]] * 3, np.uint8)
    >>> prewitt(edge, output=np.int16)[0]
    array([ 0, 27, 27,  0], dtype=int16)
    """
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    return _gradient(input, axis, output, mode, cval, (1, 1, 1), options)


def _combine(
    input: npt.ArrayLike, derivative: Callable[..., Any], output: Output,
    mode: str | Sequence[str], cval: complex, arguments: Sequence[Any], keywords: dict[str, Any],
    axes: Axes, squared: bool,
) -> Array:  # fmt: skip
    """Sum, or root of the sum of squares, of a derivative along each axis."""
    x = _as_input(input)
    axes = _axes(axes, x.ndim)
    modes = _each(mode, len(axes), "mode")
    _fill(cval, x.dtype.kind == "c")
    # zeros, because a derivative may leave samples of its output alone
    out = _as_output(output, x, x.dtype.kind == "c", np.zeros)
    if not axes:
        store(x, out)
        return out
    total = np.zeros_like(out) if np.may_share_memory(x, out) else out
    derivative(x, axes[0], total, modes[0], cval, *arguments, **keywords)
    if squared:
        np.multiply(total, total, out=total)
    for axis, rule in zip(axes[1:], modes[1:]):
        term = derivative(x, axis, total.dtype, rule, cval, *arguments, **keywords)
        if squared:
            np.multiply(term, term, out=term)
        total += term
    if squared:
        np.sqrt(total, out=total, casting="unsafe")
    if total is not out:
        out[...] = total
    return out


@front_end(data="input", kernel="derivative2", out="output")
@_documented
def generic_laplace(
    input: npt.ArrayLike, derivative2: Callable[..., Any], output: Output = None,
    mode: str | Sequence[str] = "reflect", cval: complex = 0.0,
    extra_arguments: Sequence[Any] = (), extra_keywords: dict[str, Any] | None = None, *,
    axes: Axes = None,
) -> Array:  # fmt: skip
    """Laplacian: the sum over axes of a given second derivative.

    Parameters
    ----------
    <input>
    derivative2 : callable
        Called as ``derivative2(input, axis, output, mode, cval, *extra_arguments,
        **extra_keywords)``. For the first axis `output` is an array, which it must write to, for
        the others a dtype, and it must return a new array.
    <output>
    <mode>
    <modes>
    <cval>
    extra_arguments : sequence, optional
        Further positional arguments of `derivative2`.
    extra_keywords : dict, optional
        Its keyword arguments; those that choose the algorithm belong here.
    <axes>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.generic_laplace

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import correlate1d, generic_laplace
    >>> def second(input, axis, output, mode, cval):
    ...     return correlate1d(input, [1, -2, 1], axis, output, mode, cval)
    >>> generic_laplace(np.diag([0, 1, 0]), second, mode="constant")
    array([[ 0,  1,  0],
           [ 1, -4,  1],
           [ 0,  1,  0]])
    """
    return _combine(input, derivative2, output, mode, cval, extra_arguments, extra_keywords or {},
                    axes, False)  # fmt: skip


@front_end(data="input", kernel=None, out="output")
@makes_weights
@_documented
def laplace(
    input: npt.ArrayLike, output: Output = None, mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0, *, axes: Axes = None, method: _Method = "auto",
    config: Config | None = None, accuracy: str = "balanced", threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False,
) -> Array:  # fmt: skip
    """Laplacian by second differences: the sum over axes of [1, -2, 1].

    Parameters
    ----------
    <input>
    <output>
    <mode>
    <modes>
    <cval>
    <axes>
    <engine>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.laplace

    Notes
    -----
    <accuracy>

    Unsigned results wrap: ask for a signed or floating-point output of unsigned input.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import laplace
    >>> laplace(np.array([0, 1, 4, 9, 16, 25]), mode="nearest")
    array([ 1,  2,  2,  2,  2, -9])
    """
    options = _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )

    x = _as_input(on_host("input", input))
    axes = _axes(axes, x.ndim)
    modes = _each(mode, len(axes), "mode")
    is_complex = x.dtype.kind == "c"
    fill = _fill(cval, is_complex)
    out = _as_output(output, x, is_complex)
    if not axes:
        store(x, out)
        return out
    for rule in modes:
        _boundary(rule)  # before anything is written
    total = empty(x, out.shape, out.dtype) if share_memory(x, out) else out

    def differences() -> None:
        for count, (axis, rule) in enumerate(zip(axes, modes)):
            _add_second_difference(x, axis, rule, total, fill, options, adds=count > 0)

    if not _is_one_cross(x, total, axes, modes, fill):
        differences()
    else:
        _write_cross(x, axes, modes[0], total, fill, options)
        if total.dtype.kind == "f":  # its corners bring infinities to windows that do not hold them
            _shortcut.unless_finite(total, differences)
    if total is not out:
        out[...] = total
    return out


def _is_one_cross(
    x: Array, out: Array, axes: tuple[int, ...], modes: Sequence[str], fill: complex
) -> bool:
    """Whether a sum along two axes is that of one kernel: whole numbers wrap as their parts do, and
    of floats one rounding is as good as another."""
    boundaries = {_boundary(mode) for mode in modes}
    if len(axes) != 2 or len(boundaries) != 1 or x.ndim > MAX_DIMS:
        return False
    if x.dtype.char in "fd":
        return bool(x.dtype == out.dtype)
    whole = "constant" not in boundaries or (abs(fill) < 2**53 and fill.real % 1 == 0)
    return x.dtype.kind in "iu" and out.dtype.kind in "iu" and whole


def _write_cross(
    x: Array, axes: tuple[int, ...], mode: str, out: Array, fill: complex, options: dict[str, Any]
) -> None:
    """Write the sum of second differences along two axes to `out`, by one kernel."""
    cross = np.zeros((3, 3), np.int64)
    cross[1], cross[:, 1] = _SECOND_DIFFERENCE, _SECOND_DIFFERENCE
    cross[1, 1] = -4
    shape = tuple(3 if a in axes else 1 for a in range(x.ndim))
    before = tuple(int(a in axes) for a in range(x.ndim))
    _window(x, cross.reshape(shape), before, out, mode, fill, options)


def _add_second_difference(
    x: Array, axis: int, mode: str, out: Array, fill: complex, options: dict[str, Any], adds: bool
) -> None:
    """Write the second difference along an axis to `out`, or add it to what is there: in the pass
    that sums it, where `out` is of the dtype computed in."""
    shape, before = [1] * x.ndim, [0] * x.ndim
    shape[axis], before[axis] = 3, 1
    w = _SECOND_DIFFERENCE.reshape(shape)
    fused = out.dtype.char in "fd" and x.ndim <= MAX_DIMS
    fused = fused and np.result_type(x.dtype, out.dtype) == out.dtype and x.ndim > 0
    if not adds or fused:
        _window(x, w, before, out, mode, fill, options, adds=adds)
        return
    term = empty(x, out.shape, out.dtype)
    _window(x, w, before, term, mode, fill, options)
    out += term


def _gaussian_derivative(
    derivative_order: int, sigma: float | Sequence[float], axes: tuple[int, ...],
    keywords: dict[str, Any],
) -> Callable[..., Array]:  # fmt: skip
    """A derivative along one of `axes` that is smoothed along all of them."""
    sigmas = tuple(_each(sigma, len(axes), "sigma"))  # calls with lists do not take the short way

    def derivative(input: Array, axis: int, output: Output, mode: str, cval: complex) -> Array:
        order = tuple(derivative_order if a == axis else 0 for a in axes)
        return np.asarray(
            gaussian_filter(input, sigmas, order, output, mode, cval, axes=axes, **keywords)
        )

    return derivative


@front_end(data="input", kernel="sigma", out="output")
@_documented
def gaussian_laplace(
    input: npt.ArrayLike, sigma: float | Sequence[float], output: Output = None,
    mode: str | Sequence[str] = "reflect", cval: complex = 0.0, *, axes: Axes = None,
    method: _Method = "auto", config: Config | None = None, accuracy: str = "balanced",
    threads: int | None = None, workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False, **kwargs: Any,
) -> Array:  # fmt: skip
    """Laplacian of a Gaussian: the sum over axes of Gaussian second derivatives.

    Parameters
    ----------
    <input>
    sigma : float or sequence of float
        Standard deviation in samples, on each axis.
    <output>
    <mode>
        A sequence has one mode an axis filtered, for all passes of the derivative along that axis.
    <cval>
    <axes>
    <engine>
    **kwargs
        ``truncate`` and ``radius`` of `gaussian_filter`.

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.gaussian_laplace

    Notes
    -----
    <accuracy>

    References
    ----------
    D. Marr and E. Hildreth, "Theory of edge detection", Proc. R. Soc. Lond. B 207 (1980).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import gaussian_laplace
    >>> x = np.zeros(7)
    >>> x[3] = 1
    >>> gaussian_laplace(x, 1.0, radius=2).round(3)
    array([ 0.   ,  0.163,  0.   , -0.403,  0.   ,  0.163,  0.   ])
    """
    x = _as_input(input)
    kwargs |= _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    axes = _axes(axes, x.ndim)
    derivative = _gaussian_derivative(2, sigma, axes, kwargs)
    return _combine(x, derivative, output, mode, cval, (), {}, axes, False)


@front_end(data="input", kernel="derivative", out="output")
@_documented
def generic_gradient_magnitude(
    input: npt.ArrayLike, derivative: Callable[..., Any], output: Output = None,
    mode: str | Sequence[str] = "reflect", cval: complex = 0.0,
    extra_arguments: Sequence[Any] = (), extra_keywords: dict[str, Any] | None = None, *,
    axes: Axes = None,
) -> Array:  # fmt: skip
    """Length of the gradient: the root of the sum over axes of a given derivative squared.

    Parameters
    ----------
    <input>
    derivative : callable
        Called as ``derivative(input, axis, output, mode, cval, *extra_arguments,
        **extra_keywords)``. For the first axis `output` is an array, which it must write to, for
        the others a dtype, and it must return a new array.
    <output>
    <mode>
    <modes>
    <cval>
    extra_arguments : sequence, optional
        Further positional arguments of `derivative`.
    extra_keywords : dict, optional
        Its keyword arguments; those that choose the algorithm belong here.
    <axes>

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.generic_gradient_magnitude

    Notes
    -----
    Squares of integers wrap in the output's dtype: ask for a floating-point output.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import generic_gradient_magnitude, sobel
    >>> ramp = np.add.outer(3.0 * np.arange(3), 4.0 * np.arange(3))
    >>> generic_gradient_magnitude(ramp, sobel)[1, 1]
    np.float64(40.0)
    """
    return _combine(input, derivative, output, mode, cval, extra_arguments, extra_keywords or {},
                    axes, True)  # fmt: skip


@front_end(data="input", kernel="sigma", out="output")
@_documented
def gaussian_gradient_magnitude(
    input: npt.ArrayLike, sigma: float | Sequence[float], output: Output = None,
    mode: str | Sequence[str] = "reflect", cval: complex = 0.0, *, axes: Axes = None,
    method: _Method = "auto", config: Config | None = None, accuracy: str = "balanced",
    threads: int | None = None, workspace_limit: int | None = None,
    flush_denormals: bool = False, deterministic: bool = False, **kwargs: Any,
) -> Array:  # fmt: skip
    """Length of the gradient of a Gaussian: the root of the sum of squared first derivatives.

    Parameters
    ----------
    <input>
    sigma : float or sequence of float
        Standard deviation in samples, on each axis.
    <output>
    <mode>
        A sequence has one mode an axis filtered, for all passes of the derivative along that axis.
    <cval>
    <axes>
    <engine>
    **kwargs
        ``truncate`` and ``radius`` of `gaussian_filter`.

    Returns
    -------
    <returns>

    Raises
    ------
    <raises>

    See Also
    --------
    scipy.ndimage.gaussian_gradient_magnitude

    Notes
    -----
    Squares of integers wrap in the output's dtype: ask for a floating-point output.
    <accuracy>

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ndimage import gaussian_gradient_magnitude
    >>> ramp = np.add.outer(3.0 * np.arange(13), 4.0 * np.arange(13))
    >>> gaussian_gradient_magnitude(ramp, 1.0)[6, 6].round(2)
    np.float64(5.0)
    """
    x = _as_input(input)
    kwargs |= _options(
        method, config, accuracy, threads, workspace_limit, flush_denormals, deterministic
    )
    axes = _axes(axes, x.ndim)
    derivative = _gaussian_derivative(1, sigma, axes, kwargs)
    return _combine(x, derivative, output, mode, cval, (), {}, axes, True)
