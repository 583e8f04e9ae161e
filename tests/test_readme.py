"""The documents hold: examples run, commands exist, links lead somewhere."""

from __future__ import annotations

import doctest
import pathlib
import re
import shlex
import types

import numpy as np
import pytest
from problems import PROBLEMS, arrays, check, solved, stored

from fastconv._machine import this_machine
from fastconv._problem import Problem
from fastconv.solvers import BY_NAME

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DOCUMENTS = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")))

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(path: pathlib.Path, language: str) -> list[tuple[int, str]]:
    """(line number, text) of each fenced block of a language."""
    text = path.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, m.start(1)) + 1, m[1]) for m in found]


def commands(path: pathlib.Path) -> list[str]:
    """What stands after ``$`` in the console blocks, comments cut off."""
    lines = [line for _, text in blocks(path, "console") for line in text.splitlines()]
    return [line[2:].partition("  #")[0].strip() for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_examples_run(path: pathlib.Path) -> None:
    """Every ``>>>`` example, in order and in one namespace a document."""
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=OPTIONS)
    names: dict[str, object] = {}
    for line, text in blocks(path, "python"):
        if ">>>" in text:
            test = parser.get_doctest(text, names, path.name, str(path), line)
            runner.run(test, clear_globs=False)
            names = test.globs
    assert runner.summarize(verbose=False).failed == 0


def test_readme_has_examples() -> None:
    assert sum(text.count(">>>") for _, text in blocks(README, "python")) >= 10


def test_every_method_has_a_row() -> None:
    """In README, those for a GPU in docs/gpu.md."""
    gpu = {name for name in BY_NAME if name.startswith("cuda_")}
    for path, names in ((README, BY_NAME.keys() - gpu), (ROOT / "docs" / "gpu.md", gpu)):
        assert set(re.findall(r"^\| `(\w+)`(?: \||, p)", path.read_text(), re.MULTILINE)) == names


def test_quick_start_is_two_commands() -> None:
    section = README.read_text().split("\n## Quick start\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
    assert lines == ["$ make demo", "$ make test"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_make_targets_exist(path: pathlib.Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands(path):
        if command.startswith("make "):
            assert command.split()[1] in targets, command


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=f"{path.name}-{command}")
        for path in DOCUMENTS
        for command in commands(path)
        if command.startswith("fastconv ")
    ],
)
def test_commands_are_understood(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    """Quick ones run; of those that take time, or write, the help is asked for."""
    from fastconv import _cli

    words = shlex.split(command)[1:]
    runs = words[0] in ("info", "explain", "wisdom")
    assert _cli.main(words if runs else [*words, "--help"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: pathlib.Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://", target):
            name, _, anchor = target.partition("#")
            file = path.parent / name if name else path
            assert file.exists(), f"{path.name} links to {target}"
            if anchor and file.suffix == ".md":
                titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", t).lower().replace(" ", "-") for t in titles}
                assert anchor in slugs, f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_files_named_exist(path: pathlib.Path) -> None:
    """Paths in backquotes, from the root or from fastconv/; ``<name>`` stands for any."""
    for name in re.findall(r"`([\w./]+/[\w.]+\.(?:py|c|h|inc|pyx|md|toml|txt))`", path.read_text()):
        if "shifts" not in name:  # the worked example of CONTRIBUTING.md
            assert (ROOT / name).exists() or (ROOT / "fastconv" / name).exists(), name


def test_problems_named_parse() -> None:
    found = 0
    for path in DOCUMENTS:
        for text in re.findall(r"[`\"](conv[1-8]d [a-z]+\d+ [^`\"<]+)[`\"]", path.read_text()):
            assert str(Problem.parse(text)) == text, f"{path.name}: {text}"
            found += 1
    assert found > 5


def test_the_algorithm_of_contributing_works() -> None:
    """The worked example is a solver that keeps the contract, as it stands in the document."""
    (code,) = [text for _, text in blocks(CONTRIBUTING, "python") if text.startswith('"""shifts')]
    module = types.ModuleType("shifts")
    exec(compile(code, str(CONTRIBUTING), "exec"), module.__dict__)
    solver = module.Shifts()
    accepted = [t for t in PROBLEMS if solver.why_not(Problem.parse(t)) is None]
    assert len(accepted) >= 40
    for text in accepted:
        problem = Problem.parse(text)
        x, w, bias = arrays(problem)
        plan = solver.plan(problem, {}, this_machine())
        y = stored(np.full(problem.y_shape, 77), problem.y_dtype)
        plan(x, plan.pack_stored(w), bias, y)
        bound = solver.error_bound(problem, {}) + np.finfo(np.float32).eps  # the bias
        check(problem, y, solved(text, True), bound, None, text)
        assert 0 < solver.cost(problem, {}, this_machine()) < np.inf
        assert solver.workspace(problem, {}) >= plan.pack_stored(w).nbytes
