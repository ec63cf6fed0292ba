"""Chat completions of the miniature server: bodies in, choices out, whole or in chunks."""

import random
import time
import uuid

from mini_checker import RefusedError
from mini_checks import check_chat, check_common, check_messages
from mini_model import EOS, THOUGHT, VOCABULARY, Sampling, as_json, decode, encode, generate, instance

CONTEXT = 65536
LAST = {"text": ""}  # for faults that mix up requests


def sampling(c, cap_default: int, forced=None) -> Sampling:
    """The fields that both endpoints share, checked."""
    body = c.body
    low = 0 if "prompt" in body else 1
    cap = c.number("max_tokens", low, None, int)
    cap = c.number("max_completion_tokens", 1, None, int) or cap
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    if "no lists of stops" in c.fault and isinstance(stop, list):
        stops = []
    if "no empty stops" in c.fault and stop == []:
        raise RefusedError("stop is empty", "stop")
    if "empty stop ends" in c.fault and "" in stops:
        return Sampling(max_tokens=0)
    if "stops in any case" in c.fault:
        stops = [s.swapcase() for s in stops] + stops
    if "stops in prompts" in c.fault and any(s in str(body.get("messages")) for s in stops):
        return Sampling(max_tokens=0)
    bias = body.get("logit_bias") if isinstance(body.get("logit_bias"), dict) else {}
    seed = body.get("seed") or (None if "zero is no seed" in c.fault else body.get("seed"))
    return Sampling(
        max_tokens=cap_default if cap is None else cap,
        temperature=c.number("temperature", 0, 2, default=1.0),
        top_p=c.number("top_p", 0, 1, default=1.0),
        seed=seed if type(seed) is int else None,
        frequency_penalty=c.number("frequency_penalty", -2, 2, default=0.0),
        presence_penalty=c.number("presence_penalty", -2, 2, default=0.0),
        logit_bias={k: v for k, v in bias.items() if k.isdigit() and int(k) <= EOS and type(v) in (int, float)},
        stops=tuple(s for s in stops if isinstance(s, str) and s),
        forced=forced,
    )


def usage(prompt: int, completion: int, reasoning: int = 0) -> dict:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def thought(text: str) -> dict:
    """A thought under both of its names."""
    return {"reasoning": text, "reasoning_content": text}


def chat_entries(drawn, top: int) -> list[dict]:
    """Log-probabilities in the form of a chat completion."""

    def entry(token, logprob):
        data = VOCABULARY[token]
        return {"token": data.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(data)}

    return [entry(d.token, d.logprob) | {"top_logprobs": [entry(*pair) for pair in d.tops[:top]]} for d in drawn]


class Chat:
    """A chat completion; the constructor computes the whole answer."""

    def __init__(self, c, handler):
        self.fault, self.body = handler.fault, c.body
        messages = check_messages(c) if c.body.get("messages") is None else None
        check_common(c, "mini/hash-1")
        messages = check_messages(c) if messages is None else messages
        check_chat(c)
        body = c.body
        self.tools = [
            t["function"] for t in body.get("tools") or [] if type(t) is dict and type(t.get("function")) is dict
        ]
        self.choice = body.get("tool_choice") or ("auto" if self.tools else "none")
        shown = "" if "tools unseen" in self.fault or not self.tools else as_json(self.tools)
        text = shown + "".join(
            f"[{'system' if m['role'] == 'developer' else m['role']}]{m['text']}\n" for m in messages
        )
        if "markers" in self.fault and "<|im_end|>" in text:
            text = text.partition("<|im_end|>")[0]
        self.ids = encode(text + "[assistant]")
        if "truncates" in self.fault:
            self.ids = self.ids[-500:]
        key = (self.fault.line, self.ids)
        is_seen = key in handler.server.seen
        handler.server.seen.append(key)
        if is_seen and "warm prompts differ" in self.fault:
            self.ids = [*self.ids, 5]
        self.num_prompt = len(self.ids) - (20 if is_seen and "cached subtracted" in self.fault else 0)
        too_long = len(self.ids) + 1 > CONTEXT
        message = f"This model's maximum context length is {CONTEXT} tokens, your messages have {len(self.ids)}."
        c.refuse(too_long, message, "messages", "context_length_exceeded")
        self.calls = self.choose_calls(text)
        self.parameters = sampling(c, 64, self.forced())
        self.parameters.max_tokens = max(0, min(self.parameters.max_tokens, CONTEXT - len(self.ids)))
        self.n = c.number("n", 1, 128, int, 1) or 1
        if "default greedy" in self.fault and body.get("temperature") is None:
            self.parameters.temperature = 0
        ids = [*self.ids, self.parameters.max_tokens] if "cap changes answers" in self.fault else self.ids
        self.answers = [generate(ids, self.parameters, i) for i in range(self.n)]
        if "doubles replacements" in self.fault:
            self.answers[0].text += "\ufffd\ufffd"
        if "same choices" in self.fault:
            self.answers = self.answers[:1] * self.n
        if "crosstalk" in self.fault:
            time.sleep(0.05)
            mine, LAST["text"] = self.answers[0].text, self.answers[0].text
            time.sleep(0.05)
            self.answers[0].text = LAST["text"] if LAST["text"] != mine else mine
        self.envelope = {"id": "chatcmpl-" + uuid.uuid4().hex, "created": int(time.time()), "model": "mini/hash-1"}
        self.thought = THOUGHT if body.get("reasoning_effort") == "medium" or "thinks always" in self.fault else ()
        self.logs = bool(body.get("logprobs") is True)
        self.top = c.number("top_logprobs", 0, 20, int, 0) or 0

    def choose_calls(self, text: str) -> list[dict]:
        """The calls that this model makes: when forced, or when the prompt mentions the weather."""
        if not self.tools or self.choice == "none":
            return []
        by_name = {tool.get("name"): tool for tool in self.tools}
        if isinstance(self.choice, dict) and self.choice.get("type") == "function":
            wanted = (
                (self.choice.get("function") or {}).get("name") if type(self.choice.get("function")) is dict else None
            )
            chosen = [by_name[wanted]] if wanted in by_name else []
        elif isinstance(self.choice, dict) and self.choice.get("type") == "allowed_tools":
            allowed = self.choice["allowed_tools"]
            names = [t["function"]["name"] for t in allowed["tools"]]
            chosen = [by_name[n] for n in names[:1]] if allowed["mode"] == "required" else []
        elif self.choice == "required" or ("weather" in text.lower() and "[tool]" not in text):
            chosen = self.tools[:1]
            if "Paris and Rome" in text and self.body.get("parallel_tool_calls") is not False:
                chosen = chosen * 2
        else:
            return []
        return [
            {"name": t.get("name"), "arguments": as_json(instance(t.get("parameters") or {"type": "object"}))}
            for t in chosen
        ]

    def forced(self) -> str | None:
        if self.calls and "loose escapes in calls" in self.fault:
            return self.calls[0]["arguments"].replace("\\", "")
        if self.calls:
            return self.calls[0]["arguments"] if "ignores caps" not in self.fault else None
        wanted = self.body.get("response_format")
        format_type = wanted.get("type") if isinstance(wanted, dict) else None
        if format_type == "json_object":
            return '{"answer":"ok"}' if "fences" not in self.fault else '```json\n{"answer":"ok"}\n```'
        if format_type == "json_schema" and isinstance(wanted.get("json_schema"), dict):
            schema = wanted["json_schema"].get("schema")
            text = as_json(instance(schema if isinstance(schema, dict) else {}))
            if "splits whole characters" in self.fault:
                return text.encode().decode("ascii", "replace")
            return text.replace("\\", "") if "loose escapes" in self.fault else text
        return None

    @property
    def usage(self) -> dict:
        total = sum(answer.num_tokens for answer in self.answers)
        num_thought = len(self.thought) * self.n
        return usage(self.num_prompt, total + num_thought, num_thought)

    def call_objects(self, answer) -> list[dict]:
        """The calls, cut where the cap ended the answer."""
        calls = [dict(call) for call in self.calls]
        if calls:
            calls[0]["arguments"] = answer.text
        return [{"id": "call_" + uuid.uuid4().hex[:12], "type": "function", "function": call} for call in calls]

    def finish(self, answer) -> str:
        if self.calls and "ignores caps" in self.fault:
            return "tool_calls"
        is_named = isinstance(self.choice, dict) and self.choice.get("type") == "function"
        return "tool_calls" if self.calls and answer.finish == "stop" and not is_named else answer.finish

    def whole(self) -> dict:
        choices = []
        for index, answer in enumerate(self.answers):
            message = {"role": "assistant", "content": None if self.calls else answer.text, "refusal": None}
            message |= thought("".join(self.thought)) if self.thought else {}
            if self.calls:
                message["tool_calls"] = self.call_objects(answer)
            logs = {"content": chat_entries(answer.drawn, self.top), "refusal": None} if self.logs else None
            if self.logs and "lost logprob" in self.fault:
                logs["content"].pop()
            if self.logs and "noisy logprobs" in self.fault:
                logs["content"][0]["logprob"] = -5 * random.random()
            choice = {"index": index, "message": message, "logprobs": logs, "finish_reason": self.finish(answer)}
            choices.append(choice)
        return self.envelope | {"object": "chat.completion", "choices": choices, "usage": self.usage}

    def chunks(self) -> list[dict]:
        by_choice = [self.choice_chunks(index, answer) for index, answer in enumerate(self.answers)]
        longest = max(map(len, by_choice))
        parts = [parts[i] for i in range(longest) for parts in by_choice if i < len(parts)]
        options = self.body.get("stream_options") or {}
        if "odd options 500" in self.fault and "include_riddle" in options:
            raise RuntimeError("riddle")
        wants = isinstance(options, dict) and options.get("include_usage") is True
        none = {"usage": None} if wants else {}
        head = self.envelope | {"object": "chat.completion.chunk"}
        chunks = [head | {"choices": [part]} | none for part in parts]
        if wants:
            chunks.append(head | {"choices": [], "usage": self.usage})
        return chunks

    def choice_chunks(self, index: int, answer) -> list[dict]:
        def part(delta, finish=None, drawn=None):
            logs = {"content": chat_entries(drawn, self.top), "refusal": None} if drawn and self.logs else None
            return {"index": index, "delta": delta, "logprobs": logs, "finish_reason": finish}

        first = {"role": "assistant", "content": None if self.calls else "", "refusal": None}
        parts = [part(first), *(part(thought(text)) for text in self.thought)]
        if self.calls:
            for at, call in enumerate(self.call_objects(answer)):
                head = {"index": at, "id": call["id"], "type": "function"}
                parts.append(
                    part({"tool_calls": [head | {"function": {"name": call["function"]["name"], "arguments": ""}}]})
                )
                text = call["function"]["arguments"]
                deltas = answer.deltas if at == 0 and "one fragment" not in self.fault else [text]
                parts += [part({"tool_calls": [{"index": at, "function": {"arguments": p}}]}) for p in deltas if p]
        else:
            deltas = answer.deltas
            if "leaks stops" in self.fault and self.parameters.stops:
                deltas = [*deltas[:-1], deltas[-1] + self.parameters.stops[0][:2]]
            if "splits characters" in self.fault:
                deltas = [decode([d.token]) for d in answer.drawn]
            if "loses the tail" in self.fault:
                deltas = deltas[:-1]
            waiting = []
            for delta, drawn in zip(deltas, answer.drawn, strict=False):
                waiting.append(drawn)
                if delta:
                    parts.append(part({"content": delta}, drawn=waiting))
                    waiting = []
            if waiting and self.logs:
                parts.append(part({"content": ""}, drawn=waiting))
        return [*parts, part({}, self.finish(answer))]
