"""A reverb fed block by block, as a sound card would, and a change of room."""

from __future__ import annotations

import numpy as np

import fastconv

rate, block = 8000, 128
rng = np.random.default_rng(0)
decay = np.exp(-30 * np.arange(rate // 5) / rate).astype(np.float32)
room = rng.standard_normal((2, rate // 5), dtype=np.float32) * decay
sound = rng.standard_normal((2, 20 * block), dtype=np.float32)

reverb = fastconv.Convolver(room, block)
out = np.empty((2, block), np.float32)
heard = [reverb.process(sound[:, i : i + block], out).copy() for i in range(0, 10 * block, block)]
once = fastconv.signal.fftconvolve(sound, room, axes=-1)[:, : 10 * block]
np.testing.assert_allclose(np.concatenate(heard, axis=1), once, atol=1e-4 * np.abs(once).max())

reverb.set_kernel(room[:, : rate // 10], crossfade=2 * block)  # a smaller room, without a click
for i in range(10 * block, 20 * block, block):
    reverb.process(sound[:, i : i + block], out)
print(f"{reverb.position} samples in and out, {reverb.flush().shape[1]} more when the sound ends")
