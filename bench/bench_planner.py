"""How good the choices are: time(chosen) / time(fastest candidate), 1 at best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import common, shapes

CASES = [
    text
    for text in (*shapes.NN.values(), *shapes.SIGNAL.values())
    if text.split()[0] in ("conv1d", "conv2d", "conv3d", "convolve")
]

#: Candidates believed this many times slower than the best are not timed: a model that is wrong
#: by more shows in the other benchmarks.
HOPELESS = 30.0

BUDGET = 20.0


def problem_of(text: str) -> Any:
    """The Problem of a line of shapes.py."""
    import fastconv

    if text.startswith("convolve"):
        c = shapes.case(text)
        x, w = shapes.arrays(c)
        return fastconv.candidates(fastconv.convolve, x, w, **c.options)[0].problem
    return fastconv.Problem.parse(text)


def work(candidate: Any) -> Callable[[], None]:
    """One unprepared run of a candidate: packing is part of it."""
    from fastconv._planner import choose
    from fastconv._problem import numpy_dtype

    p = candidate.problem
    plan = choose(p, method=candidate.method, config=candidate.config).plan
    random = np.random.default_rng(0)
    x = random.standard_normal(p.x_shape).astype(numpy_dtype(p.x_dtype))
    w = random.standard_normal(p.w_shape).astype(numpy_dtype(p.w_dtype))
    y = np.empty(p.y_shape, numpy_dtype(p.y_dtype))
    return lambda: plan(x, plan.pack_stored(w), None, y)


def regret(text: str) -> float:
    """time(what the model chooses) / time(fastest of each method's best config by the model)."""
    from fastconv import _planner
    from fastconv._timer import compare

    found = _planner.candidates(problem_of(text))
    legal = [c for c in found if c.refused is None and c.seconds <= HOPELESS * found[0].seconds]
    best: dict[str, Any] = {}
    for candidate in legal:  # quickest estimate first: the first is what would be chosen
        best.setdefault(candidate.method, candidate)
    if len(best) == 1:
        return 1.0
    times = [t.seconds for t in compare([work(c) for c in best.values()], budget=BUDGET)]
    return times[0] / min(times)


class Regret:
    params = (CASES,)
    param_names = ("problem",)
    version = "1"
    unit = "x"
    timeout = 300

    def setup(self, text: str) -> None:
        common.without_wisdom()

    def track_regret(self, text: str) -> float:
        return regret(text)


def main() -> None:
    """``python -m bench.bench_planner``: the regret of each case and their geometric mean."""
    common.without_wisdom()
    regrets = []
    for text in CASES:
        regrets.append(regret(text))
        print(f"{regrets[-1]:6.2f}  {text}", flush=True)
    print(f"{np.exp(np.mean(np.log(regrets))):6.2f}  geometric mean; worst {max(regrets):.2f}")


if __name__ == "__main__":
    main()
