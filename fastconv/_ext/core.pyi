from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from fastconv._machine import Machine
from fastconv._problem import Problem

DTYPES: tuple[str, ...]
BOUNDARIES: tuple[str, ...]
ACTIVATIONS: tuple[str, ...]
PROBLEM_FEATURES: tuple[str, ...]
CANDIDATE_FEATURES: tuple[str, ...]

def isas() -> tuple[str, ...]: ...
def compiled_isas() -> tuple[str, ...]: ...
def isa() -> str: ...
def offered_isas() -> tuple[str, ...]: ...
def is_rank_one(w: npt.NDArray[Any]) -> bool: ...
def low_rank(w: npt.NDArray[Any], dropping: bool) -> int: ...
def multiply_spectra(
    x: npt.NDArray[Any],
    w: npt.NDArray[Any],
    y: npt.NDArray[Any],
    first: int,
    begin: int,
    end: int,
    isa: str | None = None,
) -> None: ...
def byte_scores(
    x: npt.NDArray[np.uint8],
    taps: tuple[int, int],
    products: npt.NDArray[np.int32],
    n: float,
    norm: float,
    total: npt.NDArray[np.float64],
    y: npt.NDArray[np.float32],
    threads: int = 1,
    isa: str | None = None,
) -> None: ...
def scores(
    x: npt.NDArray[Any],
    taps: tuple[int, int] | None,
    products: npt.NDArray[Any],
    rule: tuple[float, float, float, float, float],
    y: npt.NDArray[Any],
    threads: int = 1,
    isa: str | None = None,
) -> npt.NDArray[np.bool_]: ...
def total(x: npt.NDArray[Any], threads: int = 1) -> float: ...
def centre(
    x: npt.NDArray[Any], mean: float, y: npt.NDArray[np.float64], threads: int = 1
) -> float: ...
def transform_lanes(dtype: npt.DTypeLike, isa: str | None = None) -> int: ...
def transform(
    z: npt.NDArray[Any],
    radices: Sequence[int],
    factors: npt.NDArray[Any],
    back: bool = False,
    isa: str | None = None,
) -> None: ...
def quantize(
    sums: npt.NDArray[Any],
    scale: npt.NDArray[Any],
    zero: int,
    y: npt.NDArray[Any],
    isa: str | None = None,
) -> None: ...
def widen(x: npt.NDArray[Any], threads: int, isa: str | None = None) -> npt.NDArray[Any]: ...
def narrow(
    x: npt.NDArray[Any], y: npt.NDArray[Any], threads: int, isa: str | None = None
) -> None: ...
def finish(
    y: npt.NDArray[Any],
    residual: npt.NDArray[Any] | None,
    activation: tuple[int, float, float] | None,
    isa: str | None = None,
) -> None: ...
def signature(
    owner: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, list[npt.NDArray[Any]]] | None: ...
def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]: ...
def kept_bytes() -> int: ...
def drop_kept() -> None: ...
def address(a: npt.NDArray[Any]) -> int: ...
def same_bytes(a: npt.NDArray[Any], b: npt.NDArray[Any], threads: int = 1) -> bool: ...
def best_blocks(
    axes: list[tuple[list[int], int, int, int, int]],
    rows: list[int] | None,
    blocks: int,
    parts: int,
    paired: bool,
    c: int,
    k: int,
    real: int,
    rates: tuple[tuple[int, float], ...],
    left_over: tuple[int, float],
    ns: tuple[float, float, float, float],
    longest: int,
    most: int,
) -> list[tuple[float, float, tuple[int, ...]]]: ...
def problem_features(problem: Problem) -> list[float]: ...
def candidate_features(
    problem: Problem, config: dict[str, int | str], cost: float
) -> list[float]: ...

class Geometry:
    def __init__(self, problem: Problem) -> None: ...

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Value = TypeVar("_Value")

class derived(Generic[_Value]):
    def __init__(self, function: Callable[[Any], _Value]) -> None: ...
    def __get__(self, problem: Any, owner: Any = None) -> _Value: ...

def once(function: _Function) -> _Function: ...

class DirectCost:
    def __init__(self, **constants: Any) -> None: ...
    def seconds(
        self, p: Geometry, config: Mapping[str, int | str], machine: Machine, threads: int
    ) -> float: ...

ImplicitGemmCost = AmxWinogradCost = DirectCost  # of the same methods

def winograd_tiles(p: Geometry, made: tuple[int, ...]) -> int: ...

class WinogradCost:
    def __init__(self, **constants: Any) -> None: ...
    def seconds(
        self,
        p: Geometry,
        config: Mapping[str, int | str],
        machine: Machine,
        threads: int,
        tile: Any,
    ) -> float: ...

class PanelsCost:
    def __init__(self, **constants: Any) -> None: ...
    def seconds(
        self,
        p: Geometry,
        config: Mapping[str, int | str],
        machine: Machine,
        threads: int,
        pixels: tuple[int, ...],
        window: tuple[int, ...],
    ) -> float: ...

class Col2imCost:
    def __init__(self, **constants: Any) -> None: ...
    def seconds(
        self, p: Geometry, config: Mapping[str, int | str], machine: Machine, threads: int
    ) -> float: ...

def im2col_seconds(
    p: Geometry,
    config: Mapping[str, int | str],
    machine: Machine,
    threads: int,
    gflops: float,
    lost: float,
) -> float: ...
def amx_axes(p: Geometry) -> tuple[tuple[int, int, int, int], ...]: ...

class AmxSplitCost:
    def __init__(self, **constants: Any) -> None: ...
    def is_one_block(self, p: Geometry, config: Mapping[str, int | str]) -> bool: ...
    def error_bound(
        self, p: Geometry, config: Mapping[str, int | str], epsilon: float, exact: bool
    ) -> float: ...
    def seconds(self, p: Geometry, machine: Machine, threads: int) -> float: ...

class DepthwiseCost:
    def __init__(self, **constants: Any) -> None: ...
    def seconds(self, p: Geometry, machine: Machine, threads: int) -> float: ...
    def woven_seconds(self, p: Geometry, machine: Machine, threads: int) -> float: ...

class DotCost:
    def __init__(self, **constants: Any) -> None: ...
    def seconds(self, p: Geometry, machine: Machine, threads: int) -> float: ...

class SeparableCost:
    def __init__(self, **constants: Any) -> None: ...
    def seconds(self, p: Geometry, threads: int, row: int, bytes: bool) -> float: ...

def fourier_floor(
    p: Geometry, butterfly: float, byte_ns: float, sample: float, product: float
) -> float: ...

class FourierCost:
    def __init__(self, **constants: Any) -> None: ...
    def seconds(
        self, p: Geometry, layout: tuple[Any, ...], machine: Machine, threads: int, chunk: int
    ) -> float: ...

def amx_winograd_tiles(p: Geometry, m: int) -> int: ...
def blocks_floor(
    p: Geometry, rate: float, product_byte: float, weight: float, factor: float
) -> float: ...
def copy_within(x: npt.NDArray[Any], y: npt.NDArray[Any], limit: float) -> bool: ...
def flushes() -> int: ...
def flush(mode: int) -> None: ...
def amx_absent() -> str | None: ...
def quads_absent() -> str | None: ...
def allow_vnni(allowed: bool) -> bool: ...
def amx_int8_absent() -> str | None: ...
def multiply_tiles(
    x: npt.NDArray[np.uint16],
    w: npt.NDArray[np.uint16],
    sums: npt.NDArray[np.float32],
    products: int,
    isa: str,
    emulated: bool,
) -> None: ...
def multiply_bytes(
    x: npt.NDArray[Any], w: npt.NDArray[Any], sums: npt.NDArray[np.int32], isa: str, emulated: bool
) -> None: ...
def is_finite(a: npt.NDArray[Any]) -> bool: ...

class Forest:
    def __init__(
        self,
        feature: npt.NDArray[np.int32],
        threshold: npt.NDArray[np.float64],
        leaves: npt.NDArray[np.float64],
    ) -> None: ...
    def expected(
        self,
        problem: Problem,
        found: Sequence[tuple[str, Mapping[str, int | str], float]],
        solvers: dict[str, int],
    ) -> list[float]: ...

class Tensors:
    def __init__(self, grad_enabled: Callable[[], bool]) -> None: ...

def read_by(
    kind: type, reader: Tensors | Callable[[Any], tuple[int, tuple[Any, ...]] | None]
) -> None: ...

class Recent:
    def __init__(self, size: int) -> None: ...
    def clear(self) -> None: ...
    def arrays(self, args: tuple[Any, ...], options: dict[str, Any]) -> list[Any] | None: ...
    def keep(
        self,
        owner: Any,
        mode: str | None,
        args: tuple[Any, ...],
        options: dict[str, Any],
        act: Callable[[list[Any]], Any],
    ) -> None: ...
    def call(
        self, owner: Any, mode: str | None, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any: ...

class Launches:
    def __init__(
        self,
        entries: tuple[int, int, int, int],
        spans: list[tuple[int, int, int]],
        steps: list[Any],
    ) -> None: ...
    def lie_apart(self, addresses: list[int]) -> bool: ...
    def __call__(self, stream: int, addresses: list[int]) -> int: ...

class View:
    def __init__(self, part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> None: ...
    def of(self, whole: npt.NDArray[Any]) -> npt.NDArray[Any]: ...

class Call:
    packed_bytes: int
    def __init__(
        self,
        driver: str,
        isa: str,
        problem: Problem,
        values: Sequence[int] = (),
        threads: int | None = None,
        x_dtype: str | None = None,
        y_dtype: str | None = None,
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def pack(self, w: npt.NDArray[Any]) -> npt.NDArray[np.uint8]: ...
    def run(
        self,
        x: npt.NDArray[Any],
        packed: npt.NDArray[np.uint8],
        epilogue: tuple[Any, Any, tuple[Any, ...] | None] | None,
        y: npt.NDArray[Any],
        left: npt.NDArray[np.uint8] | None = None,
    ) -> None: ...
