"""Where is it? Templates in images, and delays of signals, by correlation.

With t the template less its mean, and a window of the image less the window's mean,

    score = sum(t * window) / sqrt(sum(t^2) * sum(window^2))

The sum of t is 0, so the numerator is one correlation of t with the image as it is, and
``sum(window^2) = s2 - s1^2 / N`` follows from the sums of the N samples of a window and of their
squares. That difference cancels where a window is bright and flat: therefore the image is shifted
by its mean first, everything is computed in float64, and windows whose difference could be nothing
but rounding count as constant. The sums of boxes, and the quotient, are made in one pass of C
(`_ext/drivers/scores.c`); those of masks, and of boxes of three axes and more, are convolutions.

Of bytes, products and sums are whole numbers where processors multiply bytes four by four and the
template is small: nothing is shifted, and nothing rounded before the root
(`_ext/drivers/scores_u8.c`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import signal
from fastconv._engine import front_end, granted_threads, run
from fastconv._ext import core
from fastconv._kept import Kept
from fastconv._problem import Array

#: boundary -> what `numpy.pad` calls it.
_PADDED = {
    "constant": "constant", "reflect": "symmetric", "mirror": "reflect", "nearest": "edge",
    "wrap": "wrap",
}  # fmt: skip

_EPS = float(np.finfo(np.float64).eps)

#: Relative error that is accepted of a sum of squares less the square of a sum, where transforms
#: made them; half of it is the error of a score.
_SPREAD_ERROR = 2.0**-10

#: Most samples of a template of bytes whose products are summed one by one: 45 x 45 takes 32 ms,
#: by transforms 37, 64 x 64 53 and 43 (1080p, one busy thread of an Emerald Rapids).
_COUNTED = 2048

#: Exponents of samples whose squares, and sums of them, are far from the ends of float64.
_MODEST = 300

#: Squares that are added up at a time, in 512 KB of L2.
_TOGETHER = 1 << 14

#: Scores of a signal, of one axis, that are looked at for doubt together.
_LINE = 1 << 13


@front_end(data="image", kernel="template")
def match_template(
    image: npt.ArrayLike,
    template: npt.ArrayLike,
    normalized: bool = True,
    mask: npt.ArrayLike | None = None,
    mode: str = "valid",
    boundary: str = "constant",
    cval: float = 0.0,
    *,
    channel_axis: SupportsIndex | None = None,
    out: Array | None = None,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    deterministic: bool = False,
) -> Array:
    """Score how well a template matches an image at each position: 1 is a perfect match.

    The zero-normalised cross-correlation, or correlation coefficient, of the template with each
    window of the image: what differs by brightness and contrast only scores 1, the negative -1.

    Parameters
    ----------
    image : array_like, one dimension or more
        Of any real dtype.
    template : array_like
        Of as many dimensions, and in mode ``valid`` no larger along any.
    normalized : bool, default True
        If false, the numerator alone: the sum of products of the template less its mean with the
        window.
    mask : array_like, optional
        Of the template's shape, without its channels: 1 or True where a sample counts, else 0.
    mode : {"valid", "same"}
        ``valid``: windows within the image, the score at the position of the window's first
        sample. ``same``: of the image's shape, the score at that of sample ``m // 2`` of m.
    boundary : {"constant", "reflect", "mirror", "nearest", "wrap"}
        What the image is extended by in mode ``same``, named as in `fastconv.ndimage`.
    cval : float, default 0
        What ``constant`` extends by.
    channel_axis : int, optional
        The axis of image and template whose samples belong to one position. Each channel has a
        mean of its own; the sums run over all channels. The result does not have this axis.
    out : ndarray, optional
        Where to store the result.
    method : str
        As for `fastconv.convolve`, for the numerator's correlation.
    accuracy : {"strict", "balanced", "fast"}
        As for `fastconv.convolve`. All sums are made in float64, or exactly.
    threads, workspace_limit, deterministic
        As for `fastconv.convolve`.

    Returns
    -------
    ndarray
        float32 where both inputs are of dtypes that float32 holds, else float64. Normalised
        scores are between -1 and 1, 0 where the window or the template is constant, and NaN
        where the window holds NaN or infinity.

    Raises
    ------
    ValueError
        For inputs of different rank or channels, empty ones, a template that is larger than the
        image in mode ``valid``, an unknown mode, boundary or method, and a mask that has another
        shape than the template, other values than 0 and 1, or no 1.
    TypeError
        For complex dtypes and those that are not numbers, and masked arrays.

    See Also
    --------
    peak_position : where a score is highest.
    find_delay : of two signals that are not normalised.

    Notes
    -----
    A window counts as constant where its spread is so small beside its samples, taken from the
    image's mean, that a difference of two sums does not show it: a standard deviation below about
    7e-7 of their root mean square. With a mask, whose sums are made by transforms, it is 4e-6 of
    the largest sample of the image, except with ``accuracy="strict"``. Scores of other windows are
    right to 1e-3 at that limit, and to 1e-9 where the spread is a hundredth of the range.

    The meaning is that of ``skimage.feature.match_template`` and of OpenCV's ``TM_CCOEFF_NORMED``
    (``TM_CCOEFF`` if not normalised); docs/differences.md has where they differ.

    References
    ----------
    .. [1] J. P. Lewis, Fast Template Matching, Vision Interface, 1995.
    .. [2] D. Padfield, Masked Object Registration in the Fourier Domain, IEEE Transactions on Image
       Processing 21(5), 2012: masks as correlations.

    Examples
    --------
    Find a darkened cut of a picture:

    >>> import numpy as np
    >>> import fastconv
    >>> picture = np.random.default_rng(0).random((80, 90))
    >>> cut = 0.3 * picture[20:36, 50:62] + 0.1
    >>> score = fastconv.match_template(picture, cut)
    >>> score.shape, fastconv.peak_position(score), round(float(score.max()), 6)
    ((65, 79), (20, 50), 1.0)

    What is round is found whatever is in the corners of its box:

    >>> y, x = np.ogrid[-7.5:8, -5.5:6]
    >>> ellipse = (y / 8) ** 2 + (x / 6) ** 2 < 1
    >>> score = fastconv.match_template(picture, np.where(ellipse, cut, 99), mask=ellipse)
    >>> fastconv.peak_position(score)
    (20, 50)
    """
    whole, part = _real("image", image), _real("template", template)
    if whole.ndim != part.ndim or whole.ndim == 0:
        raise ValueError(
            f"expected image and template of one rank, got shapes {whole.shape} and {part.shape}"
        )
    narrow = np.can_cast(signal._promoted(whole, part), np.float32)
    dtype: np.dtype[Any] = np.dtype(np.float32 if narrow else np.float64)
    if channel_axis is None:
        whole, part = whole[None], part[None]
    else:
        axis = signal._axes((channel_axis,), whole.ndim)[0]
        whole, part = np.moveaxis(whole, axis, 0), np.moveaxis(part, axis, 0)
    space = part.shape[1:]
    if whole.shape[0] != part.shape[0] or not space:
        raise ValueError(
            "expected image and template of equally many channels beside other axes, got shapes"
            f" {whole.shape} and {part.shape}, channels first"
        )
    if not whole.size or not part.size:
        raise ValueError(
            f"expected non-empty inputs, got shapes {whole.shape[1:]} and {space} in space"
        )
    weights = _weights(mask, space)
    pads = _pads(mode, boundary, whole.shape[1:], space)
    shape = tuple(n + sum(p) - m + 1 for n, m, p in zip(whole.shape[1:], space, pads))
    signal._check_out(out, shape, dtype)
    options: dict[str, Any] = {
        "accuracy": accuracy, "threads": threads, "workspace_limit": workspace_limit,
        "deterministic": deterministic,
    }  # fmt: skip
    boxes = weights is None and len(space) <= 2  # whose sums the scores' own loops make
    extended = _padded(whole, pads, boundary, cval)
    cores = granted_threads(threads)
    counted = normalized and boxes and method == "auto" and _are_counted(extended, part)
    if counted and (out is None or out.dtype == np.float32):
        return _count(extended, part, out, options, cores)
    x, largest, exponent = _centred(extended, normalized and not boxes, cores)
    kept = _template(part, weights)
    data, kernel = x[None, : len(part)], kept.less_mean[None]
    solvers = signal._solvers(method, None, np.dtype(np.float64))
    products = run(data, kernel, method=solvers, kernel_repeats=True, **options)[0, 0]
    result = core.empty(shape, dtype) if out is None else out
    if not normalized:
        result[...] = _times_two_to(products, exponent + kept.exponent)
        return result
    # boxes are summed axis by axis, which is quick and accurate at once
    strict = weights is None or accuracy == "strict"
    sums = None
    if not boxes:
        how = {**options, "accuracy": "strict"} if strict else options
        sums = run(x[:, None], kept.box[None, None], kernel_repeats=True, **how)[:, 0]
    score = _Score(kept, strict, largest, x.shape[1:], boxes)
    doubtful = score.store(x, sums, products, result, cores)
    if accuracy != "strict" and doubtful:
        # quiet windows in an image that has far louder ones: their products are summed directly
        rows = slice(doubtful.start, doubtful.stop)
        reach = slice(doubtful.start, doubtful.stop + space[0] - 1)
        options["accuracy"] = "strict"
        products = run(data[:, :, reach], kernel, **options)[0, 0]
        some = None if sums is None else sums[:, rows]
        score.store(x[:, reach], some, products, result[rows], cores)
    return result


def _are_counted(whole: Array, part: Array) -> bool:
    """Whether scores are quotients of whole numbers, which a processor multiplies bytes for."""
    taps = math.prod(part.shape[1:])
    return (
        whole.dtype == part.dtype == np.uint8
        and whole.ndim == 3
        and taps <= _COUNTED
        and 255**2 * part.size < 2**31
        and core.quads_absent() is None
    )


def _count(
    whole: Array, part: Array, out: Array | None, options: dict[str, Any], threads: int
) -> Array:
    """Scores of bytes: `_ext/kernels/scores_u8.c`."""
    x = np.require(whole, requirements=("C", "A"))
    products = run(x[None], part[None], dtype=np.int32, kernel_repeats=True, **options)[0, 0]
    n = part[0].size
    total = part.sum(axis=(1, 2), dtype=np.float64)
    squares = float(np.square(part, dtype=np.float64).sum())
    norm = math.sqrt(n * squares - float(np.square(total).sum()))
    y = out
    if y is None or not y.flags.c_contiguous:
        y = core.empty(products.shape, np.dtype(np.float32))
    core.byte_scores(x, part.shape[1:], products, n, norm, total, y, threads)
    if out is None or out is y:
        return y
    out[...] = y
    return out


class _Template(NamedTuple):
    """What calls that bring the same template share: packed once, found by its bytes."""

    less_mean: Array  # and less `exponent` powers of two; 0 where the mask is
    exponent: int
    box: Array  # what counts in a window


#: Templates of plain calls that repeat; what `run` packs of them is kept by their addresses.
_templates = Kept()


def _template(part: Array, weights: Array | None) -> _Template:
    plain = np.require(part, requirements=("C", "A"))
    mask = None if weights is None else hashlib.blake2b(weights.tobytes()).digest()

    def make() -> _Template:
        t = _less_mean(part, weights)
        exponent = _exponent(float(np.nanmax(abs(t))))
        box = np.ones(part.shape[1:]) if weights is None else weights
        return _Template(_times_two_to(t, -exponent), exponent, box)

    made: _Template = _templates.packed((plain.shape, plain.dtype.str, mask), plain, 1, make)
    return made


class _Score:
    """Scores of sums of windows, and how far these may be off: docs/accuracy.md."""

    def __init__(
        self, kept: _Template, strict: bool, largest: float, size: Sequence[int], boxes: bool
    ) -> None:
        t, box = kept.less_mean, kept.box
        norm = math.sqrt(float(np.square(t).sum()))
        count = float(box.sum())
        transform = (math.log2(2 + math.prod(size) * len(t)) + len(t) / 16) * _EPS
        direct = (min(box.size, 512) + math.ceil(box.size / 512)) * _EPS
        self._taps = None
        if boxes:  # rows one after the other, neighbours by fours, a square, channels
            self._taps = (1, *box.shape)[-2:]
            each = self._taps[0] + 2 * self._taps[1].bit_length() + 4 + len(t)
            direct = max(direct, each * _EPS)
        # of a sum of squares less the square of a sum, which has twice the error: relative to the
        # sum of squares, or to that of the largest samples
        share, least = 3 * direct, 0.0
        if not strict:
            share, least = 0.0, 3 * transform * count * largest**2 * len(t) / _SPREAD_ERROR
        limit = transform * largest * float(abs(t).sum()) / _SPREAD_ERROR
        self._rule = 1 / count, norm, share, least, limit

    def store(
        self, x: Array, sums: Array | None, products: Array, result: Array, threads: int
    ) -> range:
        """Store scores; from first to last place along axis 0 where an error could show."""
        y = result
        if y.dtype.char not in "fd" or not y.dtype.isnative or not y.flags.c_contiguous:
            y = np.empty(result.shape, np.float32 if result.dtype.itemsize < 8 else np.float64)
        length, step = len(y), len(y)
        if y.ndim == 1:
            step = _LINE if self._taps is None else max(_LINE, self._taps[1])
        found: list[int] = []
        for begin in range(0, length, step):
            end = min(length, begin + step)
            lines = (end - begin if y.ndim > 1 else 1, -1)
            source = x
            if sums is not None:
                source = sums[:, begin:end].reshape(len(sums), *lines)
            elif y.ndim == 1 and self._taps is not None:
                source = x[:, None, begin : end + self._taps[1] - 1]
            to = y[begin:end].reshape(lines)
            top = np.ascontiguousarray(products[begin:end]).reshape(lines)
            some = core.scores(source, self._taps, top, self._rule, to, threads)
            if some.any():
                at = np.flatnonzero(some) if y.ndim > 1 else (0, end - begin - 1)
                found += [begin + int(at[0]), begin + int(at[-1])]
        if y is not result:
            result[...] = y
        return range(found[0], found[-1] + 1) if found else range(0)


def _times_two_to(a: Array, exponent: int) -> Array:
    """a * 2**exponent, in two steps so that neither factor overflows."""
    if exponent == 0:
        return a
    half = exponent // 2
    return a * math.ldexp(1.0, half) * math.ldexp(1.0, exponent - half)


def _real(name: str, a: npt.ArrayLike) -> Array:
    array = signal._array(name, a)
    if array.dtype.kind == "c":
        raise TypeError(f"expected {name} of a real dtype, got {array.dtype}")
    return array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16


def _weights(mask: npt.ArrayLike | None, space: tuple[int, ...]) -> Array | None:
    """The mask as float64; None where every sample counts."""
    if mask is None:
        return None
    weights = _real("mask", mask)
    if weights.shape != space:
        raise ValueError(f"expected a mask of the template's shape {space}, got {weights.shape}")
    weights = weights.astype(np.float64)
    if not np.isin(weights, (0, 1)).all():
        raise ValueError("expected a mask of zeros and ones, got other values")
    if not weights.any():
        raise ValueError("expected a mask with a one in it, got zeros only")
    return None if weights.all() else weights


def _pads(
    mode: object, boundary: object, image: Sequence[int], template: Sequence[int]
) -> list[tuple[int, int]]:
    if boundary not in _PADDED:
        raise ValueError(f"expected a boundary out of {tuple(_PADDED)}, got {boundary!r}")
    if mode == "same":
        return [(m // 2, m - 1 - m // 2) for m in template]
    if mode != "valid":
        raise ValueError(f"expected mode 'valid' or 'same', got {mode!r}")
    if any(n < m for n, m in zip(image, template)):
        raise ValueError(
            "expected, for mode 'valid', a template no larger than the image, got shapes"
            f" {tuple(template)} and {tuple(image)}"
        )
    return [(0, 0)] * len(image)


def _less_mean(part: Array, weights: Array | None) -> Array:
    """The template less each channel's mean, and 0 where the mask is."""
    axes = tuple(range(1, part.ndim))
    counted: Any = True if weights is None else np.broadcast_to(weights > 0, part.shape)
    t = np.where(counted, part, 0).astype(np.float64)
    top = np.max(t, axis=axes, where=counted, initial=-np.inf, keepdims=True)
    bottom = np.min(t, axis=axes, where=counted, initial=np.inf, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities
        for _ in range(2):  # the second time for the rounding error of the mean itself
            t -= np.mean(t, axis=axes, where=counted, keepdims=True)
        return np.where(counted & (top != bottom), t, 0.0)


def _exponent(a: float) -> int:
    return math.frexp(a)[1] if math.isfinite(a) and a > 0 else 0


def _padded(whole: Array, pads: Sequence[tuple[int, int]], boundary: str, cval: float) -> Array:
    if not any(map(any, pads)):
        return whole
    if boundary != "constant":
        return np.pad(whole, ((0, 0), *pads), _PADDED[boundary])  # type: ignore[call-overload]
    whole = whole.astype(np.float64)  # cval may be no number of the image's dtype
    return np.pad(whole, ((0, 0), *pads), constant_values=cval)


def _centred(whole: Array, squares: bool, threads: int) -> tuple[Array, float, int]:
    """Channels less their means, and the sum of their squares; the largest size of a sample.

    Powers of two are taken out where squares would overflow or vanish.
    """
    channels = len(whole)
    x = core.empty((channels + squares, *whole.shape[1:]), np.dtype(np.float64))
    largest = 0.0
    for channel, to in zip(whole, x):
        plain = channel.dtype.char in "Bfd" and channel.dtype.isnative
        exact = np.float32 if np.can_cast(channel.dtype, np.float32) else np.float64
        source = np.require(channel, None if plain else exact, ("C", "A"))
        mean = core.total(source, threads) / source.size
        if not math.isfinite(mean):
            finite = source[np.isfinite(source)]
            mean = (finite / finite.size).sum(dtype=np.float64) if finite.size else 0.0
        most = core.centre(source, mean, to, threads)
        largest = max(largest, most if math.isfinite(most) else _largest(to))
    exponent = _exponent(largest)
    if abs(exponent) > _MODEST:
        x[:channels] = _times_two_to(x[:channels], -exponent)
        largest = math.ldexp(largest, -exponent)
    else:
        exponent = 0
    step = max(1, _TOGETHER // math.prod(whole.shape[2:]))
    for first in range(0, whole.shape[1] if squares else 0, step):
        rows = slice(first, first + step)
        np.square(x[0, rows], out=x[-1, rows])
        for c in range(1, channels):
            x[-1, rows] += np.square(x[c, rows])
    return x, largest, exponent


def _largest(a: Array) -> float:
    return float(np.max(abs(a), initial=0, where=np.isfinite(a)))


def peak_position(score: npt.ArrayLike) -> tuple[int, ...]:
    """Where an array is largest.

    Parameters
    ----------
    score : array_like
        Of any real dtype; NaN counts as smaller than any number.

    Returns
    -------
    tuple of int
        An index; of several equal peaks the first in C order.

    Raises
    ------
    ValueError
        For an array with no number in it.
    TypeError
        For complex dtypes and those that are not numbers.

    See Also
    --------
    match_template, find_delay

    Examples
    --------
    >>> import fastconv
    >>> fastconv.peak_position([[0.1, 0.3, 0.2], [0.9, float("nan"), 0.4]])
    (1, 0)
    """
    a = _real("score", score)
    numbers = np.flatnonzero(~np.isnan(a))
    if not numbers.size:
        raise ValueError(f"expected a score with a number in it, got shape {a.shape}")
    peak = numbers[a.ravel()[numbers].argmax()]
    return tuple(int(i) for i in np.unravel_index(peak, a.shape))


def find_delay(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
) -> tuple[int, ...]:
    """How much later b is than a: the lag at which their correlation is largest in size.

    Parameters
    ----------
    a, b : array_like
        Of one rank and any lengths; of any real or complex dtype. Means are not taken off:
        silence should be 0.
    method, accuracy, threads, workspace_limit
        As for `fastconv.correlate`.

    Returns
    -------
    tuple of int
        Along each axis the d for which ``b[i + d]`` is most like ``a[i]``; negative where b is
        earlier. Of equal peaks the first.

    Raises
    ------
    ValueError, TypeError
        As `fastconv.correlate` does, and ValueError where no correlation is a number.

    See Also
    --------
    fastconv.correlate, fastconv.signal.correlation_lags
    match_template : where brightness and contrast change over an image.

    References
    ----------
    .. [1] C. H. Knapp and G. C. Carter, The Generalized Correlation Method for Estimation of Time
       Delay, IEEE Transactions on Acoustics, Speech, and Signal Processing 24(4), 1976.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> said = np.random.default_rng(0).standard_normal(500)
    >>> heard = np.concatenate([np.zeros(70), -0.2 * said])
    >>> fastconv.find_delay(said, heard), fastconv.find_delay(heard, said)
    ((70,), (-70,))
    """
    first, second = signal._pair(a, b)
    if first.dtype.kind in "iub" and second.dtype.kind in "iub":  # sums must not wrap
        first = first.astype(np.float64)
    match = signal.correlate(
        second, first, method=method, accuracy=accuracy, threads=threads,
        workspace_limit=workspace_limit,
    )  # fmt: skip
    peak = peak_position(abs(match))
    return tuple(i - (n - 1) for i, n in zip(peak, first.shape))
