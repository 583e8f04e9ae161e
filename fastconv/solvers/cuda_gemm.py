"""cuda_gemm: filters by windows in tiles of registers, float32 and float64, no tensor cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastconv._accuracy import epsilon
from fastconv._epilogue import Activation
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.cuda import gemm
from fastconv.cuda.kernel import Kernel
from fastconv.cuda.launch import Gpu
from fastconv.solvers._cuda import CudaPlan, activation_name
from fastconv.solvers._cuda_tiles import TilePlan, TileSolver

#: Estimated share of the multiply-adds that a full tile reaches: the share of them among the
#: instructions of the main loop (tests/cuda_budgets.json), less a tenth for what loads wait.
_SHARE = {
    "128x128x8": 0.66, "64x128x8": 0.63, "64x64x8": 0.58, "32x128x16": 0.57,
}  # fmt: skip


class CudaGemm(TileSolver):
    name = "cuda_gemm"
    paper = (
        "Chetlur et al., cuDNN: Efficient Primitives for Deep Learning, arXiv:1410.0759, 2014;"
        " Kerr et al., CUTLASS, 2017"
    )

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.x_dtype not in gemm.TILES:
            return f"it has no kernels for {problem.x_dtype}"
        return super().why_not_dense(problem)

    def configs(self, problem: Problem, machine: Any) -> Sequence[Config]:
        tiles = ({"tile": name} for name in gemm.TILES[problem.x_dtype])
        return self.with_splits(problem, machine, tiles)

    def bound_dense(self, problem: Problem, config: Config) -> float:
        # runs of FOLD products, then their totals, then those of blocks that share a sum: Higham,
        # section 4.2; padding adds exact zeros
        inner = min(problem.taps, gemm.FOLD)
        folds, splits = self.folds(problem, config), self.share(problem, config)[0]
        return (inner + folds + splits) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config) -> CudaPlan:
        return GemmPlan(problem, self, config)

    def tile_of(self, problem: Problem, config: Config) -> Any:
        """The tile of a config, or the largest."""
        tiles = gemm.TILES[problem.x_dtype]
        return tiles.get(str(config["tile"])) or next(iter(tiles.values()))

    def rate(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        """Floating-point operations a second that full tiles reach."""
        rate = gpu.flops * _SHARE[str(self.tile_of(problem, config))]
        return rate / 2 if problem.dtype == "f64" else rate


class GemmPlan(TilePlan):
    """Filters as they are, by channels."""

    def pack_kernel(self) -> Kernel:
        return gemm.pack_kernel(self.problem.x_dtype, self.problem.ndim == 3, self.is_thin)

    def kernel(self, folds: bool, activation: Activation | None) -> Kernel:
        p = self.problem
        variant = gemm.Variant(
            p.x_dtype, self._tile, folds, activation_name(activation), p.ndim == 3, self.is_thin,
            self._splits > 1,
        )  # fmt: skip
        return gemm.kernel(variant)
