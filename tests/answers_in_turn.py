"""Answers of an engine to two requests that begin alike: what must not depend on chunks, pages or drafts."""

from verbatim.reference.records.request import Request, SamplingParams, StoppingParams


def answers_in_turn(engine):
    """Tokens and log-probabilities of two choices each of two requests, the second behind the first one's prompt."""
    found = {}
    for seed in (1, 2):  # one after the other: the second begins with cached pages
        sampling = SamplingParams(seed=seed, logprobs=1, temperature=0.3)
        prompt = tuple(range(300, 370)) * 2 + (500 + seed,)
        stopping = StoppingParams(max_tokens=12)
        engine.add(Request(request_id=str(seed), prompt_ids=prompt, sampling=sampling, stopping=stopping, n=2))
        while engine.has_work():
            for output in engine.step():
                rows = zip(output.token_ids, output.logprobs, strict=True)
                found.setdefault((output.request_id, output.choice), []).extend(rows)
            engine.check()
    return found
