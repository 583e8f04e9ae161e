"""Image filters, and beside SciPy and OpenCV."""

from __future__ import annotations

from . import common, shapes


class Image(common.Timed):
    params = (list(shapes.IMAGE.values()),)
    param_names = ("filter",)

    def setup(self, text: str) -> None:
        self.prepare(text)

    def time_call(self, text: str) -> None:
        self.call()


class Ratio(common.Against):
    params = (list(shapes.IMAGE.values()), ["ndimage", "opencv"])
    param_names = ("filter", "peer")

    def track_time_ratio(self, text: str, peer: str) -> float:
        return self.ratio(text, peer)
