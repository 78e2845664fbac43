"""How Sphinx builds the documentation: `make docs`, or `python -m sphinx -W -n --keep-going docs build/docs`.

Nothing is fetched, neither while building nor while reading: no inventories of other projects, no fonts, no scripts.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `docs` itself; Sphinx starts anywhere

from importlib.metadata import version as version_of

project = "milvaion-trio"
author = "the contributors of milvaion-trio"
copyright = "the contributors of milvaion-trio"
release = version_of("milvaion-trio")
version = ".".join(release.split(".")[:2])

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib_trio", "docs.docstrings", "docs.rendering"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["__pycache__"]

myst_heading_anchors = 4  # the anchors that GitHub makes, which `tests/docs` holds the links to

smartquotes_action = "qe"  # quotes and dots, no dashes: `--` begins the name of an option

nitpicky = True
default_role = "named"  # see `docs.docstrings`
autodoc_member_order = "bysource"  # the order tells the story
autodoc_use_legacy_class_based = True  # sphinxcontrib-trio marks async functions through it
autodoc_typehints_format = "short"
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "milvaion-trio"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
