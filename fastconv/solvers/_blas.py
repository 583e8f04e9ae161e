"""BLAS as a kernel: called by threads of ours, with none of its own."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

_lock = threading.Lock()
_calls = 0
_before: list[tuple[Any, int]] = []


@functools.cache
def _libraries() -> list[Any]:
    """The BLAS libraries of this process whose threads can be set."""
    import threadpoolctl

    return list(threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers)


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Let BLAS use one thread inside the block; what was set before comes back after it.

    The setting is the process's: of blocks that overlap, the last to end restores it.
    """
    global _calls, _before
    with _lock:
        if not _calls:
            _before = [(b, n) for b in _libraries() if (n := b.get_num_threads()) != 1]
            for library, _ in _before:
                library.set_num_threads(1)
        _calls += 1
    try:
        yield
    finally:
        with _lock:
            _calls -= 1
            if not _calls:
                for library, threads in _before:
                    library.set_num_threads(threads)
