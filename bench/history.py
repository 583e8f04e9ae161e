"""Measured history: the rows of tracked.py on the commits of history.toml, as asv's results.

``python -m bench.history measure`` builds each commit below ``.asv/builds`` and times all of them
at once, row by row, by `bench.interleave`: no commit has a better hour than another. Peers take
their turns with them, so that every commit has its ratio to the same peer of the same minute. What
was measured is in ``.asv/history.json``; a run that ends (``--seconds``) is taken up by the next.

``python -m bench.history write`` makes of it, in bench/results/asv, a file for each commit in asv's
format, which ``asv publish`` reads, and benchmarks.json, the list of all benchmarks.
"""

from __future__ import annotations

import argparse
import collections
import importlib.metadata
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping

from . import builds, interleave, tracked
from .interleave import Row

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "asv"
STATE = builds.ROOT / ".asv" / "history.json"

#: Name of the environment in asv's files: the interpreter that runs, with what is installed there.
ENVIRONMENT = "here"

ROUNDS = 7

#: What stands beside the results.
VERSIONS = ("numpy", "scipy", "torch", "onnxruntime", "opencv-python-headless")

#: A row of a commit: its samples, or the value of a track.
Taken = dict[str, list[float]]


def commits() -> list[str]:
    with (HERE / "history.toml").open("rb") as file:
        return [builds.commit(name) for name in tomllib.load(file)["commits"]]


def load() -> dict[str, list[Taken]]:
    """row -> passes -> commit (or peer) -> samples."""
    return json.loads(STATE.read_text()) if STATE.exists() else {}


def measure(seconds: float, passes: int) -> bool:
    """Measure what is missing for so many seconds; True when nothing is."""
    end = time.monotonic() + seconds
    state = load()
    trees = {sha: builds.tree(sha) for sha in commits()}
    newest = list(trees.values())[-1]
    names = {name for _, peers in tracked.PEERS.values() for name in peers}
    with (
        interleave.workers(trees) as at_work,
        interleave.workers(dict.fromkeys(sorted(names), newest)) as peers,
    ):
        for number in range(passes):
            for row in tracked.TRACKED:
                if len(state.get(str(row), [])) > number:
                    continue
                if time.monotonic() > end:
                    return False
                threads = row.params[-1] if row.params else 1
                beside = {
                    name: (peers[name], [row.params[0], name, threads])
                    for name in tracked.PEERS.get(row.benchmark, ("", []))[1]
                }
                found = interleave.measure(at_work, row, ROUNDS, beside, seed=number)
                state.setdefault(str(row), []).append(found.samples)
                STATE.parent.mkdir(exist_ok=True)
                STATE.write_text(json.dumps(state))
                kept = {sha[:8]: why for sha, why in (found.skipped | found.failed).items()}
                print(f"{end - time.monotonic():5.0f} s left, {row}: without {kept}", flush=True)
    return True


# ---- asv's files


def results(state: Mapping[str, list[Taken]]) -> Iterator[tuple[Row, str, list[float]]]:
    """(row, commit, samples), with the rows of ratios to peers."""
    shas = set(commits())
    for row in tracked.TRACKED:
        passes = state.get(str(row), [])
        merged: Taken = collections.defaultdict(list)
        for taken in passes:
            for name, samples in taken.items():
                merged[name] += samples
        for sha in shas & merged.keys():
            yield row, sha, merged[sha]
        suite, peers = tracked.PEERS.get(row.benchmark, ("", []))
        for peer in peers:
            text, threads = (*row.params, 1)[:2]
            for sha in shas & merged.keys() if peer in merged else ():
                ratio = interleave.undisturbed(merged[sha]) / interleave.undisturbed(merged[peer])
                yield Row(f"{suite}.track_time_ratio", (text, peer, threads)), sha, [ratio]


def write() -> None:
    """Write asv's results and list of benchmarks."""
    from asv.benchmarks import Benchmarks
    from asv.commands import Command  # noqa: F401 - loads what asv registers
    from asv.config import Config
    from asv.environment import get_environments
    from asv.machine import Machine
    from asv.repo import get_repo
    from asv.results import Results
    from asv.runner import BenchmarkResult
    from asv.util import write_json

    from .site import plugin

    conf = Config.load(str(builds.ROOT / "asv.conf.json"))
    repo = get_repo(conf)
    (environment,) = get_environments(conf, [f"{ENVIRONMENT}:same"])
    benchmarks = Benchmarks.discover(conf, repo, [environment], [commits()[-1]])
    RESULTS.mkdir(parents=True, exist_ok=True)
    benchmarks.save()
    machine = plugin.reference_machine()
    folder = RESULTS / machine["machine"]
    folder.mkdir(exist_ok=True)
    write_json(str(folder / "machine.json"), machine, Machine.api_version)
    versions = {name: version(name) for name in VERSIONS}
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for row, sha, samples in results(load()):
        params = benchmarks[row.benchmark]["params"]
        index = position(params, row)
        found.setdefault(sha, {}).setdefault(row.benchmark, {})[index] = samples
    for sha, rows in found.items():
        params = {**machine, "python": environment.python}
        one = Results(
            params, versions, sha, repo.get_date(sha), environment.python, environment.name, {}
        )
        for name, by_index in rows.items():
            benchmark = benchmarks[name]
            count = position(benchmark["params"], None)
            tracks = benchmark["type"] == "track"
            values = [by_index.get(i) for i in range(count)]
            result = BenchmarkResult(
                [None if v is None else v[0] for v in values],
                [None if v is None or tracks else v for v in values],
                [None if v is None or tracks else 1 for v in values],
                0, "", None,
            )  # fmt: skip
            one.add_result(benchmark, result)
        one.save(str(RESULTS))


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def position(params: list[list[str]], row: Row | None) -> int:
    """Index of a row among all combinations of parameters, the last one running fastest; or, of no
    row, their number."""
    index, count = 0, 1
    for number, values in enumerate(params):
        if row is not None:
            index = index * len(values) + values.index(repr(row.params[number]))
        count *= len(values)
    return count if row is None else index


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.history", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("what", choices=["measure", "write"])
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--passes", type=int, default=2, help="processes a commit and row")
    arguments = parser.parse_args()
    if arguments.what == "write":
        write()
    elif not measure(arguments.seconds, arguments.passes):
        print("more is missing: run this again")


if __name__ == "__main__":
    main()
