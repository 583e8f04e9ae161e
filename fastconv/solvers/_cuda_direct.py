"""The direct sums of a GPU: which kernel a problem takes, and its launches."""

from __future__ import annotations

import math
from typing import Any

from fastconv._epilogue import Activation
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.cuda import direct
from fastconv.cuda.interop import DeviceArray
from fastconv.cuda.launch import Gpu, Launch
from fastconv.solvers._cuda import (
    PART,
    STORED,
    UnpackedPlan,
    activation_name,
    check_reach,
    divisors,
    limits,
    planes,
    pointer,
)
from fastconv.solvers._cuda_splits import MOST_SPLITS, joining, own_sums, pixels_of, sums_of

#: Threads of a multiprocessor that hide what loads wait for, about; products of a sum that are
#: worth a thread.
_THREADS, _LEAST = 1024, 64

#: What sums of integers are kept in, modulo 2**bits of it.
SUMS = {
    **dict.fromkeys(("i8", "u8", "i16", "u16", "i32", "u32"), "i32"),
    "i64": "i64",
    "u64": "i64",
}

#: Real numbers that are read.
READ = ("bool", *SUMS, *STORED)


def as_volume(problem: Problem) -> Problem:
    """An image as a volume whose planes are its rows; a volume as it is."""
    if problem.ndim == 3:
        return problem

    def spread(pair: Any, one: Any) -> Any:
        return pair[0], one, pair[1]

    p = problem
    return p.replace(
        size=spread(p.size, 1), kernel=spread(p.kernel, 1), stride=spread(p.stride, 1),
        dilation=spread(p.dilation, 1), input_dilation=(1, 1, 1),
        padding=spread(p.padding, (0, 0)), layout="strided",
    )  # fmt: skip


def splits_of(problem: Problem, config: Config, gpu: Gpu) -> int:
    """Blocks that share a sum, which have equally many planes of taps: as many as it takes to fill
    the device, where there are few outputs and long sums."""
    p, rows = problem, int(config["rows"])
    stored = {p.x_dtype, p.w_dtype, p.y_dtype}
    if p.ndim not in (2, 3) or max(p.input_dilation) > 1 or len(stored) > 1 or p.is_complex:
        return 1
    if not stored <= {*STORED} or (p.ndim == 2 and rows > 1) or math.prod(p.y_shape) == 0:
        return 1
    room = gpu.multiprocessors * _THREADS * rows // math.prod(p.y_shape)
    room = min(room, p.taps // _LEAST, MOST_SPLITS)
    return max((d for d in range(1, room + 1) if p.kernel[0] % d == 0), default=1)


def variant_of(
    problem: Problem, rows: int, activation: Activation | None, split: bool = False
) -> direct.Variant:
    flat = problem.ndim == 1
    boundary = "zeros" if problem.boundary == "constant" else problem.boundary
    parts = 2 if problem.is_complex else 1
    result = problem.dtype if split else problem.y_dtype
    part, *others = (PART.get(d, d) for d in (problem.x_dtype, problem.w_dtype, result))
    weights, result = ("" if dtype == part else dtype for dtype in others)
    real = "x" * (problem.x_dtype not in PART) + "w" * (problem.w_dtype not in PART)
    sums = PART.get(problem.dtype, SUMS.get(problem.dtype, problem.dtype))
    own = "f64" if part == "f64" else "f32"
    return direct.Variant(
        part,
        (1, *problem.kernel)[-2:],  # type: ignore[arg-type]
        1 if flat else problem.stride[-2], 1 if flat else problem.dilation[-2], rows, boundary,
        activation_name(activation), parts, weights, result, problem.ndim == 3,
        "" if sums == own else sums, real if parts == 2 else "", split,
    )  # fmt: skip


def _wrapped(problem: Problem, computed: str) -> int:
    """What lies beyond the ends, an integer, modulo what sums are."""
    half = 1 << (31 if computed == "i32" else 63)
    fill = int(problem.cval.real) if problem.boundary == "constant" else 0
    return (fill + half) % (2 * half) - half


class DirectPlan(UnpackedPlan):
    """A launch; two where blocks share sums."""

    def __init__(self, problem: Problem, solver: Solver, config: Config) -> None:
        super().__init__(problem, solver, config)
        self._splits = int(config.get("split", 1))
        self._joins: dict[Any, Launch] = {}

    def start(
        self, x: DeviceArray, packed: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        if self._splits == 1:
            super().start(x, packed, bias, y, residual, activation)
            return
        p = as_volume(self.problem)
        if self.problem.ndim == 2:
            x, packed, y = x[:, :, :, None], packed[:, :, :, None], y[:, :, :, None]
            residual = residual and residual[:, :, :, None]
        key = bias and bias.steps, y.steps, residual and residual.steps, activation
        join = self._joins.get(key)
        if join is None:
            made = joining(p, self._splits, bias, y, residual, activation)
            join = self._joins[key] = made
        shape, dtype = sums_of(p, self._splits)
        with x.borrowed(shape, dtype) as z:
            own = own_sums(p)
            sums = DeviceArray(
                z.pointer, own.shape, own.steps, dtype, z.owner, x.ordinal, x.stream
            )  # fmt: skip
            super().start(x, packed, None, sums, None, None)
            join(
                x.ordinal, x.stream, z.pointer, pointer(bias), pointer(residual), y.pointer
            )  # fmt: skip

    def launch(
        self, x: DeviceArray, w: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> Launch:  # fmt: skip
        p, rows, splits = self.problem, int(self.config["rows"]), self._splits
        p = as_volume(p) if splits > 1 else p
        variant = variant_of(p, rows, activation, splits > 1)
        for a in (x, y, residual):
            check_reach(p, a)

        def pair(values: Any, first: Any) -> Any:
            """Of rows and columns."""
            return (first, *values)[-2:]

        (h, wide), (out_h, out_w) = pair(p.size, 1), pair(p.out, 1)
        pads, steps, gaps = pair(p.padding, (0, 0)), pair(p.stride, 1), pair(p.dilation, 1)
        channels, group = p.channels // p.groups, max(1, p.filters // p.groups)
        bands = -(-out_h // rows)
        layers = p.out[0] if variant.deep else 1
        items = splits * p.batch * p.filters * layers * bands * out_w
        counts = [1 if name in variant.real else variant.parts for name in "xwyr"]
        xs, ws, ys, rs = (
            tuple(step * n for step in planes(a)) for a, n in zip((x, w, y, residual), counts)
        )
        low, high = limits(activation)
        if variant.is_exact:
            if activation is not None:
                raise TypeError(f"expected no activation of {p.dtype} on a GPU, got {activation}")
            low = high = 0
        fill = complex(p.cval) if p.boundary == "constant" else 0j
        # of a conjugated x: conj(x) w = conj(x conj(w)), and so with what lies beyond its ends
        turn = -1.0 if w.conjugated != x.conjugated else 1.0
        given = {
            "items": items, "height": h, "width": wide, "p_count": out_h, "q_count": out_w,
            "bands": bands, "filters": p.filters, "channels": channels,
            "taps_r": variant.kernel[0], "taps_s": variant.kernel[1],
            "pad_h": pads[0][0], "pad_w": pads[1][0], "step_v": steps[1], "step_m": gaps[1],
            "x_n": xs[0], "x_g": channels * xs[1], "x_c": xs[1], "x_h": xs[2], "x_w": xs[3],
            "w_k": ws[0], "w_c": ws[1], "w_r": ws[2], "w_s": ws[3],
            "b_k": bias.steps[0] * variant.parts if bias is not None else 0,
            "y_n": ys[0], "y_k": ys[1], "y_h": ys[2], "y_w": ys[3],
            "r_n": rs[0], "r_k": rs[1], "r_h": rs[2], "r_w": rs[3],
            "fill": _wrapped(p, variant.computed) if variant.is_exact else fill.real,
            "low": low, "high": high,
            "fill_i": -fill.imag if x.conjugated else fill.imag, "turn": turn, "back": -turn,
            "y_turn": -1.0 if x.conjugated else 1.0,
            **divisors(q=out_w, bands=bands, filters=p.filters, group=group),
        }  # fmt: skip
        if variant.deep:
            steps_d = (a.steps[2] * n if a is not None else 0
                       for a, n in zip((x, w, y, residual), counts))  # fmt: skip
            given |= {
                "depth": p.size[0], "o_count": layers, "taps_t": p.kernel[0],
                "pad_d": p.padding[0][0], "step_d": p.stride[0], "step_e": p.dilation[0],
                **dict(zip(("x_d", "w_t", "y_d", "r_d"), steps_d)), **divisors(o=layers),
            }  # fmt: skip
        if splits > 1:
            given |= {
                "each": p.kernel[0] // splits, "images": p.batch, **divisors(images=p.batch),
                "y_cut": p.filters * pixels_of(p),
            }  # fmt: skip
        kernel = direct.kernel(variant)
        constants = [given[name] for name, kind in kernel.parameters if kind != "pointer"]
        return Launch(kernel, (-(-items // kernel.threads), 1, 1), constants)
