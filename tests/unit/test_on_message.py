"""`on_message`: which methods can be one, and which of them gets a message."""

from __future__ import annotations

from typing import Any, cast

import pytest

from autogen_coord import InvalidInputError, Message, MessageKind, TaskContext, on_message
from autogen_coord.agents.on_message import choose, handlers_of, unhandled
from autogen_coord.core.claims import Claimed
from autogen_coord.core.messages import envelope
from autogen_coord.core.tables import QueueRow, TaskRow


def message(kind: MessageKind = MessageKind.TASK, topic: str | None = None, body: str = '"x"') -> Message:
    task: Any = dict.fromkeys(TaskRow._fields)
    row: Any = dict.fromkeys(QueueRow._fields)
    claimed = Claimed(QueueRow(**{**row, "id": "m", "attempt": 1}), TaskRow(**{**task, "id": "m"}), envelope(kind, topic, body))
    return Message(claimed, None)  # type: ignore[arg-type]


class Desk:
    """Not an agent: what it takes is all that matters here."""

    @on_message
    async def anything(self, message: Message) -> None: ...

    @on_message(MessageKind.STATUS, "feedback")
    async def state(self, message: Message, ctx: TaskContext) -> None: ...

    @on_message(topic="news")
    async def news(self, message: Message) -> None: ...

    @on_message(MessageKind.ERROR, topic="news")
    async def bad_news(self, message: Message) -> None: ...

    @on_message(topic="news/de")
    async def local_news(self, message: Message) -> None: ...


@pytest.mark.parametrize(
    ("kind", "topic", "name"),
    [
        (MessageKind.TASK, None, "anything"),
        (MessageKind.STATUS, None, "state"),
        (MessageKind.FEEDBACK, "weather/de", "state"),
        (MessageKind.CONTROL, "news/fr", "news"),
        (MessageKind.STATUS, "news/fr", "news"),
        (MessageKind.ERROR, "news/fr", "bad_news"),
        (MessageKind.ERROR, "news/de", "local_news"),
        (MessageKind.TASK, "newsletter/de", "anything"),
    ],
)
def test_of_several_that_fit_the_one_that_asks_for_most_is_chosen(kind: MessageKind, topic: str | None, name: str) -> None:
    chosen = choose(handlers_of(Desk), message(kind, topic))
    assert chosen is not None
    assert chosen.name == name


def test_a_message_that_none_takes_has_no_handler_and_the_error_says_so() -> None:
    class Narrow:
        @on_message(MessageKind.TASK)
        async def work(self, message: Message) -> None: ...

    status = message(MessageKind.STATUS, "news/de")
    assert choose(handlers_of(Narrow), status) is None
    error = unhandled("clerk/a", status)
    assert "agent clerk/a has no handler for STATUS messages of topic news/de" in str(error)
    assert error.code == "invalid_input"  # which is not tried again


async def test_a_handler_is_called_as_its_signature_wants_it() -> None:
    seen: list[Any] = []

    class Both:
        @on_message(MessageKind.TASK)
        async def plain(self, message: Message) -> None:
            seen.append(message)

        @on_message(MessageKind.STATUS)
        async def with_context(self, it: Message, context: TaskContext) -> None:
            seen.append((it, context))

    plain, with_context = sorted(handlers_of(Both), key=lambda one: one.name)
    context: Any = object()
    await plain.handle(Both(), message(), context)
    await with_context.handle(Both(), message(MessageKind.STATUS), context)
    assert [type(one) for one in seen] == [Message, tuple]
    assert seen[1][1] is context


def test_a_subclass_has_the_handlers_of_its_bases_and_may_take_one_away() -> None:
    class Base:
        @on_message(MessageKind.TASK)
        async def work(self, message: Message) -> None: ...

        @on_message(MessageKind.STATUS)
        async def state(self, message: Message) -> None: ...

    class Child(Base):
        @on_message(MessageKind.FEEDBACK)
        async def work(self, message: Message) -> None: ...

        async def state(self, message: Message) -> None: ...

    assert [(one.name, one.kinds) for one in handlers_of(Child)] == [("work", frozenset({MessageKind.FEEDBACK}))]
    assert len(handlers_of(Base)) == 2
    assert handlers_of(object) == []


def test_what_cannot_be_a_handler_is_refused_by_name() -> None:
    def plain(self: Any, message: Message) -> None: ...

    async def too_few(self: Any) -> None: ...

    async def too_many(self: Any, message: Message, ctx: TaskContext, more: int) -> None: ...

    async def any_number(self: Any, *messages: Message) -> None: ...

    wrong: list[Any] = [plain, too_few, too_many, any_number]
    for handler in wrong:
        with pytest.raises(InvalidInputError, match=handler.__name__):
            on_message(handler)


@pytest.mark.parametrize("kinds", [("gossip",), (7,), (MessageKind.TASK, "x")])
def test_kinds_that_do_not_exist_are_refused(kinds: tuple[Any, ...]) -> None:
    async def handler(self: Any, message: Message) -> None: ...

    with pytest.raises(InvalidInputError, match="kinds are task, result"):
        cast(Any, on_message)(*kinds)(handler)


@pytest.mark.parametrize("topic", ["", "a b", "news/", 7])
def test_topics_that_cannot_be_are_refused(topic: Any) -> None:
    with pytest.raises(InvalidInputError, match="topic"):
        on_message(topic=topic)


def test_annotations_are_read_at_the_registration_and_must_be_what_is_passed() -> None:
    unchecked = cast(Any, on_message)

    class Unannotated:
        @unchecked
        async def work(self, message: Message) -> None: ...

        del work.__annotations__["message"]

    class Swapped:
        @unchecked
        async def work(self, ctx: TaskContext, message: Message) -> None: ...

    class Other:
        @unchecked
        async def work(self, message: Message, other: int) -> None: ...

    for wrong, name in ((Unannotated, "message"), (Swapped, "ctx"), (Other, "other")):
        with pytest.raises(InvalidInputError, match=name):
            handlers_of(wrong)


def test_two_handlers_of_the_same_messages_are_refused() -> None:
    class Twice:
        @on_message(MessageKind.TASK, MessageKind.STATUS)
        async def first(self, message: Message) -> None: ...

        @on_message(MessageKind.STATUS)
        async def second(self, message: Message) -> None: ...

    with pytest.raises(InvalidInputError, match="first and second both take status messages"):
        handlers_of(Twice)
