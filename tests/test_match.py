"""`match_template` against its definition in float64, scikit-image and OpenCV; peaks and delays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv._ext import core

Array = np.ndarray[Any, Any]


def definition(
    image: Array, template: Array, mask: Array | None = None, normalized: bool = True
) -> Array:
    """Each window by itself, its mean taken off before anything is multiplied; channels first."""
    image, template = image.astype(np.longdouble), template.astype(np.longdouble)
    space = template.shape[1:]
    m = np.ones(space, bool) if mask is None else mask.astype(bool)
    t = template[:, m]
    t = t - t.mean(axis=1, keepdims=True)
    shape = [n - k + 1 for n, k in zip(image.shape[1:], space)]
    score = np.empty(shape)
    for at in np.ndindex(*shape):
        window = image[(slice(None), *(slice(i, i + k) for i, k in zip(at, space)))][:, m]
        with np.errstate(invalid="ignore"):
            window = window - window.mean(axis=1, keepdims=True)
        top = (t * window).sum()
        if normalized:
            bottom = np.sqrt((t * t).sum()) * np.sqrt((window * window).sum())
            top = top / bottom if bottom else top * 0
        score[at] = top
    return score


def pictures(shape: tuple[int, ...], part: tuple[int, ...], dtype: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind in "biu":
        top = 2 if dtype == "?" else 100
        return (rng.integers(0, top, shape).astype(dtype), rng.integers(0, top, part).astype(dtype))
    return rng.random(shape).astype(dtype), rng.random(part).astype(dtype)


PADDED = (
    ("constant", "constant"), ("reflect", "symmetric"), ("mirror", "reflect"), ("nearest", "edge"),
    ("wrap", "wrap"),
)  # fmt: skip

SHAPES = [
    ((40,), (7,)),
    ((13, 17), (4, 5)),
    ((9, 30), (9, 30)),
    ((6, 7, 8), (3, 2, 4)),
    ((5, 4, 6, 5), (2, 2, 3, 2)),
    ((20, 21), (1, 6)),
    ((65, 50), (33, 31)),
]


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i8", "f2", "f4", "f8", "?", "g", ">f4"])
def test_definition(sizes: Any, dtype: str) -> None:
    image, template = pictures(*sizes, dtype)
    for normalized in (True, False):
        got = fastconv.match_template(image, template, normalized)
        want = definition(image[None], template[None], normalized=normalized)
        narrow = np.can_cast(image.dtype, np.float32)
        assert got.dtype == (np.float32 if narrow else np.float64)
        eps = np.finfo(got.dtype).eps if narrow else 1e-12
        scale = 1 if normalized else abs(template * 1.0).sum() * abs(image * 1.0).max()
        assert abs(got - want).max() <= 2 * eps * scale
        assert not normalized or abs(got).max() <= 1


@pytest.mark.parametrize("accuracy", ["strict", "balanced", "fast"])
@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
@pytest.mark.parametrize("sizes", SHAPES[:5], ids=str)
def test_mask(sizes: Any, method: str, accuracy: str) -> None:
    image, template = pictures(*sizes, "f8")
    mask = np.random.default_rng(1).random(template.shape) < 0.6
    mask.flat[[0, -1]] = True
    if (method, accuracy) == ("fft", "strict"):
        with pytest.raises(ValueError, match="strict"):
            fastconv.match_template(image, template, method=method, accuracy=accuracy)
        return
    got = fastconv.match_template(image, template, mask=mask, method=method, accuracy=accuracy)
    assert abs(got - definition(image[None], template[None], mask)).max() < 1e-10
    # what the mask hides does not matter, and masks of any dtype mean the same
    hidden = np.where(mask, template, np.nan)
    for m in (mask.astype("u1"), mask.astype("f4")):
        other = fastconv.match_template(image, hidden, mask=m, method=method, accuracy=accuracy)
        np.testing.assert_array_equal(got, other)
    full = fastconv.match_template(image, template, mask=np.ones_like(mask), method=method)
    np.testing.assert_array_equal(full, fastconv.match_template(image, template, method=method))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("masked", [False, True])
def test_channels(axis: int, masked: bool) -> None:
    image, template = pictures((3, 20, 24), (3, 5, 6), "f8")
    image[1] += 100  # a mean of its own
    mask = (np.add.outer(np.arange(5), np.arange(6)) % 3 > 0) if masked else None
    want = definition(image, template, mask)
    got = fastconv.match_template(
        np.moveaxis(image, 0, axis), np.moveaxis(template, 0, axis), mask=mask, channel_axis=axis
    )
    assert abs(got - want).max() < 1e-10


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "sizes", [((13, 17), (4, 5)), ((9, 30), (9, 30)), ((70, 150), (5, 33)), ((90, 66), (17, 1))]
)
def test_bytes(sizes: Any, channels: int) -> None:
    """Scores of whole numbers: rows of several bands, channels, flat parts, a window of one row."""
    rng = np.random.default_rng(10)
    (h, w), (r, s) = sizes
    image = rng.integers(0, 256, (channels, h, w)).astype("u1")
    image[:, : h // 2, : w // 2] = 255
    image[-1, h // 2 :, w // 2 :] = 0
    image[0, 1, 1] = 254  # one sample of a flat part
    template = image[:, h - r :, w - s :].copy()
    want = definition(image, template)
    out = np.empty(want.shape, "f4")
    for threads in (1, 2):
        got = fastconv.match_template(image, template, channel_axis=0, threads=threads, out=out)
        assert got is out
        assert abs(got - want).max() <= 2.0**-23
        got = fastconv.match_template(
            np.moveaxis(image, 0, -1),
            np.moveaxis(template, 0, -1),
            channel_axis=-1,
            threads=threads,
        )
        np.testing.assert_array_equal(got, out)
    assert got[-1, -1] == 1 or template.min() == template.max()
    flat = fastconv.match_template(image, np.full_like(template, 7), channel_axis=0)
    np.testing.assert_array_equal(flat, 0)


@pytest.mark.parametrize("isa", core.isas())
def test_kernels_of_bytes_are_exact(isa: str) -> None:
    """Every instruction set: windows around the digits of their widths, tails of every size."""
    rng = np.random.default_rng(11)
    sizes = ((3, 1, 1, 1), (40, 63, 2, 3), (5, 64, 3, 4), (150, 65, 33, 21), (2, 200, 2, 70))
    for rows, columns, r, s in sizes:
        x = rng.integers(0, 256, (2, rows + r - 1, columns + s - 1)).astype("u1")
        products = rng.integers(0, 2**20, (rows, columns)).astype("i4")
        total, n, norm = np.array([1000.0, 700.0]), r * s, 5e3
        y = np.empty((rows, columns), "f4")
        core.byte_scores(x, (r, s), products, n, norm, total, y, 2, isa)
        windows = np.lib.stride_tricks.sliding_window_view(x.astype("i8"), (r, s), (1, 2))
        sums, squares = windows.sum((3, 4)), np.square(windows).sum((0, 3, 4))
        spread = n * squares - np.square(sums).sum(0)
        top = n * products - np.tensordot(total, sums, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            want = np.where(spread > 0, np.clip(top / (norm * np.sqrt(spread)), -1, 1), 0)
        assert abs(y - want).max() <= 2.0**-24


def test_scikit_image() -> None:
    feature = pytest.importorskip("skimage.feature")
    rng = np.random.default_rng(2)
    for shape, part in (((60, 70), (9, 12)), ((60, 70), (10, 7)), ((12, 14, 13), (4, 5, 3))):
        image, template = rng.random(shape), rng.random(part)
        want = feature.match_template(image, template)
        assert abs(fastconv.match_template(image, template) - want).max() < 1e-9
        for boundary, name in PADDED:
            value = {"constant_values": 0.3} if boundary == "constant" else {}
            want = feature.match_template(image, template, pad_input=True, mode=name, **value)
            got = fastconv.match_template(image, template, mode="same", boundary=boundary, cval=0.3)
            assert abs(got - want).max() < 1e-9


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("channels", [1, 3])
def test_opencv(dtype: str, channels: int) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, (50, 60, channels)).astype(dtype)
    template = rng.integers(0, 255, (11, 8, channels)).astype(dtype)
    mask = np.uint8(np.hypot(*np.mgrid[-5:6, -4:4]) < 5)
    arguments = [np.squeeze(a) for a in (image, template)]
    axis = None if channels == 1 else -1
    want = cv2.matchTemplate(*arguments, cv2.TM_CCOEFF_NORMED)
    got = fastconv.match_template(*arguments, channel_axis=axis)
    assert abs(got - want).max() < 1e-5
    want = cv2.matchTemplate(*arguments, cv2.TM_CCOEFF)
    got = fastconv.match_template(*arguments, normalized=False, channel_axis=axis)
    assert abs(got - want).max() < 1e-5 * abs(want).max()
    for method, normalized in ((cv2.TM_CCOEFF_NORMED, True), (cv2.TM_CCOEFF, False)):
        masks = mask if channels == 1 else np.repeat(mask[..., None], 3, -1)
        want = cv2.matchTemplate(*arguments, method, mask=masks)
        got = fastconv.match_template(*arguments, normalized, mask, channel_axis=axis)
        assert abs(got - want).max() < 1e-4 * abs(want).max()


def test_constant_windows_score_nothing() -> None:
    rng = np.random.default_rng(4)
    for flat in (0.1, 1e6 / 3, -7e-9):
        image = rng.random((60, 60))
        image[10:40, 5:50] = flat
        template = rng.random((8, 9))
        got = fastconv.match_template(image, template)
        want = definition(image[None], template[None])
        assert (got[10:33, 5:42] == 0).all()
        assert abs(got - want).max() < 1e-9 + lost(flat)
        mask = rng.random((8, 9)) < 0.7
        got = fastconv.match_template(image, template, mask=mask)
        assert (got[10:33, 5:42] == 0).all()
    for constant in (np.full((4, 4), 0.1), np.ones((4, 4), "u1")):
        np.testing.assert_array_equal(fastconv.match_template(image, constant), 0)
        np.testing.assert_array_equal(fastconv.match_template(image, constant, False), 0)
    np.testing.assert_array_equal(fastconv.match_template(np.full((9, 9), 3), template[:4]), 0)


def lost(offset: float) -> float:
    """Error of scores of noise of spread 0.29 that is `offset` off the image's mean.

    A difference of squares has a few roundings of the squares' size.
    """
    return 20 * 2.0**-52 * (offset / 0.29) ** 2


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_no_cancellation(offset: float) -> None:
    """A picture on a pedestal, and with a part that is brighter than it by five digits."""
    rng = np.random.default_rng(5)
    image = rng.random((50, 60))
    template = image[20:30, 11:20].copy()
    want = definition(image[None], template[None])
    got = fastconv.match_template(image + offset, template + offset / 3)
    # the pedestal takes digits from the image itself
    assert abs(got - want).max() <= 1e-12 + 20 * np.spacing(offset)
    image[:, 45:] += offset
    want = definition(image[None], template[None])
    got = fastconv.match_template(image, template)
    assert abs(got - want).max() <= 1e-9 + lost(offset)


@pytest.mark.parametrize("method", ["auto", "fft"])
def test_quiet_windows_beside_loud_ones(method: str) -> None:
    """Transforms of the whole would leave nothing of the quiet part."""
    rng = np.random.default_rng(6)
    image = rng.standard_normal((60, 40)) * 1e-9
    image[40:50] = rng.standard_normal((10, 40)) * 1e5
    image[50:] = -image[40:50]
    template = rng.standard_normal((20, 20))
    got = fastconv.match_template(image, template, method=method)
    assert abs(got - definition(image[None], template[None])).max() < 1e-3


@pytest.mark.parametrize("isa", core.isas())
def test_strips(isa: str) -> None:
    """More columns than sums are made of at a time; those to the left doubtful, others not."""
    rng = np.random.default_rng(12)
    x = rng.standard_normal((1, 133, 2300))
    x[:, :80, :400] *= 1e-3
    products = rng.standard_normal((70, 2298))
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (64, 3))
    root = np.sqrt(192 * windows.var((2, 3)))
    for limit, doubtful in ((0.5, root < 0.5), (0.0, root < 0)):
        for dtype in ("f4", "f8"):
            y = np.empty(products.shape, dtype)
            rule = 1 / 192, 20.0, 1e-13, 0.0, 20 * limit
            some = core.scores(x, (64, 3), products, rule, y, 2, isa)
            np.testing.assert_array_equal(some, doubtful.any(1))
            want = np.clip(products / root / 20, -1, 1)
            assert abs(y - want).max() <= (2.0**-24 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e305])
def test_huge_ranges(scale: float) -> None:
    image, template = pictures((30, 31), (6, 7), "f8")
    got = fastconv.match_template(image * scale, template / scale)
    assert abs(got - definition(image[None], template[None])).max() < 1e-12
    plain = fastconv.match_template(image * scale, template / scale, False)
    want = definition(image[None], template[None], normalized=False)
    assert abs(plain - want).max() < 1e-12


def test_what_is_not_finite_stays_in_its_windows() -> None:
    image, template = pictures((40, 50), (5, 6), "f8")
    want = definition(image[None], template[None])
    for bad in (np.nan, np.inf, -np.inf):
        broken = image.copy()
        broken[20, 30] = bad
        got = fastconv.match_template(broken, template)
        hit = np.zeros_like(want, bool)
        hit[16:21, 25:31] = True
        assert np.isnan(got[hit]).all()
        assert abs(got - want)[~hit].max() < 1e-12
    with np.errstate(invalid="ignore"):
        assert np.isnan(fastconv.match_template(np.full((9, 9), np.nan), template)).all()


def test_same_mode_is_valid_of_the_extended_image() -> None:
    image, template = pictures((9, 10), (4, 7), "u1")
    for boundary, name in PADDED:
        wide = np.pad(image.astype("f8"), [(2, 1), (3, 3)], name)
        got = fastconv.match_template(image, template, mode="same", boundary=boundary)
        assert got.shape == image.shape
        assert abs(got - fastconv.match_template(wide, template)).max() < 1e-6
    larger = fastconv.match_template(template, np.ones((9, 20)) * np.arange(20), mode="same")
    assert larger.shape == template.shape


def test_out_plan_and_threads() -> None:
    image, template = pictures((80, 90), (12, 9), "f4")
    want = fastconv.match_template(image, template)
    out = np.empty(want.shape, "f8")
    assert fastconv.match_template(image, template, out=out) is out
    np.testing.assert_allclose(out, want, atol=1e-7)
    strided = np.asfortranarray(image)[::-1, ::-1][::-1, ::-1]
    np.testing.assert_allclose(fastconv.match_template(strided, template), want, atol=1e-7)
    prepared = fastconv.plan(fastconv.match_template, image, template)
    for factor in (1, 3):
        np.testing.assert_array_equal(
            prepared(image * factor), fastconv.match_template(image * factor, template)
        )
    one, two = (
        fastconv.match_template(image, template, threads=n, deterministic=True) for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_calls_that_repeat_see_what_has_changed() -> None:
    """Packed templates are kept; one that is written to, or comes with another mask, is another."""
    rng = np.random.default_rng(8)
    image, template = rng.random((20, 25)), rng.random((9, 12))
    masks = [None, rng.random((9, 12)) < 0.6, rng.random((9, 12)) < 0.4]
    for turn in range(5):
        for mask in masks:
            for _ in range(2):
                got = fastconv.match_template(image, template, mask=mask)
                want = definition(image[None], template[None], mask)
                assert abs(got - want).max() < 1e-10
        template[turn] = rng.random(12)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_long_signals_and_tall_windows(dtype: str) -> None:
    """More scores than are looked at together, and windows of more rows than a block has."""
    image, template = pictures((20_000,), (700,), dtype)
    got = fastconv.match_template(image, template)
    some = np.linspace(0, got.size - 1, 100).astype(int)
    want = [definition(image[None, i : i + 700], template[None])[0] for i in some]
    assert abs(got[some] - want).max() < 1e-6
    image, template = pictures((590, 5), (290, 3), dtype)
    got = fastconv.match_template(image, template)
    assert abs(got - definition(image[None], template[None])).max() < 1e-6
    image[292:294, 3] = np.nan
    bad = np.isnan(fastconv.match_template(image, template))
    assert bad[3:294, 1:].all() and bad.sum() == 291 * 2


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_centring(dtype: str) -> None:
    """Every tail and several pieces, the same on two threads; what is not finite."""
    rng = np.random.default_rng(9)
    for size in (1, 7, 8, 9, 100, 2**15 + 3, 3 * 2**15):
        x = (rng.random(size) * 200).astype(dtype)
        exact = math.fsum(x.tolist())
        total = core.total(x)
        assert abs(total - exact) <= 2.0**-52 * size * exact
        assert total == core.total(x, 2)
        y, again = np.empty(size), np.empty(size)
        largest = core.centre(x, 77.3, y)
        np.testing.assert_array_equal(y, x.astype("f8") - 77.3)
        assert largest == abs(y).max() == core.centre(x, 77.3, again, 2)
        np.testing.assert_array_equal(y, again)
        if dtype != "u1":
            x[size // 2] = np.nan
            assert math.isnan(core.total(x))
            rest = np.delete(y, size // 2)
            assert core.centre(x, 77.3, y) == abs(rest).max(initial=0)
            assert math.isnan(y[size // 2])
            x[size // 3] = -np.inf
            assert size < 7 or core.centre(x, 77.3, y) == np.inf


def test_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    image, template = (a.astype(ml_dtypes.bfloat16) for a in pictures((20, 20), (4, 5), "f4"))
    got = fastconv.match_template(image, template)
    assert got.dtype == np.float32
    want = definition(image.astype("f8")[None], template.astype("f8")[None])
    assert abs(got - want).max() < 1e-6


@pytest.mark.parametrize(
    "arguments, options, error, text",
    [
        ([(9, 9), (3,)], {}, ValueError, "one rank"),
        ([(), ()], {}, ValueError, "one rank"),
        ([(9, 9), (10, 3)], {}, ValueError, "no larger"),
        ([(9, 0), (1, 1)], {}, ValueError, "non-empty"),
        ([(9, 9), (3, 0)], {}, ValueError, "non-empty"),
        ([(9, 9), (3, 3)], {"mode": "full"}, ValueError, "'valid' or 'same'"),
        ([(9, 9), (3, 3)], {"boundary": "zeros"}, ValueError, "boundary"),
        ([(9, 9), (3, 3)], {"mask": np.ones((3, 4))}, ValueError, "shape"),
        ([(9, 9), (3, 3)], {"mask": np.full((3, 3), 2)}, ValueError, "zeros and ones"),
        ([(9, 9), (3, 3)], {"mask": np.zeros((3, 3))}, ValueError, "zeros only"),
        ([(9, 9), (3, 3)], {"method": "nonsense"}, ValueError, "nonsense"),
        ([(9, 9, 3), (3, 3, 2)], {"channel_axis": -1}, ValueError, "channels"),
        ([(9,), (9,)], {"channel_axis": 0}, ValueError, "beside other axes"),
        ([(9, 9), (3, 3)], {"channel_axis": 2}, ValueError, "dimensions"),
        ([(9, 9), (3, 3)], {"out": np.zeros((7, 8))}, ValueError, "shape"),
        ([(9, 9), (3, 3)], {"out": np.zeros((7, 7), "f4")}, TypeError, "holds"),
    ],
)  # fmt: skip
def test_errors(arguments: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        fastconv.match_template(*map(np.ones, arguments), **options)


def test_dtypes_that_are_refused() -> None:
    good = np.ones((4, 4))
    for bad in (good + 1j, np.full((4, 4), "a"), good.astype(object)):
        with pytest.raises(TypeError):
            fastconv.match_template(bad, good)
        with pytest.raises(TypeError):
            fastconv.match_template(good, bad)
        with pytest.raises(TypeError):
            fastconv.peak_position(bad)
    with pytest.raises(TypeError, match="mask"):
        fastconv.match_template(np.ma.masked_array(good), good)


def test_peak_position() -> None:
    assert fastconv.peak_position(np.array([[1, 5], [5, 2]], "u1")) == (0, 1)
    assert fastconv.peak_position([np.nan, -np.inf]) == (1,)
    assert fastconv.peak_position([[[True]]]) == (0, 0, 0)
    for empty in ([], [np.nan]):
        with pytest.raises(ValueError, match="number"):
            fastconv.peak_position(empty)


@pytest.mark.parametrize("dtype", ["i2", "u1", "f4", "f8", "c8", "?"])
@pytest.mark.parametrize("delay", [(0,), (13,), (-6,), (3, -4), (-1, 2, 0)], ids=str)
def test_find_delay(dtype: str, delay: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    size = {1: 60, 2: 14, 3: 7}[len(delay)]
    whole = (rng.standard_normal((size + 30,) * len(delay)) * 90).astype(dtype)
    if dtype == "u1":
        whole[whole < 128] = 0
    a = whole[tuple(slice(15, 15 + size) for _ in delay)]
    b = whole[tuple(slice(15 - d, 15 - d + size) for d in delay)]
    sparse = np.zeros_like(whole)
    sparse[tuple(slice(15 + d, 15 + d + size) for d in delay)] = a
    assert fastconv.find_delay(a, sparse) == tuple(15 + d for d in delay)
    assert fastconv.find_delay(sparse, a) == tuple(-15 - d for d in delay)
    if dtype in ("f4", "f8", "c8"):
        assert fastconv.find_delay(a, b) == delay
    with pytest.raises(ValueError, match="dimensionality"):
        fastconv.find_delay(a, np.ones((2,) * (len(delay) + 1)))
