"""bench/gpu_check: what it writes, says and returns, on an emulated device and on none."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from problems import oracle, stored

import fastconv
from fastconv.cuda import build, launch

ROOT = pathlib.Path(__file__).parent.parent

SMALL = {
    "a": "conv2d f32 n1 c3 h6 w7 k3 r2 s2 p1",
    "b": "conv2d f32 n1 c3 h6 w7 k3 r3 s3 g3 p1 x:f16 w:f16 y:f16",
    "c": "conv1d c64 n1 c1 w12 k1 s3 p1",
}


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import gpu_check

    monkeypatch.setattr(gpu_check, "LAYERS", {**SMALL, "small 3x3 64@56": SMALL["a"]})
    monkeypatch.setattr(gpu_check, "CHECKED", tuple(SMALL.values()))
    noise = gpu_check.Noise
    few = {
        "a": (
            "nn.conv2d_weight", (noise((2, 3, 5, 6)), (4, 3, 2, 2), noise((2, 4, 4, 5))), {},
        ),
        "b": ("ndimage.gaussian_filter", (noise((6, 7)), 1.0), {"mode": "wrap"}),
        "c": ("signal.convolve", (noise((9,), "c64"), noise((4,), "c64")), {}),
    }  # fmt: skip
    monkeypatch.setattr(gpu_check, "FUNCTIONS", few)
    every = gpu_check.candidates

    def some(problem: Any) -> Any:
        """The first, and the first of another solver: a tile takes a second to emulate."""
        found = every(problem)
        return [found[0], *[c for c in found if c[0] is not found[0][0]][-1:]]

    monkeypatch.setattr(gpu_check, "candidates", some)
    monkeypatch.setattr(gpu_check, "compile_all", lambda kernels, capability: [])
    monkeypatch.setattr(build, "cubin", lambda kernel, capability: None)
    return gpu_check


class Device:
    """What `bench.gpu_check.Torch` is, on the emulator; time is made up."""

    wrong = 0.0

    def versions(self) -> dict[str, Any]:
        return {"gpu": "emulated GPU", "capability": [9, 0]}

    def array(self, a: Any, dtype: str, channels_last: bool = False) -> Any:
        from fake_gpu import Tensor

        return Tensor.holding(a.astype("c8") if dtype == "c64" else stored(a, dtype))

    def poisoned(self, shape: Any, dtype: str, channels_last: bool = False) -> Any:
        return self.array(np.full(shape, np.nan, np.float32), dtype)

    def host(self, a: Any) -> Any:
        a = a if isinstance(a, np.ndarray) else a.host()
        return a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)

    def right(self, problem: Any, x: Any, w: Any) -> Any:
        return self.host(oracle(problem, x.host(), w.host())[0]) + self.wrong

    def peers(self, problem: Any, x: Any, w: Any) -> Iterable[tuple[str, Callable[[], Any]]]:
        y = self.right(problem, x, w)
        yield "torch", lambda: y
        yield "torch TF32", lambda: y * (1 + 3e-4)

    def peers_of(
        self, path: str, args: Any, options: Any
    ) -> Iterable[tuple[str, Callable[[], Any]]]:  # fmt: skip
        module, _, name = path.partition(".")
        host = [a.host() if hasattr(a, "host") else a for a in args]
        yield "torch", lambda: getattr(getattr(fastconv, module), name)(*host, **options)

    def milliseconds(self, call: Callable[[], Any]) -> float:
        return 0.5

    def microseconds_of_host(self, call: Callable[[], Any]) -> float:
        call()
        return 4.0

    def milliseconds_of_first_call(self) -> float:
        return 31.0

    def ceilings(self) -> dict[str, float]:
        return {"copy TB/s": 4.0}


@pytest.mark.usefixtures("emulated")
def test_a_device_that_is_right(
    gpu_check: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = gpu_check.main(["--quick", "--results", str(tmp_path)], Device)
    output = capsys.readouterr().out
    assert status == 0, output
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-emulated-GPU.json")
    record = json.loads(path.read_text())
    assert record["wrong"] == [] and record["versions"]["gpu"] == "emulated GPU"
    assert record["compile"]["kernels"] >= 3 and len(record["kernels"]) >= 3
    for layer in record["layers"].values():
        assert layer["regret"] == 1 and layer["ours"][0]["error"] < 1e-3
        assert [p["name"] for p in layer["peers"]] == ["torch", "torch TF32"]
        assert layer["peers"][1]["error"] == pytest.approx(3e-4, rel=0.1)
    assert output.rstrip().splitlines()[-1].startswith("0 wrong; ")
    assert set(record["functions"]) == {"a", "b", "c"}
    assert all(0 <= row["error"] < 1e-6 for row in record["functions"].values())
    assert record["first call ms"] == 31 and "first call, cubins in the cache" in output
    assert "host plan(x, out=y)" in output and "TFLOP/s" in output


@pytest.mark.usefixtures("emulated")
def test_wrong_results_are_told(
    gpu_check: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Device()
    device.wrong = 0.01
    assert gpu_check.main(["--quick", "--results", str(tmp_path)], lambda: device) == 1
    assert "WRONG cuda_direct" in capsys.readouterr().out


@pytest.mark.usefixtures("emulated")
def test_a_section_that_fails_stops_no_other(
    gpu_check: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    monkeypatch.setattr(device, "ceilings", lambda: 1 // 0, raising=False)
    assert gpu_check.main(["--quick", "--results", str(tmp_path)], lambda: device) == 1
    (path,) = tmp_path.iterdir()
    record = json.loads(path.read_text())
    assert record["layers"] and len(record["wrong"]) == 1
    assert "section ceilings" in record["wrong"][0] and "ZeroDivisionError" in record["wrong"][0]


@pytest.mark.usefixtures("emulated")
def test_its_table_comes_when_time_is_up(
    gpu_check: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`timeout` ends it, and what was found until then is told."""

    def late(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    sections = (gpu_check.section_ceilings, late, gpu_check.section_layers)
    late.__name__, late.__doc__ = "section_late", "Too long."
    monkeypatch.setattr(gpu_check, "SECTIONS", sections)
    assert gpu_check.main(["--quick", "--results", str(tmp_path)], Device) == 1
    (path,) = tmp_path.iterdir()
    record = json.loads(path.read_text())
    assert record["wrong"] == ["time was up before all was done"] and "layers" not in record
    assert "copy TB/s=4" in capsys.readouterr().out.rpartition("== ")[2]


@pytest.mark.usefixtures("emulated")
def test_kernels_are_known_before_they_run(gpu_check: Any) -> None:
    """So that they can be compiled side by side, and elsewhere."""
    driver = launch.driver()
    texts = (*SMALL.values(), *gpu_check.POSED, "conv2d f32 n1 c3 h6 w7 k3 r3 s3 p1 fast")
    found = gpu_check.kernels_of(texts, gpu_check.gpu_of((9, 0)))
    names = {"direct", "gemm", "gemm_pack", "gemm_join", "mma", "fir", "winograd_outputs"}
    assert {k.name for k in found} >= names
    assert launch.driver() is driver and not driver.launches


@pytest.mark.skipif(fastconv.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "bench" / "gpu_check.sh")], capture_output=True, text=True,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("no GPU can be checked here: ")
