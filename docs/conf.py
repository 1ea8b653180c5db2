"""The site that `make docs` builds: Sphinx, pages in Markdown by MyST."""

from __future__ import annotations

import importlib.metadata

project = "spikescr"
author = "the authors of spikescr"
release = importlib.metadata.version("spikescr")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"spikescr {release}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
