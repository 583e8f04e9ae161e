"""The demo at a tiny size, its checks, and the examples."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import io
import json
import pathlib
import runpy
import sys
from typing import Any

import numpy as np
import pytest
import scipy.signal

import fastconv
from fastconv import _demo

EXAMPLES = sorted((pathlib.Path(__file__).parent.parent / "examples").glob("*.py"))
PICTURES = ("photograph", "template", "reverb", "unet", "pilotnet", "dice", "speed")


@pytest.fixture
def extras() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, _demo.Demo, str]:
    """One whole run on a picture smaller still: exit code, what it did, what it printed."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    scale = dataclasses.replace(_demo.TINY, height=54, width=96, dice=7)
    demo = _demo.Demo(tmp_path_factory.mktemp("demo"), scale, as_json=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        return demo.run(), demo, printed.getvalue()


def test_every_result_is_checked_and_right(tiny: tuple[int, _demo.Demo, str]) -> None:
    code, demo, _ = tiny
    assert [row for row in demo.rows if not row.checked] == []
    assert code == 0
    assert len(demo.rows) == _demo.Demo.WORKS
    assert {row.network for row in demo.rows} == {"", "U-Net", "PilotNet"}
    assert all(row.methods and row.seconds > 0 and row.peer_seconds > 0 for row in demo.rows)


def test_pictures_and_sound_are_written(tiny: tuple[int, _demo.Demo, str]) -> None:
    from PIL import Image

    _, demo, _ = tiny
    for name in PICTURES:
        with Image.open(demo.out / f"{name}.png") as picture:
            assert min(picture.size) > 200
            assert picture.convert("L").getextrema() != (255, 255)  # not an empty page
    dry, wet = (scipy.io.wavfile.read(demo.out / f"{n}.wav") for n in ("dry", "wet"))
    assert dry[0] == wet[0] == _demo.TINY.rate
    assert dry[1].shape == wet[1].shape
    assert np.abs(wet[1].astype(int)).max() > 1000


def test_the_table_as_json(tiny: tuple[int, _demo.Demo, str]) -> None:
    _, demo, printed = tiny
    found = json.loads(printed)
    assert found["folder"] == str(demo.out) and len(found["results"]) == _demo.Demo.WORKS
    assert all(row["checked"] and row["ratio"] > 0 for row in found["results"])


def test_main_makes_the_folder(
    extras: None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_demo.Demo, "run", lambda demo: 10 + demo.as_json)
    assert _demo.main(tmp_path / "new" / "folder", _demo.TINY, as_json=True) == 11
    assert (tmp_path / "new" / "folder").is_dir()


def test_a_wrong_result_fails_the_demo(
    extras: None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = fastconv.conv1d

    def wrong(*args: Any, **options: Any) -> Any:
        y = right(*args, **options)
        y[..., -1] *= 1 + 1e-10  # a relative error that the FFT would make without notice
        return y

    monkeypatch.setattr(fastconv, "conv1d", wrong)
    demo = _demo.Demo(tmp_path, _demo.TINY)
    demo.dice()
    assert demo.rows and not any(row.checked for row in demo.rows)


def test_a_missing_extra_is_one_line_and_exit_code_2(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def no_matplotlib(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    assert _demo.main(tmp_path) == 2
    said = capsys.readouterr()
    assert "matplotlib is missing" in said.err and "fastconv[demo]" in said.err
    assert said.err.count("\n") == 1 and said.out == ""


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_code_2(
    extras: None, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert _demo.main(file) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["winograd", "fft", "direct"])
def test_results_are_measured_as_their_method_promises(method: str) -> None:
    """A layer after a ReLU: windows of zeros lie beside others in one tile."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 2, 16, 16), np.float32)
    x[:, :, 2:12, 2:12] *= np.float32(1e-4)
    w = rng.standard_normal((2, 2, 3, 3), np.float32)
    plan = fastconv.plan(fastconv.conv2d, x, w, padding=1, method=method)
    y = plan(x)
    wide_x, wide_w = x.astype(np.float64), w.astype(np.float64)
    reference = _demo.conv2d_numpy(wide_x, wide_w, 1, 1)
    magnitude = _demo.conv2d_numpy(abs(wide_x), abs(wide_w), 1, 1)
    ceiling = abs(wide_x).max() * abs(wide_w).sum((1, 2, 3))[:, None, None]
    allowed = _demo.contract(plan.candidates, magnitude, ceiling, y.dtype)
    assert _demo.relative_error(y, reference, allowed) <= 1
    if method != "direct":  # the same against each window's own sum: of a transform too much
        own = _demo.contract(plan.candidates, magnitude, magnitude, y.dtype)
        assert _demo.relative_error(y, reference, own) > 1


@pytest.mark.parametrize("size, stride, pad", [(1, 1, 0), (3, 1, 1), (5, 2, 0), (3, 2, 2)])
def test_numpy_layer_is_a_correlation(size: int, stride: int, pad: int) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((1, 3, 11, 14)), rng.standard_normal((4, 3, size, size))
    padded = np.pad(x[0], ((0, 0), (pad, pad), (pad, pad)))
    want = np.stack([scipy.signal.correlate(padded, k, "valid", "direct")[0] for k in w])
    got = _demo.conv2d_numpy(x, w, stride, pad)[0]
    np.testing.assert_allclose(got, want[:, ::stride, ::stride], rtol=0, atol=1e-12)


def test_numpy_upsampling_is_a_transposed_convolution() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((1, 3, 4, 5)), rng.standard_normal((3, 2, 2, 2))
    spread = np.zeros((3, 7, 9))
    spread[:, ::2, ::2] = x[0]
    want = np.stack([sum(scipy.signal.convolve2d(spread[c], w[c, k]) for c in range(3))
                     for k in range(2)])  # fmt: skip
    np.testing.assert_allclose(_demo.upsample_numpy(x, w)[0], want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_sum_of_dice_at_every_count(count: int) -> None:
    odds = np.random.default_rng(count).dirichlet(np.ones(6), count)
    want = odds[0]
    for die in odds[1:]:
        want = np.convolve(want, die)
    # positive terms only: each of `count` convolutions adds at most 6 roundings to each product
    np.testing.assert_allclose(
        _demo.sum_of_dice(odds), want, rtol=2 * 7 * count * np.finfo(float).eps
    )
    np.testing.assert_allclose(
        _demo.sum_tree(odds, np.convolve), want, rtol=2 * 7 * count * np.finfo(float).eps
    )


def test_steps_tell_what_runs_without_running_it() -> None:
    x, w = np.ones((1, 2, 8, 8), np.float32), np.ones((3, 2, 3, 3), np.float32)
    y = np.full((1, 3, 6, 6), 7, np.float32)
    (step,) = _demo.steps(lambda: fastconv.conv2d(x, w, out=y))
    assert (y == 7).all()
    assert step.problem.x_shape == x.shape and not step.problem.prepared
    (forced,) = _demo.steps(lambda: fastconv.conv2d(x, w, method="naive"))
    assert forced.method == "naive"


def test_relative_error_sees_shapes_nans_and_exact_zeros() -> None:
    one = np.ones(3)
    assert _demo.relative_error(one, one, 0 * one) == 0
    assert _demo.relative_error(one, one + 1, 0 * one) == np.inf
    assert _demo.relative_error(one, one + 1, 4 * one) == 0.25
    assert _demo.relative_error(one, np.ones(4), one) == np.inf
    row = _demo.Row("", "", "", (), 1, "", 1, _demo.relative_error(one * np.nan, one, one))
    assert not row.checked


def test_deviation_is_that_of_each_window() -> None:
    image = np.random.default_rng(3).random((9, 12))
    windows = np.lib.stride_tricks.sliding_window_view(image, (4, 4))
    np.testing.assert_allclose(_demo.deviation(image, 4), windows.std(axis=(2, 3)), rtol=1e-10)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(
    path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    assert len(path.read_text().splitlines()) < 40
    assert list(tmp_path.iterdir()) == []
