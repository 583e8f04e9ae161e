"""A GPU in Python: it runs kernels of `fastconv.cuda` thread by thread, and finds their mistakes.

A thread is a greenlet, blocks come one after the other, and everything is deterministic. Memory is
one arena of bytes with gaps between allocations. These are errors:

- an access beyond an allocation, a misaligned one, and one of shared memory beyond its region;
- two threads that meet at one element of shared memory, one of them writing, with no barrier
  between (`Race`); two threads that write one element of global memory in a launch, or one that
  reads what another wrote there;
- threads of a block that wait at different barriers, or at a barrier that others never reach;
- lanes of a warp that meet at different collectives;
- a 32-bit integer that overflows, and a negative one that is divided.

Memory begins as NaN, shared memory with each block. What `copy_async` copies is NaN until
`wait_async` says that it is there. Arithmetic is that of IEEE 754 in the kernel's dtype; products
of `mma` are summed in double and rounded once, where hardware truncates.
"""

from __future__ import annotations

import ctypes
import math
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import reference
from greenlet import getcurrent, greenlet

from fastconv.cuda import build
from fastconv.cuda.kernel import SIZES, Kernel
from fastconv.cuda.launch import Gpu

WARP = 32

#: Where the arena begins: no address of it is one of the host's, nor fits 32 bits.
BASE = 0x7F_0000_0000_00
GAP = 256

LETTERS = {"f16": "H", "bf16": "H", "f32": "f", "f64": "d", "u32": "I"}


class Fault(RuntimeError):
    """Something that a GPU would do wrong in silence."""


class Race(Fault):
    """Two threads meet at one element, and which comes first is not said."""


def f32(value: float) -> float:
    return ctypes.c_float(value).value


def bf16_bits(value: float) -> int:
    """Of a float32, rounded to nearest, ties to even."""
    bits = struct.unpack("I", struct.pack("f", f32(value)))[0]
    if value != value:
        return 0x7FFF
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def tf32(value: float) -> float:
    """What a tensor core reads of a float32: its upper 19 bits."""
    bits = struct.unpack("I", struct.pack("f", value))[0] & 0xFFFFE000
    return struct.unpack("f", struct.pack("I", bits))[0]


class Memory:
    """A device's memory."""

    def __init__(self, size: int = 1 << 24) -> None:
        self.bytes = bytearray(b"\xff") * size
        self.alive = bytearray(size)
        whole = memoryview(self.bytes)
        self.views = {dtype: whole.cast("B").cast(letter) for dtype, letter in LETTERS.items()}
        self.end = GAP
        self.sizes: dict[int, int] = {}

    def allocate(self, nbytes: int) -> int:
        start = self.end
        self.end += -(-max(1, nbytes) // GAP) * GAP + GAP
        if self.end > len(self.bytes):
            raise MemoryError("the emulated device is full")
        self.alive[start : start + nbytes] = b"\x01" * nbytes
        self.sizes[BASE + start] = nbytes
        return BASE + start

    def free(self, pointer: int) -> None:
        start, nbytes = pointer - BASE, self.sizes.pop(pointer)
        self.alive[start : start + nbytes] = bytes(nbytes)

    def at(self, pointer: int, nbytes: int) -> int:
        """Place in `bytes` of an access; every byte of it must be allocated."""
        start = pointer - BASE
        if start < 0 or b"\x00" in self.alive[start : start + nbytes] or start >= self.end:
            raise Fault(f"access of {nbytes} bytes at {pointer:#x}, which is not allocated")
        if start % nbytes:
            raise Fault(f"access of {nbytes} bytes at {pointer:#x}, which is misaligned")
        return start

    def array(self, pointer: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """A window of the host's on C-ordered elements."""
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        start = pointer - BASE
        return np.frombuffer(self.bytes, dtype, count, start).reshape(shape)


class Emulator:
    """Runs launches of one kernel; each public method makes an operation of `intrinsics.py`."""

    def __init__(self, kernel: Kernel, memory: Memory) -> None:
        self.kernel, self.memory = kernel, memory
        self.current = 0
        self.block = (0, 0, 0)
        self.function = build.function(kernel, self)
        waits = {"sync", "mma"} | {name for name in vars(type(self)) if name.startswith("warp_")}
        self.waits = any(made[0] in waits for _, made in kernel.operations)

    def launch(self, grid: tuple[int, int, int], shared_bytes: int, values: Any) -> None:
        self.writers: dict[int, Any] = {}
        for z in range(grid[2]):
            for y in range(grid[1]):
                for x in range(grid[0]):
                    self.block = (x, y, z)
                    self._begin(shared_bytes)
                    self._run(values)

    def _begin(self, shared_bytes: int) -> None:
        self.epoch = 0
        size = -(-shared_bytes // 16) * 16
        self.shared_bytes = bytearray(b"\xff") * size
        whole = memoryview(self.shared_bytes)
        self.shared_views = {dtype: whole.cast("B").cast(a) for dtype, a in LETTERS.items()}
        self.regions: dict[int, int] = {}
        self.written: dict[int, tuple[int, int]] = {}
        self.read: dict[int, tuple[int, set[int]]] = {}
        self.open: dict[int, list[Any]] = {}
        self.groups: dict[int, list[list[Any]]] = {}
        self.answers: dict[int, Any] = {}

    # ---- threads -----------------------------------------------------------------------------

    def _run(self, values: Any) -> None:
        count = self.kernel.threads
        if not self.waits:
            for self.current in range(count):
                self.function(*values)
            return
        self.main = getcurrent()
        threads = [greenlet(self.function) for _ in range(count)]
        state: list[Any] = ["ready"] * count
        while True:
            moved = False
            for t, thread in enumerate(threads):
                if state[t] == "ready":
                    self.current, moved = t, True
                    why = thread.switch(*values) if not thread else thread.switch()
                    state[t] = "done" if thread.dead else why
            if all(s == "done" for s in state):
                break
            for first in range(0, count, WARP):
                lanes = range(first, min(first + WARP, count))
                if all(isinstance(state[t], tuple) and state[t][0] == "warp" for t in lanes):
                    self._meet(lanes, state)
                    moved = True
            waiting = [s for s in state if isinstance(s, tuple) and s[0] == "barrier"]
            if len(waiting) == count:
                lines = sorted({s[1] for s in waiting})
                if len(lines) > 1:
                    raise Fault(f"threads of a block wait at different barriers, lines {lines}")
                self.epoch += 1
                state = ["ready"] * count
            elif not moved:
                done = state.count("done")
                raise Fault(f"{len(waiting)} of {count} threads wait at a barrier, {done} are done")
        if any(self.groups.values()) or any(self.open.values()):
            late = [g for groups in self.groups.values() for g in groups if g]
            if late or any(self.open.values()):
                raise Fault("a block ends before its asynchronous copies are there")

    def _meet(self, lanes: range, state: list[Any]) -> None:
        kinds = {state[t][1] for t in lanes}
        if len(kinds) > 1 or len(lanes) < WARP:
            raise Fault(f"lanes of a warp meet at different collectives: {sorted(kinds)}")
        results = state[lanes[0]][2]([state[t][3] for t in lanes])
        for t, result in zip(lanes, results):
            self.answers[t] = result
            state[t] = "ready"

    def collective(self, kind: str, together: Callable[[Any], Any], payload: Any) -> Any:
        self.main.switch(("warp", kind, together, payload))
        return self.answers[self.current]

    def thread(self) -> Any:
        return lambda: self.current

    def block_x(self) -> Any:
        return lambda: self.block[0]

    def block_y(self) -> Any:
        return lambda: self.block[1]

    def block_z(self) -> Any:
        return lambda: self.block[2]

    def sync(self) -> Any:
        return lambda: self.main.switch(("barrier", sys._getframe(1).f_lineno))

    # ---- integers ----------------------------------------------------------------------------

    @staticmethod
    def _checked(operate: Callable[..., int]) -> Any:
        def checked(*values: int) -> int:
            result = operate(*values)
            if not -(1 << 31) <= result < 1 << 31:
                raise Fault(f"{values} make {result}, which 32 bits do not hold")
            return result

        return lambda self: checked

    @staticmethod
    def _unsigned(operate: Callable[..., int]) -> Any:
        def checked(a: int, b: int) -> int:
            if a < 0 or b < 0:
                raise Fault(f"an operation of unsigned numbers on {a} and {b}")
            return operate(a, b)

        return lambda self: checked

    i32 = _checked(lambda a: a)
    i_add = _checked(lambda a, b: a + b)
    i_sub = _checked(lambda a, b: a - b)
    i_mul = _checked(lambda a, b: a * b)
    i_div = _unsigned(lambda a, b: a // b)
    i_mod = _unsigned(lambda a, b: a % b)
    i_and = _unsigned(lambda a, b: a & b)
    i_shl = _checked(lambda a, b: a << b)
    i_shr = _unsigned(lambda a, b: a >> b)

    def quotient(self) -> Any:
        def quotient(n: int, multiplier: int, shift: int) -> int:
            if not 0 <= n < 1 << 31 or n * multiplier >= 1 << 63:
                raise Fault(f"{n} is divided by a product of more than 63 bits")
            return n * multiplier >> shift

        return quotient

    def inside(self) -> Any:
        return lambda i, n: int(0 <= i < n)

    def edge(self, boundary: str) -> Any:
        return lambda i, n: reference.source(i, n, boundary)

    # ---- global memory -----------------------------------------------------------------------

    def advance(self, dtype: str) -> Any:
        size = SIZES[dtype]
        return lambda pointer, n, stride: pointer + n * stride * size

    def _value(self, view: Any, place: int, dtype: str) -> float:
        value = view[dtype][place // SIZES[dtype]]
        if dtype == "bf16":
            return struct.unpack("f", struct.pack("I", value << 16))[0]
        if dtype == "f16":
            return struct.unpack("e", struct.pack("H", value))[0]
        return value

    def _put(self, view: Any, place: int, dtype: str, value: float) -> None:
        if dtype == "bf16":
            view[dtype][place // 2] = bf16_bits(value)
        elif dtype == "f16":
            with np.errstate(over="ignore"):
                view["f16"][place // 2] = int(np.float16(f32(value)).view(np.uint16))
        else:
            view[dtype][place // SIZES[dtype]] = value

    def load(self, dtype: str) -> Any:
        size = SIZES[dtype]

        def load(pointer: int, index: int) -> float:
            place = self.memory.at(pointer + index * size, size)
            writer = self.writers.get(place)
            if writer is not None and writer != (self.block, self.current):
                raise Race(f"{self.block} {self.current} reads what {writer} wrote")
            return self._value(self.memory.views, place, dtype)

        return load

    def load_if(self, dtype: str) -> Any:
        load = self.load(dtype)
        return lambda pointer, index, ok, other: load(pointer, index) if ok else other

    def store(self, dtype: str) -> Any:
        size = SIZES[dtype]

        def store(pointer: int, index: int, value: float) -> None:
            place = self.memory.at(pointer + index * size, size)
            me = (self.block, self.current)
            if self.writers.setdefault(place, me) != me:
                raise Race(f"{me} and {self.writers[place]} write one element")
            self._put(self.memory.views, place, dtype, value)

        return store

    # ---- shared memory -----------------------------------------------------------------------

    def shared(self, dtype: str, byte: int, count: int) -> Any:
        end = byte + count * SIZES[dtype]

        def shared() -> int:
            if end > len(self.shared_bytes):
                raise Fault(f"shared memory up to byte {end} of {len(self.shared_bytes)}")
            self.regions[byte] = end
            return byte

        return shared

    def _shared_place(self, position: int, index: int, size: int, write: bool) -> int:
        place = position + index * size
        if not 0 <= place <= len(self.shared_bytes) - size:
            raise Fault(f"shared memory at byte {place} of {len(self.shared_bytes)}")
        end = self.regions.get(position)
        if end is not None and not position <= place <= end - size:
            raise Fault(f"element {index} is beyond the region of shared memory at {position}")
        if place % size:
            raise Fault(f"access of {size} bytes of shared memory at {place}, misaligned")
        for granule in range(place >> 1, (place + size) >> 1):
            self._meeting(granule, write)
        return place

    def _meeting(self, granule: int, write: bool) -> None:
        me, epoch = self.current, self.epoch
        writer = self.written.get(granule)
        if writer is not None and writer[0] == epoch and writer[1] != me:
            verb = "writes" if write else "reads"
            raise Race(f"thread {me} {verb} what thread {writer[1]} wrote, no barrier between")
        readers = self.read.get(granule)
        if not write:
            if readers is None or readers[0] != epoch:
                self.read[granule] = (epoch, {me})
            else:
                readers[1].add(me)
            return
        if readers is not None and readers[0] == epoch and readers[1] - {me}:
            other = min(readers[1] - {me})
            raise Race(f"thread {me} writes what thread {other} read, no barrier between")
        self.written[granule] = (epoch, me)

    def load_shared(self, dtype: str) -> Any:
        size = SIZES[dtype]

        def load(position: int, index: int) -> float:
            place = self._shared_place(position, index, size, write=False)
            return self._value(self.shared_views, place, dtype)

        return load

    def store_shared(self, dtype: str) -> Any:
        size = SIZES[dtype]

        def store(position: int, index: int, value: float) -> None:
            place = self._shared_place(position, index, size, write=True)
            self._put(self.shared_views, place, dtype, value)

        return store

    def copy_async(self, dtype: str, count: int) -> Any:
        size = SIZES[dtype] * count

        def copy(position: int, i: int, pointer: int, j: int, ok: int) -> None:
            start = position + i * SIZES[dtype]
            self._shared_place(start, 0, size, write=True)
            end = self.regions.get(position)
            if end is not None and start + size > end:
                raise Fault(f"a copy beyond the region of shared memory at {position}")
            self.shared_bytes[start : start + size] = b"\xff" * size
            source = self.memory.at(pointer + j * SIZES[dtype], size) if ok else None
            self.open.setdefault(self.current, []).append((start, source, size))

        return copy

    def commit_async(self) -> Any:
        def commit() -> None:
            self.groups.setdefault(self.current, []).append(self.open.pop(self.current, []))

        return commit

    def wait_async(self, groups: int) -> Any:
        def wait() -> None:
            queue = self.groups.setdefault(self.current, [])
            while len(queue) > groups:
                for start, source, size in queue.pop(0):
                    self._shared_place(start, 0, size, write=True)
                    data = bytes(size) if source is None else self.memory.bytes[
                        source : source + size
                    ]  # fmt: skip
                    self.shared_bytes[start : start + size] = data

        return wait

    # ---- arithmetic --------------------------------------------------------------------------

    @staticmethod
    def rounding(dtype: str) -> Callable[[float], float]:
        return float if dtype == "f64" else f32

    def zero(self, dtype: str) -> Any:
        return lambda: 0.0

    def fma(self, dtype: str) -> Any:
        if dtype == "f64":
            return lambda x, y, z: x * y + z
        return lambda x, y, z: ctypes.c_float(x * y + z).value  # the product is exact

    def add(self, dtype: str) -> Any:
        rounded = self.rounding(dtype)
        return lambda x, y: rounded(x + y)

    def activate(self, name: str, dtype: str) -> Any:
        rounded = self.rounding(dtype)

        def clamp(x: float, low: float, high: float) -> float:
            x = low if x < low else x
            return high if x > high else x

        def silu(x: float, low: float, high: float) -> float:
            if x == -math.inf:
                return -0.0
            return rounded(x / (1 + math.exp(-x))) if x > -700 else -0.0

        def gelu(x: float, low: float, high: float) -> float:
            return -0.0 if x == -math.inf else rounded(x * math.erfc(-x * 0.5**0.5) / 2)

        return {"clamp": clamp, "silu": silu, "gelu": gelu}[name]


class Driver:
    """`launch.Driver` without a GPU: kernels are not compiled, but emulated."""

    def __init__(self, gpu: Gpu | None = None, devices: int = 1) -> None:
        self.memory = Memory()
        self.facts = gpu or Gpu("emulated", (9, 0), 132, 50 << 20, 227 << 10)
        self.devices = devices
        self.launches: list[tuple[str, tuple[int, int, int], int, int]] = []
        self.streams: set[int] = {0, 1, 2, 7, 8}
        self.followed: list[tuple[int, int]] = []
        self.capturing = False
        self._emulators: dict[Kernel, Emulator] = {}

    def count(self) -> int:
        return self.devices

    def gpu(self, ordinal: int) -> Gpu:
        return self.facts

    def why_not(self) -> str | None:
        return None

    def follow(self, stream: int, earlier: int) -> None:
        assert {stream, earlier} <= self.streams
        self.followed.append((stream, earlier))

    def use(self, ordinal: int) -> None:
        if not 0 <= ordinal < self.devices:
            raise Fault(f"there is no device {ordinal}")

    def load(self, kernel: Kernel, ordinal: int) -> Kernel:
        if self.capturing:
            raise Fault("a kernel is loaded while a graph is captured")
        if kernel.shared_bytes > self.facts.shared:
            raise Fault(f"{kernel.shared_bytes} bytes of shared memory")
        assert kernel.threads <= 1024 and kernel.threads % WARP == 0
        return kernel

    def launch(
        self, handle: Kernel, ordinal: int, grid: tuple[int, int, int], threads: int,
        shared_bytes: int, stream: int, extra: int,
    ) -> None:  # fmt: skip
        self.use(ordinal)
        assert threads == handle.threads and stream in self.streams
        pointers = (ctypes.c_void_p * 5).from_address(extra)
        assert (pointers[0], pointers[2], pointers[4]) == (1, 2, None)
        size = ctypes.c_size_t.from_address(pointers[3]).value
        assert size == struct.calcsize(handle.format)
        values = struct.unpack(handle.format, ctypes.string_at(pointers[1], size))
        self.launches.append((handle.name, grid, ordinal, stream))
        if handle not in self._emulators:
            self._emulators[handle] = Emulator(handle, self.memory)
        self._emulators[handle].launch(grid, shared_bytes, values)

    def allocate(self, nbytes: int, ordinal: int) -> int:
        if self.capturing:
            raise Fault("memory is allocated while a graph is captured")
        self.use(ordinal)
        return self.memory.allocate(nbytes)

    def free(self, pointer: int) -> None:
        self.memory.free(pointer)

    def upload(self, pointer: int, source: int, nbytes: int) -> None:
        start = pointer - BASE
        self.memory.bytes[start : start + nbytes] = ctypes.string_at(source, nbytes)

    def download(self, target: int, pointer: int, nbytes: int) -> None:
        start = pointer - BASE
        data = bytes(self.memory.bytes[start : start + nbytes])
        ctypes.memmove(target, data, nbytes)

    def wait(self, stream: int) -> None:
        if self.capturing:
            raise Fault("a stream is waited for while a graph is captured")
