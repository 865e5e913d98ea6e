"""What a review keeps in the store, as documents of the shared state, so that the next can say what changed.

``review/<project>/files/<path>`` is what was found in a file, ``review/<project>/last`` the last finished run. A run finishes in
one moment: with the transaction that writes ``last``, behind its report and all else. What was written later than ``last`` is of a
run that was killed before that moment; the earlier version, from the document's history, is what the last finished run said. So a
run that is killed and repeated has the same predecessor, and says the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from autogen_coord import Coordination, Delete, Document, Lease, MergePolicy, Put

from .answers import Message
from .changes import FileFindings, LastRun, Past
from .files import Target

PAGE = 1_000
SLICE = 250
"""Documents that are written at once. A run of few changes is one transaction."""
LONG_KEY, DEEP_KEY = 300, 24
"""Letters and parts of a path above which its hash stands in the key."""
ACTOR = "review"

LEAST_VALUE, LEAST_DEPTH = 32 << 10, 4
"""What a store must take for findings to be kept: bytes of JSON, and its levels."""

M = TypeVar("M", bound=Message)


def project_of(target: Target) -> str:
    """What names a project in the store: the same for the same place, and another for each other place."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "-", target.name)[:60]
    return f"{name}-{hashlib.sha256(root_of(target).encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"


def root_of(target: Target) -> str:
    """Where it lies, links resolved."""
    return "\n".join(sorted(ascii(str(Path(root).resolve()))[1:-1] for root in target.roots))


class Ledger:
    """The documents of one project, between `load` and `finish`: both within one block of a lock on `path`."""

    def __init__(self, coord: Coordination, project: str) -> None:
        self._state = coord.state
        self.path = f"review/{project}"
        """Its documents lie below it, and who writes them holds it."""
        self._there: dict[str, Document] = {}

    async def load(self) -> Past | None:
        """The last finished run; None when there was none, or it cannot be read any more. Raises: StoreError."""
        self._there = {document.key: document async for document in self._documents()}
        last = await self._state.get(f"{self.path}/last")
        run = None if last is None else _read(last, LastRun)
        if last is None or run is None:
            return None
        files: dict[str, FileFindings | None] = {}
        for document in self._there.values():
            was = await self._as_of(document, last.number)
            if was.number > last.number:  # the version of then is pruned, or there was none
                if was.version > 1:
                    files[self._path_of(was)] = None
            elif not was.deleted:
                files[self._path_of(was)] = _read(was, FileFindings)
        return Past(run=run, at=last.at, files=files)

    async def finish(self, run: LastRun, files: Sequence[FileFindings], keep: Sequence[str], lease: Lease) -> None:
        """Write what is another than it was, delete what is gone but for the paths in ``keep``; at last, that this run is finished.

        Raises: LeaseLostError when another has held the lock since; StoreError.
        """
        wanted = {self._key(one.path): one.model_dump() for one in files}
        kept = {*wanted, *map(self._key, keep)}
        puts: list[Put | Delete] = [Put(key, value) for key, value in wanted.items() if self._value(key) != value]
        gone = [Delete(key, missing_ok=True) for key, one in self._there.items() if not one.deleted and key not in kept]
        changes = iter([*puts, *gone, Put(f"{self.path}/last", run.model_dump())])
        while batch := list(islice(changes, SLICE)):
            await self._state.put_many(batch, fence=lease, policy=MergePolicy.LAST_WRITER, actor=ACTOR)

    async def _documents(self) -> AsyncIterator[Document]:
        after: str | None = None
        while page := await self._state.list(f"{self.path}/files", limit=PAGE, after=after, deleted=True):
            for document in page:
                yield document
            after = page[-1].key

    async def _as_of(self, document: Document, number: int) -> Document:
        """The version that was there then, else the oldest that is kept."""
        before = document.version
        while document.number > number:
            earlier = await self._state.history(document.key, before=before)
            if not earlier:
                break
            document = next((one for one in earlier if one.number <= number), earlier[-1])
            before = document.version
        return document

    def _value(self, key: str) -> Any:
        document = self._there.get(key)
        return None if document is None else document.value

    def _key(self, path: str) -> str:
        """A path as part of a key, by its hash where it does not fit."""
        if len(path) > LONG_KEY or path.count("/") > DEEP_KEY:
            return f"{self.path}/files/{hashlib.sha256(path.encode()).hexdigest()}"
        return f"{self.path}/files/{path}"

    def _path_of(self, document: Document) -> str:
        findings = _read(document, FileFindings)
        return document.key.removeprefix(f"{self.path}/files/") if findings is None else findings.path


def _read(document: Document, kind: type[M]) -> M | None:
    """None for what another than this version wrote."""
    try:
        return kind.model_validate(document.value)
    except ValidationError:
        return None
