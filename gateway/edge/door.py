"""What every request passes before a route sees it: the key, the body within its limit, and a deadline.

Pure ASGI, closed by default: a path that is neither public nor under `/v1/` does not exist, and under `/v1/` nothing is
answered without a key. The body is read here, so that FastAPI never waits for a slow one, and is counted against what
this worker may hold. Promises: every request is answered within its deadlines, whatever a part behind does; a fault
becomes a problem document. On a crash nothing is left behind but what a route itself has written.
"""

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.edge import bodies, faults
from gateway.edge.auth import Keyring
from gateway.edge.callers import SCOPE, Caller
from gateway.edge.deadlines import Deadlines
from gateway.edge.gate import Gate
from gateway.edge.problems import Headers, Refused, body_of, new_trace, trace_of

PUBLIC = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})
PAGES = "/c/"
"""Where people agree: no key, but bodies, and so the same limits as behind one."""
LINKS = "/l/"
"""Where campaigns' links lead on."""
PUBLIC_FOLDERS = ("/docs/", "/v1/ledger/", PAGES, LINKS)
BULK = frozenset({"/v1/messages/batch", "/v1/consents/batch", "/v1/relationships/batch", "/v1/complaints"})
FILES = "/v1/complaints"
FILE_BYTES = 2 * 1024 * 1024
"""What a file being read may hold at once: a piece, an unended record, and a batch of complaints."""
PIECE_S = 30.0
"""For the work on a piece: at most a few batches, whose parts have deadlines of their own."""
BULK_FOLDERS = ("/v1/carriers/",)
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})

LATE = Refusal(Code.UNAVAILABLE, "the deadline has passed; whether the request was carried out is not known", 1)
NOWHERE = Refusal(Code.NOT_FOUND)


def is_public(path: str) -> bool:
    """Whether a path is answered without a key (MECHANISMS 13)."""
    return path in PUBLIC or path.startswith(PUBLIC_FOLDERS)


def limit_of(path: str) -> int:
    """The most bytes a body on this path may have."""
    return bodies.BULK if path in BULK or path.startswith(BULK_FOLDERS) else bodies.SINGLE


def is_file(path: str, method: str, head: Mapping[bytes, bytes]) -> bool:
    """Whether a body is a file that its route reads piece by piece: complaints as CSV, and nothing else."""
    kind = head.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return path == FILES and method == "POST" and kind == b"text/csv"


async def reply(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """One whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, fault: Refused, trace: str) -> None:
    """A problem document."""
    await reply(send, *body_of(fault.refusal, trace, fault.errors))


class Door:
    """Stands before FastAPI. `gate` is there from the start of the lifespan to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.gate: Gate | None = None
        self.deadlines = Deadlines()
        self.keyring = Keyring()

    def opened(self) -> Gate:
        """The gate; `Refused` while there is none."""
        if self.gate is None:
            raise Refused(faults.UNAVAILABLE)
        return self.gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        head = dict(scope["headers"])
        watched = _Watched(send, trace_of(head) or new_trace())
        size = 0
        try:
            receive, size = await self._let_in(scope, receive, head, watched.trace)
            self.deadlines.watch(bodies.ANSWER_S)
            await self._app(scope, receive, watched)
        except bodies.Disconnected:
            return
        except asyncio.CancelledError:
            if not self.deadlines.forget():
                raise
            await watched.refuse(Refused(LATE))
        except Exception as fault:  # noqa: BLE001 - nothing may leave here unanswered
            if not watched.started:  # else the application has answered and told of it
                await watched.refuse(faults.refused(fault, "door", watched.trace))
        finally:
            self.deadlines.forget()
            if size and self.gate is not None:
                self.gate.unanswered.give(size, 0)

    async def _let_in(
        self, scope: Scope, receive: Receive, head: dict[bytes, bytes], trace: str
    ) -> tuple[Receive, int]:
        path: str = scope["path"]
        if path.startswith(PAGES) and scope["method"] in WITH_BODY:
            return await self._body(self.opened(), scope, receive, head)
        if is_public(path):
            return receive, 0
        if not path.startswith("/v1/"):
            raise Refused(NOWHERE)
        gate = self.opened()
        scope[SCOPE] = Caller(gate, self.keyring.client_of(gate, head), trace)
        if scope["method"] not in WITH_BODY:
            return receive, 0
        if is_file(path, scope["method"], head):
            gate.unanswered.take(FILE_BYTES)
            return self._paced(receive), FILE_BYTES
        replayed = await self._body(gate, scope, receive, head)
        # Every body of this API is JSON, whatever the caller's tool calls it.
        kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*kept, (b"content-type", b"application/json")]
        return replayed

    def _paced(self, receive: Receive) -> Receive:
        """A `receive` whose caller reads a file of any size: each piece, and the work on it, has a deadline of its own.

        Nothing is kept here; who reads takes a piece, works on it, and asks for the next.
        """

        async def next_piece() -> MutableMapping[str, Any]:
            self.deadlines.watch(bodies.BODY_S)
            try:
                message = await receive()
            except asyncio.CancelledError:
                if not self.deadlines.forget():
                    raise
                raise Refused(bodies.SLOW) from None
            self.deadlines.watch(PIECE_S)
            return message

        return next_piece

    async def _body(self, gate: Gate, scope: Scope, receive: Receive, head: dict[bytes, bytes]) -> tuple[Receive, int]:
        """Read the body within its limit and deadline, counted against what this worker may hold."""
        path: str = scope["path"]
        size = bodies.declared(head, limit_of(path))
        gate.unanswered.take(size)
        try:
            body = await bodies.timely(receive, limit_of(path), self.deadlines)
        except BaseException:
            gate.unanswered.give(size, 0)
            raise
        return _replay(body, receive), size


class _Watched:
    """`send` that knows whether an answer has begun, and adds the trace id to it."""

    __slots__ = ("_send", "started", "trace")

    def __init__(self, send: Send, trace: str) -> None:
        self._send, self.trace = send, trace
        self.started = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = list(message.get("headers", []))
            if not any(name == b"trace-id" for name, _ in headers):
                headers.append((b"trace-id", self.trace.encode()))
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, fault: Refused) -> None:
        """A problem document, unless an answer has begun."""
        if not self.started:
            await refuse(self._send, fault, self.trace)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body already read, then whatever comes after it."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
