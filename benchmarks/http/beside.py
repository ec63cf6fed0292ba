"""`python -m benchmarks.http.beside DIRECTORY`: our SSE path beside that of another checkout, in turns.

Both servers stay up. Each pair measures one right after the other, and the next pair begins with the other one, so that
what else the machine does falls on both. Servers differ by a few percent already by the order of their start; therefore
half of the pairs run after a start in the other order.
"""

import argparse
import contextlib
import os
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles

from rich.console import Console
from rich.table import Table

from benchmarks.http.__main__ import STREAMS, measure
from benchmarks.http.servers import Server, started

TOKENS = {1: 3200, 16: 400, 64: 200}  # of a stream, by the number of streams: a fraction of a second each
HERE = Path(__file__).parents[2]


def arguments() -> argparse.Namespace:
    """Settings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http.beside", description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, help="the other checkout; both use this Python and its packages")
    parser.add_argument("--pairs", type=int, default=80, help="pairs for each number of streams (default: 80)")
    return parser.parse_args()


@contextlib.contextmanager
def both(directories: list[Path], cores: list[int]):
    """A server of each checkout, started in this order."""
    with ExitStack() as stack:
        servers = {}
        for directory in directories:
            stack.enter_context(contextlib.chdir(directory))
            path = {"PYTHONPATH": str(directory / "src")}
            servers[directory] = stack.enter_context(started("verbatim", {cores[0]}, {cores[-1]}, **path))
            measure(servers[directory], 4, 400)  # warm
        yield servers


def ratios(servers: dict[Path, Server], other: Path, num_streams: int, num_pairs: int) -> list[tuple[float, float]]:
    """Of each pair: this checkout's tokens a second, and its processor time a token, as a part of the other's."""
    found = []
    for number in range(num_pairs):
        names = [HERE, other] if number % 2 else [other, HERE]
        rows = {name: measure(servers[name], num_streams, TOKENS[num_streams]) for name in names}
        columns = ("tokens_per_second", "cpu_us_per_token")
        found.append(tuple(rows[HERE][column] / rows[other][column] for column in columns))
    return found


def main() -> None:
    """Measure and print."""
    settings = arguments()
    other = settings.directory.resolve()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    found: dict[int, list[tuple[float, float]]] = {num_streams: [] for num_streams in STREAMS}
    for directories in ([HERE, other], [other, HERE]):
        with both(directories, cores) as servers:
            for num_streams in STREAMS:
                found[num_streams] += ratios(servers, other, num_streams, settings.pairs // 2)
    table = Table("streams", "pairs", "tokens/s, here / there", "µs/token, here / there", title="Median (quartiles)")
    for num_streams, pairs in found.items():
        cells = [quantiles(column, n=4) for column in zip(*pairs, strict=True)]
        shown = (f"{middle:.3f} ({low:.3f} to {high:.3f})" for low, middle, high in cells)
        table.add_row(str(num_streams), str(len(pairs)), *shown)
    Console().print(table)


if __name__ == "__main__":
    main()
