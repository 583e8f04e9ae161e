"""What the assembler made of each kernel: registers, and instructions of the main loop.

``python tests/cuda_budgets.py`` compiles every kernel of `variants.common`, with no driver and no
GPU, and writes tests/cuda_budgets.json, to which test_cuda_build.py holds them from then on. Look
at the difference before you commit it.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import json
import multiprocessing
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

BUDGETS = pathlib.Path(__file__).with_suffix(".json")

#: Compute capabilities that cubins are made for: A100's, and H100's and H200's.
CAPABILITIES = ((8, 0), (9, 0))

#: Multiply-adds, of numbers and of matrices. (HFMA2 is how constants are moved.)
PRODUCTS = ("FFMA", "DFMA", "HMMA", "DMMA")

#: Spills to local memory, in any kernel.
FORBIDDEN = ("LDL", "STL")


def nvdisasm() -> str | None:
    """Path of the disassembler: on PATH, or of the wheel nvidia-cuda-nvdisasm."""
    found = shutil.which("nvdisasm")
    if found is None:
        for root in map(pathlib.Path, sys.path):
            for path in root.glob("nvidia/**/bin/nvdisasm"):
                return str(path)
    return found


def sass(code: bytes) -> str:
    tool = nvdisasm()
    assert tool is not None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        return subprocess.run(
            [tool, "-c", file.name], capture_output=True, text=True, check=True
        ).stdout


def counted(text: str) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """Instructions by opcode: of all, and of the loop with the most products."""
    lines: list[tuple[str, str]] = []
    labels = {}
    for line in text.splitlines():
        label = re.match(r"(\.L_x_\d+):", line)
        if label:
            labels[label[1]] = len(lines)
        found = re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*)", line)
        if found:
            lines.append((found[1], found[2]))
    best: collections.Counter[str] = collections.Counter()
    for i, (opcode, rest) in enumerate(lines):
        target = re.search(r"(\.L_x_\d+)", rest)
        if opcode.startswith("BRA") and target and labels.get(target[1], i) < i:
            body = collections.Counter(op for op, _ in lines[labels[target[1]] : i + 1])
            if products(body) > products(best):
                best = body
    return collections.Counter(op for op, _ in lines), best


def products(counts: collections.Counter[str]) -> int:
    return sum(n for op, n in counts.items() if op.partition(".")[0] in PRODUCTS)


def facts(kernels: list[Any], capability: tuple[int, int]) -> list[dict[str, Any]]:
    """What a budget holds of each of some kernels, which are linked and disassembled together: to
    begin is what takes the disassembler its time."""
    from fastconv.cuda import build

    codes = [intermediate(kernel) for kernel in kernels]
    machine, log = build.linked([code for _, code in codes], capability)
    parts = re.split(r"Compiling entry function '", log)[1:]
    # each has a number in its name, by which kernels were compiled one after the other
    told = sorted(parts, key=lambda part: int(re.findall(r"^[^']*B\d+v(\d+)B", part)[0]))
    order = sorted(range(len(kernels)), key=lambda i: codes[i][0])
    sections = re.split(r"^//-+ \.text\.(\w+) -+$", sass(machine), flags=re.MULTILINE)
    by_name = dict(zip(sections[1::2], sections[2::2]))
    found: list[dict[str, Any]] = [{} for _ in kernels]
    assert len(told) == len(by_name) == len(kernels)
    for i, part in zip(order, told):
        name = part.partition("'")[0]
        assert kernels[i].name in name
        every, loop = counted(by_name[name])
        whole = loop or every  # a kernel that is unrolled has no loop
        found[i] = {
            **build.told(part), "shared": kernels[i].shared_bytes,
            "share": round(products(whole) / sum(whole.values()), 3),
            "opcodes": sorted({op.partition(".")[0] for op in every}),
        }  # fmt: skip
    return found


_numbers = itertools.count()


@functools.cache
def intermediate(kernel: Any) -> tuple[int, bytes]:
    """`build.intermediate`, and as the how manieth it was made."""
    from fastconv.cuda import build

    with listing_once():
        return next(_numbers), build.intermediate.__wrapped__(kernel, build.OLDEST)


@contextlib.contextmanager
def listing_once() -> Iterator[None]:
    """Numba lists a block's assignments anew for each variable of it, which of kernels that are
    one long block is a fifth of all; here once."""
    from numba.cuda import lowering
    from numba.cuda.core import ir

    name = "_find_singly_assigned_variable"
    whole = getattr(lowering.Lower, name)

    def listed(self: Any) -> None:
        for block in self.blocks.values():
            found = list(block.find_insts(ir.assign_types))
            block.find_insts = lambda _, found=found: found
        whole(self)
        for block in self.blocks.values():
            del block.find_insts

    setattr(lowering.Lower, name, listed)
    yield
    setattr(lowering.Lower, name, whole)


def budget(name: str) -> dict[str, Any]:
    """Of one kernel, for each capability."""
    from fastconv.cuda.variants import common

    found = {}
    for capability in CAPABILITIES:
        (one,) = facts([common()[name]], capability)
        # of the opcodes, those that a kernel stands or falls with
        one["required"] = [
            op for op in one.pop("opcodes") if op in (*PRODUCTS, "LDGSTS", "LDS", "LDSM")
        ]
        found["sm{}{}".format(*capability)] = one
    return found


def main() -> None:
    from fastconv.cuda.variants import common

    found = {}
    with multiprocessing.get_context("spawn").Pool() as pool:
        for name, one in zip(common(), pool.imap(budget, common())):
            found[name] = one
            print(name, one, flush=True)
    BUDGETS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
