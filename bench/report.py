"""A table and a picture of what `bench.peers` measured.

``python -m bench.report FILE.json ... [--out FOLDER]`` writes

peers.csv       a row for each case, mode and number of threads: milliseconds of fastconv and of all
                peers, the ratio, the shares of both limits, the machine and the versions
roofline.png    each case at its operations a byte: what fastconv reaches and what the best peer
                does, below the ceilings of the machine; one panel a number of threads

A case above its roof has been solved in fewer operations than its definition has.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from . import libraries
from .ceilings import Ceilings
from .peers import FAMILIES, HERE, MODES, Row

#: Of Okabe and Ito's palette, which eyes of every kind can tell apart.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#000000", "#999999")

#: Times the peak that a case may be above it and still be in the picture.
ABOVE = 10

_FAMILIES = [family for families in FAMILIES.values() for family in families]


class Measurement:
    """One JSON file of `bench.peers`."""

    def __init__(self, path: pathlib.Path) -> None:
        facts = json.loads(path.read_text())
        self.rows = [Row(**row) for row in facts.pop("rows")]
        copies = tuple((size, speed) for size, speed in facts["ceilings"]["copy"])
        self.ceilings = Ceilings(**{**facts.pop("ceilings"), "copy": copies})
        self.facts: dict[str, Any] = facts

    @property
    def versions(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.facts["versions"].items())


def records(measured: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Rows of the table: a case, a mode and a number of threads each."""
    found = []
    for m in measured:
        flops, copy = m.ceilings.flops, m.ceilings.copy
        machine = {
            "peak_float32_gflops": round(flops["float32"] / 1e9, 1),
            "peak_float64_gflops": round(flops["float64"] / 1e9, 1),
            **{f"copy_{size >> 10}_kib_gbs": round(speed / 1e9, 1) for size, speed in copy},
            "cpu": m.facts["cpu"], "isa": m.facts["isa"], "date": m.facts["date"],
            "versions": m.versions,
        }  # fmt: skip
        for row in m.rows:
            peers = {f"{n}_ms": _ms(row.seconds.get(n)) for n in libraries.LIBRARIES}
            for mode in (mode for mode in MODES if mode in row.seconds):
                ratio = row.ratio(mode)
                found.append({
                    "case": row.name, "problem": row.problem, "family": row.family,
                    "threads": row.threads, "mode": mode, "method": row.method,
                    "fastconv_ms": _ms(row.seconds[mode]),
                    "fastconv_lower_quartile_ms": _ms(row.quartile[mode]), **peers,
                    "best_peer": row.best() or "",
                    "ratio": "" if ratio is None else f"{ratio:.4g}",
                    "mflop": f"{row.flops / 1e6:.6g}", "mbyte": f"{row.bytes / 1e6:.6g}",
                    **{f"of_{k}": f"{row.share(k, mode):.3f}" for k in ("fma", "copy")}, **machine,
                })  # fmt: skip
    return found


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.5g}"


def write_table(measured: Sequence[Measurement], path: pathlib.Path) -> None:
    rows = records(measured)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(measured: Sequence[Measurement], path: pathlib.Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5 * len(measured), 6.6), layout="constrained")
    panels = figure.subplots(1, len(measured), sharex=True, sharey=True, squeeze=False)[0]
    for axes, m in zip(panels, measured):
        axes.set(xscale="log", yscale="log", xlim=(0.2, 2500))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        _roof(axes, m.ceilings)
        beyond = _points(axes, m)
        threads = m.ceilings.threads
        title = f"{threads} thread{'s' if threads > 1 else ''}"
        if beyond:
            title += f"; above the frame, by Fourier transforms: {beyond} more"
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("operations of the definition per byte of the operands")
        axes.grid(which="major", color="#e8e8e8", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("GFLOP/s")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=4 * len(measured),
        frameon=False,
        fontsize=9,
    )
    facts = measured[0].facts
    figure.suptitle(
        f"fastconv's plans and the best of their peers: {facts['cpu']}, {facts['isa']}",
        x=0.01, ha="left", fontsize=12,
    )  # fmt: skip
    figure.savefig(path, dpi=130)


def _roof(axes: Any, ceilings: Ceilings) -> None:
    """Peaks of both dtypes, and copies in a second level cache and in memory."""
    left, right = axes.get_xlim()
    peak = ceilings.flops["float32"] / 1e9
    grey = "#555555"
    speeds = {size: ceilings.bandwidth(size) / 1e9 for size in (1 << 20, ceilings.copy[-1][0])}
    for (size, speed), style, side in zip(speeds.items(), ("--", "-"), (3, -10)):
        axes.plot([left, peak / speed], [left * speed, peak], style, color=grey, linewidth=1.2)
        axes.annotate(
            f"copy of {size >> 20} MiB: {speed:.0f} GB/s", (left * 1.1, left * 1.1 * speed),
            xytext=(0, side), textcoords="offset points", fontsize=8, color=grey, rotation=45,
            rotation_mode="anchor", transform_rotates_text=True,
        )  # fmt: skip
    for dtype, style, side in (("float32", "-", 3), ("float64", "--", -10)):
        gflops = ceilings.flops[dtype] / 1e9
        axes.plot([gflops / min(speeds.values()), right], [gflops, gflops], style, color=grey)
        axes.annotate(
            f"{dtype} multiply-adds: {gflops:.0f} GFLOP/s", (right, gflops), xytext=(0, side),
            textcoords="offset points", fontsize=8, color=grey, ha="right",
        )  # fmt: skip


def _points(axes: Any, m: Measurement) -> int:
    """Draw every case, but those far above the roof: returns how many these are."""
    highest = ABOVE * m.ceilings.flops["float32"] / 1e9
    beyond = 0
    for family, colour in zip(_FAMILIES, COLOURS, strict=True):
        axes.scatter([], [], s=34, color=colour, label=family, linewidths=0)
        for row in (r for r in m.rows if r.family == family):
            mode = next(mode for mode in MODES if mode in row.seconds)
            x, mine = row.flops / row.bytes, row.flops / row.seconds[mode] / 1e9
            if mine > highest:
                beyond += 1
                continue
            axes.scatter(x, mine, s=34, color=colour, linewidths=0, zorder=3)
            best = row.best()
            if best is not None:
                other = row.flops / row.seconds[best] / 1e9
                axes.plot([x, x], [other, mine], color=colour, linewidth=1, alpha=0.5, zorder=2)
                axes.scatter(x, other, s=28, facecolors="white", edgecolors=colour, zorder=2.5)
    axes.scatter([], [], s=28, facecolors="white", edgecolors="#555555", label="its best peer")
    return beyond


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.report", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE.json")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results", metavar="FOLDER")
    arguments = parser.parse_args()
    measured = [Measurement(path) for path in arguments.files]
    measured.sort(key=lambda m: m.ceilings.threads)
    arguments.out.mkdir(exist_ok=True)
    write_table(measured, arguments.out / "peers.csv")
    draw(measured, arguments.out / "roofline.png")


if __name__ == "__main__":
    main()
