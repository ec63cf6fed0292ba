"""`python -m benchmarks.rules`: the cost of the numerics contract, kernel by kernel, on one thread.

The kernels are compiled twice: with the fast path's flags, and with all that the contract forbids (fused products and
sums, sums in any order, approximate divisions: -ffast-math). Both run alternately. units.c measures in registers what a
compiler cannot derive: bfloat16 dot products, bytes without scales. Writes
results/rules.json.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from verbatim.fastpath.machine import dispatch, probe, threads

HERE = Path(__file__).parent
KERNELS = HERE.parent / "fastpath" / "kernels"
COMMON = ["-O3", "-std=gnu11", "-Wno-psabi", "-I", str(KERNELS)]
WAYS = {"with": ["-ffp-contract=off", "-fno-fast-math"], "without": ["-ffast-math", "-ffp-contract=fast", "-mfma"]}
RULES = {
    "float32": "N0, N3", "bfloat16": "N0, N3", "float16": "N0, N3", "w8a8": "N0, N4", "w4a8": "N0, N4",
    "quantize": "N4", "rms_norm": "N2, N5", "silu": "N7", "gelu": "N7", "rotate": "N6", "attention": "N8",
    "sampling": "N10",
}  # fmt: skip


def compiled(sources: list[Path], flags: list[str], to: Path) -> Path:
    """Compile a program; SystemExit with the compiler's message if that fails."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("this needs a C compiler: cc or gcc")
    done = subprocess.run([compiler, *COMMON, *flags, *map(str, sources), "-o", str(to), "-lm"], capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return to


def times(program: Path) -> dict[str, float]:
    """The lines that a program prints, a name and a number each."""
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: float(number) for name, number in map(str.split, lines)}


def units(place: Path) -> dict[str, float]:
    """Operations a second in registers, for each unit of this processor (units.c)."""
    return times(compiled([HERE / "units.c"], ["-march=native", "-ffp-contract=off"], place / "units"))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="of each program, in turn (default: 7)")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "rules.json")
    settings, console = parser.parse_args(), Console()
    found = {way: {name: [] for name in RULES} for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Path(folder)
        sources = [HERE / "rules.c", *(path for path in KERNELS.glob("*.c") if path.name != "team.c")]
        programs = {way: compiled(sources, flags, place / way) for way, flags in WAYS.items()}
        for _ in range(settings.runs):
            for way, program in programs.items():
                for name, took in times(program).items():
                    found[way][name].append(took)
        peaks = units(place)
    table = Table("kernel", "rules", "with them", "without", "they cost", title="one thread, data in the second cache")
    rows = []
    for name, rules in RULES.items():
        took = {way: statistics.median(found[way][name]) for way in WAYS}
        rows.append({"kernel": name, "rules": rules} | {f"{way}_us": value for way, value in took.items()})
        shown = [f"{value:.1f} us" for value in took.values()]
        table.add_row(name, rules, *shown, f"{took['with'] / took['without'] - 1:+.0%}")
    console.print(table)
    threads.use(1)
    floats = probe.peak_operations(True)
    if "bfloat16" in peaks:
        console.print(f"bfloat16 in registers: the contract's products and sums {floats / 1e9:.0f} GFLOP/s, "
                      f"the processor's own dot products {peaks['bfloat16'] / 1e9:.0f}")  # fmt: skip
    if "bytes" in peaks:
        console.print(f"int8 in registers: dot products {peaks['bytes'] / 1e9:.0f} GOP/s, "
                      f"with a scale for each group of 32 (N4) {peaks['bytes_scaled'] / 1e9:.0f}")  # fmt: skip
    result = {"machine": describe_machine("numpy"), "level": dispatch.level(), "runs": settings.runs, "kernels": rows,
              "float_peak": floats, "units_of_one_thread": peaks}  # fmt: skip
    settings.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
