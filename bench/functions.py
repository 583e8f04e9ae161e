"""A call of every public function, on operands that fit in the second level cache.

Each entry makes its operands and returns the call; tests compare the names with what fastconv makes
public.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


def _random(*shape: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).standard_normal(shape).astype("f4")


def _layer(name: str) -> Callable[[], Call]:
    """8 channels to 8, 3 taps an axis, 4096 pixels."""

    def make() -> Call:
        from fastconv import nn

        function: Any = getattr(nn, name)
        dims = int(name.partition("d")[0][-1])
        space = {1: (4096,), 2: (64, 64), 3: (16, 16, 16)}[dims]
        x, w = _random(1, 8, *space), _random(8, 8, *(3,) * dims)
        if name.endswith("_input"):
            return lambda: function(x.shape, w, grad_output=x, padding=1)
        if name.endswith("_weight"):
            return lambda: function(x, w.shape, grad_output=x, padding=1)
        return lambda: function(x, w, padding=1)

    return make


def _integers(name: str) -> Callable[[], Call]:
    """The same layer of bytes."""

    def make() -> Call:
        import numpy as np

        from fastconv import nn

        x = np.full((1, 8, 64, 64), 130, np.uint8)
        w = np.ones((8, 8, 3, 3), np.int8)
        if name == "conv_integer":
            return lambda: nn.conv_integer(x, w, 128, padding=1)
        return lambda: nn.qlinear_conv(x, 0.1, 128, w, 0.1, 0, 0.1, 128, padding=1)

    return make


def _signal(name: str) -> Callable[[], Call]:
    def make() -> Call:
        from fastconv import signal

        function: Any = getattr(signal, name)
        if name == "correlation_lags":
            return lambda: function(4096, 64)
        if name == "upfirdn":
            x, h = _random(4096), _random(64)
            return lambda: function(h, x, 3, 2)
        a, b = (_random(64, 64), _random(5, 5)) if "2d" in name else (_random(4096), _random(64))
        return lambda: function(a, b)

    return make


def _filter(name: str) -> Callable[[], Call]:
    def make() -> Call:
        from fastconv import ndimage

        function: Any = getattr(ndimage, name)
        image = _random(128, 128)
        derivative: Any = ndimage.sobel

        def second(input: Any, axis: int, output: Any, mode: Any, cval: float) -> Any:
            return ndimage.correlate1d(input, [1, -2, 1], axis, output, mode, cval)

        first = {
            "convolve": [_random(3, 3)], "correlate": [_random(3, 3)],
            "convolve1d": [_random(5)], "correlate1d": [_random(5)],
            "gaussian_filter": [2.0], "gaussian_filter1d": [2.0], "gaussian_laplace": [2.0],
            "gaussian_gradient_magnitude": [2.0], "uniform_filter": [5], "uniform_filter1d": [5],
            "generic_laplace": [second], "generic_gradient_magnitude": [derivative],
        }.get(name, [])  # fmt: skip
        return lambda: function(image, *first)

    return make


def _convolver() -> Call:
    import fastconv

    stream, block = fastconv.Convolver(_random(4096), 128), _random(128)
    return lambda: stream.process(block)


def _blockwise() -> Call:
    import numpy as np

    import fastconv

    x, w = _random(256, 256), _random(5, 5)
    out = np.empty((260, 260), "f4")
    return lambda: fastconv.convolve_blockwise(x, w, out)


def _match() -> Call:
    import fastconv

    image, template = _random(128, 128), _random(16, 16)
    return lambda: fastconv.match_template(image, template)


def _delay() -> Call:
    import fastconv

    a = _random(4096)
    return lambda: fastconv.find_delay(a, a[100:])


def _peak() -> Call:
    import fastconv

    score = _random(128, 128)
    return lambda: fastconv.peak_position(score)


def _power() -> Call:
    import fastconv

    return lambda: fastconv.convolve_power([0.25, 0.5, 0.25], 1000)


def _planning(name: str) -> Callable[[], Call]:
    """Of functions about calls: on the same layer, met before."""

    def make() -> Call:
        import fastconv

        function: Any = getattr(fastconv, name)
        x, w = _random(1, 8, 64, 64), _random(8, 8, 3, 3)
        options: dict[str, Any] = {"budget": 0.0} if name == "tune" else {}
        return lambda: function(fastconv.conv2d, x, w, padding=1, **options)

    return make


def _autotune() -> Call:
    import fastconv

    def call() -> None:
        with fastconv.autotune("off"):
            pass

    return call


_LAYERS = [
    f"{name}{dims}d{rest}" for dims in "123"
    for name, rest in (("conv", ""), ("conv", "_input"), ("conv", "_weight"),
                       ("conv_transpose", ""))
]  # fmt: skip

_SIGNALS = [
    "choose_conv_method", "convolve", "convolve2d", "correlate", "correlate2d",
    "correlation_lags", "fftconvolve", "oaconvolve", "upfirdn",
]  # fmt: skip

_FILTERS = [
    "convolve", "correlate", "convolve1d", "correlate1d", "gaussian_filter", "gaussian_filter1d",
    "uniform_filter", "uniform_filter1d", "sobel", "prewitt", "laplace", "gaussian_laplace",
    "gaussian_gradient_magnitude", "generic_laplace", "generic_gradient_magnitude",
]  # fmt: skip

CALLS: dict[str, Callable[[], Call]] = {
    **{f"nn.{name}": _layer(name) for name in _LAYERS},
    **{f"nn.{name}": _integers(name) for name in ("conv_integer", "qlinear_conv")},
    **{f"signal.{name}": _signal(name) for name in _SIGNALS},
    **{f"ndimage.{name}": _filter(name) for name in _FILTERS},
    "stream.Convolver": _convolver,
    "convolve_blockwise": _blockwise,
    "match_template": _match,
    "find_delay": _delay,
    "peak_position": _peak,
    "convolve_power": _power,
    "plan": _planning("plan"),
    "candidates": _planning("candidates"),
    "tune": _planning("tune"),
    "autotune": _autotune,
}
