"""Blur, sharpen and find edges; the functions are called as those of scipy.ndimage."""

from __future__ import annotations

import numpy as np

from fastconv import ndimage

# a bright disc on a dark ground, in three colours
y, x = np.mgrid[-1:1:96j, -1:1:128j]
disc = (x**2 + y**2 < 0.4).astype(np.float32)
image = disc[:, :, None] * np.float32([1.0, 0.6, 0.2])

blurred = ndimage.gaussian_filter(image, 3, axes=(0, 1))  # not across the colours

kernel = np.float32([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
sharp = ndimage.convolve(image, kernel[:, :, None], mode="nearest")

gray = np.ascontiguousarray(image.mean(axis=2))
edges = np.hypot(ndimage.sobel(gray, axis=0), ndimage.sobel(gray, axis=1))

print(f"blurred: {blurred.shape}, {blurred.dtype}, from {blurred.min():.2f} to {blurred.max():.2f}")
print(f"sharp: from {sharp.min():.2f} to {sharp.max():.2f}")
print(f"edges: {np.count_nonzero(edges > 0.5)} of {edges.size} pixels")
