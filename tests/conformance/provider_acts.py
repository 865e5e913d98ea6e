"""What the handlers of the provider suites do when they are asked, and what they lived through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel


class OddError(Exception):
    """An exception of the user's own."""


class Ask(BaseModel):
    """What every form is asked: ``do`` names the behaviour."""

    do: Literal["echo", "nothing", "fail", "bad", "hold"]
    text: str = "x"


OUTPUTS: dict[str, Any] = {"echo": str, "nothing": None, "fail": str, "bad": int, "hold": str}
"""The capabilities that every form provides, with the output that each declares."""


class Hold:
    """One handler that waits for ``gate``, whatever it is asked; ``seen`` is its life."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked
        self.gate = asyncio.Event()
        self.ended = asyncio.Event()
        self.seen: list[str] = []

    async def wait(self) -> None:
        try:
            await self.gate.wait()
            self.seen.append("was asked and went on" if self.asked() else "went on")
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        finally:
            self.ended.set()


class Record:
    """The handlers of one provider, as a test sees them."""

    def __init__(self) -> None:
        self.holds: dict[str, Hold] = {}
        self._news = asyncio.Event()

    async def hold(self, text: str, asked: Callable[[], bool]) -> str:
        """Wait until the test opens the gate of ``text``; ``asked``: whether the handler was asked to stop."""
        one = self.holds[text] = Hold(asked)
        self._news.set()
        await one.wait()
        return text

    async def begun(self, text: str) -> Hold:
        """The handler that holds ``text``, once it began."""
        while text not in self.holds:
            self._news.clear()
            await self._news.wait()
        return self.holds[text]


async def act(record: Record, ask: Ask, asked: Callable[[], bool]) -> Any:
    """Do what was asked for: this is the handler of every form."""
    match ask.do:
        case "echo":
            return ask.text
        case "nothing":
            return None
        case "fail":
            raise OddError(f"cannot {ask.text}")
        case "bad":
            return "seven"
        case "hold":
            return await record.hold(ask.text, asked)
