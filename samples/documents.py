"""Agents write one document together: a merge that works out, a conflict that asks and is decided, and the history of it all."""

import asyncio
import sys

from autogen_coord import CapabilityAgent, Coordination, MergePolicy, OpenConflictError, TaskContext, capability, run

PLAN = "plan/harbour"


class Writer(CapabilityAgent):
    """Reads the document, and writes what it made of the version that it read."""

    def __init__(self, coord: Coordination, both: asyncio.Barrier) -> None:
        super().__init__("Writes fields of the plan")
        self.coord = coord
        self.both = both

    @capability("plan.write")
    async def write(self, fields: dict[str, str], ctx: TaskContext) -> str:
        name = self.id.key
        seen = await self.coord.state.get(PLAN)
        assert seen is not None
        await self.both.wait()  # both have read the same version
        if name == "bob":
            await self.both.wait()  # so that this sample always says the same: ann has written
        try:
            written = await self.coord.state.put(PLAN, {**seen.value, **fields}, expected_version=seen.version, actor=name)
        except OpenConflictError as error:
            return f"read version {error.expected}, but {error.found} is there: the write waits for a decision"
        finally:
            if name == "ann":
                await self.both.wait()
        return f"read version {seen.version}, wrote version {written.version} by {written.kind}"


async def write_at_once(coord: Coordination, **fields_of: dict[str, str]) -> None:
    calls = [coord.call(Writer.write, fields, sticky=name) for name, fields in fields_of.items()]
    for name, said in zip(fields_of, await asyncio.gather(*calls), strict=True):
        print(f"{name} {said}")


async def merge(coord: Coordination) -> None:
    await coord.state.set_policy("plan", MergePolicy.MERGE)
    await coord.state.put(PLAN, {"title": "A harbour", "cost": "unknown"}, actor="chair")
    await write_at_once(coord, ann={"title": "A harbour for all"}, bob={"cost": "12 ships"})
    print("both stand:", await coord.state.value(PLAN))


async def ask(coord: Coordination) -> None:
    await coord.state.set_policy("plan", MergePolicy.ASK)
    await write_at_once(coord, ann={"cost": "9 ships"}, bob={"cost": "15 ships"})
    (conflict,) = await coord.state.conflicts("plan")
    assert conflict.base is not None
    assert conflict.theirs is not None
    print("  ", "was".ljust(10), conflict.base.value["cost"])
    print("  ", str(conflict.theirs.actor).ljust(10), conflict.theirs.value["cost"])
    print("  ", str(conflict.actor).ljust(10), conflict.mine["cost"])
    agreed = {**conflict.theirs.value, "cost": "9 to 15 ships"}
    await coord.state.decide(conflict.id, "value", agreed, expected_version=conflict.theirs.version, actor="chair")
    print("decided; still open:", len(await coord.state.conflicts("plan")))


async def history(coord: Coordination) -> None:
    for one in reversed(await coord.state.history(PLAN)):
        print(one.version, one.kind, "by", one.actor, "" if one.base is None else f"from version {one.base}")
    for operation in await coord.state.diff(PLAN, 1):
        print(operation["op"], operation["path"], operation["value"])


async def main(store: str = "dict://") -> None:
    both = asyncio.Barrier(2)
    async with Coordination.open(store) as coord:
        await coord.provide(Writer, factory=lambda: Writer(coord, both), type="writer")
        for part in (merge, ask, history):
            await part(coord)


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
