"""The history that is kept in bench/results/asv: one series, of the rows that are tracked."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

import fastconv

ROOT = pathlib.Path(fastconv.__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "bench").exists(), reason="no source tree")

KEPT = sorted((ROOT / "bench" / "results" / "asv").glob("*/*-here-*.json"))


def test_commits_are_named() -> None:
    commits = re.findall(r'"(\w+)"', (ROOT / "bench" / "history.toml").read_text())
    kept = {json.loads(path.read_text())["commit_hash"][:8] for path in KEPT}
    assert len(commits) >= 12 and set(commits) <= kept


def test_history_is_one_series() -> None:
    """asv makes the machine's strings, and the environment's, part of a series' identity."""
    assert len(KEPT) >= 12
    files = [json.loads(path.read_text()) for path in KEPT]
    assert len({json.dumps(f["params"], sort_keys=True) for f in files}) == 1
    assert len({f["env_name"] for f in files}) == 1
    assert len({f["commit_hash"] for f in files}) == len(files)
    for path in KEPT:
        assert str(ROOT.parent) not in path.read_text()


def test_history_has_the_tracked_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import tracked

    names = {row.benchmark for row in tracked.TRACKED} | {
        f"{suite}.track_time_ratio" for suite, _ in tracked.PEERS.values()
    }
    latest = max((json.loads(p.read_text()) for p in KEPT), key=lambda f: f["date"])
    assert set(latest["results"]) == names
