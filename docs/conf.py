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
extensions = ["myst_parser"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
html_title = f"krona_tune {__version__}"
html_static_path, html_css_files = ["static"], ["pages.css"]
html_copy_source = False
html_show_copyright = False
pygments_style, pygments_dark_style = "default", "github-dark"


class MorePages(SphinxDirective):
    """Gives pages that this checkout may lack their place in the navigation."""

    def run(self) -> list[Node]:
        self.env.note_reread()
        text = generated_pages.more_pages()
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the directive `more-pages`."""
    app.add_directive("more-pages", MorePages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
