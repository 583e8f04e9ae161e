"""`Machine`: what the planner may know of this computer."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

from fastconv import _timer
from fastconv._ext import core

_CGROUPS = "/sys/fs/cgroup"


class Machine(NamedTuple):
    """Facts that change which candidate is fastest; they identify rows of wisdom.

    `isa` is the instruction set in use, `cores` what this process may use (affinity and cgroup
    quota), `l1`, `l2`, `l3` are data cache bytes of one core (l3: of the whole).
    """

    isa: str
    cores: int
    l1: int
    l2: int
    l3: int

    def __str__(self) -> str:
        return f"{platform.machine()} {self.isa} cores{self.cores} l1:{self.l1} l2:{self.l2}"


def read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(text: str) -> int | None:
    """A count, or None for anything else: "max", "-1", an empty file."""
    return int(text) if text.isdecimal() else None


def _sysctl(name: str) -> int | None:
    """A number that macOS knows by name; None elsewhere."""
    if platform.system() != "Darwin":
        return None
    value = ctypes.c_uint64(0)  # numbers of 4 bytes fill the lower half
    size = ctypes.c_size_t(8)
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        if libc.sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0) == 0:
            return value.value or None
    return None


def cgroups(controller: str) -> Iterator[str]:
    """Directories of the control groups that hold this process, innermost first.

    A limit may stand in any of them. Version 2 has one tree, version 1 one a controller; in a
    container the paths may be the host's and missing, and then the root is the container's.
    """
    for line in read("/proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            tree = _CGROUPS
        elif controller in controllers.split(","):
            tree = f"{_CGROUPS}/{controller}"
        else:
            continue
        group = pathlib.PurePosixPath(path)
        for each in (group, *group.parents):
            yield tree + str(each).rstrip("/")


def usable_cores() -> int:
    """Cores that this process may use: the smaller of its affinity and its cgroups' quotas."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    for group in cgroups("cpu"):
        quota, _, period = read(f"{group}/cpu.max").partition(" ")
        if not quota:
            quota = read(f"{group}/cpu.cfs_quota_us")
            period = read(f"{group}/cpu.cfs_period_us")
        granted, per = _number(quota), _number(period)
        if granted and per:
            # rounded down: one thread more than the quota gets all of them suspended
            cores = min(cores, max(1, granted // per))
    return max(1, cores)


def memory() -> int:
    """Bytes that this process could have if it were alone: the machine's or its cgroups'."""
    most = _sysctl("hw.memsize") or 8 << 30
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            most = int(line.split()[1]) * 1024
    for group in cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            most = min(most, _number(read(f"{group}/{name}")) or most)
    return most


def free_memory() -> int:
    """Bytes that can still be allocated, by the kernel's and the cgroups' account."""
    # macOS keeps little memory free but much that it gives back on demand
    free = (_sysctl("hw.memsize") or 8 << 30) // 2
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    for group in cgroups("memory"):
        for limit_name, used_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(read(f"{group}/{limit_name}")), None
            if limit is not None:
                used = _number(read(f"{group}/{used_name}"))
            if limit is None or used is None:
                continue
            # cached files are counted as used, but make way
            for line in read(f"{group}/memory.stat").splitlines():
                name, _, value = line.partition(" ")
                if name == cache_name:
                    used -= min(used, _number(value) or 0)
            free = min(free, max(0, limit - used))
    return free


#: Nanoseconds for which a reading of free memory serves: reading takes 0.4 to 2 ms, longer than
#: choosing a method.
_LATELY = 500_000_000

_read_last: tuple[int, int] | None = None


def free_memory_lately() -> int:
    """`free_memory` as it was at most half a second ago."""
    global _read_last
    now = _timer.clock()
    if _read_last is None or not 0 <= now - _read_last[0] <= _LATELY:
        _read_last = now, free_memory()
    return _read_last[1]


def _cache_bytes(level: int, default: int) -> int:
    for index in range(6):
        base = f"/sys/devices/system/cpu/cpu0/cache/index{index}/"
        if read(base + "level") == str(level) and read(base + "type") != "Instruction":
            text = read(base + "size")
            scale = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1:], 0)
            if scale and text[:-1].isdecimal():
                return int(text[:-1]) * scale
    name = "l1dcachesize" if level == 1 else f"l{level}cachesize"
    # the fast cores where there are two kinds
    return _sysctl(f"hw.perflevel0.{name}") or _sysctl(f"hw.{name}") or default


@functools.cache
def this_machine() -> Machine:
    """The machine this process runs on; read once."""
    return Machine(
        isa=core.isa(),
        cores=usable_cores(),
        l1=_cache_bytes(1, 32 << 10),
        l2=_cache_bytes(2, 1 << 20),
        # a virtual machine may report the host's whole cache: believe no more than 256 MiB
        l3=min(_cache_bytes(3, 8 << 20), 256 << 20),
    )


@functools.cache
def version(package: str) -> str | None:
    """The version of an installed package; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _blas() -> list[dict[str, Any]]:
    """The BLAS libraries loaded into this process."""
    import threadpoolctl

    fields = ("internal_api", "version", "num_threads", "threading_layer", "architecture")
    return [
        {field: library[field] for field in fields if library.get(field) is not None}
        for library in threadpoolctl.threadpool_info()
        if library.get("user_api") == "blas"
    ]


def info() -> dict[str, Any]:
    """Facts for bug reports, of JSON's types: versions, instruction sets, caches, BLAS, GPU."""
    machine = this_machine()
    numba = all(importlib.util.find_spec(name) is not None for name in ("numba", "numba_cuda"))
    return {
        "versions": {
            "fastconv": version("fastconv"),
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "scipy": version("scipy"),
        },
        "platform": platform.platform(),
        "isa": {
            "in use": core.isa(),
            "usable": list(core.isas()),
            "compiled": list(core.compiled_isas()),
        },
        "machine": str(machine),
        "cores": machine.cores,
        "caches": {"l1": machine.l1, "l2": machine.l2, "l3": machine.l3},
        "free memory": free_memory(),
        "blas": _blas(),
        # asking a driver takes seconds and can fail: `info` does not start one
        "gpu": "not checked: numba-cuda is installed" if numba else "none: numba-cuda is missing",
    }
