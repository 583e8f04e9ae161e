"""The oracle: convolution from its definition, in a wider type. Never imports fastconv.

Output o of filter k is the sum over channels c and taps r of X[c, o*u + r*l - a] * w[k, c, r],
where X is x with e-1 zeros between neighbours, extended beyond its ends by the boundary rule. Where
X holds nothing (beyond the ends of ``zeros``, between dilated samples) nothing is multiplied, so
that 0 * inf does not arise there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: What stands at a position of X, where it is not an index into x.
NOTHING, OUTSIDE = -1, -2


def source(t: int, size: int, boundary: str) -> int:
    """Index of the sample of an axis that stands at position `t`, by walking back into the axis."""
    while not 0 <= t < size:
        if boundary in ("zeros", "constant"):
            return OUTSIDE
        if boundary == "nearest":
            t = 0 if t < 0 else size - 1
        elif boundary == "wrap":
            t += size if t < 0 else -size
        elif boundary == "reflect":  # the edge sample is repeated
            t = -1 - t if t < 0 else 2 * size - 1 - t
        elif boundary == "mirror":  # it is not
            t = 0 if size == 1 else -t if t < 0 else 2 * size - 2 - t
        else:
            raise ValueError(f"no boundary is called {boundary!r}")
    return t


def axis_map(
    size: int, kernel: int, stride: int, dilation: int, input_dilation: int, low: int, high: int,
    boundary: str,
) -> Array:  # fmt: skip
    """What tap r of output o reads along one axis: an index, NOTHING or OUTSIDE; (out, kernel)."""
    extent = (size - 1) * input_dilation + 1 if size else 0
    out = (extent + low + high - (kernel - 1) * dilation - 1) // stride + 1

    def read(t: int) -> int:
        if not 0 <= t < extent:
            return source(t, extent, boundary)
        return NOTHING if t % input_dilation else t // input_dilation

    # what is read lies `stride` further with each output and `dilation` further with each tap
    span = (out - 1) * stride + (kernel - 1) * dilation + 1
    table = np.array([read(t - low) for t in range(span)], np.int64)
    return table[np.arange(out)[:, None] * stride + np.arange(kernel) * dilation]


def wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What sums of a dtype are kept in here: modulo 2**64 for integers and bools."""
    if dtype.kind in "biu":
        return np.dtype(np.uint64)
    if dtype.kind == "c":
        return np.dtype(np.complex128 if dtype.itemsize <= 8 else np.clongdouble)
    return np.dtype(np.float64 if dtype.itemsize <= 4 else np.longdouble)


def wrap(values: Array, dtype: np.dtype[Any]) -> Array:
    """Sums modulo 2**64 reduced to a bool (any but zero) or, modulo 2**bits, to an integer dtype.

    Fewer than 2**64 products of bools are summed: none that are not zero become it.
    """
    if dtype.kind == "b":
        return values != 0
    if values.dtype == object:  # Python's, of any size
        values = (values % 2**64).astype(np.uint64)
    return values.astype(dtype)


def conv(
    x: Array,
    w: Array,
    *,
    stride: Sequence[int] = (),
    dilation: Sequence[int] = (),
    input_dilation: Sequence[int] = (),
    padding: Sequence[tuple[int, int]] = (),
    groups: int = 1,
    boundary: str = "zeros",
    cval: complex = 0,
    flip: bool = False,
    bias: Array | None = None,
) -> tuple[Array, Array]:
    """Convolve x (N, C, *spatial) with w (K, C / groups, *kernel), both of the dtype computed in.

    Returns y, in the wider type (integers and bools: in their own), and S, the sum of
    abs(x) * abs(w) over each output's window, plus abs(bias): what errors are measured against.
    Of integers and bools, which have none, S is zero.
    """
    if x.dtype != w.dtype:
        raise TypeError(f"expected one dtype, got {x.dtype} and {w.dtype}")
    ndim = x.ndim - 2
    ones = (1,) * ndim
    maps = [
        axis_map(size, kernel, u, l, e, low, high, boundary)
        for size, kernel, u, l, e, (low, high) in zip(
            x.shape[2:], w.shape[2:], stride or ones, dilation or ones, input_dilation or ones,
            padding or ((0, 0),) * ndim,
        )
    ]  # fmt: skip
    out = tuple(len(m) for m in maps)
    wide = wider(x.dtype)
    exact = wide.kind == "u"
    real = wide if exact else np.empty(0, wide).real.dtype
    n, c, k = x.shape[0], x.shape[1] // groups, w.shape[0] // groups
    data = x.astype(wide).reshape(n, groups, c, *x.shape[2:])
    weights = w.astype(wide).reshape(groups, k, c, *w.shape[2:])
    if flip:
        weights = np.flip(weights, tuple(range(3, 3 + ndim)))
    fill = np.array(cval).astype(x.dtype).astype(wide)
    positions = int(np.prod(out))
    y = np.zeros((n, groups, k, positions), wide)
    s = np.zeros((n, groups, k, positions), real)
    with np.errstate(all="ignore"):
        for tap in np.ndindex(*w.shape[2:]):
            at = np.meshgrid(*(m[:, r] for m, r in zip(maps, tap)), indexing="ij")
            index = np.stack([a.ravel() for a in at])
            weight = weights[(slice(None), slice(None), slice(None), *tap)]
            outside = (index == OUTSIDE).any(axis=0)
            inside = (index >= 0).all(axis=0)
            parts = [(inside, data[(slice(None),) * 3 + tuple(index[:, inside])])]
            if boundary == "constant":
                parts.append((outside, np.full((n, groups, c, outside.sum()), fill, wide)))
            for where, samples in parts:
                if not samples.size or not weight.size:
                    continue  # numpy's einsum writes beyond an empty result
                y[..., where] += np.einsum("ngcp,gkc->ngkp", samples, weight)
                if not exact:
                    s[..., where] += np.einsum("ngcp,gkc->ngkp", abs(samples), abs(weight))
        shape = (n, groups * k, *out)
        y, s = y.reshape(shape), s.reshape(shape)
        if exact:
            y = wrap(y, x.dtype)
    return (y, s) if bias is None else plus(y, s, bias)


def plus(y: Array, s: Array, bias: Array) -> tuple[Array, Array]:
    """What `conv` returns with a bias, of what it returned without one."""
    column = bias.astype(y.dtype).reshape(-1, *(1,) * (y.ndim - 2))
    with np.errstate(all="ignore"):
        return y + column, s if y.dtype.kind in "biu" else s + abs(column)
