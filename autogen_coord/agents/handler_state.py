"""``ctx.state``: the shared state in a handler. What it writes is committed with its outcome, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Unpack

from ..core import bodies, claims
from ..core.documents import Author, Document
from ..core.drafts import Draft, draft
from ..core.ids import new_id
from ..core.lock_handles import Lease
from ..core.lock_requests import Claim
from ..core.locks import Release
from ..core.prefixes import checked_prefix, within
from ..core.previews import preview
from ..core.process import Process
from ..core.schemas import decoder
from ..core.state import MOST, Edit, Write
from ..core.state_edits import Delete, Patch, Put, StateChange, Terms, checked_limit, edits_of
from ..core.state_policies import POLICIES
from ..core.state_reads import StateReads
from ..core.store import Keys, Rows
from ..core.tables import COUNTER, DOCUMENT
from ..core.values import checked_key
from ..errors import InvalidInputError


class HandlerState:
    """The shared state as a handler sees it: what is stored, and over it what the handler itself has written.

    **Writes** take the options of `State`'s, are checked at once against what stands there, and are kept. When the handler has
    returned they are written with its outcome, in one transaction, each document's as one version; if the attempt ends otherwise,
    nothing is. They are decided then: what another has written meanwhile (``expected_version``), or a lease that was lost, fails
    the attempt, which is tried again. Under ``ask`` the conflict is kept, nothing else is written, and the task fails for good.

    **Reads** show a document that the handler wrote as it was then, with the ``version`` that it will have if nobody else writes
    first; it has no ``number`` and no times yet (0). Other documents are read as they are at that moment.

    A lock of this handler that a write names (``fence=lease``) is kept when its block ends, and given back by that transaction.
    """

    def __init__(self, process: Process, claim: Claim, capability: str) -> None:
        self._process = process
        self._claim = claim
        self._by = Author(claim.session, capability, claim.task)
        self._reads = StateReads(process)
        self._drafts: dict[str, Draft] = {}
        self._leases: dict[str, Lease] = {}
        self._closed = False

    # reading

    async def get(
        self,
        key: str,
        *,
        version: int | None = None,
        at: datetime | float | None = None,
        snapshot: str | None = None,
        returns: Any = None,
    ) -> Document | None:
        """`State.get`; ``version``, ``at`` and ``snapshot`` look at what is stored only.

        Raises: what `State.get` raises.
        """
        known = self._drafts.get(checked_key(key))
        if known is None or any(one is not None for one in (version, at, snapshot)):
            return await self._reads.get(key, version=version, at=at, snapshot=snapshot, returns=returns)
        return _shown(known, returns)

    async def value(self, key: str, default: Any = None) -> Any:
        """The value of a document, or ``default`` when there is none. Raises: InvalidInputError."""
        document = await self.get(key)
        return default if document is None else document.value

    async def get_many(self, keys: Iterable[str]) -> list[Document | None]:
        """Several documents, in the order of the keys; None where there is none. Raises: InvalidInputError."""
        wanted = list(keys)
        found = await self._reads.get_many(wanted)
        return [_shown(self._drafts[key]) if key in self._drafts else one for key, one in zip(wanted, found, strict=True)]

    async def list(self, prefix: str = "", *, limit: int = 100, after: str | None = None, deleted: bool = False) -> list[Document]:
        """Documents at a prefix and below it, by key, with the handler's own and without those that it deleted; else `State.list`.

        Raises: InvalidInputError.
        """
        prefix, limit = checked_prefix(prefix), checked_limit(limit)
        found: list_of[Document] = []
        while True:
            page = await self._reads.list(prefix, limit=limit, after=after, deleted=deleted)
            last = page[-1].key if len(page) == limit else None
            found += self._overlaid(page, prefix, after, last, deleted)
            if last is None or len(found) >= limit:
                return found[:limit]
            after = last

    def _overlaid(
        self, page: list_of[Document], prefix: str, after: str | None, last: str | None, deleted: bool
    ) -> list_of[Document]:
        """A page of what is stored, up to its ``last`` key, with the drafts in it."""
        shown = {document.key: document for document in page if document.key not in self._drafts}
        for key, known in self._drafts.items():
            on_it = within(key, prefix) and (after is None or key > after) and (last is None or key <= last)
            if on_it and (document := _shown(known, deleted=deleted)) is not None:
                shown[key] = document
        return [shown[key] for key in sorted(shown)]

    # writing

    async def put(self, key: str, value: Any, *, expected_version: int | None = None, **terms: Unpack[Terms]) -> Document:
        """`State.put`, with the outcome. Returns what will be written if nobody else does first. Raises: as there, but for ask."""
        (document,) = await self.put_many([Put(key, value, expected_version)], **terms)
        assert document is not None
        return document

    async def patch(
        self, key: str, patch: Mapping[str, Any] | list_of[Any], *, expected_version: int | None = None, **terms: Unpack[Terms]
    ) -> Document:
        """`State.patch`, with the outcome, of what stands there then. Returns and raises: as `put`; NotFoundError."""
        (document,) = await self.put_many([Patch(key, patch, expected_version)], **terms)
        assert document is not None
        return document

    async def delete(
        self, key: str, *, expected_version: int | None = None, missing_ok: bool = False, **terms: Unpack[Terms]
    ) -> bool:
        """`State.delete`, with the outcome. False when there is none now, with ``missing_ok``. Raises: as `put`; NotFoundError."""
        there = await self.get(key) is not None
        await self.put_many([Delete(key, expected_version, missing_ok)], **terms)
        return there

    async def put_many(
        self, changes: Mapping[str, Any] | Iterable[StateChange], **terms: Unpack[Terms]
    ) -> list_of[Document | None]:
        """`State.put_many`, with the outcome: if one of them is refused, none is kept. A handler changes up to 1,000 documents.

        Raises: as `put`.
        """
        if isinstance(changes, Mapping):
            changes = [Put(key, value) for key, value in changes.items()]
        edits = edits_of(changes, terms, self._process.policy)
        fence = terms.get("fence")
        keys = [edit.key for edit in edits]
        if len(set(keys)) < len(keys):
            raise InvalidInputError("a document is changed twice in one write: make one change of both")
        if len(self._drafts.keys() | set(keys)) > MOST:
            raise InvalidInputError(f"a handler changes at most {MOST:,} documents: write some of them with coord.state, at once")
        drafts = await self._drawn(edits)
        # no await since they were drawn over those that stand: what others of this handler wrote meanwhile is in them
        if self._closed:
            raise claims.stale(self._claim.task, self._claim.attempt)
        self._drafts.update(zip(keys, drafts, strict=True))
        if fence is not None and fence.claim == self._claim:
            fence.is_needed = True
            self._leases[fence.id] = fence
        return [_shown(one, deleted=True) for one in drafts]

    async def _drawn(self, edits: tuple[Edit, ...]) -> list_of[Draft]:
        policy = self._process.policy

        def act(rows: Rows) -> list_of[Draft]:
            return [draft(rows, edit, self._drafts.get(edit.key), self._by, policy) for edit in edits]

        unknown = [edit.key for edit in edits if edit.key not in self._drafts]
        return await preview(self._process.store, act, Keys(DOCUMENT, unknown), Keys(COUNTER, (POLICIES,)))

    # the end

    def close(self) -> None:
        """The handler has returned: nothing is added any more."""
        self._closed = True

    def written(self, more: Edit | None = None) -> Write:
        """All that was written, and an edit that goes before whatever the handler wrote there. Leases as they are now."""
        edits = {key: self._of_now(known.edit) for key, known in self._drafts.items()}
        if more is not None:
            edits[more.key] = more
        return Write(new_id("c"), tuple(edits.values()), self._by)

    def _of_now(self, edit: Edit) -> Edit:
        """A lease may have been converted since, and has another token."""
        lease = None if edit.fence is None else self._leases.get(edit.fence.id)
        return edit if lease is None else edit._replace(fence=lease.guard)

    def releases(self) -> tuple[Release, ...]:
        """The leases of this handler that its writes name."""
        return tuple(Release(lease.id, lease.session, lease.stored_paths) for lease in self._leases.values())


list_of = list
"""`list`, where a method has that name."""


def _shown(known: Draft, returns: Any = None, deleted: bool = False) -> Document | None:
    row = known.row
    if row is None or (row.value is None and not deleted):
        return None
    return Document.of(row, row.value, bodies.decode if returns is None else decoder(returns))
