"""GET /: a page to try the model out, in one file that loads nothing from anywhere else."""

from pathlib import Path

from sanic import Blueprint, html

PAGE = Path(__file__).parent.parent / "playground.html"
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'"


def playground_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("playground")
    page = PAGE.read_text(encoding="utf-8")

    @blueprint.get("/")
    async def playground(request):
        return html(page, headers={"content-security-policy": POLICY, "cache-control": "no-cache"})

    return blueprint
