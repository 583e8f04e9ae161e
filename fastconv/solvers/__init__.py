"""Every algorithm, in the order in which equal estimates are broken. Adding one is one line here."""

from __future__ import annotations

from fastconv._solver import Solver
from fastconv.solvers.naive import Naive

SOLVERS: tuple[Solver, ...] = (Naive(),)
BY_NAME: dict[str, Solver] = {solver.name: solver for solver in SOLVERS}
