"""Layers of networks: forward, transposed and gradients, plain calls by every method and plans."""

from __future__ import annotations

from . import common, shapes

THREADS = [1, 2]


class Layer(common.Timed):
    """A plain call, weights packed when they are not known."""

    params = (list(shapes.NN.values()), shapes.METHODS, THREADS)
    param_names = ("layer", "method", "threads")

    def setup(self, text: str, method: str, threads: int) -> None:
        self.prepare(text, method, threads)

    def time_call(self, text: str, method: str, threads: int) -> None:
        self.call()


class Prepared(common.Timed):
    """Weights packed beforehand and an output that is there, as in inference."""

    params = (list(shapes.NN.values()), THREADS)
    param_names = ("layer", "threads")

    def setup(self, text: str, threads: int) -> None:
        self.prepare_plan(text, threads)

    def time_call(self, text: str, threads: int) -> None:
        self.call()


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

        common.pin(1)
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
