"""Times as answers show them: RFC 3339, in UTC. Stores and topics keep Unix seconds and milliseconds."""

from datetime import UTC, datetime


def of_ms(at_ms: int) -> datetime:
    """From Unix milliseconds, to the millisecond."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)


def of_s(at_s: int) -> datetime:
    """From Unix seconds."""
    return datetime.fromtimestamp(at_s, UTC)


def or_never(at_s: int) -> datetime | None:
    """From Unix seconds, where 0 stands for no such time."""
    return of_s(at_s) if at_s else None
