"""The erasures of a gate: the ledger's, with what `records` and the rule packs know."""

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from gateway.contract.registry import Registry
from gateway.edge.gate import Gate
from gateway.ledger.erasing import Erasures, Others
from gateway.records.personal import Personal
from gateway.rules.pack import Pack, Retention
from gateway.rules.retention import in_force


def rules_of(packs: Mapping[str, Pack], registry: Registry | None) -> Sequence[Retention]:
    """What is kept here: the rules of the packs that registered senders are under."""
    return in_force(packs, [sender.pack for sender in registry.senders] if registry is not None else ())


def zone_of(gate: Gate) -> ZoneInfo:
    """The zone that a readable page tells its times in."""
    return next(iter(gate.packs.values())).zone


def erasures(gate: Gate) -> Erasures:
    """Demands for erasure, over this gate's parts."""
    personal = Personal(gate.pool)
    others = Others(
        lambda: rules_of(gate.packs, gate.cfg.registry),
        personal.last_message_ms,
        personal.forget,
        personal.cancel,
        personal.held,
    )
    return Erasures(gate.pool, gate.appender, gate.reading, others)
