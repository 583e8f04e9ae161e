"""Rows from elsewhere are a hint until their winner was timed here, beside the model's choice.

Who reads the same cores, caches and libraries off two machines has not shown that they are as fast
as each other: virtual machines are given the same names. So where timing is asked for, the winner
of a row that was imported, or that a site's file has, is raced once against what the model would
have chosen. If it is not clearly slower, the row becomes this machine's own (`"confirmed"`); else
the problem is tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastconv import _tuner, _wisdom
from fastconv._machine import Machine
from fastconv._wisdom import Known

if TYPE_CHECKING:
    from fastconv._planner import Candidate

#: Part of what a problem may take to be tuned that this check may take: two candidates of the
#: dozens that are tried then.
SHARE = 0.1

#: Times the rival's time up to which a winner is believed. A tie that the noise of a busy machine
#: (10 to 20 %) turned over is not worth a search; what is further off is another machine's.
SLOWER = 1.25


def holds(
    known: Known, found: Sequence[Candidate], machine: Machine, budget: float, cold: bool
) -> bool:
    """Race the winner of a foreign row against the best of the others; note that it has held.

    Parameters
    ----------
    known : Known
        What wisdom says.
    found : list of Candidate
        All candidates of the problem, the least estimate first.
    machine : Machine
    budget : float
        Seconds that the whole race may take, about.
    cold : bool
        As in `_tuner.race`.

    Returns
    -------
    bool
        False where its winner is slower, was wrong, or could not be timed in so little time.
    """
    winner = known.method, dict(known.config)
    own = [c for c in found if (c.method, dict(c.config)) == winner and c.refused is None]
    others = [c for c in found if c.refused is None and c not in own]
    if not own:
        return False
    race = _tuner.race(
        [*own, *others[:1]], machine, budget, None, incumbent=winner, cold=cold,
        hopeless=float("inf"),
    )  # fmt: skip
    timed = [c for c in race if c.source == "timed"]
    mine = [c for c in timed if (c.method, dict(c.config)) == winner]
    if not mine or mine[0].seconds > SLOWER * timed[0].seconds:
        return False
    _wisdom.confirm(known, mine[0], machine, keep=race.why_doubted is None)
    return True
