"""fastconv beside SciPy, NumPy, PyTorch and OpenCV: the same work, in one process, interleaved.

``python -m bench.peers`` prints a table; arguments are substrings of the names in shapes.py.
Ratios are time(fastconv) / time(peer): below 1 fastconv is faster. Results are compared first, as
a ratio to something else computed is worth nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from . import shapes

Work = Callable[[], Any]

#: Seconds that one comparison may take, about; most take far less.
BUDGET = 10.0


def ours(c: shapes.Case, method: str = "auto") -> Work:
    """A call of fastconv as its user would write it, on operands made beforehand."""
    import fastconv
    from fastconv import ndimage, nn, signal

    x, w = shapes.arrays(c)
    options = dict(c.options)
    if method != "auto":
        options["method"] = method
    if c.text in {*shapes.IMAGE.values(), shapes.TINY["correlate.image"]}:
        function = getattr(ndimage, c.function)
        return lambda: function(x, *([] if w is None else [w]), **options)
    if not c.function.startswith("conv"):
        function = getattr(signal, c.function)
        return lambda: function(x, w, **options)
    if c.function == "convolve":
        return lambda: fastconv.convolve(x, w, **options)
    function = getattr(nn, c.function)
    if c.function.endswith("_input"):
        return lambda: function(c.size, w, x, **options)
    if c.function.endswith("_weight"):
        return lambda: function(x, c.size, w, **options)
    return lambda: function(x, w, **options)


def peers(c: shapes.Case) -> dict[str, Work]:
    """The same call of every installed peer that has it, by the peer's name."""
    makers = {"scipy": _scipy, "numpy": _numpy, "torch": _torch, "cv2": _cv2}
    found = {n: make(c) for n, make in makers.items() if importlib.util.find_spec(n) is not None}
    return {n: work for n, work in found.items() if work is not None}


def is_layer(c: shapes.Case) -> bool:
    return c.text in shapes.NN.values()


def is_image(c: shapes.Case) -> bool:
    return c.text in shapes.IMAGE.values()


def _scipy(c: shapes.Case) -> Work | None:
    if is_layer(c):
        return None
    import scipy.ndimage
    import scipy.signal

    x, w = shapes.arrays(c)
    function = getattr(scipy.ndimage if is_image(c) else scipy.signal, c.function)
    return lambda: function(x, *([] if w is None else [w]), **c.options)


def _numpy(c: shapes.Case) -> Work | None:
    # its one method is the direct one, hopeless for long kernels
    if c.function != "convolve" or len(c.x_shape) != 1 or (c.w_shape or (0,))[0] > 10_000:
        return None
    x, w = shapes.arrays(c)
    return lambda: np.convolve(x, w)


def _torch(c: shapes.Case) -> Work | None:
    if not is_layer(c):
        return None
    import torch
    from torch.nn import functional, grad

    from fastconv._machine import usable_cores

    torch.set_num_threads(usable_cores())  # torch does not see a container's quota
    x, w = map(torch.from_numpy, shapes.arrays(c))
    function = getattr(functional, c.function, None) or getattr(grad, c.function)

    def work() -> Any:
        with torch.inference_mode():
            if c.function.endswith("_input"):
                return function(c.size, w, x, **c.options).numpy()
            if c.function.endswith("_weight"):
                return function(x, c.size, w, **c.options).numpy()
            return function(x, w, **c.options).numpy()

    return work


def _cv2(c: shapes.Case) -> Work | None:
    if not is_image(c) or (len(c.x_shape) == 3 and c.x_shape[-1] > 4):
        return None
    import cv2

    x, w = shapes.arrays(c)
    border = cv2.BORDER_REFLECT  # scipy.ndimage's "reflect"
    if c.function == "correlate":
        depth = cv2.CV_32F
        return lambda: cv2.filter2D(x, depth, np.asarray(w, "f4"), borderType=border)
    if c.function == "gaussian_filter":
        sigma = c.options["sigma"][0]
        taps = 2 * int(4 * sigma + 0.5) + 1
        return lambda: cv2.GaussianBlur(x, (taps, taps), sigma, borderType=border)
    if c.function == "uniform_filter":
        size = c.options["size"]
        return lambda: cv2.blur(x, (size, size), borderType=border)
    if c.function == "sobel":
        return lambda: cv2.Sobel(x, cv2.CV_32F, 1, 0, ksize=3, borderType=border)
    return None


def agree(mine: Any, theirs: Any) -> bool:
    """Whether two results are the same work: equal within float32's reach, or within 2 if whole.

    Two because SciPy truncates after each axis of a separable filter where OpenCV rounds.
    """
    if mine.shape != theirs.shape:
        return False
    wide = np.result_type(mine, theirs, np.float64)  # differences of unsigned integers wrap
    theirs = theirs.astype(wide)
    allowed = 2.0 if mine.dtype.kind in "iu" else 1e-3 * np.abs(theirs).max(initial=0.0)
    return bool((np.abs(mine.astype(wide) - theirs) <= allowed).all())


def ratios(
    c: shapes.Case, only: str = "", budget: float = BUDGET
) -> dict[str, tuple[float, float]]:
    """(seconds of fastconv, seconds of the peer) by the peer's name, timed interleaved.

    A peer that computes something else is left out, with a line on stderr.
    """
    from fastconv._timer import compare

    works = {n: w for n, w in peers(c).items() if only in ("", n)}
    mine = ours(c)
    result = mine() if works else None
    same = {n: w for n, w in works.items() if agree(result, w())}
    for name in works.keys() - same.keys():
        print(f"{c.text}: {name} computes something else", file=sys.stderr)
    if not same:
        return {}
    timings = compare([mine, *same.values()], budget=budget)
    return {n: (timings[0].seconds, t.seconds) for n, t in zip(same, timings[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("names", nargs="*", help="substrings of case names; all when none is given")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds a case")
    arguments = parser.parse_args()
    print(f"{'case':32} {'fastconv ms':>12} {'peer':>6} {'ms':>10} {'ratio':>7}")
    for name, text in {**shapes.NN, **shapes.SIGNAL, **shapes.IMAGE}.items():
        if arguments.names and not any(part in name for part in arguments.names):
            continue
        for peer, (mine, theirs) in ratios(shapes.case(text), budget=arguments.budget).items():
            print(
                f"{name:32} {mine * 1e3:12.3f} {peer:>6} {theirs * 1e3:10.3f} {mine / theirs:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
