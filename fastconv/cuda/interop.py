"""`DeviceArray`: an array on a GPU, whoever made it, as the engine sees arrays.

Arrays are known by what they have, and no library is imported: ``data_ptr``, ``stride`` and
``is_cuda`` (PyTorch), ``__cuda_array_interface__`` version 3 (CuPy, Numba and others), or
``__dlpack__`` with a CUDA device. New arrays are made by the library of the caller's, on its device
and its current stream. Nothing is ever copied to or from the host.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import itertools
import math
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastconv._ext import core
from fastconv._problem import Array, numpy_dtype
from fastconv.cuda import launch, workspace

#: DLDeviceType of dlpack.h: CUDA, and memory that CUDA manages.
_DLPACK_CUDA = (2, 13)


class Flags:
    """What `numpy.ndarray.flags` says, as far as the engine asks."""

    __slots__ = ("aligned", "c_contiguous", "writeable")

    def __init__(self, c_contiguous: bool, writeable: bool) -> None:
        self.c_contiguous, self.writeable, self.aligned = c_contiguous, writeable, True


class DeviceArray:
    """Shape, dtype and address of an array on a GPU, and views of it.

    Attributes
    ----------
    pointer : int
        Address of the first element.
    shape, steps : tuple of int
        Steps are strides in elements.
    dtype : numpy.dtype
    owner
        The caller's array: kept alive, and able to make others.
    ordinal : int
        Number of the device.
    stream : int
        The stream that the caller's library works on now.
    conjugated : bool
        Whether it stands for the conjugates of what lies there.
    """

    __slots__ = (
        "conjugated",
        "dtype",
        "flags",
        "ordinal",
        "owner",
        "pointer",
        "shape",
        "steps",
        "stream",
    )

    #: Whether nobody else knows its memory.
    is_own = False

    def __init__(
        self, pointer: int, shape: tuple[int, ...], steps: tuple[int, ...], dtype: np.dtype[Any],
        owner: Any, ordinal: int, stream: int, writeable: bool = True, conjugated: bool = False,
    ) -> None:  # fmt: skip
        if not dtype.isnative:
            raise TypeError(f"expected native byte order on cuda:{ordinal}, got {dtype!r}")
        self.pointer, self.shape, self.steps, self.dtype = pointer, shape, steps, dtype
        self.owner, self.ordinal, self.stream = owner, ordinal, stream
        self.conjugated = conjugated
        self.flags = Flags(0 in shape or steps == packed_steps(shape, steps), writeable)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def strides(self) -> tuple[int, ...]:
        """In bytes, as NumPy has them."""
        return tuple(s * self.dtype.itemsize for s in self.steps)

    @property
    def device(self) -> str:
        return f"cuda:{self.ordinal}"

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"an array on {self.device} is not copied to the host unasked")

    def _view(self, offset: int, shape: Sequence[int], steps: Sequence[int]) -> DeviceArray:
        return DeviceArray(
            self.pointer + offset * self.dtype.itemsize, tuple(shape), tuple(steps), self.dtype,
            self.owner, self.ordinal, self.stream, self.flags.writeable, self.conjugated,
        )  # fmt: skip

    def __getitem__(self, index: Any) -> DeviceArray:
        """A view by integers, slices and None."""
        index = index if isinstance(index, tuple) else (index,)
        offset, shape, steps, axis = 0, [], [], 0
        for one in index:
            if one is None:
                shape.append(1)
                steps.append(0)
                continue
            n, s = self.shape[axis], self.steps[axis]
            axis += 1
            if isinstance(one, slice):
                start, stop, step = one.indices(n)
                count = len(range(start, stop, step))
                offset += start * s if count else 0
                shape.append(count)
                steps.append(s * step)
            else:
                if not -n <= one < n:
                    raise IndexError(f"index {one} is beyond {n}")
                offset += (one % n) * s
        return self._view(offset, [*shape, *self.shape[axis:]], [*steps, *self.steps[axis:]])

    def transpose(self, *order: Any) -> DeviceArray:
        """A view with its axes in another order."""
        if len(order) == 1 and isinstance(order[0], Sequence):
            order = tuple(order[0])
        order = tuple(a % self.ndim for a in order) or tuple(range(self.ndim))[::-1]
        return self._view(0, [self.shape[a] for a in order], [self.steps[a] for a in order])

    def swapaxes(self, a: int, b: int) -> DeviceArray:
        """A view with two axes exchanged."""
        order = list(range(self.ndim))
        order[a], order[b] = order[b], order[a]
        return self.transpose(*order)

    def reshape(self, *shape: Any) -> DeviceArray:
        """A view of another shape; ValueError where only a copy could have it."""
        if len(shape) == 1 and isinstance(shape[0], Sequence):
            shape = tuple(shape[0])
        if -1 in shape:
            rest = -math.prod(shape)
            shape = tuple(self.size // max(1, rest) if n == -1 else n for n in shape)
        steps = _steps_as(self.shape, self.steps, shape)
        if math.prod(shape) != self.size or steps is None:
            raise ValueError(
                f"expected an array on {self.device} that can be seen in shape {shape} without a"
                f" copy, got shape {self.shape} with strides {self.steps}: make it contiguous"
            )
        return self._view(0, shape, steps)

    def broadcast_to(self, shape: tuple[int, ...]) -> DeviceArray:
        """A view of a larger shape; ValueError where NumPy would raise one."""
        extra = len(shape) - self.ndim
        if extra < 0 or any(n not in (1, m) for n, m in zip(self.shape, shape[extra:])):
            raise ValueError(f"shape {self.shape} does not broadcast to {shape}")
        steps = [0 if n == 1 else s for n, s in zip(self.shape, self.steps)]
        return self._view(0, shape, [0] * extra + steps)

    def conj(self) -> DeviceArray:
        """A view of the conjugates; itself where the numbers are real."""
        if self.dtype.kind != "c":
            return self
        view = self._view(0, self.shape, self.steps)
        view.conjugated = not self.conjugated
        return view

    def new(self, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
        """A new C-ordered array of the owner's library, on its device."""
        made = wrapped(maker(self.owner, tuple(shape), dtype)(self.owner))
        notes = launch.noted.get()
        if notes is not None:
            notes.made.append(made)
        return made

    def aside(self, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
        """A new array that no caller sees: `new`, or the driver's where the library makes none."""
        try:
            return self.new(shape, dtype)
        except CannotMakeError:
            notes = launch.noted.get()
            if notes is not None:
                notes.others = True
            shape = tuple(shape)
            own = Allocation(math.prod(shape) * dtype.itemsize, self.ordinal, self.stream)
            steps = packed_steps(shape, (0,) * len(shape))
            return DeviceArray(own.pointer, shape, steps, dtype, own, self.ordinal, self.stream)

    def borrow(self, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
        """`aside`, until the call ends; in a plan's call what the plan keeps for it."""
        keep = workspace.current.get()
        if keep is None:
            return self.aside(shape, dtype)
        made = keep.take((tuple(shape), dtype), lambda: self._apart(shape, dtype))
        notes = launch.noted.get()
        if notes is not None and not any(one is made for one in notes.kept):
            notes.kept.append(made)
        return made

    @contextlib.contextmanager
    def borrowed(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Iterator[DeviceArray]:
        """`borrow`, until the context ends: what is started later may write there."""
        made = self.borrow(shape, dtype)
        yield made
        keep = workspace.current.get()
        if keep is not None:
            keep.give(made)

    def _apart(self, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
        """`aside`, which calls like this one do not make anew."""
        token = launch.noted.set(None)
        try:
            return self.aside(shape, dtype)
        finally:
            launch.noted.reset(token)

    def result(self) -> Any:
        """The caller's own array of this shape, of what `new` made or was given as `out`."""
        whole = wrapped(self.owner)
        if (whole.shape, whole.steps) == (self.shape, self.steps):
            return self.owner
        assert self.flags.c_contiguous and whole.size == self.size
        return self.owner.reshape(self.shape)


class Allocation:
    """Memory of the driver's, which goes back when what was started on its stream is done."""

    def __init__(self, nbytes: int, ordinal: int, stream: int) -> None:
        driver = launch.driver()
        self.pointer = driver.allocate_on(stream, nbytes, ordinal)
        freed = weakref.finalize(self, driver.free_on, stream, self.pointer, ordinal)
        freed.atexit = False  # when the driver may be gone


class CannotMakeError(TypeError):
    """A library makes no arrays that are known of."""


def packed_steps(shape: tuple[int, ...], like: tuple[int, ...]) -> tuple[int, ...]:
    """Steps of a C-ordered array; those of axes of one element are taken as they are."""
    steps, step = [], 1
    for n, s in zip(shape[::-1], like[::-1]):
        steps.append(s if n == 1 else step)
        step *= n
    return tuple(steps[::-1])


def _steps_as(
    shape: tuple[int, ...], steps: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Steps that show the same elements in another shape; None where none do."""
    runs: list[list[int]] = []  # of axes that are one: (elements, step), outermost first
    for n, s in zip(shape, steps):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * s:
            runs[-1] = [runs[-1][0] * n, s]
        else:
            runs.append([n, s])
    found = [0] * len(wanted)
    left, step = 1, 0
    for axis in range(len(wanted) - 1, -1, -1):
        n = wanted[axis]
        if n == 1:
            continue
        if left == 1:
            if not runs:
                return None
            left, step = runs.pop()
        if n == 0 or left % n:
            return tuple(found) if 0 in wanted and 0 in shape else None
        found[axis] = step
        left, step = left // n, step * n
    return tuple(found) if left == 1 and not runs else None


def overlap(a: DeviceArray, b: DeviceArray) -> bool:
    """Whether the memory that two arrays span has an element in common."""
    (a0, a1), (b0, b1) = span(a), span(b)
    return a.ordinal == b.ordinal and a0 < b1 and b0 < a1


def span(a: DeviceArray) -> tuple[int, int]:
    """Addresses of the first byte that an array may have, and of what follows its last."""
    if a.size == 0:
        return a.pointer, a.pointer
    reach = [s * (n - 1) for n, s in zip(a.shape, a.steps)]
    low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + 1
    return a.pointer + low * a.dtype.itemsize, a.pointer + high * a.dtype.itemsize


def on_gpu(a: Any) -> bool:
    """Whether `a` is one of these. (Annotations of the engine say NumPy's for both.)"""
    return isinstance(a, DeviceArray)


def on_host(name: str, a: Any) -> Array:
    """`numpy.asarray`, but TypeError for an array on a GPU: some would be copied in silence."""
    if on_gpu(a) or is_foreign(a):
        raise TypeError(
            f"expected {name} in the host's memory, got {type(a).__name__} on a GPU, which this"
            " function does not support; nothing is copied between devices unasked"
        )
    return np.asarray(a)


#: Whether a call is walked through, not computed: its arrays on a GPU have no memory then.
planning: contextvars.ContextVar[bool] = contextvars.ContextVar("fastconv planning", default=False)


def empty(like: Any, shape: Sequence[int], dtype: Any) -> Any:
    """A new array beside `like`: on its device, of its library; of NumPy's for NumPy's."""
    if isinstance(like, DeviceArray):
        made = _without_memory if planning.get() else DeviceArray.new
        return made(like, shape, np.dtype(dtype))
    return core.empty(tuple(shape), np.dtype(dtype))


def borrow(like: Any, shape: Sequence[int], dtype: Any) -> Any:
    """`empty`, of what the caller never sees (`DeviceArray.borrow`)."""
    if isinstance(like, DeviceArray):
        made = _without_memory if planning.get() else DeviceArray.borrow
        return made(like, shape, np.dtype(dtype))
    return core.empty(tuple(shape), np.dtype(dtype))


def _without_memory(like: DeviceArray, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceArray:
    steps, at = packed_steps(tuple(shape), (0,) * len(shape)), next(_nowhere)
    return DeviceArray(at, tuple(shape), steps, dtype, like.owner, like.ordinal, like.stream)


#: Addresses further apart than arrays are long, that no device has.
_nowhere = itertools.count(1 << 62, 1 << 44)


def share_memory(a: Any, b: Any) -> bool:
    """`numpy.may_share_memory`, of arrays anywhere."""
    if isinstance(a, DeviceArray) or isinstance(b, DeviceArray):
        both = isinstance(a, DeviceArray) and isinstance(b, DeviceArray)
        return both and not (a.is_own or b.is_own) and overlap(a, b)
    return np.may_share_memory(a, b)


def place_of(**arrays: Any) -> DeviceArray | None:
    """The first of the arrays when they are on a GPU, None when they are not.

    TypeError when some are and some are not, or on different devices. All that was started on
    their own streams comes before what is started next on the first one's.
    """
    given = {name: a for name, a in arrays.items() if a is not None}
    first_name, first = next(iter(given.items()))
    for name, a in given.items():
        here = a.device if isinstance(a, DeviceArray) else "the host"
        there = first.device if isinstance(first, DeviceArray) else "the host"
        if here != there:
            raise TypeError(
                f"expected {name} where {first_name} is, on {there}, got an array on {here}:"
                " nothing is copied between devices unasked"
            )
    if not isinstance(first, DeviceArray):
        return None
    for stream in {a.stream for a in given.values()} - {first.stream}:
        launch.driver().follow(first.stream, stream)
    return first


def settle(a: DeviceArray) -> None:
    """Wait until what was started on the array's stream is done (`Driver.settle`)."""
    launch.driver().settle(a.ordinal, a.stream)


def wrap_all(values: Any) -> Any:
    """A list or dict of arguments, those that `is_foreign` recognises wrapped."""
    if isinstance(values, dict):
        return {name: wrapped(a) if is_foreign(a) else a for name, a in values.items()}
    return [wrapped(a) if is_foreign(a) else a for a in values]


def call(function: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """`function(*args, **options)`, whose arrays may be on a GPU; the result is the caller's."""
    if not any(map(is_foreign, args)) and not any(map(is_foreign, options.values())):
        return function(*args, **options)
    return unwrapped(function(*wrap_all(args), **wrap_all(options)))


def unwrapped(a: Any) -> Any:
    """The caller's own array, where it is one of ours."""
    return a.result() if isinstance(a, DeviceArray) else a


# ---- what others' arrays have --------------------------------------------------------------------


def is_foreign(a: Any) -> bool:
    """Whether `a` is somebody's array on a GPU. Plain arrays are answered at once."""
    kind = type(a)
    if kind is np.ndarray or kind is int or kind is str or a is None or kind is DeviceArray:
        return False
    if hasattr(kind, "data_ptr"):
        return bool(getattr(a, "is_cuda", False))
    if hasattr(kind, "__cuda_array_interface__"):
        return True
    if hasattr(kind, "__dlpack_device__") and not isinstance(a, np.ndarray):
        return a.__dlpack_device__()[0] in _DLPACK_CUDA
    return False


def wrapped(a: Any) -> DeviceArray:
    """What `is_foreign` recognised, as the engine sees it; RuntimeError where nothing can be done
    with it."""
    launch.need()
    if hasattr(type(a), "data_ptr"):
        core.read_by(type(a), core.Tensors(library(a).is_grad_enabled))
        return _from_torch(a)
    if hasattr(type(a), "__cuda_array_interface__"):
        core.read_by(type(a), _read_interface)
        return _from_interface(a)
    return _from_dlpack(a)


def library(a: Any) -> Any:
    """The module that the array's type comes from; it is imported, or there would be no array."""
    return sys.modules[type(a).__module__.partition(".")[0]]


def _read_interface(a: Any) -> tuple[int, tuple[Any, ...]] | None:
    """What `core.read_by` takes for arrays with an interface."""
    facts = a.__cuda_array_interface__
    if facts.get("mask") is not None:
        return None
    pointer, read_only = facts["data"]
    kind = int.from_bytes(facts["typestr"].encode()[:7])
    current = hasattr(getattr(library(a), "cuda", None), "get_current_stream")
    stream = 0 if current else int(facts.get("stream") or 0)
    rest = kind, int(read_only), _ordinal(a), stream
    return pointer or 0, (tuple(facts["shape"]), tuple(facts.get("strides") or ()), *rest)


def stream_of(a: DeviceArray) -> Callable[[], int]:
    """What asks for the stream that `a`'s library works on now."""
    of = library(a.owner)
    if hasattr(type(a.owner), "data_ptr"):
        # PyTorch's own way to a launch, which makes no object of the stream
        raw = getattr(getattr(of, "_C", None), "_cuda_getCurrentRawStream", None)
        if raw is not None:
            return functools.partial(raw, a.ordinal)
        current, device = of.cuda.current_stream, a.owner.device
        return lambda: int(current(device).cuda_stream)
    current = getattr(getattr(of, "cuda", None), "get_current_stream", None)
    stream = a.stream  # and not `a`, which would be kept
    return (lambda: int(current().ptr)) if current is not None else lambda: stream


def address_of(a: Any) -> Callable[[Any], int]:
    """What says where an array of `a`'s type begins."""
    if hasattr(type(a), "data_ptr"):
        return type(a).data_ptr
    return lambda one: int(one.__cuda_array_interface__["data"][0] or 0)


def _bfloat16() -> np.dtype[Any]:
    try:
        return numpy_dtype("bf16")
    except ImportError as error:
        raise RuntimeError(
            f"arrays of bfloat16 on a GPU cannot be convolved here: {error}: install fastconv[cuda]"
        ) from None


def _from_torch(a: Any) -> DeviceArray:
    name = str(a.dtype).rpartition(".")[2]
    dtype = _bfloat16() if name == "bfloat16" else np.dtype(name)
    ordinal = a.device.index
    if getattr(a, "requires_grad", False) and library(a).is_grad_enabled():
        raise TypeError(
            "expected a tensor without a gradient, which would be lost: detach it, or call in"
            " torch.no_grad()"
        )
    stream = library(a).cuda.current_stream(a.device).cuda_stream
    return DeviceArray(
        a.data_ptr(), tuple(a.shape), tuple(a.stride()), dtype, a, ordinal, stream
    )  # fmt: skip


def _from_interface(a: Any) -> DeviceArray:
    facts = a.__cuda_array_interface__
    if facts.get("mask") is not None:
        raise TypeError("expected an array without a mask, got a masked one: fill it first")
    dtype = np.dtype(facts["typestr"])
    pointer, read_only = facts["data"]
    shape = tuple(facts["shape"])
    strides = facts.get("strides")
    if strides is None:
        steps = packed_steps(shape, (0,) * len(shape))
    else:
        if any(s % dtype.itemsize for s in strides):
            raise ValueError(f"expected strides in whole elements of {dtype}, got {strides}")
        steps = tuple(s // dtype.itemsize for s in strides)
    return DeviceArray(
        pointer or 0, shape, steps, dtype, a, _ordinal(a), _stream(a, facts), not read_only
    )


def _stream(a: Any, facts: dict[str, Any]) -> int:
    """The library's current stream where it has one, else the one that the array names.

    CUDA array interface version 3: work on the array must follow that stream's; on the library's
    current stream it does. 1 is the legacy default stream, 2 each thread's own.
    """
    cuda = getattr(library(a), "cuda", None)
    current = getattr(cuda, "get_current_stream", None)
    return int(current().ptr) if current is not None else int(facts.get("stream") or 0)


def _ordinal(a: Any) -> int:
    device = getattr(a, "device", None)
    for name in ("id", "index"):
        if isinstance(getattr(device, name, None), int):
            return int(getattr(device, name))
    return 0


class _DLTensor(ctypes.Structure):
    """As in dlpack.h, version 0 and 1."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


#: DLDataTypeCode of dlpack.h.
_DLPACK_KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


def _from_dlpack(a: Any) -> DeviceArray:
    # stream 1, the legacy default: the maker orders it after its own work
    capsule = a.__dlpack__(stream=1)
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DLTensor.from_address(pointer_of(capsule, b"dltensor"))
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    if tensor.strides:
        steps = tuple(tensor.strides[i] for i in range(tensor.ndim))
    else:
        steps = packed_steps(shape, (0,) * len(shape))
    if tensor.code == 4:
        dtype = _bfloat16()
    else:
        dtype = np.dtype(f"{_DLPACK_KINDS[tensor.code]}{tensor.bits // 8}")
    # the capsule is not consumed: when it goes, `a`, which is kept, still owns the memory
    address = (tensor.data or 0) + tensor.byte_offset
    return DeviceArray(address, shape, steps, dtype, a, tensor.device_id, 1)


def maker(like: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[Any], Any]:
    """What makes a new array of `like`'s library, beside an array of it."""
    of = library(like)
    if hasattr(type(like), "new_empty"):  # PyTorch
        kind = getattr(of, dtype.name)
        return lambda beside: beside.new_empty(shape, dtype=kind)
    if of.__name__.startswith("numba"):
        device_array = sys.modules["numba.cuda"].device_array
        return lambda beside: device_array(shape, dtype)
    if hasattr(of, "empty"):  # CuPy, and what follows NumPy
        return lambda beside: of.empty(shape, dtype)
    raise CannotMakeError(
        f"expected arrays of a library that can make another, got {type(like).__name__} of"
        f" {of.__name__}: use PyTorch, CuPy or Numba, or give out="
    )
