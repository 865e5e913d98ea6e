"""Every runtime that agents are provided on: a context each. A new runtime joins by one more line in `RUNTIMES`."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from autogen_core import AgentRuntime, SingleThreadedAgentRuntime
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost

NOT_STARTED = "single-threaded, not started"
STARTED = "single-threaded, started"
GRPC = "stock gRPC worker"
OWN = "none given"


@asynccontextmanager
async def not_started() -> AsyncIterator[AgentRuntime]:
    runtime = SingleThreadedAgentRuntime()
    yield runtime
    await runtime.close()


@asynccontextmanager
async def started() -> AsyncIterator[AgentRuntime]:
    runtime = SingleThreadedAgentRuntime()
    runtime.start()
    yield runtime
    await runtime.close()


@asynccontextmanager
async def grpc_worker() -> AsyncIterator[AgentRuntime]:
    """AutoGen's own host and a worker runtime of it, both in this process."""
    address = f"127.0.0.1:{free_port()}"
    host = GrpcWorkerAgentRuntimeHost(address)
    host.start()
    worker = GrpcWorkerAgentRuntime(address)
    await worker.start()
    yield worker
    await worker.stop()
    await host.stop(grace=0)


@asynccontextmanager
async def none_given() -> AsyncIterator[None]:
    yield None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


RUNTIMES: dict[str, Callable[[], AbstractAsyncContextManager[AgentRuntime | None]]] = {
    NOT_STARTED: not_started,
    STARTED: started,
    GRPC: grpc_worker,
    OWN: none_given,
}
