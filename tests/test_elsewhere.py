"""Drivers and kernels outside Python: NEON under an emulator, every buffer's bounds, races.

Compiles `driver_main.c` with the sources of the extension, sends it problems and checks what comes
back. Skipped, with the reason, where the compiler, its sanitizers or the emulator are not there.
"""

from __future__ import annotations

import ast
import itertools
import os
import pathlib
import platform
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from problems import (
    CPU,
    EMULATED_GRADIENT,
    MIXING,
    PROBLEMS,
    Array,
    arrays,
    check,
    mixed_magnitude,
    parsed,
    solved,
)

import fastconv
from fastconv._accuracy import epsilon
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config, Solver
from fastconv.solvers import _driver

EXT = pathlib.Path(fastconv.__file__).parent / "_ext"
TESTS = pathlib.Path(__file__).parent

#: BLAS belongs to SciPy, which is not here; naive is what the others are compared with elsewhere;
#: tiles are granted to processes that have asked, and emulated for those that have not.
_NOT_ELSEWHERE = ("im2col", "naive", "amx_split", "amx_int8", "amx_winograd", "amx_gradient")
ELSEWHERE = [s for s in CPU if s.name not in _NOT_ELSEWHERE]


def table(name: str) -> Any:
    """A table of setup.py, which cannot be imported without what it builds with."""
    tree = ast.parse((EXT.parent.parent / "setup.py").read_text())
    assigned = [n for n in tree.body if isinstance(n, ast.Assign)]
    return next(
        ast.literal_eval(n.value)
        for n in assigned
        if isinstance(n.targets[0], ast.Name) and n.targets[0].id == name
    )


def test_every_instruction_set_was_built() -> None:
    """What does not compile for one is left out of a build, with a line on stderr alone."""
    assert set(core.compiled_isas()) == set(table("ISAS")[platform.machine()])


#: Run here without hardware for it.
LOWERED = ["avx512"] if "avx2" in core.isas() and "avx512" not in core.isas() else []

#: What each program is run with.
HERE, NEON = [*core.isas(), *LOWERED], ["neon"]

#: Of the problems of tiles in memory so many or a few more are run under QEMU. No processor with
#: NEON has tiles: they only show that their C is portable, and were a third of all that ran there.
FEW = 8


def build(
    folder: pathlib.Path, compiler: list[str], machine: str, flags: list[str], run: list[str]
) -> str:
    """The program for one target: kernels once per instruction set, as setup.py does.

    Those of sets that are not in `run` must be there, but are not optimised, which would take as
    long as those that are. AVX-512's are compiled for AVX2, with its intrinsics lane by lane, where
    this machine lacks it.
    """
    isas = table("ISAS")[machine]
    if machine == platform.machine():
        isas = {isa: isas[isa] for isa in (*core.isas(), *LOWERED)}
        for isa in LOWERED:
            isas[isa] = [*isas["avx2"], "-include", str(TESTS / f"lowered_{isa}.h")]
            flags = [*flags, "-D__builtin_cpu_supports(isa)=1"]
    flags = [*table("FLAGS"), f"-I{EXT}", *flags]
    objects, have = [], []
    for isa, isa_flags in isas.items():
        have.append(f"-DFC_HAVE_{isa}")
        for source in sorted((EXT / "kernels").glob("*.c")):
            objects.append(str(folder / f"{source.stem}.{isa}.o"))
            defined = [f"-DFC_ISA={isa}", f"-DFC_ISA_{isa}"]
            if isa not in run:
                defined += ["-O1", "-DFC_INLINE=static"]
            subprocess.run(
                [*compiler, "-c", *flags, *isa_flags, *defined, str(source), "-o", objects[-1]],
                check=True,
            )
    program = str(folder / "driver_main")
    sources = [EXT / "isa.c", *sorted((EXT / "drivers").glob("*.c")), TESTS / "driver_main.c"]
    subprocess.run(
        [*compiler, *flags, *have, *map(str, sources), *objects, "-lm", "-o", program], check=True
    )
    return program


def compiles(compiler: list[str], folder: pathlib.Path) -> bool:
    """Whether a program that does nothing can be built, with these flags."""
    source = folder / "nothing.c"
    source.write_text("int main(void) { return 0; }\n")
    command = [*compiler, str(source), "-o", str(folder / "nothing")]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def neon(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("no compiler for aarch64 (aarch64-linux-gnu-gcc) or no qemu-aarch64")
    folder = tmp_path_factory.mktemp("neon")
    return [emulator, build(folder, [compiler, "-static"], "aarch64", ["-w"], NEON)]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("sanitized")
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compiler = shutil.which(os.environ.get("CC", "gcc").split()[-1])
    if compiler is None or not compiles([compiler, *checks], folder):
        pytest.skip("no compiler with address and undefined-behaviour sanitizers")
    flags = [*checks, "-g1", "-w", "-O1", "-DFC_INLINE=static"]
    return [build(folder, [compiler], platform.machine(), flags, HERE)]


def test_the_pool_has_no_races(tmp_path: pathlib.Path) -> None:
    """Calls of several threads at once, one after the other, under a thread sanitizer."""
    checks = ["-fsanitize=thread", "-g1", "-O1", "-w"]
    compiler = shutil.which(os.environ.get("CC", "gcc").split()[-1])
    if compiler is None or not compiles([compiler, *checks], tmp_path):
        pytest.skip("no compiler with a thread sanitizer")
    if subprocess.run([tmp_path / "nothing"], capture_output=True).returncode:
        pytest.skip("the thread sanitizer does not run on this system")
    sources = [EXT / "drivers" / "parallel.c", EXT / "drivers" / "flush.c", TESTS / "pool_main.c"]
    program = str(tmp_path / "pool_main")
    command = [compiler, *checks, f"-I{EXT}", *map(str, sources), "-lpthread", "-o", program]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def record(call: tuple[Any, ...], isa: str, threads: int, bias: bool) -> str:
    """The line that driver_main.c reads for one `core.Call`."""
    driver, _, problem, values, _, *stored = call
    accumulator = problem.accumulator.replace("i", "u")
    x_dtype = stored[0].replace("bool", "u8") if stored and stored[0] else problem.accumulator
    if x_dtype == problem.accumulator:
        x_dtype = accumulator
    groups = problem.groups
    axes = (problem.size, problem.kernel, problem.out, problem.stride, problem.dilation,
            problem.input_dilation, (lo for lo, _ in problem.padding))  # fmt: skip
    cval = complex(problem.cval) if problem.boundary == "constant" else 0j
    exact = int(cval.real) & (2**64 - 1) if problem.is_exact else 0
    fields = [
        driver, isa, problem.ndim, problem.batch, problem.channels // groups,
        problem.filters // groups, groups, *itertools.chain(*axes),
        core.DTYPES.index(accumulator), core.STORED.index(x_dtype), core.DTYPES.index(accumulator),
        core.BOUNDARIES.index(problem.boundary), cval.real, cval.imag,
        exact - 2**64 if exact >= 2**63 else exact,
        *values, *(0,) * (8 - len(values)), threads, int(bias),
    ]  # fmt: skip
    return " ".join(map(str, fields)) + "\n"


def calls(
    solver: Solver, problem: Problem, config: Config, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Any, ...]]:
    """What the solver's plan asks of the extension, the fallback to naive left out."""
    asked: list[tuple[Any, ...]] = []
    with monkeypatch.context() as patch:
        patch.setattr(_driver.core, "Call", lambda *arguments: asked.append(arguments))
        solver.plan(problem, config, this_machine())
    return [call for call in asked if call[0] != "naive"]


def plain(text: str) -> bool:
    """Whether a problem is one call of a driver on dense arrays of the dtype computed in, or
    narrower integers."""
    p = parsed(text)
    whole = p.layout == "NC*" and max(p.input_dilation) == 1 and not p.flip and p.dtype != "bool"
    return whole and p.y_dtype == p.dtype and (p.is_exact or p.x_dtype == p.w_dtype == p.dtype)


def run_all(
    program: list[str], isas: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Solver, Problem, str, str, float, Array]]:
    """Every driver's problems, a process for each solver: what was run, and y."""
    monkeypatch.setattr(EMULATED_GRADIENT, "most", 40)  # which take 1 ms each under QEMU
    for solver in ELSEWHERE:
        cases, sent = [], []
        texts = [t for t in filter(plain, PROBLEMS) if solver.why_not(parsed(t)) is None]
        if isas == NEON and getattr(solver, "emulated", False):
            texts = texts[:: max(1, len(texts) // FEW)]
        for text in texts:
            problem = Problem.parse(text)  # anew: it keeps the calls that are asked for
            if solver.name == "winograd_pairs" and problem.w_dtype == "i16":
                continue  # weights larger than it multiplies, which its plan gives to pairs
            offered = {str({**c, "isa": ""}): c for c in solver.configs(problem, this_machine())}
            for config in offered.values():
                # asked for once: the call of a problem is kept
                asked = calls(solver, problem, config, monkeypatch)
                for call, isa in itertools.product(asked, isas):
                    x, w, bias = arrays(problem)
                    threads = 1 + len(cases) % 3
                    line = record(call, isa, threads, True).encode()
                    # a solver's fallback may read converted samples where it reads them as stored
                    stored = call[5] if len(call) > 5 and call[5] else problem.accumulator
                    x, w = x.astype(numpy_dtype(stored)), w.astype(numpy_dtype(problem.dtype))
                    sent.append(line + x.tobytes() + w.tobytes() + bias.tobytes())
                    bound = solver.error_bound(problem, config) + epsilon(problem)
                    cases.append((solver, problem, text, isa, bound))
        if not cases:
            continue
        done = subprocess.run(program, input=b"".join(sent), capture_output=True)
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{solver.name}: {said[-4000:]}"
        at = 0
        for case in cases:
            dtype, shape = numpy_dtype(case[1].dtype), case[1].y_shape
            count = int(np.prod(shape))
            y = np.frombuffer(done.stdout, dtype, count, at).reshape(shape)
            at += y.nbytes
            yield (*case, y)
        assert at == len(done.stdout)


def check_all(program: list[str], isas: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: dict[tuple[str, str], int] = {}
    for solver, problem, text, isa, bound, y in run_all(program, isas, monkeypatch):
        x, w, _ = arrays(problem)
        mixed = mixed_magnitude(problem, x, w) if solver.name in MIXING else None
        check(problem, y, solved(text, True), bound, mixed, f"{solver.name} on {isa}")
        ran[solver.name, isa] = ran.get((solver.name, isa), 0) + 1
    assert min(ran.values()) >= 5, ran
    for isa in isas:
        assert {("direct", isa), ("winograd", isa)} <= ran.keys(), ran


def test_neon(neon: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    check_all(neon, NEON, monkeypatch)


def test_bounds_of_buffers(sanitized: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    check_all(sanitized, HERE, monkeypatch)
