"""The website: ``sphinx-build -EWq --keep-going -c docs . site`` writes it to the folder ``site``.

Pages lie on the site where they lie in the project, so a relative link that works on GitHub works there, too. The start
page is README.md; the pages that docs/contents.md lists are in the sidebar, in its order. Nothing is run and nothing is
fetched: notebooks are shown with the outputs that they hold.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
ABOUT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
COLAB = "https://colab.research.google.com"

project = ABOUT["name"]
project_copyright = "the reproai maintainers: code Apache-2.0, lessons, pages and pictures CC BY 4.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
exclude_patterns = ["report.md"]  # what common.evidence.report writes here
include_patterns = ["*.md", "*.ipynb", "docs/*.md", "step_*/*.md", "step_*/*.ipynb"]
suppress_warnings = ["toc.not_included"]  # specifications and solutions: lessons lead to them

nb_execution_mode = "off"
myst_heading_anchors = 4

autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["site.css", "site.js"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_theme_options = {
    "repository_url": ABOUT["urls"]["Repository"],
    "repository_branch": "main",
    "use_repository_button": True,
    "use_download_button": False,
    "launch_buttons": {"colab_url": COLAB},
}


def toctrees(contents: str) -> str:
    """The lists of links of docs/contents.md, as what fills the sidebar."""
    found = ""
    for caption, links in re.findall(r"^## (.+)\n\n((?:- .+\n)+)", contents, re.MULTILINE):
        pages = re.findall(r"^- \[(.+?)\]\((.+?)\.(?:md|ipynb)\)", links, re.MULTILINE)
        lines = [f"{title} <{posixpath.normpath(posixpath.join('/docs', page))}>" for title, page in pages]
        found += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *lines, "```", ""])
    return found


def adapt(app, docname: str, source: list[str]) -> None:
    """Give the start page its sidebar, and let badges be words: their pictures lie elsewhere."""
    source[0] = re.sub(rf'<img src=\\?"{COLAB}[^>]+alt=\\?"([^"\\]+)\\?">', r"\1", source[0])
    if docname == root_doc:
        source[0] += toctrees((HERE / "contents.md").read_text())


def add_index(app, exception: Exception | None) -> None:
    """Make the start page the site's index.html, too."""
    if exception is None:
        shutil.copy(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app) -> None:
    app.connect("source-read", adapt)
    app.connect("build-finished", add_index)
