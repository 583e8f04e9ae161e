"""`Machine`: what the planner may know of this computer."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import platform

from fastconv._ext import core


@dataclasses.dataclass(frozen=True)
class Machine:
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


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def usable_cores() -> int:
    """Cores that this process may use: the smaller of its affinity and its cgroup's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return max(1, cores)


def free_memory() -> int:
    """Bytes that can still be allocated, by the kernel's and the cgroup's account."""
    free = 4 << 30  # where the system does not say
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    return free


def _cache_bytes(level: int, default: int) -> int:
    for index in range(6):
        base = f"/sys/devices/system/cpu/cpu0/cache/index{index}/"
        if _read(base + "level") == str(level) and _read(base + "type") != "Instruction":
            text = _read(base + "size")
            scale = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1:], 0)
            if scale and text[:-1].isdigit():
                return int(text[:-1]) * scale
    return default


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
