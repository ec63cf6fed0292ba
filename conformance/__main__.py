"""The command: `verbatim conform --base-url URL --model ID` runs the cases; --help shows the rest."""

import argparse
import difflib
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from verbatim.conformance.case import LEVELS, PROFILES, REGISTRY, Case
from verbatim.conformance.catalogue import all_cases, chosen, costs, plan
from verbatim.conformance.client import Settings
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.reports.machine import read_report, results_of, settings_of, to_junit, to_report
from verbatim.conformance.reports.page import to_matrix, to_page
from verbatim.conformance.reports.terminal import exit_code, print_results
from verbatim.conformance.runner import Result, Run, rejudge


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, with a suggestion for a misspelt option."""

    def error(self, message: str):
        """End the command with code 2."""
        unknown = re.fullmatch(r"unrecognized arguments: (--[\w-]+).*", message)
        known = re.findall(r"--[a-z][\w-]+", self.format_help())
        if close := unknown and difflib.get_close_matches(unknown[1], known, n=1):
            message = f"{unknown[1]}: did you mean {close[0]}?"
        self.exit(2, f"{self.prog}: {message}\n")


def make_parser(prog: str = "conformance") -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = Parser(prog=prog, description="How OpenAI-compatible is an endpoint?")
    parser.add_argument("--base-url", help="where the API is, with its /v1")
    parser.add_argument("--model", help="the id of the model under test")
    parser.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY"), help="default: OPENAI_API_KEY")
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME: VALUE", help="a header for every request"
    )
    parser.add_argument("--name", help="the name of the server in reports (default: its base URL)")
    parser.add_argument(
        "--id", action="append", default=[], help="only this case; `chat.*` is every id with that prefix"
    )
    parser.add_argument("--section", action="append", default=[], help="only this section")
    parser.add_argument("--level", action="append", default=[], help=f"only this level: {', '.join(LEVELS)}")
    parser.add_argument("--profile", default="all", help=f"only this profile: {', '.join(PROFILES)}, all")
    parser.add_argument("--list", action="store_true", help="show the chosen cases and stop")
    parser.add_argument("--plan", action="store_true", help="show how many requests and tokens they cost, and stop")
    parser.add_argument("--budget", type=int, metavar="REQUESTS", help="send no more requests than this")
    parser.add_argument("--concurrency", type=int, default=4, help="cases in parallel (4)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one request (60)")
    parser.add_argument("--strict", action="store_true", help="SHOULD and warnings count for the exit code, too")
    parser.add_argument("--max-tokens-field", default="max_tokens", choices=("max_tokens", "max_completion_tokens"))
    parser.add_argument("--embedding-model", help="the id for /embeddings, if it differs")
    parser.add_argument("--auth-required", action="store_true", help="the server is known to require the key")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as an HTML page")
    parser.add_argument(
        "--rejudge", type=Path, metavar="FILE", help="judge the evidence of a JSON report again, offline"
    )
    parser.add_argument(
        "--matrix", type=Path, nargs="+", metavar="FILE", help="compare JSON reports; --html is the page"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def settings_from(options: argparse.Namespace) -> Settings:
    """The settings of a run; ValueError names an option that is missing or invalid."""
    if not options.base_url or not options.model:
        raise ValueError("--base-url and --model are needed to run cases")
    if not options.base_url.startswith(("http://", "https://")):
        raise ValueError(f"--base-url {options.base_url}: must begin with http:// or https://")
    if options.concurrency < 1:
        raise ValueError(f"--concurrency {options.concurrency}: must be at least 1")
    if options.timeout <= 0:
        raise ValueError(f"--timeout {options.timeout}: must be more than 0")
    if options.budget is not None and options.budget < 1:
        raise ValueError(f"--budget {options.budget}: must be at least 1")
    headers = {}
    for line in options.header:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ValueError(f"--header {line}: must be NAME: VALUE")
        headers[name.strip()] = value.strip()
    return Settings(
        options.base_url.rstrip("/"),
        options.model,
        options.api_key or None,
        headers,
        options.timeout,
        max_tokens_field=options.max_tokens_field,
        embedding_model=options.embedding_model,
        auth_required=options.auth_required,
    )


def run_cases(cases: list[Case], settings: Settings, options: argparse.Namespace, console: Console) -> list[Result]:
    """Run cases with a progress bar; Ctrl-C keeps the verdicts so far."""
    run = Run(settings, concurrency=options.concurrency, budget=options.budget)
    columns = (TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results, num_failed = [], 0
    with Progress(*columns, console=console, transient=True, disable=options.quiet) as progress:
        task = progress.add_task("starting", total=len(cases))

        def show(case: Case) -> None:
            progress.update(task, description=f"{num_failed} failed  {case.id}"[:40])

        try:
            for result in run.results(cases, show):
                results.append(result)
                num_failed += result.verdict == "fail"
                progress.advance(task)
        except KeyboardInterrupt:
            console.print("Stopped. The verdicts so far:")
    return results


def main(arguments: list[str] | None = None, *, prog: str = "conformance") -> int:
    """Run the command; returns its exit code. `prog` is what messages and help call it."""
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    console = Console()
    try:
        all_cases()
        if options.matrix:
            return write_matrix(options, parser)
        cases = chosen(options.id, options.section, options.level, options.profile)
        if options.list or options.plan:
            return show_cases(cases, options, console)
        if options.rejudge:
            report = read_report(options.rejudge)
            settings, server = settings_of(report), options.name or report["server"]["name"]
            date, wanted = report["date"], {case.id for case in cases}
            saved = [
                (REGISTRY[r["id"]], [Exchange.from_json(item) for item in r["evidence"]], r["verdict"])
                for r in report["results"]
                if r["id"] in wanted
            ]
            results = list(rejudge([(case, evidence) for case, evidence, _ in saved if evidence], settings))
            results += [r for r in results_of(report) if r.case.id in wanted and not r.exchanges]
        else:
            settings = settings_from(options)
            server, date = options.name or settings.base_url, datetime.now(UTC).isoformat(timespec="seconds")
            results = run_cases(cases, settings, options, console)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    write_reports(results, settings, options, server=server, date=date)
    print_results(console, results, settings.base_url)
    return exit_code(results, options.strict)


def show_cases(cases: list[Case], options: argparse.Namespace, console: Console) -> int:
    """Print the cases (--list) and their cost; returns the exit code 0."""
    if options.list:
        for case in cases:
            num_requests, num_tokens = costs().get(case.id, [1, 16])
            print(f"{case.level:6} {case.id:44} {num_requests:4} requests {num_tokens:6} tokens  {case.requirement}")
    num_requests, num_tokens = plan(cases)
    print(f"{len(cases)} cases: about {num_requests} requests, at most {num_tokens} completion tokens")
    return 0


def write_reports(
    results: list[Result], settings: Settings, options: argparse.Namespace, *, server: str, date: str
) -> None:
    """Write every report that was requested."""
    report = to_report(results, settings, server=server, date=date)
    if options.json:
        options.json.write_text(json.dumps(report, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")
    if options.junit:
        options.junit.write_text(to_junit(results, settings.base_url), encoding="utf-8")
    if options.html:
        options.html.write_text(to_page(results, report), encoding="utf-8", errors="backslashreplace")


def write_matrix(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """--matrix: write a page with the reports side by side."""
    if not options.html:
        parser.error("--matrix needs --html FILE for its page")
    options.html.write_text(to_matrix([read_report(path) for path in options.matrix]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
