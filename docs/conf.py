"""Configures Sphinx, which builds these pages: `make docs`."""

import sys
from pathlib import Path
from typing import Any

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parent))
import generated_pages

from krona_tune import __version__

project = "krona_tune"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
default_role = "code"  # `word` in a docstring is code, as in Markdown
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"krona_tune {__version__}"
html_static_path, html_css_files = ["static"], ["pages.css"]
html_copy_source = False
html_show_copyright = False
pygments_style, pygments_dark_style = "default", "github-dark"


class Generated(SphinxDirective):
    """Shows a text of `generated_pages`, made anew in each build."""

    required_arguments = 1

    def run(self) -> list[Node]:
        self.env.note_reread()
        text = generated_pages.TEXTS[self.arguments[0]]()
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the directive `generated`."""
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
