"""Find a small picture in a large one by normalised correlation."""

from __future__ import annotations

import numpy as np

import fastconv

rng = np.random.default_rng(0)
picture = fastconv.ndimage.gaussian_filter(rng.standard_normal((120, 160)), 2.0)
row, column, side = 37, 81, 16
template = picture[row : row + side, column : column + side]
template = 0.5 * template + rng.normal(0, 0.02, template.shape)  # fainter, and noisy

score = fastconv.match_template(picture, template)
found = fastconv.peak_position(score)
print(f"cut from {(row, column)}, found at {found}, score {score.max():.2f}")
assert found == (row, column)
