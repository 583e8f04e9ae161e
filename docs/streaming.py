"""Draw the schedule of a stream: the picture of streaming.md.

``python docs/streaming.py`` draws ``pictures/streaming.png``, which takes matplotlib, from the
partitions and steps that `fastconv.Convolver` chooses for a kernel of ten seconds.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

import fastconv
from fastconv import _partitions
from fastconv._partitions import Level, Partitioned

RATE, BLOCK, CHANNELS, SECONDS = 48000, 128, 2, 10
COLOURS = {"collect": "#d9d9d9", "transform": "#e69f00", "products": "#0072b2", "back": "#009e73"}
BLOCKS = 72


def work(level: Level) -> list[dict[str, float]]:
    """Estimated microseconds of each slot, by what is done in it."""
    rows = level._sums.shape[0]
    transform = _partitions._TRANSFORM * level.n * np.log2(level.n) + _partitions._STEP / rows
    each = {
        level._transform: ("transform", transform),
        level._multiply: ("products", _partitions._SPECTRAL * rows * level.count),
        level._back: ("back", transform),
    }
    slots = []
    for steps in level._steps:
        slot = dict.fromkeys(("transform", "products", "back"), 0.0)
        for step, what in steps:
            name, cost = each[step]
            slot[name] += 1e-3 * cost * (what.stop - what.start)
        slots.append(slot)
    return slots


def draw_kernel(axes: Any, run: Partitioned) -> None:
    """The partitions, over the taps."""
    direct = run.parts[0][1]
    axes.barh(0, direct, color="black", height=0.5)
    axes.text(direct, 0.45, "direct", fontsize=8)
    for size, offset, count in run.parts:
        for i in range(count):
            axes.barh(0, size, left=offset + i * size, height=0.5, color="#0072b2",
                      edgecolor="w", linewidth=0.2)  # fmt: skip
        axes.text(offset + size * 2, 0.45, f"{count} of {size}", fontsize=8)
    axes.set_xlim(1, run.taps)
    axes.set_xscale("symlog", linthresh=2000)
    axes.set_ylim(-0.4, 0.9)
    axes.set_yticks([])
    axes.set_xlabel("taps of the kernel")


def draw_time(axes: Any, run: Partitioned) -> None:
    """What is done for each level while blocks come in; heights are estimated times."""
    for place, level in enumerate(run.levels):
        y = len(run.levels) - place
        slots = work(level)
        top = max(sum(slot.values()) for slot in slots)
        for begin in range(0, BLOCKS, level.slots):
            axes.barh(y + 0.42, level.slots, left=begin, height=0.1, color=COLOURS["collect"],
                      edgecolor="black", linewidth=0.5)  # fmt: skip
            if begin == 0:
                continue  # nothing has been collected
            for i, slot in enumerate(slots[: BLOCKS - begin]):
                bottom = y - 0.4
                for name, cost in slot.items():
                    height = 0.7 * cost / top
                    axes.bar(begin + i + 0.5, height, bottom=bottom, width=0.9,
                             color=COLOURS[name])  # fmt: skip
                    bottom += height
            due = begin + level.slots - 1
            if due < BLOCKS:
                axes.plot([due + 1] * 2, [y - 0.45, y + 0.35], color="#d55e00", linewidth=1.2)
    axes.set_yticks(range(1, len(run.levels) + 1), [f"{lv.size} taps" for lv in run.levels[::-1]])
    axes.set_xlim(0, BLOCKS)
    axes.set_ylim(0.5, len(run.levels) + 0.55)
    axes.set_xlabel(f"blocks of {BLOCK} samples, {1e3 * BLOCK / RATE:.2f} ms each")
    names = {"collect": "period collected", "transform": "transformed", "products": "multiplied",
             "back": "transformed back"}  # fmt: skip
    for name, text in names.items():
        axes.bar(0, 0, color=COLOURS[name], label=text)
    axes.plot([], [], color="#d55e00", label="first output due after this block")


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    stream = fastconv.Convolver(np.ones((CHANNELS, SECONDS * RATE), np.float32), BLOCK)
    run = stream._runs[0]
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(9, 4.2), height_ratios=(1, 3.2), layout="constrained"
    )
    draw_kernel(upper, run)
    draw_time(lower, run)
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(pathlib.Path(__file__).parent / "pictures" / "streaming.png", dpi=110)
    print(stream.partitions)


if __name__ == "__main__":
    main()
