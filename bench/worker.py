"""One build of fastconv at work for `bench.interleave`: rows are loaded, sampled and dropped.

``python bench/worker.py TREE`` imports fastconv from TREE and the suites from beside this file, so
that old builds run today's benchmarks. It answers a line of JSON on stdin by a line on stdout:

{"load": name, "params": [...]}     {} or {"skip": why} or {"error": why}
{"sample": seconds}                 {"seconds": of one call}, after one untimed call
{"track": true}                     {"value": number}
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

HERE = pathlib.Path(__file__).parent


def find_bench() -> None:
    """Make `bench` the package beside this file, whatever else is on the path."""
    spec = importlib.util.spec_from_file_location("bench", HERE / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module
    spec.loader.exec_module(module)


def find_fastconv(tree: pathlib.Path) -> None:
    sys.path.insert(0, str(tree))
    import fastconv

    assert fastconv.__file__ is not None
    if tree.resolve() not in pathlib.Path(fastconv.__file__).resolve().parents:
        raise ImportError(f"{tree} has no fastconv; {fastconv.__file__} was imported")


class Loaded:
    """A row that was set up, or a peer's part of one."""

    def __init__(self, name: str, params: list[Any]) -> None:
        if name == "peer":
            self.call = self._peer(*params)
            return
        module, cls, method = name.split(".")
        suite: Any = getattr(importlib.import_module(f"bench.{module}"), cls)()
        if hasattr(suite, "setup"):
            suite.setup(*params)
        function = getattr(suite, method)
        self.call = lambda: function(*params)

    @staticmethod
    def _peer(text: str, peer: str, threads: int) -> Callable[[], Any]:
        from bench import common, peers, shapes

        common.pin(threads)
        notes: dict[str, str] = {}
        works = peers.peers(shapes.case(text), threads, notes, only=peer)
        if peer not in works:
            raise NotImplementedError(notes[peer])
        return works[peer].run

    def calibrate(self) -> None:
        """Learn what a call takes; the first one may do what later ones need not."""
        self.call()
        self.estimate = self._time(1)

    def sample(self, seconds: float) -> float:
        self.call()
        number = max(1, math.ceil(seconds / max(self.estimate, 1e-7)))
        taken = self._time(number)
        self.estimate = min(self.estimate, taken)
        return taken

    def _time(self, number: int) -> float:
        clock, call = time.perf_counter_ns, self.call
        begin = clock()
        for _ in range(number):
            call()
        return (clock() - begin) * 1e-9 / number


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what benchmarks print is no answer
    os.environ["FASTCONV_WISDOM"] = ":memory:"
    find_bench()
    find_fastconv(pathlib.Path(sys.argv[1]))
    loaded: Loaded | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if "load" in request:
                loaded = None  # frees what the row before it held
                loaded = Loaded(request["load"], request["params"])
                if ".track_" not in request["load"]:
                    loaded.calibrate()
            elif loaded is None:
                raise RuntimeError("nothing is loaded")
            elif "sample" in request:
                answer["seconds"] = loaded.sample(request["sample"])
            else:
                answer["value"] = float(loaded.call())
        except NotImplementedError as why:
            answer["skip"] = str(why)
        except Exception as error:  # whatever a benchmark raises is said, and judged, elsewhere
            traceback.print_exc()
            answer["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
