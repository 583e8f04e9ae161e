"""fastconv's plans beside every peer: time(fastconv) / time(peer), below 1 where fastconv is ahead.

Both sides are timed in one process, interleaved, and compared: a peer that computes something else
is an error here. A peer that is not installed, or has no such operation, is skipped.
"""

from __future__ import annotations

from . import common, shapes

THREADS = [1, 2]


class Layer(common.Against):
    params = (
        list(shapes.NN.values()),
        ["torch", "torch-nhwc", "onnxruntime", "openvino", "ncnn"],
        THREADS,
    )
    param_names = ("layer", "peer", "threads")


class Signal(common.Against):
    params = (
        list(shapes.SIGNAL.values()), ["convolve", "fftconvolve", "oaconvolve", "numpy"], THREADS,
    )  # fmt: skip
    param_names = ("signal", "peer", "threads")


class Image(common.Against):
    params = (list(shapes.IMAGE.values()), ["ndimage", "opencv"], THREADS)
    param_names = ("filter", "peer", "threads")
