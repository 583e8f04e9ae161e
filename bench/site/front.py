"""Our front page above asv's: a scoreboard, what regressed, every row's history, the roofline.

One HTML file without scripts, made of the results in asv's files; see docs/benchmarking.md for how
to read it.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import html
import itertools
import math
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asv.results import iter_results
from asv.util import load_json

from bench import peers, shapes

HERE = pathlib.Path(__file__).parent
RESULTS = HERE.parent / "results"

#: A row has regressed when it takes this many times its least before, as `bench.compare` has it.
REGRESSED = 1.25

#: Ratios nearer to 1 than this are called neither ahead nor behind.
EVEN = 0.05

NAMES = {
    text: name for table in (shapes.NN, shapes.SIGNAL, shapes.IMAGE, shapes.TINY)
    for name, text in table.items()
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Series:
    """A benchmark with its parameters: values by commit, newest last, None where there is none."""

    benchmark: str
    params: tuple[str, ...]
    values: tuple[float | None, ...]
    unit: str

    @property
    def kind(self) -> str:
        return self.benchmark.rpartition(".")[2].partition("_")[0]

    @property
    def last(self) -> float | None:
        return self.values[-1]

    @property
    def case(self) -> str | None:
        """The line of shapes.py that it is about."""
        return next((p[1:-1] for p in self.params if p[1:-1] in NAMES), None)

    @property
    def name(self) -> str:
        """As a reader knows it."""
        rest = [p.strip("'") for p in self.params if p[1:-1] not in NAMES]
        if self.case is None:
            return " ".join([self.benchmark.partition(".")[2].rpartition(".")[0], *rest])
        return " ".join([NAMES[self.case], *(["call"] if "Layer" in self.benchmark else [])])

    @property
    def family(self) -> str:
        c = None if self.case is None else shapes.case(self.case)
        if c is None or self.benchmark.startswith("bench_api"):
            return "overhead and streams"
        return peers.family(c)

    def against(self, first: int) -> float | None:
        """The last value over that of commit number `first`, or of the first after it that has."""
        then = next((v for v in self.values[first:] if v), None)
        return None if not then or self.last is None else self.last / then

    def regressed(self) -> tuple[float, int] | None:
        """(times the least before, that one's commit)."""
        before = [(v, i) for i, v in enumerate(self.values[:-1]) if v]
        if not before or self.last is None or self.kind not in ("time", "track"):
            return None
        least, at = min(before)
        return (self.last / least, at) if self.last > REGRESSED * least else None


@dataclasses.dataclass(frozen=True)
class Commit:
    sha: str
    date: int
    subject: str


@dataclasses.dataclass(frozen=True)
class History:
    """Everything that was measured on one machine, commits in their order."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]
    commits: Sequence[Commit]
    series: Sequence[Series]
    release: int
    release_name: str

    def tracked(self) -> list[Series]:
        return [s for s in self.series if s.kind == "time" and s.last is not None]


def read(results: pathlib.Path, repo: Any, revisions: Mapping[str, int]) -> History:
    """The machine with the most results."""
    machines: dict[str, list[Any]] = {}
    for found in iter_results(str(results)):
        machines.setdefault(found.params["machine"], []).append(found)
    if not machines:
        return History({}, {}, [], [], 0, "")
    files = max(machines.values(), key=len)
    files.sort(key=lambda f: (revisions.get(f.commit_hash, -1), f.date))
    benchmarks = load_json(str(results / "benchmarks.json"))
    commits = [Commit(f.commit_hash, f.date, _subject(repo, f.commit_hash)) for f in files]
    values: dict[tuple[str, tuple[str, ...]], list[float | None]] = {}
    for number, found in enumerate(files):
        for key in found.get_all_result_keys():
            if key not in benchmarks:
                continue
            axes = benchmarks[key]["params"]
            for params, value in zip(
                itertools.product(*axes), found.get_result_value(key, axes), strict=False
            ):
                if value is not None and not math.isnan(value):
                    row = values.setdefault((key, params), [None] * len(files))
                    row[number] = value
    series = [
        Series(key, params, tuple(row), benchmarks[key].get("unit", ""))
        for (key, params), row in values.items()
    ]
    tags = {sha: tag for tag, sha in repo.get_tags().items()}
    tagged = [i for i, c in enumerate(commits[:-1]) if c.sha in tags]
    release = tagged[-1] if tagged else 0
    name = (
        tags[commits[release].sha]
        if tagged
        else f"the first commit measured ({_short(commits[0])})"
    )
    fields = {k: files[-1].params.get(k, "") for k in ("machine", "cpu", "num_cpu", "ram", "os")}
    versions = {"python": files[-1].params["python"], **_requirements(files[-1])}
    return History(fields, versions, commits, series, release, name)


def _requirements(found: Any) -> dict[str, str]:
    return dict(found._requirements or {})


def _subject(repo: Any, sha: str) -> str:
    try:
        return str(repo._run_git(["log", "-1", "--format=%s", sha], display_error=False).strip())
    except Exception:  # a shallow checkout does not have it
        return ""


def _short(commit: Commit) -> str:
    return commit.sha[:8]


def mean(ratios: Iterable[float]) -> float:
    logs = [math.log(r) for r in ratios]
    return math.exp(sum(logs) / len(logs))


# ---- the page


def page(results: pathlib.Path, out: pathlib.Path, repo: Any, revisions: Mapping[str, int]) -> str:
    """The HTML of the page; its picture is copied beside it."""
    history = read(results, repo, revisions)
    parts = [
        _head(history), _scoreboard(history), _regressions(history), _rows(history),
        _memory(history), _roofline(out), _foot(history),
    ]  # fmt: skip
    style = (HERE / "front.css").read_text()
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<title>fastconv: performance</title>\n'
        f'<link rel="icon" href="swallow.ico">\n<style>\n{style}</style>\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value))


def _head(h: History) -> str:
    if not h.commits:
        return (
            "<header><h1>fastconv: performance</h1><p>Nothing has been measured yet.</p></header>"
        )
    last = h.commits[-1]
    date = datetime.datetime.fromtimestamp(last.date / 1000, datetime.timezone.utc)
    m = h.machine
    return f"""<header>
<h1>fastconv: performance</h1>
<p><strong>{_short(last)}</strong> of {date:%d %B %Y}, the last of {len(h.commits)} commits
measured. {_text(m["cpu"])}, {_text(m["num_cpu"])} cores, {_text(m["ram"])}, {_text(m["os"])};
one thread.</p>
<nav><a href="#rows">Every row</a> <a href="asv.html#/">Grid</a>
<a href="asv.html#/summarylist">List</a> <a href="asv.html#/regressions">Regressions</a></nav>
</header>"""


def _verdict(ratio: float) -> str:
    return "ahead" if ratio < 1 - EVEN else "behind" if ratio > 1 + EVEN else "even"


def _trend(ratio: float | None, since: str) -> str:
    if ratio is None:
        return ""
    if ratio < 1 - EVEN:
        said = f"<b class=ahead>&#9660; {1 / ratio:.2f} times as fast</b> as"
    elif ratio > 1 + EVEN:
        said = f"<b class=behind>&#9650; {ratio:.2f} times as slow</b> as"
    else:
        said = "<b>&#9654; as fast</b> as"
    return f"<p class=trend>{said} {_text(since)}</p>"


def _scoreboard(h: History) -> str:
    ratios = [s for s in h.series if s.benchmark.startswith("bench_peers.") and s.last is not None]
    cards = []
    for family in (f for families in peers.FAMILIES.values() for f in families):
        rows = [s for s in ratios if s.family == family]
        timed = [s for s in h.tracked() if s.family == family]
        if not rows:
            continue
        by_peer: dict[str, list[float]] = {}
        for s in rows:
            assert s.last is not None
            by_peer.setdefault(s.params[1].strip("'"), []).append(s.last)
        lines = "".join(
            f"<tr class={_verdict(g)}><th scope=row>{_text(peer)}</th>"
            f"<td class=bar><i style='width:{min(100, 50 * g):.0f}%'></i></td>"
            f"<td class=number>{g:.2f}</td><td class=word>{_verdict(g)}</td></tr>"
            for peer, g in ((p, mean(r)) for p, r in sorted(by_peer.items()))
        )
        worst = max(rows, key=lambda s: s.last or 0.0)
        changes = [c for c in (s.against(h.release) for s in timed) if c is not None]
        count = len({s.case for s in rows})
        cards.append(
            f"<article><h3>{_text(family)} <small>rows: {count}</small></h3>"
            f"<table class=score>{lines}</table>"
            f"<p>Worst: {_text(worst.name.removesuffix(' call').partition(' ')[0])}, "
            f"<span class={_verdict(worst.last or 0)}>{worst.last:.2f}</span> of "
            f"{_text(worst.params[1].strip(chr(39)))}</p>"
            f"{_trend(mean(changes) if changes else None, h.release_name)}</article>"
        )
    if not cards:
        return ""
    return (
        "<section><h2>Beside its peers</h2>\n<p>Time of fastconv over the time of a peer, "
        "geometric mean over the rows of a family: below 1, where the bar ends left of the line, "
        f"fastconv takes less.</p>\n<div class=cards>{''.join(cards)}</div></section>"
    )


def _link(s: Series) -> str:
    return f'<a href="asv.html#{_text(s.benchmark)}">{_text(s.name)}</a>'


def _regressions(h: History) -> str:
    found = [
        (s, r)
        for s in h.series
        if (r := s.regressed()) and not s.benchmark.startswith("bench_peers")
    ]
    said = f"<p>Rows that take over {REGRESSED:g} times their least of any commit before.</p>"
    if not found:
        return f"<section id=regressed><h2>Regressed</h2>{said}<p class=none>None.</p></section>"
    found.sort(key=lambda pair: -pair[1][0])
    lines = "".join(
        f"<tr><th scope=row>{_link(s)}</th><td class=number>{_value(s, s.values[at])}</td>"
        f"<td>{_short(h.commits[at])}</td><td class=number>{_value(s, s.last)}</td>"
        f"<td class='number behind'>{ratio:.2f}</td></tr>"
        for s, (ratio, at) in found
    )
    return (
        f"<section id=regressed><h2>Regressed</h2>{said}<div class=wide><table>"
        "<tr><th>row</th><th class=number>least</th><th>at</th><th class=number>now</th>"
        f"<th class=number>times</th></tr>{lines}</table></div></section>"
    )


def _value(s: Series, value: float | None) -> str:
    if value is None:
        return "-"
    if s.unit == "seconds":
        for unit, scale in (("s", 1.0), ("ms", 1e3)):
            if value * scale >= 1:
                return f"{value * scale:.3g} {unit}"
        return f"{value * 1e6:.3g} &micro;s"
    if s.unit == "bytes":
        return f"{value / 2**20:.3g} MiB" if value >= 2**20 else f"{value / 2**10:.3g} KiB"
    return f"{value:.3g} {_text(s.unit)}"


def _spark(h: History, s: Series, width: int = 160, height: int = 32) -> str:
    """A line over the commits: zero at the bottom, the highest value at the top."""
    known = [(i, v) for i, v in enumerate(s.values) if v is not None]
    high = max(v for _, v in known)
    step = (width - 6) / max(1, len(s.values) - 1)
    points = [(3 + i * step, height - 3 - (height - 6) * v / high) for i, v in known]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    told = "; ".join(f"{_short(h.commits[i])} {_value(s, v)}" for i, v in known)
    x, y = points[-1]
    return (
        f'<svg viewBox="0 0 {width} {height}" width={width} height={height} role=img>'
        f"<title>{told}</title><polyline points='{path}'/>"
        f"<circle cx={x:.1f} cy={y:.1f} r=2.5 /></svg>"
    )


def _rows(h: History) -> str:
    tracked = h.tracked()
    if not tracked:
        return ""
    sections = []
    families = dict.fromkeys(f for fs in peers.FAMILIES.values() for f in fs)
    for family in [*families, "overhead and streams"]:
        rows = [s for s in tracked if s.family == family]
        lines = []
        for s in rows:
            since, before = s.against(h.release), s.against(max(0, len(s.values) - 2))
            changes = "".join(
                f"<td class='number {'' if c is None else _verdict(c)}'>"
                f"{'-' if c is None else f'{c:.2f}'}</td>"
                for c in (before, since)
            )
            lines.append(
                f"<tr><th scope=row>{_link(s)}</th><td>{_spark(h, s)}</td>"
                f"<td class=number>{_value(s, s.last)}</td>{changes}</tr>"
            )
        if rows:
            sections.append(
                f"<tbody><tr><th colspan=5>{_text(family)}</th></tr>{''.join(lines)}</tbody>"
            )
    commits = "".join(
        f"<li><code>{_short(c)}</code> {_text(c.subject)}</li>" for c in reversed(h.commits)
    )
    return (
        "<section id=rows><h2>Every row</h2>\n<p>Time of one call, commit by commit from left to "
        "right, zero at the bottom. <em>last</em>: over the commit measured before; <em>all</em>: "
        "over "
        f"{_text(h.release_name)}.</p><div class=wide><table class=rows><thead><tr><th>row</th>"
        "<th>commits</th><th class=number>now</th><th class=number>last</th>"
        f"<th class=number>all</th></tr></thead>{''.join(sections)}</table></div>"
        f"<details><summary>The {len(h.commits)} commits</summary>"
        f"<ol reversed>{commits}</ol></details>"
        "</section>"
    )


def _memory(h: History) -> str:
    rows = [s for s in h.series if s.benchmark.startswith("bench_memory.") and s.last is not None]
    if not rows:
        return ""
    lines = "".join(
        f"<tr><th scope=row>{_link(s)}</th><td>{_spark(h, s)}</td>"
        f"<td class=number>{_value(s, s.last)}</td></tr>"
        for s in rows
    )
    return (
        "<section><h2>Memory</h2><p>Workspace of a plan, beside operands and packed weights.</p>"
        f"<div class=wide><table class=rows>{lines}</table></div></section>"
    )


def _roofline(out: pathlib.Path) -> str:
    picture, table = RESULTS / "roofline.png", RESULTS / "peers.csv"
    if not picture.exists():
        return ""
    shutil.copy(picture, out / "roofline.png")
    with table.open(newline="") as file:
        row = next(csv.DictReader(file))
    where = f"{row['cpu']}, {row['isa']}, {row['date'][:10]}"
    return (
        "<section><h2>Roofline</h2><p>All rows of the table of peers, each at its operations a "
        "byte, with the best peer; measured apart from the history above, on "
        f'{_text(where)}.</p><img src="roofline.png" alt="Roofline: GFLOP/s over operations a '
        'byte, fastconv and the best of its peers"></section>'
    )


def _foot(h: History) -> str:
    versions = ", ".join(f"{_text(k)} {_text(v)}" for k, v in h.versions.items() if v)
    return (
        f"<footer><p>{versions}.</p><p>All commits of a row were timed in turns in the same "
        "minutes. How to read this page, and what noise means on it: docs/benchmarking.md.</p>"
        "</footer>"
    )
