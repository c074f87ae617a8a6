"""Checks a bundle of evidence offline, by the published formats: `assent evidence verify`.

Shares only `merkle`, `checkpoint` and the notes below it with what wrote the bundle; everything else is read again here
from its own definition, so that a mistake of the writer is not repeated. Trusts nothing in the bundle, only the
verifier keys it is given: the log's, and that of its records (`<origin>/records`), got from somewhere else.

Every check says in words what it found, in English and Chinese. Nothing here raises for what a bundle holds: a bundle
that cannot be read is a failed check. Any altered byte fails at least one: of a file its hash in `SEAL`, of `SEAL` its
signature, and of the container the one spelling that its files have.
"""

import hashlib
import hmac
import json
import struct
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.ledger.checkpoint import CheckpointError, parse_proof
from gateway.ledger.merkle import ProofError, leaf_hash, verify_inclusion
from gateway.ledger.permitting import permission
from gateway.ledger.unsealing import Bundle, Failed, Found, canonical

LEAF = struct.Struct(">BQ16s32s")
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a value of another form than ours can raise."""
AHEAD = 1_000
"""Further tags of the person that are looked for in the log."""

Leaves = Callable[[int], Iterable[bytes]]
"""The log's entries from the first one, for a tree of this size; raises OSError or ValueError where one is missing."""


class Check(NamedTuple):
    """One thing that was looked at. `ok` none: it could not be looked at, and says why."""

    name: str
    ok: bool | None
    en: str
    zh: str


class Report(NamedTuple):
    """Every check, in order, and what the bundle says of itself where it could be read."""

    checks: list[Check]
    told: Mapping[str, Any]

    @property
    def good(self) -> bool:
        """Whether nothing failed."""
        return all(one.ok is not False for one in self.checks)


def verify(raw: bytes, vkeys: Sequence[str], *, authority: bytes | None = None, leaves: Leaves | None = None) -> Report:
    """Check a bundle with these verifier keys (the log's, its records', witnesses').

    `authority`: the time-stamping authority's root certificate (PEM). `leaves`: the log's entries, to see that none of
    the person's was left out. Raises NoteError for keys that are none.
    """
    bundle = Bundle(raw, vkeys, authority)
    looks: list[tuple[str, Callable[[], Found]]] = [
        ("container", bundle.container),
        ("seal", bundle.seal),
        ("checkpoint", bundle.log),
        ("timestamp", bundle.timestamp),
        *((look.__name__, partial(look, bundle)) for look in (entries, order, person, records, rules, permission)),
        ("complete", partial(complete, bundle, leaves)),
    ]
    checks: list[Check] = []
    for name, look in looks:
        try:
            checks.append(Check(name, *look()))
        except Failed as failed:
            checks.append(Check(name, False, failed.en, failed.zh))
            if name in ("container", "seal", "checkpoint"):
                break
        except (*UNREADABLE, struct.error) as fault:
            checks.append(Check(name, False, f"cannot be read ({type(fault).__name__})", "无法读取"))
            break
    return Report(checks, bundle.told)


def entries(bundle: Bundle) -> Found:
    """Every entry is in the log; every body shown is the one that was committed to."""
    shown = 0
    for entry in bundle.all():
        commitment = bytes.fromhex(entry["commitment"])
        _in_the_log(bundle, entry, commitment)
        if "body" in entry:
            body = entry["body"].encode()
            if hmac.digest(bytes.fromhex(entry["salt"]), body, hashlib.sha256) != commitment:
                raise Failed(
                    f"entry {entry['seq']}: another body was committed to", f"第 {entry['seq']} 条：内容与承诺不符"
                )
            _is_its_own(bundle, entry, json.loads(body))
            shown += 1
    total = len(list(bundle.all()))
    return (
        True,
        f"{total} entries are in the log, {shown} of them readable and as they were recorded",
        f"{total} 条记录均在日志中，其中 {shown} 条可读且与记录时一致",
    )


def order(bundle: Bundle) -> Found:
    """No entry is dated before the one ahead of it, and the person's are in the log's order."""
    entries = bundle.told["entries"]
    places, times = [one["seq"] for one in entries], [one["at"] for one in entries]
    if places != sorted(set(places)) or times != sorted(times):
        raise Failed("entries are out of order or back-dated", "记录顺序或时间有误")
    return True, "in the order in which they were recorded", "按记录顺序排列"


def person(bundle: Bundle) -> Found:
    """The tags of the entries are the person's, one after the other."""
    if "tag_key" not in bundle.told:
        if not bundle.erasures():
            raise Failed("the person's key is left out, and nothing was erased", "缺少密钥，且并无删除记录")
        return (
            None,
            "the person's key was erased: whose entries these are cannot be shown",
            "密钥已依法销毁，无法证明归属",
        )
    key, counts = bytes.fromhex(bundle.told["tag_key"]), []
    for entry in bundle.told["entries"]:
        if "count" in entry:
            if _tag(key, entry["count"]).hex() != entry["tag"]:
                raise Failed(f"entry {entry['seq']} is not this person's", f"第 {entry['seq']} 条不属于此人")
            counts.append(entry["count"])
    if any(later != count + 1 for count, later in pairwise(counts)):
        raise Failed("entries of the person are missing in between", "此人的记录中间有缺失")
    if counts and counts[0] != 1 and not bundle.erasures():
        raise Failed("the person's first entries are missing", "此人最早的记录缺失")
    return True, f"entries {counts[0]} to {counts[-1]} of this person" if counts else "none", "均属于同一人且连续"


def records(bundle: Bundle) -> Found:
    """Both records of each grant that claims them are signed, and name its topics and the text in the bundle."""
    texts = {hashlib.sha256(held).hexdigest() for name, held in bundle.files.items() if name.startswith("texts/")}
    found = 0
    for body in bundle.bodies():
        evidence = body["data"].get("evidence") or {}
        if body["event_type"] == "grant" and evidence.get("weight") == "two_records":
            found += 1
            _both_records(bundle, evidence, body, texts)
    if not found:
        return None, "no consent by two records is shown", "未包含双录授权"
    return (
        True,
        f"{found} consents by two records, signed, with the text that was shown",
        f"{found} 份双录授权，签名与展示文本一致",
    )


def rules(bundle: Bundle) -> Found:
    """The pack is the text that was recorded, and the one the message names."""
    if not bundle.told["packs"]:
        return None, "the rules in force were not recorded", "未记录当时的规则包"
    for one in bundle.told["packs"]:
        text, data = bundle.files[one["file"]], json.loads(one["body"])["data"]
        if hashlib.sha256(text).hexdigest() != data["sha256"] or data["text"].encode() != text:
            raise Failed("the rules are not those recorded", "规则包与记录不符")
        table = tomllib.loads(text.decode())
        if f"{table['name']}@{table['version']}" != one["pack"]:
            raise Failed("the rules are of another version", "规则包版本不符")
    message = bundle.told["message"]
    named = (message or {}).get("decision", {}).get("pack")
    if message and named and named not in {one["pack"] for one in bundle.told["packs"]}:
        raise Failed("the message names other rules", "短信所用规则包不在证据包中")
    return True, "the rules in force, as they were recorded", "当时生效的规则包，与记录一致"


def complete(bundle: Bundle, leaves: Leaves | None) -> Found:
    """No entry of this person in the log was left out, up to the checkpoint."""
    if leaves is None:
        return (
            None,
            "give the log's tiles to see that no later entry was left out",
            "提供日志瓦片可核验是否遗漏其后的记录",
        )
    if bundle.checkpoint is None or "tag_key" not in bundle.told:
        return None, "the person's key was erased", "密钥已依法销毁"
    key = bytes.fromhex(bundle.told["tag_key"])
    counts = [entry["count"] for entry in bundle.told["entries"] if "count" in entry]
    known = {entry["tag"] for entry in bundle.told["entries"]}
    last = max(counts, default=0)
    unseen = {_tag(key, n).hex() for n in range(1, last + AHEAD)} - known
    try:
        for place, entry in enumerate(leaves(bundle.checkpoint.size), start=1):
            if LEAF.unpack(entry)[2].hex() in unseen:
                raise Failed(f"entry {place} is this person's and was left out", f"第 {place} 条属于此人却被遗漏")
    except (OSError, struct.error) as fault:
        raise Failed(f"the log's tiles cannot be read ({type(fault).__name__})", "日志瓦片无法读取") from None
    return True, "no entry of this person was left out", "未遗漏此人的任何记录"


# --- what checks share ------------------------------------------------------------------------------------------------


def _in_the_log(bundle: Bundle, entry: Mapping[str, Any], commitment: bytes) -> None:
    leaf = LEAF.pack(entry["version"], entry["at"], bytes.fromhex(entry["tag"]), commitment)
    raw, checkpoint = bundle.files[f"proofs/{entry['seq']}.tlog-proof"], bundle.checkpoint
    try:
        proof = parse_proof(raw)
        if checkpoint is None or proof.checkpoint != bundle.files["checkpoint"] or proof.index != entry["seq"] - 1:
            raise Failed(f"entry {entry['seq']}: a proof of something else", f"第 {entry['seq']} 条：证明不对应")
        verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.path, checkpoint.root)
    except (ProofError, CheckpointError) as fault:
        raise Failed(f"entry {entry['seq']}: {fault}", f"第 {entry['seq']} 条：不在日志中") from None


def _is_its_own(bundle: Bundle, entry: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    if body["event_type"] != entry["kind"] or canonical(body).decode() != entry["body"]:
        raise Failed(f"entry {entry['seq']} is of another kind", f"第 {entry['seq']} 条：类型不符")
    mine = body["pii_principal_id"] == bundle.told["subject"] or entry["kind"] == "pack"
    if not mine or body.get("pii_principal_contact", bundle.told.get("number")) != bundle.told.get("number"):
        raise Failed(f"entry {entry['seq']} is about somebody else", f"第 {entry['seq']} 条：不是此人的记录")


def _both_records(bundle: Bundle, evidence: Mapping[str, Any], body: Mapping[str, Any], texts: set[str]) -> None:
    for one in ("first", "second"):
        _signed_record(bundle, evidence[one], body)
    first, second = evidence["first"]["record"], evidence["second"]["record"]
    if second["first_sha256"] != hashlib.sha256(canonical(first)).hexdigest():
        raise Failed("the second record belongs to another first one", "第二份记录与第一份不对应")
    if first["proof"]["notice"]["sha256"] not in texts:
        raise Failed("the text that was shown is not in the bundle, or differs", "证据包缺少展示的文本或文本不符")
    ticked = {box["topic"] for box in first["proof"]["boxes"] if box["final"] is True and box["default"] is False}
    if not ticked.issuperset(body["data"]["topics"]) or first["entity_id"] != body["data"]["sender"]:
        raise Failed("the consent says more than was ticked", "授权范围超出所勾选的内容")


def _signed_record(bundle: Bundle, signed: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    record = signed["record"]
    public = bytes.fromhex(body["data"]["evidence"]["key"])
    if bundle.record_key is None or bundle.record_key.public() != public:
        raise Failed("a record is signed by another key", "记录由其他密钥签名")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signed["signature"]), canonical(record))
    except InvalidSignature:
        raise Failed("a record's signature does not verify", "记录签名无效") from None
    if record["pii_principal_id"] != bundle.told["subject"]:
        raise Failed("a record is of somebody else", "记录属于他人")


def _tag(key: bytes, count: int) -> bytes:
    return hmac.digest(key, count.to_bytes(8, "big"), hashlib.sha256)[:16]
