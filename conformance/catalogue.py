"""All cases, loaded from cases/, and the choice of some of them."""

import importlib
import json
import pkgutil
from functools import cache
from pathlib import Path

from verbatim.conformance import cases as sections
from verbatim.conformance.case import LEVELS, PROFILES, REGISTRY, Case


@cache
def all_cases() -> dict[str, Case]:
    """Every case by its id, in the order of the sections' names and then of the files."""
    for module in pkgutil.iter_modules(sections.__path__):
        importlib.import_module(f"{sections.__name__}.{module.name}")
    return dict(REGISTRY)


@cache
def costs() -> dict[str, list[int]]:
    """(requests, completion tokens at most) of every case, as measured on a correct server."""
    return json.loads(Path(__file__).with_name("costs.json").read_text(encoding="utf-8"))


def chosen(ids=(), sections=(), levels=(), profile: str = "all") -> list[Case]:
    """The cases that match all criteria; an id that ends in * matches every id with that prefix."""
    known = all_cases()
    for wanted in ids:
        if not any(_names(wanted, case_id) for case_id in known):
            raise ValueError(f"--id {wanted}: no case has this id; --list shows all")
    known_sections = {case.section for case in known.values()}
    for name in sections:
        if name not in known_sections:
            raise ValueError(f"--section {name}: must be one of {', '.join(sorted(known_sections))}")
    for name in levels:
        if name not in LEVELS:
            raise ValueError(f"--level {name}: must be one of {', '.join(LEVELS)}")
    if profile not in (*PROFILES, "all"):
        raise ValueError(f"--profile {profile}: must be one of {', '.join(PROFILES)}, all")
    return [
        case
        for case in known.values()
        if (not ids or any(_names(wanted, case.id) for wanted in ids))
        and (not sections or case.section in sections)
        and (not levels or case.level in levels)
        and profile in ("all", case.profile)
    ]


def _names(wanted: str, case_id: str) -> bool:
    return case_id.startswith(wanted[:-1]) if wanted.endswith("*") else case_id == wanted


def plan(cases: list[Case]) -> tuple[int, int]:
    """(requests, completion tokens at most) of these cases."""
    pairs = [costs().get(case.id, [1, 16]) for case in cases]
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
