"""The OpenAPI page as HTML for people: one self-contained page, made once, without a script."""

from collections.abc import Iterable
from html import escape
from json import dumps

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
summary { cursor: pointer; padding: .4rem 0 }
summary b { display: inline-block; width: 3.5rem }
code, b { font-family: ui-monospace, monospace }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 1rem }
td, th { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #8884 }
td { overflow-wrap: anywhere }
"""


def render(document: dict) -> str:
    """The page for an OpenAPI document as openapi.py makes it."""
    info = document["info"]
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [
        _details(f"<code>{escape(name)}</code>", _json(s)) for name, s in document["components"]["schemas"].items()
    ]
    return "\n".join(
        (
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
            f"<title>{escape(info['title'])}</title><style>{STYLE}</style>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}",
            "For programs: <a href=openapi.json>openapi.json</a>.</p>",
            *operations,
            "<h2>Schemas</h2>",
            *schemas,
        )
    )


def _operation(method: str, path: str, operation: dict) -> str:
    title = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
    content = ""
    if "requestBody" in operation:
        (body,) = (entry["schema"] for entry in operation["requestBody"]["content"].values())
        content += _table(
            "Body", [_field(name, schema, body["required"]) for name, schema in body["properties"].items()]
        )
    answers = [
        (code, escape(answer["description"]), escape(", ".join(answer["content"])))
        for code, answer in operation["responses"].items()
    ]
    return _details(title, content + _table("Answer", answers))


def _field(name: str, schema: dict, required: list[str]) -> tuple[str, str, str]:
    """A field's name, whether it must be there, and what it may be."""
    if name not in required:
        schema = schema["anyOf"][0]  # the other is null
    shown = {key: value for key, value in schema.items() if key not in ("description", "examples")}
    return (
        f"<code>{escape(name)}</code>",
        "required" if name in required else "",
        f"<code>{escape(dumps(shown))}</code>",
    )


def _table(title: str, rows: Iterable[tuple[str, ...]]) -> str:
    cells = ("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr><th colspan=3>{title}</th></tr>{''.join(cells)}</table>"


def _json(value: object) -> str:
    return f"<pre><code>{escape(dumps(value, indent=2))}</code></pre>"


def _details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"
