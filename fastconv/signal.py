"""The convolutions of `scipy.signal`: its signatures, dtypes, modes and errors, on one engine.

With in2 flipped and slid over in1, output f of the full convolution along an axis is ::

    full[f] = sum over i of  in1[i] * in2[f - i],      0 <= f < len(in1) + len(in2) - 1

``full`` is all of it; ``same`` the len(in1) outputs from (len(in2) - 1) // 2 on; ``valid`` those
that read no sample beyond the ends of the longer input. `correlate` is the convolution with
in2 reversed and conjugated.

Every function reads arrays of any strides and byte order where they lie. Beside SciPy's own
parameters each takes, by keyword:

out : ndarray
    Where the result is stored; of the result's shape and a dtype that holds all its values. It may
    be one of the inputs.
method : str
    ``"auto"`` lets the planner choose; ``"direct"`` sums products; ``"fft"`` transforms; the name
    of any solver forces that one. Integer results are exact whichever is asked for.
config : mapping
    Settings of the solver that `method` names, as `fastconv.candidates` lists them.
accuracy : {"strict", "balanced", "fast"}
    How much rounding error is accepted; see docs/accuracy.md.
threads : int
    The most threads to use; by default as many as this process may.
workspace_limit : int
    The most bytes of memory to take beyond inputs and result; by default a quarter of what is free.
flush_denormals : bool
    Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
deterministic : bool
    Give the same bits whatever the number of threads and whatever was measured before.
nonnegative : bool
    Refuse inputs with a negative number in them, and never return one, as transforms of
    probabilities otherwise do in the tails. With ``accuracy="strict"``, long signals are then
    transformed too, tilted so that each output is right relative to itself.

docs/differences.md lists where results differ from SciPy's, and why.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import _engine, _planner
from fastconv._engine import Pads, front_end, met_before, on_any_device, run
from fastconv._problem import MAX_DIMS, Array, compute_name, dtype_name, numpy_dtype
from fastconv._solver import Config
from fastconv.cuda.interop import empty, on_gpu, on_host, share_memory

__all__ = [
    "choose_conv_method", "convolve", "convolve2d", "correlate", "correlate2d",
    "correlation_lags", "fftconvolve", "oaconvolve", "upfirdn",
]  # fmt: skip

Shape = tuple[int, ...]
Axes = SupportsIndex | Iterable[SupportsIndex] | None

#: Solvers that multiply and add, and so are exact on integers and keep NaN in its own window: of
#: the CPU, and of a GPU.
_DIRECT = ("direct", "implicit_gemm", "im2col", "naive")
_DIRECT_ON_GPU = ("cuda_fir", "cuda_direct")

#: Solvers that choose_conv_method calls "fft".
_FOURIER = ("fft", "overlap_save", "cuda_fft")

#: Rows of trailing batch dimensions shorter than a vector of float32 (16 in AVX-512) are not worth
#: keeping: their axes are moved to the front.
_SHORT_ROW = 16

#: convolve2d's boundary -> the engine's.
_BOUNDARIES = {
    "fill": "constant", "pad": "constant", "wrap": "wrap", "circular": "wrap",
    "symm": "reflect", "symmetric": "reflect",
}  # fmt: skip

#: upfirdn's mode -> the engine's boundary, where it has one.
_EXTENSIONS = {
    "constant": "constant", "symmetric": "reflect", "reflect": "mirror", "edge": "nearest",
    "wrap": "wrap", "smooth": None, "antisymmetric": None, "antireflect": None, "line": None,
}  # fmt: skip


def _array(name: str, a: npt.ArrayLike) -> Array:
    """`a` as a plain array of numbers; TypeError for anything whose meaning would be lost."""
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(
            f"expected {name} without a mask, which would be lost; got a masked array: fill it"
        )
    if on_gpu(a):
        return a  # type: ignore[return-value]
    a = on_host(name, a)
    if a.dtype.kind not in "fciub":
        dtype_name(a.dtype)
    return a


def _pair(in1: npt.ArrayLike, in2: npt.ArrayLike) -> tuple[Array, Array]:
    a, b = _array("in1", in1), _array("in2", in2)
    if a.ndim != b.ndim:
        raise ValueError(
            f"expected in1 and in2 of the same dimensionality, got shapes {a.shape} and {b.shape}"
        )
    return a, b


def _promoted(a: Array, b: Array) -> np.dtype[Any]:
    """What `np.result_type` gives, bfloat16 included; native byte order."""
    if "V" in (a.dtype.kind, b.dtype.kind):
        if a.dtype == b.dtype:
            return a.dtype
        return numpy_dtype(compute_name(dtype_name(a.dtype), dtype_name(b.dtype)))
    return np.result_type(a.dtype, b.dtype)


def _fourier_dtype(a: Array, b: Array) -> np.dtype[Any]:
    """The floating dtype of `fftconvolve`: integers count as float64, 16-bit floats as float32."""
    dtypes = [np.dtype(np.float64) if x.dtype.kind in "iub" else _summed(x.dtype) for x in (a, b)]
    return np.result_type(*dtypes)


@functools.cache
def _summed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What sums of `dtype` are kept in: float32 for 16-bit floats, else itself."""
    name = dtype_name(dtype)
    return numpy_dtype(compute_name(name, name))


def _check_mode(mode: object) -> None:
    if not isinstance(mode, str) or mode not in ("full", "same", "valid"):
        raise ValueError(f"expected mode 'full', 'same' or 'valid', got {mode!r}")


def _axes(axes: Axes, ndim: int) -> tuple[int, ...]:
    """Axes in increasing order; all of them for None."""
    if axes is None:
        return tuple(range(ndim))
    try:
        listed = [operator.index(a) for a in (axes if isinstance(axes, Iterable) else (axes,))]
    except TypeError:
        raise ValueError(f"expected axes of an integer or several, got {axes!r}") from None
    if not listed:
        raise ValueError("expected at least one axis in axes, got none")
    if any(not -ndim <= a < ndim for a in listed):
        raise ValueError(f"expected axes of an array of {ndim} dimensions, got {axes!r}")
    chosen = sorted({a % ndim for a in listed})
    if len(chosen) != len(listed):
        raise ValueError(f"expected axes that differ from each other, got {axes!r}")
    return tuple(chosen)


def _check_out(out: Any, shape: Shape, dtype: np.dtype[Any]) -> None:
    if out is None:
        return
    if not (isinstance(out, np.ndarray) or on_gpu(out)):
        raise TypeError(f"expected out to be an array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"expected out of shape {shape}, got {out.shape}")
    if not np.can_cast(dtype, out.dtype):
        raise TypeError(f"expected out of a dtype that holds {dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("expected out to be writeable, got a read-only array")


def _solvers(
    method: str, config: Config | None, dtype: np.dtype[Any], *arrays: Array
) -> str | tuple[str, ...]:
    """The solvers that may run, in order of preference, for a call's `method`."""
    if not isinstance(method, str):
        raise ValueError(f"expected the name of a method, got {method!r}")
    if config is not None or method not in ("direct", "fft"):
        return method
    if any(map(on_gpu, arrays)):
        summed = method == "direct" or dtype.kind in "iub"
        return _DIRECT_ON_GPU if summed else "cuda_fft"
    if method == "direct":
        return _DIRECT
    return ("fft", "limbs", *_DIRECT) if dtype.kind in "iub" else "fft"


def _product(a: Array, b: Array, out: Array | None, nonnegative: bool) -> Any:
    """The convolution of two numbers."""
    on_host("in1", a)
    if nonnegative:
        _engine.check_nonnegative(in1=a, in2=b)
    dtype = _promoted(a, b)
    _check_out(out, (), dtype)
    return np.multiply(a, b, out=out) if out is not None else np.multiply(a, b)


def _swapped(mode: str, s1: Shape, s2: Shape, axes: Sequence[int]) -> bool:
    """Whether in 'valid' mode in2 is the one that the other slides over."""
    if mode != "valid" or all(s1[d] >= s2[d] for d in axes):
        return False
    if all(s2[d] >= s1[d] for d in axes):
        return True
    raise ValueError(
        "expected, for mode 'valid', one input at least as large as the other along every axis,"
        f" got shapes {s1} and {s2}"
    )


@functools.lru_cache(maxsize=1024)
def _geometry(
    s1: Shape, s2: Shape, mode: str, axes: tuple[int, ...], one_extended: bool, late: bool
) -> tuple[bool, Pads, Shape]:
    """Whether to swap inputs of these shapes, the padding of each axis, and the result's shape.

    Unless in1 is extended by samples that matter, the smaller input is taken as the kernel.
    """
    shape = [max(n, m) if n * m else 0 for n, m in zip(s1, s2)]
    for d in range(len(s1)):
        if d not in axes and s1[d] != s2[d] and 1 not in (s1[d], s2[d]):
            raise ValueError(
                f"expected in1 and in2 of equal lengths, or 1, beside axes {axes},"
                f" got shapes {s1} and {s2}"
            )
    swap = _swapped(mode, s1, s2, axes)
    if mode != "valid" and not one_extended:
        swap = math.prod(s2[d] for d in axes) > math.prod(s1[d] for d in axes)
    padding = []
    for d in axes:
        n, k = (s2[d], s1[d]) if swap else (s1[d], s2[d])
        before = after = 0 if mode == "valid" else k - 1
        if mode == "same":  # what is before the first output kept is cut, or padded less
            before -= (s2[d] - (not late)) // 2
            after = s1[d] - 1 + k - n - before
        padding.append((before, after))
        shape[d] = n + before + after - k + 1
    return swap, tuple(padding), tuple(shape)


def _solve(
    a: Array, b: Array, mode: str, axes: tuple[int, ...], out: Array | None,
    dtype: np.dtype[Any], method: str | tuple[str, ...], options: dict[str, Any], *,
    correlation: bool = False, late: bool = False, boundary: str = "zeros", cval: complex = 0,
) -> Array:  # fmt: skip
    """Convolve non-empty arrays of one rank; `late` centres 'same' on the later of two samples."""
    swap, padding, shape = _geometry(a.shape, b.shape, mode, axes, boundary != "zeros", late)
    _check_out(out, shape, dtype)
    if correlation and b.dtype.kind == "c":
        b = b.conj()
    if swap and correlation:
        b = b[tuple(slice(None, None, -1 if d in axes else 1) for d in range(b.ndim))]
    x, w = (b, a) if swap else (a, b)
    return _run(
        x, w, axes, padding, shape, out, dtype=_summed(dtype), out_dtype=dtype,
        flip=swap or not correlation, boundary=boundary, cval=cval, method=method, **options,
    )  # fmt: skip


def _run(
    x: Array, w: Array, axes: Sequence[int], padding: Pads, shape: Shape,
    out: Array | None, stride: int = 1, input_dilation: int = 1, dilation: Sequence[int] = (),
    **options: Any,
) -> Array:  # fmt: skip
    """One `run` over `axes` of x and w, whose other dimensions broadcast; `shape` is the result's.

    A dimension that only x has is a batch, one that only w has counts filters, and one that both
    have counts groups. Batch dimensions that follow the first convolved axis stay where they are,
    as axes with a kernel of length 1: the innermost loop then runs along memory.
    """
    if 0 in shape:
        return empty(x, shape, options["out_dtype"]) if out is None else out
    if stride == input_dilation == 1 and _is_pairs(x, w, axes, out, options):
        return _run_pairs(x, w, axes, padding, shape, out, options)
    if len(axes) == x.ndim:
        y = run(
            x[None, None], w[None, None], padding=padding, stride=(stride,) * len(axes),
            input_dilation=(input_dilation,) * len(axes), dilation=dilation,
            out=None if out is None else out[None, None], **options,
        )  # fmt: skip
        return y[0, 0] if out is None else out
    others = [d for d in range(x.ndim) if d not in axes]
    batch = [d for d in others if w.shape[d] == 1]
    filters = [d for d in others if w.shape[d] != 1 and x.shape[d] == 1]
    groups = [d for d in others if d not in batch and d not in filters]
    inner = [d for d in batch if d > axes[0]]
    # on a GPU neighbours are read together, and no view has axes before and after as one
    shortest, most = (1, 3) if on_gpu(x) else (_SHORT_ROW, MAX_DIMS)
    if math.prod(x.shape[d] for d in inner) < shortest or len(inner) + len(axes) > most:
        inner = []
    batch = [d for d in batch if d not in inner]
    space = sorted([*axes, *inner])

    def count(dims: Sequence[int]) -> int:
        return math.prod(shape[d] for d in dims)

    pads = dict(zip(axes, padding))
    order = [*batch, *groups, *filters, *space]
    data = x.transpose(order)
    kernel = w.transpose([*groups, *filters, *batch, *space])
    result = empty(x, shape, options["out_dtype"]) if out is None else out
    rows = (count(batch), count(groups) * count(filters), *(shape[d] for d in space))
    y = result.transpose(order).reshape(rows)
    in_place = y.size == 0 or share_memory(y, result)
    y = run(
        data.reshape(count(batch), count(groups), *(x.shape[d] for d in space)),
        kernel.reshape(count(groups) * count(filters), 1, *(w.shape[d] for d in space)),
        groups=max(1, count(groups)), padding=[pads.get(d, (0, 0)) for d in space],
        stride=[stride if d in axes else 1 for d in space],
        input_dilation=[input_dilation if d in axes else 1 for d in space],
        dilation=[dict(zip(axes, dilation)).get(d, 1) for d in space],
        out=y if in_place else None, **options,
    )  # fmt: skip
    if not in_place:
        result.transpose(order)[...] = y.reshape([shape[d] for d in order])
    return result


#: Taps up to which they are summed as they are for certain; no Fourier solver takes a dilation.
_MOST_OF_PAIRS = 64


def _is_pairs(
    x: Array, w: Array, axes: Sequence[int], out: Array | None, options: dict[str, Any]
) -> bool:
    """Whether complex samples lie as pairs of real ones, and the few weights are real."""
    if x.dtype.kind != "c" or w.dtype.kind != "f" or w.size > _MOST_OF_PAIRS or on_gpu(x):
        return False
    if options["method"] != "auto" or options.get("boundary", "zeros") != "zeros":
        return False
    dtype, last = options["dtype"], x.ndim - 1
    same = x.dtype == dtype == options["out_dtype"] and dtype.char in "FD"
    apart = out is None or (out.dtype == dtype and out.flags.c_contiguous and out.flags.aligned)
    lie = x.flags.c_contiguous and x.flags.aligned and (last in axes or w.shape[last] == 1)
    return same and apart and lie and not options.get("nonnegative", False)


def _run_pairs(
    x: Array, w: Array, axes: Sequence[int], padding: Pads, shape: Shape, out: Array | None,
    options: dict[str, Any],
) -> Array:  # fmt: skip
    """`_run` of real weights, with a quarter of the products of complex ones: real and imaginary
    parts are by themselves, neighbours of a kind two samples apart."""
    y = empty(x, shape, options["out_dtype"]) if out is None else out
    real, last = x.real.dtype, x.ndim - 1
    twice = [2 if d == last else 1 for d in axes]
    _run(
        x.view(real), w.astype(real, copy=False), axes,
        [(t * before, t * after) for t, (before, after) in zip(twice, padding)],
        (*shape[:-1], 2 * shape[-1]), y.view(real), dilation=twice,
        **{**options, "dtype": real, "out_dtype": real},
    )  # fmt: skip
    return y


def _check_not_empty(a: Array, b: Array, mode: str, axes: Sequence[int]) -> None:
    """ValueError for an input with nothing in it, unless the result has nothing in it either."""
    if any(b.shape[d] == 0 or (a.shape[d] == 0 and mode != "same") for d in axes):
        raise ValueError(f"expected non-empty inputs, got shapes {a.shape} and {b.shape}")


def _options(
    accuracy: str, threads: int | None, workspace_limit: int | None, config: Config | None,
    flush_denormals: bool, deterministic: bool, nonnegative: bool,
) -> dict[str, Any]:  # fmt: skip
    return {
        "accuracy": accuracy, "threads": threads, "workspace_limit": workspace_limit,
        "config": config, "flush_denormals": flush_denormals, "deterministic": deterministic,
        "nonnegative": nonnegative,
    }  # fmt: skip


@met_before
def _any_method(
    in1: npt.ArrayLike, in2: npt.ArrayLike, mode: str, method: str, axes: Axes, correlation: bool,
    *, out: Array | None, **options: Any,
) -> Any:  # fmt: skip
    """`convolve` and `correlate`."""
    a, b = _pair(in1, in2)
    if a.ndim == 0:
        b = b.conj() if correlation and b.dtype.kind == "c" else b
        return _product(a, b, out, options["nonnegative"])
    _check_mode(mode)
    chosen = _axes(axes, a.ndim)
    _check_not_empty(a, b, mode, chosen)
    dtype = _promoted(a, b)
    solvers = _solvers(method, options["config"], dtype, a, b)
    return _solve(a, b, mode, chosen, out, dtype, solvers, options, correlation=correlation)


@front_end(data="in1", kernel="in2")
def convolve(
    in1: npt.ArrayLike,
    in2: npt.ArrayLike,
    mode: str = "full",
    method: str = "auto",
    *,
    axes: Axes = None,
    out: Array | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
    config: Config | None = None,
) -> Any:
    """Convolve two arrays of one rank.

    Parameters
    ----------
    in1, in2 : array_like
        Of any integer, bool, floating or complex dtype. The smaller one is taken as the kernel.
    mode : {"full", "same", "valid"}
        ``full``: every sum with at least one product, ``len(in1) + len(in2) - 1`` along an axis.
        ``same``: of in1's shape, centred on ``full``. ``valid``: no sample beyond the ends is read;
        one input must be at least as large as the other along every axis.
    method : str
        ``"auto"``, ``"direct"``, ``"fft"``, or the name of a solver, which is then forced.
    axes : int or several, optional
        Axes to convolve over, by default all. The others must be of equal length, or 1 in one
        input, and broadcast.
    out : ndarray, optional
        Where to store the result; may be in1 or in2.
    accuracy : {"strict", "balanced", "fast"}
        How much rounding error is accepted; docs/accuracy.md.
    threads : int, optional
        The most threads to use; by default as many as this process may.
    workspace_limit : int, optional
        Bytes of memory to take beyond inputs and result; by default a quarter of what is free.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.
    nonnegative : bool, default False
        Refuse inputs with a negative number in them, and never return one: rounding errors below 0
        become 0. Integers that pass the ends of their dtype wrap all the same.
    config : mapping, optional
        Settings of the solver that `method` names.

    Returns
    -------
    ndarray
        Of dtype ``np.result_type(in1, in2)``; `out` itself when given, a scalar for 0-d inputs.
        Integers are exact and wrap around whatever the method; bool is the or of ands.

    Raises
    ------
    ValueError
        For inputs of different rank, empty ones, an unknown mode or method, shapes that `mode` or
        `axes` do not admit, a forced method that cannot do it, or a negative number where
        `nonnegative` rules it out.
    TypeError
        For dtypes that are not numbers, masked arrays, and an `out` that would lose values.

    See Also
    --------
    correlate, fftconvolve, oaconvolve, convolve2d
    fastconv.convolve_power : of an array with itself, n times.
    fastconv.convolve_blockwise : of arrays that do not fit into memory.
    fastconv.plan : when one kernel is used again and again.

    Notes
    -----
    Sums of float16 are kept in float32 and rounded once. With float input, the error is at most
    what `accuracy` promises, and NaN and infinity reach only outputs whose window holds them. With
    ``accuracy="strict"`` the error is relative to the sum of each output's own products in size: of
    inputs without a negative, that is the output itself, however small.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import signal
    >>> signal.convolve([1, 2, 3], [0, 1, 2])
    array([0, 1, 4, 7, 6])

    The distribution of the sum of two dice, the second one loaded:

    >>> signal.convolve(np.full(6, 1 / 6), [0, 0, 0, 0, 0.5, 0.5])[4:7].round(3)
    array([0.083, 0.167, 0.167])

    A moving average along the time axis of a recording with two channels:

    >>> signal.convolve(np.ones((100, 2)), np.full((4, 1), 0.25), mode="valid", axes=0).shape
    (97, 2)
    """
    options = _options(
        accuracy, threads, workspace_limit, config, flush_denormals, deterministic, nonnegative
    )
    return _any_method(in1, in2, mode, method, axes, False, out=out, **options)


@front_end(data="in1", kernel="in2")
def correlate(
    in1: npt.ArrayLike,
    in2: npt.ArrayLike,
    mode: str = "full",
    method: str = "auto",
    *,
    axes: Axes = None,
    out: Array | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
    config: Config | None = None,
) -> Any:
    """Cross-correlate two arrays of one rank.

    Along an axis, output f belongs to lag ``l = f - (len(in2) - 1)`` and is the sum over i of
    ``in1[i + l] * conj(in2[i])``; `correlation_lags` gives the lags of each mode.

    Parameters
    ----------
    in1, in2 : array_like
        Of any integer, bool, floating or complex dtype.
    mode, method, axes, out, accuracy, threads, workspace_limit, config,
    flush_denormals, deterministic, nonnegative
        As for `convolve`.

    Returns
    -------
    ndarray
        Of dtype ``np.result_type(in1, in2)``; `out` itself when given, a scalar for 0-d inputs.

    Raises
    ------
    ValueError, TypeError
        As `convolve` does.

    See Also
    --------
    convolve, correlation_lags, correlate2d

    Examples
    --------
    How late is `heard` after `said`?

    >>> import numpy as np
    >>> from fastconv import signal
    >>> said = np.array([0.0, 1.0, 3.0, -2.0, 0.5])
    >>> heard = np.concatenate([np.zeros(7), said])
    >>> match = signal.correlate(heard, said)
    >>> int(signal.correlation_lags(len(heard), len(said))[match.argmax()])
    7
    """
    options = _options(
        accuracy, threads, workspace_limit, config, flush_denormals, deterministic, nonnegative
    )
    return _any_method(in1, in2, mode, method, axes, True, out=out, **options)


@met_before
def _floating(
    in1: npt.ArrayLike, in2: npt.ArrayLike, mode: str, axes: Axes, method: str | tuple[str, ...],
    *, out: Array | None, **options: Any,
) -> Any:  # fmt: skip
    """`fftconvolve` and `oaconvolve`: floating results, and length-1 axes broadcast."""
    a, b = _pair(in1, in2)
    if a.ndim == 0:
        return _product(a, b, out, options["nonnegative"])
    dtype = _fourier_dtype(a, b)
    if a.size == 0 or b.size == 0:
        _check_out(out, (0,), np.dtype(np.float64))
        return np.zeros(0) if out is None else out
    _check_mode(mode)
    chosen = _axes(axes, a.ndim)
    if mode == "valid":  # an axis of length 1 in in1 does not ask for in2 to be as short
        wide = tuple(d for d in chosen if a.shape[d] != 1 or b.shape[d] == 1)
        if wide:
            chosen = wide
        else:
            a, b = b, a
    if not isinstance(method, tuple):
        method = _solvers(method, options["config"], dtype, a, b)
    elif on_gpu(a) or on_gpu(b):
        method = ("cuda_fft", *_DIRECT_ON_GPU)
    return _solve(a, b, mode, chosen, out, dtype, method, options)


@front_end(data="in1", kernel="in2")
def fftconvolve(
    in1: npt.ArrayLike,
    in2: npt.ArrayLike,
    mode: str = "full",
    axes: Axes = None,
    *,
    out: Array | None = None,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
    config: Config | None = None,
) -> Any:
    """Convolve two arrays of one rank in floating point.

    SciPy's function of this name transforms whatever it gets; here, as in `convolve`, the planner
    takes the quickest method whose error is allowed, and ``method="fft"`` insists.

    Parameters
    ----------
    in1, in2 : array_like
        Of any integer, bool, floating or complex dtype.
    mode : {"full", "same", "valid"}
        As for `convolve`; in ``valid`` mode, axes along which one input has length 1 broadcast.
    axes : int or several, optional
        Axes to convolve over, by default all; the others broadcast.
    method : str
        ``"auto"``, by which the planner chooses, ``"fft"``, or the name of any solver.
    out, accuracy, threads, workspace_limit, config,
    flush_denormals, deterministic, nonnegative
        As for `convolve`.

    Returns
    -------
    ndarray
        Floating or complex: integers and bools are taken as float64, float16 as float32. Empty
        inputs give an empty float64 array of one dimension, whatever their rank.

    Raises
    ------
    ValueError, TypeError
        As `convolve` does, empty inputs excepted; ``accuracy="strict"`` admits no transforms.

    See Also
    --------
    convolve : keeps the dtype of integers, and is exact on them.

    Notes
    -----
    The error is bounded by the largest products of a block, not by those of each output: that is
    what ``accuracy="balanced"`` promises of transforms. Blocks that hold NaN, infinity or a range
    of values that this would destroy are summed directly instead.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import signal
    >>> noise = np.random.default_rng(0).standard_normal((3, 1000))
    >>> echo = signal.fftconvolve(noise, np.exp(-np.arange(500) / 90)[None], axes=1)
    >>> echo.shape
    (3, 1499)
    """
    options = _options(
        accuracy, threads, workspace_limit, config, flush_denormals, deterministic, nonnegative
    )
    return _floating(in1, in2, mode, axes, method, out=out, **options)


@front_end(data="in1", kernel="in2")
def oaconvolve(
    in1: npt.ArrayLike,
    in2: npt.ArrayLike,
    mode: str = "full",
    axes: Axes = None,
    *,
    out: Array | None = None,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
    config: Config | None = None,
) -> Any:
    """Convolve two arrays of one rank in floating point, one much longer than the other.

    The result is that of `fftconvolve`. Blocks, where the planner or ``method="overlap_save"``
    asks for them, are cut by overlap-save, in which each is complete by itself, rather than by
    SciPy's overlap-add.

    Parameters
    ----------
    in1, in2, mode, axes, out, accuracy, threads, workspace_limit, config,
    flush_denormals, deterministic, nonnegative
        As for `fftconvolve`.
    method : str
        ``"auto"``, by which the planner chooses; ``"overlap_save"``, with one transform where
        blocks do not pay; or the name of any solver.

    Returns
    -------
    ndarray
        As `fftconvolve` returns.

    Raises
    ------
    ValueError, TypeError
        As `fftconvolve` does.

    References
    ----------
    .. [1] A. V. Oppenheim and R. W. Schafer, Discrete-Time Signal Processing, 3rd ed., section 8.7.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import signal
    >>> minute = np.random.default_rng(0).standard_normal(60 * 8000)
    >>> signal.oaconvolve(minute, np.hanning(200), mode="same").shape
    (480000,)
    """
    names: str | tuple[str, ...] = method
    if method == "overlap_save" and config is None:
        names = ("overlap_save", "fft", *_DIRECT)
    options = _options(
        accuracy, threads, workspace_limit, config, flush_denormals, deterministic, nonnegative
    )
    return _floating(in1, in2, mode, axes, names, out=out, **options)


def _number(name: str, value: object, dtype: np.dtype[Any]) -> complex:
    """A constant that `dtype` holds, as a Python number."""
    a = np.asarray(value)
    if a.size != 1 or a.dtype.kind not in "fciub":
        raise ValueError(f"expected {name} to be one number, got {value!r}")
    number = a.reshape(())[()].item()
    if isinstance(number, complex) and number.imag == 0:
        number = number.real
    limits = (0, 1) if dtype.kind == "b" else (-math.inf, math.inf)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        limits = (int(info.min), int(info.max))
    if dtype.kind in "iub":
        fits = not isinstance(number, complex) and limits[0] <= number <= limits[1]
        if not fits or number != int(number):
            raise ValueError(f"expected {name} that {dtype} holds, got {value!r}")
        number = int(number)
    elif isinstance(number, complex) and dtype.kind != "c":
        raise ValueError(f"expected {name} that {dtype} holds, got {value!r}")
    return number


@met_before
def _two_dimensions(
    in1: npt.ArrayLike, in2: npt.ArrayLike, mode: str, boundary: str, fillvalue: object,
    method: str, correlation: bool, *, out: Array | None, **options: Any,
) -> Array:  # fmt: skip
    """`convolve2d` and `correlate2d`."""
    a, b = _array("in1", in1), _array("in2", in2)
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"expected two 2-D arrays, got shapes {a.shape} and {b.shape}")
    _check_mode(mode)
    if not isinstance(boundary, str) or boundary not in _BOUNDARIES:
        raise ValueError(f"expected a boundary out of {tuple(_BOUNDARIES)}, got {boundary!r}")
    dtype = _promoted(a, b)
    cval = _number("fillvalue", fillvalue, dtype)
    rule = _BOUNDARIES[boundary]
    if rule == "constant" and cval == 0:
        rule = "zeros"
    if a.size == 0 or b.size == 0:
        return _nothing(a, b, mode, rule, out, dtype)
    solvers = _solvers(method, options["config"], dtype, a, b)
    return _solve(
        a, b, mode, (0, 1), out, dtype, solvers, options, correlation=correlation,
        late=correlation, boundary=rule, cval=cval,
    )  # fmt: skip


def _nothing(
    a: Array, b: Array, mode: str, boundary: str, out: Array | None, dtype: np.dtype[Any]
) -> Array:
    """Sums without products: zeros of the shape that the mode gives."""
    if _swapped(mode, a.shape, b.shape, (0, 1)):
        a, b = b, a
    sign = -1 if mode == "valid" else 1
    shape = tuple(n + sign * (m - 1) for n, m in zip(a.shape, b.shape))
    if mode == "same":
        shape = a.shape
    if min(shape) < 0 or boundary != "zeros":
        raise ValueError(
            f"expected non-empty inputs for mode {mode!r} with boundary {boundary!r}, got shapes"
            f" {a.shape} and {b.shape}"
        )
    _check_out(out, shape, dtype)
    if out is None:
        return np.zeros(shape, dtype)
    out[...] = 0
    return out


@front_end(data="in1", kernel="in2")
def convolve2d(
    in1: npt.ArrayLike,
    in2: npt.ArrayLike,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: complex = 0,
    *,
    out: Array | None = None,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
    config: Config | None = None,
) -> Array:
    """Convolve two 2-D arrays, with a choice of what lies beyond the ends of the first.

    Parameters
    ----------
    in1, in2 : array_like, 2-D
        Of any integer, bool, floating or complex dtype.
    mode : {"full", "same", "valid"}
        As for `convolve`.
    boundary : {"fill", "pad", "wrap", "circular", "symm", "symmetric"}
        What extends in1 in modes ``full`` and ``same``: `fillvalue` (``fill``, ``pad``), in1 again
        (``wrap``, ``circular``), or its mirror image with the edge repeated (``symm``,
        ``symmetric``), as often as in2 needs.
    fillvalue : scalar
        A number that the result's dtype holds.
    method, out, accuracy, threads, workspace_limit, config,
    flush_denormals, deterministic, nonnegative
        As for `convolve`.

    Returns
    -------
    ndarray
        Of dtype ``np.result_type(in1, in2)``; `out` itself when given.

    Raises
    ------
    ValueError
        For inputs that are not 2-D, an unknown mode, boundary or method, a `fillvalue` that the
        dtype does not hold, and shapes that the mode does not admit.
    TypeError
        For dtypes that are not numbers, masked arrays, and an `out` that would lose values.

    See Also
    --------
    fastconv.ndimage.convolve : more boundary rules, any rank.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import signal
    >>> ramp = np.arange(12).reshape(3, 4)
    >>> signal.convolve2d(ramp, [[1, 0, -1]], mode="same", boundary="symm")
    array([[1, 2, 2, 1],
           [1, 2, 2, 1],
           [1, 2, 2, 1]])
    """
    options = _options(
        accuracy, threads, workspace_limit, config, flush_denormals, deterministic, nonnegative
    )
    return _two_dimensions(
        in1, in2, mode, boundary, fillvalue, method, False, out=out, **options
    )  # fmt: skip


@front_end(data="in1", kernel="in2")
def correlate2d(
    in1: npt.ArrayLike,
    in2: npt.ArrayLike,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: complex = 0,
    *,
    out: Array | None = None,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
    config: Config | None = None,
) -> Array:
    """Cross-correlate two 2-D arrays, with a choice of what lies beyond the ends of the first.

    Parameters
    ----------
    in1, in2 : array_like, 2-D
        Of any integer, bool, floating or complex dtype; in2 is conjugated.
    mode, boundary, fillvalue, out, method, accuracy, threads, workspace_limit, config,
    flush_denormals, deterministic, nonnegative
        As for `convolve2d`.

    Returns
    -------
    ndarray
        Of dtype ``np.result_type(in1, in2)``; `out` itself when given.

    Raises
    ------
    ValueError, TypeError
        As `convolve2d` does.

    Notes
    -----
    As in SciPy, mode ``same`` starts at ``len(in2) // 2`` of ``full``, one later than `correlate`
    does where in2 has an even length.

    Examples
    --------
    Find a piece of a picture:

    >>> import numpy as np
    >>> from fastconv import signal
    >>> picture = np.random.default_rng(0).standard_normal((40, 50))
    >>> match = signal.correlate2d(picture, picture[10:15, 20:25], mode="valid")
    >>> [int(i) for i in np.unravel_index(match.argmax(), match.shape)]
    [10, 20]
    """
    options = _options(
        accuracy, threads, workspace_limit, config, flush_denormals, deterministic, nonnegative
    )
    return _two_dimensions(
        in1, in2, mode, boundary, fillvalue, method, True, out=out, **options
    )  # fmt: skip


def correlation_lags(
    in1_len: SupportsIndex, in2_len: SupportsIndex, mode: str = "full"
) -> npt.NDArray[np.int64]:
    """The lag that each output of `correlate` on 1-D inputs belongs to.

    Parameters
    ----------
    in1_len, in2_len : int
        Lengths of the inputs.
    mode : {"full", "same", "valid"}
        That of the correlation.

    Returns
    -------
    ndarray of int64
        Increasing by 1: how far in2 was shifted to the right.

    Raises
    ------
    ValueError
        For a negative length or an unknown mode.
    TypeError
        For lengths that are not integers.

    Examples
    --------
    >>> from fastconv import signal
    >>> signal.correlation_lags(4, 2)
    array([-1,  0,  1,  2,  3])
    >>> signal.correlation_lags(4, 2, mode="valid")
    array([0, 1, 2])
    """
    n, m = operator.index(in1_len), operator.index(in2_len)
    if n < 0 or m < 0:
        raise ValueError(f"expected lengths of at least 0, got {n} and {m}")
    _check_mode(mode)
    if mode == "full":
        first, stop = 1 - m, n
    elif mode == "same":
        first = (m - 1) // 2 - (m - 1)
        stop = first + n
    else:
        first, stop = min(0, n - m), max(0, n - m) + 1
    return np.arange(first, stop, dtype=np.int64)


def choose_conv_method(
    in1: npt.ArrayLike, in2: npt.ArrayLike, mode: str = "full", measure: bool = False
) -> Any:
    """Which method `convolve` and `correlate` would take for arrays of these shapes and dtypes.

    Parameters
    ----------
    in1, in2 : array_like
        The arguments of `convolve`; their values do not matter.
    mode : {"full", "same", "valid"}
        As for `convolve`.
    measure : bool
        Time the methods, for about half a second, and remember the fastest as `fastconv.tune`
        does.

    Returns
    -------
    method : {"direct", "fft"}
        ``fft`` for overlap-save too. To pass on as ``method=``; ``method="auto"`` chooses among
        all solvers and is at least as good.
    times : dict
        Only with `measure`: method -> seconds of its fastest solver, infinite where none applies
        and the planner's estimate where it was not worth timing.

    Raises
    ------
    ValueError, TypeError
        As `convolve` does.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import signal
    >>> signal.choose_conv_method(np.ones(1000), np.ones(3))
    'direct'
    """
    a, b = _array("in1", in1), _array("in2", in2)
    arguments = {"in1": a, "in2": b, "mode": mode}
    steps = _engine._record(convolve, arguments, pack=False)
    if not steps:  # numbers, or nothing
        return ("direct", {"direct": 0.0, "fft": math.inf}) if measure else "direct"
    problem = steps[0].choice.plan.problem.replace(prepared=False)
    if not measure:
        name = _planner.choose(problem).plan.solver.name
        return "fft" if name in _FOURIER else "direct"
    times = {"direct": math.inf, "fft": math.inf}
    for c in _planner.tune(problem, budget=0.5):
        if c.refused is None:
            family = "fft" if c.method in _FOURIER else "direct"
            times[family] = min(times[family], c.seconds)
    return min(times, key=lambda name: times[name]), times


def _whole(name: str, value: Any) -> int:
    """A rate: an integer, or a float without a fraction, of at least 1."""
    try:
        whole = int(value)
        if whole == value and whole >= 1:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"expected {name} to be a whole number of at least 1, got {value!r}")


def _beyond(x: Array, mode: str, cval: complex, index: Array, dtype: np.dtype[Any]) -> Array:
    """Samples of x, extended along its last axis by `mode`, at positions `index` off its ends."""

    def at(i: Array | int) -> Array:
        return x[..., i].astype(dtype)

    n = x.shape[-1]
    samples: Array
    if mode == "constant":
        return np.full((*x.shape[:-1], len(index)), cval, dtype)
    if n == 1 and mode in ("reflect", "antireflect", "smooth", "line"):
        mode = "edge"  # one sample has no slope
    if mode == "edge":
        return at(np.clip(index, 0, n - 1))
    if mode == "wrap":
        return at(index % n)
    if mode in ("symmetric", "antisymmetric"):
        phase = index % (2 * n)
        samples = at(np.minimum(phase, 2 * n - 1 - phase))
        return samples if mode == "symmetric" else np.where(phase >= n, -samples, samples)
    if mode == "reflect":
        phase = index % (2 * n - 2)
        return at(np.minimum(phase, 2 * n - 2 - phase))
    real = np.empty(0, dtype).real.dtype
    first, last = at(0)[..., None], at(-1)[..., None]
    if mode == "antireflect":  # x and its point reflection take turns, each from the other's end
        turns, phase = np.divmod(index, n - 1)
        turned = first + (last - at(n - 1 - phase))
        climb = turns.astype(real) * (last - first)
        samples = np.where(turns % 2 == 1, turned + climb, at(phase) + climb)
        return samples
    if mode == "smooth":
        before, after = at(1)[..., None] - first, last - at(-2)[..., None]
    else:  # line
        before = after = (last - first) / real.type(n - 1)
    steps = np.where(index < 0, index, index - (n - 1)).astype(real)
    samples = np.where(index < 0, first + steps * before, last + steps * after)
    return samples


@front_end(data="x", kernel="h")
@on_any_device
def upfirdn(
    h: npt.ArrayLike,
    x: npt.ArrayLike,
    up: int = 1,
    down: int = 1,
    axis: SupportsIndex = -1,
    mode: str = "constant",
    cval: complex = 0,
    *,
    out: Array | None = None,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
    config: Config | None = None,
) -> Array:
    """Upsample by inserting zeros, filter, and downsample, all in one pass.

    Parameters
    ----------
    h : array_like, 1-D
        Filter coefficients, at least one.
    x : array_like
        Signals along `axis`.
    up, down : int
        Rates of at least 1. After each sample of x stand ``up - 1`` zeros; every `down`-th
        output is computed.
    axis : int
        The axis of x to filter along.
    mode : str
        How x is extended beyond its ends before it is upsampled: ``constant`` (by `cval`),
        ``symmetric``, ``reflect``, ``edge`` and ``wrap`` as in `numpy.pad`; ``antisymmetric`` and
        ``antireflect``, their negatives about zero and about the end sample; ``smooth``, along the
        slope of the two samples at each end; ``line``, along that from the first to the last
        sample. A single sample has no slope and is repeated.
    cval : scalar
        What ``constant`` extends by.
    method, out, accuracy, threads, workspace_limit, config,
    flush_denormals, deterministic, nonnegative
        As for `convolve`.

    Returns
    -------
    ndarray
        Of x's shape but for `axis`, along which it has ``ceil(((n - 1) * up + len(h)) / down)``
        samples. Its dtype is ``np.result_type(h, x, np.float32)``.

    Raises
    ------
    ValueError
        For h that is not 1-D or empty, rates below 1, an unknown mode, an axis that x does not
        have, an empty x that is to be extended, or, of arrays on a GPU, one that is empty or to be
        extended by other than zeros and upsampled, or by a mode of no other function.
    TypeError
        For dtypes that are not numbers, masked arrays, and a `cval` that the result's dtype cannot
        hold.

    References
    ----------
    .. [1] P. P. Vaidyanathan, Multirate Systems and Filter Banks, Prentice Hall, 1993, section 4.3.

    Examples
    --------
    Linear interpolation by 2, then a rate of 2/3:

    >>> from fastconv import signal
    >>> signal.upfirdn([0.5, 1, 0.5], [1, 1, 1], up=2)
    array([0.5, 1. , 1. , 1. , 1. , 1. , 0.5])
    >>> signal.upfirdn([0.5, 1, 0.5], range(10), up=2, down=3)
    array([0. , 1. , 2.5, 4. , 5.5, 7. , 8.5])
    """
    taps, data = _array("h", h), _array("x", x)
    if taps.ndim != 1 or not taps.size:
        raise ValueError(f"expected h to be 1-D and not empty, got shape {taps.shape}")
    up, down = _whole("up", up), _whole("down", down)
    where = operator.index(axis)
    if not -data.ndim <= where < data.ndim:
        raise np.exceptions.AxisError(where, data.ndim)
    where %= data.ndim
    mode = mode.lower() if isinstance(mode, str) else mode
    if mode not in _EXTENSIONS:
        raise ValueError(f"expected a mode out of {tuple(_EXTENSIONS)}, got {mode!r}")
    dtype = np.result_type(_summed(_promoted(taps, data)), np.float32)
    try:
        cval = _number("cval", cval, dtype)
    except ValueError as error:
        raise TypeError(str(error)) from None
    n, k = data.shape[where], taps.shape[0]
    length = max(0, ((n - 1) * up + k - 1) // down + 1)
    shape = list(data.shape)
    shape[where] = length
    _check_out(out, tuple(shape), dtype)
    solvers = _solvers(method, config, dtype, taps, data)
    boundary = _EXTENSIONS[mode]
    before = after = k - 1
    reach = (k - 1) // up  # samples beyond each end that meet the filter
    if reach == 0 or (mode == "constant" and cval == 0):
        boundary = "zeros"
    extended = boundary is None or (up > 1 and boundary != "zeros")
    if on_gpu(data) and (extended or n == 0):
        raise ValueError(
            "expected on a GPU samples to be extended by zeros, or with up=1 by a boundary of the"
            f" engine's, got {n} samples, mode {mode!r}, cval {cval} and up={up}"
        )
    if n == 0:
        if boundary != "zeros":
            raise ValueError(f"expected samples to extend by {mode!r}, got x of shape {data.shape}")
        result = np.empty(shape, dtype) if out is None else out
        result[...] = 0
        return result
    if extended:
        moved = np.moveaxis(data, where, -1)
        with np.errstate(over="ignore", invalid="ignore"):  # slopes between infinities
            head = _beyond(moved, mode, cval, np.arange(-reach, 0), dtype)
            tail = _beyond(moved, mode, cval, np.arange(n, n + reach), dtype)
        data = np.moveaxis(np.concatenate([head, moved, tail], axis=-1), -1, where)
        boundary = "zeros"
        before = after = k - 1 - reach * up
    w = taps.reshape([k if d == where else 1 for d in range(data.ndim)])
    return _run(
        data, w, (where,), ((before, after),), tuple(shape), out, stride=down, input_dilation=up,
        dtype=dtype, out_dtype=dtype, flip=True, boundary=boundary, cval=cval, method=solvers,
        **_options(
        accuracy, threads, workspace_limit, config, flush_denormals, deterministic, nonnegative
    ),
    )  # fmt: skip
