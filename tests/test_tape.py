"""Warm calls on a GPU go from addresses to the driver, and give what the long way gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fake_gpu
import numpy as np
import pytest
from cuda_emulator import Fault
from fake_gpu import Tensor, ndarray

import fastconv
from fastconv.cuda import interop, tape

RNG = np.random.default_rng(0)


def noise(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype("f4")


X, W, BIAS, RESIDUAL = noise(2, 4, 7, 9), noise(6, 4, 3, 3), noise(6), noise(2, 6, 5, 7)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a function; what is not done by a tape is an error."""

    def run(function: Any, *args: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            for module, name in ((tape, "watch"), (interop, "wrapped"), (interop, "call")):
                patch.setattr(module, name, lambda *_: pytest.fail("the long way"))
            return function(*args, **options)

    return run


CALLS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "packed in the call": (fastconv.conv2d, (X, W), {"padding": 1, "method": "cuda_gemm"}),
    "in place": (fastconv.conv2d, (X, W, BIAS), {"method": "cuda_direct", "dilation": 2}),
    "finished": (fastconv.conv2d, (X, W, BIAS), {"residual": RESIDUAL, "activation": "silu"}),
    "unbatched": (fastconv.conv2d, (X[0], W), {}),
    "strided": (fastconv.conv2d, (X[:, :, ::2, 1::3], W[:, :, :, :2]), {"padding": 1}),
    "a launch a phase": (fastconv.conv_transpose2d, (X, W[:4]), {"stride": 2, "padding": 1}),
    "conv2d_weight": (
        fastconv.nn.conv2d_weight, (X, (6, 4, 3, 3), noise(2, 6, 4, 5)), {"stride": 2, "padding": 1}
    ),
    "blocks share sums": (
        fastconv.nn.conv2d_weight, (noise(4, 12, 15, 16), (8, 12, 3, 3), noise(4, 8, 13, 14)),
        {"method": "cuda_gemm"},
    ),
    "convolve": (fastconv.convolve, (X[0, 0], W[0, 0]), {"mode": "same"}),
}  # fmt: skip


@pytest.mark.parametrize("library", [Tensor, ndarray])
@pytest.mark.parametrize("name", CALLS)
def test_warm_calls(emulated: Any, short: Callable[..., Any], library: Any, name: str) -> None:
    """Of other data at other addresses; the launches are the first call's."""
    function, args, options = CALLS[name]

    def moved(a: Any) -> Any:
        return library.holding(a) if isinstance(a, np.ndarray) else a

    def call(scale: float, run: Any) -> Any:
        there = [moved(a * np.float32(scale) if i == 0 else a) for i, a in enumerate(args)]
        return run(function, *there, **{k: moved(v) for k, v in options.items()})

    first = call(1, lambda f, *a, **o: f(*a, **o))
    count = len(emulated.launches)
    second = call(-0.5, short)
    assert emulated.launches[count:] == emulated.launches[:count]
    assert type(second) is library and second.shape == first.shape
    assert second.pointer != first.pointer
    on_host = {k: v for k, v in options.items() if k != "method"}
    expected = function(args[0] * np.float32(-0.5), *args[1:], **on_host)
    np.testing.assert_allclose(second.host(), expected, rtol=0, atol=1e-4)


def test_warm_plans(emulated: Any, short: Callable[..., Any]) -> None:
    """Packed weights stay where they are, as all does that a plan was given; `out` may be the
    residual."""
    x, w, bias = map(Tensor.holding, (X, W, BIAS))
    for method in ("cuda_gemm", "cuda_direct"):
        plan = fastconv.plan(fastconv.conv2d, x, w, bias=bias, method=method)
        plan(x)
        sums = fastconv.conv2d(X, W, BIAS)
        y = short(plan, x)
        np.testing.assert_allclose(y.host(), sums, rtol=0, atol=1e-4)
        plan(x, residual=y, out=y)
        assert short(plan, x, residual=y, out=y) is y
        np.testing.assert_allclose(y.host(), 3 * sums, rtol=0, atol=3e-4)
        plan(x, out=y)
        emulated.capturing = True
        assert short(plan, x, out=y) is y
        emulated.capturing = False


def test_what_differs_goes_the_long_way(emulated: Any, short: Callable[..., Any]) -> None:
    x, w = Tensor.holding(X), Tensor.holding(W)
    fastconv.conv2d(x, w)
    short(fastconv.conv2d, x, w)
    turned = Tensor((2, 4, 7, 9), (252, 63, 1, 7), "f4", x.pointer, 0)
    shifted = Tensor((2, 4, 7, 9), (252, 63, 9, 1), "f4", x.pointer + 4, 0)
    for a, b in (
        (turned, w), (shifted, w), (Tensor.holding(X.astype("f8")), Tensor.holding(W.astype("f8"))),
        (Tensor.holding(X[:1]), w), (ndarray.holding(X), ndarray.holding(W)),
    ):  # fmt: skip
        with pytest.raises(pytest.fail.Exception):
            short(fastconv.conv2d, a, b)
    needy = Tensor.holding(X)
    needy.requires_grad = True
    with pytest.raises(TypeError, match="gradient"):
        fastconv.conv2d(needy, w)
    with pytest.raises(TypeError, match="nothing is copied"):
        fastconv.conv2d(x, W)
    with pytest.raises(TypeError, match="nothing is copied"):
        fastconv.conv2d(x, w, out=np.zeros((2, 6, 5, 7), "f4"))


def test_out_within_x(emulated: Any) -> None:
    """Arrays that the first call found apart may lie in one another in the next."""
    x, w, y = Tensor.holding(X), Tensor.holding(W), Tensor.empty((2, 6, 5, 7), "f4")
    fastconv.conv2d(x, w, out=y)
    fastconv.conv2d(x, w, out=y)
    within = Tensor(y.shape, y.steps, "f4", x.pointer + 16, 0)
    with pytest.raises(ValueError, match="expected out apart"):
        fastconv.conv2d(x, w, out=within)


def test_each_device_has_its_own(emulated: Any, short: Callable[..., Any]) -> None:
    emulated.devices = 2
    for ordinal in (0, 1):
        x, w = Tensor.holding(X, ordinal), Tensor.holding(W, ordinal)
        fastconv.conv2d(x, w)
    for ordinal in (1, 0, 1):
        x, w = Tensor.holding(X, ordinal), Tensor.holding(W, ordinal)
        assert short(fastconv.conv2d, x, w).ordinal == ordinal
        assert emulated.launches[-1][2] == ordinal


def test_the_stream_is_that_of_the_call(
    emulated: Any, short: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in (Tensor, ndarray):
        x, w = library.holding(X), library.holding(W)
        fastconv.conv2d(x, w)
        with monkeypatch.context() as patch:
            patch.setattr(fake_gpu, "STREAM", 8)
            short(fastconv.conv2d, x, w)
        assert emulated.launches[-1][3] == 8


def test_what_the_driver_answers_is_raised(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = Tensor.holding(X), Tensor.holding(W)
    fastconv.conv2d(x, w)

    def fails(*_: Any) -> None:
        raise Fault("out of resources")

    monkeypatch.setattr(emulated, "launch", fails)
    with pytest.raises(Fault, match="out of resources"):
        fastconv.conv2d(x, w)
