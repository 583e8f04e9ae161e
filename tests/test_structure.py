"""The shape of the code itself: who imports whom, names, documentation, lengths."""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from typing import Any

import mutate
import pytest

import fastconv
from fastconv._ext import core
from fastconv.solvers import BY_NAME, SOLVERS

ROOT = pathlib.Path(fastconv.__file__).parent
EXT = ROOT / "_ext"
MODULES = sorted(p for p in ROOT.rglob("*.py") if "_ext" not in p.parts)

#: From the top down: a module imports from its own line and those below it. Nothing imports what is
#: above: a solver knows no planner, the planner no front end.
LAYERS = (
    ("_cli", "__main__"),
    ("_cli_tune", "_cli_explain", "_cli_report", "_cli_wisdom", "_cli_info"),
    ("_cli_model", "_cli_common"),
    ("_training", "_suites", "_report"),
    ("_trials",),
    ("_demo", "_demo_pictures", "_workloads"),
    ("__init__",),
    ("_power", "_match", "_blockwise"),
    ("nn", "signal", "ndimage", "stream", "_partitions"),
    ("_engine",),
    ("_isolated",),
    ("_planner", "_shortcut"),
    ("_trust",),
    ("_tuner", "_wisdom", "_model"),
    ("_store", "_calibration"),
    ("_rows",),
    ("solvers",),
    ("cuda",),
    ("_accuracy", "_plan", "_solver"),
    ("_epilogue", "_kept"),
    ("_environment",),
    ("_machine", "_problem", "_settings", "_timer"),
    ("_ext",),
)


def rank(module: str) -> int:
    """Line of LAYERS that a module (``_engine``, ``solvers.fft``) stands in."""
    for i, names in enumerate(LAYERS):
        if module.partition(".")[0] in names:
            return i
    raise AssertionError(f"fastconv.{module} has no place in LAYERS: give it one")


def module_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules of fastconv that are imported, those for type checkers alone left out."""
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.dump(tree.test):
        return
    if isinstance(tree, ast.Import):
        for alias in tree.names:
            if alias.name.partition(".")[0] == "fastconv":
                yield alias.name.partition(".")[2] or "__init__"
    elif isinstance(tree, ast.ImportFrom):
        assert tree.level == 0, "imports are absolute"
        if tree.module == "fastconv":
            for alias in tree.names:
                inside = (ROOT / alias.name).exists() or (ROOT / f"{alias.name}.py").exists()
                yield alias.name if inside else "__init__"
        elif tree.module and tree.module.startswith("fastconv."):
            module = tree.module.removeprefix("fastconv.")
            folder = ROOT.joinpath(*module.split("."))
            for alias in tree.names:
                yield f"{module}.{alias.name}" if (folder / f"{alias.name}.py").exists() else module
    for child in ast.iter_child_nodes(tree):
        yield from imports(child)


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_imports_point_down(path: pathlib.Path) -> None:
    module = module_of(path)
    for imported in imports(ast.parse(path.read_text())):
        if module == "_planner" and imported in ("_tuner", "_isolated"):
            continue
        assert rank(imported) >= rank(module), f"fastconv.{module} imports fastconv.{imported}"


def test_a_solver_imports_no_other_solver() -> None:
    for path in (ROOT / "solvers").glob("[a-z]*.py"):
        for imported in imports(ast.parse(path.read_text())):
            package, _, name = imported.partition(".")
            assert package != "solvers" or name.startswith("_"), f"{path.name} imports {imported}"


def test_the_oracle_is_independent() -> None:
    text = (pathlib.Path(__file__).parent / "reference.py").read_text()
    assert "fastconv" not in re.findall(r"(?:import|from)\s+(\w+)", text)


def test_solvers_are_named_like_their_modules() -> None:
    for solver in SOLVERS:
        assert type(solver).__module__ == f"fastconv.solvers.{solver.name}"
        assert re.fullmatch("[a-z][a-z0-9_]*", solver.name)
        assert solver.paper and solver.revision >= 1
    files = {p.stem for p in (ROOT / "solvers").glob("[a-z]*.py")}
    assert files == set(BY_NAME), "a file without its line in SOLVERS, or the reverse"
    assert len(BY_NAME) == len(SOLVERS)


def listed(file: str, macro: str) -> list[tuple[str, ...]]:
    """Arguments of each line of an .inc table."""
    lines = re.findall(rf"^{macro}\(([^)]*)\)", (EXT / file).read_text(), re.M)
    assert lines
    return [tuple(part.strip() for part in line.split(",")) for line in lines]


def test_every_driver_listed_is_there() -> None:
    names = {name for (name,) in listed("drivers.inc", "FC_DRIVER")}
    defined = {}
    for path in (EXT / "drivers").glob("*.c"):
        for name in re.findall(r"^const fc_driver fc_driver_(\w+)", path.read_text(), re.M):
            defined[name] = path.stem
    assert names == set(defined)
    assert all(name == stem for name, stem in defined.items()), "a driver is its file's name"
    for name in names:
        assert name in BY_NAME, f"no solver is called like driver {name}"


def test_every_kernel_listed_is_there() -> None:
    files = {p.stem for p in (EXT / "kernels").glob("*.c")} - {"table"}
    stems = set()
    for _, name in listed("kernels.inc", "FC_KERNEL"):
        found = [f for f in files if re.match(rf"{f}\d*_", name)]
        assert found, f"no file in kernels/ for {name}"
        stems.add(max(found, key=len))
    assert stems == files, "a kernel file that no line of kernels.inc names"


def test_kernel_files_hide_their_helpers() -> None:
    """Each is compiled once an instruction set: what is not static must carry the set's name."""
    for path in [*(EXT / "kernels").glob("*.c"), *(EXT / "kernels").glob("*.inc")]:
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        for line in re.findall(r"^(?!static|typedef|FC_INLINE|extern)(\w.*)$", text, re.M):
            assert "FC_NAME(" in line or not re.search(r"[({=]", line), f"{path.name}: {line}"


def test_every_instruction_set_is_built() -> None:
    isas = [isa for (isa,) in listed("isas.inc", "FC_ISA")]
    assert isas[-1] == "baseline" and set(core.compiled_isas()) <= set(isas)
    setup = ROOT.parent / "setup.py"
    if setup.exists():
        for isa in isas:
            assert f'"{isa}"' in setup.read_text()


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_one_timer(path: pathlib.Path) -> None:
    """No clock but that of _timer.py, which tests can replace."""
    if path.stem == "_timer":
        return
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {"time", "timeit"} & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in ("time", "timeit")
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("perf_counter", "perf_counter_ns", "monotonic", "time_ns")


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_modules_say_what_they_are(path: pathlib.Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert "from __future__ import annotations" in text or len(text.splitlines()) < 10


def test_lengths() -> None:
    """Guides, not laws; a file that has outgrown its own is usually two."""
    guides = {"solvers/[a-z]*.py": 200, "_ext/drivers/*.c": 400, "_ext/*.p[yx][xi]": 300}
    for pattern, most in guides.items():
        found = sorted(ROOT.glob(pattern))
        assert found
        for path in found:
            lines = len(path.read_text().splitlines())
            assert lines <= most, f"{path.name} has {lines} lines, the guide is {most}"


def public() -> list[tuple[str, Any]]:
    found = {}
    for module in (fastconv, fastconv.nn, fastconv.signal, fastconv.ndimage, fastconv.stream):
        for name in module.__all__:
            found[f"{module.__name__}.{name}"] = getattr(module, name)
    return sorted(found.items())


PUBLIC = [(name, value) for name, value in public() if not isinstance(value, types.ModuleType)]


@pytest.mark.parametrize("name, value", PUBLIC, ids=[name for name, _ in PUBLIC])
def test_public_names_are_documented(name: str, value: Any) -> None:
    text = inspect.getdoc(value)
    assert text, f"{name} has no docstring"
    assert text.splitlines()[0].endswith((".", ":")), "the first line is a sentence"
    if inspect.isclass(value):
        return
    sections = set(re.findall(r"^(\w[\w ]*)\n-+$", text, re.M))
    wanted = {"Parameters", "Examples"} | ({"Returns"} if name != "fastconv.autotune" else set())
    assert wanted <= sections, f"{name} lacks {sorted(wanted - sections)}"
    assert ">>>" in text
    signature = inspect.signature(value)
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty, f"{name}: {parameter}"
        described = rf"^[*\w, ]*{re.escape(parameter.name)}\b"
        assert re.search(described, text, re.M), f"{name} does not describe {parameter.name}"
    assert signature.return_annotation is not signature.empty


def test_public_modules_list_what_they_define() -> None:
    for module in (fastconv.nn, fastconv.signal, fastconv.ndimage, fastconv.stream):
        functions = {
            name for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
            and not name.startswith("_")
        }  # fmt: skip
        assert functions == {n for n in module.__all__ if inspect.isfunction(getattr(module, n))}


def test_import_brings_in_no_extras() -> None:
    program = "import fastconv, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name for name in done.stdout.split() if name}
    for extra in ("numba", "torch", "dask", "matplotlib", "PIL", "skimage", "rich", "typer",
                  "click", "cv2", "scipy.signal", "scipy.ndimage", "pytest"):  # fmt: skip
        assert extra not in loaded, f"import fastconv imports {extra}"


def test_nothing_is_tied_to_one_machine() -> None:
    """No path or name of somebody's computer in what is shipped."""
    here = (str(ROOT.parent), f"{pathlib.Path.home()}/", f"{tempfile.gettempdir()}/")
    for path in [*MODULES, *EXT.rglob("*.[ch]"), *EXT.rglob("*.inc"), *EXT.rglob("*.p[yx][xi]")]:
        if path.name == "core.c":
            continue
        text = path.read_text()
        assert not re.search(r"/home/|/Users/|[A-Z]:\\\\Users", text), path
        assert not any(place in text for place in here), path


def test_faults_can_be_seeded() -> None:
    """A fault whose text a change has taken away would never be tried again."""
    assert not mutate.unseedable(mutate.FAULTS)
