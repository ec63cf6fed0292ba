"""`verbatim chat`: what its command line means, and which of three things it begins.

With prompts, or with a pipe at its standard input, it answers them and leaves: in this process, as `verbatim run` does,
or from the server of --base-url. Without, it is a conversation.
"""

import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from verbatim.cli.answers import DEFAULT, HYPHEN, AnswerOptions, answer_prompts, with_hyphens
from verbatim.cli.chat.client import Client, ServerError
from verbatim.cli.chat.commands import Commands, completions
from verbatim.cli.chat.conversation import Conversation, load_tools
from verbatim.cli.chat.keyboard import Keyboard, PlainKeyboard, terminal_keyboard
from verbatim.cli.chat.screen import Screen
from verbatim.cli.chat.session import Session
from verbatim.cli.options import LORA, ROWS, ModelOptions, UsageError, read_words, shared
from verbatim.server.settings.value_types import to_text

EPILOG = "What follows -- are options of the server of a local model: verbatim chat -- --tool-parser llama3"
IN_PROCESS = ("raw", "n", "explain")  # options for prompts of the command line that are answered in this process
OF_SERVER = (
    "max_num_sequence", "prefill_chunk_size", "threads", "speculative_mode", "spec_draft_length", "spec_tree_width",
)  # fmt: skip

OF_ENGINE = ("backend", "device", "quantization", "kv_cache_dtype")
BACKEND = "fastpath"  # where none is named
ADAPTER = "adapter"  # the name of --lora for the server of a conversation


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where answers come from: a model on this machine, or a server."""

    base_url: Annotated[
        str | None, Parameter(help="chat with this OpenAI-compatible server, as http://127.0.0.1:8000/v1")
    ] = None
    api_key: Annotated[str | None, Parameter(help="its key", env_var="OPENAI_API_KEY", show_env_var=True)] = None
    model: Annotated[
        str | None, Parameter(help="DIR|HF://USER/REPO (default: the demo); with --base-url an id (default: its first)")
    ] = None
    backend: Annotated[str | None, shared("backend")] = None
    device: Annotated[str, shared("device", is_checked=False)] = "auto"
    quantization: Annotated[str | None, shared("quantization", is_checked=False)] = None
    kv_cache_dtype: Annotated[str, shared("kv_cache_dtype")] = "float32"
    lora: Annotated[str | None, LORA] = None

    def model_options(self) -> ModelOptions:
        """The model on this machine; UsageError if its name is none."""
        rest: dict[str, Any] = {} if self.model is None else {"model": self.read_model()}
        return ModelOptions(
            device=self.device, quantization=self.quantization, kv_cache_dtype=self.kv_cache_dtype, lora=self.lora,
            **rest,
        )  # fmt: skip

    def read_model(self) -> Path | str:
        """The model as the server's own option reads it."""
        try:
            return ROWS["model"].metadata["type"].read(self.model)
        except ArgumentTypeError as error:
            raise UsageError(f"--model: {error}") from None


def chat(words: list[str]) -> int:
    """Chat, as `verbatim chat --help` says; returns the exit code."""
    at = words.index("--") if "--" in words else len(words)
    server_words = words[at + 1 :]

    def command(
        *prompts: Annotated[str, Parameter(name="PROMPT", help="answer this and leave; - reads standard input")],
        prompt: Annotated[
            tuple[str, ...], Parameter(name=["--prompt", "-p"], help="the same; repeatable", show_default=False)
        ] = (),
        source: Source = Source(),
        answer: AnswerOptions = DEFAULT,
        tools: Annotated[Path | None, Parameter(help="a JSON file of tools to offer to the model")] = None,
        load: Annotated[Path | None, Parameter(help="continue a conversation that /save has written")] = None,
        no_history: Annotated[bool, Parameter(help="do not keep what is typed for later sessions")] = False,
    ) -> int:
        """Chat in the terminal: with a model on this machine, or with any OpenAI-compatible server.

        With prompts, or with text piped to it, answer and leave.
        """
        texts = [*prompts, *prompt] or ([] if sys.stdin.isatty() else [HYPHEN])
        if texts and source.base_url is None:
            if server_words:
                raise UsageError(f"-- {' '.join(server_words)}: prompts are answered without a server")
            answer_prompts(texts, source.backend or BACKEND, source.model_options(), answer)
            return 0
        _check(answer, "with --base-url" if source.base_url else "in a conversation")
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for what its encoding does not have
        screen = Screen(Console(highlight=False))
        with _client(source, answer, server_words, screen) as client:
            session = _session(client, source, answer, tools, load, screen)
            if texts:
                return _answer(session, texts)
            return _talk(session, has_history=not no_history)

    return read_words("chat", command, with_hyphens(words[:at]), help_epilogue=EPILOG)


def _check(answer: AnswerOptions, where: str) -> None:
    for name in IN_PROCESS:
        if getattr(answer, name) != getattr(DEFAULT, name):
            raise UsageError(f"--{name} does not exist {where}: verbatim run has it")
    answer.sampling()


@contextmanager
def _client(source: Source, answer: AnswerOptions, server_words: Sequence[str], screen: Screen) -> Iterator[Client]:
    """A client of the server that is named, or of one that is started for this conversation."""
    if source.base_url is not None:
        if server_words or source.lora:
            option = f"-- {' '.join(server_words)}" if server_words else "--lora"
            raise UsageError(f"{option}: --base-url names a server, which has its own")
        with closing(Client(source.base_url, source.api_key)) as client:
            yield client
        return
    from verbatim.cli.chat.private_server import private_server

    words = [*_server_words(source, answer), *server_words]
    with ExitStack() as stack:
        with Console(stderr=True).status("loading the model ..."):
            server = stack.enter_context(private_server(words))
        for warning in server.warnings:
            screen.note(f"warning: {warning}")
        yield stack.enter_context(closing(Client(server.base_url, server.api_key, place=server.engine)))


def _server_words(source: Source, answer: AnswerOptions) -> list[str]:
    """The options of `verbatim serve` for all that was chosen."""
    values: dict[str, Any] = {name: getattr(answer, name) for name in OF_SERVER}
    defaults = {name: getattr(DEFAULT, name) for name in OF_SERVER}
    values |= {name: getattr(source, name) for name in OF_ENGINE}
    defaults |= {name: getattr(Source(), name) for name in OF_ENGINE}
    values["lora"] = source.lora and f"{ADAPTER}={source.lora}"
    values |= {"model": source.model and source.read_model(), "additional_models": answer.draft()}
    words = []
    for name, value in values.items():
        if value is not None and value != defaults.get(name):
            words += [f"--{name.replace('_', '-')}", to_text(value)]
    return words


def _session(
    client: Client, source: Source, answer: AnswerOptions, tools: Path | None, load: Path | None, screen: Screen
) -> Session:
    """A conversation as the command line begins it."""
    wanted = source.model if source.base_url else source.lora and ADAPTER
    try:
        models = client.models()
    except ServerError:
        if not wanted:
            raise
        models = []  # a server without a list, or one that hides it
    model = wanted or models[0]
    models = models if model in models else [*models, model]  # gateways do not list all that they pass on
    conversation = Conversation(model)
    if load:
        conversation.load(load)
    chosen = {name: getattr(answer, name) for name in ("temperature", "top_p", "top_k", "min_p", "seed", "max_tokens")}
    conversation.settings |= {name: value for name, value in chosen.items() if value != getattr(DEFAULT, name)}
    conversation.settings |= {"temperature": 0} if answer.greedy else {}
    conversation.settings |= {"stop": list(answer.stop)} if answer.stop else {}
    if answer.system:
        conversation.set_system(answer.system)
    conversation.tools = load_tools(tools) if tools else conversation.tools
    return Session(client, models, conversation, screen)


def _answer(session: Session, texts: Sequence[str]) -> int:
    """Answer each text by itself, as `verbatim run` does: the text alone goes to standard output."""
    for text in texts:
        session.answer_alone(sys.stdin.read() if text in (HYPHEN, "-") else text)
    return 0


def _talk(session: Session, *, has_history: bool) -> int:
    """The conversation."""
    is_terminal = sys.stdout.isatty() and sys.stdin.isatty()
    session.screen.note(
        f"{session.conversation.model} ({session.client.place}). /help shows the commands, Ctrl-D leaves."
    )
    keyboard: Keyboard = PlainKeyboard()
    if is_terminal:
        keyboard = terminal_keyboard(completions(session.models), has_history=has_history)
    session.run(keyboard, Commands(session, keyboard).run)
    return 0
