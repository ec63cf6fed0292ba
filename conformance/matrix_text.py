"""The rows of the invalid matrix for completions; matrix.py explains a row."""

from hypothesis import strategies as st

from verbatim.conformance.matrix import ABOVE, bodies, field

TEXT_ROWS = {
    "prompt_missing": ("A completion without a prompt", bodies({"prompt": ...}), "prompt"),
    "prompt_type": (
        "A prompt that is neither text nor ids",
        field("prompt", 3.5, {}, [[]], [1.5], drawn=st.floats(0.1, 0.9)),
        "prompt",
    ),
    "prompt_empty_list": ("An empty list as prompt", bodies({"prompt": []}), "prompt"),
    "prompt_token_range": ("A token id outside the vocabulary", field("prompt", [10**9], [-1], [[10**9]]), "prompt"),
    "completion_temperature": (
        "A completion's temperature below 0",
        field("temperature", -0.1, "1"),
        "temperature",
    ),
    "completion_top_p": ("A completion's top_p outside 0 to 1", field("top_p", -0.1, 1.1, "1", drawn=ABOVE), "top_p"),
    "completion_n": ("A completion's n below 1", field("n", 0, -1, "2", drawn=st.integers(-1000, -1)), "n"),
    "completion_max_tokens": ("A completion's max_tokens below -1", field("max_tokens", -2, "16", 1.5), "max_tokens"),
    "completion_penalties": (
        "A completion's penalty outside -2 to 2",
        field("presence_penalty", -2.5, 2.5, "1"),
        "presence_penalty",
    ),
    "completion_stop": ("A completion's stop of a wrong type", field("stop", 123, [1], {}), "stop"),
    "completion_seed": ("A completion's seed of a wrong type", field("seed", "foo", 1.5), "seed"),
    "completion_logit_bias": (
        "A completion's bias outside -100 to 100",
        field("logit_bias", {"5": 101}, {"5": "x"}, "x"),
        "logit_bias",
    ),
    "completion_echo": ("An echo that is no boolean", field("echo", "yes", 1), "echo"),
}
