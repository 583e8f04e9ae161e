"""The peers: libraries that do the work of a `shapes.Case`, each called the way it is fastest.

What a user does once is not timed: arrays are converted, models compiled and outputs allocated
beforehand wherever the library has a way to. Each function takes a case and the number of threads
and returns a `Work`, or None when the library has no such operation.

torch            `torch.nn.functional` on contiguous tensors; gradients by the operator behind
                 autograd
torch-nhwc       the same on channels-last tensors, weights too; one dimension as a 2-D layer of
                 one row
onnxruntime      a model of one node, its weights an initializer, run with bound input and output
openvino         the same: f32 inference precision, latency hint, one stream
ncnn             a net of one layer: Winograd and packing on, 16-bit storage and arithmetic off,
                 pooled memory; an image at a time, as it has no batches
opencv           `filter2D`, `GaussianBlur`, `blur`, `Sobel`, into an array that is there
ndimage          `scipy.ndimage`, into an array that is there
convolve, fftconvolve, oaconvolve
                 of `scipy.signal`
numpy            `numpy.convolve`
squarings        `fftconvolve`, squared bit by bit of the power
matchTemplate, skimage
                 TM_CCOEFF_NORMED of OpenCV into an array that is there, `match_template` of
                 scikit-image

Where a gradient with respect to the input is a transposed convolution, the libraries for inference
compute it as one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import struct
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from .shapes import Case, arrays, spatial


@dataclasses.dataclass(frozen=True)
class Work:
    """`run` is what is timed; `array` makes what it returns a NumPy array of fastconv's shape."""

    run: Callable[[], Any]
    array: Callable[[Any], Any] = np.asarray


@dataclasses.dataclass(frozen=True)
class Library:
    """A peer: `make` returns the work of a case of its `kind`, None when there is no such call."""

    module: str
    kind: str
    make: Callable[[Case, int], Work | None]


def fastconv_call(c: Case, **options: Any) -> Work:
    """A call of fastconv as its user would write it."""
    function, x, w, arguments = _fastconv(c, options)
    if w is None:
        return Work(lambda: function(x, **arguments))
    if c.function.endswith("_input"):
        return Work(lambda: function(grad_output=x, w=w, **arguments))
    if c.function.endswith("_weight"):
        return Work(lambda: function(x, grad_output=w, **arguments))
    return Work(lambda: function(x, w, **arguments))


def fastconv_plan(c: Case, **options: Any) -> tuple[Work, Any]:
    """A prepared plan of fastconv that writes to an array which is there, and the plan."""
    import fastconv

    function, x, w, arguments = _fastconv(c, options)
    plan = fastconv.plan(function, x, w, **arguments)
    out = np.empty_like(plan(x))
    return Work(lambda: plan(x, out=out)), plan


def _fastconv(c: Case, options: dict[str, Any]) -> tuple[Callable[..., Any], Any, Any, Any]:
    import fastconv
    from fastconv import ndimage, nn, signal

    modules = {"layer": nn, "signal": signal, "image": ndimage}
    function = getattr(modules.get(c.kind, fastconv), c.function)
    size = {}
    if c.size is not None:
        size["input_size" if c.function.endswith("_input") else "weight_size"] = c.size
    return function, *arrays(c), {**c.options, **size, **options}


def _torch(c: Case, threads: int) -> Work | None:
    return _torch_layer(c, threads, channels_last=False)


def _torch_nhwc(c: Case, threads: int) -> Work | None:
    return _torch_layer(c, threads, channels_last=True)


def _torch_layer(c: Case, threads: int, channels_last: bool) -> Work:
    import torch

    torch.set_num_threads(threads)
    g = spatial(c)
    row = channels_last and g.dims == 1  # as a picture of one row
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}

    def tensor(a: Any) -> Any:
        t = torch.from_numpy(a)
        t = t.unsqueeze(2) if row else t
        if not channels_last:
            return t
        return t.contiguous(memory_format=formats[t.ndim - 2])

    def axes(values: tuple[int, ...], first: int) -> list[int]:
        return [first, *values] if row else list(values)

    def array(y: Any) -> Any:
        return (y.squeeze(2) if row else y).numpy()

    x, w = map(tensor, arrays(c))
    stride, padding = axes(g.stride, 1), axes(g.padding, 0)
    dilation, extra = axes(g.dilation, 1), axes(g.output_padding, 0)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": c.groups}
    if c.size is None:
        function = getattr(torch.nn.functional, f"{c.function[:-2]}{x.ndim - 2}d")
        if c.function.startswith("conv_transpose"):
            options["output_padding"] = extra

        def run() -> Any:
            with torch.inference_mode():
                return function(x, w, **options)

        return Work(run, array)
    of_input = c.function.endswith("_input")
    other = tensor(np.zeros(c.size, c.dtype))
    operands = (x, other, w) if of_input else (w, x, other)
    backward = torch.ops.aten.convolution_backward

    def run_backward() -> Any:
        with torch.inference_mode():
            return backward(
                *operands, None, stride, padding, dilation, False, extra, c.groups,
                [of_input, not of_input, False],
            )[not of_input]  # fmt: skip

    return Work(run_backward, array)


def _as_forward(c: Case) -> tuple[bool, tuple[int, ...]] | None:
    """(transposed, output padding) of a layer for libraries that have no gradients."""
    g = spatial(c)
    if c.function.endswith("_weight"):
        return None
    if not c.function.endswith("_input"):
        return c.function.startswith("conv_transpose"), g.output_padding
    assert c.size is not None
    least = tuple(
        (o - 1) * u - 2 * p + l * (r - 1) + 1
        for o, u, p, l, r in zip(c.x_shape[2:], g.stride, g.padding, g.dilation, g.kernel)
    )
    return True, tuple(i - m for i, m in zip(c.size[2:], least))


def _onnxruntime(c: Case, threads: int) -> Work | None:
    forward = _as_forward(c)
    if forward is None:
        return None
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    transposed, extra = forward
    x, w = arrays(c)
    g = spatial(c)
    options: dict[str, Any] = {
        "kernel_shape": g.kernel, "strides": g.stride, "pads": (*g.padding, *g.padding),
        "dilations": g.dilation, "group": c.groups,
    }  # fmt: skip
    if transposed:
        options["output_padding"] = extra
    node = helper.make_node("ConvTranspose" if transposed else "Conv", ["x", "w"], ["y"], **options)
    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[c.dtype]
    graph = helper.make_graph(
        [node], "one layer", [helper.make_tensor_value_info("x", kind, c.x_shape)],
        [helper.make_tensor_value_info("y", kind, None)], [numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    y = onnxruntime.OrtValue.ortvalue_from_numpy(session.run(None, {"x": x})[0])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_output("y", y)
    return Work(lambda: session.run_with_iobinding(binding), lambda _: y.numpy())


def _openvino(c: Case, threads: int) -> Work | None:
    forward = _as_forward(c)
    if forward is None or c.dtype != "float32":
        return None
    import openvino
    from openvino import opset13 as ops

    transposed, extra = forward
    x, w = arrays(c)
    g = spatial(c)
    data = ops.parameter(x.shape, x.dtype)
    if c.groups > 1:
        w = w.reshape(c.groups, w.shape[0] // c.groups, *w.shape[1:])
    name = "group_convolution" if c.groups > 1 else "convolution"
    ends = list(g.padding)
    if transposed:
        node = getattr(ops, f"{name}_backprop_data")(
            data, ops.constant(w), list(g.stride), pads_begin=ends, pads_end=ends,
            dilations=list(g.dilation), output_padding=list(extra),
        )  # fmt: skip
    else:
        node = getattr(ops, name)(
            data, ops.constant(w), list(g.stride), ends, ends, list(g.dilation)
        )
    settings = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1",
    }  # fmt: skip
    request = (
        openvino.Core()
        .compile_model(openvino.Model([node], [data], "layer"), "CPU", settings)
        .create_infer_request()
    )
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def run(kept: Any = x) -> None:  # the tensor shares x's memory and does not keep it
        request.infer()

    return Work(run, lambda _: np.array(request.get_output_tensor().data))


def _ncnn(c: Case, threads: int) -> Work | None:
    forward = _as_forward(c)
    if forward is None or c.dtype != "float32":
        return None
    import ncnn

    transposed, extra = forward
    x, w = arrays(c)
    g = spatial(c)
    filters = w.shape[1] * c.groups if transposed else w.shape[0]
    if transposed:  # stored as (K, C, ...) within a group
        w = w.reshape(c.groups, w.shape[0] // c.groups, *w.shape[1:]).swapaxes(1, 2)
    # axes from the last to the first: keys of kernel, dilation, stride, padding before and behind,
    # output padding
    keys = ((1, 2, 3, 4, 15, 18), (11, 12, 13, 14, 16, 19), (21, 22, 23, 24, 17, 20))
    values = {0: filters, 5: 0, 6: w.size, 7: c.groups}
    for axis, named in zip(range(g.dims)[::-1], keys):
        each = (g.kernel, g.dilation, g.stride, g.padding, g.padding, extra)
        values |= {key: value[axis] for key, value in zip(named, each)}
    if not transposed:
        for named in keys:
            values.pop(named[5], None)
    layer = "Deconvolution" if transposed else "Convolution"
    layer += ("DepthWise" if c.groups > 1 else "") + ("1D", "", "3D")[g.dims - 1]
    settings = " ".join(f"{k}={v}" for k, v in values.items())
    net = ncnn.Net()
    option = net.opt
    for name in dir(option):
        if name.startswith(("use_fp16", "use_bf16", "use_int8", "use_vulkan")):
            setattr(option, name, False)
    option.num_threads = threads
    option.blob_allocator, option.workspace_allocator = _ncnn_pools()
    text = f"7767517\n2 2\nInput in 0 1 in\n{layer} layer 1 1 in out {settings}\n"
    if net.load_param_mem(text) != 0:
        return None
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(struct.pack("<i", 0) + np.ascontiguousarray(w).tobytes())  # 0: float32 follows
        file.flush()
        net.load_model(file.name)
    images = [ncnn.Mat(image) for image in x]

    def run(kept: Any = x) -> Any:  # the images share its memory
        found = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("in", image)
            found.append(extractor.extract("out")[1])
        return found

    return Work(run, lambda found: np.stack([np.array(each) for each in found]))


@functools.cache
def _ncnn_pools() -> Any:
    """Memory that nets of all cases reuse: a pool must outlive whatever came from it."""
    import ncnn

    return ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()


def _opencv(c: Case, threads: int) -> Work | None:
    if len(c.x_shape) > 3 or (len(c.x_shape) == 3 and c.x_shape[-1] > 4):
        return None
    import cv2

    cv2.setNumThreads(threads)
    x, w = arrays(c)
    border = cv2.BORDER_REFLECT  # scipy.ndimage's "reflect"
    depth = cv2.CV_32F if c.options.get("output", c.dtype) == "float32" else -1
    if c.function == "correlate" and len(c.x_shape) == 2:
        y, w = np.empty(x.shape, "f4"), np.asarray(w, "f4")
        return Work(lambda: cv2.filter2D(x, depth, w, y, borderType=border))
    y = np.empty_like(x)
    if c.function == "gaussian_filter" and (x.ndim == 2 or c.options["sigma"][2] == 0):
        down, across = c.options["sigma"][:2]
        taps = tuple(2 * int(4 * s + 0.5) + 1 for s in (across, down))
        return Work(lambda: cv2.GaussianBlur(x, taps, across, y, down, borderType=border))
    if c.function == "uniform_filter" and x.ndim == 2:
        size = c.options["size"]
        return Work(lambda: cv2.blur(x, (size, size), y, borderType=border))
    if c.function == "sobel" and c.options.get("axis", -1) == -1 and x.ndim == 2:
        return Work(lambda: cv2.Sobel(x, depth, 1, 0, y, ksize=3, borderType=border))
    return None


def _ndimage(c: Case, threads: int) -> Work | None:
    import scipy.ndimage

    x, w = arrays(c)
    options = {k: v for k, v in c.options.items() if k != "output"}
    y = np.empty(c.x_shape, c.options.get("output", c.dtype))
    function = getattr(scipy.ndimage, c.function)
    return Work(lambda: function(x, *([] if w is None else [w]), output=y, **options))


def _scipy_signal(name: str) -> Callable[[Case, int], Work | None]:
    def make(c: Case, threads: int) -> Work | None:
        import scipy.fft
        import scipy.signal

        if name == "convolve" and "axes" in c.options:
            return None
        if name != "convolve" and c.dtype[0] in "iu":
            return None  # they round to floating point
        x, w = arrays(c)
        function = getattr(scipy.signal, name)

        def run() -> Any:
            with scipy.fft.set_workers(threads):
                return function(x, w, **c.options)

        return Work(run)

    return make


def _numpy(c: Case, threads: int) -> Work | None:
    # its one method is the direct one, hopeless for long kernels
    if c.function != "convolve" or len(c.x_shape) != 1 or math.prod(c.w_shape or ()) > 10_000:
        return None
    x, w = arrays(c)
    return Work(lambda: np.convolve(x, w, c.options.get("mode", "full")))


def _squarings(c: Case, threads: int) -> Work | None:
    import scipy.fft
    import scipy.signal

    p, _ = arrays(c)

    def run() -> Any:
        power = p
        with scipy.fft.set_workers(threads):
            for bit in bin(c.options["n"])[3:]:
                power = scipy.signal.fftconvolve(power, power)
                if bit == "1":
                    power = scipy.signal.fftconvolve(power, p)
        return power

    return Work(run)


def _match_opencv(c: Case, threads: int) -> Work | None:
    if c.dtype not in ("uint8", "float32") or len(c.x_shape) != 2 or "mode" in c.options:
        return None
    import cv2

    cv2.setNumThreads(threads)
    x, w = arrays(c)
    y = np.empty([n - m + 1 for n, m in zip(x.shape, w.shape)], np.float32)
    return Work(lambda: cv2.matchTemplate(x, w, cv2.TM_CCOEFF_NORMED, y))


def _match_skimage(c: Case, threads: int) -> Work | None:
    if c.options:
        return None
    from skimage.feature import match_template

    x, w = arrays(c)
    return Work(lambda: match_template(x, w))


LIBRARIES = {
    "torch": Library("torch", "layer", _torch),
    "torch-nhwc": Library("torch", "layer", _torch_nhwc),
    "onnxruntime": Library("onnxruntime", "layer", _onnxruntime),
    "openvino": Library("openvino", "layer", _openvino),
    "ncnn": Library("ncnn", "layer", _ncnn),
    "opencv": Library("cv2", "image", _opencv),
    "ndimage": Library("scipy", "image", _ndimage),
    "convolve": Library("scipy", "signal", _scipy_signal("convolve")),
    "fftconvolve": Library("scipy", "signal", _scipy_signal("fftconvolve")),
    "oaconvolve": Library("scipy", "signal", _scipy_signal("oaconvolve")),
    "numpy": Library("numpy", "signal", _numpy),
    "squarings": Library("scipy", "power", _squarings),
    "matchTemplate": Library("cv2", "match", _match_opencv),
    "skimage": Library("skimage", "match", _match_skimage),
}
