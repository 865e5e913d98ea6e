"""``autogen-coord agents``: see who provides what."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from ..core import registry as labels
from ..core.addresses import ALL, REPLY, is_reserved, owner_of
from ..core.discovery import CapabilityInfo, ProviderInfo, ProviderStatus, Registry
from ..core.store import Store
from ..errors import InvalidInputError, NoProviderError, NotFoundError
from ..settings import Settings
from .nothing import complain_of_none, nothing
from .options import DebugOption, JsonOption, NamespaceOption, StoreOption, on_store
from .printing import amount, moment, print_json, print_pairs, print_table, say, span

NARROW = 100
"""Characters of a schema that still stands on one line."""
OFFLINE = ProviderStatus.OFFLINE

app = typer.Typer(help="See who provides what.", no_args_is_help=True, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for: a capability, an agent, a provider's id; it may be a capability and an agent at once."""

    capability: CapabilityInfo | None
    agent: tuple[ProviderInfo, ...]
    provider: ProviderInfo | None


@app.command("list")
def list_agents(
    every: Annotated[bool, typer.Option("--all", help="Those offline too.")] = False,
    capability: Annotated[
        str | None, typer.Option("--capability", metavar="NAME", help="Only who provides this capability.")
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """List who provides capabilities or takes messages, a line each, the longest there first."""
    label = None if capability is None else labels.label_of(*labels.split_label(capability))

    async def work(there: Store, settings: Settings) -> tuple[list[ProviderInfo], float, str]:
        known = [info for info in await Registry(there, settings).providers() if _is_agent(info)]
        asked = [info for info in known if label in (None, info.capability)]
        shown = [info for info in asked if every or info.status != OFFLINE]
        note = "" if shown else await nothing(there, settings, "agents", "" if every else "that are online", capability=label)
        if asked and not shown:
            note = f"{note}; {amount(len(asked), 'provider')} offline, see --all"
        return shown, await there.now(), note

    infos, now, none = on_store(store, namespace, work)
    if as_json:
        print_json([asdict(info) for info in infos])
    elif not infos:
        complain_of_none(none)
    else:
        columns = "agent", "capability", "state", "running", "where", "since"
        print_table(columns, [(_who(info), *_line(info, now)) for info in infos])


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="A capability, an agent (type or type/key), a provider's id.")],
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Show a capability (what it takes and gives, who provides it), an agent (what it provides), or one provider."""

    async def work(there: Store, settings: Settings) -> tuple[Found, float]:
        return await _find(there, settings, name), await there.now()

    found, now = on_store(store, namespace, work)
    if as_json:
        print_json(_object(found, name))
        return
    if found.capability is not None:
        _print_capability(found.capability, now)
    if found.capability is not None and found.agent:
        say()
    if found.agent:
        _print_agent(name, found.agent, now)
    if found.provider is not None:
        print_pairs(_pairs(found.provider, now))


# what is asked of the store


async def _find(store: Store, settings: Settings, name: str) -> Found:
    """Raises: NotFoundError with near names."""
    registry = Registry(store, settings)
    try:
        capability = await registry.describe(name)
    except (NoProviderError, InvalidInputError):
        capability = None
    providers = await registry.providers()
    provider = next((info for info in providers if info.id == name), None)
    own = [
        info
        for info in providers
        if info.agent is not None
        and (name in (info.agent, _type(info)) or (info.agent == _type(info) and name.startswith(f"{info.agent}/")))
    ]
    agent = _present([info for info in own if info.capability != ALL])
    if capability is None and provider is None and not agent:
        known = {one.label for one in await registry.capabilities()}
        known |= {each for info in providers if info.agent and _is_agent(info) for each in (info.agent, _type(info))}
        raise _unknown(name, store.namespace, known)
    return Found(capability, tuple(agent), provider)


def _present(infos: Sequence[ProviderInfo]) -> list[ProviderInfo]:
    """Those that are there; when none is, the last of each capability."""
    here = [info for info in infos if info.status != OFFLINE]
    return here or list({info.capability: info for info in infos}.values())


def _unknown(name: str, namespace: str, known: set[str]) -> NotFoundError:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "`autogen-coord agents list --all` shows who was there"
    return NotFoundError(f"no capability, agent or provider {name!r:.200} in namespace {namespace!r}: {hint}", near=near)


# what is told


def _type(info: ProviderInfo) -> str:
    return (info.agent or "").partition("/")[0]


def _who(info: ProviderInfo) -> str:
    return info.agent or info.kind


def _is_agent(info: ProviderInfo) -> bool:
    """Not a subscription, which is a second line of an agent; nor the inbox where a process waits for replies."""
    return info.kind != "subscription" and _type(info) != REPLY


def _what(info: ProviderInfo) -> str:
    """What it provides; or that it takes messages."""
    if not is_reserved(info.capability):
        return info.capability
    return "messages" if info.kind == "inbox" else f"messages of topic {owner_of(info.capability)}"


def _busy(info: ProviderInfo) -> str:
    """Handlers that run, of how many may; those that wait for a child take no slot."""
    said = f"{info.running - info.waiting}/{info.max_concurrency}" if not is_reserved(info.capability) else str(info.running)
    return f"{said} +{info.waiting} waiting" if info.waiting else said


def _line(info: ProviderInfo, now: float) -> tuple[str, ...]:
    return _what(info), info.status, _busy(info), info.address, f"{span(now - info.registered_at)} ago"


def _print_capability(info: CapabilityInfo, now: float) -> None:
    schemas = {"takes": info.input_schema, "gives": info.output_schema}
    short = {name: text for name, schema in schemas.items() if len(text := json.dumps(schema)) <= NARROW}
    pairs = [("capability", info.name), ("version", info.version), ("description", info.description)]
    print_pairs([*pairs, *short.items()])
    for name in schemas.keys() - short.keys():
        say()
        say(f"{name}:")
        typer.echo(json.dumps(schemas[name], indent=2))
    say()
    if info.providers:
        columns = "provider", "agent", "state", "running", "where", "since"
        print_table(columns, [(one.id, _who(one), *_line(one, now)[1:]) for one in info.providers])
    else:
        say("nobody provides it now")


def _print_agent(name: str, infos: Sequence[ProviderInfo], now: float) -> None:
    print_pairs([("agent", name)])
    say()
    columns = "provider", "capability", "state", "running", "where", "since"
    print_table(columns, [(one.id, *_line(one, now)) for one in infos])


def _pairs(info: ProviderInfo, now: float) -> list[tuple[str, str]]:
    return [
        ("provider", info.id),
        ("kind", info.kind),
        ("agent", info.agent or ""),
        ("capability", _what(info)),
        ("state", info.status),
        ("running", _busy(info)),
        ("where", info.address),
        ("session", info.session),
        ("labels", ", ".join(info.labels)),
        ("since", moment(info.registered_at, now)),
    ]


def _object(found: Found, name: str) -> dict[str, Any]:
    capability = None if found.capability is None else {"label": found.capability.label} | asdict(found.capability)
    agent = {"agent": name, "providers": [asdict(info) for info in found.agent]} if found.agent else None
    return {"capability": capability, "agent": agent, "provider": None if found.provider is None else asdict(found.provider)}
