"""Wheel, source archive, editable and in-checkout installs in fresh environments; slow, for `make test-all`."""

import os
import re
import subprocess
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from live_server import Server

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def only_what_is_installed():
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PYTHONPATH", raising=False)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the project, so that this checkout stays as it is."""
    directory = tmp_path_factory.mktemp("source") / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(directory)], check=True)
    return directory


@pytest.fixture(scope="module")
def archive(source, tmp_path_factory):
    """The source archive of that copy."""
    directory, python = tmp_path_factory.mktemp("archive"), make_environment(tmp_path_factory.mktemp("builder"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "setuptools>=77", "cython>=3.1,<4"], check=True)
    subprocess.run([python, "setup.py", "--quiet", "sdist", "--dist-dir", directory], cwd=source, check=True)
    (found,) = directory.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(archive, tmp_path_factory):
    """The wheel that is built from the source archive."""
    directory, python = tmp_path_factory.mktemp("wheel"), make_environment(tmp_path_factory.mktemp("builder"))
    command = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, archive]
    subprocess.run(command, check=True)
    (found,) = directory.glob("verbatim-*.whl")
    return found


def make_environment(directory):
    """The Python of a new environment."""
    venv.create(directory / "venv", with_pip=True)
    return directory / "venv" / "bin" / "python"


def install(directory, *words, **environment):
    """The folder of commands of a new environment with what pip is told to install."""
    python = make_environment(directory)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *words], check=True, env=os.environ | environment)
    return python.parent


def answer(command, backend, tmp_path, cwd=None):
    server = Server(backend, tmp_path / "log", command=command, cwd=cwd)
    try:
        return server.wait_ready().chat(max_tokens=4).json()["choices"][0]["message"]["content"]
    finally:
        server.close()


def check(bin_directory, tmp_path, cwd=None):
    """Both commands answer on the fast path, and as the reference does."""
    serve, sanic = (str(bin_directory / "verbatim"), "serve"), (str(bin_directory / "sanic"), "server.app")
    answers = [answer(serve, "fastpath", tmp_path, cwd), answer(sanic, "fastpath", tmp_path, cwd)]
    assert {*answers} == {answer(serve, "reference", tmp_path, cwd)}


def revision_in(bin_directory, tmp_path):
    done = subprocess.run([bin_directory / "verbatim", "--version"], cwd=tmp_path, capture_output=True, text=True)
    return done.stdout.partition("revision ")[2].partition(",")[0]


def test_a_wheel_of_a_source_archive(wheel, source, tmp_path):
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert names == {"verbatim", "zz_verbatim.pth", f"verbatim-{version('verbatim')}.dist-info"}
    bin_directory = install(tmp_path, str(wheel))
    check(bin_directory, tmp_path)
    check(bin_directory, tmp_path, cwd=source)  # what lies in the checkout is not built, and not imported
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "server.py").write_text("raise SystemExit('hostile')")
    check(bin_directory, tmp_path, cwd=tmp_path / "hostile")
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=source, capture_output=True, text=True)
    assert revision_in(bin_directory, tmp_path) == head.stdout.strip()
    subprocess.run([bin_directory / "pip", "uninstall", "--quiet", "--yes", "verbatim"], check=True)
    packages = next((bin_directory.parent / "lib").glob("python*/site-packages"))
    assert not [path.name for path in packages.iterdir() if "verbatim" in path.name]


def test_an_editable_install(source, tmp_path):
    bin_directory = install(tmp_path, "--editable", str(source))
    check(bin_directory, tmp_path)
    check(bin_directory, tmp_path, cwd=source)
    tools = tomllib.loads((source / "pyproject.toml").read_text())["build-system"]["requires"]
    subprocess.run([bin_directory / "pip", "install", "--quiet", *tools], check=True)
    options = ("-v", "--no-deps", "--no-build-isolation")  # a Cython of each build's own would be newer than its files
    subprocess.run([bin_directory / "pip", "install", "--quiet", *options[1:], "--editable", source], check=True)
    changed = source / "fastpath" / "sampling" / "rng.pyx"
    changed.write_text(changed.read_text() + "\n")
    for expected in ([str(changed)], []):
        command = [bin_directory / "pip", "install", *options, "--editable", source]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = [line for line in done.stdout.splitlines() if re.match(r"\s*\[ *\d+/\d+\] verbatim", line)]
        assert [line.split()[-3] for line in lines] == ["verbatim.fastpath.sampling.rng"] * len(expected), done.stdout


def test_without_a_compiler_the_reference_serves_and_the_fast_path_says_what_is_missing(archive, tmp_path):
    bin_directory = install(tmp_path, str(archive), CC="/bin/false")
    assert answer((str(bin_directory / "sanic"), "server.app"), "reference", tmp_path)
    wheels = tmp_path / "wheels"
    command = [bin_directory / "pip", "wheel", "-v", "--no-cache-dir", "--no-deps", "--wheel-dir", wheels, archive]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # pip writes what a build says to the latter
    told = subprocess.run(command, **both, text=True, env=os.environ | {"CC": "/bin/false"}).stdout
    assert told.count("the fast path is not built") == 1, told
    for words in (["sanic", "server.app"], ["verbatim", "serve"]):
        command = [bin_directory / words[0], *words[1:], "--backend", "fastpath"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 1
        assert "the fast path is not built: no C compiler works here" in done.stderr
        assert "--backend reference" in done.stderr and done.stderr.count("\n") == 1
    assert subprocess.run([bin_directory / "verbatim", "doctor"], capture_output=True, cwd=tmp_path).returncode == 1
