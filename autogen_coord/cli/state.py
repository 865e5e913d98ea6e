"""``autogen-coord state``: read the shared state, as it is and as it was; and all its commands put together."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ..core.documents import Document
from ..core.inspect import stamp
from ..core.prefixes import checked_prefix
from ..core.state_reads import DocumentChange, StatePolicy, StateReads
from ..core.store import Store
from ..errors import InvalidInputError, NotFoundError
from ..settings import Settings
from . import state_conflicts, state_snapshots, state_writes
from .bodies import print_value
from .documents import (
    KeyArgument,
    LimitOption,
    PrefixOption,
    facts,
    line,
    moment,
    on_documents,
    snapshot_of,
    unknown,
    written,
)
from .events import ends
from .nothing import complain_of_none, nothing
from .options import DebugOption, JsonOption, NamespaceOption, StoreOption
from .printing import clean, print_json, print_table, say, say_note, span

app = typer.Typer(
    help="The shared state: documents, their history, snapshots and conflicts.", no_args_is_help=True, rich_markup_mode=None
)


def get(
    key: KeyArgument,
    version: Annotated[int | None, typer.Option("--version", metavar="N", min=1, help="That version.")] = None,
    at: Annotated[
        float | None,
        typer.Option("--at", parser=moment, metavar="TIME", help="As it was then: 2026-11-20T17:24:07Z, epoch seconds."),
    ] = None,
    snapshot: Annotated[str | None, typer.Option("--snapshot", metavar="NAME", help="As it is in that snapshot.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the document as JSON: its value, version, author and times.")
    ] = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Print a document's value, as it is now or as it was: a text as it is, anything else as JSON."""
    if sum(one is not None for one in (version, at, snapshot)) > 1:
        raise typer.BadParameter("--version, --at and --snapshot each name one state of the document: give one of them")

    async def work(reads: StateReads, there: Store, settings: Settings) -> Document:
        if snapshot is not None:
            await snapshot_of(reads, snapshot)
        document = await reads.get(key, version=version, at=at, snapshot=snapshot)
        if document is None or document.deleted:
            then = f"at {stamp(at)}" if at is not None else f"in snapshot {snapshot!r}" if snapshot is not None else ""
            raise await _missing(reads, there, key, then)
        return document

    document = on_documents(store, namespace, work)
    if as_json:
        print_json(facts(document))
    else:
        print_value(document.value, as_json=False)


async def _missing(reads: StateReads, store: Store, key: str, then: str) -> NotFoundError:
    """Why there is no value: it was deleted, was not there yet, or never was."""
    versions = await reads.history(key, limit=2)
    if not versions:
        return await unknown(store, key)
    if then:
        return NotFoundError(
            f"there was no document {key!r} {then}; `autogen-coord state history {key}` says what there was", key=key
        )
    deletions = [one for one in versions if one.deleted]
    if not deletions:
        return NotFoundError(f"{key!r} was written just now: try again", key=key)
    gone = deletions[0]
    hint = f"`autogen-coord state revert {key} {gone.version - 1}` brings it back" if len(versions) > 1 else "nothing of it is kept"
    return NotFoundError(f"{key!r}: version {gone.version} is a deletion, {written(gone, await store.now())}; {hint}", key=key)


def list_documents(
    prefix: PrefixOption = "",
    after: Annotated[str | None, typer.Option("--after", metavar="KEY", help="Those behind this key.")] = None,
    limit: LimitOption = 100,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also those that are deleted.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """List documents by key, with the beginning of their values; --json has them whole."""

    async def work(reads: StateReads, there: Store, settings: Settings) -> tuple[list[Document], bool, float, str]:
        found = await reads.list(prefix, limit=limit, after=after, deleted=deleted)
        more = len(found) == limit and bool(await reads.list(prefix, limit=1, after=found[-1].key, deleted=deleted))
        none = "" if found else await nothing(there, settings, "documents", _which(prefix, after))
        return found, more, await there.now(), none

    found, more, now, none = on_documents(store, namespace, work)
    if as_json:
        print_json([facts(one) for one in found])
    elif not found:
        complain_of_none(none)
    else:
        print_table(("key", "version", "when", "who", "value"), [_row(one, now) for one in found])
    if more:
        say_note(f"there are more than {limit:,}: --limit, or --after {found[-1].key}, shows them")


def history(
    key: KeyArgument,
    limit: LimitOption = 100,
    before: Annotated[int | None, typer.Option("--before", metavar="N", min=1, help="Those older than this version.")] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """List the versions of a document that are kept, the newest first: when each was written, by whom, and what for."""

    async def work(reads: StateReads, there: Store, settings: Settings) -> list[Document]:
        found = await reads.history(key, limit=limit, before=before)
        if not found and not await reads.history(key, limit=1):
            raise await unknown(there, key)
        return found

    found = on_documents(store, namespace, work)
    if as_json:
        print_json([facts(one) for one in found])
    elif not found:
        complain_of_none(f"no version of {key!r} older than {before} is kept")
    else:
        columns = "version", "kind", "from", "when", "who", "why"
        print_table(columns, [_version(one) for one in found])


def diff(
    key: KeyArgument,
    a: Annotated[int, typer.Argument(metavar="A", min=1, help="A version.")],
    b: Annotated[int | None, typer.Argument(metavar="B", min=1, help="Another. Default: the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print operations of RFC 6902, as `state patch` takes them.")] = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Show what version B has and A has not (+), and the other way round (-), with some lines around it."""

    async def work(reads: StateReads, there: Store, settings: Settings) -> tuple[list[Document], list[dict[str, Any]]]:
        one = await reads.get(key, version=a)
        other = await (reads.get(key) if b is None else reads.get(key, version=b))
        if one is None or other is None:
            raise InvalidInputError(f"{key!r} is deleted: name the version to compare with", key=key)
        return [one, other], await reads.diff(key, a, other.version)

    (one, other), operations = on_documents(store, namespace, work)
    if as_json:
        print_json(operations)
    elif not operations:
        say_note(f"{key!r}: versions {one.version} and {other.version} have the same value")
    else:
        for each in _changes(one, other):
            say(each)


def watch(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="A key, and what lies below it. Default: everything.")] = "",
    since: Annotated[
        int | None, typer.Option("--since", metavar="N", min=0, help="From behind this event on. Default: from now on.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many. Default: no limit.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Print every version as it is written, until Ctrl-C. The first figure is its event's: watch on from it with --since."""

    async def work(reads: StateReads, there: Store, settings: Settings) -> None:
        newest, _ = await ends(there)
        if since is not None and since > newest:
            say_note(f"nothing after {since} yet: the newest event is {newest}")
        printed = 0
        async for change in reads.watch(prefix, since=since):
            typer.echo(json.dumps(asdict(change)) if as_json else clean(_told(change)))  # echo flushes
            printed += 1
            if printed == limit:
                return

    on_documents(store, namespace, work)


def policies(
    as_json: JsonOption = False, store: StoreOption = None, namespace: NamespaceOption = None, debug: DebugOption = False
) -> None:
    """List which policy stale writes meet, by prefix; where none is set it is reject."""

    async def work(reads: StateReads, there: Store, settings: Settings) -> tuple[list[StatePolicy], str]:
        found = await reads.policies()
        return found, "" if found else await nothing(there, settings, "policies")

    found, none = on_documents(store, namespace, work)
    if as_json:
        print_json([asdict(one) for one in found])
    elif not found:
        complain_of_none(f"{none}; stale writes are refused (reject) unless a call says otherwise")
    else:
        columns = "prefix", "policy", "reducers"
        print_table(columns, [(one.prefix or "(everything)", one.policy, _reducers(one)) for one in found])


# what is told


def _which(prefix: str, after: str | None) -> str:
    where = f"at or below {checked_prefix(prefix)!r}" if prefix else ""
    return f"{where} behind {after!r}".strip() if after is not None else where


def _row(one: Document, now: float) -> tuple[str, ...]:
    return one.key, str(one.version), f"{span(max(0.0, now - one.at))} ago", one.actor or "", line(one.value, one.deleted)


def _version(one: Document) -> tuple[str, ...]:
    base = "" if one.base is None else str(one.base)
    return str(one.version), one.kind, base, stamp(one.at), one.actor or "", one.cause or ""


def _reducers(one: StatePolicy) -> str:
    return ", ".join(f"{field}={how}" for field, how in one.reducers.items())


def _changes(one: Document, other: Document) -> Iterator[str]:
    """The lines of two versions that differ, and three around each."""
    return difflib.unified_diff(_lines(one.value), _lines(other.value), _title(one), _title(other), lineterm="")


def _title(one: Document) -> str:
    return f"version {one.version}, {stamp(one.at)}" + (f" by {one.actor}" if one.actor else "")


def _lines(value: Any) -> list[str]:
    """A text has its own lines; anything else those of its JSON."""
    if isinstance(value, str):
        return value.splitlines()
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def _told(change: DocumentChange) -> str:
    value = "(not kept any more)" if change.pruned and not change.deleted else line(change.value, change.deleted)
    who = change.actor or "-"
    return f"{change.number:>8}  {stamp(change.at)}  {change.kind:<7}  {change.key}  version {change.version}  {who}  {value}"


for name, command in (
    ("get", get),
    ("list", list_documents),
    ("put", state_writes.put),
    ("patch", state_writes.patch),
    ("delete", state_writes.delete),
    ("history", history),
    ("diff", diff),
    ("revert", state_writes.revert),
    ("snapshot", state_snapshots.snapshot),
    ("snapshots", state_snapshots.snapshots),
    ("drop-snapshot", state_snapshots.drop_snapshot),
    ("restore", state_snapshots.restore),
    ("decide", state_conflicts.decide),
    ("policies", policies),
    ("set-policy", state_writes.set_policy),
    ("watch", watch),
):
    app.command(name)(command)
app.add_typer(state_conflicts.app, name="conflicts")
