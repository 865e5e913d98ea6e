"""Whole states of AutoGen runtimes, teams and agents: a document for each agent, and a manifest that says which belong together.

What ``save_state`` gives comes in three forms, and only its form decides how it is laid out, so that whatever it was comes back as
it was: a runtime's is a mapping of agent ids (``type/key``) to states, a team's has its agents' states under ``agent_states``, and
everything else is kept as one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import quote

from ..errors import InvalidInputError, NotFoundError, PayloadTooLargeError, StoreError, VersionConflictError
from ..settings import Settings
from .documents import Document
from .lock_modes import SEPARATOR
from .state import MOST, Edit
from .state_edits import Delete, Put, StateChange, edits_of
from .state_policies import MergePolicy
from .values import checked_key

if TYPE_CHECKING:
    from .shared_state import State

PLACE: Final = "saved"
AGENTS: Final = "agents"
RUNTIME: Final = "runtime"
TEAM: Final = "team"
WHOLE: Final = "whole"
STATES: Final = "agent_states"
"""Where a team keeps its agents' states."""
LONGEST = 200
TRIES = 10


class Stateful(Protocol):
    """What has a state to save: AutoGen's runtimes, teams and agents."""

    async def save_state(self) -> Mapping[str, Any]: ...
    async def load_state(self, state: Mapping[str, Any]) -> None: ...


Save = Callable[[Sequence[Edit]], Awaitable[Document]]
"""Writes all edits, or none; answers with the first document."""


class Parts(NamedTuple):
    """A state, taken apart. ``rest``: what of it is no agent's; for a team its fields, of which one stands for the agents."""

    form: str
    agents: dict[str, Any]
    rest: dict[str, Any]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Parts:
        agents = state.get(STATES)
        if isinstance(agents, Mapping) and _are_named(agents):
            return cls(TEAM, dict(agents), {**state, STATES: None})
        if _are_named(state) and all(SEPARATOR in id and isinstance(one, Mapping) for id, one in state.items()):
            return cls(RUNTIME, dict(state), {})
        return cls(WHOLE, {}, dict(state))

    def together(self) -> dict[str, Any]:
        """The state as it was."""
        if self.form == TEAM:
            return {**self.rest, STATES: self.agents}
        return self.agents if self.form == RUNTIME else self.rest


def _are_named(agents: Mapping[Any, Any]) -> bool:
    return all(isinstance(id, str) for id in agents)


async def save(state: State, policy: Settings, write: Save, what: Stateful, name: str) -> Document:
    """See `State.save`."""
    key = manifest_key(name)
    parts = Parts.of(await what.save_state())
    agents = {id: agent_key(key, id) for id in parts.agents}
    manifest = {"form": parts.form, "agents": agents, "rest": parts.rest}
    edits = [_edit(agents[id], one, id, policy) for id, one in parts.agents.items()]
    for _ in range(TRIES):
        before = await state.get(key)
        gone = set() if before is None else set(_agents(before).values()) - set(agents.values())
        version = 0 if before is None else before.version
        changes: list[StateChange] = [Put(key, manifest, version), *(Delete(one, missing_ok=True) for one in sorted(gone))]
        try:
            return await write([*edits_of_many(changes, policy), *edits])
        except VersionConflictError:  # saved by another meanwhile: the later one stands, as a whole
            continue
    raise StoreError(f"{key!r} is saved by others all the time: try again", key=key)


async def load(state: State, what: Stateful, name: str, missing_ok: bool) -> bool:
    """See `State.load`."""
    key = manifest_key(name)
    for _ in range(TRIES):
        manifest = await state.get(key)
        if manifest is None:
            if missing_ok:
                return False
            raise NotFoundError(f"no state was saved as {name!r}: save one, or pass missing_ok=True", key=key, name=name)
        keys = _agents(manifest)
        now, *found = await state.get_many([key, *keys.values()])
        if now is not None and now.version == manifest.version:
            break
    else:
        raise StoreError(f"{key!r} is saved by others all the time: try again", key=key)
    lost = next((id for id, one in zip(keys, found, strict=True) if one is None), None)
    if lost is not None:
        raise NotFoundError(f"{name!r}: the state of agent {lost!r} was deleted: save it anew, or restore a snapshot", agent=lost)
    agents = {id: one.value for id, one in zip(keys, found, strict=True) if one is not None}
    await what.load_state(Parts(manifest.value["form"], agents, manifest.value["rest"]).together())
    return True


def _agents(manifest: Document) -> dict[str, str]:
    """The agents' ids, and the keys of their states. Raises: InvalidInputError for a document of another kind."""
    value = manifest.value
    if not (isinstance(value, dict) and {"form", AGENTS, "rest"} <= set(value) and isinstance(value[AGENTS], dict)):
        raise InvalidInputError(f"{manifest.key!r} is a document of another kind, no saved state", key=manifest.key)
    return value[AGENTS]


def manifest_key(name: str) -> str:
    """Where a state of this name is said to be. Raises: InvalidInputError."""
    if not isinstance(name, str) or SEPARATOR in name:
        raise InvalidInputError(f"name {name!r:.80}: one part of a key, without slashes, such as 'panel'")
    return checked_key(f"{PLACE}{SEPARATOR}{name}")


def agent_key(manifest: str, id: str) -> str:
    """Where an agent's state is: its id, as one part of a key."""
    part = quote(id, safe=" ", errors="surrogatepass")
    if len(part) > LONGEST or part.strip(".") == "":
        part = "%" + hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return checked_key(SEPARATOR.join((manifest, AGENTS, part)))


def _edit(key: str, value: Any, agent: str, policy: Settings) -> Edit:
    try:
        (edit,) = edits_of((Put(key, value),), {"policy": MergePolicy.REJECT}, policy)
    except (InvalidInputError, PayloadTooLargeError) as error:
        raise type(error)(f"the state of agent {agent!r:.200}: {error.message}", **{**error.facts, "agent": agent}) from error
    return edit


def edits_of_many(changes: Sequence[StateChange], policy: Settings) -> list[Edit]:
    """As `edits_of`, however many they are: a state is written as a whole."""
    some = (changes[start : start + MOST] for start in range(0, len(changes), MOST))
    return [edit for few in some for edit in edits_of(few, {"policy": MergePolicy.REJECT}, policy)]
