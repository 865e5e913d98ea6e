"""What a form does on a runtime, measured; and the table that says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from autogen_coord import (
    ConfigError,
    Coordination,
    RemoteError,
    RetryPolicy,
    Settings,
    TaskCancelledError,
    TaskExpiredError,
    TaskState,
)
from tests.conformance.provider_acts import OUTPUTS, Ask, Hold, Record
from tests.conformance.provider_forms import FORMS, Form
from tests.conformance.provider_runtimes import GRPC, NOT_STARTED, RUNTIMES
from tests.conftest import QUICK, soon, until

ONCE = RetryPolicy(tries=1)
PATIENT, SHORT = 8.0, 0.3
NEVER = "waits until its `timeout=`"
REFUSED = "refused: `ConfigError`"
BEGIN = "<!-- measured: begin -->\n"
END = "<!-- measured: end -->\n"
Results = dict[str, str]


class Bench:
    """One form, provided on one runtime, and how long a call of it may take."""

    def __init__(self, coord: Coordination, record: Record, patience: float) -> None:
        self.coord = coord
        self.record = record
        self.patience = patience

    async def call(self, do: str, text: str = "x") -> object:
        return await self.coord.call(do, Ask.model_validate({"do": do, "text": text}), timeout=self.patience, retry=ONCE)


async def value(bench: Bench) -> str:
    answer = await bench.call("echo", "tides")
    return "returned" if answer == "tides" else f"wrong: {answer!r}"


async def none(bench: Bench) -> str:
    answer = await bench.call("nothing")
    return "returned" if answer is None else f"wrong: {answer!r}"


async def exception(bench: Bench) -> str:
    return await failure(bench, "fail", "cannot swim", "swim")


async def bad_output(bench: Bench) -> str:
    return await failure(bench, "bad", "the output of bad")


async def failure(bench: Bench, do: str, told: str, text: str = "x") -> str:
    """The type under which the caller hears of it."""
    try:
        answer = await bench.call(do, text)
    except RemoteError as error:
        return f"`{error.type}`" if told in error.text else f"{error.type}: {error.text}"
    return f"no error, but {answer!r}"


async def deadline(bench: Bench) -> str:
    try:
        ask = Ask(do="hold", text="deadline")
        return f"wrong: {await bench.coord.call('hold', ask, timeout=min(bench.patience, 0.5))!r}"
    except TaskExpiredError:
        return await life(bench.record.holds.get("deadline"))


async def cancel(bench: Bench) -> str:
    handle = await bench.coord.submit("hold", Ask(do="hold", text="cancel"), timeout=bench.patience)
    if bench.patience == PATIENT:
        await bench.record.begun("cancel")
    else:
        await until(lambda: running(bench.coord, handle.id))
    assert await handle.cancel()
    hold = bench.record.holds.get("cancel")
    lived = await life(hold)
    try:
        return f"wrong: {await handle.result()!r}"
    except TaskCancelledError:
        return "cancelled, never begun" if hold is None else lived


async def running(coord: Coordination, id: str) -> bool:
    return (await coord.task(id)).state == TaskState.RUNNING


async def life(hold: Hold | None) -> str:
    """How a handler took it that it should end. It gets its chance to go on."""
    if hold is None:
        return NEVER
    await until(lambda: hold.asked() or hold.ended.is_set())
    hold.gate.set()
    await hold.ended.wait()
    return {"cancelled": "stopped", "was asked and went on": "asked to stop"}.get(*hold.seen[:1]) or f"wrong: {hold.seen}"


BEHAVIOURS: dict[str, Callable[[Bench], Awaitable[str]]] = {
    "value": value,
    "None": none,
    "exception": exception,
    "bad output": bad_output,
    "deadline": deadline,
    "cancel": cancel,
}
WELL: Results = {
    "value": "returned",
    "None": "returned",
    "exception": "`OddError`",
    "bad output": "`InvalidOutputError`",
    "deadline": "stopped",
    "cancel": "stopped",
}


def expected(form: type[Form], runtime: str) -> Results:
    """What the design promises of a combination."""
    if form.via and runtime == GRPC:
        return dict.fromkeys(BEHAVIOURS, REFUSED)
    if form.via and runtime == NOT_STARTED:
        return dict.fromkeys(BEHAVIOURS, NEVER) | {"cancel": "cancelled, never begun"}
    return WELL if form.stops else WELL | {"deadline": "asked to stop", "cancel": "asked to stop"}


async def measure(form_class: type[Form], runtime_name: str) -> Results:
    """Provide a form on a runtime, and try each behaviour, all on the same provider."""
    form, record = form_class(), Record()
    patience = SHORT if NEVER in expected(form_class, runtime_name).values() else PATIENT
    async with RUNTIMES[runtime_name]() as runtime:
        coord = Coordination.open("dict://", runtime=runtime, settings=Settings(**{**QUICK, "cancel_grace": 2.0}))
        await form.prepare(coord.runtime, record)
        async with coord:
            try:
                await form.provide(coord, record)
            except ConfigError:
                assert await coord.registry.providers() == []
                return dict.fromkeys(BEHAVIOURS, REFUSED)
            assert {info.capability for info in await coord.registry.providers()} == set(OUTPUTS)
            bench = Bench(coord, record, patience)
            found = {name: await tried(bench, behaviour) for name, behaviour in BEHAVIOURS.items()}
    # the runtime and the coordination are over: nothing of what was stopped went on
    assert all(len(hold.seen) == 1 for hold in record.holds.values())
    return found


async def tried(bench: Bench, behaviour: Callable[[Bench], Awaitable[str]]) -> str:
    try:
        async with soon():
            return await behaviour(bench)
    except TaskExpiredError:
        return NEVER


def table(measured: dict[tuple[str, str], Results]) -> str:
    """The page's table: a line a form, and one more where runtimes differ."""
    head = ["provided as", "runtime", *BEHAVIOURS]
    lines = [head, ["---"] * len(head)]
    for form in FORMS:
        groups: dict[tuple[str, ...], list[str]] = {}
        for runtime in RUNTIMES:
            groups.setdefault(tuple(measured[form.name, runtime].values()), []).append(runtime)
        for cells, runtimes in groups.items():
            lines.append([form.name, "every one" if len(groups) == 1 else "; ".join(runtimes), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
