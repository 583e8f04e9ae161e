"""direct: sums of products in registers, every output by one thread, x read through the L1 cache.

    y[n, k, p, q] = finish(sum over c, r, s: X[n, c, p*u + r*l - a, q*v + s*m - b] * w[k, c, r, s])

A thread makes `rows` outputs of one column, whose windows overlap: a sample that is read once is
multiplied by every tap that meets it. Threads are numbered along q first, then over groups of
rows, filters and images, so neighbours read neighbouring samples whatever the strides, and small
planes fill a block together. Samples of x are used `kernel` times, from L1; memory is read once,
which bounds the time of the depthwise problems that this is for.

Sums are in two levels: over the taps that are unrolled, then over channels and those that are not.
"""

from __future__ import annotations

import dataclasses

from fastconv.cuda.kernel import Kernel, operations

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


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is compiled in: all else comes with the call. `kernel`, `stride` and `dilation` are
    (rows, columns), rows and rows; a kernel that is not unrolled counts its taps at run time."""

    dtype: str
    kernel: tuple[int, int]
    stride: int
    dilation: int
    rows: int
    boundary: str = "zeros"
    activation: str = "clamp"

    @property
    def computed(self) -> str:
        return "f64" if self.dtype == "f64" else "f32"

    @property
    def unrolled(self) -> bool:
        return self.kernel[0] * self.kernel[1] <= UNROLLED and self.kernel[0] <= CHUNK


def kernel(v: Variant) -> Kernel:
    """The kernel of a variant."""
    table = {
        "load_x": ("load_if" if v.boundary == "zeros" else "load", v.dtype),
        "load_w": ("load", v.dtype), "load_r": ("load", v.dtype), "store_y": ("store", v.dtype),
        "advance": ("advance", v.dtype), "zero": ("zero", v.computed), "fma": ("fma", v.computed),
        "add": ("add", v.computed), "activate": ("activate", v.activation, v.computed),
        "edge": ("edge", v.boundary),
    }  # fmt: skip
    pointers = tuple((name, "pointer") for name in ("x", "w", "bias", "residual", "y"))
    real = tuple((name, v.computed) for name in ("fill", "low", "high"))
    parameters = (*pointers, *CONSTANTS, *real)
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
        "        n = quotient(plane, filters_div, filters_shift)",
        "        k = plane - n * filters",
        "        xs = advance(advance(x, n, x_n), quotient(k, group_div, group_shift), x_g)",
        "        ws = advance(w, k, w_k)",
        f"        top = p * {v.stride} - pad_h",
        "        left = q * step_v - pad_w",
        *(f"        total{j} = zero()" for j in range(v.rows)),
        "        for c in range(channels):",
        *_indented(_unrolled(v) if v.unrolled else _looped(v), 3),
        *_indented(_finish(v), 2),
    ]
    return "\n".join(lines) + "\n"


def _indented(lines: list[str], levels: int) -> list[str]:
    return ["    " * levels + line for line in lines]


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
        return [f"col = left + {s} * step_m", "ok = inside(col, width)", "here = col * x_w"]
    return [f"here = edge(left + {s} * step_m, width) * x_w"]


def _products(v: Variant, taps: int) -> list[str]:
    """Products of one column of x with so many taps, w0, w1, ..."""
    lines = []
    for i in _rows(v, taps):
        at = f"xs, c * x_c + at{i} + here"
        lines.append(f"v{i} = load_x({at}" + (f", in{i} & ok, fill)" if v.boundary == "zeros"
                                              else ")"))  # fmt: skip
    for i in _rows(v, taps):
        for j in range(v.rows):
            r, apart = divmod(i - j * v.stride, v.dilation)
            if not apart and 0 <= r < taps:
                lines.append(f"sum{j} = fma(v{i}, w{r}, sum{j})")
    return lines


def _unrolled(v: Variant) -> list[str]:
    """All taps of one channel."""
    taps_r, taps_s = v.kernel
    lines = [line for i in _rows(v, taps_r) for line in _row(v, i)]
    lines += [f"sum{j} = zero()" for j in range(v.rows)]
    for s in range(taps_s):
        lines += _column(v, str(s))
        lines += [f"w{r} = load_w(ws, c * w_c + {r} * w_r + {s} * w_s)" for r in range(taps_r)]
        lines += _products(v, taps_r)
    return lines + [f"total{j} = add(total{j}, sum{j})" for j in range(v.rows)]


def _looped(v: Variant) -> list[str]:
    """Taps of one channel, a column at a time, and of it a chunk of rows at a time."""
    whole, rest = divmod(v.kernel[0], CHUNK)

    def chunk(taps: int) -> list[str]:
        return [
            *(line for i in _rows(v, taps) for line in _row(v, i)),
            *(f"w{r} = load_w(ws, c * w_c + (first + {r}) * w_r + s * w_s)" for r in range(taps)),
            *_products(v, taps),
        ]

    lines = _column(v, "s") + [f"sum{j} = zero()" for j in range(v.rows)]
    lines += [f"top = p * {v.stride} - pad_h", "first = 0"]
    if whole:
        lines += [
            f"for block in range({whole}):",
            *_indented(chunk(CHUNK), 1),
            f"    first = first + {CHUNK}",
            f"    top = top + {CHUNK * v.dilation}",
        ]
    lines += chunk(rest) if rest else []
    lines += [f"total{j} = add(total{j}, sum{j})" for j in range(v.rows)]
    return ["for s in range(taps_s):", *_indented(lines, 1)]


def _finish(v: Variant) -> list[str]:
    """Bias, residual and activation of each output, and its store."""
    lines = [
        "ys = advance(advance(y, n, y_n), k, y_k)",
        "rs = advance(advance(residual, n, r_n), k, r_k)",
    ]
    for j in range(v.rows):
        lines += [
            f"row = p + {j}",
            "if row < p_count:",
            f"    value = total{j}",
            "    if bias != 0:",
            "        value = add(value, load_w(bias, k * b_k))",
            "    if residual != 0:",
            "        value = add(value, load_r(rs, row * r_h + q * r_w))",
            "    store_y(ys, row * y_h + q * y_w, activate(value, low, high))",
        ]
    return lines
