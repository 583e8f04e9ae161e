"""Packed weights of plain calls that repeat: packed again only when the weights have changed.

A plain call packs its weights each time, which for transforms of large kernels takes longer than
the convolution. So when calls of one kind come with the same array again, its packed form is kept
beside a copy of the weights, and used as long as the two are equal byte for byte: comparing costs
a read of both, a twentieth of a 3x3 layer of 256 channels on 14x14. What a call returns never
depends on what is kept, only when it returns.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

from fastconv._ext import core
from fastconv._problem import Array

#: Copies and packed weights of all calls together: the 3x3 layers of a ResNet-50, transformed. Of
#: larger networks the layers met first are kept; `fastconv.plan` has no such limit.
MOST_BYTES = 256 << 20

#: Calls that packed weights may go unused before others take their place.
STALE = 4096

#: Arrays remembered for having been met, whether their weights are kept or not.
MOST_ARRAYS = 4096


class _Weights:
    """One array that calls of one kind were given."""

    __slots__ = ("bytes", "kept", "met", "used", "wanted")

    def __init__(self) -> None:
        self.met = 0  # calls in a row with nothing kept
        # of these before a copy is made; doubles each time that one was in vain
        self.wanted: float = 2
        self.used = 0  # when it was last used, in calls of all kinds
        self.bytes = 0
        # copy and packed form in one: another thread may take them away while they are looked at
        self.kept: tuple[Array, Any] | None = None


class Kept:
    """The packed weights of all calls, within `MOST_BYTES`."""

    def __init__(self) -> None:
        self._weights: dict[tuple[Hashable, int], _Weights] = {}
        self._bytes = 0
        self._calls = 0
        self._lock = threading.Lock()

    def clear(self) -> None:
        with self._lock:
            self._weights.clear()
            self._bytes = 0

    def packed(
        self, kind: Hashable, w: Array, threads: int, pack: Callable[..., Any], *given: Any
    ) -> Any:
        """`pack(*given)`, or what it returned for equal weights.

        `kind` stands for all that packing depends on but the values of `w`, a C-ordered array,
        which up to `threads` threads compare.
        """
        key = (kind, core.address(w))
        found = self._weights.get(key)
        kept = None if found is None else found.kept
        if found is not None and kept is not None and core.same_bytes(w, kept[0], threads):
            self._calls += 1  # an approximate clock: no lock
            found.used = self._calls
            return kept[1]
        return self._pack(key, w, pack, given)

    def _pack(
        self, key: tuple[Hashable, int], w: Array, pack: Callable[..., Any], given: tuple[Any, ...]
    ) -> Any:
        with self._lock:
            self._calls += 1
            found = self._weights.get(key)
            if found is None:
                while len(self._weights) >= MOST_ARRAYS:
                    self._drop(next(iter(self._weights)))
                found = self._weights[key] = _Weights()
            elif found.kept is not None:  # the weights have changed
                self._empty(found)
                found.wanted *= 2
            found.met += 1
            keep = found.met >= found.wanted
        if not keep:
            return pack(*given)
        copy = w.copy()
        packed = pack(*given)
        size = copy.nbytes + _bytes(packed)
        if any(np.may_share_memory(part, w) for part in _arrays(packed)):
            found.wanted = math.inf  # read where it lies: there is nothing to keep
            return packed
        # another thread may have written to w between the two
        if not core.same_bytes(w, copy):
            return packed
        with self._lock:
            if found.kept is None and self._weights.get(key) is found and self._make_room(size):
                found.bytes, found.used, found.met = size, self._calls, 0
                found.kept = copy, packed
                self._bytes += size
            else:
                found.met, found.wanted = 0, 2 * found.wanted
        return packed

    def _make_room(self, size: int) -> bool:
        if size > MOST_BYTES:
            return False
        for key, weights in list(self._weights.items()):
            if self._bytes + size <= MOST_BYTES:
                break
            if weights.kept is not None and self._calls - weights.used > STALE:
                self._drop(key)
        return self._bytes + size <= MOST_BYTES

    def _drop(self, key: tuple[Hashable, int]) -> None:
        self._empty(self._weights.pop(key))

    def _empty(self, weights: _Weights) -> None:
        self._bytes -= weights.bytes
        weights.kept = None
        weights.bytes = weights.met = 0


def _arrays(packed: Any) -> Iterator[Array]:
    """The arrays in a solver's packed weights."""
    if isinstance(packed, np.ndarray):
        yield packed
    elif dataclasses.is_dataclass(packed):
        for part in vars(packed).values():
            yield from _arrays(part)
    elif isinstance(packed, tuple | list):
        for part in packed:
            yield from _arrays(part)


def _bytes(packed: Any) -> int:
    return sum(part.nbytes for part in _arrays(packed))
