"""Play a sound in a room: convolve it with the room's answer to a click."""

from __future__ import annotations

import numpy as np

import fastconv

rate = 8000
rng = np.random.default_rng(0)

# three plucks, and noise that dies away within a fifth of a second in each ear
t = np.arange(rate // 2) / rate
sound = np.zeros(rate, dtype=np.float32)
for start, hertz in ((0, 220), (2000, 277), (4000, 330)):
    pluck = np.sin(2 * np.pi * hertz * t) * np.exp(-12 * t)
    sound[start : start + t.size] += pluck[: sound.size - start].astype(np.float32)
room = rng.standard_normal((2, rate // 5), dtype=np.float32)
room *= np.exp(-30 * np.arange(rate // 5) / rate).astype(np.float32)

# one sound, two ears: the first axis is broadcast, the last one is convolved
stereo = fastconv.signal.fftconvolve(sound[None], room, axes=-1)
print(f"{sound.shape} samples in, {stereo.shape} out, {stereo.dtype}")

# the method changes how fast it is, not what it means
left = fastconv.convolve(sound, room[0], method="direct")
np.testing.assert_allclose(stereo[0], left, atol=1e-4 * np.abs(left).max())
