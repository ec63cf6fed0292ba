"""The lock file for development and CI: what pyproject.toml asks for, in versions that it permits, each with hashes."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements/dev.txt").read_text(encoding="utf-8")
PINS = re.findall(
    r"^([A-Za-z0-9._-]+)==([^ ]+)(?: ; [^\n]*?)?((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", LOCK, re.MULTILINE
)


def wanted():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [Requirement(line) for line in (*project["dependencies"], *extras["test"], *extras["clients"])]


def test_every_dependency_is_locked_within_its_bounds():
    pins = {}
    for name, version, _ in PINS:
        pins.setdefault(canonicalize_name(name), []).append(version)
    missing = [str(wish) for wish in wanted() if canonicalize_name(wish.name) not in pins]
    outside = [
        str(wish)
        for wish in wanted()
        for pin in pins.get(canonicalize_name(wish.name), ())
        if pin not in wish.specifier
    ]
    assert (missing, outside) == ([], []), "run `make lock`"


def test_every_pin_has_a_hash_and_a_public_name():
    lines = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(PINS) == len(lines) > 100
    assert all(hashes for _, _, hashes in PINS)
    assert not re.search(r"file:|https?:|--(extra-)?index|--find-links", LOCK)
