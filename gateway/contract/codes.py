"""The closed set of codes a caller can meet, each with its HTTP status and what to do about it.

A code is a promise: it never changes its meaning and is never reused. `GET /v1/codes`, the problem documents,
the metrics label `code` and the tests all read this one table.
"""

from enum import StrEnum
from typing import NamedTuple


class Meaning(NamedTuple):
    """What a code says to a caller: HTTP status, a title, and the next step in both languages."""

    status: int
    title: str
    action: str
    action_zh: str


class Code(StrEnum):
    """Why a request was not carried out. `MEANINGS` has a row for each."""

    REQUEST_INVALID = "request.invalid"
    REQUEST_TOO_LARGE = "request.too_large"
    REQUEST_TIMEOUT = "request.timeout"
    AUTH_INVALID = "auth.invalid"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method.not_allowed"
    CLIENT_FORBIDDEN = "client.forbidden"
    CLIENT_QUOTA = "client.quota"
    RECIPIENT_INVALID = "recipient.invalid"
    TEMPLATE_UNKNOWN = "template.unknown"
    PORT_USE = "port.use"
    PORT_NO_REPLY_ROUTE = "port.no_reply_route"
    CONTENT_SIGNATURE = "content.signature"
    CONTENT_BRACKETS = "content.brackets"
    CONTENT_REFUSAL_TEXT = "content.refusal_text"
    CONTENT_PROMOTIONAL = "content.promotional"
    CONTENT_TOO_LONG = "content.too_long"
    CONTENT_EMPTY = "content.empty"
    CONSENT_MISSING = "consent.missing"
    CONSENT_WITHDRAWN = "consent.withdrawn"
    CONSENT_OPTED_OUT = "consent.opted_out"
    RELATIONSHIP_MISSING = "relationship.missing"
    REQUEST_MISSING = "request.missing"
    PREFERENCE_UNWANTED = "preference.unwanted"
    SUPPRESSED = "suppressed"
    EVIDENCE_INSUFFICIENT = "evidence.insufficient"
    IDEMPOTENCY_CONFLICT = "idempotency.conflict"
    CASE_STATE = "case.state"
    CLEANSING_STATE = "cleansing.state"
    CLEANSING_LATE = "cleansing.late"
    WINDOW_EXCEEDED = "window.exceeded"
    QUIET_HOURS = "quiet.hours"
    MESSAGE_EXPIRED = "message.expired"
    BREAKER_OPEN = "breaker.open"
    CACHE_COLD = "cache.cold"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


MEANINGS: dict[Code, Meaning] = {
    Code.REQUEST_INVALID: Meaning(
        422,
        "The request does not fit its model",
        "Correct the fields named in `errors`; /docs shows the model.",
        "请按 errors 中列出的字段修正请求；模型见 /docs。",
    ),
    Code.REQUEST_TOO_LARGE: Meaning(
        413,
        "The body is larger than this route takes",
        "Send at most 64 KiB in one message, 1,000 messages and 4 MiB in one batch.",
        "单条请求不超过 64 KiB，批量不超过 1000 条且 4 MiB。",
    ),
    Code.REQUEST_TIMEOUT: Meaning(
        408, "The body did not arrive in time", "Send the whole body within 10 seconds.", "请求体须在 10 秒内发送完毕。"
    ),
    Code.AUTH_INVALID: Meaning(
        401,
        "No valid API key",
        "Send `Authorization: Bearer <key>` with a key of this gateway.",
        "请在 Authorization: Bearer 中携带有效的密钥。",
    ),
    Code.NOT_FOUND: Meaning(404, "There is no such thing here", "Check the address or the id.", "请检查地址或编号。"),
    Code.METHOD_NOT_ALLOWED: Meaning(
        405, "This address does not take that method", "/docs lists the methods.", "请参阅 /docs 中允许的方法。"
    ),
    Code.CLIENT_FORBIDDEN: Meaning(
        403,
        "This client may not do that",
        "Ask the operator to allow the sender, purpose or role for this client.",
        "请联系管理员为该客户端开通相应的发送方、用途或权限。",
    ),
    Code.CLIENT_QUOTA: Meaning(
        429,
        "The client's quota is used up",
        "Wait for Retry-After, then send again.",
        "配额已用完，请在 Retry-After 之后重试。",
    ),
    Code.RECIPIENT_INVALID: Meaning(
        422,
        "The recipient is not a mobile number in E.164",
        "Write it as +8613800000000; mainland numbers may omit +86.",
        "请使用 E.164 格式的手机号，例如 +8613800000000。",
    ),
    Code.TEMPLATE_UNKNOWN: Meaning(
        422, "There is no such template", "Send `text`; templates are not available yet.", "暂不支持模板，请使用 text。"
    ),
    Code.PORT_USE: Meaning(
        422,
        "The port is not for this class of message",
        "Leave `port` out, or name the sender's port for this class (one port, one use).",
        "一端一用：请省略 port，或使用该类别对应的端口号。",
    ),
    Code.PORT_NO_REPLY_ROUTE: Meaning(
        403,
        "The port's reply route is not attested free and working",
        "Test that a reply to the port costs nothing and arrives; the operator records it with `assent sender attest`.",
        "该端口的退订回复通道未经证明免费且可用：请测试后由管理员执行 assent sender attest 登记。",
    ),
    Code.CONTENT_SIGNATURE: Meaning(
        422,
        "The signature is not the sender's",
        "Start the text with the sender's signature 【…】, or leave it out and it is added.",
        "正文请以该发送方的签名开头，或省略由系统补上。",
    ),
    Code.CONTENT_BRACKETS: Meaning(
        422, "【 and 】 are only for the signature", "Remove 【 and 】 from the body.", "正文中不得出现【】。"
    ),
    Code.CONTENT_REFUSAL_TEXT: Meaning(
        422,
        "Refusal text where it is not allowed, or not last",
        "Marketing ends with the refusal text; codes and notices carry none.",
        "营销短信以退订语结尾；验证码与通知不得包含退订语。",
    ),
    Code.CONTENT_PROMOTIONAL: Meaning(
        422,
        "Promotional words in a message that is not marketing",
        "Remove the promotion, or send it as marketing to those who agreed.",
        "非营销类短信不得含促销内容；请删除或按营销用途发送。",
    ),
    Code.CONTENT_TOO_LONG: Meaning(
        422, "The text is longer than the sender's pack allows", "Shorten the text.", "内容超长，请缩短。"
    ),
    Code.CONTENT_EMPTY: Meaning(422, "The text is empty", "Write a text.", "内容为空，请填写正文。"),
    Code.CONSENT_MISSING: Meaning(
        403,
        "No consent for this sender and topic",
        "Ask the person first; record the consent with POST /v1/consents.",
        "未取得同意：请先征得用户同意并登记。",
    ),
    Code.CONSENT_WITHDRAWN: Meaning(
        403,
        "The person withdrew this consent",
        "Do not send. Only the person can renew it.",
        "用户已撤回同意，请勿发送。",
    ),
    Code.CONSENT_OPTED_OUT: Meaning(
        409,
        "The person opted out; this record does not lift it",
        "A new consent needs the two-record opt-in or the person's own Y.",
        "用户已退订；须经双录授权或用户本人回复 Y 才能恢复。",
    ),
    Code.RELATIONSHIP_MISSING: Meaning(
        403,
        "No current transaction or enrolment permits this",
        "Record it with POST /v1/relationships; registration alone is none.",
        "没有有效的交易或服务关系；仅注册不构成关系。",
    ),
    Code.REQUEST_MISSING: Meaning(
        403,
        "No fresh, unused request of the person permits this",
        "Send `request` {ref, occurred_at} of the person's own act; each ref works once.",
        "缺少用户本人的有效请求；每个 ref 仅可使用一次。",
    ),
    Code.PREFERENCE_UNWANTED: Meaning(
        403, "The person's preferences leave this out", "Do not send this topic.", "用户偏好不接收该主题。"
    ),
    Code.SUPPRESSED: Meaning(
        403,
        "The recipient is suppressed",
        "Do not send; GET /v1/suppressions says why.",
        "该号码在禁发名单中，请勿发送。",
    ),
    Code.EVIDENCE_INSUFFICIENT: Meaning(
        422,
        "The evidence does not show express consent",
        "Needs checkbox_checked: true and form_version; a pre-ticked box, registration, silence or purchase is none.",
        "证据不足：须主动勾选并注明表单版本；默认勾选、注册、沉默、购买均不构成同意。",
    ),
    Code.IDEMPOTENCY_CONFLICT: Meaning(
        409,
        "This idempotency key belongs to another body",
        "Use a new key for a new message; repeat the same body to repeat the answer.",
        "该幂等键已用于其他内容，请更换。",
    ),
    Code.CASE_STATE: Meaning(
        409,
        "The case does not stand where this act is possible",
        "GET /v1/complaints/{id} shows where it stands: answer it before it is closed; a closed case stays closed.",
        "案件当前状态不允许该操作：先答复，再结案；已结案的不再变更。",
    ),
    Code.CLEANSING_STATE: Meaning(
        409,
        "The cleansing does not stand where this act is possible",
        "GET /v1/cleansings/{id} shows where it stands: it is applied once `ready`, and undone once `applied`.",
        "名单清理当前状态不允许该操作：状态为 ready 时可执行，applied 后可撤销。",
    ),
    Code.CLEANSING_LATE: Meaning(
        409,
        "It is too late for that",
        "A division is applied within 7 days: ask for a new one. A cleansing is undone within 24 hours of its end.",
        "已超过期限：预览须在 7 天内执行，清理须在完成后 24 小时内撤销。",
    ),
    Code.WINDOW_EXCEEDED: Meaning(
        429,
        "The recipient has had as many as allowed",
        "Wait for Retry-After; /v1/messages/check names the window.",
        "已达到频次上限，请在 Retry-After 之后再试。",
    ),
    Code.QUIET_HOURS: Meaning(
        429,
        "Quiet hours at the recipient",
        "Wait for Retry-After, or leave on_quiet at `hold`.",
        "当前为静默时段；请稍后，或使用 on_quiet=hold。",
    ),
    Code.MESSAGE_EXPIRED: Meaning(
        422, "The message expires before it could be sent", "Give a later expires_at.", "消息在可发送前已过期。"
    ),
    Code.BREAKER_OPEN: Meaning(
        503,
        "Sending of this scope is stopped",
        "See GET /v1/breakers; a named person closes it with a reason.",
        "该范围已熔断停发，须由负责人说明原因后恢复。",
    ),
    Code.CACHE_COLD: Meaning(
        503,
        "The permission cache is behind its source",
        "Retry after Retry-After; `assent rebuild` fills an empty cache.",
        "许可缓存尚未就绪，请稍后重试。",
    ),
    Code.UNAVAILABLE: Meaning(
        503,
        "A part the gateway needs does not answer",
        "Retry after Retry-After with the same key.",
        "服务暂不可用，请稍后以相同幂等键重试。",
    ),
    Code.INTERNAL: Meaning(
        500,
        "The gateway failed",
        "Report it with the trace id; retry with the same key.",
        "内部错误，请附追踪编号联系管理员。",
    ),
}
