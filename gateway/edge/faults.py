"""What a fault becomes: a refusal of the closed set, and a log line that holds neither content nor its words.

A part that does not answer is `unavailable` with Retry-After (guarantee 6); anything else is a fault of ours,
`internal`, logged with its class and the lines it passed through, never with its text, which may quote a number.
"""

import traceback

import asyncpg

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.edge.problems import Refused
from gateway.guard import GuardUnavailable
from gateway.ledger.appender import LedgerUnavailable
from gateway.stream.producer import StreamBusy
from gateway.telemetry import logger

UNAVAILABLE = Refusal(Code.UNAVAILABLE, "", 1)
INTERNAL = Refusal(Code.INTERNAL)
UNANSWERING = (
    GuardUnavailable,
    LedgerUnavailable,
    StreamBusy,
    TimeoutError,
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)
"""Faults of a part that is gone, going, full, or asks to try again."""
FRAMES = 12

_log = logger("edge")


def refused(fault: BaseException, route: str, trace: str) -> Refused:
    """The refusal a fault is answered with; logs it when it is a fault of ours."""
    if isinstance(fault, Refused):
        return fault
    if isinstance(fault, UNANSWERING):
        return Refused(UNAVAILABLE)
    frames = traceback.extract_tb(fault.__traceback__)[-FRAMES:]
    at = [f"{frame.filename.rpartition('/site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    _log.error("request_failed", route=route, trace=trace, fault=type(fault).__name__, at=at)
    return Refused(INTERNAL)
