"""gemm: a convolution as the product of filters by windows, the windows never written out.

    y[k, j] = finish(sum over t, c of w[t, c, k] * X[c, window t of pixel j])

A block makes `m` filters by `n` pixels, numbered through all images. Steps go through the taps t
of the kernel, and for each through `k` channels at a time: whether a pixel's sample lies in x is
asked once a tap, and the next channels are a constant away. Where channels are few, as in the
first layer of a network, a step would be mostly zeros: then a kernel's row is what steps go
through, its columns by their channels (`thin`), and each sample finds its own column. Copies to
shared memory are asynchronous, `stages` - 2 steps ahead, so that one barrier a step is enough: the
slot that is filled was read two steps before. Filters come packed, (taps, channels, filters), 16
bytes a copy.

Where there are few blocks and long sums, as in the gradient of weights, `split` lets blocks share
the steps of a sum: each writes its own to memory; `joined` adds them up, in order, and finishes.

A thread sums 4 or 8 filters by 4 or 8 pixels in registers, in quads that lie apart, so that a
warp's loads from shared memory meet in no bank. Every `FOLD` products sums are added to totals,
in shared memory, which keeps the error that of a blocked sum.

CUTLASS, Fast Linear Algebra in CUDA C++ (2017), describes the tiling; cuDNN (arXiv:1410.0759) the
product of windows that are made on the way.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

from fastconv._accuracy import SUM_BLOCK
from fastconv.cuda.kernel import SIZES, Kernel, indented, operations

#: Products of an output that are added up before they join its total.
FOLD = SUM_BLOCK

CONSTANTS = (
    *((name, "i32") for name in ("pixels", "height", "width", "filters", "channels", "steps",
                                 "taps_s", "pad_h", "pad_w", "step_u", "step_v", "step_l",
                                 "step_m", "packed_k")),
    *((name, "i64") for name in ("plane_div", "q_div")),
    *((name, "i32") for name in ("plane", "q_count", "plane_shift", "q_shift")),
    *((name, "i64") for name in ("x_n", "x_g", "w_g", "w_part", "y_n", "y_g", "r_n", "r_g")),
    *((name, "i32") for name in ("x_c", "x_h", "x_w", "b_k", "y_k", "y_h", "y_w", "r_k", "r_h",
                                 "r_w")),
)  # fmt: skip

#: Parameters of deep kernels alone, and of what packs their filters.
DEEP = (
    *((name, "i32") for name in ("depth", "p_count", "taps_r", "pad_d", "step_d", "step_e")),
    ("p_div", "i64"), *((name, "i32") for name in ("p_shift", "x_d", "y_d", "r_d")),
)  # fmt: skip
PACK_DEEP = (("taps_r", "i32"), ("r_div", "i64"), ("r_shift", "i32"), ("w_t", "i32"))

#: And of thin ones: channels of one column.
THIN = (("few", "i32"), ("few_div", "i64"), ("few_shift", "i32"))

#: And of those whose sums are split: steps of a block and of a tap, and blocks of a sum.
SPLIT = (
    *((name, "i32") for name in ("each", "tap_steps", "splits")),
    *((name, "i64") for name in ("tap_div", "s_div", "splits_div", "y_cut")),
    *((name, "i32") for name in ("tap_shift", "s_shift", "splits_shift")),
)  # fmt: skip
SPLIT_DEEP = (("r_div", "i64"), ("r_shift", "i32"))

#: Of what joins them.
JOIN = (
    *((name, "i32") for name in ("items", "pixels", "plane", "q_count", "splits")),
    *((name, "i64") for name in ("pixels_div", "plane_div", "q_div", "y_cut", "y_n", "y_k", "r_n",
                                 "r_k")),
    *((name, "i32") for name in ("pixels_shift", "plane_shift", "q_shift", "b_k", "y_h", "y_w",
                                 "r_h", "r_w")),
)  # fmt: skip
JOIN_DEEP = (("p_count", "i32"), ("p_div", "i64"),
             *((name, "i32") for name in ("p_shift", "y_d", "r_d")))  # fmt: skip

PACK_CONSTANTS = (
    *((name, "i32") for name in ("items", "filters", "channels", "packed_k", "packed_c", "taps",
                                 "taps_s")),
    *((name, "i64") for name in ("k_div", "c_div", "t_div", "s_div")),
    *((name, "i32") for name in ("k_shift", "c_shift", "t_shift", "s_shift")),
    *((name, "i64") for name in ("w_k", "w_part")),
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

    #: Channels of the filters that lie together in memory, parts that a filter is the sum of, and
    #: channels in a word of shared memory.
    deep = parts = pair = 1
    #: Filters that a copy never leaves out some of; the packed ones are a multiple.
    together = 4
    #: Operations of its own, and statements after the sums are complete.
    operations: ClassVar[dict[str, tuple[Any, ...]]] = {}
    last: ClassVar[tuple[str, ...]] = ()

    @property
    def blocks(self) -> int:
        """128 registers a thread; 2 blocks of 256 threads, or as many smaller ones."""
        return 512 // self.threads

    @property
    def threads(self) -> int:
        return self.m * self.n // self.sums

    @property
    def sums(self) -> int:
        """Of a thread."""
        return 16 * self.quads[0] * self.quads[1]

    @property
    def pitch(self) -> int:
        """Elements from one row of pixels to the next in shared memory."""
        return self.n

    def step(self, dtype: str) -> tuple[Any, ...]:
        return "tile_step", dtype, self.m, self.n, self.k, *self.quads

    @property
    def places(self) -> list[str]:
        """Where a thread's first filter and pixel are in the block, and in shared memory."""
        across = self.n // (4 * self.quads[1])  # threads along pixels
        return [
            f"own_k = tid // {across} * 4", f"own_j = tid % {across} * 4", "at_a = own_k",
            "at_b = own_j",
        ]  # fmt: skip

    @property
    def rows(self) -> list[int]:
        """The thread's filters, from its first one on."""
        return [i % 4 + i // 4 * (self.m // self.quads[0]) for i in range(4 * self.quads[0])]

    @property
    def columns(self) -> list[int]:
        """The thread's pixels, from its first one on."""
        return [i % 4 + i // 4 * (self.n // self.quads[1]) for i in range(4 * self.quads[1])]

    def place(self, row: int, column: int) -> int:
        """Of a filter and a pixel, the number of their sum."""
        return row * 4 * self.quads[1] + column

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
    """What is compiled in; `folds` when a block sums more than `FOLD` products an output, `deep` of
    volumes, `thin` of few channels, `split` where blocks share sums."""

    dtype: str
    tile: Tile
    folds: bool = False
    activation: str = "clamp"
    deep: bool = False
    thin: bool = False
    split: bool = False


@functools.lru_cache(256)
def kernel(v: Variant) -> Kernel:
    """The kernel of a variant."""
    return written("gemm", v.dtype, v.tile, v.folds, v.activation, v.deep, v.thin, v.split)


def written(
    name: str, dtype: str, t: Any, folds: bool, activation: str, deep: bool = False,
    thin: bool = False, split: bool = False,
) -> Kernel:  # fmt: skip
    """The kernel of a tile: a `Tile`, or what has all that it has."""
    word = dtype if t.pair == 1 else "f32"  # two channels pass for a float32
    size, words = SIZES[word], t.k // t.pair
    a, b = t.m * words * t.parts, t.pitch * words
    ring = (a + b) * t.stages * size
    table = {
        "shared_a": ("shared", word, 0, a * t.stages),
        "shared_b": ("shared", word, a * t.stages * size, b * t.stages),
        "shared_t": ("shared", word, ring, t.sums * t.threads),
        "copy_a": ("copy_async", word, 16 // size), "copy_b": ("copy_async", word, 1),
        "pair_b": ("pair_if", dtype), "put_b": ("store_shared", word),
        "commit": ("commit_async",), "wait": ("wait_async", t.stages - 2),
        "drain": ("wait_async", 0), "zeros": ("zeros", dtype, t.sums), "given": ("given",),
        "step_of_tile": t.step(dtype),
        **{f"{do}_totals": ("totals", do, dtype, t.sums, t.threads)
           for do in ("clear", "fold", "add")},
        "load_b": ("load_if", dtype), "zero": ("zero", dtype), "advance": ("advance", dtype),
        "finish": ("finish", activation, word if split else dtype),
        "advance_y": ("advance", word if split else dtype), **t.operations,
    }  # fmt: skip
    pointers = tuple((name, "pointer") for name in ("x", "w", "bias", "residual", "y"))
    constants = (*CONSTANTS, *(DEEP if deep else ()), *(THIN if thin else ()))
    if split:
        constants += (*SPLIT, *(SPLIT_DEEP if deep else ()))
    parameters = (*pointers, *constants, ("low", word), ("high", word))
    named = ", ".join(name for name, _ in parameters)
    text = _text(name, dtype, t, folds, deep, thin, split, named)
    shared_bytes = ring + (t.sums * t.threads * size if folds else 0)
    return Kernel(
        name, text, operations(text, table), parameters, t.threads, t.blocks, shared_bytes
    )


def _text(
    name: str, dtype: str, t: Any, folds: bool, deep: bool, thin: bool, split: bool, parameters: str
) -> str:
    pair, words = t.pair, t.k // t.pair
    vector = 16 // (SIZES[dtype] * pair)  # words of w in a copy
    width, lines_a = t.m * t.deep, words // t.deep  # of the filters of a step
    across_a, ahead = width // vector, t.stages - 2
    a, b = t.m * words, t.pitch * words
    copies: list[str] = []
    held: list[str] = []
    puts: list[str] = []
    for first in range(0, a // vector, t.threads):
        # of a thread whose copies all lie in one column, or whose lines are longer than that
        row, column = divmod(first, across_a)
        at = f"row_a * packed_w + {row} * packed_w + k0 * {t.deep} + column_a + {column * vector}"
        ok = f"inside(k0 * {t.deep} + column_a + {column * vector}, packed_w)"
        for part in range(t.parts):
            to = f"slot * {a * t.parts} + {part * a} + row_a * {width} + column_a"
            copies.append(f"copy_a(sa, {to} + {first * vector}, w{part}, at_w + {at}, {ok})")
    rows_b = t.threads // t.n
    for first in range(0, words, rows_b):
        if pair == 2:
            # no asynchronous copy is of 2 bytes: from registers, after the products of a step
            to, at = f"held{len(held)}", f"at_x + {2 * first} * x_c"
            then = f"{at} + x_c"
            held.append(to)
            if thin:
                copies += _in_a_row(f"c + row_b * 2 + {2 * first}", "at", "ok")
                copies += _in_a_row(f"c + row_b * 2 + {2 * first + 1}", "then", "also")
                at, then = "at", "then"
            else:
                copies += [
                    f"ok = lies & inside(c + row_b * 2 + {2 * first}, channels)",
                    f"also = lies & inside(c + row_b * 2 + {2 * first + 1}, channels)",
                ]
            copies.append(f"{to} = pair_b(xs, {at}, {then}, ok, also)")
            puts.append(f"put_b(sb, fill * {b} + (row_b + {first}) * {t.pitch} + column_b, {to})")
            continue
        at = f"at_x + {first} * x_c"
        if thin:
            copies += _in_a_row(f"c + row_b + {first}", "at", "ok")
            at = "at"
        else:
            copies.append(f"ok = lies & inside(c + row_b + {first}, channels)")
        to = f"slot * {b} + (row_b + {first}) * {t.pitch} + column_b"
        copies.append(f"copy_b(sb, {to}, xs, {at}, ok)")
    # a pass of all threads copies whole lines, or equal parts of one
    assert max(t.threads, across_a) % min(t.threads, across_a) == 0 == a // vector % t.threads
    assert t.threads % t.n == words % rows_b == 0
    fold = [
        f"since = since + {t.k}",
        f"if since == {FOLD // t.k * t.k}:",
        "    since = 0",
        "    sums = fold_totals(sums, st, tid)",
    ]
    # where a thread's first channel is, which thin kernels find for each sample
    own = "" if thin else f" + row_b{' * 2' if held else ''} * x_c"
    in_width = "" if thin else " & inside(left, width)"
    # of volumes, planes o and taps t come before rows
    plane = ["o = quotient(p, p_div, p_shift)", "p = p - o * p_count",
             "front = o * step_d - pad_d"] * deep  # fmt: skip
    next_plane = ["if r == taps_r:", "    r = 0", "    t = t + 1"] * deep
    in_depth = " & inside(front + t * step_e, depth)" * deep
    next_row = ["r = r + 1", *next_plane]
    if thin:
        next_tap = next_row
        of_tap = [
            "down = r * step_l",
            f"lies = inside(top + down, height) & is_pixel{in_depth}",
            "at_x = at_tap + down * x_h",
        ]
    else:
        next_tap = ["s = s + 1", "if s == taps_s:", "    s = 0", *indented(next_row, 1)]
        of_tap = [
            "down = r * step_l",
            "along = s * step_m",
            "lies = inside(top + down, height) & inside(left + along, width)",
            f"lies = lies & is_pixel{in_depth}",
            "at_x = at_tap + down * x_h + along * x_w",
        ]
    of_tap += ["at_x = at_x + t * step_e * x_d"] * deep
    group, steps = ("group", "count") if split else ("block_z()", "steps")
    begin = [
        f"lies = is_pixel & inside(top, height){in_width}{in_depth}", "c = 0", "r = 0", "s = 0",
    ]  # fmt: skip
    if split:
        by_row = ["t = quotient(r, r_div, r_shift)", "r = r - t * taps_r"] * deep
        begin = [
            "r = quotient(first, tap_div, tap_shift)",
            f"c = (first - r * tap_steps) * {t.k}",
            f"at_w = first * {lines_a} * packed_w",
            *(() if thin else ("s = r", "r = quotient(s, s_div, s_shift)", "s = s - r * taps_s")),
            *by_row, *of_tap, *(() if thin else ("at_x = at_x + c * x_c",)),
        ]  # fmt: skip
    lines = [
        f"def {name}({parameters}):",
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
        *indented(_share() if split else [], 1),
        f"    w0 = advance(w, {group}, w_g)",
        *([] if t.parts == 1 else ["    w1 = advance(w0, 1, w_part)"]),
        f"    packed_w = packed_k * {t.deep}",
        "    at_w = 0",
        "    j = j0 + column_b",
        "    is_pixel = inside(j, pixels)",
        "    j = j * is_pixel",
        "    image = quotient(j, plane_div, plane_shift)",
        "    j = j - image * plane",
        "    p = quotient(j, q_div, q_shift)",
        "    left = (j - p * q_count) * step_v - pad_w",
        *indented(plane, 1),
        "    top = p * step_u - pad_h",
        *["    t = 0"] * deep,
        f"    xs = advance(advance(x, image, x_n), {group}, x_g)",
        f"    at_tap = top * x_h + left * x_w{own}",
        *["    at_tap = at_tap + front * x_d"] * deep,
        "    at_x = at_tap",
        *indented(begin, 1),
        "    slot = 0",
        "    sums = zeros()",
        *(f"    {name} = zero()" for name in held),
        *(["    st = shared_t()", "    sums = clear_totals(sums, st, tid)", "    since = 0"]
          if folds else []),
        *indented(t.places, 1),
        f"    for step in range(0 - {ahead}, {steps}):",
        f"        if step + {ahead} < {steps}:",
        *indented(copies, 3),
        f"            at_w = at_w + {lines_a} * packed_w",
        *([] if thin else [f"            at_x = at_x + {t.k} * x_c"]),
        f"            c = c + {t.k}",
        "            if c >= channels:",
        "                c = 0",
        *indented([*next_tap, *of_tap], 4),
        "        commit()",
        *(["        fill = slot"] if held else []),
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
        f"            sums = step_of_tile(sums, sa, now * {a * t.parts} + at_a,"
        f" sb, now * {b} + at_b)",
        *(indented(fold, 3) if folds else []),
        *([f"        if step + {ahead} < {steps}:", *indented(puts, 3)] if held else []),
        "    drain()",
        *(["    sums = add_totals(sums, st, tid)"] if folds else []),
        *indented(_finish(t, plane[:2], split), 1),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _share() -> list[str]:
    """The block's group and, of the sums there, its steps: `count` from `first` on."""
    return [
        "group = quotient(block_z(), splits_div, splits_shift)",
        "cut = block_z() - group * splits",
        "first = cut * each",
        "count = steps - first",
        "if count > each:",
        "    count = each",
    ]


def _in_a_row(number: str, at: str, ok: str) -> list[str]:
    """Where the sample of a number in a thin kernel's row is, and whether it lies in x."""
    return [
        f"e = {number}",
        "s = quotient(e, few_div, few_shift)",
        "along = s * step_m",
        f"{at} = at_x + along * x_w + (e - s * few) * x_c",
        f"{ok} = lies & inside(left + along, width) & inside(e, channels)",
    ]


def _finish(t: Any, plane: list[str], split: bool) -> list[str]:
    """Bias, residual and activation of each sum, and its store; of volumes `plane` finds o."""
    whole = "advance_y(y, cut, y_cut)" if split else "y"
    lines = [
        *t.last,
        f"g = {'group' if split else 'block_z()'}",
        "first = g * filters",
        "has_bias = given(bias)",
        "has_residual = given(residual)",
        # filters beyond the last are none's
        "own_y = (k0 + own_k) * y_k",
        "own_r = (k0 + own_k) * r_k",
    ]
    for m, row in enumerate(t.rows):
        lines += [
            f"k = k0 + own_k + {row}",
            f"is{m} = inside(k, filters)",
            f"b{m} = load_b(bias, (first + k) * b_k, is{m} & has_bias, zero())",
            # steps from the first filter are the same for all threads: uniform registers
            f"y{m} = {row} * y_k",
            f"r{m} = {row} * r_k",
        ]
    for n, column in enumerate(t.columns):
        lines += [
            f"j = j0 + own_j + {column}",
            "ok = inside(j, pixels)",
            "j = j * ok",
            "image = quotient(j, plane_div, plane_shift)",
            "j = j - image * plane",
            "p = quotient(j, q_div, q_shift)",
            "q = j - p * q_count",
            *plane,
            f"ys = advance_y(advance_y({whole}, image, y_n), g, y_g)",
            "rs = advance_y(advance_y(residual, image, r_n), g, r_g)",
            "at_y = p * y_h + q * y_w + own_y",
            "at_r = p * r_h + q * r_w + own_r",
            *["at_y = at_y + o * y_d", "at_r = at_r + o * r_d"][: len(plane)],
            *(
                f"finish(sums[{t.place(m, n)}], b{m}, rs, at_r + r{m}, has_residual, ys,"
                f" at_y + y{m}, ok & is{m}, low, high)"
                for m in range(len(t.rows))
            ),
        ]
    return lines


@functools.lru_cache(64)
def joined(dtype: str, activation: str = "clamp", deep: bool = False) -> Kernel:
    """y of what blocks have summed, `splits` times (filters, pixels); a thread has an output."""
    word = "f64" if dtype == "f64" else "f32"
    table = {
        "load": ("load", word), "advance": ("advance", word), "zero": ("zero", word),
        "add": ("add", word), "load_b": ("load_if", dtype), "given": ("given",),
        "advance_y": ("advance", dtype), "finish": ("finish", activation, dtype),
    }  # fmt: skip
    parameters = (
        *((name, "pointer") for name in ("z", "bias", "residual", "y")), *JOIN,
        *(JOIN_DEEP if deep else ()), ("low", word), ("high", word),
    )  # fmt: skip
    plane = ["o = quotient(p, p_div, p_shift)", "p = p - o * p_count"] * deep
    lines = [
        f"def gemm_join({', '.join(name for name, _ in parameters)}):",
        f"    item = block_x() * {PACK_THREADS} + thread()",
        "    if item < items:",
        "        k = quotient(item, pixels_div, pixels_shift)",
        "        j = item - k * pixels",
        "        image = quotient(j, plane_div, plane_shift)",
        "        j = j - image * plane",
        "        p = quotient(j, q_div, q_shift)",
        "        q = j - p * q_count",
        *indented(plane, 2),
        "        total = zero()",
        "        for cut in range(splits):",
        "            total = add(total, load(advance(z, cut, y_cut), item))",
        "        b = load_b(bias, k * b_k, given(bias), zero())",
        "        ys = advance_y(advance_y(y, image, y_n), k, y_k)",
        "        rs = advance_y(advance_y(residual, image, r_n), k, r_k)",
        f"        at_y = p * y_h + q * y_w{' + o * y_d' * deep}",
        f"        at_r = p * r_h + q * r_w{' + o * r_d' * deep}",
        "        finish(total, b, rs, at_r, given(residual), ys, at_y, inside(item, items), low,"
        " high)",
    ]
    text = "\n".join(lines) + "\n"
    return Kernel("gemm_join", text, operations(text, table), parameters, PACK_THREADS, 4)


@functools.lru_cache(16)
def pack_kernel(dtype: str, deep: bool = False, thin: bool = False) -> Kernel:
    """Packs w (K, C / groups, R, S) as (groups, taps, channels, filters), what is added as 0.

    `deep` is of w (K, C / groups, T, R, S); if `thin`, taps are rows, and channels those of each
    column.
    """
    table = {
        "load": ("load_if", dtype), "store": ("store", dtype), "zero": ("zero", dtype),
        "advance": ("advance", dtype),
    }  # fmt: skip
    parameters = pack_parameters(deep, thin)
    place = """
        a = quotient(item, k_div, k_shift)
        k = item - a * packed_k
        b = quotient(a, c_div, c_shift)
        c = a - b * packed_c"""
    put = "store(packed, item, load(ws, at, ok, zero()))"
    text = pack_text("gemm_pack", deep, thin, place, put)
    return Kernel("gemm_pack", text, operations(text, table), parameters, PACK_THREADS, 4)


def pack_parameters(deep: bool, thin: bool) -> tuple[tuple[str, str], ...]:
    """Of a kernel of `pack_text`."""
    constants = (*PACK_CONSTANTS, *(PACK_DEEP if deep else ()), *(THIN if thin else ()))
    return (("w", "pointer"), ("packed", "pointer"), *constants)


def pack_text(name: str, deep: bool, thin: bool, place: str, put: str) -> str:
    """A kernel that packs w, an item a thread.

    `place` finds filter k, channel c and b = group * taps + tap of an item; `put` stores what is
    `at` of `ws`, where it is `ok`, and may want what is `then`, of the next channel.
    """
    tap = """
        r = quotient(t, s_div, s_shift)
        s = t - r * taps_s"""
    layer = """
        layer = quotient(r, r_div, r_shift)
        r = r - layer * taps_r"""
    row = f"r * w_r{' + layer * w_t' * deep}"
    at = f"""
        at = c * w_c + {row} + s * w_s
        then = at + w_c"""
    if thin:
        tap = """
        r = t"""
        at = f"""
        s = quotient(c, few_div, few_shift)
        at = (c - s * few) * w_c + {row} + s * w_s
        s = quotient(c + 1, few_div, few_shift)
        then = (c + 1 - s * few) * w_c + {row} + s * w_s"""
    return f"""
def {name}({", ".join(each for each, _ in pack_parameters(deep, thin))}):
    item = block_x() * {PACK_THREADS} + thread()
    if item < items:{place}
        g = quotient(b, t_div, t_shift)
        t = b - g * taps{tap}{layer * deep}
        ws = advance(w, g * filters + k * inside(k, filters), w_k)
        ok = inside(k, filters) & inside(c, channels){at}
        {put}
"""
