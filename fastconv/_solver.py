"""`Solver`: one algorithm. Subclass it in `solvers/<name>.py`, list it in `solvers/__init__.py`."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from fastconv._machine import Machine
    from fastconv._plan import Plan
    from fastconv._problem import Problem

#: Named settings of a solver, of JSON's simple types so that wisdom can hold them.
Config = Mapping[str, "int | str"]


class Solver(abc.ABC):
    """One stateless algorithm; the planner asks, in this order, the methods below.

    `configs`, `cost`, `workspace`, `error_bound` and `plan` are only called for problems that
    `why_not` accepts.
    """

    #: The algorithm's one name: module, wisdom value, test id, benchmark parameter, CLI word.
    name: ClassVar[str]
    #: Where its arrays live.
    device: ClassVar[str] = "cpu"
    #: Where the algorithm and its error bound come from.
    paper: ClassVar[str]
    #: Whether results mix windows, so that `error_bound` is against a block's B, not a window's S.
    mixes_windows: ClassVar[bool] = False
    #: Whether it is for integers and bools alone; False: for others alone; None: for both.
    exact: ClassVar[bool | None] = None
    #: Raised when a change of the code makes what was measured before worthless.
    revision: ClassVar[int] = 1

    @abc.abstractmethod
    def why_not(self, problem: Problem) -> str | None:
        """None when the solver applies, else the first condition that fails, in words.

        Exact, cheap, and never raises: the text is what a user who forces this solver reads.
        """

    def configs(self, problem: Problem, machine: Machine) -> Sequence[Config]:
        """Every legal setting, the best guess first."""
        return ({},)

    def reads_stored(self, problem: Problem) -> bool:
        """Whether plans read x in the dtype that it is stored in and convert it in cache.

        Where this is False, x is copied as a whole when it is not stored in the dtype computed in.
        """
        return False

    def writes_stored(self, problem: Problem) -> bool:
        """Whether plans write y in the dtype that it is to be stored in, as `_plan.store` would.

        Where this is False, y is made as a whole in the dtype computed in, and then converted.
        """
        return False

    @abc.abstractmethod
    def cost(self, problem: Problem, config: Config, machine: Machine) -> float:
        """Estimated seconds of one call, packing included unless `problem.prepared`."""

    def floor(self, problem: Problem, machine: Machine) -> float:
        """Seconds that no config's cost is below, where that is much cheaper to tell than `cost`.

        Asked before `why_not`.
        """
        return 0.0

    @abc.abstractmethod
    def workspace(self, problem: Problem, config: Config) -> int:
        """Bytes that one call takes beyond x, w and y; packed weights are counted."""

    @abc.abstractmethod
    def error_bound(self, problem: Problem, config: Config) -> float:
        """Published bound on abs(error) / S, with S = sum(abs(x) * abs(w)) over the window.

        Solvers with `mixes_windows` (Winograd, Fourier) state it against the B of docs/accuracy.md
        and guard every output that such a bound leaves without a correct digit. Exact results
        give 0.
        """

    @abc.abstractmethod
    def plan(self, problem: Problem, config: Config, machine: Machine) -> Plan:
        """Bind the algorithm to a problem: everything that does not depend on data is done here."""


def on_threads(problem: Problem, config: Config) -> tuple[Problem, Config]:
    """A problem on as many threads as a config names, and the solver's own settings.

    Any config may have ``threads``, fewer than the problem grants: more do not pay everywhere.
    """
    if "threads" not in config:
        return problem, config
    own = {name: value for name, value in config.items() if name != "threads"}
    return problem.on(int(config["threads"])), own


def bind(solver: Solver, problem: Problem, config: Config, machine: Machine) -> Plan:
    """`solver.plan` on the threads that the config names."""
    problem, own = on_threads(problem, config)
    return solver.plan(problem, own, machine)
