"""The transparency log, for anybody: checkpoint, tiles and keys. They hold nothing personal, and need no key.

Files of the folder that the ledger process writes (C2SP tlog-tiles). A tile never changes; a checkpoint does, several
times a second. Where this machine does not see the folder the answer is 503: serve it from one that does.
"""

import asyncio
from pathlib import Path as Folder
from typing import Annotated, Any

from fastapi import Path, Request, Response

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.edge.faults import UNAVAILABLE
from gateway.edge.problems import Refused
from gateway.edge.strict import routes
from gateway.ledger.attesting import ATTESTED
from gateway.ledger.layout import LayoutError
from gateway.ledger.sequencer import CHECKPOINT, KEYS
from gateway.ledger.tiles import TileMissingError, Tiles

router = routes("ledger")
TEXT, BYTES = "text/plain; charset=utf-8", "application/octet-stream"
NEVER_CHANGES = {"cache-control": "public, max-age=31536000, immutable"}
CHANGES = {"cache-control": "no-cache"}
TEXTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}


async def _folder(request: Request) -> Folder:
    gate = request.app.door.gate
    if gate is None or gate.ledger_dir is None or not await asyncio.to_thread(gate.ledger_dir.is_dir):
        raise Refused(UNAVAILABLE)
    folder: Folder = gate.ledger_dir
    return folder


async def _file(request: Request, name: str) -> Response:
    place = await _folder(request) / name
    try:
        content = await asyncio.to_thread(place.read_bytes)
    except FileNotFoundError:
        raise Refused(Refusal(Code.NOT_FOUND)) from None
    return Response(content, headers=CHANGES, media_type=TEXT)


@router.get("/v1/ledger/checkpoint", response_class=Response, responses=TEXTS)
async def checkpoint(request: Request, attested: bool = False) -> Response:
    """The last signed checkpoint; with `attested=true` the last one that witnesses have cosigned."""
    return await _file(request, ATTESTED if attested else CHECKPOINT)


@router.get("/v1/ledger/keys", response_class=Response, responses=TEXTS)
async def keys(request: Request) -> Response:
    """Verifier keys, one a line: the log's, those it had before, and that of sealed records."""
    return await _file(request, KEYS)


@router.get("/v1/ledger/tile/{path:path}", response_class=Response, responses={200: {"content": {BYTES: {}}}})
async def tile(request: Request, path: Annotated[str, Path(max_length=64, examples=["0/000"])]) -> Response:
    """A tile of hashes (`0/x001/067`) or of entries (`entries/000.p/5`)."""
    try:
        content = await asyncio.to_thread(Tiles(await _folder(request)).read, f"tile/{path}")
    except (LayoutError, TileMissingError):
        raise Refused(Refusal(Code.NOT_FOUND)) from None
    return Response(content, headers=NEVER_CHANGES, media_type=BYTES)
