"""What every test needs: wisdom kept out of the user's, hypothesis profiles, fresh plans."""

from __future__ import annotations

import os
import random

os.environ["FASTCONV_WISDOM"] = ":memory:"  # before fastconv is first imported

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

# Time never decides: no deadline. Continuous integration draws the same examples each time.
_QUIET = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large,
          hypothesis.HealthCheck.function_scoped_fixture]  # fmt: skip
hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=60, print_blob=True,
    suppress_health_check=_QUIET,
)  # fmt: skip
hypothesis.settings.register_profile(
    "dev", deadline=None, max_examples=60, print_blob=True, suppress_health_check=_QUIET
)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle-choices", metavar="SEED", default=None,
        help="what the cost model expects is off by a factor, so that others are chosen",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Tests hold for whatever the planner chooses: on other machines it chooses otherwise."""
    seed = config.getoption("--shuffle-choices")
    if seed is None:
        return
    from fastconv import _planner

    true = _planner._expected

    def expected(problem: Any, machine: Any, found: Any) -> list[float]:
        names = (f"{seed} {problem} {solver.name} {config}" for solver, config, _ in found)
        factors = (random.Random(name).lognormvariate(0, 0.7) for name in names)
        return [x * f for x, f in zip(true(problem, machine, found), factors)]

    expected.true = true  # type: ignore[attr-defined]
    _planner._expected = expected


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cost model expects, though choices be shuffled: for tests of what it expects."""
    from fastconv import _planner

    true = getattr(_planner._expected, "true", _planner._expected)
    monkeypatch.setattr(_planner, "_expected", true)


@pytest.fixture
def every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems are shared among threads and cut into pieces as large ones are."""
    from fastconv.solvers import _driver, _fourier

    monkeypatch.setattr(_driver, "FLOPS_A_THREAD", 1)
    monkeypatch.setattr(_fourier, "CHUNK_BYTES", 1 << 12)


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed counts as timed in peace, however busy the machine is."""
    from fastconv import _environment, _timer

    monkeypatch.setattr(_timer, "NOISY", float("inf"))
    monkeypatch.setattr(_environment, "stalled", lambda: None)


@pytest.fixture
def fresh_plans() -> Iterator[None]:
    """No plan is cached when the test starts, and none that it made when it ends."""
    from fastconv import _engine

    _engine.forget_plans()
    yield
    _engine.forget_plans()


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, fresh_plans: None) -> Any:
    """A driver that runs kernels in the emulator, in place of CUDA's."""
    from cuda_emulator import Driver

    from fastconv.cuda import launch

    driver = Driver()
    monkeypatch.setattr(launch, "_driver", driver)
    monkeypatch.setattr(launch, "_ready", {})  # which would keep every test's memory
    return driver


@pytest.fixture
def transforming(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """cuFFT's functions, in NumPy, on the memory of the emulated device."""
    from fake_cufft import Library

    from fastconv.cuda import cufft

    library = Library()
    monkeypatch.setattr(cufft, "library", lambda: library)
    return library
