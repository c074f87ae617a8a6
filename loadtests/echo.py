"""The floor: an ASGI application that reads a body and answers 150 bytes of JSON. What any edge on uvicorn costs.

`python -m loadtests.echo PORT [log]`: with `log` it writes the access log, as uvicorn does unless it is told not to.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

ANSWER = (
    b'{"id":"0199a1b2-c3d4-7e5f-8a6b-0123456789ab","status":"accepted","parts":1,'
    b'"decision":{"basis":"' + (b"x" * 51) + b'"}}'
)
assert len(ANSWER) == 150, len(ANSWER)
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"150")]


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    logging = "log" in sys.argv[2:]
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=logging,
        server_header=False,
        date_header=False,
        log_level="info" if logging else "warning",
        backlog=2048,
        timeout_keep_alive=75,
    )
