"""The terminal report of a run: every finding, then a table of counts by section."""

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verbatim.conformance.case import LEVELS, VERDICTS
from verbatim.conformance.runner import Result

COLOURS = {
    "pass": "green",
    "fail": "bold red",
    "warn": "yellow",
    "unsupported": "cyan",
    "skipped": "dim",
    "broken": "magenta",
}


def print_results(console: Console, results: list[Result], base_url: str) -> None:
    """Print the findings, then the table."""
    for level in LEVELS:
        for result in results:
            if result.case.level == level and result.verdict in ("fail", "warn", "broken"):
                print_result(console, result, base_url)
    table = Table(title="Verdicts by section")
    table.add_column("section")
    for verdict in VERDICTS:
        table.add_column(verdict, justify="right", style=COLOURS[verdict])
    sections = sorted({result.case.section for result in results})
    for section in sections:
        counts = Counter(result.verdict for result in results if result.case.section == section)
        table.add_row(section, *(str(counts[verdict] or "") for verdict in VERDICTS))
    counts = Counter(result.verdict for result in results)
    table.add_section()
    table.add_row("all", *(str(counts[verdict] or "") for verdict in VERDICTS))
    console.print(table)


def print_result(console: Console, result: Result, base_url: str) -> None:
    """Print a finding: what was expected, what was received, the source of the requirement, and the request."""
    case, colour = result.case, COLOURS[result.verdict]
    console.print(f"[{colour}]{result.verdict}[/] {case.level} [bold]{case.id}[/] {escape(case.requirement)}")
    console.print(f"    expected: {escape(result.expected)}", highlight=False)
    console.print(f"    actual:   {escape(result.actual)}", highlight=False)
    console.print(f"    source:   {escape(case.source)}", highlight=False, style="dim")
    if result.exchanges:
        console.print(
            f"    {escape(result.exchanges[-1].curl(base_url)[:1000])}", highlight=False, style="dim", soft_wrap=True
        )


def exit_code(results: list[Result], is_strict: bool) -> int:
    """0 if every MUST holds (strict: every SHOULD too, without warnings), 1 if not, 2 if the suite or server broke."""
    judged = [result for result in results if result.verdict in ("pass", "fail", "warn", "unsupported")]
    if any(result.verdict == "broken" for result in results) or not judged:
        return 2
    levels = ("MUST", "SHOULD") if is_strict else ("MUST",)
    bad = ("fail", "warn") if is_strict else ("fail",)
    return int(any(result.verdict in bad and result.case.level in levels for result in results))
