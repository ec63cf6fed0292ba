"""Reports for programs: JSON, from which a run can be judged again, and JUnit for build servers."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from verbatim.conformance import __version__
from verbatim.conformance.case import REGISTRY
from verbatim.conformance.client import Settings
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.runner import Result


def to_report(results: list[Result], settings: Settings, *, server: str, date: str) -> dict:
    """The whole run as a JSON value; report.schema.json describes it."""
    ordered = sorted(results, key=lambda result: result.case.id)
    return {
        "suite": {"name": "conformance", "version": __version__},
        "server": {"name": server, "base_url": settings.base_url, "model": settings.model},
        "settings": {
            "timeout": settings.timeout,
            "max_tokens_field": settings.max_tokens_field,
            "auth_required": settings.auth_required,
            "api_key": "$OPENAI_API_KEY" if settings.api_key else None,  # whether a key was used
        },
        "date": date,
        "results": [_record(result) for result in ordered],
    }


def _record(result: Result) -> dict:
    case = result.case
    return {
        "id": case.id,
        "level": case.level,
        "section": case.section,
        "profile": case.profile,
        "requirement": case.requirement,
        "source": case.source,
        "verdict": result.verdict,
        "expected": result.expected,
        "actual": result.actual,
        "seconds": round(result.seconds, 4),
        "evidence": [exchange.to_json() for exchange in result.exchanges],
    }


def read_report(path: Path) -> dict:
    """A report from disk; ValueError if the file is not a report."""
    report = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(report, dict) or not isinstance(report.get("results"), list) or "server" not in report:
        raise ValueError(f"{path}: no report of this suite: it must be an object with `server` and `results`")
    return report


def results_of(report: dict) -> list[Result]:
    """The results that a report holds, of cases that this version still has."""
    return [
        Result(
            REGISTRY[record["id"]],
            record["verdict"],
            record["expected"],
            record["actual"],
            record["seconds"],
            [Exchange.from_json(item) for item in record["evidence"]],
        )
        for record in report["results"]
        if record["id"] in REGISTRY
    ]


def settings_of(report: dict) -> Settings:
    """The settings that judges read."""
    server = report["server"]
    return Settings(server["base_url"], server["model"], **report["settings"])


def to_junit(results: list[Result], base_url: str) -> str:
    """A JUnit test case for every case. A SHOULD or MAY that fails is a failure too; the message has its level."""
    suite = ElementTree.Element("testsuite", name="conformance", tests=str(len(results)))
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for result in sorted(results, key=lambda result: result.case.id):
        item = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"conformance.{result.case.section}",
            name=result.case.id,
            time=f"{result.seconds:.3f}",
        )
        element = {"fail": "failure", "broken": "error", "pass": None}.get(result.verdict, "skipped")
        if element is None:
            continue
        counts[{"failure": "failures", "error": "errors", "skipped": "skipped"}[element]] += 1
        message = _clean(f"{result.case.level} {result.verdict}: expected {result.expected}; actual: {result.actual}")
        detail = ElementTree.SubElement(item, element, message=message)
        lines = [result.case.requirement, f"Source: {result.case.source}"]
        lines += [exchange.curl(base_url) for exchange in result.exchanges[-1:]]
        detail.text = _clean("\n".join(lines))
    suite.attrib.update({name: str(count) for name, count in counts.items()})
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _clean(text: str) -> str:
    """Replace by `?` the characters that XML does not allow: most control characters and lone surrogates."""
    return "".join(
        c if c in "\t\n" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE or ord(c) > 0xFFFF else "?"
        for c in text
    )
