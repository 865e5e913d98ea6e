"""From what a user passes to ``coord.provide`` to the form that provides it; what cannot be provided is told why."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import Any, TypedDict

from autogen_agentchat.base import ChatAgent, Team
from autogen_core import Agent, AgentId, AgentType, BaseAgent

from ..errors import ConfigError, InvalidInputError
from .agent import CapabilityAgent
from .capability import Capability
from .offers import Described
from .on_message import handlers_of
from .providing import Providing
from .terms import Terms


class ProvideOptions(TypedDict, total=False):
    """How an agent is provided; see `Coordination.provide`."""

    max_concurrency: int | None
    labels: Sequence[str]
    via_runtime: bool


async def provide(providing: Providing, what: Any, name: str | None, options: dict[str, Any]) -> str | list[str]:
    """See `Coordination.provide`."""
    if isinstance(what, Capability):
        return await _function(providing, what, name, options)
    if isinstance(what, type) and issubclass(what, CapabilityAgent):
        return await _class(providing, what, name, options)
    if isinstance(what, AgentId | AgentType):
        return await _agent(providing, what, name, options)
    _refuse_instances(what)
    if not callable(what) or isinstance(what, type):
        raise InvalidInputError(
            "provide() wants a @capability function, a CapabilityAgent class, an AgentId with a name, or a factory of AgentChat "
            f"agents with a name, not {what!r:.100}"
        )
    if name is None:
        raise InvalidInputError(
            f"provide({getattr(what, '__name__', 'factory')}): decorate the function with @capability; "
            'a factory of AgentChat agents needs a name, as in provide(factory, "help")'
        )
    if options.pop("via_runtime", False):
        raise InvalidInputError(
            f"via_runtime=True: the agents of the factory of {name!r} are new in each call; no runtime knows them"
        )
    _refuse_parameters(what, f"the factory of {name!r}", "a function is decorated with @capability, a factory takes nothing")
    described = _described(name, options, str, str)
    return await providing.provide_factory(what, described, _terms(options, "a factory"))


async def _function(providing: Providing, what: Capability[Any, Any], name: str | None, options: dict[str, Any]) -> str:
    if name is not None:
        raise InvalidInputError(f'{what.label!r} has its name already: rename it in @capability("{name}")')
    if options.pop("via_runtime", False):
        raise InvalidInputError(f"via_runtime=True: {what.label!r} is a function, which no runtime knows")
    return await providing.provide_function(what, _terms(options, "a function"))


async def _class(providing: Providing, what: type[CapabilityAgent], name: str | None, options: dict[str, Any]) -> list[str]:
    if name is not None:
        raise InvalidInputError(f"{what.__qualname__} names its capabilities itself; its agent type is given by type={name!r}")
    if not what.capabilities() and not handlers_of(what):
        raise InvalidInputError(f"{what.__qualname__} has no @capability and no @on_message methods: there is nothing to provide")
    agent_type, factory = options.pop("type", None), options.pop("factory", None)
    agent_type, factory = what.__name__ if agent_type is None else agent_type, what if factory is None else factory
    if not isinstance(agent_type, str):
        raise InvalidInputError(f"provide({what.__qualname__}, type={agent_type!r:.100}): the agent type's name, a text")
    if not callable(factory):
        raise InvalidInputError(f"provide({what.__qualname__}, factory={factory!r:.100}): a function that makes an agent of it")
    _refuse_parameters(factory, f"the factory of {what.__qualname__}", f"pass factory=lambda: {what.__qualname__}(...)")
    terms = _terms(options, "an agent class")
    try:
        AgentId(agent_type, "default")  # AutoGen would take any text, and refuse each call
        return await providing.provide_class(what, agent_type, factory, terms)
    except ValueError as error:
        raise ConfigError(f"agent type {agent_type!r}: {error}; give it another by type=") from error


async def _agent(providing: Providing, what: AgentId | AgentType, name: str | None, options: dict[str, Any]) -> str:
    if name is None:
        raise InvalidInputError(
            f'provide({what}) needs the name of its capability: provide({what!r}, "name", input=..., output=...)'
        )
    described = _described(name, options, ..., ...)
    return await providing.provide_agent(what, described, _terms(options, "an agent"))


def _described(name: str, options: dict[str, Any], input: Any, output: Any) -> Described:
    return Described(
        name,
        options.pop("input", input),
        options.pop("output", output),
        options.pop("version", "1"),
        options.pop("description", ""),
    )


def _terms(options: dict[str, Any], what: str) -> Terms:
    terms = Terms.of(options.pop("max_concurrency", None), options.pop("labels", ()), options.pop("via_runtime", False))
    for unknown in options:
        raise InvalidInputError(f"provide() has no option {unknown!r} for {what}")
    return terms


def _refuse_parameters(factory: Any, what: str, mend: str) -> None:
    """Raises: InvalidInputError for a factory that cannot be called without arguments."""
    try:
        signature = inspect.signature(factory)
    except ValueError:  # a built-in that tells nothing
        return
    try:
        signature.bind()
    except TypeError as error:
        raise InvalidInputError(f"{what}: {error}; {mend}") from error


def _refuse_instances(what: Any) -> None:
    """Raises: InvalidInputError for an agent where a factory is wanted, and for a class of agents that is none of ours."""
    if isinstance(what, type) and issubclass(what, BaseAgent):
        raise InvalidInputError(
            f"{what.__qualname__} has no @capability methods: make it a CapabilityAgent; or register it on the runtime, and pass "
            'its AgentId, as in provide(AgentId(type, "default"), "name", input=..., output=...)'
        )
    if isinstance(what, ChatAgent | Team):
        raise InvalidInputError(
            f"{type(what).__name__} {what.name!r} is one instance, which would show one caller's text to another: pass a factory "
            'that makes a fresh one, as in provide(lambda: AssistantAgent(...), "name")'
        )
    if isinstance(what, Agent):
        raise InvalidInputError(f"a {type(what).__name__} is provided by its id: register it on the runtime, and pass its AgentId")
    if isinstance(what, Awaitable):
        raise InvalidInputError("provide() was given something awaitable: pass the factory itself, without calling it")
