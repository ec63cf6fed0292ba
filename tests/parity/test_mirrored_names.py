"""Mirrored modules have the same public names and signatures in both packages; what only one has is written here."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from test_architecture import MIRRORED

ROOT = Path(__file__).parents[2]
MODULES = sorted(MIRRORED - {"commands.logits", "commands.perplexity"})
OWN = {  # names that one of the two has for itself: what the other has in C, or what C needs
    "cache.prefix_cache": {"Node"},
    "cache.pages": {"PagedCache.keep", "PagedCache.unkeep"},
    "engine.answer": {"Draws"},
    "model.adapters": {"Delta", "Packed"},
    "model.attention": {"softcap"},
    "model.decoder": {"DecoderLayer", "Model.sealed", "scaled"},
    "model.experts": {"mix", "expert_weights", "sigmoid_weights", "sparsemixer_weights"},
    "model.expert_branch": {"BranchPass", "ExpertBranch"},
    "model.gated_delta": {"GatedDeltaMixer", "GatedDeltaNets"},
    "model.latent_attention": {"LatentHeads", "LatentPass"},
    "model.short_convolution": {"ShortConvolutionMixer", "ShortConvolutions"},
    "model.mixers": {"Mixer", "MixerLayer", "make_mixer", "mix_tokens"},
    "model.layer_inputs": {"LayerInput", "LayerInputPass"},
    "model.mamba": {"MambaMixer", "StateSpaces", "state_step"},
    "model.layers": {"Layers", "Linear", "Network", "Norm"},
    "model.streams": {"LayerStreams", "StreamPass"},
    "numerics.arithmetic": {"above_cutoff", "kernel_dtype", "linear_stored"},
    "sampling.rules": {"by_weight", "draw"},
    "backend": {"gpu_of"},
}
POSITIONAL = {"Stopper.push"}  # called for every token by position: `cpdef` has no keyword-only parameters


def pair(name):
    modules = [importlib.import_module(f"verbatim.{package}.{name}") for package in ("reference", "fastpath")]
    return modules, [dict(public(module)) for module in modules]


def public(module):
    """Functions, classes and the methods of classes that a module defines, by dotted name."""
    for name, found in vars(module).items():
        if name.startswith("_") or getattr(found, "__module__", None) != module.__name__ or not callable(found):
            continue
        yield name, found
        for method in dir(found) if inspect.isclass(found) else ():
            if not method.startswith("_") and callable(getattr(found, method)):
                yield f"{name}.{method}", getattr(found, method)


def signature(function):
    """Parameters in order: name, kind, whether there is a default."""
    return [
        (argument.name, str(argument.kind), argument.default is not argument.empty)
        for argument in inspect.signature(function).parameters.values()
    ]


def constructors(path):
    """The parameters of each `__init__` of a Cython file, by class; built classes do not tell."""
    text = path.read_text(encoding="utf-8")
    pattern = r"^cdef class (\w+)(?:(?!^cdef class).)*?    def __init__\((.*?)\)(?: -> None)?:$"
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        yield match[1], [parameter(part) for part in match[2].split(",") if part.strip()]


def parameter(text):
    """A name and whether there is a default, of `long count=1`, `name: str = "a"` or `*`."""
    declared, _, default = text.partition("=")
    return declared.partition(":")[0].split()[-1], bool(default)


def plain(function):
    """The same of a function of Python."""
    found = []
    for argument in inspect.signature(function).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY and ("*", False) not in found:
            found.append(("*", False))
        found.append((argument.name, argument.default is not argument.empty))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_names_and_signatures_are_the_same(name):
    pytest.importorskip("verbatim.fastpath.engine.answer", reason="the fast path is not built")
    _, (reference, fast) = pair(name)
    assert {*reference} ^ {*fast} == {known for known in reference | fast if known in OWN.get(name, ())
                                      or known.partition(".")[0] in OWN.get(name, ())}  # fmt: skip
    both = [known for known in reference if known in fast and not inspect.isclass(reference[known])]
    differing = [known for known in both if signature(reference[known]) != signature(fast[known])]
    assert {*differing} <= POSITIONAL
    for known in differing:
        assert [row[0] for row in signature(reference[known])] == [row[0] for row in signature(fast[known])]


@pytest.mark.parametrize(
    "name", [name for name in MODULES if (ROOT / "fastpath" / f"{name.replace('.', '/')}.pyx").exists()]
)
def test_objects_are_made_in_the_same_way(name):
    reference = importlib.import_module(f"verbatim.reference.{name}")
    found = dict(constructors(ROOT / "fastpath" / f"{name.replace('.', '/')}.pyx"))
    wanted = {
        known: plain(getattr(reference, known).__init__)
        for known in found
        if hasattr(reference, known) and known[0] != "_"
    }
    assert {known: found[known][: len(wanted[known])] for known in wanted} == wanted
    assert all(default for known in wanted for _, default in found[known][len(wanted[known]) :]), "a fast path's extra"


def test_something_is_compared():
    pytest.importorskip("verbatim.fastpath.engine.answer", reason="the fast path is not built")
    counts = [len({*reference} & {*fast}) for _, (reference, fast) in map(pair, MODULES)]
    assert sum(counts) > 80
    files = [path for path in (ROOT / "fastpath").rglob("*.pyx") if "/gpu/" not in str(path)]
    shared = [path for path in (ROOT / "fastpath").rglob("*.pxd") if not path.with_suffix(".pyx").exists()]
    same = sum(path.read_text(encoding="utf-8").count("cdef class") for path in shared)  # compiled from the reference
    assert sum(len(dict(constructors(path))) for path in files) + same > 10
