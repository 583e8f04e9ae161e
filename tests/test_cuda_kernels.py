"""Every kernel of the GPU, run in the emulator on small odd problems, against the oracle."""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from typing import Any

import numpy as np
import pytest
from cuda_emulator import Fault
from fake_cufft import Library
from fake_gpu import execute
from problems import PROBLEMS, arrays, check, mixed_magnitude, oracle, solved, values

from fastconv._epilogue import activation_of
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Solver
from fastconv.cuda import cufft, launch
from fastconv.solvers import BY_NAME, SOLVERS
from fastconv.solvers.cuda_direct import CudaDirect

CUDA = [solver for solver in SOLVERS if solver.device == "cuda"]

#: Floating-point operations of a problem that the emulator, at some 2e6 a second, has time for.
MOST_FLOPS = 60_000

#: Problems for the edges of these kernels alone; the rest are those of every solver.
OWN = (
    "conv2d f32 n2 c3 h9 w13 k6 r3 s3 g3 p1 u2",
    "conv2d f32 n1 c2 h20 w5 k2 r13 s3 g2 p6,1",  # rows of a kernel in chunks, and a rest
    "conv2d f64 n1 c1 h19 w7 k1 r16 s4 p3,0 l1,2 wrap",  # whole chunks alone
    "conv2d f32 n1 c1 h12 w11 k2 r9 s2 p9:4,1 u2,1 l2,1",
    "conv1d f32 n2 c3 w37 k3 s31 g3 p30:0",
    "conv2d f32 n1 c6 h5 w6 k9 r3 s3 g3 p1 x:f16 w:f16 y:f16",
    "conv2d f32 n1 c2 h7 w6 k2 r5 s5 g2 p2 u2 x:bf16 w:bf16 y:bf16",
    "conv1d f32 n1 c4 w40 k4 s7 g4 p3 reflect x:f16 w:f16 y:f16",
    # volumes: planes in groups, phases of them, taps in chunks
    "conv3d f64 n1 c4 d5 h6 w7 k4 t3 r3 s2 g2 p2,1,0:1 u2,1,1 l1,2,1 reflect",
    "conv3d f64 n2 c2 d3 h10 w4 k2 t2 r9 s1 g2 p1 N*C",
    # integers: modulo what is stored, of mixed signs and widths, beyond the ends too
    "conv2d u8 n2 c3 h9 w8 k4 r3 s3 p1",
    "conv2d i16 n1 c2 h7 w6 k2 r2 s3 g2 p2 u2 constant=-7 x:u8 w:i8",
    "conv1d i64 n1 c2 w30 k3 s9 p20 mirror x:i32",
    "conv1d u64 n1 c1 w9 k2 s3 p1",
    "conv3d i32 n1 c2 d3 h4 w5 k2 t2 r3 s2 p1 reflect x:i8 y:i16",
    "conv2d f32 n1 c2 h6 w7 k3 r3 s2 p1 wrap x:u16",
    "conv2d f64 n1 c2 h6 w7 k3 r3 s2 p1 x:f16 w:f32 y:f32",
    # complex numbers by real ones, either way
    "conv2d c64 n2 c2 h7 w6 k4 r3 s3 g2 p1 w:f32",
    "conv1d c128 n1 c3 w20 k2 s9 p4 constant=1-2j w:f64 flip",
    "conv2d c64 n1 c2 h13 w5 k2 r9 s2 p1 reflect x:f32",
    "conv3d c64 n1 c1 d3 h4 w5 k2 t2 r3 s2 p1 x:f32",
    # volumes by tiles: each way that a tap moves, groups, filters that are read backwards
    "conv3d f32 n2 c9 d4 h5 w3 k5 t2 r3 s2 p1,0,1:0 u2,1,1 l1,1,2",
    "conv3d f32 n1 c18 d3 h3 w4 k20 t3 r2 s2 g2 p1 flip N*C fast",
    "conv3d f32 n1 c15 d3 h4 w3 k4 t2 r2 s2 p1,0,0",
    "conv3d f32 n1 c5 d3 h4 w3 k3 t2 r1 s2 p0,1,0 x:f16 w:f16 y:f16",
    # few channels: steps through rows of a kernel, that end within one, beyond both ends of x
    "conv2d f32 n2 c3 h9 w13 k10 r3 s7 p1,3 u2",
    "conv2d f32 n1 c3 h7 w12 k5 r2 s5 p1,4:2 l1,2 x:f16 w:f16 y:f16",
    "conv2d f64 n1 c4 h5 w9 k6 r3 s5 g2 p2 N*C flip",
    "conv3d f32 n1 c3 d4 h3 w8 k4 t2 r2 s5 p1 u1,2,1 fast",
    # signals: two tiles, taps in whole blocks and not, every boundary, more taps than samples
    "conv1d f32 n2 c4 w1100 k4 s31 g4 p15",
    "conv1d f64 n1 c3 w1030 k2 s16 p9:3 constant=-2",
    "conv1d f32 n1 c1 w7 k1 s69 p40:38 reflect",
    "conv1d f64 n2 c1 w9 k1 s12 p20:8 mirror",
    "conv1d f32 n1 c2 w33 k2 s8 g2 p9:4 nearest x:f16 w:f16 y:f16",
    "conv1d f32 n1 c2 w40 k2 s3 g2 p50:1 wrap x:bf16",
    "conv1d f32 n3 c1 w29 k1 s260 p259:255 flip",
    "conv1d c64 n2 c1 w1100 k1 s31 p15 reflect w:f32 flip",
    "conv1d c128 n1 c1 w40 k1 s7 p3 w:f64",
    # tiles: more pixels and filters than one has, images that end within one, steps of channels
    "conv2d f32 n3 c15 h7 w9 k35 r3 s2 p1,0",
    "conv1d f32 n1 c3 w150 k66 s3 p1:0 l2",
    "conv2d f64 n2 c9 h6 w7 k5 r2 s3 p1 u1,2 N*C",
    "conv2d f32 n1 c70 h4 w3 k3 r3 s3 p1",  # 630 products: a fold, and a rest
    "conv2d f64 n1 c67 h3 w3 k2 r3 s3 p1",
    "conv2d f32 n2 c12 h5 w6 k10 r3 s3 g2 p2:0,0:1 u2,1 l1,2 strided",
    # a lane of tensor cores has filters 8 apart, a step 16 channels
    "conv2d f32 n1 c33 h5 w4 k25 r2 s2 u1,2 fast",
    # a word has two channels, a step 32
    "conv2d f32 n1 c33 h5 w4 k25 r2 s2 p1,0 u1,2 x:f16 w:f16 y:f16",
    "conv2d f32 n3 c11 h5 w7 k70 r1 s2 l1,2 N*C x:bf16 w:bf16 y:bf16",
)

#: In their place for Winograd: both sizes of tiles, two blocks of them, channels of two blocks,
#: images that end in a tile.
WINOGRADS = (
    "conv2d f32 n2 c35 h5 w6 k3 r3 s3 p1 fast",
    "conv2d f32 n3 c4 h11 w9 k4 r3 s3 g2 p2:0,0:1 N*C fast",
    "conv2d f64 n1 c3 h9 w5 k5 r3 s3 p0:2,1 flip fast",
)

#: And for transforms: blocks in each axis, the last one not full, taps apart, every way to extend.
FOURIERS = (
    "conv1d f32 n1 c1 w200 k1 s9 p4",
    "conv1d f32 n2 c4 w150 k6 s12 g2 p11:3 u2 l2",
    "conv1d f64 n1 c1 w70 k2 s65 p40:33 wrap flip",  # taps in two chunks
    "conv1d f32 n1 c1 w900 k1 s100 p50 nearest x:f16 w:f16 y:f16",
    "conv1d f32 n1 c5 w600 k2 s7 p3 constant=2",  # samples of a row in two chunks
    "conv2d f32 n2 c3 h19 w23 k4 r5 s4 p2,1 reflect",
    "conv2d f64 n1 c2 h40 w9 k3 r7 s1 p3,0 flip",
    "conv2d f32 n1 c2 h9 w40 k2 r1 s7 g2 p0,3 N*C mirror",
    "conv2d f32 n1 c2 h21 w18 k2 r3 s4 p2 u2,1 l1,2 fast",
    # volumes: blocks along each axis, taps apart, planes that lie outside
    "conv3d f32 n2 c3 d11 h9 w12 k4 t3 r2 s4 p2,1,1:2",
    "conv3d f32 n1 c2 d12 h5 w14 k4 t4 r1 s3 g2 p3,0,1 u2,1,1 l1,1,2 reflect",
    "conv3d f64 n1 c1 d9 h11 w10 k2 t2 r5 s3 p1 N*C flip",
    "conv3d c64 n1 c1 d7 h8 w9 k1 t3 r3 s2 p1",
    # complex numbers: two channels by two filters of real ones
    "conv1d c64 n2 c1 w90 k1 s9 p4 u2 l2 flip",
    "conv2d c128 n1 c1 h19 w23 k1 r5 s4 p2,1 reflect",
    "conv2d c64 n1 c1 h12 w13 k1 r4 s3 p2 mirror w:f32",
    "conv3d c64 n1 c1 d7 h5 w9 k1 t2 r2 s3 p1 x:f32",
)

#: Of the problems of every solver, one in so many is run by each of these: their blocks are large,
#: and what is particular to them is in OWN.
EVERY = {"cuda_gemm": 16, "cuda_mma": 32, "cuda_winograd": 4, "cuda_fft": 8}

#: Steps of tiles that a problem of every solver may have there: groups by taps.
MOST_STEPS = 64


def own(solver: Solver) -> tuple[str, ...]:
    """Problems for the edges of a solver's blocks."""
    return {"cuda_winograd": WINOGRADS, "cuda_fft": FOURIERS}.get(solver.name, OWN)


def on_gpu(text: str) -> Problem:
    return Problem.parse(text).replace(device="cuda", threads=1)


def mixed(solver: Solver, problem: Problem, x: Any, w: Any) -> Any:
    """B of the solver's bound, where it is not against S."""
    return mixed_magnitude(problem, x, w) if solver.mixes_windows else None


def of_its_kind(solver: Solver, text: str) -> str:
    """A problem in two dimensions, or its rows for a solver of one."""
    if solver.name != "cuda_fir":
        return text
    words = [word for word in text.split() if word[0] not in "hr"]
    return " ".join(words).replace("conv2d", "conv1d")


@functools.cache
def cases() -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cufft, "library", Library)
        return _cases()


def _cases() -> list[Any]:
    found = []
    for solver in CUDA:
        for text in dict.fromkeys((*own(solver), *PROBLEMS)):
            problem = on_gpu(text)
            turn = zlib.crc32(text.encode()) % EVERY.get(solver.name, 1)
            steps = problem.groups * math.prod(problem.kernel)
            long = solver.name in EVERY and steps > MOST_STEPS
            if text not in own(solver) and (turn or long or problem.flops > MOST_FLOPS):
                continue
            if long and own(solver) is OWN:  # tiles, for which the signals there are none
                continue
            if solver.why_not(problem) is None:
                found.append(pytest.param(solver, text, id=f"{solver.name}-{text}"))
    return found


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("solver, text", cases())
def test_published_bound(solver: Solver, text: str) -> None:
    problem = on_gpu(text)
    x, w, _ = arrays(Problem.parse(text))
    configs = solver.configs(problem, launch.gpu())  # type: ignore[arg-type]
    configs = [config for config in configs if "split" not in config]  # which has tests of its own
    turn = zlib.crc32(text.encode()) // 7
    if text not in own(solver) or math.prod(problem.kernel) > 25:
        configs = configs[turn % len(configs) :][:1]
    elif solver.name == "cuda_winograd":  # one kind of products, which have tests of their own
        configs = configs[turn % 4 :: 4] or configs
    for config in configs:
        y = execute(solver, problem, config, x, w)
        bound = solver.error_bound(problem, config)
        label = f"{solver.name} {config}"
        check(problem, y, solved(text), bound, mixed(solver, problem, x, w), label)


@pytest.mark.parametrize("solver", CUDA, ids=lambda s: s.name)
def test_accepts_enough(solver: Solver) -> None:
    assert sum(solver is case.values[0] for case in cases()) >= 10


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("solver", CUDA, ids=lambda s: s.name)
@pytest.mark.parametrize("activation", [None, "relu", "relu6", ("clamp", -1, 0.5), "silu", "gelu"])
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16"])
def test_bias_residual_and_activation(solver: Solver, activation: Any, dtype: str) -> None:
    """In the kernel, one rounding each; silu and gelu add 6 units in the last place at most."""
    kept = "" if dtype != "f16" else " x:f16 w:f16 y:f16"
    wide = "f64" if dtype == "f64" else "f32"
    text = of_its_kind(solver, f"conv2d {wide} n2 c4 h5 w6 k4 r3 s3 g2 p1{kept}")
    problem = on_gpu(text)
    if (reason := solver.why_not(problem)) is not None:
        pytest.skip(reason)
    x, w, bias = arrays(Problem.parse(text))
    rng = np.random.default_rng(3)
    bias = bias.astype(x.dtype)
    residual = values(rng, problem.y_dtype, problem.y_shape)
    sums, s = oracle(problem, x, w, bias)
    if solver.mixes_windows:
        s = mixed_magnitude(problem, x, w)
    z = sums + residual
    if activation in ("silu", "gelu"):
        flat = [float(v) for v in z.ravel()]
        if activation == "silu":
            right = [v / (1 + math.exp(-v)) for v in flat]
        else:
            right = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in flat]
        expected = np.array(right).reshape(z.shape)
    else:
        low, high = {None: (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}.get(
            activation, (-1, 0.5)
        )
        expected = np.clip(z, low, high)
    config = solver.configs(problem, launch.gpu())[-1]  # type: ignore[arg-type]
    y = execute(solver, problem, config, x, w, bias, residual, activation_of(activation, x.dtype))
    eps = float(np.finfo(numpy_dtype(problem.dtype)).eps)
    kept_eps = float(np.finfo(numpy_dtype(problem.y_dtype)).eps)
    # no activation is steeper than 1.13, gelu's largest slope
    bound = 1.13 * (solver.error_bound(problem, config) + eps) * (s + abs(residual)) + eps
    bound += (6 * eps + kept_eps) * abs(expected)
    assert (abs(y.astype(z.dtype) - expected) <= bound).all()


#: Sums that blocks share: they begin within a tap, a row and a plane, and the last has less.
SPLITS = (
    ("conv3d f32 n1 c32 d3 h4 w4 k5 t2 r2 s2 p1,0,1 l1,2,1", {"tile": "32x128x16"}, 6),
    ("conv2d f32 n2 c20 h6 w7 k10 r3 s3 g2 p1 u2", {"tile": "64x64x8"}, 6),
    ("conv2d f32 n2 c3 h9 w9 k5 r4 s7 p1,3 N*C", {"tile": "32x128x16"}, 3),
    ("conv3d f64 n1 c3 d4 h5 w6 k4 t2 r3 s4 p1", {"tile": "64x64x8"}, 4),
    ("conv1d f32 n1 c210 w9 k5 s5 p3", {"tile": "64x64x8"}, 2),  # each of them folds
    ("conv2d f32 n2 c33 h6 w5 k9 r2 s2 p1", {"products": "3xtf32", "tile": "64x64x16"}, 6),
    ("conv2d f32 n1 c3 h7 w9 k5 r5 s7 p1,3 fast", {"products": "tf32", "tile": "64x64x16"}, 4),
    (
        "conv2d f32 n2 c64 h4 w3 k6 r2 s2 p1 x:f16 w:f16 y:f16",
        {"products": "f16", "tile": "64x64x32"}, 3,
    ),
    (
        "conv3d f32 n1 c9 d3 h4 w5 k4 t2 r2 s5 p1 x:bf16 w:bf16 y:bf16",
        {"products": "bf16", "tile": "64x64x32"}, 3,
    ),
    # direct sums: planes of taps in equal parts, of images and of signals too
    ("conv3d f32 n2 c2 d7 h5 w6 k4 t6 r4 s5 g2 p1,1,2 u2,1,1 l1,1,2", {"rows": 2}, 3),
    ("conv3d f32 n1 c3 d4 h5 w4 k3 t4 r2 s3 g3 p0,1,0 flip x:f16 w:f16 y:f16", {"rows": 1}, 4),
    ("conv2d f64 n2 c3 h9 w20 k3 r8 s18 g3 p0,2 u1,2 reflect", {"rows": 1}, 4),
)  # fmt: skip


def split_sums(text: str, own: dict[str, Any], split: int, *rest: Any) -> tuple[Any, Any, Any]:
    """y, its solver and its config, where so many blocks share each sum."""
    tiles = "cuda_mma" if "products" in own else "cuda_gemm"
    solver = BY_NAME["cuda_direct" if "rows" in own else tiles]
    config = {**own, "split": split}
    x, w, _ = arrays(Problem.parse(text))
    return execute(solver, on_gpu(text), config, x, w, *rest), solver, config


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("text, own, split", SPLITS)
def test_sums_that_blocks_share(text: str, own: dict[str, Any], split: int) -> None:
    """Each within the bound, alone and with what follows a sum."""
    problem = on_gpu(text)
    x, w, bias = arrays(Problem.parse(text))
    y, solver, config = split_sums(text, own, split)
    assert isinstance(solver, CudaDirect) or solver.share(problem, config)[0] == split
    bound = solver.error_bound(problem, config)
    check(problem, y, oracle(problem, x, w), bound, label=str(config))
    rng = np.random.default_rng(3)
    bias, residual = bias.astype(x.dtype), values(rng, problem.y_dtype, problem.y_shape)
    y, *_ = split_sums(text, own, split, bias, residual, activation_of("relu", x.dtype))
    sums, s = oracle(problem, x, w, bias)
    expected = np.maximum(sums + residual, 0)
    eps = float(np.finfo(numpy_dtype(problem.dtype)).eps)
    kept = {"f16": 2.0**-11, "bf16": 2.0**-8}.get(problem.y_dtype, eps)
    allowed = (bound + 2 * eps) * (s + abs(residual)) + kept * abs(expected)
    assert (abs(y.astype(expected.dtype) - expected) <= allowed).all()


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("gemm", "first = cut * each", "first = cut * each + 1"),
        ("gemm", "count = each", "count = each + 1"),
        ("gemm", "(first - r * tap_steps) * 16", "0 * first"),
        ("gemm", "r = r - t * taps_r", "r = r + t"),
        ("gemm", "at_x + c * x_c", "at_x + 0 * c * x_c"),
        ("gemm", "at_w = first *", "at_w = 0 * first *"),
        ("gemm", "advance_y(y, cut, y_cut)", "advance_y(y, 0, y_cut)"),
        ("gemm_join", "range(splits)", "range(splits - 1)"),
        ("gemm_join", "o * y_d", "o * y_h"),
        ("direct", "begin = cut * each", "begin = cut"),
        ("direct", "t = begin + step", "t = step"),
        ("direct", "n = n - cut * images", "n = n * 1"),
        ("direct", "advance_y(ys, cut, y_cut)", "advance_y(ys, 0 * cut, y_cut)"),
    ],
)
def test_planted_faults_of_shared_sums(
    name: str, right: str, wrong: str, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, emulated, name, right, wrong)
    case = SPLITS[-3 if name == "direct" else 0]
    problem = on_gpu(case[0])
    x, w, _ = arrays(Problem.parse(case[0]))
    with pytest.raises((Fault, AssertionError), match="are off|not allocated|element|nan"):
        y, solver, config = split_sums(*case)
        check(problem, y, oracle(problem, x, w), solver.error_bound(problem, config))


@pytest.mark.usefixtures("transforming")
@pytest.mark.parametrize("solver", CUDA, ids=lambda s: s.name)
def test_non_finite_samples_stay_in_their_windows(solver: Solver) -> None:
    one = "conv1d f32 n2 c2 w29 k3 s11 p1"  # eight taps and three
    problem = on_gpu(one if solver.name == "cuda_fir" else "conv2d f32 n2 c2 h7 w9 k3 r3 s3 p1")
    if (reason := solver.why_not(problem)) is not None:
        pytest.skip(reason)
    x, w, _ = arrays(problem)
    x = x.copy()
    x[0, 1, ..., 3], x[1, 0, ..., 8], x[1, 1, ..., 4] = np.nan, np.inf, -np.inf
    for config in solver.configs(problem, launch.gpu())[-2:]:  # type: ignore[arg-type]
        y = execute(solver, problem, config, x, w)
        bound, b = solver.error_bound(problem, config), mixed(solver, problem, x, w)
        check(problem, y, oracle(problem, x, w), bound, b)


def plant(monkeypatch: pytest.MonkeyPatch, driver: Any, name: str, right: str, wrong: str) -> None:
    """Kernels of that name have `wrong` in the place of `right` from now on."""
    whole = driver.launch

    def planted(handle: Any, *rest: Any) -> None:
        if handle.name == name:
            assert right in handle.text
            handle = dataclasses.replace(handle, text=handle.text.replace(right, wrong))
        whole(handle, *rest)

    monkeypatch.setattr(driver, "launch", planted)


BY_REAL = "conv1d c64 n1 c1 w20 k1 s9 p4 w:f32"
VOLUME = "conv3d f32 n1 c2 d5 h4 w5 k2 t3 r2 s3 p1 u2,1,1"
FIRST = "conv2d f32 n1 c3 h5 w9 k4 r2 s5 p1"


@pytest.mark.parametrize(
    "name, text, right, wrong",
    [
        ("cuda_fir", "conv1d f32 n1 c1 w40 k1 s12 p3", "sync()", "t = t"),
        ("cuda_fir", "conv1d f32 n1 c1 w40 k1 s12 p3", "base = t * 9", "base = t * 8"),
        ("cuda_gemm", VOLUME, "inside(front + t * step_e, depth)", "inside(front, depth)"),
        ("cuda_gemm", VOLUME, "at_y + o * y_d", "at_y + o * y_h"),
        ("cuda_gemm", VOLUME, "t * step_e * x_d", "t * step_e * x_h"),
        ("cuda_gemm", FIRST, "inside(left + along, width)", "inside(left, width)"),
        ("cuda_gemm", FIRST, "(e - s * few) * x_c", "e * x_c"),
        ("cuda_gemm_pack", FIRST, "(c - s * few) * w_c", "c * w_c"),
        ("cuda_direct", BY_REAL, "sum0_i = fma(v0_i, w0, sum0_i)", "sum0_i = sum0_i"),
        ("cuda_direct", VOLUME, "inside(front, depth)", "inside(front + 1, depth)"),
        ("cuda_direct", VOLUME, "o * step_d", "o * step_e"),
        ("cuda_direct", VOLUME, "t * w_t", "t * w_r"),
        ("cuda_direct", VOLUME, "advance_y(ys, o, y_d)", "advance_y(ys, o, y_k)"),
    ],
)
def test_planted_faults_of_signals_and_volumes(
    name: str, text: str, right: str, wrong: str, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, emulated, name.removeprefix("cuda_"), right, wrong)
    problem, solver = on_gpu(text), BY_NAME[name.removesuffix("_pack")]
    x, w, _ = arrays(problem)
    config = solver.configs(problem, launch.gpu())[-1]  # type: ignore[arg-type]
    with pytest.raises((Fault, AssertionError), match="no barrier|are off|not allocated|element"):
        y = execute(solver, problem, config, x, w)
        check(problem, y, oracle(problem, x, w), solver.error_bound(problem, config))


#: What to write wrongly in a kernel, and what is then found: an error of the emulator, or results.
FAULTS = {
    "no barrier": ("sync()", "t = 0", "no barrier between"),
    "copies that are not waited for": ("wait()", "t = 0", "no barrier|got nan"),
    "a barrier before the copies are there": (
        "wait()\n            sync()", "sync()\n            wait()", "no barrier between",
    ),
    "copies one step late": ("step + 1 < steps", "step + 2 < steps", "outputs are off"),
    "another lane's fragment of w": ("lane * 4", "(31 - lane) * 4", "outputs are off"),
    "another lane's samples": ("warp_j + lane // 4", "warp_j + lane % 8", "outputs are off"),
    "another lane's sums": ("warp_j + lane % 4 * 2", "warp_j + lane // 8 * 2", "element|off"),
    "the rows of one warp twice": ("warp // 2 * 32", "warp // 4 * 32", "element|off"),
    "the small products left out": ("sums = joined(sums)", "t = 0", "outputs are off"),
}  # fmt: skip


#: The same, where two channels make a word and samples go through registers.
PAIRED = {
    "samples into the slot that is read": (
        "fill = slot", "fill = (slot + 2) % 3", "barrier|off|nan",
    ),
    "half of another pair": ("at_x + 0 * x_c + x_c", "at_x + 0 * x_c", "outputs are off"),
    "channels that are none's": (
        "row_b * 2 + 5, channels", "row_b * 2 + 4, channels", "not allocated",
    ),
    "the words of another row": (
        "fill * 1152 + (row_b", "fill * 1152 + (0 * row_b", "element|no bar",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*FAULTS, *PAIRED])
def test_planted_faults_are_caught(
    name: str, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the kernel of tensor cores, whose threads depend on each other the most."""
    right, wrong, message = (FAULTS | PAIRED)[name]
    plant(monkeypatch, emulated, "mma", right, wrong)
    solver = BY_NAME["cuda_mma"]
    text = "conv2d f32 n1 c37 h9 w8 k40 r2 s1" + (" x:f16 w:f16 y:f16" if name in PAIRED else "")
    problem = on_gpu(text)
    x, w, _ = arrays(Problem.parse(text))
    config = solver.configs(problem, launch.gpu())[1]  # type: ignore[arg-type]
    with pytest.raises((Fault, AssertionError), match=message):
        y = execute(solver, problem, config, x, w)
        check(problem, y, solved(text), solver.error_bound(problem, config))


WINOGRAD = "conv2d f32 n1 c8 h10 w6 k3 r3 s3 p1 fast"


def winograd_of_quiet_windows(m: int) -> None:
    """Outputs whose windows are all but silent beside one sample of their tile, and some of 0."""
    problem, solver = on_gpu(WINOGRAD), BY_NAME["cuda_winograd"]
    x, w, _ = arrays(Problem.parse(WINOGRAD))
    x = x.copy()
    x[0, 4, 1, 1], x[0, 3, 6, 4], x[0, :, 7:, :3] = 3e14, -2e30, 0
    config = {"m": m, "products": "f32", "tile": "64x64x8"}
    y = execute(solver, problem, config, x, w)
    b = mixed_magnitude(problem, x, w)
    check(problem, y, oracle(problem, x, w), solver.error_bound(problem, config), b)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("m", [2, 4])
def test_quiet_windows_beside_loud_ones(m: int) -> None:
    winograd_of_quiet_windows(m)


@pytest.mark.parametrize(
    "name, right, wrong, message",
    [
        ("winograd_inputs", "sync()", "t = tid", "no barrier between"),
        ("winograd_inputs", "tid + 32", "tid + 64", "outputs are off"),
        ("winograd_inputs", "own in range(4)", "own in range(3)", "outputs are off"),
        ("winograd_filters", "sync()", "t = t", "no barrier between"),
        ("winograd_filters", "k * channels + c", "k * channels + 0 * c", "element|off"),
        ("winograd_outputs", "doubts != 0", "doubts < 0", "outputs are off"),
        ("winograd_outputs", "top + which // 4", "top + which % 4", "outputs are off"),
        ("winograd_outputs", "q + 2, q_count", "q + 1, q_count", "write|off|not allocated"),
    ],
)
def test_planted_faults_of_winograd(
    name: str, right: str, wrong: str, message: str, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, emulated, name, right, wrong)
    with pytest.raises((Fault, AssertionError), match=message):
        winograd_of_quiet_windows(4)
