"""References are typed: what mypy says of code that uses them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api", reason="mypy comes with the dev extra")

ROOT = Path(__file__).parents[2]

SNIPPET = """
from autogen_coord import Coordination, RetryPolicy, TaskContext, capability

@capability
async def shorten(text: str) -> str:
    return text

@capability("count", version="2", max_concurrency=3)
async def count(words: list[str], ctx: TaskContext) -> int:
    reveal_type(await ctx.call(shorten, "x"))  # R: ctx.call
    reveal_type(await ctx.call("other", 1, returns=int))  # R: ctx.call by name
    await ctx.call(shorten, 1)  # E: ctx.call wrong input
    return len(words)

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
