"""Tools as requests offer them: odd lists, odd names, many of them."""

from verbatim.conformance.case import (
    MAY,
    MUST,
    OBSERVED,
    SHOULD,
    SPEC,
    SkipError,
    case,
    equal,
    expect,
)
from verbatim.conformance.cases.tools import tool
from verbatim.conformance.probe import CHAT, Probe


@case(
    "tools.empty_list",
    "An empty list of tools is as if absent.",
    source="mlx-lm#170; Xcode sends it",
    level=SHOULD,
    fault="no empty tools",
)
def empty_list(probe: Probe) -> None:
    plain, empty = probe.chat("Hello"), probe.chat("Hello", tools=[])
    equal(empty.text(), plain.text(), "the answer with tools []")


@case(
    "tools.nulls",
    "tools and tool_choice of null are as if absent.",
    source="SDKs send null",
    level=MUST,
    fault="no null tools",
)
def nulls(probe: Probe) -> None:
    probe.chat("Hello", tools=None, tool_choice=None)
    probe.chat("Hello", tools=None)


@case(
    "tools.choice_alone",
    "tool_choice none or auto without tools is accepted or refused cleanly.",
    source="vllm#40399",
    level=SHOULD,
    fault="choice alone 500",
)
def choice_alone(probe: Probe) -> None:
    for choice in ("none", "auto"):
        exchange = probe.send("POST", CHAT, probe.chat_body("Hello", tool_choice=choice))
        if exchange.status != 200:
            probe.refused(exchange)


def _bad_name(flaw: str, name: str) -> None:
    @case(
        f"tools.bad_name.{flaw}",
        f"A function's name that is {flaw.replace('_', ' ')} is refused.",
        source=f"{SPEC}: name; llama_index#16093",
        level=SHOULD,
        fault="accept tools[0].function.name",
        optional=False,
    )
    def bad_name(probe: Probe) -> None:
        probe.refused(probe.send("POST", CHAT, probe.chat_body("Hello", tools=[tool(name)])))


_bad_name("empty", "")


_bad_name("with_a_space", "a b")


_bad_name("with_a_dot", "a.b")


_bad_name("too_long", "a" * 65)


@case(
    "tools.longest_name",
    "A name of 64 letters, digits, _ and - is accepted.",
    source=SPEC,
    level=SHOULD,
    fault="refuse tools",
)
def longest_name(probe: Probe) -> None:
    probe.chat("Hello", tools=[tool("Aa0_-" + "x" * 59)], tool_choice="none")


@case("tools.many", "128 tools are accepted.", source=OBSERVED, level=MAY, fault="refuse tools", optional=False)
def many(probe: Probe) -> None:
    tools = [tool(f"f{number}", {"type": "object", "properties": {}}) for number in range(128)]
    exchange = probe.send("POST", CHAT, probe.chat_body("Hi", tools=tools, tool_choice="none", max_tokens=1))
    if "context" in str(exchange.error()):
        raise SkipError("a context that holds 128 tools", "the context is too short")
    probe.accepted(exchange)


@case(
    "tools.counted",
    "Tools add to prompt_tokens, so the model sees them.",
    source="meaning of tools",
    level=SHOULD,
    fault="tools unseen",
    optional=True,
)
def counted(probe: Probe) -> None:
    plain = probe.chat("Hello", max_tokens=1).usage("prompt_tokens")
    more = probe.chat("Hello", max_tokens=1, tools=[tool()], tool_choice="auto").usage("prompt_tokens")
    expect(more > plain, f"more than {plain} prompt tokens", more)
