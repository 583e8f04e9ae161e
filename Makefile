# make demo   set up .venv from this source tree, then run the demo
# make test   set up .venv from this source tree, then run the tests
# A C compiler and Python 3.10 or newer are all that must be there. Later runs reuse .venv and
# rebuild only when a C or Cython source, setup.py or pyproject.toml changed.

PYTHON ?= python3
PYTEST_ARGS ?= -n 2
DEMO_ARGS ?=

bin := .venv/bin
installed := .venv/installed
bench-installed := .venv/bench-installed
sources := setup.py pyproject.toml $(shell find fastconv/_ext -name '*.p[yx][xi]' -o -name '*.inc' \
	-o -name '*.h' -o -name '*.c' ! -name core.c)

.PHONY: demo test lint format docs bench-smoke bench bench-compare bench-history \
	bench-catches dashboard peers sdist prerequisites clean
.DELETE_ON_ERROR:

demo: $(installed)
	$(bin)/fastconv demo $(DEMO_ARGS)

test: $(installed)
	$(bin)/python -m pytest $(PYTEST_ARGS)

lint: $(installed)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

format: $(installed)
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

docs: $(installed)
	$(bin)/python -m pip install --quiet --editable '.[docs]'
	$(bin)/python -m sphinx -W -b html docs build/docs

# Every benchmark once, with every value of its parameters, nothing stored: do they run at all?
bench-smoke: $(installed)
	$(bin)/python -m bench.smoke

# This commit, all benchmarks or those that match BENCH, into bench/results/asv. For hours, if BENCH
# is not given, on a machine that has nothing else to do.
BENCH ?=
bench: $(bench-installed)
	$(bin)/python -m bench.record $(if $(BENCH),--bench '$(BENCH)')

# Is this tree slower than BASE? The rows of bench/tracked.py, or those that match BENCH: 3 minutes.
BASE ?= main
bench-compare: $(bench-installed)
	$(bin)/python -m bench.compare --base $(BASE) $(if $(BENCH),--bench '$(BENCH)')

# bench/history.toml's commits, anew: an hour.
bench-history: $(bench-installed)
	$(bin)/python -m bench.history measure
	$(bin)/python -m bench.history write

# What `make bench-compare` finds in a copy with one kernel slowed down, and in one without: twelve
# minutes, and two builds.
bench-catches: $(bench-installed)
	$(bin)/python -m pytest -m bench -n 0 -s tests/test_catches.py

# The history as a site, served on this machine alone until Ctrl-C.
PORT ?= 8000
dashboard: $(bench-installed)
	$(bin)/asv publish
	@echo "http://127.0.0.1:$(PORT)/"
	$(bin)/python -m http.server --bind 127.0.0.1 --directory .asv/html $(PORT)

# bench/results/: fastconv beside every peer that could be installed. Takes some 20 minutes, on a
# machine that has nothing else to do.
PEERS_THREADS ?= 1 2
peers: $(installed)
	$(bin)/python -m pip install --quiet --editable '.[peers]'
	mkdir -p build
	set -e; for threads in $(PEERS_THREADS); do \
		$(bin)/python -m bench.peers --threads $$threads --json build/peers.$$threads.json; \
	done
	$(bin)/python -m bench.report $(PEERS_THREADS:%=build/peers.%.json)

$(installed): $(sources)
	@$(MAKE) --no-print-directory prerequisites
	test -x $(bin)/python || $(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --upgrade 'pip>=23'
	$(bin)/python -m pip install --quiet --editable '.[demo,test,lint]'
	@touch $@

$(bench-installed): $(installed)
	$(bin)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

# Each missing thing gets one line that says how to get it.
prerequisites:
	@command -v $(PYTHON) >/dev/null || { \
		echo "fastconv needs Python 3.10 or newer and found no $(PYTHON); set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "fastconv needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V); set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@# what the build calls: CC when it is set, else the compiler that built Python
	@cc=$$($(PYTHON) -c 'import os, sysconfig; print((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0])'); \
	command -v "$$cc" >/dev/null || { \
		echo "fastconv is built from C and found no compiler called $$cc: install one (Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc; macOS: xcode-select --install) or set CC=/path/to/compiler" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { \
		echo "fastconv is built from C and found no Python.h for $(PYTHON): install Python's headers (Debian, Ubuntu: apt install python3-dev; Fedora: dnf install python3-devel)" >&2; exit 1; }

clean:
	rm -rf .venv build dist *.egg-info fastconv/_ext/core.c fastconv/_ext/*.so
