"""Which files are reviewed, and what they hold.

A target is a directory, one file, or the name of an importable package (found without running any of its code). Left out without a
word: hidden directories, ``__pycache__``, virtual environments. Left out with a line in the report (`Skipped`): whatever looks like
Python source and cannot be read as such.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import stat
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from ..errors import InvalidInputError

MAX_SOURCE = 1_000_000
"""Bytes that a file may have, and that its text may have as JSON."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is reviewed: files of ``roots`` are named relative to ``base``; ``name`` stands in the report."""

    name: str
    base: Path
    roots: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that looks like Python source. ``path`` is relative, with slashes on every platform."""

    path: str
    place: Path


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was read, once: ``digest`` is the SHA-256 of ``text`` in UTF-8."""

    path: str
    text: str
    digest: str


@dataclass(frozen=True, slots=True, order=True)
class Skipped:
    """A file or directory that was not reviewed, and why."""

    path: str
    why: str


def find_target(name: str) -> Target:
    """The directory, file or importable package that ``name`` names, looked for in this order.

    Raises: InvalidInputError that says what was looked for.
    """
    path = Path(name)
    if name and path.is_dir():
        root = path.resolve()
        return Target(_printable(root.name) or "root", root, (root,))
    if path.is_file():
        place = path.absolute()
        return Target(_printable(place.name), place.parent, (place,))
    if all(part.isidentifier() for part in name.split(".")):
        return _find_package(name)
    raise InvalidInputError(f"there is no file or directory {name!r}; give a path, or the name of an installed package")


def walk(target: Target) -> Iterator[Found | Skipped]:
    """Every ``.py`` file of the target, and what had to be left out; directories are read as they come, in no given order."""
    for root in target.roots:
        if root.is_dir():
            yield from _walk(root, target.base)
        else:
            yield _look(root, target.base)


def read_source(found: Found, limit: int = MAX_SOURCE) -> Source | Skipped:
    """Read a file by the encoding that it declares. ``limit``: bytes of the file, and of its text as JSON."""
    try:
        with found.place.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        return Skipped(found.path, _words(error))
    if len(data) > limit:
        return Skipped(found.path, _too_large(limit))
    try:
        text = _decode(data)
        digest = hashlib.sha256(text.encode()).hexdigest()  # some encodings decode to what is no text: lone surrogates
    except (SyntaxError, ValueError, LookupError):
        return Skipped(found.path, "is not text in the encoding it declares")
    if len(json.dumps(text)) > limit:
        return Skipped(found.path, _too_large(limit))
    return Source(found.path, text, digest)


def _find_package(name: str) -> Target:
    spec = _find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        roots = tuple(Path(place).resolve() for place in spec.submodule_search_locations)
        if roots and all(root.is_dir() for root in roots):
            return Target(name, roots[0].parent, roots[:1]) if len(roots) == 1 else _namespace(name, roots)
    if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
        place = Path(spec.origin).resolve()
        return Target(name, place.parent, (place,))
    if spec is None:
        raise InvalidInputError(
            f"there is no file, directory or installed package {name!r}; `python -m pip list` shows what is there"
        )
    raise InvalidInputError(f"package {name!r} has no Python source to review")


def _namespace(name: str, roots: tuple[Path, ...]) -> Target:
    return Target(name, Path(os.path.commonpath(roots)), roots)


def _find_spec(name: str) -> ModuleSpec | None:
    """As `importlib.util.find_spec`, but parents of a dotted name are not imported."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", list(spec.submodule_search_locations))
    return spec


def _walk(root: Path, base: Path) -> Iterator[Found | Skipped]:
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                children = list(entries)
        except OSError as error:
            yield Skipped(_relative(directory, base), _words(error))
            continue
        if directory != root and any(child.name == "pyvenv.cfg" for child in children):
            continue
        for child in children:
            place, is_directory = Path(child.path), _is_directory(child)
            if child.name.endswith(".py") and not is_directory:
                yield _look(place, base)
            elif is_directory and not child.name.startswith(".") and child.name != "__pycache__":
                if child.is_symlink():  # followed, it could lead in a circle; what is behind it and in the tree is found anyway
                    yield Skipped(_relative(place, base), "is a symbolic link to a directory: not followed")
                else:
                    pending.append(place)


def _is_directory(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _look(place: Path, base: Path) -> Found | Skipped:
    """Nothing that would block or fail later: a pipe named ``x.py`` is not opened."""
    path = _relative(place, base)
    if path != place.relative_to(base).as_posix():
        return Skipped(path, "has a name that is not text")
    try:
        status = place.stat()
    except OSError as error:
        return Skipped(path, _words(error))
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path, "is not a regular file")
    return Found(path, place)


def _relative(place: Path, base: Path) -> str:
    return _printable(place.relative_to(base).as_posix())


def _printable(name: str) -> str:
    """A name that can be stored and printed, whatever bytes the file system has (lone surrogates are not printable)."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _decode(data: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return data.decode(encoding)


def _words(error: OSError) -> str:
    return f"cannot be read: {error.strerror or type(error).__name__}"


def _too_large(limit: int) -> str:
    return f"is larger than {limit:,} bytes"
