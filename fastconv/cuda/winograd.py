"""winograd: 3 x 3 kernels in tiles of m x m outputs, (m + 2)^2 products in place of 9 m^2.

    u[p, k, c] = (G w[k, c] G')[p]                       by `filters`, when weights are packed
    v[p, c, t] = (B' x[c, tile t] B)[p]                  by `inputs`
    z[p, k, t] = sum over c of u[p, k, c] * v[p, c, t]   by `gemm` or `mma`, points as groups
    y[k, tile t] = finish(A' z[:, k, t] A)               by `outputs`

Tiles of all images are numbered, along rows first, and are v's and z's innermost axis: neighbours
by each kernel's threads. A and B are exact in float32 for the points below; G w G' is made in
float64 and rounded once.

The guard of docs/accuracy.md is in `outputs`. `filters` finds how much each filter's transform can
make of rounding errors, `inputs` the largest |x| of each tile, CHUNK channels at a time. An output
that is not larger than 11 times what the two say is summed from its definition until the products'
magnitudes show that it is right, or to the end, by the thread that made it. A tile that holds NaN
or infinity, or overflows, is so summed as a whole.

Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, sections 4 and 5;
errors after Barabasz et al., ACM TOMS 46(4), 2020.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction

from fastconv.cuda.kernel import SIZES, Kernel, indented, operations

Matrix = tuple[tuple[float, ...], ...]

#: Taps of an axis.
TAPS = 3

#: Points of an axis by outputs, besides infinity: those of the CPU (docs/accuracy.md, winograd).
POINTS = {2: ("0", "1", "-1"), 4: ("0", "5/8", "-5/8", "3/2", "-3/2")}

#: Tiles and channels of a block of `inputs`, and channels of each of its threads.
TILES, CHUNK, OWN = 32, 32, 4

#: Threads of a block: of `filters` along channels, of `outputs` along tiles and filters.
FILTER_THREADS, OUTPUT_THREADS = 128, 256

#: Channels that a suspect is summed over before it is asked again whether it is one.
AGAIN = 8

FILTER_CONSTANTS = (
    *((name, "i32") for name in ("channels", "rounds", "w_c", "w_r", "w_s")),
    *((name, "i64") for name in ("w_k", "plane")),
    *((name, "f64") for name in ("growth", "addition", "least", "infinite")),
)

_PLACES = (
    *((name, "i32") for name in ("tiles", "height", "width", "channels", "chunks", "pad_h",
                                 "pad_w", "plane", "across")),
    *((name, "i64") for name in ("plane_div", "across_div")),
    *((name, "i32") for name in ("plane_shift", "across_shift")),
    *((name, "i64") for name in ("x_n", "x_g")),
    *((name, "i32") for name in ("x_c", "x_h", "x_w")),
)  # fmt: skip

INPUT_CONSTANTS = (*_PLACES, ("points_step", "i64"))

OUTPUT_CONSTANTS = (
    *_PLACES,
    *((name, "i32") for name in ("items", "p_count", "q_count", "blocks")),
    *((name, "i64") for name in ("tiles_div", "group_div")),
    *((name, "i32") for name in ("tiles_shift", "group_shift")),
    *((name, "i64") for name in ("y_n", "y_k", "r_n", "r_k", "w_k", "w_plane", "points_step")),
    *((name, "i32") for name in ("b_k", "y_h", "y_w", "r_h", "r_w")),
)  # fmt: skip


@functools.cache
def matrices(m: int) -> tuple[Matrix, Matrix, Matrix]:
    """A' (m, n), G (n, 3) and B' (n, n), n = m + 2: Y = A' [(G w) . (B' x)].

    Of Toom and Cook's polynomials: with M the product of (z - a) over the finite points a, B' has
    the coefficients of M / (z - a) and, at infinity, of M.
    """
    points = [Fraction(a) for a in POINTS[m]]

    def product(roots: Sequence[Fraction]) -> list[Fraction]:
        made = [Fraction(1)]
        for a in roots:
            low, high = [-a * c for c in made], made
            made = [x + y for x, y in zip([*low, Fraction(0)], [Fraction(0), *high])]
        return made

    n = m + TAPS - 1
    outputs = [[a**p for a in points] + [Fraction(p == m - 1)] for p in range(m)]
    filters, inputs = [], []
    for i, a in enumerate(points):
        others = [b for j, b in enumerate(points) if j != i]
        scale = Fraction(1)
        for b in others:
            scale *= a - b
        filters.append([a**j / scale for j in range(TAPS)])
        inputs.append([*product(others), Fraction(0)])
    filters.append([Fraction(j == TAPS - 1) for j in range(TAPS)])
    inputs.append(product(points))
    assert len(inputs) == n

    def numbers(rows: list[list[Fraction]]) -> Matrix:
        return tuple(tuple(map(float, row)) for row in rows)

    return numbers(outputs), numbers(filters), numbers(inputs)


def growths(m: int) -> Matrix:
    """|A'| with its columns multiplied by the sums of |B'|'s rows: what rounding errors grow by."""
    outputs, _, inputs = matrices(m)
    sums = [sum(map(abs, row)) for row in inputs]
    return tuple(tuple(abs(a) * s for a, s in zip(row, sums)) for row in outputs)


def _squares(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(n)]


def _gathered(name: str, count: int) -> str:
    return f"gathered({', '.join(f'{name}{i}' for i in range(count))})"


@functools.lru_cache(16)
def filters(dtype: str, m: int) -> Kernel:
    """u, w as it was given, and each filter's error level: one after the other in `made`.

    A block has a filter, a thread every FILTER_THREADS-th channel. u is (points, filters,
    channels), w (filters, channels, 9), `plane` the number of filters times channels.
    """
    n, taps = m + TAPS - 1, TAPS * TAPS
    _, rows, _ = matrices(m)
    table = {
        "load": ("load_if", dtype), "store": ("store", dtype), "advance": ("advance", dtype),
        "none": ("zero", dtype), "zero": ("zero", "f64"), "add": ("add", "f64"),
        "fma": ("fma", "f64"), "magnitude": ("magnitude", "f64"), "larger": ("larger", "f64"),
        "wide": ("converted", dtype, "f64"), "narrow": ("converted", "f64", dtype),
        "gathered": ("gathered", "f64", taps), "gathered_u": ("gathered", "f64", n * n),
        "transform": ("transform", "f64", rows), "grow": ("transform", "f64", growths(m)),
        "levels": ("shared", "f64", 0, FILTER_THREADS),
        "sizes": ("shared", "f64", FILTER_THREADS * 8, FILTER_THREADS),
        "get": ("load_shared", "f64"), "put": ("store_shared", "f64"),
    }  # fmt: skip
    parameters = (("w", "pointer"), ("made", "pointer"), *FILTER_CONSTANTS)
    sizes = ", ".join(f"magnitude(u[{p}])" for p in range(n * n))
    lines = [
        f"def winograd_filters({', '.join(name for name, _ in parameters)}):",
        "    k = block_x()",
        "    t = thread()",
        "    ws = advance(w, k, w_k)",
        f"    raw = advance(made, {n * n}, plane)",
        "    level = zero()",
        "    size = zero()",
        "    for round in range(rounds):",
        f"        c = t + round * {FILTER_THREADS}",
        "        ok = inside(c, channels)",
        "        c = c * ok",
        *(
            f"        w{i} = wide(load(ws, c * w_c + {i // TAPS} * w_r + {i % TAPS} * w_s, ok,"
            " none()))"
            for i in range(taps)
        ),
        *(f"        size = add(size, magnitude(w{i}))" for i in range(taps)),
        f"        u = transform({_gathered('w', taps)})",
        f"        grown = grow(gathered_u({sizes}))",
        "        most = grown[0]",
        *(f"        most = larger(most, grown[{i}])" for i in range(1, m * m)),
        "        level = add(level, most)",
        "        if ok != 0:",
        "            at = k * channels + c",
        *(f"            store(raw, at * {taps} + {i}, narrow(w{i}))" for i in range(taps)),
        *(f"            store(advance(made, {p}, plane), at, narrow(u[{p}]))"
          for p in range(n * n)),
        "    sl = levels()",
        "    ss = sizes()",
        "    put(sl, t, level)",
        "    put(ss, t, size)",
        "    sync()",
        "    if t == 0:",
        f"        for i in range(1, {FILTER_THREADS}):",
        "            level = add(level, get(sl, i))",
        "            size = add(size, get(ss, i))",
        "        level = fma(growth, level, fma(addition, size, zero()))",
        # transforms of the smallest weights are subnormal, their errors not relative to their size
        "        if size < least:",
        "            if size > 0:",
        "                level = infinite",
        f"        store(advance(raw, {taps}, plane), k, narrow(level))",
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    return Kernel(
        "winograd_filters", text, operations(text, table), parameters, FILTER_THREADS, 2,
        2 * FILTER_THREADS * 8,
    )  # fmt: skip


def _tile(m: int) -> list[str]:
    """Where tile `t` lies."""
    return [
        "n = quotient(t, plane_div, plane_shift)",
        "t = t - n * plane",
        "i = quotient(t, across_div, across_shift)",
        f"top = i * {m} - pad_h",
        f"left = (t - i * across) * {m} - pad_w",
    ]


@functools.lru_cache(16)
def inputs(dtype: str, m: int) -> Kernel:
    """v (points, channels, tiles), and the largest |x| by (groups, chunks, tiles).

    A block has TILES tiles and CHUNK channels of a group, a warp OWN channels.
    """
    n = m + TAPS - 1
    _, _, rows = matrices(m)
    threads = TILES * CHUNK // OWN
    table = {
        "load": ("load_if", dtype), "store": ("store", dtype), "advance": ("advance", dtype),
        "zero": ("zero", dtype), "magnitude": ("magnitude", dtype), "larger": ("larger", dtype),
        "gathered": ("gathered", dtype, n * n), "transform": ("transform", dtype, rows),
        "shared": ("shared", dtype, 0, threads), "get": ("load_shared", dtype),
        "put": ("store_shared", dtype),
    }  # fmt: skip
    parameters = (*((name, "pointer") for name in ("x", "v", "peaks")), *INPUT_CONSTANTS)
    lines = [
        f"def winograd_inputs({', '.join(name for name, _ in parameters)}):",
        "    tid = thread()",
        f"    tile = block_x() * {TILES} + tid % {TILES}",
        "    is_tile = inside(tile, tiles)",
        "    t = tile * is_tile",
        *indented(_tile(m), 1),
        "    xs = advance(advance(x, n, x_n), block_z(), x_g)",
        *(f"    row{i} = inside(top + {i}, height) & is_tile" for i in range(n)),
        *(f"    column{j} = inside(left + {j}, width)" for j in range(n)),
        "    at_x = top * x_h + left * x_w",
        "    peak = zero()",
        f"    for own in range({OWN}):",
        f"        c = block_y() * {CHUNK} + tid // {TILES} * {OWN} + own",
        "        ok = inside(c, channels)",
        "        c = c * ok",
        *(
            f"        d{i * n + j} = load(xs, c * x_c + at_x + {i} * x_h + {j} * x_w,"
            f" row{i} & column{j} & ok, zero())"
            for i, j in _squares(n)
        ),
        *(f"        peak = larger(peak, magnitude(d{i}))" for i in range(n * n)),
        f"        d = transform({_gathered('d', n * n)})",
        "        if ok & is_tile != 0:",
        "            at = (block_z() * channels + c) * tiles + tile",
        *(f"            store(advance(v, {p}, points_step), at, d[{p}])" for p in range(n * n)),
        "    s = shared()",
        "    put(s, tid, peak)",
        "    sync()",
        f"    if tid < {TILES}:",
        *(
            f"        peak = larger(peak, get(s, tid + {first}))"
            for first in range(TILES, threads, TILES)
        ),
        "        if is_tile != 0:",
        "            store(peaks, (block_z() * chunks + block_y()) * tiles + tile, peak)",
    ]
    text = "\n".join(lines) + "\n"
    return Kernel(
        "winograd_inputs", text, operations(text, table), parameters, threads, 2,
        threads * SIZES[dtype],
    )  # fmt: skip


@functools.lru_cache(64)
def outputs(dtype: str, m: int, activation: str = "clamp") -> Kernel:
    """y of z (points, filters, tiles), guarded; a thread has a tile of a filter.

    `made` is what `filters` wrote behind u: w, and the levels.
    """
    n, taps = m + TAPS - 1, TAPS * TAPS
    rows, _, _ = matrices(m)
    table = {
        "load": ("load_if", dtype), "read": ("load", dtype), "advance": ("advance", dtype),
        "zero": ("zero", dtype), "fma": ("fma", dtype), "add": ("add", dtype),
        "magnitude": ("magnitude", dtype), "larger": ("larger", dtype), "given": ("given",),
        "gathered": ("gathered", dtype, n * n), "transform": ("transform", dtype, rows),
        "doubtful": ("doubtful", dtype, m * m), "unclear": ("unclear", dtype),
        "placed": ("placed", dtype, m * m), "finish": ("finish", activation, dtype),
    }  # fmt: skip
    pointers = ("z", "made", "peaks", "x", "bias", "residual", "y")
    parameters = (
        *((name, "pointer") for name in pointers), *OUTPUT_CONSTANTS, ("low", dtype),
        ("high", dtype),
    )  # fmt: skip
    suspect = [
        "total = zero()",
        "size = zero()",
        "for block in range(blocks):",
        "    if unclear(size, limit) != 0:",
        "        part = zero()",
        f"        for one in range({AGAIN}):",
        f"            c = block * {AGAIN} + one",
        "            if c < channels:",
        f"                for tap in range({taps}):",
        f"                    row = top + which // {m} + tap // {TAPS}",
        f"                    column = left + which % {m} + tap % {TAPS}",
        "                    ok = inside(row, height) & inside(column, width)",
        "                    value = load(xs, c * x_c + row * x_h + column * x_w, ok, zero())",
        f"                    weight = read(ws, c * {taps} + tap)",
        "                    part = fma(value, weight, part)",
        "                    size = fma(magnitude(value), magnitude(weight), size)",
        "        total = add(total, part)",
        "if unclear(size, limit) != 0:",
        "    values = placed(values, which, total)",
    ]
    lines = [
        f"def winograd_outputs({', '.join(name for name, _ in parameters)}):",
        f"    item = block_x() * {OUTPUT_THREADS} + thread()",
        "    is_item = inside(item, items)",
        "    item = item * is_item",
        "    k = quotient(item, tiles_div, tiles_shift)",
        "    tile = item - k * tiles",
        "    t = tile",
        *indented(_tile(m), 1),
        "    g = quotient(k, group_div, group_shift)",
        *(
            f"    z{p} = load(advance(z, {p}, points_step), item, is_item, zero())"
            for p in range(n * n)
        ),
        f"    values = transform({_gathered('z', n * n)})",
        "    peak = zero()",
        "    for chunk in range(chunks):",
        "        peak = larger(peak, read(peaks, (g * chunks + chunk) * tiles + tile))",
        f"    level = read(advance(made, {taps}, w_plane), k)",
        "    limit = fma(level, peak, zero())",
        "    doubts = doubtful(values, limit) * is_item",
        "    if doubts != 0:",
        "        xs = advance(advance(x, n, x_n), g, x_g)",
        "        ws = advance(made, k, w_k)",
        f"        for which in range({m * m}):",
        "            if (doubts >> which) & 1 != 0:",
        *indented(suspect, 4),
        "    has_bias = given(bias)",
        "    has_residual = given(residual)",
        "    b = load(bias, k * b_k, has_bias & is_item, zero())",
        "    ys = advance(advance(y, n, y_n), k, y_k)",
        "    rs = advance(advance(residual, n, r_n), k, r_k)",
        # back from where x is to the first output
        "    p = top + pad_h",
        "    q = left + pad_w",
        "    at_y = p * y_h + q * y_w",
        "    at_r = p * r_h + q * r_w",
        *(f"    row{i} = inside(p + {i}, p_count) & is_item" for i in range(m)),
        *(f"    column{j} = inside(q + {j}, q_count)" for j in range(m)),
        *(
            f"    finish(values[{i * m + j}], b, rs, at_r + {i} * r_h + {j} * r_w, has_residual,"
            f" ys, at_y + {i} * y_h + {j} * y_w, row{i} & column{j}, low, high)"
            for i, j in _squares(m)
        ),
    ]
    text = "\n".join(lines) + "\n"
    return Kernel("winograd_outputs", text, operations(text, table), parameters, OUTPUT_THREADS, 2)
