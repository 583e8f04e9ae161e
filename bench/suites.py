"""What the suites hold, read as asv reads them: classes with methods of its prefixes."""

from __future__ import annotations

import importlib
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from .interleave import Row

KINDS = re.compile("(time|timeraw|track|peakmem)_")


def modules() -> list[Any]:
    paths = sorted(pathlib.Path(__file__).parent.glob("bench_*.py"))
    return [importlib.import_module(f"bench.{path.stem}") for path in paths]


def methods() -> Iterator[tuple[str, type, str]]:
    """(the benchmark's name, its class, its method)."""
    for module in modules():
        stem = module.__name__.partition(".")[2]
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__:
                for name in dir(cls):
                    if KINDS.match(name):
                        yield f"{stem}.{cls.__name__}.{name}", cls, name


def axes(cls: Any) -> list[list[Any]]:
    """Values of each parameter."""
    params = list(getattr(cls, "params", ()))
    nested = params and all(isinstance(p, list | tuple) for p in params)
    return [list(values) for values in (params if nested else [params] if params else [])]


def benchmarks() -> Iterator[Row]:
    """Every benchmark with every combination of its parameters."""
    for name, cls, _ in methods():
        for params in itertools.product(*axes(cls)):
            yield Row(name, params)
