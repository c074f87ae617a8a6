"""What the simulated carrier does with a message: pure, seeded, and forced by special numbers.

An outcome is an answer to the submit and a list of receipts with their delays. It is a function of the seed, the
message id and the attempt, so a run can be repeated and a test can foresee it.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from gateway.carriers.carrier import Doubtful, Rejected, Retry, Submitted, Taken
from gateway.carriers.receipts import known_cause
from gateway.contract.decision import Cause

CONNECTOR = "simulator"
THROTTLE_AFTER_S = 0.2


class Report(NamedTuple):
    """A receipt to come: seconds after the submit (negative: before its answer), its words, whether it echoes `ref`."""

    after_s: float
    word: str
    code: str
    ref: bool = True


class SpecialNumber(NamedTuple):
    """A number that forces an outcome, as GET /v1/purposes lists it."""

    number: str
    outcome: str
    zh: str
    en: str


_PREFIX = "+86199000000"

SIMULATOR_NUMBERS: tuple[SpecialNumber, ...] = tuple(
    SpecialNumber(_PREFIX + last, outcome, zh, en)
    for last, outcome, zh, en in (
        ("01", "delivered", "送达", "Delivered."),
        ("02", "dead_number", "空号（MK:0001）", "Undelivered: dead number (MK:0001)."),
        ("03", "suspended", "停机或关机（MK:0005）", "Undelivered: suspended or off (MK:0005)."),
        ("04", "content", "提交时因内容被拒（KEYWORD）", "Rejected at submit for its content (KEYWORD)."),
        ("05", "throttled", "限流两次后送达", "Throttled twice, then delivered."),
        ("06", "carrier_opt_out", "运营商黑名单（BLACK）", "Undelivered: on the carrier's blacklist (BLACK)."),
        ("07", "expired", "超过有效期（EXPIRED）", "Expired at the carrier (EXPIRED)."),
        (
            "08",
            "silent",
            "提交成功但无状态报告：满 72 小时仍无报告则为 unknown",
            "Taken: unknown after 72 hours without a receipt.",
        ),
        ("09", "duplicated", "状态报告重复三次", "Delivered; the receipt arrives three times."),
        ("10", "early", "状态报告先于提交应答", "Delivered; the receipt comes before the submit's answer."),
        ("11", "out_of_order", "状态报告乱序", "Delivered; an older receipt comes after the final one."),
        ("12", "doubtful", "提交应答丢失，随后送达", "The submit's answer is lost; a receipt then says delivered."),
        ("13", "vanished", "提交应答丢失且无状态报告", "The submit's answer is lost, and no receipt ever."),
    )
)

_SPECIAL = {special.number: special.outcome for special in SIMULATOR_NUMBERS}
_DELIVERED = ("DELIVRD", "000")
_FAILURES = {
    "dead_number": ("UNDELIV", "MK:0001"),
    "suspended": ("UNDELIV", "MK:0005"),
    "carrier_opt_out": ("UNDELIV", "BLACK"),
    "expired": ("EXPIRED", "EXPIRED"),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """How the simulated carrier behaves. Shares are of all messages to ordinary numbers, 0..1, and add up to at most 1.

    Times are seconds; each message draws from half to twice the median, one in a hundred up to ten times.
    """

    latency_s: float = 0.02
    receipt_s: float = 0.1
    dead_number: float = 0.0
    suspended: float = 0.0
    carrier_opt_out: float = 0.0
    expired: float = 0.0
    content: float = 0.0
    throttled: float = 0.0
    silent: float = 0.0
    duplicated: float = 0.0
    early: float = 0.0
    out_of_order: float = 0.0
    doubtful: float = 0.0
    vanished: float = 0.0

    def shares(self) -> tuple[tuple[float, str], ...]:
        """Cumulative shares of the outcomes that are not plain delivery."""
        rows, total = [], 0.0
        for outcome in SHARED:
            share: float = getattr(self, outcome)
            if share:
                total += share
                rows.append((total, outcome))
        if total > 1:
            msg = "the shares of a simulated carrier's outcomes add up to more than 1"
            raise ValueError(msg)
        return tuple(rows)


SHARED = (
    "dead_number",
    "suspended",
    "carrier_opt_out",
    "expired",
    "content",
    "throttled",
    "silent",
    "duplicated",
    "early",
    "out_of_order",
    "doubtful",
    "vanished",
)


class Draw(NamedTuple):
    """What chance gives one attempt: a carrier id, where it falls among the shares, and how slow it is."""

    carrier_id: str
    point: float
    slowness: float


def draw(seed: bytes, ref: str, attempt: int) -> Draw:
    """The same for the same seed, id and attempt. The point ignores the attempt: a throttled message stays that one."""
    digest = blake2b(ref.encode(), digest_size=16, key=seed, salt=attempt.to_bytes(2, "big")).digest()
    point = int.from_bytes(blake2b(ref.encode(), digest_size=4, key=seed).digest()) / 2**32
    fraction = int.from_bytes(digest[8:12]) / 2**32
    slowness = 0.5 + 1.5 * fraction
    if fraction > 0.99:  # noqa: PLR2004 - the slow hundredth
        slowness = 10 * (fraction - 0.9)
    return Draw(digest[:8].hex().lstrip("0") or "0", point, slowness)


def outcome_of(to: str, point: float, shares: tuple[tuple[float, str], ...]) -> str:
    """A special number's own outcome, else the share the point falls into, else delivery."""
    special = _SPECIAL.get(to)
    if special is not None:
        return special
    for upto, outcome in shares:
        if point < upto:
            return outcome
    return "delivered"


def answer(outcome: str, carrier_id: str, attempt: int) -> Submitted:
    """What the submit is answered."""
    if outcome == "content":
        return Rejected("KEYWORD", known_cause(CONNECTOR, "KEYWORD") or Cause.OTHER)
    if outcome == "throttled" and attempt <= 2:  # noqa: PLR2004 - "twice"
        return Retry("THROTTLED", Cause.FLOW, THROTTLE_AFTER_S)
    if outcome in ("doubtful", "vanished"):
        return Doubtful("answer.lost")
    return Taken(carrier_id)


def reports(outcome: str, after_s: float) -> tuple[Report, ...]:
    """The receipts an outcome brings, for a message that was taken; `after_s` is this one's receipt delay."""
    word, code = _FAILURES.get(outcome, _DELIVERED)
    final = Report(after_s, word, code)
    if outcome in ("silent", "vanished"):
        return ()
    if outcome == "duplicated":
        return (final, final._replace(after_s=after_s * 1.5), final._replace(after_s=after_s * 3))
    if outcome == "early":
        return (final._replace(after_s=-1.0, ref=False),)
    if outcome == "out_of_order":
        return (final._replace(ref=False), Report(after_s * 2, "ACCEPTD", "", ref=False))
    return (final,)
