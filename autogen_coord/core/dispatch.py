"""The dispatcher: claims ready tasks for the providers of this process that have free slots.

It sits on the line as a source: asked before each batch, it adds one claim for the pools that are *hot*, that is, known or
hoped to have something ready. A submit heats its own pool, so that it is claimed in the transaction that stores it. A pool goes
cold when a claim found less than it wanted; a notice (of this process's commits, or a look after another's) heats it again.

Providers of one capability share what is claimed, by a strategy (see `balancing`). Inboxes *hold* what they take: nothing runs, so
they are claimed for whatever else is held back, and a process that only holds messages counts as empty.

Bounds hold where work enters: a handler that waits for a child gives its slot back and takes it again without asking.

Suspects (tasks whose process died) run alone: when one is ready, the process holds new work back until it is empty, runs it,
and goes on. Holding back is bounded by `suspect_patience`, doubled each time it was not enough; children that handlers here
wait for are claimed by name all the while, or nothing would ever end.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence

from ..errors import ClosedError, CoordError, LeaseLostError
from ..settings import Settings
from . import claims, pools
from .claims import Claim, Claimed, Claims, Disown, Serves, Want
from .commit import Committed, Entry, Line
from .slots import Providers, Slot
from .store import Range
from .tables import QUEUE, QueueRow
from .waiting import Wait

log = logging.getLogger(__name__)

ASK_AGAIN = 0.05
"""Seconds until a child that could not be had by name is asked for again, when no notice came before."""


class Dispatcher:
    """Claims for one session. Single-threaded: all of it runs in the loop."""

    def __init__(self, line: Line, policy: Settings, on_lost: Callable[[str], None]) -> None:
        """``on_lost`` hears which session a claim was refused for: the process may have another by then."""
        self._line = line
        self._policy = policy
        self._on_lost = on_lost
        self._claimed_for = ""
        """The session of the claim on its way."""
        self._session = ""
        self._slots: dict[str, Slot] = {}
        self._providers: dict[str, Providers] = {}
        """By label: those that share its pool."""
        self._served: dict[str, Providers] = {}
        """By pool."""
        self._hot: dict[str, int] = {}
        self._heat = 0
        self._claiming: dict[str, int] | None = None
        self._claim: asyncio.Future[Claims] | None = None
        self.running: dict[tuple[str, int], tuple[Slot, QueueRow]] = {}
        """By (task, attempt): an attempt that ignores its end may still run beside its successor."""
        self._held = 0
        """How many of these no handler runs."""
        self._turn = 0
        self._trials: dict[str, list[asyncio.Future[None]]] = {}
        """By provider: who waits for the answer of a claim that is yet to go."""
        self._on_trial: list[asyncio.Future[None]] = []
        """Who waits for the answer of the claim on its way."""
        self._awaited: set[Wait] = set()
        self._in_vain: set[str] = set()
        """Children that were asked for by name and could not be had: not asked for again until something changes."""
        self._asking_again = False
        self._looked: dict[str, int | None] = {}
        self._waiting: dict[tuple[str, int], int] = {}
        self._alone: tuple[str, int] | None = None
        self._patience = policy.suspect_patience
        self._held_since: float | None = None
        self._pause_until = 0.0
        self._accepting = False
        self._draining = False
        self._cooling = False
        line.join(self.source)
        line.listen(self.committed)

    # who provides

    def start(self, session: str) -> None:
        """Claim for this session from now on."""
        self._session = session
        self._accepting = True
        self.heat(self._served)

    def drain(self) -> None:
        """Claim only the children that handlers here wait for."""
        self._draining = True

    def stop(self) -> None:
        """No new claims; what a claim on its way brings is given back."""
        self._accepting = False

    async def settled(self) -> None:
        """Wait until no claim is on its way."""
        while self._claim is not None and not self._claim.done():
            await asyncio.wait([self._claim])

    def add_provider(self, provider: str, label: str, limit: int, start: Callable[[Claimed], None], holds: bool = False) -> None:
        """Claim for a provider of this process from now on. ``holds``: see `Slot`."""
        slot = Slot(provider, label, limit, start, holds)
        self._slots[provider] = slot
        providers = self._providers.setdefault(label, Providers(label))
        providers.slots.append(slot)
        self._served.update(dict.fromkeys(providers.pools, providers))
        self.heat(providers.pools)

    def remove(self, provider: str) -> None:
        """Claim for it no more."""
        slot = self._slots.pop(provider, None)
        if slot is None:
            return
        slot.open = False
        providers = self._providers[slot.label]
        before = providers.pools
        providers.slots.remove(slot)
        if not providers.slots:
            del self._providers[slot.label]
        for pool in set(before).difference(providers.pools if providers.slots else ()):
            del self._served[pool]
            self._hot.pop(pool, None)
        _told(self._trials.pop(provider, ()))

    def resize(self, provider: str, limit: int) -> None:
        """A provider takes so many at once from now on."""
        slot = self._slots.get(provider)
        if slot is not None:
            grown, slot.limit = limit > slot.limit, limit
            if grown and slot.free > 0:
                self._line.wake()

    def try_now(self, provider: str) -> asyncio.Future[None]:
        """Claim for a provider though nothing is known to be there; done when that claim was answered, and its tasks are begun.

        Whoever waits bounds it. Raises (the future): CoordError, when the claim failed.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        slot = self._slots.get(provider)
        if slot is None:
            future.set_result(None)
        else:
            self._trials.setdefault(provider, []).append(future)
            self.heat(slot.pools)
        return future

    # what is hot

    def heat(self, names: Iterable[str]) -> None:
        """These pools may have something ready."""
        self._heat += 1
        warmed = False
        for pool in names:
            providers = self._served.get(pool)
            if providers is not None and not (providers.hold and providers.full):  # who comes to wait there looks first
                self._hot[pool] = self._heat
                warmed = True
        if warmed:
            self._line.wake()

    def committed(self, what: Committed) -> None:
        if what.pools:
            self._in_vain.clear()
            self.heat(what.pools)

    def looks(self) -> list[Range[QueueRow]]:
        """What to read after another process's commit: does a cold pool have something ready? Is the suspect still there?"""
        if not self._accepting:
            return []
        if self._claiming is not None:  # the claim on its way may be older than that commit: its answer must not cool what it found
            self._heat += 1
            self._hot.update((pool, self._heat) for pool in self._claiming if pool in self._served)
        # the pools of taken slots too: nobody tells of their tasks again when a slot is free
        self._looked = {
            pool: self._hot.get(pool)
            for pool, providers in self._served.items()
            if (pool not in self._hot or pools.is_alone(pool)) and not (providers.hold and providers.full)
        }
        return [Range(QUEUE, "ready", (pool,), limit=1) for pool in self._looked]

    def seen(self, found: Sequence[str]) -> None:
        """The answer to `looks`: the pools that have something ready. A suspect that another took holds nothing back any more."""
        gone = [
            pool for pool, heat in self._looked.items() if heat is not None and pool not in found and self._hot.get(pool) == heat
        ]
        for pool in gone:
            del self._hot[pool]
        self._in_vain.clear()
        self.heat([pool for pool in found if pool not in self._hot])
        if gone or self._awaited:
            self._line.wake()

    @property
    def idle_slots(self) -> bool:
        """Whether somebody here waits for work."""
        return self._accepting and any(slot.free > 0 for slot in self._slots.values())

    # claims

    def source(self) -> Entry | None:
        """A claim for the batch that is about to go, if there is reason for one."""
        if not self._hot and not self._awaited:
            return None
        if self._claiming is not None or not self._accepting or self._cooling:
            return None
        wants, by_name = self._wants()
        if not wants and not by_name:
            return None
        command = Claim(self._session, wants, by_name, self._serves() if by_name else (), self._nobody_works)
        self._claiming = {pool: self._hot[pool] for want in wants for pool in want.pools}
        self._in_vain.update(by_name)
        if self._trials:
            self._on_trial = [trial for want in wants for offer in want.offers for trial in self._trials.pop(offer.provider, ())]
        self._claimed_for = self._session
        entry = self._line.entry(claims.claim, command)
        entry.future.add_done_callback(self._answered)
        self._claim = entry.future
        return entry

    def _wants(self) -> tuple[list[Want], tuple[str, ...]]:
        if self._alone is not None or self._draining:
            return self._wants_to_hold(), self._wanted_by_name()
        suspects = [pool for pool in self._hot if pools.is_alone(pool)]
        if suspects:
            if self._is_empty:
                return [self._served[suspects[0]].lone(suspects[0]), *self._wants_to_hold()], ()
            if self._holds_back():
                return self._wants_to_hold(), self._wanted_by_name()
        else:
            self._held_since, self._patience = None, self._policy.suspect_patience
        return self._wants_of(self._hot_providers), ()

    def _wants_to_hold(self) -> list[Want]:
        """What inboxes want: nothing of it runs, and handlers that wait for a message would wait for ever."""
        return self._wants_of([providers for providers in self._hot_providers if providers.hold])

    @property
    def _hot_providers(self) -> Iterable[Providers]:
        return dict.fromkeys([self._served[pool] for pool in self._hot])

    def _wants_of(self, some: Iterable[Providers]) -> list[Want]:
        wants = [providers.want(self._hot, self._policy.slice) for providers in some]
        return [want for want in wants if want is not None]

    def _serves(self) -> list[Serves]:
        return [providers.serves for providers in self._providers.values() if not providers.hold]

    def _wanted_by_name(self) -> tuple[str, ...]:
        running = {task for task, _ in self.running}
        return tuple({wait.task for wait in self._awaited} - running - self._in_vain)

    def _holds_back(self) -> bool:
        """Whether new work waits so that this process becomes empty for a suspect."""
        now = asyncio.get_running_loop().time()
        if now < self._pause_until:
            return False
        if self._held_since is None:
            self._held_since = now
            self._wake_in(self._patience)
        if now - self._held_since < self._patience:
            return True
        self._held_since, self._pause_until = None, now + self._policy.suspect_patience
        self._patience *= 2
        self._wake_in(self._policy.suspect_patience)
        return False

    def _wake_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds + 0.001, self._line.wake)

    @property
    def _is_empty(self) -> bool:
        return len(self.running) == self._held

    @property
    def _nobody_works(self) -> bool:
        return len(self._waiting) + self._held == len(self.running)

    def _answered(self, future: asyncio.Future[Claims]) -> None:
        asked, self._claiming = self._claiming or {}, None
        trials, self._on_trial = self._on_trial, []
        if future.cancelled():
            _told(trials)
            return
        error = future.exception()
        if error is not None:
            self._refused(error)
            _told(trials, error)
            return
        claimed, dry = future.result()
        for pool in dry:
            if self._hot.get(pool) == asked.get(pool):
                self._hot.pop(pool, None)
        for one in claimed:
            self._in_vain.discard(one.row.id)
            self._begin(one)
        _told(trials)
        if self._in_vain and not self._asking_again:
            self._asking_again = True
            asyncio.get_running_loop().call_later(ASK_AGAIN, self._ask_again)

    def _ask_again(self) -> None:
        self._asking_again = False
        self._in_vain.clear()
        self._line.wake()

    def _refused(self, error: BaseException) -> None:
        self._in_vain.clear()  # what was asked for by name was not answered at all
        if isinstance(error, ClosedError):
            return
        if isinstance(error, LeaseLostError):
            if self._claimed_for == self._session:
                self.stop()  # else it would claim, and be refused, again and again until the next session starts it
            self._on_lost(self._claimed_for)
            return
        log.warning("a claim failed (%s): claiming again shortly", error.code if isinstance(error, CoordError) else repr(error))
        self._cooling = True
        asyncio.get_running_loop().call_later(random.uniform(0.1, 0.3), self._after_failure)

    def _after_failure(self) -> None:
        """The answer of a claim was lost: what it may have claimed is given back before anything else is claimed."""
        self._cooling = False
        if self._accepting:
            self._line.offer(claims.disown, Disown(self._session, list(self.running))).add_done_callback(_swallow)
            self.heat(self._served)

    def _begin(self, claimed: Claimed) -> None:
        row = claimed.row
        slot = self._slots.get(row.provider or "")
        if slot is None or not self._accepting:  # withdrawn, or stopped, while the claim was on its way
            command = claims.GiveBack(row.session or "", [(row.id, row.attempt)], unbegun=True)
            self._line.offer(claims.give_back, command).add_done_callback(_swallow)
            return
        slot.active += 1
        self._turn = slot.turn = self._turn + 1
        self._held += slot.holds
        self.running[row.id, row.attempt] = (slot, row)
        if pools.is_alone(row.pool) and self._alone is None:
            self._alone = row.id, row.attempt
        slot.start(claimed)

    # what runners report

    def ended(self, task: str, attempt: int) -> None:
        """A handler has stopped: its slot is free."""
        claim = task, attempt
        slot, _ = self.running.pop(claim)
        self._held -= slot.holds
        if self._waiting.pop(claim, 0) == 0:
            slot.active -= 1
        if self._alone == claim:
            self._alone = None
        self._line.wake()

    def waits(self, task: str, attempt: int, child: Wait) -> None:
        """A handler waits for a child from now on: its slot is free meanwhile."""
        claim = task, attempt
        self._awaited.add(child)
        if claim in self.running:
            count = self._waiting.get(claim, 0)
            self._waiting[claim] = count + 1
            if count == 0:
                self.running[claim][0].active -= 1
        self._line.wake()

    def goes_on(self, task: str, attempt: int, child: Wait) -> None:
        """It has its answer: it takes its slot again without asking."""
        claim = task, attempt
        self._awaited.discard(child)
        count = self._waiting.get(claim, 0)
        if count == 1:
            del self._waiting[claim]
            self.running[claim][0].active += 1
        elif count > 1:
            self._waiting[claim] = count - 1


def _told(trials: Iterable[asyncio.Future[None]], error: BaseException | None = None) -> None:
    for trial in trials:
        if not trial.done():
            trial.set_result(None) if error is None else trial.set_exception(error)


def _swallow(future: asyncio.Future[int]) -> None:
    if not future.cancelled() and future.exception() is not None:
        log.debug("giving back failed: the claims return with the lease")
