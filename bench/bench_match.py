"""Templates in images, beside OpenCV and scikit-image.

``python -m bench.bench_match`` prints the times of a 1080p image, interleaved in one process.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from . import common

#: Rows and columns of the template, dtype, and whether an ellipse of it counts.
CASES = {
    "32x32": (32, 32, "f4", False),
    "120x120": (120, 120, "f4", False),
    "120x120.u1": (120, 120, "u1", False),
    "120x120.mask": (120, 120, "f4", True),
    "120x120.u1.mask": (120, 120, "u1", True),
    "201x301": (201, 301, "f4", False),
}
PEERS = ("opencv", "skimage")

#: Seconds that one figure is timed for.
BUDGET = 8.0


def operands(name: str) -> tuple[Any, Any, Any]:
    """Noise with the spectrum of photographs, a cut of it, and a mask or None."""
    rows, columns, dtype, masked = CASES[name]
    rng = np.random.default_rng(0)
    image = np.cumsum(rng.standard_normal((1080, 1920)), axis=1)
    image = (image - image.mean()) / image.std()
    image = (image.clip(-3, 3) * 42 + 128).astype(dtype) if dtype == "u1" else image.astype(dtype)
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    mask = (y * y + x * x < 1).astype(dtype) if masked else None
    return image, image[300 : 300 + rows, 700 : 700 + columns].copy(), mask


def peer(name: str, image: Any, template: Any, mask: Any, threads: int) -> Callable[[], Any]:
    if name == "skimage":
        match = importlib.import_module("skimage.feature").match_template
        return lambda: match(image, template)
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(threads)
    out = np.empty([n - m + 1 for n, m in zip(image.shape, template.shape)], np.float32)
    return lambda: cv2.matchTemplate(image, template, cv2.TM_CCOEFF_NORMED, out, mask)


def measure(name: str, peers: tuple[str, ...], threads: int) -> list[float]:
    """Seconds of fastconv's plan and plain call, then of each peer; NaN of one without masks."""
    import fastconv
    from fastconv._timer import compare

    image, template, mask = operands(name)
    match = fastconv.match_template
    prepared = fastconv.plan(match, image, template, mask=mask, threads=threads)
    can = [p for p in peers if mask is None or p != "skimage"]
    works = [
        lambda: prepared(image),
        lambda: match(image, template, mask=mask, threads=threads),
        *(peer(p, image, template, mask, threads) for p in can),
    ]
    found = [np.unravel_index(work().argmax(), (9999, 1921 - template.shape[1])) for work in works]
    assert all(f == (300, 700) for f in found), found
    plan, call, *theirs = (timing.median for timing in compare(works, budget=BUDGET))
    each = dict(zip(can, theirs))
    return [plan, call, *(each.get(p, float("nan")) for p in peers)]


class Ratio:
    version = "1"
    unit = "x"
    params = (tuple(CASES), PEERS)
    param_names = ("template", "peer")
    timeout = 120.0

    def setup(self, name: str, other: str) -> None:
        module = {"opencv": "cv2"}.get(other, other)
        if importlib.util.find_spec(module) is None:
            raise NotImplementedError(f"{module} is not installed")
        if other == "skimage" and CASES[name][3]:
            raise NotImplementedError("scikit-image takes no mask")
        common.pin(1)
        common.without_wisdom()

    def track_time_ratio(self, name: str, other: str) -> float:
        plan, _, theirs = measure(name, (other,), 1)
        return plan / theirs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_match", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    peers = tuple(arguments.peers)
    print(f"{'1080p, ms':16}{'plan':>9}{'call':>9}" + "".join(f"{p:>9}" for p in peers))
    for name in arguments.only:
        seconds = measure(name, peers, arguments.threads)
        print(f"{name:16}" + "".join(f"{s * 1e3:9.1f}" for s in seconds), flush=True)


if __name__ == "__main__":
    main()
