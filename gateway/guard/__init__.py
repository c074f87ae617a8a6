"""Everything in Redis or Valkey: permissions, windows, records, bindings, the registry and its beat.

`Guard` decides; `Cfg` says who may send and whether the permissions are current; `Lease` counts quotas. Decisions are
Lua scripts (`lua/`), each with its specification at its head; the Python around them packs, cuts and parses.
"""

from gateway.guard.admission import Ask, Mode, Rule, Verdict, long_windows
from gateway.guard.bindings import Binding, Bound
from gateway.guard.cfg import Cfg
from gateway.guard.claims import Attempt, Claim, Claimed, Outcome, Review, VoidAsk
from gateway.guard.guard import Guard
from gateway.guard.lease import Lease
from gateway.guard.record import RecordView
from gateway.guard.restoring import Rebound, Restored, Stamps
from gateway.guard.server import GuardUnavailable

__all__ = [
    "Ask",
    "Attempt",
    "Binding",
    "Bound",
    "Cfg",
    "Claim",
    "Claimed",
    "Guard",
    "GuardUnavailable",
    "Lease",
    "Mode",
    "Outcome",
    "Rebound",
    "RecordView",
    "Restored",
    "Review",
    "Rule",
    "Stamps",
    "Verdict",
    "VoidAsk",
    "long_windows",
]
