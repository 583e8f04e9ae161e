"""How likely is each sum of many dice? Convolve their distributions, pair by pair."""

from __future__ import annotations

import numpy as np

import fastconv

rng = np.random.default_rng(0)
odds = rng.dirichlet(np.ones(6), size=64)  # of 1 ... 6; each die is unfair in its own way

total = odds
while len(total) > 1:
    # a level's pairs are the groups of one call; conv1d correlates, so one factor is reversed
    first, second = total[0::2], total[1::2, None, ::-1]
    pad = total.shape[1] - 1
    # strict: a tiny probability is as accurate, relative to itself, as a large one
    total = fastconv.conv1d(
        first[None], second, padding=pad, groups=len(second), accuracy="strict"
    )[0]

sums = np.arange(64, 6 * 64 + 1)
mean = (odds @ np.arange(1, 7)).sum()
print(f"mean {total[0] @ sums:.6f}, expected {mean:.6f}")
print(f"all ones: {total[0, 0]:.3e}, expected {odds[:, 0].prod():.3e}")
assert np.isclose(total[0] @ sums, mean, rtol=1e-12)
assert np.isclose(total[0, 0], odds[:, 0].prod(), rtol=1e-12)
