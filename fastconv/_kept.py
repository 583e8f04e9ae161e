"""Packed weights of plain calls that repeat: packed again only when the weights have changed.

A plain call packs its weights each time, which for transforms of large kernels takes longer than
the convolution. So when calls of one kind come with the same array again, its packed form is kept
beside a copy of the weights, and used as long as the two are equal byte for byte: comparing costs
a read of both, a twentieth of a 3x3 layer of 256 channels on 14x14. What a call returns never
depends on what is kept, only when it returns.

Where there is no room, an array that waits for it takes the places of those that no call brought
since it was met `ROUNDS` times. Layers of a network that is larger than the room are met in turn,
so each is used between two meetings of another, and none is put out; those of a network that is run
no more make way for one that is, after as many runs of it, however many layers either has.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

from fastconv import _machine
from fastconv._ext import core
from fastconv._problem import Array

#: Copies and packed weights of all calls together are a share of memory within bounds: the 3x3
#: layers of a ResNet-50, as Winograd has them, are 164 MB with their copies, those of a VGG-16 294.
#: Of little memory they are a quarter at most, as `default_workspace_limit` is of what is free.
LEAST_BYTES, MOST_BYTES, SHARE, OF_LITTLE = 256 << 20, 1 << 30, 16, 4

#: Times that an array is met before others, unused since, make way for it. Two would keep networks
#: that are run in turn from putting each other out; more spare one that is run now and then.
ROUNDS = 8

#: Arrays remembered for having been met, whether their weights are kept or not.
MOST_ARRAYS = 4096


class _Weights:
    """One array that calls of one kind were given."""

    __slots__ = ("bytes", "kept", "met", "since", "used", "wanted")

    def __init__(self) -> None:
        self.met = 0  # calls in a row with nothing kept
        self.since = 0  # when the first of these was, in calls of all kinds
        # of these before a copy is made; doubles each time that one was in vain
        self.wanted: float = 2
        self.used = 0  # when what is kept was last used, likewise
        self.bytes = 0
        # copy and packed form in one: another thread may take them away while they are looked at
        self.kept: tuple[Array, Any] | None = None


@functools.cache
def limit() -> int:
    """Bytes that may be kept; asked once, as memory is not added to a process that runs."""
    memory = _machine.memory()
    return min(MOST_BYTES, max(LEAST_BYTES, memory // SHARE), memory // OF_LITTLE)


class Kept:
    """The packed weights of all calls, within `limit()`."""

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
        self, kind: Hashable, w: Array, threads: int, pack: Callable[..., Any], *given: Any,
        fixed: bool = False,
    ) -> Any:  # fmt: skip
        """`pack(*given)`, or what it returned for equal weights.

        `kind` stands for all that packing depends on but the values of `w`, a C-ordered array,
        which up to `threads` threads compare; not where it is `fixed`, as a plan's weights are.
        """
        key = (kind, core.address(w))
        found = self._weights.get(key)
        kept = None if found is None else found.kept
        if (
            found is not None
            and kept is not None
            and (fixed or core.same_bytes(w, kept[0], threads))
        ):
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
            if not found.met:
                found.since = self._calls
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
            if found.kept is None and self._weights.get(key) is found and self._room(size, found):
                found.bytes, found.used, found.met = size, self._calls, 0
                found.kept = copy, packed
                self._bytes += size
            else:
                found.met, found.wanted = 0, max(ROUNDS, 2 * found.wanted)
        return packed

    def _room(self, size: int, waiting: _Weights) -> bool:
        """Whether there is room for what was met in a row, made at the cost of what was not."""
        missing = self._bytes + size - limit()
        if missing > 0 and waiting.met >= ROUNDS:
            unused = [
                (weights.used, key, weights.bytes)
                for key, weights in self._weights.items()
                if weights.kept is not None and weights.used < waiting.since
            ]
            if sum(bytes for *_, bytes in unused) >= missing:
                for _, key, bytes in sorted(unused, key=lambda each: each[0]):
                    if missing <= 0:
                        break
                    self._drop(key)
                    missing -= bytes
        return missing <= 0

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
