"""``autogen-coord doctor``: is everything in order, and if not, what to do."""

from __future__ import annotations

import asyncio
import platform
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from .. import __version__
from ..core import inspect
from ..core.store import Store
from ..core.tables import LIVE, READY
from ..errors import ConfigError, CoordError, StoreError
from ..settings import Settings
from ..stores.sqlite import checkup
from ..stores.sqlite.checkup import Checkup, Counts, Place
from ..stores.sqlite.files import check as check_path
from .options import DebugOption, JsonOption, NamespaceOption, StoreOption, file_of, opened
from .printing import amount, print_json, print_table, say, say_styled, size, span

PACKAGES = "autogen-core", "autogen-agentchat", "autogen-ext", "pydantic", "aiosqlite", "jsonschema", "typer", "rich"
FOR_REVIEW = "ruff", "bandit", "radon", "interrogate"
LINE = "0.7."
"""The line of AutoGen that this is made for."""
FREE_WARN, FREE_FAIL = 1 << 30, 32 << 20
"""Bytes of free disk."""
FULL = 2
SLOW_TURN = 1.0
"""Seconds of waiting for a turn to write that are worth a word."""
_PASSWORD = re.compile(r"(://)[^@/]*@")


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found and, unless all is well, what to do."""

    name: str
    level: Level
    says: str
    do: str = ""


def doctor(
    as_json: JsonOption = False, store: StoreOption = None, namespace: NamespaceOption = None, debug: DebugOption = False
) -> None:
    """Check the store, its file system, sessions, tasks, settings and versions. Exits with 1 when something must be mended."""
    checks = [*_check_versions()]
    origins: dict[str, str] = {}
    try:
        settings = Settings.load(store=store, namespace=namespace)
        origins = Settings.origins(store=store, namespace=namespace)
        checks += [*_check_settings()]
    except ConfigError as error:
        do = "mend it; what follows was checked with the default in its place"
        checks.append(Check("settings", Level.FAIL, error.facts.get("said", str(error)), do))
        settings = Settings.usable(store=store, namespace=namespace)
    checks += _check_store(settings)
    listed = _list_settings(settings, origins) if origins else []
    if as_json:
        print_json({"checks": [asdict(one) for one in checks], "settings": listed})
    else:
        _print(checks, listed)
    if any(one.level is Level.FAIL for one in checks):
        raise typer.Exit(1)


def _print(checks: list[Check], listed: list[dict[str, Any]]) -> None:
    for one in checks:
        say_styled(f"{one.level:<6}", f"{one.name:<13} {one.says}{f'; {one.do}' if one.do else ''}")
    if listed:
        say()
        print_table(("setting", "value", "from"), [(one["name"], f"{one['value']}", one["from"]) for one in listed])


# this program


def _check_versions() -> Iterator[Check]:
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}, SQLite {checkup.library()}"
    yield Check("python", Level.OK, f"{python}, autogen-coord {__version__}")
    found = {name: _version(name) for name in PACKAGES}
    missing = [name for name, number in found.items() if number is None]
    said = ", ".join(f"{name} {number}" for name, number in found.items() if number is not None)
    if missing:
        yield Check("packages", Level.FAIL, f"{', '.join(missing)} not installed", "run `pip install autogen-coord` again")
    elif not all(str(found[name]).startswith(LINE) for name in PACKAGES[:3]):
        yield Check("packages", Level.WARN, said, f"made and tested for AutoGen {LINE}x: install that line")
    else:
        yield Check("packages", Level.OK, said)
    tools = {name: _version(name) for name in FOR_REVIEW}
    if None in tools.values():
        yield Check("review tools", Level.OK, "not installed (only `review` needs them: `pip install 'autogen-coord[review]'`)")
    else:
        yield Check("review tools", Level.OK, ", ".join(f"{name} {number}" for name, number in tools.items()))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _check_settings() -> Iterator[Check]:
    unknown = Settings.unknown_variables()
    if unknown:
        yield Check("settings", Level.WARN, f"{', '.join(unknown)}: no such setting", "compare with the names below")
    else:
        yield Check("settings", Level.OK, "each is known and in its range")


def _list_settings(settings: Settings, origins: dict[str, str]) -> list[dict[str, Any]]:
    values = settings.model_dump() | {"store": _PASSWORD.sub(r"\1***@", settings.store)}
    return [{"name": name, "value": values[name], "from": origin} for name, origin in origins.items()]


# the store


def _check_store(settings: Settings) -> list[Check]:
    """From the outside in; what stands on a check that failed is left out."""
    checks: list[Check] = []
    try:
        path = file_of(settings.store)
        if path is None:
            raise ConfigError("store: only a store in a file can be looked at here; name a path with --store")
        where = checkup.place(path)
        checks += [check_file_system(where), check_disk(where)]
        if checks[0].level is not Level.FAIL:
            check_path(path)
            checks += [*_check_file(path, where, settings)]
    except CoordError as error:
        checks.append(_failed("store", error))
    return checks


def check_file_system(where: Place) -> Check:
    """SQLite's locks do not hold across a network."""
    if where.is_network:
        do = "move the store to a local disk, connect by message, or use PostgreSQL"
        return Check("file system", Level.FAIL, f"{where.kind} is a network mount, where SQLite's locks do not hold", do)
    if where.kind is None:
        return Check("file system", Level.WARN, "its kind cannot be told here", "see that it is a local disk, not a network mount")
    return Check("file system", Level.OK, f"{where.kind}, local")


def check_disk(where: Place) -> Check:
    said = f"{size(where.free)} free"
    if where.free < FREE_FAIL:
        return Check("disk", Level.FAIL, said, "free some space: writes will soon be refused")
    if where.free < FREE_WARN:
        return Check("disk", Level.WARN, said, "free some space before writes are refused")
    return Check("disk", Level.OK, said)


def _check_file(path: str, where: Place, settings: Settings) -> Iterator[Check]:
    if not checkup.is_made(path):
        do = "the first program that opens it makes it; name another with --store or AUTOGEN_COORD_STORE"
        yield Check("store", Level.FAIL, f"{where.real} does not exist", do)
        return
    seen = checkup.look(path)
    yield Check("store", Level.OK, f"{where.real}, {size(seen.size)}")
    yield from _check_schema(seen)
    soundness = _check_soundness(path)
    yield soundness
    if seen.misfit is None and soundness.level is Level.OK:
        counts = checkup.count(path, settings.namespace)
        yield _check_namespace(counts, settings.namespace)
        yield from asyncio.run(_check_life(settings, counts))


def _check_schema(seen: Checkup) -> Iterator[Check]:
    has = f"schema {seen.version.version}, for code that makes {seen.version.oldest} to {seen.version.newest}"
    if seen.misfit is not None:
        do = str(seen.misfit).rpartition("; ")[2]
        yield Check("schema", Level.FAIL, f"{has}; this code makes {seen.supported}", do)
    else:
        yield Check("schema", Level.OK, f"{has}; this code makes {seen.supported}")
    written = f"journal {seen.journal_mode}, synchronous {'FULL' if seen.synchronous == FULL else seen.synchronous}"
    if (seen.journal_mode, seen.synchronous) == ("wal", FULL):
        yield Check("durability", Level.OK, written)
    else:
        yield Check("durability", Level.WARN, written, "it is set right when a program next opens the store")


def _check_soundness(path: str) -> Check:
    do = "stop all programs, keep a copy of the file, restore a backup"
    try:
        found = checkup.sound(path)
    except StoreError as error:
        return Check("integrity", Level.FAIL, f"it could not be read through: {error}", do)
    if found.faults:
        return Check("integrity", Level.FAIL, f"damaged: {'; '.join(found.faults)}", do)
    return Check("integrity", Level.OK, f"sound, read in {span(found.seconds)}")


def _check_namespace(counts: Counts, namespace: str) -> Check:
    if namespace in counts.namespaces or not counts.namespaces:
        return Check("namespace", Level.OK, f"{namespace!r} of {amount(max(1, len(counts.namespaces)), 'namespace')}")
    there = ", ".join(repr(name) for name in counts.namespaces[:10])
    return Check("namespace", Level.WARN, f"nothing in {namespace!r}", f"name one of these with --namespace: {there}")


async def _check_life(settings: Settings, counts: Counts) -> list[Check]:
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        async with opened(settings) as store:
            waited = loop.time() - start
            return [_check_turn(waited), *await _check_sessions(store, settings), await _check_tasks(store, counts)]
    except StoreError as error:
        return [_failed("turn to write", error)]


def _check_turn(waited: float) -> Check:
    said = f"came after {span(waited)}"
    if waited > SLOW_TURN:
        return Check("turn to write", Level.WARN, said, "see which process holds the store so long: `tasks list --state running`")
    return Check("turn to write", Level.OK, said)


async def _check_sessions(store: Store, settings: Settings) -> list[Check]:
    found = Counter(status for _, status in await inspect.lasting_sessions(store, settings))
    said = ", ".join(f"{found[name]} {name}" for name in ("live", "suspect", "overdue", "dead"))
    if (found["overdue"] or found["dead"]) and not found["live"]:
        do = "nobody is there to take their work over: start any program on this store"
        return [Check("sessions", Level.WARN, said, do)]
    if found["suspect"]:
        do = "the suspect ones renew late: see whether their machine or disk is overloaded, or their process has just died"
        return [Check("sessions", Level.WARN, said, do)]
    return [Check("sessions", Level.OK, said)]


async def _check_tasks(store: Store, counts: Counts) -> Check:
    live = sum(counts.states.values())
    states = [f"{counts.states[state]:,} {state}" for state in LIVE if state in counts.states]
    said = f"{live:,} live" + (f" ({', '.join(states)})" if states else "")
    missing = await inspect.unserved(store, counts.ready)
    if missing:
        names = ", ".join(f"{name} ({count:,})" for name, count in sorted(missing.items())[:10])
        said += f"; {sum(missing.values()):,} {READY} without a provider: {names}"
        return Check("tasks", Level.WARN, said, "start a program that provides it")
    if live and not await inspect.any_live(store, await store.now()):
        return Check("tasks", Level.WARN, f"{said}; no process is live", "they wait until a program that provides them starts")
    return Check("tasks", Level.OK, said)


def _failed(name: str, error: CoordError) -> Check:
    return Check(name, Level.FAIL, str(error))
