"""`verbatim router`: options with the names that MLC LLM gives them; what follows `--` is for the servers."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from verbatim.cli.main import complain
from verbatim.cli.options import UsageError, read_words
from verbatim.router.settings import MODES, Settings

EPILOG = "What follows -- goes to every server that is started: verbatim router MODEL -- --backend reference"
Several = Parameter(consume_multiple=True)


def router(words: list[str]) -> int:
    """Serve as a router until told to stop; what cannot be done ends the command with one line."""
    settings = read_command_line(words)
    if settings is None:
        return 0
    from verbatim.router.serving import CannotStartError, run

    try:
        run(settings)
    except CannotStartError as error:
        print(f"verbatim router: {error}", file=sys.stderr)
        return 1
    return 0


def read_command_line(words: list[str]) -> Settings | None:
    """The settings, None after help; a line that says what is wrong ends the command with code 2."""
    at = words.index("--") if "--" in words else len(words)
    values = read_words("router", _values, words[:at], help_epilogue=EPILOG)
    if values is None:
        return None
    if isinstance(values, int):
        sys.exit(values)
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if value is not None
    }
    if "api_key_file" in given:
        given["api_key_file"] = given["api_key_file"].absolute()
    try:
        return Settings(**given, server_arguments=tuple(words[at + 1 :]))
    except ValueError as error:
        sys.exit(complain("router", str(error)))


def _words(_type, tokens) -> list[str]:
    words = [word.strip() for token in tokens for word in token.value.split(",")]
    if not all(words):
        text = ",".join(token.value for token in tokens)
        raise UsageError(f"{tokens[-1].keyword}: invalid list: {text!r} (choose from words with commas between)")
    return words


Words = Parameter(converter=_words, n_tokens=1)


def _values(
    positional_model: Annotated[str | None, Parameter(name="MODEL", help="the same as --model")] = None,
    /,
    *,
    model: Annotated[str | None, Parameter(help="the model of the servers to start (default: the demo)")] = None,
    model_lib: Annotated[str | None, Parameter(help="its packed weights")] = None,
    router_mode: Annotated[
        str | None, Parameter(help=f"{' or '.join(MODES)}, which is refused (default: round-robin)")
    ] = None,
    router_host: Annotated[str | None, Parameter(help="where the router listens (default: 127.0.0.1)")] = None,
    router_port: Annotated[int | None, Parameter(help="and on which port (default: 8000)")] = None,
    endpoint_hosts: Annotated[
        list[str] | None, Words, Parameter(help="where the servers listen, A,B (default: 127.0.0.1)")
    ] = None,
    endpoint_ports: Annotated[
        list[int] | None, Several, Parameter(help="a server is started for each (default: 8080)")
    ] = None,
    endpoint_num_gpus: Annotated[
        list[int] | None, Several, Parameter(help="for each: 1, or 0 for the processor")
    ] = None,
    enable_prefix_cache: Annotated[bool | None, Parameter(help="the servers keep what prompts begin with")] = None,
    pd_balance_factor: Annotated[float | None, Parameter(help="belongs to disagg; 0")] = None,
    endpoint_urls: Annotated[
        list[str] | None, Words, Parameter(help="servers that run already, of any make, URL,URL")
    ] = None,
    start_seconds: Annotated[float | None, Parameter(help="to wait for the servers' start (default: 600)")] = None,
    failover_seconds: Annotated[
        float | None, Parameter(help="to wait for a server that can continue an answer (default: 20)")
    ] = None,
    allow_hosts: Annotated[
        list[str] | None, Words, Parameter(help="names of the router, for browsers behind a proxy on its machine, A,B")
    ] = None,
    api_key: Annotated[
        list[str] | None, Words, Parameter(help="keys to ask clients for, A,B (default: endpoints check keys)")
    ] = None,
    api_key_file: Annotated[
        Path | None, Parameter(help="more keys, one a line; servers that are started get it, too")
    ] = None,
    max_body_bytes: Annotated[int | None, Parameter(help="of a request (default: 33554432)")] = None,
) -> dict:
    """Put one address in front of several servers."""
    values = dict(locals())
    positional = values.pop("positional_model")
    if positional is not None and model is not None:
        raise UsageError("the model is given twice: by --model, and without a name")
    return values | ({"model": positional} if positional is not None else {})
