"""Neural-network convolutions on NumPy arrays, with the meaning of `torch.nn.functional`.

`conv1d`, `conv2d` and `conv3d` are cross-correlations over a batch of multi-channel data;
`conv_transpose1d` to `conv_transpose3d` are their adjoints with an output size of their own, and
`conv1d_input` to `conv3d_weight` their gradients, as in `torch.nn.grad`. With stride u, dilation
l, padding a and C/g channels in the group of filter k ::

    y[n, k, o] = bias[k] + sum over c, r of  X[n, c, o*u + r*l - a] * w[k, c, r]

The forward functions finish their result where it is made: with `residual` and `activation` it is
``activation(y + residual)``, at less than the cost of a pass over y for each.

Arrays may have any strides and byte order and are read where they lie. x, w and bias share one
dtype, which is the result's: nothing is promoted or narrowed. float16 and bfloat16 (of ml_dtypes)
are summed in float32 and rounded once; integers wrap around as NumPy's do. Quantised data have
functions of their own, `conv_integer` and `qlinear_conv`, with the meaning of ONNX's operators.

Beyond the ends of x, `padding_mode` names what is read, as PyTorch does, and one mode more:

=============  ===========================  ========================
padding_mode   what is read                 name in scipy.ndimage
=============  ===========================  ========================
"zeros"        0 0 0 | a b c d | 0 0 0      "constant"
"reflect"      d c b | a b c d | c b a      "mirror"
"symmetric"    c b a | a b c d | d c b      "reflect"
"replicate"    a a a | a b c d | d d d      "nearest"
"circular"     b c d | a b c d | a b c      "wrap"
=============  ===========================  ========================
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._engine import copied, front_end, met_before, replays, run
from fastconv._epilogue import ActivationLike, Quantization, activation_of
from fastconv._problem import MAX_SIZE, Array
from fastconv._shortcut import kept
from fastconv._solver import Config
from fastconv.cuda.interop import empty, on_gpu, on_host, share_memory

__all__ = [
    "conv1d", "conv1d_input", "conv1d_weight", "conv2d", "conv2d_input", "conv2d_weight",
    "conv3d", "conv3d_input", "conv3d_weight", "conv_integer", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "qlinear_conv",
]  # fmt: skip

#: One integer for every axis, or one an axis.
Sizes = SupportsIndex | Sequence[SupportsIndex]
#: The same, or a (before, after) pair an axis, or "same" or "valid".
Padding = str | SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]]
Pairs = tuple[tuple[int, int], ...]

#: padding_mode -> the engine's boundary, which is named as in scipy.ndimage.
_BOUNDARIES = {
    "zeros": "zeros", "reflect": "mirror", "symmetric": "reflect", "replicate": "nearest",
    "circular": "wrap",
}  # fmt: skip

#: Spatial dimensions -> spelling of a layout -> whether channels are last.
_LAYOUTS = {
    1: {"NC*": False, "N*C": True, "NCW": False, "NWC": True, "NCL": False, "NLC": True},
    2: {"NC*": False, "N*C": True, "NCHW": False, "NHWC": True},
    3: {"NC*": False, "N*C": True, "NCDHW": False, "NDHWC": True},
}


class _Geometry(NamedTuple):
    """A call's numbers, checked and normalised. `shape` is the result's, as the caller sees it."""

    batched: bool
    channels_last: bool
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    boundary: str = "zeros"


def _index(name: str, value: Any) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"expected {name} of integers, got {value!r}")


def _is_one(value: Any) -> bool:
    several = isinstance(value, Iterable) and not isinstance(value, str)
    return not several or getattr(value, "ndim", 1) == 0


def _sizes(name: str, value: Any, n: int) -> tuple[int, ...]:
    """One int an axis. Exact ints, because 1.0 and True would find the entry of 1 in a cache."""
    if type(value) is int:
        return (value,) * n
    if type(value) is tuple and len(value) == n and set(map(type, value)) == {int}:
        return value
    if _is_one(value):
        return (_index(name, value),) * n
    sizes = tuple(_index(name, v) for v in value)
    if len(sizes) not in (1, n):
        raise ValueError(f"expected {name} of one integer or {n}, got {value!r}")
    return sizes if len(sizes) == n else sizes * n


def _pads(value: Any, n: int) -> str | Pairs:
    """Strings as they are, all else as one (before, after) pair an axis."""
    if type(value) is int:
        return ((value, value),) * n
    if isinstance(value, str):
        return value
    if _is_one(value):
        return ((_index("padding", value),) * 2,) * n
    pads = []
    for pad in value:
        if type(pad) is int:
            pads.append((pad, pad))
            continue
        pair = _sizes("padding", pad, 2)
        pads.append((pair[0], pair[1]))
    if len(pads) not in (1, n):
        raise ValueError(
            f"expected padding of one integer, {n}, or {n} (before, after) pairs, got {value!r}"
        )
    return tuple(pads) if len(pads) == n else tuple(pads) * n


def _shape(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, Iterable):
        raise TypeError(f"expected {name} of integers, got {value!r}")
    return tuple(_index(name, v) for v in value)


def _array(name: str, value: npt.ArrayLike) -> Array:
    if type(value) is np.ndarray or on_gpu(value):
        return value  # type: ignore[return-value]
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"expected {name} without a mask, got a masked array: fill it first")
    return on_host(name, value)


def _same_dtype(name: str, a: Array, x: Array) -> None:
    """TypeError unless `a` has x's dtype in either byte order."""
    if a.dtype != x.dtype and a.dtype.newbyteorder("=") != x.dtype.newbyteorder("="):
        raise TypeError(
            f"expected {name} of one dtype with the data, {x.dtype}, got {a.dtype}:"
            " convert one of them"
        )


def _bias(bias: npt.ArrayLike | None, filters: int, x: Array, out: Array | None) -> Array | None:
    if bias is None:
        return None
    b = _array("bias", bias)
    _same_dtype("bias", b, x)
    if b.shape != (filters,):
        raise ValueError(f"expected bias of shape {(filters,)}, got {b.shape}")
    if out is None or not share_memory(b, out):
        return b
    if on_gpu(b):
        raise ValueError(f"expected out apart from bias on {b.device}, got one of its elements")
    return b.copy()


def _residual(residual: npt.ArrayLike | None, shape: tuple[int, ...], x: Array) -> Array | None:
    if residual is None:
        return None
    r = _array("residual", residual)
    _same_dtype("residual", r, x)
    if r.shape == shape:
        return r
    try:
        if on_gpu(r):
            return r.broadcast_to(shape)  # type: ignore[attr-defined]
        return np.broadcast_to(r, shape)
    except ValueError:
        raise ValueError(
            f"expected residual of a shape that broadcasts to {shape}, got {r.shape}"
        ) from None


def _check_out(out: Any, shape: tuple[int, ...], x: Array) -> None:
    if not (isinstance(out, np.ndarray) or on_gpu(out)):
        raise TypeError(f"expected out to be an array, got {type(out).__name__}")
    _same_dtype("out", out, x)
    if out.shape != shape:
        raise ValueError(f"expected out of shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("expected out to be writeable, got a read-only array")


# The functions with a cache below see shapes and exact ints only; they raise every error of shape
# and value before anything is allocated, in terms of the arrays that the caller passed.


def _split(
    name: str, shape: tuple[int, ...], n: int, layout: str
) -> tuple[bool, bool, int, tuple[int, ...]]:
    """(batched, channels last, channels, spatial sizes) of data."""
    last = _LAYOUTS[n].get(layout)
    if last is None:
        raise ValueError(f"expected a layout out of {tuple(_LAYOUTS[n])}, got {layout!r}")
    if len(shape) not in (n + 1, n + 2):
        form = ("*space, channels" if last else "channels, *space") + f" with {n} of space"
        raise ValueError(f"expected {name} of shape ({form}) or (batch, {form}), got {shape}")
    batched = len(shape) == n + 2
    rest = shape[batched:]
    channels, space = (rest[-1], rest[:-1]) if last else (rest[0], rest[1:])
    if min(shape) < 0:
        raise ValueError(f"expected {name} of sizes of at least 0, got {shape}")
    if min(space) < 1:
        raise ValueError(f"expected {name} of spatial sizes of at least 1, got {shape}")
    return batched, last, channels, space


def _joined(
    name: str, like: tuple[int, ...], batched: bool, last: bool, channels: int, space: Sequence[int]
) -> tuple[int, ...]:
    """Shape of data with the batch of `like`, which must be one that memory can hold."""
    shape = (*like[:batched], *space, channels) if last else (*like[:batched], channels, *space)
    if math.prod(shape) > MAX_SIZE:
        raise ValueError(f"expected {name} of at most {MAX_SIZE} elements, got shape {shape}")
    return shape


def _check_numbers(
    w_name: str, w_shape: tuple[int, ...], n: int, stride: tuple[int, ...],
    dilation: tuple[int, ...], groups: int,
) -> None:  # fmt: skip
    if len(w_shape) != n + 2:
        raise ValueError(f"expected {w_name} of {n + 2} dimensions, got shape {w_shape}")
    if min(w_shape) < 0 or min(w_shape[2:]) < 1:
        raise ValueError(f"expected {w_name} of kernel sizes of at least 1, got shape {w_shape}")
    for name, values in (("stride", stride), ("dilation", dilation), ("groups", (groups,))):
        if min(values) < 1 or max(values) > MAX_SIZE:
            raise ValueError(f"expected {name} from 1 to {MAX_SIZE}, got {values}")


def _pairs(
    padding: str | Pairs, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pairs:
    """Padding in numbers. "same" gives the odd sample to the end, as PyTorch does."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * len(kernel)
        if padding != "same":
            raise ValueError(f"expected padding 'same', 'valid' or integers, got {padding!r}")
        if max(stride) > 1:
            raise ValueError(f"expected a stride of 1 with padding='same', got {tuple(stride)}")
        totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return tuple((t // 2, t - t // 2) for t in totals)
    if min(map(min, padding)) < 0:
        raise ValueError(f"expected padding of at least 0, got {padding}")
    return padding


@functools.lru_cache(maxsize=1024)
def _forward(
    n: int, x_name: str, x_shape: tuple[int, ...], w_name: str, w_shape: tuple[int, ...],
    stride: tuple[int, ...], padding: str | Pairs, dilation: tuple[int, ...], groups: int,
    padding_mode: str, layout: str,
) -> _Geometry:  # fmt: skip
    """Of y = conv(x, w): `shape` is y's."""
    batched, last, channels, space = _split(x_name, x_shape, n, layout)
    _check_numbers(w_name, w_shape, n, stride, dilation, groups)
    filters, kernel = w_shape[0], w_shape[2:]
    if channels != w_shape[1] * groups:
        raise ValueError(
            f"expected {x_name} of {w_shape[1]} * {groups} channels ({w_name} of shape {w_shape},"
            f" groups {groups}), got {channels} in shape {x_shape}"
        )
    if filters % groups:
        raise ValueError(f"expected filters divisible by {groups} groups, got {w_name} {w_shape}")
    if padding_mode not in _BOUNDARIES:
        raise ValueError(
            f"expected a padding_mode out of {tuple(_BOUNDARIES)}, got {padding_mode!r}"
        )
    pads = _pairs(padding, kernel, stride, dilation)
    padded = tuple(s + lo + hi for s, (lo, hi) in zip(space, pads))
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
    if any(s > p for s, p in zip(span, padded)):
        raise ValueError(
            f"expected a kernel no larger than the padded input, got kernel {kernel} spanning"
            f" {span} over {padded}"
        )
    out = [(p - s) // u + 1 for p, s, u in zip(padded, span, stride)]
    shape = _joined("output", x_shape, batched, last, filters, out)
    return _Geometry(batched, last, shape, stride, pads, dilation, _BOUNDARIES[padding_mode])


@functools.lru_cache(maxsize=1024)
def _transposed(
    n: int, x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: tuple[int, ...],
    padding: str | Pairs, output_padding: tuple[int, ...], groups: int, dilation: tuple[int, ...],
    layout: str,
) -> _Geometry:  # fmt: skip
    """Of y = conv_transpose(x, w): `padding` is that of the problem solved on dilated x."""
    batched, last, channels, space = _split("x", x_shape, n, layout)
    _check_numbers("w", w_shape, n, stride, dilation, groups)
    if channels != w_shape[0]:
        raise ValueError(
            f"expected x of {w_shape[0]} channels (w of shape {w_shape}), got {channels} in shape"
            f" {x_shape}"
        )
    if channels % groups:
        raise ValueError(f"expected channels divisible by {groups} groups, got {channels}")
    if isinstance(padding, str):
        raise ValueError(f"expected padding of integers, got {padding!r}")
    _pairs(padding, w_shape[2:], stride, dilation)
    if any(not 0 <= p < max(u, d) for p, u, d in zip(output_padding, stride, dilation)):
        raise ValueError(
            "expected output_padding of at least 0 and below the larger of stride and dilation"
            f" ({stride}, {dilation}), got {output_padding}"
        )
    out, pads = [], []
    for i, k, u, (lo, hi), extra, d in zip(
        space, w_shape[2:], stride, padding, output_padding, dilation
    ):
        reach = d * (k - 1)
        out.append((i - 1) * u + 1 + reach - lo - hi + extra)
        pads.append((reach - lo, reach - hi + extra))
    if min(out) < 1:
        raise ValueError(
            f"expected padding that leaves an output, got {padding}, which makes its sizes {out}"
        )
    shape = _joined("output", x_shape, batched, last, w_shape[1] * groups, out)
    return _Geometry(batched, last, shape, stride, tuple(pads), dilation)


@functools.lru_cache(maxsize=1024)
def _input_gradient(
    n: int, input_size: tuple[int, ...], w_shape: tuple[int, ...], grad_shape: tuple[int, ...],
    stride: tuple[int, ...], padding: str | Pairs, dilation: tuple[int, ...], groups: int,
    layout: str,
) -> _Geometry:  # fmt: skip
    """Of the gradient with respect to x: as in `_transposed`, the output padding worked out."""
    g = _forward(
        n, "input_size", input_size, "w", w_shape, stride, padding, dilation, groups, "zeros",
        layout,
    )  # fmt: skip
    if grad_shape != g.shape:
        raise ValueError(
            f"expected grad_output of shape {g.shape} for input_size {input_size}, got {grad_shape}"
        )
    space = _split("input_size", input_size, n, layout)[3]
    pads = []
    for s, k, u, (lo, hi), d in zip(space, w_shape[2:], stride, g.padding, dilation):
        reach = d * (k - 1)
        unread = (s + lo + hi - reach - 1) % u
        pads.append((reach - lo, reach - hi + unread))
    return g._replace(shape=input_size, padding=tuple(pads))


@functools.lru_cache(maxsize=1024)
def _weight_gradient(
    n: int, x_shape: tuple[int, ...], weight_size: tuple[int, ...], grad_shape: tuple[int, ...],
    stride: tuple[int, ...], padding: str | Pairs, dilation: tuple[int, ...], groups: int,
    layout: str,
) -> _Geometry:  # fmt: skip
    """Of the gradient with respect to w: `stride` and `dilation` have changed places."""
    g = _forward(
        n, "x", x_shape, "weight_size", weight_size, stride, padding, dilation, groups, "zeros",
        layout,
    )  # fmt: skip
    if grad_shape != g.shape:
        raise ValueError(
            f"expected grad_output of shape {g.shape} for x of shape {x_shape} and weight_size"
            f" {weight_size}, got {grad_shape}"
        )
    space = _split("x", x_shape, n, layout)[3]
    size = _split("grad_output", grad_shape, n, layout)[3]
    # read exactly k positions d apart: the padding after is cut to what they reach
    pads = tuple(
        (lo, (k - 1) * d + (o - 1) * u + 1 - s - lo)
        for s, o, k, u, (lo, _), d in zip(space, size, weight_size[2:], stride, g.padding, dilation)
    )
    _joined("gradient", (), False, False, weight_size[0], weight_size[1:])
    return g._replace(shape=weight_size, stride=dilation, padding=pads, dilation=stride)


def _first(a: Array, batched: bool, channels_last: bool) -> Array:
    """(N, C, *space) view of data in the caller's layout."""
    if not batched:
        a = a[None]
    return a.transpose(0, -1, *range(1, a.ndim - 1)) if channels_last else a


def _solve(
    x: Array, w: Array, g: _Geometry, bias: Array | None, out: Array | None,
    residual: Array | None = None, **how: Any,
) -> Array:  # fmt: skip
    """`run` on data in the caller's layout, into an array of that layout."""
    y = out
    if y is None and g.channels_last:
        y = empty(x, g.shape, x.dtype.newbyteorder("="))
    result = run(
        _first(x, g.batched, g.channels_last), w, dilation=g.dilation, padding=g.padding, bias=bias,
        out=None if y is None else _first(y, g.batched, g.channels_last), out_dtype=x.dtype,
        residual=None if residual is None else _first(residual, g.batched, g.channels_last),
        kernel_repeats=True, **how,
    )  # fmt: skip
    if y is not None:
        return y
    return result if g.batched else result[0]


@met_before
def _conv(
    n: int, x: npt.ArrayLike, w: npt.ArrayLike, bias: npt.ArrayLike | None, stride: Sizes,
    padding: Padding, dilation: Sizes, groups: SupportsIndex, padding_mode: str, layout: str,
    residual: npt.ArrayLike | None, activation: ActivationLike, *, out: Array | None, **how: Any,
) -> Array:  # fmt: skip
    x, w = _array("x", x), _array("w", w)
    _same_dtype("w", w, x)
    groups = _index("groups", groups)
    g = _forward(
        n, "x", x.shape, "w", w.shape, _sizes("stride", stride, n), _pads(padding, n),
        _sizes("dilation", dilation, n), groups, padding_mode, layout,
    )  # fmt: skip
    if out is not None:
        _check_out(out, g.shape, x)
    b, r = _bias(bias, w.shape[0], x, out), _residual(residual, g.shape, x)
    return _solve(
        x, w, g, b, out, r, activation=activation_of(activation, x.dtype), stride=g.stride,
        groups=groups, boundary=g.boundary, **how,
    )  # fmt: skip


def _scatter(
    x: Array, w: Array, g: _Geometry, groups: int, bias: Array | None, out: Array | None,
    residual: Array | None = None, **how: Any,
) -> Array:  # fmt: skip
    """The adjoint of a convolution by w (C, K / groups, *kernel): zeros go between x's samples."""
    c, k, *kernel = w.shape
    if groups == 1:
        w = w.swapaxes(0, 1)
    else:
        w = w.reshape(groups, c // groups, k, *kernel).swapaxes(1, 2)
        if on_gpu(w):  # no view has groups and filters as one axis
            w = copied(w.reshape(groups, k, c // groups, -1))
        w = w.reshape(groups * k, c // groups, *kernel)
    return _solve(
        x, w, g, bias, out, residual, input_dilation=g.stride, groups=groups, flip=True, **how
    )


@met_before
def _conv_transpose(
    n: int, x: npt.ArrayLike, w: npt.ArrayLike, bias: npt.ArrayLike | None, stride: Sizes,
    padding: Padding, output_padding: Sizes, groups: SupportsIndex, dilation: Sizes, layout: str,
    residual: npt.ArrayLike | None, activation: ActivationLike, *, out: Array | None, **how: Any,
) -> Array:  # fmt: skip
    x, w = _array("x", x), _array("w", w)
    _same_dtype("w", w, x)
    groups = _index("groups", groups)
    g = _transposed(
        n, x.shape, w.shape, _sizes("stride", stride, n), _pads(padding, n),
        _sizes("output_padding", output_padding, n), groups, _sizes("dilation", dilation, n),
        layout,
    )  # fmt: skip
    if out is not None:
        _check_out(out, g.shape, x)
    b, r = _bias(bias, w.shape[1] * groups, x, out), _residual(residual, g.shape, x)
    how["activation"] = activation_of(activation, x.dtype)
    return _scatter(x, w, g, groups, b, out, r, **how)


@met_before
def _conv_input(
    n: int, input_size: Sequence[SupportsIndex], w: npt.ArrayLike, grad_output: npt.ArrayLike,
    stride: Sizes, padding: Padding, dilation: Sizes, groups: SupportsIndex, layout: str,
    *, out: Array | None, **how: Any,
) -> Array:  # fmt: skip
    grad, w = _array("grad_output", grad_output), _array("w", w)
    _same_dtype("w", w, grad)
    groups = _index("groups", groups)
    g = _input_gradient(
        n, _shape("input_size", input_size), w.shape, grad.shape, _sizes("stride", stride, n),
        _pads(padding, n), _sizes("dilation", dilation, n), groups, layout,
    )  # fmt: skip
    if out is not None:
        _check_out(out, g.shape, grad)
    return _scatter(grad, w.conj() if w.dtype.kind == "c" else w, g, groups, None, out, **how)


@met_before
def _conv_weight(
    n: int, x: npt.ArrayLike, weight_size: Sequence[SupportsIndex], grad_output: npt.ArrayLike,
    stride: Sizes, padding: Padding, dilation: Sizes, groups: SupportsIndex, layout: str,
    *, out: Array | None, **how: Any,
) -> Array:  # fmt: skip
    x, grad = _array("x", x), _array("grad_output", grad_output)
    _same_dtype("grad_output", grad, x)
    groups = _index("groups", groups)
    g = _weight_gradient(
        n, x.shape, _shape("weight_size", weight_size), grad.shape, _sizes("stride", stride, n),
        _pads(padding, n), _sizes("dilation", dilation, n), groups, layout,
    )  # fmt: skip
    if out is not None:
        _check_out(out, g.shape, x)
    y = empty(x, g.shape, x.dtype.newbyteorder("=")) if out is None else out
    data = _first(x.conj() if x.dtype.kind == "c" else x, g.batched, g.channels_last)
    # Batch and channels change places: the batch is what is summed over. Groups are outermost among
    # channels, and no view has both as one axis: the batch is one more axis of space then, of
    # which kernels for GPUs have three at most. Volumes go there group by group.
    batch, channels, *space = data.shape
    w, result = _first(grad, g.batched, g.channels_last).swapaxes(0, 1), y.swapaxes(0, 1)
    data = data.reshape(batch, groups, channels // groups, *space).swapaxes(0, 2)
    how |= {"stride": g.stride, "dilation": g.dilation, "padding": g.padding}
    if groups == 1 or batch == 1:
        data = data.reshape(channels // groups, groups * batch, *space)
        run(data, w, groups=groups, out=result, **how)
    elif on_gpu(data) and n > 2:
        own = w.shape[0] // groups
        for i in range(groups):
            filters = slice(i * own, (i + 1) * own)
            run(data[:, i], w[filters], out=result[:, filters], **how)
    else:
        how |= {
            "stride": (1, *g.stride), "dilation": (1, *g.dilation), "padding": ((0, 0), *g.padding),
        }  # fmt: skip
        run(data, w[:, None], groups=groups, out=result[:, :, None], **how)
    return y


@front_end(data="x", kernel="w")
def conv1d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NC*",
    residual: npt.ArrayLike | None = None,
    activation: ActivationLike = None,
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Convolve multi-channel signals with a bank of filters.

    The cross-correlation of machine learning (the kernel is not reversed), with the meaning of
    `torch.nn.functional.conv1d`.

    Parameters
    ----------
    x : array_like, (N, C, L) or (C, L)
        Data, batched or not; any numeric dtype, any strides.
    w : array_like, (K, C / groups, S)
        K filters, of the same dtype.
    bias : array_like, (K,), optional
        Added to each filter's output; of the same dtype.
    stride : int, default 1
        Samples from one window to the next.
    padding : int, a (before, after) pair in a tuple, "same" or "valid"; default 0
        Samples that x is extended by at its ends. "same" keeps the size of x at stride 1, with the
        odd sample at the end when the total is odd; "valid" is 0.
    dilation : int, default 1
        Samples from one tap of the kernel to the next.
    groups : int, default 1
        Split the channels of x and the filters into so many independent convolutions;
        ``groups=C`` is depthwise.
    padding_mode : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What x is extended by; `fastconv.nn` has a table.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCW" or "NCL", "NWC" or
        "NLC". w is channels first in either.
    residual : array_like, optional
        Added to the result; of the same dtype, of the result's shape or one that broadcasts to it.
        May be `out`. It is read in place when it lies in memory as the result does and apart from
        it, and copied otherwise.
    activation : {"relu", "relu6", "silu", "gelu"} or ("clamp", low, high), optional
        Applied last, while the result is in cache; see the notes of `conv2d`.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, (N, K, L') or (K, L')
        Of x's dtype and layout; `out` itself if given. Each output size is
        ``(size + before + after - dilation * (kernel - 1) - 1) // stride + 1``.

    Raises
    ------
    ValueError
        If shapes, channels and groups do not fit each other, the kernel is larger than the padded
        input, a number is out of range, a name is unknown, or no method can keep the limits.
    TypeError
        If dtypes differ or are not numeric, or a number is not an integer.

    See Also
    --------
    fastconv.plan : prepare a call for repeated use with the same filters.
    conv_transpose1d, conv1d_input, conv1d_weight

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import conv1d
    >>> conv1d(np.array([[1.0, 2, 4, 8]]), np.array([[[-1.0, 1]]]))
    array([[1., 2., 4.]])
    >>> conv1d(np.array([[1.0, 2, 4, 8]]), np.array([[[-1.0, 1]]]), padding=((1, 0),))
    array([[1., 1., 2., 4.]])
    """
    return _conv(
        1, x, w, bias, stride, padding, dilation, groups, padding_mode, layout,
        residual, activation, out=out, method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="w")
def conv2d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NC*",
    residual: npt.ArrayLike | None = None,
    activation: ActivationLike = None,
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Convolve multi-channel images with a bank of filters.

    The cross-correlation of machine learning (the kernel is not reversed), with the meaning of
    `torch.nn.functional.conv2d`.

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W)
        Data, batched or not; any numeric dtype, any strides.
    w : array_like, (K, C / groups, R, S)
        K filters, of the same dtype.
    bias : array_like, (K,), optional
        Added to each filter's output; of the same dtype.
    stride : int or tuple of 2 ints, default 1
        Samples from one window to the next.
    padding : int or tuple of 2 ints, two (before, after) pairs, "same" or "valid"; default 0
        Samples that x is extended by at its ends. "same" keeps the size of x at stride 1, with the
        odd sample at the end when the total is odd; "valid" is 0.
    dilation : int or tuple of 2 ints, default 1
        Samples from one tap of the kernel to the next.
    groups : int, default 1
        Split the channels of x and the filters into so many independent convolutions;
        ``groups=C`` is depthwise.
    padding_mode : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What x is extended by; `fastconv.nn` has a table.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCHW" and "NHWC". w is
        channels first in either.
    residual : array_like, optional
        Added to the result; of the same dtype, of the result's shape or one that broadcasts to it.
        May be `out`. It is read in place when it lies in memory as the result does and apart from
        it, and copied otherwise.
    activation : {"relu", "relu6", "silu", "gelu"} or ("clamp", low, high), optional
        Applied last, while the result is in cache; see Notes.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see Notes.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, (N, K, H', W') or (K, H', W')
        Of x's dtype and layout; `out` itself if given. Each output size is
        ``(size + before + after - dilation * (kernel - 1) - 1) // stride + 1``.

    Raises
    ------
    ValueError
        If shapes, channels and groups do not fit each other, the kernel is larger than the padded
        input, a number is out of range, a name is unknown, or no method can keep the limits.
    TypeError
        If dtypes differ or are not numeric, or a number is not an integer.

    See Also
    --------
    fastconv.plan : prepare a call for repeated use with the same filters.
    conv_transpose2d, conv2d_input, conv2d_weight

    Notes
    -----
    Sums of float16 and bfloat16 are kept in float32 and rounded once, after the bias. Sums of
    integers wrap around.

    With s the result before it, an `activation` gives max(s, 0) for "relu", min(max(s, 0), 6) for
    "relu6", min(max(s, low), high) for ("clamp", low, high), where None is no limit,
    s / (1 + exp(-s)) for "silu", and s * (1 + erf(s / sqrt(2))) / 2 for "gelu", PyTorch's default.
    NaN stays NaN. "silu" and "gelu" add at most 6 units in the last place, subnormal results
    included, and of minus infinity they are 0, the limit. Integers can be clamped, and neither
    complex data nor bools be activated.

    Let eps be that of the dtype summed in, S the sum of abs(x) * abs(w) over an output's window,
    and B the largest abs(x) of a tile or block times the sum of abs(w). ``accuracy="strict"``
    admits only methods whose error is that of a blocked sum, a multiple of eps * S.
    ``"balanced"`` also admits Winograd, within about 32 * eps * B, and Fourier methods, within a
    multiple of eps * log2(size) * B; neither leaves an output with an error above S / 10.
    ``"fast"`` lets Fourier methods do that. NaN and infinity reach the outputs whose windows hold
    them and no others. docs/accuracy.md derives the bounds.

    PyTorch refuses "reflect" padding as long as the data and "circular" padding longer than it;
    here the extension goes on, reflected or repeated again, as in `numpy.pad`.

    References
    ----------
    .. [1] V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016,
       arXiv:1603.07285.
    .. [2] A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016,
       arXiv:1509.09308.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import conv2d

    Three filters over a batch of two-channel images, keeping their size:

    >>> x = np.ones((8, 2, 32, 32), np.float32)
    >>> w = np.ones((3, 2, 5, 5), np.float32)
    >>> y = conv2d(x, w, padding="same")
    >>> y.shape, y.dtype
    ((8, 3, 32, 32), dtype('float32'))
    >>> y[0, 0, :3, :3].round(3)
    array([[18., 24., 30.],
           [24., 32., 40.],
           [30., 40., 50.]], dtype=float32)

    Padding a side, another boundary, channels last:

    >>> conv2d(x, w, padding=((2, 2), (4, 0)), padding_mode="replicate").shape
    (8, 3, 32, 32)
    >>> conv2d(x.transpose(0, 2, 3, 1), w, stride=2, layout="NHWC").shape
    (8, 14, 14, 3)
    """
    return _conv(
        2, x, w, bias, stride, padding, dilation, groups, padding_mode, layout,
        residual, activation, out=out, method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="w")
def conv3d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NC*",
    residual: npt.ArrayLike | None = None,
    activation: ActivationLike = None,
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Convolve multi-channel volumes with a bank of filters.

    The cross-correlation of machine learning (the kernel is not reversed), with the meaning of
    `torch.nn.functional.conv3d`.

    Parameters
    ----------
    x : array_like, (N, C, D, H, W) or (C, D, H, W)
        Data, batched or not; any numeric dtype, any strides.
    w : array_like, (K, C / groups, T, R, S)
        K filters, of the same dtype.
    bias : array_like, (K,), optional
        Added to each filter's output; of the same dtype.
    stride : int or tuple of 3 ints, default 1
        Samples from one window to the next.
    padding : int or tuple of 3 ints, three (before, after) pairs, "same" or "valid"; default 0
        Samples that x is extended by at its ends. "same" keeps the size of x at stride 1, with the
        odd sample at the end when the total is odd; "valid" is 0.
    dilation : int or tuple of 3 ints, default 1
        Samples from one tap of the kernel to the next.
    groups : int, default 1
        Split the channels of x and the filters into so many independent convolutions;
        ``groups=C`` is depthwise.
    padding_mode : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What x is extended by; `fastconv.nn` has a table.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCDHW" and "NDHWC". w is
        channels first in either.
    residual : array_like, optional
        Added to the result; of the same dtype, of the result's shape or one that broadcasts to it.
        May be `out`. It is read in place when it lies in memory as the result does and apart from
        it, and copied otherwise.
    activation : {"relu", "relu6", "silu", "gelu"} or ("clamp", low, high), optional
        Applied last, while the result is in cache; see the notes of `conv2d`.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, (N, K, D', H', W') or (K, D', H', W')
        Of x's dtype and layout; `out` itself if given. Each output size is
        ``(size + before + after - dilation * (kernel - 1) - 1) // stride + 1``.

    Raises
    ------
    ValueError
        If shapes, channels and groups do not fit each other, the kernel is larger than the padded
        input, a number is out of range, a name is unknown, or no method can keep the limits.
    TypeError
        If dtypes differ or are not numeric, or a number is not an integer.

    See Also
    --------
    fastconv.plan : prepare a call for repeated use with the same filters.
    conv_transpose3d, conv3d_input, conv3d_weight

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import conv3d
    >>> x = np.ones((1, 4, 8, 16, 16), np.float32)
    >>> conv3d(x, np.ones((4, 1, 3, 3, 3), np.float32), stride=(1, 2, 2), groups=4).shape
    (1, 4, 6, 7, 7)
    """
    return _conv(
        3, x, w, bias, stride, padding, dilation, groups, padding_mode, layout,
        residual, activation, out=out, method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="w")
def conv_transpose1d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: SupportsIndex = 1,
    dilation: Sizes = 1,
    *,
    layout: str = "NC*",
    residual: npt.ArrayLike | None = None,
    activation: ActivationLike = None,
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Transposed convolution of multi-channel signals.

    Every sample of x adds a copy of the kernel, times its value, to the output: the adjoint of
    `conv1d` with the same numbers. Has the meaning of `torch.nn.functional.conv_transpose1d`,
    whose order of arguments has `dilation` last.

    Parameters
    ----------
    x : array_like, (N, C, L) or (C, L)
        Data, batched or not; any numeric dtype, any strides.
    w : array_like, (C, K / groups, S)
        Kernels, of the same dtype.
    bias : array_like, (K,), optional
        Added to each output channel; of the same dtype.
    stride : int, default 1
        Samples of the output from one copy of the kernel to the next.
    padding : int, or a (before, after) pair in a tuple; default 0
        Samples cut off the ends of the output.
    output_padding : int, default 0
        Samples more at the end of the output, fewer than the larger of stride and dilation: the
        sizes that a strided convolution maps to x's differ by these.
    groups : int, default 1
        Independent groups of channels of x and of the output.
    dilation : int, default 1
        Samples from one tap of the kernel to the next.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCW" or "NCL", "NWC" or
        "NLC". w is channels first in either.
    residual : array_like, optional
        Added to the result; of the same dtype, of the result's shape or one that broadcasts to it.
        May be `out`. It is read in place when it lies in memory as the result does and apart from
        it, and copied otherwise.
    activation : {"relu", "relu6", "silu", "gelu"} or ("clamp", low, high), optional
        Applied last, while the result is in cache; see the notes of `conv2d`.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, (N, K, L') or (K, L')
        Of x's dtype and layout; `out` itself if given. Each output size is ``(size - 1) * stride
        - before - after + dilation * (kernel - 1) + output_padding + 1``.

    Raises
    ------
    ValueError
        If shapes, channels and groups do not fit each other, no output is left, a number is out
        of range, a name is unknown, or no method can keep the limits.
    TypeError
        If dtypes differ or are not numeric, or a number is not an integer.

    See Also
    --------
    conv1d, conv1d_input

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import conv_transpose1d
    >>> x = np.array([[1.0, 2, 3]])
    >>> conv_transpose1d(x, np.array([[[1.0, 1]]]), stride=2)
    array([[1., 1., 2., 2., 3., 3.]])
    """
    return _conv_transpose(
        1, x, w, bias, stride, padding, output_padding, groups, dilation, layout,
        residual, activation, out=out, method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="w")
def conv_transpose2d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: SupportsIndex = 1,
    dilation: Sizes = 1,
    *,
    layout: str = "NC*",
    residual: npt.ArrayLike | None = None,
    activation: ActivationLike = None,
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Transposed convolution of multi-channel images.

    Every sample of x adds a copy of the kernel, times its value, to the output: the adjoint of
    `conv2d` with the same numbers. Has the meaning of `torch.nn.functional.conv_transpose2d`,
    whose order of arguments has `dilation` last.

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W)
        Data, batched or not; any numeric dtype, any strides.
    w : array_like, (C, K / groups, R, S)
        Kernels, of the same dtype.
    bias : array_like, (K,), optional
        Added to each output channel; of the same dtype.
    stride : int or tuple of 2 ints, default 1
        Samples of the output from one copy of the kernel to the next.
    padding : int or tuple of 2 ints, or two (before, after) pairs; default 0
        Samples cut off the ends of the output.
    output_padding : int or tuple of 2 ints, default 0
        Samples more at the end of the output, fewer than the larger of stride and dilation: the
        sizes that a strided convolution maps to x's differ by these.
    groups : int, default 1
        Independent groups of channels of x and of the output.
    dilation : int or tuple of 2 ints, default 1
        Samples from one tap of the kernel to the next.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCHW" and "NHWC". w is
        channels first in either.
    residual : array_like, optional
        Added to the result; of the same dtype, of the result's shape or one that broadcasts to it.
        May be `out`. It is read in place when it lies in memory as the result does and apart from
        it, and copied otherwise.
    activation : {"relu", "relu6", "silu", "gelu"} or ("clamp", low, high), optional
        Applied last, while the result is in cache; see the notes of `conv2d`.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, (N, K, H', W') or (K, H', W')
        Of x's dtype and layout; `out` itself if given. Each output size is ``(size - 1) * stride
        - before - after + dilation * (kernel - 1) + output_padding + 1``.

    Raises
    ------
    ValueError
        If shapes, channels and groups do not fit each other, no output is left, a number is out
        of range, a name is unknown, or no method can keep the limits.
    TypeError
        If dtypes differ or are not numeric, or a number is not an integer.

    See Also
    --------
    conv2d, conv2d_input

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import conv_transpose2d

    Doubling the size of an image:

    >>> x = np.array([[[1.0, 2], [3, 4]]])
    >>> conv_transpose2d(x, np.ones((1, 1, 2, 2)), stride=2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.],
            [3., 3., 4., 4.],
            [3., 3., 4., 4.]]])
    """
    return _conv_transpose(
        2, x, w, bias, stride, padding, output_padding, groups, dilation, layout,
        residual, activation, out=out, method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="w")
def conv_transpose3d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: SupportsIndex = 1,
    dilation: Sizes = 1,
    *,
    layout: str = "NC*",
    residual: npt.ArrayLike | None = None,
    activation: ActivationLike = None,
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Transposed convolution of multi-channel volumes.

    Every sample of x adds a copy of the kernel, times its value, to the output: the adjoint of
    `conv3d` with the same numbers. Has the meaning of `torch.nn.functional.conv_transpose3d`,
    whose order of arguments has `dilation` last.

    Parameters
    ----------
    x : array_like, (N, C, D, H, W) or (C, D, H, W)
        Data, batched or not; any numeric dtype, any strides.
    w : array_like, (C, K / groups, T, R, S)
        Kernels, of the same dtype.
    bias : array_like, (K,), optional
        Added to each output channel; of the same dtype.
    stride : int or tuple of 3 ints, default 1
        Samples of the output from one copy of the kernel to the next.
    padding : int or tuple of 3 ints, or three (before, after) pairs; default 0
        Samples cut off the ends of the output.
    output_padding : int or tuple of 3 ints, default 0
        Samples more at the end of the output, fewer than the larger of stride and dilation: the
        sizes that a strided convolution maps to x's differ by these.
    groups : int, default 1
        Independent groups of channels of x and of the output.
    dilation : int or tuple of 3 ints, default 1
        Samples from one tap of the kernel to the next.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCDHW" and "NDHWC". w is
        channels first in either.
    residual : array_like, optional
        Added to the result; of the same dtype, of the result's shape or one that broadcasts to it.
        May be `out`. It is read in place when it lies in memory as the result does and apart from
        it, and copied otherwise.
    activation : {"relu", "relu6", "silu", "gelu"} or ("clamp", low, high), optional
        Applied last, while the result is in cache; see the notes of `conv2d`.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, (N, K, D', H', W') or (K, D', H', W')
        Of x's dtype and layout; `out` itself if given. Each output size is ``(size - 1) * stride
        - before - after + dilation * (kernel - 1) + output_padding + 1``.

    Raises
    ------
    ValueError
        If shapes, channels and groups do not fit each other, no output is left, a number is out
        of range, a name is unknown, or no method can keep the limits.
    TypeError
        If dtypes differ or are not numeric, or a number is not an integer.

    See Also
    --------
    conv3d, conv3d_input

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import conv_transpose3d
    >>> x = np.ones((1, 2, 4, 8, 8), np.float32)
    >>> w = np.ones((2, 3, 3, 3, 3), np.float32)
    >>> conv_transpose3d(x, w, stride=2, padding=1, output_padding=1).shape
    (1, 3, 8, 16, 16)
    """
    return _conv_transpose(
        3, x, w, bias, stride, padding, output_padding, groups, dilation, layout,
        residual, activation, out=out, method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="grad_output", kernel="w")
def conv1d_input(
    input_size: Sequence[SupportsIndex],
    w: npt.ArrayLike,
    grad_output: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    layout: str = "NC*",
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Gradient of `conv1d` with respect to its input, as `torch.nn.grad.conv1d_input`.

    Parameters
    ----------
    input_size : sequence of ints
        Shape of the x of the forward call: (N, C, L) or (C, L), or as `layout` says.
    w : array_like, (K, C / groups, S)
        Filters of the forward call.
    grad_output : array_like, (N, K, L') or (K, L')
        Gradient with respect to its output; of the same dtype as w.
    stride, padding, dilation, groups
        Those of the forward call; see `conv1d`. The padding is of zeros.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCW" or "NCL", "NWC" or
        "NLC". Of grad_output, input_size and the result.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, `input_size`
        Of grad_output's dtype; `out` itself if given. Of complex arrays it is the gradient of
        PyTorch's convention, in which w enters conjugated.

    Raises
    ------
    ValueError
        If grad_output's shape is not that of the forward call's output, or as `conv1d`.
    TypeError
        As `conv1d`.

    See Also
    --------
    conv1d, conv1d_weight, conv_transpose1d

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import conv1d_input
    >>> conv1d_input((1, 1, 5), np.ones((1, 1, 2)), np.ones((1, 1, 2)), stride=2)
    array([[[1., 1., 1., 1., 0.]]])
    """
    return _conv_input(
        1, input_size, w, grad_output, stride, padding, dilation, groups, layout, out=out,
        method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="grad_output", kernel="w")
def conv2d_input(
    input_size: Sequence[SupportsIndex],
    w: npt.ArrayLike,
    grad_output: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    layout: str = "NC*",
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Gradient of `conv2d` with respect to its input, as `torch.nn.grad.conv2d_input`.

    Parameters
    ----------
    input_size : sequence of ints
        Shape of the x of the forward call: (N, C, H, W) or (C, H, W), or as `layout` says.
    w : array_like, (K, C / groups, R, S)
        Filters of the forward call.
    grad_output : array_like, (N, K, H', W') or (K, H', W')
        Gradient with respect to its output; of the same dtype as w.
    stride, padding, dilation, groups
        Those of the forward call; see `conv2d`. The padding is of zeros.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCHW" and "NHWC". Of
        grad_output, input_size and the result.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, `input_size`
        Of grad_output's dtype; `out` itself if given. Of complex arrays it is the gradient of
        PyTorch's convention, in which w enters conjugated.

    Raises
    ------
    ValueError
        If grad_output's shape is not that of the forward call's output, or as `conv2d`.
    TypeError
        As `conv2d`.

    See Also
    --------
    conv2d, conv2d_weight, conv_transpose2d

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import conv2d_input
    >>> conv2d_input((1, 1, 3, 3), np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)))
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    return _conv_input(
        2, input_size, w, grad_output, stride, padding, dilation, groups, layout, out=out,
        method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="grad_output", kernel="w")
def conv3d_input(
    input_size: Sequence[SupportsIndex],
    w: npt.ArrayLike,
    grad_output: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    layout: str = "NC*",
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Gradient of `conv3d` with respect to its input, as `torch.nn.grad.conv3d_input`.

    Parameters
    ----------
    input_size : sequence of ints
        Shape of the x of the forward call: (N, C, D, H, W) or (C, D, H, W), or as `layout` says.
    w : array_like, (K, C / groups, T, R, S)
        Filters of the forward call.
    grad_output : array_like, (N, K, D', H', W') or (K, D', H', W')
        Gradient with respect to its output; of the same dtype as w.
    stride, padding, dilation, groups
        Those of the forward call; see `conv3d`. The padding is of zeros.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCDHW" and "NDHWC". Of
        grad_output, input_size and the result.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, `input_size`
        Of grad_output's dtype; `out` itself if given. Of complex arrays it is the gradient of
        PyTorch's convention, in which w enters conjugated.

    Raises
    ------
    ValueError
        If grad_output's shape is not that of the forward call's output, or as `conv3d`.
    TypeError
        As `conv3d`.

    See Also
    --------
    conv3d, conv3d_weight, conv_transpose3d

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import conv3d_input
    >>> w, grad = np.ones((8, 2, 3, 3, 3), "f4"), np.ones((1, 8, 2, 4, 4), "f4")
    >>> conv3d_input((1, 2, 5, 9, 9), w, grad, stride=2).shape
    (1, 2, 5, 9, 9)
    """
    return _conv_input(
        3, input_size, w, grad_output, stride, padding, dilation, groups, layout, out=out,
        method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="grad_output")
def conv1d_weight(
    x: npt.ArrayLike,
    weight_size: Sequence[SupportsIndex],
    grad_output: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    layout: str = "NC*",
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Gradient of `conv1d` with respect to its filters, as `torch.nn.grad.conv1d_weight`.

    Parameters
    ----------
    x : array_like, (N, C, L) or (C, L)
        Data of the forward call.
    weight_size : sequence of ints
        Shape of its filters, (K, C / groups, S).
    grad_output : array_like, (N, K, L') or (K, L')
        Gradient with respect to its output; of the same dtype as x.
    stride, padding, dilation, groups
        Those of the forward call; see `conv1d`. The padding is of zeros.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCW" or "NCL", "NWC" or
        "NLC". Of x and grad_output; the result is channels first in either.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, `weight_size`
        Of x's dtype; `out` itself if given. Of complex arrays it is the gradient of PyTorch's
        convention, in which x enters conjugated.

    Raises
    ------
    ValueError
        If grad_output's shape is not that of the forward call's output, or as `conv1d`.
    TypeError
        As `conv1d`.

    See Also
    --------
    conv1d, conv1d_input

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import conv1d_weight
    >>> conv1d_weight(np.array([[1.0, 2, 3, 4]]), (1, 1, 2), np.ones((1, 3)))
    array([[[6., 9.]]])
    """
    return _conv_weight(
        1, x, weight_size, grad_output, stride, padding, dilation, groups, layout, out=out,
        method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="grad_output")
def conv2d_weight(
    x: npt.ArrayLike,
    weight_size: Sequence[SupportsIndex],
    grad_output: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    layout: str = "NC*",
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Gradient of `conv2d` with respect to its filters, as `torch.nn.grad.conv2d_weight`.

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W)
        Data of the forward call.
    weight_size : sequence of ints
        Shape of its filters, (K, C / groups, R, S).
    grad_output : array_like, (N, K, H', W') or (K, H', W')
        Gradient with respect to its output; of the same dtype as x.
    stride, padding, dilation, groups
        Those of the forward call; see `conv2d`. The padding is of zeros.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCHW" and "NHWC". Of x and
        grad_output; the result is channels first in either.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, `weight_size`
        Of x's dtype; `out` itself if given. Of complex arrays it is the gradient of PyTorch's
        convention, in which x enters conjugated.

    Raises
    ------
    ValueError
        If grad_output's shape is not that of the forward call's output, or as `conv2d`.
    TypeError
        As `conv2d`.

    See Also
    --------
    conv2d, conv2d_input

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import conv2d_weight
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d_weight(x, (1, 1, 2, 2), np.ones((1, 1, 2, 2)))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    return _conv_weight(
        2, x, weight_size, grad_output, stride, padding, dilation, groups, layout, out=out,
        method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="grad_output")
def conv3d_weight(
    x: npt.ArrayLike,
    weight_size: Sequence[SupportsIndex],
    grad_output: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    layout: str = "NC*",
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
) -> Array:
    """Gradient of `conv3d` with respect to its filters, as `torch.nn.grad.conv3d_weight`.

    Parameters
    ----------
    x : array_like, (N, C, D, H, W) or (C, D, H, W)
        Data of the forward call.
    weight_size : sequence of ints
        Shape of its filters, (K, C / groups, T, R, S).
    grad_output : array_like, (N, K, D', H', W') or (K, D', H', W')
        Gradient with respect to its output; of the same dtype as x.
    stride, padding, dilation, groups
        Those of the forward call; see `conv3d`. The padding is of zeros.
    layout : str, default "NC*"
        "NC*" for channels before space, "N*C" for channels last; also "NCDHW" and "NDHWC". Of x and
        grad_output; the result is channels first in either.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method : str, default "auto"
        The algorithm; by default the planner chooses. `fastconv.candidates` lists those that apply.
    config : mapping, optional
        Settings of a `method` given by name, as `fastconv.candidates` lists them.
    accuracy : {"balanced", "strict", "fast"}
        How much rounding error is accepted; see the notes of `conv2d`.
    threads : int, optional
        Most threads to use; by default as many as the process has cores.
    workspace_limit : int, optional
        Bytes that the call may take beyond its arrays; by default a quarter of the free memory.
    flush_denormals : bool, default False
        Let subnormal numbers count as zeros, which is quicker, in this call and its threads.
    deterministic : bool, default False
        Give the same bits whatever the number of threads and whatever was measured before.

    Returns
    -------
    array, `weight_size`
        Of x's dtype; `out` itself if given. Of complex arrays it is the gradient of PyTorch's
        convention, in which x enters conjugated.

    Raises
    ------
    ValueError
        If grad_output's shape is not that of the forward call's output, or as `conv3d`.
    TypeError
        As `conv3d`.

    See Also
    --------
    conv3d, conv3d_input

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import conv3d_weight
    >>> x, grad = np.ones((1, 2, 5, 9, 9), "f4"), np.ones((1, 8, 2, 4, 4), "f4")
    >>> conv3d_weight(x, (8, 2, 3, 3, 3), grad, stride=2).shape
    (8, 2, 3, 3, 3)
    """
    return _conv_weight(
        3, x, weight_size, grad_output, stride, padding, dilation, groups, layout, out=out,
        method=method, config=config, accuracy=accuracy,
        threads=threads, workspace_limit=workspace_limit,
        flush_denormals=flush_denormals, deterministic=deterministic,
    )  # fmt: skip


# ---- integers ------------------------------------------------------------------------------------


def _zero_points(name: str, value: Any, dtype: np.dtype[Any], count: int) -> int | Array:
    """A whole number that `dtype`, of 8 bits, holds, or one a filter where these differ."""
    low, high = (-128, 127) if dtype.kind == "i" else (0, 255)
    if type(value) is int and low <= value <= high:
        return value
    a = np.asarray(value)
    if a.dtype.kind not in "iu":
        raise TypeError(f"expected {name} of integers, got {value!r}")
    if a.shape not in ((), (1,), (count,)):
        raise ValueError(f"expected one {name}, or {count}, got shape {a.shape}")
    if a.size and not low <= a.min() <= a.max() <= high:
        raise ValueError(f"expected {name} that {dtype} holds, got {value!r}")
    each = a.reshape(-1)
    return int(each[0]) if a.size and (each == each[0]).all() else a.astype(np.int32)


def _scales(name: str, value: Any, count: int) -> Array:
    """A positive number in float32, or one a filter."""
    a = np.asarray(value, dtype=np.float32)
    if a.shape not in ((), (1,), (count,)):
        raise ValueError(f"expected one {name}, or {count}, got shape {a.shape}")
    if not ((a > 0) & np.isfinite(a)).all():
        raise ValueError(f"expected {name} that is positive and finite, got {value!r}")
    return a.reshape(-1)


def _factor(x_scale: Any, w_scale: Any, y_scale: Any, filters: int) -> Array:
    """What sums are multiplied by, (filters,), from scales."""
    scale = _scales("x_scale", x_scale, 1) * _scales("w_scale", w_scale, filters)
    scale = np.ascontiguousarray(np.broadcast_to(scale / _scales("y_scale", y_scale, 1), filters))
    if not np.isfinite(scale).all():
        raise ValueError(f"expected scales whose quotient is finite, got {scale.max()}")
    return scale


_factor_of_numbers = functools.lru_cache(256, typed=True)(_factor)


def _centred(w: Array, x_zero: int, w_zero: int | Array) -> tuple[Array | None, Array | None]:
    """w less its zero points, None where these are 0; and, negative, what x's zero point adds to
    each filter's sums where x holds nothing else."""
    centred = None
    if not isinstance(w_zero, int) or w_zero:
        # less the middle of its range w is of the other signedness, and 8 bits still
        middle, other = (128, np.int8) if w.dtype == np.uint8 else (-128, np.uint8)
        centred = w - np.asarray(w_zero, np.int16).reshape(-1, *(1,) * (w.ndim - 1))
        if np.all(np.equal(w_zero, middle)):
            centred = centred.astype(other)
    if x_zero == 0:
        return centred, None
    whole = w if centred is None else centred
    sums = whole.sum(axis=tuple(range(1, w.ndim)), dtype=np.int64)
    return centred, (-x_zero * sums).astype(np.int32)


def _integer(
    x: npt.ArrayLike, w: npt.ArrayLike, x_zero_point: Any, w_zero_point: Any,
    bias: npt.ArrayLike | None, stride: Sizes, padding: Padding, dilation: Sizes,
    groups: SupportsIndex, layout: str, out: Array | None, dtype: np.dtype[Any] | None,
    quantization: Quantization | None, **how: Any,
) -> Array:  # fmt: skip
    """sum over (x - x_zero_point)(w - w_zero_point), of `dtype` if it is quantised, else int32.

    Beyond its ends x is its zero point, whose products are the same for all outputs of a filter:
    they are taken off with the bias.
    """
    x, w = _array("x", x), _array("w", w)
    for name, a in (("x", x), ("w", w)):
        if on_gpu(a):
            raise TypeError(f"expected {name} in the memory of the host, got an array on a GPU")
        if a.dtype not in (np.int8, np.uint8):
            raise TypeError(f"expected {name} of int8 or uint8, got {a.dtype}")
    n = w.ndim - 2
    if n not in _LAYOUTS:
        raise ValueError(f"expected w of 3 to 5 dimensions, got shape {w.shape}")
    groups = _index("groups", groups)
    g = _forward(
        n, "x", x.shape, "w", w.shape, _sizes("stride", stride, n), _pads(padding, n),
        _sizes("dilation", dilation, n), groups, "zeros", layout,
    )  # fmt: skip
    result = np.empty((), np.int32 if dtype is None else dtype)
    if out is not None:
        _check_out(out, g.shape, result)
    x_zero = _zero_points("x_zero_point", x_zero_point, x.dtype, 1)
    w_zero = _zero_points("w_zero_point", w_zero_point, w.dtype, len(w))
    assert isinstance(x_zero, int)
    b = _bias(bias, len(w), np.empty((), np.int32), out)
    if x_zero or not isinstance(w_zero, int) or w_zero:
        given = w, x_zero, w_zero
        key = w_zero if isinstance(w_zero, int) else w_zero.tobytes()
        kind = _centred, w.shape, w.dtype, x_zero, key
        packed = None
        if w.flags.c_contiguous:
            packed = kept.packed(kind, w, 1, _centred, *given, fixed=replays())
        centred, added = packed if packed is not None else _centred(*given)
        w = w if centred is None else centred
        if added is not None:
            b = added if b is None else b + added
    y = out
    if y is None and g.channels_last:
        y = empty(x, g.shape, result.dtype)
    found = run(
        _first(x, g.batched, g.channels_last), w, stride=g.stride, dilation=g.dilation,
        padding=g.padding, groups=groups, boundary="constant" if x_zero else "zeros", cval=x_zero,
        bias=b, activation=quantization, dtype=np.int32, out_dtype=result.dtype,
        out=None if y is None else _first(y, g.batched, g.channels_last), kernel_repeats=True,
        derived=True, **how,
    )  # fmt: skip
    if y is not None:
        return y
    return found if g.batched else found[0]


@front_end(data="x", kernel="w")
def conv_integer(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    x_zero_point: npt.ArrayLike = 0,
    w_zero_point: npt.ArrayLike = 0,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    layout: str = "NC*",
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    threads: int | None = None,
    workspace_limit: int | None = None,
    deterministic: bool = False,
) -> Array:
    r"""Convolve integers of 8 bits into sums of 32, exactly: ONNX's ConvInteger.

    ``y[n, k, o] = sum over c, r of (x[n, c, o*u + r*l - a] - x_zero_point) * (w[k, c, r] -
    w_zero_point[k])``, in one to three spatial dimensions, those of w. Padding is of zero points:
    it adds nothing. Nothing saturates; sums wrap modulo 2^32, of more than 33 000 products.

    Parameters
    ----------
    x : array_like, (N, C, \*space) or (C, \*space)
        Data of int8 or uint8, batched or not; any strides.
    w : array_like, (K, C / groups, \*kernel)
        K filters of int8 or uint8, whichever x is of.
    x_zero_point : int, default 0
        What stands for 0 in x.
    w_zero_point : int or array_like, (K,); default 0
        What stands for 0 in w, or in each filter.
    stride, padding, dilation, groups, layout
        As `conv1d`, `conv2d` and `conv3d` take them.
    out : array, optional
        Where to write the result: of its shape and of int32, any strides; may overlap the inputs.
    method, config, threads, workspace_limit, deterministic
        As `conv2d` takes them.

    Returns
    -------
    array, (N, K, \*out) or (K, \*out), int32
        In x's layout; `out` itself if given.

    Raises
    ------
    ValueError
        As `conv2d`; also if a zero point is none that its array's dtype holds.
    TypeError
        If x or w is not of int8 or uint8, or a number is not an integer.

    See Also
    --------
    qlinear_conv : the same sums quantised to 8 bits.

    References
    ----------
    ONNX Operator Schemas, ConvInteger, version 10.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import conv_integer
    >>> x, w = np.array([[[130, 128, 131]]], np.uint8), np.array([[[1, -1]]], np.int8)
    >>> conv_integer(x, w, x_zero_point=128, padding=1)
    array([[[-2,  2, -3,  3]]], dtype=int32)
    """
    return _integer(
        x, w, x_zero_point, w_zero_point, None, stride, padding, dilation, groups, layout, out,
        None, None, method=method, config=config, threads=threads,
        workspace_limit=workspace_limit, deterministic=deterministic,
    )  # fmt: skip


@front_end(data="x", kernel="w")
def qlinear_conv(
    x: npt.ArrayLike,
    x_scale: npt.ArrayLike,
    x_zero_point: npt.ArrayLike,
    w: npt.ArrayLike,
    w_scale: npt.ArrayLike,
    w_zero_point: npt.ArrayLike,
    y_scale: npt.ArrayLike,
    y_zero_point: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: SupportsIndex = 1,
    *,
    layout: str = "NC*",
    out: Array | None = None,
    method: str = "auto",
    config: Config | None = None,
    threads: int | None = None,
    workspace_limit: int | None = None,
    deterministic: bool = False,
) -> Array:
    r"""Convolve quantised data into quantised results: ONNX's QLinearConv.

    With s the sums of `conv_integer` and the bias added, ``y = saturate(round(s * (x_scale *
    w_scale[k] / y_scale)) + y_zero_point)``. s is exact; the factor, the number that s is in it and
    their product are float32, each rounded once, as in onnxruntime; halves round to even.

    Parameters
    ----------
    x : array_like, (N, C, \*space) or (C, \*space)
        Data of int8 or uint8, batched or not, that stands for ``(x - x_zero_point) * x_scale``.
    x_scale : float
    x_zero_point : int
    w : array_like, (K, C / groups, \*kernel)
        K filters of int8 or uint8, whichever x is of.
    w_scale : float or array_like, (K,)
        One, or one a filter; w_zero_point too.
    w_zero_point : int or array_like, (K,)
    y_scale : float
    y_zero_point : int
        Of NumPy's int8 or uint8 it says which of them the result is; else that is x's.
    bias : array_like, (K,), int32, optional
        In units of ``x_scale * w_scale``.
    stride, padding, dilation, groups, layout
        As `conv1d`, `conv2d` and `conv3d` take them. Padding is of zero points.
    out : array, optional
        Where to write the result: of its shape and dtype, any strides; may overlap the inputs.
    method, config, threads, workspace_limit, deterministic
        As `conv2d` takes them.

    Returns
    -------
    array, (N, K, \*out) or (K, \*out)
        Of int8 or uint8, in x's layout; `out` itself if given.

    Raises
    ------
    ValueError
        As `conv_integer`; also if a scale is not positive and finite.
    TypeError
        As `conv_integer`; also if bias is not of int32.

    See Also
    --------
    conv_integer : the sums.

    References
    ----------
    ONNX Operator Schemas, QLinearConv, version 10.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import qlinear_conv
    >>> x, w = np.array([[[130, 128, 131]]], np.uint8), np.array([[[1, -1]]], np.int8)
    >>> qlinear_conv(x, 0.5, 128, w, 1.0, 0, 1.0, 10, padding=1)
    array([[[ 9, 11,  8, 12]]], dtype=uint8)
    """
    filters = np.shape(w)[0] if np.ndim(w) else 0
    numbers = type(x_scale) is type(w_scale) is type(y_scale) is float
    factor: Any = _factor_of_numbers if numbers else _factor
    scale = factor(x_scale, w_scale, y_scale, filters)
    x = _array("x", x)
    kind = getattr(y_zero_point, "dtype", None)
    dtype = kind if kind in (np.int8, np.uint8) else x.dtype.newbyteorder("=")
    if dtype not in (np.int8, np.uint8):
        raise TypeError(f"expected x of int8 or uint8, got {dtype}")
    zero = _zero_points("y_zero_point", y_zero_point, dtype, 1)
    assert isinstance(zero, int)
    return _integer(
        x, w, x_zero_point, w_zero_point, bias, stride, padding, dilation, groups, layout, out,
        dtype, Quantization(scale, zero), method=method, config=config, threads=threads,
        workspace_limit=workspace_limit, deterministic=deterministic,
    )  # fmt: skip
