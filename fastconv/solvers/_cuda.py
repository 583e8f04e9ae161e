"""What every solver on a GPU shares: plans that launch kernels, and their parameters."""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar

import numpy as np

from fastconv._epilogue import CLAMP, GELU, SILU, Activation, Quantization
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config, Solver
from fastconv.cuda.interop import DeviceArray
from fastconv.cuda.kernel import Kernel, divisor
from fastconv.cuda.launch import Gpu, Launch
from fastconv.solvers._polyphase import phases

#: Dtypes that arrays may be stored in, and what each is summed in.
STORED = {"f16": "f32", "bf16": "f32", "f32": "f32", "f64": "f64"}

#: Complex dtypes, and those that their numbers are two of.
PART = {"c64": "f32", "c128": "f64"}

#: Largest index in elements within an image, a filter or a row, which kernels keep in 32 bits.
MOST = 2**31 - 1

#: Seconds of a launch on the host and the device; not yet measured (docs/gpu.md).
LAUNCH = 5e-6

#: Phases of a dilated input that are worth a launch each.
MOST_PHASES = 64


class CudaSolver(Solver):
    """A solver whose arrays live on a GPU: it implements the `_dense` methods, for problems without
    input dilation; one with it is so many dense problems, a launch each (`_polyphase.py`)."""

    device: ClassVar[str] = "cuda"

    #: Dtypes that its kernels read and write, and what each is summed in.
    stored: ClassVar[dict[str, str]] = STORED

    #: Whether x, w and y may be of different ones.
    mixed_dtypes: ClassVar[bool] = False

    def why_not(self, problem: Problem) -> str | None:
        if problem.device != "cuda":
            return "it runs on a GPU only"
        reason = self.why_not_stored(problem)
        if reason is not None:
            return reason
        most = MOST // 2 if problem.is_complex else MOST
        if max(math.prod(problem.x_shape[1:]), math.prod(problem.y_shape[1:])) > most:
            return "an image has more elements than 32 bits count"
        if math.prod(problem.w_shape) > most:
            return "the kernel has more elements than 32 bits count"
        if max(problem.padded) >= 1 << 30:
            return "its padded input has more positions than 30 bits count"
        if math.prod(problem.input_dilation) > MOST_PHASES:
            return f"input dilation makes more than {MOST_PHASES} phases"
        reasons = (self.why_not_dense(part) for part in dense_parts(problem))
        return next((reason for reason in reasons if reason is not None), None)

    def why_not_stored(self, problem: Problem) -> str | None:
        """`why_not`, as far as dtypes go."""
        if self.stored.get(problem.x_dtype) != problem.dtype:
            return f"it has no kernels for {problem.x_dtype} summed in {problem.dtype}"
        for dtype in (problem.w_dtype, problem.y_dtype):
            if dtype != problem.x_dtype and not self.mixed_dtypes:
                return "x, w and y are of different dtypes"
            if self.stored.get(dtype) != problem.dtype:
                return f"it has no kernels for {dtype} summed in {problem.dtype}"
        return None

    @abc.abstractmethod
    def why_not_dense(self, problem: Problem) -> str | None:
        """`why_not` of a problem on a GPU, of one dtype that kernels know."""

    @abc.abstractmethod
    def cost_dense(self, problem: Problem, config: Config, gpu: Gpu) -> float:
        """`cost`."""

    @abc.abstractmethod
    def workspace_dense(self, problem: Problem, config: Config) -> int:
        """`workspace`."""

    @abc.abstractmethod
    def bound_dense(self, problem: Problem, config: Config) -> float:
        """`error_bound`."""

    @abc.abstractmethod
    def plan_dense(self, problem: Problem, config: Config) -> CudaPlan:
        """`plan`."""

    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        gpu = machine if isinstance(machine, Gpu) else Gpu()
        return 1e-6 + sum(self.cost_dense(part, config, gpu) for part in dense_parts(problem))

    def workspace(self, problem: Problem, config: Config) -> int:
        return sum(self.workspace_dense(part, config) for part in dense_parts(problem))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return max((self.bound_dense(p, config) for p in dense_parts(problem)), default=0.0)

    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        if max(problem.input_dilation) == 1:
            return self.plan_dense(problem, config)
        return PhasesPlan(problem, self, config)

    def reads_stored(self, problem: Problem) -> bool:
        return problem.x_dtype in self.stored

    def writes_stored(self, problem: Problem) -> bool:
        return problem.y_dtype in self.stored


class CudaPlan(Plan):
    """Arrays are `DeviceArray`; calls start kernels on their stream, and wait for nothing."""

    def __init__(self, problem: Problem, solver: Solver, config: Config) -> None:
        super().__init__(problem, solver, config)
        self.is_empty = False  # kernels sum over nothing as over anything

    def pack_stored(self, w: Any) -> Any:
        w = self.flipped(w)
        _ = w.pointer  # which writes those of `Taps`
        return self.pack(w)

    def execute(self, x: Any, packed: Any, epilogue: Any, y: Any) -> None:
        raise AssertionError("a plan on a GPU is called with arrays on it")

    @abc.abstractmethod
    def start(
        self, x: DeviceArray, packed: Any, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        """Start what writes every element of y."""

    def __call__(
        self, x: Any, packed: Any, bias: Any, y: Any, residual: Any = None,
        activation: Activation | Quantization | None = None, flush: bool = False,
    ) -> None:  # fmt: skip
        assert not isinstance(activation, Quantization)  # front ends refuse it
        self.start(x, packed, bias, y, residual, activation)


class UnpackedPlan(CudaPlan):
    """One launch, which reads the weights as they lie; one is kept for each way that arrays lie."""

    def __init__(self, problem: Problem, solver: Solver, config: Config) -> None:
        super().__init__(problem, solver, config)
        self._launches: dict[Any, Launch] = {}

    def pack(self, w: Any) -> Any:
        return w

    def start(
        self, x: DeviceArray, packed: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        key = (
            x.steps, packed.steps, bias and bias.steps, y.steps, residual and residual.steps,
            activation, x.conjugated, packed.conjugated,
        )  # fmt: skip
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self.launch(x, packed, bias, y, residual, activation)
        launch(
            x.ordinal, x.stream, x.pointer, packed.pointer, pointer(bias), pointer(residual),
            y.pointer,
        )  # fmt: skip

    @abc.abstractmethod
    def launch(
        self, x: DeviceArray, w: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> Launch:  # fmt: skip
        """Of arrays that lie as these do."""


def stored_as(problem: Problem, dense: Problem) -> Problem:
    """A phase with its problem's stored dtypes, which `phases` leaves out."""
    return dense.replace(x_dtype=problem.x_dtype, w_dtype=problem.w_dtype, y_dtype=problem.y_dtype)


def dense_parts(problem: Problem) -> list[Problem]:
    """The problems without input dilation that a problem is made of."""
    if max(problem.input_dilation) == 1:
        return [problem]
    return [stored_as(problem, p.problem) for p in phases(problem) if p.problem is not None]


def direct_plan(problem: Problem) -> CudaPlan:
    """What `cuda_direct` guesses to be its best."""
    # the table lists the solvers that import this module
    from fastconv.solvers.cuda_direct import CudaDirect

    direct = CudaDirect()
    return direct.plan_dense(problem, direct.configs(problem, None)[0])


def nothing_to_sum(problem: Problem, outputs: tuple[int, ...]) -> Problem:
    """The problem of outputs that no tap meets: bias, residual and activation alone."""
    ones, none = (1,) * len(outputs), ((0, 0),) * len(outputs)
    return problem.replace(
        size=outputs, kernel=ones, channels=0, groups=1, stride=ones, dilation=ones,
        input_dilation=ones, padding=none, flip=False, layout="strided",
    )  # fmt: skip


class PhasesPlan(CudaPlan):
    """A launch for each phase of the outputs, which no other phase writes."""

    def __init__(self, problem: Problem, solver: CudaSolver, config: Config) -> None:
        super().__init__(problem, solver, config)
        self._parts = []
        for part in phases(problem):
            if part.problem is not None:
                plan = solver.plan_dense(stored_as(problem, part.problem), config)
            else:
                outputs = (range(n)[s] for n, s in zip(problem.out, part.y[2:]))
                empty = nothing_to_sum(problem, tuple(map(len, outputs)))
                plan = direct_plan(empty)
            self._parts.append((part, plan))

    def pack(self, w: Any) -> Any:
        return [plan.pack(w[part.w]) if part.problem else w for part, plan in self._parts]

    def start(
        self, x: DeviceArray, packed: Any, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        for (part, plan), weights in zip(self._parts, packed):
            own = residual[part.y] if residual is not None else None
            plan.start(x[part.x], weights, bias, y[part.y], own, activation)


def are_parts(problem: Problem) -> bool:
    """Whether complex numbers are multiplied by such, or by real ones of their parts' dtype."""
    dtype = problem.dtype
    kinds = {dtype, PART.get(dtype)}
    is_known = dtype in PART and problem.y_dtype == dtype
    return is_known and {problem.x_dtype, problem.w_dtype} <= kinds


def parts_of(a: DeviceArray) -> DeviceArray:
    """Complex numbers' parts as an axis after the first, in place of one element; of a bias, of
    what there is one of."""
    shape, steps = (a.shape[0], 2, *a.shape[2:]), (2 * a.steps[0], 1, *(2 * s for s in a.steps[2:]))
    if a.ndim == 1:
        shape, steps = (2,), (1,)
    real = np.empty(0, a.dtype).real.dtype
    return DeviceArray(
        a.pointer, shape, steps, real, a.owner, a.ordinal, a.stream, a.flags.writeable
    )  # fmt: skip


def activation_name(activation: Activation | None) -> str:
    """The operation of `intrinsics.activate`; none is a clamp without limits."""
    code = CLAMP if activation is None else activation.code
    return {CLAMP: "clamp", SILU: "silu", GELU: "gelu"}[code]


def limits(activation: Activation | None) -> tuple[float, float]:
    """Of the clamp."""
    if activation is None or activation.code != CLAMP:
        return -math.inf, math.inf
    return activation.low, activation.high


def launch_of(kernel: Kernel, grid: tuple[int, int, int], given: dict[str, Any]) -> Launch:
    """A kernel with those of its parameters that are `given` by name."""
    constants = [given[name] for name, kind in kernel.parameters if kind != "pointer"]
    return Launch(kernel, grid, constants)


def divisors(**by: int) -> dict[str, int]:
    """What kernels divide by: ``name_div`` and ``name_shift`` of each (`kernel.divisor`)."""
    found = {}
    for name, d in by.items():
        found[f"{name}_div"], found[f"{name}_shift"] = divisor(max(1, d))
    return found


def planes(a: DeviceArray | None) -> tuple[int, int, int, int]:
    """Steps along (batch or filter, channel, row, column); one dimension is one row."""
    if a is None:
        return 0, 0, 0, 0
    return a.steps[0], a.steps[1], 0 if a.ndim == 3 else a.steps[-2], a.steps[-1]


def check_reach(problem: Problem, a: DeviceArray | None) -> None:
    """ValueError where an image of `a`, padding included, reaches beyond 32-bit indices."""
    if a is None:
        return
    pads = [0, *map(max, problem.padding)]
    reach = sum(abs(s) * (n + 2 * pad) for s, n, pad in zip(a.steps[1:], a.shape[1:], pads))
    if reach > (MOST // 2 if problem.is_complex else MOST):
        raise ValueError(
            f"expected images that reach over at most {MOST} elements, got shape {a.shape} with"
            f" strides {a.steps}"
        )


def pointer(a: DeviceArray | None) -> int:
    """An array's address; 0 for none."""
    return 0 if a is None else a.pointer
