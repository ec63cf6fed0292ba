"""`python -m benchmarks.router`: streams through the router, compared with the same streams from the server.

Each round measures two servers, directly and through a router: one with an engine that computes nothing, which shows
the router's maximal cost, and the demo model on the fast path. Router and server share a core, client and engine the
other. `µs/token` is the processor time of the router alone.
"""

import argparse
import json
import os
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.http.client import load
from benchmarks.http.servers import Server, started
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "router.json"
STREAMS = (1, 16, 64)
LIMITS = ("--max-num-sequence", "64", "--max-total-seq-length", "65536", "--max-queue", "4096")
COMMANDS = {
    "nothing": ("-m", "benchmarks.http.ours", "--backend", "reference", "--max-queue", "4096"),
    "demo model": ("-m", "server", "--backend", "fastpath", "--threads", "1", *LIMITS),
}


def arguments() -> argparse.Namespace:
    """Settings; all of them go into the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router", description=__doc__.partition("\n")[0])
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--rounds", type=int, default=7, help="rounds, at least 5 for a result (default: 7)")
    parser.add_argument("--tokens", type=int, default=300, help="tokens of a stream (default: 300)")
    parser.add_argument("--server-core", type=int, default=cores[0], help="where servers and routers run")
    parser.add_argument("--client-core", type=int, default=cores[-1], help="where client and engines run")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON file (default: results/router.json)")
    parser.add_argument("--note", default="", help="a remark on the machine, kept with the result")
    return parser.parse_args()


def measure(asked: Server, num_streams: int, num_tokens: int) -> tuple[float, float]:
    """Tokens a second, and microseconds of the server's processor time a token."""
    before = asked.cpu_seconds()
    result = load(asked.port, num_streams, num_tokens)
    count = num_streams * num_tokens
    if result.num_events < count // 2:  # a token that is half a character has no event of its own
        raise RuntimeError(f"{asked.name} sent {result.num_events} events for {count} tokens")
    return count / result.seconds, 1e6 * (asked.cpu_seconds() - before) / count


def measure_all(settings: argparse.Namespace) -> list[dict]:
    """Every measurement of every round."""
    rows, cores = [], ({settings.server_core}, {settings.client_core})
    with ExitStack() as stack:
        pairs = {}
        for engine, command in COMMANDS.items():
            server = stack.enter_context(started(engine, *cores, command))
            command = ("-m", "verbatim.router", "--endpoint-urls", f"http://127.0.0.1:{server.port}")
            router = stack.enter_context(started(f"router {engine}", *cores, command, port_option="--router-port"))
            pairs[engine] = (server, router)
            for asked in (server, router):
                measure(asked, 4, settings.tokens)  # warm
        for number in range(settings.rounds):
            for num_streams in STREAMS:
                for engine, pair in pairs.items():
                    for asked in pair if number % 2 else pair[::-1]:
                        speed, cpu = measure(asked, num_streams, settings.tokens)
                        way = "direct" if asked is pair[0] else "router"
                        row = {"round": number, "engine": engine, "streams": num_streams, "way": way}
                        rows.append(row | {"tokens_per_second": speed, "cpu_us_per_token": cpu})
    return rows


def summarize(rows: list[dict]) -> list[dict]:
    """Medians over the rounds; the ratio is the median of the rounds' own ratios."""
    summary = []
    for engine in COMMANDS:
        for num_streams in STREAMS:
            mine = [row for row in rows if (row["engine"], row["streams"]) == (engine, num_streams)]
            ways = {way: [row for row in mine if row["way"] == way] for way in ("direct", "router")}
            speeds = {way: [row["tokens_per_second"] for row in found] for way, found in ways.items()}
            summary.append({
                "engine": engine, "streams": num_streams,
                "direct": median(speeds["direct"]), "router": median(speeds["router"]),
                "ratio": median(b / a for a, b in zip(speeds["direct"], speeds["router"], strict=True)),
                "cpu_us_per_token": median(row["cpu_us_per_token"] for row in ways["router"]),
            })  # fmt: skip
    return summary


def show(summary: list[dict]) -> None:
    """The table."""
    table = Table("engine", "streams", "direct tokens/s", "through the router", "ratio", "router's µs/token")
    for row in summary:
        speeds = (f"{row[name]:,.0f}" for name in ("direct", "router"))
        ratio, cpu = f"{row['ratio']:.0%}", f"{row['cpu_us_per_token']:.1f}"
        table.add_row(row["engine"], str(row["streams"]), *speeds, ratio, cpu)
    Console().print(table)


def main() -> None:
    """Measure, print, write."""
    settings = arguments()
    os.sched_setaffinity(0, {settings.client_core})
    rows = measure_all(settings)
    summary = summarize(rows)
    show(summary)
    kept = {name: value for name, value in vars(settings).items() if name != "out"}
    result = {"machine": describe_machine("sanic", "aiohttp", "uvloop"), "settings": kept, "summary": summary}
    settings.out.parent.mkdir(exist_ok=True)
    settings.out.write_text(json.dumps(result | {"rounds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
