"""mma: the product of filters by windows of `gemm`, multiplied by tensor cores in TF32.

    y[k, j] = finish(sum over t, c of w[t, c, k] * X[c, window t of pixel j])

With w' the nearest TF32 of w and w'' of what is left, and x = x' + x'' likewise:

    tf32       w' x'
    3xtf32     w' x' + (w'' x' + w' x''), the small products in sums of their own
    f16, bf16  w x, the products exact

so that 3xtf32 has float32's precision: what is left out, w'' x'', is at most 2**-22 of a product.
x is NCHW or whatever its strides say; nothing is transposed.

A warp makes `warp` filters by pixels in tiles of 16 x 8, its lanes' sums where mma.m16n8k8 has them
(PTX ISA, section "Matrix Fragments for mma.m16n8k8"): lane l has rows l / 4 and l / 4 + 8, columns
2 (l mod 4) and the next. Filters are packed as fragments, (groups, taps, channels / 8, filters /
16, 32 lanes, 4): a lane's four by one load of 16 bytes. Rows of pixels are 8 elements longer than
the tile, so that the lanes' loads, 4 channels by 8 pixels, meet in no bank.

float16 and bfloat16 go through mma.m16n8k16, whose fragments are those of m16n8k8 with two channels
in place of a float32: a word of shared memory. Samples reach it by registers, since no asynchronous
copy is of 2 bytes: loaded before the products of a step and stored after them.

Tensor cores cut what they drop where a float32 sum is rounded; so each step is summed from zero and
then added (`intrinsics.mma_step`). Ootomo and Yokota, Recovering single precision accuracy from
Tensor Cores, arXiv:2203.03341; Markidis et al., arXiv:1803.04014, section V.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from fastconv.cuda import gemm
from fastconv.cuda.kernel import Kernel, operations

#: Filters, and words of one or two channels, that a fragment of w holds.
ROWS, DEPTH = 16, 8


@dataclasses.dataclass(frozen=True)
class Tile:
    """A block's filters, pixels and channels a step, and a warp's filters and pixels.

    `blocks` of a multiprocessor are what registers allow without a spill.
    """

    m: int
    n: int
    k: int
    warp: tuple[int, int]
    parts: int
    blocks: int
    stages: int = 3
    pair: int = 1

    deep, together = DEPTH, ROWS

    @property
    def warps(self) -> tuple[int, int]:
        return self.m // self.warp[0], self.n // self.warp[1]

    @property
    def threads(self) -> int:
        return 32 * self.warps[0] * self.warps[1]

    @property
    def sums(self) -> int:
        """Of a thread, those of the small products included."""
        return len(self.rows) * len(self.columns) * self.parts

    @property
    def pitch(self) -> int:
        """Elements from one row of pixels to the next in shared memory."""
        return self.n + 8

    def step(self, dtype: str) -> tuple[Any, ...]:
        tiles = self.warp[0] // 16, self.warp[1] // 8
        split = self.m * self.k if self.parts > 1 else 0
        words = self.k // self.pair
        return "mma_step", dtype, words, self.pitch, *tiles, self.m * DEPTH, split

    @property
    def places(self) -> list[str]:
        """Where a thread's first filter and pixel are in the block, and in shared memory."""
        return [
            "lane = tid % 32",
            "warp = tid // 32",
            f"warp_k = warp // {self.warps[1]} * {self.warp[0]}",
            f"warp_j = warp % {self.warps[1]} * {self.warp[1]}",
            "own_k = warp_k + lane // 4",
            "own_j = warp_j + lane % 4 * 2",
            f"at_a = warp_k * {DEPTH} + lane * 4",
            f"at_b = lane % 4 * {self.pitch} + warp_j + lane // 4",
        ]

    @property
    def rows(self) -> list[int]:
        """The thread's filters, from its first one on."""
        return list(range(0, self.warp[0], 8))

    @property
    def columns(self) -> list[int]:
        """The thread's pixels, from its first one on."""
        return [first + i for first in range(0, self.warp[1], 8) for i in (0, 1)]

    def place(self, row: int, column: int) -> int:
        """Of a filter and a pixel, the number of their sum."""
        tile = row // 2 * (self.warp[1] // 8) + column // 2
        return tile * 4 + row % 2 * 2 + column % 2

    @property
    def operations(self) -> dict[str, tuple[Any, ...]]:
        return {"joined": ("joined", self.sums // 2)}

    @property
    def last(self) -> tuple[str, ...]:
        return ("sums = joined(sums)",) if self.parts > 1 else ()

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"


_HALVES = {str(t): t for t in (
    Tile(128, 128, 32, (64, 32), 1, 1, pair=2), Tile(64, 64, 32, (32, 32), 1, 4, pair=2),
)}  # fmt: skip

#: Tiles by products and text, the largest first.
TILES = {
    "f16": _HALVES, "bf16": _HALVES,
    "tf32": {str(t): t for t in (
        Tile(128, 128, 16, (64, 32), 1, 1), Tile(64, 64, 16, (32, 32), 1, 4),
    )},
    "3xtf32": {str(t): t for t in (
        Tile(128, 64, 16, (32, 32), 2, 1), Tile(64, 64, 16, (32, 32), 2, 3),
    )},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is compiled in; `products` is of `TILES`, the rest as in `gemm.Variant`."""

    products: str
    tile: str
    activation: str = "clamp"
    deep: bool = False
    thin: bool = False
    split: bool = False


@functools.lru_cache(256)
def kernel(v: Variant) -> Kernel:
    """The kernel of a variant."""
    dtype = v.products if v.products in ("f16", "bf16") else "f32"
    tile = TILES[v.products][v.tile]
    return gemm.written("mma", dtype, tile, False, v.activation, v.deep, v.thin, v.split)


@functools.lru_cache(16)
def pack_kernel(products: str, deep: bool = False, thin: bool = False) -> Kernel:
    """Packs w (K, C / groups, R, S) as fragments, what is added as 0, and then what TF32 left.

    `deep` and `thin` are as in `gemm.pack_kernel`.
    """
    table = {
        "load": ("load_if", "f32"), "store": ("store", "f32"), "zero": ("zero", "f32"),
        "advance": ("advance", "f32"), "tf32": ("tf32",), "rest": ("rest",),
    }  # fmt: skip
    pair = next(iter(TILES[products].values())).pair
    parameters = gemm.pack_parameters(deep, thin)
    place = f"""
        fragment = item >> 7
        lane = (item >> 2) & 31
        a = quotient(fragment, k_div, k_shift)
        k = (fragment - a * packed_k) * {ROWS} + (lane >> 2) + (item & 1) * 8
        b = quotient(a, c_div, c_shift)
        c = (a - b * packed_c) * {DEPTH * pair} + ((lane & 3) + ((item >> 1) & 1) * 4) * {pair}"""
    if pair == 2:
        table |= {"advance": ("advance", products), "pair": ("pair_if", products)}
        put = """also = ok & inside(c + 1, channels)
        store(packed, item, pair(ws, at, then, ok, also))"""
    else:
        put = """value = load(ws, at, ok, zero())
        store(packed, item, tf32(value))"""
        if products == "3xtf32":
            put += """
        store(advance(packed, 1, w_part), item, rest(value))"""
    text = gemm.pack_text("mma_pack", deep, thin, place, put)
    return Kernel("mma_pack", text, operations(text, table), parameters, gemm.PACK_THREADS, 4)
