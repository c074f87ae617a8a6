"""The readable forms: a certificate and a person's file, each one printable page in Chinese and English.

Every text is escaped; a page loads nothing, runs nothing and may stand in no frame. No number is on it but the masked
one: a file's records are as a client gave them, so the person's number, and what looks like a mainland one, is masked.
"""

import base64
import hashlib
import json
import re
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.contract.ids import mask
from gateway.edge.personal.export import PersonalData
from gateway.edge.personal.words import KINDS, MEANINGS, STATUSES
from gateway.ledger.certificate import Signed
from gateway.ledger.events import canonical

LIKE_A_NUMBER = re.compile(r"(?<![0-9])(?:\+?86)?1[3-9][0-9]{9}(?![0-9])")
MAINLAND = "+86"
ALONE = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

_templates = Environment(
    loader=PackageLoader("gateway.edge.personal"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def certificate_page(signed: Signed, zone: ZoneInfo) -> str:
    """A signed certificate; times in `zone`."""
    return _templates.get_template("certificate.html").render(
        c=signed.certificate,
        signature=signed.signature,
        key=signed.key,
        signed=canonical(signed.certificate).decode(),
        told=_telling(zone),
    )


def file_page(data: PersonalData, number: str | None, zone: ZoneInfo) -> str:
    """A person's file; times in `zone`. `number`: theirs, where it is known, to be masked wherever it stands."""

    def pretty(value: Any) -> str:
        return concealed(json.dumps(value, ensure_ascii=False, indent=2, default=str), number)

    return _templates.get_template("file.html").render(
        d=data,
        told=_telling(zone),
        pretty=pretty,
        hidden=lambda text: concealed(str(text), number),
        kinds=KINDS,
        statuses=STATUSES,
        meanings=MEANINGS,
    )


def answer(page: str) -> HTMLResponse:
    """A page on its way out: its own style and nothing else, kept nowhere."""
    headers = {
        "content-security-policy": f"{ALONE}; style-src 'sha256-{_style()}'",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return HTMLResponse(page, headers=headers)


def concealed(text: str, number: str | None) -> str:
    """A text with the number, and whatever looks like a mainland number, masked."""
    for known in () if number is None else (number, number.removeprefix(MAINLAND), number.removeprefix("+")):
        text = text.replace(known, mask(known))
    return LIKE_A_NUMBER.sub(lambda found: mask(found[0]), text)


@cache
def _style() -> str:
    """The digest by which a policy allows the style that stands in every page (CSP Level 3, 2.3.1)."""
    digest = hashlib.sha256(_templates.get_template("page.css").render().encode()).digest()
    return base64.b64encode(digest).decode()


def _telling(zone: ZoneInfo) -> Any:
    def told(at: datetime | str | None) -> str:
        if at is None:
            return "—"
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return moment.astimezone(zone).isoformat(" ", "minutes")

    return told
