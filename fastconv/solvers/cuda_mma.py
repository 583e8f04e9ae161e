"""cuda_mma: filters by windows on tensor cores: 16-bit floats, float32 by TF32 in a part or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastconv._accuracy import epsilon
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.cuda import mma
from fastconv.cuda.kernel import Kernel
from fastconv.cuda.launch import Gpu
from fastconv.solvers._cuda import activation_name, divisors
from fastconv.solvers._cuda_tiles import TilePlan, TileSolver

#: Estimated share of a tensor core's products that a full tile reaches. By mma.sync it was 40 to
#: 56% of TF32 on an H100 (NVIDIA/warp#1965), and 37% of float16 (triton#2339).
_SHARE = {"128x128x16": 0.45, "128x64x16": 0.45, "64x64x16": 0.35,
          "128x128x32": 0.35, "64x64x32": 0.25}  # fmt: skip

#: Products of TF32 that take as long as one: of w and x, each rounded; of two parts, w' x', w'' x'
#: and w' x''; and of 16 bits, of which data sheets have twice as many.
_PRODUCTS = {"tf32": 1, "3xtf32": 3, "f16": 0.5, "bf16": 0.5}

#: Kinds of products by dtype, the default first.
_OF = {"f32": ("3xtf32", "tf32"), "f16": ("f16",), "bf16": ("bf16",)}


class CudaMma(TileSolver):
    name = "cuda_mma"
    paper = (
        "Ootomo and Yokota, Recovering single precision accuracy from Tensor Cores while surpassing"
        " the FP32 theoretical peak performance, arXiv:2203.03341, 2022"
    )

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.x_dtype not in _OF:
            return f"tensor cores multiply f16, bf16 and f32 here, not {problem.x_dtype}"
        if problem.x_dtype == "f32" and problem.accuracy == "strict":
            return "its products are of numbers in TF32, which strict has none of"
        return super().why_not_dense(problem)

    def configs(self, problem: Problem, machine: Any) -> Sequence[Config]:
        every = (
            {"products": products, "tile": tile}
            for products in _OF[problem.x_dtype]
            for tile in mma.TILES[products]
        )
        return self.with_splits(problem, machine, every)

    def tile_of(self, problem: Problem, config: Config) -> mma.Tile:
        tiles = mma.TILES[str(config.get("products", _OF[problem.x_dtype][0]))]
        return tiles.get(str(config["tile"])) or next(iter(tiles.values()))

    def rate(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        share = _SHARE[str(self.tile_of(problem, config))]
        return gpu.tf32_flops * share / _PRODUCTS[str(config["products"])]

    def bound_dense(self, problem: Problem, config: Config) -> float:
        """See docs/accuracy.md, "Tensor cores"."""
        eps = epsilon(problem)
        tile = self.tile_of(problem, config)
        splits, steps = self.share(problem, config)
        # each of 4 products and the sum that they join is cut to 24 bits, and so is the new sum
        chain = tile.k // 4 * 6
        sums = chain + (steps + splits) / 2
        if tile.pair == 2:
            return sums * eps  # products are exact
        if tile.parts == 1:
            return 2.0**-10 + sums * eps
        # w'' x'' at most 2**-22, x'' cut and w'' rounded 2**-23 and 2**-24; the small products,
        # 2**-10 of all, in one chain of two an mma
        return (3.5 + 1 + sums + 2 * chain * steps * 2.0**-10) * eps

    def plan_dense(self, problem: Problem, config: Config) -> MmaPlan:
        return MmaPlan(problem, self, config)


class MmaPlan(TilePlan):
    """Filters in fragments."""

    solver: CudaMma

    def kernel(self, folds: bool, activation: Any) -> Kernel:
        products, name = str(self.config["products"]), activation_name(activation)
        deep, split = self.problem.ndim == 3, self._splits > 1
        return mma.kernel(mma.Variant(products, str(self._tile), name, deep, self.is_thin, split))

    def pack_kernel(self) -> Kernel:
        deep = self.problem.ndim == 3
        return mma.pack_kernel(str(self.config["products"]), deep, self.is_thin)

    def pack_counts(self) -> dict[str, int]:
        taps, channels, filters = self.solver.packed(self.problem, self._tile)
        k, c = filters // mma.ROWS, channels // (mma.DEPTH * self._tile.pair)
        return {
            "packed_k": k, "packed_c": c,
            **divisors(k=k, c=c, t=taps, s=self.problem.kernel[-1]),
        }  # fmt: skip
