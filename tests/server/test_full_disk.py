"""A disk that is full, or a server that was killed: nobody dies of it, and nothing stays behind."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from live_server import running, wait_until
from verbatim.server.api.responses.store import ResponseStore
from verbatim.server.engine import place
from verbatim.server.http import metric_files
from verbatim.server.http.metric_files import FIRST_BYTES, ReservedFile

ID = f"resp_{'0' * 32}"


@pytest.fixture
def full(monkeypatch):
    """From now on the disk has no space; `full(False)` gives it back."""

    def refuse(file: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = metric_files.reserve

    def switch(is_full: bool = True) -> None:
        monkeypatch.setattr(metric_files, "reserve", refuse if is_full else real)

    return switch


def test_the_space_of_counters_is_there_before_they_are_mapped(tmp_path):
    path = str(tmp_path / "counter_1.db")
    file = ReservedFile(path)
    numbers = {f"key {index} {'x' * 200}": float(index) for index in range(1000)}
    for key, value in numbers.items():
        file.write_value(key, value, 0.0)
    status = Path(path).stat()
    assert status.st_size > FIRST_BYTES and status.st_blocks * 512 >= status.st_size, "a sparse file is no space"
    assert {key: value for key, value, _, _ in ReservedFile.read_all_values_from_file(path)} == numbers
    file.close()
    assert ReservedFile(path).read_value("key 7 " + "x" * 200) == (7.0, 0.0)


def test_counters_without_space_are_kept_in_memory(tmp_path, full):
    path = str(tmp_path / "counter_1.db")
    file = ReservedFile(path)
    file.write_value("before", 1.0, 0.0)
    full()
    for index in range(1000):
        file.write_value(f"{index} {'x' * 200}", 2.0, 0.0)
    file.write_value("before", 3.0, 0.0)
    file.write_value("999 " + "x" * 200, 4.0, 0.0)
    assert file.read_value("999 " + "x" * 200)[0] == 4.0
    written = {key: value for key, value, _, _ in ReservedFile.read_all_values_from_file(path)}
    assert written["before"] == 3.0 and 100 < len(written) < 1000
    other = ReservedFile(str(tmp_path / "counter_2.db"))
    other.write_value("a", 5.0, 0.0)
    assert other.read_value("a") == (5.0, 0.0)
    other.close()


def test_a_response_that_cannot_be_kept_is_answered_all_the_same(tmp_path):
    (tmp_path / "file").write_text("")
    store = ResponseStore(tmp_path / "file" / "responses")  # where nothing can be written
    assert store.put(ID, {"response": {}}) is False
    assert ResponseStore(tmp_path / "responses").put(ID, {}) is True


def test_what_a_killed_server_leaves_is_deleted_by_the_next(tmp_path, monkeypatch):
    code = "from verbatim.server.engine.place import Place; import time; p = Place(); (p.path / 'secret').touch()"
    code += "; print(p.path, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    killed, living = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2))
    paths = [Path(process.stdout.readline().strip()) for process in (killed, living)]
    (tmp_path / f"{place.PREFIX}other").mkdir()
    killed.kill()
    killed.wait()
    try:
        place.remove_abandoned(tmp_path)
        assert [path.exists() for path in paths] == [False, True]
        assert (tmp_path / f"{place.PREFIX}other").exists(), "a directory that no server has locked may be anybody's"
        assert (paths[1] / "secret").stat().st_mode & 0o077 == 0
    finally:
        living.kill()
        living.wait()


def test_a_server_whose_files_cannot_be_written_still_answers(tmp_path):
    """All that it may still write after its start is gone, as on a disk that is full."""
    with running("fastpath", tmp_path) as server:
        server.wait_ready()
        [folder] = (path for path in (tmp_path / server.directory.name).glob("verbatim-*"))
        (folder / "responses").write_text("in the way")
        body = {"model": "verbatim-demo", "input": "Hello", "max_output_tokens": 16}
        answer = server.http.post("/v1/responses", json=body)
        assert (answer.status_code, answer.json()["store"]) == (200, False)
        worker = server.worker_pid()
        for path in (folder / "metrics").glob("*.db"):
            path.unlink()
        assert server.chat(max_tokens=2).status_code == 200
        os.kill(server.engine_pid(), signal.SIGKILL)
        wait_until(server.is_ready)
        assert server.chat(max_tokens=2).status_code == 200 and server.worker_pid() == worker
