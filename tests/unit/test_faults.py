"""What an operator is told of a fault: one line where it was foreseen, and never what it may quote of a person."""

import asyncpg
import pytest

from gateway.assemble.commands import Declined
from gateway.assemble.faults import told
from gateway.assemble.parts import Misconfigured
from gateway.guard import GuardUnavailable
from gateway.ledger.installation import ForeignDatabaseError
from gateway.ledger.projection import CacheAheadError
from gateway.ledger.recovery import RepliesWaitError
from gateway.records.migrate import MigrationError
from gateway.stream import KafkaError, OffsetsLost
from gateway.stream.past import PastUnreadable

NUMBER = "+8613800138000"
NAMED = [
    (Misconfigured("ASSENT_X is needed"), "ASSENT_X is needed"),
    (Declined("no\nsender"), "no sender"),
    (MigrationError("0002_a.sql was changed"), "0002_a.sql was changed: docs/runbook.md, A migration's checksum"),
    (
        ForeignDatabaseError("made with another pepper"),
        "another pepper; give this installation's own secrets",
    ),
    (CacheAheadError("cursor 9, head 7"), "Redis is ahead of PostgreSQL (cursor 9, head 7): see docs/runbook.md"),
    (
        OffsetsLost("deliver.marketing", "messages.marketing"),
        "forgotten the place of group deliver.marketing in messages.",
    ),
    (RepliesWaitError(3), "settle has replies to read first"),
    (PastUnreadable(), "Kafka does not give the last day's records back"),
]
AWAY = [
    (GuardUnavailable("EVALSHA: TimeoutError"), "Redis does not answer (EVALSHA: TimeoutError)"),
    (KafkaError(NUMBER), "Kafka does not answer (KafkaError)"),
    (asyncpg.InvalidPasswordError(NUMBER), "PostgreSQL refuses the user or password"),
    (asyncpg.InvalidCatalogNameError(NUMBER), "does not exist: create it"),
    (asyncpg.UndefinedTableError(NUMBER), "run `assent prepare` first"),
    (asyncpg.UniqueViolationError(NUMBER), "PostgreSQL refused it (UniqueViolationError)"),
    (ConnectionRefusedError(111, NUMBER), "PostgreSQL does not answer (ConnectionRefusedError)"),
    (TimeoutError(NUMBER), "PostgreSQL does not answer (TimeoutError)"),
]


@pytest.mark.parametrize(("fault", "said"), NAMED + AWAY, ids=lambda one: type(one).__name__)
def test_a_command_says_it_in_a_line(fault: Exception, said: str) -> None:
    line = told(ExceptionGroup("of tasks", [fault]), brief=True)
    assert line is not None
    assert said in line
    assert "\n" not in line
    assert NUMBER not in line


def test_a_process_says_what_names_itself_and_logs_the_place_of_the_rest() -> None:
    assert all(told(fault, brief=False) for fault, _ in NAMED)
    assert not any(told(fault, brief=False) for fault, _ in AWAY)


def test_what_nobody_foresaw_is_not_explained_away() -> None:
    assert told(ZeroDivisionError(NUMBER), brief=True) is None
