"""What a regulator is handed about a message: one line, and what it is made of.

Every export, as CSV, JSON lines or on a page, has these columns in this order; names are never reused for another
meaning. Times are Unix milliseconds until they are written. Pure.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.contract.consent import State


class Permission(NamedTuple):
    """The ledger's entry that a message relied on. All but the kind and the time are none once its person is erased."""

    kind: str
    recorded_at: int
    at: int | None = None
    """When the person did it."""
    evidence_id: str | None = None
    """The event's id: `assent evidence export` takes it."""
    channel: str | None = None


class Person(NamedTuple):
    """What the ledger says about a recipient now."""

    number: str | None = None
    state: State | None = None
    erased: bool = False
    restricted: bool = False
    """An erasure is asked for and waits for the end of what a law asks to keep."""


class Cites(NamedTuple):
    """What the ledger says about some entries and some people."""

    permissions: Mapping[int, Permission]
    people: Mapping[bytes, Person]


class Asked(NamedTuple):
    """Which messages are asked for: those that everything given applies to. Times by acceptance."""

    sender: str | None = None
    campaign: str | None = None
    subject: bytes | None = None
    from_ms: int | None = None
    until_ms: int | None = None
    """The first moment that is not asked for any more."""

    def told(self) -> dict[str, str | int]:
        """As the ledger's event and the manifest tell it; never a number."""
        told = self._asdict() | {"subject": None if self.subject is None else self.subject.hex()}
        return {name: value for name, value in told.items() if value is not None}


class Line(NamedTuple):
    """One message."""

    message_id: str
    sender: str | None
    port: str | None
    recipient: str | None
    """The number; none where neither content nor ledger has it any more."""
    subject: str | None
    text: str | None
    text_kept: bool
    """False: past its time, erased, or not archived yet."""
    accepted_at: int | None
    sent_at: int | None
    """When a carrier took it."""
    receipt_at: int | None
    """When the carrier says that it ended."""
    status: str
    cause: str | None
    code: str | None
    carrier: str | None
    carrier_id: str | None
    parts: int
    purpose: str | None
    message_class: str | None
    campaign: str | None
    list_source: str | None
    client: str | None
    client_ref: str | None
    basis: str | None
    pack: str | None
    ledger_entry: int | None
    permission: str | None
    permitted_at: int | None
    permission_recorded_at: int | None
    evidence_id: str | None
    channel: str | None
    subscription: str
    """Where the person stands toward this sender and purpose at the time of the export (`rules.standing`)."""


TIMES: Final = frozenset({"accepted_at", "sent_at", "receipt_at", "permitted_at", "permission_recorded_at"})
HEADINGS: Final[Mapping[str, str]] = {
    "message_id": "短信编号",
    "sender": "发送方",
    "port": "发送号码",
    "recipient": "接收号码",
    "subject": "接收人标识",
    "text": "短信内容",
    "text_kept": "内容是否留存",
    "accepted_at": "受理时间",
    "sent_at": "发送时间",
    "receipt_at": "回执时间",
    "status": "状态",
    "cause": "原因",
    "code": "状态码",
    "carrier": "通道",
    "carrier_id": "通道编号",
    "parts": "条数",
    "purpose": "用途",
    "message_class": "类别",
    "campaign": "活动",
    "list_source": "名单来源",
    "client": "业务系统",
    "client_ref": "业务编号",
    "basis": "许可依据",
    "pack": "规则版本",
    "ledger_entry": "账本序号",
    "permission": "许可行为",
    "permitted_at": "同意时间",
    "permission_recorded_at": "同意记录时间",
    "evidence_id": "存证编号",
    "channel": "同意渠道",
    "subscription": "订阅状态",
}
"""Each column's heading in Chinese; the English one is its name."""
