"""Named lists of problems for ``fastconv tune --suite``: what common programs ask for.

Networks are those of their papers for one image: ResNet-50 (He et al., CVPR 2016, table 1) with
the stride in its 3x3 layers, MobileNet V2 (Sandler et al., CVPR 2018, table 2), U-Net (Ronneberger
et al., MICCAI 2015, figure 1) with padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastconv._problem import Problem


def _layer(c: int, k: int, size: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
    return str(
        Problem(
            size=(size, size), kernel=(kernel, kernel), channels=c, filters=k, groups=groups,
            stride=(stride, stride), padding=((kernel // 2, kernel // 2),) * 2, prepared=True,
        )
    )  # fmt: skip


def _resnet50() -> Iterator[str]:
    yield _layer(3, 64, 224, 7, 2)
    channels, size = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(min(blocks, 2)):  # all after the second are like it
            stride = 2 if stage and not block else 1
            yield _layer(channels, width, size, 1)
            yield _layer(width, width, size, 3, stride)
            if not block:
                yield _layer(channels, 4 * width, size, 1, stride)
            size //= stride
            yield _layer(width, 4 * width, size, 1)
            channels = 4 * width


def _mobilenet() -> Iterator[str]:
    yield _layer(3, 32, 224, 3, 2)
    channels, size = 32, 112
    for expansion, out, blocks, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for block in range(min(blocks, 2)):
            stride, inner = (1 if block else first), expansion * channels
            if expansion > 1:
                yield _layer(channels, inner, size, 1)
            yield _layer(inner, inner, size, 3, stride, groups=inner)
            size //= stride
            yield _layer(inner, out, size, 1)
            channels = out
    yield _layer(channels, 1280, size, 1)


def _unet() -> Iterator[str]:
    size, channels = 256, 1
    for width in (64, 128, 256, 512, 1024):
        yield _layer(channels, width, size, 3)
        yield _layer(width, width, size, 3)
        channels, size = width, size // 2
    for width in (512, 256, 128, 64):
        size = 256 * 64 // width  # of the finer level
        up = Problem(
            size=(size // 2,) * 2, kernel=(2, 2), channels=2 * width, filters=width,
            input_dilation=(2, 2), padding=((1, 1),) * 2, prepared=True,
        )  # fmt: skip
        yield str(up)
        yield _layer(2 * width, width, size, 3)
        yield _layer(width, width, size, 3)
    yield _layer(64, 2, 256, 1)


def _signals() -> Iterator[str]:
    for dtype in ("f32", "f64"):
        for size, taps in (
            (4096, 32), (4096, 512), (65536, 64), (65536, 1024), (1 << 20, 101), (1 << 20, 4096),
            (1 << 20, 65536),
        ):  # fmt: skip
            yield f"conv1d {dtype} n1 c1 w{size} k1 s{taps} p{taps - 1} flip"
    yield "conv1d c64 n1 c1 w65536 k1 s256 p255 flip"
    yield "conv1d f32 n64 c1 w8192 k1 s128 p127 flip"


def _images() -> Iterator[str]:
    for dtype in ("f32", "f64"):
        for size, taps in ((512, 3), (512, 7), (1024, 5), (1024, 15), (2048, 31)):
            yield (f"conv2d {dtype} n1 c1 h{size} w{size} k1 r{taps} s{taps} p{taps // 2} reflect")
    for rank in ("", " rank1"):
        yield f"conv2d f32 n1 c1 h1080 w1920 k1 r25 s25 p12 reflect{rank}"
    yield "conv2d f32 n1 c3 h512 w512 k3 r9 s9 g3 p4"


SUITES: dict[str, Callable[[], Iterator[str]]] = {
    "resnet50": _resnet50, "mobilenet": _mobilenet, "unet": _unet, "signals": _signals,
    "images": _images,
}  # fmt: skip


def suite(name: str, threads: int) -> list[Problem]:
    """The distinct problems of a suite, on as many threads."""
    found = dict.fromkeys(Problem.parse(text) for text in SUITES[name]())
    return [problem.replace(threads=threads) for problem in found]
