"""Sphinx's settings of the site: `make docs`.

The source folder is the repository, so that pages link to each other and to files as they do in a
clone.
"""

import sys
from pathlib import Path

import deeplens_tf

sys.path.insert(0, str(Path(__file__).parent))  # for generated.py

project = "deeplens_tf"
author = "The deeplens_tf developers"
version = release = deeplens_tf.__version__
root_doc = "docs/index"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "generated",
]
include_patterns = [
    "docs/**.md",
    "notebooks/*.ipynb",
    "README.md",
    "data/README.md",
    "results/*.md",
    "benchmarks/results/*.md",
    "deeplens_tf/weights/*/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
exclude_patterns = [
    ".*",
    "build",
    "runs",
    "data/[!R]*",
    "results/card.md",
    "results/attention.md",
    "tests",
]

# Notebooks are shown as they were executed by `make notebooks`.
nb_execution_mode = "off"
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline"]

# Docstrings mark code as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"deeplens_tf {release}"
html_show_copyright = False
html_favicon = "ring.svg"
html_static_path = ["style"]
html_css_files = ["formulas.css"]
html_extra_path = ["root"]  # the site's first page leads to that of docs/
copybutton_exclude = ".linenos, .gp, .go"
