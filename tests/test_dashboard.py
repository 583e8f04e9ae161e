"""The published dashboard, in a browser: everything is drawn, nothing fails, nothing comes from
elsewhere."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser import chromium, serve, spill, visit  # noqa: F401

import fastconv

ROOT = pathlib.Path(fastconv.__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")

#: Of these asv draws graphs, and of the first one with a step up that stays.
SLOWED = "bench_nn.Prepared.time_call"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The kept history, published, with one row of its last commits made slower."""
    pytest.importorskip("asv", reason="no asv: pip install -e '.[bench]'")
    shallow = ["git", "rev-parse", "--is-shallow-repository"]
    if subprocess.run(shallow, cwd=ROOT, capture_output=True, text=True).stdout != "false\n":
        pytest.skip("a shallow checkout has not the commits of the history")
    folder = tmp_path_factory.mktemp("site")
    results = folder / "results"
    shutil.copytree(ROOT / "bench" / "results" / "asv", results)
    slow_down(results)
    configure(folder, results)
    asv = pathlib.Path(sys.executable).with_name("asv")
    done = subprocess.run(
        [str(asv), "--config", str(folder / "asv.conf.json"), "publish"],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # of its plugin: asv changes its folder
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    if "Couldn't find" in done.stdout:
        pytest.skip("a commit of the history is not in this checkout: it is a shallow one")
    with serve(folder / "html") as url:
        yield url


def configure(folder: pathlib.Path, results: pathlib.Path) -> None:
    """asv.conf.json in a folder: this tree's, with results and pages elsewhere."""
    lines = (ROOT / "asv.conf.json").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.strip().startswith("//"))
    conf = {**json.loads(text), "repo": str(ROOT), "results_dir": str(results)}
    conf |= {"html_dir": str(folder / "html"), "benchmark_dir": str(ROOT / "bench")}
    (folder / "asv.conf.json").write_text(json.dumps(conf))


def slow_down(results: pathlib.Path) -> None:
    """The last five commits of the first row take twice as long."""
    paths = list(results.glob("*/*-here-*.json"))
    files = {path: json.loads(path.read_text()) for path in paths}
    for path in sorted(paths, key=lambda p: files[p]["date"])[-5:]:
        row = files[path]["results"][SLOWED]
        row[0][0] *= 20
        path.write_text(json.dumps(files[path]))


Visit = Callable[..., Any]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desk", "phone"])
def test_front_page(site: str, visit: Visit, width: int, dark: bool) -> None:  # noqa: F811
    page = visit(site, width=width, dark=dark)
    assert page.locator("h1").inner_text() == "fastconv: performance"
    assert page.locator("article").count() == 6  # families
    assert page.locator("polyline").count() > 30
    assert page.locator("#regressed td.behind").count() >= 1
    assert page.evaluate("document.images[0].naturalWidth") > 0
    assert spill(page) <= 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(", "))) < 380) == dark
    page.get_by_role("link", name="Grid").click()
    page.wait_for_selector("#summarygrid-display canvas")


def test_grid(site: str, visit: Visit) -> None:  # noqa: F811
    page = visit(f"{site}/asv.html#/")
    assert not page.url.endswith("error.html")
    assert page.locator("#summarygrid-display canvas").count() >= 10
    page.get_by_role("link", name="Front page").click()
    page.wait_for_selector("article")


def test_graph(site: str, visit: Visit) -> None:  # noqa: F811
    from ast import literal_eval

    page = visit(f"{site}/asv.html#bench_ndimage.Prepared.time_call")
    assert page.locator("#main-graph canvas").count() >= 1
    drawn = page.evaluate(
        "[...document.querySelectorAll('#main-graph canvas')].some(c => c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.some(v => v))"
    )
    assert drawn
    text = (ROOT / "bench" / "results" / "asv" / "benchmarks.json").read_text()
    filters, _ = json.loads(text)["bench_ndimage.Prepared.time_call"]["params"]
    legend = page.locator(".legendLabel").all_inner_texts()
    assert legend == [f"filter-{literal_eval(name)}; threads-1" for name in filters]


def test_regressions(site: str, visit: Visit) -> None:  # noqa: F811
    page = visit(f"{site}/asv.html#/regressions")
    page.wait_for_selector("#regressions-body table tbody tr")
    assert SLOWED in page.locator("#regressions-body").inner_text()


def test_asv_runs_a_benchmark_of_this_tree(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``make bench`` runs, once and cold, kept elsewhere."""
    pytest.importorskip("asv", reason="no asv: pip install -e '.[bench]'")
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import builds, record

    listed = (ROOT / "bench" / "machine.json").read_text()
    configure(tmp_path, tmp_path / "results")
    asv, *arguments = record.command("bench_api.Planned", builds.commit("HEAD"))
    command = [asv, "--config", str(tmp_path / "asv.conf.json"), *arguments, "--quick"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTCONV_WISDOM": ":memory:"}
    environment["HOME"] = str(tmp_path)  # where asv keeps what it knows of machines
    record.introduce(environment)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bench_api.Planned.time_call" in done.stdout and "failed" not in done.stdout
    kept = (tmp_path / "results").glob(f"*/{builds.commit('HEAD')[:8]}-here-*.json")
    assert "bench_api.Planned.time_call" in json.loads(next(kept).read_text())["results"]
    assert (ROOT / "bench" / "machine.json").read_text() == listed  # asv writes what it was given
