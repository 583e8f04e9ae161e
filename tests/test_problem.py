"""`Problem`: its text, its equality, its shapes and what it refuses."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from problems import PROBLEMS
from reference import conv
from strategies import problems

from fastconv._problem import (
    ACCURACIES,
    DTYPES,
    LAYOUTS,
    MAX_SIZE,
    Problem,
    compute_name,
    dtype_name,
    numpy_dtype,
)

BASE = "conv2d f32 n1 c4 h9 w9 k4 r3 s3"


@pytest.mark.parametrize("text", PROBLEMS)
def test_text_is_canonical(text: str) -> None:
    assert str(Problem.parse(text)) == text


@given(problems())
def test_round_trip(problem: Problem) -> None:
    again = Problem.parse(str(problem))
    assert again == problem
    assert hash(again) == hash(problem)
    assert str(again) == str(problem)


@given(
    problem=problems(boundaries=("zeros",)),
    dtypes=st.tuples(*[st.sampled_from(sorted(DTYPES))] * 4),
    cval=st.one_of(
        st.integers(-(2**70), 2**70), st.floats(), st.complex_numbers(), st.booleans(),
        st.floats(width=32).map(np.float32), st.floats().map(np.float64),
        st.integers(0, 255).map(np.uint8), st.complex_numbers().map(np.complex128),
    ),
    layout=st.sampled_from(LAYOUTS),
    accuracy=st.sampled_from(ACCURACIES),
    device=st.sampled_from(("cpu", "cuda")),
)  # fmt: skip
@example(Problem.parse(BASE), ("c64",) * 4, complex(-0.0, 1), "NC*", "strict", "cpu")
@example(Problem.parse(BASE), ("c64",) * 4, complex(0, float("nan")), "NC*", "strict", "cpu")
@example(Problem.parse(BASE), ("c64",) * 4, complex(float("inf"), 1), "NC*", "strict", "cpu")
def test_round_trip_of_the_rest(
    problem: Problem,
    dtypes: tuple[str, ...],
    cval: complex,
    layout: str,
    accuracy: str,
    device: str,
) -> None:
    """Any mixture of dtypes and any constant that a caller may pass, NumPy's scalars among them."""
    if dtypes[0][0] != "c":
        cval = cval.real
    if dtypes[0] == "bool" or (dtypes[0][0] in "iu" and not float(cval).is_integer()):
        cval = 7
    changed = problem.replace(
        dtype=dtypes[0], x_dtype=dtypes[1], w_dtype=dtypes[2], y_dtype=dtypes[3], layout=layout,
        accuracy=accuracy, device=device, input_dilation=(1,) * problem.ndim,
        padding=tuple((a + s, b) for (a, b), s in zip(problem.padding, problem.span)),
        boundary="constant", cval=cval,
    )  # fmt: skip
    again = Problem.parse(str(changed))
    assert again == changed
    assert hash(again) == hash(changed)


def test_half_precision_is_for_storage() -> None:
    problem = Problem.parse("conv1d bf16 n1 c1 w5 k1 s2")
    assert (problem.dtype, problem.x_dtype, problem.y_dtype) == ("f32", "bf16", "bf16")
    assert not problem.is_exact
    assert Problem.parse(str(problem)) == problem


def test_equality() -> None:
    one = Problem.parse(BASE)
    assert one == Problem.parse(BASE + " p0 u1 l1 e1") and one != Problem.parse(BASE + " p1")
    assert len({one, Problem.parse(BASE), Problem.parse(BASE + " flip")}) == 2
    assert one == pickle.loads(pickle.dumps(one))
    nan = one.replace(boundary="constant", cval=float("nan"))
    assert nan == one.replace(boundary="constant", cval=np.float32("nan"))
    assert nan == Problem.parse(str(nan)) and hash(nan) == hash(Problem.parse(str(nan)))
    assert one.replace(boundary="constant", cval=2 + 0j) == one.replace(boundary="constant", cval=2)
    with pytest.raises(AttributeError):
        one.batch = 2  # type: ignore[misc]


@given(problems(dtypes=("f32",)))
def test_shapes(problem: Problem) -> None:
    """Output sizes are those that the oracle makes."""
    zeros = np.zeros(problem.x_shape, "f4"), np.zeros(problem.w_shape, "f4")
    y, _ = conv(
        *zeros, stride=problem.stride, dilation=problem.dilation,
        input_dilation=problem.input_dilation, padding=problem.padding, groups=problem.groups,
        boundary=problem.boundary,
    )  # fmt: skip
    assert problem.y_shape == y.shape
    assert problem.flops == 2 * y.size * zeros[1][:1].size
    assert problem.taps == zeros[1][:1].size


def test_properties() -> None:
    problem = Problem.parse("conv2d c64 n2 c4 h9 w10 k6 r3 s2 g2 p1:2,0 u2,1 l1,3 y:c128")
    assert problem.span == (3, 4) and problem.padded == (12, 10) and problem.out == (5, 7)
    assert problem.x_shape == (2, 4, 9, 10) and problem.w_shape == (6, 2, 3, 2)
    assert problem.is_complex and not problem.is_exact and problem.itemsize == 8
    assert problem.flops == 8 * 2 * 6 * 5 * 7 * 2 * 3 * 2
    assert Problem.parse("conv1d bool n1 c1 w4 k1 s2").accumulator == "u32"
    assert Problem.parse("conv1d i8 n1 c1 w4 k1 s2").is_exact
    # an empty axis has no samples and no zeros between them
    assert Problem.parse("conv1d f32 n1 c1 w0 k1 s2 p1 e3").padded == (2,)


@pytest.mark.parametrize("changes, message", [
    ({"size": ()}, "expected 1 to 8 spatial dimensions, got 0"),
    ({"size": (4,) * 9}, "expected 1 to 8 spatial dimensions, got 9"),
    ({"kernel": (3,)}, "expected 2 values for kernel, got (3,)"),
    ({"stride": (1, 1, 1)}, "expected 2 values for stride"),
    ({"dilation": (1,)}, "expected 2 values for dilation"),
    ({"input_dilation": (2,)}, "expected 2 values for input_dilation"),
    ({"padding": ((0, 0),)}, "expected 2 values for padding"),
    ({"size": (-1, 9)}, "expected input sizes of at least 0, got (-1, 9)"),
    ({"kernel": (0, 3)}, "expected kernel sizes of at least 1, got (0, 3)"),
    ({"stride": (1, 0)}, "expected a stride of at least 1, got (1, 0)"),
    ({"stride": (-2, 1)}, "expected a stride of at least 1, got (-2, 1)"),
    ({"dilation": (0, 1)}, "expected a dilation of at least 1, got (0, 1)"),
    ({"input_dilation": (1, 0)}, "expected an input dilation of at least 1, got (1, 0)"),
    ({"padding": ((0, 0), (0, -1))}, "expected padding of at least 0"),
    ({"batch": -1}, "expected batch and channels of at least 0"),
    ({"channels": -4}, "expected batch and channels of at least 0"),
    ({"filters": -1}, "expected filters of at least 0, got -1"),
    ({"groups": 0}, "expected at least one group, got 0"),
    ({"groups": 3}, "expected channels divisible by 3 groups, got 4"),
    ({"groups": 4, "filters": 6}, "expected filters divisible by 4 groups, got 6"),
    ({"boundary": "periodic"}, "expected a boundary out of"),
    ({"accuracy": "exact"}, "expected an accuracy out of"),
    ({"layout": "NHWC"}, "expected a layout out of"),
    ({"threads": 0}, "expected at least one thread, got 0"),
    ({"dtype": "float32"}, "expected a dtype out of"),
    ({"y_dtype": "f8"}, "expected a dtype out of"),
    ({"boundary": "constant", "cval": 1j}, "expected a real constant beyond the ends of f32, got"),
    ({"boundary": "constant", "cval": np.inf, "dtype": "i8"}, "expected a finite constant"),
    ({"boundary": "constant", "cval": np.nan, "dtype": "bool"}, "expected a finite constant"),
    ({"boundary": "constant", "cval": 1.5, "dtype": "i8"}, "expected a whole constant"),
    ({"boundary": "wrap", "input_dilation": (2, 1)}, "expected no input dilation"),
    ({"boundary": "reflect", "size": (0, 9)}, "expected a non-empty input to extend by 'reflect'"),
    ({"padding": ((MAX_SIZE, 0), (0, 0))}, "expected padded sizes up to"),
    ({"kernel": (10, 3)}, "expected a kernel no larger than the padded input, got kernel (10, 3)"),
    ({"dilation": (5, 1)}, "expected a kernel no larger than the padded input"),
    ({"batch": 2**40, "size": (2**20, 9)}, "expected x of at most"),
    ({"filters": 2**59}, "expected w of at most"),
    ({"batch": 2**52, "filters": 4, "channels": 0}, "expected y of at most"),
])  # fmt: skip
def test_refused(changes: dict[str, Any], message: str) -> None:
    if "batch" in changes and changes["batch"] == 2**52:
        changes = {**changes, "size": (9, 100)}
    with pytest.raises(ValueError, match=re.escape(message)):
        Problem.parse(BASE).replace(**changes)


@pytest.mark.parametrize("text, culprit", [
    ("", "conv1d to conv8d"),
    ("conv", "conv1d to conv8d"),
    ("conv0d f32 n1 c1 k1", "conv1d to conv8d"),
    ("conv9d f32 n1 c1 k1", "conv1d to conv8d"),
    ("conv2d f32 n1 c1 h9 k1 r3 s3", "lacks w"),
    ("conv2d f32 n1 c1 h9 w9 k1 r3", "lacks s"),
    ("conv4d f32 n1 c1 k1 f1,1,1,1", "needs i<sizes>"),
    ("conv4d f32 n1 c1 i3,3,3,3 k1", "needs i<sizes>"),
    (BASE + " what", "what"),
    (BASE + " f32", "f32"),  # a dtype stands second
    (BASE + " p", "'p'"),
    (BASE + " p1:", "'p1:'"),
    (BASE + " p:1", "'p:1'"),
    (BASE + " p1:2:3", "p1:2:3"),
    (BASE + " p-1", "'p-1'"),
    (BASE + " u2,", "'u2,'"),
    (BASE + " i9,9", "'i9,9'"),
    (BASE + " constant=", "'constant='"),
    (BASE + " constant=x", "'constant=x'"),
    (BASE + " x:float32", "'x:float32'"),
    (BASE + " threads", "'threads'"),
    (BASE + " u1,2,3", "stride"),
    (BASE + " n2 n3", "n3"),  # said twice
    (BASE + " d3", "d3"),  # an axis that conv2d lacks
    ("conv1d f32 n1 c1 w9 k1 s3 h3", "h3"),
    ("conv4d f32 n1 c1 i3,3,3,3 k1 f1,1,1,1 w5", "w5"),
    ("conv4d f32 n1 c1 i3,3 k1 f1,1", "4"),  # sizes of another number of dimensions
])  # fmt: skip
def test_malformed(text: str, culprit: str) -> None:
    with pytest.raises(ValueError, match=re.escape(culprit)):
        Problem.parse(text)


_WORD = st.sampled_from([*BASE.split(), "conv1d", "conv4d", "conv8d", "w3", "i3,3,3,3", "f1", "h2",
                         "d4", "t1", "g2", "p1:2", "p,", "p1,2,3", "u0", "l2", "e3", "wrap",
                         "constant=nan", "constant=1e999", "constant=(1)", "threads0", "x:bf16",
                         "NC*", "N*C", "bool", "flip", "prepared", "cuda", "s99999999999999999999",
                         "k\u0663", "\u00b2", "n1_0", "p" + "9" * 5000])  # fmt: skip


@given(st.one_of(st.text(), st.lists(_WORD).map(" ".join),
                 st.lists(_WORD).map(lambda words: " ".join([BASE, *words])),
                 st.lists(st.text(alphabet="convd0123456789 fhwkrsnp:,=", max_size=6)).map(" ".join)
                 .map("conv1d ".__add__)))  # fmt: skip
def test_fuzzed_text(text: str) -> None:
    """Anything that is not a problem's text is a ValueError; what is one stays one."""
    try:
        problem = Problem.parse(text)
    except ValueError:
        return
    assert Problem.parse(str(problem)) == problem


def test_dtype_names() -> None:
    for short, name in DTYPES.items():
        if short != "bf16":
            assert dtype_name(name) == short
            assert dtype_name(np.dtype(name).newbyteorder()) == short
            assert numpy_dtype(short) == np.dtype(name)
    assert dtype_name(numpy_dtype("bf16")) == "bf16"
    assert dtype_name(float) == "f64" and dtype_name(np.intc) == "i32"


@pytest.mark.parametrize("dtype", ["O", "U3", "S2", "M8[s]", "m8[s]", "V4", "f4,i4", object])
def test_refused_dtypes(dtype: Any) -> None:
    with pytest.raises(TypeError, match="unsupported dtype"):
        dtype_name(dtype)


def test_not_a_dtype_at_all() -> None:
    with pytest.raises(TypeError, match="unsupported dtype"):
        dtype_name("float23")


def test_promotion() -> None:
    """As NumPy promotes, but that sums of 16-bit floats are float32."""
    for a in DTYPES:
        for b in DTYPES:
            if "bf16" in (a, b):
                continue
            expected = dtype_name(np.result_type(numpy_dtype(a), numpy_dtype(b)))
            assert compute_name(a, b) == ("f32" if expected == "f16" else expected), (a, b)
            assert compute_name(a, b) == compute_name(b, a)
    for other, expected in {"bf16": "f32", "f16": "f32", "f32": "f32", "f64": "f64", "c64": "c64",
                            "c128": "c128", "i8": "f32", "bool": "f32"}.items():  # fmt: skip
        assert compute_name("bf16", other) == compute_name(other, "bf16") == expected
