"""Arrays as PyTorch and CuPy have them, whose memory is that of the emulated device.

This module stands for both libraries: `fastconv.cuda.interop` knows arrays by what they have, and
asks the module of their type for new ones and for the current stream.
"""

from __future__ import annotations

import types
import weakref
from typing import Any

import cuda_emulator
import numpy as np

from fastconv._problem import numpy_dtype
from fastconv.cuda import launch

float16, float32, float64, bfloat16, complex64, complex128 = (
    f"torch.{name}"
    for name in ("float16", "float32", "float64", "bfloat16", "complex64", "complex128")
)
uint8, uint16, uint32, uint64, int8, int16, int32, int64 = (
    f"torch.{u}int{bits}" for u in ("u", "") for bits in (8, 16, 32, 64)
)
globals()["bool"] = "torch.bool"

#: What current_stream answers.
STREAM = 7


def _device() -> Any:
    driver = launch.driver()
    assert isinstance(driver, cuda_emulator.Driver)
    return driver


def is_grad_enabled() -> bool:
    return True


class Memory:
    """Elements of the emulated device that an array stands for; they are gone when it is."""

    base: Any = None

    def __init__(self, shape: Any, steps: Any, dtype: Any, pointer: int, ordinal: int) -> None:
        self.shape, self.steps, self.ordinal = tuple(shape), tuple(steps), ordinal
        self.numpy_dtype, self.pointer = np.dtype(dtype), pointer

    @classmethod
    def holding(cls, a: Any, ordinal: int = 0) -> Any:
        """A copy of a host's array, with its strides, which must be positive."""
        a = np.asarray(a)
        size = a.itemsize
        span = sum(s * (n - 1) for s, n in zip(a.strides, a.shape)) // size + 1 if a.size else 0
        pointer = _device().allocate(span * size, ordinal)
        made = cls(a.shape, [s // size for s in a.strides], a.dtype, pointer, ordinal)
        weakref.finalize(made, _device().free, pointer)
        if a.size:
            made.host()[...] = a
        return made

    @classmethod
    def empty(cls, shape: Any, dtype: Any, ordinal: int = 0) -> Any:
        blank = np.empty(shape, dtype)
        pointer = _device().allocate(blank.nbytes, ordinal)
        made = cls(shape, [s // blank.itemsize for s in blank.strides], dtype, pointer, ordinal)
        weakref.finalize(made, _device().free, pointer)
        return made

    def host(self) -> Any:
        """A window of the host's on the emulated memory."""
        memory = _device().memory
        count = sum(s * (n - 1) for s, n in zip(self.steps, self.shape)) + 1
        count = count if 0 not in self.shape else 0
        flat = memory.array(self.pointer, (count,), self.numpy_dtype)
        steps = [s * self.numpy_dtype.itemsize for s in self.steps]
        return np.lib.stride_tricks.as_strided(flat, self.shape, steps)

    def reshape(self, shape: Any) -> Any:
        blank = np.empty(shape, self.numpy_dtype)
        steps = [s // blank.itemsize for s in blank.strides]
        made = type(self)(shape, steps, self.numpy_dtype, self.pointer, self.ordinal)
        made.base = self
        return made


class Tensor(Memory):
    """As PyTorch's."""

    requires_grad = False
    is_cuda = True

    @property
    def dtype(self) -> str:
        return globals()[self.numpy_dtype.name]  # one object of each, as PyTorch's are

    def get_device(self) -> int:
        return self.ordinal

    @property
    def device(self) -> Any:
        return types.SimpleNamespace(type="cuda", index=self.ordinal)

    def data_ptr(self) -> int:
        return self.pointer

    def stride(self) -> tuple[int, ...]:
        return self.steps

    def new_empty(self, shape: Any, dtype: str) -> Tensor:
        name = dtype.rpartition(".")[2]
        kind = numpy_dtype("bf16") if name == "bfloat16" else np.dtype(name)
        return Tensor.empty(shape, kind, self.ordinal)


class ndarray(Memory):
    """As CuPy's."""

    @property
    def dtype(self) -> Any:
        return self.numpy_dtype

    @property
    def device(self) -> Any:
        return types.SimpleNamespace(id=self.ordinal)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        size = self.numpy_dtype.itemsize
        packed = self.steps == tuple(s // size for s in np.empty(self.shape, f"V{size}").strides)
        return {
            "shape": self.shape, "typestr": self.numpy_dtype.str, "data": (self.pointer, False),
            "strides": None if packed else tuple(s * size for s in self.steps), "version": 3,
            "stream": 1,
        }  # fmt: skip


def empty(shape: Any, dtype: Any) -> ndarray:
    """As CuPy's."""
    return ndarray.empty(shape, dtype)


cuda = types.SimpleNamespace(
    current_stream=lambda device: types.SimpleNamespace(cuda_stream=STREAM),
    get_current_stream=lambda: types.SimpleNamespace(ptr=STREAM),
)


def execute(
    solver: Any, problem: Any, config: Any, x: Any, w: Any, bias: Any = None, residual: Any = None,
    activation: Any = None,
) -> Any:  # fmt: skip
    """y of a solver's plan, on the host; all of it is NaN before."""
    from fastconv.cuda.interop import wrapped

    def on_gpu(a: Any) -> Any:
        return None if a is None else wrapped(Tensor.holding(a))

    plan = solver.plan(problem, config, launch.gpu())
    y = Tensor.empty(problem.y_shape, numpy_dtype(problem.y_dtype))
    packed = plan.pack_stored(on_gpu(w))
    plan(on_gpu(x), packed, on_gpu(bias), wrapped(y), on_gpu(residual), activation)
    return y.host().copy()
