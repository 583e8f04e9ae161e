"""The driver, called by ctypes, and `Launch`: a kernel ready to run again and again.

A launch takes the caller's stream and pointers. It allocates nothing and waits for nothing, so it
may be captured in a CUDA graph. Of the driver's functions the names and constants are those of
cuda.h, version 12.
"""

from __future__ import annotations

import contextvars
import ctypes
import dataclasses
import functools
import struct
import sys
import threading
from collections.abc import Sequence
from typing import Any

from fastconv.cuda import build
from fastconv.cuda.kernel import FORMATS, Kernel

#: CUdevice_attribute and CUfunction_attribute.
_ATTRIBUTES = {"major": 75, "minor": 76, "multiprocessors": 16, "l2": 38, "shared": 97}
_MOST_DYNAMIC_SHARED = 8

#: Shared memory of a block that needs no leave.
_SHARED_UNASKED = 48 << 10

#: CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE and _END.
_BUFFER, _BUFFER_SIZE, _END = 1, 2, 0


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What the planner may know of a GPU; its text identifies rows of wisdom.

    `capability` is (major, minor), `l2` bytes of cache, `shared` bytes that a block may have,
    `driver` its driver's major version. The rates are estimates until they have been measured:
    floating-point operations a second in float32 and bytes of memory a second.
    """

    name: str = "unknown"
    capability: tuple[int, int] = (8, 0)
    multiprocessors: int = 108
    l2: int = 40 << 20
    shared: int = 163 << 10
    driver: int = 0
    cores: int = 1

    def __str__(self) -> str:
        major, minor = self.capability
        return (
            f"cuda {self.name} sm{major}{minor} multiprocessors{self.multiprocessors}"
            f" driver{self.driver}"
        )

    @property
    def flops(self) -> float:
        """Of float32: 128 multiply-adds a clock and multiprocessor at 1.7 GHz (64 on 8.0)."""
        return self.multiprocessors * (128 if self.capability == (8, 0) else 256) * 1.7e9

    @property
    def tf32_flops(self) -> float:
        """Of tensor cores in TF32: data sheets have 156e12 for A100, 495e12 for H100 and H200;
        GeForce has no more than of float32."""
        clock = 1.7e9 * self.multiprocessors
        return {(8, 0): 1024, (9, 0): 2048}.get(self.capability, 256) * clock

    @property
    def bandwidth(self) -> float:
        """Data sheets: A100 2.0e12, H100 3.35e12, H200 4.8e12; GeForce about half the A100's."""
        if "H200" in self.name:
            return 4.8e12
        return {(9, 0): 3.35e12, (8, 0): 2.0e12}.get(self.capability, 1.0e12)


class DriverError(RuntimeError):
    """A call of the CUDA driver failed."""


class Driver:
    """libcuda. Tests have one of the same methods that runs kernels in an emulator."""

    def __init__(self) -> None:
        name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        self._library = ctypes.CDLL(name)
        self._call("cuInit", 0)
        self._contexts: dict[int, ctypes.c_void_p] = {}
        self._launch = self._library.cuLaunchKernel
        self._launch.argtypes = [ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3]

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise DriverError(f"{name}: {self._text(status)}")

    def _text(self, status: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(status, ctypes.byref(text))
        return text.value.decode() if text.value else f"error {status}"

    def why_not(self) -> str | None:
        """Why kernels that are not in the cache cannot be loaded; None when they can."""
        return build.why_not()

    def count(self) -> int:
        """Devices there are."""
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    @functools.cache  # noqa: B019 - there is one driver
    def gpu(self, ordinal: int) -> Gpu:
        """What a device is."""
        name = ctypes.create_string_buffer(100)
        self._call("cuDeviceGetName", name, 100, ordinal)
        found = {}
        for attribute, code in _ATTRIBUTES.items():
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), code, ordinal)
            found[attribute] = value.value
        version = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        return Gpu(
            name.value.decode(), (found["major"], found["minor"]), found["multiprocessors"],
            found["l2"], found["shared"], version.value // 1000,
        )  # fmt: skip

    def use(self, ordinal: int) -> None:
        """Make the device's primary context this thread's, as every library's is."""
        context = self._contexts.get(ordinal)
        if context is None:
            context = ctypes.c_void_p()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), ordinal)
            self._contexts[ordinal] = context
        current = ctypes.c_void_p()
        self._call("cuCtxGetCurrent", ctypes.byref(current))
        if current.value != context.value:
            self._call("cuCtxSetCurrent", context)

    def load(self, kernel: Kernel, ordinal: int) -> Any:
        """A handle of the kernel on a device, compiled if it must be."""
        made = build.cubin(kernel, self.gpu(ordinal).capability)
        self.use(ordinal)
        module, handle = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), made.code)
        entry = made.entry.encode()
        self._call("cuModuleGetFunction", ctypes.byref(handle), module, entry)
        if kernel.shared_bytes > _SHARED_UNASKED:
            self._call(
                "cuFuncSetAttribute", handle, _MOST_DYNAMIC_SHARED, kernel.shared_bytes
            )  # fmt: skip
        return handle.value

    def launch(
        self, handle: Any, ordinal: int, grid: tuple[int, int, int], threads: int,
        shared_bytes: int, stream: int, extra: int,
    ) -> None:  # fmt: skip
        """Start a kernel on a stream; `extra` is the address of the list that cuda.h describes."""
        self.use(ordinal)
        status = self._launch(handle, *grid, threads, 1, 1, shared_bytes, stream, None, extra)
        if status:
            raise self.error(status)

    def entries(self, ordinal: int) -> tuple[int, int, int, int]:
        """Addresses of what `core.Launches` calls, and the device's context."""
        names = "cuLaunchKernel", "cuCtxGetCurrent", "cuCtxSetCurrent"
        found = (ctypes.cast(getattr(self._library, name), ctypes.c_void_p) for name in names)
        self.use(ordinal)
        start, get, set_to = (f.value or 0 for f in found)
        return start, get, set_to, self._contexts[ordinal].value or 0

    def number(self, handle: Any) -> int:
        """A handle of `load` as the driver's functions take it."""
        return int(handle)

    def error(self, status: int) -> Exception:
        """What a status of cuLaunchKernel that is not 0 means."""
        return DriverError(f"cuLaunchKernel: {self._text(status)}")

    def follow(self, stream: int, earlier: int) -> None:
        """Let a stream wait for what another was given so far; the host does not wait."""
        event = ctypes.c_void_p()
        disable_timing = 2
        self._call("cuEventCreate", ctypes.byref(event), disable_timing)
        try:
            self._call("cuEventRecord", event, ctypes.c_void_p(earlier))
            self._call("cuStreamWaitEvent", ctypes.c_void_p(stream), event, 0)
        finally:
            self._call("cuEventDestroy_v2", event)

    def settle(self, ordinal: int, stream: int) -> None:
        """`wait`, but where a graph is being captured nothing runs that could be waited for."""
        self.use(ordinal)
        capturing = ctypes.c_int()
        self._call("cuStreamIsCapturing", ctypes.c_void_p(stream), ctypes.byref(capturing))
        if not capturing.value:
            self.wait(stream)

    def allocate_on(self, stream: int, nbytes: int, ordinal: int) -> int:
        """The address of new memory, for what is started on a stream from now on."""
        self.use(ordinal)
        pointer = ctypes.c_uint64()
        self._call(
            "cuMemAllocAsync", ctypes.byref(pointer), ctypes.c_size_t(max(1, nbytes)),
            ctypes.c_void_p(stream),
        )  # fmt: skip
        return pointer.value

    def free_on(self, stream: int, pointer: int, ordinal: int) -> None:
        """Give it back when all that was started on the stream is done."""
        self.use(ordinal)
        self._call("cuMemFreeAsync", ctypes.c_uint64(pointer), ctypes.c_void_p(stream))

    # ---- for tuning: scratch arrays and time, never on the way of a call -------------------------

    def allocate(self, nbytes: int, ordinal: int) -> int:
        """The address of new memory of the device."""
        self.use(ordinal)
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(1, nbytes)))
        return pointer.value

    def free(self, pointer: int) -> None:
        """Give memory of `allocate` back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def upload(self, pointer: int, source: int, nbytes: int) -> None:
        """Copy from the host's memory."""
        self._call(
            "cuMemcpyHtoD_v2", ctypes.c_uint64(pointer), ctypes.c_void_p(source),
            ctypes.c_size_t(nbytes),
        )  # fmt: skip

    def download(self, target: int, pointer: int, nbytes: int) -> None:
        """Copy to the host's memory, when all that was started before is done."""
        self._call(
            "cuMemcpyDtoH_v2", ctypes.c_void_p(target), ctypes.c_uint64(pointer),
            ctypes.c_size_t(nbytes),
        )  # fmt: skip

    def wait(self, stream: int) -> None:
        """Until all that was started on a stream is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))


_driver: Driver | None = None
_lock = threading.Lock()


def driver() -> Driver:
    """The driver; OSError without the library, DriverError when it finds nothing to drive."""
    global _driver
    if _driver is None:
        with _lock:
            if _driver is None:
                _driver = Driver()
    return _driver


def why_not() -> str | None:
    """Why nothing can be launched here; None when something can.

    What can be installed is named first, whatever else is missing.
    """
    tools, device = build.why_not(), None
    try:
        found = driver()
        tools = found.why_not()
        if not found.count():
            device = "the CUDA driver finds no device"
        elif (capability := found.gpu(0).capability) < build.OLDEST:
            of = "compute capability {}.{}, kernels need {}.{}".format(*capability, *build.OLDEST)
            device = f"the GPU is of {of}"
    except OSError:
        device = "there is no CUDA driver (libcuda.so.1)"
    except DriverError as error:
        device = f"the CUDA driver does not start: {error}"
    return "; and ".join(reason for reason in (tools, device) if reason is not None) or None


_able: Driver | None = None


def need() -> None:
    """RuntimeError where nothing can be launched."""
    global _able
    if _able is None or _able is not _driver:
        if (reason := why_not()) is not None:
            raise RuntimeError(f"arrays on a GPU cannot be convolved here: {reason}")
        _able = _driver


def gpu(ordinal: int = 0) -> Gpu:
    """The device's facts, or those of an A100 where there is none."""
    return driver().gpu(ordinal) if why_not() is None else Gpu()


_ready: dict[tuple[Driver, int, Kernel], Any] = {}


def handle_of(kernel: Kernel, ordinal: int) -> Any:
    """The kernel on a device, loaded once a process."""
    key = (driver(), ordinal, kernel)
    handle = _ready.get(key)
    if handle is None:
        with _lock:
            handle = _ready.get(key) or _ready.setdefault(key, key[0].load(kernel, ordinal))
    return handle


@dataclasses.dataclass
class Notes:
    """What a call did on a GPU: launches as (launch, ordinal, stream, pointers), and new arrays.

    `kept` are arrays that the plan which was called keeps (`workspace.py`). `others` says that
    there was more than these tell: a library's own launches.
    """

    launches: list[tuple[Launch, int, int, tuple[int, ...]]] = dataclasses.field(
        default_factory=list
    )
    made: list[Any] = dataclasses.field(default_factory=list)
    kept: list[Any] = dataclasses.field(default_factory=list)
    others: bool = False


#: Where launches and new arrays are noted, while a call is watched (`tape.py`).
noted: contextvars.ContextVar[Notes | None] = contextvars.ContextVar("fastconv notes", default=None)


class Launch:
    """A kernel with all parameters but its first ones, the pointers, which each call brings."""

    def __init__(
        self, kernel: Kernel, grid: tuple[int, int, int], constants: Sequence[int | float]
    ) -> None:
        self.kernel = kernel
        self.grid = grid
        kinds = [kind for _, kind in kernel.parameters]
        self.pointers = len(kinds) - len(constants)
        assert all(kind == "pointer" for kind in kinds[: self.pointers])
        assert 0 < min(grid) and max(grid[1:]) < 1 << 16 and grid[0] < 1 << 31
        self._constants = tuple(constants)
        self._format = struct.Struct(kernel.format)
        self._front = struct.Struct("@" + FORMATS["pointer"] * self.pointers)
        self._local = threading.local()
        self._handles: dict[int, tuple[Driver, Any]] = {}

    def _block(self) -> tuple[Any, int]:
        """This thread's block of parameters and the address of the list that names it."""
        size = self._format.size
        buffer = ctypes.create_string_buffer(size)
        self._format.pack_into(buffer, 0, *(0,) * self.pointers, *self._constants)
        count = ctypes.c_size_t(size)
        extra = (ctypes.c_void_p * 5)(
            _BUFFER, ctypes.addressof(buffer), _BUFFER_SIZE, ctypes.addressof(count), _END
        )
        self._local.kept = buffer, count, extra  # alive as long as the thread
        self._local.block = buffer, ctypes.addressof(extra)
        return self._local.block

    def __call__(self, ordinal: int, stream: int, *pointers: int) -> None:
        """Start it on a stream of a device."""
        found = self._handles.get(ordinal)
        if found is None or found[0] is not _driver:
            found = driver(), handle_of(self.kernel, ordinal)
            self._handles[ordinal] = found
        try:
            buffer, extra = self._local.block
        except AttributeError:
            buffer, extra = self._block()
        self._front.pack_into(buffer, 0, *pointers)
        notes = noted.get()
        if notes is not None:
            notes.launches.append((self, ordinal, stream, pointers))
        kernel = self.kernel
        found[0].launch(
            found[1], ordinal, self.grid, kernel.threads, kernel.shared_bytes, stream, extra
        )

    def parameters(self, *pointers: int) -> bytes:
        """All of them, as they lie."""
        return self._format.pack(*pointers, *self._constants)
