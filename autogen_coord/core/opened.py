"""What is open in this process: components that were loaded from a configuration find their coordination here.

A configuration names a namespace, never a store: where the store is, and how to get in, is said by whoever opens it.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import ClosedError, ConfigError
from .calls import HANDLER
from .process import Process
from .shared_state import State

HOW = "open one first, with `async with Coordination.open(...)`, in this process and on this event loop"


class Opened(NamedTuple):
    """An open coordination, as its parts know it. ``owner``: the `Coordination`."""

    process: Process
    state: State
    owner: object

    @property
    def namespace(self) -> str:
        return self.process.store.namespace

    @property
    def usable(self) -> bool:
        """Whether it is open, and belongs to this process and to the event loop that runs here, if one does."""
        try:
            self.process.check()
        except ConfigError:
            return False
        return True


_all: list[Opened] = []


def enter(one: Opened) -> None:
    """Remember what was opened; whoever does calls `leave`. What ended without is forgotten here."""
    _all[:] = [other for other in _all if not _has_ended(other)] + [one]


def leave(process: Process) -> None:
    """Forget what is closed."""
    _all[:] = [one for one in _all if one.process is not process]


def opened(namespace: str | None = None) -> Opened:
    """The one that is open here, of this namespace (None: of any). In a handler it is the handler's own, if that fits.

    Raises: ConfigError when there is none, or several.
    """
    usable = [one for one in list(_all) if one.usable]
    fitting = [one for one in usable if namespace in (None, one.namespace)]
    handling = HANDLER.get()
    own = [one for one in fitting if handling is not None and one.process is handling.process]
    if len(own or fitting) != 1:
        raise ConfigError(_said(namespace, fitting, usable))
    return (own or fitting)[0]


def _has_ended(one: Opened) -> bool:
    try:
        one.process.check()
    except ClosedError:
        return True
    except ConfigError:
        pass
    return False


def _said(namespace: str | None, fitting: list[Opened], usable: list[Opened]) -> str:
    wanted = "coordination" if namespace is None else f"coordination of namespace {namespace!r:.80}"
    there = ", ".join(sorted({repr(one.namespace) for one in usable})[:10])
    if not fitting:
        return f"no {wanted} is open here: {HOW}" + (f" (open is: {there})" if there else "")
    how = "pass state=coord.state" if len({one.namespace for one in fitting}) == 1 else f"pass namespace=, one of {there}"
    return f"{len(fitting)} times a {wanted} is open here, and it is not said which is meant: {how}"
