"""The oracle against peers and examples done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from reference import OUTSIDE, conv, source, wrap


def row(*values: complex, dtype: Any = np.float64) -> Any:
    return np.array(values, dtype)[None, None]


@pytest.mark.parametrize(
    "boundary, extended",
    [
        ("reflect", "dcbaabcddcbaab"), ("mirror", "cdcbabcdcbabcd"), ("nearest", "aaaaabcddddddd"),
        ("wrap", "abcdabcdabcdab"),
    ],
)  # fmt: skip
def test_boundary_by_hand(boundary: str, extended: str) -> None:
    """Five to nine samples beyond a b c d: further than once around."""
    start = -4
    assert "".join("abcd"[source(start + i, 4, boundary)] for i in range(14)) == extended


def test_boundary_of_one_sample() -> None:
    for boundary in ("reflect", "mirror", "nearest", "wrap"):
        assert [source(t, 1, boundary) for t in (-3, -1, 0, 2)] == [0, 0, 0, 0]
    assert source(-1, 1, "zeros") == source(1, 1, "constant") == OUTSIDE


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [1 * 10 + 2 * 20, 2 * 10 + 3 * 20, 3 * 10 + 4 * 20]),
        ({"flip": True}, [1 * 20 + 2 * 10, 2 * 20 + 3 * 10, 3 * 20 + 4 * 10]),
        ({"stride": (2,)}, [50, 110]),
        ({"dilation": (3,)}, [1 * 10 + 4 * 20]),
        ({"padding": ((1, 0),)}, [20, 50, 80, 110]),
        ({"padding": ((0, 2),), "stride": (2,)}, [50, 110, 0]),
        ({"padding": ((-1, -1),)}, [80]),
        ({"padding": ((1, 0),), "boundary": "constant", "cval": 7}, [90, 50, 80, 110]),
        ({"input_dilation": (2,)}, [10, 40, 20, 60, 30, 80]),
        ({"input_dilation": (2,), "padding": ((-2, -1),)}, [20, 60, 30]),
        # the constant stands beyond the ends, not between the samples
        ({"input_dilation": (2,), "padding": ((1, 0),), "boundary": "constant", "cval": 7},
         [70 + 20, 10, 40, 20, 60, 30, 80]),
        ({"bias": np.array([0.5])}, [50.5, 80.5, 110.5]),
    ],
)  # fmt: skip
def test_by_hand(options: dict[str, Any], expected: list[float]) -> None:
    y, s = conv(row(1.0, 2, 3, 4), row(10.0, 20), **options)
    assert y[0, 0].tolist() == expected
    assert s[0, 0].tolist() == expected  # nothing is negative: S is the sum itself


def test_s_is_of_magnitudes() -> None:
    y, s = conv(row(1, -2, 3j, dtype=complex), row(1, 1j, dtype=complex))
    np.testing.assert_array_equal(y[0, 0], [1 - 2j, -5])
    np.testing.assert_array_equal(s[0, 0], [3, 5])


def test_nothing_is_multiplied_where_nothing_is() -> None:
    y, _ = conv(row(1.0, 2), row(np.inf, 1), padding=((1, 0),), input_dilation=(2,))
    assert y[0, 0].tolist() == [1, np.inf, 2]


def test_integers_wrap() -> None:
    x = np.full((1, 1, 2), 200, np.uint8)
    assert conv(x, x)[0].tolist() == [[[80000 % 256]]]
    x = np.full((1, 1, 3), -128, np.int8)
    y, _ = conv(x, x)
    assert y.dtype == np.int8 and y.item() == 0
    big = np.full((1, 1, 2), 2**63 - 1, np.int64)
    assert conv(big, big)[0].item() == 2
    values = np.array([127, 128, 2**64 - 129, 2**40 + 3], np.uint64)
    assert wrap(values, np.dtype(np.int8)).tolist() == [127, -128, 127, 3]


@pytest.mark.parametrize("name", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_integers_are_what_python_makes_of_them(name: str) -> None:
    info = np.iinfo(name)
    rng = np.random.default_rng(5)
    x, w, bias = (rng.integers(info.min, info.max, shape, name, endpoint=True)
                  for shape in ((1, 3, 9), (2, 3, 4), 2))  # fmt: skip
    y, _ = conv(x, w, bias=bias)
    for k, o in np.ndindex(2, 6):
        terms = zip(x[0, :, o : o + 4].ravel().tolist(), w[k].ravel().tolist())
        whole = sum((a * b for a, b in terms), bias[k].item())
        assert y[0, k, o] == (whole - info.min) % 2**info.bits + info.min


def test_bools_are_or_of_ands() -> None:
    x = np.array([[[True, True, False, False]]])
    y, _ = conv(x, np.array([[[True, True]]]), padding=((0, 1),))
    assert y.tolist() == [[[True, True, False, False]]]


def test_groups() -> None:
    x = np.arange(8.0).reshape(1, 4, 2)
    w = np.array([1.0, 10, 100, 1000]).reshape(2, 2, 1)
    y, _ = conv(x, w, groups=2)
    assert y[0].tolist() == [[0 + 20, 1 + 30], [400 + 6000, 500 + 7000]]


@given(st.data())
def test_numpy_convolve(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    a, b = rng.integers(-9, 9, 1 + rng.integers(20)), rng.integers(-9, 9, 1 + rng.integers(6))
    if a.size < b.size:
        a, b = b, a
    y, _ = conv(row(*a, dtype=int), row(*b, dtype=int), flip=True,
                padding=((b.size - 1, b.size - 1),))  # fmt: skip
    np.testing.assert_array_equal(y[0, 0], np.convolve(a, b))


@pytest.mark.parametrize("ours, theirs", [("zeros", "fill"), ("reflect", "symm"), ("wrap", "wrap")])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_scipy_2d(ours: str, theirs: str, mode: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-9, 9, (6, 7)) + 1j * rng.integers(-9, 9, (6, 7))
    b = rng.integers(-9, 9, (3, 4)) + 1j * rng.integers(-9, 9, (3, 4))
    before, after = {"full": ((2, 3), (2, 3)), "valid": ((0, 0), (0, 0)),
                     "same": ((1, 2), (1, 1))}[mode]  # fmt: skip
    y, _ = conv(a[None, None], b[None, None], flip=True, boundary=ours,
                padding=tuple(zip(before, after)))  # fmt: skip
    np.testing.assert_array_equal(y[0, 0], scipy.signal.convolve2d(a, b, mode, boundary=theirs))


def test_scipy_correlate_3d() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(-9, 9, (4, 5, 6)), rng.integers(-9, 9, (2, 3, 2))
    y, _ = conv(a[None, None], b[None, None])
    np.testing.assert_array_equal(y[0, 0], scipy.signal.correlate(a, b, "valid", method="direct"))


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_ndimage(mode: str) -> None:
    """A kernel several times the size of the image, so that extensions go around more than once."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(-9, 9, (3, 2)).astype(float), rng.integers(-9, 9, (11, 7)).astype(float)
    y, _ = conv(a[None, None], b[None, None], boundary=mode, cval=4, padding=((5, 5), (3, 3)))
    expected = scipy.ndimage.correlate(a, b, mode=mode, cval=4)
    np.testing.assert_array_equal(y[0, 0], expected)


@pytest.mark.parametrize("groups", [1, 2])
def test_torch(groups: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    x = rng.integers(-9, 9, (2, 4, 9, 8)).astype(np.float64)
    w = rng.integers(-9, 9, (6, 4 // groups, 3, 2)).astype(np.float64)
    bias = rng.integers(-9, 9, 6).astype(np.float64)
    t = [torch.from_numpy(a) for a in (x, w, bias)]
    y, _ = conv(x, w, bias=bias, stride=(2, 1), dilation=(1, 3), padding=((2, 2), (1, 1)),
                groups=groups)  # fmt: skip
    expected = torch.nn.functional.conv2d(*t, stride=(2, 1), padding=(2, 1), dilation=(1, 3),
                                          groups=groups)  # fmt: skip
    np.testing.assert_array_equal(y, expected.numpy())


def test_torch_transposed() -> None:
    """Transposed convolution is input dilation, a flipped kernel and swapped channels."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    x = rng.integers(-9, 9, (2, 3, 4, 5)).astype(np.float64)
    w = rng.integers(-9, 9, (3, 2, 3, 3)).astype(np.float64)
    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(w), stride=(2, 3), padding=1, output_padding=1
    )
    y, _ = conv(x, w.swapaxes(0, 1), input_dilation=(2, 3), padding=((1, 2), (1, 2)), flip=True)
    np.testing.assert_array_equal(y, expected.numpy())
