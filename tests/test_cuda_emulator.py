"""The emulator finds what it is for: each planted fault is an error, and right kernels run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_emulator import Emulator, Fault, Memory, Race

from fastconv.cuda.kernel import Kernel, divisor, operations

TABLE: dict[str, tuple[Any, ...]] = {
    "load": ("load", "f32"), "reload": ("load", "f32", False), "store": ("store", "f32"),
    "load_if": ("load_if", "f32"),
    "shared": ("shared", "f32", 0, 64), "get": ("load_shared", "f32"),
    "put": ("store_shared", "f32"), "copy": ("copy_async", "f32", 1),
    "copy4": ("copy_async", "f32", 4), "commit": ("commit_async",), "wait0": ("wait_async", 0),
    "wait1": ("wait_async", 1), "fma": ("fma", "f32"), "zero": ("zero", "f32"),
}  # fmt: skip


def run(body: str, threads: int = 64, grid: tuple[int, int, int] = (1, 1, 1)) -> Any:
    """y of 64 elements, from x = 0, 1, ... 63, by a kernel of this body."""
    text = "def kernel(x, y):\n" + "\n".join("    " + line for line in body.strip().splitlines())
    parameters = (("x", "pointer"), ("y", "pointer"))
    made = Kernel("kernel", text + "\n", operations(text, TABLE), parameters, threads)
    memory = Memory(1 << 14)
    x, y = memory.allocate(256), memory.allocate(256)
    memory.array(x, (64,), np.float32)[:] = np.arange(64)
    Emulator(made, memory).launch(grid, 256, (x, y))
    return memory.array(y, (64,), np.float32).copy()


REVERSE = """
s = shared()
t = thread()
put(s, t, load(x, t))
sync()
store(y, t, get(s, 63 - t))
"""

COPIED = """
s = shared()
t = thread()
copy(s, t, x, t, 1)
commit()
if t < 0:
    copy4(s, t * 4 % 64, x, t * 4 % 64, 0)
commit()
wait0()
sync()
store(y, t, get(s, 63 - t))
"""


@pytest.mark.parametrize("body", [REVERSE, COPIED])
def test_right_kernels_run(body: str) -> None:
    np.testing.assert_array_equal(run(body), np.arange(64)[::-1])


def test_integers_are_those_of_python() -> None:
    got = run("t = thread()\na = (t * 7 + 3) // 4 % 5 - (t >> 2)\n"
              "if t < 0:\n    store(y, a & 0, zero())\n"
              "else:\n    store(y, t, load(x, (a + 64) % 64))")  # fmt: skip
    np.testing.assert_array_equal(
        got, [((t * 7 + 3) // 4 % 5 - (t >> 2) + 64) % 64 for t in range(64)]
    )


def without(body: str, line: str) -> str:
    assert line in body
    return body.replace(line + "\n", "", 1)


FAULTS: dict[str, tuple[str, type[Fault], str]] = {
    "no barrier": (without(REVERSE, "sync()"), Race, "no barrier between"),
    "a divergent barrier": (
        "if thread() < 32:\n    sync()\nelse:\n    sync()\nstore(y, thread(), zero())",
        Fault, "32 of 64 threads come to a barrier",
    ),
    "a barrier that some never reach": (
        "if thread() < 32:\n    sync()", Fault, "32 of 64 threads come to a barrier",
    ),
    "a read beyond x": ("store(y, thread(), load(x, thread() + 1))", Fault, "not allocated"),
    "a read before x": ("store(y, thread(), load(x, thread() - 1))", Fault, "not allocated"),
    "a write beyond y": ("store(y, thread() + 1, zero())", Fault, "not allocated"),
    "a copy that is misaligned": (
        "if thread() == 0:\n    copy4(shared(), 0, x, 1, 1)\n    commit()\n    wait0()", Fault,
        "misaligned",
    ),
    "shared memory beyond its region": (
        "s = shared()\nput(s, thread() + 1, zero())", Fault, "beyond its region of bytes 0 to 256",
    ),
    "32 bits overflow": (
        "store(y, thread() + thread() * 100000000 // 64 * 0, zero())", Fault, "32 bits",
    ),
    "a negative number divided": ("store(y, (thread() - 9) % 64, zero())", Fault, "unsigned"),
    "two threads write one element": ("store(y, thread() // 2, zero())", Race, "write one element"),
    "a thread reads another's result": (
        "store(y, thread(), zero())\n"
        "if thread() > 0:\n    store(y, thread(), reload(y, thread() - 1))",
        Race, "reads what",
    ),
    "what is said to be constant is written": (
        "store(y, thread(), zero())\nstore(y, thread(), load(y, thread()))", Race, "reads what",
    ),
    "a copy that is never waited for": (
        "s = shared()\ncopy(s, thread(), x, thread(), 1)\ncommit()\nsync()", Fault, "asynchronous",
    ),
    "a copy read by another thread before a barrier": (
        without(COPIED, "sync()"), Race, "no barrier between",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(name: str) -> None:
    body, error, message = FAULTS[name]
    with pytest.raises(error, match=message):
        run(body)


def test_data_are_not_there_before_they_are_waited_for() -> None:
    body = "s = shared()\nt = thread()\ncopy(s, t, x, t, 1)\ncommit()\nwait1()\n" \
        "store(y, t, get(s, t))\nwait0()"  # fmt: skip
    assert np.isnan(run(body)).all()
    np.testing.assert_array_equal(run(body.replace("wait1()", "wait0()")), np.arange(64))


def test_memory_is_poisoned() -> None:
    assert np.isnan(run("s = shared()\nsync()\nstore(y, thread(), get(s, thread()))")).all()
    assert np.isnan(run("sync()", threads=32)).all()


def test_each_block_begins_anew() -> None:
    body = "s = shared()\nt = thread()\nif block_x() == 0:\n    put(s, t, zero())\nsync()\n" \
        "store(y, block_x() * 32 + t, get(s, t))"  # fmt: skip
    got = run(body, threads=32, grid=(2, 1, 1))
    assert (got[:32] == 0).all() and np.isnan(got[32:]).all()


@pytest.mark.parametrize("d", [1, 2, 3, 5, 7, 10, 56, 641, 2**16 + 1, 2**30 - 1, 2**31 - 1])
def test_division_by_multiplication(d: int) -> None:
    multiplier, shift = divisor(d)
    last = 2**31 - 1
    for n in {0, 1, d - 1, d, last, last // d * d, last // d * d - 1, 12345}:
        if 0 <= n <= last:
            assert n * multiplier < 1 << 63 and n * multiplier >> shift == n // d


def test_operators_are_written_out() -> None:
    text = (
        "def f(a):\n    b = 0\n    b += a * (3 - 1)\n    for i in range(b):\n        b = b // i\n"
    )
    source = Kernel("f", text, (), (), 32).source
    assert "b = i32(0)" in source and "i_add(b, i_mul(a, 2))" in source
    assert "range(i32(b))" in source and "i_div(b, i)" in source
