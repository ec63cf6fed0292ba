"""`return_token_ids`: the ids of a prompt and of an answer's tokens beside their texts, in the shape of vLLM.

Each choice has `token_ids`; in a stream the ids that are new, also of tokens whose text is still held back. The ids of
the prompt stand in each choice of a completion, in the first chunk or the whole answer of a chat.
"""

from collections.abc import Sequence

from verbatim.reference.records.request import Output, Request

NAME, OF_PROMPT = "token_ids", "prompt_token_ids"


class TokenIds:
    """The ids of one answer. A choice is any object that stands for it, always the same."""

    def __init__(self, requests: Sequence[Request], *, is_prompt_in_choices: bool):
        self._prompts = {request.request_id: list(request.prompt_ids) for request in requests}
        self._is_in_choices = is_prompt_in_choices
        self._of_choices: dict[object, tuple[str, list[int]]] = {}

    def add(self, choice: object, output: Output, item: dict) -> None:
        """Take an output's ids into account, and write them into the latest item of the choice."""
        is_first = choice not in self._of_choices
        _, ids = self._of_choices.setdefault(choice, (output.request_id, []))
        ids += output.token_ids
        item[NAME] = list(output.token_ids)
        if is_first and self._is_in_choices:
            item[OF_PROMPT] = self._prompts[output.request_id]

    def of_choice(self, choice: object) -> dict:
        """What a finished choice has beside its text."""
        request_id, ids = self._of_choices[choice]
        return {NAME: ids} | ({OF_PROMPT: self._prompts[request_id]} if self._is_in_choices else {})

    def of_answer(self) -> dict:
        """What the answer has beside its choices."""
        return {} if self._is_in_choices else {OF_PROMPT: next(iter(self._prompts.values()))}
