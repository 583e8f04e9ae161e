"""What is shipped: sources in the sdist, types and no sources in the wheel, one version, honest
dependencies."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

import fastconv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parent.parent


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def package_files() -> list[pathlib.Path]:
    return [
        p for p in (ROOT / "fastconv").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]


def manifest() -> set[pathlib.Path]:
    """Files that MANIFEST.in takes into the sdist, by the few commands that it uses."""
    taken: set[pathlib.Path] = set()
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        command, *words = line.partition("#")[0].split() or [""]
        if command == "include":
            taken |= {p for pattern in words for p in ROOT.glob(pattern)}
        elif command == "exclude":
            taken -= {p for pattern in words for p in ROOT.glob(pattern)}
        elif command == "recursive-include":
            taken |= {p for pattern in words[1:] for p in (ROOT / words[0]).rglob(pattern)}
        elif command == "global-exclude":
            taken -= {p for pattern in words for p in ROOT.rglob(pattern)}
        else:
            assert not command, f"this test does not know {line!r}"
    return taken


def test_version_has_one_source() -> None:
    assert fastconv.__version__ == importlib.metadata.version("fastconv") == project()["version"]
    for path in (*ROOT.glob("*.py"), *(ROOT / "fastconv").rglob("*.py")):
        assert not re.search(r"^__version__\s*=", path.read_text(), re.MULTILINE), path


def test_changelog_knows_the_version() -> None:
    assert f"\n## {project()['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_sdist_has_every_source() -> None:
    """setuptools finds Python files by itself; all else must be named."""
    built = {".so", ".pyd", ".pyc", ".py"}
    needed = {p for p in package_files() if p.suffix not in built and p.name != "core.c"}
    assert len({p for p in needed if p.suffix in (".c", ".h", ".inc", ".pxi", ".pyx")}) > 10
    assert needed - manifest() == set()


def test_sdist_has_the_tests() -> None:
    needed = {p for p in (ROOT / "tests").rglob("*") if p.suffix in (".py", ".toml")}
    assert needed and needed - manifest() == set()


def test_sdist_leaves_generated_files_out() -> None:
    assert not [p for p in manifest() if p.name == "core.c" or p.suffix in (".so", ".pyc")]


def test_typed_for_users() -> None:
    """py.typed and the stubs of the compiled module are package data: in every wheel."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["fastconv"]
    shipped = {p for pattern in patterns for p in (ROOT / "fastconv").glob(pattern)}
    typed = {p for p in package_files() if p.suffix == ".pyi" or p.name == "py.typed"}
    assert len(typed) >= 2
    assert typed <= shipped


def test_data_files_are_shipped() -> None:
    """Anything but code in the package must be package data, or the wheel lacks it."""
    code = {".py", ".pyx", ".pxi", ".c", ".h", ".inc", ".so", ".pyd", ".pyi"}
    data = {p for p in package_files() if p.suffix not in code}
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["fastconv"]
    assert data <= {p for pattern in patterns for p in (ROOT / "fastconv").glob(pattern)}


def test_stub_names_what_the_extension_has() -> None:
    from fastconv._ext import core

    tree = ast.parse((ROOT / "fastconv/_ext/core.pyi").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            thing = getattr(core, node.name)
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                name = method.name if isinstance(method, ast.FunctionDef) else method.target.id
                assert hasattr(thing, name), f"{node.name}.{name}"
        elif isinstance(node, ast.AnnAssign):
            assert hasattr(core, node.target.id), node.target.id


def imported(path: pathlib.Path) -> set[str]:
    """Top-level modules that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


#: Module -> distribution, where the names differ.
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "cv2": "opencv-python-headless",
                 "cuda": "cuda-core"}  # fmt: skip


def names(requirements: object) -> set[str]:
    assert isinstance(requirements, list)
    return {re.match(r"[\w.-]+", r)[0].lower().replace("_", "-") for r in requirements}  # type: ignore[index]


def test_every_import_is_declared() -> None:
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    declared = names(project()["dependencies"]).union(*map(names, extras.values()))
    for path in package_files():
        if path.suffix != ".py":
            continue
        for module in imported(path) - set(sys.stdlib_module_names) - {"fastconv", "tomllib"}:
            name = DISTRIBUTIONS.get(module, module).lower().replace("_", "-")
            assert name in declared, f"{path.relative_to(ROOT)} imports {module}"


def test_every_hard_dependency_is_imported() -> None:
    used = set().union(*(imported(p) for p in package_files() if p.suffix == ".py"))
    used = {DISTRIBUTIONS.get(m, m).lower().replace("_", "-") for m in used}
    used.add("tomli")  # imported by name, where Python has no tomllib
    assert names(project()["dependencies"]) - used == set()


def test_import_loads_no_extra() -> None:
    """In a fresh interpreter, where other tests have imported nothing."""
    extras = ("numba", "torch", "dask", "matplotlib", "PIL", "skimage", "cv2", "ml_dtypes",
              "click", "rich")  # fmt: skip
    code = f"import sys, fastconv; print([m for m in {extras!r} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_command_is_installed() -> None:
    (entry,) = [
        e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == "fastconv"
    ]
    assert callable(entry.load())


def test_extras_are_offered() -> None:
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    assert {"cuda", "torch", "dask", "plot", "test", "bench", "docs"} <= extras.keys()


def test_shapes_need_no_fastconv() -> None:
    """Old commits are benchmarked with today's shapes."""
    assert "fastconv" not in imported(ROOT / "bench" / "shapes.py")


def test_shapes_are_problems() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from bench import shapes
    finally:
        sys.path.remove(str(ROOT))
    layers = [t for t in shapes.NN.values() if t.split()[0] in ("conv1d", "conv2d", "conv3d")]
    assert len(layers) > 20
    for text in layers:
        problem, case = fastconv.Problem.parse(text), shapes.case(text)
        assert str(problem) == text
        assert (problem.x_shape, problem.w_shape) == (case.x_shape, case.w_shape)
    for text in (*shapes.NN.values(), *shapes.SIGNAL.values(), *shapes.IMAGE.values()):
        case = shapes.case(text)
        assert case.text == text and min(case.x_shape) >= 1
    x, w = shapes.arrays(shapes.case(shapes.SIGNAL["complex.1e5x513"]))
    assert (x.shape, x.dtype, w.shape) == ((100_000,), "c16", (513,))
