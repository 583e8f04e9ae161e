"""What a call costs before any arithmetic: tiny calls, planning, importing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable

from . import common, functions, shapes

#: Seconds that one figure is timed for.
BUDGET = 20.0


class Function(common.Timed):
    """Every public function, once, on operands that fit in the second level cache."""

    params = (list(functions.CALLS),)
    param_names = ("function",)

    def setup(self, name: str) -> None:
        common.pin(1)
        common.without_wisdom()
        try:
            self.call = functions.CALLS[name]()
            self.call()
        except (AttributeError, ImportError, TypeError) as missing:
            raise NotImplementedError(f"not in this commit: {missing}") from None

    def time_call(self, name: str) -> None:
        self.call()


class Tiny(common.Timed):
    params = (list(shapes.TINY.values()),)
    param_names = ("call",)

    def setup(self, text: str) -> None:
        self.prepare(text)

    def time_call(self, text: str) -> None:
        self.call()


class Planned(common.Timed):
    """A prepared call of a tiny layer with an output: the least that a call can cost."""

    def setup(self) -> None:
        import fastconv

        common.pin(1)
        common.without_wisdom()
        c = shapes.case(shapes.TINY["conv2d"])
        self.x, w = shapes.arrays(c)
        self.plan = fastconv.plan(fastconv.conv2d, self.x, w)
        self.out = self.plan(self.x)

    def time_call(self) -> None:
        self.plan(self.x, out=self.out)


class Overhead:
    """Microseconds that a warm call takes over the driver's own time, its weights packed."""

    version = "1"
    unit = "us"
    params = (["plan", "call"],)
    param_names = ("how",)

    def track_overhead(self, how: str) -> float:
        import fastconv
        from fastconv._timer import compare

        common.pin(1)
        common.without_wisdom()
        c = shapes.case(shapes.TINY["conv2d.8"])
        x, w = shapes.arrays(c)
        plan = fastconv.plan(fastconv.conv2d, x, w, **c.options)
        y = plan(x)
        (step,) = plan._steps
        works = [
            lambda: step.choice.plan.execute(x, step.packed, None, y),
            lambda: plan(x, out=y),
            lambda: fastconv.conv2d(x, w, **c.options),
        ]
        driver, planned, called = (t.seconds for t in compare(works, rounds=15, budget=BUDGET))
        return ((planned if how == "plan" else called) - driver) * 1e6


class Planning(common.Timed):
    """The cold path: a problem never seen, by the cost model."""

    params = (list(shapes.NN.values())[:4],)
    param_names = ("problem",)

    def setup(self, text: str) -> None:
        from fastconv._problem import Problem

        self.planner = importlib.import_module("fastconv._planner")
        common.without_wisdom()
        self.problem = Problem.parse(text)

    def time_choose(self, text: str) -> None:
        self.planner.choose(self.problem)


class Import:
    version = "1"
    unit = "x"
    timeout = 120

    def timeraw_fastconv(self) -> str:
        return "import fastconv"

    def track_import_ratio_to_scipy_signal(self) -> float:
        """time(import fastconv) / time(import scipy.signal), interpreter start left out."""
        from fastconv._timer import compare

        def run(code: str) -> Callable[[], object]:
            return lambda: subprocess.run([sys.executable, "-c", code], check=True)

        works = [run("pass"), run("import fastconv"), run("import scipy.signal")]
        empty, ours, theirs = (t.seconds for t in compare(works, rounds=9, budget=BUDGET))
        return (ours - empty) / (theirs - empty)
