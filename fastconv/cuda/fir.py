"""fir: filters of signals, samples and taps in shared memory, eight neighbours by each thread.

    y[n, k, q] = finish(sum over c, s: X[n, c, q + s - pad] * w[k, c, s])

A block makes TILE outputs of one row of y. It loads the samples that they meet once, neighbours by
neighbours, and the taps. A thread keeps 16 samples in registers, those of its outputs and the next
eight; eight taps then are 64 products for 8 samples and 8 taps loaded. Sample i is at i + i/8 of
shared memory: threads' first samples are 9 apart, so that a warp's meet in no bank. Sums return
the same way, so that they are stored neighbours by neighbours too.

Taps beyond a multiple of eight are unrolled, `rest` of them, and none is made up: its product with
a sample that is not finite would be no number. Sums are over the taps, then over the channels.
"""

from __future__ import annotations

import dataclasses
import functools

from fastconv.cuda.kernel import SIZES, Kernel, indented, operations

#: Threads of a block, outputs of a thread and of a block.
THREADS, OUTPUTS = 128, 8
TILE = THREADS * OUTPUTS

#: Most taps of a kernel: what is shared is for as many.
CAPACITIES = (64, 256, 1024)

#: Each parameter after the pointers, as the kernel names it, and its kind.
CONSTANTS = (
    *((name, "i32") for name in ("width", "q_count", "tiles", "filters", "channels", "taps_s",
                                 "blocks_of_taps", "need", "pad")),
    *((name, "i64") for name in ("tiles_div", "filters_div", "group_div")),
    *((name, "i32") for name in ("tiles_shift", "filters_shift", "group_shift")),
    *((name, "i64") for name in ("x_n", "x_g", "w_k", "y_n", "y_k", "r_n", "r_k")),
    *((name, "i32") for name in ("x_c", "x_w", "w_c", "w_s", "b_k", "y_w", "r_w")),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is compiled in; `weights` and `result` are dtypes as in `direct.Variant`."""

    dtype: str
    capacity: int
    rest: int
    boundary: str = "zeros"
    activation: str = "clamp"
    weights: str = ""
    result: str = ""

    @property
    def computed(self) -> str:
        return "f64" if self.dtype == "f64" else "f32"

    @property
    def rounds(self) -> int:
        """Samples that each thread loads."""
        return -(-(TILE + self.capacity) // THREADS)


@functools.lru_cache(256)
def kernel(v: Variant) -> Kernel:
    """The kernel of a variant."""
    weights, result = v.weights or v.dtype, v.result or v.dtype
    size = SIZES[v.computed]
    samples = v.rounds * THREADS * 9 // 8
    table = {
        "load_x": ("load_if", v.dtype), "load_w": ("load", weights), "load_b": ("load", result),
        "load_r": ("load", result, False), "store_y": ("store", result),
        "advance": ("advance", v.dtype), "advance_w": ("advance", weights),
        "advance_y": ("advance", result), "edge": ("edge", v.boundary),
        "zero": ("zero", v.computed), "fma": ("fma", v.computed), "add": ("add", v.computed),
        "activate": ("activate", v.activation, v.computed),
        "shared_x": ("shared", v.computed, 0, samples),
        "shared_w": ("shared", v.computed, samples * size, v.capacity),
        "get": ("load_shared", v.computed), "put": ("store_shared", v.computed),
    }  # fmt: skip
    pointers = tuple((name, "pointer") for name in ("x", "w", "bias", "residual", "y"))
    real = tuple((name, v.computed) for name in ("fill", "low", "high"))
    parameters = (*pointers, *CONSTANTS, *real)
    text = _text(v, ", ".join(name for name, _ in parameters))
    shared_bytes = (samples + v.capacity) * size
    return Kernel("fir", text, operations(text, table), parameters, THREADS, 4, shared_bytes)


def _text(v: Variant, parameters: str) -> str:
    outputs = range(OUTPUTS)
    lines = [
        f"def fir({parameters}):",
        "    t = thread()",
        "    row = quotient(block_x(), tiles_div, tiles_shift)",
        f"    first = (block_x() - row * tiles) * {TILE}",
        "    n = quotient(row, filters_div, filters_shift)",
        "    k = row - n * filters",
        "    xs = advance(advance(x, n, x_n), quotient(k, group_div, group_shift), x_g)",
        "    ws = advance_w(w, k, w_k)",
        "    sx = shared_x()",
        "    sw = shared_w()",
        f"    base = t * {OUTPUTS + 1}",
        *(f"    total{j} = zero()" for j in outputs),
        "    for c in range(channels):",
        "        sync()",
        *indented(_filled(v), 2),
        "        sync()",
        *indented(_sums(v), 2),
        "    sync()",
        *(f"    put(sx, base + {j}, total{j})" for j in outputs),
        "    sync()",
        "    ys = advance_y(advance_y(y, n, y_n), k, y_k)",
        "    rs = advance_y(advance_y(residual, n, r_n), k, r_k)",
        *indented([line for m in outputs for line in _finish(m)], 1),
    ]
    return "\n".join(lines) + "\n"


def _filled(v: Variant) -> list[str]:
    """A channel's samples and taps, by all threads of the block."""
    lines = ["start = first - pad"]
    for m in range(v.rounds):
        lines += [f"i{m} = t + {m * THREADS}", f"at{m} = start + i{m}"]
        if v.boundary == "zeros":
            lines += [f"ok{m} = inside(i{m}, need) & inside(at{m}, width)"]
        else:
            lines += [f"ok{m} = inside(i{m}, need)", f"at{m} = edge(at{m}, width)"]
        # beyond the last sample needed nothing is loaded, and nothing read
        lines += [f"value{m} = load_x(xs, c * x_c + at{m} * x_w, ok{m}, fill)"]
    lines += [f"put(sx, i{m} + (i{m} >> 3), value{m})" for m in range(v.rounds)]
    for m in range(-(-v.capacity // THREADS)):
        lines += [
            f"tap = t + {m * THREADS}",
            "if tap < taps_s:",
            "    put(sw, tap, load_w(ws, c * w_c + tap * w_s))",
        ]
    return lines


def _sums(v: Variant) -> list[str]:
    """Products of a channel: whole blocks of taps, and the rest."""
    outputs = range(OUTPUTS)

    def block(taps: int) -> list[str]:
        # sample 8 + s of the window, where the last tap of the last output needs it
        wanted = range(OUTPUTS, OUTPUTS + taps - (taps < OUTPUTS))
        lines = [f"v{i} = get(sx, at + {i + i // 8})" for i in wanted]
        lines += [f"w{s} = get(sw, tap + {s})" for s in range(taps)]
        lines += [f"sum{j} = fma(v{j + s}, w{s}, sum{j})" for s in range(taps) for j in outputs]
        return lines

    lines = ["at = base", "tap = 0"]
    lines += [f"v{j} = get(sx, at + {j})" for j in outputs]
    lines += [f"sum{j} = zero()" for j in outputs]
    lines += [
        "for block in range(blocks_of_taps):",
        *indented(block(OUTPUTS), 1),
        *indented([f"v{j} = v{j + OUTPUTS}" for j in outputs], 1),
        f"    at = at + {OUTPUTS + 1}",
        f"    tap = tap + {OUTPUTS}",
    ]
    lines += block(v.rest) if v.rest else []
    return lines + [f"total{j} = add(total{j}, sum{j})" for j in outputs]


def _finish(m: int) -> list[str]:
    """Bias, residual and activation of an output, and its store: the m-th of this thread's."""
    return [
        f"i = t + {m * THREADS}",
        "q = first + i",
        "if q < q_count:",
        "    value = get(sx, i + (i >> 3))",
        "    if bias != 0:",
        "        value = add(value, load_b(bias, k * b_k))",
        "    if residual != 0:",
        "        value = add(value, load_r(rs, q * r_w))",
        "    store_y(ys, q * y_w, activate(value, low, high))",
    ]
