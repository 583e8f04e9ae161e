"""Measure errors against the published bounds: the table and the picture of accuracy.md.

``python docs/accuracy.py`` prints the table and draws ``pictures/accuracy.png``, which takes
matplotlib. The truth is summed from windows in float64 by NumPy, with nothing of fastconv.
``python docs/accuracy.py --sizes`` draws ``pictures/accuracy_sizes.png`` alone: errors in float32
against the taps of a signal's kernel, beside transforms of scipy.signal in float64.
``python docs/accuracy.py --times`` draws ``pictures/accuracy_times.png`` alone: error and time of
every method on one layer, on this machine, in one thread.
"""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.signal

from fastconv._machine import this_machine
from fastconv._planner import candidates
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv._timer import compare
from fastconv.solvers import BY_NAME
from fastconv.solvers._blocks import named
from fastconv.solvers._tiles import outputs, taps_of
from fastconv.solvers.amx_split import AmxSplit

Array = npt.NDArray[Any]
Make = Callable[[np.random.Generator, tuple[int, ...]], Array]

SEEDS = 3
EPS = float(np.finfo(np.float32).eps)

#: Problems that are measured, in float32 and complex64, where the truth is a float64 sum.
SUMS = (
    "conv2d f32 n1 c16 h32 w32 k8 r3 s3 p1",
    "conv2d f32 n1 c64 h24 w24 k8 r3 s3 p1",
    "conv2d f32 n1 c2048 h8 w8 k8 r1 s1",
    "conv1d f32 n1 c1 w4096 k2 s1000",
    "conv1d c64 n1 c8 w500 k4 s9",
)
TILES = (
    *(f"conv2d f32 n1 c{c} h48 w48 k8 r3 s3 p1" for c in (1, 4, 16, 64)),
    *(f"conv2d f32 n1 c{c} h12 w12 k8 r3 s3 p1" for c in (256, 1024)),
    *(f"conv2d f32 n1 c{c} h48 w48 k8 r5 s5 p2" for c in (1, 64)),
    "conv2d f32 n1 c1 h48 w48 k8 r2 s2",
    *(f"conv2d f32 n1 c{c} h48 w48 k8 r4 s4 p1" for c in (1, 64)),
    *(f"conv2d f32 n1 c{c} h48 w48 k8 r7 s7 p3 u2" for c in (1, 64)),
    *(f"conv2d f32 n1 c{c} h48 w48 k8 r3 s3 p1 u2" for c in (1, 64)),
    "conv2d f32 n1 c16 h48 w48 k8 r16 s16",
    *(f"conv1d f32 n1 c{c} w2000 k8 s3 p1" for c in (1, 64)),
    *(f"conv1d f32 n1 c{c} w2000 k8 s5 p2" for c in (1, 64)),
)
TRANSFORMS = (
    "conv1d f32 n1 c1 w30000 k2 s33",
    "conv1d f32 n1 c1 w30000 k2 s1000",
    "conv1d c64 n1 c1 w10000 k1 s257",
    "conv2d f32 n1 c1 h160 w160 k2 r21 s21",
    "conv2d f32 n1 c16 h48 w48 k8 r7 s7",
    "conv2d f32 n1 c1024 h12 w12 k8 r3 s3 p1",
)
PARTS = (
    "conv2d f32 n1 c64 h12 w12 k16 r3 s3 p1",
    "conv2d f32 n1 c320 h6 w6 k16 r3 s3 p1",
    "conv2d f32 n1 c2048 h8 w8 k16 r1 s1",
)
ROWS = {
    "naive": SUMS[:1], "direct": SUMS, "im2col": SUMS, "winograd": TILES, "fft": TRANSFORMS,
    "overlap_save": TRANSFORMS[:4], "amx_split": PARTS,
}  # fmt: skip


class Emulated(AmxSplit):
    """On tiles in memory, which any machine has."""

    emulated = True


METHODS = {**BY_NAME, "amx_split": Emulated()}


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.random(shape)


def two_valued(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.choice([-1, 1], shape) * rng.choice([1 / 3, 0.99], shape)


def near_sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.choice([-1, 1], shape) * rng.random(shape) ** 8


def one_tap(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One tap far above the others: the worst for Winograd."""
    a = 1e-9 * rng.standard_normal(shape)
    flat = a.reshape(shape[0], -1)
    flat[np.arange(shape[0]), rng.integers(flat.shape[1], size=shape[0])] = (
        rng.random(shape[0]) + 0.5
    )
    return a


def one_value(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """The worst for a sum: all of its roundings may go the same way."""
    return np.full(shape, 1 / 3)


def fading(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Loud at one end of the last axis, 10^8 times quieter at the other."""
    return rng.standard_normal(shape) * np.logspace(0, -8, shape[-1])


KINDS: dict[str, tuple[Make, Make]] = {
    "normal": (normal, normal),
    "positive": (positive, positive),
    "two-valued": (two_valued, two_valued),
    "near-sparse": (normal, near_sparse),
    "one tap": (two_valued, one_tap),
    "fading": (fading, normal),
    "one value": (one_value, one_value),
}


def arrays(problem: Problem, kind: str, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    dtype = numpy_dtype(problem.dtype)
    made = []
    for make, shape in zip(KINDS[kind], (problem.x_shape, problem.w_shape)):
        a = make(rng, shape)
        made.append((a + 1j * make(rng, shape) if problem.is_complex else a).astype(dtype))
    return made[0], made[1]


def padded(problem: Problem, x: Array) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *problem.padding))


def correlation(problem: Problem, x: Array, w: Array) -> Array:
    """Sum over channels and taps of windows times w, in the dtype of x and w."""
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded(problem, x), problem.kernel, axes)
    windows = windows[(slice(None), slice(None), *(slice(None, None, u) for u in problem.stride))]
    n = problem.ndim
    summed = (1, *range(2 + n, 2 + 2 * n)), (1, *range(2, 2 + n))
    return np.moveaxis(np.tensordot(windows, w, summed), -1, 1)


def tile_peak(problem: Problem, x: Array, m: int) -> Array:
    """Largest abs(x) that the winograd tile of each output reads, (1, 1, *out)."""
    highest = abs(padded(problem, x)).max((0, 1))
    axes = zip(problem.out, problem.kernel, problem.stride, taps_of(problem), outputs(problem, m))
    for axis, (out, k, u, r, step) in enumerate(axes):
        lines = np.moveaxis(highest, axis, -1)
        tiles = -(-out // step)
        span = k if step == 1 else (step - 1 + -(-k // (r * u)) * r) * u
        missing = max(0, (tiles - 1) * step * u + span - lines.shape[-1])
        lines = np.pad(lines, [(0, 0)] * (lines.ndim - 1) + [(0, missing)])
        windows = np.lib.stride_tricks.sliding_window_view(lines, span, -1)
        each = windows[..., :: step * u, :][..., :tiles, :].max(-1).repeat(step, -1)[..., :out]
        highest = np.moveaxis(each, -1, axis)
    return highest[None, None]


def magnitude(problem: Problem, name: str, config: Config, x: Array, w: Array) -> Array:
    """S or B of each output: what the solver's bound is relative to."""
    if name in ("naive", "direct", "im2col", "amx_split"):
        return correlation(problem, abs(x), abs(w))
    total = abs(w).sum(tuple(range(1, w.ndim))).reshape(1, -1, *(1,) * problem.ndim)
    if name == "winograd":
        return tile_peak(problem, x, int(config["m"])) * total
    if name == "overlap_save" and problem.ndim == 1:  # pairs of blocks, each longer than it keeps
        blocks = named(problem, config)
        n, kept = blocks.layout[0].n, blocks.layout[0].kept
        block = np.arange(problem.out[0]) // kept
        loud = np.array([abs(x)[..., b * kept : b * kept + n].max() for b in range(block[-1] + 1)])
        pair = np.arange(len(loud)) // blocks.together
        loud = np.array([loud[pair == i].max() for i in pair])
        return loud[block] * total
    return abs(x).max() * total


def largest(problem: Problem, name: str, config: Config, kind: str) -> tuple[float, float]:
    """The largest abs(error), in eps of what the bound is relative to, and against S."""
    in_eps = of_s = 0.0
    for seed in range(SEEDS):
        x, w = arrays(problem, kind, seed)
        plan = METHODS[name].plan(problem, config, this_machine())
        y = np.empty(problem.y_shape, x.dtype)
        plan(x, plan.pack_stored(w), None, y)
        wide = np.complex128 if problem.is_complex else np.float64
        x, w = x.astype(wide), w.astype(wide)
        error = y - correlation(problem, x, w)
        part = np.maximum(abs(error.real), abs(error.imag))
        in_eps = max(in_eps, (part / magnitude(problem, name, config, x, w)).max() / EPS)
        of_s = max(of_s, (part / correlation(problem, abs(x), abs(w))).max())
    return in_eps, of_s


def label(name: str, config: Config) -> str:
    if name == "amx_split":
        return f"amx_split {config['products']} products"
    return f"winograd m={config['m']}" if name == "winograd" else name


def measure() -> list[tuple[str, str, float, dict[str, float], float]]:
    """(method, problem, bound in eps, largest error in eps by kind of data, largest error / S)."""
    found: dict[tuple[str, str], tuple[float, dict[str, float], float]] = {}
    for name, texts in ROWS.items():
        for text in texts:
            problem = Problem.parse(text)
            for config in METHODS[name].configs(problem, this_machine()):
                key = label(name, config), text
                bound, by_kind, worst = found.get(key, (0.0, dict.fromkeys(KINDS, 0.0), 0.0))
                bound = max(bound, METHODS[name].error_bound(problem, config) / EPS)
                for kind in KINDS:
                    in_eps, of_s = largest(problem, name, config, kind)
                    by_kind[kind] = max(by_kind[kind], in_eps)
                    worst = max(worst, of_s)
                found[key] = bound, by_kind, worst
    order = list(dict.fromkeys(method for method, _ in found))
    return [(*key, *found[key]) for key in sorted(found, key=lambda key: order.index(key[0]))]


def draw(rows: list[tuple[str, str, float, dict[str, float], float]], to: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.27 * len(rows) + 1.4), layout="constrained")
    places = np.arange(len(rows))[::-1]
    axes.scatter([r[2] for r in rows], places, marker="|", s=160, color="black", label="bound")
    for (kind, colour), shift in zip(
        zip(KINDS, ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#777777")),
        np.linspace(0.25, -0.25, len(KINDS)),
    ):
        axes.scatter([r[3][kind] for r in rows], places + shift, s=14, color=colour, label=kind)
    axes.set_yticks(places, [f"{r[0]}   {r[1].partition(' n1 ')[2]}" for r in rows], fontsize=7.5)
    axes.set_xscale("log")
    axes.set_xlabel(
        "largest abs(error), in eps S (naive, direct, im2col, amx_split) or eps B (the others)"
    )
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=7, fontsize=8, frameon=False)
    figure.savefig(to, dpi=110)


#: Taps, from 16 to 2**18; signals are three times as long.
SIZES = tuple(4**i for i in range(2, 10))

#: Lines of the picture of sizes: solver, whether halves of blocks are transformed, most taps.
LINES = (
    ("direct", None, 4**7), ("fft", None, SIZES[-1]),
    ("overlap_save", 0, SIZES[-1]), ("overlap_save", 1, SIZES[-1]),
)  # fmt: skip


def by_size(name: str, halves: int | None, taps: int) -> tuple[float, float] | None:
    """The bound, and the largest abs(error) over kinds of data, in eps B; None: not offered."""
    problem = Problem.parse(f"conv1d f32 n1 c1 w{3 * taps} k1 s{taps}")
    offered = METHODS[name].configs(problem, this_machine())
    chosen = [c for c in offered if halves is None or c.get("halves", 0) == halves]
    if not chosen:
        return None
    plan = METHODS[name].plan(problem, chosen[0], this_machine())
    worst = 0.0
    for kind in "normal", "positive", "two-valued", "one tap", "one value":
        x, w = arrays(problem, kind, 0)
        y = np.empty(problem.y_shape, x.dtype)
        plan(x, plan.pack_stored(w), None, y)
        x, w = x[0, 0].astype(np.float64), w[0, 0].astype(np.float64)
        right = scipy.signal.fftconvolve(x, w[::-1], "valid")
        worst = max(worst, abs(y[0, 0] - right).max() / abs(x).max() / abs(w).sum() / EPS)
    return METHODS[name].error_bound(problem, chosen[0]) / EPS, worst


def draw_sizes(to: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, halves, most), colour in zip(LINES, ("#777777", "#e69f00", "#0072b2", "#009e73")):
        label = name if halves is None else f"{name}, {'halves' if halves else 'pairs'}"
        found = {n: by_size(name, halves, n) for n in SIZES if n <= most}
        measured = {n: pair for n, pair in found.items() if pair is not None}
        for n, (bound, error) in measured.items():
            print(
                f"{label:22} {n:7} taps: bound {bound:6.2f}, error {error:5.2f} eps B", flush=True
            )
        axes.plot([*measured], [e for _, e in measured.values()], "o-", color=colour, label=label)
        axes.plot([*measured], [b for b, _ in measured.values()], "--", color=colour, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("taps; signals are three times as long, float32")
    axes.set_ylabel("largest abs(error) in eps B; bounds dashed")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(to, dpi=110)


#: The layer whose errors are drawn against times.
LAYER = "conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1 fast prepared"


def draw_times(to: pathlib.Path) -> None:
    """Prints a row for each method and draws a point, on axes of time and of error / S."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    problem = Problem.parse(LAYER)
    x, w = arrays(problem, "normal", 0)
    right, sizes = correlation(problem, x, w), correlation(problem, abs(x), abs(w))
    found: dict[str, tuple[float, Callable[[], None]]] = {}
    for c in candidates(problem):
        name = label(c.method, c.config)
        if c.refused is None and c.method != "naive" and name not in found:
            y = np.empty(problem.y_shape, x.dtype)
            plan = BY_NAME[c.method].plan(problem, c.config, this_machine())
            packed = plan.pack_stored(w)
            plan(x, packed, None, y)
            error = (abs(y - right) / sizes).max()
            found[name] = error, functools.partial(plan, x, packed, None, y)
    timings = compare([run for _, run in found.values()], rounds=200, budget=60)
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, (error, _)), timing in zip(found.items(), timings):
        quick = timing.lowest * 1e3
        print(f"| {name} | {quick:.2f} | {error:.1e} |")
        tiles = name.startswith("amx")
        axes.plot(quick, error, "o", color="#0072b2" if tiles else "#777777")
        axes.annotate(
            name, (quick, error), (-5 if tiles else 5, 3), textcoords="offset points",
            ha="right" if tiles else "left", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("ms, one thread; 64 channels @ 56x56, 3x3")
    axes.set_ylabel("largest abs(error) / S")
    axes.grid(alpha=0.3, which="both")
    axes.margins(x=0.3)
    figure.savefig(to, dpi=110)


def main() -> None:
    pictures = pathlib.Path(__file__).parent / "pictures"
    if sys.argv[1:] == ["--times"]:
        draw_times(pictures / "accuracy_times.png")
        return
    draw_sizes(pictures / "accuracy_sizes.png")
    if sys.argv[1:] == ["--sizes"]:
        return
    rows = measure()
    print("| method | problem | bound | largest error | share | error / S |")
    print("|---|---|---|---|---|---|")
    for method, text, bound, by_kind, worst in rows:
        most = max(by_kind.values())
        figures = f"{bound:.4g} | {most:.2g} | {most / bound:.2f} | {worst:.1g}"
        print(f"| {method} | `{text}` | {figures} |")
    draw(rows, pictures / "accuracy.png")


if __name__ == "__main__":
    main()
