"""Ten thousand requests of all kinds, and the memory of the process as it was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_GROWTH = 4 << 20  # bytes between the third and the last thousands: what is kept for each request would be more
PROGRAM = """
import gc, random, sys
from importlib import import_module
from verbatim.demo import MODEL
from verbatim.reference.records.grammar_text import json_schema
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams

count = int(sys.argv[2])
limits = EngineLimits(max_num_sequence=16, max_total_seq_length=1024, prefill_chunk_size=256)
engine = import_module(f"verbatim.{sys.argv[1]}.backend").load_engine(MODEL, limits=limits)
chance, numbers = random.Random(1), iter(range(count))
schema = json_schema({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})


def request(number):
    prompt = tuple(chance.randrange(300, 800) for _ in range(chance.randrange(1, 40)))
    sampling = SamplingParams(temperature=chance.choice([0, 1]), seed=number, logprobs=chance.choice([None, 3]),
                              frequency_penalty=chance.choice([0, 0.5]))
    stopping = StoppingParams(max_tokens=chance.randrange(1, 6), strings=chance.choice([(), ("a", "be")]))
    return Request(request_id=str(number), prompt_ids=prompt, n=chance.choice([1, 1, 1, 2]), sampling=sampling,
                   stopping=stopping, grammar=chance.choice([None] * 9 + [schema]))


def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * 4096


marks = []
for number in numbers:
    engine.add(request(number))
    if number % 7 == 0:
        engine.abort(str(number))
    while len(engine._answers) >= 16:
        engine.step()
    if number in (count * 3 // 10, count - 1):
        while engine.has_work():
            engine.step()
        engine.check()
        marks.append(resident())
print(marks[1] - marks[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("fastpath", 10_000), ("reference", 2_000)])
def test_memory_stays_flat(name, count, capsys):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, name, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with capsys.disabled():
        print(f"\n{count} requests on {name}: {int(done.stdout) / 1e6:+.2f} MB")
    assert int(done.stdout) < MOST_GROWTH
