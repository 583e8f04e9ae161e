"""cuda_direct: sums in registers, x read in place through L1; for few channels a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from fastconv._accuracy import epsilon
from fastconv._epilogue import Activation
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.cuda import direct
from fastconv.cuda.interop import DeviceArray
from fastconv.cuda.launch import Gpu, Launch
from fastconv.solvers._cuda import (
    LAUNCH,
    MOST,
    PART,
    STORED,
    CudaPlan,
    CudaSolver,
    UnpackedPlan,
    activation_name,
    are_parts,
    check_reach,
    divisors,
    limits,
    planes,
)

#: Rows of outputs of a thread. Of 3 x 3 taps, 4 rows read 6 samples a column for 12 products.
_ROWS = (4, 8, 2, 1)


#: What sums of integers are kept in, modulo 2**bits of it.
SUMS = {
    **dict.fromkeys(("i8", "u8", "i16", "u16", "i32", "u32"), "i32"),
    "i64": "i64",
    "u64": "i64",
}

#: Real numbers that are read.
READ = ("bool", *SUMS, *STORED)


class CudaDirect(CudaSolver):
    name = "cuda_direct"
    stored: ClassVar[dict[str, str]] = {name: name for name in (*READ, *PART)}
    paper = (
        "Lu, Zhang, Wang, Optimizing Depthwise Separable Convolution Operations on GPUs,"
        " IEEE TPDS 33(1), 2022"
    )

    def why_not_stored(self, problem: Problem) -> str | None:
        x, w, y, sums = problem.x_dtype, problem.w_dtype, problem.y_dtype, problem.dtype
        kinds = {x, w, y}
        if problem.is_complex:
            # what lies beyond real samples is real
            right = are_parts(problem) and (x == sums or not problem.cval.imag)
        elif problem.is_exact:
            # sums have the bits of what is stored, and more
            right = sums in SUMS and kinds <= {*READ} - {*STORED}
            right = right and SUMS.get(y) in ("i32", SUMS[sums])
        else:
            # floats that become integers are cut, which float32 has too few digits for; what would
            # be rounded to float32 first, and then again, is refused
            right = kinds <= {*READ} - {"f64"} and sums == "f32" and y in STORED
            right |= kinds <= {*READ} and sums == "f64" and y not in ("bool", "f16", "bf16")
        if right:
            return None
        return f"it has no kernels for {', '.join(dict.fromkeys((x, w, y)))} summed in {sums}"

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.ndim > 3:
            return "it has kernels of one to three dimensions"
        if math.prod(problem.y_shape) > MOST - direct.THREADS:
            return "it has more outputs than 31 bits count"
        return None

    def configs(self, problem: Problem, machine: Any) -> Sequence[Config]:
        rows = problem.out[-2] if problem.ndim > 1 else 1
        return [{"rows": r} for r in _ROWS if r == 1 or r < 2 * rows]

    def cost_dense(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        # three ceilings, each estimated: memory, products, and loads from L1, one a clock and
        # multiprocessor of 32 lanes
        size, rows = numpy_dtype(problem.x_dtype).itemsize, int(config["rows"])
        x, w, y = (math.prod(s) for s in (problem.x_shape, problem.w_shape, problem.y_shape))
        memory = (x + w + y) * size / gpu.bandwidth
        products = problem.flops / (gpu.flops / (2 if problem.dtype in ("f64", "c128") else 1))
        taps = problem.kernel[-2] if problem.ndim > 1 else 1
        stride = problem.stride[-2] if problem.ndim > 1 else 1
        loads = problem.flops / 2 * ((rows - 1) * stride + taps) / (rows * taps)
        l1 = loads / (32 * gpu.multiprocessors * 1.7e9)
        threads = y / rows
        full = max(1.0, gpu.multiprocessors * 1024 / max(1.0, threads))
        return LAUNCH + max(memory, (products + l1) * full)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return 0

    def bound_dense(self, problem: Problem, config: Config) -> float:
        # a sum of those taps that are unrolled, then one of such sums: Higham, section 4.2
        taps = (1, *problem.kernel)[-2:]
        unrolled = _variant(problem, 1, None).unrolled
        inner = math.prod(taps) if unrolled else taps[0]
        if problem.is_complex:
            # two products a tap in each part, whose errors are at right angles
            return (2 * inner + problem.taps // inner + 1) * epsilon(problem) / math.sqrt(2)
        return (inner + problem.taps // inner + 1) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config) -> CudaPlan:
        return DirectPlan(problem, self, config)


def _variant(problem: Problem, rows: int, activation: Activation | None) -> direct.Variant:
    flat = problem.ndim == 1
    boundary = "zeros" if problem.boundary == "constant" else problem.boundary
    parts = 2 if problem.is_complex else 1
    part, *others = (PART.get(d, d) for d in (problem.x_dtype, problem.w_dtype, problem.y_dtype))
    weights, result = ("" if dtype == part else dtype for dtype in others)
    real = "x" * (problem.x_dtype not in PART) + "w" * (problem.w_dtype not in PART)
    sums = PART.get(problem.dtype, SUMS.get(problem.dtype, problem.dtype))
    own = "f64" if part == "f64" else "f32"
    return direct.Variant(
        part,
        (1, *problem.kernel)[-2:],  # type: ignore[arg-type]
        1 if flat else problem.stride[-2], 1 if flat else problem.dilation[-2], rows, boundary,
        activation_name(activation), parts, weights, result, problem.ndim == 3,
        "" if sums == own else sums, real if parts == 2 else "",
    )  # fmt: skip


def _wrapped(problem: Problem, computed: str) -> int:
    """What lies beyond the ends, an integer, modulo what sums are."""
    half = 1 << (31 if computed == "i32" else 63)
    fill = int(problem.cval.real) if problem.boundary == "constant" else 0
    return (fill + half) % (2 * half) - half


class DirectPlan(UnpackedPlan):
    def launch(
        self, x: DeviceArray, w: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> Launch:  # fmt: skip
        p, rows = self.problem, int(self.config["rows"])
        variant = _variant(p, rows, activation)
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
        items = p.batch * p.filters * layers * bands * out_w
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
        kernel = direct.kernel(variant)
        constants = [given[name] for name, kind in kernel.parameters if kind != "pointer"]
        return Launch(kernel, (-(-items // kernel.threads), 1, 1), constants)
