"""`verbatim serve` and `conform`: their options are declared by the server's table and by the suite itself."""


def serve(words: list[str]) -> int:
    """Serve until told to stop. The options are the server's table and, after it, all of Sanic's."""
    from verbatim.server.settings.serving import serve as run

    run(words)
    return 0


def conform(words: list[str]) -> int:
    """Run the conformance suite, whose options are its own; returns its exit code."""
    from verbatim.conformance.__main__ import main

    return main(words, prog="verbatim conform")
