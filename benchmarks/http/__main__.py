"""`python -m benchmarks.http`: our SSE path, a bare Sanic handler and FastAPI with uvicorn, with the same bytes.

Every round measures all servers at all numbers of streams, one after the other, starting with a different server each
time. A second part sends tokens at a fixed rate and measures their age when the client reads them.
"""

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table

from benchmarks.http.bare_events import EVENTS
from benchmarks.http.client import load, request
from benchmarks.http.engine import STEP_SECONDS
from benchmarks.http.servers import COMMANDS, Server, started
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parents[1] / "results" / "http.json"
STREAMS = (1, 16, 64)
GOAL = 0.70


def arguments() -> argparse.Namespace:
    """Settings; all of them go into the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__.partition("\n")[0])
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--rounds", type=int, default=7, help="rounds, at least 5 for a result (default: 7)")
    parser.add_argument("--tokens", type=int, default=500, help="tokens of a stream (default: 500)")
    parser.add_argument("--server-core", type=int, default=cores[0], help="where the servers run")
    parser.add_argument("--client-core", type=int, default=cores[-1], help="where client and engine run")
    parser.add_argument("--step-seconds", type=float, default=0.02, help="the second part's pace (default: 0.02)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON file (default: results/http.json)")
    parser.add_argument("--note", default="", help="a remark on the machine, kept with the result")
    return parser.parse_args()


def record(server: Server, num_tokens: int) -> bytes:
    """What our server says to the client's request."""
    status, body = server.ask("POST", "/v1/chat/completions", request(num_tokens).partition(b"\r\n\r\n")[2])
    if status != 200 or body.count(b"\n\n") != num_tokens + 3:  # the role before, finish reason and [DONE] after
        raise RuntimeError(f"{status} with {body.count(b'nn')} events: {body[:500]!r}")
    return body


def measure(server: Server, num_streams: int, num_tokens: int) -> dict:
    """One server once."""
    before = server.cpu_seconds()
    result = load(server.port, num_streams, num_tokens)
    used = server.cpu_seconds() - before
    expected = num_streams * (num_tokens + 3)
    if result.num_events != expected:
        raise RuntimeError(f"{server.name} sent {result.num_events} events, not {expected}")
    count = num_streams * num_tokens
    return {
        "server": server.name, "streams": num_streams, "tokens_per_second": count / result.seconds,
        "cpu_us_per_token": 1e6 * used / count,
    }  # fmt: skip


def throughput(settings: argparse.Namespace) -> list[dict]:
    """Every measurement of every round."""
    rows, cores = [], ({settings.server_core}, {settings.client_core})
    with ExitStack() as stack, tempfile.NamedTemporaryFile() as file:
        ours = stack.enter_context(started("verbatim", *cores))
        file.write(record(ours, settings.tokens))
        file.flush()
        others = [stack.enter_context(started(name, *cores, **{EVENTS: file.name})) for name in [*COMMANDS][1:]]
        servers = [ours, *others]
        for server in servers:
            measure(server, 4, settings.tokens)  # warm
        for number in range(settings.rounds):
            shift = number % len(servers)
            for num_streams in STREAMS:
                for server in servers[shift:] + servers[:shift]:
                    rows.append({"round": number} | measure(server, num_streams, settings.tokens))
    return rows


def ages(settings: argparse.Namespace, streams: tuple[int, ...] = STREAMS) -> list[dict]:
    """From the engine's writing a token to the client's reading it, in milliseconds, at a fixed pace."""
    rows, cores = [], ({settings.server_core}, {settings.client_core})
    with started("verbatim", *cores, **{STEP_SECONDS: str(settings.step_seconds)}) as server:
        for num_streams in streams:
            before, times = server.cpu_seconds(), []
            for _ in range(3):
                times += load(server.port, num_streams, 100).ages
            used = (server.cpu_seconds() - before) / len(times)
            rows.append({"streams": num_streams, "tokens": len(times), "cpu_us_per_token": 1e6 * used})
            rows[-1] |= {"median_ms": 1e3 * median(times), "p99_ms": 1e3 * quantiles(times, n=100)[98]}
    return rows


def medians(rows: list[dict]) -> dict[tuple[str, int], tuple[float, float]]:
    """Tokens a second and microseconds a token, by server and number of streams."""
    found = {}
    for name in COMMANDS:
        for num_streams in STREAMS:
            mine = [row for row in rows if (row["server"], row["streams"]) == (name, num_streams)]
            columns = ("tokens_per_second", "cpu_us_per_token")
            found[name, num_streams] = tuple(median(row[column] for row in mine) for column in columns)
    return found


def summarize(rows: list[dict]) -> list[dict]:
    """The table's rows: each server beside bare Sanic. Ratios above 1 are better than bare Sanic."""
    found, summary = medians(rows), []
    for num_streams in STREAMS:
        base = found["bare Sanic", num_streams]
        for name in COMMANDS:
            speed, cpu = found[name, num_streams]
            row = {"streams": num_streams, "server": name, "tokens_per_second": speed, "ratio": speed / base[0]}
            summary.append(row | {"cpu_us_per_token": cpu, "cpu_ratio": base[1] / cpu})
    return summary


def show(summary: list[dict], late: list[dict], settings: argparse.Namespace) -> None:
    """Two tables, and whether the goal is met."""
    console = Console()
    table = Table("streams", "server", "tokens/s", "of bare Sanic", "µs/token", "of bare Sanic", title="Throughput")
    for row in summary:
        speed = (f"{row['tokens_per_second']:,.0f}", f"{row['ratio']:.0%}")
        table.add_row(
            str(row["streams"]), row["server"], *speed, f"{row['cpu_us_per_token']:.2f}", f"{row['cpu_ratio']:.0%}"
        )
    console.print(table)
    title = f"From engine to client, a token every {1e3 * settings.step_seconds:g} ms a stream"
    table = Table("streams", "tokens", "median ms", "p99 ms", "µs/token", title=title)
    for row in late:
        numbers = (f"{row[name]:.2f}" for name in ("median_ms", "p99_ms", "cpu_us_per_token"))
        table.add_row(str(row["streams"]), str(row["tokens"]), *numbers)
    console.print(table)
    ratio = next(row["ratio"] for row in summary if (row["streams"], row["server"]) == (STREAMS[-1], "verbatim"))
    verdict = "met" if ratio >= GOAL else "NOT met"
    console.print(f"Goal, {GOAL:.0%} of bare Sanic's tokens/s at {STREAMS[-1]} streams: {ratio:.0%}, {verdict}.")


def main() -> None:
    """Measure, print, write."""
    settings = arguments()
    os.sched_setaffinity(0, {settings.client_core})
    rows, late = throughput(settings), ages(settings)
    summary = summarize(rows)
    show(summary, late, settings)
    kept = {name: value for name, value in vars(settings).items() if name != "out"}
    machine = describe_machine("sanic", "fastapi", "uvicorn", "uvloop")
    result = {"machine": machine, "settings": kept, "summary": summary, "engine_to_client": late, "rounds": rows}
    settings.out.parent.mkdir(exist_ok=True)
    settings.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
