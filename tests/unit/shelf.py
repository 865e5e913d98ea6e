"""Documents by short names, for the tests of their rules."""

from __future__ import annotations

import itertools
from typing import Any

from autogen_coord.core import bodies, open_conflicts, snapshots, state, state_policies
from autogen_coord.core.documents import DELETE, PATCH, PUT, Author, there
from autogen_coord.core.locks import Granted, Guard
from autogen_coord.core.open_conflicts import Decide, Decided
from autogen_coord.core.snapshots import Drop, Restore, Restored, Revert, Take
from autogen_coord.core.state import Edit, Opened, Write, Written
from autogen_coord.core.state_policies import SetPolicy
from autogen_coord.core.store import Range
from autogen_coord.core.tables import BLOB, CONFLICT, DOCUMENT, DOCUMENT_CHANGE, EVENT, ConflictRow, DocumentRow
from tests.conftest import Ground

BY = Author("s1", "ann", "t1")


class Shelf:
    """``put("a", 1)`` and what becomes of it."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._ids = itertools.count(1)

    def write(self, *edits: Edit) -> Written | Opened:
        return self.ground.do(state.write, Write(f"w{next(self._ids)}", edits, BY))

    def one(self, edit: Edit) -> DocumentRow:
        answer = self.write(edit)
        assert isinstance(answer, Written)
        assert answer.rows[0] is not None
        return answer.rows[0]

    def put(self, key: str, value: Any, expected: int | None = None, **more: Any) -> DocumentRow:
        return self.one(edit(key, value, expected, **more))

    def patch(self, key: str, patch: Any, expected: int | None = None, **more: Any) -> DocumentRow:
        return self.one(Edit(key, PATCH, bodies.encode(patch), expected, **more))

    def delete(self, key: str, expected: int | None = None, **more: Any) -> DocumentRow:
        return self.one(Edit(key, DELETE, None, expected, **more))

    def asks(self, key: str, value: Any, expected: int, **more: Any) -> ConflictRow:
        answer = self.write(edit(key, value, expected, **{"policy": "ask", **more}))
        assert isinstance(answer, Opened)
        return answer.conflicts[0]

    def decide(self, id: str, how: str, value: Any = None, **more: Any) -> Decided:
        body = bodies.encode(value) if how == "value" else None
        return self.ground.do(open_conflicts.decide, Decide(id, how, body, BY, **more))

    def take(self, name: str, prefix: str = "") -> int:
        return self.ground.do(snapshots.take, Take(name, prefix, "", BY)).number

    def drop(self, name: str) -> None:
        self.ground.do(snapshots.drop, Drop(name))

    def restore(self, name: str, *keys: str, prefix: str = "", seen: int | None = None, force: bool = False) -> Restored:
        return self.ground.do(snapshots.restore, Restore(name, prefix, keys, seen, BY, force))

    def revert(self, key: str, version: int, **more: Any) -> DocumentRow:
        return self.ground.do(snapshots.revert, Revert(key, version, BY, **more))[0]

    def policy(self, prefix: str, policy: str | None, **reducers: str) -> None:
        self.ground.do(state_policies.set_policy, SetPolicy(prefix, policy, reducers))

    def guard(self, granted: Granted, session: str = "s1") -> Guard:
        return Guard(granted.id, session, granted.token, tuple(want.path for want in granted.wants))

    # looking

    def row(self, key: str) -> DocumentRow:
        row = self.ground.get(DOCUMENT, key)
        assert isinstance(row, DocumentRow), f"no document {key}"
        return row

    def value(self, key: str) -> Any:
        row = self.ground.get(DOCUMENT, key)
        return self._value(row) if there(row) else None

    def _value(self, row: Any) -> Any:
        return bodies.decode(row.value if row.value_blob is None else self.ground.get(BLOB, row.value_blob).body)

    def kept(self, key: str) -> list[int]:
        """The earlier versions that are kept."""
        return [row.version for row in self.ground.scan(Range(DOCUMENT_CHANGE, "by_document", (key,)))]

    @property
    def conflicts(self) -> list[str]:
        return [row.id for row in self.ground.scan(Range(CONFLICT, "key"))]

    @property
    def blobs(self) -> dict[str, int]:
        return {row.hash: row.refs for row in self.ground.scan(Range(BLOB, "key"))}

    def told(self, key: str) -> list[tuple[str, Any]]:
        rows = self.ground.scan(Range(EVENT, "key"))
        return [(row.kind, bodies.decode(row.data or "{}")) for row in rows if row.subject == key]


def edit(key: str, value: Any, expected: int | None = None, **more: Any) -> Edit:
    return Edit(key, PUT, bodies.encode(value), expected, **more)
