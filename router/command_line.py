"""The router's command line, with the names that MLC LLM gives to its options; what follows `--` is for the servers."""

import argparse

from verbatim.router.settings import MODES, Settings

EPILOG = "What follows -- goes to every server that is started: verbatim router MODEL -- --backend reference"


def read_command_line(arguments: list[str]) -> Settings:
    """The settings; a line that says what is wrong ends the command with code 2."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = make_parser()
    values = vars(parser.parse_args(arguments[:at]))
    positional = values.pop("positional_model")
    if positional is not None and values.get("model") is not None:
        parser.error("the model is given twice: by --model, and without a name")
    if positional is not None:
        values["model"] = positional
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**given, server_arguments=tuple(arguments[at + 1 :]))
    except ValueError as error:
        parser.error(str(error))


def make_parser() -> argparse.ArgumentParser:
    """Every option is absent unless it is given: the defaults are those of Settings."""
    parser = argparse.ArgumentParser(
        prog="verbatim router", description="A router in front of several servers.", epilog=EPILOG,
        allow_abbrev=False,
    )  # fmt: skip
    add = parser.add_argument
    add("positional_model", nargs="?", metavar="MODEL", help="the same as --model")
    add("--model", metavar="DIR|HF://USER/REPO", help="the model of the servers to start (default: the demo)")
    add("--model-lib", metavar="FILE", help="its packed weights")
    add("--router-mode", metavar="{" + ",".join(MODES) + "}", help="disagg is refused (default: round-robin)")
    add("--router-host", metavar="HOST", help="where the router listens (default: 127.0.0.1)")
    add("--router-port", type=int, metavar="N", help="and on which port (default: 8000)")
    add("--endpoint-hosts", type=_words, metavar="A,B", help="where the servers listen (default: 127.0.0.1)")
    add("--endpoint-ports", type=int, nargs="+", metavar="N", help="a server is started for each (default: 8080)")
    add("--endpoint-num-gpus", type=int, nargs="+", metavar="N", help="for each: 1, or 0 for the processor")
    add("--enable-prefix-cache", action="store_true", default=None, help="the servers keep what prompts begin with")
    add("--pd-balance-factor", type=float, metavar="X", help="belongs to disagg; 0")
    add("--endpoint-urls", type=_words, metavar="URL,URL", help="servers that run already, of any make")
    add("--start-seconds", type=float, metavar="SECONDS", help="to wait for the servers' start (default: 600)")
    add("--failover-seconds", type=float, metavar="SECONDS", help="to wait for who can go on with an answer (20)")
    return parser


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"invalid list: {text!r} (choose from words with commas between)")
    return words
