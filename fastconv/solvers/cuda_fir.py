"""cuda_fir: signals and short filters, samples and taps in shared memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from fastconv._accuracy import epsilon
from fastconv._epilogue import Activation
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.cuda import fir
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
    direct_plan,
    divisors,
    launch_of,
    limits,
    parts_of,
)

#: Estimated share of multiply-adds that blocks reach: 0.74 of the instructions of the loop are
#: (tests/cuda_budgets.json), less a fifth for what loads from shared memory wait.
_SHARE = 0.6


class CudaFir(CudaSolver):
    name = "cuda_fir"
    paper = (
        "Iandola, Sheffield, Anderson, Phothilimthana, Keutzer, Communication-minimizing 2D"
        " convolution in GPU registers, ICIP 2013: neighbours by each thread"
    )
    mixed_dtypes = True
    stored: ClassVar[dict[str, str]] = {**STORED, **{kind: kind for kind in PART}}

    def why_not_stored(self, problem: Problem) -> str | None:
        if not problem.is_complex:
            return super().why_not_stored(problem)
        if not are_parts(problem) or problem.w_dtype in PART or problem.x_dtype not in PART:
            return "its complex numbers are samples, its taps real"
        return None

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.ndim != 1:
            return "it filters along one dimension"
        if problem.stride[0] > 1 or problem.dilation[0] > 1:
            return "its windows are neighbours, without stride and dilation"
        if problem.kernel[0] > fir.CAPACITIES[-1]:
            return f"it takes at most {fir.CAPACITIES[-1]} taps"
        if problem.channels == 0:
            return "there is nothing to multiply"
        if problem.is_complex and (problem.channels, problem.filters) != (1, 1):
            return "its complex numbers are of one channel and one filter"
        if problem.is_complex and problem.boundary == "constant":
            return "it extends complex numbers by zeros only, where by a constant"
        if _blocks(problem) > MOST:
            return "it has more blocks than 31 bits count"
        return None

    def configs(self, problem: Problem, machine: Any) -> Sequence[Config]:
        return [{}]

    def cost_dense(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        problem = _as_groups(problem)
        x, w, y = (math.prod(s) for s in (problem.x_shape, problem.w_shape, problem.y_shape))
        memory = (x + w + y) * numpy_dtype(problem.x_dtype).itemsize / gpu.bandwidth
        rate = gpu.flops * _SHARE / (2 if problem.dtype == "f64" else 1)
        # whole tiles, each with its samples and taps to load before it begins
        loads = fir.TILE + 2 * problem.kernel[0]
        products = (
            2 * fir.TILE * problem.kernel[0] / rate + loads / gpu.multiprocessors / 32 / 1.7e9
        )
        channels = problem.channels // problem.groups
        waves = max(_blocks(problem), 4 * gpu.multiprocessors)
        return LAUNCH + max(memory, waves * channels * products)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return 0

    def bound_dense(self, problem: Problem, config: Config) -> float:
        # a sum over the taps of a channel, then one over channels: Higham, section 4.2
        channels = problem.channels // problem.groups
        return (problem.kernel[0] + channels + 1) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config) -> CudaPlan:
        return FirPlan(problem, self, config)


def _as_groups(problem: Problem) -> Problem:
    """A problem of complex samples as one of two groups of real ones, which have the same taps."""
    if not problem.is_complex:
        return problem
    part = PART[problem.dtype]
    return problem.replace(
        dtype=part, x_dtype=part, w_dtype=part, y_dtype=part, channels=2, filters=2, groups=2,
        layout="strided",
    )  # fmt: skip


def _blocks(problem: Problem) -> int:
    return problem.batch * problem.filters * -(-problem.out[0] // fir.TILE)


class FirPlan(UnpackedPlan):
    def start(
        self, x: DeviceArray, packed: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        if x.conjugated:  # the sign of a part is what the other kernel has
            direct_plan(self.problem).start(x, packed, bias, y, residual, activation)
            return
        if self.problem.is_complex:
            x, y = parts_of(x), parts_of(y)
            bias, residual = bias and parts_of(bias), residual and parts_of(residual)
            packed = packed.broadcast_to((2, *packed.shape[1:]))
        super().start(x, packed, bias, y, residual, activation)

    def launch(
        self, x: DeviceArray, w: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> Launch:  # fmt: skip
        p = _as_groups(self.problem)
        for a in (x, y, residual):
            check_reach(p, a)
        taps, channels = p.kernel[0], p.channels // p.groups
        weights, result = ("" if d == p.x_dtype else d for d in (p.w_dtype, p.y_dtype))
        boundary = "zeros" if p.boundary == "constant" else p.boundary
        capacity = next(c for c in fir.CAPACITIES if taps <= c)
        variant = fir.Variant(
            p.x_dtype, capacity, taps % fir.OUTPUTS, boundary, activation_name(activation),
            weights, result,
        )  # fmt: skip
        kernel = fir.kernel(variant)
        tiles = -(-p.out[0] // fir.TILE)
        low, high = limits(activation)
        rs = residual.steps if residual is not None else (0, 0, 0)
        given = {
            "width": p.size[0], "q_count": p.out[0], "tiles": tiles, "filters": p.filters,
            "channels": channels, "taps_s": taps, "blocks_of_taps": taps // fir.OUTPUTS,
            "need": fir.TILE + taps - 1, "pad": p.padding[0][0],
            "x_n": x.steps[0], "x_g": channels * x.steps[1], "x_c": x.steps[1], "x_w": x.steps[2],
            "w_k": w.steps[0], "w_c": w.steps[1], "w_s": w.steps[2],
            "b_k": bias.steps[0] if bias is not None else 0,
            "y_n": y.steps[0], "y_k": y.steps[1], "y_w": y.steps[2],
            "r_n": rs[0], "r_k": rs[1], "r_w": rs[2],
            "fill": p.cval.real if p.boundary == "constant" else 0.0, "low": low, "high": high,
            **divisors(tiles=tiles, filters=p.filters, group=max(1, p.filters // p.groups)),
        }  # fmt: skip
        return launch_of(kernel, (_blocks(p), 1, 1), given)
