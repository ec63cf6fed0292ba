"""The start-up hook: `sanic server.app` is ours where nobody else provides it, and otherwise Sanic is untouched.

Each test runs the line of the .pth file as an interpreter would that has it in site-packages.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOK = (ROOT / "src" / "zz_verbatim.pth").read_text()
SANIC = "import sys; sys.argv[0] = 'sanic'; sys.path[0] = {first!r}; from sanic.__main__ import main; main()"
OURS = "sanic: --modle: did you mean --model?\n"
THEIRS = """
import sys
from sanic import Sanic
def create_app(arguments=None):
    print("theirs", getattr(arguments, "backend", None), flush=True)
    sys.exit(0)
"""
HOSTILE = {
    "raises": {"server.py": "raise RuntimeError('hostile')"},
    "prints": {"server.py": "print('hostile')"},
    "exits": {"server.py": "import sys; sys.exit('hostile')"},
    "no Python": {"server.py": "this is hostile ("},
    "an app in a function only": {"server.py": "def main():\n    app = 'hostile'\n"},
    "an app that is a text": {"server.py": "print('hostile')\napp = 'hostile'\n"},
    "other languages": {"server/app.js": "hostile", "server/app.ts": "hostile"},
    "names of ours": {f"{name}/__init__.py": "print('hostile')" for name in ("demo", "reference", "conformance")},
}


def write(folder, files):
    """Write files by their paths below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def sanic(folder, *words, program=None, paths=(ROOT / "src",)):
    """What `sanic WORDS` prints in a folder, in an interpreter that has the hook."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERBATIM_")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    command = [sys.executable, "-c", HOOK + (program or SANIC.format(first="/nowhere")), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_offer_no_app_change_nothing(tmp_path, name):
    done = sanic(write(tmp_path, HOSTILE[name]), "server.app", "--modle", "x")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", OURS)


@pytest.mark.parametrize("words", [["--backend", "reference", "server:app"], ["server.app:app"]])
def test_options_may_come_first_and_the_target_has_several_forms(tmp_path, words):
    done = sanic(tmp_path, *words, "--modle", "x")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", OURS)


@pytest.mark.parametrize("words", [["server.app", "--factory"], ["server.app:create_app", "--factory"]])
def test_a_factory_is_ours_too(tmp_path, words):
    done = sanic(tmp_path, *words, "--port", "99999")
    assert done.returncode == 2
    assert done.stderr == "sanic: argument --port: invalid number: '99999' (choose from 0 to 65535; 0: any free port)\n"


FOREIGN = {
    "a module": {"server.py": THEIRS + "app = create_app"},
    "a package": {"server/__init__.py": THEIRS + "app = create_app"},
    "a submodule": {"server/__init__.py": "", "server/app.py": THEIRS + "app = create_app"},
    "a folder without __init__": {"server/app.py": THEIRS + "app = create_app"},
    "a package in a folder": {"server/app/__init__.py": THEIRS + "app = create_app"},
    "all that another module has": {
        "server.py": "from elsewhere import *",
        "elsewhere.py": THEIRS + "app = create_app",
    },
    "an attribute made when asked": {"server.py": THEIRS + "def __getattr__(name):\n    return create_app"},
    "in a branch": {"server.py": THEIRS + "if True:\n    app = create_app"},
}


@pytest.mark.parametrize(("name", "is_installed"), [*((name, False) for name in FOREIGN), ("a submodule", True)])
def test_another_project_s_server_runs_unchanged(tmp_path, name, is_installed):
    home, folder = write(tmp_path / "theirs", FOREIGN[name]), tmp_path / "elsewhere"
    folder.mkdir()
    target = "server.app:app" if any(file.startswith("server/app") for file in FOREIGN[name]) else "server.app"
    words = [target, "--factory", "--backend", "x"]
    done = sanic(folder if is_installed else home, *words, paths=(ROOT / "src", *[home] * is_installed))
    assert (done.returncode, done.stdout) == (0, "theirs x\n"), done.stderr


def test_another_application_has_a_backend_option_of_its_own(tmp_path):
    for words in (["server:create_app"], ["theirs:create_app"]):
        write(tmp_path, {"server.py": THEIRS, "theirs.py": THEIRS})
        done = sanic(tmp_path, *words, "--factory", "--backend", "x")
        assert (done.returncode, done.stdout) == (0, "theirs x\n"), done.stderr


def test_another_application_extends_sanic_s_parser(tmp_path):
    program = (
        "import sys\nfrom sanic.cli.arguments import Group\nclass Theirs(Group):\n name = 'Theirs'\n"
        " def attach(self, short=False): self.container.add_argument('--backend')\n"
        "from sanic.cli.app import SanicCLI\ncli = SanicCLI()\ncli.attach()\ncli.run()"
    )
    write(tmp_path, {"server/app.py": THEIRS + "app = create_app"})
    done = sanic(tmp_path, "server.app:app", "--factory", "--backend", "x", program=program)
    assert (done.returncode, done.stdout) == (0, "theirs x\n"), done.stderr


def without_us(folder, program, *words):
    """What a program prints after the hook where nothing of ours but the files below `folder` can be imported."""
    others = [path for path in sys.path if "site-packages" in path or not Path(path).is_relative_to(ROOT)]
    paths = [str(folder), *(path for path in others if path and not (Path(path) / "verbatim").exists())]
    code = f"import sys; sys.path[:] = {paths!r}\n{HOOK}{program}"
    command = [sys.executable, "-S", "-E", "-c", code, *words]  # -S: no other hook, should one be installed
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_a_hook_that_was_left_behind_is_silent(tmp_path):
    assert without_us(tmp_path, "print('well')", "server.app") == "well\n"


def test_a_package_of_which_only_the_hook_is_left_shows_no_traceback(tmp_path):
    hook = (ROOT / "src" / "verbatim" / "startup.py").read_text()
    write(tmp_path, {"verbatim/__init__.py": "", "verbatim/startup.py": hook})
    printed = without_us(tmp_path, SANIC.format(first=str(tmp_path)), "server.app")
    assert "No module named server found" in printed
    assert "Traceback" not in printed
