"""Arrays on a GPU through the front ends: whose they are, where they go, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import fake_gpu
import numpy as np
import pytest
from fake_gpu import Tensor, ndarray

import fastconv
from fastconv._problem import Problem, numpy_dtype
from fastconv.cuda import build, interop, launch
from fastconv.cuda.scratch import Scratch
from fastconv.solvers import BY_NAME

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 7, 9)).astype("f4")
W = RNG.standard_normal((6, 4, 3, 3)).astype("f4")

#: Of sums of 36 to 54 products of standard normals in float32.
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.mark.parametrize("library", [Tensor, ndarray])
def test_a_call_gives_the_callers_kind(emulated: Any, library: Any) -> None:
    y = fastconv.conv2d(library.holding(X), library.holding(W), padding=1, stride=2)
    assert type(y) is library and y.shape == (2, 6, 4, 5) and y.numpy_dtype == np.float32
    np.testing.assert_allclose(y.host(), fastconv.conv2d(X, W, padding=1, stride=2), **CLOSE)
    assert {(ordinal, stream) for _, _, ordinal, stream in emulated.launches} == {
        (0, fake_gpu.STREAM)
    }


def test_results_stay_on_their_device(emulated: Any) -> None:
    emulated.devices = 2
    y = fastconv.conv2d(Tensor.holding(X, 1), Tensor.holding(W, 1))
    assert y.ordinal == 1 and {ordinal for _, _, ordinal, _ in emulated.launches} == {1}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_dtypes(emulated: Any, dtype: str) -> None:
    x, w = X.astype(dtype), W.astype(dtype)
    y = fastconv.conv2d(Tensor.holding(x), Tensor.holding(w))
    expected = fastconv.conv2d(x, w)
    assert y.numpy_dtype == x.dtype
    tolerance = {"f2": 3e-2, "f4": 1e-4, "f8": 1e-12}[dtype]
    np.testing.assert_allclose(y.host(), expected, rtol=0, atol=tolerance)


CALLS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "conv1d": (fastconv.conv1d, (X[:, :, 0], W[:, :, 0]), {"padding": "same"}),
    "unbatched": (fastconv.conv2d, (X[0], W), {}),
    "channels last": (
        fastconv.conv2d, (np.ascontiguousarray(np.moveaxis(X, 1, -1)), W), {"layout": "NHWC"},
    ),
    "strided": (fastconv.conv2d, (X[:, :, ::2, 1::3], W[:, :, :, :2]), {"padding": 1}),
    "groups": (fastconv.conv2d, (X, W[:, :2]), {"groups": 2, "dilation": 2}),
    "reflected": (fastconv.conv2d, (X, W), {"padding": 2, "padding_mode": "reflect"}),
    "finished": (
        fastconv.conv2d, (X, W, RNG.standard_normal(6).astype("f4")),
        {"residual": RNG.standard_normal((6, 5, 7)).astype("f4"), "activation": "relu"},
    ),
    "conv_transpose2d": (
        fastconv.conv_transpose2d, (X, W[:4].copy()), {"stride": 2, "padding": 1},
    ),
    "conv2d_input": (
        fastconv.nn.conv2d_input,
        ((2, 4, 7, 9), W, RNG.standard_normal((2, 6, 4, 5)).astype("f4")),
        {"stride": 2, "padding": 1},
    ),
    # no view of the weights has groups and filters as one axis: they are copied
    "conv_transpose2d of groups": (
        fastconv.conv_transpose2d, (X, W[:4, :3].copy()), {"stride": 2, "groups": 2},
    ),
    "conv2d_input of groups": (
        fastconv.nn.conv2d_input,
        ((2, 4, 7, 9), W[:, :2].copy(), RNG.standard_normal((2, 6, 5, 7)).astype("f4")),
        {"groups": 2},
    ),
    "convolve": (fastconv.convolve, (X[0, 0], W[0, 0]), {"mode": "same"}),
    "correlate": (fastconv.correlate, (X[0, 0, 0], W[0, 0, 0]), {}),
    "convolve swapped": (fastconv.convolve, (W[0, 0, 0], X[0, 0, 0]), {"mode": "full"}),
    "conv2d_weight": (
        fastconv.nn.conv2d_weight,
        (X, (6, 4, 3, 3), RNG.standard_normal((2, 6, 4, 5)).astype("f4")),
        {"stride": 2, "padding": 1},
    ),
    # the batch is an axis of space, and volumes have none to spare
    "conv1d_weight of groups": (
        fastconv.nn.conv1d_weight,
        (X[:, :, 0], (4, 1, 3), RNG.standard_normal((2, 4, 9)).astype("f4")),
        {"padding": 1, "groups": 4},
    ),
    "conv2d_weight of groups": (
        fastconv.nn.conv2d_weight,
        (X, (6, 2, 3, 3), RNG.standard_normal((2, 6, 4, 5)).astype("f4")),
        {"stride": 2, "padding": 1, "groups": 2},
    ),
    "conv3d_weight of groups": (
        fastconv.nn.conv3d_weight,
        (X[:, :, None], (6, 2, 1, 3, 3), RNG.standard_normal((2, 6, 1, 5, 7)).astype("f4")),
        {"groups": 2},
    ),
}  # fmt: skip


def test_groups_of_volumes_again(emulated: Any) -> None:
    """Several launches, each of one group, and the same ones for other data."""
    function, (x, size, grad), options = CALLS["conv3d_weight of groups"]
    counts = []
    for a in (x, x[::-1].copy(), 2 * x):
        before = len(emulated.launches)
        y = function(Tensor.holding(a), size, Tensor.holding(grad), **options).host()
        counts.append(len(emulated.launches) - before)
        np.testing.assert_allclose(y, function(a, size, grad, **options), **CLOSE)
    assert counts[0] == counts[1] == counts[2] > 1


@pytest.mark.parametrize("name", CALLS)
def test_calls(emulated: Any, name: str) -> None:
    """What the same call gives on the host; strides on the device are those on the host."""
    function, args, options = CALLS[name]

    def moved(a: Any) -> Any:
        return Tensor.holding(a) if isinstance(a, np.ndarray) else a

    y = function(*map(moved, args), **{k: moved(v) for k, v in options.items()})
    expected = function(*args, **options)
    assert type(y) is Tensor and y.shape == expected.shape
    np.testing.assert_allclose(y.host(), expected, **CLOSE)


@pytest.mark.parametrize("accuracy", ["strict", "balanced", "fast"])
def test_what_accuracy_admits(transforming: Any, accuracy: str) -> None:
    """strict has no TF32, balanced float32 by three products of it and F(2x2), fast all."""
    x, w = Tensor.empty((4, 64, 28, 28), "f4"), Tensor.empty((64, 64, 3, 3), "f4")
    found = fastconv.candidates(fastconv.conv2d, x, w, padding=1, accuracy=accuracy)
    admitted = {
        (c.method, c.config.get("products", ""), c.config.get("m", 0))
        for c in found if c.refused is None
    }  # fmt: skip
    exact = {("cuda_direct", "", 0), ("cuda_gemm", "", 0)}
    balanced = {("cuda_mma", "3xtf32", 0), ("cuda_fft", "", 0)}
    tiles = {
        (*products, m)
        for m in (2, 4)
        for products in (("cuda_winograd", "3xtf32"), ("cuda_winograd", "f32"))
    }
    expected = {
        "strict": exact, "balanced": exact | balanced | {t for t in tiles if t[2] == 2},
        "fast": exact | balanced | tiles | {("cuda_mma", "tf32", 0)},
    }  # fmt: skip
    assert admitted == expected[accuracy]


def test_out_and_plan(emulated: Any) -> None:
    x, w = Tensor.holding(X), Tensor.holding(W)
    y = Tensor.empty((2, 6, 7, 9), "f4")
    assert fastconv.conv2d(x, w, padding=1, out=y) is y
    expected = fastconv.conv2d(X, W, padding=1)
    np.testing.assert_allclose(y.host(), expected, **CLOSE)
    y.host()[...] = expected
    fastconv.conv2d(x, w, padding=1, residual=y, out=y)  # each element read before it is written
    np.testing.assert_allclose(y.host(), 2 * expected, **CLOSE)
    plan = fastconv.plan(fastconv.conv2d, x, w, padding=1)
    assert plan.problems[0].device == "cuda" and plan.method.startswith("cuda_")
    np.testing.assert_allclose(plan(x).host(), expected, **CLOSE)
    again = Tensor.empty((2, 6, 7, 9), "f4")
    assert plan(x, out=again) is again
    np.testing.assert_array_equal(again.host(), plan(x).host())
    assert "cuda" in plan.explain()


def test_a_warm_plan_can_be_captured(emulated: Any) -> None:
    """It allocates nothing, loads nothing and waits for nothing."""
    x, w, y = Tensor.holding(X), Tensor.holding(W), Tensor.empty((2, 6, 5, 7), "f4")
    plan = fastconv.plan(fastconv.conv2d, x, w)
    plan(x, out=y)
    emulated.capturing = True
    launches = len(emulated.launches)
    plan(x, out=y)
    assert len(emulated.launches) == launches + 1
    with pytest.raises(RuntimeError, match="captured"):
        plan(x)


def test_tuning(emulated: Any) -> None:
    """Candidates are checked on the device and timed; wisdom is kept by GPU, memory given back."""
    from fastconv import _wisdom

    x, w = Tensor.holding(X[:1, :1, :4, :5]), Tensor.holding(W[:1, :1])
    before = len(emulated.memory.sizes)
    options = {"padding": 1, "padding_mode": "reflect"}
    found = fastconv.tune(fastconv.conv2d, x, w, budget=30.0, **options)
    timed = [c for c in found if c.source == "timed"]
    assert {c.method for c in timed} == {"cuda_direct"} and len(timed) >= 2
    known = _wisdom.lookup(timed[0].problem, launch.gpu())
    assert known is not None and known.config == timed[0].config
    assert "wisdom" in fastconv.plan(fastconv.conv2d, x, w, **options).explain()
    assert len(emulated.memory.sizes) <= before + 2


@pytest.mark.parametrize("method", ["cuda_gemm", "cuda_winograd"])
def test_what_is_tuned_may_be_a_view(emulated: Any, method: str) -> None:
    """Flipped weights, and parts of what a plan made, make memory beside themselves."""
    problem = Problem.parse("conv2d f32 n1 c2 h3 w3 k2 r3 s3 p1 flip").replace(device="cuda")
    solver = BY_NAME[method]
    plan = solver.plan(problem, solver.configs(problem, launch.gpu())[-1], launch.gpu())
    x, w = (np.ones(shape, "f4") for shape in (problem.x_shape, problem.w_shape))
    y = np.empty(problem.y_shape, "f4")
    here = [Scratch.holding(a) for a in (x, w, y)]
    plan(here[0], plan.pack_stored(here[1]), None, here[2])
    here[2].download(y)
    np.testing.assert_allclose(y[0, 0], [[8, 12, 8], [12, 18, 12], [8, 12, 8]], rtol=1e-6)


def test_plans_of_device_and_host_are_apart(emulated: Any) -> None:
    on_host = fastconv.conv2d(X, W)
    on_gpu = fastconv.conv2d(Tensor.holding(X), Tensor.holding(W))
    np.testing.assert_allclose(on_gpu.host(), on_host, **CLOSE)
    assert type(fastconv.conv2d(X, W)) is np.ndarray


def test_streams_follow_each_other(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of two libraries with streams of their own: the first's waits for the second's."""
    other = type("DLPackArray", (), {})
    w = interop.wrapped(Tensor.holding(W))
    w.stream = 8
    fastconv.nn.run(interop.wrapped(Tensor.holding(X)), w)
    assert emulated.followed == [(fake_gpu.STREAM, 8)]
    assert not interop.is_foreign(other())


def test_dlpack(emulated: Any) -> None:
    """The capsule's struct is read where it lies."""

    class Array:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, stream: int) -> Any:
            assert stream == 1
            return X[:, 1:].__dlpack__()

    assert interop.is_foreign(Array())
    seen = interop.wrapped(Array())
    assert seen.shape == (2, 3, 7, 9) and seen.steps == (252, 63, 9, 1)
    assert seen.dtype == np.float32 and seen.pointer == X[:, 1:].ctypes.data and seen.stream == 1
    with pytest.raises(TypeError, match="out="):
        seen.new((1,), np.dtype("f4"))


def test_views() -> None:
    """Steps and places are NumPy's."""
    host = np.arange(2 * 3 * 4 * 5, dtype="f4").reshape(2, 3, 4, 5)

    def seen(a: Any) -> tuple[int, tuple[int, ...], tuple[int, ...], bool]:
        if isinstance(a, interop.DeviceArray):
            offset = a.pointer // 4
        else:
            offset = (a.ctypes.data - host.ctypes.data) // 4
        steps = tuple(s // 4 for n, s in zip(a.shape, a.strides) if n != 1)
        return offset, tuple(a.shape), steps, a.flags.c_contiguous

    whole = interop.DeviceArray(0, host.shape, (60, 20, 5, 1), host.dtype, None, 0, 0)
    for view in (
        lambda a: a, lambda a: a[1], lambda a: a[None, 0], lambda a: a[:, ::-1, 1:3, ::2],
        lambda a: a.transpose(0, -1, 1, 2), lambda a: a.swapaxes(0, 1), lambda a: a[..., :][0:1]
        if isinstance(a, np.ndarray) else a[0:1], lambda a: a.reshape(6, 20),
        lambda a: a.reshape(2, 3, -1), lambda a: a[:, :, ::2].reshape(6, 2, 5),
        lambda a: a[:, 1:2].reshape(2, 4, 5), lambda a: a.reshape(2, 3, 2, 2, 5, 1),
        lambda a: a.transpose(1, 0, 2, 3).reshape(3, 2, 20), lambda a: a[:, :0],
    ):  # fmt: skip
        assert seen(view(whole)) == seen(view(host))
    with pytest.raises(ValueError, match="without a copy"):
        whole.transpose(1, 0, 2, 3).reshape(6, 20)


def test_what_is_refused(emulated: Any) -> None:
    x, w = Tensor.holding(X), Tensor.holding(W)
    with pytest.raises(TypeError, match="expected w where x is, on cuda:0, got an array"):
        fastconv.conv2d(x, W)
    with pytest.raises(TypeError, match="nothing is copied between devices unasked"):
        fastconv.conv2d(X, w)
    with pytest.raises(ValueError, match="expected out apart from x and w"):
        fastconv.conv2d(x, Tensor.holding(W[:4, :, :1, :1].copy()), out=x)
    with pytest.raises(ValueError, match=r"expected x of 3 \* 1 channels"):
        fastconv.conv2d(x, Tensor.holding(W[:, :3].copy()))
    for call in (
        lambda: fastconv.convolve_power(x, 2), lambda: fastconv.ndimage.laplace(x),
        lambda: fastconv.ndimage.correlate(X[0, 0], Tensor.holding(W[0, 0])),
        lambda: fastconv.Convolver(Tensor.holding(X[0, 0, 0]), 64),
        lambda: fastconv.match_template(x, X), lambda: fastconv.find_delay(x, x),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="nothing is copied between devices unasked"):
            call()
    needy = Tensor.holding(X)
    needy.requires_grad = True
    with pytest.raises(TypeError, match="gradient"):
        fastconv.conv2d(needy, w)
    emulated.devices = 2
    with pytest.raises(TypeError, match="cuda:1"):
        fastconv.conv2d(x, Tensor.holding(W, 1))
    with pytest.raises(ValueError, match="it runs on a GPU only"):
        fastconv.conv2d(X, W, method="cuda_direct")
    with pytest.raises(ValueError, match="it runs on the CPU only"):
        fastconv.conv2d(x, w, method="direct")


NO_DRIVER = "there is no CUDA driver (libcuda.so.1)"
NO_EXTRA = "numba is missing: install fastconv[cuda]"


def unable() -> Any:
    raise launch.DriverError("cuInit: no device")


def no_library() -> Any:
    raise OSError("libcuda.so.1: cannot open shared object file")


@pytest.mark.parametrize(
    "missing, driver, reason",
    [
        ("numba", None, NO_EXTRA),
        ("cuda-core", None, "cuda-core is missing: install fastconv[cuda]"),
        ("", no_library, NO_DRIVER),
        ("numba", no_library, f"{NO_EXTRA}; and {NO_DRIVER}"),
        ("numba", unable, f"{NO_EXTRA}; and the CUDA driver does not start: cuInit: no device"),
        ("", "none", "the CUDA driver finds no device"),
        ("numba", "none", f"{NO_EXTRA}; and the CUDA driver finds no device"),
        ("", "old", "the GPU is of compute capability 7.5, kernels need 8.0"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, emulated: Any, missing: str, driver: Any, reason: str
) -> None:
    """In one clear error: the extra first, which can be installed, whatever else is missing."""
    x, w = Tensor.holding(X), Tensor.holding(W)
    monkeypatch.delenv("FASTCONV_CUBINS_AHEAD", raising=False)
    monkeypatch.setattr(build, "_version", lambda name: None if name == missing else "1")
    monkeypatch.setattr(emulated, "why_not", build.why_not)
    if callable(driver):
        monkeypatch.setattr(launch, "_driver", None)
        monkeypatch.setattr(launch, "Driver", driver)
    elif driver == "none":
        monkeypatch.setattr(emulated, "devices", 0)
    elif driver == "old":
        monkeypatch.setattr(emulated, "facts", launch.Gpu("old", (7, 5)))
    assert not fastconv.cuda.is_available() and fastconv.cuda.why_not() == reason
    calls = (
        lambda: fastconv.conv2d(x, w), lambda: fastconv.plan(fastconv.conv2d, x, w),
        lambda: fastconv.candidates(fastconv.conv2d, x, w),
        lambda: fastconv.tune(fastconv.conv2d, x, w),
        lambda: fastconv.ndimage.gaussian_filter(x, 1.0),
        lambda: fastconv.convolve(x, x), lambda: fastconv.nn.conv2d_weight(x, (4, 4, 3, 3), x),
    )  # fmt: skip
    for call in calls[:1] if driver is None else calls:
        with pytest.raises(RuntimeError) as caught:
            call()
        assert str(caught.value) == f"arrays on a GPU cannot be convolved here: {reason}"
    assert fastconv.conv2d(X, W).shape == (2, 6, 5, 7)


def test_bfloat16_without_its_name(monkeypatch: pytest.MonkeyPatch, emulated: Any) -> None:
    """ml_dtypes is of the extra, too."""
    x = Tensor.holding(X.astype(numpy_dtype("bf16")))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    numpy_dtype.cache_clear()
    with pytest.raises(RuntimeError, match=r"ml_dtypes.*install fastconv\[cuda\]"):
        fastconv.conv2d(x, x)
    numpy_dtype.cache_clear()


def test_importing_imports_no_numba() -> None:
    program = (
        "import sys, fastconv; fastconv.cuda.why_not(); fastconv.candidates;"
        "sys.exit(any(m.partition('.')[0] in ('numba', 'llvmlite', 'cuda') for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
