"""What is reviewed and what is left out, with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autogen_coord.errors import InvalidInputError
from autogen_coord.review.files import Found, Skipped, Source, find_target, read_source, walk


def names(root: Path) -> tuple[list[str], dict[str, str]]:
    items = list(walk(find_target(str(root))))
    found = sorted(item.path for item in items if isinstance(item, Found))
    return found, {item.path: item.why for item in items if isinstance(item, Skipped)}


def put(root: Path, path: str, text: str = "x = 1\n") -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def read(place: Path, limit: int = 1_000_000) -> Source | Skipped:
    return read_source(Found(place.name, place), limit)


def test_a_directory_gives_its_python_files_by_relative_path(tmp_path: Path) -> None:
    for path in ("a.py", "pkg/b.py", "pkg/deep/c.py", "notes.txt", "d.pyc"):
        put(tmp_path, path)
    assert names(tmp_path) == (["a.py", "pkg/b.py", "pkg/deep/c.py"], {})


def test_hidden_cached_and_virtual_environment_directories_are_left_out(tmp_path: Path) -> None:
    for path in ("a.py", ".git/hook.py", "__pycache__/b.py", "env/pyvenv.cfg", "env/lib/c.py"):
        put(tmp_path, path)
    assert names(tmp_path) == (["a.py"], {})


def test_a_linked_directory_is_not_followed_and_said(tmp_path: Path) -> None:
    put(tmp_path, "pkg/a.py")
    (tmp_path / "pkg" / "round").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path) == (["pkg/a.py"], {"pkg/round": "is a symbolic link to a directory: not followed"})


def test_links_to_nothing_and_to_themselves_are_said(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.py").symlink_to(tmp_path / "self.py")
    found, skipped = names(tmp_path)
    assert found == []
    assert set(skipped) == {"gone.py", "self.py"}
    assert all(why.startswith("cannot be read: ") for why in skipped.values())


def test_a_pipe_with_a_python_name_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    assert names(tmp_path) == ([], {"pipe.py": "is not a regular file"})


@pytest.mark.parametrize("name", [b"line\nbreak.py", b"\xff.py"])
def test_a_name_that_is_not_text_is_said_in_letters_that_print(tmp_path: Path, name: bytes) -> None:
    put(tmp_path, os.fsdecode(name))
    found, skipped = names(tmp_path)
    assert found == []
    assert all(path.isascii() and path.isprintable() for path in skipped)
    assert list(skipped.values()) == ["has a name that is not text"]


def test_a_single_file_is_a_target(tmp_path: Path) -> None:
    place = put(tmp_path, "one.py")
    target = find_target(str(place))
    assert (target.name, list(walk(target))) == ("one.py", [Found("one.py", place)])


def test_an_installed_package_is_found_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "loud_package/__init__.py", "raise SystemExit('it was imported')")
    put(tmp_path, "loud_package/inner/__init__.py")
    put(tmp_path, "loud_package/inner/leaf.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    target = find_target("loud_package.inner")
    assert sorted(item.path for item in walk(target)) == ["inner/__init__.py", "inner/leaf.py"]
    assert find_target("loud_package").name == "loud_package"
    assert [item.path for item in walk(find_target("loud_package.inner.leaf"))] == ["leaf.py"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_package_here", "no file, directory or installed package"),
        ("no/such/place", "no file or directory"),
        ("json.no_such_child", "no file, directory or installed package"),
        ("sys", "no Python source"),
        ("", "no file or directory"),
    ],
)
def test_a_target_that_cannot_be_reviewed_is_an_error_that_says_so(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=words):
        find_target(name)


def test_the_digest_is_of_the_text_that_was_read(tmp_path: Path) -> None:
    first = read(put(tmp_path, "a.py", "x = 1\n"))
    again = read(put(tmp_path, "b.py", "x = 1\n"))
    other = read(put(tmp_path, "c.py", "x = 2\n"))
    assert isinstance(first, Source)
    assert isinstance(again, Source)
    assert isinstance(other, Source)
    assert first.digest == again.digest != other.digest


def test_a_file_is_read_by_the_encoding_it_declares(tmp_path: Path) -> None:
    place = tmp_path / "a.py"
    place.write_bytes("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"))
    source = read(place)
    assert isinstance(source, Source)
    assert "é" in source.text


@pytest.mark.parametrize(
    "data",
    [
        b"x = '\xff'\n",
        b"# coding: no-such-code\n",
        b"# coding: ascii\nx = '\xe9'\n",
        b"# coding: undefined\nx = 1\n",
        b"# coding: unicode_escape\nx = '\\ud800'\n",  # decodes, but to what is no text
    ],
)
def test_a_file_that_is_not_text_is_left_out_with_its_reason(tmp_path: Path, data: bytes) -> None:
    place = tmp_path / "a.py"
    place.write_bytes(data)
    assert read(place) == Skipped("a.py", "is not text in the encoding it declares")


@pytest.mark.parametrize("text", ["#" * 1001, "#" + "é" * 200])
def test_a_file_too_large_for_a_task_is_left_out(tmp_path: Path, text: str) -> None:
    assert read(put(tmp_path, "a.py", text), limit=1000) == Skipped("a.py", "is larger than 1,000 bytes")


def test_a_file_that_vanished_is_left_out_with_its_reason(tmp_path: Path) -> None:
    assert read(tmp_path / "a.py") == Skipped("a.py", "cannot be read: No such file or directory")
