"""On a real GPU: ``pytest -m gpu``. Elsewhere every test is skipped, and says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from problems import PROBLEMS, arrays, check, mixed_magnitude, solved

import fastconv
from fastconv._problem import DTYPES, Problem
from fastconv._solver import Solver
from fastconv.cuda import interop, launch
from fastconv.solvers import SOLVERS

REASON = fastconv.cuda.why_not()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(REASON is not None, reason=f"needs a GPU: {REASON}"),
]

#: Every problem would take longer to compile than to run: each takes its turn by its text.
SOME = sorted(t for t in PROBLEMS if " u8" not in t and "bf16" not in t)[::4]


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs PyTorch to make arrays")


def pairs() -> list[Any]:
    found = []
    for solver in SOLVERS:
        for text in SOME:
            problem = Problem.parse(text).replace(device="cuda", threads=1)
            if solver.device == "cuda" and solver.why_not(problem) is None:
                found.append(pytest.param(solver, text, id=f"{solver.name}-{text}"))
    return found


@pytest.mark.parametrize("solver, text", pairs())
def test_published_bound(torch: Any, solver: Solver, text: str) -> None:
    problem = Problem.parse(text).replace(device="cuda", threads=1)
    x, w, _ = arrays(Problem.parse(text))

    def on_gpu(a: Any) -> Any:
        made = torch.from_numpy(np.ascontiguousarray(a)).cuda()
        return interop.wrapped(made)

    config = solver.configs(problem, launch.gpu())[0]  # type: ignore[arg-type]
    plan = solver.plan(problem, config, launch.gpu())  # type: ignore[arg-type]
    gx, gw = on_gpu(x), on_gpu(w)
    kept = getattr(torch, DTYPES[problem.y_dtype])
    blank = 85 if problem.y_dtype[0] in "iu" else torch.nan
    y = torch.full(problem.y_shape, blank, dtype=kept, device="cuda")
    plan(gx, plan.pack_stored(gw), None, interop.wrapped(y))
    mixed = mixed_magnitude(problem, x, w) if solver.mixes_windows else None
    check(problem, y.cpu().numpy(), solved(text), solver.error_bound(problem, config), mixed)


@pytest.mark.parametrize("method", ["cuda_gemm", "cuda_mma"])
def test_gradients_of_weights(torch: Any, method: str) -> None:
    """Few outputs of long sums, which blocks share; in groups, too."""
    rng = np.random.default_rng(2)
    for groups in (1, 3):
        x = rng.standard_normal((5, 12, 40, 33)).astype("f4")
        grad = rng.standard_normal((5, 9, 38, 31)).astype("f4")
        size, options = (9, 12 // groups, 3, 3), {"groups": groups}
        right = fastconv.nn.conv2d_weight(x.astype("f8"), size, grad.astype("f8"), **options)
        moved = (torch.from_numpy(a).cuda() for a in (x, grad))
        y = fastconv.nn.conv2d_weight(next(moved), size, next(moved), method=method, **options)
        error = np.linalg.norm(y.cpu().numpy() - right) / np.linalg.norm(right)
        assert error <= 1e-5


def test_gradients_of_depthwise_weights(torch: Any) -> None:
    """Of few outputs, whose sums blocks share; images and signals."""
    rng = np.random.default_rng(2)
    for space in ((40, 33), (700,)):
        n = len(space)
        x = rng.standard_normal((8, 12, *space)).astype("f4")
        grad = rng.standard_normal((8, 12, *(s - 2 for s in space))).astype("f4")
        function, size = getattr(fastconv.nn, f"conv{n}d_weight"), (12, 1, *(3,) * n)
        right = function(x.astype("f8"), size, grad.astype("f8"), groups=12)
        moved = (torch.from_numpy(a).cuda() for a in (x, grad))
        y = function(next(moved), size, next(moved), groups=12, method="cuda_direct")
        error = np.linalg.norm(y.cpu().numpy() - right) / np.linalg.norm(right)
        assert error <= 1e-5


@pytest.mark.parametrize("method", ["cuda_gemm", "cuda_winograd", "cuda_fft"])
def test_a_plan_on_several_streams(torch: Any, method: str) -> None:
    """They share its weights and nothing else; calls in threads, too."""
    import threading

    w = torch.randn(70, 40, 3, 3, device="cuda")
    inputs = [torch.randn(4, 40, 33, 35, device="cuda") for _ in range(6)]
    plan = fastconv.plan(fastconv.conv2d, inputs[0], w, padding=1, method=method)
    torch.cuda.synchronize()
    outputs: list[Any] = [None] * len(inputs)

    def call(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                outputs[i] = plan(inputs[i])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(inputs))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    torch.cuda.synchronize()
    for x, y in zip(inputs, outputs):
        right = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)
        assert (y - right).abs().max() < 1e-3


def test_calls_give_tensors(torch: Any) -> None:
    x, w = torch.randn(2, 8, 9, 9, device="cuda"), torch.randn(6, 8, 3, 3, device="cuda")
    y = fastconv.conv2d(x, w, padding=1, activation="relu")
    right = torch.relu(torch.nn.functional.conv2d(x.double(), w.double(), padding=1))
    assert y.is_cuda and y.dtype == torch.float32
    assert (y.double() - right).abs().max() < 1e-4


def test_other_streams(torch: Any) -> None:
    stream = torch.cuda.Stream()
    x, w = torch.randn(2, 8, 9, 9, device="cuda"), torch.randn(6, 8, 3, 3, device="cuda")
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        y = fastconv.conv2d(x, w)
    stream.synchronize()
    assert (y - torch.nn.functional.conv2d(x.double(), w.double())).abs().max() < 1e-4


@pytest.mark.parametrize(
    "method", ["cuda_direct", "cuda_gemm", "cuda_mma", "cuda_winograd", "cuda_fft"]
)
def test_graphs(torch: Any, method: str) -> None:
    """A warm plan is captured, and replayed on other data. The stream that captures is one that
    the plan was not called on: what it works in there is of the graph's pool."""
    x, w = torch.randn(2, 40, 9, 9, device="cuda"), torch.randn(6, 40, 3, 3, device="cuda")
    plan = fastconv.plan(fastconv.conv2d, x, w, padding=1, method=method)
    y = torch.empty(2, 6, 9, 9, device="cuda")
    plan(x, out=y)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plan(x, out=y)
    x.normal_()
    graph.replay()
    right = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)
    assert (y - right).abs().max() < 1e-4


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_filters(torch: Any, mode: str) -> None:
    """Each twice, the second time from addresses to the driver, on other data."""
    rng = np.random.default_rng(0)
    for _ in range(2):
        x = rng.standard_normal((37, 1050)).astype("f4")
        there = torch.from_numpy(x).cuda()
        for sigma in (0.5, 2.0):
            y = fastconv.ndimage.gaussian_filter(there, sigma, mode=mode)
            right = fastconv.ndimage.gaussian_filter(x, sigma, mode=mode)
            np.testing.assert_allclose(y.cpu().numpy(), right, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_bytes(torch: Any, mode: str) -> None:
    """The integers of the same call on the host."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (37, 1050), np.uint8)
    w = rng.integers(-128, 128, (3, 4), np.int8)
    there = torch.from_numpy(x).cuda()
    ndimage = fastconv.ndimage
    for function, value in ((ndimage.gaussian_filter, 1.5), (ndimage.uniform_filter, 5)):
        y = function(there, value, mode=mode)
        np.testing.assert_array_equal(y.cpu().numpy(), function(x, value, mode=mode))
    y = ndimage.correlate(there, torch.from_numpy(w).cuda(), "int16", mode)
    np.testing.assert_array_equal(y.cpu().numpy(), ndimage.correlate(x, w, "int16", mode))


@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
@pytest.mark.parametrize(
    "shapes", [((2000,), (37,)), ((40, 31), (5, 6)), ((11, 12, 13), (3, 4, 5))]
)
def test_signals(torch: Any, shapes: Any, method: str) -> None:
    """Of one to three axes, complex by complex and by real."""
    rng = np.random.default_rng(0)
    for mode in ("full", "same", "valid"):
        a, b = ((rng.standard_normal(s) + 1j * rng.standard_normal(s)).astype("c8") for s in shapes)
        for pair in (
            (a, b),
            (a, b.real.copy()),
            (a.real.copy(), b),
            (a.real.copy(), b.real.copy()),
        ):
            there = [torch.from_numpy(one).cuda() for one in pair]
            for function in (fastconv.convolve, fastconv.correlate):
                y = function(*there, mode, method=method).cpu().numpy()
                right = function(*(one.astype("c16") for one in pair), mode)
                np.testing.assert_allclose(y, right, rtol=0, atol=1e-3)
