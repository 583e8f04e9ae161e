"""cuda_winograd: 3 x 3 kernels by fewer products, guarded; by `cuda_gemm` or `cuda_mma`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastconv._accuracy import epsilon
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.cuda import winograd
from fastconv.cuda.launch import Gpu
from fastconv.solvers._cuda import LAUNCH, CudaPlan, CudaSolver
from fastconv.solvers._cuda_winograd import (
    WinogradPlan,
    additions,
    errors_of,
    products_of,
    sizes_made,
    sizes_worked,
    solver_of,
)

#: What is found of each point's products by dtype, the best guess first. TF32 alone is none of it:
#: F(4x4) would make 3e-3 of its 3e-4.
_PRODUCTS: dict[str, tuple[Config, ...]] = {
    "f32": (
        {"products": "3xtf32", "tile": "128x64x16"}, {"products": "3xtf32", "tile": "64x64x16"},
        {"products": "f32", "tile": "128x128x8"}, {"products": "f32", "tile": "64x64x8"},
    ),
    "f64": ({"products": "f64", "tile": "64x64x8"},),
}  # fmt: skip

#: What the transforms along both axes can make of a rounding error, K of docs/accuracy.md.
_GROWTH = {2: 4.0**2, 4: 14.3**2}


class CudaWinograd(CudaSolver):
    name = "cuda_winograd"
    mixes_windows = True
    paper = (
        "Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; error analysis"
        " after Barabasz et al., ACM TOMS 46(4), 2020"
    )

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.x_dtype not in _PRODUCTS:
            return f"its transforms are for f32 and f64, not {problem.x_dtype}"
        if problem.kernel != (3, 3) or problem.stride != (1, 1) or problem.dilation != (1, 1):
            return "its kernels are of 3 x 3 taps, without stride and dilation"
        if problem.boundary != "zeros":
            return "it extends x by zeros only"
        if max(map(max, problem.padding)) > 2:
            return "windows lie wholly in the padding"
        if problem.accuracy == "strict":
            return "its error is relative to a tile of the input, not to an output's own window"
        if math.prod(problem.y_shape) == 0 or problem.channels == 0:
            return "there is nothing to multiply"
        m = max(_sizes(problem))
        reasons = (
            solver_of(config).why_not(products_of(problem, m))
            for config in _PRODUCTS[problem.x_dtype]
        )
        return next((reason for reason in reasons if reason is not None), None)

    def configs(self, problem: Problem, machine: Any) -> Sequence[Config]:
        return [
            {"m": m, **products} for m in _sizes(problem) for products in _PRODUCTS[problem.x_dtype]
        ]

    def cost_dense(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        m = int(config["m"])
        products = products_of(problem, m).replace(prepared=True)
        v, x, z, y = (
            math.prod(shape) * problem.itemsize
            for shape in (products.x_shape, problem.x_shape, products.y_shape, problem.y_shape)
        )
        seconds = solver_of(config).cost_dense(products, config, gpu)
        seconds += 2 * LAUNCH + (v + x + z + y) / gpu.bandwidth
        if not problem.prepared:
            # u is written, read, and written as the products read it, in as many parts
            u = math.prod(products.w_shape) * problem.itemsize
            seconds += 2 * LAUNCH + 4 * u / gpu.bandwidth
        return seconds

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        m = int(config["m"])
        products = products_of(problem, m)
        own = sum(sizes_made(problem, m)) + sum(sizes_worked(problem, m))
        return own * problem.itemsize + solver_of(config).workspace_dense(products, config)

    def bound_dense(self, problem: Problem, config: Config) -> float:
        m = int(config["m"])
        errors = errors_of(config)
        sums = errors.addition * additions(problem, config)
        transforms = errors.any_filter * _GROWTH[m] + sums
        # what overflows is summed from its definition: AGAIN channels, then their sums
        channels = problem.channels // problem.groups
        again = (9 * winograd.AGAIN + channels / winograd.AGAIN + 1) / 2
        return max(transforms, again) * epsilon(problem)

    def plan_dense(self, problem: Problem, config: Config) -> CudaPlan:
        return WinogradPlan(problem, self, config)


def _sizes(problem: Problem) -> tuple[int, ...]:
    """Outputs of a tile's axis: F(4x4) has five to ten times the error of a sum, and is for those
    who ask for speed."""
    return (4, 2) if problem.accuracy == "fast" else (2,)
