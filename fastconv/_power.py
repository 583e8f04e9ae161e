"""`convolve_power`: an array convolved with itself, n factors in all.

    p^n = p * p * ... * p,    and    p^(2m) = p^m * p^m,    p^(2m + 1) = p^(2m) * p

so that the bits of n, from the highest, are as many squarings and at most as many products with p,
which is short. Each is a convolution of its own to the planner.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import _engine, signal
from fastconv._engine import front_end
from fastconv._problem import Array


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
        How much rounding error each step may add. ``strict`` keeps every number of a
        non-negative result accurate *relative to itself*: it is what tail probabilities need. With
        `nonnegative`, long ones are transformed all the same, tilted.
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
    With r the error of a step, relative to sum(abs(p)) ** n in ``balanced`` mode and to each number
    of a non-negative result in ``strict`` mode, the error of the result is at most (n - 1) r, to
    first order: a square has twice the relative error of its root, and its own. In ``balanced``
    mode, tails below r of the largest number have no correct digit, and may be negative.

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
    power = base if times else np.ones(shape, base.dtype)
    for bit in bin(times)[3:]:
        power = signal.convolve(power, power, method=method, **options)
        if bit == "1":
            power = signal.convolve(power, base, method=method, **options)
    if out is None:
        return power.astype(x.dtype, copy=power is base)
    out[...] = power
    return out
