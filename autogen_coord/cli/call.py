"""``autogen-coord call CAPABILITY``: ask for one thing, and wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core import running
from ..core.discovery import HERE, CapabilityInfo, Registry
from ..core.requests import Options
from ..errors import NoProviderError, TaskError
from ..settings import Settings
from .bodies import print_value, read_input, read_text
from .options import DebugOption, NamespaceOption, PriorityOption, StoreOption, on_store, time_span
from .printing import complain, say_note, span

if TYPE_CHECKING:
    from ..coordination import Coordination


def call(
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", help="name, or name:version.")],
    input: Annotated[str | None, typer.Argument(metavar="INPUT", help="JSON; what is none is the text itself.")] = None,
    input_file: Annotated[
        str | None, typer.Option("--input-file", metavar="FILE|-", help="Read the input from a file, or standard input.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(parser=time_span, metavar="SPAN", help="The task's deadline: 30s, 5m; a bare number is seconds.")
    ] = None,
    priority: PriorityOption = None,
    key: Annotated[str | None, typer.Option(metavar="K", help="The task's key: the same again is the same task.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the value as JSON on one line, a text too.")] = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Call a capability and print its value: a text as it is, else JSON. Ctrl-C cancels the task, unless it has a key.

    INPUT that is no JSON, or does not fit as JSON, is the text itself where the capability takes one.
    """
    if input is not None and input_file is not None:
        raise typer.BadParameter("give the input as INPUT or by --input-file, not both")
    settings = Settings.load(store=store, namespace=namespace)
    text = input if input_file is None else read_text(input_file, settings.max_input)
    # looked at before a session is opened: what is refused here leaves no trace in the store
    found = on_store(store, namespace, lambda there, settings: Registry(there, settings).describe(capability))
    value = read_input(text, found)
    _warn_of_nobody(found, settings, timeout)
    options = Options(timeout=timeout, key=key)
    if priority is not None:
        options["priority"] = priority
    from ..coordination import Coordination  # AutoGen is loaded by the commands that need it, not by every other

    try:
        answer = running.run(_answer(Coordination.open(settings=settings), found.label, value, options))
    except NoProviderError as error:
        if debug:
            raise
        complain(f"nobody provides {error.capability}: start a program that does (it must keep running), then call again")
        raise typer.Exit(1) from None
    except TaskError as error:
        if debug:
            raise
        complain(f"{error}; `autogen-coord tasks show {error.task_id}` tells more")
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, running.Terminated) as stop:
        say_note("stopped, and the task with it" if key is None else "stopped; the task goes on, as others may wait for its key")
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None
    print_value(answer, as_json)


async def _answer(opening: Coordination, label: str, value: Any, options: Options) -> Any:
    async with opening as coord:
        return await coord.call(label, value, **options)


def _warn_of_nobody(found: CapabilityInfo, settings: Settings, timeout: float | None) -> None:
    if not any(info.status in HERE for info in found.providers):
        patience = min(settings.no_provider_wait, settings.no_provider_wait if timeout is None else timeout)
        say_note(f"nobody provides {found.label} now; waiting for {span(patience)} at most")
