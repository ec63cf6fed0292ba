"""`POST /v1/verify`: is a receipt's answer what this server's model answers, to the bit? All its tokens at once.

The tokens go to the engine as draft tokens, so that an answer costs about what a prompt of its length costs.
"""

from dataclasses import asdict
from typing import Any

from verbatim.reference.receipts.comparison import Difference, Key, Recomputed, compare, compare_engines
from verbatim.reference.receipts.receipt import Receipt, from_json
from verbatim.reference.receipts.recomputing import requests_of
from verbatim.reference.receipts.signing import check_signature
from verbatim.reference.records.request import Output
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.builder import Builder
from verbatim.server.api.fields import Object, answer, required
from verbatim.server.api.receipts import NAME
from verbatim.server.api.tokens import MODEL
from verbatim.server.api.value_types import (
    ANYTHING,
    BOOLEAN,
    NULLABLE_STRING,
    OBJECT,
    STRING,
    ValueType,
    integer,
    one_of,
)
from verbatim.server.models.served import ServedModel

OR_NULL = ValueType(ANYTHING.read, {"type": ["object", "null"]})
BODY = Object(MODEL, required(NAME, OBJECT, "The receipt, as an answer has it.", {"format": "verbatim-receipt-1"}))
SCHEMA = answer(
    required("object", one_of("verification"), "The type of the answer."),
    required("equal", BOOLEAN, "Whether tokens, log-probabilities and ends are the same to the bit.", True),
    required("tokens", integer(0), "How many tokens were checked.", 17),
    required("message", STRING, "The outcome in a line.", "equal: 17 tokens of 1 answers, to the last bit"),
    required(
        "difference",
        OR_NULL,
        "What differs first: request, choice, position, what, receipt, computed.",
        {"position": 4},
    ),
    required("signed_by", NULLABLE_STRING, "The public key whose signature the receipt has.", "3b6a27bc"),
    required("system_fingerprint", STRING, "What determines the bits here.", "verbatim-0.1.0-0123456789abcdef"),
)


class VerifyAdapter(Adapter):
    """Verification of receipts."""

    name, path, prompt_field = "verify", "/v1/verify", NAME
    summary = "Check a receipt to the bit"
    body, answer = BODY, "Verification"
    schemas = {"Verification": SCHEMA}  # noqa: RUF012
    is_resumable = streams = False

    def read(self, body: Any, model: ServedModel) -> "VerifyBuilder":
        """The builder of the outcome; RequestError for a receipt that cannot be read, or was changed."""
        fields = BODY.read(body)
        fields["model"]
        value = fields[NAME]
        fields.done()
        receipt = from_json(value)
        return VerifyBuilder(receipt, model, check_signature(receipt.signature, value["digest"]))

    def has_seed(self, fields: Any) -> bool:
        """The receipt has it."""
        return True


class VerifyBuilder(Builder):
    """Compares what the engine gives with what the receipt says."""

    def __init__(self, receipt: Receipt, model: ServedModel, signed_by: str | None):
        self.receipt, self.model, self.signed_by = receipt, model, signed_by
        self._difference = self._compare_models()
        if self._difference is None:
            self.requests = requests_of(receipt, model.config.vocab_size, verifies=True)
        self._found: dict[Key, Recomputed] = {}

    def take(self, output: Output) -> list[dict]:
        """Keep it; there is no stream."""
        self._found.setdefault((output.request_id, output.choice), Recomputed()).take(output)
        return []

    def whole(self) -> dict:
        """The outcome."""
        difference = self._difference or self._compare_models() or compare(self.receipt, self._found)
        num_tokens = sum(len(found.token_ids) for found in self._found.values())
        equal = f"equal: {num_tokens} tokens of {len(self._found)} answers, to the last bit"
        return {
            "object": "verification",
            "equal": difference is None,
            "tokens": num_tokens,
            "message": f"different: {difference}" if difference else equal,
            "difference": difference and asdict(difference),
            "signed_by": self.signed_by,
            "system_fingerprint": self.model.fingerprint,
        }

    def _compare_models(self) -> Difference | None:
        """Nothing is computed for a receipt of another model, or of other settings, once those here are known."""
        adapters = {request.adapter for request in self.receipt.requests}
        if adapters != {self.model.adapter}:
            shown = ", ".join(sorted(key[:16] or "none" for key in adapters))
            return Difference(what="the LoRA adapter", receipt=shown, computed=self.model.adapter[:16] or "none")
        here = self.model.loaded.facts
        return compare_engines(self.receipt.engine, here) if here else None
