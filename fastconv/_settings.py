"""How tuning is to behave: mode, budgets, files; from whom, in this order.

    an argument of the call  >  `autotune`  >  environment variable  >  fastconv.toml  >  default

Variables and file are read at first use, once a process. What they say wrongly is a ValueError that
names them: a service that asks for `replay` must not run without it because of a typing error.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import importlib
import math
import os
import pathlib
import sys
from typing import Any

#: What happens when a problem is met that wisdom does not know.
MODES = {
    "off": "the cost model decides; wisdom is not opened",
    "cached": "the cost model decides; nothing is timed",
    "record": "as cached, and the problem is noted as wanted",
    "auto": "timed once it has been met often enough to pay for it",
    "measure": "timed at first sight",
    "thorough": "timed at first sight, with every setting and in a process of its own",
    "replay": "TuningMissError",
}

#: Seconds that timing one problem may take, about, by mode.
BUDGETS = {"auto": 0.25, "measure": 2.0, "thorough": 30.0}

#: Seconds that timing may take in the life of a process. What `auto` takes grows with what its
#: convolutions take (`AUTO_SHARE`).
TOTALS = {"auto": 0.5, "measure": 60.0, "thorough": math.inf}

#: Share of the time of convolutions that `auto` may spend on timing.
AUTO_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is in force. `budget` and `total` are None where the mode's own hold; `origin` says who
    chose the mode."""

    mode: str = "cached"
    budget: float | None = None
    total: float | None = None
    cache: str = "warm"
    pins: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    wisdom: str = ""
    read_only: tuple[str, ...] = ()
    spool: str = ""
    origin: str = "default"

    @property
    def key_seconds(self) -> float:
        """Seconds for one problem."""
        return BUDGETS.get(self.mode, 2.0) if self.budget is None else self.budget

    @property
    def process_seconds(self) -> float:
        """Seconds for all problems of this process."""
        return TOTALS.get(self.mode, math.inf) if self.total is None else self.total


#: Set inside `autotune` and calls with an argument of their own.
context: contextvars.ContextVar[Settings | None] = contextvars.ContextVar(
    "fastconv tuning settings", default=None
)


def current() -> Settings:
    """The settings in force here."""
    return context.get() or base()


def override(mode: str, budget: float | None = None, total: float | None = None) -> Settings:
    """The settings in force here with another mode; ValueError for one that there is not."""
    check_mode(mode)
    check_seconds("budget", budget)
    check_seconds("total", total)
    now = current()
    return dataclasses.replace(
        now, mode=mode, origin="autotune",
        budget=now.budget if budget is None else budget,
        total=now.total if total is None else total,
    )  # fmt: skip


def check_mode(mode: Any, origin: str = "a mode") -> str:
    if mode not in MODES:
        raise ValueError(f"expected {origin} out of {tuple(MODES)}, got {mode!r}")
    return str(mode)


def check_seconds(name: str, value: Any) -> float | None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise ValueError(f"expected a {name} of more than 0 seconds, got {value}")
    return value


@functools.cache
def base() -> Settings:
    """What holds outside any `autotune`: variables, else the file, else the defaults."""
    found = _of_file()
    get = os.environ.get
    if mode := get("FASTCONV_TUNE"):
        found["mode"] = check_mode(mode, "FASTCONV_TUNE")
        found["origin"] = "FASTCONV_TUNE"
    for name, key, scale in (
        ("FASTCONV_TUNE_BUDGET_MS", "budget", 1e-3), ("FASTCONV_TUNE_TOTAL_S", "total", 1.0)
    ):  # fmt: skip
        if text := get(name):
            try:
                found[key] = check_seconds(name, float(text) * scale)
            except ValueError:
                raise ValueError(f"expected a number above 0 for {name}, got {text!r}") from None
    if cache := get("FASTCONV_TUNE_CACHE"):
        found["cache"] = _check_cache(cache, "FASTCONV_TUNE_CACHE")
    for name, key, separator in (
        ("FASTCONV_TUNE_PIN", "pins", ";"), ("FASTCONV_TUNE_EXCLUDE", "exclude", ","),
        ("FASTCONV_TUNE_RO", "read_only", os.pathsep),
    ):  # fmt: skip
        if text := get(name):
            found[key] = tuple(part.strip() for part in text.split(separator) if part.strip())
    if spool := get("FASTCONV_TUNE_SPOOL"):
        found["spool"] = spool
    return Settings(**found)


def reload() -> None:
    """Read variables and file again at the next use."""
    base.cache_clear()


def _check_cache(cache: Any, origin: str) -> str:
    if cache not in ("warm", "cold"):
        raise ValueError(f"expected {origin} of warm or cold, got {cache!r}")
    return str(cache)


def file() -> pathlib.Path | None:
    """``FASTCONV_CONFIG``, else fastconv.toml in this folder, else in the user's; or None."""
    named = os.environ.get("FASTCONV_CONFIG")
    if named:
        return pathlib.Path(named)
    found = pathlib.Path("fastconv.toml")
    if found.is_file():
        return found
    try:
        import platformdirs

        found = platformdirs.user_config_path("fastconv") / "fastconv.toml"
        return found if found.is_absolute() and found.is_file() else None
    except Exception:  # having no home directory is no reason to fail
        return None


def _of_file() -> dict[str, Any]:
    """The [tuning] table of fastconv.toml, checked."""
    path = file()
    if path is None:
        return {}
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        with open(path, "rb") as stream:
            table = tomllib.load(stream).get("tuning", {})
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path}: expected a table [tuning], got {table!r}")
    found: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{key} in {path}"
        if key == "mode":
            found["mode"], found["origin"] = check_mode(value, where), str(path)
        elif key == "budget_ms":
            found["budget"] = _number(value, where) * 1e-3
        elif key == "total_s":
            found["total"] = _number(value, where)
        elif key == "cache":
            found["cache"] = _check_cache(value, where)
        elif key in ("wisdom", "spool"):
            found[key] = str(path.parent / _text(value, where)) if value != ":memory:" else value
        elif key in ("read_only", "pins", "exclude"):
            if not isinstance(value, list):
                raise ValueError(f"expected a list for {where}, got {value!r}")
            texts = (_text(v, where) for v in value)
            found[key] = tuple(str(path.parent / t) if key == "read_only" else t for t in texts)
        else:
            raise ValueError(f"unknown key {where}")
    return found


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected text for {where}, got {value!r}")
    return value


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"expected a number above 0 for {where}, got {value!r}")
    return float(value)
