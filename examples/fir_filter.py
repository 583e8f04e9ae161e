"""A FIR low-pass filter on a noisy tone; the same call as SciPy's."""

from __future__ import annotations

import numpy as np
import scipy.signal

import fastconv

rate = 8000
t = np.arange(rate) / rate
tone = np.sin(2 * np.pi * 200 * t)
noisy = tone + np.random.default_rng(0).normal(0, 0.5, t.size)

taps = scipy.signal.firwin(101, 400, fs=rate)
clean = fastconv.convolve(noisy, taps, mode="same")

middle = slice(200, -200)  # away from the ends, where the filter sees zeros
before = np.std(noisy[middle] - tone[middle])
after = np.std(clean[middle] - tone[middle])
print(f"noise {before:.3f} before, {after:.3f} after")
assert after < before / 2
