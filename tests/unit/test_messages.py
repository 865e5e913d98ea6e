"""Messages: whom one reaches, how it is stored, what becomes of it; the rules, one command at a time."""

from __future__ import annotations

from typing import Any

import pytest

from autogen_coord.core import bodies, burial, claims, inboxes, messages, pruning, registry, tasks
from autogen_coord.core.addresses import ALL, EVERYONE, NOBODY, Address, Recipient, topic_label
from autogen_coord.core.burial import Bury, Settle
from autogen_coord.core.claims import Finish, GiveBack, Reject
from autogen_coord.core.endings import Failure
from autogen_coord.core.fold import Pending
from autogen_coord.core.inboxes import Redirect
from autogen_coord.core.messages import MessageKind, Posted, Send, envelope
from autogen_coord.core.pruning import Prune
from autogen_coord.core.registry import Announce, Withdraw
from autogen_coord.core.store import Range
from autogen_coord.core.tables import BLOB, CAPABILITY, PROVIDER, QUEUE, SESSION, TASK, CapabilityRow, ProviderRow, TaskState
from autogen_coord.core.tasks import Cancel, Requeue, Submit
from autogen_coord.errors import InvalidInputError, NoProviderError, NotFoundError, StaleClaimError
from tests.conftest import Ground

TEXT = envelope(MessageKind.STATUS, None, '"hello"')
A, B = Address("writer", "a"), Address("writer", "b")


@pytest.fixture
def post(ground: Ground) -> Ground:
    """A ground with a session ``s1``."""
    ground.session()
    return ground


def open_inbox(ground: Ground, owner: Address | str, id: str = "i1", session: str = "s1") -> None:
    rows = messages.inbox_providers(id, session, owner, 1)
    ground.do(registry.announce, Announce(session, [messages.inbox_row(owner)], rows))


def close_inbox(ground: Ground, id: str = "i1", session: str = "s1") -> None:
    ground.do(registry.withdraw, Withdraw(session, (id, f"{id}.all")))


def subscribe(ground: Ground, topic: str, owner: Address | str, id: str, session: str = "s1") -> None:
    type, _, source = topic.partition("/")
    row = messages.subscription(id, session, topic_label(type, source or None), owner)
    ground.do(registry.announce, Announce(session, [], [row]))


def agent(ground: Ground, type: str, key: str | None = None, label: str = "work", session: str = "s1") -> None:
    """An agent that provides a capability."""
    name, version = registry.split_label(label)
    row = ProviderRow(f"{type}.{key}", session, session, label, version, "agent", type, key, registry.ONLINE, 8, None, 0.0)
    ground.do(registry.announce, Announce(session, [CapabilityRow(name, version, "", "{}", "{}", None, 0.0)], [row]))


def send(ground: Ground, to: str | Recipient, id: str = "m", text: str = TEXT, seen: bool = False, **more: Any) -> list[Posted]:
    recipient = Recipient.parse(to) if isinstance(to, str) else to
    message = Submit(id, "a message", text, kind="message", **{"ttl": 100.0, **more})
    return ground.do(messages.send, Send(message, recipient, "s1", seen=seen))


def take(ground: Ground, owner: Address | str, id: str = "i1", session: str = "s1") -> list[str]:
    label = messages.inbox_label(owner)
    return ground.claim_ids(session, id, 100, label, f"{label}@{id}")


def code_of(ground: Ground, id: str) -> str:
    error = ground.outcome(id).error
    assert error is not None
    return str(bodies.decode(error)["code"])


# to an agent


def test_a_message_lies_in_the_agents_own_inbox(post: Ground) -> None:
    open_inbox(post, A)
    assert send(post, "writer/a", sender="boss/1", correlation="c", causation="x") == [Posted("writer/a", "m")]
    task = post.get(TASK, "m")
    assert (task.kind, task.capability, task.recipient, task.sender) == ("message", "inbox:writer/a", "writer/a", "boss/1")
    assert (task.correlation, task.causation, task.input) == ("c", "x", TEXT)
    assert post.events("m") == ["task.delegated"]
    assert take(post, A) == ["m"]
    post.finish("m", output="null")
    assert post.state("m") == "succeeded"


def test_the_own_inbox_goes_before_that_of_the_type_while_it_is_open(post: Ground) -> None:
    open_inbox(post, "writer", "push")
    open_inbox(post, A, "pull")
    send(post, "writer/a", "m1")
    send(post, "writer/b", "m2")
    close_inbox(post, "pull")
    send(post, "writer/a", "m3")
    assert [post.get(TASK, id).capability for id in ("m1", "m2", "m3")] == ["inbox:writer/a", "inbox:writer", "inbox:writer"]
    assert [post.get(TASK, id).recipient for id in ("m1", "m2", "m3")] == ["writer/a", "writer/b", "writer/a"]


def test_a_message_waits_in_an_inbox_that_ever_was(post: Ground) -> None:
    open_inbox(post, A)
    close_inbox(post)
    send(post, "writer/a")
    assert post.queue("m").pool == "inbox:writer/a"
    open_inbox(post, A, "i2")
    assert take(post, A, "i2") == ["m"]


def test_an_inbox_is_still_known_when_its_session_was_pruned(post: Ground) -> None:
    post.session("old")
    open_inbox(post, A, "i1", "old")
    post.kill("old")

    def forget(rows: Any, now: float) -> None:
        for row in rows.scan(Range(PROVIDER, "by_session", ("old",))):
            rows.drop(PROVIDER, row)

    post.store.transact_blocking(forget)
    assert send(post, "writer/a") == [Posted("writer/a", "m")]


def test_an_agent_that_only_ever_provided_gets_its_mail_when_it_receives(post: Ground) -> None:
    agent(post, "coder")
    assert send(post, "coder/7", "m1", seen=True) == [Posted("coder/7", "m1")]
    assert send(post, "coder/7", "m2") == [Posted("coder/7", "m2")]  # its inbox is known from then on
    assert [post.queue(id).pool for id in ("m1", "m2")] == ["inbox:coder/7"] * 2


def test_an_address_never_seen_is_refused_and_leaves_no_row(post: Ground) -> None:
    open_inbox(post, A)
    with pytest.raises(NotFoundError, match="writre/a") as caught:
        send(post, "writre/a")
    assert caught.value.recipient == "writre/a"
    assert post.scan(Range(TASK, "key")) == []


def test_no_rule_looks_through_all_that_was_ever_announced(post: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    open_inbox(post, A)
    walked: list[Range[Any]] = []
    scan = Pending.scan

    def watched(self: Pending, range: Range[Any]) -> list[Any]:
        walked.append(range)
        return scan(self, range)

    monkeypatch.setattr(Pending, "scan", watched)
    with pytest.raises(NotFoundError):
        send(post, "nobody/x")
    send(post, "nobody/x", seen=True)
    assert not [one for one in walked if one.index == "key"]


def test_an_answer_to_a_process_that_is_forgotten_is_refused(post: Ground) -> None:
    rows = messages.inbox_providers("r", "s1", Address("coord.reply", "one"), 9)[:1]
    post.do(registry.announce, Announce("s1", [], rows))
    assert send(post, "coord.reply/one", "m1") == [Posted("coord.reply/one", "m1")]
    with pytest.raises(NotFoundError):
        send(post, "coord.reply/two", "m2")


def test_an_answer_reaches_a_process_that_is_about_to_be_reborn(post: Ground) -> None:
    """Between its death and its burial its rows say online, and nobody lives behind them."""
    post.session("s2")
    post.do(registry.announce, Announce("s2", [], messages.inbox_providers("r", "s2", Address("coord.reply", "one"), 9)[:1]))

    def dead(rows: Any, now: float) -> None:
        rows.put(SESSION, rows.one(SESSION, "s2")._replace(state="dead"))

    post.store.transact_blocking(dead)
    assert send(post, "coord.reply/one") == [Posted("coord.reply/one", "m")]


def test_an_answer_does_not_outlive_its_ttl_even_when_it_was_taken(post: Ground) -> None:
    reply = Address("coord.reply", "one")
    post.do(registry.announce, Announce("s1", [], messages.inbox_providers("r", "s1", reply, 9)[:1]))
    send(post, "coord.reply/one", ttl=10.0)
    assert take(post, reply, "r") == ["m"]
    post.kill("s1")
    post.wait(11)
    post.turn()
    assert post.state("m") == "expired"


def test_the_same_send_once_more_creates_nothing(post: Ground) -> None:
    open_inbox(post, A)
    first = send(post, "writer/a")
    close_inbox(post)
    assert send(post, "writer/a") == first
    assert len(post.scan(Range(TASK, "key"))) == 1


# to groups


def test_everyone_is_every_inbox_that_is_open_but_the_senders(post: Ground) -> None:
    open_inbox(post, A, "i1")
    open_inbox(post, B, "i2")
    open_inbox(post, "coder", "i3")
    open_inbox(post, Address("coder", "default"), "i4")  # the same agent as the type's default
    open_inbox(post, Address("gone", "x"), "i5")
    close_inbox(post, "i5")
    assert send(post, EVERYONE, sender="writer/b") == [Posted("writer/a", "m"), Posted("coder/default", "m.1")]
    assert post.get(TASK, "m.1").capability == "inbox:coder/default"
    assert take(post, A) == ["m"]


def test_the_inboxes_of_a_dead_process_are_not_everyone(post: Ground) -> None:
    post.session("s2")
    open_inbox(post, A, "i1", "s2")
    open_inbox(post, B, "i2")
    post.kill("s2")
    assert send(post, EVERYONE) == [Posted("writer/b", "m")]


def test_a_topic_is_frozen_when_it_is_sent(post: Ground) -> None:
    open_inbox(post, A, "i1")
    subscribe(post, "news", A, "u1")
    assert send(post, "topic:news", "m1") == [Posted("writer/a", "m1")]
    subscribe(post, "news", B, "u2")
    assert send(post, "topic:news", "m2") == [Posted("writer/a", "m2"), Posted("writer/b", "m2.1")]
    assert send(post, "topic:news", "m1") == [Posted("writer/a", "m1")]  # repeated: what it was


def test_who_is_subscribed_to_a_source_or_to_all_gets_it_once(post: Ground) -> None:
    subscribe(post, "news", A, "u1")
    subscribe(post, "news/de", A, "u2")
    subscribe(post, "news/fr", B, "u3")
    subscribe(post, "newsletter", B, "u4")
    assert send(post, "topic:news/de", "m1") == [Posted("writer/a", "m1")]
    assert [one.recipient for one in send(post, "topic:news/fr", "m2")] == ["writer/a", "writer/b"]


def test_a_subscribed_type_is_addressed_at_the_topics_source(post: Ground) -> None:
    subscribe(post, "news", "writer", "u1")
    open_inbox(post, "writer", "i1")
    assert send(post, "topic:news/tenant-7") == [Posted("writer/tenant-7", "m")]
    assert post.queue("m").pool == "inbox:writer"


def test_the_sender_gets_nothing_of_what_it_sends_to_a_topic(post: Ground) -> None:
    subscribe(post, "news", A, "u1")
    subscribe(post, "news", B, "u2")
    assert send(post, "topic:news", sender="writer/a") == [Posted("writer/b", "m")]


def test_a_capability_means_the_agents_that_provide_it_now(post: Ground) -> None:
    post.provide("s1", "function")
    agent(post, "coder", "one")
    agent(post, "tester")
    agent(post, "other", label="other")
    open_inbox(post, "tester", "i1")
    sent = send(post, "capability:work")
    assert sorted(one.recipient for one in sent) == ["coder/one", "tester/default"]
    assert {post.get(TASK, one.id).capability for one in sent} == {"inbox:coder/one", "inbox:tester"}


def test_a_capability_never_announced_is_refused_with_near_names(post: Ground) -> None:
    agent(post, "coder", label="summarize")
    open_inbox(post, Address("sumarize", "x"))
    with pytest.raises(NoProviderError) as caught:
        send(post, "capability:sumarize")
    assert caught.value.near == ["summarize"]
    assert post.scan(Range(TASK, "key")) == []


@pytest.mark.parametrize(
    ("to", "said"),
    [("topic:news/de", "subscribed to 'news/de'"), ("capability:work", "provides 'work'"), ("everyone", "no inbox")],
)
def test_a_group_with_nobody_there_is_one_dead_letter_that_says_so(post: Ground, to: str, said: str) -> None:
    post.provide()  # a function has no inbox
    assert send(post, to) == []
    assert (post.state("m"), code_of(post, "m")) == ("failed", "no_recipient")
    assert said in str(post.outcome("m").error)
    assert (post.get(TASK, "m").capability, post.get(TASK, "m").recipient) == (NOBODY, str(Recipient.parse(to)))
    assert send(post, to) == []
    assert len(post.scan(Range(TASK, "key"))) == 1
    with pytest.raises(InvalidInputError, match="sent again"):
        post.do(tasks.requeue, Requeue("m", "again"))


def test_a_delayed_message_to_nobody_is_a_dead_letter_at_once(post: Ground) -> None:
    send(post, EVERYONE, delay=50.0)
    assert post.state("m") == "failed"


def test_a_group_is_bounded(post: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "GROUP_MOST", 2)
    for number in range(3):
        open_inbox(post, Address("writer", str(number)), f"i{number}")
    with pytest.raises(InvalidInputError, match="2 at most"):
        send(post, EVERYONE)
    assert post.scan(Range(TASK, "key")) == []


def test_a_large_body_is_kept_once_whoever_gets_it(post: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        open_inbox(post, Address("writer", str(number)), f"i{number}")
    text = envelope(MessageKind.STATUS, None, f'"{"x" * post.policy.blob_from}"')
    key = bodies.blob_key(text)
    monkeypatch.setattr(bodies, "blob_key", None)  # the rule hashes nothing
    message = Submit("m", "a message", text, kind="message", ttl=100.0)
    post.do(messages.send, Send(message, EVERYONE, "s1", key))
    (blob,) = post.scan(Range(BLOB, "key"))
    assert (blob.hash, blob.body, blob.refs) == (key, text, 3)


def test_three_hundred_recipients_are_found_in_a_few_rounds(post: Ground) -> None:
    owners = [Address("writer", str(number)) for number in range(300)]
    rows = [row for number, one in enumerate(owners) for row in messages.inbox_providers(f"i{number}", "s1", one, 1)]
    post.do(registry.announce, Announce("s1", [messages.inbox_row(one) for one in owners], rows))
    assert len(send(post, EVERYONE, "m1")) == 300
    for row in rows:
        agent(post, row.agent_type or "", row.agent_key)
    post.do(registry.withdraw, Withdraw("s1", [row.id for row in rows]))
    assert len(send(post, "capability:work", "m2")) == 300


# which inbox it lies in


def redirected(ground: Ground, *ids: str) -> int:
    return ground.do(inboxes.redirect, Redirect(ids))


def test_with_none_open_a_message_waits_in_the_inbox_that_was_open_last(post: Ground) -> None:
    """Or a single look by hand would keep a worker's messages from it."""
    open_inbox(post, "writer", "push")
    close_inbox(post, "push")
    post.wait(1)
    open_inbox(post, A, "pull")
    close_inbox(post, "pull")
    send(post, "writer/a", "m1")
    post.wait(1)
    post.renew("s1")
    open_inbox(post, "writer", "push2")
    close_inbox(post, "push2")
    send(post, "writer/a", "m2")
    assert [post.queue(id).pool for id in ("m1", "m2")] == ["inbox:writer/a", "inbox:writer"]


def test_what_waits_in_a_closed_inbox_is_pushed_when_its_type_opens_one(post: Ground) -> None:
    open_inbox(post, A, "pull")
    close_inbox(post, "pull")
    send(post, "writer/a")
    open_inbox(post, "writer", "push")
    assert take(post, "writer", "push") == []
    assert redirected(post, "m", "none") == 1
    assert (post.queue("m").capability, post.queue("m").timeout) == ("inbox:writer", post.policy.timeout)
    assert take(post, "writer", "push") == ["m"]
    assert redirected(post, "m") == 0


def test_what_was_to_be_pushed_is_pulled_when_its_agent_opens_an_inbox(post: Ground) -> None:
    open_inbox(post, "writer", "push")
    send(post, "writer/a")
    take(post, "writer", "push")
    post.session("s2")
    post.kill("s1")
    assert post.queue("m").pool == "inbox:writer!alone"
    open_inbox(post, A, "pull", "s2")
    assert redirected(post, "m") == 1
    row = post.queue("m")
    assert (row.pool, row.capability, row.suspect, row.timeout) == ("inbox:writer/a", "inbox:writer/a", 0, inboxes.HELD)
    assert take(post, A, "pull", "s2") == ["m"]


def test_a_message_stays_where_somebody_may_take_it(post: Ground) -> None:
    open_inbox(post, A, "pull")
    send(post, "writer/a")
    open_inbox(post, "writer", "push")
    assert redirected(post, "m") == 0
    assert take(post, A, "pull") == ["m"]


@pytest.mark.parametrize("way", ["given back", "died", "withdrawn", "delayed"])
def test_what_returns_to_an_inbox_that_was_closed_meanwhile_goes_to_the_open_one(post: Ground, way: str) -> None:
    post.session("s2")
    open_inbox(post, A, "pull", "s2")
    send(post, "writer/a", delay=5.0 if way == "delayed" else 0.0)
    open_inbox(post, "writer", "push")
    if way in ("given back", "died"):
        assert take(post, A, "pull", "s2") == ["m"]
    if way != "died":
        close_inbox(post, "pull", "s2")
    match way:
        case "given back":
            post.do(claims.give_back, GiveBack("s2", [("m", 1)]))
        case "died":
            post.kill("s2")
        case "withdrawn":
            assert not post.do(burial.settle, Settle(("pull", "pull.all")))
        case "delayed":
            post.wait(5)
            post.renew("s1")
            post.turn()
    assert (post.queue("m").pool, post.queue("m").suspect) == ("inbox:writer", 0)
    assert take(post, "writer", "push") == ["m"]


def test_many_messages_that_a_closed_inbox_leaves_behind_move_in_slices(post: Ground) -> None:
    post.settings(slice=100)
    post.session("s2")
    open_inbox(post, A, "pull", "s2")
    for number in range(300):
        send(post, "writer/a", f"m{number}")
    open_inbox(post, "writer", "push")
    close_inbox(post, "pull", "s2")
    slices = 1
    while post.do(burial.settle, Settle(("pull", "pull.all"))):
        slices += 1
        assert slices < 10
    assert slices >= 3
    assert len(post.scan(Range(QUEUE, "ready", ("inbox:writer",)))) == 300


def test_a_requeued_message_goes_to_the_inbox_of_now(post: Ground) -> None:
    open_inbox(post, A, "pull")
    send(post, "writer/a", ttl=1.0)
    post.wait(1)
    post.turn()
    post.renew("s1")
    close_inbox(post, "pull")
    open_inbox(post, "writer", "push")
    post.do(tasks.requeue, Requeue("m", "again"))
    assert take(post, "writer", "push") == ["again"]


def test_an_inbox_that_nobody_opened_for_long_is_forgotten_unless_something_waits(post: Ground) -> None:
    post.session("old")
    owners: tuple[Address | str, ...] = (A, B, "coder")
    for number, owner in enumerate(owners):
        open_inbox(post, owner, f"i{number}", "old")
    post.kill("old")
    send(post, "writer/b")
    post.settings(keep_seconds=100.0)
    post.wait(200)
    post.session("s2")
    open_inbox(post, "coder", "i9", "s2")
    post.do(pruning.prune, Prune())
    assert [row.version for row in post.scan(Range(CAPABILITY, "key"))] == ["coder", "writer/b"]


# what becomes of it


def test_the_higher_priority_is_received_first(post: Ground) -> None:
    open_inbox(post, A)
    for number, priority in enumerate((2.0, 9.0, 5.0)):
        send(post, "writer/a", f"m{number}", priority=priority)
    assert take(post, A) == ["m1", "m2", "m0"]


def test_what_nobody_receives_in_time_is_a_dead_letter_that_can_be_requeued(post: Ground) -> None:
    open_inbox(post, A)
    send(post, "writer/a", ttl=10.0)
    post.wait(10)
    post.turn()
    assert post.state("m") == "expired"
    assert post.do(tasks.requeue, Requeue("m", "again")).created
    assert take(post, A) == ["again"]
    again = post.get(TASK, "again")
    assert (again.kind, again.recipient, again.requeued_from) == ("message", "writer/a", "m")


def test_what_was_received_once_does_not_expire(post: Ground) -> None:
    open_inbox(post, A)
    send(post, "writer/a", ttl=10.0)
    take(post, A)
    post.do(claims.give_back, GiveBack("s1", [("m", 1)]))
    post.wait(100)
    post.turn()
    assert take(post, A) == ["m"]


def test_what_nobody_saw_is_given_back_with_its_ttl_and_counts_for_nothing(post: Ground) -> None:
    open_inbox(post, A)
    send(post, "writer/a", ttl=10.0)
    label = messages.inbox_label(A)
    for attempt in (1, 2):
        assert take(post, A) == ["m"]
        post.do(claims.give_back, GiveBack("s1", [("m", attempt)], unbegun=True))
    (again,) = post.claim("s1", "i1", 1, label)
    assert (again.row.attempt, again.unbegun) == (3, 2)
    with pytest.raises(StaleClaimError):  # the number of the claim has grown all the same
        post.finish("m", 1, output="null")
    post.do(claims.give_back, GiveBack("s1", [("m", 3)], unbegun=True))
    post.wait(10)
    post.turn()
    assert post.state("m") == "expired"


def test_a_ttl_that_was_kept_once_is_not_looked_at_again(post: Ground) -> None:
    open_inbox(post, A)
    send(post, "writer/a", ttl=10.0)
    take(post, A)
    post.do(claims.give_back, GiveBack("s1", [("m", 1)]))
    take(post, A)
    post.do(claims.give_back, GiveBack("s1", [("m", 2)], unbegun=True))
    post.wait(100)
    post.turn()
    post.renew("s1")
    (again,) = post.claim("s1", "i1", 1, messages.inbox_label(A))
    assert (again.row.attempt, again.unbegun) == (3, 1)


def test_what_is_held_is_not_ended_by_any_attempt_timeout(post: Ground) -> None:
    open_inbox(post, A)
    send(post, "writer/a")
    take(post, A)
    post.wait(30 * 86_400)
    post.turn()
    assert post.state("m") == "running"
    assert post.finish("m", output="null") is not None


def test_what_is_pushed_has_the_timeout_of_any_handler(post: Ground) -> None:
    open_inbox(post, "writer")
    send(post, "writer/a")
    assert post.queue("m").timeout == post.policy.timeout


def test_a_held_message_can_be_cancelled(post: Ground) -> None:
    open_inbox(post, A)
    send(post, "writer/a")
    take(post, A)
    post.do(tasks.cancel, Cancel("m"))
    post.wait(post.policy.cancel_grace)
    post.turn()
    assert post.state("m") == "cancelled"
    with pytest.raises(StaleClaimError):
        post.finish("m", output="null")


def test_what_a_dead_process_held_comes_back_to_any_receiver_and_is_no_suspect(post: Ground) -> None:
    post.session("s2")
    open_inbox(post, A, "i1", "s2")
    for id in ("m1", "m2"):
        send(post, "writer/a", id)
    assert take(post, A, "i1", "s2") == ["m1", "m2"]
    post.kill("s2")
    open_inbox(post, A, "i2")
    assert take(post, A, "i2") == ["m1", "m2"]
    row = post.queue("m1")
    assert (row.attempt, row.suspect, row.crashes, row.pool) == (2, 0, 0, "inbox:writer/a")
    with pytest.raises(StaleClaimError):
        post.finish("m1", 1, "s2", output="null")


def test_only_a_message_that_was_all_its_process_held_is_counted_against(post: Ground) -> None:
    """One that kills its receiver again and again must not come for ever; its neighbours are not punished."""
    send_id, limit = "m", post.policy.crash_limit
    open_inbox(post, A)
    send(post, "writer/a", send_id)
    for number in range(limit):
        session = f"dies-{number}"
        post.session(session)
        open_inbox(post, A, f"j{number}", session)
        assert take(post, A, f"j{number}", session) == [send_id]
        post.kill(session)
    assert (post.state(send_id), code_of(post, send_id), post.outcome(send_id).crashes) == ("failed", "crashed", limit)


def test_a_burial_in_slices_counts_nobody_as_alone(post: Ground) -> None:
    post.settings(slice=1)
    post.session("s2")
    open_inbox(post, A, "i1", "s2")
    for id in ("m1", "m2", "m3"):
        send(post, "writer/a", id)
    assert len(take(post, A, "i1", "s2")) == 3
    post.kill("s2")
    assert [post.queue(id).crashes for id in ("m1", "m2", "m3")] == [0, 0, 0]
    assert not post.do(burial.bury, Bury("s2"))


def test_a_pushed_message_whose_process_died_is_a_suspect(post: Ground) -> None:
    post.session("s2")
    open_inbox(post, "writer", "i1", "s2")
    send(post, "writer/a")
    assert take(post, "writer", "i1", "s2") == ["m"]
    post.kill("s2")
    assert post.queue("m").pool == "inbox:writer!alone"


def test_a_rejected_message_goes_to_another_receiver_or_comes_again_after_a_pause(post: Ground) -> None:
    open_inbox(post, A, "i1")
    send(post, "writer/a")
    take(post, A)
    post.do(claims.reject, Reject("s1", "m", 1, "not now"))
    assert take(post, A) == []
    post.wait(post.policy.reject_pause)
    post.turn()
    assert take(post, A) == ["m"]
    post.renew("s1")
    open_inbox(post, A, "i2")
    post.do(claims.reject, Reject("s1", "m", 2))
    assert take(post, A, "i1") == []
    assert take(post, A, "i2") == ["m"]


def test_a_message_that_is_rejected_for_good_is_a_dead_letter(post: Ground) -> None:
    open_inbox(post, A)
    send(post, "writer/a")
    take(post, A)
    failure = Failure("rejected", "RejectedError", "no", retryable=False)
    post.do(claims.finish, Finish("s1", "m", 1, TaskState.FAILED, None, failure))
    assert (post.state("m"), code_of(post, "m")) == ("failed", "rejected")


# in the name of a handler


@pytest.fixture
def handler(post: Ground) -> Ground:
    """The task ``job`` runs on ``s1``."""
    post.provide()
    post.submit("job")
    post.claim()
    open_inbox(post, A)
    return post


def named(id: str, attempt: int = 1) -> dict[str, Any]:
    return {"id": id, "parent": "job", "parent_attempt": attempt, "step_key": "!send x:digest:0", "causation": "job"}


def test_a_repeated_attempt_does_not_send_twice_whoever_is_there_now(handler: Ground) -> None:
    first = send(handler, EVERYONE, **named("m1"))
    handler.fail("job")
    handler.wait(10)
    handler.turn()
    handler.claim()
    open_inbox(handler, B, "i2")
    assert send(handler, EVERYONE, **named("m2", 2)) == first == [Posted("writer/a", "m1")]
    assert take(handler, A) == ["m1"]


def test_a_message_is_no_child_it_outlives_its_sender(handler: Ground) -> None:
    send(handler, "writer/a", **named("m1"))
    row = handler.queue("job")
    assert (row.children, row.waits_for) == (0, None)
    handler.do(tasks.cancel, Cancel("job"))
    handler.do(claims.finish, Finish("s1", "job", 1, TaskState.CANCELLED))
    assert handler.state("m1") == "ready"


def test_a_handler_whose_claim_is_over_sends_nothing(handler: Ground) -> None:
    handler.do(claims.give_back, GiveBack("s1", [("job", 1)]))
    with pytest.raises(StaleClaimError):
        send(handler, "writer/a", **named("m1"))
    assert take(handler, A) == []


def test_everyone_is_known_by_one_walk_of_those_that_are_online(post: Ground) -> None:
    open_inbox(post, A)
    assert [row.id for row in post.scan(Range(PROVIDER, "by_capability", (ALL, registry.ONLINE)))] == ["i1.all"]
    post.kill("s1")
    assert post.scan(Range(PROVIDER, "by_capability", (ALL, registry.ONLINE))) == []
