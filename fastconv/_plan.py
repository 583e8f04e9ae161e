"""`Plan`: a solver and a config bound to a problem, ready to run."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastconv._epilogue import (
    FUSED,
    NOTHING,
    Activation,
    Epilogue,
    Quantization,
    residual_like,
)
from fastconv._ext import core
from fastconv._problem import Array, Problem, numpy_dtype

if TYPE_CHECKING:
    from fastconv._solver import Config, Solver


#: Stored in 16 bits, summed in float32.
HALVES = ("f16", "bf16")


class Plan(abc.ABC):
    """Immutable and callable from many threads at once: state of a call lives on its stack.

    Subclasses see arrays in `problem.accumulator`'s dtype and native byte order, with the problem's
    shapes and any strides; converting from and to what the caller stores is done here. A solver
    that `reads_stored` sees x in the dtype it is stored in, and converts it in cache; one that
    `writes_stored` sees y so.
    """

    #: Whether plans of a solver that `writes_stored` take y in float32, too: for a residual or an
    #: activation, which are of sums that are not yet rounded to 16 bits.
    finishes_wide: ClassVar[bool] = False

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
        stored = solver.writes_stored(problem)
        self._y_dtype = numpy_dtype(problem.y_dtype) if stored else self._dtype
        #: Whether plain arrays are handed to `execute` as they are.
        self.is_direct = (self._x_dtype, self._y_dtype) == (
            numpy_dtype(problem.x_dtype), self.y_dtype,
        )  # fmt: skip
        self.is_direct = self.is_direct and problem.dtype != "bool"
        # which of x, w and y C converts, and not NumPy
        single = self._dtype == np.float32
        self._widens_x = single and problem.x_dtype in HALVES and self._x_dtype == self._dtype
        self._widens_w = single and problem.w_dtype in HALVES
        wide_y = self._y_dtype == self._dtype or self.finishes_wide
        self._narrows = single and problem.y_dtype in HALVES and wide_y
        #: Whether all arrays are in 16 bits, and C converts them.
        self.is_half = self._widens_w and self._narrows
        self.is_half = self.is_half and (self._widens_x or self.finishes_wide)
        self.is_half = self.is_half and problem.x_dtype == problem.w_dtype == problem.y_dtype
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
        return self.pack_flipped(self.flipped(w))

    def pack_flipped(self, w: Array) -> Any:
        """`pack_stored` for weights that are reversed already where the problem says so."""
        if self._widens_w and _is_plain(w):
            return self.pack(core.widen(w, self.problem.threads))
        return self.pack(_native(w, self._dtype))

    def _taken(self, x: Array) -> Array:
        """x as `execute` wants it."""
        if self._widens_x and _is_plain(x):
            return core.widen(x, self.problem.threads)
        return _native(x, self._x_dtype)

    def flipped(self, w: Array) -> Array:
        """w, reversed when the problem says so: a view."""
        return w if self._flip is None else w[self._flip]

    def __call__(
        self, x: Array, packed: Any, bias: Array | None, y: Array, residual: Array | None = None,
        activation: Activation | Quantization | None = None, flush: bool = False,
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
        quantizes = isinstance(activation, Quantization)
        if isinstance(activation, Quantization) and (self.is_empty or self._y_dtype == self._dtype):
            sums = core.empty(self.y_shape, self._dtype)
            self._sum(x, packed, bias, sums)
            quantize(sums, activation, y)
            return
        finished = residual is not None or isinstance(activation, Activation)
        to_dtype = self._y_dtype
        if to_dtype != self._dtype and finished:
            if not self.finishes_wide:
                raise TypeError(
                    f"expected results in {self._dtype} for a residual or an activation"
                )
            to_dtype = self._dtype
        own = y.dtype == to_dtype and y.flags.aligned and _whole_strides(y)
        to = y if own else core.empty(self.y_shape, to_dtype)
        epilogue = None
        if bias is not None or residual is not None or activation is not None:
            if bias is not None:
                bias = np.ascontiguousarray(bias, dtype=self._dtype)
            if residual is not None:
                found = residual_like(residual, to)
                if found is None:
                    to = core.empty(self.y_shape, to_dtype)
                    found = residual_like(residual, to)
                residual = found
            epilogue = Epilogue(bias, residual, activation)
        if self.is_empty:
            (epilogue or NOTHING).fill(to)
        elif epilogue is None or self._fuses or quantizes:
            self.execute(self._taken(x), packed, epilogue, to)
        else:
            self.execute(
                self._taken(x),
                packed,
                epilogue._replace(residual=None, activation=None),
                to,
            )
            epilogue.finish(to)
        if to is not y and self._narrows and to_dtype == self._dtype and _is_plain(y):
            core.narrow(to, y, self.problem.threads)
        elif to is not y:
            store(to != 0 if self.problem.dtype == "bool" else to, y)

    def execute_stored(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        """`execute` on what is stored."""
        bias, residual, activation = epilogue or NOTHING
        self(x, packed, bias, y, residual, activation)

    def _sum(self, x: Array, packed: Any, bias: Array | None, sums: Array) -> None:
        """Integer sums in the dtype computed in, not finished."""
        epilogue = None
        if bias is not None:
            epilogue = Epilogue(np.ascontiguousarray(bias, dtype=self._dtype), None, None)
        if self.is_empty:
            (epilogue or NOTHING).fill(sums)
        else:
            self.execute(self._taken(x), packed, epilogue, sums)


def quantize(sums: Array, how: Quantization, y: Array) -> None:
    """Write C-ordered int32 sums (N, K, *out) to y of 8 bits."""
    to = y if y.flags.c_contiguous else np.empty(y.shape, y.dtype)
    core.quantize(sums, how.scale, how.zero, to)
    if to is not y:
        y[...] = to


def store(y: Array, out: Array) -> None:
    """Write y to out; floats to integers as C does, towards zero and modulo 2**bits, NaN as 0."""
    if y.dtype.kind in "biuc" or out.dtype.kind not in "biu":
        out[...] = y
        return
    if out.dtype.kind == "b":
        out[...] = np.trunc(y) != 0
        return
    try:
        with np.errstate(invalid="raise"):
            out[...] = y.astype(np.int64)
    except FloatingPointError:  # some are beyond int64, or not finite
        whole = np.fmod(np.where(np.isfinite(y), np.trunc(y), 0), 2.0**64)
        whole = np.where(whole >= 2.0**63, whole - 2.0**64, whole)
        whole = np.where(whole < -(2.0**63), whole + 2.0**64, whole)
        out[...] = whole.astype(np.int64)


def _native(a: Array, dtype: np.dtype[Any]) -> Array:
    """`a` itself, or a copy that is of `dtype` and aligned when it is not."""
    flags = a.flags
    if a.dtype == dtype and flags.aligned and (flags.c_contiguous or _whole_strides(a)):
        return a
    return a.astype(dtype)  # to the same kind or wider: the front end has seen to it


def _is_plain(a: Array) -> bool:
    """Whether elements lie as C reads them."""
    return a.dtype.isnative and a.flags.aligned


def _whole_strides(a: Array) -> bool:
    """Whether strides are multiples of the item size; fields of packed records are not."""
    size = a.itemsize
    return not any(s % size for s in a.strides)


def conversion_bytes(problem: Problem, solver: Solver) -> int:
    """Bytes of the copies that `Plan.__call__` makes when stored and computed dtypes differ."""
    own = problem.accumulator
    if problem.x_dtype == problem.w_dtype == problem.y_dtype == own:
        return 0
    size = numpy_dtype(own).itemsize
    shapes = (
        (problem.x_dtype, problem.x_shape, solver.reads_stored(problem)),
        (problem.w_dtype, problem.w_shape, False),
        (problem.y_dtype, problem.y_shape, solver.writes_stored(problem)),
    )
    total = 0
    for stored, shape, in_cache in shapes:
        if stored != own and not in_cache:
            count = 1
            for extent in shape:
                count *= extent
            total += count * size
    return total
