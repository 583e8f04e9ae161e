"""`Problem`: what is to be computed, as one hashable value and one line of text.

Forward convolution, correlation, transposed convolution and both gradients are the same problem
with different numbers. With e the input dilation, u the stride, l the dilation and a the padding
before, output o of filter k is ::

    y[n, k, o] = sum over c, r of  X[n, c, o*u + r*l - a] * w[k, c, r']

where X is x with e-1 zeros between neighbours, extended beyond its ends by the boundary rule, and
r' is r (correlation) or its mirror image (``flip``: convolution).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import re
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastconv._ext import core

Array = npt.NDArray[Any]

#: Extension of the input beyond its ends, named as in scipy.ndimage: ``reflect`` repeats the edge
#: sample (d c b a | a b c d | d c b a), ``mirror`` does not (d c b | a b c d | c b a).
BOUNDARIES = ("zeros", "constant", "reflect", "mirror", "nearest", "wrap")

#: How much rounding error a call accepts, strictest first; docs/accuracy.md states each promise.
ACCURACIES = ("strict", "balanced", "fast")

#: Memory order of x and y: channels before space, channels last, or any other strides.
LAYOUTS = ("NC*", "N*C", "strided")

#: Text of each element type. float16 and bfloat16 are storage only: sums are float32.
DTYPES = {
    "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "f80": "longdouble",
    "c64": "complex64", "c128": "complex128", "c160": "clongdouble", "bool": "bool",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip
_SHORT = {long: short for short, long in DTYPES.items()}

#: The most spatial dimensions a problem may have (FC_DIMS in fc.h).
MAX_DIMS = 8

#: Largest size of an array, in elements, and of a padded axis: offsets in bytes must fit int64.
MAX_SIZE = 2**58

#: Most outer products that a kernel is known to be a sum of (FC_LOW_RANK in drivers/separable.h).
MOST_TERMS = 4

_NAN = float("nan")  # one object, so that two problems filled with NaN compare equal


def dtype_name(dtype: Any) -> str:
    """Short text of a dtype (``f32``); TypeError names what is accepted."""
    try:
        return _dtype_name(dtype if isinstance(dtype, np.dtype) else np.dtype(dtype))
    except TypeError as error:
        raise TypeError(f"unsupported dtype {dtype!r}: {error}") from None


@functools.cache  # NumPy makes a dtype's name up anew each time, in 2 us
def _dtype_name(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "O" or dtype.hasobject:
        raise TypeError("object arrays are not supported")
    name = _SHORT.get(dtype.name)
    if name is None and dtype.newbyteorder("=") == np.dtype(np.longdouble):
        name = "f80"  # numpy names it by its width: float128, float96 or plain float64
    if name is None and dtype.newbyteorder("=") == np.dtype(np.clongdouble):
        name = "c160"
    if name is None:
        raise TypeError("expected a bool, integer, floating or complex dtype")
    return name


@functools.cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a short text; bfloat16 comes from ml_dtypes, which must be installed."""
    if name == "bf16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(DTYPES[name])


#: The dtype that sums are kept in when x, w and y are stored in one (or a promotion of both).
_COMPUTE = {"f16": "f32", "bf16": "f32"}


def compute_name(x: str, w: str) -> str:
    """Dtype that products and sums of stored dtypes `x` and `w` are computed in."""
    if x == w:
        return _COMPUTE.get(x, x)
    if "bf16" in (x, w):  # ml_dtypes does not promote with every NumPy dtype
        other = x if w == "bf16" else w
        return {"f64": "f64", "c64": "c64", "c128": "c128", "f80": "f80", "c160": "c160"}.get(
            other, "f32"
        )
    promoted = dtype_name(np.result_type(numpy_dtype(x), numpy_dtype(w)))
    return _COMPUTE.get(promoted, promoted)


def _number(value: Any) -> complex:
    """`value` as a Python number, whose repr reads back; one object for every NaN."""
    if type(value) is float and value == value:
        return value
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return int(value)
    number = complex(value)
    if number != number:
        return _NAN
    return number if number.imag else number.real


def _sizes(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values if len(set(values)) > 1 else values[:1]))


derived, once = core.derived, core.once


def _refuse(expected: str, came: object) -> NoReturn:
    raise ValueError(f"expected {expected}, got {came}")


_AXES = {1: ("w",), 2: ("h", "w"), 3: ("d", "h", "w")}
_TAPS = {1: ("s",), 2: ("r", "s"), 3: ("t", "r", "s")}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One convolution, canonical and hashable. All tuples have one entry a spatial dimension.

    `padding` is (before, after) in samples of the dilated input, never negative. `dtype` is what
    sums are computed in; `x_dtype`, `w_dtype` and `y_dtype` are what the arrays hold. `cval` fills
    beyond the ends when `boundary` is ``constant``. `prepared` says that w is known before x and
    used again, so that packing it is not part of the cost. `rank` is 1 when w is known to be, for
    each filter, the outer product of a vector an axis, more when it is a sum of as many, and 0 when
    that is not known; `box` says that all weights are equal.
    `deterministic` asks for results that do not depend on `threads`, nor on what was measured.
    `nonnegative` promises that x and w have no negative number.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    batch: int = 1
    channels: int = 1
    filters: int = 1
    groups: int = 1
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    input_dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    boundary: str = "zeros"
    cval: complex = 0.0
    flip: bool = False
    dtype: str = "f32"
    x_dtype: str = ""
    w_dtype: str = ""
    y_dtype: str = ""
    layout: str = "NC*"
    prepared: bool = False
    device: str = "cpu"
    threads: int = 1
    accuracy: str = "balanced"
    rank: int = 0
    box: bool = False
    deterministic: bool = False
    nonnegative: bool = False

    def __post_init__(self) -> None:
        ndim, own = len(self.size), self.__dict__  # the class is frozen
        ones = (1,) * ndim
        own["stride"] = self.stride or ones
        own["dilation"] = self.dilation or ones
        own["input_dilation"] = self.input_dilation or ones
        own["padding"] = self.padding or ((0, 0),) * ndim
        own["x_dtype"] = self.x_dtype or self.dtype
        own["w_dtype"] = self.w_dtype or self.dtype
        own["y_dtype"] = self.y_dtype or self.dtype
        own["dtype"] = _COMPUTE.get(self.dtype, self.dtype)  # 16-bit floats are stored, not summed
        own["cval"] = _number(self.cval)
        self._check(ndim)

    def _check(self, ndim: int) -> None:
        if not 1 <= ndim <= MAX_DIMS:
            _refuse(f"1 to {MAX_DIMS} spatial dimensions", ndim)
        own = self.__dict__
        for name in ("kernel", "stride", "dilation", "input_dilation", "padding"):
            if len(own[name]) != ndim:
                _refuse(f"{ndim} values for {name}", own[name])
        if min(self.size) < 0:
            _refuse("input sizes of at least 0", self.size)
        if min(self.kernel) < 1:
            _refuse("kernel sizes of at least 1", self.kernel)
        if min(self.stride) < 1:
            _refuse("a stride of at least 1", self.stride)
        if min(self.dilation) < 1:
            _refuse("a dilation of at least 1", self.dilation)
        if min(self.input_dilation) < 1:
            _refuse("an input dilation of at least 1", self.input_dilation)
        if min(map(min, self.padding)) < 0:
            _refuse("padding of at least 0", self.padding)
        if self.batch < 0 or self.channels < 0:
            _refuse("batch and channels of at least 0", (self.batch, self.channels))
        if self.groups < 1:
            _refuse("at least one group", self.groups)
        if self.filters < 0:
            _refuse("filters of at least 0", self.filters)
        for what in ("channels", "filters"):
            if own[what] % self.groups:
                _refuse(f"{what} divisible by {self.groups} groups", own[what])
        if self.boundary not in BOUNDARIES:
            _refuse(f"a boundary out of {BOUNDARIES}", repr(self.boundary))
        if self.accuracy not in ACCURACIES:
            _refuse(f"an accuracy out of {ACCURACIES}", repr(self.accuracy))
        if self.layout not in LAYOUTS:
            _refuse(f"a layout out of {LAYOUTS}", repr(self.layout))
        if self.threads < 1:
            _refuse("at least one thread", self.threads)
        if not 0 <= self.rank <= MOST_TERMS:
            _refuse(f"a rank of 1 to {MOST_TERMS}, or 0 for an unknown one", self.rank)
        if self.box and self.rank != 1:
            _refuse("a box to be of rank 1", self.rank)
        for name in (self.dtype, self.x_dtype, self.w_dtype, self.y_dtype):
            if name not in DTYPES:
                _refuse(f"a dtype out of {tuple(DTYPES)}", repr(name))
        if self.boundary != "zeros":
            self._check_boundary()
        padded = self.padded
        if max(padded) > MAX_SIZE:
            _refuse(f"padded sizes up to {MAX_SIZE}", padded)
        if any(p < s for p, s in zip(padded, self.span)):
            _refuse("a kernel no larger than the padded input",
                    f"kernel {self.kernel} spanning {self.span} over {padded}")  # fmt: skip
        for what, shape in (("x", self.x_shape), ("w", self.w_shape), ("y", self.y_shape)):
            if math.prod(shape) > MAX_SIZE:
                _refuse(f"{what} of at most {MAX_SIZE} elements", shape)

    def _check_boundary(self) -> None:
        if max(self.input_dilation) > 1:
            _refuse("no input dilation with this boundary",
                    f"{self.input_dilation} with {self.boundary!r}")  # fmt: skip
        if self.boundary != "constant":
            if min(self.size) < 1:
                _refuse(f"a non-empty input to extend by {self.boundary!r}", self.size)
            return
        if isinstance(self.cval, complex) and not self.is_complex:
            _refuse(f"a real constant beyond the ends of {self.dtype}", self.cval)
        if self.is_exact and not math.isfinite(self.cval.real):
            _refuse(f"a finite constant beyond the ends of {self.dtype}", self.cval)
        if self.is_exact and self.cval.real != int(self.cval.real):
            _refuse(f"a whole constant beyond the ends of {self.dtype}", self.cval)

    # ---- shapes ------------------------------------------------------------------------------
    @derived
    def ndim(self) -> int:
        """Number of spatial dimensions."""
        return len(self.size)

    @derived
    def span(self) -> tuple[int, ...]:
        """Extent of the dilated kernel."""
        return tuple((r - 1) * d + 1 for r, d in zip(self.kernel, self.dilation))

    @derived
    def padded(self) -> tuple[int, ...]:
        """Extent of the dilated and padded input."""
        return tuple(
            max(0, (i - 1) * e + 1) + lo + hi
            for i, e, (lo, hi) in zip(self.size, self.input_dilation, self.padding)
        )

    @derived
    def out(self) -> tuple[int, ...]:
        """Output sizes."""
        return tuple((p - s) // u + 1 for p, s, u in zip(self.padded, self.span, self.stride))

    @derived
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.size)

    @derived
    def w_shape(self) -> tuple[int, ...]:
        return (self.filters, self.channels // self.groups, *self.kernel)

    @derived
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.filters, *self.out)

    @derived
    def taps(self) -> int:
        """Products summed for one output."""
        return self.channels // self.groups * math.prod(self.kernel)

    @derived
    def flops(self) -> int:
        """Floating-point operations of the definition: a multiply and an add a tap (x4 complex)."""
        return (8 if self.is_complex else 2) * math.prod(self.y_shape) * self.taps

    @derived
    def itemsize(self) -> int:
        """Bytes of one element of the compute dtype."""
        return numpy_dtype(self.dtype).itemsize

    @derived
    def accumulator(self) -> str:
        """Dtype that solvers see: bools are counted in uint32, then tested against zero."""
        return "u32" if self.dtype == "bool" else self.dtype

    @derived
    def is_dense(self) -> bool:
        """Whether no zeros are between the input's samples."""
        return max(self.input_dilation) <= 1

    @derived
    def is_complex(self) -> bool:
        return self.dtype[0] == "c"

    @derived
    def is_exact(self) -> bool:
        """Whether sums are of integers or bools, which every solver must give exactly."""
        return self.dtype == "bool" or self.dtype[0] in "iu"

    @derived
    def geometry(self) -> core.Geometry:
        """All numbers but `threads`, as estimates in C read them."""
        return core.Geometry(self)

    def __eq__(self, other: object) -> bool:
        # as tuples, where _NAN equals itself: Python 3.13's own goes field by field
        if not isinstance(other, Problem):
            return NotImplemented
        return bool(_fields(self) == _fields(other))

    def __getstate__(self) -> dict[str, Any]:
        # what was derived stays here
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def replace(self, **changes: Any) -> Problem:
        return dataclasses.replace(self, **changes)

    def on(self, threads: int) -> Problem:
        """`replace(threads=threads)`, which shares all that was derived, by `once` too."""
        if threads == self.threads:
            return self
        same = object.__new__(Problem)
        self.__dict__.setdefault("_known", {})
        same.__dict__.update(self.__dict__, threads=threads)
        return same

    # ---- text --------------------------------------------------------------------------------
    def __str__(self) -> str:
        n = self.ndim
        words = [f"conv{n}d", self.dtype, f"n{self.batch}", f"c{self.channels}"]
        if n in _AXES:
            words += [f"{a}{v}" for a, v in zip(_AXES[n], self.size)]
            words.append(f"k{self.filters}")
            words += [f"{a}{v}" for a, v in zip(_TAPS[n], self.kernel)]
        else:
            words += [f"i{','.join(map(str, self.size))}", f"k{self.filters}"]
            words.append(f"f{','.join(map(str, self.kernel))}")
        if self.groups != 1:
            words.append(f"g{self.groups}")
        if any(map(any, self.padding)):
            pads = [str(lo) if lo == hi else f"{lo}:{hi}" for lo, hi in self.padding]
            words.append("p" + ",".join(pads if len(set(pads)) > 1 else pads[:1]))
        for letter, values in (
            ("u", self.stride), ("l", self.dilation), ("e", self.input_dilation)
        ):  # fmt: skip
            if set(values) != {1}:
                words.append(letter + _sizes(values))
        if self.boundary == "constant":
            words.append(f"constant={self.cval!r}".replace("(", "").replace(")", ""))
        elif self.boundary != "zeros":
            words.append(self.boundary)
        if self.flip:
            words.append("flip")
        for letter, name in (("x", self.x_dtype), ("w", self.w_dtype), ("y", self.y_dtype)):
            if name != self.dtype:
                words.append(f"{letter}:{name}")
        if self.layout != "NC*":
            words.append(self.layout)
        if self.rank:
            words.append(f"rank{self.rank}")
        if self.box:
            words.append("box")
        if self.prepared:
            words.append("prepared")
        if self.device != "cpu":
            words.append(self.device)
        if self.threads != 1:
            words.append(f"threads{self.threads}")
        if self.accuracy != "balanced":
            words.append(self.accuracy)
        if self.deterministic:
            words.append("deterministic")
        if self.nonnegative:
            words.append("nonnegative")
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> Problem:
        """The inverse of ``str(problem)``; ValueError names the first word not understood.

        Examples
        --------
        >>> p = Problem.parse("conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1")
        >>> p.out, p.flops
        ((56, 56), 231211008)
        >>> str(p)
        'conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1'
        """
        words = text.split()
        match = re.fullmatch(r"conv([1-8])d", words[0]) if words else None
        if not match:
            raise ValueError(f"expected a problem that starts with conv1d to conv8d, got {text!r}")
        ndim = int(match[1])
        axes, taps = _AXES.get(ndim, ()), _TAPS.get(ndim, ())
        counts = {"n": "batch", "c": "channels", "k": "filters", "g": "groups"}
        numbers: dict[str, int] = {}
        fields: dict[str, Any] = {}
        for position, word in enumerate(words[1:]):
            key, value = _parse_word(word, ndim, position == 0)
            said = {counts.get(key, key): value}
            if key == "cval":
                said["boundary"] = "constant"
            for name, value in said.items():
                target = numbers if name in (*axes, *taps) else fields
                if target is fields and name not in cls.__dataclass_fields__:
                    raise ValueError(f"cannot read {word!r} in problem {text!r}")
                if name in target:
                    raise ValueError(f"{word!r} says {name} again in problem {text!r}")
                target[name] = value
        if axes:
            missing = [a for a in (*axes, *taps) if a not in numbers]
            if missing:
                raise ValueError(f"problem {text!r} lacks {missing[0]}<number>")
            fields["size"] = tuple(numbers[a] for a in axes)
            fields["kernel"] = tuple(numbers[a] for a in taps)
        elif "size" not in fields or "kernel" not in fields:
            raise ValueError(f"problem {text!r} needs i<sizes> and f<kernel sizes>")
        if len(fields["size"]) != ndim:
            raise ValueError(f"expected {ndim} sizes in problem {text!r}, got {fields['size']}")
        return cls(**fields)


_fields = operator.attrgetter(*(field.name for field in dataclasses.fields(Problem)))


def _parse_word(word: str, ndim: int, first: bool) -> tuple[str, Any]:
    """(field or letter, value) of one word of a problem's text; ("", None) when unknown."""
    if first and word in DTYPES:
        return "dtype", word
    if word in BOUNDARIES and word != "constant":
        return "boundary", word
    if word in ACCURACIES:
        return "accuracy", word
    if word in LAYOUTS:
        return "layout", word
    if word in ("flip", "prepared", "deterministic", "nonnegative", "box"):
        return word, True
    if word in ("cpu", "cuda"):
        return "device", word
    if match := re.fullmatch(r"rank(\d+)", word):
        return "rank", int(match[1])
    if match := re.fullmatch(r"threads(\d+)", word):
        return "threads", int(match[1])
    if (match := re.fullmatch(r"([xwy]):(\w+)", word)) and match[2] in DTYPES:
        return f"{match[1]}_dtype", match[2]
    if match := re.fullmatch(r"p(\d+(?::\d+)?(?:,\d+(?::\d+)?)*)", word):
        pads = []
        for part in match[1].split(","):
            low, _, high = part.partition(":")
            pads.append((int(low), int(high or low)))
        return "padding", tuple(pads * ndim if len(pads) == 1 else pads)
    if match := re.fullmatch(r"([uleif])(\d+(?:,\d+)*)", word):
        values = tuple(map(int, match[2].split(",")))
        if len(values) == 1:
            values *= ndim
        names = {"u": "stride", "l": "dilation", "e": "input_dilation", "i": "size", "f": "kernel"}
        if match[1] in "if" and ndim in _AXES:
            return "", None
        return names[match[1]], values
    if match := re.fullmatch(r"([nckgdhwtrs])(\d+)", word):
        return match[1], int(match[2])
    return ("", None) if not word.startswith("constant=") else _parse_constant(word)


def _parse_constant(word: str) -> tuple[str, Any]:
    for number in (int, float, complex):
        try:
            return "cval", number(word.removeprefix("constant="))
        except ValueError:
            continue
    return "", None
