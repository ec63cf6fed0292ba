"""Fixtures of all test folders: each engine and its modules, and a trained model that others made."""

import importlib
import os
from pathlib import Path

import pytest

from verbatim.demo import MODEL, STORIES
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.records.errors import BackendError
from verbatim.reference.text.grammar import GrammarCompiler
from verbatim.reference.text.tokenizers import load_tokenizer

if "GPU_TESTS" not in os.environ:  # `auto` is the CPU for all tests except tests/gpu
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
LONG = (  # files that take longest, in this order, so that one of several processes does not end with them alone
    "gpu/test_fake_driver.py", "server/test_router_failures.py", "contract/test_speculation.py", "server/test_abuse.py",
    "server/test_lifecycle.py", "gpu/test_compiling.py", "server/test_command.py", "cli/test_chat.py", "test_cli.py",
    "conformance/test_cases.py", "server/test_docs.py", "server/test_clients_agents.py", "parity/test_engines.py",
    "server/test_router_command.py", "server/test_chat.py", "server/test_operation.py", "server/test_demo_tools.py",
    "stateful/test_engine_machine.py", "packaging/test_command.py", "server/test_page.py",
)  # fmt: skip
# What an API does with a request is the same for both engines; those files try it with one. The others use both.
WITH_ONE_ENGINE = (
    "completions", "debug", "docs", "embeddings", "errors", "extensions", "fields", "formats", "hostile", "http_rules",
    "infill", "mlc_examples", "old_http", "prefill", "probes", "rerank", "responses", "structured", "thinking",
    "token_details", "tokens",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Long files first; the reference is left to `make test-all` where an engine makes no difference."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    for item in items:
        name = item.path.stem.removeprefix("test_") if item.path.parent.name == "server" else ""
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if name in WITH_ONE_ENGINE and parameters.get("server") == "reference":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", params=["reference", "fastpath"])
def backend(request):
    """The module `backend` of an engine; every test runs with each of them."""
    try:
        return importlib.import_module(f"verbatim.{request.param}.backend")
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def part(backend):
    """A function that imports an engine's module of a mirrored name: "sampling.rng", "cache.pages", ..."""
    return lambda name: importlib.import_module(f"verbatim.{backend.PARTS.name}.{name}")


@pytest.fixture(scope="session")
def stories() -> Path:
    """A small model that others trained, with texts that their own program published."""
    return STORIES


@pytest.fixture(scope="session")
def tokenizer():
    """The demo model's."""
    return load_tokenizer(MODEL)


@pytest.fixture(scope="session")
def compiler(tokenizer):
    """Compiles grammars for the demo model."""
    config = load_config(MODEL)
    return GrammarCompiler(tokenizer, config.vocab_size, config.eos_ids)
