"""cuFFT's functions on the emulated device: what `fastconv.cuda.cufft` calls, and its rules.

Transforms are NumPy's, in the dtype that cuFFT has. A plan has a stream and a work area before it
is executed, its arrays are aligned and its own, and frequencies that are transformed back are lost.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import scipy.fft

from fastconv.cuda import launch

#: By cufftType: reals and complex numbers, and whether it goes back.
_KINDS = {
    0x2A: (np.float32, np.complex64, False), 0x2C: (np.float32, np.complex64, True),
    0x6A: (np.float64, np.complex128, False), 0x6C: (np.float64, np.complex128, True),
}  # fmt: skip


@dataclasses.dataclass
class Plan:
    allocates: bool = True
    shape: tuple[int, ...] = ()
    batch: int = 0
    kind: int = 0
    work_bytes: int = 0
    stream: int | None = None
    work: int | None = None


class Library:
    """What `ctypes.CDLL` would be of cuFFT; functions answer a cufftResult."""

    def __init__(self) -> None:
        self.plans: dict[int, Plan] = {}
        self.executed: list[tuple[tuple[int, ...], int, int]] = []
        self.fails: str | None = None

    def cufftCreate(self, handle: Any) -> int:
        if launch.driver().capturing:  # type: ignore[attr-defined]
            return 5
        if self.fails == "cufftCreate":
            return 5
        number = len(self.plans) + 1
        handle._obj.value = number
        self.plans[number] = Plan()
        return 0

    def cufftSetAutoAllocation(self, handle: Any, allocate: int) -> int:
        self.plans[handle.value].allocates = bool(allocate)
        return 0

    def cufftMakePlanMany64(
        self, handle: Any, rank: int, n: Any, inembed: Any, istride: Any, idist: Any, onembed: Any,
        ostride: Any, odist: Any, kind: int, batch: Any, work: Any,
    ) -> int:  # fmt: skip
        plan = self.plans[handle.value]
        assert inembed is onembed is None and not plan.allocates
        plan.shape, plan.batch, plan.kind = tuple(n), batch.value, kind
        if not 1 <= rank <= 3 or rank != len(n) or min(n) < 2 or plan.batch < 1:
            return 8
        plan.work_bytes = work._obj.value = 40 + 8 * math.prod(n)
        return 0

    def cufftSetStream(self, handle: Any, stream: Any) -> int:
        self.plans[handle.value].stream = stream.value or 0
        return 0

    def cufftSetWorkArea(self, handle: Any, work: Any) -> int:
        self.plans[handle.value].work = work.value
        return 0

    def cufftDestroy(self, handle: Any) -> int:
        return 0 if self.plans.pop(handle.value, None) else 1

    def _execute(self, handle: Any, source: Any, target: Any) -> int:
        plan, driver = self.plans[handle.value], launch.driver()
        memory = driver.memory  # type: ignore[attr-defined]
        real, pair, back = _KINDS[plan.kind]
        assert plan.work is not None and plan.stream in driver.streams  # type: ignore[attr-defined]
        bins = (*plan.shape[:-1], plan.shape[-1] // 2 + 1)
        of_reals = source, target
        reals, pairs = reversed(of_reals) if back else of_reals
        assert reals.value % np.dtype(pair).itemsize == pairs.value % np.dtype(pair).itemsize == 0
        x = memory.array(reals.value, (plan.batch, *plan.shape), real)
        z = memory.array(pairs.value, (plan.batch, *bins), pair)
        for a, at in ((x, reals.value), (z, pairs.value)):  # all of it is allocated, and apart
            memory.at(np.array([at, at + a.nbytes - 1]), 1)
        memory.at(np.array([plan.work, plan.work + plan.work_bytes - 1]), 1)
        work = memory.array(plan.work, (plan.work_bytes,), np.uint8)
        assert not any(np.shares_memory(a, b) for a, b in ((x, z), (x, work), (z, work)))
        work[:] = 0xFF
        axes = tuple(range(1, 1 + len(plan.shape)))
        self.executed.append((plan.shape, plan.batch, plan.kind))
        with np.errstate(all="ignore"):
            if back:
                x[...] = scipy.fft.irfftn(z, plan.shape, axes, norm="forward")
                z[...] = np.nan
            else:
                z[...] = scipy.fft.rfftn(x, axes=axes)
        return 0

    cufftExecR2C = cufftExecC2R = cufftExecD2Z = cufftExecZ2D = _execute
