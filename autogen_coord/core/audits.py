"""A document whose every edit is on record: who changed what, when and why.

Beside the document at ``key`` each version has an entry at ``audit/<key>/#<version>``, written in one transaction with it: the
operations (RFC 6902) that made it of the version before, and the reason. Entries are not pruned with the history, so the trail goes
back to the beginning, and any version can be made again from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..errors import InvalidInputError, NotFoundError, VersionConflictError
from ..settings import Settings
from . import bodies, documents, patching, state, values
from .documents import Document
from .lock_handles import Lease
from .process import Process
from .requests import checked_name
from .state import Opened, Write, Written
from .state_edits import Put, Terms, checked_limit, checked_version, edits_of
from .state_policies import MergePolicy
from .store import Rows
from .tables import DOCUMENT
from .values import ABSENT

if TYPE_CHECKING:
    from .shared_state import State

ROOT: Final = "audit/"
WHOLE: Final = ""
"""The JSON pointer to the whole value."""
PAGE = 500
SHORT = 1_024
"""Bytes: operations that take more, and more than the value, are recorded as the whole value."""


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """One version: who wrote it, when, what changed, and why. ``at``: epoch seconds of the store's clock."""

    version: int
    actor: str | None
    at: float
    why: str | None
    """None for a version that was written past the trail, such as by a restore."""
    changes: list[dict[str, Any]] | None
    """RFC 6902 operations that make it of the version before, at the first one ``add`` of the whole; None as for ``why``."""
    cause: str | None
    """The task that it was written in."""


class AuditedDocument:
    """A document with its trail. `State.document` makes it. Write it by `edit` only: other writes are on record as gaps."""

    def __init__(self, state: State, process: Process, key: str) -> None:
        self._state, self._process = state, process
        self.key = values.checked_key(key)
        values.checked_key(_entry_key(self.key, 1))

    async def edit(
        self,
        change: Any,
        *,
        why: str,
        expected_version: int | None = None,
        actor: str | None = None,
        cause: str | None = None,
        fence: Lease | None = None,
        force: bool = False,
    ) -> Document:
        """Write the next version and its entry, both or none. Returns the version.

        ``change``: the new value; or a plain function from the value (None: there is none yet) to the new one, which is asked again
        with the newest one when another wrote meanwhile: so edits of many writers lose nothing. With ``expected_version`` (0: there
        must be none) it is tried once. An edit that changes nothing is on record too. The entry is subject to the limits of values:
        what is within a KiB, or three levels, of them is refused.

        Raises: VersionConflictError with ``expected_version``; InvalidInputError, PayloadTooLargeError, FencedError,
        LeaseLostError; what the function raises.
        """
        reason, expected = checked_name(why, "why"), checked_version(expected_version, self.key, lowest=0)
        if reason is None:
            raise InvalidInputError("why: a text is wanted, that is what the trail is for")
        while True:
            old, version = await self._now()
            if expected is not None and expected != version and not (expected == 0 and old is None):
                said = f"{self.key!r}: version {expected} was expected, but version {version} is there: read it and edit again"
                raise VersionConflictError(said, key=self.key, expected=expected, found=version)
            value, entry = self._made(old, change, reason)
            puts = Put(self.key, value, version), Put(_entry_key(self.key, version + 1), entry)
            terms: Terms = {"policy": MergePolicy.REJECT, "fence": fence, "force": force}
            try:
                return await self._state.write_document(record, edits_of(puts, terms, self._process.policy), actor, cause)
            except VersionConflictError:
                if expected is not None:
                    raise

    async def trail(self, *, limit: int = 100, before: int | None = None) -> list[TrailEntry]:
        """Who changed what, when and why, the newest first; ``before``: versions older than this.

        Versions that were written past the trail are in it as far as the history reaches. Raises: InvalidInputError.
        """
        limit, before = checked_limit(limit), checked_version(before, self.key)
        _, newest = await self._now()
        until = newest if before is None else min(before - 1, newest)
        versions = range(until, max(0, until - limit), -1)
        entries = dict(zip(versions, await self._entries(versions), strict=True))
        kept: dict[int, Document] = {}
        if None in entries.values():
            kept = {one.version: one for one in await self._state.history(self.key, limit=limit, before=until + 1)}
        return [
            _recorded(version, entry) if entry is not None else _unrecorded(kept[version])
            for version, entry in entries.items()
            if entry is not None or version in kept
        ]

    async def at(self, version: int) -> Any:
        """The value of a version: from the history, or made again from the trail.

        Raises: NotFoundError when it is a deletion, is yet to come, or cannot be made again, since it was written past the trail.
        """
        wanted = checked_version(version, self.key)
        if wanted is None:
            raise InvalidInputError(f"{self.key!r}: a version is wanted")
        try:
            found = await self._state.get(self.key, version=wanted)
        except NotFoundError as error:
            _, newest = await self._now()
            if wanted > newest:
                raise
            return await self._made_again(wanted, error)
        if found is None or found.deleted:
            raise NotFoundError(f"{self.key!r}: version {wanted} is a deletion", key=self.key, version=wanted)
        return found.value

    async def diff(self, a: int, b: int | None = None) -> list[dict[str, Any]]:
        """RFC 6902 operations that make version ``b`` (None: the newest) of version ``a``. Raises: as `at`."""
        if b is None:
            _, b = await self._now()
        return patching.diff(await self.at(a), await self.at(b or 1))

    def _made(self, old: Document | None, change: Any, why: str) -> tuple[Any, dict[str, Any]]:
        """The new value, and its entry."""
        before = None if old is None else values.copied(old.value)  # a function may change what it is given
        value = change(None if old is None else old.value) if callable(change) else change
        if value is None and callable(change):
            raise InvalidInputError(f"{self.key!r}: the function gave None: it must return the new value", key=self.key)
        policy = self._process.policy
        text = values.checked(value, self.key, policy.max_value, policy.max_depth)
        plain = bodies.decode(text)
        changes = [{"op": "add", "path": WHOLE, "value": plain}]
        if old is not None:
            parts = patching.diff(before, plain)
            if len(bodies.encode(parts)) <= max(len(text), SHORT):
                changes = parts
        return plain, {"why": why, "changes": changes}

    async def _now(self) -> tuple[Document | None, int]:
        """The document, and the version that is there, if only a deletion."""
        newest = await self._state.history(self.key, limit=1)
        if not newest:
            return None, 0
        return (None if newest[0].deleted else newest[0]), newest[0].version

    async def _entries(self, versions: Iterable[int]) -> list[Document | None]:
        return await self._state.get_many([_entry_key(self.key, version) for version in versions])

    async def _made_again(self, version: int, error: NotFoundError) -> Any:
        """A version from the operations that led to it."""
        value: Any = ABSENT
        for start in range(1, version + 1, PAGE):
            for entry in await self._entries(range(start, min(start + PAGE, version + 1))):
                value = _with(value, None if entry is None else entry.value["changes"])
        if value is ABSENT:
            raise error
        return value


def _with(value: Any, changes: list[dict[str, Any]] | None) -> Any:
    """The next version; ABSENT when it is not known, since its entry is missing, or what it was made from is not known."""
    if changes is None:
        return ABSENT
    if value is not ABSENT:
        return patching.apply(value, changes)
    whole = bool(changes) and changes[0]["path"] == WHOLE and changes[0]["op"] in ("add", "replace")
    return patching.apply(None, changes) if whole else ABSENT


def _entry_key(key: str, version: int) -> str:
    return f"{ROOT}{key}/#{version:012d}"


def record(rows: Rows, command: Write, now: float, policy: Settings) -> Written | Opened:
    """The rule: write a document and its entry, whose key has the version that the document gets. Raises: as `state.write`."""
    document, entry = command.edits
    version = documents.next_version(rows, rows.one(DOCUMENT, document.key))
    edits = document, entry._replace(key=_entry_key(document.key, version))
    return state.write(rows, command._replace(edits=edits), now, policy)


def _recorded(version: int, entry: Document) -> TrailEntry:
    return TrailEntry(version, entry.actor, entry.at, entry.value["why"], entry.value["changes"], entry.cause)


def _unrecorded(one: Document) -> TrailEntry:
    return TrailEntry(one.version, one.actor, one.at, None, None, one.cause)
