"""Kernels compiled to machine code with no GPU and no driver, and held to their budgets."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from cuda_budgets import BUDGETS, CAPABILITIES, FORBIDDEN, facts, nvdisasm

from fastconv.cuda import build
from fastconv.cuda.kernel import Kernel
from fastconv.cuda.variants import common

KERNELS = common()

needs_tools = pytest.mark.skipif(
    build.why_not() is not None or nvdisasm() is None,
    reason=f"kernels cannot be compiled: {build.why_not() or 'nvidia-cuda-nvdisasm is missing'}",
)


@pytest.fixture(scope="session", autouse=True)
def cubins(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """No cubin of the user's is believed, and none is left behind."""
    patch = pytest.MonkeyPatch()
    patch.setenv("FASTCONV_CUBINS", str(tmp_path_factory.mktemp("cubins")))
    yield
    patch.undo()


def test_every_kernel_has_a_budget() -> None:
    budgets = json.loads(BUDGETS.read_text())
    assert set(budgets) == set(KERNELS)
    for name, each in budgets.items():
        assert set(each) == {"sm{}{}".format(*capability) for capability in CAPABILITIES}
        for budget in each.values():
            assert budget["spills"] == budget["stack"] == 0, name


#: So many are linked and disassembled together.
TOGETHER = 6

NAMES = list(KERNELS)
SOME = [NAMES[i : i + TOGETHER] for i in range(0, len(NAMES), TOGETHER)]


@needs_tools
@pytest.mark.parametrize("names", SOME, ids=", ".join)
def test_budgets(names: list[str]) -> None:
    """Nothing spilt, registers and products of the main loop within 5% of what they were."""
    budgets = json.loads(BUDGETS.read_text())
    wrong = []
    for capability in CAPABILITIES:
        of = "sm{}{}".format(*capability)
        for name, found in zip(names, facts([KERNELS[name] for name in names], capability)):
            try:
                hold(KERNELS[name], name, found, budgets[name][of])
            except AssertionError as error:
                wrong.append(f"{name}, {of}: {found}\n{error}")
    assert not wrong, "\n\n".join(wrong)


def hold(kernel: Kernel, name: str, found: dict[str, Any], budget: dict[str, Any]) -> None:
    """A kernel to its budget."""
    assert found["spills"] == budget["spills"] and found["stack"] == budget["stack"]
    assert found["shared"] == budget["shared"]
    assert found["registers"] <= budget["registers"] * 1.05
    assert found["registers"] * kernel.threads * kernel.blocks <= 65536
    assert found["share"] >= budget["share"] - 0.05
    assert set(budget["required"]) <= set(found["opcodes"])
    forbidden = set(FORBIDDEN)
    if "f64" not in name:
        forbidden |= {"DADD", "DMUL", "DFMA"}
    assert not forbidden & set(found["opcodes"])


PROBE = Kernel(
    "probe", "def probe(y):\n    store(y, thread(), zero())\n",
    (("store", ("store", "f32")), ("thread", ("thread",)), ("zero", ("zero", "f32"))),
    (("y", "pointer"),), 32,
)  # fmt: skip


@needs_tools
def test_cubins_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Found again by all that they are made from; damage costs time only."""
    monkeypatch.setenv("FASTCONV_CUBINS", str(tmp_path))
    first = build.cubin(PROBE, (9, 0))
    (path,) = tmp_path.iterdir()
    assert first.code[:4] == b"\x7fELF" and "probe" in first.entry and first.registers > 0
    monkeypatch.setattr(build, "compiled", lambda kernel, capability: pytest.fail("compiled again"))
    assert build.cubin(PROBE, (9, 0)) == first
    # of another machine's, made by other tools
    with monkeypatch.context() as patch:
        patch.setenv("FASTCONV_CUBINS", str(tmp_path / "empty"))
        patch.setenv("FASTCONV_CUBINS_AHEAD", str(tmp_path))
        patch.setattr(build, "_version", lambda package: None)
        assert build.why_not() is None and build.cubin(PROBE, (9, 0)) == first
    monkeypatch.undo()
    monkeypatch.setenv("FASTCONV_CUBINS", str(tmp_path))
    path.write_bytes(b"{")  # made again, where Numba numbers the entry anew
    assert build.cubin(PROBE, (9, 0)).registers == first.registers
    monkeypatch.setenv("FASTCONV_CUBINS", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    assert build.cubin(PROBE, (9, 0)).registers == first.registers


def test_a_digest_is_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    digests = {build.digest(PROBE, (9, 0)), build.digest(PROBE, (8, 0))}
    for change in (
        {"text": PROBE.text.replace("thread()", "thread() + 1")}, {"threads": 64}, {"blocks": 2},
        {"operations": (("store", ("store", "f64")), *PROBE.operations[1:])},
    ):  # fmt: skip
        digests.add(build.digest(dataclasses.replace(PROBE, **change), (9, 0)))
    monkeypatch.setattr(build, "_version", lambda package: "another")
    digests.add(build.digest(PROBE, (9, 0)))
    assert len(digests) == 7


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_version", lambda package: None)
    assert build.why_not() == "numba is missing: install fastconv[cuda]"
    with pytest.raises(RuntimeError, match=r"install fastconv\[cuda\]"):
        build.compiled(PROBE, (9, 0))
