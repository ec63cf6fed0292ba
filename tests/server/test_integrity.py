"""What an engine has loaded is what its name says: a replaced checkpoint has another fingerprint."""

import os
import shutil
import signal

from live_server import chat_body, wait_until
from small_models import write_chat_model
from verbatim.demo import MODEL


def answer(server):
    response = server.http.post("/v1/chat/completions", json=chat_body(receipt=True))
    return response.json() if response.status_code == 200 else None


def test_a_replaced_checkpoint_has_another_fingerprint(start, tmp_path):
    """The worker reads its words anew, too: they may be others."""
    model = write_chat_model(tmp_path / "model", seed=1)
    server = start("fastpath", "--model", str(model), "--served-model-name", "verbatim-demo").wait_ready()
    first = answer(server)
    other = write_chat_model(tmp_path / "other", seed=2)
    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (other / "model.safetensors").replace(model / "model.safetensors")
    assert answer(server)["system_fingerprint"] == first["system_fingerprint"], "nothing was loaded anew"
    os.kill(server.engine_pid(), signal.SIGKILL)
    second = wait_until(lambda: answer(server))
    assert second["system_fingerprint"] != first["system_fingerprint"]
    assert second["receipt"]["engine"]["fingerprint"] == second["system_fingerprint"]
    assert second["receipt"]["engine"]["files"] != first["receipt"]["engine"]["files"]
    assert len(second["receipt"]["requests"][0]["prompt_ids"]) < len(first["receipt"]["requests"][0]["prompt_ids"])
    outcome = server.http.post("/v1/verify", json={"receipt": first["receipt"]}).json()
    assert outcome["difference"]["what"] == "the model's files"
    assert server.http.get("/ready").json()["models"]["verbatim-demo"] == second["system_fingerprint"]


def test_the_engine_of_the_demo_says_the_fingerprint_that_workers_compute(start, tmp_path):
    model = shutil.copytree(MODEL, tmp_path / "demo")
    server = start("reference", "--model", str(model), "--quantization", "w8a8", "--max-total-seq-length", "256")
    told = server.wait_ready().http.get("/ready").json()["models"]["demo"]
    receipt = server.http.post("/v1/chat/completions", json=chat_body(model="demo", receipt=True)).json()["receipt"]
    assert receipt["engine"]["fingerprint"] == told and told.endswith("-w8a8")
    assert receipt["engine"]["context_size"] == 256
