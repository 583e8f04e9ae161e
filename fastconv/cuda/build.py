"""From a kernel's text to a cubin: Numba to LTO-IR, nvJitLink to machine code, a cache on disk.

This is the way that Numba's dispatcher takes on a GPU, and none of it needs a driver. A cubin is
found again by a digest of all that it is made from: the kernel, the operations' own source, the
versions of the tools, and the compute capability.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import linecache
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

from fastconv.cuda.kernel import Kernel

#: The packages whose versions a cubin depends on.
TOOLS = (
    "numba-cuda", "numba", "llvmlite", "nvidia-nvvm", "nvidia-cuda-nvrtc", "nvidia-nvjitlink",
)  # fmt: skip


#: Of an A100. Kernels use no instruction that came later, so that Numba, which takes five times as
#: long as the linker, compiles them once for all GPUs.
OLDEST = (8, 0)


@dataclasses.dataclass(frozen=True)
class Cubin:
    """Machine code of one kernel, and what the assembler said of it.

    `entry` is the kernel's name in the code; `spills` and `stack` are bytes of a thread.
    """

    code: bytes
    entry: str
    registers: int
    spills: int
    stack: int


def why_not() -> str | None:
    """Why kernels cannot be compiled here; None when they can, or were compiled ahead."""
    if os.environ.get("FASTCONV_CUBINS_AHEAD"):
        return None
    return _why_no_tools()


def _why_no_tools() -> str | None:
    for package in ("numba", "numba-cuda", "llvmlite", "cuda-core", "nvidia-nvjitlink"):
        if _version(package) is None:
            return f"{package} is missing: install fastconv[cuda]"
    return None


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def directory() -> pathlib.Path:
    """Where cubins are kept: ``FASTCONV_CUBINS``, or the user's cache directory."""
    import platformdirs

    named = os.environ.get("FASTCONV_CUBINS")
    return pathlib.Path(named or platformdirs.user_cache_path("fastconv") / "cubins")


def digest(kernel: Kernel, capability: tuple[int, int]) -> tuple[str, str]:
    """Of the source that the kernel's cubin is made from, and of the tools that make it."""
    made_by = pathlib.Path(__file__).with_name("intrinsics.py").read_text()
    source = (
        kernel.source, kernel.operations, kernel.parameters, kernel.threads, kernel.blocks,
        capability, made_by,
    )  # fmt: skip
    tools = [_version(tool) for tool in TOOLS]
    first, second = (hashlib.sha256(repr(x).encode()).hexdigest() for x in (source, tools))
    return first[:32], second[:8]


def cubin(kernel: Kernel, capability: tuple[int, int]) -> Cubin:
    """The kernel's machine code, from the cache or compiled now, which takes seconds.

    A cache of another machine's, which ``FASTCONV_CUBINS_AHEAD`` names, is looked into as well;
    there the tools may have been of other versions.
    """
    source, tools = digest(kernel, capability)
    name = f"{kernel.name}-sm{capability[0]}{capability[1]}-{source}"
    path = directory() / f"{name}-{tools}"
    found = _read(path)
    ahead = os.environ.get("FASTCONV_CUBINS_AHEAD")
    if found is None and ahead:
        made = (_read(file) for file in sorted(pathlib.Path(ahead).glob(f"{name}-*")))
        found = next((one for one in made if one is not None), None)
    if found is None:
        found = compiled(kernel, capability)
        _write(path, found)
    return found


def _read(path: pathlib.Path) -> Cubin | None:
    """A damaged file is one that is not there."""
    try:
        facts, _, code = path.read_bytes().partition(b"\n")
        return Cubin(code=code, **json.loads(facts)) if code else None
    except (OSError, ValueError, TypeError):
        return None


def _write(path: pathlib.Path, made: Cubin) -> None:
    """Whole or not at all, and never in the way of the call that wanted it."""
    facts = {k: v for k, v in dataclasses.asdict(made).items() if k != "code"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(json.dumps(facts).encode() + b"\n" + made.code)
        os.replace(file.name, path)
    except OSError:
        pass


def function(kernel: Kernel, operations: Any) -> Any:
    """The Python function of a kernel; `operations` is a module or the like, with a maker each."""
    space: dict[str, Any] = {}
    for name, (operation, *constants) in kernel.operations:
        space[name] = getattr(operations, operation)(*constants)
    file = f"<{kernel.name} {hash(kernel) & 0xFFFFFFFF:08x}>"
    # so that an error shows the line that it is in
    linecache.cache[file] = (len(kernel.source), None, kernel.source.splitlines(True), file)
    exec(compile(kernel.source, file, "exec"), space)
    return space[kernel.name]


def compiled(kernel: Kernel, capability: tuple[int, int]) -> Cubin:
    """`cubin`, without the cache."""
    reason = _why_no_tools()
    if reason is not None:
        raise RuntimeError(reason)
    machine, log = linked([intermediate(kernel, min(capability, OLDEST))], capability)
    entry = re.search(rb"_ZN\w*" + kernel.name.encode() + rb"\w*", machine)
    assert entry is not None, "a cubin without the kernel"
    return Cubin(code=machine, entry=entry[0].decode(), **told(log))


def linked(codes: Sequence[bytes], capability: tuple[int, int]) -> tuple[bytes, str]:
    """Machine code of kernels' `intermediate`, and what the assembler said of them."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(
        arch=f"sm_{capability[0]}{capability[1]}", link_time_optimization=True,
        ptxas_options=["-v"],
    )  # fmt: skip
    linker = Linker(*map(ObjectCode.from_ltoir, codes), options=options)
    return bytes(linker.link("cubin").code), linker.get_info_log() or ""


def told(log: str) -> dict[str, int]:
    """Registers, spills and stack of one kernel, of what the assembler said of it."""

    def number(pattern: str) -> int:
        found = re.search(pattern, log)
        return int(found[1]) if found else 0

    spills = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
    registers, stack = number(r"Used (\d+) registers"), number(r"(\d+) bytes stack frame")
    return {"registers": registers, "spills": spills, "stack": stack}


@functools.lru_cache(4)
def intermediate(kernel: Kernel, capability: tuple[int, int]) -> bytes:
    """The kernel as LTO-IR, which is linked for this compute capability and all later ones."""
    from numba import cuda
    from numba.cuda import types

    from fastconv.cuda import intrinsics

    kinds = {
        "pointer": types.int64, "i32": types.int32, "i64": types.int64, "f32": types.float32,
        "f64": types.float64,
    }  # fmt: skip
    signature = types.void(*(kinds[kind] for _, kind in kernel.parameters))
    # no fast-math: it would flush subnormal numbers and divide by reciprocals
    code, _ = cuda.compile(
        function(kernel, intrinsics), signature, device=False, abi="numba", cc=capability,
        output="ltoir", launch_bounds=(kernel.threads, kernel.blocks),
    )  # fmt: skip
    return bytes(code)
