"""A server that speaks as much of OpenAI's protocol as a chat needs, on loopback; it answers with what it heard, and notes it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

SELECTS = re.compile(r"select the next role from \[(.*?)\] to play", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """What one model call brought; ``text`` is that of all its messages."""

    authorization: str
    model: str
    text: str


class ModelServer:
    """Use it with ``with``; it listens at `url` meanwhile, and its threads are gone afterwards."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, authorization: str, body: dict[str, Any]) -> dict[str, Any]:
        """The completion that answers a request."""
        texts = [str(message["content"]) for message in body["messages"]]
        self.requests.append(Request(authorization, body["model"], "\n".join(texts)))
        message = {"role": "assistant", "content": _reply(texts[-1])}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if self.path != "/v1/chat/completions":
                    self.send_error(404)
                    return
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = json.dumps(server.answer(self.headers["Authorization"], body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: a test reads `requests`."""

        return Handler


def _reply(text: str) -> str:
    """The first of those who may speak, when a team asks for that; else what was said."""
    choice = SELECTS.search(text)
    return choice[1].split(",")[0].strip(" '\"") if choice else f"heard: {text}"
