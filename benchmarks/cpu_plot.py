"""The picture of `python -m benchmarks.cpu`: results/cpu.svg."""

from pathlib import Path


def plot(result: dict, path: Path) -> None:
    """Our tokens/s as multiples of llama.cpp's, from the lowest of ours to its highest and the other way round."""
    import matplotlib.pyplot as plt  # of [bench]; what it costs to import, only this needs

    rows = [row for row in result["measurements"] if "llama.cpp" in row][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(rows) + 1), layout="constrained")
    formats = list(dict.fromkeys(row["format"] for row in rows[::-1]))
    colours = {name: f"C{place}" for place, name in enumerate(formats)}
    for at, row in enumerate(rows):
        ours, peer = row["ours"], row["llama.cpp"]
        ratio = ours["median"] / peer["median"]
        span = [[ratio - ours["lowest"] / peer["highest"]], [ours["highest"] / peer["lowest"] - ratio]]
        axes.barh(at, ratio, xerr=span, color=colours[row["format"]], ecolor="gray")
    axes.set_yticks(range(len(rows)), [f"{row['shape']} {row['format']}, {row['work']}" for row in rows], fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel(f"tokens/s as multiples of llama.cpp's, {result['threads']} thread(s), medians of {result['runs']}")
    figure.savefig(path)
