"""What only a GPU can tell: are kernels right there, and how fast beside cuDNN's.

``bench/gpu_check.sh`` runs it. Sections follow each other within one deadline, and what one of them
raises is written down and keeps none of the others from running: time on a GPU is short.

Every result is checked against float64 before anything is timed, in outputs that were NaN. Times
are medians of event pairs with the L2 cache flushed between them. PyTorch runs in the same process
in both of its modes, float32 and TF32, and both of its layouts, each with its error: its default
for convolutions is TF32, whose error is some thousand times that of float32.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import datetime
import importlib
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "gpu"

#: Seconds for all sections but the tests, and for those.
DEADLINE, TESTS = 330.0, 170.0

#: Seconds of these that checks leave to what is timed.
LEAST_FOR_LAYERS = 100.0

#: Exit statuses.
RIGHT, WRONG, NO_GPU = 0, 1, 3

#: What is timed: issue by issue the layers that kernels are for.
LAYERS = {
    # those of docs/gpu.md's goals first: time may end
    "depthwise 3x3": "conv2d f32 n32 c256 h56 w56 k256 r3 s3 g256 p1",
    "3x3 256@56": "conv2d f32 n16 c256 h56 w56 k256 r3 s3 p1",
    "small 3x3 64@56": "conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1",
    # TF32 is among the candidates of these, as it is among PyTorch's modes
    "3x3 256@56 fast": "conv2d f32 n16 c256 h56 w56 k256 r3 s3 p1 fast",
    "depthwise 3x3 f16": "conv2d f32 n32 c256 h56 w56 k256 r3 s3 g256 p1 x:f16 w:f16 y:f16",
    "depthwise 3x3 NHWC": "conv2d f32 n32 c256 h56 w56 k256 r3 s3 g256 p1 N*C",
    "depthwise 3x3 u2": "conv2d f32 n32 c256 h56 w56 k256 r3 s3 g256 p1 u2",
    "depthwise 7x7": "conv2d f32 n32 c192 h28 w28 k192 r7 s7 g192 p3",
    "depthwise 31x31": "conv2d f32 n8 c128 h56 w56 k128 r31 s31 g128 p15",
    "depthwise 1-D 31": "conv1d f32 n16 c512 w4096 k512 s31 g512 p15",
    "64 taps": "conv1d f32 n1 c1 w4194304 k1 s64 p63",
    # where sums of products end and transforms begin
    "512 taps": "conv1d f32 n64 c1 w65536 k1 s512 p511",
    "4096 taps": "conv1d f32 n1 c1 w262144 k1 s4096 p4095",
    "4096 taps in rounds": "conv1d f32 n1 c1 w16777216 k1 s4096 p4095",
    "512 taps complex": "conv1d c64 n1 c1 w1048576 k1 s512 p511",
    "63x63 of an image": "conv2d f32 n1 c1 h512 w512 k1 r63 s63 p31",
    "25 taps down an image": "conv2d f32 n1 c1 h4096 w4096 k1 r25 s1 p12,0",
    "3x3 256@56 NHWC": "conv2d f32 n16 c256 h56 w56 k256 r3 s3 p1 N*C",
    # blocks share sums: too few of them, and steps of hundreds
    "3x3 512@7 n1": "conv2d f32 n1 c512 h7 w7 k512 r3 s3 p1",
    "3x3 256@14 fast": "conv2d f32 n32 c256 h14 w14 k256 r3 s3 p1 fast",
    # accumulated in float32; PyTorch's own of these dtypes beside them
    "3x3 256@56 f16": "conv2d f32 n16 c256 h56 w56 k256 r3 s3 p1 x:f16 w:f16 y:f16",
    "3x3 256@56 bf16": "conv2d f32 n16 c256 h56 w56 k256 r3 s3 p1 x:bf16 w:bf16 y:bf16",
    "1x1 256to64@56 f16": "conv2d f32 n32 c256 h56 w56 k64 r1 s1 x:f16 w:f16 y:f16",
    "3x3x3 depthwise 16@28": "conv3d f32 n4 c64 d16 h28 w28 k64 t3 r3 s3 g64 p1",
    "3x3x3 64@16x28x28": "conv3d f32 n4 c64 d16 h28 w28 k64 t3 r3 s3 p1",
    "3x3x3 64@16x28x28 f16": "conv3d f32 n4 c64 d16 h28 w28 k64 t3 r3 s3 p1 x:f16 w:f16 y:f16",
    "3x3 64@56": "conv2d f32 n32 c64 h56 w56 k64 r3 s3 p1",
    "3x3 256@14": "conv2d f32 n32 c256 h14 w14 k256 r3 s3 p1",
    "1x1 256to64@56": "conv2d f32 n32 c256 h56 w56 k64 r1 s1",
    "7x7 u2 first layer": "conv2d f32 n32 c3 h224 w224 k64 r7 s7 p3 u2",
    "3x3 f64 64@28": "conv2d f64 n8 c64 h28 w28 k64 r3 s3 p1",
}


@dataclasses.dataclass(frozen=True)
class Noise:
    """An array of standard normal numbers."""

    shape: tuple[int, ...]
    dtype: str = "f32"


#: What users call: function, arguments, options.
FUNCTIONS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "weights 3x3 256@56": (
        "nn.conv2d_weight",
        (Noise((16, 256, 56, 56)), (256, 256, 3, 3), Noise((16, 256, 56, 56))), {"padding": 1},
    ),
    "weights 3x3 64@56": (
        "nn.conv2d_weight",
        (Noise((32, 64, 56, 56)), (64, 64, 3, 3), Noise((32, 64, 56, 56))), {"padding": 1},
    ),
    "weights depthwise 3x3 256@56": (
        "nn.conv2d_weight",
        (Noise((32, 256, 56, 56)), (256, 1, 3, 3), Noise((32, 256, 56, 56))),
        {"padding": 1, "groups": 256},
    ),
    "input 3x3 256@56": (
        "nn.conv2d_input",
        ((16, 256, 56, 56), Noise((256, 256, 3, 3)), Noise((16, 256, 56, 56))), {"padding": 1},
    ),
    "input 3x3 u2 128@56": (
        "nn.conv2d_input",
        ((32, 128, 56, 56), Noise((128, 128, 3, 3)), Noise((32, 128, 28, 28))),
        {"padding": 1, "stride": 2},
    ),
    "transposed 4x4 u2 64@56": (
        "nn.conv_transpose2d", (Noise((16, 64, 56, 56)), Noise((64, 64, 4, 4))),
        {"padding": 1, "stride": 2},
    ),
    "gaussian sigma 2 of 4096x4096": (
        "ndimage.gaussian_filter", (Noise((4096, 4096)), 2.0), {"mode": "reflect"},
    ),
    "correlate 7x7 of 4096x4096": (
        "ndimage.correlate", (Noise((4096, 4096)), Noise((7, 7))), {"mode": "mirror"},
    ),
    "convolve 1e6 by 1e4": ("signal.convolve", (Noise((10**6,)), Noise((10**4,))), {}),
    "convolve 1e6 by 64 complex": (
        "signal.convolve", (Noise((10**6,), "c64"), Noise((64,), "c64")), {},
    ),
}  # fmt: skip

#: What those make of float32 and complex64, by norms.
MOST_OF_FUNCTIONS = 1e-5

#: Problems that they pose: compiled ahead with those of `LAYERS`.
POSED = (
    "conv2d f32 n256 c16 h56 w56 k256 r56 s56 p1",
    "conv3d f32 n1 c256 d32 h56 w56 k256 t32 r56 s56 g256 p0,1,1",
    "conv2d f32 n32 c128 h28 w28 k128 r3 s3 p1:2 e2 flip",
    "conv2d f32 n16 c64 h56 w56 k64 r4 s4 p2 e2 flip",
    "conv1d f32 n4096 c1 w4096 k1 s17 p8 reflect",
    "conv2d f32 n1 c1 h4096 w4096 k1 r7 s7 p3 mirror",
)

#: Whose results are checked before anything is timed: odd, and each way of kernels once.
CHECKED = (
    "conv2d f32 n2 c3 h9 w13 k6 r3 s3 g3 p1 u2",
    "conv2d f64 n2 c4 h17 w23 k4 r5 s5 g4 p2",
    "conv2d f32 n2 c6 h15 w6 k9 r3 s3 g3 p1 x:f16 w:f16 y:f16",
    "conv2d f32 n2 c33 h9 w8 k70 r3 s3 p1 x:f16 w:f16 y:f16",
    "conv2d f32 n2 c33 h9 w8 k70 r3 s3 p1 x:bf16 w:bf16 y:bf16",
    "conv2d f32 n2 c2 h17 w16 k2 r5 s5 g2 p2 u2 x:bf16 w:bf16 y:bf16",
    "conv2d f32 n1 c2 h40 w35 k2 r13 s3 g2 p6,1 l2",
    "conv1d f32 n2 c3 w370 k3 s31 g3 p15",
    "conv2d f32 n3 c19 h17 w23 k70 r3 s3 p1",
    "conv2d f32 n3 c19 h17 w23 k70 r3 s3 p1 u2,1 fast",
    "conv2d f32 n1 c130 h14 w15 k40 r3 s3 p2 l2 N*C",
    "conv2d f64 n2 c67 h9 w11 k33 r3 s2 p1,0 u1,2",
    "conv2d f32 n2 c37 h15 w10 k33 r3 s3 p1 fast",
    "conv2d f32 n3 c34 h9 w21 k20 r3 s3 g2 p2 N*C fast",
    "conv2d f64 n2 c9 h7 w5 k5 r3 s3 p1 fast",
    "conv3d f32 n2 c6 d5 h9 w12 k9 t3 r3 s3 g3 p1 u2,1,1",
    "conv3d f64 n1 c3 d6 h7 w9 k4 t2 r3 s9 p1,1,4 l2,1,1",
    "conv2d f32 n2 c24 h13 w12 k20 r3 s3 g2 p2 u2,1",
    "conv3d f32 n2 c20 d5 h9 w12 k24 t3 r3 s2 p1,0,1 u1,2,1 l2,1,1 fast",
    "conv3d f32 n1 c36 d4 h7 w8 k40 t2 r2 s3 g2 x:bf16 w:bf16 y:bf16",
    "conv1d f32 n3 c33 w301 k66 s3 p1",
    "conv1d f32 n1 c1 w2100 k1 s69 p68",
    "conv1d f64 n2 c2 w1100 k2 s16 g2 p8",
    "conv1d f32 n2 c6 w5000 k4 s700 g2 p300 u2",
    "conv2d f32 n2 c3 h70 w50 k5 r17 s15 p8",
    "conv2d f64 n1 c2 h45 w130 k2 r1 s33 g2 p0,16 l1,2",
    "conv1d f32 n1 c4 w1030 k4 s300 g2 p2 x:f16 w:f16 y:f16",
    # blocks share sums, which begin within a tap, a row and a plane
    "conv2d f32 n9 c16 h28 w30 k24 r26 s28 p1",
    "conv3d f32 n3 c5 d4 h14 w16 k6 t3 r12 s14 p1 fast",
    "conv2d f32 n5 c40 h9 w8 k70 r7 s6 x:bf16 w:bf16 y:bf16",
    "conv3d f32 n1 c6 d8 h20 w18 k6 t8 r18 s16 g6 p0,1,1",
    "conv2d f32 n1 c6 h16 w400 k6 r16 s398 g6 x:f16 w:f16 y:f16",
    "conv1d c64 n2 c1 w3000 k1 s70 p69",
    "conv2d c128 n1 c1 h40 w50 k1 r9 s8 p4 reflect",
)  # fmt: skip


@dataclasses.dataclass
class Report:
    """What is written: by section what it found, and what went wrong."""

    path: pathlib.Path
    found: dict[str, Any] = dataclasses.field(default_factory=dict)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def add(self, section: str, value: Any) -> None:
        """Kept at once: what follows may never end."""
        self.found[section] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({**self.found, "wrong": self.wrong}, indent=1) + "\n")


def relative_error(y: Any, right: Any) -> float:
    """Norm of the error by the norm of what is right; of NaN and Inf, infinity."""
    y = np.asarray(y)
    y = y.astype(np.complex128 if y.dtype.kind == "c" else np.float64)
    if not np.isfinite(y).all():
        return math.inf
    return float(np.linalg.norm(y - right) / max(np.linalg.norm(right), 1e-300))


def problem_of(text: str) -> Any:
    from fastconv._problem import Problem

    return Problem.parse(text).replace(device="cuda", prepared=True)


def candidates(problem: Any) -> list[tuple[Any, Any, float]]:
    """(solver, config, estimate) of each that may run, the planner's choice first."""
    from fastconv import _planner
    from fastconv.solvers import BY_NAME

    found = _planner.candidates(problem)
    return [(BY_NAME[c.method], c.config, c.seconds) for c in found if c.refused is None]


def kernels_of(texts: Iterable[str], gpu: Any) -> list[Any]:
    """Every kernel that the problems' candidates would launch there: what is compiled ahead."""
    from fastconv._problem import numpy_dtype
    from fastconv.cuda import cufft, launch
    from fastconv.cuda.interop import DeviceArray

    class Paper(DeviceArray):
        """An array of no memory."""

        def new(self, shape: Any, dtype: Any) -> Any:
            return paper(tuple(shape), dtype)

        def _view(self, offset: int, shape: Any, steps: Any) -> Any:
            at = self.pointer + offset * self.dtype.itemsize
            return Paper(at, tuple(shape), tuple(steps), self.dtype, None, 0, 0)

    def paper(shape: tuple[int, ...], dtype: Any) -> Paper:
        steps = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        return Paper(256, shape, steps, np.dtype(dtype), None, 0, 0)

    class Recorder:
        """A driver that writes down what it is given."""

        def __init__(self) -> None:
            self.kernels: dict[Any, None] = {}

        def load(self, kernel: Any, ordinal: int) -> Any:
            self.kernels[kernel] = None
            return kernel

        def launch(self, *_: Any) -> None:
            pass

        def use(self, ordinal: int) -> None:
            pass

    class Silent:
        """A cuFFT that does nothing, well."""

        def __getattr__(self, name: str) -> Any:
            return lambda *_: 0

    recorder, silent = Recorder(), Silent()
    before, launch._driver = launch._driver, recorder  # type: ignore[assignment]
    found, cufft.library = cufft.library, lambda: silent  # type: ignore[assignment]
    try:
        for text in texts:
            problem = problem_of(text)
            for solver, config in candidates_without_driver(problem, gpu):
                plan = solver.plan(problem, config, gpu)
                x, w, y = (
                    paper(shape, numpy_dtype(dtype))
                    for shape, dtype in ((problem.x_shape, problem.x_dtype),
                                         (problem.w_shape, problem.w_dtype),
                                         (problem.y_shape, problem.y_dtype))
                )  # fmt: skip
                plan(x, plan.pack_stored(w), None, y)
    finally:
        launch._driver, cufft.library = before, found
    return list(recorder.kernels)


def candidates_without_driver(problem: Any, gpu: Any) -> list[tuple[Any, Any]]:
    """Every config of every solver that accepts the problem."""
    from fastconv.solvers import SOLVERS

    return [
        (solver, config)
        for solver in SOLVERS
        if solver.device == "cuda" and solver.why_not(problem) is None
        for config in solver.configs(problem, gpu)
    ]


def gpu_of(capability: tuple[int, int]) -> Any:
    """The device of a compute capability, as far as configs depend on it."""
    from fastconv.cuda.launch import Gpu

    return Gpu(capability=capability, multiprocessors=132 if capability == (9, 0) else 108)


def compile_one(kernel: Any, capability: tuple[int, int]) -> str | None:
    """Compile a kernel to the cache; what went wrong, or None."""
    from fastconv.cuda import build

    try:
        build.cubin(kernel, capability)
    except Exception as error:
        return f"{kernel.name}: {type(error).__name__}: {error}"
    return None


def compile_all(kernels: list[Any], capability: tuple[int, int]) -> list[str]:
    """Compile kernels in as many processes as there are cores."""
    import multiprocessing

    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(mp_context=spawn) as pool:
        results = pool.map(compile_one, kernels, [capability] * len(kernels))
        return [wrong for wrong in results if wrong is not None]


class Torch:
    """The GPU by way of PyTorch. Tests have another of the same methods."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        torch.backends.cudnn.benchmark = True
        # ten times the L2 cache: the host has 0.1 ms to start what is timed
        self.flush = torch.empty(512 << 20, dtype=torch.uint8, device="cuda")

    def versions(self) -> dict[str, Any]:
        torch = self.torch
        return {
            "gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
            "capability": list(torch.cuda.get_device_capability()),
            "cudnn": torch.backends.cudnn.version(), "cuda": torch.version.cuda,
        }  # fmt: skip

    def array(self, a: Any, dtype: str, channels_last: bool = False) -> Any:
        from fastconv._problem import DTYPES

        made = self.torch.from_numpy(np.ascontiguousarray(a)).cuda()
        made = made.to(getattr(self.torch, DTYPES[dtype]))
        if channels_last and made.ndim == 4:
            made = made.contiguous(memory_format=self.torch.channels_last)
        return made

    def poisoned(self, shape: Any, dtype: str, channels_last: bool = False) -> Any:
        from fastconv._problem import DTYPES

        kind = getattr(self.torch, DTYPES[dtype])
        made = self.torch.full(shape, math.nan, dtype=kind, device="cuda")
        if channels_last and made.ndim == 4:
            made = made.contiguous(memory_format=self.torch.channels_last)
        return made

    def host(self, a: Any) -> Any:
        return self.widened(a).cpu().numpy()

    def widened(self, a: Any) -> Any:
        return a.to(self.torch.complex128 if a.is_complex() else self.torch.float64)

    def convolve(self, problem: Any, x: Any, w: Any) -> Any:
        functional = self.torch.nn.functional
        function = getattr(functional, f"conv{problem.ndim}d")
        pads = tuple(before for before, _ in problem.padding)
        return function(x, w, None, problem.stride, pads, problem.dilation, problem.groups)

    def right(self, problem: Any, x: Any, w: Any) -> Any:
        return self.host(self.convolve(problem, self.widened(x), self.widened(w)))

    def peers(self, problem: Any, x: Any, w: Any) -> Iterable[tuple[str, Callable[[], Any]]]:
        """Each of PyTorch's modes and layouts, set up when it is its turn."""
        for tf32 in (False, True) if problem.x_dtype == "f32" else (False,):
            for last in (False, True) if problem.ndim == 2 else (False,):
                self.torch.backends.cudnn.allow_tf32 = tf32
                one, other = x, w
                if last:
                    order = self.torch.channels_last
                    one = x.contiguous(memory_format=order)
                    other = w.contiguous(memory_format=order)
                name = "torch" + (" TF32" if tf32 else "") + (" NHWC" if last else "")
                yield name, lambda a=one, b=other: self.convolve(problem, a, b)

    def peers_of(
        self, path: str, args: Any, options: dict[str, Any]
    ) -> Iterable[tuple[str, Callable[[], Any]]]:  # fmt: skip
        """PyTorch's in both of its modes, and CuPy's where it is installed."""
        name = path.rpartition(".")[2]
        gradient = name.endswith(("_weight", "_input"))
        if path.startswith("nn."):
            of = self.torch.nn.grad if gradient else self.torch.nn.functional
            for tf32 in (False, True):
                self.torch.backends.cudnn.allow_tf32 = tf32
                yield (f"torch{' TF32' * tf32}", lambda: getattr(of, name)(*args, **options))
            return
        try:
            import cupy

            found = getattr(importlib.import_module(f"cupyx.scipy.{path.rpartition('.')[0]}"), name)
        except ImportError:
            return
        there = [cupy.from_dlpack(a) if hasattr(a, "data_ptr") else a for a in args]
        yield "cupyx", lambda: self.torch.from_dlpack(found(*there, **options))

    def milliseconds(self, call: Callable[[], Any], most: float = 1.0) -> float:
        """Median of one call; at most about so many seconds are spent."""
        torch, times = self.torch, []
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        spent = 0.0
        while len(times) < 30 and (spent < most or len(times) < 5):
            self.flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
            spent += times[-1] / 1e3 + 1e-4
        return statistics.median(times)

    def microseconds_of_host(self, call: Callable[[], Any]) -> float:
        """What the host spends on a call, nothing waiting: least of rounds of 200."""
        import time

        best = math.inf
        for _ in range(20):
            self.torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(200):
                call()
            best = min(best, (time.perf_counter() - begin) / 200)
        self.torch.cuda.synchronize()
        return best * 1e6

    def milliseconds_of_first_call(self) -> float:
        """In a process of its own, whose cubins are in the cache, after a kernel of PyTorch's."""
        done = subprocess.run(
            [sys.executable, "-c", FIRST_CALL], cwd=ROOT, capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        return float(done.stdout)

    def ceilings(self) -> dict[str, float]:
        torch, n = self.torch, 1 << 30
        a, b = (torch.empty(n, dtype=torch.uint8, device="cuda") for _ in range(2))
        found = {"copy TB/s": 2 * n / self.milliseconds(lambda: b.copy_(a)) / 1e9}
        x, w = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
        for tf32 in (False, True):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            ms = self.milliseconds(lambda: x @ w)
            name = f"cuBLAS {'TF32' if tf32 else 'float32'} TFLOP/s"
            found[name] = 2 * 8192**3 / ms / 1e9
        return found


#: Of the small layer of `LAYERS`; prints milliseconds.
FIRST_CALL = """
import time, torch, fastconv
x, w = torch.randn(1, 64, 56, 56, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda")
torch.nn.functional.relu(x)
torch.cuda.synchronize()
begin = time.perf_counter()
fastconv.conv2d(x, w, padding=1)
torch.cuda.synchronize()
print((time.perf_counter() - begin) * 1e3)
"""


def arrays(problem: Any) -> tuple[Any, Any]:
    """Noise: x and w, as float32, which all dtypes round the same way once."""
    kind = "c64" if problem.is_complex else "f32"
    rng = np.random.default_rng(7)
    return noise(rng, Noise(problem.x_shape, kind)), noise(rng, Noise(problem.w_shape, kind))


def noise(rng: Any, of: Noise) -> Any:
    a = rng.standard_normal(of.shape, dtype=np.float32)
    return a if of.dtype == "f32" else a + 1j * rng.standard_normal(of.shape, dtype=np.float32)


def run_plan(device: Any, problem: Any, solver: Any, config: Any, x: Any, w: Any) -> Any:
    """(call, output) of a plan on the backend's arrays, the output NaN."""
    from fastconv.cuda import interop, launch

    plan = solver.plan(problem, config, launch.gpu())
    packed = plan.pack_stored(interop.wrapped(w))
    y = device.poisoned(problem.y_shape, problem.y_dtype, problem.layout == "N*C")
    seen_x, seen_y = interop.wrapped(x), interop.wrapped(y)
    return (lambda: plan(seen_x, packed, None, seen_y)), y


def allowed(problem: Any, bound: float) -> float:
    """The error by norms that a kernel whose bound is by sums of magnitudes may have.

    Of standard normal numbers S is taps * 2 / pi where the result is sqrt(taps).
    """
    stored = {"f16": 2.0**-11, "bf16": 2.0**-8}.get(problem.y_dtype, 0.0)
    return bound * math.sqrt(problem.taps) + 2 * stored


def section_kernels(device: Any, report: Report, left: Callable[[], float]) -> None:
    """Every candidate of odd problems, against float64."""
    rows = []
    for text in CHECKED:
        if left() < LEAST_FOR_LAYERS:
            report.wrong.append(f"{text}: no time was left to check it")
            continue
        problem = problem_of(text)
        x, w = arrays(problem)
        gx = device.array(x, problem.x_dtype, channels_last=problem.layout == "N*C")
        gw = device.array(w, problem.w_dtype)
        right = device.right(problem, gx, gw)
        for solver, config, _ in candidates(problem):
            label = f"{solver.name} {dict(config)} {text}"
            try:
                call, y = run_plan(device, problem, solver, config, gx, gw)
                call()
                error = relative_error(device.host(y), right)
            except Exception as raised:
                report.wrong.append(f"{label}: {type(raised).__name__}: {raised}")
                continue
            most = allowed(problem, solver.error_bound(problem, config))
            rows.append({"kernel": label, "error": error, "allowed": most})
            if not error <= most:
                report.wrong.append(f"{label}: error {error:.2e}, allowed {most:.2e}")
    report.add("kernels", rows)


def section_layers(device: Any, report: Report, left: Callable[[], float]) -> None:
    """Each layer by every candidate, and by PyTorch in each of its modes."""
    from fastconv._problem import numpy_dtype

    layers: dict[str, Any] = {}
    for name, text in LAYERS.items():
        if left() < 20:
            report.wrong.append(f"{name}: no time was left")
            continue
        problem = problem_of(text)
        x, w = arrays(problem)
        gx = device.array(x, problem.x_dtype, channels_last=problem.layout == "N*C")
        gw = device.array(w, problem.w_dtype)
        right = device.right(problem, gx, gw)
        shapes = problem.x_shape, problem.w_shape, problem.y_shape
        bytes_moved = sum(map(math.prod, shapes)) * numpy_dtype(problem.x_dtype).itemsize
        ours, peers = [], []
        for turn, (solver, config, estimate) in enumerate(candidates(problem)):
            try:
                call, y = run_plan(device, problem, solver, config, gx, gw)
                call()
                error = relative_error(device.host(y), right)
                if not error <= allowed(problem, solver.error_bound(problem, config)):
                    report.wrong.append(f"{name}: {solver.name} {dict(config)}: error {error:.2e}")
                    continue
                ms = device.milliseconds(call)
            except Exception as raised:
                report.wrong.append(f"{name}: {solver.name} {dict(config)}: {raised}")
                continue
            ours.append({"method": solver.name, "config": dict(config), "ms": ms, "error": error,
                         "estimated ms": estimate * 1e3, "chosen": turn == 0})  # fmt: skip
        for peer, call in device.peers(problem, gx, gw):
            error = relative_error(device.host(call()), right)
            peers.append({"name": peer, "ms": device.milliseconds(call), "error": error})
        layers[name] = {
            "problem": text, "flops": problem.flops, "bytes": bytes_moved, "ours": ours,
            "peers": peers, "regret": regret(ours),
        }  # fmt: skip
        report.add("layers", layers)


def regret(ours: list[dict[str, Any]]) -> float | None:
    """Time of the planner's choice by the least time; None where it was wrong."""
    chosen = [o["ms"] for o in ours if o["chosen"]]
    return chosen[0] / min(o["ms"] for o in ours) if chosen else None


def section_functions(device: Any, report: Report, left: Callable[[], float]) -> None:
    """What users call, by the planner's choice, beside PyTorch's and CuPy's."""
    rows: dict[str, Any] = {}
    for name in FUNCTIONS:
        if left() < 20:
            report.wrong.append(f"{name}: no time was left")
            continue
        try:
            rows[name] = row = measured(device, *FUNCTIONS[name])
        except Exception as raised:
            report.wrong.append(f"{name}: {type(raised).__name__}: {raised}")
            continue
        if not row["error"] <= MOST_OF_FUNCTIONS:
            report.wrong.append(f"{name}: error {row['error']:.2e}")
        report.add("functions", rows)


def measured(device: Any, path: str, args: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Time and error of one of `FUNCTIONS`, and its peers'."""
    import fastconv

    module, _, name = path.partition(".")
    function, rng = getattr(getattr(fastconv, module), name), np.random.default_rng(7)
    host = [noise(rng, a) if isinstance(a, Noise) else a for a in args]
    wide = [
        a.astype("c16" if a.dtype.kind == "c" else "f8") if isinstance(a, np.ndarray) else a
        for a in host
    ]
    there = [device.array(a, of.dtype) if isinstance(of, Noise) else a for a, of in zip(host, args)]
    right = function(*wide, **options)

    def row(call: Callable[[], Any]) -> dict[str, Any]:
        error = relative_error(device.host(call()), right)
        return {"ms": device.milliseconds(call), "error": error}

    found = row(lambda: function(*there, **options))
    peers = device.peers_of(path, there, options)
    return {**found, "peers": [{"name": peer, **row(call)} for peer, call in peers]}


def section_launch(device: Any, report: Report, left: Callable[[], float]) -> None:
    """Microseconds of the host for a warm call of a small layer."""
    import fastconv

    problem = problem_of(LAYERS["small 3x3 64@56"])
    x, w = (device.array(a, "f32") for a in arrays(problem))
    plan = fastconv.plan(fastconv.conv2d, x, w, padding=1)
    y = device.poisoned(problem.y_shape, "f32")
    plan(x, out=y)
    fastconv.conv2d(x, w, padding=1)
    found = {
        "plan(x, out=y)": device.microseconds_of_host(lambda: plan(x, out=y)),
        "conv2d(x, w, out=y)": device.microseconds_of_host(
            lambda: fastconv.conv2d(x, w, padding=1, out=y)
        ),
        "plan(x)": device.microseconds_of_host(lambda: plan(x)),
        "conv2d(x, w)": device.microseconds_of_host(lambda: fastconv.conv2d(x, w, padding=1)),
    }
    for name, call in device.peers(problem, x, w):
        found[name] = device.microseconds_of_host(call)
    report.add("host microseconds", found)
    report.add("first call ms", device.milliseconds_of_first_call())


def section_compile(device: Any, report: Report, left: Callable[[], float]) -> None:
    """All kernels of the sections after this, in parallel; then one from the cache."""
    from fastconv._timer import Deadline
    from fastconv.cuda import build, launch

    capability = tuple(report.found["versions"]["capability"])
    kernels = kernels_of((*CHECKED, *POSED, *LAYERS.values()), launch.gpu())
    watch = Deadline(None)
    wrong = compile_all(kernels, capability)  # type: ignore[arg-type]
    report.wrong += wrong
    seconds = watch.spent
    watch = Deadline(None)
    if len(wrong) < len(kernels):
        build.cubin(kernels[0], capability)  # type: ignore[arg-type]
    report.add("compile", {"kernels": len(kernels), "seconds": seconds, "cached s": watch.spent})


def section_ceilings(device: Any, report: Report, left: Callable[[], float]) -> None:
    """What the device can do at most, by PyTorch's copy and cuBLAS."""
    report.add("ceilings", device.ceilings())


SECTIONS = (
    section_ceilings, section_compile, section_kernels, section_launch, section_functions,
    section_layers,
)  # fmt: skip


def check(device: Any, report: Report, seconds: float = DEADLINE) -> None:
    """Every section, whatever the one before it did."""
    from fastconv._timer import Deadline

    deadline = Deadline(seconds)
    report.add("versions", {**device.versions(), **package_versions()})
    for section in SECTIONS:
        name = section.__name__.removeprefix("section_")
        print(f"== {name}: {section.__doc__} ({deadline.left:.0f} s left)", flush=True)
        try:
            section(device, report, lambda: deadline.left)
        except Exception:
            report.wrong.append(f"section {name}: {traceback.format_exc(limit=-5)}")
    report.add("seconds", deadline.spent)


def package_versions() -> dict[str, str | None]:
    import importlib.metadata

    found: dict[str, str | None] = {}
    for name in ("fastconv", "numba", "numba-cuda", "nvidia-nvjitlink", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def table(report: Report) -> str:
    """What was found, in lines: the last that is printed."""
    found, lines = report.found, []
    versions = found.get("versions", {})
    lines.append(" ".join(f"{k}={v}" for k, v in versions.items()))
    lines.append(" ".join(f"{k}={v:.3g}" for k, v in found.get("ceilings", {}).items()))
    for name, us in found.get("host microseconds", {}).items():
        lines.append(f"host {name:24s} {us:8.1f} us")
    if "first call ms" in found:
        lines.append(f"first call, cubins in the cache {found['first call ms']:8.1f} ms")
    errors = [row["error"] / row["allowed"] for row in found.get("kernels", [])]
    if errors:
        lines.append(f"{len(errors)} kernels checked, error at most {max(errors):.2f} of allowed")
    for name, row in found.get("functions", {}).items():
        for label, one in ((name, row), *((f"  {p['name']}", p) for p in row["peers"])):
            lines.append(f"{label:46s} {one['ms']:9.4f} ms  error {one['error']:.1e}")
    for name, layer in found.get("layers", {}).items():
        lines.append(f"{name}: {layer['problem']}; regret {layer['regret'] or math.nan:.2f}")
        rows = [(f"{o['method']} {o['config']}", o) for o in layer["ours"]]
        rows += [(p["name"], p) for p in layer["peers"]]
        for label, row in rows:
            tflops, rate = layer["flops"] / row["ms"] / 1e9, layer["bytes"] / row["ms"] / 1e9
            lines.append(
                f"  {label:44s} {row['ms']:9.4f} ms {tflops:7.2f} TFLOP/s {rate:6.2f} TB/s"
                f"  error {row['error']:.1e}"
            )
    lines += [f"WRONG {wrong}" for wrong in report.wrong]
    lines.append(f"{len(report.wrong)} wrong; {report.path}")
    return "\n".join(lines)


def device_tests(report: Report) -> None:
    """``pytest -m gpu``."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=TESTS, check=False
        )
        output, status = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as expired:
        output, status = str(expired.stdout or b"", "utf8", "replace"), -1
    report.add("pytest", {"status": status, "output": output[-4000:]})
    if status:
        report.wrong.append(f"pytest -m gpu: exit status {status}\n{output[-2000:]}")


class TimeIsUp(BaseException):
    """`timeout` of the shell's says so: what was found is printed."""


def stop(*_: Any) -> None:
    raise TimeIsUp


def main(arguments: list[str] | None = None, make_device: Callable[[], Any] = Torch) -> int:
    """Exit status."""
    import fastconv

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", nargs=2, metavar=("CAPABILITY", "DIRECTORY"))
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="without pytest -m gpu")
    asked = parser.parse_args(arguments)
    if asked.compile:
        capability = tuple(map(int, asked.compile[0].split(".")))
        os.environ["FASTCONV_CUBINS"] = asked.compile[1]
        kernels = kernels_of((*CHECKED, *POSED, *LAYERS.values()), gpu_of(capability))  # type: ignore[arg-type]
        wrong = compile_all(kernels, capability)  # type: ignore[arg-type]
        print("\n".join(wrong) or f"every kernel is in {asked.compile[1]}")
        return WRONG if wrong else RIGHT
    reason = fastconv.cuda.why_not()
    if reason is not None:
        print(f"no GPU can be checked here: {reason}")
        return NO_GPU
    try:
        device = make_device()
    except Exception as error:
        print(f"no GPU can be checked here: PyTorch does not find one: {error}")
        return NO_GPU
    day = datetime.date.today().isoformat()
    gpu = device.versions()["gpu"].replace(" ", "-")
    report = Report(asked.results / f"{day}-{gpu}.json")
    before = signal.signal(signal.SIGTERM, stop)
    try:
        check(device, report)
        if not asked.quick:
            device_tests(report)
    except TimeIsUp:
        report.wrong.append("time was up before all was done")
    finally:
        signal.signal(signal.SIGTERM, before)
    report.add("date", day)
    print(table(report))
    return WRONG if report.wrong else RIGHT


if __name__ == "__main__":
    sys.exit(main())
