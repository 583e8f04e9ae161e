"""Builds of other commits, side by side below ``.asv/builds``, each made once."""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).parent.parent
BUILDS = ROOT / ".asv" / "builds"


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def commit(name: str) -> str:
    """The full hash of a commit, a branch or a tag."""
    return git("rev-parse", "--verify", f"{name}^{{commit}}")


def tree(name: str) -> pathlib.Path:
    """A folder with the sources of a commit, its extension built in place.

    With ``ccache`` at hand a commit costs what it changed; paths are told to it as relative.
    """
    sha = commit(name)
    folder = BUILDS / sha
    if (folder / "built").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted build left
    folder.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "archive", "--format=tar", sha], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder)
    build(folder)
    (folder / "built").touch()
    return folder


def build(folder: pathlib.Path) -> None:
    """Build the extension where it lies, and see that it can be imported."""
    print(f"building {folder.name[:12]}", file=sys.stderr, flush=True)
    environment = dict(os.environ)
    if "CC" not in environment and shutil.which("ccache"):
        environment |= {
            "CC": "ccache cc", "CCACHE_BASEDIR": str(folder), "CCACHE_NOHASHDIR": "1"
        }  # fmt: skip
    environment |= {"PYTHONPATH": str(folder)}
    for command in (["setup.py", "-q", "build_ext", "--inplace"], ["-c", "import fastconv"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            said = done.stdout[-2000:] + done.stderr[-4000:]
            raise SystemExit(f"{folder}, {' '.join(command)}:\n{said}")
