"""Image filters: plain calls by every method, and plans."""

from __future__ import annotations

from . import common, shapes

THREADS = [1, 2]


class Image(common.Timed):
    params = (list(shapes.IMAGE.values()), shapes.METHODS, THREADS)
    param_names = ("filter", "method", "threads")

    def setup(self, text: str, method: str, threads: int) -> None:
        self.prepare(text, method, threads)

    def time_call(self, text: str, method: str, threads: int) -> None:
        self.call()


class Prepared(common.Timed):
    params = (list(shapes.IMAGE.values()), THREADS)
    param_names = ("filter", "threads")

    def setup(self, text: str, threads: int) -> None:
        self.prepare_plan(text, threads)

    def time_call(self, text: str, threads: int) -> None:
        self.call()
