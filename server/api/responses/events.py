"""A response under way: the engine's outputs become items, and every step of their making an event.

    response.created, response.in_progress
      output_item.added
        content_part.added, reasoning_text.delta ..., reasoning_text.done, content_part.done for a thought
        content_part.added, output_text.delta ..., output_text.done, content_part.done       for text
        function_call_arguments.delta ..., function_call_arguments.done                      for a call
      output_item.done
    response.completed, or response.incomplete where the tokens did not suffice, or response.failed

Events are numbered from 0. A whole answer is what the last event of a stream holds.
"""

import time
from copy import deepcopy
from typing import Any

from verbatim.reference.dialects import CallArguments, CallStart, Delta, DialectParser, TextDelta, ThoughtDelta
from verbatim.reference.records.request import FinishReason, Output, Request
from verbatim.reference.text.thoughts import ThoughtCounter
from verbatim.server.api.builder import Builder, Streaming, is_cut, padding
from verbatim.server.api.logprobs import chat_entry
from verbatim.server.api.responses.items import new_item_id, output_item_id
from verbatim.server.api.responses.store import ResponseStore
from verbatim.server.http.error_answers import describe


class ItemBuilder(Builder):
    """Folds the outputs of one request into `response`; keeps it with its `items` in a store, if there is one."""

    def __init__(
        self,
        *,
        response: dict,
        request: Request,
        items: list[dict],
        streaming: Streaming,
        wants_logprobs: bool,
        parser: DialectParser | None,
        thoughts: ThoughtCounter | None,
        store: ResponseStore | None,
    ):
        self._thoughts = thoughts
        self.requests = (request,)
        self.streaming = streaming
        self._response, self._items, self._store = response, items, store
        self._wants_logprobs, self._parser = wants_logprobs, parser
        self._entries: list[dict] = []  # log-probabilities whose text has not come yet
        self._item: dict[str, Any] = {}  # that is being written; empty if none is
        self._num_events = 0

    def take(self, output: Output) -> list[dict]:
        """The events of an output."""
        events = []
        if self._num_events == 0:
            events = [self._lifecycle("created"), self._lifecycle("in_progress")]
        self._entries += map(chat_entry, output.logprobs)
        if self._thoughts:
            self._thoughts.push(output.token_ids)
        for delta in self._parse(output):
            events += self._apply(delta)
        if output.finish_reason:
            events += self._finish(output)
        return events

    def whole(self) -> dict:
        """The finished response."""
        return self._response

    def fail(self, error: BaseException) -> list[dict]:
        """The events that end a stream in which something went wrong, begun or not."""
        events = [] if self._num_events else [self._lifecycle("created"), self._lifecycle("in_progress")]
        _, body, _ = describe(error)
        failure = {"code": body["error"]["code"] or "server_error", "message": body["error"]["message"]}
        self._response |= {"status": "failed", "error": failure}
        return [*events, self._lifecycle("failed")]

    def _parse(self, output: Output) -> list:
        if self._parser is None:
            return [TextDelta(text=output.text)] if output.text else []
        parsed = self._parser.push(output.text)
        return parsed + (self._parser.finish(is_cut=is_cut(output)) if output.finish_reason else [])

    def _apply(self, delta: Delta) -> list[dict]:
        match delta:
            case ThoughtDelta(text=text):
                events, self._entries = self._open_thought(), []
                self._part["text"] += text
                return [*events, self._at_item("reasoning_text.delta", delta=text, content_index=0)]
            case TextDelta(text=text):
                events = self._open_text()
                self._part["text"] += text
                entries, self._entries = self._entries, []
                if self._wants_logprobs:
                    self._part["logprobs"] += entries
                place = {"content_index": 0, "logprobs": entries if self._wants_logprobs else []}
                return [*events, self._at_item("output_text.delta", delta=text, **place)]
            case CallStart(name=name):
                events, self._entries = self._close("completed"), []
                call = {"type": "function_call", "call_id": new_item_id("call")[:40], "name": name, "arguments": ""}
                return events + self._open("fc", call)
            case CallArguments(text=text):
                self._item["arguments"] += text
                return [self._at_item("function_call_arguments.delta", delta=text)]

    @property
    def _part(self) -> dict:
        return self._item["content"][0]

    def _open_thought(self) -> list[dict]:
        """The events that begin a thought, if none is being written."""
        if self._item.get("type") == "reasoning":
            return []
        events = self._close("completed")
        events += self._open("rs", {"type": "reasoning", "summary": [], "content": [], "encrypted_content": None})
        self._item["content"].append({"type": "reasoning_text", "text": ""})
        return [*events, self._at_item("content_part.added", content_index=0, part=self._part)]

    def _open_text(self) -> list[dict]:
        """The events that begin a message, if none is being written."""
        if self._item.get("type") == "message":
            return []
        events = self._close("completed")
        events += self._open("msg", {"type": "message", "role": "assistant", "content": []})
        self._item["content"].append({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        return [*events, self._at_item("content_part.added", content_index=0, part=self._part)]

    def _open(self, prefix: str, item: dict) -> list[dict]:
        item_id = output_item_id(prefix, self._response["id"], len(self._response["output"]))
        self._item = {"id": item_id, "status": "in_progress"} | item
        self._response["output"].append(self._item)
        return [self._at_output("output_item.added")]

    def _close(self, status: str) -> list[dict]:
        """The events that end the item that is being written, if there is one."""
        if not (item := self._item):
            return []
        item["status"] = status
        if item["type"] == "reasoning":
            events = [self._at_item("reasoning_text.done", content_index=0, text=self._part["text"])]
            events.append(self._at_item("content_part.done", content_index=0, part=self._part))
        elif item["type"] == "message":
            text = {"content_index": 0, "text": self._part["text"], "logprobs": self._part["logprobs"]}
            events = [self._at_item("output_text.done", **text)]
            events.append(self._at_item("content_part.done", content_index=0, part=self._part))
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            events = [self._at_item("function_call_arguments.done", **done)]
        events.append(self._at_output("output_item.done"))
        self._item = {}
        return events

    def _finish(self, output: Output) -> list[dict]:
        """The last events; a response that was cut short has the reason, and so has its last item."""
        is_cut = output.finish_reason is FinishReason.LENGTH
        has_output = any(item["type"] != "reasoning" for item in self._response["output"])
        events = [] if has_output or is_cut else self._open_text()  # even nothing is a message
        events += self._close("incomplete" if is_cut else "completed")
        self._response |= {"status": "incomplete" if is_cut else "completed", "usage": self._usage(output)}
        if is_cut:
            self._response["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self._response["completed_at"] = int(time.time())
        if self._store is not None:
            is_kept = self._store.put(self._response["id"], {"response": self._response, "items": self._items})
            self._response["store"] = is_kept
        return [*events, self._lifecycle(self._response["status"])]

    def _usage(self, output: Output) -> dict:
        num_prompt, num_completion = len(self.requests[0].prompt_ids), output.num_completion_tokens
        return {
            "input_tokens": num_prompt,
            "input_tokens_details": {"cached_tokens": output.num_cached_tokens, "cache_write_tokens": 0},
            "output_tokens": num_completion,
            "output_tokens_details": {"reasoning_tokens": self._thoughts.num_tokens if self._thoughts else 0},
            "total_tokens": num_prompt + num_completion,
        }

    def _lifecycle(self, name: str) -> dict:
        return self._event(name, response=self._response)

    def _at_output(self, name: str) -> dict:
        return self._event(name, output_index=len(self._response["output"]) - 1, item=self._item)

    def _at_item(self, name: str, /, **fields: Any) -> dict:
        place = {"item_id": self._item["id"], "output_index": len(self._response["output"]) - 1}
        return self._event(name, **place, **fields)

    def _event(self, name: str, /, **fields: Any) -> dict:
        """The next event, with everything as it is now: what is written later must not change it."""
        event = {"type": f"response.{name}", "sequence_number": self._num_events} | deepcopy(fields)
        self._num_events += 1
        if self.streaming.is_padded and "delta" in fields:
            event["obfuscation"] = padding(fields["delta"])
        return event
