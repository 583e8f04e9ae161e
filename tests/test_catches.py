"""A regression is caught, end to end: ``make bench-catches``, 12 minutes of a quiet machine.

In a scratch clone the kernel of depthwise pictures takes half as long again, by waiting. ``make
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

KERNEL = "fastconv/_ext/kernels/picture.inc"

#: Pictures take their time, and half of it once more.
PICTURE = re.compile(
    r"(static void NAME\(picture\)\(const fc_picture \*b\)\n\{)(.*?)(\n\}\n)", re.S
)
SLOW = (
    "\n    const unsigned long long begin = __builtin_ia32_rdtsc();{}\n"
    "    const unsigned long long end = __builtin_ia32_rdtsc();\n"
    "    while (__builtin_ia32_rdtsc() - end < (end - begin) / 2);"
)

#: Rows that spend nearly all of their time in this kernel.
SLOWED = {"mobilenet.dw3x3s2.144@56", "convnext.dw7x7.96@56"}

#: Where caches are larger its pictures may be copied for this kernel, too.
TOUCHED = {"mobilenet.dw3x3.144@56"}


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
    text, count = PICTURE.subn(lambda m: m[1] + SLOW.format(m[2]) + m[3], path.read_text())
    assert count == 1
    path.write_text(text)
    status, accused, printed = compare(clone)
    texts = {**shapes.NN, **shapes.SIGNAL, **shapes.IMAGE, **shapes.TINY}
    names = {name for row in accused for name, text in texts.items() if f"'{text}'" in row}
    assert all(any(f"'{text}'" in row for text in texts.values()) for row in accused)
    assert status == 2, printed  # make's own, for any failure
    assert "SLOWER" in printed and names >= SLOWED
    assert names <= SLOWED | TOUCHED, "rows that never enter the kernel are accused"
