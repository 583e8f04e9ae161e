"""The kernels that common layers need, by name: what is compiled ahead, and held to budgets."""

from __future__ import annotations

from fastconv.cuda import direct, fir, fourier, gemm, mma, taps, winograd
from fastconv.cuda.kernel import Kernel


def common() -> dict[str, Kernel]:
    """Every family of kernels, and of each the variants of common layers."""
    found = {}
    for v in _DIRECT:
        r, s = v.kernel
        name = f"direct {v.dtype} {r}x{s} u{v.stride} rows{v.rows}"
        name += "" if v.boundary == "zeros" else f" {v.boundary}"
        name += "" if v.activation == "clamp" else f" {v.activation}"
        name += "" if v.parts == 1 else " complex" + f" by real {v.real}" * bool(v.real)
        name += "" if not v.weights else f" w:{v.weights}"
        name += " deep" * v.deep + (f" y:{v.result}" if v.result else "")
        name += f" in {v.sums}" if v.sums else ""
        name += " split" * v.split
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
    for products in (
        "3xtf32",
        "bf16",
    ):  # of volumes and first layers, the tiles with the most registers
        name = next(iter(mma.TILES[products]))
        deep = mma.Variant(products, name, deep=True)
        found[f"mma {products} {name} deep"] = mma.kernel(deep)
        thin = mma.Variant(products, name, thin=True)
        found[f"mma {products} {name} thin"] = mma.kernel(thin)
        found[f"mma_pack {products} thin"] = mma.pack_kernel(products, thin=True)
    tile = next(iter(gemm.TILES["f32"].values()))
    found[f"gemm f32 {tile} deep"] = gemm.kernel(gemm.Variant("f32", tile, deep=True))
    found[f"gemm f32 {tile} thin"] = gemm.kernel(gemm.Variant("f32", tile, thin=True))
    found["gemm_pack f32 deep"] = gemm.pack_kernel("f32", deep=True)
    found["gemm_pack f32 thin"] = gemm.pack_kernel("f32", thin=True)
    # where blocks share sums
    found[f"gemm f32 {tile} folds split"] = gemm.kernel(gemm.Variant("f32", tile, True, split=True))
    name = next(iter(mma.TILES["3xtf32"]))
    found[f"mma 3xtf32 {name} split"] = mma.kernel(mma.Variant("3xtf32", name, split=True))
    found["gemm_join f32"] = gemm.joined("f32")
    for f in _FIR:
        name = f"fir {f.dtype} capacity{f.capacity} rest{f.rest}"
        found[name + ("" if f.boundary == "zeros" else f" {f.boundary}")] = fir.kernel(f)
    for m in winograd.POINTS:
        found[f"winograd_filters f32 in f64 m{m}"] = winograd.filters("f32", m)
        found[f"winograd_inputs f32 m{m}"] = winograd.inputs("f32", m)
        found[f"winograd_outputs f32 m{m}"] = winograd.outputs("f32", m)
    found["fourier_inputs f32"] = fourier.inputs("f32", "zeros")
    found["fourier_filters f32"] = fourier.filters("f32")
    for operation in ("add", "larger"):
        found[f"fourier_{operation} f32"] = fourier.folded("f32", operation)
    found["fourier_products f32"] = fourier.products("f32")
    found["fourier_outputs f32 complex deep"] = fourier.outputs(
        "f32", "f32", "zeros", parts=2, deep=True
    )
    found["fourier_outputs f32 reflect"] = fourier.outputs("f32", "f32", "reflect")
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
    direct.Variant("f32", (1, 31), 1, 1, 1, parts=2, real="w"),
    direct.Variant("f16", (3, 3), 1, 1, 4, "nearest", "clamp", 1, "f32"),
    direct.Variant("f32", (3, 3), 1, 1, 4, deep=True),
    direct.Variant("f32", (56, 56), 1, 1, 1, deep=True, split=True),
    direct.Variant("u8", (3, 3), 1, 1, 4, "reflect", weights="i8", result="i16", sums="i32"),
    direct.Variant("i64", (3, 3), 1, 1, 4, sums="i64"),
    direct.Variant("u8", (1, 9), 1, 1, 1, "reflect", weights="f64", sums="f64"),
    direct.Variant("u16", (3, 3), 1, 1, 4, weights="f32", result="f32"),
)

_FIR = (
    fir.Variant("f32", 64, 7),
    fir.Variant("f32", 256, 0),
    fir.Variant("f64", 64, 3, "wrap"),
)
