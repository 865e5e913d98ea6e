"""``autogen-coord tasks``: see tasks and steer them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer

from ..core import inspect, pruning
from ..core import tasks as rules
from ..core.addresses import NOBODY
from ..core.ids import new_id
from ..core.inspect import TaskInfo
from ..core.outcomes import output_of
from ..core.pruning import Purge
from ..core.sessions import LIVE
from ..core.store import Keys, Range, Rows, Store, Transaction
from ..core.tables import DEAD_LETTERS, EXPIRED, FINAL, OUTCOME, QUEUE, SESSION, SUCCEEDED, TASK, TaskState
from ..core.tasks import Cancel, Requeue
from ..errors import ConfigError, CoordError
from ..settings import Settings
from .nothing import complain_of_none, nothing
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

    states = [one.value for one in state or ()]

    async def work(there: Store, settings: Settings) -> tuple[list[TaskInfo], float, str]:
        infos = await inspect.tasks(there, states=states, capability=capability, limit=limit)
        return infos, await there.now(), "" if infos else await nothing(there, settings, "tasks", "", states, capability)

    infos, now, none = on_store(store, namespace, work)
    if as_json:
        print_json([_without_history(info) for info in infos])
    elif not infos:
        complain_of_none(none)
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
    """List the dead letters, tasks that failed or expired, with their errors: those that ended last first.

    Where there are any: the parent, and the newest task that stands for the dead letter (its requeue, or a later task of its key).
    """

    async def work(there: Store, settings: Settings) -> tuple[list[TaskInfo], float, str]:
        infos = await inspect.tasks(there, states=DEAD_LETTERS, capability=capability, limit=limit)
        none = "" if infos else await nothing(there, settings, "dead letters", capability=capability)
        return infos, await there.now(), none

    infos, now, none = on_store(store, namespace, work)
    if as_json:
        print_json([_without_history(info) for info in infos])
    elif not infos:
        complain_of_none(none)
    else:
        _print_dead(infos, now)


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
        if name == "output" and info.state != SUCCEEDED:
            say(f"no output: the task is {info.state}")
            continue
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
    every: Annotated[bool, typer.Option("--all", help="All dead letters that no later task stands for.")] = False,
    children: Annotated[bool, typer.Option("--children", help="With --all: those that have a parent, too.")] = False,
    capability: CapabilityOption = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    debug: DebugOption = False,
) -> None:
    """Run dead letters once more, each as a new task. The dead letter stays until it is purged or pruned.

    One whose work a task does already, or has done, is not doubled. --all passes over those that were requeued before, whose key
    a later task has, or that have a parent: it is over, or has asked for another, and nobody waits for the result.
    """
    if every == bool(ids):
        raise typer.BadParameter("give the ids of dead letters, or --all")
    if capability is not None and not every:
        raise typer.BadParameter("--capability goes with --all")
    if children and not every:
        raise typer.BadParameter("--children goes with --all")

    async def work(there: Store, settings: Settings) -> tuple[list[tuple[str, str | CoordError]], str]:
        wanted, passed, none = list(ids or ()), "", ""
        if every:
            wanted, passed = await _unanswered(there, capability, children)
        if not wanted:
            none = await nothing(there, settings, "dead letters to requeue", capability=capability)
        note = "; ".join(filter(None, (none, passed)))
        return await _apply(there, settings, _requeue, [Requeue(id, new_id()) for id in wanted]), note

    answers, note = on_store(store, namespace, work)
    try:
        _tell(answers)
    finally:
        if note:
            complain_of_none(note)


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
        if not yes and (count := await _count(there, states, before)):
            _confirm(count, states, older)
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
    row = rows.one(QUEUE, command.task)
    if row is None:
        return "cancelled"
    session = rows.one(SESSION, row.session)
    if session is not None and session.state == LIVE and session.lease_until >= now:
        return f"is asked to stop, and ended by force after {span(policy.cancel_grace)}"
    if rows.scan(inspect.live_sessions(now)):
        return "is asked to stop, but its process is silent: a live one ends it"
    return "is asked to stop, but no process is live: it ends when one starts"


def _requeue(rows: Rows, command: Requeue, now: float, policy: Settings) -> str:
    answer = rules.requeue(rows, command, now, policy)
    if answer.created:
        return f"requeued as {answer.id}"
    successor = rows.one(TASK, answer.id)
    again = successor is not None and successor.requeued_from == command.task
    return f"{'already requeued as' if again else 'superseded by'} {answer.id}"


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


async def _unanswered(store: Store, capability: str | None, children: bool) -> tuple[list[str], str]:
    """Dead letters that nobody stands for, the oldest first; and a line that counts the others."""
    infos = await inspect.tasks(store, states=DEAD_LETTERS, capability=capability, limit=sys.maxsize)
    wanted, passed = [], Counter[str]()
    for info in infos:
        if info.requeued_as is not None:
            passed["requeued already"] += 1
        elif info.superseded_by is not None:
            passed["superseded by a later task of the same key"] += 1
        elif info.capability == NOBODY:
            passed["to nobody (such a message is sent again)"] += 1
        elif info.parent is not None and not children:
            passed["made by a parent (--children takes these)"] += 1
        else:
            wanted.append(info.id)
    said = ", ".join(f"{count:,} {why}" for why, count in passed.items())
    return sorted(wanted), f"skipped {amount(passed.total(), 'dead letter')}: {said}" if passed else ""


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


def _print_dead(infos: Sequence[TaskInfo], now: float) -> None:
    columns: list[tuple[str, Callable[[TaskInfo], str]]] = [
        ("ended", lambda info: span(now - (info.finished_at or now)) + " ago"),
        ("parent", lambda info: info.parent or ""),
        ("requeued as", lambda info: info.successor or ""),
        ("error", _error),
    ]
    shown = [(name, of) for name, of in columns if name in ("ended", "error") or any(map(of, infos))]
    head = "task", "state", "capability", "attempt"
    print_table((*head, *(name for name, _ in shown)), [(*_head(info), *(of(info) for _, of in shown)) for info in infos])


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
    counts = f"{info.attempt} begun, {info.failures} failed, {info.crashed} crashed ({info.crashes} while alone)"
    return [
        ("task", info.id),
        ("capability", info.capability),
        ("state", info.state),
        ("why", info.why),
        ("error", clean(_error(info), 500)),
        ("progress", _progress(info.progress) if info.progress else ""),
        ("priority", f"{info.priority:g}"),
        ("key", info.key or ""),
        ("lane", info.lane or "" if info.sticky is None else ""),
        ("sticky", info.sticky or ""),
        ("parent", info.parent or ""),
        ("requeued from", info.requeued_from or ""),
        ("requeued as", info.requeued_as or ""),
        ("superseded by", info.superseded_by or ""),
        ("submitted", moment(info.submitted_at, now)),
        ("may start", moment(info.ready_at, now) if info.ready_at > info.submitted_at else ""),
        ("begin by", moment(info.expires_at, now)),
        ("deadline", moment(info.deadline, now)),
        ("ended", moment(info.finished_at, now)),
        ("attempts", counts if info.attempt else ""),
    ]


def _progress(progress: dict[str, Any]) -> str:
    fraction, note = progress.get("fraction"), clean(str(progress.get("note", "")), 200)
    return " ".join(part for part in ("" if fraction is None else f"{fraction:.0%}", note) if part)


def _attempt(one: inspect.AttemptInfo, now: float) -> tuple[str, ...]:
    started = inspect.stamp(one.started_at) if one.started_at is not None else ""
    took = span((one.ended_at or now) - one.started_at) if one.started_at is not None else ""
    return str(one.number), one.end, started, took, one.provider or "", clean(_error_text(one.error), 200)
