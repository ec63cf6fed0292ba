"""Reports as self-contained HTML pages: a run with its failing requests, or several servers side by side."""

from collections import Counter
from html import escape

from verbatim.conformance.case import LEVELS, VERDICTS
from verbatim.conformance.runner import Result

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d2129; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { border: 1px solid #d5d9e0; padding: .2rem .6rem; }
th { background: #f3f5f8; text-align: left; } pre { background: #f3f5f8; padding: .6rem; overflow-x: auto;
white-space: pre-wrap; word-break: break-all; } .pass { background: #dff3e2; } .fail { background: #fbd5d5; }
.warn { background: #fdf0c8; } .unsupported { background: #d8eefb; } .skipped { color: #7a808a; }
.broken { background: #ead7f7; } details { border-left: 4px solid #d5d9e0; padding-left: 1rem; margin: .6rem 0; }
summary { cursor: pointer; } .level { font-size: 80%; color: #555b66; }
"""
ORDER = ("fail", "broken", "warn", "unsupported", "skipped", "pass")


def _document(title: str, body: str) -> str:
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def to_page(results: list[Result], report: dict) -> str:
    """A run: counts, then every verdict with its requirement, and for all but a pass the request and the answer."""
    server = report["server"]
    parts = [f"<p>{escape(server['base_url'])}, model {escape(server['model'])}, {escape(report['date'])}</p>"]
    parts.append(_counts(results))
    for verdict in ORDER:
        for result in sorted(results, key=lambda r: (LEVELS.index(r.case.level), r.case.id)):
            if result.verdict == verdict:
                parts.append(_details(result, server["base_url"]))
    return _document(f"Conformance of {server['name']}", "\n".join(parts))


def _counts(results: list[Result]) -> str:
    rows = ["<table><tr><th>level" + "".join(f"<th>{verdict}" for verdict in VERDICTS)]
    for level in LEVELS:
        counts = Counter(result.verdict for result in results if result.case.level == level)
        cells = "".join(f"<td class={verdict}>{counts[verdict]}" for verdict in VERDICTS)
        rows.append(f"<tr><th>{level}{cells}")
    return "\n".join(rows) + "</table>"


def _details(result: Result, base_url: str) -> str:
    case = result.case
    lines = [
        f"<details><summary><span class={result.verdict}>{result.verdict}</span> <b>{escape(case.id)}</b>"
        f" <span class=level>{case.level}</span> {escape(case.requirement)}</summary>",
        f"<p>Source: {escape(case.source)}</p>",
    ]
    if result.verdict != "pass":
        lines.append(f"<p>Expected: {escape(result.expected)}<br>Actual: {escape(result.actual)}</p>")
        for exchange in result.exchanges:
            lines.append(f"<pre>{escape(exchange.curl(base_url))}</pre><pre>{escape(_answer(exchange))}</pre>")
    return "\n".join(lines) + "</details>"


def _answer(exchange) -> str:
    text = exchange.body[:4000].decode("utf-8", "backslashreplace")
    head = "\n".join(f"{name}: {value}" for name, value in exchange.headers)
    rest = f"\n... {len(exchange.body)} bytes in all" if len(exchange.body) > 4000 else ""
    trouble = f"\n[{exchange.trouble}]" if exchange.trouble else ""
    return f"HTTP {exchange.status}\n{head}\n\n{text}{rest}{trouble}"


def to_matrix(reports: list[dict]) -> str:
    """Servers as columns, cases as rows; a cell shows the actual answer on hovering.

    Reports of the same name make one column; a later verdict replaces an earlier one.
    """
    reports = _joined(reports)
    columns = [{record["id"]: record for record in report["results"]} for report in reports]
    ids = sorted({case_id for column in columns for case_id in column})
    names = [escape(report["server"]["name"]) for report in reports]
    head = "<tr><th>case<th>level" + "".join(f"<th>{name}" for name in names)
    parts = [
        "<p>" + "<br>".join(_origin(report) for report in reports) + "</p>",
        _totals(reports, names),
        "<table>",
        head,
    ]
    for case_id in ids:
        records = [column.get(case_id) for column in columns]
        first = next(record for record in records if record)
        title = escape(f"{first['requirement']} ({first['source']})", quote=True)
        parts.append(f'<tr><td title="{title}">{escape(case_id)}<td class=level>{first["level"]}')
        parts += [_cell(record) for record in records]
    return _document("Conformance matrix", "\n".join(parts) + "</table>")


def _joined(reports: list[dict]) -> list[dict]:
    servers: dict[str, dict] = {}
    for report in reports:
        earlier = servers.setdefault(report["server"]["name"], report)
        records = {record["id"]: record for record in (*earlier["results"], *report["results"])}
        servers[report["server"]["name"]] = earlier | {"results": [records[name] for name in sorted(records)]}
    return list(servers.values())


def _origin(report: dict) -> str:
    server = report["server"]
    return escape(f"{server['name']}: model {server['model']}, {report['date']}, suite {report['suite']['version']}")


def _totals(reports: list[dict], names: list[str]) -> str:
    rows = ["<table><tr><th>server<th>level" + "".join(f"<th>{verdict}" for verdict in VERDICTS)]
    for report, name in zip(reports, names, strict=True):
        for level in LEVELS:
            counts = Counter(record["verdict"] for record in report["results"] if record["level"] == level)
            cells = "".join(f"<td class={verdict}>{counts[verdict]}" for verdict in VERDICTS)
            rows.append(f"<tr><th>{name}<td>{level}{cells}")
    return "\n".join(rows) + "</table>"


def _cell(record: dict | None) -> str:
    if record is None:
        return "<td>"
    title = escape(f"expected {record['expected']}; actual: {record['actual']}", quote=True)
    hint = f' title="{title}"' if record["verdict"] != "pass" else ""
    return f"<td class={record['verdict']}{hint}>{record['verdict']}"
