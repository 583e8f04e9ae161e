"""Convolutions of arrays that live on a GPU.

Nothing here is called by users but `is_available` and `why_not`: a function of fastconv that is
given arrays of PyTorch, CuPy, Numba or of anything else with ``__cuda_array_interface__`` or
DLPack runs where they are. docs/gpu.md has the whole of it.

Importing this package imports neither Numba nor a driver.
"""

from __future__ import annotations

__all__ = ["is_available", "why_not"]


def why_not() -> str | None:
    """Why arrays on a GPU cannot be convolved here, in words; None when they can.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.cuda.is_available() == (fastconv.cuda.why_not() is None)
    True
    """
    from fastconv.cuda import launch

    return launch.why_not()


def is_available() -> bool:
    """Whether there is a GPU here, and all that it takes to run on it."""
    return why_not() is None
