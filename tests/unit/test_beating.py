"""Trust: only a batch that wrote our own session row makes the lease longer."""

from __future__ import annotations

from autogen_coord.core import sessions
from autogen_coord.core.beating import Heart
from autogen_coord.core.commit import Committed, committed
from autogen_coord.core.sessions import OpenSession
from autogen_coord.core.store import Transaction
from autogen_coord.settings import Settings
from autogen_coord.stores.dictionary.store import DictionaryStore

POLICY = Settings(beat=3.0, suspect_after=6.0, session_ttl=9.0, trust_margin=0.5)


async def test_a_batch_that_writes_another_sessions_row_does_not_prolong_our_trust() -> None:
    moment = 100.0
    store = DictionaryStore()
    heart = Heart(store, POLICY, lambda session: None, lambda: None, lambda: None, clock=lambda: moment)

    async def batch(*opened: str) -> None:
        def fold(rows: Transaction, now: float) -> Committed:
            heart.renew(rows, now)
            for id in opened:
                sessions.open_session(rows, OpenSession(id, "process", "here:1"), now, POLICY)
            return committed(rows.changes())

        heart.committed(await store.transact(fold))

    await batch("ours")
    heart.start("ours", moment)
    try:
        moment += 0.5  # fresh: our own row need not be written
        await batch("another")
        moment += 8.2
        assert not heart.trusted
    finally:
        await heart.stop()
        await store.close()
