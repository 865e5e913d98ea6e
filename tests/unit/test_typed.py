"""References are typed: what mypy says of code that uses them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api", reason="mypy comes with the dev extra")

ROOT = Path(__file__).parents[2]

SNIPPET = """
from autogen_agentchat.agents import AssistantAgent
from autogen_core import AgentId, AgentType
from autogen_core.models import ChatCompletionClient

from autogen_coord import CapabilityAgent, Coordination, RetryPolicy, TaskContext, capability

@capability
async def shorten(text: str) -> str:
    return text

@capability("count", version="2", max_concurrency=3)
async def count(words: list[str], ctx: TaskContext) -> int:
    reveal_type(await ctx.call(shorten, "x"))  # R: ctx.call
    reveal_type(await ctx.call("other", 1, returns=int))  # R: ctx.call by name
    await ctx.call(shorten, 1)  # E: ctx.call wrong input
    return len(words)

class Summarizer(CapabilityAgent):
    @capability
    async def shout(self, text: str) -> str:
        return text

    @capability("summarize", version="2", description="Shortens", max_concurrency=3)
    async def summarize(self, words: list[str], ctx: TaskContext) -> int:
        reveal_type(await self.shout("x"))  # R: method of self
        reveal_type(await ctx.call(Summarizer.shout, "x"))  # R: ctx.call of a method
        return len(words)

    @capability
    async def turned(self, ctx: TaskContext, number: int) -> bytes:
        return b""

async def agents(coord: Coordination, summarizer: Summarizer, model: ChatCompletionClient) -> None:
    reveal_type(Summarizer.shout)  # R: method of the class
    reveal_type(await summarizer.shout("x"))  # R: method of an instance
    reveal_type(await coord.call(Summarizer.shout, "x"))  # R: call of a method
    reveal_type(await coord.call(Summarizer.summarize, ["x"], timeout=3))  # R: call of a method with options
    reveal_type(await coord.call(Summarizer.turned, 3))  # R: call of a method whose context comes first
    reveal_type(await coord.submit(Summarizer.summarize, ["x"]))  # R: submit of a method
    reveal_type(await coord.broadcast(Summarizer.summarize, ["x"]))  # R: broadcast of a method
    await coord.call(Summarizer.shout, 1)  # E: wrong input of a method
    number: int = await coord.call(Summarizer.shout, "x")  # E: wrong result of a method
    reveal_type(await coord.provide(shorten, labels=["fast"]))  # R: provide a function
    reveal_type(await coord.provide(Summarizer))  # R: provide a class
    await coord.provide(Summarizer, type="s", factory=Summarizer, max_concurrency=3, via_runtime=True)
    id = AgentId("plain", "default")
    reveal_type(await coord.provide(id, "translate", input=str, output=list[str]))  # R: provide an id
    await coord.provide(AgentType("plain"), "other", input=str, output=None, version="2", labels=["a"], via_runtime=True)
    reveal_type(await coord.provide(lambda: AssistantAgent("helper", model), "help"))  # R: provide a factory
    await coord.provide(id)  # E: an id without a name
    await coord.provide(id, "translate")  # E: an id without its types
    await coord.provide(AssistantAgent("helper", model), "help")  # E: an instance
    await coord.provide(AssistantAgent, "help")  # E: a class of chat agents
    await coord.provide(shorten, via_runtime=True)  # E: via_runtime of a function
    await coord.provide(lambda: AssistantAgent("helper", model), "help", via_runtime=True)  # E: via_runtime of a factory
    await coord.provide(Summarizer, factory=AssistantAgent)  # E: a factory of another class
    await coord.provide(shorten, labels=3)  # E: wrong labels

async def use(coord: Coordination) -> None:
    reveal_type(shorten)  # R: capability
    reveal_type(count)  # R: capability with options
    reveal_type(await shorten("x"))  # R: called directly
    reveal_type(await coord.call(shorten, "x"))  # R: call
    reveal_type(await coord.call(count, ["x"], timeout=3, key="k", retry=RetryPolicy()))  # R: call with options
    reveal_type(await coord.call("shorten", "x", returns=str))  # R: call by name
    reveal_type(await coord.call("shorten", "x"))  # R: call by name alone
    handle = await coord.submit(count, ["x"])
    reveal_type(handle)  # R: submit
    reveal_type(await handle.result())  # R: result
    reveal_type(await coord.submit("shorten", "x", returns=str))  # R: submit by name
    reveal_type(await coord.submit_many(count, [["x"]]))  # R: submit_many
    reveal_type(await coord.broadcast(shorten, "x"))  # R: broadcast
    reveal_type(coord.handle("id", int))  # R: handle
    await coord.call(shorten, 1)  # E: wrong input
    await coord.submit(count, ["x", 1])  # E: wrong item
    await coord.submit_many(shorten, [1])  # E: wrong inputs
    await coord.call(shorten, "x", tiemout=3)  # E: unknown option
    await coord.call(shorten, "x", timeout="3")  # E: wrong option
    number: int = await coord.call(shorten, "x")  # E: wrong result
    await coord.provide(use)  # E: not a capability
"""

REVEALED = {
    "method of self": "str",
    "ctx.call of a method": "str",
    "method of the class": "Capability[str, str]",
    "method of an instance": "str",
    "call of a method": "str",
    "call of a method with options": "int",
    "call of a method whose context comes first": "bytes",
    "submit of a method": "TaskHandle[int]",
    "broadcast of a method": "list[BroadcastOutcome[int]]",
    "provide a function": "str",
    "provide a class": "list[str]",
    "provide an id": "str",
    "provide a factory": "str",
    "ctx.call": "str",
    "ctx.call by name": "int",
    "capability": "Capability[str, str]",
    "capability with options": "Capability[list[str], int]",
    "called directly": "str",
    "call": "str",
    "call with options": "int",
    "call by name": "str",
    "call by name alone": "Any",
    "submit": "TaskHandle[int]",
    "result": "int",
    "submit by name": "TaskHandle[str]",
    "submit_many": "list[TaskHandle[int]]",
    "broadcast": "list[BroadcastOutcome[str]]",
    "handle": "TaskHandle[int]",
}


@pytest.mark.timeout(120)
def test_references_are_typed(tmp_path: Path) -> None:
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    out, err, _ = api.run(
        ["--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache"), str(file)]
    )
    assert err == ""
    said: dict[int, list[str]] = {}
    for line in out.splitlines():
        found = re.match(r".*snippet\.py:(\d+): (?:error|note): (.*)", line)
        if found:
            said.setdefault(int(found[1]), []).append(found[2])
    expected = {}
    for number, line in enumerate(SNIPPET.splitlines(), 1):
        if mark := re.search(r"# ([RE]): (.*)", line):
            expected[number] = (mark[1], mark[2])
    revealed = {}
    for number, (kind, name) in expected.items():
        messages = said.pop(number, [])
        if kind == "E":
            assert any("[" in message for message in messages), f"mypy finds nothing wrong: {name}"
        else:
            (message,) = messages
            text = re.sub(r"\b(?:builtins|autogen_coord(?:\.\w+)+)\.", "", message)
            revealed[name] = text.removeprefix('Revealed type is "').removesuffix('"')
    assert revealed == REVEALED
    assert said == {}, "mypy complains of what is right"
