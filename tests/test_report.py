"""The report: what it gathers, and its page in a browser."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from browser import chromium, spill, visit  # noqa: F401

from fastconv import _calibration, _cli, _planner, _report, _settings, _timer, _wisdom
from fastconv._environment import environment, id_of, identity
from fastconv._machine import this_machine
from fastconv._problem import Problem
from fastconv._rows import Decision, Environment, Trial
from fastconv._store import Store
from fastconv.solvers import BY_NAME

TEXTS = (
    "conv2d f32 n1 c64 h56 w56 k64 r3 s3 p1 prepared", "conv2d f64 n1 c1 h64 w64 k1 r5 s5",
    "conv2d f32 n1 c16 h9 w9 k8 r1 s1", "conv1d f32 n1 c1 w4096 k1 s300 flip",
    "conv3d f32 n1 c2 d5 h6 w7 k3 t1 r3 s2", "conv1d i64 n1 c1 w50 k1 s3",
)  # fmt: skip


@pytest.fixture(autouse=True)
def wisdom_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    path = tmp_path / "wisdom.db"
    monkeypatch.setenv("FASTCONV_WISDOM", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("_stores", "_file_pins", "_file_quarantine"):
        monkeypatch.setattr(_wisdom, name, {})
    return path


def told(text: str, seconds: list[float], note: str = "it was slow") -> list[Any]:
    """Candidates of a problem, as after timing: so many timed, in this order; the rest not."""
    legal = [c for c in _planner.candidates(Problem.parse(text)) if c.refused is None]
    found = []
    for i, c in enumerate(legal):
        change: dict[str, Any] = {"status": "untried", "estimate": c.seconds, "refused": note}
        if i < len(seconds):
            s = seconds[i]
            timing = _timer.Timing(s, s, s, s, 9, 1)
            change |= {"status": "timed", "source": "timed", "seconds": s, "timing": timing}
            change["refused"] = None
        found.append(dataclasses.replace(c, **change))
    return sorted(found, key=lambda c: (c.source != "timed", c.seconds))


def fill(texts: tuple[str, ...] = TEXTS) -> None:
    """Decisions whose model was wrong by as much as there are problems before them."""
    for i, text in enumerate(texts):
        assert _wisdom.remember(told(text, [1e-3 * (1 + i), 1e-3, 4e-3]), this_machine())


def test_empty() -> None:
    report = _report.gather()
    assert (report.machines, report.problems, report.unused) == ((), (), 0)
    assert _report.regret(()) is None


def test_a_problem_and_its_trials() -> None:
    text = TEXTS[0]
    found = told(text, [3e-3, 2e-3, 8e-3])
    assert _wisdom.remember(found, this_machine(), effort=3, noise=0.01)
    (p,) = _report.gather().problems
    assert (p.text, p.method, p.seconds) == (text, found[0].method, 2e-3)
    assert (p.effort, p.noise, p.how) == (3, 0.01, "timed")
    assert p.config == " ".join(f"{k}={v}" for k, v in sorted(found[0].config.items()))
    assert p.runner_up.startswith(found[1].method) and p.margin == 1.5
    assert (p.dtype, p.kernel, p.channels) == ("f32", "2-D 3", "64-127")
    flops, moved = 2 * 56 * 56 * 64 * 64 * 9, 4 * (2 * 64 * 56 * 56 + 64 * 64 * 9)
    assert p.intensity == pytest.approx(flops / moved, rel=1e-3)
    assert p.rate == pytest.approx(flops / 2e-3, rel=1e-3)
    seconds = [t.seconds for t in p.trials]
    assert seconds[:3] == [2e-3, 3e-3, 8e-3] and set(seconds[3:]) <= {0.0}
    assert {t.note for t in p.trials if not t.seconds} <= {"it was slow"}
    # the model's first choice took 3 ms
    first = _planner.candidates(Problem.parse(text))[0]
    assert p.model.split()[0] == first.method and p.regret == 1.5


def test_regret_of_a_choice_that_was_not_timed() -> None:
    model, other, *_ = told(TEXTS[0], [2e-3, 3e-3])
    _wisdom.remember([other], this_machine())
    (p,) = _report.gather().problems
    assert p.method == other.method and p.model.split()[0] == model.method and p.regret == 0
    assert _report.regret([p]) is None


def test_regret_elsewhere_is_by_the_estimates_of_then() -> None:
    _wisdom.remember(told(TEXTS[0], [2e-3, 1e-3, 8e-3]), this_machine())
    (row,), trials = _wisdom.rows(), _wisdom.rows(Trial)
    there = foreign(row, "VAX 11/780")
    moved = [dataclasses.replace(t, environment=there[0].id) for t in trials]
    slow = next(t for t in moved if t.seconds == 8e-3)
    moved[moved.index(slow)] = dataclasses.replace(slow, estimate=1e-9)
    assert _wisdom._store().put([*there, *moved])
    _, p = sorted(_report.gather().problems, key=lambda p: p.machine)
    assert p.model.split()[0] == slow.solver and p.regret == 8.0


def test_regret_of_many() -> None:
    fill()
    problems = _report.gather().problems
    found = _report.regret(problems)
    assert found is not None
    ratios = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][: len(TEXTS)]
    assert sorted(p.regret for p in problems) == ratios
    assert found.mean == pytest.approx(math.prod(ratios) ** (1 / 6))
    assert (found.p95, found.worst, found.count) == (6.0, 6.0, 6)


@pytest.mark.parametrize(
    ("text", "kernel", "channels"),
    [
        ("conv1d f32 n1 c1 w50 k1 s1", "1-D 1", "1"),
        ("conv1d f32 n1 c3 w50 k1 s8", "1-D 8", "2-3"),
        ("conv1d f32 n1 c8 w50 k8 s9 g2", "1-D 8-15", "4-7"),
        ("conv2d f32 n1 c512 h40 w50 k2 r2 s31", "2-D 16-31", "512-1023"),
        ("conv1d f32 n1 c0 w50 k1 s32", "1-D 32-63", "0"),
    ],
)
def test_places_of_the_map(text: str, kernel: str, channels: str) -> None:
    p = Problem.parse(text)
    assert _report._kernel(p)[1] == kernel and _report._channels(p)[1] == channels


def test_the_map_is_in_order() -> None:
    sizes = (1, 2, 7, 8, 9, 15, 16, 40, 1000, 1 << 20)
    problems = [Problem(size=(1 << 20,) * n, kernel=(s,) * n) for n in (1,) for s in sizes]
    problems += [Problem(size=(16, 16), kernel=(s, 1)) for s in (1, 9, 16)]
    orders = [_report._kernel(p)[0] for p in problems]
    assert orders == sorted(orders)
    labels = {_report._kernel(p)[1]: _report._kernel(p)[0] for p in problems}
    assert len(set(labels.values())) == len(labels)


def test_what_is_stored_narrow_is_moved_narrow() -> None:
    wide, narrow, half = (
        _report._bytes(Problem.parse(f"conv1d f32{stored} n1 c1 w100 k1 s1"))
        for stored in ("", " x:u8", " x:bf16 w:bf16 y:bf16")
    )
    assert (wide, narrow, half) == (804, 504, 402)


def test_threads_of_the_winner_count() -> None:
    """Two threads granted, one taken: the rate is that of one."""
    problem = Problem.parse("conv2d f32 n1 c16 h28 w28 k16 r3 s3 p1 threads2")
    for c in _planner.candidates(problem):
        if c.refused is None and c.config.get("threads") == 1:
            timed = dataclasses.replace(c, source="timed", seconds=1e-3)
            _wisdom.remember([timed], this_machine())
            break
    (p,) = _report.gather().problems
    assert p.threads == 2 and p.rate == pytest.approx(problem.flops / 1e-3, rel=1e-3)


def test_other_revisions_are_counted_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    (winner, *_) = [p.method for p in _report.gather().problems]
    stale = sum(p.method == winner for p in _report.gather().problems)
    monkeypatch.setattr(type(BY_NAME[winner]), "revision", 99)
    report = _report.gather()
    assert report.unused == stale and len(report.problems) == len(TEXTS) - stale
    assert not any(t.method == winner for p in report.problems for t in p.trials)


def foreign(row: Decision, name: str) -> tuple[Environment, Decision]:
    """A decision of another machine."""
    of = {**identity(this_machine()), "machine": name}
    moved = dataclasses.replace(row, environment=id_of(of))
    return Environment(id_of(of), of, {"processor": name}, "2020", "2020"), moved


def test_machines(tmp_path: pathlib.Path) -> None:
    fill()
    others = [row for d in _wisdom.rows() for row in foreign(d, "VAX 11/780")]
    assert _wisdom._store().put(others)
    report = _report.gather()
    assert [m.here for m in report.machines] == [True, False]
    assert report.machines[1].name == "VAX 11/780"
    assert [p.machine for p in report.problems].count(1) == len(TEXTS)
    facts = dict(report.machines[0].facts)
    assert facts["environment"] == environment(this_machine())
    assert {"machine", "BLAS", "FFT", "L3", "numpy"} <= set(facts) and "host" not in facts


def test_sites_are_below_the_user(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    fill(TEXTS[:2])
    one, two = _wisdom.rows()
    site = tmp_path / "site.db"
    below = dataclasses.replace(one, seconds=77.0), dataclasses.replace(two, problem=TEXTS[4])
    assert Store(site).put(below)
    monkeypatch.setenv("FASTCONV_TUNE_RO", str(site))
    _settings.reload()
    try:
        problems = {p.text: p for p in _report.gather().problems}
    finally:
        monkeypatch.undo()
        _settings.reload()
    assert set(problems) == {one.problem, two.problem, TEXTS[4]}
    assert problems[one.problem].seconds == _report._short(one.seconds)


CALIBRATION = _calibration.Calibration(
    {"f32": 1e11, "f64": 5e10}, {1 << 17: 4e10, 1 << 22: 2e10, 1 << 27: 1e10}, 1e10, 1e-5, {}
)


def test_roofs_are_those_of_the_calibration(tmp_path: pathlib.Path) -> None:
    fill(TEXTS[:1])
    (place,) = _report.gather().machines
    assert place.peaks == {} and place.copies == {}
    assert _calibration.remember(CALIBRATION)
    (place,) = _report.gather().machines
    assert place.peaks == {"f32": 1e11, "f64": 5e10}
    assert place.copies == {"L2": 4e10, "L3": 2e10, "memory": 1e10}
    path = tmp_path / "calibration.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({**entries, "other": {"version": 1}, "more": 3}))
    assert list(_calibration.everywhere()) == [environment(this_machine())], (
        "the others are damaged"
    )
    for damage in ("[]", "nonsense", "{"):
        path.write_text(damage)
        assert _report.gather().machines[0].peaks == {}
    _calibration.known.cache_clear()


def test_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*argv: str) -> str:
        assert _cli.main(["report", *argv]) == 0
        return capsys.readouterr().out

    assert "nothing is tuned yet" in run()
    fill()
    text = run()
    assert "problems: 6" in text and "worst 6.00" in text and ", here" in text
    assert all(p.method in text for p in _report.gather().problems)
    found = json.loads(run("--json"))
    assert {p["text"] for p in found["problems"]} == set(TEXTS)
    assert set(found["problems"][0]) == {f.name for f in dataclasses.fields(_report.Tuned)}
    out = str(tmp_path / "out.html")
    assert run("--html", out) == f"{out}, problems: 6\n"
    assert json.loads(run("--html", out, "--json")) == {"file": out, "problems": 6}
    other = str(tmp_path / "other.db")
    assert "problems: 0" in run("--db", other)
    assert _cli.main(["report", "--html", str(tmp_path / "no" / "where")]) == 2
    assert "No such file" in capsys.readouterr().err


# The page

Visit = Callable[..., Any]


def written(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "report.html"
    path.write_text(_report.page(_report.gather()), encoding="utf-8")
    return path.as_uri()


def many() -> None:
    """Two decisions of this machine, and 320 of another."""
    rng = random.Random(1)
    fill(TEXTS[:2])
    there, row = foreign(_wisdom.rows()[0], "VAX 11/780")
    rows = [
        dataclasses.replace(
            row,
            problem=f"conv1d f{32 * (1 + i % 2)} n1 c{1 + i % 3} w{400 + i} k1 s{1 + i % 5}",
            seconds=rng.uniform(1e-6, 1.0),
        )
        for i in range(320)
    ]
    assert _wisdom._store().put([there, *rows])


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"#table > table > tbody > tr > td:nth-child({number})").all_inner_texts()


@pytest.mark.parametrize("width, dark", [(1280, False), (390, True)], ids=["desk", "phone"])
def test_page(tmp_path: pathlib.Path, visit: Visit, width: int, dark: bool) -> None:  # noqa: F811
    fill()
    _calibration.remember(CALIBRATION)
    page = visit(written(tmp_path), width=width, dark=dark)
    assert page.locator("h1").inner_text() == "fastconv: tuning"
    assert page.locator(".dot").count() == len(TEXTS)
    assert page.locator(".roof").count() == 5
    assert set(column(page, 1)) == set(TEXTS)
    bars = sum(1 for p in _report.gather().problems for t in p.trials if t.seconds)
    assert page.locator(".bars rect").count() == bars
    assert page.locator("#map button").count() == 6
    regret = _report.regret(_report.gather().problems)
    assert regret is not None and f"{regret.mean:.3f}" in page.locator("#tiles").inner_text()
    assert spill(page) <= 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(", "))) < 380) == dark
    box = page.locator("#roof svg").bounding_box()
    for i in range(len(TEXTS)):  # inside the frame, and where it can be seen
        dot = page.locator(".dot").nth(i).bounding_box()
        assert box["x"] <= dot["x"] <= box["x"] + box["width"]
        assert box["y"] <= dot["y"] <= box["y"] + box["height"]


def test_sorting(tmp_path: pathlib.Path, visit: Visit) -> None:  # noqa: F811
    fill()
    page = visit(written(tmp_path))
    by = {p.text: p for p in _report.gather().problems}

    def values(name: str) -> list[Any]:
        return [getattr(by[text], name) for text in column(page, 1)]

    page.locator("[data-key=regret]").click()
    assert values("regret") == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    page.locator("[data-key=regret]").click()
    assert values("regret") == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Regret")
    page.locator("[data-key=rate]").click()
    assert values("rate") == sorted((p.rate for p in by.values()), reverse=True)
    page.locator("[data-key=text]").click()
    assert column(page, 1)[0] == "conv1d f32 n1 c1 w4096 k1 s300 flip"


def test_filters(tmp_path: pathlib.Path, visit: Visit) -> None:  # noqa: F811
    fill()
    page = visit(written(tmp_path))
    problems = _report.gather().problems
    page.locator("#text").fill("CONV2D  r5")
    assert column(page, 1) == [TEXTS[1]] and page.locator(".dot").count() == 1
    assert page.locator("#count").inner_text() == "1 of 6 problems"
    page.locator("#text").fill("nowhere")
    assert column(page, 1) == [] and page.locator(".dot").count() == 0
    page.locator("#clear").click()
    page.locator("#dtype").select_option("f32")
    assert set(column(page, 1)) == {p.text for p in problems if p.dtype == "f32"}
    page.locator("#dtype").select_option("")
    method = problems[0].method
    page.locator("#method").select_option(method)
    assert set(column(page, 1)) == {p.text for p in problems if p.method == method}
    page.locator("#clear").click()
    cell = page.locator("#map button").first
    assert cell.get_attribute("aria-label").startswith("1-D 3 | 1:")
    cell.click()
    assert column(page, 1) == [TEXTS[5]]
    page.locator("#map button[aria-pressed=true]").click()
    assert len(column(page, 1)) == 6
    page.locator(".dot").first.press("Enter")
    assert len(column(page, 1)) == 1


def test_empty_page(tmp_path: pathlib.Path, visit: Visit) -> None:  # noqa: F811
    page = visit(written(tmp_path))
    assert "fastconv tune" in page.locator("#empty").inner_text()
    assert not page.locator("main").is_visible()


def test_several_machines_and_many_problems(tmp_path: pathlib.Path, visit: Visit) -> None:  # noqa: F811
    many()
    page = visit(written(tmp_path))
    assert len(column(page, 1)) == 2
    page.locator("#machine").select_option("1")
    assert "VAX" in page.locator("#facts").inner_text()
    assert len(column(page, 1)) == 300 and page.locator(".dot").count() == 320
    page.locator("#more").click()
    assert len(column(page, 1)) == 320 and not page.locator("#more").is_visible()


def test_text_stays_text(tmp_path: pathlib.Path, visit: Visit) -> None:  # noqa: F811
    """What others wrote into rows, or named files, becomes no markup."""
    evil = "</script><!--<script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u2028"
    _wisdom.remember(told(TEXTS[0], [1e-3], note=evil), this_machine())
    of = {**identity(this_machine()), "machine": evil}
    (row,) = _wisdom.rows()
    moved = dataclasses.replace(row, environment=id_of(of), runner_up=evil, created=evil)
    assert _wisdom._store().put([moved, Environment(id_of(of), of, {"processor": evil}, "a", "b")])
    page = visit(written(tmp_path))
    page.locator("#machine").select_option("1")
    assert evil in page.locator("#facts").text_content()
    assert evil.split()[1] in page.locator("#table").text_content()
    page.locator("#machine").select_option("0")
    page.get_by_title("all trials").click()
    assert f"untried: {evil}" in page.locator(".open").text_content()
    (p,) = (p for p in _report.gather().problems if p.machine == 0)
    assert page.locator(".open tbody tr").count() == len(p.trials)
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2
    page.get_by_title("all trials").click()
    assert page.locator(".open").count() == 0


def test_page_asks_nobody(tmp_path: pathlib.Path) -> None:
    """No address but the names of SVG, and a policy that forbids any request."""
    fill(TEXTS[:1])
    text = _report.page(_report.gather())
    assert text.count("http://") == text.count("http://www.w3.org/2000/svg") == 1
    assert "https://" not in text and "default-src 'none'" in text
