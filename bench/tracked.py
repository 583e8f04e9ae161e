"""The rows whose history is kept and that `make bench-compare` looks at unless it is told others.

Some forty that take milliseconds: at least one of every family, method and front end. Literal, so
that old commits are measured by the same names.
"""

from __future__ import annotations

from . import shapes
from .interleave import Row

_LAYERS = [
    "resnet50.stem.7x7s2", "resnet50.3x3.64@56", "resnet50.3x3.128@28", "resnet50.3x3.256@14",
    "resnet50.3x3.512@7", "resnet50.1x1.256to64@56", "resnet50.3x3s2.128@56",
    "mobilenet.dw3x3.144@56", "mobilenet.dw3x3s2.144@56", "convnext.dw7x7.96@56",
    "deeplab.3x3d12.256@33", "resnext.g32.3x3.128@56", "pilotnet.5x5s2", "edge.1ch.3x3@1080p",
    "wavenet.1d.k3d64.128x16000", "speech.1d.k3.80to512x3000", "video.3d.3x3x3.16to32",
    "float64.3x3.64@56", "unet.up2x2s2.128to64@64", "resnet50.3x3.128@28.grad_input",
    "resnet50.3x3.128@28.grad_weight",
]  # fmt: skip

_SIGNALS = [
    "fir.1e3x16.f8", "fir.1e6x32.f4", "fir.1e6x256.f4", "fir.1e6x4096.f8", "complex.1e5x513",
    "int.1e6x64.i8", "batch.2000x4096.k64.f4", "image.1080p.25x25.f4", "volume.128.k5.f4",
]  # fmt: skip

_IMAGES = [
    "correlate.1080p.3x3.f4", "correlate.1080p.5x5.u1", "gaussian.1080p.rgb.s3.f4",
    "gaussian.1080p.rgb.s3.u1", "uniform.1080p.k31.f4", "sobel.1080p.f4",
]  # fmt: skip

#: Plain calls: what a plan's rows leave out.
_CALLS = ["resnet50.3x3.256@14", "mobilenet.dw3x3.144@56"]

_WORKSPACES = ["resnet50.3x3.64@56", "deeplab.3x3d12.256@33"]

TRACKED = [
    *(Row("bench_nn.Prepared.time_call", (shapes.NN[name], 1)) for name in _LAYERS),
    *(Row("bench_nn.Layer.time_call", (shapes.NN[name], "auto", 1)) for name in _CALLS),
    *(Row("bench_signal.Prepared.time_call", (shapes.SIGNAL[name], 1)) for name in _SIGNALS),
    *(Row("bench_ndimage.Prepared.time_call", (shapes.IMAGE[name], 1)) for name in _IMAGES),
    *(Row("bench_api.Tiny.time_call", (shapes.TINY[name],)) for name in ("conv2d", "convolve")),
    Row("bench_api.Planned.time_call"),
    Row("bench_stream.Block.time_period", (128,)),
    *(Row("bench_memory.Workspace.track_workspace", (shapes.NN[name],)) for name in _WORKSPACES),
]  # fmt: skip

#: Peers whose time stands beside the history of a family, and the benchmark of their ratio.
PEERS = {
    "bench_nn.Prepared.time_call": ("bench_peers.Layer", ["torch", "onnxruntime"]),
    "bench_signal.Prepared.time_call": ("bench_peers.Signal", ["fftconvolve", "oaconvolve"]),
    "bench_ndimage.Prepared.time_call": ("bench_peers.Image", ["ndimage", "opencv"]),
}
