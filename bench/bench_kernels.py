"""Kernels of each instruction set: percent of the calibrated peak that they do *not* reach.

The peak is that of fused multiply-adds on this machine, whatever the instruction set, timed in
turns with the kernel. Counted are the products of the definition, so that only methods which make
them all are here; 0 would be a kernel that does nothing else.
"""

from __future__ import annotations

import os
from typing import Any

from . import common, libraries, shapes

ISAS = ["baseline", "avx2", "avx512", "neon"]

CASES = [
    shapes.NN[name]
    for name in (
        "resnet50.3x3.64@56", "resnet50.1x1.256to64@56", "resnet50.stem.7x7s2",
        "convnext.dw7x7.96@56", "mobilenet.dw3x3.144@56", "speech.1d.k3.80to512x3000",
        "float64.3x3.64@56",
    )
]  # fmt: skip

#: Seconds that one figure is timed for.
BUDGET = 3.0

METHODS = ["direct", "implicit_gemm", "depthwise", "im2col"]


class Peak:
    """Each process takes one instruction set: which, it learns before it imports fastconv."""

    version = "1"
    unit = "%"
    timeout = 120
    params = (CASES, METHODS, ISAS)
    param_names = ("layer", "method", "isa")

    def setup(self, text: str, method: str, isa: str) -> None:
        common.pin(1)
        os.environ["FASTCONV_ISA"] = isa
        try:
            from fastconv._ext import core
        except ImportError as error:
            raise NotImplementedError(str(error)) from None
        if core.isa() != isa:
            raise NotImplementedError(f"this processor has no {isa}")
        common.without_wisdom()
        c = shapes.case(text)
        try:
            self.work, _ = libraries.fastconv_plan(c, method=method)
        except ValueError as refused:
            raise NotImplementedError(str(refused)) from None
        self.operations = common.operations(c, self.work.array(self.work.run()))

    def track_unused_peak(self, text: str, method: str, isa: str) -> float:
        from fastconv._timer import compare

        peak, flops = common.peak(shapes.case(text).dtype)
        works: list[Any] = [self.work.run, peak]
        mine, least = (t.seconds for t in compare(works, rounds=15, budget=BUDGET))
        return 100 * (1 - (self.operations / mine) / (flops / least))
