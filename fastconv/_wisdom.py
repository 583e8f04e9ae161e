from __future__ import annotations
from typing import Any, Protocol
class Progress(Protocol):
    def __call__(self, done: float, text: str) -> None: ...
def lookup(problem: Any, machine: Any) -> Any: return None
def remember(candidate: Any, machine: Any) -> None: pass
