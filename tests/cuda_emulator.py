"""A GPU in NumPy: it runs kernels of `fastconv.cuda` a block at a time, and finds their mistakes.

The threads of a block go through the kernel side by side: a variable is an array with an element a
thread, a branch goes both ways and each way is taken by a part of the threads (`_Lanes` rewrites
the kernel's text so). Blocks come one after the other, and everything is deterministic. Memory is
one arena of bytes with gaps between allocations. These are errors:

- an access beyond an allocation, a misaligned one, and one of shared memory beyond its region;
- two threads that meet at one element of shared memory, one of them writing, with no barrier
  between (`Race`); two threads that write one element of global memory in a launch, or one that
  reads what another wrote there;
- a barrier that only some threads of a block come to, and a collective of a part of a warp;
- a 32-bit integer that overflows, and a negative one that is divided.

Memory begins as NaN, shared memory with each block. What `copy_async` copies is NaN until
`wait_async` says that it is there. Arithmetic is that of IEEE 754 in the kernel's dtype; products
of `mma` are as `mma_products` has them.
"""

from __future__ import annotations

import ast
import ctypes
import functools
import linecache
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import reference
import scipy.special

from fastconv._plan import store
from fastconv._problem import numpy_dtype
from fastconv.cuda.kernel import SIZES, Kernel
from fastconv.cuda.launch import Gpu

WARP = 32

#: Where the arena begins: no address of it is one of the host's, nor fits 32 bits.
BASE = 0x7F_0000_0000_00
GAP = 256

#: How elements lie in memory, and what they are computed in.
INTEGERS = ("bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64")
STORED = {"f16": np.float16, "bf16": np.uint16, "f32": np.float32, "f64": np.float64,
          **{name: numpy_dtype(name).type for name in INTEGERS}}  # fmt: skip
COMPUTED = {"f16": np.float32, "bf16": np.float32, "f32": np.float32, "f64": np.float64,
            **{name: np.int64 if SIZES[name] == 8 else np.int32 for name in INTEGERS}}  # fmt: skip

#: Several threads, where one could be named; and none.
MANY, NOBODY = -2, -1

#: An integer that no thread may use: one of another branch.
LOST = -559038737


class Fault(RuntimeError):
    """Something that a GPU would do wrong in silence."""


class Race(Fault):
    """Two threads meet at one element, and which comes first is not said."""


def widened(stored: Any, dtype: str, to: str = "") -> Any:
    if dtype == "bf16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(COMPUTED[to or dtype])


def cut(values: Any) -> Any:
    """What a tensor core reads of float32 as TF32: the upper 19 bits."""
    return (np.asarray(values, np.float32).view(np.uint32) & 0xFFFFE000).view(np.float32)


def mma_products(a: Any, b: Any, c: Any) -> Any:
    """c + a @ b, (..., 16, k) by (..., k, 8), of TF32 or less, as badly as hardware was seen to.

    Four products at a time are added to c: exact ones, each cut to 24 bits of the largest, and the
    sum cut to float32. Fasi, Higham, Mikaitis and Pranesh, Numerical behavior of NVIDIA tensor
    cores, PeerJ Computer Science 7:e330, 2021; some have up to 3 bits more.
    """
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b, c = (np.broadcast_to(v, (*shape, *v.shape[-2:])) for v in (cut(a), cut(b), c))
    # zeros by finite numbers change nothing: most of a small problem's tiles
    counts = [np.any(v, (-2, -1)) for v in (a, b)]
    lasting = [~np.isfinite(v).all((-2, -1)) for v in (a, b)]
    some = (counts[0] | lasting[1]) & (counts[1] | lasting[0])
    whole = c.copy()
    whole[some] = _mma_products(*(v[some].astype(np.float64) for v in (a, b, c)))
    return whole


def _mma_products(a: Any, b: Any, c: Any) -> Any:
    for first in range(0, a.shape[-1], 4):
        left, right = a[..., first : first + 4], b[..., first : first + 4, :]
        products = left[..., :, None, :] * right[..., None, :, :].swapaxes(-1, -2)
        addends = np.concatenate([products, c[..., None]], -1)
        largest = abs(addends).max(-1, keepdims=True)
        plain = np.isfinite(largest)
        unit = np.ldexp(1.0, np.frexp(np.where(plain, largest, 0))[1] - 24)
        sums = np.where(plain, np.trunc(addends / unit) * unit, addends).sum(-1)
        near = sums.astype(np.float32)
        beyond = (abs(near) > abs(sums)) & np.isfinite(near)
        c = np.where(beyond, np.nextafter(near, np.float32(0)), near).astype(np.float64)
    return c.astype(np.float32)


def narrowed(values: Any, dtype: str) -> Any:
    """Rounded to nearest, ties to even; to integers, as `fastconv._plan.store` has it."""
    values = np.asarray(values)
    if dtype in INTEGERS and values.dtype.kind == "f":
        kept = np.empty(values.shape, STORED[dtype])
        store(values, kept)
        return kept
    if dtype != "bf16":
        return values.astype(STORED[dtype])
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16)


class Memory:
    """A device's memory."""

    def __init__(self, size: int = 1 << 24) -> None:
        self.bytes = np.full(size, 0xFF, np.uint8)
        self.alive = np.zeros(size, bool)
        self.end = GAP
        self.sizes: dict[int, int] = {}

    def allocate(self, nbytes: int) -> int:
        start = self.end
        self.end += -(-max(1, nbytes) // GAP) * GAP + GAP
        if self.end > len(self.bytes):
            raise MemoryError("the emulated device is full")
        self.alive[start : start + nbytes] = True
        self.sizes[BASE + start] = nbytes
        return BASE + start

    def free(self, pointer: int) -> None:
        start, nbytes = pointer - BASE, self.sizes.pop(pointer)
        self.alive[start : start + nbytes] = False

    def at(self, pointers: Any, nbytes: int) -> Any:
        """Places in `bytes` of accesses; every byte of each must be allocated."""
        starts = pointers - BASE
        lost = (starts < 0) | (starts + nbytes > self.end)
        within = np.where(lost, 0, starts)
        lost |= ~(self.alive[within] & self.alive[within + nbytes - 1])
        if lost.any():
            first = int(pointers[lost][0])
            raise Fault(f"access of {nbytes} bytes at {first:#x}, which is not allocated")
        if (starts % nbytes).any():
            first = int(pointers[starts % nbytes != 0][0])
            raise Fault(f"access of {nbytes} bytes at {first:#x}, which is misaligned")
        return starts

    def array(self, pointer: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """A window of the host's on C-ordered elements."""
        dtype = np.dtype(dtype)
        start, count = pointer - BASE, math.prod(shape)
        return self.bytes[start : start + count * dtype.itemsize].view(dtype).reshape(shape)


class _Lanes(ast.NodeTransformer):
    """A kernel's text for all threads at once: both ways of a branch, and what each keeps."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.stored: set[str] = set()
        self.generic_visit(node)
        named = sorted(self.stored - {a.arg for a in node.args.args})
        node.body = [*ast.parse("".join(f"{name} = None\n" for name in named)).body, *node.body]
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        assert isinstance(node.target, ast.Name)
        self.stored.add(node.target.id)
        node.body = [one for line in node.body for one in self._lines(line)]
        return node

    def _lines(self, line: ast.stmt) -> list[ast.stmt]:
        made = self.visit(line)
        return made if isinstance(made, list) else [made]

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        (target,) = node.targets
        assert isinstance(target, ast.Name)
        self.stored.add(target.id)
        arguments = [node.value, ast.Name(target.id, ast.Load())]
        node.value = ast.Call(ast.Name("kept", ast.Load()), arguments, [])
        return node

    def visit_If(self, node: ast.If) -> list[ast.stmt]:
        self.generic_visit(node)
        made = ast.parse(
            "enter()\nif some():\n    pass\nother()\nif some():\n    pass\nleave()"
        ).body
        made[0].value.args = [node.test]  # type: ignore[attr-defined]
        made[1].body = node.body  # type: ignore[attr-defined]
        made[3].body = node.orelse or made[3].body  # type: ignore[attr-defined]
        return made

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        raise SyntaxError("a kernel's branch is a statement")

    visit_BoolOp = visit_While = visit_Return = visit_IfExp


@functools.lru_cache(512)
def code_of(kernel: Kernel) -> Any:
    """The kernel for all threads of a block."""
    tree = _Lanes().visit(ast.parse(kernel.source))
    source, file = ast.unparse(tree), f"<{kernel.name}, emulated, {hash(kernel) & 0xFFFFFFFF:08x}>"
    # so that an error shows the line that it is in
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    return compile(source, file, "exec")


class Emulator:
    """Runs launches of one kernel; each public method makes an operation of `intrinsics.py`."""

    def __init__(self, kernel: Kernel, memory: Memory) -> None:
        self.kernel, self.memory = kernel, memory
        self.count = kernel.threads
        self.lanes = np.arange(self.count)
        space = {"enter": self._enter, "other": self._other, "leave": self._leave,
                 "some": self._some, "kept": self._kept, "range": self._range}  # fmt: skip
        for name, (operation, *constants) in kernel.operations:
            space[name] = getattr(self, operation)(*constants)
        exec(code_of(kernel), space)
        self.function = space[kernel.name]
        # bytes of an element of shared memory, of which no part is met by itself
        sizes = [SIZES[made[1]] for _, made in kernel.operations if made[0] == "shared"]
        self.grain = min(sizes, default=2)
        # of global memory, by shifts of its addresses: bytes where a kernel writes such elements
        written = [SIZES[made[1]] for _, made in kernel.operations if made[0] == "store"]
        self.shift = int(min(written, default=2) > 1)

    def launch(self, grid: tuple[int, int, int], shared_bytes: int, values: Any) -> None:
        # by bytes or pairs of them, who wrote: number of the block times threads, and thread
        self.writers = np.full(self.memory.end >> self.shift, NOBODY)
        with np.errstate(all="ignore"):
            for number, (z, y, x) in enumerate(np.ndindex(grid[::-1])):
                self.block, self.me = (x, y, z), number * self.count + self.lanes
                self._begin(shared_bytes)
                self.function(*values)
                if self.copies:
                    raise Fault("a block ends before its asynchronous copies are there")

    def _begin(self, shared_bytes: int) -> None:
        self.epoch = 0
        size = -(-shared_bytes // 16) * 16
        self.shared_bytes = np.full(size, 0xFF, np.uint8)
        self.regions: dict[int, int] = {}
        # by elements: the barrier interval of the last write and of the last read, and whose
        count = size // self.grain
        self.written, self.writer = np.full(count, -1), np.full(count, NOBODY)
        self.read, self.reader = np.full(count, -1), np.full(count, NOBODY)
        # asynchronous copies on their way: [lanes, to, from or -1, bytes, group of each lane's]
        self.copies: list[list[Any]] = []
        self.groups = np.zeros(self.count, np.int64)  # that each thread has committed
        self.stack: list[tuple[Any, Any]] = []
        self._set(np.ones(self.count, bool))

    # ---- threads side by side ----------------------------------------------------------------

    def _set(self, mask: Any) -> None:
        """Which threads are in the branch that is being taken."""
        self.mask, self.full = mask, bool(mask.all())
        self.active = self.lanes[mask]

    def _enter(self, test: Any) -> None:
        outer = self.mask
        inner = outer & test
        self.stack.append((outer, outer & ~inner))
        self._set(inner)

    def _other(self) -> None:
        self._set(self.stack[-1][1])

    def _leave(self) -> None:
        self._set(self.stack.pop()[0])

    def _some(self) -> bool:
        return bool(len(self.active))

    def _kept(self, new: Any, old: Any) -> Any:
        """What a variable is after threads of the branch were given `new`."""
        if self.full or old is None or new is old:
            return new
        return np.where(self.mask, new, old)

    def _range(self, *bounds: Any) -> Any:
        for bound in bounds:
            if not isinstance(bound, int):
                raise Fault("threads of a block go through a loop in different numbers")
        return range(*bounds)

    def _every(self, value: Any) -> Any:
        """A value of each thread of the branch."""
        return np.broadcast_to(value, self.count)[self.mask]

    def _spread(self, values: Any, blank: Any = np.nan) -> Any:
        """The converse; threads of other branches are given what they must not use."""
        if self.full:
            return values
        spread = np.full(self.count, blank, values.dtype)
        spread[self.mask] = values
        return spread

    def thread(self) -> Any:
        return lambda: self.lanes

    def block_x(self) -> Any:
        return lambda: self.block[0]

    def block_y(self) -> Any:
        return lambda: self.block[1]

    def block_z(self) -> Any:
        return lambda: self.block[2]

    def sync(self) -> Any:
        def sync() -> None:
            if not self.full:
                come = len(self.active)
                raise Fault(f"{come} of {self.count} threads come to a barrier")
            self.epoch += 1

        return sync

    # ---- integers ----------------------------------------------------------------------------

    def _first(self, wrong: Any, values: Any) -> tuple[int, ...] | None:
        """Of the values of the first thread, in the branch, that is wrong."""
        if isinstance(wrong, bool | np.bool_):
            if not wrong:
                return None
            wrong = np.full(self.count, wrong)
        wrong = wrong & self.mask
        if not wrong.any():
            return None
        lane = int(np.flatnonzero(wrong)[0])
        return tuple(int(np.broadcast_to(v, self.count)[lane]) for v in values)

    def _checked(operate: Callable[..., Any]) -> Any:  # type: ignore[misc]
        def make(self: Emulator) -> Any:
            def checked(*values: Any) -> Any:
                result = operate(*values)
                bad = self._first((result < -(1 << 31)) | (result >= 1 << 31), values)
                if bad is not None:
                    raise Fault(f"{bad} make {operate(*bad)}, which 32 bits do not hold")
                return result

            return checked

        return make

    def _unsigned(operate: Callable[..., Any]) -> Any:  # type: ignore[misc]
        def make(self: Emulator) -> Any:
            def checked(a: Any, b: Any) -> Any:
                bad = self._first((a < 0) | (b < 0), (a, b))
                if bad is not None:
                    raise Fault(f"an operation of unsigned numbers on {bad[0]} and {bad[1]}")
                return operate(a, b)

            return checked

        return make

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
        def quotient(n: Any, multiplier: int, shift: int) -> Any:
            most = min((1 << 31) - 1, ((1 << 63) - 1) // multiplier)
            bad = self._first((n < 0) | (n > most), (n,))
            if bad is not None:
                raise Fault(f"{bad[0]} is divided by a product of more than 63 bits")
            return n * multiplier >> shift

        return quotient

    def inside(self) -> Any:
        return lambda i, n: ((i >= 0) & (i < n)) * 1

    def given(self) -> Any:
        return lambda pointer: int(pointer != 0)

    def edge(self, boundary: str) -> Any:
        known: dict[tuple[int, int], int] = {}

        def edge(i: Any, n: int) -> Any:
            places = np.broadcast_to(i, self.count)
            for one in set(places[self.mask].tolist()):
                if (one, n) not in known:
                    known[one, n] = reference.source(one, n, boundary)
            return np.array([known.get((one, n), 0) for one in places.tolist()])

        return edge

    # ---- global memory -----------------------------------------------------------------------

    def advance(self, dtype: str) -> Any:
        size = SIZES[dtype]
        return lambda pointer, n, stride: pointer + n * stride * size

    def load(self, dtype: str, constant: bool = True, to: str = "") -> Any:
        size = SIZES[dtype]

        def load(pointer: Any, index: Any) -> Any:
            places = self.memory.at(self._every(pointer + index * size), size)
            writers = self.writers[places >> self.shift]
            wrong = writers != NOBODY
            if not constant:
                wrong &= writers != self.me[self.mask]
            if wrong.any():
                lane = int(self.active[wrong][0])
                block, thread = divmod(int(writers[wrong][0]), self.count)
                raise Race(f"{self.block} {lane} reads what thread {thread} of block {block} wrote")
            stored = self.memory.bytes.view(STORED[dtype])[places // size]
            found = widened(stored, dtype, to)
            return self._spread(found, np.nan if found.dtype.kind == "f" else LOST)

        return load

    def load_if(self, dtype: str, to: str = "") -> Any:
        load = self.load(dtype, True, to)

        def load_if(pointer: Any, index: Any, ok: Any, other: Any) -> Any:
            self._enter(ok != 0)
            found = load(pointer, index) if len(self.active) else other
            found = self._kept(found, other)
            self._leave()
            return np.asarray(found, COMPUTED[to or dtype])

        return load_if

    def pair_if(self, dtype: str) -> Any:
        load = self.load_if("bf16")  # 16 bits in the upper half of a float32, whatever they are

        def half(pointer: Any, index: Any, ok: Any) -> Any:
            return load(pointer, index, ok, np.float32(0)).view(np.uint32) >> 16

        def pair_if(pointer: Any, i: Any, j: Any, first: Any, second: Any) -> Any:
            return (half(pointer, i, first) | half(pointer, j, second) << 16).view(np.float32)

        return pair_if

    def store(self, dtype: str, of: str = "") -> Any:
        size = SIZES[dtype]

        def store(pointer: Any, index: Any, value: Any) -> None:
            places = self.memory.at(self._every(pointer + index * size), size)
            mine = self.me[self.mask]
            before = self.writers[places >> self.shift]
            self.writers[places >> self.shift] = mine
            # of several threads that write one element now, the last is noted
            wrong = (before != NOBODY) & (before != mine)
            wrong |= self.writers[places >> self.shift] != mine
            if wrong.any():
                raise Race(f"{self.block} {self.active[wrong][0]} and another write one element")
            self.memory.bytes.view(STORED[dtype])[places // size] = narrowed(
                self._every(value), dtype
            )

        return store

    def finish(self, activation: str, dtype: str) -> Any:
        load, store = self.load(dtype, False), self.store(dtype)
        add, activate = self.add(dtype), self.activate(activation, dtype)

        def finish(
            total: Any, bias: Any, rs: Any, at_r: Any, has: int, ys: Any, at_y: Any, ok: Any,
            low: Any, high: Any,
        ) -> None:  # fmt: skip
            self._enter(ok != 0)
            if len(self.active):
                residual = load(rs, at_r) if has else 0
                store(ys, at_y, activate(add(add(total, bias), residual), low, high))
            self._leave()

        return finish

    # ---- shared memory -----------------------------------------------------------------------

    def shared(self, dtype: str, byte: int, count: int) -> Any:
        end = byte + count * SIZES[dtype]

        def shared() -> int:
            if end > len(self.shared_bytes):
                raise Fault(f"shared memory up to byte {end} of {len(self.shared_bytes)}")
            self.regions[byte] = end
            return byte

        return shared

    def _shared_places(self, position: int, elements: Any, size: int, nbytes: int) -> Any:
        """Bytes at which accesses of so many bytes begin; `elements` has a row a thread."""
        places = position + elements * size
        begin, end = position, self.regions.get(position, len(self.shared_bytes))
        if places.size and (places.min() < begin or places.max() > end - nbytes):
            low, high = int(places.min()), int(places.max())
            raise Fault(
                f"shared memory at bytes {low} to {high + nbytes}, beyond its region of bytes"
                f" {begin} to {end}"
            )
        if (places % nbytes).any():
            raise Fault(f"access of {nbytes} bytes of shared memory, misaligned")
        return places

    def _meet_at(self, places: Any, nbytes: int, lanes: Any, write: bool) -> None:
        """Threads `lanes` read or write so many bytes at each of their places, a row each."""
        grains = places.reshape(len(lanes), -1, 1) // self.grain + np.arange(nbytes // self.grain)
        me = np.broadcast_to(lanes[:, None, None], grains.shape).ravel()
        at = grains.ravel()
        verb = "writes" if write else "reads"
        wrong = (self.written[at] == self.epoch) & (self.writer[at] != me)
        if wrong.any():
            other = self.writer[at][wrong][0]
            raise Race(
                f"thread {me[wrong][0]} {verb} what thread {other} wrote, no barrier between"
            )
        others = (self.read[at] == self.epoch) & (self.reader[at] != me)
        if not write:
            self.read[at], self.reader[at] = self.epoch, me
            self.reader[at[others | (self.reader[at] != me)]] = MANY
            return
        if others.any():
            other = self.reader[at][others][0]
            raise Race(
                f"thread {me[others][0]} writes what thread {other} read, no barrier between"
            )
        self.written[at], self.writer[at] = self.epoch, me
        wrong = self.writer[at] != me
        if wrong.any():
            raise Race(f"thread {me[wrong][0]} writes what another writes, no barrier between")

    def load_shared(self, dtype: str) -> Any:
        size = SIZES[dtype]

        def load(position: int, index: Any) -> Any:
            places = self._shared_places(position, self._every(index), size, size)
            self._meet_at(places, size, self.active, write=False)
            stored = self.shared_bytes.view(STORED[dtype])[places // size]
            return self._spread(widened(stored, dtype))

        return load

    def store_shared(self, dtype: str) -> Any:
        size = SIZES[dtype]

        def store(position: int, index: Any, value: Any) -> None:
            places = self._shared_places(position, self._every(index), size, size)
            self._meet_at(places, size, self.active, write=True)
            self.shared_bytes.view(STORED[dtype])[places // size] = narrowed(
                self._every(value), dtype
            )

        return store

    def copy_async(self, dtype: str, count: int) -> Any:
        one, size = SIZES[dtype], SIZES[dtype] * count

        def copy(position: int, i: Any, pointer: Any, j: Any, ok: Any) -> None:
            to = self._shared_places(position, self._every(i), one, size)
            self._meet_at(to, size, self.active, write=True)
            self.shared_bytes[to[:, None] + np.arange(size)] = 0xFF
            ok = self._every(ok) != 0
            source = np.full(len(to), -1)
            source[ok] = self.memory.at(self._every(pointer + j * one)[ok], size)
            self.copies.append([self.active, to, source, size, None])

        return copy

    def commit_async(self) -> Any:
        def commit() -> None:
            for copies in self.copies:
                lanes, group = copies[0], copies[4]
                fresh = self.mask[lanes] & (True if group is None else group < 0)
                copies[4] = np.where(fresh, self.groups[lanes], -1 if group is None else group)
            self.groups[self.mask] += 1

        return commit

    def wait_async(self, groups: int) -> Any:
        def wait() -> None:
            waiting, self.copies = self.copies, []
            for lanes, to, source, size, group in waiting:
                there = np.zeros(len(lanes), bool)
                if group is not None:
                    there = self.mask[lanes] & (group >= 0) & (group < self.groups[lanes] - groups)
                if there.any():
                    self._meet_at(to[there], size, lanes[there], write=True)
                    data = self.memory.bytes[source[there, None] + np.arange(size)]
                    data[source[there] < 0] = 0
                    self.shared_bytes[to[there, None] + np.arange(size)] = data
                if not there.all():
                    late = None if group is None else group[~there]
                    self.copies.append([lanes[~there], to[~there], source[~there], size, late])

        return wait

    # ---- arithmetic --------------------------------------------------------------------------

    def zero(self, dtype: str) -> Any:
        return lambda: COMPUTED[dtype](0)

    def fma(self, dtype: str) -> Any:
        kind = COMPUTED[dtype]
        if dtype in INTEGERS:
            return lambda x, y, z: np.add(np.multiply(x, y, dtype=kind), z, dtype=kind)

        def fma(x: Any, y: Any, z: Any) -> Any:
            # in double: of float32, the product is exact
            return np.add(np.multiply(x, y, dtype=np.float64), z, dtype=np.float64).astype(kind)

        return fma

    def add(self, dtype: str) -> Any:
        return lambda x, y: np.add(x, y, dtype=COMPUTED[dtype])

    def activate(self, name: str, dtype: str) -> Any:
        def clamp(x: Any, low: float, high: float) -> Any:
            x = np.where(x < low, low, x)
            return np.where(x > high, high, x)

        def silu(x: Any, low: float, high: float) -> Any:
            x = np.asarray(x, np.float64)
            return np.where(x > -700, x / (1 + np.exp(-x)), np.where(np.isnan(x), x, -0.0))

        def gelu(x: Any, low: float, high: float) -> Any:
            x = np.asarray(x, np.float64)
            return np.where(x == -np.inf, -0.0, x * scipy.special.erfc(-x * 0.5**0.5) / 2)

        operate = {"clamp": clamp, "silu": silu, "gelu": gelu}[name]
        return lambda x, low, high: operate(x, low, high).astype(COMPUTED[dtype])

    # ---- tiles of sums: an array of (sums of a thread, threads) -------------------------------

    def _gather(self, position: int, elements: Any, dtype: str, nbytes: int) -> Any:
        """Shared memory at (threads, ...) elements, each the first of `nbytes` that are loaded."""
        size, shape = SIZES[dtype], elements.shape
        flat = elements.reshape(self.count, -1)
        places = self._shared_places(position, flat, size, nbytes)
        self._meet_at(places, nbytes, self.lanes, write=False)
        view = self.shared_bytes.view(STORED[dtype])
        found = view[(places // size)[..., None] + np.arange(nbytes // size)]
        return found.reshape(*shape, nbytes // size)

    def _together(self) -> None:
        if not self.full:
            raise Fault(f"{len(self.active)} of {self.count} threads make a step of a tile")

    def zeros(self, dtype: str, count: int) -> Any:
        return lambda: np.zeros((count, self.count), COMPUTED[dtype])

    def tile_step(self, dtype: str, m: int, n: int, k: int, quads_m: int, quads_n: int) -> Any:
        lanes = 16 // SIZES[dtype]  # elements of a load

        def loads(width: int, count: int) -> Any:
            rows, apart = np.arange(k)[:, None, None] * width, width // count
            return rows + np.arange(count)[:, None] * apart + np.arange(0, 4, lanes)

        of_a, of_b = loads(m, quads_m), loads(n, quads_n)
        kind = COMPUTED[dtype]

        def step(sums: Any, a: int, i: Any, b: int, j: Any) -> Any:
            self._together()
            left = self._gather(a, i[:, None, None, None] + of_a, dtype, 16)
            right = self._gather(b, j[:, None, None, None] + of_b, dtype, 16)
            left, right = (v.reshape(self.count, k, -1).T.astype(np.float64) for v in (left, right))
            sums = sums.reshape(len(left), len(right), self.count)
            for row in range(k):
                sums = (sums + left[:, None, row] * right[None, :, row]).astype(kind)
            return sums.reshape(-1, self.count)

        return step

    def totals(self, do: str, dtype: str, count: int, threads: int) -> Any:
        size = SIZES[dtype]

        def work(sums: Any, position: int, thread: Any) -> Any:
            self._together()
            own = thread[:, None] + np.arange(count) * threads
            places = self._shared_places(position, own, size, size)
            self._meet_at(places, size, self.lanes, write=do != "add")
            memory = self.shared_bytes.view(STORED[dtype])
            places = (places // size).T
            if do == "add":
                return sums + memory[places]
            memory[places] = 0 if do == "clear" else memory[places] + sums
            return np.zeros_like(sums)

        return work

    # ---- transforms: tuples are arrays of (values, threads), too -----------------------------

    def converted(self, dtype: str, to: str) -> Any:
        return lambda x: np.asarray(x).astype(COMPUTED[to])

    def gathered(self, dtype: str, count: int) -> Any:
        def gathered(*values: Any) -> Any:
            assert len(values) == count
            each = [np.broadcast_to(v, self.count) for v in values]
            assert all(v.dtype == COMPUTED[dtype] for v in each)
            return np.stack(each)

        return gathered

    def transform(self, dtype: str, matrix: Any) -> Any:
        kind, fma = COMPUTED[dtype], self.fma(dtype)

        def dot(row: Any, values: Any) -> Any:
            total = None
            for factor, value in zip(row, values):
                if factor != 0:
                    factor = kind(factor)
                    total = factor * value if total is None else fma(factor, value, total)
            return total

        def transform(values: Any) -> Any:
            n = len(matrix[0])
            v = values.reshape(n, n, -1)
            half = [dot(row, v) for row in matrix]
            return np.concatenate([[dot(row, line) for row in matrix] for line in half])

        return transform

    def magnitude(self, dtype: str) -> Any:
        return abs

    def larger(self, dtype: str) -> Any:
        return np.maximum

    def unclear(self, dtype: str) -> Any:
        return lambda size, limit: ~(size > limit) * 1

    def doubtful(self, dtype: str, count: int) -> Any:
        def doubtful(values: Any, limit: Any) -> Any:
            bits = (~(abs(values) > limit)) * (1 << np.arange(count))[:, None]
            return np.where(limit != 0, bits.sum(0), 0)

        return doubtful

    def placed(self, dtype: str, count: int) -> Any:
        def placed(values: Any, i: int, value: Any) -> Any:
            made = values.copy()
            made[i] = value
            return made

        return placed

    # ---- tensor cores ------------------------------------------------------------------------

    def tf32(self) -> Any:
        def tf32(x: Any) -> Any:
            bits = np.asarray(x, np.float32).view(np.uint32)
            up = np.where(abs(x) < np.float32(float.fromhex("0x1.ffep127")), 0x1000, 0)
            return cut((bits + up.astype(np.uint32)).view(np.float32))

        return tf32

    def rest(self) -> Any:
        tf32 = self.tf32()
        return lambda x: tf32(np.asarray(x - tf32(x), np.float32))

    def mma_step(
        self, dtype: str, k: int, pitch: int, tiles_m: int, tiles_n: int, a_line: int, split: int
    ) -> Any:
        blocks, warps = np.arange(k // 8), self.count // WARP
        of_a = blocks[:, None] * a_line + np.arange(tiles_m) * 128
        of_b = (8 * blocks[:, None, None] + np.array([0, 4])) * pitch
        of_b = of_b + 8 * np.arange(tiles_n)[:, None]
        lane = np.arange(WARP)
        g, t = lane // 4, lane % 4
        rounded = self.tf32() if dtype == "f32" else lambda x: x

        def channels(words: Any, axis: int) -> Any:
            """Of two in each word, the lower half first."""
            if dtype == "f32":
                return words
            bits = np.moveaxis(words, axis, -1).copy().view(np.uint16)
            return np.moveaxis(widened(bits.view(STORED[dtype]), dtype), -1, axis)

        def left(a: int, i: Any) -> Any:
            """(blocks, warps, tiles of m, 1, 16, 8)."""
            values = self._gather(a, i[:, None, None] + of_a, "f32", 16)
            values = values.reshape(warps, WARP, len(blocks), tiles_m, 4)
            made = np.empty((len(blocks), warps, tiles_m, 1, 16, 8), np.float32)
            for r in range(4):
                of_lanes = values[..., r].transpose(2, 0, 3, 1)
                made[..., 0, g + r % 2 * 8, t + r // 2 * 4] = of_lanes
            return channels(made, -1)

        def right(b: int, j: Any) -> Any:
            """(blocks, warps, 1, tiles of n, 8, 8)."""
            values = self._gather(b, j[:, None, None, None] + of_b, "f32", 4)
            values = values.reshape(warps, WARP, len(blocks), tiles_n, 2)
            made = np.empty((len(blocks), warps, 1, tiles_n, 8, 8), np.float32)
            for r in range(2):
                made[:, :, 0, :, t + r * 4, g] = values[..., r].transpose(1, 2, 0, 3)
            return channels(made, -2)

        def to_tiles(sums: Any) -> Any:
            values = sums.reshape(tiles_m, tiles_n, 4, warps, WARP)
            made = np.empty((warps, tiles_m, tiles_n, 16, 8), np.float32)
            for r in range(4):
                made[..., g + r // 2 * 8, 2 * t + r % 2] = np.moveaxis(values[:, :, r], 2, 0)
            return made

        def to_lanes(tiles: Any) -> Any:
            made = np.empty((tiles_m, tiles_n, 4, warps, WARP), np.float32)
            for r in range(4):
                values = tiles[..., g + r // 2 * 8, 2 * t + r % 2]
                made[:, :, r] = np.moveaxis(values, 0, 2)
            return made.reshape(-1, self.count)

        def step(sums: Any, a: int, i: Any, b: int, j: Any) -> Any:
            self._together()
            w, x = left(a, i), right(b, j)
            big = rounded(x)
            fresh = np.zeros((warps, tiles_m, tiles_n, 16, 8), np.float32)
            for at in blocks:
                fresh = mma_products(w[at], big[at], fresh)
            main = sums[: tiles_m * tiles_n * 4] + to_lanes(fresh)
            if not split:
                return main
            less, small = left(a, i + split), x - big
            own = to_tiles(sums[len(main) :])
            for at in blocks:
                own = mma_products(less[at], big[at], own)
                own = mma_products(w[at], small[at], own)
            return np.concatenate([main, to_lanes(own)])

        return step

    def joined(self, count: int) -> Any:
        def joined(sums: Any) -> Any:
            big, small = sums[:count], sums[count:]
            return np.where(np.isfinite(big), big + small, big)

        return joined


_LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, *[ctypes.c_uint] * 7,
                           *[ctypes.c_void_p] * 3)  # fmt: skip
_GET = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p))
_SET = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


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
        self.allocations = self.waits = 0
        self._emulators: dict[Kernel, Emulator] = {}

        self._handles: list[Kernel] = []
        self._raised: Exception | None = None
        self._current = 0
        self._entries = _LAUNCH(self._start), _GET(self._get), _SET(self._set)

    # ---- what core.Launches calls: kernels are numbers, and contexts are 1 + ordinal

    def entries(self, ordinal: int) -> tuple[int, int, int, int]:
        self.use(ordinal)
        start, get, set_to = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in self._entries)
        return start, get, set_to, ordinal + 1

    def number(self, handle: Kernel) -> int:
        self._handles.append(handle)
        return len(self._handles)

    def error(self, status: int) -> Exception:
        return self._raised or Fault(f"the driver answered {status}")

    def _start(self, handle: int, *numbers: int) -> int:
        *grid, threads, one, also_one, shared, stream, _, extra = numbers
        self._raised = None
        try:
            assert one == also_one == 1 and self._current > 0
            kernel = self._handles[handle - 1]
            of = self._current - 1
            self.launch(kernel, of, tuple(grid), threads, shared, stream or 0, extra)  # type: ignore[arg-type]
        except Exception as raised:
            self._raised = raised
            return 1
        return 0

    def _get(self, to: Any) -> int:
        to[0] = self._current
        return 0

    def _set(self, context: int) -> int:
        self._current = context
        return 0

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
        self.allocations += 1
        return self.memory.allocate(nbytes)

    def free(self, pointer: int) -> None:
        self.memory.free(pointer)

    def allocate_on(self, stream: int, nbytes: int, ordinal: int) -> int:
        assert stream in self.streams
        return self.allocate(nbytes, ordinal)

    def free_on(self, stream: int, pointer: int, ordinal: int) -> None:
        assert stream in self.streams
        self.free(pointer)

    def settle(self, ordinal: int, stream: int) -> None:
        self.use(ordinal)
        if not self.capturing:
            self.wait(stream)

    def upload(self, pointer: int, source: int, nbytes: int) -> None:
        start = pointer - BASE
        self.memory.bytes[start : start + nbytes] = np.frombuffer(
            ctypes.string_at(source, nbytes), np.uint8
        )

    def download(self, target: int, pointer: int, nbytes: int) -> None:
        start = pointer - BASE
        ctypes.memmove(target, self.memory.bytes[start : start + nbytes].ctypes.data, nbytes)

    def wait(self, stream: int) -> None:
        if self.capturing:
            raise Fault("a stream is waited for while a graph is captured")
        assert stream in self.streams
        self.waits += 1
