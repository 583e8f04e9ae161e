"""The pictures that `fastconv demo` draws; each function writes one PNG."""

from __future__ import annotations

import math
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._problem import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastconv._demo import Row

INK, BLUE, ORANGE, GRAY = "#20242a", "#1f6feb", "#d9480f", "#9aa4b0"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # an extra: this module is importable without it

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: pathlib.Path) -> None:
    figure.savefig(path, dpi=100, facecolor="white")


def _show(ax: Any, image: Array, title: str, **options: Any) -> None:
    ax.imshow(image, **options)
    ax.set_title(title, fontsize=11, color=INK, loc="left")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _plain(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=INK, labelsize=9)
    ax.grid(True, color="#e6e9ed", linewidth=0.8)
    ax.set_axisbelow(True)


def photograph(
    path: pathlib.Path, photo: Array, blurred: Array, sharp: Array, edges: Array
) -> None:
    """The photograph, what the filters make of it, and a detail before and after sharpening."""
    figure = _figure(13, 5.3)
    axes = figure.subplots(2, 3)
    height, width = edges.shape
    detail = (slice(round(0.56 * height), round(0.94 * height)),
              slice(round(0.48 * width), round(0.86 * width)))  # fmt: skip
    _show(axes[0, 0], photo, "photograph")
    _show(axes[0, 1], blurred.clip(0, 1), "Gaussian blur")
    _show(axes[0, 2], edges, "edges: Sobel gradient", cmap="gray_r",
          vmax=np.quantile(edges, 0.995))  # fmt: skip
    _show(axes[1, 0], photo[detail], "a detail")
    _show(axes[1, 1], sharp[detail].clip(0, 1), "sharpened, 5x5")
    _show(axes[1, 2], edges[detail], "its edges", cmap="gray_r",
          vmax=np.quantile(edges, 0.995))  # fmt: skip
    _save(figure, path)


def template(
    path: pathlib.Path, wall: Array, cut: Array, seen: Array, match: Array, found: tuple[int, int]
) -> None:
    """Where the template was found, and the score of every place."""
    from matplotlib.patches import Rectangle

    figure = _figure(13, 5.3)
    grid = figure.add_gridspec(2, 3, width_ratios=(5.4, 1, 1), height_ratios=(1, 1.1))
    side = len(seen)
    big = figure.add_subplot(grid[:, 0])
    _show(big, wall, f"found at row {found[0]}, column {found[1]}: correlation {match.max():.2f}")
    box = Rectangle((found[1], found[0]), side, side, fill=False, edgecolor=ORANGE, linewidth=3)
    big.add_patch(box)
    gray = {"cmap": "gray", "vmin": 0, "vmax": 1}
    _show(figure.add_subplot(grid[0, 1]), cut, "in the picture", **gray)
    _show(figure.add_subplot(grid[0, 2]), seen, "the template", **gray)
    score = figure.add_subplot(grid[1, 1:])
    _show(score, match, "correlation, blue to red: -1 to 1", cmap="RdBu_r", vmin=-1, vmax=1)
    score.plot(found[1], found[0], "o", markersize=14, fillstyle="none", color=INK)
    _save(figure, path)


def reverb(path: pathlib.Path, dry: Array, wet: Array, room: Array, rate: int) -> None:
    """Spectrograms before and after, and how the hall decays."""
    figure = _figure(12, 7)
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 1))
    seconds = min(8.0, len(dry) / rate)
    window = min(2048, len(dry) // 4)
    for i, (sound, title) in enumerate(((dry, "dry: plucked strings"), (wet, "in the hall"))):
        ax = figure.add_subplot(grid[i, 0])
        _, _, _, drawn = ax.specgram(
            sound[: round(seconds * rate)] + 1e-9, NFFT=window, Fs=rate, noverlap=window // 2,
            cmap="magma", vmin=-130, vmax=-40,
        )  # fmt: skip
        ax.set_ylim(0, min(6000, rate / 2))
        ax.set_yticks(ax.get_yticks(), [f"{v / 1000:g}" for v in ax.get_yticks()])
        ax.set_title(title, fontsize=11, color=INK, loc="left")
        ax.set_ylabel("kHz")
        ax.set_xlabel("seconds")
    figure.colorbar(drawn, ax=figure.axes, label="dB", shrink=0.6)
    ax = figure.add_subplot(grid[:, 1])
    energy = np.cumsum(room[::-1] ** 2)[::-1]
    level = 10 * np.log10(np.where(energy > 1e-7 * energy[0], energy / energy[0], np.nan))
    ax.plot(level, np.arange(len(room)) / rate, color=BLUE)
    ax.set_title("the hall dies away", fontsize=11, color=INK, loc="left")
    ax.set_xlabel("energy left, dB")
    ax.set_ylabel("seconds")
    ax.invert_yaxis()
    _plain(ax)
    _save(figure, path)


def _mosaic(maps: Array, rows: int, columns: int) -> Array:
    """The most varied of (channels, h, w) maps, each scaled to [0, 1], with white seams."""
    top = np.quantile(maps, 0.995, axis=(1, 2), keepdims=True)
    maps = (maps / np.maximum(top, 1e-9)).clip(0, 1)
    maps = maps[np.sort(np.argsort(-maps.std(axis=(1, 2)))[: rows * columns])]
    rows = len(maps) // columns
    zoom = math.ceil(60 / min(maps.shape[1:]))
    scaled = maps[: rows * columns].repeat(zoom, 1).repeat(zoom, 2)
    seam = math.ceil(scaled.shape[1] / 40)
    scaled = np.pad(scaled, ((0, 0), (0, seam), (0, seam)), constant_values=np.nan)
    _, h, w = scaled.shape
    tiles: Array = scaled.reshape(rows, columns, h, w).swapaxes(1, 2)
    return tiles.reshape(rows * h, columns * w)


def unet(path: pathlib.Path, image: Array, maps: dict[str, Array]) -> None:
    """The picture and some feature maps of each level."""
    figure = _figure(13, 5.6)
    axes = figure.subplots(2, 3).flat
    _show(next(axes), image, "input")
    for ax, (name, level) in zip(axes, maps.items()):
        c, h, w = level.shape
        _show(ax, _mosaic(level, 2, min(4, c)), f"{name}: {c} maps of {h} x {w}, 8 shown",
              cmap="viridis", interpolation="none")  # fmt: skip
    _save(figure, path)


def pilotnet(path: pathlib.Path, image: Array, maps: dict[str, Array]) -> None:
    """The strip and the first feature maps of each layer."""
    figure = _figure(12, 6)
    axes = figure.subplots(2, 3).flat
    _show(next(axes), image, "input, 200 x 66")
    for ax, (name, level) in zip(axes, maps.items()):
        c, h, w = level.shape
        _show(ax, _mosaic(level, 4, 3), f"{name}: {c} maps of {h} x {w}, 12 shown",
              cmap="viridis", interpolation="none", aspect="auto")  # fmt: skip
    _save(figure, path)


def dice(
    path: pathlib.Path, values: Array, total: Array, fourier: Array, mean: float, variance: float,
    odds: Array,
) -> None:  # fmt: skip
    """The distribution of the sum, near its middle and in its tails."""
    figure = _figure(12, 4.6)
    near, tails = figure.subplots(1, 2)
    normal = np.exp(-((values - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    middle = np.abs(values - mean) < 5 * np.sqrt(variance)
    near.fill_between(values[middle], total[middle], color=BLUE, alpha=0.25, linewidth=0)
    near.plot(values[middle], total[middle], color=BLUE, label="fastconv")
    near.plot(values[middle], normal[middle], color=INK, linestyle=":", label="normal curve")
    near.set_title(f"the sum of {len(odds)} unfair dice", fontsize=11, color=INK, loc="left")
    near.set_ylabel("probability")
    near.set_ylim(bottom=0)
    tails.plot(values, np.where(fourier > 0, fourier, np.nan), color=GRAY, linewidth=0.8,
               label="scipy.signal.fftconvolve")  # fmt: skip
    tails.plot(values, np.where(total > 0, total, np.nan), color=BLUE, label="fastconv, strict")
    tails.plot(values, np.where(normal > 0, normal, np.nan), color=INK, linestyle=":",
               label="normal curve")  # fmt: skip
    tails.set_yscale("log")
    tails.set_ylim(1e-310, 1e10)
    tails.set_yticks([1.0, 1e-100, 1e-200, 1e-300], minor=False)
    tails.set_yticks([], minor=True)
    tails.set_title(
        "its tails: every probability keeps its digits", fontsize=11, color=INK, loc="left"
    )
    for ax in (near, tails):
        ax.set_xlabel("sum")
        ax.legend(frameon=False, fontsize=9)
        _plain(ax)
    _save(figure, path)


def speed(path: pathlib.Path, rows: list[Row]) -> None:
    """How many times faster than the peer each task ran."""
    rows = [row for row in rows if row.peer]
    figure = _figure(9, 0.9 + 0.55 * len(rows))
    ax = figure.subplots()
    ratios = [row.ratio for row in rows]
    fill = [BLUE if r >= 1 else ORANGE for r in ratios]
    # bars start at 1, where nothing is gained or lost
    bars = ax.barh([row.task for row in rows], [r - 1 for r in ratios], left=1, color=fill,
                   height=0.62)  # fmt: skip
    for bar, row in zip(bars, rows):
        ax.annotate(
            f"{row.ratio:.3g}x  {row.peer}", (max(row.ratio, 1), bar.get_y() + 0.31), (5, 0),
            textcoords="offset points", va="center", fontsize=9, color=INK,
        )  # fmt: skip
    ax.axvline(1, color=INK, linewidth=1)
    ax.set_xscale("log")
    ax.set_xlim(min(0.5, *ratios) * 0.8, max(2.0, *ratios) * 6)
    ax.xaxis.set_major_formatter(lambda value, position: f"{value:g}x")
    ax.invert_yaxis()
    ax.set_xlabel("times as fast as the best of SciPy or NumPy in the same run")
    _plain(ax)
    ax.grid(False, axis="y")
    _save(figure, path)
