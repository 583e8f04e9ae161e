"""Memory that a prepared plan works in: kept from one call to the next, for each stream.

Kernels of one stream run one after the other, so the calls of a plan on it work in the same memory;
those on two streams have memory of their own. What was taken once stays where it is as long as the
plan lives, so that a warm call allocates nothing and a CUDA graph of it stays right.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

#: Shape and dtype.
Kind = tuple[tuple[int, ...], np.dtype[Any]]

#: CU_STREAM_PER_THREAD: one number for a stream of each thread.
_PER_THREAD = 2


class Workspace:
    """Of one stream. One call at a time is in it, so that its launches follow each other there."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._idle: dict[Kind, list[Any]] = {}
        self._taken: list[Any] = []

    def __enter__(self) -> Workspace:
        self.lock.acquire()
        self._token = current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        current.reset(self._token)
        for a in list(self._taken):
            self.give(a)
        self.lock.release()

    def take(self, kind: Kind, make: Callable[[], Any]) -> Any:
        """An array that nobody in this call has, made where there is none."""
        idle = self._idle.setdefault(kind, [])
        found = idle.pop() if idle else make()
        self._taken.append(found)
        return found

    def give(self, a: Any) -> None:
        """What comes next on the stream may have the array."""
        at = next(i for i, one in enumerate(self._taken) if one is a)
        self._idle[a.shape, a.dtype].append(self._taken.pop(at))

    def together(self, kinds: Sequence[Kind], make: Callable[[Kind], Any]) -> list[Any]:
        """Arrays for a call that needs all of them; its caller holds the lock."""
        found = [self.take(kind, lambda kind=kind: make(kind)) for kind in kinds]  # type: ignore[misc]
        for a in found:
            self.give(a)
        return found


#: That of the plan that is being called.
current: contextvars.ContextVar[Workspace | None] = contextvars.ContextVar(
    "fastconv workspace", default=None
)


class Workspaces:
    """A plan's workspaces."""

    def __init__(self) -> None:
        self._of: dict[Any, Workspace] = {}

    def on(self, ordinal: int, stream: int) -> Workspace:
        """That of a stream of a device."""
        key = ordinal, stream, threading.get_ident() if stream == _PER_THREAD else 0
        found = self._of.get(key)
        return found if found is not None else self._of.setdefault(key, Workspace())
