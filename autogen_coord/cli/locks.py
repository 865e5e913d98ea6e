"""``autogen-coord locks``: see who holds what and who waits for whom; take a lock from its holder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, NamedTuple

import typer

from ..core import lock_modes, lock_view, locks
from ..core.lock_view import CONVERTS, HELD, LockInfo, LockView, Obstacle, WaiterInfo
from ..core.locks import Evict
from ..core.store import Store
from ..errors import ConfigError, InvalidInputError, NotFoundError
from ..settings import Settings
from .nothing import complain_of_none, nothing
from .options import DebugOption, JsonOption, NamespaceOption, StoreOption, on_store
from .printing import amount, print_json, print_table, say, say_note, span

app = typer.Typer(help="See who holds what, and who waits for whom.", no_args_is_help=True, rich_markup_mode=None)

LimitOption = Annotated[int, typer.Option(min=1, help="At most so many.")]
PathArgument = Annotated[str, typer.Argument(metavar="PATH", help="The resource, such as repo/src/a.py.")]


class Branch(NamedTuple):
    """A line of a tree, and what hangs below it."""

    text: str
    twigs: Sequence[Branch] = ()


@app.command("list")
def list_locks(
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """List what is held and what is waited for, by path; at each path the holders first, then those who wait, in order."""

    async def work(there: Store, settings: Settings) -> tuple[list[LockInfo], bool, float, str]:
        infos, more = await lock_view.locks(there, settings, limit)
        return infos, more, await there.now(), "" if infos else await nothing(there, settings, "locks", "held or waited for")

    infos, more, now, none = on_store(store, namespace, work)
    if as_json:
        print_json([_object(info) for info in infos])
    elif not infos:
        complain_of_none(none)
    else:
        columns = "path", "mode", "state", "holder", "where", "since", "token", "lease"
        print_table(columns, [_line(info, now) for info in infos])
    if more:
        say_note(f"there are more than {limit:,}: --limit shows them")


@app.command("show")
def show(
    path: PathArgument,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Draw who holds a resource, what lies above it or below it, and who waits there for whom, and why."""

    async def work(there: Store, settings: Settings) -> tuple[LockView, float, str]:
        view = await lock_view.around(there, settings, path, limit)
        free = not view.holders and not view.waiters
        return view, await there.now(), await nothing(there, settings, "locks", f"at, above or below {path!r}") if free else ""

    view, now, none = on_store(store, namespace, work)
    if as_json:
        holders, waiters = list(map(_object, view.holders)), list(map(_waiter_object, view.waiters))
        print_json({"path": path, "holders": holders, "waiters": waiters, "more": view.more})
        return
    if none:
        complain_of_none(none)
        return
    for line in _drawn(_tree(view, now)):
        say(line)
    if view.more:
        say_note(f"there are more than {limit:,}: --limit shows them")


@app.command("release")
def release(
    path: PathArgument,
    lease: Annotated[
        str | None, typer.Option("--lease", metavar="ID", help="This one, where several hold it (see locks list).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Take a lock from its holder, who hears that it is lost: for a holder that will not give it back.

    It is freed with all other paths of its lease, and whoever is next is granted it.
    """

    async def work(there: Store, settings: Settings) -> list[str]:
        lock = _chosen(path, lease, await lock_view.leases_at(there, settings, path))
        paths = await lock_view.paths_of(there, lock) or [lock.path]
        if not yes:
            _confirm(lock, paths, await there.now())
        command = Evict(lock.lease, tuple(map(lock_modes.stored, paths)))
        if not await there.transact(lambda rows, now: locks.evict(rows, command, now, settings)):
            raise NotFoundError(f"lease {lock.lease} of {path!r} was given back meanwhile: nothing was taken")
        return [f"{each} was taken from {lock.who} ({lock.address})" for each in paths]

    for line in on_store(store, namespace, work):
        say(line)


# what is asked


def _chosen(path: str, lease: str | None, held: Sequence[LockInfo]) -> LockInfo:
    """Raises: NotFoundError, InvalidInputError when there are several."""
    found = [info for info in held if lease in (None, info.lease)]
    if not found and held:
        known = ", ".join(info.lease for info in held)
        raise NotFoundError(f"lease {lease} does not hold {path!r}: it is held by {known}")
    if not found:
        raise NotFoundError(f"{path!r} is not held: `autogen-coord locks show {path}` shows what is, above and below")
    if len(found) > 1:
        said = ", ".join(f"{info.lease} ({info.mode} by {info.who})" for info in found)
        raise InvalidInputError(f"{path!r} is held by {amount(len(found), 'lease')}, name one with --lease: {said}")
    return found[0]


def _confirm(lock: LockInfo, paths: Sequence[str], now: float) -> None:
    said = f"{lock.mode} on {', '.join(paths)} from {lock.who} ({lock.address}), who has held it for {span(now - lock.since)}"
    if not sys.stdin.isatty():
        raise ConfigError(f"release would take {said}: nobody is here to say yes, pass --yes")
    typer.confirm(f"Take {said}? It may be writing at this moment", abort=True)


# what is told


def _line(info: LockInfo, now: float) -> tuple[str, ...]:
    token = "" if info.token is None else str(info.token)
    return info.path, info.mode, _state(info), info.who, info.address, f"{span(now - info.since)} ago", token, info.lease


def _state(info: LockInfo) -> str:
    if not info.counts:
        return "dead"
    return "overdue" if info.session_state == "overdue" else info.state


def _tree(view: LockView, now: float) -> Branch:
    numbered = [_waiter(number, one, now) for number, one in enumerate(view.waiters, 1)]
    held = [Branch(_held(info, view.path, now)) for info in view.holders]
    parts = [("held", held or [Branch("by nobody")]), ("waited for", numbered)]
    return Branch(view.path, [Branch(name, twigs) for name, twigs in parts if twigs])


def _held(info: LockInfo, path: str, now: float) -> str:
    where = "" if info.path == path else f" on {info.path} ({'above' if path.startswith(info.path + '/') else 'below'})"
    since = span(now - info.since)
    return f"{info.mode}{where} by {_whose(info)} for {since}, lease {info.lease}, token {info.token}{_remains(info)}"


def _waiter(number: int, one: WaiterInfo, now: float) -> Branch:
    lock = one.lock
    verb = "would hold" if lock.state == CONVERTS else "wants"
    wants = ", ".join(f"{mode} on {path}" for path, mode in one.wants)
    twigs = [Branch(_why(each)) for each in one.behind] or [Branch(_free(lock))]
    if one.more:
        twigs.append(Branch("and more"))
    return Branch(f"{number}. {_whose(lock)} {verb} {wants}, for {span(now - lock.since)}{_remains(lock)}", twigs)


def _why(obstacle: Obstacle) -> str:
    """What stands in the way, in words."""
    lock = obstacle.lock
    where = f"{obstacle.place} it, on {lock.path}" if obstacle.place != "at" else f"on {lock.path}"
    if lock.state == HELD:
        return f"{lock.mode} is held {where}, by {_whose(lock)}{_remains(lock)}"
    return f"{lock.mode} is waited for {where}, by {_whose(lock)}, who came before{_remains(lock)}"


def _free(lock: LockInfo) -> str:
    if not lock.counts:
        return "nobody waits here any more: its session is over"
    return "nothing stands in its way that counts: it is granted when the dead session's remains are cleared"


def _whose(info: LockInfo) -> str:
    return f"{info.who} ({info.address})" if info.address else info.who


def _remains(info: LockInfo) -> str:
    if not info.counts:
        return " [remains of a dead session: they count for nothing, a live process clears them]"
    if info.session_state == "overdue":
        return " [its session is overdue: a live process will declare it dead]"
    return ""


def _drawn(tree: Branch, head: str = "", under: str = "") -> Iterator[str]:
    yield head + tree.text
    for place, twig in enumerate(tree.twigs, 1):
        last = place == len(tree.twigs)
        yield from _drawn(twig, under + ("└─ " if last else "├─ "), under + ("   " if last else "│  "))


def _object(info: LockInfo) -> dict[str, Any]:
    return asdict(info) | {"holder": info.who}


def _waiter_object(waiter: WaiterInfo) -> dict[str, Any]:
    return _object(waiter.lock) | {"wants": waiter.wants, "behind": list(map(_obstacle_object, waiter.behind)), "more": waiter.more}


def _obstacle_object(obstacle: Obstacle) -> dict[str, Any]:
    return _object(obstacle.lock) | {"place": obstacle.place, "wanted": obstacle.wanted}
