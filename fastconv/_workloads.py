"""Calls listed in a TOML file, in tables of ``[[conv]]``, ``[[signal]]`` and so on.

=========  ========================================================================================
table      keys, besides `name` and `dtype` (float32 by default)
=========  ========================================================================================
conv       x, w: shapes (N, C, *spatial) and (K, C/groups, *kernel); op: conv, conv_transpose,
           grad_input or grad_weight; stride, padding, output_padding, dilation, groups
signal     a, b: shapes; mode; axes: those to convolve along
image      op: a function of `fastconv.ndimage`; a: shape; b, sigma or size: its kernel;
           mode, axis, output: a dtype
match      `fastconv.match_template`; a, b: shapes of the image and the template; mode, normalized
power      `fastconv.convolve_power`; a: shape; n: the number of factors
=========  ========================================================================================
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastconv import _engine
from fastconv._problem import Problem


@dataclasses.dataclass(frozen=True)
class _Zeros:
    """An array that is not made until it is known whether its values are looked at."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclasses.dataclass(frozen=True)
class Workload:
    """A call of a front end on arrays of given shapes.

    Attributes
    ----------
    name : str
    function : callable
    arguments : dict
        By name.
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]

    def problems(self) -> tuple[Problem, ...]:
        """The distinct problems that the call, unprepared, is made of."""
        front = _engine._front_ends[self.function]
        arguments = {
            name: np.zeros(value.shape, value.dtype)
            if isinstance(value, _Zeros) and name != front.data
            else value
            for name, value in self.arguments.items()
        }
        data = arguments.pop(front.data)
        kernel = arguments.pop(front.kernel) if front.kernel is not None else None
        found = _engine.candidates(self.function, (data.shape, data.dtype), kernel, **arguments)
        return tuple(dict.fromkeys(c.problem.replace(prepared=False) for c in found))


def load(path: str | os.PathLike[str]) -> list[Workload]:
    """The workloads of a file, in order.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is not TOML, or a table is not a call; names the table.
    """
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    with open(path, "rb") as file:
        try:
            tables = tomllib.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{os.fspath(path)} is not TOML: {error}") from None
    found = []
    for kind, rows in tables.items():
        if kind not in KINDS or not isinstance(rows, list):
            *most, last = (f"[[{name}]]" for name in KINDS)
            raise ValueError(
                f"{os.fspath(path)}: expected {', '.join(most)} or {last} tables, got {kind!r}"
            )
        for number, row in enumerate(rows, 1):
            name = row.get("name", f"{kind}{number}") if isinstance(row, dict) else kind
            try:
                found.append(KINDS[kind](name, dict(row)))
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{os.fspath(path)}: {kind} {name}: {error}") from None
    return found


def _take_shape(row: dict[str, Any], key: str) -> tuple[int, ...]:
    value = row.pop(key, None)
    if not isinstance(value, list) or not all(isinstance(v, int) and v >= 0 for v in value):
        raise ValueError(f"expected a list of sizes for {key}, got {value!r}")
    return tuple(value)


def _take_options(row: dict[str, Any], *names: str) -> dict[str, Any]:
    options = {name: row.pop(name) for name in names if name in row}
    row.pop("name", None)
    if row:
        raise ValueError(f"unknown key {next(iter(row))!r}")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def _dtype(row: dict[str, Any]) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(row.pop("dtype", "float32"))
    return dtype


def _front_end(module: str, name: str) -> Callable[..., Any]:
    """A function of a front-end module that `fastconv.plan` takes."""
    function = getattr(importlib.import_module(f"fastconv.{module}"), name, None)
    if function not in _engine._front_ends:
        raise ValueError(f"fastconv.{module} has no function {name!r}")
    return function


def _conv(name: str, row: dict[str, Any]) -> Workload:
    dtype = _dtype(row)
    x, w = _take_shape(row, "x"), _take_shape(row, "w")
    n = len(x) - 2
    if not 1 <= n <= 3 or len(w) != len(x):
        raise ValueError(f"expected x and w of 3 to 5 axes each, got {x} and {w}")
    op = row.pop("op", "conv")
    options = _take_options(row, "stride", "padding", "output_padding", "dilation", "groups")
    arguments: dict[str, Any]
    if op in ("conv", "conv_transpose"):
        arguments = {"x": _Zeros(x, dtype), "w": _Zeros(w, dtype)}
        return Workload(name, _front_end("nn", f"{op}{n}d"), {**arguments, **options})
    if op not in ("grad_input", "grad_weight"):
        raise ValueError(
            f"expected op of conv, conv_transpose, grad_input or grad_weight, got {op!r}"
        )
    grad = _Zeros(_output_shape(x, w, options), dtype)
    if op == "grad_input":
        arguments = {"input_size": x, "w": _Zeros(w, dtype), "grad_output": grad}
        return Workload(name, _front_end("nn", f"conv{n}d_input"), {**arguments, **options})
    arguments = {"x": _Zeros(x, dtype), "weight_size": w, "grad_output": grad}
    return Workload(name, _front_end("nn", f"conv{n}d_weight"), {**arguments, **options})


def _output_shape(
    x: tuple[int, ...], w: tuple[int, ...], options: dict[str, Any]
) -> tuple[int, ...]:
    """Shape of the forward convolution's result, which is that of its gradient."""

    def each(name: str, default: int) -> Iterator[int]:
        value = options.get(name, default)
        yield from value if isinstance(value, tuple) else (value,) * (len(x) - 2)

    problem = Problem(
        size=x[2:], kernel=w[2:], batch=x[0], channels=x[1], filters=w[0],
        groups=options.get("groups", 1), stride=tuple(each("stride", 1)),
        dilation=tuple(each("dilation", 1)), padding=tuple((p, p) for p in each("padding", 0)),
    )  # fmt: skip
    return problem.y_shape


def _take_arrays(row: dict[str, Any], first: str, second: str) -> dict[str, _Zeros]:
    """A row's a and b, by the names of a function's arguments."""
    dtype = _dtype(row)
    return {
        first: _Zeros(_take_shape(row, "a"), dtype),
        second: _Zeros(_take_shape(row, "b"), dtype),
    }


def _signal(name: str, row: dict[str, Any]) -> Workload:
    arrays = _take_arrays(row, "in1", "in2")
    options = _take_options(row, "mode", "axes")
    # of SciPy's functions only the Fourier ones know axes
    function = _front_end("signal", "oaconvolve" if "axes" in options else "convolve")
    return Workload(name, function, {**arrays, **options})


def _image(name: str, row: dict[str, Any]) -> Workload:
    dtype = _dtype(row)
    op = row.pop("op", "correlate")
    arguments: dict[str, Any] = {"input": _Zeros(_take_shape(row, "a"), dtype)}
    if "b" in row:
        weights = dtype if dtype.kind in "fc" else np.dtype(row.get("output", "float32"))
        arguments["weights"] = _Zeros(_take_shape(row, "b"), weights)
    options = _take_options(row, "sigma", "size", "mode", "axis", "output")
    return Workload(name, _front_end("ndimage", op), {**arguments, **options})


def _match(name: str, row: dict[str, Any]) -> Workload:
    arrays = _take_arrays(row, "image", "template")
    options = _take_options(row, "mode", "normalized")
    return Workload(name, _front_end("_match", "match_template"), {**arrays, **options})


def _power(name: str, row: dict[str, Any]) -> Workload:
    dtype = _dtype(row)
    arguments = {"p": _Zeros(_take_shape(row, "a"), dtype), **_take_options(row, "n")}
    if "n" not in arguments:
        raise ValueError("expected n, the number of factors")
    return Workload(name, _front_end("_power", "convolve_power"), arguments)


#: Tables of a file, and what reads a row of each.
KINDS: dict[str, Callable[[str, dict[str, Any]], Workload]] = {
    "conv": _conv, "signal": _signal, "image": _image, "match": _match, "power": _power,
}  # fmt: skip
