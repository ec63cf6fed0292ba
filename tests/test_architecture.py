"""The rules of the layout that a machine can check: who imports whom, what files and the README say of themselves."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = {"reference", "fastpath", "server", "router", "conformance", "demo"}  # what `verbatim` is made of
OURS = {*PARTS, "benchmarks", "cli", "cuda", "tests"}
MIRRORED = {
    "backend", "cache.pages", "cache.prefix_cache", "engine.answer", "engine.holdings", "engine.scheduler",
    "model.adapters", "model.attention", "model.decoder", "model.expert_branch", "model.experts",
    "model.gated_delta", "model.latent_attention", "model.layer_inputs", "model.layers", "model.mamba", "model.mixers",
    "model.short_convolution", "model.streams", "numerics.arithmetic", "numerics.block_products", "numerics.recurrence",
    "sampling.rng", "sampling.rules", "speculation.eagle", "speculation.medusa", "speculation.speculators",
    "text.detokenizer", "text.stopping",
}  # fmt: skip
MAX_LINES = {".py": 260, ".pyx": 260, ".c": 350, ".h": 350, ".cu": 350}
MAY_IMPORT = {
    "reference": {"reference", "demo"},
    "fastpath": {"fastpath", "reference"},
    "server": {"server", "reference", "demo"},
    "router": {"router", "server", "reference", "demo"},
    "conformance": {"conformance"},
    "demo": {"demo", "reference", "fastpath"},
}  # and every __main__.py: `cli`
FOLDERS = {  # each folder may import those to its left; "" is a package's own files, which put it together
    "reference": (
        "records", "numerics", "text", "checkpoint", "dialects", "cache", "model", "sampling", "speculation", "engine",
        "receipts", "commands", "",
    ),
    "fastpath": (
        "machine", "numerics", "cache", "model", "sampling", "text", "speculation", "engine", "gpu", "", "commands",
    ),
    "server": ("", "settings", "http", "engine", "models", "api", "docs", "routes"),
}  # fmt: skip
ENTRY_POINTS = {  # files that import from any folder of their package
    "reference/backend.py", "fastpath/backend.py", "fastpath/device.py", "server/app.py",
    *(f"{part}/__main__.py" for part in PARTS),
}  # fmt: skip
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(.+)|c?import\s+([\w., ]+))", re.MULTILINE)


def tracked(*suffixes):
    """Files that belong to the project, as git knows them (also those not yet committed)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [ROOT / name for name in names if name.endswith(suffixes) and (ROOT / name).exists()]


def imports_of(path):
    """Dotted names that a file imports anywhere in it, without `verbatim.`; `from a import b` counts as a.b."""
    return (name.removeprefix("verbatim.") for name in names_in(path))


def names_in(path):
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        return
    for module, names, plain in CYTHON_IMPORT.findall(path.read_text(encoding="utf-8")):
        yield from (f"{module}.{name.split()[0]}" for name in names.strip("() \\").split(",") if name.split())
        yield from (name.split()[0] for name in plain.split(",") if name.split())


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[2:] if parts[:2] == ("src", "verbatim") else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_arrows(package):
    """Pairs of files of a package, without suffix, of which the first imports the second; a .pxd is its .pyx."""
    files = {module_name(path): path for path in tracked(".py", ".pyx", ".pxd") if path.is_relative_to(ROOT / package)}
    arrows = set()
    for path in [path for path in tracked(".py", ".pyx", ".pxd") if path.is_relative_to(ROOT / package)]:
        for name in imports_of(path):
            target = name if name in files else name.rpartition(".")[0]
            if target in files and target != module_name(path):
                arrows.add((module_name(path), target))
    return arrows


def folder_of(module):
    """The folder of a file below its package; "" for files of the package itself."""
    package, _, rest = module.partition(".")
    folder = rest.partition(".")[0]
    return folder if (ROOT / package / folder).is_dir() else ""


@pytest.mark.parametrize("package", FOLDERS)
def test_folders_import_only_folders_before_them(package):
    floor = {folder: index for index, folder in enumerate(FOLDERS[package])}
    entry_points = {name.rpartition(".")[0].replace("/", ".") for name in ENTRY_POINTS}
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert folders <= set(floor), "a folder that has no place in the order"
    upward = [
        f"{source} imports {target}"
        for source, target in sorted(import_arrows(package))
        if source not in entry_points
        and target not in entry_points
        and floor[folder_of(source)] < floor[folder_of(target)]
    ]
    assert upward == []


def test_a_source_alone_reads_what_lies_in_a_model_directory():
    """Code that needs something of a model on disk asks a source: another format is then one class."""
    readers = ("load_config", "load_eagle_config", "load_medusa", "load_pooling", "load_shards", "load_weights",
               "load_tokenizer", "load_template")  # fmt: skip
    ends = tuple(f".{reader}" for reader in readers)
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in tracked(".py", ".pyx")
        if path.relative_to(ROOT).parts[0] in ("reference", "fastpath", "server", "router")
        and path.relative_to(ROOT).parts[:2] != ("reference", "checkpoint")
        for name in imports_of(path)
        if name.endswith(ends) and name.startswith(("reference.checkpoint", "reference.text"))
    ]
    assert wrong == []


def test_packages_import_in_one_direction_only():
    wrong = []
    for path in tracked(".py", ".pyx", ".pxd"):
        package = path.relative_to(ROOT).parts[0]
        for name in imports_of(path) if package in MAY_IMPORT else ():
            other = name.split(".")[0]
            is_front = path.name == "__main__.py" and package != "conformance" and other == "cli"
            if other in OURS and other not in MAY_IMPORT[package] and not is_front:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("package", ["fastpath", "server"])
def test_mirrored_names_of_the_reference_stay_with_it(package):
    wrong = []
    for path in tracked(".py", ".pyx", ".pxd"):
        relative = path.relative_to(ROOT)
        is_free = relative.parts[0] != package or relative.as_posix() in (
            "server/engine/backends.py",
            "fastpath/commands/diff.py",
        )
        for name in () if is_free else imports_of(path):
            parts = name.split(".")
            if parts[0] == "reference" and len(parts) > 1 and parts[1] in MIRRORED:
                wrong.append(f"{relative} imports {name}")
    assert wrong == []


def is_mirrored(name):
    """Whether a dotted name is that of a mirrored module of the reference, or of something in one."""
    package, _, rest = name.partition(".")
    return package == "reference" and any(rest == module or rest.startswith(module + ".") for module in MIRRORED)


def test_the_shared_half_of_the_reference_does_not_lean_on_the_mirrored_half():
    wrong = []
    for path in (ROOT / "reference").rglob("*.py"):
        module = module_name(path).partition(".")[2]
        is_free = module in MIRRORED or path.stem == "__main__"
        names = () if is_free else imports_of(path)
        wrong += [f"{path.name} imports {name}" for name in names if is_mirrored(name)]
    assert wrong == []


def test_nothing_imports_in_a_circle():
    modules = {module_name(path): path for path in tracked(".py", ".pyx")}
    graph = {}
    for name, path in modules.items():
        targets = {part if part in modules else part.rpartition(".")[0] for part in imports_of(path)}
        graph[name] = {target for target in targets if target in modules and target != name}
    done, trail = set(), []

    def visit(name):
        assert name not in trail, f"import circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name not in done:
            trail.append(name)
            for target in sorted(graph[name]):
                visit(target)
            trail.pop()
            done.add(name)

    for name in sorted(graph):
        visit(name)


def first_line(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return re.sub(r'^\s*(#.*\n)*\s*(/\*|//|"""|#)\s*', "", text).partition("\n")[0]


def test_every_file_says_what_it_is():
    silent = [str(p.relative_to(ROOT)) for p in tracked(".py", ".pyx", ".c", ".h", ".cu") if len(first_line(p)) < 15]
    assert silent == []


def test_mirrored_modules_say_so():
    modules = [
        path
        for path in tracked(".py", ".pyx")
        if path.relative_to(ROOT).parts[0] in ("reference", "fastpath")
        and module_name(path).partition(".")[2] in MIRRORED
    ]
    assert len(modules) > 20
    quiet = [str(p.relative_to(ROOT)) for p in modules if not first_line(p).startswith("Mirrored.")]
    assert quiet == []


def test_files_fit_their_page():
    long = {}
    for path in tracked(*MAX_LINES):
        is_data = path.relative_to(ROOT).parts[0] in ("demo", "tests")
        count = path.read_text(encoding="utf-8").count("\n")
        if count > MAX_LINES[path.suffix] and not is_data:
            long[str(path.relative_to(ROOT))] = count
    assert long == {}


def test_cuda_holds_no_python():
    python = [path for path in (ROOT / "cuda").rglob("*") if path.suffix in (".py", ".pyx", ".pyi", ".so")]
    assert python == []


def test_the_tree_in_the_readme_is_the_tree():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"```\n(reference/.*?)```", readme, re.DOTALL)[1]
    shown = {line.split()[0].rstrip("/") for line in tree.splitlines() if line and not line.startswith(" ")}
    folders = {path.relative_to(ROOT).parts[0] for path in tracked("") if len(path.relative_to(ROOT).parts) > 1}
    assert shown == {folder for folder in folders if not folder.startswith(".")}


def test_no_machine_of_ours_is_named():
    """Paths that exist only where the project is written have no place in it."""
    places = ("/" + "work/", "/" + "tmp/demo", "/" + "root/")
    texts = (".py", ".pyx", ".pxd", ".c", ".h", ".md", ".toml", ".json", ".jinja", "Makefile", "run")
    found = [
        str(p.relative_to(ROOT))
        for p in tracked(*texts)
        if any(place in p.read_text(encoding="utf-8") for place in places)
    ]
    assert found == []
