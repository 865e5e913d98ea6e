"""``coord.state.blocking``: documents for code that cannot await.

Each call blocks its thread until it is done, on connections of their own: so it works in the thread of the coordination's event
loop (which stands still meanwhile) and in any other, and what is written is on disk when the call returns. It never waits for the
loop; a read waits for nobody, a write for the writers before it, at most ``store_wait`` seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import StoreError
from . import documents, state
from .documents import Author, Document
from .ids import new_id
from .process import Process
from .state import Opened, Write
from .state_edits import Put, edits_of
from .state_policies import MergePolicy
from .store import Keys
from .tables import BLOB, DOCUMENT
from .values import checked_key

TRIES = 10


class BlockingState:
    """A little of `State`, without ``await``."""

    def __init__(self, process: Process, author: Callable[[], Author]) -> None:
        self._process = process
        self._author = author

    def get(self, key: str) -> Document | None:
        """A document as it is now; None when there is none. Raises: InvalidInputError, StoreError, ClosedError."""
        key, store = checked_key(key), self._process.store
        self._process.check()
        for _ in range(TRIES):
            ((row,),) = store.read_blocking(Keys(DOCUMENT, (key,)))
            if row is None or not documents.there(row):
                return None
            if row.value_blob is None:
                return Document.of(row, row.value)
            ((blob,),) = store.read_blocking(Keys(BLOB, (row.value_blob,)))
            if blob is not None:
                return Document.of(row, blob.body)
        raise StoreError(f"{key!r} is written faster than it can be read: try again", key=key)

    def put(self, key: str, value: Any) -> Document:
        """Write a document, whatever stood there; it is on disk when this returns.

        Raises: InvalidInputError, PayloadTooLargeError, FencedError, StoreError, ClosedError.
        """
        process = self._process
        process.check()
        edits = edits_of((Put(key, value),), {"policy": MergePolicy.REJECT}, process.policy)
        command = Write(new_id("c"), edits, self._author())
        written = process.store.transact_blocking(lambda rows, now: state.write(rows, command, now, process.policy))
        assert not isinstance(written, Opened)
        assert written.rows[0] is not None
        return Document.of(written.rows[0], written.texts[0])
