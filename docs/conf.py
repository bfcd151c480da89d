"""The site: `make docs` builds it from the pages beside this file, without a network."""

import importlib.metadata
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]  # extensions, and the tests that tables are made of
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported

project, author = "jsoftmax", "The jsoftmax authors"
copyright = "the jsoftmax authors"
version = release = importlib.metadata.version("jsoftmax")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
    "mathml",
    "titles",
    "tables",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "_templates"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
nitpicky = True

html_math_renderer = "mathml"
html_theme = "sphinx_book_theme"
html_title = "jsoftmax"
html_theme_options = {
    "show_toc_level": 1,
    "navbar_persistent": [],
    "home_page_in_toc": True,
    "use_download_button": False,
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["explore.html"]
html_copy_source = False

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the signature has them
autodoc_preserve_defaults = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_custom_sections = ["Returns", "Raises", "Derivatives", "References", "Examples"]  # plain text
napoleon_use_param = napoleon_use_rtype = False
default_role = "code"
add_module_names = False
