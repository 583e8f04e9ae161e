"""What `fastconv report` shows of wisdom: machines and their roofs, problems, trials, regret.

    gather() -> Report -> page(), one HTML file that needs no other

The page, `report.html`, gets the report as JSON and draws it: nothing of it is computed there but
what a filter changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from fastconv import _calibration, _environment, _machine, _planner, _timer, _wisdom
from fastconv._calibration import COPIES, Calibration
from fastconv._problem import Problem, numpy_dtype
from fastconv._rows import Decision, Environment, Trial

#: Kernels up to this long a side have a row of the map each; longer ones share rows by powers of 2.
_ALONE = 8


@dataclasses.dataclass(frozen=True)
class Tried:
    """A trial; `seconds` is 0 where it was never timed, `note` why."""

    method: str
    config: str
    status: str
    seconds: float
    estimate: float
    note: str


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A decision with its trials.

    Attributes
    ----------
    machine : int
        Which of `Report.machines` it was timed on.
    text, dtype, threads
        Of the problem.
    kernel, channels : str
        Row and column of the map: dimensions and longest side, channels a group.
    kernel_order, channels_order : int
        What these are sorted by.
    intensity, rate : float
        Operations of the definition by bytes of x, w and y, and by seconds and threads.
    method, config, seconds, runner_up, margin, noise, effort, how, created
        Of the decision; `margin` is 0 where there was no rival.
    model : str
        The candidate that the cost model would choose.
    regret : float
        Its time over the least; 0 where it was not timed.
    trials : tuple of Tried
        Fastest first, then those that were never timed.
    """

    machine: int
    text: str
    dtype: str
    threads: int
    kernel: str
    kernel_order: int
    channels: str
    channels_order: int
    intensity: float
    rate: float
    method: str
    config: str
    seconds: float
    runner_up: str
    margin: float
    noise: float
    effort: int
    how: str
    created: str
    model: str
    regret: float
    trials: tuple[Tried, ...]


@dataclasses.dataclass(frozen=True)
class Place:
    """A machine as its environment has it, with the roofs of one core where it was calibrated.

    `peaks` are operations a second of matrix products by dtype, `copies` bytes a second by what
    holds the data: L2, L3, memory.
    """

    name: str
    here: bool
    facts: tuple[tuple[str, str], ...]
    peaks: Mapping[str, float]
    copies: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that is shown; `unused` counts decisions of solvers' other revisions."""

    path: str
    created: str
    version: str
    machines: tuple[Place, ...]
    problems: tuple[Tuned, ...]
    unused: int


def gather() -> Report:
    """All decisions of all layers, the user's before the site's, and what belongs to them.

    Calibrations are those beside the user's file.
    """
    here = _environment.environment(_machine.this_machine())
    environments: dict[str, Environment] = {}
    decisions: dict[tuple[str, str], Decision] = {}
    trials: dict[tuple[str, str], dict[tuple[object, ...], Trial]] = {}
    unused = 0
    for store in _wisdom.layers():
        for e in store.rows(Environment):
            environments.setdefault(e.id, e)
        for d in store.rows(Decision):
            if d.stale is not None:
                unused += 1
            else:
                decisions.setdefault((d.environment, d.problem), d)
        for t in store.rows(Trial):
            if t.stale is None:
                trials.setdefault((t.environment, t.problem), {}).setdefault(t.place, t)
    # this machine first, then those with more problems
    counts: dict[str, int] = {}
    for environment, _ in decisions:
        counts[environment] = counts.get(environment, 0) + 1
    ids = sorted(counts, key=lambda id: (id != here, -counts[id], id))
    calibrations = _calibration.everywhere()
    return Report(
        path=_wisdom.path(),
        created=_timer.date(),
        version=_machine.version("fastconv") or "",
        machines=tuple(_place(id, environments.get(id), calibrations, here) for id in ids),
        problems=tuple(
            _tuned(decision, ids.index(key[0]), key[0] == here, list(trials.get(key, {}).values()))
            for key, decision in sorted(decisions.items(), key=lambda item: item[0])
        ),
        unused=unused,
    )


def _place(
    id: str, found: Environment | None, calibrations: Mapping[str, Calibration], here: str
) -> Place:
    identity = {} if found is None else dict(found.identity)
    provenance = {} if found is None else dict(found.provenance)
    # data that is found in cache or not is no matter of the machine
    warm = {name: value for name, value in identity.items() if name != "cache"}
    calibration = calibrations.get(_environment.id_of(warm))
    facts: dict[str, str | int] = {}
    for name in ("processor", "virtual"):
        if name in provenance:
            facts[name] = provenance.pop(name)
    names = {"blas": "BLAS", "fft": "FFT"}
    facts |= {
        names.get(name, name): value
        for name, value in identity.items()
        if name not in ("tuning", "l3")
    }
    if isinstance(identity.get("l3"), int):
        facts["L3"] = f"{int(identity['l3']) / 2**20:.3g} MiB"
    facts |= {name: provenance[name] for name in sorted(provenance) if name != "host"}
    facts["environment"] = id
    return Place(
        name=str(facts.get("processor") or facts.get("machine") or id),
        here=id == here,
        facts=tuple((name, str(value)) for name, value in facts.items()),
        peaks={} if calibration is None else dict(calibration.products),
        copies={} if calibration is None else {
            name: calibration.copies[size]
            for size, name in zip(COPIES, ("L2", "L3", "memory")) if size in calibration.copies
        },
    )  # fmt: skip


def _tuned(d: Decision, machine: int, here: bool, rows: Sequence[Trial]) -> Tuned:
    problem = Problem.parse(d.problem)
    threads = d.config.get("threads", problem.threads)
    kernel_order, kernel = _kernel(problem)
    channels_order, channels = _channels(problem)
    trials = sorted(rows, key=lambda t: (t.seconds == 0, t.seconds, t.estimate, t.place))
    model = _model(problem, here, trials)
    took = {(t.solver, _words(t.config)): t.seconds for t in trials}
    chosen = took.get(model, 0.0) if model is not None else 0.0
    least = min([d.seconds, *(seconds for seconds in took.values() if seconds)])
    return Tuned(
        machine=machine, text=d.problem, dtype=problem.dtype, threads=problem.threads,
        kernel=kernel, kernel_order=kernel_order, channels=channels, channels_order=channels_order,
        intensity=_short(problem.flops / max(1, _bytes(problem))),
        rate=_short(problem.flops / d.seconds / max(1, int(threads))),
        method=d.solver, config=_words(d.config), seconds=_short(d.seconds),
        runner_up=d.runner_up, margin=_short(d.margin), noise=_short(d.noise), effort=d.effort,
        how=d.how, created=d.created,
        model=" ".join(model).rstrip() if model else "", regret=_short(chosen / least),
        trials=tuple(
            Tried(
                t.solver, _words(t.config), t.status, _short(t.seconds), _short(t.estimate), t.note
            )
            for t in trials
        ),
    )  # fmt: skip


def _short(value: float) -> float:
    """Four digits: more were not measured, and a page has thousands of them."""
    return float(f"{value:.4g}")


def _words(config: Mapping[str, object]) -> str:
    """In one order, so that equal settings have equal texts."""
    return " ".join(f"{name}={value}" for name, value in sorted(config.items()))


def _bytes(p: Problem) -> int:
    """Of the three arrays as they are stored: what cannot but be moved."""
    return sum(
        math.prod(shape) * (2 if dtype == "bf16" else numpy_dtype(dtype).itemsize)
        for shape, dtype in (
            (p.x_shape, p.x_dtype), (p.w_shape, p.w_dtype), (p.y_shape, p.y_dtype)
        )
    )  # fmt: skip


def _range(value: int) -> str:
    """The numbers with as many binary digits."""
    low = 1 << max(0, value.bit_length() - 1)
    return str(low) if low < 2 else f"{low}-{2 * low - 1}"


def _kernel(p: Problem) -> tuple[int, str]:
    longest = max(p.kernel)
    size = str(longest) if longest <= _ALONE else _range(longest)
    order = longest if longest <= _ALONE else _ALONE + longest.bit_length()
    return 1000 * p.ndim + order, f"{p.ndim}-D {size}"


def _channels(p: Problem) -> tuple[int, str]:
    each = p.channels // p.groups
    return each.bit_length(), _range(each) if each else "0"


def _model(problem: Problem, here: bool, trials: Sequence[Trial]) -> tuple[str, str] | None:
    """What the model would choose now, as solver and config, or had chosen where it was timed.

    What was expected elsewhere is known only by its trials' estimates, in which those of solvers
    that were passed over are as they stand, uncorrected.
    """
    if here:
        with contextlib.suppress(ValueError, MemoryError), _planner.autotune("off"):
            c = _planner.choose(problem).candidate
            return c.method, _words(c.config)
    estimated = [t for t in trials if t.estimate > 0]
    if not estimated:
        return None
    t = min(estimated, key=lambda t: t.estimate)
    return t.solver, _words(t.config)


@dataclasses.dataclass(frozen=True)
class Regret:
    """Of the model over problems: geometric mean, 95th percentile, worst, and of how many."""

    mean: float
    p95: float
    worst: float
    count: int


def regret(problems: Iterable[Tuned]) -> Regret | None:
    """None where the model's choice was timed for none of them."""
    found = sorted(p.regret for p in problems if p.regret)
    if not found:
        return None
    mean = math.exp(sum(map(math.log, found)) / len(found))
    return Regret(mean, found[math.ceil(0.95 * len(found)) - 1], found[-1], len(found))


def page(report: Report) -> str:
    """The report as one HTML file."""
    text = json.dumps(dataclasses.asdict(report), separators=(",", ":"))
    # within a script only "<" can end it, or begin a comment
    text = text.replace("<", "\\u003c")
    template = pathlib.Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    before, after = template.split("@REPORT@")
    return before + text + after
