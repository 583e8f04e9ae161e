"""Recorded trials: problems, and the time of each of their candidates.

``train.txt`` and ``held.txt`` are problems drawn by `fastconv._trials.random_problems`: 600 by seed
1 and 900 by seed 3, and 200 by seed 2, of which none is among those. ``layers.txt`` is layers of
known networks, none of them in workloads.toml (those of networks.toml are there), and 24 batches of
signals, which the others lack. ``python -m bench.trials NAME`` times them.
docs/cost_model.md says what they are for.
"""
