"""Retired words stay out of code, comments and documentation; docs/glossary.md says what to write instead."""

import words


def test_no_retired_word_comes_back():
    listed = words.load_words()
    found = [
        f"{name}:{line}: {hit!r}: write {word['write']}"
        for name, text in words.files_of_tree()
        for word, line, hit in words.find(listed, name, text)
    ]
    assert not found, "\n".join(found)


def test_code_and_prose_are_searched_apart():
    listed = words.load_words()
    text = 'def look(one):  # house rules\n    """Whoever."""\n    return f"{one.x} said", "one", one'
    found = [(word["name"], line) for word, line, _ in words.find(listed, "reference/a.py", text)]
    assert sorted(found) == [
        ("house", 1), ("look, look at", 1), ("one (as a name)", 1), ("one (as a name)", 3), ("one (as a name)", 3),
        ("whoever", 2),
    ]  # fmt: skip
    in_c = [word["name"] for word, _, _ in words.find(listed, "cuda/a.cu", "int kind; // kind, by law\n")]
    assert in_c == ["the law", "kind"]


def test_ordinary_english_is_not_hit():
    listed = words.load_words()
    text = "One of them is kind; we look for how it was, in turn, and say that one."
    assert list(words.find(listed, "docs/a.md", text)) == []
