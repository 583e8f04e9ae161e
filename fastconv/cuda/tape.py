"""`Tape`: what a call did on a GPU, to be done again: new arrays, and launches into them.

Nothing on the host depends on values that lie on a GPU. So two calls that `core.Recent` cannot tell
apart (types, shapes, strides, dtypes, devices, alignment, which of the arrays are one, and all that
is no array) launch the same kernels with the same parameters, but for the pointers. The first of
them is watched by `launch.noted`, whatever solvers and however many steps it took; a `Tape` then
goes from the arrays' addresses to the driver. What a plan's call makes beside its result is the
plan's, for each stream (`workspace.py`); that of other calls is made anew.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv._ext import core
from fastconv.cuda import interop, launch
from fastconv.cuda.workspace import Workspace, Workspaces


class Tape:
    """A call's launches; called with the (array, address) pairs that `core.Recent` finds."""

    __slots__ = ("_address_of", "_addresses", "_given", "_kept", "_launches", "_make", "_ordinal",
                 "_result", "_stream", "_workspaces")  # fmt: skip

    def __init__(
        self, notes: launch.Notes, given: Sequence[tuple[Any, int]], result: Any,
        workspaces: Workspaces | None,
    ) -> None:  # fmt: skip
        """LookupError where the call cannot be told again from its arrays' addresses.

        Where it is a plan's, which has `workspaces`, other addresses than those of arrays are of
        memory that stays as it is: the packed weights.
        """
        arrays = [interop.wrapped(a) for a, _ in given]
        made = [*notes.made, *notes.kept]
        streams = {stream for _, _, stream, _ in notes.launches} | {a.stream for a in arrays}
        ordinals = {a.ordinal for a in (*arrays, *made)}
        libraries = {interop.library(a) for a, _ in given}
        _need(not notes.others)
        _need(len(streams) == len(ordinals) == len(libraries) == 1 and bool(notes.launches))
        _need(all(a.size for a in (*arrays, *made)))
        spans = [interop.span(a) for a in (*arrays, *made)]
        first = [next(i for i, other in enumerate(arrays) if other.pointer == a.pointer)
                 for a in arrays]  # fmt: skip
        # of an array that is given twice, addresses are into its first mention
        own = [i for i in range(len(spans)) if i >= len(arrays) or first[i] == i]
        ends = sorted(spans[i] for i in own)
        _need(all(end <= begin for (_, end), (begin, _) in itertools.pairwise(ends)))

        def place(pointer: int) -> tuple[int, int]:
            for i in own:
                if spans[i][0] <= pointer < spans[i][1]:
                    return i, pointer - (arrays[i] if i < len(arrays) else made[i - len(arrays)]
                                         ).pointer  # fmt: skip
            _need(workspaces is not None or pointer == 0)
            return -1, 0

        steps = [
            (_handle(one, ordinal), one.grid, one.kernel.threads, one.kernel.shared_bytes,
             one.parameters(*pointers), [place(p) for p in pointers])
            for one, ordinal, _, pointers in notes.launches
        ]  # fmt: skip
        (ordinal,) = ordinals
        reach = [(i, spans[i][0] - arrays[i].pointer, spans[i][1] - arrays[i].pointer)
                 for i in own if i < len(arrays)]  # fmt: skip
        self._launches = core.Launches(launch.driver().entries(ordinal), reach, steps)
        self._stream, self._address_of = interop.stream_of(arrays[0]), interop.address_of(result)
        self._given = len(arrays)
        seen = interop.wrapped(result)
        at, offset = place(seen.pointer)
        _need(0 <= at < len(arrays) + len(notes.made) and offset == 0)
        if at < len(arrays):
            _need(result is given[at][0])
        self._result = at
        shapes = [seen.shape if len(arrays) + i == at else a.shape
                  for i, a in enumerate(notes.made)]  # fmt: skip
        self._make = [interop.maker(given[0][0], s, a.dtype) for s, a in zip(shapes, notes.made)]
        self._workspaces, self._ordinal = workspaces, ordinal
        self._kept = [(a.shape, a.dtype) for a in notes.kept]
        self._addresses: dict[Workspace, list[int]] = {}

    def __call__(self, given: list[tuple[Any, int]]) -> Any:
        """The result; None where arrays of this call lie in one another, unlike the first's."""
        addresses = [address for _, address in given]
        if not self._launches.lie_apart(addresses):
            return None
        beside = given[0][0]
        made = []  # which lives until what reads it has been started
        for make in self._make:
            made.append(make(beside))
            addresses.append(self._address_of(made[-1]))
        stream = self._stream()
        if self._kept:
            assert self._workspaces is not None
            keep = self._workspaces.on(self._ordinal, stream)
            with keep.lock:
                addresses += self._addresses.get(keep) or self._first(keep, beside)
                status = self._launches(stream, addresses)
        else:
            status = self._launches(stream, addresses)
        if status:
            raise launch.driver().error(status)
        at = self._result
        return given[at][0] if at < self._given else made[at - self._given]

    def _first(self, keep: Workspace, beside: Any) -> list[int]:
        """Addresses of what the plan keeps on a stream, made if it was not called there."""
        like = interop.wrapped(beside)
        arrays = keep.together(self._kept, lambda kind: like.aside(*kind))
        found = self._addresses[keep] = [a.pointer for a in arrays]
        return found


def _need(ok: bool) -> None:
    if not ok:
        raise LookupError


def _handle(one: launch.Launch, ordinal: int) -> int:
    return launch.driver().number(launch.handle_of(one.kernel, ordinal))


def _nothing(given: Any) -> None:
    """What a call that has no `Tape` is done by: the long way."""


def on_gpu(args: Sequence[Any], options: dict[str, Any]) -> bool:
    """Whether any array of a call is on a GPU."""
    return any(map(interop.is_foreign, args)) or any(map(interop.is_foreign, options.values()))


def watch(
    function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any],
    workspaces: Workspaces | None, recent: core.Recent, owner: Any, mode: str | None,
) -> Any:  # fmt: skip
    """`function(*args, **options)`, done by a tape from now on where that can be; of a plan, with
    its `workspaces`."""
    if launch.noted.get() is not None:  # a part of a call that is being watched
        return function(*args, **options)
    notes = launch.Notes()
    token = launch.noted.set(notes)
    try:
        result = function(*args, **options)
    finally:
        launch.noted.reset(token)
    given = recent.arrays(args, options)
    act: Callable[[list[Any]], Any] = _nothing
    if given and not any(isinstance(one, np.ndarray) for one in given):
        with contextlib.suppress(LookupError):
            act = Tape(notes, given, result, workspaces)
    recent.keep(owner, mode, args, options, act)
    return result
