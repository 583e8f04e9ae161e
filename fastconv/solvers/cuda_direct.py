"""cuda_direct: sums in registers, x read in place through L1; for few channels a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from fastconv._accuracy import epsilon
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.cuda import direct
from fastconv.cuda.launch import Gpu
from fastconv.solvers._cuda import LAUNCH, MOST, PART, STORED, CudaPlan, CudaSolver, are_parts
from fastconv.solvers._cuda_direct import READ, SUMS, DirectPlan, as_volume, splits_of, variant_of
from fastconv.solvers._cuda_splits import joining_cost

#: Rows of outputs of a thread. Of 3 x 3 taps, 4 rows read 6 samples a column for 12 products.
_ROWS = (4, 8, 2, 1)


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
        found: list[Config] = [{"rows": r} for r in _ROWS if r == 1 or r < 2 * rows]
        gpu = machine if isinstance(machine, Gpu) else Gpu()
        splits = ((config, splits_of(problem, config, gpu)) for config in found)
        return [*found, *({**config, "split": n} for config, n in splits if n > 1)]

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
        splits = int(config.get("split", 1))
        threads = y / rows * splits
        full = max(1.0, gpu.multiprocessors * 1024 / max(1.0, threads))
        joining = joining_cost(problem, splits, gpu)
        return LAUNCH + max(memory, (products + l1) * full) + joining

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        splits = int(config.get("split", 1))
        size = numpy_dtype(problem.dtype).itemsize
        return splits * math.prod(problem.y_shape) * size if splits > 1 else 0

    def bound_dense(self, problem: Problem, config: Config) -> float:
        # a sum of those taps that are unrolled, then one of such sums: Higham, section 4.2
        splits = int(config.get("split", 1))
        problem = as_volume(problem) if splits > 1 else problem
        taps = (1, *problem.kernel)[-2:]
        unrolled = variant_of(problem, 1, None).unrolled
        inner = math.prod(taps) if unrolled else taps[0]
        if problem.is_complex:
            # two products a tap in each part, whose errors are at right angles
            return (2 * inner + problem.taps // inner + 1) * epsilon(problem) / math.sqrt(2)
        # and then one of those of blocks that share it
        outer = -(-(problem.taps // inner) // splits) + (splits if splits > 1 else 0)
        return (inner + outer + 1) * epsilon(problem) / 2

    def plan_dense(self, problem: Problem, config: Config) -> CudaPlan:
        return DirectPlan(problem, self, config)
