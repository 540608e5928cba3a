"""Configuration of Sphinx, which builds the documentation: `make docs`."""

from __future__ import annotations

from importlib.metadata import version as installed

project = "mpc_appraisal"
author = "The maintainers of mpc_appraisal"
release = version = installed("mpc_appraisal")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests run every block of the pages

html_theme = "furo"
html_title = "mpc_appraisal"
html_show_copyright = False
exclude_patterns = ["_build"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
