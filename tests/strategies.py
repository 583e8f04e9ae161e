"""Random small problems, valid by construction, and random arrays for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from problems import Array, in_layout, outer_product, values

from fastconv._engine import layout_of
from fastconv._problem import BOUNDARIES, Problem, compute_name, numpy_dtype

FLOATS = ("f32", "f64", "c64", "c128")
EXACT = ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool")
WIDE = ("f80", "c160")
NARROW = ("f16", "bf16")

#: Largest size of an input axis, a kernel axis, padding, channels and filters of a group, by number
#: of dimensions: what keeps one problem within about 2e5 products.
_LIMITS = {
    1: (70, 12, 14, 5, 7), 2: (14, 5, 5, 4, 7), 3: (6, 3, 3, 2, 4), 4: (4, 2, 2, 2, 2),
}  # fmt: skip
MAX_PRODUCTS = 200_000


@st.composite
def problems(
    draw: st.DrawFn,
    ndims: tuple[int, ...] = (1, 1, 2, 2, 2, 3, 4),
    dtypes: tuple[str, ...] = FLOATS + EXACT + WIDE + NARROW,
    boundaries: tuple[str, ...] = BOUNDARIES,
    accuracy: str = "balanced",
) -> Problem:
    """A Problem that a call can have; `dtypes` are those that x and w are stored in."""
    ndim = draw(st.sampled_from(ndims))
    size_limit, kernel_limit, pad_limit, channel_limit, filter_limit = _LIMITS[ndim]

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    def mostly_one(high: int) -> tuple[int, ...]:
        return axes(1, high) if draw(st.integers(0, 3)) == 0 else (1,) * ndim

    boundary = draw(st.sampled_from(boundaries))
    size, kernel = axes(1, size_limit), axes(1, kernel_limit)
    stride, dilation = mostly_one(4), mostly_one(4)
    input_dilation = mostly_one(3) if boundary == "zeros" else (1,) * ndim
    span = [(r - 1) * d + 1 for r, d in zip(kernel, dilation)]
    padding = []
    for i, e, s in zip(size, input_dilation, span):
        low, high = draw(st.integers(0, pad_limit)), draw(st.integers(0, pad_limit))
        padding.append((low, high + max(0, s - low - high - (i - 1) * e - 1)))
    x_dtype = w_dtype = draw(st.sampled_from(dtypes))
    dtype = compute_name(x_dtype, w_dtype)
    y_dtype = draw(st.sampled_from((x_dtype, dtype)))
    if x_dtype in EXACT[:-1] and draw(st.booleans()):  # sums that wrap where an output says
        w_dtype = draw(st.sampled_from(EXACT[:-1]))
        y_dtype = dtype = draw(st.sampled_from(EXACT[:-1]))
    cval: complex = 0.0
    if boundary == "constant":
        cval = draw(st.integers(0, 100)) if dtype[0] in "iu" else draw(st.floats(-3, 3, width=32))
        cval = bool(cval) if dtype == "bool" else cval
        cval = complex(cval, 1.5) if dtype[0] == "c" else cval
    groups = draw(st.integers(1, 3))
    made = Problem(
        size=size, kernel=kernel, batch=draw(st.integers(1, 2)),
        channels=groups * draw(st.integers(1, channel_limit)),
        filters=groups * draw(st.integers(1, filter_limit)), groups=groups, stride=stride,
        dilation=dilation, input_dilation=input_dilation, padding=tuple(padding),
        boundary=boundary, cval=cval, flip=draw(st.booleans()), dtype=dtype, x_dtype=x_dtype,
        w_dtype=w_dtype, y_dtype=y_dtype,
        layout=draw(st.sampled_from(("NC*", "NC*", "N*C", "strided"))),
        prepared=draw(st.booleans()), threads=draw(st.integers(1, 3)), accuracy=accuracy,
    )  # fmt: skip
    separable = x_dtype in ("f32", "f64") and draw(st.integers(0, 3)) == 0
    if separable or math.prod(made.y_shape) * made.taps > MAX_PRODUCTS:
        made = made.replace(batch=1, channels=groups, filters=groups)
    return made.replace(rank=1) if separable else made


#: What floating-point data may be like; every kind is finite but the two named so.
KINDS = ("normal", "integers", "zeros", "sparse", "huge range", "outlier", "denormal", "nan", "inf")


def special(rng: np.random.Generator, kind: str, name: str, shape: tuple[int, ...]) -> Array:
    """Data of a kind out of `KINDS`; integers and bools have only one."""
    a = values(rng, name, shape)
    if name[0] in "iu" or name == "bool" or a.size == 0:
        return a
    if kind == "integers":
        a = np.rint(4 * a.astype(a.dtype)).astype(a.dtype)
    elif kind == "zeros":  # whole regions of nothing, at the end and from place to place
        a[..., a.shape[-1] // 2 :] = 0
        a[rng.random(shape) < 0.5] = 0
    elif kind == "sparse":
        a[rng.random(shape) < 0.9] = 0
    elif kind == "huge range" and name not in ("f16",):
        a *= (10.0 ** rng.uniform(-30, 15, shape)).astype(a.real.dtype)
    elif kind == "outlier":  # one sample that a transform would spread over all the others
        a.reshape(-1)[rng.integers(a.size)] *= a.dtype.type(1e4 if name == "f16" else 1e15)
    elif kind == "denormal":
        normal = 2.0**-14 if name == "f16" else 2.0**-126 if a.real.itemsize <= 4 else 2.0**-1022
        a *= a.real.dtype.type(normal / 4)
    elif kind in ("nan", "inf"):
        chosen = rng.random(shape) < 2 / a.size
        chosen.reshape(-1)[rng.integers(a.size)] = True
        a[chosen] = np.nan if kind == "nan" else rng.choice([-np.inf, np.inf])
    return a


#: How an array may lie in memory.
FORMS = ("plain", "negative", "padded", "sliced", "transposed", "broadcast", "read-only",
         "byteswapped", "unaligned")  # fmt: skip


def in_form(a: Array, form: str) -> Array:
    """The same numbers in another form (``broadcast``: the first of the last axis, repeated)."""
    if form == "negative":
        return a[(slice(None, None, -1),) * a.ndim].copy()[(slice(None, None, -1),) * a.ndim]
    if form == "padded":  # the space between holds NaN, or as bad an integer
        wide = np.full([2 * n + 1 for n in a.shape], 119, a.dtype)
        if a.dtype.kind not in "biu":
            wide[...] = np.nan
        inner = wide[(slice(1, None, 2),) * a.ndim]
        inner[...] = a
        return inner
    if form == "sliced":  # dense planes, other channels between them
        axis = min(1, a.ndim - 1)
        return np.repeat(a, 2, axis=axis)[(slice(None),) * axis + (slice(None, None, 2),)]
    if form == "transposed":
        return a.T.copy().T
    if form == "broadcast":
        return np.broadcast_to(a[..., :1], a.shape)
    if form == "read-only":
        a = a.copy()
        a.flags.writeable = False
    elif form == "byteswapped" and a.dtype.name != "bfloat16":
        return a.astype(a.dtype.newbyteorder())
    elif form == "unaligned":
        raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        raw[...] = a
        return raw
    return a


@st.composite
def cases(
    draw: st.DrawFn,
    made: st.SearchStrategy[Problem] | None = None,
    kinds: tuple[str, ...] = KINDS,
    forms: tuple[str, ...] = FORMS,
) -> tuple[Problem, Array, Array]:
    """A problem with x and w for it; the problem's layout is that of x."""
    problem = draw(made if made is not None else problems())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(kinds))
    x = special(rng, kind, problem.x_dtype, problem.x_shape)
    weights = "normal" if kind in ("nan", "inf", "outlier", "denormal") else kind
    w = special(rng, weights, problem.w_dtype, problem.w_shape)
    if problem.rank:
        w = outer_product(w)
    x = in_layout(x, problem.layout)
    x, w = in_form(x, draw(st.sampled_from(forms))), in_form(w, draw(st.sampled_from(forms)))
    return problem.replace(layout=layout_of(x)), x, w


def options(problem: Problem) -> dict[str, Any]:
    """What `fastconv._engine.run` takes to solve a problem."""
    return {
        "stride": problem.stride, "dilation": problem.dilation,
        "input_dilation": problem.input_dilation, "padding": problem.padding,
        "groups": problem.groups, "boundary": problem.boundary, "cval": problem.cval,
        "flip": problem.flip, "dtype": numpy_dtype(problem.dtype), "out_dtype": None,
        "threads": problem.threads, "accuracy": problem.accuracy,
    }  # fmt: skip
