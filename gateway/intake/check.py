"""What would happen to a message, rule by rule, with nothing sent and nothing counted (POST /v1/messages/check).

The rows are the pack's own, in the order in which a message meets them, each with its legal or carrier source; the
verdicts come from the same functions and the same script as the real admission.
"""

from datetime import UTC, datetime
from typing import Any

from gateway.contract.codes import Code
from gateway.contract.decision import Basis, Refusal
from gateway.contract.ids import lane_of, new_id, subject_of
from gateway.contract.message import SendRequest
from gateway.contract.registry import Client
from gateway.guard import Ask, GuardUnavailable, Mode, Verdict
from gateway.intake.answer import basis_of
from gateway.intake.digests import text_hash, used_digest
from gateway.intake.intake import STALE, UNAVAILABLE, Intake
from gateway.intake.prepare import Route, due, prepare, trace, uncallable
from gateway.rules import content, hours, numbers
from gateway.rules.explain import RuleInfo, rules_of

Verdicts = dict[str, Refusal | None]


async def check(intake: Intake, client: Client, request: SendRequest, now_ms: int) -> dict[str, Any] | Refusal:
    """The document of a check; a `Refusal` where nothing could be asked."""
    if not intake.cfg.fresh:
        return STALE
    route = intake.routes().find(client, request.sender, request.purpose)
    if isinstance(route, Refusal):
        return route
    if request.callback_url is not None and (wrong := uncallable(request.callback_url, intake.reach)) is not None:
        return wrong
    verdicts: Verdicts = dict(trace(request, route, now_ms))
    number = numbers.parse(request.to)
    scope = intake.cfg.open_scope(
        route.sender.id,
        route.purpose.cls,
        request.campaign,
        route.port,
        request.list_source,
        subject=None if number is None else subject_of(intake.pepper, number),
    )
    verdicts["breaker"] = None if scope is None else Refusal(Code.BREAKER_OPEN, f"stopped: {scope}")
    asked = None
    if number is not None:
        try:
            (asked,) = await intake.admit([_ask(intake, request, route, number, now_ms)])
        except GuardUnavailable:
            return UNAVAILABLE
    return _document(request, route, verdicts, asked, now_ms)


def _ask(intake: Intake, request: SendRequest, route: Route, number: str, now_ms: int) -> Ask:
    subject = subject_of(intake.pepper, number)
    body = content.compose(request.text or "", route.sender, route.purpose, route.pack)
    used = None
    if request.request is not None and route.plan.basis is Basis.REQUEST:
        used = used_digest(intake.pepper, subject, route, request.request.ref)
    return Ask(
        id=new_id(lane_of(subject), now_ms),
        subject=subject,
        plan=route.plan,
        text_hash=text_hash(intake.pepper, "" if isinstance(body, Refusal) else body.text),
        midnights=hours.midnights(route.pack.zone, now_ms),
        minute_of_day=hours.minute_of_day(route.pack.zone, now_ms),
        mode=Mode.CHECK,
        approved=request.approval is not None,
        request=used,
    )


def _document(
    request: SendRequest, route: Route, verdicts: Verdicts, asked: Verdict | None, now_ms: int
) -> dict[str, Any]:
    rows = [_row(rule, verdicts, asked) for rule in rules_of(route.purpose, route.pack) if rule.applies]
    cold = [_cold()] if asked is not None and any(r.rule == "cache" and r.code for r in asked.trace) else []
    rows = cold + rows
    failed = next((row for row in rows if row["verdict"] == "refused"), None)
    release = None if failed else due(request, route, now_ms, asked.hours if asked else None)[0]
    prepared = prepare(request, route, now_ms)
    return {
        "status": "refused" if failed else "held" if release is not None else "accepted",
        "code": failed["code"] if failed else None,
        "release_at": None if release is None else datetime.fromtimestamp(release / 1000, UTC),
        "parts": None if isinstance(prepared, Refusal) else prepared.content.parts,
        "text": None if isinstance(prepared, Refusal) else prepared.content.text,
        "decision": None
        if failed
        else {"basis": basis_of(route, asked), "ledger_entry": asked.entry if asked else None, "pack": route.plan.pack},
        "rules": rows,
    }


def _cold() -> dict[str, Any]:
    return {"rule": "cache", "title": "The permission cache is current", "verdict": "refused", "code": Code.CACHE_COLD}


def _row(rule: RuleInfo, verdicts: Verdicts, asked: Verdict | None) -> dict[str, Any]:
    """One rule with its verdict: what was decided here, else what the script says under the same name."""
    row: dict[str, Any] = {
        "rule": rule.name,
        "title": rule.title,
        "title_zh": rule.title_zh,
        "source": rule.source,
        "source_zh": rule.source_zh,
        "verdict": "not_asked" if rule.name == "quota" else "passed",
    }
    here = verdicts.get(rule.name)
    if here is not None:
        return row | {"verdict": "refused", "code": here.code, "detail": here.detail}
    for found in asked.trace if asked is not None else ():
        if not _is(found.rule, found.detail, rule):
            continue
        if found.limit >= 0 and found.rule != "preference.hours":
            row |= {"count": max(found.counted, 0), "limit": found.limit}
        if found.code is not None and found.code is not Code.QUIET_HOURS:
            row |= {"verdict": "refused", "code": found.code, "retry_after_ms": found.retry_after_ms or None}
    return row


def _is(name: str, detail: str, rule: RuleInfo) -> bool:
    """Whether the script's rule is this row of the pack's."""
    if rule.name == "windows":
        return name == "window" and detail == rule.window
    return name.partition(".")[0] == rule.name or (rule.name == "basis" and name in {"request", "consent.max_per_week"})
