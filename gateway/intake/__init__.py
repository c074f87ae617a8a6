"""One way to send: every message, new, held or retried, is prepared, bound, admitted and published here.

Complaints are taken in here too (`complaints`), for every room that brings them.
"""

from gateway.intake.answer import Answer
from gateway.intake.check import check
from gateway.intake.intake import Intake
from gateway.intake.release import Released, release

__all__ = ["Answer", "Intake", "Released", "check", "release"]
