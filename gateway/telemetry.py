"""Every metric by name and meaning, and how a process logs.

Hot paths add to plain integers; `flush()` moves them into prometheus_client once a second, because a multiprocess
increment costs 8 µs and a message passes a dozen. Labels come from closed sets: never a number, text, id or subject.
Logs are JSON lines with an event name and fields; `masked` fields only (see `contract.ids.mask`).
"""

import json
import logging
import os
import sys
import traceback
from bisect import bisect_left
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

REGISTRY = CollectorRegistry()
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SLOW = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 500.0, 1000.0)


class Count:
    """A counter of plain integers per label values."""

    __slots__ = ("_counter", "_pending", "help", "labels", "name")

    def __init__(self, name: str, help: str, *labels: str) -> None:  # noqa: A002 - Prometheus' own word
        self.name, self.help, self.labels = name, help, labels
        self._pending: dict[tuple[str, ...], float] = {}
        self._counter: Counter | None = None
        _ALL.append(self)

    def add(self, n: float = 1, *values: str) -> None:
        """Add `n` under these label values, in the order the metric declares them."""
        self._pending[values] = self._pending.get(values, 0) + n

    def flush(self) -> None:
        """Move what gathered into Prometheus."""
        if self._counter is None:
            self._counter = Counter(self.name, self.help, self.labels, registry=REGISTRY)
        pending, self._pending = self._pending, {}
        for values, n in pending.items():
            (self._counter.labels(*values) if values else self._counter).inc(n)


class Level:
    """A gauge; across processes the last written of each live one is summed, or the highest is shown."""

    __slots__ = ("_gauge", "_pending", "help", "labels", "mode", "name")

    def __init__(self, name: str, help: str, *labels: str, mode: Literal["sum", "max"] = "sum") -> None:  # noqa: A002
        self.name, self.help, self.labels, self.mode = name, help, labels, mode
        self._pending: dict[tuple[str, ...], float] = {}
        self._gauge: Gauge | None = None
        _ALL.append(self)

    def set(self, value: float, *values: str) -> None:
        """Set the level under these label values."""
        self._pending[values] = value

    def flush(self) -> None:
        """Move what was set into Prometheus."""
        if self._gauge is None:
            mode: Literal["livesum", "livemax"] = "livesum" if self.mode == "sum" else "livemax"
            self._gauge = Gauge(self.name, self.help, self.labels, registry=REGISTRY, multiprocess_mode=mode)
        for values, value in self._pending.items():
            (self._gauge.labels(*values) if values else self._gauge).set(value)
        self._pending.clear()


class Spread:
    """A histogram; bucket counts are plain integers until flushed."""

    __slots__ = ("_histogram", "_pending", "buckets", "help", "labels", "name")

    def __init__(self, name: str, help: str, *labels: str, buckets: tuple[float, ...] = FAST) -> None:  # noqa: A002
        self.name, self.help, self.labels, self.buckets = name, help, labels, buckets
        self._pending: dict[tuple[str, ...], list[float]] = {}
        self._histogram: Histogram | None = None
        _ALL.append(self)

    def observe(self, value: float, *values: str, n: int = 1) -> None:
        """Record `n` observations of `value`."""
        row = self._pending.get(values)
        if row is None:
            row = self._pending[values] = [0.0] * (len(self.buckets) + 2)
        row[bisect_left(self.buckets, value)] += n
        row[-1] += value * n

    def flush(self) -> None:
        """Move the bucket counts into Prometheus, by the fields its own `observe` writes to."""
        if self._histogram is None:
            self._histogram = Histogram(self.name, self.help, self.labels, buckets=self.buckets, registry=REGISTRY)
        pending, self._pending = self._pending, {}
        for values, row in pending.items():
            child: Any = self._histogram.labels(*values) if values else self._histogram
            child._sum.inc(row[-1])  # noqa: SLF001 - what its own observe() writes
            for bucket, n in zip(child._buckets, row[:-1], strict=True):  # noqa: SLF001
                if n:
                    bucket.inc(n)


_ALL: list[Count | Level | Spread] = []

# --- admission -----------------------------------------------------------------------------------------------------
ADMISSIONS = Count(
    "assent_admissions_total",
    "Decisions at the edge, by code (`accepted`, `held` or a refusal) and class.",
    "code",
    "cls",
)
ADMISSION_SECONDS = Spread("assent_admission_seconds", "POST to answer, seconds, by route.", "route")
ADMIT_BATCH = Spread("assent_admit_batch_messages", "Messages in one admission call to Redis.", buckets=SIZES)
ADMIT_CALL_SECONDS = Spread("assent_admit_call_seconds", "One admission call to Redis, seconds.")
REPLAYS = Count("assent_idempotent_replays_total", "Answers given again for a known idempotency key.")
VOIDED = Count("assent_voided_total", "Reservations voided because Kafka did not acknowledge in time.")
PART_AWAY = Level(
    "assent_part_away",
    "1 while a part is not ready as an edge sees it, asked every 5 seconds: cfg (the beat), redis, kafka, postgresql.",
    "part",
    mode="max",
)
UNANSWERED = Level("assent_edge_unanswered", "Messages taken in and not yet answered.")
# --- Kafka ---------------------------------------------------------------------------------------------------------
PUBLISH_BATCH = Spread("assent_publish_batch_records", "Records in one batch sent to Kafka.", "topic", buckets=SIZES)
PUBLISH_SECONDS = Spread("assent_publish_seconds", "send_batch to acknowledgement, seconds.", "topic")
PUBLISH_FAILED = Count("assent_publish_failed_total", "Records Kafka did not acknowledge in time.", "topic")
CONSUMED = Count("assent_consumed_total", "Records taken from a topic.", "topic", "consumer")
LAG = Level("assent_consumer_lag_records", "Records behind the end of a topic.", "topic", "consumer")
DEAD_LETTERS = Count("assent_dead_letters_total", "Records nobody could process.", "topic", "consumer")
# --- delivery ------------------------------------------------------------------------------------------------------
SUBMISSIONS = Count("assent_submissions_total", "Attempts, by carrier, class and outcome.", "carrier", "cls", "outcome")
SUBMIT_SECONDS = Spread("assent_submit_seconds", "Submit to the carrier's answer, seconds.", "carrier")
WAIT_SECONDS = Spread(
    "assent_wait_seconds", "Acceptance to submit, seconds, by class.", "cls", buckets=(*FAST, 5.0, 10.0, 60.0)
)
QUERIES = Count(
    "assent_carrier_queries_total",
    "Messages a carrier was asked about, by answer: seen, not_found, unknown; `failed` counts whole queries.",
    "carrier",
    "answer",
)
SLOTS = Level("assent_carrier_slots_used", "Messages in flight to a carrier.", "carrier")
HELD = Level(
    "assent_held_messages",
    "Messages waiting in the due table; above 10,000 as PostgreSQL estimates it.",
    mode="max",
)
RELEASED = Count("assent_released_total", "Held messages released, by outcome.", "outcome")
# --- settlement ----------------------------------------------------------------------------------------------------
RECEIPTS = Count(
    "assent_receipts_total", "Receipts that changed a status, by status and cause.", "carrier", "status", "cause"
)
RECEIPTS_SEEN = Count("assent_receipts_seen_total", "Receipts received, duplicates and late ones included.", "carrier")
RECEIPTS_MISSING = Count(
    "assent_receipts_missing_total", "Messages that became unknown: no receipt for 72 hours.", "carrier"
)
ORPHANS = Level("assent_receipt_orphans", "Receipts waiting for their submit result.")
END_TO_END_SECONDS = Spread(
    "assent_end_to_end_seconds", "Acceptance to final status, seconds, by class.", "cls", buckets=SLOW
)
REPLIES = Count("assent_replies_total", "Replies, by what they mean.", "meaning")
COMPLAINTS = Count(
    "assent_complaints_total", "Complaints recorded, by source and whether their message is known.", "source", "match"
)
ANSWERS = Count(
    "assent_answers_total", "Acknowledgements of opt-outs and answers to HELP: sent, or why not.", "purpose", "outcome"
)
SETTLE_BATCH = Spread("assent_settle_batch_rows", "Rows in one settle transaction.", buckets=SIZES)
SETTLE_SECONDS = Spread("assent_settle_seconds", "One settle transaction, seconds.", buckets=(*FAST, 5.0))
REFUNDS = Count("assent_refunds_total", "Window slots given back after a carrier's refusal or a cancellation.")
# --- records -------------------------------------------------------------------------------------------------------
ARCHIVED = Count(
    "assent_archived_total",
    "Accepted messages read by the archive, by what became of their contents: stored, known (a retry or a release), "
    "erased (the person is), old (past their time).",
    "outcome",
)
ARCHIVE_SECONDS = Spread("assent_archive_seconds", "One archive transaction, seconds.", buckets=(*FAST, 5.0))
ARCHIVE_AGE = Level("assent_archive_age_seconds", "Age of the oldest message read and not stored.", mode="max")
# --- health --------------------------------------------------------------------------------------------------------
SIGNALS = Count(
    "assent_signals_total", "What people did about messages, counted once: unsubscribe, reply, click.", "act"
)
CLICKS_LEFT_OUT = Count(
    "assent_clicks_left_out_total", "Visits of campaign links that are no person's click, by why: robot, again.", "why"
)
SENDER_DELIVERED = Level(
    "assent_sender_delivered",
    "Messages delivered in the last 24 hours.",
    "sender",
    mode="max",
)
SENDER_COMPLAINTS = Level(
    "assent_sender_complaints", "Complaints about messages sent in the same time.", "sender", mode="max"
)
SENDER_UNSUBSCRIBES = Level("assent_sender_unsubscribes", "Unsubscribes in the same time.", "sender", mode="max")
SENDER_ENGAGED = Level("assent_sender_engaged", "Answers and counted clicks in the same time.", "sender", mode="max")
COMPLAINT_PPM = Level(
    "assent_complaint_ppm", "Complaints per million delivered in the same time; NaN without any.", "sender", mode="max"
)
# --- webhooks ------------------------------------------------------------------------------------------------------
WEBHOOKS = Count(
    "assent_webhooks_total",
    "Tries to call a client, by what came of them: delivered, refused (an answer other than 2xx), gone (410), timeout, "
    "unreachable, forbidden (an address we do not call), unsigned (no secret), expired.",
    "outcome",
)
WEBHOOK_SECONDS = Spread(
    "assent_webhook_seconds", "One call of a client's address, seconds.", buckets=(*FAST, 5.0, 10.0)
)
WEBHOOKS_WAITING = Level("assent_webhooks_waiting", "Webhooks waiting to be sent, or sent again.", mode="max")
WEBHOOKS_OLDEST = Level("assent_webhooks_oldest_seconds", "Age of the oldest webhook waiting.", mode="max")
WEBHOOKS_DEAD = Level("assent_webhooks_dead", "Webhooks given up on, until they are replayed or forgotten.", mode="max")
# --- alerts --------------------------------------------------------------------------------------------------------
ALERTS_WAITING = Level(
    "assent_alerts_waiting",
    "Alerts of the last day that the operators' webhook address has not taken in, or for which there is none.",
    mode="max",
)
ALERTS_OLDEST = Level("assent_alerts_oldest_seconds", "Age of the oldest of them.", mode="max")
ALERTS_RECENT = Level(
    "assent_alerts_recent", "Alerts that the gateway raised in the last hour.", "kind", "severity", mode="max"
)
# --- health --------------------------------------------------------------------------------------------------------
BREAKERS = Level(
    "assent_breakers",
    "Scopes by kind and position: open (stopped), trickle (stopped but for a share), warn (at half of a line).",
    "kind",
    "position",
    mode="max",
)
BREAKER_OPENS = Count(
    "assent_breaker_opens_total",
    "Breakers that opened by themselves, by kind of scope and what was counted.",
    "kind",
    "counts",
)
BREAKER_LOOKS = Count("assent_breaker_looks_total", "How often everything was counted and judged: once a second.")
CASES_OVERDUE = Level("assent_cases_overdue", "Complaints past their time that nobody has answered yet.", mode="max")
FIGURES_MISSING = Level(
    "assent_complaint_figures_missing",
    "Days of the last week whose figures of a source are due and nobody has signed off.",
    "source",
    mode="max",
)
# --- permissions ---------------------------------------------------------------------------------------------------
EVENTS = Count("assent_events_total", "Consent events appended, by kind.", "kind")
APPEND_SECONDS = Spread("assent_append_seconds", "One group commit of events, seconds.")
OPT_INS = Count(
    "assent_opt_ins_total",
    "Two-record opt-ins, by step: started, not_sent, limited, wrong_code, confirmed, refused.",
    "step",
)
CURSOR = Level("assent_projection_cursor", "Last event applied to every lane.", mode="max")
HEAD = Level("assent_events_head", "Last event appended.", mode="max")
BEAT_AGE = Level(
    "assent_cfg_beat_age_seconds", "Age of the ledger process's last sign of life, as processes see it.", mode="max"
)
COLD = Count("assent_cache_cold_total", "Admissions refused because the cache was behind PostgreSQL.")
# --- the log -------------------------------------------------------------------------------------------------------
TREE_SIZE = Level("assent_log_entries", "Entries in the last signed checkpoint.", mode="max")
TREE_UNSIGNED = Level("assent_log_unsigned_events", "Events committed and not yet in a signed checkpoint.", mode="max")
TREE_REFUSED = Level("assent_log_refused", "1 while the log may not be signed: see the runbook.", mode="max")
SEQUENCE_SECONDS = Spread("assent_log_checkpoint_seconds", "From committed events to a published checkpoint, seconds.")
ATTESTED_AGE = Level(
    "assent_log_attested_age_seconds",
    "Age of the last checkpoint that every witness and the clock attested.",
    mode="max",
)
# --- the console ---------------------------------------------------------------------------------------------------
CONSOLE_SIGN_INS = Count(
    "assent_console_sign_ins_total",
    "Tries to sign in to the console, by outcome: in, wrong, slow (too many), form (stale or forged), away.",
    "outcome",
)
CONSOLE_LOOKS = Count("assent_console_looks_total", "Looks at a person's data from the console, each in the ledger.")


def flush() -> None:
    """Move everything gathered into Prometheus; each process calls this once a second."""
    for metric in _ALL:
        metric.flush()


def exposition(shared: Path | None) -> bytes:
    """The text for /metrics: of every process sharing the folder, or of this one."""
    flush()
    if shared is None:
        return generate_latest(REGISTRY)
    _forget_the_dead(shared)
    merged = CollectorRegistry()
    multiprocess.MultiProcessCollector(merged, str(shared))  # type: ignore[no-untyped-call]
    text = generate_latest(merged)
    return text + b"".join(_head(metric) for metric in _ALL if b"# TYPE %s " % metric.name.encode() not in text)


def _head(metric: Count | Level | Spread) -> bytes:
    """What a metric that nobody has touched yet looks like: several processes' files know nothing of it."""
    kind = {Count: "counter", Level: "gauge", Spread: "histogram"}[type(metric)]
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {kind}\n".encode()


def _forget_the_dead(shared: Path) -> None:
    """A process that ended has no level any more; its file would go on being added."""
    for file in shared.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid, str(shared))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue


def metrics() -> tuple[Count | Level | Spread, ...]:
    """Every metric, for the page that documents them."""
    return tuple(_ALL)


def _where_only(exc_info: Any) -> list[dict[str, Any]]:
    """An exception (of a group its first) as its class and where it passed; never its text: it may quote a person."""
    fault = exc_info[1]
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    kind, trace = (type(fault), fault.__traceback__) if fault is not None else (None, exc_info[2])
    frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(trace)]
    return [{"exception": kind.__name__ if kind else "none", "frames": frames[-12:]}]


class _Libraries(logging.Formatter):
    """A library's record in the same form: the first line of what it says, and of its exception where it passed."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "room": "library",
            "logger": record.name,
            "event": record.getMessage().strip().partition("\n")[0],
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            told["exception"] = _where_only(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def configure_logging(level: str) -> None:
    """JSON lines on stderr; standard-library loggers go the same way, unless somebody set theirs up before."""
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_where_only),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(_Libraries())
    logging.basicConfig(level=max(numeric, logging.WARNING), handlers=[handler])


def logger(room: str) -> Any:
    """A structured logger bound to a room's name."""
    return structlog.get_logger(room=room)
