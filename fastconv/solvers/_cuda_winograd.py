"""Winograd on a GPU: shapes of what its kernels make, its errors, and its launches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv._accuracy import epsilon
from fastconv._epilogue import Activation
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.cuda import gemm, winograd
from fastconv.cuda.interop import DeviceArray
from fastconv.cuda.launch import Launch
from fastconv.solvers._cuda import (
    CudaPlan,
    CudaSolver,
    activation_name,
    check_reach,
    divisors,
    launch_of,
    limits,
    planes,
    pointer,
)
from fastconv.solvers._cuda_tiles import TileSolver

#: Channels that tensor cores sum before they join the others (`mma.TILES`).
_STEP = 16


class Errors(NamedTuple):
    """Of docs/accuracy.md, "Winograd on a GPU", in eps: of transforms and products, relative to
    what transforms can make of one rounding for any filter and for the filter at hand; and of an
    addition to a sum over channels, in B."""

    any_filter: float
    this_filter: float
    addition: float


#: By outputs of an axis, and whether products are of parts in TF32.
_ERRORS = {
    (2, False): Errors(1.0, 1.6, 0.06), (2, True): Errors(1.8, 2.6, 0.06),
    (4, False): Errors(0.6, 1.0, 0.25), (4, True): Errors(1.0, 1.7, 0.25),
}  # fmt: skip


def solver_of(config: Config) -> TileSolver:
    """What finds the products."""
    # the table lists the solvers that import this module
    from fastconv.solvers import BY_NAME

    found = BY_NAME["cuda_mma" if config["products"] == "3xtf32" else "cuda_gemm"]
    assert isinstance(found, TileSolver)
    return found


def tiles_of(problem: Problem, m: int) -> tuple[int, int]:
    """Tiles down and along an image."""
    down, along = (-(-out // m) for out in problem.out)
    return down, along


def products_of(problem: Problem, m: int) -> Problem:
    """The products of all points: a convolution of one tap, with points by groups as groups."""
    points = (m + 2) ** 2
    return problem.replace(
        size=(problem.batch * math.prod(tiles_of(problem, m)),), kernel=(1,), batch=1,
        channels=points * problem.channels, filters=points * problem.filters,
        groups=points * problem.groups, stride=(1,), dilation=(1,), input_dilation=(1,),
        padding=((0, 0),), flip=False, layout="NC*",
    )  # fmt: skip


def errors_of(config: Config) -> Errors:
    """The errors of a tile and a kind of products."""
    return _ERRORS[int(config["m"]), config["products"] == "3xtf32"]


def additions(problem: Problem, config: Config) -> float:
    """Of a sum over channels: in blocks, or a step of tensor cores at a time."""
    channels = problem.channels // problem.groups
    if config["products"] == "3xtf32":
        return 1 + channels / _STEP
    return min(channels, gemm.FOLD) + channels / gemm.FOLD


def _chunks(problem: Problem) -> int:
    return -(-problem.channels // problem.groups // winograd.CHUNK)


def sizes_made(problem: Problem, m: int) -> tuple[int, int, int]:
    """Elements of what is packed: u, w, and the levels."""
    w = math.prod(problem.w_shape) // 9
    return (m + 2) ** 2 * w, 9 * w, problem.filters


def sizes_worked(problem: Problem, m: int) -> tuple[int, int, int]:
    """Elements of what a call makes: v, z, and the tiles' largest |x|."""
    products = products_of(problem, m)
    tiles = products.size[0]
    return (
        math.prod(products.x_shape), math.prod(products.y_shape),
        problem.groups * _chunks(problem) * tiles,
    )  # fmt: skip


class WinogradPlan(CudaPlan):
    """Three launches: transforms of x, products, and y; two more to pack w."""

    def __init__(self, problem: Problem, solver: CudaSolver, config: Config) -> None:
        super().__init__(problem, solver, config)
        self._m = int(config["m"])
        self._products = products_of(problem, self._m)
        self._plan = solver_of(config).plan_dense(self._products, config)
        self._launches: dict[Any, Any] = {}

    def pack(self, w: Any) -> Any:
        p, m = self.problem, self._m
        sizes = sizes_made(p, m)
        # of two axes, so that it is not the memory of what `_plan` packs (`Scratch.new`)
        made = w.aside((1, sum(sizes)), numpy_dtype(p.x_dtype))
        launch = self._launches.get(w.steps)
        if launch is None:
            launch = self._launches[w.steps] = self._filters(w)
        launch(w.ordinal, w.stream, w.pointer, made.pointer)
        u = made[0, : sizes[0]].reshape(self._products.w_shape)
        return made[0, sizes[0] :], self._plan.pack(u)

    def _filters(self, w: DeviceArray) -> Launch:
        p = self.problem
        errors, eps = errors_of(self.config), epsilon(p)
        info = np.finfo(numpy_dtype(p.x_dtype))
        steps = planes(w)
        channels = p.channels // p.groups
        given = {
            "channels": channels, "rounds": -(-channels // winograd.FILTER_THREADS),
            "w_c": steps[1], "w_r": steps[2], "w_s": steps[3], "w_k": steps[0],
            "plane": p.filters * channels, "growth": 11 * eps * errors.this_filter,
            "addition": 11 * eps * errors.addition * additions(p, self.config),
            "least": float(info.smallest_normal / info.eps), "infinite": math.inf,
        }  # fmt: skip
        kernel = winograd.filters(p.x_dtype, self._m)
        return launch_of(kernel, (p.filters, 1, 1), given)

    def start(
        self, x: DeviceArray, packed: Any, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        p = self.problem
        with x.borrowed((1, sum(sizes_worked(p, self._m))), numpy_dtype(p.x_dtype)) as worked:
            self._start(worked, x, packed, bias, y, residual, activation)

    def _start(
        self, worked: DeviceArray, x: DeviceArray, packed: Any, bias: DeviceArray | None,
        y: DeviceArray, residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        made, u = packed
        sizes = sizes_worked(self.problem, self._m)
        v = worked[0, : sizes[0]].reshape(self._products.x_shape)
        z = worked[0, sizes[0] : sum(sizes[:2])].reshape(self._products.y_shape)
        peaks = worked[0, sum(sizes[:2]) :]
        key = (x.steps, bias and bias.steps, y.steps, residual and residual.steps, activation)
        launches = self._launches.get(key)
        if launches is None:
            launches = self._launches[key] = self._made(x, bias, y, residual, activation)
        before, after = launches
        before(x.ordinal, x.stream, x.pointer, v.pointer, peaks.pointer)
        self._plan.start(v, u, None, z, None, None)
        after(
            x.ordinal, x.stream, z.pointer, made.pointer, peaks.pointer, x.pointer, pointer(bias),
            pointer(residual), y.pointer,
        )  # fmt: skip

    def _made(
        self, x: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> tuple[Launch, Launch]:  # fmt: skip
        p, m = self.problem, self._m
        for a in (x, y, residual):
            check_reach(p, a)
        down, along = tiles_of(p, m)
        tiles, channels = p.batch * down * along, p.channels // p.groups
        xs, ys, rs = planes(x), planes(y), planes(residual)
        low, high = limits(activation)
        given = {
            "tiles": tiles, "height": p.size[0], "width": p.size[1], "channels": channels,
            "chunks": _chunks(p), "pad_h": p.padding[0][0], "pad_w": p.padding[1][0],
            "plane": down * along, "across": along, "items": p.filters * tiles,
            "x_n": xs[0], "x_g": channels * xs[1], "x_c": xs[1], "x_h": xs[2], "x_w": xs[3],
            "p_count": p.out[0], "q_count": p.out[1], "blocks": -(-channels // winograd.AGAIN),
            "y_n": ys[0], "y_k": ys[1], "y_h": ys[2], "y_w": ys[3],
            "r_n": rs[0], "r_k": rs[1], "r_h": rs[2], "r_w": rs[3],
            "w_k": 9 * channels, "w_plane": p.filters * channels,
            "b_k": bias.steps[0] if bias is not None else 0, "low": low, "high": high,
            **divisors(plane=down * along, across=along, tiles=tiles,
                       group=p.filters // p.groups),
        }  # fmt: skip
        grid = (-(-tiles // winograd.TILES), _chunks(p), p.groups)
        before = launch_of(
            winograd.inputs(p.x_dtype, m), grid, {**given, "points_step": p.channels * tiles}
        )
        kernel = winograd.outputs(p.x_dtype, m, activation_name(activation))
        grid = (-(-p.filters * tiles // kernel.threads), 1, 1)
        after = launch_of(kernel, grid, {**given, "points_step": p.filters * tiles})
        return before, after
