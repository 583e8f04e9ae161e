"""Every kernel of every instruction set that runs here, at the edges of its vectors and tiles."""

from __future__ import annotations

import itertools
import math
import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.fft
from hypothesis import example, given
from problems import (
    MIXING,
    Array,
    arrays,
    check,
    mixed_magnitude,
    numpy_dtype,
    oracle,
    solved,
    stored,
    values,
)
from strategies import EXACT, FLOATS, FORMS, in_form, problems

from fastconv._accuracy import epsilon
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.solvers import BY_NAME, SOLVERS
from fastconv.solvers._driver import DriverPlan
from fastconv.solvers.overlap_save import BlocksPlan

pytestmark = pytest.mark.usefixtures("every_thread")

#: Small blocks of each driver, so that small problems have several and a part of one.
BLOCKS: dict[str, tuple[dict[str, int], ...]] = {
    "depthwise": ({"strip_bytes": 1}, {"strip_bytes": 3000}),
    "direct": (
        {"plane_bytes": 1, "taps": 1, "filters": 1},
        {"plane_bytes": 700, "taps": 5, "filters": 4},
        {"plane_bytes": 4000, "taps": 7, "filters": 6},
    ),
    "dot": ({"rows": 1, "columns": 1}, {"rows": 4, "columns": 3}, {"rows": 2, "columns": 16}),
    "implicit_gemm": (
        {"block_bytes": 1, "taps": 1, "copy": 0},
        {"block_bytes": 6000, "taps": 7, "copy": 1},
        {"block_bytes": 20000, "taps": 40, "copy": 0},
        {"block_bytes": 20000, "taps": 40, "copy": 1},
        {"block_bytes": 3000, "taps": 9, "copy": 2},
        {"block_bytes": 20000, "taps": 40, "copy": 2},
        {"block_bytes": 20000, "taps": 7, "across": 1},
    ),
    "col2im": (
        {"block_bytes": 1, "channels": 1},
        {"block_bytes": 6000, "channels": 3},
        {"block_bytes": 60000, "channels": 190},
    ),
    "im2col": ({"tile_bytes": 1, "taps": 3}, {"tile_bytes": 3000, "taps": 7}),
    "panels": (
        {"panel_bytes": 1, "taps": 1, "weight_bytes": 1, "band": 0},
        {"panel_bytes": 6000, "taps": 9, "weight_bytes": 1, "band": 0},
        {"panel_bytes": 1, "taps": 400, "weight_bytes": 1, "band": 1},
        {"panel_bytes": 6000, "taps": 40, "weight_bytes": 2000, "band": 0},
    ),
    "pairs": (
        {"panel_bytes": 1, "taps": 1, "weight_bytes": 1, "band": 0},
        {"panel_bytes": 6000, "taps": 9, "weight_bytes": 1, "band": 0},
        {"panel_bytes": 1, "taps": 400, "weight_bytes": 1, "band": 1},
    ),
    "quads": (
        {"panel_bytes": 1, "taps": 1, "weight_bytes": 1, "band": 0},
        {"panel_bytes": 6000, "taps": 9, "weight_bytes": 1, "band": 0},
        {"panel_bytes": 1, "taps": 400, "weight_bytes": 1, "band": 1},
    ),
    "winograd_pairs": (
        {"tile_bytes": 1, "sum_bytes": 1},
        {"tile_bytes": 5000, "sum_bytes": 40000},
    ),
    "separable": ({"row_bytes": 1}, {"row_bytes": 3000}),
    "winograd": ({"cache_bytes": 1}, {"cache_bytes": 30000}),
    "amx_winograd_emulated": ({"cache_bytes": 1}, {"m": 3, "cache_bytes": 10**9}),
    "amx_gradient_emulated": (
        {"pictures": 1, "rows": 1, "steps": 1},
        {"filters": 32, "images": 32},
    ),
}

DTYPES = ("f32", "f64", "c64", "c128", "i8", "u16", "i32", "u64", "bool")


def drivers() -> list[Solver]:
    texts = ("conv2d f32 n1 c4 h12 w12 k4 r3 s3 p1", "conv2d f32 n1 c4 h12 w12 k4 r3 s3 g4 p1",
             "conv2d f32 n1 c1 h12 w12 k1 r3 s3 p1 rank1")  # fmt: skip
    found = []
    for solver in (s for s in SOLVERS if s.device == "cpu"):
        for problem in map(Problem.parse, texts):
            if solver.why_not(problem) is None:
                config = solver.configs(problem, this_machine())[0]
                if isinstance(
                    solver.plan(problem, config, this_machine()), (DriverPlan, BlocksPlan)
                ):
                    found.append(solver)
                break
    return found


DRIVERS = drivers()


def forced(solver: Solver, problem: Problem, isa: str) -> list[Config]:
    """The solver's configs for `isa`, and the first of them with small blocks."""
    offered = [{**c, "isa": isa} for c in solver.configs(problem, this_machine())]
    unique = [dict(c) for c in dict.fromkeys(tuple(c.items()) for c in offered)]
    return [*unique, *({**unique[0], **blocks} for blocks in BLOCKS.get(solver.name, ()))]


def solve(
    solver: Solver, problem: Problem, config: Config, x: Array, w: Array, bias: Any = None
) -> Array:
    plan = solver.plan(problem, config, this_machine())
    y = stored(np.full(problem.y_shape, 77), problem.y_dtype)
    plan(x, plan.pack_stored(w), bias, y)
    return y


def check_all(solver: Solver, isa: str, problem: Problem) -> bool:
    """Whether the solver accepts the problem; AssertionError when it solves it wrongly."""
    if solver.why_not(problem) is not None:
        return False
    x, w, bias = arrays(problem)
    expected = solved(str(problem), True)
    mixed = mixed_magnitude(problem, x, w) if solver.name in MIXING else None
    for config in forced(solver, problem, isa):
        y = solve(solver, problem, config, x, w, bias)
        bound = solver.error_bound(problem, config) + epsilon(problem)
        check(problem, y, expected, bound, mixed, f"{solver.name} {config}")
    return True


@pytest.fixture(params=core.compiled_isas())
def isa(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in core.isas():
        pytest.skip(f"{name} is compiled in but does not run on this processor")
    return name


@pytest.fixture(params=DRIVERS, ids=lambda s: s.name)
def solver(request: pytest.FixtureRequest) -> Solver:
    made: Solver = request.param
    return made


@pytest.mark.parametrize("dtype", DTYPES)
def test_filters(solver: Solver, isa: str, dtype: str) -> None:
    """1 to 9 filters: every sequence of register tiles."""
    tried = [
        check_all(solver, isa, Problem.parse(f"conv2d {dtype} n1 c2 h4 w21 k{k} r3 s3 p1"))
        for k in range(1, 10)
    ]
    if not any(tried):
        pytest.skip(f"{solver.name} solves no {dtype}")


@pytest.mark.parametrize("dtype", ("f32", "f64", "c64", "u8", "i16", "i32", "i64"))
def test_widths(solver: Solver, isa: str, dtype: str) -> None:
    """1 to 100 columns and around 16 vectors: every tail."""
    widths = (*range(1, 101, 1 if dtype in ("f32", "u8") else 3), 126, 128, 129, 191, 192, 193, 513)
    tried = [
        check_all(solver, isa, Problem.parse(f"conv1d {dtype} n1 c1 w{w} k5 s3 p1")) for w in widths
    ]
    if not any(tried):
        pytest.skip(f"{solver.name} solves no 1-D {dtype}")


@pytest.mark.parametrize("h, w", [(1, 1), (1, 9), (2, 2), (3, 4), (4, 3), (5, 5), (6, 7), (7, 6),
                                  (8, 8), (9, 25), (13, 31), (2, 70), (40, 3)])  # fmt: skip
@pytest.mark.parametrize("dtype", ("f32", "f64"))
def test_planes(solver: Solver, isa: str, dtype: str, h: int, w: int) -> None:
    """Heights and widths around the tiles of 3 x 3 kernels."""
    check_all(solver, isa, Problem.parse(f"conv2d {dtype} n1 c3 h{h} w{w} k6 r3 s3 p1"))
    check_all(solver, isa, Problem.parse(f"conv2d {dtype} n1 c6 h{h} w{w} k6 r3 s3 g2 p1,2:0"))


@pytest.fixture(params=(True, False), ids=("vnni", "without"))
def vnni(request: pytest.FixtureRequest) -> Iterator[bool]:
    """AVX-512 VNNI as it is here, and none."""
    before = core.allow_vnni(request.param)
    yield request.param
    core.allow_vnni(before)


@pytest.mark.parametrize("name", ("pairs", "quads", "winograd_pairs"))
def test_narrow_integers(name: str, isa: str, vnni: bool) -> None:
    """Every sequence of register tiles, planes around tiles of outputs, blocks of all sizes."""
    if name == "quads" and (reason := core.quads_absent()):
        pytest.skip(reason)
    planes = [
        (1, 1, 1, 1),
        (2, 3, 3, 4),
        (3, 7, 5, 5),
        (4, 13, 6, 35),
        (5, 20, 13, 70),
        (7, 9, 40, 3),
    ]
    for c, k, h, w in [*planes, *((3, k, 4, 21) for k in range(1, 10))]:
        for more in ("", " y:u8", " y:i16 threads3"):
            text = f"conv2d i32 n1 c{c} h{h} w{w} k{k} r3 s3 p1 constant=7 x:u8 w:i8{more}"
            assert check_all(BY_NAME[name], isa, Problem.parse(text))


@pytest.mark.parametrize("more", ("x:u8 w:u8", "x:u8 w:i8", "x:i8 w:u8", "x:i8 w:i8 threads3"))
def test_rows_of_bytes(isa: str, more: str) -> None:
    """Planes around tiles of 4 rows and 64 columns, kernels around 4 columns."""
    if reason := core.quads_absent():
        pytest.skip(reason)
    sizes = [(h, 30, 2, 3) for h in range(2, 12)]
    sizes += [(5, w, 3, 5) for w in (5, 67, 68, 69, 132, 200)]
    sizes += [(7, 40, r, s) for r in (1, 2, 3, 5, 7) for s in (1, 3, 4, 5, 8, 9)]
    for h, w, r, s in sizes:
        for stride in ("", " u2", " u3,1 y:u8", " u1,2 y:i16"):
            problem = Problem.parse(f"conv2d i32 n1 c2 h{h} w{w} k2 r{r} s{s}{stride} {more}")
            assert check_all(BY_NAME["quad_rows"], isa, problem)


@pytest.mark.parametrize("more", ("x:u8 w:i8", "constant=9 x:i8 w:i8 y:u8", "x:u8 w:u8 y:i16"))
def test_narrow_channels_of_bytes(isa: str, more: str) -> None:
    """Four and two side by side, and one: of rows around 16, 32 and 64 samples."""
    if reason := core.quads_absent():
        pytest.skip(reason)
    for w in (5, 13, 14, 15, 29, 30, 31, 61, 62, 63):
        for c in (2, 3, 4, 5, 9):
            for stride in ("", " u2"):
                text = f"conv2d i32 n2 c{c} h{w % 7 + 3} w{w} k{c} r3 s3 g{c} p1{stride} {more}"
                assert check_all(BY_NAME["quad_rows"], isa, Problem.parse(text))


@pytest.mark.parametrize("taps", (1, 2, 3, 5, 31, 511, 512, 513, 1025))
@pytest.mark.parametrize("dtype", ("f32", "c128", "u8"))
def test_taps(solver: Solver, isa: str, dtype: str, taps: int) -> None:
    """Sums of one block of taps, of several and of a part."""
    check_all(solver, isa, Problem.parse(f"conv1d {dtype} n1 c1 w{taps + 40} k5 s{taps}"))
    check_all(solver, isa, Problem.parse(f"conv2d {dtype} n1 c{taps} h3 w4 k3 r1 s1"))


@pytest.mark.parametrize("filters", (63, 64, 65, 68, 130))
def test_many_filters(solver: Solver, isa: str, filters: int) -> None:
    for threads in (1, 3):
        texts = (f"conv2d f32 n1 c{c} h4 w5 k{filters} r3 s3 p1{rank}"
                 for c, rank in ((1, ""), (2, ""), (1, " rank1")))  # fmt: skip
        problems = (Problem.parse(text).replace(threads=threads) for text in texts)
        tried = [check_all(solver, isa, problem) for problem in problems]
        assert any(tried)


@pytest.mark.parametrize("dtype", ("f32", "f64", "i32", "i64"))
@pytest.mark.parametrize("kernel", ("r3 s3 p1", "r3 s3 p1 u2", "r5 s4 p2", "r1 s7 p0,3", "r4 s1"))
def test_one_channel(solver: Solver, isa: str, dtype: str, kernel: str) -> None:
    """Rows of every tail, around 4 vectors, and wide enough to be read in place."""
    sizes = [(h, 23) for h in range(4, 11)]
    sizes += [(5, w) for w in (*range(4, 70, 3), 126, 128, 131, 257, 300)]
    tried = [
        check_all(solver, isa, Problem.parse(f"conv2d {dtype} n1 c1 h{h} w{w} k1 {kernel}"))
        for h, w in sizes
    ]
    if not any(tried):
        pytest.skip(f"{solver.name} solves none of these")


@pytest.mark.parametrize("text", [
    "conv2d f32 n1 c3 h13 w29 k5 r5 s4 p2 u2,3",
    "conv2d f32 n1 c3 h13 w29 k5 r5 s4 p2 u3,2 l2,3",
    "conv2d f64 n1 c3 h13 w29 k5 r3 s3 p3 u2 l4 wrap",
    "conv2d f32 n2 c4 h11 w12 k6 r3 s3 g2 p5 reflect",
    "conv2d c64 n1 c2 h9 w9 k3 r2 s3 p1 u2 constant=1.0-0.5j",
    "conv3d f32 n1 c2 d5 h6 w7 k5 t3 r2 s3 p1 u1,2,1 nearest",
    "conv4d f64 n1 c2 i3,4,3,5 k3 f2,2,3,2 p1 mirror",
    "conv1d i16 n2 c3 w50 k4 s7 p9 u4 l3 flip",
    "conv2d f32 n2 c5 h6 w5 k4 r3 s3 p2 e2 flip",
    "conv2d f32 n1 c40 h9 w9 k40 r3 s3 p1 threads3",
    "conv2d f32 n3 c2 h30 w9 k5 r9 s3 p4,1 threads8",
    "conv2d f32 n1 c1 h60 w70 k1 r7 s7 p3 threads3 reflect",
    "conv2d f32 n1 c5 h3 w9 k30 r3 s3 threads8",
    "conv1d c64 n1 c5 w9 k11 s9 threads3",
    "conv2d f32 n1 c9 h9 w9 k9 r1 s1 p0:1,0:2",
])  # fmt: skip
def test_geometry(solver: Solver, isa: str, text: str) -> None:
    """Strides, phases, bands and boundaries of the drivers, in blocks of every size."""
    if not check_all(solver, isa, Problem.parse(text)):
        pytest.skip(f"{solver.name}: {solver.why_not(Problem.parse(text))}")


@given(problem=problems(dtypes=FLOATS + EXACT))
@example(Problem.parse("conv2d f32 n2 c40 h30 w33 k20 r3 s3 p1 threads2"))
@example(Problem.parse("conv2d f64 n1 c3 h60 w9 k9 r3 s3 p1 threads3"))
@example(Problem.parse("conv1d f32 n1 c2 w3000 k5 s600"))
def test_workspace_is_not_overrun(problem: Problem) -> None:
    """Drivers stay within the bytes they said they need: what lies behind keeps its pattern."""
    x, w, bias = arrays(problem)
    room = np.empty(0, np.uint8)
    for solver in DRIVERS:
        if solver.why_not(problem) is not None:
            continue
        for config in forced(solver, problem, core.isa()):
            plan = solver.plan(problem, config, this_machine())
            whole = isinstance(plan, (DriverPlan, BlocksPlan))
            steps = [plan] if whole else [p for _, p in plan._parts if p]
            needed = max((step._call.workspace_bytes for step in steps), default=0)
            if needed + 8192 > room.size:
                room = np.full(needed + 65536, 0xA5, np.uint8)
            start = -room.ctypes.data % 64  # where the first cache line begins
            behind = room[start + needed :]
            core._local.scratch = room
            packed, y = plan.pack_stored(w), stored(np.zeros(problem.y_shape), problem.y_dtype)
            try:
                plan(x, packed, bias, y)
            finally:
                core._local.__dict__.clear()
            assert (behind == 0xA5).all(), f"{solver.name} {config} {problem}"
            room[: start + needed] = 0xA5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["conv2d f32 n2 c9 h9 w9 k9 r1 s1 p0:1,0:2",
                                  "conv2d f64 n2 c4 h9 w10 k5 r1 s1",
                                  "conv2d f32 n2 c3 h9 w12 k5 r3 s3 p1"])  # fmt: skip
def test_memory_order(solver: Solver, text: str, form: str) -> None:
    """What is read in place must lie as the driver takes it to."""
    problem = Problem.parse(text).replace(layout="strided")
    if solver.why_not(problem) is not None:
        pytest.skip(f"{solver.name}: {solver.why_not(problem)}")
    x, w, bias = arrays(Problem.parse(text))
    x, w = in_form(x, form), in_form(w, form)
    expected = oracle(problem, x, w, bias)
    for config in forced(solver, problem, core.isa()):
        y = solve(solver, problem, config, x, w, bias)
        bound = solver.error_bound(problem, config) + epsilon(problem)
        mixed = mixed_magnitude(problem, x, w) if solver.name in MIXING else None
        check(problem, y, expected, bound, mixed, f"{solver.name} {config}")


@pytest.mark.parametrize("name", ("c64", "c128"))
def test_spectra(isa: str, name: str) -> None:
    """Sums of products of spectra: every tail of vectors, and nothing written beyond it."""
    rng = np.random.default_rng(0)
    eps = np.finfo(numpy_dtype(name)).eps
    for bins in (*range(1, 40), 65, 129, 200):
        for count, kernels in ((1, 1), (2, 3), (7, 1)):
            x, w = (
                values(rng, name, (count + 3, 3, bins)),
                values(rng, name, (kernels, count, bins)),
            )
            begin, end = sorted(rng.integers(0, bins + 1, 2)) if bins % 2 else (0, bins)
            y = np.full((3, bins), 77, x.dtype)
            core.multiply_spectra(x, w, y, 2, begin, end, isa)
            terms = x[2 : 2 + count].transpose(1, 0, 2).astype(np.clongdouble) * w
            error = abs(y - terms.sum(axis=1))[:, begin:end]
            assert (error <= 2 * (count + 1) * eps * abs(terms).sum(axis=1)[:, begin:end]).all()
            assert (y[:, :begin] == 77).all() and (y[:, end:] == 77).all()


@pytest.mark.parametrize("kind", ["plain", "loud", "nan"])
def test_scores(isa: str, kind: str) -> None:
    """Sums over boxes to their own size, whatever lies beside them; every tail, strip and block."""
    rng = np.random.default_rng(0)
    for channels, shape, taps in (
        (1, (9, 40), (3, 5)), (2, (17, 23), (8, 7)), (3, (12, 9), (12, 9)), (1, (5, 70), (1, 64)),
        (2, (70, 5), (65, 1)), (1, (3, 1100), (2, 17)), (1, (540, 6), (261, 3)),
    ):  # fmt: skip
        x = rng.standard_normal((channels, *shape))
        if kind == "loud":
            x[:, shape[0] // 2, shape[1] // 2] = 1e12
        elif kind == "nan":
            x[0, -1, -1] = np.nan
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), taps, (1, 2))
        sums, size = windows.sum(axis=(-2, -1)), taps[0] * taps[1]
        squares = (windows**2).sum(axis=(0, -2, -1))
        products = rng.standard_normal(sums.shape[1:])
        with np.errstate(invalid="ignore"):
            root = np.sqrt(squares - (sums**2).sum(axis=0) / size)
            want = np.clip(products / (3.0 * root), -1, 1)
        # eps of q for each addition, and twice the square of a sum: as `share` of _match.py
        lost = 6 * (taps[0] + 2 * taps[1].bit_length() + 4 + channels) * 2.0**-52
        known = np.concatenate([sums, squares[None]]).astype(np.float64)
        limit = 3.0 * float(root.flat[0])
        for dtype, source, box in ((np.float32, x, taps), (np.float64, known, None)):
            y = np.full(products.shape, 9, dtype)
            rule = 1 / size, 3.0, 0.0, 0.0, limit
            some = core.scores(source, box, products, rule, y, 2, isa)
            good = squares * lost < 0.5 * root**2 if size > 1 else root > np.inf
            bound = lost * squares / root**2 + np.finfo(dtype).eps
            assert (np.isnan(y) == np.isnan(want))[good | np.isnan(want)].all()
            assert (abs(y - want) <= bound)[good].all()
            sure = abs(3.0 * root - limit) > 1e-6 * limit
            doubtful = (3.0 * root < limit).any(axis=1)
            assert (some == doubtful)[(sure & (good | np.isnan(want))).all(axis=1)].all()
        blank = 1 / size, 0.0, 0.0, np.inf, 0.0  # everything is constant
        assert not core.scores(known, None, products, blank, y, 1, isa).any()
        assert (y == 0)[~np.isnan(want)].all()


def factors_of(radices: Sequence[int], dtype: str) -> Array:
    """The factors of all stages, as fc.h has them, rounded once."""
    m = math.prod(radices)
    parts = [np.empty(0, np.longdouble)]
    for radix in radices:
        j, i = np.arange(1, m // radix), np.arange(1, radix)
        turns = (j[:, None] * i % m) / np.longdouble(m)
        angle = 2 * np.longdouble("3.14159265358979323846264338327950288") * turns
        parts.append(np.stack([np.cos(angle), -np.sin(angle)], -1).ravel())
        m //= radix
    return np.concatenate(parts).astype(dtype)


def frequencies_of(radices: Sequence[int]) -> Array:
    """The frequency that comes at each place: digits of the place, the first stage's least."""
    digits = np.indices(radices).reshape(len(radices), -1)
    weights = np.cumprod([1, *radices[:-1]])
    found: Array = (digits * weights[:, None]).sum(0)
    return found


def transform_bound(radices: Sequence[int], unit: float) -> float:
    """Bound on the rms error over the rms of the transform, which adds up over stages.

    A stage is a matrix of root(radix) times an orthogonal one, applied with an error of at most
    depth roundings of sums of moduli, which are root(radix) larger; each of two parts, hence
    root(2). Then come factors, rounded once, and products (Higham, lemma 3.5), 3 root(2) roundings.
    Depths: 1 for 2; of the constants, their products and sums 5 for 3, 2 for 4, 6 for 5.
    """
    depth = {2: 1, 3: 5, 4: 2, 5: 6}
    return sum(math.sqrt(2 * r) * depth[r] + 3 * math.sqrt(2) for r in radices) * unit


def driver_radices(n: int) -> list[int]:
    """Stages in the order of overlap_save_tables.c."""
    found = []
    for radix in (4, 2, 3, 5):
        while n % radix == 0:
            found.append(radix)
            n //= radix
    return found


#: Every radix alone, in every order of two and three, and every length that blocks have up to 640.
STAGES = (
    *itertools.chain(*(itertools.product((2, 3, 4, 5), repeat=stages) for stages in (1, 2, 3))),
    *(
        tuple(driver_radices(n))
        for n in range(2, 641)
        if math.prod(driver_radices(n)) == n
    ),
    (4,) * 6, (5,) * 5, (4, 4, 4, 2, 3, 3, 5),
)  # fmt: skip


@pytest.mark.parametrize("dtype", ("f4", "f8"))
@pytest.mark.parametrize("real", (False, True))
def test_transforms(isa: str, dtype: str, real: bool) -> None:
    """All lengths and orders of stages beside SciPy's long double, and back."""
    rng = np.random.default_rng(0)
    lanes, unit = core.transform_lanes(dtype, isa), float(np.finfo(dtype).eps) / 2
    for radices in STAGES:
        n = math.prod(radices)
        z = rng.standard_normal((n, 2, lanes)).astype(dtype)
        if real:
            z[:, 1] = 0
        before = z[:, 0].astype(np.longdouble) + 1j * z[:, 1].astype(np.longdouble)
        factors = factors_of(radices, dtype)
        core.transform(z, radices, factors, isa=isa)
        after = z[:, 0].astype(np.longdouble) + 1j * z[:, 1].astype(np.longdouble)
        right = scipy.fft.fft(before, axis=0)[frequencies_of(radices)]
        bound = transform_bound(radices, unit)
        size = np.sqrt((abs(right) ** 2).sum(0))
        assert (np.sqrt((abs(after - right) ** 2).sum(0)) <= bound * size).all(), radices
        core.transform(z, radices, factors, back=True, isa=isa)
        error = z[:, 0].astype(np.longdouble) + 1j * z[:, 1].astype(np.longdouble) - n * before
        assert (
            np.sqrt((abs(error) ** 2).sum(0)) <= 2 * bound * n * np.sqrt((abs(before) ** 2).sum(0))
        ).all(), radices


def test_transforms_refuse_another_number_of_lanes() -> None:
    z = np.zeros((4, 2, core.transform_lanes("f4") + 1), "f4")
    with pytest.raises(ValueError, match="expected z"):
        core.transform(z, (4,), factors_of((4,), "f4"))


def test_isas_agree_on_integers(solver: Solver) -> None:
    for dtype in ("i8", "u16", "i32", "u64"):
        problem = Problem.parse(f"conv2d {dtype} n1 c3 h9 w33 k7 r3 s3 p1")
        if solver.why_not(problem) is not None:
            continue
        x, w, _ = arrays(problem)
        results = [
            solve(solver, problem, forced(solver, problem, isa)[0], x, w).tobytes()
            for isa in core.isas()
        ]
        assert len(set(results)) == 1


def test_baseline_is_always_there() -> None:
    assert core.compiled_isas()[-1] == core.isas()[-1] == "baseline"
    assert core.isa() in core.isas()
    with pytest.raises(ValueError, match="expected an instruction set out of"):
        core.Call("naive", "mmx", Problem.parse("conv1d f32 n1 c1 w3 k1 s1"))


def test_environment_caps_the_isa() -> None:
    """FASTCONV_ISA is read at import; a name that does not run here is an ImportError."""
    program = "from fastconv._ext import core; print(core.isa())"

    def child(value: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False,
            env={**os.environ, "FASTCONV_ISA": value},
        )  # fmt: skip

    assert child("baseline").stdout.strip() == "baseline"
    refused = child("mmx")
    assert refused.returncode != 0
    assert "ImportError: expected FASTCONV_ISA out of" in refused.stderr
    assert all(isa in refused.stderr for isa in core.isas())


#: x, w, y and nothing else between pages that may not be touched.
_FENCES = """
import ctypes, mmap, sys
from fastconv.solvers import _driver
_driver.FLOPS_A_THREAD = 1
import numpy as np
from problems import arrays, numpy_dtype
from test_kernels import DRIVERS, forced
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem

libc = ctypes.CDLL(None, use_errno=True)
kept = []

def fenced(a, at_end):
    page = mmap.PAGESIZE
    body = -(-max(1, a.nbytes) // page) * page
    area = mmap.mmap(-1, body + 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for guard in (base, base + page + body):
        assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    kept.append(area)
    start = page + (body - a.nbytes if at_end else 0)
    copy = np.frombuffer(area, a.dtype, a.size, start).reshape(a.shape)
    copy[...] = a
    return copy

for text in sys.stdin.read().splitlines():
    problem = Problem.parse(text)
    for solver in DRIVERS:
        if solver.why_not(problem) is not None:
            continue
        for at_end in (False, True):
            x, w, bias = (fenced(a, at_end) for a in arrays(problem))
            y = fenced(np.zeros(problem.y_shape, numpy_dtype(problem.y_dtype)), at_end)
            for isa in core.isas():
                for config in forced(solver, problem, isa):
                    print(text, solver.name, config, at_end, flush=True)
                    plan = solver.plan(problem, config, this_machine())
                    plan(x, plan.pack_stored(w), bias, y)
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pages are fenced with mprotect")
def test_touches_nothing_beyond_its_arrays() -> None:
    """A process whose arrays end (and begin) where memory does, so that a stray read is a fault."""
    texts = [
        "conv1d f32 n1 c1 w37 k3 s3", "conv1d f64 n1 c2 w37 k5 s4 p3 reflect",
        "conv2d f32 n1 c3 h9 w13 k5 r3 s3 p1", "conv2d f64 n1 c2 h9 w13 k4 r3 s3",
        "conv2d f32 n2 c4 h9 w10 k6 r3 s3 g2 p1 u2", "conv2d c64 n1 c2 h6 w7 k3 r3 s3 p1",
        "conv2d c128 n1 c2 h6 w7 k3 r2 s3", "conv2d u8 n1 c2 h7 w30 k5 r3 s3 p2 mirror",
        "conv2d i32 n1 c2 h7 w30 k5 r3 s3 l2", "conv2d f32 n1 c9 h5 w7 k9 r1 s1",
        "conv3d f32 n1 c2 d3 h4 w5 k3 t2 r3 s2 p1", "conv2d f32 n1 c5 h6 w5 k4 r3 s3 p2 e2 flip",
        "conv2d f32 n1 c2 h7 w13 k2 r3 s3 g2 p1", "conv2d f32 n1 c2 h7 w300 k2 r3 s3 g2",
        "conv2d f64 n2 c1 h6 w3 k1 r3 s2", "conv1d f64 n1 c1 w700 k1 s37",
        "conv1d f32 n1 c1 w31 k1 s3", "conv2d f32 n1 c1 h5 w200 k1 r2 s5 x:u8",
        "conv2d i64 n1 c1 h9 w150 k1 r3 s3 p1 wrap",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_FENCES)], input="\n".join(texts), text=True,
        capture_output=True, check=False, cwd=pathlib.Path(__file__).parent,
    )  # fmt: skip
    assert done.stdout.endswith("done\n"), (
        f"exit code {done.returncode} at {done.stdout.splitlines()[-1:]}: {done.stderr}"
    )
