"""gemm: a convolution as the product of filters by windows, the windows never written out.

    y[k, j] = finish(sum over t, c of w[t, c, k] * X[c, window t of pixel j])

A block makes `m` filters by `n` pixels, numbered through all images. Steps go through the taps t
of the kernel, and for each through `k` channels at a time: whether a pixel's sample lies in x is
asked once a tap, and the next channels are a constant away. Copies to shared memory are
asynchronous, `stages` - 2 steps ahead, so that one barrier a step is enough: the slot that is
filled was read two steps before. Filters come packed, (taps, channels, filters), 16 bytes a copy.

A thread sums 4 or 8 filters by 4 or 8 pixels in registers, in quads that lie apart, so that a
warp's loads from shared memory meet in no bank. Every `FOLD` products sums are added to totals,
in shared memory, which keeps the error that of a blocked sum.

CUTLASS, Fast Linear Algebra in CUDA C++ (2017), describes the tiling; cuDNN (arXiv:1410.0759) the
product of windows that are made on the way.
"""

from __future__ import annotations

import dataclasses
import functools

from fastconv._accuracy import SUM_BLOCK
from fastconv.cuda.kernel import SIZES, Kernel, operations

#: Products of an output that are added up before they join its total.
FOLD = SUM_BLOCK

CONSTANTS = (
    *((name, "i32") for name in ("pixels", "height", "width", "filters", "channels", "steps",
                                 "taps_s", "pad_h", "pad_w", "step_u", "step_v", "step_l",
                                 "step_m", "packed_k")),
    *((name, "i64") for name in ("plane_div", "q_div")),
    *((name, "i32") for name in ("plane", "q_count", "plane_shift", "q_shift")),
    *((name, "i64") for name in ("x_n", "x_g", "w_g", "y_n", "y_g", "r_n", "r_g")),
    *((name, "i32") for name in ("x_c", "x_h", "x_w", "b_k", "y_k", "y_h", "y_w", "r_k", "r_h",
                                 "r_w")),
)  # fmt: skip

PACK_CONSTANTS = (
    *((name, "i32") for name in ("items", "filters", "channels", "packed_k", "packed_c", "taps",
                                 "taps_s")),
    *((name, "i64") for name in ("k_div", "c_div", "t_div", "s_div")),
    *((name, "i32") for name in ("k_shift", "c_shift", "t_shift", "s_shift")),
    *((name, "i64") for name in ("w_k",)),
    *((name, "i32") for name in ("w_c", "w_r", "w_s")),
)  # fmt: skip

PACK_THREADS = 256


@dataclasses.dataclass(frozen=True)
class Tile:
    """A block's filters, pixels and channels a step, and a thread's quads of filters and pixels."""

    m: int
    n: int
    k: int
    quads: tuple[int, int]
    stages: int = 4

    @property
    def threads(self) -> int:
        return self.m * self.n // (16 * self.quads[0] * self.quads[1])

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"


#: Tiles by dtype and text, the largest first.
TILES = {
    "f32": {str(t): t for t in (
        Tile(128, 128, 8, (2, 2)), Tile(64, 128, 8, (2, 2)), Tile(64, 64, 8, (2, 1)),
        Tile(32, 128, 16, (1, 2), 3),
    )},
    "f64": {str(t): t for t in (Tile(64, 64, 8, (1, 1)),)},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is compiled in; `folds` when there are more than `FOLD` products an output."""

    dtype: str
    tile: Tile
    folds: bool = False
    activation: str = "clamp"


@functools.lru_cache(256)
def kernel(v: Variant) -> Kernel:
    """The kernel of a variant."""
    t, size = v.tile, SIZES[v.dtype]
    a, b, count = t.m * t.k, t.n * t.k, 16 * t.quads[0] * t.quads[1]
    ring = (a + b) * t.stages * size
    table = {
        "shared_a": ("shared", v.dtype, 0, a * t.stages),
        "shared_b": ("shared", v.dtype, a * t.stages * size, b * t.stages),
        "shared_t": ("shared", v.dtype, ring, count * t.threads),
        "copy_a": ("copy_async", v.dtype, 16 // size), "copy_b": ("copy_async", v.dtype, 1),
        "commit": ("commit_async",), "wait": ("wait_async", t.stages - 2),
        "drain": ("wait_async", 0), "zeros": ("zeros", v.dtype, count),
        "tile_step": ("tile_step", v.dtype, t.m, t.n, t.k, *t.quads),
        **{f"{do}_totals": ("totals", do, v.dtype, count, t.threads)
           for do in ("clear", "fold", "add")},
        "load_b": ("load", v.dtype), "load_r": ("load", v.dtype, False),
        "store_y": ("store", v.dtype),
        "advance": ("advance", v.dtype), "add": ("add", v.dtype),
        "activate": ("activate", v.activation, v.dtype),
    }  # fmt: skip
    pointers = tuple((name, "pointer") for name in ("x", "w", "bias", "residual", "y"))
    parameters = (*pointers, *CONSTANTS, ("low", v.dtype), ("high", v.dtype))
    text = _text(v, ", ".join(name for name, _ in parameters))
    shared_bytes = ring + (count * t.threads * size if v.folds else 0)
    # 128 registers a thread; 2 blocks of 256 threads, or as many smaller ones
    return Kernel(
        "gemm", text, operations(text, table), parameters, t.threads, 512 // t.threads, shared_bytes
    )


def _text(v: Variant, parameters: str) -> str:
    t = v.tile
    vector = 16 // SIZES[v.dtype]  # elements of w in a copy
    across_a, ahead = t.m // vector, t.stages - 2
    rows_a, rows_b = t.threads // across_a, t.threads // t.n  # of a step, that a pass copies
    assert t.threads % across_a == t.threads % t.n == t.k % rows_a == t.k % rows_b == 0
    across = t.n // (4 * t.quads[1])  # threads along pixels
    copies = []
    for u in range(t.k // rows_a):
        copies.append(
            f"copy_a(sa, slot * {t.m * t.k} + (row_a + {u * rows_a}) * {t.m} + column_a,"
            f" ws, at_w + {u * rows_a} * packed_k, is_filter)"
        )
    for u in range(t.k // rows_b):
        copies += [
            f"ok = lies & inside(c + row_b + {u * rows_b}, channels)",
            f"copy_b(sb, slot * {t.n * t.k} + (row_b + {u * rows_b}) * {t.n} + column_b,"
            f" xs, at_x + {u * rows_b} * x_c, ok)",
        ]
    fold = [
        f"since = since + {t.k}",
        f"if since == {FOLD // t.k * t.k}:",
        "    since = 0",
        "    sums = fold_totals(sums, st, tid)",
    ]
    lines = [
        f"def gemm({parameters}):",
        "    sa = shared_a()",
        "    sb = shared_b()",
        "    tid = thread()",
        f"    j0 = block_x() * {t.n}",
        f"    k0 = block_y() * {t.m}",
        # what this thread copies: filters of a row of w, and samples of one pixel
        f"    row_a = tid // {across_a}",
        f"    column_a = tid % {across_a} * {vector}",
        f"    row_b = tid // {t.n}",
        f"    column_b = tid % {t.n}",
        "    ws = advance(w, block_z(), w_g)",
        "    at_w = row_a * packed_k + k0 + column_a",
        "    is_filter = inside(k0 + column_a, packed_k)",
        "    j = j0 + column_b",
        "    is_pixel = inside(j, pixels)",
        "    j = j * is_pixel",
        "    image = quotient(j, plane_div, plane_shift)",
        "    j = j - image * plane",
        "    p = quotient(j, q_div, q_shift)",
        "    top = p * step_u - pad_h",
        "    left = (j - p * q_count) * step_v - pad_w",
        "    xs = advance(advance(x, image, x_n), block_z(), x_g)",
        "    at_tap = top * x_h + left * x_w + row_b * x_c",
        "    at_x = at_tap",
        "    lies = is_pixel & inside(top, height) & inside(left, width)",
        "    c = 0",
        "    r = 0",
        "    s = 0",
        "    slot = 0",
        "    sums = zeros()",
        *(["    st = shared_t()", "    sums = clear_totals(sums, st, tid)", "    since = 0"]
          if v.folds else []),
        f"    at_a = tid // {across} * 4",
        f"    at_b = tid % {across} * 4",
        f"    for step in range(0 - {ahead}, steps):",
        f"        if step + {ahead} < steps:",
        *_indented(copies, 3),
        f"            at_w = at_w + {t.k} * packed_k",
        f"            at_x = at_x + {t.k} * x_c",
        f"            c = c + {t.k}",
        "            if c >= channels:",
        "                c = 0",
        "                s = s + 1",
        "                if s == taps_s:",
        "                    s = 0",
        "                    r = r + 1",
        "                down = r * step_l",
        "                along = s * step_m",
        "                lies = inside(top + down, height) & inside(left + along, width)",
        "                lies = lies & is_pixel",
        "                at_x = at_tap + down * x_h + along * x_w",
        "        commit()",
        "        slot = slot + 1",
        f"        if slot == {t.stages}:",
        "            slot = 0",
        "        if step >= 0:",
        "            wait()",
        "            sync()",
        # slot is that of step + ahead + 1, modulo stages
        f"            now = slot + {t.stages - ahead - 1}",
        f"            if now >= {t.stages}:",
        f"                now = now - {t.stages}",
        f"            sums = tile_step(sums, sa, now * {t.m * t.k} + at_a,"
        f" sb, now * {t.n * t.k} + at_b)",
        *(_indented(fold, 3) if v.folds else []),
        "    drain()",
        *(["    sums = add_totals(sums, st, tid)"] if v.folds else []),
        *_indented(_finish(t), 1),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _indented(lines: list[str], levels: int) -> list[str]:
    return ["    " * levels + line for line in lines]


def _finish(t: Tile) -> list[str]:
    """Bias, residual and activation of each sum, and its store."""
    rows, columns = 4 * t.quads[0], 4 * t.quads[1]
    lines = ["kb = k0 + at_a", "g = block_z()", "first = g * filters"]
    for n in range(columns):
        apart = n % 4 + n // 4 * (t.n // t.quads[1])
        lines += [
            f"j = j0 + at_b + {apart}",
            "if j < pixels:",
            "    image = quotient(j, plane_div, plane_shift)",
            "    j = j - image * plane",
            "    p = quotient(j, q_div, q_shift)",
            "    q = j - p * q_count",
            "    ys = advance(advance(y, image, y_n), g, y_g)",
            "    rs = advance(advance(residual, image, r_n), g, r_g)",
            "    at_y = p * y_h + q * y_w",
            "    at_r = p * r_h + q * r_w",
        ]
        for m in range(rows):
            lines += [
                f"    k = kb + {m % 4 + m // 4 * (t.m // t.quads[0])}",
                "    if k < filters:",
                f"        value = sums[{m * columns + n}]",
                "        if bias != 0:",
                "            value = add(value, load_b(bias, (first + k) * b_k))",
                "        if residual != 0:",
                "            value = add(value, load_r(rs, at_r + k * r_k))",
                "        store_y(ys, at_y + k * y_k, activate(value, low, high))",
            ]
    return lines


@functools.lru_cache(8)
def pack_kernel(dtype: str) -> Kernel:
    """Packs w (K, C / groups, R, S) as (groups, taps, channels, filters), what is added as 0."""
    table = {
        "load": ("load_if", dtype), "store": ("store", dtype), "zero": ("zero", dtype),
        "advance": ("advance", dtype),
    }  # fmt: skip
    parameters = (("w", "pointer"), ("packed", "pointer"), *PACK_CONSTANTS)
    text = f"""
def gemm_pack({", ".join(name for name, _ in parameters)}):
    item = block_x() * {PACK_THREADS} + thread()
    if item < items:
        a = quotient(item, k_div, k_shift)
        k = item - a * packed_k
        b = quotient(a, c_div, c_shift)
        c = a - b * packed_c
        g = quotient(b, t_div, t_shift)
        t = b - g * taps
        r = quotient(t, s_div, s_shift)
        s = t - r * taps_s
        ws = advance(w, g * filters + k * inside(k, filters), w_k)
        ok = inside(k, filters) & inside(c, channels)
        store(packed, item, load(ws, c * w_c + r * w_r + s * w_s, ok, zero()))
"""
    return Kernel("gemm_pack", text, operations(text, table), parameters, PACK_THREADS, 4)
