"""winograd: fewer products for kernels of 2 to 5 taps, or as many a phase, guarded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastconv._accuracy import epsilon
from fastconv._ext import core
from fastconv._machine import Machine
from fastconv._plan import Plan
from fastconv._problem import Problem
from fastconv._solver import Config
from fastconv.solvers._driver import DriverPlan, driver_bytes, useful_threads
from fastconv.solvers._polyphase import Polyphase

#: Taps r of an axis and config m -> outputs of a tile along it (fc_lines of fc.h).
_OUTPUTS = {2: {4: 4, 2: 4}, 3: {4: 4, 2: 2}, 4: {4: 3, 2: 3}, 5: {4: 2, 2: 2}}

#: Outputs and taps -> how much the transforms along one axis can make of a rounding error, K of
#: docs/accuracy.md.
_GROWTH = {(4, 2): 7.7, (2, 3): 4.0, (4, 3): 14.3, (3, 4): 15.3, (2, 5): 16.7}

#: Channels that the driver sums at a time (FC_WINOGRAD_CHANNELS of fc.h), and what each addition
#: adds to the error, in eps B: the largest seen was 0.022, for data of one sign.
_CHANNELS, _ADDITION = 32, 0.06


def taps_of(problem: Problem) -> tuple[int, ...]:
    """Taps of each axis that a transform would have: those of the longest of u phases."""
    return tuple(-(-k // u) for k, u in zip(problem.kernel, problem.stride))


def transformed(problem: Problem) -> tuple[int, ...]:
    """The axes that are transformed: the innermost and the one before it, where they can be."""
    can = [d for d, r in enumerate(taps_of(problem)) if r in _OUTPUTS]
    can = [d for d in can if problem.stride[d] == 1 or problem.dilation[d] == 1]
    return tuple(can[-2:] if problem.ndim - 1 in can else can[-1:])


def outputs(problem: Problem, m: int) -> tuple[int, ...]:
    """Outputs of a tile along each axis; 1 where it is not transformed."""
    made = [1] * problem.ndim
    for d in transformed(problem):
        made[d] = _OUTPUTS[taps_of(problem)[d]][m]
    return tuple(made)


def summed(problem: Problem, made: Sequence[int]) -> int:
    """What is summed of each point: channels of a group, taps of the axes that are not transformed,
    and phases of those that are."""
    axes = zip(problem.kernel, problem.stride, made)
    return problem.channels // problem.groups * math.prod(k if o == 1 else u for k, u, o in axes)


def points_of(problem: Problem, made: Sequence[int]) -> tuple[int, ...]:
    """Points of each axis that is transformed."""
    return tuple(o + r - 1 for r, o in zip(taps_of(problem), made) if o > 1)


def error_parts(problem: Problem, m: int) -> tuple[float, float, float]:
    """Errors, in eps: of the transforms, relative to what they can make of one rounding error for
    any filter, and for the filter at hand; and of sums over channels, relative to B."""
    made = outputs(problem, m)
    channels = summed(problem, made)
    additions = min(channels, _CHANNELS) + channels / _CHANNELS
    # a quarter more than the largest found by climbing: docs/accuracy.md
    points = points_of(problem, made)
    any_filter, this_filter = (
        (1.4, 2.0) if len(points) == 1 else (0.6, 0.9) if points == (6, 6) else (1.0, 1.6)
    )
    return any_filter, this_filter, _ADDITION * additions


def bound(problem: Problem, m: int) -> float:
    """Bound on abs(error) / B, in eps; B is the largest abs(x) of a tile times sum(abs(w))."""
    transform, _, addition = error_parts(problem, m)
    made = outputs(problem, m)
    growth = (_GROWTH[made[d], taps_of(problem)[d]] for d in transformed(problem))
    return transform * math.prod(growth) + addition


#: Measured GFLOP/s of one core in the products (EPYC 9004; avx2: EPYC 7003), bytes of a vector, and nanoseconds that
#: a vector of a point takes in the transform of the input, and of the output.
_RATES = {
    "avx512": (104, 64, 5.3, 4.6),
    "avx2": (96, 32, 3.5, 3.0),
    "neon": (50, 16, 4.0, 3.0),
    "baseline": (38, 16, 4.0, 3.0),
}


class Winograd(Polyphase):
    name = "winograd"
    paper = (
        "Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; error analysis"
        " after Barabasz et al., ACM TOMS 46(4), 2020"
    )
    revision = 3
    scatter = 1.5e-9

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64"):
            return f"its transforms are for f32 and f64, not {problem.dtype}"
        if not transformed(problem):
            return "no axis has 2 to 5 taps, or as many a phase of its stride and no dilation"
        if problem.accuracy == "strict":
            return "its error is relative to a tile of the input, not to an output's own window"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        several = outputs(problem, 4) != outputs(problem, 2)
        return [
            {"isa": isa, "m": m, "cache_bytes": machine.l2 // 2}
            for isa in core.offered_isas()
            for m in ((4, 2) if several else (2,))
        ]

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        gflops, vector, in_ns, out_ns = _RATES[str(config["isa"])]
        size = problem.itemsize
        made = outputs(problem, int(config["m"]))
        channels, filters = (n // problem.groups for n in (problem.channels, problem.filters))
        depths = summed(problem, made)
        points = math.prod(points_of(problem, made))
        # tiles of each axis; those of a dilated one start anew in each of its phases
        tiles, run = problem.batch, 1
        for out, o, l in zip(problem.out, made, problem.dilation):
            run = out if o == 1 else -(-out // (o * l)) if l == 1 else min(l, out)
            tiles *= out if o == 1 else min(l, out) * -(-out // (min(l, out) * o))
        lanes = vector // size
        vectors = -(-tiles // lanes)
        rows = 8 if config["isa"] in ("avx512", "neon") else 6
        fewest, most = (1, 3) if rows == 8 else (2, 2)
        room = int(config["cache_bytes"]) // (points * depths * vector)
        blocks = -(-vectors // max(fewest, min(most, room)))
        weights = points * depths * -(-filters // rows) * rows * size
        # half a vector takes half the time where a vector is 64 bytes
        multiplied = vectors - (0.5 if vector == 64 and 0 < tiles % lanes <= lanes // 2 else 0)
        products = 2 * multiplied * lanes * weights / size / (gflops * 1e9 * 4 / size)
        # segments of a vector: about 17 ns each beyond the first
        pieces = 17 * max(0.0, lanes / run - 1)
        if max(problem.dilation) > 1:
            pieces *= 4  # each point's
        # and samples that do not lie in rows, or are beyond the ends of these, come one by one
        dense = problem.stride[-1] == 1 and problem.layout != "N*C"
        dense = dense and problem.boundary in ("zeros", "constant")
        if made[-1] == 1:  # lines of points that do not lie along rows
            in_ns, out_ns = 2 * in_ns, 2 * out_ns
        point = in_ns if dense else in_ns + 1.5 * lanes
        inputs = vectors * depths * (points * point + pieces) * 1e-9
        outputs_ = vectors * filters * (points * out_ns + pieces) * 1e-9
        # weights are read anew for each block, from L3 beside the products, from memory slower
        if weights > machine.l2 // 2:
            products += weights * blocks / (20e9 if weights > machine.l3 * 3 // 4 else 90e9)
        moved = size * (math.prod(problem.x_shape) + math.prod(problem.y_shape))
        memory = moved / 10e9 if moved > machine.l3 // 4 else 0.0
        threads = min(useful_threads(problem), machine.cores)
        if blocks * problem.groups < threads:  # each transforms its input by itself
            inputs *= threads
        work = problem.groups * (products + inputs + outputs_) + memory
        seconds = 2e-6 + 1.5e-6 * blocks * problem.groups + work / threads
        if threads > 1:
            seconds += 4e-6
        if not problem.prepared:
            taps = math.prod(problem.kernel) * channels / depths
            filters_packed = problem.filters * depths
            seconds += 1e-6 + filters_packed * ((0.35 * taps + 0.17 * points) * 1e-9)
            packed = problem.groups * weights + filters_packed * taps * size
            seconds += packed / (20e9 if packed < machine.l3 // 2 else 8e9)
        return seconds

    def workspace_dense(self, problem: Problem, config: Config) -> int:
        return driver_bytes(problem, self, "winograd", str(config["isa"]), _values(problem, config))

    def error_bound(self, problem: Problem, config: Config) -> float:
        return bound(problem, int(config["m"])) * epsilon(problem)

    def plan_dense(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        return DriverPlan(problem, self, config, "winograd", _values(problem, config))


def _values(problem: Problem, config: Config) -> tuple[int, ...]:
    m = int(config["m"])
    _, transform, addition = (math.ceil(1000 * e) for e in error_parts(problem, m))
    made = outputs(problem, m)
    tiles = sum(made[d] << 8 * d for d in transformed(problem))
    return int(config["cache_bytes"]), transform, tiles, addition
