"""Packed weights that plain calls keep: never stale, never more memory than allowed."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import _kept, _shortcut
from fastconv._kept import Kept

RNG = np.random.default_rng(3)


class Packer:
    """Packs by copying, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, w: Any) -> tuple[str, Any]:
        self.count += 1
        return "packed", w.copy()


def test_the_third_call_is_the_last_that_packs() -> None:
    kept, pack, w = Kept(), Packer(), np.arange(99.0)
    for _ in range(6):
        _, packed = kept.packed("kind", w, 2, pack, w)
        np.testing.assert_array_equal(packed, w)
    assert pack.count == 2


def test_kinds_and_arrays_are_kept_apart() -> None:
    kept, pack = Kept(), Packer()
    pairs = [(kind, np.full(9, 10 * i)) for i, kind in enumerate("abab")]
    for _ in range(4):
        for kind, w in pairs:
            np.testing.assert_array_equal(kept.packed(kind, w, 2, pack, w)[1], w)
    assert pack.count == 2 * len(pairs)


@given(changes=st.lists(st.booleans(), max_size=40))
def test_changed_weights_are_never_answered_with_old_ones(changes: list[bool]) -> None:
    kept, pack, w = Kept(), Packer(), np.zeros(7)
    for i, change in enumerate(changes):
        w[i % 7] += change
        np.testing.assert_array_equal(kept.packed("kind", w, 2, pack, w)[1], w)


def test_weights_that_change_all_the_time_are_soon_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, pack, w = Kept(), Packer(), np.zeros(9)
    compared = []
    same = _kept.core.same_bytes
    monkeypatch.setattr(_kept.core, "same_bytes", lambda *a: compared.append(0) or same(*a))
    for _ in range(4000):
        w += 1
        kept.packed("kind", w, 2, pack, w)
    assert len(compared) < 40


def test_not_a_number_and_signed_zeros_are_bytes_like_others() -> None:
    kept, pack = Kept(), Packer()
    w = np.array([np.nan, 0.0])
    for _ in range(4):
        kept.packed("kind", w, 2, pack, w)
    assert pack.count == 2
    w[1] = -0.0
    assert np.signbit(kept.packed("kind", w, 2, pack, w)[1][1])


class Network:
    """So many layers, each called once a run, of 2 KB with their copies."""

    def __init__(self, kept: Kept, layers: int) -> None:
        self._kept = kept
        self._weights = [np.full(125, i, float) for i in range(layers)]

    def run(self, times: int = 1) -> int:
        """How many layers were packed in the last run."""
        for _ in range(times):
            pack = Packer()
            for w in self._weights:
                packed = self._kept.packed("kind", w, 2, pack, w)[1]
                np.testing.assert_array_equal(packed, w)
                assert self._kept._bytes <= _kept.limit()
        return pack.count


@pytest.fixture
def room_for_five(monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(_kept, "limit", lambda: 10_000)
    return Kept()


@pytest.mark.parametrize("layers", [6, 20, 300])
def test_a_network_larger_than_the_room_keeps_what_fits(room_for_five: Kept, layers: int) -> None:
    network = Network(room_for_five, layers)
    for _ in range(20):  # in no run is one layer put out by another
        packed = network.run(3)
        assert packed == layers - 5


def test_what_is_run_no_more_makes_way(room_for_five: Kept) -> None:
    """Few calls or many layers ago."""
    old, new, large = (Network(room_for_five, layers) for layers in (5, 5, 200))
    assert old.run(3) == 0
    assert new.run(_kept.ROUNDS + 2) == 5
    assert new.run() == 0
    assert large.run(_kept.ROUNDS + 3) == 195
    assert new.run(_kept.ROUNDS + 3) == 0


def test_networks_run_in_turn_do_not_put_each_other_out(room_for_five: Kept) -> None:
    often, seldom = Network(room_for_five, 5), Network(room_for_five, 2)
    assert often.run(3) == 0
    for _ in range(100):
        assert (often.run(2), seldom.run()) == (0, 2)
    for _ in range(30):
        assert seldom.run(_kept.ROUNDS - 2) == 2  # a few times in a row
        assert often.run() == 0


def test_nothing_makes_way_in_vain(room_for_five: Kept) -> None:
    """What is used stays; where the rest is too little, that stays, too."""
    seldom, often = Network(room_for_five, 1), Network(room_for_five, 4)
    assert (seldom.run(3), often.run(3)) == (0, 0)
    kept, pack, large = room_for_five, Packer(), np.zeros(300)
    for _ in range(3 * _kept.ROUNDS):
        often.run()
        kept.packed("kind", large, 2, pack, large)
    assert pack.count == 3 * _kept.ROUNDS
    assert (seldom.run(), often.run()) == (0, 0)


@pytest.mark.parametrize(
    ("memory", "limit"), [(300, 75), (2048, 256), (6144, 384), (24576, 1024), (10**6, 1024)]
)
def test_the_room_is_a_share_of_memory(
    monkeypatch: pytest.MonkeyPatch, memory: int, limit: int
) -> None:
    monkeypatch.setattr(_kept._machine, "memory", lambda: memory << 20)
    assert _kept.limit.__wrapped__() == limit << 20


def test_nothing_larger_than_all_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept, "limit", lambda: 100)
    kept, pack, w = Kept(), Packer(), np.zeros(99)
    for _ in range(30):
        kept.packed("kind", w, 2, pack, w)
    assert (pack.count, kept._bytes) == (30, 0)


def test_weights_that_are_read_where_they_lie_are_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gradients of depthwise weights, 96 @ 28: 0.25 ms a call instead of 0.35."""
    kept, w = Kept(), np.arange(99.0)
    compared = []
    same = _kept.core.same_bytes
    monkeypatch.setattr(_kept.core, "same_bytes", lambda *a: compared.append(0) or same(*a))
    for i in range(20):
        w[0] = i
        _, packed = kept.packed("kind", w, 2, lambda a: ("call", a[::2]), w)
        assert packed[0] == i and np.shares_memory(packed, w)
    assert not compared and kept._bytes == 0


def test_arrays_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept, "MOST_ARRAYS", 8)
    kept, pack = Kept(), Packer()
    arrays = [np.full(5, i) for i in range(30)]
    for w in arrays * 3:
        np.testing.assert_array_equal(kept.packed("kind", w, 2, pack, w)[1], w)
        assert len(kept._weights) <= 8
    kept.clear()
    assert (len(kept._weights), kept._bytes) == (0, 0)


def test_spectra_and_lists_of_phases_are_counted() -> None:
    x, w = RNG.standard_normal(5000), RNG.standard_normal(3000)
    plan = fastconv.plan(fastconv.convolve, x, w, method="fft")
    (step,) = plan._steps
    assert _kept._bytes(step.packed) >= w.nbytes
    assert _kept._bytes([("call", np.zeros(3)), [np.zeros(2)]]) == 40


@pytest.mark.usefixtures("fresh_plans")
def test_a_plain_call_sees_weights_written_in_place() -> None:
    x = RNG.standard_normal((1, 8, 12, 13)).astype("f4")
    w = RNG.standard_normal((16, 8, 3, 3)).astype("f4")
    first = fastconv.conv2d(x, w)
    for _ in range(5):
        np.testing.assert_array_equal(fastconv.conv2d(x, w), first)
    assert _shortcut.kept._bytes > 0
    for _ in range(5):
        w *= 2
        first = first * 2  # exactly, whatever the method
        np.testing.assert_array_equal(fastconv.conv2d(x, w), first)


@pytest.mark.usefixtures("fresh_plans")
def test_a_filter_whose_values_are_looked_at_is_kept_and_seen_when_it_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether it is a sum of outer products chooses the method: looked at again when it changed."""
    looked: list[int] = []
    look = _kept.core.low_rank
    monkeypatch.setattr(_kept.core, "low_rank", lambda *a: looked.append(0) or look(*a))
    x, w = RNG.standard_normal((200, 220)), RNG.standard_normal((33, 41))
    for _ in range(5):
        y = fastconv.signal.convolve(x, w, mode="valid")
        assert 1 <= len(looked) <= 2
    whole = fastconv.signal.convolve(x, w, mode="valid", method="direct")
    np.testing.assert_allclose(y, whole, rtol=0, atol=1e-9)
    w[:] = np.outer(w[:, 0], w[0])
    y = fastconv.signal.convolve(x, w, mode="valid")
    whole = fastconv.signal.convolve(x, w, mode="valid", method="direct")
    np.testing.assert_allclose(y, whole, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("fresh_plans")
def test_threads_that_share_weights() -> None:
    x = RNG.standard_normal((1, 8, 12, 13)).astype("f4")
    w = RNG.standard_normal((16, 8, 3, 3)).astype("f4")
    expected = fastconv.conv2d(x, w)
    wrong = []

    def work() -> None:
        for _ in range(50):
            if not (fastconv.conv2d(x, w) == expected).all():
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_single_byte_tells_weights_apart(threads: int) -> None:
    """Wherever it is, in arrays that threads compare in pieces of 128 KB."""
    for size in (1, 4095, 4096, 131071, 131072, 131073, 5 * 131072, 1_400_001):
        a = np.arange(size, dtype=np.uint64).astype(np.uint8)
        b = a.copy()
        assert _kept.core.same_bytes(a, b, threads)
        for at in {0, size // 2, 131071, 131072, size - 1}:
            if at < size:
                b[at] ^= 1
                assert not _kept.core.same_bytes(a, b, threads)
                b[at] ^= 1
    assert _kept.core.same_bytes(a, b, threads)


def test_weights_taken_away_while_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread does to make room costs this call nothing but time."""
    kept, pack, w = Kept(), Packer(), np.arange(9.0)
    for _ in range(3):
        kept.packed("kind", w, 2, pack, w)
    same = _kept.core.same_bytes

    def interrupted(a: Any, b: Any, threads: int) -> bool:
        for key in list(kept._weights):
            kept._drop(key)
        return same(a, b, threads)

    monkeypatch.setattr(_kept.core, "same_bytes", interrupted)
    np.testing.assert_array_equal(kept.packed("kind", w, 2, pack, w)[1], w)
    assert kept._bytes == 0
