"""The beat: keeps this process's lease, and knows how long it may trust it.

Any commit of the line renews the lease; when none came for a beat, a thread does, on a connection of its own, so that a busy
loop or a slow batch costs no lease. The thread stops renewing when the event loop has not ticked for `loop_tick` seconds: a
process whose loop is stuck does no work and must not keep any. Trust runs from the moment a renewal was *sent*, for ttl less a
margin, on a clock that goes on while the machine sleeps. A process whose trust has run out stops its own work first.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from ..errors import CoordError
from ..settings import Settings
from . import sessions
from .clock import Clock, boottime
from .commit import Committed
from .store import Rows, Store
from .tables import SESSION

log = logging.getLogger(__name__)


class Heart:
    """One session's lease. Callbacks run in the loop: ``on_lost`` (it was declared dead), ``on_distrust``, ``on_trust`` (again)."""

    def __init__(
        self,
        store: Store,
        policy: Settings,
        on_lost: Callable[[str], None],
        on_distrust: Callable[[], None],
        on_trust: Callable[[], None],
        clock: Clock = boottime,
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._on_lost = on_lost
        self._on_distrust = on_distrust
        self._on_trust = on_trust
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._session: str | None = None
        self._told_lost: str | None = None
        self._sent = 0.0
        self._sent_for = 0.0
        self._renewed = 0.0
        self._wrote = False
        """Whether the batch on its way writes our own session: another's row renews nothing."""
        self._ticked = clock()
        self._trusted = True
        self._pause = min(policy.beat / 4, policy.trust_margin / 2 or policy.beat / 4)

    def start(self, session: str, sent: float) -> None:
        """Keep this session from now on; it was opened by a command that was sent at ``sent`` on the trust clock."""
        with self._lock:
            self._session = session
            self._renewed, self._ticked = sent, self._clock()
            self._trusted = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="autogen-coord-beat", daemon=True)
            self._thread.start()

    def release(self) -> None:
        """Keep no session any more: its goodbye is on its way, and must not be taken for its death."""
        self._session = None

    async def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    @property
    def trusted(self) -> bool:
        """Whether this process may still believe that its lease stands."""
        return self._clock() < self._renewed + self._policy.session_ttl - self._policy.trust_margin

    # on the line: part of every batch, in the store's thread

    def renew(self, rows: Rows, now: float) -> None:
        session = self._session
        self._wrote = False
        if session is None:
            return
        if now != self._sent_for:  # a fold that runs again is still the transaction that was sent then
            self._sent_for, self._sent = now, self._clock()
        row = rows.one(SESSION, session)
        if row is not None and row.state == sessions.LIVE and sessions.is_fresh(row, now, self._policy):
            return
        self._wrote = sessions.renew(rows, session, now, self._policy)
        if not self._wrote:
            self._loop.call_soon_threadsafe(self._lost, session)

    def committed(self, what: Committed) -> None:
        if what.sessions and self._wrote:
            self._was_renewed(self._sent)

    # the thread

    def _run(self) -> None:
        policy = self._policy
        while not self._stop.wait(self._pause):
            try:
                self._loop.call_soon_threadsafe(self._tick)
            except RuntimeError:  # the loop was closed without us
                return
            now = self._clock()
            if now - self._renewed >= policy.beat * 0.75 and now - self._ticked < policy.loop_tick:
                self._beat(now)

    def _beat(self, sent: float) -> None:
        session = self._session
        if session is None:
            return
        try:
            alive = self._store.transact_blocking(lambda rows, now: sessions.renew(rows, session, now, self._policy))
        except CoordError as error:
            log.warning("the lease of %s could not be renewed: %s", session, error.code)
            return
        except Exception:  # a beat that fails may be followed by one that does not: the thread goes on
            log.exception("the lease of %s could not be renewed", session)
            return
        if alive:
            self._was_renewed(sent)
        else:
            self._call(lambda: self._lost(session))

    def _was_renewed(self, sent: float) -> None:
        with self._lock:
            self._renewed = max(self._renewed, sent)
            again = not self._trusted and self.trusted
            self._trusted = self._trusted or again
        if again:
            self._call(self._on_trust)

    def _call(self, what: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:
            log.debug("the loop is closed: nobody to tell")

    # in the loop

    async def watch(self) -> None:
        """Notice when trust runs out. Not the thread's work: that may stand before a frozen store."""
        while True:
            await asyncio.sleep(self._pause)
            if self._trusted and not self.trusted and self._session is not None:
                self._trusted = False
                self._on_distrust()

    def _tick(self) -> None:
        self._ticked = self._clock()

    def _lost(self, session: str) -> None:
        if session == self._session and session != self._told_lost:
            self._told_lost = session
            self._on_lost(session)
