"""What becomes of a finished sum: ``y = activation(sum + bias + residual)``."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from fastconv._ext import core
from fastconv._problem import Array, dtype_name

#: What `activation=` takes: a name, or ``("clamp", low, high)``; None is the identity.
ActivationLike = str | tuple[str, float | None, float | None] | None

#: Activations by name; relu and relu6 are clamps.
NAMES = ("relu", "relu6", "clamp", "silu", "gelu")

#: Dtypes computed in that the C kernels finish; NumPy does the others.
FUSED = ("f32", "f64", "c64", "c128")


class Activation(NamedTuple):
    """What C is told: the place in `core.ACTIVATIONS` and the limits of a clamp."""

    code: int
    low: float = 0.0
    high: float = 0.0


class Quantization(NamedTuple):
    """In an activation's place: integer sums become ``sum * scale[k]``, rounded to even, plus zero,
    saturated to what y holds."""

    scale: Array  # float32, one a filter
    zero: int


CLAMP, SILU, GELU = (core.ACTIVATIONS.index(name) for name in ("clamp", "silu", "gelu"))

_PLAIN = {
    "relu": Activation(CLAMP, 0, math.inf),
    "relu6": Activation(CLAMP, 0, 6),
    "silu": Activation(SILU),
    "gelu": Activation(GELU),
}


def activation_of(activation: Any, dtype: np.dtype[Any]) -> Activation | None:
    """What `activation=` of a call on `dtype` means; ValueError or TypeError if it is nothing."""
    if activation is None:
        return None
    return _activation(activation if isinstance(activation, str) else _clamp(activation), dtype)


def _clamp(activation: Any) -> tuple[str, Any, Any]:
    if isinstance(activation, tuple | list) and len(activation) == 3 and activation[0] == "clamp":
        return ("clamp", activation[1], activation[2])
    raise ValueError(
        f"expected an activation out of 'relu', 'relu6', ('clamp', low, high), 'silu', 'gelu',"
        f" got {activation!r}"
    )


@functools.lru_cache(256, typed=True)
def _activation(activation: str | tuple[str, Any, Any], dtype: np.dtype[Any]) -> Activation:
    name = activation if isinstance(activation, str) else "clamp"
    if isinstance(activation, str):
        if activation not in _PLAIN:
            _clamp(activation)
        found = _PLAIN[activation]
    else:
        low, high = (
            without if limit is None else limit
            for limit, without in zip(activation[1:], (-math.inf, math.inf))
        )
        if not all(isinstance(v, int | float | np.integer | np.floating) for v in (low, high)):
            raise TypeError(f"expected limits of a clamp that are real numbers, got {activation}")
        if not low <= high:
            raise ValueError(f"expected limits of a clamp in order, low first, got {activation}")
        found = Activation(CLAMP, low, high)
    kind = dtype_name(dtype)
    if kind == "bool" or kind[0] == "c" or (found.code != CLAMP and kind[0] in "iu"):
        raise TypeError(f"expected data that {name} is defined for, got {dtype}")
    if found.code != CLAMP and kind == "f80":
        raise TypeError(f"expected data of at most float64 for {name}, got {dtype}")
    if kind[0] in "iu" and any(math.isfinite(v) and v != int(v) for v in found[1:]):
        raise ValueError(f"expected whole limits to clamp {dtype}, got {activation}")
    return found


class Epilogue(NamedTuple):
    """Arrays in the dtype computed in: bias (K,); residual of the output's shape and strides."""

    bias: Array | None
    residual: Array | None
    activation: Activation | Quantization | None

    def part(self, index: Any) -> Epilogue:
        """That of the outputs y[index], of all filters."""
        return self._replace(residual=None if self.residual is None else self.residual[index])

    def fill(self, y: Array) -> None:
        """Make y (N, K, *out) what sums of nothing become."""
        y[...] = 0 if self.bias is None else self.bias.reshape(-1, *(1,) * (y.ndim - 2))
        self.finish(y)

    def finish(self, y: Array) -> None:
        """Add the residual to y, which has the bias already, and apply the activation."""
        if self.residual is None and self.activation is None:
            return
        if y.dtype.kind in "fc" and y.real.itemsize <= 8:
            activation = self.activation
            assert not isinstance(activation, Quantization)  # of integers only
            core.finish(y, self.residual, activation)
            return
        if self.residual is not None:
            y += self.residual
        if isinstance(self.activation, Activation):
            _, low, high = self.activation
            if y.dtype.kind in "iu":
                info = np.iinfo(y.dtype)
                # limits beyond what the dtype holds limit nothing, or everything
                low, high = (int(max(info.min, min(info.max, v))) for v in (low, high))
            np.clip(y, low, high, out=y)


NOTHING = Epilogue(None, None, None)


def residual_like(residual: Array, y: Array) -> Array | None:
    """`residual` with y's dtype and strides and none of its memory, copied if need be.

    None when no new array could have y's strides.
    """
    if residual.dtype == y.dtype and same_strides(residual, y):
        if residual.flags.aligned and not np.may_share_memory(residual, y):
            return residual
    copy = np.empty_like(y)
    if not same_strides(copy, y):
        return None
    copy[...] = residual
    return copy


def same_strides(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape lie alike; where there is one element nothing is stepped."""
    return (a.flags.c_contiguous and b.flags.c_contiguous) or all(
        s == t or n == 1 for s, t, n in zip(a.strides, b.strides, a.shape)
    )
