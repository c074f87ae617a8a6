"""Whether the entry that a message names permitted it: read again from the acts and rules that a bundle shows.

Part of the offline verifier (`verify`), and as independent of the writer. The person's acts are replayed in the log's
order up to the message's acceptance: what refuses stands until it is lifted, whether it came before the entry or after
it. Only what is shown is replayed; how many entries are not shown is said.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.ledger.unsealing import Bundle, Failed, Found

OPT_OUT = "opt_out"
REFUSALS = frozenset({"suppression", "complaint", "cleansing"})
ENDS = frozenset({"restriction", "erasure"})
UNNAMED = frozenset({"request", OPT_OUT})
"""Bases that are no entry of the ledger."""


def permission(bundle: Bundle) -> Found:
    """The message names an entry that permits its purpose, recorded before it, and not ended before it."""
    message = bundle.told["message"]
    if message is None:
        return None, "no message is asked about", "未涉及具体短信"
    decision = message.get("decision") or {}
    named, rule = decision.get("ledger_entry"), _rule(bundle, message, decision)
    if named is None:
        return _unnamed(decision.get("basis"), rule)
    bodies = {entry["seq"]: json.loads(entry["body"]) for entry in bundle.told["entries"] if "body" in entry}
    if named not in {entry["seq"] for entry in bundle.told["entries"]}:
        raise Failed("the entry that the message names is not this person's", "所依据的记录不属于此人")
    if named not in bodies:
        if not any(seq > named for seq in bundle.erasures()):
            raise Failed(f"entry {named} is not shown, and was not erased", f"第 {named} 条未出示，且并未删除")
        return None, f"entry {named} is in the log, and erased", f"第 {named} 条在日志中，内容已依法删除"
    if rule is None and bodies[named]["event_type"] != "grant":
        return None, "the rules in force were not recorded: what they permit is not known", "未记录规则，无法判断"
    _check_entry(bundle, bodies[named], named, message, rule or {"basis": "consent"})
    acts = {seq: body for seq, body in bodies.items() if bundle.at(seq) <= message["accepted_at"]}
    excepted = _check_standing(acts, named, message, rule or {})
    return _told(bundle, message, named, excepted=excepted)


def _told(bundle: Bundle, message: Mapping[str, Any], named: int, *, excepted: bool) -> Found:
    hidden = [one for one in bundle.told["entries"] if "body" not in one and one["at"] <= message["accepted_at"]]
    but = ", but for opt-outs, which the rules except it from" if excepted else ""
    also = f"; {len(hidden)} entries before the message are not shown" if hidden else ""
    also_zh = f"；短信之前另有 {len(hidden)} 条未出示" if hidden else ""
    return (
        True,
        f"entry {named} permitted it, and nothing shown had ended that{but}{also}",
        f"第 {named} 条允许该短信，所示记录中未见此前终止{also_zh}",
    )


def _unnamed(basis: str | None, rule: Mapping[str, Any] | None) -> Found:
    if basis not in UNNAMED or (rule is not None and rule["basis"] != basis):
        raise Failed("the message names no entry, and its purpose needs one", "短信未指明所依据的记录")
    return None, "the message relied on the person's own request, not on an entry", "依据用户请求，不依赖账本记录"


def _rule(bundle: Bundle, message: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """The purpose's rules in the pack that decided the message; none where the bundle does not hold that pack."""
    for one in bundle.told["packs"]:
        if one["pack"] == decision.get("pack"):
            found = tomllib.loads(bundle.files[one["file"]].decode())["purposes"].get(message["purpose"])
            if found is None:
                raise Failed("the rules know no such purpose", "规则包中没有该用途")
            return dict(found)
    return None


def _check_entry(
    bundle: Bundle, body: Mapping[str, Any], named: int, message: Mapping[str, Any], rule: Mapping[str, Any]
) -> None:
    data, accepted_at = body["data"], message["accepted_at"]
    if data.get("sender") != message["sender"] or not _permits(body, message["purpose"], rule):
        raise Failed("that entry does not permit this sender and purpose", "该记录不允许此发送方或用途")
    if bundle.at(named) > accepted_at:
        raise Failed("that entry is later than the message", "该记录晚于短信")
    until_s = data.get("valid_until") or data.get("expires_at") or 0
    if until_s and accepted_at // 1000 > until_s:
        raise Failed("that entry had run out before the message", "该许可在短信之前已到期")


def _permits(body: Mapping[str, Any], purpose: str, rule: Mapping[str, Any]) -> bool:
    """A grant of the purpose, its first segment or a topic that the rules name; a relationship of such a kind."""
    if body["event_type"] == "relationship":
        return body["data"]["kind"] in rule.get("kinds", ())
    own = {purpose, purpose.partition(".")[0]} if rule["basis"] == "consent" else set()
    return body["event_type"] == "grant" and not (own | {*rule.get("topics", ())}).isdisjoint(body["data"]["topics"])


# --- what stands against it ------------------------------------------------------------------------------------------


def _check_standing(
    acts: Mapping[int, dict[str, Any]], named: int, message: Mapping[str, Any], rule: Mapping[str, Any]
) -> bool:
    """Replay the acts; whether an opt-out stood that the rules except the purpose from. Raises Failed."""
    standing: dict[tuple[str, str], int] = {}
    for seq, body in sorted(acts.items()):
        if seq > named and _ends(body, acts[named], acts):
            raise Failed(f"entry {seq} had ended that permission before the message", f"第 {seq} 条已终止该许可")
        for scope, reason in _refused(body):
            if reason != OPT_OUT or not _proofs_after(scope, body, seq, acts):
                standing[scope, reason] = seq
        for lifted in _lifted(body):
            standing.pop(lifted, None)
    excepting = OPT_OUT in {*rule.get("ignores", ()), *rule.get("approved_ignores", ())}
    scopes = _scopes(message, rule)
    found = [(reason, seq) for (scope, reason), seq in standing.items() if scope in scopes]
    for reason, seq in found:
        if reason != OPT_OUT or not excepting:
            raise Failed(f"entry {seq} forbade it when the message came", f"第 {seq} 条在短信之时禁止下发")
    return bool(found)


def _ends(body: Mapping[str, Any], permit: Mapping[str, Any], acts: Mapping[int, dict[str, Any]]) -> bool:
    """Whether a later act ended the permit itself, so that lifting what it refused brings nothing back."""
    kind, data, own = body["event_type"], body["data"], permit["data"]
    if kind in ENDS:
        return True
    if kind == "relationship" == permit["event_type"]:
        over = 0 < (data.get("expires_at") or 0) * 1000 <= body["event_time"]
        same = (data["sender"], data["kind"]) == (own["sender"], own["kind"])
        return over and same and permit["event_time"] <= body["event_time"]
    if permit["event_type"] != "grant":
        return False
    covered = {scope for topic in own["topics"] for scope in _covering(own["sender"], topic)}
    seq = next(n for n, one in acts.items() if one is body)
    for scope, reason in _refused(body):
        if reason == OPT_OUT and scope in covered:
            proofs = _proofs_after(scope, body, seq, acts)
            if not proofs or permit["event_time"] // 1000 < min(proofs):
                return True
    return False


def _refused(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The scopes that an act refuses, and why."""
    data = body["data"]
    if body["event_type"] == "withdrawal":
        owner, cls = data.get("sender") or "*", data.get("cls")
        for topic in data.get("topics") or ():
            yield f"{owner}/{topic}", OPT_OUT
        if not data.get("topics"):
            yield f"{owner}#{cls}" if cls else owner, OPT_OUT
    elif body["event_type"] in REFUSALS:
        yield data["scope"], data["reason"]


def _lifted(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What an act lifts: a suppression by name, or the sender's own opt-outs by the person's proven consent."""
    data = body["data"]
    if body["event_type"] == "unsuppression":
        yield data["scope"], data["reason"]
    elif body["event_type"] == "grant" and data.get("lifts") is True:
        for topic in data["topics"]:
            for scope in _covering(data["sender"], topic):
                if not scope.startswith("*"):
                    yield scope, OPT_OUT


def _proofs_after(scope: str, refusal: Mapping[str, Any], seq: int, acts: Mapping[int, dict[str, Any]]) -> list[int]:
    """When (Unix seconds) the person had proven a consent in the scope after a refusal that was recorded only later."""
    if scope.startswith("*"):
        return []
    found = []
    for place, body in acts.items():
        data = body["data"]
        if place < seq and body["event_type"] == "grant" and data.get("lifts") is True:
            covered = any(scope in _covering(data["sender"], topic) for topic in data["topics"])
            at = body["event_time"] // 1000
            found += [at] if covered and at * 1000 > refusal["event_time"] else []
    return found


def _covering(sender: str, topic: str) -> set[str]:
    """Every scope that covers a consent to a topic of a sender: consents are of class marketing."""
    parts = topic.split(".")
    names = [".".join(parts[: n + 1]) for n in range(len(parts))]
    return {f"{owner}{rest}" for owner in ("*", sender) for rest in ("", "#marketing", *(f"/{one}" for one in names))}


def _scopes(message: Mapping[str, Any], rule: Mapping[str, Any]) -> set[str]:
    """Every scope in which a refusal forbids a message of this sender, purpose and class."""
    purpose = message["purpose"]
    rests = ["", *(f"#{cls}" for cls in (message["class"], *rule.get("stopped_by", ())))]
    rests += [f"/{topic}" for topic in (purpose, purpose.partition(".")[0])]
    return {f"{owner}{rest}" for owner in ("*", message["sender"]) for rest in rests}
