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

TEMPLATES = {"201x301": (201, 301), "32x32": (32, 32)}
PEERS = ("opencv", "skimage")

#: Seconds that one figure is timed for.
BUDGET = 8.0


def operands(name: str) -> tuple[Any, Any]:
    """Noise with the spectrum of photographs, and a cut of it."""
    rng = np.random.default_rng(0)
    image = np.cumsum(rng.standard_normal((1080, 1920)), axis=1)
    image = ((image - image.mean()) / image.std()).astype(np.float32)
    rows, columns = TEMPLATES[name]
    return image, image[300 : 300 + rows, 700 : 700 + columns].copy()


def peer(name: str, image: Any, template: Any, threads: int) -> Callable[[], Any]:
    if name == "skimage":
        match = importlib.import_module("skimage.feature").match_template
        return lambda: match(image, template)
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(threads)
    out = np.empty([n - m + 1 for n, m in zip(image.shape, template.shape)], np.float32)
    return lambda: cv2.matchTemplate(image, template, cv2.TM_CCOEFF_NORMED, out)


def measure(name: str, peers: tuple[str, ...], threads: int) -> list[float]:
    """Seconds of fastconv's plan and plain call, then of each peer."""
    import fastconv
    from fastconv._timer import compare

    image, template = operands(name)
    match = fastconv.match_template
    prepared = fastconv.plan(match, image, template, threads=threads)
    works = [lambda: prepared(image), lambda: match(image, template, threads=threads)]
    works += [peer(p, image, template, threads) for p in peers]
    found = [np.unravel_index(work().argmax(), (9999, 1921 - template.shape[1])) for work in works]
    assert all(f == (300, 700) for f in found), found
    return [timing.median for timing in compare(works, budget=BUDGET)]


class Ratio:
    version = "1"
    unit = "x"
    params = (tuple(TEMPLATES), PEERS)
    param_names = ("template", "peer")
    timeout = 120.0

    def setup(self, name: str, other: str) -> None:
        module = {"opencv": "cv2"}.get(other, other)
        if importlib.util.find_spec(module) is None:
            raise NotImplementedError(f"{module} is not installed")
        common.pin(1)
        common.without_wisdom()

    def track_time_ratio(self, name: str, other: str) -> float:
        plan, _, theirs = measure(name, (other,), 1)
        return plan / theirs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_match", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    print(f"{'1080p, ms':12}{'plan':>9}{'call':>9}" + "".join(f"{p:>9}" for p in PEERS))
    for name in TEMPLATES:
        seconds = measure(name, PEERS, threads)
        print(f"{name:12}" + "".join(f"{s * 1e3:9.1f}" for s in seconds), flush=True)


if __name__ == "__main__":
    main()
