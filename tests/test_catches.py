"""A regression is caught, end to end: ``make bench-catches``, half an hour of a quiet machine.

In a scratch clone the depthwise kernel is made to take half as long again, by waiting. ``make
bench-compare`` must then fail and accuse the rows that spend their time in it, and no others; of
the clone as it was it must accuse none, five times out of five.
"""

from __future__ import annotations

import os
import pathlib
import platform
import re
import subprocess
import sys

import pytest

import fastconv

ROOT = pathlib.Path(fastconv.__file__).parent.parent

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="waits by x86's time stamps"),
]

KERNEL = "fastconv/_ext/kernels/depthwise.inc"

#: Blocks of rows take their time, and half of it once more.
ROWS = re.compile(
    r"(static void NAME\(rows\)\(const fc_depthwise_block \*b\)\n\{)(.*?)(\n\}\n)", re.S
)
SLOW = (
    "\n    const unsigned long long begin = __builtin_ia32_rdtsc();{}\n"
    "    const unsigned long long end = __builtin_ia32_rdtsc();\n"
    "    while (__builtin_ia32_rdtsc() - end < (end - begin) / 2) __builtin_ia32_pause();"
)

#: Rows whose plans are depthwise's, and which have no other work worth speaking of.
SLOWED = {
    "mobilenet.dw3x3.144@56", "mobilenet.dw3x3s2.144@56", "convnext.dw7x7.96@56",
    "edge.1ch.3x3@1080p",
}  # fmt: skip


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("clone") / "fastconv"
    subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(folder)], check=True)
    return folder


def compare(clone: pathlib.Path) -> tuple[int, set[str], str]:
    """(make's status, the rows accused, what was printed)."""
    command = [
        "make", "-o", ".venv/installed", "-o", ".venv/bench-installed",
        f"bin={pathlib.Path(sys.executable).parent}", "bench-compare", "BASE=HEAD",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    print(done.stdout, done.stderr[-2000:], flush=True)
    return done.returncode, set(re.findall(r"^SLOWER: (.*) takes", done.stdout, re.M)), done.stdout


def test_nothing_is_accused_of_nothing(clone: pathlib.Path) -> None:
    for _ in range(5):
        status, accused, printed = compare(clone)
        assert (status, accused) == (0, set()), printed


def test_a_slow_kernel_is_caught(clone: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import shapes

    path = clone / KERNEL
    text, count = ROWS.subn(lambda m: m[1] + SLOW.format(m[2]) + m[3], path.read_text())
    assert count == 1
    path.write_text(text)
    status, accused, printed = compare(clone)
    names = {name for name, text in shapes.NN.items() for row in accused if f"'{text}'" in row}
    assert status == 2, printed  # make's own, for any failure
    assert "SLOWER" in printed and names == SLOWED
    assert all("bench_nn" in row for row in accused)
