"""The parts of an open coordination, and what its process asks of them."""

from __future__ import annotations

from ..core.calls import Calls
from ..core.leases import Leases
from ..core.process import Process
from ..core.shared_state import State
from ..errors import ClosedError
from .asking import Asking
from .messaging import Messaging
from .providing import Providing
from .runner import Runner, Stop


class Parts:
    """What an open coordination is made of, wired to its process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.calls = Calls(process)
        self.leases = Leases(process)
        self.state = State(process)
        self.asking = Asking(process, self.calls)
        self.messaging = Messaging(process, self.calls)
        self.runner = Runner(process, self)
        self.providing = Providing(process, self.runner, self.messaging.open_message)
        self.providing.announced.append(self.messaging.announce_all)
        hooks, runner, inboxes = process.hooks, self.runner, self.messaging.inboxes
        hooks.runs = lambda task: task in runner or task in inboxes
        hooks.running = lambda: [*runner.tasks(), *inboxes.tasks()]
        hooks.busy = lambda: len(runner) + len(inboxes) + len(self.leases) > 0
        hooks.cancel = self._cancel
        hooks.superseded = self._superseded
        hooks.lost = self._lost
        hooks.distrusted = self._distrusted
        hooks.resources = self.leases.happened
        hooks.missed = self.leases.missed
        hooks.announce = self.providing.announce_all
        hooks.ended = self._ended

    def _cancel(self, task: str) -> None:
        self.runner.cancel(task)
        self.messaging.inboxes.cancel(task)

    def _superseded(self, task: str, attempt: int) -> None:
        self.runner.superseded(task, attempt)
        self.messaging.inboxes.superseded(task, attempt)

    def _lost(self) -> None:
        self.runner.stop_all(Stop.LOST)
        self.messaging.inboxes.lose_all()
        self.leases.lose_all()

    def _distrusted(self) -> None:
        self.runner.stop_all(Stop.DISTRUST)
        self.leases.lose_all()

    def _ended(self, error: ClosedError) -> None:
        self.messaging.end(error)
        self.leases.end()
