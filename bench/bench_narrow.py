"""Layers of 8-bit integers beside onnxruntime, and of 16-bit floats beside converting them.

``python -m bench.bench_narrow`` prints milliseconds, interleaved in one process. onnxruntime sums
pairs of products of uint8 by int8 in 16 bits, saturated, where a processor has no VNNI: it is
given weights of 7 bits there, for which that is exact. By uint8 it is exact for all, as fastconv
always is.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from . import common

#: Channels, pixels along a side, filters, taps along a side, groups.
LAYERS = {
    "3x3.64@56": (64, 56, 64, 3, 1),
    "3x3.128@28": (128, 28, 128, 3, 1),
    "3x3.256@14": (256, 14, 256, 3, 1),
    "1x1.64to256@56": (64, 56, 256, 1, 1),
    "1x1.256to64@56": (256, 56, 64, 1, 1),
    "dw3x3.128@56": (128, 56, 128, 3, 128),
    "dw3x3.512@14": (512, 14, 512, 3, 512),
    "dw3x3.1024@7": (1024, 7, 1024, 3, 1024),
}
#: Of uint8 by uint8 and by int8.
OPERATORS = ("conv_integer", "qlinear_conv")

HALVES = ("layer", "first", "few", "depthwise", "picture", "fir")

#: Seconds that one row is timed for.
BUDGET = 4.0

Work = Callable[[], Any]


def integers(name: str, operator: str, threads: int) -> tuple[Work, Callable[[], Work]]:
    """fastconv's plan, and what makes onnxruntime's session for the same call."""
    import fastconv
    from fastconv import nn

    c, h, k, r, groups = LAYERS[name]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1, c, h, h)).astype(np.uint8)
    shape = (k, c // groups, r, r)
    how = {"padding": r // 2, "groups": groups, "threads": threads, "x_zero_point": 3}
    if operator == "conv_integer":
        w = rng.integers(0, 256, shape).astype(np.uint8)
        plan = fastconv.plan(nn.conv_integer, x, w, w_zero_point=128, **how)
        given = {"w": w, "zx": np.uint8(3), "zw": np.uint8(128)}
        node, kind = "ConvInteger", np.int32
    else:
        w = rng.integers(-64, 65, shape).astype(np.int8)
        scales = {"x_scale": 0.02, "w_scale": 0.01, "y_scale": 0.5}
        plan = fastconv.plan(nn.qlinear_conv, x, w, w_zero_point=0, y_zero_point=3, **scales, **how)
        given = {
            "sx": np.float32(0.02), "zx": np.uint8(3), "w": w, "sw": np.float32(0.01),
            "zw": np.int8(0), "sy": np.float32(0.5), "zy": np.uint8(3),
        }  # fmt: skip
        node, kind = "QLinearConv", np.uint8

    def peer() -> Work:
        import onnxruntime
        from onnx import helper, numpy_helper

        of = helper.np_dtype_to_tensor_dtype
        operation = helper.make_node(
            node, ["x", *given], ["y"], pads=[r // 2] * 4, group=groups, kernel_shape=[r, r]
        )
        graph = helper.make_graph(
            [operation], "one layer", [helper.make_tensor_value_info("x", of(x.dtype), x.shape)],
            [helper.make_tensor_value_info("y", of(np.dtype(kind)), None)],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in given.items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        assert np.array_equal(session.run(None, {"x": x})[0], plan(x))
        return lambda: session.run(None, {"x": x})

    return lambda: plan(x), peer


def halves(name: str, dtype: str, threads: int) -> tuple[Work, Work]:
    """A call on 16-bit floats, and one that converts to float32 and back by NumPy."""
    import ml_dtypes

    import fastconv
    from fastconv import signal

    half = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]] = {
        "layer": ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
        "first": ((1, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
        "few": ((1, 16, 112, 112), (96, 16, 1, 1), {}),
        "depthwise": ((1, 144, 56, 56), (144, 1, 3, 3), {"padding": 1, "groups": 144}),
        "picture": ((1080, 1920), (5, 5), {}),
        "fir": ((1_000_000,), (64,), {}),
    }
    *sizes, how = shapes[name]
    x, w = (rng.standard_normal(s).astype(half) for s in sizes)
    wide = w.astype(np.float32)
    if x.ndim == 4:
        plan = fastconv.plan(fastconv.conv2d, x, w, threads=threads, **how)
        given = (x.shape, np.float32)
        other = fastconv.plan(fastconv.conv2d, given, wide, threads=threads, **how)
        return lambda: plan(x), lambda: other(x.astype(np.float32)).astype(half)
    call = signal.convolve
    return (
        lambda: call(x, w, "same", threads=threads),
        lambda: call(x.astype(np.float32), wide, "same", threads=threads).astype(half),
    )


class Integers:
    version = "1"
    params = (tuple(LAYERS), OPERATORS)
    param_names = ("layer", "operator")

    def setup(self, name: str, operator: str) -> None:
        common.pin(1)
        common.without_wisdom()
        self.work, _ = integers(name, operator, 1)

    def time_plan(self, name: str, operator: str) -> None:
        self.work()


class Ratio:
    version = "1"
    unit = "x"
    params = (tuple(LAYERS), OPERATORS)
    param_names = ("layer", "operator")

    def setup(self, name: str, operator: str) -> None:
        for module in ("onnxruntime", "onnx"):
            if importlib.util.find_spec(module) is None:
                raise NotImplementedError(f"{module} is not installed")
        common.pin(1)
        common.without_wisdom()

    def track_time_ratio(self, name: str, operator: str) -> float:
        from fastconv._timer import compare

        work, peer = integers(name, operator, 1)
        ours, theirs = (timing.median for timing in compare([work, peer()], budget=BUDGET))
        return ours / theirs


class Halves:
    version = "1"
    unit = "x"
    params = (HALVES, ("float16", "bfloat16"))
    param_names = ("call", "dtype")

    def setup(self, name: str, dtype: str) -> None:
        common.pin(1)
        common.without_wisdom()

    def track_time_ratio(self, name: str, dtype: str) -> float:
        from fastconv._timer import compare

        works = halves(name, dtype, 1)
        ours, converted = (timing.median for timing in compare(works, budget=BUDGET))
        return ours / converted


def main() -> None:
    from fastconv._timer import compare

    parser = argparse.ArgumentParser(prog="python -m bench.bench_narrow", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=BUDGET)
    arguments = parser.parse_args()
    common.without_wisdom()

    def show(label: str, works: tuple[Work, Work]) -> None:
        ours, theirs = (t.median for t in compare(works, budget=arguments.budget))
        print(f"{label:30}{ours * 1e3:9.3f}{theirs * 1e3:9.3f}{theirs / ours:7.2f}", flush=True)

    print(f"{'ms':30}{'plan':>9}{'onnxrt':>9}{'ratio':>7}")
    for name in LAYERS:
        for operator in OPERATORS:
            work, peer = integers(name, operator, arguments.threads)
            show(f"{name} {operator}", (work, peer()))
    print(f"{'ms':30}{'fastconv':>9}{'astype':>9}{'ratio':>7}")
    for name in HALVES:
        for dtype in ("float16", "bfloat16"):
            show(f"{name} {dtype}", halves(name, dtype, arguments.threads))


if __name__ == "__main__":
    main()
