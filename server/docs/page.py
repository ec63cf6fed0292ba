"""The OpenAPI page for people: Swagger UI, which comes with us and loads nothing from anywhere else.

`vendor/` has the library as its authors built it, compressed, with its licences; `start.js` and `page.css` are ours.
"""

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
VENDOR = HERE / "vendor"
MEDIA_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>verbatim: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css?{swagger-ui.css}">
<link rel="stylesheet" href="docs/page.css?{page.css}">
<div id="docs"></div>
<script src="docs/swagger-ui-bundle.js?{swagger-ui-bundle.js}"></script>
<script src="docs/start.js?{start.js}"></script>
</html>
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page, compressed (gzip). `version` changes with its content."""

    content: bytes
    media_type: str

    @property
    def version(self) -> str:
        """Some digits of the content's digest."""
        return sha256(self.content).hexdigest()[:12]


@cache
def files() -> dict[str, File]:
    """The files of the page by their names."""
    vendored = {path.stem: path.read_bytes() for path in VENDOR.glob("*.gz")}
    own = {name: gzip.compress((HERE / name).read_bytes(), mtime=0) for name in ("start.js", "page.css")}
    return {name: File(content, MEDIA_TYPES[Path(name).suffix]) for name, content in (vendored | own).items()}


def page() -> str:
    """The page itself; its files' names carry versions, so that browsers may keep them."""
    text = PAGE
    for name, file in files().items():
        text = text.replace("{" + name + "}", file.version)
    return text
