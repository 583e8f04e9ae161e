"""cuFFT's transforms on a GPU: how problems lie on circles, and the launches of a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv._accuracy import epsilon
from fastconv._epilogue import Activation
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config
from fastconv.cuda import fourier
from fastconv.cuda.cufft import TYPES, Transform
from fastconv.cuda.interop import DeviceArray
from fastconv.cuda.kernel import Kernel
from fastconv.cuda.launch import Launch
from fastconv.solvers._cuda import (
    MOST,
    PART,
    CudaPlan,
    CudaSolver,
    activation_name,
    check_reach,
    divisors,
    launch_of,
    limits,
    parts_of,
    planes,
    pointer,
)

#: Elements that parts of one allocation are apart by a multiple of: 256 bytes, of float32.
_ALIGNED = 64

#: Bytes that a call works in, or what one block takes: rounds follow each other in the same memory.
ROUND = 256 << 20


def as_reals(problem: Problem) -> Problem:
    """A problem of complex numbers, of one channel and filter, as one of two of each, or of one
    channel where samples are real."""
    if not problem.is_complex:
        return problem
    part, channels = PART[problem.dtype], 1 + (problem.x_dtype in PART)
    return problem.replace(
        dtype=part, x_dtype=part, w_dtype=part, y_dtype=part, channels=channels, filters=2,
        layout="strided",
    )  # fmt: skip


def unit_of(problem: Problem, at: Layout) -> float:
    """Bound of the transforms' error in B. Of cuFFT nothing is published: it is taken to be that
    of other libraries, for lengths of small primes, until a record says otherwise."""
    channels = problem.channels // problem.groups
    return epsilon(problem) * (math.log2(2 + at.samples * channels) + channels / 16)


class Layout(NamedTuple):
    """Blocks of (planes, rows, columns); one dimension is one row, two are one plane.

    A block is a circle of `n` samples, of which `kept` outputs come; there are `blocks` of them in
    an image, `rows` in all, `once` in a round.
    """

    n: tuple[int, int, int]
    kept: tuple[int, int, int]
    blocks: tuple[int, int, int]
    rows: int
    once: int

    @classmethod
    def of(cls, problem: Problem, text: str) -> Layout:
        """By the config's text."""
        n = _triple(map(int, text.split("x")), 1)
        span, stride, out = (_triple(v, 1) for v in (problem.span, problem.stride, problem.out))
        kept = tuple(min(o, (a - s) // u + 1) for a, s, u, o in zip(n, span, stride, out))
        blocks = tuple(-(-o // k) for o, k in zip(out, kept))
        at = cls(n, kept, blocks, problem.batch * math.prod(blocks), 1)
        most = max(1, ROUND // (sum(_worked(problem, at)) * numpy_dtype(problem.dtype).itemsize))
        rounds = -(-at.rows // most)
        return at._replace(once=-(-at.rows // rounds))

    @property
    def rounds(self) -> int:
        return -(-self.rows // self.once)

    @property
    def shape(self) -> tuple[int, ...]:
        """What is transformed: axes of one sample are not."""
        return tuple(n for n in self.n if n > 1)

    @property
    def samples(self) -> int:
        return math.prod(self.n)

    @property
    def area(self) -> int:
        """Samples of a plane."""
        return self.n[1] * self.n[2]

    @property
    def bins(self) -> int:
        """Frequencies of a block."""
        return math.prod(self.shape[:-1]) * (self.shape[-1] // 2 + 1)

    def chunks(self, problem: Problem) -> int:
        """Blocks of threads that copy the samples of a row and a group."""
        return -(-problem.channels // problem.groups * self.samples // _COPIED)


_COPIED = fourier.THREADS * fourier.EACH


def _triple(values: Any, first: Any) -> Any:
    """Of planes, rows and columns."""
    return (first, first, *values)[-3:]


def fits(problem: Problem, at: Layout) -> bool:
    """Whether 32 bits count what kernels do: samples of a block, and blocks of threads."""
    own = problem.channels // problem.groups
    each = max(2 * own * at.bins, own * at.samples)
    tiles = at.once * max(problem.filters * -(-at.bins // fourier.THREADS),
                          problem.groups * at.chunks(problem))  # fmt: skip
    each = max(each, at.once * problem.filters * math.prod(at.kept), at.rows)
    return max(each, tiles, problem.filters * own * at.samples) < MOST - _COPIED


class _Sizes(NamedTuple):
    """Elements, each a multiple of `_ALIGNED`, of what is packed: w, its levels and W; of what
    packing takes, ws; and of what a round takes: xs or zs, X, Z, and the largest |x|."""

    made: tuple[int, ...]
    packing: int
    worked: tuple[int, ...]


def _whole(n: int) -> int:
    return -(-n // _ALIGNED) * _ALIGNED


def _worked(problem: Problem, at: Layout) -> tuple[int, ...]:
    """`_Sizes.worked`, of `at.once` blocks."""
    rows, x, y = at.once, problem.channels, problem.filters
    peaks = rows * problem.groups * (1 + at.chunks(problem))
    sizes = max(x, y) * at.samples * rows, 2 * x * at.bins * rows, 2 * y * at.bins * rows, peaks
    return tuple(map(_whole, sizes))


def sizes_of(problem: Problem, at: Layout) -> _Sizes:
    w = math.prod(problem.w_shape)
    pairs = problem.filters * problem.channels // problem.groups
    return _Sizes(
        tuple(map(_whole, (w, problem.filters, 2 * pairs * at.bins))), _whole(pairs * at.samples),
        _worked(problem, at),
    )  # fmt: skip


def _places(a: DeviceArray, sizes: Sequence[int]) -> list[int]:
    """Addresses of parts of these sizes, one after the other."""
    size = a.dtype.itemsize
    return [a.pointer + sum(sizes[:i]) * size for i in range(len(sizes))]


def _launch(kernel: Kernel, blocks: int, given: dict[str, Any]) -> Launch:
    return launch_of(kernel, (blocks, 1, 1), given)


class FftPlan(CudaPlan):
    """Copies to circles, a transform, products, a transform back, and outputs."""

    def __init__(self, problem: Problem, solver: CudaSolver, config: Config) -> None:
        super().__init__(problem, solver, config)
        self._parts, self._reals = 1 + problem.is_complex, as_reals(problem)
        self._at = Layout.of(self._reals, str(config["circle"]))
        self._sizes = sizes_of(self._reals, self._at)
        self._computed = self._reals.dtype
        self._launches: dict[Any, Any] = {}
        self._transforms: dict[tuple[int, str], Transform] = {}

    def _transform(self, ordinal: int, what: str) -> Transform:
        """Of w, of x, or of y back."""
        found = self._transforms.get((ordinal, what))
        if found is None:
            p, at = self._reals, self._at
            batch = {"w": p.filters * p.channels // p.groups, "x": at.once * p.channels,
                     "y": at.once * p.filters}[what]  # fmt: skip
            kind = TYPES[self._computed][what == "y"]
            found = self._transforms[ordinal, what] = Transform(ordinal, at.shape, batch, kind)
        return found

    def _work(self, ordinal: int, whats: str) -> int:
        """Elements of the transforms' work area."""
        most = max(self._transform(ordinal, what).work_bytes for what in whats)
        return -(-most // numpy_dtype(self._computed).itemsize)

    def pack(self, w: Any) -> Any:
        p, at, sizes = self._reals, self._at, self._sizes
        dtype = numpy_dtype(self._computed)
        transform = self._transform(w.ordinal, "w")
        made = w.aside((1, sum(sizes.made)), dtype)
        # of three axes, so that it is not the memory of what is kept (`Scratch.new`)
        passing = w.aside((1, 1, sizes.packing + self._work(w.ordinal, "w")), dtype)
        kept, levels, spectra = _places(made, sizes.made)
        key = ("w", w.steps, w.conjugated)
        if key not in self._launches:
            own = p.channels // p.groups
            samples, taps = own * at.samples, math.prod(p.kernel)
            count = 1 + (self.problem.w_dtype in PART)
            steps, gaps = [s * count for s in planes(w)], _triple(p.dilation, 1)
            turn = -1.0 if w.conjugated else 1.0
            tiles = -(-samples // fourier.THREADS)
            given = {
                "tiles": tiles, "samples": samples, "circle": at.samples, "line": at.n[2],
                "taps_r": _triple(p.kernel, 1)[1], "taps_s": p.kernel[-1], "gap_h": gaps[1],
                "gap_w": gaps[2], "w_k": steps[0] if self._parts == 1 else 0,
                "w_c": steps[1], "w_r": steps[2],
                "w_s": steps[3], "ws_k": samples, "plain_k": own * taps,
                "plus": 1.0, "upper": -turn, "lower": turn,
                **divisors(tiles=tiles, circle=at.samples, line=at.n[2], gap_h=gaps[1],
                           gap_w=gaps[2]),
                "area": at.area, "taps_t": _triple(p.kernel, 1)[0], "gap_d": gaps[0],
                "w_t": w.steps[2] * count, **divisors(area=at.area, gap_d=gaps[0]),
            }  # fmt: skip
            factor = 0.0 if p.accuracy == "fast" else 11 * unit_of(p, at)
            self._launches[key] = (
                _launch(
                    fourier.filters(p.w_dtype, self._parts, p.ndim == 3, count),
                    p.filters * tiles,
                    given,
                ),
                _folded(self._computed, "add", p.filters, own * taps, factor),
            )
        copy, level = self._launches[key]
        copy(w.ordinal, w.stream, w.pointer, passing.pointer, kept)
        level(w.ordinal, w.stream, kept, levels)
        work = passing.pointer + sizes.packing * dtype.itemsize
        transform(w.stream, passing.pointer, spectra, work)
        return made

    def start(
        self, x: DeviceArray, packed: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None,
    ) -> None:  # fmt: skip
        total = sum(self._sizes.worked) + self._work(x.ordinal, "xy")
        with x.borrowed((1, 1, 1, total), numpy_dtype(self._computed)) as worked:
            turn = -1.0 if x.conjugated else 1.0
            if self._parts == 2:
                x, y = parts_of(x) if self.problem.x_dtype in PART else x, parts_of(y)
                bias, residual = bias and parts_of(bias), residual and parts_of(residual)
            self._start(packed, worked, x, bias, y, residual, activation, turn)

    def _start(
        self, made: DeviceArray, worked: DeviceArray, x: DeviceArray, bias: DeviceArray | None,
        y: DeviceArray, residual: DeviceArray | None, activation: Activation | None, turn: float,
    ) -> None:  # fmt: skip
        sizes, on = self._sizes, (x.ordinal, x.stream)
        forward, back = (self._transform(x.ordinal, what) for what in "xy")
        samples, spectra, results, peaks, work = _places(worked, (*sizes.worked, 0))
        kept, levels, filters = _places(made, sizes.made)
        lies = (x.steps, bias and bias.steps, y.steps, residual and residual.steps)
        key = (*lies, activation, turn)
        rounds = self._launches.get(key)
        if rounds is None:
            firsts = range(0, self._at.rows, self._at.once)
            every = (self._made(i, x, bias, y, residual, activation, turn) for i in firsts)
            rounds = self._launches[key] = list(every)
        parts = peaks + self._at.once * self._reals.groups * worked.dtype.itemsize
        for copy, largest, multiply, finish in rounds:
            copy(*on, x.pointer, samples, peaks if largest is None else parts)
            if largest is not None:
                largest(*on, parts, peaks)
            # of the last round more blocks are transformed than there are, and nobody reads them
            forward(x.stream, samples, spectra, work)
            multiply(*on, spectra, filters, results)
            back(x.stream, results, samples, work)
            finish(
                *on, samples, kept, levels, peaks, x.pointer, pointer(bias), pointer(residual),
                y.pointer,
            )  # fmt: skip

    def _made(
        self, first: int, x: DeviceArray, bias: DeviceArray | None, y: DeviceArray,
        residual: DeviceArray | None, activation: Activation | None, turn: float,
    ) -> tuple[Launch, Launch | None, Launch, Launch]:  # fmt: skip
        """Of the round that begins with a row."""
        p, at = self._reals, self._at
        rows = min(at.once, at.rows - first)
        for a in (x, y, residual):
            check_reach(p, a)
        own, taps = p.channels // p.groups, _triple(p.kernel, 1)
        chunks, blocks, parts = at.chunks(p), math.prod(at.blocks), rows * p.groups
        (deep, h, wide), (out_d, out_h, out_w) = _triple(p.size, 1), _triple(p.out, 1)
        pads, stride, gaps = (
            _triple(p.padding, (0, 0)),
            _triple(p.stride, 1),
            _triple(p.dilation, 1),
        )
        xs, ys, rs = planes(x), planes(y), planes(residual)
        boundary = "zeros" if p.boundary == "constant" else p.boundary
        info = np.finfo(numpy_dtype(self._computed))
        low, high = limits(activation)
        common = {
            "first": first, "plus": 1.0, "turn": turn, "groups": p.groups, "blocks": blocks,
            "across": at.blocks[2], "line": at.n[2],
            "height": h, "width": wide, "pad_h": pads[1][0], "pad_w": pads[2][0],
            "x_n": xs[0], "x_g": own * xs[1], "x_c": xs[1], "x_h": xs[2], "x_w": xs[3],
            "fill": p.cval.real if p.boundary == "constant" else 0.0, "filters": p.filters,
            **divisors(filters=p.filters, group=p.filters // p.groups, blocks=blocks,
                       across=at.blocks[2]),
        }  # fmt: skip
        if p.ndim == 3:
            level = at.blocks[1] * at.blocks[2]
            x_d, y_d, r_d = (a.steps[2] if a is not None else 0 for a in (x, y, residual))
            common |= {
                "area": at.area, "level": level, "depth": deep, "pad_d": pads[0][0],
                "step_d": at.kept[0] * stride[0], "o_count": out_d, "kept_d": at.kept[0],
                "step_t": stride[0], "gap_d": gaps[0], "taps_t": taps[0],
                "x_d": x_d, "y_d": y_d, "r_d": r_d,
                **divisors(area=at.area, level=level, kept_d=at.kept[0]),
            }  # fmt: skip
        copying = {
            **common, "chunks": chunks, "samples": own * at.samples, "circle": at.samples,
            "step_h": at.kept[1] * stride[1], "step_w": at.kept[2] * stride[2],
            "xs_part": own * at.samples,
            **divisors(chunks=chunks, groups=p.groups, circle=at.samples, line=at.n[2]),
        }  # fmt: skip
        tiles = -(-at.bins // fourier.THREADS)
        multiplying = {
            **common, "tiles": tiles, "channels": own, "bins": at.bins,
            "part": 2 * own * at.bins, "z_line": 2 * at.bins, "scale": 1 / at.samples,
            "minus": -1.0, **divisors(tiles=tiles),
        }  # fmt: skip
        items = rows * p.filters * math.prod(at.kept)
        finishing = {
            **common, "items": items, "p_count": out_h, "q_count": out_w, "kept_h": at.kept[1],
            "kept_w": at.kept[2], "step_u": stride[1], "step_v": stride[2], "gap_h": gaps[1],
            "gap_w": gaps[2], "channels": own, "taps_r": taps[1], "taps_s": taps[2],
            "chunks": -(-taps[2] // fourier.CHUNK), "z_row": p.filters * at.samples,
            "z_k": at.samples, "w_k": own * math.prod(taps),
            "y_n": ys[0], "y_k": ys[1], "y_h": ys[2], "y_w": ys[3],
            "r_n": rs[0], "r_k": rs[1], "r_h": rs[2], "r_w": rs[3],
            "b_k": bias.steps[0] if bias is not None else 0, "low": low, "high": high,
            # each frequency may have lost the smallest normal number ten times over, and 11 of that
            "least": float(info.smallest_normal) * 110 * at.samples,
            "smallest": float(info.smallest_subnormal),
            **divisors(kept_h=at.kept[1], kept_w=at.kept[2]),
        }  # fmt: skip
        name = activation_name(activation)
        outputs = fourier.outputs(p.x_dtype, p.y_dtype, boundary, name, self._parts, p.ndim == 3)
        largest = _folded(self._computed, "larger", parts, chunks, 1.0) if chunks > 1 else None
        inputs = fourier.inputs(p.x_dtype, boundary, self._parts, p.ndim == 3)
        return (
            _launch(inputs, parts * chunks, copying), largest,
            _launch(fourier.products(self._computed), rows * p.filters * tiles, multiplying),
            _launch(outputs, -(-items // fourier.THREADS), finishing),
        )  # fmt: skip


def _folded(dtype: str, operation: str, rows: int, count: int, factor: float) -> Launch:
    rounds = -(-count // fourier.THREADS)
    given = {"count": count, "rounds": rounds, "row": count, "factor": factor}
    return _launch(fourier.folded(dtype, operation), rows, given)
