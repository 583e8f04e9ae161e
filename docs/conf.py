"""Sphinx: ``make docs`` writes build/docs."""

from __future__ import annotations

import fastconv

project = "fastconv"
copyright = author = "The fastconv developers"
version = release = fastconv.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["pictures"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # the parameters' descriptions have them in words
numpydoc_show_class_members = False
html_theme = "alabaster"
# README.md and CONTRIBUTING.md lie outside; they are read where the sources are
suppress_warnings = ["myst.xref_missing"]
