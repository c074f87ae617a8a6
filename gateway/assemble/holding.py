"""Legal holds as an operator types them. A hold stands first and is recorded then; a release is recorded first."""

from typing import Any

from gateway.assemble.commands import Declined, connection_of, said
from gateway.assemble.exporting import office, record, subject_of
from gateway.contract.consent import EventKind
from gateway.contract.export import Asked
from gateway.records import holds
from gateway.records.holds import Hold, Scope
from gateway.records.partitions import lowest_id
from gateway.settings import Settings


async def add_hold(settings: Settings, asked: Asked, who: str | None, *, by: str, reason: str) -> int:
    """Hold what is asked for; the hold's number. `who`: a number or subject. Raises Declined."""
    said(by=by, reason=reason)
    async with office(settings) as at:
        ends = (None if end is None else lowest_id(end) for end in (asked.from_ms, asked.until_ms))
        scope = Scope(asked.sender, asked.campaign, subject_of(at.keys, who), *ends)
        if scope == Scope():
            raise Declined("say what is held: --sender, --campaign, --subject, --from or --to")
        async with at.pool.acquire() as conn:
            hold = await holds.add(conn, scope, by.strip(), reason.strip())
        data: dict[str, Any] = {
            "hold": hold,
            "held": True,
            "person": by.strip(),
            "why": reason.strip(),
            "asked": scope.told(),
        }
        try:
            await record(at, EventKind.HOLD, None, data)
        except Exception as fault:
            name = type(fault).__name__
            raise Declined(
                f"hold {hold} stands, but the ledger did not record it ({name}): add it once more"
            ) from fault
        return hold


async def release_hold(settings: Settings, hold: int, *, by: str, reason: str) -> None:
    """End a hold; what is past its time goes within the hour. Raises Declined."""
    said(by=by, reason=reason)
    async with office(settings) as at, at.pool.acquire() as conn:
        if hold not in [one.id for one in await holds.listed(conn)]:
            raise Declined(f"no hold {hold} stands")
        data = {"hold": hold, "held": False, "person": by.strip(), "why": reason.strip()}
        await record(at, EventKind.HOLD, None, data)
        await holds.release(conn, hold, by.strip(), reason.strip())


async def list_holds(settings: Settings, *, standing: bool) -> list[Hold]:
    """The holds, oldest first."""
    async with connection_of(settings) as conn:
        return await holds.listed(conn, standing=standing)
