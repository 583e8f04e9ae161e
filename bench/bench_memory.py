"""Memory: of the whole process at its peak, and the workspace that a plan asks for."""

from __future__ import annotations

from typing import Any

from . import common, libraries, shapes

CASES = [*shapes.NN.values(), *shapes.SIGNAL.values(), *shapes.IMAGE.values()]


class Peak(common.Timed):
    """Bytes of a process that imports fastconv, makes the operands and calls once."""

    params = (CASES,)
    param_names = ("case",)

    def setup(self, text: str) -> None:
        self.prepare(text)

    def peakmem_call(self, text: str) -> None:
        self.call()


class Workspace:
    """Bytes that a call takes at most beside its operands and packed weights."""

    version = "1"
    unit = "bytes"
    timeout = 120
    params = (CASES,)
    param_names = ("case",)

    def setup(self, text: str) -> None:
        import fastconv

        common.pin(1)
        common.without_wisdom()
        if not hasattr(getattr(fastconv, "Plan", None), "workspace_bytes"):
            raise NotImplementedError("plans of this commit do not say")
        self.plan: Any
        _, self.plan = libraries.fastconv_plan(shapes.case(text))

    def track_workspace(self, text: str) -> int:
        return int(self.plan.workspace_bytes)
