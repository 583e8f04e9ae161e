"""Results in the memory that earlier ones have left: never in anybody's who is still there."""

from __future__ import annotations

import os
import random
import threading
from typing import Any

import numpy as np
import pytest
from numpy._core.multiarray import get_handler_name

import fastconv
from fastconv import _engine
from fastconv._ext import core

BYTE = np.dtype(np.uint8)
MOST = 64 << 20


def address(a: Any) -> int:
    return int(a.__array_interface__["data"][0])


def test_a_result_is_where_one_was_that_is_gone() -> None:
    a = core.empty((3, 70_000), np.dtype("f4"))
    assert (a.shape, a.dtype, a.flags.c_contiguous, a.flags.owndata) == (
        (3, 70_000), np.dtype("f4"), True, True,
    )  # fmt: skip
    where = address(a)
    assert where % 64 == 0
    del a
    assert core.kept_bytes() >= 840_000
    b, c = core.empty((210_000,), np.dtype("f4")), core.empty((210_000,), np.dtype("f4"))
    assert address(b) == where != address(c)


def test_small_arrays_and_those_of_others_are_numpys() -> None:
    assert get_handler_name(core.empty((100,), BYTE)) == "default_allocator"
    assert get_handler_name(core.empty((1 << 20,), BYTE)) == "fastconv"
    assert get_handler_name(np.empty(1 << 20, BYTE)) == "default_allocator"
    with pytest.raises(MemoryError):
        core.empty((1 << 60,), BYTE)
    assert get_handler_name(np.empty(1 << 20, BYTE)) == "default_allocator"


def test_what_is_kept_is_bounded() -> None:
    core.drop_kept()
    sizes = [1 << 20, (3 << 20) + 1, 5 << 20, 17 << 20, 40 << 20, 63 << 20]
    for i in range(60):
        core.empty((sizes[i * 7 % len(sizes)] + i,), BYTE)
        assert core.kept_bytes() <= MOST
    several = [core.empty((200_000 + i,), BYTE) for i in range(100)]
    del several
    assert 0 < core.kept_bytes() <= MOST
    before = core.kept_bytes()
    core.empty((MOST + 1,), BYTE)  # larger than all: goes at once
    assert core.kept_bytes() == before
    _engine.forget_plans()
    assert core.kept_bytes() == 0


def test_arrays_that_are_there_share_nothing() -> None:
    """A random walk of arrays that come and go, some of them resized, each full of its number."""
    rng = random.Random(5)
    sizes = [131_072, 131_073, 200_000, 1_000_000]
    alive: dict[int, Any] = {}
    for number in range(600):
        if alive and rng.random() < 0.5:
            gone = rng.choice([*alive])
            assert (alive.pop(gone) == gone % 251).all()
            continue
        a = core.empty((rng.choice(sizes),), BYTE)
        a[:] = number % 251
        if rng.random() < 0.2:
            before = len(a)
            a.resize(rng.choice(sizes), refcheck=False)
            assert (a[:before] == number % 251).all()
            a[:] = number % 251
        alive[number] = a
    for number, a in alive.items():
        assert (a == number % 251).all()


def test_threads_take_and_give() -> None:
    wrong = []

    def work(number: int) -> None:
        for _ in range(300):
            a = core.empty((150_000,), BYTE)
            a[::1000] = number
            if (a[::1000] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads, from 3.12 on
def test_a_child_has_its_own() -> None:
    a = core.empty((1 << 20,), BYTE)
    a[:] = 7
    del a
    child = os.fork()
    if child == 0:
        b = core.empty((1 << 20,), BYTE)
        b[:] = 9
        os._exit(int((b != 9).any()))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.usefixtures("fresh_plans")
def test_a_result_that_somebody_has_is_not_written_to() -> None:
    rng = np.random.default_rng(2)
    w = rng.standard_normal((16, 3, 3, 3)).astype("f4")
    kept = []
    for i in range(6):
        x = rng.standard_normal((1, 3, 64, 64)).astype("f4")
        y = fastconv.conv2d(x, w, padding=1)
        view = y[0, 3:5]  # holds y's memory
        kept.append((view, view.copy()))
        if i % 2:
            fastconv.conv2d(x, w, padding=1)
    for view, copy in kept:
        np.testing.assert_array_equal(view, copy)
