"""Signals: every method, and beside SciPy and NumPy."""

from __future__ import annotations

from . import common, shapes

METHODS = ["auto", "direct", "im2col", "fft", "overlap_save"]

#: 1e11 products and more: minutes for a method that makes them all.
LONG = {
    shapes.SIGNAL[name]
    for name in ("reverb.60s48k.2s.f4", "equal.1e6x1e6.f8", "template.1080p.201x301.f4")
}


class Signal(common.Timed):
    params = (list(shapes.SIGNAL.values()), METHODS)
    param_names = ("signal", "method")

    def setup(self, text: str, method: str) -> None:
        if text in LONG and method in ("direct", "im2col"):
            raise NotImplementedError("takes minutes")
        if text.startswith("oaconvolve") and method != "auto":
            raise NotImplementedError("the function names its own method")
        self.prepare(text, method)

    def time_call(self, text: str, method: str) -> None:
        self.call()


class Ratio(common.Against):
    params = (list(shapes.SIGNAL.values()), ["convolve", "fftconvolve", "oaconvolve", "numpy"])
    param_names = ("signal", "peer")

    def track_time_ratio(self, text: str, peer: str) -> float:
        return self.ratio(text, peer)
