"""What plans on a GPU keep: warm calls make nothing and wait for nothing, on any stream."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import time
from typing import Any

import fake_gpu
import numpy as np
import pytest
from fake_gpu import Tensor, ndarray

import fastconv
from fastconv import ndimage, signal
from fastconv.cuda import interop

RNG = np.random.default_rng(0)


def noise(*shape: int, dtype: str = "f4") -> Any:
    made = RNG.standard_normal(shape)
    return (made + 1j * RNG.standard_normal(shape) if dtype[0] == "c" else made).astype(dtype)


def whole(*shape: int) -> Any:
    return RNG.integers(0, 256, shape, np.uint8)


X, W = noise(2, 4, 7, 9), noise(6, 4, 3, 3)
SMALL = {"products": "f32", "tile": "64x64x8"}

#: Every solver and every way that a front end makes arrays of its own: function, data, kernel,
#: options.
PLANS: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "direct": (fastconv.conv2d, X, W, {"method": "cuda_direct", "bias": noise(6)}),
    "fir": (fastconv.conv1d, noise(2, 4, 60), noise(4, 1, 7), {"method": "cuda_fir", "groups": 4}),
    "gemm": (fastconv.conv2d, X, W, {"method": "cuda_gemm", "config": {"tile": "64x64x8"}}),
    "gemm split": (
        fastconv.conv2d, noise(1, 40, 4, 5), noise(3, 40, 3, 3),
        {"method": "cuda_gemm", "config": {"tile": "64x64x8", "split": 2}},
    ),
    "mma split": (
        fastconv.conv2d, noise(1, 64, 4, 5), noise(3, 64, 3, 3),
        {"method": "cuda_mma", "config": {"products": "3xtf32", "tile": "64x64x16", "split": 2}},
    ),
    "winograd": (
        fastconv.conv2d, X[:1, :, :5], W[:3],
        {"method": "cuda_winograd", "config": {"m": 2, **SMALL}},
    ),
    "fft": (fastconv.conv1d, noise(1, 2, 60), noise(3, 2, 9), {"method": "cuda_fft"}),
    "transposed": (
        fastconv.conv_transpose2d, X, W[:4], {"stride": 2, "method": "cuda_gemm"},
    ),
    "transposed of groups": (fastconv.conv_transpose2d, X, W[:4, :3].copy(), {"groups": 2}),
    "volumes share sums": (
        fastconv.conv3d, noise(1, 2, 8, 5, 6), noise(2, 1, 8, 5, 4),
        {"groups": 2, "method": "cuda_direct", "config": {"rows": 1, "split": 2}},
    ),
    "two passes": (ndimage.gaussian_filter, noise(9, 12), 1.5, {"mode": "wrap"}),
    "two passes by transforms": (
        ndimage.gaussian_filter, noise(9, 30), 1.5, {"method": "cuda_fft"},
    ),
    "means of integers": (ndimage.uniform_filter, whole(9, 12), 3, {}),
    "integers by floats": (ndimage.correlate, whole(9, 12), noise(2, 3), {}),
    "complex": (signal.convolve, noise(40, dtype="c8"), noise(7, dtype="c8"), {"mode": "same"}),
    "resampled": (signal.upfirdn, noise(23), noise(7), {"up": 3, "down": 2}),
}  # fmt: skip


def planned(name: str, library: Any = Tensor) -> tuple[Any, Any, Any, Any]:
    """(plan, data there, output there, what is right)."""
    function, x, w, options = PLANS[name]

    def moved(a: Any) -> Any:
        return library.holding(a) if isinstance(a, np.ndarray) else a

    there = {k: moved(v) for k, v in options.items()}
    if function is signal.upfirdn:
        right = function(w, x, **options)
    else:
        here = {k: v for k, v in options.items() if k not in ("method", "config")}
        right = function(x, w, **here)
    data = moved(x)
    plan = fastconv.plan(function, data, moved(w), **there)
    return plan, data, library.empty(right.shape, right.dtype), right


def close(y: Any, right: Any) -> None:
    tolerance = 0 if right.dtype.kind in "iu" else 1e-4
    np.testing.assert_allclose(y.host(), right, rtol=0, atol=tolerance)


@contextlib.contextmanager
def nothing_but_launches(driver: Any) -> Any:
    """As while a graph is captured: no allocation, no wait, no kernel that is loaded."""
    counts = driver.allocations, driver.waits, len(driver.followed)
    driver.capturing = True
    yield
    driver.capturing = False
    assert (driver.allocations, driver.waits, len(driver.followed)) == counts


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("name", PLANS)
def test_warm_plans(emulated: Any, name: str) -> None:
    """Launches alone from the second call on, by whatever solver, in whatever way."""
    library = ndarray if name in ("gemm split", "two passes") else Tensor
    plan, x, y, right = planned(name, library)
    plan(x, out=y)
    before = len(emulated.launches)
    y.host()[...] = 0 if right.dtype.kind in "iu" else np.nan
    with nothing_but_launches(emulated):
        assert plan(x, out=y) is y
    assert len(emulated.launches) > before
    close(y, right)
    y.host()[...] = 0 if right.dtype.kind in "iu" else np.nan
    with fastconv.autotune("record"), nothing_but_launches(emulated):  # which goes the long way
        plan(x, out=y)
    close(y, right)


class Counted:
    """A driver's launches, by the thread that starts them and the addresses that they have."""

    def __init__(self, driver: Any, monkeypatch: pytest.MonkeyPatch, pause: float = 0.0) -> None:
        self.threads: list[int] = []
        self.addresses: list[set[int]] = []
        whole_launch = driver.launch

        def launch(handle: Any, ordinal: int, grid: Any, threads: int, *rest: Any) -> None:
            self.threads.append(threading.get_ident())
            time.sleep(pause)
            block = (ctypes.c_void_p * 5).from_address(rest[-1])
            count = sum(kind == "pointer" for _, kind in handle.parameters)
            found = (ctypes.c_uint64 * count).from_address(block[1] or 0)
            self.addresses.append(set(found) - {0})
            whole_launch(handle, ordinal, grid, threads, *rest)

        monkeypatch.setattr(driver, "launch", launch)

    def between(self, *own: Any) -> set[int]:
        """Addresses that launches wrote and read which are none of a call's arrays, since the last
        time."""
        found = set().union(*self.addresses) - {a.pointer for a in own}
        self.addresses.clear()
        return found


NAMES = ("winograd", "fft", "two passes", "means of integers")


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("name", NAMES)
def test_two_streams_share_nothing_but_weights(
    emulated: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plan, x, y, right = planned(name)
    counted = Counted(emulated, monkeypatch)
    here = []
    for stream in (7, 8, 7, 8):
        monkeypatch.setattr(fake_gpu, "STREAM", stream)
        before = emulated.allocations
        plan(x, out=y)
        close(y, right)
        here.append((counted.between(x, y), emulated.allocations - before))
    (on_7, _), (on_8, made), (again_7, none), (again_8, no_more) = here
    assert on_7 == again_7 and on_8 == again_8 and made and not none and not no_more
    # what both have is packed weights, which were there before
    assert on_7 - on_8 and len(on_7 - on_8) == len(on_8 - on_7)
    kept = {a.pointer for ws in plan._workspaces._of.values() for i in ws._idle.values() for a in i}
    assert not kept & on_7 & on_8


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("mode", ["off", "record"])  # by a tape, and the long way
@pytest.mark.parametrize("name", ["winograd", "two passes"])
def test_two_threads_take_turns(
    emulated: Any, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """Launches of one call are not among another's that works in the same memory."""
    plan, x, y, right = planned(name)
    plan(x, out=y)
    counted = Counted(emulated, monkeypatch, 0.01)
    both = threading.Barrier(2)

    def call(out: Any) -> None:
        both.wait()
        with fastconv.autotune(mode):
            plan(x, out=out)

    outs = [Tensor.empty(right.shape, right.dtype) for _ in range(2)]
    threads = [threading.Thread(target=call, args=(out,)) for out in outs]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for out in outs:
        close(out, right)
    turns = sum(a != b for a, b in zip(counted.threads, counted.threads[1:]))
    assert len(set(counted.threads)) == 2 and turns == 1


def test_each_thread_has_its_own_stream_of_one_number(emulated: Any) -> None:
    """CU_STREAM_PER_THREAD is as many streams as threads."""
    spaces = fastconv.plan(fastconv.conv2d, Tensor.holding(X), Tensor.holding(W))._workspaces
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(spaces.on(0, s) for s in (2, 7)))
    thread.start()
    thread.join()
    assert spaces.on(0, 2) is not found[0] and spaces.on(0, 7) is found[1]


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("name", NAMES)
def test_memory_goes_with_the_plan(emulated: Any, name: str) -> None:
    """And plain calls, whose plans the planner keeps, hold none."""
    plan, x, y, right = planned(name)
    function, _, kernel, options = PLANS[name]
    there = Tensor.holding(kernel) if isinstance(kernel, np.ndarray) else kernel
    del plan
    gc.collect()
    before = len(emulated.memory.sizes)
    plan = fastconv.plan(function, x, there, **options)
    held = []
    for _ in range(3):
        plan(x, out=y)
        held.append(len(emulated.memory.sizes))
    assert before < held[0] == held[1] == held[2]
    del plan
    gc.collect()
    assert len(emulated.memory.sizes) == before
    for _ in range(3):
        close(function(x, there, **options), right)
    gc.collect()
    assert len(emulated.memory.sizes) == before


def test_results_are_the_callers(emulated: Any) -> None:
    """What a plan gives is never what it works in, nor what it gave before."""
    plan, x, _, right = planned("two passes")
    results = [plan(x) for _ in range(4)]
    for y in results:
        close(y, right)
    kept = [a.pointer for ws in plan._workspaces._of.values() for i in ws._idle.values() for a in i]
    assert len({*kept, *(y.pointer for y in results)}) == len(kept) + 4


def test_what_is_planned_is_ready(emulated: Any) -> None:
    """Any stream may read the weights: planning waits for them, but not while a graph is made."""
    x, w = Tensor.holding(X), Tensor.holding(W)
    fastconv.plan(fastconv.conv2d, x, w, method="cuda_gemm")
    assert emulated.waits == 1
    fastconv.plan(fastconv.conv2d, x, w, method="cuda_direct")
    emulated.capturing = True
    fastconv.plan(fastconv.conv2d, x, w, method="cuda_direct")
    assert emulated.waits == 2


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", interop._DLTensor), ("context", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p)]  # fmt: skip


class Lent:
    """An array of which nothing is known but DLPack, and whose library makes no other."""

    def __init__(self, a: Any) -> None:
        self.held = held = Tensor.holding(a)
        self.shape = (ctypes.c_int64 * a.ndim)(*held.shape)
        self.steps = (ctypes.c_int64 * a.ndim)(*held.steps)
        code = {"i": 0, "u": 1, "f": 2, "c": 5}[a.dtype.kind]
        tensor = interop._DLTensor(
            held.pointer, 2, 0, a.ndim, code, a.itemsize * 8, 1, self.shape, self.steps, 0
        )  # fmt: skip
        self.managed = _Managed(tensor, None, None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int) -> Any:
        assert stream == 1
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
        )  # fmt: skip
        return new(ctypes.addressof(self.managed), b"dltensor", None)


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("name", ["direct", "gemm split", "winograd", "fft", "two passes"])
def test_arrays_of_a_library_that_makes_none(emulated: Any, name: str) -> None:
    """Given `out`, they are worked on in memory of the driver's, which comes and goes in the order
    of the stream; of a plan it stays."""
    function, x, w, options = PLANS[name]
    here = {k: v for k, v in options.items() if k not in ("method", "config")}
    right = function(x, w, **here)
    y = Lent(np.zeros_like(right))

    def lent(a: Any) -> Any:
        return Lent(a) if isinstance(a, np.ndarray) else a

    there, options = lent(x), {k: lent(v) for k, v in options.items()}
    kernel, target = lent(w), {("output" if function is ndimage.gaussian_filter else "out"): y}
    gc.collect()
    before = len(emulated.memory.sizes)
    assert function(there, kernel, **options, **target) is y
    close(y.held, right)
    gc.collect()
    assert len(emulated.memory.sizes) == before
    plan = fastconv.plan(function, there, kernel, **options)
    for _ in range(2):
        y.held.host()[...] = np.nan
        assert plan(there, out=y) is y
        close(y.held, right)
    with nothing_but_launches(emulated):
        plan(there, out=y)
    del plan
    gc.collect()
    assert len(emulated.memory.sizes) == before
    with pytest.raises(TypeError, match="give out="):
        function(there, kernel, **options)
