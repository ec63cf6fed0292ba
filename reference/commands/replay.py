"""Recomputes a receipt in this process, and says whether its answers are equal to the bit.

Options and help are those of `verbatim replay` and `verbatim verify-answer`.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.engine.loop import Engine
from verbatim.reference.receipts.comparison import Difference, Key, Recomputed, compare
from verbatim.reference.receipts.receipt import Receipt, from_json
from verbatim.reference.receipts.recomputing import limits_for, requests_of
from verbatim.reference.receipts.signing import check_signature
from verbatim.reference.records.errors import RequestError

MAX_BYTES = 256 << 20
NAME = "receipt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Where to recompute a receipt: which model and device, and whether in few passes (`verifies`)."""

    model: Path
    device: str
    adapter: Path | None
    verifies: bool


def read_receipt(path: str) -> tuple[Receipt, str | None]:
    """The receipt in a file (`-`: standard input) and the public key that signed it, None if no key has.

    The file may hold a whole answer with its receipt. RequestError for one that cannot be read, or was changed.
    """
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RequestError(f"{path} has more than {MAX_BYTES} bytes")
        value = json.loads(content)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {' '.join(str(error).split())[:200]}") from None
    value = value[NAME] if isinstance(value, dict) and NAME in value else value
    receipt = from_json(value)
    return receipt, check_signature(receipt.signature, value["digest"])


def replay(backend: Any, receipt: Receipt, wanted: Wanted) -> bool:
    """Recompute a receipt's answers, print the result, and return whether they are equal."""
    console = Console(highlight=False, soft_wrap=True)
    if difference := compare_files(receipt, wanted.model):
        return _report(console, difference)
    engine = backend.load_engine(
        wanted.model, device=wanted.device, quantization=receipt.engine.quantization, limits=limits_for(receipt)
    )
    if wanted.adapter:
        engine.adapters.load(wanted.adapter)
    num_tokens, start = sum(len(answer.token_ids) for answer in receipt.answers), time.perf_counter()
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("tokens", total=num_tokens)
        found = recompute(engine, receipt, verifies=wanted.verifies, progress=lambda count: bars.advance(bar, count))
    seconds = time.perf_counter() - start
    if difference := compare(receipt, found):
        return _report(console, difference)
    console.print(f"equal: {num_tokens} tokens of {len(found)} answers, to the last bit, in {seconds:.2f} s")
    return True


def compare_files(receipt: Receipt, model: Path) -> Difference | None:
    """The difference if the model here has other files than that of a receipt."""
    here = open_source(model).digest()
    if here == receipt.engine.files:
        return None
    return Difference(what="the model's files", receipt=receipt.engine.files[:16], computed=here[:16])


def recompute(
    engine: Engine, receipt: Receipt, *, verifies: bool, progress: Callable[[int], None] = lambda num_tokens: None
) -> dict[Key, Recomputed]:
    """Every choice of a receipt by this engine; `progress` is told how many tokens a step has added."""
    wanted = requests_of(receipt, engine.config.vocab_size, verifies=verifies)
    found = {(request.request_id, choice): Recomputed() for request in wanted for choice in range(request.n)}
    for request in wanted:
        engine.add(request)
    while engine.has_work():
        outputs = engine.step()
        for output in outputs:
            found[output.request_id, output.choice].take(output)
        progress(sum(len(output.token_ids) for output in outputs))
    return found


def _report(console: Console, difference: Difference) -> bool:
    console.print(f"different: {difference}", markup=False)
    return False
