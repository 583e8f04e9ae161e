"""cuFFT by ctypes: batches of real transforms, whose plans are kept and own no memory.

Of the library's functions the names and constants are those of cufft.h, version 12. It is found by
`cuda.pathfinder` where that is installed, else by its name, as PyTorch brings it. Tests have
another of the same functions, which transforms the emulated device's memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import threading
import weakref
from typing import Any

from fastconv.cuda import launch

#: Versions 12 and 11, of CUDA 13 and 12, and of 12 and 11.
_NAMES = (
    ("cufft64_12.dll", "cufft64_11.dll")
    if sys.platform == "win32"
    else ("libcufft.so.12", "libcufft.so.11")
)

#: cufftType by dtype: of real to complex numbers, and back.
TYPES = {"f32": (0x2A, 0x2C), "f64": (0x6A, 0x6C)}

#: What executes each type.
_EXECUTES = {0x2A: "cufftExecR2C", 0x2C: "cufftExecC2R", 0x6A: "cufftExecD2Z", 0x6C: "cufftExecZ2D"}

#: cufftResult, from 1 on.
_ERRORS = (
    "invalid plan", "allocation failed", "invalid type", "invalid value", "internal error",
    "execution failed", "setup failed", "invalid size",
)  # fmt: skip


class CufftError(RuntimeError):
    """A call of cuFFT failed."""


def _load() -> Any:
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("cufft").abs_path)
    for name in _NAMES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None


@functools.cache
def library() -> Any:
    """The library; None where there is none."""
    return _load()


def why_not() -> str | None:
    """Why nothing can be transformed here, in words; None when something can."""
    return None if library() is not None else "cuFFT is not found: install nvidia-cufft"


def _call(name: str, *arguments: Any) -> None:
    status = getattr(library(), name)(*arguments)
    if status:
        text = _ERRORS[status - 1] if status <= len(_ERRORS) else "an error"
        raise CufftError(f"{name}: {text} ({status})")


class Transform:
    """`batch` transforms of contiguous arrays of one `shape`, of a cufftType, on a device.

    What comes back from frequencies is not divided by the number of samples, and what lay there
    may be lost. `work_bytes` is what each call must bring.
    """

    def __init__(self, ordinal: int, shape: tuple[int, ...], batch: int, kind: int) -> None:
        launch.driver().use(ordinal)
        self._ordinal, self._execute = ordinal, _EXECUTES[kind]
        self._lock = threading.Lock()
        self._plan = ctypes.c_int()
        _call("cufftCreate", ctypes.byref(self._plan))
        freed = weakref.finalize(self, library().cufftDestroy, self._plan)
        freed.atexit = False  # when the driver may be gone
        _call("cufftSetAutoAllocation", self._plan, 0)
        lengths, work = (ctypes.c_longlong * len(shape))(*shape), ctypes.c_size_t()
        one, none = ctypes.c_longlong(1), ctypes.c_longlong(0)  # not looked at: embed is NULL
        _call(
            "cufftMakePlanMany64", self._plan, len(shape), lengths, None, one, none, None, one,
            none, kind, ctypes.c_longlong(batch), ctypes.byref(work),
        )  # fmt: skip
        self.work_bytes = work.value

    def __call__(self, stream: int, source: int, target: int, work: int) -> None:
        """Start it on a stream; no two threads at once set what it works with."""
        launch.driver().use(self._ordinal)
        with self._lock:
            _call("cufftSetStream", self._plan, ctypes.c_void_p(stream))
            _call("cufftSetWorkArea", self._plan, ctypes.c_void_p(work))
            _call(self._execute, self._plan, ctypes.c_void_p(source), ctypes.c_void_p(target))
        notes = launch.noted.get()
        if notes is not None:
            notes.others = True
