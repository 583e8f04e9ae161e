"""What a measurement holds for: the facts that rows of wisdom are keyed by, and those kept with it.

The identity has only what changes which candidate is fastest: a key with more facts than that
never hits again. Whatever else may explain a figure later is provenance, stored and not compared.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
import platform
import re
from typing import Any

from fastconv import _machine
from fastconv._machine import Machine

#: Raised when timings of before cannot be compared with those of now: another protocol, another
#: meaning of a problem's text. What one solver changes is its own `revision`.
TUNING = 2

Identity = dict[str, str | int]


def text_of(value: Any) -> str:
    """Canonical JSON: equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def id_of(identity: Identity) -> str:
    """128 bits of the SHA-256 of an identity, as hexadecimal digits."""
    return hashlib.sha256(text_of(identity).encode()).hexdigest()[:32]


@functools.lru_cache(maxsize=64)
def _identity(machine: Machine, device: str, cache: str) -> str:
    found: Identity = {"machine": str(machine), "tuning": TUNING}
    if cache != "warm":
        found["cache"] = cache
    if device == "cuda":  # the text of a GPU names it, its capability and its driver
        found["numba"] = _machine.version("numba-cuda") or "?"
    else:
        found |= {"l3": machine.l3, "blas": _blas(), "fft": _fft()}
    return text_of(found)


def identity(machine: Machine, device: str = "cpu", cache: str = "warm") -> Identity:
    """What identifies measurements on `machine`: `cache` is the state that data is found in."""
    found: Identity = json.loads(_identity(machine, device, cache))
    return found


@functools.lru_cache(maxsize=64)
def environment(machine: Machine, device: str = "cpu", cache: str = "warm") -> str:
    """The id of `identity`, which keys rows of wisdom."""
    return id_of(identity(machine, device, cache))


@functools.cache
def _blas() -> str:
    """Name, version, threading layer and kernels of the BLAS that SciPy hands to the drivers.

    A process may have others loaded, by NumPy or by who knows whom: they multiply nothing here.
    """
    import threadpoolctl

    libraries = [b for b in threadpoolctl.threadpool_info() if b.get("user_api") == "blas"]
    own = [b for b in libraries if any(
        part.lstrip(".").startswith("scipy") for part in pathlib.PurePath(b["filepath"]).parts
    )]  # fmt: skip
    fields = ("internal_api", "version", "threading_layer", "architecture")
    return "; ".join(
        sorted({" ".join(str(b.get(name) or "?") for name in fields) for b in own or libraries})
    )


def _fft() -> str:
    """The Fourier transforms' library. Its patches change no speed: two numbers of the version."""
    version = _machine.version("scipy") or "?"
    return f"scipy {'.'.join(version.split('.')[:2])}"


@functools.cache
def provenance() -> dict[str, str]:
    """Facts that explain figures but do not decide whom they serve."""
    cpu = _machine.read("/proc/cpuinfo")
    governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    found = {
        "processor": _line(cpu, "model name") or platform.processor(),
        "stepping": _line(cpu, "stepping"),
        "microcode": _line(cpu, "microcode"),
        "virtual": "yes" if re.search(r"^flags.*\bhypervisor\b", cpu, re.M) else "",
        "kernel": f"{platform.system()} {platform.release()}",
        "governor": _machine.read(governor),
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        "python": platform.python_version(),
        **{name: _machine.version(name) or "" for name in ("fastconv", "numpy", "scipy")},
    }
    return {name: value for name, value in found.items() if value}


def _line(text: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.*)$", text, re.M)
    return match[1].strip() if match else ""


def stalled() -> float | None:
    """Seconds so far in which a task that wanted a core had to wait for one; None where unknown.

    The control group's own account where it keeps one: what waits elsewhere disturbs nobody here.
    """
    accounts = (f"{group}/cpu.pressure" for group in _machine.cgroups("cpu"))
    for path in (*accounts, "/proc/pressure/cpu"):
        match = re.search(r"^some .*\btotal=(\d+)", _machine.read(path), re.M)
        if match:
            return int(match[1]) * 1e-6
    return None


def filesystem(path: str) -> tuple[str, bool]:
    """Type of the file system that holds `path`, and whether it is surely a local one."""
    best, kind = "", ""
    for line in _machine.read("/proc/self/mounts").splitlines():
        _, where, found, *_ = line.split()
        where = where.replace("\\040", " ")
        if (path == where or path.startswith(where.rstrip("/") + "/")) and len(where) >= len(best):
            best, kind = where, found
    return kind or "unknown", kind in _LOCAL


_LOCAL = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "apfs", "bcachefs")
)
