"""Layers on a GPU, arrays there already and the device waited for; skipped where there is none."""

from __future__ import annotations

import importlib.util
from typing import Any

from . import common, shapes

METHODS = ["auto", *shapes.CUDA_METHODS]


def absent() -> str | None:
    """Why nothing can be run on a GPU; None when it can."""
    for module in ("numba", "fastconv.cuda"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not there"
    from numba import cuda

    return None if cuda.is_available() else "there is no GPU that numba can use"


class Layer(common.Timed):
    params = ([t for t in shapes.NN.values() if t.split()[1] == "f32"], METHODS)
    param_names = ("layer", "method")

    def setup(self, text: str, method: str) -> None:
        reason = absent()
        if reason is not None:
            raise NotImplementedError(reason)
        from numba import cuda

        import fastconv

        common.without_wisdom()
        c = shapes.case(text)
        x, w = (cuda.to_device(a) for a in shapes.arrays(c))
        function: Any = getattr(fastconv.nn, c.function)
        options = {**c.options, **({} if method == "auto" else {"method": method})}
        if c.size is not None:
            options["input_size" if c.function.endswith("_input") else "weight_size"] = c.size
            options["grad_output"] = x if c.function.endswith("_input") else w
        operands = {"_input": {"w": w}, "weight": {"x": x}}.get(c.function[-6:], {"x": x, "w": w})
        self.wait = cuda.synchronize
        self.call = lambda: function(**operands, **options)
        try:
            self.call()
        except (TypeError, ValueError) as refused:
            raise NotImplementedError(str(refused)) from None

    def time_call(self, text: str, method: str) -> None:
        self.call()
        self.wait()
