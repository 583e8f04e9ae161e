"""Libraries of Fourier transforms, all called as `scipy.fft` is.

SciPy's pocketfft is always there. The others are optional, imported when a plan first wants them,
and are told the number of threads in every call.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft

from fastconv._problem import Array


@dataclasses.dataclass(frozen=True)
class Transforms:
    """One axis of an array, `n` samples of it, by up to `workers` threads.

    ``rfft(x, n, axis, workers=)`` and ``irfft(z, n, axis, workers=)`` take and give real data;
    ``fft(x, n, axis, overwrite_x=, workers=)`` and ``ifft`` may spoil x when told so. x is cut, or
    extended by zeros, to n.
    """

    rfft: Callable[..., Array]
    irfft: Callable[..., Array]
    fft: Callable[..., Array]
    ifft: Callable[..., Array]


SCIPY = Transforms(scipy.fft.rfft, scipy.fft.irfft, scipy.fft.fft, scipy.fft.ifft)


def _fitted(x: Array, n: int, axis: int) -> Array:
    """n samples of an axis: x itself, a view, or a copy with zeros at the end."""
    axis %= x.ndim
    size = x.shape[axis]
    if size >= n:
        return x[(slice(None),) * axis + (slice(n),)]
    y = np.zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype)
    y[(slice(None),) * axis + (slice(size),)] = x
    return y


def _ducc0() -> Transforms:
    ducc = importlib.import_module("ducc0").fft

    def rfft(x: Array, n: int, axis: int = -1, *, workers: int = 1) -> Array:
        y: Array = ducc.r2c(_fitted(x, n, axis), axes=(axis % x.ndim,), nthreads=workers)
        return y

    def irfft(z: Array, n: int, axis: int = -1, *, workers: int = 1) -> Array:
        z = _fitted(z, n // 2 + 1, axis)
        y: Array = ducc.c2r(
            z, axes=(axis % z.ndim,), lastsize=n, forward=False, inorm=2, nthreads=workers
        )
        return y

    def complex_(forward: bool) -> Callable[..., Array]:
        def transform(
            x: Array, n: int, axis: int = -1, *, overwrite_x: bool = False, workers: int = 1
        ) -> Array:
            z = _fitted(x, n, axis)
            out = z if overwrite_x or (z.base is None and z is not x) else None
            y: Array = ducc.c2c(
                z, axes=(axis % z.ndim,), forward=forward, inorm=0 if forward else 2, out=out,
                nthreads=workers,
            )  # fmt: skip
            return y

        return transform

    return Transforms(rfft, irfft, complex_(True), complex_(False))


def _like_scipy(module: str, **options: Any) -> Callable[[], Transforms]:
    def load() -> Transforms:
        m = importlib.import_module(module)

        def complex_(function: Callable[..., Array]) -> Callable[..., Array]:
            def transform(
                x: Array, n: int, axis: int = -1, *, overwrite_x: bool = False, workers: int = 1
            ) -> Array:  # MKL's overwrites nothing of another length
                z = _fitted(x, n, axis)
                own = overwrite_x or (z.base is None and z is not x)
                return function(z, axis=axis, overwrite_x=own, workers=workers, **options)

            return transform

        rfft, irfft = (functools.partial(f, **options) for f in (m.rfft, m.irfft))
        return Transforms(rfft, irfft, complex_(m.fft), complex_(m.ifft))

    return load


@dataclasses.dataclass(frozen=True)
class Library:
    """The packages that a library takes, and how its transforms are had."""

    packages: tuple[str, ...]
    load: Callable[[], Transforms]


#: Beside SciPy. FFTW plans anew in each call: measuring would take longer than the transforms.
LIBRARIES = {
    "ducc0": Library(("ducc0",), _ducc0),
    "mkl_fft": Library(("mkl_fft", "mkl"), _like_scipy("mkl_fft.interfaces.scipy_fft")),
    "pyfftw": Library(
        ("pyfftw",), _like_scipy("pyfftw.interfaces.scipy_fft", planner_effort="FFTW_ESTIMATE")
    ),
}


@functools.cache
def installed() -> tuple[str, ...]:
    """Names of the optional libraries that are there; none is imported."""
    return tuple(
        name
        for name, library in LIBRARIES.items()
        if all(importlib.util.find_spec(package) is not None for package in library.packages)
    )


@functools.cache
def transforms(name: str) -> Transforms:
    """The transforms of a library, and SciPy's where it turns out not to work.

    FFTW does not once MKL is loaded, which has functions of the same names.
    """
    if name == "scipy":
        return SCIPY
    try:
        found = LIBRARIES[name].load()
        found.rfft(np.ones(8), 8, 0, workers=1)
    except (ImportError, RuntimeError, OSError, AttributeError):
        return SCIPY
    return found
