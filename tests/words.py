"""Find retired words in the project's files; `python tests/words.py [REVISION]` counts them, now and at a revision.

The list is tests/retired_words.toml. Code and prose are searched apart: `code` patterns see a file without its comments
and strings, `prose` patterns see only those, or the whole of a Markdown file. Patterns ignore case in prose only.
"""

import io
import re
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUFFIXES = (".py", ".pyx", ".pxd", ".h", ".c", ".cpp", ".cu", ".cuh", ".md")
EXEMPT = ("docs/log.md", "docs/changelog.md", "docs/glossary.md", "CHANGELOG.md", "tests/test_words.py")
PYTHON_PROSE = re.compile(
    r"""(?:\b[rbfu]{1,2})?(?:\'\'\'(?s:.*?)\'\'\'|\"\"\"(?s:.*?)\"\"\")  # triple quotes
    |\#[^\n]*
    |(?:\b[rbu]{1,2})?(?P<quote>["'])(?:\\.|(?!(?P=quote))[^\\\n])*(?P=quote)""",
    re.VERBOSE,
)
C_PROSE = re.compile(r"""/\*(?s:.*?)\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""")
FIELD = re.compile(r"\{[^{}\n]*\}")  # of a format string: code


def load_words(root: Path = ROOT) -> list[dict]:
    """The list: name, what to write instead, patterns for code and prose, and the paths that it applies to."""
    words = tomllib.loads((root / "tests/retired_words.toml").read_text(encoding="utf-8"))["word"]
    for word in words:
        word["code"] = re.compile(word["code"]) if "code" in word else None
        word["prose"] = re.compile(word["prose"], re.IGNORECASE) if "prose" in word else None
    return words


def split(name: str, text: str) -> tuple[str, str]:
    """A file's code and its prose, each as long as the text and blank where the other is."""
    if name.endswith(".md"):
        return "", text
    is_prose = bytearray(len(text))
    for match in (PYTHON_PROSE if name.endswith((".py", ".pyx", ".pxd")) else C_PROSE).finditer(text):
        is_prose[match.start() : match.end()] = b"\1" * len(match[0])
        if match[0][:1] in "\"'":  # perhaps what follows an f, which this scanner leaves to the code
            for field in FIELD.finditer(match[0]) if text[match.start() - 1 : match.start()] == "f" else ():
                is_prose[match.start() + field.start() : match.start() + field.end()] = bytes(len(field[0]))
    code = "".join(c if c == "\n" or not hidden else " " for c, hidden in zip(text, is_prose, strict=True))
    prose = "".join(c if c == "\n" or shown else " " for c, shown in zip(text, is_prose, strict=True))
    return code, prose


def find(words: list[dict], name: str, text: str):
    """Yield (word, line number, what stands there) for every retired word of a file."""
    code, prose = split(name, text)
    for word in words:
        if not any(fnmatch(name, path) for path in word.get("paths", ["*"])):
            continue
        for pattern, view in ((word["code"], code), (word["prose"], prose)):
            for match in pattern.finditer(view) if pattern else ():
                yield word, view.count("\n", 0, match.start()) + 1, match[0]


def is_searched(name: str) -> bool:
    """Whether the words of a file are looked through."""
    return name.endswith(SUFFIXES) and name not in EXEMPT


def files_of_tree():
    """Yield name and text of each searched file of the working tree, as git knows them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in sorted(listed.split("\n")):
        if is_searched(name) and (ROOT / name).is_file():
            yield name, (ROOT / name).read_text(encoding="utf-8")


def files_of_revision(revision: str):
    """Yield name and text of each searched file of a commit."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.isfile() and is_searched(member.name):
                yield member.name, tar.extractfile(member).read().decode()


def count(words: list[dict], files) -> Counter:
    """How often each retired word stands in some files, by its name."""
    return Counter(word["name"] for name, text in files for word, _, _ in find(words, name, text))


def main(revision: str | None = None) -> None:
    """Print a table of all words, or of what changed since a revision."""
    words = load_words()
    before = count(words, files_of_revision(revision)) if revision else Counter()
    now = count(words, files_of_tree())
    print(f"{'retired':24} {'before':>8} {'now':>8}  write")
    for word in words:
        print(f"{word['name']:24} {before[word['name']]:8} {now[word['name']]:8}  {word['write']}")
    print(f"{'all':24} {before.total():8} {now.total():8}")


if __name__ == "__main__":
    main(*sys.argv[1:])
