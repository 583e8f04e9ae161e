"""direct: sums of products in registers, every output by one thread, x read through the L1 cache.

    y[n, k, p, q] = finish(sum over c, r, s: X[n, c, p*u + r*l - a, q*v + s*m - b] * w[k, c, r, s])

A thread makes `rows` outputs of one column, whose windows overlap: a sample that is read once is
multiplied by every tap that meets it. Threads are numbered along q first, then over groups of
rows, filters and images, so neighbours read neighbouring samples whatever the strides, and small
planes fill a block together. Samples of x are used `kernel` times, from L1; memory is read once,
which bounds the time of the depthwise problems that this is for.

Sums are in two levels: over the taps that are unrolled, then over channels and those that are not.

Complex numbers are pairs of real ones, and steps count those: (v + i v') (w + i w') is four
multiply-adds into two sums. That w is conjugated is a sign of w', `turn`, whose negative is `back`;
that x is, the sign of w' and that of the result's second part, `y_turn`. Where x or w is `real`,
the other's parts are multiplied by it.

Integers are summed modulo 2**32, or 2**64 where one has 64 bits, which is exact in what is stored
of them; or in float64, by weights that are no integers, and cut towards zero.

Volumes are `deep`: planes are numbered along the first axis, too, whose taps are a loop around the
others'. Where there are few outputs and long sums, as in the gradient of depthwise weights, whose
images are that axis, `split` lets blocks share those planes of taps: each writes its own sums, and
`gemm.joined` adds them up, in order, and finishes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from fastconv.cuda.kernel import Kernel, indented, operations

#: Threads of a block: enough blocks for small planes, whole warps.
THREADS = 128

#: Kernels of at most so many taps are unrolled whole: their weights stay in registers (7 x 7).
UNROLLED = 49

#: Taps of a column that are unrolled at once where there are more.
CHUNK = 8

#: Each parameter after the pointers, as the kernel names it, and its kind. Divisors are
#: multipliers and shifts of `kernel.divisor`.
CONSTANTS = (
    *((name, "i32") for name in ("items", "height", "width", "p_count", "q_count", "bands",
                                 "filters", "channels", "taps_r", "taps_s", "pad_h", "pad_w",
                                 "step_v", "step_m")),
    *((name, "i64") for name in ("q_div", "bands_div", "filters_div", "group_div")),
    *((name, "i32") for name in ("q_shift", "bands_shift", "filters_shift", "group_shift")),
    *((name, "i64") for name in ("x_n", "x_g", "w_k", "y_n", "y_k", "r_n", "r_k")),
    *((name, "i32") for name in ("x_c", "x_h", "x_w", "w_c", "w_r", "w_s", "b_k", "y_h", "y_w",
                                 "r_h", "r_w")),
)  # fmt: skip


#: Parameters of deep kernels alone.
DEEP = (
    *((name, "i32") for name in ("depth", "o_count", "taps_t", "pad_d", "step_d", "step_e")),
    *((name, "i64") for name in ("o_div", "y_d", "r_d")),
    *((name, "i32") for name in ("o_shift", "x_d", "w_t")),
)  # fmt: skip

#: Parameters of those whose sums blocks share: planes of taps that each has, and images.
SPLIT = (("each", "i32"), ("images", "i32"), ("images_div", "i64"), ("images_shift", "i32"),
         ("y_cut", "i64"))  # fmt: skip

#: Parameters of complex kernels alone.
COMPLEX = ("fill_i", "turn", "back", "y_turn")

#: Suffixes of the names of a number's parts.
PARTS = ("", "_i")


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is compiled in: all else comes with the call. `kernel`, `stride` and `dilation` are
    (rows, columns), rows and rows; a kernel that is not unrolled counts its taps at run time, as a
    deep one counts planes.
    `dtype` is that of the parts of numbers: one of real ones, two of complex ones."""

    dtype: str
    kernel: tuple[int, int]
    stride: int
    dilation: int
    rows: int
    boundary: str = "zeros"
    activation: str = "clamp"
    parts: int = 1
    weights: str = ""  # their dtype and that of results, where it is another
    result: str = ""
    deep: bool = False
    sums: str = ""  # what they are kept in, where that is not x's own: "i32" and "i64" of integers
    real: str = ""  # "x" or "w", of two parts that only the other has
    split: bool = False  # whether blocks share the planes of taps of a deep one

    @property
    def computed(self) -> str:
        return self.sums or ("f64" if self.dtype == "f64" else "f32")

    @property
    def is_exact(self) -> bool:
        return self.computed[0] == "i"

    def to(self, dtype: str) -> tuple[str, ...]:
        """That a number of a dtype is not computed in its own type, as loads and stores say it."""
        own = "f64" if dtype == "f64" else "f32"
        is_float = dtype in ("f16", "bf16", "f32", "f64")
        return () if is_float and self.computed == own else (self.computed,)

    @property
    def unrolled(self) -> bool:
        return self.kernel[0] * self.kernel[1] <= UNROLLED and self.kernel[0] <= CHUNK


@functools.lru_cache(256)
def kernel(v: Variant) -> Kernel:
    """The kernel of a variant."""
    weights, result = v.weights or v.dtype, v.result or v.dtype
    of_x = (v.dtype, *v.to(v.dtype))

    def load(dtype: str, constant: bool) -> tuple[Any, ...]:
        to = v.to(dtype)
        return ("load", dtype, constant, *to) if to or not constant else ("load", dtype)

    table: dict[str, tuple[Any, ...]] = {
        "load_x": ("load_if", *of_x) if v.boundary == "zeros" else load(v.dtype, True),
        "load_w": load(weights, True), "load_b": load(result, True),
        "load_r": load(result, False), "store_y": ("store", result, *v.to(result)),
        "advance_y": ("advance", result),
        "advance": ("advance", v.dtype), "advance_w": ("advance", weights),
        "zero": ("zero", v.computed), "fma": ("fma", v.computed),
        "add": ("add", v.computed), "edge": ("edge", v.boundary),
    }  # fmt: skip
    if not v.is_exact:
        table["activate"] = "activate", v.activation, v.computed
    pointers = tuple((name, "pointer") for name in ("x", "w", "bias", "residual", "y"))
    named = ("fill", "low", "high", *(COMPLEX if v.parts == 2 else ()))
    deep = (*(DEEP if v.deep else ()), *(SPLIT if v.split else ()))
    parameters = (*pointers, *CONSTANTS, *deep, *((name, v.computed) for name in named))
    text = _text(v, ", ".join(name for name, _ in parameters))
    return Kernel("direct", text, operations(text, table), parameters, THREADS, blocks=4)


def _text(v: Variant, parameters: str) -> str:
    lines = [
        f"def direct({parameters}):",
        f"    item = block_x() * {THREADS} + thread()",
        "    if item < items:",
        "        line = quotient(item, q_div, q_shift)",
        "        q = item - line * q_count",
        "        plane = quotient(line, bands_div, bands_shift)",
        f"        p = (line - plane * bands) * {v.rows}",
        *indented(_layer(v), 2),
        "        n = quotient(plane, filters_div, filters_shift)",
        "        k = plane - n * filters",
        *indented(_cut(v), 2),
        "        xs = advance(advance(x, n, x_n), quotient(k, group_div, group_shift), x_g)",
        "        ws = advance_w(w, k, w_k)",
        f"        top = p * {v.stride} - pad_h",
        "        left = q * step_v - pad_w",
        *(f"        {line}" for line in _zeros(v, "total")),
        "        for c in range(channels):",
        *indented(_channel(v), 3),
        *indented(_finish(v), 2),
    ]
    return "\n".join(lines) + "\n"


def _layer(v: Variant) -> list[str]:
    """Of a plane of y, the place in its volume."""
    if not v.deep:
        return []
    return ["layer = plane", "plane = quotient(layer, o_div, o_shift)",
            "o = layer - plane * o_count"]  # fmt: skip


def _cut(v: Variant) -> list[str]:
    """Of an image that several blocks sum, which of them this is, and where it begins."""
    if not v.split:
        return []
    return ["cut = quotient(n, images_div, images_shift)", "n = n - cut * images",
            "begin = cut * each"]  # fmt: skip


def _channel(v: Variant) -> list[str]:
    """Products of a channel: of one plane, or of each that the window has."""
    plane = _unrolled(v) if v.unrolled else _looped(v)
    if not v.deep:
        return plane
    within = ["at_d = edge(front, depth) * x_d"]
    if v.boundary == "zeros":
        within = ["deep = inside(front, depth)", "at_d = front * x_d"]
    planes = ["for t in range(taps_t):"]
    if v.split:
        planes = ["for step in range(each):", "    t = begin + step"]
    return [
        *planes,
        "    front = o * step_d + t * step_e - pad_d",
        *indented(within, 1),
        "    at_x = c * x_c + at_d",
        "    at_w = c * w_c + t * w_t",
        *indented(plane, 1),
    ]


def _zeros(v: Variant, name: str) -> list[str]:
    return [f"{name}{j}{part} = zero()" for j in range(v.rows) for part in PARTS[: v.parts]]


def _add_sums(v: Variant) -> list[str]:
    return [f"total{j}{part} = add(total{j}{part}, sum{j}{part})"
            for j in range(v.rows) for part in PARTS[: v.parts]]  # fmt: skip


def _weight(v: Variant, r: int, at: str) -> list[str]:
    """Tap r of a column: w, and of a complex one w_i and its negative, w_n."""
    lines = [f"w{r} = load_w({at})"]
    if v.parts == 2 and v.real != "w":
        lines += [f"w{r}_p = load_w({at} + 1)", f"w{r}_i = fma(w{r}_p, turn, zero())",
                  f"w{r}_n = fma(w{r}_p, back, zero())"]  # fmt: skip
    return lines


def _plane(v: Variant, name: str) -> str:
    """Where the channel's plane of x or w begins; of images, unnamed: it took 8 registers more."""
    return f"at_{name}" if v.deep else f"c * {name}_c"


def _rows(v: Variant, taps: int) -> list[int]:
    """Rows that a thread reads for so many taps, from its first one on."""
    return sorted({j * v.stride + r * v.dilation for j in range(v.rows) for r in range(taps)})


def _row(v: Variant, i: int) -> list[str]:
    """Where row i lies, and whether it does."""
    if v.boundary == "zeros":
        return [f"in{i} = inside(top + {i}, height)", f"at{i} = (top + {i}) * x_h"]
    return [f"at{i} = edge(top + {i}, height) * x_h"]


def _column(v: Variant, s: str) -> list[str]:
    if v.boundary == "zeros":
        ok = "inside(col, width)" + " & deep" * v.deep
        return [f"col = left + {s} * step_m", f"ok = {ok}", "here = col * x_w"]
    return [f"here = edge(left + {s} * step_m, width) * x_w"]


def _products(v: Variant, taps: int) -> list[str]:
    """Products of one column of x with so many taps, w0, w1, ..."""
    lines = []
    for i in _rows(v, taps):
        for n, part in enumerate(PARTS[: 1 if v.real == "x" else v.parts]):
            at = f"xs, {_plane(v, 'x')} + at{i} + here" + " + 1" * n
            if v.boundary == "zeros":
                lines.append(f"v{i}{part} = load_x({at}, in{i} & ok, fill{part})")
            else:
                lines.append(f"v{i}{part} = load_x({at})")
    for i in _rows(v, taps):
        for j in range(v.rows):
            r, apart = divmod(i - j * v.stride, v.dilation)
            if apart or not 0 <= r < taps:
                continue
            lines.append(f"sum{j} = fma(v{i}, w{r}, sum{j})")
            if v.parts == 2 and not v.real:
                lines.append(f"sum{j} = fma(v{i}_i, w{r}_n, sum{j})")
            if v.parts == 2 and v.real != "w":
                lines.append(f"sum{j}_i = fma(v{i}, w{r}_i, sum{j}_i)")
            if v.parts == 2 and v.real != "x":
                lines.append(f"sum{j}_i = fma(v{i}_i, w{r}, sum{j}_i)")
    return lines


def _unrolled(v: Variant) -> list[str]:
    """All taps of one channel."""
    taps_r, taps_s = v.kernel
    lines = [line for i in _rows(v, taps_r) for line in _row(v, i)]
    lines += _zeros(v, "sum")
    for s in range(taps_s):
        lines += _column(v, str(s))
        for r in range(taps_r):
            lines += _weight(v, r, f"ws, {_plane(v, 'w')} + {r} * w_r + {s} * w_s")
        lines += _products(v, taps_r)
    return lines + _add_sums(v)


def _looped(v: Variant) -> list[str]:
    """Taps of one channel, a column at a time, and of it a chunk of rows at a time."""
    whole, rest = divmod(v.kernel[0], CHUNK)

    def chunk(taps: int) -> list[str]:
        return [
            *(line for i in _rows(v, taps) for line in _row(v, i)),
            *(
                line
                for r in range(taps)
                for line in _weight(v, r, f"ws, {_plane(v, 'w')} + (first + {r}) * w_r + s * w_s")
            ),
            *_products(v, taps),
        ]

    lines = _column(v, "s") + _zeros(v, "sum")
    lines += [f"top = p * {v.stride} - pad_h", "first = 0"]
    if whole:
        lines += [
            f"for block in range({whole}):",
            *indented(chunk(CHUNK), 1),
            f"    first = first + {CHUNK}",
            f"    top = top + {CHUNK * v.dilation}",
        ]
    lines += chunk(rest) if rest else []
    lines += _add_sums(v)
    return ["for s in range(taps_s):", *indented(lines, 1)]


def _finish(v: Variant) -> list[str]:
    """Bias, residual and activation of each output, and its store."""
    lines = [
        "ys = advance_y(advance_y(y, n, y_n), k, y_k)",
        "rs = advance_y(advance_y(residual, n, r_n), k, r_k)",
    ]
    if v.deep:
        lines += ["ys = advance_y(ys, o, y_d)", "rs = advance_y(rs, o, r_d)"]
    if v.split:
        lines += ["ys = advance_y(ys, cut, y_cut)"]
    finished = "value" if v.is_exact else "activate(value, low, high)"
    for j in range(v.rows):
        lines += [f"row = p + {j}", "if row < p_count:"]
        for n in range(v.parts):
            also = " + 1" * n
            value = f"fma(total{j}_i, y_turn, zero())" if n else f"total{j}"
            lines += [
                f"    value = {value}",
                "    if bias != 0:",
                f"        value = add(value, load_b(bias, k * b_k{also}))",
                "    if residual != 0:",
                f"        value = add(value, load_r(rs, row * r_h + q * r_w{also}))",
                f"    store_y(ys, row * y_h + q * y_w{also}, {finished})",
            ]
    return lines
