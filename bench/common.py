"""What every suite shares. Its classes hold no benchmark: asv would collect it here too."""

from __future__ import annotations

from typing import Any

from . import peers, shapes

_off: Any = None


def without_wisdom() -> None:
    """Plan by the cost model alone from here on.

    Otherwise what this machine once measured would look like a change of the code.
    """
    import fastconv

    global _off
    _off = fastconv.autotune("off")  # in force until collected: for the life of the process
    _off.__enter__()


class Timed:
    """How asv times: short samples, spread over several processes."""

    version = "1"
    rounds = 4
    repeat = (3, 20, 2.0)
    sample_time = 0.02
    warmup_time = 0.2
    timeout = 120

    def prepare(self, text: str, method: str = "auto") -> None:
        """Set `self.call`; a method that refuses the case skips the benchmark."""
        without_wisdom()
        self.call = peers.ours(shapes.case(text), method).run
        try:
            self.call()
        except ValueError as refused:
            raise NotImplementedError(str(refused)) from None


class Against:
    """time(fastconv) / time(peer), in one process and interleaved; below 1 is faster."""

    version = "1"
    unit = "x"
    timeout = 300

    def setup(self, text: str, peer: str) -> None:
        from fastconv._machine import usable_cores

        if peer not in peers.peers(shapes.case(text), usable_cores()):
            raise NotImplementedError(f"{peer} is not installed or has no such function")
        without_wisdom()

    def ratio(self, text: str, peer: str) -> float:
        mine, theirs = peers.ratios(shapes.case(text), peer)[peer]
        return mine / theirs
