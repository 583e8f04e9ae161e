"""What is measured: one line of text a case, read without fastconv so that any commit can be.

A network layer is named by the function and the letters of a Problem's text; for the forward
functions the line *is* a Problem. ``k`` counts output channels, ``p`` ``u`` ``l`` ``g`` are
padding, stride, dilation and groups; ``conv_transpose`` has weights (C, K, ...).
Signals and images are named by the function, the dtype, and the sizes of both operands.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

#: name -> text. Layers of networks, float32 unless the text says otherwise.
NN = {
    "resnet50.stem.7x7s2": "conv2d f32 n1 c3 h224 w224 k64 r7 s7 p3 u2",
    "resnet50.3x3.64@56": "conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1",
    "resnet50.3x3.128@28": "conv2d f32 n1 c128 h28 w28 k128 r3 s3 p1",
    "resnet50.3x3.256@14": "conv2d f32 n1 c256 h14 w14 k256 r3 s3 p1",
    "resnet50.3x3.512@7": "conv2d f32 n1 c512 h7 w7 k512 r3 s3 p1",
    "resnet50.1x1.256to64@56": "conv2d f32 n1 c256 h56 w56 k64 r1 s1",
    "resnet50.1x1.64to256@56": "conv2d f32 n1 c64 h56 w56 k256 r1 s1",
    "resnet50.3x3s2.128@56": "conv2d f32 n1 c128 h56 w56 k128 r3 s3 p1 u2",
    "resnet50.1x1s2.256to512@56": "conv2d f32 n1 c256 h56 w56 k512 r1 s1 u2",
    "vgg.3x3.64@224": "conv2d f32 n1 c64 h224 w224 k64 r3 s3 p1",
    "vgg.3x3.256@56": "conv2d f32 n1 c256 h56 w56 k256 r3 s3 p1",
    "unet.3x3.64@256": "conv2d f32 n1 c64 h256 w256 k64 r3 s3 p1",
    "mobilenet.dw3x3.144@56": "conv2d f32 n1 c144 h56 w56 k144 r3 s3 g144 p1",
    "mobilenet.dw3x3s2.144@56": "conv2d f32 n1 c144 h56 w56 k144 r3 s3 g144 p1 u2",
    "convnext.dw7x7.96@56": "conv2d f32 n1 c96 h56 w56 k96 r7 s7 g96 p3",
    "replknet.dw31x31.128@56": "conv2d f32 n1 c128 h56 w56 k128 r31 s31 g128 p15",
    "deeplab.3x3d12.256@33": "conv2d f32 n1 c256 h33 w33 k256 r3 s3 p12 l12",
    "resnext.g32.3x3.128@56": "conv2d f32 n1 c128 h56 w56 k128 r3 s3 g32 p1",
    "batch16.3x3.64@56": "conv2d f32 n16 c64 h56 w56 k64 r3 s3 p1",
    "pilotnet.5x5s2": "conv2d f32 n1 c3 h66 w200 k24 r5 s5 u2",
    "bank.32of16x16@256": "conv2d f32 n1 c1 h256 w256 k32 r16 s16",
    "edge.1ch.3x3@1080p": "conv2d f32 n1 c1 h1080 w1920 k1 r3 s3 p1",
    "blur.rgb.dw15x15@1080p": "conv2d f32 n1 c3 h1080 w1920 k3 r15 s15 g3 p7",
    "wavenet.1d.k3d64.128x16000": "conv1d f32 n1 c128 w16000 k128 s3 p64 l64",
    "speech.1d.k3.80to512x3000": "conv1d f32 n1 c80 w3000 k512 s3 p1",
    "video.3d.3x3x3.16to32": "conv3d f32 n1 c16 d32 h64 w64 k32 t3 r3 s3 p1",
    "float64.3x3.64@56": "conv2d f64 n1 c64 h56 w56 k64 r3 s3 p1",
    "unet.up2x2s2.128to64@64": "conv_transpose2d f32 n1 c128 h64 w64 k64 r2 s2 u2",
    "dcgan.up4x4s2.256to128@16": "conv_transpose2d f32 n8 c256 h16 w16 k128 r4 s4 p1 u2",
    "resnet50.3x3.128@28.grad_input": "conv2d_input f32 n8 c128 h28 w28 k128 r3 s3 p1",
    "resnet50.3x3.128@28.grad_weight": "conv2d_weight f32 n8 c128 h28 w28 k128 r3 s3 p1",
}

SIGNAL = {
    "fir.1e3x16.f8": "convolve f64 a1000 b16",
    "fir.1e6x32.f8": "convolve f64 a1000000 b32",
    "fir.1e6x32.f4": "convolve f32 a1000000 b32",
    "fir.1e6x256.f4": "convolve f32 a1000000 b256",
    "fir.1e6x4096.f8": "convolve f64 a1000000 b4096",
    "reverb.60s48k.2s.f4": "convolve f32 a2880000 b96000",
    "equal.1e6x1e6.f8": "convolve f64 a1000000 b1000000",
    "complex.1e5x513": "convolve c128 a100000 b513",
    "int.1e6x64.i8": "convolve i64 a1000000 b64",
    "batch.2000x4096.k64.f4": "oaconvolve f32 a2000,4096 b1,64 axes1",
    "image.1080p.25x25.f4": "convolve f32 a1080,1920 b25,25 same",
    "template.1080p.201x301.f4": "convolve f32 a1080,1920 b201,301 valid",
    "volume.128.k5.f4": "convolve f32 a128,128,128 b5,5,5 same",
    "volume.128.k17.f4": "convolve f32 a128,128,128 b17,17,17 same",
}

IMAGE = {
    "correlate.1080p.3x3.f4": "correlate f32 a1080,1920 b3,3",
    "correlate.1080p.5x5.u1": "correlate u8 a1080,1920 b5,5 y:f32",
    "correlate.1080p.15x15.f4": "correlate f32 a1080,1920 b15,15",
    "gaussian.1080p.rgb.s3.f4": "gaussian_filter f32 a1080,1920,3 sigma3,3,0",
    "gaussian.1080p.rgb.s3.u1": "gaussian_filter u8 a1080,1920,3 sigma3,3,0",
    "uniform.1080p.k31.f4": "uniform_filter f32 a1080,1920 size31",
    "sobel.1080p.f4": "sobel f32 a1080,1920",
    "gaussian.volume256.s2.f4": "gaussian_filter f32 a256,256,256 sigma2,2,2",
}

#: Tiny calls: what is timed is the way to the kernel, not the kernel.
TINY = {
    "conv2d": "conv2d f32 n1 c1 h8 w8 k1 r3 s3",
    "conv2d.8": "conv2d f32 n1 c8 h16 w16 k8 r3 s3 p1",
    "conv1d": "conv1d f32 n1 c1 w16 k1 s3",
    "convolve": "convolve f64 a16 b3",
    "correlate.image": "correlate f32 a8,8 b3,3",
}

#: Small, but a layer.
SMALL = "conv2d f32 n1 c8 h16 w16 k8 r3 s3 p1"

#: What ``method=`` may say on the CPU, and on a GPU; a test compares with fastconv's solvers.
METHODS = [
    "auto", "depthwise", "dot", "direct", "implicit_gemm", "panels", "col2im", "pairs", "quads",
    "quad_rows", "separable", "im2col", "winograd", "winograd_pairs", "amx_int8", "amx_split",
    "amx_winograd", "amx_gradient", "fft", "overlap_save", "limbs", "tilted", "naive",
]  # fmt: skip
CUDA_METHODS = ["cuda_direct", "cuda_fir", "cuda_gemm", "cuda_mma", "cuda_winograd", "cuda_fft"]

_NUMPY = {
    "f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128",
    "u8": "uint8", "i64": "int64",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """One parsed line: what to call, on operands of which shapes, with which options.

    `w_shape` is None where the function takes no second operand. `size` is what the gradient
    functions want as their size argument. `kind` is "layer", "signal" or "image".
    """

    text: str
    kind: str
    function: str
    dtype: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...] | None
    options: dict[str, Any]
    size: tuple[int, ...] | None = None
    w_dtype: str | None = None

    @property
    def groups(self) -> int:
        return self.options.get("groups", 1)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Of a layer: a number for each spatial axis."""

    dims: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]


def spatial(c: Case) -> Geometry:
    """The geometry of a layer."""
    dims = len(c.x_shape) - 2

    def each(name: str, default: int) -> tuple[int, ...]:
        value = c.options.get(name, default)
        return (value,) * dims if isinstance(value, int) else tuple(value)

    w_shape = c.size if c.function.endswith("_weight") else c.w_shape
    assert w_shape is not None
    return Geometry(
        dims, w_shape[2:], each("stride", 1), each("padding", 0), each("dilation", 1),
        each("output_padding", 0),
    )  # fmt: skip


def case(text: str) -> Case:
    """Read a line of the tables above."""
    function, dtype, *words = text.split()
    if re.match(r"conv(_transpose)?\dd", function):
        return _layer(text, function, _NUMPY[dtype], words)
    return _operands(text, function, _NUMPY[dtype], words)


def _layer(text: str, function: str, dtype: str, words: list[str]) -> Case:
    number = {word[0]: int(word[1:]) for word in words}
    space = tuple(number[a] for a in "dhw" if a in number)
    kernel = tuple(number[a] for a in "trs" if a in number)
    groups = number.get("g", 1)
    options = {"stride": number.get("u", 1), "padding": number.get("p", 0)}
    options |= {"dilation": number.get("l", 1), "groups": groups}
    x_shape = (number["n"], number["c"], *space)
    w_shape = (number["k"], number["c"] // groups, *kernel)
    if function.startswith("conv_transpose"):
        w_shape = (number["c"], number["k"] // groups, *kernel)
        return Case(text, "layer", function, dtype, x_shape, w_shape, options)
    y_shape = (number["n"], number["k"], *(
        (i + 2 * options["padding"] - options["dilation"] * (r - 1) - 1) // options["stride"] + 1
        for i, r in zip(space, kernel)
    ))  # fmt: skip
    if function.endswith("_input"):  # of the output's gradient and the weights
        return Case(text, "layer", function, dtype, y_shape, w_shape, options, size=x_shape)
    if function.endswith("_weight"):  # of the input and the output's gradient
        return Case(text, "layer", function, dtype, x_shape, y_shape, options, size=w_shape)
    return Case(text, "layer", function, dtype, x_shape, w_shape, options)


def _operands(text: str, function: str, dtype: str, words: list[str]) -> Case:
    shapes: dict[str, tuple[int, ...]] = {}
    options: dict[str, Any] = {}
    for word in words:
        if word in ("full", "same", "valid"):
            options["mode"] = word
        elif word.startswith("y:"):
            options["output"] = _NUMPY[word[2:]]
        elif match := re.fullmatch(r"(a|b|axes|sigma|size)([\d,]+)", word):
            numbers = tuple(map(int, match[2].split(",")))
            if match[1] in "ab":
                shapes[match[1]] = numbers
            else:
                options[match[1]] = numbers if match[1] != "size" else numbers[0]
        else:
            raise ValueError(f"cannot read {word!r} in {text!r}")
    kind = "signal" if "convolve" in function else "image"
    w_dtype = options.get("output", dtype)
    return Case(text, kind, function, dtype, shapes["a"], shapes.get("b"), options, w_dtype=w_dtype)


def arrays(c: Case) -> tuple[Any, Any]:
    """The operands of a case, the same on every call; the second is None where there is none."""
    import numpy as np

    random = np.random.default_rng(0)

    def one(shape: tuple[int, ...], dtype: str) -> Any:
        if dtype[0] in "iu":
            return random.integers(0, 100, shape).astype(dtype)
        values = random.standard_normal(shape)
        if dtype[0] == "c":
            values = values + 1j * random.standard_normal(shape)
        return values.astype(dtype)

    x = one(c.x_shape, c.dtype)
    if c.kind == "power":  # probabilities
        x = abs(x) / abs(x).sum()
    return x, None if c.w_shape is None else one(c.w_shape, c.w_dtype or c.dtype)
