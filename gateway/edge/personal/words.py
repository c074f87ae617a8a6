"""What the pages call kinds of events, statuses and replies: Chinese, then English. What is missing stands as it is."""

KINDS: dict[str, str] = {
    "grant": "同意 · consent given",
    "withdrawal": "撤回 · consent withdrawn",
    "relationship": "交易或服务关系 · relationship",
    "suppression": "停发 · suppressed",
    "unsuppression": "解除停发 · suppression ended",
    "complaint": "投诉 · complaint",
    "cleansing": "名单清理 · list cleansed",
    "preferences": "偏好 · preferences",
    "restriction": "要求删除（留存期内限制处理）· erasure asked for, records restricted",
    "erasure": "删除 · erased",
    "access": "查阅 · data looked at",
}
STATUSES: dict[str, str] = {
    "held": "待发 · held",
    "queued": "已受理 · queued",
    "sent": "已提交 · sent",
    "delivered": "已送达 · delivered",
    "undelivered": "未送达 · undelivered",
    "expired": "已过期 · expired",
    "rejected": "被拒绝 · rejected",
    "cancelled": "已取消 · cancelled",
    "unknown": "未知 · unknown",
}
MEANINGS: dict[str, str] = {
    "refusal": "退订 · refusal",
    "affirmation": "确认 · confirmation",
    "other": "其他 · other",
}
