"""``autogen-coord state snapshot, snapshots, drop-snapshot, restore``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ..core import bodies
from ..core import snapshots as rules
from ..core.documents import Document
from ..core.inspect import stamp
from ..core.prefixes import checked_prefix
from ..core.state_reads import Snapshot, StateReads
from ..core.store import Store
from ..core.tables import SnapshotRow
from ..errors import ConfigError
from ..settings import Settings
from .documents import ActorOption, CauseOption, ForceOption, PrefixOption, on_documents, snapshot_of, user
from .nothing import complain_of_none, nothing
from .options import DebugOption, JsonOption, NamespaceOption, StoreOption
from .printing import amount, moment, print_json, print_table, say
from .state_writes import with_state

if TYPE_CHECKING:
    from ..core.shared_state import State

PAGE = 1_000
NAMED = 3
"""Keys that the question names."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The snapshot's name.")]


class Change(NamedTuple):
    """What a restore would do to a document."""

    key: str
    gone: bool
    """It was not there then: it is deleted."""


def snapshot(
    name: NameArgument,
    prefix: PrefixOption = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What it is for.")] = "",
    actor: ActorOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Name the present state of all documents, or of those at a prefix: to read it later, or to go back to it."""
    settings = Settings.load(store=store, namespace=namespace)

    async def work(state: State) -> Snapshot:
        return await state.snapshot(name, prefix, note=note, actor=actor or user())

    taken = with_state(settings, work)
    if as_json:
        print_json(asdict(taken))
    else:
        say(f"{taken.name}: {taken.prefix or 'everything'} as of event {taken.number}")


def snapshots(
    as_json: JsonOption = False, store: StoreOption = None, namespace: NamespaceOption = None, debug: DebugOption = False
) -> None:
    """List the snapshots, the oldest first."""

    async def work(reads: StateReads, there: Store, settings: Settings) -> tuple[list[Snapshot], str]:
        found = await reads.snapshots()
        return found, "" if found else await nothing(there, settings, "snapshots")

    found, none = on_documents(store, namespace, work)
    if as_json:
        print_json([asdict(one) for one in found])
    elif not found:
        complain_of_none(none)
    else:
        lines = [
            (one.name, one.prefix or "(everything)", stamp(one.at), one.actor or "", str(one.number), one.note) for one in found
        ]
        print_table(("name", "prefix", "when", "who", "event", "note"), lines)


def drop_snapshot(
    name: NameArgument, store: StoreOption = None, namespace: NamespaceOption = None, debug: DebugOption = False
) -> None:
    """Forget a snapshot. The documents stay; earlier versions that only it needed are pruned with later writes."""
    on_documents(store, namespace, lambda reads, there, settings: snapshot_of(reads, name))
    with_state(Settings.load(store=store, namespace=namespace), lambda state: state.drop_snapshot(name))
    say(f"{name}: dropped")


def restore(
    name: NameArgument,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="PREFIX", help="Only this key, and what lies below it. Default: all of it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: ForceOption = False,
    actor: ActorOption = None,
    cause: CauseOption = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Bring the documents of a snapshot back to what they were; says how many differ, and asks.

    Each that differs gets one more version, one made since is deleted: a change like any other, with its history.
    """

    async def look(reads: StateReads, there: Store, settings: Settings) -> tuple[Snapshot, list[Change], float]:
        taken = await snapshot_of(reads, name)
        place = taken.prefix if prefix is None else checked_prefix(prefix)
        rules.covering(SnapshotRow(**asdict(taken)), place)
        return taken, await _changes(reads, taken, place), await there.now()

    taken, changes, now = on_documents(store, namespace, look)
    if not changes:
        say(f"{name}: nothing differs, nothing was changed")
        return
    if not yes:
        _confirm(taken, changes, now)

    async def work(state: State) -> int:
        return await state.restore(name, prefix, force=force, actor=actor or user(), cause=cause)

    count = with_state(Settings.load(store=store, namespace=namespace), work)
    say(f"{name}: {amount(count, 'document')} restored")


async def _changes(reads: StateReads, taken: Snapshot, prefix: str) -> list[Change]:
    """What differs now from what it was."""
    found: list[Change] = []
    after = None
    while True:
        page = await reads.list(prefix, limit=PAGE, after=after, deleted=True)
        for one in page:
            if one.number > taken.number:
                was = await reads.get(one.key, snapshot=taken.name)
                if _text(one) != _text(was):
                    found.append(Change(one.key, was is None))
        if len(page) < PAGE:
            return found
        after = page[-1].key


def _text(one: Document | None) -> str | None:
    return None if one is None or one.deleted else bodies.encode(one.value)


def _confirm(taken: Snapshot, changes: list[Change], now: float) -> None:
    keys = ", ".join(one.key for one in changes[:NAMED]) + (", ..." if len(changes) > NAMED else "")
    gone = sum(one.gone for one in changes)
    made_since = f"; {amount(gone, 'document')} made since would be deleted" if gone else ""
    differ = "differs" if len(changes) == 1 else "differ"
    said = (
        f"{amount(len(changes), 'document')} {differ} from snapshot {taken.name!r} of {moment(taken.at, now)}: {keys}{made_since}"
    )
    if not sys.stdin.isatty():
        raise ConfigError(f"{said}; nobody is here to say yes, pass --yes")
    typer.confirm(f"{said}. Restore?", abort=True)
