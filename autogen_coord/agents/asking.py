"""From what a caller passes to a checked `Submit`, and the way to read its answer; and the children that handlers ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import bodies, claims, registry
from ..core.calls import Calls
from ..core.process import Process
from ..core.requests import Options, build, checked_name
from ..core.schemas import checker, decoder, jsonable
from ..core.store import Keys, Range
from ..core.tables import CAPABILITY, CapabilityRow
from ..core.tasks import Submit
from ..errors import InvalidInputError
from .capability import Capability
from .context import TaskContext

Decode = Callable[[str], Any]
TRUSTED = 1.0
"""Seconds for which a capability's schema is taken as known (its handler's side checks again)."""


class _Checker(NamedTuple):
    schema: str
    check: Callable[[str, str], None]
    until: float


class Asking:
    """Requests of one process, by reference to a function or by name. It is the port of `TaskContext`."""

    def __init__(self, process: Process, calls: Calls) -> None:
        self._process = process
        self._calls = calls
        self._checkers: dict[str, _Checker] = {}

    async def request(self, capability: Any, input: Any, returns: Any, options: Options) -> tuple[Submit, Decode]:
        """A task to be, its input checked, and the decoder of its output.

        Raises: InvalidInputError, PayloadTooLargeError; NoProviderError for a name that nobody ever announced.
        """
        process = self._process
        if isinstance(capability, Capability):
            form = capability.form
            text = form.input.encode(input)
            return build(capability.label, text, process.policy, options, sender=process.session), form.output.decode
        if not isinstance(capability, str):
            raise InvalidInputError(f"{capability!r:.100}: pass a @capability function or a capability's name")
        checked_name(capability, "capability")
        registry.refuse_reserved(capability)
        capability = registry.label_of(*registry.split_label(capability))  # "name:1" is "name"
        text = jsonable(input)
        await self._check_by_name(capability, text)
        decode = bodies.decode if returns is None else decoder(returns)
        return build(capability, text, process.policy, options, sender=process.session), decode

    async def _check_by_name(self, label: str, text: str) -> None:
        now, where = asyncio.get_running_loop().time(), f"the input of {label}"
        known = self._checkers.get(label)
        if known is not None and known.until >= now:
            try:
                return known.check(text, where)
            except InvalidInputError:
                pass  # its form may be another by now: only what the store says refuses
        known = self._checkers[label] = await self._look_up(label, known, now + TRUSTED)
        known.check(text, where)
        return None

    async def _look_up(self, label: str, known: _Checker | None, until: float) -> _Checker:
        store = self._process.store
        (rows,) = await store.read(Keys(CAPABILITY, (registry.split_label(label),)))
        row: CapabilityRow | None = rows[0]
        if row is None:
            (all_rows,) = await store.read(Range(CAPABILITY, "key"))
            raise registry.unknown(label, [registry.label_of(each.name, each.version) for each in all_rows])
        if known is not None and known.schema == row.input_schema:
            return known._replace(until=until)
        return _Checker(row.input_schema, checker(row.input_schema), until)

    async def call_child(self, context: TaskContext, capability: Any, input: Any, returns: Any, options: Options) -> Any:
        """See `TaskContext.call`. Handlers may finish their work while the coordination closes."""
        process, calls = self._process, self._calls
        process.check()
        command, decode = await self.request(capability, input, returns, options)
        digest = bodies.digest(command.input)
        command = command._replace(
            input_hash=digest,
            parent=context.task_id,
            parent_attempt=context.attempt,
            step_key=f"{command.capability}:{digest}:{context.ordinal(command.capability, digest)}",
        )
        await process.line.room()
        wait = calls.post(command)
        try:
            return await calls.value(wait, decode, owned=False)
        except asyncio.CancelledError:
            # the handler gave this child up by itself; a stopped attempt's children stay
            if command.key is None and not context.cancelled.is_set():
                calls.cancel_soon(wait.task)
            raise

    async def report_progress(self, context: TaskContext, data: str) -> None:
        """See `TaskContext.progress`."""
        self._process.check()
        command = claims.Progress(context.session, context.task_id, context.attempt, data)
        await self._process.line.put(claims.progress, command)
