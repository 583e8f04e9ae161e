"""Signals: plain calls by every method, and plans."""

from __future__ import annotations

from . import common, shapes

THREADS = [1, 2]


class Signal(common.Timed):
    params = (list(shapes.SIGNAL.values()), shapes.METHODS, THREADS)
    param_names = ("signal", "method", "threads")

    def setup(self, text: str, method: str, threads: int) -> None:
        self.prepare(text, method, threads)

    def time_call(self, text: str, method: str, threads: int) -> None:
        self.call()


class Prepared(common.Timed):
    params = (list(shapes.SIGNAL.values()), THREADS)
    param_names = ("signal", "threads")

    def setup(self, text: str, threads: int) -> None:
        self.prepare_plan(text, threads)

    def time_call(self, text: str, threads: int) -> None:
        self.call()
