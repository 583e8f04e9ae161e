"""Find a small picture in a large one by normalised correlation."""

from __future__ import annotations

import numpy as np

import fastconv

rng = np.random.default_rng(0)
picture = fastconv.ndimage.gaussian_filter(rng.standard_normal((120, 160)), 2.0)
row, column, side = 37, 81, 16
template = picture[row : row + side, column : column + side]
template = 0.5 * template + rng.normal(0, 0.02, template.shape)  # fainter, and noisy

# correlation with the template less its mean, by the spread of what lies under it
template = template - template.mean()
score = fastconv.correlate(picture, template, mode="valid")
box = np.ones((side, side))
mean = fastconv.correlate(picture, box, mode="valid") / box.size
power = fastconv.correlate(picture**2, box, mode="valid") / box.size
score /= np.sqrt(np.maximum(power - mean**2, 1e-12)) * np.linalg.norm(template) * side

found = np.unravel_index(score.argmax(), score.shape)
print(f"cut from {(row, column)}, found at {tuple(map(int, found))}, score {score.max():.2f}")
assert tuple(found) == (row, column)
