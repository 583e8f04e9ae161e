"""What every test needs: wisdom kept out of the user's, hypothesis profiles, fresh plans."""

from __future__ import annotations

import os

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
