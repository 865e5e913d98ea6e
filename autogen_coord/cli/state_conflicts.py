"""``autogen-coord state conflicts`` and ``decide``: stale writes that wait for a decision, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.cells import cell_len, chop_cells

from ..core.documents import Document
from ..core.open_conflicts import MINE, THEIRS, VALUE
from ..core.state_reads import Conflict, StateReads
from ..core.store import Keys, Store
from ..core.tables import CONFLICT
from ..core.values import ABSENT, pointer, same
from ..errors import NotFoundError
from ..settings import Settings
from .documents import (
    LIMIT_MOST,
    ActorOption,
    CauseOption,
    ExpectedOption,
    ForceOption,
    LimitOption,
    PrefixOption,
    TextOption,
    on_documents,
    read_value,
    user,
)
from .nothing import complain_of_none, nothing
from .options import DebugOption, JsonOption, NamespaceOption, StoreOption
from .printing import clean, print_json, print_table, say, say_note, span
from .state_writes import with_state

if TYPE_CHECKING:
    from ..core.shared_state import State

app = typer.Typer(help="List open conflicts; show one side by side.", rich_markup_mode=None)

WIDTHS = 16, 19, 19, 19
"""Columns: place, base, theirs, mine. With a mark before them, and gaps between, they fit a terminal of 80."""
LINES_MOST = 12
"""Of one cell; the rest is told by --json."""

ConflictArgument = Annotated[str, typer.Argument(metavar="ID", help="The conflict's id, as `state conflicts` lists it.")]


class Place(NamedTuple):
    """Where the three differ."""

    path: str
    base: Any
    theirs: Any
    mine: Any

    @property
    def clashes(self) -> bool:
        """Both sides changed it, and not alike."""
        return not (same(self.base, self.theirs) or same(self.base, self.mine) or same(self.theirs, self.mine))


@app.callback(invoke_without_command=True)
def conflicts(
    context: typer.Context,
    prefix: PrefixOption = "",
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """List open conflicts, by key; `conflicts show ID` shows one side by side."""
    if context.invoked_subcommand is not None:
        if prefix or as_json or store or namespace:  # they would be about another store than the one that is meant
            raise typer.BadParameter(f"options of `conflicts {context.invoked_subcommand}` go behind it")
        return

    async def work(reads: StateReads, there: Store, settings: Settings) -> tuple[list[Conflict], float, str]:
        found = await reads.conflicts(prefix, limit=limit)
        which = f"at or below {prefix!r}" if prefix else ""
        return found, await there.now(), "" if found else await nothing(there, settings, "open conflicts", which)

    found, now, none = on_documents(store, namespace, work)
    if as_json:
        print_json([asdict(one) for one in found])
    elif not found:
        complain_of_none(none)
    else:
        print_table(("id", "key", "kind", "expected", "found", "when", "who"), [_line(one, now) for one in found])
    if len(found) == limit:
        say_note(f"there may be more than {limit:,}: --limit shows them")


@app.command("show")
def show(
    id: ConflictArgument,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Show a conflict side by side: what it was made from, what is there, and what its writer wanted, where these differ."""

    async def work(reads: StateReads, there: Store, settings: Settings) -> tuple[Conflict, float]:
        return await _found(reads, there, id), await there.now()

    conflict, now = on_documents(store, namespace, work)
    if as_json:
        print_json(asdict(conflict))
        return
    for each in _drawn(conflict, now):
        say(each)


def decide(
    id: ConflictArgument,
    mine: Annotated[bool, typer.Option("--mine", help="Write what its writer wanted.")] = False,
    theirs: Annotated[bool, typer.Option("--theirs", help="Leave what is there.")] = False,
    value: Annotated[
        str | None,
        typer.Option("--value", metavar="VALUE", help="Write this: JSON; @FILE reads it from a file, - from standard input."),
    ] = None,
    text: TextOption = False,
    expected: ExpectedOption = None,
    force: ForceOption = False,
    actor: ActorOption = None,
    cause: CauseOption = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Settle an open conflict, with one of --mine, --theirs and --value.

    --expected N: only if the version that you looked at is still the newest.
    """
    if mine + theirs + (value is not None) != 1:
        raise typer.BadParameter("say how: one of --mine, --theirs and --value")
    how = MINE if mine else THEIRS if theirs else VALUE
    settings = Settings.load(store=store, namespace=namespace)
    given = ABSENT if value is None else read_value(value, id, settings.max_value, text)

    async def work(state: State) -> Document | None:
        return await state.decide(id, how, given, expected_version=expected, force=force, actor=actor or user(), cause=cause)

    document = with_state(settings, work)
    now = "there is no document" if document is None else f"{document.key} is at version {document.version}"
    say(f"{id}: decided ({how}), {now}")


# what is asked


async def _found(reads: StateReads, store: Store, id: str) -> Conflict:
    """Raises: NotFoundError."""
    ((row,),) = await store.read(Keys(CONFLICT, (id,)))
    found = [] if row is None else [one for one in await reads.conflicts(row.key, limit=LIMIT_MOST) if one.id == id]
    if not found:
        raise NotFoundError(f"there is no open conflict {id!r}: it was decided", conflict=id)
    return found[0]


# what is told


def _line(one: Conflict, now: float) -> tuple[str, ...]:
    return one.id, one.key, one.kind, str(one.expected), str(one.found), f"{span(max(0.0, now - one.at))} ago", one.actor or ""


def _drawn(one: Conflict, now: float) -> Iterator[str]:
    by = f" by {one.actor}" if one.actor else ""
    yield f"{one.key}: {one.kind}{by}, {span(max(0.0, now - one.at))} ago"
    yield f"it was made from {_version(one.expected)}, and found version {one.found}"
    places = list(_places(_side(one.base), _side(one.theirs), ABSENT if one.kind == "delete" else one.mine, ()))
    if not places:
        yield "what is there now is what its writer wanted"
    else:
        yield from _table(one, places)
    yield f"settle it: autogen-coord state decide {one.id} --mine, --theirs or --value VALUE"


def _version(number: int) -> str:
    return f"version {number}" if number else "nothing"


def _table(one: Conflict, places: list[Place]) -> Iterator[str]:
    lost = one.base is None and one.expected != 0
    base = "base (not kept)" if lost else f"base ({_short(one.base)})"
    theirs = f"theirs ({_short(one.theirs)})"
    yield ""
    yield from _cells("  ", ("place", base, theirs, "mine"))
    for place in places:
        was = "?" if lost else _shown(place.base)
        yield from _cells(
            "! " if place.clashes else "  ", (place.path or "(all of it)", was, _shown(place.theirs), _shown(place.mine))
        )
    yield ""
    if lost:
        yield "what it was made from is not kept any more, so nobody knows who changed what"
    elif any(place.clashes for place in places):
        yield "! both changed it, and not alike"


def _cells(mark: str, cells: tuple[str, ...]) -> Iterator[str]:
    """A row of the table, as many lines as its longest cell has."""
    columns = [_chopped(cell, width) for cell, width in zip(cells, WIDTHS, strict=True)]
    for number in range(max(map(len, columns))):
        parts = [column[number] if number < len(column) else "" for column in columns]
        padded = [part + " " * (width - cell_len(part)) for part, width in zip(parts, WIDTHS, strict=True)]
        yield ((mark if number == 0 else "  ") + " ".join(padded)).rstrip()


def _chopped(cell: str, width: int) -> list[str]:
    lines = chop_cells(clean(cell, width * LINES_MOST), width)
    return lines or [""]


def _short(document: Document | None) -> str:
    return "none" if document is None else f"version {document.version}"


def _side(document: Document | None) -> Any:
    return ABSENT if document is None else document.value


def _shown(value: Any) -> str:
    return "-" if value is ABSENT else json.dumps(value, ensure_ascii=False)


def _places(base: Any, theirs: Any, mine: Any, at: tuple[str, ...]) -> Iterator[Place]:
    """Where the three differ: field by field where a merge would go so."""
    if same(base, theirs) and same(base, mine):
        return
    if isinstance(theirs, dict) and isinstance(mine, dict) and (base is ABSENT or isinstance(base, dict)):
        was = {} if base is ABSENT else base
        for name in {**theirs, **mine, **was}:
            yield from _places(was.get(name, ABSENT), theirs.get(name, ABSENT), mine.get(name, ABSENT), (*at, name))
    else:
        yield Place(pointer(at), base, theirs, mine)
