"""The comparison with peers: that it runs, and compares what it says. Nothing asserts on time."""

from __future__ import annotations

import csv
import json
import math
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import fastconv
from fastconv import _workloads

ROOT = pathlib.Path(fastconv.__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "bench").exists(), reason="no source tree")

#: A call of each family, and of each form that libraries see differently.
TINY = """
[[conv]]
name = "plain"
x = [1, 8, 9, 10]
w = [16, 8, 3, 3]
padding = 1
[[conv]]
name = "batch"
x = [2, 4, 9, 10]
w = [6, 4, 5, 3]
stride = 2
padding = [2, 1]
[[conv]]
name = "depthwise"
x = [1, 8, 9, 10]
w = [8, 1, 3, 3]
groups = 8
[[conv]]
name = "row"
x = [1, 4, 50]
w = [8, 4, 3]
dilation = 2
[[conv]]
name = "volume"
x = [1, 4, 5, 6, 7]
w = [4, 2, 1, 3, 3]
groups = 2
[[conv]]
name = "double"
x = [1, 3, 9, 10]
w = [4, 3, 3, 3]
dtype = "float64"
[[conv]]
name = "transposed"
op = "conv_transpose"
x = [1, 4, 5, 6]
w = [4, 2, 3, 3]
groups = 2
stride = 2
padding = 1
output_padding = 1
[[conv]]
name = "input"
op = "grad_input"
x = [1, 4, 8, 9]
w = [8, 4, 3, 3]
stride = 2
padding = 1
[[conv]]
name = "weight"
op = "grad_weight"
x = [2, 4, 8, 9]
w = [8, 4, 3, 3]
padding = 1
[[signal]]
name = "fir"
a = [300]
b = [9]
[[signal]]
name = "valid"
a = [40, 30]
b = [5, 4]
mode = "valid"
dtype = "complex128"
[[signal]]
name = "rows"
a = [3, 40]
b = [1, 5]
axes = [1]
[[image]]
name = "bytes"
op = "correlate"
a = [20, 30]
b = [3, 3]
dtype = "uint8"
output = "float32"
[[image]]
name = "gaussian"
op = "gaussian_filter"
a = [20, 30, 3]
sigma = [1.0, 2.0, 0.0]
[[image]]
name = "uniform"
op = "uniform_filter"
a = [20, 30]
size = 5
[[image]]
name = "sobel"
op = "sobel"
a = [20, 30]
[[match]]
name = "template"
a = [20, 30]
b = [5, 4]
dtype = "uint8"
[[power]]
name = "draws"
a = [6]
n = 11
dtype = "float64"
"""


@pytest.fixture(autouse=True)
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT))
    yield


def run(*arguments: object, cwd: pathlib.Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, cwd=cwd,
        env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str]:
    """Folder of the script's JSON file, and what it printed."""
    folder = tmp_path_factory.mktemp("peers")
    (folder / "tiny.toml").write_text(TINY)
    return folder, run("bench.peers", "tiny.toml", "--budget", 0.02, "--json", "t.json", cwd=folder)


def test_the_script(measured: tuple[pathlib.Path, str]) -> None:
    folder, text = measured
    found = json.loads((folder / "t.json").read_text())
    names = [row["name"] for row in found["rows"]]
    assert names == [w.name for w in _workloads.load(folder / "tiny.toml")]
    assert all(f"\n{name} " in text for name in names)
    assert {row["family"] for row in found["rows"]} == {
        "3x3 stride 1", "other forward", "depthwise", "transposed, backward", "signals", "images",
        "templates", "powers",
    }  # fmt: skip
    for row in found["rows"]:
        assert {"plan", "call"} <= row["seconds"].keys() and min(row["seconds"].values()) > 0
        assert "computes something else" not in row["notes"].values(), row
        assert min(row["least"].values()) > 0 and row["flops"] > 0 and row["bytes"] > 0
        if row["kind"] not in ("layer", "match"):  # SciPy is always there
            assert len(row["seconds"]) > 2
    assert found["ceilings"]["flops"]["float32"] > 1e8
    *_, powers, calls = text.splitlines()
    assert powers.startswith("powers") and " ratio " in powers and calls.startswith("call / plan")


def test_the_report(measured: tuple[pathlib.Path, str]) -> None:
    pytest.importorskip("matplotlib")
    folder, _ = measured
    run("bench.report", "t.json", "t.json", "--out", "results", cwd=folder)
    with (folder / "results" / "peers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cases = len(_workloads.load(folder / "tiny.toml"))
    assert len(rows) == 2 * 2 * cases  # two files, two modes
    for row in rows:
        times = [
            float(v) for k, v in row.items() if k.endswith("_ms") and "fastconv" not in k and v
        ]
        if times:
            ratio = min(times) / float(row["fastconv_ms"])
            assert float(row["ratio"]) == pytest.approx(ratio, rel=1e-2)
    assert (folder / "results" / "roofline.png").read_bytes().startswith(b"\x89PNG")
    assert str(ROOT) not in (folder / "results" / "peers.csv").read_text()


def test_one_mode_and_some_cases(tmp_path: pathlib.Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    text = run(
        "bench.peers", "tiny.toml", "--mode", "call", "--only", "fir", "sob", "--budget", 0.01,
        cwd=tmp_path,
    )  # fmt: skip
    rows = [
        words for words in map(str.split, text.splitlines()) if words[:1] in (["fir"], ["sobel"])
    ]
    assert [words[0] for words in rows] == ["fir", "sobel"]
    assert all(words[1] == "-" and float(words[2]) >= 0 for words in rows)


def test_cases_of_both_forms_are_the_same() -> None:
    """asv's parameters are lines of shapes.py, the script's are tables: one set of calls."""
    from bench import peers, shapes

    listed = {**shapes.NN, **shapes.SIGNAL, **shapes.IMAGE}
    cases = {w.name: peers.case_of(w) for w in _workloads.load(ROOT / "bench" / "workloads.toml")}
    assert list(cases) == list(listed)
    for name, text in listed.items():
        a, b = shapes.case(text), cases[name]
        for field in ("kind", "function", "dtype", "x_shape", "w_shape", "size"):
            assert getattr(a, field) == getattr(b, field), (name, field)
        if a.kind == "layer":
            assert shapes.spatial(a) == shapes.spatial(b) and a.groups == b.groups
        else:
            assert a.options == b.options
            assert a.w_shape is None or a.w_dtype == b.w_dtype


def test_other_shapes_are_others() -> None:
    from bench import peers

    public, others, networks = (_workloads.load(path) for path in peers.FILES)
    assert len(public) > 50 and len(others) > 50 and len(networks) > 90
    every = [*public, *others, *networks]
    assert len({w.name for w in every}) == len({str(w.problems()) for w in every}) == len(every)
    assert {peers.family(peers.case_of(w)) for w in others} == {
        f for families in peers.FAMILIES.values() for f in families
    }


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_results_in_fewer_bits_do_not_agree(dtype: str) -> None:
    from bench.peers import agree

    random = np.random.default_rng(1)
    y = random.standard_normal(20_000).astype(dtype)
    eps = np.finfo(dtype).eps
    assert agree(y, y * (1 + 100 * eps))
    short = y.real.astype("f2") if eps > 1e-10 else y.real.astype("f4")
    assert not agree(y, short.astype(dtype) + (y - y.real))
    assert not agree(y, y[1:]) and not agree(y, np.roll(y, 1))
    assert agree(np.array([1, 250], "u1"), np.array([3, 248], "u1"))
    assert not agree(np.array([1, 250], "u1"), np.array([4, 250], "u1"))


def test_operations() -> None:
    """The definition's operations, whichever way a case is written."""
    from bench import ceilings, shapes

    def flops(text: str, *shape: int) -> int:
        return ceilings.operations(shapes.case(text), np.empty(shape, "f4"))

    assert flops("conv2d f32 n2 c6 h8 w9 k4 r3 s5 g2", 2, 4, 6, 5) == 2 * 2 * 4 * 30 * 3 * 15
    forward = 2 * 2 * 4 * 30 * 6 * 15
    assert flops("conv2d_input f32 n2 c6 h8 w9 k4 r3 s5", 2, 6, 8, 9) == forward
    assert flops("conv2d_weight f32 n2 c6 h8 w9 k4 r3 s5", 4, 6, 3, 5) == forward
    assert flops("conv_transpose2d f32 n1 c6 h3 w4 k2 r2 s2 u2", 1, 2, 6, 8) == 2 * 72 * 2 * 4
    assert flops("convolve c128 a100 b7", 106) == 8 * 700
    assert flops("convolve f64 a100 b7 valid", 94) == 2 * 94 * 7
    assert flops("gaussian_filter f32 a10,20,3 sigma1,2,0", 10, 20, 3) == 2 * 600 * (9 + 17)
    assert flops("correlate u8 a10,20 b3,3 y:f32", 10, 20) == 2 * 200 * 9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peak(dtype: str) -> None:
    """It must compute what it says, or its speed is that of something else."""
    from bench import ceilings

    peak, length = ceilings.compiled_peak(dtype)
    data = np.full(2 + length + 3, 7, dtype)
    data[:2] = 0.5, 3
    data[2 : 2 + length] = expected = np.random.default_rng(0).integers(0, 64, length)
    peak(5, data)
    for _ in range(5):
        expected = expected * 0.5 + 3
    assert (data[2 : 2 + length] == expected).all() and (data[2 + length :] == 7).all()


def test_limits() -> None:
    from bench import ceilings, shapes

    flops, copy = {"float32": 1e11, "float64": 5e10}, ((1 << 16, 1e11), (1 << 26, 1e10))
    found = ceilings.Ceilings(1, flops, copy)
    assert found.bandwidth(1) == pytest.approx(1e11)
    assert found.bandwidth(1e12) == pytest.approx(1e10)
    assert found.bandwidth(1 << 21) == pytest.approx(math.sqrt(1e21))
    c = shapes.case("conv2d f32 n1 c1 h9 w9 k1 r3 s3")
    least = {"fma": pytest.approx(0.01), "copy": pytest.approx((1 << 26) / 1e10)}
    assert found.least(c, 10**9, 1 << 26) == least
    whole = shapes.case("convolve i64 a9 b3")
    assert found.least(whole, 10**9, 1 << 26).keys() == {"copy"}
