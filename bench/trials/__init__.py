"""Recorded trials: problems, and the time of each of their candidates.

``train.txt`` and ``held.txt`` are problems drawn by `fastconv._trials.random_problems`, seeds 1
and 2; ``layers.txt`` is 67 layers of known networks, none of them in workloads.toml. ``python -m
bench.trials NAME`` times them. docs/cost_model.md says what they are for.
"""
