"""`verbatim COMMAND ...`: finds the command and imports that alone, so that `verbatim --help` is quick.

A command is a function from its words to an exit code. What a user did wrong ends as one line on stderr, never as a
traceback: code 2 for the command line, code 1 for what the engines refuse.
"""

import os
import sys
from importlib import import_module

COMMANDS = {
    "serve": ("verbatim.cli.serving:serve", "Serve a model behind OpenAI's API."),
    "router": ("verbatim.cli.routing:router", "Put one address in front of several servers."),
    "key": ("verbatim.cli.keys:key", "Make an API key, by whose digest a server knows it: verbatim key new NAME."),
    "chat": ("verbatim.cli.chat.command:chat", "Chat in the terminal, with a local model or any server."),
    "run": ("verbatim.cli.answers:run", "Answer one prompt or more in the terminal."),
    "explain": ("verbatim.cli.answers:explain", "Show for every token of an answer how it was chosen."),
    "pull": ("verbatim.cli.models.pull:pull", "Fetch a model from the Hugging Face hub."),
    "list": ("verbatim.cli.models.list:list_models", "List the models on this machine."),
    "show": ("verbatim.cli.models.show:show", "Show what a model is, and how much memory it needs."),
    "verify": ("verbatim.cli.models.verify:verify", "Check a model's files, weights and packed weights."),
    "rm": ("verbatim.cli.models.rm:rm", "Remove a model from the hub's cache, with its packed weights."),
    "diff": ("verbatim.cli.measures:diff", "Find the first bit in which fast path and reference differ."),
    "logits": ("verbatim.cli.measures:logits", "Write the logits of token ids to a file."),
    "perplexity": ("verbatim.cli.measures:perplexity", "Measure what quantization costs on a text."),
    "quantize": ("verbatim.cli.measures:quantize", "Quantize a checkpoint on disk."),
    "replay": ("verbatim.cli.receipts:replay", "Compute the answers of a receipt again, to the bit."),
    "verify-answer": ("verbatim.cli.receipts:verify_answer", "Check a receipt's answers, all tokens at once."),
    "conform": ("verbatim.cli.serving:conform", "Test how OpenAI-compatible an endpoint is."),
    "bench": ("verbatim.cli.bench:bench", "List and run the benchmarks of a checkout."),
    "doctor": ("verbatim.cli.doctor:doctor", "Report what this machine can do, and what is missing."),
}


def main(words: list[str] | None = None) -> int:
    """Run the command that `words` name (default: those of the command line); returns its exit code."""
    words = sys.argv[1:] if words is None else words
    if words and words[0] in COMMANDS:
        module, _, function = COMMANDS[words[0]][0].partition(":")
        return call(getattr(import_module(module), function), words[1:])
    if words[:1] == ["--version"]:
        from verbatim.cli.version import version_line

        print(version_line())
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        _help()
        return 0
    return complain("", f"{words[0]}: {suggestion(words[0], [*COMMANDS, '--help', '--version'])}")


def call(command, words: list[str]) -> int:
    """Call a command. A VerbatimError becomes one line and code 1, Ctrl-C code 130."""
    from verbatim.reference.records.errors import VerbatimError

    try:
        return command(words) or 0
    except VerbatimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads on, as in `verbatim ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


def complain(command: str, message: str) -> int:
    """Print what is wrong with a command line, in one line on stderr; returns exit code 2."""
    print(f"verbatim{command and ' '}{command}: {message}", file=sys.stderr)
    return 2


def suggestion(word: str, known) -> str:
    """A question that names the closest of the known words, or a pointer to the help."""
    from verbatim.server.settings.spelling import closest

    meant = closest(word, list(known))
    return f"did you mean {meant}?" if meant else "there is none such; --help shows those that there are"


def _help() -> None:
    from cyclopts import App

    app = App(name="verbatim", help="An LLM server that gives the same answer, word for word, on every engine.")
    app.help_epilogue = "verbatim COMMAND --help shows the options of a command.\n"
    app["--version"].help = "Show version, git revision and CPU level."
    for name, (path, text) in COMMANDS.items():
        app.command(path, name=name, help=text, sort_key=list(COMMANDS).index(name))
    app.help_print([])
