"""What asv is told beyond its configuration (``"plugins"`` in asv.conf.json).

- One environment more, ``here``: the interpreter that runs, under a name that is the same on every
  path, so that results measured in it stay one series.
- Results of a known processor belong to its entry in machine.json, whatever kernel or host name
  the day brings: asv makes these strings part of a series' identity.
- Commits of merged branches count: asv follows first parents, which lose all that a fast-forward
  brought in.
- What is published loads nothing from elsewhere, and opens on our own front page; asv's grid moves
  to asv.html.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import sys
from typing import Any

from asv import machine
from asv.environment import ExistingEnvironment
from asv.plugins.git import Git
from asv.publishing import OutputPublisher

HERE = pathlib.Path(__file__).parent
MACHINES = HERE.parent / "machine.json"

#: /proc/cpuinfo's (vendor, family, model) of the machines that machine.json describes.
PROCESSORS = {"zen3": ("AuthenticAMD", "25", "1")}

#: What asv's index.html loads from elsewhere, by a part of its address.
VENDORED = {
    "jquery-3.3.1.min.js": "jquery-3.3.1.min.js",
    "jquery.flot.min.js": "jquery.flot.js",
    "jquery.flot.time.min.js": "jquery.flot.time.js",
    "jquery.flot.selection.min.js": "jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupidtable.min.js",
    "md5.min.js": "md5.min.js",
    "bootstrap.min.js": "bootstrap.min.js",
    "bootstrap.min.css": "bootstrap.min.css",
}


class Here(ExistingEnvironment):
    """The interpreter that runs asv, whatever its path."""

    tool_name = "here"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._python = f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def name(self) -> str:
        return f"{self.tool_name}-py{self._python}"


def processor() -> tuple[str, str, str]:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return ("", "", "")
    found = (
        re.search(rf"^{key}\s*: (.*)$", text, re.M) for key in ("vendor_id", "cpu family", "model")
    )
    vendor, family, model = (m[1] if m else "" for m in found)
    return vendor, family, model


def reference_machine(name: str = "zen3") -> dict[str, str]:
    """A machine that results are kept of, as asv describes it."""
    found: dict[str, str] = json.loads(MACHINES.read_text())[name]
    return found


_machine_file = machine.MachineCollection.get_machine_file_path


def machine_file() -> str:
    """A copy of machine.json, where this processor is in it; else the user's own file.

    A copy, for asv writes the file anew, in a form of its own.
    """
    if processor() not in PROCESSORS.values():
        return str(_machine_file())
    copy = HERE.parents[1] / ".asv" / "machine.json"
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(MACHINES, copy)
    return str(copy)


def hashes_from_range(self: Git, range_spec: str) -> list[str]:
    """As asv's own, along all parents."""
    arguments = ["rev-list"] + ([*shlex.split(range_spec), "--"] if range_spec else [])
    output: str = self._run_git(arguments, valid_return_codes=(0, 1), dots=False)
    return output.strip().split()


machine.MachineCollection.get_machine_file_path = staticmethod(machine_file)
Git.get_hashes_from_range = hashes_from_range


def vendored(html: str) -> str:
    """asv's index.html with our copies; an error when it loads something that we have not."""

    def local(match: re.Match[str]) -> str:
        tag, address = match[0], match["address"]
        name = VENDORED.get(address.rpartition("/")[2])
        if name is None:
            raise ValueError(f"asv's page loads {address}, of which bench/site/vendor has no copy")
        tag = re.sub(r'\s(integrity|crossorigin|referrerpolicy)="[^"]*"', "", tag)
        return tag.replace(address, f"vendor/{name}")

    loads = r'<(?:script|link)\b[^>]*\b(?:src|href)="(?P<address>https?://[^"]*)"[^>]*>'
    return re.sub(loads, local, html)


class Measured(OutputPublisher):
    """Runs first: benchmarks of which nothing was measured are not shown."""

    name = "measured"
    order = -1

    @classmethod
    def publish(cls, conf: Any, repo: Any, benchmarks: Any, graphs: Any, revisions: Any) -> None:
        for name in [name for name in benchmarks if not graphs.get_graph_group(name)]:
            del benchmarks[name]


class Site(OutputPublisher):
    """Runs last: everything else that asv publishes is there, but its index.json."""

    name = "front"
    order = 99

    @classmethod
    def publish(cls, conf: Any, repo: Any, benchmarks: Any, graphs: Any, revisions: Any) -> None:
        from . import front

        html = pathlib.Path(conf.html_dir)
        shutil.copytree(HERE / "vendor", html / "vendor")
        index = html / "index.html"
        page = vendored(index.read_text())
        home = '<li><a href="index.html">Front page</a></li>\n\t<li id="nav-li-"'
        (html / "asv.html").write_text(page.replace('<li id="nav-li-"', home, 1))
        os.unlink(index)
        results = pathlib.Path(conf.results_dir)
        index.write_text(front.page(results, pathlib.Path(conf.html_dir), repo, revisions))
