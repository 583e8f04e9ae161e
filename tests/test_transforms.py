"""Libraries of transforms: alike where installed, imported late, told of threads, and forgotten."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
from problems import arrays, oracle

from fastconv import _wisdom
from fastconv._machine import this_machine
from fastconv._planner import candidates, choose
from fastconv._problem import Problem
from fastconv.solvers import BY_NAME, _transforms
from fastconv.solvers._transforms import LIBRARIES, Library, Transforms

Array = npt.NDArray[Any]

PROBLEM = Problem.parse("conv2d f32 n1 c1 h90 w91 k1 r21 s23 p10 threads3")

#: Every kind of transform beside SciPy's, of lines that are cut, extended, and neither, along every
#: axis, in one process for each library: FFTW does not work in one that has loaded MKL.
_ALIKE = """
import sys
import numpy as np, scipy.fft
from fastconv.solvers._transforms import SCIPY, transforms

name = sys.argv[1]
by = transforms(name)
assert by is not SCIPY, "it could not be loaded"
rng = np.random.default_rng(0)
for dtype in "fdFD":
    eps = np.finfo(dtype).eps
    for axis in (-3, 0, 1, 2, -1):
        for n in (6, 7, 10, 12, 45):
            x = rng.standard_normal((7, 10, 12)).astype(dtype)
            if dtype in "FD":
                x = x + 1j * rng.standard_normal(x.shape).astype(x.real.dtype)
            for workers in (1, 2):
                for a in (x, x[::-1, :, ::2]):
                    before = a.copy()
                    if dtype in "fd":
                        pairs = [(t.rfft(a, n, axis, workers=workers),
                                  t.irfft(a + 0j, n, axis, workers=workers)) for t in (by, SCIPY)]
                    else:
                        pairs = [(t.fft(a, n, axis=axis, workers=workers),
                                  t.ifft(a, n, axis=axis, workers=workers)) for t in (by, SCIPY)]
                    assert (a == before).all(), "its operand is the caller's"
                    for mine, right in zip(*pairs):
                        assert mine.dtype == right.dtype and mine.shape == right.shape
                        assert abs(mine - right).max() <= 8 * eps * abs(right).max()
                    if dtype in "FD":
                        for t, right in (("fft", pairs[1][0]), ("ifft", pairs[1][1])):
                            own = a.copy()
                            mine = getattr(by, t)(own, n, axis=axis, overwrite_x=True, workers=1)
                            assert abs(mine - right).max() <= 8 * eps * abs(right).max()
print("alike")
"""


@pytest.mark.parametrize("name", LIBRARIES)
def test_alike(name: str) -> None:
    missing = [p for p in LIBRARIES[name].packages if importlib.util.find_spec(p) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ALIKE, name], text=True, capture_output=True,
        check=False, env=os.environ,
    )  # fmt: skip
    assert done.stdout == "alike\n", done.stderr


@dataclasses.dataclass
class Fake:
    """A library that is there for a while, and what was asked of it."""

    loads: int = 0
    workers: list[int] = dataclasses.field(default_factory=list)

    def load(self) -> Transforms:
        self.loads += 1

        def counted(function: Callable[..., Array]) -> Callable[..., Array]:
            @functools.wraps(function)
            def call(*args: Any, **options: Any) -> Array:
                self.workers.append(options["workers"])
                return function(*args, **options)

            return call

        names = ("rfft", "irfft", "fft", "ifft")
        return Transforms(*(counted(getattr(scipy.fft, name)) for name in names))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    made = Fake()
    monkeypatch.setattr(_transforms, "LIBRARIES", {"ducc0": Library((), made.load)})
    monkeypatch.setattr(_transforms, "installed", lambda: ("ducc0",))
    _transforms.transforms.cache_clear()
    yield made
    _transforms.transforms.cache_clear()


def test_offered_unseen_and_told_of_threads(fake: Fake) -> None:
    configs = [c.config for c in candidates(PROBLEM) if c.method == "fft"]
    assert {"library": "ducc0"} in configs and {"library": "ducc0", "threads": 1} in configs
    assert fake.loads == 0, "listing imports nothing"
    x, w, _ = arrays(PROBLEM)
    right, _ = oracle(PROBLEM, x, w)
    for threads in (1, 3):
        problem = PROBLEM.replace(threads=threads)
        plan = choose(problem, method="fft", config={"library": "ducc0"}).plan
        fake.workers.clear()
        y = np.empty(problem.y_shape, "f4")
        plan(x, plan.pack_stored(w), None, y)
        bound = plan.solver.error_bound(problem, plan.config) * abs(x).max() * abs(w).sum()
        assert abs(y - right).max() <= bound
        assert len(fake.workers) >= 6 and set(fake.workers) == {min(threads, this_machine().cores)}
    assert fake.loads == 1


def test_long_doubles_are_scipys(fake: Fake) -> None:
    problem = Problem.parse("conv1d f80 n1 c1 w300 k1 s20")
    assert BY_NAME["fft"].configs(problem, this_machine()) == [{}]


def test_wisdom_of_a_library_that_is_gone(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    found = next(c for c in candidates(PROBLEM) if c.config == {"library": "ducc0"})
    timed = dataclasses.replace(found, seconds=1e-9, source="timed")
    _wisdom.clear()
    try:
        _wisdom.remember([timed], this_machine())
        assert choose(PROBLEM).candidate.config == {"library": "ducc0"}
        monkeypatch.setattr(_transforms, "installed", lambda: ())
        gone = choose(PROBLEM)
        assert gone.candidate.source == "model" and "library" not in gone.candidate.config
        with pytest.raises(ValueError, match="expected a config of fft"):
            choose(PROBLEM, method="fft", config={"library": "ducc0"})
    finally:
        _wisdom.clear()


@pytest.mark.parametrize("error", [ImportError, RuntimeError, OSError])
def test_a_library_that_does_not_work_is_scipy(
    error: type[Exception], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> Transforms:
        raise error("as when a shared object is missing")

    monkeypatch.setitem(_transforms.LIBRARIES, "ducc0", Library((), load))
    assert _transforms.transforms("ducc0") is _transforms.SCIPY


def test_importing_fastconv_imports_no_library() -> None:
    program = """
import sys
import numpy as np, fastconv
fastconv.convolve(np.ones(5000), np.ones(3000))
fastconv.candidates(fastconv.convolve, np.ones(5000), np.ones(3000))
print([name for name in ("ducc0", "mkl_fft", "mkl", "pyfftw") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True
    )
    assert done.stdout == "[]\n"
