"""Failed attempts are tried again; what fails for good is a dead letter, which can be requeued."""

import sys

from autogen_coord import Coordination, InvalidInputError, RemoteError, RetryPolicy, TaskContext, capability, run

QUICK = RetryPolicy(tries=3, backoff=0.01)
service = {"up": False}


class Busy(Exception):
    retry_after = 0.02  # seconds; honoured instead of the policy's delay


@capability
async def flaky(text: str, ctx: TaskContext) -> str:
    if ctx.attempt < 3:
        raise Busy(f"attempt {ctx.attempt}")
    return f"{text} on attempt {ctx.attempt}"


@capability
async def strict(text: str) -> str:
    raise InvalidInputError(f"{text!r} will never do")  # not retried: another attempt would meet it again


@capability
async def send(text: str) -> str:
    if not service["up"]:
        raise ConnectionError("the service is down")
    return f"sent {text}"


async def main(store: str = "dict://") -> None:
    async with Coordination.open(store) as coord:
        for each in (flaky, strict, send):
            await coord.provide(each)
        print(await coord.call(flaky, "done", retry=QUICK))
        try:
            await coord.call(strict, "this", retry=QUICK)
        except RemoteError as error:
            print(f"{error.type} after {error.attempts} attempt")

        handle = await coord.submit(send, "letter", retry=QUICK)
        try:
            await handle.result()
        except RemoteError as error:
            print(f"dead letter: {error.text}")
        print("attempts:", [attempt.end for attempt in (await handle.info()).attempts])
        service["up"] = True
        again = await coord.requeue(handle.id)  # a new task; the dead letter stays as it is
        print(await again.result(), again.id != handle.id)


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
