"""Memory of a device that the tuner owns: scratch arrays, and what plans make of them."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np

from fastconv.cuda import launch
from fastconv.cuda.interop import DeviceArray, packed_steps


class Scratch(DeviceArray):
    """An array of memory of its own, freed with it, on the default stream.

    `new` gives the same memory again for the same shape and dtype: a plan that packs its weights in
    each call allocates nothing, as with a library that keeps a pool.
    """

    __slots__ = ("__weakref__", "_made")

    def __init__(
        self, shape: tuple[int, ...], steps: tuple[int, ...], dtype: np.dtype[Any], ordinal: int = 0
    ) -> None:
        self._made: dict[Any, Scratch] = {}
        driver = launch.driver()
        span = sum(s * (n - 1) for n, s in zip(shape, steps)) + 1 if math.prod(shape) else 0
        pointer = driver.allocate(span * dtype.itemsize, ordinal)
        super().__init__(pointer, shape, steps, dtype, None, ordinal, 0)
        weakref.finalize(self, driver.free, pointer)

    @classmethod
    def holding(cls, a: Any, ordinal: int = 0) -> Scratch:
        """A copy of an array of the host's, of positive strides, with the same strides."""
        steps = tuple(s // a.itemsize for s in a.strides)
        made = cls(a.shape, steps, a.dtype, ordinal)
        made.upload(a)
        return made

    @property
    def nbytes(self) -> int:
        """From the first element to the last."""
        span = sum(s * (n - 1) for n, s in zip(self.shape, self.steps)) + 1 if self.size else 0
        return span * self.dtype.itemsize

    def upload(self, a: Any) -> None:
        """Copy from an array of the host's that lies in the same way."""
        launch.driver().upload(self.pointer, a.ctypes.data, self.nbytes)

    def download(self, a: Any) -> None:
        """Copy to an array of the host's, when all that was started is done."""
        launch.driver().download(a.ctypes.data, self.pointer, self.nbytes)

    def _view(self, offset: int, shape: Any, steps: Any) -> DeviceArray:
        return _View(self, self.pointer + offset * self.dtype.itemsize, shape, steps)

    def new(self, shape: Any, dtype: np.dtype[Any]) -> Scratch:
        key = (tuple(shape), dtype)
        if key not in self._made:
            steps = packed_steps(key[0], (0,) * len(key[0]))
            self._made[key] = Scratch(key[0], steps, dtype, self.ordinal)
        return self._made[key]


class _View(DeviceArray):
    """A view of a `Scratch`, whose memory it keeps and whose `new` is its own."""

    __slots__ = ("_whole",)

    def __init__(self, whole: Scratch, pointer: int, shape: Any, steps: Any) -> None:
        self._whole = whole
        super().__init__(
            pointer, tuple(shape), tuple(steps), whole.dtype, None, whole.ordinal, whole.stream
        )

    def _view(self, offset: int, shape: Any, steps: Any) -> DeviceArray:
        return _View(self._whole, self.pointer + offset * self.dtype.itemsize, shape, steps)

    def new(self, shape: Any, dtype: np.dtype[Any]) -> Scratch:
        return self._whole.new(shape, dtype)
