"""Products of filters by windows in tiles on a GPU: what `cuda_gemm` and `cuda_mma` share."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable
from typing import Any

from fastconv._epilogue import Activation
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.cuda import gemm
from fastconv.cuda.interop import DeviceArray
from fastconv.cuda.kernel import Kernel
from fastconv.cuda.launch import Gpu, Launch
from fastconv.solvers._cuda import (
    LAUNCH,
    MOST,
    CudaPlan,
    CudaSolver,
    check_reach,
    divisors,
    launch_of,
    limits,
    planes,
    pointer,
)
from fastconv.solvers._cuda_splits import (
    MOST_SPLITS,
    joining,
    joining_cost,
    own_sums,
    pixels_of,
    sums_of,
)

#: Products of a step for each tap over those of a step through a row of taps, from where rows are
#: taken: each sample then costs some eight integer operations, beside 64 products or more.
_THIN = 4 / 3

#: Steps of a block from which on blocks may share a sum.
_LEAST_STEPS = 16


class TileSolver(CudaSolver):
    """A solver whose kernels are written by `gemm.written`."""

    @abc.abstractmethod
    def tile_of(self, problem: Problem, config: Config) -> Any:
        """The tile of a config, or the largest."""

    @abc.abstractmethod
    def rate(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        """Floating-point operations a second that full tiles reach."""

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.ndim > 3:
            return "it has kernels of one to three dimensions"
        if problem.boundary != "zeros":
            return "it extends x by zeros only"
        if problem.groups >= 1 << 16:
            return "it has more groups than 16 bits count"
        if problem.taps == 0 or math.prod(problem.y_shape) == 0:
            return "there is nothing to multiply"
        if problem.batch * math.prod(problem.out) > MOST - 1024:
            return "it has more output pixels than 31 bits count"
        if self.workspace_dense(problem, {"tile": ""}) > MOST:
            return "its packed filters are larger than 2 GB"
        return None

    def with_splits(
        self, problem: Problem, machine: Any, configs: Iterable[dict[str, Any]]
    ) -> list[Config]:  # fmt: skip
        """The configs, and those whose sums are split where blocks are too few for the device."""
        gpu = machine if isinstance(machine, Gpu) else Gpu()
        found: list[Config] = []
        for config in configs:
            found.append(config)
            tile = self.tile_of(problem, config)
            room = gpu.multiprocessors * tile.blocks // max(1, self.blocks(problem, tile))
            room = min(room, self.steps(problem, tile) // _LEAST_STEPS, MOST_SPLITS)
            small = pixels_of(problem) * problem.filters <= MOST // 4
            if max(problem.input_dilation) == 1 and small and room > 1:
                found.append({**config, "split": room})
        return found

    def blocks(self, problem: Problem, tile: Any) -> int:
        """Tiles of the outputs."""
        filters = problem.filters // problem.groups
        return -(-pixels_of(problem) // tile.n) * -(-filters // tile.m) * problem.groups

    def steps(self, problem: Problem, tile: Any) -> int:
        """Of a sum."""
        taps, channels, _ = self.packed(problem, tile)
        return taps * channels // tile.k

    def share(self, problem: Problem, config: Config) -> tuple[int, int]:
        """Blocks of a sum, and the steps that each but the last of them has."""
        steps = self.steps(problem, self.tile_of(problem, config))
        each = -(-steps // int(config.get("split", 1)))
        return -(-steps // each), each

    def cost_dense(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        tile = self.tile_of(problem, config)
        splits, each = self.share(problem, config)
        blocks = self.blocks(problem, tile) * splits
        products = 2 * tile.m * tile.n * tile.k * each
        rate = self.rate(problem, config, gpu) / gpu.multiprocessors
        # a multiprocessor that has one block of 256 threads reaches about half of what two do
        waves = max(1.0, blocks / gpu.multiprocessors)
        idle = 2.0 if blocks <= gpu.multiprocessors else 1.0
        size = problem.itemsize
        memory = sum(math.prod(s) for s in (problem.x_shape, problem.y_shape)) * size
        packing = 0.0
        if not problem.prepared:
            packing = LAUNCH + 4 * math.prod(problem.w_shape) * size / gpu.bandwidth
        seconds = max(math.ceil(waves) * products / rate * idle, memory / gpu.bandwidth)
        return LAUNCH + seconds + packing + joining_cost(problem, splits, gpu)

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        tile = self.tile_of(problem, config)
        packed = tile.parts * problem.groups * math.prod(self.packed(problem, tile))
        splits = self.share(problem, config)[0] if problem.taps else 1
        worked = splits * math.prod(problem.y_shape) if splits > 1 else 0
        return packed * problem.itemsize + worked * numpy_dtype(problem.dtype).itemsize

    def packed(self, problem: Problem, tile: Any) -> tuple[int, int, int]:
        """(taps, channels, filters) of a group: channels by whole steps, filters by copies.

        Of a thin kernel taps are those of all axes but the last, whose taps are channels.
        """
        channels, filters = problem.channels // problem.groups, problem.filters // problem.groups
        taps = math.prod(problem.kernel)
        if self.is_thin(problem, tile):
            taps, channels = taps // problem.kernel[-1], channels * problem.kernel[-1]
        whole = -(-channels // tile.k) * tile.k
        return taps, whole, -(-filters // tile.together) * tile.together

    def is_thin(self, problem: Problem, tile: Any) -> bool:
        """Whether steps go through a kernel's rows, and not through each tap's channels."""
        channels, columns = problem.channels // problem.groups, problem.kernel[-1]
        by_taps, by_rows = columns * -(-channels // tile.k), -(-channels * columns // tile.k)
        return by_taps >= _THIN * by_rows

    def folds(self, problem: Problem, config: Config) -> int:
        """Times that a block's sums join their totals."""
        return self.share(problem, config)[1] // (gemm.FOLD // self.tile_of(problem, config).k)


class TilePlan(CudaPlan):
    """The launches of one problem, one for each way that arrays lie."""

    solver: TileSolver

    def __init__(self, problem: Problem, solver: TileSolver, config: Config) -> None:
        super().__init__(problem, solver, config)
        self._tile = solver.tile_of(problem, config)
        self._splits, self._each = solver.share(problem, config)
        self._packings: dict[Any, Launch] = {}
        self._launches: dict[Any, tuple[Launch, Launch | None]] = {}

    def pack(self, w: Any) -> Any:
        p = self.problem
        count = math.prod(self.solver.packed(p, self._tile)) * p.groups * self._tile.parts
        packed = w.aside((count,), numpy_dtype(p.x_dtype))
        launch = self._packings.get(w.steps) or self._packing(w)
        launch(w.ordinal, w.stream, w.pointer, packed.pointer)
        return packed

    @property
    def is_thin(self) -> bool:
        return self.solver.is_thin(self.problem, self._tile)

    def own_channels(self) -> dict[str, int]:
        """Channels of a step's tap, and what thin kernels divide them by."""
        own = self.problem.channels // self.problem.groups
        if not self.is_thin:
            return {"channels": own}
        return {"channels": own * self.problem.kernel[-1], "few": own, **divisors(few=own)}

    @abc.abstractmethod
    def pack_kernel(self) -> Kernel:
        """What packs filters as `kernel` reads them."""

    def pack_counts(self) -> dict[str, int]:
        """What filters are packed into, and divided by."""
        p = self.problem
        taps, channels, filters = self.solver.packed(p, self._tile)
        return {
            "packed_k": filters, "packed_c": channels,
            **divisors(k=filters, c=channels, t=taps, s=p.kernel[-1]),
        }  # fmt: skip

    @abc.abstractmethod
    def kernel(self, folds: bool, activation: Activation | None) -> Kernel:
        """Of the tile; `folds` as in `gemm.written`."""

    def _packing(self, w: DeviceArray) -> Launch:
        p = self.problem
        items = p.groups * math.prod(self.solver.packed(p, self._tile)) // self._tile.pair
        steps = planes(w)
        given = {
            "items": items, "filters": p.filters // p.groups, **self.own_channels(),
            "taps": self.solver.packed(p, self._tile)[0], "taps_s": p.kernel[-1],
            "w_k": steps[0], "w_c": steps[1], "w_r": steps[2], "w_s": steps[3], "w_part": items,
            **self.pack_counts(),
        }  # fmt: skip
        if p.ndim == 3:
            given |= {"taps_r": p.kernel[1], "w_t": w.steps[2], **divisors(r=p.kernel[1])}
        kernel = self.pack_kernel()
        grid = (-(-items // kernel.threads), 1, 1)
        made = self._packings[w.steps] = launch_of(kernel, grid, given)
        return made

    def start(
        self, x: DeviceArray, packed: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        key = (x.steps, bias and bias.steps, y.steps, residual and residual.steps, activation)
        launches = self._launches.get(key)
        if launches is None:
            launches = self._launches[key] = self._made(x, bias, y, residual, activation)
        multiply, join = launches
        on, given = (x.ordinal, x.stream), (pointer(bias), pointer(residual), y.pointer)
        if join is None:
            multiply(*on, x.pointer, packed.pointer, *given)
            return
        p = self.problem
        with x.borrowed(*sums_of(p, self._splits)) as z:
            multiply(*on, x.pointer, packed.pointer, 0, 0, z.pointer)
            join(*on, z.pointer, *given)

    def _made(
        self, x: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> tuple[Launch, Launch | None]:  # fmt: skip
        """What multiplies; and where sums are split, what joins them."""
        if self._splits == 1:
            return self._launch(x, bias, y, residual, activation), None
        join = joining(self.problem, self._splits, bias, y, residual, activation)
        return self._launch(x, None, own_sums(self.problem), None, None), join

    def _launch(
        self, x: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> Launch:  # fmt: skip
        p, tile = self.problem, self._tile
        for a in (x, y, residual):
            check_reach(p, a)
        taps, channels, filters = self.solver.packed(p, tile)
        xs, ys, rs = planes(x), planes(y), planes(residual)

        def pair(values: Any, first: Any) -> Any:
            """Of rows and columns."""
            return (first, *values)[-2:]

        (h, wide), (out_h, out_w), pads = pair(p.size, 1), pair(p.out, 1), pair(p.padding, (0, 0))
        (u, v), (l, m) = pair(p.stride, 1), pair(p.dilation, 1)
        own_c, own_k = p.channels // p.groups, p.filters // p.groups
        low, high = limits(activation)
        plane = math.prod(p.out)
        given = {
            "pixels": pixels_of(p), "height": h, "width": wide, "filters": own_k,
            **self.own_channels(), "steps": taps * channels // tile.k, "taps_s": p.kernel[-1],
            "pad_h": pads[0][0], "pad_w": pads[1][0], "step_u": u, "step_v": v, "step_l": l,
            "step_m": m, "packed_k": filters, "plane": plane, "q_count": out_w,
            "x_n": xs[0], "x_g": own_c * xs[1], "x_c": xs[1], "x_h": xs[2], "x_w": xs[3],
            "w_g": taps * channels * filters, "w_part": p.groups * taps * channels * filters,
            "y_n": ys[0], "y_g": own_k * ys[1], "y_k": ys[1], "y_h": ys[2], "y_w": ys[3],
            "r_n": rs[0], "r_g": own_k * rs[1], "r_k": rs[1], "r_h": rs[2], "r_w": rs[3],
            "b_k": bias.steps[0] if bias is not None else 0, "low": low, "high": high,
            **divisors(plane=plane, q=out_w),
        }  # fmt: skip
        if p.ndim == 3:
            x_d, y_d, r_d = (a.steps[2] if a is not None else 0 for a in (x, y, residual))
            given |= {
                "depth": p.size[0], "p_count": out_h, "taps_r": p.kernel[1],
                "pad_d": p.padding[0][0], "step_d": p.stride[0], "step_e": p.dilation[0],
                "x_d": x_d, "y_d": y_d, "r_d": r_d, **divisors(p=out_h),
            }  # fmt: skip
        if self._splits > 1:
            tap_steps = channels // tile.k
            given |= {
                "each": self._each, "tap_steps": tap_steps, "splits": self._splits,
                "y_cut": p.filters * pixels_of(p), **divisors(tap=tap_steps, s=p.kernel[-1]),
                **divisors(splits=self._splits, r=(1, *p.kernel)[-2]),
            }  # fmt: skip
        kernel = self.kernel(self.solver.folds(p, self.config) > 0, activation)
        grid = (-(-pixels_of(p) // tile.n), -(-own_k // tile.m), p.groups * self._splits)
        return launch_of(kernel, grid, given)
