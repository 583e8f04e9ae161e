"""asv suites and comparisons with peers; see shapes.py for what is measured."""
