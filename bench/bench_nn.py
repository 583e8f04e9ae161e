"""Layers of networks: every method, prepared or not, and beside PyTorch."""

from __future__ import annotations

from . import common, shapes

METHODS = ["auto", "direct", "im2col", "winograd", "fft", "overlap_save"]


class Layer(common.Timed):
    params = (list(shapes.NN.values()), METHODS)
    param_names = ("layer", "method")

    def setup(self, text: str, method: str) -> None:
        self.prepare(text, method)

    def time_call(self, text: str, method: str) -> None:
        self.call()


class Prepared(common.Timed):
    """Weights packed beforehand and an output that is there, as in inference."""

    params = ([t for t in shapes.NN.values() if t.split()[0] in ("conv1d", "conv2d", "conv3d")],)
    param_names = ("layer",)

    def setup(self, text: str) -> None:
        import fastconv

        common.without_wisdom()
        c = shapes.case(text)
        self.x, w = shapes.arrays(c)
        self.plan = fastconv.plan(getattr(fastconv, c.function), self.x, w, **c.options)
        self.out = self.plan(self.x)

    def time_call(self, text: str) -> None:
        self.plan(self.x, out=self.out)


class Epilogue(common.Timed):
    """A residual layer, finished in the convolution or by passes of NumPy over its output."""

    params = (
        [t for t in shapes.NN.values() if t.split()[0] == "conv2d"],
        ["relu", "silu", "gelu"],
        ["fused", "separate"],
    )
    param_names = ("layer", "activation", "how")

    def setup(self, text: str, activation: str, how: str) -> None:
        import numpy as np
        import scipy.special

        import fastconv

        common.without_wisdom()
        c = shapes.case(text)
        x, w = shapes.arrays(c)
        options = c.options if how == "separate" else {**c.options, "activation": activation}
        plan = fastconv.plan(fastconv.conv2d, x, w, **options)
        y = plan(x)
        residual, one = np.ones_like(y), y.dtype.type(1)

        def separate() -> None:
            plan(x, out=y)
            np.add(y, residual, out=y)
            if activation == "relu":
                np.maximum(y, 0, out=y)
            elif activation == "silu":
                np.multiply(y, scipy.special.expit(y), out=y)
            else:
                np.multiply(y, one / 2 * (one + scipy.special.erf(y * one / 2**0.5)), out=y)

        self.call = separate if how == "separate" else lambda: plan(x, out=y, residual=residual)

    def time_call(self, text: str, activation: str, how: str) -> None:
        self.call()


class Ratio(common.Against):
    params = (list(shapes.NN.values()), ["torch", "torch-nhwc"])
    param_names = ("layer", "peer")

    def track_time_ratio(self, text: str, peer: str) -> float:
        return self.ratio(text, peer)
