"""`Plan`: a solver and a config bound to a problem, ready to run."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._epilogue import FUSED, NOTHING, Activation, Epilogue, residual_like
from fastconv._ext import core
from fastconv._problem import Array, Problem, numpy_dtype

if TYPE_CHECKING:
    from fastconv._solver import Config, Solver


class Plan(abc.ABC):
    """Immutable and callable from many threads at once: state of a call lives on its stack.

    Subclasses see arrays in `problem.accumulator`'s dtype and native byte order, with the problem's
    shapes and any strides; converting from and to what the caller stores is done here. A solver
    that `reads_stored` sees x in the dtype it is stored in, and converts it in cache.
    """

    def __init__(self, problem: Problem, solver: Solver, config: Config) -> None:
        self.problem = problem
        self.solver = solver
        self.config = config
        # what every call needs, worked out once
        self.y_shape = problem.y_shape
        self.y_dtype = numpy_dtype(problem.y_dtype)
        self.is_empty = problem.taps == 0 or (0 in problem.size and problem.boundary == "zeros")
        self._dtype = numpy_dtype(problem.accumulator)
        stored = solver.reads_stored(problem)
        self._x_dtype = numpy_dtype(problem.x_dtype) if stored else self._dtype
        self._fuses = problem.accumulator in FUSED
        #: Whether arrays that are stored in any way but odd bytes are handed on as they are.
        self.is_plain = problem.x_dtype == problem.w_dtype == problem.y_dtype == problem.accumulator
        self.is_plain = self.is_plain and self._fuses
        back = (slice(None, None, -1),) * problem.ndim
        self._flip = (slice(None), slice(None), *back) if problem.flip else None

    @property
    def workspace_bytes(self) -> int:
        """Bytes that one call takes beyond x, w, y and a residual that cannot be read in place."""
        return self.solver.workspace(self.problem, self.config) + conversion_bytes(
            self.problem, self.solver
        )

    @abc.abstractmethod
    def pack(self, w: Array) -> Any:
        """Weights in the form that `execute` wants: packed, transformed, or as they are."""

    @abc.abstractmethod
    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        """Write every element of y, finished as `epilogue` says; x and packed are only read."""

    def pack_stored(self, w: Array) -> Any:
        """`pack` for weights in the dtype they are stored in, flipped when the problem says so."""
        return self.pack(_native(self.flipped(w), self._dtype))

    def flipped(self, w: Array) -> Array:
        """w, reversed when the problem says so: a view."""
        return w if self._flip is None else w[self._flip]

    def __call__(
        self, x: Array, packed: Any, bias: Array | None, y: Array, residual: Array | None = None,
        activation: Activation | None = None, flush: bool = False,
    ) -> None:  # fmt: skip
        """Run on arrays of `problem`'s shapes and stored dtypes, with weights of `pack_stored`.

        ``y = activation(conv + bias + residual)``; residual is of y's shape and may be y.
        With `flush` subnormal numbers count as zeros.
        """
        if flush:
            before = core.flushes()
            core.flush(1)
            try:
                self(x, packed, bias, y, residual, activation)
            finally:
                core.flush(before)
            return
        own = y.dtype == self._dtype and y.flags.aligned and _whole_strides(y)
        to = y if own else np.empty(self.y_shape, self._dtype)
        epilogue = None
        if bias is not None or residual is not None or activation is not None:
            if bias is not None:
                bias = np.ascontiguousarray(bias, dtype=self._dtype)
            if residual is not None:
                found = residual_like(residual, to)
                if found is None:
                    to = np.empty(self.y_shape, self._dtype)
                    found = residual_like(residual, to)
                residual = found
            epilogue = Epilogue(bias, residual, activation)
        if self.is_empty:
            (epilogue or NOTHING).fill(to)
        elif epilogue is None or self._fuses:
            self.execute(_native(x, self._x_dtype), packed, epilogue, to)
        else:
            self.execute(
                _native(x, self._x_dtype),
                packed,
                epilogue._replace(residual=None, activation=None),
                to,
            )
            epilogue.finish(to)
        if to is not y:
            y[...] = to != 0 if self.problem.dtype == "bool" else to


def _native(a: Array, dtype: np.dtype[Any]) -> Array:
    """`a` itself, or a copy that is of `dtype` and aligned when it is not."""
    flags = a.flags
    if a.dtype == dtype and flags.aligned and (flags.c_contiguous or _whole_strides(a)):
        return a
    return a.astype(dtype)  # to the same kind or wider: the front end has seen to it


def _whole_strides(a: Array) -> bool:
    """Whether strides are multiples of the item size; fields of packed records are not."""
    size = a.itemsize
    return not any(s % size for s in a.strides)


def conversion_bytes(problem: Problem, solver: Solver) -> int:
    """Bytes of the copies that `Plan.__call__` makes when stored and computed dtypes differ."""
    size = numpy_dtype(problem.accumulator).itemsize
    shapes = (
        (problem.accumulator if solver.reads_stored(problem) else problem.x_dtype, problem.x_shape),
        (problem.w_dtype, problem.w_shape),
        (problem.y_dtype, problem.y_shape),
    )
    total = 0
    for stored, shape in shapes:
        if stored != problem.accumulator:
            count = 1
            for extent in shape:
                count *= extent
            total += count * size
    return total
