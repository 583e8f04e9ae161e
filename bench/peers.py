"""fastconv beside its peers: the same work, in one process, interleaved.

``python -m bench.peers [FILE.toml ...]`` reads calls in the format of workloads.toml, by default
workloads.toml, others.toml and networks.toml here, and prints a line for each:

plan, call      milliseconds of fastconv: a prepared plan with its output, and the plain call
(a peer)        milliseconds of each library of libraries.py, called the way it is fastest
ratio           best peer / fastconv's plan (call with ``--mode call``); above 1 fastconv is ahead
fma, copy       the least times of ceilings.py / fastconv's: how near it is to the peak of
                multiply-adds and to a copy as large; the one that is nearer limits the case

Protocol
--------
Threads are pinned: the process starts itself again on as many cores as it has threads, with the
pools of OpenMP and BLAS limited by the environment, and each library is told the number in its own
way. Arrays are plain C-ordered NumPy arrays for fastconv, and converted beforehand for those that
like others better. All results are compared with fastconv's; a peer that computes something else is
left out. It is an error when all peers do. Why a library is left out stands on stderr, once.

Everything is then timed by `fastconv._timer.compare`: passes over all functions in shuffled order.
Before each sample the function is called once untimed, so that its data are in cache and its
threads awake. With several threads there is a pause before that: after a call, idle workers of
libgomp (PyTorch, ncnn) spin for 4 ms and those of onnxruntime for 25 ms, on the core that the next
library's second thread needs; switching that off would lengthen their own next call. What is
reported is the median, and in the JSON file the lower quartile as well, which is the better
estimate where the machine has other work. A peer whose first call takes ten times as long as the
quickest one's is not called again (~).

Planning is by the cost model: nothing measured earlier on this machine is used.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
import platform
import sys
from collections.abc import Sequence
from typing import Any

from . import libraries, shapes
from .ceilings import Ceilings, operations, size_in_bytes
from .ceilings import measure as measure_ceilings
from .libraries import Work

#: Seconds of samples that a case may take, about.
BUDGET = 10.0

#: Longer than any library's workers spin.
PAUSE = 0.03

#: A peer whose first call takes this many seconds, and this many times the quickest peer's, is not
#: called again.
LONG, HOPELESS = 0.3, 10.0

HERE = pathlib.Path(__file__).parent
FILES = [HERE / name for name in ("workloads.toml", "others.toml", "networks.toml")]

MODES = ("plan", "call")

#: Of a front end's module; `libraries` says who has the like of a kind.
KINDS = {"nn": "layer", "ndimage": "image", "_match": "match", "_power": "power"}

FAMILIES = {
    "layer": ("3x3 stride 1", "other forward", "depthwise", "transposed, backward"),
    "signal": ("signals",),
    "image": ("images",),
    "match": ("templates",),
    "power": ("powers",),
}


@dataclasses.dataclass
class Row:
    """What was measured of a case: seconds, medians first, then lower quartiles."""

    name: str
    problem: str
    kind: str
    family: str
    threads: int
    method: str
    flops: int
    bytes: int
    least: dict[str, float]
    seconds: dict[str, float]
    quartile: dict[str, float]
    #: why a peer has no time, or has one of a single call
    notes: dict[str, str]

    def best(self) -> str | None:
        """The fastest peer."""
        names = [name for name in self.seconds if name not in MODES]
        return min(names, key=self.seconds.__getitem__, default=None)

    def ratio(self, mode: str = "plan") -> float | None:
        best = self.best()
        return None if best is None else self.seconds[best] / self.seconds[mode]

    def share(self, limit: str, mode: str = "plan") -> float:
        """How near fastconv is to a limit of the machine, 1 at best; NaN where there is none."""
        return self.least.get(limit, math.nan) / self.seconds[mode]


def case_of(workload: Any) -> shapes.Case:
    """A call of a workloads file as a case."""
    from fastconv._engine import _front_ends

    front = _front_ends[workload.function]
    options = dict(workload.arguments)
    x, w = options.pop(front.data), options.get(front.kernel)
    if hasattr(w, "shape"):
        del options[front.kernel]
    else:  # a sigma, a size
        w = None
    size = options.pop("input_size", None) or options.pop("weight_size", None)
    module = workload.function.__module__.rpartition(".")[2]
    return shapes.Case(
        workload.name, KINDS.get(module, module),
        workload.function.__name__, x.dtype.name, x.shape, None if w is None else w.shape,
        options, size, None if w is None else w.dtype.name,
    )  # fmt: skip


def family(c: shapes.Case) -> str:
    if c.kind != "layer":
        return FAMILIES[c.kind][0]
    if c.size is not None or c.function.startswith("conv_transpose"):
        return "transposed, backward"
    g = shapes.spatial(c)
    if c.groups > 1 and c.groups == c.x_shape[1]:
        return "depthwise"
    return "3x3 stride 1" if (g.kernel, g.stride) == ((3, 3), (1, 1)) else "other forward"


def ours(c: shapes.Case, method: str = "auto") -> Work:
    """fastconv's plain call, or with a `method`."""
    return libraries.fastconv_call(c, **({} if method == "auto" else {"method": method}))


def agree(mine: Any, theirs: Any) -> bool:
    """Whether two results are the same work.

    Winograd's F(6x6) and Fourier transforms lose two digits and a half of normal data; arithmetic
    in 16 bits, which a library may prefer unasked, loses more. Whole numbers may differ by 2: SciPy
    truncates after each axis of a separable filter where OpenCV rounds.
    """
    import numpy as np

    if mine.shape != theirs.shape:
        return False
    wide = np.result_type(mine, theirs, np.float64)  # differences of unsigned integers wrap
    narrow, theirs = theirs, theirs.astype(wide)
    allowed = 2.0
    if mine.dtype.kind in "fc":
        eps = max(np.finfo(a.dtype).eps for a in (mine, narrow) if a.dtype.kind in "fc")
        allowed = 1e3 * eps * np.abs(theirs).max(initial=0.0)
    return bool((np.abs(mine.astype(wide) - theirs) <= allowed).all())


def peers(
    c: shapes.Case, threads: int, notes: dict[str, str] | None = None, only: str = ""
) -> dict[str, Work]:
    """The same work by every library that has it; `notes` get why others have not."""
    found = {}
    notes = {} if notes is None else notes
    for name, library in libraries.LIBRARIES.items():
        if library.kind != c.kind or only not in ("", name):
            continue
        if importlib.util.find_spec(library.module) is None:
            notes[name] = "not installed"
            continue
        try:
            work = library.make(c, threads)
        except Exception as error:  # whatever a library throws at an operation it lacks
            notes[name] = str(error).partition("\n")[0][:200]
            continue
        if work is None:
            notes[name] = "has no such operation"
        else:
            found[name] = work
    return found


def measure(c: shapes.Case, ceilings: Ceilings, modes: Sequence[str], budget: float) -> Row:
    """Check and time a case; RuntimeError when every peer computes something else."""
    from fastconv._timer import Deadline, compare

    threads = ceilings.threads
    prepared, plan = libraries.fastconv_plan(c, threads=threads)
    plain = libraries.fastconv_call(c, threads=threads)
    works = {m: w.run for m, w in (("plan", prepared), ("call", plain)) if m in modes}
    result = prepared.array(prepared.run())
    notes: dict[str, str] = {}
    first: dict[str, float] = {}
    others = peers(c, threads, notes)
    for name, work in others.items():
        start = Deadline(None)
        try:
            returned = work.run()
        except Exception as error:
            notes[name] = str(error).partition("\n")[0][:200]
            continue
        seconds = start.spent
        if agree(result, work.array(returned)):
            first[name] = seconds
        else:
            notes[name] = "computes something else"
    if not first and "computes something else" in notes.values():
        raise RuntimeError(f"{c.text}: fastconv disagrees with every peer")
    limit = max(LONG, HOPELESS * min(first.values(), default=0.0))
    called_once = {name: seconds for name, seconds in first.items() if seconds > limit}
    notes |= dict.fromkeys(called_once, "called once")
    works |= {name: others[name].run for name in first if name not in called_once}
    timings = compare([*works.values()], budget=budget, settle=PAUSE if threads > 1 else 0.0)
    flops, size = operations(c, result), size_in_bytes(c, result)
    return Row(
        c.text, "; ".join(map(str, plan.problems)), c.kind, family(c), threads, plan.method, flops,
        size, ceilings.least(c, flops, size),
        {**{name: t.median for name, t in zip(works, timings)}, **called_once},
        {name: t.seconds for name, t in zip(works, timings)}, notes,
    )  # fmt: skip


def ratios(
    c: shapes.Case, threads: int, only: str = "", budget: float = BUDGET
) -> dict[str, tuple[float, float]]:
    """(seconds of fastconv's plan, seconds of the peer) by the peer's name, timed interleaved.

    A peer that computes something else is left out.
    """
    from fastconv._timer import compare

    mine, _ = libraries.fastconv_plan(c, threads=threads)
    result = mine.array(mine.run())
    works = peers(c, threads, only=only)
    same = {n: w for n, w in works.items() if agree(result, w.array(w.run()))}
    timings = compare(
        [mine.run, *(w.run for w in same.values())],
        budget=budget, settle=PAUSE if threads > 1 else 0.0,
    )  # fmt: skip
    return {n: (timings[0].seconds, t.seconds) for n, t in zip(same, timings[1:])}


# ---- the table


def _number(seconds: float | None, note: str | None = None) -> str:
    if seconds is None:
        return "-"
    ms = seconds * 1e3
    digits = 1 if ms >= 100 else 2 if ms >= 10 else 3
    return ("~" if note == "called once" else "") + f"{ms:.{digits}f}"


def header(kind: str) -> str:
    names = [n for n, library in libraries.LIBRARIES.items() if library.kind == kind]
    columns = "".join(f"{n:>12}" for n in names)
    rated = f"{'best':11}{'ratio':>6}{'fma':>7}{'copy':>7}"
    return f"{'case, ms':32}{'plan':>9}{'call':>9}{columns}  {rated}  method"


def line(row: Row, mode: str) -> str:
    names = [n for n, library in libraries.LIBRARIES.items() if library.kind == row.kind]
    columns = "".join(f"{_number(row.seconds.get(n), row.notes.get(n)):>12}" for n in names)
    mine = "".join(f"{_number(row.seconds.get(m)):>9}" for m in MODES)
    ratio = row.ratio(mode)
    shown = "-" if ratio is None else f"{ratio:.2f}"
    shares = (row.share(limit, mode) for limit in ("fma", "copy"))
    limits = "".join(f"{'-' if math.isnan(share) else f'{share:.0%}':>7}" for share in shares)
    rated = f"{row.best() or '-':11}{shown:>6}{limits}"
    return f"{row.name:32}{mine}{columns}  {rated}  {row.method}"


def summary(rows: Sequence[Row], mode: str) -> list[str]:
    """Geometric means of the ratios by family, and what the plain call costs more than a plan."""
    groups = [(f, [r for r in rows if r.family == f]) for fs in FAMILIES.values() for f in fs]
    groups.insert(4, ("all layers", [r for r in rows if r.kind == "layer"]))
    lines = []
    for name, group in groups:
        rated = [(r.ratio(mode), r.name) for r in group]
        found = sorted((ratio, case) for ratio, case in rated if ratio is not None)
        if found:
            mean = math.exp(sum(math.log(ratio) for ratio, _ in found) / len(found))
            behind = sum(ratio < 1 for ratio, _ in found)
            lines.append(
                f"{name:22} ratio {mean:5.2f} (geometric mean of {len(found)}), least"
                f" {found[0][0]:.2f} {found[0][1]}, below 1: {behind}"
            )
    both = [r for r in rows if set(MODES) <= r.seconds.keys()]
    if both:
        extra = sorted((r.seconds["call"] / r.seconds["plan"], r.name) for r in both)
        mean = math.exp(sum(math.log(times) for times, _ in extra) / len(extra))
        behind = sum(times > 1.1 for times, _ in extra)
        lines.append(
            f"{'call / plan':22}       {mean:5.2f} (geometric mean of {len(extra)}), most"
            f" {extra[-1][0]:.2f} {extra[-1][1]}, above 1.1: {behind}"
        )
    return lines


# ---- the script


def about(ceilings: Ceilings) -> dict[str, Any]:
    """The machine and the versions that a measurement was made with."""
    from fastconv._ext import core
    from fastconv._machine import this_machine
    from fastconv._timer import date

    versions = {"python": platform.python_version()}
    for package in (
        "fastconv", "numpy", "scipy", "torch", "onnxruntime", "openvino", "ncnn",
        "opencv-python-headless",
    ):  # fmt: skip
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": date(), "cpu": cpu(), "isa": core.isa(), "machine": str(this_machine()),
        "system": platform.system(), "versions": versions,
        "ceilings": dataclasses.asdict(ceilings),
    }  # fmt: skip


def cpu() -> str:
    """The processor as its maker calls it; virtual machines often shorten that."""
    fields: dict[str, str] = {}
    try:
        for text in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = text.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    name = fields.get("model name", platform.machine())
    return f"{name}, family {fields.get('cpu family')}, model {fields.get('model')}"


def pin(threads: int) -> None:
    """Start this process again on `threads` cores, once."""
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
    wanted = dict.fromkeys(limits, str(threads))
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("files", nargs="*", type=pathlib.Path, default=FILES, metavar="FILE.toml")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mode", choices=MODES, help="time that alone, and rate it")
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART", help="of a case's name")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="for bench.report")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds a case")
    arguments = parser.parse_args()
    pin(arguments.threads)

    import fastconv
    from fastconv._workloads import load

    ceilings = measure_ceilings(arguments.threads, min(1.0, arguments.budget))
    facts = about(ceilings)
    peak = ", ".join(f"{dtype} {v / 1e9:.0f} GFLOP/s" for dtype, v in ceilings.flops.items())
    speeds = ", ".join(f"{size >> 20} MiB {v / 1e9:.0f} GB/s" for size, v in ceilings.copy[::3])
    print(f"{facts['cpu']}, {facts['isa']}, threads: {arguments.threads}")
    print(f"multiply-adds: {peak}; copies, read and written: {speeds}")
    modes = MODES if arguments.mode is None else (arguments.mode,)
    rows: list[Row] = []
    told: set[str] = set()
    with fastconv.autotune("off"):
        for workload in (w for path in arguments.files for w in load(path)):
            if not any(part in workload.name for part in arguments.only):
                continue
            row = measure(case_of(workload), ceilings, modes, arguments.budget)
            if not rows or rows[-1].kind != row.kind:
                print(f"\n{header(row.kind)}")
            for reason in {f"{name}: {note}" for name, note in row.notes.items()} - told:
                print(f"# {reason} ({row.name})", file=sys.stderr)
                told.add(reason)
            rows.append(row)
            print(line(row, modes[0]), flush=True)
    print("", *summary(rows, modes[0]), sep="\n")
    if arguments.json is not None:
        found = {**facts, "rows": [dataclasses.asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
