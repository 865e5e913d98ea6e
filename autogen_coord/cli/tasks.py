"""``autogen-coord tasks``: see tasks and steer them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer

from ..core import inspect, pruning
from ..core import tasks as rules
from ..core.ids import new_id
from ..core.inspect import TaskInfo
from ..core.outcomes import output_of
from ..core.pruning import Purge
from ..core.store import Keys, Range, Rows, Store, Transaction
from ..core.tables import DEAD_LETTERS, EXPIRED, FINAL, OUTCOME, QUEUE, TASK, TaskState
from ..core.tasks import Cancel, Requeue
from ..errors import ConfigError, CoordError
from ..settings import Settings
from .options import CapabilityOption, DebugOption, JsonOption, NamespaceOption, StoreOption, on_store, seconds
from .printing import amount, clean, complain, moment, print_json, print_pairs, print_table, say, span

A = TypeVar("A")
C = TypeVar("C")

COUNT_MOST = 1_000
"""How far what will be purged is counted before it is."""

app = typer.Typer(help="See tasks and steer them.", no_args_is_help=True, rich_markup_mode=None)

LimitOption = Annotated[int, typer.Option(min=1, help="At most so many.")]


@app.command("list")
def list_tasks(
    state: Annotated[list[TaskState] | None, typer.Option(help="Only tasks in this state; may be given several times.")] = None,
    capability: CapabilityOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """List tasks, the newest first; with only final states, those that ended last."""

    async def work(there: Store, settings: Settings) -> tuple[list[TaskInfo], float]:
        states = [one.value for one in state or ()]
        return await inspect.tasks(there, states=states, capability=capability, limit=limit), await there.now()

    infos, now = on_store(store, namespace, work)
    if as_json:
        print_json([_without_history(info) for info in infos])
    elif not infos:
        complain_of_none("tasks", namespace)
    else:
        columns = "task", "state", "capability", "attempt", "submitted", "key"
        print_table(columns, [(*_head(info), span(now - info.submitted_at) + " ago", info.key or "") for info in infos])


@app.command("dead")
def list_dead(
    capability: CapabilityOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """List the dead letters, tasks that failed or expired, with their errors: those that ended last first."""

    async def work(there: Store, settings: Settings) -> tuple[list[TaskInfo], float]:
        return await inspect.tasks(there, states=DEAD_LETTERS, capability=capability, limit=limit), await there.now()

    infos, now = on_store(store, namespace, work)
    if as_json:
        print_json([_without_history(info) for info in infos])
    elif not infos:
        complain_of_none("dead letters", namespace)
    else:
        columns = "task", "state", "capability", "attempt", "ended", "error"
        print_table(columns, [(*_head(info), span(now - (info.finished_at or now)) + " ago", _error(info)) for info in infos])


@app.command("show")
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    with_input: Annotated[bool, typer.Option("--input", help="Print its input too.")] = False,
    with_output: Annotated[bool, typer.Option("--output", help="Print its output too.")] = False,
    with_traceback: Annotated[bool, typer.Option("--traceback", help="Print where its last error was raised.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Show a task: its state, why it waits, and its attempts. Its input and output are shown only when asked for."""

    async def work(there: Store, settings: Settings) -> tuple[TaskInfo, dict[str, Any], float]:
        info = await inspect.task(there, settings, id)
        return info, await _bodies(there, id, with_input, with_output), await there.now()

    info, shown, now = on_store(store, namespace, work)
    if as_json:
        print_json(asdict(info) | shown)
        return
    print_pairs(_pairs(info, now))
    if info.attempts:
        say()
        columns = "attempt", "end", "started", "took", "provider", "error"
        print_table(columns, [_attempt(one, now) for one in info.attempts])
    if with_traceback and info.error:
        for line in str(info.error.get("traceback", "")).splitlines():
            say("  " + line)
    for name, value in shown.items():
        say()
        say(f"{name}:")
        typer.echo(json.dumps(value, indent=2))


@app.command("cancel")
def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The tasks' ids.")],
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Cancel tasks: at once those that do not run; a handler that runs is asked to stop, and its task ended after a grace."""

    async def work(there: Store, settings: Settings) -> list[tuple[str, str | CoordError]]:
        return await _apply(there, settings, _cancel, [Cancel(id) for id in ids])

    _tell(on_store(store, namespace, work))


@app.command("requeue")
def requeue(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Dead letters' ids.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters that were not requeued before.")] = False,
    capability: CapabilityOption = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Run dead letters once more, each as a new task. The dead letter stays until it is purged or pruned."""
    if every == bool(ids):
        raise typer.BadParameter("give the ids of dead letters, or --all")
    if capability is not None and not every:
        raise typer.BadParameter("--capability goes with --all")

    async def work(there: Store, settings: Settings) -> list[tuple[str, str | CoordError]]:
        wanted = await _not_requeued(there, capability) if every else list(ids or ())
        return await _apply(there, settings, _requeue, [Requeue(id, new_id()) for id in wanted])

    answers = on_store(store, namespace, work)
    if not answers:
        complain_of_none("dead letters to requeue", namespace)
    _tell(answers)


@app.command("purge")
def purge(
    state: Annotated[list[TaskState], typer.Option(help="Finished tasks in this state; may be given several times.")],
    older: Annotated[float, typer.Option(parser=seconds, metavar="SPAN", help="That ended so long ago: 7d, 12h, 30m, 0s.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Forget finished tasks, with their inputs, outputs and attempts, for good. Events are not touched."""
    live = [one.value for one in state if one.value not in FINAL]
    if live:
        raise typer.BadParameter(f"{', '.join(live)}: only finished tasks are purged ({', '.join(FINAL)}); cancel live ones first")
    states = list(dict.fromkeys(one.value for one in state))

    async def work(there: Store, settings: Settings) -> int:
        before = await there.now() - older
        if not yes:
            _confirm(await _count(there, states, before), states, older)
        gone, more = 0, True
        while more:
            slice = await there.transact(lambda rows, now: pruning.purge(rows, Purge(states, before), now, settings))
            gone, more = gone + slice.tasks, slice.more
        return gone

    say(f"purged {amount(on_store(store, namespace, work), 'task')}")


# what is asked of the store


async def _bodies(store: Store, id: str, with_input: bool, with_output: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    tasks, outcomes = await store.read(Keys(TASK, (id,)), Keys(OUTCOME, (id,)))
    if with_input and tasks[0] is not None:
        shown["input"] = json.loads(await inspect.body(store, tasks[0].input, tasks[0].input_blob))
    if with_output:
        shown["output"] = None if outcomes[0] is None else json.loads(await output_of(outcomes[0], store))
    return shown


def _cancel(rows: Rows, command: Cancel, now: float, policy: Settings) -> str:
    if not rules.cancel(rows, command, now, policy):
        return "had ended before"
    running = rows.get(QUEUE, (command.task,))[0] is not None
    return f"is asked to stop, and ended by force after {span(policy.cancel_grace)}" if running else "cancelled"


def _requeue(rows: Rows, command: Requeue, now: float, policy: Settings) -> str:
    return f"requeued as {rules.requeue(rows, command, now, policy).id}"


async def _apply(
    store: Store, settings: Settings, rule: Callable[[Rows, C, float, Settings], A], commands: Sequence[C]
) -> list[tuple[str, A | CoordError]]:
    """Each command's answer, or the error that refused it; many a transaction, and a refused one changes nothing."""
    answers: list[tuple[str, A | CoordError]] = []
    for start in range(0, len(commands), settings.batch_commands):
        batch = commands[start : start + settings.batch_commands]

        def fold(rows: Transaction, now: float, batch: Sequence[Any] = batch) -> list[tuple[str, A | CoordError]]:
            found: list[tuple[str, A | CoordError]] = []
            for command in batch:
                mark = rows.mark()
                try:
                    found.append((command.task, rule(rows, command, now, settings)))
                except CoordError as error:
                    rows.undo(mark)
                    found.append((command.task, error))
            return found

        answers += await store.transact(fold)
    return answers


async def _not_requeued(store: Store, capability: str | None) -> list[str]:
    """Dead letters that no task came of as yet, the oldest first. A requeued task is newer, so the walk begins at the oldest."""
    infos = await inspect.tasks(store, states=DEAD_LETTERS, capability=capability, limit=sys.maxsize)
    dead = sorted(info.id for info in infos)
    again: set[str | None] = set()
    low = dead[0] if dead else None
    while low is not None:
        (rows,) = await store.read(Range(TASK, "key", (), low=low, limit=COUNT_MOST))
        again |= {row.requeued_from for row in rows}
        low = rows[-1].id + "\0" if len(rows) == COUNT_MOST else None
    return [id for id in dead if id not in again]


async def _count(store: Store, states: Sequence[str], before: float) -> int:
    found = await store.read(*(Range(OUTCOME, "by_state", (state,), high=before, limit=COUNT_MOST) for state in states))
    return sum(map(len, found))


def _confirm(count: int, states: Sequence[str], older: float) -> None:
    many = f"{COUNT_MOST:,} or more tasks" if count >= COUNT_MOST else amount(count, "task")
    if not sys.stdin.isatty():
        raise ConfigError(f"purge would forget {many} for good: nobody is here to say yes, pass --yes")
    typer.confirm(f"Forget {many} that {' or '.join(states)} more than {span(older)} ago, for good?", abort=True)


# what is told


def _tell(answers: Sequence[tuple[str, str | CoordError]]) -> None:
    for id, answer in answers:
        if isinstance(answer, CoordError):
            complain(str(answer))
        else:
            say(f"{id} {answer}")
    if any(isinstance(answer, CoordError) for _, answer in answers):
        raise typer.Exit(1)


def complain_of_none(what: str, namespace: str | None) -> None:
    where = Settings.load(namespace=namespace).namespace
    typer.echo(clean(f"no {what} in namespace {where!r}"), err=True)


def _without_history(info: TaskInfo) -> dict[str, Any]:
    return {name: value for name, value in asdict(info).items() if name not in ("attempts", "why")}


def _head(info: TaskInfo) -> tuple[str, str, str, str]:
    return info.id, info.state, info.capability, str(info.attempt)


def _error(info: TaskInfo) -> str:
    if info.error:
        return _error_text(info.error)
    return "its deadline or ttl passed" if info.state == EXPIRED else ""


def _error_text(error: dict[str, Any] | None) -> str:
    return f"{error.get('type', 'Exception')}: {error.get('text', '')}" if error else ""


def _pairs(info: TaskInfo, now: float) -> list[tuple[str, str]]:
    counts = f"{info.attempt} begun, {info.failures} failed, {info.crashes} crashed while alone" if info.attempt else ""
    return [
        ("task", info.id),
        ("capability", info.capability),
        ("state", info.state),
        ("why", info.why),
        ("error", clean(_error(info), 500)),
        ("progress", json.dumps(info.progress) if info.progress else ""),
        ("priority", f"{info.priority:g}"),
        ("key", info.key or ""),
        ("lane", info.lane or "" if info.sticky is None else ""),
        ("sticky", info.sticky or ""),
        ("parent", info.parent or ""),
        ("requeued from", info.requeued_from or ""),
        ("submitted", moment(info.submitted_at, now)),
        ("may start", moment(info.ready_at, now) if info.ready_at > info.submitted_at else ""),
        ("first claim by", moment(info.expires_at, now)),
        ("deadline", moment(info.deadline, now)),
        ("ended", moment(info.finished_at, now)),
        ("attempts", counts),
    ]


def _attempt(one: inspect.AttemptInfo, now: float) -> tuple[str, ...]:
    started = inspect.stamp(one.started_at) if one.started_at is not None else ""
    took = span((one.ended_at or now) - one.started_at) if one.started_at is not None else ""
    return str(one.number), one.end, started, took, one.provider or "", clean(_error_text(one.error), 200)
