"""The second record by code: control of the number is shown, and both records become one grant.

Order: the attempt is counted before the code is looked at -> the grant is appended and in force -> the row loses its
sealed body. A crash after the append leaves a row that the same code grants again, which is the same event. Promises:
five attempts, ten minutes, compared in constant time; and one answer to everything that is not right.
"""

import hmac
import time
from typing import Literal

from gateway import telemetry
from gateway.contract.form import Form
from gateway.edge.gate import Gate
from gateway.edge.optin.starting import allowance, check_origin
from gateway.edge.optin.submitted import Confirmation
from gateway.edge.optin.where import Seen
from gateway.ledger import two_records
from gateway.ledger.keys import KeyMismatchError
from gateway.records import forms
from gateway.records.forms import OptIn
from gateway.rules.wording import bare

CONFIRMS_A_MINUTE = 60
"""Attempts of one address, whatever they name."""
Outcome = Literal["done", "wrong", "refused"]
_log = telemetry.logger("edge")


async def confirm(gate: Gate, form: Form, given: Confirmation, where: Seen) -> Outcome:
    """Grant, or why not. Raises Refused, and what the parts raise; then the same code may be tried again."""
    check_origin(form, where, embed=False, page="")
    await allowance(gate, "opt-in-code", where, CONFIRMS_A_MINUTE)
    outcome = await _confirm(gate, form, given, where)
    telemetry.OPT_INS.add(1, {"done": "confirmed", "wrong": "wrong_code", "refused": "refused"}[outcome])
    return outcome


async def _confirm(gate: Gate, form: Form, given: Confirmation, where: Seen) -> Outcome:
    name = _name(given.opt_in)
    code = bare(given.code)
    now = time.time_ns() // 1_000_000
    async with gate.pool.acquire() as conn:
        row = None if name is None else await forms.attempt(conn, name, form.id, now)
    digest = gate.appender.keys.code_digest(name or "", code)
    if not hmac.compare_digest(digest, row.code if row is not None else bytes(len(digest))) or row is None:
        return "wrong"
    if row.done or row.sealed is None:
        return "done"
    return await _grant(gate, row, row.sealed, where, now)


async def _grant(gate: Gate, row: OptIn, sealed: bytes, where: Seen, now: int) -> Outcome:
    keys = gate.appender.keys
    try:
        waiting = two_records.unseal(keys, row.id, sealed)
    except KeyMismatchError:
        _log.exception("opt_in_unreadable", form=row.form)
        return "wrong"
    control = {"method": "code", "where": {"url": where.url, "ip": where.ip, "user_agent": where.user_agent}}
    second = two_records.second_record(row.id, row.subject, waiting, row.message_id, now, control)
    (appended,) = await gate.appender.append([two_records.grant(keys, row.id, row.subject, waiting, second)])
    if appended.refusal is not None:
        return "refused"
    async with gate.pool.acquire() as conn:
        await forms.finish(conn, [row.id])
    return "done"


def _name(written: str) -> str | None:
    """An opt-in's id, where it is like one."""
    return written if len(written) == 32 and not set(written) - set("0123456789abcdef") else None  # noqa: PLR2004
