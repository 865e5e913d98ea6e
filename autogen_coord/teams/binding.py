"""How a component finds the shared state: its configuration names a namespace, and holds nothing that opens a store."""

from __future__ import annotations

from ..core.opened import Opened, opened
from ..core.shared_state import State
from ..errors import InvalidInputError


class Binding:
    """The state of one component: the given one, else that of the coordination which is open when it is first used."""

    def __init__(self, namespace: str | None, state: State | None) -> None:
        if state is not None and namespace not in (None, state.namespace):
            raise InvalidInputError(f"namespace={namespace!r:.80}, but the state is of {state.namespace!r:.80}: pass one of them")
        self.namespace = namespace if state is None else state.namespace
        """Of the configuration; None: whichever is open."""
        self._given = state
        self._found: Opened | None = None

    @property
    def state(self) -> State:
        """Raises: ConfigError when no such coordination is open here, or several are."""
        if self._given is not None:
            return self._given
        if self._found is None or not self._found.usable:
            self._found = opened(self.namespace)
        return self._found.state
