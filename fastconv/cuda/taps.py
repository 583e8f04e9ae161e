"""Weights that a function makes itself for arrays on a GPU: `Taps`, on the host, and `Derived`.

    y[first + i] = t_i,    i < COUNT

Integers come as float64, which holds them below 2**53. The numbers are parameters of a kernel that
writes them, COUNT a launch: nothing is copied, nobody waits, and a CUDA graph that captures the
call has them in it.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv._problem import dtype_name
from fastconv.cuda.interop import DeviceArray, packed_steps
from fastconv.cuda.kernel import Kernel, operations
from fastconv.cuda.launch import Launch

#: Numbers of a launch: two thirds of the parameters that a kernel may have, were they float64.
COUNT = 32


@functools.lru_cache(8)
def kernel(dtype: str) -> Kernel:
    """What writes COUNT numbers, as many of them as `count` says."""
    computed = "f32" if dtype in ("f16", "bf16", "f32") else "f64"
    is_own = computed == ("f64" if dtype == "f64" else "f32") and dtype[0] not in "iu"
    named = [f"t{i}" for i in range(COUNT)]
    parameters = (("y", "pointer"), ("first", "i32"), ("count", "i32"),
                  *((name, computed) for name in named))  # fmt: skip
    lines = [
        f"def taps({', '.join(name for name, _ in parameters)}):",
        "    i = thread()",
        "    if i < count:",
        "        value = t0",
        *(
            line
            for n in range(1, COUNT)
            for line in (f"        if i == {n}:", f"            value = t{n}")
        ),
        "        store_y(y, first + i, value)",
    ]
    text = "\n".join(lines) + "\n"
    table = {"store_y": ("store", dtype) if is_own else ("store", dtype, computed)}
    return Kernel("taps", text, operations(text, table), parameters, COUNT)


class Unwritten(DeviceArray, abc.ABC):
    """An array beside `like` that is written when its address is asked for: what a plan has packed
    is never written again. Views are made before."""

    __slots__ = ("_array", "_like")

    is_own = True

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], like: DeviceArray) -> None:
        self._like = like
        self._array: DeviceArray | None = None
        steps = packed_steps(shape, (0,) * len(shape))
        super().__init__(0, shape, steps, dtype, like.owner, like.ordinal, like.stream)

    @abc.abstractmethod
    def _written(self) -> DeviceArray: ...

    @property
    def pointer(self) -> int:
        if self._array is None:
            self._array = self._written()
        return self._array.pointer

    @pointer.setter
    def pointer(self, _: int) -> None:
        pass

    def _view(self, offset: int, shape: Sequence[int], steps: Sequence[int]) -> DeviceArray:
        _ = self.pointer
        assert self._array is not None
        return self._array._view(offset, shape, steps)

    def new(self, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
        return self._like.new(shape, dtype)


class Taps(Unwritten):
    """Numbers of the host's."""

    __slots__ = ("_values",)

    def __init__(self, values: Any, like: DeviceArray) -> None:
        self._values = np.ascontiguousarray(values)
        super().__init__(self._values.shape, self._values.dtype, like)

    def _written(self) -> DeviceArray:
        made = self._like.aside(self.shape, self.dtype)
        name = dtype_name(self.dtype)
        # a complex number is two real ones
        flat = self._values.reshape(-1)
        flat = flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat
        part = kernel(dtype_name(flat.dtype) if name[0] == "c" else name)
        for first in range(0, len(flat), COUNT):
            some = [float(v) for v in flat[first : first + COUNT]]
            rest = [0.0] * (COUNT - len(some))
            launch = Launch(part, (1, 1, 1), [first, len(some), *some, *rest])
            launch(self.ordinal, self.stream, made.pointer)
        return made

    def __getitem__(self, index: Any) -> Taps:
        return Taps(self._values[index], self._like)

    def transpose(self, *order: Any) -> Taps:
        return Taps(self._values.transpose(*order), self._like)

    def reshape(self, *shape: Any) -> Taps:
        return Taps(self._values.reshape(*shape), self._like)

    def conj(self) -> Taps:
        return Taps(self._values.conj(), self._like)


class Derived(Unwritten):
    """What `write(source, target)` makes of another array, in C order."""

    __slots__ = ("_source", "_write")

    def __init__(
        self, source: DeviceArray, dtype: np.dtype[Any], write: Callable[..., None],
        shape: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        self._source, self._write = source, write
        super().__init__(source.shape if shape is None else shape, dtype, source)

    def _written(self) -> DeviceArray:
        made = self._like.aside(self._source.shape, self.dtype)
        self._write(self._source, made)
        return made

    def reshape(self, *shape: Any) -> Derived:
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        return Derived(self._source, self.dtype, self._write, tuple(wanted))
