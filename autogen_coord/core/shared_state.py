"""``coord.state``: the shared state as a program uses it. What it says yes to is on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

from ..errors import InvalidInputError
from . import open_conflicts, saved_states, snapshots, state, state_policies
from .audits import AuditedDocument
from .blocking import BlockingState
from .caching import CachedState, CachePolicy
from .calls import HANDLER
from .commit import Rule
from .documents import Author, Document
from .events import NUMBER
from .freshness import Freshness
from .ids import new_id
from .lock_handles import Lease
from .open_conflicts import MINE, THEIRS, VALUE, Decide
from .prefixes import checked_prefix, ranges
from .process import Process
from .progress import Progress
from .reducing import Reducer
from .requests import checked_name
from .saved_states import Stateful
from .series import Series
from .snapshots import Restore, Revert, Take
from .state import Edit, Opened, Write, Written
from .state_edits import (
    Delete,
    Patch,
    Put,
    StateChange,
    Terms,
    checked_label,
    checked_note,
    checked_version,
    edits_of,
    guard_of,
    policy_of,
)
from .state_policies import MergePolicy, SetPolicy
from .state_reads import Snapshot, StateReads
from .store import Keys
from .tables import CONFLICT, COUNTER, DOCUMENT, SNAPSHOT
from .threads import Summarise, Thread
from .values import ABSENT, checked, checked_key

PAGE = 1_000
TRIES = 10
"""How often documents are looked through anew, when too many were written meanwhile to restore all at once."""


class State(StateReads):
    """Versioned JSON documents that all processes of the namespace share.

    **Versions** have no gap: each write is one more, also when the value is the same, and behind a deletion. A document begins
    at 1; but once deleted ones were pruned (``keep_seconds`` after the deletion, when no snapshot needs them, no conflict of theirs
    is open and they have no fence), new ones begin above the versions of these: a version that somebody knows never means another
    document. ``expected_version`` is compare-and-set: 0 means that there must be none. When another version is there, the
    `MergePolicy` says what becomes of the write: of the call, else of the longest prefix that has one (`set_policy`), else REJECT.
    A version that is yet to come is refused under all of them.

    **Fences**: with ``fence=lease`` a write is made only if the lease stands in its own transaction, and holds the key exclusively
    where one of its paths covers it. Who writes so once fences the document: then writes without a lease, and those under an older
    lease that is on something else, are refused (FencedError), unless ``force=True``.

    **Who** and **what for**: ``actor`` is the session, or inside a handler its capability; ``cause`` its task.

    All that writes may raise, besides what stands there, InvalidInputError and PayloadTooLargeError (before anything is stored),
    VersionConflictError, OpenConflictError, FencedError, LeaseLostError, StoreError, ClosedError; and nothing is half written. Who
    is **cancelled** while it waits for a write does not know whether that was made: it may stand, whole. Read the document, or
    write again with ``expected_version``.
    """

    _process: Process

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self._freshness = Freshness(process)

    async def mind(self) -> None:
        """Keep caches fresh; a loop of the process."""
        await self._freshness.mind()

    # one document

    async def put(
        self,
        key: str,
        value: Any,
        *,
        expected_version: int | None = None,
        actor: str | None = None,
        cause: str | None = None,
        **terms: Unpack[Terms],
    ) -> Document:
        """Write a value: JSON, or a model or dataclass (read back with ``returns=``). Returns the version as it was stored.

        Under ``reduce`` the value is an update, folded into what is there by ``reducers`` (field, or JSON pointer, to `Reducer`).
        Under ``merge`` and ``reduce`` the stored value is another than the given one: see what is returned.

        Raises: VersionConflictError (both versions; for a failed merge its ``paths``), OpenConflictError.
        """
        return await self._apply(Put(key, value, expected_version), terms, actor, cause)

    async def patch(
        self,
        key: str,
        patch: Mapping[str, Any] | list[Any],
        *,
        expected_version: int | None = None,
        actor: str | None = None,
        cause: str | None = None,
        **terms: Unpack[Terms],
    ) -> Document:
        """Change parts of a value: an object is a merge patch (RFC 7396: null takes a field away), a list operations of RFC 6902.

        It is applied to what is there in the writing transaction; a stale one under ``merge`` and ``ask`` to the version that it
        was made for (when that is not kept any more it is refused, also under ``ask``: nobody knows what its writer wanted). Under
        ``reduce`` patches are patches, and a stale one is refused.

        Raises: NotFoundError where there is nothing to patch, InvalidInputError when it does not apply (the operation's number).
        """
        return await self._apply(Patch(key, patch, expected_version), terms, actor, cause)

    async def delete(
        self,
        key: str,
        *,
        expected_version: int | None = None,
        missing_ok: bool = False,
        actor: str | None = None,
        cause: str | None = None,
        **terms: Unpack[Terms],
    ) -> bool:
        """Delete a document; its history stays, and its next version counts on. False when there was none, with ``missing_ok``.

        Raises: NotFoundError.
        """
        (written,) = await self.put_many([Delete(key, expected_version, missing_ok)], actor=actor, cause=cause, **terms)
        return written is not None

    async def put_many(
        self,
        changes: Mapping[str, Any] | Iterable[StateChange],
        *,
        actor: str | None = None,
        cause: str | None = None,
        **terms: Unpack[Terms],
    ) -> list[Document | None]:
        """Several documents, all of them or none: a mapping of keys to values, or a list of `Put`, `Patch` and `Delete`.

        Up to 1,000, of each key one. Returns the new versions in their order; None where a missing one was deleted. When one of
        them becomes an open conflict (``ask``), none is written; when several do, each is kept (``conflicts``).
        """
        if isinstance(changes, Mapping):
            changes = [Put(key, value) for key, value in changes.items()]
        written = await self._write(edits_of(changes, terms, self._process.policy), self._author(actor, cause))
        return [
            None if row is None else Document.of(row, text) for row, text in zip(written.rows, written.texts, strict=True)
        ]  # fmt: skip

    async def _apply(self, change: StateChange, terms: Terms, actor: str | None, cause: str | None) -> Document:
        return await self.write_document(state.write, edits_of((change,), terms, self._process.policy), actor, cause)

    async def write_document(
        self, rule: Rule[Write, Written | Opened], edits: tuple[Edit, ...], actor: str | None, cause: str | None
    ) -> Document:
        """Have a rule write edits, the document's first; for what is made of documents. Returns the document."""
        written = await self._write(edits, self._author(actor, cause), rule)
        row = written.rows[0]
        assert row is not None
        return Document.of(row, written.texts[0])

    async def _write(self, edits: tuple[Edit, ...], by: Author, rule: Rule[Write, Written | Opened] = state.write) -> Written:
        process = self._process
        process.check()
        if not edits:
            return Written((), ())
        reads = Keys(DOCUMENT, [edit.key for edit in edits])
        answer = await process.line.put(rule, Write(new_id("c"), edits, by), (reads,))
        if isinstance(answer, Opened):
            raise open_conflicts.refusal(answer.conflicts)
        return answer

    async def _save_all(self, edits: Sequence[Edit]) -> Document:
        """Write edits of any number; returns the first."""
        written = await self._write(tuple(edits), self._author(None, None))
        assert written.rows[0] is not None
        return Document.of(written.rows[0], written.texts[0])

    def _author(self, actor: str | None, cause: str | None) -> Author:
        process, handling = self._process, HANDLER.get()
        if handling is not None and handling.process is process:
            by, why = handling.capability or process.session, handling.task
        else:
            by, why = process.session, None
        return Author(process.session, checked_name(actor, "actor") or by, checked_name(cause, "cause") or why)

    async def revert(
        self,
        key: str,
        version: int,
        *,
        expected_version: int | None = None,
        fence: Lease | None = None,
        force: bool = False,
        actor: str | None = None,
        cause: str | None = None,
    ) -> Document:
        """Write the value of an earlier version once more. ``expected_version`` is compare-and-set, whatever the policy.

        Raises: NotFoundError when the version is not kept; InvalidInputError when it is a deletion.
        """
        key, number = checked_key(key), checked_version(version, checked_key(key))
        if number is None:
            raise InvalidInputError(f"{key!r}: the version to go back to is wanted", key=key)
        expected, guard = checked_version(expected_version, key, lowest=0), guard_of(fence)
        self._process.check()
        command = Revert(key, number, self._author(actor, cause), expected, guard, force)
        row, text = await self._process.line.put(snapshots.revert, command, (Keys(DOCUMENT, (key,)),))
        return Document.of(row, text)

    # snapshots

    async def snapshot(self, name: str, prefix: str = "", *, note: str = "", actor: str | None = None) -> Snapshot:
        """Name the present state of a prefix and what lies below it. It costs nothing; every document keeps what it needs.

        Raises: ConflictError when the name is taken.
        """
        take = Take(checked_label(name, "snapshot"), checked_prefix(prefix), checked_note(note), self._author(actor, None))
        self._process.check()
        return Snapshot.of(await self._process.line.put(snapshots.take, take))

    async def drop_snapshot(self, name: str) -> None:
        """Forget a snapshot; what only it needed is pruned with later writes. Raises: NotFoundError."""
        self._process.check()
        await self._process.line.put(snapshots.drop, snapshots.Drop(checked_label(name, "snapshot")))

    async def restore(
        self, name: str, prefix: str | None = None, *, force: bool = False, actor: str | None = None, cause: str | None = None
    ) -> int:
        """Bring all documents of a snapshot, or those at a prefix in it, back to what they were. Returns how many were changed.

        Each that differs gets one more version; one made since is deleted. Up to 1,000 that were written since the snapshot are
        restored in one transaction, all or none; more in slices (``slice``) that each stand for themselves, and so are fewer, when
        ten times others wrote thousands of events while they were looked for. With slices, what others write meanwhile may stay,
        and an error leaves the slices before it done. Fenced documents need ``force``.

        Raises: NotFoundError for an unknown snapshot, InvalidInputError for a prefix that is not in it.
        """
        name = checked_label(name, "snapshot")
        ((row,),) = await self._read(Keys(SNAPSHOT, (name,)))
        taken = snapshots.found(row, name)
        place = taken.prefix if prefix is None else checked_prefix(prefix)
        snapshots.covering(taken, place)
        by = self._author(actor, cause)
        for _ in range(TRIES):
            seen, keys = await self._written_since(taken.number, place)
            if len(keys) > snapshots.AT_ONCE:
                break
            command = Restore(name, place, tuple(keys), seen, by, force)
            answer = await self._process.line.put(snapshots.restore, command, (Keys(DOCUMENT, keys),))
            if not answer.again:
                return answer.documents
        return await self._restore_in_slices(name, place, keys, by, force)

    async def _restore_in_slices(self, name: str, prefix: str, keys: list[str], by: Author, force: bool) -> int:
        count, size = 0, self._process.policy.slice
        for start in range(0, len(keys), size):
            command = Restore(name, prefix, tuple(keys[start : start + size]), None, by, force)
            count += (await self._process.line.put(snapshots.restore, command)).documents
        return count

    async def _written_since(self, number: int, prefix: str) -> tuple[int, list[str]]:
        """The newest event before the first look, and the documents of a prefix that were written behind ``number``."""
        ((counter,),) = await self._read(Keys(COUNTER, (NUMBER,)))
        keys: list[str] = []
        after: str | None = None
        while True:
            at, below = await self._read(*ranges(DOCUMENT, prefix, after, PAGE))
            rows = [*at, *below][:PAGE]
            keys += [row.key for row in rows if row.number > number]
            if len(rows) < PAGE:
                return (counter.value if counter else 0), keys
            after = rows[-1].key

    # what is made of documents

    @property
    def blocking(self) -> BlockingState:
        """Documents for code that cannot await."""
        return BlockingState(self._process, lambda: self._author(None, None))

    def series(self, key: str) -> Series:
        """Entries at a key that are only appended, each a document below it. Raises: InvalidInputError."""
        return Series(key, self, self._process, lambda: self._author(None, None))

    async def save(self, what: Stateful, name: str) -> Document:
        """Keep the state of an AutoGen runtime, team or agent: what its ``save_state`` gives, a document for each agent.

        All agents in one transaction, or none; agents that are gone since it was last saved under this ``name`` (one part of a
        key) go. Returns the manifest, ``saved/<name>``. Do not let agents work meanwhile: AutoGen gives no moment at which all
        of them stand still.

        Raises: what ``save_state`` raises; InvalidInputError and PayloadTooLargeError with the ``agent``; VersionConflictError.
        """
        return await saved_states.save(self, self._process.policy, self._save_all, what, name)

    async def load(self, what: Stateful, name: str, *, missing_ok: bool = False) -> bool:
        """Give what was saved back to a runtime, team or agent, by its ``load_state``: the very mapping that was saved.

        False when there is none, with ``missing_ok``. Raises: NotFoundError; what ``load_state`` raises.
        """
        return await saved_states.load(self, what, name, missing_ok)

    # policies and conflicts

    async def set_policy(
        self,
        prefix: str,
        policy: MergePolicy | str | None,
        reducers: Mapping[str, Reducer | str] | None = None,
        *,
        actor: str | None = None,
    ) -> None:
        """Say what becomes of stale writes at a prefix ("": everywhere) and below it, where no longer prefix has a policy.

        For all processes, from the next write on. ``policy`` None takes it away. REDUCE wants ``reducers``.

        Raises: NotFoundError when there is none to take away; InvalidInputError.
        """
        place = checked_prefix(prefix)
        name, checked_reducers = policy_of(policy, reducers)
        if name == state_policies.REDUCE and checked_reducers is None:
            raise InvalidInputError("policy reduce wants reducers=, such as {'count': 'add'}")
        self._process.check()
        command = SetPolicy(place, name, checked_reducers or {}, self._author(actor, None).actor)
        await self._process.line.put(state_policies.set_policy, command)

    async def decide(
        self,
        conflict: str,
        how: str,
        value: Any = ABSENT,
        *,
        expected_version: int | None = None,
        fence: Lease | None = None,
        force: bool = False,
        actor: str | None = None,
        cause: str | None = None,
    ) -> Document | None:
        """Settle an open conflict: ``"mine"`` writes what its writer wanted, ``"theirs"`` leaves what is there, ``"value"`` writes
        ``value``. Returns the document as it is now.

        ``expected_version``: the version that you looked at, so that nothing newer is written over. "mine" without it expects the
        version that the conflict was found at; ``force=True`` writes over whatever is there, also without a lease.

        Raises: NotFoundError when it was decided before; VersionConflictError when another version is there.
        """
        conflict = checked_label(conflict, "conflict")
        if how not in (MINE, THEIRS, VALUE):
            raise InvalidInputError(f"how={how!r:.50}: one of '{MINE}', '{THEIRS}' and '{VALUE}'")
        if (how == VALUE) != (value is not ABSENT):
            raise InvalidInputError(f"value= goes with '{VALUE}', and with nothing else: decide(conflict, 'value', value=...)")
        expected, policy = checked_version(expected_version, conflict, lowest=0), self._process.policy
        body = checked(value, conflict, policy.max_value, policy.max_depth) if how == VALUE else None
        self._process.check()
        command = Decide(conflict, how, body, self._author(actor, cause), expected, guard_of(fence), force)
        decided = await self._process.line.put(open_conflicts.decide, command, (Keys(CONFLICT, (conflict,)),))
        if decided.row is None or decided.text is None:
            return None
        return Document.of(decided.row, decided.text)

    # caches, and what is made of documents

    def cached(
        self,
        policy: CachePolicy | str = CachePolicy.IMMEDIATE,
        *,
        prefix: str = "",
        size: int = 1024,
        ttl: float | None = None,
        every: float | None = None,
    ) -> CachedState:
        """A cache in front of the store: ``async with coord.state.cached("immediate") as cache: await cache.get(key)``.

        For documents at ``prefix`` and below it; ``size``: entries. How stale a read may be is the policy's: ``ttl`` (eventual, 5
        seconds unless said otherwise), ``every`` (periodic, 1 second). What this process wrote is read back under all of them.

        Raises: InvalidInputError.
        """
        return CachedState(self._process, self._freshness, policy, prefix, size, ttl, every)

    def document(self, key: str) -> AuditedDocument:
        """A document with its audit trail: who changed what, when and why. Raises: InvalidInputError."""
        return AuditedDocument(self, self._process, key)

    def progress(self, name: str) -> Progress:
        """How far a workflow is: its stages, iterations and quality scores. Raises: InvalidInputError."""
        return Progress(self, self._process, self._author, name)

    def thread(self, name: str, *, keep: int | None = None, summarise: Summarise | None = None) -> Thread:
        """A conversation that is only appended to.

        ``keep``: how many of its last messages are kept (None: all). ``summarise``: a function, sync or async, of the old summary
        and the messages that leave; they are folded into a summary instead of being left out. Give both to all who append.

        Raises: InvalidInputError.
        """
        return Thread(self, self._process, self._author, name, keep, summarise)
