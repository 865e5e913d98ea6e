"""``autogen-coord state put, patch, delete, revert, set-policy``: each in a session of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ..core.documents import Document
from ..core.state_edits import Terms
from ..core.state_policies import MergePolicy
from ..errors import InvalidInputError
from ..settings import Settings
from .documents import (
    ActorOption,
    CauseOption,
    ExpectedOption,
    ForceOption,
    KeyArgument,
    PolicyOption,
    PrefixOption,
    ReducerOption,
    TextOption,
    ValueArgument,
    facts,
    our_words,
    read_reducers,
    read_value,
    user,
)
from .options import DebugOption, JsonOption, NamespaceOption, StoreOption, with_coordination
from .printing import print_json, say

if TYPE_CHECKING:
    from ..coordination import Coordination
    from ..core.shared_state import State

T = TypeVar("T")
NO_POLICY = "none"
PATCH = "a patch is an object, such as '{\"words\": 900}', or a list of operations of RFC 6902"
Named = StrEnum("Named", {**{name: one.value for name, one in MergePolicy.__members__.items()}, "NONE": NO_POLICY})  # type: ignore[misc]
"""A policy, or that there shall be none."""


def put(
    key: KeyArgument,
    value: ValueArgument,
    text: TextOption = False,
    expected: ExpectedOption = None,
    policy: PolicyOption = None,
    reducer: ReducerOption = None,
    force: ForceOption = False,
    actor: ActorOption = None,
    cause: CauseOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Write a document: one more version. Without --expected, whatever stands there is written over.

    VALUE is JSON: a text has its quotes, unless --text is given.
    """
    terms, settings = _terms(policy, reducer, force), Settings.load(store=store, namespace=namespace)
    given = read_value(value, key, settings.max_value, text)

    async def work(state: State) -> Document:
        return await state.put(key, given, expected_version=expected, actor=actor or user(), cause=cause, **terms)

    _tell(with_state(settings, work), as_json)


def patch(
    key: KeyArgument,
    changes: Annotated[str, typer.Argument(metavar="PATCH", help="JSON; @FILE reads it from a file, - from standard input.")],
    expected: ExpectedOption = None,
    policy: PolicyOption = None,
    force: ForceOption = False,
    actor: ActorOption = None,
    cause: CauseOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Change parts of a document.

    PATCH is an object whose fields are set, or taken away by null (RFC 7396), or a list of operations (RFC 6902).
    """
    terms, settings = _terms(policy, None, force), Settings.load(store=store, namespace=namespace)
    given = read_value(changes, key, settings.max_value, hint=PATCH)
    if not isinstance(given, dict | list):
        raise InvalidInputError(f"{key!r}: {PATCH}", key=key)

    async def work(state: State) -> Document:
        return await state.patch(key, given, expected_version=expected, actor=actor or user(), cause=cause, **terms)

    _tell(with_state(settings, work), as_json)


def delete(
    key: KeyArgument,
    expected: ExpectedOption = None,
    policy: PolicyOption = None,
    force: ForceOption = False,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="It is as well if there is none.")] = False,
    actor: ActorOption = None,
    cause: CauseOption = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Delete one document, not what lies below it. Its history stays: `state revert` brings it back."""
    terms, settings = _terms(policy, None, force), Settings.load(store=store, namespace=namespace)

    async def work(state: State) -> bool:
        by = actor or user()
        return await state.delete(key, expected_version=expected, missing_ok=missing_ok, actor=by, cause=cause, **terms)

    say(f"{key}: deleted" if with_state(settings, work) else f"{key}: there was none")


def revert(
    key: KeyArgument,
    version: Annotated[int, typer.Argument(metavar="N", min=1, help="The version whose value is wanted.")],
    expected: ExpectedOption = None,
    force: ForceOption = False,
    actor: ActorOption = None,
    cause: CauseOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Write the value of an earlier version once more, as the newest. Nothing is lost: what stood there is history."""
    settings = Settings.load(store=store, namespace=namespace)

    async def work(state: State) -> Document:
        return await state.revert(key, version, expected_version=expected, force=force, actor=actor or user(), cause=cause)

    _tell(with_state(settings, work), as_json)


def set_policy(
    policy: Annotated[Named, typer.Argument(metavar="POLICY", help="reject, last_writer, merge, reduce, ask; none takes it away.")],
    prefix: PrefixOption = "",
    reducer: ReducerOption = None,
    actor: ActorOption = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Say what becomes of stale writes at a prefix and below it, where no longer prefix has a policy; for all processes."""
    settings, reducers = Settings.load(store=store, namespace=namespace), read_reducers(reducer)
    name = None if policy == NO_POLICY else str(policy)

    async def work(state: State) -> None:
        await state.set_policy(prefix, name, reducers, actor=actor or user())

    with_state(settings, work)
    say(f"{prefix or 'everything'}: {'no policy' if name is None else f'policy {name}'}")


# shared with the other commands that write


def with_state(settings: Settings, work: Callable[[State], Awaitable[T]]) -> T:
    """Run ``work`` on the shared state in a session of its own. Errors say what to do on the command line."""

    async def run(coord: Coordination) -> T:
        return await work(coord.state)

    with our_words():
        return with_coordination(settings, run)


def _terms(policy: MergePolicy | None, reducer: list[str] | None, force: bool) -> Terms:
    return Terms(policy=policy, reducers=read_reducers(reducer), force=force)


def _tell(document: Document, as_json: bool) -> None:
    if as_json:
        print_json(facts(document))
        return
    base = "" if document.base is None else f", made from version {document.base}"
    say(f"{document.key}: version {document.version} ({document.kind}{base})")
