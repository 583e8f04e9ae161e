"""`Taps`: weights that a function makes itself, on the host, for arrays on a GPU.

    y[first + i] = t_i,    i < COUNT

Integers come as float64, which holds them below 2**53. The numbers are parameters of a kernel that
writes them, COUNT a launch: nothing is copied, nobody waits, and a CUDA graph that captures the
call has them in it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv._problem import dtype_name
from fastconv.cuda.interop import DeviceArray
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


class Taps(DeviceArray):
    """Numbers of the host's that are written beside `like` when their address is asked for.

    Views are made of the numbers, before: what a plan has packed is never written again.
    """

    __slots__ = ("_array", "_like", "_values")

    is_own = True

    def __init__(self, values: Any, like: DeviceArray) -> None:
        self._values, self._like = np.ascontiguousarray(values), like
        self._array: DeviceArray | None = None
        steps = tuple(s // self._values.itemsize for s in self._values.strides)
        super().__init__(
            0, self._values.shape, steps, self._values.dtype, like.owner, like.ordinal, like.stream
        )

    @property
    def pointer(self) -> int:
        if self._array is None:
            self._array = self._written()
        return self._array.pointer

    @pointer.setter
    def pointer(self, _: int) -> None:
        pass

    def _written(self) -> DeviceArray:
        made = self._like.new(self.shape, self.dtype)
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

    def new(self, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
        return self._like.new(shape, dtype)
