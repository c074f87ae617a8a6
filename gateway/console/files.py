"""What leaves and enters the console as a file: evidence, exports of the log, files of complaints.

Plain requests beside the pages, behind the same door: a session, and for a post its origin. The role is the one the
door read just now. Whatever leaves is recorded in the ledger first; nothing of it is kept in memory or on a disk here.
A download that breaks off is no whole ZIP, and an upload that breaks off has taken in what came before, once.
"""

import html
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from gateway import telemetry
from gateway.console import asking, door
from gateway.console.desk import Desk, means_of
from gateway.console.frame import Unrecorded, record
from gateway.console.packing import packed
from gateway.console.wording import LANGUAGES, Words, preferred, words
from gateway.contract.consent import EventKind
from gateway.contract.console import May, Session
from gateway.contract.export import Asked
from gateway.intake.complaint_file import Counts, Importing
from gateway.ledger.appender import LedgerUnavailable
from gateway.ledger.chain import Case
from gateway.ledger.events import SYSTEM
from gateway.ledger.evidence import NoLogError, NothingError
from gateway.records import users
from gateway.records.connection import AWAY
from gateway.records.messages import Messages
from gateway.records.searching import LAST_MS
from gateway.rules.complaint_file import File, HeaderError, columns, mapping

MOST_FORM = 8_192
MOST_ASKED = 512
PIECE = 64 * 1024
ZIP = "application/zip"

log = telemetry.logger("console")


class _Refused(Exception):  # noqa: N818 - it says what happened
    """The key of what to say, and the status."""


class Files:
    """The requests. `desk`: the parts, once they are open."""

    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk

    async def evidence(self, request: Request) -> Response:
        """The sealed bundle of a message or an event: `asked` is its id, or its place in the ledger."""

        async def made() -> Response:
            desk, session = self._desk(), _allowed(request, May.EXPORT)
            case = await _case_of(desk, (await _form(request)).get("asked", ""))
            if case is None:
                raise _Refused("evidence_none", 404)
            await record(desk, session, EventKind.ACCESS, {"what": "evidence", "seen": ["evidence"]}, case.subject)
            telemetry.CONSOLE_LOOKS.add()
            try:
                raw = await desk.evidence.bundle(case, _now_ms())
            except NothingError:
                raise _Refused("evidence_none", 404) from None
            except NoLogError:
                raise _Refused("evidence_away", 503) from None
            return Response(raw, media_type=ZIP, headers=_saved(f"evidence-{next(iter(case.question.values()))}.zip"))

        return await _answered(request, made)

    async def export(self, request: Request) -> Response:
        """The log as a regulator asks for it: a ZIP of the rows, their manifest and the seal, written as it is read."""

        async def made() -> Response:
            desk, session = self._desk(), _allowed(request, May.EXPORT)
            asked, reason, suffix = _asked(await _form(request))
            data: dict[str, Any] = {"what": "records", "seen": ["records"], "why": reason, "asked": asked.told()}
            entry = await record(desk, session, EventKind.ACCESS, data, asked.subject or SYSTEM)
            telemetry.CONSOLE_LOOKS.add()
            body = packed(desk, asked, suffix, {"by": session.name, "reason": reason, "ledger_entry": entry})
            return StreamingResponse(while_standing(desk, session, body), media_type=ZIP, headers=_saved("records.zip"))

        return await _answered(request, made)

    async def complaints(self, request: Request) -> Response:
        """Take in a file of complaints as its bytes come; JSON, what became of its lines."""
        told = _words(request)
        try:
            desk, session = self._desk(), _allowed(request, May.CASES)
            means, given = await means_of(desk), request.query_params
            base, own = mapping(given.get("mapping", "own")), given.get("columns")
            meant = columns(own, None, base) if own else base
            file = File(meant, means.zone, _now_ms(), given.get("encoding") or None)
            counts = await Importing(means, file, session.name, _now_ms).run(_pieces(request))
        except _Refused as why:
            return _json({"said": told[str(why.args[0])]}, why.args[1])
        except HeaderError as fault:
            return _json({"said": told("import_unreadable", why=explained(told, str(fault)))}, 422)
        except (LedgerUnavailable, *AWAY) as fault:
            log.warning("page_away", error=type(fault).__name__)
            return _json({"said": told["away"]}, 503)
        except ClientDisconnect:
            return Response(status_code=400)
        return _json(_counted(told, counts))


# --- the parts of a request ------------------------------------------------------------------------------------------


async def _answered(request: Request, made: Callable[[], Any]) -> Response:
    """What `made` makes, or a page that says why not."""
    try:
        answer: Response = await made()
    except _Refused as why:
        return _page(request, str(why.args[0]), why.args[1])
    except Unrecorded:
        return _page(request, "unrecorded", 503)
    except AWAY as fault:
        log.warning("page_away", error=type(fault).__name__)
        return _page(request, "away", 503)
    return answer


def _allowed(request: Request, may: May) -> Session:
    session: Session = request.scope[door.SESSION]
    if not session.may(may):
        raise _Refused("forbidden", 403)
    return session


async def _form(request: Request) -> dict[str, str]:
    """A posted form of a few short fields."""
    raw = b""
    async for piece in request.stream():
        raw += piece
        if len(raw) > MOST_FORM:
            raise _Refused("form_wrong", 413)
    try:
        return {name: said[0].strip() for name, said in parse_qs(raw.decode("ascii")).items()}
    except UnicodeDecodeError:
        raise _Refused("form_wrong", 422) from None


async def while_standing(desk: Desk, session: Session, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A file's pieces while its reader may have them: an export takes minutes, and a session may end meanwhile."""
    async for piece in body:
        now = (await users.standing(desk.pool, [session.digest])).get(session.digest)
        if now is None or not now.may(May.EXPORT):
            raise ConnectionAbortedError("the session of this export is over")
        yield piece


def _asked(given: dict[str, str]) -> tuple[Asked, str, str]:
    """What is exported, why, and as what."""
    reason, suffix = given.get("reason", ""), given.get("as", "csv")
    try:
        ends = [int(given[name]) if given.get(name) else None for name in ("from", "until")]
        who = asking.subject(given.get("who"))
        asked = Asked(given.get("sender") or None, given.get("campaign") or None, who, *ends)
    except ValueError:
        raise _Refused("form_wrong", 422) from None
    fits = all(end is None or 0 <= end <= LAST_MS for end in ends) and "\0" not in f"{asked.sender}{asked.campaign}"
    if not fits or not 0 < len(reason) <= MOST_ASKED or suffix not in {"csv", "jsonl"} or asked == Asked():
        raise _Refused("form_wrong", 422)
    return asked, reason, suffix


async def _case_of(desk: Desk, asked: str) -> Case | None:
    """What an id asks about: a message, or an event by its place or id."""
    if not 0 < len(asked) <= MOST_ASKED:
        return None
    try:
        message = await Messages(desk.pool).by_id(str(UUID(asked)))
    except ValueError:
        message = None
    if message is not None and message.subject is not None:
        return Case({"message": message.id}, message.subject, message.sender, message.told())
    place = await desk.evidence.place(asked)
    if place is None or place[1] is None:
        return None
    return Case({"event": place[0]}, place[1], None)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    async for body in request.stream():
        for first in range(0, len(body), PIECE):
            yield body[first : first + PIECE]


# --- answers ---------------------------------------------------------------------------------------------------------


def _counted(told: Words, counts: Counts) -> dict[str, Any]:
    """What became of a file, in words; it quotes nothing of the file."""
    by = {match.value: n for match, n in counts.matches.items()}
    lines = [
        told("import_line", n=one.line, field=one.field or "–", why=explained(told, one.message))
        for one in counts.rejects
    ]
    more = counts.rejected - len(lines)
    return {
        "said": told(
            "import_done",
            lines=f"{counts.lines:,}",
            recorded=f"{counts.recorded:,}",
            duplicates=f"{counts.duplicates:,}",
            rejected=f"{counts.rejected:,}",
        ),
        "matched": told("import_matched", **by),
        "rejects": lines + ([told("import_more", n=f"{more:,}")] if more else []),
    }


def explained(told: Words, message: str) -> str:
    """What is wrong with a line or a file (`rules.complaint_file`), in the reader's words where there are some."""
    return told.get("line_" + re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_"), message)


def _words(request: Request) -> Words:
    session: Session = request.scope[door.SESSION]
    return words(session.lang or preferred(request.headers.get("accept-language", "")))


def _json(told: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(told), status, media_type="application/json")


def _page(request: Request, key: str, status: int) -> Response:
    told = _words(request)
    said, back = html.escape(told[key]), html.escape(told["back"])
    body = (
        f'<!doctype html><html lang="{LANGUAGES[told.lang]}"><meta charset="utf-8"><title>Assent</title>'
        '<link rel="stylesheet" href="/console/console.css"><body class="plain"><main>'
        f'<p role="alert">{said}</p><p><a href="/">{back}</a></p></main></html>'
    )
    return Response(body, status, media_type="text/html; charset=utf-8")


def _saved(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
