"""When an answer ends, and what of it may be shown: the rules of docs/semantics.md, "Stopping", in their order."""

from verbatim.reference.records.request import FinishReason, StoppingParams


def new_stopper(part, *, eos_ids=(), num_prompt=1, context_size=1000, **stopping):
    params = StoppingParams(**stopping)
    return part("text.stopping").Stopper(params, eos_ids=eos_ids, num_prompt=num_prompt, context_size=context_size)


def push(stopper, *pieces):
    return [stopper.push(100, piece) for piece in pieces]


def shown(decisions):
    return [decision.released for decision in decisions]


def test_text_without_a_stop_string_is_shown_at_once(part):
    stopper = new_stopper(part, strings=("###",))
    assert shown(push(stopper, b"hello ", b"# ", b"w")) == [b"hello ", b"# ", b"w"]
    assert stopper.held == b""


def test_just_the_tail_that_could_become_a_stop_string_is_held(part):
    stopper = new_stopper(part, strings=("abcd", "cdx"))
    assert shown(push(stopper, b"zab", b"c")) == [b"z", b""]
    assert stopper.held == b"abc"


def test_held_bytes_are_released_when_the_match_fails(part):
    stopper = new_stopper(part, strings=("aab",))
    assert shown(push(stopper, b"a", b"a", b"a", b"c")) == [b"", b"", b"a", b"aac"]


def test_the_text_is_cut_before_the_match_and_keeps_what_stood_before_it(part):
    stopper = new_stopper(part, strings=("STOP",))
    *before, last = push(stopper, b"on", b"e S", b"TOP and more")
    assert b"".join(shown([*before, last])) == b"one "
    assert (last.finish_reason, last.stop_reason) == (FinishReason.STOP, "STOP")


def test_the_match_that_ends_first_wins_and_of_those_the_one_that_starts_first(part):
    assert push(new_stopper(part, strings=("bcd", "bc")), b"abcd")[0].stop_reason == "bc"
    assert push(new_stopper(part, strings=("c", "abc")), b"xabc")[0].stop_reason == "abc"


def test_the_stop_string_can_be_included(part):
    decision = push(new_stopper(part, strings=("c",), include_stop_string=True), b"abcd")[0]
    assert decision.released == b"abc"


def test_a_stop_id_ends_before_its_text_and_releases_what_was_held(part):
    stopper = new_stopper(part, eos_ids=(2,), token_ids=(7,), strings=("xyz",))
    assert stopper.push(5, b"ax").released == b"a"
    decision = stopper.push(7, b"yz")
    assert (decision.released, decision.finish_reason, decision.stop_reason) == (b"x", FinishReason.STOP, 7)
    assert new_stopper(part, eos_ids=(2,)).push(2, b"").stop_reason == 2


def test_end_of_sequence_can_be_ignored_but_stop_ids_cannot(part):
    stopper = new_stopper(part, eos_ids=(2,), token_ids=(7,), ignore_eos=True)
    assert stopper.push(2, b"a").finish_reason is None
    assert stopper.push(7, b"a").finish_reason is FinishReason.STOP


def test_length_by_max_tokens_and_by_the_context(part):
    by_count = push(new_stopper(part, max_tokens=2, strings=("bc",)), b"a", b"b")
    assert [decision.finish_reason for decision in by_count] == [None, FinishReason.LENGTH]
    assert shown(by_count) == [b"a", b"b"], "nothing stays held"
    by_context = push(new_stopper(part, num_prompt=8, context_size=10), b"a", b"b")
    assert by_context[-1].finish_reason is FinishReason.LENGTH


def test_a_stop_string_in_the_last_token_is_a_stop(part):
    assert push(new_stopper(part, max_tokens=1, strings=("b",)), b"ab")[0].finish_reason is FinishReason.STOP


def test_min_tokens_excludes_ends_and_looks_past_stop_strings(part):
    stopper = new_stopper(part, eos_ids=(2,), token_ids=(7, 3), min_tokens=2, strings=("ab",))
    assert stopper.excluded_ids() == (2, 3, 7)
    assert push(stopper, b"ab")[0].finish_reason is None
    assert stopper.excluded_ids() == (2, 3, 7)
    push(stopper, b"x")
    assert stopper.excluded_ids() == ()


def test_min_tokens_hides_a_match_for_good(part):
    stopper = new_stopper(part, min_tokens=2, strings=("ab", "abc"))
    assert push(stopper, b"ab")[0].finish_reason is None, "it is held all the same: it could become abc"
    assert push(stopper, b"x")[0].released == b"abx", "what was not looked for then is not found now"
    assert push(new_stopper(part, min_tokens=2, strings=("ab", "abc")), b"ab", b"c")[1].stop_reason == "abc"
