"""mma: the product of filters by windows of `gemm`, multiplied by tensor cores in TF32.

    y[k, j] = finish(sum over t, c of w[t, c, k] * X[c, window t of pixel j])

With w' the nearest TF32 of w and w'' of what is left, and x = x' + x'' likewise:

    tf32       w' x'
    3xtf32     w' x' + (w'' x' + w' x''), the small products in sums of their own

so that 3xtf32 has float32's precision: what is left out, w'' x'', is at most 2**-22 of a product.
x is NCHW or whatever its strides say; nothing is transposed.

A warp makes `warp` filters by pixels in tiles of 16 x 8, its lanes' sums where mma.m16n8k8 has them
(PTX ISA, section "Matrix Fragments for mma.m16n8k8"): lane l has rows l / 4 and l / 4 + 8, columns
2 (l mod 4) and the next. Filters are packed as fragments, (groups, taps, channels / 8, filters /
16, 32 lanes, 4): a lane's four by one load of 16 bytes. Rows of pixels are 8 elements longer than
the tile, so that the lanes' loads, 4 channels by 8 pixels, meet in no bank.

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

#: Filters and channels that a fragment of w holds.
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
        assert dtype == "f32"
        tiles = self.warp[0] // 16, self.warp[1] // 8
        split = self.m * self.k if self.parts > 1 else 0
        return "mma_step", self.k, self.pitch, *tiles, self.m * DEPTH, split

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


#: Tiles by products and text, the largest first.
TILES = {
    "tf32": {str(t): t for t in (
        Tile(128, 128, 16, (64, 32), 1, 1), Tile(64, 64, 16, (32, 32), 1, 4),
    )},
    "3xtf32": {str(t): t for t in (
        Tile(128, 64, 16, (32, 32), 2, 1), Tile(64, 64, 16, (32, 32), 2, 3),
    )},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is compiled in; `products` is of `TILES`."""

    products: str
    tile: str
    activation: str = "clamp"


@functools.lru_cache(256)
def kernel(v: Variant) -> Kernel:
    """The kernel of a variant."""
    return gemm.written("mma", "f32", TILES[v.products][v.tile], False, v.activation)


@functools.lru_cache(2)
def pack_kernel(parts: int) -> Kernel:
    """Packs w (K, C / groups, R, S) as fragments, what is added as 0, and then what TF32 left."""
    table = {
        "load": ("load_if", "f32"), "store": ("store", "f32"), "zero": ("zero", "f32"),
        "advance": ("advance", "f32"), "tf32": ("tf32",), "rest": ("rest",),
    }  # fmt: skip
    parameters = (("w", "pointer"), ("packed", "pointer"), *gemm.PACK_CONSTANTS)
    second = """
        store(advance(packed, 1, w_part), item, rest(value))"""
    text = f"""
def mma_pack({", ".join(name for name, _ in parameters)}):
    item = block_x() * {gemm.PACK_THREADS} + thread()
    if item < items:
        fragment = item >> 7
        lane = (item >> 2) & 31
        a = quotient(fragment, k_div, k_shift)
        k = (fragment - a * packed_k) * {ROWS} + (lane >> 2) + (item & 1) * 8
        b = quotient(a, c_div, c_shift)
        c = (a - b * packed_c) * {DEPTH} + (lane & 3) + ((item >> 1) & 1) * 4
        g = quotient(b, t_div, t_shift)
        t = b - g * taps
        r = quotient(t, s_div, s_shift)
        s = t - r * taps_s
        ws = advance(w, g * filters + k * inside(k, filters), w_k)
        ok = inside(k, filters) & inside(c, channels)
        value = load(ws, c * w_c + r * w_r + s * w_s, ok, zero())
        store(packed, item, tf32(value)){second if parts > 1 else ""}
"""
    return Kernel("mma_pack", text, operations(text, table), parameters, gemm.PACK_THREADS, 4)
