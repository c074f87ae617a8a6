"""What went wrong, in one line, for whoever typed a command or reads why a process ended: what it is, and what to do.

Owns words only. A fault's own text is quoted only where it names settings, files, groups or topics; others may quote a
person.
"""

import asyncpg

from gateway.assemble.commands import Declined
from gateway.assemble.parts import Misconfigured
from gateway.guard import GuardUnavailable
from gateway.ledger.appender import LedgerUnavailable
from gateway.ledger.checkpoint import CheckpointError
from gateway.ledger.evidence import NoLogError
from gateway.ledger.installation import ForeignDatabaseError
from gateway.ledger.keys import KeyMismatchError
from gateway.ledger.note import NoteError
from gateway.ledger.opening import TreeRefusedError
from gateway.ledger.projection import CacheAheadError
from gateway.ledger.recovery import RepliesWaitError
from gateway.ledger.regrowing import NothingSignedError
from gateway.ledger.tiles import TileConflictError
from gateway.records.migrate import MigrationError
from gateway.rules.pack import PackError
from gateway.stream import KafkaError, OffsetsLost
from gateway.stream.past import PastUnreadable

Faults = type[BaseException] | tuple[type[BaseException], ...]

SAID: tuple[tuple[Faults, str], ...] = (
    ((Misconfigured, Declined), "{fault}"),
    (MigrationError, "{fault}: docs/runbook.md, A migration's checksum"),
    (ForeignDatabaseError, "{fault}; give this installation's own secrets (docs/runbook.md, The wrong secrets)"),
    (KeyMismatchError, "a stored secret does not open: is ASSENT_MASTER_KEY this installation's?"),
    (CacheAheadError, "Redis is ahead of PostgreSQL ({fault}): see docs/runbook.md before anything is flushed"),
    (
        OffsetsLost,
        "Kafka has forgotten the place of group {fault.args[0]} in {fault.args[1]}: docs/runbook.md, OffsetsLost",
    ),
    (RepliesWaitError, "settle has replies to read first, a refusal may be among them: start it, then do this again"),
    (PastUnreadable, "Kafka does not give the last day's records back: is it up? Then do this again"),
    (PackError, "{fault}"),
    (TreeRefusedError, "{fault}: docs/runbook.md, The log is refused"),
    (TileConflictError, "tiles on disk are not what the events come to: docs/runbook.md, The log is refused"),
    (NothingSignedError, "no signed checkpoint is remembered anywhere: the ledger process begins the log by itself"),
    (NoLogError, "the log's folder (ASSENT_LEDGER_DIR) holds no checkpoint of these events: does `assent ledger` run?"),
    ((NoteError, CheckpointError), "{fault}"),
)
"""What names itself, wherever it comes from."""

PARTS: tuple[tuple[Faults, str], ...] = (
    (GuardUnavailable, "Redis does not answer ({fault}): is it up, and is ASSENT_REDIS_URL right?"),
    (KafkaError, "Kafka does not answer ({name}): is it up, and is ASSENT_KAFKA_BOOTSTRAP right?"),
    (LedgerUnavailable, "PostgreSQL did not take the act in time; it may be recorded or not: do this again"),
    (asyncpg.InvalidCatalogNameError, "the database that ASSENT_DATABASE_URL names does not exist: create it"),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "PostgreSQL refuses the user or password of ASSENT_DATABASE_URL ({name})",
    ),
    (asyncpg.UndefinedTableError, "this database has no tables of this version yet: run `assent prepare` first"),
    (asyncpg.InterfaceError, "ASSENT_DATABASE_URL is no address of PostgreSQL, or its connection broke ({name})"),
    (asyncpg.PostgresError, "PostgreSQL refused it ({name}); its own log says more"),
    (
        (OSError, TimeoutError),
        "PostgreSQL does not answer ({name}): is it up, and is ASSENT_DATABASE_URL right?",
    ),
)
"""What any part may throw at any time: said of a command, while a process's log needs the place as well."""


def told(fault: BaseException, *, brief: bool) -> str | None:
    """The line, or none for a fault that nobody foresaw. `brief`: of an operator's command."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    for kinds, text in SAID + (PARTS if brief else ()):
        if isinstance(fault, kinds):
            return " ".join(text.format(fault=fault, name=type(fault).__name__).split())
    return None
