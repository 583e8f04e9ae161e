"""The kernels that common layers need, by name: what is compiled ahead, and held to budgets."""

from __future__ import annotations

from fastconv.cuda import direct, fir, gemm, mma, taps, winograd
from fastconv.cuda.kernel import Kernel


def common() -> dict[str, Kernel]:
    """Every family of kernels, and of each the variants of common layers."""
    found = {}
    for v in _DIRECT:
        r, s = v.kernel
        name = f"direct {v.dtype} {r}x{s} u{v.stride} rows{v.rows}"
        name += "" if v.boundary == "zeros" else f" {v.boundary}"
        name += "" if v.activation == "clamp" else f" {v.activation}"
        name += "" if v.parts == 1 else " complex"
        name += "" if not v.weights else f" w:{v.weights}"
        name += " deep" * v.deep
        found[name] = direct.kernel(v)
    for dtype, tiles in gemm.TILES.items():
        for name, tile in tiles.items():
            # one fold is as another: the largest tile's has the most totals
            for folds in (False, True) if tile is next(iter(tiles.values())) else (False,):
                of = f"gemm {dtype} {name}{' folds' if folds else ''}"
                found[of] = gemm.kernel(gemm.Variant(dtype, tile, folds))
        found[f"gemm_pack {dtype}"] = gemm.pack_kernel(dtype)
    for products, named in mma.TILES.items():
        for name in named:
            found[f"mma {products} {name}"] = mma.kernel(mma.Variant(products, name))
    for f in _FIR:
        name = f"fir {f.dtype} capacity{f.capacity} rest{f.rest}"
        found[name + ("" if f.boundary == "zeros" else f" {f.boundary}")] = fir.kernel(f)
    for m in winograd.POINTS:
        found[f"winograd_filters f32 in f64 m{m}"] = winograd.filters("f32", m)
        found[f"winograd_inputs f32 m{m}"] = winograd.inputs("f32", m)
        found[f"winograd_outputs f32 m{m}"] = winograd.outputs("f32", m)
    found["taps f32"] = taps.kernel("f32")
    for products in mma.TILES:
        found[f"mma_pack {products}"] = mma.pack_kernel(products)
    return found


_DIRECT = (
    direct.Variant("f32", (3, 3), 1, 1, 4),
    direct.Variant("f32", (3, 3), 2, 1, 4),
    direct.Variant("f16", (3, 3), 1, 1, 4),
    direct.Variant("bf16", (3, 3), 1, 1, 4),
    direct.Variant("f64", (3, 3), 1, 1, 4),
    direct.Variant("f32", (3, 3), 1, 1, 4, "zeros", "silu"),
    direct.Variant("f32", (7, 7), 1, 1, 4, "mirror"),
    direct.Variant("f32", (31, 31), 1, 1, 8),
    direct.Variant("f32", (1, 31), 1, 1, 1),
    direct.Variant("f64", (1, 31), 1, 1, 1, "reflect", "gelu"),
    direct.Variant("f32", (3, 3), 1, 1, 4, "nearest", "clamp", 2),
    direct.Variant("f16", (3, 3), 1, 1, 4, "nearest", "clamp", 1, "f32"),
    direct.Variant("f32", (3, 3), 1, 1, 4, deep=True),
)

_FIR = (
    fir.Variant("f32", 64, 7),
    fir.Variant("f32", 256, 0),
    fir.Variant("f64", 64, 3, "wrap"),
)
