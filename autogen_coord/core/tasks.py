"""Tasks as their callers see them: submit, cancel, requeue. What workers do is in `claims`, what time does in `timers`."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import DeadlockError, DuplicateTaskError, InvalidInputError, NoProviderError, NotFoundError, StaleClaimError
from ..settings import Settings
from . import bodies, endings, events, inboxes, queue
from .addresses import NOBODY, Address, is_inbox, is_pulled
from .events import Kind
from .registry import candidates, is_online, pool_for, require_known
from .sessions import is_live
from .store import Range, Rows
from .tables import DEAD_LETTERS, DELAYED, OUTCOME, QUEUE, READY, RUNNING, SUCCEEDED, TASK, OutcomeRow, QueueRow, TaskKind, TaskRow

MESSAGE = TaskKind.MESSAGE.value


class Submit(NamedTuple):
    """One task to be. Times are seconds from the moment it may start (``at``, or the submit), but for ``at`` itself (epoch)."""

    id: str
    capability: str
    input: str
    input_hash: str = ""
    kind: str = TaskKind.CALL.value
    key: str | None = None
    retry_failed: bool = False
    priority: float = 5.0
    target: str | None = None
    lane: str | None = None
    sticky: str | None = None
    at: float | None = None
    delay: float = 0.0
    deadline: float | None = None
    ttl: float | None = None
    timeout: float | None = None
    retry: str | None = None
    sender: str | None = None
    recipient: str | None = None
    correlation: str | None = None
    causation: str | None = None
    trace: str | None = None
    parent: str | None = None
    parent_attempt: int = 0
    step_key: str | None = None


class Submitted(NamedTuple):
    """``outcome`` is there when the task, found by its key, has ended already."""

    id: str
    created: bool
    outcome: OutcomeRow | None = None


class Cancel(NamedTuple):
    task: str


class Requeue(NamedTuple):
    task: str
    id: str


class Broadcast(NamedTuple):
    """``template`` with ``ids`` to draw from; its ``correlation`` names the broadcast."""

    template: Submit
    ids: tuple[str, ...]


class Sent(NamedTuple):
    """The tasks of a broadcast, one a provider."""

    tasks: list[tuple[str, str]]


def submit(rows: Rows, command: Submit, now: float, policy: Settings) -> Submitted:
    """Store a task, or find the one that its key (or its place in its parent) names.

    Raises: NoProviderError (never announced), DuplicateTaskError, StaleClaimError (the parent's claim is over), DeadlockError (the
    key names a task that waits for this one).
    """
    known = rows.one(TASK, command.id)
    if known is not None:  # the same command once more, after a commit whose answer was lost
        return _found(rows, known.id)
    parent = None if command.parent is None else require_parent(rows, command.parent, command.parent_attempt)
    earlier = _earlier(rows, command)
    if earlier is not None:
        if parent is not None and earlier.outcome is None:
            _refuse_cycle(rows, parent.id, earlier.id)
            rows.put(QUEUE, parent._replace(waits_for=earlier.id))
        return earlier
    require_known(rows, command.capability)
    if command.target is not None and not is_online(rows, command.target):
        raise NoProviderError(
            f"provider {command.target!r} of {command.capability!r} is not online: provide() returned the ids of those that are",
            capability=command.capability,
            near=[],
        )
    create(rows, command, parent, now, policy)
    return Submitted(command.id, True)


def create(
    rows: Rows,
    command: Submit,
    parent: QueueRow | None,
    now: float,
    policy: Settings,
    session: str | None = None,
    kept: bodies.Kept | None = None,
) -> None:
    """Write a task as it begins. ``parent``: the live task whose handler waits for it; ``session``: who sends a message;
    ``kept``: where its input stands already."""
    start = max(now + command.delay, command.at or 0.0)
    deadline = None if command.deadline is None else start + command.deadline
    lane = command.lane
    if parent is not None and parent.deadline is not None:
        deadline = parent.deadline if deadline is None else min(deadline, parent.deadline)
    if command.sticky is not None:
        lane = f"{command.capability}#{command.sticky}"
    if lane is not None:
        lane = queue.lane_within(rows, lane, command.parent)
    expires_at = None if command.ttl is None else start + command.ttl
    timeout = policy.timeout if command.timeout is None else command.timeout
    text, blob = bodies.keep(rows, command.input, policy.blob_from) if kept is None else kept
    by = session if command.kind == MESSAGE else command.sender
    seq = events.append(rows, now, Kind.TASK_DELEGATED, command.id, by, f'{{"capability":"{command.capability}"}}')
    rows.put(
        TASK,
        TaskRow(
            command.id, seq, command.kind, command.capability, command.target, text, blob, command.input_hash, command.key,
            command.priority, command.sender, command.recipient, command.correlation, command.causation, command.trace,
            command.parent, command.step_key, lane, command.sticky, start, deadline, expires_at, timeout, command.retry, now, None,
        ),
    )  # fmt: skip
    pool = command.capability
    if command.target is not None or command.sticky is not None:
        pool = pool_for(rows, command.capability, command.target, command.sticky, now, policy)
    rank = queue.rank_of(start, command.priority, policy)
    if parent is not None:
        rank = min(rank, parent.rank - queue.CHILD_LEAD)
    state = READY if lane is None and start <= now else DELAYED
    row = QueueRow(
        command.id, seq, command.capability, state, pool, rank,
        lane, None if lane is None else queue.LATER, command.priority, start, 0, 0, 0, 0, None, None, None, deadline, expires_at,
        timeout, None, None, None if parent is None else parent.id, None, 0, None, None,
    )  # fmt: skip
    if parent is not None:
        rows.put(QUEUE, parent._replace(waits_for=command.id, children=parent.children + 1))
    if start <= now:
        queue.admit(rows, row, now, policy)
    else:
        queue.put(rows, row, policy)


def require_parent(rows: Rows, parent: str, attempt: int) -> QueueRow:
    """Raises: StaleClaimError when that attempt no longer holds its claim."""
    row = rows.one(QUEUE, parent)
    if row is None or row.state != RUNNING or row.attempt != attempt or not is_live(rows, row.session):
        raise StaleClaimError(
            f"task {parent} attempt {attempt} no longer runs: its handler must stop", task_id=parent, attempt=attempt
        )
    return row


def _refuse_cycle(rows: Rows, parent: str, child: str) -> None:
    """Raises: DeadlockError when the child waits, itself or through others, for the handler that would wait for it."""
    came_from: dict[str, str] = {child: parent}
    front = [child]
    while front:
        if parent in front:
            cycle = [parent]
            while len(cycle) == 1 or cycle[-1] != parent:
                cycle.append(came_from[cycle[-1]])
            path = " -> ".join(reversed(cycle))
            raise DeadlockError(f"waiting for this key would never end: {path}; give the child a key of its own", cycle=cycle[::-1])
        waiting = [row for row in rows.get(QUEUE, front) if row is not None]
        parents = [row.id for row in waiting if row.children]
        children = rows.scan_many([Range(QUEUE, "by_parent", (id,)) for id in parents])
        edges = [(id, child.id) for id, some in zip(parents, children, strict=True) for child in some]
        edges += [(row.id, row.waits_for) for row in waiting if row.waits_for is not None]
        front = []
        for id, following in edges:
            if following not in came_from:
                came_from[following] = id
                front.append(following)


def _earlier(rows: Rows, command: Submit) -> Submitted | None:
    """The task that this one repeats: by key within its capability, or by step within its parent."""
    if command.step_key is not None:
        same = rows.scan(Range(TASK, "by_step", (command.parent, command.step_key), limit=1, reverse=True))
        if same:
            found = _found(rows, same[0].id)
            # of an earlier attempt's children those that succeeded or still run are taken; one that failed is made anew
            return found if found.outcome is None or found.outcome.state == SUCCEEDED else None
    if command.key is None:
        return None
    for task in rows.scan(Range(TASK, "by_key", (command.capability, command.key), limit=1, reverse=True)):
        if task.input_hash != command.input_hash:
            raise DuplicateTaskError(
                f"key {command.key!r} of {command.capability!r} was used by task {task.id} with another input: "
                "choose a key that names the input too",
                task_id=task.id,
                key=command.key,
            )
        found = _found(rows, task.id)
        if command.retry_failed and found.outcome is not None and found.outcome.state != SUCCEEDED:
            return None
        return found
    return None


def _found(rows: Rows, id: str) -> Submitted:
    outcome = rows.one(OUTCOME, id)
    if outcome is not None and outcome.output_blob is not None:
        outcome = outcome._replace(output=bodies.fetch(rows, outcome.output, outcome.output_blob))
    return Submitted(id, False, outcome)


def broadcast(rows: Rows, command: Broadcast, now: float, policy: Settings) -> Sent:
    """One task for each provider that is online now, addressed to it: who joins later is not asked.

    Raises: NoProviderError when nobody is online.
    """
    template = command.template
    same = rows.scan(Range(TASK, "by_correlation", (template.correlation,)))
    if same:
        return Sent([(task.target or "", task.id) for task in same])
    require_known(rows, template.capability)
    providers = candidates(rows, template.capability, now, policy)
    if not providers:
        raise NoProviderError(f"nobody provides {template.capability!r} now", capability=template.capability, near=[])
    if len(providers) > len(command.ids):
        raise InvalidInputError(f"{len(providers)} providers: a broadcast reaches {len(command.ids)} at most")
    sent = []
    for provider, id in zip(providers, command.ids, strict=False):
        create(rows, template._replace(id=id, target=provider.id), None, now, policy)
        sent.append((provider.id, id))
    return Sent(sent)


def cancel(rows: Rows, command: Cancel, now: float, policy: Settings) -> bool:
    """End a task; a running one is asked to stop, and ended by force after a grace. False when it had ended before.

    Raises: NotFoundError.
    """
    row = rows.one(QUEUE, command.task)
    if row is not None:
        endings.cancel(rows, row, now, policy)
        return True
    require_task(rows, command.task)
    return False


def requeue(rows: Rows, command: Requeue, now: float, policy: Settings) -> Submitted:
    """A dead letter's request once more, as a *new* task that says ``requeued_from``; its times count from now.

    One that was requeued before, or whose key was taken up since, is not doubled: the answer is that task, unless it is a dead
    letter as well.

    Raises: NotFoundError, InvalidInputError when the task is no dead letter.
    """
    if rows.one(TASK, command.id) is not None:
        return _found(rows, command.id)
    task = require_task(rows, command.task)
    outcome = rows.one(OUTCOME, task.id)
    if outcome is None or outcome.state not in DEAD_LETTERS:
        state = "live" if outcome is None else outcome.state
        raise InvalidInputError(f"task {task.id} is {state}: only failed and expired tasks are requeued", task_id=task.id)
    if task.capability == NOBODY:
        raise InvalidInputError(
            f"message {task.id} had no recipient: who is there now gets it when it is sent again", task_id=task.id
        )
    successor = _successor(rows, task)
    if successor is not None:
        return successor
    text = bodies.fetch(rows, task.input, task.input_blob)
    lane = None if task.lane is None else task.lane.partition(queue.SUBLANE)[0]
    again = Submit(
        command.id, task.capability, text or "null", task.input_hash, task.kind, task.key, True, task.priority, None,
        None if task.sticky is not None else lane, task.sticky, None, 0.0,
        None if task.deadline is None or task.parent is not None else task.deadline - task.ready_at,
        None if task.expires_at is None else task.expires_at - task.ready_at,
        task.timeout, task.retry, task.sender, task.recipient, task.correlation, task.causation, task.trace,
    )  # fmt: skip
    if is_inbox(task.capability):
        again = _to_its_inbox(rows, again, policy)
    create(rows, again, None, now, policy)
    made = rows.one(TASK, command.id)
    assert made is not None
    rows.put(TASK, made._replace(requeued_from=task.id))
    return Submitted(command.id, True)


def _to_its_inbox(rows: Rows, message: Submit, policy: Settings) -> Submit:
    label = inboxes.find(rows, [Address.parse(message.recipient)])[0]
    return message._replace(capability=label, timeout=inboxes.HELD if is_pulled(label) else policy.timeout)


def _successor(rows: Rows, task: TaskRow) -> Submitted | None:
    """The task that does a dead letter's work already: live, or successful."""
    later = rows.scan(Range(TASK, "by_origin", (task.id,), limit=1, reverse=True))
    if task.key is not None:
        later += rows.scan(Range(TASK, "by_key", (task.capability, task.key), low=task.seq + 1, limit=1, reverse=True))
    for each in later:
        found = _found(rows, each.id)
        if found.outcome is None or found.outcome.state == SUCCEEDED:
            return found
    return None


def require_task(rows: Rows, id: str) -> TaskRow:
    """Raises: NotFoundError."""
    task = rows.one(TASK, id)
    if task is None:
        raise NotFoundError(f"no task {id!r} in this namespace: it was never submitted, or was pruned", task_id=id)
    return task
