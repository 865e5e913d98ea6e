"""``autogen-coord send`` and ``receive``: messages to agents, and an agent's messages, from a shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.addresses import Reach, Recipient
from ..core.inspect import stamp
from ..core.messages import MessageKind, Posted
from ..errors import InvalidInputError
from ..settings import Settings
from .bodies import read_json, read_text
from .options import (
    DebugOption,
    JsonOption,
    NamespaceOption,
    PriorityOption,
    StoreOption,
    seconds,
    time_span,
    with_coordination,
)
from .printing import clean, complain, print_json, say, say_note, span

if TYPE_CHECKING:
    from ..agents.message import Message
    from ..coordination import Coordination


def send(
    recipient: Annotated[
        str, typer.Argument(metavar="RECIPIENT", help="type/key or type, capability:NAME, topic:TYPE[/SOURCE], everyone.")
    ],
    body: Annotated[
        str | None, typer.Argument(metavar="BODY", help="JSON; what is none is the text itself. Default: null.")
    ] = None,
    body_file: Annotated[
        str | None, typer.Option("--body-file", metavar="FILE|-", help="Read the body from a file, or standard input.")
    ] = None,
    kind: Annotated[MessageKind, typer.Option(case_sensitive=False, help="What it is about.")] = MessageKind.TASK,
    sender: Annotated[str | None, typer.Option(metavar="AGENT", help="Who it is from, type/key: replies go there.")] = None,
    correlation: Annotated[str | None, typer.Option(metavar="ID", help="The conversation that it belongs to.")] = None,
    priority: PriorityOption = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            parser=seconds, metavar="SPAN", help="How long it may wait to be received: 90s, 7d. Default: settings, else 7d."
        ),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Send a message; it is stored, and waits to be received. Prints its id for each agent that it goes to.

    A group (a capability, a topic, everyone) is who is online now; with nobody there the message is kept as a dead letter.
    """
    if body is not None and body_file is not None:
        raise typer.BadParameter("give the body as BODY or by --body-file, not both")
    settings = Settings.load(store=store, namespace=namespace)
    to = Recipient.parse(recipient)
    value = _read_body(body if body_file is None else read_text(body_file, settings.max_input))
    options: dict[str, Any] = {"kind": kind, "sender": sender, "correlation": correlation, "ttl": ttl}
    if priority is not None:
        options["priority"] = priority

    async def work(coord: Coordination) -> list[Posted]:
        return await coord.send(to, value, **options)

    posted = with_coordination(settings, work)
    if as_json:
        print_json([one._asdict() for one in posted])
    else:
        for one in posted:
            say(f"{one.id} to {one.recipient}")
    if not posted:
        complain(f"{to}: nobody was there, the message is kept as a dead letter; `autogen-coord tasks dead` shows it")
        raise typer.Exit(1)


def receive(
    recipient: Annotated[str, typer.Argument(metavar="RECIPIENT", help="The agent whose messages they are: type/key or type.")],
    timeout: Annotated[
        float | None,
        typer.Option(parser=time_span, metavar="SPAN", help="Wait no longer for one: 10s, 0 for what is there. Default: no end."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with the next, until stopped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Receive an agent's next message: print it, then acknowledge it. One that could not be printed comes again."""
    settings = Settings.load(store=store, namespace=namespace)
    address = _one_agent(recipient)

    async def work(coord: Coordination) -> int:
        received = 0
        while received == 0 or follow:
            message = await coord.receive(address, timeout=timeout)
            if message is None:
                break
            async with message:
                typer.echo(json.dumps(_object(message)) if as_json else _line(message))  # echo flushes
            received += 1
        return received

    if with_coordination(settings, work) == 0:
        say_note(f"nothing came for {address}" + (f" within {span(timeout)}" if timeout else ""))
        raise typer.Exit(1)


def _one_agent(recipient: str) -> str:
    """Raises: InvalidInputError."""
    to = Recipient.parse(recipient)
    if to.reach is not Reach.AGENT:
        raise InvalidInputError(
            f"{to} is no single agent: messages to it lie with each of its agents; receive for one, as type/key"
        )
    return to.name


def _read_body(text: str | None) -> Any:
    """JSON, else the text itself."""
    if text is None:
        return None
    try:
        return read_json(text)
    except InvalidInputError:
        return text


def _line(message: Message) -> str:
    """A message on one line, its body last."""
    body = message.body if isinstance(message.body, str) else json.dumps(message.body)
    sender = f"from {message.sender}" if message.sender is not None else "from nobody"
    again = f" (attempt {message.attempt})" if message.attempt > 1 else ""
    return clean(f"{stamp(message.sent_at)}  {message.kind:<8}  {sender}{again}  {body}")


def _object(message: Message) -> dict[str, Any]:
    names = "id", "kind", "sender", "recipient", "topic", "body", "priority", "correlation", "causation", "sent_at", "attempt"
    return {name: getattr(message, name) for name in names}
