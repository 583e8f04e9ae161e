"""fourier: what is done before, between and after cuFFT's transforms of blocks of signals.

    y[n, k, p, q] = finish(F^-1(sum over c of F(X)[n, c, block] * conj(F(w))[k, c])[place in block])

x is cut into blocks that overlap by a kernel's span less one, each on a circle of n0 x n1 samples
(1 x n1 in one dimension; planes of those in volumes, which `deep` kernels are for): an output is
kept where its window does not reach round the circle. One block for all is the plain method, more
are overlap-save. Blocks of all images are rows, in order of (image, block down, block along), and a
round takes as many as its memory holds, from `first` on; its arrays are

    xs (rows, channels, n0, n1)      X (rows, channels, n0, n1 / 2 + 1) complex
    ws (filters, channels, n0, n1)   W likewise
    zs (rows, filters, n0, n1)       Z likewise

Complex numbers are two channels and two filters of real ones: w is the matrix of (real, -imaginary)
and (imaginary, real). Of a conjugated x the second channel is turned as it is read.

The guard is that of docs/accuracy.md: an output that is not finite, or not above 11 times the
transforms' error, level[k] * peak[row], is summed from its definition, CHUNK taps at a time until
the sizes of its products show that it is right, or to the end.

Stockham, High-speed convolution and correlation (1966).
"""

from __future__ import annotations

import functools

from fastconv.cuda.kernel import SIZES, Kernel, indented, operations

#: Threads of a block, samples that each copies, and taps that are summed between two looks.
THREADS, EACH, CHUNK = 256, 8, 64

INPUTS = (
    *((name, "i32") for name in ("first", "chunks", "groups", "blocks", "across", "samples",
                                 "circle", "line", "height", "width", "pad_h", "pad_w", "step_h",
                                 "step_w")),
    *((name, "i64") for name in ("chunks_div", "groups_div", "blocks_div", "across_div",
                                 "circle_div", "line_div", "x_n", "x_g", "xs_part")),
    *((name, "i32") for name in ("chunks_shift", "groups_shift", "blocks_shift", "across_shift",
                                 "circle_shift", "line_shift", "x_c", "x_h", "x_w")),
)  # fmt: skip

FILTERS = (
    *((name, "i32") for name in ("tiles", "samples", "circle", "line", "taps_r", "taps_s",
                                 "gap_h", "gap_w")),
    *((name, "i64") for name in ("tiles_div", "circle_div", "line_div", "gap_h_div", "gap_w_div",
                                 "w_k", "ws_k", "plain_k")),
    *((name, "i32") for name in ("tiles_shift", "circle_shift", "line_shift", "gap_h_shift",
                                 "gap_w_shift", "w_c", "w_r", "w_s")),
)  # fmt: skip

PRODUCTS = (
    *((name, "i32") for name in ("tiles", "filters", "groups", "channels", "bins")),
    *((name, "i64") for name in ("tiles_div", "filters_div", "group_div", "part",
                                 "z_line")),
    *((name, "i32") for name in ("tiles_shift", "filters_shift", "group_shift")),
)  # fmt: skip

OUTPUTS = (
    *((name, "i32") for name in ("first", "items", "p_count", "q_count", "filters", "groups",
                                 "blocks", "across", "kept_h", "kept_w", "step_u", "step_v", "line",
                                 "height", "width", "pad_h", "pad_w", "gap_h", "gap_w", "channels",
                                 "taps_r", "taps_s", "chunks")),
    *((name, "i64") for name in ("blocks_div", "across_div", "filters_div", "group_div",
                                 "kept_h_div", "kept_w_div", "z_row", "z_k", "x_n", "x_g", "w_k",
                                 "y_n", "y_k", "r_n", "r_k")),
    *((name, "i32") for name in ("blocks_shift", "across_shift", "filters_shift", "group_shift",
                                 "kept_h_shift", "kept_w_shift", "x_c", "x_h", "x_w", "b_k", "y_h",
                                 "y_w", "r_h", "r_w")),
)  # fmt: skip

#: And of volumes: samples of a circle's plane, blocks of a layer, and what rows have.
INPUTS_DEEP = (
    *((name, "i32") for name in ("area", "level", "depth", "pad_d", "step_d", "x_d")),
    *((name, "i64") for name in ("area_div", "level_div")),
    *((name, "i32") for name in ("area_shift", "level_shift")),
)  # fmt: skip
FILTERS_DEEP = (
    *((name, "i32") for name in ("area", "taps_t", "gap_d", "w_t")),
    *((name, "i64") for name in ("area_div", "gap_d_div")),
    *((name, "i32") for name in ("area_shift", "gap_d_shift")),
)  # fmt: skip
OUTPUTS_DEEP = (
    *((name, "i32") for name in ("area", "level", "o_count", "kept_d", "step_t", "depth", "pad_d",
                                 "gap_d", "taps_t", "x_d", "y_d", "r_d")),
    *((name, "i64") for name in ("level_div", "kept_d_div")),
    *((name, "i32") for name in ("level_shift", "kept_d_shift")),
)  # fmt: skip


def _sample(boundary: str, deep: bool) -> list[str]:
    """value, of channel c at (row, column) of x extended, in the image and group of xg; of volumes,
    in plane `front`."""
    if boundary == "zeros":
        also, at = " & inside(front, depth)" * deep, " + front * x_d" * deep
        return [f"there = inside(row, height) & inside(column, width){also}",
                f"at = c * x_c + row * x_h + column * x_w{at}",
                "value = load_x(xg, at, there, fill)"]  # fmt: skip
    at = " + edge(front, depth) * x_d" * deep
    return [f"at = edge(row, height) * x_h + edge(column, width) * x_w{at}",
            "value = load_x(xg, c * x_c + at)"]  # fmt: skip


def _turned(parts: int) -> list[str]:
    """`value` of channel c, of a complex x the imaginary part of its conjugate."""
    if parts == 1:
        return []
    return ["sign = plus", "if c == 1:", "    sign = turn", "value = fma(value, sign, zero())"]


def _signs(parts: int, computed: str) -> tuple[tuple[str, str], ...]:
    return (("plus", computed), ("turn", computed)) if parts == 2 else ()


def _of_x(dtype: str, boundary: str) -> dict[str, tuple[str, ...]]:
    return {"load_x": ("load_if" if boundary == "zeros" else "load", dtype),
            "edge": ("edge", boundary), "advance_x": ("advance", dtype)}  # fmt: skip


def _computed(dtype: str) -> str:
    return "f64" if dtype == "f64" else "f32"


def _folded(name: str, operation: str) -> list[str]:
    """The threads' `name` made one by halves, in shared memory; then in all that thread 0 has."""
    lines = ["s = shared()", f"put(s, tid, {name})", "sync()"]
    half = THREADS // 2
    while half:
        lines += [f"if tid < {half}:", f"    {name} = {operation}({name}, get(s, tid + {half}))",
                  f"    put(s, tid, {name})", "sync()"]  # fmt: skip
        half //= 2
    return lines


def _shared(computed: str) -> dict[str, tuple[str | int, ...]]:
    return {"shared": ("shared", computed, 0, THREADS), "get": ("load_shared", computed),
            "put": ("store_shared", computed)}  # fmt: skip


@functools.lru_cache(64)
def inputs(dtype: str, boundary: str, parts: int = 1, deep: bool = False) -> Kernel:
    """xs, and the largest |x| by (rows, groups, chunks); a block has a chunk of samples."""
    computed = _computed(dtype)
    table = {
        **_of_x(dtype, boundary), **_shared(computed), "advance": ("advance", computed),
        "store": ("store", computed), "zero": ("zero", computed),
        "magnitude": ("magnitude", computed), "larger": ("larger", computed),
        "fma": ("fma", computed),
    }  # fmt: skip
    parameters = (
        *((name, "pointer") for name in ("x", "xs", "peaks")), *INPUTS,
        *(INPUTS_DEEP if deep else ()), ("fill", computed), *_signs(parts, computed),
    )  # fmt: skip
    lines = [
        f"def fourier_inputs({', '.join(name for name, _ in parameters)}):",
        "    tid = thread()",
        "    part = quotient(block_x(), chunks_div, chunks_shift)",
        "    chunk = block_x() - part * chunks",
        "    where = quotient(part, groups_div, groups_shift)",
        "    g = part - where * groups",
        "    row = first + where",
        "    n = quotient(row, blocks_div, blocks_shift)",
        "    block = row - n * blocks",
        *[
            "    layer = quotient(block, level_div, level_shift)",
            "    block = block - layer * level",
            "    ahead = layer * step_d - pad_d",
        ]
        * deep,
        "    down = quotient(block, across_div, across_shift)",
        "    top = down * step_h - pad_h",
        "    left = (block - down * across) * step_w - pad_w",
        "    xg = advance_x(advance_x(x, n, x_n), g, x_g)",
        "    to = advance(xs, part, xs_part)",
        "    peak = zero()",
        f"    for one in range({EACH}):",
        f"        item = (chunk * {EACH} + one) * {THREADS} + tid",
        "        if item < samples:",
        "            c = quotient(item, circle_div, circle_shift)",
        "            i = item - c * circle",
        *[
            "            within = quotient(i, area_div, area_shift)",
            "            i = i - within * area",
            "            front = ahead + within",
        ]
        * deep,
        "            down = quotient(i, line_div, line_shift)",
        "            row = top + down",
        "            column = left + i - down * line",
        *indented([*_sample(boundary, deep), *_turned(parts)], 3),
        "            store(to, item, value)",
        "            peak = larger(peak, magnitude(value))",
        *indented(_folded("peak", "larger"), 1),
        "    if tid == 0:",
        "        store(peaks, block_x(), peak)",
    ]
    text = "\n".join(lines) + "\n"
    return Kernel(
        "fourier_inputs", text, operations(text, table), parameters, THREADS, 4,
        THREADS * SIZES[computed],
    )  # fmt: skip


@functools.lru_cache(8)
def folded(dtype: str, operation: str) -> Kernel:
    """y[i] = factor * the largest, or the sum, of the sizes of x[i, :]; a block has a row."""
    table = {
        **_shared(dtype), "load": ("load", dtype), "advance": ("advance", dtype),
        "store": ("store", dtype), "zero": ("zero", dtype), "fma": ("fma", dtype),
        "magnitude": ("magnitude", dtype), operation: (operation, dtype),
    }  # fmt: skip
    parameters = (
        ("x", "pointer"), ("y", "pointer"), ("count", "i32"), ("rounds", "i32"), ("row", "i64"),
        ("factor", dtype),
    )  # fmt: skip
    lines = [
        f"def fourier_{operation}({', '.join(name for name, _ in parameters)}):",
        "    tid = thread()",
        "    of = advance(x, block_x(), row)",
        "    found = zero()",
        "    for one in range(rounds):",
        f"        item = one * {THREADS} + tid",
        "        if item < count:",
        f"            found = {operation}(found, magnitude(load(of, item)))",
        *indented(_folded("found", operation), 1),
        "    if tid == 0:",
        "        store(y, block_x(), fma(found, factor, zero()))",
    ]
    text = "\n".join(lines) + "\n"
    return Kernel(
        f"fourier_{operation}", text, operations(text, table), parameters, THREADS, 4,
        THREADS * SIZES[dtype],
    )  # fmt: skip


def _place(deep: bool) -> str:
    """Of a tap among those of a filter."""
    return f"({'(c * taps_t + t)' if deep else 'c'} * taps_r + r) * taps_s + s"


@functools.lru_cache(8)
def filters(dtype: str, parts: int = 1, deep: bool = False, own: int = 1) -> Kernel:
    """ws, taps apart where they are dilated, and w itself as (filters, channels, taps).

    Of complex numbers, of two parts, filter k has in channel c the real part of w where they are
    the same, else the imaginary one, `upper` or `lower` times, or 0 where w has one part of its
    `own`.
    """
    computed = _computed(dtype)
    table = {
        "load": ("load_if", dtype), "advance_w": ("advance", dtype), "zero": ("zero", computed),
        "advance": ("advance", computed), "store": ("store", computed),
        "fma": ("fma", computed),
    }  # fmt: skip
    parameters = (*((name, "pointer") for name in ("w", "ws", "plain")), *FILTERS)
    parameters += FILTERS_DEEP if deep else ()
    at, turned = f"c * w_c + r * w_r + s * w_s{' + t * w_t' * deep}", []
    if parts == 2:
        parameters += tuple((name, computed) for name in ("plus", "upper", "lower"))
        at = f"{'is_other + ' * (own - 1)}r * w_r + s * w_s{' + t * w_t' * deep}"
        turned = [
            "factor = plus",
            "if k < c:",
            "    factor = upper",
            "if k > c:",
            "    factor = lower",
            "value = fma(value, factor, zero())",
        ]
    has = " & inside(is_other, 1)" * (parts > own)
    lines = [
        f"def fourier_filters({', '.join(name for name, _ in parameters)}):",
        "    k = quotient(block_x(), tiles_div, tiles_shift)",
        f"    item = (block_x() - k * tiles) * {THREADS} + thread()",
        "    if item < samples:",
        "        c = quotient(item, circle_div, circle_shift)",
        "        i = item - c * circle",
        *[
            "        within = quotient(i, area_div, area_shift)",
            "        i = i - within * area",
            "        t = quotient(within, gap_d_div, gap_d_shift)",
        ]
        * deep,
        "        down = quotient(i, line_div, line_shift)",
        "        along = i - down * line",
        "        r = quotient(down, gap_h_div, gap_h_shift)",
        "        s = quotient(along, gap_w_div, gap_w_shift)",
        "        ok = inside(r, taps_r) & inside(s, taps_s)",
        "        ok = ok & inside(down - r * gap_h, 1) & inside(along - s * gap_w, 1)",
        *["        ok = ok & inside(t, taps_t) & inside(within - t * gap_d, 1)"] * deep,
        *["        is_other = (k + c) & 1"] * (parts - 1),
        f"        value = load(advance_w(w, k, w_k), {at}, ok{has}, zero())",
        *indented(turned, 2),
        "        store(advance(ws, k, ws_k), item, value)",
        "        if ok != 0:",
        f"            store(advance(plain, k, plain_k), {_place(deep)}, value)",
    ]
    text = "\n".join(lines) + "\n"
    return Kernel("fourier_filters", text, operations(text, table), parameters, THREADS, 4)


@functools.lru_cache(2)
def products(dtype: str) -> Kernel:
    """Z, by `scale`: a thread has a frequency of a row and a filter.

    (v + i v') (w - i w') = v w + v' w' + i (v' w - v w')
    """
    table = {
        "load": ("load", dtype), "advance": ("advance", dtype), "store": ("store", dtype),
        "zero": ("zero", dtype), "fma": ("fma", dtype),
    }  # fmt: skip
    parameters = (
        *((name, "pointer") for name in ("x", "w", "z")), *PRODUCTS, ("scale", dtype),
        ("minus", dtype),
    )  # fmt: skip
    lines = [
        f"def fourier_products({', '.join(name for name, _ in parameters)}):",
        "    line = quotient(block_x(), tiles_div, tiles_shift)",
        f"    f = (block_x() - line * tiles) * {THREADS} + thread()",
        "    row = quotient(line, filters_div, filters_shift)",
        "    k = line - row * filters",
        "    xr = advance(x, row * groups + quotient(k, group_div, group_shift), part)",
        "    wk = advance(w, k, part)",
        "    zr = advance(z, line, z_line)",
        "    if f < bins:",
        "        real = zero()",
        "        imag = zero()",
        "        for c in range(channels):",
        "            at = (c * bins + f) * 2",
        "            v = load(xr, at)",
        "            v_i = load(xr, at + 1)",
        "            u = load(wk, at)",
        "            u_i = load(wk, at + 1)",
        "            real = fma(v, u, real)",
        "            real = fma(v_i, u_i, real)",
        "            imag = fma(v_i, u, imag)",
        "            imag = fma(fma(v, minus, zero()), u_i, imag)",
        "        store(zr, f * 2, fma(real, scale, zero()))",
        "        store(zr, f * 2 + 1, fma(imag, scale, zero()))",
    ]
    text = "\n".join(lines) + "\n"
    return Kernel("fourier_products", text, operations(text, table), parameters, THREADS, 4)


@functools.lru_cache(256)
def outputs(
    dtype: str, result: str, boundary: str, activation: str = "clamp", parts: int = 1,
    deep: bool = False,
) -> Kernel:  # fmt: skip
    """y of zs, guarded; a thread has an output of a block."""
    computed = _computed(dtype)
    table = {
        **_of_x(dtype, boundary), "load": ("load", computed), "advance": ("advance", computed),
        "load_b": ("load", result), "load_r": ("load", result, False), "store_y": ("store", result),
        "advance_y": ("advance", result), "zero": ("zero", computed), "fma": ("fma", computed),
        "add": ("add", computed), "magnitude": ("magnitude", computed),
        "larger": ("larger", computed), "unclear": ("unclear", computed),
        "activate": ("activate", activation, computed),
    }  # fmt: skip
    pointers = ("zs", "plain", "levels", "peaks", "x", "bias", "residual", "y")
    parameters = (
        *((name, "pointer") for name in pointers), *OUTPUTS, *(OUTPUTS_DEEP if deep else ()),
        *((name, computed) for name in ("fill", "least", "smallest", "low", "high")),
        *_signs(parts, computed),
    )  # fmt: skip
    plane = [
        "for r in range(taps_r):",
        "    for chunk in range(chunks):",
        "        if unclear(size, limit) != 0:",
        "            part = zero()",
        f"            for one in range({CHUNK}):",
        f"                s = chunk * {CHUNK} + one",
        "                if s < taps_s:",
        "                    row = p * step_u + r * gap_h - pad_h",
        "                    column = q * step_v + s * gap_w - pad_w",
        *indented([*_sample(boundary, deep), *_turned(parts)], 5),
        f"                    weight = load(wk, {_place(deep)})",
        "                    part = fma(value, weight, part)",
        "                    size = fma(magnitude(value), magnitude(weight), size)",
        "            total = add(total, part)",
    ]
    if deep:
        plane = ["for t in range(taps_t):", "    front = o * step_t + t * gap_d - pad_d",
                 *indented(plane, 1)]  # fmt: skip
    suspect = [
        "total = zero()",
        "size = zero()",
        "xg = advance_x(advance_x(x, n, x_n), g, x_g)",
        "wk = advance(plain, k, w_k)",
        "for c in range(channels):",
        *indented(plane, 1),
        "if unclear(size, limit) != 0:",
        "    found = total",
    ]
    inner, y_d, r_d = (
        text * deep for text in (" + within * step_t * area", " + o * y_d", " + o * r_d")
    )
    lines = [
        f"def fourier_outputs({', '.join(name for name, _ in parameters)}):",
        f"    item = block_x() * {THREADS} + thread()",
        "    line_y = quotient(item, kept_w_div, kept_w_shift)",
        "    along = item - line_y * kept_w",
        "    plane = quotient(line_y, kept_h_div, kept_h_shift)",
        "    down = line_y - plane * kept_h",
        *[
            "    within = plane",
            "    plane = quotient(within, kept_d_div, kept_d_shift)",
            "    within = within - plane * kept_d",
        ]
        * deep,
        "    where = quotient(plane, filters_div, filters_shift)",
        "    k = plane - where * filters",
        "    g = quotient(k, group_div, group_shift)",
        "    row_z = first + where",
        "    n = quotient(row_z, blocks_div, blocks_shift)",
        "    block = row_z - n * blocks",
        *[
            "    layer = quotient(block, level_div, level_shift)",
            "    block = block - layer * level",
            "    o = layer * kept_d + within",
        ]
        * deep,
        "    below = quotient(block, across_div, across_shift)",
        "    p = below * kept_h + down",
        "    q = (block - below * across) * kept_w + along",
        "    is_there = inside(item, items) & inside(p, p_count) & inside(q, q_count)",
        *["    is_there = is_there & inside(o, o_count)"] * deep,
        "    if is_there != 0:",
        "        zr = advance(advance(zs, where, z_row), k, z_k)",
        f"        found = load(zr, down * step_u * line + along * step_v{inner})",
        "        peak = load(peaks, where * groups + g)",
        "        limit = larger(fma(load(levels, k), peak, zero()), least)",
        # of a result that is not finite, not a number: no size is above it
        "        limit = fma(found, zero(), limit)",
        # where all samples are 0, so is the result
        "        if unclear(magnitude(found), limit) & unclear(smallest, peak) != 0:",
        *indented(suspect, 3),
        "        ys = advance_y(advance_y(y, n, y_n), k, y_k)",
        "        rs = advance_y(advance_y(residual, n, r_n), k, r_k)",
        "        if bias != 0:",
        "            found = add(found, load_b(bias, k * b_k))",
        "        if residual != 0:",
        f"            found = add(found, load_r(rs, p * r_h + q * r_w{r_d}))",
        f"        store_y(ys, p * y_h + q * y_w{y_d}, activate(found, low, high))",
    ]
    text = "\n".join(lines) + "\n"
    return Kernel("fourier_outputs", text, operations(text, table), parameters, THREADS, 2)
