"""Configuration of Sphinx, which builds the documentation: `make docs`."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

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

# Formulas become MathML, which browsers draw by themselves, so that the pages also work without a network.
html_math_renderer = "mathml"


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write the formula `node` into its sentence."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """Write the formula `node` on a line of its own, which scrolls if it is wider than the page."""
    self.body.append(f'<div style="overflow-x: auto">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
