"""The lanes' cursors as the projection moves them: by compare-and-set only.

A cursor says that every event up to it is in its lane. Writing it blindly after a flush would declare an empty lane
filled; so each move names the value it starts from. While a lane is being filled its cursor is a mark, a negative
number nobody else has: scripts take it for behind (cold), and a flush half-way takes the mark away, and the last move
fails.
"""

import asyncio
from collections.abc import Mapping

from gateway.guard import keys
from gateway.guard.scripts import script
from gateway.guard.server import Server


class Cursors:
    """Reads and moves the cursors of all lanes."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def read(self) -> list[int | None]:
        """Each lane's cursor; none: never filled or flushed; below 0: being filled."""
        if self._server.mixes_lanes:
            found = await self._server.command("MGET", *keys.CURSOR)
        else:
            found = await asyncio.gather(*(self._server.command("GET", key) for key in keys.CURSOR))
        return [None if value is None else int(value) for value in found]

    async def move(self, seq: int, believed: Mapping[int, int | None]) -> list[int]:
        """Move lanes from the value believed of each to `seq`; the lanes that moved."""

        async def one(lane: int, was: int | None) -> bool:
            values = ["" if was is None else str(was), str(seq)]
            return bool(await self._server.run(script("cursor"), [keys.CURSOR[lane]], values))

        moved = await asyncio.gather(*(one(lane, was) for lane, was in believed.items()))
        return [lane for lane, did in zip(believed, moved, strict=True) if did]

    async def confirm(self, believed: Mapping[int, int]) -> list[int]:
        """The lanes whose cursors still stand, once a replica, where there is one, has all that was written before."""

        async def one(lane: int, value: int) -> bool:
            args = [str(value), str(value)]
            return bool(await self._server.run_replicated(script("cursor"), [keys.CURSOR[lane]], args))

        standing = [await one(lane, value) for lane, value in believed.items()]
        return [lane for lane, stands in zip(believed, standing, strict=True) if stands]
