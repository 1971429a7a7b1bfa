"""How Sphinx builds the site: from these pages, docstrings, the command line and notebooks."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import from_code

import daskcal

project = "daskcal"
author = "the daskcal developers"
copyright = author
version = release = daskcal.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["README.md", "_build", "repository/*.md"]
highlight_language = "text"
default_role = "py:obj"  # `combine` in a docstring is a link where there is such a thing
python_use_unqualified_type_names = True

autodoc_typehints = "none"  # docstrings say types and shapes
autosummary_generate = True
numpydoc_show_class_members = False
nb_execution_mode = "off"  # outputs are those that are committed; CI runs the notebooks
nb_merge_streams = True
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "daskcal"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["daskcal.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "tutorial/index": []}
copybutton_prompt_text = "$ "


def setup(app):
    """Bring in what lies elsewhere in the repository."""
    from_code.write(Path(app.srcdir))
    app.connect("source-read", from_code.links_within_site)
    app.connect("autodoc-process-signature", from_code.short_signature)
