"""Pages of HTML that need nothing else, with pictures in them."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import numpy as np

from common.cli import UserError
from common.data.decoding import as_png
from common.state import whole_file

_STYLE = """
:root { background: #fff; color: #1b1b1b; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { background: #121212; color: #ececec; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 960px; padding: 0 1rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; }
caption { font-weight: 600; text-align: left; }
th, td { border-bottom: 1px solid #8886; padding: 0.3rem 1rem 0.3rem 0; text-align: left; vertical-align: top; }
section { border-left: 4px solid #8886; margin: 1.5rem 0; padding-left: 1rem; }
section.stop { border-color: #b3261e; }
section.warn { border-color: #8a5a00; }
.pairs { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); }
figure { margin: 0; }
figure img { image-rendering: auto; width: 46%; }
figcaption { font-size: 0.85rem; overflow-wrap: anywhere; }
"""


def document(title: str, body: str, style: str = "") -> str:
    """A page with a title and a body of HTML, in a light and a dark look, on a phone as on paper; `style` is added."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


def check_page_name(output: Path) -> None:
    """Raise a UserError if what ``--output`` names is no page of HTML."""
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"--output {output}: expected a name that ends with .html")


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all.

    Raises
    ------
    UserError
        When it cannot be written.
    """
    try:
        with whole_file(path, "w") as file:
            file.write(page)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def picture(pixels: np.ndarray) -> str:
    """The address of an image, uint8 (C, height, width), that holds it; empty for other arrays."""
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        return "data:,"
    shown = np.asarray(pixels) if len(pixels) in (1, 3) else np.asarray(pixels)[:1]
    return f"data:image/png;base64,{base64.b64encode(as_png(shown)).decode()}"
