"""What is read of the machine, on made-up systems."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys

import pytest

from fastconv import _machine
from fastconv._ext import core


class System:
    """Files that exist, and cores that the process may be scheduled on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[str, str] = {}
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(_machine, "read", lambda path: self.files.get(path, ""))
        monkeypatch.setattr(_machine, "_sysctl", lambda name: None)
        self.affinity(8)

    def affinity(self, cores: int) -> None:
        self._monkeypatch.setattr(
            os, "sched_getaffinity", lambda _: set(range(cores)), raising=False
        )


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


def test_cores_follow_affinity(system: System) -> None:
    system.affinity(3)
    assert _machine.usable_cores() == 3


def test_cores_where_there_is_no_affinity(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert _machine.usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _machine.usable_cores() == 1


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8),
     ("9900000 100000", 8), ("", 8), ("rubbish", 8), ("100000 0", 8)],
)  # fmt: skip
def test_quota_of_cgroups_version_2(system: System, quota: str, cores: int) -> None:
    system.files["/proc/self/cgroup"] = "0::/"
    system.files["/sys/fs/cgroup/cpu.max"] = quota
    assert _machine.usable_cores() == cores


def test_the_tightest_of_nested_groups_counts(system: System) -> None:
    system.files["/proc/self/cgroup"] = "0::/user.slice/job"
    system.files["/sys/fs/cgroup/user.slice/cpu.max"] = "200000 100000"
    system.files["/sys/fs/cgroup/user.slice/job/cpu.max"] = "500000 100000"
    assert _machine.usable_cores() == 2


@pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", 8), ("", 8)])
def test_quota_of_cgroups_version_1(system: System, quota: str, cores: int) -> None:
    system.files["/proc/self/cgroup"] = "4:memory:/box\n2:cpu,cpuacct:/box\n0::/"
    system.files["/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us"] = quota
    system.files["/sys/fs/cgroup/cpu/box/cpu.cfs_period_us"] = "100000"
    assert _machine.usable_cores() == cores


def test_a_container_sees_its_limits_at_the_root(system: System) -> None:
    system.files["/proc/self/cgroup"] = "2:cpu:/docker/abc"  # a path of the host
    system.files["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "200000"
    system.files["/sys/fs/cgroup/cpu/cpu.cfs_period_us"] = "100000"
    assert _machine.usable_cores() == 2


def test_free_memory(system: System) -> None:
    assert _machine.free_memory() == 4 << 30  # where nothing is said
    system.files["/proc/meminfo"] = "MemTotal: 99 kB\nMemAvailable:   2097152 kB\n"
    assert _machine.free_memory() == 2 << 30
    system.files["/proc/self/cgroup"] = "0::/"
    system.files["/sys/fs/cgroup/memory.max"] = "max"
    assert _machine.free_memory() == 2 << 30
    system.files["/sys/fs/cgroup/memory.max"] = str(1 << 30)
    system.files["/sys/fs/cgroup/memory.current"] = str(700 << 20)
    assert _machine.free_memory() == 324 << 20
    system.files["/sys/fs/cgroup/memory.stat"] = f"anon 5\ninactive_file {300 << 20}"
    assert _machine.free_memory() == 624 << 20
    system.files["/sys/fs/cgroup/memory.current"] = str(2 << 30)  # over the limit
    system.files["/sys/fs/cgroup/memory.stat"] = ""
    assert _machine.free_memory() == 0


def test_free_memory_of_cgroups_version_1(system: System) -> None:
    system.files["/proc/meminfo"] = "MemAvailable: 8388608 kB"
    system.files["/proc/self/cgroup"] = "4:memory:/box"
    base = "/sys/fs/cgroup/memory/box/memory."
    system.files[base + "limit_in_bytes"] = str(1 << 30)
    system.files[base + "usage_in_bytes"] = str(512 << 20)
    system.files[base + "stat"] = f"total_inactive_file {256 << 20}"
    assert _machine.free_memory() == 768 << 20
    system.files[base + "limit_in_bytes"] = "9223372036854771712"  # version 1's "no limit"
    assert _machine.free_memory() == 8 << 30


def test_memory_is_the_least_that_a_group_has(system: System) -> None:
    assert _machine.memory() == 8 << 30  # where nothing is said
    system.files["/proc/meminfo"] = "MemTotal: 16777216 kB\nMemAvailable:   2097152 kB\n"
    assert _machine.memory() == 16 << 30
    system.files["/proc/self/cgroup"] = "0::/user.slice/job"
    system.files["/sys/fs/cgroup/user.slice/job/memory.max"] = "max"
    assert _machine.memory() == 16 << 30
    system.files["/sys/fs/cgroup/user.slice/job/memory.max"] = str(9 << 30)
    system.files["/sys/fs/cgroup/user.slice/memory.max"] = str(3 << 30)
    assert _machine.memory() == 3 << 30
    system.files["/proc/self/cgroup"] = "4:memory:/box"
    system.files["/sys/fs/cgroup/memory/box/memory.limit_in_bytes"] = str(5 << 30)
    assert _machine.memory() == 5 << 30
    system.files["/sys/fs/cgroup/memory/box/memory.limit_in_bytes"] = "9223372036854771712"
    assert _machine.memory() == 16 << 30


def test_caches_of_linux(system: System) -> None:
    base = "/sys/devices/system/cpu/cpu0/cache/index"
    for index, (level, kind, size) in enumerate(
        (("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2M"),
         ("3", "Unified", "1G"))
    ):  # fmt: skip
        for name, text in (("level", level), ("type", kind), ("size", size)):
            system.files[f"{base}{index}/{name}"] = text
    assert [_machine._cache_bytes(level, 7) for level in (1, 2, 3, 4)] == [
        48 << 10, 2 << 20, 1 << 30, 7,
    ]  # fmt: skip
    _machine.this_machine.cache_clear()
    try:
        assert _machine.this_machine().l3 == 256 << 20  # a host's whole cache is not believed
    finally:
        _machine.this_machine.cache_clear()


def test_caches_of_macos(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"hw.l1dcachesize": 64 << 10, "hw.perflevel0.l2cachesize": 12 << 20,
             "hw.l2cachesize": 4 << 20}  # fmt: skip
    monkeypatch.setattr(_machine, "_sysctl", known.get)
    assert _machine._cache_bytes(1, 7) == 64 << 10
    assert _machine._cache_bytes(2, 7) == 12 << 20
    assert _machine._cache_bytes(3, 7) == 7


def test_sysctl_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    if platform.system() != "Darwin":
        assert _machine._sysctl("hw.memsize") is None
        monkeypatch.setattr(platform, "system", lambda: "Darwin")  # and a libc without it
        assert _machine._sysctl("hw.memsize") is None


def test_unreadable_files_are_empty(tmp_path: os.PathLike[str]) -> None:
    assert _machine.read(os.fspath(tmp_path)) == ""
    assert _machine.read("/no/such/file") == ""


def test_this_machine() -> None:
    machine = _machine.this_machine()
    assert machine.isa == core.isa()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert 0 < machine.l1 < machine.l2
    assert _machine.free_memory() > 0
    assert str(machine) == str(_machine.this_machine())


def test_info_is_json() -> None:
    found = json.loads(json.dumps(_machine.info()))
    assert found["isa"]["in use"] in found["isa"]["usable"]
    assert set(found["isa"]["usable"]) <= set(found["isa"]["compiled"])
    assert found["versions"]["python"] == platform.python_version()
    assert found["blas"] and all("internal_api" in library for library in found["blas"])
    assert found["cores"] == _machine.this_machine().cores


def test_info_starts_no_gpu() -> None:
    code = (
        "import sys; from fastconv._machine import info; info();"
        "sys.exit(any(m in sys.modules for m in ('numba', 'numba_cuda', 'cupy', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gpu_is_looked_for_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert _machine.info()["gpu"].startswith("none")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert _machine.info()["gpu"].startswith("not checked")
