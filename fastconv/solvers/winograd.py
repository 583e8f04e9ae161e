"""winograd: fewer products for kernels along one or two axes, guarded."""

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
from fastconv.solvers._tiles import (
    LONGEST,
    bound,
    error_parts,
    multiplied,
    outputs,
    points_of,
    summed,
    taps_of,
    tiles_of,
    transformed,
)

#: Measured GFLOP/s of one core in the products (EPYC 9004; avx2: EPYC 7003), bytes of a vector, and
#: nanoseconds that a vector of a point takes in the transform of the input, and of the output.
_RATES = {
    "avx512": (104, 64, 5.3, 4.6),
    "avx2": (96, 32, 3.5, 3.0),
    "neon": (50, 16, 4.0, 3.0),
    "baseline": (38, 16, 4.0, 3.0),
}

#: Bytes of weights a second that come from L3 beside the products, 90e9 elsewhere: 3x3 stride 2,
#: 128 to 256 @ 52x52, reads 13 MB four times and takes 5.1 to 7.6 ms on a Zen 3, products 2.7.
_FROM_L3 = {"avx2": 35e9}

#: Blocks that larger ones leave (BLOCKS of winograd_plan.c).
_BLOCKS = 16


class Winograd(Polyphase):
    name = "winograd"
    mixes_windows = True
    paper = (
        "Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; error analysis"
        " after Barabasz et al., ACM TOMS 46(4), 2020"
    )
    revision = 4
    scatter = 1.5e-9

    def why_not_dense(self, problem: Problem) -> str | None:
        if problem.device != "cpu":
            return "it runs on the CPU only"
        if problem.dtype not in ("f32", "f64"):
            return f"its transforms are for f32 and f64, not {problem.dtype}"
        if not transformed(problem):
            return f"no axis has 2 to {LONGEST} taps a phase, and stride or dilation 1"
        reach = [d * (r - 1) for d, r in zip(problem.dilation, problem.kernel)]
        if problem.boundary == "zeros" and any(max(p) > d for p, d in zip(problem.padding, reach)):
            # each such output has no correct digit and is summed again: 24 pictures of 8x8, 256
            # filters of 8x8, padding 9 took 130 ms instead of 0.6
            return "windows lie wholly in the padding"
        if problem.accuracy == "strict":
            return "its error is relative to a tile of the input, not to an output's own window"
        return None

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        sizes = (4, 2) if outputs(problem, 4) != outputs(problem, 2) else (2,)
        # tiles of 3 where they need fewer products than those of 4: 3, 5, 6 or 9 outputs a phase
        if problem.is_dense and _products(problem, 3) < _products(problem, 4):
            sizes = (3, *sizes)
        return [
            {"isa": isa, "m": m, "cache_bytes": machine.l2 // 2}
            for isa in core.offered_isas()
            for m in sizes
        ]

    def cost_dense(self, problem: Problem, config: Config, machine: Machine) -> float:
        gflops, vector, in_ns, out_ns = _RATES[str(config["isa"])]
        size = problem.itemsize
        made = outputs(problem, int(config["m"]))
        channels, filters = (n // problem.groups for n in (problem.channels, problem.filters))
        depths = summed(problem, made)
        points = math.prod(points_of(problem, made))
        # tiles of a run: phases of a dilated axis are neighbours where they fill a vector
        lanes = vector // size
        out, o, l = problem.out[-1], made[-1], problem.dilation[-1]
        run = out if o == 1 else -(-out // (o * l)) if l < lanes else min(l, out)
        tiles = problem.batch * tiles_of(problem, made)
        vectors = -(-tiles // lanes)
        rows = 8 if config["isa"] in ("avx512", "neon") else 6
        fewest, most = (1, 3) if rows == 8 else (2, 2)
        room = int(config["cache_bytes"]) // (points * depths * vector)
        weights = points * depths * -(-filters // rows) * rows * size
        block = max(fewest, min(most, room))
        if weights > int(config["cache_bytes"]):  # they pass by for several register tiles
            block = max(block, min(room, vectors // _BLOCKS) // most * most)
        blocks = -(-vectors // block)
        # half a vector takes half the time where a vector is 64 bytes
        whole = vectors - (0.5 if vector == 64 and 0 < tiles % lanes <= lanes // 2 else 0)
        products = 2 * whole * lanes * weights / size / (gflops * 1e9 * 4 / size)
        share = multiplied(problem, made)
        products *= share
        # segments of a vector: about 17 ns each beyond the first
        pieces = 17 * max(0.0, lanes / run - 1)
        # and samples that do not follow each other are gathered: every other by shuffles, others
        # one by one, as are those beyond the ends of a row where these are not constant
        dilation = problem.dilation[-1] if made[-1] > 1 and problem.dilation[-1] < lanes else 1
        apart = problem.stride[-1] * dilation
        singly = 0.2 * (apart == 2)
        if apart > 2 or problem.layout == "N*C":
            singly = 0.5
        singly += 0.3 * (problem.boundary not in ("zeros", "constant"))
        if made[-1] == 1:  # lines of points that do not lie along rows
            in_ns, out_ns = 2 * in_ns, 2 * out_ns
        inputs = vectors * depths * (points * (in_ns + singly * lanes) + pieces) * 1e-9
        outputs_ = vectors * filters * (points * out_ns + pieces) * 1e-9
        if dilation > 1:  # stored one by one
            outputs_ += tiles * math.prod(made) * filters * 0.35e-9
        # weights are read anew for each block, from L3 beside the products, from memory slower;
        # those of many sections hide where L3 has room: 3x3 stride 2, 128 @ 56x56, reads 5.5 MB 4
        # times, and products, 1.6 ms by their rate, take 1.7
        if weights > machine.l2 // 2:
            hidden = max(problem.stride) > 1 and weights <= machine.l3 // 4
            rate = 90e9 if hidden else _FROM_L3.get(str(config["isa"]), 90e9)
            products += (
                share
                * weights
                * blocks
                / min(rate, 20e9 if weights > machine.l3 * 3 // 4 else rate)
            )
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


def _products(problem: Problem, m: int) -> int:
    """Products of a channel and a filter, for each of what is summed."""
    made = outputs(problem, m)
    return tiles_of(problem, made) * math.prod(points_of(problem, made))


def _values(problem: Problem, config: Config) -> tuple[int, ...]:
    m = int(config["m"])
    _, transform, addition = (math.ceil(1000 * e) for e in error_parts(problem, m))
    made = outputs(problem, m)
    r = taps_of(problem)
    tiles = sum((made[d] + (r[d] << 4)) << 8 * d for d in transformed(problem))
    return int(config["cache_bytes"]), transform, tiles, addition
