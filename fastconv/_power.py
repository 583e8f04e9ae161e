"""`convolve_power`: an array convolved with itself, n factors in all.

    p^n = p * p * ... * p,    and    p^(2m) = p^m * p^m,    p^(2m + 1) = p^(2m) * p

so that the bits of n, from the highest, are as many squarings and at most as many products with p,
which is short. Each is a convolution of its own to the planner.

Where errors may be relative to the sum of all numbers, a transform takes the place of all of them:

    p^n = F^-1(F(p)^n)
"""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt
import scipy.fft

from fastconv import _engine, signal
from fastconv._engine import front_end
from fastconv._problem import Array

#: Numbers of a power up to which steps are taken: some microseconds each, by direct sums, which
#: keep what is small accurate relative to itself.
_SHORT = 256

#: Bytes that `_by_spectrum` takes for a sample of the circle: p, its spectrum, a power of that and
#: the transform back, all of which are twice as large where numbers are complex.
_BYTES_A_SAMPLE = 32


@front_end(data="p", kernel=None, packs=False)
def convolve_power(
    p: npt.ArrayLike,
    n: SupportsIndex,
    *,
    out: Array | None = None,
    method: str = "auto",
    accuracy: str = "balanced",
    threads: int | None = None,
    workspace_limit: int | None = None,
    flush_denormals: bool = False,
    deterministic: bool = False,
    nonnegative: bool = False,
) -> Array:
    """Convolve an array with itself, n factors in all.

    Of the probabilities of a number, those of the sum of n independent draws; of a filter, the
    one that filters n times. Along an axis of m samples the result has ``n * (m - 1) + 1``.

    Parameters
    ----------
    p : array_like, one dimension or more
        Of any integer, bool, floating or complex dtype; not empty.
    n : int
        At least 0. No factor is the unit of convolution: a single 1.
    out : ndarray, optional
        Where to store the result; may be p.
    method : str
        As for `fastconv.convolve`; the name of a solver must be one that can do every step.
    accuracy : {"strict", "balanced", "fast"}
        How large errors may be, see Notes. ``strict`` keeps every number of a non-negative result
        accurate *relative to itself*: it is what tail probabilities need. With `nonnegative`, long
        ones are transformed all the same, tilted.
    threads, workspace_limit, flush_denormals, deterministic
        As for `fastconv.convolve`.
    nonnegative : bool, default False
        Refuse p with a negative number in it, and never return one.

    Returns
    -------
    ndarray
        Of p's dtype. Integers are exact and wrap around; bool is the or of ands.

    Raises
    ------
    ValueError
        For an empty p, n below 0, an unknown method, or a negative number where `nonnegative`
        rules it out.
    TypeError
        For n that is not an integer, a p of no dimensions, and dtypes that are not numbers.

    See Also
    --------
    fastconv.convolve

    Notes
    -----
    In ``strict`` mode, with r the error of a step relative to each number of a non-negative result,
    the error of the result is at most (n - 1) r, to first order: a square has twice the relative
    error of its root, and its own.

    In the other modes errors are relative to S = sum(abs(p)) ** n: what is much smaller may have no
    correct digit, and be negative. Finite floats whose power has more than 256 numbers, N, are
    transformed once, in double precision, with an error of at most (n + 1) log2(2 N) 2.2e-16 S and
    what rounding to their dtype adds, with nothing left to plan or tune; where that would overflow,
    a `method` is named or memory is short, steps are taken, with an error of at most (n - 1) r S.

    Numbers below the smallest normal one (2e-308 in float64) round to a fixed number of places, so
    that what a step sums from such is off by as much as there are products of them.
    docs/accuracy.md has figures.

    References
    ----------
    .. [1] D. E. Knuth, The Art of Computer Programming, vol. 2, 3rd ed., section 4.6.3.
    .. [2] H. Wilson and U. Keich, Accurate pairwise convolution of non-negative vectors via FFT,
       Computational Statistics & Data Analysis 101, 2016: why tails need relative accuracy.

    Examples
    --------
    Sums of dice, and the odds of 300 that show nothing but sixes and one five:

    >>> import numpy as np
    >>> import fastconv
    >>> two = fastconv.convolve_power(np.full(6, 1 / 6), 2)             # of 2 to 12
    >>> float(two[7 - 2].round(4))
    0.1667
    >>> sums = fastconv.convolve_power(np.full(6, 1 / 6), 300, accuracy="strict")
    >>> f"{sums[-2]:.6e}", f"{300 / 6**300:.6e}"
    ('1.075836e-231', '1.075836e-231')

    A binomial filter, exactly:

    >>> fastconv.convolve_power([1, 1], 4)
    array([1, 4, 6, 4, 1])
    """
    x = signal._array("p", p)
    times = operator.index(n)
    if x.ndim == 0:
        raise TypeError("expected p of one dimension or more, got a number")
    if x.size == 0:
        raise ValueError(f"expected p that is not empty, got shape {x.shape}")
    if times < 0:
        raise ValueError(f"expected n of at least 0, got {times}")
    if nonnegative:
        _engine.check_nonnegative(p=x)
    shape = tuple(times * (m - 1) + 1 for m in x.shape)
    signal._check_out(out, shape, x.dtype)
    options = signal._options(
        accuracy, threads, workspace_limit, None, flush_denormals, deterministic, nonnegative
    )
    base = x.astype(signal._summed(x.dtype), copy=False)  # 16-bit floats are rounded once
    granted = _engine.granted_threads(threads)
    whole = method == "auto" and accuracy in ("balanced", "fast")
    if whole and _is_transformed(base, times, workspace_limit):
        power = _by_spectrum(base, times, granted)
        if nonnegative:
            np.maximum(power, 0, out=power)
    else:
        power = base if times else np.ones(shape, base.dtype)
        for bit in bin(times)[3:]:
            power = signal.convolve(power, power, method=method, **options)
            if bit == "1":
                power = signal.convolve(power, base, method=method, **options)
    with np.errstate(over="ignore"):  # infinities are what a smaller dtype has for it
        if out is None:
            return power.astype(x.dtype, copy=power is base)
        out[...] = power
    return out


def _circle(p: Array, n: int) -> list[int]:
    """Sizes on which the n-th power of p does not meet itself."""
    real = p.dtype.kind == "f"
    return [scipy.fft.next_fast_len(n * (m - 1) + 1, real) for m in p.shape]


def _is_transformed(p: Array, n: int, workspace_limit: int | None) -> bool:
    """Whether a power is made by `_by_spectrum`."""
    if p.dtype.char not in "fdFD" or n < 2:
        return False
    if math.prod(n * (m - 1) + 1 for m in p.shape) <= _SHORT:
        return False
    samples = math.prod(_circle(p, n))
    parts = 1 if p.dtype.kind == "f" else 2
    if workspace_limit is not None and parts * _BYTES_A_SAMPLE * samples > workspace_limit:
        return False
    # numbers of the spectrum are at most S, sums of them on the way back at most that many times
    # as large; errors are eps S, and should not be lost among subnormal numbers
    with np.errstate(over="ignore"):
        total = float(np.abs(p).sum(dtype=float))
    if not 0 < total < math.inf:
        return False
    range_of = np.finfo(float)
    size = n * math.log2(total)
    return range_of.minexp + 2 * range_of.nmant < size < range_of.maxexp - 2 - math.log2(samples)


def _by_spectrum(p: Array, n: int, threads: int) -> Array:
    """F^-1(F(p)^n) in double precision."""
    sizes, real = _circle(p, n), p.dtype.kind == "f"
    if real:
        base = scipy.fft.rfftn(p.astype(float), sizes, workers=threads)
    else:
        base = scipy.fft.fftn(p.astype(complex), sizes, workers=threads)
    power = base.copy()
    for bit in bin(n)[3:]:
        np.multiply(power, power, out=power)
        if bit == "1":
            np.multiply(power, base, out=power)
    back = scipy.fft.irfftn if real else scipy.fft.ifftn
    circle = back(power, sizes, workers=threads)
    return circle[tuple(slice(n * (m - 1) + 1) for m in p.shape)]
