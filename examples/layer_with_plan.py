"""A network layer: choose the algorithm and pack the weights once, then run many times."""

from __future__ import annotations

import numpy as np

import fastconv

rng = np.random.default_rng(0)
weights = rng.standard_normal((16, 8, 3, 3), dtype=np.float32)

# the plan is for one shape; asking for it with (shape, dtype) needs no data yet
layer = fastconv.plan(fastconv.conv2d, ((1, 8, 32, 32), "float32"), weights, padding=1)
print(f"{layer.method}, {layer.workspace_bytes} bytes of workspace")

y = np.empty((1, 16, 32, 32), dtype=np.float32)
for _ in range(3):
    frame = rng.standard_normal((1, 8, 32, 32), dtype=np.float32)
    layer(frame, out=y)  # nothing is allocated for the result
    print(f"largest activation {np.maximum(y, 0).max():.2f}")

print(layer.explain())
