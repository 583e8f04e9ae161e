"""What this machine does a second, measured once."""

from __future__ import annotations

import pathlib


def cache_path(name: str) -> pathlib.Path | None:
    """A file of the user's cache directory; None where there is none."""
    try:
        import platformdirs

        return platformdirs.user_cache_path("fastconv") / name
    except (RuntimeError, OSError):
        return None
