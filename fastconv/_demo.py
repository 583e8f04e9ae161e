"""`fastconv demo`: real work on real pictures, offline, every result checked against SciPy.

Each task is tuned, checked, then timed in turns with what a SciPy or NumPy user would write.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.io.wavfile
import scipy.ndimage
import scipy.signal
import threadpoolctl

import fastconv
from fastconv import _engine, _planner, _timer
from fastconv._planner import Candidate
from fastconv._problem import Array
from fastconv.solvers import BY_NAME


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much work the demo does: sizes in pixels, samples in seconds, times in seconds."""

    height: int = 1080
    width: int = 1920
    sigma: float = 8.0
    sound: float = 60.0
    reverb: float = 2.0
    rate: int = 48_000
    unet: int = 256
    unet_channels: int = 32
    dice: int = 1000
    tuning: float = 40.0
    timing: float = 4.0


FULL = Scale()
TINY = Scale(96, 168, 1.5, 0.25, 0.02, 8000, 16, 2, 20, 0.5, 0.001)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `error` is the largest error as a part of what the contract allows."""

    network: str
    task: str
    shape: str
    methods: tuple[str, ...]
    seconds: float
    peer: str
    peer_seconds: float
    error: float

    @property
    def ratio(self) -> float:
        return self.peer_seconds / self.seconds

    @property
    def checked(self) -> bool:
        return self.error <= 1  # a NaN is not


def main(out: pathlib.Path, scale: Scale = FULL, as_json: bool = False) -> int:
    """Run every task and write pictures, sound and a table to folder `out`.

    Asked for JSON, standard output is that, and all else goes to standard error.

    Returns 0 when every result was checked and right, 1 when one was not, 2 when the demo cannot
    run here.
    """
    try:
        import matplotlib  # noqa: F401
        import skimage.data  # noqa: F401
    except ImportError as error:
        print(
            f"fastconv demo: {error.name} is missing: pip install 'fastconv[demo]'", file=sys.stderr
        )
        return 2
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"fastconv demo: cannot write to {out}: {error.strerror}", file=sys.stderr)
        return 2
    return Demo(out, scale, as_json).run()


class Demo:
    """The tasks, and what they share: the tuning budget, the table, the folder."""

    #: Calls of `work`: blur, sharpen, edges, template, reverb, 13 + 5 layers, dice.
    WORKS = 24

    def __init__(self, out: pathlib.Path, scale: Scale, as_json: bool = False) -> None:
        from rich.console import Console

        self.out = out
        self.scale = scale
        self.as_json = as_json
        self.console = Console(width=None if sys.stdout.isatty() else 110, stderr=as_json)
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.random = np.random.default_rng(2024)
        self._blas = threadpoolctl.ThreadpoolController()
        self._budget = scale.tuning
        self._works = self.WORKS
        self._say: Callable[[str], None] = lambda text: None

    def run(self) -> int:
        since = _timer.Deadline(None)
        tasks = (self.photograph, self.template, self.reverb, self.unet, self.pilotnet, self.dice)
        with self._progress(len(tasks)) as advance:
            for task in tasks:
                task()
                advance()
        self._report(since.spent)
        if self.as_json:
            rows = [{**vars(r), "ratio": r.ratio, "checked": r.checked} for r in self.rows]
            folder = str(self.out.resolve())
            print(json.dumps({"folder": folder, "results": rows, "notes": self.notes}, indent=2))
        return 0 if all(row.checked for row in self.rows) else 1

    @contextlib.contextmanager
    def _progress(self, tasks: int) -> Iterator[Callable[[], None]]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=self.console, transient=True) as progress:
            bar = progress.add_task("", total=tasks)
            self._say = lambda text: progress.update(bar, description=text)
            yield lambda: progress.advance(bar)

    def work(
        self,
        task: str,
        shape: str,
        ours: Callable[[], Array],
        peers: dict[str, Callable[[], Array]],
        reference: Array,
        magnitude: Array,
        ceiling: Array | float,
        *,
        network: str = "",
        tolerance: Callable[[list[Candidate]], Array] | None = None,
        planned: tuple[Callable[[], fastconv.Plan], Array] | None = None,
    ) -> Array:
        """Tune, check and time one call, and add its row to the table.

        With `planned`, what makes a plan of `ours` and its data, that plan is run instead.

        `reference` is the float64 result, `magnitude` sum(|x| * |w|) of each window, `ceiling`
        max|x| * sum|w|: what the accuracy contract measures errors against.
        """
        self._say(f"{network} {task}: tuning".lstrip())
        problems = {c.problem for c in steps(ours)}
        since = _timer.Deadline(None)
        share = self._budget / max(1, self._works)
        with fastconv.autotune("measure", budget=share / max(1, len(problems))):
            plan = planned[0]() if planned is not None else None
            if plan is None:
                ours()
        self._budget = max(0.1, self._budget - since.spent)
        self._works -= 1

        self._say(f"{network} {task}: checking".lstrip())
        run = ours
        found = steps(ours) if plan is None else plan.candidates
        if plan is not None and planned is not None:
            run = functools.partial(plan, planned[1])
        result = run()
        allowed = (
            tolerance(found)
            if tolerance is not None
            else contract(found, magnitude, ceiling, result.dtype)
        )
        error = relative_error(result, reference, allowed)

        self._say(f"{network} {task}: timing".lstrip())
        calls = [run, *peers.values()]
        seconds = [t.seconds for t in _timer.compare(calls, rounds=9, budget=self.scale.timing)]
        peer_seconds, peer = min(zip(seconds[1:], peers))
        methods = tuple(c.method for c in found)
        self.rows.append(Row(network, task, shape, methods, seconds[0], peer, peer_seconds, error))
        return result

    def photograph(self) -> None:
        """Blur, sharpen and find the edges of one colour photograph."""
        s = self.scale
        photo = fit(_image("coffee"), s.height, s.width)
        gray = luminance(photo)
        self.notes.append(
            f"photograph: coffee.png of scikit-image, 600 x 400, scaled up and cut to {s.width} x"
            f" {s.height}"
        )
        shape, wide = f"{s.width}x{s.height}x3", photo.astype(np.float64)

        def blur(module: Any, image: Array) -> Array:
            blurred: Array = module.gaussian_filter(image, s.sigma, axes=(0, 1))
            return blurred

        soft = blur(scipy.ndimage, wide)
        blurred = self.work(
            "blur", f"{shape}, sigma {s.sigma:g}",
            lambda: blur(fastconv.ndimage, photo),
            {"ndimage.gaussian_filter": lambda: blur(scipy.ndimage, photo)},
            soft, soft, 1.0,
        )  # fmt: skip

        # the photograph and thrice what a binomial blur takes away: an unsharp mask in one kernel
        line = np.array([1, 4, 6, 4, 1], np.float32) / 16
        mask = -3 * np.outer(line, line)[:, :, None]
        mask[2, 2] += 4
        sharp = self.work(
            "sharpen", f"{shape}, 5x5",
            lambda: fastconv.ndimage.convolve(photo, mask),
            {"ndimage.convolve": lambda: scipy.ndimage.convolve(photo, mask)},
            scipy.ndimage.convolve(wide, mask.astype(np.float64)),
            scipy.ndimage.convolve(wide, np.abs(mask.astype(np.float64))),
            float(np.abs(mask).sum()),
        )  # fmt: skip

        slopes = np.empty((2, *gray.shape), np.float32)

        def sobel(module: Any, image: Array, output: Array) -> Array:
            for axis in (0, 1):
                module.sobel(image, axis, output=output[axis])
            return output

        sums = np.stack([_sobel_magnitude(gray.astype(np.float64), axis) for axis in (0, 1)])
        edges = self.work(
            "edges, both Sobel", f"{s.width}x{s.height}, 3x3",
            lambda: sobel(fastconv.ndimage, gray, slopes),
            {"ndimage.sobel": lambda: sobel(scipy.ndimage, gray, np.empty_like(slopes))},
            sobel(scipy.ndimage, gray.astype(np.float64), np.empty(slopes.shape)),
            sums, 8.0,
        )  # fmt: skip
        self._picture("photograph", photo, blurred, sharp, np.hypot(*edges))

    def template(self) -> None:
        """Find a turned, darkened, noisy cut of one photograph in a wall of six."""
        import skimage.transform

        transform: Any = skimage.transform  # not annotated
        s = self.scale
        names = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "camera")
        cells = [fit(_image(n), s.height // 2, s.width // 3) for n in names]
        wall = np.concatenate([np.concatenate(cells[i : i + 3], axis=1) for i in (0, 3)])
        gray = luminance(wall)
        side = s.height // 9
        row, column = round(0.325 * s.height / 2 - side / 2), round(2.33 * s.width / 3 - side / 2)
        cut = gray[row : row + side, column : column + side]
        seen = 0.1 + 0.6 * transform.rotate(cut, 4, mode="reflect")
        seen = (seen + self.random.normal(0, 0.04, cut.shape)).astype(np.float32)
        zero_mean = seen - seen.mean()
        self.notes.append(
            "wall: six photographs of scikit-image, each scaled to a sixth of the picture; the"
            " template is a cut of it, turned by 4 degrees, darkened and made noisy"
        )

        shape, wide, taps = f"{s.width}x{s.height}, {side}x{side}", gray.astype("f8"), zero_mean
        turned = zero_mean[::-1, ::-1]
        score = self.work(
            "find a template", shape,
            lambda: fastconv.correlate(gray, taps, mode="valid"),
            {
                "signal.correlate": lambda: scipy.signal.correlate(gray, taps, mode="valid"),
                "signal.oaconvolve": lambda: scipy.signal.oaconvolve(gray, turned, mode="valid"),
            },
            scipy.signal.correlate(wide, taps.astype("f8"), mode="valid"),
            np.maximum(0, scipy.signal.correlate(wide, np.abs(taps.astype("f8")), mode="valid")),
            float(gray.max() * np.abs(taps).sum()),
        )  # fmt: skip
        match = score / (deviation(wide, side) * np.linalg.norm(taps) * side)
        found = divmod(int(match.argmax()), match.shape[1])
        self._expect("template", max(abs(found[0] - row), abs(found[1] - column)) <= 2,
                     f"found at {found}, cut from {(row, column)}")  # fmt: skip
        self._picture("template", wall, cut, seen, match, found)

    def reverb(self) -> None:
        """Play a minute of stereo sound in a hall: WAV in, WAV out."""
        s = self.scale
        scipy.io.wavfile.write(self.out / "dry.wav", s.rate, _pcm(strings(s.sound, s.rate)))
        scipy.io.wavfile.write(self.out / "hall.wav", s.rate, _pcm(hall(s.reverb, s.rate)))
        self.notes.append(
            "sound: synthesised, for no package at hand carries a recording: plucked strings"
            " (Karplus-Strong) play the chords of Pachelbel's canon; the hall is decaying noise"
        )
        dry, room = (
            scipy.io.wavfile.read(self.out / f"{name}.wav")[1].T.astype(np.float32) / 32768
            for name in ("dry", "hall")
        )
        dry, room = np.ascontiguousarray(dry), np.ascontiguousarray(room)
        wet = self.work(
            "reverb", f"2x{dry.shape[1]}, 2x{room.shape[1]}",
            lambda: fastconv.signal.oaconvolve(dry, room, axes=-1, method="auto"),
            {
                "signal.oaconvolve": lambda: scipy.signal.oaconvolve(dry, room, axes=-1),
                "signal.fftconvolve": lambda: scipy.signal.fftconvolve(dry, room, axes=-1),
            },
            scipy.signal.oaconvolve(dry.astype("f8"), room.astype("f8"), axes=-1),
            np.maximum(0, scipy.signal.oaconvolve(abs(dry.astype("f8")), abs(room.astype("f8")),
                                                  axes=-1)),
            np.abs(dry).max() * np.abs(room).sum(axis=-1, keepdims=True),
        )  # fmt: skip
        mixed = 0.4 * dry + 0.6 * wet[:, : dry.shape[1]] * (abs(dry).max() / abs(wet).max())
        scipy.io.wavfile.write(self.out / "wet.wav", s.rate, _pcm(mixed.T))
        self._picture("reverb", dry[0], mixed[0], room[0], s.rate)

    def unet(self) -> None:
        """The convolution layers of a small U-Net, forward, on the cat."""
        s, layer = self.scale, functools.partial(self._layer, "U-Net")
        b = s.unet_channels
        image = fit(_image("chelsea"), s.unet, s.unet)
        x = np.ascontiguousarray(image.transpose(2, 0, 1)[None] - np.float32(0.5))
        down1 = layer("down 1b", layer("down 1a", x, b), b)
        down2 = layer("down 2b", layer("down 2a", _pool(down1), 2 * b), 2 * b)
        middle = layer("middle b", layer("middle a", _pool(down2), 4 * b), 4 * b)
        join2 = np.concatenate([layer("up 2", middle, 2 * b, up=True), down2], axis=1)
        up2 = layer("up 2b", layer("up 2a", join2, 2 * b), 2 * b)
        join1 = np.concatenate([layer("up 1", up2, b, up=True), down1], axis=1)
        up1 = layer("up 1b", layer("up 1a", join1, b), b)
        layer("classes", up1, 4, size=1)
        self.notes.append(
            "networks: random weights (He initialisation, seeded), batch 1, the convolution layers"
            " alone are timed, each planned once, as a network that is run again and again would be"
        )
        maps = {"down 1b": down1, "down 2b": down2, "middle b": middle, "up 2b": up2, "up 1b": up1}
        self._picture("unet", image, {k: v[0] for k, v in maps.items()})

    def pilotnet(self) -> None:
        """The five convolution layers of PilotNet, forward, on a strip of a photograph."""
        strip = fit(_image("rocket"), 66, 200)
        maps = {}
        x = np.ascontiguousarray(strip.transpose(2, 0, 1)[None] - np.float32(0.5))
        spec = ((24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1))
        for i, (filters, size, stride) in enumerate(spec, 1):
            name = f"conv {i}"
            x = self._layer("PilotNet", name, x, filters, size=size, stride=stride, padding=0)
            maps[name] = x[0]
        self._picture("pilotnet", strip, maps)

    def _layer(
        self, network: str, name: str, x: Array, filters: int, *, size: int = 3, stride: int = 1,
        padding: int | None = None, up: bool = False,
    ) -> Array:  # fmt: skip
        """One layer with new random weights, and the ReLU that follows it."""
        channels = x.shape[1]
        fan_in = channels * (1 if up else size * size)
        if up:
            w = self.random.standard_normal((channels, filters, 2, 2), np.float32)
        else:
            w = self.random.standard_normal((filters, channels, size, size), np.float32)
        w *= np.float32(math.sqrt(2 / fan_in))
        pad = size // 2 if padding is None else padding

        def numpy_layer(x: Array, w: Array) -> Array:
            return upsample_numpy(x, w) if up else conv2d_numpy(x, w, stride, pad)

        function: Callable[..., Array] = fastconv.conv_transpose2d if up else fastconv.conv2d
        options: dict[str, Any] = {"stride": 2} if up else {"stride": stride, "padding": pad}

        def one_thread() -> Array:  # small products are quicker so, above all on a busy machine
            with self._blas.limit(limits=1, user_api="blas"):
                return numpy_layer(x, w)

        wide_x, wide_w = x.astype(np.float64), w.astype(np.float64)
        reference = numpy_layer(wide_x, wide_w)
        if not up:  # SciPy takes seconds for a whole layer: it vouches for one filter of each
            one = scipy.signal.correlate(
                np.pad(wide_x[0], ((0, 0), (pad, pad), (pad, pad))), wide_w[0], "valid", "direct"
            )[0, ::stride, ::stride]
            self._expect(f"{network} {name}", np.allclose(one, reference[0, 0], 1e-9, 1e-9),
                         "NumPy and SciPy differ")  # fmt: skip
        sums = np.abs(w).sum(axis=(0, 2, 3) if up else (1, 2, 3), dtype=np.float64)
        y = self.work(
            name, f"{channels}x{x.shape[2]}x{x.shape[3]}, {filters} of {w.shape[2]}x{w.shape[3]}"
            + (f"/{stride}" if stride > 1 else "/2 up" if up else ""),
            lambda: function(x, w, **options),
            {"NumPy": lambda: numpy_layer(x, w), "NumPy, 1 thread": one_thread},
            reference, numpy_layer(abs(wide_x), abs(wide_w)),
            float(abs(wide_x).max()) * sums[:, None, None],
            network=network,
            planned=(lambda: fastconv.plan(function, x, w, **options), x),
        )  # fmt: skip
        return np.maximum(y, 0)

    def dice(self) -> None:
        """The distribution of the sum of many dice, each unfair in its own way."""
        count = self.scale.dice
        faces = np.arange(1, 7)
        odds = self.random.dirichlet(np.full(6, 2.0), count)  # of 1 ... 6, one row a die
        tree = functools.partial(sum_tree, odds)
        # only positive numbers are added, so each probability, however small, is held to its own
        # size: the FFT, whose error follows the largest one, is not admitted under "strict"
        reference = tree(functools.partial(scipy.signal.convolve, method="direct"))
        total = self.work(
            "sum of unfair dice", f"{count} dice",
            lambda: sum_of_dice(odds),
            {"numpy.convolve": lambda: tree(np.convolve),
             "signal.convolve": lambda: tree(scipy.signal.convolve)},
            reference, reference, 1.0,
            tolerance=lambda found: _product_error(found) * reference + 2.0**-1000,
        )  # fmt: skip
        values = np.arange(count, 6 * count + 1)
        means = odds @ faces
        mean, variance = means.sum(), (odds @ faces**2 - means**2).sum()
        self._expect("dice", math.isclose(total @ values, mean, rel_tol=1e-12), "mean")
        spread = total @ (values - mean) ** 2
        self._expect("dice", math.isclose(spread, variance, rel_tol=1e-9), "variance")
        fourier = tree(scipy.signal.fftconvolve)
        self._picture("dice", values, total, np.abs(fourier), mean, variance, odds)

    def _expect(self, task: str, holds: bool, what: str) -> None:
        """Count a check beyond the comparison of arrays; a failed one fails its own row."""
        if not holds:
            self.notes.append(f"FAILED {task}: {what}")
            self.rows.append(Row("", f"{task}: {what}", "", (), 1.0, "", 1.0, math.inf))

    def _picture(self, name: str, *parts: Any) -> None:
        from fastconv import _demo_pictures

        self._say(f"drawing {name}")
        getattr(_demo_pictures, name)(self.out / f"{name}.png", *parts)

    def _report(self, seconds: float) -> None:
        """Print the tables and say where everything lies."""
        from rich import box
        from rich.table import Table

        networks = dict.fromkeys(row.network for row in self.rows if row.network)
        totals = [row for row in self.rows if not row.network]
        layers = {n: [row for row in self.rows if row.network == n] for n in networks}
        at = next((i for i, row in enumerate(totals) if row.task.startswith("sum of")), len(totals))
        totals[at:at] = [_total(name, rows) for name, rows in layers.items()]
        for title, rows in (("Tasks", totals), *((f"{n}, by layer", r) for n, r in layers.items())):
            table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
            for heading in ("task", "shape", "method"):
                table.add_column(heading)
            for heading in ("fastconv", "peer", "ratio", "error"):
                table.add_column(heading, justify="right", no_wrap=True)
            table.add_column("checked")
            table.add_column("peer is", style="dim")
            for row in rows:
                table.add_row(*_cells(row))
            self.console.print(table)
        self._picture("speed", totals)
        for note in self.notes:
            self.console.print(f"- {note}", highlight=False)
        self.console.print(
            "ratio: the peer's time by fastconv's, of calls made in turns; error: the"
            " largest, as a part of what the accuracy contract allows", highlight=False,
        )  # fmt: skip
        bad = sum(not row.checked for row in self.rows)
        verdict = f"{bad} results are WRONG" if bad else "every result is checked and right"
        self.console.print(f"{len(self.rows)} results, {verdict}; {seconds:.0f} s")
        self.console.print(f"pictures and sound: {self.out.resolve()}", soft_wrap=True)


def steps(call: Callable[[], Any]) -> list[Candidate]:
    """What a plain call would run, step by step, without running it."""
    choices: list[_planner.Choice] = []

    def record(step: _engine.Step, w: Array) -> None:
        choices.append(step.choice)

    token = _engine._recorder.set(record)
    try:
        call()
    finally:
        _engine._recorder.reset(token)
    # recorded choices are for prepared kernels; a plain call packs its kernel each time
    return [
        c.candidate
        if c.reason.startswith("forced")
        else _planner.choose(c.plan.problem.replace(prepared=False)).candidate
        for c in choices
    ]


def contract(found: list[Candidate], magnitude: Array, ceiling: Array | float, dtype: Any) -> Array:
    """Largest error that the methods used may make, by their published bounds.

    Steps that follow one another add their bounds: each step's error passes the later kernels
    at most as the data itself does. The first terms are for the rounding of what is stored, and
    for the reference: a float64 transform errs by a few eps * log2(length) of the ceiling.
    """
    allowed: Array = np.finfo(dtype).eps * np.abs(magnitude) + 2.0**-46 * ceiling
    for c in found:
        allowed = allowed + c.error_bound * (
            ceiling if BY_NAME[c.method].mixes_windows else magnitude
        )
    return allowed


def relative_error(result: Array, reference: Array, allowed: Array) -> float:
    """The largest error in units of the allowed one; infinite where a shape differs."""
    if result.shape != reference.shape:
        return math.inf
    error = np.abs(result - reference)
    return float(np.max(np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0),
                                  where=allowed > 0)))  # fmt: skip


def fit(image: Array, height: int, width: int) -> Array:
    """An RGB photograph scaled and cut to a size, as float32 in [0, 1]."""
    import skimage.transform

    transform: Any = skimage.transform  # not annotated
    scale = max(height / image.shape[0], width / image.shape[1])
    size = [max(low, round(scale * n)) for low, n in zip((height, width), image.shape)]
    scaled = transform.resize(
        image.astype(np.float32) / 255, (*size, 3), order=3, anti_aliasing=scale < 1
    )
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    cut = scaled[top : top + height, left : left + width].clip(0, 1)
    return np.ascontiguousarray(cut, dtype=np.float32)


def luminance(image: Array) -> Array:
    """Gray level of a linear RGB picture (ITU-R BT.709)."""
    gray: Array = image @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return gray


def _image(name: str) -> Array:
    import skimage.data

    image = getattr(skimage.data, name)()
    return image if image.ndim == 3 else np.stack([image] * 3, axis=-1)


def _sobel_magnitude(image: Array, axis: int) -> Array:
    """sum(|x| * |w|) of the Sobel filter along an axis."""
    slope = scipy.ndimage.correlate1d(image, [1, 0, 1], axis)
    sums: Array = scipy.ndimage.correlate1d(slope, [1, 2, 1], 1 - axis)
    return sums


def deviation(image: Array, side: int) -> Array:
    """Standard deviation of every side x side window, by summed-area tables."""
    moments = []
    for values in (image, image**2):
        table = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        boxes = table[side:, side:] - table[:-side, side:] - table[side:, :-side]
        moments.append((boxes + table[:-side, :-side]) / side**2)
    spread: Array = np.sqrt(np.maximum(moments[1] - moments[0] ** 2, 1e-6))
    return spread


def _pool(x: Array) -> Array:
    """2 x 2 maximum pooling."""
    n, c, h, w = x.shape
    pooled: Array = x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    return pooled


def conv2d_numpy(x: Array, w: Array, stride: int, pad: int) -> Array:
    """im2col and one BLAS product: the quickest of what NumPy offers for a batch of one."""
    k, c, r, s = w.shape
    if pad:
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (r, s), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    p, q = windows.shape[1:3]
    columns = windows.transpose(0, 3, 4, 1, 2).reshape(c * r * s, p * q)
    y: Array = (w.reshape(k, -1) @ columns).reshape(1, k, p, q)
    return y


def upsample_numpy(x: Array, w: Array) -> Array:
    """2 x 2 transposed convolution of stride 2: one BLAS product, then pixels interleaved."""
    c, k = w.shape[:2]
    h, width = x.shape[2:]
    product = w.reshape(c, k * 4).T @ x.reshape(c, h * width)
    pixels = product.reshape(k, 2, 2, h, width).transpose(0, 3, 1, 4, 2)
    y: Array = pixels.reshape(1, k, 2 * h, 2 * width)
    return y


def sum_tree(odds: Array, convolve: Callable[[Array, Array], Array]) -> Array:
    """Distribution of the sum of dice, added in pairs, then pairs of pairs."""
    level = list(odds)
    while len(level) > 1:
        odd = level[len(level) & ~1 :]
        level = [convolve(a, b) for a, b in zip(level[0::2], level[1::2])] + odd
    total: Array = level[0]
    return total


def sum_of_dice(odds: Array) -> Array:
    """The same by fastconv: all pairs of a level are the groups of one convolution."""
    count, faces = odds.shape
    level = np.zeros((1 << (count - 1).bit_length(), faces))
    level[:count] = odds
    level[count:, 0] = 1  # dice that always add nothing make the number of dice a power of two
    while len(level) > 1:
        x, w = level[None, 0::2], level[1::2, None, ::-1]
        pad = level.shape[1] - 1
        level = fastconv.conv1d(x, w, padding=pad, groups=len(w), accuracy="strict")[0]
    total: Array = level[0, : count * (faces - 1) + 1]
    return total


def _product_error(found: list[Candidate]) -> float:
    """Bound on the relative error of the tree: factors of a product carry the levels before."""
    error = 0.0
    for c in found:
        error = 2 * error + 2 * c.error_bound  # ours and the reference's
    return error


def strings(seconds: float, rate: int) -> Array:
    """Plucked strings by Karplus and Strong (Computer Music Journal 7, 1983), (samples, 2)."""
    random = np.random.default_rng(1680)
    chords = ("D2 D4 F#4 A4", "A2 E4 A4 C#5", "B2 D4 F#4 B4", "F#2 C#4 F#4 A4",
              "G2 D4 G4 B4", "D2 D4 F#4 A4", "G2 D4 G4 B4", "A2 E4 A4 C#5")  # fmt: skip
    sound = np.zeros((round(seconds * rate), 2))
    step = 60 / 256  # seconds from pluck to pluck: 32 chords of 8 notes are one minute
    names = [chord.split() for chord in chords]
    plucks: dict[str, Array] = {}
    for i in range(math.ceil(seconds / step)):
        chord = names[i // 8 % 8]
        name = chord[(0, 1, 2, 3, 2, 3, 2, 1)[i % 8]]
        if name not in plucks:
            plucks[name] = _pluck(_hertz(name), 2.5, rate, random)
        start = round(i * step * rate)
        note = plucks[name][: len(sound) - start, None]
        sound[start : start + len(note)] += note * ((0.8, 0.5) if i % 2 else (0.5, 0.8))
    sound *= 0.9 / np.abs(sound).max()
    return sound


def _hertz(name: str) -> float:
    semitone = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[name[0]] + ("#" in name)
    return float(440 * 2 ** ((semitone - 9) / 12 + int(name[-1]) - 4))


def _pluck(hertz: float, seconds: float, rate: int, random: np.random.Generator) -> Array:
    period = round(rate / hertz)
    loop = random.uniform(-1, 1, period)
    turns = []
    for _ in range(math.ceil(seconds * hertz)):
        turns.append(loop)
        loop = 0.4985 * (loop + np.roll(loop, 1))
    note = np.concatenate(turns)[: round(seconds * rate)]
    return note * np.linspace(1, 0, len(note))


def hall(seconds: float, rate: int) -> Array:
    """A made-up hall, (samples, 2): noise in octaves, the higher the sooner it dies."""
    random = np.random.default_rng(1898)
    t = np.arange(round(seconds * rate))[:, None] / rate
    echo = np.zeros((len(t), 2))
    for octave in range(6):
        low = 125.0 * 2**octave
        if 2 * low >= rate / 2:
            break
        band = scipy.signal.butter(2, (low, 2 * low), "bandpass", fs=rate, output="sos")
        noise = scipy.signal.sosfilt(band, random.standard_normal(echo.shape), axis=0)
        decay = seconds * (1.0, 0.95, 0.9, 0.75, 0.6, 0.4)[octave]
        echo += noise * 10 ** (-3 * t / decay)  # 60 dB in `decay` seconds
    echo[: round(0.01 * seconds * rate)] = 0  # the first reflection comes after 20 ms
    echo *= 0.9 / np.abs(echo).max()
    return echo


def _pcm(sound: Array) -> Array:
    """16-bit samples of sound in [-1, 1]."""
    samples: Array = np.rint(np.clip(sound, -1, 1) * 32767).astype(np.int16)
    return samples


def _total(network: str, rows: list[Row]) -> Row:
    """The layers of a network as one row."""
    methods = tuple(m for row in rows for m in row.methods)
    return Row("", f"{network}, forward", f"{len(rows)} layers", methods,
               sum(r.seconds for r in rows), rows[0].peer, sum(r.peer_seconds for r in rows),
               max(r.error for r in rows))  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    counts = collections.Counter(row.methods)
    methods = ", ".join(m if n == 1 else f"{n} {m}" for m, n in counts.most_common())
    colour = "green" if row.ratio >= 1 else "red"
    return (
        row.task, row.shape, methods, time_text(row.seconds), time_text(row.peer_seconds),
        f"[{colour}]{row.ratio:.3g}x[/]", f"{row.error:.1%}",
        "[green]ok[/]" if row.checked else "[bold red]WRONG[/]", row.peer,
    )  # fmt: skip


def time_text(seconds: float) -> str:
    """Seconds as a reader likes them: 12.3 ms."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
