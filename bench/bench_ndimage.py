"""Image filters: plain calls by every method, and plans."""

from __future__ import annotations

from typing import Any

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


class DifferenceOfGaussians:
    """A 15 x 15 kernel of rank 2 on a 1080p image, beside OpenCV and SciPy; one thread."""

    params = ("fastconv", "dense", "opencv", "scipy")
    param_names = ("library",)

    def setup(self, library: str) -> None:
        import numpy as np

        u = np.arange(15) - 7.0

        def gaussian(sigma: float) -> Any:
            g = np.exp(-0.5 * (u / sigma) ** 2)
            return np.outer(g, g) / g.sum() ** 2

        w = (gaussian(1.5) - gaussian(2.5)).astype("f4")
        x = np.random.default_rng(0).standard_normal((1080, 1920)).astype("f4")
        y = np.empty_like(x)
        if library == "opencv":
            try:
                import cv2
            except ImportError as error:
                raise NotImplementedError(str(error)) from None
            cv2.setNumThreads(1)
            self.call = lambda: cv2.filter2D(x, -1, w, y, borderType=cv2.BORDER_REFLECT)
            return
        if library == "scipy":
            import scipy.ndimage

            self.call = lambda: scipy.ndimage.correlate(x, w, y)
            return
        import fastconv

        methods = {"fastconv": "auto", "dense": ("depthwise", "overlap_save")}
        plan = fastconv.plan(fastconv.ndimage.correlate, x, w, threads=1, method=methods[library])
        self.call = lambda: plan(x, out=y)

    def time_call(self, library: str) -> None:
        self.call()
