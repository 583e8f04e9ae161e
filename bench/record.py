"""This commit's benchmarks, by asv, in this interpreter, kept in bench/results/asv.

``python -m bench.record [--bench REGEX]`` runs ``asv run`` in the environment ``here``. Results of
a tree that differs from its commit are shown and not kept.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys

from . import builds


def command(bench: str | None, commit: str | None) -> list[str]:
    """asv's command line; without a commit nothing is kept."""
    asv = pathlib.Path(sys.executable).with_name("asv")
    kept = ["--set-commit-hash", commit] if commit else ["--dry-run"]
    chosen = ["--bench", bench] if bench else []
    return [
        str(asv), "run", "-E", "here:same", "--launch-method", "spawn", "--show-stderr",
        *kept, *chosen,
    ]  # fmt: skip


def introduce(environment: dict[str, str]) -> None:
    """Tell asv of this machine, which it else asks about on the first run, and fails unanswered."""
    asv = pathlib.Path(sys.executable).with_name("asv")
    subprocess.run([str(asv), "machine", "--yes"], env=environment, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.record", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--bench", metavar="REGEX")
    arguments = parser.parse_args()
    changed = builds.git("status", "--porcelain", "--", "fastconv", "setup.py")
    if changed:
        print(f"not kept, for this tree is not its commit:\n{changed}", file=sys.stderr)
    builds.build(builds.ROOT)
    commit = None if changed else builds.commit("HEAD")
    environment = {**os.environ, "FASTCONV_WISDOM": ":memory:"}
    introduce(environment)
    done = subprocess.run(command(arguments.bench, commit), cwd=builds.ROOT, env=environment)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
